//! How long an ensemble of three is without a leader, for our server and, next to it, for Apache's on the same machine.
//!
//! Clients write all the time. The leader is killed with `kill -9`, or stopped with SIGSTOP, and the clock runs from right
//! before the signal until the first write is acknowledged that was begun after it, on a connection to a member that
//! survives. Everything is synced to the disk. All settings are the defaults of the sample configuration: a tick of two
//! seconds, a `syncLimit` of five.
//!
//! ```sh
//! cargo run --release -p docent-integration-tests --bin failover -- --kills 100 --freezes 20
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use docent::{Client, ConnState, ErrorCode, Retry, StateWatch, Version};
use docent_integration_tests::backend::Backend;
use docent_integration_tests::ensemble::{Ensemble, Seat};
use tokio::task::JoinSet;

/// What an operator would have, from Apache's sample; and how soon our members leave a silent leader if nobody says.
const LINES: [&str; 4] = ["tickTime=2000", "initLimit=10", "syncLimit=5", "leaderSilenceMs=250"];
/// Clients that write without a pause, one write in flight each.
const WRITERS: usize = 8;
/// Apache's SIGSTOP takes five ticks until it is noticed.
const FAILOVER_BOUND: Duration = Duration::from_secs(60);
/// Writes between two failures, so that each hits a running load.
const BETWEEN: u64 = 200;

const USAGE: &str = "usage: failover [--kills N] [--freezes N] [--server docent|apache|apache-newer]...";

/// What is done to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Kill,
    Freeze,
}

struct Args {
    kills: usize,
    freezes: usize,
    servers: Vec<Backend>,
}

impl Args {
    fn parse() -> Result<Args> {
        let mut args = Args { kills: 20, freezes: 5, servers: Vec::new() };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next().with_context(|| format!("{word} needs a value; {USAGE}"))?;
            match word.as_str() {
                "--kills" => args.kills = value.parse().context(USAGE)?,
                "--freezes" => args.freezes = value.parse().context(USAGE)?,
                "--server" => args.servers.push(match value.as_str() {
                    "docent" => Backend::DocentBinary,
                    "apache" => Backend::Apache38,
                    "apache-newer" => Backend::ApacheNewer,
                    _ => bail!("no server {value}; {USAGE}"),
                }),
                _ => bail!("{USAGE}"),
            }
        }
        if args.servers.is_empty() {
            args.servers = vec![Backend::DocentBinary, Backend::Apache38];
        }
        Ok(args)
    }
}

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<()> {
    let args = Args::parse()?;
    if cfg!(debug_assertions) {
        println!("built without --release: these numbers say nothing");
    }
    println!("three servers, {WRITERS} writers, fsync on, {LINES:?}");
    for server in args.servers {
        let blows = [(Blow::Kill, args.kills), (Blow::Freeze, args.freezes)];
        for (blow, times) in blows.into_iter().filter(|(_, times)| *times > 0) {
            let measured = measure(server, blow, times).await;
            Report::of(measured.with_context(|| format!("{server:?}, {blow:?}"))?).print(server, blow);
        }
    }
    Ok(())
}

/// One failure.
struct Failover {
    took: Duration,
    /// Of the two connections to members that survive, how many were never broken.
    kept: usize,
}

async fn measure(server: Backend, blow: Blow, times: usize) -> Result<Vec<Failover>> {
    let mut servers = Ensemble::prepare_with(&[Seat::voter(server); 3], &LINES, &[])?;
    servers.start_all().await?;
    let load = Load::start(&servers).await?;
    let mut failovers = Vec::with_capacity(times);
    for _ in 0..times {
        load.advance(BETWEEN).await.with_context(|| servers.logs())?;
        let leader = servers.leader().await?;
        let failover = fail(&mut servers, leader, blow).await.with_context(|| servers.logs())?;
        failovers.push(failover);
        match blow {
            Blow::Kill => servers.start_member(leader).await?,
            Blow::Freeze => servers.thaw(leader)?,
        }
        servers.all_serve().await?;
    }
    load.stop().await?;
    Ok(failovers)
}

