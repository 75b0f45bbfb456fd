//! Work queues: items that are claimed, worked on, and gone only when the work is done. For small queues, as [`crate::Queue`].
//!
//! **Connected**, a [`Job`] is ours alone until it is completed or given back. **Suspended**, it is still ours until the end of
//! the proven lease ([`OnSuspend::StopAtOnce`] is stricter). **Lost**, the claim goes with its session, and the item goes to
//! another: *at least once*. [`Job::complete`] fails then, and the item stays; work that is late all the same is stopped by
//! the token, where what it changes looks at it, and by [`Job::fence`]'s transactions inside ZooKeeper.
//!
//! **Token:** the czxid of the claim, higher for each next claim of one item.
//!
//! **Dropped:** a `claim` that is dropped claims nothing; a [`Job`] that is dropped is given back, in the background.
//!
//! **Layout:** [`QueueLayout`] says whose: Curator's `DistributedQueue` with a lock path, where the claim of an item is an
//! ephemeral node of its name below [`WorkQueue::claims_at`]; or kazoo's `LockingQueue`, with `<path>/entries` and
//! `<path>/taken`.
//!
//! **Cost:** a claim is two lists, a write and a read, and again one write for each item that another was faster with;
//! completing is one write. A job keeps one watch, one who waits has two, and all that wait are woken by each put.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use docent::{
    Client, CreateMode, ErrorCode, LeaseHold, MultiResult, OneshotWatch, ParentMode, SessionRef, Transaction,
    Version, Zxid, path,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::error::{Error, HoldError, LossCause};
use crate::guard::{self, Grant, Granter, LockGuard, ReleasePending, Released, Ticket};
use crate::guarded::{self, OwnNode};
use crate::hold::{Fence, FenceCheck, OnSuspend};
use crate::keeper::OwnWatch;
use crate::queue::{Put, Queue, Taken};
use crate::queue_drivers::{Seen, children_and_watch, look, next_session, read, wait_for_more};
use crate::queue_layout::{QueueLayout, QueueOrder};
use crate::token::FencingToken;

/// A work queue. Cheap to clone; nothing is sent before one of its verbs.
#[derive(Clone, Debug)]
#[must_use = "nothing is put or claimed before one of its verbs"]
pub struct WorkQueue {
    path: String,
    queue: Queue,
    claims: Option<String>,
    on_suspend: OnSuspend,
}

impl WorkQueue {
    pub(crate) fn new(client: Client, path: String) -> WorkQueue {
        let queue = Queue::new(client, path.clone());
        WorkQueue { path, queue, claims: None, on_suspend: OnSuspend::default() }
    }

    /// Whose nodes to make and to claim. Default: [`QueueLayout::Curator`].
    pub fn layout(mut self, layout: QueueLayout) -> WorkQueue {
        let kazoo = layout == QueueLayout::Kazoo;
        self.queue.path = if kazoo { path::join(&self.path, "entries") } else { self.path.clone() };
        self.queue = self.queue.layout(layout);
        self
    }

    /// In which order items come. All programs must say the same. Default: [`QueueOrder::Fifo`].
    pub fn order(mut self, order: QueueOrder) -> WorkQueue {
        self.queue = self.queue.order(order);
        self
    }

    /// As [`Queue::length_max`].
    pub fn length_max(mut self, max: usize) -> WorkQueue {
        self.queue = self.queue.length_max(max);
        self
    }

    /// Where the claims are: what a builder of Curator's is given as `lockPath`. Default: `<path>-locks`, kazoo's
    /// `<path>/taken`.
    pub fn claims_at(mut self, path: impl Into<String>) -> WorkQueue {
        self.claims = Some(path.into());
        self
    }

    /// What becomes of a job while disconnected. Default: [`OnSuspend::KeepUntilLease`].
    pub fn on_suspend(mut self, on_suspend: OnSuspend) -> WorkQueue {
        self.on_suspend = on_suspend;
        self
    }

    fn claims(&self) -> String {
        let usual = || match self.queue.naming.layout {
            QueueLayout::Kazoo => path::join(&self.path, "taken"),
            _ => format!("{}-locks", self.path),
        };
        self.claims.clone().unwrap_or_else(usual)
    }

