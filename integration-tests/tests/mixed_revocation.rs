//! Asking to yield across languages: Curator's `Revoker` asks us, and we ask a revocable `InterProcessMutex` of Curator's.

use anyhow::{Context as _, Result, bail, ensure};
use docent::{Client, ParentMode};
use docent_integration_tests::availability::Suite;
use docent_integration_tests::backend::Backend;
use docent_integration_tests::peers::java::{self, JavaClient};
use docent_integration_tests::suites::BOUND;
use docent_recipes::{Lock, Recipes};

const BASE: &str = "/peer";
const ROUNDS: usize = 5;

/// Waits until a node is there.
async fn until_there(client: &Client, path: &str) -> Result<()> {
    while let (None, made) = client.exists_and_watch(path).await? {
        made.await?;
    }
    Ok(())
}

/// We hold and are asked.
async fn hold(client: &Client, lock: &Lock) -> Result<()> {
    for round in 1..=ROUNDS {
        let guard = lock.acquire().await?;
        client.create(format!("{BASE}/holding-{round}"), "").await?;
        guard.asked_to_yield().await;
        guard.check()?;
        ensure!(guard.fence().is_asked_to_yield(), "lost instead of asked");
        guard.release().await?;
        // Whoever asked holds next, before we stand in line again.
        until_there(client, &format!("{BASE}/had-{round}")).await?;
    }
    Ok(())
}

/// Curator holds, and we ask.
async fn ask(client: &Client, lock: &Lock) -> Result<()> {
    for round in 1..=ROUNDS {
        until_there(client, &format!("{BASE}/holding-{round}")).await?;
        let holder = lock.contenders().await?.into_iter().next().context("somebody holds")?;
        ensure!(holder.data.is_empty(), "a revocable mutex has empty data: {holder:?}");
        let place = lock.enqueue().await?;
        ensure!(place.position() == Some(1), "round {round}: {:?}", place.state());
        ensure!(lock.ask_to_yield(&holder).await?, "it holds until it is asked");
        place.await?.release().await?;
    }
    Ok(())
}

async fn play(backend: Backend, java: JavaClient, id: &str) -> Result<()> {
    let mut needs = backend.needs();
    needs.extend(java.needs());
    let Some(_suite) = Suite::begin(&format!("revocation, {id} in {java:?} on {backend:?}"), &needs) else {
        return Ok(());
    };
    let server = backend.start(&[]).await?;
    let (connect, rounds) = (server.connect_string(), ROUNDS.to_string());
    let peer = java::program(java, "Revocation", [&*connect, BASE, &rounds, id, "2"])?.spawn()?;
    let client = Client::connect(&*connect).await?;
    let mine = format!("{BASE}/ready/ours");
    client.create_parents(&mine, ParentMode::Persistent).await?;
    client.create(&mine, "").await?;
    let lock = client.lock(format!("{BASE}/lock"));
    let ours =
        async { if id.starts_with("ask") { hold(&client, &lock).await } else { ask(&client, &lock).await } };
    let (ours, theirs) = tokio::join!(tokio::time::timeout(BOUND, ours), peer.finish(BOUND));
    let output = theirs?.success()?.stdout;
    ours.context("ours took too long")??;
    let said = |word: &str| output.lines().filter(|line| line.starts_with(word)).count();
    let words: &[&str] = if id.starts_with("ask") { &["ASKED "] } else { &["HOLDING ", "YIELDED "] };
    for word in words {
        if said(word) != ROUNDS {
            bail!("{word} was said {} times in {ROUNDS} rounds:\n{output}", said(word));
        }
    }
    client.close().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn curator_asks_us_on_our_server() -> Result<()> {
    play(Backend::DocentBinary, JavaClient::Debian, "ask").await
}

#[tokio::test(flavor = "multi_thread")]
async fn curator_asks_us_on_apache() -> Result<()> {
    play(Backend::Apache38, JavaClient::Newer, "ask").await
}

#[tokio::test(flavor = "multi_thread")]
async fn we_ask_curator_on_our_server() -> Result<()> {
    play(Backend::DocentBinary, JavaClient::Newer, "hold").await
}

#[tokio::test(flavor = "multi_thread")]
async fn we_ask_curator_on_apache() -> Result<()> {
    play(Backend::ApacheNewer, JavaClient::Debian, "hold").await
}
