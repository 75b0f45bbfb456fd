//! The ordered lock: cancelled anywhere, contended, expired, deleted, cut, with lost replies. The file is long because
//! every way to lose a place or a hold is a scenario of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use docent::{Client, CreateMode, OpCode, SessionId, Version};
use docent_integration_tests::recipe_kit::register::FencedRegister;
use docent_integration_tests::recipe_kit::{
    Ground, LONG_SESSION, SHORT_SESSION, Scenario, children, drop_connections, eventually, expire, heal,
    polled, requests_since, soon,
};
use docent_integration_tests::{on_every_server, scenarios};
use docent_recipes::{
    Error, FencingToken, HoldError, HoldState, Layout, LossCause, OnPlaceLost, OnSuspend, PlaceState,
    Recipes, Released,
};
use tokio::task::JoinSet;
use tokio::time::Instant;

const SCENARIOS: &[Scenario] = scenarios![
    a_free_lock_is_taken_with_a_golden_name_and_leaves_nothing,
    a_future_dropped_at_any_poll_leaves_nothing,
    a_waiter_dropped_at_any_poll_leaves_nothing_and_wakes_the_next,
    a_future_dropped_at_any_time_leaves_nothing,
    a_future_dropped_at_any_poll_under_lost_replies_leaves_nothing,
    sixteen_contenders_are_served_in_order_and_fenced,
    a_waiter_whose_session_expires_stands_again_or_fails,
    a_holder_whose_session_expires_is_told,
    a_deleted_node_is_noticed_by_holder_and_waiter,
    cuts_during_everything_lose_nothing,
    a_holder_cut_one_way_is_lost_before_the_next_begins,
    a_holder_that_hears_nothing_stops_by_its_own_clock,
    a_lost_reply_to_create_makes_no_second_place,
    a_lost_reply_to_delete_is_found_out,
    a_busy_lock_is_not_touched_by_try_acquire,
    a_time_limit_leaves_nothing_behind,
    layouts_count_each_other_and_pass_over_strangers,
    guarded_writes_fail_with_the_hold,
    work_is_run_and_stopped_and_then_released,
    guards_drop_anywhere,
    a_strict_holder_pauses_while_disconnected,
    a_place_tells_its_position,
    few_requests_are_sent,
];

on_every_server!("lock", SCENARIOS);

/// `_c_<uuid>-lock-<ten digits>`.
fn is_curator_name(name: &str) -> bool {
    let Some((tag, number)) = name.rsplit_once("-lock-") else { return false };
    let uuid = tag.strip_prefix("_c_").and_then(|uuid| uuid::Uuid::try_parse(uuid).ok());
    uuid.is_some_and(|uuid| tag == format!("_c_{}", uuid.hyphenated()))
        && number.len() == 10
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// A lock that works: acquired and released by a client of its own.
async fn works(ground: &Ground, path: &str) -> Result<()> {
    let client = ground.client().await?;
    let guard = soon("a fresh acquire", client.lock(path).acquire()).await??;
    guard.check()?;
    guard.release().await?;
    client.close().await?;
    Ok(())
}

async fn a_free_lock_is_taken_with_a_golden_name_and_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.lock(ground.path("a/b")).identifier("host-7");
    let guard = lock.acquire().await?;
    guard.check()?;
    ensure!(guard.valid_for(Duration::from_secs(1)) && !guard.valid_for(Duration::from_secs(60)));
    ensure!(matches!(guard.state(), HoldState::Valid { .. }), "{:?}", guard.state());

    let names = children(&client, &ground.path("a/b")).await?;
    ensure!(names.len() == 1 && is_curator_name(&names[0]), "{names:?}");
    let node = client.get_data(guard.path()).await?;
    ensure!(guard.token() == FencingToken::from(node.stat.czxid), "the token is the czxid");
    ensure!(node.stat.ephemeral_owner == client.session()?.id());
    let contenders = lock.contenders().await?;
    ensure!(contenders.len() == 1 && contenders[0].data == "host-7", "{contenders:?}");

    ensure!(guard.wakes() == 0);
    ensure!(guard.release().await? == Released::Deleted);
    ensure!(lock.contenders().await?.is_empty());
    ground.nothing_left(&client).await
}

