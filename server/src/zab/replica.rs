//! The door of agreement, and the only place where roles change.

mod later;

use std::collections::BTreeMap;

use bytes::Bytes;
use docent::Zxid;

use super::context::{Context, Flow, ReplicaConfig, Role};
use super::leader::Info;
use super::ledger::Ledger;
use super::members::Configs;
use super::{
    Ballot, Elected, Election, Epochs, Leading, Learning, LinkId, LogShape, Members, Message, Notification,
    Output, PeerId, Standing, Turn, Vote,
};

/// One server's part in the agreement.
#[derive(Clone, Debug)]
pub struct Replica {
    config: ReplicaConfig,
    configs: Configs,
    ledger: Ledger,
    election: Election,
    role: Role,
    /// Learners that came before we knew whether we lead, by their links.
    parked: BTreeMap<LinkId, (Info, i64)>,
    seen_epoch: u32,
    started: bool,
}

/// A role and what it works with, borrowed side by side.
macro_rules! context {
    ($self:ident, $now:expr, $out:expr) => {
        Context {
            now_ms: $now,
            config: &$self.config,
            configs: &mut $self.configs,
            ledger: &mut $self.ledger,
            seen_epoch: &mut $self.seen_epoch,
            out: $out,
        }
    };
}

impl Replica {
    /// A member of an ensemble whose log and epochs are on its disk, with the configuration that was committed last and
    /// the one that was under way, if one was. It does nothing before its first tick.
    #[must_use]
    pub fn new(
        config: ReplicaConfig,
        members: Members,
        under_way: Option<Members>,
        epochs: Epochs,
        log: LogShape,
    ) -> Self {
        // One that was cut out of the log is not under way any more.
        let under_way = under_way.filter(|seen| config.reading.is_some() && seen.zxid() <= log.last());
        Replica {
            election: Election::new(config.me, config.seed, config.reading.is_some()),
            ledger: Ledger::new(log, epochs, Some(config.sizes.history_bytes_max)),
            configs: Configs::new(members, under_way),
            config,
            role: Role::Looking,
            parked: BTreeMap::new(),
            seen_epoch: 0,
            started: false,
        }
    }

    /// A server that is alone, whose log ends at `last`, all of it durable. It leads at once.
    #[must_use]
    pub fn alone(config: ReplicaConfig, last: Zxid) -> Self {
        Replica {
            election: Election::new(config.me, config.seed, false),
            ledger: Ledger::new(LogShape::new(last), Epochs::default(), None),
            configs: Configs::new(Members::alone(config.me), None),
            role: Role::Leading(Box::new(Leading::alone(config.me, last))),
            config,
            parked: BTreeMap::new(),
            seen_epoch: 0,
            started: true,
        }
    }

    /// The next number for a write, if we lead and may propose. [`Replica::propose`] takes it. Without one although we
    /// lead, the numbers of the epoch are used up; then this server resigns, and the next epoch begins.
    pub fn next_zxid(&self) -> Option<Zxid> {
        match &self.role {
            Role::Leading(leading) => leading.next_zxid(),
            _ => None,
        }
    }

    /// Proposes a transaction with the number that [`Replica::next_zxid`] gave.
    ///
    /// # Panics
    /// When it is another number, or we do not lead.
    pub fn propose(&mut self, now_ms: i64, zxid: Zxid, payload: &Bytes, out: &mut Vec<Output>) {
        let mut cx = context!(self, now_ms, out);
        match &mut self.role {
            Role::Leading(leading) => leading.propose(&mut cx, zxid, payload),
            role => panic!("{zxid} is proposed by a server that does not lead: {role:?}"),
        }
    }

    /// Goes to the end of the counter, as four billion proposals would. Nothing else may be under way.
    #[cfg(test)]
    pub(super) fn use_up(&mut self, counter: u32) {
        if let Role::Leading(leading) = &mut self.role {
            leading.use_up(counter);
        }
    }

    /// Asks for proof that nobody else leads, from this moment on: it is there when [`Replica::proved`] has reached the
    /// number that this answers, which may be at once, and [`Output::Proved`] tells when it rises. What is answered
    /// then was current when the proof was asked for. 0, and so proved, when this server does not lead.
    pub fn prove(&mut self, now_ms: i64, out: &mut Vec<Output>) -> u64 {
        let mut cx = context!(self, now_ms, out);
        match &mut self.role {
            Role::Leading(leading) => leading.prove(&mut cx),
            _ => 0,
        }
    }

