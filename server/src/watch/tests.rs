//! The rules of watches, one by one, and the table against a plain list of who watches what.

use std::collections::BTreeSet;

use docent::Zxid;
use docent::proto::{EventType, SetWatches, WatcherKind};
use proptest::prelude::*;

use super::*;
use crate::tree::{AclId, Change, Tree};

use EventType::{NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};

fn change(kind: EventType, path: &str) -> Change {
    Change { kind, path: path.into(), acl: AclId::OPEN, parent_acl: AclId::OPEN }
}

/// What is heard of a change: connection, kind and path.
fn heard(table: &mut WatchTable, kind: EventType, path: &str) -> Vec<(u64, EventType, String)> {
    let mut out = Vec::new();
    table.fire(&change(kind, path), &mut |_, _| true, &mut out);
    table.check();
    out.into_iter().map(|fired| (fired.conn.0, fired.kind, fired.path.to_string())).collect()
}

fn table(watches: &[(u64, &str, WatchKind)]) -> WatchTable {
    let mut table = WatchTable::new(7);
    for (conn, path, kind) in watches {
        table.add(ConnId(*conn), path, *kind);
        table.check();
    }
    table
}

#[test]
fn a_data_watch_fires_once_for_any_change_of_the_node() {
    for kind in [NodeCreated, NodeDataChanged, NodeDeleted] {
        let mut table = table(&[(1, "/a", WatchKind::Data), (1, "/a", WatchKind::Data)]);
        assert_eq!(heard(&mut table, kind, "/a"), [(1, kind, "/a".into())]);
        assert_eq!(heard(&mut table, kind, "/a"), []);
        assert_eq!((table.count(), table.paths(), table.connections()), (0, 0, 0));
    }
}

#[test]
fn a_child_watch_hears_of_children_and_of_the_nodes_end() {
    let watch = [(1, "/a", WatchKind::Child)];
    for (kind, path, event, at) in [
        (NodeCreated, "/a/b", NodeChildrenChanged, "/a"),
        (NodeDeleted, "/a/b", NodeChildrenChanged, "/a"),
        (NodeDeleted, "/a", NodeDeleted, "/a"),
    ] {
        assert_eq!(heard(&mut table(&watch), kind, path), [(1, event, at.into())]);
    }
    let mut table = table(&watch);
    for (kind, path) in [
        (NodeDataChanged, "/a"),
        (NodeDataChanged, "/a/b"),
        (NodeCreated, "/a/b/c"),
        (NodeDeleted, "/a/b/c"),
        (NodeCreated, "/ab"),
        (NodeCreated, "/a"),
    ] {
        assert_eq!(heard(&mut table, kind, path), [], "{kind:?} {path}");
    }
    assert_eq!(table.count(), 1);
}

#[test]
fn the_roots_children_are_told_of_the_root() {
    let mut table = table(&[(1, "/", WatchKind::Child)]);
    assert_eq!(heard(&mut table, NodeCreated, "/a"), [(1, NodeChildrenChanged, "/".into())]);
}

#[test]
fn a_node_that_goes_is_told_once_to_each_and_then_to_the_parents_watchers() {
    let mut table = table(&[
        (1, "/p/x", WatchKind::Data),
        (1, "/p/x", WatchKind::Child),
        (2, "/p/x", WatchKind::Child),
        (1, "/p", WatchKind::Child),
        (3, "/p/x", WatchKind::Persistent),
        (3, "/p/x", WatchKind::Data),
        (3, "/p/x", WatchKind::Recursive),
        (3, "/p", WatchKind::Recursive),
        (3, "/", WatchKind::Recursive),
    ]);
    let deleted = |conn| (conn, NodeDeleted, "/p/x".to_owned());
    let expected = [deleted(1), deleted(2), deleted(3), (1, NodeChildrenChanged, "/p".into())];
    assert_eq!(heard(&mut table, NodeDeleted, "/p/x"), expected);
    assert_eq!(heard(&mut table, NodeDeleted, "/p/x"), [deleted(3)]);
}

#[test]
fn a_persistent_watch_hears_everything_of_one_node_for_ever() {
    let mut table = table(&[(1, "/a", WatchKind::Persistent)]);
    for _ in 0..2 {
        for kind in [NodeCreated, NodeDataChanged, NodeDeleted] {
            assert_eq!(heard(&mut table, kind, "/a"), [(1, kind, "/a".into())]);
        }
        for kind in [NodeCreated, NodeDeleted] {
            assert_eq!(heard(&mut table, kind, "/a/b"), [(1, NodeChildrenChanged, "/a".into())]);
        }
        assert_eq!(heard(&mut table, NodeDataChanged, "/a/b"), []);
        assert_eq!(heard(&mut table, NodeCreated, "/a/b/c"), []);
    }
}

