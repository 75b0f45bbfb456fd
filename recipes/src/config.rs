//! The config watcher: the value of one node, typed, always at hand.
//!
//! **Connected**, [`Watched::get`] is the newest value this process was told of, and each later write arrives.
//! **Suspended or lost**, it is the last good value, and [`Watched::info`] says since when it may be old; in the
//! next session the watcher goes on by itself. Values never go back, across sessions too: what is delivered has a
//! rising mzxid. Writes that follow each other quickly may be seen as one. Bytes that are not a value, or do not
//! pass the validation, are reported and never replace the last good value. A deleted node is reported too; it
//! is not a silent return to the default.
//!
//! **Token:** the mzxid and version of the value, in [`Watched::info`].
//!
//! **Dropped:** with the last clone of [`Watched`] the watch goes; nothing else is on the server.
//!
//! **Layout:** a plain node with any bytes, as Curator's `NodeCache` and `SharedValue` and kazoo's `DataWatch`
//! read it.
//!
//! **Cost:** one watch per client and path, one read per change; [`Watched::update`] takes a read and a write.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use docent::{Client, CreateMode, ErrorCode, NodeData, ParentMode, Stat, Version, Zxid};
use futures::Stream;
use futures::stream::{self, BoxStream, StreamExt};
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::backoff::Backoff;
use crate::codec::{Decode, Encode, Json, Raw, Text};
use crate::config_follow::{self as follow, What};
use crate::config_state::{First, Shared, Validate};
use crate::config_tree::JsonTree;
use crate::error::Error;

/// How often [`Watched::update`] tries again when other writers are faster.
const UPDATE_ATTEMPTS_MAX: u32 = 64;

/// The path of a value whose type is not said yet.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before open"]
pub struct ConfigPath {
    client: Client,
    path: String,
}

impl ConfigPath {
    pub(crate) fn new(client: Client, path: String) -> ConfigPath {
        ConfigPath { client, path }
    }

    /// The value is JSON.
    pub fn json<T: DeserializeOwned>(self) -> ConfigBuilder<T, Json> {
        self.codec(Json)
    }

    /// The value is text, in the form of `FromStr`.
    pub fn text<T>(self) -> ConfigBuilder<T, Text>
    where
        Text: Decode<T>,
    {
        self.codec(Text)
    }

    /// The value is the bytes.
    pub fn bytes(self) -> ConfigBuilder<Bytes, Raw> {
        self.codec(Raw)
    }

    /// The value is made of the node and everything below it.
    pub(crate) fn tree<T: DeserializeOwned>(self) -> ConfigBuilder<T, JsonTree> {
        ConfigBuilder { what: What::Tree, ..self.codec(JsonTree) }
    }

    /// The value is in another form.
    pub fn codec<T, C: Decode<T>>(self, codec: C) -> ConfigBuilder<T, C> {
        let ConfigPath { client, path } = self;
        ConfigBuilder { client, path, what: What::Node, codec, default: None, required: None, validate: None }
    }
}

/// A config watcher that is not open yet.
#[must_use = "nothing happens before open"]
pub struct ConfigBuilder<T, C> {
    client: Client,
    path: String,
    what: What,
    codec: C,
    default: Option<T>,
    required: Option<Duration>,
    validate: Option<Validate<T>>,
}

impl<T, C> fmt::Debug for ConfigBuilder<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigBuilder").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<T, C> ConfigBuilder<T, C>
where
    T: Send + Sync + 'static,
    C: Decode<T>,
{
    /// The value to begin with when the node does not exist or holds none.
    pub fn default_if_missing(mut self, value: T) -> Self {
        self.default = Some(value);
        self
    }

    /// Lets `open` wait so long for a value, if there is none yet.
    pub fn required(mut self, within: Duration) -> Self {
        self.required = Some(within);
        self
    }

    /// Which values count. A value that does not pass is reported like bytes that are none.
    pub fn validate(mut self, valid: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        self.validate = Some(Arc::new(valid));
        self
    }

    /// Reads the first value and goes on watching.
    ///
    /// # Errors
    /// Without a default: [`Error::Missing`] when there is no node, [`Error::Invalid`] when it holds no value; with
    /// [`ConfigBuilder::required`] after that time only. [`Error::Closed`], and what the server refuses.
    ///
    /// # Cancel safety
    /// Safe: nothing is left on the server.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn open(self) -> Result<Watched<T, C>, Error> {
        let ConfigBuilder { client, path, what, codec, default, required, validate } = self;
        let (first, mut first_seen) = watch::channel(First::Waiting);
        let creates_missing = default.is_some();
        let shared = Arc::new(Shared::new(path, codec, validate, first));
        let stop = CancellationToken::new();
        let followed = Arc::clone(&shared);
        tokio::spawn(follow::run(client.clone(), followed, what, stop.clone()));
        let ends_follow = stop.drop_guard();

        let certain = |first: &First| !matches!(first, First::Waiting);
        let mut seen = first_seen.wait_for(certain).await.map(|first| first.clone());
        if let (Ok(First::Missing | First::Invalid(_)), Some(within), None) = (&seen, required, &default) {
            let good = |first: &First| matches!(first, First::Value | First::Failed(_));
            if let Ok(later) = tokio::time::timeout(within, first_seen.wait_for(good)).await {
                seen = later.map(|first| first.clone());
            }
        }
        let path = shared.path.clone();
        let value = match (seen, default) {
            (Ok(First::Value), _) => shared.lock().value.as_ref().map(watch::Sender::subscribe),
            (Ok(First::Missing | First::Invalid(_)), Some(default)) => Some(shared.begin_with(default)),
            (Ok(First::Missing), None) => return Err(Error::Missing { path }),
            (Ok(First::Invalid(reason)), None) => return Err(Error::Invalid { path, reason }),
            (Ok(First::Failed(error)), _) => return Err(error),
            (Ok(First::Waiting) | Err(_), _) => None,
        };
        let value = value.ok_or(Error::RuntimeStopped)?;
        let inner = Arc::new(Inner { client, shared, creates_missing, _ends_follow: ends_follow });
        Ok(Watched { inner, value, _type: PhantomData })
    }
}

