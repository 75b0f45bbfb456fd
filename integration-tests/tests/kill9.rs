//! Our server is killed again and again while clients write. What it acknowledged is there afterwards, no ephemeral node
//! outlives its session, and sessions are taken up again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::{Client, Retry, SessionId, Version};
use docent_integration_tests::backend::Backend;

/// Kills: many in continuous integration, some in everyday runs. `DOCENT_KILLS` says another number.
fn kills() -> u64 {
    let usual = if std::env::var_os("CI").is_some() { 200 } else { 20 };
    std::env::var("DOCENT_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(usual)
}

const WRITERS: usize = 4;

/// What one writer knows: for each of its nodes the last value that was acknowledged, and the highest it ever sent.
#[derive(Debug, Default)]
struct Ledger {
    nodes: BTreeMap<String, (u64, u64)>,
    session: SessionId,
}

async fn client(connect: &str) -> Result<Client> {
    let retry = Retry::exponential(Duration::from_millis(2), Duration::from_millis(50));
    let builder = Client::builder(connect).session_timeout(Duration::from_secs(30));
    Ok(builder.retry(retry.budget(Duration::from_secs(60))).connect().await?)
}

/// Creates nodes and counts them up until told to stop.
async fn write(
    connect: String,
    writer: usize,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
) -> Result<Ledger> {
    let client = client(&connect).await?;
    let mut ledger = Ledger { session: client.session_ready().await?.id(), ..Ledger::default() };
    client.create(format!("/writer-{writer}-alive"), "").ephemeral().await.ok();
    let mut value = 0;
    while !stop.load(Ordering::Relaxed) {
        value += 1;
        let path = format!("/w{writer}-{}", value % 50);
        let (acknowledged, sent) = ledger.nodes.entry(path.clone()).or_default();
        *sent = value;
        let text = value.to_string();
        let written = match client.set_data(&path, text.clone(), Version::ANY).await {
            Err(error) if error.code() == Some(docent::ErrorCode::NO_NODE) => {
                client.create(&path, text).await.map(drop)
            }
            other => other.map(drop),
        };
        if written.is_ok() {
            *acknowledged = value;
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
    ensure!(
        client.session_ready().await?.id() == ledger.session,
        "writer {writer} lost its session although the server was never away for long"
    );
    client.close().await?;
    Ok(ledger)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_write_survives() -> Result<()> {
    let mut server =
        Backend::DocentBinary.start(&["snapCount=500", "preAllocSize=64", "maxSessionTimeout=60000"]).await?;
    let connect = server.connect_string();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(connect.clone(), writer, Arc::clone(&stop), Arc::clone(&done))))
        .collect();
    let mut random = fastrand::Rng::new();
    for kill in 0..kills() {
        // A random moment, counted in writes so that a slow machine writes as much as a fast one.
        let until = done.load(Ordering::Relaxed) + random.u64(1..60);
        let reached = async {
            while done.load(Ordering::Relaxed) < until {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), reached)
            .await
            .with_context(|| format!("before kill {kill}"))?;
        server.kill()?;
        server.restart().await.with_context(|| format!("after kill {kill}"))?;
    }
    stop.store(true, Ordering::Relaxed);
    let mut ledgers = Vec::new();
    for writer in writers {
        ledgers.push(writer.await??);
    }
    let client = client(&connect).await?;
    let mut checked = 0;
    for (path, (acknowledged, sent)) in ledgers.iter().flat_map(|ledger| &ledger.nodes) {
        if *acknowledged == 0 {
            continue;
        }
        let found: u64 = String::from_utf8(client.get_data(path).await?.bytes().to_vec())?.parse()?;
        ensure!(
            (*acknowledged..=*sent).contains(&found),
            "{path} holds {found}; acknowledged was {acknowledged}, sent {sent}"
        );
        checked += 1;
    }
    ensure!(checked > 0, "nothing was written");
    let names = client.get_children("/").await?.names;
    let ghosts: Vec<_> = names.iter().filter(|name| name.ends_with("-alive")).collect();
    ensure!(ghosts.is_empty(), "ephemeral nodes outlived their sessions: {ghosts:?}");
    println!(
        "{} kills, {} acknowledged writes, {checked} nodes checked",
        kills(),
        done.load(Ordering::Relaxed)
    );
    client.close().await?;
    Ok(())
}
