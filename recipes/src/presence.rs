//! Keeping one node of ours there: made, watched, and made again, in one session after another.
//!
//! [`crate::Member`] and [`crate::KeptNode`] are this with a name of their own. A driver task owns the node, the owner
//! a [`Kept`]: what it wants goes to the driver as latest values, how the node stands comes back as one. What kinds of
//! nodes there are, and how each is made and removed, says [`crate::form`].
//!
//! One owner never has two nodes: a name stays the same once it is known, also that of a sequential node, and a node that
//! was made by a lost reply is found again before another is made.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use docent::{Client, ErrorCode, OneshotWatch, SessionId, SessionRef, StateWatch, Version};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::error::{Error, LossCause};
use crate::form::Form;
use crate::guard::{self, ReleasePending, Released};
use crate::guarded::{self, Gone, OwnNode};
use crate::hold::{self, Fate, fate};
use crate::keeper::or_pending;
use crate::membership::Conflict;
use crate::tagged::Tagged;

/// How the node stands, as the driver tells it. Each recipe has its own word for it.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// It is there.
    Present(OwnNode),
    /// It is not, or not for long; being made again.
    Lost(LossCause),
    /// Somebody else has the name.
    Waiting(SessionId),
    /// It cannot go on.
    Failed(Error),
    /// The owner is done with it.
    Over,
}

/// The node to be kept.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) client: Client,
    /// Of a sequential node all but its tag and number.
    pub(crate) path: String,
    pub(crate) form: Form,
    pub(crate) data: Bytes,
    pub(crate) on_conflict: Conflict,
    /// Whether our data is written again when somebody else overwrites it.
    pub(crate) restore: bool,
    /// Whether a node that outlives its session stays when its owner is dropped, and goes only when it is ended.
    pub(crate) stays: bool,
}

/// The owner's side. Dropping it ends the node in the background.
#[derive(Debug)]
pub(crate) struct Kept<S> {
    client: Client,
    path: String,
    stop: CancellationToken,
    wanted: watch::Sender<Wanted>,
    written: watch::Receiver<u64>,
    state: watch::Receiver<S>,
    failure: Arc<OnceLock<Error>>,
    gone: watch::Receiver<Option<Gone>>,
}

/// The data that the node shall have, and its number among those that were wanted.
#[derive(Clone, Debug)]
struct Wanted {
    number: u64,
    data: Bytes,
    /// Whether the node is to be deleted when the owner is done.
    remove: bool,
}

impl<S: From<Stage> + Send + Sync + 'static> Kept<S> {
    /// Makes the node and keeps it. Resolves when it is there for the first time; after an error none remains. `begun` is
    /// the state until then.
    pub(crate) async fn start(spec: Spec, begun: S) -> Result<Kept<S>, Error> {
        let (wanted, wanted_seen) =
            watch::channel(Wanted { number: 1, data: spec.data.clone(), remove: true });
        let stays = spec.stays;
        let (written, written_seen) = watch::channel(0);
        let (state, state_seen) = watch::channel(begun);
        let (gone, gone_seen) = watch::channel(None);
        let (born, birth) = oneshot::channel();
        let (stop, failure) = (CancellationToken::new(), Arc::default());
        let mut kept = Kept {
            client: spec.client.clone(),
            path: String::new(),
            stop: stop.clone(),
            wanted,
            written: written_seen,
            state: state_seen,
            failure: Arc::clone(&failure),
            gone: gone_seen,
        };
        let driver = Driver {
            spec,
            stop,
            wanted: wanted_seen,
            written,
            state,
            born: Some(born),
            failure,
            own: None,
            unnamed: None,
            doubt: false,
            previous: None,
            told: false,
        };
        tokio::spawn(driver.run(gone));
        kept.path = birth.await.map_err(|_| kept.failed())?;
        // From here on there is an owner. Before, a node that was made for nobody goes.
        kept.wanted.send_if_modified(|wanted| {
            wanted.remove = !stays;
            false
        });
        Ok(kept)
    }
}

impl<S> Kept<S> {
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn state(&self) -> watch::Receiver<S> {
        self.state.clone()
    }

    /// Replaces the data and waits until the server has it. It is written all the same when the future is dropped after its
    /// first poll.
    pub(crate) async fn set(&self, data: Bytes) -> Result<(), Error> {
        let mut number = 0;
        self.wanted.send_modify(|wanted| {
            number = wanted.number + 1;
            (wanted.number, wanted.data) = (number, data);
        });
        let mut written = self.written.clone();
        match written.wait_for(|written| *written >= number).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.failed()),
        }
    }

    /// Ends the node and waits until it is proved gone.
    pub(crate) async fn end(self) -> Result<Released, ReleasePending> {
        let (gone, client, path) = (self.gone.clone(), self.client.clone(), self.path.clone());
        self.wanted.send_modify(|wanted| wanted.remove = true);
        drop(self);
        guard::wait_gone(gone, &client, &path).await
    }

    /// Why there is no driver any more.
    fn failed(&self) -> Error {
        self.failure.get().cloned().unwrap_or(Error::RuntimeStopped)
    }
}

