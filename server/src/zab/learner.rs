//! Learning: following with a vote, observing without one.
//!
//! ```text
//! Dialing ─► Greeting ─ LeaderInfo ─► Promising ─ on disk ─► Confirmed ─ Diff|Trunc ─► Syncing ─ NewLeader ─► Adopting
//!                                                                └─ Snap ─► Receiving ──┘                        │ on disk
//!                                                                         Active ◄─ UpToDate ─ Adopted ◄─────────┘
//! ```
//!
//! What the leader sends goes straight to the log, also before `NewLeader`: the disk carries out orders in their order,
//! so our ack of the leader's history, which waits for the order to note its epoch, is sent when all of it is durable.
//!
//! Invariants: an epoch is promised on disk before it is promised to the leader; `currentEpoch` is written behind the
//! whole history of that epoch's leader, never before (ZOOKEEPER-4643); nothing is acknowledged before the history as a
//! whole is (4646, 4685); nothing counts as committed before `UpToDate`, except what a leader says of it.

use bytes::Bytes;
use docent::Zxid;

use super::context::{Context, Flow};
use super::{Capability, Epochs, FromLeader, LinkId, Message, Output, PeerId, Turn};

/// Milliseconds between two attempts to reach a leader that does not answer yet.
const DIAL_AGAIN_MS: i64 = 50;

/// Attempts to reach a leader. Apache opens its port up to 300 ms after it was elected.
const DIALS_MAX: u32 = 12;

/// Where a learner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It opens a link, or waits to try again.
    Dialing { again_ms: Option<i64> },
    /// It has introduced itself.
    Greeting,
    /// Its promise is on the way to the disk.
    Promising { order: u64, current: Option<u32> },
    /// It has promised.
    Confirmed,
    /// It receives a snapshot.
    Receiving,
    /// It receives what it lacks.
    Syncing,
    /// It has the leader's history, which is on the way to the disk.
    Adopting { order: u64 },
    /// It has acknowledged the leader's history.
    Adopted,
    /// It may serve as soon as all that its tree holds is committed: a server that has just started has applied its
    /// whole log, and the end of it may still be on its way to a quorum.
    Settling,
    /// It is level, and serves.
    Active,
}

impl Phase {
    fn takes_records(self) -> bool {
        matches!(
            self,
            Phase::Syncing | Phase::Adopting { .. } | Phase::Adopted | Phase::Settling | Phase::Active
        )
    }
}

/// What a learner knows.
#[derive(Clone, Debug)]
pub struct Learning {
    leader: PeerId,
    observer: bool,
    phase: Phase,
    link: Option<LinkId>,
    dials: u32,
    capability: Option<Capability>,
    /// The leader's epoch, from its `LeaderInfo` on.
    epoch: u32,
    /// The part of our log that the leader counts as committed.
    committed: Zxid,
    /// Records up to here need no ack of ours any more.
    acked: Zxid,
    since_ms: i64,
    heard_ms: i64,
}

impl Learning {
    /// Somebody else is elected.
    pub(super) fn begin(cx: &mut Context<'_>, leader: PeerId) -> Self {
        cx.dial(leader);
        Learning {
            leader,
            observer: cx.configs.observes(cx.config.me),
            phase: Phase::Dialing { again_ms: None },
            link: None,
            dials: 1,
            capability: None,
            epoch: 0,
            committed: Zxid::ZERO,
            acked: Zxid::ZERO,
            since_ms: cx.now_ms,
            heard_ms: cx.now_ms,
        }
    }

