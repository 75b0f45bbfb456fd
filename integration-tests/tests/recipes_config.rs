//! The config watcher: forward only, last good value kept, through cuts and expiries.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use docent::{CreateMode, OpCode, ParentMode, Version, Zxid};
use docent_integration_tests::recipe_kit::{
    Ground, LONG_SESSION, Scenario, drop_connections, eventually, expire_if_any, heal, polled, soon,
};
use docent_integration_tests::{on_every_server, scenarios};
use docent_recipes::{Error, Recipes, Update, Watched};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::Instant;

const SCENARIOS: &[Scenario] = scenarios![
    the_value_is_typed_and_follows_the_node,
    a_missing_node_is_an_error_a_default_or_waited_for,
    bad_bytes_never_replace_the_last_good_value,
    a_deleted_node_is_reported_and_comes_back,
    an_open_dropped_at_any_poll_leaves_nothing,
    many_watchers_share_one_server_watch_and_the_last_takes_it_along,
    values_never_go_back_through_cuts_and_expiries,
    staleness_is_told,
    concurrent_updates_lose_nothing,
    an_update_with_a_lost_reply_is_ambiguous,
    an_update_creates_a_missing_node_from_the_default,
    other_codecs_work,
    a_closed_client_ends_the_updates,
];

on_every_server!("config", SCENARIOS);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Limits {
    rps: u32,
}

fn json(rps: u32) -> Bytes {
    format!("{{\"rps\":{rps}}}").into()
}

/// Creates the node with its parents.
async fn put(client: &docent::Client, path: &str, data: Bytes) -> Result<()> {
    client.create_parents(path, ParentMode::Persistent).await?;
    client.create(path, data).mode(CreateMode::Persistent).await?;
    Ok(())
}

async fn shows(watched: &Watched<Limits>, rps: u32) -> Result<()> {
    let mut values = watched.subscribe();
    soon(&format!("the value {rps}"), values.wait_for(|value| value.rps == rps)).await??;
    Ok(())
}

async fn the_value_is_typed_and_follows_the_node(ground: Ground) -> Result<()> {
    let (client, admin) = (ground.client().await?, ground.client().await?);
    let path = ground.path("limits");
    put(&admin, &path, json(1)).await?;
    let limits: Watched<Limits> = client.watch_config(&path).json().open().await?;
    ensure!(limits.get().rps == 1);
    let info = limits.info();
    ensure!(info.fresh && info.version == Some(0) && info.problem.is_none(), "{info:?}");
    let mut updates = limits.updates();
    let stat = admin.set_data(&path, json(2), 0).await?;
    match soon("the update", updates.next()).await? {
        Some(Update::Value { value, mzxid }) => ensure!(value.rps == 2 && mzxid == stat.mzxid),
        other => anyhow::bail!("{other:?}"),
    }
    ensure!(limits.get().rps == 2 && limits.info().mzxid == Some(stat.mzxid));
    // Writing the same bytes again is a newer value.
    admin.set_data(&path, json(2), 1).await?;
    ensure!(matches!(soon("the update", updates.next()).await?, Some(Update::Value { .. })));
    drop((limits, updates));
    ground.nothing_left(&client).await
}

async fn a_missing_node_is_an_error_a_default_or_waited_for(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let path = ground.path("limits");
    let missing = client.watch_config(&path).json::<Limits>().open().await;
    ensure!(matches!(&missing, Err(Error::Missing { path: told }) if *told == path), "{missing:?}");
    let short = Duration::from_millis(200);
    let missing = client.watch_config(&path).json::<Limits>().required(short).open().await;
    ensure!(matches!(missing, Err(Error::Missing { .. })), "{missing:?}");

    let with_default = client.watch_config(&path).json().default_if_missing(Limits { rps: 7 }).open().await?;
    ensure!(with_default.get().rps == 7 && with_default.info().mzxid.is_none());
    ensure!(with_default.info().problem.is_some(), "a default is not a silent value");
    let waiting = tokio::spawn({
        let config = client.watch_config(&path).json::<Limits>().required(Duration::from_secs(20));
        async move { config.open().await }
    });
    put(&client, &path, json(3)).await?;
    ensure!(soon("the waiting one", waiting).await???.get().rps == 3);
    shows(&with_default, 3).await?;
    ensure!(with_default.info().problem.is_none());
    client.set_data(&path, "no json", Version::ANY).await?;
    let invalid = client.watch_config(&path).json::<Limits>().open().await;
    ensure!(matches!(invalid, Err(Error::Invalid { .. })), "{invalid:?}");
    drop(with_default);
    ground.nothing_left(&client).await
}

