//! Faults that Apache's servers had with their disks, by their numbers: each test fails when the rule is removed that
//! avoids the fault here. Those of agreement stand in `zab::stories`.

use std::path::Path;
use std::sync::Arc;

use docent::Zxid;

use super::support::*;
use super::writer::Running;
use crate::storage::disk::Disk;
use crate::storage::recover::{RecoverError, RecoverOptions};
use crate::storage::snapshot::SnapshotWriter;
use crate::storage::{Compression, Epochs, Log, MemDisk, Order, Report};

/// An order to the disk, by what it is.
type Named = (&'static str, fn() -> Order);

/// ZOOKEEPER-1653, 2354: a crash between a leader's state and `currentEpoch` left a server that would not start. Here such a
/// server follows the epoch of what it holds, whatever of the two files had been written.
#[test]
fn a_history_without_its_epoch_is_followed_at_the_next_start() {
    let (before, after) = (Epochs { accepted: 2, current: 1 }, Epochs { accepted: 2, current: 2 });
    let last = Zxid::new(2, 3);
    for operations in 0..12 {
        let disk = empty_disk();
        write_snapshot(&disk, Zxid::new(1, 9), Compression::None);
        before.save(&disk, Path::new(DIR), None).unwrap();
        let mut received =
            SnapshotWriter::create_received(Arc::new(disk.clone()), Path::new(DIR), last, Compression::None)
                .unwrap();
        received.write(&body(b"theirs")).unwrap();
        received.complete(Some(digest(last)), None).unwrap();
        received.publish().unwrap();
        disk.stop_after(operations);
        let saved = after.save(&disk, Path::new(DIR), Some(before)).is_ok();
        for keep in [0, usize::MAX] {
            let crashed = disk.after_crash_keeping(|most| most.min(keep));
            let start = must_start(&crashed);
            assert_eq!(start.report.last, last);
            let found = Epochs::load(&crashed, Path::new(DIR), start.report.last).unwrap();
            assert_eq!(found, after, "after {operations} operations, saved: {saved}");
        }
    }
}

/// ZOOKEEPER-1653, the other side: the promise is written first, so that no crash leaves `currentEpoch` above it.
#[test]
fn no_crash_leaves_an_epoch_that_is_followed_and_not_promised() {
    let (before, after) = (Epochs { accepted: 1, current: 1 }, Epochs { accepted: 2, current: 2 });
    for operations in 0..20 {
        let disk = empty_disk();
        before.save(&disk, Path::new(DIR), None).unwrap();
        disk.stop_after(operations);
        let saved = after.save(&disk, Path::new(DIR), Some(before)).is_ok();
        for keep in [0, usize::MAX] {
            let crashed = disk.after_crash_keeping(|most| most.min(keep));
            let found = Epochs::load(&crashed, Path::new(DIR), Zxid::new(1, 1)).unwrap();
            assert!(found.accepted >= found.current && (!saved || found == after), "{operations}: {found:?}");
        }
    }
}

/// ZOOKEEPER-2325, 3231: a server whose snapshots were gone or empty began with an empty database, and led others with it.
/// Here an empty database begins only where no record is.
#[test]
fn records_without_a_snapshot_are_no_empty_database() {
    let with = |snapshot: Option<&[u8]>, records: i64| {
        let disk = empty_disk();
        write_snapshot(&disk, Zxid::ZERO, Compression::None);
        let mut log = Log::new(Arc::new(disk.clone()), dirs(), small_log(), Zxid::ZERO);
        super::folders::append(&mut log, 1..=records);
        disk.remove(&in_dir("snapshot.0")).unwrap();
        if let Some(bytes) = snapshot {
            disk.put(&in_dir("snapshot.0"), bytes);
        }
        start(&disk, &RecoverOptions::default())
    };
    assert!(matches!(with(None, 0), Ok(None)), "a new server");
    assert!(matches!(with(None, 3), Err(RecoverError::MissingSnapshot { .. })));
    assert!(matches!(with(Some(b""), 3), Err(RecoverError::NoSoundSnapshot { .. })));
    assert!(matches!(with(Some(b""), 0), Err(RecoverError::NoSoundSnapshot { .. })));
    assert!(matches!(with(Some(b"ZKSN\0\0\0\x02"), 3), Err(RecoverError::NoSoundSnapshot { .. })));
}

/// ZOOKEEPER-2247, 3701, 2307, 4269: a write to the log, a cut or the renaming of an epoch failed, and the server went on.
/// Here the first failure of any of them is the last word of the disk, although the next attempt would succeed: nothing
/// behind it is reported, and nobody takes orders any more.
#[test]
fn nothing_is_done_behind_an_order_that_failed() {
    let orders: [Named; 3] = [
        ("a record", || Order::Append { order: 10, record: record(Zxid(6), &[1; 20]) }),
        ("a cut", || Order::Truncate { order: 10, after: Zxid(3) }),
        ("epochs", || Order::SaveEpochs { order: 10, accepted: 7, current: 7 }),
    ];
    for (name, order) in orders {
        let mut failures = 0;
        for syncs in 0..20 {
            let disk = five_records();
            disk.fail_sync_after(syncs);
            if !ends_with(&disk, order()) {
                break;
            }
            failures += 1;
        }
        assert!(failures > 0, "{name}: a sync of it can fail");
        let disk = five_records();
        disk.leave_room(0);
        // A cut needs no room.
        assert_eq!(ends_with(&disk, order()), name != "a cut", "{name}, on a full disk");
    }
}

fn five_records() -> MemDisk {
    let disk = empty_disk();
    write_snapshot(&disk, Zxid::ZERO, Compression::None);
    let mut log = Log::new(Arc::new(disk.clone()), dirs(), small_log(), Zxid::ZERO);
    super::folders::append(&mut log, 1..=5);
    log.roll().unwrap();
    disk
}

/// Whether the order fails. Then it is told once, and the writer has ended.
fn ends_with(disk: &MemDisk, order: Order) -> bool {
    let running = Running::new(Arc::new(disk.clone()), 5, |_| {});
    running.send(order);
    let said = running.next();
    disk.set_capacity(None);
    let line = running.writer.orders().clone();
    match said {
        Report::Failed { .. } => {
            let later = Order::SaveEpochs { order: 11, accepted: 8, current: 8 };
            let taken = line.blocking_send(later).is_ok();
            drop(line);
            assert!(!taken, "an order is taken behind a failure");
            assert!(running.finish().is_empty(), "something is said behind the last word");
            let found = Epochs::load(&disk.after_crash_keeping(|_| 0), Path::new(DIR), Zxid(3)).unwrap();
            assert!(found.accepted != 8, "an order behind a failure was carried out");
            true
        }
        Report::Synced { order: 10, .. } => {
            drop(line);
            running.stop();
            false
        }
        other => panic!("{other:?}"),
    }
}
