//! Elections: work that is done by one at a time, as long as it leads.

use std::future::Future;
use std::ops::Deref;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use docent::{Client, ErrorCode, Version};

use crate::backoff::Backoff;
use crate::contender_watch::Contenders;
use crate::contenders::Contender;
use crate::error::{Error, HoldError, LossCause};
use crate::guard::LockGuard;
use crate::guarded;
use crate::hold::{Fence, OnSuspend};
use crate::keeper::REVOKE_MESSAGE;
use crate::line::Layout;
use crate::lock::Lock;
use crate::token::FencingToken;

/// When a candidate stands in line again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Requeue {
    /// Never: one tenure, however it ends.
    Never,
    /// When the leadership was lost, until the work has come to its end once.
    #[default]
    WhenLost,
    /// Always, also when the work has come to its end or has resigned. Curator's `autoRequeue`.
    Always,
}

/// An election that has not begun. Cheap to clone.
///
/// **Connected**, the work runs and every check of its [`Leader`] succeeds. **Suspended**, it goes on until the end of
/// the proven lease, or is told to stop at once under [`OnSuspend::StopAtOnce`]. **Lost**, it is told by
/// [`Leader::cancel_token`](crate::Fence::cancel_token), has [`Election::grace`] to come to an end, and is dropped then.
/// Only after that is the node given up, if it still stands, and a new place taken: in one process two tenures of one
/// election never overlap. Work that holds up its thread cannot be stopped by anybody; the token makes it harmless.
///
/// **Token:** [`Leader::epoch`], the czxid of the leader's node, higher for each next leader.
///
/// **Dropped:** dropping the future of [`Election::run`] drops the work first, and then leaves the line in the background,
/// wherever it was.
///
/// **Layout:** Curator's `LeaderSelector`, which is the line of a mutex: `<path>/_c_<uuid>-lock-<seq>`, data is the id. On
/// request kazoo's `Election`, `<path>/<hex32>__lock__<seq>`. [`Layout`] says who excludes whom.
///
/// **Cost:** that of a [`Lock`]: one round trip for a free place, two watches while waiting, one while leading.
/// [`Leader::publish`] is a read and a write.
///
/// ```no_run
/// # use docent_recipes::{FencingToken, Leader, Recipes};
/// # async fn bill(_epoch: FencingToken) {}
/// # async fn example(zk: docent::Client) -> Result<(), docent_recipes::Error> {
/// let election = zk.election("/app/billing").id("node-a");
/// // Stopped when the leadership is lost, and called again with the next one.
/// election.run(|leader: Leader| async move { bill(leader.epoch()).await }).await
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing happens before run"]
pub struct Election {
    lock: Lock,
    requeue: Requeue,
    grace: Duration,
}

impl Election {
    pub(crate) fn new(client: Client, path: String) -> Election {
        Election { lock: Lock::new(client, path), requeue: Requeue::default(), grace: Duration::ZERO }
    }

    /// Our id: the data of our node, until something else is published. Default: empty.
    pub fn id(mut self, id: impl Into<Bytes>) -> Election {
        self.lock = self.lock.identifier(id);
        self
    }

    /// Whose names we make. Default: [`Layout::Curator`].
    pub fn layout(mut self, layout: Layout) -> Election {
        self.lock = self.lock.layout(layout);
        self
    }

    /// What the leader does while disconnected. Default: [`OnSuspend::KeepUntilLease`].
    pub fn on_suspend(mut self, on_suspend: OnSuspend) -> Election {
        self.lock = self.lock.on_suspend(on_suspend);
        self
    }

    /// When to stand in line again. Default: [`Requeue::WhenLost`].
    pub fn requeue(mut self, requeue: Requeue) -> Election {
        self.requeue = requeue;
        self
    }

    /// How long the work may go on after it was told to stop. Nothing it does then is done as leader: somebody else may
    /// lead already, unless it stops because it resigned or was merely disconnected, when the node stands until the work
    /// has ended. Default: nothing, it is dropped at its next `await`.
    pub fn grace(mut self, grace: Duration) -> Election {
        self.grace = grace;
        self
    }

    /// Everybody in line, the leader first. Makes no node.
    ///
    /// # Errors
    /// As [`Lock::contenders`].
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn candidates(&self) -> Result<Vec<Contender>, Error> {
        self.lock.contenders().await
    }

    /// Everybody in line, now and after each change.
    pub fn watch_candidates(&self) -> Contenders {
        self.lock.watch_contenders()
    }

