//! The configuration on disk, beside `zoo.cfg`: what was committed last, and what is under way.
//!
//! ```text
//! zoo.cfg                     names the file below; its own server lines move there the first time
//! zoo.cfg.bak                 zoo.cfg as it was before
//! zoo.cfg.dynamic.100000003   the members of version 0x100000003
//! zoo.cfg.dynamic.next        the members that are under way, with their version
//! ```
//!
//! Each file is written under another name, synced and renamed, and the folder synced, so that a crash leaves the old one
//! or the new one. The order matters: the dynamic file is there before `zoo.cfg` names it, and what is under way is
//! forgotten only then. A file that cannot be written is an error in the log and no more, as in Apache: what it would have
//! said comes again from the other servers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use docent::Zxid;

use crate::config::properties::MalformedEscape;
use crate::config::{Dynamic, DynamicError, ServerId, rewrite};
use crate::storage::{Disk, DiskError, Errand, read_file, remove_file, replace_file};
use crate::zab::{Members, PeerId};

/// The files of one server.
#[derive(Clone, Debug)]
pub struct MembersFile {
    disk: Arc<dyn Disk>,
    zoo_cfg: PathBuf,
    me: PeerId,
    /// The version that `zoo.cfg` names.
    written: i64,
}

impl MembersFile {
    /// The files beside this `zoo.cfg`, which names members of version `written`.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, zoo_cfg: &Path, me: PeerId, written: i64) -> Self {
        let zoo_cfg = std::path::absolute(zoo_cfg).unwrap_or_else(|_| zoo_cfg.to_owned());
        MembersFile { disk, zoo_cfg, me, written }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.zoo_cfg.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    }

    fn next(&self) -> PathBuf {
        self.beside(".dynamic.next")
    }

    /// What was under way when the server ended. Blocks.
    #[must_use]
    pub fn read_next(&self) -> Option<Members> {
        let text = read_file(&*self.disk, &self.next()).ok()??;
        let read = Dynamic::parse(&text).and_then(|next| next.to_members());
        read.inspect_err(|error| tracing::warn!(%error, "the configuration under way cannot be read")).ok()
    }

    /// Forgets what was under way if it is not in the log, which ends here: it was cut out of it. Blocks.
    pub fn forget_cut(&self, last: Zxid) {
        if self.read_next().is_some_and(|next| next.zxid() > last) {
            report("forget what was under way", remove_file(&*self.disk, &self.next()));
        }
    }

    /// Writes both down, when the errand is run.
    pub fn write(&mut self, committed: &Members, under_way: Option<&Members>) -> Errand {
        let fresh = (committed.version > self.written).then(|| committed.text.clone());
        self.written = self.written.max(committed.version);
        let (files, next) = (self.clone(), under_way.map(|members| members.text.clone()));
        Errand(Arc::new(move || {
            if let Some(text) = &fresh {
                report("write down the members", files.write_committed(text));
            }
            let done = match &next {
                Some(text) => files.replace(&files.next(), text),
                None => remove_file(&*files.disk, &files.next()),
            };
            report("write down the members that are under way", done);
        }))
    }

    fn write_committed(&self, text: &[u8]) -> Result<(), Unwritten> {
        let members = Dynamic::parse(text)?;
        let file = self.beside(&format!(".dynamic.{:x}", members.version));
        self.replace(&file, members.file_text().as_bytes())?;
        let old = read_file(&*self.disk, &self.zoo_cfg)?.ok_or(Unwritten::NoConfig)?;
        let mine = members.members.get(&ServerId(self.me.0));
        let client_moved = mine.is_some_and(|member| member.client.is_some());
        let new = rewrite::point_to(&old, &file, client_moved)?;
        let backup = self.beside(".bak");
        if read_file(&*self.disk, &backup)?.is_none() {
            self.replace(&backup, &old)?;
        }
        self.replace(&self.zoo_cfg, &new)?;
        tracing::info!(file = %file.display(), "the members are written down");
        Ok(())
    }

    /// Puts a file in the place of another, durably.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let mut temporary = path.to_owned().into_os_string();
        temporary.push(".tmp");
        replace_file(&*self.disk, &PathBuf::from(temporary), path, bytes)
    }
}

/// Why the members that count are not written down.
#[derive(Debug, thiserror::Error)]
enum Unwritten {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Members(#[from] DynamicError),
    #[error(transparent)]
    Escape(#[from] MalformedEscape),
    #[error("zoo.cfg is gone")]
    NoConfig,
}

fn report<E: std::fmt::Display>(what: &str, done: Result<(), E>) {
    if let Err(error) = done {
        tracing::error!(%error, "cannot {what}");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::storage::RealDisk;

    fn members(version: i64, client: &str) -> Members {
        let text =
            format!("server.1=h1:1:2:participant{client}\nserver.2=h2:1:2:observer;5\nversion={version:x}");
        Dynamic::parse(text.as_bytes()).unwrap().to_members().unwrap()
    }

    #[test]
    fn what_is_written_down_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let zoo_cfg = folder.path().join("zoo.cfg");
        let first = "tickTime=2\nclientPort=5\nserver.1=h1:1:2\n";
        fs::write(&zoo_cfg, first).unwrap();
        let mut files = MembersFile::new(Arc::new(RealDisk), &zoo_cfg, PeerId(1), 0);
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();

        (files.write(&members(0, ""), Some(&members(0x1_0000_0000, ""))).0)();
        assert_eq!((read("zoo.cfg").as_str(), files.read_next()), (first, Some(members(0x1_0000_0000, ""))));

        (files.write(&members(0x1_0000_0000, ""), None).0)();
        assert_eq!(read("zoo.cfg.bak"), first);
        assert_eq!(
            read("zoo.cfg.dynamic.100000000"),
            "server.1=h1:1:2:participant\nserver.2=h2:1:2:observer;0.0.0.0:5"
        );
        let pointer = format!("dynamicConfigFile={}", zoo_cfg.display());
        assert_eq!(read("zoo.cfg"), format!("tickTime=2\nclientPort=5\n{pointer}.dynamic.100000000\n"));
        assert_eq!(files.read_next(), None);

        (files.write(&members(0x1_0000_0003, ";5"), Some(&members(0x1_0000_0007, ""))).0)();
        assert_eq!(read("zoo.cfg"), format!("tickTime=2\n{pointer}.dynamic.100000003\n"));
        assert_eq!(read("zoo.cfg.bak"), first, "the first one is kept");
        files.forget_cut(Zxid(0x1_0000_0007));
        assert!(files.read_next().is_some());
        files.forget_cut(Zxid(0x1_0000_0006));
        assert_eq!(files.read_next(), None);
    }
}
