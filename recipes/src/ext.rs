//! The recipes as verbs of the client.

use docent::Client;
use serde::de::DeserializeOwned;

use crate::barrier::Barrier;
use crate::cache::CacheBuilder;
use crate::config::{ConfigBuilder, ConfigPath};
use crate::config_tree::JsonTree;
use crate::countdown::CountdownLatch;
use crate::counter::{Counter, CounterLayout};
use crate::discovery::ServiceDiscovery;
use crate::double_barrier::DoubleBarrier;
use crate::election::Election;
use crate::exclusive::Exclusive;
use crate::keep::Keep;
use crate::latch::LeaderLatch;
use crate::lock::Lock;
use crate::membership::Group;
use crate::multi_lock::MultiLock;
use crate::names::UniqueNames;
use crate::observe::ObservedLeader;
use crate::partitioner::Partitioner;
use crate::queue::Queue;
use crate::rw_lock::RwLock;
use crate::semaphore::Semaphore;
use crate::value::SharedValue;
use crate::work_queue::WorkQueue;

/// The recipes, as verbs of a [`Client`]. Nothing is sent before a verb of what they return.
pub trait Recipes {
    /// An ordered lock: contenders stand in line under `path`.
    fn lock(&self, path: impl Into<String>) -> Lock;

    /// A lock that readers share and writers have alone, in one line under `path`.
    fn rw_lock(&self, path: impl Into<String>) -> RwLock;

    /// Several ordered locks, all or none; a path that is named twice is one lock.
    fn lock_all<P: Into<String>>(&self, paths: impl IntoIterator<Item = P>) -> MultiLock;

    /// A semaphore: at most so many hold at once, one unless [`Semaphore::permits`] says another number.
    fn semaphore(&self, path: impl Into<String>) -> Semaphore;

    /// An exclusive lock: the one node `path`.
    fn exclusive(&self, path: impl Into<String>) -> Exclusive;

    /// A leader latch: participants stand in line under `path`.
    fn leader_latch(&self, path: impl Into<String>) -> LeaderLatch;

    /// An election: whoever leads does the work. Candidates stand in line under `path`.
    fn election(&self, path: impl Into<String>) -> Election;

    /// Who leads at `path`, by a latch or an election, for one who does not take part.
    fn observe_leader(&self, path: impl Into<String>) -> ObservedLeader;

    /// The value of the node `path`, kept up to date.
    fn watch_config(&self, path: impl Into<String>) -> ConfigPath;

    /// The node `path` and everything below it as one value, read as it is at one moment and kept up to date: a struct of
    /// many nodes. A node with children is an object, a leaf holds JSON, and one without data is left out. At most
    /// [`CONFIG_TREE_NODES_MAX`](crate::CONFIG_TREE_NODES_MAX) nodes, on servers from 3.6 on.
    fn config_tree<T: DeserializeOwned>(&self, path: impl Into<String>) -> ConfigBuilder<T, JsonTree>;

    /// The node `path` and what is below it, kept up to date.
    fn cache(&self, path: impl Into<String>) -> CacheBuilder;

    /// A value that many programs change: the node `path`.
    fn shared_value(&self, path: impl Into<String>) -> SharedValue;

    /// A number that many programs add to, of 64 bits.
    fn counter(&self, path: impl Into<String>) -> Counter;

    /// A number that many programs set and add to, of 32 bits, as Curator's `SharedCount` keeps it.
    fn shared_count(&self, path: impl Into<String>) -> Counter;

    /// Names that are given out once, with numbers that the server counts under `path`.
    fn unique_names(&self, path: impl Into<String>) -> UniqueNames;

    /// A barrier: closed while the node `path` is there.
    fn barrier(&self, path: impl Into<String>) -> Barrier;

    /// A double barrier for so many members, who meet under `path`.
    fn double_barrier(&self, path: impl Into<String>, members: usize) -> DoubleBarrier;

    /// A countdown latch: the node `path` holds the number that is left, `count` at first.
    fn countdown(&self, path: impl Into<String>, count: u32) -> CountdownLatch;

    /// A node that is kept at `path`: made now, and made again after an expiry or a delete, until it is closed.
    fn keep(&self, path: impl Into<String>) -> Keep;

    /// A group whose members are the children of `path`; Curator's usual one is `/GroupMembers`.
    fn group(&self, path: impl Into<String>) -> Group;

