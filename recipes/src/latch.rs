//! The leader latch: everybody stands in a line, the first leads until it goes.
//!
//! **Connected**, [`Leadership::Mine`] is true and comes with the epoch. **Suspended**, a leader stays leader until
//! the end of the proven lease and regains nothing by bouncing ([`OnSuspend::StopAtOnce`] is stricter); everybody
//! else says [`Leadership::Unknown`]. **Lost**, the participant makes a new node in the next session by itself,
//! at the end of the line. A healthy node is never deleted and made again.
//!
//! **Token:** the epoch, the czxid of the leader's node, higher for each next leader.
//!
//! **Dropped:** dropping the future of `join` or the [`Latch`] leaves the line in the background.
//!
//! **Layout:** Curator's `LeaderLatch`: `<path>/_c_<uuid>-latch-<seq>`, data is the id.
//!
//! **Cost:** joining is one round trip and, for those who do not lead, a read of the leader. A participant keeps a
//! watch on its own node, its predecessor and the leader, so that everybody hears of a new leader; that costs each
//! a list and a read per change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use docent::{Client, EventType, LeaseHold, SessionRef, path};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::contenders::contenders;
use crate::error::{Error, LossCause};
use crate::guard::{self, LoseOnDrop, ReleasePending, Released};
use crate::guarded::{Gone, Plan};
use crate::hold::{self, Fate, Fence, OnSuspend, fate};
use crate::keeper::{self, HoldEnd};
use crate::line::{Line, LineRules};
use crate::standing::{Standing, Turn};
use crate::token::FencingToken;

/// Who leads, as far as this participant knows. It is a state, not an event: the newest is never missed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leadership {
    /// We do.
    Mine {
        /// Higher than every earlier leader's.
        epoch: FencingToken,
        /// How long that is proved at the least, as of the announcement. [`Latch::fence`] has the current end.
        until: Instant,
    },
    /// Somebody else does.
    Other {
        /// Its id, as it wrote it.
        id: String,
        /// Its epoch.
        epoch: FencingToken,
    },
    /// Not connected, or not in line yet.
    Unknown,
    /// This participant has left.
    Left,
}

impl Leadership {
    /// Whether we lead.
    #[must_use]
    pub fn is_mine(&self) -> bool {
        matches!(self, Leadership::Mine { .. })
    }
}

/// How a participant leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseMode {
    /// Whoever watches the leadership sees [`Leadership::Left`].
    #[default]
    Notify,
    /// The last state stays visible.
    Silent,
}

/// One who takes part in a latch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Participant {
    /// Its id, as it wrote it.
    pub id: String,
    /// Whether it leads: the first in line.
    pub leads: bool,
    /// Its epoch, now or when it will lead.
    pub epoch: FencingToken,
}

/// A latch that is not joined yet.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before join"]
pub struct LeaderLatch {
    client: Client,
    path: String,
    id: String,
    on_suspend: OnSuspend,
}

impl LeaderLatch {
    pub(crate) fn new(client: Client, path: String) -> LeaderLatch {
        LeaderLatch { client, path, id: String::new(), on_suspend: OnSuspend::default() }
    }

    /// Our id: the data of our node. Default: empty.
    pub fn id(mut self, id: impl Into<String>) -> LeaderLatch {
        self.id = id.into();
        self
    }

    /// What a leader does while disconnected. Default: [`OnSuspend::KeepUntilLease`].
    pub fn on_suspend(mut self, on_suspend: OnSuspend) -> LeaderLatch {
        self.on_suspend = on_suspend;
        self
    }

