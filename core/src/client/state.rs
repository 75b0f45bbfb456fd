//! The connection state: a latest-value channel, so that the newest state is never missed and none queues up.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::Stream;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::Error;
use crate::SessionId;

/// What the client knows about its session. Only these steps happen: Connecting → Connected; Connected ↔
/// Suspended; Suspended → Lost; Lost → Connected (in a new session); anything → Closed. `ReadOnly` takes the
/// place of `Connected` while only a server without quorum can be reached.
///
/// The deadline in a state is the one at the moment of the change; [`Client::lease`](super::Client::lease) has
/// the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnState {
    /// There was no session yet.
    Connecting,
    /// A server answers, the session lives.
    Connected {
        /// The session.
        session: SessionId,
        /// Until when no other can have taken the session for dead.
        lease: Instant,
    },
    /// A server answers that has no quorum: reads work and may be old, writes are refused.
    ReadOnly {
        /// The session.
        session: SessionId,
        /// Until when no other can have taken the session for dead.
        lease: Instant,
    },
    /// The connection broke. The session may live or may have ended.
    Suspended {
        /// The session.
        session: SessionId,
        /// When the connection broke.
        since: Instant,
        /// Until when no other can have taken the session for dead.
        lease: Instant,
    },
    /// The session has ended. The client is making a new one, unless renewal is switched off.
    Lost {
        /// The session that ended.
        session: SessionId,
        /// Why.
        cause: LossCause,
    },
    /// The client has ended.
    Closed {
        /// Why.
        cause: CloseCause,
    },
}

impl ConnState {
    /// Whether a server with a quorum answers.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self, ConnState::Connected { .. })
    }

    /// The session that may be alive; `None` before the first, after a loss and after the end.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match self {
            ConnState::Connected { session, .. }
            | ConnState::ReadOnly { session, .. }
            | ConnState::Suspended { session, .. } => Some(*session),
            _ => None,
        }
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LossCause {
    /// A server said that the session is not valid any more.
    Expired,
    /// A server gave another session than the one asked for, so the old one is not known there.
    DifferentSession,
    /// No server confirmed the session up to the end of its lease. The client itself keeps trying then, since
    /// the session may still live; what guards something by the lease reports this cause.
    LeaseEnded,
    /// The credentials were refused.
    AuthFailed,
    /// The client was closed.
    Closed,
    /// Every server is behind what the client has seen.
    EnsembleWentBack,
}

/// Why a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseCause {
    /// `close` was called, or the last handle was dropped.
    Closed,
    /// The credentials were refused.
    AuthFailed,
    /// Every server is behind what the client has seen.
    EnsembleWentBack,
    /// The session ended and renewal is switched off.
    SessionEnded,
    /// The runtime that the client lived in was shut down.
    RuntimeGone,
}

impl CloseCause {
    /// The error of a request that meets a client that ended so.
    pub(super) fn error(self) -> Error {
        match self {
            CloseCause::AuthFailed => Error::AuthFailed,
            CloseCause::EnsembleWentBack => Error::EnsembleWentBack,
            CloseCause::Closed | CloseCause::SessionEnded | CloseCause::RuntimeGone => Error::Closed,
        }
    }
}

/// A receiver of the latest connection state. It does not keep the client alive. Also a `Stream` of the changes.
pub struct StateWatch {
    receiver: watch::Receiver<ConnState>,
    /// Used by the stream only, through `get_mut`: the mutex is never locked, it makes the type `Sync`.
    waiting: Mutex<Option<BoxFuture<'static, watch::Receiver<ConnState>>>>,
}

impl StateWatch {
    pub(super) fn new(receiver: watch::Receiver<ConnState>) -> Self {
        StateWatch { receiver, waiting: Mutex::new(None) }
    }

    /// The state now. [`StateWatch::changed`] may return it once more.
    #[must_use]
    pub fn current(&self) -> ConnState {
        *self.receiver.borrow()
    }

    /// Waits for a state that was not seen yet and returns the newest. After the client has ended it waits for
    /// ever once its last state was seen, since nothing changes any more.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn changed(&mut self) -> ConnState {
        if self.receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        *self.receiver.borrow_and_update()
    }

    /// Waits until the newest state satisfies `wanted`; `None` when the client ended before.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&ConnState) -> bool) -> Option<ConnState> {
        self.receiver.wait_for(|state| wanted(state)).await.ok().map(|state| *state)
    }
}

impl Clone for StateWatch {
    fn clone(&self) -> Self {
        StateWatch::new(self.receiver.clone())
    }
}

impl std::fmt::Debug for StateWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("StateWatch").field(&self.current()).finish()
    }
}

/// Each item is the newest state at that time; the stream ends after the client has.
impl Stream for StateWatch {
    type Item = ConnState;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ConnState>> {
        let this = &mut *self;
        let slot = this.waiting.get_mut().unwrap_or_else(PoisonError::into_inner);
        if this.receiver.has_changed().unwrap_or(false) {
            *slot = None;
            return Poll::Ready(Some(*this.receiver.borrow_and_update()));
        }
        if matches!(*this.receiver.borrow(), ConnState::Closed { .. }) {
            return Poll::Ready(None);
        }
        let receiver = &this.receiver;
        let waiting = slot.get_or_insert_with(|| {
            let mut receiver = receiver.clone();
            Box::pin(async move {
                let _ended = receiver.changed().await;
                receiver
            })
        });
        match waiting.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(receiver) => {
                *slot = None;
                this.receiver = receiver;
                Poll::Ready(Some(*this.receiver.borrow_and_update()))
            }
        }
    }
}
