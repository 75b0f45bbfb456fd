//! Random lives of a tree: everything that is kept up to date is counted again after each transaction, and a
//! snapshot that was taken on the way holds exactly the tree of its zxid.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use docent::{Acl, Permissions, SessionId, Zxid};
use proptest::prelude::*;

use super::check::{check, check_quota, picture};
use super::{Tree, TreeOptions};
use crate::node::txn::{CreateTxn, NodeKind, Txn, TxnHeader};

/// What somebody wants. It becomes a transaction only where a leader would let it.
#[derive(Clone, Debug)]
enum Wish {
    Create {
        path: String,
        kind: NodeKind,
        create2: bool,
        data: Option<Vec<u8>>,
        acl: u8,
    },
    Delete {
        path: String,
    },
    Set {
        path: String,
        data: Option<Vec<u8>>,
    },
    SetAcl {
        path: String,
        acl: u8,
    },
    Close,
    /// Arms or disarms a quota: limits and stats come and go together.
    Quota {
        deep: bool,
    },
    Refused,
    Multi(Vec<Wish>),
}

fn paths() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "c", "a name of more than twenty-four bytes", "é"]);
    prop::collection::vec(name, 1..4).prop_map(|names| names.iter().flat_map(|name| ["/", name]).collect())
}

fn data() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::weighted(0.9, prop::collection::vec(any::<u8>(), 0..40))
}

fn simple_wishes() -> impl Strategy<Value = Wish> {
    let kind = prop_oneof![
        4 => Just(NodeKind::Persistent),
        2 => Just(NodeKind::Ephemeral),
        1 => Just(NodeKind::Container),
        1 => (1..5000_i64).prop_map(NodeKind::Ttl),
    ];
    prop_oneof![
        8 => (paths(), kind, any::<bool>(), data(), 0..4_u8)
            .prop_map(|(path, kind, create2, data, acl)| Wish::Create { path, kind, create2, data, acl }),
        4 => paths().prop_map(|path| Wish::Delete { path }),
        4 => (paths(), data()).prop_map(|(path, data)| Wish::Set { path, data }),
        2 => (paths(), 0..4_u8).prop_map(|(path, acl)| Wish::SetAcl { path, acl }),
    ]
}

fn wishes() -> impl Strategy<Value = (i64, Wish)> {
    let wish = prop_oneof![
        12 => simple_wishes(),
        1 => Just(Wish::Close),
        1 => any::<bool>().prop_map(|deep| Wish::Quota { deep }),
        1 => Just(Wish::Refused),
        2 => prop::collection::vec(simple_wishes(), 1..5).prop_map(Wish::Multi),
    ];
    (1..4_i64, wish)
}

fn acl(number: u8) -> Vec<Acl> {
    match number {
        0 => Acl::open(),
        number => vec![Acl::new(Permissions(i32::from(number)), "ip", "::1")],
    }
}

/// The leader's part: wishes become transactions that are valid together.
struct Leader<'a> {
    tree: &'a Tree,
    session: SessionId,
    /// Parents' counts of created children, ahead of the tree.
    counts: BTreeMap<String, i32>,
    /// Nodes that this transaction names already.
    touched: BTreeSet<String>,
}

