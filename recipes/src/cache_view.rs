//! PURE. What a cache knows of the server's tree, and what changes when it learns more.
//!
//! Invariants: below the root no node is here without its parent; a path's czxid never falls while the node stays,
//! and neither does its mzxid within one czxid. A node that was deleted and made anew has a higher czxid, whatever its
//! version says, and is told as a deletion and a creation.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use bytes::Bytes;
use docent::{Stat, path};

/// A node as it was read last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CachedNode {
    /// Its path, as the cache's client names it.
    pub path: Arc<str>,
    /// Its data. `None` when it is null, and in a cache [without data](crate::CacheBuilder::without_data).
    pub data: Option<Bytes>,
    /// Its Stat, from the read that brought the data. What it says of the children may be older than the cache.
    pub stat: Stat,
}

impl CachedNode {
    pub(crate) fn new(path: Arc<str>, data: Option<Bytes>, stat: Stat) -> CachedNode {
        CachedNode { path, data, stat }
    }

    /// Bytes of path and data.
    fn bytes(&self) -> usize {
        self.path.len() + self.data.as_ref().map_or(0, Bytes::len)
    }
}

/// Something that became different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Created(Arc<CachedNode>),
    Changed { old: Arc<CachedNode>, new: Arc<CachedNode> },
    Deleted(Arc<CachedNode>),
}

/// What a node that was read is to the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It is there for the first time, or made anew.
    Created,
    /// It was there, with other data or the same.
    Known,
    /// It is older than what is known: the server is behind.
    Behind,
    /// Its parent is not there. Whoever reads the parent learns of it.
    Orphan,
}

/// The nodes of a cache at one moment. Nothing changes it any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheSnapshot {
    nodes: BTreeMap<Arc<str>, Arc<CachedNode>>,
    bytes: usize,
}

impl CacheSnapshot {
    /// The node at a path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Arc<CachedNode>> {
        self.nodes.get(path).cloned()
    }

    /// The children of a node, by name.
    #[must_use]
    pub fn children(&self, path: &str) -> Vec<Arc<CachedNode>> {
        let prefix = prefix_below(path);
        let mut children = Vec::new();
        let mut range = self.nodes.range::<str, _>((Excluded(&*prefix), Unbounded));
        while let Some((path, node)) = range.next() {
            let Some(rest) = path.strip_prefix(&*prefix) else { break };
            match rest.find('/') {
                None => children.push(Arc::clone(node)),
                Some(end) => {
                    // Everything below this child is skipped at once; '0' is what follows '/'.
                    let past = format!("{prefix}{}0", &rest[..end]);
                    range = self.nodes.range::<str, _>((Included(&*past), Unbounded));
                }
            }
        }
        children
    }

    /// All nodes, in the order of their paths: each parent before its children.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<CachedNode>> {
        self.nodes.values()
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node, not even the root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Bytes of all paths and data.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a node that was read. `root` is the one node that needs no parent.
    pub(crate) fn offer(&mut self, root: &str, node: CachedNode, changes: &mut Vec<Change>) -> Offered {
        let node = Arc::new(node);
        let Some(known) = self.nodes.get(&node.path) else {
            let has_parent = path::parent(&node.path).is_some_and(|parent| self.nodes.contains_key(parent));
            if &*node.path != root && !has_parent {
                return Offered::Orphan;
            }
            changes.push(Change::Created(Arc::clone(&node)));
            self.keep(node);
            return Offered::Created;
        };
        let (old, new) = (known.stat, node.stat);
        if (new.czxid, new.mzxid) < (old.czxid, old.mzxid) {
            return Offered::Behind;
        }
        if new.czxid > old.czxid {
            self.absent(&node.path, changes);
            changes.push(Change::Created(Arc::clone(&node)));
            self.keep(node);
            return Offered::Created;
        }
        if new.mzxid > old.mzxid {
            changes.push(Change::Changed { old: Arc::clone(known), new: Arc::clone(&node) });
        }
        // What else the Stat says may be newer too, and is no news.
        self.keep(node);
        Offered::Known
    }

    /// The node does not exist, and so nothing below it. What is told begins with the deepest.
    pub(crate) fn absent(&mut self, path: &str, changes: &mut Vec<Change>) {
        let prefix = prefix_below(path);
        let below = self.nodes.range::<str, _>((Excluded(&*prefix), Unbounded));
        let mut gone: Vec<Arc<str>> =
            below.map(|(path, _)| Arc::clone(path)).take_while(|path| path.starts_with(&*prefix)).collect();
        gone.reverse();
        for path in gone.iter().map(|path| &**path).chain([path]) {
            if let Some(node) = self.nodes.remove(path) {
                self.bytes -= node.bytes();
                changes.push(Change::Deleted(node));
            }
        }
    }

    fn keep(&mut self, node: Arc<CachedNode>) {
        self.bytes += node.bytes();
        if let Some(old) = self.nodes.insert(Arc::clone(&node.path), node) {
            self.bytes -= old.bytes();
        }
    }
}

