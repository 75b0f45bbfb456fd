//! What the suites of the recipes share: scenarios that run on any server, what they stand on, and how they look at
//! what is left.
//!
//! A scenario is one function that is given a [`Ground`]: a connect string and a path of its own. So one server
//! carries many scenarios at once, and one scenario runs on every server. `DOCENT_SCENARIO=part-of-a-name` plays only
//! what matches.

pub mod register;

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use docent::{Client, ErrorCode, SessionId, path};
use docent_server::testing::{TestEnsemble, TestServer};
use futures::FutureExt as _;
use futures::future::{LocalBoxFuture, join_all};
use tokio::time::{Instant, timeout};

use crate::availability::{Suite, note};
use crate::backend::Backend;
use crate::four_letter;
use crate::proxy::{Counts, Proxy};

/// No scenario may take longer.
pub const SCENARIO_BOUND: Duration = Duration::from_secs(150);
/// What has to come about without any more faults comes about within this time.
pub const SETTLE_BOUND: Duration = Duration::from_secs(30);
/// The session timeout of scenarios that wait for a session to die. It outlives a machine that stands still for three
/// seconds right after a heartbeat was due.
pub const SHORT_SESSION: Duration = Duration::from_secs(8);
/// The session timeout of all others.
pub const LONG_SESSION: Duration = Duration::from_secs(15);

const POLL: Duration = Duration::from_millis(10);
/// How long the members of an ensemble bear with each other: longer than any scenario waits. An election cuts
/// connections and leaves the outcome of writes open, which is not what these scenarios are about.
const PATIENCE: Duration = SCENARIO_BOUND;

/// A named scenario.
pub type Scenario = (&'static str, fn(Ground) -> LocalBoxFuture<'static, Result<()>>);

/// Names scenarios: `scenarios![one, two]`.
#[macro_export]
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), |ground| Box::pin($name(ground)))),*]
    };
}