    /// As [`Queue::put`].
    pub fn put(&self, value: impl Into<Bytes>) -> Put {
        self.queue.put(value)
    }

    /// As [`Queue::put_json`].
    pub fn put_json<T: Serialize>(&self, value: &T) -> Put {
        self.queue.put_json(value)
    }

    /// As [`Queue::put_all`].
    pub fn put_all<V: Into<Bytes>>(&self, values: impl IntoIterator<Item = V>) -> Put {
        self.queue.put_all(values)
    }

    /// How many items there are, claimed ones among them.
    ///
    /// # Errors
    /// As [`Queue::length`].
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn length(&self) -> Result<usize, Error> {
        self.queue.length().await
    }

    /// Claims the first item that nobody has claimed, and waits for one if there is none.
    ///
    /// # Errors
    /// [`Error::Closed`] and what the server refuses. Nothing is claimed then.
    ///
    /// # Cancel safety
    /// Dropping the future gives the item back.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn claim(&self) -> Result<Job, Error> {
        // A driver that waits never answers "nothing": `None` cannot come.
        self.start(true).await?.ok_or(Error::RuntimeStopped)
    }

    /// As [`WorkQueue::claim`], but waits no longer than `limit`.
    ///
    /// # Errors
    /// [`Error::Timeout`], and as [`WorkQueue::claim`].
    ///
    /// # Cancel safety
    /// Dropping the future gives the item back.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn claim_within(&self, limit: Duration) -> Result<Job, Error> {
        tokio::time::timeout(limit, self.claim()).await.map_err(|_| Error::Timeout(limit))?
    }

    /// Claims the first item; `None` when there is none that is due and that nobody has claimed.
    ///
    /// # Errors
    /// As [`WorkQueue::claim`].
    ///
    /// # Cancel safety
    /// Dropping the future gives the item back.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn try_claim(&self) -> Result<Option<Job>, Error> {
        self.start(false).await
    }

    fn start(&self, wait: bool) -> Ticket<Job> {
        let (ticket, stop, granter) = Ticket::new();
        let (queue, claims, on_suspend) = (self.queue.clone(), self.claims(), self.on_suspend);
        tokio::spawn(Claimer { queue, claims, on_suspend, wait, stop }.run(granter));
        ticket
    }
}

/// An item that is claimed. Dropping it gives it back in the background.
#[must_use = "dropping the job gives its item back"]
#[derive(Debug)]
pub struct Job {
    guard: LockGuard,
    item: String,
    taken: Taken,
}

impl Job {
    /// The name of the item's node.
    #[must_use]
    pub fn name(&self) -> &str {
        self.taken.name()
    }

    /// The values; see [`Taken::values`].
    #[must_use]
    pub fn values(&self) -> &[Bytes] {
        self.taken.values()
    }