impl<S> Drop for Kept<S> {
    /// Only says so: the driver deletes the node.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The task that keeps one node there.
struct Driver<S> {
    spec: Spec,
    stop: CancellationToken,
    wanted: watch::Receiver<Wanted>,
    written: watch::Sender<u64>,
    state: watch::Sender<S>,
    /// Told the path when the node is there for the first time.
    born: Option<oneshot::Sender<String>>,
    failure: Arc<OnceLock<Error>>,
    /// The node as it was made last. Its path stays.
    own: Option<OwnNode>,
    /// The sequential node that has no name yet.
    unnamed: Option<Tagged>,
    /// The reply to a create was lost: the node may be there and be ours.
    doubt: bool,
    /// Our session before this one. It has ended, so a node of it is our own ghost and may be replaced.
    previous: Option<SessionId>,
    /// The owner knows that `own` is there.
    told: bool,
}

/// How a step ended.
enum Step {
    Stopped,
    /// The node has to be made again.
    Again,
}

impl<S: From<Stage>> Driver<S> {
    async fn run(mut self, gone: watch::Sender<Option<Gone>>) {
        match self.stay().await {
            Ok(end) => {
                self.tell(Stage::Over);
                gone.send_replace(Some(end));
            }
            Err(error) => {
                if self.own.is_some() {
                    tracing::warn!(path = %self.path(), %error, "node cannot be kept");
                }
                // Set once, here. Whoever is told of the failure finds its reason.
                let _ = self.failure.set(error.clone());
                let left = self.own.is_some() && self.spec.form.outlives_sessions();
                let end = if left { Gone::Refused(error.clone()) } else { Gone::Before };
                self.tell(Stage::Failed(error));
                gone.send_replace(Some(end));
            }
        }
    }

    fn tell(&mut self, stage: Stage) {
        self.told = matches!(stage, Stage::Present(_));
        self.state.send_replace(stage.into());
    }

    fn tell_present(&mut self, own: OwnNode) {
        // A node that outlives its session is met again in the next one, unchanged.
        if !self.told || self.own.as_ref() != Some(&own) {
            self.tell(Stage::Present(own.clone()));
        }
        if let Some(born) = self.born.take() {
            // Where nobody waits for it any more, stop is on its way.
            drop(born.send(own.path.clone()));
        }
        self.own = Some(own);
    }

    /// Whether the node stays though its owner is done.
    fn leaves_it(&self) -> bool {
        !self.wanted.borrow().remove
    }

    /// Where the node is, or will be, as far as that is known.
    fn path(&self) -> &str {
        self.own.as_ref().map_or(&self.spec.path, |own| &own.path)
    }

    /// Present in one session after another. Returns how the last node went, when the owner is done.
    async fn stay(&mut self) -> Result<Gone, Error> {
        let stop = self.stop.clone();
        loop {
            let session = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(self.end_later().await),
                session = self.spec.client.session_ready() => session?,
            };
            match self.in_session(&session).await {
                Ok(Gone::SessionEnded) if self.spec.form.outlives_sessions() => {
                    return Ok(self.end_later().await);
                }
                Ok(gone) => return Ok(gone),
                Err(Error::SessionEnded(_)) => {}
                Err(error) => return Err(error),
            }
            tracing::debug!(path = %self.path(), "session ended, going on in the next");
            self.previous = Some(session.id());
            if !self.spec.form.outlives_sessions() {
                (self.doubt, self.unnamed) = (false, None);
                self.tell(Stage::Lost(LossCause::SessionEnded));
            }
        }
    }

    /// Present in one session. An error says that it ended; else the owner is done.
    async fn in_session(&mut self, session: &SessionRef) -> Result<Gone, Error> {
        let (form, mut backoff) = (self.spec.form, Backoff::reconnecting());
        loop {
            let Some(own) = self.enter(session).await? else { return Ok(Gone::Before) };
            self.tell_present(own.clone());
            let step = tokio::select! {
                step = self.remain(session, &own) => step,
                error = form.keep_up(session.clone(), own.path.clone()) => Err(error),
            };
            match step {
                Ok(Step::Stopped) if self.leaves_it() => return Ok(Gone::Before),
                Ok(Step::Stopped) => return Ok(form.remove(session, &own).await),
                Ok(Step::Again) => {}
                Err(error @ (Error::SessionEnded(_) | Error::Closed)) => return Err(error),
                Err(error) => {
                    form.remove_if_ours(session, &own).await;
                    return Err(error);
                }
            }
            self.tell(Stage::Lost(LossCause::NodeDeleted));
            // Whoever deletes our node each time must not meet a loop that makes it as fast as it can.
            let stop = self.stop.clone();
            tokio::select! {
                () = stop.cancelled() => return Ok(Gone::Before),
                () = backoff.wait() => {}
            }
        }
    }

