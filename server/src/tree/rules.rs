//! The rules, one by one: what a transaction does to the tree, and what it does when it is done already.

use bytes::Bytes;
use docent::proto::EventType;
use docent::{Acl, ErrorCode, Permissions, SessionId, Stat, Zxid};

use super::check::{check, picture};
use super::{Applied, Change, StoredStat, Tree, TreeOptions};
use crate::node::txn::{CreateTxn, NodeKind, Txn, TxnHeader};

const ALICE: SessionId = SessionId(0x10);
const BOB: SessionId = SessionId(0x20);

/// A tree that is told one transaction after the other, and is checked after each.
struct World {
    tree: Tree,
    /// The next zxid; the time is a thousand times as much.
    next: i64,
    session: SessionId,
    changes: Vec<Change>,
}

impl World {
    fn new() -> World {
        World { tree: Tree::new(), next: 1, session: ALICE, changes: Vec::new() }
    }

    /// Applies a transaction under a zxid of its own choice.
    fn apply_at(&mut self, zxid: i64, txn: &Txn) -> Applied {
        let header =
            TxnHeader { session: self.session, cxid: 0, zxid: Zxid(zxid), time_ms: zxid.wrapping_mul(1000) };
        self.changes.clear();
        let applied = self.tree.apply(&header, txn, &mut self.changes);
        check(&self.tree);
        applied
    }

    fn apply(&mut self, txn: &Txn) -> Applied {
        self.next += 1;
        self.apply_at(self.next - 1, txn)
    }

    fn ok(&mut self, txn: &Txn) -> Option<Stat> {
        let applied = self.apply(txn);
        assert_eq!(applied.error, ErrorCode::OK, "{txn:?}");
        applied.stat
    }

    fn stat(&self, path: &str) -> Stat {
        self.tree.node(path).unwrap_or_else(|| panic!("{path} is missing")).stat()
    }

    fn stored(&self, path: &str) -> StoredStat {
        self.tree.node(path).unwrap_or_else(|| panic!("{path} is missing")).stored()
    }

    fn children(&self, path: &str) -> Vec<&str> {
        self.tree.node(path).unwrap().children().collect()
    }

    fn stats_text(&self, path: &str) -> String {
        let node = self.tree.node(&format!("/zookeeper/quota{path}/zookeeper_stats")).unwrap();
        String::from_utf8(node.data().unwrap().to_vec()).unwrap()
    }

    /// What was heard of last.
    fn heard(&self) -> Vec<(EventType, &str)> {
        self.changes.iter().map(|change| (change.kind, change.path.as_str())).collect()
    }
}

fn create_txn(path: &str, data: &str, kind: NodeKind, parent_cversion: i32) -> CreateTxn {
    let data = Some(Bytes::copy_from_slice(data.as_bytes()));
    CreateTxn { create2: false, path: path.into(), data, acl: Acl::open(), kind, parent_cversion }
}

fn create_as(path: &str, data: &str, kind: NodeKind) -> Txn {
    Txn::Create(create_txn(path, data, kind, -1))
}

fn create(path: &str) -> Txn {
    create_as(path, "", NodeKind::Persistent)
}

fn create_with(path: &str, data: &str) -> Txn {
    create_as(path, data, NodeKind::Persistent)
}

fn delete(path: &str) -> Txn {
    Txn::Delete { path: path.into(), swept: false }
}

fn set(path: &str, data: &str, version: i32) -> Txn {
    let data = Some(Bytes::copy_from_slice(data.as_bytes()));
    Txn::SetData { path: path.into(), data, version, reconfig: false }
}

fn readers(id: &str) -> Vec<Acl> {
    vec![Acl::new(Permissions::READ, "ip", id)]
}

fn close(paths: Option<&[&str]>) -> Txn {
    Txn::CloseSession { paths: paths.map(|paths| paths.iter().map(|path| (*path).to_owned()).collect()) }
}

