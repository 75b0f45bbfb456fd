//! A disk in memory that behaves as badly as a real one may: what was not synced can be lost, the last write can be torn
//! at any byte, a sync can fail, room can run out.
//!
//! The model. Every file has its *durable* bytes and a list of changes since its last sync. A crash keeps for every file
//! some beginning of that list, the next write torn at any byte. Names are kept by folder in the same way: a beginning
//! of what was not synced survives. Files and folders are independent of each other, so any order that a caller did
//! not force by a sync can come out. A failed sync drops the changes it should have made durable although they still can be read,
//! as Linux does.
//!
//! Left out: a crash that keeps a later write to one file but not an earlier one (see the end of the essay in
//! [`storage`](super)), and the durability of folders themselves, which exist at once.
//!
//! Files that are preallocated take their whole size of memory; tests use small segments.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Access, Disk, DiskFile, DiskLock, Entry};

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    dirs: BTreeMap<PathBuf, Folder>,
    files: BTreeMap<FileId, Content>,
    next_file: FileId,
    locked: BTreeSet<PathBuf>,
    faults: Faults,
}

type FileId = u64;

#[derive(Debug, Default)]
struct Folder {
    now: BTreeMap<String, FileId>,
    durable: BTreeMap<String, FileId>,
    pending: Vec<NameChange>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, FileId),
    Unlink(String),
    Rename(String, String),
}

#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

#[derive(Debug, Default)]
struct Faults {
    /// Operations until the machine stops.
    stop_in: Option<u64>,
    /// Syncs until one fails.
    fail_sync_in: Option<u64>,
    /// Bytes that all files together may have.
    capacity: Option<usize>,
}

