//! The exclusive lock on one node: cancelled anywhere, contended, expired, deleted, cut, with lost replies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use docent::{CreateMode, OpCode, Version};
use docent_integration_tests::recipe_kit::register::FencedRegister;
use docent_integration_tests::recipe_kit::{
    Ground, LONG_SESSION, SHORT_SESSION, Scenario, eventually, expire, heal, polled, soon,
};
use docent_integration_tests::{on_every_server, scenarios};
use docent_recipes::{Error, Exclusive, FencingToken, LossCause, Recipes, Released};
use tokio::task::JoinSet;
use tokio::time::Instant;

const SCENARIOS: &[Scenario] = scenarios![
    one_node_is_made_and_taken_away,
    a_future_dropped_at_any_poll_leaves_nothing,
    a_waiter_dropped_at_any_poll_leaves_nothing,
    a_future_dropped_at_any_time_leaves_nothing,
    contenders_are_fenced_by_czxid,
    contenders_are_fenced_by_dense_epochs,
    an_expired_holder_is_told_and_replaced,
    an_expired_waiter_goes_on_waiting,
    a_deleted_node_is_noticed_and_a_successor_is_not_deleted,
    lost_replies_are_found_out,
    cuts_during_everything_lose_nothing,
    a_holder_cut_one_way_is_lost_before_the_next_begins,
    guarded_writes_need_an_epoch,
];

on_every_server!("exclusive", SCENARIOS);

async fn works(lock: &Exclusive) -> Result<()> {
    let guard = soon("a fresh acquire", lock.acquire()).await??;
    guard.check()?;
    guard.release().await?;
    Ok(())
}

async fn one_node_is_made_and_taken_away(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    let path = ground.path("a/once");
    let guard = client.exclusive(&path).id("host-7").acquire().await?;
    let node = client.get_data(&path).await?;
    ensure!(guard.path() == path && guard.token() == FencingToken::from(node.stat.czxid));
    let data: serde_json::Value = serde_json::from_slice(&node.bytes())?;
    ensure!(data["id"] == "host-7" && data["nonce"].is_string(), "{data}");
    ensure!(other.exclusive(&path).try_acquire().await?.is_none());
    ensure!(
        client.exclusive(&path).try_acquire().await?.is_none(),
        "another task of the same session got in"
    );
    let limit = Duration::from_millis(200);
    ensure!(matches!(other.exclusive(&path).acquire_within(limit).await, Err(Error::Timeout(_))));
    ensure!(guard.release().await? == Released::Deleted);
    // Whoever made a node there, and whatever is in it: it is held.
    client.create(&path, "anything").mode(CreateMode::Ephemeral).await?;
    ensure!(other.exclusive(&path).try_acquire().await?.is_none());
    client.delete(&path, Version::ANY).await?;
    ground.nothing_left(&client).await
}

async fn a_future_dropped_at_any_poll_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let plain = client.exclusive(ground.path("plain"));
    let epoch = client.exclusive(ground.path("counted")).with_epoch();
    for lock in [plain, epoch] {
        for verb in ["acquire", "try_acquire"] {
            let mut done = false;
            for polls in 0..1_000 {
                done = match verb {
                    "acquire" => polled(polls, lock.acquire()).await.transpose()?.is_some(),
                    _ => polled(polls, lock.try_acquire()).await.transpose()?.is_some(),
                };
                ground.nothing_left(&client).await.with_context(|| format!("{verb} after {polls} polls"))?;
                if done {
                    break;
                }
            }
            ensure!(done, "{verb} never completed");
        }
        works(&lock).await?;
    }
    Ok(())
}

async fn a_waiter_dropped_at_any_poll_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.exclusive(ground.path("once"));
    for polls in 0..5 {
        let guard = lock.acquire().await?;
        let waiting = lock.acquire();
        ensure!(polled(polls, waiting).await.is_none(), "granted while somebody holds");
        guard.release().await?;
        ground.nothing_left(&client).await.with_context(|| format!("after {polls} polls"))?;
        works(&lock).await?;
    }
    Ok(())
}

async fn a_future_dropped_at_any_time_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for lock in
        [client.exclusive(ground.path("plain")), client.exclusive(ground.path("counted")).with_epoch()]
    {
        for _ in 0..150 {
            let limit = Duration::from_micros(fastrand::u64(0..3_000));
            if let Ok(guard) = tokio::time::timeout(limit, lock.acquire()).await {
                drop(guard?);
            }
        }
        ground.nothing_left(&client).await?;
        works(&lock).await?;
    }
    Ok(())
}

