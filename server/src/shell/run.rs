//! The loop: await one event, step, perform.
//!
//! Two things may not be mixed with others in a turn. When the node has the state read anew from the disk, it must hear of
//! nothing before that is done; what other servers said meanwhile is held back. And whether a state that a leader sent gets
//! its name on the disk depends on whether the node still wants it, so everything that it asked for before is carried out
//! first.

use std::collections::VecDeque;

use docent::{SessionId, Zxid};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use super::clock::Clock;
use super::perform::{DiskGone, Outside};
use super::reload::Reload;
use crate::limits::{DISK_QUEUE_MAX, EVENTS_PER_TURN_MAX, PEER_INPUTS_MAX, TURN_REPLY_BYTES_MAX};
use crate::net::{Input, PeerInput, Received};
use crate::node::{Effect, Effects, Event, Node, Now};
use crate::storage::Report;
use crate::zab::{LinkId, Message};

/// How a server is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// Everything that was asked of the disk is carried out.
    InOrder,
    /// As if the process were killed.
    AtOnce,
}

/// What the owner of a server asks of it while it runs.
#[derive(Debug)]
pub(crate) enum Control {
    /// End a session as if its time had run out.
    Expire(SessionId),
    /// Cut the connection of a session, or all.
    Cut(Option<SessionId>),
    /// Look at the node.
    Look(LookFn),
}

/// Looks at the node between two steps.
pub(crate) struct LookFn(pub(crate) Box<dyn FnOnce(&Node) + Send>);

impl std::fmt::Debug for LookFn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LookFn")
    }
}

/// Why the loop ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stopped {
    /// It was told to.
    #[error("the server was stopped")]
    Told,
    /// A write to the log failed. What was not acknowledged may be lost, what was is on disk; nothing more is
    /// promised by this process.
    #[error("the transaction log cannot be written: {0}")]
    Disk(String),
    /// The server found itself in the wrong and stopped rather than go on.
    #[error("the server failed: {0}")]
    Failed(String),
}

/// Everything that the loop waits for.
pub(super) struct Sources {
    pub(super) inputs: mpsc::Receiver<Input>,
    /// `None` for a server that is alone.
    pub(super) peers: Option<mpsc::Receiver<PeerInput>>,
    pub(super) reports: mpsc::UnboundedReceiver<Report>,
    pub(super) controls: mpsc::Receiver<Control>,
    pub(super) stop: oneshot::Receiver<Halt>,
    pub(super) purge_every: Option<std::time::Duration>,
}

/// The loop's state.
pub(super) struct Loop {
    node: Node,
    clock: Clock,
    outside: Outside,
    reload: Reload,
    /// What other servers said and the node has not heard yet.
    held: VecDeque<PeerInput>,
    /// The node has asked for its state to be read anew, and is to hear of nothing else.
    waits_for_state: bool,
    abrupt: bool,
}

impl Loop {
    pub(super) fn new(node: Node, clock: Clock, outside: Outside, reload: Reload) -> Self {
        let held = VecDeque::new();
        Loop { node, clock, outside, reload, held, waits_for_state: false, abrupt: false }
    }

    /// Runs until told to stop or until the disk fails.
    pub(super) async fn run(mut self, mut sources: Sources) -> Stopped {
        let ended = self.turns(&mut sources).await;
        if self.abrupt {
            return ended;
        }
        for link in self.outside.links.iter() {
            link.cut();
        }
        if ended == Stopped::Told && self.outside.stop().is_ok() {
            while self.outside.backlog() > 0 && self.outside.drain_one().await.is_ok() {}
        }
        ended
    }

