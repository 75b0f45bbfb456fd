//! Identities of a connection.

use bytes::{BufMut, Bytes, BytesMut};

use crate::proto::jute::{DecodeError, Reader, put_buffer, put_string, put_vec};

/// The record of `auth`.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthRequest {
    /// 0.
    pub kind: i32,
    /// How the identity is proved.
    pub scheme: String,
    /// The proof, for `digest` the bytes of `user:password`.
    pub auth: Option<Bytes>,
}

/// Without the proof.
impl std::fmt::Debug for AuthRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthRequest").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

impl AuthRequest {
    pub(crate) fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(AuthRequest { kind: input.int()?, scheme: input.string_or_empty()?, auth: input.buffer()? })
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_i32(self.kind);
        put_string(out, &self.scheme);
        put_buffer(out, self.auth.as_deref());
    }
}

/// One identity of a connection, as `whoAmI` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// The scheme.
    pub scheme: String,
    /// The user's name within it.
    pub user: String,
}

impl ClientInfo {
    /// Bytes of the smallest identity: two empty strings.
    const MIN_BYTES: usize = 8;

    pub(crate) fn decode_list(input: &mut Reader) -> Result<Vec<Self>, DecodeError> {
        let list = input.nullable_vec(Self::MIN_BYTES, |input| {
            Ok(ClientInfo { scheme: input.string_or_empty()?, user: input.string_or_empty()? })
        })?;
        Ok(list.unwrap_or_default())
    }

    pub(crate) fn encode_list(list: &[Self], out: &mut BytesMut) {
        put_vec(out, list, |out, info| {
            put_string(out, &info.scheme);
            put_string(out, &info.user);
        });
    }
}
