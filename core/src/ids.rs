//! The small numbers of the protocol, each a type of its own so that two of them are never mixed up.

use std::fmt;

/// A transaction id: `epoch << 32 | counter`. The total order of all writes of one ensemble.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zxid(pub i64);

impl Zxid {
    /// Before every transaction.
    pub const ZERO: Zxid = Zxid(0);
    /// "No transaction": what a watch event carries up to protocol 3.8.
    pub const NONE: Zxid = Zxid(-1);

    /// The id with this epoch and counter.
    #[must_use]
    pub const fn new(epoch: u32, counter: u32) -> Self {
        Zxid(((epoch as i64) << 32) | counter as i64)
    }

    /// The leader's epoch, the upper half.
    #[must_use]
    pub const fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The position within the epoch, the lower half.
    #[must_use]
    pub const fn counter(self) -> u32 {
        self.0 as u32
    }

    /// The id that follows in the same epoch, or `None` at the end of the counter.
    #[must_use]
    pub const fn next(self) -> Option<Zxid> {
        if self.counter() == u32::MAX { None } else { Some(Zxid(self.0 + 1)) }
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

impl fmt::LowerHex for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// The identity of a session. 0 means "no session yet". Ids of servers from 128 up are negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub i64);

impl SessionId {
    /// No session: what a client sends that asks for a new one.
    pub const NONE: SessionId = SessionId(0);
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

/// A client's number for one request on one connection; negative values are reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid(pub i32);

impl Xid {
    /// A watch event, server to client.
    pub const EVENT: Xid = Xid(-1);
    /// A ping and its answer.
    pub const PING: Xid = Xid(-2);
    /// An `auth` packet and its answer.
    pub const AUTH: Xid = Xid(-4);
    /// `setWatches` as the C client numbers it.
    pub const SET_WATCHES: Xid = Xid(-8);
}

/// An expected version in a conditional operation. [`Version::ANY`] asks for no check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub i32);

impl Version {
    /// Do not check the version.
    pub const ANY: Version = Version(-1);
}

impl From<i32> for Version {
    fn from(version: i32) -> Self {
        Version(version)
    }
}

impl From<Option<i32>> for Version {
    fn from(version: Option<i32>) -> Self {
        version.map_or(Version::ANY, Version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zxid_is_made_of_epoch_and_counter() {
        let zxid = Zxid::new(3, 7);
        assert_eq!((zxid.0, zxid.epoch(), zxid.counter()), (0x3_0000_0007, 3, 7));
        assert_eq!(zxid.to_string(), "0x300000007");
        assert_eq!(zxid.next(), Some(Zxid::new(3, 8)));
        assert_eq!(Zxid::new(3, u32::MAX).next(), None);
    }
}
