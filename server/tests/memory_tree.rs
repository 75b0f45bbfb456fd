//! How much memory a node takes, all in. The only test of its process, because it reads the process's memory.
//!
//! `cargo test --release -p docent-server --test memory_tree -- --nocapture` also tells how fast it goes.
#![cfg(target_os = "linux")]

use std::time::Instant;

use bytes::Bytes;
use docent::{Acl, SessionId, Zxid};
use docent_server::node::txn::{CreateTxn, NodeKind, Txn, TxnHeader};
use docent_server::tree::Tree;

/// A million where that is quick, else as many as fill the index to the same degree.
const NODES: i32 = if cfg!(debug_assertions) { 250_000 } else { 1_000_000 };

/// Bytes for a node of 100 bytes of data and a short name; data takes 112 of them.
const BYTES_PER_NODE_MAX: u64 = 260;

/// Memory of this process, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Processor time of this thread, seconds: what others do on the machine does not count.
fn busy() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or_default() / 1e9
}

fn per_node(before: u64) -> u64 {
    (resident() - before) / NODES.unsigned_abs() as u64
}

#[test]
fn a_node_of_100_bytes_takes_at_most_260() {
    let before = resident();
    let mut tree = Tree::new();
    let mut changes = Vec::new();
    let start = busy();
    let mut slowest = std::time::Duration::ZERO;
    for n in 0..NODES {
        // Data comes as a part of a frame; the tree must not keep the frame alive.
        let frame = Bytes::from(vec![7_u8; 300]);
        let create = CreateTxn {
            create2: false,
            path: format!("/bench-{n:010}"),
            data: Some(frame.slice(100..200)),
            acl: Acl::open(),
            kind: NodeKind::Persistent,
            parent_cversion: n + 1,
        };
        let header = TxnHeader {
            session: SessionId(1),
            cxid: n,
            zxid: Zxid(i64::from(n) + 1),
            time_ms: 1_700_000_000_000,
        };
        let txn = Txn::Create(create);
        changes.clear();
        let one = Instant::now();
        tree.apply(&header, &txn, &mut changes);
        slowest = slowest.max(one.elapsed());
    }
    let bytes = per_node(before);
    let busy_s = busy() - start;
    println!("created {NODES} nodes in {busy_s:.2} s of work, slowest {slowest:?}, {bytes} bytes each");
    assert!(bytes <= BYTES_PER_NODE_MAX, "{bytes} bytes per node");
    assert!(bytes > 120, "the measurement saw nothing: {bytes}");

    let start = busy();
    let began = Instant::now();
    tree.begin_snapshot(&[]).unwrap();
    let mut slowest = began.elapsed();
    let mut body = Vec::new();
    loop {
        let one = Instant::now();
        let Some(piece) = tree.next_piece(1 << 18) else { break };
        slowest = slowest.max(one.elapsed());
        body.extend_from_slice(&piece);
    }
    println!("wrote {} bytes in {:.2} s, slowest piece {slowest:?}", body.len(), busy() - start);
    let digest = tree.digest();
    let size = tree.approximate_data_size();
    drop(tree);

    let start = busy();
    let (loaded, _) = Tree::load(&mut &body[..], true).unwrap();
    println!("loaded them in {:.2} s", busy() - start);
    assert_eq!((loaded.digest(), loaded.approximate_data_size()), (digest, size));
}
