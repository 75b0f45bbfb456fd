//! Service discovery: programs say where they are, and others find them.
//!
//! **Connected**, a [`Registration`] is there and a [`ServiceViews`] stream has the newest list. **Suspended**, an instance
//! stays as long as its session lives, and a view may be old: the last one stays at hand, since most of what it names goes on
//! serving. **Lost**, a dynamic instance is registered again in the next session by itself, with its newest data; consumers
//! see it leave and come back. What is permanent is not touched by any of this.
//!
//! **Token:** none, since an instance excludes nobody. A view's id is the zxid of the last coming or going
//! ([`ServiceView::id`]): two programs with the same id see the same instances. An update keeps the id.
//!
//! **Dropped:** a dropped [`Registration`] of a dynamic instance unregisters it in the background; that of a permanent one
//! leaves it there, and only [`Registration::unregister`] takes it away. A dropped [`ServiceDiscovery::register`] leaves
//! nothing. A dropped [`ServiceViews`] or [`Provider`] takes its watches along.
//!
//! **Layout:** Curator's `ServiceDiscovery`: `<base>/<service>/<id>` with its JSON; see [`ServiceInstance`]. kazoo has none.
//! A healthy node is never deleted to be made again, as Curator does when it reconnects: consumers do not see a blip.
//!
//! **Cost:** an instance is one write and one watch. A view is one list, and one read and one watch for each instance; a
//! change of one instance is one read. Picking costs nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use docent::{Client, ErrorCode, Zxid, path};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::codec::{Decode as _, Encode as _, Json};
use crate::error::Error;
use crate::following::goes_on;
use crate::form::Form;
use crate::guard::{ReleasePending, Released};
use crate::instance::{ServiceInstance, ServiceType};
use crate::keep::KeptState;
use crate::membership::Conflict;
use crate::presence::{Kept, Spec};
use crate::provider::ProviderBuilder;
use crate::views::{Payload, View, Views};

/// How many instances of one service are read if nothing else is said.
pub const DEFAULT_INSTANCES_MAX: usize = 10_000;

/// How many instances are read at the same time.
const READS_AT_ONCE: usize = 64;

/// Services below one node. Cheap to clone; nothing is sent before one of its verbs. `T` is what instances carry as payload.
#[must_use = "nothing is registered or read before one of its verbs"]
pub struct ServiceDiscovery<T> {
    client: Client,
    base: String,
    on_conflict: Conflict,
    instances_max: usize,
    _type: PhantomData<fn() -> T>,
}

impl<T> Clone for ServiceDiscovery<T> {
    fn clone(&self) -> ServiceDiscovery<T> {
        ServiceDiscovery { client: self.client.clone(), base: self.base.clone(), ..*self }
    }
}

impl<T> fmt::Debug for ServiceDiscovery<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceDiscovery").field("base", &self.base).finish_non_exhaustive()
    }
}

impl<T> ServiceDiscovery<T> {
    pub(crate) fn new(client: Client, base: String) -> ServiceDiscovery<T> {
        let (on_conflict, instances_max) = (Conflict::default(), DEFAULT_INSTANCES_MAX);
        ServiceDiscovery { client, base, on_conflict, instances_max, _type: PhantomData }
    }

    /// What to do when the id of a dynamic instance is taken: by another program, or by what is left of a former run of
    /// this one until its session ends. Default: [`Conflict::Fail`]. A permanent instance that is there is overwritten.
    pub fn on_conflict(mut self, policy: Conflict) -> ServiceDiscovery<T> {
        self.on_conflict = policy;
        self
    }

    /// How many instances of one service are read. Where there are more, reading ends with [`Error::TooMany`]. Default:
    /// [`DEFAULT_INSTANCES_MAX`].
    pub fn instances_max(mut self, max: usize) -> ServiceDiscovery<T> {
        self.instances_max = max;
        self
    }