async fn bad_bytes_never_replace_the_last_good_value(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let path = ground.path("limits");
    put(&client, &path, json(1)).await?;
    let limits: Watched<Limits> =
        client.watch_config(&path).json().validate(|limits: &Limits| limits.rps > 0).open().await?;
    let mut updates = limits.updates();
    for bad in [Bytes::from_static(b"{"), Bytes::from_static(b"\xff\xff"), Bytes::new(), json(0)] {
        client.set_data(&path, bad.clone(), Version::ANY).await?;
        match soon("the update", updates.next()).await? {
            Some(Update::Invalid { bytes, keeping: Some(keeping), .. }) => {
                ensure!(bytes == bad && keeping.rps == 1);
            }
            other => anyhow::bail!("{other:?}"),
        }
        ensure!(limits.get().rps == 1 && limits.info().problem.is_some());
    }
    client.set_null_data(&path, Version::ANY).await?;
    ensure!(matches!(soon("the update", updates.next()).await?, Some(Update::Invalid { .. })));
    client.set_data(&path, json(2), Version::ANY).await?;
    ensure!(matches!(soon("the update", updates.next()).await?, Some(Update::Value { .. })));
    ensure!(limits.get().rps == 2 && limits.info().problem.is_none());
    drop((limits, updates));
    ground.nothing_left(&client).await
}

async fn a_deleted_node_is_reported_and_comes_back(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let path = ground.path("limits");
    put(&client, &path, json(1)).await?;
    let limits: Watched<Limits> = client.watch_config(&path).json().open().await?;
    let mut updates = limits.updates();
    client.delete(&path, Version::ANY).await?;
    match soon("the update", updates.next()).await? {
        Some(Update::Missing { keeping: Some(keeping) }) => ensure!(keeping.rps == 1),
        other => anyhow::bail!("{other:?}"),
    }
    ensure!(limits.get().rps == 1 && limits.info().problem.is_some());
    put(&client, &path, json(2)).await?;
    shows(&limits, 2).await?;
    // Deleted and made again at once, with version 0 both times.
    for rps in 3..20 {
        client.delete(&path, Version::ANY).await?;
        put(&client, &path, json(rps)).await?;
        shows(&limits, rps).await?;
    }
    drop((limits, updates));
    ground.nothing_left(&client).await
}

async fn an_open_dropped_at_any_poll_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let path = ground.path("limits");
    put(&client, &path, json(1)).await?;
    for missing in [false, true] {
        if missing {
            client.delete(&path, Version::ANY).await?;
        }
        let mut done = false;
        for polls in 0..1_000 {
            let config = client.watch_config(&path).json().default_if_missing(Limits::default());
            done = polled(polls, config.open()).await.transpose()?.is_some();
            ground.nothing_left(&client).await.with_context(|| format!("after {polls} polls"))?;
            if done {
                break;
            }
        }
        ensure!(done, "open never completed");
    }
    for _ in 0..100 {
        let config = client.watch_config(&path).json().default_if_missing(Limits::default());
        let limit = Duration::from_micros(fastrand::u64(0..3_000));
        drop(tokio::time::timeout(limit, config.open()).await);
    }
    ground.nothing_left(&client).await
}