async fn fail(servers: &mut Ensemble, leader: u64, blow: Blow) -> Result<Failover> {
    let mut probes = Vec::new();
    for id in servers.ids() {
        if id != leader {
            let probe = client(&servers.address(id)?.to_string()).await?;
            // Through the leader, so that the connection is known to work.
            probe.set_data("/probe", "", Version::ANY).await?;
            probes.push(probe);
        }
    }
    let watching: Vec<_> = probes.iter().map(|probe| tokio::spawn(breaks(probe.state()))).collect();
    let begun = Instant::now();
    match blow {
        Blow::Kill => servers.kill(leader)?,
        Blow::Freeze => servers.freeze(leader).await?,
    }
    let writes = probes.iter().map(|probe| Box::pin(first_write(probe)));
    let (first, _, others) = futures::future::select_all(writes).await;
    let took = begun.elapsed();
    first?;
    for other in others {
        other.await?;
    }
    for probe in probes {
        probe.close().await?;
    }
    let mut kept = 0;
    for broken in watching {
        kept += usize::from(!broken.await?);
    }
    ensure!(took < FAILOVER_BOUND, "no write for {took:?}");
    Ok(Failover { took, kept })
}

/// Whether the connection breaks before the client is closed.
async fn breaks(mut state: StateWatch) -> bool {
    loop {
        match state.changed().await {
            ConnState::Closed { .. } => return false,
            state if state.is_connected() => {}
            _ => return true,
        }
    }
}

/// Writes until one is acknowledged.
async fn first_write(probe: &Client) -> Result<()> {
    let deadline = Instant::now() + FAILOVER_BOUND;
    loop {
        match probe.set_data("/probe", "after", Version::ANY).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(error).context("no write was acknowledged");
            }
            Err(error) if error.may_have_applied() || error.is_retryable() => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn client(connect: &str) -> Result<Client> {
    // Quicker to come back than the default, for the sake of servers that close their clients' connections.
    let retry = Retry::exponential(Duration::from_millis(2), Duration::from_millis(10));
    let builder = Client::builder(connect).session_timeout(Duration::from_secs(30));
    let builder = builder.connect_timeout(Duration::from_secs(1)).retry(retry.budget(FAILOVER_BOUND));
    builder.connect().await.with_context(|| format!("a session at {connect}"))
}

/// Clients that write without a pause, on all members.
struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    writers: JoinSet<Result<()>>,
}

impl Load {
    async fn start(servers: &Ensemble) -> Result<Load> {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let connect = servers.connect_string();
        let setup = client(&connect).await?;
        setup.create("/probe", "").await?;
        let mut writers = JoinSet::new();
        for number in 0..WRITERS {
            setup.create(format!("/writer-{number}"), "").await?;
            writers.spawn(write(connect.clone(), number, Arc::clone(&stop), Arc::clone(&written)));
        }
        setup.close().await?;
        Ok(Load { stop, written, writers })
    }

    async fn advance(&self, by: u64) -> Result<()> {
        let wanted = self.written.load(Ordering::Relaxed) + by;
        let deadline = Instant::now() + FAILOVER_BOUND;
        while self.written.load(Ordering::Relaxed) < wanted {
            ensure!(Instant::now() < deadline, "the load stands still");
            // The pause of a bounded wait.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    async fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.writers.join_next().await {
            ended??;
        }
        Ok(())
    }
}

async fn write(connect: String, number: usize, stop: Arc<AtomicBool>, written: Arc<AtomicU64>) -> Result<()> {
    let client = client(&connect).await?;
    let path = format!("/writer-{number}");
    while !stop.load(Ordering::Relaxed) {
        match client.set_data(&path, vec![b'x'; 100], Version::ANY).await {
            Ok(_) => drop(written.fetch_add(1, Ordering::Relaxed)),
            Err(error) if error.code() == Some(ErrorCode::CONNECTION_LOSS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    client.close().await?;
    Ok(())
}

/// A distribution.
struct Report {
    sorted: Vec<Duration>,
    kept: usize,
}

impl Report {
    fn of(failovers: Vec<Failover>) -> Report {
        let kept = failovers.iter().map(|failover| failover.kept).sum();
        let mut sorted: Vec<Duration> = failovers.into_iter().map(|failover| failover.took).collect();
        sorted.sort();
        Report { sorted, kept }
    }

    /// The smallest value that so many percent are not above.
    fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.sorted.len() * percent).div_ceil(100);
        self.sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    fn print(&self, server: Backend, blow: Blow) {
        let times = self.sorted.len();
        let ms = |duration: Duration| format!("{:.1}", duration.as_secs_f64() * 1e3);
        println!(
            "{server:?} {blow:?} × {times}: min {} p50 {} p90 {} p99 {} max {} ms; {} of {} connections to survivors never broke",
            ms(self.percentile(0)),
            ms(self.percentile(50)),
            ms(self.percentile(90)),
            ms(self.percentile(99)),
            ms(self.percentile(100)),
            self.kept,
            2 * times,
        );
        let all: Vec<String> = self.sorted.iter().copied().map(ms).collect();
        println!("  all, ms: {}", all.join(" "));
    }
}