    /// The names of all services that have, or had, an instance.
    ///
    /// # Errors
    /// [`Error::Closed`] and what the server refuses.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn services(&self) -> Result<Vec<String>, Error> {
        Ok(self.children(&self.base).await?.1)
    }

    fn service_path(&self, service: &str) -> Result<String, Error> {
        Ok(path::join(&self.base, node_name(service)?))
    }

    async fn children(&self, path: &str) -> Result<(Zxid, Vec<String>), Error> {
        let mut backoff = Backoff::reconnecting();
        loop {
            match self.client.get_children(path).await {
                Ok(children) => return Ok((children.stat.pzxid, children.names)),
                Err(error) if error.code() == Some(ErrorCode::NO_NODE) => {
                    return Ok((Zxid::ZERO, Vec::new()));
                }
                Err(error) if goes_on(&error) => backoff.wait().await,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl<T: Serialize> ServiceDiscovery<T> {
    /// Registers an instance, and keeps it registered over sessions until its [`Registration`] goes.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the id is taken, [`Error::BadName`], [`Error::Encode`], [`Error::Closed`], and what the
    /// server refuses; no node of ours remains then.
    ///
    /// # Cancel safety
    /// Dropping the future unregisters in the background.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn register(&self, instance: ServiceInstance<T>) -> Result<Registration<T>, Error> {
        let form = match instance.service_type {
            ServiceType::Dynamic => Form::Ephemeral,
            ServiceType::DynamicSequential => Form::EphemeralSequential,
            ServiceType::Static | ServiceType::Permanent => Form::Persistent,
        };
        let spec = Spec {
            client: self.client.clone(),
            path: path::join(&self.service_path(&instance.name)?, node_name(&instance.id)?),
            form,
            data: encode(&instance)?,
            on_conflict: self.on_conflict,
            restore: false,
            stays: instance.service_type.is_permanent(),
        };
        let kept = Kept::start(spec, KeptState::Creating).await?;
        Ok(Registration { kept, instance })
    }
}

impl<T: DeserializeOwned> ServiceDiscovery<T> {
    /// The instances of a service now. A service that nobody knows has none.
    ///
    /// # Errors
    /// [`Error::TooMany`], [`Error::BadName`], [`Error::Closed`] and what the server refuses.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn instances(&self, service: &str) -> Result<ServiceView<T>, Error> {
        let service = self.service_path(service)?;
        let (id, names) = self.children(&service).await?;
        if names.len() > self.instances_max {
            return Err(Error::TooMany { path: service, max: self.instances_max });
        }
        let reads = names.into_iter().map(|name| {
            let path = path::join(&service, &name);
            async move { Ok::<_, Error>((name, self.read(&path).await?)) }
        });
        let answers: Vec<_> = stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?;
        let mut view = ServiceView { id, ..ServiceView::default() };
        for (name, answer) in answers {
            match answer {
                Some(Ok(instance)) => drop(view.instances.insert(name, Arc::new(instance))),
                Some(Err(reason)) => drop(view.invalid.insert(name, reason)),
                // It went between the list and the read.
                None => {}
            }
        }
        Ok(view)
    }

    /// One instance of a service by its id; `None` when it is not there.
    ///
    /// # Errors
    /// [`Error::Invalid`] when its bytes are no instance, [`Error::BadName`], [`Error::Closed`] and what the server refuses.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn instance(&self, service: &str, id: &str) -> Result<Option<ServiceInstance<T>>, Error> {
        let path = path::join(&self.service_path(service)?, node_name(id)?);
        let read = self.read(&path).await?;
        read.transpose().map_err(|reason| Error::Invalid { path, reason })
    }

    async fn read(&self, path: &str) -> Result<Option<Result<ServiceInstance<T>, Arc<str>>>, Error> {
        let mut backoff = Backoff::reconnecting();
        loop {
            match self.client.get_data(path).await {
                Ok(node) => {
                    let read = Json.decode(&node.bytes());
                    return Ok(Some(read.map_err(|error| error.to_string().into())));
                }
                Err(error) if error.code() == Some(ErrorCode::NO_NODE) => return Ok(None),
                Err(error) if goes_on(&error) => backoff.wait().await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The instances of a service, now and after each change.
    ///
    /// # Errors
    /// [`Error::BadName`]. What goes wrong later ends the stream.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn watch(&self, service: &str) -> Result<ServiceViews<T>, Error> {
        let path = self.service_path(service)?;
        Ok(ServiceViews { views: Views::bounded(self.client.clone(), path, true, self.instances_max) })
    }

    /// Picks one instance of a service after the other, from a list that is kept up to date.
    pub fn provider(&self, service: impl Into<String>) -> ProviderBuilder<T> {
        ProviderBuilder::new(self.clone(), service.into())
    }
}

/// The name, if it can be that of a node.
fn node_name(name: &str) -> Result<&str, Error> {
    let good = !name.contains('/') && path::validate(&path::join("/", name)).is_ok() && !name.is_empty();
    if good { Ok(name) } else { Err(Error::BadName { name: name.to_owned() }) }
}

fn encode<T: Serialize>(instance: &ServiceInstance<T>) -> Result<bytes::Bytes, Error> {
    Json.encode(instance).map_err(|error| Error::Encode(error.to_string().into()))
}

/// An instance that is registered. Dropping it unregisters a dynamic instance in the background, and leaves a permanent one.
#[must_use = "dropping it unregisters a dynamic instance"]
pub struct Registration<T> {
    kept: Kept<KeptState>,
    instance: ServiceInstance<T>,
}

impl<T> fmt::Debug for Registration<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("path", &self.path()).finish_non_exhaustive()
    }
}

