//! What this server has: its log, its epochs, and how much of both is durable.

use std::collections::VecDeque;

use bytes::Bytes;
use docent::Zxid;

use super::history::History;
use super::{Epochs, LogShape, Output, Tail};

/// The log and the epochs, as ordered from the disk and as durable.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    tail: Tail,
    shape: LogShape,
    /// `None` for a server that is alone: nobody will ask.
    history: Option<History>,
    /// On disk.
    epochs: Epochs,
    /// On their way there, by their orders.
    saving: VecDeque<(u64, Epochs)>,
    /// What the state in memory held before anybody said that it is committed.
    applied: Zxid,
    wants_state: bool,
}

impl Ledger {
    /// With `history_bytes_max` the latest records stay in memory for learners; a server that is alone keeps none.
    pub(super) fn new(shape: LogShape, epochs: Epochs, history_bytes_max: Option<usize>) -> Self {
        let last = shape.last();
        let history = history_bytes_max.map(|bytes_max| History::new(last, bytes_max));
        let (tail, saving) = (Tail::new(last), VecDeque::new());
        Ledger { tail, shape, history, epochs, saving, applied: last, wants_state: false }
    }

    /// The end of the log, durable or not.
    pub(super) fn last(&self) -> Zxid {
        self.tail.last()
    }

    /// The end of what is durable of the log.
    pub(super) fn durable(&self) -> Zxid {
        self.tail.durable()
    }

    /// The state in memory holds everything up to here, committed or not.
    pub(super) fn applied(&self) -> Zxid {
        self.applied
    }

    /// Everything up to here is applied, committed or not.
    pub(super) fn apply_early(&mut self, upto: Zxid) {
        self.applied = self.applied.max(upto);
    }

    /// What is known of the log.
    pub(super) fn shape(&self) -> &LogShape {
        &self.shape
    }

    /// What is right behind this record cannot be read any more.
    pub(super) fn outlive(&mut self, after: Zxid) {
        self.shape.outlive(after);
    }

    /// The epochs on disk. What is on its way there is no ground for anything yet (ZOOKEEPER-2307).
    pub(super) fn epochs(&self) -> Epochs {
        self.epochs
    }

    /// The epochs that the disk will hold when everything that was ordered is done: what further orders go on from.
    pub(super) fn ordered_epochs(&self) -> Epochs {
        self.saving.back().map_or(self.epochs, |(_, epochs)| *epochs)
    }

    /// The records behind `after`, if all of them are in memory.
    pub(super) fn behind(&self, after: Zxid) -> Option<impl Iterator<Item = &(Zxid, Bytes)>> {
        self.history.as_ref()?.behind(after)
    }

    /// Nobody but learners that are behind needs what is up to here.
    pub(super) fn release(&mut self, upto: Zxid) {
        if let Some(history) = &mut self.history {
            history.release(upto);
        }
    }

    /// Puts a record at the end of the log.
    pub(super) fn append(&mut self, zxid: Zxid, payload: Bytes, out: &mut Vec<Output>) {
        let order = self.tail.append(zxid);
        if let Some(history) = &mut self.history {
            self.shape.push(zxid);
            history.push(zxid, payload.clone());
        }
        out.push(Output::Append { order, zxid, payload });
    }

    /// Replaces the epochs. Answers the order: when it is settled, they and all records before are durable.
    pub(super) fn save(&mut self, epochs: Epochs, out: &mut Vec<Output>) -> u64 {
        let before = self.ordered_epochs();
        assert!(
            epochs.accepted >= before.accepted && epochs.current >= before.current,
            "epochs never go back: {epochs:?} after {before:?}"
        );
        assert!(epochs.accepted >= epochs.current, "nobody follows what it has not promised: {epochs:?}");
        let order = self.tail.issue();
        self.saving.push_back((order, epochs));
        out.push(Output::SaveEpochs { order, epochs });
        order
    }

    /// Whether the next leader has to send the whole state.
    pub(super) fn wants_state(&self) -> bool {
        self.wants_state
    }

    /// The log cannot be cut where the leader wants it: what is before it is in no file of ours. Only the whole state helps.
    /// Until it has come everything stays as it is, for what is in it may be committed.
    pub(super) fn want_state(&mut self) {
        self.wants_state = true;
    }

    /// Cuts the log behind a record.
    pub(super) fn truncate(&mut self, after: Zxid, out: &mut Vec<Output>) {
        let order = self.tail.truncate(after);
        self.shape.truncate(after);
        self.applied = self.applied.min(after);
        if let Some(history) = &mut self.history {
            history.truncate(after);
        }
        out.push(Output::Truncate { order, after });
    }

    /// The state was replaced by one that ends here and is durable. What the log holds behind it goes.
    pub(super) fn restart(&mut self, last: Zxid, out: &mut Vec<Output>) {
        let order = self.tail.restart(last);
        self.shape = LogShape::new(last);
        self.applied = last;
        self.wants_state = false;
        if let Some(history) = &mut self.history {
            history.restart(last);
        }
        out.push(Output::Truncate { order, after: last });
    }

    /// The disk has carried out all orders up to this one.
    pub(super) fn settle(&mut self, order: u64) {
        self.tail.settle(order);
        while let Some((_, epochs)) = self.saving.pop_front_if(|(saved, _)| *saved <= order) {
            self.epochs = epochs;
        }
    }
}
