//! Barriers: everybody waits as long as a node is there.

use std::time::Duration;

use docent::{Client, CreateMode, ErrorCode, OneshotWatch, SessionId};

use crate::backoff::Backoff;
use crate::error::Error;
use crate::following::goes_on;
use crate::guarded::{self, Gone, OwnNode};

/// How often the parent may be gone right after it was made.
const PARENT_ROUNDS_MAX: u32 = 16;

/// A barrier: closed while its node exists, whoever made it. Cheap to clone; nothing is sent before one of its verbs.
///
/// **Connected**, who waits goes on when the barrier is lifted, and not before: it looks at a server that knows all that was
/// written when it came. **Suspended**, waiting goes on, and a barrier that is lifted meanwhile is seen lifted afterwards; one
/// that is lifted and set again may not be. **Lost**, waiting goes on in the next session. The barrier itself belongs to no
/// session: it stays closed when the program that set it dies.
///
/// **Token:** none, since nothing is held.
///
/// **Dropped:** a wait that is dropped takes its watch along. A barrier may be set or lifted when that future is dropped.
///
/// **Layout:** Curator's `DistributedBarrier` and kazoo's `Barrier`: the node itself, persistent, with any data.
///
/// **Cost:** setting is one round trip, lifting two, waiting one and one more when it is lifted; a watch for each that waits.
#[derive(Clone, Debug)]
#[must_use = "a barrier does nothing before it is set, lifted or waited for"]
pub struct Barrier {
    client: Client,
    path: String,
}

impl Barrier {
    pub(crate) fn new(client: Client, path: String) -> Barrier {
        Barrier { client, path }
    }

    /// Closes the barrier. Returns whether it was open.
    ///
    /// # Errors
    /// [`Error::Ambiguous`] when the reply was lost and the barrier is open now: somebody may have lifted it since. What the
    /// server refuses; then nothing was written.
    ///
    /// # Cancel safety
    /// It may be set when the future is dropped.
    pub async fn set(&self) -> Result<bool, Error> {
        let session = self.client.session_ready().await?;
        let (mut backoff, mut parent_rounds) = (Backoff::reconnecting(), 0);
        loop {
            let Err(error) = session.create(&self.path, "").mode(CreateMode::Persistent).await else {
                return Ok(true);
            };
            match error.code() {
                Some(ErrorCode::NODE_EXISTS) => return Ok(false),
                Some(ErrorCode::NO_NODE) if parent_rounds < PARENT_ROUNDS_MAX => {
                    parent_rounds += 1;
                    guarded::make_parents(&session, &self.path).await?;
                }
                _ if error.may_have_applied() => {
                    let ambiguous = || Error::Ambiguous { op: "set", path: self.path.clone() };
                    guarded::synced(&session, &self.path).await.map_err(|_| ambiguous())?;
                    let found = guarded::stat_of(&session, &self.path).await.map_err(|_| ambiguous())?;
                    return found.map(|_| true).ok_or_else(ambiguous);
                }
                _ if guarded::may_try_again(&error) => backoff.wait().await,
                _ => return Err(error.into()),
            }
        }
    }

    /// Opens the barrier. Returns whether it was closed. One that is set again meanwhile is not lifted by this.
    ///
    /// # Errors
    /// [`Error::Ambiguous`] when the session ended before the outcome was known, and what the server refuses.
    ///
    /// # Cancel safety
    /// It may be lifted when the future is dropped.
    pub async fn lift(&self) -> Result<bool, Error> {
        let session = self.client.session_ready().await?;
        let Some(stat) = guarded::stat_of(&session, &self.path).await? else { return Ok(false) };
        let closed = OwnNode { path: self.path.clone(), czxid: stat.czxid, session: stat.ephemeral_owner };
        match guarded::remove(&session, &closed).await {
            Gone::Deleted => Ok(true),
            Gone::Before => Ok(false),
            Gone::SessionEnded => Err(Error::Ambiguous { op: "lift", path: self.path.clone() }),
            Gone::Refused(error) => Err(error),
        }
    }

    /// Whether the barrier is closed.
    ///
    /// # Errors
    /// What the server refuses, and a connection that does not come back in time.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn is_set(&self) -> Result<bool, Error> {
        Ok(self.client.exists(&self.path).await?.is_some())
    }

    /// Waits until the barrier is open. Returns at once when it is.
    ///
    /// # Errors
    /// [`Error::Closed`] and what the server refuses.
    ///
    /// # Cancel safety
    /// Safe: an open barrier is a state.
    pub async fn wait(&self) -> Result<(), Error> {
        let mut backoff = Backoff::reconnecting();
        loop {
            match self.look().await {
                // Whatever it was, also the end of a session, the next look tells.
                Ok(Some(watch)) => drop(watch.await),
                Ok(None) => return Ok(()),
                Err(error) if goes_on(&error) => backoff.wait().await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until the barrier is open, but not longer than `limit`.
    ///
    /// # Errors
    /// [`Error::Timeout`]. Else as [`Barrier::wait`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait_within(&self, limit: Duration) -> Result<(), Error> {
        tokio::time::timeout(limit, self.wait()).await.unwrap_or(Err(Error::Timeout(limit)))
    }

    /// A watch on the closed barrier; `None` when it is open. The `sync` travels along: our server may not have heard yet of
    /// a barrier that somebody told us is closed.
    async fn look(&self) -> Result<Option<OneshotWatch>, docent::Error> {
        let (sync, read) = (self.client.sync(&self.path), self.client.get_data_and_watch(&self.path));
        sync.await?;
        match read.await {
            Ok((_, watch)) => Ok(Some(watch)),
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => Ok(None),
            // Whether a node exists is never hidden.
            Err(error) if error.code() == Some(ErrorCode::NO_AUTH) => {
                let (stat, watch) = self.client.exists_and_watch(&self.path).await?;
                Ok(stat.map(|_| watch))
            }
            Err(error) => Err(error),
        }
    }
}

/// A persistent node as it was read, to be removed if it is still that one.
pub(crate) fn persistent(path: String, stat: &docent::Stat) -> OwnNode {
    OwnNode { path, czxid: stat.czxid, session: SessionId::NONE }
}
