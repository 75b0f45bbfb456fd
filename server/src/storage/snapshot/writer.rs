//! Writing a snapshot: header, pieces of the body, SEALs and sections; it appears under its name when it is durable.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use docent::Zxid;
use flate2::write::GzEncoder;
use simd_adler32::Adler32;

use super::codec::XerialWriter;
use super::{FILE_HEADER, SnapshotDigest, seal_of};
use crate::storage::disk::{Access, At, Disk, DiskError, FileWriter, remove_if_there, sync_parent};
use crate::storage::layout::{self, Compression};

/// Bytes gathered into one write.
const BUFFER: usize = 256 * 1024;

/// A snapshot in the making. Dropped before [`finish`](Self::finish), it removes what it wrote.
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    temp: PathBuf,
    path: PathBuf,
    sink: Option<Sink>,
    adler: Adler32,
    bytes: u64,
}

type Out = BufWriter<FileWriter>;

enum Sink {
    Plain(Out),
    Gzip(GzEncoder<Out>),
    Snappy(XerialWriter<Out>),
}

impl fmt::Debug for SnapshotWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SnapshotWriter {
    /// Begins the snapshot of the state at `zxid`: the last transaction that was applied when the dump begins.
    ///
    /// # Errors
    /// The disk fails.
    pub fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        zxid: Zxid,
        compression: Compression,
    ) -> Result<Self, DiskError> {
        let temp = dir.join(format!("{}{zxid:x}", layout::NEW_SNAPSHOT));
        Self::create_at(disk, dir, temp, zxid, compression)
    }

    /// Begins the snapshot of a state that another server sends. Its file has a temporary name of its own: a snapshot of
    /// our own state may be on its way under the same number.
    ///
    /// # Errors
    /// The disk fails.
    pub fn create_received(
        disk: Arc<dyn Disk>,
        dir: &Path,
        zxid: Zxid,
        compression: Compression,
    ) -> Result<Self, DiskError> {
        let temp = dir.join(format!("{}received.{zxid:x}", layout::NEW_SNAPSHOT));
        Self::create_at(disk, dir, temp, zxid, compression)
    }

    fn create_at(
        disk: Arc<dyn Disk>,
        dir: &Path,
        temp: PathBuf,
        zxid: Zxid,
        compression: Compression,
    ) -> Result<Self, DiskError> {
        let path = dir.join(layout::snapshot_name(zxid, compression));
        let file = disk.open(&temp, Access::Create).at("create", &temp)?;
        let out = BufWriter::with_capacity(BUFFER, FileWriter::new(file));
        let sink = Sink::new(out, compression).at("write", &temp)?;
        let mut writer =
            SnapshotWriter { disk, temp, path, sink: Some(sink), adler: Adler32::new(), bytes: 0 };
        writer.write(&FILE_HEADER)?;
        Ok(writer)
    }

    /// Writes a piece of the body; the last one ends with the body's end marker.
    ///
    /// # Errors
    /// The disk fails; the snapshot is then good for nothing but to be dropped.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), DiskError> {
        self.adler.write(piece);
        self.bytes += piece.len() as u64;
        let sink = self.sink.as_mut().expect("the sink is only taken when all is written");
        sink.write_all(piece).at("write", &self.temp)
    }

    /// Seals the body, writes the sections, makes everything durable and gives the file its name. Returns its path and
    /// its length in bytes before compression.
    ///
    /// # Errors
    /// The disk fails; the snapshot does not exist then, or (if only the folder's sync failed) may exist whole.
    pub fn finish(
        mut self,
        digest: Option<SnapshotDigest>,
        last_processed: Option<Zxid>,
    ) -> Result<(PathBuf, u64), DiskError> {
        self.complete(digest, last_processed)?;
        self.publish()
    }

    /// The first half of [`finish`](Self::finish): everything is durable, and nobody can see it yet.
    ///
    /// # Errors
    /// The disk fails; the snapshot is then good for nothing but to be dropped.
    ///
    /// # Panics
    /// When it was complete already.
    pub fn complete(
        &mut self,
        digest: Option<SnapshotDigest>,
        last_processed: Option<Zxid>,
    ) -> Result<(), DiskError> {
        self.seal()?;
        if let Some(digest) = digest {
            self.write(&digest.zxid.0.to_be_bytes())?;
            self.write(&digest.version.to_be_bytes())?;
            self.write(&digest.digest.to_be_bytes())?;
            self.seal()?;
        }
        if let Some(zxid) = last_processed {
            self.write(&zxid.0.to_be_bytes())?;
            self.seal()?;
        }
        let sink = self.sink.take().expect("the sink is only taken here");
        sink.finish().and_then(|file| file.sync_all()).at("sync", &self.temp)
    }

    /// The second half of [`finish`](Self::finish): gives the file its name, durably.
    ///
    /// # Errors
    /// The disk fails; the snapshot does not exist then, or (if only the folder's sync failed) may exist whole.
    ///
    /// # Panics
    /// When it is not complete.
    pub fn publish(mut self) -> Result<(PathBuf, u64), DiskError> {
        assert!(self.sink.is_none(), "a snapshot of {} bytes is not complete", self.bytes);
        self.disk.rename(&self.temp, &self.path).at("rename", &self.temp)?;
        sync_parent(&*self.disk, &self.path)?;
        // The name is final now; drop must not look for the temporary one.
        self.temp.clear();
        Ok((std::mem::take(&mut self.path), self.bytes))
    }

    fn seal(&mut self) -> Result<(), DiskError> {
        let seal = seal_of(&self.adler);
        self.write(&seal)
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if self.temp.as_os_str().is_empty() {
            return;
        }
        // What BufWriter still holds must not be written while it is dropped.
        if let Some(sink) = self.sink.take() {
            sink.discard();
        }
        if let Err(error) = remove_if_there(&*self.disk, &self.temp) {
            // The next start removes it.
            tracing::warn!(%error, "an unfinished snapshot is left over");
        }
    }
}

impl Sink {
    fn new(out: Out, compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Sink::Plain(out),
            Compression::Gzip => Sink::Gzip(GzEncoder::new(out, flate2::Compression::fast())),
            Compression::Snappy => Sink::Snappy(XerialWriter::new(out)?),
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Sink::Plain(out) => out.write_all(bytes),
            Sink::Gzip(out) => out.write_all(bytes),
            Sink::Snappy(out) => out.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<FileWriter> {
        let out = match self {
            Sink::Plain(out) => out,
            Sink::Gzip(out) => out.finish()?,
            Sink::Snappy(out) => out.finish()?,
        };
        out.into_inner().map_err(io::IntoInnerError::into_error)
    }

    fn discard(self) {
        match self {
            Sink::Plain(out) => drop(out.into_parts()),
            Sink::Snappy(out) => drop(out.finish().map(BufWriter::into_parts)),
            // The encoder writes its end when it is dropped, into a file that is removed next.
            Sink::Gzip(out) => drop(out),
        }
    }
}
