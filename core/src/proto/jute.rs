//! The encoding of primitive values: big-endian numbers, length-prefixed strings and buffers.
//!
//! Decoding never panics and never allocates by a length that the input merely claims: a length is compared
//! with the bytes that are left before anything is reserved. A length of −1 means null, which is a value of its
//! own; any other negative length is an error.

use bytes::{BufMut, Bytes, BytesMut};

/// Why bytes are not the value that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input ends within a value.
    #[error("input ends after {have} bytes where {need} more are needed")]
    Truncated {
        /// Bytes that the value needs.
        need: usize,
        /// Bytes that are left.
        have: usize,
    },
    /// A negative length other than −1.
    #[error("negative length {0}")]
    NegativeLength(i32),
    /// Null where a value is needed.
    #[error("null {0} where a value is needed")]
    Null(&'static str),
    /// A number outside the values that have a meaning.
    #[error("{value} is not a {what}")]
    BadValue {
        /// What was expected.
        what: &'static str,
        /// The number that came.
        value: i64,
    },
}

/// What is left of an encoded record.
#[derive(Clone, Debug)]
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Reader { rest: bytes }
    }

    /// The bytes that are not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Everything that is not read yet.
    #[must_use]
    pub fn into_rest(self) -> Bytes {
        self.rest
    }

    fn take(&mut self, need: usize) -> Result<Bytes, DecodeError> {
        let have = self.rest.len();
        if need > have {
            return Err(DecodeError::Truncated { need, have });
        }
        Ok(self.rest.split_to(need))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let have = self.rest.len();
        let Some(value) = self.rest.first_chunk::<N>().copied() else {
            return Err(DecodeError::Truncated { need: N, have });
        };
        bytes::Buf::advance(&mut self.rest, N);
        Ok(value)
    }

    /// One byte.
    ///
    /// # Errors
    /// The input has ended.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// A boolean: any byte but zero is true.
    ///
    /// # Errors
    /// The input has ended.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.byte()? != 0)
    }

    /// A 32-bit number.
    ///
    /// # Errors
    /// The input ends before four bytes.
    pub fn int(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    /// A 64-bit number.
    ///
    /// # Errors
    /// The input ends before eight bytes.
    pub fn long(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    fn length(&mut self) -> Result<Option<usize>, DecodeError> {
        match self.int()? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| DecodeError::NegativeLength(length)),
        }
    }

    /// A buffer or null. Shares the input's memory.
    ///
    /// # Errors
    /// The length is negative or longer than the input.
    pub fn buffer(&mut self) -> Result<Option<Bytes>, DecodeError> {
        match self.length()? {
            Some(length) => self.take(length).map(Some),
            None => Ok(None),
        }
    }

    /// A string or null. Bytes that are not UTF-8 (Java writes characters above U+FFFF as two surrogates)
    /// become U+FFFD, as many as in Java.
    ///
    /// # Errors
    /// The length is negative or longer than the input.
    pub fn nullable_string(&mut self) -> Result<Option<String>, DecodeError> {
        let Some(bytes) = self.buffer()? else { return Ok(None) };
        Ok(Some(match std::str::from_utf8(&bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => decode_as_java(&bytes),
        }))
    }

    /// A string; null is an error.
    ///
    /// # Errors
    /// Null, or a length that is negative or longer than the input.
    pub fn string(&mut self) -> Result<String, DecodeError> {
        self.nullable_string()?.ok_or(DecodeError::Null("string"))
    }

    /// A string; null is the empty string, which is how kazoo writes it.
    ///
    /// # Errors
    /// A length that is negative or longer than the input.
    pub fn string_or_empty(&mut self) -> Result<String, DecodeError> {
        Ok(self.nullable_string()?.unwrap_or_default())
    }

    /// A list or null. `min_bytes` is the least that one element takes: it bounds what is reserved.
    ///
    /// # Errors
    /// The count is negative or more than the input can hold, or an element's error.
    pub fn nullable_vec<T>(
        &mut self,
        min_bytes: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.length()? else { return Ok(None) };
        let need = count.saturating_mul(min_bytes.max(1));
        if need > self.remaining() {
            return Err(DecodeError::Truncated { need, have: self.remaining() });
        }
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(element(self)?);
        }
        Ok(Some(list))
    }

    /// A list; null is an error.
    ///
    /// # Errors
    /// As [`Reader::nullable_vec`], and for null.
    pub fn vec<T>(
        &mut self,
        min_bytes: usize,
        element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.nullable_vec(min_bytes, element)?.ok_or(DecodeError::Null("vector"))
    }
}

