//! What the tree will be when everything that is proposed has been applied.
//!
//! A leader judges a request against the tree as the request will find it, which is ahead of the tree as it is. Only
//! what differs is kept: one record per node that a proposal changes, until that proposal is applied. The digest of
//! the future tree is kept along, because a transaction carries the digest that follows it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use docent::{Acl, SessionId, Zxid};
use hashbrown::HashMap;

use crate::tree::{NodeView, StoredStat, Tree, content_crc, finish_digest, is_covered};

/// A node as it will be.
#[derive(Clone, Debug)]
pub(super) struct PendingNode {
    pub(super) stat: StoredStat,
    pub(super) children: u64,
    pub(super) data_length: usize,
    pub(super) acl: Arc<[Acl]>,
    /// The checksum of path and data: the digest goes on from it, so that data is not kept a second time.
    data_crc: u32,
    digested: bool,
}

impl PendingNode {
    pub(super) fn new(path: &str, data: Option<&[u8]>, acl: Arc<[Acl]>, stat: StoredStat) -> Self {
        let digested = is_covered(path);
        PendingNode {
            stat,
            children: 0,
            data_length: data.map_or(0, <[u8]>::len),
            acl,
            data_crc: if digested { content_crc(path, data) } else { 0 },
            digested,
        }
    }

    fn of(path: &str, view: &NodeView<'_>) -> Self {
        PendingNode {
            stat: view.stored(),
            children: view.num_children() as u64,
            data_length: view.data().map_or(0, <[u8]>::len),
            acl: view.acl().into(),
            data_crc: view.content_crc(),
            digested: is_covered(path),
        }
    }

    pub(super) fn set_data(&mut self, path: &str, data: Option<&[u8]>) {
        self.data_length = data.map_or(0, <[u8]>::len);
        if self.digested {
            self.data_crc = content_crc(path, data);
        }
    }

    fn digest(&self) -> u64 {
        if self.digested { finish_digest(self.data_crc, &self.stat) } else { 0 }
    }
}

/// A record: the last proposal that touches the node, and the node; `None` when it will be gone.
#[derive(Clone, Debug)]
struct Entry {
    key: Arc<str>,
    zxid: Zxid,
    node: Option<PendingNode>,
}

/// A node, pending or as it stands in the tree.
pub(super) enum Look<'a> {
    Pending(&'a PendingNode),
    Stored(NodeView<'a>),
}

impl Look<'_> {
    pub(super) fn stat(&self) -> StoredStat {
        match self {
            Look::Pending(node) => node.stat,
            Look::Stored(view) => view.stored(),
        }
    }

    pub(super) fn acl(&self) -> &[Acl] {
        match self {
            Look::Pending(node) => &node.acl,
            Look::Stored(view) => view.acl(),
        }
    }

    pub(super) fn children(&self) -> u64 {
        match self {
            Look::Pending(node) => node.children,
            Look::Stored(view) => view.num_children() as u64,
        }
    }

    pub(super) fn data_length(&self) -> usize {
        match self {
            Look::Pending(node) => node.data_length,
            Look::Stored(view) => view.data().map_or(0, <[u8]>::len),
        }
    }
}

/// How to take back what a multi has changed before it failed.
#[derive(Debug)]
pub(super) struct Undo {
    changes: Vec<(Arc<str>, Option<Entry>)>,
    order: usize,
    digest: u64,
}

/// The differences between the tree as it is and as it will be.
#[derive(Debug)]
pub(super) struct Outstanding {
    nodes: HashMap<Arc<str>, Entry, foldhash::fast::FixedState>,
    order: VecDeque<(Zxid, Arc<str>)>,
    /// Ephemeral nodes that pending proposals create (true) or delete (false), by owner.
    ephemerals: BTreeMap<SessionId, BTreeSet<Arc<str>>>,
    digest: u64,
    undo: Option<Undo>,
    /// The list of the last node: most nodes of a moment have the same, which is then kept once.
    last_acl: Arc<[Acl]>,
}

impl Outstanding {
    /// No difference from a tree with this digest.
    pub(super) fn new(digest: u64) -> Self {
        Outstanding {
            nodes: HashMap::default(),
            order: VecDeque::new(),
            ephemerals: BTreeMap::new(),
            digest,
            undo: None,
            last_acl: Arc::from([]),
        }
    }

    /// The digest of the future tree.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// The node as it will be.
    pub(super) fn look<'a>(&'a self, tree: &'a Tree, path: &str) -> Option<Look<'a>> {
        let path = if path.is_empty() { "/" } else { path };
        match self.nodes.get(path) {
            Some(entry) => entry.node.as_ref().map(Look::Pending),
            None => tree.node(path).map(Look::Stored),
        }
    }

    /// The list, shared with the last node that had it.
    pub(super) fn share_acl(&mut self, acl: &[Acl]) -> Arc<[Acl]> {
        if *self.last_acl != *acl {
            self.last_acl = Arc::from(acl);
        }
        Arc::clone(&self.last_acl)
    }

    fn key(&self, path: &str) -> Arc<str> {
        match self.nodes.get_key_value(path) {
            Some((key, _)) => Arc::clone(key),
            None => path.into(),
        }
    }

    fn store(&mut self, zxid: Zxid, key: Arc<str>, node: Option<PendingNode>) {
        let old = self.nodes.insert(Arc::clone(&key), Entry { key: Arc::clone(&key), zxid, node });
        if let Some(undo) = &mut self.undo {
            undo.changes.push((Arc::clone(&key), old));
        }
        self.order.push_back((zxid, key));
    }

