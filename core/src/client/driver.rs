//! The client's task: carries bytes between the socket and the session machine, commands from the handles to the
//! machine, and outcomes back. It decides nothing.
//!
//! One poll takes whatever is ready (commands, bytes, the timer), lets the machine handle all of it, and then
//! writes everything that came of it at once. So requests that are called together leave in one packet, and the
//! answers of one packet are handed out together.

use std::collections::HashMap;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::Sleep;

use super::error::Error;
use super::handle::{Command, Handle, NewWatch, Published, ReplySender, Shared, Sink};
use super::hosts::Host;
use super::lease::Moment;
use super::pending::{Failure, Ticket};
use super::session::{Effect, Effects, Event, Machine, Settings, Standing, Submission, WatchEnd};
use super::state::{CloseCause, ConnState};
use super::stream::{Dialer, Stream};
use super::watcher::WatchItem;
use super::watches::WatchId;
use crate::proto::frame::next_frame;

/// Bytes asked of the socket at a time.
const READ_SIZE: usize = 64 << 10;

/// Room below which the read buffer is enlarged, bytes. Small answers share one buffer.
const READ_SIZE_MIN: usize = 4 << 10;

/// Commands handled before the socket is looked at again, so that a caller in a tight loop starves nobody.
const COMMANDS_AT_ONCE: usize = 512;

/// How long a server may take to say whether it has a quorum.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// What bounds the driver.
pub(super) struct Limits {
    /// The largest frame that is taken, bytes.
    pub(super) max_frame: usize,
}

/// Starts the client's task in the runtime of now.
///
/// # Errors
/// There is no runtime.
pub(super) fn start(
    settings: Settings,
    dialer: Dialer,
    limits: Limits,
    shared: Shared,
) -> Result<Arc<Handle>, Error> {
    let runtime = tokio::runtime::Handle::try_current().map_err(|_| {
        Error::InvalidArgument("a client must be connected within a tokio runtime".to_owned())
    })?;
    let (sender, commands) = mpsc::unbounded_channel();
    let (state, state_receiver) = watch::channel(ConnState::Connecting);
    let shared = Arc::new(shared);
    let handle = Handle::new(sender, state_receiver, Arc::clone(&shared));
    let mut fx = Effects::default();
    let now = shared.clock.now();
    let machine = Machine::start(settings, now, &mut fx);
    let mut driver = Driver {
        machine,
        fx,
        commands,
        batch: Vec::with_capacity(COMMANDS_AT_ONCE),
        slots: Slots::default(),
        sinks: HashMap::new(),
        socket: Socket::None,
        unflushed: false,
        dialer,
        asking: None,
        inbound: BytesMut::new(),
        timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        timer_at: now,
        state,
        told_failure: false,
        published: Published::default(),
        shared,
        limits,
    };
    driver.perform();
    runtime.spawn(std::future::poll_fn(move |cx| driver.poll(cx)));
    Ok(Arc::new(handle))
}

