//! How a follower that is far behind comes back, for our server and, next to it, for Apache's on the same machine.
//!
//! One of three members is stopped, clients write until it is so many transactions behind, and it is started again under
//! the same load. Told are how long it took until it serves and is level, the rate of acknowledged writes before, meanwhile and
//! after (the machine then carries one server more), and the memory of the leader and the follower. Everything is synced to the disk.
//!
//! ```sh
//! cargo run --release -p docent-integration-tests --bin catch_up -- --behind 1000000
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use docent::{Client, Version};
use docent_integration_tests::backend::Backend;
use docent_integration_tests::ensemble::{Ensemble, Role, Seat};
use tokio::task::JoinSet;

/// What an operator would have, from Apache's sample; and how soon our members leave a silent leader if nobody says.
const LINES: [&str; 4] = ["tickTime=2000", "initLimit=10", "syncLimit=5", "leaderSilenceMs=250"];
/// Clients that write, and how many writes each keeps in flight.
const WRITERS: usize = 8;
const IN_FLIGHT: usize = 32;
/// Bytes of each node.
const SIZE: usize = 100;
/// How long the rate is taken before the follower comes back, and after it is level.
const BEFORE: Duration = Duration::from_secs(5);
/// The follower must be level by then.
const BOUND: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(20);
/// A follower that answers from within so many transactions of the leader is level: under load there are always some
/// on their way.
const LEVEL: i64 = 2_000;

const USAGE: &str =
    "usage: catch_up [--behind N] [--write create|set] [--server docent|apache|apache-newer]...";

/// What the clients write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    /// A new node each time: the state grows as the log does.
    Create,
    /// The same few nodes: the state stays small.
    Set,
}

struct Args {
    behind: u64,
    write: Write,
    servers: Vec<Backend>,
}

impl Args {
    fn parse() -> Result<Args> {
        let mut args = Args { behind: 1_000_000, write: Write::Create, servers: Vec::new() };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next().with_context(|| format!("{word} needs a value; {USAGE}"))?;
            match (word.as_str(), value.as_str()) {
                ("--behind", _) => args.behind = value.parse().context(USAGE)?,
                ("--write", "create") => args.write = Write::Create,
                ("--write", "set") => args.write = Write::Set,
                ("--server", "docent") => args.servers.push(Backend::DocentBinary),
                ("--server", "apache") => args.servers.push(Backend::Apache38),
                ("--server", "apache-newer") => args.servers.push(Backend::ApacheNewer),
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
    println!(
        "three servers, {WRITERS} writers × {IN_FLIGHT} in flight, {:?}, fsync on, {LINES:?}, one member {} behind",
        args.write, args.behind
    );
    for server in args.servers {
        measure(server, args.behind, args.write).await.with_context(|| format!("{server:?}"))?;
    }
    Ok(())
}

async fn measure(kind: Backend, behind: u64, write: Write) -> Result<()> {
    let mut servers = Ensemble::prepare_with(&[Seat::voter(kind); 3], &LINES, &[])?;
    servers.start_all().await?;
    let (leader, follower) = (servers.leader().await?, servers.follower().await?);
    servers.stop(follower).await?;
    let hosts: Vec<String> = servers
        .started()
        .into_iter()
        .map(|id| servers.address(id).map(|address| address.to_string()))
        .collect::<Result<_>>()?;
    let load = Load::start(&hosts.join(","), write).await?;
    let missed = load.advance(behind, BOUND).await.with_context(|| servers.logs())?;
    let before = load.rate_for(BEFORE).await;
    let memory_before = resident(&servers, leader)?;
    let written = load.written();
    let begun = Instant::now();
    servers.spawn_member(follower)?;
    let mut peaks = Peaks::default();
    // The slowest second, as it is the one that an operator would notice.
    let mut marks = VecDeque::from([(begun, written)]);
    let mut slowest = f64::INFINITY;
    while !is_level(&servers, leader, follower).await {
        ensure!(begun.elapsed() < BOUND, "the follower is not level after {BOUND:?}\n{}", servers.logs());
        peaks.look(&servers, leader, follower)?;
        let now = (Instant::now(), load.written());
        marks.push_back(now);
        while marks.get(1).is_some_and(|(then, _)| now.0 - *then >= Duration::from_secs(1)) {
            marks.pop_front();
        }
        if let Some((then, count)) = marks.front().filter(|(then, _)| now.0 - *then >= Duration::from_secs(1))
        {
            slowest = slowest.min((now.1 - count) as f64 / (now.0 - *then).as_secs_f64());
        }
        // The pause of a bounded wait.
        tokio::time::sleep(POLL).await;
    }
    let took = begun.elapsed();
    let meanwhile = (load.written() - written) as f64 / took.as_secs_f64();
    let after = load.rate_for(BEFORE).await;
    load.stop().await?;
    servers.caught_up().await?;
    println!(
        "{kind:?}: {missed} writes missed, level after {:.2} s; writes/s with two members {before:.0}, meanwhile {meanwhile:.0} (×{:.2}), \
         slowest second {slowest:.0} (×{:.2}), with three {after:.0}; leader {} → at most {} MiB, follower at most {} MiB",
        took.as_secs_f64(),
        meanwhile / before,
        slowest / before,
        memory_before >> 20,
        peaks.leader >> 20,
        peaks.follower >> 20,
    );
    Ok(())
}

/// Whether the follower serves, as a follower, next to where the leader is.
async fn is_level(servers: &Ensemble, leader: u64, follower: u64) -> bool {
    // The follower is asked first: what it says is not newer than what the leader then says.
    let (Ok(learner), Ok(leader)) = (servers.srvr(follower).await, servers.srvr(leader).await) else {
        return false;
    };
    learner.role == Role::Follower && learner.zxid.0 + LEVEL >= leader.zxid.0
}

/// The most memory that was seen.
#[derive(Default)]
struct Peaks {
    leader: u64,
    follower: u64,
}

impl Peaks {
    fn look(&mut self, servers: &Ensemble, leader: u64, follower: u64) -> Result<()> {
        self.leader = self.leader.max(resident(servers, leader)?);
        self.follower = self.follower.max(resident(servers, follower)?);
        Ok(())
    }
}

/// Resident memory of a member, bytes.
fn resident(servers: &Ensemble, id: u64) -> Result<u64> {
    let pid = servers.pid(id)?.with_context(|| format!("member {id} does not run"))?;
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).context("reading a process's status")?;
    // What has ended and is not yet waited for has a status without memory.
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let line = line.with_context(|| format!("member {id} has ended\n{}", servers.logs()))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS is a number of kB")?;
    Ok(kib << 10)
}

/// Clients that write without a pause.
struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    writers: JoinSet<Result<()>>,
}

