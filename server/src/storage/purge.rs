//! Removing snapshots and logs that no start needs any more.

use std::path::{Path, PathBuf};

use docent::Zxid;

use super::disk::{At, Disk, DiskError};
use super::layout::{self, Dirs, Found};
use super::snapshot;

/// The smallest number of snapshots that are kept; a smaller wish is raised to it, as Apache does.
pub const RETAIN_MIN: usize = 3;

/// Keeps the `retain` newest valid snapshots (at least [`RETAIN_MIN`]) and every log that a start from any of them
/// needs; removes the rest, and returns what was removed. Without a valid snapshot nothing is removed.
///
/// With z the oldest snapshot kept: snapshots and logs named below z go, except the newest log named z or below, which holds
/// the records right behind z. Valid means what Apache means by it: the file ends as a whole snapshot does.
///
/// # Errors
/// The disk fails; some of the files may be gone then, always older ones first.
pub fn purge(disk: &dyn Disk, dirs: &Dirs, retain: usize) -> Result<Vec<PathBuf>, DiskError> {
    let snapshots = layout::snapshots(disk, &dirs.snapshots)?;
    let Some(oldest) = oldest_kept(disk, &snapshots, retain.max(RETAIN_MIN))? else { return Ok(Vec::new()) };
    let logs = layout::logs(disk, &dirs.logs)?;
    let needed = logs.iter().rposition(|log| log.zxid <= oldest).unwrap_or(0);
    let mut removed = Vec::new();
    // Snapshots first: one without its logs would be a candidate that leads nowhere.
    let old = snapshots.iter().filter(|file| file.zxid < oldest);
    remove_all(disk, &dirs.snapshots, old, &mut removed)?;
    remove_all(disk, &dirs.logs, &logs[..needed], &mut removed)?;
    Ok(removed)
}

fn oldest_kept(disk: &dyn Disk, snapshots: &[Found], retain: usize) -> Result<Option<Zxid>, DiskError> {
    let mut oldest = None;
    let mut kept = 0;
    for file in snapshots.iter().rev() {
        if kept == retain {
            break;
        }
        // Two forms of one snapshot, plain and compressed, are one.
        if oldest != Some(file.zxid) && snapshot::looks_valid(disk, file).at("read", &file.path)? {
            oldest = Some(file.zxid);
            kept += 1;
        }
    }
    Ok(oldest)
}

fn remove_all<'a>(
    disk: &dyn Disk,
    dir: &Path,
    files: impl IntoIterator<Item = &'a Found>,
    removed: &mut Vec<PathBuf>,
) -> Result<(), DiskError> {
    let before = removed.len();
    for file in files {
        disk.remove(&file.path).at("remove", &file.path)?;
        removed.push(file.path.clone());
    }
    if removed.len() > before { disk.sync_dir(dir).at("sync the folder", dir) } else { Ok(()) }
}