    /// The node changes. `false` when there is no such node.
    pub(super) fn change(
        &mut self,
        tree: &Tree,
        zxid: Zxid,
        path: &str,
        change: impl FnOnce(&mut PendingNode),
    ) -> bool {
        let path = if path.is_empty() { "/" } else { path };
        let mut node = match self.nodes.get_mut(path) {
            // The usual case under load: the parent is changed again and again. It is changed where it is.
            Some(entry) if self.undo.is_none() => {
                let Some(node) = &mut entry.node else { return false };
                self.digest = self.digest.wrapping_sub(node.digest());
                change(node);
                self.digest = self.digest.wrapping_add(node.digest());
                entry.zxid = zxid;
                self.order.push_back((zxid, Arc::clone(&entry.key)));
                return true;
            }
            Some(entry) => match &entry.node {
                Some(node) => node.clone(),
                None => return false,
            },
            None => match tree.node(path) {
                Some(view) => PendingNode::of(path, &view),
                None => return false,
            },
        };
        self.digest = self.digest.wrapping_sub(node.digest());
        change(&mut node);
        self.digest = self.digest.wrapping_add(node.digest());
        let key = self.key(path);
        self.store(zxid, key, Some(node));
        true
    }

    /// The node will be there.
    pub(super) fn create(&mut self, zxid: Zxid, path: &str, node: PendingNode) {
        self.digest = self.digest.wrapping_add(node.digest());
        let key = self.key(path);
        if let Some(owner) = node.stat.session_owner() {
            self.ephemerals.entry(owner).or_default().insert(Arc::clone(&key));
        }
        self.store(zxid, key, Some(node));
    }

    /// The node will be gone; its parent is changed by the caller.
    pub(super) fn delete(&mut self, tree: &Tree, zxid: Zxid, path: &str) {
        let (digest, owner) = match self.nodes.get(path) {
            Some(Entry { node: Some(node), .. }) => (node.digest(), node.stat.session_owner()),
            Some(Entry { node: None, .. }) => return,
            None => match tree.node(path) {
                Some(view) => (view.digest(), view.stored().session_owner()),
                None => return,
            },
        };
        self.digest = self.digest.wrapping_sub(digest);
        let key = self.key(path);
        if let Some(owner) = owner {
            self.ephemerals.entry(owner).or_default().insert(Arc::clone(&key));
        }
        self.store(zxid, key, None);
    }

    /// The ephemeral nodes that the session will own, in order.
    pub(super) fn ephemerals(&self, tree: &Tree, session: SessionId) -> Vec<String> {
        let mut paths: BTreeSet<String> = tree.ephemerals(session).into_iter().collect();
        for path in self.ephemerals.get(&session).into_iter().flatten() {
            let owned = self.nodes.get(path).map(|entry| {
                entry.node.as_ref().is_some_and(|node| node.stat.session_owner() == Some(session))
            });
            match owned {
                Some(true) => {
                    paths.insert(path.to_string());
                }
                Some(false) => {
                    paths.remove(&**path);
                }
                None => {}
            }
        }
        paths.into_iter().collect()
    }

    /// The node of this path and all below it as they will be, children before their parents; `None` if those are more than
    /// `max`.
    pub(super) fn subtree(&self, tree: &Tree, top: &str, max: usize) -> Option<Vec<String>> {
        let stays = |path: &String| self.nodes.get(&**path).is_none_or(|entry| entry.node.is_some());
        let mut paths: Vec<String> = tree.subtree(top).filter(stays).take(max + 1).collect();
        for (path, entry) in &self.nodes {
            let rest = path.strip_prefix(top);
            let is_below = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            if is_below && entry.node.is_some() && tree.node(path).is_none() {
                paths.push(path.to_string());
            }
            if paths.len() > max {
                return None;
            }
        }
        // A path sorts behind the one that it begins with. The order of the table must not be seen.
        paths.sort_unstable_by(|one, other| other.cmp(one));
        Some(paths).filter(|paths| paths.len() <= max)
    }

    /// From here on changes can be taken back.
    pub(super) fn begin(&mut self) {
        self.undo = Some(Undo { changes: Vec::new(), order: self.order.len(), digest: self.digest });
    }

    /// What changed since [`Outstanding::begin`] stays.
    pub(super) fn keep(&mut self) {
        self.undo = None;
    }

    /// What changed since [`Outstanding::begin`] did not happen.
    pub(super) fn roll_back(&mut self) {
        let Some(undo) = self.undo.take() else { return };
        for (key, old) in undo.changes.into_iter().rev() {
            match old {
                Some(entry) => self.nodes.insert(key, entry),
                None => {
                    self.forget_ephemeral(&key, None);
                    self.nodes.remove(&key)
                }
            };
        }
        self.order.truncate(undo.order);
        self.digest = undo.digest;
    }

    /// Everything up to this transaction is in the tree now.
    pub(super) fn settle(&mut self, upto: Zxid) {
        while let Some((_, path)) = self.order.pop_front_if(|(zxid, _)| *zxid <= upto) {
            let hashbrown::hash_map::EntryRef::Occupied(entry) = self.nodes.entry_ref(&path) else {
                continue;
            };
            if entry.get().zxid <= upto {
                let node = entry.remove().node;
                if !self.ephemerals.is_empty() {
                    self.forget_ephemeral(&path, node.as_ref());
                }
            }
        }
    }

    fn forget_ephemeral(&mut self, path: &Arc<str>, node: Option<&PendingNode>) {
        let owner = node.and_then(|node| node.stat.session_owner());
        self.ephemerals.retain(|session, paths| {
            if owner.is_none() || owner == Some(*session) {
                paths.remove(path);
            }
            !paths.is_empty()
        });
    }
}