    /// An attempt to reach the leader is over.
    pub(super) fn on_dialed(&mut self, cx: &mut Context<'_>, peer: PeerId, link: Option<LinkId>) -> Flow {
        if peer != self.leader || self.phase != (Phase::Dialing { again_ms: None }) {
            cx.out.extend(link.map(Output::Hangup));
            return Flow::Stay;
        }
        let Some(link) = link else {
            if self.dials >= DIALS_MAX {
                return Flow::Resign("the elected leader cannot be reached");
            }
            self.phase = Phase::Dialing { again_ms: Some(cx.now_ms + DIAL_AGAIN_MS) };
            return Flow::Stay;
        };
        self.link = Some(link);
        self.phase = Phase::Greeting;
        self.heard_ms = cx.now_ms;
        let info = Message::FollowerInfo {
            peer: cx.config.me,
            accepted_epoch: cx.ledger.ordered_epochs().accepted,
            observer: self.observer,
            config_version: cx.configs.committed().version,
            capability: Some(Capability { whole: cx.ledger.wants_state(), ..Capability::OURS }),
        };
        cx.send(link, info);
        Flow::Stay
    }

    /// Whether it observes a leader of Apache's.
    pub(super) fn observes_apache(&self) -> bool {
        self.observer && self.capability.is_none()
    }

    /// Whether this is the link to the leader.
    pub(super) fn is_link(&self, link: LinkId) -> bool {
        self.link == Some(link)
    }

    /// The leader says something. This is a flat dispatch: one arm for each thing that it may say.
    pub(super) fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Flow {
        let Some(link) = self.link else { return Flow::Stay };
        self.heard_ms = cx.now_ms;
        match (message, self.phase) {
            (Message::LeaderInfo { epoch, capability }, Phase::Greeting) => {
                self.capability = capability;
                self.on_epoch(cx, epoch)
            }
            (Message::Diff(committed), Phase::Confirmed) => {
                self.begin_sync(cx.ledger.last().min(committed));
                Flow::Stay
            }
            (Message::Trunc(after), Phase::Confirmed) => {
                if after > cx.ledger.last() {
                    return Flow::Resign("the leader wants more kept than there is");
                }
                if after < cx.ledger.shape().floor() && self.capability.is_some() {
                    cx.ledger.want_state();
                    return Flow::Resign("the log cannot be cut behind what a snapshot holds");
                }
                cx.truncate(after);
                self.begin_sync(after);
                Flow::Stay
            }
            (Message::Snap(_), Phase::Confirmed) => {
                self.phase = Phase::Receiving;
                Flow::Stay
            }
            (Message::Proposal { zxid, payload }, phase) if phase.takes_records() => {
                self.on_proposal(cx, zxid, payload)
            }
            (Message::Commit(zxid), phase) if phase.takes_records() => self.on_commit(cx, zxid, None),
            (Message::Inform { zxid, payload }, phase) if phase.takes_records() => {
                match self.on_proposal(cx, zxid, payload) {
                    Flow::Stay => self.on_commit(cx, zxid, None),
                    ends => ends,
                }
            }
            (Message::CommitAndActivate { zxid, leader }, phase) if phase.takes_records() => {
                self.on_commit(cx, zxid, Some(leader))
            }
            (Message::InformAndActivate { zxid, leader, payload }, phase) if phase.takes_records() => {
                match self.on_proposal(cx, zxid, payload) {
                    Flow::Stay => self.on_commit(cx, zxid, Some(leader)),
                    ends => ends,
                }
            }
            (Message::NewLeader { epoch, config }, Phase::Syncing) => self.on_new_leader(cx, epoch, &config),
            (Message::UpToDate, Phase::Adopted) => {
                cx.send(link, Message::Ack(Zxid::new(self.epoch, 0)));
                self.phase = Phase::Settling;
                cx.commit(self.committed);
                // The version of an epoch has no record; whoever is level in that epoch has it.
                cx.activate(self.committed.max(Zxid::new(self.epoch, 0)));
                self.maybe_serve(cx, link);
                self.mind_role(cx, None)
            }
            (Message::Ping { last, .. }, Phase::Active) => {
                cx.out.push(Output::FromLeader(FromLeader::Ping(last)));
                Flow::Stay
            }
            (Message::Ping { last, .. }, _) => {
                // Apache's leader does not expect an answer yet; one of ours learns that we are there.
                if self.capability.is_some() {
                    cx.send(link, Message::Ping { last, touched: Vec::new() });
                }
                Flow::Stay
            }
            (Message::Revalidated { session, valid }, Phase::Active) => {
                cx.out.push(Output::FromLeader(FromLeader::Revalidated(session, valid)));
                Flow::Stay
            }
            (Message::SyncDone, Phase::Active) => {
                cx.out.push(Output::FromLeader(FromLeader::SyncDone));
                Flow::Stay
            }
            (message, phase) => {
                tracing::warn!(leader = self.leader.0, ?message, ?phase, "the leader is out of turn");
                Flow::Resign("the leader says something out of turn")
            }
        }
    }

