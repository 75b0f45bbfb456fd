//! The static binary in containers: alone as the image comes, and three on one network, under load, while containers are
//! killed, frozen, cut off and replaced.
//!
//! One test, one image: a scenario after the other, each with containers of its own. `DOCENT_SCENARIO=part-of-a-name`
//! plays only what matches.
#![cfg(feature = "containers")]

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use docent_integration_tests::availability::{self, Suite, note};
use docent_integration_tests::containers::{Containers, Image, Member, missing};
use docent_integration_tests::docent_bin::static_binary;
use docent_integration_tests::load::{Crew, Load};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use tokio::process::Command;

const SUITE: &str = "containers";
/// No scenario may take longer.
const SCENARIO_BOUND: Duration = Duration::from_secs(300);
/// Behind each fault everybody who can be served is served again within this time: two seconds until silence counts, one
/// until clients are sent away, one for a connection to a server that does not answer; the rest is for a slow machine.
const PROGRESS_BOUND: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
const SERVERS: u64 = 3;

type Scenario = (&'static str, for<'a> fn(&'a Image) -> LocalBoxFuture<'a, Result<String>>);

const SCENARIOS: &[Scenario] = &[
    ("alone", |image| Box::pin(alone(image))),
    ("leader_killed", |image| Box::pin(leader_killed(image))),
    ("leader_paused", |image| Box::pin(leader_paused(image))),
    ("leader_cut_off", |image| Box::pin(leader_cut_off(image))),
    ("follower_cut_off_and_moved", |image| Box::pin(follower_cut_off_and_moved(image))),
    ("rolling_restart", |image| Box::pin(rolling_restart(image))),
];

#[tokio::test(flavor = "multi_thread")]
async fn containers() -> Result<()> {
    if availability::refused(SUITE) {
        return Ok(());
    }
    let missing: BTreeSet<String> = missing().await.into_iter().collect();
    let Some(_suite) = Suite::begin_without(SUITE, &missing) else { return Ok(()) };
    let begun = Instant::now();
    let image = Image::build().await?;
    let took = begun.elapsed().as_secs_f64();
    let part = std::env::var("DOCENT_SCENARIO").unwrap_or_default();
    let mut failures = Vec::new();
    for (name, scenario) in SCENARIOS.iter().filter(|(name, _)| name.contains(&part)) {
        let begun = Instant::now();
        // The image must go also when a scenario panics.
        let played =
            tokio::time::timeout(SCENARIO_BOUND, AssertUnwindSafe(scenario(&image)).catch_unwind()).await;
        let took = begun.elapsed().as_secs_f64();
        let failure = match played {
            Ok(Ok(Ok(verdict))) => {
                note(&format!("containers: {name} took {took:.1} s: {verdict}"));
                continue;
            }
            Ok(Ok(Err(error))) => format!("{error:#}"),
            Ok(Err(_)) => "it panicked".to_owned(),
            Err(_) => format!("not over within {SCENARIO_BOUND:?}"),
        };
        // Said at once: the rest may take minutes.
        note(&format!("containers: {name} FAILED after {took:.1} s"));
        failures.push(format!("{name} ({took:.1} s): {failure}"));
    }
    let size = image.size().await;
    image.remove().await?;
    note(&format!("containers: the image has {} bytes, and was built in {took:.1} s", size?));
    ensure!(failures.is_empty(), "{} scenarios failed:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

/// The image as it comes: a client from outside, a client from inside, and data that outlive a stop.
async fn alone(image: &Image) -> Result<String> {
    let server = Member::alone(image).await?;
    let began = Instant::now();
    until("the server in the container serves", async || Ok(server.srvr().await.is_ok())).await?;
    let up = began.elapsed();
    docent(&server, &["shell", "create", "/kept", "through a stop"]).await?;
    let (printed, well) = server.inside(&["shell", "get", "/kept"]).await?;
    ensure!(well && printed.contains("through a stop"), "from inside: {printed}");
    server.stop().await?;
    server.start().await?;
    until("it serves again", async || Ok(server.srvr().await.is_ok())).await?;
    let found = docent(&server, &["shell", "get", "/kept"]).await?;
    ensure!(found.contains("through a stop"), "behind a stop: {found}");
    let status = docent(&server, &["status"]).await?;
    ensure!(status.contains("standalone"), "it says {status}");
    Ok(format!("served {up:.0?} after its start"))
}

/// Runs the binary on the host against a container's published port; gives what it printed.
async fn docent(server: &Member, arguments: &[&str]) -> Result<String> {
    let binary = tokio::task::spawn_blocking(static_binary).await??;
    let address = server.address().to_string();
    let mut command = Command::new(binary);
    command.args(["--server", &address]).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output =
        tokio::time::timeout(PROGRESS_BOUND, command.output()).await.context("it does not end")??;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "docent {arguments:?}: {}: {printed}{told}", output.status);
    Ok(printed)
}

/// The leader's container is killed; it comes back as a follower.
async fn leader_killed(image: &Image) -> Result<String> {
    under_load(image, async |servers, load| {
        let leader = servers.leader().await?;
        servers.member(leader)?.kill().await?;
        let elected = again(servers, load, &servers.others(leader)).await?;
        servers.member(leader)?.start().await?;
        let back = again(servers, load, &servers.ids()).await?;
        Ok(format!("served without it after {elected:.0?}, with it after {back:.0?}"))
    })
    .await
}

/// The leader freezes with all its connections open; when it goes on it finds another in its place.
async fn leader_paused(image: &Image) -> Result<String> {
    under_load(image, async |servers, load| {
        let leader = servers.leader().await?;
        servers.member(leader)?.pause().await?;
        let begun = Instant::now();
        bounded(servers.serving(&servers.others(leader))).await?;
        // Whose connection is to the frozen server waits for it, since its session allows that.
        bounded(load.advance(50)).await?;
        let elected = begun.elapsed();
        servers.member(leader)?.unpause().await?;
        let back = again(servers, load, &servers.ids()).await?;
        Ok(format!("served without it after {elected:.0?}, with it after {back:.0?}"))
    })
    .await
}

/// The leader loses the network. It notices by itself, and stops serving.
async fn leader_cut_off(image: &Image) -> Result<String> {
    under_load(image, async |servers, load| {
        let leader = servers.leader().await?;
        servers.disconnect(leader).await?;
        let elected = again(servers, load, &servers.others(leader)).await?;
        let alone = servers.member(leader)?;
        // Nobody can ask it but from inside.
        until("the leader that is cut off serves nobody", async || {
            let (printed, well) = alone.inside(&["status"]).await?;
            Ok(!well && printed.contains("not currently serving"))
        })
        .await?;
        servers.reconnect(leader).await?;
        let back = again(servers, load, &servers.ids()).await?;
        Ok(format!("served without it after {elected:.0?}, with it after {back:.0?}"))
    })
    .await
}

/// A follower loses the network, and comes back under another address: its name is looked up anew.
async fn follower_cut_off_and_moved(image: &Image) -> Result<String> {
    under_load(image, async |servers, load| {
        let follower = servers.follower().await?;
        let before = servers.inner_address(follower).await?;
        servers.disconnect(follower).await?;
        let without = again(servers, load, &servers.others(follower)).await?;
        let stranger = servers.stranger(image).await?;
        servers.reconnect(follower).await?;
        let back = again(servers, load, &servers.ids()).await?;
        let after = servers.inner_address(follower).await?;
        ensure!(before != after, "it kept its address {before}, so nothing was shown");
        drop(stranger);
        Ok(format!(
            "served without it after {without:.0?}, with it, at {after} instead of {before}, after {back:.0?}"
        ))
    })
    .await
}

/// Every server is stopped in order, one at a time, and started again.
async fn rolling_restart(image: &Image) -> Result<String> {
    under_load(image, async |servers, load| {
        let mut told = Vec::new();
        for id in servers.ids() {
            let led = servers.leader().await? == id;
            servers.member(id)?.stop().await?;
            let without = again(servers, load, &servers.others(id)).await?;
            servers.member(id)?.start().await?;
            let back = again(servers, load, &servers.ids()).await?;
            let role = if led { "leader" } else { "follower" };
            told.push(format!("{role} {id}: without it after {without:.0?}, with it after {back:.0?}"));
        }
        Ok(told.join("; "))
    })
    .await
}

/// Does something to servers that are under load, and checks what their clients were promised.
async fn under_load(
    image: &Image,
    story: impl AsyncFnOnce(&Containers, &mut Load) -> Result<String>,
) -> Result<String> {
    let servers = Containers::start(image, SERVERS).await?;
    let played = async {
        let mut load = Load::start(&servers.connect_string(), Crew::default()).await?;
        load.advance(100).await?;
        let told = story(&servers, &mut load).await?;
        load.advance(100).await?;
        let verdict = load.stop().await?;
        let nodes = servers.same_everywhere().await?;
        Ok::<_, anyhow::Error>(format!("{told}; {verdict:?}, {nodes} nodes alike everywhere"))
    };
    match played.await {
        Ok(told) => Ok(told),
        Err(error) => Err(anyhow!("{error:#}\n{}", servers.logs().await)),
    }
}

/// Waits until these members serve and every writer is acknowledged something; gives how long that took.
async fn again(servers: &Containers, load: &mut Load, ids: &[u64]) -> Result<Duration> {
    let begun = Instant::now();
    bounded(async {
        servers.serving(ids).await?;
        load.everyone_writes().await
    })
    .await?;
    Ok(begun.elapsed())
}

async fn bounded<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PROGRESS_BOUND, work)
        .await
        .with_context(|| format!("not within {PROGRESS_BOUND:?}"))?
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PROGRESS_BOUND;
    while !holds().await? {
        ensure!(Instant::now() < deadline, "not within {PROGRESS_BOUND:?}: {what}");
        // The pause of a bounded wait.
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
