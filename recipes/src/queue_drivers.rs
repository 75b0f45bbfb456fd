//! The tasks that put and take the items of a queue: whoever waits for them may go at any time.
//!
//! Each write goes with a marker, so that it is applied once though its reply is lost; see [`crate::written_once`].

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use docent::{CreateMode, ErrorCode, OneshotWatch, ParentMode, SessionRef, Transaction, Version, path};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::error::Error;
use crate::guard::Granter;
use crate::guarded::{self, PARENT_ROUNDS_MAX};
use crate::hold::{self, Fate, fate};
use crate::queue::{Queue, Taken, millis};
use crate::queue_layout::Rank;
use crate::written_once::{Marked, Marking};

/// The task that puts one item.
pub(crate) struct Putter {
    pub(crate) queue: Queue,
    pub(crate) stem: String,
    pub(crate) data: Bytes,
    pub(crate) stop: CancellationToken,
}

impl Putter {
    pub(crate) async fn run(self, granter: Granter<()>) {
        let (put, marked) = match self.put().await {
            Ok(Some(marked)) => (Ok(Some(())), Some(marked)),
            Ok(None) => (Ok(None), None),
            Err(error) => (Err(error), None),
        };
        // Nobody may wait for the answer any more.
        drop(granter.send(put));
        if let Some(marked) = marked {
            marked.remove_marker().await;
        }
    }

