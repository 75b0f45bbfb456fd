//! Snapshot files: the frame around a state that this room does not understand.
//!
//! ```text
//! "ZKSN" | int32 2 | int64 -1                                 header
//! body: from the number of sessions to the end marker, the string "/"     written and read by the tree
//! SEAL
//! int64 zxid | int32 digest version | int64 digest   SEAL     optional
//! int64 last processed zxid                          SEAL     optional
//! ```
//!
//! SEAL is `int64 adler32 of everything in front of it, from the first byte of the file | string "/"`, before
//! compression. **Who writes what:** the tree's dump writes the body *including* the end marker `00 00 00 01 2f`; this
//! room writes the header, every SEAL and the sections behind the body. A reader of the body stops exactly behind the
//! end marker and then calls [`SnapshotReader::finish`].
//!
//! A snapshot appears under its name only when all of it is durable. A crash leaves at most a file `new-snapshot.…`,
//! which the next start removes.
//!
//! Left out: what is in the body, and when snapshots are taken.

mod codec;
mod reader;
mod writer;

use std::io::{self, Read};

use docent::Zxid;
use simd_adler32::Adler32;

use super::disk::{Access, Disk};
use super::layout::{Compression, Found};

pub use reader::SnapshotReader;
pub use writer::SnapshotWriter;

/// `ZKSN`, version 2, database id -1.
const FILE_HEADER: [u8; 16] = *b"ZKSN\x00\x00\x00\x02\xff\xff\xff\xff\xff\xff\xff\xff";
/// The string "/": the end marker of the body and the second half of every SEAL.
const MARK: [u8; 5] = *b"\x00\x00\x00\x01/";
/// Bytes of a SEAL.
const SEAL_LEN: usize = 8 + MARK.len();
/// The longest hexadecimal digest that old servers wrote, in digits.
const HEX_DIGITS_MAX: usize = 17;
/// Bytes that can follow the body: a SEAL, the longest digest section, the last zxid, with theirs.
const TAIL_MAX: usize = SEAL_LEN + (8 + 4 + 4 + HEX_DIGITS_MAX + SEAL_LEN) + (8 + SEAL_LEN);

/// Why a snapshot cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk failed, or compressed data does not decompress.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file does not begin as a snapshot does.
    #[error("not a snapshot: it does not begin with ZKSN and version 2")]
    BadHeader,
    /// The file does not end as a snapshot does.
    #[error("incomplete: it does not end with a seal")]
    NoEnd,
    /// The checksum in a SEAL is not that of the bytes in front of it.
    #[error("checksum mismatch: the file is damaged")]
    BadSeal,
    /// What follows the body is no known section.
    #[error("unknown data behind the state")]
    BadSections,
}

/// The digest section: the state's digest when the writing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotDigest {
    /// The last transaction applied when the writing ended; not smaller than the zxid in the name, or 0 if none was applied
    /// since the start of the server.
    pub zxid: Zxid,
    /// The version of the digest's definition; 2 today.
    pub version: i32,
    /// The digest.
    pub digest: u64,
}

impl SnapshotDigest {
    /// A digest of today's definition.
    #[must_use]
    pub fn new(zxid: Zxid, digest: u64) -> Self {
        SnapshotDigest { zxid, version: 2, digest }
    }
}

/// What stands behind the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotTrailer {
    /// The digest section.
    pub digest: Option<SnapshotDigest>,
    /// The last transaction processed, written by servers from 3.9 on that are asked to.
    pub last_processed: Option<Zxid>,
}

impl SnapshotTrailer {
    /// The largest transaction that the sections admit the body may contain.
    pub(super) fn reaches(&self) -> Option<Zxid> {
        self.digest.map(|digest| digest.zxid).max(self.last_processed)
    }
}

/// The look that Apache takes before it considers a file a candidate: its length and its last bytes, or the first bytes
/// of a compressed one.
///
/// # Errors
/// The file cannot be read.
pub fn looks_valid(disk: &dyn Disk, file: &Found) -> io::Result<bool> {
    let handle = disk.open(&file.path, Access::Read)?;
    let size = handle.size()?;
    let starts_with = |magic: &[u8]| -> io::Result<bool> {
        let mut bytes = vec![0; magic.len()];
        Ok(size >= 10 && handle.read_at(&mut bytes, 0)? == magic.len() && bytes == magic)
    };
    match file.compression {
        Compression::Gzip => starts_with(&[0x1f, 0x8b]),
        Compression::Snappy => starts_with(&codec::XERIAL_MAGIC),
        Compression::None => {
            let mut bytes = [0; MARK.len()];
            Ok(size >= 10
                && handle.read_at(&mut bytes, size - MARK.len() as u64)? == MARK.len()
                && bytes == MARK)
        }
    }
}

/// Verifies a snapshot from its first to its last byte without understanding its body.
///
/// # Errors
/// The file cannot be read, or it is no whole snapshot.
pub fn verify(disk: &dyn Disk, file: &Found) -> Result<SnapshotTrailer, SnapshotError> {
    let mut source = reader::open_source(disk, file)?;
    let mut adler = Adler32::new();
    let mut header = [0; FILE_HEADER.len()];
    reader::read_header(&mut source, &mut header)?;
    adler.write(&header);
    // Everything is hashed but the last bytes, in which the SEAL of the body is looked for.
    let mut window = vec![0; 64 * 1024 + TAIL_MAX + MARK.len()];
    let keep = TAIL_MAX + MARK.len();
    let mut held = 0;
    loop {
        let count = source.read(&mut window[held..])?;
        held += count;
        if count == 0 {
            break;
        }
        if held > keep {
            adler.write(&window[..held - keep]);
            window.copy_within(held - keep..held, 0);
            held = keep;
        }
    }
    find_trailer(&adler, &window[..held])
}