    async fn turns(&mut self, sources: &mut Sources) -> Stopped {
        let mut fx = Effects::default();
        let mut inputs = Vec::with_capacity(EVENTS_PER_TURN_MAX);
        let mut purge_at = sources.purge_every.map(|every| tokio::time::Instant::now() + every);
        // A member of an ensemble begins with a tick, before anybody says anything.
        self.mind_time(&mut fx);
        if let Err(stopped) = self.settle(sources, &mut fx).await {
            return self.last_report(stopped, sources);
        }
        loop {
            let deadline = self.clock.instant(self.node.next_deadline());
            // A disk that is far behind holds new requests up, not memory.
            let open = self.outside.backlog() < DISK_QUEUE_MAX;
            let done = tokio::select! {
                biased;
                halt = &mut sources.stop => {
                    self.abrupt = halt == Ok(Halt::AtOnce);
                    return Stopped::Told;
                }
                report = sources.reports.recv() => self.on_reports(report, sources, &mut fx),
                drained = self.outside.drain_one(), if self.outside.backlog() > 0 => drained.map_err(disk_gone),
                control = sources.controls.recv() => {
                    self.on_control(control, &mut fx);
                    Ok(())
                }
                input = next_of(&mut sources.peers), if open => {
                    self.hold(input, sources);
                    // Servers that talk without a pause must not keep clients waiting.
                    while inputs.len() < EVENTS_PER_TURN_MAX && let Ok(input) = sources.inputs.try_recv() {
                        inputs.push(input);
                    }
                    self.on_inputs(&mut inputs, &mut fx)
                }
                count = sources.inputs.recv_many(&mut inputs, EVENTS_PER_TURN_MAX), if open => {
                    if count == 0 {
                        return Stopped::Told;
                    }
                    self.on_inputs(&mut inputs, &mut fx)
                }
                () = sleep_until(deadline) => Ok(()),
                () = at(purge_at), if purge_at.is_some() => {
                    purge_at = sources.purge_every.map(|every| tokio::time::Instant::now() + every);
                    self.outside.purge().map_err(disk_gone)
                }
            };
            self.mind_time(&mut fx);
            let done = match done {
                Ok(()) => self.settle(sources, &mut fx).await,
                failed => failed,
            };
            if let Err(stopped) = done {
                return self.last_report(stopped, sources);
            }
        }
    }

    /// Something happened.
    fn step(&mut self, now: Now, event: Event, fx: &mut Effects) {
        let before = fx.list.len();
        self.node.step(now, event, fx);
        let asked = |effect: &Effect| matches!(effect, Effect::Truncate { reload: true, .. });
        self.waits_for_state |= fx.list[before..].iter().any(asked);
    }

    /// Time is looked at in every turn: events without a pause must not keep it from passing.
    fn mind_time(&mut self, fx: &mut Effects) {
        let now = self.clock.now();
        if !self.waits_for_state && self.node.next_deadline() <= now.mono_ms {
            self.step(now, Event::Tick, fx);
        }
    }

    /// Carries out what was asked for, and lets the node hear what is held back.
    async fn settle(&mut self, sources: &mut Sources, fx: &mut Effects) -> Result<(), Stopped> {
        loop {
            self.outside.perform(fx).map_err(disk_gone)?;
            if self.waits_for_state {
                self.read_state(sources, fx).await?;
            } else if self.held.is_empty() {
                return Ok(());
            } else {
                self.on_peers(fx).await?;
            }
        }
    }

    /// Waits until the log is cut, and reads what the disk holds now.
    async fn read_state(&mut self, sources: &mut Sources, fx: &mut Effects) -> Result<(), Stopped> {
        let Some(order) = self.outside.cut() else {
            unreachable!("the node waits for a state and has ordered no cut");
        };
        loop {
            let report = tokio::select! {
                report = sources.reports.recv() => report,
                drained = self.outside.drain_one(), if self.outside.backlog() > 0 => {
                    drained.map_err(disk_gone)?;
                    continue;
                }
            };
            match report {
                Some(Report::Synced { order: upto, .. }) if upto >= order => break,
                Some(Report::Failed { error }) => return Err(Stopped::Disk(error.to_string())),
                Some(Report::TruncateRefused { after, .. }) => return Err(cut_refused(after)),
                None => return Err(disk_gone(DiskGone)),
                // Whatever else is reported is older than the cut, and the new state says more.
                Some(_) => {}
            }
        }
        let state = Box::new(self.reload.read().await?);
        self.outside.synced(order);
        self.waits_for_state = false;
        self.step(self.clock.now(), Event::Reloaded { order, state }, fx);
        Ok(())
    }

