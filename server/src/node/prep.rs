//! The leader's judgement: a request becomes a transaction, or an error transaction.
//!
//! Each operation checks in Apache's order, so that of several reasons for a refusal a client hears the same one.
//! What a transaction will do is entered in [`Outstanding`] before the next request is judged.

use std::sync::Arc;

use docent::path::{self, validate};
use docent::proto::ops::MAX_TTL_MS;
use docent::proto::{CreateKind, CreateRequest, MultiOp};
use docent::{Acl, ErrorCode, Permissions, SessionId, Version, Zxid};

use super::access::{Identity, Schemes, allows, fix_up_acl};
use super::outstanding::{Look, Outstanding, PendingNode};
use super::txn::{CreateTxn, NodeKind, Txn};
use crate::tree::{StoredStat, Tree};

/// Nodes that nobody may delete.
const FIXED_NODES: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];

/// The rules that a configuration can change.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// `skipACL=yes`: ACLs are not looked at.
    pub skip_acl: bool,
    /// `extendedTypesEnabled`: nodes with a time to live are allowed.
    pub extended_types: bool,
    /// `enforceQuota`: hard limits refuse writes.
    pub enforce_quota: bool,
    /// `reconfigEnabled`: clients may change the ensemble.
    pub reconfig: bool,
    /// The schemes that ACLs may name.
    pub schemes: Schemes,
    /// `deleteRecursiveMax`: nodes that one request may delete; 0 if none may delete more than its own.
    pub recursive_delete_max: usize,
}

/// Bytes of a transaction that deletes a subtree, at most: what a server of Apache's reads with its default of
/// `jute.maxbuffer`.
const RECURSIVE_DELETE_BYTES_MAX: usize = docent::proto::frame::DEFAULT_MAX_FRAME;
/// Bytes of one delete in a multi's record, beside its path.
const DELETE_RECORD_BYTES: usize = 12;

/// The judgement of one request.
pub(super) struct Prep<'a> {
    pub(super) tree: &'a Tree,
    pub(super) outstanding: &'a mut Outstanding,
    pub(super) rules: Rules,
    pub(super) identities: &'a [Identity],
    pub(super) session: SessionId,
    /// Whether the session may own nodes: everybody knows it.
    pub(super) may_own: bool,
    pub(super) zxid: Zxid,
    pub(super) time_ms: i64,
}

type Judged = Result<Txn, ErrorCode>;

/// The next version after a change. −1 is skipped: it would mean "any" to a conditional write.
fn next_version(version: i32) -> i32 {
    match version.wrapping_add(1) {
        -1 => 0,
        next => next,
    }
}

fn check_version(expected: Version, current: i32) -> Result<(), ErrorCode> {
    if expected == Version::ANY || expected.0 == current { Ok(()) } else { Err(ErrorCode::BAD_VERSION) }
}

fn check_syntax(path: &str) -> Result<(), ErrorCode> {
    validate(path).map_err(|_| ErrorCode::BAD_ARGUMENTS)
}

/// What is looked at before a parent is looked up: a slash, and no NUL.
fn parent_of(path: &str) -> Result<&str, ErrorCode> {
    if path.contains('\0') {
        return Err(ErrorCode::BAD_ARGUMENTS);
    }
    match path.rfind('/') {
        Some(at) => Ok(&path[..at]),
        None => Err(ErrorCode::BAD_ARGUMENTS),
    }
}

