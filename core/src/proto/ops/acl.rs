//! Lists of ACL entries. A null list is not an empty one, though servers refuse both.

use bytes::{BufMut, BytesMut};

use crate::proto::jute::{Decode, DecodeError, Encode, Reader, put_string, put_vec};
use crate::proto::shared::ACL_MIN_BYTES;
use crate::{Acl, Version};

/// Reads a list of entries or null.
///
/// # Errors
/// The bytes are not such a list.
pub fn decode_acl_list(input: &mut Reader) -> Result<Option<Vec<Acl>>, DecodeError> {
    input.nullable_vec(ACL_MIN_BYTES, Acl::decode)
}

/// Appends a list of entries or null.
pub fn encode_acl_list(acl: Option<&[Acl]>, out: &mut BytesMut) {
    match acl {
        None => out.put_i32(-1),
        Some(list) => put_vec(out, list, |out, entry| entry.encode(out)),
    }
}

/// Appends the record of `setACL`.
pub fn encode_set_acl(path: &str, acl: Option<&[Acl]>, version: Version, out: &mut BytesMut) {
    put_string(out, path);
    encode_acl_list(acl, out);
    out.put_i32(version.0);
}
