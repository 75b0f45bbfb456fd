//! Partitions that are divided among all who are there: each is held by one, with a fence of its own.
//!
//! **Connected**, a [`Partition`] is ours alone until it is dropped. **Suspended**, it is still ours until the end of the proven
//! lease, and nothing is divided anew. **Lost**, all of them are lost, each by its own fence; in the next session we are a
//! member again, and get our share again. When somebody comes or goes, only what moves is asked back: the worker hears it by
//! [`Partition::asked_back`], and has a grace to end; whoever gets it next waits until it is released.
//!
//! **Token:** of each partition the czxid of the node that stands for it, higher for each next holder.
//!
//! **Dropped:** a dropped [`Partition`] is released in the background, and divided again with the next change, or taken by us
//! again if it is ours. Dropped [`Partitions`] release all and leave.
//!
//! **Layout:** kazoo's `SetPartitioner`: members at `<path>/party/<hex32>-<id>`, and a lock of kazoo's for each partition at
//! `<path>/locks/<partition>`. [`Assignment::Striped`] divides as kazoo does, which waits for quiet before it divides, and gives
//! everything back at each change.
//!
//! **Cost:** one list for each change of the members, one watch for them and one for us. Each partition costs what a
//! [`crate::Lock`] costs.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use docent::{Client, path};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::assign::Assignment;
use crate::backoff::Backoff;
use crate::error::{Error, HoldError, LossCause};
use crate::ext::Recipes as _;
use crate::hold::{Fence, OnSuspend};
use crate::line::Layout;
use crate::lock::Lock;
use crate::member::Member;
use crate::token::FencingToken;
use crate::views::{View, Views};

/// How many members there may be.
const MEMBERS_MAX: usize = 10_000;

/// Partitions that are not divided yet: made by [`crate::Recipes::partitioner`], opened by `.await`.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before .await"]
pub struct Partitioner {
    client: Client,
    path: String,
    partitions: BTreeSet<String>,
    id: String,
    assignment: Assignment,
    grace: Duration,
    on_suspend: OnSuspend,
}

impl Partitioner {
    pub(crate) fn new(client: Client, path: String, partitions: BTreeSet<String>) -> Partitioner {
        let id = Uuid::new_v4().simple().to_string();
        let (assignment, grace) = (Assignment::default(), Duration::from_secs(10));
        Partitioner { client, path, partitions, id, assignment, grace, on_suspend: OnSuspend::default() }
    }

    /// Our id, which no other member may have. Default: one that nobody else has.
    pub fn id(mut self, id: impl Into<String>) -> Partitioner {
        self.id = id.into();
        self
    }

    /// How partitions are divided. All members must say the same. Default: [`Assignment::Sticky`].
    pub fn assignment(mut self, assignment: Assignment) -> Partitioner {
        self.assignment = assignment;
        self
    }

    /// How long a worker may keep a partition that is asked back; then it is lost. Default: 10 s.
    pub fn grace(mut self, grace: Duration) -> Partitioner {
        self.grace = grace;
        self
    }

    /// What a holder does while disconnected. Default: [`OnSuspend::KeepUntilLease`].
    pub fn on_suspend(mut self, on_suspend: OnSuspend) -> Partitioner {
        self.on_suspend = on_suspend;
        self
    }
}

/// Resolves when we are a member. Fails with [`Error::BadName`], [`Error::Closed`] and what the server refuses. Dropping the
/// future leaves in the background.
///
/// # Panics
/// When polled outside a tokio runtime.
impl IntoFuture for Partitioner {
    type Output = Result<Partitions, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(Partitions::open(self))
    }
}

/// Our share, one partition after the other. Dropping it releases all and leaves.
#[must_use = "dropping it releases all partitions and leaves"]
#[derive(Debug)]
pub struct Partitions {
    ours: mpsc::Receiver<Result<Partition, Error>>,
    _ends_driver: DropGuard,
}

impl Partitions {
    async fn open(partitioner: Partitioner) -> Result<Partitions, Error> {
        for name in partitioner.partitions.iter().chain([&partitioner.id]) {
            if name.is_empty() || name.contains('/') {
                return Err(Error::BadName { name: name.clone() });
            }
        }
        let (client, party) = (partitioner.client.clone(), path::join(&partitioner.path, "party"));
        let node = format!("{}-{}", Uuid::new_v4().simple(), partitioner.id);
        let member = client.group(&*party).join_raw(node, "").await?;
        let views = Views::bounded(client, party, false, MEMBERS_MAX);
        // Each partition is on its way at most once, and an error comes last.
        let (found, ours) = mpsc::channel(partitioner.partitions.len() + 1);
        let stop = CancellationToken::new();
        tokio::spawn(
            Driver { partitioner, found, stop: stop.clone(), holding: BTreeMap::new() }.run(member, views),
        );
        Ok(Partitions { ours, _ends_driver: stop.drop_guard() })
    }

