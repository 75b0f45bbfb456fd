//! What a run does: a list of steps, each of which one session takes while the others are still.
//!
//! A program is the same for every server. What servers choose for themselves – zxids, session ids – it names by what it
//! stands for: "the last zxid that this session has seen, less two".

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use docent::Zxid;
use docent::proto::{Encode, MultiOp, OpCode, Request, SetWatches};

/// Sessions of a program, beside the one that looks after the tree.
pub(super) const SLOTS: usize = 4;

/// Text of a request in a report, characters.
const SHOWN_MAX: usize = 400;

/// A list of steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What it was made from.
    pub seed: u64,
    /// What the servers begin with.
    pub world: World,
    /// In order.
    pub steps: Vec<Step>,
}

/// What the servers hold when a program begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// An empty tree.
    Fresh,
    /// The tree of `worn`: its counters and versions are near their ends, where no program gets by itself.
    Worn,
}

/// What one session does; the next step waits for all its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new session, if the slot has none that is alive.
    Open {
        /// Which session.
        slot: usize,
        /// With which words.
        hello: Hello,
    },
    /// Requests, sent at once.
    Ask {
        /// Which session.
        slot: usize,
        /// At least one.
        asks: Vec<Ask>,
    },
    /// The connection is dropped without a word; the session stays.
    Drop {
        /// Which session.
        slot: usize,
    },
    /// The session is taken up on a new connection.
    Return {
        /// Which session.
        slot: usize,
        /// With which words.
        hello: Hello,
        /// With which password. The old connection is dropped before all but the right one.
        password: Password,
    },
}

/// The words of a handshake that a client may choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The version of the protocol.
    pub version: i32,
    /// The timeout asked for.
    pub timeout_ms: i32,
    /// Whether a read-only server will do; old clients do not say.
    pub read_only: Option<bool>,
    /// The zxid that the client says it has seen.
    pub seen: Claim,
}

impl Hello {
    /// As most clients do.
    pub fn plain() -> Hello {
        Hello { version: 0, timeout_ms: 100_000, read_only: Some(false), seen: Claim::Nothing }
    }
}

/// Which zxid a client says it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// None.
    Nothing,
    /// The last that it has seen.
    Last,
    /// One that does not exist yet.
    Future,
}

/// The password of a session that is taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Password {
    /// The one that the server gave.
    Right,
    /// Sixteen others bytes.
    Wrong,
    /// Four bytes.
    Short,
    /// Null.
    Null,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Its number.
    pub xid: i32,
    /// Its content.
    pub what: What,
}

/// The content of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// One that the codec knows.
    Request(Request),
    /// `setWatches` or `setWatches2`; the zxid is the last one that the session saw before this, less `back`.
    Rewatch {
        /// Whether it is `setWatches2`.
        new: bool,
        /// How far behind the last zxid.
        back: i64,
        /// The paths; their zxid does not count.
        watches: SetWatches,
    },
    /// Bytes behind a header, right or wrong.
    Raw {
        /// The operation's number.
        op: i32,
        /// What follows it.
        body: Bytes,
    },
    /// A frame that is too short for a header.
    Stub(Bytes),
}

impl Ask {
    /// The number of the operation; `None` without a header.
    pub fn op(&self) -> Option<i32> {
        match &self.what {
            What::Request(request) => Some(request.op().code()),
            What::Rewatch { new: true, .. } => Some(OpCode::SetWatches2.code()),
            What::Rewatch { new: false, .. } => Some(OpCode::SetWatches.code()),
            What::Raw { op, .. } => Some(*op),
            What::Stub(_) => None,
        }
    }

    /// Whether it ends the session.
    pub fn closes(&self) -> bool {
        self.op() == Some(OpCode::CloseSession.code())
    }

    /// Whether its answer may overtake others or end the connection, so that it must be alone in its step.
    pub fn stands_alone(&self) -> bool {
        let known = self.op().and_then(OpCode::from_code);
        let odd = matches!(
            known,
            None | Some(
                OpCode::Auth
                    | OpCode::Sasl
                    | OpCode::Check
                    | OpCode::CreateSession
                    | OpCode::Error
                    | OpCode::DeleteContainer
            )
        );
        odd || self.may_be_too_long()
    }

