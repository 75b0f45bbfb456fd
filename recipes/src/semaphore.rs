//! The semaphore: at most so many hold at once.

use std::time::Duration;

use bytes::Bytes;
use docent::{Client, ErrorCode, LeaseHold, OneshotWatch, SessionRef, path};
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::contender_watch::ask_to_yield;
use crate::contenders::{Contender, seated};
use crate::error::{Error, LossCause};
use crate::guard::{self, Grant, Granter, LockGuard, Ticket};
use crate::guard_set::GuardSet;
use crate::guarded::{self, OwnNode};
use crate::hold::{self, Fate, Fence, FenceCheck, OnSuspend};
use crate::keeper::{OwnWatch, or_pending};
use crate::lease::Leases;
use crate::line::{Layout, Seat};
use crate::lock::{Lock, OnPlaceLost};
use crate::permit_count::PermitCount;

/// How many permits may be taken together: each is a node, and all are made at once.
const TOGETHER_MAX: u32 = 1024;

/// A semaphore. Cheap to clone; nothing is sent before one of its verbs.
///
/// **Connected**, a permit is yours; `check` costs no round trip. **Suspended**, it is still yours until the end of the
/// proven lease ([`OnSuspend::StopAtOnce`] is stricter). **Lost**, it is over: at the lease end, by the server's word, or
/// when somebody deleted the node. Every permit is a [`LockGuard`] of its own and has everything that one has.
///
/// **Token:** the czxid of the permit's node. It tells permits apart and rises with them; but several hold at once, so a
/// resource that refuses lower tokens would refuse rightful holders. What a semaphore protects must bear a holder too many
/// for the time in which a paused process does not know that it lost its permit.
///
/// **Dropped:** a future that is dropped leaves the line and gives back what it has taken; a permit that is dropped is
/// given back. Both happen in the background, in a task that owns the nodes and does not end before they are gone.
///
/// **How many:** [`Semaphore::permits`], a number on which all programs agree, or [`Semaphore::shared_count`], a node that
/// says it and can be changed with [`Semaphore::resize`]. More permits let waiters in at once. Fewer take nothing away:
/// who holds goes on, and who waits waits until enough have left.
///
/// **Layout:** Curator's `InterProcessSemaphoreV2`: `<path>/locks` and `<path>/leases`, the number by convention or in a
/// `SharedCount`. With [`Layout::Kazoo`] kazoo's `Semaphore`: `<path>`, whose data is the number, and `<path>-__lock__`.
/// The two do not see each other: choose one for each path.
///
/// **Cost:** who wants a permit stands in the line of an ordered lock, and only the first of the line looks at the
/// leases: nobody else is woken when one is given back. A free permit takes two round trips, three with a shared count. A
/// waiter keeps the two watches of the ordered lock; the first of the line keeps one on its place, one on the leases, and
/// with a shared count one on that. A holder keeps one watch per permit.
///
/// ```no_run
/// # use docent_recipes::Recipes;
/// # async fn example(zk: docent::Client) -> Result<(), docent_recipes::Error> {
/// let pool = zk.semaphore("/pool/gpu").permits(8).shared_count("/pool/gpu-size");
/// let one = pool.acquire().await?;
/// let two = pool.acquire_many(2).await?;
/// one.check()?;
/// two.check()?;
/// pool.resize(12).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a semaphore does nothing before a permit is acquired"]
pub struct Semaphore {
    client: Client,
    path: String,
    permits: u32,
    shared: Option<String>,
    layout: Layout,
    identifier: Bytes,
    on_suspend: OnSuspend,
    on_place_lost: OnPlaceLost,
}

impl Semaphore {
    pub(crate) fn new(client: Client, path: String) -> Semaphore {
        Semaphore {
            client,
            path,
            permits: 1,
            shared: None,
            layout: Layout::default(),
            identifier: Bytes::new(),
            on_suspend: OnSuspend::default(),
            on_place_lost: OnPlaceLost::default(),
        }
    }

