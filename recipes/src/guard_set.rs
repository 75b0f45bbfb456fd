//! Several holds that count as one: the permits of a semaphore that were taken together, the locks of a multi-lock.

use std::future::Future;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{join_all, select_all};

use crate::error::{Error, HoldError, LossCause};
use crate::guard::{LockGuard, ReleasePending, Released, while_held};
use crate::hold::Fence;
use crate::token::FencingToken;
use crate::txn::GuardedTxn;

/// Several guards that are held together. The set is held while *all* of them are; when one is lost, the set is lost.
/// Dropping it releases all in the background.
#[must_use = "dropping the set releases all its guards"]
#[derive(Debug)]
pub struct GuardSet {
    guards: Vec<LockGuard>,
}

impl GuardSet {
    pub(crate) fn new(guards: Vec<LockGuard>) -> GuardSet {
        GuardSet { guards }
    }

    pub(crate) fn push(&mut self, guard: LockGuard) {
        self.guards.push(guard);
    }

    /// The guards, in the order of their locks' paths.
    pub fn guards(&self) -> &[LockGuard] {
        &self.guards
    }

    /// The guards without the set, to be released one by one.
    pub fn into_guards(self) -> Vec<LockGuard> {
        self.guards
    }

    /// The tokens, one for each guard. Each rises with the holders of its own lock, so a resource is given the token of
    /// the lock that protects it; no single number rises for all of them.
    #[must_use]
    pub fn tokens(&self) -> Vec<FencingToken> {
        self.guards.iter().map(LockGuard::token).collect()
    }

    /// The token of the lock at `path`; `None` when the set does not hold that lock.
    #[must_use]
    pub fn token_of(&self, path: &str) -> Option<FencingToken> {
        self.fences().token_of(path)
    }

    /// Whether all of them may be relied on right now.
    ///
    /// # Errors
    /// That of the first that may not, see [`Fence::check`].
    pub fn check(&self) -> Result<(), HoldError> {
        self.guards.iter().try_for_each(LockGuard::check)
    }

    /// Whether all of them will still be held after `span`, as far as is proved now.
    #[must_use]
    pub fn valid_for(&self, span: Duration) -> bool {
        self.guards.iter().all(|guard| guard.valid_for(span))
    }

    /// Completes when the first of them may no longer be relied on.
    ///
    /// # Cancel safety
    /// Safe.
    pub fn lost(&self) -> impl Future<Output = LossCause> + Send + use<> {
        self.fences().lost()
    }

    /// Completes when somebody asks for one of them, see [`LockGuard::asked_to_yield`].
    ///
    /// # Cancel safety
    /// Safe.
    pub fn asked_to_yield(&self) -> impl Future<Output = ()> + Send + use<> {
        let asked = self.guards.iter().map(|guard| guard.asked_to_yield().boxed());
        first_of(asked.collect())
    }

    /// A view of the holds that can be cloned and sent to where the work is done. It does not keep them.
    #[must_use]
    pub fn fences(&self) -> FenceSet {
        FenceSet { fences: self.guards.iter().map(LockGuard::fence).collect() }
    }

    /// Writes that are applied only if all of them are still ours when the server gets to them, in this session only.
    pub fn txn(&self) -> GuardedTxn {
        self.fences().txn()
    }

    /// Runs work under the set, then releases all. The work is dropped at its next `await` when one of them is lost.
    ///
    /// # Errors
    /// [`Error::Lost`] when one was lost before the work was done.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work and then releases all.
    pub async fn run<T, F, Fut>(self, work: F) -> Result<T, Error>
    where
        F: FnOnce(FenceSet) -> Fut + Send,
        Fut: Future<Output = T> + Send,
        T: Send,
    {
        let fences = self.fences();
        let value = while_held(fences.cancelled(), work(fences.clone()), || self.check()).await?;
        if let Err(pending) = self.release().await {
            tracing::debug!(%pending, "work done, release goes on in the background");
        }
        Ok(value)
    }

    /// Releases all, the last one first, and waits until the server has confirmed it; see [`LockGuard::release`].
    ///
    /// # Errors
    /// [`ReleasePending`] of one that is not confirmed.
    ///
    /// # Cancel safety
    /// The release goes on when the future is dropped after its first poll; before it, dropping it drops the set.
    pub async fn release(self) -> Result<Vec<Released>, ReleasePending> {
        let releases = self.guards.into_iter().rev().map(LockGuard::release);
        let mut released = join_all(releases).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        released.reverse();
        Ok(released)
    }
}

/// A view of several holds that count as one. Cheap to clone; it does not keep them.
#[derive(Clone, Debug)]
pub struct FenceSet {
    fences: Vec<Fence>,
}

impl FenceSet {
    /// The views one by one, in the order of their locks' paths.
    #[must_use]
    pub fn fences(&self) -> &[Fence] {
        &self.fences
    }

    /// As [`GuardSet::token_of`].
    #[must_use]
    pub fn token_of(&self, path: &str) -> Option<FencingToken> {
        let mut fences = self.fences.iter();
        fences.find(|fence| docent::path::parent(fence.path()) == Some(path)).map(Fence::token)
    }

    /// As [`GuardSet::check`].
    ///
    /// # Errors
    /// As [`GuardSet::check`].
    pub fn check(&self) -> Result<(), HoldError> {
        self.fences.iter().try_for_each(Fence::check)
    }

    /// As [`GuardSet::valid_for`].
    #[must_use]
    pub fn valid_for(&self, span: Duration) -> bool {
        self.fences.iter().all(|fence| fence.valid_for(span))
    }

    /// As [`GuardSet::lost`].
    ///
    /// # Cancel safety
    /// Safe.
    pub fn lost(&self) -> impl Future<Output = LossCause> + Send + use<> {
        first_of(self.fences.iter().map(|fence| fence.lost().boxed()).collect())
    }

    /// Completes when the work must stop: at the first loss, under [`OnSuspend::StopAtOnce`](crate::OnSuspend) already
    /// when the connection is gone.
    ///
    /// # Cancel safety
    /// Safe.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + use<> {
        first_of(self.fences.iter().map(|fence| fence.cancel_token().cancelled_owned().boxed()).collect())
    }

    /// As [`GuardSet::txn`].
    pub fn txn(&self) -> GuardedTxn {
        GuardedTxn::new(self.fences.clone())
    }
}

/// The first that completes; of none, never.
async fn first_of<T>(futures: Vec<futures::future::BoxFuture<'static, T>>) -> T {
    if futures.is_empty() {
        return std::future::pending().await;
    }
    select_all(futures).await.0
}
