//! The lease: until when nobody else can have taken the session for dead, and the clock that says so.
//!
//! A server counts from the last request that it *received*. So the lease counts from the *sending* of the newest
//! request that was confirmed, not from the last byte that was heard: with one-way loss a client goes on hearing
//! events while its session dies.
//!
//! The clock goes on while the machine is suspended. [`Instant`] does not on Linux, so the time spent in suspend
//! is added: a laptop that wakes up finds its lease ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::handle::Handle;
use crate::SessionId;

/// A moment in the life of a client: time since it was made, including time in suspend. The session machine
/// knows no other time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(Duration);

impl Moment {
    #[cfg(test)]
    pub(super) const fn from_millis(ms: u64) -> Self {
        Moment(Duration::from_millis(ms))
    }

    pub(super) fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// So much earlier, but not before the client was made.
    pub(super) fn minus(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_sub(duration))
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Moment;
    fn add(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(duration))
    }
}

/// The clock of one client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    suspended_at_start: Duration,
    /// Time in suspend that a test pretends.
    #[cfg(test)]
    assumed: Duration,
}

impl Clock {
    pub(super) fn start() -> Self {
        Clock {
            start: Instant::now(),
            suspended_at_start: time_in_suspend(),
            #[cfg(test)]
            assumed: Duration::ZERO,
        }
    }

    pub(super) fn now(&self) -> Moment {
        Moment(self.start.elapsed() + self.suspended())
    }

    /// When the moment is (or was), by a clock that stands still in suspend, if there is no suspend from now on.
    pub(super) fn instant(&self, moment: Moment) -> Instant {
        self.start + moment.0.saturating_sub(self.suspended())
    }

    fn suspended(&self) -> Duration {
        let suspended = time_in_suspend().saturating_sub(self.suspended_at_start);
        #[cfg(test)]
        let suspended = suspended + self.assumed;
        suspended
    }
}

/// How long the machine has been suspended since it was booted.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn time_in_suspend() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    // In this order the difference can only be too large, which ends a lease too early and never too late.
    let monotonic = read(ClockId::Monotonic);
    let difference = read(ClockId::Boottime).saturating_sub(monotonic);
    // Two readings are never taken at the same time; a suspend is longer than the time between them.
    if difference < Duration::from_millis(1) { Duration::ZERO } else { difference }
}

/// Other systems' monotonic clocks either count suspend or give no way to ask.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn time_in_suspend() -> Duration {
    Duration::ZERO
}

/// Until when nobody else can have taken the session for dead, as far as was known when this value was made.
/// Take a new one from [`Client::lease`](super::Client::lease) to see what heartbeats have added since.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Lease {
    /// The session; [`SessionId::NONE`] when there is none, and then the lease is over.
    pub session: SessionId,
    /// The end, provided the machine is not suspended until then.
    pub until: Instant,
    end: Moment,
    clock: Clock,
}

impl Lease {
    pub(super) fn new(session: SessionId, end: Moment, clock: Clock) -> Self {
        Lease { session, until: clock.instant(end), end, clock }
    }

    /// Whether the lease runs, by the clock of now, suspend included.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// How long the lease still runs; zero when it is over.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        if self.session == SessionId::NONE { Duration::ZERO } else { self.end.since(self.clock.now()) }
    }
}

/// While any of these is alive, the client proves its lease to the leader, not only to the server it is connected
/// to: it sends a `sync` every sixth of the session timeout. Dropping the last one stops that.
#[must_use = "the lease is proved only while this value is alive"]
#[derive(Debug)]
pub struct LeaseHold {
    handle: Arc<Handle>,
}

impl LeaseHold {
    pub(super) fn new(handle: Arc<Handle>) -> Self {
        handle.hold_lease();
        LeaseHold { handle }
    }
}

impl Clone for LeaseHold {
    fn clone(&self) -> Self {
        LeaseHold::new(Arc::clone(&self.handle))
    }
}

impl Drop for LeaseHold {
    fn drop(&mut self) {
        self.handle.release_lease();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_runs_out_by_the_clients_clock() {
        let clock = Clock::start();
        let end = clock.now() + Duration::from_secs(3);
        let lease = Lease::new(SessionId(7), end, clock);
        assert!(lease.is_valid() && lease.remaining() <= Duration::from_secs(3));
        assert_eq!(lease.until, clock.instant(end));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(!lease.is_valid());
        assert!(!Lease::new(SessionId::NONE, clock.now() + Duration::from_secs(3), clock).is_valid());
    }

    /// After an hour in suspend a lease is over, although no time has passed for `Instant`.
    #[tokio::test(start_paused = true)]
    async fn time_in_suspend_counts() {
        let hour = Duration::from_secs(3600);
        let clock = Clock::start();
        let end = clock.now() + Duration::from_secs(10);
        let woken = Clock { assumed: hour, ..clock };
        assert!(Lease::new(SessionId(7), end, clock).is_valid());
        assert!(!Lease::new(SessionId(7), end, woken).is_valid());
        assert_eq!(woken.instant(woken.now()), Instant::now());
    }
}
