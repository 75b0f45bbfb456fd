//! The verdict about contenders that stood in one line, from nothing but the lines they printed.
//!
//! Every contender, in whatever language, works below one base path:
//! - it makes `BASE/ready/ID` and waits until that has as many children as there are contenders;
//! - it acquires at `BASE/lock` or leads at `BASE/latch`; its token is the czxid of its own node;
//! - it reads `BASE/register`, a text `TOKEN:COUNT`, and writes its own token and `COUNT + 1` on the version it has read;
//! - it prints `ROUND id=… n=… node=… token=… count=…`, and `VIOLATION`, `CONFLICT` or `LOST` when something is wrong;
//! - `CONFLICT` is a write refused by its version where the register then holds another's token. Where it holds our own, the
//!   write had been applied, its reply lost, and the client sent it again: that is `REPEATED`, and no fault;
//! - one that keeps to a single session prints `SESSION id=… session=…` when all have come, and before it ends.
//!
//! Then the counts of all rounds are 1, 2, 3 … without gap or repetition, and the tokens rise with them, exactly when no
//! two held at once and no older holder wrote after a newer one.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};

/// One acquire of one contender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// The contender.
    pub id: String,
    /// The node that it held by.
    pub node: String,
    /// Its fencing token.
    pub token: i64,
    /// The register's count after its write.
    pub count: u64,
}

/// All rounds of all contenders.
#[derive(Debug, Default)]
pub struct Handovers {
    rounds: Vec<Round>,
    repeated: usize,
    /// The sessions that each contender had when it looked, and how often it looked.
    sessions: BTreeMap<String, (BTreeSet<String>, usize)>,
}

impl Handovers {
    /// Adds what one contender has printed; lines of another kind are passed over.
    ///
    /// # Errors
    /// When it reports a violation, a conflict or a lost node, which no calm run has, or when a line cannot be read.
    pub fn add_output(&mut self, output: &str) -> Result<()> {
        for line in output.lines() {
            match line.split(' ').next() {
                Some("ROUND") => self.add(parse(line).with_context(|| line.to_owned())?),
                Some("VIOLATION" | "CONFLICT" | "LOST") => bail!("a contender reports: {line}"),
                Some("REPEATED") => self.repeated += 1,
                Some("SESSION") => self.add_session(line).with_context(|| line.to_owned())?,
                _ => {}
            }
        }
        Ok(())
    }

    fn add_session(&mut self, line: &str) -> Result<()> {
        let fields = fields(line);
        let (id, session) = fields.get("id").zip(fields.get("session")).context("no id and session")?;
        let (seen, times) = self.sessions.entry((*id).to_owned()).or_default();
        seen.insert((*session).to_owned());
        *times += 1;
        Ok(())
    }

    /// Checks that each of so many contenders had one session from the beginning to the end.
    ///
    /// # Errors
    /// When one has not, or has not said so twice.
    pub fn verify_sessions(&self, contenders: usize) -> Result<()> {
        let told = self.sessions.len();
        ensure!(told == contenders, "{told} of {contenders} contenders told their sessions");
        for (id, (sessions, times)) in &self.sessions {
            ensure!(*times >= 2, "{id} told its session {times} times");
            ensure!(sessions.len() == 1, "{id} had the sessions {sessions:?}");
        }
        Ok(())
    }

    /// The writes whose reply was lost: 0 in a run in which no connection broke.
    pub fn repeated(&self) -> usize {
        self.repeated
    }

    /// Adds one round, for contenders in this process.
    pub fn add(&mut self, round: Round) {
        self.rounds.push(round);
    }

    /// How often another contender was next than the one before: 0 would say that nobody ever waited.
    pub fn changes(&self) -> usize {
        let mut order: Vec<&Round> = self.rounds.iter().collect();
        order.sort_by_key(|round| round.count);
        order.windows(2).filter(|pair| pair[0].id != pair[1].id).count()
    }