    /// Everybody in line, the leader first. Makes no node.
    ///
    /// # Errors
    /// What the server refuses, and a connection that does not come back in time.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn participants(&self) -> Result<Vec<Participant>, Error> {
        let line = contenders(&self.client, &self.path, &LineRules::latch()).await?;
        let participant = |(position, contender): (usize, crate::contenders::Contender)| Participant {
            id: String::from_utf8_lossy(&contender.data).into_owned(),
            leads: position == 0,
            epoch: contender.czxid.into(),
        };
        Ok(line.into_iter().enumerate().map(participant).collect())
    }

    /// Takes a place in line, and keeps one until the [`Latch`] is dropped or closed.
    ///
    /// # Errors
    /// [`Error::Closed`], and what the server refuses. No node of ours remains.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn join(&self) -> Result<Latch, Error> {
        let (leadership, leadership_seen) = watch::channel(Leadership::Unknown);
        let (fence, fence_seen) = watch::channel(None);
        let (gone, gone_seen) = watch::channel(None);
        let (joined, in_line) = oneshot::channel();
        let latch = Latch {
            config: self.clone(),
            stop: CancellationToken::new(),
            silent: Arc::default(),
            leadership: leadership_seen,
            fence: fence_seen,
            gone: gone_seen,
        };
        let rules = LineRules::latch();
        let driver = Driver {
            client: self.client.clone(),
            plan: Plan { parent: self.path.clone(), rules, data: self.id.clone().into() },
            on_suspend: self.on_suspend,
            stop: latch.stop.clone(),
            silent: Arc::clone(&latch.silent),
            leadership,
            fence,
            joined: Some(joined),
        };
        tokio::spawn(driver.run(gone));
        in_line.await.unwrap_or(Err(Error::RuntimeStopped))?;
        Ok(latch)
    }
}

/// A place in a latch. Dropping it leaves in the background.
#[must_use = "dropping the latch leaves the line"]
#[derive(Debug)]
pub struct Latch {
    config: LeaderLatch,
    stop: CancellationToken,
    silent: Arc<AtomicBool>,
    leadership: watch::Receiver<Leadership>,
    fence: watch::Receiver<Option<Fence>>,
    gone: watch::Receiver<Option<Gone>>,
}

impl Latch {
    /// Who leads: a latest-value channel. It closes when this participant has left, or cannot go on.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// The hold of the leadership, while it is ours: to be checked before each side effect.
    #[must_use]
    pub fn fence(&self) -> Option<Fence> {
        self.fence.borrow().clone().filter(|fence| fence.check().is_ok())
    }

    /// Whether we lead right now, by the clock and not by the last announcement.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.fence().is_some()
    }

    /// Waits until we lead, and returns the hold.
    ///
    /// # Errors
    /// [`Error::Closed`] or another reason why this participant cannot go on.
    ///
    /// # Cancel safety
    /// Safe: being leader is a state.
    pub async fn wait_to_lead(&self) -> Result<Fence, Error> {
        let mut leadership = self.leadership.clone();
        loop {
            leadership.wait_for(Leadership::is_mine).await.map_err(|_| Error::Closed)?;
            if let Some(fence) = self.fence() {
                return Ok(fence);
            }
            // Over already, and not announced yet.
            leadership.changed().await.map_err(|_| Error::Closed)?;
        }
    }

    /// Everybody in line, the leader first.
    ///
    /// # Errors
    /// As [`LeaderLatch::participants`].
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn participants(&self) -> Result<Vec<Participant>, Error> {
        self.config.participants().await
    }

    /// Leaves, and waits until the server has confirmed that our node is gone.
    ///
    /// # Errors
    /// [`ReleasePending`] when the node may still be there when the lease ends; leaving goes on in the background.
    ///
    /// # Cancel safety
    /// Leaving goes on when the future is dropped.
    pub async fn leave(self) -> Result<Released, ReleasePending> {
        self.close(CloseMode::Notify).await
    }

    /// Leaves like [`Latch::leave`], and says whether those who watch are told.
    ///
    /// # Errors
    /// As [`Latch::leave`].
    ///
    /// # Cancel safety
    /// As [`Latch::leave`].
    pub async fn close(self, mode: CloseMode) -> Result<Released, ReleasePending> {
        self.silent.store(mode == CloseMode::Silent, Ordering::Release);
        let (gone, client, path) = (self.gone.clone(), self.config.client.clone(), self.config.path.clone());
        drop(self);
        guard::wait_gone(gone, &client, &path).await
    }
}

