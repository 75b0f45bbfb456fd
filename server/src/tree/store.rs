//! Where the nodes lie, and how one is found by its path.
//!
//! Slots lie in chunks of fixed size, so growing never copies the tree and never needs twice its memory. One
//! index over (parent, name) serves the whole tree, so a node that has children needs no table of its own.
//!
//! Freed slots are used again; chunks are not given back.

use std::ops;

use super::acl::AclId;
use super::node::{Node, NodeId, StoredStat};
use crate::index::Index;

/// Slots of one chunk: 64 KiB, small enough that allocators do not round it up to pages of its own.
const CHUNK: usize = 512;

/// The slots and the index.
#[derive(Debug)]
pub(super) struct Store {
    chunks: Vec<Vec<Node>>,
    /// The head of the list of vacant slots.
    vacant: NodeId,
    live: usize,
    by_name: Index<NodeId>,
}

impl ops::Index<NodeId> for Store {
    type Output = Node;
    fn index(&self, id: NodeId) -> &Node {
        slot(&self.chunks, id)
    }
}

impl ops::IndexMut<NodeId> for Store {
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.chunks[id.0 as usize / CHUNK][id.0 as usize % CHUNK]
    }
}

impl Store {
    /// A store that holds an empty root.
    pub(super) fn new(seed: u64) -> Store {
        let mut store =
            Store { chunks: Vec::new(), vacant: NodeId::NONE, live: 0, by_name: Index::new(seed) };
        let root = store.place(Node::new("", Some(&[]), AclId::OPEN, &StoredStat::default()));
        assert_eq!(root, NodeId::ROOT, "the root takes the first slot");
        store
    }

    /// Nodes that exist, the root once.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Slots that exist, vacant ones too.
    pub(super) fn slots(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// The child of this name.
    pub(super) fn child(&self, parent: NodeId, name: &str) -> Option<NodeId> {
        self.by_name.find((parent, name), |id| key(&self[id]) == (parent, name))
    }

    /// The node of this path. Any string may come; what is not a path finds nothing, and "" is the root.
    pub(super) fn find(&self, path: &str) -> Option<NodeId> {
        let rest = match path {
            "" | "/" => return Some(NodeId::ROOT),
            _ => path.strip_prefix('/')?,
        };
        rest.split('/').try_fold(NodeId::ROOT, |at, name| self.child(at, name))
    }

    /// Adds a node as the youngest child of `parent`, which has none of this name.
    pub(super) fn insert(&mut self, parent: NodeId, node: Node) -> NodeId {
        let id = self.place(node);
        self.link(parent, id);
        let chunks = &self.chunks;
        self.by_name.insert(id, |id| key(slot(chunks, id)));
        id
    }

    /// Takes out a node that has no children.
    pub(super) fn remove(&mut self, id: NodeId) -> Node {
        assert_eq!(self[id].num_children, 0, "children go before their parent");
        assert_ne!(id, NodeId::ROOT, "the root stays");
        self.by_name.remove(id, key(slot(&self.chunks, id)));
        self.unlink(id);
        let mut empty = Node::new("", None, AclId::OPEN, &StoredStat::default());
        empty.next = self.vacant;
        self.vacant = id;
        self.live -= 1;
        std::mem::replace(&mut self[id], empty)
    }

    /// The path of a node; the root's is "".
    pub(super) fn path(&self, id: NodeId) -> String {
        let mut names = Vec::new();
        let mut at = id;
        while at != NodeId::ROOT {
            names.push(&*self[at].name);
            at = self[at].parent;
        }
        names.iter().rev().flat_map(|name| ["/", name]).collect()
    }

    /// The names of the children, the oldest first.
    pub(super) fn children(&self, id: NodeId) -> Children<'_> {
        Children { store: self, at: self[id].first_child, left: self[id].num_children as usize }
    }

    /// Whether the node lies below `/zookeeper`, where servers differ.
    pub(super) fn is_reserved(&self, id: NodeId) -> bool {
        let mut at = id;
        while self[at].parent != NodeId::NONE && self[at].parent != NodeId::ROOT {
            at = self[at].parent;
        }
        at != id && self[at].name == "zookeeper"
    }

    /// The node that follows in pre-order: the first child, or what follows the whole subtree.
    pub(super) fn next(&self, id: NodeId) -> NodeId {
        let child = self[id].first_child;
        if child == NodeId::NONE { self.after(id) } else { child }
    }

    /// The node that follows a whole subtree in pre-order.
    pub(super) fn after(&self, id: NodeId) -> NodeId {
        let mut at = id;
        while at != NodeId::ROOT {
            if self[at].next != NodeId::NONE {
                return self[at].next;
            }
            at = self[at].parent;
        }
        NodeId::NONE
    }

    /// The nodes of a subtree in pre-order, the top first.
    pub(super) fn subtree(&self, top: NodeId) -> impl Iterator<Item = NodeId> {
        let end = self.after(top);
        let following = move |at: &NodeId| Some(self.next(*at)).filter(|next| *next != end);
        std::iter::successors(Some(top), following)
    }

