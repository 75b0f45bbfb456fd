//! One program on both servers, answer by answer, and everything that is left of it at the end.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use docent::proto::Request;

use super::Peer;
use super::compare::{Verdict, compare};
use super::heard::{Heard, order_events};
use super::pair::Pair;
use super::program::{Ask, Hello, Password, Program, SLOTS, Step, What, World};
use super::tree::{self, Picture};

/// Where two servers differ.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The step, or how many there were when it showed at the end.
    pub step: usize,
    /// What was done then.
    pub doing: String,
    /// The first thing that differs, among what was heard.
    pub at: usize,
    /// The request whose answers differ, if they are answers.
    pub ask: Option<Ask>,
    /// What Apache's server said.
    pub theirs: Vec<Heard>,
    /// What ours said.
    pub ours: Vec<Heard>,
}

/// What became of a program.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Requests that both servers answered.
    pub asked: u64,
    /// How often known differences showed.
    pub known: BTreeMap<&'static str, u64>,
    /// The first difference that is not known.
    pub difference: Option<Difference>,
    /// Whether the servers are not as they were: they must be renewed.
    pub spoiled: bool,
}

/// How a program ended.
enum End {
    Whole,
    Parted,
    Differed,
}

impl Pair {
    /// Runs a program in the world that it wants, reads everything that it left, and removes it.
    ///
    /// # Errors
    /// When a connection cannot be made, or the keeper is not answered: a server has ended.
    pub fn run(&mut self, program: &Program) -> Result<Outcome> {
        if self.world != program.world {
            *self = Pair::start_in(self.peer, program.world)?;
        }
        for side in [&mut self.theirs, &mut self.ours] {
            side.keep(vec![Request::WhoAmI])?;
            side.begin();
        }
        let mut outcome = Outcome::default();
        match self.take_all(program, &mut outcome)? {
            // A server that cannot be cleaned must be renewed, whatever the reason.
            End::Differed | End::Parted => {
                outcome.spoiled = !matches!(self.clean(program.steps.len(), None), Ok(None));
            }
            End::Whole => {
                outcome.difference = self.clean(program.steps.len(), Some(&mut outcome.known))?;
                outcome.spoiled = outcome.difference.is_some();
            }
        }
        // Emptied, it is like any other.
        self.world = World::Fresh;
        Ok(outcome)
    }

    fn take_all(&mut self, program: &Program, outcome: &mut Outcome) -> Result<End> {
        let mut watched = Watched { ghosts: self.ghosts()?, ..Watched::default() };
        for (at, step) in program.steps.iter().enumerate() {
            watched.note(step);
            self.theirs.send(step)?;
            self.ours.send(step)?;
            let (mut theirs, mut ours) = (self.theirs.hear(step)?, self.ours.hear(step)?);
            if step.closes() {
                order_events(&mut theirs);
                order_events(&mut ours);
            }
            outcome.asked += theirs.iter().filter(|one| one.error().is_some()).count() as u64;
            let told = Told { step: at, doing: &step.to_string(), asks: step.asks(), theirs, ours };
            let end = judge(self.peer, outcome, &watched.by_others(step.slot()), told);
            let end = match end {
                End::Whole if step.closes() => self.fence_all(at, step.slot(), outcome)?,
                end => end,
            };
            if !matches!(end, End::Whole) {
                return Ok(end);
            }
        }
        self.fence_all(program.steps.len(), SLOTS, outcome)
    }

    /// What is on its way to the other sessions, whose order is the servers' own affair.
    fn fence_all(&mut self, at: usize, but: usize, outcome: &mut Outcome) -> Result<End> {
        for slot in (0..SLOTS).filter(|slot| *slot != but) {
            let (mut theirs, mut ours) = (Vec::new(), Vec::new());
            for (side, heard) in [(&mut self.theirs, &mut theirs), (&mut self.ours, &mut ours)] {
                if side.is_connected(slot) {
                    heard.extend(side.fence(slot)?);
                }
                if but != SLOTS {
                    order_events(heard);
                }
            }
            let told = Told { step: at, doing: &format!("s{slot} listens"), asks: &[], theirs, ours };
            let end = judge(self.peer, outcome, &BTreeSet::new(), told);
            if !matches!(end, End::Whole) {
                return Ok(end);
            }
        }
        Ok(End::Whole)
    }

