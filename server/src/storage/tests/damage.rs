//! The table of what a damaged folder does, with the golden folder as the sound one: torn ends are cut, everything else
//! is refused with the file and the offset. Apache 3.8.0's own answers are in the comments where they are worse.

use std::sync::OnceLock;

use super::support::*;
use crate::storage::log::LogError;
use crate::storage::record::Flaw;
use crate::storage::recover::{RecoverError, RecoverOptions};
use crate::storage::{Compression, MemDisk};
use docent::Zxid;

/// Offsets of the records of log.49, and the end of the last one.
fn offsets() -> Vec<usize> {
    static OFFSETS: OnceLock<Vec<usize>> = OnceLock::new();
    OFFSETS.get_or_init(find_offsets).clone()
}

fn find_offsets() -> Vec<usize> {
    let entries = &golden_entries()["log.49"];
    let last = entries.last().unwrap();
    entries.iter().map(|entry| entry.offset).chain([last.offset + last.payload.len() + 13]).collect()
}

/// The newest golden log, changed, behind a small snapshot.
fn with_log(change: impl FnOnce(&mut Vec<u8>, &[usize])) -> MemDisk {
    let disk = empty_disk();
    write_snapshot(&disk, Zxid(0x48), Compression::None);
    let mut log = golden("version-2/log.49");
    change(&mut log, &offsets());
    disk.put(&in_dir("log.49"), log);
    disk
}

fn refused(disk: &MemDisk) -> RecoverError {
    let before: Vec<_> = disk_files(disk);
    let error = start(disk, &RecoverOptions::default()).map(|_| ()).expect_err("this must be refused");
    assert_eq!(disk_files(disk), before, "a refused start changes nothing");
    error
}

fn disk_files(disk: &MemDisk) -> Vec<(String, Vec<u8>)> {
    use crate::storage::disk::Disk;
    let entries = disk.list(std::path::Path::new(DIR)).unwrap();
    entries
        .into_iter()
        .map(|entry| (entry.name.clone(), disk.contents(&in_dir(&entry.name)).unwrap()))
        .collect()
}

#[track_caller]
fn damaged_at(disk: &MemDisk, wanted: usize) -> Flaw {
    match refused(disk) {
        RecoverError::Log(LogError::Damaged { path, offset, flaw }) => {
            assert_eq!((path, offset), (in_dir("log.49"), wanted as u64));
            flaw
        }
        other => panic!("{other}"),
    }
}

#[track_caller]
fn starts_at(disk: &MemDisk, last: i64) -> Start {
    let start = must_start(disk);
    assert_eq!(start.report.last, Zxid(last));
    assert_eq!(zxids(&start.records), (start.snapshot.0 + 1..=last).collect::<Vec<_>>());
    start
}

#[test]
fn padding_is_optional() {
    let start = starts_at(&with_log(|log, at| log.truncate(at[21])), 0x5d);
    assert_eq!(start.report.tail_cut, None);
}

/// The last record at every length, with and without padding behind.
#[test]
fn a_last_record_torn_at_any_byte_is_cut() {
    let at = offsets();
    for end in at[20]..at[21] {
        for padded in [false, true] {
            let disk = with_log(|log, _| {
                log.truncate(end);
                log.resize(if padded { 65552 } else { end }, 0);
            });
            let start = starts_at(&disk, 0x5c);
            // The first four bytes of a frame are zeros: a write torn there leaves nothing to be seen.
            let nothing = end - at[20] <= 4;
            let cut = start.report.tail_cut;
            assert_eq!(cut.is_none(), nothing, "{end}, padded {padded}: {cut:?}");
            if let Some(torn) = cut {
                assert_eq!((torn.path, torn.offset), (in_dir("log.49"), at[20] as u64));
                assert!(torn.bytes as usize <= end - at[20] && torn.bytes > 0, "{} of {end}", torn.bytes);
                assert_eq!(
                    disk.contents(&in_dir("log.49")).unwrap().len(),
                    at[20],
                    "cut at the last whole record"
                );
            }
            assert_eq!(
                starts_at(&disk, 0x5c).report.tail_cut,
                None,
                "the second start finds nothing to repair"
            );
        }
    }
}

