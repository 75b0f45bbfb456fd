//! The numbers that a node counts about itself, and how `mntr` and `srvr` show them.
//!
//! A plain value that belongs to one node: nothing is shared, so counting costs an addition, and the same events give
//! the same numbers. Names are Apache's where it counts the same thing; the rest stands beside them under names of its
//! own. Nothing is shown that is not counted.

use std::borrow::Cow;

use crate::node::four_letter::facts::{Latency, Metric, ProposalSizes, Value};
use crate::node::four_letter::java_text::average;

/// What a node counts. Everything but the start is since the start or the last `srst`.
#[derive(Debug)]
pub struct Metrics {
    started_ms: i64,
    /// Packets from clients.
    pub packets_received: u64,
    /// Packets to clients.
    pub packets_sent: u64,
    /// Transactions that were committed.
    pub commits: u64,
    /// Credentials that were refused.
    pub auth_failed: u64,
    /// Handshakes.
    pub connection_requests: u64,
    /// Handshakes that were refused.
    pub connections_rejected: u64,
    /// Handshakes that were refused because too many came at once.
    pub connections_dropped: u64,
    /// Handshakes that took up an existing session.
    pub revalidations: u64,
    /// Requests with an operation that nobody knows.
    pub unknown_requests: u64,
    /// Requests whose record could not be read.
    pub malformed_requests: u64,
    /// Answers that were larger than a client takes, and were refused.
    pub large_replies_refused: u64,
    /// Sessions whose time ran out.
    pub sessions_expired: u64,
    /// Snapshots that failed.
    pub snapshot_errors: u64,
    /// Transactions after which the tree was not what the leader had foreseen.
    pub digest_mismatches: u64,
    /// Milliseconds from receiving a write to answering it.
    pub update_latency: Distribution,
    /// Milliseconds from receiving a read to answering it.
    pub read_latency: Distribution,
    /// Milliseconds of one sync of the log.
    pub fsync_time: Summary,
    response_bytes: u64,
    response_sizes: Option<Sizes>,
    proposal_sizes: Option<Sizes>,
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    last: u64,
    min: u64,
    max: u64,
}

impl Metrics {
    /// Nothing counted yet, by a node that starts at this moment of the clock that never goes back.
    #[must_use]
    pub fn new(started_ms: i64) -> Self {
        Metrics {
            started_ms,
            packets_received: 0,
            packets_sent: 0,
            commits: 0,
            auth_failed: 0,
            connection_requests: 0,
            connections_rejected: 0,
            connections_dropped: 0,
            revalidations: 0,
            unknown_requests: 0,
            malformed_requests: 0,
            large_replies_refused: 0,
            sessions_expired: 0,
            snapshot_errors: 0,
            digest_mismatches: 0,
            update_latency: Distribution::default(),
            read_latency: Distribution::default(),
            fsync_time: Summary::default(),
            response_bytes: 0,
            response_sizes: None,
            proposal_sizes: None,
        }
    }

    /// Counts an answer of so many bytes.
    pub fn sent(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        self.packets_sent += 1;
        self.response_bytes += bytes;
        let sizes = self.response_sizes.get_or_insert(Sizes { last: bytes, min: bytes, max: bytes });
        *sizes = Sizes { last: bytes, min: sizes.min.min(bytes), max: sizes.max.max(bytes) };
    }

    /// A proposal of so many bytes was made.
    pub fn proposed(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        let sizes = self.proposal_sizes.get_or_insert(Sizes { last: bytes, min: bytes, max: bytes });
        *sizes = Sizes { last: bytes, min: sizes.min.min(bytes), max: sizes.max.max(bytes) };
    }

    /// The sizes of the proposals that were made.
    #[must_use]
    pub fn proposal_sizes(&self) -> ProposalSizes {
        let count = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        match &self.proposal_sizes {
            Some(Sizes { last, min, max }) => {
                ProposalSizes { last: count(*last), min: count(*min), max: count(*max) }
            }
            None => ProposalSizes { last: -1, min: -1, max: -1 },
        }
    }

    /// `srst`: forgets everything but the start.
    pub fn reset(&mut self) {
        *self = Metrics::new(self.started_ms);
    }

    /// Of all requests together.
    #[must_use]
    pub fn latency(&self) -> Latency {
        let both = self.read_latency.summary.merged(&self.update_latency.summary);
        Latency { min: both.min(), avg: both.avg(), max: both.max() }
    }

