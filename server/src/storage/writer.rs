//! The thread that owns the log: it takes orders, gathers what waits, writes it at once, syncs once, and reports.
//!
//! ```text
//! orders ──► log thread ──────────► report(Synced, …)
//!                └─► snapshot thread ─► report(SnapshotProgress, …)
//! ```
//!
//! Invariants:
//!
//! * Orders are carried out in the order in which they were sent; `Synced { order }` means that this order and every
//!   earlier one is durable.
//! * A failed write, sync or cut of the log is reported once as `Failed` and ends the thread. It is never retried: after a
//!   failed sync nobody knows what is on the disk.
//! * The log never waits for a snapshot. Snapshots have a thread of their own and a bounded line to it; a sender that
//!   exceeds the bound loses that snapshot, not the log's speed. The one exception is a cut, which must not race with a
//!   snapshot of what is being cut away, and ends it first.
//! * A snapshot that fails is reported and forgotten. The log alone suffices for a start.
//!
//! Left out: when to snapshot, roll, purge or stop; the node decides.

mod order;
mod snapshots;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use docent::Zxid;
use tokio::sync::mpsc;

use super::disk::{Disk, DiskError};
use super::epoch_file::Epochs;
use super::layout::{Compression, Dirs};
use super::log::{Group, Log, LogError, LogOptions, TruncateError};

pub use order::{Errand, GroupStats, Order, Report, SnapshotFailure, WriterError};
use snapshots::{Settled, SnapshotOrder};

/// How the writer works, and its bounds.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// How the log is written.
    pub log: LogOptions,
    /// How snapshots are compressed.
    pub compression: Compression,
    /// Orders that may wait; a sender waits, or is refused by `try_send`, when there are more. Enough to fill a group
    /// while the one before is being synced.
    pub orders_max: usize,
    /// Records of one group. It bounds how much is unacknowledged at once, and so how long the first record of a group
    /// waits for the last.
    pub group_records_max: usize,
    /// Bytes after which a group is not made larger. One write of this size takes a few milliseconds.
    pub group_bytes_max: usize,
    /// Pieces of a snapshot (and orders around it) that may wait for the snapshot thread. The sender keeps below it
    /// by counting [`Report::SnapshotProgress`]; a snapshot that exceeds it is given up.
    pub pieces_max: usize,
}

impl Default for WriterOptions {
    fn default() -> Self {
        WriterOptions {
            log: LogOptions::default(),
            compression: Compression::None,
            orders_max: 8192,
            group_records_max: 4096,
            group_bytes_max: 4 * 1024 * 1024,
            pieces_max: 64,
        }
    }
}

/// What the writer calls with each report, from either of its threads. It must not block for long: the log waits.
pub type ReportFn = Arc<dyn Fn(Report) + Send + Sync>;

/// The running writer.
#[derive(Debug)]
pub struct Writer {
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts the threads. `last` is the last record of the log, or the zxid of the snapshot if that is larger; `epochs` what
    /// the epoch files hold, if that is known.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        disk: Arc<dyn Disk>,
        dirs: Dirs,
        options: WriterOptions,
        last: Zxid,
        epochs: Option<Epochs>,
        report: impl Fn(Report) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let report: ReportFn = Arc::new(report);
        let (orders, inbox) = mpsc::channel(options.orders_max.max(1));
        let (forward, snapshot_inbox) = std_mpsc::sync_channel(options.pieces_max.max(1));
        let snapshots =
            snapshots::Worker::new(disk.clone(), dirs.clone(), options.compression, report.clone());
        let snapshots = thread::Builder::new()
            .name("docent-snapshot".into())
            .spawn(move || snapshots.run(&snapshot_inbox))?;
        let log = LogThread {
            log: Log::new(disk.clone(), dirs.clone(), options.log.clone(), last),
            group: Group::new(last, options.log.payload_max),
            order: 0,
            disk,
            epochs_dir: dirs.snapshots,
            epochs,
            options,
            report,
            forward,
            overrun: false,
        };
        let thread =
            thread::Builder::new().name("docent-log".into()).spawn(move || log.run(inbox, snapshots))?;
        Ok(Writer { orders, thread })
    }

    /// Where orders are sent. The channel closes when the writer has stopped or failed.
    #[must_use]
    pub fn orders(&self) -> &mpsc::Sender<Order> {
        &self.orders
    }

    /// Waits until both threads have ended, which takes an [`Order::Stop`], a failure, or every sender's end. Blocks.
    pub fn join(self) {
        drop(self.orders);
        // A panic was reported as a failure by the thread itself.
        let _ = self.thread.join();
    }
}

struct LogThread {
    log: Log,
    group: Group,
    /// The last order whose record is in the group.
    order: u64,
    disk: Arc<dyn Disk>,
    epochs_dir: PathBuf,
    epochs: Option<Epochs>,
    options: WriterOptions,
    report: ReportFn,
    forward: std_mpsc::SyncSender<SnapshotOrder>,
    /// The current snapshot was given up because its pieces came too fast; what is left of it is dropped.
    overrun: bool,
}

/// Whether the thread goes on.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    Stop,
}

impl LogThread {
    fn run(mut self, mut inbox: mpsc::Receiver<Order>, snapshots: JoinHandle<()>) {
        let mut farewell = Farewell { report: self.report.clone(), said: false };
        let last_word = match self.serve(&mut inbox) {
            Ok(()) => Report::Stopped,
            Err(error) => Report::Failed { error },
        };
        // Nobody may believe that an order sent from here on is carried out.
        drop(inbox);
        drop(self);
        // The snapshot thread ends when it has worked off its line; a snapshot that is not complete is removed.
        if snapshots.join().is_err() {
            tracing::error!("the snapshot thread panicked");
        }
        farewell.say(last_word);
    }

