//! The exclusive lock: one ephemeral node with a fixed name; who creates it holds.

use std::time::Duration;

use bytes::Bytes;
use docent::{Client, CreateMode, ErrorCode, LeaseHold, MultiResult, SessionRef, Transaction, Version, Zxid};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::error::{Error, LossCause};
use crate::guard::{self, Grant, Granter, LockGuard, Ticket};
use crate::guarded::{self, OwnNode};
use crate::hold::{self, Fate, Fence, FenceCheck, OnSuspend, fate};
use crate::keeper::OwnWatch;

/// How often in a row the epoch node may change between reading it and creating the lock's node.
const EPOCH_ROUNDS_MAX: u32 = 64;

/// An exclusive lock on one node. Cheap to clone; nothing is sent before one of its verbs.
///
/// **Connected**, the guard is yours; `check` costs no round trip. **Suspended**, it is still yours until the end
/// of the proven lease ([`OnSuspend::StopAtOnce`] is stricter). **Lost**, it is over: at the lease end, by the
/// server's word, or when somebody deleted the node.
///
/// **Token:** the czxid of the node, higher for each next holder; with [`Exclusive::with_epoch`] the version of a
/// companion node `<path>-epoch`, which counts 1, 2, 3 … and can be checked inside ZooKeeper.
///
/// **Dropped:** a waiter that is dropped leaves nothing but a watch, which goes too; a guard that is dropped is
/// released in the background. A delete hits only the node that this holder made, never its successor's.
///
/// **Layout:** of our own: `<path>`, data `{"id":…,"nonce":…}`. No recipe of Curator or kazoo uses one node. Any
/// ephemeral node at the path counts as held, whatever its bytes.
///
/// **Cost:** a free lock takes one round trip, with an epoch two. A waiter keeps one watch. *There is no line*: a
/// release wakes all waiters, who come back after a random pause; above some twenty waiters take the ordered
/// lock. Nobody is promised a turn.
#[derive(Clone, Debug)]
#[must_use = "a lock does nothing before it is acquired"]
pub struct Exclusive {
    client: Client,
    path: String,
    id: String,
    epoch: bool,
    on_suspend: OnSuspend,
}

impl Exclusive {
    pub(crate) fn new(client: Client, path: String) -> Exclusive {
        Exclusive { client, path, id: String::new(), epoch: false, on_suspend: OnSuspend::default() }
    }

    /// Who we are, for people who read the node.
    pub fn id(mut self, id: impl Into<String>) -> Exclusive {
        self.id = id.into();
        self
    }

    /// Keeps a persistent node `<path>-epoch`, whose version is the token: small numbers without gaps, and
    /// [`LockGuard::txn`] works.
    pub fn with_epoch(mut self) -> Exclusive {
        self.epoch = true;
        self
    }

    /// What a holder does while disconnected. Default: [`OnSuspend::KeepUntilLease`].
    pub fn on_suspend(mut self, on_suspend: OnSuspend) -> Exclusive {
        self.on_suspend = on_suspend;
        self
    }

    /// Waits until the lock is ours. There is no line, and no promise who is next.
    ///
    /// # Errors
    /// [`Error::Closed`], and what the server refuses. No node of ours remains.
    ///
    /// # Cancel safety
    /// Dropping the future gives up; a node that was made is removed in the background.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn acquire(&self) -> Result<LockGuard, Error> {
        // A driver that waits never answers "nobody waits": `None` cannot come.
        self.start(true).await?.ok_or(Error::RuntimeStopped)
    }

    /// Waits until the lock is ours, but not longer than `limit`.
    ///
    /// # Errors
    /// [`Error::Timeout`], and as [`Exclusive::acquire`].
    ///
    /// # Cancel safety
    /// Dropping the future gives up.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn acquire_within(&self, limit: Duration) -> Result<LockGuard, Error> {
        match tokio::time::timeout(limit, self.acquire()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Timeout(limit)),
        }
    }

    /// Takes the lock if it is free, else `None`. One round trip.
    ///
    /// # Errors
    /// As [`Exclusive::acquire`].
    ///
    /// # Cancel safety
    /// Dropping the future gives up.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn try_acquire(&self) -> Result<Option<LockGuard>, Error> {
        self.start(false).await
    }

    fn start(&self, wait: bool) -> Ticket {
        let (ticket, stop, granter) = Ticket::new();
        tokio::spawn(Driver { lock: self.clone(), wait, stop }.run(granter));
        ticket
    }

    fn epoch_path(&self) -> String {
        format!("{}-epoch", self.path)
    }

    /// The data of the node. The nonce tells this attempt from others of the same session.
    fn data(&self, nonce: Uuid) -> Bytes {
        serde_json::json!({ "id": self.id, "nonce": nonce.to_string() }).to_string().into()
    }
}

