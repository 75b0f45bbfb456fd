//! What a config watcher knows: the last good value, where it came from, and what is wrong now. Forward only.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use docent::{Stat, Zxid};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::codec::Decode;
use crate::config::Update;
use crate::error::Error;

/// How many updates a slow reader may be behind before it gets [`Update::Lagged`].
const UPDATES_MAX: usize = 64;

/// Which values count.
pub(crate) type Validate<T> = Arc<dyn Fn(&T) -> bool + Send + Sync>;

/// What became of the first read.
#[derive(Clone, Debug)]
pub(crate) enum First {
    Waiting,
    Value,
    Missing,
    Invalid(Arc<str>),
    Failed(Error),
}

/// What the watcher and the one who follows the node share. The codec and the validation run outside the lock.
pub(crate) struct Shared<T, C> {
    pub(crate) path: String,
    pub(crate) codec: C,
    validate: Option<Validate<T>>,
    state: Mutex<State<T>>,
    pub(crate) updates: broadcast::Sender<Update<T>>,
    pub(crate) first: watch::Sender<First>,
}

pub(crate) struct State<T> {
    /// The highest mzxid seen, good value or not: nothing below it counts any more.
    newest: Zxid,
    /// The last good value.
    pub(crate) value: Option<watch::Sender<Arc<T>>>,
    /// Where the last good value came from, and when; `None` in front for the default.
    pub(crate) info: Option<(Option<(Zxid, i32)>, Instant)>,
    pub(crate) stale_since: Option<Instant>,
    pub(crate) problem: Option<Arc<str>>,
}

impl<T> State<T> {
    fn keeping(&self) -> Option<Arc<T>> {
        self.value.as_ref().map(|value| Arc::clone(&value.borrow()))
    }

    fn store(&mut self, value: Arc<T>, source: Option<(Zxid, i32)>) -> watch::Receiver<Arc<T>> {
        self.info = Some((source, Instant::now()));
        match &self.value {
            Some(sender) => {
                sender.send_replace(value);
                sender.subscribe()
            }
            None => self.value.insert(watch::Sender::new(value)).subscribe(),
        }
    }
}

/// What the follower has to know about a value that it read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It is the newest known.
    Current,
    /// It is older than one that we have seen: the server is behind.
    Behind,
}

impl<T, C> Shared<T, C>
where
    T: Send + Sync + 'static,
    C: Decode<T>,
{
    pub(crate) fn new(
        path: String,
        codec: C,
        validate: Option<Validate<T>>,
        first: watch::Sender<First>,
    ) -> Self {
        let state = State { newest: Zxid::ZERO, value: None, info: None, stale_since: None, problem: None };
        let updates = broadcast::Sender::new(UPDATES_MAX);
        Shared { path, codec, validate, state: Mutex::new(state), updates, first }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing under the lock can panic half way; a poisoned lock guards a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, update: Update<T>) {
        // An error means that nobody listens.
        let _ = self.updates.send(update);
    }

    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Arc<T>, Arc<str>> {
        let value = self.codec.decode(bytes).map_err(|error| Arc::from(error.to_string()))?;
        match &self.validate {
            Some(valid) if !valid(&value) => Err(Arc::from("the value does not pass the validation")),
            _ => Ok(Arc::new(value)),
        }
    }

    /// Takes what was read, if it is not older than what is known.
    pub(crate) fn offer(&self, bytes: &Bytes, stat: &Stat) -> Offered {
        self.take(self.decode(bytes), bytes, stat)
    }

    /// As [`Shared::offer`], of bytes that are decoded already.
    pub(crate) fn take(&self, decoded: Result<Arc<T>, Arc<str>>, bytes: &Bytes, stat: &Stat) -> Offered {
        let mut state = self.lock();
        if stat.mzxid < state.newest {
            return Offered::Behind;
        }
        if stat.mzxid == state.newest {
            // A server that was behind may have told that the node is missing.
            state.problem.take_if(|problem| &**problem == MISSING);
            return Offered::Current;
        }
        state.newest = stat.mzxid;
        let (update, first) = match decoded {
            Ok(value) => {
                state.problem = None;
                state.store(Arc::clone(&value), Some((stat.mzxid, stat.version)));
                (Update::Value { value, mzxid: stat.mzxid }, First::Value)
            }
            Err(reason) => {
                tracing::warn!(path = %self.path, %reason, "no valid value, the last good one stays");
                state.problem = Some(Arc::clone(&reason));
                let keeping = state.keeping();
                let bytes = bytes.clone();
                (Update::Invalid { bytes, reason: Arc::clone(&reason), keeping }, First::Invalid(reason))
            }
        };
        drop(state);
        self.tell(update);
        self.first.send_replace(first);
        Offered::Current
    }

    /// The node does not exist.
    pub(crate) fn missing(&self) {
        let mut state = self.lock();
        if state.problem.as_deref() == Some(MISSING) {
            return;
        }
        state.problem = Some(MISSING.into());
        let keeping = state.keeping();
        drop(state);
        self.tell(Update::Missing { keeping });
        self.first.send_replace(First::Missing);
    }

    /// What is there cannot be read as a value at all.
    pub(crate) fn unusable(&self, reason: Arc<str>) {
        let mut state = self.lock();
        if state.problem.as_ref() == Some(&reason) {
            return;
        }
        state.problem = Some(Arc::clone(&reason));
        let keeping = state.keeping();
        drop(state);
        tracing::warn!(path = %self.path, %reason, "no valid value, the last good one stays");
        self.tell(Update::Invalid { bytes: Bytes::new(), reason: Arc::clone(&reason), keeping });
        self.first.send_replace(First::Invalid(reason));
    }

    /// The connection is gone.
    pub(crate) fn stale(&self, since: Instant) {
        let mut state = self.lock();
        if state.stale_since.is_none() {
            state.stale_since = Some(since);
            drop(state);
            self.tell(Update::Stale { since });
        }
    }

    /// A read that began after the connection came back is done.
    pub(crate) fn synced(&self) {
        if self.lock().stale_since.take().is_some() {
            self.tell(Update::Synced);
        }
    }

    /// Takes the default, unless a value has come meanwhile.
    pub(crate) fn begin_with(&self, default: T) -> watch::Receiver<Arc<T>> {
        let mut state = self.lock();
        // A value may have come since the first read.
        match &state.value {
            Some(value) => value.subscribe(),
            None => state.store(Arc::new(default), None),
        }
    }
}