#[test]
fn a_recursive_watch_hears_of_all_below_and_never_of_children() {
    for top in ["/a", "/"] {
        let mut table = table(&[(1, top, WatchKind::Recursive)]);
        for path in ["/a", "/a/b", "/a/b/c"] {
            for kind in [NodeCreated, NodeDataChanged, NodeDeleted] {
                assert_eq!(heard(&mut table, kind, path), [(1, kind, path.into())]);
            }
        }
    }
    let mut table = table(&[(1, "/a", WatchKind::Recursive)]);
    assert_eq!(heard(&mut table, NodeCreated, "/ab"), []);
    assert_eq!(heard(&mut table, NodeDataChanged, "/"), []);
}

#[test]
fn the_kinds_live_side_by_side_on_one_path() {
    let mut table =
        table(&[(1, "/a", WatchKind::Recursive), (1, "/a", WatchKind::Data), (1, "/a", WatchKind::Child)]);
    for _ in 0..2 {
        assert_eq!(heard(&mut table, NodeDataChanged, "/a"), [(1, NodeDataChanged, "/a".into())]);
    }
    assert!(table.has(ConnId(1), "/a", WatcherKind::Children));
    assert!(!table.has(ConnId(1), "/a", WatcherKind::Data));
    assert!(table.has(ConnId(1), "/a", WatcherKind::PersistentRecursive));
}

#[test]
fn removal_is_by_kind_by_connection_and_once() {
    let all = [WatchKind::Data, WatchKind::Child, WatchKind::Persistent, WatchKind::Recursive];
    let kinds =
        [WatcherKind::Data, WatcherKind::Children, WatcherKind::Persistent, WatcherKind::PersistentRecursive];
    for gone in 0..4 {
        let mut table = table(&all.map(|kind| (1, "/a", kind)));
        for other in [ConnId(2), ConnId(0)] {
            assert!(!table.has(other, "/a", kinds[gone]) && !table.remove(other, "/a", WatcherKind::Any));
        }
        assert!(!table.remove(ConnId(1), "/b", WatcherKind::Any));
        assert!(table.remove(ConnId(1), "/a", kinds[gone]));
        table.check();
        assert!(!table.remove(ConnId(1), "/a", kinds[gone]));
        for kind in kinds {
            assert_eq!(table.has(ConnId(1), "/a", kind), kind != kinds[gone]);
        }
        assert!(table.has(ConnId(1), "/a", WatcherKind::Any));
        assert!(table.remove(ConnId(1), "/a", WatcherKind::Any));
        table.check();
        assert!(!table.has(ConnId(1), "/a", WatcherKind::Any));
        assert_eq!((table.count(), table.paths(), table.connections()), (0, 0, 0));
    }
}

#[test]
fn an_event_that_may_not_be_read_is_dropped_and_the_watch_is_spent() {
    let mut table = table(&[
        (1, "/p/x", WatchKind::Data),
        (2, "/p/x", WatchKind::Data),
        (1, "/p", WatchKind::Child),
        (2, "/p", WatchKind::Child),
    ]);
    let mut tree = Tree::new();
    let header =
        crate::node::txn::TxnHeader { session: docent::SessionId(1), cxid: 0, zxid: Zxid(1), time_ms: 0 };
    let acl = docent::Acl::read_only();
    let set_acl = crate::node::txn::Txn::SetAcl { path: "/zookeeper".into(), acl, version: 1 };
    tree.apply(&header, &set_acl, &mut Vec::new());
    let other = tree.node("/zookeeper").unwrap().acl_id();

    let mut asked = Vec::new();
    let mut out = Vec::new();
    let created = Change { parent_acl: other, ..change(NodeCreated, "/p/x") };
    let mut readable = |conn: ConnId, acl: AclId| {
        asked.push((conn.0, acl));
        (conn.0, acl) == (2, AclId::OPEN)
    };
    table.fire(&created, &mut readable, &mut out);
    assert_eq!(asked, [(1, AclId::OPEN), (2, AclId::OPEN), (1, other), (2, other)]);
    let told: Vec<(u64, EventType)> = out.iter().map(|fired| (fired.conn.0, fired.kind)).collect();
    assert_eq!(told, [(2, NodeCreated)]);
    assert_eq!((table.count(), table.paths(), table.connections()), (0, 0, 0));
}

