//! Snapshots of our own: compressed forms, sections, old digests, and files that are not whole.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use docent::Zxid;
use proptest::prelude::*;
use simd_adler32::Adler32;

use super::support::*;
use crate::storage::layout::{self, Found};
use crate::storage::snapshot::{self, SnapshotError, SnapshotReader, SnapshotTrailer, SnapshotWriter};
use crate::storage::{Compression, Dirs, MemDisk, SnapshotDigest};

const ALL: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Snappy];

fn write(disk: &MemDisk, compression: Compression, body: &[u8], trailer: SnapshotTrailer) -> Found {
    let mut writer =
        SnapshotWriter::create(Arc::new(disk.clone()), Path::new(DIR), Zxid(5), compression).unwrap();
    let mut rng = fastrand::Rng::with_seed(body.len() as u64);
    let mut rest = body;
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(rng.usize(1..=rest.len().min(100_000)));
        writer.write(piece).unwrap();
        rest = later;
    }
    let (path, bytes) = writer.finish(trailer.digest, trailer.last_processed).unwrap();
    let found = layout::snapshots(disk, Path::new(DIR)).unwrap().pop().unwrap();
    assert_eq!((&found.path, found.compression), (&path, compression));
    assert!(bytes > body.len() as u64);
    found
}

fn read(disk: &MemDisk, file: &Found) -> Result<(Vec<u8>, SnapshotTrailer), SnapshotError> {
    let mut reader = SnapshotReader::open(disk, file)?;
    let body = read_body(&mut reader, file.zxid)?;
    Ok((body, reader.finish()?))
}

fn trailers() -> [SnapshotTrailer; 4] {
    let digest = Some(digest(Zxid(9)));
    let last_processed = Some(Zxid(8));
    [
        SnapshotTrailer::default(),
        SnapshotTrailer { digest, last_processed: None },
        SnapshotTrailer { digest, last_processed },
        SnapshotTrailer { digest: None, last_processed },
    ]
}

/// Data that compresses, and data that does not.
fn data(len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(1);
    (0..len).map(|at| if at % 3 == 0 { rng.u8(..) } else { (at / 5) as u8 }).collect()
}

#[test]
fn every_form_and_section_comes_back() {
    for compression in ALL {
        for trailer in trailers() {
            for len in [0, 1, 200_000, 300_001] {
                let disk = empty_disk();
                let body = body(&data(len));
                let found = write(&disk, compression, &body, trailer);
                assert!(snapshot::looks_valid(&disk, &found).unwrap());
                assert_eq!(snapshot::verify(&disk, &found).unwrap(), trailer, "{compression:?} {len}");
                let (read_body, read_trailer) = read(&disk, &found).unwrap();
                assert!(read_body == body, "{compression:?} {len}");
                assert_eq!(read_trailer, trailer, "{compression:?} {len}");
            }
        }
    }
}

/// Any cut, at every length, in every form.
#[test]
fn no_beginning_of_a_snapshot_is_taken_for_a_whole_one() {
    for compression in ALL {
        let disk = empty_disk();
        let trailer = trailers()[2];
        let mut found = write(&disk, compression, &body(&data(300)), trailer);
        let bytes = disk.contents(&found.path).unwrap();
        for len in 0..bytes.len() {
            disk.put(&found.path, &bytes[..len]);
            found.len = len as u64;
            match read(&disk, &found) {
                Err(_) => assert!(snapshot::verify(&disk, &found).is_err(), "{compression:?} {len}"),
                // Cut exactly behind a section it is a whole file of an older version.
                Ok((_, read)) => assert!(compression == Compression::None && trailers()[..2].contains(&read)),
            }
        }
    }
}

#[test]
fn no_changed_byte_goes_unseen() {
    for compression in ALL {
        let disk = empty_disk();
        let body = body(&data(300));
        let trailer = trailers()[1];
        let found = write(&disk, compression, &body, trailer);
        let bytes = disk.contents(&found.path).unwrap();
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 0x10;
            disk.put(&found.path, changed);
            // Some bits of the compressed forms mean nothing.
            if let Ok(read) = read(&disk, &found) {
                assert!(read == (body.clone(), trailer), "{compression:?}: byte {place}");
                assert_ne!(compression, Compression::None, "byte {place}");
            }
        }
    }
}

