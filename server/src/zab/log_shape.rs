//! What is known of the log without reading it.

use std::collections::BTreeMap;

use docent::Zxid;

/// Within an epoch the log has no gaps, so the ends of the epochs tell which transactions it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogShape {
    /// Every record behind this one is known here. It is the zxid of a snapshot, or of a record.
    floor: Zxid,
    /// The last counter of each epoch that has a record behind the floor.
    ends: BTreeMap<u32, u32>,
}

impl LogShape {
    /// A log that begins behind a snapshot.
    #[must_use]
    pub fn new(floor: Zxid) -> Self {
        LogShape { floor, ends: BTreeMap::new() }
    }

    /// The next record.
    ///
    /// # Panics
    /// When zxids do not rise.
    pub fn push(&mut self, zxid: Zxid) {
        assert!(zxid > self.last(), "records must rise: {zxid} after {}", self.last());
        self.ends.insert(zxid.epoch(), zxid.counter());
    }

    /// The last record, or the floor.
    #[must_use]
    pub fn last(&self) -> Zxid {
        self.ends.last_key_value().map_or(self.floor, |(epoch, counter)| Zxid::new(*epoch, *counter))
    }

    /// Every record behind this one is known.
    #[must_use]
    pub fn floor(&self) -> Zxid {
        self.floor
    }

    /// The last record of this epoch, if one is known.
    #[must_use]
    pub fn end_of(&self, epoch: u32) -> Option<Zxid> {
        self.ends.get(&epoch).map(|counter| Zxid::new(epoch, *counter))
    }

    /// Whether the record is in the log: the floor itself, or one behind it.
    #[must_use]
    pub fn holds(&self, zxid: Zxid) -> bool {
        zxid == self.floor
            || (zxid > self.floor
                && zxid.counter() > 0
                && self.end_of(zxid.epoch()).is_some_and(|end| zxid <= end))
    }

    /// The records behind `after` up to `upto`, in order.
    #[must_use]
    pub fn between(&self, after: Zxid, upto: Zxid) -> Vec<Zxid> {
        let mut found = Vec::new();
        if upto <= after {
            return found;
        }
        for (epoch, end) in self.ends.range(after.epoch()..=upto.epoch()) {
            let begins = if *epoch == self.floor.epoch() { self.floor.counter() + 1 } else { 1 };
            let first = if *epoch == after.epoch() { begins.max(after.counter() + 1) } else { begins };
            let last = if *epoch == upto.epoch() { upto.counter().min(*end) } else { *end };
            found.extend((first..=last).map(|counter| Zxid::new(*epoch, counter)));
        }
        found
    }

    /// The records up to here, and the one behind it, cannot be read any more: purged, or moved into a snapshot.
    pub fn outlive(&mut self, after: Zxid) {
        let within = self.end_of(after.epoch()).filter(|end| *end > after).and_then(|_| after.next());
        let later = || self.ends.range(after.epoch().saturating_add(1)..).next();
        let next = within.or_else(|| later().map(|(epoch, _)| Zxid::new(*epoch, 1)));
        self.floor = self.floor.max(next.unwrap_or(self.last()));
        let floor = self.floor;
        self.ends.retain(|epoch, counter| Zxid::new(*epoch, *counter) > floor);
    }

    /// Forgets everything behind this record.
    pub fn truncate(&mut self, after: Zxid) {
        self.ends.retain(|epoch, _| Zxid::new(*epoch, 1) <= after);
        if let Some((epoch, counter)) = self.ends.iter_mut().next_back()
            && Zxid::new(*epoch, *counter) > after
        {
            *counter = after.counter();
        }
        self.floor = self.floor.min(after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_tell_what_is_held() {
        let mut log = LogShape::new(Zxid::new(1, 5));
        assert_eq!(log.last(), Zxid::new(1, 5));
        for zxid in [(1, 6), (1, 7), (3, 1), (3, 2), (3, 3)] {
            log.push(Zxid::new(zxid.0, zxid.1));
        }
        for (held, zxid) in [
            (false, (1, 4)),
            (true, (1, 5)),
            (true, (1, 7)),
            (false, (1, 8)),
            (false, (2, 1)),
            (false, (3, 0)),
            (true, (3, 1)),
            (false, (3, 4)),
        ] {
            assert_eq!(log.holds(Zxid::new(zxid.0, zxid.1)), held, "{zxid:?}");
        }
        let between = |after: (u32, u32), upto: (u32, u32)| {
            let found = log.between(Zxid::new(after.0, after.1), Zxid::new(upto.0, upto.1));
            found.iter().map(|zxid| (zxid.epoch(), zxid.counter())).collect::<Vec<_>>()
        };
        assert_eq!(between((1, 5), (3, 2)), [(1, 6), (1, 7), (3, 1), (3, 2)]);
        assert_eq!(between((1, 6), (1, 9)), [(1, 7)]);
        assert_eq!(between((0, 0), (1, 6)), [(1, 6)]);
        assert_eq!(between((3, 3), (3, 9)), []);
        log.truncate(Zxid::new(3, 1));
        assert_eq!(log.last(), Zxid::new(3, 1));
        log.truncate(Zxid::new(1, 6));
        assert_eq!((log.last(), log.end_of(3)), (Zxid::new(1, 6), None));
        log.truncate(Zxid::new(1, 5));
        assert_eq!((log.last(), log.floor()), (Zxid::new(1, 5), Zxid::new(1, 5)));
    }

    #[test]
    fn what_cannot_be_read_is_not_known_any_more() {
        let mut log = LogShape::new(Zxid::new(1, 2));
        [(1, 3), (1, 4), (2, 1), (2, 2)].into_iter().for_each(|(e, c)| log.push(Zxid::new(e, c)));
        log.outlive(Zxid::new(1, 2));
        assert!(!log.holds(Zxid::new(1, 2)) && log.holds(Zxid::new(1, 3)) && log.holds(Zxid::new(2, 2)));
        log.outlive(Zxid::new(1, 4));
        assert_eq!((log.floor(), log.last(), log.end_of(1)), (Zxid::new(2, 1), Zxid::new(2, 2), None));
        log.outlive(Zxid::new(2, 2));
        assert_eq!((log.floor(), log.last()), (Zxid::new(2, 2), Zxid::new(2, 2)));
        log.outlive(Zxid::new(1, 1));
        assert_eq!(log.floor(), Zxid::new(2, 2), "it never comes back");
    }
}
