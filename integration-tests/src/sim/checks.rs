//! What must hold after every step, whatever happens.
//!
//! The checks stand outside of the server and believe it as little as they can. They watch what each server is given to
//! write down and what its disk really holds; from the first server that applies a transaction they learn that it is
//! committed, and from then on it is so for ever and for everybody ([`Checks::commit`]). What clients are answered is
//! compared with a second telling of the committed transactions (`model`). Each check is a function that says its rule.
//!
//! The file is long because every rule has its function, and all of them look at the same few facts.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use docent::proto::{ReplyHeader, Response};
use docent::{ErrorCode, SessionId, Zxid};
use docent_server::node::txn::{LoggedTxn, Txn};
use docent_server::tree::Tree;
use docent_server::zab::{LinkId, Message, PeerId};

use super::clients::{Asked, REGISTERS};
use super::config_checks::made_by;
use super::disk::{Durable, next};
use super::linear::{self, Operation, Seen, Verdict};
use super::members::Rolls;
use super::model::Model;
use super::plan::{Fault, Plan};

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    /// The rule.
    pub(super) rule: &'static str,
    /// How it was broken.
    pub(super) text: String,
}

impl Violation {
    pub(super) fn new(rule: &'static str, text: impl Into<String>) -> Self {
        Violation { rule, text: text.into() }
    }
}

pub(super) type Checked = Result<(), Violation>;

pub(super) fn ensure(holds: bool, rule: &'static str, text: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Violation { rule, text: text() }) }
}

/// A number for bytes.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A transaction that is committed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Committed {
    hash: u64,
    digest: u64,
    pub(super) session: SessionId,
    pub(super) cxid: i32,
}

/// Where a transaction stands in the history that it was written into: the same for all who have it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    before: Zxid,
    payload: Bytes,
}

/// What one server has been given to write down.
#[derive(Clone, Debug, Default)]
struct Shadow {
    /// Its state began with a snapshot of this.
    floor: Zxid,
    records: BTreeMap<Zxid, Bytes>,
    /// Where its tree stands.
    applied: Zxid,
    /// Up to here it is known to agree with what is committed.
    agreed: Zxid,
    /// Up to here it has been seen to have everything on its disk.
    proved: Zxid,
    /// The epoch that it offered last as a leader.
    offered: Option<u32>,
    /// The epochs that it was offered, by link.
    promised: BTreeMap<LinkId, u32>,
}

impl Shadow {
    fn last(&self) -> Zxid {
        self.records.last_key_value().map_or(self.floor, |(zxid, _)| (*zxid).max(self.floor))
    }
}

/// Where a tree stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stand {
    pub(super) zxid: Zxid,
    pub(super) digest: u64,
    /// Its server leads and is not established.
    pub(super) early: bool,
}

/// An answer, with what was asked.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) asked: &'a Asked,
    pub(super) header: ReplyHeader,
    pub(super) response: Option<&'a Response>,
}

/// What is known outside of the servers.
#[derive(Debug)]
pub(super) struct Checks {
    /// The configurations that are committed.
    pub(super) rolls: Rolls,
    /// The version that each server goes by.
    pub(super) counting: BTreeMap<PeerId, i64>,
    pub(super) committed: BTreeMap<Zxid, Committed>,
    pub(super) model: Model,
    reference: Tree,
    shadows: BTreeMap<PeerId, Shadow>,
    /// Everything that any server was ever given to write down.
    origins: BTreeMap<Zxid, Origin>,
    /// Who led each epoch.
    pub(super) leaders: BTreeMap<u32, PeerId>,
    /// The largest zxid in any answer.
    pub(super) horizon: Zxid,
    moment: u64,
    registers: Vec<Vec<Option<Operation>>>,
    /// For each session that was granted: its timeout, and when its owner sent the newest thing that was answered.
    pub(super) owners: BTreeMap<SessionId, (i32, i64)>,
    pub(super) refused: BTreeSet<SessionId>,
    /// The last request of each session that is committed.
    last_cxid: BTreeMap<SessionId, i32>,
    /// How much earlier than by the owner's count a session may end, µs.
    early_us: i64,
    pub(super) undecided: u64,
    /// There is one server, and no ensemble.
    alone: bool,
}

