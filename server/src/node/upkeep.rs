//! What happens because time has passed or the log has grown: sessions end, empty containers and overdue nodes go,
//! snapshots are taken.

use docent::{SessionId, Zxid};

use super::{Effect, Effects, Node, NodeConfig, Now};
use crate::limits::SNAPSHOT_PIECES_IN_FLIGHT_MAX;
use crate::zab::{LinkId, Message, Output};

/// A snapshot that is being written: to our disk, to learners, or both.
#[derive(Clone, Debug)]
struct Running {
    zxid: Zxid,
    /// Pieces handed out.
    sent: u64,
    /// Pieces that have reached our disk, if it is written there.
    written: Option<u64>,
    /// Learners that receive it.
    links: Vec<LinkReader>,
    /// All pieces are handed out.
    complete: bool,
}

/// A learner that receives a snapshot.
#[derive(Clone, Copy, Debug)]
struct LinkReader {
    link: LinkId,
    /// Its link has room for the next piece.
    room: bool,
}

impl Running {
    fn new(zxid: Zxid, written: Option<u64>, links: Vec<LinkId>) -> Self {
        let links = links.into_iter().map(|link| LinkReader { link, room: true }).collect();
        Running { zxid, sent: 0, written, links, complete: false }
    }
}

/// When what is due.
#[derive(Debug)]
pub(super) struct Upkeep {
    next_sweep_ms: i64,
    appended: u64,
    appended_bytes: u64,
    snap_after: u64,
    snap_after_bytes: u64,
    wait_log_bytes_max: u64,
    snapshot: Option<Running>,
    /// Learners that wait for a snapshot to begin.
    wanted: Vec<LinkId>,
    chance: fastrand::Rng,
}

impl Upkeep {
    pub(super) fn new(config: &NodeConfig, now: Now) -> Self {
        let mut upkeep = Upkeep {
            next_sweep_ms: now.mono_ms + config.sweep_interval_ms,
            appended: 0,
            appended_bytes: 0,
            snap_after: 0,
            snap_after_bytes: 0,
            wait_log_bytes_max: config.sizes.snapshot_wait_log_bytes_max,
            snapshot: None,
            wanted: Vec::new(),
            chance: fastrand::Rng::with_seed(config.seed),
        };
        upkeep.draw(config);
        upkeep
    }

    /// Somewhere in the second half of the count, drawn anew each time, so that the servers of an ensemble do not
    /// all take their snapshots at once.
    fn draw(&mut self, config: &NodeConfig) {
        let mut half_and_some = |whole: u64| whole / 2 + self.chance.u64(0..=(whole / 2).max(1));
        self.snap_after = half_and_some(config.snap_count);
        self.snap_after_bytes = half_and_some(config.snap_bytes);
        self.appended = 0;
        self.appended_bytes = 0;
    }

    pub(super) fn count_append(&mut self, bytes: usize) {
        self.appended += 1;
        self.appended_bytes += bytes as u64;
    }

    /// Apache's rule, and one more: a snapshot that is larger than the log since the last one waits until the log
    /// has caught up. Otherwise a large tree under load would be written again and again, and its snapshots would
    /// take more of the disk than the log that they shorten. So snapshots never write more than the log does, and a
    /// start replays at most about as many bytes as it loads; the configured bytes and our own bound end the wait.
    fn is_due(&self, snapshot_bytes: u64) -> bool {
        let worth_it = self.appended_bytes >= snapshot_bytes.min(self.wait_log_bytes_max);
        (self.appended > self.snap_after && worth_it) || self.appended_bytes > self.snap_after_bytes
    }

    pub(super) fn next_deadline(&self) -> i64 {
        self.next_sweep_ms
    }

    /// The state was replaced by one that is on our disk as a snapshot.
    pub(super) fn restart(&mut self, config: &NodeConfig) {
        self.draw(config);
    }
}