    /// The values, read as JSON.
    ///
    /// # Errors
    /// As [`Taken::json`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<Vec<T>, Error> {
        self.taken.json()
    }

    /// A number that is higher than that of every earlier claim of this item.
    #[must_use]
    pub fn token(&self) -> FencingToken {
        self.guard.token()
    }

    /// Whether the item is still ours alone. Cheap: put it before each side effect.
    ///
    /// # Errors
    /// As [`LockGuard::check`].
    pub fn check(&self) -> Result<(), HoldError> {
        self.guard.check()
    }

    /// Completes when the item may be another's, at the latest at the end of the lease.
    ///
    /// # Cancel safety
    /// Safe.
    pub fn lost(&self) -> impl Future<Output = LossCause> + Send + 'static {
        self.guard.lost()
    }

    /// A view of the claim that can be cloned and sent to where the work is done.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.guard.fence()
    }

    /// The work is done: the item goes, and the claim with it, if it is still ours.
    ///
    /// # Errors
    /// [`Error::Lost`] when the claim was over: the item is still there, or another has completed it. [`Error::Ambiguous`] when
    /// the session ended together with the reply: the item may be there, and come again. Else what the server refuses; the
    /// item comes again.
    ///
    /// # Cancel safety
    /// It may be completed when the future is dropped, or given back.
    pub async fn complete(self) -> Result<(), Error> {
        let session = self.guard.fence().session_ref().clone();
        let mut backoff = Backoff::reconnecting();
        loop {
            let both =
                self.guard.txn().delete(self.guard.path(), Version::ANY).delete(&self.item, Version::ANY);
            match both.commit().await {
                Ok(_) => return Ok(()),
                // Somebody took it away without a claim: there is nothing left to be done.
                Err(Error::TxnFailed { index: 1, code: ErrorCode::NO_NODE }) => return Ok(()),
                Err(Error::TxnFailed { index: 0, code: ErrorCode::NO_NODE }) => {
                    return Err(Error::Lost(LossCause::NodeDeleted));
                }
                Err(Error::Ambiguous { .. }) => match self.is_complete(&session).await {
                    Ok(Some(true)) => return Ok(()),
                    Ok(Some(false)) => return Err(Error::Lost(LossCause::NodeDeleted)),
                    Ok(None) => {}
                    Err(_) => return Err(Error::Ambiguous { op: "complete", path: self.item.clone() }),
                },
                Err(Error::Client(error)) if guarded::may_try_again(&error) => backoff.wait().await,
                Err(error) => return Err(error),
            }
        }
    }

    /// After a lost reply: whether the item is gone, `None` while our claim is still there, since both go together.
    async fn is_complete(&self, session: &SessionRef) -> Result<Option<bool>, Error> {
        guarded::synced(session, &self.item).await?;
        let claim = guarded::stat_of(session, self.guard.path()).await?;
        if claim.is_some_and(|stat| FencingToken::from(stat.czxid) == self.token()) {
            return Ok(None);
        }
        Ok(Some(guarded::stat_of(session, &self.item).await?.is_none()))
    }

    /// Gives the item back, and waits until others can claim it.
    ///
    /// # Errors
    /// As [`LockGuard::release`].
    ///
    /// # Cancel safety
    /// The item is given back in any case.
    pub async fn give_back(self) -> Result<Released, ReleasePending> {
        self.guard.release().await
    }
}

/// The task that claims one item, and owns the claim until it is gone.
struct Claimer {
    queue: Queue,
    claims: String,
    on_suspend: OnSuspend,
    wait: bool,
    stop: CancellationToken,
}

/// A claim of ours.
struct Claimed {
    own: OwnNode,
    taken: Taken,
    session: SessionRef,
    lease: LeaseHold,
}

impl Claimer {
    async fn run(self, granter: Granter<Job>) {
        let Claimed { own, taken, session, lease } = match self.compete().await {
            Ok(Some(claimed)) => claimed,
            Ok(None) => return drop(granter.send(Ok(None))),
            Err(error) => return drop(granter.send(Err(error))),
        };
        let check = FenceCheck::Exists(own.path.clone());
        let fence = Fence::new(session.clone(), self.on_suspend, &own, check);
        let grant = Grant { fence, own, own_watch: OwnWatch::default(), wakes: 0, reused: true };
        let (guard, keeping) = guard::begin(&session, grant);
        let item = path::join(&self.queue.path, taken.name());
        // Nobody there to take it: the job comes back and its drop gives the item back.
        drop(granter.send(Ok(Some(Job { guard, item, taken }))));
        keeping.await;
        drop(lease);
    }

    /// Tries in one session after another: one who waits has nothing on the server that could be lost.
    async fn compete(&self) -> Result<Option<Claimed>, Error> {
        loop {
            let Some(session) = next_session(&self.queue, &self.stop).await? else { return Ok(None) };
            match self.compete_in(session).await {
                Err(Error::SessionEnded(_)) => {}
                outcome => return outcome,
            }
        }
    }

    async fn compete_in(&self, session: SessionRef) -> Result<Option<Claimed>, Error> {
        let lease = session.hold_lease();
        while !self.stop.is_cancelled() {
            // The items first: of one that is completed in between, the claim may be seen and is gone the next time.
            let Seen { due, next, changed } = look(&self.queue, &session).await?;
            let (claimed, released) = children_and_watch(&session, &self.claims).await?;
            let claimed: HashSet<_> = claimed.into_iter().collect();
            let free: Vec<_> = due.into_iter().filter(|name| !claimed.contains(name)).collect();
            let none = free.is_empty();
            for name in free {
                let Some((own, taken)) = self.claim_one(&session, name).await? else { continue };
                if let Some(cause) = guard::lease_proved(&session, &self.stop).await {
                    guarded::remove(&session, &own).await;
                    tracing::debug!(path = %own.path, %cause, "claimed in vain");
                    return if self.stop.is_cancelled() {
                        Ok(None)
                    } else {
                        Err(Error::SessionEnded(session.id()))
                    };
                }
                return Ok(Some(Claimed { own, taken, session, lease }));
            }
            if none && !self.wait {
                return Ok(None);
            }
            if none {
                wait_for_more(&session, either(changed, released), next, &self.stop).await?;
            }
        }
        Ok(None)
    }

