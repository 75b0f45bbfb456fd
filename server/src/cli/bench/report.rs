//! PURE. What was measured, as lines for people and as JSON for programs.

use std::time::Duration;

use serde_json::{Value, json};

use super::workload::{Outcome, Shape, Workload};

/// Results of one server for one workload and shape: one outcome per round.
pub(crate) struct Measured {
    /// The operation.
    pub(crate) workload: Workload,
    /// Sessions and requests in flight.
    pub(crate) shape: Shape,
    /// The connect string.
    pub(crate) server: String,
    /// The rounds in the order they ran.
    pub(crate) rounds: Vec<Outcome>,
}

/// The numbers of several rounds put together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    /// Operations over all rounds.
    pub(crate) operations: u64,
    /// Operations per second over all rounds.
    pub(crate) rate: f64,
    /// Latencies over all rounds.
    pub(crate) p50: Duration,
    /// The same.
    pub(crate) p99: Duration,
    /// The same.
    pub(crate) p999: Duration,
    /// The same.
    pub(crate) max: Duration,
    /// CPU time of the server per operation, microseconds.
    pub(crate) server_cpu_us: Option<f64>,
    /// CPU time of this process per operation, microseconds.
    pub(crate) own_cpu_us: f64,
    /// Resident memory of the server before the first and after the last round, bytes.
    pub(crate) resident: Option<(u64, u64)>,
}

impl Measured {
    /// Puts the rounds together.
    pub(crate) fn summary(&self) -> Summary {
        let mut latency = super::histogram::Histogram::default();
        let mut elapsed = Duration::ZERO;
        let mut own_cpu = Duration::ZERO;
        let mut server_cpu = Some(Duration::ZERO);
        for round in &self.rounds {
            latency.merge(&round.tally.latency);
            elapsed += round.elapsed;
            own_cpu += round.own_cpu;
            server_cpu = server_cpu.zip(round.server_cpu).map(|(sum, more)| sum + more);
        }
        let operations = latency.total();
        let per_operation = |cpu: Duration| cpu.as_secs_f64() * 1e6 / (operations.max(1) as f64);
        let first = self.rounds.first().and_then(|round| round.resident);
        let last = self.rounds.last().and_then(|round| round.resident);
        Summary {
            operations,
            rate: operations as f64 / elapsed.as_secs_f64().max(1e-9),
            p50: latency.quantile(0.5),
            p99: latency.quantile(0.99),
            p999: latency.quantile(0.999),
            max: latency.max(),
            server_cpu_us: server_cpu.map(per_operation),
            own_cpu_us: per_operation(own_cpu),
            resident: first.zip(last).map(|((before, _), (_, after))| (before, after)),
        }
    }

    /// The numbers for programs. Times are in microseconds, memory in bytes.
    pub(crate) fn json(&self) -> Value {
        let summary = self.summary();
        json!({
            "workload": workload_name(self.workload),
            "sessions": self.shape.sessions,
            "in_flight": self.shape.in_flight,
            "server": self.server,
            "rounds": self.rounds.iter().map(|round| json!({
                "operations": round.operations(),
                "per_second": round.rate(),
                "server_cpu_us_per_operation": round.server_cpu.map(|cpu| round.per_operation(cpu)),
            })).collect::<Vec<_>>(),
            "operations": summary.operations,
            "per_second": summary.rate,
            "p50_us": micros(summary.p50),
            "p99_us": micros(summary.p99),
            "p999_us": micros(summary.p999),
            "max_us": micros(summary.max),
            "server_cpu_us_per_operation": summary.server_cpu_us,
            "own_cpu_us_per_operation": summary.own_cpu_us,
            "resident_before": summary.resident.map(|(before, _)| before),
            "resident_after": summary.resident.map(|(_, after)| after),
        })
    }
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}

/// The name of a workload as the command line spells it.
pub(crate) fn workload_name(workload: Workload) -> &'static str {
    match workload {
        Workload::Create => "create",
        Workload::Set => "set",
        Workload::Get => "get",
        Workload::Mixed => "mixed",
        Workload::WatchFanout => "watch-fanout",
        Workload::LockHandover => "lock-handover",
    }
}

/// The line above the results.
pub(crate) fn heading() -> String {
    format!(
        "{:<14}{:>8}  {:>11}{:>10}{:>10}{:>10}{:>10}{:>11}{:>9}{:>16}",
        "workload", "shape", "ops/s", "p50", "p99", "p999", "max", "srv cpu/op", "own cpu", "srv memory"
    )
}

