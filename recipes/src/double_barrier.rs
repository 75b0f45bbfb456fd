//! Double barriers: so many begin together, and end together.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use docent::{Client, CreateMode, ErrorCode, SessionRef, path};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::barrier::persistent;
use crate::error::{Error, LossCause};
use crate::following::goes_on;
use crate::guard::{self, Grant, Granter, LockGuard, Ticket};
use crate::guarded::{self, OwnNode};
use crate::hold::{self, Fate, Fence, FenceCheck, OnSuspend, fate};
use crate::keeper::{OwnWatch, or_pending};

/// How often the parent may be gone right after it was made.
const PARENT_ROUNDS_MAX: u32 = 16;

/// The node that says that so many have come.
const READY: &str = "ready";

/// A double barrier that is not entered. Cheap to clone; nothing is sent before one of its verbs.
///
/// **Connected**, nobody gets in before so many have come, and everybody then does, those too who come later while the others
/// are inside. **Suspended**, waiting goes on. **Lost**, who waits comes again in the next session by itself; who is inside is
/// told by [`Inside::fence`], and counts as having left.
///
/// **Rounds:** the same programs may use one path again and again, but a program that died inside can leave the `ready` of its
/// round behind, and the next round is open from its beginning then. [`DoubleBarrier::round`] gives each round a path of its
/// own.
///
/// **Token:** none that excludes anybody: the czxid of each node.
///
/// **Dropped:** a future that is dropped, and [`Inside`] as well, takes its node along in the background, and the `ready`
/// if it was the last.
///
/// **Layout:** Curator's `DistributedDoubleBarrier`: `<path>/<uuid>` and `<path>/ready`. With rounds `<path>/r<round>` takes
/// the place of `<path>`, which is ours alone. Not kazoo's `DoubleBarrier`, which removes `ready` at another time.
///
/// **Cost:** entering is three requests that travel as two, two watches while waiting, and one more look; the last one makes
/// `ready`. Leaving is a list, a delete and a list, and a read and a list for each who is waited for.
#[derive(Clone, Debug)]
#[must_use = "a double barrier does nothing before it is entered"]
pub struct DoubleBarrier {
    client: Client,
    path: String,
    members: usize,
    data: Bytes,
    on_suspend: OnSuspend,
}

impl DoubleBarrier {
    pub(crate) fn new(client: Client, path: String, members: usize) -> DoubleBarrier {
        let (data, on_suspend) = (Bytes::new(), OnSuspend::default());
        DoubleBarrier { client, path, members, data, on_suspend }
    }

    /// The barrier of one round: all members say the same number, each round another.
    pub fn round(&self, round: u64) -> DoubleBarrier {
        DoubleBarrier { path: path::join(&self.path, &format!("r{round}")), ..self.clone() }
    }

    /// Who we are: the data of our node. Default: empty.
    pub fn id(mut self, id: impl Into<Bytes>) -> DoubleBarrier {
        self.data = id.into();
        self
    }

    /// What who is inside does while disconnected. Default: [`OnSuspend::KeepUntilLease`].
    pub fn on_suspend(mut self, on_suspend: OnSuspend) -> DoubleBarrier {
        self.on_suspend = on_suspend;
        self
    }

    /// Waits until so many have come.
    ///
    /// # Errors
    /// [`Error::Closed`] and what the server refuses. No node of ours remains.
    ///
    /// # Cancel safety
    /// Dropping the future takes our node along.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn enter(&self) -> Result<Inside, Error> {
        let (ticket, stop, granter) = Ticket::new();
        let ended = CancellationToken::new();
        let driver = Driver { barrier: self.clone(), stop, _ended: ended.clone().drop_guard() };
        tokio::spawn(driver.run(granter));
        // The driver never answers `None`.
        let guard = ticket.await?.ok_or(Error::RuntimeStopped)?;
        Ok(Inside { guard, barrier: self.clone(), ended })
    }

    /// Waits until so many have come, but not longer than `limit`.
    ///
    /// # Errors
    /// [`Error::Timeout`]: our node goes in the background. Else as [`DoubleBarrier::enter`].
    ///
    /// # Cancel safety
    /// Dropping the future takes our node along.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn enter_within(&self, limit: Duration) -> Result<Inside, Error> {
        tokio::time::timeout(limit, self.enter()).await.unwrap_or(Err(Error::Timeout(limit)))
    }

    fn ready(&self) -> String {
        path::join(&self.path, READY)
    }
}

