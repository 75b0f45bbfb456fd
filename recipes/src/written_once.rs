//! Writes to a shared node whose outcome is told truly: applied, refused, or not known.
//!
//! A versioned write whose reply was lost must not be sent again: the second try would be refused, taken for somebody
//! else's success, and be made on top of the first. Nor does reading help, since another may have written the same bytes.
//! So the outcome is [`Written::Ambiguous`]; or, where it is wanted, a marker with a name that is never used again is
//! made in the same transaction, and tells after a lost reply whether it was applied.

use bytes::Bytes;
use docent::{Client, CreateMode, ErrorCode, SessionRef, Transaction, Version, path};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::error::Error;
use crate::guard::Ticket;
use crate::guarded;

/// How often the parent of the markers may be gone right after it was made.
const PARENT_ROUNDS_MAX: u32 = 16;

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Applied,
    /// The node has another version. Nothing was written.
    Refused,
    /// There is no node. Nothing was written.
    Missing,
    /// The reply was lost, and it cannot be found out any more.
    Ambiguous,
}

/// Writes in one session, and never again in another.
pub(crate) async fn write(
    client: &Client,
    path: &str,
    data: Bytes,
    version: Version,
) -> Result<Written, Error> {
    let session = client.session_ready().await?;
    let mut backoff = Backoff::reconnecting();
    loop {
        let Err(error) = session.set_data(path, data.clone(), version).await else {
            return Ok(Written::Applied);
        };
        match error.code() {
            Some(ErrorCode::BAD_VERSION) => return Ok(Written::Refused),
            Some(ErrorCode::NO_NODE) => return Ok(Written::Missing),
            _ if error.may_have_applied() => return Ok(Written::Ambiguous),
            _ if guarded::may_try_again(&error) => backoff.wait().await,
            _ => return Err(error.into()),
        }
    }
}

/// As [`write()`], with a marker: ambiguous only when the session ends before the marker was looked for. When the future is
/// dropped, a task of its own goes on until no marker is left.
pub(crate) async fn write_marked(
    client: &Client,
    path: &str,
    data: Bytes,
    version: Version,
) -> Result<Written, Error> {
    let (ticket, stop, granter) = Ticket::new();
    let (client, path) = (client.clone(), path.to_owned());
    tokio::spawn(async move {
        let session = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            session = client.session_ready() => session,
        };
        let session = match session {
            Ok(session) => session,
            Err(error) => return drop(granter.send(Err(error.into()))),
        };
        let ops = Transaction::new().set_data(&path, data, version);
        let marked = Marked::new(session, &path, ops, stop);
        let outcome = marked.write().await;
        let made = matches!(outcome, Ok(Some(Marking::Applied)));
        let outcome = outcome.map(|marking| marking.map(|marking| written(&marking)));
        // Nobody may wait for the answer any more.
        drop(granter.send(outcome));
        if made {
            marked.remove_marker().await;
        }
    });
    // The driver answers `None` only to one who has gone.
    ticket.await?.ok_or(Error::RuntimeStopped)
}

fn written(marking: &Marking) -> Written {
    match marking {
        Marking::Applied => Written::Applied,
        Marking::Refused { code: ErrorCode::NO_NODE, .. } => Written::Missing,
        Marking::Refused { .. } => Written::Refused,
        Marking::Ambiguous => Written::Ambiguous,
    }
}

/// What became of operations that were sent with a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marking {
    Applied,
    /// Nothing was applied: this one found a node, or none, or another version.
    Refused {
        index: usize,
        code: ErrorCode,
    },
    /// The session ended before the marker was looked for.
    Ambiguous,
}

/// Operations that are applied all or none, and once though their reply is lost. They are sent in one session.
pub(crate) struct Marked {
    session: SessionRef,
    marker: String,
    ops: Transaction,
    stop: CancellationToken,
}

impl Marked {
    /// The marker's parent stands beside `path`.
    pub(crate) fn new(session: SessionRef, path: &str, ops: Transaction, stop: CancellationToken) -> Marked {
        let marker = path::join(&format!("{path}-ops"), &Uuid::new_v4().hyphenated().to_string());
        Marked { session, marker, ops, stop }
    }

    /// `None` when it was stopped before anything was applied. After an error nothing was.
    pub(crate) async fn write(&self) -> Result<Option<Marking>, Error> {
        let (mut backoff, mut parent_rounds) = (Backoff::reconnecting(), 0);
        while !self.stop.is_cancelled() {
            // The marker first: a second try after a first that was applied is refused because of it, and not because of
            // what the first has changed.
            let marker = Transaction::new().create(&self.marker, "", CreateMode::Ephemeral);
            let Err(error) = self.session.multi(marker.then(self.ops.clone())).await else {
                return Ok(Some(Marking::Applied));
            };
            match &error {
                docent::Error::Multi { index: 0, code: ErrorCode::NODE_EXISTS, .. } => {
                    return Ok(Some(Marking::Applied));
                }
                docent::Error::Multi { index: 0, code: ErrorCode::NO_NODE, .. }
                    if parent_rounds < PARENT_ROUNDS_MAX =>
                {
                    parent_rounds += 1;
                    guarded::make_parents(&self.session, &self.marker).await?;
                }
                docent::Error::Multi {
                    index: index @ 1..,
                    code: code @ (ErrorCode::BAD_VERSION | ErrorCode::NO_NODE | ErrorCode::NODE_EXISTS),
                    ..
                } => return Ok(Some(Marking::Refused { index: index - 1, code: *code })),
                _ if error.may_have_applied() => match self.is_marked().await {
                    Ok(true) => return Ok(Some(Marking::Applied)),
                    Ok(false) => {}
                    // The marker went with the session, and with it the knowledge.
                    Err(_) => return Ok(Some(Marking::Ambiguous)),
                },
                _ if guarded::may_try_again(&error) => backoff.wait().await,
                _ => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Whether an earlier try was applied. `sync` comes first: the server we are at now may not have heard of it yet.
    async fn is_marked(&self) -> Result<bool, Error> {
        guarded::synced(&self.session, &self.marker).await?;
        let stat = guarded::stat_of(&self.session, &self.marker).await?;
        Ok(stat.is_some_and(|stat| stat.ephemeral_owner == self.session.id()))
    }

    /// The name is never used again, so a delete that is sent twice hits nobody else.
    pub(crate) async fn remove_marker(&self) {
        let mut backoff = Backoff::reconnecting();
        while let Err(error) = self.session.delete(&self.marker, Version::ANY).await {
            if !guarded::may_try_again(&error) {
                return;
            }
            backoff.wait().await;
        }
    }
}
