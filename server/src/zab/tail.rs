//! The end of the log: what was ordered from the disk, and what of it is durable.

use std::collections::VecDeque;

use docent::Zxid;

/// Orders to the disk that it has not reported yet, and the last record that is durable.
///
/// Orders are numbered because a report may be older than a truncation: a zxid alone could make us acknowledge a
/// record that we have cut away since.
#[derive(Clone, Debug)]
pub struct Tail {
    issued: u64,
    pending: VecDeque<(u64, Zxid)>,
    durable: Zxid,
    last: Zxid,
}

impl Tail {
    /// A log whose last record is durable.
    #[must_use]
    pub fn new(last: Zxid) -> Self {
        Tail { issued: 0, pending: VecDeque::new(), durable: last, last }
    }

    /// Numbers the order to append a record.
    ///
    /// # Panics
    /// When zxids do not rise: the log would be out of order.
    pub fn append(&mut self, zxid: Zxid) -> u64 {
        assert!(zxid > self.last, "records must rise: {zxid} after {}", self.last);
        self.issued += 1;
        self.last = zxid;
        self.pending.push_back((self.issued, zxid));
        self.issued
    }

    /// Numbers an order that is no record.
    pub fn issue(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }

    /// Numbers the order to cut the log behind a record.
    pub fn truncate(&mut self, after: Zxid) -> u64 {
        self.pending.retain(|(_, zxid)| *zxid <= after);
        self.last = self.last.min(after);
        self.durable = self.durable.min(after);
        self.issue()
    }

    /// The log begins anew behind a snapshot that is durable, and is cut there.
    pub fn restart(&mut self, last: Zxid) -> u64 {
        self.pending.clear();
        (self.last, self.durable) = (last, last);
        self.issue()
    }

    /// The last order that was given.
    #[must_use]
    pub fn issued(&self) -> u64 {
        self.issued
    }

    /// The disk has carried out all orders up to this one. Answers the last durable record.
    ///
    /// # Panics
    /// When the disk reports an order that was never given.
    pub fn settle(&mut self, order: u64) -> Zxid {
        assert!(order <= self.issued, "the disk is ahead of us: {order} > {}", self.issued);
        while let Some((_, zxid)) = self.pending.pop_front_if(|(pending, _)| *pending <= order) {
            self.durable = zxid;
        }
        self.durable
    }

    /// The last record that was ordered.
    #[must_use]
    pub fn last(&self) -> Zxid {
        self.last
    }

    /// The last record that is durable.
    #[must_use]
    pub fn durable(&self) -> Zxid {
        self.durable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_covers_all_orders_before_it() {
        let mut tail = Tail::new(Zxid(5));
        let first = tail.append(Zxid(6));
        let second = tail.append(Zxid(7));
        let third = tail.append(Zxid(9));
        assert_eq!(tail.settle(first), Zxid(6));
        assert_eq!(tail.settle(third), Zxid(9));
        assert_eq!(tail.settle(second), Zxid(9));
        assert_eq!((tail.durable(), tail.last()), (Zxid(9), Zxid(9)));
    }

    #[test]
    fn a_report_that_is_older_than_a_cut_says_nothing_of_what_was_cut() {
        let mut tail = Tail::new(Zxid(5));
        let old = tail.append(Zxid(6));
        let cut = tail.truncate(Zxid(5));
        let new = tail.append(Zxid(0x1_0000_0001));
        assert_eq!(tail.settle(old), Zxid(5));
        assert_eq!(tail.settle(cut), Zxid(5));
        assert_eq!(tail.settle(new), Zxid(0x1_0000_0001));
    }

    #[test]
    #[should_panic(expected = "the disk is ahead of us")]
    fn a_report_of_an_order_never_given_stops_us() {
        Tail::new(Zxid(5)).settle(1);
    }
}