    /// Up to which number it is proved that this server led when [`Replica::prove`] gave that number.
    #[must_use]
    pub fn proved(&self) -> u64 {
        match &self.role {
            Role::Leading(leading) => leading.proved(),
            _ => 0,
        }
    }

    /// Whether a learner of ours is on this link that can do what our servers can.
    #[must_use]
    pub fn is_ours(&self, link: LinkId) -> bool {
        matches!(&self.role, Role::Leading(leading) if leading.is_ours(link))
    }

    /// Leads no longer, of its own will: the numbers of this epoch are used up.
    pub fn resign(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        self.look(now_ms, "the epoch has no more numbers", out);
    }

    /// A notification has come.
    pub fn on_notification(&mut self, now_ms: i64, from: PeerId, told: &Notification, out: &mut Vec<Output>) {
        let newer = told.standing == Standing::Looking && told.round > self.election.round();
        let unsettled = matches!(&self.role, Role::Leading(leading) if !leading.is_established());
        if unsettled && newer && self.configs.joint().quorum.is_voter(from) {
            // Whoever elected us has given up. Without it there may be no quorum, and the new round will tell.
            self.look(now_ms, "a voter looks for a leader again", out);
        }
        let waits_for_it = |learning: &Learning| learning.leader() == from && !learning.is_active();
        if newer && matches!(&self.role, Role::Learning(learning) if waits_for_it(learning)) {
            // It has heard of somebody better, and will never answer.
            self.look(now_ms, "who should lead looks for a leader again", out);
        }
        self.maybe_adopt(now_ms, from, told, out);
        self.maybe_hear(from, told);
        self.maybe_show_the_way(from, told, out);
        let mut ballots = Vec::new();
        let elected = self.election.on_notification(now_ms, from, told, self.configs.joint(), &mut ballots);
        self.say(ballots, out);
        self.maybe_take_role(now_ms, elected, out);
    }

    /// The election channel to a peer stands, or is gone.
    pub fn on_election_link(&mut self, now_ms: i64, peer: PeerId, up: bool, out: &mut Vec<Output>) {
        let mut ballots: Vec<Ballot> = Vec::new();
        let elected = self.election.on_link(now_ms, peer, up, self.configs.joint(), &mut ballots);
        self.say(ballots, out);
        self.maybe_take_role(now_ms, elected, out);
    }

    fn maybe_take_role(&mut self, now_ms: i64, elected: Option<Elected>, out: &mut Vec<Output>) {
        let (Role::Looking, Some(elected)) = (&self.role, elected) else { return };
        if elected.vote.leader == self.config.me {
            self.lead(now_ms, out);
        } else {
            self.learn(now_ms, elected.vote.leader, out);
        }
    }

    fn lead(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        tracing::info!(me = self.config.me.0, round = self.election.round(), last = %self.ledger.last(), "elected");
        self.election.settle(Standing::Leading);
        let (leading, flow) = Leading::begin(&mut context!(self, now_ms, out));
        self.role = Role::Leading(Box::new(leading));
        self.follow(now_ms, flow, out);
        for (link, (info, _)) in std::mem::take(&mut self.parked) {
            self.on_info(now_ms, link, info, out);
        }
    }

    fn learn(&mut self, now_ms: i64, leader: PeerId, out: &mut Vec<Output>) {
        let votes = !self.configs.observes(self.config.me);
        tracing::info!(
            me = self.config.me.0,
            leader = leader.0,
            round = self.election.round(),
            "found a leader"
        );
        self.election.settle(if votes { Standing::Following } else { Standing::Observing });
        out.extend(std::mem::take(&mut self.parked).into_keys().map(Output::Hangup));
        let learning = Learning::begin(&mut context!(self, now_ms, out), leader);
        self.role = Role::Learning(Box::new(learning));
    }

    /// Gives up the role and looks for a leader.
    fn look(&mut self, now_ms: i64, why: &str, out: &mut Vec<Output>) {
        self.leave_role(why, out);
        self.begin_election(now_ms, out);
    }

    /// Gives up the role for the one that a new configuration asks for. Whether the designated leader finds a quorum is
    /// decided as after an election, of which this takes the place.
    fn hand_over(&mut self, now_ms: i64, leader: PeerId, out: &mut Vec<Output>) {
        self.leave_role("a new configuration gives this server another role", out);
        let current = self.ledger.epochs().current;
        self.election.appoint(Vote { epoch: current.into(), zxid: self.ledger.last(), leader });
        if leader == self.config.me {
            self.lead(now_ms, out);
        } else {
            self.learn(now_ms, leader, out);
        }
    }

