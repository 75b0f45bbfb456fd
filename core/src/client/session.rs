//! PURE: the session machine. It is told what happened and answers what should be done; it knows no socket, no
//! task and no clock.
//!
//! One connection after the other carries the session. Each begins with a handshake, before which nothing else is
//! sent: a request that arrives at a server together with a refusal could reset the connection and hide the
//! refusal. After the handshake comes the login, if there is one, then the identities, then the watches, then what callers wait for.
//!
//! A session ends only by a server's word: a handshake that says so, or one that gives another session than the
//! one asked for (ClickHouse Keeper does that). The zxid that was seen last outlives sessions.
//!
//! Invariants: a write is sent at most once; a bound request is never sent in another session; every ticket is
//! settled exactly once; states follow each other only as [`ConnState`](super::ConnState) says; attempts to
//! connect are paced.
//!
//! Left out: names and addresses (the driver looks them up), bytes of results (callers decode them).

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::heartbeat::Heartbeats;
use super::hosts::{Host, HostList};
use super::lease::Moment;
use super::pending::{Answer, Dropped, Failure, Line, Outcome, Purpose, Queued, Sent, Ticket, put_request};
use super::retry::Retry;
use super::state::{CloseCause, LossCause};
use super::watcher::{WatchItem, WatchedEvent};
use super::watches::{WatchId, WatchKind, Watches};
use crate::proto::frame::put_frame;
use crate::proto::jute::{Decode, Encode, Reader, put_string};
use crate::proto::ops::AuthRequest;
use crate::proto::{
    ConnectRequest, ConnectResponse, OpCode, PASSWORD_LENGTH, ReplyHeader, Request, WatcherEvent,
};
use crate::{ErrorCode, SessionId, Xid, Zxid};

/// Identities that one client may add; each is sent again on every connection.
const IDENTITIES_MAX: usize = 64;

/// The first pause before another server is asked whether it has a quorum; it doubles up to [`LOOK_MAX`].
const LOOK_FIRST: Duration = Duration::from_millis(100);

/// See [`LOOK_FIRST`].
const LOOK_MAX: Duration = Duration::from_secs(60);

/// What the machine is configured with.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) hosts: HostList,
    pub(super) session_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) retry: Retry,
    pub(super) auth: Vec<(String, Bytes)>,
    pub(super) login: Option<Login>,
    pub(super) read_only: bool,
    pub(super) renew: bool,
    pub(super) lease_margin: Duration,
    pub(super) tick: Duration,
    pub(super) resume: Option<(SessionId, [u8; PASSWORD_LENGTH])>,
    pub(super) seed: u64,
}

/// A caller's request.
#[derive(Clone, Debug)]
pub(super) struct Submission {
    pub(super) ticket: Ticket,
    pub(super) op: OpCode,
    pub(super) body: Bytes,
    pub(super) pin: Option<SessionId>,
    pub(super) watch: Option<(WatchId, WatchKind)>,
}

/// Everything that can happen to a client.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A caller asks for something.
    Submit(Submission),
    /// A caller adds an identity.
    AddAuth { ticket: Ticket, scheme: String, auth: Bytes },
    /// Nobody holds a watch any more.
    Unwatch(WatchId),
    /// The lease has one more holder.
    Hold,
    /// The lease has one holder less.
    Release,
    /// The client shall end.
    Close { ticket: Option<Ticket> },
    /// The connection that was dialled is open.
    Dialed,
    /// The connection, or the attempt at one, has failed.
    Broken,
    /// The server has sent a frame.
    Frame(Bytes),
    /// The server that was asked has, or has not, a quorum.
    Asked { server: usize, writable: bool },
    /// The deadline has come.
    Tick,
}

/// Everything the machine asks of the world, carried out in this order. Bytes to send are in [`Effects::out`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    /// Open a connection.
    Dial(Host),
    /// Drop the connection, or the attempt at one.
    Hangup,
    /// Ask a server, over a connection of its own, whether it has a quorum.
    Ask { server: usize, host: Host },
    /// Tell a caller what became of its request.
    Settle { ticket: Ticket, outcome: Outcome },
    /// Tell a watch what happened.
    Tell { watch: WatchId, item: WatchItem },
    /// A watch has ended.
    EndWatch { watch: WatchId, end: WatchEnd },
    /// The state has changed.
    State(Standing),
}

/// Why a watch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WatchEnd {
    SessionEnded(SessionId),
    Removed { path: String },
    Ended(CloseCause),
}

/// What the machine asks, and the bytes that it wants to be sent on the connection of now.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) list: Vec<Effect>,
    pub(super) out: BytesMut,
}

impl Effects {
    fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }
}