    /// Makes our node. `None` when the owner was done first; then there is none.
    async fn enter(&mut self, session: &SessionRef) -> Result<Option<OwnNode>, Error> {
        if self.spec.form == Form::EphemeralSequential && self.own.is_none() {
            return self.enter_unnamed(session).await;
        }
        let (path, mut backoff) = (self.path().to_owned(), Backoff::reconnecting());
        while !self.stop.is_cancelled() {
            let Wanted { number, data, .. } = self.wanted.borrow_and_update().clone();
            let error = match self.spec.form.make(session, &path, data).await {
                Ok(own) => {
                    self.doubt = false;
                    self.written.send_replace(number);
                    return Ok(Some(own));
                }
                Err(error) => error,
            };
            if error.code() == Some(ErrorCode::NO_NODE) {
                guarded::make_parents(session, &path).await?;
            } else if error.code() == Some(ErrorCode::NODE_EXISTS) {
                if let Some(own) = self.taken(session, &path).await? {
                    self.doubt = false;
                    // The data may be that of an earlier try: it is compared by the one who remains.
                    return Ok(Some(own));
                }
            } else if error.may_have_applied() {
                self.doubt = true;
                guarded::synced(session, &path).await?;
            } else if guarded::may_try_again(&error) {
                backoff.wait().await;
            } else {
                return Err(error.into());
            }
        }
        if !self.leaves_it()
            && let Some(own) = self.doubtful(session, &path).await?
        {
            self.spec.form.remove_if_ours(session, &own).await;
        }
        Ok(None)
    }

    /// The first node of a sequential form, which gives us the name.
    async fn enter_unnamed(&mut self, session: &SessionRef) -> Result<Option<OwnNode>, Error> {
        let Wanted { number, data, .. } = self.wanted.borrow_and_update().clone();
        let (form, path) = (self.spec.form, &self.spec.path);
        let unnamed = self.unnamed.get_or_insert_with(|| form.unnamed(path));
        let made = unnamed.make(session, &data, &self.stop).await?;
        if made.is_some() {
            self.written.send_replace(number);
        }
        Ok(made)
    }

    /// What may be there, and be ours, when the owner is done while the outcome of a create is open.
    async fn doubtful(&self, session: &SessionRef, path: &str) -> Result<Option<OwnNode>, Error> {
        if !self.doubt {
            return Ok(None);
        }
        let stat = guarded::stat_of(session, path).await?;
        Ok(stat.and_then(|stat| self.spec.form.ours(session, path, &stat)))
    }

    /// The owner is done, and the session is over: what outlives it is deleted in a later one.
    async fn end_later(&mut self) -> Gone {
        let none = self.own.is_none() && !self.doubt;
        if !self.spec.form.outlives_sessions() || none || self.leaves_it() {
            return Gone::Before;
        }
        let path = self.path().to_owned();
        loop {
            let session = match self.spec.client.session_ready().await {
                Ok(session) => session,
                Err(error) => return Gone::Refused(error.into()),
            };
            let own = match &self.own {
                Some(own) => Ok(Some(own.clone())),
                None => self.doubtful(&session, &path).await,
            };
            let gone = match own {
                Ok(Some(own)) => self.spec.form.remove_if_ours(&session, &own).await,
                Ok(None) => Gone::Before,
                Err(Error::SessionEnded(_)) => Gone::SessionEnded,
                Err(error) => Gone::Refused(error),
            };
            if !matches!(gone, Gone::SessionEnded) {
                return gone;
            }
        }
    }

    /// The name is taken. Returns our own node if it is the one; returns `None` when it is worth trying again.
    async fn taken(&mut self, session: &SessionRef, path: &str) -> Result<Option<OwnNode>, Error> {
        let Some(stat) = guarded::stat_of(session, path).await? else { return Ok(None) };
        let (form, owner) = (self.spec.form, stat.ephemeral_owner);
        if (self.doubt || form.outlives_sessions())
            && let Some(own) = form.ours(session, path, &stat)
        {
            return Ok(Some(own));
        }
        // What stands there is not ours, so the create whose reply was lost did not come through.
        self.doubt = false;
        let ghost = !form.outlives_sessions() && owner != SessionId::NONE && Some(owner) == self.previous;
        if ghost || self.spec.on_conflict == Conflict::TakeOver {
            return self.replace(session, path, stat.version).await;
        }
        if self.spec.on_conflict == Conflict::Fail {
            return Err(Error::Conflict { path: path.to_owned(), owner });
        }
        self.tell(Stage::Waiting(owner));
        self.wait_until_free(session, path).await?;
        Ok(None)
    }