/// Something a watcher has to tell.
#[derive(Debug)]
#[non_exhaustive]
pub enum Update<T> {
    /// A new value.
    Value {
        /// The value.
        value: Arc<T>,
        /// The write that brought it; higher with each value.
        mzxid: Zxid,
    },
    /// The node does not exist any more.
    Missing {
        /// The value that [`Watched::get`] goes on to return.
        keeping: Option<Arc<T>>,
    },
    /// The node's bytes are not a value.
    Invalid {
        /// The bytes.
        bytes: Bytes,
        /// Why.
        reason: Arc<str>,
        /// The value that [`Watched::get`] goes on to return.
        keeping: Option<Arc<T>>,
    },
    /// After a time of staleness the value is known to be the current one again.
    Synced,
    /// The connection is gone: the value may be old.
    Stale {
        /// Since when.
        since: Instant,
    },
    /// The reader was too slow: so many updates are left out. [`Watched::get`] is not behind.
    Lagged(u64),
}

impl<T> Clone for Update<T> {
    fn clone(&self) -> Self {
        match self {
            Update::Value { value, mzxid } => Update::Value { value: Arc::clone(value), mzxid: *mzxid },
            Update::Missing { keeping } => Update::Missing { keeping: keeping.clone() },
            Update::Invalid { bytes, reason, keeping } => {
                Update::Invalid { bytes: bytes.clone(), reason: Arc::clone(reason), keeping: keeping.clone() }
            }
            Update::Synced => Update::Synced,
            Update::Stale { since } => Update::Stale { since: *since },
            Update::Lagged(count) => Update::Lagged(*count),
        }
    }
}

/// How good the value of a watcher is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConfigInfo {
    /// The write that brought the value; `None` for the default.
    pub mzxid: Option<Zxid>,
    /// The node's version with that value; `None` for the default.
    pub version: Option<i32>,
    /// How long ago this process got the value.
    pub age: Duration,
    /// Whether a server would tell us of a newer one: false while disconnected.
    pub fresh: bool,
    /// Since when the value may be old; `None` while fresh.
    pub stale_since: Option<Instant>,
    /// What is wrong with the node now, if it is gone or holds no value.
    pub problem: Option<Arc<str>>,
}

struct Inner<T, C> {
    client: Client,
    shared: Arc<Shared<T, C>>,
    creates_missing: bool,
    _ends_follow: DropGuard,
}

/// A value that is kept up to date. Cheap to clone; the last clone takes the watch along.
pub struct Watched<T, C = Json> {
    inner: Arc<Inner<T, C>>,
    value: watch::Receiver<Arc<T>>,
    _type: PhantomData<C>,
}

impl<T, C> Clone for Watched<T, C> {
    fn clone(&self) -> Self {
        Watched { inner: Arc::clone(&self.inner), value: self.value.clone(), _type: PhantomData }
    }
}

impl<T, C> fmt::Debug for Watched<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("path", &self.inner.shared.path).finish_non_exhaustive()
    }
}

