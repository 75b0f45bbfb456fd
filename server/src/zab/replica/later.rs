//! Who knows a later configuration tells it, and who looks for a leader takes it over, or takes note of it.

use super::super::{Ballot, Notification, Output, PeerId, Role, Standing};
use super::Replica;
use crate::limits::{NOTIFICATION_BYTES_MAX, NOTIFICATION_HEAD_BYTES};

impl Replica {
    /// A server that looks for a leader takes over a configuration that another one knows to be committed: it may have
    /// slept through the change, or know the ensemble only from a list that somebody wrote for it.
    pub(super) fn maybe_adopt(
        &mut self,
        now_ms: i64,
        from: PeerId,
        told: &Notification,
        out: &mut Vec<Output>,
    ) {
        let (Role::Looking, Some(reading)) = (&self.role, self.config.reading) else { return };
        if told.config.is_empty() || !self.started || !self.configs.joint().contains(from) {
            return;
        }
        let Some(members) = (reading.of_text)(&told.config) else { return };
        let before = self.configs.joint().clone();
        if !self.configs.adopt(members) {
            return;
        }
        tracing::info!(peer = from.0, version = %self.configs.committed().zxid(), "took over a newer configuration");
        out.push(Output::Members);
        let joint = self.configs.joint();
        if (&joint.quorum, &joint.observers) != (&before.quorum, &before.observers) {
            self.begin_election(now_ms, out);
        }
    }

    /// A member has a configuration in its log that we have not, and does not know it to be committed. If whom it names has
    /// a longer log than all of us, only such a one can be elected, and not without us: who slept through the change would
    /// wait for it for ever, and so would the others.
    pub(super) fn maybe_hear(&mut self, from: PeerId, told: &Notification) {
        let (Role::Looking, Some(reading)) = (&self.role, self.config.reading) else { return };
        if told.under_way.is_empty() || !self.started || !self.configs.joint().contains(from) {
            return;
        }
        let Some(members) = (reading.of_text)(&told.under_way) else { return };
        let voters: Vec<PeerId> =
            members.quorum.voters().filter(|peer| members.quorum.has_weight(*peer)).collect();
        if self.configs.hear(members) {
            self.election.hear_of(voters);
        }
    }

    /// Sends what the election says, and with it what we have in our log and do not know to be committed.
    pub(super) fn say(&self, ballots: impl IntoIterator<Item = Ballot>, out: &mut Vec<Output>) {
        let under_way = self.configs.seen().map(|seen| seen.text.clone()).unwrap_or_default();
        out.extend(ballots.into_iter().map(|mut ballot| {
            let said = &mut ballot.notification;
            if NOTIFICATION_HEAD_BYTES + said.config.len() + under_way.len() <= NOTIFICATION_BYTES_MAX {
                said.under_way = under_way.clone();
            }
            Output::Notify(ballot)
        }));
    }

    /// Neither we nor the one that looks have a vote, and we know a later configuration than it does: all whom its own one
    /// names may have left like us, so that nobody else could tell it who belongs to the ensemble now.
    pub(super) fn maybe_show_the_way(&mut self, from: PeerId, told: &Notification, out: &mut Vec<Output>) {
        let (false, Some(reading)) = (matches!(self.role, Role::Looking), self.config.reading) else {
            return;
        };
        let joint = self.configs.joint();
        let votes = |peer: PeerId| joint.quorum.is_voter(peer);
        if told.standing != Standing::Looking
            || told.config.is_empty()
            || votes(self.config.me)
            || votes(from)
        {
            return;
        }
        let knows = (reading.of_text)(&told.config).map_or(i64::MAX, |members| members.version);
        if knows < self.configs.committed().version && from != self.config.me {
            self.say([self.election.ballot(from, joint)], out);
        }
    }
}
