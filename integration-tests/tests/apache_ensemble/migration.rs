//! The move of a running ensemble from one make of server to the other, member by member on its own data, while clients
//! write and hold locks.

use anyhow::{Context as _, Result, ensure};
use docent_integration_tests::availability::note;
use docent_integration_tests::backend::Backend::{self, Apache38, ApacheNewer, DocentBinary};
use docent_integration_tests::ensemble::{Ensemble, Seat};
use docent_integration_tests::load::{Crew, Load};

use super::begin;

/// Writes between two steps.
const BETWEEN: u64 = 150;

/// Replaces one member after the other, the leader last, as an operator would.
async fn replace_all(servers: &mut Ensemble, load: &mut Load, kind: Backend) -> Result<()> {
    let leader = servers.leader().await?;
    let mut order = servers.ids();
    order.sort_by_key(|id| *id == leader);
    for id in order {
        let context = |what: &str| format!("{what} member {id} by {kind:?}");
        servers.stop(id).await?;
        load.advance(BETWEEN).await.with_context(|| context("while stopped: replacing"))?;
        servers.replace(id, kind)?;
        servers.start_member(id).await.with_context(|| context("replacing"))?;
        let advanced = load.advance(BETWEEN).await;
        advanced.with_context(|| format!("{}\n{}", context("after replacing"), servers.logs()))?;
        // An operator waits for this, too: see the kills of ensembles of both makes for what it avoids.
        servers.caught_up().await?;
        servers.no_mismatch().await?;
    }
    Ok(())
}

async fn there_and_back(from: Backend, to: Backend) -> Result<()> {
    let Some(_suite) = begin(&format!("from {from:?} to {to:?} and back"), &[from, to]) else {
        return Ok(());
    };
    let mut servers = Ensemble::start_with(&[Seat::voter(from); 3], &[]).await?;
    let mut load = Load::start(&servers.connect_string(), Crew::default()).await?;
    load.advance(BETWEEN).await?;
    replace_all(&mut servers, &mut load, to).await?;
    load.everyone_writes().await?;
    replace_all(&mut servers, &mut load, from).await?;
    let verdict = load.stop().await.with_context(|| servers.logs())?;
    let compared = servers.same_everywhere().await?;
    ensure!(verdict.holds > 0 && compared > 0, "{verdict:?}, {compared} digests");
    note(&format!("PEERS: migration: {verdict:?}, {compared} digests compared"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn from_apache_38_to_docent_and_back() -> Result<()> {
    there_and_back(Apache38, DocentBinary).await
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_newer_apache_to_docent_and_back() -> Result<()> {
    there_and_back(ApacheNewer, DocentBinary).await
}

/// The same between two releases of Apache's: what is asked of us is asked of them.
#[tokio::test(flavor = "multi_thread")]
async fn from_apache_38_to_the_newer_and_back() -> Result<()> {
    there_and_back(Apache38, ApacheNewer).await
}
