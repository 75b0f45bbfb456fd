//! The transaction log: segments `log.<hex of the first zxid>`, appended to in groups.
//!
//! A segment is `ZKLG`, version 2, database id 0, then records (see [`record`]), then zeros up to the preallocated
//! size. Invariants:
//!
//! * A segment gets its final name only after its header is durable, and the name is durable before the first group in
//!   it is. So no file without a header can stand in the way of a start, here or in Apache.
//! * A group is one write, so a crash can tear it only at the end of the file.
//! * A segment is never opened again for appending: after a start, a roll or a cut the next record begins a new one.
//! * After an error nothing more is written or synced. What an interrupted write left is judged at the next start.
//!
//! Left out: who decides when to sync and roll ([`writer`](super::writer)), and what a record means.

mod reader;
mod truncate;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use docent::Zxid;

use super::disk::{Access, At, Disk, DiskError, DiskFile, is_disk_full, sync_parent};
use super::layout::{self, Dirs};
use super::record::{self, Flaw, PAYLOAD_MAX, PAYLOAD_MIN, Record};

pub use reader::{LogReader, Torn};
pub(super) use reader::{Next, SegmentReader};
pub use truncate::{TruncateError, Truncated};
pub(super) use truncate::{remove, shorten};

/// `ZKLG`, version 2, database id 0.
pub(super) const FILE_HEADER: [u8; 16] = *b"ZKLG\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00";

/// What is written ahead of small groups at once.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Groups up to this size are written over zeros. Of these at least sixteen share the price of one step of zeros;
/// larger ones come when the disk is busy with bytes, and would only give it more.
const ZEROS_FOR_GROUPS_UP_TO_BYTES: usize = 4 << 10;

/// How a log is written.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Bytes by which a segment's room grows (`preAllocSize`). 0 reserves nothing.
    pub prealloc_bytes: u64,
    /// A segment that has become larger than this is followed by a new one (`txnLogSizeLimitInKb`).
    pub size_limit_bytes: Option<u64>,
    /// `false` (`forceSync=no`): acknowledged records may be lost when the machine, not just the process, crashes.
    pub force_sync: bool,
    /// The longest payload in bytes that is written or believed.
    pub payload_max: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            prealloc_bytes: 64 * 1024 * 1024,
            size_limit_bytes: None,
            force_sync: true,
            payload_max: PAYLOAD_MAX,
        }
    }
}

/// Why the log cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file does not begin as a log does.
    #[error(
        "{} is not a transaction log: it does not begin with ZKLG and version 2; restore it from a backup, or move it \
         away if it never held a transaction", .path.display()
    )]
    BadHeader {
        /// The file.
        path: PathBuf,
    },
    /// There is damage that no crash explains.
    #[error(
        "{} is damaged at offset {offset}: {flaw}; acknowledged transactions may stand behind it. Restore the file from \
         a backup; in an ensemble, move the data directory's version-2 away and let this server synchronise with the \
         leader; to give up what follows, cut the file at that offset (truncate -s {offset}) and move later logs away",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damage begins.
        offset: u64,
        /// What it is.
        flaw: Flaw,
    },
    /// A record is not larger than the one before it.
    #[error("record {next} was to be logged after {last}; this is a defect of the server")]
    OutOfOrder {
        /// The last record of the log.
        last: Zxid,
        /// The one refused.
        next: Zxid,
    },
    /// A record that could not be read back.
    #[error("record {zxid} has {len} bytes, but a log holds {PAYLOAD_MIN} to {max}; raise jute.maxbuffer")]
    Length {
        /// The record.
        zxid: Zxid,
        /// Its payload in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// An earlier operation failed, and nobody knows what is on the disk.
    #[error("the log failed before and takes nothing more; start the server again")]
    Poisoned,
}

/// Records that are written at once, already framed. The buffer is kept and used again.
#[derive(Debug)]
pub struct Group {
    bytes: Vec<u8>,
    first: Option<Zxid>,
    last: Zxid,
    records: usize,
    payload_max: usize,
}

impl Group {
    /// An empty group for records that come after `last`.
    #[must_use]
    pub fn new(last: Zxid, payload_max: usize) -> Self {
        // The length field of a frame has 31 bits.
        let payload_max = payload_max.min(i32::MAX as usize - record::OVERHEAD);
        Group { bytes: Vec::new(), first: None, last, records: 0, payload_max }
    }

    /// Frames a record behind those that are here.
    ///
    /// # Errors
    /// The record is not larger than its predecessor, or has a length that a reader would refuse.
    pub fn push(&mut self, record: &Record) -> Result<(), LogError> {
        if record.zxid <= self.last {
            return Err(LogError::OutOfOrder { last: self.last, next: record.zxid });
        }
        let len = record.payload.len();
        if !(PAYLOAD_MIN..=self.payload_max).contains(&len) {
            return Err(LogError::Length { zxid: record.zxid, len, max: self.payload_max });
        }
        record::encode_into(record, &mut self.bytes);
        self.first.get_or_insert(record.zxid);
        self.last = record.zxid;
        self.records += 1;
        Ok(())
    }

