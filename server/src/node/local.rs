//! Sessions that this server alone knows (`localSessionsEnabled`), and how one becomes everybody's.
//!
//! Such a session costs no transaction and none of the leader's time; its reads and writes are those of any other. It
//! cannot own nodes and cannot move to another server. With `localSessionsUpgradingEnabled` its first ephemeral node makes
//! it global: the transaction that creates the session goes right before the one that creates the node.
//!
//! A leader cannot know the local sessions of others. As Apache's, it takes writes of sessions that it does not know if
//! their ids are another server's – but not of those that it has seen end: a write of a session that is over must not
//! come after its end.

use std::collections::BTreeMap;

use docent::proto::{ConnectRequest, CreateRequest, MultiOp, Request, Response};
use docent::{ErrorCode, SessionId, Xid, Zxid};

use super::conn::{Owed, Phase};
use super::read::Local;
use super::txn::Txn;
use super::write::Origin;
use super::{Body, ConnId, Effects, Node};
use crate::session::{Home, is_password};

fn is_ephemeral(create: &CreateRequest) -> bool {
    matches!(create.flags.0, 1 | 3)
}

/// Whether the request makes a node that its session must own.
fn needs_owner(request: &Request) -> bool {
    match request {
        Request::Create(create) => is_ephemeral(create),
        Request::Multi(ops) => {
            ops.iter().any(|op| matches!(op, MultiOp::Create(create) if is_ephemeral(create)))
        }
        _ => false,
    }
}

impl Node {
    /// A new session that stays here.
    pub(super) fn greet_local(&mut self, id: ConnId, request: &ConnectRequest, fx: &mut Effects) {
        let session = self.sessions.allocate();
        let timeout_ms = self.negotiate(request.timeout_ms);
        self.locals.open(session, timeout_ms, self.now.mono_ms);
        self.take_up(id, session, timeout_ms, fx);
    }

    /// A handshake for a session of this server's own. Answers whether it is one.
    pub(super) fn reattach_local(&mut self, id: ConnId, request: &ConnectRequest, fx: &mut Effects) -> bool {
        let timeout_ms = self.negotiate(request.timeout_ms);
        let Some(local) = self.locals.get_mut(request.session) else { return false };
        if is_password(request.session, request.password.as_deref()) {
            local.timeout_ms = timeout_ms;
            self.take_up(id, request.session, timeout_ms, fx);
        } else {
            self.refuse_session(id, fx);
        }
        true
    }

    /// What a request of a local session becomes; `None` if it is dealt with.
    pub(super) fn on_local_session(
        &mut self,
        id: ConnId,
        session: SessionId,
        owed: Owed,
        body: Body,
        fx: &mut Effects,
    ) -> Option<Body> {
        if self.locals.get(session).is_none_or(|local| local.upgrading) {
            return Some(body);
        }
        match &body {
            Body::Request(Request::CloseSession) => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.phase = Phase::Closing(session);
                }
                self.on_local(id, Local::End { owed, session }, fx);
                None
            }
            Body::Request(request) if needs_owner(request) => {
                if !self.config.serving.local_upgrading {
                    let code = ErrorCode::EPHEMERAL_ON_LOCAL_SESSION;
                    self.on_local(id, Local::Refuse { owed, code }, fx);
                    return None;
                }
                if let Some(timeout_ms) = self.locals.start_upgrading(session) {
                    self.make_global(session, timeout_ms, fx);
                }
                Some(body)
            }
            _ => Some(body),
        }
    }

    /// Asks for the transaction that makes a local session everybody's.
    fn make_global(&mut self, session: SessionId, timeout_ms: i32, fx: &mut Effects) {
        if self.service.leads() {
            self.propose(session, Xid(0), Origin::Server, &[], fx, |_| Ok(Txn::CreateSession { timeout_ms }));
        } else {
            self.forward_session(session, timeout_ms, fx);
        }
    }

    /// There is a leader again: what was asked of the one before, and is not in the history, is asked for once more.
    pub(super) fn upgrade_again(&mut self, pending: &BTreeMap<(SessionId, i32), Zxid>, fx: &mut Effects) {
        for (session, timeout_ms) in self.locals.upgrading() {
            if self.sessions.get(session).is_some() {
                // The state that came as a whole has it.
                self.settle_upgrade(session);
            } else if !pending.contains_key(&(session, 0)) {
                self.make_global(session, timeout_ms, fx);
            }
        }
    }

    /// The session is in the table of those that everybody knows: it brings its connection along.
    pub(super) fn settle_upgrade(&mut self, session: SessionId) {
        let me = Home(self.config.me.0);
        if let Some(local) = self.locals.close(session)
            && let Some(known) = self.sessions.get_mut(session)
        {
            known.conn = local.conn;
            known.owner = Some(me);
        }
    }

    /// Local sessions that were silent for too long.
    pub(super) fn expire_locals(&mut self, fx: &mut Effects) {
        for session in self.locals.expired(self.now.mono_ms) {
            self.metrics.sessions_expired += 1;
            self.end_local(session, fx);
        }
    }

    fn end_local(&mut self, session: SessionId, fx: &mut Effects) {
        if let Some(id) = self.locals.close(session).and_then(|local| local.conn) {
            self.close(id, fx);
        }
    }

    /// The end that a local session asked for: its writes are answered.
    pub(super) fn close_local(&mut self, id: ConnId, owed: Owed, session: SessionId, fx: &mut Effects) {
        self.answer(id, owed, Ok(Response::Empty), fx);
        self.end_local(session, fx);
    }

    /// Whether everybody knows the session, or will before anything that is proposed from now on.
    pub(super) fn is_global(&self, session: SessionId) -> bool {
        self.sessions.is_alive(session) || self.proposed_sessions.contains(&session)
    }

    /// Whether writes of a session that is not global may be taken.
    pub(super) fn may_be_local(&self, session: SessionId) -> bool {
        if self.locals.get(session).is_some() {
            return true;
        }
        let me = if self.config.me.0 == 0 { 1 } else { self.config.me.0 as u8 };
        let of_another = session.0.to_be_bytes()[0] != me;
        self.config.serving.local_sessions
            && of_another
            && self.sessions.get(session).is_none()
            && !self.sessions.has_ended(session)
    }

    /// The connection that speaks for a session here.
    pub(super) fn conn_of(&self, session: SessionId) -> Option<ConnId> {
        match self.sessions.get(session) {
            Some(known) => known.conn,
            None => self.locals.get(session)?.conn,
        }
    }
}
