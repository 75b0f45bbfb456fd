//! What a server tells about a znode beside its data.

use crate::{SessionId, Zxid};

/// The state of a znode as a client sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stat {
    /// The transaction that created the node.
    pub czxid: Zxid,
    /// The transaction that last set its data.
    pub mzxid: Zxid,
    /// When it was created, milliseconds since 1970 by the leader's clock.
    pub ctime: i64,
    /// When its data was last set, milliseconds since 1970 by the leader's clock.
    pub mtime: i64,
    /// How often its data was set.
    pub version: i32,
    /// Creates and deletes of direct children.
    pub cversion: i32,
    /// How often its ACL was set.
    pub aversion: i32,
    /// The owning session of an ephemeral node, else [`SessionId::NONE`].
    pub ephemeral_owner: SessionId,
    /// Bytes of data; 0 for null.
    pub data_length: i32,
    /// Direct children.
    pub num_children: i32,
    /// The transaction that last created or deleted a direct child, at first the node's own creation.
    pub pzxid: Zxid,
}
