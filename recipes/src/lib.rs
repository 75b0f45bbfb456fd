//! Distributed locks, leader election, configuration and membership on ZooKeeper-compatible ensembles.
//!
//! Import [`Recipes`] and call its verbs on a [`docent::Client`]:
//!
//! | for | take | layout shared with |
//! |---|---|---|
//! | one at a time, in order of arrival | [`Recipes::lock`] | Curator `InterProcessMutex`; kazoo `Lock` on request |
//! | many readers or one writer, in order of arrival | [`Recipes::rw_lock`] | Curator `InterProcessReadWriteLock`; kazoo `ReadLock`, `WriteLock` on request |
//! | several locks, all or none | [`Recipes::lock_all`] | Curator `InterProcessMutex` and kazoo `Lock`, each |
//! | so many at a time | [`Recipes::semaphore`] | Curator `InterProcessSemaphoreV2`; kazoo `Semaphore` on request |
//! | one at a time, few contenders, a node with a fixed name | [`Recipes::exclusive`] | – |
//! | one leader among many, for long | [`Recipes::leader_latch`] | Curator `LeaderLatch` |
//! | work that only the leader does | [`Recipes::election`] | Curator `LeaderSelector`; kazoo `Election` on request |
//! | who leads, for those who do not take part | [`Recipes::observe_leader`] | all of these |
//! | a value that everybody has at hand | [`Recipes::watch_config`] | any plain node |
//! | a struct of many nodes, as they are at one moment | [`Recipes::config_tree`] | any plain nodes |
//! | nodes, their children or whole trees at hand, and what changes in them | [`Recipes::cache`] | Curator `CuratorCache`, `NodeCache`, `PathChildrenCache`, `TreeCache` |
//! | a value that many programs change | [`Recipes::shared_value`] | Curator `SharedValue` |
//! | a number that many programs add to | [`Recipes::counter`], [`Recipes::shared_count`] | Curator `DistributedAtomicLong`, `SharedCount`; kazoo `Counter` |
//! | a name that nobody else gets | [`Recipes::unique_names`] | Curator's protected sequential nodes |
//! | numbers that nobody else gets, many at a time | [`Counter::in_blocks`] | Curator `CachedAtomicLong` |
//! | nobody before the gate is open | [`Recipes::barrier`] | Curator `DistributedBarrier`; kazoo `Barrier` |
//! | so many begin together, and end together | [`Recipes::double_barrier`] | Curator `DistributedDoubleBarrier` |
//! | nobody before so many are done | [`Recipes::countdown`] | its number with Curator `SharedCount` |
//! | a node that is there as long as its owner wants | [`Recipes::keep`] | Curator `PersistentNode`, `PersistentTtlNode` |
//! | who is there | [`Recipes::group`] | Curator `GroupMember`; reads kazoo `Party` |
//! | what others shall take, each once | [`Recipes::queue`] | Curator `DistributedQueue`, `DistributedPriorityQueue`, `DistributedDelayQueue`, `SimpleDistributedQueue`; kazoo `Queue` on request |
//! | work that others shall do, at least once | [`Recipes::work_queue`] | Curator's queues with a lock path; kazoo `LockingQueue` on request |
//! | a share of what is to be divided, each part held by one | [`Recipes::partitioner`] | kazoo `SetPartitioner` |
//! | where a service is | [`Recipes::discovery`] | Curator `ServiceDiscovery`, `ServiceProvider` |
//!
//! ```no_run
//! use docent::Client;
//! use docent_recipes::Recipes;
//! # async fn bill(_token: docent_recipes::FencingToken) {}
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let zk = Client::connect("localhost:2181").await?;
//! let guard = zk.lock("/locks/billing").acquire().await?;
//! // Stopped when the lock is lost, released when the work is done. The token makes late writes harmless.
//! guard.run(|fence| async move { bill(fence.token()).await }).await?;
//!
//! let limits: docent_recipes::Watched<u32> = zk.watch_config("/app/limit").json().default_if_missing(10).open().await?;
//! let leader = zk.leader_latch("/app/leader").id("node-a").join().await?;
//! let fence = leader.wait_to_lead().await?;
//! let member = zk.group("/GroupMembers").join("node-a", &"10.0.0.1:80").await?;
//! while fence.check().is_ok() && *limits.get() > 0 { /* lead */ }
//! member.leave().await?;
//! # Ok(()) }
//! ```
//!
//! # What may be relied on
//! Everything held is tied to one session and to a *lease*: the time up to which, by the client's own clock, no
//! server can have given it to somebody else. While connected the lease is renewed; while **suspended** (no
//! connection) a hold stays valid until the lease ends, then it is **lost**, and it is lost earlier when a server
//! says that the session is gone or when somebody deletes the node. Waiters and members come back in the next
//! session by themselves; holds never do.
//!
//! A process that is paused can be late all the same. What stops its late writes is the
//! [`FencingToken`], where the resource checks it, and [`LockGuard::txn`] inside ZooKeeper.
//!
//! # Dropping
//! Futures and guards can be dropped at any point, in any thread, with or without a runtime. The nodes belong to
//! driver tasks, which go on until the nodes are proved gone.

