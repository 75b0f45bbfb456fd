//! Ensembles of our own processes whose members change while clients write: servers join, leave, get another role, and
//! the leader goes. What was acknowledged stays, no session ends, and all members hold the same afterwards.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::{Client, ErrorCode, ReconfigRequest};
use docent_integration_tests::availability::note;
use docent_integration_tests::backend::Backend::DocentBinary;
use docent_integration_tests::ensemble::{Ensemble, Role, Seat, sure};
use docent_integration_tests::load::{Crew, Load};
use docent_integration_tests::recipe_kit::{LONG_SESSION, connect, soon};

/// Every client may change the members, and one may be left.
const OPEN: [&str; 3] = ["reconfigEnabled=true", "standaloneEnabled=false", "skipACL=yes"];

async fn ours(size: usize) -> Result<Ensemble> {
    Ensemble::start_with(&vec![Seat::voter(DocentBinary); size], &OPEN).await
}

/// A server that is level with the leader and waits to be asked in.
async fn level_joiner(servers: &mut Ensemble) -> Result<u64> {
    servers.level_joiner(Seat::voter(DocentBinary)).await
}

/// What a configuration's text says of its version.
fn version(config: &str) -> Result<i64> {
    let (_, version) = config.rsplit_once("version=").context("a configuration has a version")?;
    i64::from_str_radix(version, 16).with_context(|| format!("a version in hexadecimal: {config}"))
}

/// Whether a member gives a client a session within a second.
async fn takes_clients(servers: &Ensemble, id: u64) -> Result<bool> {
    let connecting = Client::builder(servers.address(id)?.to_string()).connect();
    Ok(tokio::time::timeout(Duration::from_secs(1), connecting)
        .await
        .is_ok_and(|connected| connected.is_ok()))
}

async fn verdict(name: &str, servers: &mut Ensemble, load: Load) -> Result<()> {
    let verdict = load.stop().await.with_context(|| servers.logs())?;
    let compared = servers.same_everywhere().await?;
    note(&format!("membership: {name}: {verdict:?}, {compared} digests compared"));
    ensure!(verdict.checked > 0, "nothing was checked: {verdict:?}");
    Ok(())
}

