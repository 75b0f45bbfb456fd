//! A load of clients that remember what they were promised, and the verdict about it.
//!
//! Each writer is one session on one path of its own: it sets cells to rising numbers, several in flight; creates and
//! deletes; makes sequential and ephemeral nodes; sets two nodes in one transaction; reads its own nodes, those of others,
//! and those of others behind a `sync`. Lockers stand in one line for one lock. While they run they check what one client
//! can see, and at the end [`Load::stop`] compares what they were told with what the servers hold:
//!
//! - an acknowledged write is there, and a write that was never sent is not;
//! - a client's writes take effect in the order of its calls: their zxids rise, and no older value comes back;
//! - a session reads its own writes and never goes back in what it has seen; behind a `sync` it reads what anybody had
//!   acknowledged before;
//! - the two nodes of a transaction are equal;
//! - no session ends, so an ephemeral node lives as long as its session, and dies with it;
//! - no two hold the lock, and its tokens rise.
//!
//! A write whose reply was lost may or may not be there, and both are right.

mod ledger;
mod locker;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use docent::{Client, ErrorCode, Retry};
use tokio::sync::watch;
use tokio::task::JoinSet;

use ledger::Ledger;
pub use locker::LockLedger;

/// Nothing may stand still for longer than this.
const STALL_BOUND: Duration = Duration::from_secs(60);
/// How long writers may take to finish what is in flight.
const FINISH_BOUND: Duration = Duration::from_secs(45);
/// Longer than anything that a test does to servers, so that a session that ends is a fault.
const SESSION: Duration = Duration::from_secs(40);
/// A frozen server's kernel still accepts connections; the client must not wait for it until the session ends.
const CONNECT_BOUND: Duration = Duration::from_secs(1);
/// Where all of it happens.
const ROOT: &str = "/load";
/// Cells of one writer.
const CELLS: usize = 8;

/// How many clients there are.
#[derive(Clone, Copy, Debug)]
pub struct Crew {
    /// Sessions that write and read.
    pub writers: usize,
    /// Sessions that stand in line for one lock.
    pub lockers: usize,
    /// Whether reads behind a `sync` are held against what others had been acknowledged. A deposed leader of Apache
    /// that has not noticed yet answers a `sync` by itself, so that rule does not hold while its leader is frozen.
    pub synced_reads: bool,
}

impl Default for Crew {
    fn default() -> Crew {
        Crew { writers: 4, lockers: 2, synced_reads: true }
    }
}

/// What all clients of a load share.
#[derive(Debug)]
struct Shared {
    connect: String,
    crew: Crew,
    stop: AtomicBool,
    acknowledged: AtomicU64,
    /// Writers that have not stopped yet.
    working: watch::Sender<usize>,
    /// Whether writers that have stopped may close their sessions.
    leave: watch::Sender<bool>,
    /// For each cell of each writer, the last acknowledged number.
    board: Vec<AtomicU64>,
    locks: LockLedger,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn board(&self, writer: usize, cell: usize) -> &AtomicU64 {
        &self.board[writer * CELLS + cell]
    }
}

/// A load that runs until it is stopped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    writers: JoinSet<Result<Ledger>>,
    lockers: JoinSet<Result<u64>>,
}

/// What was counted.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Writes whose reply was lost.
    pub unknown: u64,
    /// Nodes whose content was compared.
    pub checked: u64,
    /// Times that the lock was held.
    pub holds: u64,
    /// The longest time between two acknowledged writes of one client.
    pub longest_gap: Duration,
}

impl Load {
    /// Connects everybody and begins; returns when every writer was acknowledged something and the lock was held.
    ///
    /// # Errors
    /// When a client gets no session or the first writes fail.
    pub async fn start(connect: &str, crew: Crew) -> Result<Load> {
        let setup = client(connect).await?;
        for path in ["", "/alive", "/eph", "/seq", "/lock"] {
            ensure_node(&setup, &format!("{ROOT}{path}")).await?;
        }
        setup.close().await?;
        let shared = Arc::new(Shared {
            connect: connect.to_owned(),
            crew,
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            working: watch::Sender::new(crew.writers),
            leave: watch::Sender::new(false),
            board: (0..crew.writers * CELLS).map(|_| AtomicU64::new(0)).collect(),
            locks: LockLedger::default(),
        });
        let (mut writers, mut lockers) = (JoinSet::new(), JoinSet::new());
        for number in 0..crew.writers {
            writers.spawn(writer::write(Arc::clone(&shared), number));
        }
        for number in 0..crew.lockers {
            lockers.spawn(locker::contend(Arc::clone(&shared), number));
        }
        let mut load = Load { shared, writers, lockers };
        load.everyone_writes().await?;
        load.somebody_holds().await?;
        Ok(load)
    }

    /// Waits until one of the lockers, if there are any, has held the lock.
    async fn somebody_holds(&mut self) -> Result<()> {
        let deadline = Instant::now() + STALL_BOUND;
        while self.shared.crew.lockers > 0 && !self.shared.locks.was_entered() {
            ensure!(Instant::now() < deadline, "nobody held the lock for {STALL_BOUND:?}");
            self.advance(1).await?;
        }
        Ok(())
    }