/// The task that owns one attempt to hold.
struct Driver {
    lock: Exclusive,
    wait: bool,
    stop: CancellationToken,
}

enum Attempt {
    Held(Made, SessionRef, LeaseHold),
    Busy,
    Stopped,
    SessionLost(LossCause),
}

/// Our node, and the version that we gave the epoch node.
#[derive(Clone, Debug)]
struct Made {
    own: OwnNode,
    epoch: Option<i32>,
}

/// What a try to create found.
enum Tried {
    Made(Made),
    Taken,
}

impl Driver {
    async fn run(self, granter: Granter) {
        let answer = match self.compete().await {
            Ok(Attempt::Held(Made { own, epoch }, session, lease)) => {
                let check = match epoch {
                    Some(version) => FenceCheck::Version(self.lock.epoch_path(), version),
                    None => FenceCheck::Unfenced,
                };
                let fence = Fence::new(session.clone(), self.lock.on_suspend, &own, check);
                let grant = Grant { fence, own, own_watch: OwnWatch::default(), wakes: 0, reused: false };
                guard::hold_and_remove(&session, grant, granter).await;
                drop(lease);
                return;
            }
            Ok(Attempt::Busy) => Ok(None),
            Ok(Attempt::Stopped) => return,
            Ok(Attempt::SessionLost(cause)) => Err(Error::PlaceLost(cause)),
            Err(error) => Err(error),
        };
        // Nobody waits for the answer any more: nothing of ours is left either.
        drop(granter.send(answer));
    }

