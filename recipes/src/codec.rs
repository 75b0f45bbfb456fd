//! How values are written as bytes of a node.

use std::error::Error as StdError;
use std::fmt::Display;
use std::str::FromStr;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Any error, as decoders report it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Reads a value from a node's bytes.
pub trait Decode<T>: Send + Sync + 'static {
    /// Reads a value.
    ///
    /// # Errors
    /// Why the bytes are not a value. The text is shown to people; it should not repeat the bytes.
    fn decode(&self, bytes: &[u8]) -> Result<T, BoxError>;
}

/// Writes a value as a node's bytes.
pub trait Encode<T>: Send + Sync + 'static {
    /// Writes a value.
    ///
    /// # Errors
    /// Why the value has no bytes.
    fn encode(&self, value: &T) -> Result<Bytes, BoxError>;
}

/// JSON, through serde.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json;

impl<T: DeserializeOwned> Decode<T> for Json {
    fn decode(&self, bytes: &[u8]) -> Result<T, BoxError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

impl<T: Serialize> Encode<T> for Json {
    fn encode(&self, value: &T) -> Result<Bytes, BoxError> {
        Ok(serde_json::to_vec(value)?.into())
    }
}

/// UTF-8 text in the form of `FromStr` and `Display`: strings, numbers, addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Text;

impl<T> Decode<T> for Text
where
    T: FromStr,
    T::Err: Into<BoxError>,
{
    fn decode(&self, bytes: &[u8]) -> Result<T, BoxError> {
        std::str::from_utf8(bytes)?.parse().map_err(Into::into)
    }
}

impl<T: Display> Encode<T> for Text {
    fn encode(&self, value: &T) -> Result<Bytes, BoxError> {
        Ok(value.to_string().into())
    }
}

/// The bytes as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Raw;

impl Decode<Bytes> for Raw {
    fn decode(&self, bytes: &[u8]) -> Result<Bytes, BoxError> {
        Ok(Bytes::copy_from_slice(bytes))
    }
}

impl Encode<Bytes> for Raw {
    fn encode(&self, value: &Bytes) -> Result<Bytes, BoxError> {
        Ok(value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_reads_what_it_writes() {
        let json = Encode::<Vec<u32>>::encode(&Json, &vec![1, 2]).expect("numbers");
        assert_eq!(&json[..], b"[1,2]");
        assert_eq!(Decode::<Vec<u32>>::decode(&Json, &json).expect("what was written"), [1, 2]);
        let text = Encode::<u16>::encode(&Text, &7).expect("a number");
        assert_eq!(Decode::<u16>::decode(&Text, &text).expect("what was written"), 7);
        assert!(Decode::<u16>::decode(&Text, b"x").is_err());
        assert!(Decode::<String>::decode(&Text, b"\xff").is_err());
        assert_eq!(Raw.decode(b"\xff").expect("any bytes"), &b"\xff"[..]);
    }
}