    /// How many permits there are. All programs must say the same: in Curator's layout nobody checks it, in kazoo's the
    /// first one writes it down and others are refused. Default: 1.
    pub fn permits(mut self, permits: u32) -> Semaphore {
        self.permits = permits;
        self
    }

    /// Lets the node at `path` say how many permits there are, in the format of Curator's `SharedCount`. When it is not
    /// there it is made, with the number of [`Semaphore::permits`]. Without effect in kazoo's layout, which has a node of
    /// its own for it.
    pub fn shared_count(mut self, path: impl Into<String>) -> Semaphore {
        self.shared = Some(path.into());
        self
    }

    /// The nodes to use, and by that with which other programs the permits are shared. Default: [`Layout::Curator`].
    pub fn layout(mut self, layout: Layout) -> Semaphore {
        self.layout = layout;
        self
    }

    /// The data of our nodes, for people and for [`Semaphore::holders`]. Default: empty.
    pub fn identifier(mut self, identifier: impl Into<Bytes>) -> Semaphore {
        self.identifier = identifier.into();
        self
    }

    /// What a holder does while disconnected. Default: [`OnSuspend::KeepUntilLease`].
    pub fn on_suspend(mut self, on_suspend: OnSuspend) -> Semaphore {
        self.on_suspend = on_suspend;
        self
    }

    /// What a waiter does when its place is lost. Default: [`OnPlaceLost::StandAgain`].
    pub fn on_place_lost(mut self, on_place_lost: OnPlaceLost) -> Semaphore {
        self.on_place_lost = on_place_lost;
        self
    }

