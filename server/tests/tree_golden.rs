//! The tree against what Apache ZooKeeper 3.8.0 wrote and held: every transaction byte for byte, the digest after
//! each of them, the whole tree at the end, and its snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use docent::{Acl, Permissions, SessionId, Zxid};
use docent_server::node::txn::{LoggedTxn, NodeKind, Txn};
use docent_server::tree::{StoredStat, Tree};
use serde_json::Value;

/// Magic, version and dbid, before the body of a snapshot.
const SNAPSHOT_HEADER: usize = 16;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/standalone").join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden(name)).unwrap()).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// A number that is written as text: `0x…`.
fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().strip_prefix("0x").unwrap(), 16).unwrap()
}

/// Bytes of a log record before its payload: checksum and length.
const RECORD_HEADER: usize = 12;

/// Every payload of the log with the digest that the listing has for it.
fn payloads() -> Vec<(Bytes, Option<u64>)> {
    let mut payloads = Vec::new();
    for listed in json("txnlog.json")["logs"].as_array().unwrap() {
        let name = listed["file"].as_str().unwrap();
        let file = Bytes::from(std::fs::read(golden("version-2").join(name)).unwrap());
        for entry in listed["entries"].as_array().unwrap() {
            let position = |name: &str| usize::try_from(entry[name].as_u64().unwrap()).unwrap();
            let start = position("offset") + RECORD_HEADER;
            let digest = entry.get("treeDigest").filter(|digest| !digest.is_null()).map(number);
            payloads.push((file.slice(start..start + position("len")), digest));
        }
    }
    payloads
}

fn transactions() -> Vec<LoggedTxn> {
    payloads().into_iter().map(|(payload, _)| LoggedTxn::decode(payload).unwrap()).collect()
}

fn stat_of(value: &Value) -> StoredStat {
    let zxid = |name: &str| Zxid(number(&value[name]).cast_signed());
    let long = |name: &str| value[name].as_i64().unwrap();
    let int = |name: &str| i32::try_from(long(name)).unwrap();
    StoredStat {
        czxid: zxid("czxid"),
        mzxid: zxid("mzxid"),
        pzxid: zxid("pzxid"),
        ctime: long("ctime"),
        mtime: long("mtime"),
        version: int("version"),
        cversion: int("cversion"),
        aversion: int("aversion"),
        owner: number(&value["ephemeralOwner"]).cast_signed(),
    }
}

fn acl_of(value: &Value) -> Vec<Acl> {
    let Some(entries) = value.as_array() else { return Acl::open() };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let entry = |entry: &Value| {
        let permissions = Permissions(i32::try_from(entry["perms"].as_i64().unwrap()).unwrap());
        Acl::new(permissions, text(&entry["scheme"]), text(&entry["id"]))
    };
    entries.iter().map(entry).collect()
}

/// Compares one node with all that is known of it.
fn compare(tree: &Tree, path: &str, expected: &Value) {
    let node = tree.node(path).unwrap_or_else(|| panic!("{path} is missing"));
    match &expected["data"] {
        // Much data is told by its length; the digest below covers it.
        Value::Object(long) => assert_eq!(node.data().map(|data| data.len() as u64), long["len"].as_u64()),
        data => assert_eq!(node.data().map(<[u8]>::to_vec), data.as_str().map(bytes), "{path}"),
    }
    assert_eq!(node.stored(), stat_of(&expected["stat"]), "{path}");
    assert_eq!(node.acl(), acl_of(&expected["acl"]), "{path}");
    assert_eq!(node.digest(), number(&expected["nodeDigest"]), "{path}");
    let seen = &expected["clientStat"];
    let stat = node.stat();
    assert_eq!(i64::from(stat.cversion), seen["cversion"].as_i64().unwrap(), "{path}");
    assert_eq!(i64::from(stat.num_children), seen["numChildren"].as_i64().unwrap(), "{path}");
    assert_eq!(i64::from(stat.data_length), seen["dataLength"].as_i64().unwrap(), "{path}");
    assert_eq!(stat.ephemeral_owner.0.cast_unsigned(), number(&seen["ephemeralOwner"]), "{path}");
    let kind = match node.kind() {
        NodeKind::Persistent => "persistent",
        NodeKind::Ephemeral => "ephemeral",
        NodeKind::Container => "container",
        NodeKind::Ttl(ttl_ms) => {
            assert_eq!(expected["ttlMs"].as_i64(), Some(ttl_ms), "{path}");
            "ttl"
        }
    };
    assert_eq!(expected["kind"].as_str(), Some(kind), "{path}");
    let children: BTreeSet<&str> = node.children().collect();
    let expected_children = expected["children"].as_array().unwrap().iter();
    assert_eq!(children, expected_children.map(|name| name.as_str().unwrap()).collect(), "{path}");
}

fn compare_final(tree: &Tree) {
    let expected = &json("expected.json")["final"];
    for (path, node) in expected["nodes"].as_object().unwrap() {
        compare(tree, path, node);
    }
    assert_eq!(tree.last_zxid().0.cast_unsigned(), number(&expected["lastZxid"]));
    assert_eq!(tree.digest(), number(&expected["treeDigest"]));
    assert_eq!(tree.node_count() as u64, expected["nodeCount"].as_u64().unwrap() + 1);
    assert_eq!(tree.descendants("/"), Some(tree.node_count() - 2));
}

