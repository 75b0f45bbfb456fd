//! The cache: a node, its children, or everything below it, always at hand.
//!
//! **Connected**, the view is what this process was told of; every later change arrives, after the writes that came before
//! it at the same node. Changes of one node that follow each other quickly may be seen as one; a node that was deleted and
//! made anew is told as a deletion and a creation, whatever its version says. Parents are created before their children
//! and deleted after them. It is not one moment of the whole tree: two nodes that were changed in one transaction may be
//! seen one after the other.
//!
//! **Suspended or lost**, the view stays as it is, [`Cache::stale_since`] says since when it may be old, and the events say
//! [`Suspended`](CacheEvent::Suspended) or [`Lost`](CacheEvent::Lost). When there is a server again, in the same session or
//! the next, everything is read anew by itself; what became different is told, and then [`CacheEvent::Synced`]. What is
//! seen never goes back, across sessions too: each node has rising czxids, and rising mzxids within one.
//!
//! **Token:** the czxid, mzxid and version of each node, in its Stat; and the zxid in [`CacheEvent::Synced`].
//!
//! **Dropped:** with the last clone of [`Cache`] the watch goes; nothing else is on the server. [`Cache::close`] waits for
//! that.
//!
//! **Layout:** plain nodes with any bytes. Curator's `CuratorCache`, and before it `NodeCache` ([`Depth::Node`]),
//! `PathChildrenCache` ([`Depth::Children`]) and `TreeCache` ([`Depth::Tree`]); kazoo's `TreeCache`. The root is part of
//! every cache.
//!
//! **Cost:** one persistent watch. The first fill, and each after a reconnect, takes a read for each node and a list for
//! each that has children, 64 on their way at a time; each change takes a read. Servers before 3.6 know no persistent
//! watches: there each node has one watch on its data and one on its children, as with
//! [`CacheBuilder::oneshot_watches`]. The memory is that of the nodes, up to a bound, and of the events that wait.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use docent::{Client, Zxid};
use futures::Stream;
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cache_follow::{self as follow, First, Shared};
use crate::cache_reads::{Depth, Filter, Scope};
use crate::cache_view::{CacheSnapshot, CachedNode, Change};
use crate::cache_watch::Manner;
use crate::error::Error;

/// How many nodes a cache keeps, if it is not told otherwise.
pub const DEFAULT_CACHE_NODES: usize = 100_000;

/// How many bytes of paths and data a cache keeps, if it is not told otherwise.
pub const DEFAULT_CACHE_BYTES: usize = 256 << 20;

/// How many events may wait for a slow reader, if the cache is not told otherwise.
pub const DEFAULT_CACHE_EVENTS: usize = 1024;

/// More events than this are never kept, whatever is asked for: the places for them are there from the beginning.
const EVENTS_MAX: usize = 1 << 20;

/// A cache that is not open yet.
#[derive(Clone)]
#[must_use = "nothing happens before open"]
pub struct CacheBuilder {
    client: Client,
    path: String,
    depth: Depth,
    filter: Option<Filter>,
    data: bool,
    oneshots: bool,
    nodes_max: usize,
    bytes_max: usize,
    events_max: usize,
}

impl fmt::Debug for CacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("path", &self.path)
            .field("depth", &self.depth)
            .finish_non_exhaustive()
    }
}

impl CacheBuilder {
    pub(crate) fn new(client: Client, path: String) -> CacheBuilder {
        CacheBuilder {
            client,
            path,
            depth: Depth::default(),
            filter: None,
            data: true,
            oneshots: false,
            nodes_max: DEFAULT_CACHE_NODES,
            bytes_max: DEFAULT_CACHE_BYTES,
            events_max: DEFAULT_CACHE_EVENTS,
        }
    }

    /// How far down the cache looks. Default: [`Depth::Tree`].
    pub fn depth(mut self, depth: Depth) -> Self {
        self.depth = depth;
        self
    }

    /// Which nodes are kept, by path. What is below a node that is not kept is not kept either; the root always is.
    /// What is left out is not read. The cache's task calls it, so it must not block.
    pub fn filter(mut self, keeps: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(Arc::new(keeps));
        self
    }

    /// Keeps Stats alone: [`CachedNode::data`] is always `None`. That data was written is still told, by the mzxid.
    pub fn without_data(mut self) -> Self {
        self.data = false;
        self
    }