impl Checks {
    pub(super) fn new(plan: &Plan) -> Self {
        // A learner may go on answering for as long as it takes to miss its leader, and a pause makes that longer.
        let early_ms = match (plan.servers, plan.has(Fault::Pause)) {
            (1, _) => 0,
            (_, false) => plan.sync_limit_ms.max(plan.silence_ms) + 2 * plan.tick_ms + 300,
            (_, true) => i64::from(i32::MAX),
        };
        Checks {
            rolls: Rolls::new(plan.first_members(), plan.voters_min),
            counting: BTreeMap::new(),
            committed: BTreeMap::new(),
            model: Model::default(),
            reference: Tree::new(),
            shadows: BTreeMap::new(),
            origins: BTreeMap::new(),
            leaders: BTreeMap::new(),
            horizon: Zxid::ZERO,
            moment: 0,
            registers: vec![Vec::new(); REGISTERS],
            owners: BTreeMap::new(),
            refused: BTreeSet::new(),
            last_cxid: BTreeMap::new(),
            early_us: early_ms * 1_000,
            undecided: 0,
            alone: plan.servers == 1,
        }
    }

    /// The largest zxid that anybody was answered.
    pub(super) fn horizon(&self) -> Zxid {
        self.horizon
    }

    /// A number for this very moment: later ones are larger.
    pub(super) fn moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// The last transaction that is committed.
    pub(super) fn last(&self) -> Zxid {
        self.committed.last_key_value().map_or(Zxid::ZERO, |(zxid, _)| *zxid)
    }

    /// How many transactions are committed.
    pub(super) fn committed_count(&self) -> u64 {
        self.committed.len() as u64
    }

    fn shadow(&mut self, peer: PeerId) -> &mut Shadow {
        self.shadows.entry(peer).or_default()
    }

    // ---- what servers write down ----

    /// A server has begun with what its disk holds.
    pub(super) fn loaded(
        &mut self,
        peer: PeerId,
        floor: Zxid,
        records: BTreeMap<Zxid, Bytes>,
        applied: Zxid,
    ) {
        let old = std::mem::take(self.shadow(peer));
        let mut shadow = Shadow { floor, records, applied, ..Shadow::default() };
        if old.floor < floor && old.records.contains_key(&floor) {
            // The snapshot is of what it wrote down itself, which perhaps nobody has been seen to apply yet.
            shadow.floor = old.floor;
            shadow.records.extend(old.records.into_iter().filter(|(zxid, _)| *zxid <= floor));
        }
        *self.shadow(peer) = shadow;
    }

    /// A server has read its state anew.
    pub(super) fn reloaded(&mut self, peer: PeerId, applied: Zxid) {
        let shadow = self.shadow(peer);
        shadow.applied = applied;
        shadow.agreed = shadow.agreed.min(applied);
        shadow.proved = Zxid::ZERO;
    }

    /// A leader's snapshot has taken the place of a server's state.
    pub(super) fn installed(&mut self, peer: PeerId, zxid: Zxid) {
        let shadow = self.shadow(peer);
        shadow.records.clear();
        shadow.floor = zxid;
        shadow.applied = zxid;
        shadow.agreed = Zxid::ZERO;
        shadow.proved = Zxid::ZERO;
    }

