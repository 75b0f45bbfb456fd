//! The storage room: bytes, files, checksums and syncs. It does not know what a record or a snapshot means.
//!
//! The formats are Apache's (`version-2`), so that a data directory can be taken over from an Apache server and given
//! back. What is promised after a crash, of the process or of the machine, file by file:
//!
//! | file | promise |
//! | --- | --- |
//! | `log.<hex>` | Every record for which [`Report::Synced`] was seen is there, whole and in order. A record that was on its way is there whole or cut off. |
//! | `snapshot.<hex>` | It is whole and verified by its checksums, or it does not exist under this name. |
//! | `acceptedEpoch`, `currentEpoch` | The number of the last `SaveEpochs` that was reported, or of a later one. Never currentEpoch > acceptedEpoch. |
//! | names | A log's name is durable before the first record in it is reported; removals go from the end that is not needed, so that what a crash leaves is a beginning (a cut) or an end (a purge) of the old files. |
//! | `new-…`, `…Epoch.tmp` | Unfinished; the next start removes or overwrites them. |
//! | `docent.lock` | Held by the running server, free when it is gone. |
//!
//! What is not promised: with `force_sync` off, anything after a crash of the machine. And three things that the format does
//! not allow to be told apart: a record that rots on the disk while it is the very last of the log looks like a torn one and is
//! cut; a group of which a power cut kept the end but not the beginning looks like damage, and is refused
//! although nothing in it was acknowledged; and a file that loses whole records at its end without a trace shows only when a
//! later file or snapshot makes the gap visible.
//!
//! A way through the room: [`DirLock::acquire`], [`recover()`], [`Epochs::load`] for a member of an ensemble,
//! [`Writer::start`]. From there on the disk is a peer like any other: it is sent [`Order`]s and answers with [`Report`]s.
//!
//! Every file is touched through [`Disk`], so that all of this runs on a disk that loses and tears ([`MemDisk`]).

pub mod disk;
pub mod epoch_file;
pub mod layout;
pub mod lock;
pub mod log;
pub mod mem_disk;
pub mod purge;
pub mod record;
pub mod recover;
pub mod snapshot;
pub mod writer;

#[cfg(test)]
mod tests;

pub use disk::{Disk, DiskError, RealDisk};
pub(crate) use disk::{read_file, remove_file, replace_file};
pub use epoch_file::{EpochError, EpochFile, Epochs};
pub use layout::{Compression, Dirs};
pub use lock::{DirLock, LockError};
pub use log::{Group, Log, LogError, LogOptions, LogReader, Torn, TruncateError, Truncated};
pub use mem_disk::MemDisk;
pub use record::Record;
pub use recover::{
    EmptyStart, Loaded, RecoverError, RecoverOptions, Recovered, RecoveryReport, Replay, recover,
    remove_initialize_marker,
};
pub use snapshot::{SnapshotDigest, SnapshotError, SnapshotReader, SnapshotTrailer, SnapshotWriter};
pub use writer::{Errand, GroupStats, Order, Report, SnapshotFailure, Writer, WriterError, WriterOptions};