    /// Empties the group; the next record must be larger than `last`.
    pub fn restart(&mut self, last: Zxid) {
        self.bytes.clear();
        self.first = None;
        self.last = last;
        self.records = 0;
    }

    /// How many records are here.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }

    /// How many bytes they take in the log.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The last record, of this group or before it.
    #[must_use]
    pub fn last(&self) -> Zxid {
        self.last
    }
}

/// The end of the log, for appending. One value per data directory.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    dirs: Dirs,
    options: LogOptions,
    /// The last record appended or recovered.
    last: Zxid,
    segment: Option<Segment>,
    poisoned: bool,
}

/// The file that is being appended to.
#[derive(Debug)]
struct Segment {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    /// Where the next group goes.
    position: u64,
    /// The size up to which room was reserved.
    reserved: u64,
    /// Up to here bytes were written, records or zeros.
    written: u64,
    /// Something was written since the last sync.
    dirty: bool,
}

impl Log {
    /// The log of these folders, whose last record (or newest snapshot, if that is larger) is `last`. Touches no file
    /// before the first append.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, dirs: Dirs, options: LogOptions, last: Zxid) -> Self {
        Log { disk, dirs, options, last, segment: None, poisoned: false }
    }

    /// The last record appended, or what the log was opened with.
    #[must_use]
    pub fn last(&self) -> Zxid {
        self.last
    }

    /// Writes a group with one write. It is durable only after [`sync`](Self::sync).
    ///
    /// # Errors
    /// The group does not continue the log, or the disk fails; after the latter the log takes nothing more.
    pub fn append(&mut self, group: &Group) -> Result<(), LogError> {
        let Some(first) = group.first else { return Ok(()) };
        if first <= self.last {
            return Err(LogError::OutOfOrder { last: self.last, next: first });
        }
        self.attempt(|log| {
            let segment = match &mut log.segment {
                Some(segment) => segment,
                none => none.insert(create(&*log.disk, &log.dirs.logs, first, &log.options)?),
            };
            segment.write(&group.bytes, log.options.prealloc_bytes)
        })?;
        self.last = group.last;
        Ok(())
    }

    /// Makes all that was appended durable (unless `force_sync` is off), and closes the segment if it has become too
    /// large.
    ///
    /// # Errors
    /// The disk fails; what was appended since the last sync may or may not be there after a restart.
    pub fn sync(&mut self) -> Result<(), LogError> {
        let limit = self.options.size_limit_bytes.unwrap_or(u64::MAX);
        self.attempt(|log| log.sync_segment())?;
        match &self.segment {
            Some(segment) if segment.position > limit => self.roll(),
            _ => Ok(()),
        }
    }

    /// Ends the segment: what it holds is made durable, its unused room is given back, and the next record begins a new
    /// one.
    ///
    /// # Errors
    /// The disk fails.
    pub fn roll(&mut self) -> Result<(), LogError> {
        self.attempt(|log| {
            log.sync_segment()?;
            let Some(segment) = log.segment.take() else { return Ok(()) };
            if segment.reserved > segment.position {
                segment.file.set_len(segment.position).at("shorten", &segment.path)?;
            }
            Ok(())
        })
    }

    /// Cuts away every record larger than `after`, durably: first the snapshots that contain such records, then later
    /// segments from the newest on, then the end of the segment that holds `after`. A crash in between leaves a longer
    /// beginning of the old history, never a gap. The cut is exact even if there is no record `after`.
    ///
    /// # Errors
    /// [`TruncateError::NoSnapshot`] when no snapshot would be left to start from: nothing was changed, and the server
    /// needs the whole state instead. Otherwise the disk failed or a log is damaged.
    pub fn truncate_after(&mut self, after: Zxid) -> Result<Truncated, TruncateError> {
        self.roll()?;
        let outcome = truncate::truncate_after(&*self.disk, &self.dirs, after, self.options.payload_max);
        match &outcome {
            Ok(_) => self.last = self.last.min(after),
            Err(TruncateError::NoSnapshot { .. }) => {}
            Err(_) => self.poisoned = true,
        }
        outcome
    }

    fn sync_segment(&mut self) -> Result<(), LogError> {
        match &mut self.segment {
            Some(segment) if segment.dirty && self.options.force_sync => segment.sync(),
            _ => Ok(()),
        }
    }

    /// Runs an operation; after a failed one no other is begun.
    fn attempt(&mut self, work: impl FnOnce(&mut Self) -> Result<(), LogError>) -> Result<(), LogError> {
        if self.poisoned {
            return Err(LogError::Poisoned);
        }
        let outcome = work(self);
        self.poisoned = outcome.is_err();
        outcome
    }
}

