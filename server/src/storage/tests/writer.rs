//! The writer's threads: what they report, and that it is true.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use docent::Zxid;

use super::support::*;
use crate::storage::disk::{Access, Disk, DiskFile, DiskLock, Entry, RealDisk};
use crate::storage::{
    Compression, Dirs, Epochs, GroupStats, MemDisk, Order, Report, SnapshotFailure, Writer, WriterError,
    WriterOptions,
};

/// Longer than any of this takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Running {
    pub(super) writer: Writer,
    reports: Receiver<Report>,
}

impl Running {
    pub(super) fn new(disk: Arc<dyn Disk>, last: i64, change: impl FnOnce(&mut WriterOptions)) -> Self {
        let mut options = WriterOptions { log: small_log(), ..WriterOptions::default() };
        change(&mut options);
        let (say, reports) = channel();
        let report = move |report| drop(say.send(report));
        let writer = Writer::start(disk, dirs(), options, Zxid(last), None, report).unwrap();
        Running { writer, reports }
    }

    pub(super) fn send(&self, order: Order) {
        self.writer.orders().blocking_send(order).expect("the writer lives");
    }

    fn append(&self, zxid: i64) {
        self.send(Order::Append { order: zxid as u64, record: record(Zxid(zxid), &[1; 20]) });
    }

    pub(super) fn next(&self) -> Report {
        self.reports.recv_timeout(PATIENCE).expect("a report comes")
    }