/// A group of several records is one write, so it may be torn anywhere in it.
#[test]
fn a_group_torn_at_any_byte_keeps_its_whole_records() {
    let at = offsets();
    for end in at[15]..at[21] {
        for padded in [false, true] {
            let disk = with_log(|log, _| {
                log.truncate(end);
                log.resize(if padded { 65552 } else { end }, 0);
            });
            let whole = at[1..].iter().filter(|record_end| **record_end <= end).count() as i64;
            starts_at(&disk, 0x48 + whole);
        }
    }
}

/// Apache: refuses to start.
#[test]
fn a_wrong_checksum_in_the_last_record_is_a_torn_end() {
    let start = starts_at(&with_log(|log, at| log[at[20] + 30] ^= 1), 0x5c);
    assert!(matches!(start.report.tail_cut.unwrap().flaw, Flaw::Checksum { .. }));
}

#[test]
fn a_missing_end_byte_of_the_last_record_is_a_torn_end() {
    let start = starts_at(&with_log(|log, at| log[at[21] - 1] = 0), 0x5c);
    assert_eq!(start.report.tail_cut.unwrap().flaw, Flaw::EndByte(0));
}

/// Apache: silently ignores everything behind it.
#[test]
fn a_missing_end_byte_in_the_middle_is_damage() {
    let flaw = damaged_at(&with_log(|log, at| log[at[6] - 1] = 0), offsets()[5]);
    assert_eq!(flaw, Flaw::EndByte(0));
}

/// Apache: silently ignores everything behind it.
#[test]
fn a_zeroed_header_in_the_middle_is_damage() {
    let at = offsets()[5];
    let flaw = damaged_at(&with_log(|log, _| log[at..at + 12].fill(0)), at);
    assert_eq!(flaw, Flaw::Hole { data_at: at as u64 + 12 });
}

#[test]
fn a_zeroed_record_in_the_middle_is_damage() {
    let at = offsets();
    let next_data = at[6] as u64 + 4;
    let flaw = damaged_at(&with_log(|log, at| log[at[5]..at[6]].fill(0)), at[5]);
    assert_eq!(flaw, Flaw::Hole { data_at: next_data });
}

#[test]
fn a_wrong_checksum_in_the_middle_is_damage() {
    let flaw = damaged_at(&with_log(|log, at| log[at[5] + 30] ^= 1), offsets()[5]);
    assert!(matches!(flaw, Flaw::Checksum { .. }));
}

#[test]
fn impossible_lengths_are_damage_even_at_the_end() {
    for length in [0x7fff_ffffi32, -5] {
        for record in [5, 20] {
            let disk = with_log(|log, at| {
                log[at[record] + 8..at[record] + 12].copy_from_slice(&length.to_be_bytes())
            });
            assert_eq!(damaged_at(&disk, offsets()[record]), Flaw::Length(length));
        }
    }
}

/// A length that is wrong but possible makes one record swallow its successors, and then looks like a torn end.
#[test]
fn a_length_that_swallows_later_records_is_damage() {
    let at = offsets();
    for padded in [false, true] {
        for length in [0x1000i32, 0x4000, 0x10_0000] {
            let disk = with_log(|log, at| {
                log.truncate(if padded { log.len() } else { at[21] });
                log[at[5] + 8..at[5] + 12].copy_from_slice(&length.to_be_bytes());
            });
            let flaw = damaged_at(&disk, at[5]);
            assert_eq!(flaw, Flaw::Swallowed { record_at: at[6] as u64 }, "length {length}, padded {padded}");
        }
    }
}

