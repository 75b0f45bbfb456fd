//! What is done to a folder as a whole: cut, purged, locked, begun.

use std::path::Path;
use std::sync::Arc;

use docent::Zxid;

use super::support::*;
use crate::storage::disk::{Disk, RealDisk};
use crate::storage::epoch_file::{EpochError, EpochFile, Epochs};
use crate::storage::lock::{DirLock, LockError};
use crate::storage::log::{LogReader, TruncateError};
use crate::storage::purge::purge;
use crate::storage::record::PAYLOAD_MAX;
use crate::storage::recover::{RecoverError, RecoverOptions, Recovered, recover, remove_initialize_marker};
use crate::storage::snapshot::SnapshotWriter;
use crate::storage::{Compression, Dirs, Group, Log, LogError, LogOptions, MemDisk};

fn log(disk: &MemDisk, last: i64) -> Log {
    Log::new(Arc::new(disk.clone()), dirs(), small_log(), Zxid(last))
}

pub(super) fn append(log: &mut Log, zxids: impl IntoIterator<Item = i64>) {
    let mut group = Group::new(log.last(), PAYLOAD_MAX);
    for zxid in zxids {
        group.push(&record(Zxid(zxid), &[zxid as u8; 10])).unwrap();
    }
    log.append(&group).unwrap();
    log.sync().unwrap();
}

/// Segments 1..=4, 5..=8 and 9..=12, and snapshots of 0 and `snapshots`.
fn three_segments(snapshots: &[i64]) -> (MemDisk, Log) {
    let disk = empty_disk();
    for zxid in [0].iter().chain(snapshots) {
        write_snapshot(&disk, Zxid(*zxid), Compression::None);
    }
    let mut log = log(&disk, 0);
    for first in [1, 5, 9] {
        append(&mut log, first..first + 4);
        log.roll().unwrap();
    }
    (disk, log)
}

fn names(disk: &MemDisk) -> Vec<String> {
    disk.list(Path::new(DIR)).unwrap().into_iter().map(|entry| entry.name).collect()
}

fn read_log(disk: &MemDisk, after: i64, until: Option<i64>) -> Vec<i64> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut reader =
        LogReader::after(disk, Path::new(DIR), Zxid(after), until.map(Zxid), PAYLOAD_MAX).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        records.push(record);
    }
    zxids(&records)
}

#[test]
fn segments_are_named_preallocated_and_trimmed() {
    let disk = empty_disk();
    let mut log = log(&disk, 0x1f);
    append(&mut log, [0x20]);
    assert_eq!(names(&disk), ["log.20"]);
    let path = in_dir("log.20");
    assert_eq!(disk.contents(&path).unwrap().len(), 16 + 4096);
    append(&mut log, 0x21..0x121);
    let size = disk.contents(&path).unwrap().len();
    assert!(size > 257 * 43, "the room grew with the group");
    log.roll().unwrap();
    assert_eq!(disk.contents(&path).unwrap().len(), 16 + 257 * 43, "the unused room is given back");
    append(&mut log, [0x121]);
    assert_eq!(names(&disk), ["log.121", "log.20"]);
    assert_eq!(read_log(&disk, 0, None), (0x20..=0x121).collect::<Vec<i64>>());
}

#[test]
fn a_segment_that_has_grown_too_large_is_followed_by_a_new_one() {
    let disk = empty_disk();
    let options = LogOptions { size_limit_bytes: Some(100), ..small_log() };
    let mut log = Log::new(Arc::new(disk.clone()), dirs(), options, Zxid::ZERO);
    for zxid in 1..=6 {
        append(&mut log, [zxid]);
    }
    assert_eq!(names(&disk), ["log.1", "log.3", "log.5"]);
}

#[test]
fn the_log_takes_only_what_a_reader_would_take() {
    let disk = empty_disk();
    let mut log = log(&disk, 5);
    let mut group = Group::new(Zxid(3), 100);
    assert!(matches!(group.push(&record(Zxid(3), b"")), Err(LogError::OutOfOrder { .. })));
    assert!(matches!(group.push(&record(Zxid(4), &[0; 100])), Err(LogError::Length { .. })));
    group.push(&record(Zxid(4), b"")).unwrap();
    assert!(matches!(log.append(&group), Err(LogError::OutOfOrder { .. })));
    assert!(names(&disk).is_empty());
}

