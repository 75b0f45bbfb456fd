//! Writes: proposed, committed, applied, told, answered.

use std::collections::{BTreeMap, VecDeque};

use bytes::BytesMut;
use docent::proto::jute::Reader;
use docent::proto::{
    ConnectRequest, Encode, MultiResult, OpCode, ReplyHeader, Request, Response, WatcherEvent,
};
use docent::{ErrorCode, SessionId, Xid, Zxid};

use super::access::Identity;
use super::conn::{Conn, Owed, Phase, Sent};
use super::prep::Prep;
use super::service::Service;
use super::txn::{LoggedTxn, NodeKind, Txn, TxnHeader};
use super::txn_codec::encode_txn;
use super::{ConnId, Effects, Node, access};
use crate::session::Home;
use crate::tree::{Applied, Outcome};
use crate::watch::Fired;
use crate::zab::{ForwardedRequest, PeerId};

/// Who waits for a write.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// A client's request; its lane knows which.
    Request(ConnId),
    /// A handshake.
    Handshake(ConnId),
    /// The server itself.
    Server,
    /// A client of this peer.
    Learner(PeerId),
    /// Nobody that this server knows of until it is applied: it came from the leader, or was proposed in a role that is
    /// over.
    Logged,
}

/// A write that is proposed and not applied.
#[derive(Debug)]
pub(super) struct InFlight {
    header: TxnHeader,
    txn: Txn,
    digest: Option<u64>,
    origin: Origin,
    bytes: usize,
}

impl InFlight {
    /// A write of the leader's.
    pub(super) fn logged(logged: LoggedTxn, bytes: usize) -> Self {
        let LoggedTxn { header, txn, digest } = logged;
        InFlight { header, txn, digest, origin: Origin::Logged, bytes }
    }

    /// Which request of which session it is.
    fn request(&self) -> (SessionId, i32) {
        (self.header.session, self.header.cxid)
    }

    /// The role in which it was proposed is over: who waits is found out when it is applied. Answers the session and the
    /// handshake that waits for it, if one does.
    pub(super) fn orphan(&mut self) -> Option<(SessionId, ConnId)> {
        match std::mem::replace(&mut self.origin, Origin::Logged) {
            Origin::Handshake(id) => Some((self.header.session, id)),
            _ => None,
        }
    }
}

/// The writes that are logged and not applied, in order.
#[derive(Debug, Default)]
pub(super) struct Line {
    writes: VecDeque<InFlight>,
    bytes: usize,
}

impl Line {
    pub(super) fn push_back(&mut self, write: InFlight) {
        self.bytes += write.bytes;
        self.writes.push_back(write);
    }

    fn pop_up_to(&mut self, zxid: Zxid) -> Option<InFlight> {
        let write = self.writes.pop_front_if(|write| write.header.zxid <= zxid)?;
        self.bytes -= write.bytes;
        Some(write)
    }

    /// What is behind this transaction was cut out of the log.
    pub(super) fn truncate(&mut self, after: Zxid) {
        while let Some(write) = self.writes.pop_back_if(|write| write.header.zxid > after) {
            self.bytes -= write.bytes;
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Line::default();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.writes.len()
    }

    /// The last of them.
    pub(super) fn last(&self) -> Option<Zxid> {
        self.writes.back().map(|write| write.header.zxid)
    }

    /// For each request the transaction right before its own; `applied` stands before the first.
    pub(super) fn befores(&self, applied: Zxid) -> BTreeMap<(SessionId, i32), Zxid> {
        let zxids = self.writes.iter().map(|write| write.header.zxid);
        let before = std::iter::once(applied).chain(zxids);
        self.writes.iter().map(InFlight::request).zip(before).collect()
    }

    /// Bytes of their records.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut InFlight> {
        self.writes.iter_mut()
    }
}