    /// Takes what other servers have said, to be heard when everything before is carried out.
    fn hold(&mut self, first: PeerInput, sources: &mut Sources) {
        self.held.push_back(first);
        let Some(peers) = &mut sources.peers else { return };
        while self.held.len() < PEER_INPUTS_MAX
            && let Ok(input) = peers.try_recv()
        {
            self.held.push_back(input);
        }
    }

    /// Lets the node hear what is held back, as far as it may.
    async fn on_peers(&mut self, fx: &mut Effects) -> Result<(), Stopped> {
        let now = self.clock.now();
        while !self.waits_for_state
            && let Some(input) = self.held.pop_front()
        {
            let Some(peers) = &mut self.outside.peers else { return Ok(()) };
            match input {
                PeerInput::Opened(link) => peers.links.insert(link),
                PeerInput::Messages(link, messages) => self.on_messages(now, link, messages, fx),
                PeerInput::Lost(link) => {
                    peers.lost(link);
                    self.step(now, Event::PeerLost(link), fx);
                }
                PeerInput::Event(event) => self.step(now, event, fx),
                PeerInput::Snapshot { .. } if !fx.list.is_empty() => {
                    self.held.push_front(input);
                    return Ok(());
                }
                PeerInput::Snapshot { link, zxid, received } => {
                    self.on_snapshot(link, zxid, received, fx).await?;
                }
            }
        }
        Ok(())
    }

    fn on_messages(&mut self, now: Now, link: LinkId, messages: Vec<Message>, fx: &mut Effects) {
        let mut messages = messages.into_iter();
        while let Some(message) = messages.next() {
            self.step(now, Event::Peer { link, message }, fx);
            if self.waits_for_state {
                self.held.push_front(PeerInput::Messages(link, messages.collect()));
                return;
            }
        }
    }