    /// Waits for a permit.
    ///
    /// # Errors
    /// As [`Semaphore::acquire_many`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn acquire(&self) -> Result<LockGuard, Error> {
        self.acquire_many(1).await.and_then(only_one)
    }

    /// Waits for several permits, which are taken together: nobody can take some of them meanwhile, so two who want many
    /// do not wait for each other.
    ///
    /// # Errors
    /// [`Error::TooManyPermits`] for more than can ever be had (with a shared count that is 1,024),
    /// [`Error::PermitsDiffer`] in kazoo's layout, [`Error::Invalid`] for a shared count that is none,
    /// [`Error::PlaceLost`] under [`OnPlaceLost::Fail`], [`Error::Closed`], and what the server refuses. No node of ours
    /// remains.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line and gives back what was taken.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn acquire_many(&self, permits: u32) -> Result<GuardSet, Error> {
        // One who waits is never told that the semaphore is busy: `None` cannot come.
        self.start(permits, true)?.await?.ok_or(Error::RuntimeStopped)
    }

    /// Waits for a permit, but not longer than `limit`.
    ///
    /// # Errors
    /// As [`Semaphore::acquire_many_within`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn acquire_within(&self, limit: Duration) -> Result<LockGuard, Error> {
        self.acquire_many_within(1, limit).await.and_then(only_one)
    }

    /// Waits for several permits, but not longer than `limit`.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the time is over: what was begun is taken back in the background. Else as
    /// [`Semaphore::acquire_many`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line and gives back what was taken.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn acquire_many_within(&self, permits: u32, limit: Duration) -> Result<GuardSet, Error> {
        match tokio::time::timeout(limit, self.acquire_many(permits)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Timeout(limit)),
        }
    }

    /// Takes a permit if one is free, else `None`; see [`Semaphore::try_acquire_many`].
    ///
    /// # Errors
    /// As [`Semaphore::acquire_many`].
    ///
    /// # Cancel safety
    /// Dropping the future gives back what was taken.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn try_acquire(&self) -> Result<Option<LockGuard>, Error> {
        self.try_acquire_many(1).await?.map(only_one).transpose()
    }

    /// Takes several permits if they are free, else `None`. It looks before it creates, so that a busy semaphore costs
    /// one read and leaves nothing behind. `None` also comes when somebody else is taking a permit at this moment: it does
    /// not wait for others.
    ///
    /// # Errors
    /// As [`Semaphore::acquire_many`].
    ///
    /// # Cancel safety
    /// Dropping the future gives back what was taken.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn try_acquire_many(&self, permits: u32) -> Result<Option<GuardSet>, Error> {
        self.start(permits, false)?.await
    }

    /// Changes how many permits there are, where a node says it: with [`Semaphore::shared_count`], and in kazoo's layout,
    /// where programs with the old number are refused from then on. Who holds goes on.
    ///
    /// # Errors
    /// [`Error::FixedPermits`] when no node says it; [`Error::Ambiguous`] when the reply was lost; what the server
    /// refuses.
    ///
    /// # Cancel safety
    /// The number may have been changed when the future is dropped.
    pub async fn resize(&self, permits: u32) -> Result<(), Error> {
        self.count().store(&self.client.session_ready().await?, permits).await
    }

    /// How many permits there are now.
    ///
    /// # Errors
    /// What the server refuses, and a connection that does not come back in time.
    ///
    /// # Cancel safety
    /// Safe; the node that says it may have been made.
    pub async fn permits_now(&self) -> Result<u32, Error> {
        self.count().read(&self.client.session_ready().await?).await
    }

    /// Who has a permit, one entry for each. The first in line is among them: its node is there before it may hold.
    ///
    /// # Errors
    /// What the server refuses, and a connection that does not come back in time.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn holders(&self) -> Result<Vec<Contender>, Error> {
        let leases = self.leases();
        match self.client.get_children(&leases.parent).await {
            Ok(children) => seated(&self.client, &leases.parent, &leases.among(children.names)).await,
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks one of [`Semaphore::holders`] to give its permit back, see [`Lock::ask_to_yield`]. Curator's and kazoo's
    /// semaphores do not notice.
    ///
    /// # Errors
    /// As [`Lock::ask_to_yield`].
    ///
    /// # Cancel safety
    /// It may have been asked when the future is dropped.
    pub async fn ask_to_yield(&self, who: &Contender) -> Result<bool, Error> {
        ask_to_yield(&self.client, &self.leases().parent, who).await
    }

    fn count(&self) -> PermitCount {
        match (self.layout, &self.shared) {
            (Layout::Kazoo, _) => PermitCount::Text { path: self.path.clone(), given: self.permits },
            (Layout::Curator, Some(path)) => PermitCount::Shared { path: path.clone(), seed: self.permits },
            (Layout::Curator, None) => PermitCount::Fixed(self.permits),
        }
    }

    fn leases(&self) -> Leases {
        let parent = match self.layout {
            Layout::Curator => path::join(&self.path, "leases"),
            Layout::Kazoo => self.path.clone(),
        };
        Leases { parent, layout: self.layout, data: self.identifier.clone() }
    }

    /// The line of those who want permits.
    fn line(&self) -> Lock {
        let path = match self.layout {
            Layout::Curator => path::join(&self.path, "locks"),
            Layout::Kazoo => format!("{}-__lock__", self.path),
        };
        let line = Lock::new(self.client.clone(), path).layout(self.layout);
        line.identifier(self.identifier.clone()).on_place_lost(self.on_place_lost)
    }

    /// Starts the task that owns the nodes.
    fn start(&self, wanted: u32, wait: bool) -> Result<Ticket<GuardSet>, Error> {
        let count = self.count();
        let permits = count.bound().unwrap_or(TOGETHER_MAX).min(TOGETHER_MAX);
        if wanted > permits {
            return Err(Error::TooManyPermits { wanted, permits });
        }
        let (ticket, stop, granter) = Ticket::new();
        let driver = Driver {
            client: self.client.clone(),
            line: self.line(),
            leases: self.leases(),
            count,
            wanted,
            wait,
            on_suspend: self.on_suspend,
            on_place_lost: self.on_place_lost,
            stop,
        };
        tokio::spawn(driver.run(granter));
        Ok(ticket)
    }
}

fn only_one(set: GuardSet) -> Result<LockGuard, Error> {
    // A set is as large as was asked for.
    set.into_guards().pop().ok_or(Error::RuntimeStopped)
}

/// The task that owns the leases of one acquire, from before they are laid until after they are gone.
struct Driver {
    client: Client,
    line: Lock,
    leases: Leases,
    count: PermitCount,
    wanted: u32,
    wait: bool,
    on_suspend: OnSuspend,
    on_place_lost: OnPlaceLost,
    stop: CancellationToken,
}