    /// Adds the lines of `mntr` that these numbers give, with the uptime at this moment of the clock of [`Metrics::new`].
    pub fn lines(&self, now_ms: i64, out: &mut Vec<Metric>) {
        let latency = self.latency();
        let sizes = |size: fn(&Sizes) -> u64| match &self.response_sizes {
            Some(sizes) => Value::from(size(sizes)),
            None => Value::Count(-1),
        };
        out.extend([
            Metric::new("avg_latency", Value::Mean(latency.avg)),
            Metric::new("max_latency", latency.max),
            Metric::new("min_latency", latency.min),
            Metric::new("packets_received", self.packets_received),
            Metric::new("packets_sent", self.packets_sent),
            Metric::new("uptime", Value::Count(now_ms.saturating_sub(self.started_ms))),
            Metric::new("last_client_response_size", sizes(|sizes| sizes.last)),
            Metric::new("max_client_response_size", sizes(|sizes| sizes.max)),
            Metric::new("min_client_response_size", sizes(|sizes| sizes.min)),
            Metric::new("auth_failed_count", self.auth_failed),
            Metric::new("commit_count", self.commits),
            Metric::new("connection_rejected", self.connections_rejected),
            Metric::new("connection_drop_count", self.connections_dropped),
            Metric::new("connection_request_count", self.connection_requests),
            Metric::new("connection_revalidate_count", self.revalidations),
            Metric::new("response_bytes", self.response_bytes),
            Metric::new("stale_sessions_expired", self.sessions_expired),
            Metric::new("snapshot_error_count", self.snapshot_errors),
            Metric::new("digest_mismatches_count", self.digest_mismatches),
            Metric::new("unknown_request_count", self.unknown_requests),
            Metric::new("malformed_request_count", self.malformed_requests),
            Metric::new("large_replies_refused", self.large_replies_refused),
        ]);
        self.fsync_time.lines("fsynctime", out);
        self.read_latency.lines("readlatency", out);
        self.update_latency.lines("updatelatency", out);
    }
}

/// The extremes and the mean of some measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    count: u64,
    sum: u64,
    extremes: Option<(u64, u64)>,
}

impl Summary {
    /// Takes a measurement; a clock that went back gives 0.
    pub fn record(&mut self, value: i64) {
        let value = u64::try_from(value).unwrap_or(0);
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        let (min, max) = self.extremes.unwrap_or((value, value));
        self.extremes = Some((min.min(value), max.max(value)));
    }

    /// The smallest; 0 if there is none.
    #[must_use]
    pub fn min(&self) -> u64 {
        self.extremes.map_or(0, |(min, _)| min)
    }

    /// The largest; 0 if there is none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.extremes.map_or(0, |(_, max)| max)
    }

    /// The mean, rounded as Apache does; 0 if there is none.
    #[must_use]
    pub fn avg(&self) -> f64 {
        average(self.sum, self.count)
    }

    fn merged(&self, other: &Summary) -> Summary {
        let extremes = match (self.extremes, other.extremes) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, other) => one.or(other),
        };
        Summary { count: self.count + other.count, sum: self.sum.saturating_add(other.sum), extremes }
    }

    /// Adds five lines of `mntr`, in Apache's order.
    pub fn lines(&self, name: &str, out: &mut Vec<Metric>) {
        let key = |prefix: &str| Cow::<'static, str>::Owned(format!("{prefix}_{name}"));
        out.extend([
            Metric::new(key("avg"), Value::Mean(self.avg())),
            Metric::new(key("min"), self.min()),
            Metric::new(key("max"), self.max()),
            Metric::new(key("cnt"), self.count),
            Metric::new(key("sum"), self.sum),
        ]);
    }
}

/// Each power of two is divided into so many steps, as a power of two: a percentile is at most a sixteenth too high.
const STEP_BITS: u32 = 4;
/// Below this every value has a bucket of its own.
const EXACT: u64 = 1 << STEP_BITS;
/// Larger measurements count as this one: 2^32 ms are seven weeks.
const MEASURED_MAX: u64 = u32::MAX as u64;
const BUCKETS: usize = ((32 - STEP_BITS as usize) + 1) << STEP_BITS;

/// A summary with percentiles. They come from buckets whose width grows with the value, so that any number of
/// measurements takes the same few kilobytes.
#[derive(Clone, Debug)]
pub struct Distribution {
    summary: Summary,
    buckets: Box<[u64; BUCKETS]>,
}

impl Default for Distribution {
    fn default() -> Self {
        Distribution { summary: Summary::default(), buckets: Box::new([0; BUCKETS]) }
    }
}

impl Distribution {
    /// Takes a measurement; a clock that went back gives 0.
    pub fn record(&mut self, value: i64) {
        self.summary.record(value);
        self.buckets[bucket(u64::try_from(value).unwrap_or(0))] += 1;
    }