async fn a_future_dropped_at_any_poll_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.lock(ground.path("line"));
    for verb in ["acquire", "acquire_within", "try_acquire", "enqueue"] {
        let mut done = false;
        for polls in 0..1_000 {
            done = match verb {
                "acquire" => polled(polls, lock.acquire()).await.transpose()?.is_some(),
                "acquire_within" => {
                    polled(polls, lock.acquire_within(Duration::from_secs(20))).await.transpose()?.is_some()
                }
                "try_acquire" => match polled(polls, lock.try_acquire()).await.transpose()? {
                    None => false,
                    Some(guard) => guard.is_some(),
                },
                _ => match polled(polls, lock.enqueue()).await.transpose()? {
                    None => false,
                    Some(place) => polled(polls, async { place.await }).await.transpose()?.is_some(),
                },
            };
            ground.nothing_left(&client).await.with_context(|| format!("{verb} after {polls} polls"))?;
            if done {
                break;
            }
        }
        ensure!(done, "{verb} never completed");
        works(&ground, &ground.path("line")).await.with_context(|| format!("after {verb}"))?;
    }
    Ok(())
}

async fn a_waiter_dropped_at_any_poll_leaves_nothing_and_wakes_the_next(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.lock(ground.path("line"));
    for polls in 0..8 {
        let guard = lock.acquire().await?;
        let first = lock.enqueue().await?;
        let second = tokio::spawn({
            let lock = lock.clone();
            async move { lock.acquire().await }
        });
        eventually("three in line", async || Ok(lock.contenders().await?.len() == 3)).await?;
        // The first waiter is polled a few times, then dropped; its place ends in the middle of the line.
        ensure!(polled(polls, async { first.await }).await.is_none(), "granted while somebody holds");
        eventually("two in line", async || Ok(lock.contenders().await?.len() == 2)).await?;
        guard.release().await?;
        let heir = soon("the next in line", second).await???;
        heir.release().await?;
        ground.nothing_left(&client).await.with_context(|| format!("after {polls} polls"))?;
    }
    Ok(())
}

async fn a_future_dropped_at_any_time_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.lock(ground.path("line"));
    let holder = lock.acquire().await?;
    for round in 0..150 {
        let limit = Duration::from_micros(fastrand::u64(0..3_000));
        let outcome = tokio::time::timeout(limit, lock.acquire()).await;
        ensure!(outcome.is_err(), "granted in round {round} while somebody holds");
    }
    holder.release().await?;
    for _ in 0..150 {
        let limit = Duration::from_micros(fastrand::u64(0..3_000));
        if let Ok(guard) = tokio::time::timeout(limit, lock.acquire()).await {
            drop(guard?);
        }
    }
    ground.nothing_left(&client).await?;
    works(&ground, &ground.path("line")).await
}

async fn a_future_dropped_at_any_poll_under_lost_replies_leaves_nothing(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let lock = client.lock(ground.path("line"));
    lock.acquire().await?.release().await?;
    for op in [OpCode::Create2, OpCode::GetChildren2, OpCode::Delete] {
        for polls in 0..6 {
            proxy.drop_reply_of(op, 1);
            drop(polled(polls, lock.acquire()).await.transpose()?);
            // The order stands until it is used; a future that was never polled sends nothing.
            soon("the lock after a lost reply", lock.acquire()).await??.release().await?;
            ground.nothing_left(&client).await.with_context(|| format!("{op:?} lost, {polls} polls"))?;
        }
    }
    ensure!(proxy.counts().swallowed > 0, "no reply was lost");
    works(&ground, &ground.path("line")).await
}

