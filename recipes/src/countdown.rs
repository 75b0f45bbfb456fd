//! Countdown latches: everybody waits until so many have said that they are done.

use std::time::Duration;

use crate::counter::Counter;
use crate::error::Error;
use crate::value::Outcome;

/// A number that is counted down to 0, once; those who wait go on then. Cheap to clone; nothing is sent before one of its
/// verbs.
///
/// **Connected**, who waits goes on when 0 is reached, and not before. **Suspended**, waiting goes on, and what was counted
/// meanwhile is seen afterwards. **Lost**, waiting goes on in the next session. The number belongs to no session: what a
/// program has counted stays counted when it dies.
///
/// **Token:** none, since nothing is held.
///
/// **Dropped:** a wait that is dropped takes its watch along. A count may be made when its future is dropped, once.
///
/// **Layout:** a shared count, as Curator's `SharedCount` keeps it; neither Curator nor kazoo has the recipe. A latch is used
/// once: the next one takes another path.
///
/// **Cost:** a count is a read and a write, exactly once as [`crate::SharedValue::exactly_once`] says. Everybody who waits
/// keeps a watch and reads once for each count.
#[derive(Clone, Debug)]
#[must_use = "a latch does nothing before it is counted down or waited for"]
pub struct CountdownLatch {
    counter: Counter,
}

impl CountdownLatch {
    pub(crate) fn new(counter: Counter, count: u32) -> CountdownLatch {
        CountdownLatch { counter: counter.seed(count.into()).exactly_once() }
    }

    /// Counts one down, and tells what is left; of nothing it leaves nothing.
    ///
    /// # Errors
    /// As [`Counter::add`]. Nothing was counted.
    ///
    /// # Cancel safety
    /// It may be counted when the future is dropped.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn count_down(&self) -> Result<Outcome<u32>, Error> {
        Ok(match self.counter.update(|left| left.saturating_sub(1).max(0)).await? {
            Outcome::Applied(left) => Outcome::Applied(at_least_none(left)),
            Outcome::Ambiguous => Outcome::Ambiguous,
        })
    }

    /// How many are still to come.
    ///
    /// # Errors
    /// As [`Counter::get`].
    ///
    /// # Cancel safety
    /// The node may be made when the future is dropped.
    pub async fn remaining(&self) -> Result<u32, Error> {
        Ok(at_least_none(self.counter.get().await?))
    }

    /// Waits until none is left to come.
    ///
    /// # Errors
    /// As [`Counter::wait_for`].
    ///
    /// # Cancel safety
    /// Safe: it is a state.
    pub async fn wait(&self) -> Result<(), Error> {
        self.counter.wait_for(|left| left <= 0).await.map(drop)
    }

    /// Waits until none is left to come, but not longer than `limit`.
    ///
    /// # Errors
    /// [`Error::Timeout`]. Else as [`CountdownLatch::wait`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait_within(&self, limit: Duration) -> Result<(), Error> {
        tokio::time::timeout(limit, self.wait()).await.unwrap_or(Err(Error::Timeout(limit)))
    }
}

fn at_least_none(left: i64) -> u32 {
    u32::try_from(left.max(0)).unwrap_or(u32::MAX)
}
