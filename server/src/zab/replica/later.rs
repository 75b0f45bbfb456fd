//! Who knows a later configuration tells it, and who looks for a leader takes it over.

use super::super::{Notification, Output, PeerId, Role, Standing};
use super::Replica;

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
            out.push(Output::Notify(self.election.ballot(from, joint)));
        }
    }
}
