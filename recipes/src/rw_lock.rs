//! The read/write lock: readers hold together, a writer holds alone, and all stand in one line.

use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;
use docent::{CreateMode, ErrorCode, MultiResult, SessionRef, Transaction, Version, path};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::contender_watch::Contenders;
use crate::contenders::Contender;
use crate::error::{Error, LossCause};
use crate::guard::{self, Grant, Granter, LockGuard, Ticket};
use crate::guarded::{self, OwnNode};
use crate::hold::{Fence, OnSuspend};
use crate::keeper::OwnWatch;
use crate::line::{Layout, LineRules, Mode, Tag};
use crate::lock::{Lock, OnPlaceLost};

/// A read/write lock. Cheap to clone; nothing is sent before one of its verbs.
///
/// A writer waits for everybody before it, a reader for the writers before it. One line for both means that nobody
/// starves: a reader that comes behind a waiting writer waits for it. Guards behave as those of the ordered lock in
/// everything: see [`Lock`].
///
/// **Downgrade:** a writer goes on as a reader by taking its own number again with a reader's name, and only then
/// giving up the writer's place; a writer that waits behind it goes on waiting. There is no way up: who reads and wants
/// to write lets go and stands in line, because two who wait for each other's read to end would wait for ever.
///
/// **Token:** a writer's is higher than that of everybody who held before it, reader or writer. Readers who hold
/// together are in no order; a writer that went on as a reader keeps its token.
///
/// **Layout:** Curator's `InterProcessReadWriteLock`, or kazoo's `ReadLock` and `WriteLock` with [`Layout::Kazoo`]. The
/// two do not see each other: choose one for each path.
///
/// **Cost:** as the ordered lock's; a waiter lists the line once more before it holds, because a writer may have
/// become a reader in front of it.
///
/// ```no_run
/// # use docent_recipes::Recipes;
/// # async fn example(zk: docent::Client) -> Result<(), docent_recipes::Error> {
/// let table = zk.rw_lock("/locks/table");
/// let writing = table.write().await?;
/// // … change it …
/// let reading = writing.downgrade().await?;
/// // … nobody has changed it since …
/// drop(reading);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a lock does nothing before it is acquired"]
pub struct RwLock {
    line: Lock,
}

impl RwLock {
    pub(crate) fn new(line: Lock) -> RwLock {
        RwLock { line: line.sharing(Mode::Exclusive) }
    }

    /// The names to use, and by that which other programs are excluded. Default: [`Layout::Curator`].
    pub fn layout(self, layout: Layout) -> RwLock {
        RwLock { line: self.line.layout(layout) }
    }

    /// The data of our nodes, for people and for [`RwLock::contenders`]. Default: empty.
    pub fn identifier(self, identifier: impl Into<Bytes>) -> RwLock {
        RwLock { line: self.line.identifier(identifier) }
    }

    /// What a holder does while disconnected. Default: [`OnSuspend::KeepUntilLease`].
    pub fn on_suspend(self, on_suspend: OnSuspend) -> RwLock {
        RwLock { line: self.line.on_suspend(on_suspend) }
    }

    /// What a waiter does when its place is lost. Default: [`OnPlaceLost::StandAgain`].
    pub fn on_place_lost(self, on_place_lost: OnPlaceLost) -> RwLock {
        RwLock { line: self.line.on_place_lost(on_place_lost) }
    }

    /// The lock for readers as a [`Lock`], for its other verbs: `enqueue`, `acquire_within`, …
    pub fn readers(&self) -> Lock {
        self.line.clone().sharing(Mode::Shared)
    }

    /// The lock for writers as a [`Lock`], for its other verbs.
    pub fn writers(&self) -> Lock {
        self.line.clone()
    }

    /// Waits in line until no writer is before us.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn read(&self) -> Result<ReadGuard, Error> {
        self.readers().acquire().await.map(ReadGuard)
    }

    /// Waits in line until nobody is before us.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn write(&self) -> Result<WriteGuard, Error> {
        self.line.acquire().await.map(|guard| self.writing(guard))
    }

    /// Waits in line to read, but not longer than `limit`.
    ///
    /// # Errors
    /// As [`Lock::acquire_within`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn read_within(&self, limit: Duration) -> Result<ReadGuard, Error> {
        self.readers().acquire_within(limit).await.map(ReadGuard)
    }

    /// Waits in line to write, but not longer than `limit`.
    ///
    /// # Errors
    /// As [`Lock::acquire_within`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn write_within(&self, limit: Duration) -> Result<WriteGuard, Error> {
        self.line.acquire_within(limit).await.map(|guard| self.writing(guard))
    }

    /// Reads if no writer is in line, else `None`.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn try_read(&self) -> Result<Option<ReadGuard>, Error> {
        Ok(self.readers().try_acquire().await?.map(ReadGuard))
    }

    /// Writes if nobody is in line, else `None`.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn try_write(&self) -> Result<Option<WriteGuard>, Error> {
        Ok(self.line.try_acquire().await?.map(|guard| self.writing(guard)))
    }

    /// Everybody in line, the first one first; [`Contender::mode`] says who reads and who writes.
    ///
    /// # Errors
    /// As [`Lock::contenders`].
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn contenders(&self) -> Result<Vec<Contender>, Error> {
        self.line.contenders().await
    }

    /// As [`Lock::watch_contenders`], readers and writers.
    pub fn watch_contenders(&self) -> Contenders {
        self.line.watch_contenders()
    }

    /// Asks one who reads or writes to yield, see [`Lock::ask_to_yield`].
    ///
    /// # Errors
    /// As [`Lock::ask_to_yield`].
    ///
    /// # Cancel safety
    /// It may have been asked when the future is dropped.
    pub async fn ask_to_yield(&self, who: &Contender) -> Result<bool, Error> {
        self.line.ask_to_yield(who).await
    }

    fn writing(&self, guard: LockGuard) -> WriteGuard {
        WriteGuard { guard, line: self.line.clone() }
    }
}

