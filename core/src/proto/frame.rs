//! Frames: every message is an `int32` length and that many bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The largest frame that Apache takes by default (`jute.maxbuffer`), bytes.
pub const DEFAULT_MAX_FRAME: usize = 0xf_ffff;

/// Why the stream cannot be cut into frames. The connection is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame length {length} is outside 0..={max}")]
pub struct FrameError {
    /// The length that was claimed.
    pub length: i32,
    /// The most that is taken.
    pub max: usize,
}

/// Takes the next whole frame off the front of `input`; `None` when more bytes are needed.
///
/// # Errors
/// The claimed length is negative or above `max`.
pub fn next_frame(input: &mut BytesMut, max: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(head) = input.first_chunk::<4>() else { return Ok(None) };
    let claimed = i32::from_be_bytes(*head);
    let length = match usize::try_from(claimed) {
        Ok(length) if length <= max => length,
        _ => return Err(FrameError { length: claimed, max }),
    };
    if input.len() - 4 < length {
        return Ok(None);
    }
    input.advance(4);
    Ok(Some(input.split_to(length).freeze()))
}

/// Appends one frame whose content `body` writes.
pub fn put_frame(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_i32(0);
    body(out);
    let length = i32::try_from(out.len() - start - 4).unwrap_or(i32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_and_in_order() {
        let mut stream = BytesMut::new();
        put_frame(&mut stream, |out| out.put_slice(b"one"));
        put_frame(&mut stream, |_| {});
        let whole = stream.clone();
        for cut in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..cut]);
            let first = next_frame(&mut part, 10).unwrap();
            assert_eq!(first.is_some(), cut >= 7, "{cut}");
        }
        assert_eq!(next_frame(&mut stream, 10).unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!(next_frame(&mut stream, 10).unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(next_frame(&mut stream, 10), Ok(None));
    }

    #[test]
    fn lengths_outside_the_bound_are_refused_before_the_body_comes() {
        for length in [-1_i32, 11, i32::MAX, i32::MIN] {
            let mut input = BytesMut::from(&length.to_be_bytes()[..]);
            assert_eq!(next_frame(&mut input, 10), Err(FrameError { length, max: 10 }));
        }
    }
}
