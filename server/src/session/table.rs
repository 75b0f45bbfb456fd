//! Who has a session, and on which connection.

use std::collections::{BTreeSet, VecDeque};

use docent::SessionId;
use docent::proto::session_password;
use hashbrown::HashMap;
use subtle::ConstantTimeEq;

use super::ExpiryQueue;
use crate::limits::ENDED_SESSIONS_MAX;
use crate::node::ConnId;

/// The number of the server that a session's client is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Home(pub u64);

/// One session.
#[derive(Clone, Debug)]
pub struct Session {
    /// How long it may be silent, milliseconds.
    pub timeout_ms: i32,
    /// The connection that speaks for it on this server.
    pub conn: Option<ConnId>,
    /// Whether its end is proposed already: it makes no more writes.
    pub closing: bool,
    /// The server that it is connected to, as the leader knows it; `None` until it is heard of after an election.
    pub owner: Option<Home>,
}

/// All sessions, and their deadlines as this server counts them.
#[derive(Debug)]
pub struct SessionTable {
    sessions: HashMap<SessionId, Session, foldhash::fast::FixedState>,
    ids: BTreeSet<SessionId>,
    expiry: ExpiryQueue<SessionId>,
    next: SessionId,
    /// The sessions that ended last, oldest first, and the same to look them up.
    ended: VecDeque<SessionId>,
    ended_ids: BTreeSet<SessionId>,
}

/// The first id that a server gives out: its own id on top, then the time, so that ids of different runs and of
/// different servers never meet.
#[must_use]
pub fn first_session_id(server: u8, wall_ms: i64) -> SessionId {
    let time = ((wall_ms as u64) << 24) >> 8;
    SessionId((time | (u64::from(server) << 56)) as i64)
}

/// Whether this is the session's password. Compared in the same time whatever is wrong.
#[must_use]
pub fn is_password(id: SessionId, given: Option<&[u8]>) -> bool {
    given.is_some_and(|given| bool::from(given.ct_eq(&session_password(id))))
}

impl SessionTable {
    /// An empty table whose ids start at `first` and whose deadlines fall on multiples of `tick_ms`.
    #[must_use]
    pub fn new(first: SessionId, tick_ms: i64) -> Self {
        SessionTable {
            sessions: HashMap::default(),
            ids: BTreeSet::new(),
            expiry: ExpiryQueue::new(tick_ms),
            next: first,
            ended: VecDeque::new(),
            ended_ids: BTreeSet::new(),
        }
    }

    /// A fresh id. The most negative number is skipped: it marks containers.
    pub fn allocate(&mut self) -> SessionId {
        loop {
            let id = self.next;
            self.next = SessionId(self.next.0.wrapping_add(1));
            if id.0 != i64::MIN && id != SessionId::NONE && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }

    /// Puts a session in, with its full time.
    pub fn open(&mut self, id: SessionId, timeout_ms: i32, now_ms: i64) {
        self.sessions.insert(id, Session { timeout_ms, conn: None, closing: false, owner: None });
        self.ids.insert(id);
        self.expiry.touch(id, now_ms, timeout_ms.into());
    }

    /// Puts these in place of all that are there. None of them has a connection.
    pub fn replace(&mut self, sessions: &[(SessionId, i32)], now_ms: i64) {
        let ids: Vec<SessionId> = self.ids.iter().copied().collect();
        for id in ids {
            self.close(id);
        }
        for (id, timeout_ms) in sessions {
            self.open(*id, *timeout_ms, now_ms);
        }
    }

    /// A new leader counts: every session has its full time again, none is about to end, and those with a connection
    /// here belong to `me`.
    pub fn restart(&mut self, me: Home, now_ms: i64) {
        for (id, session) in &mut self.sessions {
            session.closing = false;
            session.owner = session.conn.map(|_| me);
            self.expiry.touch(*id, now_ms, session.timeout_ms.into());
        }
    }

    /// The ends of sessions that were proposed may not have come about: nobody counts as about to end.
    pub fn reopen(&mut self) {
        self.sessions.values_mut().for_each(|session| session.closing = false);
    }

    /// Takes a session out.
    pub fn close(&mut self, id: SessionId) -> Option<Session> {
        self.expiry.remove(id);
        self.ids.remove(&id);
        let closed = self.sessions.remove(&id)?;
        if self.ended_ids.insert(id) {
            self.ended.push_back(id);
        }
        if self.ended.len() > ENDED_SESSIONS_MAX
            && let Some(oldest) = self.ended.pop_front()
        {
            self.ended_ids.remove(&oldest);
        }
        Some(closed)
    }

    /// Whether this session was there and has ended, as far back as [`ENDED_SESSIONS_MAX`] others.
    #[must_use]
    pub fn has_ended(&self, id: SessionId) -> bool {
        self.ended_ids.contains(&id)
    }

    /// The session's end is proposed.
    pub fn start_closing(&mut self, id: SessionId) -> bool {
        self.expiry.remove(id);
        match self.sessions.get_mut(&id) {
            Some(session) if !session.closing => {
                session.closing = true;
                true
            }
            _ => false,
        }
    }

    /// The session was heard.
    pub fn touch(&mut self, id: SessionId, now_ms: i64) {
        if let Some(session) = self.sessions.get(&id)
            && !session.closing
        {
            self.expiry.touch(id, now_ms, session.timeout_ms.into());
        }
    }

    /// The session, closing or not.
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    /// The session, closing or not.
    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.sessions.get_mut(&id)
    }