/// The connection state, with the machine's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Connecting,
    Connected(SessionId),
    ReadOnly(SessionId),
    Suspended { session: SessionId, since: Moment },
    Lost { session: SessionId, cause: LossCause },
    Closed(CloseCause),
}

/// Where the connection is.
#[derive(Debug)]
enum Phase {
    /// None, until the next attempt.
    Pausing { until: Moment },
    /// Being opened.
    Dialing { deadline: Moment },
    /// The handshake was sent. A probe asks for a session that is not wanted; see `doubt`.
    Shaking { deadline: Moment, sent: Moment, asked: SessionId, probe: bool },
    /// A probe was answered, and its session is being ended.
    Parting { deadline: Moment },
    /// The session is given, and the login with SASL under way.
    Proving(proof::Proving),
    /// The server answers.
    Live(Live),
    /// There will be no other.
    Ended,
}

#[derive(Debug)]
struct Live {
    since: Moment,
    last_heard: Moment,
    /// The last frame that was not an event.
    last_answered: Moment,
    last_sent: Moment,
    ping_sent: Option<Moment>,
    /// Identities that were sent on this connection and are not acknowledged, by their place in the list.
    identities_sent: std::collections::VecDeque<usize>,
    /// Only while the server has no quorum.
    look_around: Option<LookAround>,
}

impl Live {
    fn is_read_only(&self) -> bool {
        self.look_around.is_some()
    }
}

/// Looking for a server with a quorum while connected to one without.
#[derive(Debug)]
struct LookAround {
    /// When the next server is asked; `None` while one is being asked, and when there is no other.
    due: Option<Moment>,
    pause: Duration,
}

/// A session.
#[derive(Clone, Debug)]
struct Session {
    id: SessionId,
    password: [u8; PASSWORD_LENGTH],
    timeout: Duration,
    /// A server with a quorum has confirmed it. One that was only given by a server without quorum exists there
    /// alone, so it is not asked for elsewhere.
    known_to_quorum: bool,
}

/// An identity, and who waits for its acknowledgement.
#[derive(Debug)]
struct Identity {
    scheme: String,
    auth: Bytes,
    waiting: Vec<(Ticket, Moment)>,
}

#[derive(Debug)]
struct Closing {
    deadline: Moment,
    tickets: Vec<Ticket>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Machine {
    session_timeout: Duration,
    connect_timeout: Duration,
    retry: Retry,
    read_only: bool,
    renew: bool,
    random: fastrand::Rng,
    hosts: HostList,
    phase: Phase,
    standing: Standing,
    session: Option<Session>,
    last_zxid: Zxid,
    line: Line,
    watches: Watches,
    heartbeats: Heartbeats,
    identities: Vec<Identity>,
    login: Option<Login>,
    closing: Option<Closing>,
    /// Attempts since the last connection that lasted.
    attempts: u32,
    doubts: doubt::Doubts,
}

impl Machine {
    /// A machine that starts to connect.
    pub(super) fn start(settings: Settings, now: Moment, fx: &mut Effects) -> Self {
        let mut random = fastrand::Rng::with_seed(settings.seed);
        let mut hosts = settings.hosts;
        hosts.shuffle(&mut random);
        let identity = |(scheme, auth)| Identity { scheme, auth, waiting: Vec::new() };
        let session = settings.resume.map(|(id, password)| Session {
            id,
            password,
            timeout: settings.session_timeout,
            known_to_quorum: true,
        });
        let standing = match &session {
            Some(session) => Standing::Suspended { session: session.id, since: now },
            None => Standing::Connecting,
        };
        let mut machine = Machine {
            session_timeout: settings.session_timeout,
            connect_timeout: settings.connect_timeout,
            retry: settings.retry,
            read_only: settings.read_only,
            renew: settings.renew,
            random,
            hosts,
            phase: Phase::Pausing { until: now },
            standing,
            session,
            last_zxid: Zxid::ZERO,
            line: Line::new(),
            watches: Watches::default(),
            heartbeats: Heartbeats::new(settings.lease_margin, settings.tick),
            identities: settings.auth.into_iter().map(identity).collect(),
            login: settings.login,
            closing: None,
            attempts: 0,
            doubts: doubt::Doubts::default(),
        };
        fx.push(Effect::State(standing));
        machine.dial(now, fx);
        machine
    }

    /// The only door.
    pub(super) fn handle(&mut self, now: Moment, event: Event, fx: &mut Effects) {
        match event {
            Event::Submit(submission) => self.on_submit(now, submission, fx),
            Event::AddAuth { ticket, scheme, auth } => self.on_add_auth(now, ticket, scheme, auth, fx),
            Event::Unwatch(watch) => {
                let removal = self.watches.unwatch(watch);
                self.send_removal(now, removal, fx);
            }
            Event::Hold => self.heartbeats.hold(now),
            Event::Release => self.heartbeats.release(),
            Event::Close { ticket } => self.on_close(now, ticket, fx),
            Event::Dialed => self.on_dialed(now, fx),
            Event::Broken => self.on_broken(now, fx),
            Event::Frame(frame) => self.on_frame(now, frame, fx),
            Event::Asked { server, writable } => self.on_asked(now, server, writable, fx),
            Event::Tick => {}
        }
        self.on_time(now, fx);
    }