enum Socket {
    None,
    Dialing(BoxFuture<'static, io::Result<Stream>>),
    Open(Stream),
}

/// One request that waits: where its outcome goes, and what it takes of the budget.
struct Slot {
    reply: ReplySender,
    /// `None` for what is not counted.
    bytes: Option<usize>,
}

/// The requests that wait, by ticket.
#[derive(Default)]
struct Slots {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
}

impl Slots {
    fn insert(&mut self, slot: Slot) -> Ticket {
        if let Some(index) = self.free.pop() {
            self.slots[index as usize] = Some(slot);
            return Ticket(index);
        }
        self.slots.push(Some(slot));
        // The budget keeps the number of slots far below 2³².
        Ticket((self.slots.len() - 1) as u32)
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Slot> {
        let slot = self.slots.get_mut(ticket.0 as usize)?.take();
        if slot.is_some() {
            self.free.push(ticket.0);
        }
        slot
    }
}

struct Driver {
    machine: Machine,
    fx: Effects,
    commands: mpsc::UnboundedReceiver<Command>,
    batch: Vec<Command>,
    slots: Slots,
    sinks: HashMap<WatchId, Sink>,
    socket: Socket,
    /// With TLS, what was written may still have to be sent.
    unflushed: bool,
    dialer: Dialer,
    /// A server that is being asked whether it has a quorum.
    asking: Option<(usize, BoxFuture<'static, bool>)>,
    inbound: BytesMut,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires. It may be earlier than the deadline: deadlines move with every request.
    timer_at: Moment,
    state: watch::Sender<ConnState>,
    /// A failure was logged since the last session or reconnect.
    told_failure: bool,
    /// What the handles were told last.
    published: Published,
    shared: Arc<Shared>,
    limits: Limits,
}

impl Driver {
    /// Does all that is ready; ready itself when the client has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = self.shared.clock.now();
            let mut progress = self.poll_commands(now, cx);
            progress |= self.poll_socket(now, cx);
            progress |= self.poll_asking(now, cx);
            progress |= self.poll_timer(now, cx);
            if self.machine.ended() {
                self.refuse_the_rest();
                return Poll::Ready(());
            }
            progress |= self.poll_write(now, cx);
            if !progress {
                return Poll::Pending;
            }
        }
    }

    fn poll_commands(&mut self, now: Moment, cx: &mut Context<'_>) -> bool {
        let mut batch = std::mem::take(&mut self.batch);
        let ready = self.commands.poll_recv_many(cx, &mut batch, COMMANDS_AT_ONCE);
        for command in batch.drain(..) {
            let event = self.event(command);
            self.machine.handle(now, event, &mut self.fx);
        }
        self.batch = batch;
        self.perform();
        matches!(ready, Poll::Ready(count) if count > 0)
    }

    fn event(&mut self, command: Command) -> Event {
        match command {
            Command::Submit { op, body, pin, watch, reply } => {
                let ticket = self.slots.insert(Slot { reply, bytes: Some(body.len()) });
                let watch = watch.map(|NewWatch { id, kind, sink }| {
                    self.sinks.insert(id, sink);
                    (id, kind)
                });
                Event::Submit(Submission { ticket, op, body, pin, watch })
            }
            Command::AddAuth { scheme, auth, reply } => {
                let bytes = Some(scheme.len() + auth.len());
                Event::AddAuth { ticket: self.slots.insert(Slot { reply, bytes }), scheme, auth }
            }
            Command::Unwatch(watch) => {
                self.sinks.remove(&watch);
                Event::Unwatch(watch)
            }
            Command::Hold => Event::Hold,
            Command::Release => Event::Release,
            Command::Close(reply) => {
                Event::Close { ticket: reply.map(|reply| self.slots.insert(Slot { reply, bytes: None })) }
            }
        }
    }

