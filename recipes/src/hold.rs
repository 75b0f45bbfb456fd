//! What it means to hold something, and until when.
//!
//! A hold is `Valid` until a deadline, `Suspended` while the connection is gone, and `Lost` for ever after. It is
//! tied to one session and never moves to the next. The deadline is the client's lease: counted from when a
//! heartbeat that a server has confirmed was *sent*, so that it lies before the moment at which the server can
//! give the place to somebody else. Nobody has to tell a holder that it lost: its own clock does.
//!
//! [`Fence`] is the handle that working code asks; the private half here is moved by the driver of the recipe.
//! Left out: who makes and deletes the node, see [`crate::guarded`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use docent::{ConnState, SessionId, SessionRef, StateWatch};
use futures::FutureExt;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{HoldError, LossCause};
use crate::guarded::OwnNode;
use crate::token::FencingToken;
use crate::txn::GuardedTxn;

/// What a holder does while the connection is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnSuspend {
    /// Go on until the proven lease ends. A short blip costs nothing, and nobody else can hold meanwhile.
    #[default]
    KeepUntilLease,
    /// Stop at once, and begin again when the node is seen to be still ours.
    StopAtOnce,
}

/// The state of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HoldState {
    /// Ours, at least until the deadline; each confirmed heartbeat moves it on.
    Valid {
        /// The end of the proven lease.
        until: Instant,
    },
    /// The connection is gone. Still ours until the deadline.
    Suspended {
        /// When it was noticed.
        since: Instant,
        /// The end of the proven lease.
        until: Instant,
    },
    /// Over. It never comes back.
    Lost {
        /// Why.
        cause: LossCause,
    },
}

/// What the driver knows; the deadline is added when somebody asks.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Valid,
    Suspended { since: Instant },
    Lost(LossCause),
}

/// Which check makes a write inside ZooKeeper depend on the hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FenceCheck {
    /// The node exists; its name is never used again.
    Exists(String),
    /// The epoch node has still the version that we gave it.
    Version(String, i32),
    /// There is none.
    Unfenced,
}

#[derive(Debug)]
struct Shared {
    session: SessionRef,
    on_suspend: OnSuspend,
    /// Under [`OnSuspend::StopAtOnce`]: a suspension is the end and not a pause. So it is for a leader, who gets a
    /// new hold when it leads again.
    ends_on_suspend: bool,
    token: FencingToken,
    path: String,
    check: FenceCheck,
    phase: watch::Sender<Phase>,
    cancel: CancellationToken,
    /// Somebody wants the place.
    asked: watch::Sender<bool>,
}

/// A view of one hold, for the code that works under it. Cheap to clone; it does not keep the hold.
#[derive(Clone, Debug)]
pub struct Fence {
    shared: Arc<Shared>,
}

impl Fence {
    pub(crate) fn new(session: SessionRef, on_suspend: OnSuspend, own: &OwnNode, check: FenceCheck) -> Fence {
        let token = match &check {
            FenceCheck::Version(_, version) => FencingToken::new(u64::from(version.unsigned_abs())),
            FenceCheck::Exists(_) | FenceCheck::Unfenced => own.czxid.into(),
        };
        Fence::make(session, on_suspend, false, token, own, check)
    }

    /// A hold that goes on where an earlier one was: with its token, and on a younger node.
    pub(crate) fn continued(before: &Fence, own: &OwnNode) -> Fence {
        let Shared { session, on_suspend, .. } = &*before.shared;
        let check = FenceCheck::Exists(own.path.clone());
        Fence::make(session.clone(), *on_suspend, false, before.token(), own, check)
    }

    /// A hold that ends with the first suspension, when the policy is to stop at once.
    pub(crate) fn for_tenure(session: SessionRef, on_suspend: OnSuspend, own: &OwnNode) -> Fence {
        let check = FenceCheck::Exists(own.path.clone());
        let ends_on_suspend = on_suspend == OnSuspend::StopAtOnce;
        Fence::make(session, on_suspend, ends_on_suspend, own.czxid.into(), own, check)
    }

    fn make(
        session: SessionRef,
        on_suspend: OnSuspend,
        ends_on_suspend: bool,
        token: FencingToken,
        own: &OwnNode,
        check: FenceCheck,
    ) -> Fence {
        let phase = watch::Sender::new(Phase::Valid);
        let (path, cancel) = (own.path.clone(), CancellationToken::new());
        let asked = watch::Sender::new(false);
        let shared =
            Shared { session, on_suspend, ends_on_suspend, token, path, check, phase, cancel, asked };
        Fence { shared: Arc::new(shared) }
    }

