//! `docent bench`: drives any ZooKeeper endpoint and says how fast it is, how long answers take, and what the server
//! process costs. With `--compare` it measures two servers in turns, so that both see the same machine.
//!
//! It speaks the wire directly ([`load`]) except for the lock handovers, which go through the recipes as a program's
//! would. Everything happens below one node of its own, which is cleared away at the end, also after an error or an
//! interrupt.

mod control;
mod crowd;
mod fanout;
mod frames;
mod handover;
mod histogram;
mod load;
mod memory;
mod pace;
mod report;
mod usage;
mod workload;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::print::print;
pub(crate) use control::{Target, connect};
use report::Measured;
use usage::Process;
use workload::{Length, Outcome, Run, Shape, Workload};

/// What is measured when no shape is given: one alone, many alone, many with many in flight.
const SHAPES: [Shape; 3] = [
    Shape { sessions: 1, in_flight: 1 },
    Shape { sessions: 30, in_flight: 1 },
    Shape { sessions: 30, in_flight: 32 },
];
/// Counted rounds of time begin after so long.
const WARM_UP: Duration = Duration::from_secs(1);
/// Watching sessions, below Apache's limit of 60 connections per address.
const WATCHERS: usize = 50;
/// Contenders of the lock.
const CONTENDERS: usize = 10;

/// Arguments of `docent bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// What to measure
    #[arg(value_enum, default_values = ["create", "set", "get"])]
    workloads: Vec<Workload>,
    /// Sessions, each on its own connection; without it 1×1, 30×1 and 30×32 are measured
    #[arg(long, value_name = "N")]
    sessions: Option<usize>,
    /// Requests that each session keeps in flight
    #[arg(long, value_name = "N")]
    in_flight: Option<usize>,
    /// Bytes of data per node
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    size: usize,
    /// Seconds that each round counts
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u64,
    /// Requests that each round makes, instead of a time
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    count: Option<u64>,
    /// Requests per second that all sessions together offer, instead of as many as the server takes; latencies count
    /// from when a request was due. For create, set, get and mixed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Rounds per measurement
    #[arg(long, value_name = "N", default_value_t = 1)]
    rounds: usize,
    /// The most nodes that one round of create makes
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    nodes_max: u64,
    /// Threads of the load generator
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// The server's process on this machine: its CPU time and memory are measured, too
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// A second server, measured in turns with the first
    #[arg(long, value_name = "HOSTS")]
    compare: Option<String>,
    /// The second server's process
    #[arg(long, value_name = "PID", requires = "compare")]
    pid_b: Option<u32>,
    /// Create N nodes and report the server's memory per node, instead of the workloads (needs --pid)
    #[arg(long, value_name = "N", requires = "pid")]
    memory_nodes: Option<u64>,
    /// Open N sessions that only send heartbeats and report the server's memory per session, instead of the workloads (needs
    /// --pid)
    #[arg(long, value_name = "N", requires = "pid", conflicts_with = "memory_nodes")]
    memory_sessions: Option<u64>,
    /// Let one change fire N watches and report the longest write of others meanwhile, instead of the workloads
    #[arg(long, value_name = "N", conflicts_with_all = ["memory_nodes", "memory_sessions"])]
    watch_burst: Option<u64>,
    /// Print one JSON document instead of lines
    #[arg(long)]
    json: bool,
}

/// A server under measurement.
struct Subject {
    name: String,
    target: Target,
    process: Option<Process>,
}

impl Subject {
    fn new(connect: &str, pid: Option<u32>) -> Result<Subject> {
        let process = pid.map(Process::new);
        if let Some(process) = process {
            process.cpu_time()?;
        }
        Ok(Subject { name: connect.to_owned(), target: Target::parse(connect)?, process })
    }
}

/// Set by an interrupt: rounds end, what was created is cleared away.
static STOP: AtomicBool = AtomicBool::new(false);

