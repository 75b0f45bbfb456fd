//! PURE. When a session's requests are due under an offered load.
//!
//! A request that is due is sent as soon as fewer than the allowed number are in flight, and its latency counts from the
//! moment it was due. So a server that stalls is charged with every request that the stall held up, and not only with
//! those few that were on the wire.

use std::time::Duration;

/// The schedule of one session: one request per interval, forever. Times are nanoseconds after the start of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    interval: u64,
    /// When the next request is due.
    next: u64,
}

impl Pace {
    /// The schedule of session `index` of `sessions` which together make `rate` requests a second. They take turns, so
    /// that not all are due at once.
    pub(crate) fn new(rate: u64, sessions: usize, index: usize) -> Pace {
        let sessions = sessions.max(1) as u64;
        let interval = (Duration::from_secs(sessions).as_nanos() as u64 / rate.max(1)).max(1);
        Pace { interval, next: interval / sessions * (index as u64 % sessions) }
    }

    /// The time of a request that is due by now; the next one then waits its turn.
    pub(crate) fn take(&mut self, now: u64) -> Option<u64> {
        let due = self.next;
        (due <= now).then(|| {
            self.next += self.interval;
            due
        })
    }

    /// When the next request is due.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_take_turns_and_owe_what_they_could_not_send() {
        let mut paces: Vec<Pace> = (0..4).map(|index| Pace::new(1000, 4, index)).collect();
        let first: Vec<u64> = paces.iter().map(Pace::next).collect();
        assert_eq!(first, [0, 1_000_000, 2_000_000, 3_000_000]);
        assert_eq!(paces[1].take(999_999), None);
        // Nobody could send for ten milliseconds: three were due meanwhile, each at its own time.
        let owed: Vec<u64> = std::iter::from_fn(|| paces[1].take(10_000_000)).collect();
        assert_eq!(owed, [1_000_000, 5_000_000, 9_000_000]);
    }
}
