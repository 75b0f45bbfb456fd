//! The near end of the client's task: what every handle, watch and lease holds of it.
//!
//! Commands go into one queue in the order of the calls. The queue itself is not bounded; what may be in it is,
//! by [`Budget`], from the call to the answer.

use std::future::Future;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::chroot::Namespace;
use super::error::Error;
use super::lease::{Clock, Lease, Moment};
use super::pending::{Failure, Outcome};
use super::state::{CloseCause, ConnState, StateWatch};
use super::watcher::{OneshotWatch, Registration, WatchQueue, WatchedEvent, Watcher};
use super::watches::{WatchId, WatchKind};
use crate::proto::{OpCode, PASSWORD_LENGTH};
use crate::{SessionId, Zxid};

/// Where an outcome goes.
pub(super) type ReplySender = oneshot::Sender<Outcome>;

/// What a handle asks of the client's task.
pub(super) enum Command {
    Submit { op: OpCode, body: Bytes, pin: Option<SessionId>, watch: Option<NewWatch>, reply: ReplySender },
    AddAuth { scheme: String, auth: Bytes, reply: ReplySender },
    Unwatch(WatchId),
    Hold,
    Release,
    Close(Option<ReplySender>),
}

/// Where a watch's news go.
pub(super) enum Sink {
    Oneshot(oneshot::Sender<Result<WatchedEvent, Error>>),
    Stream(Arc<WatchQueue>),
}

/// A watch that a request sets.
pub(super) struct NewWatch {
    pub(super) id: WatchId,
    pub(super) kind: WatchKind,
    pub(super) sink: Sink,
}

impl NewWatch {
    /// A watch that fires once, and the future that tells.
    pub(super) fn oneshot(
        handle: &Arc<Handle>,
        namespace: &Namespace,
        kind: WatchKind,
    ) -> (Self, OneshotWatch) {
        let (sender, receiver) = oneshot::channel();
        let id = handle.next_watch();
        let registration = Registration::new(Arc::clone(handle), namespace.clone(), id);
        (NewWatch { id, kind, sink: Sink::Oneshot(sender) }, OneshotWatch::new(registration, receiver))
    }

    /// A watch that stays, and the stream that tells.
    pub(super) fn stream(handle: &Arc<Handle>, namespace: &Namespace, kind: WatchKind) -> (Self, Watcher) {
        let queue = WatchQueue::new(handle.shared.watch_queue);
        let id = handle.next_watch();
        let registration = Registration::new(Arc::clone(handle), namespace.clone(), id);
        (NewWatch { id, kind, sink: Sink::Stream(Arc::clone(&queue)) }, Watcher::new(registration, queue))
    }
}

/// Bounds the requests that wait, by number and by bytes.
#[derive(Debug)]
pub(super) struct Budget {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    requests_max: usize,
    bytes_max: usize,
}

impl Budget {
    pub(super) fn new(requests_max: usize, bytes_max: usize) -> Self {
        Budget { requests: AtomicUsize::new(0), bytes: AtomicUsize::new(0), requests_max, bytes_max }
    }

    /// A request of any size fits when nothing waits, so that a low bound on bytes stops nobody for good.
    fn take(&self, bytes: usize) -> Result<(), Error> {
        let requests = self.requests.fetch_add(1, Ordering::Relaxed);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if requests < self.requests_max && (before == 0 || before + bytes <= self.bytes_max) {
            return Ok(());
        }
        self.give_back(bytes);
        Err(Error::TooManyRequests { requests, bytes: before })
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What the task tells all handles about the session.
#[derive(Clone, Debug, Default)]
pub(super) struct Published {
    pub(super) credentials: Option<(SessionId, [u8; PASSWORD_LENGTH])>,
    pub(super) lease_end: Option<Moment>,
    /// Why the last attempt to connect failed.
    pub(super) last_failure: String,
}

/// What the task and the handles both reach.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) budget: Budget,
    pub(super) published: Mutex<Published>,
    pub(super) last_zxid: AtomicI64,
    pub(super) clock: Clock,
    next_watch: AtomicU64,
    watch_queue: usize,
    hosts: String,
    connect_within: Duration,
}

impl Shared {
    pub(super) fn new(budget: Budget, watch_queue: usize, hosts: String, connect_within: Duration) -> Self {
        Shared {
            budget,
            published: Mutex::default(),
            last_zxid: AtomicI64::new(0),
            clock: Clock::start(),
            next_watch: AtomicU64::new(1),
            watch_queue,
            hosts,
            connect_within,
        }
    }

    pub(super) fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module. It does not keep the client alive.
#[derive(Debug)]
pub(super) struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    state: watch::Receiver<ConnState>,
    shared: Arc<Shared>,
}

impl Handle {
    pub(super) fn new(
        commands: mpsc::UnboundedSender<Command>,
        state: watch::Receiver<ConnState>,
        shared: Arc<Shared>,
    ) -> Self {
        Handle { commands, state, shared }
    }

