//! The multi-lock: several ordered locks, all or none.

use std::time::Duration;

use bytes::Bytes;
use docent::Client;

use crate::backoff::Backoff;
use crate::error::{Error, LossCause};
use crate::guard::LockGuard;
use crate::guard_set::GuardSet;
use crate::hold::OnSuspend;
use crate::line::Layout;
use crate::lock::{Lock, OnPlaceLost};

/// Several locks that are held all or none. Cheap to clone; nothing is sent before one of its verbs.
///
/// The locks are taken one after another in the order of their paths, whatever the order in which they were named. So two
/// who want overlapping sets meet at the first lock that both want, and never wait for each other in a circle. Guards
/// behave as those of the ordered lock in everything, see [`Lock`]; a [`GuardSet`] holds them together.
///
/// **Connected**, the set is yours; `check` costs no round trip. **Suspended**, it is still yours until the end of the
/// proven lease. **Lost** is the set with the first of its locks. A lock that is lost while a later one is waited for is
/// noticed: everything is given back and the whole set is taken again from its beginning ([`OnPlaceLost::Fail`] ends it).
/// All holds of a set are of one session, so that [`GuardSet::txn`] can check them in one transaction.
///
/// **Token:** one per lock, [`GuardSet::token_of`]; no single number rises for all of them.
///
/// **Dropped:** a future that is dropped leaves every line and gives back what it has; a set that is dropped is released.
/// Both happen in the background.
///
/// **Layout:** each is an ordered lock, so Curator's `InterProcessMutex` and kazoo's `Lock` on one of the paths stand in
/// its line. Curator's `InterProcessMultiLock` takes its locks in the order in which it was given them: give it sorted
/// paths.
///
/// **Cost:** that of the ordered lock for each, one after another: a set of *n* free locks takes *n* round trips.
///
/// ```no_run
/// # use docent_recipes::Recipes;
/// # async fn example(zk: docent::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let both = zk.lock_all(["/accounts/7", "/accounts/3"]).acquire().await?;
/// let token = both.token_of("/accounts/3");
/// # drop(token);
/// both.release().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a lock does nothing before it is acquired"]
pub struct MultiLock {
    /// In the order of their paths, each path once.
    locks: Vec<Lock>,
    on_place_lost: OnPlaceLost,
}

/// What taking all of them in one session brought.
enum Taken {
    All(GuardSet),
    /// Somebody is in line and waiting is not wanted.
    Busy,
    /// One that was held already is gone.
    Lost(LossCause),
}

impl MultiLock {
    pub(crate) fn new(client: &Client, paths: impl IntoIterator<Item = String>) -> MultiLock {
        // A path that is named twice is one lock: who holds it would wait for itself.
        let paths: std::collections::BTreeSet<String> = paths.into_iter().collect();
        let locks = paths.into_iter().map(|path| Lock::new(client.clone(), path)).collect();
        MultiLock { locks, on_place_lost: OnPlaceLost::default() }
    }

    fn each(mut self, change: impl FnMut(Lock) -> Lock) -> MultiLock {
        self.locks = self.locks.into_iter().map(change).collect();
        self
    }

    /// The names to use, and by that which other programs are excluded. Default: [`Layout::Curator`].
    pub fn layout(self, layout: Layout) -> MultiLock {
        self.each(|lock| lock.layout(layout))
    }

    /// The data of our nodes, for people. Default: empty.
    pub fn identifier(self, identifier: impl Into<Bytes>) -> MultiLock {
        let identifier = identifier.into();
        self.each(|lock| lock.identifier(identifier.clone()))
    }

    /// What a holder does while disconnected. Default: [`OnSuspend::KeepUntilLease`].
    pub fn on_suspend(self, on_suspend: OnSuspend) -> MultiLock {
        self.each(|lock| lock.on_suspend(on_suspend))
    }

    /// What to do when a place, or a lock that is held already, is lost before the set is complete. Default:
    /// [`OnPlaceLost::StandAgain`], for the whole set.
    pub fn on_place_lost(mut self, on_place_lost: OnPlaceLost) -> MultiLock {
        self.on_place_lost = on_place_lost;
        self.each(|lock| lock.on_place_lost(on_place_lost))
    }

    /// Waits until all locks are ours.
    ///
    /// # Errors
    /// [`Error::PlaceLost`] under [`OnPlaceLost::Fail`], [`Error::Closed`], and what the server refuses. No node of ours
    /// remains.
    ///
    /// # Cancel safety
    /// Dropping the future leaves every line and gives back what is held.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn acquire(&self) -> Result<GuardSet, Error> {
        let mut backoff = Backoff::reconnecting();
        loop {
            let cause = match self.take(true).await? {
                Taken::All(set) => return Ok(set),
                Taken::Lost(cause) => cause,
                // One who waits is never told that somebody else is in line.
                Taken::Busy => return Err(Error::RuntimeStopped),
            };
            if cause == LossCause::Closed {
                return Err(Error::Closed);
            }
            if self.on_place_lost == OnPlaceLost::Fail {
                return Err(Error::PlaceLost(cause));
            }
            tracing::debug!(%cause, "a lock was lost before all were taken, beginning again");
            backoff.wait().await;
        }
    }

    /// Waits until all locks are ours, but for all of them together not longer than `limit`.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the time is over: what was taken is given back in the background. Else as
    /// [`MultiLock::acquire`].
    ///
    /// # Cancel safety
    /// As [`MultiLock::acquire`].
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn acquire_within(&self, limit: Duration) -> Result<GuardSet, Error> {
        match tokio::time::timeout(limit, self.acquire()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Timeout(limit)),
        }
    }

    /// Takes all locks if nobody is in any of their lines, else `None` and none of them.
    ///
    /// # Errors
    /// As [`MultiLock::acquire`]; [`Error::PlaceLost`] when a lock is lost while the others are taken.
    ///
    /// # Cancel safety
    /// As [`MultiLock::acquire`].
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn try_acquire(&self) -> Result<Option<GuardSet>, Error> {
        match self.take(false).await? {
            Taken::All(set) => Ok(Some(set)),
            Taken::Busy => Ok(None),
            Taken::Lost(cause) => Err(Error::PlaceLost(cause)),
        }
    }

    async fn take(&self, wait: bool) -> Result<Taken, Error> {
        // Dropped on every way out, and with it what is held.
        let mut set = GuardSet::new(Vec::with_capacity(self.locks.len()));
        for lock in &self.locks {
            let guard = tokio::select! {
                biased;
                cause = set.lost() => return Ok(Taken::Lost(cause)),
                guard = one(lock, wait) => guard?,
            };
            let Some(guard) = guard else { return Ok(Taken::Busy) };
            if let Some(first) = set.guards().first()
                && first.fence().session() != guard.fence().session()
            {
                return Ok(Taken::Lost(LossCause::SessionEnded));
            }
            set.push(guard);
        }
        Ok(match set.check() {
            Ok(()) | Err(crate::HoldError::Suspended) => Taken::All(set),
            Err(crate::HoldError::Lost(cause)) => Taken::Lost(cause),
        })
    }
}

async fn one(lock: &Lock, wait: bool) -> Result<Option<LockGuard>, Error> {
    if wait { lock.acquire().await.map(Some) } else { lock.try_acquire().await }
}
