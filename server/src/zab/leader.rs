//! Leading: an epoch that nobody has promised before, a history that a quorum has, and then numbers for writes, acks for
//! numbers, commits for quorums.
//!
//! ```text
//! Discovery ─ a quorum said what it promised ─► Promising ─ on disk ─► Confirming ─ a quorum promised ─► Synchronizing
//!                                                  Established ◄─ a quorum (we among it) has our whole history ─┘
//! ```
//!
//! Each learner goes its own way through [`Stage`]. One that comes late finds the epoch agreed on and goes straight
//! through. It is brought level by a *pump* that sends what is behind its cursor, from memory or from the log, as fast as
//! the link takes it; when the cursor has reached the commit point it goes over to the live stream in the same step, so
//! nothing is missed and nothing sent twice.
//!
//! Invariants: `LeaderInfo` is said only when the epoch is on our disk; nothing is proposed before all of our history
//! is committed; an ack counts only on the link on which it came, and only behind the learner's ack of the whole
//! history; commits leave in the order of the proposals, to each learner in one line with them.

mod commit;
mod level;
mod rounds;

use std::collections::BTreeMap;

use bytes::Bytes;
use docent::Zxid;

use self::commit::Eras;
use self::rounds::Rounds;
use super::context::{Context, Flow};
use super::{Capability, Epochs, FromLearner, LinkId, Message, Output, PeerId, Turn};
use crate::limits::{DISCOVERY_MS, QUICK_PING_MS};

/// Where the leader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It waits for a quorum to say which epochs were promised.
    Discovery,
    /// Its own promise is on the way to the disk.
    Promising { order: u64 },
    /// It waits for a quorum's promises.
    Confirming,
    /// It waits for a quorum to have its history; its own `currentEpoch` is on the way to the disk.
    Synchronizing { order: u64 },
    /// It proposes.
    Established,
}

/// Where a learner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has said what it promised.
    Waiting,
    /// It has been told the epoch.
    Told,
    /// It has said where its log ends. It has `promised` if it had not promised the same epoch before: a promise given
    /// twice could make two leaders of one epoch.
    Confirmed { last: Zxid, promised: bool },
    /// It waits for a snapshot to begin, or receives one.
    Snapshot,
    /// Everything up to the cursor was sent; `held` while the link or the disk is waited for.
    Syncing { cursor: Zxid, held: bool },
    /// It has been sent our whole history and gets the live stream. `acked` as soon as it has said so.
    Live { acked: bool },
}

/// One learner's link.
#[derive(Clone, Debug)]
struct Learner {
    peer: PeerId,
    observer: bool,
    capability: Option<Capability>,
    stage: Stage,
    /// An observer hears of a proposal when that is committed. What its own clients had proposed through an earlier link may
    /// be under way: it is not up to date before all of that is committed, or it would ask for it once more.
    up_to_date_behind: Zxid,
    /// What was committed since `NewLeader`, for a follower of Apache's that has not acknowledged that yet. It hears of it
    /// behind `UpToDate`: of what it hears before, it takes a new configuration for in force only if that is the first
    /// proposal it was sent, and otherwise never does. Bounded by the time it has for its ack.
    kept_back: Vec<Message>,
    /// It has on its disk everything up to here.
    durable: Zxid,
    heard_ms: i64,
    /// Since when it owes us an ack.
    owes_since_ms: Option<i64>,
    /// Pings that it will answer, and answers. It answers in order, so the numbers say which.
    pings: u64,
    pongs: u64,
    /// The answer that the round under way waits for.
    round: Option<u64>,
}

impl Learner {
    fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Live { .. })
    }

    fn has_acked(&self) -> bool {
        self.stage == Stage::Live { acked: true }
    }

    /// Says to a follower that something is committed.
    fn tell_commit(&mut self, cx: &mut Context<'_>, link: LinkId, message: Message) {
        if self.capability.is_none() && !self.has_acked() {
            self.kept_back.push(message);
        } else {
            cx.send(link, message);
        }
    }

    /// Counts a ping. Apache's learners do not answer before they have heard that they are level.
    fn pinged(&mut self, established: bool) {
        if self.capability.is_some() || (established && self.has_acked()) {
            self.pings += 1;
        }
    }
}