#[test]
fn a_connection_that_ends_leaves_nothing() {
    let all = [WatchKind::Data, WatchKind::Child, WatchKind::Persistent, WatchKind::Recursive];
    let mut table = WatchTable::new(0);
    for conn in 0..3 {
        for (path, kind) in ["/a", "/b", "/a/b"].iter().flat_map(|path| all.map(|kind| (path, kind))) {
            table.add(ConnId(conn), path, kind);
        }
    }
    for left in [2, 1, 0] {
        table.drop_conn(ConnId(left));
        table.drop_conn(ConnId(left));
        table.check();
        assert_eq!((table.connections(), table.count() as u64), (usize::try_from(left).unwrap(), left * 6));
    }
    assert_eq!((table.paths(), heard(&mut table, NodeDeleted, "/a/b")), (0, vec![]));
}

#[test]
fn only_watches_for_data_are_listed_and_lasting_ones_count_twice() {
    let table = table(&[
        (1, "/a", WatchKind::Data),
        (2, "/a", WatchKind::Child),
        (2, "/b", WatchKind::Persistent),
        (2, "/b", WatchKind::Data),
        (3, "/b", WatchKind::Recursive),
    ]);
    assert_eq!(table.summary(), WatchSummary { connections: 3, paths: 2, watches: 3 });
    assert_eq!((table.count(), table.paths(), table.connections()), (6, 2, 3));
    let by_path: Vec<(&str, Vec<ConnId>)> = table.by_path().collect();
    assert_eq!(by_path, [("/a", vec![ConnId(1)]), ("/b", vec![ConnId(2), ConnId(3)])]);
    let by_conn: Vec<(ConnId, Vec<&str>)> = table.by_conn().collect();
    assert_eq!(by_conn, [(ConnId(1), vec!["/a"]), (ConnId(2), vec!["/b"]), (ConnId(3), vec!["/b"])]);
}

#[test]
fn a_client_that_was_away_hears_what_it_missed() {
    use crate::node::txn::{CreateTxn, NodeKind, Txn, TxnHeader};
    let mut tree = Tree::new();
    let mut apply = |zxid, txn: &Txn| {
        let header = TxnHeader { session: docent::SessionId(1), cxid: 0, zxid: Zxid(zxid), time_ms: 0 };
        tree.apply(&header, txn, &mut Vec::new());
    };
    for (zxid, path) in [(1, "/old"), (2, "/set"), (3, "/fed"), (6, "/fed/x"), (7, "/new")] {
        let create = CreateTxn {
            create2: false,
            path: path.into(),
            data: None,
            acl: docent::Acl::open(),
            kind: NodeKind::Persistent,
            parent_cversion: -1,
        };
        apply(zxid, &Txn::Create(create));
    }
    apply(8, &Txn::SetData { path: "/set".into(), data: None, version: 1, reconfig: false });
    let list = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    let watches = SetWatches {
        relative_zxid: Zxid(5),
        data: list(&["/old", "/set", "/gone", "/fed"]),
        exist: list(&["/never", "/old", "/new"]),
        child: list(&["/old", "/fed", "/gone", "/set"]),
        persistent: list(&["/set", "/gone"]),
        persistent_recursive: list(&["/"]),
    };
    let caught_up = catch_up(&tree, watches.clone());
    let events: Vec<(EventType, &str)> =
        caught_up.events.iter().map(|(kind, path)| (*kind, path.as_str())).collect();
    assert_eq!(
        events,
        [
            (NodeDataChanged, "/set"),
            (NodeDeleted, "/gone"),
            (NodeCreated, "/old"),
            (NodeCreated, "/new"),
            (NodeChildrenChanged, "/fed"),
            (NodeDeleted, "/gone"),
        ]
    );
    let again: Vec<(WatchKind, &str)> =
        caught_up.watches.iter().map(|(kind, path)| (*kind, path.as_str())).collect();
    assert_eq!(
        again,
        [
            (WatchKind::Data, "/old"),
            (WatchKind::Data, "/fed"),
            (WatchKind::Data, "/never"),
            (WatchKind::Child, "/old"),
            (WatchKind::Child, "/set"),
            (WatchKind::Persistent, "/set"),
            (WatchKind::Persistent, "/gone"),
            (WatchKind::Recursive, "/"),
        ]
    );
    // The zxid of the change itself was seen.
    let seen = SetWatches { relative_zxid: Zxid(8), exist: vec![], ..watches };
    let events = catch_up(&tree, seen).events;
    let child = list(&["/fed"]);
    let fed = |since| {
        let child = child.clone();
        catch_up(&tree, SetWatches { relative_zxid: Zxid(since), child, ..SetWatches::default() })
            .events
            .len()
    };
    assert_eq!((fed(5), fed(6)), (1, 0));
    assert_eq!(events, [(NodeDeleted, "/gone".to_owned()), (NodeDeleted, "/gone".to_owned())]);
}