    /// The value that so many thousandths of the measurements do not exceed: the upper end of its bucket, but never
    /// more than the largest measurement.
    #[must_use]
    pub fn percentile(&self, thousandths: u64) -> u64 {
        let wanted = (self.summary.count * thousandths).div_ceil(1000).max(1);
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper_end(at).min(self.summary.max());
            }
        }
        0
    }

    /// Adds nine lines of `mntr`, in Apache's order.
    pub fn lines(&self, name: &str, out: &mut Vec<Metric>) {
        self.summary.lines(name, out);
        for (prefix, thousandths) in [("p50", 500), ("p95", 950), ("p99", 990), ("p999", 999)] {
            out.push(Metric::new(format!("{prefix}_{name}"), self.percentile(thousandths)));
        }
    }
}

fn bucket(value: u64) -> usize {
    let value = value.min(MEASURED_MAX);
    if value < EXACT {
        return value as usize;
    }
    let shift = value.ilog2() - STEP_BITS;
    let step = (value >> shift) - EXACT;
    (((u64::from(shift) + 1) << STEP_BITS) + step) as usize
}

/// The largest value of a bucket.
fn upper_end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < EXACT {
        return bucket;
    }
    let shift = (bucket >> STEP_BITS) - 1;
    ((bucket % EXACT + EXACT + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::node::four_letter::facts::Mode;
    use crate::node::four_letter::mntr;

    #[test]
    fn an_empty_node_shows_zeros_as_apache_does() {
        let mut lines = Vec::new();
        Metrics::new(1000).lines(42_711, &mut lines);
        let text = mntr("V", Mode::Standalone, &lines);
        for expected in [
            "zk_avg_latency\t0.0\nzk_max_latency\t0\nzk_min_latency\t0\n",
            "zk_uptime\t41711\n",
            "zk_last_client_response_size\t-1\n",
            "zk_avg_readlatency\t0.0\nzk_min_readlatency\t0\nzk_max_readlatency\t0\nzk_cnt_readlatency\t0\n\
             zk_sum_readlatency\t0\nzk_p50_readlatency\t0\nzk_p95_readlatency\t0\nzk_p99_readlatency\t0\n\
             zk_p999_readlatency\t0\n",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in {text}");
        }
    }

    #[test]
    fn every_key_is_shown_once() {
        let mut lines = Vec::new();
        Metrics::new(0).lines(0, &mut lines);
        let mut keys: Vec<&str> = lines.iter().map(|line| line.key.as_ref()).collect();
        let shown = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), shown);
    }

    #[test]
    fn latency_is_that_of_reads_and_writes_together() {
        let mut metrics = Metrics::new(0);
        metrics.read_latency.record(1);
        metrics.read_latency.record(-5);
        metrics.update_latency.record(36);
        assert_eq!(metrics.latency(), Latency { min: 0, avg: 12.3333, max: 36 });
        metrics.sent(20);
        metrics.sent(8);
        metrics.reset();
        assert_eq!(metrics.latency(), Latency::default());
        assert_eq!((metrics.packets_sent, metrics.response_bytes), (0, 0));
    }

    #[test]
    fn response_sizes_are_kept() {
        let mut metrics = Metrics::new(0);
        for bytes in [20, 8, 12] {
            metrics.sent(bytes);
        }
        let mut lines = Vec::new();
        metrics.lines(0, &mut lines);
        let text = mntr("V", Mode::Standalone, &lines);
        let expected = "last_client_response_size\t12\nzk_max_client_response_size\t20\nzk_min_client_response_size\t8\n";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("zk_packets_sent\t3\n") && text.contains("zk_response_bytes\t40\n"), "{text}");
    }

    #[test]
    fn percentiles_of_small_values_are_exact() {
        let mut latency = Distribution::default();
        for _ in 0..989 {
            latency.record(1);
        }
        for _ in 0..11 {
            latency.record(9);
        }
        let percentiles = [500, 950, 989, 990, 999].map(|thousandths| latency.percentile(thousandths));
        assert_eq!(percentiles, [1, 1, 1, 9, 9]);
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for at in 1..BUCKETS {
            let first = upper_end(at - 1) + 1;
            assert_eq!((bucket(first), bucket(upper_end(at))), (at, at));
        }
        assert_eq!(upper_end(BUCKETS - 1), MEASURED_MAX);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    proptest! {
        #[test]
        fn a_percentile_is_at_most_a_sixteenth_too_high(mut values in proptest::collection::vec(0i64..1 << 40, 1..200)) {
            let mut latency = Distribution::default();
            for value in &values {
                latency.record(*value);
            }
            values.sort_unstable();
            let exact = (values[(values.len() * 95).div_ceil(100) - 1] as u64).min(MEASURED_MAX);
            let found = latency.percentile(950);
            prop_assert!(exact <= found && found <= exact + exact / 16, "{} for {}", found, exact);
        }
    }
}
