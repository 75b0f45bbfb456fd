//! Which connection watches which path, found from both sides.
//!
//! Paths and connections are numbered, so a watch on a path that is watched already costs a member in two sets of
//! four-byte numbers: about twenty bytes in the large.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use docent::proto::WatcherKind;

use super::set::SmallSet;
use super::slab::Slab;
use super::{ConnId, WatchKind};
use crate::index::Index;

/// The number of a path that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PathNumber(u32);

/// The number of a connection that watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnNumber(u32);

/// A path and who watches it.
#[derive(Debug)]
struct Path {
    path: Arc<str>,
    /// By kind. Not all empty.
    watchers: [SmallSet<ConnNumber>; 4],
}

/// A connection and what it watches.
#[derive(Debug)]
struct Conn {
    id: ConnId,
    /// Not empty.
    paths: SmallSet<PathNumber>,
}

/// What `wchs` tells: as in Apache only the watches that wait for a node's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchSummary {
    /// Connections that have such watches.
    pub connections: usize,
    /// Paths that have such watches.
    pub paths: usize,
    /// Such watches.
    pub watches: usize,
}

/// All watches of a server.
#[derive(Debug)]
pub struct WatchTable {
    paths: Slab<Path>,
    by_path: Index<PathNumber>,
    conns: Slab<Conn>,
    by_id: BTreeMap<ConnId, ConnNumber>,
    /// Recursive watches: as long as there are none, a change looks at no ancestors.
    recursive: usize,
    /// Pairs of connection and path as Apache counts them: once for each of its two tables.
    count: usize,
}

impl WatchTable {
    /// An empty table. `hash_seed` keeps paths from being chosen to collide: random in production; it is never
    /// seen in a result.
    #[must_use]
    pub fn new(hash_seed: u64) -> WatchTable {
        WatchTable {
            paths: Slab::new(),
            by_path: Index::new(hash_seed),
            conns: Slab::new(),
            by_id: BTreeMap::new(),
            recursive: 0,
            count: 0,
        }
    }

    /// Adds a watch. Adding it again changes nothing.
    pub fn add(&mut self, conn: ConnId, path: &str, kind: WatchKind) {
        let path = self.find(path).unwrap_or_else(|| self.number_path(path));
        let conn = self.by_id.get(&conn).copied().unwrap_or_else(|| self.number_conn(conn));
        self.conns[conn.0].paths.insert(path);
        let before = self.tables(conn, path);
        if self.paths[path.0].watchers[kind as usize].insert(conn) {
            self.recursive += usize::from(kind == WatchKind::Recursive);
            self.count += self.tables(conn, path) - before;
        }
    }

    /// Removes a connection's watches of these kinds on a path; whether there were any.
    pub fn remove(&mut self, conn: ConnId, path: &str, kind: WatcherKind) -> bool {
        let Some((conn, path)) = self.numbers(conn, path) else { return false };
        let before = self.tables(conn, path);
        let mut removed = false;
        for kind in kinds(kind) {
            if self.paths[path.0].watchers[*kind as usize].remove(conn) {
                self.recursive -= usize::from(*kind == WatchKind::Recursive);
                removed = true;
            }
        }
        self.count -= before - self.tables(conn, path);
        if removed {
            self.forget_pair(conn, path);
            self.forget_path(path);
        }
        removed
    }

    /// Whether a connection has a watch of these kinds on a path.
    #[must_use]
    pub fn has(&self, conn: ConnId, path: &str, kind: WatcherKind) -> bool {
        let Some((conn, path)) = self.numbers(conn, path) else { return false };
        self.watches_any(conn, path, kinds(kind))
    }

    /// The connection has ended, and its watches with it.
    pub fn drop_conn(&mut self, conn: ConnId) {
        let Some(conn) = self.by_id.remove(&conn) else { return };
        let Some(ended) = self.conns.remove(conn.0) else { return };
        for path in ended.paths.iter() {
            self.count -= self.tables(conn, path);
            for kind in WatchKind::ALL {
                let was_there = self.paths[path.0].watchers[kind as usize].remove(conn);
                self.recursive -= usize::from(was_there && kind == WatchKind::Recursive);
            }
            self.forget_path(path);
        }
    }