    fn poll_socket(&mut self, now: Moment, cx: &mut Context<'_>) -> bool {
        match &mut self.socket {
            Socket::None => false,
            Socket::Dialing(dialing) => match dialing.as_mut().poll(cx) {
                Poll::Pending => false,
                Poll::Ready(Ok(stream)) => {
                    self.socket = Socket::Open(stream);
                    self.unflushed = false;
                    self.inbound.clear();
                    self.tell(now, Event::Dialed);
                    true
                }
                Poll::Ready(Err(error)) => {
                    self.broken(now, &error);
                    true
                }
            },
            Socket::Open(stream) => {
                if self.inbound.capacity() - self.inbound.len() < READ_SIZE_MIN {
                    self.inbound.reserve(READ_SIZE);
                }
                let read = pin!(stream.read_buf(&mut self.inbound)).poll(cx);
                match read {
                    Poll::Pending => return false,
                    Poll::Ready(Ok(0)) => {
                        self.broken(now, &io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up"));
                    }
                    Poll::Ready(Ok(_)) => self.take_frames(now),
                    Poll::Ready(Err(error)) => self.broken(now, &error),
                }
                true
            }
        }
    }

    fn poll_asking(&mut self, now: Moment, cx: &mut Context<'_>) -> bool {
        let Some((server, asking)) = &mut self.asking else { return false };
        let Poll::Ready(writable) = asking.as_mut().poll(cx) else { return false };
        let server = *server;
        self.asking = None;
        self.tell(now, Event::Asked { server, writable });
        true
    }

    fn take_frames(&mut self, now: Moment) {
        while let Socket::Open(_) = self.socket {
            match next_frame(&mut self.inbound, self.limits.max_frame) {
                Ok(Some(frame)) => self.tell(now, Event::Frame(frame)),
                Ok(None) => return,
                Err(error) => self.broken(now, &io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
    }

    fn poll_write(&mut self, now: Moment, cx: &mut Context<'_>) -> bool {
        let Socket::Open(stream) = &mut self.socket else { return false };
        let done = if !self.fx.out.is_empty() {
            pin!(stream.write_buf(&mut self.fx.out)).poll(cx).map_ok(|_| self.unflushed = true)
        } else if self.unflushed {
            pin!(stream.flush()).poll(cx).map_ok(|()| self.unflushed = false)
        } else {
            return false;
        };
        match done {
            Poll::Pending => false,
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => {
                self.broken(now, &error);
                true
            }
        }
    }

    /// The timer is moved only when the deadline has become earlier, or when it has fired too early.
    fn poll_timer(&mut self, now: Moment, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.machine.deadline() else { return false };
        if deadline <= now {
            self.tell(now, Event::Tick);
            return true;
        }
        if self.timer.is_elapsed() || deadline < self.timer_at {
            // One millisecond is the timer's own step: firing before the deadline would be for nothing.
            let wait = deadline.since(now).max(Duration::from_millis(1));
            self.timer.as_mut().reset(tokio::time::Instant::now() + wait);
            self.timer_at = deadline;
        }
        self.timer.as_mut().poll(cx).is_ready()
    }

    fn tell(&mut self, now: Moment, event: Event) {
        self.machine.handle(now, event, &mut self.fx);
        self.perform();
    }

    fn broken(&mut self, now: Moment, error: &io::Error) {
        // A long outage is told once.
        if self.told_failure {
            tracing::debug!(%error, "connection failed");
        } else {
            tracing::warn!(%error, "connection failed");
            self.told_failure = true;
        }
        self.shared.published().last_failure = error.to_string();
        self.tell(now, Event::Broken);
    }

    /// Carries out what the machine asks, in its order. Whoever learns of an outcome finds the handles up to date.
    fn perform(&mut self) {
        // Who sees a new session's state finds its lease; who finds that the lease is gone sees why.
        let ended = self.machine.credentials().is_none();
        if !ended {
            self.publish();
        }
        let mut list = std::mem::take(&mut self.fx.list);
        for effect in list.drain(..) {
            match effect {
                Effect::Dial(host) => self.socket = Socket::Dialing(Box::pin(self.dialer.clone().dial(host))),
                Effect::Hangup => {
                    self.socket = Socket::None;
                    self.inbound.clear();
                }
                Effect::Ask { server, host } => {
                    self.asking = Some((server, Box::pin(has_quorum(self.dialer.clone(), host))))
                }
                Effect::Settle { ticket, outcome } => {
                    let Some(slot) = self.slots.remove(ticket) else { continue };
                    if let Some(bytes) = slot.bytes {
                        self.shared.budget.give_back(bytes);
                    }
                    let _caller_is_gone = slot.reply.send(outcome);
                }
                Effect::Tell { watch, item } => self.tell_watch(watch, item),
                Effect::EndWatch { watch, end } => self.end_watch(watch, end),
                Effect::State(standing) => {
                    self.set_state(standing);
                    self.publish();
                }
            }
        }
        self.publish();
        self.fx.list = list;
    }

    fn tell_watch(&mut self, watch: WatchId, item: WatchItem) {
        match self.sinks.get(&watch) {
            Some(Sink::Stream(queue)) => queue.push(item),
            Some(Sink::Oneshot(_)) => {
                if let (Some(Sink::Oneshot(sender)), WatchItem::Event(event)) =
                    (self.sinks.remove(&watch), item)
                {
                    let _watch_is_gone = sender.send(Ok(event));
                }
            }
            None => {}
        }
    }

    fn end_watch(&mut self, watch: WatchId, end: WatchEnd) {
        match self.sinks.remove(&watch) {
            Some(Sink::Stream(queue)) => queue.end(),
            Some(Sink::Oneshot(sender)) => {
                let error = match end {
                    WatchEnd::SessionEnded(session) => Error::SessionEnded { session },
                    WatchEnd::Removed { path } => Error::WatchRemoved { path },
                    WatchEnd::Ended(cause) => cause.error(),
                };
                let _watch_is_gone = sender.send(Err(error));
            }
            None => {}
        }
    }

    fn set_state(&mut self, standing: Standing) {
        let clock = self.shared.clock;
        let lease = clock.instant(self.machine.lease_end().unwrap_or_default());
        let state = match standing {
            Standing::Connecting => ConnState::Connecting,
            Standing::Connected(session) => ConnState::Connected { session, lease },
            Standing::ReadOnly(session) => ConnState::ReadOnly { session, lease },
            Standing::Suspended { session, since } => {
                ConnState::Suspended { session, since: clock.instant(since), lease }
            }
            Standing::Lost { session, cause } => ConnState::Lost { session, cause },
            Standing::Closed(cause) => ConnState::Closed { cause },
        };
        tracing::info!(?state, "connection state");
        self.told_failure &= !matches!(state, ConnState::Connected { .. } | ConnState::ReadOnly { .. });
        self.state.send_replace(state);
    }

    /// Tells the handles what has changed since they were told last.
    fn publish(&mut self) {
        self.shared.last_zxid.store(self.machine.last_zxid().0, Ordering::Relaxed);
        let (credentials, lease_end) = (self.machine.credentials(), self.machine.lease_end());
        if credentials != self.published.credentials || lease_end != self.published.lease_end {
            self.published.credentials = credentials;
            self.published.lease_end = lease_end;
            let mut published = self.shared.published();
            published.credentials = credentials;
            published.lease_end = lease_end;
        }
    }

    /// Commands that came after the end are answered too.
    fn refuse_the_rest(&mut self) {
        self.commands.close();
        let now = self.shared.clock.now();
        while let Ok(command) = self.commands.try_recv() {
            let event = self.event(command);
            self.tell(now, event);
        }
    }
}

/// The runtime is shut down, or a panic is under way: whoever still waits must learn of it.
impl Drop for Driver {
    fn drop(&mut self) {
        if !matches!(*self.state.borrow(), ConnState::Closed { .. }) {
            self.state.send_replace(ConnState::Closed { cause: CloseCause::RuntimeGone });
        }
        for sink in self.sinks.values() {
            if let Sink::Stream(queue) = sink {
                queue.end();
            }
        }
        for slot in self.slots.slots.iter_mut().filter_map(Option::take) {
            if slot.bytes.is_none() {
                let _caller_is_gone = slot.reply.send(Err(Failure::Ended(CloseCause::RuntimeGone)));
            }
        }
    }
}

/// Asks a server by the four-letter word `isro`. A server that does not answer in time has no quorum, as far as we
/// are concerned.
async fn has_quorum(dialer: Dialer, host: Host) -> bool {
    let answer = async {
        let mut stream = dialer.dial(host).await?;
        stream.write_all(b"isro").await?;
        stream.flush().await?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    matches!(tokio::time::timeout(ASK_TIMEOUT, answer).await, Ok(Ok(answer)) if &answer == b"rw")
}
