//! The other servers of the ensemble: their messages go to agreement, and what agreement asks for is carried out.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use docent::proto::ConnectRequest;
use docent::{SessionId, Xid, Zxid};

use super::conn::Origin;
use super::event::State;
use super::txn::LoggedTxn;
use super::write::InFlight;
use super::{ConnId, Effect, Effects, Event, Node};
use crate::session::Home;
use crate::zab::{ForwardedRequest, FromLeader, FromLearner, LinkId, Message, Output, PeerId};

/// A handshake that waits for a leader.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) id: ConnId,
    pub(super) origin: Origin,
    pub(super) request: ConnectRequest,
}

/// A connection that asked for a session, of which the leader was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reviving {
    pub(super) id: ConnId,
    pub(super) timeout_ms: i32,
}

/// A `sync` that waits at the leader.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeaderSync {
    /// The proof that must be there: that nobody else led when it came.
    pub(super) proof: u64,
    /// What must be applied: all that was proposed when it came.
    pub(super) after: Zxid,
    pub(super) waiting: Waiting,
}

/// Who waits for a `sync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// A learner; it knows for whom.
    Learner(LinkId),
    /// A client of our own, and its request.
    Client(ConnId, Xid),
}

/// What a member of an ensemble keeps beside agreement itself.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// Handshakes that wait for a leader, in the order of their arrival.
    pub(super) parked: VecDeque<Parked>,
    /// Connections whose new session the leader was asked for.
    pub(super) opening: BTreeMap<SessionId, ConnId>,
    /// Connections that wait for the leader's word on their session.
    pub(super) reviving: BTreeMap<SessionId, Reviving>,
    /// Sessions that were heard since the leader's last ping, with their timeouts.
    pub(super) touched: BTreeMap<SessionId, i32>,
    /// A learner's connections that wait for a `sync`, and its xid, in the order in which the leader was asked.
    pub(super) syncs: VecDeque<(ConnId, Xid)>,
    /// Who waits at a leader for a `sync`, in the order in which they came.
    pub(super) leader_syncs: VecDeque<LeaderSync>,
    /// Learners of Apache's that wait at a leader for a `sync`, and the commit behind which it is answered.
    pub(super) apache_syncs: VecDeque<(Zxid, LinkId)>,
    /// The transaction that the leader's message carries, read before it is taken into the log.
    decoded: Option<LoggedTxn>,
    carrying: bool,
    batch: Vec<Output>,
}

impl Node {
    /// Everything that concerns other servers.
    pub(super) fn on_peers(&mut self, event: Event, fx: &mut Effects) {
        let (now_ms, out) = (self.now.mono_ms, &mut self.outputs);
        match event {
            Event::Notified { from, notification } => {
                self.replica.on_notification(now_ms, from, &notification, out);
            }
            Event::ElectionLink { peer, up } => self.replica.on_election_link(now_ms, peer, up, out),
            Event::Dialed { peer, link } => self.replica.on_dialed(now_ms, peer, link, out),
            Event::Peer { link, message } => self.on_peer_message(link, message, fx),
            Event::PeerSnapshot { link, zxid, state } => {
                if self.replica.on_snapshot(now_ms, link, zxid, out) {
                    self.replace_state(*state, fx);
                    self.digests.received();
                    self.upkeep.restart(&self.config);
                }
            }
            Event::PeerLost(link) => self.replica.on_link_lost(now_ms, link, out),
            Event::PeerHasRoom(link) => {
                if !self.on_snapshot_room(link, fx) {
                    self.replica.on_room(now_ms, link, &mut self.outputs);
                }
            }
            Event::LogRead { link, after, records } => {
                self.replica.on_log_read(now_ms, link, after, records, out);
            }
            Event::Reloaded { order, state } => {
                self.replace_state(*state, fx);
                self.replica.on_synced(now_ms, order, &mut self.outputs);
            }
            other => unreachable!("{other:?} is handled where it comes in"),
        }
        self.carry_out(fx);
        self.maybe_snapshot(fx);
    }

    /// A transaction is read before it is taken into the log: one that cannot be read must not get there.
    fn on_peer_message(&mut self, link: LinkId, message: Message, fx: &mut Effects) {
        if let Message::Proposal { zxid, payload }
        | Message::Inform { zxid, payload }
        | Message::InformAndActivate { zxid, payload, .. } = &message
        {
            match LoggedTxn::decode(payload.clone()) {
                Ok(logged) if logged.header.zxid == *zxid => self.peers.decoded = Some(logged),
                broken => {
                    tracing::error!(%zxid, ?broken, "a leader sends what is no transaction");
                    fx.push(Effect::Hangup(link));
                    self.replica.on_link_lost(self.now.mono_ms, link, &mut self.outputs);
                    return;
                }
            }
        }
        self.replica.on_message(self.now.mono_ms, link, message, &mut self.outputs);
    }