const MISSING: &str = "the node does not exist";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Text;
    use proptest::prelude::*;

    fn stat(mzxid: i64) -> Stat {
        Stat { mzxid: Zxid(mzxid), ..Stat::default() }
    }

    fn shared() -> Shared<u32, Text> {
        Shared::new(
            "/a".into(),
            Text,
            Some(Arc::new(|value: &u32| *value < 100)),
            watch::Sender::new(First::Waiting),
        )
    }

    #[test]
    fn an_older_read_is_refused_and_an_equal_one_says_nothing() {
        let shared = shared();
        let mut updates = shared.updates.subscribe();
        assert_eq!(shared.offer(&"5".into(), &stat(7)), Offered::Current);
        assert_eq!(shared.offer(&"4".into(), &stat(6)), Offered::Behind);
        assert_eq!(shared.offer(&"5".into(), &stat(7)), Offered::Current);
        assert!(matches!(updates.try_recv(), Ok(Update::Value { mzxid: Zxid(7), .. })));
        assert!(updates.try_recv().is_err());
        // An invalid value is newer than what was before it, too.
        assert_eq!(shared.offer(&"x".into(), &stat(9)), Offered::Current);
        assert_eq!(shared.offer(&"6".into(), &stat(8)), Offered::Behind);
        assert_eq!(shared.lock().keeping().as_deref(), Some(&5));
    }

    #[test]
    fn a_default_gives_way_to_a_value_that_came_meanwhile() {
        let shared = shared();
        shared.missing();
        assert_eq!(**shared.begin_with(1).borrow(), 1);
        shared.offer(&"2".into(), &stat(3));
        assert_eq!(**shared.begin_with(1).borrow(), 2);
    }

    proptest! {
        /// Whatever servers answer in whatever order: values that are told rise, and only good ones are kept.
        #[test]
        fn values_never_go_back(reads in proptest::collection::vec((0i64..20, 0u32..200, any::<bool>()), 0..60)) {
            let shared = shared();
            let mut updates = shared.updates.subscribe();
            let (mut newest, mut kept) = (0, None);
            for (mzxid, value, is_text) in reads {
                let bytes: Bytes = if is_text { value.to_string().into() } else { Bytes::from_static(b"\xff") };
                shared.offer(&bytes, &stat(mzxid));
                while let Ok(update) = updates.try_recv() {
                    let Update::Value { value, mzxid } = update else { continue };
                    prop_assert!(mzxid.0 > newest, "{} after {newest}", mzxid.0);
                    prop_assert!(*value < 100);
                    (newest, kept) = (mzxid.0, Some(value));
                }
                prop_assert_eq!(shared.lock().keeping(), kept.clone());
            }
        }
    }
}
