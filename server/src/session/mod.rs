//! PURE: sessions, when they end, and the order of one client's requests.
//!
//! A session is created and closed by transactions, so every peer has the same table; when it *ends* is decided by
//! one server, the leader, which counts its silence. Only the leader's count matters: a session never ends earlier
//! than its timeout after the last request that reached the leader, because deadlines are rounded up.

mod expiry;
mod lane;
mod local;
mod table;

pub use expiry::ExpiryQueue;
pub use lane::{Lane, Turn};
pub use local::{LocalSession, LocalSessions};
pub use table::{Home, Session, SessionTable, first_session_id, is_password};
