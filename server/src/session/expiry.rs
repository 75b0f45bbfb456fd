//! Deadlines in buckets: touching costs a map look-up, and what is due comes out a bucket at a time.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;

/// Deadlines of many keys, rounded up to the next multiple of a tick.
#[derive(Debug)]
pub struct ExpiryQueue<K> {
    tick_ms: i64,
    buckets: BTreeMap<i64, BTreeSet<K>>,
    due: HashMap<K, i64, foldhash::fast::FixedState>,
}

impl<K: Copy + Ord + std::hash::Hash> ExpiryQueue<K> {
    /// An empty queue with buckets of `tick_ms`.
    #[must_use]
    pub fn new(tick_ms: i64) -> Self {
        ExpiryQueue { tick_ms: tick_ms.max(1), buckets: BTreeMap::new(), due: HashMap::default() }
    }

    /// The first bucket boundary after `now + timeout`: never before the timeout, at most one tick later.
    fn bucket(&self, now_ms: i64, timeout_ms: i64) -> i64 {
        ((now_ms + timeout_ms) / self.tick_ms + 1) * self.tick_ms
    }

    /// Moves the key's deadline to `timeout_ms` from now, or puts it in. A deadline never moves back.
    pub fn touch(&mut self, key: K, now_ms: i64, timeout_ms: i64) {
        let due = self.bucket(now_ms, timeout_ms);
        match self.due.get_mut(&key) {
            Some(old) if *old >= due => return,
            Some(old) => {
                let before = std::mem::replace(old, due);
                self.leave(before, key);
            }
            None => {
                self.due.insert(key, due);
            }
        }
        self.buckets.entry(due).or_default().insert(key);
    }

    fn leave(&mut self, due: i64, key: K) {
        if let Some(bucket) = self.buckets.get_mut(&due) {
            bucket.remove(&key);
            if bucket.is_empty() {
                self.buckets.remove(&due);
            }
        }
    }

    /// Takes the key out.
    pub fn remove(&mut self, key: K) {
        if let Some(due) = self.due.remove(&key) {
            self.leave(due, key);
        }
    }

    /// Takes out every key whose deadline has come, oldest deadline first.
    pub fn expired(&mut self, now_ms: i64) -> Vec<K> {
        let mut keys = Vec::new();
        while let Some(bucket) = self.buckets.first_entry() {
            if *bucket.key() > now_ms {
                break;
            }
            for key in bucket.remove() {
                self.due.remove(&key);
                keys.push(key);
            }
        }
        keys
    }

    /// The next deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<i64> {
        self.buckets.first_key_value().map(|(due, _)| *due)
    }

    /// All buckets, soonest first, for the listings.
    pub fn buckets(&self) -> impl Iterator<Item = (i64, &BTreeSet<K>)> {
        self.buckets.iter().map(|(due, keys)| (*due, keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_early_and_at_most_one_tick_late() {
        for now in 0..50 {
            for timeout in [1, 9, 10, 11, 35] {
                let mut queue = ExpiryQueue::new(10);
                queue.touch('a', now, timeout);
                let due = queue.next_deadline().unwrap();
                assert!(due > now + timeout - 1 && due <= now + timeout + 10, "{now} + {timeout} -> {due}");
                assert!(queue.expired(now + timeout - 1).is_empty());
                assert_eq!(queue.expired(due), ['a']);
                assert_eq!(queue.next_deadline(), None);
            }
        }
    }

    #[test]
    fn a_touch_moves_the_deadline_and_never_back() {
        let mut queue = ExpiryQueue::new(10);
        queue.touch('a', 0, 20);
        queue.touch('b', 0, 20);
        queue.touch('a', 15, 20);
        queue.touch('b', 0, 5);
        assert_eq!(queue.expired(30), ['b']);
        queue.remove('a');
        assert!(queue.expired(1_000).is_empty());
    }
}