/// One who is inside a double barrier. Dropping it leaves in the background, without waiting for the others.
#[must_use = "dropping it leaves the barrier"]
#[derive(Debug)]
pub struct Inside {
    guard: LockGuard,
    barrier: DoubleBarrier,
    /// Cancelled when the task that owns our node has ended.
    ended: CancellationToken,
}

impl Inside {
    /// Whether the others still count us in, and when they cease to.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.guard.fence()
    }

    /// Leaves, and waits until all have left that are inside now. Our node goes at once, or as the last one if its name is
    /// the lowest.
    ///
    /// # Errors
    /// [`Error::Closed`] and what the server refuses. Our node goes in the background.
    ///
    /// # Cancel safety
    /// Dropping the future leaves without waiting.
    pub async fn leave(self) -> Result<(), Error> {
        let Inside { guard, barrier, ended } = self;
        // Before our own node goes: then all of this round are there still, and whoever comes for the next one cannot be
        // there yet, since it waits for us to go.
        let mut waited_for = barrier.others(guard.path()).await?;
        let own = path::name(guard.path());
        if waited_for.first().is_none_or(|other| own < other.as_str()) {
            // Curator's members wait for the lowest name to go, and then take one other that is left for the sign that all
            // have gone: so the lowest goes last.
            barrier.until_gone(&mut waited_for).await?;
        }
        if let Err(pending) = guard.release().await {
            tracing::debug!(%pending, "left the barrier, the node goes in the background");
        }
        // It may be about to remove the `ready` of this round. If we came again before it does, that would be the next one's,
        // and who has not seen it yet would wait for one who has left.
        ended.cancelled().await;
        barrier.until_gone(&mut waited_for).await
    }

    /// Leaves, and waits until all have left, but not longer than `limit`.
    ///
    /// # Errors
    /// [`Error::Timeout`]: we have left, and others have not. Else as [`Inside::leave`].
    ///
    /// # Cancel safety
    /// As [`Inside::leave`].
    pub async fn leave_within(self, limit: Duration) -> Result<(), Error> {
        tokio::time::timeout(limit, self.leave()).await.unwrap_or(Err(Error::Timeout(limit)))
    }
}

/// Pauses after an error after which the client goes on, in this session or the next.
async fn retried(error: Error, backoff: &mut Backoff) -> Result<(), Error> {
    match error {
        Error::Client(error) if !goes_on(&error) => Err(Error::Client(error)),
        Error::Client(_) | Error::SessionEnded(_) => {
            backoff.wait().await;
            Ok(())
        }
        error => Err(error),
    }
}

/// The children of a barrier: those who have come, and whether `ready` stands.
fn members(children: Vec<String>) -> (BTreeSet<String>, bool) {
    let ready = children.iter().any(|name| name == READY);
    // Curator's names and kazoo's; whatever else lies there counts for nobody.
    let members = children.into_iter().filter(|name| Uuid::try_parse(name).is_ok()).collect();
    (members, ready)
}

impl DoubleBarrier {
    /// Who is inside beside us.
    async fn others(&self, own: &str) -> Result<BTreeSet<String>, Error> {
        let mut backoff = Backoff::reconnecting();
        loop {
            match self.list().await {
                Ok((mut now, _)) => {
                    now.remove(path::name(own));
                    return Ok(now);
                }
                Err(error) => retried(error, &mut backoff).await?,
            }
        }
    }

