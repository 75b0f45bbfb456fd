//! Compressed snapshots. Gzip is a crate's; the xerial framing of snappy is here:
//! `82 "SNAPPY" 00 | int32 1 | int32 1 | (int32 n, n bytes of raw snappy)*`.

use std::io::{self, BufRead, Read, Write};

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

/// The first bytes of a xerial stream.
pub(super) const XERIAL_MAGIC: [u8; 8] = *b"\x82SNAPPY\x00";
/// Version 1, compatible since version 1.
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// Uncompressed bytes of a block that we write; the library's default.
const BLOCK: usize = 32 * 1024;
/// The largest block that is read, compressed or not. The library allows blocks to be configured, up to 512 MiB; a
/// server has no business with such.
const BLOCK_MAX: usize = 16 * 1024 * 1024;

/// Reads a xerial stream.
#[derive(Debug)]
pub(super) struct XerialReader<R> {
    inner: R,
    started: bool,
    compressed: Vec<u8>,
    block: Vec<u8>,
    position: usize,
}

impl<R: Read> XerialReader<R> {
    pub(super) fn new(inner: R) -> Self {
        XerialReader { inner, started: false, compressed: Vec::new(), block: Vec::new(), position: 0 }
    }

    fn start(&mut self) -> io::Result<()> {
        let mut header = [0; 16];
        self.inner.read_exact(&mut header)?;
        if header[..8] != XERIAL_MAGIC {
            return Err(invalid("not a xerial snappy stream"));
        }
        // Later versions would say here that they are still compatible with version 1.
        if header[12..] != XERIAL_VERSIONS[4..] {
            return Err(invalid("unknown version of the xerial snappy framing"));
        }
        self.started = true;
        Ok(())
    }

    /// Decompresses the next block; `false` at the end of the stream.
    fn next_block(&mut self) -> io::Result<bool> {
        let Some(len) = read_len(&mut self.inner)? else { return Ok(false) };
        let len = usize::try_from(len).ok().filter(|len| *len <= BLOCK_MAX);
        self.compressed.resize(len.ok_or_else(|| invalid("impossible snappy block length"))?, 0);
        self.inner.read_exact(&mut self.compressed)?;
        let plain = decompress_len(&self.compressed).map_err(io::Error::from)?;
        if plain > BLOCK_MAX {
            return Err(invalid("impossible snappy block length"));
        }
        self.block.resize(plain, 0);
        Decoder::new().decompress(&self.compressed, &mut self.block).map_err(io::Error::from)?;
        self.position = 0;
        Ok(true)
    }
}

/// A length in front of a block; `None` at a clean end.
fn read_len(inner: &mut impl Read) -> io::Result<Option<i32>> {
    let mut bytes = [0; 4];
    let mut filled = 0;
    while filled < bytes.len() {
        match inner.read(&mut bytes[filled..])? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(Some(i32::from_be_bytes(bytes)))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<R: Read> Read for XerialReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.started {
            self.start()?;
        }
        while self.position == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.block.len() - self.position);
        buffer[..count].copy_from_slice(&self.block[self.position..][..count]);
        self.position += count;
        Ok(count)
    }
}

/// Writes a xerial stream. Its end must be written with [`finish`](Self::finish).
#[derive(Debug)]
pub(super) struct XerialWriter<W> {
    inner: W,
    block: Vec<u8>,
    compressed: Vec<u8>,
}

impl<W: Write> XerialWriter<W> {
    pub(super) fn new(mut inner: W) -> io::Result<Self> {
        inner.write_all(&XERIAL_MAGIC)?;
        inner.write_all(&XERIAL_VERSIONS)?;
        Ok(XerialWriter { inner, block: Vec::with_capacity(BLOCK), compressed: Vec::new() })
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.write_block()?;
        Ok(self.inner)
    }

    fn write_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        self.compressed.resize(max_compress_len(self.block.len()), 0);
        let len = Encoder::new().compress(&self.block, &mut self.compressed).map_err(io::Error::from)?;
        // A block is 32 KiB, so its length fits.
        self.inner.write_all(&(len as u32).to_be_bytes())?;
        self.inner.write_all(&self.compressed[..len])?;
        self.block.clear();
        Ok(())
    }
}

impl<W: Write> Write for XerialWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == BLOCK {
            self.write_block()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The decompressed content of a gzip file. Java's reader joins several members, so ours does.
pub(super) fn gzip_reader(inner: impl BufRead) -> impl Read {
    flate2::bufread::MultiGzDecoder::new(inner)
}
