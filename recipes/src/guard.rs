//! Guards: the value that stands for holding, and the driver's side of it.
//!
//! A guard owns nothing but a way to say "I am done". The node belongs to the driver task, which lives until the
//! node is proved gone. So a guard can be dropped anywhere: in a panic, in another thread, without a runtime,
//! after the client is closed.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use docent::{Client, SessionRef};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, HoldError, LossCause};
use crate::guarded::{self, Gone, OwnNode};
use crate::hold::{self, Fate, Fence, HoldState, HoldWatch};
use crate::keeper::{self, HoldEnd, OwnWatch};
use crate::token::FencingToken;
use crate::txn::GuardedTxn;

/// A lock that is held. Dropping it releases the lock in the background, without waiting.
///
/// The hold is tied to one session and can be lost at any time; see [`LockGuard::check`], [`LockGuard::lost`] and
/// [`LockGuard::run`]. A guard that was lost still keeps its node, if the session lives, until it is dropped:
/// work under it that has not noticed yet is not joined by another holder's.
///
/// **Reentrancy** hangs on this value, because tasks move between threads: [`LockGuard::reenter`] makes another guard of
/// the same hold, and the last one that goes releases it. Acquiring a lock that this program holds already stands in
/// line behind itself.
///
/// `std::mem::forget` keeps the lock until the client is closed.
#[must_use = "dropping the guard releases the lock"]
#[derive(Debug)]
pub struct LockGuard {
    hold: Arc<Hold>,
}

/// One hold, shared by all guards of it. Its end tells the driver.
#[derive(Debug)]
struct Hold {
    fence: Fence,
    stop: CancellationToken,
    gone: watch::Receiver<Option<Gone>>,
    wakes: u64,
}

impl LockGuard {
    /// A number that is higher than every earlier holder's: give it to the resource with each request.
    #[must_use]
    pub fn token(&self) -> FencingToken {
        self.hold.fence.token()
    }

    /// Whether the lock may be relied on right now. Cheap: put it before each side effect.
    ///
    /// # Errors
    /// See [`Fence::check`].
    pub fn check(&self) -> Result<(), HoldError> {
        self.hold.fence.check()
    }

    /// Whether the lock will still be held after `span`, as far as is proved now.
    #[must_use]
    pub fn valid_for(&self, span: Duration) -> bool {
        self.hold.fence.valid_for(span)
    }

    /// Completes when the lock may no longer be relied on, at the latest at the end of the lease.
    ///
    /// # Cancel safety
    /// Safe.
    pub fn lost(&self) -> impl Future<Output = LossCause> + Send + 'static {
        self.hold.fence.lost()
    }

    /// Completes when the connection is gone or the lock is lost.
    ///
    /// # Cancel safety
    /// Safe.
    pub fn suspended(&self) -> impl Future<Output = ()> + Send + 'static {
        self.hold.fence.suspended()
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> HoldState {
        self.hold.fence.state()
    }

    /// A view of the state that can be waited on.
    #[must_use]
    pub fn watch(&self) -> HoldWatch {
        self.hold.fence.watch()
    }

    /// Cancelled when the work must stop.
    #[must_use]
    pub fn cancel_token(&self) -> CancellationToken {
        self.hold.fence.cancel_token()
    }

    /// A view of the hold that can be cloned and sent to where the work is done. It does not keep the lock.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.hold.fence.clone()
    }

    /// The node that stands for the hold.
    #[must_use]
    pub fn path(&self) -> &str {
        self.hold.fence.path()
    }

    /// How often the waiter was woken before it was granted: 1 for each predecessor that left right before it.
    #[must_use]
    pub fn wakes(&self) -> u64 {
        self.hold.wakes
    }

    /// Another guard of the same hold, for code that wants the lock and may be called with or without it. The lock is
    /// released when the last of them is. Nothing is sent.
    ///
    /// # Errors
    /// As [`LockGuard::check`]: a hold that is lost cannot be entered again.
    pub fn reenter(&self) -> Result<LockGuard, HoldError> {
        self.check()?;
        Ok(LockGuard { hold: Arc::clone(&self.hold) })
    }

    /// Completes when somebody asks for the lock, as Curator's `Revoker` does by writing `__REVOKE__` into the node, and
    /// also when the hold is over, since nothing is left to be given then. It is a request and no more: the lock stays
    /// ours until it is released. Costs nothing: the watch on the node is there anyway.
    ///
    /// # Cancel safety
    /// Safe: it is a state, not an event.
    pub fn asked_to_yield(&self) -> impl Future<Output = ()> + Send + 'static {
        self.hold.fence.asked_to_yield()
    }

    /// Writes that are applied only if the lock is still ours when the server gets to them, in this session only.
    pub fn txn(&self) -> GuardedTxn {
        self.hold.fence.txn()
    }

    /// Runs work under the lock, then releases. The work is dropped at its next `await` when the lock is lost;
    /// tasks that it spawned are its own business, and [`Fence::cancel_token`] is for them.
    ///
    /// # Errors
    /// [`Error::Lost`] when the lock was lost before the work was done.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work and then releases the lock.
    pub async fn run<T, F, Fut>(self, work: F) -> Result<T, Error>
    where
        F: FnOnce(Fence) -> Fut + Send,
        Fut: Future<Output = T> + Send,
        T: Send,
    {
        let cancelled = self.cancel_token();
        let value = while_held(cancelled.cancelled(), work(self.fence()), || self.check()).await?;
        if let Err(pending) = self.release().await {
            tracing::debug!(%pending, "work done, release goes on in the background");
        }
        Ok(value)
    }

    /// Releases the lock and waits until the server has confirmed that the node is gone. After a loss this is no
    /// error: it says what became of the node. While other guards of the same hold live, it is not released, and this
    /// returns [`Released::StillHeld`] at once.
    ///
    /// # Errors
    /// [`ReleasePending`] when the node may still be there when the lease ends; the release goes on in the
    /// background until it succeeds or the session has ended.
    ///
    /// # Cancel safety
    /// The release goes on when the future is dropped after its first poll; before it, dropping it drops the
    /// guard.
    pub async fn release(self) -> Result<Released, ReleasePending> {
        // Of several that are released at the same time exactly one is the last.
        let Some(hold) = Arc::into_inner(self.hold) else { return Ok(Released::StillHeld) };
        let (gone, fence) = (hold.gone.clone(), hold.fence.clone());
        drop(hold);
        wait_gone(gone, fence.session_ref(), fence.path()).await
    }
}

