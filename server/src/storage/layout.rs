//! The names in a data directory: which file is a log, which a snapshot, and of which transaction.
//!
//! The layout is Apache's. `version-2` holds `log.<hex>` (hex: the first transaction in it) and
//! `snapshot.<hex>[.gz|.snappy]` (hex: the last transaction applied before the writing began). Apache takes every name
//! that begins with `log.<hex>` or `snapshot.<hex>` as such a file, whatever follows; hence our unfinished files
//! are called `new-log.…` and `new-snapshot.…`, and hence names with more parts are left alone here and mentioned by
//! nobody.

use std::io;
use std::path::{Path, PathBuf};

use docent::Zxid;

use super::disk::{At, Disk, DiskError};

/// The folder below dataDir and dataLogDir that holds the files of this format.
pub const VERSION_DIR: &str = "version-2";
/// What the name of an unfinished log begins with.
pub(super) const NEW_LOG: &str = "new-log.";
/// What the name of an unfinished snapshot begins with.
pub(super) const NEW_SNAPSHOT: &str = "new-snapshot.";

/// The two folders of a server; often they are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirs {
    /// `<dataDir>/version-2`: snapshots, epoch files and the lock.
    pub snapshots: PathBuf,
    /// `<dataLogDir>/version-2`: transaction logs.
    pub logs: PathBuf,
}

impl Dirs {
    /// The folders below `dataDir` and, if it is set, `dataLogDir`.
    #[must_use]
    pub fn new(data_dir: &Path, data_log_dir: Option<&Path>) -> Self {
        Dirs {
            snapshots: data_dir.join(VERSION_DIR),
            logs: data_log_dir.unwrap_or(data_dir).join(VERSION_DIR),
        }
    }

    /// `<dataLogDir>/initialize`: an operator's word that an empty data directory is meant to be empty.
    #[must_use]
    pub fn initialize_marker(&self) -> PathBuf {
        self.logs.parent().unwrap_or(Path::new("")).join("initialize")
    }

    /// Both folders, or the one.
    pub(super) fn each(&self) -> impl Iterator<Item = &Path> {
        let second = (self.logs != self.snapshots).then_some(self.logs.as_path());
        [Some(self.snapshots.as_path()), second].into_iter().flatten()
    }
}

/// How a snapshot file is compressed; the last part of its name tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compression {
    /// Not at all. Apache's default, and what a way back to any Apache version needs.
    #[default]
    None,
    /// `.gz`, plain gzip.
    Gzip,
    /// `.snappy`, the framing of the xerial library (not the frame format of Snappy itself).
    Snappy,
}

impl Compression {
    fn suffix(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Snappy => ".snappy",
        }
    }
}

/// A log or snapshot that a folder holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The number in the name.
    pub zxid: Zxid,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes on disk, padding included.
    pub len: u64,
    /// For a snapshot: how it is compressed.
    pub compression: Compression,
}

/// The name of the log whose first record is `first`.
pub(super) fn log_name(first: Zxid) -> String {
    format!("log.{first:x}")
}

/// The name of the snapshot of the state at `zxid`.
pub(super) fn snapshot_name(zxid: Zxid, compression: Compression) -> String {
    format!("snapshot.{zxid:x}{}", compression.suffix())
}

/// The logs of a folder, oldest first. A missing folder has none.
///
/// # Errors
/// The folder cannot be read.
pub fn logs(disk: &dyn Disk, dir: &Path) -> Result<Vec<Found>, DiskError> {
    found(disk, dir, parse_log)
}

/// The snapshots of a folder, oldest first, valid or not. A missing folder has none.
///
/// # Errors
/// The folder cannot be read.
pub fn snapshots(disk: &dyn Disk, dir: &Path) -> Result<Vec<Found>, DiskError> {
    found(disk, dir, parse_snapshot)
}

fn found(
    disk: &dyn Disk,
    dir: &Path,
    parse: fn(&str) -> Option<(Zxid, Compression)>,
) -> Result<Vec<Found>, DiskError> {
    let entries = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at("list", dir)?,
    };
    let mut found: Vec<Found> = entries
        .into_iter()
        .filter_map(|entry| {
            let (zxid, compression) = parse(&entry.name)?;
            Some(Found { zxid, path: dir.join(&entry.name), len: entry.len, compression })
        })
        .collect();
    found.sort_by_key(|file| (file.zxid, file.compression));
    Ok(found)
}

fn parse_log(name: &str) -> Option<(Zxid, Compression)> {
    Some((parse_hex(name.strip_prefix("log.")?)?, Compression::None))
}

fn parse_snapshot(name: &str) -> Option<(Zxid, Compression)> {
    let rest = name.strip_prefix("snapshot.")?;
    let (hex, compression) = match rest.split_once('.') {
        None => (rest, Compression::None),
        Some((hex, "gz")) => (hex, Compression::Gzip),
        Some((hex, "snappy")) => (hex, Compression::Snappy),
        Some(_) => return None,
    };
    Some((parse_hex(hex)?, compression))
}

/// A non-negative hexadecimal number as Java writes it; a sign is none of ours.
fn parse_hex(text: &str) -> Option<Zxid> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| i64::from_str_radix(text, 16).ok().map(Zxid)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for zxid in [Zxid(0), Zxid(0x5d), Zxid::new(2, 3), Zxid(i64::MAX)] {
            assert_eq!(parse_log(&log_name(zxid)), Some((zxid, Compression::None)));
            for compression in [Compression::None, Compression::Gzip, Compression::Snappy] {
                assert_eq!(parse_snapshot(&snapshot_name(zxid, compression)), Some((zxid, compression)));
            }
        }
        assert_eq!(log_name(Zxid(0x2a)), "log.2a");
        assert_eq!(snapshot_name(Zxid::new(2, 2), Compression::Gzip), "snapshot.200000002.gz");
    }

    #[test]
    fn other_names_are_left_alone() {
        for name in
            ["log", "log.", "log.xyz", "log.+1", "log.-1", "log.12.tmp", "new-log.1", "log.10000000000000000"]
        {
            assert_eq!(parse_log(name), None, "{name}");
        }
        for name in ["snapshot.", "snapshot.12.tmp", "snapshot.12.gz.tmp", "new-snapshot.1", "snapshot.-1"] {
            assert_eq!(parse_snapshot(name), None, "{name}");
        }
    }
}
