//! One client's requests in order.
//!
//! Writes are sent on at once, so several may be under way; a read waits until the writes before it are applied,
//! so that a client sees its own writes; and answers leave in the order of the requests. The lane holds what has
//! not been answered yet, from the oldest.

use std::collections::VecDeque;

/// What stands in a lane: `W` stands for a write that is under way, `R` for a request that is answered here as soon
/// as everything before it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn<W, R> {
    /// Waits for its commit.
    Write(W),
    /// Waits for its turn.
    Local(R),
}

/// The unanswered requests of one connection.
#[derive(Clone, Debug)]
pub struct Lane<W, R> {
    waiting: VecDeque<Turn<W, R>>,
}

impl<W, R> Default for Lane<W, R> {
    fn default() -> Self {
        Lane { waiting: VecDeque::new() }
    }
}

impl<W, R> Lane<W, R> {
    /// Whether nothing waits: a local request may be answered at once.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// A write was sent on.
    pub fn push_write(&mut self, write: W) {
        self.waiting.push_back(Turn::Write(write));
    }

    /// A local request has to wait.
    pub fn push_local(&mut self, local: R) {
        self.waiting.push_back(Turn::Local(local));
    }

    /// The oldest write is applied: takes it out. Commits come in the order of the writes, so it is the front.
    pub fn settle_write(&mut self) -> Option<W> {
        match self.waiting.pop_front() {
            Some(Turn::Write(write)) => Some(write),
            Some(local @ Turn::Local(_)) => {
                self.waiting.push_front(local);
                None
            }
            None => None,
        }
    }

    /// The write that is answered next, if what is answered next is one.
    #[must_use]
    pub fn first_write(&self) -> Option<&W> {
        match self.waiting.front() {
            Some(Turn::Write(write)) => Some(write),
            _ => None,
        }
    }

    /// Everything that waits, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Turn<W, R>> {
        self.waiting.iter()
    }

    /// Everything that waits, oldest first.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Turn<W, R>> {
        self.waiting.iter_mut()
    }

    /// The next local request whose turn has come.
    pub fn next_local(&mut self) -> Option<R> {
        match self.waiting.pop_front() {
            Some(Turn::Local(local)) => Some(local),
            Some(write @ Turn::Write(_)) => {
                self.waiting.push_front(write);
                None
            }
            None => None,
        }
    }

    /// Puts a local request back in front: it has to wait for something else.
    pub fn unget_local(&mut self, local: R) {
        self.waiting.push_front(Turn::Local(local));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_waits_for_the_writes_before_it_only() {
        let mut lane = Lane::default();
        lane.push_write(1);
        lane.push_local('a');
        lane.push_write(2);
        lane.push_local('b');
        assert_eq!(lane.next_local(), None);
        assert_eq!(lane.settle_write(), Some(1));
        assert_eq!(lane.next_local(), Some('a'));
        assert_eq!(lane.next_local(), None);
        assert_eq!(lane.settle_write(), Some(2));
        assert_eq!(lane.next_local(), Some('b'));
        assert!(lane.is_empty());
    }
}