/// What a leader knows.
#[derive(Clone, Debug)]
pub struct Leading {
    me: PeerId,
    phase: Phase,
    /// Agreed on from [`Phase::Promising`] on.
    epoch: u32,
    learners: BTreeMap<LinkId, Learner>,
    since_ms: i64,
    next_ping_ms: i64,
    next_quick_ping_ms: i64,
    /// The end of our log when we began: our history, which we do not know to be committed.
    initial: Zxid,
    last_proposed: Zxid,
    committed: Zxid,
    /// Which quorums what is proposed needs.
    eras: Eras,
    /// A server that is alone: the epoch rolls by itself.
    alone: bool,
    /// Rounds that were asked for, that is under way, and that are through.
    rounds: Rounds,
}

impl Leading {
    /// Leads an ensemble of one from the end of its log. All of it is committed: it is a quorum's. The epoch of the log
    /// goes on, as Apache's standalone server does it, because nobody else can have led it.
    pub(super) fn alone(me: PeerId, last: Zxid) -> Self {
        Leading { phase: Phase::Established, alone: true, committed: last, ..Leading::new(me, last, 0) }
    }

    fn new(me: PeerId, last: Zxid, now_ms: i64) -> Self {
        Leading {
            me,
            phase: Phase::Discovery,
            epoch: last.epoch(),
            learners: BTreeMap::new(),
            since_ms: now_ms,
            next_ping_ms: now_ms,
            next_quick_ping_ms: now_ms,
            initial: last,
            last_proposed: last,
            committed: Zxid::ZERO,
            eras: Eras::default(),
            alone: false,
            rounds: Rounds::default(),
        }
    }

    /// Elected.
    pub(super) fn begin(cx: &mut Context<'_>) -> (Self, Flow) {
        let mut leading = Leading::new(cx.config.me, cx.ledger.last(), cx.now_ms);
        let flow = leading.maybe_promise(cx);
        (leading, flow)
    }

    /// A learner has introduced itself.
    pub(super) fn on_info(&mut self, cx: &mut Context<'_>, link: LinkId, info: &Info) -> Flow {
        // It has made its link anew; what comes on the old one is of no use to anybody.
        let old = self.learners.iter().find(|(_, learner)| learner.peer == info.peer).map(|(old, _)| *old);
        if let Some(old) = old {
            self.drop_learner(cx, old);
        }
        *cx.seen_epoch = info.accepted_epoch.max(*cx.seen_epoch);
        if info.accepted_epoch > self.epoch && self.phase != Phase::Discovery {
            // It has promised more than we lead with and cannot follow us. A new election brings a higher epoch.
            // It waits on this link, which is not among our learners' yet, and shall vote rather than wait.
            cx.out.push(Output::Hangup(link));
            return Flow::Resign("a voter has promised a higher epoch");
        }
        let learner = Learner {
            peer: info.peer,
            observer: info.observer,
            capability: info.capability,
            stage: Stage::Waiting,
            up_to_date_behind: Zxid::ZERO,
            kept_back: Vec::new(),
            durable: Zxid::ZERO,
            heard_ms: cx.now_ms,
            owes_since_ms: None,
            pings: 0,
            pongs: 0,
            round: None,
        };
        self.learners.insert(link, learner);
        match self.phase {
            Phase::Discovery => self.maybe_promise(cx),
            Phase::Promising { .. } => Flow::Stay,
            _ => {
                self.tell_epoch(cx, link);
                Flow::Stay
            }
        }
    }

    /// Takes an epoch when a quorum has said what it promised: one more than all of that.
    fn maybe_promise(&mut self, cx: &mut Context<'_>) -> Flow {
        let there = self.those_who(|_| true);
        if self.phase != Phase::Discovery || !cx.members().quorum.is_quorum(&there) {
            return Flow::Stay;
        }
        let ours = cx.ledger.ordered_epochs();
        // Higher than every promise that we ever heard of, not only than this quorum's: whoever has promised more could
        // not follow us.
        self.epoch = ours.accepted.max(*cx.seen_epoch) + 1;
        let order = cx.ledger.save(Epochs { accepted: self.epoch, ..ours }, cx.out);
        self.phase = Phase::Promising { order };
        Flow::Stay
    }

    /// The peers among our learners of which this is true, and we. Who does not vote is not counted by any quorum.
    fn those_who(&self, holds: impl Fn(&Learner) -> bool) -> Vec<PeerId> {
        let learners = self.learners.values().filter(|learner| holds(learner));
        std::iter::once(self.me).chain(learners.map(|learner| learner.peer)).collect()
    }

    fn tell_epoch(&mut self, cx: &mut Context<'_>, link: LinkId) {
        let Some(learner) = self.learners.get_mut(&link) else { return };
        learner.stage = Stage::Told;
        let capability = Some(Capability::OURS);
        cx.send(link, Message::LeaderInfo { epoch: self.epoch, capability });
    }