    /// Waits until this order is durable.
    fn synced(&self, wanted: u64) -> Option<GroupStats> {
        loop {
            match self.next() {
                Report::Synced { order, group } if order == wanted => return group,
                Report::Synced { order, .. } if order < wanted => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(super) fn stop(self) -> Vec<Report> {
        self.send(Order::Stop);
        self.writer.join();
        self.reports.into_iter().collect()
    }
}

fn disk_with_snapshot() -> MemDisk {
    let disk = empty_disk();
    write_snapshot(&disk, Zxid::ZERO, Compression::None);
    disk
}

#[test]
fn what_is_reported_is_durable() {
    let disk = disk_with_snapshot();
    let running = Running::new(Arc::new(disk.clone()), 0, |_| {});
    for round in 0..20 {
        for zxid in round * 50 + 1..=round * 50 + 50 {
            running.append(zxid);
        }
        running.synced((round * 50 + 50) as u64);
        assert!(must_start(&disk.after_crash_keeping(|_| 0)).report.last.0 >= round * 50 + 50);
    }
    assert!(matches!(running.stop()[..], [Report::Stopped]));
    assert_eq!(must_start(&disk).records.len(), 1000);
}

/// Random orders against a machine that stops at a random moment: every report was true.
#[test]
fn no_report_is_ever_taken_back() {
    for seed in 0..150 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let disk = disk_with_snapshot();
        disk.stop_after(rng.u64(..80));
        let running = Running::new(Arc::new(disk.clone()), 0, |options| {
            options.group_records_max = [1, 3, 1000][rng.usize(..3)];
            options.log.size_limit_bytes = rng.bool().then_some(300);
        });
        let orders = running.writer.orders().clone();
        for zxid in 1..=200i64 {
            let extra = match rng.u8(..12) {
                0 => vec![Order::Roll],
                1 => snapshot_orders(zxid - 1, rng.usize(..=3)),
                2 => vec![Order::SaveEpochs { order: zxid as u64, accepted: zxid as u32, current: 1 }],
                3 => vec![Order::Purge { retain: 3 }],
                _ => Vec::new(),
            };
            // Sending fails once the writer has failed.
            for order in extra {
                drop(orders.blocking_send(order));
            }
            let record = record(Zxid(zxid), &vec![3; rng.usize(..50)]);
            if orders.blocking_send(Order::Append { order: zxid as u64, record }).is_err() {
                break;
            }
        }
        drop(orders);
        let reports = running.finish();
        let durable = reports.iter().filter_map(|report| match report {
            Report::Synced { order, group: Some(_) } => Some(*order as i64),
            _ => None,
        });
        let durable = durable.max().unwrap_or(0);
        let start = must_start(&disk.after_crash(&mut rng));
        assert!(
            start.report.last.0 >= durable,
            "seed {seed}: {durable} was durable, {} is there",
            start.report.last
        );
        let ends = reports.iter().filter(|report| matches!(report, Report::Failed { .. } | Report::Stopped));
        assert_eq!(ends.count(), 1, "seed {seed}: one last word");
    }
}

/// A snapshot, or the first `count` orders of one.
fn snapshot_orders(zxid: i64, count: usize) -> Vec<Order> {
    let piece = Order::SnapshotPiece(Bytes::from(body(b"abc")));
    let end = Order::SnapshotEnd { digest: None, last_processed: None };
    [Order::SnapshotBegin { zxid: Zxid(zxid) }, piece, end].into_iter().take(count).collect()
}

impl Running {
    /// Closes the line without a stop and collects what is said.
    pub(super) fn finish(self) -> Vec<Report> {
        self.writer.join();
        self.reports.into_iter().collect()
    }
}

#[test]
fn what_waits_is_written_at_once() {
    let gate = Gate::new(disk_with_snapshot());
    let running = Running::new(Arc::new(gate.clone()), 0, |_| {});
    running.append(1);
    gate.arrive_at_sync();
    for zxid in 2..=100 {
        running.append(zxid);
    }
    gate.open();
    assert_eq!(running.synced(1).unwrap().records, 1);
    let group = running.synced(100).unwrap();
    assert_eq!(
        (group.records, group.bytes),
        (99, 99 * (20 + 20 + 13)),
        "one write and one sync for all that waited"
    );
    running.stop();
}

#[test]
fn groups_are_bounded() {
    let disk = disk_with_snapshot();
    let gate = Gate::new(disk);
    let running = Running::new(Arc::new(gate.clone()), 0, |options| {
        options.group_records_max = 10;
        options.group_bytes_max = 300;
    });
    running.append(1);
    gate.arrive_at_sync();
    for zxid in 2..=61 {
        running.append(zxid);
    }
    gate.open();
    let mut records = 0;
    while records < 61 {
        let Report::Synced { group: Some(group), .. } = running.next() else { panic!("a group") };
        assert!(group.records <= 6 && group.bytes < 300 + 53, "{group:?}");
        records += group.records;
    }
    running.stop();
}

#[test]
fn a_failed_sync_is_reported_once_and_ends_it() {
    let disk = disk_with_snapshot();
    let running = Running::new(Arc::new(disk.clone()), 0, |_| {});
    running.append(1);
    running.synced(1);
    disk.fail_sync_after(0);
    running.append(2);
    match running.next() {
        Report::Failed { error } => assert!(error.to_string().contains("cannot sync"), "{error}"),
        other => panic!("{other:?}"),
    }
    let orders = running.writer.orders().clone();
    assert!(orders.blocking_send(Order::Roll).is_err(), "nobody takes orders any more");
    drop(orders);
    assert!(running.finish().is_empty());
    assert_eq!(must_start(&disk.after_crash_keeping(|_| 0)).report.last, Zxid(1));
}

#[test]
fn a_full_disk_is_told_apart() {
    let disk = disk_with_snapshot();
    let running = Running::new(Arc::new(disk.clone()), 0, |_| {});
    disk.set_capacity(Some(0));
    running.append(1);
    match running.next() {
        Report::Failed { error } => assert!(error.is_disk_full(), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_record_out_of_order_is_a_failure() {
    let running = Running::new(Arc::new(disk_with_snapshot()), 7, |_| {});
    running.append(7);
    assert!(matches!(running.next(), Report::Failed { error: WriterError::Log(_) }));
}

#[test]
fn epochs_come_after_the_records_before_them() {
    let disk = disk_with_snapshot();
    let gate = Gate::new(disk.clone());
    let running = Running::new(Arc::new(gate.clone()), 0, |_| {});
    running.append(1);
    gate.arrive_at_sync();
    running.append(2);
    running.send(Order::SaveEpochs { order: 3, accepted: 5, current: 4 });
    gate.open();
    assert!(running.synced(1).is_some() && running.synced(2).is_some());
    assert_eq!(running.synced(3), None);
    let crashed = disk.after_crash_keeping(|_| 0);
    let epochs = Epochs::load(&crashed, Path::new(DIR), Zxid(2)).unwrap();
    assert_eq!(epochs, Epochs { accepted: 5, current: 4 });
    assert_eq!(must_start(&crashed).report.last, Zxid(2));
}

#[test]
fn a_snapshot_appears_when_it_is_done() {
    let disk = disk_with_snapshot();
    let running = Running::new(Arc::new(disk.clone()), 0, |_| {});
    running.append(1);
    running.synced(1);
    running.send(Order::SnapshotBegin { zxid: Zxid(1) });
    let body = body(&[9; 5000]);
    let pieces: Vec<Bytes> = body.chunks(1000).map(Bytes::copy_from_slice).collect();
    let count = pieces.len() as u64;
    for (index, piece) in pieces.into_iter().enumerate() {
        running.send(Order::SnapshotPiece(piece));
        match running.next() {
            Report::SnapshotProgress { zxid, pieces_written } => {
                assert_eq!((zxid, pieces_written), (Zxid(1), index as u64 + 1));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(count > 3);
    assert_eq!(must_start(&disk.after_crash_keeping(|max| max)).snapshot, Zxid(0), "not before its end");
    running.send(Order::SnapshotEnd { digest: Some(digest(Zxid(1))), last_processed: Some(Zxid(1)) });
    assert!(matches!(running.next(), Report::SnapshotDone { zxid: Zxid(1), .. }));
    assert_eq!(must_start(&disk.after_crash_keeping(|_| 0)).snapshot, Zxid(1));
    running.stop();
}

#[test]
fn a_snapshot_given_up_leaves_nothing() {
    let disk = disk_with_snapshot();
    let running = Running::new(Arc::new(disk.clone()), 0, |_| {});
    for end in [Order::SnapshotAbort, Order::SnapshotBegin { zxid: Zxid(4) }, Order::Stop] {
        running.send(Order::SnapshotBegin { zxid: Zxid(3) });
        running.send(Order::SnapshotPiece(Bytes::from_static(b"abc")));
        assert!(matches!(running.next(), Report::SnapshotProgress { .. }));
        running.send(end);
    }
    running.finish();
    let names: Vec<String> = disk.list(Path::new(DIR)).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["snapshot.0"]);
}

/// The snapshot thread hangs in its sync; the log does not notice.
#[test]
fn the_log_does_not_wait_for_a_snapshot() {
    let gate = Gate::new(disk_with_snapshot());
    gate.only_sync_all();
    let running = Running::new(Arc::new(gate.clone()), 0, |options| options.pieces_max = 4);
    running.append(1);
    // The first segment is made with such a sync too.
    gate.arrive_at_sync();
    gate.open();
    running.synced(1);
    running.send(Order::SnapshotBegin { zxid: Zxid(1) });
    running.send(Order::SnapshotPiece(Bytes::from(body(b""))));
    assert!(matches!(running.next(), Report::SnapshotProgress { .. }));
    running.send(Order::SnapshotEnd { digest: None, last_processed: None });
    gate.arrive_at_sync();
    for zxid in 2..=10 {
        running.append(zxid);
        running.synced(zxid as u64);
    }
    // More pieces than may wait: that snapshot is given up, the log goes on.
    running.send(Order::SnapshotBegin { zxid: Zxid(10) });
    for _ in 0..8 {
        running.send(Order::SnapshotPiece(Bytes::from_static(b"piece")));
    }
    match running.next() {
        Report::SnapshotFailed { error: SnapshotFailure::Overrun { max: 4 } } => {}
        other => panic!("{other:?}"),
    }
    running.append(11);
    running.synced(11);
    gate.open();
    assert!(matches!(running.next(), Report::SnapshotDone { zxid: Zxid(1), .. }));
    running.stop();
}

#[test]
fn a_snapshot_that_fails_does_not_stop_the_log() {
    let disk = disk_with_snapshot();
    let running = Running::new(Arc::new(disk.clone()), 0, |_| {});
    running.append(1);
    running.synced(1);
    running.send(Order::SnapshotBegin { zxid: Zxid(1) });
    running.send(Order::SnapshotPiece(Bytes::from(body(b""))));
    assert!(matches!(running.next(), Report::SnapshotProgress { .. }));
    disk.fail_sync_after(0);
    running.send(Order::SnapshotEnd { digest: None, last_processed: None });
    assert!(matches!(running.next(), Report::SnapshotFailed { error: SnapshotFailure::Disk(_) }));
    running.append(2);
    running.synced(2);
    running.stop();
    assert_eq!(must_start(&disk).snapshot, Zxid(0));
}

#[test]
fn a_cut_ends_the_snapshot_and_goes_back() {
    let disk = disk_with_snapshot();
    let running = Running::new(Arc::new(disk.clone()), 0, |_| {});
    for zxid in 1..=9 {
        running.append(zxid);
    }
    running.synced(9);
    running.send(Order::SnapshotBegin { zxid: Zxid(9) });
    running.send(Order::SnapshotPiece(Bytes::from(body(b""))));
    assert!(matches!(running.next(), Report::SnapshotProgress { .. }));
    running.send(Order::Truncate { order: 10, after: Zxid(4) });
    running.send(Order::SnapshotEnd { digest: None, last_processed: None });
    running.send(Order::Append { order: 11, record: record(Zxid::new(1, 1), b"new") });
    match running.next() {
        Report::SnapshotFailed { error: SnapshotFailure::Truncated { zxid } } => assert_eq!(zxid, Zxid(9)),
        other => panic!("{other:?}"),
    }
    running.synced(11);
    running.stop();
    let start = must_start(&disk);
    assert_eq!((start.snapshot, zxids(&start.records)), (Zxid(0), vec![1, 2, 3, 4, Zxid::new(1, 1).0]));
}

#[test]
fn a_cut_that_is_impossible_is_refused_and_the_log_goes_on() {
    let disk = empty_disk();
    write_snapshot(&disk, Zxid(5), Compression::None);
    let running = Running::new(Arc::new(disk.clone()), 5, |_| {});
    running.append(6);
    running.synced(6);
    running.send(Order::Truncate { order: 7, after: Zxid(4) });
    assert!(matches!(running.next(), Report::TruncateRefused { order: 7, after: Zxid(4) }));
    running.append(7);
    running.synced(7);
    running.stop();
    assert_eq!(must_start(&disk).report.last, Zxid(7));
}

#[test]
fn a_purge_is_reported() {
    let disk = disk_with_snapshot();
    for zxid in 1..=4 {
        write_snapshot(&disk, Zxid(zxid), Compression::None);
    }
    let running = Running::new(Arc::new(disk.clone()), 4, |_| {});
    running.send(Order::Purge { retain: 3 });
    match running.next() {
        Report::Purged { removed } => assert_eq!(removed, [in_dir("snapshot.0"), in_dir("snapshot.1")]),
        other => panic!("{other:?}"),
    }
    running.stop();
}

#[test]
fn it_runs_on_the_real_disk() {
    let root = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let dirs = Dirs::new(root.path(), None);
    disk.create_dir_all(&dirs.logs).unwrap();
    let (say, reports) = channel();
    let report = move |report| drop(say.send(report));
    let writer =
        Writer::start(disk, dirs.clone(), WriterOptions::default(), Zxid::ZERO, None, report).unwrap();
    let running = Running { writer, reports };
    for zxid in 1..=500 {
        running.append(zxid);
    }
    running.synced(500);
    let reports = running.stop();
    assert!(matches!(reports[..], [Report::Stopped]));
    let file = std::fs::metadata(dirs.logs.join("log.1")).unwrap();
    assert_eq!(file.len(), 16 + 500 * (20 + 20 + 13), "a stop gives the unused room back");
}

/// A disk on which some syncs of files stand still at a gate: the test waits for one to arrive, and lets it go on.
#[derive(Clone, Debug)]
struct Gate {
    disk: MemDisk,
    shared: Arc<(Mutex<GateState>, Condvar)>,
}

#[derive(Debug)]
struct GateState {
    /// Syncs that will stop here.
    stops: u32,
    /// Syncs of this kind stop: those of a whole file, or those of data.
    whole_file: bool,
    standing: bool,
    go: bool,
}

impl Gate {
    /// The first sync of data stops at the gate.
    fn new(disk: MemDisk) -> Self {
        let state = GateState { stops: 1, whole_file: false, standing: false, go: false };
        Gate { disk, shared: Arc::new((Mutex::new(state), Condvar::new())) }
    }

    /// The first two syncs of whole files stop, and none of data.
    fn only_sync_all(&self) {
        let mut state = self.shared.0.lock().unwrap();
        (state.stops, state.whole_file) = (2, true);
    }

    fn arrive_at_sync(&self) {
        let state = self.shared.0.lock().unwrap();
        let wait = self.shared.1.wait_timeout_while(state, PATIENCE, |state| !state.standing).unwrap();
        assert!(!wait.1.timed_out(), "no sync came to the gate");
    }

    fn open(&self) {
        self.shared.0.lock().unwrap().go = true;
        self.shared.1.notify_all();
    }

    fn pass(&self, whole_file: bool) {
        let mut state = self.shared.0.lock().unwrap();
        if state.stops == 0 || state.whole_file != whole_file {
            return;
        }
        state.stops -= 1;
        state.standing = true;
        self.shared.1.notify_all();
        let mut state = self.shared.1.wait_timeout_while(state, PATIENCE, |state| !state.go).unwrap().0;
        (state.standing, state.go) = (false, false);
    }
}

impl Disk for Gate {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(dir)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(GateFile { file: self.disk.open(path, access)?, gate: self.clone() }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.disk.try_lock(path)
    }
}

#[derive(Debug)]
struct GateFile {
    file: Box<dyn DiskFile>,
    gate: Gate,
}

impl DiskFile for GateFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.allocate(offset, len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass(false);
        self.file.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.gate.pass(true);
        self.file.sync_all()
    }
}