#[test]
fn records_are_read_from_any_place_to_any_place() {
    let (disk, _log) = three_segments(&[]);
    for after in 0..=13 {
        for until in (0..=13).map(Some).chain([None]) {
            let end = until.unwrap_or(12).min(12);
            assert_eq!(read_log(&disk, after, until), (after + 1..=end).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_record_larger_than_the_buffer_is_read() {
    let disk = empty_disk();
    let mut log = log(&disk, 0);
    for zxid in 1..=3 {
        let mut group = Group::new(log.last(), PAYLOAD_MAX);
        group.push(&record(Zxid(zxid), &vec![zxid as u8; 700_000])).unwrap();
        log.append(&group).unwrap();
    }
    log.sync().unwrap();
    assert_eq!(read_log(&disk, 0, None), [1, 2, 3]);
}

#[test]
fn a_cut_leaves_exactly_what_is_not_larger() {
    for after in 0..=13 {
        let (disk, mut log) = three_segments(&[]);
        let done = log.truncate_after(Zxid(after)).unwrap();
        let kept: Vec<i64> = (1..=after.min(12)).collect();
        assert_eq!(read_log(&disk, 0, None), kept, "{done:?}");
        let crashed = disk.after_crash_keeping(|_| 0);
        assert_eq!(read_log(&crashed, 0, None), kept, "a cut is durable");
        assert_eq!(done.cut.is_some(), after < 12 && after % 4 != 0, "{done:?}");
        // The log goes on behind the cut.
        let next = log.last().0 + 1;
        append(&mut log, [next]);
        assert_eq!(read_log(&disk, 0, None).len(), kept.len() + 1);
    }
}

/// ZOOKEEPER-1549, one half: Apache cuts behind the first record that is not smaller, so that one too many survives.
#[test]
fn a_cut_at_a_number_that_is_not_there_is_exact() {
    let disk = empty_disk();
    write_snapshot(&disk, Zxid::ZERO, Compression::None);
    let mut log = log(&disk, 0);
    append(&mut log, [1, 2, Zxid::new(1, 1).0, Zxid::new(1, 2).0]);
    log.truncate_after(Zxid(7)).unwrap();
    assert_eq!(read_log(&disk, 0, None), [1, 2]);
}

/// A segment without records, named beyond the cut, would hide later records from a reader.
#[test]
fn a_cut_removes_empty_segments_beyond_it() {
    let (disk, mut log) = three_segments(&[]);
    disk.put(&in_dir("log.d"), &b"ZKLG\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00"[..]);
    log.truncate_after(Zxid(12)).unwrap();
    assert_eq!(names(&disk), ["log.1", "log.5", "log.9", "snapshot.0"]);
}

/// Old servers logged some records in two segments.
#[test]
fn a_cut_finds_records_that_stand_in_two_segments() {
    let (disk, mut log) = three_segments(&[]);
    let twice = disk.contents(&in_dir("log.5")).unwrap();
    // 7 and 8 again, or just 7: then the cut is in the segment before.
    for copies in [2, 1] {
        let again = &twice[16 + 2 * 43..][..copies * 43];
        disk.put(&in_dir("log.5"), &twice[..]);
        disk.put(&in_dir("log.7"), [&twice[..16], again].concat());
        log.truncate_after(Zxid(7)).unwrap();
        assert_eq!(read_log(&disk, 0, None), (1..=7).collect::<Vec<_>>());
        assert_eq!(names(&disk), ["log.1", "log.5", "snapshot.0"]);
    }
}

/// ZOOKEEPER-1549, the other half: what is cut away comes back from a newer snapshot.
#[test]
fn a_cut_removes_snapshots_that_contain_what_is_cut() {
    let (disk, mut log) = three_segments(&[6, 8]);
    // A fuzzy one: named 5, but its digest section says that 7 is in it.
    let mut fuzzy =
        SnapshotWriter::create(Arc::new(disk.clone()), Path::new(DIR), Zxid(5), Compression::Gzip).unwrap();
    fuzzy.write(&body(b"")).unwrap();
    fuzzy.finish(Some(digest(Zxid(7))), None).unwrap();
    log.truncate_after(Zxid(6)).unwrap();
    // The digest section of the helper's snapshot.6 says 6, so it stays and 5 is not even looked at; then it goes.
    assert_eq!(names(&disk), ["log.1", "log.5", "snapshot.0", "snapshot.5.gz", "snapshot.6"]);
    log.truncate_after(Zxid(5)).unwrap();
    assert_eq!(names(&disk), ["log.1", "log.5", "snapshot.0"]);
    assert_eq!(must_start(&disk).report.last, Zxid(5));
}

/// The log ends at 12, and then the leader's state after 20 came: what is missing between cannot be seen later, if the
/// next record begins an epoch.
#[test]
fn a_cut_behind_a_received_state_leaves_nothing_older_to_start_from() {
    let (disk, mut log) = three_segments(&[6]);
    write_snapshot(&disk, Zxid(20), Compression::None);
    let done = log.truncate_after(Zxid(20)).unwrap();
    assert_eq!(done.outlived.len(), 5, "{done:?}");
    assert_eq!(names(&disk), ["snapshot.14"]);
    append(&mut log, [Zxid::new(1, 1).0]);
    assert_eq!(must_start(&disk).report.last, Zxid::new(1, 1));
    // Such a state at the end of our own log is no gap.
    let (disk, mut log) = three_segments(&[6]);
    write_snapshot(&disk, Zxid(12), Compression::None);
    assert_eq!(log.truncate_after(Zxid(12)).unwrap().outlived, Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_cut_without_a_snapshot_to_start_from_changes_nothing() {
    let disk = empty_disk();
    write_snapshot(&disk, Zxid(6), Compression::None);
    let mut log = log(&disk, 6);
    append(&mut log, 7..=9);
    let before = names(&disk);
    assert!(matches!(log.truncate_after(Zxid(5)), Err(TruncateError::NoSnapshot { .. })));
    assert_eq!((names(&disk), read_log(&disk, 0, None)), (before, vec![7, 8, 9]));
    append(&mut log, [10]);
}

#[test]
fn a_purge_keeps_what_three_starts_need() {
    let (disk, _log) = three_segments(&[2, 6, 7, 10, 11]);
    assert_eq!(purge(&disk, &dirs(), 4).unwrap().len(), 3);
    assert_eq!(names(&disk), ["log.5", "log.9", "snapshot.6", "snapshot.7", "snapshot.a", "snapshot.b"]);
    // Fewer than three are never kept.
    purge(&disk, &dirs(), 0).unwrap();
    assert_eq!(names(&disk), ["log.5", "log.9", "snapshot.7", "snapshot.a", "snapshot.b"]);
    assert_eq!(must_start(&disk).report.last, Zxid(12));
    assert!(purge(&disk, &dirs(), 3).unwrap().is_empty());
    assert_eq!(names(&disk.after_crash_keeping(|_| 0)), names(&disk), "a purge is durable");
}

#[test]
fn a_purge_counts_only_valid_snapshots() {
    let (disk, _log) = three_segments(&[2, 6]);
    for zxid in 8..=9 {
        disk.put(&in_dir(&format!("snapshot.{zxid}")), &b"ZKSN cut off"[..]);
    }
    assert!(purge(&disk, &dirs(), 3).unwrap().is_empty());

    let disk = empty_disk();
    disk.put(&in_dir("snapshot.8"), &b"ZKSN cut off"[..]);
    disk.put(&in_dir("snapshot.9"), &b"ZKSN cut off"[..]);
    append(&mut log(&disk, 0), 1..=3);
    assert!(purge(&disk, &dirs(), 3).unwrap().is_empty(), "without a valid snapshot nothing goes");
}

#[test]
fn epochs_are_read_and_written_as_apache_does() {
    let disk = empty_disk();
    let dir = Path::new(DIR);
    assert_eq!(EpochFile::Accepted.read(&disk, dir).unwrap(), None);
    EpochFile::Accepted.write(&disk, dir, 12).unwrap();
    assert_eq!(disk.contents(&in_dir("acceptedEpoch")).unwrap(), b"12");
    for (text, wanted) in
        [("7", Some(7)), ("7\n", Some(7)), ("7\r\nx", Some(7)), ("", None), ("-1", None), ("x", None)]
    {
        disk.put(&in_dir("currentEpoch"), text);
        assert_eq!(EpochFile::Current.read(&disk, dir).ok().flatten(), wanted, "{text:?}");
    }
    assert!(matches!(EpochFile::Current.read(&disk, dir), Err(EpochError::NotANumber { .. })));
    assert_eq!(names(&disk), ["acceptedEpoch", "currentEpoch"]);
}

#[test]
fn epochs_are_repaired_where_a_crash_explains_them() {
    let load = |accepted: Option<u32>, current: Option<u32>, last: Zxid| {
        let disk = empty_disk();
        for (name, value) in [("acceptedEpoch", accepted), ("currentEpoch", current)] {
            if let Some(value) = value {
                disk.put(&in_dir(name), value.to_string());
            }
        }
        let epochs = Epochs::load(&disk, Path::new(DIR), last)?;
        let again = Epochs::load(&disk.after_crash_keeping(|_| 0), Path::new(DIR), last)?;
        assert_eq!(epochs, again, "a repair is durable");
        Ok::<_, EpochError>((epochs.accepted, epochs.current))
    };
    assert_eq!(load(None, None, Zxid::NONE).unwrap(), (0, 0));
    assert_eq!(load(None, None, Zxid::new(3, 9)).unwrap(), (3, 3));
    assert_eq!(load(Some(5), Some(4), Zxid::new(3, 9)).unwrap(), (5, 4));
    assert_eq!(load(Some(5), Some(2), Zxid::new(3, 9)).unwrap(), (5, 3), "never more than the log says");
    assert!(matches!(load(Some(4), Some(5), Zxid::ZERO), Err(EpochError::AcceptedBelowCurrent { .. })));
    assert!(matches!(load(Some(2), Some(2), Zxid::new(3, 9)), Err(EpochError::LogAhead { .. })));
}

#[test]
fn a_folder_has_one_server() {
    let root = tempfile::tempdir().unwrap();
    for dirs in
        [Dirs::new(root.path(), None), Dirs::new(&root.path().join("data"), Some(&root.path().join("log")))]
    {
        let held = DirLock::acquire(&RealDisk, &dirs).unwrap();
        let error = DirLock::acquire(&RealDisk, &dirs).unwrap_err();
        assert!(matches!(error, LockError::Held { .. }));
        assert!(error.to_string().contains("another server is using this data directory"), "{error}");
        drop(held);
        drop(DirLock::acquire(&RealDisk, &dirs).unwrap());
    }
}

#[test]
fn an_empty_folder_may_vote_if_it_is_meant_to_be_empty() {
    for autocreate in [false, true] {
        for marker in [false, true] {
            let disk = empty_disk();
            if marker {
                disk.put(&Path::new(DATA).join("initialize"), &b""[..]);
            }
            let options = RecoverOptions { autocreate, ..RecoverOptions::default() };
            let shared: Arc<dyn Disk> = Arc::new(disk.clone());
            let Recovered::Empty(empty) = recover(&shared, &dirs(), &options, read_body).unwrap() else {
                panic!("nothing is there")
            };
            assert_eq!((empty.may_vote, empty.marker), (autocreate || marker, marker));
            assert_eq!(remove_initialize_marker(&disk, &dirs()).unwrap(), marker);
            assert!(!remove_initialize_marker(&disk, &dirs()).unwrap(), "it is gone");
        }
    }
}

#[test]
fn a_marker_beside_a_database_is_removed() {
    let (disk, _log) = three_segments(&[]);
    let marker = Path::new(DATA).join("initialize");
    disk.put(&marker, &b""[..]);
    must_start(&disk);
    assert_eq!(disk.contents(&marker), None);
}

#[test]
fn unfinished_files_are_removed_and_others_left_alone() {
    let (disk, _log) = three_segments(&[]);
    let kept = ["acceptedEpoch", "docent.lock", "notes.txt", "snapshot.6.tmp"];
    for name in ["new-log.d", "new-snapshot.6"].iter().chain(&kept) {
        disk.put(&in_dir(name), &b"1"[..]);
    }
    must_start(&disk);
    let left = names(&disk);
    assert!(!left.iter().any(|name| name.starts_with("new-")), "{left:?}");
    assert!(kept.iter().all(|name| left.iter().any(|left| left == name)), "{left:?}");
}

#[test]
fn files_in_the_wrong_folder_are_refused() {
    for name in ["/data/version-2/log.1", "/logs/version-2/snapshot.0"] {
        let disk = MemDisk::new();
        let dirs = Dirs::new(Path::new(DATA), Some(Path::new("/logs")));
        disk.put(Path::new(name), &b"x"[..]);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        match recover(&shared, &dirs, &RecoverOptions::default(), read_body) {
            Err(RecoverError::WrongFolder { path }) => assert_eq!(path, Path::new(name)),
            other => panic!("{other:?}"),
        }
    }
}

/// The real disk: two folders, several segments and snapshots, and a start from them.
#[test]
fn two_folders_on_the_real_disk() {
    let root = tempfile::tempdir().unwrap();
    let dirs = Dirs::new(&root.path().join("data"), Some(&root.path().join("log")));
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let _lock = DirLock::acquire(&*disk, &dirs).unwrap();
    let mut writer =
        SnapshotWriter::create(disk.clone(), &dirs.snapshots, Zxid(2), Compression::Snappy).unwrap();
    writer.write(&body(b"state")).unwrap();
    writer.finish(None, None).unwrap();
    let mut log = Log::new(disk.clone(), dirs.clone(), LogOptions::default(), Zxid(2));
    append(&mut log, 3..=5);
    log.roll().unwrap();
    append(&mut log, 6..=9);
    drop(log);
    let Recovered::Loaded(loaded) = recover(&disk, &dirs, &RecoverOptions::default(), read_body).unwrap()
    else {
        panic!("there is a snapshot")
    };
    assert_eq!(loaded.state.unwrap(), body(b"state"));
    let report = loaded.replay.finish().unwrap();
    assert_eq!((report.records, report.last, report.tail_cut), (7, Zxid(9), None));
}