impl<'a> Prep<'a> {
    fn look(&self, path: &str) -> Result<Look<'_>, ErrorCode> {
        self.outstanding.look(self.tree, path).ok_or(ErrorCode::NO_NODE)
    }

    fn permit(&self, node: &Look<'_>, wanted: Permissions) -> Result<(), ErrorCode> {
        if self.rules.skip_acl || allows(node.acl(), wanted, self.identities) {
            Ok(())
        } else {
            Err(ErrorCode::NO_AUTH)
        }
    }

    /// The kind that operation, flags and time to live ask for together. They must agree.
    fn kind_of(&self, create: &CreateRequest) -> Result<NodeKind, ErrorCode> {
        match (create.kind, create.flags.0) {
            (CreateKind::Create | CreateKind::Create2, 0 | 2) => Ok(NodeKind::Persistent),
            (CreateKind::Create | CreateKind::Create2, 1 | 3) => Ok(NodeKind::Ephemeral),
            (CreateKind::Container, 4) => Ok(NodeKind::Container),
            (CreateKind::Ttl, 5 | 6) if !self.rules.extended_types => Err(ErrorCode::UNIMPLEMENTED),
            (CreateKind::Ttl, 5 | 6) if (1..=MAX_TTL_MS).contains(&create.ttl_ms) => {
                Ok(NodeKind::Ttl(create.ttl_ms))
            }
            _ => Err(ErrorCode::BAD_ARGUMENTS),
        }
    }

    pub(super) fn create(&mut self, create: CreateRequest) -> Judged {
        let kind = self.kind_of(&create)?;
        if kind == NodeKind::Ephemeral && !self.may_own {
            return Err(ErrorCode::EPHEMERAL_ON_LOCAL_SESSION);
        }
        let parent_path = parent_of(&create.path)?.to_owned();
        let acl = fix_up_acl(create.acl, self.identities, self.rules.schemes)?;
        let parent = self.look(&parent_path)?;
        self.permit(&parent, Permissions::CREATE)?;
        let parent_stat = parent.stat();
        let mut path = create.path;
        if create.flags.is_sequential() {
            path = format!("{path}{:010}", parent_stat.cversion);
        }
        check_syntax(&path)?;
        if self.outstanding.look(self.tree, &path).is_some() {
            return Err(ErrorCode::NODE_EXISTS);
        }
        if parent_stat.session_owner().is_some() {
            return Err(ErrorCode::NO_CHILDREN_FOR_EPHEMERALS);
        }
        self.check_quota(&path, 1, create.data.as_ref().map_or(0, |data| data.len() as i64))?;
        let parent_cversion = parent_stat.cversion.wrapping_add(1);
        let zxid = self.zxid;
        self.outstanding.change(self.tree, zxid, &parent_path, |parent| {
            parent.children += 1;
            // As it will be applied: the counter and pzxid only move up, together.
            if parent_cversion > parent.stat.cversion {
                parent.stat.cversion = parent_cversion;
                parent.stat.pzxid = zxid;
            }
        });
        self.enter(&path, create.data.as_deref(), &acl, kind);
        let create2 = create.kind != CreateKind::Create;
        Ok(Txn::Create(CreateTxn { create2, path, data: create.data, acl, kind, parent_cversion }))
    }

    fn enter(&mut self, path: &str, data: Option<&[u8]>, acl: &[Acl], kind: NodeKind) {
        let stat = StoredStat::created(self.zxid, self.time_ms, kind, self.session);
        let node = PendingNode::new(path, data, self.outstanding.share_acl(acl), stat);
        self.outstanding.create(self.zxid, path, node);
    }

    pub(super) fn delete(&mut self, path: String, expected: Version) -> Judged {
        let parent_path = parent_of(&path)?.to_owned();
        if FIXED_NODES.contains(&&*path) {
            return Err(ErrorCode::BAD_ARGUMENTS);
        }
        let parent = self.look(&parent_path)?;
        self.permit(&parent, Permissions::DELETE)?;
        let node = self.look(&path)?;
        check_version(expected, node.stat().version)?;
        if node.children() > 0 {
            return Err(ErrorCode::NOT_EMPTY);
        }
        self.take_out(&path);
        Ok(Txn::Delete { path, swept: false })
    }

    /// A node and all below it: a multi of deletes like any other, the leaves first. What is created or deleted in flight
    /// counts, so that the whole cannot meet what it has not looked at.
    fn delete_recursive(&mut self, path: String) -> Judged {
        if self.rules.recursive_delete_max == 0 {
            // As a server that does not know it.
            return Err(ErrorCode::MARSHALLING_ERROR);
        }
        let parent_path = parent_of(&path)?;
        if FIXED_NODES.contains(&&*path) {
            return Err(ErrorCode::BAD_ARGUMENTS);
        }
        self.permit(&self.look(parent_path)?, Permissions::DELETE)?;
        self.look(&path)?;
        let max = self.rules.recursive_delete_max;
        let paths = self.outstanding.subtree(self.tree, &path, max).ok_or(ErrorCode::NOT_EMPTY)?;
        let bytes: usize = paths.iter().map(|path| path.len() + DELETE_RECORD_BYTES).sum();
        if bytes > RECURSIVE_DELETE_BYTES_MAX {
            return Err(ErrorCode::NOT_EMPTY);
        }
        self.outstanding.begin();
        let deletes: Result<Vec<Txn>, ErrorCode> =
            paths.into_iter().map(|path| self.delete(path, Version::ANY)).collect();
        match deletes {
            Ok(deletes) => {
                self.outstanding.keep();
                Ok(Txn::Multi(deletes))
            }
            Err(code) => {
                self.outstanding.roll_back();
                Err(code)
            }
        }
    }

    /// The server's own delete of a container or of a node whose time is over. It was due in the tree; with what is in
    /// flight it may have been set since, or be another node.
    pub(super) fn sweep(&mut self, path: String) -> Judged {
        let node = self.look(&path)?;
        if node.children() > 0 {
            return Err(ErrorCode::NOT_EMPTY);
        }
        if !node.stat().is_due(self.time_ms, self.rules.extended_types) {
            return Err(ErrorCode::BAD_VERSION);
        }
        self.take_out(&path);
        Ok(Txn::Delete { path, swept: true })
    }

    fn take_out(&mut self, path: &str) {
        let zxid = self.zxid;
        let parent = path::parent(path).unwrap_or("/").to_owned();
        self.outstanding.delete(self.tree, zxid, path);
        self.outstanding.change(self.tree, zxid, &parent, |parent| {
            parent.children = parent.children.saturating_sub(1);
            parent.stat.pzxid = parent.stat.pzxid.max(zxid);
        });
    }

    pub(super) fn set_data(&mut self, path: String, data: Option<bytes::Bytes>, expected: Version) -> Judged {
        check_syntax(&path)?;
        let node = self.look(&path)?;
        self.permit(&node, Permissions::WRITE)?;
        let growth = data.as_ref().map_or(0, |data| data.len() as i64) - node.data_length() as i64;
        let current = node.stat().version;
        self.check_quota(&path, 0, growth)?;
        check_version(expected, current)?;
        let version = next_version(current);
        let (zxid, time_ms) = (self.zxid, self.time_ms);
        self.outstanding.change(self.tree, zxid, &path, |node| {
            node.set_data(&path, data.as_deref());
            node.stat.version = version;
            node.stat.mzxid = zxid;
            node.stat.mtime = time_ms;
        });
        Ok(Txn::SetData { path, data, version, reconfig: false })
    }

    /// A new configuration. It has a place in the order of writes, but no version among those of its node.
    pub(super) fn set_config(&mut self, path: String, text: bytes::Bytes) -> Judged {
        let node = self.look(&path)?;
        self.permit(&node, Permissions::WRITE)?;
        let (zxid, time_ms) = (self.zxid, self.time_ms);
        self.outstanding.change(self.tree, zxid, &path, |node| {
            node.set_data(&path, Some(&text));
            node.stat.version = -1;
            node.stat.mzxid = zxid;
            node.stat.mtime = time_ms;
        });
        Ok(Txn::SetData { path, data: Some(text), version: -1, reconfig: true })
    }

    pub(super) fn set_acl(&mut self, path: String, acl: Option<Vec<Acl>>, expected: Version) -> Judged {
        check_syntax(&path)?;
        let acl = fix_up_acl(acl, self.identities, self.rules.schemes)?;
        let node = self.look(&path)?;
        self.permit(&node, Permissions::ADMIN)?;
        let current = node.stat().aversion;
        check_version(expected, current)?;
        let version = next_version(current);
        self.outstanding.change(self.tree, self.zxid, &path, |node| {
            node.acl = Arc::from(&*acl);
            node.stat.aversion = version;
        });
        Ok(Txn::SetAcl { path, acl, version })
    }

    fn check(&mut self, path: String, expected: Version) -> Judged {
        check_syntax(&path)?;
        let node = self.look(&path)?;
        self.permit(&node, Permissions::READ)?;
        check_version(expected, node.stat().version)?;
        Ok(Txn::Check { path, version: next_version(node.stat().version) })
    }

    /// All or none. A failed multi keeps its place in the log: the transactions before the one that failed as they
    /// are, the failure, and −2 for those behind it.
    pub(super) fn multi(&mut self, mut ops: Vec<MultiOp>) -> Judged {
        if ops.iter().any(|op| matches!(op, MultiOp::DeleteRecursive { .. })) {
            return match (ops.pop(), ops.is_empty()) {
                (Some(MultiOp::DeleteRecursive { path }), true) => self.delete_recursive(path),
                _ => Err(ErrorCode::MARSHALLING_ERROR),
            };
        }
        self.outstanding.begin();
        let mut failed = false;
        let txns = ops
            .into_iter()
            .map(|op| {
                if failed {
                    return Txn::Error(ErrorCode::RUNTIME_INCONSISTENCY);
                }
                let judged = match op {
                    MultiOp::Create(create) => self.create(create),
                    MultiOp::Delete { path, version } => self.delete(path, version),
                    MultiOp::SetData { path, data, version } => self.set_data(path, data, version),
                    MultiOp::Check { path, version } => self.check(path, version),
                    _ => Err(ErrorCode::MARSHALLING_ERROR),
                };
                judged.unwrap_or_else(|code| {
                    failed = true;
                    Txn::Error(code)
                })
            })
            .collect();
        if failed {
            self.outstanding.roll_back();
        } else {
            self.outstanding.keep();
        }
        Ok(Txn::Multi(txns))
    }

    /// The end of the session, with all that it owns.
    pub(super) fn close_session(&mut self) -> Txn {
        let paths = self.outstanding.ephemerals(self.tree, self.session);
        for path in &paths {
            self.take_out(path);
        }
        Txn::CloseSession { paths: Some(paths) }
    }

    /// Hard limits count what is committed. Shrinking is allowed only if the new total is within the limit.
    fn check_quota(&self, path: &str, count: i64, bytes: i64) -> Result<(), ErrorCode> {
        if !self.rules.enforce_quota || path.starts_with("/zookeeper/") {
            return Ok(());
        }
        let Some(quota) = self.tree.quota(path) else { return Ok(()) };
        let exceeds = |limit: Option<i64>, total: i64| limit.is_some_and(|limit| total > limit);
        let limits = quota.limits;
        if (count != 0 && exceeds(limits.count_hard, quota.count + count))
            || (bytes != 0 && exceeds(limits.bytes_hard, quota.bytes + bytes))
        {
            return Err(ErrorCode::QUOTA_EXCEEDED);
        }
        Ok(())
    }
}