/// Waits until a driver has proved its node gone, but not beyond the lease.
pub(crate) async fn wait_gone(
    mut gone: watch::Receiver<Option<Gone>>,
    client: &Client,
    path: &str,
) -> Result<Released, ReleasePending> {
    let pending = |reason: String| Err(ReleasePending { path: path.to_owned(), reason });
    loop {
        if let Some(gone) = gone.borrow_and_update().as_ref() {
            return match gone {
                Gone::Deleted => Ok(Released::Deleted),
                Gone::Before => Ok(Released::AlreadyGone),
                Gone::SessionEnded => Ok(Released::SessionEnded),
                Gone::Refused(error) => pending(error.to_string()),
            };
        }
        let look = client.lease().until.max(Instant::now() + RELEASE_LOOK);
        tokio::select! {
            changed = gone.changed() => if changed.is_err() {
                return pending(LossCause::RuntimeStopped.to_string());
            },
            () = tokio::time::sleep_until(look) => if !client.lease().is_valid() {
                return pending(LossCause::LeaseEnded.to_string());
            }
        }
    }
}

/// How long a release waits at least, when the lease is over already.
const RELEASE_LOOK: Duration = Duration::from_millis(200);

impl Drop for Hold {
    /// Only says so: the driver deletes the node.
    fn drop(&mut self) {
        self.fence.lose(LossCause::Released);
        self.stop.cancel();
    }
}

/// What a release found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Released {
    /// The node was ours and the server deleted it.
    Deleted,
    /// The node was gone before.
    AlreadyGone,
    /// The session was over, and its nodes with it.
    SessionEnded,
    /// Nothing yet: another guard made by [`LockGuard::reenter`] still holds.
    StillHeld,
}

/// A release that is not confirmed: the node may remain until its session ends on the server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("release of {path} is not confirmed ({reason}), it goes on in the background until the session ends")]
pub struct ReleasePending {
    path: String,
    reason: String,
}

/// The driver's end of a ticket.
pub(crate) type Granter<T = LockGuard> = oneshot::Sender<Result<Option<T>, Error>>;

/// The future's end: resolves to the guard, or to `None` when somebody else was first and waiting is not wanted.
/// Dropping it tells the driver to give up.
pub(crate) struct Ticket<T = LockGuard> {
    stop: CancellationToken,
    grant: oneshot::Receiver<Result<Option<T>, Error>>,
}

impl<T> Ticket<T> {
    pub(crate) fn new() -> (Ticket<T>, CancellationToken, Granter<T>) {
        let (stop, (granter, grant)) = (CancellationToken::new(), oneshot::channel());
        (Ticket { stop: stop.clone(), grant }, stop, granter)
    }
}