    /// A number that is higher than every earlier holder's: give it to the resource with each request.
    #[must_use]
    pub fn token(&self) -> FencingToken {
        self.shared.token
    }

    /// The node that stands for the hold.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.shared.path
    }

    /// The session it is tied to.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.shared.session.id()
    }

    /// Whether it may be relied on right now. Cheap: put it before each side effect.
    ///
    /// # Errors
    /// [`HoldError::Lost`] from the end of the lease on, and [`HoldError::Suspended`] while disconnected under
    /// [`OnSuspend::StopAtOnce`].
    pub fn check(&self) -> Result<(), HoldError> {
        self.check_at(Duration::ZERO)
    }

    /// Whether it will still be valid after `span`, as far as is proved now: ask before work that takes as long.
    #[must_use]
    pub fn valid_for(&self, span: Duration) -> bool {
        self.check_at(span).is_ok()
    }

    fn check_at(&self, span: Duration) -> Result<(), HoldError> {
        let phase = self.shared.phase.borrow().clone();
        if let Phase::Lost(cause) = phase {
            return Err(HoldError::Lost(cause));
        }
        if let Some(cause) = self.expired() {
            self.lose(cause);
            return self.check_at(span);
        }
        if self.shared.on_suspend == OnSuspend::StopAtOnce {
            let connected = matches!(self.fate(&self.shared.session.state().current()), Fate::Connected);
            if !connected || phase != Phase::Valid {
                return Err(HoldError::Suspended);
            }
        }
        let enough = span.is_zero() || Instant::now() + span <= self.shared.session.lease().until;
        if enough { Ok(()) } else { Err(HoldError::Lost(LossCause::LeaseEnded)) }
    }

    /// Completes when the hold may no longer be relied on, at the latest at the end of the lease.
    ///
    /// # Cancel safety
    /// Safe: the loss is a state, not an event.
    pub fn lost(&self) -> impl Future<Output = LossCause> + Send + 'static {
        let mut phase = self.shared.phase.subscribe();
        let shared = Arc::clone(&self.shared);
        async move {
            let lost = phase.wait_for(|phase| matches!(phase, Phase::Lost(_))).await;
            let cause = match lost.as_deref() {
                Ok(Phase::Lost(cause)) => cause.clone(),
                _ => LossCause::RuntimeStopped,
            };
            drop(lost);
            drop(shared);
            cause
        }
    }

    /// Completes when the connection is gone or the hold is lost.
    ///
    /// # Cancel safety
    /// Safe.
    pub fn suspended(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut phase = self.shared.phase.subscribe();
        let shared = Arc::clone(&self.shared);
        async move {
            // An error means that the hold itself is gone, which is what is waited for.
            let _ = phase.wait_for(|phase| *phase != Phase::Valid).await;
            drop(shared);
        }
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> HoldState {
        // Asking also notices the end of a lease that no timer has seen yet.
        let _ = self.check();
        let phase = self.shared.phase.borrow().clone();
        let until = self.shared.session.lease().until;
        match phase {
            Phase::Valid => HoldState::Valid { until },
            Phase::Suspended { since } => HoldState::Suspended { since, until },
            Phase::Lost(cause) => HoldState::Lost { cause },
        }
    }

    /// A view of the state that can be waited on.
    #[must_use]
    pub fn watch(&self) -> HoldWatch {
        HoldWatch { fence: self.clone(), phase: self.shared.phase.subscribe() }
    }

    /// Cancelled when the work must stop: at the loss, under [`OnSuspend::StopAtOnce`] already when the
    /// connection is gone.
    #[must_use]
    pub fn cancel_token(&self) -> CancellationToken {
        self.shared.cancel.clone()
    }

    /// Completes when somebody asks for the place, and also when the hold is over; see
    /// [`LockGuard::asked_to_yield`](crate::LockGuard::asked_to_yield).
    ///
    /// # Cancel safety
    /// Safe.
    pub fn asked_to_yield(&self) -> impl Future<Output = ()> + Send + 'static {
        let (mut asked, lost) = (self.shared.asked.subscribe(), self.lost());
        async move {
            tokio::select! {
                // An error means that the hold itself is gone.
                _ = asked.wait_for(|asked| *asked) => {}
                _ = lost => {}
            }
        }
    }

    /// Whether somebody has asked for the place.
    #[must_use]
    pub fn is_asked_to_yield(&self) -> bool {
        *self.shared.asked.borrow()
    }

    /// Tells that the own node's data asks for the place.
    pub(crate) fn ask_to_yield(&self) {
        self.shared.asked.send_if_modified(|asked| !std::mem::replace(asked, true));
    }

    /// Writes that are applied only if the hold is still ours when the server gets to them, in this session only.
    pub fn txn(&self) -> GuardedTxn {
        GuardedTxn::new(vec![self.clone()])
    }

    pub(crate) fn session_ref(&self) -> &SessionRef {
        &self.shared.session
    }

    /// Under [`OnSuspend::StopAtOnce`]: whether a suspension is the end.
    pub(crate) fn ends_on_suspend(&self) -> bool {
        self.shared.ends_on_suspend
    }

    pub(crate) fn fence_check(&self) -> &FenceCheck {
        &self.shared.check
    }

    /// Ends the hold. The first cause stays. Whoever sees the loss sees the token cancelled, and the other way round.
    pub(crate) fn lose(&self, cause: LossCause) {
        self.shared.phase.send_if_modified(|phase| {
            if matches!(phase, Phase::Lost(_)) {
                return false;
            }
            tracing::debug!(path = %self.shared.path, %cause, "hold ended");
            *phase = Phase::Lost(cause);
            self.shared.cancel.cancel();
            true
        });
    }

    pub(crate) fn suspend(&self, since: Instant) {
        self.shared.phase.send_if_modified(|phase| {
            let was_valid = *phase == Phase::Valid;
            if was_valid {
                *phase = Phase::Suspended { since };
            }
            was_valid
        });
        if self.shared.on_suspend == OnSuspend::StopAtOnce {
            self.shared.cancel.cancel();
        }
    }

    pub(crate) fn resume(&self) {
        self.shared.phase.send_if_modified(|phase| {
            let was_suspended = matches!(phase, Phase::Suspended { .. });
            if was_suspended {
                *phase = Phase::Valid;
            }
            was_suspended
        });
    }

    /// Whether the proven lease of our session is over.
    pub(crate) fn expired(&self) -> Option<LossCause> {
        let lease = self.shared.session.lease();
        if lease.session != self.shared.session.id() {
            // The state is told before the lease goes.
            return Some(match self.fate(&self.shared.session.state().current()) {
                Fate::Ended(cause) => cause,
                Fate::Connected | Fate::Suspended { .. } => LossCause::SessionEnded,
            });
        }
        if lease.is_valid() { None } else { Some(LossCause::LeaseEnded) }
    }

    pub(crate) fn fate(&self, state: &ConnState) -> Fate {
        fate(state, self.shared.session.id())
    }
}

