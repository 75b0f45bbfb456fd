//! The ordered lock: ephemeral sequential nodes in one directory, the lowest holds.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use docent::{Client, LeaseHold, SessionRef};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::contender_watch::{Contenders, ask_to_yield};
use crate::contenders::{Contender, contenders, read_line};
use crate::error::{Error, LossCause};
use crate::guard::{self, Grant, Granter, LockGuard, Ticket};
use crate::guarded::Plan;
use crate::hold::{Fence, FenceCheck, OnSuspend};
use crate::line::{Layout, LineRules, Mode};
use crate::standing::{Standing, Turn};
use crate::token::FencingToken;

/// What a waiter does when its place goes with its session, or is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnPlaceLost {
    /// Take a new place, behind everybody who is in line by then.
    #[default]
    StandAgain,
    /// End with [`Error::PlaceLost`].
    Fail,
}

/// An ordered lock. Cheap to clone; nothing is sent before one of its verbs.
///
/// **Connected**, the guard is yours; `check` costs no round trip. **Suspended**, it is still yours until the end
/// of the proven lease, which lies before the moment the server can give the place away
/// ([`OnSuspend::StopAtOnce`] is stricter). **Lost**, it is over: at the lease end, by the server's word, or when
/// somebody deleted the node. Work that is late all the same is stopped by the token, where the resource looks
/// at it, and by [`LockGuard::txn`] inside ZooKeeper.
///
/// **Token:** the czxid of the node, higher for each next holder, whatever happens to the directory between.
///
/// **Dropped:** a future that is dropped leaves the line, wherever it was; a guard that is dropped is released.
/// Both happen in the background, in a task that owns the node and does not end before the node is gone.
///
/// **Asked to yield:** whoever wants the lock urgently asks the holder with [`Lock::ask_to_yield`], which writes Curator's
/// `__REVOKE__` into its node, and the holder hears it by [`LockGuard::asked_to_yield`], also after a disconnection. Nobody
/// is forced. A revocable mutex of Curator's hears ours, and ours hears Curator's `Revoker`.
///
/// **Entered again:** by the guard and not by the thread, [`LockGuard::reenter`]. A second `acquire` is a second place.
///
/// **Ahead of time:** [`Lock::enqueue`] takes a place and tells its position while it waits; [`Lock::contenders`] and
/// [`Lock::watch_contenders`] show the line to everybody without taking one.
///
/// **Layout:** Curator's `InterProcessMutex` and `LeaderSelector` ([`Layout::Curator`], the default), or kazoo's
/// `Lock` and `Election` ([`Layout::Kazoo`]). [`Layout`] says who excludes whom.
///
/// **Cost:** a free lock takes one round trip: create and list travel together. A waiter keeps two watches, on
/// its predecessor and on its own node, is woken once per departure right before it, and lists the line once.
/// While anything is held or waited for, the client proves its lease with a small read each sixth of the session
/// timeout. Being asked to yield and entering again cost nothing: the watch on the own node is there anyway. Asking is one
/// write; a stream of contenders keeps one watch and lists once per change.
#[derive(Clone, Debug)]
#[must_use = "a lock does nothing before it is acquired"]
pub struct Lock {
    client: Client,
    path: String,
    layout: Layout,
    /// In the line of a read/write lock: what places we take there.
    mode: Option<Mode>,
    pub(crate) identifier: Bytes,
    pub(crate) on_suspend: OnSuspend,
    on_place_lost: OnPlaceLost,
}

impl Lock {
    pub(crate) fn new(client: Client, path: String) -> Lock {
        Lock {
            client,
            path,
            layout: Layout::default(),
            mode: None,
            identifier: Bytes::new(),
            on_suspend: OnSuspend::default(),
            on_place_lost: OnPlaceLost::default(),
        }
    }

    /// The same in the line of a read/write lock.
    pub(crate) fn sharing(mut self, mode: Mode) -> Lock {
        self.mode = Some(mode);
        self
    }

    pub(crate) fn rules(&self) -> LineRules {
        match self.mode {
            None => LineRules::lock(self.layout),
            Some(mode) => LineRules::read_write(self.layout, mode),
        }
    }

    /// The names to use, and by that which other programs are excluded. Default: [`Layout::Curator`].
    pub fn layout(mut self, layout: Layout) -> Lock {
        self.layout = layout;
        self
    }

    /// The data of our node, for people and for [`Lock::contenders`]. Default: empty.
    pub fn identifier(mut self, identifier: impl Into<Bytes>) -> Lock {
        self.identifier = identifier.into();
        self
    }

    /// What a holder does while disconnected. Default: [`OnSuspend::KeepUntilLease`].
    pub fn on_suspend(mut self, on_suspend: OnSuspend) -> Lock {
        self.on_suspend = on_suspend;
        self
    }

    /// What a waiter does when its place is lost. Default: [`OnPlaceLost::StandAgain`].
    pub fn on_place_lost(mut self, on_place_lost: OnPlaceLost) -> Lock {
        self.on_place_lost = on_place_lost;
        self
    }

