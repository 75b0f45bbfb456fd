//! One member of a group, present as long as its handle lives. [`crate::presence`] keeps it there.

use bytes::Bytes;
use docent::{SessionId, Zxid, path};
use serde::Serialize;
use tokio::sync::watch;

use crate::codec::{Encode, Json};
use crate::error::Error;
use crate::form::Form;
use crate::guard::{ReleasePending, Released};
use crate::membership::Join;
use crate::presence::{Kept, Spec, Stage};

/// How a member stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum MemberState {
    /// On the way in: for the first time, after an expiry, or after somebody deleted the node.
    Joining,
    /// The node is there, in this session. Short of an expiry a lost connection changes nothing.
    Present {
        /// The session.
        session: SessionId,
        /// The write that made the node.
        czxid: Zxid,
    },
    /// Somebody else has the name; waiting for it to go.
    Waiting {
        /// The session of the other; [`SessionId::NONE`] when the node is not ephemeral.
        owner: SessionId,
    },
    /// It cannot go on: somebody else took the name while our session was gone and the policy is
    /// [`Conflict::Fail`](crate::Conflict::Fail), the server refuses, or the client is closed.
    Failed(Error),
    /// It has left.
    Left,
}

impl MemberState {
    /// Whether our node is there.
    #[must_use]
    pub fn is_present(&self) -> bool {
        matches!(self, MemberState::Present { .. })
    }
}

impl From<Stage> for MemberState {
    fn from(stage: Stage) -> MemberState {
        match stage {
            Stage::Present(own) => MemberState::Present { session: own.session, czxid: own.czxid },
            Stage::Lost(_) => MemberState::Joining,
            Stage::Waiting(owner) => MemberState::Waiting { owner },
            Stage::Failed(error) => MemberState::Failed(error),
            Stage::Over => MemberState::Left,
        }
    }
}

/// A member of a group. Dropping it leaves in the background.
#[must_use = "dropping the member leaves the group"]
#[derive(Debug)]
pub struct Member {
    kept: Kept<MemberState>,
}

impl Member {
    pub(crate) async fn join(join: Join) -> Result<Member, Error> {
        let spec = Spec {
            path: path::join(&join.group, &join.id),
            client: join.client,
            form: Form::Ephemeral,
            data: join.payload?,
            on_conflict: join.on_conflict,
            restore: join.restore,
            stays: false,
        };
        Ok(Member { kept: Kept::start(spec, MemberState::Joining).await? })
    }

    /// The path of our node.
    #[must_use]
    pub fn path(&self) -> &str {
        self.kept.path()
    }

    /// How we stand, as a latest-value channel. It closes after the member has left or failed.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<MemberState> {
        self.kept.state()
    }

    /// Replaces the payload, as JSON, and waits until the server has it. It goes into the next session too.
    ///
    /// # Errors
    /// [`Error::Encode`], and why the member cannot go on.
    ///
    /// # Cancel safety
    /// The payload is written all the same when the future is dropped after its first poll.
    pub async fn set<T: Serialize>(&self, payload: &T) -> Result<(), Error> {
        let bytes = Json.encode(payload).map_err(|error| Error::Encode(error.to_string().into()))?;
        self.set_raw(bytes).await
    }

    /// Replaces the payload by these bytes, and waits until the server has them.
    ///
    /// # Errors
    /// Why the member cannot go on.
    ///
    /// # Cancel safety
    /// As [`Member::set`].
    pub async fn set_raw(&self, payload: impl Into<Bytes>) -> Result<(), Error> {
        self.kept.set(payload.into()).await
    }

    /// Leaves, and waits until the server has confirmed that our node is gone.
    ///
    /// # Errors
    /// [`ReleasePending`] when the node may still be there when the lease ends; leaving goes on in the background.
    ///
    /// # Cancel safety
    /// Leaving goes on when the future is dropped.
    pub async fn leave(self) -> Result<Released, ReleasePending> {
        self.kept.end().await
    }
}