    async fn list(&self) -> Result<(BTreeSet<String>, bool), Error> {
        match self.client.get_children(&self.path).await {
            Ok(children) => Ok(members(children.names)),
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => Ok(Default::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until none of these is there.
    async fn until_gone(&self, waited_for: &mut BTreeSet<String>) -> Result<(), Error> {
        let mut backoff = Backoff::reconnecting();
        loop {
            match self.wait_for_leavers(waited_for).await {
                Ok(true) => return Ok(()),
                Ok(false) => backoff = Backoff::reconnecting(),
                Err(error) => retried(error, &mut backoff).await?,
            }
        }
    }

    /// Waits for one of those who were inside; names are never used again, so who comes for another round is not waited for.
    /// Whether all are gone, and `ready` with the last.
    async fn wait_for_leavers(&self, waited_for: &mut BTreeSet<String>) -> Result<bool, Error> {
        let (now, ready) = self.list().await?;
        waited_for.retain(|name| now.contains(name));
        if let Some(other) = waited_for.last() {
            match self.client.get_data_and_watch(path::join(&self.path, other)).await {
                // Whatever it was, the next look tells.
                Ok((_, watch)) => drop(watch.await),
                Err(error) if error.code() == Some(ErrorCode::NO_NODE) => {}
                Err(error) => return Err(error.into()),
            }
            return Ok(false);
        }
        if ready && now.is_empty() {
            self.remove_ready(&self.client.session_ready().await?).await?;
        }
        Ok(true)
    }

    /// Removes the `ready` that stands now.
    async fn remove_ready(&self, session: &SessionRef) -> Result<(), Error> {
        let ready = self.ready();
        if let Some(stat) = guarded::stat_of(session, &ready).await? {
            guarded::remove(session, &persistent(ready, &stat)).await;
        }
        Ok(())
    }

    /// After our node has gone: the last one takes `ready` along.
    async fn clear_up(&self, session: &SessionRef) -> Result<(), Error> {
        let mut backoff = Backoff::reconnecting();
        loop {
            match session.get_children(&self.path).await {
                Ok(children) => {
                    let (left, ready) = members(children.names);
                    return if ready && left.is_empty() { self.remove_ready(session).await } else { Ok(()) };
                }
                Err(error) if guarded::may_try_again(&error) => backoff.wait().await,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The task that owns one node, from before it is made until after it is gone.
struct Driver {
    barrier: DoubleBarrier,
    stop: CancellationToken,
    _ended: DropGuard,
}

/// What one look at the barrier found.
enum Look {
    /// So many have come.
    Open,
    /// The watches on `ready` and on our own node.
    Closed(docent::OneshotWatch),
    OwnGone,
}

impl Driver {
    async fn run(self, granter: Granter) {
        let mut backoff = Backoff::reconnecting();
        loop {
            let session = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                session = self.barrier.client.session_ready() => session,
            };
            let session = match session {
                Ok(session) => session,
                Err(error) => return drop(granter.send(Err(error.into()))),
            };
            let lease = session.hold_lease();
            let own = match self.lay(&session).await {
                Ok(Some(own)) => own,
                Ok(None) => return,
                Err(Error::SessionEnded(_)) => continue,
                Err(error) => return drop(granter.send(Err(error))),
            };
            let mut own_watch = OwnWatch::default();
            let entered = self.wait_inside(&session, &own, &mut own_watch).await;
            let proved = match &entered {
                Ok(None) => guard::lease_proved(&session, &self.stop).await,
                _ => None,
            };
            match (entered, proved) {
                (Ok(None), None) => {
                    let check = FenceCheck::Exists(own.path.clone());
                    let fence = Fence::new(session.clone(), self.barrier.on_suspend, &own, check);
                    guard::hold_and_remove(
                        &session,
                        Grant { fence, own, own_watch, wakes: 0, reused: false },
                        granter,
                    )
                    .await;
                    drop(lease);
                    return self.cleared_up(&session).await;
                }
                (Ok(cause), other) => {
                    guarded::remove(&session, &own).await;
                    self.cleared_up(&session).await;
                    if cause.or(other) == Some(LossCause::Closed) {
                        return drop(granter.send(Err(Error::Closed)));
                    }
                }
                (Err(error), _) => {
                    guarded::remove(&session, &own).await;
                    self.cleared_up(&session).await;
                    return drop(granter.send(Err(error)));
                }
            }
            // Whoever deletes our node each time must not meet a loop that makes it as fast as it can.
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = backoff.wait() => {}
            }
        }
    }

    async fn cleared_up(&self, session: &SessionRef) {
        if let Err(error) = self.barrier.clear_up(session).await {
            tracing::debug!(path = %self.barrier.path, %error, "barrier not cleared up, the next one to leave does it");
        }
    }

    /// Makes our node. `None` when it was stopped before. Without one, no node remains.
    async fn lay(&self, session: &SessionRef) -> Result<Option<OwnNode>, Error> {
        // Of this session alone, so that it can be found again.
        let node = path::join(&self.barrier.path, &Uuid::new_v4().hyphenated().to_string());
        let (mut backoff, mut parent_rounds) = (Backoff::reconnecting(), 0);
        while !self.stop.is_cancelled() {
            let create = session.create(&node, self.barrier.data.clone()).mode(CreateMode::Ephemeral);
            let error = match create.await {
                Ok(created) => {
                    let czxid = created.stat.map_or(created.zxid, |stat| stat.czxid);
                    return Ok(Some(OwnNode { path: node, czxid, session: session.id() }));
                }
                Err(error) => error,
            };
            if error.code() == Some(ErrorCode::NO_NODE) && parent_rounds < PARENT_ROUNDS_MAX {
                parent_rounds += 1;
                guarded::make_parents(session, &node).await?;
            } else if error.may_have_applied() || error.code() == Some(ErrorCode::NODE_EXISTS) {
                // The name is ours alone: whoever made it, it was one of our own tries.
                guarded::synced(session, &node).await?;
                if let Some(stat) = guarded::stat_of(session, &node).await? {
                    return Ok(Some(OwnNode { path: node, czxid: stat.czxid, session: session.id() }));
                }
            } else if guarded::may_try_again(&error) {
                backoff.wait().await;
            } else {
                return Err(error.into());
            }
        }
        Ok(None)
    }

    /// Waits until so many have come: `None`; or why that is over.
    async fn wait_inside(
        &self,
        session: &SessionRef,
        own: &OwnNode,
        own_watch: &mut OwnWatch,
    ) -> Result<Option<LossCause>, Error> {
        let (mut state, _) = hold::states(session);
        let mut backoff = Backoff::reconnecting();
        loop {
            let look = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(Some(LossCause::Released)),
                look = self.look(session, own, own_watch) => look,
            };
            let ready = match look {
                Ok(Look::Open) => return Ok(None),
                Ok(Look::OwnGone) => return Ok(Some(LossCause::NodeDeleted)),
                Ok(Look::Closed(ready)) => ready,
                Err(docent::Error::Closed) => return Ok(Some(LossCause::Closed)),
                Err(error) if error.is_session_lost() => return Ok(Some(LossCause::SessionEnded)),
                Err(error) if guarded::may_try_again(&error) => {
                    backoff.wait().await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            backoff = Backoff::reconnecting();
            let mut ready = Some(ready);
            loop {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return Ok(Some(LossCause::Released)),
                    now = state.changed() => match fate(&now, session.id()) {
                        Fate::Ended(cause) => return Ok(Some(cause)),
                        Fate::Connected => break,
                        Fate::Suspended { .. } => {}
                    },
                    // The next look tells what it was.
                    _ = or_pending(&mut own_watch.armed) => {
                        own_watch.armed = None;
                        break;
                    }
                    _ = or_pending(&mut ready) => break,
                }
            }
        }
    }

    /// Looks for `ready`, and counts; who counts enough makes `ready`. All reads travel together.
    async fn look(
        &self,
        session: &SessionRef,
        own: &OwnNode,
        own_watch: &mut OwnWatch,
    ) -> Result<Look, docent::Error> {
        let ready = self.barrier.ready();
        let own_read = session.get_data_and_watch(&own.path);
        let ready_read = session.exists_and_watch(&ready);
        let list = session.get_children(&self.barrier.path);
        match own_read.await {
            Ok((node, watch)) if own.is(&node.stat) => own_watch.armed = Some(watch),
            Ok(_) => return Ok(Look::OwnGone),
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => return Ok(Look::OwnGone),
            Err(error) => return Err(error),
        }
        let (stands, changed) = ready_read.await?;
        if stands.is_some() {
            return Ok(Look::Open);
        }
        let (come, _) = members(list.await?.names);
        if come.len() < self.barrier.members {
            return Ok(Look::Closed(changed));
        }
        // We are inside, so a `ready` that is made twice is made in the same round.
        match session.create(&ready, "").mode(CreateMode::Persistent).await {
            Err(error) if error.code() != Some(ErrorCode::NODE_EXISTS) => Err(error),
            _ => Ok(Look::Open),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_members_are_counted() {
        let children =
            ["ready", "2f1f9f6a-8b55-4f0e-9f43-0a4c2b6a9d10", "note", "2f1f9f6a8b554f0e9f430a4c2b6a9d11"];
        let (come, ready) = members(children.map(str::to_owned).to_vec());
        assert!(ready && come.len() == 2, "{come:?}");
        assert_eq!(members(vec!["r1".to_owned()]), (BTreeSet::new(), false));
    }
}
