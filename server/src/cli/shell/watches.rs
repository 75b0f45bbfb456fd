//! The watches that commands leave behind, and what is printed when they fire.
//!
//! Apache's shell has one watcher for everything, so whatever hears of an event prints it once: a node that is watched
//! for data, for children and by a persistent watch prints one deletion. Here each watch is a task of its own, and
//! [`Once`] keeps the others quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use docent::{AddWatchMode, Error, EventType, OneshotWatch, WatchItem, WatchedEvent, Watcher};

use super::output::Output;
use super::text::{event_name, watched_event};

/// How far apart two watches may report one event. They are told in the same step of the client.
const SAME_EVENT: Duration = Duration::from_millis(50);

/// What a one-shot watch was set by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// `get -w`, `stat -w`, `config -w`.
    Data,
    /// `ls -w`.
    Children,
}

/// One watch: one-shot ones by kind and path, persistent ones by mode and path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Oneshot(Kind, String),
    Persistent(bool, String),
}

/// PURE. Decides which of several reports of one event is printed: the first.
#[derive(Debug, Default)]
struct Once {
    recent: BTreeMap<(EventType, String), (Instant, BTreeSet<Source>)>,
}

impl Once {
    /// Whether this report is to be printed. A source reports each event once, so a second report of the same source
    /// is another event.
    fn first(&mut self, source: &Source, kind: EventType, path: &str, now: Instant) -> bool {
        self.recent.retain(|_, (since, _)| now.saturating_duration_since(*since) < SAME_EVENT);
        let (_, heard) = self.recent.entry((kind, path.to_owned())).or_insert_with(|| (now, BTreeSet::new()));
        if heard.is_empty() || heard.contains(source) {
            *heard = BTreeSet::from([source.clone()]);
            return true;
        }
        heard.insert(source.clone());
        false
    }
}

#[derive(Default)]
struct State {
    set: BTreeSet<Source>,
    once: Once,
}

/// All watches of a shell. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Watches {
    state: Arc<Mutex<State>>,
    printed: Arc<AtomicBool>,
    output: Arc<Output>,
}

impl Watches {
    /// No watches; their events are to be printed on `output`.
    pub(crate) fn new(output: Arc<Output>) -> Watches {
        Watches { state: Arc::default(), printed: Arc::new(AtomicBool::new(true)), output }
    }

    /// Whether events are printed.
    pub(crate) fn are_printed(&self) -> bool {
        self.printed.load(Ordering::Relaxed)
    }

    /// Switches the printing of events.
    pub(crate) fn set_printed(&self, printed: bool) {
        self.printed.store(printed, Ordering::Relaxed);
    }

    /// Prints an event, unless that is switched off.
    pub(crate) fn print(&self, state: &str, kind: &str, path: Option<&str>) {
        if self.are_printed() {
            self.output.event(&watched_event(state, kind, path));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a one-shot watch in the background. A second one of its kind on the path adds nothing, as there is
    /// one event either way.
    pub(crate) fn keep_oneshot(&self, kind: Kind, path: &str, watch: OneshotWatch) {
        let source = Source::Oneshot(kind, path.to_owned());
        if !self.state().set.insert(source.clone()) {
            return;
        }
        let watches = self.clone();
        tokio::spawn(async move {
            let outcome = watch.await;
            watches.state().set.remove(&source);
            match outcome {
                Ok(event) => watches.report(&source, &event),
                Err(Error::WatchRemoved { path }) => {
                    let name = match kind {
                        Kind::Data => "DataWatchRemoved",
                        Kind::Children => "ChildWatchRemoved",
                    };
                    watches.print("SyncConnected", name, Some(&path));
                }
                // The session ended, which its own event tells.
                Err(_) => {}
            }
        });
    }

    /// Follows a persistent watch in the background.
    pub(crate) fn keep_persistent(&self, mode: AddWatchMode, path: &str, mut watcher: Watcher) {
        let source = Source::Persistent(mode == AddWatchMode::PersistentRecursive, path.to_owned());
        if !self.state().set.insert(source.clone()) {
            return;
        }
        let (watches, path) = (self.clone(), path.to_owned());
        tokio::spawn(async move {
            while let Some(item) = watcher.next().await {
                if let WatchItem::Event(event) = item {
                    watches.report(&source, &event);
                }
            }
            // Still in the set when the watch was removed; `forget` has emptied it when the client was closed.
            if watches.state().set.remove(&source) {
                watches.print("SyncConnected", "PersistentWatchRemoved", Some(&path));
            }
        });
    }

    /// The session is over, and with it all watches.
    pub(crate) fn forget(&self) {
        self.state().set.clear();
    }

    fn report(&self, source: &Source, event: &WatchedEvent) {
        if self.state().once.first(source, event.kind, &event.path, Instant::now()) {
            self.print("SyncConnected", event_name(event.kind), Some(&event.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_is_printed_once() {
        let start = Instant::now();
        let mut once = Once::default();
        let data = Source::Oneshot(Kind::Data, "/a".into());
        let children = Source::Oneshot(Kind::Children, "/a".into());
        let recursive = Source::Persistent(true, "/".into());
        let mut first = |source: &Source, kind, after_ms| {
            once.first(source, kind, "/a", start + Duration::from_millis(after_ms))
        };
        let (deleted, changed) = (EventType::NodeDeleted, EventType::NodeDataChanged);
        assert!(first(&data, deleted, 0));
        assert!(!first(&children, deleted, 0));
        assert!(!first(&recursive, deleted, 1));
        // The same source again: the node was made and deleted once more.
        assert!(first(&recursive, deleted, 2));
        assert!(first(&recursive, changed, 3));
        assert!(first(&recursive, changed, 4));
        assert!(first(&data, deleted, 60));
    }
}