impl Drop for Latch {
    /// Only says so: the driver deletes the node.
    fn drop(&mut self) {
        if let Some(fence) = self.fence.borrow().as_ref() {
            fence.lose(LossCause::Released);
        }
        self.stop.cancel();
    }
}

/// The task that keeps one participant in line.
struct Driver {
    client: Client,
    plan: Plan,
    on_suspend: OnSuspend,
    stop: CancellationToken,
    silent: Arc<AtomicBool>,
    leadership: watch::Sender<Leadership>,
    fence: watch::Sender<Option<Fence>>,
    /// Told once: that we are in line, or why we will never be.
    joined: Option<oneshot::Sender<Result<(), Error>>>,
}

/// How the time on one node ended.
enum End {
    Stopped,
    Lost(LossCause),
}

impl Driver {
    async fn run(mut self, gone: watch::Sender<Option<Gone>>) {
        let outcome = self.participate().await;
        self.announce(None, Leadership::Unknown);
        match outcome {
            Ok(end) => {
                gone.send_replace(Some(end));
            }
            Err(error) => {
                tracing::warn!(path = %self.plan.parent, %error, "latch cannot go on");
                if let Some(joined) = self.joined.take() {
                    drop(joined.send(Err(error.clone())));
                }
                gone.send_replace(Some(Gone::Before));
            }
        }
        if !self.silent.load(Ordering::Acquire) {
            self.leadership.send_replace(Leadership::Left);
        }
    }

