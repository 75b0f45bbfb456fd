//! Watches: who must hear of which change.
//!
//! A watch belongs to a connection and a path, and is of one of four kinds that live side by side on one path, as
//! in Apache from 3.9 on. `table` keeps them, [`fire`](WatchTable::fire) turns a change of the tree into events,
//! and [`catch_up`] decides what a client that was away has missed.
//!
//! Invariants: a connection hears of one change of one node once, however many of its watches match; a one-shot
//! watch is gone when it has fired, readable or not; events come in the order of the changes.
//!
//! Left out: sessions (watches end with the connection) and the bytes of events.

mod catch_up;
mod fire;
mod set;
mod slab;
mod table;
#[cfg(test)]
mod tests;

pub use catch_up::{CatchUp, catch_up};
pub use fire::Fired;
pub use table::{WatchSummary, WatchTable};

pub use crate::node::ConnId;

/// What a watch waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WatchKind {
    /// Once: the node is created, deleted, or its data is set.
    Data,
    /// Once: the node is deleted, or a direct child is created or deleted.
    Child,
    /// For ever: everything that happens to the node or its direct children.
    Persistent,
    /// For ever: the node or any below is created, deleted, or its data is set.
    Recursive,
}

impl WatchKind {
    /// All four.
    const ALL: [WatchKind; 4] =
        [WatchKind::Data, WatchKind::Child, WatchKind::Persistent, WatchKind::Recursive];
}
