//! PURE: the watches of a client, by number and by path.
//!
//! A watch is *asked* for when its request joins the line, and *set* when the answer says so. Both kinds are kept
//! here, because a watch must not be removed from the server while another on the same path is on its way there.
//! Paths are absolute.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::watcher::WatchedEvent;
use crate::path;
use crate::proto::jute::Encode;
use crate::proto::{EventType, SetWatches, WatcherKind};
use crate::proto::{OpCode, Request};
use crate::{ErrorCode, Zxid};

/// Bytes of paths that one `setWatches` carries at most; Apache's clients have the same bound, far below the
/// server's for a frame.
const SET_WATCHES_MAX: usize = 128 << 10;

/// The number of a watch within its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WatchId(pub(super) u64);

/// What a watch looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum WatchKind {
    /// Data of a node that exists, once.
    Data,
    /// A node that does not exist, once. Becomes `Data` when the answer tells that it does.
    Exists,
    /// Children, once.
    Child,
    /// A node, until removed.
    Persistent,
    /// A node and all below, until removed.
    Recursive,
}

impl WatchKind {
    pub(super) fn is_oneshot(self) -> bool {
        matches!(self, WatchKind::Data | WatchKind::Exists | WatchKind::Child)
    }

    /// Whether an event at the watch's own path concerns it.
    fn sees(self, event: EventType) -> bool {
        match self {
            WatchKind::Data | WatchKind::Exists => event != EventType::NodeChildrenChanged,
            WatchKind::Child => matches!(event, EventType::NodeChildrenChanged | EventType::NodeDeleted),
            WatchKind::Persistent => true,
            WatchKind::Recursive => event != EventType::NodeChildrenChanged,
        }
    }