#[test]
fn a_fresh_tree_is_as_apaches() {
    let tree = Tree::new();
    check(&tree);
    assert_eq!((tree.digest(), tree.node_count(), tree.approximate_data_size()), (0x51c6_d660, 5, 44));
    assert_eq!(tree.descendants("/"), Some(3));
    let cversion = |path| tree.node(path).unwrap().stat().cversion;
    assert_eq!((cversion("/"), cversion("/zookeeper"), cversion("/zookeeper/quota")), (-1, -2, 0));
    let config = tree.node("/zookeeper/config").unwrap();
    assert_eq!((config.acl(), config.stat().aversion), (&Acl::read_only()[..], -1));
    assert_eq!(tree.node("/zookeeper").unwrap().acl(), Acl::open());
    assert_eq!(tree.node("").unwrap().stat(), tree.node("/").unwrap().stat());
}

#[test]
fn a_create_sets_its_own_stat_and_counts_in_the_parent() {
    let mut world = World::new();
    let stat = world.ok(&create_with("/a", "four")).unwrap();
    let expected = Stat {
        czxid: Zxid(1),
        mzxid: Zxid(1),
        pzxid: Zxid(1),
        ctime: 1000,
        mtime: 1000,
        data_length: 4,
        ..Stat::default()
    };
    assert_eq!((stat, world.stat("/a")), (expected, expected));
    assert_eq!((world.stored("/").cversion, world.stat("/").pzxid), (1, Zxid(1)));
    assert_eq!(world.heard(), [(EventType::NodeCreated, "/a")]);
}

#[test]
fn the_shown_cversion_counts_creates_and_deletes_and_pzxid_follows_both() {
    let mut world = World::new();
    for path in ["/a", "/a/b", "/a/c"] {
        world.ok(&create(path));
    }
    world.ok(&delete("/a/b"));
    let stat = world.stat("/a");
    assert_eq!((stat.cversion, stat.num_children, stat.pzxid), (3, 1, Zxid(4)));
    assert_eq!(world.stored("/a").cversion, 2);
    world.ok(&create("/a/c/d"));
    world.ok(&set("/a/c", "x", 1));
    assert_eq!(world.stat("/a").pzxid, Zxid(4), "neither grandchildren nor a child's data count");
    assert_eq!((stat.mzxid, stat.version, stat.mtime), (Zxid(1), 0, 1000));
}

#[test]
fn setting_data_takes_the_version_and_leaves_pzxid_and_ctime() {
    let mut world = World::new();
    world.ok(&create_with("/a", "x"));
    let stat = world.ok(&set("/a", "x", 41)).unwrap();
    assert_eq!((stat.version, stat.mzxid, stat.mtime), (41, Zxid(2), 2000));
    assert_eq!((stat.czxid, stat.ctime, stat.pzxid, stat.aversion), (Zxid(1), 1000, Zxid(1), 0));
    assert_eq!(world.heard(), [(EventType::NodeDataChanged, "/a")], "the same bytes are news, too");
    world.ok(&set("/", "root", 1));
    assert_eq!(world.tree.node("/").unwrap().data(), Some(&b"root"[..]));
}

#[test]
fn null_is_not_empty() {
    let mut world = World::new();
    world.ok(&Txn::Create(CreateTxn { data: None, ..create_txn("/n", "", NodeKind::Persistent, -1) }));
    world.ok(&create("/e"));
    let data = |path| world.tree.node(path).unwrap().data();
    assert_eq!((data("/n"), data("/e")), (None, Some(&[][..])));
    assert_eq!(world.stat("/n").data_length, 0);
    world.ok(&Txn::SetData { path: "/e".into(), data: None, version: 1, reconfig: false });
    assert_eq!(world.tree.node("/e").unwrap().data(), None);
}

#[test]
fn setting_an_acl_moves_aversion_alone_and_nobody_hears() {
    let mut world = World::new();
    world.ok(&create("/a"));
    let before = world.stat("/a");
    let stat = world.ok(&Txn::SetAcl { path: "/a".into(), acl: readers("::1"), version: 7 }).unwrap();
    assert_eq!(stat, Stat { aversion: 7, ..before });
    assert_eq!(world.tree.node("/a").unwrap().acl(), readers("::1"));
    assert_eq!(world.heard(), []);
}

