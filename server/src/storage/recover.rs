//! From a folder to a state: the newest snapshot that is sound, then every later record of the log.
//!
//! ```text
//! recover(…)            a snapshot is chosen, read and verified, or there is nothing yet
//! replay.next_record()  the records behind it, one by one; damage and gaps are errors
//! replay.finish()       the torn end of an interrupted write is cut off, empty segments at the end are removed
//! ```
//!
//! What is refused and what is repaired:
//!
//! * *Torn*, an interrupted write at the end of the last segment: cut, and reported. It was never acknowledged.
//! * *Torn* at the end of an earlier segment: what Apache leaves behind when it starts again after a crash. Left alone and
//!   reported, if the next segment continues where the whole records end.
//! * *Damage*, everything else that does not read as a record: refused, see [`LogError::Damaged`].
//! * *A gap* in the numbers: refused. A file was lost, or a sound snapshot had to be given up for one whose logs are gone.
//! * Snapshots, but none sound: refused. Records, but no snapshot: refused unless the operator trusts it.
//!
//! Nothing is changed before all of it has been read, except that left-over unfinished files are removed.
//!
//! Left out: what the body of a snapshot and the payload of a record mean; the caller's closure and loop know.

use std::fmt::Display;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use docent::Zxid;

use super::disk::{At, Disk, DiskError, remove_if_there};
use super::layout::{self, Dirs, Found, NEW_LOG, NEW_SNAPSHOT};

use super::log::{FILE_HEADER, LogError, LogReader, Next, SegmentReader, Torn, remove, shorten};
use super::record::{PAYLOAD_MAX, Record};
use super::snapshot::{self, SnapshotError, SnapshotReader, SnapshotTrailer};

/// How many snapshots are tried, as in Apache.
const CANDIDATES_MAX: usize = 100;

/// What an operator allows at a start.
#[derive(Clone, Debug)]
pub struct RecoverOptions {
    /// Records without any snapshot are the whole history (`zookeeper.snapshot.trust.empty`).
    pub trust_empty_snapshot: bool,
    /// An empty folder may become an empty database by itself (`zookeeper.db.autocreate`).
    pub autocreate: bool,
    /// Missing numbers between records are reported instead of refused. For rescue only: writes are lost.
    pub accept_gaps: bool,
    /// The longest payload in bytes that is believed.
    pub payload_max: usize,
}

impl Default for RecoverOptions {
    fn default() -> Self {
        RecoverOptions {
            trust_empty_snapshot: false,
            autocreate: true,
            accept_gaps: false,
            payload_max: PAYLOAD_MAX,
        }
    }
}

/// What a folder holds.
#[derive(Debug)]
pub enum Recovered<S> {
    /// No transaction and no snapshot.
    Empty(EmptyStart),
    /// A state, and records to be applied to it.
    Loaded(Box<Loaded<S>>),
}

/// An empty folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptyStart {
    /// It is meant to be empty: the server begins at zxid 0 with a snapshot of the empty tree, and may vote. Otherwise it
    /// has zxid -1: it may follow and receive the state, but not vote, because it may have forgotten what it promised.
    pub may_vote: bool,
    /// The operator's marker is there. [`remove_initialize_marker`] once the first snapshot is durable.
    pub marker: bool,
}

/// A sound snapshot.
#[derive(Debug)]
pub struct Loaded<S> {
    /// What the caller's closure made of the body; `None` if there is no snapshot and the operator trusts that.
    pub state: Option<S>,
    /// The zxid in the snapshot's name: everything up to it is in the state, and perhaps some of what follows.
    pub snapshot: Zxid,
    /// The sections behind the body.
    pub trailer: SnapshotTrailer,
    /// The records behind the snapshot.
    pub replay: Replay,
}