    /// When [`Event::Tick`] is due; `None` after the end.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let phase = match &self.phase {
            Phase::Pausing { until } => *until,
            Phase::Dialing { deadline } | Phase::Shaking { deadline, .. } | Phase::Parting { deadline } => {
                *deadline
            }
            Phase::Proving(proving) => proving.deadline,
            Phase::Live(live) => {
                let look = live.look_around.as_ref().and_then(|look| look.due);
                let sync = if live.is_read_only() { None } else { self.heartbeats.sync_due() };
                let due = [self.ping_due(live), look, sync].into_iter().flatten();
                due.fold(self.silence_ends(live), Moment::min)
            }
            Phase::Ended => return None,
        };
        let expiry = if matches!(self.phase, Phase::Live(_)) { None } else { self.next_expiry() };
        let closing = self.closing.as_ref().map(|closing| closing.deadline);
        [Some(phase), expiry, closing].into_iter().flatten().min()
    }

    /// Whether the client has ended.
    pub(super) fn ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// The session that may be alive, and its password.
    pub(super) fn credentials(&self) -> Option<(SessionId, [u8; PASSWORD_LENGTH])> {
        self.session.as_ref().map(|session| (session.id, session.password))
    }

    /// The newest transaction that was seen.
    pub(super) fn last_zxid(&self) -> Zxid {
        self.last_zxid
    }

    /// Until when nobody else can have taken the session for dead.
    pub(super) fn lease_end(&self) -> Option<Moment> {
        self.heartbeats.lease_end()
    }
}

mod doubt;
mod link;
mod live;
mod proof;
#[cfg(test)]
mod tests;

pub(super) use proof::Login;

impl Machine {
    /// Carries out what has become due.
    fn on_time(&mut self, now: Moment, fx: &mut Effects) {
        if self.closing.as_ref().is_some_and(|closing| closing.deadline <= now) {
            self.end(CloseCause::Closed, false, fx);
        }
        match &self.phase {
            Phase::Pausing { until } if *until <= now => self.dial(now, fx),
            Phase::Dialing { deadline } | Phase::Shaking { deadline, .. } | Phase::Parting { deadline }
                if *deadline <= now =>
            {
                self.connection_lost(now, fx);
            }
            Phase::Proving(proving) if proving.deadline <= now => self.connection_lost(now, fx),
            Phase::Live(live) if self.silence_ends(live) <= now => self.connection_lost(now, fx),
            Phase::Live(_) => self.keep_alive(now, fx),
            _ => {}
        }
        if !matches!(self.phase, Phase::Live(_)) {
            self.expire(now, fx);
        }
    }

    /// Gives up what has waited for as long as it may.
    fn expire(&mut self, now: Moment, fx: &mut Effects) {
        let dropped = self.line.expire(now);
        self.settle_dropped(dropped, fx);
        for identity in &mut self.identities {
            identity.waiting.retain(|(ticket, expires)| {
                let waits = *expires > now;
                if !waits {
                    fx.push(lost_before_sent(*ticket));
                }
                waits
            });
        }
    }

    fn next_expiry(&self) -> Option<Moment> {
        let identities = self.identities.iter().flat_map(|identity| &identity.waiting).map(|(_, at)| *at);
        identities.chain(self.line.next_expiry()).min()
    }

    fn settle_dropped(&mut self, dropped: Dropped, fx: &mut Effects) {
        for (purpose, failure) in dropped {
            let Purpose::Caller { ticket, watch, .. } = purpose else { continue };
            if let Some(watch) = watch {
                self.watches.forget(watch);
            }
            fx.push(Effect::Settle { ticket, outcome: Err(failure) });
        }
    }

    fn on_submit(&mut self, now: Moment, submission: Submission, fx: &mut Effects) {
        let Submission { ticket, op, body, pin, watch } = submission;
        let expires = now + self.retry.budget;
        let refusal = match (self.end_cause(), pin) {
            (Some(cause), _) => Some(Failure::Ended(cause)),
            (None, Some(pin)) if self.session.as_ref().is_none_or(|session| session.id != pin) => {
                Some(Failure::SessionEnded(pin))
            }
            _ if expires <= now && !matches!(self.phase, Phase::Live(_)) => {
                Some(Failure::ConnectionLoss { may_have_applied: false })
            }
            _ => None,
        };
        if let Some(failure) = refusal {
            fx.push(Effect::Settle { ticket, outcome: Err(failure) });
            return;
        }
        if let Some((watch, kind)) = watch {
            // The record of every request with a watch begins with its path, and was written by us.
            let path = Reader::new(body.clone()).string().unwrap_or_default();
            self.watches.ask(watch, kind, &path, pin.is_some());
        }
        let purpose = Purpose::Caller { ticket, pin, watch: watch.map(|(id, _)| id), expires };
        self.send_or_wait(now, Queued { op, body, purpose }, fx);
    }

