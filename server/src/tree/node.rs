//! One znode as it is kept, and as it is seen.
//!
//! A million of these is an everyday tree, so the layout is counted in bytes: 128 for the node with a name of up
//! to 24 bytes, beside its data and one entry of the index. Siblings are linked through the nodes themselves:
//! children cost nothing, and they are listed in the order of their creation.

use compact_str::CompactString;
use docent::{Acl, SessionId, Stat, Zxid};

use super::acl::AclId;
use super::store::Children;
use super::{Tree, digest};
use crate::node::txn::NodeKind;

/// What `ephemeralOwner` holds of a container.
const CONTAINER_OWNER: i64 = i64::MIN;
/// The top byte of `ephemeralOwner` of a TTL node.
const TTL_MARK: u64 = 0xff << 56;
/// Bits of `ephemeralOwner` that hold the time to live.
const TTL_BITS: u64 = (1 << 40) - 1;

/// The place of a node in memory. Not the same on two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeId(pub(super) u32);

impl NodeId {
    /// No node.
    pub(super) const NONE: NodeId = NodeId(u32::MAX);
    /// The root, which stays where it is.
    pub(super) const ROOT: NodeId = NodeId(0);
}

/// What is stored and replicated beside data and ACL. What clients see is derived: [`NodeView::stat`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredStat {
    /// The transaction that created the node.
    pub czxid: Zxid,
    /// The transaction that last set its data.
    pub mzxid: Zxid,
    /// The transaction that last created or deleted a direct child, at first the node's own creation.
    pub pzxid: Zxid,
    /// When it was created, milliseconds since 1970.
    pub ctime: i64,
    /// When its data was last set, milliseconds since 1970.
    pub mtime: i64,
    /// How often its data was set.
    pub version: i32,
    /// How many direct children were ever created.
    pub cversion: i32,
    /// How often its ACL was set.
    pub aversion: i32,
    /// 0, a session, or the mark of a container or TTL node.
    pub owner: i64,
}

impl StoredStat {
    /// The state of a node right after its creation.
    #[must_use]
    pub fn created(zxid: Zxid, time_ms: i64, kind: NodeKind, session: SessionId) -> Self {
        StoredStat {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: time_ms,
            mtime: time_ms,
            owner: owner_of(kind, session),
            ..StoredStat::default()
        }
    }

    /// The session that an ephemeral node belongs to.
    #[must_use]
    pub fn session_owner(&self) -> Option<SessionId> {
        (kind_of(self.owner, true) == NodeKind::Ephemeral).then_some(SessionId(self.owner))
    }
}

/// What `ephemeralOwner` holds of a node that `session` creates.
pub(super) fn owner_of(kind: NodeKind, session: SessionId) -> i64 {
    match kind {
        NodeKind::Persistent => 0,
        NodeKind::Ephemeral => session.0,
        NodeKind::Container => CONTAINER_OWNER,
        NodeKind::Ttl(ttl_ms) => (TTL_MARK | (ttl_ms.cast_unsigned() & TTL_BITS)).cast_signed(),
    }
}

/// The kind that `owner` tells. Without extended types what looks like a time to live is a session.
pub(super) fn kind_of(owner: i64, extended_types: bool) -> NodeKind {
    let bits = owner.cast_unsigned();
    match owner {
        0 => NodeKind::Persistent,
        CONTAINER_OWNER => NodeKind::Container,
        // The bits between mark and time are reserved; where they are set it cannot be one of ours.
        _ if extended_types && bits & !TTL_BITS == TTL_MARK => NodeKind::Ttl((bits & TTL_BITS).cast_signed()),
        _ => NodeKind::Ephemeral,
    }
}

/// A znode in its slot. The order is meant: the first cache line is all that finding and listing look at.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Node {
    pub(super) name: CompactString,
    pub(super) parent: NodeId,
    pub(super) first_child: NodeId,
    /// The next younger sibling. Of a vacant slot: the next vacant one.
    pub(super) next: NodeId,
    /// The next older sibling; of the oldest child the youngest, so that appending needs no walk.
    pub(super) prev: NodeId,
    pub(super) num_children: u32,
    pub(super) acl: AclId,
    pub(super) data: Option<Box<[u8]>>,
    pub(super) czxid: Zxid,
    pub(super) mzxid: Zxid,
    pub(super) pzxid: Zxid,
    pub(super) ctime: i64,
    pub(super) mtime: i64,
    pub(super) owner: i64,
    pub(super) version: i32,
    pub(super) cversion: i32,
    pub(super) aversion: i32,
    /// CRC-32 over path and data: the part of the digest that children do not change. 0 where no digest is kept.
    pub(super) content_crc: u32,
}