/// One test per server for a suite: `on_every_server!("lock", SCENARIOS)`.
#[macro_export]
macro_rules! on_every_server {
    ($suite:literal, $scenarios:expr) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn bundled() -> anyhow::Result<()> {
            $crate::recipe_kit::play_bundled($suite, $scenarios).await
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn bundled_ensemble() -> anyhow::Result<()> {
            $crate::recipe_kit::play_bundled_ensemble($suite, $scenarios).await
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn apache_38() -> anyhow::Result<()> {
            $crate::recipe_kit::play($suite, $crate::backend::Backend::Apache38, $scenarios).await
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn apache_newer() -> anyhow::Result<()> {
            $crate::recipe_kit::play($suite, $crate::backend::Backend::ApacheNewer, $scenarios).await
        }
    };
}

/// Plays scenarios side by side on one server of this kind. Every failure is told, with its scenario's name.
///
/// # Errors
/// When the server does not start or a scenario fails.
pub async fn play(suite: &str, backend: Backend, scenarios: &[Scenario]) -> Result<()> {
    let name = format!("{suite} on {backend:?}");
    let Some(_suite) = Suite::begin(&name, &backend.needs()) else { return Ok(()) };
    let server = backend.start(&[]).await?;
    play_on(suite, &server.connect_string(), scenarios).await.context(name)
}

/// As [`play`], on our server within this process.
///
/// # Errors
/// As [`play`].
pub async fn play_bundled(suite: &str, scenarios: &[Scenario]) -> Result<()> {
    let server = TestServer::start().await?;
    play_on(suite, &server.connect_string(), scenarios).await
}

/// As [`play`], on three of our servers within this process. All clients are at one follower: every write makes the way
/// to the leader and back, and still each client sees at once what another was answered.
///
/// # Errors
/// As [`play`].
pub async fn play_bundled_ensemble(suite: &str, scenarios: &[Scenario]) -> Result<()> {
    let patience_ms = u32::try_from(PATIENCE.as_millis())?;
    let ensemble = TestEnsemble::start_with(3, |config| {
        let ticks = patience_ms / config.timing.tick_ms.unsigned_abs();
        config.timing.sync_limit = Some(ticks);
        config.timing.leader_silence_ms = patience_ms;
    })
    .await?;
    ensure!(ensemble.wait_until_serving().await, "the ensemble does not serve");
    let leader = ensemble.wait_for_leader().await.context("no leader")?;
    let follower = &ensemble.servers()[(leader + 1) % 3];
    play_on(suite, &follower.connect_string(), scenarios).await
}

async fn play_on(suite: &str, connect: &str, scenarios: &[Scenario]) -> Result<()> {
    let wanted = std::env::var("DOCENT_SCENARIO").unwrap_or_default();
    let runs = scenarios.iter().filter(|(name, _)| name.contains(&wanted)).map(|(name, scenario)| {
        let ground = Ground { connect: connect.to_owned(), root: format!("/{suite}-{name}") };
        let played = timeout(SCENARIO_BOUND, AssertUnwindSafe(scenario(ground)).catch_unwind());
        async move {
            let begun = Instant::now();
            let outcome = match played.await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(anyhow::anyhow!("panicked, see above")),
                Err(_) => Err(anyhow::anyhow!("not done within {SCENARIO_BOUND:?}")),
            };
            let word = if outcome.is_ok() { "ok" } else { "FAILED" };
            note(&format!("{suite}: {name}: {word} after {:.1?}", begun.elapsed()));
            outcome.with_context(|| format!("scenario {name}"))
        }
    });
    let failures: Vec<_> = join_all(runs).await.into_iter().filter_map(Result::err).collect();
    if failures.is_empty() {
        return Ok(());
    }
    let told: Vec<_> = failures.iter().map(|failure| format!("{failure:#}")).collect();
    bail!("{} scenarios failed\n{}", failures.len(), told.join("\n"))
}

/// What a scenario stands on: a server, and a path that nobody else uses.
#[derive(Clone, Debug)]
pub struct Ground {
    /// `host:port`.
    pub connect: String,
    /// The path. It does not exist at first.
    pub root: String,
}

impl Ground {
    /// A path below the ground's own.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        path::join(&self.root, name)
    }

    /// A client with a long session timeout.
    ///
    /// # Errors
    /// When no session comes about.
    pub async fn client(&self) -> Result<Client> {
        connect(&self.connect, LONG_SESSION).await
    }

    /// A client whose session dies soon when it is not heard of.
    ///
    /// # Errors
    /// When no session comes about.
    pub async fn short_client(&self) -> Result<Client> {
        connect(&self.connect, SHORT_SESSION).await
    }

    /// A client behind a proxy of its own.
    ///
    /// # Errors
    /// When no session comes about.
    pub async fn proxied(&self, session: Duration) -> Result<(Client, Proxy)> {
        let proxy = Proxy::start(self.address()?).await?;
        Ok((connect(&proxy.connect_string(), session).await?, proxy))
    }

    fn address(&self) -> Result<SocketAddr> {
        self.connect.parse().context("the connect string of a test's server is an address")
    }

    /// Ephemeral nodes below the ground, whoever owns them.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn ephemerals(&self, client: &Client) -> Result<Vec<(String, SessionId)>> {
        let (mut found, mut open) = (Vec::new(), vec![self.root.clone()]);
        while let Some(path) = open.pop() {
            match client.exists(&path).await? {
                Some(stat) if stat.ephemeral_owner != SessionId::NONE => {
                    found.push((path, stat.ephemeral_owner))
                }
                Some(_) => {
                    open.extend(children(client, &path).await?.iter().map(|name| path::join(&path, name)))
                }
                None => {}
            }
        }
        found.sort();
        Ok(found)
    }

    /// Watched paths below the ground, as the server tells.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn watches(&self) -> Result<BTreeSet<String>> {
        let answer = four_letter::ask(self.address()?, "wchp", SETTLE_BOUND).await?;
        let below = |line: &&str| **line == self.root || line.starts_with(&format!("{}/", self.root));
        Ok(answer.lines().filter(below).map(str::to_owned).collect())
    }

    /// Waits until no ephemeral node and no watch is left below the ground, while the clients are still connected.
    ///
    /// # Errors
    /// When something stays for longer than [`SETTLE_BOUND`]; the message lists it.
    pub async fn nothing_left(&self, client: &Client) -> Result<()> {
        let deadline = Instant::now() + SETTLE_BOUND;
        loop {
            let (nodes, watches) = (self.ephemerals(client).await?, self.watches().await?);
            if nodes.is_empty() && watches.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "left behind: nodes {nodes:?}, watches {watches:?}");
            // The pause of a bounded wait.
            tokio::time::sleep(POLL).await;
        }
    }
}

