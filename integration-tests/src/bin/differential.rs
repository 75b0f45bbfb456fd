//! `cargo differential`: programs of requests on Apache's server and on ours, and where they differ.
//!
//! ```text
//! cargo differential 1234 --peer 3.9      one seed; where the servers differ, the program made small, and both answers
//! cargo differential 0..1000              a range of seeds, against both releases in turn
//! cargo differential --time 180           as many fresh seeds as three minutes hold
//! ```
//!
//! `--steps N` makes programs longer or shorter, `--show` prints a program and runs nothing, `--keep-going` goes on behind
//! a difference, `--brief` does not make it small. The servers must be installed: `.ci/install-peers`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use docent_integration_tests::differential::{
    Difference, Pair, Peer, Program, STEPS, command, generate, shrink,
};

const USAGE: &str =
    "usage: differential [SEED | FIRST..END] [--time SECONDS] [--peer 3.8|3.9] [--steps N] [--show]
     [--keep-going] [--brief]";

/// What the command line asks for.
struct Options {
    first: u64,
    end: Option<u64>,
    time: Option<Duration>,
    peers: Vec<Peer>,
    steps: usize,
    show: bool,
    keep_going: bool,
    brief: bool,
}

impl Options {
    fn parse() -> Result<Options> {
        let mut options = Options {
            first: fastrand::u64(..1 << 40),
            end: None,
            time: None,
            peers: Vec::new(),
            steps: STEPS,
            show: false,
            keep_going: false,
            brief: false,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value; {USAGE}"));
            match word.as_str() {
                "--time" => options.time = Some(Duration::from_secs(value()?.parse().context(USAGE)?)),
                "--steps" => options.steps = value()?.parse().context(USAGE)?,
                "--peer" => options.peers.push(peer(&value()?)?),
                "--show" => options.show = true,
                "--brief" => options.brief = true,
                "--keep-going" => options.keep_going = true,
                seeds => (options.first, options.end) = range(seeds)?,
            }
        }
        if options.end.is_none() && options.time.is_none() {
            bail!(USAGE);
        }
        if options.peers.is_empty() {
            options.peers = Peer::ALL.to_vec();
        }
        Ok(options)
    }
}

fn peer(version: &str) -> Result<Peer> {
    Peer::ALL
        .into_iter()
        .find(|peer| peer.version() == version)
        .with_context(|| format!("no {version}; {USAGE}"))
}

fn range(text: &str) -> Result<(u64, Option<u64>)> {
    Ok(match text.split_once("..") {
        Some((first, end)) => (first.parse().context(USAGE)?, Some(end.parse().context(USAGE)?)),
        None => {
            let seed: u64 = text.parse().context(USAGE)?;
            (seed, Some(seed + 1))
        }
    })
}

/// What was counted against one peer.
#[derive(Default)]
struct Total {
    programs: u64,
    asked: u64,
    known: BTreeMap<&'static str, u64>,
    differing: Vec<u64>,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse()?;
    let mut failed = false;
    for peer in &options.peers {
        let share = options.time.map(|time| time / options.peers.len() as u32);
        failed |= !one_peer(&options, *peer, share)?.differing.is_empty();
        if failed && !options.keep_going {
            break;
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn one_peer(options: &Options, peer: Peer, time: Option<Duration>) -> Result<Total> {
    let mut total = Total::default();
    if options.show {
        print!("{}", generate(peer, options.first, options.steps));
        return Ok(total);
    }
    let mut pair = Pair::start(peer)?;
    println!("against {} from seed {}", peer.version(), options.first);
    let began = Instant::now();
    for seed in options.first..options.end.unwrap_or(u64::MAX) {
        if time.is_some_and(|time| began.elapsed() >= time) {
            break;
        }
        let program = generate(peer, seed, options.steps);
        let outcome = match pair.run(&program) {
            Ok(outcome) => outcome,
            Err(error) => {
                println!("{}\n{}", pair.apache_log(), command(peer, seed));
                return Err(error);
            }
        };
        total.programs += 1;
        total.asked += outcome.asked;
        for (name, count) in outcome.known {
            *total.known.entry(name).or_default() += count;
        }
        if let Some(difference) = &outcome.difference {
            total.differing.push(seed);
            if outcome.spoiled {
                pair = pair.renew()?;
            }
            if options.brief {
                println!("seed {seed}: {}", difference.brief());
            } else {
                pair = tell(pair, &program, difference)?;
            }
            if !options.keep_going {
                break;
            }
        } else if outcome.spoiled {
            pair = pair.renew()?;
        }
    }
    let took = began.elapsed().as_secs_f64();
    println!(
        "against {}, seeds {}..{}: {} programs, {} requests in {took:.1} s; {} differed",
        peer.version(),
        options.first,
        options.first + total.programs,
        total.programs,
        total.asked,
        total.differing.len()
    );
    for (name, count) in &total.known {
        println!("  known, {count} times: {name}");
    }
    Ok(total)
}

/// Tells a difference, made small, and gives back servers that are clean.
fn tell(pair: Pair, program: &Program, difference: &Difference) -> Result<Pair> {
    println!("seed {} differs, {difference}", program.seed);
    let (pair, found) = shrink(pair, program, difference)?;
    match &found.difference {
        Some(smallest) => println!("shrunk to {}\n{smallest}", found.program),
        None => println!("it did not show again"),
    }
    println!("again: {}", command(pair.peer(), program.seed));
    Ok(pair)
}
