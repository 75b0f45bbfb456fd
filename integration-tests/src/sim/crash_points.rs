//! The moments at which a crash tells whether things are made durable in the right order: between a decision and the
//! disk, between the disk and the word that its report lets out, and right behind that word.
//!
//! The order that must hold; what stands on the left is on the disk before what stands on the right happens:
//!
//! ```text
//! a learner   acceptedEpoch                          AckEpoch
//! a leader    acceptedEpoch                          LeaderInfo
//! a learner   the leader's history, in any form      currentEpoch
//! a learner   currentEpoch                           Ack of the history
//! a leader    currentEpoch                           counting itself for its history
//! a follower  a record                               Ack of the record
//! ```
//!
//! Each arrow has its points: `…Ordered`, nothing of it has reached the disk; `…Written`, it is written and not synced;
//! `…Durable`, the disk has it and the server has not heard so; and a point right behind the word itself. What a server
//! must find when it starts again is said by [`Struck::is_explained`]; that it is brought level again, and that nothing was
//! promised too early, is for the checks of every run.

use std::fmt;

use docent::Zxid;
use docent_server::storage::Epochs;
use docent_server::zab::{Message, Role};

/// A moment in the life of a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CrashPoint {
    /// A learner's `acceptedEpoch` is on its way to the disk.
    LearnerPromiseOrdered,
    /// It is there.
    LearnerPromiseDurable,
    /// The learner has said so.
    LearnerPromiseSaid,
    /// A leader's `acceptedEpoch` is on its way to the disk.
    LeaderPromiseOrdered,
    /// It is there.
    LeaderPromiseDurable,
    /// The leader has named its epoch to somebody.
    LeaderPromiseSaid,
    /// What a learner is brought level with is on its way to the log.
    HistoryOrdered,
    /// It is written.
    HistoryWritten,
    /// It is durable, and `currentEpoch` is not written.
    HistoryDurable,
    /// A learner is about to cut its log.
    CutOrdered,
    /// It has cut it, and `currentEpoch` is not written.
    CutDone,
    /// A leader's state is here as a whole, under a name that no start looks at.
    StateReceived,
    /// It has its name; what the log held before is not cut away yet.
    StateNamed,
    /// A learner's `currentEpoch` is on its way to the disk, behind the leader's history.
    LearnerEpochOrdered,
    /// It is there.
    LearnerEpochDurable,
    /// The learner has acknowledged the leader's history.
    HistoryAcknowledged,
    /// A leader's `currentEpoch` is on its way to the disk.
    LeaderEpochOrdered,
    /// It is there.
    LeaderEpochDurable,
    /// The leader has told somebody that a quorum has its history.
    LeaderEstablished,
    /// A proposal is on its way to the log.
    RecordOrdered,
    /// It is written.
    RecordWritten,
    /// It is durable.
    RecordDurable,
    /// A follower has acknowledged it.
    RecordAcknowledged,
}

impl CrashPoint {
    /// All of them, in the order in which they are met.
    pub const ALL: [CrashPoint; 23] = [
        CrashPoint::LearnerPromiseOrdered,
        CrashPoint::LearnerPromiseDurable,
        CrashPoint::LearnerPromiseSaid,
        CrashPoint::LeaderPromiseOrdered,
        CrashPoint::LeaderPromiseDurable,
        CrashPoint::LeaderPromiseSaid,
        CrashPoint::HistoryOrdered,
        CrashPoint::HistoryWritten,
        CrashPoint::HistoryDurable,
        CrashPoint::CutOrdered,
        CrashPoint::CutDone,
        CrashPoint::StateReceived,
        CrashPoint::StateNamed,
        CrashPoint::LearnerEpochOrdered,
        CrashPoint::LearnerEpochDurable,
        CrashPoint::HistoryAcknowledged,
        CrashPoint::LeaderEpochOrdered,
        CrashPoint::LeaderEpochDurable,
        CrashPoint::LeaderEstablished,
        CrashPoint::RecordOrdered,
        CrashPoint::RecordWritten,
        CrashPoint::RecordDurable,
        CrashPoint::RecordAcknowledged,
    ];

    /// The point right behind the word that a message is.
    pub(super) fn behind(message: &Message) -> Option<Self> {
        match message {
            Message::AckEpoch { .. } => Some(CrashPoint::LearnerPromiseSaid),
            Message::LeaderInfo { .. } => Some(CrashPoint::LeaderPromiseSaid),
            Message::Ack(zxid) if zxid.counter() == 0 => Some(CrashPoint::HistoryAcknowledged),
            Message::Ack(_) => Some(CrashPoint::RecordAcknowledged),
            Message::UpToDate => Some(CrashPoint::LeaderEstablished),
            _ => None,
        }
    }

