//! A session is asked for, or taken up again.

use docent::SessionId;
use docent::proto::frame::put_frame;
use docent::proto::{ConnectRequest, ConnectResponse, Encode, session_password};

use super::access::Identity;
use super::conn::{Conn, ConnStats, Origin, Phase};
use super::login::SaslPhase;
use super::service::Service;
use super::throttle::Handshake;
use super::{ConnId, Effect, Effects, Node};
use crate::session::{Home, Lane, is_password};

impl Node {
    /// The timeout that is granted to one who asks for `wanted_ms`.
    pub(super) fn negotiate(&self, wanted_ms: i32) -> i32 {
        wanted_ms.clamp(self.config.min_session_timeout_ms, self.config.max_session_timeout_ms)
    }

    pub(super) fn on_connect(
        &mut self,
        id: ConnId,
        origin: Origin,
        request: &ConnectRequest,
        fx: &mut Effects,
    ) {
        self.metrics.connection_requests += 1;
        self.mind_numbers(fx);
        if !self.is_serving_reads() {
            self.park(id, origin, request, fx);
            return;
        }
        if !self.takes_clients() {
            self.turn_away(id, fx);
            return;
        }
        let kind = match request.session {
            SessionId::NONE if self.config.serving.local_sessions => Handshake::Local,
            SessionId::NONE => Handshake::Global,
            _ => Handshake::Renewal,
        };
        if !self.throttle.admits(kind, self.now.mono_ms) {
            self.metrics.connections_dropped += 1;
            fx.push(Effect::Close(id));
            return;
        }
        // A client that has seen a newer state than ours must not be shown an older one: it tries another server.
        if request.last_zxid_seen > self.tree.last_zxid() {
            self.metrics.connections_rejected += 1;
            fx.push(Effect::Close(id));
            return;
        }
        let stats = ConnStats { established_ms: self.now.wall_ms, ..ConnStats::default() };
        let Origin { address, port, subject } = origin;
        let mut identities = vec![Identity::of_address(address)];
        identities.extend(subject.into_iter().flat_map(|subject| self.config.logins.of_subject(subject)));
        let conn = Conn {
            address,
            port,
            phase: Phase::Opening { read_only: request.read_only },
            identities,
            sasl: SaslPhase::default(),
            lane: Lane::default(),
            stats,
        };
        self.conns.insert(id, conn);
        if self.service == Service::ReadOnly {
            self.greet_guest(id, request, fx);
        } else if request.session == SessionId::NONE && self.config.serving.local_sessions {
            self.greet_local(id, request, fx);
        } else if request.session == SessionId::NONE {
            self.propose_session(id, request, fx);
        } else {
            self.reattach(id, request, fx);
        }
    }

    /// The password is checked first: a stranger with a wrong one must not cut off the owner.
    fn reattach(&mut self, id: ConnId, request: &ConnectRequest, fx: &mut Effects) {
        self.metrics.revalidations += 1;
        if self.reattach_local(id, request, fx) {
            return;
        }
        if !self.service.leads() && is_password(request.session, request.password.as_deref()) {
            // Only the leader knows whether it is alive.
            self.ask_leader(id, request, fx);
            return;
        }
        if !self.sessions.may_reattach(request.session, request.password.as_deref()) {
            self.refuse_session(id, fx);
        } else {
            let timeout_ms = self.negotiate(request.timeout_ms);
            self.take_up(id, request.session, timeout_ms, fx);
        }
    }

    /// The session that a connection asked for is not there.
    pub(super) fn refuse_session(&mut self, id: ConnId, fx: &mut Effects) {
        let Some(Conn { phase: Phase::Opening { read_only }, .. }) = self.conns.get(&id) else { return };
        let response = ConnectResponse::not_valid(read_only.map(|_| false));
        self.send_connect_response(id, &response, fx);
        self.close(id, fx);
    }

    /// The connection takes up a session that is alive.
    pub(super) fn take_up(&mut self, id: ConnId, session: SessionId, timeout_ms: i32, fx: &mut Effects) {
        let Some(Conn { phase: Phase::Opening { read_only }, .. }) = self.conns.get(&id) else { return };
        let read_only = *read_only;
        if let Some(session) = self.sessions.get_mut(session) {
            session.timeout_ms = timeout_ms;
        }
        self.heard(session);
        self.attach(id, session, timeout_ms, read_only, fx);
    }

    /// The connection speaks for the session from now on, and no other does.
    pub(super) fn attach(
        &mut self,
        id: ConnId,
        session: SessionId,
        timeout_ms: i32,
        read_only: Option<bool>,
        fx: &mut Effects,
    ) {
        let me = self.config.me;
        let before = match self.sessions.get_mut(session) {
            Some(session) => {
                session.owner = Some(Home(me.0));
                session.conn.replace(id)
            }
            None => self.locals.get_mut(session).and_then(|session| session.conn.replace(id)),
        };
        if let Some(old) = before.filter(|old| *old != id) {
            self.close(old, fx);
        }
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.phase = Phase::Open(session);
        }
        let response = ConnectResponse {
            protocol_version: 0,
            timeout_ms,
            session,
            password: session_password(session),
            read_only: read_only.map(|_| false),
        };
        self.send_connect_response(id, &response, fx);
        fx.push(Effect::Accept { conn: id, timeout_ms });
    }

    pub(super) fn send_connect_response(&mut self, id: ConnId, response: &ConnectResponse, fx: &mut Effects) {
        let start = fx.bytes.len();
        put_frame(&mut fx.bytes, |out| response.encode(out));
        let end = fx.bytes.len();
        self.metrics.sent(end - start);
        fx.push(Effect::Reply { conn: id, range: start..end, answers: 0 });
    }
}