    /// Waits in line until the lock is ours.
    ///
    /// # Errors
    /// [`Error::PlaceLost`] under [`OnPlaceLost::Fail`], [`Error::Closed`], and what the server refuses. No node
    /// of ours remains.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn acquire(&self) -> Result<LockGuard, Error> {
        self.enqueue().await?.await
    }

    /// Waits in line, but not longer than `limit`.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the time is over: the place is given up in the background. Else as
    /// [`Lock::acquire`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn acquire_within(&self, limit: Duration) -> Result<LockGuard, Error> {
        match tokio::time::timeout(limit, self.acquire()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Timeout(limit)),
        }
    }

    /// Takes the lock if nobody is in line, else `None`. It looks before it creates, so that a busy lock costs
    /// one read and leaves nothing behind.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn try_acquire(&self) -> Result<Option<LockGuard>, Error> {
        let rules = self.rules();
        if !read_line(&self.client, &self.path, &rules).await?.admits(rules.mode()) {
            return Ok(None);
        }
        let (ticket, _place) = self.start(Waiting::No);
        ticket.await
    }

    /// Takes a place in line and returns as soon as the place is certain; the place is then awaited for the
    /// guard.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn enqueue(&self) -> Result<PlaceInLine, Error> {
        let (ticket, mut place) = self.start(Waiting::Yes { on_place_lost: self.on_place_lost });
        // An error of the channel means that the driver has ended: the ticket says how.
        let placed = |state: &PlaceState| matches!(state, PlaceState::InLine { .. } | PlaceState::Granted);
        let certain = place.wait_for(|state| placed(state) || *state == PlaceState::Failed).await;
        let failed = !certain.is_ok_and(|state| placed(&state));
        let place = PlaceInLine { ticket, place };
        // The guard of a failed place does not exist, so nothing is thrown away here.
        if failed { Err(place.await.err().unwrap_or(Error::RuntimeStopped)) } else { Ok(place) }
    }

    /// Everybody in line, the holder first.
    ///
    /// # Errors
    /// What the server refuses, and a connection that does not come back in time.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn contenders(&self) -> Result<Vec<Contender>, Error> {
        contenders(&self.client, &self.path, &self.rules()).await
    }

    /// Everybody in line, now and after each change.
    pub fn watch_contenders(&self) -> Contenders {
        Contenders::new(self.client.clone(), self.path.clone(), self.rules())
    }

    /// Asks one who stands in line, of those that [`Lock::contenders`] lists, to yield: the holder, as a rule. Whoever
    /// holds by a [`LockGuard`] is told by [`LockGuard::asked_to_yield`]; a mutex of Curator's is when it was made
    /// revocable; others do not notice. Returns whether its node was still there. The message takes the place of the
    /// node's data.
    ///
    /// # Errors
    /// What the server refuses, and a connection that does not come back in time.
    ///
    /// # Cancel safety
    /// It may have been asked when the future is dropped.
    pub async fn ask_to_yield(&self, who: &Contender) -> Result<bool, Error> {
        ask_to_yield(&self.client, &self.path, who).await
    }

    /// Starts the task that owns the node.
    fn start(&self, waiting: Waiting) -> (Ticket, watch::Receiver<PlaceState>) {
        let (ticket, stop, granter) = Ticket::new();
        let (place, seen) = watch::channel(PlaceState::Joining);
        let rules = self.rules();
        let driver = Driver {
            client: self.client.clone(),
            plan: Plan { parent: self.path.clone(), rules, data: self.identifier.clone() },
            on_suspend: self.on_suspend,
            waiting,
            stop,
            place,
        };
        tokio::spawn(driver.run(granter));
        (ticket, seen)
    }
}

/// What is known of a place in line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlaceState {
    /// On the way into the line.
    Joining,
    /// In line.
    InLine {
        /// At most so many stand before. Who leaves further ahead is not counted until we come near.
        ahead: usize,
        /// The token that the hold will have.
        token: FencingToken,
    },
    /// The place went, and a new one is being taken.
    Lost {
        /// Why.
        cause: LossCause,
    },
    /// First: the guard is ready.
    Granted,
    /// It failed: awaiting the place tells why.
    Failed,
}

/// A place in line. Await it for the guard; drop it to leave the line.
#[must_use = "dropping the place leaves the line"]
#[derive(Debug)]
pub struct PlaceInLine {
    ticket: Ticket,
    place: watch::Receiver<PlaceState>,
}

