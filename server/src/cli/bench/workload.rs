//! The measured operations: which nodes a run needs, which requests its sessions make, and how it is measured.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use docent::Version;
use docent::proto::Request;

use super::control::{Control, Target, create};
use super::frames::{COUNTER, Template};
use super::load::{Plan, Session, Step, Tally, Until, drive};
use super::pace::Pace;
use super::usage::Process;

/// Nodes that each session of `set`, `get` and `mixed` goes round.
const NODES_PER_SESSION: usize = 8;
/// In `mixed`, one request of so many is a set, the others are gets.
const MIXED_SET_EVERY: usize = 10;

/// What the sessions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// Create persistent nodes.
    Create,
    /// Set the data of a few nodes.
    Set,
    /// Read the data of a few nodes.
    Get,
    /// Nine reads, then one set.
    Mixed,
    /// Many watch one node: from the set to the last event.
    WatchFanout,
    /// Contenders pass one ordered lock on.
    LockHandover,
}

/// How many sessions, and how many requests each keeps in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Sessions, each on its own connection.
    pub(crate) sessions: usize,
    /// Requests in flight per session.
    pub(crate) in_flight: usize,
}

/// How long a run takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Length {
    /// Counted for so long, after a warm-up.
    Time {
        /// The counted time.
        counted: Duration,
        /// The time before it.
        warm_up: Duration,
    },
    /// So many requests in all, all counted.
    Count(u64),
}

/// One measurement.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    /// The servers.
    pub(crate) target: &'a Target,
    /// The node that everything lies under.
    pub(crate) base: &'a str,
    /// What is done.
    pub(crate) workload: Workload,
    /// By how many.
    pub(crate) shape: Shape,
    /// Bytes of data per node.
    pub(crate) size: usize,
    /// For how long.
    pub(crate) length: Length,
    /// The offered load of all sessions together, requests per second. `None`: as much as the server takes.
    pub(crate) rate: Option<u64>,
    /// The most nodes that `create` makes.
    pub(crate) nodes_max: u64,
    /// Threads that the sessions are dealt out to.
    pub(crate) threads: usize,
    /// The server process, when its cost shall be measured.
    pub(crate) server: Option<Process>,
    /// Ends the run early.
    pub(crate) stop: &'a AtomicBool,
}

/// What a measurement found.
pub(crate) struct Outcome {
    /// Latencies of the counted replies.
    pub(crate) tally: Tally,
    /// The counted time.
    pub(crate) elapsed: Duration,
    /// CPU time of the server within the counted time.
    pub(crate) server_cpu: Option<Duration>,
    /// CPU time of this process within the counted time.
    pub(crate) own_cpu: Duration,
    /// Resident memory of the server before and after, bytes.
    pub(crate) resident: Option<(u64, u64)>,
}

impl Outcome {
    /// Counted replies.
    pub(crate) fn operations(&self) -> u64 {
        self.tally.latency.total()
    }

