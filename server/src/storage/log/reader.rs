//! Reading logs back: one segment with a bounded buffer, and all segments of a folder in order.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use docent::Zxid;

use super::{FILE_HEADER, LogError};
use crate::storage::disk::{Access, At, Disk, DiskFile};
use crate::storage::layout::{self, Found};
use crate::storage::record::{self, Flaw, HEADER_LEN, Judgement, OVERHEAD, Piece, Record};

/// Bytes asked of the disk at once. A buffer grows beyond it only for one larger record.
const CHUNK: usize = 256 * 1024;

/// An interrupted write at the end of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The file.
    pub path: PathBuf,
    /// The end of the last whole record: where to cut.
    pub offset: u64,
    /// Bytes from there to the last one that is not zero.
    pub bytes: u64,
    /// What shows it.
    pub flaw: Flaw,
}

/// What comes next in a segment.
#[derive(Debug)]
pub(in crate::storage) enum Next {
    /// A record and the offset at which it begins.
    Record(Record, u64),
    /// No more records; the offset behind the last one.
    End(u64),
    /// No more whole records.
    Torn(Torn),
}

/// Reads one segment from its start.
#[derive(Debug)]
pub(in crate::storage) struct SegmentReader {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    payload_max: usize,
    /// A window of the file; `start..end` of it is unread.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The offset in the file of `buffer[start]`.
    offset: u64,
}

impl SegmentReader {
    /// Opens a segment and checks its header. `None` when the file is shorter than a header and all of it could be the
    /// beginning of one: a file whose creation was interrupted.
    pub(in crate::storage) fn open(
        disk: &dyn Disk,
        path: &Path,
        payload_max: usize,
    ) -> Result<Option<Self>, LogError> {
        let file = disk.open(path, Access::Read).at("open", path)?;
        let buffer = vec![0; CHUNK];
        let path = path.to_owned();
        let mut reader = SegmentReader { file, path, payload_max, buffer, start: 0, end: 0, offset: 0 };
        let enough = reader.fill(FILE_HEADER.len())?;
        let head = reader.unread();
        // The database id, the last eight bytes, is 0 in every file of Apache and ours, and read by nobody.
        if !FILE_HEADER.starts_with(&head[..head.len().min(8)]) {
            return Err(LogError::BadHeader { path: reader.path });
        }
        if !enough {
            return Ok(None);
        }
        reader.consume(FILE_HEADER.len());
        Ok(Some(reader))
    }

    /// The next record, or why there is none.
    pub(in crate::storage) fn next(&mut self) -> Result<Next, LogError> {
        self.fill(HEADER_LEN)?;
        if let Piece::Short { needed } = record::read(self.unread(), self.payload_max) {
            self.fill(needed)?;
        }
        let begins = self.offset;
        let (flaw, extent) = match record::read(self.unread(), self.payload_max) {
            Piece::Whole { zxid, payload, next } => {
                let record = Record { zxid, payload: Bytes::copy_from_slice(payload) };
                self.consume(next);
                return Ok(Next::Record(record, begins));
            }
            Piece::Padding => match self.data_from(begins)? {
                None => return Ok(Next::End(begins)),
                Some(data_at) => (Flaw::Hole { data_at }, 0),
            },
            Piece::Short { .. } => (Flaw::Cut, self.unread().len()),
            Piece::Flawed { flaw, extent } => (flaw, extent),
        };
        self.settle(flaw, extent)
    }

    /// Torn or damaged: decided by what is behind the frame.
    fn settle(&mut self, flaw: Flaw, extent: usize) -> Result<Next, LogError> {
        let offset = self.offset;
        let behind = self.data_from(offset + extent as u64)?;
        let frame = &self.unread()[..extent];
        match record::judge(flaw, offset, frame, behind, self.payload_max) {
            Judgement::Torn => {
                let data = frame.iter().rposition(|byte| *byte != 0).map_or(0, |place| place + 1);
                Ok(Next::Torn(Torn { path: self.path.clone(), offset, bytes: data as u64, flaw }))
            }
            Judgement::Damaged(flaw) => Err(LogError::Damaged { path: self.path.clone(), offset, flaw }),
        }
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        self.offset += count as u64;
    }

    /// Reads until `needed` bytes are unread; `false` at the end of the file.
    fn fill(&mut self, needed: usize) -> Result<bool, LogError> {
        if self.unread().len() >= needed {
            return Ok(true);
        }
        debug_assert!(needed <= self.payload_max + OVERHEAD, "a length beyond the limit is never believed");
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < needed {
            self.buffer.resize(needed, 0);
        }
        while self.end < self.buffer.len() {
            let at = self.offset + self.end as u64;
            let count = self.file.read_at(&mut self.buffer[self.end..], at).at("read", &self.path)?;
            if count == 0 {
                break;
            }
            self.end += count;
        }
        Ok(self.end >= needed)
    }