    fn leave_role(&mut self, why: &str, out: &mut Vec<Output>) {
        let was_there = match std::mem::replace(&mut self.role, Role::Looking) {
            Role::Looking => None,
            Role::Leading(leading) => {
                let served = leading.is_established();
                out.extend(leading.into_links().map(Output::Hangup));
                Some(served)
            }
            Role::Learning(learning) => {
                out.extend(learning.link().map(Output::Hangup));
                self.election.suspect(learning.leader());
                Some(learning.is_active())
            }
        };
        if let Some(served) = was_there {
            tracing::info!(me = self.config.me.0, why, served, "looking for a leader");
            out.push(Output::Turn(Turn::Looking));
        }
    }

    fn begin_election(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        let own = Some(Vote {
            epoch: self.ledger.epochs().current.into(),
            zxid: self.ledger.last(),
            leader: self.config.me,
        });
        self.configs.forget_heard();
        let mut ballots = Vec::new();
        let elected = self.election.look(now_ms, own, self.configs.joint(), &mut ballots);
        self.say(ballots, out);
        self.maybe_take_role(now_ms, elected, out);
    }

    fn follow(&mut self, now_ms: i64, flow: Flow, out: &mut Vec<Output>) {
        match flow {
            Flow::Stay if matches!(self.role, Role::Learning(_)) && self.configs.seen().is_none() => {
                // Who waited here for the case that a configuration designates us waits in vain.
                out.extend(std::mem::take(&mut self.parked).into_keys().map(Output::Hangup));
            }
            Flow::Stay => {}
            Flow::Resign(why) => self.look(now_ms, why, out),
            Flow::HandOver(leader) => self.hand_over(now_ms, leader, out),
        }
        let epoch = match &self.role {
            Role::Leading(leading) if leading.is_established() => leading.epoch(),
            Role::Learning(learning) if learning.is_active() => learning.epoch(),
            _ => return,
        };
        self.election.established(epoch);
    }

    /// An attempt to open a quorum link is over.
    pub fn on_dialed(&mut self, now_ms: i64, peer: PeerId, link: Option<LinkId>, out: &mut Vec<Output>) {
        let mut cx = context!(self, now_ms, out);
        let flow = match &mut self.role {
            Role::Learning(learning) => learning.on_dialed(&mut cx, peer, link),
            _ => {
                out.extend(link.map(Output::Hangup));
                Flow::Stay
            }
        };
        self.follow(now_ms, flow, out);
    }

    /// A message has come on a quorum link.
    pub fn on_message(&mut self, now_ms: i64, link: LinkId, message: Message, out: &mut Vec<Output>) {
        if let Message::FollowerInfo { peer, accepted_epoch, observer, config_version, capability } = message
        {
            let info = Info { peer, accepted_epoch, observer, config_version, capability };
            self.on_info(now_ms, link, info, out);
            return;
        }
        let mut cx = context!(self, now_ms, out);
        let flow = match &mut self.role {
            Role::Leading(leading) => leading.on_message(&mut cx, link, message),
            Role::Learning(learning) if learning.is_link(link) => learning.on_message(&mut cx, message),
            // Of a link that we have given up.
            _ => Flow::Stay,
        };
        self.follow(now_ms, flow, out);
    }

    fn on_info(&mut self, now_ms: i64, link: LinkId, info: Info, out: &mut Vec<Output>) {
        if !self.may_follow(info) {
            out.push(Output::Hangup(link));
            return;
        }
        let mut cx = context!(self, now_ms, out);
        let flow = match &mut self.role {
            Role::Leading(leading) => leading.on_info(&mut cx, link, &info),
            role if matches!(role, Role::Looking) || self.configs.seen().is_some() => {
                // It has decided before us, perhaps for us, or has heard before us that a configuration designates us.
                let old = self.parked.iter().find(|(_, (old, _))| old.peer == info.peer).map(|(old, _)| *old);
                if let Some(old) = old {
                    self.parked.remove(&old);
                    out.push(Output::Hangup(old));
                }
                self.parked.insert(link, (info, now_ms));
                Flow::Stay
            }
            _ => {
                out.push(Output::Hangup(link));
                Flow::Stay
            }
        };
        self.follow(now_ms, flow, out);
    }

