//! Following a tree for a cache: through sessions, reconnects and slow servers, forward only.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use docent::{Client, OneshotWatch, SessionId, SessionRef, Zxid};
use futures::stream::{FuturesOrdered, StreamExt as _};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::cache::CacheEvent;
use crate::cache_reads::{Read, Reads, Refused, Scope};
use crate::cache_view::{CacheSnapshot, Change};
use crate::cache_watch::{Answer, Answering, Manner, Seen, Watching};
use crate::error::{Error, LossCause};
use crate::following::Sessions;
use crate::guarded;
use crate::hold::{self, Fate, fate};

/// How many reads are on their way at the same time.
const READS_AT_ONCE: usize = 64;

/// What became of the first fill.
#[derive(Clone, Debug)]
pub(crate) enum First {
    Waiting,
    Filled,
    Failed(Error),
}

/// What the cache and the one who follows the tree share.
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) first: watch::Sender<First>,
}

pub(crate) struct State {
    pub(crate) view: CacheSnapshot,
    /// `None` after the end. Sent to under the lock, so that a snapshot lies between two events.
    pub(crate) events: Option<broadcast::Sender<CacheEvent>>,
    /// Since when the view may be old.
    pub(crate) stale_since: Option<Instant>,
    /// The session whose loss was told last.
    lost: Option<SessionId>,
    pub(crate) error: Option<Error>,
}

impl State {
    fn tell(&self, event: CacheEvent) {
        if let Some(events) = &self.events {
            // An error means that nobody listens.
            let _ = events.send(event);
        }
    }
}

impl Shared {
    pub(crate) fn new(events_max: usize) -> Shared {
        let state = State {
            view: CacheSnapshot::default(),
            events: Some(broadcast::Sender::new(events_max)),
            stale_since: None,
            lost: None,
            error: None,
        };
        Shared { state: Mutex::new(state), first: watch::Sender::new(First::Waiting) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic half way; a poisoned lock guards a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an answer into the view, and tells what it changed.
    fn take(
        &self,
        take: impl FnOnce(&mut CacheSnapshot, &mut Vec<Change>) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let mut changes = Vec::new();
        let mut state = self.lock();
        let taken = take(&mut state.view, &mut changes);
        changes.into_iter().for_each(|change| state.tell(change.into()));
        taken
    }

    /// The connection is gone.
    fn suspended(&self, since: Instant) {
        let mut state = self.lock();
        if state.stale_since.is_none() {
            state.stale_since = Some(since);
            state.tell(CacheEvent::Suspended { since });
        }
    }

    /// The session is gone. That may be found out in more than one way.
    fn lost(&self, session: SessionId) {
        let mut state = self.lock();
        if state.lost.replace(session) != Some(session) {
            state.stale_since.get_or_insert_with(Instant::now);
            state.tell(CacheEvent::Lost);
        }
    }

    /// Everything has been read since `zxid`.
    fn synced(&self, zxid: Zxid) {
        let mut state = self.lock();
        state.stale_since = None;
        state.tell(CacheEvent::Synced { zxid });
        drop(state);
        self.first.send_replace(First::Filled);
    }

    /// Nothing more can come, and why.
    fn end(&self, error: Error) {
        let mut state = self.lock();
        state.error = Some(error.clone());
        state.tell(CacheEvent::Ended(error.clone()));
        drop(state);
        self.first.send_replace(First::Failed(error));
    }

    /// Nothing more will come: the streams end.
    fn close(&self) {
        let mut state = self.lock();
        state.stale_since.get_or_insert_with(Instant::now);
        state.events = None;
        drop(state);
        self.first.send_if_modified(|first| {
            let waiting = matches!(first, First::Waiting);
            if waiting {
                *first = First::Failed(Error::RuntimeStopped);
            }
            waiting
        });
    }
}

/// Follows until `stop`, or until nothing more can come. Cancels `ended` when its watches are given back.
pub(crate) async fn run(
    client: Client,
    shared: Arc<Shared>,
    scope: Scope,
    manner: Manner,
    stop: CancellationToken,
    ended: CancellationToken,
) {
    let _ended = ended.drop_guard();
    let _closes = Closes(&shared);
    let limits = (scope.nodes_max, scope.bytes_max);
    let mut follower = Follower { shared: &shared, reads: Reads::new(scope), manner, limits };
    tokio::select! {
        () = stop.cancelled() => {}
        error = follower.through_sessions(&client) => {
            tracing::debug!(path = %follower.manner.root, %error, "a cache does not follow any more");
            shared.end(error);
        }
    }
}

/// Closes at the end of the one who follows, also when the runtime ends it.
struct Closes<'a>(&'a Shared);

impl Drop for Closes<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct Follower<'a> {
    shared: &'a Shared,
    reads: Reads,
    manner: Manner,
    /// Of nodes and bytes, for the error.
    limits: (usize, usize),
}