    /// Claims this item. `None` when another was faster.
    async fn claim_one(&self, session: &SessionRef, name: String) -> Result<Option<(OwnNode, Taken)>, Error> {
        let item = path::join(&self.queue.path, &name);
        let claim = path::join(&self.claims, &name);
        let Some(own) = self.make_claim(session, &item, &claim).await? else { return Ok(None) };
        match read(session, &item).await {
            Ok(Some((data, _))) => {
                let values = self.queue.naming.read(&data);
                Ok(Some((own, Taken { name, values })))
            }
            // Somebody took it away without a claim.
            Ok(None) => {
                guarded::remove(session, &own).await;
                Ok(None)
            }
            Err(error) => {
                guarded::remove(session, &own).await;
                Err(error)
            }
        }
    }

    /// Makes the claim if the item is there, both or none.
    async fn make_claim(
        &self,
        session: &SessionRef,
        item: &str,
        claim: &str,
    ) -> Result<Option<OwnNode>, Error> {
        // Tells this claim from others of the same session.
        let nonce = Bytes::from(Uuid::new_v4().simple().to_string());
        let (mut backoff, mut doubt, mut parent_rounds) = (Backoff::reconnecting(), false, 0);
        loop {
            if doubt {
                guarded::synced(session, item).await?;
                if let Some(own) = find(session, claim, &nonce).await? {
                    return Ok(Some(own));
                }
            }
            if self.stop.is_cancelled() {
                return Ok(None);
            }
            let ops = Transaction::new().check(item, Version::ANY).create(
                claim,
                nonce.clone(),
                CreateMode::Ephemeral,
            );
            let error = match session.multi(ops).await {
                Ok(results) => {
                    let czxid = match results.get(1) {
                        Some(MultiResult::Create2 { stat, .. }) => stat.czxid,
                        // A server that answers the path alone; a claim that is gone again is noticed by its first watch.
                        _ => guarded::stat_of(session, claim).await?.map_or(Zxid::NONE, |stat| stat.czxid),
                    };
                    return Ok(Some(OwnNode { path: claim.to_owned(), czxid, session: session.id() }));
                }
                Err(error) => error,
            };
            match &error {
                docent::Error::Multi { index: 0, code: ErrorCode::NO_NODE, .. }
                | docent::Error::Multi { index: 1, code: ErrorCode::NODE_EXISTS, .. } => return Ok(None),
                docent::Error::Multi { index: 1, code: ErrorCode::NO_NODE, .. }
                    if parent_rounds < guarded::PARENT_ROUNDS_MAX =>
                {
                    parent_rounds += 1;
                    guarded::make_parents_as(session, claim, ParentMode::Persistent).await?;
                }
                _ if error.may_have_applied() => doubt = true,
                _ if guarded::may_try_again(&error) => backoff.wait().await,
                _ => return Err(error.into()),
            }
        }
    }
}

/// After a claim of unknown outcome: ours, if it is there.
async fn find(session: &SessionRef, claim: &str, nonce: &Bytes) -> Result<Option<OwnNode>, Error> {
    let mut backoff = Backoff::reconnecting();
    loop {
        match session.get_data(claim).await {
            Ok(node) => {
                let mine = node.stat.ephemeral_owner == session.id() && node.bytes() == *nonce;
                let own = OwnNode { path: claim.to_owned(), czxid: node.stat.czxid, session: session.id() };
                return Ok(mine.then_some(own));
            }
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => return Ok(None),
            Err(error) if guarded::may_try_again(&error) => backoff.wait().await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Completes when one of them fires, or ends.
async fn either(one: OneshotWatch, other: OneshotWatch) {
    tokio::select! {
        _ = one => {}
        _ = other => {}
    }
}