    /// The next partition that has become ours. `None` when there will be no more: after [`Error::Closed`], or when the members
    /// cannot be followed.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::TooMany`] members, and what the server refuses. A partition whose lock is refused is not tried
    /// again before it is divided anew.
    ///
    /// # Cancel safety
    /// Safe: no partition is lost.
    pub async fn next(&mut self) -> Option<Result<Partition, Error>> {
        self.ours.recv().await
    }
}

/// A partition that is ours. Dropping it releases it in the background.
#[must_use = "dropping the partition releases it"]
#[derive(Debug)]
pub struct Partition {
    name: String,
    fence: Fence,
    asked_back: CancellationToken,
    _tells: DropGuard,
}

impl Partition {
    /// Which one.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A number that is higher than that of every earlier holder.
    #[must_use]
    pub fn token(&self) -> FencingToken {
        self.fence.token()
    }

    /// Whether it is still ours alone. Cheap: put it before each side effect.
    ///
    /// # Errors
    /// As [`Fence::check`].
    pub fn check(&self) -> Result<(), HoldError> {
        self.fence.check()
    }

    /// A view of the hold that can be cloned and sent to where the work is done.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// Completes when it may be another's, at the latest at the end of the lease.
    ///
    /// # Cancel safety
    /// Safe.
    pub fn lost(&self) -> impl Future<Output = LossCause> + Send + 'static {
        self.fence.lost()
    }

    /// Completes when it is to go to another, or is lost: come to an end, and drop it.
    ///
    /// # Cancel safety
    /// Safe.
    pub fn asked_back(&self) -> impl Future<Output = ()> + Send + 'static {
        let (asked, lost) = (self.asked_back.clone(), self.fence.lost());
        async move {
            tokio::select! {
                () = asked.cancelled() => {}
                _ = lost => {}
            }
        }
    }
}

/// The task that follows the members, and has a task for each partition of ours.
struct Driver {
    partitioner: Partitioner,
    found: mpsc::Sender<Result<Partition, Error>>,
    stop: CancellationToken,
    /// What is ours by the newest view. Cancelled, it is asked back.
    holding: BTreeMap<String, DropGuard>,
}

impl Driver {
    async fn run(mut self, member: Member, mut views: Views<()>) {
        let stop = self.stop.clone();
        loop {
            let view = tokio::select! {
                () = stop.cancelled() => break,
                view = views.next() => view,
            };
            let Some(view) = view else {
                let error = views.error().unwrap_or(Error::Closed);
                // Nobody may listen any more.
                drop(self.found.send(Err(error)).await);
                break;
            };
            self.divide(&view);
        }
        self.holding.clear();
        if let Err(pending) = member.leave().await {
            tracing::debug!(%pending, "leaving goes on in the background");
        }
    }

    fn divide(&mut self, view: &View<()>) {
        let partitioner = &self.partitioner;
        let members = view.members.values().map(|member| member.id.clone()).collect();
        let mine = partitioner.assignment.of(&partitioner.id, &members, &partitioner.partitions);
        self.holding.retain(|name, _| mine.contains(name));
        for name in mine {
            if self.holding.contains_key(&name) {
                continue;
            }
            let asked_back = CancellationToken::new();
            let lock = partitioner.client.lock(format!("{}/locks/{name}", partitioner.path));
            let said = format!("{} {}", partitioner.id, view.id);
            let holder = Holder {
                lock: lock.layout(Layout::Kazoo).identifier(said).on_suspend(partitioner.on_suspend),
                name: name.clone(),
                grace: partitioner.grace,
                found: self.found.clone(),
                asked_back: asked_back.clone(),
            };
            tokio::spawn(holder.run());
            self.holding.insert(name, asked_back.drop_guard());
        }
    }
}

/// The task that holds one partition while it is ours.
struct Holder {
    lock: Lock,
    name: String,
    grace: Duration,
    found: mpsc::Sender<Result<Partition, Error>>,
    asked_back: CancellationToken,
}

impl Holder {
    async fn run(self) {
        let mut backoff = Backoff::reconnecting();
        while !self.asked_back.is_cancelled() {
            let held = tokio::select! {
                () = self.asked_back.cancelled() => return,
                held = self.lock.acquire() => held,
            };
            let guard = match held {
                Ok(guard) => guard,
                // The driver tells of a closed client.
                Err(Error::Closed) => return,
                Err(error) => return drop(self.found.send(Err(error)).await),
            };
            let (done, fence) = (CancellationToken::new(), guard.fence());
            let (name, asked_back) = (self.name.clone(), self.asked_back.clone());
            let partition = Partition { name, fence, asked_back, _tells: done.clone().drop_guard() };
            if self.found.send(Ok(partition)).await.is_err() {
                return;
            }
            tokio::select! {
                () = done.cancelled() => {}
                () = self.asked_back.cancelled() => {
                    // Whoever has not noticed by then loses it with the guard.
                    drop(tokio::time::timeout(self.grace, done.cancelled()).await);
                }
            }
            if let Err(pending) = guard.release().await {
                tracing::debug!(%pending, "release goes on in the background");
            }
            backoff.wait().await;
        }
    }
}
