//! PURE: what servers say to each other, as bytes.
//!
//! The formats are Apache's, to the byte. What only our servers say to each other stands where Apache's do not look:
//! behind everything that they read of a notification, a `FOLLOWERINFO` or a `LEADERINFO`. There it begins with
//! [`MAGIC`].
//!
//! Decoding never panics and never reserves by a length that the input merely claims.

mod election;
mod quorum;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use docent::proto::jute::DecodeError;

use crate::zab::Capability;

pub(crate) use election::{
    InitialMessage, initial_message_len, put_initial_message, put_notification, read_notification,
};
pub(crate) use quorum::{SNAPSHOT_SIGNATURE, Speaker, next_message, put_message};

/// What stands in front of a capability's version.
const MAGIC: [u8; 4] = *b"DCNT";

/// In the byte behind the version, if there is one: [`Capability::whole`].
const WHOLE: u8 = 1;

/// In the same byte of a notification: the rest of it is the text of a configuration that is under way.
const UNDER_WAY: u8 = 2;

/// Why bytes of a peer make no sense. The connection they came on is of no further use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    /// A buffer or a list is longer than what is believed.
    #[error(
        "{len} bytes or elements where at most {max} are believed; raise jute.maxbuffer on all servers alike"
    )]
    TooLong {
        /// What was claimed.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// A value within a message is none.
    #[error("{what}: {error}")]
    Value {
        /// The message.
        what: &'static str,
        /// What is wrong.
        error: DecodeError,
    },
    /// A message is shorter than it must be.
    #[error("{what} has only {len} bytes")]
    Short {
        /// The message.
        what: &'static str,
        /// Its bytes.
        len: usize,
    },
    /// A number has no meaning at its place.
    #[error("{value} is not a {what}")]
    Unknown {
        /// What was expected.
        what: &'static str,
        /// What came.
        value: i64,
    },
}

impl CodecError {
    fn value(what: &'static str) -> impl Fn(DecodeError) -> CodecError {
        move |error| CodecError::Value { what, error }
    }
}

/// What the bytes behind a message of Apache's say.
fn capability(trailing: &[u8]) -> Option<Capability> {
    let said = trailing.strip_prefix(&MAGIC)?;
    let whole = said.get(1).is_some_and(|flags| flags & WHOLE != 0);
    said.first().map(|version| Capability { version: *version, whole })
}

/// The configuration's text behind a capability, if one is there.
fn under_way(mut trailing: Bytes) -> Bytes {
    let flags = MAGIC.len() + 1;
    match trailing.get(flags) {
        Some(given) if trailing.starts_with(&MAGIC) && given & UNDER_WAY != 0 => {
            trailing.split_off(flags + 1)
        }
        _ => Bytes::new(),
    }
}

fn put_capability(out: &mut impl bytes::BufMut, capability: Option<Capability>) {
    put_capability_and(out, capability, &[]);
}

fn put_capability_and(out: &mut impl bytes::BufMut, capability: Option<Capability>, under_way: &[u8]) {
    let Some(Capability { version, whole }) = capability else { return };
    out.put_slice(&MAGIC);
    out.put_u8(version);
    let flags = if whole { WHOLE } else { 0 } | if under_way.is_empty() { 0 } else { UNDER_WAY };
    if flags != 0 {
        out.put_u8(flags);
        out.put_slice(under_way);
    }
}