    /// Another state takes the place of ours. Nobody can say what became of what clients wait for, nor which watches
    /// should have fired.
    fn replace_state(&mut self, state: State, fx: &mut Effects) {
        self.close_all(fx);
        self.abandon_snapshot();
        self.in_flight.clear();
        self.tree = state.tree;
        self.sessions.replace(&state.sessions, self.now.mono_ms);
        self.outstanding = super::Outstanding::new(self.tree.digest());
        self.waiting.clear();
    }

    /// Carries out what agreement has asked for, in order. What is asked for on the way comes behind it.
    pub(super) fn carry_out(&mut self, fx: &mut Effects) {
        if std::mem::replace(&mut self.peers.carrying, true) {
            return;
        }
        let mut batch = std::mem::take(&mut self.peers.batch);
        while !self.outputs.is_empty() {
            std::mem::swap(&mut batch, &mut self.outputs);
            for output in batch.drain(..) {
                self.on_output(output, fx);
            }
        }
        self.peers.batch = batch;
        self.peers.carrying = false;
        self.peers.decoded = None;
    }

    /// One arm per wish.
    fn on_output(&mut self, output: Output, fx: &mut Effects) {
        match output {
            Output::Append { order, zxid, payload } => fx.push(Effect::Append { order, zxid, payload }),
            Output::Commit(upto) => self.commit_up_to(upto, fx),
            Output::Send { link, message } => self.send(link, message, fx),
            Output::Logged { zxid, payload } => self.on_logged(zxid, &payload),
            Output::Foreseen(upto) => self.on_foreseen(upto, fx),
            Output::FromLearner { link, peer, said } => self.on_learner(link, peer, said, fx),
            Output::FromLeader(said) => self.on_leader(said, fx),
            Output::Notify(ballot) => {
                fx.push(Effect::Notify { to: ballot.to, notification: ballot.notification });
            }
            Output::Dial { peer, hearsay } => fx.push(Effect::Dial { peer, hearsay }),
            Output::AskRoom(link) => fx.push(Effect::AskRoom(link)),
            Output::Hangup(link) => fx.push(Effect::Hangup(link)),
            Output::ReadLog { link, after } => {
                fx.push(Effect::ReadLog { link, after, max_bytes: self.config.sizes.log_read_bytes });
            }
            Output::SaveEpochs { order, epochs } => {
                fx.push(Effect::SaveEpochs { order, accepted: epochs.accepted, current: epochs.current });
            }
            Output::Truncate { order, after } => self.on_truncate(order, after, fx),
            Output::ApplyAll => {
                self.close_all(fx);
                self.commit_up_to(self.replica.last_logged(), fx);
            }
            Output::SendSnapshot(link) => self.send_snapshot(link, fx),
            Output::Proved => self.answer_syncs(fx),
            Output::Members => self.on_members(fx),
            Output::Turn(turn) => self.on_turn(turn, fx),
        }
    }

    fn on_logged(&mut self, zxid: Zxid, payload: &Bytes) {
        let Some(logged) = self.peers.decoded.take() else {
            unreachable!("{zxid} is taken into the log and was not read");
        };
        self.upkeep.count_append(payload.len());
        self.in_flight.push_back(InFlight::logged(logged, payload.len()));
    }

    /// While we are brought level, what is to be applied is kept, so that clients stay. A server that is far behind does
    /// not keep it all: it goes on without clients.
    fn on_foreseen(&mut self, upto: Zxid, fx: &mut Effects) {
        if self.in_flight.bytes() > self.config.sizes.held_bytes_max {
            self.close_all(fx);
            self.replica.apply_early(upto);
            self.commit_up_to(upto, fx);
        }
    }

    fn on_truncate(&mut self, order: u64, after: Zxid, fx: &mut Effects) {
        self.in_flight.truncate(after);
        self.abandon_snapshot();
        let reload = self.tree.last_zxid() > after;
        if reload {
            self.close_all(fx);
        }
        fx.push(Effect::Truncate { order, after, reload });
    }