    fn next_watch(&self) -> WatchId {
        WatchId(self.shared.next_watch.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn submit(
        &self,
        op: OpCode,
        body: Bytes,
        pin: Option<SessionId>,
        watch: Option<NewWatch>,
    ) -> Result<oneshot::Receiver<Outcome>, Error> {
        let bytes = body.len();
        self.ask(bytes, |reply| Command::Submit { op, body, pin, watch, reply })
    }

    pub(super) fn add_auth(&self, scheme: String, auth: Bytes) -> Result<oneshot::Receiver<Outcome>, Error> {
        let bytes = scheme.len() + auth.len();
        self.ask(bytes, |reply| Command::AddAuth { scheme, auth, reply })
    }

    fn ask(
        &self,
        bytes: usize,
        command: impl FnOnce(ReplySender) -> Command,
    ) -> Result<oneshot::Receiver<Outcome>, Error> {
        self.shared.budget.take(bytes)?;
        let (reply, receiver) = oneshot::channel();
        if self.commands.send(command(reply)).is_err() {
            self.shared.budget.give_back(bytes);
            return Err(self.end_error());
        }
        Ok(receiver)
    }

    /// The rest of the commands need no answer: when the task is gone, there is nothing left that they could
    /// change.
    fn tell(&self, command: Command) {
        let _task_is_gone = self.commands.send(command);
    }

    pub(super) fn unwatch(&self, id: WatchId) {
        self.tell(Command::Unwatch(id));
    }

    pub(super) fn hold_lease(&self) {
        self.tell(Command::Hold);
    }

    pub(super) fn release_lease(&self) {
        self.tell(Command::Release);
    }

    pub(super) fn close_in_background(&self) {
        self.tell(Command::Close(None));
    }

    pub(super) async fn close(&self) -> Result<(), Error> {
        let (reply, receiver) = oneshot::channel();
        self.tell(Command::Close(Some(reply)));
        match receiver.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(Failure::Ended(CloseCause::Closed))) => {
                Err(Error::Timeout { what: "closing the session" })
            }
            // The client ended by itself, before or meanwhile: there is no session left to end.
            Ok(Err(_)) => Ok(()),
            Err(_) => match self.closed() {
                Some(CloseCause::RuntimeGone) => Err(Error::Closed),
                _ => Ok(()),
            },
        }
    }

    pub(super) fn state(&self) -> StateWatch {
        StateWatch::new(self.state.clone())
    }

    /// Why the client ended; `None` while it lives.
    pub(super) fn closed(&self) -> Option<CloseCause> {
        match *self.state.borrow() {
            ConnState::Closed { cause } => Some(cause),
            _ => None,
        }
    }

    /// The error of whatever meets a client that has ended.
    pub(super) fn end_error(&self) -> Error {
        self.closed().map_or(Error::Closed, CloseCause::error)
    }

    pub(super) fn session(&self) -> Result<SessionId, Error> {
        match *self.state.borrow() {
            ConnState::Connected { session, .. }
            | ConnState::ReadOnly { session, .. }
            | ConnState::Suspended { session, .. } => Ok(session),
            ConnState::Lost { session, .. } => Err(Error::SessionEnded { session }),
            ConnState::Connecting => Err(Error::SessionEnded { session: SessionId::NONE }),
            ConnState::Closed { cause } => Err(cause.error()),
        }
    }

    pub(super) fn credentials(&self) -> Option<(SessionId, [u8; PASSWORD_LENGTH])> {
        self.shared.published().credentials
    }

    pub(super) fn last_zxid(&self) -> Zxid {
        Zxid(self.shared.last_zxid.load(Ordering::Relaxed))
    }

    pub(super) fn lease(&self) -> Lease {
        let published = self.shared.published();
        let session = published.credentials.map_or(SessionId::NONE, |(session, _)| session);
        Lease::new(session, published.lease_end.unwrap_or_default(), self.shared.clock)
    }

    /// Bounds what `connect` waits for.
    pub(super) async fn first(&self, settled: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
        tokio::time::timeout(self.shared.connect_within, settled).await.unwrap_or_else(|_| {
            let last = self.shared.published().last_failure.clone();
            Err(Error::ConnectFailed { hosts: self.shared.hosts.clone(), last })
        })
    }

    /// Waits for the first session.
    pub(super) async fn first_session(&self) -> Result<(), Error> {
        let mut state = self.state();
        let settled = |state: &ConnState| {
            matches!(
                state,
                ConnState::Connected { .. } | ConnState::ReadOnly { .. } | ConnState::Closed { .. }
            )
        };
        match state.wait_for(settled).await {
            Some(ConnState::Connected { .. } | ConnState::ReadOnly { .. }) => Ok(()),
            _ => Err(self.end_error()),
        }
    }
}
