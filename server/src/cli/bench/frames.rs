//! PURE. Requests as ready-made bytes into which only the numbers are written, and replies read in place.
//!
//! The load generator shares the machine with the server that it measures. Encoding a record per request would cost
//! more than sending it, so a [`Template`] is encoded once by the client's own codec and copied from then on.

use bytes::BytesMut;
use docent::proto::frame::put_frame;
use docent::proto::{Encode as _, Request, RequestHeader};
use docent::{ErrorCode, Xid};

/// Where the xid stands in a frame: behind the length.
const XID: std::ops::Range<usize> = 4..8;
/// Bytes of a reply header.
const REPLY_HEADER: usize = 16;

/// One request as bytes.
#[derive(Clone)]
pub(crate) struct Template {
    frame: Vec<u8>,
    /// Where a counter stands in decimal digits, if the path has one.
    counter: Option<std::ops::Range<usize>>,
}

/// Stands in a path where the counter goes. Ten digits, as in the names of sequential nodes.
pub(crate) const COUNTER: &str = "##########";

impl Template {
    /// The bytes of a request. If its path holds [`COUNTER`], that is replaced at each use.
    pub(crate) fn new(request: &Request) -> Template {
        let mut frame = BytesMut::new();
        put_frame(&mut frame, |out| {
            RequestHeader { xid: Xid(0), op: request.op().code() }.encode(out);
            request.encode(out);
        });
        let counter = frame.windows(COUNTER.len()).position(|window| window == COUNTER.as_bytes());
        Template { counter: counter.map(|at| at..at + COUNTER.len()), frame: frame.to_vec() }
    }

    /// Appends the request.
    pub(crate) fn put(&self, out: &mut Vec<u8>, xid: i32, counter: u64) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        let frame = &mut out[start..];
        frame[XID].copy_from_slice(&xid.to_be_bytes());
        if let Some(digits) = &self.counter {
            put_digits(&mut frame[digits.clone()], counter);
        }
    }
}

/// Writes a number with leading zeros.
fn put_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// A reply, borrowed from the buffer it was read into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawReply<'a> {
    /// The xid of the request, or that of an event or ping.
    pub(crate) xid: Xid,
    /// The outcome.
    pub(crate) error: ErrorCode,
    /// What stands behind the header.
    pub(crate) body: &'a [u8],
}

/// Why the bytes of a connection are not replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent a frame of {0} bytes, which is no reply")]
pub(crate) struct BadFrame(i32);

fn number(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..)?.first_chunk::<4>().map(|chunk| i32::from_be_bytes(*chunk))
}

/// The reply at the front of `input` and the bytes it takes; `None` when more bytes are needed.
///
/// # Errors
/// The length is below that of a reply header.
pub(crate) fn next_reply(input: &[u8]) -> Result<Option<(RawReply<'_>, usize)>, BadFrame> {
    let Some(claimed) = number(input, 0) else { return Ok(None) };
    let length =
        usize::try_from(claimed).ok().filter(|length| *length >= REPLY_HEADER).ok_or(BadFrame(claimed))?;
    let Some(frame) = input.get(4..4 + length) else { return Ok(None) };
    let (Some(xid), Some(error)) = (number(frame, 0), number(frame, 12)) else {
        return Err(BadFrame(claimed));
    };
    let reply = RawReply { xid: Xid(xid), error: ErrorCode(error), body: &frame[REPLY_HEADER..] };
    Ok(Some((reply, 4 + length)))
}

impl RawReply<'_> {
    /// The length of the data at the start of a `getData` body; `None` for null or a body that is too short.
    pub(crate) fn data_length(&self) -> Option<usize> {
        usize::try_from(number(self.body, 0)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use docent::Version;
    use docent::proto::{Decode as _, OpCode, Reader};

    #[test]
    fn a_template_is_the_request_with_other_numbers() {
        let template =
            Template::new(&Request::Delete { path: format!("/b/n{COUNTER}"), version: Version::ANY });
        let mut out = b"before".to_vec();
        template.put(&mut out, 77, 1234);
        let mut reader = Reader::new(bytes::Bytes::copy_from_slice(&out[10..]));
        let header = RequestHeader::decode(&mut reader).unwrap();
        assert_eq!(header, RequestHeader { xid: Xid(77), op: OpCode::Delete.code() });
        let request = Request::decode(OpCode::Delete, &mut reader).unwrap();
        assert_eq!(request, Some(Request::Delete { path: "/b/n0000001234".into(), version: Version::ANY }));
    }

    #[test]
    fn replies_are_cut_at_their_lengths() {
        let mut input = Vec::new();
        for (xid, body) in [(1_i32, &[][..]), (2, &[0, 0, 0, 9][..])] {
            input.extend_from_slice(&(16 + body.len() as i32).to_be_bytes());
            input.extend_from_slice(&xid.to_be_bytes());
            input.extend_from_slice(&5_i64.to_be_bytes());
            input.extend_from_slice(&(-101_i32).to_be_bytes());
            input.extend_from_slice(body);
        }
        for cut in 0..20 {
            assert_eq!(next_reply(&input[..cut]), Ok(None), "{cut}");
        }
        let (first, taken) = next_reply(&input).unwrap().unwrap();
        assert_eq!((first.xid, first.error, taken), (Xid(1), ErrorCode::NO_NODE, 20));
        let (second, taken) = next_reply(&input[20..]).unwrap().unwrap();
        assert_eq!((second.xid, second.data_length(), taken), (Xid(2), Some(9), 24));
        assert_eq!(next_reply(&[0, 0, 0, 15, 1]), Err(BadFrame(15)));
        assert_eq!(next_reply(&[255, 255, 255, 255]), Err(BadFrame(-1)));
    }
}
