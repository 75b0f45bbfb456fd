//! The data tree: the state that all servers share, and the rules by which committed transactions change it.
//!
//! [`Tree::apply`] never fails and never asks: whether a request is allowed was decided before it became a
//! transaction. It may be given a transaction whose effect is here already – a log is replayed over a snapshot
//! that was taken later than the log's beginning – and then does nothing that it would not undo on the way:
//!
//! * a parent's cversion and pzxid move together when a child is created, and only upward;
//! * a delete moves the parent's pzxid upward even when the node has gone already;
//! * versions are taken from the transaction, not counted;
//! * a create (type 1, not its younger sisters) that finds its node still brings the parent's counters up to date,
//!   and gives the node the transaction's ACL;
//! * the closing of a session names the nodes that go with it;
//! * a node that is deleted while it has children takes them with it: they belong to a later life of the node,
//!   which the log goes on to tell.
//!
//! Invariants: the digest is the sum over all nodes (`digest`); each list in the ACL table is held by as many
//! nodes as it is counted for; a snapshot that is being written holds exactly the state at its zxid (`dump`).
//!
//! Left out: sessions other than as owners of nodes, permission checks, and the clock – times come with the
//! transactions. Nothing here depends on a hash's order: two trees that were told the same answer the same.

mod acl;
#[cfg(test)]
mod check;
mod create;
mod data;
mod delete;
mod digest;
mod dump;
mod ephemerals;
mod expiring;
mod load;
mod multi;
mod node;
#[cfg(test)]
mod properties;
mod quota;
#[cfg(test)]
mod rules;
mod store;

use docent::proto::EventType;
use docent::{Acl, ErrorCode, SessionId, Stat, Zxid};

pub use acl::AclId;
pub use digest::node_digest;
pub(crate) use digest::{content_crc, finish as finish_digest, is_covered};
pub use dump::SnapshotRunning;
pub use load::LoadError;
pub use node::{NodeView, StoredStat};
pub use quota::{QuotaLimits, QuotaView};
pub use store::Children;

use crate::node::txn::{Txn, TxnHeader};
use acl::AclTable;
use dump::Snapshot;
use ephemerals::Ephemerals;
use expiring::Expiring;
use node::{Node, NodeId};
use quota::Quotas;
use store::Store;

/// What a tree is told once.
#[derive(Clone, Copy, Debug)]
pub struct TreeOptions {
    /// What the index is hashed with: random in production, so that names cannot be chosen to collide. It is
    /// never seen in a result.
    pub hash_seed: u64,
    /// Whether an owner that looks like a time to live is one, rather than a session of server 255.
    pub extended_types: bool,
}

impl Default for TreeOptions {
    fn default() -> Self {
        TreeOptions { hash_seed: 0, extended_types: true }
    }
}

/// What watchers must hear of: one change of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Created, deleted or data changed. That the parent's children changed follows from the first two.
    pub kind: EventType,
    /// The node.
    pub path: String,
    /// The node's own list; good until the next transaction is applied.
    pub acl: AclId,
    /// The parent's list before the change; good until the next transaction is applied.
    pub parent_acl: AclId,
}

/// What became of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// [`ErrorCode::OK`], the refusal that the transaction records, or what its replay met.
    pub error: ErrorCode,
    /// The state of the created or set node right after it.
    pub stat: Option<Stat>,
}

impl Outcome {
    const OK: Outcome = Outcome { error: ErrorCode::OK, stat: None };

    fn error(error: ErrorCode) -> Outcome {
        Outcome { error, stat: None }
    }
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// [`ErrorCode::OK`], the refusal that the transaction records, or what its replay met; of a multi the first
    /// error of its operations.
    pub error: ErrorCode,
    /// The state of the created or set node right after it.
    pub stat: Option<Stat>,
    /// Of a multi: each operation's outcome. Of one that was refused: OK up to the operation that failed, its
    /// error, and [`ErrorCode::RUNTIME_INCONSISTENCY`] for those behind it.
    pub results: Vec<Outcome>,
}

impl From<Outcome> for Applied {
    fn from(outcome: Outcome) -> Self {
        Applied { error: outcome.error, stat: outcome.stat, results: Vec::new() }
    }
}

/// The data tree.
#[derive(Debug)]
pub struct Tree {
    options: TreeOptions,
    store: Store,
    acls: AclTable,
    ephemerals: Ephemerals,
    expiring: Expiring,
    quotas: Quotas,
    last_zxid: Zxid,
    digest: u64,
    /// Bytes of paths and data, as Apache estimates the size of the tree.
    data_size: u64,
    snapshot: Option<Snapshot>,
    last_snapshot: Option<(Zxid, u64)>,
}