    /// Stands in line, and calls `work` when it leads. When the leadership is lost, `work` is stopped, and called again
    /// with the next leadership; [`Election::requeue`] says otherwise. Returns what `work` returned as leader, or as one
    /// who had resigned; under [`Requeue::Always`] it returns only with an error.
    ///
    /// # Errors
    /// [`Error::Lost`] under [`Requeue::Never`], when the leadership was lost before the work had come to its end; with
    /// [`LossCause::Released`] when it had resigned and did not end within the grace. [`Error::Closed`], and what the
    /// server refuses. No node of ours remains.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work, and then leaves the line.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn run<T, F, Fut>(&self, mut work: F) -> Result<T, Error>
    where
        F: FnMut(Leader) -> Fut + Send,
        Fut: Future<Output = T> + Send,
        T: Send,
    {
        let mut backoff = Backoff::reconnecting();
        loop {
            let guard = self.lock.acquire().await?;
            match (self.tenure(guard, &mut work).await, self.requeue) {
                (Tenure::Done(_), Requeue::Always) => backoff = Backoff::reconnecting(),
                (Tenure::Done(value), _) => return Ok(value),
                (Tenure::Ended(LossCause::Closed), _) => return Err(Error::Closed),
                (Tenure::Ended(cause), Requeue::Never) => return Err(Error::Lost(cause)),
                (Tenure::Ended(LossCause::Released), Requeue::WhenLost) => {
                    return Err(Error::Lost(LossCause::Released));
                }
                (Tenure::Ended(cause), _) => {
                    tracing::debug!(%cause, "leadership lost, standing again");
                    // Whoever deletes our node each time must not meet a loop that makes it as fast as it can.
                    backoff.wait().await;
                }
            }
        }
    }

    /// One time as leader. The work is over before the guard goes, also when this is dropped.
    async fn tenure<T, F, Fut>(&self, guard: LockGuard, work: &mut F) -> Tenure<T>
    where
        F: FnMut(Leader) -> Fut + Send,
        Fut: Future<Output = T> + Send,
        T: Send,
    {
        let told = guard.cancel_token();
        let outcome = {
            let mut work = pin!(work(Leader { fence: guard.fence() }));
            tokio::select! {
                biased;
                () = told.cancelled() => {
                    let cause = why_it_stopped(&guard);
                    match tokio::time::timeout(self.grace, work).await {
                        // Who resigns leads until it has put its work down.
                        Ok(value) if cause == LossCause::Released => Tenure::Done(value),
                        Ok(_) | Err(_) => Tenure::Ended(cause),
                    }
                }
                value = &mut work => Tenure::Done(value),
            }
        };
        if let Err(pending) = guard.release().await {
            tracing::debug!(%pending, "leadership is over, the release goes on in the background");
        }
        outcome
    }
}

fn why_it_stopped(guard: &LockGuard) -> LossCause {
    match guard.check() {
        Err(HoldError::Lost(cause)) => cause,
        // The connection may be back already, but the work was told to stop.
        Err(HoldError::Suspended) | Ok(()) => LossCause::Suspended,
    }
}

/// How one time as leader ended.
enum Tenure<T> {
    Done(T),
    Ended(LossCause),
}

/// The leadership, for the work that is done under it: a [`Fence`], and what only a leader can do. Cheap to clone; it does
/// not keep the leadership.
#[derive(Clone, Debug)]
pub struct Leader {
    fence: Fence,
}

impl Deref for Leader {
    type Target = Fence;

    fn deref(&self) -> &Fence {
        &self.fence
    }
}

impl Leader {
    /// A number that is higher than every earlier leader's: give it to the resource with each request.
    #[must_use]
    pub fn epoch(&self) -> FencingToken {
        self.fence.token()
    }

    /// The hold itself.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Steps down: from now on every check fails, and the work is told to stop. The node is given up when the work has
    /// ended, within the grace.
    pub fn resign(&self) {
        self.fence.lose(LossCause::Released);
    }

    /// Tells everybody who observes the leader something, an address as a rule, in place of the id: writes the data of our
    /// own node, whose name is never used again, and only in the session that leads.
    ///
    /// # Errors
    /// [`Error::Lost`] when the leadership is over; nothing was written. [`Error::SessionEnded`], [`Error::Closed`], and what
    /// the server refuses.
    ///
    /// # Cancel safety
    /// It may be written when the future is dropped.
    pub async fn publish(&self, data: impl Into<Bytes>) -> Result<(), Error> {
        let (session, path, data) = (self.fence.session_ref(), self.fence.path(), data.into());
        let mut backoff = Backoff::reconnecting();
        loop {
            self.fence.check()?;
            let written = match session.get_data(path).await {
                Ok(node) => {
                    // Whoever asked us to yield must not be overwritten unheard.
                    if node.bytes() == REVOKE_MESSAGE {
                        self.fence.ask_to_yield();
                    }
                    session.set_data(path, data.clone(), Version(node.stat.version)).await
                }
                Err(error) => Err(error),
            };
            match written {
                Ok(_) => return Ok(()),
                Err(error) => match error.code() {
                    Some(ErrorCode::BAD_VERSION) => {}
                    Some(ErrorCode::NO_NODE) => {
                        self.fence.lose(LossCause::NodeDeleted);
                        return Err(Error::Lost(LossCause::NodeDeleted));
                    }
                    // Nobody but us and who asks us to yield writes there: writing twice is writing once.
                    _ if guarded::may_try_again(&error) => backoff.wait().await,
                    _ => return Err(error.into()),
                },
            }
        }
    }
}