/// The plain list: who watches what how, in order.
#[derive(Default)]
struct Plain(BTreeSet<(u64, &'static str, WatchKind)>);

impl Plain {
    /// Who hears of a change, by the words of the rules.
    fn fire(&mut self, kind: EventType, path: &str) -> BTreeSet<(u64, EventType, String)> {
        let mut heard = BTreeSet::new();
        let came_or_went = kind != NodeDataChanged;
        let parent = docent::path::parent(path);
        self.0.retain(|(conn, watched, watch)| {
            let own = *watched == path;
            let of_child = came_or_went && parent == Some(*watched);
            let below = own || *watched == "/" || path.starts_with(&format!("{watched}/"));
            let (hears_own, hears_child) = match watch {
                WatchKind::Data => (own, false),
                WatchKind::Child => (own && kind == NodeDeleted, of_child),
                WatchKind::Persistent => (own, of_child),
                WatchKind::Recursive => (below, false),
            };
            heard.extend(hears_own.then(|| (*conn, kind, path.to_owned())));
            heard.extend(hears_child.then(|| (*conn, NodeChildrenChanged, (*watched).to_owned())));
            let once = matches!(watch, WatchKind::Data | WatchKind::Child);
            !(once && (hears_own || hears_child))
        });
        heard
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(u64, &'static str, WatchKind),
    Remove(u64, &'static str, WatcherKind),
    Drop(u64),
    Fire(EventType, &'static str),
}

fn steps() -> impl Strategy<Value = Step> {
    let path = prop::sample::select(vec!["/", "/a", "/b", "/a/a", "/a/b", "/a/a/a", "/ab"]);
    let kind = prop::sample::select(WatchKind::ALL.to_vec());
    let removed = prop::sample::select(vec![
        WatcherKind::Children,
        WatcherKind::Data,
        WatcherKind::Any,
        WatcherKind::Persistent,
        WatcherKind::PersistentRecursive,
    ]);
    let event = prop::sample::select(vec![NodeCreated, NodeDeleted, NodeDataChanged]);
    prop_oneof![
        6 => (0..5_u64, path.clone(), kind).prop_map(|(conn, path, kind)| Step::Add(conn, path, kind)),
        1 => (0..5_u64, path.clone(), removed).prop_map(|(conn, path, kind)| Step::Remove(conn, path, kind)),
        1 => (0..5_u64).prop_map(Step::Drop),
        3 => (event, path).prop_map(|(kind, path)| Step::Fire(kind, path)),
    ]
}

/// The kinds that a client means, in the words of the protocol.
fn meant(kind: WatcherKind, watch: WatchKind) -> bool {
    match kind {
        WatcherKind::Children => watch == WatchKind::Child,
        WatcherKind::Data => watch == WatchKind::Data,
        WatcherKind::Any => true,
        WatcherKind::Persistent => watch == WatchKind::Persistent,
        WatcherKind::PersistentRecursive => watch == WatchKind::Recursive,
    }
}

proptest! {
    #[test]
    fn the_table_does_what_a_plain_list_does(steps in prop::collection::vec(steps(), 1..120)) {
        let (mut table, mut plain) = (WatchTable::new(1), Plain::default());
        for step in steps {
            match step {
                Step::Add(conn, path, kind) => {
                    table.add(ConnId(conn), path, kind);
                    plain.0.insert((conn, path, kind));
                }
                Step::Remove(conn, path, kind) => {
                    let before = plain.0.len();
                    plain.0.retain(|(c, p, watch)| (*c, *p) != (conn, path) || !meant(kind, *watch));
                    let removed = plain.0.len() < before;
                    prop_assert_eq!(table.has(ConnId(conn), path, kind), removed);
                    prop_assert_eq!(table.remove(ConnId(conn), path, kind), removed);
                }
                Step::Drop(conn) => {
                    table.drop_conn(ConnId(conn));
                    plain.0.retain(|(c, ..)| *c != conn);
                }
                Step::Fire(kind, path) => {
                    let told = heard(&mut table, kind, path);
                    let set: BTreeSet<_> = told.iter().cloned().collect();
                    prop_assert_eq!(set.len(), told.len(), "told twice: {:?}", told);
                    prop_assert_eq!(set, plain.fire(kind, path));
                }
            }
            table.check();
            let pairs: BTreeSet<_> = plain.0.iter().map(|(conn, path, _)| (conn, path)).collect();
            let paths: BTreeSet<_> = pairs.iter().map(|(_, path)| path).collect();
            let conns: BTreeSet<_> = pairs.iter().map(|(conn, _)| conn).collect();
            prop_assert_eq!((table.paths(), table.connections()), (paths.len(), conns.len()));
        }
    }
}