async fn advance(servers: &Ensemble, load: &mut Load, by: u64) -> Result<()> {
    load.advance(by).await.with_context(|| servers.logs())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_joins_and_another_leaves_under_load() -> Result<()> {
    let mut servers = ours(3).await?;
    let first = servers.shown(1).await?;
    // The zxid with which some epoch began: the first, if the first leader came to serve.
    ensure!(version(&first)? & 0xffff_ffff == 0 && version(&first)? > 0, "{first}");
    servers.written(1, &first).await?;
    let mut load = Load::start(&servers.connect_string(), Crew::default()).await?;
    advance(&servers, &mut load, 100).await?;
    let joiner = level_joiner(&mut servers).await?;
    ensure!(!takes_clients(&servers, joiner).await?, "a server that is no member takes clients");
    let config = servers.change(&servers.joining(joiner, "participant")?, "").await?;
    for id in servers.ids() {
        servers.written(id, &config).await?;
        ensure!(servers.shown(id).await? == config, "member {id} shows another configuration");
    }
    advance(&servers, &mut load, 100).await?;
    let leaver = servers.follower().await?;
    let config = servers.change("", &leaver.to_string()).await?;
    servers.written(leaver, &config).await?;
    // It says so where it learns that the configuration counts, or once it follows again if it has to begin anew.
    servers
        .until(&format!("member {leaver} says that it serves nobody"), async || {
            Ok(servers.log_text(leaver)?.contains("serves nobody"))
        })
        .await?;
    servers.kill(leaver)?;
    advance(&servers, &mut load, 100).await?;
    // Three are left, of which one may die.
    let victim = servers.leader().await?;
    servers.kill(victim)?;
    advance(&servers, &mut load, 100).await?;
    servers.start_member(victim).await.with_context(|| servers.logs())?;
    verdict("one joins, one leaves", &mut servers, load).await?;
    servers.spawn_member(leaver)?;
    soon("the end of the one that left", async {
        while !servers.has_ended(leaver)? {
            // The pause of a bounded wait.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::Ok(())
    })
    .await?
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_leaves_under_load_and_comes_back() -> Result<()> {
    let mut servers = ours(3).await?;
    let mut load = Load::start(&servers.connect_string(), Crew::default()).await?;
    for _ in 0..3 {
        advance(&servers, &mut load, 100).await?;
        let leader = servers.leader().await?;
        let line = servers.joining(leader, "participant")?;
        servers.change("", &leader.to_string()).await?;
        advance(&servers, &mut load, 100).await?;
        let next = servers.leader().await?;
        ensure!(next != leader, "member {leader} leads without being a member");
        let config = servers.change(&line, "").await?;
        for id in servers.ids() {
            servers.written(id, &config).await?;
        }
    }
    load.everyone_writes().await.with_context(|| servers.logs())?;
    verdict("the leader leaves three times", &mut servers, load).await
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_change_under_load() -> Result<()> {
    let mut servers = ours(4).await?;
    let mut load = Load::start(&servers.connect_string(), Crew::default()).await?;
    let (leader, follower) = (servers.leader().await?, servers.follower().await?);
    for id in [follower, leader] {
        advance(&servers, &mut load, 100).await?;
        servers.change(&servers.joining(id, "observer")?, "").await?;
        servers
            .until(&format!("member {id} observes"), async || {
                Ok(servers.srvr(id).await.is_ok_and(|srvr| srvr.role == Role::Observer))
            })
            .await?;
        advance(&servers, &mut load, 100).await?;
        servers.change(&servers.joining(id, "participant")?, "").await?;
        servers
            .until(&format!("member {id} votes"), async || {
                Ok(servers.srvr(id).await.is_ok_and(|srvr| srvr.role != Role::Observer))
            })
            .await?;
    }
    load.everyone_writes().await.with_context(|| servers.logs())?;
    verdict("a follower and a leader observe for a while", &mut servers, load).await
}

#[tokio::test(flavor = "multi_thread")]
async fn three_shrink_to_one_that_restarts_alone_and_grow_again() -> Result<()> {
    let mut servers = ours(3).await?;
    let leader = servers.leader().await?;
    let others: Vec<u64> = servers.ids().into_iter().filter(|id| *id != leader).collect();
    let [one, other] = others.as_slice() else { unreachable!("three have two others") };
    let alone = servers.change("", &format!("{one},{other}")).await?;
    servers.written(leader, &alone).await?;
    for id in &others {
        servers.kill(*id)?;
    }
    servers.kill(leader)?;
    servers.start_member(leader).await.with_context(|| servers.logs())?;
    let client = connect(&servers.address(leader)?.to_string(), LONG_SESSION).await?;
    sure::create(&client, "/alone", "yes").await?;
    client.close().await?;
    let joiner = level_joiner(&mut servers).await?;
    servers.change(&servers.joining(joiner, "participant")?, "").await?;
    servers.serving(&[leader, joiner]).await?;
    let client = connect(&servers.address(joiner)?.to_string(), LONG_SESSION).await?;
    ensure!(
        client.get_data("/alone").await?.data.is_some_and(|data| data == "yes"),
        "the new member has what was written before"
    );
    client.close().await?;
    Ok(())
}

/// Asks for a change until it is refused with this code. An answer may be lost in an election, after which a change may
/// still be under way, and a member may have been silent for too long to count as level.
async fn refused(
    servers: &Ensemble,
    client: &Client,
    request: &ReconfigRequest,
    code: ErrorCode,
) -> Result<()> {
    let passing =
        [ErrorCode::CONNECTION_LOSS, ErrorCode::RECONFIG_IN_PROGRESS, ErrorCode::NEW_CONFIG_NO_QUORUM];
    servers
        .until(&format!("{request:?} is refused with {code}"), async || {
            let answer = soon("an answer", client.reconfig(request.clone())).await?;
            let refusal = answer.err().context("it was not refused")?;
            let given = refusal.code();
            let passes = given.is_some_and(|given| given != code && passing.contains(&given));
            ensure!(passes || given == Some(code), "{request:?}: {refusal} instead of {code}");
            Ok(!passes)
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_is_refused() -> Result<()> {
    let lines = ["reconfigEnabled=true"];
    let mut servers = Ensemble::start_with(&[Seat::voter(DocentBinary); 3], &lines).await?;
    let leader = servers.leader().await?;
    let follower = servers.follower().await?;
    let config = servers.shown(leader).await?;
    for id in [leader, follower] {
        let client = connect(&servers.address(id)?.to_string(), LONG_SESSION).await?;
        let refused = async |joining: &str, leaving: &str, current_config: i64, code: ErrorCode| {
            let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let (joining, leaving) = (given(joining), given(leaving));
            let request = ReconfigRequest { joining, leaving, new_members: None, current_config };
            refused(&servers, &client, &request, code).await
        };
        refused("", "1", 5, ErrorCode::BAD_VERSION).await?;
        refused("server.9=h", "", -1, ErrorCode::BAD_ARGUMENTS).await?;
        // Two voters at least.
        refused("", "1,2", -1, ErrorCode::BAD_ARGUMENTS).await?;
        let absent = "server.8=127.0.0.1:1:2;3,server.9=127.0.0.1:4:5;6,server.10=127.0.0.1:7:8;9";
        refused(absent, "", -1, ErrorCode::NEW_CONFIG_NO_QUORUM).await?;
        refused("", "1", version(&config)?, ErrorCode::NO_AUTH).await?;
        client.close().await?;
    }
    ensure!(servers.shown(follower).await? == config, "nothing has changed");
    Ok(())
}

/// `leaderServes=no`: the leader leaves clients to the others, whoever leads.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_does_not_serve_sends_clients_to_the_others() -> Result<()> {
    let seats = [Seat::voter(DocentBinary); 3];
    let mut servers = Ensemble::start_with(&seats, &["leaderServes=no"]).await?;
    for _ in 0..2 {
        let mut leader = servers.leader().await?;
        while takes_clients(&servers, leader).await? {
            // There may have been an election since it was named.
            let next = servers.leader().await?;
            ensure!(next != leader, "leader {leader} takes clients");
            leader = next;
        }
        let client = connect(&servers.connect_string(), LONG_SESSION).await?;
        sure::create(&client, "/n", "").await?;
        sure::delete(&client, "/n").await?;
        client.close().await?;
        servers.kill(leader)?;
        servers.leader().await?;
        servers.spawn_member(leader)?;
    }
    Ok(())
}
