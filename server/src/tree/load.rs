//! Reading a snapshot's body: from the sessions up to and including the end marker.
//!
//! Any order is accepted in which a node's parent comes before it, any numbering of lists, and what Apache writes
//! while its tree changes. Not one byte after the end marker is read, for there follows the file's own business.
//! Lengths that the bytes claim reserve no memory: what is read is kept as it comes.

use std::collections::BTreeMap;
use std::io::{self, Read};

use bytes::Buf;
use docent::{Acl, Permissions, SessionId, Zxid};

use super::acl::AclId;
use super::dump::END_MARKER;
use super::node::{Node, NodeId, StoredStat};
use super::{Tree, TreeOptions, split};

/// Bytes of a node behind its data: the list's number and the state.
const NODE_TAIL: usize = 68;

/// Why a snapshot cannot be read. It is of no use; an older one and the log may be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The bytes end early or cannot be read.
    #[error("snapshot cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A length or count is negative.
    #[error("snapshot has the length {0} for {1}")]
    Length(i32, &'static str),
    /// A path is not text, or is not the path of a node.
    #[error("snapshot has a node with the path {0:?}")]
    Path(String),
    /// A node stands before its parent.
    #[error("snapshot has {0:?} before its parent")]
    Orphan(String),
    /// A node stands there twice.
    #[error("snapshot has {0:?} twice")]
    Twice(String),
    /// A node names a list that the table does not hold.
    #[error("snapshot names access control list {id} of {path:?}, which is not in its table")]
    UnknownAcl {
        /// The node.
        path: String,
        /// The number.
        id: i64,
    },
    /// The root is missing.
    #[error("snapshot has no root")]
    NoRoot,
}

/// Bytes that a claimed length may reserve before any of them has come.
const FILL_STEP: usize = 1 << 16;

/// Reads so many bytes in place of what `buffer` held.
fn fill(input: &mut impl Read, buffer: &mut Vec<u8>, length: usize) -> io::Result<()> {
    buffer.clear();
    while buffer.len() < length {
        let start = buffer.len();
        buffer.resize(length.min(start + FILL_STEP), 0);
        input.read_exact(&mut buffer[start..])?;
    }
    Ok(())
}

fn read_int(input: &mut impl Read) -> io::Result<i32> {
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes)?;
    Ok(i32::from_be_bytes(bytes))
}

fn read_long(input: &mut impl Read) -> io::Result<i64> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes)?;
    Ok(i64::from_be_bytes(bytes))
}

fn read_count(input: &mut impl Read, what: &'static str) -> Result<usize, LoadError> {
    let count = read_int(input)?;
    usize::try_from(count).map_err(|_| LoadError::Length(count, what))
}