impl Leader<'_> {
    /// Whether the path, its parent and its children are not named yet.
    fn is_free(&self, path: &str) -> bool {
        let parent = docent::path::parent(path).unwrap_or("/");
        let related =
            |other: &String| other == path || other == parent || docent::path::parent(other) == Some(path);
        !self.touched.iter().any(related)
    }

    fn create(
        &mut self,
        path: &str,
        kind: NodeKind,
        create2: bool,
        data: Option<Bytes>,
        acl: Vec<Acl>,
    ) -> Txn {
        let parent = docent::path::parent(path).unwrap_or("/");
        let now = self.tree.node(parent).map_or(0, |node| node.stored().cversion);
        let count = self.counts.entry(parent.to_owned()).or_insert(now);
        *count += 1;
        let create2 = create2 && matches!(kind, NodeKind::Persistent | NodeKind::Ephemeral);
        let path = path.to_owned();
        Txn::Create(CreateTxn { create2, path, data, acl, kind, parent_cversion: *count })
    }

    fn simple(&mut self, wish: &Wish) -> Option<Txn> {
        let (Wish::Create { path, .. }
        | Wish::Delete { path }
        | Wish::Set { path, .. }
        | Wish::SetAcl { path, .. }) = wish
        else {
            return None;
        };
        if !self.is_free(path) {
            return None;
        }
        let node = self.tree.node(path);
        let txn = match wish {
            Wish::Create { path, kind, create2, data, acl: number } => {
                let parent = self.tree.node(docent::path::parent(path)?)?;
                if node.is_some() || parent.kind() == NodeKind::Ephemeral {
                    return None;
                }
                let data = data.clone().map(Bytes::from);
                self.create(path, *kind, *create2, data, acl(*number))
            }
            Wish::Delete { path } => {
                let empty = node.filter(|node| node.num_children() == 0)?;
                Txn::Delete { path: path.clone(), swept: empty.kind() == NodeKind::Container }
            }
            Wish::Set { path, data } => {
                let version = node?.stored().version + 1;
                Txn::SetData {
                    path: path.clone(),
                    data: data.clone().map(Bytes::from),
                    version,
                    reconfig: false,
                }
            }
            Wish::SetAcl { path, acl: number } => {
                Txn::SetAcl { path: path.clone(), acl: acl(*number), version: node?.stored().aversion + 1 }
            }
            _ => return None,
        };
        self.touched.insert(path.clone());
        Some(txn)
    }

    /// The transactions of a wish; none where it is refused before it becomes one.
    fn prepare(&mut self, wish: &Wish) -> Vec<Txn> {
        match wish {
            Wish::Close => vec![Txn::CloseSession { paths: Some(self.tree.ephemerals(self.session)) }],
            Wish::Refused => vec![Txn::Error(docent::ErrorCode::NO_NODE)],
            Wish::Quota { deep } => self.quota(*deep),
            Wish::Multi(wishes) => {
                let txns = wishes.iter().filter_map(|wish| self.simple(wish));
                // The ACL of a node is not set by a multi.
                vec![Txn::Multi(txns.filter(|txn| !matches!(txn, Txn::SetAcl { .. })).collect())]
            }
            wish => self.simple(wish).into_iter().collect(),
        }
    }

    /// Arms a quota, or disarms it. As the shell does, one path has one only where none is above or below it.
    fn quota(&mut self, deep: bool) -> Vec<Txn> {
        let (path, other) = if deep { ("/a/b", "/a") } else { ("/a", "/a/b") };
        let node = |path: &str, name: &str| format!("/zookeeper/quota{path}{name}");
        let (limits, stats) = (node(path, "/zookeeper_limits"), node(path, "/zookeeper_stats"));
        if self.tree.node(&node(other, "/zookeeper_limits")).is_some() {
            return Vec::new();
        }
        if self.tree.node(&limits).is_some() {
            return [stats, limits].map(|path| Txn::Delete { path, swept: false }).into();
        }
        let mut needed = vec![node("/a", ""), node(path, ""), limits, stats];
        needed.dedup();
        needed.retain(|path| self.tree.node(path).is_none());
        let text = Some(Bytes::from_static(b"count=9,bytes=9"));
        let create = |path| self.create(path, NodeKind::Persistent, false, text.clone(), Acl::open());
        needed.iter().map(String::as_str).map(create).collect()
    }
}

/// A tree and all that was told to it.
struct Life {
    tree: Tree,
    log: Vec<(TxnHeader, Txn)>,
    now_ms: i64,
}

impl Life {
    fn new() -> Life {
        Life { tree: Tree::new(), log: Vec::new(), now_ms: 0 }
    }

    /// Lets a session have its wish, when `passed_ms` have passed.
    fn step(&mut self, passed_ms: i64, session: SessionId, wish: &Wish) {
        self.now_ms += passed_ms;
        let tree = &self.tree;
        let mut leader = Leader { tree, session, counts: BTreeMap::new(), touched: BTreeSet::new() };
        for txn in leader.prepare(wish) {
            let zxid = Zxid(self.tree.last_zxid().0 + 1);
            let header = TxnHeader { session, cxid: 0, zxid, time_ms: self.now_ms };
            let refused = matches!(txn, Txn::Error(_));
            let applied = self.tree.apply(&header, &txn, &mut Vec::new());
            assert_eq!(applied.error.0 != 0, refused, "{txn:?}");
            self.log.push((header, txn));
        }
    }