/// Finds the SEAL of the body in the last bytes of a file; `adler` covers everything in front of them.
fn find_trailer(adler: &Adler32, tail: &[u8]) -> Result<SnapshotTrailer, SnapshotError> {
    if !tail.ends_with(&MARK) {
        return Err(SnapshotError::NoEnd);
    }
    for body_end in MARK.len()..tail.len().saturating_sub(SEAL_LEN - 1) {
        let (body, rest) = tail.split_at(body_end);
        if !body.ends_with(&MARK) || !rest[8..].starts_with(&MARK) {
            continue;
        }
        let mut adler = adler.clone();
        adler.write(body);
        if let Ok(trailer) = read_trailer(&mut adler, rest) {
            return Ok(trailer);
        }
    }
    Err(SnapshotError::BadSeal)
}

/// Verifies the SEAL of the body and reads the sections behind it; `adler` covers all in front of `rest`, which is
/// everything to the end of the file.
fn read_trailer(adler: &mut Adler32, rest: &[u8]) -> Result<SnapshotTrailer, SnapshotError> {
    let rest = check_seal(adler, rest)?;
    if rest.is_empty() {
        return Ok(SnapshotTrailer::default());
    }
    // Nothing says which sections there are. With the digest switched off the last zxid may stand alone.
    match read_sections(adler.clone(), rest) {
        Err(_) if rest.len() == 8 + SEAL_LEN => {
            let last_processed = Some(read_last_processed(adler, rest)?);
            Ok(SnapshotTrailer { digest: None, last_processed })
        }
        other => other,
    }
}

/// The digest section and, if more follows, the last zxid.
fn read_sections(mut adler: Adler32, rest: &[u8]) -> Result<SnapshotTrailer, SnapshotError> {
    let (digest, len) = parse_digest(rest).ok_or(SnapshotError::BadSections)?;
    adler.write(&rest[..len]);
    let rest = check_seal(&mut adler, &rest[len..])?;
    let last_processed = match rest.is_empty() {
        true => None,
        false => Some(read_last_processed(&mut adler, rest)?),
    };
    Ok(SnapshotTrailer { digest: Some(digest), last_processed })
}

fn read_last_processed(adler: &mut Adler32, rest: &[u8]) -> Result<Zxid, SnapshotError> {
    let (zxid, rest) = take_i64(rest).ok_or(SnapshotError::BadSections)?;
    adler.write(&zxid.to_be_bytes());
    if check_seal(adler, rest)?.is_empty() { Ok(Zxid(zxid)) } else { Err(SnapshotError::BadSections) }
}

/// The digest section and its length. Before version 2 the digest was a hexadecimal string, or null.
fn parse_digest(bytes: &[u8]) -> Option<(SnapshotDigest, usize)> {
    let (zxid, rest) = take_i64(bytes)?;
    let (version, rest) = take_i32(rest)?;
    let zxid = Zxid(zxid);
    if version >= 2 {
        let (digest, _) = take_i64(rest)?;
        return Some((SnapshotDigest { zxid, version, digest: digest as u64 }, 8 + 4 + 8));
    }
    let (len, rest) = take_i32(rest)?;
    let len = if len == -1 { 0 } else { usize::try_from(len).ok()? };
    if len > HEX_DIGITS_MAX {
        return None;
    }
    let text = std::str::from_utf8(rest.get(..len)?).ok()?;
    let digest = match text {
        "" => 0,
        // Java wrote a signed number: a large digest has a minus sign.
        text => i64::from_str_radix(text, 16).ok()?,
    };
    Some((SnapshotDigest { zxid, version, digest: digest as u64 }, 8 + 4 + 4 + len))
}

/// Verifies the SEAL at the beginning of `bytes`; what is behind it.
fn check_seal<'a>(adler: &mut Adler32, bytes: &'a [u8]) -> Result<&'a [u8], SnapshotError> {
    let Some((seal, rest)) = bytes.split_at_checked(SEAL_LEN) else { return Err(SnapshotError::NoEnd) };
    if *seal != seal_of(adler) {
        return Err(SnapshotError::BadSeal);
    }
    adler.write(seal);
    Ok(rest)
}

/// The SEAL behind everything that `adler` covers.
fn seal_of(adler: &Adler32) -> [u8; SEAL_LEN] {
    let mut seal = [0; SEAL_LEN];
    seal[..8].copy_from_slice(&u64::from(adler.finish()).to_be_bytes());
    seal[8..].copy_from_slice(&MARK);
    seal
}

fn take_i64(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (value, rest) = bytes.split_first_chunk()?;
    Some((i64::from_be_bytes(*value), rest))
}

fn take_i32(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (value, rest) = bytes.split_first_chunk()?;
    Some((i32::from_be_bytes(*value), rest))
}