    /// **zxids rise**, and within an epoch without gaps: each record that is ordered from a log is the next one, or the
    /// first of a later epoch. **A zxid says what it is and what came before it**: on all servers of an ensemble it is the
    /// same transaction behind the same one. A server on its own keeps its epoch when it starts again, and writes anew
    /// what it lost before it was durable.
    pub(super) fn appended(&mut self, peer: PeerId, zxid: Zxid, payload: Bytes) -> Checked {
        let shadow = self.shadow(peer);
        let last = shadow.last();
        let follows = last.next() == Some(zxid) || (zxid.epoch() > last.epoch() && zxid.counter() == 1);
        ensure(follows, "zxids rise without gaps", || {
            format!("server {} writes {zxid} after {last}", peer.0)
        })?;
        shadow.records.insert(zxid, payload.clone());
        let origin = Origin { before: last, payload };
        match self.origins.insert(zxid, origin.clone()) {
            Some(other) if !self.alone => ensure(other == origin, "a zxid says what came before it", || {
                format!(
                    "server {} writes {zxid} behind {last}, another was written behind {}",
                    peer.0, other.before
                )
            }),
            _ => Ok(()),
        }
    }

    /// **What is committed is not cut away**, unless the server that cuts has not got it from this history.
    pub(super) fn truncated(&mut self, peer: PeerId, after: Zxid) -> Checked {
        let committed = &self.committed;
        let shadow = self.shadows.entry(peer).or_default();
        let gone = shadow.records.range(next(after)..);
        for (zxid, payload) in gone {
            let same = committed.get(zxid).is_some_and(|entry| entry.hash == hash(payload));
            ensure(!same, "what is committed is not cut away", || {
                format!("server {} cuts its log behind {after}, and {zxid} is committed", peer.0)
            })?;
        }
        shadow.records.retain(|zxid, _| *zxid <= after);
        shadow.agreed = shadow.agreed.min(after);
        shadow.proved = shadow.proved.min(after);
        Ok(())
    }

    /// Where a server's tree stands after a step. If it has moved, everything up to there is committed; except in a
    /// leader that is not established yet, which may have to send a state that reaches to the end of its log.
    pub(super) fn stepped(
        &mut self,
        peer: PeerId,
        now_us: i64,
        stand: Stand,
        disks: &[(PeerId, &Durable)],
    ) -> Checked {
        let Stand { zxid, digest, early } = stand;
        let applied = self.shadow(peer).applied;
        ensure(zxid >= applied, "a tree never goes back", || {
            format!("the tree of server {} went from {applied} to {zxid}", peer.0)
        })?;
        if zxid == applied {
            return Ok(());
        }
        self.shadow(peer).applied = zxid;
        if early {
            return Ok(());
        }
        self.commit(peer, now_us, zxid, disks)?;
        self.digest(peer, zxid, digest)
    }

    /// **Equal zxid, equal digest**: on all servers, and as a tree has it that only ever saw the committed
    /// transactions, one by one.
    pub(super) fn digest(&self, peer: PeerId, zxid: Zxid, digest: u64) -> Checked {
        let Some(entry) = self.committed.get(&zxid) else { return Ok(()) };
        ensure(entry.digest == digest, "equal zxid, equal digest", || {
            format!("server {} has {digest:#x} at {zxid} instead of {:#x}", peer.0, entry.digest)
        })
    }

    /// **Committed prefixes agree**: what this server holds up to `upto` is what is committed, element by element; and
    /// what is new becomes so. Nothing may be missing in between: what was ever acknowledged is in here.
    pub(super) fn commit(
        &mut self,
        peer: PeerId,
        now_us: i64,
        upto: Zxid,
        disks: &[(PeerId, &Durable)],
    ) -> Checked {
        self.believe_floor(peer, now_us, disks)?;
        let shadow = &self.shadows[&peer];
        let from = shadow.agreed.max(shadow.floor);
        if from >= upto {
            return Ok(());
        }
        let mine: Vec<(Zxid, Bytes)> =
            shadow.records.range(next(from)..=upto).map(|(zxid, payload)| (*zxid, payload.clone())).collect();
        let last = self.last();
        let theirs: Vec<Zxid> = self.committed.range(next(from)..=upto).map(|(zxid, _)| *zxid).collect();
        for zxid in &theirs {
            ensure(mine.iter().any(|(mine, _)| mine == zxid), "what is committed is never lost", || {
                format!("server {} goes on from {from} to {upto} without {zxid}", peer.0)
            })?;
        }
        for (zxid, payload) in mine {
            match self.committed.get(&zxid) {
                Some(entry) => ensure(entry.hash == hash(&payload), "committed prefixes agree", || {
                    format!("server {} has another transaction {zxid}", peer.0)
                })?,
                None => {
                    ensure(zxid > last, "committed prefixes agree", || {
                        format!("server {} has {zxid}, and {last} was committed without it", peer.0)
                    })?;
                    self.extend(peer, now_us, zxid, &payload, disks)?;
                }
            }
        }
        self.shadow(peer).agreed = upto;
        Ok(())
    }