impl<T> Registration<T> {
    /// The path of its node.
    #[must_use]
    pub fn path(&self) -> &str {
        self.kept.path()
    }

    /// The instance as it is registered.
    #[must_use]
    pub fn instance(&self) -> &ServiceInstance<T> {
        &self.instance
    }

    /// How the node stands, as a latest-value channel. It closes after it was unregistered or cannot go on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<KeptState> {
        self.kept.state()
    }

    /// Takes the instance away, also a permanent one, and waits until the server has confirmed it.
    ///
    /// # Errors
    /// [`ReleasePending`] when the node may still be there when the lease ends, and it goes on in the background; and when it
    /// cannot be deleted.
    ///
    /// # Cancel safety
    /// It goes on when the future is dropped after its first poll.
    pub async fn unregister(self) -> Result<Released, ReleasePending> {
        self.kept.end().await
    }
}

impl<T: Serialize> Registration<T> {
    /// Changes the instance, and waits until the server has it. It goes into the next session too. Its name, its id and its
    /// type stay what they are.
    ///
    /// # Errors
    /// [`Error::Encode`], and why the instance cannot stay.
    ///
    /// # Cancel safety
    /// It is written all the same when the future is dropped after its first poll.
    pub async fn update(&mut self, change: impl FnOnce(&mut ServiceInstance<T>)) -> Result<(), Error> {
        let (name, id) = (self.instance.name.clone(), self.instance.id.clone());
        let service_type = self.instance.service_type;
        change(&mut self.instance);
        (self.instance.name, self.instance.id, self.instance.service_type) = (name, id, service_type);
        self.kept.set(encode(&self.instance)?).await
    }
}

/// The instances of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceView<T> {
    /// The zxid of the last coming or going. Two programs with the same id see the same names. A changed instance keeps it.
    pub id: Zxid,
    /// The instances, by the names of their nodes.
    pub instances: BTreeMap<String, Arc<ServiceInstance<T>>>,
    /// Nodes whose bytes are no instance, and why.
    pub invalid: BTreeMap<String, Arc<str>>,
    /// Node names that the view before did not have.
    pub joined: Vec<String>,
    /// Node names that only the view before had.
    pub left: Vec<String>,
}

impl<T> Default for ServiceView<T> {
    fn default() -> ServiceView<T> {
        let (instances, invalid) = (BTreeMap::new(), BTreeMap::new());
        ServiceView { id: Zxid::ZERO, instances, invalid, joined: Vec::new(), left: Vec::new() }
    }
}

impl<T> From<View<ServiceInstance<T>>> for ServiceView<T> {
    fn from(view: View<ServiceInstance<T>>) -> ServiceView<T> {
        let (mut instances, mut invalid) = (BTreeMap::new(), BTreeMap::new());
        for (name, member) in view.members {
            match member.payload {
                Payload::Value(instance) => drop(instances.insert(name, Arc::new(instance))),
                Payload::Invalid { reason, .. } => drop(invalid.insert(name, reason)),
                Payload::Gone | Payload::Unread => {}
            }
        }
        ServiceView { id: view.id, instances, invalid, joined: view.joined, left: view.left }
    }
}

/// The views of a service, as a latest-value stream: who is slow gets the newest and skips those between. Dropping it takes
/// the watches along.
pub struct ServiceViews<T> {
    views: Views<ServiceInstance<T>>,
}

impl<T> fmt::Debug for ServiceViews<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceViews").field("views", &self.views).finish()
    }
}

impl<T: DeserializeOwned> ServiceViews<T> {
    /// The next view; `None` after the end, see [`ServiceViews::error`].
    ///
    /// # Cancel safety
    /// Safe: the newest view is not lost.
    pub async fn next(&mut self) -> Option<ServiceView<T>> {
        Some(self.views.next().await?.into())
    }

    /// Why the stream has ended, if it has.
    #[must_use]
    pub fn error(&self) -> Option<Error> {
        self.views.error()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_in_its_folder() {
        for good in ["a", "a b", "10.0.0.1:80", "ä"] {
            assert_eq!(node_name(good).ok(), Some(good));
        }
        for bad in ["", "a/b", ".", "..", "/", "a\u{0}"] {
            assert!(matches!(node_name(bad), Err(Error::BadName { .. })), "{bad:?}");
        }
    }
}