impl Node {
    pub(super) fn on_tick(&mut self, fx: &mut Effects) {
        self.replica.on_tick(self.now.mono_ms, &mut self.outputs);
        self.carry_out(fx);
        self.mind_service(fx);
        self.expire_locals(fx);
        if !self.service.leads() {
            // Only a leader ends sessions and sweeps.
            self.upkeep.next_sweep_ms =
                self.upkeep.next_sweep_ms.max(self.now.mono_ms + self.config.sweep_interval_ms);
            return;
        }
        for session in self.sessions.expired(self.now.mono_ms) {
            self.expire(session, fx);
        }
        if self.now.mono_ms >= self.upkeep.next_sweep_ms {
            self.upkeep.next_sweep_ms = self.now.mono_ms + self.config.sweep_interval_ms;
            for path in self.tree.expired_nodes(self.now.wall_ms, self.config.sweep_max) {
                self.propose_sweep(path, fx);
            }
        }
    }

    pub(super) fn expire(&mut self, session: SessionId, fx: &mut Effects) {
        if self.sessions.start_closing(session) {
            self.metrics.sessions_expired += 1;
            self.propose_expiry(session, fx);
        }
    }

    /// After an append: the log rolls, and a snapshot of the committed state begins.
    pub(super) fn maybe_snapshot(&mut self, fx: &mut Effects) {
        if self.upkeep.snapshot.is_none() && self.upkeep.is_due(self.tree.snapshot_bytes()) {
            self.upkeep.draw(&self.config);
            let Some(zxid) = self.begin_snapshot() else { return };
            fx.push(Effect::RollLog);
            fx.push(Effect::SnapshotBegin(zxid));
            self.upkeep.snapshot = Some(Running::new(zxid, Some(0), Vec::new()));
            self.send_pieces(fx);
        }
    }

    fn begin_snapshot(&mut self) -> Option<Zxid> {
        let sessions: Vec<(SessionId, i32)> =
            self.sessions.iter().map(|(id, session)| (id, session.timeout_ms)).collect();
        // It fails only while another one runs, which the callers have excluded.
        self.tree.begin_snapshot(&sessions).ok()
    }

    /// A learner needs the whole state. It gets it as soon as no other snapshot is being written, together with all who
    /// wait for one then.
    pub(super) fn send_snapshot(&mut self, link: LinkId, fx: &mut Effects) {
        self.upkeep.wanted.push(link);
        self.maybe_send_snapshot(fx);
    }

    fn maybe_send_snapshot(&mut self, fx: &mut Effects) {
        if self.upkeep.snapshot.is_some() || self.upkeep.wanted.is_empty() {
            return;
        }
        let Some(zxid) = self.begin_snapshot() else { return };
        let mut links = std::mem::take(&mut self.upkeep.wanted);
        let (now_ms, replica, outputs) = (self.now.mono_ms, &mut self.replica, &mut self.outputs);
        links.retain(|link| replica.snapshot_begins(now_ms, *link, zxid, outputs));
        self.upkeep.snapshot = Some(Running::new(zxid, None, links));
        self.send_pieces(fx);
    }

    /// A learner's link is gone, and with it its wish for a snapshot.
    pub(super) fn forget_snapshot(&mut self, link: LinkId, fx: &mut Effects) {
        self.upkeep.wanted.retain(|wanted| *wanted != link);
        if let Some(running) = &mut self.upkeep.snapshot {
            running.links.retain(|reader| reader.link != link);
            self.send_pieces(fx);
        }
    }

    /// No learner receives a snapshot any more.
    pub(super) fn forget_all_snapshots(&mut self, fx: &mut Effects) {
        self.upkeep.wanted.clear();
        if let Some(running) = &mut self.upkeep.snapshot {
            running.links.clear();
            self.send_pieces(fx);
        }
    }

    /// A link has room. Answers whether it was a snapshot that waited for it.
    pub(super) fn on_snapshot_room(&mut self, link: LinkId, fx: &mut Effects) -> bool {
        let Some(running) = &mut self.upkeep.snapshot else { return false };
        let Some(reader) = running.links.iter_mut().find(|reader| reader.link == link) else { return false };
        reader.room = true;
        self.replica.snapshot_goes_on(self.now.mono_ms, link);
        self.send_pieces(fx);
        true
    }

    pub(super) fn on_snapshot_progress(&mut self, pieces: u64, fx: &mut Effects) {
        if let Some(Running { written: Some(written), .. }) = &mut self.upkeep.snapshot {
            *written = pieces;
            self.send_pieces(fx);
        }
    }

    /// One piece each time everybody who reads the snapshot has taken one: between them, writes go on.
    fn send_pieces(&mut self, fx: &mut Effects) {
        self.cut_pieces(fx);
        self.carry_out(fx);
    }