async fn many_watchers_share_one_server_watch_and_the_last_takes_it_along(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let path = ground.path("limits");
    put(&client, &path, json(1)).await?;
    let mut watched = Vec::new();
    for _ in 0..10 {
        watched.push(client.watch_config(&path).json::<Limits>().open().await?);
    }
    ensure!(ground.watches().await?.len() == 1, "{:?}", ground.watches().await?);
    client.set_data(&path, json(2), Version::ANY).await?;
    for limits in &watched {
        shows(limits, 2).await?;
    }
    let last = watched.pop().context("ten were opened")?;
    drop(watched);
    client.set_data(&path, json(3), Version::ANY).await?;
    shows(&last, 3).await?;
    drop(last);
    ground.nothing_left(&client).await
}

/// P9: mzxids rise per subscriber, across sessions, and the last value arrives.
async fn values_never_go_back_through_cuts_and_expiries(ground: Ground) -> Result<()> {
    const LAST: u32 = 400;
    let writer = ground.client().await?;
    let path = ground.path("limits");
    put(&writer, &path, json(0)).await?;
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let limits: Watched<Limits> = client.watch_config(&path).json().open().await?;
    let mut updates = limits.updates();
    let (tell, mut told) = tokio::sync::watch::channel(0);
    let watching = tokio::spawn(async move {
        let (mut newest, mut seen, mut count) = (Zxid::ZERO, 0, 0);
        while let Some(update) = updates.next().await {
            if let Update::Value { value, mzxid } = update {
                ensure!(mzxid > newest && value.rps > seen, "went back from {seen} to {}", value.rps);
                (newest, seen, count) = (mzxid, value.rps, count + 1);
                tell.send_replace(seen);
            }
            if seen == LAST {
                return Ok(count);
            }
        }
        anyhow::bail!("the updates ended at {seen}")
    });
    for rps in 1..=LAST {
        let data = if rps % 7 == 0 { Bytes::from_static(b"garbage") } else { json(rps) };
        writer.set_data(&path, data, Version::ANY).await?;
        if rps % 50 == 0 {
            proxy.cut();
        }
        if rps % 130 == 0 {
            expire_if_any(&ground.connect, &client).await?;
        }
        ensure!(limits.get().rps <= rps);
        // Now and then a value is waited for, so that there are some to be compared, however slow the reader is.
        if rps % 25 == 20 && rps % 7 != 0 {
            soon("the value so far", told.wait_for(|seen| *seen == rps)).await??;
        }
        // A random pause between two writes, in the bounded wait for all of them.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..8))).await;
    }
    let count = soon("the last value", watching).await???;
    ensure!(limits.get().rps == LAST && count > 10, "{count} values seen");
    drop(limits);
    ground.nothing_left(&writer).await
}

async fn staleness_is_told(ground: Ground) -> Result<()> {
    let writer = ground.client().await?;
    let path = ground.path("limits");
    put(&writer, &path, json(1)).await?;
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let limits: Watched<Limits> = client.watch_config(&path).json().open().await?;
    let mut updates = limits.updates();
    drop_connections(&proxy);
    ensure!(matches!(soon("the update", updates.next()).await?, Some(Update::Stale { .. })));
    let info = limits.info();
    ensure!(!info.fresh && info.stale_since.is_some_and(|since| since <= Instant::now()), "{info:?}");
    writer.set_data(&path, json(2), Version::ANY).await?;
    ensure!(limits.get().rps == 1);
    heal(&proxy);
    ensure!(matches!(soon("the update", updates.next()).await?, Some(Update::Value { .. })));
    ensure!(matches!(soon("the update", updates.next()).await?, Some(Update::Synced)));
    ensure!(limits.info().fresh && limits.get().rps == 2);
    // Nothing happens meanwhile: that the value is still the newest has to be found out, too.
    drop_connections(&proxy);
    ensure!(matches!(soon("the update", updates.next()).await?, Some(Update::Stale { .. })));
    heal(&proxy);
    ensure!(matches!(soon("the update", updates.next()).await?, Some(Update::Synced)));
    ensure!(limits.info().fresh);
    drop((limits, updates));
    ground.nothing_left(&writer).await
}