    fn serve(&mut self, inbox: &mut mpsc::Receiver<Order>) -> Result<(), WriterError> {
        let mut waiting = Vec::with_capacity(self.options.group_records_max);
        loop {
            let count = inbox.blocking_recv_many(&mut waiting, self.options.group_records_max.max(1));
            if count == 0 {
                return self.stop();
            }
            for order in waiting.drain(..) {
                if self.carry_out(order)? == Flow::Stop {
                    return self.stop();
                }
            }
            self.flush()?;
        }
    }

    /// One arm per order.
    fn carry_out(&mut self, order: Order) -> Result<Flow, WriterError> {
        match order {
            Order::Append { order, record } => {
                self.group.push(&record)?;
                self.order = order;
                if self.group.bytes() >= self.options.group_bytes_max
                    || self.group.records() >= self.options.group_records_max
                {
                    self.flush()?;
                }
            }
            Order::Truncate { order, after } => self.truncate(order, after)?,
            Order::SaveEpochs { order, accepted, current } => {
                self.flush()?;
                let epochs = Epochs { accepted, current };
                epochs
                    .save(&*self.disk, &self.epochs_dir, self.epochs.replace(epochs))
                    .map_err(WriterError::Epochs)?;
                (self.report)(Report::Synced { order, group: None });
            }
            Order::Errand(errand) => {
                self.flush()?;
                (errand.0)();
            }
            Order::Roll => {
                self.flush()?;
                self.log.roll()?;
            }
            Order::SnapshotBegin { zxid } => {
                self.overrun = false;
                self.forward(SnapshotOrder::Begin { zxid });
            }
            Order::SnapshotPiece(piece) => self.forward(SnapshotOrder::Piece(piece)),
            Order::SnapshotEnd { digest, last_processed } => {
                self.forward(SnapshotOrder::End { digest, last_processed });
            }
            Order::SnapshotAbort => self.forward(SnapshotOrder::Abort),
            Order::Purge { retain } => self.forward(SnapshotOrder::Purge { retain }),
            Order::Stop => return Ok(Flow::Stop),
        }
        Ok(Flow::On)
    }

    /// One write, one sync, one report for all that was gathered.
    fn flush(&mut self) -> Result<(), WriterError> {
        if self.group.records() == 0 {
            return Ok(());
        }
        let began = Instant::now();
        self.log.append(&self.group)?;
        let written = Instant::now();
        self.log.sync()?;
        let group = GroupStats {
            records: self.group.records(),
            bytes: self.group.bytes(),
            write: written - began,
            sync: written.elapsed(),
        };
        self.group.restart(self.log.last());
        (self.report)(Report::Synced { order: self.order, group: Some(group) });
        Ok(())
    }

    fn truncate(&mut self, order: u64, after: Zxid) -> Result<(), WriterError> {
        self.flush()?;
        self.settle_snapshots();
        match self.log.truncate_after(after) {
            Ok(truncated) => {
                tracing::info!(%after, ?truncated, "the end of the log was cut away");
                (self.report)(Report::Synced { order, group: None });
            }
            Err(TruncateError::NoSnapshot { after }) => {
                (self.report)(Report::TruncateRefused { order, after });
            }
            Err(TruncateError::Log(error)) => return Err(error.into()),
        }
        self.group.restart(self.log.last());
        Ok(())
    }

    /// Ends the snapshot that is being written and waits until its thread is idle.
    fn settle_snapshots(&mut self) {
        let (done, wait) = std_mpsc::sync_channel::<Settled>(1);
        if self.forward.send(SnapshotOrder::Settle(done)).is_ok() {
            // An error means that the thread is gone, which is as idle as it gets.
            let _ = wait.recv();
        }
    }

    /// Hands an order to the snapshot thread without ever waiting for it.
    fn forward(&mut self, order: SnapshotOrder) {
        if self.overrun && order.belongs_to_snapshot() {
            return;
        }
        if let Err(std_mpsc::TrySendError::Full(order)) = self.forward.try_send(order) {
            self.overrun |= order.belongs_to_snapshot();
            (self.report)(match order {
                SnapshotOrder::Purge { .. } => Report::PurgeFailed { error: None },
                _ => Report::SnapshotFailed {
                    error: SnapshotFailure::Overrun { max: self.options.pieces_max },
                },
            });
        }
    }

    fn stop(&mut self) -> Result<(), WriterError> {
        self.flush()?;
        self.log.roll()?;
        Ok(())
    }
}

/// Makes sure that somebody hears of the end, even of one by panic.
struct Farewell {
    report: ReportFn,
    said: bool,
}

impl Farewell {
    fn say(&mut self, report: Report) {
        self.said = true;
        (self.report)(report);
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        if !self.said {
            (self.report)(Report::Failed { error: WriterError::Panicked });
        }
    }
}

impl From<LogError> for WriterError {
    fn from(error: LogError) -> Self {
        WriterError::Log(error)
    }
}

impl WriterError {
    /// No room is left on the file system.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            WriterError::Log(LogError::Disk(error)) | WriterError::Epochs(error) => {
                DiskError::is_disk_full(error)
            }
            WriterError::Log(_) | WriterError::Panicked => false,
        }
    }
}