impl<T> Future for Ticket<T> {
    type Output = Result<Option<T>, Error>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.grant).poll(cx).map(|grant| grant.unwrap_or(Err(Error::RuntimeStopped)))
    }
}

impl<T> Drop for Ticket<T> {
    /// A grant that is under way when the ticket goes is dropped with the channel, and so released.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl<T> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}

/// What the driver has when it is its turn.
pub(crate) struct Grant {
    pub(crate) fence: Fence,
    pub(crate) own: OwnNode,
    pub(crate) own_watch: OwnWatch,
    pub(crate) wakes: u64,
    /// Whether another may make a node of this name as soon as ours is gone: it is looked at before it is deleted.
    pub(crate) reused: bool,
}

/// Hands out the guard, keeps the hold while it lives, and removes the node after it.
pub(crate) async fn hold_and_remove(session: &SessionRef, grant: Grant, granter: Granter) {
    let (guard, keeping) = begin(session, grant);
    // Nobody there to take it: the guard comes back and its drop stops the hold.
    drop(granter.send(Ok(Some(guard))));
    keeping.await;
}

/// The guard of a hold, and what keeps the hold while the guard lives and removes the node after it. It must be awaited
/// to its end.
pub(crate) fn begin(
    session: &SessionRef,
    grant: Grant,
) -> (LockGuard, impl Future<Output = ()> + Send + use<>) {
    let Grant { fence, own, own_watch, wakes, reused } = grant;
    let stop = CancellationToken::new();
    let (gone, gone_seen) = watch::channel(None);
    let hold = Hold { fence: fence.clone(), stop: stop.clone(), gone: gone_seen, wakes };
    let ends_with_the_task = LoseOnDrop(fence.clone());
    let session = session.clone();
    let keeping = async move {
        let _ends_with_the_task = ends_with_the_task;
        let (session, node) = (&session, (&own, reused));
        keep_and_remove(session, &fence, node, own_watch, &stop, &gone).await;
    };
    (LockGuard { hold: Arc::new(hold) }, keeping)
}

async fn keep_and_remove(
    session: &SessionRef,
    fence: &Fence,
    (own, reused): (&OwnNode, bool),
    mut own_watch: OwnWatch,
    stop: &CancellationToken,
    gone: &watch::Sender<Option<Gone>>,
) {
    if let HoldEnd::Lost(cause) = keeper::keep(fence, own, &mut own_watch, stop).await {
        if matches!(cause, LossCause::SessionEnded | LossCause::Closed) {
            gone.send_replace(Some(Gone::SessionEnded));
            return;
        }
        // The owner may not have noticed yet. While our node stands nobody else begins.
        stop.cancelled().await;
        gone.send_replace(Some(guarded::remove_if_ours(session, own).await));
        return;
    }
    let end = match reused {
        true => guarded::remove_if_ours(session, own).await,
        false => guarded::remove(session, own).await,
    };
    tracing::debug!(path = %own.path, ?end, "released");
    gone.send_replace(Some(end));
}

/// Ends a hold whose driver is gone: with its runtime nobody would tell of a loss.
pub(crate) struct LoseOnDrop(pub(crate) Fence);

impl Drop for LoseOnDrop {
    fn drop(&mut self) {
        self.0.lose(LossCause::RuntimeStopped);
    }
}

/// Waits until the session's lease is proved, so that nothing is granted that is already over.
pub(crate) async fn lease_proved(session: &SessionRef, stop: &CancellationToken) -> Option<LossCause> {
    let mut state = session.state();
    while !lease_holds(session) {
        if let Fate::Ended(cause) = hold::fate(&state.current(), session.id()) {
            return Some(cause);
        }
        tokio::select! {
            () = stop.cancelled() => return Some(LossCause::Released),
            _ = state.changed() => {}
            () = tokio::time::sleep(LEASE_LOOK) => {}
        }
    }
    None
}

/// How often a lease that ran out is looked at while it is being proved again.
const LEASE_LOOK: Duration = Duration::from_millis(20);

fn lease_holds(session: &SessionRef) -> bool {
    let lease = session.lease();
    lease.session == session.id() && lease.is_valid()
}

/// Runs work until it is done, or drops it when what it runs under is lost.
pub(crate) async fn while_held<T>(
    cancelled: impl Future<Output = ()>,
    work: impl Future<Output = T>,
    check: impl FnOnce() -> Result<(), HoldError>,
) -> Result<T, Error> {
    tokio::select! {
        biased;
        () = cancelled => Err(match check() {
            Err(error) => error.into(),
            // The connection is back already, but the work was told to stop.
            Ok(()) => Error::Lost(LossCause::Suspended),
        }),
        value = work => Ok(value),
    }
}
