//! Shared values: one node that many programs read and change.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use docent::{Client, CreateMode, ErrorCode, Version, Zxid};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backoff::Backoff;
use crate::codec::{Decode, Encode, Json, Raw, Text};
use crate::error::Error;
use crate::following::goes_on;
use crate::guarded;
use crate::written_once::{Written, write, write_marked};

/// How often an update begins anew because another writer was faster. The pauses between grow to a quarter of a second, so
/// this is a minute of bad luck at the least.
const UPDATES_MAX: u32 = 1_000;

/// How often the node may vanish between making and reading it.
const SEEDS_MAX: u32 = 16;

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a change may not have been applied, or not be known to be"]
pub enum Outcome<T> {
    /// It was applied, once; this is the new value.
    Applied(T),
    /// The reply was lost. It was applied once or not at all, and was not sent again: read before you decide.
    Ambiguous,
}

impl<T> Outcome<T> {
    /// The new value; `None` when it is not known whether it was applied.
    pub fn applied(self) -> Option<T> {
        match self {
            Outcome::Applied(value) => Some(value),
            Outcome::Ambiguous => None,
        }
    }
}

/// A value, and which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// The version of the node: what a change compares with.
    pub version: i32,
    /// The transaction that wrote it: of two values of one path the younger has the higher one, whatever happened between.
    pub mzxid: Zxid,
}

/// A value in one node, which any program may change. Cheap to clone; nothing is sent before one of its verbs.
///
/// **Connected**, a read shows at least what this client has read or written before, and a change is made on exactly the
/// value that it was computed from. **Suspended**, verbs wait, within the client's retry budget. **Lost**, a change that was
/// begun is not sent again in the next session: it is [`Outcome::Ambiguous`] when it may have been applied, and
/// [`Error::SessionEnded`] when it was not.
///
/// **Exactly once:** a change is never made twice. With [`SharedValue::exactly_once`] a lost reply is cleared up too: a
/// marker, an ephemeral node below `<path>-ops`, is made in the same transaction, looked for, and removed. Ambiguous is then
/// only what lost its session with its reply.
///
/// **Token:** none, since nothing is held; the `mzxid` orders values.
///
/// **Dropped:** a change may be made when its future is dropped; of a marker nothing remains.
///
/// **Layout:** Curator's `SharedValue`, which is the plain bytes of a persistent node. Who wants to hear of each change takes
/// [`crate::Recipes::watch_config`] on the same path. Programs must not delete the node and make it again while others change
/// it: versions begin again then.
///
/// **Cost:** a read is one round trip, a change a read and a write, and again for each faster writer; exactly once costs the
/// server one more write, which nobody waits for. No watch.
#[derive(Debug)]
#[must_use = "a shared value does nothing before it is read or changed"]
pub struct SharedValue<T = Bytes, C = Raw> {
    client: Client,
    path: String,
    codec: Arc<C>,
    seed: Option<Arc<T>>,
    exactly_once: bool,
    of: PhantomData<fn() -> T>,
}

impl<T, C> Clone for SharedValue<T, C> {
    fn clone(&self) -> Self {
        SharedValue {
            client: self.client.clone(),
            path: self.path.clone(),
            codec: Arc::clone(&self.codec),
            seed: self.seed.clone(),
            exactly_once: self.exactly_once,
            of: PhantomData,
        }
    }
}

impl SharedValue {
    pub(crate) fn new(client: Client, path: String) -> SharedValue {
        let codec = Arc::new(Raw);
        SharedValue { client, path, codec, seed: None, exactly_once: false, of: PhantomData }
    }

    /// The value is JSON.
    pub fn json<T: DeserializeOwned + Serialize>(self) -> SharedValue<T, Json> {
        self.codec(Json)
    }

    /// The value is text, in the form of `FromStr` and `Display`.
    pub fn text<T>(self) -> SharedValue<T, Text>
    where
        Text: Decode<T> + Encode<T>,
    {
        self.codec(Text)
    }