    /// The leader names its epoch: it is promised on disk, then to the leader. An epoch that was promised before is not
    /// promised again, because that may have been to another leader.
    fn on_epoch(&mut self, cx: &mut Context<'_>, epoch: u32) -> Flow {
        let ordered = cx.ledger.ordered_epochs();
        if epoch < ordered.accepted {
            return Flow::Resign("a higher epoch was promised");
        }
        self.epoch = epoch;
        let current = (epoch > ordered.accepted).then_some(ordered.current);
        let order = cx.ledger.save(Epochs { accepted: epoch, ..ordered }, cx.out);
        self.phase = Phase::Promising { order, current };
        Flow::Stay
    }

    fn begin_sync(&mut self, committed: Zxid) {
        self.committed = committed;
        self.phase = Phase::Syncing;
    }

    /// The leader's snapshot is here, durable and loaded. Answers whether it still counts.
    pub(super) fn on_snapshot(&mut self, cx: &mut Context<'_>, zxid: Zxid) -> bool {
        if self.phase != Phase::Receiving {
            return false;
        }
        self.heard_ms = cx.now_ms;
        cx.ledger.restart(zxid, cx.out);
        self.begin_sync(zxid);
        true
    }

    fn on_proposal(&mut self, cx: &mut Context<'_>, zxid: Zxid, payload: Bytes) -> Flow {
        let last = cx.ledger.last();
        if zxid <= last {
            return Flow::Resign("the leader repeats itself");
        }
        let follows = last.next() == Some(zxid) || (zxid.epoch() > last.epoch() && zxid.counter() == 1);
        if !follows {
            return Flow::Resign("the leader leaves a gap");
        }
        if zxid.epoch() > self.epoch {
            return Flow::Resign("the leader proposes in an epoch that is not its own");
        }
        cx.append(zxid, payload.clone());
        cx.out.push(Output::Logged { zxid, payload });
        Flow::Stay
    }

    fn on_commit(&mut self, cx: &mut Context<'_>, zxid: Zxid, designated: Option<PeerId>) -> Flow {
        if zxid > cx.ledger.last() {
            return Flow::Resign("the leader commits what it did not propose");
        }
        if zxid <= self.committed {
            return Flow::Stay;
        }
        self.committed = zxid;
        if let (Phase::Active | Phase::Settling, Some(link)) = (self.phase, self.link) {
            cx.commit(zxid);
            self.maybe_serve(cx, link);
            if cx.activate(zxid) {
                return self.mind_role(cx, designated);
            }
        } else {
            cx.ledger.release(zxid);
            cx.out.push(Output::Foreseen(zxid));
        }
        Flow::Stay
    }

    fn maybe_serve(&mut self, cx: &mut Context<'_>, link: LinkId) {
        if self.phase == Phase::Settling && self.committed >= cx.ledger.applied() {
            self.phase = Phase::Active;
            cx.out.push(Output::Turn(Turn::Learning { link, leader: self.leader }));
        }
    }

    /// A configuration counts: whether we are still what it says, and follow whom it wants. One that leaves us out changes nothing
    /// here: we follow on, uncounted, and are level if we are asked in again.
    fn mind_role(&self, cx: &Context<'_>, designated: Option<PeerId>) -> Flow {
        let leader = designated.unwrap_or(self.leader);
        if leader != self.leader || cx.configs.observes(cx.config.me) != self.observer {
            return Flow::HandOver(leader);
        }
        if !cx.members().quorum.is_voter(leader) {
            return Flow::Resign("the configuration gives the leader no vote");
        }
        Flow::Stay
    }