    /// A message of a learner that has introduced itself.
    pub(super) fn on_message(&mut self, cx: &mut Context<'_>, link: LinkId, message: Message) -> Flow {
        let Some(learner) = self.learners.get_mut(&link) else { return Flow::Stay };
        learner.heard_ms = cx.now_ms;
        let peer = learner.peer;
        let said = match message {
            Message::AckEpoch { last, current } => return self.on_ack_epoch(cx, link, last, current),
            Message::Ack(zxid) => return self.on_ack(cx, link, zxid),
            Message::Ping { touched, .. } => {
                learner.pongs += 1;
                self.maybe_end_round(cx);
                if touched.is_empty() {
                    return Flow::Stay;
                }
                FromLearner::Touched(touched)
            }
            Message::Request(request) => FromLearner::Request(request),
            Message::Revalidate { session, timeout_ms } => FromLearner::Revalidate(session, timeout_ms),
            other => {
                tracing::warn!(peer = peer.0, message = ?other, "a learner says what only a leader may");
                self.drop_learner(cx, link);
                return Flow::Stay;
            }
        };
        if self.phase == Phase::Established {
            cx.out.push(Output::FromLearner { link, peer, said });
        }
        Flow::Stay
    }

    fn on_ack_epoch(&mut self, cx: &mut Context<'_>, link: LinkId, last: Zxid, current: Option<u32>) -> Flow {
        let Some(learner) = self.learners.get_mut(&link) else { return Flow::Stay };
        if learner.stage != Stage::Told {
            self.drop_learner(cx, link);
            return Flow::Stay;
        }
        learner.stage = Stage::Confirmed { last, promised: current.is_some() };
        match self.phase {
            Phase::Confirming => {
                let ours = (cx.ledger.epochs().current, cx.ledger.last());
                if let Some(current) = current
                    && (current, last) > ours
                    && cx.members().quorum.is_voter(learner.peer)
                {
                    // Its history is better than ours: it, or one that has as much, must lead.
                    return Flow::Resign("a voter has a longer history");
                }
                self.maybe_synchronize(cx)
            }
            _ => {
                self.begin_sync(cx, link, last);
                Flow::Stay
            }
        }
    }

    /// Brings learners level when a quorum has promised.
    fn maybe_synchronize(&mut self, cx: &mut Context<'_>) -> Flow {
        let promised =
            self.those_who(|learner| matches!(learner.stage, Stage::Confirmed { promised: true, .. }));
        if self.phase != Phase::Confirming || !cx.members().quorum.is_quorum(&promised) {
            return Flow::Stay;
        }
        let ours = cx.ledger.ordered_epochs();
        if cx.config.reading.is_some() && cx.configs.establish(self.epoch) {
            cx.out.push(Output::Members);
        }
        let order = cx.ledger.save(Epochs { current: self.epoch, ..ours }, cx.out);
        self.phase = Phase::Synchronizing { order };
        let confirmed: Vec<(LinkId, Zxid)> = self
            .learners
            .iter()
            .filter_map(|(link, learner)| match learner.stage {
                Stage::Confirmed { last, .. } => Some((*link, last)),
                _ => None,
            })
            .collect();
        for (link, last) in confirmed {
            self.begin_sync(cx, link, last);
        }
        Flow::Stay
    }

    fn on_ack(&mut self, cx: &mut Context<'_>, link: LinkId, zxid: Zxid) -> Flow {
        let Some(learner) = self.learners.get_mut(&link) else { return Flow::Stay };
        if zxid == Zxid::new(self.epoch, 0) {
            if learner.stage != (Stage::Live { acked: false }) {
                // The second one answers UpToDate.
                return Flow::Stay;
            }
            learner.stage = Stage::Live { acked: true };
            learner.owes_since_ms = None;
            if self.phase == Phase::Established {
                if learner.up_to_date_behind <= self.committed {
                    cx.send(link, Message::UpToDate);
                }
                std::mem::take(&mut learner.kept_back).into_iter().for_each(|message| cx.send(link, message));
                return Flow::Stay;
            }
            return self.maybe_establish(cx);
        }
        if zxid > self.last_proposed {
            return Flow::Stay;
        }
        // Some acknowledge what they were brought level with, once or twice, even before all of it.
        learner.durable = learner.durable.max(zxid);
        if !learner.has_acked() {
            return Flow::Stay;
        }
        learner.owes_since_ms = (learner.durable < self.last_proposed).then_some(cx.now_ms);
        self.advance(cx)
    }

