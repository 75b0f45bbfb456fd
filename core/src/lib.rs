//! ZooKeeper-compatible wire protocol and async client.
//!
//! [`Client`] is where to start. [`proto`] holds the wire format, which the server shares.

pub mod acl;
#[cfg(feature = "blocking")]
pub mod blocking;
pub mod client;
mod code;
pub mod digest_md5;
pub mod ids;
pub mod path;
pub mod proto;
mod stat;

pub use acl::{Acl, Permissions};
#[cfg(feature = "tls")]
pub use client::Tls;
pub use client::{
    Children, ChildrenPages, Client, ClientBuilder, CloseCause, ConnState, CreateBuilder, CreateMode,
    Created, DeletedTree, Error, Lease, LeaseHold, LossCause, NodeData, OneshotWatch, ParentMode, Reply,
    Retry, SessionRef, StateWatch, Transaction, WatchItem, WatchedEvent, Watcher,
};
pub use code::ErrorCode;
pub use ids::{SessionId, Version, Xid, Zxid};
pub use path::{PathError, ZnodePath};
pub use proto::ops::ReadOp;
pub use proto::{
    AddWatchMode, ClientInfo, EventType, MultiOp, MultiResult, OpCode, ReconfigRequest, WatcherKind,
};
pub use stat::Stat;
#[cfg(feature = "tls")]
pub use tokio_rustls::rustls;