    /// Deletes the other's node and makes ours, both or none.
    async fn replace(
        &mut self,
        session: &SessionRef,
        path: &str,
        version: i32,
    ) -> Result<Option<OwnNode>, Error> {
        let Wanted { number, data, .. } = self.wanted.borrow_and_update().clone();
        match session.multi(self.spec.form.replacement(path, Version(version), data)).await {
            Ok(_) => self.written.send_replace(number),
            // Gone or changed meanwhile.
            Err(docent::Error::Multi { code: ErrorCode::NO_NODE | ErrorCode::BAD_VERSION, .. }) => {
                return Ok(None);
            }
            Err(error) if guarded::may_try_again(&error) => {
                guarded::synced(session, path).await?;
                0
            }
            Err(error) => return Err(error.into()),
        };
        // Ours by the answer, or perhaps ours after a lost one; another of the same session would have been met
        // as a conflict before.
        let stat = guarded::stat_of(session, path).await?;
        Ok(stat.and_then(|stat| self.spec.form.ours(session, path, &stat)))
    }

    async fn wait_until_free(&self, session: &SessionRef, path: &str) -> Result<(), Error> {
        let mut backoff = Backoff::reconnecting();
        let mut watch = loop {
            match session.get_data_and_watch(path).await {
                Ok((_, watch)) => break watch,
                Err(error) if error.code() == Some(ErrorCode::NO_NODE) => return Ok(()),
                Err(error) if guarded::may_try_again(&error) => backoff.wait().await,
                Err(error) => return Err(error.into()),
            }
        };
        let (mut state, _) = hold::states(session);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                // Whatever it was, the next try tells.
                _ = &mut watch => return Ok(()),
                now = state.changed() => match fate(&now, session.id()) {
                    Fate::Connected => return Ok(()),
                    Fate::Suspended { .. } => {}
                    Fate::Ended(LossCause::Closed) => return Err(Error::Closed),
                    Fate::Ended(_) => return Err(Error::SessionEnded(session.id())),
                }
            }
        }
    }

    /// Keeps the node and its data while the session lives.
    async fn remain(&mut self, session: &SessionRef, own: &OwnNode) -> Result<Step, Error> {
        let (mut state, _) = hold::states(session);
        let mut backoff = Backoff::reconnecting();
        let mut armed: Option<OneshotWatch>;
        let stop = self.stop.clone();
        loop {
            if stop.is_cancelled() {
                return Ok(Step::Stopped);
            }
            let seen = match session.get_data_and_watch(&own.path).await {
                Ok((node, watch)) if own.is(&node.stat) => {
                    armed = Some(watch);
                    node
                }
                Ok(_) => return Ok(Step::Again),
                Err(error) if error.code() == Some(ErrorCode::NO_NODE) => return Ok(Step::Again),
                Err(error) if guarded::may_try_again(&error) => {
                    backoff.wait().await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            backoff = Backoff::reconnecting();
            if !self.reconcile(session, own, &seen).await? {
                continue;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(Step::Stopped),
                changed = self.wanted.changed() => if changed.is_err() {
                    return Ok(Step::Stopped);
                },
                _ = or_pending(&mut armed) => {}
                ended = session_change(&mut state, session.id()) => if let Some(error) = ended {
                    return Err(error);
                }
            }
        }
    }

    /// Writes the wanted data if the node does not have it. False when the node must be read again.
    async fn reconcile(
        &mut self,
        session: &SessionRef,
        own: &OwnNode,
        seen: &docent::NodeData,
    ) -> Result<bool, Error> {
        let Wanted { number, data, .. } = self.wanted.borrow_and_update().clone();
        let is_new = *self.written.borrow() < number;
        if seen.bytes() == data {
            self.written.send_replace(number);
            return Ok(true);
        }
        if !is_new && !self.spec.restore {
            return Ok(true);
        }
        match session.set_data(&own.path, data, Version(seen.stat.version)).await {
            Ok(_) => {
                self.written.send_replace(number);
                Ok(true)
            }
            Err(error) if matches!(error.code(), Some(ErrorCode::BAD_VERSION | ErrorCode::NO_NODE)) => {
                Ok(false)
            }
            // Writing the same bytes once more is harmless, and the read before it tells whether it is needed.
            Err(error) if guarded::may_try_again(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Waits for a change of the connection; an error when the session is over.
async fn session_change(state: &mut StateWatch, session: SessionId) -> Option<Error> {
    loop {
        match fate(&state.changed().await, session) {
            Fate::Connected => return None,
            Fate::Suspended { .. } => {}
            Fate::Ended(LossCause::Closed) => return Some(Error::Closed),
            Fate::Ended(_) => return Some(Error::SessionEnded(session)),
        }
    }
}