#[test]
fn what_is_missing_is_refused_and_changes_nothing() {
    let mut world = World::new();
    let before = picture(&world.tree);
    let acl = Txn::SetAcl { path: "/x".into(), acl: readers("::1"), version: 1 };
    for txn in [create("/x/y"), delete("/x/y"), set("/x", "", 1), acl] {
        assert_eq!(world.apply(&txn).error, ErrorCode::NO_NODE, "{txn:?}");
        assert_eq!(world.heard(), []);
    }
    for strange in ["", "/", "x", "/x/", "//"] {
        for txn in [create(strange), delete(strange)] {
            assert_ne!(world.apply(&txn).error, ErrorCode::OK, "{txn:?}");
        }
    }
    assert_eq!(picture(&world.tree), before);
}

#[test]
fn the_parents_counters_move_together_and_only_upward() {
    let mut world = World::new();
    world.ok(&create("/a"));
    let with_count = |path: &str, count| Txn::Create(create_txn(path, "", NodeKind::Persistent, count));
    world.apply_at(10, &with_count("/a/x", 5));
    assert_eq!((world.stored("/a").cversion, world.stored("/a").pzxid), (5, Zxid(10)));
    world.apply_at(11, &with_count("/a/y", 5));
    assert_eq!((world.stored("/a").cversion, world.stored("/a").pzxid), (5, Zxid(10)));
    world.apply_at(12, &with_count("/a/z", -1));
    assert_eq!((world.stored("/a").cversion, world.stored("/a").pzxid), (6, Zxid(12)));
}

#[test]
fn at_the_end_of_its_numbers_the_parents_counter_freezes() {
    let mut world = World::new();
    world.ok(&create("/a"));
    let with_count = |path: &str, count| Txn::Create(create_txn(path, "", NodeKind::Persistent, count));
    world.apply_at(10, &with_count("/a/x", i32::MAX));
    world.apply_at(11, &with_count("/a/y", i32::MIN));
    assert_eq!((world.stored("/a").cversion, world.stored("/a").pzxid), (i32::MAX, Zxid(10)));
    assert_eq!(world.children("/a"), ["x", "y"]);
}

#[test]
fn a_create_that_is_done_already_repairs_counters_only_as_type_1() {
    for (create2, kind, repairs) in [
        (false, NodeKind::Persistent, true),
        (false, NodeKind::Ephemeral, true),
        (true, NodeKind::Persistent, false),
        (true, NodeKind::Ephemeral, false),
        (false, NodeKind::Container, false),
        (false, NodeKind::Ttl(5), false),
    ] {
        let mut world = World::new();
        world.ok(&create("/a"));
        world.ok(&create_as("/a/x", "old", NodeKind::Persistent));
        let again = CreateTxn { create2, acl: readers("::1"), ..create_txn("/a/x", "new", kind, 9) };
        let applied = world.apply_at(50, &Txn::Create(again));
        assert_eq!((applied.error, applied.stat), (ErrorCode::NODE_EXISTS, None));
        let parent = world.stored("/a");
        let expected = if repairs { (9, Zxid(50)) } else { (1, Zxid(2)) };
        assert_eq!((parent.cversion, parent.pzxid), expected, "{kind:?} {create2}");
        let node = world.tree.node("/a/x").unwrap();
        assert_eq!((node.data(), node.stored().czxid), (Some(&b"old"[..]), Zxid(2)));
        assert_eq!(node.acl(), readers("::1"), "the list is the transaction's again");
        assert_eq!(world.heard(), []);
    }
}