async fn concurrent_updates_lose_nothing(ground: Ground) -> Result<()> {
    const WRITERS: u32 = 6;
    const ROUNDS: u32 = 20;
    let client = ground.client().await?;
    let path = ground.path("limits");
    put(&client, &path, json(0)).await?;
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (ground, path) = (ground.clone(), path.clone());
        writers.spawn(async move {
            let client = ground.client().await?;
            let limits: Watched<Limits> = client.watch_config(&path).json().open().await?;
            for _ in 0..ROUNDS {
                let value = limits.update(|old| Limits { rps: old.rps + 1 }).await?;
                ensure!(limits.get().rps >= value.rps, "whoever has written sees it");
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    let node = client.get_data(&path).await?;
    ensure!(node.bytes() == json(WRITERS * ROUNDS), "{:?}", node.bytes());
    ensure!(node.stat.version == (WRITERS * ROUNDS) as i32);
    ground.nothing_left(&client).await
}

async fn an_update_with_a_lost_reply_is_ambiguous(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let path = ground.path("limits");
    put(&client, &path, json(1)).await?;
    let limits: Watched<Limits> =
        client.watch_config(&path).json().validate(|limits: &Limits| limits.rps < 100).open().await?;
    proxy.drop_reply_of(OpCode::SetData, 1);
    let outcome = soon("the update", limits.update(|old| Limits { rps: old.rps + 1 })).await?;
    ensure!(
        matches!(&outcome, Err(error @ Error::Ambiguous { .. }) if error.node_may_remain()),
        "{outcome:?}"
    );
    // It was applied, once.
    shows(&limits, 2).await?;
    proxy.drop_request_of(OpCode::SetData, 1);
    let outcome = soon("the update", limits.update(|old| Limits { rps: old.rps + 1 })).await?;
    ensure!(matches!(outcome, Err(Error::Ambiguous { .. })), "{outcome:?}");
    soon("the connection", client.session_ready()).await??;
    ensure!(client.get_data(&path).await?.bytes() == json(2));
    let refused = limits.update(|_| Limits { rps: 100 }).await;
    ensure!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    ensure!(client.get_data(&path).await?.bytes() == json(2));
    drop(limits);
    ground.nothing_left(&client).await
}

async fn an_update_creates_a_missing_node_from_the_default(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let path = ground.path("deep/limits");
    let config = client.watch_config(&path).json().default_if_missing(Limits { rps: 10 });
    let limits = config.open().await?;
    ensure!(limits.update(|old| Limits { rps: old.rps + 1 }).await?.rps == 11);
    ensure!(client.get_data(&path).await?.bytes() == json(11));
    ensure!(limits.get().rps == 11);
    drop(limits);
    client.set_data(&path, json(12), Version::ANY).await?;
    let limits: Watched<Limits> = client.watch_config(&path).json().open().await?;
    client.delete(&path, Version::ANY).await?;
    let refused = limits.update(|old| old.clone()).await;
    ensure!(matches!(refused, Err(Error::Missing { .. })), "{refused:?}");
    drop(limits);
    ground.nothing_left(&client).await
}

async fn other_codecs_work(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    put(&client, &ground.path("number"), "41".into()).await?;
    let number = client.watch_config(ground.path("number")).text::<u64>().open().await?;
    ensure!(*number.update(|old| old + 1).await? == 42);
    let bytes = client.watch_config(ground.path("number")).bytes().open().await?;
    eventually("the bytes", async || Ok(*bytes.get() == "42")).await?;
    let shared: Arc<u64> = number.get();
    ensure!(*shared == 42);
    drop((number, bytes));
    ground.nothing_left(&client).await
}

async fn a_closed_client_ends_the_updates(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let path = ground.path("limits");
    put(&client, &path, json(1)).await?;
    let limits: Watched<Limits> = client.watch_config(&path).json().open().await?;
    client.close().await?;
    eventually("stale", async || Ok(!limits.info().fresh)).await?;
    ensure!(limits.get().rps == 1, "the last good value stays");
    let opened = client.watch_config(&path).json::<Limits>().open().await;
    ensure!(matches!(opened, Err(Error::Closed)), "{opened:?}");
    let updated = limits.update(|old| old.clone()).await;
    ensure!(matches!(updated, Err(Error::Closed)), "{updated:?}");
    Ok(())
}
