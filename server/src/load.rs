//! From what the folders hold to what a node begins with: the place where bytes, records and the tree meet at a start.
//!
//! A snapshot is read, the log behind it is applied, and the epochs are read and repaired. All of the log counts as the
//! state: a member of an ensemble votes with its end, and whether the end was ever committed its leader decides.
//!
//! Left out: the lock on the folders, which the caller holds, and everything that runs afterwards.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use docent::{SessionId, Zxid};

use crate::limits::SNAPSHOT_PIECE_BYTES;
use crate::node::txn::{LoggedTxn, Txn};
use crate::node::{Boot, State};
use crate::storage::{
    Compression, Dirs, Disk, DiskError, EpochError, Epochs, Loaded, RecoverError, RecoverOptions, Recovered,
    SnapshotDigest, SnapshotWriter, recover, remove_initialize_marker,
};
use crate::tree::{Tree, TreeOptions};
use crate::zab::LogShape;

/// Why folders cannot be started from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The folders do not hold a state that can be trusted.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The epoch files do not fit the log.
    #[error(transparent)]
    Epochs(#[from] EpochError),
    /// The disk fails.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A record of the log passed its checksum but is not a transaction.
    #[error("transaction {zxid} in the log cannot be read: {reason}; it was written by an unknown version")]
    Transaction {
        /// The record.
        zxid: Zxid,
        /// What is wrong.
        reason: String,
    },
}

/// How folders are read.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// What the tree is told.
    pub tree: TreeOptions,
    /// What an operator allows.
    pub recover: RecoverOptions,
    /// How the snapshot of a new database is compressed.
    pub compression: Compression,
    /// Whether it has a digest.
    pub digest: bool,
    /// Whether the server is a member of an ensemble and so has epochs.
    pub member: bool,
}

/// Reads the folders; an empty one becomes a new database. Blocks.
///
/// # Errors
/// See [`LoadError`].
pub fn load(disk: &Arc<dyn Disk>, dirs: &Dirs, options: &LoadOptions) -> Result<Boot, LoadError> {
    let tree_options = options.tree;
    let body = |mut input: &mut dyn Read, _: Zxid| Tree::load_with(&mut input, tree_options);
    let (state, log) = match recover(disk, dirs, &options.recover, body)? {
        Recovered::Empty(_) => {
            let mut tree = Tree::with_options(tree_options);
            first_snapshot(disk, dirs, options, &mut tree)?;
            remove_initialize_marker(&**disk, dirs)?;
            (State { tree, sessions: Vec::new() }, LogShape::new(Zxid::ZERO))
        }
        Recovered::Loaded(loaded) => replay(*loaded, tree_options)?,
    };
    tracing::info!(zxid = %state.tree.last_zxid(), nodes = state.tree.node_count(), "database loaded");
    let epochs = match options.member {
        true => Epochs::load(&**disk, &dirs.snapshots, state.tree.last_zxid())?,
        false => Epochs::default(),
    };
    Ok(Boot { state, epochs, log })
}

/// The snapshot that a new database begins with.
fn first_snapshot(
    disk: &Arc<dyn Disk>,
    dirs: &Dirs,
    options: &LoadOptions,
    tree: &mut Tree,
) -> Result<(), LoadError> {
    let mut writer =
        SnapshotWriter::create(Arc::clone(disk), &dirs.snapshots, Zxid::ZERO, options.compression)?;
    tree.begin_snapshot(&[]).expect("a new tree has no other snapshot running");
    while let Some(piece) = tree.next_piece(SNAPSHOT_PIECE_BYTES) {
        writer.write(&piece)?;
    }
    let digest = options.digest.then(|| SnapshotDigest::new(Zxid::ZERO, tree.digest()));
    writer.finish(digest, None)?;
    Ok(())
}

/// Applies the log behind a snapshot.
fn replay(
    loaded: Loaded<(Tree, Vec<(SessionId, i32)>)>,
    tree_options: TreeOptions,
) -> Result<(State, LogShape), LoadError> {
    let Loaded { state, snapshot, trailer, mut replay } = loaded;
    let (mut tree, sessions) = state.unwrap_or_else(|| (Tree::with_options(tree_options), Vec::new()));
    tree.finish_load(snapshot);
    let mut sessions: BTreeMap<SessionId, i32> = sessions.into_iter().collect();
    // A fuzzy snapshot's digest holds from the transaction in its trailer on.
    let sound_from = trailer.digest.map_or(snapshot, |digest| digest.zxid.max(snapshot));
    let mut log = LogShape::new(snapshot);
    let mut changes = Vec::new();
    // So may one that a leader of Apache's sent while it went on writing, and that one does not say until when: what differs
    // only at first means nothing. What is wrong for good never agrees.
    let (mut mismatches, mut first, mut agreed) = (0_u64, None, false);
    while let Some(record) = replay.next_record()? {
        let logged = LoggedTxn::decode(record.payload)
            .map_err(|error| LoadError::Transaction { zxid: record.zxid, reason: error.to_string() })?;
        log.push(record.zxid);
        match &logged.txn {
            Txn::CreateSession { timeout_ms } => {
                sessions.insert(logged.header.session, *timeout_ms);
            }
            Txn::CloseSession { .. } => {
                sessions.remove(&logged.header.session);
            }
            _ => {}
        }
        tree.apply(&logged.header, &logged.txn, &mut changes);
        changes.clear();
        let Some(foreseen) = logged.digest.filter(|_| record.zxid >= sound_from) else { continue };
        if foreseen != tree.digest() {
            mismatches += 1;
            first = first.or(Some(record.zxid));
        } else if !agreed {
            (mismatches, first, agreed) = (0, None, true);
        }
    }
    if let Some(zxid) = first {
        tracing::error!(%zxid, mismatches, "the tree's digest differs from the one in the log");
    }
    let report = replay.finish()?;
    let last = tree.last_zxid();
    tree.finish_load(last);
    if let Some(torn) = &report.tail_cut {
        tracing::warn!(?torn, "the torn end of an interrupted write was cut off the log");
    }
    tracing::info!(?report, mismatches, "log replayed");
    let sessions = give_owners_sessions(&tree, sessions);
    Ok((State { tree, sessions }, log))
}

/// Odd snapshots can hold ephemeral nodes of sessions that are gone: gives them sessions that will expire.
#[must_use]
pub fn give_owners_sessions(tree: &Tree, mut sessions: BTreeMap<SessionId, i32>) -> Vec<(SessionId, i32)> {
    for session in tree.sessions_with_ephemerals() {
        sessions.entry(session).or_insert(0);
    }
    sessions.into_iter().collect()
}
