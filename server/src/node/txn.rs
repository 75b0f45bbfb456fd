//! The transaction records of Apache's log, byte for byte: what the log holds and what peers are sent.

use bytes::Bytes;
use docent::{Acl, ErrorCode, SessionId, Zxid};

pub use super::txn_codec::encode_txn;

/// What stands before every transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnHeader {
    /// The session whose request it was; 0 for the server's own.
    pub session: SessionId,
    /// The request's xid.
    pub cxid: i32,
    /// The place in the order of all writes.
    pub zxid: Zxid,
    /// The leader's wall clock, milliseconds since 1970.
    pub time_ms: i64,
}

/// What a create makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// Stays until deleted.
    Persistent,
    /// Ends with the session in the header.
    Ephemeral,
    /// Goes when its last child has gone.
    Container,
    /// Goes when it has no children and was not set for so many milliseconds.
    Ttl(i64),
}

/// A create with its final path and ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTxn {
    /// Type 1 or 15 for persistent and ephemeral nodes: they differ when the node exists already.
    pub create2: bool,
    /// The final path.
    pub path: String,
    /// The data or null.
    pub data: Option<Bytes>,
    /// The final ACL.
    pub acl: Vec<Acl>,
    /// What is made.
    pub kind: NodeKind,
    /// The parent's stored cversion after this create; −1 in very old logs: one more than it is.
    pub parent_cversion: i32,
}

/// A write whose outcome is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Txn {
    /// Type −10.
    CreateSession {
        /// The negotiated timeout.
        timeout_ms: i32,
    },
    /// Type −11.
    CloseSession {
        /// The ephemeral nodes that go; `None` in logs from before 3.6.
        paths: Option<Vec<String>>,
    },
    /// Type −1: the request was refused.
    Error(ErrorCode),
    /// Types 1, 15, 19, 21.
    Create(CreateTxn),
    /// Types 2 and 20.
    Delete {
        /// The node.
        path: String,
        /// Whether the server itself swept it (type 20).
        swept: bool,
    },
    /// Types 5 and 16.
    SetData {
        /// The node.
        path: String,
        /// The data or null.
        data: Option<Bytes>,
        /// The version after it.
        version: i32,
        /// Whether it is a reconfiguration (type 16).
        reconfig: bool,
    },
    /// Type 7.
    SetAcl {
        /// The node.
        path: String,
        /// The final ACL.
        acl: Vec<Acl>,
        /// The aversion after it.
        version: i32,
    },
    /// Type 13; only within a multi.
    Check {
        /// The node.
        path: String,
        /// The version it had to have.
        version: i32,
    },
    /// Type 14: all or none. None when any of them is [`Txn::Error`].
    Multi(Vec<Txn>),
}

/// A transaction as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedTxn {
    /// Who, when, in which place.
    pub header: TxnHeader,
    /// What.
    pub txn: Txn,
    /// The tree's digest after it, where the writer knew it.
    pub digest: Option<u64>,
}