    /// The rounds of each contender.
    pub fn per_contender(&self) -> BTreeMap<&str, usize> {
        let mut rounds = BTreeMap::new();
        for round in &self.rounds {
            *rounds.entry(round.id.as_str()).or_default() += 1;
        }
        rounds
    }

    /// Exactly `total` handovers, the counts without gap, the tokens rising with them.
    ///
    /// # Errors
    /// With the rounds between which the rule is broken.
    pub fn verify(&self, total: usize) -> Result<()> {
        ensure!(
            self.rounds.len() == total,
            "{} rounds instead of {total}: {:?}",
            self.rounds.len(),
            self.per_contender()
        );
        let mut order: Vec<&Round> = self.rounds.iter().collect();
        order.sort_by_key(|round| round.count);
        for (round, count) in order.iter().zip(1..) {
            ensure!(round.count == count, "the count {count} is missing or there twice; next is {round:?}");
        }
        for pair in order.windows(2) {
            ensure!(
                pair[0].token < pair[1].token,
                "an older token after a newer one: {:?}, then {:?}",
                pair[0],
                pair[1]
            );
        }
        Ok(())
    }
}

fn fields(line: &str) -> BTreeMap<&str, &str> {
    line.split(' ').filter_map(|part| part.split_once('=')).collect()
}

fn parse(line: &str) -> Result<Round> {
    let fields = fields(line);
    let field = |name: &str| fields.get(name).copied().with_context(|| format!("no {name}"));
    Ok(Round {
        id: field("id")?.to_owned(),
        node: field("node")?.to_owned(),
        token: field("token")?.parse().context("token")?,
        count: field("count")?.parse().context("count")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, token: i64, count: u64) -> String {
        format!("ROUND id={id} n=1 node=/x/lock-0000000000 token={token} count={count}\n")
    }

    fn verdict(lines: &[String], total: usize) -> Result<()> {
        let mut handovers = Handovers::default();
        for line in lines {
            handovers.add_output(line)?;
        }
        handovers.verify(total)
    }

    #[test]
    fn rising_tokens_without_gap_pass() -> Result<()> {
        verdict(&[line("a", 5, 1), line("b", 9, 3), line("a", 7, 2)], 3)
    }

    #[test]
    fn every_broken_rule_is_seen() {
        assert!(verdict(&[line("a", 5, 1), line("b", 4, 2)], 2).is_err(), "an older token after a newer one");
        assert!(verdict(&[line("a", 5, 1), line("b", 6, 1)], 2).is_err(), "a lost update");
        assert!(verdict(&[line("a", 5, 1), line("b", 6, 3)], 2).is_err(), "a gap");
        assert!(verdict(&[line("a", 5, 1)], 2).is_err(), "too few");
        assert!(verdict(&["VIOLATION id=a token=1 register=2".to_owned()], 0).is_err());
        assert!(verdict(&["CONFLICT id=a token=1 version=3 register=0".to_owned()], 0).is_err());
        assert!(verdict(&["ROUND id=a".to_owned()], 1).is_err());
    }

    #[test]
    fn a_lost_session_is_seen() -> Result<()> {
        let mut handovers = Handovers::default();
        handovers.add_output("SESSION id=a session=0x1\nSESSION id=a session=0x1")?;
        handovers.verify_sessions(1)?;
        assert!(handovers.verify_sessions(2).is_err(), "one has told nothing");
        handovers.add_output("SESSION id=a session=0x2")?;
        assert!(handovers.verify_sessions(1).is_err(), "another session");
        let mut once = Handovers::default();
        once.add_output("SESSION id=a session=0x1")?;
        assert!(once.verify_sessions(1).is_err(), "told once");
        Ok(())
    }

    #[test]
    fn changes_of_the_holder_are_counted() -> Result<()> {
        let mut handovers = Handovers::default();
        handovers
            .add_output(&[line("a", 1, 1), line("a", 2, 2), line("b", 3, 3), line("a", 4, 4)].concat())?;
        assert_eq!(handovers.changes(), 2);
        assert_eq!(handovers.per_contender(), BTreeMap::from([("a", 3), ("b", 1)]));
        Ok(())
    }
}