impl Default for Tree {
    fn default() -> Self {
        Tree::new()
    }
}

impl Tree {
    /// What a fresh server holds, with [`TreeOptions::default`].
    #[must_use]
    pub fn new() -> Tree {
        Tree::with_options(TreeOptions::default())
    }

    /// What a fresh server holds: `/zookeeper` with `quota` and `config`.
    #[must_use]
    pub fn with_options(options: TreeOptions) -> Tree {
        let mut tree = Tree::bare(options);
        tree.settle_root(AclId::OPEN, Some(&[]), &StoredStat::default());
        tree.add_reserved();
        tree
    }

    /// A root without a share in digest and size, for [`Tree::settle_root`] to finish.
    fn bare(options: TreeOptions) -> Tree {
        Tree {
            options,
            store: Store::new(options.hash_seed),
            acls: AclTable::new(),
            ephemerals: Ephemerals::default(),
            expiring: Expiring::default(),
            quotas: Quotas::default(),
            last_zxid: Zxid::ZERO,
            digest: 0,
            data_size: 0,
            snapshot: None,
            last_snapshot: None,
        }
    }

    /// Applies one committed transaction, and appends what watchers must hear of, in order.
    pub fn apply(&mut self, header: &TxnHeader, txn: &Txn, changes: &mut Vec<Change>) -> Applied {
        self.acls.sweep();
        let applied = match txn {
            Txn::Multi(txns) => self.apply_multi(header, txns, changes),
            txn => self.apply_one(header, txn, changes).into(),
        };
        self.last_zxid = self.last_zxid.max(header.zxid);
        applied
    }

    fn apply_one(&mut self, header: &TxnHeader, txn: &Txn, changes: &mut Vec<Change>) -> Outcome {
        match txn {
            Txn::Create(create) => self.create(header, create, changes),
            Txn::Delete { path, .. } => self.delete(path, header.zxid, changes),
            Txn::SetData { path, data, version, .. } => {
                self.set_data(header, path, data.as_deref(), *version, changes)
            }
            Txn::SetAcl { path, acl, version } => self.set_acl(path, acl, *version),
            Txn::CloseSession { paths } => self.close_session(header, paths.as_deref(), changes),
            Txn::CreateSession { .. } | Txn::Check { .. } => Outcome::OK,
            Txn::Error(code) => Outcome::error(*code),
            // The decoder refuses it and the leader never makes it.
            Txn::Multi(_) => Outcome::error(ErrorCode::UNIMPLEMENTED),
        }
    }

