//! The first frame each way: a session is asked for, or taken up again.

use bytes::{BufMut, BytesMut};

use super::jute::{Decode, DecodeError, Encode, Reader, put_bool, put_buffer};
use crate::{SessionId, Zxid};

/// Bytes of a session password. The C client reads exactly so many.
pub const PASSWORD_LENGTH: usize = 16;

/// The password that belongs to a session id: a checksum that every server of an ensemble computes alike, not a
/// secret. It is the first 16 bytes of Java's `Random` seeded with the id and Apache's constant.
#[must_use]
pub fn session_password(session: SessionId) -> [u8; PASSWORD_LENGTH] {
    const SALT: i64 = 0xB341_5C00;
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;
    let mut state = ((session.0 ^ SALT) as u64 ^ MULTIPLIER) & MASK;
    let mut password = [0; PASSWORD_LENGTH];
    for word in password.chunks_exact_mut(4) {
        state = state.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
        word.copy_from_slice(&((state >> 16) as u32).to_le_bytes());
    }
    password
}

/// What a client sends first.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// 0; servers ignore it.
    pub protocol_version: i32,
    /// The highest zxid that the client has seen in replies. A server that is behind refuses.
    pub last_zxid_seen: Zxid,
    /// The session timeout asked for, milliseconds.
    pub timeout_ms: i32,
    /// The session to take up again, or [`SessionId::NONE`].
    pub session: SessionId,
    /// The password of that session; null and any length are legal for a new one.
    pub password: Option<Vec<u8>>,
    /// Whether a read-only server will do; `None` when the client is too old to say.
    pub read_only: Option<bool>,
}

/// Without the password.
impl std::fmt::Debug for ConnectRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectRequest")
            .field("last_zxid_seen", &self.last_zxid_seen)
            .field("timeout_ms", &self.timeout_ms)
            .field("session", &self.session)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

impl Encode for ConnectRequest {
    fn encode(&self, out: &mut BytesMut) {
        out.put_i32(self.protocol_version);
        out.put_i64(self.last_zxid_seen.0);
        out.put_i32(self.timeout_ms);
        out.put_i64(self.session.0);
        put_buffer(out, self.password.as_deref());
        if let Some(read_only) = self.read_only {
            put_bool(out, read_only);
        }
    }
}

impl Decode for ConnectRequest {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(ConnectRequest {
            protocol_version: input.int()?,
            last_zxid_seen: Zxid(input.long()?),
            timeout_ms: input.int()?,
            session: SessionId(input.long()?),
            password: input.buffer()?.map(|bytes| bytes.to_vec()),
            read_only: if input.remaining() > 0 { Some(input.bool()?) } else { None },
        })
    }
}

/// What a server answers. Timeout 0 *and* session 0 say that the session is not valid: clients look at either.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectResponse {
    /// 0.
    pub protocol_version: i32,
    /// The timeout that is in force, milliseconds; 0 when the session is not valid.
    pub timeout_ms: i32,
    /// The session; [`SessionId::NONE`] when it is not valid.
    pub session: SessionId,
    /// The session's password.
    pub password: [u8; PASSWORD_LENGTH],
    /// Whether the server is read-only; present exactly when the request had the field.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// The answer to a session that is unknown, has ended, or was asked for with a wrong password.
    #[must_use]
    pub fn not_valid(read_only: Option<bool>) -> Self {
        ConnectResponse {
            protocol_version: 0,
            timeout_ms: 0,
            session: SessionId::NONE,
            password: [0; PASSWORD_LENGTH],
            read_only,
        }
    }
}

/// Without the password.
impl std::fmt::Debug for ConnectResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectResponse")
            .field("timeout_ms", &self.timeout_ms)
            .field("session", &self.session)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

impl Encode for ConnectResponse {
    fn encode(&self, out: &mut BytesMut) {
        out.put_i32(self.protocol_version);
        out.put_i32(self.timeout_ms);
        out.put_i64(self.session.0);
        put_buffer(out, Some(&self.password));
        if let Some(read_only) = self.read_only {
            put_bool(out, read_only);
        }
    }
}

impl Decode for ConnectResponse {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let protocol_version = input.int()?;
        let timeout_ms = input.int()?;
        let session = SessionId(input.long()?);
        let bytes = input.buffer()?.ok_or(DecodeError::Null("password"))?;
        let password = <[u8; PASSWORD_LENGTH]>::try_from(&*bytes)
            .map_err(|_| DecodeError::BadValue { what: "password length", value: bytes.len() as i64 })?;
        let read_only = if input.remaining() > 0 { Some(input.bool()?) } else { None };
        Ok(ConnectResponse { protocol_version, timeout_ms, session, password, read_only })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_those_of_apache() {
        let hex: String =
            session_password(SessionId(0x0100_0009_a0ef_0000)).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "63bb2c41b4ec3f56794cd21d1d8e6da6");
    }
}