/// A read lock that is held, maybe with other readers. Dropping it releases it in the background. It has everything
/// that a [`LockGuard`] has.
#[must_use = "dropping the guard releases the lock"]
#[derive(Debug)]
pub struct ReadGuard(LockGuard);

impl ReadGuard {
    /// The guard without its kind, for [`LockGuard::run`] and [`LockGuard::release`].
    pub fn into_guard(self) -> LockGuard {
        self.0
    }
}

impl Deref for ReadGuard {
    type Target = LockGuard;
    fn deref(&self) -> &LockGuard {
        &self.0
    }
}

/// A write lock that is held. Dropping it releases it in the background. It has everything that a [`LockGuard`] has.
#[must_use = "dropping the guard releases the lock"]
#[derive(Debug)]
pub struct WriteGuard {
    guard: LockGuard,
    line: Lock,
}

impl WriteGuard {
    /// The guard without its kind, for [`LockGuard::run`] and [`LockGuard::release`].
    pub fn into_guard(self) -> LockGuard {
        self.guard
    }

    /// Goes on as a reader. No writer holds in between: the reader's node stands before the writer's goes, and the
    /// server makes it only while the writer's is there. The token stays.
    ///
    /// # Errors
    /// [`Error::Lost`] when the lock was lost meanwhile, and what the server refuses. Nothing is held then.
    ///
    /// # Cancel safety
    /// Dropping the future releases the lock.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn downgrade(self) -> Result<ReadGuard, Error> {
        self.guard.check()?;
        let (ticket, stop, granter) = Ticket::new();
        let rules = self.line.clone().sharing(Mode::Shared).rules();
        let data = self.line.identifier.clone();
        tokio::spawn(Downgrade { before: self.guard.fence(), rules, data, stop }.run(granter));
        let reading = ticket.await?.ok_or(Error::RuntimeStopped)?;
        if let Err(pending) = self.guard.release().await {
            tracing::debug!(%pending, "reading; the writer's place goes in the background");
        }
        Ok(ReadGuard(reading))
    }
}

impl Deref for WriteGuard {
    type Target = LockGuard;
    fn deref(&self) -> &LockGuard {
        &self.guard
    }
}

/// The task that owns the reader's node of a writer that goes on as a reader.
struct Downgrade {
    before: Fence,
    rules: LineRules,
    data: Bytes,
    stop: CancellationToken,
}

impl Downgrade {
    async fn run(self, granter: Granter) {
        let session = self.before.session_ref().clone();
        let lease = session.hold_lease();
        let own = match self.make(&session).await {
            Ok(own) => own,
            Err(error) => return drop(granter.send(Err(error))),
        };
        if let Some(cause) = guard::lease_proved(&session, &self.stop).await {
            guarded::remove(&session, &own).await;
            return drop(granter.send(Err(Error::Lost(cause))));
        }
        let fence = Fence::continued(&self.before, &own);
        let grant = Grant { fence, own, own_watch: OwnWatch::default(), wakes: 0, reused: false };
        guard::hold_and_remove(&session, grant, granter).await;
        drop(lease);
    }

    /// Makes the node, if the writer's is still there. After an error no node remains.
    async fn make(&self, session: &SessionRef) -> Result<OwnNode, Error> {
        let lost = || Error::Lost(LossCause::NodeDeleted);
        let seat = self.rules.parse(path::name(self.before.path())).ok_or_else(lost)?;
        let tag = Tag::new(Uuid::new_v4(), self.rules.layout());
        let name = format!("{}{:010}", self.rules.name(tag), seat.number);
        let node = path::join(path::parent(self.before.path()).unwrap_or("/"), &name);
        let mut backoff = Backoff::reconnecting();
        loop {
            let ops = Transaction::new().check(self.before.path(), Version::ANY).create(
                &node,
                self.data.clone(),
                CreateMode::Ephemeral,
            );
            let error = match session.multi(ops).await {
                Ok(results) => return self.made(session, node, results.get(1)).await,
                Err(error) => error,
            };
            // The name is ours alone: whoever made it, it was one of our own tries.
            if error.may_have_applied() || error.code() == Some(ErrorCode::NODE_EXISTS) {
                guarded::synced(session, &node).await?;
                match guarded::stat_of(session, &node).await? {
                    Some(stat) if stat.ephemeral_owner == session.id() => {
                        return Ok(OwnNode { path: node, czxid: stat.czxid, session: session.id() });
                    }
                    _ => {}
                }
            } else if error.code() == Some(ErrorCode::NO_NODE) {
                return Err(lost());
            } else if !guarded::may_try_again(&error) {
                return Err(error.into());
            }
            backoff.wait().await;
        }
    }

    async fn made(
        &self,
        session: &SessionRef,
        node: String,
        result: Option<&MultiResult>,
    ) -> Result<OwnNode, Error> {
        let czxid = match result {
            Some(MultiResult::Create2 { stat, .. }) => stat.czxid,
            // A server that answers the path alone.
            _ => match guarded::stat_of(session, &node).await? {
                Some(stat) => stat.czxid,
                None => return Err(Error::Lost(LossCause::NodeDeleted)),
            },
        };
        Ok(OwnNode { path: node, czxid, session: session.id() })
    }
}