    /// The node of this path; "" is the root. Any string may be asked for.
    #[must_use]
    pub fn node(&self, path: &str) -> Option<NodeView<'_>> {
        self.store.find(path).map(|id| NodeView { tree: self, id })
    }

    /// Every path, parents before their children.
    pub fn paths(&self) -> impl Iterator<Item = String> + '_ {
        let mut next = vec!["/".to_owned()];
        std::iter::from_fn(move || {
            let path = next.pop()?;
            if let Some(node) = self.node(&path) {
                next.extend(node.children().map(|name| docent::path::join(&path, name)));
            }
            Some(path)
        })
    }

    /// The last transaction that was applied.
    #[must_use]
    pub fn last_zxid(&self) -> Zxid {
        self.last_zxid
    }

    /// The digest after the last transaction.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Nodes as Apache counts them for `srvr`: the root twice.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.store.live() + 1
    }

    /// Bytes of all paths (in UTF-16 units, as Apache counts) and data.
    #[must_use]
    pub fn approximate_data_size(&self) -> u64 {
        self.data_size
    }

    /// Nodes that end with a session.
    #[must_use]
    pub fn ephemerals_count(&self) -> usize {
        self.ephemerals.count()
    }

    /// The paths of a session's ephemeral nodes, sorted.
    #[must_use]
    pub fn ephemerals(&self, session: SessionId) -> Vec<String> {
        let mut paths: Vec<String> = self.ephemerals.of(session).map(|id| self.store.path(id)).collect();
        paths.sort_unstable();
        paths
    }

    /// The sessions that own nodes, in ascending order.
    #[must_use]
    pub fn sessions_with_ephemerals(&self) -> Vec<SessionId> {
        self.ephemerals.sessions().collect()
    }

    /// The paths of a node and all below it, parents before their children; none if there is no such node.
    pub fn subtree(&self, top: &str) -> impl Iterator<Item = String> + '_ {
        let top = self.store.find(top);
        top.into_iter().flat_map(|top| self.store.subtree(top)).map(|id| self.store.path(id))
    }

    /// How many nodes lie below a node; `None` when it does not exist. Walks them.
    #[must_use]
    pub fn descendants(&self, path: &str) -> Option<usize> {
        let top = self.store.find(path)?;
        Some(if top == NodeId::ROOT { self.store.live() } else { self.store.subtree(top).count() } - 1)
    }

    /// At most `max` nodes that the server should delete at `now_ms`: containers that had children and have none,
    /// and nodes without children whose time to live has passed since their data was set. Those that wait
    /// longest come first. Looks at no other nodes.
    #[must_use]
    pub fn expired_nodes(&self, now_ms: i64, max: usize) -> Vec<String> {
        self.expiring.due(now_ms).take(max).map(|id| self.store.path(id)).collect()
    }

    /// The entries of a list.
    ///
    /// # Panics
    /// When no node holds the list and a transaction was applied since one did.
    #[must_use]
    pub fn acl(&self, id: AclId) -> &[Acl] {
        self.acls.entries(id)
    }

    /// Changes what a snapshot or the digest holds of a node. Everything that does goes through here.
    fn change(&mut self, id: NodeId, covered: bool, change: impl FnOnce(&mut Node)) {
        self.preserve(id);
        let node = &mut self.store[id];
        let due_before = expiring::due_ms(node, self.options.extended_types);
        let share = |node: &Node| if covered { digest::finish(node.content_crc, &node.stored()) } else { 0 };
        let before = share(node);
        change(node);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(share(node));
        let due_after = expiring::due_ms(node, self.options.extended_types);
        self.expiring.moved(id, due_before, due_after);
    }

    /// Adds a node below `parent`, and all that hangs on it but the quota: the path says whether it counts in the
    /// digest. The parent has no child of this name; the ACL's use is counted already.
    fn add(&mut self, parent: NodeId, path: &str, mut node: Node) -> NodeId {
        let covered = digest::is_covered(path);
        if covered {
            node.content_crc = digest::content_crc(path, node.data.as_deref());
            self.digest = self.digest.wrapping_add(digest::finish(node.content_crc, &node.stored()));
        }
        self.data_size += path_size(path) + node.data_length() as u64;
        let extended = self.options.extended_types;
        let parent_due = expiring::due_ms(&self.store[parent], extended);
        let id = self.store.insert(parent, node);
        self.skip_in_snapshot(id);
        self.expiring.moved(parent, parent_due, expiring::due_ms(&self.store[parent], extended));
        self.expiring.moved(id, None, expiring::due_ms(&self.store[id], extended));
        self.ephemerals.add(id, &self.store[id], extended);
        id
    }

    /// Takes out a node without children, and all that hangs on it but the quota.
    fn take_out(&mut self, id: NodeId, path: &str) -> Node {
        self.preserve(id);
        self.step_over_in_snapshot(id);
        let extended = self.options.extended_types;
        self.expiring.moved(id, expiring::due_ms(&self.store[id], extended), None);
        self.ephemerals.remove(id, &self.store[id], extended);
        let parent = self.store[id].parent;
        let parent_due = expiring::due_ms(&self.store[parent], extended);
        let node = self.store.remove(id);
        self.expiring.moved(parent, parent_due, expiring::due_ms(&self.store[parent], extended));
        if digest::is_covered(path) {
            self.digest = self.digest.wrapping_sub(digest::finish(node.content_crc, &node.stored()));
        }
        self.data_size -= path_size(path) + node.data_length() as u64;
        self.acls.release(node.acl);
        node
    }

    /// Success, with the node's state.
    fn outcome_of(&self, id: NodeId) -> Outcome {
        let stat = self.store[id].client_stat(self.options.extended_types);
        Outcome { error: ErrorCode::OK, stat: Some(stat) }
    }
}

/// A path in UTF-16 units, in which Apache estimates.
fn path_size(path: &str) -> u64 {
    if path.is_ascii() { path.len() as u64 } else { path.encode_utf16().count() as u64 }
}

/// A node's parent and its name: `None` for what cannot be the path of a node below the root.
fn split(path: &str) -> Option<(&str, &str)> {
    let (parent, name) = path.rsplit_once('/')?;
    if name.is_empty() { None } else { Some((parent, name)) }
}
