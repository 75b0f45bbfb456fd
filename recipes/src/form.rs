//! The kinds of nodes that an owner keeps there: how each is made, kept up, known again and removed.

use std::time::Duration;

use bytes::Bytes;
use docent::{
    CreateMode, ErrorCode, MultiResult, ParentMode, SessionId, SessionRef, Stat, Transaction, Version, Zxid,
    path,
};

use crate::backoff::Backoff;
use crate::error::Error;
use crate::guarded::{self, Gone, OwnNode};
use crate::tagged::Tagged;

/// The child that carries the time to live. Curator's word.
const TOUCH: &str = "touch";

/// How often a time to live is renewed before it would run out.
const TOUCHES: u32 = 3;

/// What kind of node is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Goes with the session.
    Ephemeral,
    /// As `Ephemeral`, with a name that nobody else has.
    EphemeralSequential,
    /// Stays until it is deleted.
    Persistent,
    /// Goes when nobody has touched it for so long: a container with one child, and that child has the time to live. So
    /// the node itself is not set with each touch, and whoever watches it is left in peace.
    Ttl(Duration),
}

impl Form {
    /// Whether the node is still there in the next session, and cannot be told from one that somebody else has made.
    pub(crate) fn outlives_sessions(self) -> bool {
        matches!(self, Form::Persistent | Form::Ttl(_))
    }

    fn owner(self, session: &SessionRef) -> SessionId {
        if self.outlives_sessions() { SessionId::NONE } else { session.id() }
    }

    /// The node with this Stat as one of ours, if it can be: made by this session, or by whomever.
    pub(crate) fn ours(self, session: &SessionRef, path: &str, stat: &Stat) -> Option<OwnNode> {
        let owner = self.owner(session);
        let own = OwnNode { path: path.to_owned(), czxid: stat.czxid, session: owner };
        (stat.ephemeral_owner == owner).then_some(own)
    }

    /// The node that has no name yet.
    pub(crate) fn unnamed(self, path: &str) -> Tagged {
        Tagged::new(path, CreateMode::EphemeralSequential, ParentMode::Container)
    }

    /// One try to make the node under this very name.
    pub(crate) async fn make(
        self,
        session: &SessionRef,
        path: &str,
        data: Bytes,
    ) -> Result<OwnNode, docent::Error> {
        let czxid = match self {
            Form::Ttl(_) => {
                let made = session.multi(self.creates(Transaction::new(), path, data)).await?;
                match made.first() {
                    Some(MultiResult::Create2 { stat, .. }) => stat.czxid,
                    // A server that answers the path alone. One that is gone again is noticed by the next read.
                    _ => session.exists(path).await?.map_or(Zxid::NONE, |stat| stat.czxid),
                }
            }
            _ => {
                let created = session.create(path, data).mode(self.mode()).await?;
                created.stat.map_or(created.zxid, |stat| stat.czxid)
            }
        };
        Ok(OwnNode { path: path.to_owned(), czxid, session: self.owner(session) })
    }

    /// Deletes somebody else's node of this version and makes ours, both or none.
    pub(crate) fn replacement(self, path: &str, theirs: Version, data: Bytes) -> Transaction {
        self.creates(Transaction::new().delete(path, theirs), path, data)
    }

    fn creates(self, before: Transaction, path: &str, data: Bytes) -> Transaction {
        let node = before.create(path, data, self.mode());
        match self {
            Form::Ttl(ttl) => node.create(touch_of(path), Bytes::new(), CreateMode::Ttl(ttl)),
            _ => node,
        }
    }

    fn mode(self) -> CreateMode {
        match self {
            Form::Ephemeral | Form::EphemeralSequential => CreateMode::Ephemeral,
            Form::Persistent => CreateMode::Persistent,
            Form::Ttl(_) => CreateMode::Container,
        }
    }