/// Measures and prints.
///
/// # Errors
/// A server cannot be reached or answers wrongly.
pub(crate) fn run(args: &BenchArgs, connect: &str) -> Result<ExitCode> {
    let mut subjects = vec![Subject::new(connect, args.pid)?];
    if let Some(second) = &args.compare {
        subjects.push(Subject::new(second, args.pid_b)?);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.spawn(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            STOP.store(true, Ordering::Relaxed);
        }
    });
    let session = Session { args, runtime: &runtime, base: base_name()? };
    match (args.memory_nodes, args.memory_sessions, args.watch_burst) {
        (Some(nodes), ..) => session.memory(&subjects, nodes)?,
        (_, Some(sessions), _) => session.crowd(&subjects, sessions)?,
        (_, _, Some(watches)) => session.burst(&subjects, watches)?,
        _ => session.matrix(&subjects)?,
    }
    Ok(if STOP.load(Ordering::Relaxed) { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

/// A name below the root that no other run uses.
fn base_name() -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(format!("/docent-bench-{}-{}", std::process::id(), now.as_millis()))
}

struct Session<'a> {
    args: &'a BenchArgs,
    runtime: &'a tokio::runtime::Runtime,
    base: String,
}

impl Session<'_> {
    fn memory(&self, subjects: &[Subject], nodes: u64) -> Result<()> {
        let mut documents = Vec::new();
        for subject in subjects {
            let Some(process) = subject.process else {
                bail!("--memory-nodes needs --pid-b for {}", subject.name)
            };
            let base = format!("{}{}", subject.target.chroot(), self.base);
            let found = memory::measure(&subject.target, &base, nodes, self.args.size, process, &STOP)?;
            if self.args.json {
                documents.push(json!({
                    "server": subject.name, "nodes": found.nodes, "size": self.args.size,
                    "resident_before": found.before, "resident_after": found.after,
                    "bytes_per_node": found.per_node(),
                }));
            } else {
                print(format!(
                    "{}: {} nodes of {} bytes: {} → {} MiB resident, {:.0} bytes per node\n",
                    subject.name,
                    found.nodes,
                    self.args.size,
                    found.before >> 20,
                    found.after >> 20,
                    found.per_node()
                ))?;
            }
        }
        if self.args.json {
            print(format!("{:#}\n", json!({ "memory": documents })))?;
        }
        Ok(())
    }

    fn crowd(&self, subjects: &[Subject], sessions: u64) -> Result<()> {
        for subject in subjects {
            let Some(process) = subject.process else {
                bail!("--memory-sessions needs --pid-b for {}", subject.name)
            };
            let machine = usage::machine();
            let found = crowd::sessions(&subject.target, sessions, process, &STOP)?;
            let text = if self.args.json {
                let document = json!({
                    "server": subject.name, "machine": machine, "sessions": found.sessions,
                    "resident_before": found.server.0, "resident_after": found.server.1,
                    "bytes_per_session": found.per_session(), "own_bytes_per_session": found.own_per_session(),
                });
                format!("{document:#}\n")
            } else {
                format!(
                    "{}: {} sessions: {} → {} MiB resident, {:.0} bytes per session, and {:.0} here ({machine})\n",
                    subject.name,
                    found.sessions,
                    found.server.0 >> 20,
                    found.server.1 >> 20,
                    found.per_session(),
                    found.own_per_session()
                )
            };
            print(text)?;
        }
        Ok(())
    }

    fn burst(&self, subjects: &[Subject], watches: u64) -> Result<()> {
        for subject in subjects {
            let base = format!("{}{}", subject.target.chroot(), self.base);
            let machine = usage::machine();
            let found = crowd::burst(&subject.target, &base, watches)?;
            let ms = |took: Duration| took.as_secs_f64() * 1e3;
            let text = if self.args.json {
                let document = json!({
                    "server": subject.name, "machine": machine, "watches": found.watches, "ms": ms(found.took),
                    "longest_write_before_ms": ms(found.before.0), "writes_before": found.before.1,
                    "longest_write_during_ms": ms(found.during.0), "writes_during": found.during.1,
                });
                format!("{document:#}\n")
            } else {
                format!(
                    "{}: {} watches fired in {:.0} ms; longest write {:.1} ms of {} before, {:.1} ms of {} meanwhile \
                     ({machine})\n",
                    subject.name,
                    found.watches,
                    ms(found.took),
                    ms(found.before.0),
                    found.before.1,
                    ms(found.during.0),
                    found.during.1
                )
            };
            print(text)?;
        }
        Ok(())
    }

    fn matrix(&self, subjects: &[Subject]) -> Result<()> {
        let machine = usage::machine();
        let mut documents = Vec::new();
        if !self.args.json {
            print(format!("machine: {machine}\n{}\n", report::heading()))?;
        }
        for &workload in &self.args.workloads {
            for shape in self.shapes(workload) {
                if STOP.load(Ordering::Relaxed) {
                    break;
                }
                let all = self.measure(subjects, workload, shape)?;
                if self.args.json {
                    documents.extend(all.iter().map(Measured::json));
                } else {
                    print(report::lines(&all))?;
                }
            }
        }
        if self.args.json {
            print(format!(
                "{:#}\n",
                json!({ "machine": machine, "size": self.args.size, "results": documents })
            ))?;
        }
        Ok(())
    }

    fn shapes(&self, workload: Workload) -> Vec<Shape> {
        let (sessions, in_flight) = (self.args.sessions, self.args.in_flight);
        let one = |default: usize| vec![Shape { sessions: sessions.unwrap_or(default).max(1), in_flight: 1 }];
        match workload {
            Workload::WatchFanout => one(WATCHERS),
            Workload::LockHandover => one(CONTENDERS),
            _ if sessions.is_none() && in_flight.is_none() => SHAPES.to_vec(),
            _ => vec![Shape {
                sessions: sessions.unwrap_or(30).max(1),
                in_flight: in_flight.unwrap_or(32).max(1),
            }],
        }
    }

    /// Measures all subjects in turns: A B A B, so that what else the machine does falls on both.
    fn measure(&self, subjects: &[Subject], workload: Workload, shape: Shape) -> Result<Vec<Measured>> {
        let mut all: Vec<Measured> = subjects
            .iter()
            .map(|subject| Measured { workload, shape, server: subject.name.clone(), rounds: Vec::new() })
            .collect();
        let rounds = if subjects.len() > 1 { self.args.rounds.max(2) } else { self.args.rounds.max(1) };
        for _ in 0..rounds {
            for (subject, measured) in subjects.iter().zip(&mut all) {
                if measured.rounds.is_empty() || !STOP.load(Ordering::Relaxed) {
                    measured.rounds.push(self.round(subject, workload, shape)?);
                }
            }
        }
        Ok(all)
    }

    fn round(&self, subject: &Subject, workload: Workload, shape: Shape) -> Result<Outcome> {
        let length = match self.args.count {
            Some(count) => Length::Count(count),
            None => Length::Time { counted: Duration::from_secs(self.args.seconds.max(1)), warm_up: WARM_UP },
        };
        let base = format!("{}{}", subject.target.chroot(), self.base);
        let run = Run {
            target: &subject.target,
            base: &base,
            workload,
            shape,
            size: self.args.size,
            length,
            rate: self.args.rate,
            nodes_max: self.args.nodes_max,
            threads: self.args.threads,
            server: subject.process,
            stop: &STOP,
        };
        let name = report::workload_name(workload);
        match workload {
            Workload::WatchFanout => fanout::measure(&run),
            Workload::LockHandover => self.runtime.block_on(handover::measure(&run, &subject.name)),
            _ => workload::measure(&run),
        }
        .with_context(|| format!("{name} on {}", subject.name))
    }
}