    /// A snapshot may hold what nobody has been seen to apply yet. All of it was written into a log once; the record may
    /// be gone since, for a server that finds its log covered by a snapshot begins with the snapshot.
    fn believe_floor(&mut self, peer: PeerId, now_us: i64, disks: &[(PeerId, &Durable)]) -> Checked {
        let rule = "committed prefixes agree";
        let (floor, last) = (self.shadows[&peer].floor, self.last());
        let (mut at, mut new) = (floor, Vec::new());
        while at > last {
            let origin = self.origins.get(&at).cloned().ok_or_else(|| {
                let text =
                    format!("server {} goes on from the snapshot {floor}, and nobody wrote {at}", peer.0);
                Violation::new(rule, text)
            })?;
            new.push((at, origin.payload));
            at = origin.before;
        }
        ensure(new.is_empty() || at == last, rule, || {
            format!(
                "server {} goes on from the snapshot {floor}, and {last} was committed without it",
                peer.0
            )
        })?;
        for (zxid, payload) in new.into_iter().rev() {
            self.extend(peer, now_us, zxid, &payload, disks)?;
        }
        Ok(())
    }

    /// **Committed means durable on a quorum**, at the very moment when the first server applies it.
    fn extend(
        &mut self,
        peer: PeerId,
        now_us: i64,
        zxid: Zxid,
        payload: &Bytes,
        disks: &[(PeerId, &Durable)],
    ) -> Checked {
        let number = hash(payload);
        let holds = |disk: &Durable| {
            zxid <= disk.floor || disk.records.get(&zxid).is_some_and(|found| *found == number)
        };
        let holders: BTreeSet<PeerId> =
            disks.iter().filter(|(_, disk)| holds(disk)).map(|(peer, _)| *peer).collect();
        let roll = self.rolls.before(zxid);
        ensure(roll.is_majority(&holders), "committed means durable on a quorum", || {
            format!("server {} applies {zxid}, which is durable on {holders:?} of {:?}", peer.0, roll.members)
        })?;
        let logged = LoggedTxn::decode(payload.clone())
            .map_err(|error| Violation::new("payloads are transactions", error.to_string()))?;
        ensure(logged.header.zxid == zxid, "a transaction stands in its place", || {
            format!("{} stands at {zxid}", logged.header.zxid)
        })?;
        if let Some(text) = made_by(&logged) {
            self.members_change(zxid, text, &holders)?;
        }
        self.not_expired_early(now_us, &logged)?;
        self.once_and_in_order(&logged)?;
        self.swept_when_due(&logged)?;
        self.model
            .apply(&logged)
            .map_err(|text| Violation::new("sessions own their ephemeral nodes", text))?;
        self.reference.apply(&logged.header, &logged.txn, &mut Vec::new());
        self.quota_counts(None, &self.reference)?;
        let digest = self.reference.digest();
        let (session, cxid) = (logged.header.session, logged.header.cxid);
        self.committed.insert(zxid, Committed { hash: number, digest, session, cxid });
        Ok(())
    }

    /// **A client's requests take effect once and in their order**, those that are refused too; but for those that come
    /// late from a server which the client has left.
    fn once_and_in_order(&mut self, logged: &LoggedTxn) -> Checked {
        let header = &logged.header;
        let late = matches!(logged.txn, Txn::Error(ErrorCode::SESSION_MOVED | ErrorCode::SESSION_EXPIRED));
        if header.cxid == 0 || late {
            return Ok(());
        }
        let last = self.last_cxid.insert(header.session, header.cxid).unwrap_or(0);
        ensure(header.cxid > last, "a client's requests take effect once and in their order", || {
            format!(
                "request {} of session {} stands at {} behind {last}",
                header.cxid, header.session, header.zxid
            )
        })
    }

