//! Other people's clients stand in line on an ensemble of our servers whose leader is killed again and again: nobody loses
//! its session, and no handover breaks the fence.

use anyhow::{Context as _, Result, ensure};
use docent::{Client, ErrorCode};
use docent_integration_tests::availability::{Suite, note};
use docent_integration_tests::backend::Backend::{self, DocentBinary};
use docent_integration_tests::ensemble::{self, Ensemble, sure};
use docent_integration_tests::handovers::Handovers;
use docent_integration_tests::peers::java::JavaClient;
use docent_integration_tests::recipe_kit::{LONG_SESSION, connect};
use docent_integration_tests::suites::{self, Contender};

/// Times that the leader is killed.
const KILLS: u64 = 5;
/// Handovers between a kill and the next, and between a kill and the restart of who was killed.
const BETWEEN: u64 = 25;
/// Rounds of a contender that goes on until it is told: all kills lie within them, however long a kill takes.
const UNTIL_ENOUGH: usize = 0;

/// How often the register was written.
async fn handovers_so_far(client: &Client) -> Result<u64> {
    let text = match client.get_data("/peer/register").await {
        Ok(node) => String::from_utf8(node.bytes().to_vec())?,
        Err(error) if error.code() == Some(ErrorCode::NO_NODE) => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let (_, count) = text.split_once(':').with_context(|| format!("the register holds {text:?}"))?;
    Ok(count.parse()?)
}

/// Waits until the register was written so often. The programs must start first, JVMs among them.
async fn goes_beyond(servers: &Ensemble, watcher: &Client, wanted: u64) -> Result<()> {
    servers
        .until(&format!("{wanted} handovers"), async || Ok(handovers_so_far(watcher).await? >= wanted))
        .await
}

async fn over_leader_kills(backend: Backend, contenders: &[Contender]) -> Result<()> {
    let mut needs = ensemble::needs(&[backend]);
    needs.extend(contenders.iter().flat_map(|contender| contender.needs()));
    let name = format!("{contenders:?} over kills of the leader of {backend:?}");
    let Some(_suite) = Suite::begin(&name, &needs) else { return Ok(()) };
    let mut servers = Ensemble::start(&[backend; 3]).await?;
    let connect_string = servers.connect_string();
    let spawn = |(number, contender): (usize, &Contender)| {
        let id = format!("c{number}");
        contender.program(&connect_string, "/peer", UNTIL_ENOUGH, &id, contenders.len())?.spawn()
    };
    let playing = contenders.iter().enumerate().map(spawn).collect::<Result<Vec<_>>>()?;
    let watcher = connect(&connect_string, LONG_SESSION).await?;
    let mut wanted = BETWEEN;
    for _ in 0..KILLS {
        goes_beyond(&servers, &watcher, wanted).await.context("before a kill")?;
        let leader = servers.leader().await?;
        servers.kill(leader)?;
        wanted = handovers_so_far(&watcher).await? + BETWEEN;
        goes_beyond(&servers, &watcher, wanted).await.context("after a kill")?;
        servers.start_member(leader).await?;
        wanted += BETWEEN;
    }
    goes_beyond(&servers, &watcher, wanted).await.context("behind the last kill")?;
    sure::create(&watcher, "/peer/enough", "").await?;
    let handovers: Handovers = suites::finish_contenders(playing).await.with_context(|| servers.logs())?;
    handovers.verify(usize::try_from(handovers_so_far(&watcher).await?)?)?;
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
