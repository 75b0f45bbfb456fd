//! What those have in common who follow something through all sessions of a client.

use docent::{Client, ErrorCode, OneshotWatch, Reply, SessionRef, StateWatch};
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::error::Error;
use crate::guarded;
use crate::hold::{Fate, fate};

/// The sessions of a client, one after the other.
pub(crate) struct Sessions<'a> {
    client: &'a Client,
    path: &'a str,
    first: bool,
}

impl<'a> Sessions<'a> {
    /// For one who follows what is at `path`.
    pub(crate) fn new(client: &'a Client, path: &'a str) -> Sessions<'a> {
        Sessions { client, path, first: true }
    }

    /// The next session, or the same while it is not over, once a server can be asked.
    pub(crate) async fn next(&mut self) -> Result<SessionRef, Error> {
        loop {
            let session = self.client.session_ready().await?;
            if self.first {
                self.first = false;
                return Ok(session);
            }
            // A new session may be with a server that has not yet seen what the old one had shown us.
            match guarded::synced(&session, self.path).await {
                Ok(()) => return Ok(session),
                Err(Error::SessionEnded(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Waits for a reply. It may take as long as the connection is away, and that is told at once.
pub(crate) async fn meanwhile<R>(
    mut reply: Reply<R>,
    session: &SessionRef,
    state: &mut StateWatch,
    mut suspended: impl FnMut(Instant),
) -> Result<R, docent::Error> {
    loop {
        tokio::select! {
            biased;
            answer = &mut reply => return answer,
            now = state.changed() => if let Fate::Suspended { since } = fate(&now, session.id()) {
                suspended(since);
            }
        }
    }
}

/// Something that is seen at one look, and that a watch says to look at again.
pub(crate) trait Look: Send + 'static {
    /// What is seen.
    type Seen: Clone + PartialEq + Send + 'static;

    /// Looks, and arms a watch. `None` when it moved meanwhile and must be looked at again.
    fn look(&mut self) -> impl Future<Output = Result<Option<(Self::Seen, OneshotWatch)>, Error>> + Send;
}

/// What is seen now, and then each time that it is something else, in one session after another. It ends after an error.
pub(crate) fn changes<L: Look>(look: L) -> BoxStream<'static, Result<L::Seen, Error>> {
    let looking = Looking { look, changed: None, told: None };
    stream::unfold(Some(looking), |looking| async {
        let mut looking = looking?;
        match looking.next().await {
            Ok(seen) => Some((Ok(seen), Some(looking))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Looking<L: Look> {
    look: L,
    changed: Option<OneshotWatch>,
    told: Option<L::Seen>,
}

impl<L: Look> Looking<L> {
    async fn next(&mut self) -> Result<L::Seen, Error> {
        let mut backoff = Backoff::reconnecting();
        loop {
            if let Some(changed) = &mut self.changed {
                // Whatever it was, also the end of a session, the next look tells.
                let _ = changed.await;
                self.changed = None;
            }
            match self.look.look().await {
                Ok(Some((seen, watch))) => {
                    self.changed = Some(watch);
                    if self.told.as_ref() != Some(&seen) {
                        self.told = Some(seen.clone());
                        return Ok(seen);
                    }
                }
                Ok(None) => {}
                Err(error) if may_look_again(&error) => backoff.wait().await,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether it is worth looking again.
fn may_look_again(error: &Error) -> bool {
    match error {
        Error::SessionEnded(_) => true,
        Error::Client(error) => goes_on(error),
        _ => false,
    }
}

/// Whether the client goes on after this error, in this session or the next; a closed one does not.
pub(crate) fn goes_on(error: &docent::Error) -> bool {
    let expired = error.code() == Some(ErrorCode::SESSION_EXPIRED);
    expired || matches!(error, docent::Error::SessionEnded { .. }) || guarded::may_try_again(error)
}