    fn is_of(self, kind: WatcherKind) -> bool {
        match kind {
            WatcherKind::Any => true,
            WatcherKind::Children => self == WatchKind::Child,
            WatcherKind::Data => matches!(self, WatchKind::Data | WatchKind::Exists),
            WatcherKind::Persistent => self == WatchKind::Persistent,
            WatcherKind::PersistentRecursive => self == WatchKind::Recursive,
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    path: Arc<str>,
    kind: WatchKind,
    /// Ends with the session even if it is a persistent one.
    pinned: bool,
    /// The server has it.
    set: bool,
    /// Nobody holds it any more; it is removed as soon as it is set.
    dropped: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Watches {
    by_id: BTreeMap<WatchId, Entry>,
    by_path: BTreeMap<Arc<str>, Vec<WatchId>>,
    /// How many recursive ones there are: without any, no ancestors are looked up.
    recursive: usize,
    /// One-shot watches that nobody holds and that the server still has, because others on the path stood in the way
    /// of their removal. They are removed when a request for another one fails and no others are left.
    stranded: BTreeMap<Arc<str>, WatchKind>,
}

impl Watches {
    /// A request for this watch has joined the line.
    pub(super) fn ask(&mut self, id: WatchId, kind: WatchKind, path: &str, pinned: bool) {
        let path: Arc<str> = path.into();
        self.by_path.entry(Arc::clone(&path)).or_default().push(id);
        self.recursive += usize::from(kind == WatchKind::Recursive);
        self.by_id.insert(id, Entry { path, kind, pinned, set: false, dropped: false });
    }

    /// The server has answered the request for this watch. Returns the request that removes it again if nobody
    /// holds it any more.
    pub(super) fn answered(&mut self, id: WatchId, error: ErrorCode) -> Option<(OpCode, Bytes)> {
        let entry = self.by_id.get_mut(&id)?;
        let set = match entry.kind {
            WatchKind::Exists if error == ErrorCode::OK => {
                entry.kind = WatchKind::Data;
                true
            }
            WatchKind::Exists => error == ErrorCode::NO_NODE,
            _ => error == ErrorCode::OK,
        };
        if !set {
            let path = Arc::clone(&entry.path);
            self.forget(id);
            return self.remove_stranded(path);
        }
        entry.set = true;
        if entry.dropped { self.remove(id) } else { None }
    }

    /// Nobody holds the watch any more. Returns the request that removes it from the server, if that is safe:
    /// servers do not tell watches on one path apart, so it must be the last of its kind.
    pub(super) fn unwatch(&mut self, id: WatchId) -> Option<(OpCode, Bytes)> {
        let entry = self.by_id.get_mut(&id)?;
        if entry.set {
            return self.remove(id);
        }
        entry.dropped = true;
        None
    }

    /// The watch's request has left the line without an answer.
    pub(super) fn forget(&mut self, id: WatchId) {
        let Some(entry) = self.by_id.remove(&id) else { return };
        self.recursive -= usize::from(entry.kind == WatchKind::Recursive);
        if let Some(ids) = self.by_path.get_mut(&entry.path) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_path.remove(&entry.path);
            }
        }
    }

    fn remove(&mut self, id: WatchId) -> Option<(OpCode, Bytes)> {
        let Entry { path, kind, .. } = self.by_id.get(&id)?.clone();
        self.forget(id);
        let request = self.removal(&path, kind);
        match request {
            // The server removes all of the kind, stranded ones too.
            Some(_) => drop(self.stranded.remove(&path)),
            None if kind.is_oneshot() => drop(self.stranded.insert(path, kind)),
            None => {}
        }
        request
    }

    /// A request for a watch on this path has failed: what stood in the way of a removal may be gone.
    fn remove_stranded(&mut self, path: Arc<str>) -> Option<(OpCode, Bytes)> {
        let kind = self.stranded.remove(&path)?;
        let request = self.removal(&path, kind);
        if request.is_none() {
            self.stranded.insert(path, kind);
        }
        request
    }

    /// The request that removes a watch of this kind, which is not among those kept here any more.
    fn removal(&self, path: &str, kind: WatchKind) -> Option<(OpCode, Bytes)> {
        let others: Vec<WatchKind> = self.kinds_on(path).collect();
        // Servers before 3.9 remove persistent watches together with those of the named kind, and know no way to
        // name persistent ones alone. What cannot be removed safely stays and is ignored when it fires.
        let persistent = |kind: &WatchKind| !kind.is_oneshot();
        let request = match kind {
            _ if others.is_empty() && !kind.is_oneshot() => WatcherKind::Any,
            WatchKind::Data | WatchKind::Exists => {
                let blocks =
                    |k: &WatchKind| matches!(k, WatchKind::Data | WatchKind::Exists) || persistent(k);
                if others.iter().any(blocks) {
                    return None;
                }
                WatcherKind::Data
            }
            WatchKind::Child => {
                if others.iter().any(|k| *k == WatchKind::Child || persistent(k)) {
                    return None;
                }
                WatcherKind::Children
            }
            WatchKind::Persistent | WatchKind::Recursive if others.contains(&kind) => return None,
            WatchKind::Persistent => WatcherKind::Persistent,
            WatchKind::Recursive => WatcherKind::PersistentRecursive,
        };
        let request = Request::RemoveWatches { path: path.to_string(), kind: request };
        Some((OpCode::RemoveWatches, request.to_bytes()))
    }

    fn kinds_on(&self, path: &str) -> impl Iterator<Item = WatchKind> {
        self.by_path
            .get(path)
            .into_iter()
            .flatten()
            .filter_map(|id| self.by_id.get(id))
            .map(|entry| entry.kind)
    }

    /// The watches that an event concerns, in the order in which they were asked for. One-shot ones are gone
    /// then.
    pub(super) fn fire(&mut self, event: &WatchedEvent) -> Vec<WatchId> {
        if self.stranded.get(&*event.path).is_some_and(|kind| kind.sees(event.kind)) {
            self.stranded.remove(&*event.path);
        }
        let mut fired: Vec<WatchId> = Vec::new();
        for id in self.by_path.get(&*event.path).into_iter().flatten() {
            if self.by_id.get(id).is_some_and(|entry| entry.set && entry.kind.sees(event.kind)) {
                fired.push(*id);
            }
        }
        if self.recursive > 0 && event.kind != EventType::NodeChildrenChanged {
            let mut above = path::parent(&event.path);
            while let Some(path) = above {
                for id in self.by_path.get(path).into_iter().flatten() {
                    if self.by_id.get(id).is_some_and(|entry| entry.set && entry.kind == WatchKind::Recursive)
                    {
                        fired.push(*id);
                    }
                }
                above = path::parent(path);
            }
        }
        fired.sort_unstable();
        for id in &fired {
            if self.by_id.get(id).is_some_and(|entry| entry.kind.is_oneshot()) {
                self.forget(*id);
            }
        }
        fired
    }

    /// The server has removed all watches of a kind on a path, because a caller asked for it.
    pub(super) fn removed(&mut self, path: &str, kind: WatcherKind) -> Vec<WatchId> {
        let on_path = self.by_path.get(path).into_iter().flatten().copied();
        let gone: Vec<WatchId> = on_path
            .filter(|id| self.by_id.get(id).is_some_and(|entry| entry.set && entry.kind.is_of(kind)))
            .collect();
        gone.iter().for_each(|id| self.forget(*id));
        gone
    }

    /// The session has ended. Returns the watches that end with it; the others are to be set in the next.
    pub(super) fn session_ended(&mut self) -> Vec<WatchId> {
        self.stranded.clear();
        let ends = |entry: &Entry| entry.set && (entry.kind.is_oneshot() || entry.pinned);
        let gone: Vec<WatchId> =
            self.by_id.iter().filter(|(_, entry)| ends(entry)).map(|(id, _)| *id).collect();
        gone.iter().for_each(|id| self.forget(*id));
        gone
    }

    /// The client has ended, and all watches with it.
    pub(super) fn end(&mut self) -> Vec<WatchId> {
        self.stranded.clear();
        self.by_path.clear();
        self.recursive = 0;
        std::mem::take(&mut self.by_id).into_keys().collect()
    }

    /// The persistent watches that are set.
    pub(super) fn streams(&self) -> Vec<WatchId> {
        let stream = |entry: &Entry| entry.set && !entry.kind.is_oneshot();
        self.by_id.iter().filter(|(_, entry)| stream(entry)).map(|(id, _)| *id).collect()
    }

    /// The requests that set all watches on a new connection, in pieces that every server takes. What was stranded
    /// has gone with the old connection.
    pub(super) fn set_again(&mut self, relative_zxid: Zxid) -> Vec<(OpCode, Bytes)> {
        self.stranded.clear();
        let mut requests = Vec::new();
        let mut piece = SetWatches { relative_zxid, ..SetWatches::default() };
        let mut bytes = 0;
        for (path, ids) in &self.by_path {
            let mut kinds: Vec<WatchKind> = ids
                .iter()
                .filter_map(|id| self.by_id.get(id))
                .filter(|entry| entry.set)
                .map(|entry| entry.kind)
                .collect();
            kinds.sort_unstable();
            kinds.dedup();
            for kind in kinds {
                if bytes > 0 && bytes + path.len() + 4 > SET_WATCHES_MAX {
                    requests.push(set_watches(&piece));
                    piece = SetWatches { relative_zxid, ..SetWatches::default() };
                    bytes = 0;
                }
                bytes += path.len() + 4;
                let list = match kind {
                    WatchKind::Data => &mut piece.data,
                    WatchKind::Exists => &mut piece.exist,
                    WatchKind::Child => &mut piece.child,
                    WatchKind::Persistent => &mut piece.persistent,
                    WatchKind::Recursive => &mut piece.persistent_recursive,
                };
                list.push(path.to_string());
            }
        }
        if bytes > 0 {
            requests.push(set_watches(&piece));
        }
        requests
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.by_path.is_empty() && self.recursive == 0 && self.stranded.is_empty()
    }
}

/// The old request where it is enough: servers before 3.6 do not know the new one.
fn set_watches(piece: &SetWatches) -> (OpCode, Bytes) {
    let mut out = BytesMut::new();
    if piece.persistent.is_empty() && piece.persistent_recursive.is_empty() {
        piece.encode_old(&mut out);
        (OpCode::SetWatches, out.freeze())
    } else {
        piece.encode_new(&mut out);
        (OpCode::SetWatches2, out.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(watches: &mut Watches, id: u64, kind: WatchKind, path: &str) {
        watches.ask(WatchId(id), kind, path, false);
        let error = if kind == WatchKind::Exists { ErrorCode::NO_NODE } else { ErrorCode::OK };
        assert_eq!(watches.answered(WatchId(id), error), None);
    }

    fn fire(watches: &mut Watches, kind: EventType, path: &str) -> Vec<u64> {
        let event = WatchedEvent { kind, path: path.into(), zxid: None };
        watches.fire(&event).into_iter().map(|id| id.0).collect()
    }

    fn removal(request: Option<(OpCode, Bytes)>) -> Option<Request> {
        request.map(|(op, body)| Request::decode(op, &mut crate::proto::Reader::new(body)).unwrap().unwrap())
    }

    #[test]
    fn events_reach_the_watches_that_see_them() {
        use EventType::{NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};
        use WatchKind::{Child, Data, Exists, Persistent, Recursive};
        for (event, fired) in [
            (NodeCreated, vec![1, 2, 4, 5, 6]),
            (NodeDeleted, vec![1, 2, 3, 4, 5, 6]),
            (NodeDataChanged, vec![1, 2, 4, 5, 6]),
            (NodeChildrenChanged, vec![3, 4]),
        ] {
            let mut watches = Watches::default();
            for (id, kind, path) in [
                (1, Data, "/a/b"),
                (2, Exists, "/a/b"),
                (3, Child, "/a/b"),
                (4, Persistent, "/a/b"),
                (5, Recursive, "/a/b"),
                (6, Recursive, "/"),
                (7, Persistent, "/a"),
                (8, Data, "/a"),
            ] {
                set(&mut watches, id, kind, path);
            }
            assert_eq!(fire(&mut watches, event, "/a/b"), fired, "{event:?}");
            let again: Vec<u64> = fired.into_iter().filter(|id| *id > 3).collect();
            assert_eq!(fire(&mut watches, event, "/a/b"), again, "{event:?}");
        }
    }

    #[test]
    fn a_watch_is_removed_from_the_server_when_it_is_the_last_of_its_kind() {
        let mut watches = Watches::default();
        set(&mut watches, 1, WatchKind::Data, "/a");
        set(&mut watches, 2, WatchKind::Data, "/a");
        set(&mut watches, 3, WatchKind::Child, "/a");
        assert_eq!(removal(watches.unwatch(WatchId(1))), None);
        let data = Request::RemoveWatches { path: "/a".into(), kind: WatcherKind::Data };
        assert_eq!(removal(watches.unwatch(WatchId(2))), Some(data));
        set(&mut watches, 4, WatchKind::Persistent, "/a");
        assert_eq!(removal(watches.unwatch(WatchId(3))), None, "it would take the persistent one along");
        let any = Request::RemoveWatches { path: "/a".into(), kind: WatcherKind::Any };
        assert_eq!(removal(watches.unwatch(WatchId(4))), Some(any));
        assert_eq!(removal(watches.unwatch(WatchId(4))), None);
        assert!(watches.is_empty());
    }

    #[test]
    fn a_watch_on_its_way_keeps_the_server_from_losing_it() {
        let mut watches = Watches::default();
        set(&mut watches, 1, WatchKind::Data, "/a");
        watches.ask(WatchId(2), WatchKind::Data, "/a", false);
        assert_eq!(removal(watches.unwatch(WatchId(1))), None);
        assert_eq!(removal(watches.unwatch(WatchId(2))), None, "not set yet");
        let data = Request::RemoveWatches { path: "/a".into(), kind: WatcherKind::Data };
        assert_eq!(removal(watches.answered(WatchId(2), ErrorCode::OK)), Some(data));
        assert!(watches.is_empty());
    }

    #[test]
    fn a_refused_request_leaves_no_watch() {
        let mut watches = Watches::default();
        watches.ask(WatchId(1), WatchKind::Data, "/a", false);
        watches.ask(WatchId(2), WatchKind::Exists, "/a", false);
        watches.answered(WatchId(1), ErrorCode::NO_NODE);
        watches.answered(WatchId(2), ErrorCode::NO_AUTH);
        assert!(watches.is_empty());
    }

    /// Somebody waits for a node that does not exist and gives up while somebody else tries to read it.
    #[test]
    fn a_removal_that_was_held_up_by_a_refused_request_is_made_up_for() {
        let mut watches = Watches::default();
        set(&mut watches, 1, WatchKind::Exists, "/a");
        watches.ask(WatchId(2), WatchKind::Data, "/a", false);
        assert_eq!(watches.unwatch(WatchId(1)), None, "another one is on its way");
        let request = removal(watches.answered(WatchId(2), ErrorCode::NO_NODE));
        assert_eq!(request, Some(Request::RemoveWatches { path: "/a".into(), kind: WatcherKind::Data }));
        assert!(watches.is_empty());

        // It fires before that: nothing is left to be removed.
        set(&mut watches, 3, WatchKind::Exists, "/a");
        watches.ask(WatchId(4), WatchKind::Data, "/a", false);
        assert_eq!(watches.unwatch(WatchId(3)), None);
        assert_eq!(fire(&mut watches, EventType::NodeCreated, "/a"), Vec::<u64>::new());
        assert_eq!(watches.answered(WatchId(4), ErrorCode::NO_NODE), None);
        assert!(watches.is_empty());
    }

    #[test]
    fn watches_are_set_again_in_pieces() {
        let mut watches = Watches::default();
        let long = "x".repeat(1000);
        for id in 0..300 {
            set(&mut watches, id, WatchKind::Data, &format!("/{id:03}{long}"));
        }
        set(&mut watches, 300, WatchKind::Recursive, "/z");
        watches.ask(WatchId(301), WatchKind::Data, "/asked", false);
        let requests = watches.set_again(Zxid(9));
        assert_eq!(
            requests.iter().map(|(op, _)| *op).collect::<Vec<_>>(),
            [OpCode::SetWatches, OpCode::SetWatches, OpCode::SetWatches2]
        );
        let mut paths = 0;
        for (op, body) in requests {
            assert!(body.len() <= SET_WATCHES_MAX + 100, "{}", body.len());
            let decoded = Request::decode(op, &mut crate::proto::Reader::new(body)).unwrap().unwrap();
            let (Request::SetWatches(piece) | Request::SetWatches2(piece)) = decoded else { panic!() };
            assert_eq!(piece.relative_zxid, Zxid(9));
            paths += piece.data.len() + piece.persistent_recursive.len();
        }
        assert_eq!(paths, 301);
    }

    #[test]
    fn one_shot_and_pinned_watches_end_with_the_session() {
        let mut watches = Watches::default();
        set(&mut watches, 1, WatchKind::Exists, "/a");
        set(&mut watches, 2, WatchKind::Persistent, "/a");
        watches.ask(WatchId(3), WatchKind::Recursive, "/a", true);
        watches.answered(WatchId(3), ErrorCode::OK);
        watches.ask(WatchId(4), WatchKind::Data, "/a", false);
        assert_eq!(watches.session_ended(), [WatchId(1), WatchId(3)]);
        assert_eq!(watches.streams(), [WatchId(2)]);
    }
}