    /// A leader's state is here. It gets its name if the node has not turned away from that leader: the next start will
    /// take it for ours, so it must be exactly when the node does. Everything that the node asked for is carried out.
    async fn on_snapshot(
        &mut self,
        link: LinkId,
        zxid: Zxid,
        received: Received,
        fx: &mut Effects,
    ) -> Result<(), Stopped> {
        let Some(peers) = &mut self.outside.peers else { return Ok(()) };
        if !peers.links.contains(link) {
            tracing::info!(%zxid, "a leader's state came too late and is not taken");
            // Taking a large tree apart takes its time.
            tokio::task::spawn_blocking(move || drop(received));
            return Ok(());
        }
        let Received { state, keep } = received;
        match tokio::task::spawn_blocking(keep).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Stopped::Disk(error)),
            Err(error) => return Err(Stopped::Failed(error.to_string())),
        }
        peers.durable.jump(zxid);
        self.step(self.clock.now(), Event::PeerSnapshot { link, zxid, state }, fx);
        Ok(())
    }

    /// The writer's own word on why it ended says more than that it is gone.
    fn last_report(&self, stopped: Stopped, sources: &mut Sources) -> Stopped {
        while let Ok(report) = sources.reports.try_recv() {
            if let Report::Failed { error } = report {
                return Stopped::Disk(error.to_string());
            }
        }
        stopped
    }

    fn on_inputs(&mut self, inputs: &mut Vec<Input>, fx: &mut Effects) -> Result<(), Stopped> {
        let now = self.clock.now();
        for input in inputs.drain(..) {
            match input {
                Input::Requests(conn, requests) => {
                    for (header, body) in requests {
                        self.step(now, Event::Client { conn, header, body }, fx);
                        // Requests that ask for much at once must not be answered into memory without bound.
                        if fx.bytes.len() > TURN_REPLY_BYTES_MAX {
                            self.outside.perform(fx).map_err(disk_gone)?;
                        }
                    }
                }
                Input::Opened(conn, link) => self.outside.links.insert(conn, link),
                Input::Event(event) => {
                    let lost = match event {
                        Event::ClientLost(conn) => Some(conn),
                        _ => None,
                    };
                    self.step(now, event, fx);
                    if let Some(conn) = lost {
                        self.outside.links.remove(conn);
                    }
                }
            }
        }
        Ok(())
    }

    fn on_reports(
        &mut self,
        first: Option<Report>,
        sources: &mut Sources,
        fx: &mut Effects,
    ) -> Result<(), Stopped> {
        let now = self.clock.now();
        let mut next = first;
        if next.is_none() {
            return Err(Stopped::Disk("its thread has ended".into()));
        }
        while let Some(report) = next {
            self.on_report(report, now, fx)?;
            if self.waits_for_state {
                break;
            }
            next = sources.reports.try_recv().ok();
        }
        Ok(())
    }

    fn on_report(&mut self, report: Report, now: Now, fx: &mut Effects) -> Result<(), Stopped> {
        match report {
            Report::Synced { order, group } => {
                if let Some(group) = group {
                    self.node.count_sync(group.sync.as_millis() as i64);
                }
                self.outside.synced(order);
                self.step(now, Event::Synced { order }, fx);
            }
            Report::Failed { error } => return Err(Stopped::Disk(error.to_string())),
            Report::TruncateRefused { after, .. } => return Err(cut_refused(after)),
            // The snapshot was given up for the cut, and the node counts on hearing no more of it.
            report if self.outside.cut().is_some() => tracing::debug!(?report, "older than a cut"),
            Report::SnapshotProgress { pieces_written, .. } => {
                self.step(now, Event::SnapshotProgress { pieces: pieces_written }, fx);
            }
            Report::SnapshotDone { zxid, .. } => {
                tracing::info!(%zxid, "snapshot written");
                self.step(now, Event::SnapshotEnded { complete: true }, fx);
            }
            Report::SnapshotFailed { error } => {
                tracing::error!(%error, "snapshot failed; the log is complete without it");
                self.step(now, Event::SnapshotEnded { complete: false }, fx);
            }
            other => tracing::debug!(report = ?other, "disk"),
        }
        Ok(())
    }

    fn on_control(&mut self, control: Option<Control>, fx: &mut Effects) {
        match control {
            Some(Control::Expire(session)) => {
                self.step(self.clock.now(), Event::ExpireSession(session), fx);
            }
            Some(Control::Cut(None)) => self.outside.links.iter().for_each(|link| link.cut()),
            Some(Control::Cut(Some(session))) => {
                let conn = self.node.sessions().get(session).and_then(|session| session.conn);
                if let Some(link) = conn.and_then(|conn| self.outside.links.get(conn)) {
                    link.cut();
                }
            }
            Some(Control::Look(look)) => (look.0)(&self.node),
            None => {}
        }
    }
}

fn disk_gone(_: DiskGone) -> Stopped {
    Stopped::Disk("its thread has ended".into())
}

fn cut_refused(after: Zxid) -> Stopped {
    Stopped::Failed(format!(
        "the leader wants everything after {after} forgotten, and no snapshot is old enough to go back to; move version-2 \
         away, and this server will be sent the whole state"
    ))
}

async fn next_of(peers: &mut Option<mpsc::Receiver<PeerInput>>) -> PeerInput {
    match peers {
        Some(peers) => match peers.recv().await {
            Some(input) => input,
            // The loop itself holds a sender.
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

async fn at(when: Option<tokio::time::Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
