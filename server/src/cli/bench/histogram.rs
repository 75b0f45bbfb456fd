//! PURE. Latencies counted in buckets that grow with the value: 64 per power of two, so a quantile is off by at most
//! 1.6 %, whatever the range, and recording is two shifts and one addition.

use std::time::Duration;

/// Sub-buckets per power of two, as a power of two.
const PRECISION_BITS: u32 = 6;
const SUB_BUCKETS: usize = 1 << PRECISION_BITS;
/// Powers of two above the first `SUB_BUCKETS` values: enough for every `u64`.
const LEVELS: usize = 64 - PRECISION_BITS as usize;

/// Counts of latencies, nanoseconds.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: vec![0; SUB_BUCKETS * (LEVELS + 1)], total: 0, max_ns: 0 }
    }
}

/// The bucket that holds a value.
fn bucket(nanos: u64) -> usize {
    if nanos < SUB_BUCKETS as u64 {
        return nanos as usize;
    }
    let level = nanos.ilog2() - PRECISION_BITS;
    // The top bit is set, so the shifted value is within SUB_BUCKETS..2 × SUB_BUCKETS.
    SUB_BUCKETS * level as usize + (nanos >> level) as usize
}

/// The largest value of a bucket.
fn upper_bound(bucket: usize) -> u64 {
    if bucket < 2 * SUB_BUCKETS {
        return bucket as u64;
    }
    let level = bucket / SUB_BUCKETS - 1;
    let first = ((bucket % SUB_BUCKETS + SUB_BUCKETS) as u64) << level;
    first + ((1 << level) - 1)
}

impl Histogram {
    /// Counts one latency.
    pub(crate) fn record(&mut self, nanos: u64) {
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
        self.max_ns = self.max_ns.max(nanos);
    }

    /// Adds what another histogram has counted.
    pub(crate) fn merge(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// How many were counted.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The latency that the fraction `quantile` of all does not exceed; zero when nothing was counted.
    pub(crate) fn quantile(&self, quantile: f64) -> Duration {
        let rank = ((self.total as f64 * quantile).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(upper_bound(bucket).min(self.max_ns));
            }
        }
        Duration::ZERO
    }

    /// The longest, exactly.
    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket() {
        for value in (0..2000).chain((0..58).map(|shift| (77 << shift) + 3)).chain([u64::MAX]) {
            let at = bucket(value);
            assert!(value <= upper_bound(at), "{value}");
            assert!(at == 0 || value > upper_bound(at - 1), "{value}");
            assert!(upper_bound(at) - value <= value / SUB_BUCKETS as u64, "{value}");
        }
    }

    #[test]
    fn quantiles_are_ranks() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        for nanos in 1..=100 {
            histogram.record(nanos);
        }
        let mut twice = histogram.clone();
        twice.merge(&histogram);
        for histogram in [&histogram, &twice] {
            assert_eq!(histogram.quantile(0.5).as_nanos(), 50);
            assert_eq!(histogram.quantile(0.99).as_nanos(), 99);
            assert_eq!(histogram.quantile(1.0).as_nanos(), 100);
            assert_eq!(histogram.max().as_nanos(), 100);
        }
        assert_eq!(twice.total(), 200);
    }
}
