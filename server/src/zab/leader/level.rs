//! Bringing a learner level: what it lacks goes out from memory, from the log, or as the whole state, and then the live
//! stream follows in the same line.

use bytes::Bytes;
use docent::Zxid;

use super::{Leading, Phase, Stage};
use crate::zab::context::Context;
use crate::zab::sync::{Plan, choose};
use crate::zab::{Capability, LinkId, Message, Output};

impl Leading {
    /// What counts as committed for a learner that is brought level: before we are established all of our history does,
    /// since the learner serves nobody before it hears that we are.
    fn sync_end(&self) -> Zxid {
        if self.phase == Phase::Established { self.committed } else { self.initial }
    }

    pub(super) fn begin_sync(&mut self, cx: &mut Context<'_>, link: LinkId, last: Zxid) {
        let end = self.sync_end();
        let Some(learner) = self.learners.get_mut(&link) else { return };
        let apache = learner.capability.is_none();
        let plan = match learner.capability {
            Some(Capability { whole: true, .. }) => Plan::Snap,
            _ => choose(last, cx.ledger.shape(), end, apache),
        };
        tracing::info!(peer = learner.peer.0, %last, ?plan, "bringing a learner level");
        match plan {
            Plan::Diff { after } => {
                learner.stage = Stage::Syncing { cursor: after, held: false };
                // One of ours takes what it has beyond this for logged, not for committed.
                cx.send(link, Message::Diff(after.min(end)));
            }
            Plan::Trunc { to } => {
                learner.stage = Stage::Syncing { cursor: to, held: false };
                cx.send(link, Message::Trunc(to));
            }
            Plan::Snap => {
                learner.stage = Stage::Snapshot;
                if self.phase != Phase::Established {
                    cx.ledger.apply_early(self.initial);
                    cx.out.push(Output::ApplyAll);
                }
                cx.out.push(Output::SendSnapshot(link));
                return;
            }
        }
        self.pump(cx, link);
    }

    /// The state right after `zxid` is on its way to this learner. Answers whether it still wants it.
    pub(in crate::zab) fn snapshot_begins(&mut self, cx: &mut Context<'_>, link: LinkId, zxid: Zxid) -> bool {
        let Some(learner) = self.learners.get(&link) else { return false };
        if learner.stage != Stage::Snapshot {
            return false;
        }
        // Apache's learner leaves its log as it is and names its snapshot by this number. When it starts again it reads
        // on behind the snapshot: what it had beyond our history must not be higher, or it comes back to life.
        let apache = learner.capability.is_none();
        let begun = Zxid::new(self.epoch, 0);
        cx.send(link, Message::Snap(if apache { zxid.max(begun) } else { zxid }));
        true
    }

    /// All of the snapshot of `zxid` was sent.
    pub(in crate::zab) fn snapshot_sent(&mut self, cx: &mut Context<'_>, link: LinkId, zxid: Zxid) {
        if let Some(learner) = self.learners.get_mut(&link)
            && learner.stage == Stage::Snapshot
        {
            learner.heard_ms = cx.now_ms;
            learner.stage = Stage::Syncing { cursor: zxid, held: false };
            self.pump(cx, link);
        }
    }

    /// A piece of a snapshot went to this learner: it makes progress.
    pub(in crate::zab) fn touch(&mut self, now_ms: i64, link: LinkId) {
        if let Some(learner) = self.learners.get_mut(&link) {
            learner.heard_ms = now_ms;
        }
    }

    /// Sends what is behind the cursor, until the link is full, the disk has to be asked, or the learner is level.
    fn pump(&mut self, cx: &mut Context<'_>, link: LinkId) {
        let end = self.sync_end();
        let Some(learner) = self.learners.get_mut(&link) else { return };
        let Stage::Syncing { mut cursor, held: false } = learner.stage else { return };
        let (mut sent, piece_bytes) = (0, cx.config.sizes.log_read_bytes);
        while cursor < end {
            let Some(records) = cx.ledger.behind(cursor) else {
                learner.stage = Stage::Syncing { cursor, held: true };
                cx.out.push(Output::ReadLog { link, after: cursor });
                return;
            };
            for (zxid, payload) in records.take_while(|(zxid, _)| *zxid <= end) {
                sent += payload.len();
                cursor = *zxid;
                let message = Message::Proposal { zxid: *zxid, payload: payload.clone() };
                cx.out.push(Output::Send { link, message });
                cx.out.push(Output::Send { link, message: Message::Commit(*zxid) });
                if sent >= piece_bytes {
                    break;
                }
            }
            if sent >= piece_bytes {
                learner.stage = Stage::Syncing { cursor, held: true };
                cx.out.push(Output::AskRoom(link));
                return;
            }
        }
        self.go_live(cx, link, cursor);
    }

    /// The learner is level: it gets what is not committed yet, and then everything as it happens.
    fn go_live(&mut self, cx: &mut Context<'_>, link: LinkId, cursor: Zxid) {
        let Some(learner) = self.learners.get_mut(&link) else { return };
        learner.stage = Stage::Live { acked: false };
        learner.owes_since_ms = Some(cx.now_ms);
        // A later one comes with its record.
        let config = cx.configs.up_to(cursor).text.clone();
        // Behind NewLeader, as followers before 3.9.3 need it (ZOOKEEPER-4394).
        cx.send(link, Message::NewLeader { epoch: self.epoch, config });
        if self.phase != Phase::Established {
            return;
        }
        if learner.observer {
            learner.up_to_date_behind = cx.ledger.last();
            return;
        }
        let Some(records) = cx.ledger.behind(cursor) else { return };
        for (zxid, payload) in records {
            let message = Message::Proposal { zxid: *zxid, payload: payload.clone() };
            cx.out.push(Output::Send { link, message });
        }
    }

    /// The link has room for more.
    pub(in crate::zab) fn on_room(&mut self, cx: &mut Context<'_>, link: LinkId) {
        if let Some(learner) = self.learners.get_mut(&link)
            && let Stage::Syncing { cursor, held: true } = learner.stage
        {
            learner.heard_ms = cx.now_ms;
            learner.stage = Stage::Syncing { cursor, held: false };
            self.pump(cx, link);
        }
    }

    /// The disk has read what is behind a learner's cursor.
    pub(in crate::zab) fn on_log_read(
        &mut self,
        cx: &mut Context<'_>,
        link: LinkId,
        after: Zxid,
        records: Option<Vec<(Zxid, Bytes)>>,
    ) {
        let end = self.sync_end();
        let Some(learner) = self.learners.get_mut(&link) else { return };
        let Stage::Syncing { cursor, held: true } = learner.stage else { return };
        if cursor != after {
            return;
        }
        let Some(records) = records.filter(|records| !records.is_empty()) else {
            // Purged meanwhile, or moved into a snapshot. The conversation has begun, so it begins anew; perhaps with an
            // election, if this learner is needed for a quorum, and so the log itself remembers it.
            tracing::info!(peer = learner.peer.0, %after, "the log does not reach back to a learner");
            cx.ledger.outlive(after);
            self.drop_learner(cx, link);
            return;
        };
        let mut cursor = cursor;
        for (zxid, payload) in records.into_iter().filter(|(zxid, _)| *zxid <= end) {
            cursor = zxid;
            cx.out.push(Output::Send { link, message: Message::Proposal { zxid, payload } });
            cx.out.push(Output::Send { link, message: Message::Commit(zxid) });
        }
        learner.heard_ms = cx.now_ms;
        learner.stage = Stage::Syncing { cursor, held: true };
        cx.out.push(Output::AskRoom(link));
    }
}
