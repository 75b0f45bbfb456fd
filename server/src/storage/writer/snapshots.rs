//! The second thread: it writes snapshots and removes old files, so that the log does not wait for either.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Instant;

use bytes::Bytes;
use docent::Zxid;

use super::ReportFn;
use super::order::{Report, SnapshotFailure};
use crate::storage::disk::{Disk, DiskError};
use crate::storage::layout::{Compression, Dirs};
use crate::storage::purge::purge;
use crate::storage::snapshot::{SnapshotDigest, SnapshotWriter};

/// What the log thread passes on.
#[derive(Debug)]
pub(super) enum SnapshotOrder {
    Begin { zxid: Zxid },
    Piece(Bytes),
    End { digest: Option<SnapshotDigest>, last_processed: Option<Zxid> },
    Abort,
    Purge { retain: usize },
    Settle(SyncSender<Settled>),
}

impl SnapshotOrder {
    /// Meaningless if an earlier order of the same snapshot was lost.
    pub(super) fn belongs_to_snapshot(&self) -> bool {
        !matches!(self, SnapshotOrder::Purge { .. } | SnapshotOrder::Settle(_))
    }
}

/// The snapshot thread is idle.
#[derive(Debug)]
pub(super) struct Settled;

pub(super) struct Worker {
    disk: Arc<dyn Disk>,
    dirs: Dirs,
    compression: Compression,
    report: ReportFn,
    open: Option<Open>,
}

/// The snapshot being written.
struct Open {
    writer: SnapshotWriter,
    zxid: Zxid,
    pieces: u64,
    began: Instant,
}

impl Worker {
    pub(super) fn new(disk: Arc<dyn Disk>, dirs: Dirs, compression: Compression, report: ReportFn) -> Self {
        Worker { disk, dirs, compression, report, open: None }
    }

    /// Works until the log thread is gone. What is not complete then is removed by the writer's drop.
    pub(super) fn run(mut self, inbox: &Receiver<SnapshotOrder>) {
        while let Ok(order) = inbox.recv() {
            if let Err(error) = self.carry_out(order) {
                self.open = None;
                (self.report)(Report::SnapshotFailed { error: error.into() });
            }
        }
    }

    fn carry_out(&mut self, order: SnapshotOrder) -> Result<(), DiskError> {
        match order {
            SnapshotOrder::Begin { zxid } => {
                // Dropping the old one first removes its file, which may have the same name.
                self.open = None;
                let writer =
                    SnapshotWriter::create(self.disk.clone(), &self.dirs.snapshots, zxid, self.compression)?;
                self.open = Some(Open { writer, zxid, pieces: 0, began: Instant::now() });
            }
            SnapshotOrder::Piece(piece) => self.piece(&piece)?,
            SnapshotOrder::End { digest, last_processed } => self.end(digest, last_processed)?,
            SnapshotOrder::Abort => self.open = None,
            SnapshotOrder::Purge { retain } => {
                (self.report)(match purge(&*self.disk, &self.dirs, retain) {
                    Ok(removed) => Report::Purged { removed },
                    Err(error) => Report::PurgeFailed { error: Some(error) },
                });
            }
            SnapshotOrder::Settle(done) => {
                if let Some(Open { zxid, .. }) = self.open.take() {
                    let error = SnapshotFailure::Truncated { zxid };
                    (self.report)(Report::SnapshotFailed { error });
                }
                // If the log thread no longer waits, nobody needs to know.
                let _ = done.send(Settled);
            }
        }
        Ok(())
    }

    /// Pieces that arrive after a failure have no snapshot any more.
    fn piece(&mut self, piece: &[u8]) -> Result<(), DiskError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        open.writer.write(piece)?;
        open.pieces += 1;
        (self.report)(Report::SnapshotProgress { zxid: open.zxid, pieces_written: open.pieces });
        Ok(())
    }

    fn end(&mut self, digest: Option<SnapshotDigest>, last_processed: Option<Zxid>) -> Result<(), DiskError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let (_, bytes) = open.writer.finish(digest, last_processed)?;
        (self.report)(Report::SnapshotDone { zxid: open.zxid, bytes, took: open.began.elapsed() });
        Ok(())
    }
}
