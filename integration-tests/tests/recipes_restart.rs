//! Every recipe over a restart of the server: sessions live on, so nothing is lost and nothing is made anew.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent_integration_tests::availability::Suite;
use docent_integration_tests::backend::Backend;
use docent_integration_tests::recipe_kit::{Ground, connect, eventually, soon};
use docent_recipes::{CacheEvent, CacheEvents, Depth, HoldState, Recipes, Watched};
use docent_server::testing::TestServer;

/// Longer than a server takes to come again: that of a JVM on a busy machine was seen to take ten seconds.
const SESSION: Duration = Duration::from_secs(90);
/// So that the servers grant it.
const SESSION_MAX_MS: i32 = 100_000;

/// What a cache tells until it is complete again, but for the cut.
async fn told_until_synced(events: &mut CacheEvents) -> Vec<Option<CacheEvent>> {
    let mut told = Vec::new();
    loop {
        match events.next().await {
            Some(CacheEvent::Synced { .. }) => return told,
            Some(CacheEvent::Suspended { .. }) => {}
            // The stream has ended.
            None => return vec![None],
            event => told.push(event),
        }
    }
}

/// `restart` stops the server and starts it again on its port and data.
async fn holds_outlive_a_restart(ground: Ground, restart: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    let client = connect(&ground.connect, SESSION).await?;
    let other = connect(&ground.connect, SESSION).await?;
    let session = client.session()?.id();

    let lock = client.lock(ground.path("lock")).acquire().await?;
    let waiting = other.lock(ground.path("lock")).enqueue().await?;
    let once = client.exclusive(ground.path("once")).with_epoch().acquire().await?;
    let leader = client.leader_latch(ground.path("latch")).id("a").join().await?;
    let lead = soon("to lead", leader.wait_to_lead()).await??;
    let config = client.watch_config(ground.path("config")).json().default_if_missing(1_u32);
    let config: Watched<u32> = config.open().await?;
    config.update(|old| old + 1).await?;
    let member = client.group(ground.path("group")).join("host-7", &"info").await?;
    let mut views = other.group(ground.path("group")).views::<String>();
    let before = soon("a view", views.next()).await?.context("a view")?;
    let kept = client.keep(ground.path("kept/n-")).sequential().await?;
    let lasting = client.keep(ground.path("lasting")).persistent().await?;
    let kept_born = other.exists(kept.path()).await?.context("the kept node")?.czxid;
    let born = other.exists(member.path()).await?.context("the member")?.czxid;
    other.sync("/").await?;
    let cache = other.cache(&ground.root).depth(Depth::Tree).open().await?;
    let mut events = cache.events();
    let known = cache.len();

    restart().await?;
    soon("the connection", client.session_ready()).await??;
    ensure!(client.session()?.id() == session, "the session did not outlive the restart");
    for fence in [lock.fence(), once.fence(), lead.clone()] {
        eventually("valid", async || Ok(matches!(fence.state(), HoldState::Valid { .. }))).await?;
    }
    let told = soon("the cache", told_until_synced(&mut events)).await?;
    ensure!(told.is_empty() && cache.len() == known && cache.stale_since().is_none(), "{told:?}");
    ensure!(leader.is_leader() && leader.leadership().borrow().is_mine());
    ensure!(waiting.position() == Some(1), "{:?}", waiting.state());
    eventually("fresh", async || Ok(config.info().fresh)).await?;
    other.set_data(ground.path("config"), "9", -1).await?;
    eventually("the new value", async || Ok(*config.get() == 9)).await?;
    ensure!(other.exists(member.path()).await?.context("the member")?.czxid == born, "made anew");
    kept.set_data("still kept").await?;
    ensure!(other.exists(kept.path()).await?.context("the kept node")?.czxid == kept_born, "made anew");
    other.group(ground.path("group")).join("host-8", &"info").await?.leave().await?;
    let after = loop {
        let view = soon("a view", views.next()).await?.context("a view")?;
        if view.members.len() == 1 && view.id > before.id {
            break view;
        }
    };
    ensure!(after.contains("host-7"));

    let token = lock.token();
    lock.release().await?;
    let heir = soon("the turn", async { waiting.await }).await??;
    ensure!(heir.token() > token);
    heir.release().await?;
    once.release().await?;
    leader.leave().await?;
    member.leave().await?;
    kept.close().await?;
    lasting.close().await?;
    drop((views, config, cache));
    ground.nothing_left(&client).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bundled() -> Result<()> {
    let mut server = TestServer::start_with(|config| config.timing.max_session_ms = SESSION_MAX_MS).await?;
    let ground = Ground { connect: server.connect_string(), root: "/restart".into() };
    holds_outlive_a_restart(ground, async || Ok(server.restart().await?)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn apache_38() -> Result<()> {
    let Some(_suite) = Suite::begin("recipes over a restart", &Backend::Apache38.needs()) else {
        return Ok(());
    };
    let max = format!("maxSessionTimeout={SESSION_MAX_MS}");
    let mut server = Backend::Apache38.start(&[&max]).await?;
    let ground = Ground { connect: server.connect_string(), root: "/restart".into() };
    let restart = async || tokio::time::timeout(Duration::from_secs(60), server.restart()).await?;
    holds_outlive_a_restart(ground, restart).await
}
