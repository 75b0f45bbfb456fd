//! Writing the tree down while it goes on changing: exactly as it was at one zxid.
//!
//! A walk in pre-order writes node after node, as many at a time as it is asked for. Before a node that the walk
//! has not reached is changed or deleted, its image is written out of turn, and those of its ancestors before
//! it, because a reader must find a node's parent first. Nodes that are created meanwhile are not written. One
//! bit for each slot tells whether a node is still to be written, so the price of a snapshot is that bit, one
//! image for each node that is touched, and no stop.
//!
//! Slots may be used again meanwhile: what is deleted has been written, and what is created is marked as none of
//! the snapshot's. List numbers may, too: a list is held by every node whose image names it until it is written.
//!
//! The bytes are the body of Apache's snapshot file, from the sessions to the end marker; seals and digest are
//! the file's business.

use bytes::{BufMut, Bytes, BytesMut};
use docent::proto::Encode;
use docent::proto::jute::{put_buffer, put_count, put_string, put_vec};
use docent::{SessionId, Zxid};

use super::Tree;
use super::node::{Node, NodeId};
use super::store::Store;

/// Stands where a path stands, after the last node. The root's own path is "".
pub(super) const END_MARKER: &str = "/";

/// What passing a node by is reckoned at, bytes: the walk is bounded even where there is nothing to write.
const STEP_COST: usize = 16;

/// Bytes of a node besides its path and data: two lengths, the list's number, the stat.
const IMAGE_BYTES: u64 = 4 + 4 + 68;

/// A snapshot is being written already; it must end or be aborted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a snapshot is being written already: let it end, or abort it")]
pub struct SnapshotRunning;

/// A walk under way.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// By slot: the node is to be written. Of vacant slots it means nothing.
    pending: Vec<u64>,
    /// Nodes to be written.
    left: usize,
    /// The node that the walk looks at next.
    cursor: NodeId,
    /// What is written and not handed out yet.
    out: BytesMut,
    /// The parent of the node written last, and its path: siblings are written without building it again. When
    /// the parent has gone and its slot is another node's, none of that one's children is written.
    parent: (NodeId, String),
    ended: bool,
}

impl Snapshot {
    fn is_pending(&self, id: NodeId) -> bool {
        self.pending.get(id.0 as usize / 64).is_some_and(|word| word >> (id.0 % 64) & 1 == 1)
    }

    /// The node in this slot is not to be written, or not again.
    fn clear(&mut self, id: NodeId) {
        if let Some(word) = self.pending.get_mut(id.0 as usize / 64) {
            *word &= !(1 << (id.0 % 64));
        }
    }

    /// Writes a node whose parent is written.
    fn write(&mut self, store: &Store, id: NodeId) {
        let node = &store[id];
        if self.parent.0 != node.parent {
            let path = if id == NodeId::ROOT { String::new() } else { store.path(node.parent) };
            self.parent = (node.parent, path);
        }
        put_image(&mut self.out, &self.parent.1, node);
        self.clear(id);
        self.left -= 1;
    }

    /// Writes a node out of turn, after those of its ancestors that are not written yet.
    fn write_early(&mut self, store: &Store, id: NodeId) {
        let mut waiting = vec![id];
        let mut at = store[id].parent;
        while at != NodeId::NONE && self.is_pending(at) {
            waiting.push(at);
            at = store[at].parent;
        }
        while let Some(id) = waiting.pop() {
            self.write(store, id);
        }
    }

    /// Goes on until about `max_bytes` are written, or all.
    fn walk(&mut self, store: &Store, max_bytes: usize) {
        let mut steps = 0;
        while self.left > 0 && self.out.len() + steps * STEP_COST < max_bytes {
            assert_ne!(self.cursor, NodeId::NONE, "the walk ended with {} nodes unwritten", self.left);
            if self.is_pending(self.cursor) {
                self.write(store, self.cursor);
            } else {
                steps += 1;
            }
            self.cursor = store.next(self.cursor);
        }
        if self.left == 0 && !self.ended {
            put_string(&mut self.out, END_MARKER);
            self.ended = true;
        }
    }
}

