//! Apache's server and ours must say the same in pinned programs, but for what is written down, and that must be there.
//! `cargo differential` makes new programs.

use std::path::Path;

use anyhow::Result;
use docent_integration_tests::availability::Suite;
use docent_integration_tests::differential::{
    Example, KNOWN, Known, Pair, Peer, STEPS, command, examples, generate,
};

/// Seeds of programs that are run each time, the first ones because programs begin somewhere, the others because they
/// showed a difference once.
const SEEDS: std::ops::Range<u64> = 1..9;

fn hold_side_by_side(peer: Peer) -> Result<()> {
    let Some(_suite) = Suite::begin(&format!("differential {}", peer.version()), &peer.needs()) else {
        return Ok(());
    };
    let mut pair = Pair::start(peer)?;
    for seed in SEEDS {
        let outcome = pair.run(&generate(peer, seed, STEPS))?;
        if let Some(difference) = outcome.difference {
            panic!("{difference}\nmade small by: {}", command(peer, seed));
        }
        if outcome.spoiled {
            pair = pair.renew()?;
        }
    }
    Ok(())
}

#[test]
fn apache_38_says_the_same() -> Result<()> {
    hold_side_by_side(Peer::V38)
}

#[test]
fn apache_newer_says_the_same() -> Result<()> {
    hold_side_by_side(Peer::V39)
}

/// Runs an example until it shows its difference; how often it did.
fn show(mut pair: Pair, example: &Example) -> Result<(Pair, u64)> {
    let mut shown = 0;
    for program in example.programs(pair.peer()) {
        let outcome = pair.run(&program)?;
        if let Some(difference) = outcome.difference {
            panic!("{}: {difference}\n{program}", example.name);
        }
        if outcome.spoiled {
            pair = pair.renew()?;
        }
        shown = outcome.known.get(example.name).copied().unwrap_or(0);
        if shown > 0 {
            break;
        }
    }
    Ok((pair, shown))
}

fn hold_what_is_known(peer: Peer) -> Result<()> {
    let name = format!("known differences from {}", peer.version());
    let Some(_suite) = Suite::begin(&name, &peer.needs()) else { return Ok(()) };
    let mut pair = Pair::start(peer)?;
    for example in examples() {
        let known = KNOWN.iter().find(|known| known.name == example.name);
        let expected = known.is_some_and(|known| known.peers.contains(&peer));
        if !expected && example.is_by_chance() {
            continue;
        }
        let shown;
        (pair, shown) = show(pair, &example)?;
        assert_eq!(shown > 0, expected, "{} with {}: is it as written?", example.name, peer.version());
    }
    Ok(())
}

#[test]
fn apache_38_differs_as_written() -> Result<()> {
    hold_what_is_known(Peer::V38)
}

#[test]
fn apache_newer_differs_as_written() -> Result<()> {
    hold_what_is_known(Peer::V39)
}

#[test]
fn every_known_difference_has_an_example_and_every_example_a_difference() {
    let examples = examples();
    for known in KNOWN {
        assert!(examples.iter().any(|one| one.name == known.name), "{:?} has no example", known.name);
    }
    for example in &examples {
        let known: Vec<&Known> = KNOWN.iter().filter(|known| known.name == example.name).collect();
        assert_eq!(known.len(), 1, "{:?} is known once", example.name);
    }
}

#[test]
fn every_known_difference_is_in_the_document() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
    let text = std::fs::read_to_string(&path).expect("docs/compatibility.md is there");
    for known in KNOWN {
        let row = format!("| {} |", known.name);
        let rows = text.lines().filter(|line| line.starts_with(&row)).count();
        assert_eq!(rows, 1, "docs/compatibility.md has one row that begins with {row}");
    }
}