/// What one session brought.
enum Attempt {
    Held { session: SessionRef, own: Vec<OwnNode>, lease: LeaseHold },
    Busy,
    Stopped,
    PlaceLost(LossCause),
}

/// What became of the leases that were laid.
enum Counted {
    /// All of them count.
    In,
    Busy,
    Stopped,
    Lost(LossCause),
}

impl Driver {
    async fn run(self, granter: Granter<GuardSet>) {
        let answer = match self.stand().await {
            Ok(Attempt::Held { session, own, lease }) => {
                self.hold(&session, own, granter).await;
                drop(lease);
                return;
            }
            Ok(Attempt::Busy) => Ok(None),
            Ok(Attempt::Stopped) => return,
            Ok(Attempt::PlaceLost(LossCause::Closed)) => Err(Error::Closed),
            Ok(Attempt::PlaceLost(cause)) => Err(Error::PlaceLost(cause)),
            Err(error) => Err(error),
        };
        // Nobody waits for the answer any more: nothing of ours is left either.
        drop(granter.send(answer));
    }

    async fn hold(&self, session: &SessionRef, own: Vec<OwnNode>, granter: Granter<GuardSet>) {
        let begun = own.into_iter().map(|own| {
            let check = FenceCheck::Exists(own.path.clone());
            let fence = Fence::new(session.clone(), self.on_suspend, &own, check);
            guard::begin(
                session,
                Grant { fence, own, own_watch: OwnWatch::default(), wakes: 0, reused: false },
            )
        });
        let (guards, keeping): (Vec<_>, Vec<_>) = begun.unzip();
        // Nobody there to take them: they come back, and their drop stops the holds.
        drop(granter.send(Ok(Some(GuardSet::new(guards)))));
        join_all(keeping).await;
    }

    /// Stands in line, in one session after another, until the permits are ours or it is over.
    async fn stand(&self) -> Result<Attempt, Error> {
        let mut backoff = Backoff::reconnecting();
        loop {
            let cause = match self.attempt().await {
                Ok(Attempt::PlaceLost(cause)) | Err(Error::PlaceLost(cause)) => cause,
                Err(Error::SessionEnded(_)) => LossCause::SessionEnded,
                outcome => return outcome,
            };
            let again = self.wait && self.on_place_lost == OnPlaceLost::StandAgain;
            if !again || cause == LossCause::Closed {
                return Ok(Attempt::PlaceLost(cause));
            }
            tracing::debug!(path = %self.leases.parent, %cause, "place in line lost, standing again");
            // Whoever deletes our nodes must not meet a loop that makes them as fast as it can.
            tokio::select! {
                () = self.stop.cancelled() => return Ok(Attempt::Stopped),
                () = backoff.wait() => {}
            }
        }
    }

