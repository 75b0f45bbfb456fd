//! A program that shows a difference made small: as few steps and requests as still show one.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::pair::Pair;
use super::program::{Program, Step};
use super::run::Difference;

/// Shrinking may take so long.
const TIME_MAX: Duration = Duration::from_secs(120);

/// A program and the difference that it shows.
#[derive(Debug)]
pub struct Found {
    /// The program.
    pub program: Program,
    /// What it shows; nothing when it does not show it again.
    pub difference: Option<Difference>,
}

/// What tells one difference from another, so that shrinking does not slip to one that is easier to find.
fn kind_of(difference: &Difference) -> (Option<i32>, Option<i32>) {
    let error =
        |heard: &[super::Heard]| heard.get(difference.at).and_then(super::Heard::error).map(|error| error.0);
    (error(&difference.theirs), error(&difference.ours))
}

/// Shrinks a program that showed this difference; the pair comes back clean.
///
/// # Errors
/// When a server does not start.
pub fn shrink(pair: Pair, program: &Program, difference: &Difference) -> Result<(Pair, Found)> {
    let deadline = Instant::now() + TIME_MAX;
    let wanted = kind_of(difference);
    let mut runner = Runner { pair };
    let mut found = Found { program: program.clone(), difference: None };
    let mut piece = program.steps.len().max(1);
    found.program.steps.truncate(difference.step + 1);
    while piece > 0 && Instant::now() < deadline {
        let mut at = 0;
        while at < found.program.steps.len() && Instant::now() < deadline {
            let mut smaller = found.program.clone();
            let end = (at + piece).min(smaller.steps.len());
            smaller.steps.drain(at..end);
            if !runner.try_one(smaller, wanted, &mut found)? {
                at += piece;
            }
        }
        piece /= 2;
    }
    for at in (0..found.program.steps.len()).rev() {
        for inner in (0..found.program.steps[at].asks().len()).rev() {
            let mut smaller = found.program.clone();
            if let Step::Ask { asks, .. } = &mut smaller.steps[at]
                && asks.len() > 1
                && Instant::now() < deadline
            {
                asks.remove(inner);
                runner.try_one(smaller, wanted, &mut found)?;
            }
        }
    }
    if found.difference.is_none() {
        let whole = found.program.clone();
        runner.try_one(whole, wanted, &mut found)?;
    }
    Ok((runner.pair, found))
}

struct Runner {
    pair: Pair,
}

impl Runner {
    /// Keeps the smaller program if it shows the same kind of difference.
    fn try_one(
        &mut self,
        program: Program,
        wanted: (Option<i32>, Option<i32>),
        found: &mut Found,
    ) -> Result<bool> {
        let outcome = self.pair.run(&program)?;
        if outcome.spoiled {
            replace(&mut self.pair)?;
        }
        let difference = outcome.difference.filter(|difference| kind_of(difference) == wanted);
        if difference.is_none() {
            return Ok(false);
        }
        *found = Found { program, difference };
        Ok(true)
    }
}

fn replace(pair: &mut Pair) -> Result<()> {
    *pair = Pair::start(pair.peer)?;
    Ok(())
}