    /// Puts the item, in one session after another. `None` when it was stopped before.
    async fn put(&self) -> Result<Option<Marked>, Error> {
        let mut parent_rounds = 0;
        loop {
            let Some(session) = next_session(&self.queue, &self.stop).await? else { return Ok(None) };
            let outcome = match self.is_full(&session).await {
                Ok(true) => {
                    let (path, max) = (self.queue.path.clone(), self.queue.length_max);
                    return Err(Error::TooMany { path, max });
                }
                Ok(false) => self.put_in(session.clone()).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(Some((marked, Marking::Applied))) => return Ok(Some(marked)),
                Ok(Some((_, Marking::Refused { code: ErrorCode::NO_NODE, .. })))
                    if parent_rounds < PARENT_ROUNDS_MAX =>
                {
                    parent_rounds += 1;
                    // Persistent: in a queue that is empty for a while the numbers must not begin anew.
                    let child = path::join(&self.queue.path, &self.stem);
                    match guarded::make_parents_as(&session, &child, ParentMode::Persistent).await {
                        Ok(()) | Err(Error::SessionEnded(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(Some(_)) => {
                    return Err(Error::Ambiguous { op: "put", path: self.queue.path.clone() });
                }
                Ok(None) => return Ok(None),
                // Nothing was applied in it.
                Err(Error::SessionEnded(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn is_full(&self, session: &SessionRef) -> Result<bool, Error> {
        let stat = guarded::stat_of(session, &self.queue.path).await?;
        let length = stat.map_or(0, |stat| usize::try_from(stat.num_children).unwrap_or(0));
        Ok(length >= self.queue.length_max)
    }

    async fn put_in(&self, session: SessionRef) -> Result<Option<(Marked, Marking)>, Error> {
        let item = path::join(&self.queue.path, &self.stem);
        let ops = Transaction::new().create(item, self.data.clone(), CreateMode::PersistentSequential);
        let marked = Marked::new(session, &self.queue.path, ops, self.stop.clone());
        Ok(marked.write().await?.map(|marking| (marked, marking)))
    }
}

/// A session, or `None` when it was stopped before there is one.
pub(crate) async fn next_session(
    queue: &Queue,
    stop: &CancellationToken,
) -> Result<Option<SessionRef>, Error> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(None),
        session = queue.client.session_ready() => Ok(Some(session?)),
    }
}

/// What a queue has at one look.
pub(crate) struct Seen {
    /// The items that are due, first first.
    pub(crate) due: Vec<String>,
    /// How long until the next one is.
    pub(crate) next: Option<Duration>,
    /// Fires when items come or go.
    pub(crate) changed: OneshotWatch,
}

/// Looks at the items of a queue.
pub(crate) async fn look(queue: &Queue, session: &SessionRef) -> Result<Seen, Error> {
    let (names, changed) = children_and_watch(session, &queue.path).await?;
    let now = millis(SystemTime::now());
    let is_due = |(rank, _): &(Rank, String)| rank.due <= now;
    let (due, later): (Vec<_>, Vec<_>) = queue.naming.sorted(names).into_iter().partition(is_due);
    let next = later.first().map(|(rank, _)| Duration::from_millis(rank.due - now));
    Ok(Seen { due: due.into_iter().map(|(_, name)| name).collect(), next, changed })
}

/// The children of a node, none if it does not exist, and a watch on their coming and going.
pub(crate) async fn children_and_watch(
    session: &SessionRef,
    path: &str,
) -> Result<(Vec<String>, OneshotWatch), Error> {
    let mut backoff = Backoff::reconnecting();
    loop {
        let error = match session.get_children_and_watch(path).await {
            Ok((children, watch)) => return Ok((children.names, watch)),
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => {
                match session.exists_and_watch(path).await {
                    Ok((None, watch)) => return Ok((Vec::new(), watch)),
                    Ok((Some(_), _)) => continue,
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        if !guarded::may_try_again(&error) {
            return Err(error.into());
        }
        backoff.wait().await;
    }
}

/// Waits until it is worth looking again. An error says that the session is over.
pub(crate) async fn wait_for_more(
    session: &SessionRef,
    changed: impl Future<Output = ()>,
    next: Option<Duration>,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let (mut state, _) = hold::states(session);
    let mut changed = std::pin::pin!(changed);
    let due = async {
        match next {
            // The clock that counts may be set meanwhile: look again from time to time.
            Some(next) => tokio::time::sleep(next.min(LOOK_AT_CLOCK)).await,
            None => std::future::pending().await,
        }
    };
    let mut due = std::pin::pin!(due);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            // Whatever it was, the next look tells.
            () = &mut changed => return Ok(()),
            () = &mut due => return Ok(()),
            now = state.changed() => match fate(&now, session.id()) {
                Fate::Connected => return Ok(()),
                Fate::Suspended { .. } => {}
                Fate::Ended(_) => return Err(Error::SessionEnded(session.id())),
            }
        }
    }
}

/// The longest that is slept for an item that is not due.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(10);

/// An item on its way to the one who wants it. Where it gets lost on that way, the driver hears of it.
pub(crate) struct Offer {
    pub(crate) item: Taken,
    pub(crate) taken: oneshot::Sender<()>,
}

/// The task that takes one item.
pub(crate) struct Taker {
    pub(crate) queue: Queue,
    pub(crate) wait: bool,
    pub(crate) stop: CancellationToken,
}

/// An item that is gone from the server.
struct Gone {
    name: String,
    data: Bytes,
    session: SessionRef,
    marked: Marked,
}

impl Taker {
    pub(crate) async fn run(self, granter: Granter<Offer>) {
        let gone = match self.take().await {
            Ok(Some(gone)) => gone,
            Ok(None) => return drop(granter.send(Ok(None))),
            Err(error) => return drop(granter.send(Err(error))),
        };
        let values = self.queue.naming.read(&gone.data);
        let (taken, seen) = oneshot::channel();
        let offer = Offer { item: Taken { name: gone.name.clone(), values }, taken };
        drop(granter.send(Ok(Some(offer))));
        if seen.await.is_err() {
            self.put_back(&gone).await;
        }
        gone.marked.remove_marker().await;
    }

    /// Takes an item, in one session after another. `None` when there is none and waiting is not wanted, or when it was stopped.
    async fn take(&self) -> Result<Option<Gone>, Error> {
        loop {
            let Some(session) = next_session(&self.queue, &self.stop).await? else { return Ok(None) };
            match self.take_in(&session).await {
                Err(Error::SessionEnded(_)) => {}
                outcome => return outcome,
            }
        }
    }

    async fn take_in(&self, session: &SessionRef) -> Result<Option<Gone>, Error> {
        while !self.stop.is_cancelled() {
            let Seen { due, next, changed } = look(&self.queue, session).await?;
            let none = due.is_empty();
            for name in due {
                if let Some(gone) = self.take_one(session, name).await? {
                    return Ok(Some(gone));
                }
            }
            if none && !self.wait {
                return Ok(None);
            }
            if none {
                let changed = async { drop(changed.await) };
                wait_for_more(session, changed, next, &self.stop).await?;
            }
        }
        Ok(None)
    }

    /// Takes this item. `None` when another was faster.
    async fn take_one(&self, session: &SessionRef, name: String) -> Result<Option<Gone>, Error> {
        let item = path::join(&self.queue.path, &name);
        let Some((data, version)) = read(session, &item).await? else { return Ok(None) };
        let ops = Transaction::new().delete(&item, Version(version));
        let marked = Marked::new(session.clone(), &self.queue.path, ops, self.stop.clone());
        match marked.write().await? {
            Some(Marking::Applied) => Ok(Some(Gone { name, data, session: session.clone(), marked })),
            Some(Marking::Ambiguous) => Err(Error::Ambiguous { op: "take", path: item }),
            Some(Marking::Refused { .. }) | None => Ok(None),
        }
    }

    /// Nobody is there to take it: under its old name it stands where it stood.
    async fn put_back(&self, gone: &Gone) {
        let item = path::join(&self.queue.path, &gone.name);
        let ops = Transaction::new().create(&item, gone.data.clone(), CreateMode::Persistent);
        let marked = Marked::new(gone.session.clone(), &self.queue.path, ops, CancellationToken::new());
        match marked.write().await {
            Ok(Some(Marking::Applied)) => marked.remove_marker().await,
            // In another session nobody could know whether it is there already, and nothing is taken twice.
            outcome => tracing::warn!(path = %item, ?outcome, "an item that nobody waits for is lost"),
        }
    }
}

/// A node's data and version; `None` when it is gone.
pub(crate) async fn read(session: &SessionRef, path: &str) -> Result<Option<(Bytes, i32)>, Error> {
    let mut backoff = Backoff::reconnecting();
    loop {
        match session.get_data(path).await {
            Ok(node) => return Ok(Some((node.bytes(), node.stat.version))),
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => return Ok(None),
            Err(error) if guarded::may_try_again(&error) => backoff.wait().await,
            Err(error) => return Err(error.into()),
        }
    }
}
