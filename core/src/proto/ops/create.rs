//! The four creates. They share a record; the operation says which kinds of node it may make.

use bytes::{BufMut, Bytes, BytesMut};

use super::acl::{decode_acl_list, encode_acl_list};
use crate::Acl;
use crate::proto::OpCode;
use crate::proto::jute::{DecodeError, Reader, put_buffer, put_string};

/// The longest time to live of a node: 2⁴⁰ − 1 milliseconds.
pub const MAX_TTL_MS: i64 = (1 << 40) - 1;

/// The mode numbers that a create carries. Unknown numbers are kept: the server refuses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateFlags(pub i32);

impl CreateFlags {
    /// Stays until deleted.
    pub const PERSISTENT: CreateFlags = CreateFlags(0);
    /// Ends with the session.
    pub const EPHEMERAL: CreateFlags = CreateFlags(1);
    /// Stays; the server appends a number to the name.
    pub const PERSISTENT_SEQUENTIAL: CreateFlags = CreateFlags(2);
    /// Ends with the session; the server appends a number to the name.
    pub const EPHEMERAL_SEQUENTIAL: CreateFlags = CreateFlags(3);
    /// Goes when its last child has gone.
    pub const CONTAINER: CreateFlags = CreateFlags(4);
    /// Goes when it has no children and was not set for its time to live.
    pub const TTL: CreateFlags = CreateFlags(5);
    /// As [`CreateFlags::TTL`]; the server appends a number to the name.
    pub const TTL_SEQUENTIAL: CreateFlags = CreateFlags(6);

    /// Whether the number is one of those above.
    #[must_use]
    pub const fn is_known(self) -> bool {
        matches!(self.0, 0..=6)
    }

    /// Whether the server appends a number to the name.
    #[must_use]
    pub const fn is_sequential(self) -> bool {
        matches!(self.0, 2 | 3 | 6)
    }

    /// Whether the node ends with the session.
    #[must_use]
    pub const fn is_ephemeral(self) -> bool {
        matches!(self.0, 1 | 3)
    }
}

/// Which of the four operations creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CreateKind {
    /// Answers the path.
    Create,
    /// Answers path and Stat.
    Create2,
    /// Makes a container, answers path and Stat.
    Container,
    /// Makes a node with a time to live, answers path and Stat.
    Ttl,
}

impl CreateKind {
    /// The operation.
    #[must_use]
    pub const fn op(self) -> OpCode {
        match self {
            CreateKind::Create => OpCode::Create,
            CreateKind::Create2 => OpCode::Create2,
            CreateKind::Container => OpCode::CreateContainer,
            CreateKind::Ttl => OpCode::CreateTtl,
        }
    }
}

/// The record of a create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateRequest {
    /// Which operation.
    pub kind: CreateKind,
    /// The path, for sequential nodes without the number.
    pub path: String,
    /// The data or null.
    pub data: Option<Bytes>,
    /// The ACL; servers refuse null and empty.
    pub acl: Option<Vec<Acl>>,
    /// The mode number.
    pub flags: CreateFlags,
    /// Milliseconds to live; on the wire only for [`CreateKind::Ttl`], else 0.
    pub ttl_ms: i64,
}

impl CreateRequest {
    pub(crate) fn decode(kind: CreateKind, input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(CreateRequest {
            kind,
            path: input.string()?,
            data: input.buffer()?,
            acl: decode_acl_list(input)?,
            flags: CreateFlags(input.int()?),
            ttl_ms: if kind == CreateKind::Ttl { input.long()? } else { 0 },
        })
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        put_string(out, &self.path);
        put_buffer(out, self.data.as_deref());
        encode_acl_list(self.acl.as_deref(), out);
        out.put_i32(self.flags.0);
        if self.kind == CreateKind::Ttl {
            out.put_i64(self.ttl_ms);
        }
    }
}