    /// Watches as Apache's `watch_count` has them: persistent ones twice, as they stand in both of its tables,
    /// and the kinds that one connection has on one path once in each table.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Paths that are watched in any way.
    #[must_use]
    pub fn paths(&self) -> usize {
        self.paths.len()
    }

    /// Connections that have watches of any kind.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// What `wchs` tells. Walks all watches.
    #[must_use]
    pub fn summary(&self) -> WatchSummary {
        let (mut paths, mut watches, mut connections) = (0, 0, BTreeSet::new());
        for (_, conns) in self.by_path() {
            paths += 1;
            watches += conns.len();
            connections.extend(conns);
        }
        WatchSummary { connections: connections.len(), paths, watches }
    }

    /// Each path with the connections that wait for its data, as `wchp` lists them. Walks all watches.
    pub fn by_path(&self) -> impl Iterator<Item = (&str, Vec<ConnId>)> {
        let paths = self.paths.iter();
        paths.map(|(_, path)| (&*path.path, self.data_watchers(path))).filter(|(_, conns)| !conns.is_empty())
    }

    /// Each connection with the paths for whose data it waits, as `wchc` lists them. Walks all watches.
    pub fn by_conn(&self) -> impl Iterator<Item = (ConnId, Vec<&str>)> {
        let conns = self.by_id.iter().map(|(id, number)| {
            let paths = self.conns[number.0].paths.iter();
            let waits = |path: &PathNumber| self.watches_any(*number, *path, &DATA_TABLE);
            (*id, paths.filter(waits).map(|path| &*self.paths[path.0].path).collect::<Vec<_>>())
        });
        conns.filter(|(_, paths)| !paths.is_empty())
    }

    pub(super) fn has_recursive(&self) -> bool {
        self.recursive > 0
    }

    pub(super) fn find(&self, path: &str) -> Option<PathNumber> {
        self.by_path.find(path, |number| *self.paths[number.0].path == *path)
    }

    pub(super) fn path(&self, path: PathNumber) -> &Arc<str> {
        &self.paths[path.0].path
    }

    pub(super) fn id(&self, conn: ConnNumber) -> ConnId {
        self.conns[conn.0].id
    }

    pub(super) fn watchers(&self, path: PathNumber, kind: WatchKind) -> &SmallSet<ConnNumber> {
        &self.paths[path.0].watchers[kind as usize]
    }

    /// Forgets the one-shot watches of these kinds on a path, which have fired.
    pub(super) fn consume(&mut self, path: PathNumber, kinds: &[WatchKind]) {
        for kind in kinds {
            let fired = std::mem::take(&mut self.paths[path.0].watchers[*kind as usize]);
            let table = if *kind == WatchKind::Data { DATA_TABLE } else { CHILD_TABLE };
            for conn in fired.iter() {
                self.count -= usize::from(!self.watches_any(conn, path, &table));
                self.forget_pair(conn, path);
            }
        }
        self.forget_path(path);
    }

    /// Forgets that a connection watches a path, if it has no watch there any more.
    fn forget_pair(&mut self, number: ConnNumber, path: PathNumber) {
        if self.watches_any(number, path, &WatchKind::ALL) {
            return;
        }
        let conn = &mut self.conns[number.0];
        conn.paths.remove(path);
        if conn.paths.is_empty() {
            let id = conn.id;
            self.by_id.remove(&id);
            self.conns.remove(number.0);
        }
    }

    /// Forgets a path that nobody watches any more.
    fn forget_path(&mut self, number: PathNumber) {
        let path = &self.paths[number.0];
        if path.watchers.iter().all(SmallSet::is_empty) {
            self.by_path.remove(number, &*path.path);
            self.paths.remove(number.0);
        }
    }