    /// Tries in one session after another. A waiter has nothing on the server that could be lost.
    async fn compete(&self) -> Result<Attempt, Error> {
        loop {
            let session = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(Attempt::Stopped),
                session = self.lock.client.session_ready() => session?,
            };
            match self.attempt(session).await {
                Ok(Attempt::SessionLost(LossCause::Closed)) => return Err(Error::Closed),
                Ok(Attempt::SessionLost(_)) | Err(Error::SessionEnded(_)) if self.wait => {}
                outcome => return outcome,
            }
        }
    }

    async fn attempt(&self, session: SessionRef) -> Result<Attempt, Error> {
        let lease = session.hold_lease();
        let mut losses = Backoff::competing();
        loop {
            if self.stop.is_cancelled() {
                return Ok(Attempt::Stopped);
            }
            match self.try_once(&session).await? {
                Tried::Made(made) => {
                    if let Some(cause) = guard::lease_proved(&session, &self.stop).await {
                        guarded::remove(&session, &made.own).await;
                        let stopped = self.stop.is_cancelled();
                        return Ok(if stopped { Attempt::Stopped } else { Attempt::SessionLost(cause) });
                    }
                    return Ok(Attempt::Held(made, session, lease));
                }
                Tried::Taken if !self.wait => return Ok(Attempt::Busy),
                Tried::Taken => {}
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(Attempt::Stopped),
                lost = self.wait_until_free(&session) => if let Some(cause) = lost? {
                    return Ok(Attempt::SessionLost(cause));
                }
            }
            // All waiters wake together: the more often we lost, the wider they spread.
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(Attempt::Stopped),
                () = losses.wait() => {}
            }
        }
    }

    /// Waits for the node to go. Returns a cause when the session is over.
    async fn wait_until_free(&self, session: &SessionRef) -> Result<Option<LossCause>, Error> {
        let (mut state, _) = hold::states(session);
        let mut backoff = Backoff::reconnecting();
        loop {
            let mut watch = match session.get_data_and_watch(&self.lock.path).await {
                Ok((_, watch)) => watch,
                Err(error) if error.code() == Some(ErrorCode::NO_NODE) => return Ok(None),
                Err(error) if guarded::may_try_again(&error) => {
                    backoff.wait().await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            tokio::select! {
                // Whatever it was, the next read tells.
                event = &mut watch => tracing::trace!(path = %self.lock.path, ?event, "event on the lock's node"),
                now = state.changed() => if let Fate::Ended(cause) = fate(&now, session.id()) {
                    return Ok(Some(cause));
                }
            }
        }
    }

    /// One try, to its certain outcome.
    async fn try_once(&self, session: &SessionRef) -> Result<Tried, Error> {
        let nonce = Uuid::new_v4();
        let mut backoff = Backoff::reconnecting();
        for _ in 0..EPOCH_ROUNDS_MAX {
            let epoch = if self.lock.epoch { Some(self.read_epoch(session).await?) } else { None };
            let sent = match epoch {
                None => self.send_create(session, nonce).await,
                Some(before) => self.send_create_with_epoch(session, nonce, before).await,
            };
            let error = match sent {
                Ok(own) => return Ok(Tried::Made(Made { own, epoch: epoch.map(next_version) })),
                Err(error) => error,
            };
            match error.code() {
                Some(ErrorCode::NODE_EXISTS) => return Ok(Tried::Taken),
                Some(ErrorCode::NO_NODE) => guarded::make_parents(session, &self.lock.path).await?,
                // Somebody held and let go between our read of the epoch and our create.
                Some(ErrorCode::BAD_VERSION) => {}
                _ if error.may_have_applied() => {
                    guarded::synced(session, &self.lock.path).await?;
                    if let Some(own) = self.find(session, nonce).await? {
                        return Ok(Tried::Made(Made { own, epoch: epoch.map(next_version) }));
                    }
                }
                _ if guarded::may_try_again(&error) => backoff.wait().await,
                _ => return Err(error.into()),
            }
        }
        Err(Error::Contended { path: self.lock.path.clone(), attempts: EPOCH_ROUNDS_MAX })
    }

    async fn send_create(&self, session: &SessionRef, nonce: Uuid) -> Result<OwnNode, docent::Error> {
        let created =
            session.create(&self.lock.path, self.lock.data(nonce)).mode(CreateMode::Ephemeral).await?;
        let czxid = created.stat.map_or(created.zxid, |stat| stat.czxid);
        Ok(OwnNode { path: self.lock.path.clone(), czxid, session: session.id() })
    }

    /// Creates the node and moves the epoch on, both or none.
    async fn send_create_with_epoch(
        &self,
        session: &SessionRef,
        nonce: Uuid,
        before: i32,
    ) -> Result<OwnNode, docent::Error> {
        let data = self.lock.data(nonce);
        let ops = Transaction::new().create(&self.lock.path, data.clone(), CreateMode::Ephemeral).set_data(
            self.lock.epoch_path(),
            data,
            Version(before),
        );
        let czxid = match session.multi(ops).await?.first() {
            Some(MultiResult::Create2 { stat, .. }) => stat.czxid,
            // A server that answers the path alone; a node that is gone again is noticed by the hold's first read.
            _ => session.exists(&self.lock.path).await?.map_or(Zxid::NONE, |stat| stat.czxid),
        };
        Ok(OwnNode { path: self.lock.path.clone(), czxid, session: session.id() })
    }

    /// The epoch node's version; makes the node when it is not there.
    async fn read_epoch(&self, session: &SessionRef) -> Result<i32, Error> {
        let path = self.lock.epoch_path();
        loop {
            if let Some(stat) = guarded::stat_of(session, &path).await? {
                return Ok(stat.version);
            }
            match session.create(&path, Bytes::new()).mode(CreateMode::Persistent).await {
                Ok(_) => {}
                Err(error) => match error.code() {
                    Some(ErrorCode::NODE_EXISTS) => {}
                    Some(ErrorCode::NO_NODE) => guarded::make_parents(session, &path).await?,
                    _ if guarded::may_try_again(&error) => {}
                    _ => return Err(error.into()),
                },
            }
        }
    }

    /// After a create of unknown outcome: our node, if it is there. Another node of the same session belongs to
    /// another task of this process.
    async fn find(&self, session: &SessionRef, nonce: Uuid) -> Result<Option<OwnNode>, Error> {
        let mut backoff = Backoff::reconnecting();
        loop {
            match session.get_data(&self.lock.path).await {
                Ok(node) => {
                    let mine =
                        node.stat.ephemeral_owner == session.id() && node.bytes() == self.lock.data(nonce);
                    let czxid = node.stat.czxid;
                    return Ok(mine.then(|| OwnNode {
                        path: self.lock.path.clone(),
                        czxid,
                        session: session.id(),
                    }));
                }
                Err(error) if error.code() == Some(ErrorCode::NO_NODE) => return Ok(None),
                Err(error) if guarded::may_try_again(&error) => backoff.wait().await,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn next_version(before: i32) -> i32 {
    before.wrapping_add(1)
}
