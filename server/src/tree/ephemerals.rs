//! Which nodes end with which session.

use std::collections::{BTreeMap, BTreeSet};

use docent::SessionId;

use super::node::{Node, NodeId, kind_of};
use crate::node::txn::NodeKind;

/// The ephemeral nodes of each session that has any.
#[derive(Debug, Default)]
pub(super) struct Ephemerals {
    by_session: BTreeMap<SessionId, BTreeSet<NodeId>>,
    count: usize,
}

impl Ephemerals {
    /// Takes note of a node that has come, if it is ephemeral.
    pub(super) fn add(&mut self, id: NodeId, node: &Node, extended_types: bool) {
        if kind_of(node.owner, extended_types) == NodeKind::Ephemeral
            && self.by_session.entry(SessionId(node.owner)).or_default().insert(id)
        {
            self.count += 1;
        }
    }

    /// Forgets a node that goes, if it is ephemeral.
    pub(super) fn remove(&mut self, id: NodeId, node: &Node, extended_types: bool) {
        if kind_of(node.owner, extended_types) != NodeKind::Ephemeral {
            return;
        }
        let session = SessionId(node.owner);
        let Some(nodes) = self.by_session.get_mut(&session) else { return };
        self.count -= usize::from(nodes.remove(&id));
        if nodes.is_empty() {
            self.by_session.remove(&session);
        }
    }

    /// Nodes of all sessions.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The nodes of a session.
    pub(super) fn of(&self, session: SessionId) -> impl Iterator<Item = NodeId> {
        self.by_session.get(&session).into_iter().flatten().copied()
    }

    /// The sessions that own nodes, in ascending order.
    pub(super) fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.by_session.keys().copied()
    }
}
