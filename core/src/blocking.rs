//! For programs without a runtime: every future of the client and of the recipes, waited for by the thread that wants it.
//!
//! The names stay the same; [`Wait::wait`] stands where `.await` would. Streams become iterators with [`iter`].
//!
//! ```no_run
//! use docent::blocking::{Wait as _, iter};
//! use docent::{AddWatchMode, Client};
//!
//! # fn main() -> Result<(), docent::Error> {
//! let client = Client::connect("localhost:2181").wait()?;
//! client.create("/app", "hello").wait()?;
//! let data = client.get_data("/app").wait()?.bytes();
//! let watch = client.watch("/app", AddWatchMode::Persistent).wait()?;
//! for item in iter(watch) {
//!     println!("{item:?}");
//! }
//! # drop(data);
//! # Ok(()) }
//! ```
//!
//! What goes on in the background – heartbeats, holds that are kept, watches – runs on one thread of its own, which begins with
//! the first wait and lasts as long as the process. The waiting thread only waits: a program may wait in as many threads as it has.
//! Guards and handles can be dropped in any of them.

use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::runtime::{Builder, Runtime};

static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();

/// The runtime of all who wait.
///
/// # Panics
/// When the system has no thread for it.
fn runtime() -> &'static Runtime {
    let made = RUNTIME.get_or_init(|| {
        let mut builder = Builder::new_multi_thread();
        builder
            .worker_threads(1)
            .thread_name("docent")
            .enable_all()
            .build()
            .map_err(|error| error.to_string())
    });
    match made {
        Ok(runtime) => runtime,
        Err(error) => panic!("no thread for the runtime: {error}"),
    }
}

/// Waiting for a future in a thread that has no runtime.
pub trait Wait: IntoFuture + Sized {
    /// Waits until the future is done, and answers what it does.
    ///
    /// # Panics
    /// In a task of an async runtime, whose thread must not wait: `.await` is for those, or `spawn_blocking`. When the system has
    /// no thread for the background.
    fn wait(self) -> Self::Output {
        runtime().block_on(self.into_future())
    }

    /// Waits for so long at most. The future is dropped when the time is over; what that means, its cancel safety says.
    ///
    /// # Panics
    /// As [`Wait::wait`].
    fn wait_at_most(self, time: Duration) -> Option<Self::Output> {
        runtime().block_on(async { tokio::time::timeout(time, self.into_future()).await.ok() })
    }
}

impl<F: IntoFuture> Wait for F {}

/// The items of a stream, each waited for. See [`Iter::next_at_most`] for one that does not wait for ever.
pub fn iter<S: Stream>(stream: S) -> Iter<S> {
    Iter { stream: Box::pin(stream) }
}

/// A stream as an iterator. Made by [`iter`].
#[derive(Debug)]
pub struct Iter<S> {
    stream: Pin<Box<S>>,
}

impl<S: Stream> Iter<S> {
    /// The next item, if it comes within the time; the outer `None` says that it did not. No item is lost by that.
    ///
    /// # Panics
    /// As [`Wait::wait`].
    pub fn next_at_most(&mut self, time: Duration) -> Option<Option<S::Item>> {
        self.stream.next().wait_at_most(time)
    }
}

impl<S: Stream> Iterator for Iter<S> {
    type Item = S::Item;

    fn next(&mut self) -> Option<S::Item> {
        self.stream.next().wait()
    }
}

/// Work that blocks, as a future: for verbs that take one, such as the `run` of a guard or of an election. It runs in a thread of
/// its own, and goes on to its end when the future is dropped.
///
/// # Panics
/// The future does when `work` does, and when it is polled outside of a tokio runtime.
pub async fn work<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = pin!(tokio::task::spawn_blocking(work));
    match done.await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels, and then nobody polls this any more.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn futures_and_streams_are_waited_for() {
        assert_eq!(async { 7 }.wait(), 7);
        assert_eq!(std::future::pending::<()>().wait_at_most(Duration::from_millis(1)), None);
        let mut items = iter(futures::stream::iter([1, 2]).chain(futures::stream::pending()));
        assert_eq!((items.next(), items.next_at_most(Duration::from_secs(60))), (Some(1), Some(Some(2))));
        assert_eq!(items.next_at_most(Duration::from_millis(1)), None);
        assert_eq!(work(|| 5).wait(), 5);
    }

    #[test]
    fn a_task_must_not_wait_and_its_blocking_work_may() {
        assert!(async { std::panic::catch_unwind(|| async {}.wait()).is_err() }.wait());
        assert_eq!(async { work(|| async { 3 }.wait()).await }.wait(), 3);
    }
}
