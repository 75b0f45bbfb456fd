//! Whole ensembles in one thread, from one seed.
//!
//! A server is a value ([`docent_server::node::Node`]); here many of them live in a world that owns time, the network, the
//! disks and the clients, and in which things go wrong. The nodes, the storage's code and the bytes it writes are those of
//! production; sockets, threads and clocks are not there. Everything that a run does follows from its [`Plan`], and the plan
//! from a seed: two runs of one plan are the same, step by step, which their hashes show.
//!
//! | file | what it is for |
//! |---|---|
//! | `plan` | what a seed stands for |
//! | `crash_points` | the moments between a decision, its disk and its word |
//! | `world` | time, the queue of what will happen, the phases of a run |
//! | `servers`, `wires`, `people`, `incidents` | what moves in it: servers, messages, clients, faults |
//! | `members`, `roster`, `operator` | who belongs to the ensemble, whom a server calls, and who changes it |
//! | `disk`, `network`, `clients` | the books: one disk, all links, one client |
//! | `keeping` | containers, times to live and quotas: what clients do with them, and what must hold |
//! | `checks`, `answers`, `config_checks`, `watching`, `model`, `linear` | what must hold |
//! | `trace`, `shrink` | what is left of a run; how a failing one is made small |
//!
//! Left out: what only the real shell does (sockets, threads, back-pressure), and disks that rot.

mod answers;
mod checks;
mod clients;
mod config_checks;
mod crash_points;
mod disk;
mod incidents;
mod keeping;
mod linear;
mod members;
mod model;
mod network;
mod operator;
mod people;
mod plan;
mod roster;
mod servers;
mod shrink;
mod trace;
mod watching;
mod wires;
mod world;

pub use crash_points::CrashPoint;
pub use plan::{Fault, Plan};
pub use shrink::shrink;
pub use world::Stats;

use std::panic::{AssertUnwindSafe, catch_unwind};

use checks::Violation;
use trace::Trace;
use world::World;

/// How a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The rule that was broken.
    pub rule: &'static str,
    /// How.
    pub text: String,
    /// When, milliseconds of simulated time.
    pub at_ms: i64,
}

/// What is left of a run.
#[derive(Debug)]
pub struct Run {
    /// The number that tells two runs apart.
    pub hash: u64,
    /// What was counted; incomplete when the run failed.
    pub stats: Stats,
    /// Whether all rules held.
    pub result: Result<(), Failure>,
    /// The last lines of its story, if it was asked for.
    pub story: Vec<String>,
}

/// Makes a run. With `story` its last lines are kept; with `print` all lines are printed as they come.
#[must_use]
pub fn run(plan: &Plan, story: bool, print: bool) -> Run {
    let mut world = World::new(plan, Trace::new(story, print));
    let ended = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        Err(Violation::new("the world does not panic", servers::panic_text(&*panic)))
    });
    let at_ms = world.now / 1_000;
    let result = ended.map_err(|Violation { rule, text }| Failure { rule, text, at_ms });
    Run { hash: world.trace.hash(), stats: world.stats, result, story: world.trace.into_story() }
}

/// Looks into a failing run: shrinks it and tells its story, ending in the command that makes it again.
#[must_use]
pub fn explain(plan: &Plan, failure: &Failure) -> String {
    let (small, found, runs) = shrink(plan, failure);
    let story = run(&small, true, false).story.join("\n");
    format!(
        "{story}\n\n{plan}\nbreaks the rule: {}\n  {}\nshrunk in {runs} runs to {small}\n  {}\nagain: {}",
        failure.rule,
        failure.text,
        found.text,
        small.command()
    )
}
