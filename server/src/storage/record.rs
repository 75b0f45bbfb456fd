//! PURE. The framing of one record in a transaction log, and the judgement of what a flaw in it means.
//!
//! ```text
//! int64 adler32(payload) | int32 length | payload | 0x42
//! ```
//!
//! The checksum covers the payload only (not the length, not the end byte), so each is judged on its own. What a record
//! says is none of this room's business, with one exception: every payload begins with the header of a transaction,
//! `int64 clientId, int32 cxid, int64 zxid, …`, and the zxid at bytes 12..20 is the key by which logs are named, searched
//! and cut. It is the one thing read out of a payload here.
//!
//! A write that a crash interrupted leaves a beginning of what was written, followed by the zeros of the preallocated
//! file or by nothing. That is *torn*: it can only stand at the end of the log, and it was never acknowledged. Every
//! other flaw is *damage*. The two are told apart by what follows ([`judge`]): behind a torn record there is nothing but
//! zeros, and nothing that a reader could still recognise as a record. The second condition matters because a
//! damaged length can make one record swallow all its successors.

use std::fmt;

use bytes::{BufMut, Bytes};
use docent::Zxid;

/// Bytes in front of the payload: checksum and length.
pub const HEADER_LEN: usize = 12;
/// Bytes that framing adds to a payload.
pub const OVERHEAD: usize = HEADER_LEN + 1;
/// The shortest payload: as much of a transaction's header as holds the zxid.
pub const PAYLOAD_MIN: usize = ZXID_AT + 8;
/// The default bound for a payload in bytes: twice Apache's default `jute.maxbuffer` (its readers allow the configured
/// value plus an extra of the same size), and room for what a server adds to a request.
pub const PAYLOAD_MAX: usize = 2 * 1_048_575 + 8 * 1024;

const ZXID_AT: usize = 12;
const END: u8 = 0x42;

/// One entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The transaction's id; equal to the one inside the payload.
    pub zxid: Zxid,
    /// The transaction, opaque.
    pub payload: Bytes,
}

impl Record {
    /// The record of this payload, or `None` if it is too short to hold a zxid.
    #[must_use]
    pub fn new(payload: Bytes) -> Option<Self> {
        Some(Record { zxid: zxid_of(&payload)?, payload })
    }

    /// Bytes of this record in a log.
    #[must_use]
    pub fn framed_len(&self) -> usize {
        self.payload.len() + OVERHEAD
    }
}

/// The zxid inside a payload.
fn zxid_of(payload: &[u8]) -> Option<Zxid> {
    let bytes = payload.get(ZXID_AT..ZXID_AT + 8)?;
    Some(Zxid(i64::from_be_bytes(bytes.try_into().ok()?)))
}

/// Appends a framed record to `out`.
pub fn encode_into(record: &Record, out: &mut impl BufMut) {
    let payload = &record.payload[..];
    out.put_u64(u64::from(simd_adler32::adler32(&payload)));
    // The caller keeps payloads below a limit that fits: see `Group::push`.
    out.put_u32(payload.len() as u32);
    out.put_slice(payload);
    out.put_u8(END);
}

/// What stands at the beginning of some bytes, as far as these bytes can tell.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A sound record; `next` bytes from here the following one begins.
    Whole {
        /// Its id.
        zxid: Zxid,
        /// Its content.
        payload: &'a [u8],
        /// Bytes of the whole frame.
        next: usize,
    },
    /// Nothing, or zeros where a record's header would stand.
    Padding,
    /// The frame is longer than the bytes; `needed` of them would settle it.
    Short {
        /// Bytes of the whole frame, or of its header if even that is incomplete.
        needed: usize,
    },
    /// No record: see the flaw. `extent` is the length of the frame as its header claims.
    Flawed {
        /// What is wrong.
        flaw: Flaw,
        /// Bytes that belong to the flawed frame, as far as known.
        extent: usize,
    },
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The file ends inside the record.
    Cut,
    /// A checksum without a length: the write ended within the header.
    NoLength,
    /// A length that no record can have.
    Length(i32),
    /// The payload does not give the checksum in front of it.
    Checksum {
        /// The checksum in the file.
        stored: u64,
        /// The checksum of the payload.
        computed: u32,
    },
    /// Another byte than 0x42 behind the payload.
    EndByte(u8),
    /// A payload, sound, but too short to hold a zxid.
    NoZxid,
    /// Zeros where a record should begin, but data after them.
    Hole {
        /// Where the data goes on, as an offset in the file.
        data_at: u64,
    },
    /// What looks like the torn end has a sound record inside or behind it.
    Swallowed {
        /// Where that record begins, as an offset in the file.
        record_at: u64,
    },
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Cut => write!(f, "the file ends inside this record"),
            Flaw::NoLength => write!(f, "a checksum without a length"),
            Flaw::Length(length) => write!(f, "impossible record length {length}"),
            Flaw::Checksum { stored, computed } => {
                write!(f, "checksum {stored:#x} in the file, but {computed:#x} over the payload")
            }
            Flaw::EndByte(byte) => write!(f, "end byte {byte:#04x} instead of 0x42"),
            Flaw::NoZxid => write!(f, "record too short for a transaction"),
            Flaw::Hole { data_at } => {
                write!(f, "zeros instead of a record, but data again at offset {data_at}")
            }
            Flaw::Swallowed { record_at } => {
                write!(f, "a broken record, but a sound one follows at offset {record_at}")
            }
        }
    }
}