impl Segment {
    fn write(&mut self, bytes: &[u8], prealloc_bytes: u64) -> Result<(), LogError> {
        let end = self.position + bytes.len() as u64;
        if end > self.reserved && prealloc_bytes > 0 {
            self.reserved = reserve(&*self.file, &self.path, self.reserved.max(end), prealloc_bytes)?;
        }
        if end > self.written {
            self.written = end;
            if bytes.len() <= ZEROS_FOR_GROUPS_UP_TO_BYTES {
                self.write_zeros(end)?;
            }
        }
        self.file.write_all_at(bytes, self.position).at("write", &self.path)?;
        self.position = end;
        self.dirty = true;
        Ok(())
    }

    /// Writes zeros behind `end`, where zeros are read anyway. Room that is only reserved costs each sync of new bytes
    /// a commit of the file system's journal besides; over bytes that were written before, a sync writes these bytes and
    /// nothing else.
    fn write_zeros(&mut self, end: u64) -> Result<(), LogError> {
        let zeros_end = self.reserved.min(end + ZEROS.len() as u64);
        if zeros_end > end {
            let zeros = &ZEROS[..(zeros_end - end) as usize];
            self.file.write_all_at(zeros, end).at("write", &self.path)?;
            self.written = zeros_end;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.file.sync_data().at("sync", &self.path)?;
        self.dirty = false;
        Ok(())
    }
}

/// Makes a segment whose name and header are durable. Until it has them, no reader takes it for a log.
fn create(disk: &dyn Disk, dir: &Path, first: Zxid, options: &LogOptions) -> Result<Segment, LogError> {
    let name = layout::log_name(first);
    let temp = dir.join(format!("{}{first:x}", layout::NEW_LOG));
    let path = dir.join(name);
    let file = disk.open(&temp, Access::Create).at("create", &temp)?;
    file.write_all_at(&FILE_HEADER, 0).at("write", &temp)?;
    let position = FILE_HEADER.len() as u64;
    let reserved = match options.prealloc_bytes {
        0 => position,
        bytes => reserve(&*file, &temp, position, bytes)?,
    };
    file.sync_all().at("sync", &temp)?;
    disk.rename(&temp, &path).at("rename", &temp)?;
    sync_parent(disk, &path)?;
    Ok(Segment { file, path, position, reserved, written: position, dirty: false })
}

/// Makes room behind `from`, so that a sync need not write new metadata each time; the new end of the room. Where the
/// disk has less left than a whole step, the log goes on without: what counts is whether the records themselves fit.
fn reserve(file: &dyn DiskFile, path: &Path, from: u64, bytes: u64) -> Result<u64, LogError> {
    match file.allocate(from, bytes) {
        Ok(()) => Ok(from + bytes),
        Err(error) if is_disk_full(&error) => Ok(from),
        Err(error) => Err(error).at("reserve room in", path).map_err(LogError::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemDisk;

    fn append(log: &mut Log, zxid: i64, bytes: usize) {
        let mut group = Group::new(log.last(), PAYLOAD_MAX);
        let mut payload = vec![0xee; bytes];
        payload[12..20].copy_from_slice(&zxid.to_be_bytes());
        group.push(&Record::new(payload.into()).expect("a payload with a zxid")).unwrap();
        log.append(&group).unwrap();
        log.sync().unwrap();
    }

    #[test]
    fn small_groups_share_zeros_and_large_ones_do_without() {
        let disk = MemDisk::new();
        disk.create_dir_all(Path::new("/data/version-2")).unwrap();
        let options = LogOptions { prealloc_bytes: 100 << 10, ..LogOptions::default() };
        let dirs = Dirs::new(Path::new("/data"), None);
        let mut log = Log::new(Arc::new(disk.clone()), dirs, options, Zxid::ZERO);
        let ends =
            |log: &Log| log.segment.as_ref().map(|segment| (segment.position, segment.written)).unwrap();

        append(&mut log, 1, 100);
        let (first_end, zeros_end) = ends(&log);
        assert_eq!(zeros_end, first_end + ZEROS.len() as u64, "a small group writes a step of zeros");
        append(&mut log, 2, 100);
        assert_eq!(ends(&log).1, zeros_end, "the next one finds it");
        append(&mut log, 3, ZEROS.len());
        let (end, written) = ends(&log);
        assert_eq!(written, end, "a large group goes on without");
        append(&mut log, 4, 100);
        let room = log.segment.as_ref().map(|segment| segment.reserved).unwrap();
        assert_eq!(ends(&log).1, room, "zeros end where the room ends");

        let bytes = disk.contents(Path::new("/data/version-2/log.1")).unwrap();
        assert_eq!(bytes.len() as u64, room);
        let end = ends(&log).0 as usize;
        assert_eq!(record::first_data(&bytes[end..]), None);
        assert_ne!(bytes[end - 1], 0, "the last record is whole up to its end byte");
    }
}
