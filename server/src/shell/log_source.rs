//! The log read back for learners: records without gaps, and the word that there is a gap.
//!
//! A log can have gaps: a server that was sent a whole state goes on behind it, and what it had before may end earlier.
//! Within an epoch the numbers show a gap. Between epochs they do not, since nobody knows from its first record how far the
//! epoch before went; there a gap is ruled out only if no snapshot lies between the two records, because a state that was
//! sent is kept as one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use docent::Zxid;

use crate::storage::{Dirs, Disk, LogError, LogReader, layout};
use crate::zab::LinkId;

/// Readers that are kept for the next question. More learners at once begin anew, which only costs time.
const READERS_MAX: usize = 16;

/// Reads the log of these folders.
#[derive(Debug)]
pub struct LogSource {
    disk: Arc<dyn Disk>,
    dirs: Dirs,
    payload_max: usize,
    /// Where each learner's reading has come to: a segment is not read from its beginning for each question.
    readers: Mutex<BTreeMap<LinkId, Reading>>,
}

/// A reader and the last record that it gave.
#[derive(Debug)]
struct Reading {
    reader: LogReader,
    last: Zxid,
    snapshots: Vec<Zxid>,
}

/// Zxid and payload of a record.
pub(super) type Entry = (Zxid, Bytes);

/// A reader that begins, and the record that it had to read to see where it is.
struct Begun {
    reading: Reading,
    first: Option<Entry>,
}

impl LogSource {
    /// The log of these folders, with payloads of at most so many bytes.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, dirs: Dirs, payload_max: usize) -> Self {
        LogSource { disk, dirs, payload_max, readers: Mutex::default() }
    }

    fn readers(&self) -> std::sync::MutexGuard<'_, BTreeMap<LinkId, Reading>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link is gone; its reader is not needed.
    pub(super) fn forget(&self, link: LinkId) {
        self.readers().remove(&link);
    }

    /// The records right behind `after`, up to `until`, which must be durable; at least one, and no more once they have
    /// `max_bytes` of payload. `None` when the log does not reach back so far. Blocks.
    #[must_use]
    pub fn read(&self, link: LinkId, after: Zxid, until: Zxid, max_bytes: usize) -> Option<Vec<Entry>> {
        if after >= until {
            return (after == until).then(Vec::new);
        }
        let kept = self.readers().remove(&link).filter(|reading| reading.last == after);
        let read = self.read_on(kept, after, until, max_bytes);
        match read {
            Ok((records, reading)) => {
                let mut readers = self.readers();
                if let Some(reading) = reading
                    && readers.len() < READERS_MAX
                {
                    readers.insert(link, reading);
                }
                records
            }
            Err(error) => {
                tracing::error!(%after, %error, "the log cannot be read for a learner");
                None
            }
        }
    }

    fn read_on(
        &self,
        kept: Option<Reading>,
        after: Zxid,
        until: Zxid,
        max_bytes: usize,
    ) -> Result<(Option<Vec<Entry>>, Option<Reading>), LogError> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        if let Some(mut reading) = kept {
            while bytes < max_bytes
                && let Some(record) = reading.next()?
            {
                bytes += record.1.len();
                records.push(record);
            }
            if !records.is_empty() {
                return Ok((Some(records), Some(reading)));
            }
            // It ends where the log ended when it began, or at a gap.
        }
        let Some(Begun { mut reading, first }) = self.begin(after, until)? else { return Ok((None, None)) };
        if let Some(first) = first {
            bytes += first.1.len();
            records.push(first);
        }
        while bytes < max_bytes
            && let Some(record) = reading.next()?
        {
            bytes += record.1.len();
            records.push(record);
        }
        if records.is_empty() {
            return Ok((None, None));
        }
        Ok((Some(records), Some(reading)))
    }

    /// A reader behind `after`, and the record behind it if that was read already; `None` unless the log shows that it
    /// holds everything from there on.
    fn begin(&self, after: Zxid, until: Zxid) -> Result<Option<Begun>, LogError> {
        let snapshots = layout::snapshots(&*self.disk, &self.dirs.snapshots)?;
        let snapshots: Vec<Zxid> = snapshots.into_iter().map(|found| found.zxid).collect();
        let before = Zxid(after.0 - 1);
        let reader =
            LogReader::after(Arc::clone(&self.disk), &self.dirs.logs, before, Some(until), self.payload_max)?;
        let mut reading = Reading { reader, last: after, snapshots };
        let Some(first) = reading.reader.next_record()? else { return Ok(None) };
        if first.zxid == after {
            return Ok(Some(Begun { reading, first: None }));
        }
        let known = reading.snapshots.contains(&after) || after.next() == Some(first.zxid);
        if !known || !reading.follows(first.zxid) {
            return Ok(None);
        }
        reading.last = first.zxid;
        Ok(Some(Begun { reading, first: Some((first.zxid, first.payload)) }))
    }
}

impl Reading {
    /// The next record, if there is one without a gap.
    fn next(&mut self) -> Result<Option<Entry>, LogError> {
        let Some(record) = self.reader.next_record()? else { return Ok(None) };
        if !self.follows(record.zxid) {
            return Ok(None);
        }
        self.last = record.zxid;
        Ok(Some((record.zxid, record.payload)))
    }

    /// Whether this can be nothing but the record right behind the last one.
    fn follows(&self, next: Zxid) -> bool {
        let between = |zxid: &Zxid| *zxid > self.last && *zxid < next;
        self.last.next() == Some(next)
            || (next.epoch() > self.last.epoch()
                && next.counter() == 1
                && !self.snapshots.iter().any(between))
    }
}

#[cfg(test)]
#[path = "log_source_tests.rs"]
mod tests;
