//! How a cache learns that something happened: one persistent watch, or a one-shot watch with every read.

use std::collections::BTreeSet;
use std::sync::Arc;

use docent::{AddWatchMode, ErrorCode, EventType, OneshotWatch, SessionRef, StateWatch, WatchItem, Watcher};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::cache_reads::{Depth, Read, What};
use crate::cache_view::CachedNode;
use crate::following::meanwhile;
use crate::guarded;

/// Something that a watch told.
pub(crate) enum Seen {
    /// Something happened to a node, or to its children.
    Touched(String, What),
    /// Some of it was not told.
    Missed,
    /// The watch is gone.
    Ended,
}

/// What was read, and the watch that came with it.
pub(crate) enum Answer {
    Node(Option<CachedNode>, Option<OneshotWatch>),
    Children(Option<Vec<String>>, Option<OneshotWatch>),
}

/// An answer that is still to come. The request is sent already.
pub(crate) type Answering = BoxFuture<'static, (Read, Result<Answer, docent::Error>)>;

/// How the reads of a cache are made.
#[derive(Clone)]
pub(crate) struct Manner {
    pub(crate) root: Arc<str>,
    pub(crate) depth: Depth,
    /// Whether data is read, and not the Stat alone.
    pub(crate) data: bool,
    /// Whether one-shot watches are taken although the server may know persistent ones.
    pub(crate) oneshots: bool,
}

/// The watches of one session.
pub(crate) enum Watching {
    /// One watch on everything.
    Stream(Watcher),
    /// Watches on each node.
    Oneshots(Oneshots),
}