/// How every path below this one begins.
fn prefix_below(path: &str) -> String {
    path::join(path, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use docent::Zxid;

    fn node(path: &str, czxid: i64, mzxid: i64) -> CachedNode {
        let stat = Stat { czxid: Zxid(czxid), mzxid: Zxid(mzxid), ..Stat::default() };
        CachedNode::new(path.into(), Some("x".into()), stat)
    }

    fn view(paths: &[&str]) -> CacheSnapshot {
        let mut view = CacheSnapshot::default();
        for path in paths {
            assert_eq!(view.offer(paths[0], node(path, 1, 1), &mut Vec::new()), Offered::Created);
        }
        view
    }

    fn told(changes: &[Change]) -> Vec<String> {
        let told = |change: &Change| match change {
            Change::Created(node) => format!("+{}", node.path),
            Change::Changed { old, new } => format!("{}:{}-{}", new.path, old.stat.mzxid.0, new.stat.mzxid.0),
            Change::Deleted(node) => format!("-{}", node.path),
        };
        changes.iter().map(told).collect()
    }

    #[test]
    fn children_are_told_from_what_is_below_them_and_beside_them() {
        let view = view(&["/a", "/a/b", "/a/b/c", "/a/b/c/d", "/a/b-", "/a/b0", "/a/c"]);
        let names = |path: &str| -> Vec<String> {
            view.children(path).iter().map(|node| node.path.to_string()).collect()
        };
        assert_eq!(names("/a"), ["/a/b", "/a/b-", "/a/b0", "/a/c"]);
        assert_eq!(names("/a/b"), ["/a/b/c"]);
        assert_eq!(names("/a/c"), [""; 0]);
        assert_eq!(names("/"), ["/a"]);
        let root = self::view(&["/", "/b", "/b/c", "/d"]);
        assert_eq!(root.children("/").len(), 2);
    }

    #[test]
    fn a_node_made_anew_with_the_same_version_is_a_deletion_and_a_creation() {
        let mut view = view(&["/a", "/a/b", "/a/b/c", "/a/b-"]);
        let mut changes = Vec::new();
        assert_eq!(view.offer("/a", node("/a/b", 7, 7), &mut changes), Offered::Created);
        assert_eq!(told(&changes), ["-/a/b/c", "-/a/b", "+/a/b"]);
        assert_eq!(view.len(), 3);
    }

    #[test]
    fn what_is_older_or_has_no_parent_is_refused_and_what_is_the_same_says_nothing() {
        let mut view = view(&["/a"]);
        let mut changes = Vec::new();
        assert_eq!(view.offer("/a", node("/a", 1, 5), &mut changes), Offered::Known);
        assert_eq!(view.offer("/a", node("/a", 1, 5), &mut changes), Offered::Known);
        assert_eq!(view.offer("/a", node("/a", 1, 4), &mut changes), Offered::Behind);
        assert_eq!(view.offer("/a", node("/a", 0, 9), &mut changes), Offered::Behind);
        assert_eq!(view.offer("/a", node("/a/b/c", 9, 9), &mut changes), Offered::Orphan);
        assert_eq!(told(&changes), ["/a:1-5"]);
    }

    #[test]
    fn bytes_are_those_of_the_paths_and_data_that_are_there() {
        let mut view = view(&["/a", "/a/b"]);
        assert_eq!(view.bytes(), 2 + 1 + 4 + 1);
        let longer = CachedNode { data: Some("four".into()), ..node("/a/b", 1, 2) };
        view.offer("/a", longer, &mut Vec::new());
        assert_eq!(view.bytes(), 2 + 1 + 4 + 4);
        view.absent("/a", &mut Vec::new());
        assert_eq!((view.bytes(), view.len()), (0, 0));
    }
}