#[test]
fn a_delete_moves_pzxid_even_when_the_node_has_gone_but_never_back() {
    let mut world = World::new();
    world.ok(&create("/a"));
    assert_eq!(world.apply_at(20, &delete("/a/gone")).error, ErrorCode::NO_NODE);
    assert_eq!(world.stored("/a").pzxid, Zxid(20));
    assert_eq!(world.stored("/a").cversion, 0);
    world.apply_at(19, &delete("/a/gone"));
    assert_eq!(world.stored("/a").pzxid, Zxid(20));
    assert_eq!(world.heard(), []);
}

#[test]
fn a_node_that_goes_in_a_replay_takes_its_later_children_along() {
    let mut world = World::new();
    for path in ["/a", "/a/b", "/a/b/c", "/a/d", "/e"] {
        world.ok(&create_as(path, "x", NodeKind::Persistent));
    }
    world.ok(&create_as("/a/b/eph", "", NodeKind::Ephemeral));
    world.ok(&create_as("/a/ttl", "", NodeKind::Ttl(1)));
    world.ok(&delete("/a"));
    assert_eq!(world.children("/"), ["zookeeper", "e"]);
    assert_eq!(world.heard(), [(EventType::NodeDeleted, "/a")]);
    assert_eq!((world.tree.node_count(), world.tree.ephemerals_count()), (6, 0));
}

#[test]
fn the_owner_is_shown_of_ephemeral_nodes_alone() {
    let mut world = World::new();
    for (path, kind, shown) in [
        ("/p", NodeKind::Persistent, SessionId::NONE),
        ("/e", NodeKind::Ephemeral, ALICE),
        ("/c", NodeKind::Container, SessionId::NONE),
        ("/t", NodeKind::Ttl(100), SessionId::NONE),
    ] {
        let stat = world.ok(&create_as(path, "", kind)).unwrap();
        assert_eq!((stat.ephemeral_owner, world.stat(path).ephemeral_owner), (shown, shown), "{path}");
        assert_eq!(world.tree.node(path).unwrap().kind(), kind);
    }
    assert_eq!(world.stored("/t").owner.cast_unsigned(), 0xff00_0000_0000_0064);
    assert_eq!(world.stored("/c").owner, i64::MIN);
}

#[test]
fn without_extended_types_a_ttl_node_is_ephemeral() {
    let mut world = World::new();
    world.tree = Tree::with_options(TreeOptions { extended_types: false, ..TreeOptions::default() });
    world.ok(&create_as("/t", "", NodeKind::Ttl(1)));
    assert_eq!(world.tree.expired_nodes(i64::MAX, 9), [""; 0]);
    assert_eq!(world.tree.ephemerals(SessionId(world.stored("/t").owner)), ["/t"]);
}

#[test]
fn a_session_takes_its_nodes_along_as_the_record_names_them() {
    let mut world = World::new();
    world.ok(&create("/p"));
    for path in ["/p/b", "/a", "/c"] {
        world.ok(&create_as(path, "", NodeKind::Ephemeral));
    }
    world.session = BOB;
    world.ok(&create_as("/bob", "", NodeKind::Ephemeral));
    assert_eq!(world.tree.ephemerals(ALICE), ["/a", "/c", "/p/b"]);
    assert_eq!((world.tree.sessions_with_ephemerals(), world.tree.ephemerals_count()), (vec![ALICE, BOB], 4));

    world.session = ALICE;
    // One that is named has gone, one that is here is not named.
    world.ok(&close(Some(&["/p/b", "/gone", "/a"])));
    let heard = world.heard();
    assert_eq!(heard, ["/p/b", "/a", "/c"].map(|path| (EventType::NodeDeleted, path)));
    assert_eq!((world.stored("/p").pzxid, world.stored("/").pzxid), (Zxid(6), Zxid(6)));
    assert_eq!(world.tree.sessions_with_ephemerals(), [BOB]);

    world.session = BOB;
    world.ok(&close(None));
    assert_eq!(world.children("/"), ["zookeeper", "p"]);
    world.ok(&close(None));
    assert_eq!(world.heard(), []);
}