mod assign;
mod backoff;
mod barrier;
mod cache;
mod cache_follow;
mod cache_reads;
mod cache_view;
mod cache_watch;
mod codec;
mod config;
mod config_follow;
mod config_state;
mod config_tree;
mod contender_watch;
mod contenders;
mod countdown;
mod counter;
mod discovery;
pub mod doctor;
mod double_barrier;
mod election;
mod error;
mod exclusive;
mod ext;
mod following;
mod form;
mod guard;
mod guard_set;
mod guarded;
mod hold;
mod id_blocks;
mod instance;
mod keep;
mod keeper;
mod latch;
mod lease;
pub mod line;
mod lock;
mod member;
mod membership;
mod multi_lock;
mod names;
mod observe;
mod partitioner;
mod permit_count;
mod picker;
mod presence;
mod provider;
mod queue;
mod queue_drivers;
mod queue_layout;
mod rw_lock;
mod semaphore;
mod standing;
mod tagged;
mod token;
mod txn;
mod value;
mod views;
mod work_queue;
mod written_once;

pub use assign::Assignment;
pub use barrier::Barrier;
pub use cache::{
    Cache, CacheBuilder, CacheEvent, CacheEvents, DEFAULT_CACHE_BYTES, DEFAULT_CACHE_EVENTS,
    DEFAULT_CACHE_NODES,
};
pub use cache_reads::Depth;
pub use cache_view::{CacheSnapshot, CachedNode};
pub use codec::{BoxError, Decode, Encode, Json, Raw, Text};
pub use config::{ConfigBuilder, ConfigInfo, ConfigPath, Update, Updates, Watched};
pub use config_tree::{CONFIG_TREE_NODES_MAX, JsonTree};
pub use contender_watch::Contenders;
pub use contenders::Contender;
pub use countdown::CountdownLatch;
pub use counter::{Counter, CounterLayout};
pub use discovery::{DEFAULT_INSTANCES_MAX, Registration, ServiceDiscovery, ServiceView, ServiceViews};
pub use double_barrier::{DoubleBarrier, Inside};
pub use election::{Election, Leader, Requeue};
pub use error::{Error, HoldError, LossCause};
pub use exclusive::Exclusive;
pub use ext::Recipes;
pub use guard::{LockGuard, ReleasePending, Released};
pub use guard_set::{FenceSet, GuardSet};
pub use hold::{Fence, HoldState, HoldWatch, OnSuspend};
pub use id_blocks::IdBlocks;
pub use instance::{ServiceInstance, ServiceType, UriSpec};
pub use keep::{Keep, KeptNode, KeptState};
pub use latch::{CloseMode, Latch, LeaderLatch, Leadership, Participant};
pub use line::{Layout, Mode};
pub use lock::{Lock, OnPlaceLost, PlaceInLine, PlaceState};
pub use member::{Member, MemberState};
pub use membership::{Conflict, Group, Join};
pub use multi_lock::MultiLock;
pub use names::{UniqueName, UniqueNames};
pub use observe::{LeaderInfo, ObservedLeader};
pub use partitioner::{Partition, Partitioner, Partitions};
pub use picker::{DownPolicy, Strategy};
pub use provider::{Picked, Provider, ProviderBuilder};
pub use queue::{DEFAULT_LENGTH_MAX, Put, Queue, Taken};
pub use queue_layout::{QueueLayout, QueueOrder};
pub use rw_lock::{ReadGuard, RwLock, WriteGuard};
pub use semaphore::Semaphore;
pub use token::{FenceGate, FencingToken, StaleToken};
pub use txn::GuardedTxn;
pub use value::{Outcome, SharedValue, Versioned};
pub use views::{GroupMember, MemberLayout, Payload, View, Views};
pub use work_queue::{Job, WorkQueue};
