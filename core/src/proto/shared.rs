//! The records that several operations carry: ACL entries and Stat.

use bytes::{BufMut, BytesMut};

use super::jute::{Decode, DecodeError, Encode, Reader, put_string};
use crate::{Acl, Permissions, SessionId, Stat, Zxid};

/// Bytes of the smallest ACL entry: permissions and two empty strings.
pub(super) const ACL_MIN_BYTES: usize = 12;

impl Encode for Acl {
    fn encode(&self, out: &mut BytesMut) {
        out.put_i32(self.permissions.0);
        put_string(out, &self.scheme);
        put_string(out, &self.id);
    }
}

/// A null scheme reads as empty, which no scheme is named, so it is refused as an invalid ACL later on.
impl Decode for Acl {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Acl {
            permissions: Permissions(input.int()?),
            scheme: input.string_or_empty()?,
            id: input.string_or_empty()?,
        })
    }
}

impl Encode for Stat {
    fn encode(&self, out: &mut BytesMut) {
        let mut bytes = [0_u8; 68];
        let mut rest = &mut bytes[..];
        rest.put_i64(self.czxid.0);
        rest.put_i64(self.mzxid.0);
        rest.put_i64(self.ctime);
        rest.put_i64(self.mtime);
        rest.put_i32(self.version);
        rest.put_i32(self.cversion);
        rest.put_i32(self.aversion);
        rest.put_i64(self.ephemeral_owner.0);
        rest.put_i32(self.data_length);
        rest.put_i32(self.num_children);
        rest.put_i64(self.pzxid.0);
        out.put_slice(&bytes);
    }
}

impl Decode for Stat {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Stat {
            czxid: Zxid(input.long()?),
            mzxid: Zxid(input.long()?),
            ctime: input.long()?,
            mtime: input.long()?,
            version: input.int()?,
            cversion: input.int()?,
            aversion: input.int()?,
            ephemeral_owner: SessionId(input.long()?),
            data_length: input.int()?,
            num_children: input.int()?,
            pzxid: Zxid(input.long()?),
        })
    }
}