/// What a start did to the folder, for the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The snapshot that was used.
    pub snapshot: Option<PathBuf>,
    /// Newer ones that were not sound, with the reason.
    pub rejected: Vec<(PathBuf, String)>,
    /// Records handed out.
    pub records: u64,
    /// Records passed over because they stood in the log twice.
    pub duplicates: u64,
    /// The last record, or the snapshot's zxid if there is none behind it.
    pub last: Zxid,
    /// The interrupted write that was cut off the end.
    pub tail_cut: Option<Torn>,
    /// Interrupted writes at the end of earlier segments, left as they are.
    pub torn_inside: Vec<Torn>,
    /// Segments at the end that held no whole record, now removed.
    pub logs_removed: Vec<PathBuf>,
    /// Gaps that the operator accepted: the record before and the record behind.
    pub gaps: Vec<(Zxid, Zxid)>,
}

/// Why a server cannot start from these folders.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Snapshots exist, but none is sound.
    #[error(
        "no snapshot in {} can be used ({}); restore one from a backup, or in an ensemble move version-2 away and let \
         this server synchronise with the leader", .dir.display(), list(.rejected)
    )]
    NoSoundSnapshot {
        /// The folder.
        dir: PathBuf,
        /// Each with its reason.
        rejected: Vec<(PathBuf, String)>,
    },
    /// Records without a snapshot.
    #[error(
        "{} holds transactions, but {} no snapshot; restore the snapshots, or if there never were any start once with \
         zookeeper.snapshot.trust.empty=true", .logs.display(), .snapshots.display()
    )]
    MissingSnapshot {
        /// The folder of the logs.
        logs: PathBuf,
        /// The folder of the snapshots.
        snapshots: PathBuf,
    },
    /// Numbers are missing.
    #[error(
        "transactions are missing: {next} follows {last} in {} at offset {offset}; a log or a newer snapshot was lost. \
         Restore it from a backup, or in an ensemble move version-2 away and let this server synchronise with the \
         leader", .path.display()
    )]
    Gap {
        /// The record or snapshot before the gap.
        last: Zxid,
        /// The record behind it.
        next: Zxid,
        /// The file of the latter.
        path: PathBuf,
        /// Its offset there.
        offset: u64,
    },
    /// dataDir and dataLogDir differ, and a file is in the wrong one.
    #[error(
        "{} belongs into the other folder: logs into dataLogDir, snapshots into dataDir; move it, or set dataLogDir \
         as it was when the file was written", .path.display()
    )]
    WrongFolder {
        /// The file.
        path: PathBuf,
    },
}

fn list(rejected: &[(PathBuf, String)]) -> String {
    let each: Vec<String> =
        rejected.iter().map(|(path, reason)| format!("{}: {reason}", path.display())).collect();
    each.join("; ")
}

/// Chooses a snapshot and reads it with `load`, which must stop exactly behind the body's end marker. `load` may be called
/// again with an older snapshot when a newer one turns out to be unsound; each call makes a state from scratch.
///
/// Hold the [`DirLock`](super::DirLock) of the folders.
///
/// # Errors
/// See [`RecoverError`]. Nothing was changed then, except that unfinished files were removed.
pub fn recover<S, E: Display>(
    disk: &Arc<dyn Disk>,
    dirs: &Dirs,
    options: &RecoverOptions,
    mut load: impl FnMut(&mut dyn Read, Zxid) -> Result<S, E>,
) -> Result<Recovered<S>, RecoverError> {
    check_folders(&**disk, dirs)?;
    remove_unfinished(&**disk, dirs)?;
    let mut report = RecoveryReport::default();
    for file in candidates(&**disk, dirs, &mut report)? {
        match load_one(&**disk, &file, &mut load) {
            Err(reason) => report.rejected.push((file.path, reason)),
            Ok((state, trailer)) => {
                report.snapshot = Some(file.path);
                // A marker beside a database is left over from the first start.
                remove_initialize_marker(&**disk, dirs)?;
                let replay = Replay::new(disk, dirs, options, Some(file.zxid), report)?;
                return Ok(Recovered::Loaded(Box::new(Loaded {
                    state: Some(state),
                    snapshot: file.zxid,
                    trailer,
                    replay,
                })));
            }
        }
    }
    if !report.rejected.is_empty() {
        let RecoveryReport { rejected, .. } = report;
        return Err(RecoverError::NoSoundSnapshot { dir: dirs.snapshots.clone(), rejected });
    }
    without_snapshot(disk, dirs, options, report)
}