    /// Whether a server may learn from us. Where the ensemble can be changed, one that is no member may, so that it is
    /// level when it is asked in; but not one that knows a newer configuration than we do.
    fn may_follow(&self, info: Info) -> bool {
        let can_join = self.config.reading.is_some();
        let is_other = info.peer != self.config.me;
        if !is_other || !can_join && !self.configs.joint().contains(info.peer) {
            tracing::warn!(peer = info.peer.0, "a server that is no member wants to follow");
            return false;
        }
        if can_join && info.config_version > self.configs.latest().version {
            tracing::warn!(peer = info.peer.0, "a server that knows a newer configuration wants to follow");
            return false;
        }
        true
    }

    /// A quorum link is gone.
    pub fn on_link_lost(&mut self, now_ms: i64, link: LinkId, out: &mut Vec<Output>) {
        self.parked.remove(&link);
        let mut cx = context!(self, now_ms, out);
        match &mut self.role {
            Role::Leading(leading) => {
                leading.on_lost(&mut cx, link);
            }
            Role::Learning(learning) if learning.is_link(link) => {
                self.look(now_ms, "the link to the leader is gone", out);
            }
            _ => {}
        }
    }

    /// The leader's snapshot is on our disk and loaded. Answers whether it still counts; then the state is to be replaced.
    pub fn on_snapshot(&mut self, now_ms: i64, link: LinkId, zxid: Zxid, out: &mut Vec<Output>) -> bool {
        let mut cx = context!(self, now_ms, out);
        match &mut self.role {
            Role::Learning(learning) if learning.is_link(link) => learning.on_snapshot(&mut cx, zxid),
            _ => false,
        }
    }

    /// The disk has carried out all orders up to this one.
    pub fn on_synced(&mut self, now_ms: i64, order: u64, out: &mut Vec<Output>) {
        self.ledger.settle(order);
        let mut cx = context!(self, now_ms, out);
        let flow = match &mut self.role {
            Role::Leading(leading) => leading.on_settled(&mut cx, order),
            Role::Learning(learning) => learning.on_settled(&mut cx, order),
            Role::Looking => Flow::Stay,
        };
        self.follow(now_ms, flow, out);
    }

    /// A quorum link has room for more.
    pub fn on_room(&mut self, now_ms: i64, link: LinkId, out: &mut Vec<Output>) {
        let mut cx = context!(self, now_ms, out);
        if let Role::Leading(leading) = &mut self.role {
            leading.on_room(&mut cx, link);
        }
    }

    /// What is behind a record was read from the disk.
    pub fn on_log_read(
        &mut self,
        now_ms: i64,
        link: LinkId,
        after: Zxid,
        records: Option<Vec<(Zxid, Bytes)>>,
        out: &mut Vec<Output>,
    ) {
        let mut cx = context!(self, now_ms, out);
        if let Role::Leading(leading) = &mut self.role {
            leading.on_log_read(&mut cx, link, after, records);
        }
    }

    /// The state right after `zxid` is about to be sent to a learner that asked for it. Answers whether it is still
    /// wanted; the pieces follow then, and [`Replica::snapshot_sent`].
    pub fn snapshot_begins(&mut self, now_ms: i64, link: LinkId, zxid: Zxid, out: &mut Vec<Output>) -> bool {
        let mut cx = context!(self, now_ms, out);
        match &mut self.role {
            Role::Leading(leading) => leading.snapshot_begins(&mut cx, link, zxid),
            _ => false,
        }
    }

    /// A piece of a snapshot went out.
    pub fn snapshot_goes_on(&mut self, now_ms: i64, link: LinkId) {
        if let Role::Leading(leading) = &mut self.role {
            leading.touch(now_ms, link);
        }
    }

    /// All pieces of the snapshot of `zxid` went out.
    pub fn snapshot_sent(&mut self, now_ms: i64, link: LinkId, zxid: Zxid, out: &mut Vec<Output>) {
        let mut cx = context!(self, now_ms, out);
        if let Role::Leading(leading) = &mut self.role {
            leading.snapshot_sent(&mut cx, link, zxid);
        }
    }

    /// Time has passed.
    pub fn on_tick(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        if !self.started {
            self.started = true;
            self.begin_election(now_ms, out);
            return;
        }
        let mut cx = context!(self, now_ms, out);
        let flow = match &mut self.role {
            Role::Leading(leading) => leading.on_tick(&mut cx),
            Role::Learning(learning) => learning.on_tick(&mut cx),
            Role::Looking => Flow::Stay,
        };
        self.follow(now_ms, flow, out);
        let limit = self.config.init_limit_ms;
        self.parked.retain(|link, (_, since_ms)| {
            let waits = now_ms - *since_ms <= limit;
            if !waits {
                out.push(Output::Hangup(*link));
            }
            waits
        });
        let mut ballots = Vec::new();
        let elected = self.election.on_tick(now_ms, self.configs.joint(), &mut ballots);
        self.say(ballots, out);
        self.maybe_take_role(now_ms, elected, out);
    }