    /// Stands in line in one session after another. Returns how the last node went, when the owner leaves.
    async fn participate(&mut self) -> Result<Gone, Error> {
        let mut backoff = Backoff::reconnecting();
        loop {
            let stop = self.stop.clone();
            let session = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(Gone::Before),
                session = self.client.session_ready() => session?,
            };
            let lease = session.hold_lease();
            let mut standing = match Standing::join(&session, &self.plan, &self.stop).await {
                Ok(Some(standing)) => standing,
                Ok(None) => return Ok(Gone::Before),
                Err(Error::SessionEnded(_)) => continue,
                Err(error) => return Err(error),
            };
            if let Some(joined) = self.joined.take() {
                drop(joined.send(Ok(())));
            }
            let end = self.on_one_node(&session, &mut standing, lease).await;
            let gone = standing.leave().await;
            match end? {
                End::Stopped => return Ok(gone),
                End::Lost(LossCause::Closed) => return Err(Error::Closed),
                End::Lost(cause) => {
                    tracing::debug!(path = %self.plan.parent, %cause, "place in line lost, standing again");
                }
            }
            // Whoever deletes our node each time must not meet a loop that makes it as fast as it can.
            tokio::select! {
                () = stop.cancelled() => return Ok(gone),
                () = backoff.wait() => {}
            }
        }
    }

    /// Waits for the turn and leads, perhaps several times, as long as the node stands.
    async fn on_one_node(
        &self,
        session: &SessionRef,
        standing: &mut Standing,
        _lease: LeaseHold,
    ) -> Result<End, Error> {
        let line = standing.line.clone();
        let own = standing.own.name().to_owned();
        let mut turn = tokio::select! {
            biased;
            turn = standing.wait_turn(&self.stop, |_| {}) => turn?,
            never = self.follow(session, line, &own) => match never {},
            // Behind the one who announces leaders, so that a disconnection has the last word.
            never = self.tell_suspensions(session) => match never {},
        };
        loop {
            match turn {
                Turn::First => {}
                Turn::Stopped => return Ok(End::Stopped),
                Turn::Lost(cause) => return Ok(End::Lost(cause)),
            }
            if let Some(cause) = guard::lease_proved(session, &self.stop).await {
                return Ok(if self.stop.is_cancelled() { End::Stopped } else { End::Lost(cause) });
            }
            match self.lead(session, standing).await {
                HoldEnd::Stopped => return Ok(End::Stopped),
                // The node may well stand, and then nobody else has led: it is kept.
                HoldEnd::Lost(LossCause::Suspended | LossCause::LeaseEnded) => {
                    turn = standing.regain(&self.stop).await?;
                }
                HoldEnd::Lost(cause) => return Ok(End::Lost(cause)),
            }
        }
    }

    /// One time as leader.
    async fn lead(&self, session: &SessionRef, standing: &mut Standing) -> HoldEnd {
        let fence = Fence::for_tenure(session.clone(), self.on_suspend, &standing.own);
        let _ends_with_the_task = LoseOnDrop(fence.clone());
        let mine = Leadership::Mine { epoch: fence.token(), until: session.lease().until };
        self.announce(Some(fence.clone()), mine);
        let end = keeper::keep(&fence, &standing.own, &mut standing.own_watch, &self.stop).await;
        self.announce(None, Leadership::Unknown);
        end
    }

    /// The hold is seen before its announcement, and gone after it.
    fn announce(&self, fence: Option<Fence>, leadership: Leadership) {
        self.fence.send_replace(fence);
        self.publish(leadership);
    }

    fn publish(&self, leadership: Leadership) {
        if self.stop.is_cancelled() && self.silent.load(Ordering::Acquire) {
            return;
        }
        self.leadership.send_if_modified(|now| {
            let changed = *now != leadership;
            if changed {
                *now = leadership;
            }
            changed
        });
    }

    /// Tells who leads while we do not. Never ends by itself.
    async fn follow(&self, session: &SessionRef, mut line: Line, own: &str) -> std::convert::Infallible {
        let (mut state, _) = hold::states(session);
        let mut backoff = Backoff::reconnecting();
        loop {
            match self.follow_once(session, &line, own, &mut state).await {
                Ok(()) => backoff = Backoff::reconnecting(),
                // The one who waits for our turn deals with the end of the session.
                Err(error) => {
                    tracing::trace!(path = %self.plan.parent, %error, "leader not read");
                    backoff.wait().await;
                }
            }
            match session.get_children(&self.plan.parent).await {
                Ok(children) => line = Line::read(&self.plan.rules, children.names),
                Err(error) => {
                    tracing::trace!(path = %self.plan.parent, %error, "line not read");
                    backoff.wait().await;
                }
            }
        }
    }

    /// Nobody knows who leads while the connection is away. Never ends by itself.
    async fn tell_suspensions(&self, session: &SessionRef) -> std::convert::Infallible {
        let (mut state, mut now) = hold::states(session);
        loop {
            if fate(&now, session.id()) != Fate::Connected {
                self.publish(Leadership::Unknown);
            }
            now = state.changed().await;
        }
    }

    /// Announces the first in line, and waits until it goes or the connection has been away.
    async fn follow_once(
        &self,
        session: &SessionRef,
        line: &Line,
        own: &str,
        state: &mut docent::StateWatch,
    ) -> Result<(), docent::Error> {
        let Some(first) = line.first() else { return Ok(()) };
        if first.name == own {
            // Our turn: who waits for it announces it.
            return std::future::pending().await;
        }
        let (node, mut watch) =
            session.get_data_and_watch(path::join(&self.plan.parent, &first.name)).await?;
        let id = String::from_utf8_lossy(&node.bytes()).into_owned();
        self.publish(Leadership::Other { id, epoch: node.stat.czxid.into() });
        loop {
            tokio::select! {
                event = &mut watch => {
                    if event.is_ok_and(|event| event.kind == EventType::NodeDeleted) {
                        self.publish(Leadership::Unknown);
                    }
                    return Ok(());
                }
                now = state.changed() => if fate(&now, session.id()) == Fate::Connected {
                    return Ok(());
                }
            }
        }
    }
}
