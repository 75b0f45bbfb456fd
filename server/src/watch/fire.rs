//! From a change of the tree to the events that connections hear, in order.
//!
//! A change concerns the watches on the node itself, then – when it came or went – those on its parent's children.
//! Every watch that matches is looked at once, and none that does not, so a change costs as much as it has hearers.

use std::sync::Arc;

use docent::proto::EventType;

use super::table::{ConnNumber, PathNumber, WatchTable};
use super::{ConnId, WatchKind};
use crate::tree::{AclId, Change};

/// An event for one connection: what, and on which node. Events of one change share the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// Who hears it.
    pub conn: ConnId,
    /// What happened.
    pub kind: EventType,
    /// To which node.
    pub path: Arc<str>,
}

/// What one change makes heard on one path.
struct Occurrence<'a> {
    kind: EventType,
    path: &'a str,
    /// The list that a hearer must be allowed to read by.
    acl: AclId,
    /// The one-shot kinds that hear of it.
    once: &'a [WatchKind],
    /// The lasting kinds that hear of it.
    lasting: &'a [WatchKind],
}

impl WatchTable {
    /// Appends the events of one change, in order. `readable` says whether a connection may read what a list
    /// guards; where it may not, the event is dropped. One-shot watches that the change concerns are gone
    /// afterwards in either case.
    pub fn fire(
        &mut self,
        change: &Change,
        readable: &mut dyn FnMut(ConnId, AclId) -> bool,
        out: &mut Vec<Fired>,
    ) {
        let own = Occurrence {
            kind: change.kind,
            path: &change.path,
            acl: change.acl,
            // A watch on children hears of the node's own end.
            once: match change.kind {
                EventType::NodeDeleted => &[WatchKind::Data, WatchKind::Child],
                _ => &[WatchKind::Data],
            },
            lasting: &[WatchKind::Persistent, WatchKind::Recursive],
        };
        let above = self.recursive_above(&change.path);
        self.occur(&own, above, readable, out);

        let came_or_went = matches!(change.kind, EventType::NodeCreated | EventType::NodeDeleted);
        if let Some(parent) = docent::path::parent(&change.path).filter(|_| came_or_went) {
            let siblings = Occurrence {
                kind: EventType::NodeChildrenChanged,
                path: parent,
                acl: change.parent_acl,
                once: &[WatchKind::Child],
                lasting: &[WatchKind::Persistent],
            };
            self.occur(&siblings, Vec::new(), readable, out);
        }
    }

    /// Tells everybody who hears of it, `hearers` and the watches on the path, once.
    fn occur(
        &mut self,
        what: &Occurrence<'_>,
        mut hearers: Vec<ConnNumber>,
        readable: &mut dyn FnMut(ConnId, AclId) -> bool,
        out: &mut Vec<Fired>,
    ) {
        let at = self.find(what.path);
        if let Some(at) = at {
            for kind in what.once.iter().chain(what.lasting) {
                hearers.extend(self.watchers(at, *kind).iter());
            }
        }
        if hearers.is_empty() {
            return;
        }
        // Each set is in order already: the sort merges them.
        hearers.sort();
        hearers.dedup();
        let path = at.map_or_else(|| Arc::from(what.path), |at| Arc::clone(self.path(at)));
        for hearer in hearers {
            let conn = self.id(hearer);
            if readable(conn, what.acl) {
                out.push(Fired { conn, kind: what.kind, path: Arc::clone(&path) });
            }
        }
        if let Some(at) = at {
            self.consume(at, what.once);
        }
    }

    /// The connections that watch a node above this path with all that is below it.
    fn recursive_above(&self, path: &str) -> Vec<ConnNumber> {
        let mut hearers = Vec::new();
        let mut at = path;
        while self.has_recursive()
            && let Some(parent) = docent::path::parent(at)
        {
            let watched: Option<PathNumber> = self.find(parent);
            hearers.extend(watched.iter().flat_map(|path| self.watchers(*path, WatchKind::Recursive).iter()));
            at = parent;
        }
        hearers
    }
}
