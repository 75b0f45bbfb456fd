//! The two clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::node::Now;

/// Reads both clocks. Monotonic time is counted from the start of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Clock { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now { mono_ms: self.start.elapsed().as_millis() as i64, wall_ms: wall.as_millis() as i64 }
    }

    /// When a deadline of [`Now::mono_ms`] comes.
    pub(crate) fn instant(&self, mono_ms: i64) -> Instant {
        self.start + Duration::from_millis(mono_ms.max(0) as u64)
    }
}