#[test]
fn a_multi_is_done_whole_or_not_at_all() {
    let mut world = World::new();
    world.ok(&create("/a"));
    let parts = vec![
        create("/a/b"),
        Txn::Check { path: "/a".into(), version: 0 },
        set("/a/b", "xy", 1),
        delete("/a/b"),
    ];
    let applied = world.apply(&Txn::Multi(parts.clone()));
    assert_eq!((applied.error, applied.results.len()), (ErrorCode::OK, 4));
    let lengths: Vec<Option<i32>> = applied.results.iter().map(|r| r.stat.map(|s| s.data_length)).collect();
    assert_eq!(lengths, [Some(0), None, Some(2), None], "each as it was right after that operation");
    assert_eq!(
        world.heard(),
        [
            (EventType::NodeCreated, "/a/b"),
            (EventType::NodeDataChanged, "/a/b"),
            (EventType::NodeDeleted, "/a/b")
        ]
    );
    assert_eq!((world.stored("/a").pzxid, world.stored("/a").cversion), (Zxid(2), 1));

    let before = picture(&world.tree);
    let refused = [ErrorCode::BAD_VERSION, ErrorCode::RUNTIME_INCONSISTENCY].map(Txn::Error);
    let applied = world.apply(&Txn::Multi([parts, refused.to_vec()].concat()));
    let errors: Vec<i32> = applied.results.iter().map(|result| result.error.0).collect();
    assert_eq!((applied.error, errors), (ErrorCode::BAD_VERSION, vec![0, 0, 0, 0, -103, -2]));
    assert_eq!((picture(&world.tree), world.heard()), (before, vec![]));
    assert_eq!(world.tree.last_zxid(), Zxid(3), "it has its place all the same");
}

#[test]
fn in_a_replayed_multi_what_is_done_does_not_stop_the_rest() {
    let mut world = World::new();
    world.ok(&create("/a"));
    let applied = world.apply(&Txn::Multi(vec![create("/a"), delete("/gone"), create("/b")]));
    let errors: Vec<ErrorCode> = applied.results.iter().map(|result| result.error).collect();
    assert_eq!(errors, [ErrorCode::NODE_EXISTS, ErrorCode::NO_NODE, ErrorCode::OK]);
    assert_eq!(world.children("/"), ["zookeeper", "a", "b"]);
}

#[test]
fn refusals_and_sessions_move_the_zxid_alone() {
    let mut world = World::new();
    let before = picture(&world.tree);
    assert_eq!(world.apply(&Txn::Error(ErrorCode::NO_NODE)).error, ErrorCode::NO_NODE);
    assert_eq!(world.apply(&Txn::CreateSession { timeout_ms: 5 }).error, ErrorCode::OK);
    assert_eq!((picture(&world.tree), world.tree.last_zxid()), (before, Zxid(2)));
    world.apply_at(1, &Txn::CreateSession { timeout_ms: 5 });
    assert_eq!(world.tree.last_zxid(), Zxid(2), "a replay does not move it back");
}

#[test]
fn containers_are_due_when_they_were_used_and_are_empty() {
    let mut world = World::new();
    world.ok(&create_as("/c", "", NodeKind::Container));
    world.ok(&create_as("/never", "", NodeKind::Container));
    world.ok(&create("/c/x"));
    assert_eq!(world.tree.expired_nodes(i64::MAX, 9), [""; 0]);
    world.ok(&delete("/c/x"));
    assert_eq!(world.tree.expired_nodes(0, 9), ["/c"]);
    world.ok(&create("/c/x"));
    assert_eq!(world.tree.expired_nodes(i64::MAX, 9), [""; 0]);
    world.ok(&delete("/c/x"));
    world.ok(&Txn::Delete { path: "/c".into(), swept: true });
    assert_eq!(world.tree.expired_nodes(i64::MAX, 9), [""; 0]);
    assert_eq!(world.heard(), [(EventType::NodeDeleted, "/c")]);
}