    /// The state in memory holds everything up to here, although nobody said that it is committed.
    pub fn apply_early(&mut self, upto: Zxid) {
        self.ledger.apply_early(upto);
    }

    /// When [`Replica::on_tick`] is needed next; `None` for a server that is alone.
    #[must_use]
    pub fn next_deadline(&self) -> Option<i64> {
        if !self.started {
            return Some(i64::MIN);
        }
        let role = match &self.role {
            Role::Leading(leading) => leading.next_deadline(),
            Role::Learning(learning) => Some(learning.next_deadline(&self.config)),
            Role::Looking => None,
        };
        let parked = self.parked.values().map(|(_, since_ms)| since_ms + self.config.init_limit_ms + 1).min();
        [role, self.election.next_deadline(), parked].into_iter().flatten().min()
    }

    /// What this server is now.
    #[must_use]
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// Whether a leader that we are level with may have proposals under way that it has not told us of. An observer hears of
    /// them when they are committed; a leader of ours waits for those from before it was level, one of Apache's does not.
    #[must_use]
    pub fn may_lack_proposals(&self) -> bool {
        matches!(&self.role, Role::Learning(learning) if learning.observes_apache())
    }

    /// Who belongs to the ensemble, by the configuration that is known to be committed.
    #[must_use]
    pub fn members(&self) -> &Members {
        self.configs.committed()
    }

    /// The configuration that is under way, if one is: logged, and not known to be committed.
    #[must_use]
    pub fn members_under_way(&self) -> Option<&Members> {
        self.configs.seen()
    }

    /// Who counts now: the voters and observers of both configurations while one takes the place of another.
    #[must_use]
    pub fn members_that_count(&self) -> &Members {
        self.configs.joint()
    }

    /// The servers that are level with this leader and were heard lately, itself among them, without those that only
    /// observe: who may be counted on for a new configuration. Nobody, where this server does not lead.
    #[must_use]
    pub fn level(&self, now_ms: i64) -> Vec<PeerId> {
        match &self.role {
            Role::Leading(leading) => leading.level(now_ms, self.config.sync_limit_ms),
            _ => Vec::new(),
        }
    }

    /// The end of the log, durable or not.
    #[must_use]
    pub fn last_logged(&self) -> Zxid {
        self.ledger.last()
    }

    /// The last number that was taken.
    #[must_use]
    pub fn last_proposed(&self) -> Zxid {
        match &self.role {
            Role::Leading(leading) => leading.last_proposed(),
            _ => self.ledger.last(),
        }
    }

    /// The epochs on disk.
    #[must_use]
    pub fn epochs(&self) -> Epochs {
        self.ledger.epochs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{LEADER_SILENCE_MS, Sizes};

    fn config(me: u64) -> ReplicaConfig {
        ReplicaConfig {
            me: PeerId(me),
            tick_ms: 2_000,
            init_limit_ms: 20_000,
            sync_limit_ms: 10_000,
            silence_ms: i64::from(LEADER_SILENCE_MS),
            seed: 1,
            reading: None,
            sizes: Sizes::default(),
        }
    }

    #[test]
    fn a_server_that_is_alone_leads_at_once_and_commits_what_is_durable() {
        let mut replica = Replica::alone(config(0), Zxid(0x51));
        let mut out = Vec::new();
        let zxid = replica.next_zxid().unwrap();
        assert_eq!(zxid, Zxid(0x52));
        replica.propose(0, zxid, &Bytes::new(), &mut out);
        assert_eq!(out, [Output::Append { order: 1, zxid, payload: Bytes::new() }]);
        out.clear();
        replica.on_synced(0, 0, &mut out);
        assert_eq!(out, []);
        replica.on_synced(0, 1, &mut out);
        assert_eq!(out, [Output::Commit(zxid)]);
        assert_eq!(replica.next_deadline(), None);
    }

    #[test]
    fn the_end_of_the_counter_rolls_the_epoch_of_a_server_that_is_alone() {
        let mut replica = Replica::alone(config(0), Zxid::new(4, u32::MAX - 1));
        for expected in [Zxid::new(4, u32::MAX), Zxid::new(5, 1)] {
            let zxid = replica.next_zxid().unwrap();
            assert_eq!(zxid, expected);
            replica.propose(0, zxid, &Bytes::new(), &mut Vec::new());
        }
    }
}