/// P1, P3, P4 and P6: tokens rise from grant to grant, grants follow the line, one departure wakes one.
async fn sixteen_contenders_are_served_in_order_and_fenced(ground: Ground) -> Result<()> {
    const CONTENDERS: usize = 16;
    const ROUNDS: usize = 30;
    let register = Arc::new(FencedRegister::default());
    let holding = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut contenders = JoinSet::new();
    for number in 0..CONTENDERS {
        let (register, holding, ground) = (Arc::clone(&register), Arc::clone(&holding), ground.clone());
        contenders.spawn(async move {
            use std::sync::atomic::Ordering::SeqCst;
            let client = ground.client().await?;
            let lock = client.lock(ground.path("line"));
            for round in 0..ROUNDS {
                let guard = lock.acquire().await?;
                ensure!(!holding.swap(true, SeqCst), "two hold at once");
                guard.check()?;
                register.write(guard.token(), &format!("{number}/{round}"))?;
                ensure!(guard.wakes() <= CONTENDERS as u64, "woken {} times", guard.wakes());
                // One who is cut off in a handover of all others would be woken for nothing.
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
    let writes = register.writes();
    ensure!(writes.len() == CONTENDERS * ROUNDS);
    // Tokens are czxids, so rising tokens are both "rise in grant order" and "first come, first served".
    ensure!(writes.windows(2).all(|pair| pair[0].0 < pair[1].0), "grants are not in the order of the line");
    ground.nothing_left(&ground.client().await?).await
}

async fn a_waiter_whose_session_expires_stands_again_or_fails(ground: Ground) -> Result<()> {
    let (holder, waiter) = (ground.client().await?, ground.client().await?);
    let path = ground.path("line");
    let guard = holder.lock(&path).acquire().await?;
    let mut patient = waiter.lock(&path).enqueue().await?;
    let strict = waiter.lock(&path).on_place_lost(OnPlaceLost::Fail).enqueue().await?;
    let before = patient.state();
    let session = expire(&ground.connect, &waiter).await?;

    let failed = soon("the strict waiter's end", async { strict.await }).await?;
    ensure!(matches!(failed, Err(Error::PlaceLost(LossCause::SessionEnded))), "{failed:?}");
    loop {
        let state = soon("a new place", patient.changed()).await?;
        ensure!(state != PlaceState::Granted, "granted while somebody holds");
        if matches!(state, PlaceState::InLine { .. }) && state != before {
            break;
        }
    }
    let contenders = holder.lock(&path).contenders().await?;
    ensure!(contenders.iter().all(|contender| contender.session != session), "{contenders:?}");
    let token = guard.token();
    guard.release().await?;
    let heir = soon("the new place's turn", async { patient.await }).await??;
    ensure!(heir.token() > token);
    heir.release().await?;
    ground.nothing_left(&holder).await
}

async fn a_holder_whose_session_expires_is_told(ground: Ground) -> Result<()> {
    let (holder, other) = (ground.client().await?, ground.client().await?);
    let lock = other.lock(ground.path("line"));
    let guard = holder.lock(ground.path("line")).acquire().await?;
    let (lost, stopped) = (guard.lost(), guard.cancel_token());
    let waiting = lock.enqueue().await?;
    expire(&ground.connect, &holder).await?;
    ensure!(soon("the loss", lost).await? == LossCause::SessionEnded);
    ensure!(stopped.is_cancelled());
    ensure!(guard.check() == Err(HoldError::Lost(LossCause::SessionEnded)));
    ensure!(!guard.valid_for(Duration::ZERO));
    let heir = soon("the heir", async { waiting.await }).await??;
    ensure!(heir.token() > guard.token());
    ensure!(guard.release().await? == Released::SessionEnded);
    heir.check()?;
    heir.release().await?;
    // The same client goes on in its next session.
    soon("the next session", holder.lock(ground.path("line")).acquire()).await??.release().await?;
    ground.nothing_left(&other).await
}

async fn a_deleted_node_is_noticed_by_holder_and_waiter(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let admin = ground.client().await?;
    let lock = client.lock(ground.path("line"));
    let guard = lock.acquire().await?;
    admin.delete(guard.path(), Version::ANY).await?;
    ensure!(soon("the loss", guard.lost()).await? == LossCause::NodeDeleted);
    ensure!(guard.release().await? == Released::AlreadyGone);

    let guard = lock.acquire().await?;
    let mut waiting = lock.enqueue().await?;
    let before = waiting.state();
    let mine = lock.contenders().await?.pop().context("the waiter is in line")?;
    admin.delete(format!("{}/{}", ground.path("line"), mine.name), Version::ANY).await?;
    loop {
        let state = soon("a new place", waiting.changed()).await?;
        if matches!(state, PlaceState::InLine { .. }) && state != before {
            break;
        }
    }
    guard.release().await?;
    soon("the new place's turn", async { waiting.await }).await??.release().await?;

    // The whole line goes, with the holder in it.
    let guard = lock.acquire().await?;
    admin.delete(guard.path(), Version::ANY).await?;
    admin.delete(ground.path("line"), Version::ANY).await?;
    ensure!(soon("the loss", guard.lost()).await? == LossCause::NodeDeleted);
    drop(guard);
    works(&ground, &ground.path("line")).await?;
    ground.nothing_left(&client).await
}

async fn cuts_during_everything_lose_nothing(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let lock = client.lock(ground.path("line"));
    let register = FencedRegister::default();
    let other = ground.client().await?;
    // Faults go on for a while, and on a slow server until a few rounds are through, with more and more time for each.
    let rounds = Arc::new(AtomicU32::new(0));
    let cutting = tokio::spawn({
        let (begun, rounds) = (Instant::now(), Arc::clone(&rounds));
        async move {
            loop {
                let gone = begun.elapsed();
                let enough = gone > Duration::from_secs(12) && rounds.load(Ordering::Relaxed) > 3;
                if enough || gone > Duration::from_secs(60) {
                    return proxy;
                }
                let longest = 120 + u64::try_from(gone.as_millis()).unwrap_or(u64::MAX) / 100;
                // A random moment for the next cut, in a bounded wait until the faults end.
                tokio::time::sleep(Duration::from_millis(fastrand::u64(1..longest))).await;
                proxy.cut();
            }
        }
    });
    while !cutting.is_finished() {
        let guard = soon("a lock between cuts", lock.acquire()).await??;
        guard.check()?;
        register.write(guard.token(), "cut")?;
        guard.release().await?;
        let guard = soon("the other's turn", other.lock(ground.path("line")).acquire()).await??;
        register.write(guard.token(), "other")?;
        let waiting = lock.enqueue().await?;
        guard.release().await?;
        let guard = soon("the waiter's turn", async { waiting.await }).await??;
        register.write(guard.token(), "cut")?;
        drop(guard);
        rounds.fetch_add(1, Ordering::Relaxed);
    }
    let _proxy = cutting.await?;
    register.check()?;
    let rounds = rounds.load(Ordering::Relaxed);
    ensure!(rounds > 3, "only {rounds} rounds");
    ground.nothing_left(&client).await
}

/// P2: the holder's packets vanish, the server's still arrive. The holder must stop before another begins.
async fn a_holder_cut_one_way_is_lost_before_the_next_begins(ground: Ground) -> Result<()> {
    let each = ["to server", "both", "server gone"].map(|direction| cut_one_way(&ground, direction));
    futures::future::try_join_all(each).await?;
    ground.nothing_left(&ground.client().await?).await
}

async fn cut_one_way(ground: &Ground, direction: &str) -> Result<()> {
    let (holder, proxy) = ground.proxied(SHORT_SESSION).await?;
    let other = ground.client().await?;
    let path = ground.path(direction);
    let guard = holder.lock(&path).acquire().await?;
    // The proved lease is what counts, also after the hold is lost.
    let _proved = holder.hold_lease();
    let waiting = other.lock(&path).enqueue().await?;
    let cut = Instant::now();
    match direction {
        "to server" => proxy.stall_up(true),
        "both" => {
            proxy.stall_up(true);
            proxy.stall_down(true);
        }
        _ => drop_connections(&proxy),
    }
    let heir = soon("the heir", async { waiting.await }).await??;
    let granted = Instant::now();
    ensure!(guard.check().is_err(), "{direction}: the holder still believes when the heir begins");
    // Told by its own clock, since nobody else can tell it.
    let cause = soon("the loss", guard.lost()).await?;
    let until = holder.lease().until;
    ensure!(until < granted, "{direction}: the lease ended {:?} after the heir began", until - granted);
    ensure!(heir.token() > guard.token());
    ensure!(granted - cut > SHORT_SESSION / 4, "{direction}: freed too soon to mean anything ({cause})");
    heir.release().await?;
    heal(&proxy);
    drop(guard);
    soon("the holder's return", holder.lock(&path).acquire()).await??.release().await?;
    Ok(())
}

/// The holder hears nothing, but what it sends arrives and keeps its session alive: it stops by its own clock, and the
/// node stays until it lets go.
async fn a_holder_that_hears_nothing_stops_by_its_own_clock(ground: Ground) -> Result<()> {
    let (holder, proxy) = ground.proxied(SHORT_SESSION).await?;
    let other = ground.client().await?;
    let path = ground.path("line");
    let guard = holder.lock(&path).acquire().await?;
    let _proved = holder.hold_lease();
    let waiting = other.lock(&path).enqueue().await?;
    proxy.stall_down(true);
    let cut = Instant::now();
    ensure!(soon("the loss", guard.lost()).await? == LossCause::LeaseEnded);
    let until = holder.lease().until;
    ensure!(until < cut + SHORT_SESSION, "believed {:?} longer than proved", until - cut);
    ensure!(waiting.position() == Some(1), "{:?}", waiting.state());
    heal(&proxy);
    soon("the connection", holder.session_ready()).await??;
    ensure!(guard.check().is_err(), "a lost hold came back");
    ensure!(waiting.position() == Some(1), "the node of a lost guard went before the guard");
    drop(guard);
    soon("the heir", async { waiting.await }).await??.release().await?;
    ground.nothing_left(&other).await
}

async fn a_lost_reply_to_create_makes_no_second_place(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let lock = client.lock(ground.path("line"));
    lock.acquire().await?.release().await?;
    for round in 1..=10 {
        proxy.drop_reply_of(OpCode::Create2, 1);
        let guard = soon("the lock", lock.acquire()).await??;
        ensure!(proxy.counts().swallowed == round, "the reply was not lost");
        let names = children(&client, &ground.path("line")).await?;
        ensure!(names.len() == 1, "behind our own orphan: {names:?}");
        let stat = client.exists(guard.path()).await?.context("the node is there")?;
        ensure!(guard.token() == FencingToken::from(stat.czxid));
        guard.release().await?;
    }
    proxy.drop_request_of(OpCode::Create2, 1);
    soon("the lock", lock.acquire()).await??.release().await?;
    // Lost while somebody else holds, so that the place is in the middle of a line.
    let other = ground.client().await?;
    let holder = other.lock(ground.path("line")).acquire().await?;
    proxy.drop_reply_of(OpCode::Create2, 1);
    let waiting = lock.enqueue().await?;
    ensure!(waiting.position() == Some(1), "{:?}", waiting.state());
    ensure!(lock.contenders().await?.len() == 2);
    holder.release().await?;
    soon("the turn", async { waiting.await }).await??.release().await?;
    ground.nothing_left(&client).await
}

async fn a_lost_reply_to_delete_is_found_out(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let lock = client.lock(ground.path("line"));
    let guard = lock.acquire().await?;
    proxy.drop_reply_of(OpCode::Delete, 1);
    ensure!(soon("the release", guard.release()).await?? == Released::AlreadyGone);
    let guard = lock.acquire().await?;
    proxy.drop_request_of(OpCode::Delete, 1);
    ensure!(soon("the release", guard.release()).await?? == Released::Deleted);
    ensure!(proxy.counts().swallowed == 2);
    ground.nothing_left(&client).await
}

async fn a_busy_lock_is_not_touched_by_try_acquire(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    let path = ground.path("line");
    ensure!(other.lock(&path).try_acquire().await?.is_some(), "free, though it does not exist");
    ground.nothing_left(&client).await?;
    let guard = client.lock(&path).acquire().await?;
    let before = client.exists(&path).await?.context("the line exists")?;
    ensure!(other.lock(&path).try_acquire().await?.is_none());
    let after = client.exists(&path).await?.context("the line exists")?;
    ensure!(before == after, "a busy line was touched: {before:?} {after:?}");
    guard.release().await?;

    // Racers: one wins, the others find it busy, and nobody leaves anything.
    for _ in 0..10 {
        let lock = other.lock(&path);
        let racers = futures::future::join_all((0..8).map(|_| lock.try_acquire())).await;
        let winners = racers.into_iter().collect::<Result<Vec<_>, _>>()?;
        let winners: Vec<_> = winners.into_iter().flatten().collect();
        ensure!(winners.len() <= 1, "{} hold at once", winners.len());
        drop(winners);
        ground.nothing_left(&client).await?;
    }
    Ok(())
}

async fn a_time_limit_leaves_nothing_behind(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.lock(ground.path("line"));
    let guard = lock.acquire().await?;
    let limit = Duration::from_millis(300);
    let begun = Instant::now();
    let outcome = lock.acquire_within(limit).await;
    ensure!(matches!(outcome, Err(Error::Timeout(waited)) if waited == limit), "{outcome:?}");
    ensure!(begun.elapsed() >= limit);
    eventually("the waiter gone", async || Ok(lock.contenders().await?.len() == 1)).await?;
    guard.release().await?;
    ground.nothing_left(&client).await
}

async fn layouts_count_each_other_and_pass_over_strangers(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let path = ground.path("line");
    let curator = client.lock(&path);
    let kazoo = client.lock(&path).layout(Layout::Kazoo).identifier("py");
    let guard = kazoo.acquire().await?;
    let name = children(&client, &path).await?.pop().context("the node is there")?;
    let (tag, rest) = name.split_at(32);
    ensure!(tag.bytes().all(|byte| byte.is_ascii_hexdigit()) && rest.starts_with("__lock__"), "{name}");
    client.create(format!("{path}/somebody's note"), "").mode(CreateMode::Persistent).await?;
    let waiting = curator.enqueue().await?;
    ensure!(waiting.position() == Some(1), "{:?}", waiting.state());
    ensure!(curator.try_acquire().await?.is_none());
    guard.release().await?;
    let guard = soon("the turn", async { waiting.await }).await??;
    ensure!(kazoo.try_acquire().await?.is_none());
    guard.release().await?;
    ground.nothing_left(&client).await
}

async fn guarded_writes_fail_with_the_hold(ground: Ground) -> Result<()> {
    let (client, admin) = (ground.client().await?, ground.client().await?);
    let guard = client.lock(ground.path("line")).acquire().await?;
    let value = ground.path("value");
    let results = guard.txn().create(&value, "1", CreateMode::Persistent).commit().await?;
    ensure!(results.len() == 1, "{results:?}");
    guard.txn().set_data(&value, "2", 0).check(&value, 1).commit().await?;
    let refused =
        guard.txn().set_data(&value, "3", 1).delete(ground.path("none"), Version::ANY).commit().await;
    ensure!(matches!(refused, Err(Error::TxnFailed { index: 1, .. })), "{refused:?}");

    // The guard is not told yet when the write gets to the server.
    let fence = guard.fence();
    let late = guard.txn().set_data(&value, "late", Version::ANY);
    admin.delete(guard.path(), Version::ANY).await?;
    let refused = late.commit().await;
    ensure!(matches!(refused, Err(Error::Lost(LossCause::NodeDeleted))), "{refused:?}");
    ensure!(fence.check().is_err());
    ensure!(client.get_data(&value).await?.bytes() == "2");
    drop(guard);

    // Nothing is sent in another session.
    let guard = client.lock(ground.path("line")).acquire().await?;
    let late = guard.txn().set_data(&value, "late", Version::ANY);
    expire(&ground.connect, &client).await?;
    soon("the loss", guard.lost()).await?;
    soon("the next session", client.session_ready()).await??;
    let refused = late.commit().await;
    ensure!(matches!(refused, Err(Error::Lost(_))), "{refused:?}");
    ensure!(client.get_data(&value).await?.bytes() == "2");
    drop(guard);
    ground.nothing_left(&client).await
}

async fn work_is_run_and_stopped_and_then_released(ground: Ground) -> Result<()> {
    let (client, admin) = (ground.client().await?, ground.client().await?);
    let lock = client.lock(ground.path("line"));
    let token = lock.acquire().await?.run(|fence| async move { fence.token() }).await?;
    ensure!(lock.contenders().await?.is_empty(), "released when run returns");

    struct Ended(Arc<std::sync::atomic::AtomicBool>);
    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let guard = lock.acquire().await?;
    ensure!(guard.token() > token);
    let path = guard.path().to_owned();
    let work = guard.run(|_fence| {
        let ended = Ended(Arc::clone(&ended));
        async move {
            admin.delete(&path, Version::ANY).await?;
            std::future::pending::<()>().await;
            drop(ended);
            Ok::<_, anyhow::Error>(())
        }
    });
    let outcome = soon("the stop of the work", work).await?;
    ensure!(matches!(outcome, Err(Error::Lost(LossCause::NodeDeleted))), "{outcome:?}");
    ensure!(ended.load(std::sync::atomic::Ordering::SeqCst), "the work is still there");
    ground.nothing_left(&client).await
}

async fn guards_drop_anywhere(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.lock(ground.path("line"));
    // In a thread without a runtime.
    let guard = lock.acquire().await?;
    let place = lock.enqueue().await?;
    std::thread::spawn(move || drop((place, guard)))
        .join()
        .map_err(|_| anyhow::anyhow!("a drop panicked"))?;
    ground.nothing_left(&client).await?;
    // In a panic.
    let guard = lock.acquire().await?;
    let panicked = tokio::spawn(async move {
        let _guard = guard;
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    ensure!(panicked.await.is_err());
    ground.nothing_left(&client).await?;
    // After the client is closed; and waiting ends with the client.
    let other = ground.client().await?;
    let guard = client.lock(ground.path("line")).acquire().await?;
    let place = client.lock(ground.path("line")).enqueue().await?;
    client.close().await?;
    ensure!(soon("the loss", guard.lost()).await? == LossCause::Closed);
    let ended = soon("the end of waiting", async { place.await }).await?;
    ensure!(matches!(ended, Err(Error::Closed | Error::PlaceLost(LossCause::Closed))), "{ended:?}");
    drop(guard);
    ensure!(matches!(lock.acquire().await, Err(Error::Closed)));
    works(&ground, &ground.path("line")).await?;
    ground.nothing_left(&other).await
}

async fn a_strict_holder_pauses_while_disconnected(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let strict = client.lock(ground.path("strict")).on_suspend(OnSuspend::StopAtOnce).acquire().await?;
    let calm = client.lock(ground.path("calm")).acquire().await?;
    let session = client.session()?.id();
    let (stopped, calm_stopped) = (strict.cancel_token(), calm.cancel_token());
    drop_connections(&proxy);
    soon("the suspension", strict.suspended()).await?;
    ensure!(strict.check() == Err(HoldError::Suspended), "{:?}", strict.state());
    soon("the calm one's suspension", calm.suspended()).await?;
    ensure!(matches!(calm.state(), HoldState::Suspended { .. }), "{:?}", calm.state());
    calm.check()?;
    heal(&proxy);
    eventually("valid again", async || Ok(matches!(strict.state(), HoldState::Valid { .. }))).await?;
    eventually("valid again", async || Ok(matches!(calm.state(), HoldState::Valid { .. }))).await?;
    ensure!(client.session()?.id() == session, "the session lived on");
    strict.check()?;
    calm.check()?;
    ensure!(stopped.is_cancelled() && !calm_stopped.is_cancelled());
    strict.release().await?;
    calm.release().await?;
    ground.nothing_left(&client).await
}

async fn a_place_tells_its_position(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.lock(ground.path("line"));
    let first = lock.enqueue().await?;
    ensure!(first.position() == Some(0), "{:?}", first.state());
    let mut second = lock.enqueue().await?;
    let third = lock.enqueue().await?;
    ensure!(second.position() == Some(1) && third.position() == Some(2));
    let owners: Vec<SessionId> = lock.contenders().await?.iter().map(|contender| contender.session).collect();
    ensure!(owners == [client.session()?.id(); 3]);
    drop(first);
    while second.state() != PlaceState::Granted {
        soon("the second's turn", second.changed()).await?;
    }
    drop(second);
    let Ok(guard) = soon("the third's turn", async { third.await }).await? else { bail!("no guard") };
    // One departure right before it, or two if the second went before it looked.
    ensure!((1..=2).contains(&guard.wakes()), "woken {} times", guard.wakes());
    guard.release().await?;
    ground.nothing_left(&client).await
}

/// Requests of a free lock and of a handover, counted on the wire. The first proof of the lease, a `sync`, comes with each
/// lock that is taken while none is held.
async fn few_requests_are_sent(ground: Ground) -> Result<()> {
    const ROUNDS: usize = 40;
    const SLACK: usize = ROUNDS / 4;
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let other = ground.client().await?;
    let (mine, theirs) = (client.lock(ground.path("line")), other.lock(ground.path("line")));
    mine.acquire().await?.release().await?;

    let before = (Instant::now(), proxy.counts());
    for _ in 0..ROUNDS {
        mine.acquire().await?.release().await?;
    }
    // Create, list, watch the own node, delete; the proof.
    let free = requests_since(before, &proxy, ROUNDS)?;
    ensure!(free <= 5 * ROUNDS + SLACK, "{free} requests for {ROUNDS} free locks");

    let before = (Instant::now(), proxy.counts());
    for _ in 0..ROUNDS {
        let held = theirs.acquire().await?;
        let place = mine.enqueue().await?;
        held.release().await?;
        place.await?.release().await?;
    }
    // Create, list, watch predecessor and own node, look at the own node when it is first, delete; the proof.
    let handed = requests_since(before, &proxy, ROUNDS)?;
    ensure!(handed <= 7 * ROUNDS + SLACK, "{handed} requests for {ROUNDS} handovers");
    ground.nothing_left(&client).await
}

/// Types that users spawn, share and store.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<docent_recipes::LockGuard>();
    shared::<docent_recipes::Lock>();
    shared::<docent_recipes::PlaceInLine>();
    shared::<docent_recipes::Latch>();
    shared::<docent_recipes::Member>();
    shared::<docent_recipes::Watched<String>>();
    shared::<Client>();
};