impl Load {
    async fn start(connect: &str, write: Write) -> Result<Load> {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut writers = JoinSet::new();
        for number in 0..WRITERS {
            let client = Client::builder(connect).session_timeout(Duration::from_secs(30)).connect().await?;
            let base = format!("/w{number}");
            client.create(&base, "").await?;
            writers.spawn(run(client, base, write, Arc::clone(&stop), Arc::clone(&written)));
        }
        Ok(Load { stop, written, writers })
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Waits for so many more writes; gives how many there were.
    async fn advance(&self, by: u64, bound: Duration) -> Result<u64> {
        let (begun, from) = (Instant::now(), self.written());
        while self.written() < from + by {
            ensure!(begun.elapsed() < bound, "{} of {by} writes within {bound:?}", self.written() - from);
            // The pause of a bounded wait.
            tokio::time::sleep(POLL).await;
        }
        Ok(self.written() - from)
    }

    /// Acknowledged writes per second over a time.
    async fn rate_for(&self, time: Duration) -> f64 {
        let (begun, from) = (Instant::now(), self.written());
        // A measured span, a bounded wait by itself.
        tokio::time::sleep(time).await;
        (self.written() - from) as f64 / begun.elapsed().as_secs_f64()
    }

    async fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.writers.join_next().await {
            ended??;
        }
        Ok(())
    }
}

async fn run(
    client: Client,
    base: String,
    write: Write,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
) -> Result<()> {
    let data = bytes::Bytes::from(vec![b'x'; SIZE]);
    let mut number = 0_u64;
    let mut in_flight = VecDeque::with_capacity(IN_FLIGHT);
    while !stop.load(Ordering::Relaxed) {
        while in_flight.len() < IN_FLIGHT {
            let reply: futures::future::BoxFuture<'static, Result<()>> = match write {
                Write::Create => {
                    let reply = client.create(format!("{base}/n{number}"), data.clone()).send();
                    Box::pin(async move { reply.await.map(drop).map_err(Into::into) })
                }
                Write::Set => {
                    let reply = client.set_data(&base, data.clone(), Version::ANY);
                    Box::pin(async move { reply.await.map(drop).map_err(Into::into) })
                }
            };
            number += 1;
            in_flight.push_back(reply);
        }
        if let Some(oldest) = in_flight.pop_front() {
            oldest.await?;
            written.fetch_add(1, Ordering::Relaxed);
        }
    }
    for reply in in_flight {
        reply.await?;
    }
    client.close().await?;
    Ok(())
}
