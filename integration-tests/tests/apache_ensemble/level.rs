//! A member that was away is brought level: by what it lacks, by cutting what nobody else has, or by the whole tree.

use anyhow::{Context as _, Result, ensure};
use docent::{Client, Version};
use docent_integration_tests::backend::Backend::{self, Apache38, DocentBinary};
use docent_integration_tests::ensemble::{Ensemble, Level, Seat};
use docent_integration_tests::recipe_kit::{LONG_SESSION, soon};

use super::across::at;
use super::begin;

/// More than the 500 that Apache's leader keeps in memory.
const BEYOND_MEMORY: u32 = 700;

async fn write(servers: &Ensemble, id: u64, times: u32) -> Result<()> {
    let client = at(servers, id).await?;
    let path = format!("/filled-{}", fastrand::u64(..));
    client.create(&path, "").await?;
    let sets: Vec<_> =
        (0..times).map(|number| client.set_data(&path, number.to_string(), Version::ANY)).collect();
    for set in sets {
        soon("a write", set).await??;
    }
    client.close().await?;
    Ok(())
}

/// Starts the learner and checks how it was brought level.
async fn comes_back(servers: &mut Ensemble, learner: u64, how: &[Level]) -> Result<()> {
    let started = servers.started();
    let leader = servers.serving(&started).await?;
    let mark = servers.mark(leader, learner)?;
    let started = servers.start_member(learner).await;
    started.with_context(|| format!("starting member {learner}\n{}", servers.logs()))?;
    let levels = servers.levelled(mark)?;
    let last = levels.last().copied();
    ensure!(
        last.is_some_and(|last| how.contains(&last)),
        "brought level by {levels:?}, not by {how:?}\n{}",
        servers.logs()
    );
    servers.same_everywhere().await.with_context(|| format!("after {levels:?}"))?;
    Ok(())
}

/// DIFF after a short absence, SNAP after a long one and with an empty disk.
async fn after_absence(servers: &mut Ensemble, leader: u64, learner: u64) -> Result<()> {
    write(servers, leader, 20).await?;
    servers.stop(learner).await?;
    write(servers, leader, 50).await?;
    comes_back(servers, learner, &[Level::Diff]).await.context("after a short absence")?;
    servers.kill(learner)?;
    write(servers, leader, BEYOND_MEMORY).await?;
    // A leader that reads its log as well can send what is missing; Apache's does that for large trees only.
    comes_back(servers, learner, &[Level::Snap, Level::Diff]).await.context("after a long absence")?;
    servers.kill(learner)?;
    servers.wipe(learner)?;
    write(servers, leader, 10).await?;
    comes_back(servers, learner, &[Level::Snap, Level::Diff]).await.context("with an empty disk")
}

#[tokio::test(flavor = "multi_thread")]
async fn docent_catches_up_with_apache() -> Result<()> {
    let Some(_suite) = begin("Docent catches up with Apache", &[Apache38]) else { return Ok(()) };
    let seats = [Seat::voter(DocentBinary), Seat::voter(Apache38), Seat::voter(Apache38)];
    let mut servers = Ensemble::start_led_by(3, &seats, &[]).await?;
    after_absence(&mut servers, 3, 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_catches_up_with_docent() -> Result<()> {
    let Some(_suite) = begin("Apache catches up with Docent", &[Apache38]) else { return Ok(()) };
    let seats = [Seat::voter(Apache38), Seat::voter(Apache38), Seat::voter(DocentBinary)];
    let mut servers = Ensemble::start_led_by(3, &seats, &[]).await?;
    after_absence(&mut servers, 3, 1).await
}

/// The leader logs a write that nobody else ever hears of, and dies.
async fn a_write_that_nobody_hears_of(servers: &mut Ensemble, leader: u64, path: &str) -> Result<()> {
    let others: Vec<u64> = servers.ids().into_iter().filter(|id| *id != leader).collect();
    let builder = Client::builder(servers.address(leader)?.to_string());
    let client = builder.session_timeout(LONG_SESSION).renew_session(false).connect().await?;
    // Whoever lacks something that the others have cannot lead after this, whatever its number.
    servers.settled().await.context("before the leader is alone")?;
    for id in &others {
        servers.freeze(*id).await?;
    }
    let doomed = client.create(path, "doomed").send();
    servers.logged(leader, path).await?;
    // What waits in their sockets goes with them.
    for id in &others {
        servers.kill(*id)?;
    }
    servers.kill(leader)?;
    ensure!(soon("the answer to a doomed write", doomed).await?.is_err(), "a doomed write was acknowledged");
    Ok(())
}

/// `leader` has a write that nobody else has. It comes back under a leader with nothing newer, and later, with another
/// such write, under one that has gone on.
async fn cuts_off(kinds: [Backend; 3], nothing_newer: &[Level], gone_on: &[Level]) -> Result<()> {
    let mut servers = Ensemble::start_led_by(3, &kinds.map(Seat::voter), &[]).await?;
    write(&servers, 3, 20).await?;
    a_write_that_nobody_hears_of(&mut servers, 3, "/doomed-once").await?;
    servers.spawn_member(1)?;
    servers.spawn_member(2)?;
    comes_back(&mut servers, 3, nothing_newer).await.context("under a leader with nothing newer")?;

    servers.stop(3).await?;
    servers.all_serve().await?;
    servers.start_member(3).await?;
    let leader = servers.leader().await?;
    write(&servers, leader, 20).await?;
    a_write_that_nobody_hears_of(&mut servers, leader, "/doomed-twice").await?;
    for id in servers.ids() {
        if id != leader {
            servers.spawn_member(id)?;
        }
    }
    let newer = servers.leader().await?;
    write(&servers, newer, 20).await?;
    comes_back(&mut servers, leader, gone_on).await.context("under a leader that has gone on")?;
    for id in servers.ids() {
        let client = at(&servers, id).await?;
        for path in ["/doomed-once", "/doomed-twice"] {
            ensure!(client.exists(path).await?.is_none(), "{path} is at member {id}");
        }
        client.close().await?;
    }
    Ok(())
}

/// Our deposed leader under Apache's: what it alone has is cut off.
#[tokio::test(flavor = "multi_thread")]
async fn docent_is_truncated_by_apache() -> Result<()> {
    let Some(_suite) = begin("Docent is truncated by Apache", &[Apache38]) else { return Ok(()) };
    cuts_off([Apache38, Apache38, DocentBinary], &[Level::Trunc], &[Level::Snap, Level::Trunc]).await
}

/// Apache's deposed leader under ours. Its own cutting is unsafe where it has written a snapshot since, so it is sent the
/// whole tree.
#[tokio::test(flavor = "multi_thread")]
async fn apache_is_truncated_by_docent() -> Result<()> {
    let Some(_suite) = begin("Apache is truncated by Docent", &[Apache38]) else { return Ok(()) };
    cuts_off(
        [DocentBinary, DocentBinary, Apache38],
        &[Level::Snap, Level::Trunc],
        &[Level::Snap, Level::Trunc],
    )
    .await
}