    /// Whether this is the password of a session that may be taken up again. An expiry that is under way is final.
    #[must_use]
    pub fn may_reattach(&self, id: SessionId, password: Option<&[u8]>) -> bool {
        self.is_alive(id) && is_password(id, password)
    }

    /// Whether the session exists and its end is not under way.
    #[must_use]
    pub fn is_alive(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| !session.closing)
    }

    /// Takes out the deadlines that have come; the sessions stay until their end is committed.
    pub fn expired(&mut self, now_ms: i64) -> Vec<SessionId> {
        self.expiry.expired(now_ms)
    }

    /// When the next session ends if it stays silent.
    #[must_use]
    pub fn next_deadline(&self) -> Option<i64> {
        self.expiry.next_deadline()
    }

    /// All sessions with their timeouts, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.ids.iter().filter_map(|id| self.sessions.get(id).map(|session| (*id, session)))
    }

    /// How many sessions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Deadlines, soonest first.
    pub fn deadlines(&self) -> impl Iterator<Item = (i64, &BTreeSet<SessionId>)> {
        self.expiry.buckets()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_the_server_and_the_time() {
        let id = first_session_id(1, 0x0180_0000_0000);
        assert_eq!(id.0 >> 56, 1);
        assert_eq!(id.0 & 0xffff, 0);
        assert!(first_session_id(1, 2_000) > first_session_id(1, 1_000));
        assert!(first_session_id(200, 1_000).0 < 0);
    }

    #[test]
    fn the_last_ends_are_remembered() {
        let mut table = SessionTable::new(SessionId(1), 10);
        for id in 1..=ENDED_SESSIONS_MAX as i64 + 1 {
            table.open(SessionId(id), 100, 0);
            table.close(SessionId(id));
        }
        assert!(!table.has_ended(SessionId(1)) && table.has_ended(SessionId(2)));
        assert!(table.close(SessionId(1)).is_none() && !table.has_ended(SessionId(1)));
    }

    #[test]
    fn a_closing_session_cannot_be_taken_up_again() {
        let mut table = SessionTable::new(SessionId(7), 10);
        let id = table.allocate();
        table.open(id, 100, 0);
        let password = session_password(id);
        assert!(table.may_reattach(id, Some(&password)));
        assert!(!table.may_reattach(id, Some(&[0; 16])));
        assert!(!table.may_reattach(id, None));
        assert!(table.start_closing(id));
        assert!(!table.start_closing(id));
        assert!(!table.may_reattach(id, Some(&password)));
        table.touch(id, 1_000);
        assert_eq!(table.next_deadline(), None);
    }
}
