//! PURE. What a cache has to read next, and what follows from what it has read.
//!
//! A watch only says *where* something happened. What happened, a read tells that is called for after the event; so
//! whatever comes of a read counts, as long as answers are taken in the order of their calls. Two kinds of reads feed the
//! view: those that events ask for, and a *refill*, which reads everything there is and is complete when the last read
//! that it led to is answered. Both go on at the same time.
//!
//! Why nothing is missed. A node's last event leads to a read that is called after it, and no other read of that node is
//! taken later, so the view ends with that answer. The answer is refused only while the parent is not there, and then the
//! parent has been read, or will be, when the node was there already: its Stat says that it has children, and they are
//! listed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use docent::path;

use crate::cache_view::{CacheSnapshot, CachedNode, Change, Offered};

/// How far down a cache looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Depth {
    /// The node alone.
    Node,
    /// The node and its children.
    Children,
    /// The node and everything below it.
    #[default]
    Tree,
}

/// Which nodes are kept.
pub(crate) type Filter = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// How many paths that are not in the view events may ask to be read, beside those that a refill asks for.
const STRAYS_MAX: usize = 1024;

/// Which nodes a cache has, and how many at most.
#[derive(Clone)]
pub(crate) struct Scope {
    pub(crate) root: Arc<str>,
    pub(crate) depth: Depth,
    pub(crate) filter: Option<Filter>,
    pub(crate) nodes_max: usize,
    /// Of paths and data.
    pub(crate) bytes_max: usize,
}

impl Scope {
    /// Whether a node belongs to the cache, by its path alone.
    fn keeps(&self, path: &str) -> bool {
        let mut at = path;
        while at != &*self.root {
            let (true, Some(parent)) = (self.passes(at), path::parent(at)) else { return false };
            at = parent;
            if self.depth == Depth::Children && at != &*self.root {
                return false;
            }
        }
        path == &*self.root || self.depth != Depth::Node
    }

    fn passes(&self, path: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter(path))
    }

    /// Whether children of this node belong to the cache.
    fn descends(&self, path: &str) -> bool {
        match self.depth {
            Depth::Node => false,
            Depth::Children => path == &*self.root,
            Depth::Tree => true,
        }
    }
}

/// What a read asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// Data and Stat, or the Stat alone.
    Node,
    /// The names of the children.
    Children,
}

/// A read to be sent. Its answer is to be given back in the order of the calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) path: Arc<str>,
    pub(crate) what: What,
    /// The refill that it belongs to.
    refill: Option<u64>,
}

/// Why a read's answer was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The server is behind what is known.
    Behind,
    /// There is more than the cache may keep.
    TooLarge,
}

/// What is to be read, and how far the refill is.
pub(crate) struct Reads {
    scope: Scope,
    /// Every list arms a watch of its own, so each node is listed, also one without children.
    lists_leaves: bool,
    queue: VecDeque<(Arc<str>, What)>,
    /// The same as the queue, by path: each read is called for once, and may belong to the refill.
    called_for: BTreeMap<(Arc<str>, What), Option<u64>>,
    refill: u64,
    /// Reads of the refill that are not answered yet; `None` when it is complete and that was told.
    unanswered: Option<usize>,
}

impl Reads {
    pub(crate) fn new(scope: Scope) -> Reads {
        Reads {
            scope,
            lists_leaves: false,
            queue: VecDeque::new(),
            called_for: BTreeMap::new(),
            refill: 0,
            unanswered: None,
        }
    }

    /// Whether lists are what brings news of children.
    pub(crate) fn list_leaves(&mut self, lists_leaves: bool) {
        self.lists_leaves = lists_leaves;
    }

    /// Reads everything anew. What was called for before is part of it.
    pub(crate) fn refill(&mut self) {
        self.queue.clear();
        self.called_for.clear();
        self.refill += 1;
        self.unanswered = Some(0);
        let root = Arc::clone(&self.scope.root);
        self.call_for(root, What::Node, Some(self.refill));
    }

    /// Something happened to a node.
    pub(crate) fn touched(&mut self, path: &str, what: What) {
        if !self.scope.keeps(path) || (what == What::Children && !self.scope.descends(path)) {
            return;
        }
        if self.queue.len() >= self.scope.nodes_max.saturating_add(STRAYS_MAX) {
            // Nodes come and go faster than they are read: one look at everything is less.
            return self.refill();
        }
        self.call_for(path.into(), what, None);
    }