    /// Whether it is the moment right behind a word, which is then still under way.
    pub(super) fn is_behind_a_word(self) -> bool {
        use CrashPoint::{
            HistoryAcknowledged, LeaderEstablished, LeaderPromiseSaid, LearnerPromiseSaid, RecordAcknowledged,
        };
        matches!(
            self,
            LearnerPromiseSaid
                | LeaderPromiseSaid
                | HistoryAcknowledged
                | LeaderEstablished
                | RecordAcknowledged
        )
    }
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What a disk does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    /// It writes records up to here.
    Write(Zxid),
    /// It makes records up to here durable.
    Sync(Zxid),
    /// It cuts the log behind this record.
    Cut(Zxid),
    /// It replaces the epochs.
    Save(Epochs),
}

impl Pending {
    /// The points right before and right behind it, for a server in this role whose disk has these epochs.
    pub(super) fn points(self, role: &Role, has: Epochs) -> (Option<CrashPoint>, Option<CrashPoint>) {
        let level = !matches!(role, Role::Learning(learning) if !learning.is_active());
        let leads = matches!(role, Role::Leading(_));
        let (before, behind) = match self {
            Pending::Write(_) if level => (CrashPoint::RecordOrdered, None),
            Pending::Write(_) => (CrashPoint::HistoryOrdered, None),
            Pending::Sync(_) if level => (CrashPoint::RecordWritten, Some(CrashPoint::RecordDurable)),
            Pending::Sync(_) => (CrashPoint::HistoryWritten, Some(CrashPoint::HistoryDurable)),
            Pending::Cut(_) => (CrashPoint::CutOrdered, Some(CrashPoint::CutDone)),
            Pending::Save(epochs) if epochs.current > has.current => match leads {
                true => (CrashPoint::LeaderEpochOrdered, Some(CrashPoint::LeaderEpochDurable)),
                false => (CrashPoint::LearnerEpochOrdered, Some(CrashPoint::LearnerEpochDurable)),
            },
            Pending::Save(epochs) if epochs.accepted > has.accepted => match leads {
                true => (CrashPoint::LeaderPromiseOrdered, Some(CrashPoint::LeaderPromiseDurable)),
                false => (CrashPoint::LearnerPromiseOrdered, Some(CrashPoint::LearnerPromiseDurable)),
            },
            Pending::Save(_) => return (None, None),
        };
        (Some(before), behind)
    }
}

/// A crash at a point, and what the disk had then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Struck {
    pub(super) point: CrashPoint,
    pub(super) epochs: Epochs,
    /// The end of what was durable of the log.
    pub(super) last: Zxid,
    /// What the disk was doing, or the state that was received.
    pub(super) doing: Option<Pending>,
}

impl Struck {
    /// Whether what a server starts with is what the point says.
    pub(super) fn is_explained(&self, epochs: Epochs, last: Zxid) -> bool {
        use CrashPoint::{
            CutDone, CutOrdered, HistoryAcknowledged, HistoryDurable, HistoryOrdered, HistoryWritten,
            LeaderEpochDurable, LeaderEpochOrdered, LeaderEstablished, LeaderPromiseDurable,
            LeaderPromiseOrdered, LeaderPromiseSaid, LearnerEpochDurable, LearnerEpochOrdered,
            LearnerPromiseDurable, LearnerPromiseOrdered, LearnerPromiseSaid, RecordAcknowledged,
            RecordDurable, RecordOrdered, RecordWritten, StateNamed, StateReceived,
        };
        // What a start repairs: a history of an epoch that is not noted as followed is followed.
        let repaired = |had: Epochs| Epochs { current: had.current.max(last.epoch()), ..had };
        let unchanged = epochs == repaired(self.epochs);
        let longer = last >= self.last;
        let done = |wanted: fn(Pending) -> Option<Zxid>| self.doing.and_then(wanted);
        match self.point {
            LearnerPromiseOrdered | LeaderPromiseOrdered | LearnerEpochOrdered | LeaderEpochOrdered => {
                unchanged && last == self.last
            }
            // A leader's state has its name already, and what the log had behind it is still there: as before, it ends
            // in records that nobody has committed.
            CutOrdered if self.doing == Some(Pending::Cut(self.last)) => unchanged && longer,
            CutOrdered => unchanged && last == self.last,
            LearnerPromiseDurable | LeaderPromiseDurable | LearnerEpochDurable | LeaderEpochDurable => {
                let saved = matches!(self.doing, Some(Pending::Save(saved)) if epochs == repaired(saved));
                saved && last == self.last
            }
            // Once a word is out the server goes on for a moment, and may have promised more.
            LearnerPromiseSaid | LeaderPromiseSaid | HistoryAcknowledged | LeaderEstablished
            | RecordAcknowledged => {
                epochs.accepted >= self.epochs.accepted && epochs.current >= self.epochs.current
            }
            HistoryOrdered | RecordOrdered | HistoryWritten | RecordWritten | StateReceived => {
                epochs.accepted == self.epochs.accepted && longer
            }
            HistoryDurable | RecordDurable | StateNamed => {
                unchanged
                    && Some(last)
                        >= done(|doing| match doing {
                            Pending::Sync(zxid) | Pending::Cut(zxid) => Some(zxid),
                            _ => None,
                        })
            }
            CutDone => {
                let after = done(|doing| match doing {
                    Pending::Cut(zxid) => Some(zxid),
                    _ => None,
                });
                unchanged && Some(last) == after
            }
        }
    }
}
