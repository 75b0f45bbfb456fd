//! Following one node for the config watcher: through sessions and lagging servers, forward only.

use std::sync::Arc;

use docent::{Client, ErrorCode, OneshotWatch, Reply, SessionRef, StateWatch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::codec::Decode;
use crate::config_state::{First, Offered, Shared};
use crate::config_tree;
use crate::error::Error;
use crate::following::{self, Sessions};
use crate::guarded;
use crate::hold::{self, Fate, fate};
use crate::keeper;

/// What is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// One node.
    Node,
    /// A node and everything below it, as one value.
    Tree,
}

/// Follows until `stop`, or until nothing more can come.
pub(crate) async fn run<T, C>(client: Client, shared: Arc<Shared<T, C>>, what: What, stop: CancellationToken)
where
    T: Send + Sync + 'static,
    C: Decode<T>,
{
    tokio::select! {
        () = stop.cancelled() => {}
        error = through_sessions(&client, &shared, what) => {
            tracing::debug!(path = %shared.path, %error, "config is not followed any more");
            shared.stale(Instant::now());
            shared.first.send_if_modified(|first| {
                let waiting = !matches!(first, First::Value);
                if waiting {
                    *first = First::Failed(error);
                }
                waiting
            });
        }
    }
}

async fn through_sessions<T, C>(client: &Client, shared: &Shared<T, C>, what: What) -> Error
where
    T: Send + Sync + 'static,
    C: Decode<T>,
{
    let mut sessions = Sessions::new(client, &shared.path);
    let follower = Follower { shared };
    loop {
        let session = match sessions.next().await {
            Ok(session) => session,
            Err(error) => return error,
        };
        let followed = match what {
            What::Node => follower.in_session(&session).await,
            What::Tree => config_tree::in_session(shared, &session).await,
        };
        match followed {
            Ok(()) | Err(Error::SessionEnded(_)) => {}
            Err(error) => return error,
        }
        shared.stale(Instant::now());
    }
}

struct Follower<'a, T, C> {
    shared: &'a Shared<T, C>,
}

impl<T, C> Follower<'_, T, C>
where
    T: Send + Sync + 'static,
    C: Decode<T>,
{
    /// Follows until the session ends.
    async fn in_session(&self, session: &SessionRef) -> Result<(), Error> {
        let (mut state, _) = hold::states(session);
        let mut backoff = Backoff::reconnecting();
        let mut armed: Option<OneshotWatch>;
        loop {
            match self.read(session, &mut state).await {
                Ok(Some(watch)) => {
                    // The watch before this one has lived until here, so the server keeps one all the time.
                    armed = Some(watch);
                    backoff = Backoff::reconnecting();
                    self.shared.synced();
                }
                Ok(None) => {
                    guarded::synced(session, &self.shared.path).await?;
                    continue;
                }
                Err(error) if guarded::may_try_again(&error) => {
                    backoff.wait().await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            if self.wait(&mut armed, session, &mut state).await {
                return Ok(());
            }
        }
    }

    /// Reads the node and arms a watch with the same request. `None` when the server is behind what we know, or
    /// the node has just come.
    async fn read(
        &self,
        session: &SessionRef,
        state: &mut StateWatch,
    ) -> Result<Option<OneshotWatch>, docent::Error> {
        let error = match self.meanwhile(session.get_data_and_watch(&self.shared.path), session, state).await
        {
            Ok((node, watch)) => {
                let offered = self.shared.offer(&node.bytes(), &node.stat);
                return Ok((offered == Offered::Current).then_some(watch));
            }
            Err(error) => error,
        };
        if error.code() != Some(ErrorCode::NO_NODE) {
            return Err(error);
        }
        match self.meanwhile(session.exists_and_watch(&self.shared.path), session, state).await? {
            (None, watch) => {
                self.shared.missing();
                Ok(Some(watch))
            }
            (Some(_), _) => Ok(None),
        }
    }

    /// Waits for a reply, and tells at once when the connection goes.
    async fn meanwhile<R>(
        &self,
        reply: Reply<R>,
        session: &SessionRef,
        state: &mut StateWatch,
    ) -> Result<R, docent::Error> {
        following::meanwhile(reply, session, state, |since| self.shared.stale(since)).await
    }

    /// Waits until the node has to be read again; true when the session is over.
    async fn wait(
        &self,
        armed: &mut Option<OneshotWatch>,
        session: &SessionRef,
        state: &mut StateWatch,
    ) -> bool {
        loop {
            tokio::select! {
                biased;
                now = state.changed() => match fate(&now, session.id()) {
                    // Armed watches survive a reconnect; that the value is fresh again only a read can tell.
                    Fate::Connected => return false,
                    Fate::Suspended { since } => self.shared.stale(since),
                    Fate::Ended(_) => return true,
                },
                _ = keeper::or_pending(armed) => {
                    *armed = None;
                    return false;
                }
            }
        }
    }
}