fn read_string(input: &mut impl Read, what: &'static str) -> Result<String, LoadError> {
    let length = read_count(input, what)?;
    let mut bytes = Vec::new();
    fill(input, &mut bytes, length)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_sessions(input: &mut impl Read) -> Result<Vec<(SessionId, i32)>, LoadError> {
    let count = read_count(input, "the sessions")?;
    let mut sessions = Vec::new();
    for _ in 0..count {
        sessions.push((SessionId(read_long(input)?), read_int(input)?));
    }
    Ok(sessions)
}

fn read_acl(input: &mut impl Read) -> Result<Vec<Acl>, LoadError> {
    let count = read_count(input, "an access control list")?;
    let mut acl = Vec::new();
    for _ in 0..count {
        let permissions = Permissions(read_int(input)?);
        let scheme = read_string(input, "a scheme")?;
        acl.push(Acl { permissions, scheme, id: read_string(input, "an identity")? });
    }
    Ok(acl)
}

/// The fixed part behind a node's data.
fn parse_tail(mut bytes: &[u8]) -> (i64, StoredStat) {
    let acl = bytes.get_i64();
    let stat = StoredStat {
        czxid: Zxid(bytes.get_i64()),
        mzxid: Zxid(bytes.get_i64()),
        ctime: bytes.get_i64(),
        mtime: bytes.get_i64(),
        version: bytes.get_i32(),
        cversion: bytes.get_i32(),
        aversion: bytes.get_i32(),
        owner: bytes.get_i64(),
        pzxid: Zxid(bytes.get_i64()),
    };
    (acl, stat)
}

/// A tree that is being read.
struct Loader {
    tree: Tree,
    /// The file's numbers of lists. Each list is used once by this table, until the end.
    acls: BTreeMap<i64, AclId>,
    has_root: bool,
    /// The parent of the node read last: siblings mostly come together.
    parent: (String, NodeId),
}

impl Loader {
    fn read_acls(&mut self, input: &mut impl Read) -> Result<(), LoadError> {
        for _ in 0..read_count(input, "the table of access control lists")? {
            let number = read_long(input)?;
            let id = self.tree.acls.acquire(&read_acl(input)?);
            if let Some(replaced) = self.acls.insert(number, id) {
                self.tree.acls.release(replaced);
            }
        }
        Ok(())
    }

    /// Reads node after node. A node's fixed part is read together with the length of the next path, which is
    /// never past the end: a path of one byte can only be the end marker.
    fn read_nodes(&mut self, input: &mut impl Read) -> Result<(), LoadError> {
        let (mut path, mut record) = (Vec::new(), Vec::new());
        let mut path_length = read_count(input, "a path")?;
        while path_length != END_MARKER.len() {
            fill(input, &mut path, path_length + 4)?;
            let data_length = (&path[path_length..]).get_i32();
            let length = match data_length {
                -1 => 0,
                length => usize::try_from(length).map_err(|_| LoadError::Length(length, "data"))?,
            };
            fill(input, &mut record, length + NODE_TAIL + 4)?;
            let data = (data_length != -1).then_some(&record[..length]);
            let (acl, stat) = parse_tail(&record[length..]);
            self.add(&String::from_utf8_lossy(&path[..path_length]), data, acl, &stat)?;
            let next_length = (&record[length + NODE_TAIL..]).get_i32();
            path_length =
                usize::try_from(next_length).map_err(|_| LoadError::Length(next_length, "a path"))?;
        }
        fill(input, &mut path, END_MARKER.len())?;
        if path == END_MARKER.as_bytes() {
            return Ok(());
        }
        Err(LoadError::Path(String::from_utf8_lossy(&path).into_owned()))
    }

    fn add(&mut self, path: &str, data: Option<&[u8]>, acl: i64, stat: &StoredStat) -> Result<(), LoadError> {
        let acl = match self.acls.get(&acl) {
            Some(id) => *id,
            None if acl == AclId::OPEN.to_file() => AclId::OPEN,
            None => return Err(LoadError::UnknownAcl { path: path.to_owned(), id: acl }),
        };
        if path.is_empty() {
            if std::mem::replace(&mut self.has_root, true) {
                return Err(LoadError::Twice(path.to_owned()));
            }
            self.tree.acls.acquire_again(acl);
            self.tree.settle_root(acl, data, stat);
            return Ok(());
        }
        let Some((parent_path, name)) = split(path) else { return Err(LoadError::Path(path.to_owned())) };
        if !self.has_root {
            return Err(LoadError::NoRoot);
        }
        if self.parent.0 != parent_path {
            let found = self.tree.store.find(parent_path);
            let parent = found.ok_or_else(|| LoadError::Orphan(path.to_owned()))?;
            self.parent = (parent_path.to_owned(), parent);
        }
        if self.tree.store.child(self.parent.1, name).is_some() {
            return Err(LoadError::Twice(path.to_owned()));
        }
        self.tree.acls.acquire_again(acl);
        self.tree.add(self.parent.1, path, Node::new(name, data, acl, stat));
        Ok(())
    }

    /// Lets go of the table, so that lists which no node holds are forgotten.
    fn finish(mut self) -> Result<Tree, LoadError> {
        if !self.has_root {
            return Err(LoadError::NoRoot);
        }
        for id in self.acls.into_values() {
            self.tree.acls.release(id);
        }
        self.tree.acls.sweep();
        self.tree.add_reserved();
        self.tree.recount_all();
        Ok(self.tree)
    }
}

impl Tree {
    /// Reads a snapshot's body and returns the tree and the sessions with their timeouts in milliseconds. What
    /// every server has of its own is added where it is missing. [`Tree::finish_load`] follows when it is known
    /// up to which zxid the snapshot, and the log after it, reach.
    ///
    /// `input` is asked for a few bytes at a time, so it should be buffered. Nothing behind the end marker is read.
    ///
    /// # Errors
    /// The input cannot be read or is not a snapshot.
    pub fn load(
        input: &mut impl Read,
        extended_types: bool,
    ) -> Result<(Tree, Vec<(SessionId, i32)>), LoadError> {
        Tree::load_with(input, TreeOptions { extended_types, ..TreeOptions::default() })
    }

    /// As [`Tree::load`], with all options.
    ///
    /// # Errors
    /// The input cannot be read or is not a snapshot.
    pub fn load_with(
        input: &mut impl Read,
        options: TreeOptions,
    ) -> Result<(Tree, Vec<(SessionId, i32)>), LoadError> {
        let mut loader = Loader {
            tree: Tree::bare(options),
            acls: BTreeMap::new(),
            has_root: false,
            parent: (String::new(), NodeId::ROOT),
        };
        let sessions = read_sessions(input)?;
        loader.read_acls(input)?;
        loader.read_nodes(input)?;
        Ok((loader.finish()?, sessions))
    }

    /// Says up to which zxid the tree is told, and counts the quotas anew.
    pub fn finish_load(&mut self, zxid: Zxid) {
        self.last_zxid = self.last_zxid.max(zxid);
        self.recount_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use crate::tree::check::{check, picture};
    use bytes::{BufMut, BytesMut};
    use docent::proto::jute::{put_buffer, put_string};

    const FUTURE: &[u8] = b"seal";

    /// Writes a snapshot by hand.
    struct File(BytesMut);

    impl File {
        fn new() -> File {
            let mut bytes = BytesMut::new();
            bytes.put_i32(1);
            bytes.put_i64(-5);
            bytes.put_i32(4_000);
            bytes.put_i32(2);
            for (number, id) in [(70_i64, "::1"), (-9, "::2")] {
                bytes.put_i64(number);
                bytes.put_i32(1);
                bytes.put_i32(1);
                put_string(&mut bytes, "ip");
                put_string(&mut bytes, id);
            }
            File(bytes)
        }

        fn node(mut self, path: &str, acl: i64) -> File {
            put_string(&mut self.0, path);
            put_buffer(&mut self.0, Some(path.as_bytes()));
            self.0.put_i64(acl);
            self.0.put_bytes(0, 60);
            self
        }

        fn end(mut self) -> BytesMut {
            put_string(&mut self.0, END_MARKER);
            self.0.extend_from_slice(FUTURE);
            self.0
        }
    }

    fn error(file: &[u8]) -> String {
        Tree::load(&mut &*file, true).map(|_| ()).unwrap_err().to_string()
    }

    /// Gives one byte at a time.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(1);
            self.0.read(&mut buffer[..length])
        }
    }

    #[test]
    fn any_order_with_parents_first_and_any_numbers_are_read_up_to_the_end_marker() {
        let file =
            File::new().node("", -1).node("/b", 70).node("/a", 70).node("/b/x", -9).node("/a/y", -1).end();
        let mut input = Trickle(&file);
        let (tree, sessions) = Tree::load(&mut input, true).unwrap();
        check(&tree);
        assert_eq!(input.0, FUTURE);
        assert_eq!(sessions, [(SessionId(-5), 4_000)]);
        assert_eq!(tree.node("/a").unwrap().acl_id(), tree.node("/b").unwrap().acl_id());
        assert_eq!(tree.node("/b/x").unwrap().acl()[0].id, "::2");
        assert_eq!(tree.node("/a/y").unwrap().acl(), Acl::open());
        let children: Vec<&str> = tree.node("/").unwrap().children().collect();
        assert_eq!(children, ["b", "a", "zookeeper"], "what every server has is added");
        assert_eq!(picture(&tree)["/zookeeper/config"].2, Acl::read_only());
    }

    #[test]
    fn lists_that_no_node_holds_are_forgotten() {
        let (tree, _) = Tree::load(&mut &File::new().node("", -9).end()[..], true).unwrap();
        let lists: BTreeSet<&str> = tree.acls.used().map(|(_, acl)| &*acl[0].id).collect();
        assert_eq!(lists, BTreeSet::from(["::2", "anyone"]), "the root's and the configuration's");
    }

    #[test]
    fn quotas_are_found_and_counted_at_once() {
        let mut file = File::new().node("", -1).node("/a", -1).node("/a/b", -1);
        for path in ["", "/quota", "/quota/a", "/quota/a/zookeeper_limits", "/quota/a/zookeeper_stats"] {
            file = file.node(&format!("/zookeeper{path}"), -1);
        }
        let (tree, _) = Tree::load(&mut &file.end()[..], true).unwrap();
        // The data of each node is its path.
        let quota = tree.quota("/a/b/c").unwrap();
        assert_eq!((quota.path.as_str(), quota.count, quota.bytes), ("/a", 2, 6));
    }

    #[test]
    fn what_is_not_a_snapshot_is_refused_by_name() {
        assert_eq!(error(&File::new().end()), "snapshot has no root");
        assert_eq!(error(&File::new().node("/a", -1).end()), "snapshot has no root");
        let root = || File::new().node("", -1);
        assert_eq!(error(&root().node("/a/b", -1).end()), "snapshot has \"/a/b\" before its parent");
        assert_eq!(error(&root().node("/a", -1).node("/a", -1).end()), "snapshot has \"/a\" twice");
        assert_eq!(error(&root().node("", -1).end()), "snapshot has \"\" twice");
        assert_eq!(error(&root().node("a/", -1).end()), "snapshot has a node with the path \"a/\"");
        assert_eq!(error(&root().node("a", -1).end()), "snapshot has a node with the path \"a\"");
        let unknown = "snapshot names access control list 71 of \"/a\", which is not in its table";
        assert_eq!(error(&root().node("/a", 71).end()), unknown);
        assert_eq!(error(&[255; 4]), "snapshot has the length -1 for the sessions");
    }

    #[test]
    fn a_snapshot_that_is_cut_anywhere_is_refused_and_a_claimed_length_reserves_nothing() {
        let file = File::new().node("", -1).node("/a", 70).end();
        for cut in 0..file.len() - FUTURE.len() {
            assert!(matches!(Tree::load(&mut &file[..cut], true), Err(LoadError::Io(_))), "cut at {cut}");
        }
        let mut huge = File::new().0;
        huge.put_i32(i32::MAX);
        huge.put_slice(b"/a");
        assert!(matches!(Tree::load(&mut &huge[..], true), Err(LoadError::Io(_))));
    }
}