/// What follows from an answer.
enum Next {
    GoOn,
    /// Read everything anew, when the server has caught up.
    CatchUp,
}

impl Follower<'_> {
    async fn through_sessions(&mut self, client: &Client) -> Error {
        let root = Arc::clone(&self.manner.root);
        let mut sessions = Sessions::new(client, &root);
        let mut before: Option<SessionId> = None;
        loop {
            let session = match sessions.next().await {
                Ok(session) => session,
                Err(error) => return error,
            };
            // The watch may have told of the end before anything else did.
            if let Some(before) = before.replace(session.id()).filter(|before| *before != session.id()) {
                self.shared.lost(before);
            }
            match self.in_session(&session).await {
                Ok(()) => {}
                Err(Error::SessionEnded(_)) => self.shared.lost(session.id()),
                Err(error) => return error,
            }
        }
    }

    /// Follows until the session ends, which is an error, or the watch has to be set again.
    async fn in_session(&mut self, session: &SessionRef) -> Result<(), Error> {
        let (mut state, now) = hold::states(session);
        let mut connected = fate(&now, session.id()) == Fate::Connected;
        let suspended = |since| self.shared.suspended(since);
        // What is read from here on, the watch tells of.
        let mut watching = Watching::begin(&self.manner, session, &mut state, suspended).await?;
        self.reads.list_leaves(watching.are_oneshots());
        let mut answers: FuturesOrdered<Answering> = FuturesOrdered::new();
        let mut backoff = Backoff::reconnecting();
        let mut since = self.refill(session);
        loop {
            while answers.len() < READS_AT_ONCE
                && let Some(read) = self.reads.next()
            {
                answers.push_back(watching.send(&self.manner, session, read));
            }
            // What was answered before the connection went is not what everything is now.
            if connected && self.reads.take_complete() {
                backoff = Backoff::reconnecting();
                self.shared.synced(since);
            }
            let (read, answer) = tokio::select! {
                biased;
                now = state.changed() => {
                    connected = fate(&now, session.id()) == Fate::Connected;
                    match fate(&now, session.id()) {
                        // Events may have been missed. What is read from now on is read with the watch set again.
                        Fate::Connected => since = self.refill(session),
                        Fate::Suspended { since } => self.shared.suspended(since),
                        Fate::Ended(LossCause::Closed) => return Err(Error::Closed),
                        Fate::Ended(_) => return Err(Error::SessionEnded(session.id())),
                    }
                    continue;
                }
                seen = watching.next() => {
                    match seen {
                        Seen::Touched(path, what) => self.reads.touched(&path, what),
                        Seen::Missed => since = self.refill(session),
                        Seen::Ended => return Ok(()),
                    }
                    continue;
                }
                Some(answered) = answers.next(), if !answers.is_empty() => answered,
            };
            match answer {
                Ok(answer) => match self.take(&mut watching, &read, answer)? {
                    Next::GoOn => continue,
                    Next::CatchUp => guarded::synced(session, &self.manner.root).await?,
                },
                Err(error) if guarded::may_try_again(&error) => backoff.wait().await,
                Err(error) => return Err(error.into()),
            }
            since = self.refill(session);
        }
    }

    /// Begins to read everything anew, and returns what that is at least as new as.
    fn refill(&mut self, session: &SessionRef) -> Zxid {
        self.reads.refill();
        session.last_zxid()
    }

    fn take(&mut self, watching: &mut Watching, read: &Read, mut answer: Answer) -> Result<Next, Error> {
        let (reads, mut watch): (_, Option<OneshotWatch>) = (&mut self.reads, None);
        if let Answer::Children(Some(names), _) = &mut answer {
            reads.keep_names(&read.path, names);
        }
        let taken = self.shared.take(|view, changes| match answer {
            Answer::Node(node, armed) => {
                watch = armed;
                reads.on_node(view, read, node, changes)
            }
            Answer::Children(names, armed) => {
                watch = armed;
                reads.on_children(view, read, names.as_deref(), changes)
            }
        });
        watching.keep(read, watch);
        match taken {
            Ok(()) => Ok(Next::GoOn),
            Err(Refused::Behind) => Ok(Next::CatchUp),
            Err(Refused::TooLarge) => Err(Error::CacheTooLarge {
                path: self.manner.root.to_string(),
                nodes_max: self.limits.0,
                bytes_max: self.limits.1,
            }),
        }
    }
}
