//! Queues: values that are put by some programs and taken by others, each once. For small queues.
//!
//! A server keeps all items in memory and tells a taker all their names at once, so a queue here is for hundreds of items and
//! not for millions: [`Queue::put`] refuses more than [`DEFAULT_LENGTH_MAX`]. Curator's authors advise against queues on
//! ZooKeeper altogether, for the same reasons.
//!
//! **Connected**, an item is put once and taken by one, in order. **Suspended**, putting and taking wait. **Lost**, both go on
//! in the next session, except where a session ends together with the reply to a put or a take: then nobody knows any more
//! whether it was applied, and [`Error::Ambiguous`] says so. Items depend on no session: they stay until they are taken.
//!
//! [`Queue::take`] is *at most once*: what it returned is gone from the server, and lost if the program dies before the work is
//! done. [`crate::WorkQueue::claim`] is *at least once*.
//!
//! **Token:** none for a take, since nothing is held; a claim has one.
//!
//! **Dropped:** a `put` that is dropped may put its item, once. A `take` that is dropped takes nothing: an item that was on
//! its way to it goes back to its place.
//!
//! **Layout:** [`QueueLayout`] and [`QueueOrder`] say whose: Curator's `DistributedQueue`, `DistributedPriorityQueue`,
//! `DistributedDelayQueue`, `SimpleDistributedQueue`, or kazoo's `Queue`. Beside it a node `<path>-ops` has markers, by which
//! a put or a take whose reply was lost is known again, so that no item is put or taken twice.
//!
//! **Cost:** a put is two round trips, one of them for the length; a take three, and again one for each item that another
//! was faster with. After each, one write that nobody waits for removes the marker. A taker that waits has one watch, and all
//! that wait are woken by each put.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use docent::Client;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{Decode as _, Encode as _, Json};
use crate::error::Error;
use crate::guard::Ticket;
use crate::queue_drivers::{Putter, Taker};
use crate::queue_layout::{Naming, QueueLayout, QueueOrder};

/// How many items a queue may have if nothing else is said.
pub const DEFAULT_LENGTH_MAX: usize = 10_000;

/// A queue. Cheap to clone; nothing is sent before one of its verbs. The module says what it promises:
/// *at most once* for what is taken, an error that says so when an outcome is not known.
#[derive(Clone, Debug)]
#[must_use = "nothing is put or taken before one of its verbs"]
pub struct Queue {
    pub(crate) client: Client,
    /// Whose children the items are.
    pub(crate) path: String,
    pub(crate) naming: Naming,
    pub(crate) length_max: usize,
}

impl Queue {
    pub(crate) fn new(client: Client, path: String) -> Queue {
        Queue { client, path, naming: Naming::default(), length_max: DEFAULT_LENGTH_MAX }
    }

    /// Whose nodes to make and to take. Default: [`QueueLayout::Curator`].
    pub fn layout(mut self, layout: QueueLayout) -> Queue {
        self.naming.layout = layout;
        self
    }

    /// In which order items come. All programs must say the same. Default: [`QueueOrder::Fifo`].
    pub fn order(mut self, order: QueueOrder) -> Queue {
        self.naming.order = order;
        self
    }

    /// How many items there may be: a put that finds as many is refused. Several that put at the same time may pass the bound
    /// by as many as they are. Default: [`DEFAULT_LENGTH_MAX`].
    pub fn length_max(mut self, max: usize) -> Queue {
        self.length_max = max;
        self
    }

    /// Puts a value. Await it.
    pub fn put(&self, value: impl Into<Bytes>) -> Put {
        self.put_with(Ok(vec![value.into()]))
    }

    /// Puts a value as JSON. Await it.
    pub fn put_json<T: Serialize>(&self, value: &T) -> Put {
        let bytes = Json.encode(value).map_err(|error| Error::Encode(error.to_string().into()));
        self.put_with(bytes.map(|bytes| vec![bytes]))
    }

    /// Puts several values as one item, which is taken as a whole. Only Curator's layout knows such items. Await it.
    pub fn put_all<V: Into<Bytes>>(&self, values: impl IntoIterator<Item = V>) -> Put {
        self.put_with(Ok(values.into_iter().map(Into::into).collect()))
    }

    fn put_with(&self, values: Result<Vec<Bytes>, Error>) -> Put {
        Put { queue: self.clone(), values, priority: None, due: None }
    }