    /// How many writes were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many more writes were acknowledged: a pause that a slow machine makes longer.
    ///
    /// # Errors
    /// When a client has failed, or nothing was acknowledged for a minute.
    pub async fn advance(&mut self, by: u64) -> Result<()> {
        let wanted = self.acknowledged() + by;
        let (mut last, mut since) = (self.acknowledged(), Instant::now());
        while self.acknowledged() < wanted {
            // A client ends before it is told to only when it has found a fault.
            if let Some(ended) = self.writers.try_join_next() {
                ended.context("a writer panicked")??;
            }
            if let Some(ended) = self.lockers.try_join_next() {
                ended.context("a locker panicked")??;
            }
            if self.acknowledged() != last {
                (last, since) = (self.acknowledged(), Instant::now());
            }
            ensure!(since.elapsed() < STALL_BOUND, "no write was acknowledged for {STALL_BOUND:?}");
            // The pause of a bounded wait.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Waits until every writer has been acknowledged something more: each has found a server that serves it.
    ///
    /// # Errors
    /// As [`advance`](Self::advance).
    pub async fn everyone_writes(&mut self) -> Result<()> {
        let sums = |shared: &Shared| -> Vec<u64> {
            let writer = |number: usize| {
                (0..CELLS).map(|cell| shared.board(number, cell).load(Ordering::Relaxed)).max().unwrap_or(0)
            };
            (0..shared.crew.writers).map(writer).collect()
        };
        let before = sums(&self.shared);
        let deadline = Instant::now() + STALL_BOUND;
        while sums(&self.shared).iter().zip(&before).any(|(now, then)| now == then) {
            ensure!(Instant::now() < deadline, "a writer was acknowledged nothing for {STALL_BOUND:?}");
            self.advance(1).await?;
        }
        Ok(())
    }

    /// Stops everybody and compares.
    ///
    /// # Errors
    /// With the first promise that was broken.
    pub async fn stop(self) -> Result<Verdict> {
        self.stop_after(async || Ok(())).await
    }

    /// As [`stop`](Self::stop), and does something when the last write has been answered, before anything is compared
    /// and before the sessions are closed.
    ///
    /// # Errors
    /// As [`stop`](Self::stop); also when that fails.
    pub async fn stop_after(mut self, last: impl AsyncFnOnce() -> Result<()>) -> Result<Verdict> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut working = self.shared.working.subscribe();
        let resting = tokio::time::timeout(FINISH_BOUND, working.wait_for(|working| *working == 0)).await;
        if matches!(resting, Ok(Ok(_))) {
            last().await?;
        }
        self.shared.leave.send_replace(true);
        let finish = async {
            let mut ledgers = Vec::new();
            while let Some(ended) = self.writers.join_next().await {
                ledgers.push(ended.context("a writer panicked")??);
            }
            let mut holds = 0;
            while let Some(ended) = self.lockers.join_next().await {
                holds += ended.context("a locker panicked")??;
            }
            Ok::<_, anyhow::Error>((ledgers, holds))
        };
        let (ledgers, holds) = match tokio::time::timeout(FINISH_BOUND, finish).await {
            Ok(finished) => finished?,
            Err(_) => {
                let (writers, lockers) = (self.writers.len(), self.lockers.len());
                let line = line_of_lockers(&self.shared.connect).await?;
                bail!(
                    "{writers} writers and {lockers} lockers not finished within {FINISH_BOUND:?}; the line: {line}"
                );
            }
        };
        self.shared.locks.check()?;
        let client = client(&self.shared.connect).await?;
        client.sync("/").await?;
        let mut checked = 0;
        for ledger in &ledgers {
            let context = || format!("what writer {} was promised", ledger.writer);
            checked += ledger.check(&client).await.with_context(context)?;
        }
        for folder in ["/alive", "/eph", "/lock"] {
            let ghosts = client.get_children(format!("{ROOT}{folder}")).await?.names;
            ensure!(ghosts.is_empty(), "ephemeral nodes outlived their sessions: {ghosts:?} in {folder}");
        }
        client.close().await?;
        Ok(Verdict {
            acknowledged: self.acknowledged(),
            unknown: ledgers.iter().map(|ledger| ledger.unknown).sum(),
            checked,
            holds,
            longest_gap: ledgers.iter().map(|ledger| ledger.longest_gap).max().unwrap_or_default(),
        })
    }
}

/// A client that reconnects quickly and whose end of session ends the client.
async fn client(connect: &str) -> Result<Client> {
    let retry = Retry::exponential(Duration::from_millis(5), Duration::from_millis(100));
    Client::builder(connect)
        .session_timeout(SESSION)
        .connect_timeout(CONNECT_BOUND)
        .renew_session(false)
        .retry(retry.budget(STALL_BOUND))
        .connect()
        .await
        .with_context(|| format!("a session at {connect}"))
}

/// Who stands in line, with the session of each.
async fn line_of_lockers(connect: &str) -> Result<String> {
    let client = client(connect).await?;
    client.sync("/").await?;
    let mut line = Vec::new();
    for name in client.get_children(format!("{ROOT}/lock")).await?.names {
        let stat = client.exists(format!("{ROOT}/lock/{name}")).await?;
        line.push(format!("{name} of {:?}", stat.map(|stat| stat.ephemeral_owner)));
    }
    Ok(line.join(", "))
}

/// Makes a node if it is not there; a lost reply is no harm.
async fn ensure_node(client: &Client, path: &str) -> Result<()> {
    loop {
        match client.create(path, "").await {
            Ok(_) => return Ok(()),
            Err(error) if error.code() == Some(ErrorCode::NODE_EXISTS) => return Ok(()),
            // Bounded by the client's budget, behind which it fails with an error that is not this one.
            Err(error) if error.may_have_applied() => {}
            Err(error) => return Err(error).with_context(|| format!("making {path}")),
        }
    }
}
