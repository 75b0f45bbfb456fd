//! Group membership: who is there. Each member is one ephemeral node, the child of the group's node.
//!
//! **Connected**, a [`Member`] is present and a [`Views`] stream has the newest list. **Suspended**, the member
//! stays present as long as its session lives, and a view may be old. **Lost**, the member joins again in the next
//! session by itself; consumers of views see it leave and come back, or only a new session in its entry.
//!
//! **Token:** a view's id is the zxid of the last join or leave ([`View::id`]): views of one group are ordered, and
//! two processes with the same id have the same names. A change of a payload keeps the id.
//!
//! **Dropped:** a dropped `join` or [`Member`] leaves in the background; a dropped [`Views`] takes its watches
//! along. A member deletes only the node that it made itself.
//!
//! **Layout:** Curator's `GroupMember`: `<group>/<id>`, any bytes as payload. Views read kazoo's `Party` and
//! `ShallowParty` too.
//!
//! **Cost:** a member is one write and one watch. A view is one list and, unless only names are wanted, one read
//! and one watch for each member.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use bytes::Bytes;
use docent::Client;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{Encode, Json};
use crate::error::Error;
use crate::member::Member;
use crate::views::Views;

/// What to do when the name is taken by somebody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Conflict {
    /// End with [`Error::Conflict`].
    #[default]
    Fail,
    /// Wait until the other has gone.
    Wait,
    /// Delete the other's node and take the name.
    TakeOver,
}

/// A group. Cheap to clone; nothing is sent before one of its verbs.
#[derive(Clone, Debug)]
#[must_use = "a group does nothing by itself"]
pub struct Group {
    client: Client,
    path: String,
}

impl Group {
    pub(crate) fn new(client: Client, path: String) -> Group {
        Group { client, path }
    }

    /// Joins under a name, with a payload as JSON. Await it for the [`Member`].
    pub fn join<T: Serialize>(&self, id: impl Into<String>, payload: &T) -> Join {
        let payload = Json.encode(payload).map_err(|error| Error::Encode(error.to_string().into()));
        self.join_with(id.into(), payload)
    }

    /// Joins under a name, with these bytes as payload. Await it for the [`Member`].
    pub fn join_raw(&self, id: impl Into<String>, payload: impl Into<Bytes>) -> Join {
        self.join_with(id.into(), Ok(payload.into()))
    }

    fn join_with(&self, id: String, payload: Result<Bytes, Error>) -> Join {
        let (client, group) = (self.client.clone(), self.path.clone());
        Join { client, group, id, payload, on_conflict: Conflict::default(), restore: false }
    }

    /// The members with payloads of a type, as JSON, now and after each change.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn views<T: DeserializeOwned>(&self) -> Views<T> {
        Views::start(self.client.clone(), self.path.clone(), true)
    }

    /// The members' names alone, now and after each change: one list per view, whatever the size.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn names(&self) -> Views<()> {
        Views::start(self.client.clone(), self.path.clone(), false)
    }
}

/// A member that has not joined yet: made by [`Group::join`], sent by `.await`.
#[derive(Debug)]
#[must_use = "nothing is sent before .await"]
pub struct Join {
    pub(crate) client: Client,
    pub(crate) group: String,
    pub(crate) id: String,
    pub(crate) payload: Result<Bytes, Error>,
    pub(crate) on_conflict: Conflict,
    pub(crate) restore: bool,
}

impl Join {
    /// What to do when the name is taken by somebody else. Default: [`Conflict::Fail`].
    pub fn on_conflict(mut self, policy: Conflict) -> Join {
        self.on_conflict = policy;
        self
    }

    /// Whether to write our payload again when somebody else overwrites it. Default: no.
    pub fn restore_payload(mut self, restore: bool) -> Join {
        self.restore = restore;
        self
    }
}

/// Resolves when the member is present. Fails with [`Error::Conflict`] when the name is taken, with
/// [`Error::Encode`], [`Error::Closed`], and what the server refuses; no node remains then. Dropping the future
/// leaves in the background.
impl IntoFuture for Join {
    type Output = Result<Member, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(Member::join(self))
    }
}