    /// Checks that every slot is a node of the tree or vacant, and that the links agree with each other.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut vacant = 0;
        let mut at = self.vacant;
        while at != NodeId::NONE {
            vacant += 1;
            at = self[at].next;
        }
        assert_eq!(self.subtree(NodeId::ROOT).count(), self.live);
        assert_eq!(self.live + vacant, self.slots());
        assert_eq!(self.by_name.len(), self.live - 1);
        for id in self.subtree(NodeId::ROOT) {
            let first = self[id].first_child;
            let from = Some(first).filter(|first| *first != NodeId::NONE);
            let younger = |at: &NodeId| Some(self[*at].next).filter(|next| *next != NodeId::NONE);
            let children: Vec<NodeId> = std::iter::successors(from, younger).collect();
            assert_eq!(children.len(), self[id].num_children as usize);
            for (n, child) in children.iter().enumerate() {
                let older = children[(n + children.len() - 1) % children.len()];
                assert_eq!((self[*child].parent, self[*child].prev), (id, older));
                assert_eq!(self.child(id, &self[*child].name), Some(*child));
            }
        }
    }

    /// Puts a node into a vacant slot or a new one.
    fn place(&mut self, node: Node) -> NodeId {
        self.live += 1;
        if self.vacant != NodeId::NONE {
            let id = self.vacant;
            self.vacant = self[id].next;
            self[id] = node;
            return id;
        }
        let slots = self.slots();
        if slots.is_multiple_of(CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let last = self.chunks.last_mut().expect("a chunk was just made where there was none");
        last.push(node);
        let id = u32::try_from(slots).ok().filter(|id| *id != u32::MAX);
        NodeId(id.expect("four thousand million nodes do not fit into memory"))
    }

    fn link(&mut self, parent: NodeId, id: NodeId) {
        let first = self[parent].first_child;
        let last = if first == NodeId::NONE { id } else { self[first].prev };
        self[id].parent = parent;
        self[id].next = NodeId::NONE;
        self[id].prev = last;
        if first == NodeId::NONE {
            self[parent].first_child = id;
        } else {
            self[last].next = id;
            self[first].prev = id;
        }
        self[parent].num_children += 1;
    }

    fn unlink(&mut self, id: NodeId) {
        let (parent, prev, next) = (self[id].parent, self[id].prev, self[id].next);
        if self[parent].first_child == id {
            self[parent].first_child = next;
        } else {
            self[prev].next = next;
        }
        // The oldest child points back at the youngest.
        let heir = if next == NodeId::NONE { self[parent].first_child } else { next };
        if heir != NodeId::NONE {
            self[heir].prev = prev;
        }
        self[parent].num_children -= 1;
    }
}

fn slot(chunks: &[Vec<Node>], id: NodeId) -> &Node {
    &chunks[id.0 as usize / CHUNK][id.0 as usize % CHUNK]
}

/// What the index knows a node by.
fn key(node: &Node) -> (NodeId, &str) {
    (node.parent, &node.name)
}

/// The names of a node's children.
#[derive(Clone)]
pub struct Children<'a> {
    store: &'a Store,
    at: NodeId,
    left: usize,
}

impl<'a> Iterator for Children<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.at == NodeId::NONE {
            return None;
        }
        let node = &self.store[self.at];
        self.at = node.next;
        self.left -= 1;
        Some(&node.name)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Children<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(store: &mut Store, parent: NodeId, name: &str) -> NodeId {
        store.insert(parent, Node::new(name, None, AclId::OPEN, &StoredStat::default()))
    }

    fn names(store: &Store, id: NodeId) -> Vec<&str> {
        store.children(id).collect()
    }

    #[test]
    fn children_come_in_the_order_of_creation_whichever_goes() {
        for gone in 0..3 {
            let mut store = Store::new(1);
            let ids = ["a", "b", "c"].map(|name| add(&mut store, NodeId::ROOT, name));
            store.remove(ids[gone]);
            add(&mut store, NodeId::ROOT, "d");
            let mut expected = vec!["a", "b", "c"];
            expected.remove(gone);
            expected.push("d");
            assert_eq!(names(&store, NodeId::ROOT), expected);
        }
    }

    #[test]
    fn slots_are_used_again_before_new_ones_are_made() {
        let mut store = Store::new(1);
        for round in 0..3 {
            let ids: Vec<NodeId> =
                (0..2 * CHUNK).map(|n| add(&mut store, NodeId::ROOT, &format!("{round}-{n}"))).collect();
            assert_eq!((store.live(), store.slots()), (2 * CHUNK + 1, 2 * CHUNK + 1));
            ids.into_iter().for_each(|id| drop(store.remove(id)));
            assert_eq!(names(&store, NodeId::ROOT), [""; 0]);
        }
        assert_eq!(store.by_name.len(), 0);
    }

    #[test]
    fn only_whole_paths_are_found() {
        let mut store = Store::new(1);
        let a = add(&mut store, NodeId::ROOT, "a");
        let b = add(&mut store, a, "b");
        assert_eq!(store.find("/a/b"), Some(b));
        assert_eq!(store.path(b), "/a/b");
        for nothing in ["a", "a/b", "/a/", "//a", "/a//b", "/a/b/", "/b", "//", "/a/b/c"] {
            assert_eq!(store.find(nothing), None, "{nothing:?}");
        }
        for root in ["", "/"] {
            assert_eq!(store.find(root), Some(NodeId::ROOT));
        }
    }

    #[test]
    fn pre_order_visits_a_subtree_and_no_more() {
        let mut store = Store::new(1);
        let a = add(&mut store, NodeId::ROOT, "a");
        let c = add(&mut store, NodeId::ROOT, "c");
        let ab = add(&mut store, a, "b");
        let abx = add(&mut store, ab, "x");
        let paths = |top| store.subtree(top).map(|id| store.path(id)).collect::<Vec<_>>();
        assert_eq!(paths(NodeId::ROOT), ["", "/a", "/a/b", "/a/b/x", "/c"]);
        assert_eq!(paths(a), ["/a", "/a/b", "/a/b/x"]);
        assert_eq!(paths(abx), ["/a/b/x"]);
        assert_eq!(paths(c), ["/c"]);
    }
}