#[test]
fn a_ttl_counts_from_the_last_data_and_only_without_children() {
    let mut world = World::new();
    world.ok(&create_as("/t", "", NodeKind::Ttl(500)));
    let due = |world: &World, now_ms| world.tree.expired_nodes(now_ms, 9);
    assert_eq!((due(&world, 1500), due(&world, 1501)), (vec![], vec!["/t".to_owned()]));
    world.ok(&set("/t", "", 1));
    assert_eq!((due(&world, 2500), due(&world, 2501)), (vec![], vec!["/t".to_owned()]));
    world.ok(&create("/t/x"));
    assert_eq!(due(&world, i64::MAX), [""; 0]);
    world.ok(&delete("/t/x"));
    assert_eq!(due(&world, 2501), ["/t"], "children do not renew it");
}

#[test]
fn those_that_wait_longest_come_first_and_no_more_than_asked_for() {
    let mut world = World::new();
    for (path, ttl_ms) in [("/late", 9_000), ("/soon", 1_000), ("/mid", 4_000)] {
        world.ok(&create_as(path, "", NodeKind::Ttl(ttl_ms)));
    }
    assert_eq!(world.tree.expired_nodes(100_000, 2), ["/soon", "/mid"]);
}

#[test]
fn a_quota_counts_the_node_itself_and_all_below() {
    let mut world = World::new();
    for path in ["/q", "/zookeeper/quota/q"] {
        world.ok(&create(path));
    }
    world.ok(&create_with("/q/a", "123"));
    assert_eq!(world.tree.quota("/q/a"), None);
    world.ok(&create_with("/zookeeper/quota/q/zookeeper_limits", "count=10,bytes=-1=;byteHardLimit=99"));
    assert_eq!(world.tree.quota("/q/a"), None, "without stats nothing can be said");
    world.ok(&create_with("/zookeeper/quota/q/zookeeper_stats", "count=0,bytes=0"));
    assert_eq!(world.stats_text("/q"), "count=2,bytes=3");
    let stats = "/zookeeper/quota/q/zookeeper_stats";
    let before = world.stored(stats);
    world.ok(&create_with("/q/a/b", "45"));
    assert_eq!(world.stats_text("/q"), "count=3,bytes=5");
    world.ok(&set("/q/a", "1", 1));
    assert_eq!(world.stats_text("/q"), "count=3,bytes=3");
    world.ok(&delete("/q/a/b"));
    assert_eq!(world.stats_text("/q"), "count=2,bytes=1");
    world.ok(&create_as("/q/e", "eph", NodeKind::Ephemeral));
    world.ok(&close(Some(&["/q/e"])));
    assert_eq!(world.stats_text("/q"), "count=2,bytes=1");
    assert_eq!(world.stored(stats), before, "in place: nothing of its state moves");
    assert_eq!(world.heard(), [(EventType::NodeDeleted, "/q/e")], "and nobody hears");

    let quota = world.tree.quota("/q/deep/er").unwrap();
    assert_eq!((quota.path.as_str(), quota.count, quota.bytes), ("/q", 2, 1));
    assert_eq!((quota.limits.count, quota.limits.bytes), (Some(10), None));
    assert_eq!((quota.limits.bytes_hard, quota.limits.count_hard), (Some(99), None));
    assert_eq!(world.tree.quota("/qq"), None);
}

#[test]
fn the_deepest_quota_counts_until_it_is_taken_away() {
    let mut world = World::new();
    for path in ["/q", "/q/r", "/zookeeper/quota/q", "/zookeeper/quota/q/r"] {
        world.ok(&create(path));
    }
    for path in ["/q", "/q/r"] {
        world.ok(&create_with(&format!("/zookeeper/quota{path}/zookeeper_limits"), "count=10,bytes=10"));
        world.ok(&create_with(&format!("/zookeeper/quota{path}/zookeeper_stats"), ""));
    }
    world.ok(&create_with("/q/r/x", "1"));
    assert_eq!(
        (world.stats_text("/q"), world.stats_text("/q/r")),
        ("count=2,bytes=0".into(), "count=2,bytes=1".into())
    );
    world.ok(&delete("/zookeeper/quota/q/r/zookeeper_limits"));
    world.ok(&create_with("/q/r/y", "1"));
    assert_eq!(
        (world.stats_text("/q"), world.stats_text("/q/r")),
        ("count=3,bytes=1".into(), "count=2,bytes=1".into())
    );
    world.tree.finish_load(Zxid(9));
    assert_eq!(world.stats_text("/q"), "count=4,bytes=2", "at a start everything is counted anew");
}

