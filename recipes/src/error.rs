//! What can go wrong in a recipe. No error means two things, and each says whether a node of ours may remain.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use docent::{ErrorCode, SessionId};

/// Why a hold ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossCause {
    /// The proven lease ran out without a word from a server: somebody else may hold from now on.
    LeaseEnded,
    /// The session ended, by the server's word or because the client gave it up.
    SessionEnded,
    /// The node was deleted by somebody else: an administrator, or a program that breaks the layout.
    NodeDeleted,
    /// The connection is gone and the policy is to stop at once.
    Suspended,
    /// The client was closed.
    Closed,
    /// It was released by its owner.
    Released,
    /// The runtime that kept it was shut down.
    RuntimeStopped,
}

impl fmt::Display for LossCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LossCause::LeaseEnded => "the lease ran out while disconnected",
            LossCause::SessionEnded => "the session ended",
            LossCause::NodeDeleted => "the node was deleted by somebody else",
            LossCause::Suspended => "the connection was lost",
            LossCause::Closed => "the client was closed",
            LossCause::Released => "it was released",
            LossCause::RuntimeStopped => "the runtime was shut down",
        })
    }
}

/// Why a hold may not be relied on right now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HoldError {
    /// It is over; it never comes back. Acquire again.
    #[error("the hold is lost: {0}")]
    Lost(LossCause),
    /// The connection is gone and the policy is [`crate::OnSuspend::StopAtOnce`]. It may come back.
    #[error("the hold is suspended: not connected")]
    Suspended,
}

/// The error of the recipes.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The time given was over. Nothing remains: what was begun is taken back in the background.
    #[error("not acquired within {0:?}")]
    Timeout(Duration),
    /// The hold ended before the work did. No node remains when the guard is gone.
    #[error("the hold is lost: {0}")]
    Lost(LossCause),
    /// The place in line went with its session, and the recipe was told not to take a new one. No node remains.
    #[error("the place in line is lost: {0}")]
    PlaceLost(LossCause),
    /// The session ended. Its nodes are gone.
    #[error("session {0} has ended, nothing of it was sent again")]
    SessionEnded(SessionId),
    /// A write may or may not have been applied. Read before you write again.
    #[error("the connection was lost during {op} of {path}: it may or may not have been applied")]
    Ambiguous {
        /// What was attempted.
        op: &'static str,
        /// On which node.
        path: String,
    },
    /// The name is taken by somebody else. No node of ours remains.
    #[error("{path} belongs to session {owner}, choose another name or another conflict policy")]
    Conflict {
        /// The node.
        path: String,
        /// Its owner.
        owner: SessionId,
    },
    /// Other writers were faster every time. Nothing was written.
    #[error("{path} changed during each of {attempts} attempts")]
    Contended {
        /// The node.
        path: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The parent has given out all its sequence numbers: the order of further nodes would not be the order of
    /// arrival, and their numbers would come twice. No node of ours remains.
    #[error(
        "the sequence numbers under {path} are used up, take another path, or delete a line's while nobody stands in it"
    )]
    NumbersUsedUp {
        /// The parent.
        path: String,
    },
    /// More permits are wanted than there are. No node of ours remains.
    #[error("{wanted} permits are wanted and there are {permits}, they would never be had")]
    TooManyPermits {
        /// How many are wanted.
        wanted: u32,
        /// How many there are.
        permits: u32,
    },
    /// The semaphore is in use with another number of permits. Nothing was written.
    #[error("{path} says {stored} permits and this program {given}, make them equal or resize the semaphore")]
    PermitsDiffer {
        /// The node with the number.
        path: String,
        /// What it says.
        stored: u32,
        /// What this program says.
        given: u32,
    },
    /// The number of permits is kept in no node. Nothing was written.
    #[error(
        "the number of permits is fixed by each program, use .shared_count() to change it while it is used"
    )]
    FixedPermits,
    /// The node does not exist. Nothing was written.
    #[error("{path} does not exist")]
    Missing {
        /// The node.
        path: String,
    },
    /// The node's bytes are not a value of the type, or do not pass the validation.
    #[error("{path} holds no valid value: {reason}")]
    Invalid {
        /// The node.
        path: String,
        /// What the decoder or the validation says.
        reason: Arc<str>,
    },
    /// There is more below the node than the cache may keep.
    #[error(
        "there are more than {nodes_max} nodes or {bytes_max} bytes to be cached at {path}: filter them, leave out their data or allow more"
    )]
    CacheTooLarge {
        /// The cache's root.
        path: String,
        /// How many nodes it may have.
        nodes_max: usize,
        /// How many bytes of paths and data it may have.
        bytes_max: usize,
    },
    /// There are more nodes than are read, or put, at this place.
    #[error("there are more than {max} nodes at {path}, take some away or allow more")]
    TooMany {
        /// Whose children they are.
        path: String,
        /// How many there may be.
        max: usize,
    },
    /// A name that cannot be that of a node. Nothing was sent.
    #[error("{name:?} cannot be the name of a node, leave out slashes and control characters")]
    BadName {
        /// The name.
        name: String,
    },
    /// The layout has no such thing. Nothing was sent.
    #[error("no {what}: take another layout or another order")]
    NotInLayout {
        /// What was asked for.
        what: &'static str,
    },
    /// A value cannot be written as bytes. Nothing was sent.
    #[error("the value cannot be encoded: {0}")]
    Encode(Arc<str>),
    /// An operation of a guarded transaction failed. Nothing was applied.
    #[error("operation {index} of the transaction failed, nothing was applied: {code}")]
    TxnFailed {
        /// Which one, counted from 0 among those that were added.
        index: usize,
        /// Why.
        code: ErrorCode,
    },
    /// A guarded write needs a node whose name is never used again; this hold has none.
    #[error("this hold has no fence inside ZooKeeper, use an ordered lock or .with_epoch()")]
    NotFenced,
    /// The ACL forbids it.
    #[error("not allowed by the ACL: {0}")]
    NotAllowed(Arc<docent::Error>),
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
    /// The runtime was shut down while the recipe worked.
    #[error("the runtime was shut down")]
    RuntimeStopped,
    /// Any other error of the client.
    #[error(transparent)]
    Client(Arc<docent::Error>),
}

impl Error {
    /// Whether a node of ours may still exist after this error, until its session ends.
    #[must_use]
    pub fn node_may_remain(&self) -> bool {
        match self {
            Error::Ambiguous { .. } | Error::RuntimeStopped => true,
            Error::Client(error) => error.may_have_applied(),
            _ => false,
        }
    }

    /// The code of the server's answer, if there was one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Error::Client(error) | Error::NotAllowed(error) => error.code(),
            _ => None,
        }
    }
}

impl From<docent::Error> for Error {
    fn from(error: docent::Error) -> Error {
        match &error {
            docent::Error::Closed => Error::Closed,
            docent::Error::SessionEnded { session, .. } => Error::SessionEnded(*session),
            _ if error.code() == Some(ErrorCode::NO_AUTH) => Error::NotAllowed(Arc::new(error)),
            _ => Error::Client(Arc::new(error)),
        }
    }
}

impl From<HoldError> for Error {
    fn from(error: HoldError) -> Error {
        match error {
            HoldError::Lost(cause) => Error::Lost(cause),
            HoldError::Suspended => Error::Lost(LossCause::Suspended),
        }
    }
}
