//! Files that Apache ZooKeeper 3.8.0 wrote, read and written again byte for byte.

use std::path::Path;
use std::sync::Arc;

use docent::Zxid;

use super::support::*;
use crate::storage::layout::{self, Compression};
use crate::storage::log::{Next, SegmentReader};
use crate::storage::record::{self, PAYLOAD_MAX, Verdict};
use crate::storage::snapshot::{self, SnapshotReader, SnapshotWriter};
use crate::storage::{Group, Log, LogOptions, MemDisk, Record, SnapshotTrailer};

#[test]
fn every_record_is_found_where_apache_put_it() {
    let mut records = 0;
    for (name, entries) in golden_entries() {
        let file = golden(&format!("version-2/{name}"));
        let mut offset = 16;
        for entry in &entries {
            assert_eq!(offset, entry.offset, "{name}");
            assert_eq!(file[offset..offset + 8], entry.checksum.to_be_bytes(), "{name} at {offset}");
            let Verdict::Record { record, next } = record::decode(&file, offset, PAYLOAD_MAX) else {
                panic!("{name} at {offset}: no record");
            };
            assert_eq!((&record.payload[..], record.zxid), (&entry.payload[..], entry.zxid), "{name}");
            let mut again = Vec::new();
            record::encode_into(&record, &mut again);
            assert_eq!(again, file[offset..next], "{name} at {offset}: another frame");
            assert_eq!(again.len(), record.framed_len());
            offset = next;
            records += 1;
        }
        assert_eq!(record::decode(&file, offset, PAYLOAD_MAX), Verdict::EndOfLog, "{name}");
    }
    assert_eq!(records, 93);
}

#[test]
fn the_streaming_reader_agrees() {
    let disk = golden_disk();
    for (name, entries) in golden_entries() {
        let mut segment = SegmentReader::open(&disk, &in_dir(&name), PAYLOAD_MAX).unwrap().unwrap();
        for entry in &entries {
            match segment.next().unwrap() {
                Next::Record(record, offset) => {
                    assert_eq!((&record.payload[..], record.zxid), (&entry.payload[..], entry.zxid));
                    assert_eq!(offset, entry.offset as u64);
                }
                other => panic!("{name}: {other:?}"),
            }
        }
        assert!(matches!(segment.next().unwrap(), Next::End(_)));
    }
}

#[test]
fn the_log_writer_writes_apaches_files() {
    for (name, entries) in golden_entries() {
        let disk = empty_disk();
        let options = LogOptions { prealloc_bytes: 65536, ..LogOptions::default() };
        let mut log = Log::new(Arc::new(disk.clone()), dirs(), options, Zxid::ZERO);
        let mut group = Group::new(Zxid::ZERO, PAYLOAD_MAX);
        for entry in &entries {
            group.push(&Record::new(entry.payload.clone().into()).unwrap()).unwrap();
        }
        log.append(&group).unwrap();
        log.sync().unwrap();
        let ours = disk.contents(&in_dir(&name)).expect("the segment is named after its first record");
        let theirs = golden(&format!("version-2/{name}"));
        let end = ours.len().min(theirs.len());
        assert!(ours[..end] == theirs[..end], "{name} differs");
        assert!(
            ours[end..].iter().chain(&theirs[end..]).all(|byte| *byte == 0),
            "{name}: only padding differs"
        );
    }
}

#[test]
fn snapshots_verify_and_are_written_the_same() {
    let disk = golden_disk();
    let found = layout::snapshots(&disk, Path::new(DIR)).unwrap();
    assert_eq!(found.len(), GOLDEN_SNAPSHOTS.len());
    let mut digests = Vec::new();
    for file in found {
        assert!(snapshot::looks_valid(&disk, &file).unwrap());
        let mut reader = SnapshotReader::open(&disk, &file).unwrap();
        let body = read_body(&mut reader, file.zxid).unwrap();
        let trailer = reader.finish().unwrap();
        assert_eq!(
            snapshot::verify(&disk, &file).unwrap(),
            trailer,
            "the blind look finds the same sections"
        );
        let digest = trailer.digest.expect("3.8.0 writes a digest");
        digests.push((file.zxid.0, digest.zxid.0, digest.version, digest.digest));
        assert_eq!(trailer.last_processed, None);

        let copy = empty_disk();
        rewrite(&copy, file.zxid, &body, trailer);
        assert!(copy.contents(&file.path) == disk.contents(&file.path), "{} differs", file.path.display());
    }
    assert_eq!(digests, golden_digests());
}

fn rewrite(disk: &MemDisk, zxid: Zxid, body: &[u8], trailer: SnapshotTrailer) {
    let disk = Arc::new(disk.clone());
    let mut writer = SnapshotWriter::create(disk, Path::new(DIR), zxid, Compression::None).unwrap();
    for piece in body.chunks(1000) {
        writer.write(piece).unwrap();
    }
    writer.finish(trailer.digest, trailer.last_processed).unwrap();
}

#[test]
fn the_golden_folder_opens() {
    let start = must_start(&golden_disk());
    assert_eq!(start.snapshot, Zxid(0x47));
    assert_eq!(zxids(&start.records), (0x48..=0x5d).collect::<Vec<i64>>());
    let report = start.report;
    assert_eq!((report.last, report.records, report.duplicates), (Zxid(0x5d), 22, 0));
    assert!(report.tail_cut.is_none() && report.torn_inside.is_empty() && report.logs_removed.is_empty());
    assert_eq!(report.snapshot, Some(in_dir("snapshot.47")));
}

/// Name, zxid of the digest, its version, the digest, as the notes beside the files give them.
fn golden_digests() -> Vec<(i64, i64, i32, u64)> {
    let json: serde_json::Value = serde_json::from_slice(&golden("expected.json")).unwrap();
    let number = |value: &serde_json::Value| match value.as_u64() {
        Some(number) => number,
        None => u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap(),
    };
    let snapshots = json["snapshots"].as_array().unwrap().iter();
    snapshots
        .map(|snapshot| {
            let name = snapshot["file"].as_str().unwrap().strip_prefix("snapshot.").unwrap();
            let digest = &snapshot["digestSection"];
            (
                i64::from_str_radix(name, 16).unwrap(),
                number(&digest["zxid"]) as i64,
                number(&digest["ver"]) as i32,
                number(&digest["digest"]),
            )
        })
        .collect()
}
