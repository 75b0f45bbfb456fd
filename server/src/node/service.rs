//! Whether clients are served, and what becomes of them when that changes.
//!
//! A member of an ensemble serves while it leads with a quorum or is level with a leader. Between two leaders its clients
//! keep their connections: what they send is kept in their lanes, reads wait, handshakes are parked. When there is a
//! leader again, each write that is under way is looked up: it is in the new history and will be answered from there,
//! or it is not, and then it never will be, because the leader that was asked leads no more; so it is asked for again,
//! once, in the order of its connection. Only where that cannot be known – a write that this server proposed itself and
//! that was cut away, or a state that came as a whole – is the connection closed, and the client told what that always
//! means. After [`EnsembleConfig::leaderless_grace_ms`](super::EnsembleConfig) without a leader everybody is sent away:
//! another server may have one.

use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use docent::proto::jute::{Reader, put_string};
use docent::proto::{ConnectRequest, OpCode, Request};
use docent::{SessionId, Xid, Zxid};

use super::conn::{Origin, Owed, Phase, Sent};
use super::outstanding::Outstanding;
use super::peers::{Parked, Reviving, Waiting};
use super::read::Local;
use super::{ConnId, Effect, Effects, Node};
use crate::limits::PARKED_HANDSHAKES_MAX;
use crate::session::{Home, Turn as LaneTurn};
use crate::zab::{ForwardedRequest, LinkId, Message, PeerId, Turn};

/// In which way requests are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// By a server that is alone.
    Alone,
    /// By the leader.
    Leading,
    /// By a follower or observer: writes go to the leader.
    Learning { link: LinkId },
    /// Reads only, by a member without a leader, see `read_only`.
    ReadOnly,
    /// Not at all for the moment.
    Down { since_ms: i64, sent_away: bool },
}

impl Service {
    /// Whether writes are judged here.
    pub(super) fn leads(self) -> bool {
        matches!(self, Service::Alone | Service::Leading)
    }
}

/// A request that has to be asked for again.
enum Again {
    Write(Owed, Option<Bytes>),
    Sync(Owed, String),
}

impl Node {
    /// A session was heard: the leader counts its time, a learner tells the leader.
    pub(super) fn heard(&mut self, session: SessionId) {
        if self.locals.touch(session, self.now.mono_ms) {
            // Nobody else counts its time.
        } else if self.service.leads() {
            self.sessions.touch(session, self.now.mono_ms);
        } else if let Some(known) = self.sessions.get(session) {
            self.peers.touched.insert(session, known.timeout_ms);
        }
    }

    /// Sends a client's write to the leader, if there is one; it stands in its lane with all that is needed to send it
    /// later.
    pub(super) fn forward(
        &mut self,
        id: ConnId,
        session: SessionId,
        owed: Owed,
        body: Bytes,
        fx: &mut Effects,
    ) {
        let Service::Learning { link } = self.service else { return };
        let identities = self.conns.get(&id).map_or(&[][..], |conn| &conn.identities);
        let identities =
            identities.iter().map(|identity| (identity.scheme.clone(), identity.id.clone())).collect();
        let request = ForwardedRequest { session, cxid: owed.xid.0, op: owed.op, body, identities };
        fx.push(Effect::Send { link, message: Message::Request(request) });
    }

    /// Asks the leader for a new session.
    pub(super) fn forward_session(&mut self, session: SessionId, timeout_ms: i32, fx: &mut Effects) {
        let Service::Learning { link } = self.service else { return };
        let mut body = BytesMut::with_capacity(4);
        body.put_i32(timeout_ms);
        let request = ForwardedRequest {
            session,
            cxid: 0,
            op: OpCode::CreateSession,
            body: body.freeze(),
            identities: Vec::new(),
        };
        fx.push(Effect::Send { link, message: Message::Request(request) });
    }

    /// The last transaction that was proposed or applied. Not the number that was taken last: a leader's first one is that
    /// of its epoch, which no transaction has, and who waits for it waits until somebody writes.
    pub(super) fn last_to_apply(&self) -> Zxid {
        self.in_flight.last().unwrap_or(self.tree.last_zxid())
    }