impl MemDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        MemDisk::default()
    }

    /// Lets `count` changes and syncs happen, then fails every operation: the machine is gone, see
    /// [`after_crash`](Self::after_crash).
    pub fn stop_after(&self, count: u64) {
        self.lock().faults.stop_in = Some(count);
    }

    /// Lets `count` syncs succeed, fails the next one, and succeeds again after that.
    pub fn fail_sync_after(&self, count: u64) {
        self.lock().faults.fail_sync_in = Some(count);
    }

    /// Bounds the bytes of all files together; `None` takes the bound away.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.lock().faults.capacity = bytes;
    }

    /// Lets all files together grow by so many bytes; [`set_capacity`](Self::set_capacity) takes the bound away.
    pub fn leave_room(&self, bytes: usize) {
        let mut state = self.lock();
        let used: usize = state.files.values().map(|content| content.now.len()).sum();
        state.faults.capacity = Some(used + bytes);
    }

    /// What a file holds now.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        let id = state.find(path).ok()?;
        Some(state.files[&id].now.clone())
    }

    /// Puts a durable file on the disk, and its folder.
    pub fn put(&self, path: &Path, bytes: impl Into<Vec<u8>>) {
        let mut state = self.lock();
        let (dir, name) = split(path);
        let id = state.next_file;
        state.next_file += 1;
        let bytes = bytes.into();
        state.files.insert(id, Content { now: bytes.clone(), durable: bytes, pending: Vec::new() });
        let folder = state.dirs.entry(dir).or_default();
        folder.now.insert(name.clone(), id);
        folder.durable.insert(name, id);
    }

    /// The disk as the machine finds it after a crash: a random one of the states that were possible.
    #[must_use]
    pub fn after_crash(&self, rng: &mut fastrand::Rng) -> MemDisk {
        self.after_crash_keeping(|max| rng.usize(..=max))
    }

    /// As [`after_crash`](Self::after_crash), with the choices made by `keep`, which is given a maximum: first for every
    /// folder how many of its changed names survive, then for every file how many whole changes and, if the next is a
    /// write, how many of its bytes.
    #[must_use]
    pub fn after_crash_keeping(&self, mut keep: impl FnMut(usize) -> usize) -> MemDisk {
        let old = self.lock();
        let mut new = State { next_file: old.next_file, ..State::default() };
        for (path, folder) in &old.dirs {
            let mut names = folder.durable.clone();
            for change in &folder.pending[..keep(folder.pending.len())] {
                change.apply(&mut names);
            }
            let folder = Folder { now: names.clone(), durable: names, pending: Vec::new() };
            new.dirs.insert(path.clone(), folder);
        }
        for (id, content) in &old.files {
            let bytes = content.survivor(&mut keep);
            new.files.insert(*id, Content { now: bytes.clone(), durable: bytes, pending: Vec::new() });
        }
        MemDisk { state: Arc::new(Mutex::new(new)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves this state whole: every change is made by one call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn split(path: &Path) -> (PathBuf, String) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    (path.parent().unwrap_or(Path::new("")).to_owned(), name)
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl State {
    fn find(&self, path: &Path) -> io::Result<FileId> {
        let (dir, name) = split(path);
        self.dirs.get(&dir).and_then(|folder| folder.now.get(&name)).copied().ok_or_else(not_found)
    }

    fn folder(&mut self, path: &Path) -> io::Result<&mut Folder> {
        self.dirs.get_mut(path).ok_or_else(not_found)
    }

    fn change_name(&mut self, dir: &Path, change: NameChange) -> io::Result<()> {
        self.step()?;
        let folder = self.folder(dir)?;
        change.apply(&mut folder.now);
        folder.pending.push(change);
        Ok(())
    }

    /// One operation of a machine that may have stopped.
    fn step(&mut self) -> io::Result<()> {
        match &mut self.faults.stop_in {
            Some(0) => Err(io::Error::other("the machine has stopped")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn sync_step(&mut self) -> io::Result<bool> {
        self.step()?;
        match &mut self.faults.fail_sync_in {
            Some(0) => {
                self.faults.fail_sync_in = None;
                Ok(false)
            }
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None => Ok(true),
        }
    }

    fn change(&mut self, id: FileId, change: Change) -> io::Result<()> {
        self.step()?;
        let used: usize = self.files.values().map(|content| content.now.len()).sum();
        let content = self.files.get_mut(&id).expect("an open file has its content");
        let grows = change.end().saturating_sub(content.now.len());
        let room = self.faults.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(used));
        if grows <= room {
            content.change(change);
            return Ok(());
        }
        // A full disk takes what it has room for.
        if let Change::Write { at, mut bytes } = change {
            bytes.truncate((content.now.len() + room).saturating_sub(at));
            content.change(Change::Write { at, bytes });
        }
        Err(io::ErrorKind::StorageFull.into())
    }

    fn sync_file(&mut self, id: FileId) -> io::Result<()> {
        let good = self.sync_step()?;
        let content = self.files.get_mut(&id).expect("an open file has its content");
        let pending = std::mem::take(&mut content.pending);
        if !good {
            return Err(io::Error::other("input/output error (sync failed)"));
        }
        for change in pending {
            change.apply(&mut content.durable);
        }
        Ok(())
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, FileId>) {
        match self {
            NameChange::Link(name, id) => {
                names.insert(name.clone(), *id);
            }
            NameChange::Unlink(name) => {
                names.remove(name);
            }
            NameChange::Rename(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
        }
    }
}

impl Content {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }

    fn survivor(&self, keep: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        if self.pending.is_empty() {
            return bytes;
        }
        let whole = keep(self.pending.len());
        for change in &self.pending[..whole] {
            change.apply(&mut bytes);
        }
        if let Some(Change::Write { at, bytes: torn }) = self.pending.get(whole) {
            let torn = torn[..keep(torn.len())].to_vec();
            Change::Write { at: *at, bytes: torn }.apply(&mut bytes);
        }
        bytes
    }
}

impl Change {
    /// The size that a file needs for this change.
    fn end(&self) -> usize {
        match self {
            Change::Write { at, bytes } => at + bytes.len(),
            Change::Resize(len) => *len,
        }
    }

    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write { bytes, .. } if bytes.is_empty() => {}
            Change::Write { at, bytes } => {
                content.resize(content.len().max(at + bytes.len()), 0);
                content[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Change::Resize(len) => content.resize(*len, 0),
        }
    }
}

impl Disk for MemDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        for ancestor in dir.ancestors() {
            state.dirs.entry(ancestor.to_owned()).or_default();
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut state = self.lock();
        let names = state.folder(dir)?.now.clone();
        let entry = |(name, id): (String, FileId)| Entry { len: state.files[&id].now.len() as u64, name };
        Ok(names.into_iter().map(entry).collect())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock();
        let id = match (state.find(path), access) {
            (Ok(id), Access::Create) => {
                state.change(id, Change::Resize(0))?;
                id
            }
            (Err(_), Access::Create) => {
                let (dir, name) = split(path);
                let id = state.next_file;
                state.change_name(&dir, NameChange::Link(name, id))?;
                state.next_file += 1;
                state.files.insert(id, Content::default());
                id
            }
            (found, _) => found?,
        };
        Ok(Box::new(MemFile { disk: self.clone(), id, writable: access != Access::Read }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.find(from)?;
        let ((dir, from), (to_dir, to)) = (split(from), split(to));
        assert_eq!(dir, to_dir, "the contract is about one folder");
        state.change_name(&dir, NameChange::Rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.find(path)?;
        let (dir, name) = split(path);
        state.change_name(&dir, NameChange::Unlink(name))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let good = state.sync_step()?;
        let folder = state.folder(dir)?;
        let pending = std::mem::take(&mut folder.pending);
        if !good {
            return Err(io::Error::other("input/output error (sync failed)"));
        }
        for change in pending {
            change.apply(&mut folder.durable);
        }
        Ok(())
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        drop(match self.open(path, Access::Write) {
            Err(_) => self.open(path, Access::Create)?,
            found => found?,
        });
        if !self.lock().locked.insert(path.to_owned()) {
            return Ok(None);
        }
        Ok(Some(Box::new(MemLock { disk: self.clone(), path: path.to_owned() })))
    }
}

#[derive(Debug)]
struct MemFile {
    disk: MemDisk,
    id: FileId,
    writable: bool,
}

impl MemFile {
    fn change(&self, change: Change) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.disk.lock().change(self.id, change)
    }
}

impl DiskFile for MemFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files[&self.id].now.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.lock();
        let content = &state.files[&self.id].now;
        let rest = usize::try_from(offset).ok().and_then(|offset| content.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(Change::Write { at: to_usize(offset)?, bytes: bytes.to_vec() })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Resize(to_usize(len)?))
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let end = offset.saturating_add(len).max(self.size()?);
        self.set_len(end)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.lock().sync_file(self.id)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}

fn to_usize(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

#[derive(Debug)]
struct MemLock {
    disk: MemDisk,
    path: PathBuf,
}

impl DiskLock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.disk.lock().locked.remove(&self.path);
    }
}
