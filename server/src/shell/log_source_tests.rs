//! Logs with and without gaps, on a disk in memory.

use std::path::Path;

use super::*;
use crate::storage::{Compression, Group, Log, LogOptions, MemDisk, Record, SnapshotWriter};

const LINK: LinkId = LinkId(1);
const ALL: usize = usize::MAX;

fn zxid((epoch, counter): (u32, u32)) -> Zxid {
    Zxid::new(epoch, counter)
}

struct Folder {
    disk: Arc<MemDisk>,
    dirs: Dirs,
    log: Log,
}

impl Folder {
    fn new() -> Self {
        let disk = Arc::new(MemDisk::new());
        let dirs = Dirs::new(Path::new("/data"), None);
        disk.create_dir_all(&dirs.logs).unwrap();
        let options = LogOptions { prealloc_bytes: 4_096, ..LogOptions::default() };
        let log = Log::new(disk.clone(), dirs.clone(), options, Zxid::ZERO);
        Folder { disk, dirs, log }
    }

    /// Adds records of 100 bytes, then ends the segment.
    fn records(mut self, epoch: u32, counters: std::ops::RangeInclusive<u32>) -> Self {
        let mut group = Group::new(self.log.last(), 1 << 20);
        for counter in counters {
            let place = zxid((epoch, counter));
            let mut payload = vec![1; 12];
            payload.extend_from_slice(&place.0.to_be_bytes());
            payload.resize(100, 2);
            group.push(&Record::new(Bytes::from(payload)).unwrap()).unwrap();
        }
        self.log.append(&group).unwrap();
        self.log.roll().unwrap();
        self
    }

    fn snapshot(self, at: (u32, u32)) -> Self {
        let disk: Arc<dyn Disk> = self.disk.clone();
        let mut writer =
            SnapshotWriter::create(disk, &self.dirs.snapshots, zxid(at), Compression::None).unwrap();
        writer.write(b"\0\0\0\x01/").unwrap();
        writer.finish(None, None).unwrap();
        self
    }

    fn source(&self) -> LogSource {
        LogSource::new(self.disk.clone(), self.dirs.clone(), 1 << 20)
    }

    /// First and last of what is read behind a record.
    fn read(&self, after: (u32, u32)) -> Option<Vec<(u32, u32)>> {
        let read = self.source().read(LINK, zxid(after), self.log.last(), ALL)?;
        let place = |record: &(Zxid, Bytes)| (record.0.epoch(), record.0.counter());
        let mut ends: Vec<_> = read.first().into_iter().chain(read.last()).map(place).collect();
        ends.dedup();
        Some(ends)
    }
}

#[test]
fn records_are_read_from_where_they_are_known_across_segments_and_epochs() {
    let folder = Folder::new().snapshot((0, 0)).records(1, 1..=5).records(1, 6..=9).records(3, 1..=4);
    assert_eq!(folder.read((0, 0)), Some(vec![(1, 1), (3, 4)]), "from the empty database on");
    assert_eq!(folder.read((1, 5)), Some(vec![(1, 6), (3, 4)]));
    assert_eq!(folder.read((1, 9)), Some(vec![(3, 1), (3, 4)]), "its last record is there");
    assert_eq!(folder.read((3, 3)), Some(vec![(3, 4)]));
    assert_eq!(folder.read((3, 4)), Some(vec![]));
    assert_eq!(folder.read((3, 5)), None, "nobody knows it");
    assert_eq!(folder.read((1, 10)), None, "not ours, and what follows it is of a later epoch");
    assert_eq!(folder.read((2, 1)), None);
}

#[test]
fn a_log_whose_beginning_is_gone_says_so() {
    let folder = Folder::new().records(2, 5..=9).snapshot((2, 7));
    assert_eq!(folder.read((2, 4)), Some(vec![(2, 5), (2, 9)]), "numbers of one epoch show no gap");
    for missing in [(0, 0), (1, 8), (2, 0), (2, 3)] {
        assert_eq!(folder.read(missing), None, "{missing:?}");
    }
}

#[test]
fn a_state_that_was_sent_leaves_a_gap_that_is_not_read_over() {
    let within = Folder::new().snapshot((0, 0)).records(1, 1..=5).snapshot((1, 8)).records(1, 9..=10);
    assert_eq!(within.read((1, 2)), Some(vec![(1, 3), (1, 5)]), "up to the gap");
    assert_eq!(within.read((1, 5)), None);
    assert_eq!(within.read((1, 8)), Some(vec![(1, 9), (1, 10)]));
    let between = Folder::new().snapshot((0, 0)).records(1, 1..=5).snapshot((1, 7)).records(2, 1..=3);
    assert_eq!(between.read((1, 4)), Some(vec![(1, 5)]));
    assert_eq!(between.read((1, 5)), None, "1.6 and 1.7 are only in the snapshot");
    assert_eq!(between.read((1, 7)), Some(vec![(2, 1), (2, 3)]));
}

#[test]
fn what_is_not_durable_is_not_read() {
    let folder = Folder::new().snapshot((0, 0)).records(1, 1..=9);
    let read = folder.source().read(LINK, Zxid::ZERO, zxid((1, 4)), ALL).unwrap();
    assert_eq!(read.last().map(|record| record.0), Some(zxid((1, 4))));
}

#[test]
fn a_learner_is_read_to_in_parts_and_each_part_has_a_record() {
    let folder = Folder::new().snapshot((0, 0)).records(1, 1..=50).records(2, 1..=50);
    let source = folder.source();
    for max_bytes in [1, 100, 350, 100_000] {
        let mut after = Zxid::ZERO;
        let mut places = Vec::new();
        loop {
            let part = source.read(LINK, after, folder.log.last(), max_bytes).unwrap();
            assert!(part.len() <= max_bytes.div_ceil(100));
            let Some((last, _)) = part.last() else { break };
            after = *last;
            places.extend(part.into_iter().map(|(place, _)| place));
        }
        let expected: Vec<Zxid> =
            [1, 2].into_iter().flat_map(|epoch| (1..=50).map(move |n| Zxid::new(epoch, n))).collect();
        assert_eq!(places, expected, "{max_bytes} bytes at a time");
        assert!(source.readers().len() <= 1);
        source.forget(LINK);
        assert!(source.readers().is_empty());
    }
}