    /// A tree that was loaded, and told what came after `from`.
    fn replayed(&self, body: &[u8], zxid: Zxid, from: i64) -> Tree {
        let mut input = body;
        let options = TreeOptions { hash_seed: 99, ..TreeOptions::default() };
        let (mut tree, _) = Tree::load_with(&mut input, options).unwrap();
        assert!(input.is_empty());
        tree.finish_load(zxid);
        for (header, txn) in self.log.iter().filter(|(header, _)| header.zxid.0 > from) {
            tree.apply(header, txn, &mut Vec::new());
        }
        check(&tree);
        tree.finish_load(zxid);
        tree
    }
}

/// Enough to break each rule several times over; the everyday run is to stay short.
const CASES: u32 = 100;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn what_is_kept_up_to_date_is_what_counting_gives(
        steps in prop::collection::vec((wishes(), any::<bool>()), 1..80),
    ) {
        let mut life = Life::new();
        for ((passed_ms, wish), is_first) in steps {
            life.step(passed_ms, SessionId(if is_first { 1 } else { 2 }), &wish);
            check(&life.tree);
            check_quota(&life.tree, "/a");
            check_quota(&life.tree, "/a/b");
        }
        // When everything is taken out again, nothing is left.
        for session in life.tree.sessions_with_ephemerals() {
            life.step(1, session, &Wish::Close);
        }
        let tops: Vec<String> = life.tree.node("/").unwrap().children().map(|name| format!("/{name}")).collect();
        for path in tops.into_iter().filter(|path| path != "/zookeeper") {
            let header = TxnHeader { session: SessionId(0), cxid: 0, zxid: Zxid(0), time_ms: 0 };
            life.tree.apply(&header, &Txn::Delete { path, swept: false }, &mut Vec::new());
        }
        check(&life.tree);
        prop_assert!(life.tree.expired_nodes(i64::MAX, 9).is_empty());
        prop_assert_eq!(life.tree.acls.uses().len(), 1);
    }

    #[test]
    fn a_snapshot_is_the_tree_of_its_zxid_and_any_part_of_the_log_brings_it_up_to_date(
        steps in prop::collection::vec((wishes(), any::<bool>(), 0..3_u8, 1..600_usize), 10..100),
        from in 0.0..=1.0_f64,
    ) {
        let mut life = Life::new();
        let sessions = [(SessionId(1), 30_000), (SessionId(-2), 4_000)];
        // What the running snapshot must hold, and what it has written.
        let mut running = None;
        let mut finished = Vec::new();
        for ((passed_ms, wish), is_first, action, max_bytes) in steps {
            life.step(passed_ms, SessionId(if is_first { 1 } else { 2 }), &wish);
            if action == 0 && running.is_none() {
                let zxid = life.tree.begin_snapshot(&sessions).unwrap();
                prop_assert_eq!(life.tree.snapshot_digest(), Some((zxid, life.tree.digest())));
                prop_assert!(life.tree.begin_snapshot(&sessions).is_err());
                running = Some((zxid, picture(&life.tree), life.tree.digest(), Vec::new()));
            } else if action == 1 && let Some(mut snapshot) = running.take() {
                match life.tree.next_piece(max_bytes) {
                    Some(piece) => {
                        snapshot.3.extend_from_slice(&piece);
                        running = Some(snapshot);
                    }
                    None => finished.push(snapshot),
                }
            }
        }
        if let Some(mut snapshot) = running {
            while let Some(piece) = life.tree.next_piece(100) {
                snapshot.3.extend_from_slice(&piece);
            }
            finished.push(snapshot);
        }
        prop_assert!(life.tree.next_piece(100).is_none());
        for (zxid, expected, digest, body) in finished {
            let (loaded, loaded_sessions) = Tree::load(&mut &body[..], true).unwrap();
            check(&loaded);
            prop_assert_eq!(picture(&loaded), expected);
            prop_assert_eq!((loaded.digest(), &loaded_sessions[..]), (digest, &sessions[..]));
            #[expect(clippy::cast_possible_truncation, reason = "a position within a short log")]
            let earlier = (zxid.0 as f64 * from) as i64;
            for from in [zxid.0, earlier] {
                let replayed = life.replayed(&body, zxid, from);
                prop_assert_eq!(picture(&replayed), picture(&life.tree), "from {}", from);
                prop_assert_eq!(replayed.digest(), life.tree.digest());
                prop_assert_eq!(replayed.last_zxid(), life.tree.last_zxid());
            }
        }
    }
}