/// Before version 2 a digest was a hexadecimal string.
#[test]
fn old_digests_are_read() {
    for (text, digest) in [(Some("1f"), 0x1f), (Some("-1"), u64::MAX), (Some(""), 0), (None, 0)] {
        for with_last in [false, true] {
            let mut section = 7i64.to_be_bytes().to_vec();
            section.extend_from_slice(&1i32.to_be_bytes());
            section.extend_from_slice(&text.map_or(-1, |text| text.len() as i32).to_be_bytes());
            section.extend_from_slice(text.unwrap_or_default().as_bytes());
            let last = 6i64.to_be_bytes();
            let mut pieces = vec![body(b"x"), section];
            if with_last {
                pieces.push(last.to_vec());
            }
            let (disk, found) = by_hand(&pieces);
            let wanted = SnapshotTrailer {
                digest: Some(SnapshotDigest { zxid: Zxid(7), version: 1, digest }),
                last_processed: with_last.then_some(Zxid(6)),
            };
            assert_eq!(read(&disk, &found).unwrap().1, wanted);
            assert_eq!(snapshot::verify(&disk, &found).unwrap(), wanted);
        }
    }
}

#[test]
fn unknown_data_behind_the_state_is_refused() {
    for extra in [vec![0; 3], vec![0; 500]] {
        let (disk, found) = by_hand(&[body(b"x"), extra]);
        assert!(read(&disk, &found).is_err());
        assert!(snapshot::verify(&disk, &found).is_err());
    }
}

/// A snapshot of these pieces, each with a SEAL behind it, made without the writer.
fn by_hand(pieces: &[Vec<u8>]) -> (MemDisk, Found) {
    let mut bytes = b"ZKSN\x00\x00\x00\x02\xff\xff\xff\xff\xff\xff\xff\xff".to_vec();
    for piece in pieces {
        bytes.extend_from_slice(piece);
        let mut adler = Adler32::new();
        adler.write(&bytes);
        bytes.extend_from_slice(&u64::from(adler.finish()).to_be_bytes());
        bytes.extend_from_slice(b"\x00\x00\x00\x01/");
    }
    let disk = empty_disk();
    disk.put(&in_dir("snapshot.5"), bytes);
    let found = layout::snapshots(&disk, Path::new(DIR)).unwrap().pop().unwrap();
    (disk, found)
}

/// The first bytes as Apache 3.8.0 was seen to write them.
#[test]
fn the_xerial_header_is_apaches() {
    let disk = empty_disk();
    let found = write(&disk, Compression::Snappy, &body(b""), SnapshotTrailer::default());
    let bytes = disk.contents(&found.path).unwrap();
    assert_eq!(bytes[..16], *b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01");
}

#[test]
fn an_unfinished_snapshot_leaves_nothing() {
    for compression in ALL {
        let disk = empty_disk();
        let dirs = Dirs::new(Path::new(DATA), None);
        let mut writer =
            SnapshotWriter::create(Arc::new(disk.clone()), &dirs.snapshots, Zxid(5), compression).unwrap();
        writer.write(&data(1000)).unwrap();
        drop(writer);
        assert_eq!(crate::storage::Disk::list(&disk, &dirs.snapshots).unwrap(), []);
    }
}

proptest! {
    /// Whatever is in a file: reading it ends, with an error or with what the checksums vouch for.
    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400), form in 0usize..3, headed: bool) {
        let compression = ALL[form];
        let mut file = match (headed, compression) {
            (false, _) => Vec::new(),
            (_, Compression::None) => b"ZKSN\x00\x00\x00\x02\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
            (_, Compression::Gzip) => b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff".to_vec(),
            (_, Compression::Snappy) => b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01".to_vec(),
        };
        file.extend_from_slice(&bytes);
        let disk = empty_disk();
        let path = in_dir("snapshot.5");
        disk.put(&path, file);
        let found = Found { zxid: Zxid(5), path, len: 0, compression };
        if let Ok(mut reader) = SnapshotReader::open(&disk, &found) {
            let mut sink = Vec::new();
            // Reading on to the end must not succeed in finishing.
            let _ = reader.read_to_end(&mut sink);
            prop_assert!(reader.finish().is_err());
        }
        prop_assert!(snapshot::verify(&disk, &found).is_err());
    }
}
