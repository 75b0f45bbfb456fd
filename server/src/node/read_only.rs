//! Reads without a quorum (`readonlymode.enabled`).
//!
//! A member that has looked for a leader for long enough shows what it has to clients that said in their handshake that
//! they can live with it. They get a session that this server alone knows and that ends with its connection; writes and
//! `sync` are refused. As soon as there is a leader to follow, or this server is about to lead, they are sent away: what
//! they were shown may be older than what they will be shown next, and their session is nobody's.
//!
//! Apache's rules, with one bug left out: its server (3.8) serves new sessions in this mode only with local sessions
//! switched on, and otherwise answers the handshake with a record that no client expects there.

use docent::proto::{ConnectRequest, ConnectResponse, OpCode, Request, Response, session_password};
use docent::{ErrorCode, SessionId};

use super::conn::{Owed, Phase};
use super::read::Local;
use super::service::Service;
use super::{Body, ConnId, Effect, Effects, Node};
use crate::zab::Role;

/// Whether a server that serves reads only refuses it: whatever changes the tree, needs the leader, or promises either.
/// Reads within one request are reads.
fn is_refused(op: OpCode) -> bool {
    op != OpCode::CloseSession && (op.is_write() || matches!(op, OpCode::Sync | OpCode::Check))
}

impl Node {
    /// After every step: since when this server looks for a leader, and whether its guests have to go because it has
    /// found one.
    pub(super) fn mind_looking(&mut self, fx: &mut Effects) {
        if self.read_only_after_ms().is_none() {
            return;
        }
        if matches!(self.replica.role(), Role::Looking) {
            self.looking_since_ms.get_or_insert(self.now.mono_ms);
            return;
        }
        self.looking_since_ms = None;
        self.dismiss_guests(fx);
    }

    /// Ends serving reads only.
    pub(super) fn dismiss_guests(&mut self, fx: &mut Effects) {
        if self.service == Service::ReadOnly {
            self.service = Service::Down { since_ms: self.now.mono_ms, sent_away: false };
            self.close_all(fx);
        }
    }

    /// On a tick: begins to serve reads when this server has looked for a leader for long enough. Who still waits for
    /// one is sent away first.
    pub(super) fn mind_read_only(&mut self, fx: &mut Effects) {
        if self.read_only_deadline().is_some_and(|due| due <= self.now.mono_ms) {
            tracing::warn!(zxid = %self.tree.last_zxid(), "no leader: serving reads only");
            self.close_all(fx);
            self.service = Service::ReadOnly;
        }
    }

    pub(super) fn read_only_deadline(&self) -> Option<i64> {
        match self.service {
            Service::Down { .. } => Some(self.looking_since_ms? + self.read_only_after_ms()?),
            _ => None,
        }
    }

    fn read_only_after_ms(&self) -> Option<i64> {
        self.config.ensemble.as_ref()?.read_only_after_ms
    }

    /// A handshake while reads are served without a quorum. Whoever has a session of the ensemble's, or wants one that
    /// can write, has to find another server.
    pub(super) fn greet_guest(&mut self, id: ConnId, request: &ConnectRequest, fx: &mut Effects) {
        if request.read_only != Some(true) || request.session != SessionId::NONE {
            self.metrics.connections_rejected += 1;
            self.close(id, fx);
            return;
        }
        let session = self.sessions.allocate();
        let timeout_ms = self.negotiate(request.timeout_ms);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.phase = Phase::Open(session);
        }
        let response = ConnectResponse {
            protocol_version: 0,
            timeout_ms,
            session,
            password: session_password(session),
            read_only: Some(true),
        };
        self.send_connect_response(id, &response, fx);
        fx.push(Effect::Accept { conn: id, timeout_ms });
    }

    /// What a guest's request becomes: an answer from the tree, or a refusal. `None` if it is to be handled as everywhere.
    pub(super) fn on_guest(&mut self, id: ConnId, owed: Owed, body: Body, fx: &mut Effects) -> Option<Body> {
        match body {
            Body::Request(Request::CloseSession) => {
                self.answer(id, owed, Ok(Response::Empty), fx);
                self.close(id, fx);
                None
            }
            Body::Request(request) if is_refused(request.op()) => {
                self.on_local(id, Local::Refuse { owed, code: ErrorCode::NOT_READ_ONLY }, fx);
                None
            }
            Body::Malformed { write: true } => {
                self.on_local(id, Local::Refuse { owed, code: ErrorCode::NOT_READ_ONLY }, fx);
                None
            }
            other => Some(other),
        }
    }
}
