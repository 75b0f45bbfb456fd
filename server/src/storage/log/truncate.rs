//! Cutting the end of the log away, when a leader says that it never happened.

use std::path::{Path, PathBuf};

use docent::Zxid;

use super::{LogError, Next, SegmentReader};
use crate::storage::disk::{Access, At, Disk, DiskError, sync_parent};
use crate::storage::layout::{self, Dirs, Found};
use crate::storage::snapshot;

/// What a cut removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truncated {
    /// Snapshots that contained records beyond the cut.
    pub snapshots_removed: Vec<PathBuf>,
    /// Segments that held nothing else.
    pub logs_removed: Vec<PathBuf>,
    /// The segment that was shortened, and its new length in bytes.
    pub cut: Option<(PathBuf, u64)>,
    /// Snapshots and segments of before a state that was received whole.
    pub outlived: Vec<PathBuf>,
}

/// Why the log was not cut.
#[derive(Debug, thiserror::Error)]
pub enum TruncateError {
    /// There would be no snapshot left to start from.
    #[error(
        "cannot go back to {after}: no valid snapshot of that state or an earlier one is left; this server needs the \
         whole state from the leader"
    )]
    NoSnapshot {
        /// The last record that was to stay.
        after: Zxid,
    },
    /// The log cannot be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<DiskError> for TruncateError {
    fn from(error: DiskError) -> Self {
        TruncateError::Log(error.into())
    }
}

pub(super) fn truncate_after(
    disk: &dyn Disk,
    dirs: &Dirs,
    after: Zxid,
    payload_max: usize,
) -> Result<Truncated, TruncateError> {
    let doomed = snapshots_beyond(disk, dirs, after)?;
    let plan = plan(disk, &dirs.logs, after, payload_max)?;
    let mut done = Truncated::default();
    // A snapshot goes before the records that it contains: left over, it would bring them back.
    for path in doomed {
        remove(disk, &path)?;
        done.snapshots_removed.push(path);
    }
    // Newest first and each made durable: whatever a crash leaves is a beginning of the log.
    for file in plan.remove.into_iter().rev() {
        remove(disk, &file.path)?;
        done.logs_removed.push(file.path);
    }
    if let Some((path, len)) = plan.cut {
        shorten(disk, &path, len)?;
        done.cut = Some((path, len));
    }
    done.outlived = remove_outlived(disk, dirs, after, payload_max)?;
    Ok(done)
}

/// Removes what a state that was received whole has put out of date. Such a state is a snapshot whose last record is not
/// in our log: between that log and what will follow the snapshot records are missing. Were the snapshot to go bad, a start
/// from an older one would not notice, if a new epoch begins in the gap; so nothing is left that it could start from.
/// Snapshots go first: without one, the log before it is read by nobody.
fn remove_outlived(
    disk: &dyn Disk,
    dirs: &Dirs,
    after: Zxid,
    payload_max: usize,
) -> Result<Vec<PathBuf>, LogError> {
    let mut snapshots = layout::snapshots(disk, &dirs.snapshots)?;
    let logs = layout::logs(disk, &dirs.logs)?;
    let received = snapshots.iter().any(|file| file.zxid == after);
    if !received || (logs.is_empty() && snapshots.len() == 1) || holds(disk, &logs, after, payload_max)? {
        return Ok(Vec::new());
    }
    snapshots.retain(|file| file.zxid < after);
    let outlived: Vec<PathBuf> = snapshots.into_iter().chain(logs).map(|file| file.path).collect();
    for path in &outlived {
        remove(disk, path)?;
    }
    Ok(outlived)
}

/// Whether the log, which ends here or before, holds this record.
fn holds(disk: &dyn Disk, logs: &[Found], zxid: Zxid, payload_max: usize) -> Result<bool, LogError> {
    for file in logs.iter().rev() {
        let Some(mut segment) = SegmentReader::open(disk, &file.path, payload_max)? else { continue };
        let mut last = None;
        while let Next::Record(record, _) = segment.next()? {
            last = Some(record.zxid);
        }
        if let Some(last) = last {
            return Ok(last >= zxid);
        }
    }
    Ok(false)
}

/// Cuts a file at an offset, durably.
pub(in crate::storage) fn shorten(disk: &dyn Disk, path: &Path, len: u64) -> Result<(), DiskError> {
    let file = disk.open(path, Access::Write).at("open", path)?;
    file.set_len(len).at("shorten", path)?;
    file.sync_all().at("sync", path)
}

/// Removes a file, durably.
pub(in crate::storage) fn remove(disk: &dyn Disk, path: &Path) -> Result<(), DiskError> {
    disk.remove(path).at("remove", path)?;
    sync_parent(disk, path)
}

/// The snapshots that contain records larger than `after`, newest first; an error if no other is valid.
///
/// A snapshot taken while records were being applied says in its digest section how far that went. Without the section (old
/// servers, or digests switched off) only its name is known.
fn snapshots_beyond(disk: &dyn Disk, dirs: &Dirs, after: Zxid) -> Result<Vec<PathBuf>, TruncateError> {
    let mut doomed = Vec::new();
    let mut kept = false;
    for file in layout::snapshots(disk, &dirs.snapshots)?.into_iter().rev() {
        if file.zxid > after {
            doomed.push(file.path);
            continue;
        }
        match snapshot::verify(disk, &file) {
            Ok(trailer) if trailer.reaches() > Some(after) => doomed.push(file.path),
            Ok(_) => {
                // This one will be the start; older ones are only read if it goes bad.
                kept = true;
                break;
            }
            Err(_) => {}
        }
    }
    if kept { Ok(doomed) } else { Err(TruncateError::NoSnapshot { after }) }
}

struct Plan {
    remove: Vec<Found>,
    cut: Option<(PathBuf, u64)>,
}

/// What has to go: segments named beyond `after` whatever they hold (even an empty one would hide later records of
/// smaller numbers from a reader), and everything from the first record larger than `after` in the others.
fn plan(disk: &dyn Disk, dir: &Path, after: Zxid, payload_max: usize) -> Result<Plan, LogError> {
    let mut files = layout::logs(disk, dir)?;
    let beyond = files.partition_point(|file| file.zxid <= after);
    let mut cut = None;
    // Old servers logged some records twice, in two segments. So the one before is looked at too, until one is clean.
    for index in (0..beyond).rev() {
        match first_beyond(disk, &files[index].path, after, payload_max)? {
            Some(offset) => cut = Some((index, offset)),
            None if index + 1 < beyond => break,
            None => {}
        }
    }
    let Some((index, offset)) = cut else { return Ok(Plan { remove: files.split_off(beyond), cut: None }) };
    let mut remove = files.split_off(index);
    // A segment of which nothing stays goes as a whole.
    let nothing_stays = offset == super::FILE_HEADER.len() as u64;
    let cut = (!nothing_stays).then(|| (remove.remove(0).path, offset));
    Ok(Plan { remove, cut })
}

/// Where the first record larger than `after` begins, or the torn end of a write if that comes first.
fn first_beyond(
    disk: &dyn Disk,
    path: &Path,
    after: Zxid,
    payload_max: usize,
) -> Result<Option<u64>, LogError> {
    let Some(mut segment) = SegmentReader::open(disk, path, payload_max)? else { return Ok(None) };
    loop {
        match segment.next()? {
            Next::Record(record, offset) if record.zxid > after => return Ok(Some(offset)),
            Next::Record(..) => {}
            Next::End(_) | Next::Torn(_) => return Ok(None),
        }
    }
}
