//! Counters: shared values that are numbers.

use bytes::Bytes;
use docent::Client;

use crate::codec::{BoxError, Decode, Encode};
use crate::error::Error;
use crate::id_blocks::IdBlocks;
use crate::value::{Outcome, SharedValue};

/// How a counter is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CounterLayout {
    /// Eight bytes, the highest first: Curator's `DistributedAtomicLong`.
    #[default]
    Long,
    /// Four bytes, the highest first: Curator's `SharedCount` and `DistributedAtomicInteger`, kazoo's `Counter` with
    /// `support_curator=True`.
    Integer,
    /// Decimal text: kazoo's `Counter` with whole numbers.
    Text,
}

impl Decode<i64> for CounterLayout {
    /// Nothing at all is 0, as for Curator and kazoo.
    fn decode(&self, bytes: &[u8]) -> Result<i64, BoxError> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let wrong = |wanted: usize| format!("{} bytes instead of {wanted}", bytes.len());
        match self {
            CounterLayout::Long => Ok(i64::from_be_bytes(bytes.try_into().map_err(|_| wrong(8))?)),
            CounterLayout::Integer => Ok(i32::from_be_bytes(bytes.try_into().map_err(|_| wrong(4))?).into()),
            CounterLayout::Text => Ok(std::str::from_utf8(bytes)?.trim().parse()?),
        }
    }
}

impl Encode<i64> for CounterLayout {
    fn encode(&self, value: &i64) -> Result<Bytes, BoxError> {
        Ok(match self {
            CounterLayout::Long => Bytes::copy_from_slice(&value.to_be_bytes()),
            CounterLayout::Integer => Bytes::copy_from_slice(&i32::try_from(*value)?.to_be_bytes()),
            CounterLayout::Text => value.to_string().into(),
        })
    }
}

/// A number that any program may change. It begins at 0, or at its seed. Cheap to clone.
///
/// What may be relied on while connected, suspended and lost, what happens to dropped futures, and what it costs, is as for
/// [`SharedValue`]: one `add` is applied once or not at all, and says so, or that it does not know. There is no token.
///
/// **Layout:** [`CounterLayout`]. Programs of different layouts must not share a path. Curator's and kazoo's counters share
/// ours, but add twice when a reply of theirs is lost.
#[derive(Clone, Debug)]
#[must_use = "a counter does nothing before it is read or changed"]
pub struct Counter {
    value: SharedValue<i64, CounterLayout>,
}

impl Counter {
    pub(crate) fn new(client: Client, path: String, layout: CounterLayout) -> Counter {
        Counter { value: SharedValue::new(client, path).recoded(layout, 0) }
    }

    /// How it is written down. Said before the seed. Default: [`CounterLayout::Long`], of a shared count
    /// [`CounterLayout::Integer`].
    pub fn layout(self, layout: CounterLayout) -> Counter {
        Counter { value: self.value.recoded(layout, 0) }
    }

    /// What it begins with when the node is not there. Default: 0.
    pub fn seed(self, seed: i64) -> Counter {
        Counter { value: self.value.seed(seed) }
    }

    /// Clears up lost replies; see [`SharedValue::exactly_once`].
    pub fn exactly_once(self) -> Counter {
        Counter { value: self.value.exactly_once() }
    }

    /// Numbers that nobody else gets, taken in blocks of `size` and given out without a server; `size` is at least 1.
    pub fn in_blocks(self, size: u32) -> IdBlocks {
        IdBlocks::new(self, size)
    }

    pub(crate) fn path(&self) -> &str {
        self.value.path()
    }

    /// The number now.
    ///
    /// # Errors
    /// As [`SharedValue::get`].
    ///
    /// # Cancel safety
    /// The node may be made with the seed when the future is dropped.
    pub async fn get(&self) -> Result<i64, Error> {
        Ok(self.value.get().await?.value)
    }

    /// Waits for a number that is wanted; see [`SharedValue::wait_for`].
    ///
    /// # Errors
    /// As [`SharedValue::wait_for`].
    ///
    /// # Cancel safety
    /// As [`SharedValue::wait_for`].
    pub async fn wait_for(&self, mut wanted: impl FnMut(i64) -> bool + Send) -> Result<i64, Error> {
        Ok(self.value.wait_for(|number| wanted(*number)).await?.value)
    }

    /// Replaces the number, whatever it is.
    ///
    /// # Errors
    /// As [`SharedValue::set`]. Nothing was written.
    ///
    /// # Cancel safety
    /// It may be written when the future is dropped.
    ///
    /// # Panics
    /// As [`SharedValue::set`].
    pub async fn set(&self, number: i64) -> Result<Outcome<i64>, Error> {
        self.value.set(number).await
    }

    /// Adds, and tells the sum. A negative number is taken away.
    ///
    /// # Errors
    /// [`Error::Encode`] when the sum is no number of the layout: it does not wrap. Else as [`SharedValue::update`]. Nothing
    /// was written.
    ///
    /// # Cancel safety
    /// It may be added when the future is dropped.
    ///
    /// # Panics
    /// As [`SharedValue::update`].
    pub async fn add(&self, number: i64) -> Result<Outcome<i64>, Error> {
        let too_large = || Error::Encode("the sum is out of range".into());
        self.value.try_update(|before| before.checked_add(number).ok_or_else(too_large)).await
    }

    /// Replaces the number by one made from it; see [`SharedValue::update`].
    ///
    /// # Errors
    /// As [`SharedValue::update`]. Nothing was written.
    ///
    /// # Cancel safety
    /// It may be written when the future is dropped.
    ///
    /// # Panics
    /// As [`SharedValue::update`].
    pub async fn update(&self, mut change: impl FnMut(i64) -> i64 + Send) -> Result<Outcome<i64>, Error> {
        self.value.update(|before| change(*before)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stored_as_curator_and_kazoo_store_them() {
        let bytes = |layout: CounterLayout, value: i64| layout.encode(&value).expect("in range").to_vec();
        assert_eq!(bytes(CounterLayout::Long, 258), [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(bytes(CounterLayout::Integer, -2), [255, 255, 255, 254]);
        assert_eq!(bytes(CounterLayout::Text, -12), b"-12");
        for layout in [CounterLayout::Long, CounterLayout::Integer, CounterLayout::Text] {
            assert_eq!(layout.decode(b"").ok(), Some(0));
            assert_eq!(layout.decode(&bytes(layout, -7)).ok(), Some(-7));
            assert!(layout.decode(b"seven").is_err());
        }
        assert!(CounterLayout::Integer.encode(&i64::from(i32::MAX)).is_ok());
        assert!(CounterLayout::Integer.encode(&(i64::from(i32::MAX) + 1)).is_err());
    }
}
