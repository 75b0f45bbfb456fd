//! How long the client keeps trying.

use std::time::Duration;

/// Back-off between connection attempts, and the budget of a request.
///
/// The pause before an attempt is drawn evenly from zero up to a ceiling ("full jitter"), so that clients which
/// lost a server together do not return together. The ceiling starts at `base` and doubles with every round
/// over all hosts, up to `cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retry {
    /// The first ceiling.
    pub base: Duration,
    /// The last ceiling.
    pub cap: Duration,
    /// How long after its call a request may still be sent, or sent again. The client itself reconnects for ever.
    pub budget: Duration,
}

impl Retry {
    /// Pauses between zero and a ceiling that grows from `base` to `cap`; a budget of 30 seconds.
    #[must_use]
    pub const fn exponential(base: Duration, cap: Duration) -> Self {
        Retry { base, cap, budget: Duration::from_secs(30) }
    }

    /// Every request fails as soon as its connection breaks, and at once while there is none.
    #[must_use]
    pub const fn none() -> Self {
        Retry {
            budget: Duration::ZERO,
            ..Retry::exponential(Duration::from_millis(50), Duration::from_secs(2))
        }
    }

    /// How long after its call a request may still be sent, or sent again.
    #[must_use]
    pub const fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// The ceiling of the pause after so many rounds over all hosts.
    pub(super) fn ceiling(&self, round: u32) -> Duration {
        self.base.saturating_mul(1 << round.min(16)).min(self.cap)
    }
}

impl Default for Retry {
    fn default() -> Self {
        Retry::exponential(Duration::from_millis(50), Duration::from_secs(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let retry = Retry::default();
        let ceilings: Vec<u128> = (0..8).map(|round| retry.ceiling(round).as_millis()).collect();
        assert_eq!(ceilings, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(retry.ceiling(u32::MAX), retry.cap);
    }
}
