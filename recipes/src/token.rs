//! Fencing tokens: numbers that make a late holder harmless.
//!
//! No lock service can stop a process that sleeps through the end of its hold. What helps is a number that is
//! higher for every next holder, handed to the resource with each request; the resource refuses numbers below
//! the highest it has seen. The token of a lock is the `czxid` of the holder's node, or the version of an epoch
//! node where one is kept.
//!
//! Limits: the resource must *keep* the highest number across its own restarts; after a restore of the
//! ensemble from an old snapshot, or on a new ensemble, numbers start again lower.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// A number that is higher than that of every earlier holder of the same lock.
///
/// It travels as decimal text (`Display`, `FromStr`, serde, the header [`FencingToken::HEADER`]) or as eight
/// big-endian bytes, whose order as bytes is the order of the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FencingToken(u64);

impl FencingToken {
    /// The HTTP header that carries a token, as decimal text.
    pub const HEADER: &'static str = "docent-fencing-token";

    /// The token with this number.
    #[must_use]
    pub const fn new(value: u64) -> FencingToken {
        FencingToken(value)
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// Eight bytes, the highest first.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// The token of eight bytes, the highest first.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> FencingToken {
        FencingToken(u64::from_be_bytes(bytes))
    }
}

impl From<docent::Zxid> for FencingToken {
    /// A czxid is never negative on a live ensemble; the bits are kept either way.
    fn from(zxid: docent::Zxid) -> FencingToken {
        FencingToken(zxid.0 as u64)
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for FencingToken {
    type Err = ParseIntError;
    fn from_str(text: &str) -> Result<FencingToken, ParseIntError> {
        text.parse().map(FencingToken)
    }
}

/// A token that came too late: somebody with a higher one was here before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fencing token {given} is older than {highest}: the holder was replaced, take the lock again")]
pub struct StaleToken {
    /// The token that was refused.
    pub given: FencingToken,
    /// The highest token seen so far.
    pub highest: FencingToken,
}

/// What a resource keeps to refuse late holders: the highest token seen, in memory.
///
/// A resource that restarts must store [`FenceGate::highest`] with its data, in the same transaction, and start
/// the gate from it.
#[derive(Debug, Default)]
pub struct FenceGate {
    highest: AtomicU64,
}

impl FenceGate {
    /// A gate that has seen nothing and lets every token in.
    #[must_use]
    pub const fn new() -> FenceGate {
        FenceGate { highest: AtomicU64::new(0) }
    }

    /// A gate that goes on where another stopped.
    #[must_use]
    pub const fn starting_at(highest: FencingToken) -> FenceGate {
        FenceGate { highest: AtomicU64::new(highest.0) }
    }

    /// Lets a token in that is not lower than any before it. An equal one is the same holder again.
    ///
    /// The write that follows must happen before the next call, or under one lock with it: the gate orders
    /// tokens, not writes.
    ///
    /// # Errors
    /// [`StaleToken`] when a higher token was let in before.
    pub fn admit(&self, token: FencingToken) -> Result<(), StaleToken> {
        let before = self.highest.fetch_max(token.0, Ordering::AcqRel);
        if before > token.0 {
            Err(StaleToken { given: token, highest: FencingToken(before) })
        } else {
            Ok(())
        }
    }

    /// The highest token seen.
    #[must_use]
    pub fn highest(&self) -> FencingToken {
        FencingToken(self.highest.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_gate_refuses_what_is_older() {
        let gate = FenceGate::new();
        let token = FencingToken::new;
        assert_eq!(gate.admit(token(5)), Ok(()));
        assert_eq!(gate.admit(token(5)), Ok(()), "the same holder again");
        assert_eq!(gate.admit(token(7)), Ok(()));
        assert_eq!(gate.admit(token(5)), Err(StaleToken { given: token(5), highest: token(7) }));
        assert_eq!(
            FenceGate::starting_at(gate.highest()).admit(token(6)).map_err(|e| e.highest),
            Err(token(7))
        );
    }

    proptest! {
        #[test]
        fn every_form_keeps_number_and_order(a in any::<u64>(), b in any::<u64>()) {
            let (a, b) = (FencingToken::new(a), FencingToken::new(b));
            prop_assert_eq!(a.to_string().parse(), Ok(a));
            prop_assert_eq!(FencingToken::from_bytes(a.to_bytes()), a);
            prop_assert_eq!(a.to_bytes().cmp(&b.to_bytes()), a.cmp(&b));
            let json = serde_json::to_string(&a).expect("a number");
            prop_assert_eq!(&json, &a.to_string());
            prop_assert_eq!(serde_json::from_str::<FencingToken>(&json).ok(), Some(a));
        }
    }
}
