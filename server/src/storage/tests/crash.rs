//! Crashes at random moments on a disk that loses what was not synced: whatever was called durable is there after the next
//! start, and whatever is there was once asked for. A failing run names its seed.

use std::path::Path;
use std::sync::Arc;

use docent::Zxid;

use super::support::*;
use crate::storage::disk::Disk;
use crate::storage::epoch_file::{EpochFile, Epochs};
use crate::storage::log::TruncateError;
use crate::storage::purge::purge;
use crate::storage::record::PAYLOAD_MAX;
use crate::storage::{Compression, Group, Log, LogOptions, MemDisk, Record, SnapshotWriter};

/// Lives of a server: each ends with a crash, and the next one starts from what that left.
const SEEDS: u64 = 300;
const LIVES: usize = 6;
const STEPS_MAX: usize = 40;

#[test]
fn nothing_durable_is_lost_and_nothing_is_invented() {
    for seed in 0..SEEDS {
        let mut story = Story::new(seed);
        for _ in 0..LIVES {
            story.live();
            story.crash_and_check();
        }
    }
}

/// What a server's disk holds, and what it may.
struct Story {
    seed: u64,
    rng: fastrand::Rng,
    disk: MemDisk,
    /// Every record that may be found, in order; what a cut has taken away durably is gone from it.
    issued: Vec<Record>,
    /// How many of them are durable.
    durable: usize,
    /// A cut that was begun: records from here on may be gone.
    cut_to: Option<usize>,
    epochs: Epochs,
    /// Epochs that were asked for and not reported.
    epochs_asked: Epochs,
}

/// The machine has stopped.
struct Stopped;

impl Story {
    fn new(seed: u64) -> Self {
        let disk = empty_disk();
        write_snapshot(&disk, Zxid::ZERO, Compression::None);
        let rng = fastrand::Rng::with_seed(seed);
        let (epochs, epochs_asked) = (Epochs::default(), Epochs::default());
        epochs.save(&disk, Path::new(DIR), None).unwrap();
        Story { seed, rng, disk, issued: Vec::new(), durable: 0, cut_to: None, epochs, epochs_asked }
    }

    fn last(&self) -> Zxid {
        self.issued.last().map_or(Zxid::ZERO, |record| record.zxid)
    }

    /// Work until the machine stops, or for a while.
    fn live(&mut self) {
        if self.rng.u8(..4) > 0 {
            self.disk.stop_after(self.rng.u64(..60));
        }
        let options = LogOptions {
            prealloc_bytes: [0, 64, 1024][self.rng.usize(..3)],
            size_limit_bytes: (self.rng.bool()).then_some(400),
            ..LogOptions::default()
        };
        let mut log = Log::new(Arc::new(self.disk.clone()), dirs(), options, self.last());
        for _ in 0..self.rng.usize(1..STEPS_MAX) {
            if self.step(&mut log).is_err() {
                return;
            }
        }
    }

    fn step(&mut self, log: &mut Log) -> Result<(), Stopped> {
        match self.rng.u8(..20) {
            0..10 => self.append(log),
            10..12 => log.roll().map(|()| self.durable = self.issued.len()).map_err(|_| Stopped),
            12..14 => self.truncate(log),
            14..17 => self.snapshot(),
            17 => purge(&self.disk, &dirs(), 3).map(drop).map_err(|_| Stopped),
            _ => self.save_epochs(),
        }
    }

    fn append(&mut self, log: &mut Log) -> Result<(), Stopped> {
        let mut group = Group::new(self.last(), PAYLOAD_MAX);
        for _ in 0..self.rng.usize(1..5) {
            let mut next = self.last().next().unwrap();
            if self.rng.u8(..12) == 0 {
                next = Zxid::new(next.epoch() + 1, 1);
            }
            let record = record(next, &vec![self.rng.u8(..); self.rng.usize(..60)]);
            group.push(&record).unwrap();
            self.issued.push(record);
        }
        log.append(&group).map_err(|_| Stopped)?;
        log.sync().map_err(|_| Stopped)?;
        self.durable = self.issued.len();
        Ok(())
    }

    /// Goes back, but not behind what a snapshot could restore.
    fn truncate(&mut self, log: &mut Log) -> Result<(), Stopped> {
        let keep = self.durable - self.rng.usize(..=self.durable.min(6));
        let after = if keep == 0 { Zxid::ZERO } else { self.issued[keep - 1].zxid };
        self.cut_to = Some(keep);
        match log.truncate_after(after) {
            Ok(_) => {
                self.issued.truncate(keep);
                self.durable = keep;
            }
            Err(TruncateError::NoSnapshot { .. }) => {}
            Err(TruncateError::Log(_)) => return Err(Stopped),
        }
        self.cut_to = None;
        Ok(())
    }

    fn snapshot(&mut self) -> Result<(), Stopped> {
        let zxid = self.last();
        let compression = [Compression::None, Compression::Gzip, Compression::Snappy][self.rng.usize(..3)];
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let mut writer =
            SnapshotWriter::create(disk, Path::new(DIR), zxid, compression).map_err(|_| Stopped)?;
        writer.write(&body(&zxid.0.to_be_bytes())).map_err(|_| Stopped)?;
        if self.rng.u8(..5) == 0 {
            return Ok(());
        }
        writer.finish(Some(digest(zxid)), None).map(drop).map_err(|_| Stopped)
    }

