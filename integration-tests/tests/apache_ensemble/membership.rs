//! An ensemble of both makes whose members change, under a leader of each and asked for through each.

use anyhow::{Context as _, Result, ensure};
use docent_integration_tests::availability::note;
use docent_integration_tests::backend::Backend::{self, Apache38, DocentBinary};
use docent_integration_tests::ensemble::{Ensemble, Seat};
use docent_integration_tests::load::{Crew, Load};

use super::begin;

/// Every client may change the members, and one may be left.
const OPEN: [&str; 3] = ["reconfigEnabled=true", "standaloneEnabled=false", "skipACL=yes"];

/// All members show the same configuration, and have it in their files.
async fn agree(servers: &Ensemble, ids: &[u64], config: &str) -> Result<()> {
    for id in ids {
        servers
            .until(&format!("member {id} shows {config}"), async || {
                Ok(servers.shown(*id).await.is_ok_and(|shown| shown == config))
            })
            .await?;
        servers.written(*id, config).await?;
    }
    Ok(())
}

/// A follower of each make leaves and comes back, asked for through a member of the other make; then a server of each make
/// joins; then the leader leaves.
async fn members_change(seats: &[Backend], leader: u64) -> Result<()> {
    let Some(_suite) = begin(&format!("members of {seats:?} change, led by {leader}"), seats) else {
        return Ok(());
    };
    let seats: Vec<Seat> = seats.iter().map(|kind| Seat::voter(*kind)).collect();
    let mut servers = Ensemble::start_led_by(leader, &seats, &OPEN).await?;
    let first = servers.shown(leader).await?;
    agree(&servers, &servers.ids(), &first).await.with_context(|| servers.logs())?;
    let mut load = Load::start(&servers.connect_string(), Crew::default()).await?;
    let followers: Vec<u64> = servers.ids().into_iter().filter(|id| *id != leader).collect();
    for id in &followers {
        let through = followers.iter().find(|other| servers.kind(**other).ok() != servers.kind(*id).ok());
        let through = servers.address(*through.context("a follower of the other make")?)?.to_string();
        let line = servers.joining(*id, "participant")?;
        load.advance(50).await.with_context(|| servers.logs())?;
        let out = servers.change_at(&through, "", &id.to_string()).await?;
        let left: Vec<u64> = servers.ids().into_iter().filter(|other| other != id).collect();
        agree(&servers, &left, &out).await?;
        load.advance(50).await.with_context(|| servers.logs())?;
        // It begins anew, and a server of Apache's that is being brought level by one can miss a configuration.
        servers.until("the one that left follows on", async || Ok(servers.srvr(*id).await.is_ok())).await?;
        let back = servers.change_at(&through, &line, "").await?;
        agree(&servers, &servers.ids(), &back).await?;
    }
    for kind in [DocentBinary, Apache38] {
        let joiner = servers.level_joiner(Seat::voter(kind)).await?;
        let config = servers.change(&servers.joining(joiner, "participant")?, "").await?;
        agree(&servers, &servers.ids(), &config).await?;
        load.advance(50).await.with_context(|| servers.logs())?;
    }
    let config = servers.change("", &leader.to_string()).await?;
    servers.stop(leader).await?;
    load.advance(50).await.with_context(|| servers.logs())?;
    let next = servers.leader().await?;
    ensure!(next != leader, "member {leader} leads without being a member");
    agree(&servers, &servers.started(), &config).await?;
    let verdict = load.stop().await.with_context(|| servers.logs())?;
    let compared = servers.same_everywhere().await?;
    note(&format!("PEERS: membership: {verdict:?}, {compared} digests compared, then led by {next}"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_leader_of_ours() -> Result<()> {
    members_change(&[DocentBinary, Apache38, DocentBinary], 3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_leader_of_apache() -> Result<()> {
    members_change(&[DocentBinary, Apache38, Apache38], 3).await
}
