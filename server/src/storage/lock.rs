//! One server per data directory: two would overwrite each other's log. Apache has no such lock, so this only keeps
//! out servers of our kind.

use std::path::PathBuf;

use super::disk::{At, Disk, DiskError, DiskLock};
use super::layout::Dirs;

/// The file that is locked, in each of the folders.
const NAME: &str = "docent.lock";

/// Held for as long as the server uses its folders. The lock dies with the process, so nothing is left to clean up.
#[derive(Debug)]
pub struct DirLock {
    _locks: Vec<Box<dyn DiskLock>>,
}

/// Why the folders cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Another process holds them.
    #[error("another server is using this data directory ({} is locked); stop it, or give this one its own dataDir", .path.display())]
    Held {
        /// The locked file.
        path: PathBuf,
    },
}

impl DirLock {
    /// Makes the folders if they are missing, and locks them.
    ///
    /// # Errors
    /// Another server holds one of them, or the disk fails.
    pub fn acquire(disk: &dyn Disk, dirs: &Dirs) -> Result<Self, LockError> {
        let mut locks = Vec::new();
        for dir in dirs.each() {
            disk.create_dir_all(dir).at("create", dir)?;
            let path = dir.join(NAME);
            match disk.try_lock(&path).at("lock", &path)? {
                Some(lock) => locks.push(lock),
                None => return Err(LockError::Held { path }),
            }
        }
        Ok(DirLock { _locks: locks })
    }
}