    /// **A session does not end before its time**: not earlier than its timeout after its owner sent something that was
    /// answered. Clocks may run a tenth faster than ours.
    fn not_expired_early(&self, now_us: i64, logged: &LoggedTxn) -> Checked {
        let header = &logged.header;
        let (Txn::CloseSession { .. }, 0) = (&logged.txn, header.cxid) else { return Ok(()) };
        let Some((timeout_ms, proved_us)) = self.owners.get(&header.session) else { return Ok(()) };
        let silent_us = now_us - proved_us;
        let least_us = i64::from(*timeout_ms) * 880 - self.early_us;
        ensure(silent_us >= least_us, "a session does not end before its time", || {
            format!(
                "session {} ended {} ms after its owner was heard, its timeout is {timeout_ms} ms",
                header.session,
                silent_us / 1_000
            )
        })
    }

    // ---- what servers say to each other ----

    /// A message was delivered.
    pub(super) fn delivered(&mut self, peer: PeerId, link: LinkId, message: &Message) {
        if let Message::LeaderInfo { epoch, .. } = message {
            self.shadow(peer).promised.insert(link, *epoch);
        }
    }

    /// A message is sent. What it promises must hold on the disk of the sender.
    pub(super) fn sent(
        &mut self,
        peer: PeerId,
        link: LinkId,
        now_us: i64,
        message: &Message,
        disks: &[(PeerId, &Durable)],
        own: &Durable,
    ) -> Checked {
        match message {
            Message::LeaderInfo { epoch, .. } => {
                self.shadow(peer).offered = Some(*epoch);
                ensure(own.epochs.accepted >= *epoch, "an epoch is durable before it is offered", || {
                    format!("leader {} offers {epoch}, its disk has {:?}", peer.0, own.epochs)
                })
            }
            Message::AckEpoch { .. } => {
                let promised = self.shadow(peer).promised.get(&link).copied().unwrap_or(0);
                ensure(own.epochs.accepted >= promised, "an epoch is durable before it is promised", || {
                    format!("server {} promises {promised}, its disk has {:?}", peer.0, own.epochs)
                })
            }
            Message::Ack(zxid) => self.ack_is_durable(peer, *zxid, own),
            // It may have established itself and handed over in one step.
            Message::UpToDate => {
                let epoch = self.shadow(peer).offered.unwrap_or(0);
                self.established(peer, epoch, now_us, disks)
            }
            _ => Ok(()),
        }
    }

    /// **An ack means durable**: the record and all before it; with counter 0 the leader's whole history, and that it
    /// is followed.
    fn ack_is_durable(&mut self, peer: PeerId, zxid: Zxid, own: &Durable) -> Checked {
        let rule = "an ack means durable";
        let shadow = &self.shadows[&peer];
        let upto = if zxid.counter() == 0 {
            ensure(own.epochs.current >= zxid.epoch(), rule, || {
                format!("server {} follows {}, its disk has {:?}", peer.0, zxid.epoch(), own.epochs)
            })?;
            Zxid(zxid.0 - 1)
        } else {
            ensure(shadow.last() >= zxid, rule, || {
                format!("server {} acknowledges {zxid} and has {}", peer.0, shadow.last())
            })?;
            zxid
        };
        let from = next(shadow.proved);
        let missing = match from <= upto {
            true => shadow.records.range(from..=upto).map(|(zxid, _)| *zxid).find(|zxid| !own.holds(*zxid)),
            false => None,
        };
        ensure(missing.is_none(), rule, || {
            format!("server {} acknowledges {zxid}, and its disk has not got {missing:?}", peer.0)
        })?;
        let shadow = self.shadow(peer);
        shadow.proved = shadow.proved.max(upto);
        Ok(())
    }