    /// A small queue whose items are the children of `path`: each is taken at most once.
    fn queue(&self, path: impl Into<String>) -> Queue;

    /// A small queue of work at `path`: each item is claimed, and gone when its work is done; at least once.
    fn work_queue(&self, path: impl Into<String>) -> WorkQueue;

    /// Partitions that are divided among all who take part at `path`. All must name the same partitions.
    fn partitioner<P: Into<String>>(
        &self,
        path: impl Into<String>,
        partitions: impl IntoIterator<Item = P>,
    ) -> Partitioner;

    /// Services whose instances are found below `base`, and carry a `T` each.
    fn discovery<T>(&self, base: impl Into<String>) -> ServiceDiscovery<T>;
}

impl Recipes for Client {
    fn lock(&self, path: impl Into<String>) -> Lock {
        Lock::new(self.clone(), path.into())
    }

    fn rw_lock(&self, path: impl Into<String>) -> RwLock {
        RwLock::new(self.lock(path))
    }

    fn lock_all<P: Into<String>>(&self, paths: impl IntoIterator<Item = P>) -> MultiLock {
        MultiLock::new(self, paths.into_iter().map(Into::into))
    }

    fn semaphore(&self, path: impl Into<String>) -> Semaphore {
        Semaphore::new(self.clone(), path.into())
    }

    fn exclusive(&self, path: impl Into<String>) -> Exclusive {
        Exclusive::new(self.clone(), path.into())
    }

    fn leader_latch(&self, path: impl Into<String>) -> LeaderLatch {
        LeaderLatch::new(self.clone(), path.into())
    }

    fn election(&self, path: impl Into<String>) -> Election {
        Election::new(self.clone(), path.into())
    }

    fn observe_leader(&self, path: impl Into<String>) -> ObservedLeader {
        ObservedLeader::new(self.clone(), path.into())
    }

    fn watch_config(&self, path: impl Into<String>) -> ConfigPath {
        ConfigPath::new(self.clone(), path.into())
    }

    fn config_tree<T: DeserializeOwned>(&self, path: impl Into<String>) -> ConfigBuilder<T, JsonTree> {
        ConfigPath::new(self.clone(), path.into()).tree()
    }

    fn cache(&self, path: impl Into<String>) -> CacheBuilder {
        CacheBuilder::new(self.clone(), path.into())
    }

    fn shared_value(&self, path: impl Into<String>) -> SharedValue {
        SharedValue::new(self.clone(), path.into())
    }

    fn counter(&self, path: impl Into<String>) -> Counter {
        Counter::new(self.clone(), path.into(), CounterLayout::Long)
    }

    fn shared_count(&self, path: impl Into<String>) -> Counter {
        Counter::new(self.clone(), path.into(), CounterLayout::Integer)
    }

    fn unique_names(&self, path: impl Into<String>) -> UniqueNames {
        UniqueNames::new(self.clone(), path.into())
    }

    fn barrier(&self, path: impl Into<String>) -> Barrier {
        Barrier::new(self.clone(), path.into())
    }

    fn double_barrier(&self, path: impl Into<String>, members: usize) -> DoubleBarrier {
        DoubleBarrier::new(self.clone(), path.into(), members)
    }

    fn countdown(&self, path: impl Into<String>, count: u32) -> CountdownLatch {
        CountdownLatch::new(self.shared_count(path), count)
    }

    fn keep(&self, path: impl Into<String>) -> Keep {
        Keep::new(self.clone(), path.into())
    }

    fn group(&self, path: impl Into<String>) -> Group {
        Group::new(self.clone(), path.into())
    }

    fn queue(&self, path: impl Into<String>) -> Queue {
        Queue::new(self.clone(), path.into())
    }

    fn work_queue(&self, path: impl Into<String>) -> WorkQueue {
        WorkQueue::new(self.clone(), path.into())
    }

    fn partitioner<P: Into<String>>(
        &self,
        path: impl Into<String>,
        partitions: impl IntoIterator<Item = P>,
    ) -> Partitioner {
        Partitioner::new(self.clone(), path.into(), partitions.into_iter().map(Into::into).collect())
    }

    fn discovery<T>(&self, base: impl Into<String>) -> ServiceDiscovery<T> {
        ServiceDiscovery::new(self.clone(), base.into())
    }
}
