//! What the writer is asked, and what it says.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use docent::Zxid;

use crate::storage::disk::DiskError;
use crate::storage::log::LogError;
use crate::storage::record::Record;
use crate::storage::snapshot::SnapshotDigest;

/// Work on files that are none of the database's, and that must be done before what is ordered behind it is durable. How
/// it goes is its own affair.
#[derive(Clone)]
pub struct Errand(pub Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Errand")
    }
}

/// What a node asks of its disk. Numbered orders are answered by [`Report::Synced`]; the numbers must grow.
#[derive(Clone, Debug)]
pub enum Order {
    /// Put a record at the end of the log. It must be larger than the last one.
    Append {
        /// The number of this order.
        order: u64,
        /// The record.
        record: Record,
    },
    /// Remove every record larger than `after` from the log, and every snapshot that contains such records. A snapshot that
    /// is being written is given up.
    Truncate {
        /// The number of this order.
        order: u64,
        /// The last record that may stay.
        after: Zxid,
    },
    /// Replace the epochs.
    SaveEpochs {
        /// The number of this order.
        order: u64,
        /// acceptedEpoch.
        accepted: u32,
        /// currentEpoch.
        current: u32,
    },
    /// Do something else between what is ordered before this and what is ordered behind it.
    Errand(Errand),
    /// End the segment; the next record begins a new one.
    Roll,
    /// Begin a snapshot. One that is still being written is given up.
    SnapshotBegin {
        /// The last transaction applied before the dump begins.
        zxid: Zxid,
    },
    /// The next piece of the snapshot's body.
    SnapshotPiece(Bytes),
    /// The body is complete, its end marker included.
    SnapshotEnd {
        /// The digest when the dump ended, if there are digests.
        digest: Option<SnapshotDigest>,
        /// The last transaction processed, if that section is wanted.
        last_processed: Option<Zxid>,
    },
    /// Give the snapshot up; no report follows.
    SnapshotAbort,
    /// Remove what no start needs any more.
    Purge {
        /// How many snapshots are kept.
        retain: usize,
    },
    /// Make everything durable and end.
    Stop,
}

/// One write and sync, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupStats {
    /// Records written at once.
    pub records: usize,
    /// Their bytes in the log.
    pub bytes: usize,
    /// How long the write took, the making of a new segment included.
    pub write: Duration,
    /// How long the sync took.
    pub sync: Duration,
}

/// What the disk reports.
#[derive(Debug)]
pub enum Report {
    /// This order and every earlier one is durable.
    Synced {
        /// The number of the order.
        order: u64,
        /// What it took, for a group of records.
        group: Option<GroupStats>,
    },
    /// The log was not cut, because no snapshot would be left to start from. Nothing was changed; the server needs the whole
    /// state.
    TruncateRefused {
        /// The number of the order.
        order: u64,
        /// The last record that was to stay.
        after: Zxid,
    },
    /// More of the snapshot is written.
    SnapshotProgress {
        /// The snapshot.
        zxid: Zxid,
        /// Its pieces so far.
        pieces_written: u64,
    },
    /// The snapshot is durable under its name.
    SnapshotDone {
        /// The snapshot.
        zxid: Zxid,
        /// Its length in bytes, before compression.
        bytes: u64,
        /// From its beginning to now.
        took: Duration,
    },
    /// The snapshot does not exist. Try another one later; the log is not concerned.
    SnapshotFailed {
        /// Why.
        error: SnapshotFailure,
    },
    /// A purge is through.
    Purged {
        /// What was removed.
        removed: Vec<PathBuf>,
    },
    /// A purge did not happen, or not wholly. The next one makes up for it.
    PurgeFailed {
        /// Why; `None` when too much was waiting.
        error: Option<DiskError>,
    },
    /// The log cannot be written. The writer has ended; only a restart of the server helps.
    Failed {
        /// Why.
        error: WriterError,
    },
    /// The writer has ended as it was asked to; everything is durable.
    Stopped,
}

/// Why the log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// The log failed, or was asked for something impossible.
    #[error(transparent)]
    Log(LogError),
    /// An epoch file could not be written.
    #[error(transparent)]
    Epochs(DiskError),
    /// A defect of ours.
    #[error("the log thread panicked; this is a defect of the server")]
    Panicked,
}

/// Why a snapshot was given up.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFailure {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Its pieces came faster than they were written, beyond the bound.
    #[error("more than {max} pieces of a snapshot were waiting for the disk")]
    Overrun {
        /// The bound.
        max: usize,
    },
    /// A cut of the log came first.
    #[error("the log was cut while the snapshot {zxid} was being written")]
    Truncated {
        /// The snapshot.
        zxid: Zxid,
    },
}