impl Node {
    /// A client's write: proposed, sent to the leader, or kept until there is one.
    pub(super) fn on_write(
        &mut self,
        id: ConnId,
        session: SessionId,
        owed: Owed,
        request: Request,
        fx: &mut Effects,
    ) {
        self.mind_numbers(fx);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if owed.op == OpCode::CloseSession {
            conn.phase = Phase::Closing(session);
        }
        if self.service.leads() {
            conn.lane.push_write(Sent { owed, body: None });
            self.propose_request(id, session, owed, Some(request), fx);
        } else {
            let mut body = BytesMut::new();
            request.encode(&mut body);
            let body = body.freeze();
            conn.lane.push_write(Sent { owed, body: Some(body.clone()) });
            self.forward(id, session, owed, body, fx);
        }
    }

    /// A write whose record could not be decoded takes its place, too, where this server leads.
    pub(super) fn propose_malformed(&mut self, id: ConnId, session: SessionId, owed: Owed, fx: &mut Effects) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.lane.push_write(Sent { owed, body: None });
        self.propose_request(id, session, owed, None, fx);
    }

    /// Proposes a write that stands in its lane; `None` when its record could not be decoded.
    pub(super) fn propose_request(
        &mut self,
        id: ConnId,
        session: SessionId,
        owed: Owed,
        request: Option<Request>,
        fx: &mut Effects,
    ) {
        self.propose_for(session, (owed.xid, owed.op), request, Origin::Request(id), &[], fx);
    }

    /// A request that a learner's client makes.
    pub(super) fn propose_forwarded(&mut self, peer: PeerId, request: ForwardedRequest, fx: &mut Effects) {
        let ForwardedRequest { session, cxid, op, body, identities } = request;
        let mut input = Reader::new(body);
        if op == OpCode::CreateSession {
            let timeout_ms = input.int().unwrap_or_default();
            self.propose(session, Xid(cxid), Origin::Learner(peer), &[], fx, |_| {
                Ok(Txn::CreateSession { timeout_ms })
            });
            return;
        }
        self.sessions.touch(session, self.now.mono_ms);
        if let Some(known) = self.sessions.get_mut(session) {
            match known.owner {
                None => known.owner = Some(Home(peer.0)),
                Some(owner) if owner == Home(peer.0) => {}
                Some(_) => {
                    let origin = Origin::Learner(peer);
                    self.propose(session, Xid(cxid), origin, &[], fx, |_| Err(ErrorCode::SESSION_MOVED));
                    return;
                }
            }
        }
        let request = Request::decode(op, &mut input).ok().flatten();
        let identities: Vec<Identity> =
            identities.into_iter().map(|(scheme, id)| Identity { scheme, id }).collect();
        self.propose_for(session, (Xid(cxid), op), request, Origin::Learner(peer), &identities, fx);
    }

    fn propose_for(
        &mut self,
        session: SessionId,
        (cxid, op): (Xid, OpCode),
        request: Option<Request>,
        origin: Origin,
        forwarded: &[Identity],
        fx: &mut Effects,
    ) {
        let alive = self.is_global(session) || self.may_be_local(session);
        if alive && op == OpCode::CloseSession {
            self.sessions.start_closing(session);
        }
        let changeable = matches!(request, Some(Request::Reconfig(_))).then(|| self.changeable());
        self.propose(session, cxid, origin, forwarded, fx, |prep| match request {
            _ if !alive => Err(ErrorCode::SESSION_EXPIRED),
            Some(Request::Create(create)) => prep.create(create),
            Some(Request::Delete { path, version }) => prep.delete(path, version),
            Some(Request::SetData { path, data, version }) => prep.set_data(path, data, version),
            Some(Request::SetAcl { path, acl, version }) => prep.set_acl(path, acl, version),
            Some(Request::Multi(ops)) => prep.multi(ops),
            Some(Request::CloseSession) => Ok(prep.close_session()),
            Some(Request::Reconfig(change)) => {
                let facts = changeable.unwrap_or(Err(ErrorCode::RECONFIG_DISABLED))?;
                prep.reconfig(&change, facts)
            }
            _ => Err(ErrorCode::MARSHALLING_ERROR),
        });
    }

    /// A new session for a handshake.
    pub(super) fn propose_session(&mut self, id: ConnId, request: &ConnectRequest, fx: &mut Effects) {
        let session = self.sessions.allocate();
        let timeout_ms = self.negotiate(request.timeout_ms);
        if self.service.leads() {
            let origin = Origin::Handshake(id);
            self.propose(session, Xid(0), origin, &[], fx, |_| Ok(Txn::CreateSession { timeout_ms }));
        } else {
            self.peers.opening.insert(session, id);
            self.forward_session(session, timeout_ms, fx);
        }
    }

    /// The end of a session whose time has run out.
    pub(super) fn propose_expiry(&mut self, session: SessionId, fx: &mut Effects) {
        self.propose(session, Xid(0), Origin::Server, &[], fx, |prep| Ok(prep.close_session()));
    }

    /// The delete of a container or of a node whose time is over.
    pub(super) fn propose_sweep(&mut self, path: String, fx: &mut Effects) {
        self.propose(SessionId::NONE, Xid(0), Origin::Server, &[], fx, |prep| prep.sweep(path));
    }

    /// Takes the next place in the order for what `judge` makes of it. A refusal takes its place too, as an error
    /// transaction, so that it is answered in order and every peer counts alike.
    pub(super) fn propose(
        &mut self,
        session: SessionId,
        cxid: Xid,
        origin: Origin,
        forwarded: &[Identity],
        fx: &mut Effects,
        judge: impl FnOnce(&mut Prep<'_>) -> Result<Txn, ErrorCode>,
    ) {
        let Some(zxid) = self.replica.next_zxid() else {
            self.out_of_numbers(fx);
            return;
        };
        let header = TxnHeader { session, cxid: cxid.0, zxid, time_ms: self.now.wall_ms };
        let identities = match origin {
            Origin::Request(id) => self.conns.get(&id).map_or(&[][..], |conn| &conn.identities),
            _ => forwarded,
        };
        let may_own = !self.config.serving.local_sessions || self.is_global(session);
        let mut prep = Prep {
            may_own,
            tree: &self.tree,
            outstanding: &mut self.outstanding,
            rules: self.config.rules,
            identities,
            session,
            zxid,
            time_ms: header.time_ms,
        };
        let txn = judge(&mut prep).unwrap_or_else(Txn::Error);
        if let Txn::CreateSession { .. } = txn {
            self.proposed_sessions.insert(session);
        }
        let digest = match txn {
            Txn::Error(_) => None,
            _ => self.config.digest.then(|| self.outstanding.digest()),
        };
        encode_txn(&header, &txn, digest, &mut self.payloads);
        let payload = self.payloads.split().freeze();
        self.upkeep.count_append(payload.len());
        self.metrics.proposed(payload.len());
        self.in_flight.push_back(InFlight { header, txn, digest, origin, bytes: payload.len() });
        self.replica.propose(self.now.mono_ms, zxid, &payload, &mut self.outputs);
        self.carry_out(fx);
        self.maybe_snapshot(fx);
    }

    /// Everything up to `zxid` is committed: applies it in order.
    pub(super) fn commit_up_to(&mut self, zxid: Zxid, fx: &mut Effects) {
        while let Some(write) = self.in_flight.pop_up_to(zxid) {
            self.apply(write, fx);
        }
        if !self.peers.leader_syncs.is_empty() {
            self.answer_syncs(fx);
        }
    }

    fn apply(&mut self, write: InFlight, fx: &mut Effects) {
        let InFlight { header, txn, digest, origin, .. } = write;
        // On a server that is alone no `sync` waits for anything but writes.
        if matches!(origin, Origin::Logged | Origin::Request(_)) && self.service != Service::Alone {
            self.free_lane(header.session, header.cxid, fx);
        }
        let mut changes = std::mem::take(&mut self.changes);
        let applied = self.tree.apply(&header, &txn, &mut changes);
        self.outstanding.settle(header.zxid);
        self.check_digest(&header, digest, origin);
        self.metrics.commits += 1;
        for change in changes.drain(..) {
            self.fire(header.zxid, &change, fx);
        }
        self.changes = changes;
        match (&txn, origin) {
            (Txn::CreateSession { timeout_ms }, _) => self.open_session(&header, *timeout_ms, origin, fx),
            (_, Origin::Request(id)) => self.answer_write(id, &header, &txn, applied, fx),
            (_, Origin::Logged) => {
                if let Some(id) = self.who_waits(&header) {
                    self.answer_write(id, &header, &txn, applied, fx);
                }
            }
            _ => {}
        }
        if let Txn::CloseSession { .. } = txn {
            self.end_session(header.session, fx);
        }
        self.serve_waiting(header.zxid, fx);
    }

    /// The tree must be what the judgement foresaw. If it is not, and the judgement was ours, we are wrong, and going on
    /// would spread it. A leader's may be wrong by itself.
    fn check_digest(&mut self, header: &TxnHeader, digest: Option<u64>, origin: Origin) {
        let found = self.tree.digest();
        let Some(foreseen) = self.digests.compare(header.zxid, found, digest) else { return };
        assert!(
            matches!(origin, Origin::Logged),
            "transaction {} left the digest {found:#x} where {foreseen:#x} was foreseen",
            header.zxid
        );
        self.metrics.digest_mismatches += 1;
        tracing::error!(zxid = %header.zxid, found, foreseen, "the tree is not what the leader foresaw");
    }

    /// The connection whose write this transaction answers: the one that speaks for the session, if it waits for it next.
    fn who_waits(&self, header: &TxnHeader) -> Option<ConnId> {
        let id = self.conn_of(header.session)?;
        let first = self.conns.get(&id)?.lane.first_write()?;
        (first.owed.xid.0 == header.cxid).then_some(id)
    }

    fn end_session(&mut self, session: SessionId, fx: &mut Effects) {
        if let Some(closed) = self.sessions.close(session)
            && let Some(conn) = closed.conn
        {
            self.close(conn, fx);
        }
    }

    /// Tells watchers, before anybody gets an answer that shows the change.
    fn fire(&mut self, zxid: Zxid, change: &crate::tree::Change, fx: &mut Effects) {
        let (conns, tree, skip_acl) = (&self.conns, &self.tree, self.config.rules.skip_acl);
        let mut fired = std::mem::take(&mut self.fired);
        self.watches.fire(
            change,
            &mut |id, acl| {
                skip_acl
                    || conns.get(&id).is_some_and(|conn| {
                        access::allows(tree.acl(acl), docent::Permissions::READ, &conn.identities)
                    })
            },
            &mut fired,
        );
        for Fired { conn, kind, path } in fired.drain(..) {
            self.metrics.packets_sent += 1;
            send_event(conn, zxid, &WatcherEvent::new(kind, &*path), fx);
        }
        self.fired = fired;
    }

    fn answer_write(
        &mut self,
        id: ConnId,
        header: &TxnHeader,
        txn: &Txn,
        applied: Applied,
        fx: &mut Effects,
    ) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Some(Sent { owed, .. }) = conn.lane.settle_write() else { return };
        assert_eq!(owed.xid.0, header.cxid, "answers must leave in the order of the requests");
        let error = match txn {
            Txn::Error(code) => *code,
            _ => ErrorCode::OK,
        };
        let bytes = fx.frame(id, 1, |out| {
            ReplyHeader { xid: owed.xid, zxid: header.zxid, error }.encode(out);
            if error == ErrorCode::OK {
                result_of(txn, applied).encode(out);
            }
        });
        self.metrics.sent(bytes);
        let latency = conn.stats.answered(owed, header.zxid, self.now.mono_ms, self.now.wall_ms);
        self.metrics.update_latency.record(latency);
        if owed.op == OpCode::CloseSession {
            return;
        }
        if error == ErrorCode::SESSION_MOVED {
            // The leader takes the session for another server's, and only a new handshake tells it otherwise: as Apache's
            // server does since ZOOKEEPER-710.
            self.close(id, fx);
            return;
        }
        // Also between two leaders: what is applied is committed, and the read has its place before the next write.
        self.drain_lane_now(id, fx);
    }

    fn open_session(&mut self, header: &TxnHeader, timeout_ms: i32, origin: Origin, fx: &mut Effects) {
        self.proposed_sessions.remove(&header.session);
        if self.sessions.get(header.session).is_none() {
            self.sessions.open(header.session, timeout_ms, self.now.mono_ms);
        }
        self.settle_upgrade(header.session);
        if let (Origin::Learner(peer), Some(session)) = (origin, self.sessions.get_mut(header.session)) {
            session.owner = Some(Home(peer.0));
        }
        let waiting = match origin {
            Origin::Handshake(id) => Some(id),
            _ => self.peers.opening.remove(&header.session),
        };
        if let Some(id) = waiting
            && let Some(Conn { phase: Phase::Opening { read_only }, .. }) = self.conns.get(&id)
        {
            let read_only = *read_only;
            self.attach(id, header.session, timeout_ms, read_only, fx);
        }
    }
}

