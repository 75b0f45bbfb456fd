//! Persistent nodes: one node that is kept there by its owner.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use docent::{Client, SessionId, Zxid};
use tokio::sync::watch;

use crate::error::{Error, LossCause};
use crate::form::Form;
use crate::guard::{ReleasePending, Released};
use crate::membership::Conflict;
use crate::presence::{Kept, Spec, Stage};

/// A node that is to be kept there: made by [`crate::Recipes::keep`], sent by `.await`.
///
/// It is made anew after a session has ended and when somebody has deleted it, until its owner closes it. One owner never has
/// two: also a node whose create was answered by a connection that broke is found again, by its name, or by a tag in it.
///
/// **Connected**, the node is there, and when it goes it is there again a moment later. **Suspended**, it stays at least until
/// the lease of its session ends ([`docent::Client::lease`]), a persistent one for ever; nothing can be made meanwhile.
/// **Lost**, it is made in the next session, with the newest data, under the same name.
///
/// **Token:** none: the node excludes nobody. [`KeptState::Exists`] tells the czxid, by which one life of the node is told
/// from the next.
///
/// **Dropped:** a dropped future, and a dropped [`KeptNode`], deletes the node in the background. What ends with its session
/// goes in any case; a persistent node stays when the program dies, and the next one that keeps it takes it as it is.
///
/// **Layout:** Curator's `PersistentNode`: the node at `path`, or with [`Keep::sequential`] `_c_<uuid>-<name><number>` as with
/// its protection. With [`Keep::ttl`] Curator's `PersistentTtlNode`: a container at `path` and `<path>/touch` with the time to
/// live. kazoo has none.
///
/// **Cost:** one write and one read with a watch; the same again after each loss. A time to live costs one more write each
/// third of it, which nobody who watches the node hears of.
///
/// ```no_run
/// # use docent_recipes::Recipes;
/// # async fn example(zk: docent::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let node = zk.keep("/workers/ash").data("10.0.0.1:80").await?;
/// node.set_data("10.0.0.2:80").await?;
/// node.close().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before .await"]
pub struct Keep {
    client: Client,
    path: String,
    form: Form,
    data: Bytes,
    on_conflict: Conflict,
    restore: bool,
}

impl Keep {
    pub(crate) fn new(client: Client, path: String) -> Keep {
        let (form, data, on_conflict) = (Form::Ephemeral, Bytes::new(), Conflict::default());
        Keep { client, path, form, data, on_conflict, restore: false }
    }

    /// The server appends a number and we put a tag before the name, so that nobody else has it. The name is given once, and
    /// kept when the node is made anew. Replaces what was said of the kind of node; if nothing is said, it ends with its
    /// session and has the very name.
    pub fn sequential(mut self) -> Keep {
        self.form = Form::EphemeralSequential;
        self
    }

    /// The node outlives its sessions, and the program. One that is there already is taken for ours whoever made it, since
    /// such nodes have no owner; so several programs may keep the same, and it is there while one does. Replaces what was said
    /// of the kind of node.
    pub fn persistent(mut self) -> Keep {
        self.form = Form::Persistent;
        self
    }

    /// As [`Keep::persistent`], but it goes when nobody has kept it for so long; on top comes the time until the server
    /// sweeps, a minute each for the child and for the node if it is not configured otherwise. Servers must have extended
    /// types switched on, and refuse less than 1 ms. Replaces what was said of the kind of node.
    pub fn ttl(mut self, ttl: Duration) -> Keep {
        self.form = Form::Ttl(ttl);
        self
    }

    /// What the node holds. Default: nothing.
    pub fn data(mut self, data: impl Into<Bytes>) -> Keep {
        self.data = data.into();
        self
    }

    /// What to do when the name is taken by somebody else: by another owner, of this client too, or, for a node that ends with
    /// its session, by a node that does not. Default: [`Conflict::Fail`].
    pub fn on_conflict(mut self, policy: Conflict) -> Keep {
        self.on_conflict = policy;
        self
    }

    /// Whether to write our data again when somebody else overwrites it. Default: no.
    pub fn restore_data(mut self, restore: bool) -> Keep {
        self.restore = restore;
        self
    }
}

/// Resolves when the node is there. Fails with [`Error::Conflict`] when the name is taken, with [`Error::Closed`], and what
/// the server refuses; no node of ours remains then. Dropping the future deletes the node in the background.
///
/// # Panics
/// When polled outside a tokio runtime.
impl IntoFuture for Keep {
    type Output = Result<KeptNode, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Keep { client, path, form, data, on_conflict, restore } = self;
            let spec = Spec { client, path, form, data, on_conflict, restore, stays: false };
            Ok(KeptNode { kept: Kept::start(spec, KeptState::Creating).await? })
        })
    }
}

/// How a kept node stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum KeptState {
    /// On its way, for the first time.
    Creating,
    /// It is there. Short of an expiry a lost connection changes nothing.
    Exists {
        /// Its session; [`SessionId::NONE`] when it outlives sessions.
        session: SessionId,
        /// The write that made it.
        czxid: Zxid,
    },
    /// It is not there, and is being made again.
    Lost {
        /// Why: its session ended, or somebody deleted it.
        cause: LossCause,
    },
    /// Somebody else has the name; waiting for it to go.
    Waiting {
        /// The session of the other; [`SessionId::NONE`] when the node is not ephemeral.
        owner: SessionId,
    },
    /// It cannot go on: somebody else took the name while our session was gone and the policy is [`Conflict::Fail`], the
    /// server refuses, or the client is closed.
    Failed(Error),
    /// The owner has closed it.
    Closed,
}

impl KeptState {
    /// Whether the node is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        matches!(self, KeptState::Exists { .. })
    }
}

impl From<Stage> for KeptState {
    fn from(stage: Stage) -> KeptState {
        match stage {
            Stage::Present(own) => KeptState::Exists { session: own.session, czxid: own.czxid },
            Stage::Lost(cause) => KeptState::Lost { cause },
            Stage::Waiting(owner) => KeptState::Waiting { owner },
            Stage::Failed(error) => KeptState::Failed(error),
            Stage::Over => KeptState::Closed,
        }
    }
}

/// A node that is kept there. Dropping it deletes the node in the background.
#[must_use = "dropping it deletes the node"]
#[derive(Debug)]
pub struct KeptNode {
    kept: Kept<KeptState>,
}

impl KeptNode {
    /// The path of the node, of a sequential one with tag and number. It stays the same when the node is made anew.
    #[must_use]
    pub fn path(&self) -> &str {
        self.kept.path()
    }

    /// How the node stands, as a latest-value channel. It closes after the node was closed or cannot go on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<KeptState> {
        self.kept.state()
    }

    /// Replaces the data, and waits until the server has it. A node that is made anew has it too.
    ///
    /// # Errors
    /// Why the node cannot be kept.
    ///
    /// # Cancel safety
    /// The data is written all the same when the future is dropped after its first poll.
    pub async fn set_data(&self, data: impl Into<Bytes>) -> Result<(), Error> {
        self.kept.set(data.into()).await
    }

    /// Deletes the node, and waits until the server has confirmed that it is gone. One that outlives its session is followed
    /// into the next.
    ///
    /// # Errors
    /// [`ReleasePending`] when the node may still be there when the lease ends, and the deleting goes on in the background;
    /// and when it cannot be deleted: it has children of somebody else's, or the client is closed.
    ///
    /// # Cancel safety
    /// It goes on when the future is dropped.
    pub async fn close(self) -> Result<Released, ReleasePending> {
        self.kept.end().await
    }
}