    /// **One leader for each epoch**, and **an established leader has everything that was committed in the epochs before
    /// its own**; with its establishment all that it has is committed. One that stood still while others went on with a
    /// newer epoch may hear of its own establishment late: what they have committed it need not have, for nobody who has
    /// accepted their epoch acknowledges anything of its own.
    pub(super) fn established(
        &mut self,
        peer: PeerId,
        epoch: u32,
        now_us: i64,
        disks: &[(PeerId, &Durable)],
    ) -> Checked {
        match self.leaders.get(&epoch) {
            Some(leader) if *leader == peer => return Ok(()),
            Some(leader) => {
                let text = format!("{} and {} both lead epoch {epoch}", leader.0, peer.0);
                return Err(Violation::new("one leader for each epoch", text));
            }
            None => self.leaders.insert(epoch, peer),
        };
        let before =
            self.committed.range(..Zxid::new(epoch, 0)).next_back().map_or(Zxid::ZERO, |(zxid, _)| *zxid);
        let mine = self.shadow(peer).last();
        ensure(mine >= before, "a leader has all that is committed", || {
            format!("leader {} of epoch {epoch} ends at {mine}, and {before} is committed", peer.0)
        })?;
        // What it was given in its own epoch is not committed by its establishment.
        let inherited = match self.shadow(peer).records.range(..Zxid::new(epoch, 0)).next_back() {
            Some((zxid, _)) => (*zxid).max(self.shadow(peer).floor),
            None => self.shadow(peer).floor,
        };
        self.commit(peer, now_us, inherited, disks)
    }

    // ---- registers ----

    /// An operation on a register begins.
    pub(super) fn record(&mut self, register: usize, operation: Operation) -> usize {
        let Some(history) = self.registers.get_mut(register) else { return 0 };
        history.push(Some(operation));
        history.len() - 1
    }

    /// It has returned.
    pub(super) fn settle(&mut self, register: usize, at: usize, seen: Seen) {
        let moment = self.moment();
        if let Some(Some(operation)) =
            self.registers.get_mut(register).and_then(|history| history.get_mut(at))
        {
            operation.ret = moment;
            operation.seen = seen;
        }
    }

    /// A read that got no answer says nothing.
    pub(super) fn forget_read(&mut self, register: usize, at: usize) {
        if let Some(history) = self.registers.get_mut(register) {
            history[at] = None;
        }
    }

    /// A write that was refused for another reason than the register's state did not happen.
    pub(super) fn forget_write(&mut self, register: usize, at: usize) {
        self.forget_read(register, at);
    }

    // ---- the end ----

    /// **Registers are linearizable**: their writes and the reads behind a `sync` have an order that explains all
    /// answers, found without looking at zxids.
    pub(super) fn registers_are_linearizable(&mut self) -> Checked {
        for (register, history) in self.registers.iter().enumerate() {
            let operations: Vec<Operation> = history.iter().flatten().copied().collect();
            match linear::check(&operations) {
                Verdict::Linearizable => {}
                Verdict::GaveUp => self.undecided += 1,
                Verdict::Refuted => {
                    return Err(Violation::new(
                        "registers are linearizable",
                        format!(
                            "no order explains the {} operations on /r{register}, from {:?} on",
                            operations.len(),
                            linear::culprit(&operations)
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    /// **Ephemeral nodes do not outlive their session**: of the sessions that were open when the clients fell silent only
    /// those are left that a client still has, and all that were refused have ended.
    pub(super) fn sessions_have_ended(
        &self,
        before: &BTreeSet<SessionId>,
        owned: &BTreeSet<SessionId>,
    ) -> Checked {
        let left = before
            .iter()
            .find(|session| self.model.sessions.contains_key(session) && !owned.contains(session));
        ensure(left.is_none(), "sessions end when their time is over", || {
            format!("session {left:?} belongs to nobody and is still open")
        })?;
        let alive = self.refused.iter().find(|session| self.model.sessions.contains_key(session));
        ensure(alive.is_none(), "only sessions that end are refused", || {
            format!("session {alive:?} was refused and is open")
        })
    }
}
