//! Numbers in blocks: a block is taken from a shared counter, and its numbers are given out here, without a server.

use std::ops::RangeInclusive;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::backoff::Backoff;
use crate::counter::Counter;
use crate::error::Error;
use crate::value::Outcome;

/// How many blocks in a row may be given up before it is an error.
const DOUBTS_MAX: u32 = 16;

/// Numbers that nobody else gets, taken in blocks from a shared counter. Cheap to clone; clones share a block.
///
/// A block is given out by one owner and to its end, or not at all: where the answer to the taking of a block is lost, the block
/// may be ours and is given up for the next. So numbers rise, and have gaps: what is given up, and what the owner has not used
/// when it goes, is given to nobody.
///
/// **Connected**, every `size`-th number costs a round trip or two, the others none. **Suspended**, numbers of the block go on
/// being given out: they are ours whatever becomes of the session. A new block waits, within the client's retry budget.
/// **Lost**, the same.
///
/// **Token:** none. The numbers of one owner rise; those of two owners say nothing about time.
///
/// **Dropped:** a future that is dropped may give up a block. The rest of a block goes with its last owner.
///
/// **Layout:** Curator's `CachedAtomicLong`: the counter holds the last number that was taken. A block of 100 taken at 0 is 1 to
/// 100, as the values *after* each addition; programs that count by Curator's values *before* must not share the counter. A
/// program that sets the counter back makes numbers be given out again: an owner that sees it refuses to go on.
///
/// **Cost:** a read and a write for each block, and again for each faster writer. No watch. With [`Counter::exactly_once`] a lost
/// answer costs no block.
///
/// ```no_run
/// # use docent_recipes::Recipes;
/// # async fn example(zk: docent::Client) -> Result<(), docent_recipes::Error> {
/// let ids = zk.counter("/ids/orders").in_blocks(100);
/// let id = ids.next().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "no number is taken before next()"]
pub struct IdBlocks {
    counter: Counter,
    size: u32,
    held: Arc<Mutex<Held>>,
}

impl IdBlocks {
    pub(crate) fn new(counter: Counter, size: u32) -> IdBlocks {
        IdBlocks { counter, size: size.max(1), held: Arc::default() }
    }

    /// The next number: of our block, or the first of a new one.
    ///
    /// # Errors
    /// [`Error::Encode`] when the counter is at its end, [`Error::Invalid`] when it holds no number or one that was set back,
    /// [`Error::Ambiguous`] when one block after the other had to be given up. Else as [`Counter::add`]. No number is given out
    /// twice after any of them.
    ///
    /// # Cancel safety
    /// No number is lost from the block that we have. A block that is on its way is given up.
    ///
    /// # Panics
    /// As [`Counter::add`].
    pub async fn next(&self) -> Result<i64, Error> {
        let mut held = self.held.lock().await;
        if let Some(number) = held.take() {
            return Ok(number);
        }
        let block = self.fetch(&mut held).await?;
        Ok(held.begin(&block))
    }

    /// A whole block, for one who gives out its numbers by itself. The block that we have is left as it is.
    ///
    /// # Errors
    /// As [`IdBlocks::next`].
    ///
    /// # Cancel safety
    /// A block that is on its way is given up.
    ///
    /// # Panics
    /// As [`Counter::add`].
    pub async fn next_block(&self) -> Result<RangeInclusive<i64>, Error> {
        let mut held = self.held.lock().await;
        self.fetch(&mut held).await
    }

    /// Takes a block that is ours beyond doubt.
    async fn fetch(&self, held: &mut Held) -> Result<RangeInclusive<i64>, Error> {
        let mut backoff = Backoff::reconnecting();
        for _ in 0..DOUBTS_MAX {
            match self.counter.add(self.size.into()).await {
                Ok(Outcome::Applied(last)) => return held.accept(last, self.size, self.counter.path()),
                // Perhaps it was taken, by us, and nobody will know.
                Ok(Outcome::Ambiguous) => {
                    tracing::debug!(
                        path = self.counter.path(),
                        size = self.size,
                        "a block of numbers is given up"
                    );
                }
                Err(Error::SessionEnded(_)) => {}
                Err(error) => return Err(error),
            }
            backoff.wait().await;
        }
        Err(Error::Ambiguous { op: "add", path: self.counter.path().to_owned() })
    }
}

/// What one owner has. Computes only.
#[derive(Debug, Default)]
struct Held {
    /// The next number and the last.
    block: Option<(i64, i64)>,
    /// The highest number that was ever taken here.
    highest: Option<i64>,
}

impl Held {
    /// The next number of the block, if one is left.
    fn take(&mut self) -> Option<i64> {
        let (next, last) = self.block.take()?;
        self.block = (next < last).then_some((next + 1, last));
        Some(next)
    }

    /// The first number of a block; the others come next.
    fn begin(&mut self, block: &RangeInclusive<i64>) -> i64 {
        let (first, last) = (*block.start(), *block.end());
        self.block = (first < last).then_some((first + 1, last));
        first
    }

    /// The block that ends with `last`, if it lies behind all that was taken before.
    fn accept(&mut self, last: i64, size: u32, path: &str) -> Result<RangeInclusive<i64>, Error> {
        let invalid = |reason: String| Error::Invalid { path: path.to_owned(), reason: reason.into() };
        let first = last
            .checked_sub(i64::from(size) - 1)
            .ok_or_else(|| invalid(format!("no {size} numbers end with {last}")))?;
        if let Some(highest) = self.highest.filter(|highest| first <= *highest) {
            return Err(invalid(format!(
                "{highest} was taken before, and now it gives {first}: it was set back"
            )));
        }
        self.highest = Some(last);
        Ok(first..=last)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_counter_that_was_set_back_gives_nothing() {
        let mut held = Held::default();
        assert_eq!(held.accept(100, 100, "/n").ok(), Some(1..=100));
        assert_eq!(held.accept(300, 100, "/n").ok(), Some(201..=300));
        for back in [300, 399, 100, 0, -5] {
            let refused = held.accept(back, 100, "/n").expect_err("some of it was taken before");
            assert!(matches!(&refused, Error::Invalid { path, .. } if path == "/n"), "{refused}");
        }
        assert_eq!(held.accept(400, 100, "/n").ok(), Some(301..=400));
        assert!(held.accept(i64::MIN, 2, "/n").is_err());
    }

    proptest! {
        /// Owners take blocks from one counter, some of which they never hear of: no number comes twice.
        #[test]
        fn no_number_is_given_out_twice(
            steps in proptest::collection::vec((0_usize..4, any::<bool>()), 1..200),
            size in 1_u32..7,
            seed in -20_i64..20,
        ) {
            let mut owners: [Held; 4] = Default::default();
            let (mut counter, mut given) = (seed, BTreeSet::new());
            for (owner, is_lost) in steps {
                let number = match owners[owner].take() {
                    Some(number) => number,
                    None => {
                        counter += i64::from(size);
                        if is_lost {
                            continue;
                        }
                        let block = owners[owner].accept(counter, size, "/n").expect("it only rises");
                        owners[owner].begin(&block)
                    }
                };
                prop_assert!(given.insert(number), "{number} twice");
                prop_assert!(number > seed && number <= counter);
            }
        }
    }
}
