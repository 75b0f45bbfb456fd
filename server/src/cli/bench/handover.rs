//! Lock handovers: contenders, each with a session of its own, pass one ordered lock on. This goes through the recipes and
//! the client library, as a program's locks do; what is measured is the time from one holder's release to the next
//! holder's grant.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use docent::Client;
use docent_recipes::Recipes as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::control::Control;
use super::histogram::Histogram;
use super::load::Tally;
use super::usage::Process;
use super::workload::{Length, Outcome, Run};

/// How often the end is looked for.
const LOOK_UP: Duration = Duration::from_millis(20);

/// What the contenders share.
struct Shared {
    path: String,
    /// Handovers that are still to be made.
    left: AtomicU64,
    end: CancellationToken,
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    latency: Histogram,
    released: Option<Instant>,
}

/// Lets the contenders pass the lock on for the time or count of the run.
///
/// # Errors
/// A contender cannot connect, or the recipe fails.
pub(crate) async fn measure(run: &Run<'_>, connect: &str) -> Result<Outcome> {
    let mut clients = Vec::with_capacity(run.shape.sessions);
    for _ in 0..run.shape.sessions {
        clients.push(Client::connect(connect).await.with_context(|| format!("connecting to {connect}"))?);
    }
    let outcome = contend(run, &clients).await;
    for client in &clients {
        client.close().await.context("closing a contender")?;
    }
    let mut control = Control::open(run.target)?;
    control.delete_all(run.base)?;
    control.close()?;
    outcome
}

async fn contend(run: &Run<'_>, clients: &[Client]) -> Result<Outcome> {
    let left = match run.length {
        Length::Count(count) => count,
        Length::Time { .. } => u64::MAX,
    };
    // The recipe's handles see the chroot of the connect string, which the base has in front.
    let path = run.base.strip_prefix(run.target.chroot()).unwrap_or(run.base).to_owned();
    let shared = Arc::new(Shared {
        path,
        left: AtomicU64::new(left),
        end: CancellationToken::new(),
        record: Mutex::default(),
    });
    let server_before = run.server.map(Process::cpu_time).transpose()?;
    let resident_before = run.server.map(Process::resident).transpose()?;
    let own_before = Process::own().cpu_time()?;
    let begin = Instant::now();
    let mut contenders = JoinSet::new();
    for client in clients {
        contenders.spawn(pass_on(client.clone(), Arc::clone(&shared)));
    }
    let end = match run.length {
        Length::Time { counted, .. } => Some(begin + counted),
        Length::Count(_) => None,
    };
    while !shared.end.is_cancelled() {
        tokio::time::sleep(LOOK_UP).await;
        if end.is_some_and(|end| Instant::now() >= end) || run.stop.load(Ordering::Relaxed) {
            shared.end.cancel();
        }
    }
    let elapsed = begin.elapsed();
    let server_after = run.server.map(Process::cpu_time).transpose()?;
    while let Some(ended) = contenders.join_next().await {
        ended.map_err(|error| anyhow!("a contender panicked: {error}"))??;
    }
    let latency = std::mem::take(&mut *shared.lock()).latency;
    Ok(Outcome {
        tally: Tally { latency, last_reply: None },
        elapsed,
        server_cpu: server_after.zip(server_before).map(|(after, before)| after.saturating_sub(before)),
        own_cpu: Process::own().cpu_time()?.saturating_sub(own_before),
        resident: resident_before.zip(run.server.map(Process::resident).transpose()?),
    })
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a grant. False when there were enough.
    fn granted(&self) -> bool {
        let now = Instant::now();
        let mut record = self.lock();
        if let Some(released) = record.released.take() {
            let took = now.saturating_duration_since(released);
            record.latency.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        }
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// One contender: holds for no time at all, and stands in line again.
async fn pass_on(client: Client, shared: Arc<Shared>) -> Result<()> {
    // A contender that fails ends the run for all.
    let _ends_all = shared.end.clone().drop_guard();
    let lock = client.lock(&shared.path);
    loop {
        let guard = tokio::select! {
            guard = lock.acquire() => guard.context("acquiring the lock")?,
            () = shared.end.cancelled() => return Ok(()),
        };
        let goes_on = shared.granted();
        shared.lock().released = Some(Instant::now());
        guard.release().await.context("releasing the lock")?;
        if !goes_on {
            return Ok(());
        }
    }
}