    /// Takes a one-shot watch with every read, and not one persistent watch for all. With servers before 3.6 that is so
    /// anyway. It is for Apache's server 3.8 and before, which keeps only one kind of watch for each client and path, the
    /// latest: a persistent watch ends there without a word when the same client reads the cache's root with a watch, as a
    /// config watcher does, or has a cache of another [`Depth`] of it. A client of its own for the cache helps as well.
    pub fn oneshot_watches(mut self) -> Self {
        self.oneshots = true;
        self
    }

    /// How many nodes may be kept; with more the cache ends with [`Error::CacheTooLarge`]. Default:
    /// [`DEFAULT_CACHE_NODES`].
    pub fn nodes_max(mut self, nodes: usize) -> Self {
        self.nodes_max = nodes;
        self
    }

    /// How many bytes of paths and data may be kept; with more the cache ends with [`Error::CacheTooLarge`]. Default:
    /// [`DEFAULT_CACHE_BYTES`].
    pub fn bytes_max(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// How many events may wait for a reader that is slow, before it gets [`CacheEvent::Lagged`]; rounded up to a power of
    /// two, at most 1,048,576. Default: [`DEFAULT_CACHE_EVENTS`].
    pub fn events_max(mut self, events: usize) -> Self {
        self.events_max = events.clamp(1, EVENTS_MAX);
        self
    }

    /// Reads everything for the first time and goes on watching. The node need not exist. It waits as long as there is no
    /// server.
    ///
    /// # Errors
    /// [`Error::CacheTooLarge`], [`Error::Closed`], an invalid path, and what the server refuses: [`Error::NotAllowed`] when
    /// the root may not be read. Another node that may not be read is no error, but as one that is not there; and no event
    /// tells when its ACL changes.
    ///
    /// # Cancel safety
    /// Safe: nothing is left on the server.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn open(self) -> Result<Cache, Error> {
        let CacheBuilder { client, path, depth, filter, data, oneshots, nodes_max, bytes_max, events_max } =
            self;
        let root: Arc<str> = path.into();
        let scope = Scope { root: Arc::clone(&root), depth, filter, nodes_max, bytes_max };
        let manner = Manner { root: Arc::clone(&root), depth, data, oneshots };
        let shared = Arc::new(Shared::new(events_max));
        let mut first: watch::Receiver<First> = shared.first.subscribe();
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let followed = Arc::clone(&shared);
        tokio::spawn(follow::run(client.clone(), followed, scope, manner, stop.clone(), ended.clone()));
        let ends_follow = stop.clone().drop_guard();

        let certain = |first: &First| !matches!(first, First::Waiting);
        match first.wait_for(certain).await.map(|first| first.clone()) {
            Ok(First::Filled) => {
                let inner = Inner { client, root, shared, stop, ended, _ends_follow: ends_follow };
                Ok(Cache { inner: Arc::new(inner) })
            }
            Ok(First::Failed(error)) => Err(error),
            Ok(First::Waiting) | Err(_) => Err(Error::RuntimeStopped),
        }
    }
}

/// What happens to a cache, in order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CacheEvent {
    /// A node is there that was not, or that was made anew.
    Created(Arc<CachedNode>),
    /// A node's data was written, be it with the same bytes.
    Changed {
        /// As it was.
        old: Arc<CachedNode>,
        /// As it is. Several writes may lie between.
        new: Arc<CachedNode>,
    },
    /// A node is not there any more. This is how it was.
    Deleted(Arc<CachedNode>),
    /// The cache is complete again: it is at least as new as this transaction, and events will tell the rest. It comes after
    /// each time that everything was read anew.
    Synced {
        /// The newest transaction that the client knew when the reading began.
        zxid: Zxid,
    },
    /// The connection is gone: the view may be old.
    Suspended {
        /// Since when.
        since: Instant,
    },
    /// The session is gone. The cache goes on in the next one.
    Lost,
    /// The reader was too slow: so many events are left out. [`CacheEvents::restart`] has what they led to.
    Lagged(u64),
    /// The cache has ended and the view stays as it is. No more events come.
    Ended(Error),
}