    /// Establishes the leader when a quorum has its history.
    fn maybe_establish(&mut self, cx: &mut Context<'_>) -> Flow {
        let Phase::Synchronizing { .. } = self.phase else { return Flow::Stay };
        let have = self.those_who(Learner::has_acked);
        let ours = cx.ledger.epochs().current == self.epoch;
        if !ours || !cx.members().quorum.is_quorum(&have) {
            return Flow::Stay;
        }
        assert!(
            cx.ledger.durable() == cx.ledger.last() && cx.ledger.last() == self.initial,
            "our history is durable before our epoch: {} of {}",
            cx.ledger.durable(),
            cx.ledger.last()
        );
        self.phase = Phase::Established;
        self.committed = self.initial;
        self.last_proposed = Zxid::new(self.epoch, 0);
        cx.commit(self.initial);
        cx.out.push(Output::Turn(Turn::Leading { epoch: self.epoch }));
        let ready: Vec<LinkId> =
            self.learners.iter().filter(|(_, learner)| learner.has_acked()).map(|(link, _)| *link).collect();
        for link in ready {
            cx.send(link, Message::UpToDate);
        }
        if cx.configs.prove(cx.ledger.shape()) {
            cx.out.push(Output::Members);
        }
        cx.activate(self.last_proposed);
        self.eras.begin(&cx.members().quorum);
        if !cx.members().quorum.is_voter(self.me) {
            return Flow::Resign("the configuration that was under way gives this server no vote");
        }
        Flow::Stay
    }

    /// The next number, if there is one to give. At the end of the counter a server that is alone rolls its epoch in
    /// place: nobody has to elect. Counter 0 names the epoch itself and is never a write's.
    pub(super) fn next_zxid(&self) -> Option<Zxid> {
        if self.phase != Phase::Established {
            return None;
        }
        match self.last_proposed.next() {
            // Apache never proposes the last counter either.
            Some(next) if self.alone || next.counter() < u32::MAX => Some(next),
            _ if self.alone => Some(Zxid::new(self.last_proposed.epoch() + 1, 1)),
            _ => None,
        }
    }

    /// Goes to the end of the counter, as four billion proposals would.
    #[cfg(test)]
    pub(super) fn use_up(&mut self, counter: u32) {
        assert!(self.committed == self.last_proposed || self.last_proposed.counter() == 0);
        self.last_proposed = Zxid::new(self.epoch, counter);
        self.committed = self.last_proposed;
    }

    /// Proposes a transaction with the number that [`Leading::next_zxid`] gave.
    pub(super) fn propose(&mut self, cx: &mut Context<'_>, zxid: Zxid, payload: &Bytes) {
        assert!(
            Some(zxid) == self.next_zxid(),
            "numbers are given in order: {zxid} after {}",
            self.last_proposed
        );
        self.last_proposed = zxid;
        for (link, learner) in &mut self.learners {
            if learner.is_live() && !learner.observer {
                learner.owes_since_ms.get_or_insert(cx.now_ms);
                let message = Message::Proposal { zxid, payload: payload.clone() };
                cx.out.push(Output::Send { link: *link, message });
            }
        }
        let version = cx.configs.latest().version;
        cx.append(zxid, payload.clone());
        if cx.configs.latest().version != version {
            self.eras.change(zxid, &cx.members().quorum);
        }
    }

    /// Our disk has reported.
    pub(super) fn on_settled(&mut self, cx: &mut Context<'_>, order: u64) -> Flow {
        match self.phase {
            Phase::Promising { order: wanted } if order >= wanted => {
                self.phase = Phase::Confirming;
                let waiting: Vec<LinkId> = self.learners.keys().copied().collect();
                for link in waiting {
                    self.tell_epoch(cx, link);
                }
                self.maybe_synchronize(cx)
            }
            Phase::Synchronizing { order: wanted } if order >= wanted => self.maybe_establish(cx),
            Phase::Established => self.advance(cx),
            _ => Flow::Stay,
        }
    }

    /// A link is gone. Answers whether it was a learner's.
    pub(super) fn on_lost(&mut self, cx: &mut Context<'_>, link: LinkId) -> bool {
        let Some(learner) = self.learners.remove(&link) else { return false };
        let peer = learner.peer;
        cx.out.push(Output::FromLearner { link, peer, said: FromLearner::Gone });
        true
    }

    fn drop_learner(&mut self, cx: &mut Context<'_>, link: LinkId) {
        self.on_lost(cx, link);
        cx.out.push(Output::Hangup(link));
    }

    /// All links, to be closed.
    pub(super) fn into_links(self) -> impl Iterator<Item = LinkId> {
        self.learners.into_keys()
    }

