//! The two epochs of a server.

/// What a server has promised, and what it has followed. Always `accepted >= current >=` the epoch of the log's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epochs {
    /// `acceptedEpoch`: the largest epoch in which it has promised to take part. It follows no leader of an earlier
    /// one any more.
    pub accepted: u32,
    /// `currentEpoch`: the epoch of the leader whose whole history it holds.
    pub current: u32,
}