#[test]
fn limits_for_the_root_are_not_a_quota() {
    let mut world = World::new();
    world.ok(&create_with("/zookeeper/quota/zookeeper_limits", "count=1,bytes=1"));
    world.ok(&create_with("/zookeeper/quota/zookeeper_stats", "x"));
    world.ok(&create("/a"));
    assert_eq!(world.tree.quota("/a"), None);
    assert_eq!(world.tree.node("/zookeeper/quota/zookeeper_stats").unwrap().data(), Some(&b"x"[..]));
}

#[test]
fn the_configuration_is_outside_of_digest_and_log() {
    let mut world = World::new();
    let digest = world.tree.digest();
    world.tree.set_config(b"server.1=x", Zxid(5), -1, 77);
    check(&world.tree);
    let node = world.tree.node("/zookeeper/config").unwrap();
    let stat = node.stat();
    assert_eq!((node.data(), stat.mzxid, stat.mtime), (Some(&b"server.1=x"[..]), Zxid(5), 77));
    assert_eq!((stat.version, stat.aversion, node.acl()), (-1, -1, &Acl::read_only()[..]));
    assert_eq!((world.tree.digest(), world.tree.last_zxid()), (digest, Zxid::ZERO));
}

#[test]
fn changes_name_the_lists_of_before_even_of_nodes_that_have_gone() {
    let mut world = World::new();
    let with_acl = |path: &str, id: &str| {
        Txn::Create(CreateTxn { acl: readers(id), ..create_txn(path, "", NodeKind::Persistent, -1) })
    };
    world.ok(&with_acl("/p", "10.0.0.1"));
    world.ok(&with_acl("/p/c", "10.0.0.2"));
    world.ok(&Txn::Multi(vec![delete("/p/c"), delete("/p")]));
    let lists: Vec<_> = world
        .changes
        .iter()
        .map(|c| (world.tree.acl(c.acl)[0].id.clone(), world.tree.acl(c.parent_acl).to_vec()))
        .collect();
    assert_eq!(lists, [("10.0.0.2".into(), readers("10.0.0.1")), ("10.0.0.1".into(), Acl::open())]);
    world.ok(&create("/x"));
    assert!(world.tree.acls.uses().len() == 1, "only the configuration's list is left");
}

#[test]
fn lists_that_came_and_went_leave_nothing() {
    let mut world = World::new();
    for n in 0..50 {
        let acl = readers(&format!("10.0.0.{n}"));
        world.ok(&Txn::Create(CreateTxn { acl, ..create_txn("/a", "", NodeKind::Persistent, -1) }));
        world.ok(&delete("/a"));
    }
    // The configuration's, and the last one, which changes may still name.
    assert_eq!(world.tree.acls.kept(), 2);
}

#[test]
fn the_seed_is_never_seen() {
    let mut pictures = Vec::new();
    for hash_seed in [0, 1, 0xdead_beef] {
        let mut world = World::new();
        world.tree = Tree::with_options(TreeOptions { hash_seed, ..TreeOptions::default() });
        for n in 0..50 {
            world.ok(&create_as(&format!("/n{n}"), "x", NodeKind::Ttl(5)));
        }
        let due = world.tree.expired_nodes(i64::MAX, 99);
        let names: Vec<String> = world.children("/").into_iter().map(str::to_owned).collect();
        pictures.push((names, due, picture(&world.tree)));
    }
    assert!(pictures.iter().all(|picture| *picture == pictures[0]));
}