impl From<Change> for CacheEvent {
    fn from(change: Change) -> CacheEvent {
        match change {
            Change::Created(node) => CacheEvent::Created(node),
            Change::Changed { old, new } => CacheEvent::Changed { old, new },
            Change::Deleted(node) => CacheEvent::Deleted(node),
        }
    }
}

struct Inner {
    client: Client,
    root: Arc<str>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    ended: CancellationToken,
    _ends_follow: DropGuard,
}

/// A part of the tree that is kept up to date. Cheap to clone; the last clone takes the watch along.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("root", &self.inner.root)
            .field("nodes", &self.len())
            .finish_non_exhaustive()
    }
}

impl Cache {
    /// The root's path.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.inner.root
    }

    /// The node at a path, without waiting. The path begins with the root's.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Arc<CachedNode>> {
        self.inner.shared.lock().view.get(path)
    }

    /// The children of a node, by name, without waiting.
    #[must_use]
    pub fn children(&self, path: &str) -> Vec<Arc<CachedNode>> {
        self.inner.shared.lock().view.children(path)
    }

    /// How many nodes there are, the root among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.shared.lock().view.len()
    }

    /// Whether there is no node, not even the root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All nodes as they are now. It copies a pointer for each.
    #[must_use]
    pub fn snapshot(&self) -> CacheSnapshot {
        self.inner.shared.lock().view.clone()
    }

    /// Since when the view may be old; `None` while it is told of every change.
    #[must_use]
    pub fn stale_since(&self) -> Option<Instant> {
        self.inner.shared.lock().stale_since
    }

    /// Why the cache has ended, if it has and was not closed.
    #[must_use]
    pub fn error(&self) -> Option<Error> {
        self.inner.shared.lock().error.clone()
    }

    /// Everything that happens from now on. [`CacheEvents::restart`] begins it with what is there.
    pub fn events(&self) -> CacheEvents {
        let receiver = self.inner.shared.lock().events.as_ref().map(broadcast::Sender::subscribe);
        CacheEvents { items: items(receiver), shared: Arc::clone(&self.inner.shared) }
    }

    /// Ends the cache with all its clones, and waits until its watches are off the server. The view stays as it is.
    /// Without a connection there is nothing to wait for: no watch of a cache that has ended is ever set again.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the closing. Closing twice is harmless.
    pub async fn close(&self) {
        let Inner { client, root, stop, ended, .. } = &*self.inner;
        stop.cancel();
        ended.cancelled().await;
        let mut state = client.state();
        tokio::select! {
            biased;
            _ = state.wait_for(|state| !state.is_connected()) => {}
            // It was sent after what removes the watches, so its answer comes after theirs, whatever it is.
            _ = client.exists(&**root) => {}
        }
    }
}

/// What happens to a cache, as a stream. At most so many events wait as [`CacheBuilder::events_max`] says; who is slower is
/// told by [`CacheEvent::Lagged`]. The stream ends when the cache is closed or dropped, and after [`CacheEvent::Ended`].
#[must_use = "a stream does nothing before it is polled"]
pub struct CacheEvents {
    items: BoxStream<'static, CacheEvent>,
    shared: Arc<Shared>,
}

impl fmt::Debug for CacheEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheEvents").finish_non_exhaustive()
    }
}

impl CacheEvents {
    /// The next event; `None` after the end.
    ///
    /// # Cancel safety
    /// Safe: no event is lost.
    pub async fn next(&mut self) -> Option<CacheEvent> {
        self.items.next().await
    }

    /// All nodes as they are now. Events that wait are left out, and the next one is the first thing that happens after
    /// this snapshot: nothing is missed between the two, and nothing is told twice.
    pub fn restart(&mut self) -> CacheSnapshot {
        let state = self.shared.lock();
        self.items = items(state.events.as_ref().map(broadcast::Sender::subscribe));
        state.view.clone()
    }
}

impl Stream for CacheEvents {
    type Item = CacheEvent;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<CacheEvent>> {
        self.items.as_mut().poll_next(cx)
    }
}

fn items(receiver: Option<broadcast::Receiver<CacheEvent>>) -> BoxStream<'static, CacheEvent> {
    let items = stream::unfold(receiver, |receiver| async move {
        let mut receiver = receiver?;
        let item = match receiver.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(count)) => CacheEvent::Lagged(count),
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        Some((item, Some(receiver)))
    });
    items.boxed()
}
