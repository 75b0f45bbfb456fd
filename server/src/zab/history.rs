//! The latest transactions, in memory: what learners that are a little behind are brought level with.

use std::collections::VecDeque;

use bytes::Bytes;
use docent::Zxid;

/// Bytes that an entry costs beside its payload.
const ENTRY_BYTES: usize = 64;

/// The end of the log. Every record behind the floor is here.
#[derive(Clone, Debug)]
pub(super) struct History {
    entries: VecDeque<(Zxid, Bytes)>,
    bytes: usize,
    bytes_max: usize,
    floor: Zxid,
    /// Up to here records may go; what is behind is still needed to answer and to inform.
    released: Zxid,
}

impl History {
    /// An empty one behind the end of the log, which forgets what is released when it holds more bytes.
    #[must_use]
    pub(super) fn new(last: Zxid, bytes_max: usize) -> Self {
        History { entries: VecDeque::new(), bytes: 0, bytes_max, floor: last, released: last }
    }

    /// The log has grown.
    pub(super) fn push(&mut self, zxid: Zxid, payload: Bytes) {
        self.bytes += payload.len() + ENTRY_BYTES;
        self.entries.push_back((zxid, payload));
        self.shrink();
    }

    /// Nobody needs what is up to here, except learners that are behind.
    pub(super) fn release(&mut self, upto: Zxid) {
        self.released = self.released.max(upto);
        self.shrink();
    }

    /// The oldest of what is released goes when there are too many bytes.
    fn shrink(&mut self) {
        let released = self.released;
        while self.bytes > self.bytes_max
            && let Some((zxid, payload)) = self.entries.pop_front_if(|(zxid, _)| *zxid <= released)
        {
            self.bytes -= payload.len() + ENTRY_BYTES;
            self.floor = zxid;
        }
    }

    /// Everything behind `after` in order; `None` when some of it has gone.
    pub(super) fn behind(&self, after: Zxid) -> Option<impl Iterator<Item = &(Zxid, Bytes)>> {
        (after >= self.floor).then(|| {
            let from = self.entries.partition_point(|(zxid, _)| *zxid <= after);
            self.entries.range(from..)
        })
    }

    /// The log was cut.
    pub(super) fn truncate(&mut self, after: Zxid) {
        while let Some((_, payload)) = self.entries.pop_back_if(|(zxid, _)| *zxid > after) {
            self.bytes -= payload.len() + ENTRY_BYTES;
        }
        self.floor = self.floor.min(after);
        self.released = self.released.min(after);
    }

    /// The log begins anew.
    pub(super) fn restart(&mut self, last: Zxid) {
        *self = History::new(last, self.bytes_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: usize = 1_000;

    fn zxids(history: &History, after: u32) -> Option<Vec<u32>> {
        Some(history.behind(Zxid::new(1, after))?.map(|(zxid, _)| zxid.counter()).collect())
    }

    #[test]
    fn what_is_behind_is_told_or_known_to_be_gone() {
        let mut history = History::new(Zxid::new(1, 2), BYTES_MAX);
        for counter in 3..=6 {
            history.push(Zxid::new(1, counter), Bytes::from_static(b"x"));
        }
        assert_eq!(zxids(&history, 2), Some(vec![3, 4, 5, 6]));
        assert_eq!(zxids(&history, 6), Some(vec![]));
        assert_eq!(zxids(&history, 1), None);
        history.truncate(Zxid::new(1, 4));
        assert_eq!(zxids(&history, 3), Some(vec![4]));
        let half = Bytes::from(vec![0; BYTES_MAX / 2]);
        history.push(Zxid::new(1, 5), half.clone());
        history.push(Zxid::new(1, 6), half);
        assert_eq!(zxids(&history, 4), Some(vec![5, 6]), "nobody released it");
        history.release(Zxid::new(1, 5));
        assert_eq!(zxids(&history, 4), None);
        assert_eq!(zxids(&history, 5), Some(vec![6]));
    }

    #[test]
    fn a_cut_behind_the_floor_leaves_nothing_that_could_be_told() {
        let mut history = History::new(Zxid::new(1, 5), BYTES_MAX);
        history.push(Zxid::new(1, 6), Bytes::new());
        history.truncate(Zxid::new(1, 3));
        history.push(Zxid::new(2, 1), Bytes::new());
        let told: Vec<Zxid> = history.behind(Zxid::new(1, 3)).unwrap().map(|(zxid, _)| *zxid).collect();
        assert_eq!(told, [Zxid::new(2, 1)]);
    }
}
