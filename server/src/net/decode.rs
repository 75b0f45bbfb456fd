//! Frames to requests: decoded once, where they arrive.

use bytes::Bytes;
use docent::proto::{Decode, DecodeError, OpCode, Reader, Request, RequestHeader};

use crate::node::Body;

/// The header and record of a frame; `None` when there is not even a header: such a connection is of no use.
pub(super) fn decode_request(frame: Bytes) -> Option<(RequestHeader, Body)> {
    let mut input = Reader::new(frame);
    let header = RequestHeader::decode(&mut input).ok()?;
    let Some(op) = OpCode::from_code(header.op) else { return Some((header, Body::Unknown)) };
    let body = match Request::decode(op, &mut input) {
        Ok(Some(request)) => Body::Request(request),
        Ok(None) => Body::Unknown,
        Err(error) => Body::Malformed { write: op.is_write() && takes_a_number(op, &error) },
    };
    Some((header, body))
}

/// Apache from 3.9 on reads the record of a write before it gives out a number, but for a multi, and takes null for a
/// value until it looks at it.
fn takes_a_number(op: OpCode, error: &DecodeError) -> bool {
    op == OpCode::Multi || matches!(error, DecodeError::Null(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_cut_takes_no_number_unless_it_is_a_multi() {
        let body = |op: OpCode, record: &[u8]| {
            let frame = [&[0, 0, 0, 1][..], &op.code().to_be_bytes(), record].concat();
            decode_request(frame.into()).unwrap().1
        };
        let takes = |body| matches!(body, Body::Malformed { write: true });
        assert!(!takes(body(OpCode::Delete, &[0, 0, 0, 9, b'/'])));
        assert!(!takes(body(OpCode::Exists, &[255, 255, 255, 255, 0])));
        assert!(takes(body(OpCode::Delete, &[255, 255, 255, 255, 255, 255, 255, 255])));
        assert!(takes(body(OpCode::Multi, &[0, 0, 0, 2])));
    }
}