impl Watching {
    /// Sets the watch. Servers before 3.6 know no persistent ones.
    pub(crate) async fn begin(
        manner: &Manner,
        session: &SessionRef,
        state: &mut StateWatch,
        mut suspended: impl FnMut(Instant),
    ) -> Result<Watching, docent::Error> {
        if manner.oneshots {
            return Ok(Watching::Oneshots(Oneshots::default()));
        }
        let mode = match manner.depth {
            Depth::Node => AddWatchMode::Persistent,
            Depth::Children | Depth::Tree => AddWatchMode::PersistentRecursive,
        };
        let mut backoff = Backoff::reconnecting();
        loop {
            let watch = session.watch(&*manner.root, mode);
            match meanwhile(watch, session, state, &mut suspended).await {
                Ok(watcher) => return Ok(Watching::Stream(watcher)),
                Err(error) if error.code() == Some(ErrorCode::UNIMPLEMENTED) => {
                    tracing::debug!(path = %manner.root, "the server knows no persistent watches");
                    return Ok(Watching::Oneshots(Oneshots::default()));
                }
                Err(error) if guarded::may_try_again(&error) => backoff.wait().await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether each node has watches of its own.
    pub(crate) fn are_oneshots(&self) -> bool {
        matches!(self, Watching::Oneshots(_))
    }

    /// The next thing that is told.
    pub(crate) async fn next(&mut self) -> Seen {
        match self {
            Watching::Oneshots(oneshots) => oneshots.next().await,
            Watching::Stream(watcher) => loop {
                match watcher.next().await {
                    // A persistent watch tells of children as well; their own events say more.
                    Some(WatchItem::Event(event)) if event.kind == EventType::NodeChildrenChanged => {}
                    Some(WatchItem::Event(event)) => return Seen::Touched(event.path, What::Node),
                    // The state of the connection, which says the same, is followed too.
                    Some(WatchItem::Reconnected | WatchItem::NewSession) => {}
                    // It lagged.
                    Some(_) => return Seen::Missed,
                    None => return Seen::Ended,
                }
            },
        }
    }

    /// Sends a read, with a watch if there is none.
    pub(crate) fn send(&self, manner: &Manner, session: &SessionRef, read: Read) -> Answering {
        let watches = match self {
            Watching::Stream(_) => false,
            Watching::Oneshots(oneshots) => !oneshots.armed.contains(&(Arc::clone(&read.path), read.what)),
        };
        let is_root = read.path == manner.root;
        let answer = match (read.what, watches) {
            (What::Children, false) => list(session, &read.path),
            (What::Children, true) => list_and_watch(session, &read.path),
            (What::Node, true) if is_root => root_and_watch(manner, session, &read.path),
            (What::Node, true) if manner.data => data_and_watch(session, &read.path),
            (What::Node, true) => stat_and_watch(session, &read.path),
            (What::Node, false) if manner.data => data(session, &read.path, is_root),
            (What::Node, false) => stat(session, &read.path, is_root),
        };
        async move { (read, answer.await) }.boxed()
    }

    /// Keeps the watch that came with an answer.
    pub(crate) fn keep(&mut self, read: &Read, watch: Option<OneshotWatch>) {
        if let (Watching::Oneshots(oneshots), Some(watch)) = (self, watch) {
            oneshots.keep(Arc::clone(&read.path), read.what, watch);
        }
    }
}

/// One-shot watches: on the data of each node, and on the children of each that may have some.
#[derive(Default)]
pub(crate) struct Oneshots {
    /// Each resolves to what has to be read again.
    waits: FuturesUnordered<BoxFuture<'static, (Arc<str>, What)>>,
    armed: BTreeSet<(Arc<str>, What)>,
}

impl Oneshots {
    fn keep(&mut self, path: Arc<str>, what: What, watch: OneshotWatch) {
        // One that is armed twice needs one of the two only; the server keeps it.
        if self.armed.insert((Arc::clone(&path), what)) {
            self.waits.push(
                async move {
                    // Whatever it was, and an end of the watch too: the next read tells.
                    let _ = watch.await;
                    (path, what)
                }
                .boxed(),
            );
        }
    }

    async fn next(&mut self) -> Seen {
        match self.waits.next().await {
            Some(key) => {
                self.armed.remove(&key);
                Seen::Touched(key.0.to_string(), key.1)
            }
            None => std::future::pending().await,
        }
    }
}

type Outcome = BoxFuture<'static, Result<Answer, docent::Error>>;

/// What a refused read of a node means. One that may not be read is as one that is not there, unless it is the root.
fn unread(error: docent::Error, is_root: bool) -> Result<Answer, docent::Error> {
    match error.code() {
        Some(ErrorCode::NO_NODE) => Ok(Answer::Node(None, None)),
        Some(ErrorCode::NO_AUTH) if !is_root => Ok(Answer::Node(None, None)),
        _ => Err(error),
    }
}

fn data(session: &SessionRef, path: &Arc<str>, is_root: bool) -> Outcome {
    let (reply, path) = (session.get_data(&**path), Arc::clone(path));
    async move {
        match reply.await {
            Ok(node) => Ok(Answer::Node(Some(CachedNode::new(path, node.data, node.stat)), None)),
            Err(error) => unread(error, is_root),
        }
    }
    .boxed()
}

fn data_and_watch(session: &SessionRef, path: &Arc<str>) -> Outcome {
    let (reply, path) = (session.get_data_and_watch(&**path), Arc::clone(path));
    async move {
        match reply.await {
            Ok((node, watch)) => {
                Ok(Answer::Node(Some(CachedNode::new(path, node.data, node.stat)), Some(watch)))
            }
            Err(error) => unread(error, false),
        }
    }
    .boxed()
}

fn stat(session: &SessionRef, path: &Arc<str>, is_root: bool) -> Outcome {
    let (reply, path) = (session.exists(&**path), Arc::clone(path));
    async move {
        match reply.await {
            Ok(stat) => Ok(Answer::Node(stat.map(|stat| CachedNode::new(path, None, stat)), None)),
            Err(error) => unread(error, is_root),
        }
    }
    .boxed()
}

/// A node that is not there is not watched: its parent's children are.
fn stat_and_watch(session: &SessionRef, path: &Arc<str>) -> Outcome {
    let (reply, path) = (session.exists_and_watch(&**path), Arc::clone(path));
    async move {
        match reply.await {
            Ok((Some(stat), watch)) => Ok(Answer::Node(Some(CachedNode::new(path, None, stat)), Some(watch))),
            Ok((None, _)) => Ok(Answer::Node(None, None)),
            Err(error) => unread(error, false),
        }
    }
    .boxed()
}

/// The root is watched also while it is not there. Both requests are sent together: what the second tells is at least
/// as new as the watch.
fn root_and_watch(manner: &Manner, session: &SessionRef, path: &Arc<str>) -> Outcome {
    let watched = session.exists_and_watch(&**path);
    let read = if manner.data { data(session, path, true) } else { stat(session, path, true) };
    async move {
        let (_, watch) = watched.await?;
        match read.await? {
            Answer::Node(node, _) => Ok(Answer::Node(node, Some(watch))),
            other => Ok(other),
        }
    }
    .boxed()
}

fn list(session: &SessionRef, path: &Arc<str>) -> Outcome {
    let reply = session.get_children(&**path);
    async move {
        match reply.await {
            Ok(children) => Ok(Answer::Children(Some(children.names), None)),
            Err(error) => unlisted(error),
        }
    }
    .boxed()
}

fn list_and_watch(session: &SessionRef, path: &Arc<str>) -> Outcome {
    let reply = session.get_children_and_watch(&**path);
    async move {
        match reply.await {
            Ok((children, watch)) => Ok(Answer::Children(Some(children.names), Some(watch))),
            Err(error) => unlisted(error),
        }
    }
    .boxed()
}

fn unlisted(error: docent::Error) -> Result<Answer, docent::Error> {
    match error.code() {
        Some(ErrorCode::NO_NODE) => Ok(Answer::Children(None, None)),
        // Children that may not be seen are not there for us.
        Some(ErrorCode::NO_AUTH) => Ok(Answer::Children(Some(Vec::new()), None)),
        _ => Err(error),
    }
}
