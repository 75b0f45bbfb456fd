//! Creates that survive a lost reply, and deletes that hit only what we made.
//!
//! When the connection breaks before the reply to a create arrives, the node may or may not be there. Its name
//! carries a tag, so it can be found again, with three cares that all matter:
//!
//! * `sync` before the search. The server we moved to may not have applied yet what the old one forwarded; a
//!   search there misses the node, a second one is made, and we wait behind our own orphan.
//! * Only a node owned by *this* session counts. A node of our own previous session dies any moment.
//! * Extra copies are deleted, and a tag is never used again in another session.
//!
//! Who stands in no line finds its node by the same cares: see [`crate::tagged`].
//!
//! Everything here runs inside a driver task and goes on until the outcome is known or the session has ended;
//! nothing is sent again in another session. So when a function returns an error, no node remains.

use bytes::Bytes;
use docent::{Client, CreateMode, ErrorCode, ParentMode, SessionId, SessionRef, Stat, Version, Zxid, path};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::error::Error;
use crate::line::{Line, LineRules, Tag};

/// How often a create may find its parent gone right after it was made. An empty container can be reaped at the
/// worst moment, but not again and again.
pub(crate) const PARENT_ROUNDS_MAX: u32 = 16;

/// A node that we made: who made it, and which incarnation of its name it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnNode {
    pub(crate) path: String,
    pub(crate) czxid: Zxid,
    /// Whose it is; [`SessionId::NONE`] for a node that outlives its session.
    pub(crate) session: SessionId,
}

impl OwnNode {
    pub(crate) fn name(&self) -> &str {
        path::name(&self.path)
    }

    /// Whether this is the state of our node and not of another one with the same name.
    pub(crate) fn is(&self, stat: &Stat) -> bool {
        stat.czxid == self.czxid && stat.ephemeral_owner == self.session
    }
}

/// What to put in line.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) parent: String,
    pub(crate) rules: LineRules,
    pub(crate) data: Bytes,
}

/// A place in line, and the line as it was when the place was taken.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) own: OwnNode,
    pub(crate) line: Line,
}

/// Takes a place in line. `None` when `stop` came first; then no node remains.
///
/// Create and list are sent together: replies come in order, so the list shows the new node, and a server that
/// applied our create applied every earlier one. A free lock costs one round trip.
pub(crate) async fn place(
    session: &SessionRef,
    plan: &Plan,
    stop: &CancellationToken,
) -> Result<Option<Placed>, Error> {
    let tag = Tag::new(Uuid::new_v4(), plan.rules.layout());
    let wanted = path::join(&plan.parent, &plan.rules.name(tag));
    let mut backoff = Backoff::reconnecting();
    let mut parent_rounds = 0;
    while !stop.is_cancelled() {
        let create = session.create(&wanted, plan.data.clone()).mode(CreateMode::EphemeralSequential).send();
        let list = session.get_children(&plan.parent);
        let error = match create.await {
            Ok(created) => {
                let czxid = created.stat.map_or(created.zxid, |stat| stat.czxid);
                let own = OwnNode { path: created.path, czxid, session: session.id() };
                let line = match list.await {
                    Ok(children) => Line::read(&plan.rules, children.names),
                    Err(_) => list_again(session, plan).await?,
                };
                return refuse_last_number(session, Placed { own, line }).await.map(Some);
            }
            Err(error) => error,
        };
        // The list that went with a failed create says nothing that may be used: it may be answered by another
        // server than the one that has the node.
        drop(list);
        if error.code() == Some(ErrorCode::NO_NODE) && parent_rounds < PARENT_ROUNDS_MAX {
            parent_rounds += 1;
            make_parents(session, &wanted).await?;
        } else if error.may_have_applied() {
            if let Some(placed) = find(session, plan, tag).await? {
                return refuse_last_number(session, placed).await.map(Some);
            }
        } else if error.is_retryable() {
            backoff.wait().await;
        } else {
            return Err(error.into());
        }
    }
    Ok(None)
}

/// Past its end the parent's counter stands still: the next node would get the same number, and the order within
/// one number is not the order of arrival. Better no lock than two holders.
async fn refuse_last_number(session: &SessionRef, placed: Placed) -> Result<Placed, Error> {
    let number = placed.line.position(placed.own.name()).map(|at| placed.line.seats()[at].number);
    if !matches!(number, Some(i32::MAX | i32::MIN)) {
        return Ok(placed);
    }
    remove(session, &placed.own).await;
    Err(Error::NumbersUsedUp { path: path::parent(&placed.own.path).unwrap_or("/").to_owned() })
}

/// Creates the parents of a path, as containers where the server knows them.
pub(crate) async fn make_parents(session: &SessionRef, child: &str) -> Result<(), Error> {
    make_parents_as(session, child, ParentMode::Container).await
}