    fn save_epochs(&mut self) -> Result<(), Stopped> {
        let accepted = self.epochs.accepted + self.rng.u32(..3);
        let current = self.rng.u32(self.epochs.current..=accepted);
        self.epochs_asked = Epochs { accepted, current };
        self.epochs_asked.save(&self.disk, Path::new(DIR), Some(self.epochs)).map_err(|_| Stopped)?;
        self.epochs = self.epochs_asked;
        Ok(())
    }

    fn crash_and_check(&mut self) {
        self.disk = self.disk.after_crash(&mut self.rng);
        let seed = self.seed;
        self.check_headers();
        let start = start(&self.disk, &Default::default())
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"))
            .unwrap_or_else(|| panic!("seed {seed}: the snapshot is gone"));
        let from = match start.snapshot {
            Zxid::ZERO => 0,
            zxid => {
                1 + self
                    .issued
                    .iter()
                    .position(|record| record.zxid == zxid)
                    .unwrap_or_else(|| panic!("seed {seed}: snapshot {zxid} of a state that never was"))
            }
        };
        let found = from + start.records.len();
        let must = self.cut_to.map_or(self.durable, |keep| keep.min(self.durable));
        assert!(found >= must, "seed {seed}: {must} records were durable, {found} are there");
        assert!(found <= self.issued.len(), "seed {seed}: {found} of {} records", self.issued.len());
        assert!(start.records == self.issued[from..found], "seed {seed}: other records than were written");
        self.issued.truncate(found);
        self.durable = found;
        self.cut_to = None;
        self.check_epochs();
    }

    /// An Apache server refuses a folder in which a log has no header, or a snapshot no end.
    fn check_headers(&self) {
        for entry in self.disk.list(Path::new(DIR)).unwrap() {
            let bytes = self.disk.contents(&in_dir(&entry.name)).unwrap();
            let good = match entry.name.split('.').collect::<Vec<_>>()[..] {
                ["log", ..] => bytes.starts_with(b"ZKLG\x00\x00\x00\x02") && bytes.len() >= 16,
                ["snapshot", _] => bytes.ends_with(b"\x00\x00\x00\x01/"),
                _ => true,
            };
            assert!(good, "seed {}: {} is not whole", self.seed, entry.name);
        }
    }

    /// Each number is the reported or the asked one, and the promise is never the smaller one.
    fn check_epochs(&mut self) {
        let dir = Path::new(DIR);
        let read = |file: EpochFile| file.read(&self.disk, dir).unwrap().unwrap();
        let accepted = read(EpochFile::Accepted);
        let current = read(EpochFile::Current);
        let seed = self.seed;
        assert!([self.epochs.accepted, self.epochs_asked.accepted].contains(&accepted), "seed {seed}");
        assert!([self.epochs.current, self.epochs_asked.current].contains(&current), "seed {seed}");
        assert!(accepted >= current, "seed {seed}: accepted {accepted} < current {current}");
        self.epochs = Epochs { accepted, current };
        self.epochs_asked = self.epochs;
    }
}

/// After a failed sync the log takes nothing more, even if the next sync would succeed; the records of that sync were never
/// reported, and those before it are there.
#[test]
fn a_failed_sync_is_the_end() {
    for syncs in 0..6 {
        let disk = empty_disk();
        write_snapshot(&disk, Zxid::ZERO, Compression::None);
        disk.fail_sync_after(syncs);
        let mut log = Log::new(Arc::new(disk.clone()), dirs(), small_log(), Zxid::ZERO);
        let mut durable = 0;
        let mut failed = false;
        for number in 1..=8 {
            let mut group = Group::new(Zxid(number - 1), PAYLOAD_MAX);
            group.push(&record(Zxid(number), b"x")).unwrap();
            let outcome = log.append(&group).and_then(|()| log.sync());
            assert!(!(failed && outcome.is_ok()), "it went on after a failed sync");
            match outcome {
                Ok(()) => durable = number,
                Err(_) => failed = true,
            }
        }
        assert!(failed);
        let start = must_start(&disk.after_crash_keeping(|_| 0));
        assert_eq!(start.report.last.0, durable, "failed sync {syncs}");
    }
}

/// A full disk stops the log with an error that says so, and costs nothing that was durable.
#[test]
fn a_full_disk_is_a_typed_error_and_keeps_what_is_durable() {
    for room in [0, 1, 10, 40, 200, 3000, 5000] {
        let disk = empty_disk();
        write_snapshot(&disk, Zxid::ZERO, Compression::None);
        disk.set_capacity(Some(disk.contents(&in_dir("snapshot.0")).unwrap().len() + room));
        let mut log = Log::new(Arc::new(disk.clone()), dirs(), small_log(), Zxid::ZERO);
        let mut durable = 0;
        let error = loop {
            let mut group = Group::new(Zxid(durable), PAYLOAD_MAX);
            group.push(&record(Zxid(durable + 1), &[7; 20])).unwrap();
            match log.append(&group).and_then(|()| log.sync()) {
                Ok(()) => durable += 1,
                Err(error) => break error,
            }
        };
        let crate::storage::LogError::Disk(error) = error else { panic!("{error}") };
        assert!(error.is_disk_full(), "{error}");
        assert!(error.to_string().contains("free space"), "{error}");
        let after = disk.after_crash_keeping(|_| 0);
        assert_eq!(must_start(&after).report.last.0, durable, "room for {room} bytes");
    }
}