    /// What goes to learners goes through agreement's line: a piece must not overtake the word that announces it.
    fn cut_pieces(&mut self, fx: &mut Effects) {
        while let Some(running) = &mut self.upkeep.snapshot {
            if running.complete {
                return;
            }
            if running.written.is_none() && running.links.is_empty() {
                self.tree.abort_snapshot();
                self.upkeep.snapshot = None;
                self.maybe_send_snapshot(fx);
                return;
            }
            let disk_has_room =
                running.written.is_none_or(|written| running.sent < written + SNAPSHOT_PIECES_IN_FLIGHT_MAX);
            if !disk_has_room || running.links.iter().any(|reader| !reader.room) {
                return;
            }
            match self.tree.next_piece(self.config.sizes.snapshot_piece_bytes) {
                Some(piece) => {
                    running.sent += 1;
                    for reader in &mut running.links {
                        reader.room = false;
                        let (link, message) = (reader.link, Message::SnapPiece(piece.clone()));
                        self.outputs.push(Output::Send { link, message });
                        self.outputs.push(Output::AskRoom(link));
                    }
                    if running.written.is_some() {
                        fx.push(Effect::SnapshotPiece(piece));
                        // The disk takes several at once: one per step is enough to keep it busy.
                        return;
                    }
                }
                None => self.finish_snapshot(fx),
            }
        }
    }

    fn finish_snapshot(&mut self, fx: &mut Effects) {
        let Some(running) = &mut self.upkeep.snapshot else { return };
        running.complete = true;
        let (zxid, to_disk) = (running.zxid, running.written.is_some());
        let links: Vec<LinkId> = running.links.drain(..).map(|reader| reader.link).collect();
        if to_disk {
            let digest = self.tree.snapshot_digest().map(|(_, digest)| digest);
            fx.push(Effect::SnapshotEnd { digest: digest.filter(|_| self.config.digest) });
        } else {
            self.upkeep.snapshot = None;
        }
        for link in links {
            self.outputs.push(Output::Send { link, message: Message::SnapEnd });
            self.replica.snapshot_sent(self.now.mono_ms, link, zxid, &mut self.outputs);
        }
        self.maybe_send_snapshot(fx);
    }

    pub(super) fn on_snapshot_ended(&mut self, complete: bool, fx: &mut Effects) {
        if self.upkeep.snapshot.as_ref().is_none_or(|running| running.written.is_none()) {
            // Of a snapshot that was given up since.
            return;
        }
        if !complete {
            self.tree.abort_snapshot();
            self.metrics.snapshot_errors += 1;
        }
        self.upkeep.snapshot = None;
        self.maybe_send_snapshot(fx);
    }

    /// Gives up the snapshot that is being written, because the state or the log behind it changes.
    pub(super) fn abandon_snapshot(&mut self) {
        self.tree.abort_snapshot();
        self.upkeep.snapshot = None;
        self.upkeep.wanted.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SNAPSHOT_WAIT_LOG_BYTES_MAX;

    fn upkeep(appended: u64, appended_bytes: u64) -> Upkeep {
        Upkeep {
            next_sweep_ms: 0,
            appended,
            appended_bytes,
            snap_after: 1_000,
            snap_after_bytes: 4 << 30,
            wait_log_bytes_max: SNAPSHOT_WAIT_LOG_BYTES_MAX,
            snapshot: None,
            wanted: Vec::new(),
            chance: fastrand::Rng::with_seed(1),
        }
    }

    #[test]
    fn a_snapshot_waits_for_as_much_log_as_it_would_write_within_bounds() {
        for (appended, appended_bytes, snapshot_bytes, due) in [
            (1_000, 500_000, 0, false),
            (1_001, 500_000, 500_000, true),
            (1_001, 500_000, 500_001, false),
            (1_001, SNAPSHOT_WAIT_LOG_BYTES_MAX - 1, 64 << 30, false),
            (1_001, SNAPSHOT_WAIT_LOG_BYTES_MAX, 64 << 30, true),
            (1, (4 << 30) + 1, 64 << 30, true),
        ] {
            assert_eq!(
                upkeep(appended, appended_bytes).is_due(snapshot_bytes),
                due,
                "{appended} transactions, {appended_bytes} bytes of log, {snapshot_bytes} of snapshot"
            );
        }
    }
}