    /// `sync`: what counts is what was proposed when it came. Its client's own later writes may be under way by the time
    /// its turn comes, and must not hold it up, since it is answered before them.
    pub(super) fn on_sync(
        &mut self,
        id: ConnId,
        session: SessionId,
        owed: Owed,
        path: String,
        fx: &mut Effects,
    ) {
        let after = (self.service == Service::Alone).then(|| self.last_to_apply());
        self.on_local(id, Local::Sync { owed, path: path.clone(), after }, fx);
        match self.service {
            Service::Leading => self.wait_for_sync(Waiting::Client(id, owed.xid), fx),
            Service::Learning { .. } => self.forward_sync(id, session, owed, &path, fx),
            Service::Alone | Service::ReadOnly | Service::Down { .. } => {}
        }
    }

    fn forward_sync(&mut self, id: ConnId, session: SessionId, owed: Owed, path: &str, fx: &mut Effects) {
        if let Service::Learning { .. } = self.service {
            self.peers.syncs.push_back((id, owed.xid));
            let mut body = BytesMut::new();
            put_string(&mut body, path);
            self.forward(id, session, owed, body.freeze(), fx);
        }
    }

    /// The leader says that the oldest `sync` is through: everything it covers is applied. Its client may have been
    /// answered already, see [`Node::free_lane`].
    pub(super) fn on_sync_done(&mut self, fx: &mut Effects) {
        if let Some((id, xid)) = self.peers.syncs.pop_front() {
            self.settle_sync(id, xid, fx);
        }
    }

    /// A `sync` need not wait any longer than for its turn.
    pub(super) fn settle_sync(&mut self, id: ConnId, xid: Xid, fx: &mut Effects) {
        let applied = self.tree.last_zxid();
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let this = conn.lane.iter_mut().find_map(|turn| match turn {
            LaneTurn::Local(Local::Sync { owed, after: after @ None, .. }) if owed.xid == xid => Some(after),
            _ => None,
        });
        if let Some(after) = this {
            *after = Some(applied);
            self.drain_lane(id, fx);
        }
    }

    /// Right before a write of the leader's is applied: what its client asked for before it is answered. If it asked
    /// for it elsewhere, it has gone to another server, and what it asked for here must not come behind that. A `sync` among
    /// it is through, although the leader, which commits many writes with one word, has not said so yet: it took the
    /// `sync` before the write.
    pub(super) fn free_lane(&mut self, session: SessionId, cxid: i32, fx: &mut Effects) {
        let applied = self.tree.last_zxid();
        let Some(id) = self.conn_of(session) else { return };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.lane.first_write().is_some_and(|sent| sent.owed.xid.0 == cxid) {
            return;
        }
        let first = conn.lane.iter().find_map(|turn| match turn {
            LaneTurn::Write(sent) => Some(sent.owed.xid.0),
            LaneTurn::Local(_) => None,
        });
        match first {
            Some(first) if first == cxid => {}
            Some(first) if cxid != 0 && cxid.wrapping_sub(first) > 0 => return self.close(id, fx),
            _ => return,
        }
        for turn in conn.lane.iter_mut() {
            match turn {
                LaneTurn::Write(_) => break,
                LaneTurn::Local(Local::Sync { after, .. }) => *after = Some(applied),
                LaneTurn::Local(_) => {}
            }
        }
        self.drain_lane_now(id, fx);
    }

    /// A handshake while nobody is served.
    pub(super) fn park(&mut self, id: ConnId, origin: Origin, request: &ConnectRequest, fx: &mut Effects) {
        let sent_away = matches!(self.service, Service::Down { sent_away: true, .. });
        if sent_away || self.peers.parked.len() >= PARKED_HANDSHAKES_MAX {
            self.metrics.connections_rejected += 1;
            fx.push(Effect::Close(id));
            return;
        }
        self.peers.parked.push_back(Parked { id, origin, request: request.clone() });
    }

    /// Asks the leader whether a session may be taken up here. Who asked for the same session before has given up.
    pub(super) fn ask_leader(&mut self, id: ConnId, request: &ConnectRequest, fx: &mut Effects) {
        let Service::Learning { link } = self.service else { return };
        let timeout_ms = self.negotiate(request.timeout_ms);
        let session = request.session;
        if let Some(old) = self.peers.reviving.insert(session, Reviving { id, timeout_ms }) {
            self.close(old.id, fx);
        }
        fx.push(Effect::Send { link, message: Message::Revalidate { session, timeout_ms } });
    }