impl Node {
    /// A node without links, which the store sets.
    pub(super) fn new(name: &str, data: Option<&[u8]>, acl: AclId, stat: &StoredStat) -> Node {
        Node {
            name: CompactString::new(name),
            parent: NodeId::NONE,
            first_child: NodeId::NONE,
            next: NodeId::NONE,
            prev: NodeId::NONE,
            num_children: 0,
            acl,
            data: data.map(Box::from),
            czxid: stat.czxid,
            mzxid: stat.mzxid,
            pzxid: stat.pzxid,
            ctime: stat.ctime,
            mtime: stat.mtime,
            owner: stat.owner,
            version: stat.version,
            cversion: stat.cversion,
            aversion: stat.aversion,
            content_crc: 0,
        }
    }

    pub(super) fn stored(&self) -> StoredStat {
        StoredStat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            pzxid: self.pzxid,
            ctime: self.ctime,
            mtime: self.mtime,
            version: self.version,
            cversion: self.cversion,
            aversion: self.aversion,
            owner: self.owner,
        }
    }

    pub(super) fn data_length(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.len())
    }

    /// The state as clients see it: children created and deleted as `cversion`, and an owner only of nodes that
    /// end with a session.
    pub(super) fn client_stat(&self, extended_types: bool) -> Stat {
        let num_children = self.num_children.cast_signed();
        let ephemeral = kind_of(self.owner, extended_types) == NodeKind::Ephemeral;
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime: self.ctime,
            mtime: self.mtime,
            version: self.version,
            cversion: self.cversion.wrapping_mul(2).wrapping_sub(num_children),
            aversion: self.aversion,
            ephemeral_owner: if ephemeral { SessionId(self.owner) } else { SessionId::NONE },
            data_length: i32::try_from(self.data_length()).unwrap_or(i32::MAX),
            num_children,
            pzxid: self.pzxid,
        }
    }
}

/// A znode as readers see it.
#[derive(Clone, Copy)]
pub struct NodeView<'a> {
    pub(super) tree: &'a Tree,
    pub(super) id: NodeId,
}

impl<'a> NodeView<'a> {
    fn node(&self) -> &'a Node {
        &self.tree.store[self.id]
    }

    /// The data; `None` is null.
    #[must_use]
    pub fn data(&self) -> Option<&'a [u8]> {
        self.node().data.as_deref()
    }

    /// The state as clients see it.
    #[must_use]
    pub fn stat(&self) -> Stat {
        self.node().client_stat(self.tree.options.extended_types)
    }

    /// The state as it is replicated.
    #[must_use]
    pub fn stored(&self) -> StoredStat {
        self.node().stored()
    }

    /// The access control list.
    #[must_use]
    pub fn acl(&self) -> &'a [Acl] {
        self.tree.acl(self.acl_id())
    }

    /// The list's number in [`Tree::acl`].
    #[must_use]
    pub fn acl_id(&self) -> AclId {
        self.node().acl
    }

    /// Direct children.
    #[must_use]
    pub fn num_children(&self) -> usize {
        self.node().num_children as usize
    }

    /// The names of the direct children in the order of their creation.
    #[must_use]
    pub fn children(&self) -> Children<'a> {
        self.tree.store.children(self.id)
    }

    /// How the node ends.
    #[must_use]
    pub fn kind(&self) -> NodeKind {
        kind_of(self.node().owner, self.tree.options.extended_types)
    }

    /// The checksum over path and data, from which the digest goes on.
    pub(crate) fn content_crc(&self) -> u32 {
        self.node().content_crc
    }

    /// The node's share of the tree's digest; 0 for nodes below `/zookeeper`.
    #[must_use]
    pub fn digest(&self) -> u64 {
        if self.tree.store.is_reserved(self.id) {
            return 0;
        }
        digest::finish(self.node().content_crc, &self.stored())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_takes_two_cache_lines() {
        assert_eq!((size_of::<Node>(), std::mem::offset_of!(Node, czxid)), (128, 64));
    }

    #[test]
    fn the_owner_tells_the_kind() {
        let session = SessionId(0x0100_000d_2702_0001);
        for kind in [NodeKind::Persistent, NodeKind::Ephemeral, NodeKind::Container, NodeKind::Ttl(3_600_000)]
        {
            assert_eq!(kind_of(owner_of(kind, session), true), kind);
        }
        let longest = NodeKind::Ttl((1 << 40) - 1);
        assert_eq!(kind_of(owner_of(longest, session), true), longest);
        assert_eq!(owner_of(NodeKind::Ttl(3_600_000), session).cast_unsigned(), 0xff00_0000_0036_ee80);
    }

    #[test]
    fn without_extended_types_a_ttl_mark_is_a_session() {
        let owner = owner_of(NodeKind::Ttl(5), SessionId::NONE);
        assert_eq!(kind_of(owner, false), NodeKind::Ephemeral);
        assert_eq!(kind_of(CONTAINER_OWNER, false), NodeKind::Container);
    }

    #[test]
    fn reserved_bits_make_it_a_session() {
        assert_eq!(kind_of(0xff00_0100_0000_0005_u64.cast_signed(), true), NodeKind::Ephemeral);
    }
}