/// P1 and P3. There is no order to check.
async fn contend(ground: &Ground, epoch: bool) -> Result<Vec<FencingToken>> {
    const CONTENDERS: usize = 8;
    const ROUNDS: usize = 12;
    let register = Arc::new(FencedRegister::default());
    let holding = Arc::new(AtomicBool::new(false));
    let mut contenders = JoinSet::new();
    for number in 0..CONTENDERS {
        let (register, holding, ground) = (Arc::clone(&register), Arc::clone(&holding), ground.clone());
        contenders.spawn(async move {
            let client = ground.client().await?;
            let lock = client.exclusive(ground.path("once"));
            let lock = if epoch { lock.with_epoch() } else { lock };
            for round in 0..ROUNDS {
                let guard = lock.acquire().await?;
                ensure!(!holding.swap(true, SeqCst), "two hold at once");
                guard.check()?;
                register.write(guard.token(), &format!("{number}/{round}"))?;
                holding.store(false, SeqCst);
                guard.release().await?;
            }
            client.close().await?;
            Ok(())
        });
    }
    while let Some(contender) = contenders.join_next().await {
        contender??;
    }
    register.check()?;
    let tokens: Vec<_> = register.writes().into_iter().map(|(token, _)| token).collect();
    ensure!(tokens.len() == CONTENDERS * ROUNDS && tokens.is_sorted());
    ground.nothing_left(&ground.client().await?).await?;
    Ok(tokens)
}

async fn contenders_are_fenced_by_czxid(ground: Ground) -> Result<()> {
    contend(&ground, false).await.map(drop)
}

async fn contenders_are_fenced_by_dense_epochs(ground: Ground) -> Result<()> {
    let tokens = contend(&ground, true).await?;
    let dense = tokens.iter().enumerate().all(|(at, token)| token.value() == at as u64 + 1);
    ensure!(dense, "epochs with gaps: {tokens:?}");
    Ok(())
}

async fn an_expired_holder_is_told_and_replaced(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    let path = ground.path("once");
    let guard = client.exclusive(&path).acquire().await?;
    let waiting = tokio::spawn({
        let lock = other.exclusive(&path);
        async move { lock.acquire().await }
    });
    expire(&ground.connect, &client).await?;
    ensure!(soon("the loss", guard.lost()).await? == LossCause::SessionEnded);
    let heir = soon("the heir", waiting).await???;
    ensure!(heir.token() > guard.token());
    ensure!(guard.release().await? == Released::SessionEnded);
    heir.check()?;
    ensure!(other.exists(&path).await?.is_some(), "the late release hit the heir");
    heir.release().await?;
    ground.nothing_left(&other).await
}

async fn an_expired_waiter_goes_on_waiting(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    let path = ground.path("once");
    let guard = client.exclusive(&path).acquire().await?;
    let mut waiting = tokio::spawn({
        let lock = other.exclusive(&path);
        async move { lock.acquire().await }
    });
    eventually("a watch", async || Ok(!ground.watches().await?.is_empty())).await?;
    expire(&ground.connect, &other).await?;
    soon("the next session", other.session_ready()).await??;
    if waiting.is_finished() {
        bail!("the waiter gave up: {:?}", (&mut waiting).await);
    }
    guard.release().await?;
    soon("the heir", waiting).await???.release().await?;
    ground.nothing_left(&client).await
}

async fn a_deleted_node_is_noticed_and_a_successor_is_not_deleted(ground: Ground) -> Result<()> {
    let (client, admin) = (ground.client().await?, ground.client().await?);
    let path = ground.path("once");
    let guard = client.exclusive(&path).acquire().await?;
    admin.delete(&path, Version::ANY).await?;
    // In the holder's own session, so that only the czxid tells the two apart.
    client.create(&path, "successor").mode(CreateMode::Ephemeral).await?;
    ensure!(soon("the loss", guard.lost()).await? == LossCause::NodeDeleted);
    guard.release().await?;
    ensure!(client.exists(&path).await?.is_some(), "the release hit the successor");
    client.delete(&path, Version::ANY).await?;
    works(&client.exclusive(&path)).await?;
    ground.nothing_left(&client).await
}