    /// We have the leader's history. It counts when it is durable, and our epoch with it.
    fn on_new_leader(&mut self, cx: &mut Context<'_>, epoch: u32, config: &Bytes) -> Flow {
        if epoch != self.epoch {
            return Flow::Resign("the leader changes its epoch");
        }
        let latest = cx.config.reading.and_then(|reading| (reading.of_text)(config));
        if let Some(latest) = latest.filter(|latest| latest.version != 0)
            && cx.configs.told(latest, cx.ledger.shape())
        {
            cx.out.push(Output::Members);
        }
        let ordered = cx.ledger.ordered_epochs();
        let order = cx.ledger.save(Epochs { accepted: ordered.accepted.max(epoch), current: epoch }, cx.out);
        self.acked = self.committed;
        self.phase = Phase::Adopting { order };
        Flow::Stay
    }

    /// Our disk has reported.
    pub(super) fn on_settled(&mut self, cx: &mut Context<'_>, order: u64) -> Flow {
        let Some(link) = self.link else { return Flow::Stay };
        match self.phase {
            Phase::Promising { order: wanted, current } if order >= wanted => {
                self.phase = Phase::Confirmed;
                cx.send(link, Message::AckEpoch { last: cx.ledger.last(), current });
            }
            Phase::Adopting { order: wanted } if order >= wanted => {
                self.phase = Phase::Adopted;
                cx.send(link, Message::Ack(Zxid::new(self.epoch, 0)));
                self.acknowledge(cx, link);
            }
            Phase::Adopted | Phase::Settling | Phase::Active => self.acknowledge(cx, link),
            _ => {}
        }
        Flow::Stay
    }

    /// Tells what is durable: a leader of ours once for all of it, Apache's for each record.
    fn acknowledge(&mut self, cx: &mut Context<'_>, link: LinkId) {
        let durable = cx.ledger.durable();
        if self.observer || durable <= self.acked {
            return;
        }
        if self.capability.is_some() {
            cx.send(link, Message::Ack(durable));
        } else {
            // From the numbers alone: what others have committed meanwhile may be gone from memory.
            let each = cx.ledger.shape().between(self.acked, durable);
            each.into_iter().for_each(|zxid| cx.send(link, Message::Ack(zxid)));
        }
        self.acked = durable;
    }

    /// Tries again to reach the leader, and leaves one that is silent.
    pub(super) fn on_tick(&mut self, cx: &mut Context<'_>) -> Flow {
        if let Phase::Dialing { again_ms: Some(again_ms) } = self.phase
            && cx.now_ms >= again_ms
        {
            self.dials += 1;
            self.phase = Phase::Dialing { again_ms: None };
            cx.dial(self.leader);
        }
        if cx.now_ms >= self.patience_ends(cx.config) {
            return Flow::Resign("the leader is silent");
        }
        Flow::Stay
    }

    fn patience_ends(&self, limits: &super::ReplicaConfig) -> i64 {
        match (self.phase, self.capability) {
            (Phase::Dialing { .. }, _) => self.since_ms + limits.init_limit_ms,
            (Phase::Adopted | Phase::Settling | Phase::Active, Some(_)) => self.heard_ms + limits.silence_ms,
            (Phase::Active, None) => self.heard_ms + limits.sync_limit_ms,
            _ => self.heard_ms + limits.init_limit_ms,
        }
    }

    pub(super) fn next_deadline(&self, limits: &super::ReplicaConfig) -> i64 {
        let patience = self.patience_ends(limits);
        match self.phase {
            Phase::Dialing { again_ms: Some(again_ms) } => again_ms.min(patience),
            _ => patience,
        }
    }

    /// Whom we follow, or try to.
    #[must_use]
    pub fn leader(&self) -> PeerId {
        self.leader
    }

    /// The link to the leader, if there is one.
    #[must_use]
    pub fn link(&self) -> Option<LinkId> {
        self.link
    }

    /// Whether we are level and serve.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.phase == Phase::Active
    }

    /// The leader's epoch; 0 before it is known.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Everything up to here is committed, as far as we were told.
    #[must_use]
    pub fn committed(&self) -> Zxid {
        self.committed
    }
}
