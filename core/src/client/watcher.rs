//! What callers hold of a watch: a future for one-shot ones, a stream for persistent ones. Dropping either
//! deregisters it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::Stream;
use tokio::sync::oneshot;

use super::chroot::Namespace;
use super::error::Error;
use super::handle::Handle;
use super::watches::WatchId;
use crate::Zxid;
use crate::proto::EventType;

/// Something happened to a node that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchedEvent {
    /// What happened.
    pub kind: EventType,
    /// The node, as the watching handle names it.
    pub path: String,
    /// The transaction; `None` from servers before 3.9 and for events made up for after a reconnect.
    pub zxid: Option<Zxid>,
}

/// What a [`Watcher`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchItem {
    /// Something happened.
    Event(WatchedEvent),
    /// The connection was lost and is back, the session is the same. Events may have been missed: read anew.
    Reconnected,
    /// The session ended; the watch is set again in a new one. Events were missed: read anew.
    NewSession,
    /// So many items were dropped because nobody took them: read anew.
    Lagged(u64),
}

/// The watch that was left by a read. It resolves when the watch fires, and stays set over reconnects.
///
/// # Errors
/// [`Error::SessionEnded`] when the session ended before, [`Error::WatchRemoved`] after `remove_watches`,
/// [`Error::Closed`] (or why the client ended).
///
/// # Cancel safety
/// It can be polled in a `select!` by reference. Dropping it removes the watch from the server.
#[must_use = "dropping the watch removes it"]
pub struct OneshotWatch {
    registration: Registration,
    receiver: oneshot::Receiver<Result<WatchedEvent, Error>>,
}

impl OneshotWatch {
    pub(super) fn new(
        registration: Registration,
        receiver: oneshot::Receiver<Result<WatchedEvent, Error>>,
    ) -> Self {
        OneshotWatch { registration, receiver }
    }
}

impl Future for OneshotWatch {
    type Output = Result<WatchedEvent, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = match Pin::new(&mut self.receiver).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(outcome)) => outcome,
            Poll::Ready(Err(_)) => Err(self.registration.handle.end_error()),
        };
        self.registration.done = true;
        Poll::Ready(
            outcome.map(|event| self.registration.strip(event)).map_err(|e| self.registration.strip_error(e)),
        )
    }
}

impl std::fmt::Debug for OneshotWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OneshotWatch").field("id", &self.registration.id).finish_non_exhaustive()
    }
}

/// A persistent watch: a stream of what happens to a node, or to a node and all below it.
///
/// At most 1,024 items wait (see [`ClientBuilder::watch_queue`](super::ClientBuilder::watch_queue)); when
/// nobody takes them, all that wait are dropped and [`WatchItem::Lagged`] says how many. The stream ends with
/// the client, after `remove_watches`, and, when made through a
/// [`SessionRef`](super::SessionRef), with the session.
#[must_use = "dropping the watcher removes the watch"]
pub struct Watcher {
    registration: Registration,
    queue: Arc<WatchQueue>,
}

impl Watcher {
    pub(super) fn new(registration: Registration, queue: Arc<WatchQueue>) -> Self {
        Watcher { registration, queue }
    }

    /// The next item; `None` when there will be no more.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<WatchItem> {
        std::future::poll_fn(|cx| self.poll_item(cx)).await
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<WatchItem>> {
        self.queue.poll_pop(cx).map(|item| match item {
            Some(WatchItem::Event(event)) => Some(WatchItem::Event(self.registration.strip(event))),
            other => other,
        })
    }
}

impl Stream for Watcher {
    type Item = WatchItem;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<WatchItem>> {
        self.poll_item(cx)
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").field("id", &self.registration.id).finish_non_exhaustive()
    }
}

/// A place in the client's table of watches, given back when dropped.
pub(super) struct Registration {
    handle: Arc<Handle>,
    namespace: Namespace,
    pub(super) id: WatchId,
    /// The table has already forgotten the watch.
    done: bool,
}

impl Registration {
    pub(super) fn new(handle: Arc<Handle>, namespace: Namespace, id: WatchId) -> Self {
        Registration { handle, namespace, id, done: false }
    }

    fn strip(&self, mut event: WatchedEvent) -> WatchedEvent {
        event.path = self.namespace.strip(event.path);
        event
    }

    fn strip_error(&self, error: Error) -> Error {
        match error {
            Error::WatchRemoved { path } => Error::WatchRemoved { path: self.namespace.strip(path) },
            other => other,
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if !self.done {
            self.handle.unwatch(self.id);
        }
    }
}

/// The bounded queue between the driver and one [`Watcher`].
#[derive(Debug)]
pub(super) struct WatchQueue {
    bound: usize,
    inner: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    items: VecDeque<WatchItem>,
    lagged: u64,
    ended: bool,
    waker: Option<Waker>,
}

impl WatchQueue {
    pub(super) fn new(bound: usize) -> Arc<Self> {
        Arc::new(WatchQueue { bound: bound.max(1), inner: Mutex::default() })
    }

    /// Adds an item. When the queue is full, everything in it is dropped and counted: whoever reads on must read
    /// the nodes anew anyway, so the newest items are the useful ones.
    pub(super) fn push(&self, item: WatchItem) {
        self.change(|waiting| {
            if waiting.items.len() >= self.bound {
                waiting.lagged += waiting.items.len() as u64;
                waiting.items.clear();
            }
            waiting.items.push_back(item);
        });
    }

    /// No more items will come; those that wait stay.
    pub(super) fn end(&self) {
        self.change(|waiting| waiting.ended = true);
    }

    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        let waker = {
            let mut waiting = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut waiting);
            waiting.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Option<WatchItem>> {
        let mut waiting = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.lagged > 0 {
            return Poll::Ready(Some(WatchItem::Lagged(std::mem::take(&mut waiting.lagged))));
        }
        if let Some(item) = waiting.items.pop_front() {
            return Poll::Ready(Some(item));
        }
        if waiting.ended {
            return Poll::Ready(None);
        }
        waiting.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pop(queue: &WatchQueue) -> Poll<Option<WatchItem>> {
        queue.poll_pop(&mut Context::from_waker(Waker::noop()))
    }

    fn event(path: &str) -> WatchItem {
        WatchItem::Event(WatchedEvent { kind: EventType::NodeCreated, path: path.into(), zxid: None })
    }

    #[test]
    fn a_full_queue_tells_how_much_it_dropped_and_goes_on() {
        let queue = WatchQueue::new(2);
        for path in ["/a", "/b", "/c", "/d", "/e"] {
            queue.push(event(path));
        }
        assert_eq!(pop(&queue), Poll::Ready(Some(WatchItem::Lagged(4))));
        assert_eq!(pop(&queue), Poll::Ready(Some(event("/e"))));
        assert_eq!(pop(&queue), Poll::Pending);
        queue.push(event("/f"));
        queue.end();
        assert_eq!(pop(&queue), Poll::Ready(Some(event("/f"))));
        assert_eq!(pop(&queue), Poll::Ready(None));
    }
}
