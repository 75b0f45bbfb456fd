//! What a client missed while it was away, and which of its watches go on waiting.
//!
//! A client that comes back tells the last zxid it saw and the watches it holds. A one-shot watch whose node has
//! changed since fires at once and is spent; all others are set again. Persistent ones are only set again: what
//! happened in between is lost to them. Whether the client may read a node plays no part, as in Apache.

use docent::proto::{EventType, SetWatches};

use super::WatchKind;
use crate::tree::Tree;

/// What `setWatches` comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatchUp {
    /// The events to send before the reply, in order.
    pub events: Vec<(EventType, String)>,
    /// The watches to add.
    pub watches: Vec<(WatchKind, String)>,
}

/// Compares the client's watches with the tree.
#[must_use]
pub fn catch_up(tree: &Tree, watches: SetWatches) -> CatchUp {
    let since = watches.relative_zxid;
    let mut result = CatchUp::default();
    for path in watches.data {
        let missed = match tree.node(&path).map(|node| node.stored().mzxid) {
            None => Some(EventType::NodeDeleted),
            Some(mzxid) => (mzxid > since).then_some(EventType::NodeDataChanged),
        };
        result.settle(path, missed, WatchKind::Data);
    }
    for path in watches.exist {
        // Whether the node came before or after the client left cannot be told, so it is told in both cases.
        let missed = tree.node(&path).map(|_| EventType::NodeCreated);
        result.settle(path, missed, WatchKind::Data);
    }
    for path in watches.child {
        let missed = match tree.node(&path).map(|node| node.stored().pzxid) {
            None => Some(EventType::NodeDeleted),
            Some(pzxid) => (pzxid > since).then_some(EventType::NodeChildrenChanged),
        };
        result.settle(path, missed, WatchKind::Child);
    }
    let lasting = |kind| move |path| (kind, path);
    result.watches.extend(watches.persistent.into_iter().map(lasting(WatchKind::Persistent)));
    result.watches.extend(watches.persistent_recursive.into_iter().map(lasting(WatchKind::Recursive)));
    result
}

impl CatchUp {
    fn settle(&mut self, path: String, missed: Option<EventType>, kind: WatchKind) {
        match missed {
            Some(event) => self.events.push((event, path)),
            None => self.watches.push((kind, path)),
        }
    }
}