    fn on_learner(&mut self, link: LinkId, peer: PeerId, said: FromLearner, fx: &mut Effects) {
        match said {
            FromLearner::Request(request) if request.op == docent::proto::OpCode::Sync => {
                self.on_learners_sync(link, &request, fx);
            }
            FromLearner::Request(request) => self.propose_forwarded(peer, request, fx),
            FromLearner::Revalidate(session, timeout_ms) => {
                self.on_revalidate(link, peer, session, timeout_ms, fx);
            }
            FromLearner::Touched(sessions) => {
                for (session, _) in sessions {
                    self.sessions.touch(session, self.now.mono_ms);
                }
            }
            FromLearner::Gone => {
                self.peers.leader_syncs.retain(|sync| sync.waiting != Waiting::Learner(link));
                self.peers.apache_syncs.retain(|(_, waiting)| *waiting != link);
                self.forget_snapshot(link, fx);
            }
        }
    }

    fn on_learners_sync(&mut self, link: LinkId, request: &ForwardedRequest, fx: &mut Effects) {
        self.sessions.touch(request.session, self.now.mono_ms);
        if self.replica.is_ours(link) {
            self.wait_for_sync(Waiting::Learner(link), fx);
        } else if self.in_flight.is_empty() {
            fx.push(Effect::Send { link, message: Message::SyncDone });
        } else {
            self.peers.apache_syncs.push_back((self.last_to_apply(), link));
        }
    }

    /// A `sync` is answered when everything that was proposed when it came is applied, and when it is proved that this
    /// server still led then: a leader that was replaced does not know it at once.
    pub(super) fn wait_for_sync(&mut self, waiting: Waiting, fx: &mut Effects) {
        let after = self.last_to_apply();
        let proof = self.replica.prove(self.now.mono_ms, &mut self.outputs);
        self.peers.leader_syncs.push_back(LeaderSync { proof, after, waiting });
        self.carry_out(fx);
        self.answer_syncs(fx);
    }

    /// Answers the syncs that need not wait any longer.
    pub(super) fn answer_syncs(&mut self, fx: &mut Effects) {
        let (proved, applied) = (self.replica.proved(), self.tree.last_zxid());
        while let Some(LeaderSync { waiting, .. }) =
            self.peers.leader_syncs.pop_front_if(|sync| sync.proof <= proved && sync.after <= applied)
        {
            match waiting {
                // Through agreement's line, so that it stays behind the commits in it.
                Waiting::Learner(link) => {
                    self.outputs.push(Output::Send { link, message: Message::SyncDone });
                }
                Waiting::Client(id, xid) => self.settle_sync(id, xid, fx),
            }
        }
        self.carry_out(fx);
    }

    /// Sends a learner what agreement has for it. A `sync` of Apache's is answered right behind the commit that it waits
    /// for, and before the next: such a learner lines up its clients' writes and syncs in the order in which it has asked
    /// for them, and never answers a write whose commit overtakes the answer to a `sync` before it. So it cannot wait
    /// for a proof, and is worth there what it is worth under a leader of Apache's.
    fn send(&mut self, link: LinkId, message: Message, fx: &mut Effects) {
        let committed = match &message {
            Message::Commit(zxid)
            | Message::Inform { zxid, .. }
            | Message::CommitAndActivate { zxid, .. }
            | Message::InformAndActivate { zxid, .. } => Some(*zxid),
            _ => None,
        };
        fx.push(Effect::Send { link, message });
        if let Some(committed) = committed
            && !self.peers.apache_syncs.is_empty()
        {
            self.peers.apache_syncs.retain(|(after, waiting)| {
                let answered = *waiting == link && *after <= committed;
                if answered {
                    fx.push(Effect::Send { link, message: Message::SyncDone });
                }
                !answered
            });
        }
    }

    /// A session moves to a learner, if it is alive.
    fn on_revalidate(
        &mut self,
        link: LinkId,
        peer: PeerId,
        session: SessionId,
        timeout_ms: i32,
        fx: &mut Effects,
    ) {
        let valid = self.sessions.is_alive(session);
        if valid && let Some(known) = self.sessions.get_mut(session) {
            known.owner = Some(Home(peer.0));
            known.timeout_ms = timeout_ms;
            let here = known.conn;
            self.sessions.touch(session, self.now.mono_ms);
            if let Some(id) = here {
                self.close(id, fx);
            }
        }
        fx.push(Effect::Send { link, message: Message::Revalidated { session, valid } });
    }

    fn on_leader(&mut self, said: FromLeader, fx: &mut Effects) {
        match said {
            FromLeader::Ping(last) => {
                if let super::Service::Learning { link } = self.service {
                    let touched = std::mem::take(&mut self.peers.touched).into_iter().collect();
                    fx.push(Effect::Send { link, message: Message::Ping { last, touched } });
                }
            }
            FromLeader::Revalidated(session, valid) => self.on_revalidated(session, valid, fx),
            FromLeader::SyncDone => self.on_sync_done(fx),
        }
    }
}