fn without_snapshot<S>(
    disk: &Arc<dyn Disk>,
    dirs: &Dirs,
    options: &RecoverOptions,
    report: RecoveryReport,
) -> Result<Recovered<S>, RecoverError> {
    let mut logs = LogReader::after(disk.clone(), &dirs.logs, Zxid::NONE, None, options.payload_max)?;
    if logs.next_record()?.is_none() {
        remove_empty_logs(&**disk, dirs, options.payload_max)?;
        let marker = exists(&**disk, &dirs.initialize_marker())?;
        return Ok(Recovered::Empty(EmptyStart { may_vote: marker || options.autocreate, marker }));
    }
    if !options.trust_empty_snapshot {
        let Dirs { snapshots, logs } = dirs.clone();
        return Err(RecoverError::MissingSnapshot { logs, snapshots });
    }
    let replay = Replay::new(disk, dirs, options, None, report)?;
    let trailer = SnapshotTrailer::default();
    Ok(Recovered::Loaded(Box::new(Loaded { state: None, snapshot: Zxid::ZERO, trailer, replay })))
}

/// Removes the operator's marker, if it is there. To be called when the first snapshot is durable: before that a crash would
/// leave an empty folder without the word that it may be empty.
///
/// # Errors
/// The disk fails.
pub fn remove_initialize_marker(disk: &dyn Disk, dirs: &Dirs) -> Result<bool, DiskError> {
    remove_if_there(disk, &dirs.initialize_marker())
}

/// The snapshots to be tried, newest first; those that cannot be whole are noted as rejected.
fn candidates(disk: &dyn Disk, dirs: &Dirs, report: &mut RecoveryReport) -> Result<Vec<Found>, DiskError> {
    let mut candidates = Vec::new();
    for file in layout::snapshots(disk, &dirs.snapshots)?.into_iter().rev() {
        if candidates.len() == CANDIDATES_MAX {
            break;
        }
        match snapshot::looks_valid(disk, &file) {
            Ok(true) => candidates.push(file),
            Ok(false) => report.rejected.push((file.path, SnapshotError::NoEnd.to_string())),
            Err(error) => report.rejected.push((file.path, error.to_string())),
        }
    }
    Ok(candidates)
}

fn load_one<S, E: Display>(
    disk: &dyn Disk,
    file: &Found,
    load: &mut impl FnMut(&mut dyn Read, Zxid) -> Result<S, E>,
) -> Result<(S, SnapshotTrailer), String> {
    let mut reader = SnapshotReader::open(disk, file).map_err(|error| error.to_string())?;
    let state = load(&mut reader, file.zxid).map_err(|error| error.to_string())?;
    let trailer = reader.finish().map_err(|error| error.to_string())?;
    Ok((state, trailer))
}

/// The records behind a snapshot, in order.
#[derive(Debug)]
pub struct Replay {
    disk: Arc<dyn Disk>,
    dirs: Dirs,
    options: RecoverOptions,
    reader: LogReader,
    /// What the next record must follow; `None` before the first one of a log without snapshot.
    last: Option<Zxid>,
    report: RecoveryReport,
}

impl Replay {
    fn new(
        disk: &Arc<dyn Disk>,
        dirs: &Dirs,
        options: &RecoverOptions,
        last: Option<Zxid>,
        report: RecoveryReport,
    ) -> Result<Self, LogError> {
        let after = last.unwrap_or(Zxid::ZERO);
        let reader = LogReader::after(disk.clone(), &dirs.logs, after, None, options.payload_max)?;
        Ok(Replay { disk: disk.clone(), dirs: dirs.clone(), options: options.clone(), reader, last, report })
    }

    /// The next record, `None` at the end of the log.
    ///
    /// # Errors
    /// The log is damaged or has a gap, or the disk fails. The state read so far is then of no use.
    pub fn next_record(&mut self) -> Result<Option<Record>, RecoverError> {
        let Some(record) = self.reader.next_record()? else { return Ok(None) };
        if let Some(last) = self.last
            && !follows(last, record.zxid)
        {
            self.gap(last, record.zxid)?;
        }
        self.last = Some(record.zxid);
        self.report.records += 1;
        Ok(Some(record))
    }