/// Appends one watch event. The header names the transaction that fired it, as in Apache from 3.9 on.
pub(super) fn send_event(id: ConnId, zxid: Zxid, event: &WatcherEvent, fx: &mut Effects) {
    fx.frame(id, 0, |out| {
        ReplyHeader { xid: Xid::EVENT, zxid, error: ErrorCode::OK }.encode(out);
        event.encode(out);
    });
}

/// What a client is answered for a transaction that stands.
fn result_of(txn: &Txn, applied: Applied) -> Response {
    let stat = applied.stat.unwrap_or_default();
    match txn {
        Txn::Create(create) if !create.create2 && plain(create.kind) => Response::Path(create.path.clone()),
        Txn::Create(create) => Response::Created { path: create.path.clone(), stat },
        Txn::SetData { reconfig: false, .. } | Txn::SetAcl { .. } => Response::Stat(stat),
        Txn::SetData { data, reconfig: true, .. } => Response::Data { data: data.clone(), stat },
        Txn::Multi(txns) => Response::Multi(multi_results(txns, &applied.results)),
        _ => Response::Empty,
    }
}

fn plain(kind: NodeKind) -> bool {
    matches!(kind, NodeKind::Persistent | NodeKind::Ephemeral)
}

fn multi_results(txns: &[Txn], outcomes: &[Outcome]) -> Vec<MultiResult> {
    if let Some(failed) = txns.iter().position(|txn| matches!(txn, Txn::Error(_))) {
        return txns
            .iter()
            .enumerate()
            .map(|(at, txn)| match txn {
                Txn::Error(code) => MultiResult::Error(*code),
                _ if at < failed => MultiResult::Error(ErrorCode::OK),
                _ => MultiResult::Error(ErrorCode::RUNTIME_INCONSISTENCY),
            })
            .collect();
    }
    txns.iter()
        .enumerate()
        .map(|(at, txn)| {
            let stat = outcomes.get(at).and_then(|outcome| outcome.stat).unwrap_or_default();
            match txn {
                Txn::Create(create) if !create.create2 && plain(create.kind) => {
                    MultiResult::Create { path: create.path.clone() }
                }
                Txn::Create(create) => MultiResult::Create2 { path: create.path.clone(), stat },
                Txn::SetData { .. } => MultiResult::SetData { stat },
                Txn::Check { .. } => MultiResult::Check,
                _ => MultiResult::Delete,
            }
        })
        .collect()
}