    /// Does what the node needs to stay, while the session lives. Returns only when that cannot go on.
    pub(crate) async fn keep_up(self, session: SessionRef, path: String) -> Error {
        let Form::Ttl(ttl) = self else { return std::future::pending().await };
        let touch = touch_of(&path);
        let mut backoff = retries(ttl);
        loop {
            match renew(&session, &touch, ttl).await {
                Ok(()) => {
                    tokio::time::sleep(ttl / TOUCHES).await;
                    backoff = retries(ttl);
                }
                Err(error) if guarded::may_try_again(&error) => backoff.wait().await,
                Err(error) => return error.into(),
            }
        }
    }

    /// Deletes our node; see [`guarded::remove`].
    pub(crate) async fn remove(self, session: &SessionRef, own: &OwnNode) -> Gone {
        // Under a fixed name without an owner another node may stand by now.
        if self.outlives_sessions() {
            return self.remove_if_ours(session, own).await;
        }
        guarded::remove(session, own).await
    }

    /// Deletes our node, if it is still that one; see [`guarded::remove_if_ours`].
    pub(crate) async fn remove_if_ours(self, session: &SessionRef, own: &OwnNode) -> Gone {
        match self {
            Form::Ttl(_) => match untouch(session, own).await {
                Some(gone) => gone,
                None => guarded::remove_if_ours(session, own).await,
            },
            _ => guarded::remove_if_ours(session, own).await,
        }
    }
}

/// For one who has until the time to live runs out.
fn retries(ttl: Duration) -> Backoff {
    Backoff::new(Duration::from_millis(20).min(ttl), Duration::from_secs(1).min(ttl / TOUCHES))
}

fn touch_of(path: &str) -> String {
    path::join(path, TOUCH)
}

/// Begins the time to live anew. A node that is gone is left to whoever watches it.
async fn renew(session: &SessionRef, touch: &str, ttl: Duration) -> Result<(), docent::Error> {
    match session.set_data(touch, Bytes::new(), Version::ANY).await {
        Ok(_) => return Ok(()),
        Err(error) if error.code() == Some(ErrorCode::NO_NODE) => {}
        Err(error) => return Err(error),
    }
    match session.create(touch, Bytes::new()).mode(CreateMode::Ttl(ttl)).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.code(), Some(ErrorCode::NO_NODE | ErrorCode::NODE_EXISTS)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Deletes the child with the time to live, unless the node is not ours. `None` when the node can be deleted next.
async fn untouch(session: &SessionRef, own: &OwnNode) -> Option<Gone> {
    let mut backoff = Backoff::reconnecting();
    loop {
        match guarded::stat_of(session, &own.path).await {
            Ok(Some(stat)) if own.is(&stat) => {}
            Ok(_) => return Some(Gone::Before),
            Err(Error::SessionEnded(_) | Error::Closed) => return Some(Gone::SessionEnded),
            // The delete of the node itself is told the same.
            Err(_) => return None,
        }
        match session.delete(touch_of(&own.path), Version::ANY).await {
            Err(error) if guarded::may_try_again(&error) => backoff.wait().await,
            // Gone, or refused: then the node has a child, and tells so.
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Form = Form::Ttl(Duration::from_secs(1));

    #[test]
    fn only_what_ends_with_its_session_has_an_owner() {
        for (form, outlives) in [
            (Form::Ephemeral, false),
            (Form::EphemeralSequential, false),
            (Form::Persistent, true),
            (TTL, true),
        ] {
            assert_eq!(form.outlives_sessions(), outlives, "{form:?}");
            assert_eq!(form.mode().is_ephemeral(), !outlives, "{form:?}");
            // A name that is known is kept, also by what got it from the server.
            assert!(!form.mode().is_sequential(), "{form:?}");
        }
    }

    #[test]
    fn a_node_with_a_time_to_live_lies_as_curator_lays_it() {
        assert_eq!(touch_of("/svc/a"), "/svc/a/touch");
        assert_eq!(TTL.creates(Transaction::new(), "/svc/a", Bytes::new()).len(), 2);
        assert_eq!(TTL.mode(), CreateMode::Container);
        for form in [Form::Ephemeral, Form::EphemeralSequential, Form::Persistent] {
            assert_eq!(form.creates(Transaction::new(), "/svc/a", Bytes::new()).len(), 1);
        }
    }
}
