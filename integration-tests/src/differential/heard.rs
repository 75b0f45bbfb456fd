//! What a client hears of a server, with the server's own choices replaced.

use std::fmt;

use bytes::Bytes;
use docent::proto::Response;
use docent::{ErrorCode, SessionId, Xid, Zxid};

use super::program::cut;

/// One thing that came over a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The answer to a handshake.
    Hello {
        /// The protocol's version.
        version: i32,
        /// What is granted.
        timeout_ms: i32,
        /// Which of the program's sessions; none when it is not valid.
        session: SessionId,
        /// Whether the password is that of the session.
        password_is_right: bool,
        /// Whether the server is read-only, if it says so.
        read_only: Option<bool>,
        /// Bytes of the frame.
        length: usize,
    },
    /// A watch event.
    Event {
        /// The transaction that fired it, or −1.
        zxid: Zxid,
        /// Always 0.
        error: ErrorCode,
        /// What happened.
        kind: i32,
        /// Always 3.
        state: i32,
        /// To which node.
        path: String,
    },
    /// The answer to a request.
    Reply {
        /// The request's number.
        xid: Xid,
        /// The transaction, or the last one applied.
        zxid: Zxid,
        /// 0, or why not.
        error: ErrorCode,
        /// What follows the header.
        body: Body,
    },
    /// The server has closed the connection.
    Closed,
    /// The server neither answered nor closed within the bound.
    Silent,
    /// All was said, but the end did not come within the bound.
    LeftOpen,
    /// A frame that is none of these.
    Nonsense(Bytes),
}

/// What follows a reply's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The record of the operation.
    Record {
        /// With replacements.
        response: Response,
        /// Whether the bytes were the only ones that stand for it.
        exact: bool,
    },
    /// Anything else.
    Bytes(Bytes),
}

impl Heard {
    /// Whether it is a watch event.
    pub fn is_event(&self) -> bool {
        matches!(self, Heard::Event { .. })
    }

    /// The error of a reply.
    pub fn error(&self) -> Option<ErrorCode> {
        match self {
            Heard::Reply { error, .. } => Some(*error),
            _ => None,
        }
    }

    /// The record of a reply.
    pub fn response(&self) -> Option<&Response> {
        match self {
            Heard::Reply { body: Body::Record { response, .. }, .. } => Some(response),
            _ => None,
        }
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Heard::Reply { xid, zxid, error, body } => {
                let body = match body {
                    Body::Record { response, exact: true } => format!("{response:?}"),
                    Body::Record { response, exact: false } => format!("{response:?}, in odd bytes"),
                    Body::Bytes(bytes) if bytes.is_empty() => String::new(),
                    Body::Bytes(bytes) => format!("{bytes:?}"),
                };
                write!(f, "reply {} zxid {} {error:?} {}", xid.0, zxid.0, cut(&body))
            }
            Heard::Event { zxid, kind, path, .. } => write!(f, "event {kind} {path:?} zxid {}", zxid.0),
            other => write!(f, "{}", cut(&format!("{other:?}"))),
        }
    }
}

/// Events that come in an order of the server's own – the ends of ephemeral nodes with their session – put in order, run
/// by run: their places between replies stay.
pub(super) fn order_events(heard: &mut [Heard]) {
    let key = |one: &Heard| match one {
        Heard::Event { kind, path, .. } => (*kind, path.clone()),
        _ => (0, String::new()),
    };
    for run in heard.chunk_by_mut(|a, b| a.is_event() && b.is_event()) {
        if run[0].is_event() {
            run.sort_by_key(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_put_in_order_between_replies() {
        let event = |path: &str| Heard::Event {
            zxid: Zxid(1),
            error: ErrorCode::OK,
            kind: 2,
            state: 3,
            path: path.to_owned(),
        };
        let mut heard = [event("/b"), event("/a"), Heard::Closed, event("/0")];
        order_events(&mut heard);
        assert_eq!(heard, [event("/a"), event("/b"), Heard::Closed, event("/0")]);
    }
}
