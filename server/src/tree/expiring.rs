//! Which nodes the server itself deletes, and when.
//!
//! Only nodes without children are listed, in the order in which they fall due, so a sweep looks at those that
//! are due and at no others.

use std::collections::BTreeSet;

use super::node::{Node, NodeId, StoredStat, kind_of};
use crate::node::txn::NodeKind;

/// The last moment at which a node may still stay, milliseconds since 1970; `None` when nothing limits it now.
pub(super) fn due_ms(node: &Node, extended_types: bool) -> Option<i64> {
    if node.owner == 0 || node.num_children > 0 {
        return None;
    }
    due_without_children(node.owner, node.mtime, node.cversion, extended_types)
}

fn due_without_children(owner: i64, mtime: i64, cversion: i32, extended_types: bool) -> Option<i64> {
    match kind_of(owner, extended_types) {
        NodeKind::Ttl(ttl_ms) => Some(mtime.saturating_add(ttl_ms)),
        // A container that was never used stays.
        NodeKind::Container if cversion > 0 => Some(i64::MIN),
        NodeKind::Container | NodeKind::Ephemeral | NodeKind::Persistent => None,
    }
}

impl StoredStat {
    /// Whether the server itself may delete the node at this moment, milliseconds since 1970, if it has no children.
    #[must_use]
    pub fn is_due(&self, now_ms: i64, extended_types: bool) -> bool {
        due_without_children(self.owner, self.mtime, self.cversion, extended_types)
            .is_some_and(|due_ms| due_ms < now_ms)
    }
}

/// The nodes that may fall due, in that order.
#[derive(Debug, Default)]
pub(super) struct Expiring {
    by_due: BTreeSet<(i64, NodeId)>,
}

impl Expiring {
    /// A node's due moment has changed.
    pub(super) fn moved(&mut self, id: NodeId, before: Option<i64>, after: Option<i64>) {
        if before == after {
            return;
        }
        if let Some(due_ms) = before {
            self.by_due.remove(&(due_ms, id));
        }
        if let Some(due_ms) = after {
            self.by_due.insert((due_ms, id));
        }
    }

    /// The nodes whose last moment has passed.
    pub(super) fn due(&self, now_ms: i64) -> impl Iterator<Item = NodeId> {
        self.by_due.range(..(now_ms, NodeId(0))).map(|(_, id)| *id)
    }

    /// What is listed, for a test to count again.
    #[cfg(test)]
    pub(super) fn listed(&self) -> &BTreeSet<(i64, NodeId)> {
        &self.by_due
    }
}