/// Every single byte of the newest log, changed: the start either refuses or loses at most the very last record.
#[test]
fn no_changed_byte_costs_more_than_the_last_record() {
    let at = offsets();
    for place in 0..at[21] + 64 {
        let disk = with_log(|log, at| {
            log.truncate(at[21] + 64);
            log[place] ^= [0x01, 0x80, 0xff][place % 3];
        });
        match start(&disk, &RecoverOptions::default()) {
            Ok(Some(start)) => {
                let last = start.report.last.0;
                // The database id is read by nobody, and noise in the padding is cut off.
                let harmless = last == 0x5d && ((8..16).contains(&place) || place >= at[21]);
                assert!(
                    harmless || (last == 0x5c && place >= at[20]),
                    "byte {place} lost all behind {last:#x}"
                );
            }
            Ok(None) => panic!("byte {place}: nothing left"),
            Err(error) => assert!(error.to_string().contains("log.49"), "{error}"),
        }
    }
}

/// Apache 3.8.0: refuses to start.
#[test]
fn an_empty_last_log_is_removed() {
    let header = b"ZKLG\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00";
    let padded = [&header[..], &[0; 100]].concat();
    for content in [&[][..], &header[..7], &header[..], &padded] {
        let disk = golden_disk();
        disk.put(&in_dir("log.5e"), content);
        let start = starts_at(&disk, 0x5d);
        assert_eq!(start.report.logs_removed, [in_dir("log.5e")]);
        assert_eq!(disk.contents(&in_dir("log.5e")), None);
    }
}

#[test]
fn a_last_log_whose_first_record_is_torn_is_removed() {
    let disk = golden_disk();
    let mut log = golden("version-2/log.49")[..16].to_vec();
    log.extend_from_slice(&golden("version-2/log.49")[16..50]);
    disk.put(&in_dir("log.5e"), log);
    let start = starts_at(&disk, 0x5d);
    assert_eq!(start.report.logs_removed, [in_dir("log.5e")]);
    assert_eq!(start.report.tail_cut.unwrap().offset, 16);
}

#[test]
fn bad_magic_is_refused() {
    for content in [&[0; 64][..], b"ZKLG\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00", b"x"] {
        let disk = golden_disk();
        disk.put(&in_dir("log.5e"), content);
        match refused(&disk) {
            RecoverError::Log(LogError::BadHeader { path }) => assert_eq!(path, in_dir("log.5e")),
            other => panic!("{other}"),
        }
    }
}

/// Apache: goes on with the next file, and the records in between are lost unless the snapshot covers them.
#[test]
fn an_older_log_that_is_cut_is_a_gap_where_it_matters() {
    let entries = golden_entries();
    let cut = |zxid: i64| {
        let disk = golden_disk();
        let entry = entries["log.2a"].iter().find(|entry| entry.zxid == Zxid(zxid)).unwrap();
        disk.put(&in_dir("log.2a"), &golden("version-2/log.2a")[..entry.offset + 20]);
        disk
    };
    // Behind the snapshot 0x47 only 0x48 is needed of this file.
    match refused(&cut(0x48)) {
        RecoverError::Gap { last, next, path, .. } => {
            assert_eq!((last, next, path), (Zxid(0x47), Zxid(0x49), in_dir("log.49")));
        }
        other => panic!("{other}"),
    }
    // A cut in front of the snapshot loses 0x48 as well: what is behind the cut cannot be found any more.
    assert!(matches!(refused(&cut(0x40)), RecoverError::Gap { .. }));
    let rescued = start(&cut(0x48), &RecoverOptions { accept_gaps: true, ..RecoverOptions::default() })
        .unwrap()
        .unwrap();
    assert_eq!(rescued.report.gaps, [(Zxid(0x47), Zxid(0x49))]);
    assert_eq!(rescued.report.torn_inside.len(), 1);
}

/// What Apache leaves behind when it crashes, and goes on in a new file after its next start.
#[test]
fn a_torn_record_whose_number_was_given_again_is_left_alone() {
    let disk = golden_disk();
    let log = golden("version-2/log.49");
    let at = offsets();
    disk.put(&in_dir("log.49"), &log[..at[10] + 25]);
    disk.put(&in_dir("log.53"), [&log[..16], &log[at[10]..]].concat());
    let start = starts_at(&disk, 0x5d);
    assert_eq!(start.report.tail_cut, None);
    assert_eq!(start.report.torn_inside.len(), 1);
    assert_eq!(start.report.torn_inside[0].offset, at[10] as u64);
}