    /// The next read to be sent.
    pub(crate) fn next(&mut self) -> Option<Read> {
        let key = self.queue.pop_front()?;
        let refill = self.called_for.remove(&key).flatten();
        Some(Read { path: key.0, what: key.1, refill })
    }

    /// Whether the refill has become complete since the last question.
    pub(crate) fn take_complete(&mut self) -> bool {
        let complete = self.unanswered == Some(0);
        if complete {
            self.unanswered = None;
        }
        complete
    }

    /// The answer to a read of a node; `None` when it does not exist.
    pub(crate) fn on_node(
        &mut self,
        view: &mut CacheSnapshot,
        read: &Read,
        node: Option<CachedNode>,
        changes: &mut Vec<Change>,
    ) -> Result<(), Refused> {
        let path = &read.path;
        let refills = self.settle(read);
        let Some(node) = node else {
            view.absent(path, changes);
            return Ok(());
        };
        let has_children = node.stat.num_children > 0;
        let offered = view.offer(&self.scope.root, node, changes);
        match offered {
            Offered::Behind => return Err(Refused::Behind),
            Offered::Orphan => return Ok(()),
            Offered::Created | Offered::Known => {}
        }
        if view.len() > self.scope.nodes_max || view.bytes() > self.scope.bytes_max {
            return Err(Refused::TooLarge);
        }
        // Events tell of children that come later; those that are there already only a list tells.
        if self.scope.descends(path) && (refills || offered == Offered::Created) {
            if has_children || self.lists_leaves {
                self.call_for(Arc::clone(path), What::Children, refills.then_some(self.refill));
            } else {
                self.keep_children(view, path, &[], changes);
            }
        }
        Ok(())
    }

    /// Leaves of a list of children those that belong to the cache. This asks the user's filter, so it is not done under
    /// a lock.
    pub(crate) fn keep_names(&self, path: &str, names: &mut Vec<String>) {
        names.retain(|name| self.scope.keeps(&path::join(path, name)));
    }

    /// The answer to a list; `None` when the node does not exist. The names are sorted, and belong to the cache.
    pub(crate) fn on_children(
        &mut self,
        view: &mut CacheSnapshot,
        read: &Read,
        names: Option<&[String]>,
        changes: &mut Vec<Change>,
    ) -> Result<(), Refused> {
        let path = &read.path;
        let refills = self.settle(read);
        let Some(names) = names else {
            view.absent(path, changes);
            return Ok(());
        };
        self.keep_children(view, path, names, changes);
        if view.get(path).is_none() {
            // Whatever brings it back lists it again.
            return Ok(());
        }
        let mut new = 0;
        for name in names {
            let child: Arc<str> = path::join(path, name).into();
            let known = view.get(&child).is_some();
            new += usize::from(!known);
            if view.len() + new > self.scope.nodes_max {
                return Err(Refused::TooLarge);
            }
            if refills || !known {
                self.call_for(child, What::Node, refills.then_some(self.refill));
            }
        }
        // Lists that are on their way together may each be small enough.
        let fits = self.queue.len() <= self.scope.nodes_max.saturating_mul(2).saturating_add(STRAYS_MAX);
        if fits { Ok(()) } else { Err(Refused::TooLarge) }
    }

    /// Children that the list does not have are gone.
    fn keep_children(
        &self,
        view: &mut CacheSnapshot,
        path: &str,
        names: &[String],
        changes: &mut Vec<Change>,
    ) {
        for child in view.children(path) {
            if names.binary_search_by(|name| (**name).cmp(path::name(&child.path))).is_err() {
                view.absent(&child.path, changes);
            }
        }
    }

    fn call_for(&mut self, path: Arc<str>, what: What, refill: Option<u64>) {
        let key = (path, what);
        let known = self.called_for.get(&key).copied();
        if known.is_none() {
            self.queue.push_back(key.clone());
        }
        if refill.is_some() && known.flatten().is_none() {
            self.unanswered = self.unanswered.map(|unanswered| unanswered + 1);
        }
        self.called_for.insert(key, refill.or(known.flatten()));
    }

    /// Whether a read that is answered now belongs to the refill that goes on.
    fn settle(&mut self, read: &Read) -> bool {
        let refills = read.refill == Some(self.refill) && self.unanswered.is_some();
        if refills {
            self.unanswered = self.unanswered.map(|unanswered| unanswered - 1);
        }
        refills
    }
}

#[cfg(test)]
mod tests;