    /// Takes the first item, and waits for one if there is none.
    ///
    /// # Errors
    /// [`Error::Ambiguous`] when the session ended together with the reply: the item may be gone, and nobody has it. Else
    /// [`Error::Closed`] and what the server refuses; nothing was taken then.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing: an item on its way goes back to its place, in the background. It is lost only when
    /// the program, the client or the session ends before it is back.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn take(&self) -> Result<Taken, Error> {
        // A driver that waits never answers "nothing": `None` cannot come.
        self.start(true).await?.ok_or(Error::RuntimeStopped)
    }

    /// Takes the first item, and waits for one no longer than `limit`.
    ///
    /// # Errors
    /// [`Error::Timeout`], and as [`Queue::take`].
    ///
    /// # Cancel safety
    /// As [`Queue::take`].
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn take_within(&self, limit: Duration) -> Result<Taken, Error> {
        tokio::time::timeout(limit, self.take()).await.map_err(|_| Error::Timeout(limit))?
    }

    /// Takes the first item; `None` when there is none, or none is due.
    ///
    /// # Errors
    /// As [`Queue::take`].
    ///
    /// # Cancel safety
    /// As [`Queue::take`].
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn try_take(&self) -> Result<Option<Taken>, Error> {
        self.start(false).await
    }

    async fn start(&self, wait: bool) -> Result<Option<Taken>, Error> {
        let (ticket, stop, granter) = Ticket::new();
        tokio::spawn(Taker { queue: self.clone(), wait, stop }.run(granter));
        let Some(offer) = ticket.await? else { return Ok(None) };
        // A driver that is gone with its runtime cannot put the item back, so it stays ours.
        let _ = offer.taken.send(());
        Ok(Some(offer.item))
    }

    /// How many nodes there are, whether due or not, and whoever made them.
    ///
    /// # Errors
    /// What the server refuses, and a connection that does not come back in time.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn length(&self) -> Result<usize, Error> {
        let stat = self.client.exists(&self.path).await?;
        Ok(stat.map_or(0, |stat| usize::try_from(stat.num_children).unwrap_or(0)))
    }
}

/// An item that has not been put yet: made by [`Queue::put`] and its like, sent by `.await`.
#[derive(Debug)]
#[must_use = "nothing is sent before .await"]
pub struct Put {
    pub(crate) queue: Queue,
    pub(crate) values: Result<Vec<Bytes>, Error>,
    pub(crate) priority: Option<i32>,
    pub(crate) due: Option<u64>,
}

impl Put {
    /// Its priority, the lowest first, in a queue in the order of [`QueueOrder::Priority`]. Default: 0, kazoo's 100.
    pub fn priority(mut self, priority: i32) -> Put {
        self.priority = Some(priority);
        self
    }

    /// When it may be taken, by the taker's clock, in a queue in the order of [`QueueOrder::Delay`]. Default: at once.
    pub fn due(mut self, due: SystemTime) -> Put {
        self.due = Some(millis(due));
        self
    }

    /// As [`Put::due`], so long after now by our clock.
    pub fn after(self, delay: Duration) -> Put {
        self.due(SystemTime::now() + delay)
    }
}

/// Milliseconds since 1970; 0 for what was before.
pub(crate) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    u64::try_from(since).unwrap_or(u64::MAX)
}

/// Resolves when the item is there. Fails with [`Error::Ambiguous`] when the session ended together with the reply: the item
/// may be there or not. Else, without an item, with [`Error::TooMany`] when the queue is full, [`Error::NotInLayout`],
/// [`Error::Encode`], [`Error::Closed`] and what the server refuses. When the future is dropped after its first poll the item
/// may be put, once.
///
/// # Panics
/// When polled outside a tokio runtime.
impl IntoFuture for Put {
    type Output = Result<(), Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let stem = self.queue.naming.stem(self.priority, self.due)?;
            let data = self.queue.naming.write(&self.values?)?;
            let (ticket, stop, granter) = Ticket::new();
            tokio::spawn(Putter { queue: self.queue, stem, data, stop }.run(granter));
            // The driver answers `None` only to one who has gone.
            ticket.await?.ok_or(Error::RuntimeStopped)
        })
    }
}

/// What was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub(crate) name: String,
    pub(crate) values: Vec<Bytes>,
}

impl Taken {
    /// The name of the node that it was, unique within the life of the queue's node.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The values, in the order in which they were put: one, unless they were put together. Bytes that somebody put who does
    /// not keep to Curator's frames are one value as they are.
    #[must_use]
    pub fn values(&self) -> &[Bytes] {
        &self.values
    }

    /// The values, read as JSON.
    ///
    /// # Errors
    /// [`Error::Invalid`] when one is not of the type. The bytes are still at hand.
    pub fn json<T: DeserializeOwned>(&self) -> Result<Vec<T>, Error> {
        let read = |value: &Bytes| {
            let invalid = |reason: String| Error::Invalid { path: self.name.clone(), reason: reason.into() };
            Json.decode(value).map_err(|error| invalid(error.to_string()))
        };
        self.values.iter().map(read).collect()
    }
}
