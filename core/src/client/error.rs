//! Everything that can go wrong with a request, and what the caller may conclude from it.

use crate::path::PathError;
use crate::proto::{DecodeError, MultiResult, OpCode};
use crate::{ErrorCode, SessionId};

/// Why a request, a watch or the client itself failed. No variant means two things.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused the request; it was not applied.
    #[error("{op:?} of {path:?} was refused: {code}")]
    Server {
        /// The operation.
        op: OpCode,
        /// Its path as the caller named it; empty for operations without a path.
        path: String,
        /// The server's code.
        code: ErrorCode,
    },
    /// A transaction was refused because of one of its operations; none was applied.
    #[error("transaction was refused because of its operation {index}: {code}")]
    Multi {
        /// Which operation was refused, counted from 0.
        index: usize,
        /// Why.
        code: ErrorCode,
        /// The results as the server gave them: code 0 before `index`, −2 behind it.
        results: Vec<MultiResult>,
    },
    /// The connection broke, and the retry budget or the rules for writes did not allow another attempt.
    #[error(
        "connection lost during {op:?} of {path:?}{}",
        if *.may_have_applied { ", which may have been applied: read before trying again" }
        else { ", which was not applied: try again when a server can be reached" }
    )]
    ConnectionLoss {
        /// The operation.
        op: OpCode,
        /// Its path as the caller named it; empty for operations without a path.
        path: String,
        /// Whether this is a write that had been handed to the network.
        may_have_applied: bool,
    },
    /// The session that the request or watch belonged to has ended. A pinned request that was never sent, one
    /// whose answer was lost, and one that the server refused for that reason all end like this; see
    /// [`Error::may_have_applied`].
    #[error("session {session} has ended; ask for a new one with session_ready")]
    SessionEnded {
        /// The session.
        session: SessionId,
    },
    /// The client was closed.
    #[error("client is closed; connect a new one")]
    Closed,
    /// The server refused the credentials given to `auth` or `add_auth`. The client is closed.
    #[error("authentication failed; check the scheme and the credentials")]
    AuthFailed,
    /// Every server that answers is behind what this client has seen: the ensemble lost data or was restored
    /// from an older state. The client is closed, because only the application can judge what that means.
    #[error(
        "every server is behind zxids this client has seen; the ensemble lost data: connect a new client to accept that"
    )]
    EnsembleWentBack,
    /// The path breaks a rule of ZooKeeper; nothing was sent.
    #[error(transparent)]
    InvalidPath(#[from] PathError),
    /// An argument cannot be sent.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),
    /// So many requests are waiting that another would break the client's bound; nothing was sent.
    #[error("{requests} requests of {bytes} bytes are waiting already; await some before sending more")]
    TooManyRequests {
        /// Requests without an answer.
        requests: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// Something bounded took longer than its bound.
    #[error("{what} took longer than allowed")]
    Timeout {
        /// What took so long.
        what: &'static str,
    },
    /// No server accepted a session within the retry budget.
    #[error("no server of {hosts} gave a session in time; the last attempt: {last}")]
    ConnectFailed {
        /// The hosts.
        hosts: String,
        /// What went wrong last.
        last: String,
    },
    /// The watch was removed by `remove_watches`.
    #[error("watch on {path:?} was removed")]
    WatchRemoved {
        /// The path as the caller named it.
        path: String,
    },
    /// The server's answer is not one to this request.
    #[error("answer to {op:?} cannot be understood")]
    Protocol {
        /// The operation.
        op: OpCode,
        /// What is wrong with the bytes.
        source: DecodeError,
    },
}

impl Error {
    /// The server's code, when a server refused.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Error::Server { code, .. } | Error::Multi { code, .. } => Some(*code),
            Error::ConnectionLoss { .. } => Some(ErrorCode::CONNECTION_LOSS),
            Error::AuthFailed => Some(ErrorCode::AUTH_FAILED),
            _ => None,
        }
    }

    /// Whether the same call can succeed when it is made again. Look at [`Error::may_have_applied`] first.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::ConnectionLoss { .. } | Error::TooManyRequests { .. } => true,
            Error::Server { code, .. } | Error::Multi { code, .. } => {
                matches!(
                    *code,
                    ErrorCode::THROTTLED_OP | ErrorCode::SESSION_MOVED | ErrorCode::REQUEST_TIMEOUT
                )
            }
            _ => false,
        }
    }

    /// Whether the write may have been applied although its answer is not known. A request that fails with
    /// [`Error::SessionEnded`] was never sent, was refused for the end of its session, or was a read: sent writes
    /// fail with [`Error::ConnectionLoss`] as soon as their connection breaks.
    #[must_use]
    pub fn may_have_applied(&self) -> bool {
        match self {
            Error::ConnectionLoss { may_have_applied, .. } => *may_have_applied,
            Error::Protocol { .. } => true,
            _ => false,
        }
    }

    /// Whether the session is gone, and with it its ephemeral nodes and watches.
    #[must_use]
    pub fn is_session_lost(&self) -> bool {
        match self {
            Error::SessionEnded { .. } | Error::Closed | Error::AuthFailed | Error::EnsembleWentBack => true,
            Error::Server { code, .. } | Error::Multi { code, .. } => *code == ErrorCode::SESSION_EXPIRED,
            _ => false,
        }
    }
}
