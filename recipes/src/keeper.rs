//! Keeping a hold: the driver's side of it, until its owner stops or it is lost.
//!
//! Three things are followed: the connection state, the end of the lease, and the own node. The own node is watched
//! because an administrator, or a program that breaks the layout, can delete it while the session is well. After each
//! disconnection it is read again in the same session before the hold counts as valid.

use std::future::Future;
use std::time::Duration;

use docent::{ConnState, ErrorCode, NodeData, OneshotWatch, Reply, StateWatch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::error::LossCause;
use crate::guarded::OwnNode;
use crate::hold::{Fate, Fence, states};

/// How the driver's part of a hold ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HoldEnd {
    /// The owner is done with it.
    Stopped,
    /// It was lost while the owner still had it.
    Lost(LossCause),
}

/// How often the lease is looked at even when its end is far: a machine that slept has a monotonic clock that
/// stood still, so a timer alone would be late.
const LOOK_AT_LEASE: Duration = Duration::from_secs(1);

/// Keeps a hold until its owner stops or it is lost: follows connection state, lease end and the own node.
///
/// `watch` is left to the caller, who deletes the node next.
pub(crate) async fn keep(
    fence: &Fence,
    own: &OwnNode,
    watch: &mut OwnWatch,
    stop: &CancellationToken,
) -> HoldEnd {
    let (state, now) = states(fence.session_ref());
    if watch.asked {
        fence.ask_to_yield();
    }
    let mut keeper = Keeper { fence, own, state, verify: watch.armed.is_none(), watch };
    tokio::select! {
        biased;
        () = stop.cancelled() => {
            fence.lose(LossCause::Released);
            HoldEnd::Stopped
        }
        cause = keeper.run(now) => {
            fence.lose(cause.clone());
            HoldEnd::Lost(cause)
        }
    }
}

/// What somebody writes into a node whose owner it asks to yield. Curator's word.
pub(crate) const REVOKE_MESSAGE: &[u8] = b"__REVOKE__";

/// A watch on the own node, armed or on its way. Its owner keeps it until the node is deleted: the watch goes with
/// the node then, and nobody has to take it off the server.
#[derive(Default)]
pub(crate) struct OwnWatch {
    pub(crate) armed: Option<OneshotWatch>,
    /// The node's data asked us to yield when it was read last.
    pub(crate) asked: bool,
    reading: Option<Reply<(NodeData, OneshotWatch)>>,
}

impl std::fmt::Debug for OwnWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnWatch").field("armed", &self.armed.is_some()).finish_non_exhaustive()
    }
}

struct Keeper<'a> {
    fence: &'a Fence,
    own: &'a OwnNode,
    state: StateWatch,
    watch: &'a mut OwnWatch,
    /// The own node must be read before the hold counts as valid again: we were disconnected, or no watch is
    /// armed.
    verify: bool,
}

impl Keeper<'_> {
    async fn run(&mut self, now: ConnState) -> LossCause {
        // The state may have changed between the read that made us holder and the first look at it here.
        if self.fence.fate(&now) != Fate::Connected
            && let Some(cause) = self.on_state(now)
        {
            return cause;
        }
        loop {
            let step = if self.verify { self.verify().await } else { self.wait().await };
            if let Some(cause) = step {
                return cause;
            }
        }
    }

    /// Waits for anything that may end the hold.
    async fn wait(&mut self) -> Option<LossCause> {
        let until = self.fence.session_ref().lease().until.min(Instant::now() + LOOK_AT_LEASE);
        tokio::select! {
            biased;
            state = self.state.changed() => return self.on_state(state),
            event = or_pending(&mut self.watch.armed) => {
                self.watch.armed = None;
                self.verify = true;
                // The read that follows tells a deleted node from a changed one and an ended session from both.
                tracing::trace!(path = %self.own.path, ?event, "event on the own node");
            }
            () = tokio::time::sleep_until(until) => {}
        }
        self.fence.expired()
    }

    fn on_state(&mut self, state: ConnState) -> Option<LossCause> {
        match self.fence.fate(&state) {
            Fate::Connected => self.verify = true,
            Fate::Suspended { .. } if self.fence.ends_on_suspend() => return Some(LossCause::Suspended),
            Fate::Suspended { since } => {
                self.verify = true;
                self.fence.suspend(since);
            }
            Fate::Ended(cause) => return Some(cause),
        }
        self.fence.expired()
    }

    /// Reads the own node and arms a watch with the same request. The old watch lives until the new one does, so
    /// that it is not taken off the server in between.
    async fn verify(&mut self) -> Option<LossCause> {
        let mut backoff = Backoff::reconnecting();
        self.read();
        loop {
            let until = self.fence.session_ref().lease().until.min(Instant::now() + LOOK_AT_LEASE);
            let answer = tokio::select! {
                biased;
                state = self.state.changed() => return self.on_state(state),
                answer = or_pending(&mut self.watch.reading) => answer,
                () = tokio::time::sleep_until(until) => match self.fence.expired() {
                    Some(cause) => return Some(cause),
                    None => continue,
                },
            };
            self.watch.reading = None;
            match answer {
                Ok((node, watch)) if self.own.is(&node.stat) => {
                    if node.bytes() == REVOKE_MESSAGE {
                        self.fence.ask_to_yield();
                    }
                    self.watch.armed = Some(watch);
                    self.verify = false;
                    self.fence.resume();
                    return self.fence.expired();
                }
                Ok(_) => return Some(LossCause::NodeDeleted),
                // An ACL that hides the node from its owner leaves the lease as the only way to learn of a loss.
                Err(error) if error.code() == Some(ErrorCode::NO_AUTH) => {
                    self.verify = false;
                    self.fence.resume();
                    return self.fence.expired();
                }
                Err(error) => match self.on_read_error(&error) {
                    Some(cause) => return Some(cause),
                    None => backoff.wait().await,
                },
            }
            self.read();
        }
    }

    fn read(&mut self) {
        self.watch.reading = Some(self.fence.session_ref().get_data_and_watch(&self.own.path));
    }

    fn on_read_error(&self, error: &docent::Error) -> Option<LossCause> {
        match error {
            docent::Error::Closed => Some(LossCause::Closed),
            _ if error.code() == Some(ErrorCode::NO_NODE) => Some(LossCause::NodeDeleted),
            _ if error.is_session_lost() => Some(LossCause::SessionEnded),
            _ => {
                tracing::debug!(path = %self.own.path, %error, "own node not read, trying again");
                self.fence.expired()
            }
        }
    }
}

/// Waits for a future that may not be there; then for ever.
pub(crate) async fn or_pending<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