/// A connected client.
///
/// # Errors
/// When no session comes about.
pub async fn connect(hosts: &str, session: Duration) -> Result<Client> {
    let builder = Client::builder(hosts).session_timeout(session).server_tick(Duration::from_secs(1));
    builder.connect().await.with_context(|| format!("connecting to {hosts}"))
}

/// The children of a node, none for a node that does not exist.
///
/// # Errors
/// When the server cannot be asked.
pub async fn children(client: &Client, path: &str) -> Result<Vec<String>> {
    match client.get_children(path).await {
        Ok(children) => Ok(children.names),
        Err(error) if error.code() == Some(ErrorCode::NO_NODE) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Ends the client's session on the server, as an expiry would, and returns it. It is done by attaching to the session
/// from elsewhere and closing it there. The client is cut off by that and may take its session up once more before it
/// ends.
///
/// # Errors
/// When the client has no session, or the server cannot be reached.
pub async fn expire(hosts: &str, client: &Client) -> Result<SessionId> {
    expire_if_any(hosts, client).await?.context("the client has no session to be expired")
}

/// As [`expire`]; `None` when the client is between two sessions.
///
/// # Errors
/// When the server cannot be reached.
pub async fn expire_if_any(hosts: &str, client: &Client) -> Result<Option<SessionId>> {
    let Some((session, password)) = client.credentials() else { return Ok(None) };
    let deadline = Instant::now() + SETTLE_BOUND;
    loop {
        let thief =
            Client::builder(hosts).session_timeout(LONG_SESSION).resume(session, password).connect().await?;
        // The two take the session from each other until the end of it is acknowledged.
        match thief.close().await {
            Ok(()) => return Ok(Some(session)),
            Err(error) => ensure!(Instant::now() < deadline, "the session does not end: {error}"),
        }
    }
}

/// Waits until a condition holds.
///
/// # Errors
/// When it does not within [`SETTLE_BOUND`].
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + SETTLE_BOUND;
    while !holds().await? {
        ensure!(Instant::now() < deadline, "not within {SETTLE_BOUND:?}: {what}");
        // The pause of a bounded wait.
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Awaits a future, but not for ever.
///
/// # Errors
/// When it is not done within [`SETTLE_BOUND`].
pub async fn soon<F: Future>(what: &str, future: F) -> Result<F::Output> {
    timeout(SETTLE_BOUND, future).await.with_context(|| format!("not within {SETTLE_BOUND:?}: {what}"))
}

/// Polls a future so many times, each when it has asked for it, and drops it if it is not done then.
pub async fn polled<F: Future>(times: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// How many requests have gone through the proxy since an earlier look. One heartbeat for each of `holds` is counted, the
/// proof of its lease; further ones go by the clock and are left out, however long it took.
///
/// # Errors
/// When more heartbeats have come than the clock allows.
pub fn requests_since((begun, before): (Instant, Counts), proxy: &Proxy, holds: usize) -> Result<usize> {
    let now = proxy.counts();
    let by_clock = (now.heartbeats - before.heartbeats).saturating_sub(holds);
    let allowed = 2 + begun.elapsed().as_millis() / 400;
    ensure!(by_clock as u128 <= allowed, "{by_clock} heartbeats in {:?}", begun.elapsed());
    Ok((now.requests - before.requests).saturating_sub(by_clock))
}

/// Cuts every connection through the proxy and refuses new ones.
pub fn drop_connections(proxy: &Proxy) {
    proxy.refuse(true);
    proxy.cut();
}

/// Ends what was done to connections. Those that were stalled are cut: TCP would deliver what it held back.
pub fn heal(proxy: &Proxy) {
    proxy.cut();
    proxy.stall_up(false);
    proxy.stall_down(false);
    proxy.refuse(false);
}