/// A latest-value view of a hold's state: the newest state is never missed, older ones may be.
#[derive(Clone, Debug)]
pub struct HoldWatch {
    fence: Fence,
    phase: watch::Receiver<Phase>,
}

impl HoldWatch {
    /// The state now.
    #[must_use]
    pub fn current(&self) -> HoldState {
        self.fence.state()
    }

    /// Waits for the next change and returns the state then. A new deadline alone is no change.
    ///
    /// # Cancel safety
    /// Safe: no change is lost.
    pub async fn changed(&mut self) -> HoldState {
        if self.phase.changed().await.is_err() {
            self.fence.lose(LossCause::RuntimeStopped);
        }
        self.fence.state()
    }
}

/// What a connection state means for one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Connected,
    Suspended { since: Instant },
    Ended(LossCause),
}

/// A view of the connection state for one who follows a session, and the state now, which counts as seen.
pub(crate) fn states(session: &SessionRef) -> (StateWatch, ConnState) {
    let mut state = session.state();
    let now = state.changed().now_or_never();
    let now = now.unwrap_or_else(|| state.current());
    (state, now)
}

pub(crate) fn fate(state: &ConnState, mine: SessionId) -> Fate {
    match state {
        ConnState::Connected { session, .. } | ConnState::ReadOnly { session, .. } if *session == mine => {
            Fate::Connected
        }
        ConnState::Suspended { session, since, .. } if *session == mine => Fate::Suspended { since: *since },
        ConnState::Closed { .. } => Fate::Ended(LossCause::Closed),
        _ => Fate::Ended(LossCause::SessionEnded),
    }
}
