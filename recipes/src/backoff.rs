//! Waiting before the next try: full jitter below a doubling bound, so that many clients that failed together
//! do not come back together.

use std::time::Duration;

/// The delays of one loop that talks to the server.
#[derive(Debug)]
pub(crate) struct Backoff {
    bound: Duration,
    max: Duration,
}

impl Backoff {
    /// The first delay is below `first`; the bound doubles with each delay up to `max`.
    pub(crate) fn new(first: Duration, max: Duration) -> Backoff {
        Backoff { bound: first, max }
    }

    /// For a loop that meets connection trouble: the client itself waits for the connection, so this only keeps
    /// a loop from spinning.
    pub(crate) fn reconnecting() -> Backoff {
        Backoff::new(Duration::from_millis(20), Duration::from_secs(1))
    }

    /// For many who compete for one node.
    pub(crate) fn competing() -> Backoff {
        Backoff::new(Duration::from_millis(2), Duration::from_millis(250))
    }

    /// The next delay, somewhere between nothing and the bound.
    pub(crate) fn next(&mut self) -> Duration {
        let delay = self.bound.mul_f64(fastrand::f64());
        self.bound = (self.bound * 2).min(self.max);
        delay
    }

    /// Waits for the next delay.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.next()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_below_a_bound_that_doubles_to_its_maximum() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(40));
        for bound in [10, 20, 40, 40, 40] {
            assert_eq!(backoff.bound, Duration::from_millis(bound));
            assert!(backoff.next() <= Duration::from_millis(bound));
        }
    }
}