    fn on_add_auth(&mut self, now: Moment, ticket: Ticket, scheme: String, auth: Bytes, fx: &mut Effects) {
        let known = self.identities.iter().position(|known| known.scheme == scheme && known.auth == auth);
        let refusal = match (self.end_cause(), known) {
            (Some(cause), _) => Some(Failure::Ended(cause)),
            (None, None) if self.identities.len() >= IDENTITIES_MAX => Some(Failure::TooManyIdentities),
            _ => None,
        };
        if let Some(failure) = refusal {
            fx.push(Effect::Settle { ticket, outcome: Err(failure) });
            return;
        }
        let index = known.unwrap_or(self.identities.len());
        if known.is_none() {
            self.identities.push(Identity { scheme, auth, waiting: Vec::new() });
        }
        self.identities[index].waiting.push((ticket, now + self.retry.budget));
        self.send_identity(now, index, fx);
    }

    fn on_close(&mut self, now: Moment, ticket: Option<Ticket>, fx: &mut Effects) {
        if self.ended() {
            fx.list.extend(ticket.map(closed));
            return;
        }
        if let Some(closing) = &mut self.closing {
            closing.tickets.extend(ticket);
            return;
        }
        let timeout = self.session.as_ref().map_or(self.session_timeout, |session| session.timeout);
        self.closing = Some(Closing { deadline: now + timeout / 3, tickets: ticket.into_iter().collect() });
        match &self.phase {
            Phase::Live(_) => self.send_close(now, fx),
            // The server may be making a session just now: its answer tells which one to end.
            Phase::Shaking { .. } | Phase::Proving(_) => {}
            _ if self.session.is_none() => self.end(CloseCause::Closed, true, fx),
            _ => {}
        }
    }

    /// Why nothing new is taken, if so.
    fn end_cause(&self) -> Option<CloseCause> {
        match (self.standing, &self.closing) {
            (Standing::Closed(cause), _) => Some(cause),
            (_, Some(_)) => Some(CloseCause::Closed),
            _ => None,
        }
    }

    fn set_standing(&mut self, standing: Standing, fx: &mut Effects) {
        self.standing = standing;
        fx.push(Effect::State(standing));
    }

    /// The client ends. `acknowledged`: the session is known to have ended, or there was none.
    fn end(&mut self, cause: CloseCause, acknowledged: bool, fx: &mut Effects) {
        if self.ended() {
            return;
        }
        self.phase = Phase::Ended;
        // Before anything else: who learns of a request or a watch that it ended with the client sees the client ended.
        self.set_standing(Standing::Closed(cause), fx);
        fx.out.clear();
        fx.push(Effect::Hangup);
        self.session = None;
        self.heartbeats.session_ended();
        let dropped = self.line.end(cause);
        self.settle_dropped(dropped, fx);
        for (ticket, _) in self.identities.drain(..).flat_map(|identity| identity.waiting) {
            fx.push(Effect::Settle { ticket, outcome: Err(Failure::Ended(cause)) });
        }
        for watch in self.watches.end() {
            fx.push(Effect::EndWatch { watch, end: WatchEnd::Ended(cause) });
        }
        for ticket in self.closing.take().into_iter().flat_map(|closing| closing.tickets) {
            fx.push(match acknowledged {
                true => closed(ticket),
                false => Effect::Settle { ticket, outcome: Err(Failure::Ended(cause)) },
            });
        }
    }

    /// Sends a request if there is a connection, else lets it wait.
    fn send_or_wait(&mut self, now: Moment, request: Queued, fx: &mut Effects) {
        match &mut self.phase {
            Phase::Live(live) => {
                live.last_sent = now;
                self.line.send_now(request, now, &mut fx.out);
            }
            _ => self.line.push(request),
        }
    }
}

fn lost_before_sent(ticket: Ticket) -> Effect {
    Effect::Settle { ticket, outcome: Err(Failure::ConnectionLoss { may_have_applied: false }) }
}

/// The session was closed, as the caller with this ticket asked.
fn closed(ticket: Ticket) -> Effect {
    let answer = Answer { zxid: Zxid::ZERO, error: ErrorCode::OK, body: Bytes::new() };
    Effect::Settle { ticket, outcome: Ok(answer) }
}
