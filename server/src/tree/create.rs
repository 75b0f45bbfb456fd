//! Creating a node, and finding that it exists already.

use docent::proto::EventType;
use docent::{ErrorCode, Zxid};

use super::acl::AclId;
use super::node::{Node, NodeId, StoredStat};
use super::{Change, Outcome, Tree, digest, split};
use crate::node::txn::{CreateTxn, NodeKind, TxnHeader};

impl Tree {
    pub(super) fn create(
        &mut self,
        header: &TxnHeader,
        txn: &CreateTxn,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        let Some((parent_path, name)) = split(&txn.path) else {
            return Outcome::error(ErrorCode::BAD_ARGUMENTS);
        };
        let Some(parent) = self.store.find(parent_path) else { return Outcome::error(ErrorCode::NO_NODE) };
        if let Some(existing) = self.store.child(parent, name) {
            return self.create_existing(existing, parent, header.zxid, txn);
        }
        let parent_acl = self.store[parent].acl;
        self.count_create(parent, parent_path, txn.parent_cversion, header.zxid);
        let stat = StoredStat::created(header.zxid, header.time_ms, txn.kind, header.session);
        let acl = self.acls.acquire(&txn.acl);
        let id = self.add(parent, &txn.path, Node::new(name, txn.data.as_deref(), acl, &stat));
        self.quota_created(&txn.path, id);
        changes.push(Change { kind: EventType::NodeCreated, path: txn.path.clone(), acl, parent_acl });
        self.outcome_of(id)
    }

    /// The node exists: the transaction is replayed over a state that holds its effect. The ACL is the
    /// transaction's again, as in Apache from 3.8.5 and 3.9.4 on; a later change of it follows in the log.
    fn create_existing(&mut self, id: NodeId, parent: NodeId, zxid: Zxid, txn: &CreateTxn) -> Outcome {
        let old = self.store[id].acl;
        let acl = self.acls.acquire(&txn.acl);
        if acl != old {
            self.change(id, false, |node| node.acl = acl);
        }
        self.acls.release(old);
        let is_type_1 = !txn.create2 && matches!(txn.kind, NodeKind::Persistent | NodeKind::Ephemeral);
        if is_type_1 && let Some((parent_path, _)) = split(&txn.path) {
            self.count_create(parent, parent_path, txn.parent_cversion, zxid);
        }
        Outcome::error(ErrorCode::NODE_EXISTS)
    }

    /// One child more was created: the count and pzxid move together, and only upward.
    fn count_create(&mut self, parent: NodeId, path: &str, parent_cversion: i32, zxid: Zxid) {
        let current = self.store[parent].cversion;
        let count = if parent_cversion == -1 { current.wrapping_add(1) } else { parent_cversion };
        if count > current {
            self.change(parent, digest::is_covered(path), |node| {
                node.cversion = count;
                node.pzxid = zxid;
            });
        }
    }

    /// Adds what every server has of its own, where it is missing. It counts as never created.
    pub(super) fn add_reserved(&mut self) {
        let read_only = docent::Acl::read_only();
        for (parent, name) in [("/", "zookeeper"), ("/zookeeper", "quota"), ("/zookeeper", "config")] {
            let Some(parent_id) = self.store.find(parent) else { continue };
            if self.store.child(parent_id, name).is_some() {
                continue;
            }
            let is_config = name == "config";
            let acl = if is_config { self.acls.acquire(&read_only) } else { AclId::OPEN };
            let aversion = if is_config { -1 } else { 0 };
            let stat = StoredStat { aversion, ..StoredStat::default() };
            self.add(parent_id, &docent::path::join(parent, name), Node::new(name, Some(&[]), acl, &stat));
        }
    }

    /// Gives the root its ACL, data and state, and its share in digest and size.
    pub(super) fn settle_root(&mut self, acl: AclId, data: Option<&[u8]>, stat: &StoredStat) {
        let links = &self.store[NodeId::ROOT];
        let (first_child, num_children) = (links.first_child, links.num_children);
        let content_crc = digest::content_crc("", data);
        let root = Node { content_crc, first_child, num_children, ..Node::new("", data, acl, stat) };
        self.digest = self.digest.wrapping_add(digest::finish(content_crc, &root.stored()));
        // Apache counts the root under both of its names, "" and "/".
        self.data_size += 1 + root.data_length() as u64;
        self.store[NodeId::ROOT] = root;
    }
}