async fn lost_replies_are_found_out(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let plain = client.exclusive(ground.path("plain"));
    let epoch = client.exclusive(ground.path("counted")).with_epoch();
    works(&plain).await?;
    works(&epoch).await?;
    let mut expected = 0;
    for (lock, op) in [(&plain, OpCode::Create2), (&epoch, OpCode::Multi)] {
        for lose_request in [false, true] {
            if lose_request {
                proxy.drop_request_of(op, 1)
            } else {
                proxy.drop_reply_of(op, 1)
            };
            expected += 1;
            let guard = soon("the lock", lock.acquire()).await??;
            ensure!(proxy.counts().swallowed == expected, "nothing was lost");
            let stat = client.exists(guard.path()).await?.context("the node is there")?;
            if op == OpCode::Create2 {
                ensure!(guard.token() == FencingToken::from(stat.czxid));
            } else {
                let epoch = client.exists(format!("{}-epoch", guard.path())).await?.context("the epoch")?;
                ensure!(i64::from(epoch.version) == guard.token().value() as i64, "{epoch:?}");
            }
            if lose_request {
                proxy.drop_request_of(OpCode::Delete, 1)
            } else {
                proxy.drop_reply_of(OpCode::Delete, 1)
            };
            expected += 1;
            let released = soon("the release", guard.release()).await??;
            ensure!(released == if lose_request { Released::Deleted } else { Released::AlreadyGone });
        }
    }
    // The reply to a create is lost while somebody else holds.
    let other = ground.client().await?;
    let guard = other.exclusive(ground.path("plain")).acquire().await?;
    proxy.drop_reply_of(OpCode::Create2, 1);
    ensure!(plain.try_acquire().await?.is_none());
    guard.release().await?;
    ground.nothing_left(&client).await
}

async fn cuts_during_everything_lose_nothing(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let register = FencedRegister::default();
    let other = ground.client().await?;
    let cutting = tokio::spawn({
        let until = Instant::now() + Duration::from_secs(8);
        async move {
            while Instant::now() < until {
                // A random moment for the next cut, in a bounded wait until the faults end.
                tokio::time::sleep(Duration::from_millis(fastrand::u64(1..150))).await;
                proxy.cut();
            }
            proxy
        }
    });
    while !cutting.is_finished() {
        for (client, name) in [(&client, "cut"), (&other, "other")] {
            let lock = client.exclusive(ground.path("once")).with_epoch();
            let guard = soon("a lock between cuts", lock.acquire()).await??;
            guard.check()?;
            register.write(guard.token(), name)?;
            drop(guard);
        }
    }
    let _proxy = cutting.await?;
    register.check()?;
    ground.nothing_left(&client).await
}

async fn a_holder_cut_one_way_is_lost_before_the_next_begins(ground: Ground) -> Result<()> {
    let (holder, proxy) = ground.proxied(SHORT_SESSION).await?;
    let other = ground.client().await?;
    let path = ground.path("once");
    let guard = holder.exclusive(&path).acquire().await?;
    // The proved lease is what counts, also after the hold is lost.
    let _proved = holder.hold_lease();
    let waiting = tokio::spawn({
        let lock = other.exclusive(&path);
        async move { lock.acquire().await.map(|guard| (guard, Instant::now())) }
    });
    proxy.stall_up(true);
    let (heir, granted) = soon("the heir", waiting).await???;
    ensure!(guard.check().is_err(), "the holder still believes");
    // Told by its own clock, since nobody else can tell it.
    soon("the loss", guard.lost()).await?;
    let until = holder.lease().until;
    ensure!(until < granted, "the lease ended {:?} after the heir began", until - granted);
    heir.release().await?;
    heal(&proxy);
    drop(guard);
    works(&holder.exclusive(&path)).await?;
    ground.nothing_left(&other).await
}

async fn guarded_writes_need_an_epoch(ground: Ground) -> Result<()> {
    let (client, admin) = (ground.client().await?, ground.client().await?);
    let path = ground.path("once");
    let guard = client.exclusive(&path).acquire().await?;
    let refused = guard.txn().create(ground.path("value"), "", CreateMode::Persistent).commit().await;
    ensure!(matches!(refused, Err(Error::NotFenced)), "{refused:?}");
    guard.release().await?;

    let lock = client.exclusive(&path).with_epoch();
    let guard = lock.acquire().await?;
    guard.txn().create(ground.path("value"), "1", CreateMode::Persistent).commit().await?;
    // Somebody deletes the node, another holds and lets go: the epoch has moved on.
    let late = guard.txn().set_data(ground.path("value"), "late", Version::ANY);
    admin.delete(&path, Version::ANY).await?;
    works(&admin.exclusive(&path).with_epoch()).await?;
    let refused = late.commit().await;
    ensure!(matches!(refused, Err(Error::Lost(_))), "{refused:?}");
    ensure!(client.get_data(ground.path("value")).await?.bytes() == "1");
    drop(guard);
    ground.nothing_left(&client).await
}