/// Text with bytes in it that are not UTF-8. Java takes a surrogate, three bytes, for one character that is wrong; the rest
/// is the common practice.
fn decode_as_java(mut rest: &[u8]) -> String {
    let mut text = String::new();
    loop {
        let error = match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                return text;
            }
            Err(error) => error,
        };
        let (valid, wrong) = rest.split_at(error.valid_up_to());
        text.push_str(&String::from_utf8_lossy(valid));
        text.push(char::REPLACEMENT_CHARACTER);
        let length = match wrong {
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..] => 3,
            _ => error.error_len().unwrap_or(wrong.len()),
        };
        rest = &wrong[length..];
    }
}

/// A record that can be read from bytes.
pub trait Decode: Sized {
    /// Reads one record and leaves what follows it.
    ///
    /// # Errors
    /// The bytes are not such a record.
    fn decode(input: &mut Reader) -> Result<Self, DecodeError>;
}

/// A record that can be written as bytes.
pub trait Encode {
    /// Appends the record to `out`.
    fn encode(&self, out: &mut BytesMut);

    /// The record alone.
    fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }
}

/// A length or count as the wire has it. Everything we send was bounded far below 2 GiB when it came in.
fn wire_length(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

/// Appends a boolean.
pub fn put_bool(out: &mut BytesMut, value: bool) {
    out.put_u8(u8::from(value));
}

/// Appends a buffer or null.
pub fn put_buffer(out: &mut BytesMut, value: Option<&[u8]>) {
    match value {
        None => out.put_i32(-1),
        Some(bytes) => {
            out.put_i32(wire_length(bytes.len()));
            out.put_slice(bytes);
        }
    }
}

/// Appends a string.
pub fn put_string(out: &mut BytesMut, value: &str) {
    put_buffer(out, Some(value.as_bytes()));
}

/// Appends the count of a list; its elements follow.
pub fn put_count(out: &mut BytesMut, count: usize) {
    out.put_i32(wire_length(count));
}

/// Appends a list.
pub fn put_vec<T>(out: &mut BytesMut, list: &[T], mut element: impl FnMut(&mut BytesMut, &T)) {
    put_count(out, list.len());
    for item in list {
        element(out, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &'static [u8]) -> Reader {
        Reader::new(Bytes::from_static(bytes))
    }

    #[test]
    fn null_and_empty_are_different() {
        assert_eq!(reader(&[255, 255, 255, 255]).buffer(), Ok(None));
        assert_eq!(reader(&[0, 0, 0, 0]).buffer(), Ok(Some(Bytes::new())));
        assert_eq!(reader(&[255, 255, 255, 255]).string(), Err(DecodeError::Null("string")));
    }

    #[test]
    fn a_claimed_length_reserves_nothing() {
        assert_eq!(
            reader(&[127, 255, 255, 255, 1]).buffer().map_err(|e| e.to_string()).unwrap_err(),
            "input ends after 1 bytes where 2147483647 more are needed"
        );
        assert!(reader(&[127, 255, 255, 255, 1]).vec(4, Reader::int).is_err());
        assert_eq!(reader(&[255, 255, 255, 249]).string(), Err(DecodeError::NegativeLength(-7)));
    }

    #[test]
    fn surrogates_decode_as_java_decodes_them() {
        let text = |bytes: &[u8]| {
            let bytes = [&(bytes.len() as i32).to_be_bytes(), bytes].concat();
            Reader::new(bytes.into()).string().unwrap()
        };
        assert_eq!(text(b"/\xed\xa0\xbd\xed\xb8\x80"), "/\u{fffd}\u{fffd}");
        assert_eq!(text(b"a\xffb\xc0\x80c"), "a\u{fffd}b\u{fffd}\u{fffd}c");
        assert_eq!(text(b"\xed\xa0"), "\u{fffd}\u{fffd}");
    }
}
