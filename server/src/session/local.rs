//! Sessions that one server alone knows (`localSessionsEnabled`).
//!
//! They begin and end without a transaction, own no nodes, and are counted by the server that they are connected to. One
//! that has to own a node becomes global: from the moment that this is asked for its time is no longer counted here, and
//! it stays in this table until the transaction that makes it global is applied.

use docent::SessionId;
use hashbrown::HashMap;

use super::ExpiryQueue;
use crate::node::ConnId;

/// One local session.
#[derive(Clone, Debug)]
pub struct LocalSession {
    /// How long it may be silent, milliseconds.
    pub timeout_ms: i32,
    /// The connection that speaks for it.
    pub conn: Option<ConnId>,
    /// Whether a transaction that makes it global is asked for.
    pub upgrading: bool,
}

/// The local sessions of this server, and their deadlines.
#[derive(Debug)]
pub struct LocalSessions {
    sessions: HashMap<SessionId, LocalSession, foldhash::fast::FixedState>,
    expiry: ExpiryQueue<SessionId>,
}

impl LocalSessions {
    /// None yet. Their deadlines fall on multiples of `tick_ms`.
    #[must_use]
    pub fn new(tick_ms: i64) -> Self {
        LocalSessions { sessions: HashMap::default(), expiry: ExpiryQueue::new(tick_ms) }
    }

    /// Puts a session in, with its full time and without a connection.
    pub fn open(&mut self, id: SessionId, timeout_ms: i32, now_ms: i64) {
        self.sessions.insert(id, LocalSession { timeout_ms, conn: None, upgrading: false });
        self.expiry.touch(id, now_ms, timeout_ms.into());
    }

    /// The session, also while it becomes global.
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<&LocalSession> {
        self.sessions.get(&id)
    }

    /// The session, also while it becomes global.
    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut LocalSession> {
        self.sessions.get_mut(&id)
    }

    /// The session was heard. Answers whether it is one of these.
    pub fn touch(&mut self, id: SessionId, now_ms: i64) -> bool {
        let Some(session) = self.sessions.get(&id) else { return false };
        if !session.upgrading {
            self.expiry.touch(id, now_ms, session.timeout_ms.into());
        }
        true
    }

    /// The session is to become global. Answers its timeout; `None` if it is none of these, or about to already.
    pub fn start_upgrading(&mut self, id: SessionId) -> Option<i32> {
        let session = self.sessions.get_mut(&id).filter(|session| !session.upgrading)?;
        session.upgrading = true;
        self.expiry.remove(id);
        Some(session.timeout_ms)
    }

    /// The sessions that are to become global, with their timeouts, in the order of their ids.
    #[must_use]
    pub fn upgrading(&self) -> Vec<(SessionId, i32)> {
        let all = self.sessions.iter().filter(|(_, session)| session.upgrading);
        let mut found: Vec<(SessionId, i32)> = all.map(|(id, session)| (*id, session.timeout_ms)).collect();
        found.sort_unstable();
        found
    }

    /// Takes a session out.
    pub fn close(&mut self, id: SessionId) -> Option<LocalSession> {
        self.expiry.remove(id);
        self.sessions.remove(&id)
    }

    /// The sessions whose deadline has come. They are still in.
    pub fn expired(&mut self, now_ms: i64) -> Vec<SessionId> {
        self.expiry.expired(now_ms)
    }

    /// When the next session ends if it stays silent.
    #[must_use]
    pub fn next_deadline(&self) -> Option<i64> {
        self.expiry.next_deadline()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_becomes_global_is_no_longer_counted_here() {
        let mut locals = LocalSessions::new(10);
        let [stays, goes] = [SessionId(1), SessionId(2)];
        locals.open(stays, 20, 0);
        locals.open(goes, 20, 0);
        assert_eq!(locals.start_upgrading(goes), Some(20));
        assert_eq!(locals.start_upgrading(goes), None);
        assert!(locals.touch(goes, 5));
        assert_eq!(locals.upgrading(), [(goes, 20)]);
        assert_eq!(locals.expired(1_000), [stays]);
        assert_eq!(locals.next_deadline(), None);
        assert!(locals.close(goes).is_some() && locals.close(goes).is_none());
        assert_eq!(locals.len(), 1);
    }
}
