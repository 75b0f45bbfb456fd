//! How a learner is brought level: one function of two log ranges.
//!
//! Within an epoch a log has no gaps, and two logs that both hold a record hold the same records before it. So if the
//! end of the learner's log is in ours, its whole log is a beginning of ours, and the rest is sent (*diff*). If we have
//! records of the epoch in which its log ends, but fewer, what it has beyond them was never committed and goes
//! (*truncate*). Otherwise nothing is known of where the logs part, and it gets the whole state (*snapshot*).

use docent::Zxid;

use super::LogShape;

/// What to do with a learner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Send what is behind this record.
    Diff {
        /// The end of its log.
        after: Zxid,
    },
    /// Let it forget what is behind this record, and send what we have behind it.
    Trunc {
        /// The last record that it may keep.
        to: Zxid,
    },
    /// Send the whole state, and what is behind it.
    Snap,
}

/// What to do with a learner whose log ends at `last`.
///
/// `ours` is the leader's log, `committed` the end of what of it counts as committed. `apache` learners have two flaws
/// that decide here: they take every record of their log for committed, so one that we do not know to be must not stay
/// there; and they may keep what they were told to truncate, if a snapshot of theirs contains it (ZOOKEEPER-1549), so
/// they get the whole state where one of ours would be told to truncate.
#[must_use]
pub fn choose(last: Zxid, ours: &LogShape, committed: Zxid, apache: bool) -> Plan {
    let held = ours.holds(last);
    if held && (!apache || last <= committed) {
        return Plan::Diff { after: last };
    }
    match ours.end_of(last.epoch()) {
        Some(end) if !held && !apache && end < last && last > ours.floor() => {
            Plan::Trunc { to: end.min(committed) }
        }
        _ => Plan::Snap,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(floor: (u32, u32), ends: &[(u32, u32)]) -> LogShape {
        let mut log = LogShape::new(Zxid::new(floor.0, floor.1));
        for (epoch, end) in ends {
            let first = if *epoch == floor.0 { floor.1 + 1 } else { 1 };
            (first..=*end).for_each(|counter| log.push(Zxid::new(*epoch, counter)));
        }
        log
    }

    #[test]
    fn each_pair_of_ranges_has_one_plan() {
        let ours = log((1, 4), &[(1, 9), (2, 5), (4, 3)]);
        let committed = Zxid::new(4, 2);
        let diff = |epoch, counter| Plan::Diff { after: Zxid::new(epoch, counter) };
        let trunc = |epoch, counter| Plan::Trunc { to: Zxid::new(epoch, counter) };
        for (last, plan, apache) in [
            ((4, 3), diff(4, 3), Plan::Snap),
            ((4, 2), diff(4, 2), diff(4, 2)),
            ((2, 5), diff(2, 5), diff(2, 5)),
            ((1, 4), diff(1, 4), diff(1, 4)),
            // Older than what we know of.
            ((1, 3), Plan::Snap, Plan::Snap),
            ((0, 0), Plan::Snap, Plan::Snap),
            // More of an epoch than we have.
            ((2, 6), trunc(2, 5), Plan::Snap),
            ((1, 10), trunc(1, 9), Plan::Snap),
            ((4, 7), trunc(4, 2), Plan::Snap),
            // An epoch of which we have nothing.
            ((3, 1), Plan::Snap, Plan::Snap),
            ((5, 1), Plan::Snap, Plan::Snap),
            // The end of an epoch's leader that wrote nothing is no record.
            ((4, 0), Plan::Snap, Plan::Snap),
        ] {
            let last = Zxid::new(last.0, last.1);
            assert_eq!(choose(last, &ours, committed, false), plan, "{last}");
            assert_eq!(choose(last, &ours, committed, true), apache, "{last} of Apache");
        }
    }

    #[test]
    fn an_empty_server_is_told_everything_if_everything_is_there() {
        let ours = log((0, 0), &[(1, 3)]);
        assert_eq!(choose(Zxid::ZERO, &ours, Zxid::new(1, 3), true), Plan::Diff { after: Zxid::ZERO });
        let alone = log((0, 0), &[]);
        assert_eq!(choose(Zxid::ZERO, &alone, Zxid::ZERO, true), Plan::Diff { after: Zxid::ZERO });
    }
}