fn put_image(out: &mut BytesMut, parent_path: &str, node: &Node) {
    if node.parent == NodeId::NONE {
        put_string(out, "");
    } else {
        put_count(out, parent_path.len() + 1 + node.name.len());
        out.put_slice(parent_path.as_bytes());
        out.put_u8(b'/');
        out.put_slice(node.name.as_bytes());
    }
    put_buffer(out, node.data.as_deref());
    let mut bytes = [0_u8; 68];
    let mut rest = &mut bytes[..];
    rest.put_i64(node.acl.to_file());
    rest.put_i64(node.czxid.0);
    rest.put_i64(node.mzxid.0);
    rest.put_i64(node.ctime);
    rest.put_i64(node.mtime);
    rest.put_i32(node.version);
    rest.put_i32(node.cversion);
    rest.put_i32(node.aversion);
    rest.put_i64(node.owner);
    rest.put_i64(node.pzxid.0);
    out.put_slice(&bytes);
}

impl Tree {
    /// Starts writing down the tree as it is now, and these sessions with their timeouts in milliseconds. Returns
    /// the last zxid that the snapshot holds.
    ///
    /// # Errors
    /// A snapshot is being written already.
    pub fn begin_snapshot(&mut self, sessions: &[(SessionId, i32)]) -> Result<Zxid, SnapshotRunning> {
        if self.snapshot.is_some() {
            return Err(SnapshotRunning);
        }
        let mut out = BytesMut::new();
        put_vec(&mut out, sessions, |out, (session, timeout_ms)| {
            out.put_i64(session.0);
            out.put_i32(*timeout_ms);
        });
        put_count(&mut out, self.acls.used().count());
        for (id, entries) in self.acls.used() {
            out.put_i64(id.to_file());
            put_vec(&mut out, entries, |out, entry| entry.encode(out));
        }
        self.snapshot = Some(Snapshot {
            pending: vec![u64::MAX; self.store.slots().div_ceil(64)],
            left: self.store.live(),
            cursor: NodeId::ROOT,
            out,
            parent: (NodeId::NONE, String::new()),
            ended: false,
        });
        self.last_snapshot = Some((self.last_zxid, self.digest));
        Ok(self.last_zxid)
    }

    /// About how many bytes a snapshot would take now, without looking at the nodes. Sessions and access control lists
    /// are not counted: next to the nodes they are few.
    #[must_use]
    pub fn snapshot_bytes(&self) -> u64 {
        self.data_size + self.store.live() as u64 * IMAGE_BYTES
    }

    /// The next bytes of the running snapshot: about `max_bytes` of them, more when much was changed since the
    /// last piece or a node is that large, none when the walk met only nodes that were written before. `None`
    /// when all were handed out, or none is running.
    pub fn next_piece(&mut self, max_bytes: usize) -> Option<Bytes> {
        let snapshot = self.snapshot.as_mut()?;
        if snapshot.ended {
            self.snapshot = None;
            return None;
        }
        // At least one node, so that every call goes forward.
        snapshot.walk(&self.store, max_bytes.max(snapshot.out.len() + 1));
        Some(snapshot.out.split().freeze())
    }

    /// Gives up the running snapshot, if there is one.
    pub fn abort_snapshot(&mut self) {
        if self.snapshot.take().is_some() {
            self.last_snapshot = None;
        }
    }

    /// The zxid and the digest of the running snapshot, or of the last one that was not aborted.
    #[must_use]
    pub fn snapshot_digest(&self) -> Option<(Zxid, u64)> {
        self.last_snapshot
    }

    /// A node is about to change or go: the snapshot takes its image while it is what it was.
    pub(super) fn preserve(&mut self, id: NodeId) {
        if let Some(snapshot) = &mut self.snapshot
            && snapshot.is_pending(id)
        {
            snapshot.write_early(&self.store, id);
        }
    }