    fn number_path(&mut self, path: &str) -> PathNumber {
        let number = PathNumber(self.paths.insert(Path { path: path.into(), watchers: Default::default() }));
        let paths = &self.paths;
        self.by_path.insert(number, |number: PathNumber| &*paths[number.0].path);
        number
    }

    fn number_conn(&mut self, id: ConnId) -> ConnNumber {
        let number = ConnNumber(self.conns.insert(Conn { id, paths: SmallSet::default() }));
        self.by_id.insert(id, number);
        number
    }

    fn numbers(&self, conn: ConnId, path: &str) -> Option<(ConnNumber, PathNumber)> {
        Some((*self.by_id.get(&conn)?, self.find(path)?))
    }

    /// Checks that both sides know of the same watches, and counts again what is counted.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let (mut pairs, mut recursive, mut count) = (BTreeSet::new(), 0, 0);
        for (number, path) in self.paths.iter() {
            assert_eq!(self.find(&path.path), Some(PathNumber(number)));
            assert!(path.watchers.iter().any(|set| !set.is_empty()), "{} is watched by nobody", path.path);
            for (kind, set) in path.watchers.iter().enumerate() {
                recursive += set.iter().count() * usize::from(kind == WatchKind::Recursive as usize);
                pairs.extend(set.iter().map(|conn| (conn, PathNumber(number))));
            }
        }
        for (number, conn) in self.conns.iter() {
            assert_eq!(self.by_id.get(&conn.id), Some(&ConnNumber(number)));
            assert!(!conn.paths.is_empty(), "{:?} watches nothing", conn.id);
            assert!(conn.paths.iter().all(|path| pairs.contains(&(ConnNumber(number), path))));
            count += conn.paths.iter().map(|path| self.tables(ConnNumber(number), path)).sum::<usize>();
        }
        let known: usize = self.conns.iter().map(|(_, conn)| conn.paths.iter().count()).sum();
        assert_eq!((known, self.by_id.len()), (pairs.len(), self.conns.len()));
        assert_eq!((self.recursive, self.count, self.by_path.len()), (recursive, count, self.paths.len()));
    }

    /// In how many of Apache's two tables a connection stands for a path.
    fn tables(&self, conn: ConnNumber, path: PathNumber) -> usize {
        let stands_in = |table| usize::from(self.watches_any(conn, path, table));
        stands_in(&DATA_TABLE) + stands_in(&CHILD_TABLE)
    }

    fn watches_any(&self, conn: ConnNumber, path: PathNumber, kinds: &[WatchKind]) -> bool {
        kinds.iter().any(|kind| self.watchers(path, *kind).contains(conn))
    }

    /// The connections that wait for a path's data.
    fn data_watchers(&self, path: &Path) -> Vec<ConnId> {
        let sets = DATA_TABLE.iter().flat_map(|kind| path.watchers[*kind as usize].iter());
        let mut conns: Vec<ConnId> = sets.map(|number| self.id(number)).collect();
        conns.sort();
        conns.dedup();
        conns
    }
}

/// The kinds that Apache keeps in its table of data watches.
const DATA_TABLE: [WatchKind; 3] = [WatchKind::Data, WatchKind::Persistent, WatchKind::Recursive];
/// The kinds that Apache keeps in its table of child watches.
const CHILD_TABLE: [WatchKind; 3] = [WatchKind::Child, WatchKind::Persistent, WatchKind::Recursive];

/// The kinds that a client means. Data and children are the one-shot ones, as from 3.9 on.
fn kinds(kind: WatcherKind) -> &'static [WatchKind] {
    match kind {
        WatcherKind::Children => &[WatchKind::Child],
        WatcherKind::Data => &[WatchKind::Data],
        WatcherKind::Persistent => &[WatchKind::Persistent],
        WatcherKind::PersistentRecursive => &[WatchKind::Recursive],
        WatcherKind::Any => &WatchKind::ALL,
    }
}
