//! `cargo sim`: one seed with its story, or as many as fit into a time.
//!
//! ```text
//! cargo sim 1234                          one seed; when it fails, what happened, made small
//! cargo sim 1234 --trace                  every step of it
//! cargo sim 1000..2000                    a range of seeds
//! cargo sim --time 600 --jobs 2           as many seeds as ten minutes hold
//! ```
//!
//! Further options shape all plans alike: `--servers N`, `--observers N`, `--clients N`, `--for MS`,
//! `--without FAULT,FAULT`, `--only FAULT,FAULT`. `--keep-going` counts failures instead of stopping at the first, `--brief`
//! tells no story of them.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use docent_integration_tests::sim::{CrashPoint, Failure, Fault, Plan, Stats, explain, run};

/// Steps that a run takes in which things had time to go wrong.
const LONG: u64 = 2_000;

/// What the command line asks for.
#[derive(Clone, Debug)]
struct Options {
    first: u64,
    end: Option<u64>,
    trace: bool,
    jobs: usize,
    time: Option<Duration>,
    servers: Option<u64>,
    observers: Option<u64>,
    clients: Option<u32>,
    chaos_ms: Option<i64>,
    without: Vec<Fault>,
    only: Option<Vec<Fault>>,
    keep_going: bool,
    brief: bool,
}

fn parse() -> Result<Options, String> {
    let mut options = Options {
        first: 0,
        end: None,
        trace: false,
        jobs: 1,
        time: None,
        servers: None,
        observers: None,
        clients: None,
        chaos_ms: None,
        without: Vec::new(),
        only: None,
        keep_going: false,
        brief: false,
    };
    let mut words = std::env::args().skip(1);
    let mut seeds = false;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match &*word {
            "--trace" => options.trace = true,
            "--keep-going" => options.keep_going = true,
            "--brief" => options.brief = true,
            "--jobs" => options.jobs = number(&value()?)?,
            "--time" => options.time = Some(Duration::from_secs(number(&value()?)?)),
            "--servers" => options.servers = Some(number(&value()?)?),
            "--observers" => options.observers = Some(number(&value()?)?),
            "--clients" => options.clients = Some(number(&value()?)?),
            "--for" => options.chaos_ms = Some(number(&value()?)?),
            "--without" => options.without = faults(&value()?)?,
            "--only" => options.only = Some(faults(&value()?)?),
            word => {
                seeds = true;
                match word.split_once("..") {
                    Some((first, end)) => {
                        options.first = number(first)?;
                        options.end = Some(number(end)?);
                    }
                    None => {
                        options.first = number(word)?;
                        options.end = Some(options.first + 1);
                    }
                }
            }
        }
    }
    if !seeds && options.time.is_none() {
        return Err("say a seed, a range of seeds such as 0..100, or --time SECONDS".to_owned());
    }
    if !seeds {
        options.first = fastrand::u64(..1 << 40);
    }
    Ok(options)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}

fn faults(text: &str) -> Result<Vec<Fault>, String> {
    text.split(',').map(str::parse).collect()
}

impl Options {
    fn plan(&self, seed: u64) -> Plan {
        let mut plan = Plan::of(seed, self.servers);
        plan.observers = self.observers.unwrap_or(plan.observers);
        plan.clients = self.clients.unwrap_or(plan.clients).max(1);
        plan.chaos_ms = self.chaos_ms.unwrap_or(plan.chaos_ms);
        plan.faults.retain(|fault, _| !self.without.contains(fault));
        if let Some(only) = &self.only {
            plan.faults.retain(|fault, _| only.contains(fault));
        }
        plan
    }
}

/// What all threads add to.
#[derive(Default)]
struct Total {
    stats: Stats,
    seeds: u64,
    /// Those that took as many steps as [`LONG`].
    long: u64,
    failed: BTreeMap<&'static str, Vec<u64>>,
    first: Option<(Plan, Failure)>,
}

fn main() -> ExitCode {
    let options = match parse() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    // A panic of a node is a finding that is told with its story.
    std::panic::set_hook(Box::new(|_| {}));
    if options.trace {
        let ran = run(&options.plan(options.first), true, true);
        println!("hash {:016x}, {} steps, {:?}", ran.hash, ran.stats.steps, ran.result);
        return if ran.result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let began = Instant::now();
    let total = run_all(&options, began);
    summary(&total, began.elapsed());
    match &total.first {
        None => ExitCode::SUCCESS,
        Some(_) if options.brief => ExitCode::FAILURE,
        Some((plan, failure)) => {
            println!("{}", explain(plan, failure));
            ExitCode::FAILURE
        }
    }
}

fn run_all(options: &Options, began: Instant) -> Total {
    let total = Mutex::new(Total::default());
    let next = AtomicU64::new(options.first);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let late = options.time.is_some_and(|time| began.elapsed() >= time);
                    let over = options.end.is_some_and(|end| seed >= end);
                    if late || over || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let plan = options.plan(seed);
                    let ran = run(&plan, false, false);
                    // The lock is only poisoned by a panic, and nothing panics while it is held.
                    let mut total = total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    total.seeds += 1;
                    total.long += u64::from(ran.stats.steps >= LONG);
                    total.stats.add(&ran.stats);
                    if let Err(failure) = ran.result {
                        total.failed.entry(failure.rule).or_default().push(seed);
                        total.first.get_or_insert((plan, failure));
                        if !options.keep_going {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn summary(total: &Total, took: Duration) {
    let Stats {
        steps,
        ms,
        faults,
        leaders,
        syncs,
        log_reads,
        in_pieces,
        wiped,
        points,
        boots,
        changes,
        committed,
        answers,
        sessions_ended,
        undecided,
        ..
    } = &total.stats;
    let kinds: Vec<String> = faults.iter().map(|(fault, count)| format!("{fault} {count}")).collect();
    let died: u64 = points.values().sum();
    println!(
        "{} seeds in {:.1} s, {steps} steps ({} seeds took {LONG} or more), {} s simulated; faults: {}; leaders {leaders}, boots {boots}, syncs by diff {}, \
         trunc {}, snap {} ({in_pieces} in pieces), reads of the log {} ({} in vain); {wiped} wiped, {died} died at {} of {} \
         crash points; {changes} changes of the members; {committed} transactions, {answers} answers, {sessions_ended} sessions ended, {undecided} registers \
         undecided",
        total.seeds,
        took.as_secs_f64(),
        total.long,
        ms / 1_000,
        if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") },
        syncs[0],
        syncs[1],
        syncs[2],
        log_reads[0] + log_reads[1],
        log_reads[1],
        points.len(),
        CrashPoint::ALL.len(),
    );
    for (rule, seeds) in &total.failed {
        println!("FAILED: {rule}: {} seeds, such as {:?}", seeds.len(), &seeds[..seeds.len().min(8)]);
    }
}
