//! The headers of requests and replies.

use bytes::{BufMut, BytesMut};

use super::jute::{Decode, DecodeError, Encode, Reader};
use crate::{ErrorCode, Xid, Zxid};

/// What stands before every request record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The client's number for the request; the reply carries it back.
    pub xid: Xid,
    /// The operation's number, known or not.
    pub op: i32,
}

impl Encode for RequestHeader {
    fn encode(&self, out: &mut BytesMut) {
        out.put_i32(self.xid.0);
        out.put_i32(self.op);
    }
}

impl Decode for RequestHeader {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(RequestHeader { xid: Xid(input.int()?), op: input.int()? })
    }
}

/// What stands before every reply record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHeader {
    /// The request's xid, or [`Xid::EVENT`].
    pub xid: Xid,
    /// For a write its transaction, for a read the last one that the server has applied.
    pub zxid: Zxid,
    /// [`ErrorCode::OK`], or why there is no record behind the header.
    pub error: ErrorCode,
}

impl Encode for ReplyHeader {
    fn encode(&self, out: &mut BytesMut) {
        out.put_i32(self.xid.0);
        out.put_i64(self.zxid.0);
        out.put_i32(self.error.0);
    }
}

impl Decode for ReplyHeader {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(ReplyHeader { xid: Xid(input.int()?), zxid: Zxid(input.long()?), error: ErrorCode(input.int()?) })
    }
}