    /// The leader's answer to [`Node::ask_leader`], or to the question for a session that is connected here.
    pub(super) fn on_revalidated(&mut self, session: SessionId, valid: bool, fx: &mut Effects) {
        let here = self.sessions.get(session).is_some();
        match self.peers.reviving.remove(&session) {
            Some(Reviving { id, timeout_ms }) if valid && here => self.take_up(id, session, timeout_ms, fx),
            // It is alive, but not for us yet.
            Some(Reviving { id, .. }) if valid => self.close(id, fx),
            Some(Reviving { id, .. }) => self.refuse_session(id, fx),
            None if valid => {}
            None => {
                if let Some(id) = self.sessions.get(session).and_then(|session| session.conn) {
                    self.close(id, fx);
                }
            }
        }
    }

    /// The numbers of the epoch are used up: the ensemble begins the next one. Clients stay.
    pub(super) fn out_of_numbers(&mut self, fx: &mut Effects) {
        self.replica.resign(self.now.mono_ms, &mut self.outputs);
        self.carry_out(fx);
    }

    /// Before a write or handshake is taken on: makes sure that a leader has a number for it.
    pub(super) fn mind_numbers(&mut self, fx: &mut Effects) {
        if self.service == Service::Leading && self.replica.next_zxid().is_none() {
            self.out_of_numbers(fx);
        }
    }

    /// This server has become something else.
    pub(super) fn on_turn(&mut self, turn: Turn, fx: &mut Effects) {
        self.dismiss_guests(fx);
        match turn {
            Turn::Looking => self.stop_serving(fx),
            Turn::Leading { epoch } => {
                assert!(
                    self.in_flight.is_empty(),
                    "{} transactions of epochs before {epoch} are not applied",
                    self.in_flight.len()
                );
                self.service = Service::Leading;
                self.digests.level();
                self.sessions.restart(Home(self.config.me.0), self.now.mono_ms);
                self.show_members();
                self.serve_again(fx);
                self.mind_clients(fx);
            }
            Turn::Learning { link, leader: PeerId(leader) } => {
                tracing::info!(leader, zxid = %self.tree.last_zxid(), "level with the leader");
                self.service = Service::Learning { link };
                self.digests.level();
                self.sessions.reopen();
                self.show_members();
                self.serve_again(fx);
                self.mind_clients(fx);
            }
        }
    }

    fn stop_serving(&mut self, fx: &mut Effects) {
        if self.is_serving() {
            self.service = Service::Down { since_ms: self.now.mono_ms, sent_away: false };
        }
        self.outstanding = Outstanding::new(self.tree.digest());
        self.proposed_sessions.clear();
        self.peers.syncs.clear();
        self.peers.leader_syncs.clear();
        self.peers.apache_syncs.clear();
        for write in self.in_flight.iter_mut() {
            if let Some((session, id)) = write.orphan() {
                self.peers.opening.insert(session, id);
            }
        }
        self.forget_all_snapshots(fx);
    }

    /// Goes on where everything stopped.
    fn serve_again(&mut self, fx: &mut Effects) {
        self.outstanding = Outstanding::new(self.tree.digest());
        self.waiting.clear();
        let pending = self.in_flight.befores(self.tree.last_zxid());
        self.proposed_sessions.clear();
        self.close_lost_openings(&pending, fx);
        self.upgrade_again(&pending, fx);
        let mut ids: Vec<ConnId> = self.conns.keys().copied().collect();
        ids.sort_unstable();
        for id in &ids {
            self.ask_again(*id, &pending, fx);
        }
        for (session, Reviving { id, timeout_ms }) in std::mem::take(&mut self.peers.reviving) {
            self.revive(session, id, timeout_ms, fx);
        }
        for Parked { id, origin, request } in std::mem::take(&mut self.peers.parked) {
            self.on_connect(id, origin, &request, fx);
        }
        for id in ids {
            self.drain_lane(id, fx);
        }
    }

    /// Handshakes whose session was proposed by a leader that is gone, and is not in the history.
    fn close_lost_openings(&mut self, pending: &BTreeMap<(SessionId, i32), Zxid>, fx: &mut Effects) {
        let opening = std::mem::take(&mut self.peers.opening);
        for (session, id) in opening {
            if pending.contains_key(&(session, 0)) {
                self.peers.opening.insert(session, id);
            } else {
                self.close(id, fx);
            }
        }
    }

    fn revive(&mut self, session: SessionId, id: ConnId, timeout_ms: i32, fx: &mut Effects) {
        if let Service::Learning { link } = self.service {
            self.peers.reviving.insert(session, Reviving { id, timeout_ms });
            fx.push(Effect::Send { link, message: Message::Revalidate { session, timeout_ms } });
        } else if self.sessions.is_alive(session) {
            self.take_up(id, session, timeout_ms, fx);
        } else {
            self.refuse_session(id, fx);
        }
    }