/// One line of results.
fn line(measured: &Measured) -> String {
    let summary = measured.summary();
    let server_cpu = summary.server_cpu_us.map_or_else(|| "-".to_owned(), |us| format!("{us:.2} µs"));
    let memory = summary
        .resident
        .map_or_else(|| "-".to_owned(), |(before, after)| format!("{}→{} MiB", before >> 20, after >> 20));
    format!(
        "{:<14}{:>8}  {:>11.0}{:>10}{:>10}{:>10}{:>10}{:>11}{:>9}{:>16}",
        workload_name(measured.workload),
        shape(measured.shape),
        summary.rate,
        time(summary.p50),
        time(summary.p99),
        time(summary.p999),
        time(summary.max),
        server_cpu,
        format!("{:.2} µs", summary.own_cpu_us),
        memory,
    )
}

/// The lines of all servers and, when there are two, what they are to each other.
pub(crate) fn lines(all: &[Measured]) -> String {
    match all {
        [first, second] => {
            let lines = [first, second].map(|measured| format!("{}  {}\n", line(measured), measured.server));
            format!("{}{}\n", lines.concat(), ratios(first, second))
        }
        _ => all.iter().map(|measured| line(measured) + "\n").collect(),
    }
}

/// How the first of two servers compares with the second: above 1 means more operations, or longer, or more CPU.
fn ratios(first: &Measured, second: &Measured) -> String {
    let (a, b) = (first.summary(), second.summary());
    let mut line = format!(
        "  {} / {}: ops/s ×{:.2}, p50 ×{:.2}, p99 ×{:.2}",
        first.server,
        second.server,
        a.rate / b.rate.max(1e-9),
        ratio(a.p50, b.p50),
        ratio(a.p99, b.p99)
    );
    if let Some((ours, theirs)) = a.server_cpu_us.zip(b.server_cpu_us) {
        line.push_str(&format!(", cpu/op ×{:.2}", ours / theirs.max(1e-9)));
    }
    line
}

fn ratio(first: Duration, second: Duration) -> f64 {
    first.as_secs_f64() / second.as_secs_f64().max(1e-9)
}

fn shape(shape: Shape) -> String {
    format!("{}×{}", shape.sessions, shape.in_flight)
}

/// A time with three digits and the unit that suits it.
fn time(time: Duration) -> String {
    let nanos = time.as_nanos() as f64;
    let (value, unit) = match nanos {
        ..1e3 => (nanos, "ns"),
        ..1e6 => (nanos / 1e3, "µs"),
        ..1e9 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::load::Tally;

    fn measured(server: &str, nanos: u64, cpu_ms: u64) -> Measured {
        let mut tally = Tally::default();
        for _ in 0..1000 {
            tally.latency.record(nanos);
        }
        let round = Outcome {
            tally,
            elapsed: Duration::from_millis(10),
            server_cpu: Some(Duration::from_millis(cpu_ms)),
            own_cpu: Duration::from_millis(1),
            resident: Some((1 << 20, 3 << 20)),
        };
        let shape = Shape { sessions: 30, in_flight: 32 };
        Measured { workload: Workload::Set, shape, server: server.into(), rounds: vec![round] }
    }

    #[test]
    fn lines_and_ratios_read_well() {
        let (fast, slow) = (measured("a:1", 50, 8), measured("b:2", 100, 32));
        assert_eq!(
            line(&fast),
            "set              30×32       100000   50.0 ns   50.0 ns   50.0 ns   50.0 ns    8.00 µs  1.00 µs         1→3 MiB"
        );
        assert_eq!(ratios(&fast, &slow), "  a:1 / b:2: ops/s ×1.00, p50 ×0.50, p99 ×0.50, cpu/op ×0.25");
        assert_eq!(heading().chars().count(), line(&fast).chars().count());
        let both = lines(&[fast, slow]);
        assert!(both.contains("1→3 MiB  a:1\n") && both.contains("1→3 MiB  b:2\n  a:1 / b:2: "), "{both}");
        let fast = measured("a:1", 50, 8);
        assert_eq!(lines(&[measured("a:1", 50, 8)]), format!("{}\n", line(&fast)));
        assert_eq!(fast.json()["server_cpu_us_per_operation"], 8.0);
    }

    #[test]
    fn times_have_a_fitting_unit() {
        let shown: Vec<String> = [7, 1_500, 45_600, 999_000_000, 2_000_000_000]
            .into_iter()
            .map(|nanos| time(Duration::from_nanos(nanos)))
            .collect();
        assert_eq!(shown, ["7.00 ns", "1.50 µs", "45.6 µs", "999 ms", "2.00 s"]);
    }
}