/// Creates the parents of a path.
pub(crate) async fn make_parents_as(
    session: &SessionRef,
    child: &str,
    mode: ParentMode,
) -> Result<(), Error> {
    let mut backoff = Backoff::reconnecting();
    loop {
        match session.create_parents(child, mode).await {
            Ok(()) => return Ok(()),
            // A parent that was made by a lost reply is found to exist on the next round.
            Err(error) if may_try_again(&error) => backoff.wait().await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Lists the line until it is read or the session has ended.
pub(crate) async fn list_again(session: &SessionRef, plan: &Plan) -> Result<Line, Error> {
    let mut backoff = Backoff::reconnecting();
    loop {
        match session.get_children(&plan.parent).await {
            Ok(children) => return Ok(Line::read(&plan.rules, children.names)),
            // Somebody deleted the whole line with our node in it.
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => return Ok(Line::default()),
            Err(error) if may_try_again(&error) => backoff.wait().await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// After a create of unknown outcome: our node, if there is one. Keeps the lowest copy and deletes the others.
async fn find(session: &SessionRef, plan: &Plan, tag: Tag) -> Result<Option<Placed>, Error> {
    synced(session, &plan.parent).await?;
    let line = list_again(session, plan).await?;
    let copies = line.copies(tag).into_iter().map(|seat| path::join(&plan.parent, &seat.name)).collect();
    let own = keep_first(session, copies, session.id()).await?;
    Ok(own.map(|own| Placed { own, line }))
}

/// Of several nodes with one tag, lowest first: keeps the first that `owner` has, and deletes its others.
pub(crate) async fn keep_first(
    session: &SessionRef,
    copies: Vec<String>,
    owner: SessionId,
) -> Result<Option<OwnNode>, Error> {
    let mut kept: Option<OwnNode> = None;
    for path in copies {
        let Some(stat) = stat_of(session, &path).await? else { continue };
        if stat.ephemeral_owner != owner {
            continue;
        }
        let own = OwnNode { path, czxid: stat.czxid, session: owner };
        match kept {
            None => kept = Some(own),
            Some(_) => drop(remove(session, &own).await),
        }
    }
    Ok(kept)
}

/// Waits until the server we talk to has applied everything that was committed before now.
pub(crate) async fn synced(session: &SessionRef, path: &str) -> Result<(), Error> {
    let mut backoff = Backoff::reconnecting();
    loop {
        match session.sync(path).await {
            Ok(()) => return Ok(()),
            Err(error) if may_try_again(&error) => backoff.wait().await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// The node's state, read until it is known or the session has ended.
pub(crate) async fn stat_of(session: &SessionRef, path: &str) -> Result<Option<Stat>, Error> {
    let mut backoff = Backoff::reconnecting();
    loop {
        match session.exists(path).await {
            Ok(stat) => return Ok(stat),
            Err(error) if may_try_again(&error) => backoff.wait().await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether the same request may succeed on a later try. The session is pinned, so this ends with the session.
pub(crate) fn may_try_again(error: &docent::Error) -> bool {
    !error.is_session_lost()
        && (error.is_retryable() || matches!(error, docent::Error::ConnectionLoss { .. }))
}

/// How a node of ours went.
#[derive(Clone, Debug)]
pub(crate) enum Gone {
    /// Our delete was acknowledged.
    Deleted,
    /// It was not there any more.
    Before,
    /// The session ended and took it along.
    SessionEnded,
    /// The server refuses the delete: the node stays until the session ends.
    Refused(Error),
}

/// Deletes a node of ours. Goes on until the delete is acknowledged, the node is gone, or the session has ended.
///
/// After a lost reply the node is read before the delete is sent again: a fixed name may belong to the next
/// incarnation by then.
pub(crate) async fn remove(session: &SessionRef, own: &OwnNode) -> Gone {
    delete(session, own, false).await
}

/// As [`remove`], for a node that may have been replaced by another with the same name: it is read first.
pub(crate) async fn remove_if_ours(session: &SessionRef, own: &OwnNode) -> Gone {
    delete(session, own, true).await
}

/// As [`remove_if_ours`], for a node that outlives its session: goes on in the next one, until it is gone or the client is
/// closed.
pub(crate) async fn remove_later(client: &Client, own: &OwnNode) -> Gone {
    loop {
        let session = match client.session_ready().await {
            Ok(session) => session,
            Err(error) => return Gone::Refused(error.into()),
        };
        match remove_if_ours(&session, own).await {
            Gone::SessionEnded => {}
            gone => return gone,
        }
    }
}

async fn delete(session: &SessionRef, own: &OwnNode, mut unsure: bool) -> Gone {
    let mut backoff = Backoff::reconnecting();
    loop {
        if unsure {
            match stat_of(session, &own.path).await {
                Ok(Some(stat)) if own.is(&stat) => {}
                Ok(_) => return Gone::Before,
                Err(Error::SessionEnded(_) | Error::Closed) => return Gone::SessionEnded,
                Err(error) => return refused(own, error),
            }
        }
        match session.delete(&own.path, Version::ANY).await {
            Ok(()) => return Gone::Deleted,
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => return Gone::Before,
            Err(error) if error.is_session_lost() || matches!(error, docent::Error::Closed) => {
                return Gone::SessionEnded;
            }
            Err(error) if may_try_again(&error) => {
                unsure = error.may_have_applied();
                backoff.wait().await;
            }
            Err(error) => return refused(own, error.into()),
        }
    }
}

fn refused(own: &OwnNode, error: Error) -> Gone {
    let until = if own.session == SessionId::NONE { "for good" } else { "until the session ends" };
    tracing::warn!(path = %own.path, %error, "own node cannot be deleted, it stays {until}");
    Gone::Refused(error)
}