    async fn attempt(&self) -> Result<Attempt, Error> {
        let place = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(Attempt::Stopped),
            // Nothing but reads and the line's own task is dropped with it.
            place = self.first_in_line() => place?,
        };
        let Some(place) = place else { return Ok(Attempt::Busy) };
        let session = place.fence().session_ref().clone();
        let lease = session.hold_lease();
        let mut own = Vec::new();
        let counted = self.lay_and_wait(&session, &place, &mut own).await;
        if !matches!(counted, Ok(Counted::In)) {
            // The leases before the place: whoever is next in line must not count them.
            join_all(own.iter().map(|own| guarded::remove(&session, own))).await;
        }
        drop(place);
        Ok(match counted? {
            Counted::In => Attempt::Held { session, own, lease },
            Counted::Busy => Attempt::Busy,
            Counted::Stopped => Attempt::Stopped,
            Counted::Lost(cause) => Attempt::PlaceLost(cause),
        })
    }

    /// Waits to be the one who may lay leases. `None` when that is somebody else or no permit is free, and waiting is
    /// not wanted.
    async fn first_in_line(&self) -> Result<Option<LockGuard>, Error> {
        let session = self.client.session_ready().await?;
        self.count.agree(&session).await?;
        if self.wait {
            return self.line.acquire().await.map(Some);
        }
        let taken = match session.get_children(&self.leases.parent).await {
            Ok(children) => self.leases.among(children.names).len(),
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => 0,
            Err(error) => return Err(error.into()),
        };
        if !fits(taken + self.wanted as usize, self.count.read(&session).await?) {
            return Ok(None);
        }
        self.line.try_acquire().await
    }

    /// Lays the leases and waits until they count. What was laid is in `own`, whatever the outcome.
    async fn lay_and_wait(
        &self,
        session: &SessionRef,
        place: &LockGuard,
        own: &mut Vec<OwnNode>,
    ) -> Result<Counted, Error> {
        let laying = (0..self.wanted).map(|_| self.leases.lay(session, &self.count, &self.stop));
        let (mut error, mut newest) = (None, Vec::new());
        for laid in join_all(laying).await {
            match laid {
                Ok(Some(laid)) => {
                    own.push(laid.own);
                    newest = laid.all;
                }
                Ok(None) => {}
                Err(refused) => error = Some(refused),
            }
        }
        if let Some(error) = error {
            return Err(error);
        }
        if self.stop.is_cancelled() {
            return Ok(Counted::Stopped);
        }
        // Replies come in order, so the last list shows all of ours, unless a create had to be sent again.
        let at_once = all_there(own, &newest) && fits(newest.len(), self.count.read(session).await?);
        let counted = if at_once { Counted::In } else { self.wait_until_in(session, place, own).await? };
        match counted {
            Counted::In => Ok(match guard::lease_proved(session, &self.stop).await {
                None => Counted::In,
                Some(_) if self.stop.is_cancelled() => Counted::Stopped,
                Some(cause) => Counted::Lost(cause),
            }),
            other => Ok(other),
        }
    }

    /// Waits until there are as many permits as leases. Only the first in line does this.
    async fn wait_until_in(
        &self,
        session: &SessionRef,
        place: &LockGuard,
        own: &[OwnNode],
    ) -> Result<Counted, Error> {
        let (mut state, _) = hold::states(session);
        loop {
            let looked = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(Counted::Stopped),
                looked = self.look(session) => looked?,
            };
            let Looked { leases, permits, mut leases_changed, mut permits_changed } = looked;
            if !all_there(own, &leases) {
                return Ok(Counted::Lost(LossCause::NodeDeleted));
            }
            if fits(leases.len(), permits) {
                return Ok(Counted::In);
            }
            if !self.wait {
                return Ok(Counted::Busy);
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(Counted::Stopped),
                // Without the place somebody else lays leases, and both would wait for the other's to go.
                cause = place.lost() => return Ok(Counted::Lost(cause)),
                // Whatever it was, the next look tells.
                _ = or_pending(&mut leases_changed) => {}
                _ = or_pending(&mut permits_changed) => {}
                now = state.changed() => if let Fate::Ended(cause) = hold::fate(&now, session.id()) {
                    return Ok(Counted::Lost(cause));
                }
            }
        }
    }

    /// Reads leases and permits, and arms the watches.
    async fn look(&self, session: &SessionRef) -> Result<Looked, Error> {
        let (leases, leases_changed) = self.leases.list_and_watch(session).await?;
        let counted = self.count.read_and_watch(session).await?;
        let leases_changed = Some(leases_changed);
        Ok(Looked { leases, permits: counted.permits, leases_changed, permits_changed: counted.changed })
    }
}

struct Looked {
    leases: Vec<Seat>,
    permits: u32,
    leases_changed: Option<OneshotWatch>,
    permits_changed: Option<OneshotWatch>,
}

/// Whether so many leases may all be held.
fn fits(leases: usize, permits: u32) -> bool {
    u32::try_from(leases).is_ok_and(|leases| leases <= permits)
}

/// Whether our own leases are among those that were listed.
fn all_there(own: &[OwnNode], leases: &[Seat]) -> bool {
    own.iter().all(|own| leases.iter().any(|lease| lease.name == own.name()))
}