    /// Whether a server may close the connection without a word.
    pub(super) fn may_be_too_long(&self) -> bool {
        self.length() > 100_000
    }

    /// Whether Apache may judge what is sent behind it by how things were before: a new ACL counts when it is applied.
    pub fn must_be_last(&self) -> bool {
        self.op() == Some(OpCode::SetAcl.code())
    }

    /// The paths on which it may set a watch. Of a record that is cut or too long nobody knows.
    pub(super) fn watches(&self) -> Vec<&str> {
        match &self.what {
            What::Request(
                Request::Exists { path, watch: true }
                | Request::GetData { path, watch: true }
                | Request::GetChildren { path, watch: true }
                | Request::GetChildren2 { path, watch: true }
                | Request::AddWatch { path, .. },
            ) => vec![path],
            What::Rewatch { watches, .. } => {
                let SetWatches { data, exist, child, persistent, persistent_recursive, .. } = watches;
                let lists = [data, exist, child, persistent, persistent_recursive];
                lists.into_iter().flatten().map(String::as_str).collect()
            }
            _ => Vec::new(),
        }
    }

    fn length(&self) -> usize {
        let of = |data: &Option<Bytes>| data.as_ref().map_or(0, Bytes::len);
        match &self.what {
            What::Request(Request::SetData { data, .. }) => of(data),
            What::Request(Request::Create(create)) => of(&create.data),
            What::Request(Request::Multi(ops)) => ops
                .iter()
                .map(|op| match op {
                    MultiOp::SetData { data, .. } => of(data),
                    MultiOp::Create(create) => of(&create.data),
                    _ => 0,
                })
                .sum(),
            What::Raw { body, .. } => body.len(),
            _ => 0,
        }
    }

    /// Writes the content of its frame, with the last zxid that the session has seen.
    pub fn encode(&self, last: Zxid, out: &mut BytesMut) {
        let Some(op) = self.op() else {
            if let What::Stub(bytes) = &self.what {
                out.put_slice(bytes);
            }
            return;
        };
        out.put_i32(self.xid);
        out.put_i32(op);
        match &self.what {
            What::Request(request) => request.encode(out),
            What::Rewatch { new, back, watches } => {
                let watches = SetWatches { relative_zxid: Zxid(last.0 - back), ..watches.clone() };
                let request = if *new { Request::SetWatches2(watches) } else { Request::SetWatches(watches) };
                request.encode(out);
            }
            What::Raw { body, .. } => out.put_slice(body),
            What::Stub(_) => {}
        }
    }
}

impl Step {
    /// Whose step it is.
    pub fn slot(&self) -> usize {
        match self {
            Step::Open { slot, .. }
            | Step::Ask { slot, .. }
            | Step::Drop { slot }
            | Step::Return { slot, .. } => *slot,
        }
    }

    /// The requests in it.
    pub fn asks(&self) -> &[Ask] {
        match self {
            Step::Ask { asks, .. } => asks,
            _ => &[],
        }
    }

    /// Whether ephemeral nodes may go, several in one transaction, in an order of the server's own.
    pub fn closes(&self) -> bool {
        self.asks().iter().any(Ask::closes)
    }
}

/// A text that is cut where it is too long.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
        None => text.to_owned(),
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match &self.what {
            // The codec does not print credentials; here they are made up.
            What::Request(Request::Auth(auth)) => format!("Auth {} {:?}", auth.scheme, auth.auth),
            What::Request(request) => format!("{request:?}"),
            other => format!("{other:?}"),
        };
        write!(f, "{} {}", self.xid, cut(&text))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Ask { slot, asks } => {
                write!(f, "s{slot} asks")?;
                asks.iter().try_for_each(|ask| write!(f, "\n      {ask}"))
            }
            Step::Open { slot, hello } => write!(f, "s{slot} opens {hello:?}"),
            Step::Drop { slot } => write!(f, "s{slot} drops its connection"),
            Step::Return { slot, hello, password } => {
                write!(f, "s{slot} returns, password {password:?}, {hello:?}")
            }
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:?} world", self.seed, self.world)?;
        self.steps.iter().enumerate().try_for_each(|(at, step)| writeln!(f, "{at:4}  {step}"))
    }
}
