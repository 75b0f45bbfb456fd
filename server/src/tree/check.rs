//! Counts everything again that the tree keeps up to date: for tests, after every step.

use std::collections::{BTreeMap, BTreeSet};

use docent::{Acl, SessionId};

use super::acl::AclId;
use super::node::{NodeId, StoredStat, kind_of};
use super::{Tree, digest, expiring, path_size};
use crate::node::txn::NodeKind;

/// What two equal trees have in common.
pub(super) type Picture = BTreeMap<String, (Option<Vec<u8>>, StoredStat, Vec<Acl>)>;

/// All nodes by path.
pub(super) fn picture(tree: &Tree) -> Picture {
    let nodes = tree.store.subtree(NodeId::ROOT).map(|id| {
        let path = tree.store.path(id);
        let node = tree.node(&path).unwrap();
        (path, (node.data().map(<[u8]>::to_vec), node.stored(), node.acl().to_vec()))
    });
    nodes.collect()
}

/// Panics where something that was kept up to date is not what it is when it is counted.
pub(super) fn check(tree: &Tree) {
    tree.store.check();
    let extended = tree.options.extended_types;
    // The root's second name.
    let (mut sum, mut size) = (0_u64, 1);
    let (mut uses, mut due) = (BTreeMap::<AclId, u32>::new(), BTreeSet::new());
    let mut owned = BTreeMap::<SessionId, Vec<String>>::new();
    for id in tree.store.subtree(NodeId::ROOT) {
        let (node, path) = (&tree.store[id], tree.store.path(id));
        let share = digest::node_digest(&path, node.data.as_deref(), &node.stored());
        assert_eq!(tree.node(&path).unwrap().digest(), share, "{path}");
        sum = sum.wrapping_add(share);
        size += path_size(&path) + node.data_length() as u64;
        if node.acl != AclId::OPEN {
            *uses.entry(node.acl).or_default() += 1;
        }
        due.extend(expiring::due_ms(node, extended).map(|due_ms| (due_ms, id)));
        if kind_of(node.owner, extended) == NodeKind::Ephemeral {
            owned.entry(SessionId(node.owner)).or_default().push(path);
        }
    }
    assert_eq!((tree.digest(), tree.approximate_data_size()), (sum, size));
    assert_eq!((tree.acls.uses(), tree.expiring.listed()), (uses, &due));
    assert_eq!(tree.ephemerals_count(), owned.values().map(Vec::len).sum::<usize>());
    assert_eq!(tree.sessions_with_ephemerals(), owned.keys().copied().collect::<Vec<_>>());
    for (session, mut paths) in owned {
        paths.sort();
        assert_eq!(tree.ephemerals(session), paths);
    }
}

/// Panics where a quota's stats are not what counting gives.
pub(super) fn check_quota(tree: &Tree, path: &str) {
    let Some(quota) = tree.quota(path) else { return };
    let (mut count, mut bytes) = (0, 0);
    let top = tree.store.find(&quota.path);
    for id in top.into_iter().flat_map(|top| tree.store.subtree(top)) {
        count += 1;
        bytes += i64::try_from(tree.store[id].data_length()).unwrap();
    }
    assert_eq!((quota.count, quota.bytes), (count, bytes), "{}", quota.path);
}