    /// A node has come that the snapshot does not hold.
    pub(super) fn skip_in_snapshot(&mut self, id: NodeId) {
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.clear(id);
        }
    }

    /// A node without children is about to go: the walk must not stand on it.
    pub(super) fn step_over_in_snapshot(&mut self, id: NodeId) {
        if let Some(snapshot) = &mut self.snapshot
            && snapshot.cursor == id
        {
            snapshot.cursor = self.store.after(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::txn::{CreateTxn, NodeKind, Txn, TxnHeader};
    use crate::tree::check::{Picture, check, picture};
    use docent::Acl;

    fn apply(tree: &mut Tree, txn: &Txn) {
        let zxid = Zxid(tree.last_zxid().0 + 1);
        tree.apply(&TxnHeader { session: SessionId(1), cxid: 0, zxid, time_ms: 0 }, txn, &mut Vec::new());
        check(tree);
    }

    fn create(tree: &mut Tree, path: &str) {
        let path = path.to_owned();
        let kind = NodeKind::Persistent;
        let create =
            CreateTxn { create2: false, path, data: None, acl: Acl::open(), kind, parent_cversion: -1 };
        apply(tree, &Txn::Create(create));
    }

    fn delete(tree: &mut Tree, path: &str) {
        apply(tree, &Txn::Delete { path: path.into(), swept: false });
    }

    fn tree_of(paths: &[&str]) -> Tree {
        let mut tree = Tree::new();
        paths.iter().for_each(|path| create(&mut tree, path));
        tree
    }

    fn rest(tree: &mut Tree, mut body: Vec<u8>) -> Picture {
        while let Some(piece) = tree.next_piece(64) {
            body.extend_from_slice(&piece);
        }
        picture(&Tree::load(&mut &body[..], true).unwrap().0)
    }

    #[test]
    fn the_node_that_the_walk_stands_on_may_go_and_its_slot_be_used_again() {
        for pieces in 0..8 {
            let mut tree = tree_of(&["/a", "/a/b", "/a/b/c", "/a/d", "/e"]);
            let expected = picture(&tree);
            tree.begin_snapshot(&[]).unwrap();
            let mut body = Vec::new();
            for _ in 0..pieces {
                body.extend_from_slice(&tree.next_piece(1).unwrap());
            }
            for path in ["/a/b/c", "/a/b", "/a/d", "/a", "/e"] {
                delete(&mut tree, path);
                create(&mut tree, &format!("/new{}", path.len()));
                delete(&mut tree, &format!("/new{}", path.len()));
            }
            for path in ["/e", "/e/b", "/a", "/a/d", "/a/d/c"] {
                create(&mut tree, path);
            }
            assert_eq!(rest(&mut tree, body), expected, "after {pieces} pieces");
        }
    }

    #[test]
    fn what_is_created_meanwhile_neither_is_written_nor_keeps_the_walk_going() {
        let mut tree = tree_of(&["/a"]);
        let expected = picture(&tree);
        tree.begin_snapshot(&[]).unwrap();
        let mut body = Vec::new();
        let mut calls = 0;
        while let Some(piece) = tree.next_piece(1) {
            body.extend_from_slice(&piece);
            (0..20).for_each(|n| create(&mut tree, &format!("/a/{calls}-{n}")));
            calls += 1;
        }
        assert!(calls <= expected.len(), "at most one call for each node, not {calls}");
        assert_eq!(rest(&mut tree, body), expected);
    }

    #[test]
    fn the_size_of_a_snapshot_is_known_before() {
        let mut tree = tree_of(&["/a", "/a/b", "/a/b/c", "/d"]);
        for n in 0..100 {
            create(&mut tree, &format!("/d/{n}"));
        }
        let foreseen = tree.snapshot_bytes();
        tree.begin_snapshot(&[]).unwrap();
        let mut written = 0;
        while let Some(piece) = tree.next_piece(1 << 20) {
            written += piece.len() as u64;
        }
        assert!(foreseen.abs_diff(written) < 100, "foreseen {foreseen}, written {written}");
    }

    #[test]
    fn one_snapshot_at_a_time_until_it_ends_or_is_given_up() {
        let mut tree = tree_of(&["/a"]);
        assert_eq!((tree.next_piece(9), tree.snapshot_digest()), (None, None));
        assert_eq!(tree.begin_snapshot(&[]), Ok(Zxid(1)));
        create(&mut tree, "/b");
        assert_eq!(tree.begin_snapshot(&[]), Err(SnapshotRunning));
        tree.abort_snapshot();
        assert_eq!((tree.next_piece(9), tree.snapshot_digest()), (None, None));
        assert_eq!(tree.begin_snapshot(&[]), Ok(Zxid(2)));
        let expected = (picture(&tree), Some((Zxid(2), tree.digest())));
        create(&mut tree, "/c");
        assert_eq!((rest(&mut tree, Vec::new()), tree.snapshot_digest()), expected);
    }
}