    /// Compares both trees if `known` is given, ends all sessions, empties both trees and compares what must be left.
    fn clean(
        &mut self,
        at: usize,
        known: Option<&mut BTreeMap<&'static str, u64>>,
    ) -> Result<Option<Difference>> {
        let before = (tree::read(&mut self.theirs)?, tree::read(&mut self.ours)?);
        if known.is_some()
            && let Some(difference) = compare_trees(at, "the tree at the end", &before)
        {
            return Ok(Some(difference));
        }
        self.end_sessions()?;
        for (side, picture) in [(&mut self.theirs, &before.0), (&mut self.ours, &before.1)] {
            tree::empty(side, picture)?;
        }
        let after = (tree::read(&mut self.theirs)?, tree::read(&mut self.ours)?);
        ensure!(tree::is_empty(&after.0) && tree::is_empty(&after.1), "a tree cannot be emptied");
        Ok(compare_trees(at, "what is left of the tree", &after))
    }

    fn end_sessions(&mut self) -> Result<()> {
        for slot in 0..SLOTS {
            for side in [&mut self.theirs, &mut self.ours] {
                if !side.is_alive(slot) {
                    continue;
                }
                side.hang_up(slot);
                side.take(&Step::Return { slot, hello: Hello::plain(), password: Password::Right })?;
                let what = What::Request(Request::CloseSession);
                side.take(&Step::Ask { slot, asks: vec![Ask { xid: 1, what }] })?;
            }
        }
        Ok(())
    }
}

/// The paths that each connection has asked to watch so far, whether or not the watch is still there.
#[derive(Default)]
struct Watched {
    /// Those of earlier connections, each of which may be left open: from before the program, and from it.
    ghosts: BTreeSet<String>,
    by: [BTreeSet<String>; SLOTS],
}

impl Watched {
    fn note(&mut self, step: &Step) {
        if !matches!(step, Step::Ask { .. }) {
            self.ghosts.append(&mut self.by[step.slot()]);
        }
        for ask in step.asks() {
            self.by[step.slot()].extend(ask.watches().into_iter().map(str::to_owned));
        }
    }

    fn by_others(&self, slot: usize) -> BTreeSet<String> {
        let others = self.by.iter().enumerate().filter(|(other, _)| *other != slot);
        others.map(|(_, paths)| paths).chain([&self.ghosts]).flatten().cloned().collect()
    }
}

/// What one step brought to one session.
struct Told<'a> {
    step: usize,
    doing: &'a str,
    asks: &'a [Ask],
    theirs: Vec<Heard>,
    ours: Vec<Heard>,
}

/// Notes what a comparison came to.
fn judge(peer: Peer, outcome: &mut Outcome, watched: &BTreeSet<String>, told: Told<'_>) -> End {
    let Told { step, doing, asks, theirs, ours } = told;
    match compare(peer, asks, watched, (&theirs, &ours)) {
        Verdict::Same(known) => {
            for name in known {
                *outcome.known.entry(name).or_default() += 1;
            }
            End::Whole
        }
        Verdict::Parted(name) => {
            *outcome.known.entry(name).or_default() += 1;
            End::Parted
        }
        Verdict::Different(at) => {
            let before = theirs.iter().take(at).filter(|one| !one.is_event()).count();
            let ask = asks.get(before).cloned();
            outcome.difference = Some(Difference { step, doing: doing.to_owned(), at, ask, theirs, ours });
            End::Differed
        }
    }
}

fn compare_trees(step: usize, doing: &str, (theirs, ours): &(Picture, Picture)) -> Option<Difference> {
    let paths = theirs.keys().chain(ours.keys());
    let mut differing = paths.filter(|path| theirs.get(*path) != ours.get(*path));
    let path = differing.next()?;
    let heard = |picture: &Picture| picture.get(path).cloned().unwrap_or_default();
    let (theirs, ours) = (heard(theirs), heard(ours));
    let at = theirs.iter().zip(&ours).take_while(|(their, our)| their == our).count();
    Some(Difference { step, doing: format!("{doing}: {path}"), at, ask: None, theirs, ours })
}

impl Difference {
    /// The first thing that differs, in three lines.
    pub fn brief(&self) -> String {
        let ask = self.ask.as_ref().map_or_else(|| self.doing.clone(), Ask::to_string);
        let first = |heard: &[Heard]| heard.get(self.at).map_or("nothing more".to_owned(), Heard::to_string);
        format!("{ask}\n  Apache: {}\n  Docent: {}", first(&self.theirs), first(&self.ours))
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "step {}: {}", self.step, self.doing)?;
        for (name, heard) in [("Apache", &self.theirs), ("Docent", &self.ours)] {
            writeln!(f, "  {name}:")?;
            for (at, one) in heard.iter().enumerate() {
                writeln!(f, "    {} {one}", if at == self.at { '>' } else { ' ' })?;
            }
            if self.at >= heard.len() {
                writeln!(f, "    > nothing more")?;
            }
        }
        Ok(())
    }
}