impl<T, C> Watched<T, C>
where
    T: Send + Sync + 'static,
    C: Decode<T>,
{
    /// The last good value, without waiting.
    #[must_use]
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.value.borrow())
    }

    /// How good the value is.
    #[must_use]
    pub fn info(&self) -> ConfigInfo {
        let state = self.inner.shared.lock();
        let (source, received) = state.info.unwrap_or((None, Instant::now()));
        ConfigInfo {
            mzxid: source.map(|(mzxid, _)| mzxid),
            version: source.map(|(_, version)| version),
            age: received.elapsed(),
            fresh: state.stale_since.is_none(),
            stale_since: state.stale_since,
            problem: state.problem.clone(),
        }
    }

    /// The last good value as a latest-value channel.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<T>> {
        self.value.clone()
    }

    /// Everything that happens from now on.
    #[must_use]
    pub fn updates(&self) -> Updates<T> {
        let receiver = self.inner.shared.updates.subscribe();
        let items = stream::unfold(receiver, |mut receiver| async move {
            let item = match receiver.recv().await {
                Ok(update) => update,
                Err(broadcast::error::RecvError::Lagged(count)) => Update::Lagged(count),
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            Some((item, receiver))
        });
        Updates { items: items.boxed() }
    }
}

impl<T, C> Watched<T, C>
where
    T: Send + Sync + 'static,
    C: Decode<T> + Encode<T>,
{
    /// Replaces the value by one made from the current one. When another writer is faster, `change` is called
    /// again on what it wrote. A missing node is created, from the last good value, if a default was given.
    ///
    /// # Errors
    /// [`Error::Ambiguous`] when the reply to the write was lost: read before you decide. [`Error::Invalid`] when
    /// the node holds no value, or the new value does not pass the validation. [`Error::Missing`],
    /// [`Error::Contended`], [`Error::Encode`], and what the server refuses.
    ///
    /// # Cancel safety
    /// The value may be written when the future is dropped.
    pub async fn update(&self, mut change: impl FnMut(&T) -> T + Send) -> Result<Arc<T>, Error> {
        let mut backoff = Backoff::competing();
        for _ in 0..UPDATE_ATTEMPTS_MAX {
            match self.try_update(&mut change).await? {
                Some(value) => return Ok(value),
                None => backoff.wait().await,
            }
        }
        Err(Error::Contended { path: self.inner.shared.path.clone(), attempts: UPDATE_ATTEMPTS_MAX })
    }

    /// One attempt; `None` when another writer was faster.
    async fn try_update(&self, change: &mut (impl FnMut(&T) -> T + Send)) -> Result<Option<Arc<T>>, Error> {
        let Inner { client, shared, .. } = &*self.inner;
        let path = &shared.path;
        let before = match client.get_data(path).await {
            Ok(node) => Some(node),
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) && self.inner.creates_missing => None,
            Err(error) => return Err(self.not_written(error)),
        };
        let old = match &before {
            Some(node) => shared
                .decode(&node.bytes())
                .map_err(|reason| Error::Invalid { path: path.clone(), reason })?,
            None => self.get(),
        };
        let bytes =
            shared.codec.encode(&change(&old)).map_err(|error| Error::Encode(error.to_string().into()))?;
        // What others would refuse to read is not written.
        let value = shared.decode(&bytes).map_err(|reason| Error::Invalid { path: path.clone(), reason })?;
        match self.write(before, bytes.clone()).await {
            Ok(stat) => {
                // Whoever has written sees it at once, not when the event comes.
                if let Some(stat) = stat {
                    shared.offer(&bytes, &stat);
                }
                Ok(Some(value))
            }
            Err(error) => match error.code() {
                Some(ErrorCode::BAD_VERSION | ErrorCode::NODE_EXISTS | ErrorCode::NO_NODE) => Ok(None),
                _ => Err(self.not_written(error)),
            },
        }
    }

    async fn write(&self, before: Option<NodeData>, bytes: Bytes) -> Result<Option<Stat>, docent::Error> {
        let Inner { client, shared, .. } = &*self.inner;
        match before {
            Some(node) => {
                let version = Version(node.stat.version);
                Ok(Some(client.set_data(&shared.path, bytes, version).await?))
            }
            None => {
                client.create_parents(&shared.path, ParentMode::Persistent).await?;
                Ok(client.create(&shared.path, bytes).mode(CreateMode::Persistent).await?.stat)
            }
        }
    }

    fn not_written(&self, error: docent::Error) -> Error {
        let path = self.inner.shared.path.clone();
        if error.may_have_applied() {
            return Error::Ambiguous { op: "update", path };
        }
        if error.code() == Some(ErrorCode::NO_NODE) { Error::Missing { path } } else { error.into() }
    }
}

/// What happens to a config value, in order.
pub struct Updates<T> {
    items: BoxStream<'static, Update<T>>,
}

impl<T> fmt::Debug for Updates<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Updates").finish_non_exhaustive()
    }
}

impl<T> Updates<T> {
    /// The next update; `None` when the watcher is gone.
    ///
    /// # Cancel safety
    /// Safe: no update is lost.
    pub async fn next(&mut self) -> Option<Update<T>> {
        self.items.next().await
    }
}

impl<T> Stream for Updates<T> {
    type Item = Update<T>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update<T>>> {
        self.items.as_mut().poll_next(cx)
    }
}