impl PlaceInLine {
    /// How many stand before us at most; `None` while there is no place.
    #[must_use]
    pub fn position(&self) -> Option<usize> {
        match *self.place.borrow() {
            PlaceState::InLine { ahead, .. } => Some(ahead),
            PlaceState::Granted => Some(0),
            PlaceState::Joining | PlaceState::Lost { .. } | PlaceState::Failed => None,
        }
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> PlaceState {
        self.place.borrow().clone()
    }

    /// Waits for the next change and returns the state then. Once it is granted or failed nothing changes
    /// any more, and this waits for ever.
    ///
    /// # Cancel safety
    /// Safe: the newest state is not lost.
    pub async fn changed(&mut self) -> PlaceState {
        if self.place.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.place.borrow_and_update().clone()
    }
}

impl IntoFuture for PlaceInLine {
    type Output = Result<LockGuard, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;
    fn into_future(self) -> Self::IntoFuture {
        // A driver that waits never answers "nobody waits": `None` cannot come.
        Box::pin(async move { self.ticket.await?.ok_or(Error::RuntimeStopped) })
    }
}

/// Whether to wait when somebody is first.
#[derive(Clone, Copy, Debug)]
enum Waiting {
    No,
    Yes { on_place_lost: OnPlaceLost },
}

/// The task that owns one place in line, from before it is made until after it is gone.
struct Driver {
    client: Client,
    plan: Plan,
    on_suspend: OnSuspend,
    waiting: Waiting,
    stop: CancellationToken,
    place: watch::Sender<PlaceState>,
}

/// What one session brought.
enum Attempt {
    /// The turn came.
    First(Box<Standing>, SessionRef, LeaseHold),
    /// Somebody is first and waiting is not wanted.
    Busy,
    /// Given up by the owner.
    Stopped,
    PlaceLost(LossCause),
}

impl Driver {
    async fn run(self, granter: Granter) {
        let outcome = self.stand().await;
        match outcome {
            Ok(Attempt::First(mut standing, session, lease)) => {
                let own = standing.own.clone();
                let check = FenceCheck::Exists(own.path.clone());
                let fence = Fence::new(session.clone(), self.on_suspend, &own, check);
                let own_watch = std::mem::take(&mut standing.own_watch);
                let wakes = standing.wakes;
                drop(standing);
                self.place.send_replace(PlaceState::Granted);
                guard::hold_and_remove(
                    &session,
                    Grant { fence, own, own_watch, wakes, reused: false },
                    granter,
                )
                .await;
                drop(lease);
            }
            Ok(Attempt::Busy) => self.end(granter, Ok(None)),
            Ok(Attempt::Stopped) => {}
            Ok(Attempt::PlaceLost(cause)) => self.end(granter, Err(Error::PlaceLost(cause))),
            Err(error) => self.end(granter, Err(error)),
        }
    }

    fn end(&self, granter: Granter, answer: Result<Option<LockGuard>, Error>) {
        self.place.send_replace(PlaceState::Failed);
        // Nobody waits for the answer any more: nothing of ours is left either.
        drop(granter.send(answer));
    }

    /// Stands in line, in one session after another, until the turn comes or it is over.
    async fn stand(&self) -> Result<Attempt, Error> {
        let mut backoff = Backoff::reconnecting();
        loop {
            let attempt = self.attempt().await?;
            let Attempt::PlaceLost(cause) = attempt else { return Ok(attempt) };
            let again = matches!(self.waiting, Waiting::Yes { on_place_lost: OnPlaceLost::StandAgain });
            if !again || cause == LossCause::Closed {
                return Ok(Attempt::PlaceLost(cause));
            }
            tracing::debug!(path = %self.plan.parent, %cause, "place in line lost, standing again");
            self.place.send_replace(PlaceState::Lost { cause });
            // Whoever deletes our places must not meet a loop that makes them as fast as it can.
            tokio::select! {
                () = self.stop.cancelled() => return Ok(Attempt::Stopped),
                () = backoff.wait() => {}
            }
        }
    }

    async fn attempt(&self) -> Result<Attempt, Error> {
        let session = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(Attempt::Stopped),
            session = self.client.session_ready() => session?,
        };
        let lease = session.hold_lease();
        let standing = match Standing::join(&session, &self.plan, &self.stop).await {
            Ok(Some(standing)) => standing,
            Ok(None) => return Ok(Attempt::Stopped),
            Err(Error::SessionEnded(_)) => return Ok(Attempt::PlaceLost(LossCause::SessionEnded)),
            Err(error) => return Err(error),
        };
        if matches!(self.waiting, Waiting::No) && !standing.is_first() {
            standing.leave().await;
            return Ok(Attempt::Busy);
        }
        self.wait(standing, session, lease).await
    }

    async fn wait(
        &self,
        mut standing: Standing,
        session: SessionRef,
        lease: LeaseHold,
    ) -> Result<Attempt, Error> {
        let token = FencingToken::from(standing.own.czxid);
        let turn = standing
            .wait_turn(&self.stop, |ahead| {
                self.place.send_replace(PlaceState::InLine { ahead, token });
            })
            .await;
        let proof = match turn {
            Ok(Turn::First) => guard::lease_proved(&session, &self.stop).await,
            _ => None,
        };
        match (turn, proof) {
            (Ok(Turn::First), None) => Ok(Attempt::First(Box::new(standing), session, lease)),
            (Ok(Turn::Lost(cause)), _) | (Ok(Turn::First), Some(cause)) if !self.stop.is_cancelled() => {
                // Deleted by somebody else or gone with the session: a delete that finds nothing is cheap.
                standing.leave().await;
                Ok(Attempt::PlaceLost(cause))
            }
            (Err(error), _) => {
                standing.leave().await;
                Err(error)
            }
            _ => {
                standing.leave().await;
                Ok(Attempt::Stopped)
            }
        }
    }
}
