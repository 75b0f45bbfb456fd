//! The two epochs of an ensemble's member: `acceptedEpoch` (promised to a leader) and `currentEpoch` (followed one).
//!
//! Each is a file with a decimal number. A new value replaces the old one in one step and is durable when `write` returns,
//! before anybody is told: a promise that a crash takes back could be given twice. Invariant: accepted >= current >=
//! the epoch of the last record; hence the order in [`Epochs::save`].
//!
//! Left out: what an epoch is promised for (`zab`).

use std::path::{Path, PathBuf};

use docent::Zxid;

use super::disk::{Access, At, Disk, DiskError, replace_file};
pub use crate::zab::Epochs;

/// More bytes than a number and its line end can have.
const LEN_MAX: usize = 64;

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochFile {
    /// `acceptedEpoch`.
    Accepted,
    /// `currentEpoch`.
    Current,
}

/// Why the epochs cannot be read or do not fit.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file holds no epoch.
    #[error("{} does not hold an epoch, a decimal number on one line; restore it from a backup", .path.display())]
    NotANumber {
        /// The file.
        path: PathBuf,
    },
    /// The promise is smaller than what was followed.
    #[error(
        "acceptedEpoch {accepted} is smaller than currentEpoch {current} in {}; the files are not of one server: \
         restore both from one backup, or move version-2 away and let this server synchronise with the leader",
        .dir.display()
    )]
    AcceptedBelowCurrent {
        /// The promise.
        accepted: u32,
        /// What was followed.
        current: u32,
        /// The folder.
        dir: PathBuf,
    },
    /// The log is of an epoch that was never promised.
    #[error(
        "the last record {last} is of epoch {}, but acceptedEpoch is {accepted} in {}; the files are not of one \
         server: restore them from one backup, or move version-2 away and let this server synchronise with the leader",
        .last.epoch(), .dir.display()
    )]
    LogAhead {
        /// The last record.
        last: Zxid,
        /// The promise.
        accepted: u32,
        /// The folder.
        dir: PathBuf,
    },
}

impl EpochFile {
    fn path(self, dir: &Path) -> PathBuf {
        dir.join(match self {
            EpochFile::Accepted => "acceptedEpoch",
            EpochFile::Current => "currentEpoch",
        })
    }

    /// The number in the file; `None` if there is no file. Only the first line counts.
    ///
    /// # Errors
    /// The disk fails, or the file holds no number.
    pub fn read(self, disk: &dyn Disk, dir: &Path) -> Result<Option<u32>, EpochError> {
        let path = self.path(dir);
        let file = match disk.open(&path, Access::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.at("open", &path)?,
        };
        let mut bytes = [0; LEN_MAX];
        let count = file.read_at(&mut bytes, 0).at("read", &path)?;
        let line = bytes[..count].split(|byte| *byte == b'\n').next().unwrap_or_default();
        let number = std::str::from_utf8(line).ok().and_then(|line| line.trim().parse().ok());
        number.map(Some).ok_or(EpochError::NotANumber { path })
    }

    /// Replaces the number, durably.
    ///
    /// # Errors
    /// The disk fails; after a restart the file holds the old or the new number.
    pub fn write(self, disk: &dyn Disk, dir: &Path, epoch: u32) -> Result<(), DiskError> {
        let path = self.path(dir);
        replace_file(disk, &path.with_extension("tmp"), &path, epoch.to_string().as_bytes())
    }
}

impl Epochs {
    /// Reads both numbers for a server whose last record is `last`, and repairs what a crash explains:
    ///
    /// * A missing file is made from the epoch of the last record.
    /// * `current` below the epoch of the last record, with a sufficient promise: the server crashed between writing a
    ///   leader's history and noting that it follows that leader. All it holds is a beginning of that leader's history, so
    ///   `current` becomes that epoch (never more).
    ///
    /// # Errors
    /// The disk fails, or the numbers fit neither each other nor the log.
    pub fn load(disk: &dyn Disk, dir: &Path, last: Zxid) -> Result<Self, EpochError> {
        let of_log = if last < Zxid::ZERO { 0 } else { last.epoch() };
        let accepted = EpochFile::Accepted.read(disk, dir)?;
        let current = EpochFile::Current.read(disk, dir)?;
        let epochs = Epochs { accepted: accepted.unwrap_or(of_log), current: current.unwrap_or(of_log) };
        if epochs.accepted < epochs.current {
            let Epochs { accepted, current } = epochs;
            return Err(EpochError::AcceptedBelowCurrent { accepted, current, dir: dir.to_owned() });
        }
        if epochs.accepted < of_log {
            return Err(EpochError::LogAhead { last, accepted: epochs.accepted, dir: dir.to_owned() });
        }
        let repaired = Epochs { current: epochs.current.max(of_log), ..epochs };
        if accepted != Some(repaired.accepted) {
            EpochFile::Accepted.write(disk, dir, repaired.accepted)?;
        }
        if current != Some(repaired.current) {
            EpochFile::Current.write(disk, dir, repaired.current)?;
        }
        Ok(repaired)
    }

    /// Makes both numbers durable, the promise first: at no moment may `current` be the larger one. A number that did not
    /// change since `before` is not written.
    ///
    /// # Errors
    /// The disk fails; each file then holds its old or its new number.
    pub fn save(self, disk: &dyn Disk, dir: &Path, before: Option<Epochs>) -> Result<(), DiskError> {
        if before.map(|epochs| epochs.accepted) != Some(self.accepted) {
            EpochFile::Accepted.write(disk, dir, self.accepted)?;
        }
        if before.map(|epochs| epochs.current) != Some(self.current) {
            EpochFile::Current.write(disk, dir, self.current)?;
        }
        Ok(())
    }
}