/// Apache 3.8.0: only warnings about digests.
#[test]
fn a_missing_record_is_refused() {
    let disk = with_log(|log, at| drop(log.drain(at[5]..at[6])));
    match refused(&disk) {
        RecoverError::Gap { last, next, path, offset } => {
            assert_eq!((last, next), (Zxid(0x4d), Zxid(0x4f)));
            assert_eq!((path, offset), (in_dir("log.49"), offsets()[5] as u64));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_missing_log_is_refused() {
    let disk = golden_disk();
    crate::storage::Disk::remove(&disk, &in_dir("log.2a")).unwrap();
    assert!(matches!(refused(&disk), RecoverError::Gap { .. }));
}

#[test]
fn a_repeated_record_is_passed_over() {
    let disk = with_log(|log, at| {
        let twice = log[at[5]..at[6]].to_vec();
        log.splice(at[6]..at[6], twice);
    });
    assert_eq!(starts_at(&disk, 0x5d).report.duplicates, 1);
}

#[test]
fn a_cut_snapshot_falls_back_to_the_one_before() {
    let snapshot = golden("version-2/snapshot.47");
    for cut in [3, 13, 20, 46, 1000, snapshot.len() - 16, snapshot.len()] {
        let disk = golden_disk();
        disk.put(&in_dir("snapshot.47"), &snapshot[..snapshot.len() - cut]);
        let start = starts_at(&disk, 0x5d);
        assert_eq!(start.snapshot, Zxid(0x28), "cut by {cut}");
        assert_eq!(start.report.rejected.len(), 1);
    }
}

#[test]
fn a_changed_byte_in_a_snapshot_falls_back_to_the_one_before() {
    let snapshot = golden("version-2/snapshot.28");
    for place in (0..8).chain((16..snapshot.len()).step_by(13)) {
        let disk = golden_disk();
        crate::storage::Disk::remove(&disk, &in_dir("snapshot.47")).unwrap();
        let mut bytes = snapshot.clone();
        bytes[place] ^= 0x10;
        disk.put(&in_dir("snapshot.28"), bytes);
        assert_eq!(starts_at(&disk, 0x5d).snapshot, Zxid(0), "byte {place}");
    }
}

#[test]
fn falling_back_needs_the_logs_of_the_older_snapshot() {
    let disk = golden_disk();
    let snapshot = golden("version-2/snapshot.47");
    disk.put(&in_dir("snapshot.47"), &snapshot[..snapshot.len() - 3]);
    crate::storage::Disk::remove(&disk, &in_dir("log.2a")).unwrap();
    assert!(matches!(refused(&disk), RecoverError::Gap { .. }));
}

#[test]
fn no_snapshot_at_all_is_refused_unless_trusted() {
    let disk = golden_disk();
    for name in GOLDEN_SNAPSHOTS {
        crate::storage::Disk::remove(&disk, &in_dir(name)).unwrap();
    }
    assert!(matches!(refused(&disk), RecoverError::MissingSnapshot { .. }));
    let options = RecoverOptions { trust_empty_snapshot: true, ..RecoverOptions::default() };
    let start = start(&disk, &options).unwrap().unwrap();
    assert_eq!((start.snapshot, start.records.len()), (Zxid(0), 93));
}

#[test]
fn only_broken_snapshots_are_refused() {
    let disk = empty_disk();
    write_snapshot(&disk, Zxid(7), Compression::None);
    let bytes = disk.contents(&in_dir("snapshot.7")).unwrap();
    disk.put(&in_dir("snapshot.7"), &bytes[..40]);
    match refused(&disk) {
        RecoverError::NoSoundSnapshot { rejected, .. } => assert_eq!(rejected.len(), 1),
        other => panic!("{other}"),
    }
}