#[test]
fn every_transaction_comes_back_as_the_same_bytes() {
    let payloads = payloads();
    assert_eq!(payloads.len(), 93);
    for (payload, digest) in payloads {
        let logged = LoggedTxn::decode(payload.clone()).unwrap();
        assert_eq!(logged.digest, digest);
        let mut again = BytesMut::new();
        logged.encode(&mut again);
        assert_eq!(again.freeze(), payload, "{:?}", logged.txn);
    }
}

#[test]
fn the_digest_is_apaches_after_every_transaction_and_so_is_the_tree_in_the_end() {
    let mut tree = Tree::new();
    for logged in transactions() {
        let before = tree.digest();
        let applied = tree.apply(&logged.header, &logged.txn, &mut Vec::new());
        assert_eq!(tree.digest(), logged.digest.unwrap_or(before), "after {:?}", logged.header);
        let refused = match &logged.txn {
            Txn::Multi(txns) => txns.iter().any(|txn| matches!(txn, Txn::Error(_))),
            txn => matches!(txn, Txn::Error(_)),
        };
        assert_eq!(applied.error.0 != 0, refused, "{:?}", logged.txn);
    }
    compare_final(&tree);
}

/// Loads a snapshot file; returns the tree and the bytes behind the end marker.
fn load(name: &str) -> (Tree, Vec<(SessionId, i32)>, Vec<u8>) {
    let file = std::fs::read(golden("version-2").join(name)).unwrap();
    let mut rest = &file[SNAPSHOT_HEADER..];
    let (tree, sessions) = Tree::load(&mut rest, true).unwrap();
    (tree, sessions, rest.to_vec())
}

/// The whole body of a snapshot of the tree as it is.
fn dump(tree: &mut Tree, sessions: &[(SessionId, i32)]) -> Vec<u8> {
    tree.begin_snapshot(sessions).unwrap();
    let mut body = Vec::new();
    while let Some(piece) = tree.next_piece(1000) {
        body.extend_from_slice(&piece);
    }
    body
}

/// What is known of each node, by path: data, state, ACL and the names of its children.
type Picture = BTreeMap<String, (Option<Vec<u8>>, StoredStat, Vec<Acl>, Vec<String>)>;

fn picture(tree: &Tree) -> Picture {
    let mut picture = BTreeMap::new();
    let mut waiting = vec!["/".to_owned()];
    while let Some(path) = waiting.pop() {
        let node = tree.node(&path).unwrap();
        let mut names: Vec<String> = node.children().map(str::to_owned).collect();
        waiting.extend(names.iter().map(|name| docent::path::join(&path, name)));
        names.sort();
        let seen = (node.data().map(<[u8]>::to_vec), node.stored(), node.acl().to_vec(), names);
        picture.insert(path, seen);
    }
    picture
}

#[test]
fn apaches_snapshots_are_read_to_the_end_marker_and_written_again() {
    for expected in json("expected.json")["snapshots"].as_array().unwrap() {
        let name = expected["file"].as_str().unwrap();
        let (mut tree, sessions, rest) = load(name);
        // The seal: a checksum and the path "/".
        let seal = number(&expected["trailers"][0]["adler32"]).to_be_bytes();
        assert_eq!(rest[..8], seal, "{name}");
        assert_eq!(tree.digest(), number(&expected["stateAsLoaded"]["treeDigest"]), "{name}");
        let nodes = expected["nodePathsInFileOrder"].as_array().unwrap();
        assert_eq!(tree.node_count(), nodes.len() + 1, "{name}");
        for path in nodes {
            assert!(tree.node(path.as_str().unwrap()).is_some(), "{name} {path}");
        }
        let in_file = expected["sessionsInFileOrder"].as_array().unwrap().iter();
        let in_file: Vec<(u64, i64)> =
            in_file.map(|pair| (number(&pair[0]), pair[1].as_i64().unwrap())).collect();
        let seen = sessions.iter().map(|(id, timeout_ms)| (id.0.cast_unsigned(), i64::from(*timeout_ms)));
        assert_eq!(seen.collect::<Vec<_>>(), in_file, "{name}");

        let body = dump(&mut tree, &sessions);
        let mut input = &body[..];
        let (again, sessions_again) = Tree::load(&mut input, true).unwrap();
        assert!(input.is_empty(), "{name}");
        assert_eq!(picture(&again), picture(&tree), "{name}");
        assert_eq!((sessions_again, again.digest()), (sessions, tree.digest()), "{name}");
    }
}

#[test]
fn a_fuzzy_snapshot_and_the_log_after_its_name_give_the_tree() {
    for (name, zxid) in [("snapshot.0", 0), ("snapshot.28", 0x28), ("snapshot.47", 0x47)] {
        // From the snapshot's name on, and from further back: what is done already does no harm.
        for from in [zxid, 0] {
            let (mut tree, _, _) = load(name);
            tree.finish_load(Zxid(zxid));
            for logged in transactions().iter().filter(|logged| logged.header.zxid > Zxid(from)) {
                tree.apply(&logged.header, &logged.txn, &mut Vec::new());
            }
            compare_final(&tree);
        }
    }
}
