//! What both disks promise, checked on both.

use std::io;
use std::path::{Path, PathBuf};

use crate::storage::disk::{Access, Disk, RealDisk};
use crate::storage::mem_disk::MemDisk;

/// Runs one promise on a folder of the real disk and on one in memory.
fn on_both(promise: impl Fn(&dyn Disk, &Path)) {
    let real = tempfile::tempdir().unwrap();
    promise(&RealDisk, real.path());
    let fake = MemDisk::new();
    fake.create_dir_all(Path::new("/root")).unwrap();
    promise(&fake, Path::new("/root"));
}

fn create(disk: &dyn Disk, path: &Path, bytes: &[u8]) {
    let file = disk.open(path, Access::Create).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_all().unwrap();
}

fn read(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, Access::Read).unwrap();
    let mut bytes = vec![0; file.size().unwrap() as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += file.read_at(&mut bytes[filled..], filled as u64).unwrap();
    }
    assert_eq!(file.read_at(&mut [0; 8], filled as u64).unwrap(), 0, "nothing behind the end");
    bytes
}

fn names(disk: &dyn Disk, dir: &Path) -> Vec<String> {
    disk.list(dir).unwrap().into_iter().map(|entry| entry.name).collect()
}

fn kind<T>(outcome: io::Result<T>) -> io::ErrorKind {
    outcome.err().expect("this fails").kind()
}

#[test]
fn bytes_are_read_where_they_were_written() {
    on_both(|disk, root| {
        let path = root.join("file");
        let file = disk.open(&path, Access::Create).unwrap();
        file.write_all_at(b"hello", 3).unwrap();
        file.write_all_at(b"J", 3).unwrap();
        file.sync_data().unwrap();
        assert_eq!(read(disk, &path), b"\0\0\0Jello");
        assert_eq!(file.size().unwrap(), 8);
        file.set_len(5).unwrap();
        file.set_len(7).unwrap();
        file.sync_all().unwrap();
        assert_eq!(read(disk, &path), b"\0\0\0Je\0\0", "what was cut off comes back as zeros");
    });
}

#[test]
fn allocated_room_reads_as_zeros_and_keeps_what_was_there() {
    on_both(|disk, root| {
        let path = root.join("file");
        let file = disk.open(&path, Access::Create).unwrap();
        file.write_all_at(b"head", 0).unwrap();
        file.allocate(4, 6).unwrap();
        assert_eq!(read(disk, &path), b"head\0\0\0\0\0\0");
        file.allocate(0, 2).unwrap();
        assert_eq!(file.size().unwrap(), 10, "it never shrinks");
    });
}

#[test]
fn a_file_is_opened_as_asked() {
    on_both(|disk, root| {
        let path = root.join("file");
        for access in [Access::Read, Access::Write] {
            assert_eq!(kind(disk.open(&path, access)), io::ErrorKind::NotFound);
        }
        create(disk, &path, b"old");
        let file = disk.open(&path, Access::Write).unwrap();
        file.write_all_at(b"O", 0).unwrap();
        assert_eq!(read(disk, &path), b"Old");
        assert!(disk.open(&path, Access::Read).unwrap().write_all_at(b"x", 0).is_err(), "read-only");
        drop(disk.open(&path, Access::Create).unwrap());
        assert_eq!(read(disk, &path), b"", "emptied");
    });
}

#[test]
fn names_change_in_one_step() {
    on_both(|disk, root| {
        create(disk, &root.join("a"), b"new");
        create(disk, &root.join("b"), b"old");
        let open = disk.open(&root.join("b"), Access::Read).unwrap();
        disk.rename(&root.join("a"), &root.join("b")).unwrap();
        disk.sync_dir(root).unwrap();
        assert_eq!((names(disk, root), read(disk, &root.join("b"))), (vec!["b".to_owned()], b"new".to_vec()));
        assert_eq!(open.size().unwrap(), 3, "an open file outlives its name");
        assert_eq!(kind(disk.rename(&root.join("a"), &root.join("c"))), io::ErrorKind::NotFound);
        disk.remove(&root.join("b")).unwrap();
        assert_eq!(kind(disk.remove(&root.join("b"))), io::ErrorKind::NotFound);
        assert!(names(disk, root).is_empty());
    });
}

#[test]
fn a_folder_lists_its_files_in_order() {
    on_both(|disk, root| {
        let dir = root.join("x/y");
        assert_eq!(kind(disk.list(&dir)), io::ErrorKind::NotFound);
        disk.create_dir_all(&dir).unwrap();
        disk.create_dir_all(&dir).unwrap();
        for name in ["b", "a", "c"] {
            create(disk, &dir.join(name), name.repeat(3).as_bytes());
        }
        assert_eq!(names(disk, &dir), ["a", "b", "c"]);
        assert!(disk.list(&dir).unwrap().iter().all(|entry| entry.len == 3));
        assert!(names(disk, root).is_empty(), "folders are not files");
    });
}

#[test]
fn a_lock_is_held_by_one() {
    on_both(|disk, root| {
        let path: PathBuf = root.join("lock");
        let held = disk.try_lock(&path).unwrap();
        assert!(held.is_some());
        assert!(disk.try_lock(&path).unwrap().is_none());
        drop(held);
        assert!(disk.try_lock(&path).unwrap().is_some());
    });
}

#[test]
fn the_disk_in_memory_loses_what_was_not_synced() {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new("/d")).unwrap();
    let path = Path::new("/d/f");
    let file = disk.open(path, Access::Create).unwrap();
    file.write_all_at(b"synced", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.after_crash_keeping(|_| 0).contents(path), None, "the name was not synced");
    disk.sync_dir(Path::new("/d")).unwrap();
    file.write_all_at(b"abc", 6).unwrap();
    assert_eq!(disk.after_crash_keeping(|_| 0).contents(path).unwrap(), b"synced");
    let mut picks = [0, 2].into_iter();
    let torn = disk.after_crash_keeping(|max| if max == 0 { 0 } else { picks.next().unwrap() });
    assert_eq!(torn.contents(path).unwrap(), b"syncedab", "no whole write, two bytes of the next");
}

#[test]
fn the_disk_in_memory_fails_as_told() {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new("/d")).unwrap();
    let path = Path::new("/d/f");
    let file = disk.open(path, Access::Create).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    disk.fail_sync_after(0);
    file.write_all_at(b"lost", 0).unwrap();
    assert!(file.sync_data().is_err());
    assert!(file.sync_data().is_ok(), "the next sync says that all is well");
    assert_eq!(disk.contents(path).unwrap(), b"lost", "and it can still be read");
    assert_eq!(disk.after_crash_keeping(|max| max).contents(path).unwrap(), b"", "but it is gone");

    disk.set_capacity(Some(6));
    let error = file.write_all_at(b"12345", 4).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.contents(path).unwrap(), b"lost12", "a full disk takes a part");

    disk.stop_after(1);
    assert!(disk.sync_dir(Path::new("/d")).is_ok());
    assert!(disk.sync_dir(Path::new("/d")).is_err());
}
