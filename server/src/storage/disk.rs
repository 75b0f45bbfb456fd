//! The seam to the real disk: everything in this room that touches files goes through [`Disk`].
//!
//! Two implementations keep the same contract (`tests::contract`, run on both): [`RealDisk`], and
//! [`MemDisk`](super::mem_disk::MemDisk), which can lose what was not synced, tear the last write at any byte and
//! fail a sync on demand. What a caller may rely on:
//!
//! * Bytes written to a file survive a crash once `sync_data` or `sync_all` on that file has returned `Ok`. Before
//!   that any part of them may be missing.
//! * A name (created, renamed, removed) survives a crash once `sync_dir` on its folder has returned `Ok`.
//! * A failed sync says nothing about the bytes: they may be lost although a later sync succeeds. Nobody in this room
//!   syncs a file again after a failure.
//!
//! Left out: anything about formats, and asynchronous calls. All calls block; the writer's threads make them.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The largest file that is read as a whole. Real ones have a few kilobytes.
const SMALL_FILE_BYTES_MAX: u64 = 1 << 20;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// An existing file, for reading only.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file for reading and writing; an existing one of this name is emptied.
    Create,
}

/// A file in a folder, as [`Disk::list`] saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The last component of the path.
    pub name: String,
    /// The length in bytes.
    pub len: u64,
}

/// The files of one server. Paths are absolute or relative to the process, as the configuration gave them.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Makes a folder and its missing parents, durably.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// The regular files of a folder in the order of their names. A missing folder is `NotFound`.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// Opens a file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file another name in the same folder, in one step; a file that had this name is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name. Open files stay readable.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the exclusive lock on a file, which is created if missing; `None` when somebody else holds it. The lock
    /// ends when the value is dropped or the process dies.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>>;
}

/// One open file. Positions are given with each call; a file has no cursor.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// The length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Reads some bytes from `offset`; 0 means the end of the file (or an empty buffer).
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes at `offset`, growing the file if needed. On an error some of them may have been written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts or grows the file. A grown part reads as zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes room for `len` bytes from `offset` and grows the file to that end; unwritten parts read as zeros. Where
    /// the file system cannot reserve room, the file only grows.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Makes the bytes, and as much of the length as reading them needs, durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes the bytes, the length and all attributes durable.
    fn sync_all(&self) -> io::Result<()>;
}

/// A held lock; dropping it lets the next one in.
pub trait DiskLock: Send + fmt::Debug {}

/// An operation on a file failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}{}", .path.display(), advice(.source))]
pub struct DiskError {
    /// What was tried, as a verb: `write`, `sync`.
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl DiskError {
    /// No room is left on the file system, or a quota is used up.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        is_disk_full(&self.source)
    }
}

pub(super) fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

fn advice(error: &io::Error) -> &'static str {
    if is_disk_full(error) { "; free space on this file system, then start the server again" } else { "" }
}

/// Says which operation on which file failed.
pub(super) trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, DiskError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, DiskError> {
        self.map_err(|source| DiskError { action, path: path.to_owned(), source })
    }
}

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.as_os_str().is_empty() || dir.is_dir() {
            return Ok(());
        }
        let parent = dir.parent().unwrap_or(Path::new("/"));
        self.create_dir_all(parent)?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            other => other?,
        }
        self.sync_dir(parent)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for item in fs::read_dir(or_here(dir))? {
            let item = item?;
            // Names that are not text are none of ours. Links are followed, as Apache does.
            let Ok(name) = item.file_name().into_string() else { continue };
            let Ok(metadata) = fs::metadata(item.path()) else { continue };
            if metadata.is_file() {
                entries.push(Entry { name, len: metadata.len() });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        match access {
            Access::Read => options.read(true),
            Access::Write => options.read(true).write(true),
            Access::Create => options.read(true).write(true).create(true).truncate(true),
        };
        Ok(Box::new(RealFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(or_here(dir))?.sync_all()
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(RealLock { _file: file }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// The parent of a relative name of one part is the empty path, which the system does not know.
fn or_here(dir: &Path) -> &Path {
    if dir.as_os_str().is_empty() { Path::new(".") } else { dir }
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match FileExt::read_at(&self.0, buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(&self.0, bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        if reserve(&self.0, offset, len)? {
            return Ok(());
        }
        let end = offset + len;
        if self.size()? < end { self.0.set_len(end) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

/// Reserves room; `false` when this file system cannot.
#[cfg(target_os = "linux")]
fn reserve(file: &File, offset: u64, len: u64) -> io::Result<bool> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    loop {
        match fallocate(file, FallocateFlags::empty(), offset, len) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(_file: &File, _offset: u64, _len: u64) -> io::Result<bool> {
    Ok(false)
}

#[derive(Debug)]
struct RealLock {
    _file: File,
}

impl DiskLock for RealLock {}

/// Reads a file from its start to its end.
#[derive(Debug)]
pub(super) struct FileReader {
    file: Box<dyn DiskFile>,
    offset: u64,
}

impl FileReader {
    pub(super) fn new(file: Box<dyn DiskFile>) -> Self {
        FileReader { file, offset: 0 }
    }
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Writes a file from its start, each call straight to the disk; wrap it to gather small pieces.
#[derive(Debug)]
pub(super) struct FileWriter {
    file: Box<dyn DiskFile>,
    offset: u64,
}

impl FileWriter {
    pub(super) fn new(file: Box<dyn DiskFile>) -> Self {
        FileWriter { file, offset: 0 }
    }

    pub(super) fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a small file so that after a crash it has either its old or its new content: under another name, synced,
/// renamed, folder synced.
pub(crate) fn replace_file(disk: &dyn Disk, temp: &Path, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let file = disk.open(temp, Access::Create).at("create", temp)?;
    file.write_all_at(bytes, 0).at("write", temp)?;
    file.sync_all().at("sync", temp)?;
    drop(file);
    disk.rename(temp, path).at("rename", temp)?;
    sync_parent(disk, path)
}

/// Makes the name of a file durable.
pub(super) fn sync_parent(disk: &dyn Disk, path: &Path) -> Result<(), DiskError> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    disk.sync_dir(dir).at("sync the folder", dir)
}

/// Removes a small file durably; one that is gone already is as good.
pub(crate) fn remove_file(disk: &dyn Disk, path: &Path) -> Result<(), DiskError> {
    match remove_if_there(disk, path)? {
        true => sync_parent(disk, path),
        false => Ok(()),
    }
}

/// A small file as a whole; `None` if there is none.
pub(crate) fn read_file(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    let file = match disk.open(path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).at("open", path),
    };
    let mut bytes = Vec::new();
    FileReader::new(file).take(SMALL_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).at("read", path)?;
    if bytes.len() as u64 > SMALL_FILE_BYTES_MAX {
        return Err(io::Error::other("it is larger than such a file can be")).at("read", path);
    }
    Ok(Some(bytes))
}

/// Removes a file; one that is gone already is as good.
pub(super) fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<bool, DiskError> {
    match disk.remove(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).at("remove", path),
    }
}
