//! How much memory a watch takes. The only test of its process, because it reads the process's memory.
//!
//! `cargo test --release -p docent-server --test memory_watch -- --nocapture` also tells how fast it goes.
#![cfg(target_os = "linux")]

use std::time::Instant;

use docent::proto::EventType;
use docent_server::tree::{AclId, Change};
use docent_server::watch::{ConnId, WatchKind, WatchTable};

/// Bytes for a one-shot watch on a path that is watched already.
const BYTES_PER_WATCH_MAX: u64 = 100;

/// Memory of this process, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// A table with so many connections that watch so many paths each, which another one watches already, and what a
/// watch of theirs takes.
fn watched(conns: u64, paths: u64) -> (WatchTable, u64) {
    let paths: Vec<String> = (0..paths).map(|n| format!("/services/member-{n:010}")).collect();
    let watches = conns * paths.len() as u64;
    let mut table = WatchTable::new(1);
    for path in &paths {
        table.add(ConnId(u64::MAX), path, WatchKind::Data);
    }
    let before = resident();
    let start = Instant::now();
    for conn in 0..conns {
        for path in &paths {
            table.add(ConnId(conn), path, WatchKind::Data);
        }
    }
    let bytes = (resident() - before) / watches;
    println!("{conns} connections, {} paths: {bytes} bytes each, {:?}", paths.len(), start.elapsed());
    assert_eq!(table.count() as u64, watches + paths.len() as u64);

    let mut out = Vec::with_capacity(usize::try_from(conns).unwrap() + 1);
    let kind = EventType::NodeDataChanged;
    let change = Change { kind, path: paths[0].clone(), acl: AclId::OPEN, parent_acl: AclId::OPEN };
    let start = Instant::now();
    table.fire(&change, &mut |_, _| true, &mut out);
    println!("fired {} of them in {:?}", out.len(), start.elapsed());
    assert_eq!(out.len() as u64, conns + 1);
    (table, bytes)
}

#[test]
fn a_watch_on_a_watched_path_takes_at_most_100_bytes() {
    // The tables live side by side, so that none is measured in memory that another one has left.
    let mut tables = Vec::new();
    // A connection with one watch takes most: the connection itself is counted, too.
    for (conns, paths) in [(1_000, 1_000), (10_000, 10), (200_000, 1)] {
        let (table, bytes) = watched(conns, paths);
        tables.push(table);
        assert!(bytes <= BYTES_PER_WATCH_MAX, "{bytes} bytes for each of {conns} connections' watches");
        assert!(bytes > 4, "the measurement saw nothing: {bytes}");
    }
}
