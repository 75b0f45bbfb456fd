//! An ensemble of both makes under load whose leader, whoever it is, is killed again and again.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use docent_integration_tests::availability::note;
use docent_integration_tests::backend::Backend::{self, Apache38, ApacheNewer, DocentBinary};
use docent_integration_tests::ensemble::{Ensemble, Seat};
use docent_integration_tests::load::{Crew, Load};

use super::begin;

/// Kills; the lead goes to the survivor that knows most, and at equal knowledge to the higher name.
const KILLS: usize = 8;

async fn the_lead_goes_round(seats: &[Seat]) -> Result<()> {
    let kinds: Vec<Backend> = seats.iter().map(|seat| seat.kind).collect();
    let Some(_suite) = begin(&format!("kills of the leader of {kinds:?}"), &kinds) else { return Ok(()) };
    let mut servers = Ensemble::start_with(seats, &["snapCount=400", "preAllocSize=64"]).await?;
    let load = Load::start(&servers.connect_string(), Crew::default()).await;
    let mut load = load.with_context(|| servers.logs())?;
    let mut led = BTreeSet::new();
    for kill in 0..KILLS {
        // A follower of Apache that loses its leader while it still applies what it had missed lets two threads apply at
        // once (ZOOKEEPER-4712 and its like): its window, and what it sends as a leader, is wrong then.
        servers.caught_up().await?;
        let leader = servers.leader().await?;
        led.insert(leader);
        servers.kill(leader)?;
        let advanced = load.advance(fastrand::u64(1..200)).await;
        advanced.with_context(|| format!("after kill {kill} of {leader}\n{}", servers.logs()))?;
        let started = servers.start_member(leader).await;
        started.with_context(|| format!("starting {leader} after kill {kill}\n{}", servers.logs()))?;
        load.advance(fastrand::u64(1..200)).await.with_context(|| servers.logs())?;
        servers.no_mismatch().await?;
    }
    let verdict = load.stop().await.with_context(|| servers.logs())?;
    let compared = servers.same_everywhere().await?;
    note(&format!("PEERS: kills: {verdict:?}, {compared} digests compared, led by {led:?}"));
    ensure!(led.len() > 1, "only {led:?} led");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_apache_and_one_of_ours() -> Result<()> {
    let kinds = [Apache38, ApacheNewer, DocentBinary];
    the_lead_goes_round(&kinds.map(Seat::voter)).await
}

/// Observers of both makes look on.
#[tokio::test(flavor = "multi_thread")]
async fn two_of_ours_and_one_of_apache() -> Result<()> {
    let mut seats = [DocentBinary, Apache38, DocentBinary].map(Seat::voter).to_vec();
    seats.extend([Seat::observer(DocentBinary), Seat::observer(Apache38)]);
    the_lead_goes_round(&seats).await
}
