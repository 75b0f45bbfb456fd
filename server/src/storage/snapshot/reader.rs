//! Reading a snapshot: the body as a stream whose every byte is hashed, then the SEALs and sections.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use docent::Zxid;
use simd_adler32::Adler32;

use super::codec::{XerialReader, gzip_reader};
use super::{FILE_HEADER, SnapshotError, SnapshotTrailer, TAIL_MAX};
use crate::storage::disk::{Access, Disk, FileReader};
use crate::storage::layout::{Compression, Found};

/// Bytes read ahead.
const BUFFER: usize = 128 * 1024;

/// The body of a snapshot, decompressed. Read it up to and including its end marker, then [`finish`](Self::finish):
/// nothing that was read may be believed before that has returned `Ok`.
///
/// It reads ahead into a buffer of its own, so small reads are cheap and the place where the body ends stays exact.
pub struct SnapshotReader {
    zxid: Zxid,
    source: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// `buffer[start..end]` is not handed out yet.
    start: usize,
    end: usize,
    /// `buffer[..hashed]` is in the checksum already; hashing waits so that it runs over long pieces.
    hashed: usize,
    adler: Adler32,
}

impl fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotReader").field("zxid", &self.zxid).finish_non_exhaustive()
    }
}

impl SnapshotReader {
    /// Opens a snapshot and checks how it begins.
    ///
    /// # Errors
    /// The file cannot be read, or is no snapshot.
    pub fn open(disk: &dyn Disk, file: &Found) -> Result<Self, SnapshotError> {
        let mut source = open_source(disk, file)?;
        let mut header = [0; FILE_HEADER.len()];
        read_header(&mut source, &mut header)?;
        let mut adler = Adler32::new();
        adler.write(&header);
        let buffer = vec![0; BUFFER];
        Ok(SnapshotReader { zxid: file.zxid, source, buffer, start: 0, end: 0, hashed: 0, adler })
    }

    /// The zxid in the file's name.
    #[must_use]
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// Verifies the SEAL behind what was read and every later one, and reads the sections between them.
    ///
    /// # Errors
    /// A checksum does not fit, the file is cut, or it holds something else than the known sections.
    pub fn finish(mut self) -> Result<SnapshotTrailer, SnapshotError> {
        self.hash();
        let mut rest = self.buffer[self.start..self.end].to_vec();
        // One byte more than there can be, so that too much is seen.
        let missing = (TAIL_MAX + 1).saturating_sub(rest.len());
        (&mut self.source).take(missing as u64).read_to_end(&mut rest)?;
        if rest.len() > TAIL_MAX {
            return Err(SnapshotError::BadSections);
        }
        super::read_trailer(&mut self.adler, &rest)
    }

    /// Brings the checksum up to what was handed out.
    fn hash(&mut self) {
        self.adler.write(&self.buffer[self.hashed..self.start]);
        self.hashed = self.start;
    }
}

impl BufRead for SnapshotReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.hash();
            self.end = 0;
            self.start = 0;
            self.hashed = 0;
            self.end = self.source.read(&mut self.buffer)?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        assert!(count <= self.end - self.start, "consumed {count} of {} bytes", self.end - self.start);
        self.start += count;
    }
}

impl Read for SnapshotReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let count = ready.len().min(out.len());
        out[..count].copy_from_slice(&ready[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// The bytes of a file before compression.
pub(super) fn open_source(disk: &dyn Disk, file: &Found) -> io::Result<Box<dyn Read + Send>> {
    let raw = FileReader::new(disk.open(&file.path, Access::Read)?);
    Ok(match file.compression {
        Compression::None => Box::new(raw),
        Compression::Gzip => Box::new(gzip_reader(BufReader::with_capacity(BUFFER, raw))),
        Compression::Snappy => Box::new(XerialReader::new(BufReader::with_capacity(BUFFER, raw))),
    })
}

pub(super) fn read_header(source: &mut impl Read, header: &mut [u8; 16]) -> Result<(), SnapshotError> {
    match source.read_exact(header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(SnapshotError::BadHeader),
        other => Ok(other?),
    }?;
    // The database id, the last eight bytes, is -1 in every file, and read by nobody.
    if header[..8] == FILE_HEADER[..8] { Ok(()) } else { Err(SnapshotError::BadHeader) }
}