    fn gap(&mut self, last: Zxid, next: Zxid) -> Result<(), RecoverError> {
        if self.options.accept_gaps {
            self.report.gaps.push((last, next));
            return Ok(());
        }
        let (path, offset) = self.reader.position().expect("a record was just handed out");
        Err(RecoverError::Gap { last, next, path: path.to_owned(), offset })
    }

    /// Reads what is left, then makes the end of the log clean: the torn end of an interrupted write is cut off, segments
    /// without a whole record at the end are removed.
    ///
    /// # Errors
    /// As [`next_record`](Self::next_record).
    pub fn finish(mut self) -> Result<RecoveryReport, RecoverError> {
        while self.next_record()?.is_some() {}
        let mut report = self.report;
        report.last = self.last.unwrap_or(Zxid::ZERO);
        report.duplicates = self.reader.duplicates();
        report.logs_removed = remove_empty_logs(&*self.disk, &self.dirs, self.options.payload_max)?;
        let newest = layout::logs(&*self.disk, &self.dirs.logs)?.pop();
        for torn in self.reader.torn() {
            if report.logs_removed.contains(&torn.path) {
                // An interrupted first write; the segment is gone with it.
                report.tail_cut = Some(torn.clone());
            } else if newest.as_ref().is_some_and(|newest| newest.path == torn.path) {
                shorten(&*self.disk, &torn.path, torn.offset)?;
                report.tail_cut = Some(torn.clone());
            } else {
                report.torn_inside.push(torn.clone());
            }
        }
        Ok(report)
    }
}

/// `next` can be the transaction right behind `last`: the next number, or the first one of a later epoch.
fn follows(last: Zxid, next: Zxid) -> bool {
    last.next() == Some(next) || (next.epoch() > last.epoch() && next.counter() == 1)
}

/// Removes segments at the end of the log that hold no whole record: left there, they would hide records from a reader that
/// looks for them by the names of the segments.
fn remove_empty_logs(disk: &dyn Disk, dirs: &Dirs, payload_max: usize) -> Result<Vec<PathBuf>, LogError> {
    let mut removed = Vec::new();
    for file in layout::logs(disk, &dirs.logs)?.into_iter().rev() {
        let empty = match SegmentReader::open(disk, &file.path, payload_max)? {
            None => true,
            Some(mut segment) => match segment.next()? {
                Next::Record(..) => false,
                Next::End(offset) | Next::Torn(Torn { offset, .. }) => offset == FILE_HEADER.len() as u64,
            },
        };
        if !empty {
            break;
        }
        remove(disk, &file.path)?;
        removed.push(file.path);
    }
    Ok(removed)
}

fn check_folders(disk: &dyn Disk, dirs: &Dirs) -> Result<(), RecoverError> {
    if dirs.logs == dirs.snapshots {
        return Ok(());
    }
    let misplaced = layout::snapshots(disk, &dirs.logs)?.pop().or(layout::logs(disk, &dirs.snapshots)?.pop());
    match misplaced {
        Some(Found { path, .. }) => Err(RecoverError::WrongFolder { path }),
        None => Ok(()),
    }
}

fn remove_unfinished(disk: &dyn Disk, dirs: &Dirs) -> Result<(), DiskError> {
    for dir in dirs.each() {
        disk.create_dir_all(dir).at("create", dir)?;
        for entry in disk.list(dir).at("list", dir)? {
            if entry.name.starts_with(NEW_LOG) || entry.name.starts_with(NEW_SNAPSHOT) {
                remove_if_there(disk, &dir.join(&entry.name))?;
            }
        }
    }
    Ok(())
}

fn exists(disk: &dyn Disk, path: &Path) -> Result<bool, DiskError> {
    let dir = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name().and_then(|name| name.to_str());
    let entries = disk.list(dir).at("list", dir)?;
    Ok(entries.iter().any(|entry| Some(entry.name.as_str()) == name))
}
