//! What the tests of this room share: golden files, records and bodies made up, and a loader that stops where a body
//! ends.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use docent::Zxid;

use crate::storage::disk::Disk;
use crate::storage::recover::{RecoverError, RecoverOptions, Recovered, RecoveryReport, recover};
use crate::storage::snapshot::{SnapshotDigest, SnapshotWriter};
use crate::storage::{Compression, Dirs, LogOptions, MemDisk, Record};

pub(super) const DATA: &str = "/data";
pub(super) const DIR: &str = "/data/version-2";

pub(super) fn dirs() -> Dirs {
    Dirs::new(Path::new(DATA), None)
}

pub(super) fn in_dir(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// Small segments: a disk in memory pays for every byte.
pub(super) fn small_log() -> LogOptions {
    LogOptions { prealloc_bytes: 4096, ..LogOptions::default() }
}

pub(super) fn empty_disk() -> MemDisk {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk
}

/// A record as this room sees one: a zxid in its place, and bytes.
pub(super) fn record(zxid: Zxid, filling: &[u8]) -> Record {
    let mut payload = vec![0xee; 12];
    payload.extend_from_slice(&zxid.0.to_be_bytes());
    payload.extend_from_slice(filling);
    Record::new(Bytes::from(payload)).unwrap()
}

/// A golden file made by Apache ZooKeeper 3.8.0.
pub(super) fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/standalone").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(super) const GOLDEN_LOGS: [&str; 3] = ["log.1", "log.2a", "log.49"];
pub(super) const GOLDEN_SNAPSHOTS: [&str; 3] = ["snapshot.0", "snapshot.28", "snapshot.47"];

/// The golden data directory on a disk in memory.
pub(super) fn golden_disk() -> MemDisk {
    let disk = empty_disk();
    for name in GOLDEN_LOGS.into_iter().chain(GOLDEN_SNAPSHOTS) {
        disk.put(&in_dir(name), golden(&format!("version-2/{name}")));
    }
    disk
}

/// One entry of the decoded golden logs.
pub(super) struct Entry {
    pub offset: usize,
    pub checksum: u64,
    pub payload: Vec<u8>,
    pub zxid: Zxid,
}

pub(super) fn golden_entries() -> BTreeMap<String, Vec<Entry>> {
    let json: serde_json::Value = serde_json::from_slice(&golden("txnlog.json")).unwrap();
    let entry = |file: &[u8], value: &serde_json::Value| {
        let offset = value["offset"].as_u64().unwrap() as usize;
        // The one large payload is not spelled out there; its checksum is.
        let payload = match value["payload"].as_str() {
            Some(text) => unhex(text),
            None => file[offset + 12..][..value["len"].as_u64().unwrap() as usize].to_vec(),
        };
        Entry {
            offset,
            checksum: hex(&value["checksum"]),
            payload,
            zxid: Zxid(hex(&value["header"]["zxid"]) as i64),
        }
    };
    let logs = json["logs"].as_array().unwrap().iter();
    logs.map(|log| {
        let name = log["file"].as_str().unwrap().to_owned();
        let file = golden(&format!("version-2/{name}"));
        let entries = log["entries"].as_array().unwrap().iter();
        (name, entries.map(|value| entry(&file, value)).collect())
    })
    .collect()
}

fn hex(value: &serde_json::Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Reads the body of a snapshot up to and including its end marker, and returns it byte for byte. It knows of the
/// body only what is needed to find its end.
pub(super) fn read_body(source: &mut dyn Read, _zxid: Zxid) -> io::Result<Vec<u8>> {
    let mut body = Body { source, bytes: Vec::new() };
    let sessions = body.int()?;
    body.take((sessions as usize).saturating_mul(12))?;
    for _ in 0..body.int()? {
        body.take(8)?;
        for _ in 0..body.int()? {
            body.take(4)?;
            body.string()?;
            body.string()?;
        }
    }
    while body.string()? != b"/" {
        body.string()?;
        body.take(8 + 60)?;
    }
    Ok(body.bytes)
}

struct Body<'a> {
    source: &'a mut dyn Read,
    bytes: Vec<u8>,
}

impl Body<'_> {
    fn take(&mut self, count: usize) -> io::Result<&[u8]> {
        if count > 1 << 24 {
            return Err(io::Error::other("impossible length"));
        }
        let start = self.bytes.len();
        self.bytes.resize(start + count, 0);
        self.source.read_exact(&mut self.bytes[start..])?;
        Ok(&self.bytes[start..])
    }

    fn int(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into().unwrap()))
    }

    fn string(&mut self) -> io::Result<&[u8]> {
        let len = self.int()?.max(0) as usize;
        self.take(len)
    }
}

/// A body without sessions and ACLs, with one node whose data is `data`.
pub(super) fn body(data: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend_from_slice(&0i32.to_be_bytes());
    body.extend_from_slice(&(data.len() as i32).to_be_bytes());
    body.extend_from_slice(data);
    body.extend_from_slice(&[0; 8 + 60]);
    body.extend_from_slice(b"\x00\x00\x00\x01/");
    body
}

pub(super) fn digest(zxid: Zxid) -> SnapshotDigest {
    SnapshotDigest { zxid, version: 2, digest: 0xdead_beef_0123_4567 }
}

/// Writes a snapshot of the state at `zxid`.
pub(super) fn write_snapshot(disk: &MemDisk, zxid: Zxid, compression: Compression) {
    let mut writer =
        SnapshotWriter::create(Arc::new(disk.clone()), Path::new(DIR), zxid, compression).unwrap();
    writer.write(&body(&zxid.0.to_be_bytes())).unwrap();
    writer.finish(Some(digest(zxid)), None).unwrap();
}

/// A whole start: the zxid of the snapshot, the records behind it, and the report.
#[derive(Debug)]
pub(super) struct Start {
    pub snapshot: Zxid,
    pub records: Vec<Record>,
    pub report: RecoveryReport,
}

pub(super) fn start(disk: &MemDisk, options: &RecoverOptions) -> Result<Option<Start>, RecoverError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let loaded = match recover(&disk, &dirs(), options, read_body)? {
        Recovered::Empty(_) => return Ok(None),
        Recovered::Loaded(loaded) => loaded,
    };
    let mut replay = loaded.replay;
    let mut records = Vec::new();
    while let Some(record) = replay.next_record()? {
        records.push(record);
    }
    Ok(Some(Start { snapshot: loaded.snapshot, records, report: replay.finish()? }))
}

/// A start that succeeds, with everything at its default.
pub(super) fn must_start(disk: &MemDisk) -> Start {
    start(disk, &RecoverOptions::default()).unwrap().expect("the folder is not empty")
}

pub(super) fn zxids(records: &[Record]) -> Vec<i64> {
    records.iter().map(|record| record.zxid.0).collect()
}
