//! Setting data: by a transaction, and by the server for itself.

use docent::proto::EventType;
use docent::{ErrorCode, Zxid};

use super::node::{Node, NodeId};
use super::{Change, Outcome, Tree, digest};
use crate::node::txn::TxnHeader;

/// Where every server puts the text of the ensemble's configuration.
const CONFIG_PATH: &str = "/zookeeper/config";

impl Tree {
    pub(super) fn set_data(
        &mut self,
        header: &TxnHeader,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        let Some(id) = self.store.find(path) else { return Outcome::error(ErrorCode::NO_NODE) };
        let old_length = self.store[id].data_length();
        self.put_data(id, path, data, |node| {
            node.mtime = header.time_ms;
            node.mzxid = header.zxid;
            node.version = version;
        });
        self.quota_resized(path, old_length, data.map_or(0, <[u8]>::len));
        let acl = self.store[id].acl;
        let parent = self.store[id].parent;
        let parent_acl = if parent == NodeId::NONE { acl } else { self.store[parent].acl };
        changes.push(Change { kind: EventType::NodeDataChanged, path: path.to_owned(), acl, parent_acl });
        self.outcome_of(id)
    }

    /// Sets the text of the configuration, which each server does for itself: outside of the log and the digest,
    /// and unheard by watches. The version is −1 in an ensemble and 0 in a server that stands alone.
    pub fn set_config(&mut self, text: &[u8], zxid: Zxid, version: i32, now_ms: i64) {
        self.add_reserved();
        let Some(id) = self.store.find(CONFIG_PATH) else { return };
        self.put_data(id, CONFIG_PATH, Some(text), |node| {
            node.mtime = now_ms;
            node.mzxid = zxid;
            node.version = version;
        });
    }

    /// Replaces the data, and what `stamp` replaces beside it.
    pub(super) fn put_data(
        &mut self,
        id: NodeId,
        path: &str,
        data: Option<&[u8]>,
        stamp: impl FnOnce(&mut Node),
    ) {
        let covered = digest::is_covered(path);
        let content_crc = if covered { digest::content_crc(path, data) } else { 0 };
        self.data_size -= self.store[id].data_length() as u64;
        self.data_size += data.map_or(0, <[u8]>::len) as u64;
        self.change(id, covered, |node| {
            node.data = data.map(Box::from);
            node.content_crc = content_crc;
            stamp(node);
        });
    }
}
