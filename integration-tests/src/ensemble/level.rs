//! How a member that comes back is brought level with its leader, as servers of Apache tell it in their logs.

use anyhow::{Result, bail};

use super::Ensemble;
use crate::backend::Backend;

/// One way to be brought level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// It is sent what it lacks.
    Diff,
    /// It cuts off what nobody else has.
    Trunc,
    /// It is sent the whole tree.
    Snap,
}

/// What leaders of Apache 3.8 print.
const SENT: [(&str, Level); 3] = [
    ("Sending DIFF", Level::Diff),
    ("Sending TRUNC", Level::Trunc),
    ("Sending snapshot last zxid of peer", Level::Snap),
];
/// What their learners print.
const TAKEN: [(&str, Level); 3] = [
    ("Getting a diff from the leader", Level::Diff),
    ("Truncating log to get in sync", Level::Trunc),
    ("Getting a snapshot from leader", Level::Snap),
];

/// A place in the logs of a leader and a learner.
#[derive(Clone, Copy, Debug)]
pub struct LogMark {
    leader: u64,
    learner: u64,
    at: [usize; 2],
}

impl Ensemble {
    /// The place where two logs end now.
    ///
    /// # Errors
    /// For a name that no member has.
    pub fn mark(&self, leader: u64, learner: u64) -> Result<LogMark> {
        let at = [self.log_text(leader)?.len(), self.log_text(learner)?.len()];
        Ok(LogMark { leader, learner, at })
    }

    /// How the learner was brought level since the mark, the newest last. One of the two must be of Apache 3.8.
    ///
    /// # Errors
    /// When neither is.
    pub fn levelled(&self, mark: LogMark) -> Result<Vec<Level>> {
        let (member, words, at) = match (self.kind(mark.leader)?, self.kind(mark.learner)?) {
            (Backend::Apache38, _) => (mark.leader, SENT, mark.at[0]),
            (_, Backend::Apache38) => (mark.learner, TAKEN, mark.at[1]),
            (leader, learner) => bail!("neither {leader:?} nor {learner:?} tells"),
        };
        let text = self.log_text(member)?;
        let lines = text.get(at..).unwrap_or_default().lines();
        let word = |line: &str| words.iter().find(|(word, _)| line.contains(word)).map(|(_, level)| *level);
        Ok(lines.filter_map(word).collect())
    }
}