/// Reads what stands at the beginning of `bytes`. `payload_max` bounds the length that is believed.
#[must_use]
pub fn read(bytes: &[u8], payload_max: usize) -> Piece<'_> {
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
        let padding = bytes.iter().all(|byte| *byte == 0);
        return if padding { Piece::Padding } else { Piece::Short { needed: HEADER_LEN } };
    };
    let stored = u64::from_be_bytes(*header.first_chunk().expect("a header has 8 bytes"));
    let length = i32::from_be_bytes(*header.last_chunk().expect("a header has 4 bytes"));
    let payload_len = match usize::try_from(length) {
        Ok(0) if stored == 0 => return Piece::Padding,
        Ok(0) => return Piece::Flawed { flaw: Flaw::NoLength, extent: HEADER_LEN },
        Ok(length) if length <= payload_max => length,
        _ => return Piece::Flawed { flaw: Flaw::Length(length), extent: HEADER_LEN },
    };
    let next = payload_len + OVERHEAD;
    let Some(frame) = bytes.get(..next) else { return Piece::Short { needed: next } };
    let payload = &frame[HEADER_LEN..next - 1];
    let computed = simd_adler32::adler32(&payload);
    if u64::from(computed) != stored {
        return Piece::Flawed { flaw: Flaw::Checksum { stored, computed }, extent: next };
    }
    if frame[next - 1] != END {
        return Piece::Flawed { flaw: Flaw::EndByte(frame[next - 1]), extent: next };
    }
    match zxid_of(payload) {
        Some(zxid) => Piece::Whole { zxid, payload, next },
        None => Piece::Flawed { flaw: Flaw::NoZxid, extent: next },
    }
}

/// What a flaw means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// An interrupted write at the end of the file. Nothing behind it was ever acknowledged.
    Torn,
    /// Something happened to the file; acknowledged records may be behind it.
    Damaged(Flaw),
}

/// Judges a flaw of the frame at offset `at`. `frame` are the bytes of the frame, `data_behind` the offset of the first
/// byte behind it that is not zero.
#[must_use]
pub fn judge(flaw: Flaw, at: u64, frame: &[u8], data_behind: Option<u64>, payload_max: usize) -> Judgement {
    let may_be_torn = matches!(flaw, Flaw::Cut | Flaw::NoLength | Flaw::Checksum { .. } | Flaw::EndByte(_));
    if !may_be_torn || data_behind.is_some() {
        return Judgement::Damaged(flaw);
    }
    match find_record(frame, payload_max) {
        Some(inside) => Judgement::Damaged(Flaw::Swallowed { record_at: at + inside as u64 }),
        None => Judgement::Torn,
    }
}

/// The place of a sound record inside the bytes of a broken one. A stored value that happens to hold the image of a log
/// would be found too: then a torn end is refused instead of cut, which errs on the safe side.
fn find_record(frame: &[u8], payload_max: usize) -> Option<usize> {
    (1..frame.len().saturating_sub(OVERHEAD + PAYLOAD_MIN - 1)).find(|start| {
        let bytes = &frame[*start..];
        // Checksums have 32 bits, so nearly every wrong place is passed over by its first four bytes.
        bytes.starts_with(&[0; 4]) && matches!(read(bytes, payload_max), Piece::Whole { .. })
    })
}

/// The place of the first byte that is not zero. Padding is long, so it is compared a page at a time.
pub(super) fn first_data(bytes: &[u8]) -> Option<usize> {
    const PAGE: usize = 4096;
    let data_in = |page: &[u8]| *page != [0; PAGE][..page.len()];
    let (index, page) = bytes.chunks(PAGE).enumerate().find(|(_, page)| data_in(page))?;
    page.iter().position(|byte| *byte != 0).map(|place| index * PAGE + place)
}

/// What stands at one offset of a log file that is in memory as a whole.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A record, and the offset of what follows it.
    Record {
        /// The record.
        record: Record,
        /// The offset behind it.
        next: usize,
    },
    /// The end: nothing, or zeros up to the end of the file.
    EndOfLog,
    /// An interrupted write.
    Torn {
        /// Where it begins.
        offset: usize,
        /// What shows it.
        reason: Flaw,
    },
    /// Damage: records behind it may be acknowledged ones.
    Damaged {
        /// Where it begins.
        offset: usize,
        /// What shows it.
        reason: Flaw,
    },
}

/// The verdict on `offset` of a whole file. The streaming reader comes to the same ones with less memory.
#[must_use]
pub fn decode(file: &[u8], offset: usize, payload_max: usize) -> Verdict {
    let rest = file.get(offset..).unwrap_or_default();
    let data_after = |from: usize| first_data(rest.get(from..)?).map(|place| (offset + from + place) as u64);
    let (flaw, extent) = match read(rest, payload_max) {
        Piece::Whole { zxid, payload, next } => {
            let record = Record { zxid, payload: Bytes::copy_from_slice(payload) };
            return Verdict::Record { record, next: offset + next };
        }
        Piece::Padding => match data_after(0) {
            None => return Verdict::EndOfLog,
            Some(data_at) => (Flaw::Hole { data_at }, 0),
        },
        Piece::Short { .. } => (Flaw::Cut, rest.len()),
        Piece::Flawed { flaw, extent } => (flaw, extent),
    };
    match judge(flaw, offset as u64, &rest[..extent], data_after(extent), payload_max) {
        Judgement::Torn => Verdict::Torn { offset, reason: flaw },
        Judgement::Damaged(reason) => Verdict::Damaged { offset, reason },
    }
}