    /// Counted replies per second.
    pub(crate) fn rate(&self) -> f64 {
        self.operations() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// CPU time per operation, microseconds.
    pub(crate) fn per_operation(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / (self.operations().max(1) as f64)
    }
}

/// The folder of one session.
fn folder(base: &str, session: usize) -> String {
    format!("{base}/s{session:04}")
}

fn node(base: &str, session: usize, node: usize) -> String {
    format!("{}/d{node}", folder(base, session))
}

/// What a session of this run does, again and again.
fn cycle(run: &Run<'_>, session: usize) -> Vec<Step> {
    let data = Bytes::from(vec![b'x'; run.size]);
    let get = |index: usize| Step {
        template: Template::new(&Request::GetData { path: node(run.base, session, index), watch: false }),
        data_length: Some(run.size),
    };
    let set = |index: usize| {
        let path = node(run.base, session, index);
        let request = Request::SetData { path, data: Some(data.clone()), version: Version::ANY };
        Step { template: Template::new(&request), data_length: None }
    };
    match run.workload {
        Workload::Create => {
            let path = format!("{}/n{COUNTER}", folder(run.base, session));
            vec![Step { template: Template::new(&create(&path, data)), data_length: None }]
        }
        Workload::Set => (0..NODES_PER_SESSION).map(set).collect(),
        Workload::Get => (0..NODES_PER_SESSION).map(get).collect(),
        Workload::Mixed => (0..NODES_PER_SESSION)
            .flat_map(|index| {
                let reads = (1..MIXED_SET_EVERY).map(move |_| get(index));
                reads.chain(std::iter::once(set(index)))
            })
            .collect(),
        // These have drivers of their own.
        Workload::WatchFanout | Workload::LockHandover => Vec::new(),
    }
}

/// Makes the nodes that a run needs.
fn prepare(run: &Run<'_>, control: &mut Control) -> Result<()> {
    let data = Bytes::from(vec![b'x'; run.size]);
    let mut paths = vec![run.base.to_owned()];
    for session in 0..run.shape.sessions {
        paths.push(folder(run.base, session));
        if run.workload != Workload::Create {
            paths.extend((0..NODES_PER_SESSION).map(|index| node(run.base, session, index)));
        }
    }
    control.create_all(&paths, &data)
}

/// Prepares, measures and clears away.
///
/// # Errors
/// A connection breaks or a reply is wrong. What was created is cleared away all the same, if the server lets us.
pub(crate) fn measure(run: &Run<'_>) -> Result<Outcome> {
    let mut control = Control::open(run.target)?;
    let outcome = prepare(run, &mut control).and_then(|()| measure_prepared(run));
    // The session may have timed out while the measurement ran: a fresh one clears away.
    let cleared = Control::open(run.target).and_then(|mut control| {
        control.delete_all(run.base)?;
        control.close()
    });
    let outcome = outcome?;
    cleared.with_context(|| format!("clearing {} away", run.base))?;
    Ok(outcome)
}

fn measure_prepared(run: &Run<'_>) -> Result<Outcome> {
    let threads = run.threads.clamp(1, run.shape.sessions);
    let mut groups: Vec<Vec<Session>> = (0..threads).map(|_| Vec::new()).collect();
    for index in 0..run.shape.sessions {
        let session = Session::open(run.target.host(index), cycle(run, index))?;
        let pace = run.rate.map(|rate| Pace::new(rate, run.shape.sessions, index));
        groups[index % threads].push(session.paced(pace));
    }
    let resident_before = run.server.map(Process::resident).transpose()?;
    let begin = Instant::now();
    let (count_from, until) = match run.length {
        Length::Time { counted, warm_up } => (begin + warm_up, Until::Time(begin + warm_up + counted)),
        Length::Count(count) => (begin, Until::Count(count.div_ceil(run.shape.sessions as u64))),
    };
    let requests_max = match run.workload {
        Workload::Create => run.nodes_max.div_ceil(run.shape.sessions as u64),
        _ => u64::MAX,
    };
    let plan = Plan { in_flight: run.shape.in_flight, count_from, until, requests_max };
    let (tally, meter) = std::thread::scope(|scope| -> Result<(Tally, Meter)> {
        let workers: Vec<_> =
            groups.iter_mut().map(|sessions| scope.spawn(move || drive(sessions, &plan, run.stop))).collect();
        let meter = Meter::start(run, &plan)?;
        let meter = match plan.until {
            Until::Time(end) => {
                meter.finish_at(run, end, || workers.iter().all(|worker| worker.is_finished()))?
            }
            Until::Count(_) => meter,
        };
        let mut tally = Tally::default();
        for worker in workers {
            tally.merge(&worker.join().map_err(|_| anyhow!("a load thread panicked"))??);
        }
        Ok((tally, meter.finish(run)?))
    })?;
    let elapsed = match plan.until {
        Until::Time(end) => tally.last_reply.map_or(end, |last| last.min(end)) - count_from,
        Until::Count(_) => tally.last_reply.map_or(Duration::ZERO, |last| last - count_from),
    };
    let resident = match resident_before {
        Some(before) => run.server.map(Process::resident).transpose()?.map(|after| (before, after)),
        None => None,
    };
    Ok(Outcome { tally, elapsed, server_cpu: meter.server_cpu, own_cpu: meter.own_cpu, resident })
}

/// CPU times at the begin of the counted time, and after [`Meter::finish`] the differences.
struct Meter {
    server_cpu: Option<Duration>,
    own_cpu: Duration,
    finished: bool,
}

impl Meter {
    /// Waits for the counted time to begin.
    fn start(run: &Run<'_>, plan: &Plan) -> Result<Meter> {
        std::thread::sleep(plan.count_from.saturating_duration_since(Instant::now()));
        let server_cpu = run.server.map(Process::cpu_time).transpose()?;
        Ok(Meter { server_cpu, own_cpu: Process::own().cpu_time()?, finished: false })
    }

    /// Waits for the counted time to end, unless all threads end before.
    fn finish_at(self, run: &Run<'_>, end: Instant, all_ended: impl Fn() -> bool) -> Result<Meter> {
        const LOOK_UP: Duration = Duration::from_millis(20);
        while !all_ended() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(LOOK_UP));
        }
        self.finish(run)
    }

    fn finish(self, run: &Run<'_>) -> Result<Meter> {
        if self.finished {
            return Ok(self);
        }
        let server_now = run.server.map(Process::cpu_time).transpose()?;
        let server_cpu = server_now.zip(self.server_cpu).map(|(now, before)| now.saturating_sub(before));
        let own_cpu = Process::own().cpu_time()?.saturating_sub(self.own_cpu);
        Ok(Meter { server_cpu, own_cpu, finished: true })
    }
}
