//! Waiting for one's turn: from a place in line to being first.
//!
//! A waiter watches two nodes: the one right before it, and its own. Both watches are armed by reading data, so
//! none stays behind on a node that is gone. When the predecessor goes, the next lower *remembered* name is
//! probed; nothing is listed again, but for the line of a read/write lock, which is listed once more at its end. Before a turn is announced, the own node is read once more in the same
//! session: it may have been deleted in the same moment, or be on its way out with its session.

use docent::{ErrorCode, EventType, OneshotWatch, SessionRef};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::error::{Error, LossCause};
use crate::guarded::{self, Gone, OwnNode, Placed, Plan};
use crate::hold::{self, Fate, fate};
use crate::keeper::{OwnWatch, REVOKE_MESSAGE, or_pending};
use crate::line::{Ahead, Line};

/// A node of ours in a line.
#[derive(Debug)]
pub(crate) struct Standing {
    session: SessionRef,
    plan: Plan,
    pub(crate) own: OwnNode,
    /// The line as it was read when the place was taken.
    pub(crate) line: Line,
    pub(crate) ahead: Ahead,
    /// The watch on the own node, for the one who goes on to hold.
    pub(crate) own_watch: OwnWatch,
    /// How often something woke us while waiting.
    pub(crate) wakes: u64,
}

/// How waiting ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// We are first, by what the server says in this session.
    First,
    /// The owner does not want it any more. The node is still there.
    Stopped,
    /// The place is gone.
    Lost(LossCause),
}

impl Standing {
    /// Takes a place. `None` when `stop` came first. After an error no node remains.
    pub(crate) async fn join(
        session: &SessionRef,
        plan: &Plan,
        stop: &CancellationToken,
    ) -> Result<Option<Standing>, Error> {
        let Some(Placed { own, line }) = guarded::place(session, plan, stop).await? else { return Ok(None) };
        if line.foreign() > 0 {
            tracing::warn!(path = %plan.parent, count = line.foreign(), "children that are not in line");
        }
        let ahead = line.ahead_of(own.name()).unwrap_or_default();
        let (session, plan) = (session.clone(), plan.clone());
        Ok(Some(Standing { session, plan, own, line, ahead, own_watch: OwnWatch::default(), wakes: 0 }))
    }

    /// Whether the list that was read with the create shows nobody whom we must wait for.
    pub(crate) fn is_first(&self) -> bool {
        self.line.position(self.own.name()).is_some() && self.ahead.is_empty()
    }

    /// Waits until we are first. `moved` is called with the number of remembered names whenever that changes.
    pub(crate) async fn wait_turn(
        &mut self,
        stop: &CancellationToken,
        mut moved: impl FnMut(usize) + Send,
    ) -> Result<Turn, Error> {
        match self.line.position(self.own.name()) {
            Some(_) if self.ahead.is_empty() => return Ok(Turn::First),
            Some(_) => {}
            // Created but not listed: deleted in the same moment.
            None => return Ok(Turn::Lost(LossCause::NodeDeleted)),
        }
        let stopped = stop.clone();
        tokio::select! {
            biased;
            () = stopped.cancelled() => Ok(Turn::Stopped),
            turn = self.wait_unstopped(&mut moved) => turn,
        }
    }

    /// Waits, after a hold of this place has ended but the place may still stand, until that is certain again in
    /// the same session.
    pub(crate) async fn regain(&mut self, stop: &CancellationToken) -> Result<Turn, Error> {
        // Nobody can have come in before us.
        self.ahead = Ahead::default();
        let mut unheard = |_| {};
        let stopped = stop.clone();
        tokio::select! {
            biased;
            () = stopped.cancelled() => Ok(Turn::Stopped),
            turn = self.wait_unstopped(&mut unheard) => turn,
        }
    }

