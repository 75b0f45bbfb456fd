//! A data folder with a tree whose counters and versions are near their ends. Nobody waits for two thousand million
//! creates: the transactions are made by hand, applied to a tree of ours, and written as a snapshot that both servers load.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use docent::{Acl, SessionId, Zxid};
use docent_server::node::txn::{CreateTxn, NodeKind, Txn, TxnHeader};
use docent_server::storage::{Compression, RealDisk, SnapshotDigest, SnapshotWriter};
use docent_server::tree::Tree;
use tempfile::TempDir;

/// The node whose version and aversion come to −1 with the second change, and whose counter has two numbers left.
pub(super) const BEFORE_NOTHING: &str = "/w";
/// Nodes whose versions are near the largest number: data, ACL.
const NEAR_THE_LARGEST: [(&str, i32, i32); 3] =
    [("/a", i32::MAX - 2, i32::MAX), ("/a/b", i32::MAX, i32::MAX - 1), ("/b", i32::MAX - 1, 0)];
/// Nodes with one child, and how many children they are said to have had.
const NEAR_THE_END: [(&str, i32); 4] =
    [("/a", i32::MAX - 3), ("/a/b", i32::MAX), ("/b", 0x4000_0000), ("/w", i32::MAX - 1)];
const PIECE_BYTES: usize = 1 << 16;

/// Makes the folder, which goes with the value.
///
/// # Errors
/// When the folder for temporary files is not writable.
pub fn folder() -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("docent-worn-").tempdir().context("making a data folder")?;
    let snapshots = folder.path().join("version-2");
    std::fs::create_dir(&snapshots).context("making a folder for snapshots")?;
    let mut tree = worn();
    let zxid = tree.begin_snapshot(&[]).context("no other snapshot is being written")?;
    let mut file = SnapshotWriter::create(Arc::new(RealDisk), &snapshots, zxid, Compression::None)?;
    while let Some(piece) = tree.next_piece(PIECE_BYTES) {
        file.write(&piece)?;
    }
    file.finish(Some(SnapshotDigest::new(zxid, tree.digest())), None)?;
    Ok(folder)
}

fn worn() -> Tree {
    let mut tree = Tree::new();
    let mut zxid = 0;
    let mut apply = |txn: Txn| {
        zxid += 1;
        let header = TxnHeader { session: SessionId::NONE, cxid: 0, zxid: Zxid(zxid), time_ms: 1 };
        tree.apply(&header, &txn, &mut Vec::new());
    };
    let create = |path: String, parent_cversion: i32| {
        Txn::Create(CreateTxn {
            create2: false,
            path,
            data: Some(Bytes::from_static(b"old")),
            acl: Acl::open(),
            kind: NodeKind::Persistent,
            parent_cversion,
        })
    };
    let set = |path: &str, version: i32| Txn::SetData {
        path: path.to_owned(),
        data: None,
        version,
        reconfig: false,
    };
    let set_acl = |path: &str, version: i32| Txn::SetAcl { path: path.to_owned(), acl: Acl::open(), version };
    for (count, path) in (1..).zip(["/a", "/b", BEFORE_NOTHING]) {
        apply(create(path.to_owned(), count));
    }
    apply(create("/a/b".to_owned(), 1));
    for (parent, cversion) in NEAR_THE_END {
        apply(create(format!("{parent}/c"), cversion));
    }
    for (path, version, aversion) in NEAR_THE_LARGEST {
        apply(set(path, version));
        apply(set_acl(path, aversion));
    }
    apply(set(BEFORE_NOTHING, -3));
    apply(set_acl(BEFORE_NOTHING, -3));
    tree
}