    /// Asks again for what a connection waits for and what is not in the history. A `sync` before a write that is in the
    /// history is through right before that write: the leader that took the write had answered for the `sync`.
    fn ask_again(&mut self, id: ConnId, pending: &BTreeMap<(SessionId, i32), Zxid>, fx: &mut Effects) {
        let leads = self.service.leads();
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Some(session) = conn.session() else { return };
        let here: Vec<i32> = conn
            .lane
            .iter()
            .filter_map(|turn| match turn {
                LaneTurn::Write(sent) => Some(sent.owed.xid.0),
                LaneTurn::Local(_) => None,
            })
            .collect();
        let behind = |cxid: i32| here.first().is_some_and(|first| cxid.wrapping_sub(*first) > 0);
        let mut logged = pending.range((session, i32::MIN)..=(session, i32::MAX)).map(|((_, cxid), _)| *cxid);
        if logged.any(|cxid| cxid != 0 && behind(cxid) && !here.contains(&cxid)) {
            // It has gone to another server, and what it asked for here must not come behind what it asked for there.
            self.close(id, fx);
            return;
        }
        let mut again = VecDeque::new();
        let mut covered = None;
        for turn in conn.lane.iter_mut().rev() {
            match turn {
                LaneTurn::Write(Sent { owed, body }) => match pending.get(&(session, owed.xid.0)) {
                    Some(before) => covered = Some(*before),
                    None => again.push_front(Again::Write(*owed, body.clone())),
                },
                LaneTurn::Local(Local::Sync { after, .. }) if covered.is_some() => *after = covered,
                LaneTurn::Local(Local::Sync { owed, path, after }) => {
                    *after = None;
                    again.push_front(Again::Sync(*owed, path.clone()));
                }
                LaneTurn::Local(_) => {}
            }
        }
        for what in again {
            match what {
                Again::Write(_, None) => {
                    // We proposed it ourselves, it was cut away, and its request is not kept.
                    self.close(id, fx);
                    return;
                }
                Again::Write(owed, Some(body)) if leads => {
                    let request = Request::decode(owed.op, &mut Reader::new(body)).ok().flatten();
                    self.propose_request(id, session, owed, request, fx);
                }
                Again::Write(..) if self.replica.may_lack_proposals() => {
                    // The leader may have proposed it, and tells us of it only when it is committed.
                    self.close(id, fx);
                    return;
                }
                Again::Write(owed, Some(body)) => self.forward(id, session, owed, body, fx),
                Again::Sync(owed, _) if leads => self.wait_for_sync(Waiting::Client(id, owed.xid), fx),
                Again::Sync(owed, path) => self.forward_sync(id, session, owed, &path, fx),
            }
        }
    }

    /// Sends everybody away when there was no leader for too long.
    pub(super) fn mind_service(&mut self, fx: &mut Effects) {
        if self.service_deadline().is_some_and(|due| due <= self.now.mono_ms)
            && let Service::Down { sent_away, .. } = &mut self.service
        {
            *sent_away = true;
            self.close_all(fx);
        }
        self.mind_read_only(fx);
    }

    pub(super) fn service_deadline(&self) -> Option<i64> {
        let grace_ms = self.config.ensemble.as_ref()?.leaderless_grace_ms;
        match self.service {
            Service::Down { since_ms, sent_away: false } => Some(since_ms + grace_ms),
            _ => None,
        }
    }

    /// Closes every connection; sessions stay.
    pub(super) fn close_all(&mut self, fx: &mut Effects) {
        let mut ids: Vec<ConnId> = self.conns.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            self.close(id, fx);
        }
        for Parked { id, .. } in std::mem::take(&mut self.peers.parked) {
            fx.push(Effect::Close(id));
        }
    }

    /// A connection that is gone waits for nothing.
    pub(super) fn forget_waiting(&mut self, id: ConnId, phase: Option<Phase>) {
        match phase {
            None => self.peers.parked.retain(|parked| parked.id != id),
            Some(Phase::Opening { .. }) => {
                self.peers.opening.retain(|_, waiting| *waiting != id);
                self.peers.reviving.retain(|_, waiting| waiting.id != id);
            }
            Some(_) => {}
        }
    }
}
