//! Other people's clients stand in line on an ensemble of our servers whose leader is killed again and again: nobody loses
//! its session, and no handover breaks the fence.

use anyhow::{Context as _, Result, ensure};
use docent::Client;
use docent_integration_tests::availability::{Suite, note};
use docent_integration_tests::backend::Backend::{self, DocentBinary};
use docent_integration_tests::ensemble::{self, Ensemble};
use docent_integration_tests::handovers::Handovers;
use docent_integration_tests::peers::java::JavaClient;
use docent_integration_tests::recipe_kit::{LONG_SESSION, connect, eventually};
use docent_integration_tests::suites::{self, Contender};

/// Times that the leader is killed.
const KILLS: u64 = 5;
/// Handovers between a kill and the next, and between a kill and the restart of who was killed.
const BETWEEN: u64 = 25;

/// How often the register was written.
async fn handovers_so_far(client: &Client) -> Result<u64> {
    let node = client.get_data("/peer/register").await;
    let text = match node {
        Ok(node) => String::from_utf8(node.bytes().to_vec())?,
        Err(_) => return Ok(0),
    };
    let (_, count) = text.split_once(':').with_context(|| format!("the register holds {text:?}"))?;
    Ok(count.parse()?)
}

async fn over_leader_kills(backend: Backend, contenders: &[Contender]) -> Result<()> {
    let mut needs = ensemble::needs(&[backend]);
    needs.extend(contenders.iter().flat_map(|contender| contender.needs()));
    let name = format!("{contenders:?} over kills of the leader of {backend:?}");
    let Some(_suite) = Suite::begin(&name, &needs) else { return Ok(()) };
    let mut servers = Ensemble::start(&[backend; 3]).await?;
    // All kills lie within the rounds of the contenders.
    let rounds = usize::try_from((2 * KILLS + 2) * BETWEEN)?.div_ceil(contenders.len());
    let connect_string = servers.connect_string();
    let spawn = |(number, contender): (usize, &Contender)| {
        let id = format!("c{number}");
        contender.program(&connect_string, "/peer", rounds, &id, contenders.len())?.spawn()
    };
    let playing = contenders.iter().enumerate().map(spawn).collect::<Result<Vec<_>>>()?;
    let watcher = connect(&connect_string, LONG_SESSION).await?;
    let mut wanted = BETWEEN;
    for _ in 0..KILLS {
        eventually("handovers before a kill", async || Ok(handovers_so_far(&watcher).await? >= wanted))
            .await?;
        let leader = servers.leader().await?;
        servers.kill(leader)?;
        wanted = handovers_so_far(&watcher).await? + BETWEEN;
        eventually("handovers after a kill", async || Ok(handovers_so_far(&watcher).await? >= wanted))
            .await
            .with_context(|| servers.logs())?;
        servers.start_member(leader).await?;
        wanted += BETWEEN;
    }
    let handovers: Handovers = suites::finish_contenders(playing).await.with_context(|| servers.logs())?;
    handovers.verify(contenders.len() * rounds)?;
    handovers.verify_sessions(contenders.len())?;
    ensure!(handovers.changes() >= contenders.len(), "nobody waited: {} changes", handovers.changes());
    note(&format!("PEERS: failover: {KILLS} kills, {} writes whose reply was lost", handovers.repeated()));
    watcher.close().await?;
    servers.same_everywhere().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn curator_and_kazoo_keep_their_sessions() -> Result<()> {
    let line = [
        Contender::CuratorMutex(JavaClient::Debian),
        Contender::CuratorMutex(JavaClient::Newer),
        Contender::KazooCuratorLock,
    ];
    over_leader_kills(DocentBinary, &line).await
}

#[tokio::test(flavor = "multi_thread")]
async fn curators_latch_keeps_its_session() -> Result<()> {
    over_leader_kills(DocentBinary, &[Contender::CuratorLatch(JavaClient::Debian); 2]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn kazoos_own_lock_keeps_its_session() -> Result<()> {
    over_leader_kills(DocentBinary, &[Contender::KazooLock; 2]).await
}