    /// The value is in another form. Said before the seed.
    pub fn codec<T, C: Decode<T> + Encode<T>>(self, codec: C) -> SharedValue<T, C> {
        let SharedValue { client, path, exactly_once, .. } = self;
        SharedValue { client, path, codec: Arc::new(codec), seed: None, exactly_once, of: PhantomData }
    }
}

impl<T, C> SharedValue<T, C>
where
    T: Send + Sync,
    C: Decode<T> + Encode<T>,
{
    /// What the node is made with when it is not there. Default: a missing node is an error.
    pub fn seed(mut self, value: T) -> SharedValue<T, C> {
        self.seed = Some(Arc::new(value));
        self
    }

    /// Clears up lost replies, with a marker for each change.
    pub fn exactly_once(mut self) -> SharedValue<T, C> {
        self.exactly_once = true;
        self
    }

    /// The value now.
    ///
    /// # Errors
    /// [`Error::Missing`] when there is no node and no seed, [`Error::Invalid`], and what the server refuses.
    ///
    /// # Cancel safety
    /// The node may be made with the seed when the future is dropped.
    pub async fn get(&self) -> Result<Versioned<T>, Error> {
        let (mut backoff, mut seeds) = (Backoff::reconnecting(), 0);
        loop {
            let error = match self.client.get_data(&self.path).await {
                Ok(node) => {
                    let value = self.decode(&node.bytes())?;
                    return Ok(Versioned { value, version: node.stat.version, mzxid: node.stat.mzxid });
                }
                Err(error) => error,
            };
            if error.code() == Some(ErrorCode::NO_NODE) {
                let Some(seed) = self.seed.as_deref().filter(|_| seeds < SEEDS_MAX) else {
                    return Err(Error::Missing { path: self.path.clone() });
                };
                seeds += 1;
                self.sow(self.encode(seed)?).await?;
                backoff.wait().await;
            } else {
                return Err(error.into());
            }
        }
    }

    /// Waits for a value that is wanted, and returns it; at once when it is there. What comes and goes quickly may be missed.
    /// It keeps a watch and reads once per change, and goes on in the next session.
    ///
    /// # Errors
    /// [`Error::Missing`] when there is no node and no seed, [`Error::Invalid`], [`Error::Closed`], and what the server
    /// refuses.
    ///
    /// # Cancel safety
    /// Safe. The node may be made with the seed when the future is dropped.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&T) -> bool + Send) -> Result<Versioned<T>, Error> {
        let mut backoff = Backoff::reconnecting();
        loop {
            match self.client.get_data_and_watch(&self.path).await {
                Ok((node, changed)) => {
                    let value = self.decode(&node.bytes())?;
                    if wanted(&value) {
                        let stat = node.stat;
                        return Ok(Versioned { value, version: stat.version, mzxid: stat.mzxid });
                    }
                    // Whatever it was, also the end of a session, the next read tells.
                    drop(changed.await);
                    backoff = Backoff::reconnecting();
                }
                Err(error) if error.code() == Some(ErrorCode::NO_NODE) => {
                    drop(self.get().await?);
                    backoff.wait().await;
                }
                Err(error) if goes_on(&error) => backoff.wait().await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Replaces the value, whatever it is.
    ///
    /// # Errors
    /// [`Error::Encode`], [`Error::Missing`], [`Error::SessionEnded`], [`Error::Closed`], and what the server refuses. Nothing
    /// was written.
    ///
    /// # Cancel safety
    /// The value may be written when the future is dropped.
    ///
    /// # Panics
    /// With [`SharedValue::exactly_once`], when polled outside a tokio runtime.
    pub async fn set(&self, value: T) -> Result<Outcome<T>, Error> {
        for _ in 0..SEEDS_MAX {
            match self.write(&value, Version::ANY).await? {
                Written::Applied => return Ok(Outcome::Applied(value)),
                Written::Ambiguous => return Ok(Outcome::Ambiguous),
                Written::Refused | Written::Missing => drop(self.get().await?),
            }
        }
        Err(Error::Missing { path: self.path.clone() })
    }

    /// Replaces the value that was read before, if nobody has replaced it since.
    ///
    /// # Errors
    /// [`Error::Contended`] when somebody has. Else as [`SharedValue::set`]. Nothing was written.
    ///
    /// # Cancel safety
    /// The value may be written when the future is dropped.
    ///
    /// # Panics
    /// With [`SharedValue::exactly_once`], when polled outside a tokio runtime.
    pub async fn compare_and_set(&self, before: &Versioned<T>, value: T) -> Result<Outcome<T>, Error> {
        match self.write(&value, Version(before.version)).await? {
            Written::Applied => Ok(Outcome::Applied(value)),
            Written::Ambiguous => Ok(Outcome::Ambiguous),
            Written::Refused => Err(Error::Contended { path: self.path.clone(), attempts: 1 }),
            Written::Missing => Err(Error::Missing { path: self.path.clone() }),
        }
    }

    /// Replaces the value by one made from it. When another writer is faster, `change` is called again on what that one
    /// wrote; never on what our own change made.
    ///
    /// # Errors
    /// [`Error::Contended`] after a thousand faster writers. Else as [`SharedValue::get`] and [`SharedValue::set`]. Nothing
    /// was written.
    ///
    /// # Cancel safety
    /// The value may be written when the future is dropped.
    ///
    /// # Panics
    /// With [`SharedValue::exactly_once`], when polled outside a tokio runtime.
    pub async fn update(&self, mut change: impl FnMut(&T) -> T + Send) -> Result<Outcome<T>, Error> {
        self.try_update(|value| Ok(change(value))).await
    }

    /// As [`SharedValue::update`], with a change that can refuse.
    pub(crate) async fn try_update(
        &self,
        mut change: impl FnMut(&T) -> Result<T, Error> + Send,
    ) -> Result<Outcome<T>, Error> {
        let mut backoff = Backoff::competing();
        for _ in 0..UPDATES_MAX {
            let before = self.get().await?;
            let value = change(&before.value)?;
            match self.write(&value, Version(before.version)).await? {
                Written::Applied => return Ok(Outcome::Applied(value)),
                Written::Ambiguous => return Ok(Outcome::Ambiguous),
                Written::Refused | Written::Missing => backoff.wait().await,
            }
        }
        Err(Error::Contended { path: self.path.clone(), attempts: UPDATES_MAX })
    }

    async fn write(&self, value: &T, version: Version) -> Result<Written, Error> {
        let data = self.encode(value)?;
        if self.exactly_once {
            write_marked(&self.client, &self.path, data, version).await
        } else {
            write(&self.client, &self.path, data, version).await
        }
    }

    /// Makes the node. Whoever is first decides, so a lost reply does no harm.
    async fn sow(&self, seed: Bytes) -> Result<(), Error> {
        let session = self.client.session_ready().await?;
        match session.create(&self.path, seed).mode(CreateMode::Persistent).await {
            Ok(_) => Ok(()),
            Err(error) => match error.code() {
                Some(ErrorCode::NODE_EXISTS) => Ok(()),
                Some(ErrorCode::NO_NODE) => guarded::make_parents(&session, &self.path).await,
                _ if guarded::may_try_again(&error) => Ok(()),
                _ => Err(error.into()),
            },
        }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    fn encode(&self, value: &T) -> Result<Bytes, Error> {
        self.codec.encode(value).map_err(|error| Error::Encode(error.to_string().into()))
    }

    fn decode(&self, bytes: &[u8]) -> Result<T, Error> {
        let invalid = |reason: String| Error::Invalid { path: self.path.clone(), reason: reason.into() };
        self.codec.decode(bytes).map_err(|error| invalid(error.to_string()))
    }
}

impl<T, C> SharedValue<T, C> {
    /// The same node with another form and seed.
    pub(crate) fn recoded<U, D>(self, codec: D, seed: U) -> SharedValue<U, D> {
        let SharedValue { client, path, exactly_once, .. } = self;
        let seed = Some(Arc::new(seed));
        SharedValue { client, path, codec: Arc::new(codec), seed, exactly_once, of: PhantomData }
    }
}