    /// The offset of the first byte from `from` on that is not zero. The window is left as it is.
    fn data_from(&self, from: u64) -> Result<Option<u64>, LogError> {
        let mut chunk = vec![0; CHUNK];
        let mut at = from;
        loop {
            let count = self.file.read_at(&mut chunk, at).at("read", &self.path)?;
            if count == 0 {
                return Ok(None);
            }
            if let Some(place) = record::first_data(&chunk[..count]) {
                return Ok(Some(at + place as u64));
            }
            at += count as u64;
        }
    }
}

/// Reads the records of a folder in order, across its segments, with one bounded buffer.
///
/// Records whose zxid is not larger than that of the one before are passed over and counted: old servers logged some
/// transactions twice, and applying the first suffices.
#[derive(Debug)]
pub struct LogReader {
    disk: Arc<dyn Disk>,
    payload_max: usize,
    /// The segments still to be opened, newest first.
    waiting: Vec<Found>,
    current: Option<SegmentReader>,
    /// Records up to this one have been passed over or handed out.
    after: Zxid,
    until: Option<Zxid>,
    /// The largest record met, handed out or not.
    seen: Zxid,
    torn: Vec<Torn>,
    duplicates: u64,
    position: Option<(PathBuf, u64)>,
}

impl LogReader {
    /// Reads all records larger than `after`, starting in the segment that may hold the first of them.
    ///
    /// While the log is being written, `until` must be given and be durable: reading ends with the last record that is
    /// not larger, and the restless end of the file is never looked at. Without it, reading ends at the end of the log.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn after(
        disk: Arc<dyn Disk>,
        dir: &Path,
        after: Zxid,
        until: Option<Zxid>,
        payload_max: usize,
    ) -> Result<Self, LogError> {
        let files = layout::logs(&*disk, dir)?;
        let waiting = relevant(files, after).into_iter().rev().collect();
        Ok(LogReader {
            disk,
            payload_max,
            waiting,
            current: None,
            after,
            until,
            seen: Zxid::NONE,
            torn: Vec::new(),
            duplicates: 0,
            position: None,
        })
    }

    /// The next record, `None` at the end.
    ///
    /// # Errors
    /// The disk fails, or a file is damaged; the reader is then of no further use.
    pub fn next_record(&mut self) -> Result<Option<Record>, LogError> {
        loop {
            if self.until.is_some_and(|until| self.after >= until) {
                return Ok(None);
            }
            let Some(segment) = &mut self.current else {
                let Some(file) = self.waiting.pop() else { return Ok(None) };
                self.current = SegmentReader::open(&*self.disk, &file.path, self.payload_max)?;
                if self.current.is_none() {
                    self.torn.push(Torn { path: file.path, offset: 0, bytes: file.len, flaw: Flaw::Cut });
                }
                continue;
            };
            match segment.next()? {
                Next::Record(record, offset) => {
                    self.duplicates += u64::from(record.zxid <= self.seen);
                    self.seen = self.seen.max(record.zxid);
                    if record.zxid <= self.after {
                        continue;
                    }
                    if self.until.is_some_and(|until| record.zxid > until) {
                        self.until = Some(self.after);
                        return Ok(None);
                    }
                    self.position = Some((segment.path.clone(), offset));
                    self.after = record.zxid;
                    return Ok(Some(record));
                }
                Next::Torn(torn) => self.torn.push(torn),
                Next::End(_) => {}
            }
            self.current = None;
        }
    }

    /// The interrupted writes met so far, in the order of the files.
    #[must_use]
    pub fn torn(&self) -> &[Torn] {
        &self.torn
    }

    /// Records passed over because their numbers were not larger than the one before.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// The file and offset of the record handed out last.
    #[must_use]
    pub fn position(&self) -> Option<(&Path, u64)> {
        self.position.as_ref().map(|(path, offset)| (path.as_path(), *offset))
    }
}

/// The segments that may hold records larger than `after`: from the last one whose first record is not larger than the
/// one wanted.
fn relevant(mut files: Vec<Found>, after: Zxid) -> Vec<Found> {
    let wanted = Zxid(after.0.saturating_add(1));
    let first = files.iter().rposition(|file| file.zxid <= wanted).unwrap_or(0);
    files.drain(..first);
    files
}