    /// Pings, and looks who is silent.
    pub(super) fn on_tick(&mut self, cx: &mut Context<'_>) -> Flow {
        if self.alone {
            return Flow::Stay;
        }
        let patience = match self.phase {
            Phase::Established => i64::MAX,
            Phase::Discovery => cx.config.init_limit_ms.min(DISCOVERY_MS),
            _ => cx.config.init_limit_ms,
        };
        if cx.now_ms - self.since_ms > patience {
            return Flow::Resign("no quorum came in time");
        }
        let slow = cx.now_ms >= self.next_ping_ms;
        let quick = cx.now_ms >= self.next_quick_ping_ms;
        if quick {
            self.next_quick_ping_ms = cx.now_ms + QUICK_PING_MS;
        }
        if slow {
            self.next_ping_ms = cx.now_ms + cx.config.tick_ms / 2;
        }
        let last = self.last_proposed;
        let established = self.phase == Phase::Established;
        for (link, learner) in &mut self.learners {
            if learner.is_live() && (if learner.capability.is_some() { quick } else { slow }) {
                cx.send(*link, Message::Ping { last, touched: Vec::new() });
                learner.pinged(established);
                if self.rounds.under_way.is_some() {
                    // It may have come since the round began.
                    learner.round.get_or_insert(learner.pings);
                }
            }
        }
        self.drop_silent(cx);
        if slow && self.phase == Phase::Established {
            let there = self.those_who(Learner::has_acked);
            if !cx.members().quorum.is_quorum(&there) || !self.eras.are_alive(&there) {
                return Flow::Resign("the quorum is gone");
            }
        }
        Flow::Stay
    }

    fn drop_silent(&mut self, cx: &mut Context<'_>) {
        let limits = cx.config;
        let late = |learner: &Learner| {
            let patience = match (learner.stage, learner.capability) {
                // Twice what it grants us: it shall be the first to give up.
                (Stage::Live { acked: true }, Some(_)) => 2 * limits.silence_ms,
                (Stage::Live { acked: true }, None) => limits.sync_limit_ms,
                _ => limits.init_limit_ms,
            };
            let overdue = learner.owes_since_ms.is_some_and(|since| {
                let limit = if learner.has_acked() { limits.sync_limit_ms } else { limits.init_limit_ms };
                cx.now_ms - since > limit
            });
            cx.now_ms - learner.heard_ms > patience || overdue
        };
        let silent: Vec<LinkId> =
            self.learners.iter().filter(|(_, learner)| late(learner)).map(|(link, _)| *link).collect();
        for link in silent {
            tracing::warn!(?link, "a learner is silent or too slow, and is left behind");
            self.drop_learner(cx, link);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<i64> {
        let quick = self.learners.values().any(|learner| learner.capability.is_some());
        let ping = if quick { self.next_ping_ms.min(self.next_quick_ping_ms) } else { self.next_ping_ms };
        let discovery = (self.phase == Phase::Discovery).then_some(self.since_ms + DISCOVERY_MS + 1);
        (!self.alone).then_some(discovery.map_or(ping, |due| due.min(ping)))
    }

    /// Whether the learner on this link can do what ours can.
    pub(super) fn is_ours(&self, link: LinkId) -> bool {
        self.learners.get(&link).is_some_and(|learner| learner.capability.is_some())
    }

    /// Whether it proposes.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.phase == Phase::Established
    }

    /// Its epoch; of no meaning before it is agreed on.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The last number that was taken.
    #[must_use]
    pub fn last_proposed(&self) -> Zxid {
        self.last_proposed
    }

    /// Everything up to here is committed.
    #[must_use]
    pub fn committed(&self) -> Zxid {
        self.committed
    }

    /// Who is level and was heard within this time, and the leader itself.
    pub(super) fn level(&self, now_ms: i64, patience_ms: i64) -> Vec<PeerId> {
        self.those_who(|learner| {
            learner.has_acked() && !learner.observer && now_ms - learner.heard_ms <= patience_ms
        })
    }

    /// Its learners that have its whole history: who, whether it only observes, and up to where it has acknowledged.
    pub fn followers(&self) -> impl Iterator<Item = (PeerId, bool, Zxid)> + '_ {
        let live = self.learners.values().filter(|learner| learner.has_acked());
        live.map(|learner| (learner.peer, learner.observer, learner.durable))
    }
}

/// How a learner introduces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Info {
    pub(super) peer: PeerId,
    pub(super) accepted_epoch: u32,
    pub(super) observer: bool,
    pub(super) config_version: i64,
    pub(super) capability: Option<Capability>,
}
