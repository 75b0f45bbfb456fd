//! Deleting a node, and what ends with a session.

use docent::proto::EventType;
use docent::{ErrorCode, Zxid};

use super::node::NodeId;
use super::{Change, Outcome, Tree, digest, split};
use crate::node::txn::TxnHeader;

impl Tree {
    pub(super) fn delete(&mut self, path: &str, zxid: Zxid, changes: &mut Vec<Change>) -> Outcome {
        let Some((parent_path, name)) = split(path) else { return Outcome::error(ErrorCode::BAD_ARGUMENTS) };
        let Some(parent) = self.store.find(parent_path) else { return Outcome::error(ErrorCode::NO_NODE) };
        let parent_acl = self.store[parent].acl;
        // The node may have gone while a fuzzy snapshot was written, in which the parent came earlier.
        if zxid > self.store[parent].pzxid {
            self.change(parent, digest::is_covered(parent_path), |node| node.pzxid = zxid);
        }
        let Some(id) = self.store.child(parent, name) else { return Outcome::error(ErrorCode::NO_NODE) };
        let acl = self.store[id].acl;
        self.remove_subtree(id, path);
        changes.push(Change { kind: EventType::NodeDeleted, path: path.to_owned(), acl, parent_acl });
        Outcome::OK
    }

    /// Deletes the nodes that end with the header's session: those that the transaction names, and any others
    /// that are here. The others exist only in logs from before 3.6, which name none.
    pub(super) fn close_session(
        &mut self,
        header: &TxnHeader,
        paths: Option<&[String]>,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        for path in paths.unwrap_or_default() {
            self.delete(path, header.zxid, changes);
        }
        for path in self.ephemerals(header.session) {
            self.delete(&path, header.zxid, changes);
        }
        Outcome::OK
    }

    /// Takes out a node and, in a replay, the children of its later life.
    fn remove_subtree(&mut self, top: NodeId, path: &str) {
        let mut at = top;
        loop {
            while self.store[at].first_child != NodeId::NONE {
                at = self.store[at].first_child;
            }
            if at == top {
                return self.remove_leaf(top, path);
            }
            let parent = self.store[at].parent;
            let below = self.store.path(at);
            self.remove_leaf(at, &below);
            at = parent;
        }
    }

    fn remove_leaf(&mut self, id: NodeId, path: &str) {
        let node = self.take_out(id, path);
        self.quota_deleted(path, node.data_length());
    }
}