    async fn wait_unstopped(&mut self, moved: &mut (impl FnMut(usize) + Send)) -> Result<Turn, Error> {
        let (mut state, _) = hold::states(&self.session);
        let mut backoff = Backoff::reconnecting();
        loop {
            moved(self.ahead.len());
            match self.look().await {
                Ok(Look::First) if !self.plan.rules.is_shared() => return Ok(Turn::First),
                Ok(Look::First) => match guarded::list_again(&self.session, &self.plan).await {
                    Ok(line) => {
                        self.remember(line);
                        if self.is_first() {
                            return Ok(Turn::First);
                        }
                    }
                    Err(Error::SessionEnded(_)) => return Ok(Turn::Lost(LossCause::SessionEnded)),
                    Err(Error::Closed) => return Ok(Turn::Lost(LossCause::Closed)),
                    Err(error) => return Err(error),
                },
                Ok(Look::OwnGone) => return Ok(Turn::Lost(LossCause::NodeDeleted)),
                Ok(Look::PredecessorGone) => continue,
                Ok(Look::Behind(predecessor)) => {
                    backoff = Backoff::reconnecting();
                    if let Some(cause) = self.sleep(predecessor, &mut state).await {
                        return Ok(Turn::Lost(cause));
                    }
                }
                Err(error) if error.is_session_lost() => return Ok(Turn::Lost(LossCause::SessionEnded)),
                Err(docent::Error::Closed) => return Ok(Turn::Lost(LossCause::Closed)),
                Err(error) if guarded::may_try_again(&error) => backoff.wait().await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whoever was ahead is gone. A writer among them may have taken its number again as a reader before it went;
    /// when nobody is there now, nobody is left who could. When we are not there ourselves, the next look finds out.
    fn remember(&mut self, line: Line) {
        self.ahead = line.ahead_of(self.own.name()).unwrap_or_default();
        self.line = line;
    }

    /// Reads the predecessor and the own node, both at once, and arms the watches.
    async fn look(&mut self) -> Result<Look, docent::Error> {
        let nearest = self.ahead.nearest().map(str::to_owned);
        let before = nearest
            .as_ref()
            .map(|name| self.session.get_data_and_watch(docent::path::join(&self.plan.parent, name)));
        let own = self.session.get_data_and_watch(&self.own.path);
        let before = match before {
            Some(read) => Some(read.await),
            None => None,
        };
        match own.await {
            Ok((node, watch)) if self.own.is(&node.stat) => {
                self.own_watch.asked = node.bytes() == REVOKE_MESSAGE;
                self.own_watch.armed = Some(watch);
            }
            Ok(_) => return Ok(Look::OwnGone),
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => return Ok(Look::OwnGone),
            Err(error) => return Err(error),
        }
        match (nearest, before) {
            (Some(_), Some(Ok((_, watch)))) => Ok(Look::Behind(watch)),
            (Some(name), Some(Err(error))) if error.code() == Some(ErrorCode::NO_NODE) => {
                self.ahead.gone(&name);
                Ok(Look::PredecessorGone)
            }
            (Some(name), Some(Err(error))) if error.code() == Some(ErrorCode::NO_AUTH) => {
                self.look_without_reading(&name).await
            }
            (_, Some(Err(error))) => Err(error),
            (None, _) | (_, None) => Ok(Look::First),
        }
    }

    /// The predecessor's ACL hides its data from us; whether it exists is never hidden.
    async fn look_without_reading(&mut self, name: &str) -> Result<Look, docent::Error> {
        let path = docent::path::join(&self.plan.parent, name);
        match self.session.exists_and_watch(path).await? {
            (Some(_), watch) => Ok(Look::Behind(watch)),
            (None, _) => {
                self.ahead.gone(name);
                Ok(Look::PredecessorGone)
            }
        }
    }

    /// Sleeps until something may have changed; the next look finds out what. Returns a cause when it is over.
    async fn sleep(
        &mut self,
        predecessor: OneshotWatch,
        state: &mut docent::StateWatch,
    ) -> Option<LossCause> {
        let mut predecessor = Some(predecessor);
        loop {
            tokio::select! {
                biased;
                event = or_pending(&mut self.own_watch.armed) => {
                    self.own_watch.armed = None;
                    self.wakes += 1;
                    tracing::trace!(path = %self.own.path, ?event, "event on the own node");
                    return None;
                }
                event = or_pending(&mut predecessor) => {
                    self.wakes += 1;
                    let deleted = event.is_ok_and(|event| event.kind == EventType::NodeDeleted);
                    if let (true, Some(name)) = (deleted, self.ahead.nearest().map(str::to_owned)) {
                        self.ahead.gone(&name);
                    }
                    return None;
                }
                now = state.changed() => match fate(&now, self.session.id()) {
                    Fate::Ended(cause) => return Some(cause),
                    // Watches are armed again by the client; looking again as well does not rest on that.
                    Fate::Connected => return None,
                    Fate::Suspended { .. } => {}
                }
            }
        }
    }

    /// Gives the place up.
    pub(crate) async fn leave(self) -> Gone {
        // The watch on the own node lives until here: it goes with the node.
        guarded::remove(&self.session, &self.own).await
    }
}

enum Look {
    First,
    Behind(OneshotWatch),
    PredecessorGone,
    OwnGone,
}
