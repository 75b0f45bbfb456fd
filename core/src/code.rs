//! The error codes of the wire.

use std::fmt;

/// A code in a reply header. Codes that have no name here are kept as they came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub i32);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        impl ErrorCode {
            $($(#[$doc])* pub const $name: ErrorCode = ErrorCode($value);)*

            /// Apache's text for the code, as in `KeeperErrorCode = …`; `None` for codes without a name.
            #[must_use]
            pub const fn text(self) -> Option<&'static str> {
                match self.0 { $($value => Some($text),)* _ => None }
            }
        }
    };
}

codes! {
    /// Success.
    OK = 0, "ok";
    /// A server failed in a way it cannot name.
    SYSTEM_ERROR = -1, "SystemError";
    /// In a failed multi: an operation after the one that failed.
    RUNTIME_INCONSISTENCY = -2, "RuntimeInconsistency";
    /// Unused.
    DATA_INCONSISTENCY = -3, "DataInconsistency";
    /// Made by clients: the connection broke, the outcome is unknown.
    CONNECTION_LOSS = -4, "ConnectionLoss";
    /// The request cannot be decoded.
    MARSHALLING_ERROR = -5, "MarshallingError";
    /// The server does not know or does not allow this operation.
    UNIMPLEMENTED = -6, "Unimplemented";
    /// Made by clients: no answer in time.
    OPERATION_TIMEOUT = -7, "OperationTimeout";
    /// A path, flag or argument is not legal.
    BAD_ARGUMENTS = -8, "BadArguments";
    /// Between servers: the session is not known.
    UNKNOWN_SESSION = -12, "Unknown session";
    /// No quorum of the new configuration is connected and in sync.
    NEW_CONFIG_NO_QUORUM = -13, "No quorum of new config is connected and up-to-date with the leader of last commmitted config - try invoking reconfiguration after new servers are connected and synced";
    /// Another reconfiguration is under way.
    RECONFIG_IN_PROGRESS = -14, "Another reconfiguration is in progress -- concurrent reconfigs not supported (yet)";
    /// The node does not exist.
    NO_NODE = -101, "NoNode";
    /// The ACL does not allow it.
    NO_AUTH = -102, "NoAuth";
    /// The expected version is not the current one.
    BAD_VERSION = -103, "BadVersion";
    /// An ephemeral node cannot have children.
    NO_CHILDREN_FOR_EPHEMERALS = -108, "NoChildrenForEphemerals";
    /// The node exists already.
    NODE_EXISTS = -110, "NodeExists";
    /// The node has children.
    NOT_EMPTY = -111, "Directory not empty";
    /// The session has ended.
    SESSION_EXPIRED = -112, "Session expired";
    /// Made by clients: a callback is not valid.
    INVALID_CALLBACK = -113, "Invalid callback";
    /// The ACL is not valid.
    INVALID_ACL = -114, "InvalidACL";
    /// The credentials were refused.
    AUTH_FAILED = -115, "AuthFailed";
    /// The session lives on another connection now.
    SESSION_MOVED = -118, "Session moved";
    /// A write met a read-only server.
    NOT_READ_ONLY = -119, "Not a read-only call";
    /// An ephemeral node on a local session.
    EPHEMERAL_ON_LOCAL_SESSION = -120, "Ephemeral node on local session";
    /// There is no such watch to check or remove.
    NO_WATCHER = -121, "No such watcher";
    /// Made by clients: the request took too long.
    REQUEST_TIMEOUT = -122, "Request timeout";
    /// Reconfiguration is switched off.
    RECONFIG_DISABLED = -123, "Reconfig is disabled";
    /// The server wants SASL before anything else.
    SESSION_CLOSED_REQUIRE_SASL_AUTH = -124, "Session closed because client failed to authenticate";
    /// A hard quota would be exceeded.
    QUOTA_EXCEEDED = -125, "Quota has exceeded";
    /// The request waited too long in the server and was not executed.
    THROTTLED_OP = -127, "Op throttled due to high load";
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.text().unwrap_or("Unknown"), self.0)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(text) => f.write_str(text),
            None => write!(f, "unknown error {}", self.0),
        }
    }
}
