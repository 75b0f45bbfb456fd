//! Which nodes the server itself deletes, and when.
//!
//! Only nodes without children are listed, in the order in which they fall due, so a sweep looks at those that
//! are due and at no others.

use std::collections::BTreeSet;

use super::node::{Node, NodeId, kind_of};
use crate::node::txn::NodeKind;

/// The last moment at which a node may still stay, milliseconds since 1970; `None` when nothing limits it now.
pub(super) fn due_ms(node: &Node, extended_types: bool) -> Option<i64> {
    if node.owner == 0 || node.num_children > 0 {
        return None;
    }
    match kind_of(node.owner, extended_types) {
        NodeKind::Ttl(ttl_ms) => Some(node.mtime.saturating_add(ttl_ms)),
        // A container that was never used stays.
        NodeKind::Container if node.cversion > 0 => Some(i64::MIN),
        NodeKind::Container | NodeKind::Ephemeral | NodeKind::Persistent => None,
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
