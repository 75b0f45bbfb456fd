//! The semaphore: never more holders than permits, cancelled anywhere, resized, expired, with lost replies, in both
//! layouts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::{CreateMode, OpCode, Version};
use docent_integration_tests::recipe_kit::{
    Ground, LONG_SESSION, SHORT_SESSION, Scenario, children, eventually, expire, heal, polled,
    requests_since, soon,
};
use docent_integration_tests::{on_every_server, scenarios};
use docent_recipes::{
    Error, FencingToken, HoldError, Layout, LossCause, OnPlaceLost, Recipes, Released, Semaphore,
};
use tokio::task::JoinSet;
use tokio::time::Instant;

const SCENARIOS: &[Scenario] = scenarios![
    names_and_data_are_golden_in_both_layouts,
    so_many_hold_and_the_next_waits,
    many_are_taken_together_or_not_at_all,
    a_future_dropped_at_any_poll_leaves_nothing,
    a_waiter_dropped_at_any_poll_leaves_nothing_and_lets_the_next_in,
    a_future_dropped_at_any_time_leaves_nothing,
    lost_replies_take_no_permit,
    a_crowd_never_exceeds_the_permits,
    a_resize_lets_in_and_takes_nothing_away,
    numbers_that_differ_are_refused,
    a_holder_whose_session_expires_is_told_and_the_next_comes_in,
    the_first_in_line_whose_session_expires_stands_again_or_fails,
    the_first_in_line_whose_nodes_are_deleted_stands_again,
    a_holder_cut_off_is_lost_before_the_next_begins,
    try_looks_before_it_creates,
    strangers_are_passed_over,
    permits_are_asked_for,
    only_the_first_in_line_is_woken,
    few_requests_are_sent,
];

on_every_server!("semaphore", SCENARIOS);

const MOMENT: Duration = Duration::from_millis(150);
const LAYOUTS: [Layout; 2] = [Layout::Curator, Layout::Kazoo];

fn semaphore(ground: &Ground, client: &docent::Client, layout: Layout, permits: u32) -> Semaphore {
    client.semaphore(ground.path(&format!("{layout:?}"))).layout(layout).permits(permits)
}

async fn names_and_data_are_golden_in_both_layouts(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let curator = semaphore(&ground, &client, Layout::Curator, 2).identifier("host-7");
    let (one, two) = (curator.acquire().await?, curator.acquire().await?);
    let waiting = tokio::spawn({
        let curator = curator.clone();
        async move { curator.acquire().await }
    });
    let (leases, locks) = (ground.path("Curator/leases"), ground.path("Curator/locks"));
    eventually("the waiter's lease", async || Ok(children(&client, &leases).await?.len() == 3)).await?;
    let golden = |name: &str, marker: &str| {
        let (tag, number) = name.rsplit_once(marker)?;
        let uuid = uuid::Uuid::try_parse(tag.strip_prefix("_c_")?).ok()?;
        (tag == format!("_c_{}", uuid.hyphenated()) && number.len() == 10).then_some(())
    };
    for name in children(&client, &leases).await? {
        golden(&name, "-lease-").with_context(|| name.clone())?;
        ensure!(client.get_data(format!("{leases}/{name}")).await?.bytes() == "host-7");
    }
    for name in children(&client, &locks).await? {
        golden(&name, "-lock-").with_context(|| name.clone())?;
    }
    ensure!(one.token() < two.token() && one.path() != two.path());
    let stat = client.exists(two.path()).await?.context("the node is there")?;
    ensure!(two.token() == FencingToken::from(stat.czxid), "the token is the czxid");
    drop((one, two));
    drop(soon("the waiter", waiting).await???);

    let kazoo = semaphore(&ground, &client, Layout::Kazoo, 2).identifier("host-7");
    let held = kazoo.acquire().await?;
    ensure!(client.get_data(ground.path("Kazoo")).await?.bytes() == "2", "the number as text");
    let names = children(&client, &ground.path("Kazoo")).await?;
    ensure!(names.len() == 1 && names[0].len() == 32, "{names:?}");
    ensure!(names[0].bytes().all(|byte| byte.is_ascii_hexdigit()), "{names:?}");
    ensure!(client.exists(ground.path("Kazoo-__lock__")).await?.is_some());
    ensure!(kazoo.holders().await?[0].data == "host-7");
    held.release().await?;

    let shared = client.semaphore(ground.path("shared")).permits(258).shared_count(ground.path("size"));
    shared.acquire().await?.release().await?;
    ensure!(*client.get_data(ground.path("size")).await?.bytes() == [0, 0, 1, 2]);
    ground.nothing_left(&client).await
}

async fn so_many_hold_and_the_next_waits(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    for layout in LAYOUTS {
        let (mine, theirs) = (semaphore(&ground, &client, layout, 3), semaphore(&ground, &other, layout, 3));
        let held = [mine.acquire().await?, theirs.acquire().await?, mine.acquire().await?];
        for guard in &held {
            guard.check()?;
            ensure!(guard.valid_for(Duration::from_secs(1)));
        }
        let refused = theirs.acquire_within(MOMENT).await;
        ensure!(matches!(refused, Err(Error::Timeout(_))), "a fourth of three: {refused:?}");
        let waiting = tokio::spawn(async move { theirs.acquire().await });
        let [first, second, third] = held;
        // Whichever goes lets the next in, not only the oldest.
        ensure!(second.release().await? == Released::Deleted);
        let heir = soon("the next", waiting).await???;
        let value = ground.path(&format!("value-{layout:?}"));
        heir.txn().create(&value, "1", CreateMode::Persistent).commit().await?;
        drop((first, third));
        let ran = heir.run(|fence| async move { fence.check().is_ok() }).await?;
        ensure!(ran);
        ensure!(mine.holders().await?.is_empty() || client.session().is_ok());
        ground.nothing_left(&client).await?;
    }
    Ok(())
}

async fn many_are_taken_together_or_not_at_all(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for layout in LAYOUTS {
        let pool = semaphore(&ground, &client, layout, 4);
        if layout == Layout::Curator {
            let refused = pool.acquire_many(5).await;
            let told = matches!(refused, Err(Error::TooManyPermits { wanted: 5, permits: 4 }));
            ensure!(told, "five of four: {refused:?}");
        }
        // Both want three of four, again and again: with permits taken one by one they would wait for ever.
        let mut both = JoinSet::new();
        let held = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let (pool, held) = (pool.clone(), Arc::clone(&held));
            both.spawn(async move {
                for _ in 0..10 {
                    let set = soon("three of four", pool.acquire_many(3)).await??;
                    ensure!(held.fetch_add(3, Ordering::SeqCst) == 0, "six of four");
                    set.check()?;
                    let tokens: std::collections::BTreeSet<_> = set.tokens().into_iter().collect();
                    ensure!(tokens.len() == 3, "{tokens:?}");
                    held.fetch_sub(3, Ordering::SeqCst);
                    ensure!(set.release().await? == [Released::Deleted; 3]);
                }
                Ok(())
            });
        }
        while let Some(one) = both.join_next().await {
            one??;
        }
        // A set is lost with one of its permits, and can be taken apart.
        let set = pool.acquire_many(2).await?;
        client.delete(set.guards()[1].path(), Version::ANY).await?;
        ensure!(soon("the loss", set.lost()).await? == LossCause::NodeDeleted);
        ensure!(set.check() == Err(HoldError::Lost(LossCause::NodeDeleted)) && !set.valid_for(MOMENT));
        let refused = set.txn().create(ground.path("late"), "", CreateMode::Persistent).commit().await;
        ensure!(matches!(refused, Err(Error::Lost(_))), "{refused:?}");
        set.guards()[0].check()?;
        let mut apart = set.into_guards();
        ensure!(apart.remove(0).release().await? == Released::Deleted);
        drop(apart);
        ground.nothing_left(&client).await?;
    }
    Ok(())
}

async fn a_future_dropped_at_any_poll_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for layout in LAYOUTS {
        let pool = semaphore(&ground, &client, layout, 3);
        for verb in ["acquire", "acquire_many", "acquire_within", "try_acquire"] {
            let mut done = false;
            for polls in 0..1_000 {
                done = match verb {
                    "acquire" => polled(polls, pool.acquire()).await.transpose()?.is_some(),
                    "acquire_many" => polled(polls, pool.acquire_many(3)).await.transpose()?.is_some(),
                    "acquire_within" => {
                        polled(polls, pool.acquire_within(LONG_SESSION)).await.transpose()?.is_some()
                    }
                    _ => polled(polls, pool.try_acquire()).await.transpose()?.flatten().is_some(),
                };
                let context = || format!("{layout:?} {verb} after {polls} polls");
                ground.nothing_left(&client).await.with_context(context)?;
                if done {
                    break;
                }
            }
            ensure!(done, "{verb} never completed");
            soon("a fresh acquire", pool.acquire_many(3)).await??.release().await?;
        }
    }
    Ok(())
}

async fn a_waiter_dropped_at_any_poll_leaves_nothing_and_lets_the_next_in(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for layout in LAYOUTS {
        let pool = semaphore(&ground, &client, layout, 1);
        for polls in 0..6 {
            let held = soon("a free permit", pool.acquire()).await??;
            // It is first in line, has its lease laid, or is on the way there.
            // Who waits is not always polled again, so the polls end with the moment.
            let waiting = tokio::time::timeout(MOMENT, polled(polls, pool.acquire())).await;
            ensure!(matches!(waiting, Err(_) | Ok(None)), "two of one");
            let next = tokio::spawn({
                let pool = pool.clone();
                async move { pool.acquire().await }
            });
            held.release().await?;
            soon("the next", next).await???.release().await?;
            ground.nothing_left(&client).await.with_context(|| format!("{layout:?}, {polls} polls"))?;
        }
    }
    Ok(())
}

async fn a_future_dropped_at_any_time_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for layout in LAYOUTS {
        let pool = semaphore(&ground, &client, layout, 2);
        let held = pool.acquire().await?;
        for wanted in [1, 2] {
            for _ in 0..60 {
                let limit = Duration::from_micros(fastrand::u64(0..8_000));
                if let Ok(set) = tokio::time::timeout(limit, pool.acquire_many(wanted)).await {
                    ensure!(wanted == 1, "three of two");
                    drop(set?);
                }
            }
        }
        eventually("only the holder", async || Ok(pool.holders().await?.len() == 1)).await?;
        held.release().await?;
        ground.nothing_left(&client).await?;
        soon("a fresh acquire", pool.acquire_many(2)).await??.release().await?;
    }
    Ok(())
}

async fn lost_replies_take_no_permit(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    for layout in LAYOUTS {
        let pool = semaphore(&ground, &client, layout, 2);
        pool.acquire().await?.release().await?;
        for op in [OpCode::Create2, OpCode::GetChildren2, OpCode::Delete] {
            for lost in 1..=3 {
                proxy.drop_reply_of(op, lost);
                let set = soon("both permits", pool.acquire_many(2)).await??;
                set.check()?;
                let holders = pool.holders().await?;
                ensure!(holders.len() == 2, "{op:?} lost {lost} times: {holders:?}");
                soon("the release", set.release()).await??;
                heal(&proxy);
                soon("one permit", pool.acquire()).await??.release().await?;
                ground.nothing_left(&client).await.with_context(|| format!("{op:?} lost {lost} times"))?;
            }
        }
    }
    ensure!(proxy.counts().swallowed > 0, "no reply was lost");
    Ok(())
}

/// P12 and P11: counted while they hold, while others come, go, give up and lose their connections.
async fn a_crowd_never_exceeds_the_permits(ground: Ground) -> Result<()> {
    const PERMITS: u32 = 3;
    for layout in LAYOUTS {
        let inside = Arc::new(AtomicUsize::new(0));
        let mut crowd = JoinSet::new();
        for member in 0..6u32 {
            let (inside, ground) = (Arc::clone(&inside), ground.clone());
            crowd.spawn(async move {
                let (client, proxy) = ground.proxied(LONG_SESSION).await?;
                let pool = semaphore(&ground, &client, layout, PERMITS);
                for round in 0..12u32 {
                    let wanted = 1 + (member + round) % 2;
                    if (member + round).is_multiple_of(5) {
                        // One who gives up, somewhere on its way.
                        let _ = pool.acquire_many_within(wanted, Duration::from_millis(5)).await;
                    }
                    if (member + round).is_multiple_of(4) {
                        proxy.cut();
                    }
                    let set = soon("a turn", pool.acquire_many(wanted)).await??;
                    let now = inside.fetch_add(wanted as usize, Ordering::SeqCst) + wanted as usize;
                    ensure!(now <= PERMITS as usize, "{now} hold {PERMITS} permits");
                    set.check()?;
                    // Held for a while, so that others have the time to come in: a bounded wait.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    inside.fetch_sub(wanted as usize, Ordering::SeqCst);
                    set.release().await?;
                }
                client.close().await?;
                Ok(())
            });
        }
        while let Some(member) = crowd.join_next().await {
            member??;
        }
        // All permits are there, each for itself.
        let client = ground.client().await?;
        let pool = semaphore(&ground, &client, layout, PERMITS);
        let mut sets = Vec::new();
        for _ in 0..PERMITS {
            sets.push(soon("a permit of its own", pool.acquire()).await??);
        }
        sets.iter().try_for_each(|held| held.check())?;
        for set in sets {
            set.release().await?;
        }
        ground.nothing_left(&client).await?;
    }
    Ok(())
}

async fn a_resize_lets_in_and_takes_nothing_away(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    let pool = client.semaphore(ground.path("pool")).permits(1).shared_count(ground.path("size"));
    // The stored number counts: the seed of the second is without effect.
    let theirs = other.semaphore(ground.path("pool")).permits(9).shared_count(ground.path("size"));
    let first = pool.acquire().await?;
    ensure!(theirs.permits_now().await? == 1);
    let waiting = tokio::spawn({
        let theirs = theirs.clone();
        async move { theirs.acquire_many(2).await }
    });
    eventually("its leases", async || Ok(pool.holders().await?.len() == 3)).await?;
    pool.resize(3).await?;
    let two = soon("more permits", waiting).await???;
    first.check()?;
    theirs.resize(1).await?;
    two.check()?;
    let late = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await }
    });
    first.release().await?;
    eventually("the late one's lease", async || Ok(pool.holders().await?.len() == 3)).await?;
    ensure!(!late.is_finished(), "let in beyond the permits");
    two.release().await?;
    soon("the late one", late).await???.release().await?;
    ensure!(pool.try_acquire_many(2).await?.is_none(), "two of one");
    // A gate that is shut, and opened again.
    pool.resize(0).await?;
    ensure!(matches!(pool.acquire_within(MOMENT).await, Err(Error::Timeout(_))), "one of none");
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await }
    });
    pool.resize(2).await?;
    soon("the opened gate", waiting).await???.release().await?;
    let fixed = client.semaphore(ground.path("fixed")).permits(2);
    ensure!(matches!(fixed.resize(3).await, Err(Error::FixedPermits)));
    ground.nothing_left(&client).await
}

async fn numbers_that_differ_are_refused(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let three = semaphore(&ground, &client, Layout::Kazoo, 3);
    let held = three.acquire().await?;
    let four = semaphore(&ground, &client, Layout::Kazoo, 4);
    let refused = four.acquire().await;
    let told = matches!(refused, Err(Error::PermitsDiffer { stored: 3, given: 4, .. }));
    ensure!(told, "{refused:?}");
    four.resize(4).await?;
    four.acquire().await?.release().await?;
    ensure!(matches!(three.acquire().await, Err(Error::PermitsDiffer { stored: 4, given: 3, .. })));
    held.release().await?;
    client.create(ground.path("size"), "eight").await?;
    let invalid = client.semaphore(ground.path("pool")).shared_count(ground.path("size"));
    let refused = invalid.acquire().await;
    ensure!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    ground.nothing_left(&client).await
}

async fn a_holder_whose_session_expires_is_told_and_the_next_comes_in(ground: Ground) -> Result<()> {
    let (holder, other) = (ground.client().await?, ground.client().await?);
    for layout in LAYOUTS {
        let held = semaphore(&ground, &holder, layout, 1).acquire().await?;
        let waiting = tokio::spawn({
            let theirs = semaphore(&ground, &other, layout, 1);
            async move { theirs.acquire().await }
        });
        expire(&ground.connect, &holder).await?;
        ensure!(soon("the loss", held.lost()).await? == LossCause::SessionEnded);
        let heir = soon("the heir", waiting).await???;
        ensure!(heir.token() > held.token());
        ensure!(held.release().await? == Released::SessionEnded);
        heir.release().await?;
        soon("the next session", holder.session_ready()).await??;
    }
    ground.nothing_left(&other).await
}

async fn the_first_in_line_whose_session_expires_stands_again_or_fails(ground: Ground) -> Result<()> {
    let (holder, waiter) = (ground.client().await?, ground.client().await?);
    for layout in LAYOUTS {
        let pool = semaphore(&ground, &holder, layout, 1);
        for on_place_lost in [OnPlaceLost::StandAgain, OnPlaceLost::Fail] {
            let held = pool.acquire().await?;
            let waiting = tokio::spawn({
                let theirs = semaphore(&ground, &waiter, layout, 1).on_place_lost(on_place_lost);
                async move { theirs.acquire().await }
            });
            eventually("its lease", async || Ok(pool.holders().await?.len() == 2)).await?;
            let ended = expire(&ground.connect, &waiter).await?;
            if on_place_lost == OnPlaceLost::Fail {
                let failed = soon("its end", waiting).await??;
                ensure!(matches!(failed, Err(Error::PlaceLost(_))), "{failed:?}");
                held.release().await?;
            } else {
                eventually("a lease in its next session", async || {
                    let holders = pool.holders().await?;
                    Ok(holders.len() == 2 && holders.iter().all(|holder| holder.session != ended))
                })
                .await?;
                held.release().await?;
                soon("its turn", waiting).await???.release().await?;
            }
            soon("the next session", waiter.session_ready()).await??;
        }
    }
    ground.nothing_left(&holder).await
}

async fn the_first_in_line_whose_nodes_are_deleted_stands_again(ground: Ground) -> Result<()> {
    let (client, admin) = (ground.client().await?, ground.client().await?);
    let pool = semaphore(&ground, &client, Layout::Curator, 1);
    for parent in ["Curator/leases", "Curator/locks"] {
        let held = pool.acquire().await?;
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.acquire().await }
        });
        eventually("its lease", async || Ok(pool.holders().await?.len() == 2)).await?;
        let before = children(&admin, &ground.path("Curator/leases")).await?;
        for name in children(&admin, &ground.path(parent)).await? {
            let node = format!("{}/{name}", ground.path(parent));
            if node != held.path() {
                admin.delete(node, Version::ANY).await?;
            }
        }
        eventually("a new lease", async || {
            let now = children(&admin, &ground.path("Curator/leases")).await?;
            Ok(now.len() == 2 && now.iter().any(|name| !before.contains(name)))
        })
        .await?;
        held.release().await?;
        soon("its turn", waiting).await???.release().await?;
    }
    ground.nothing_left(&client).await
}

/// P2: no permit is given out before its last holder has stopped by its own clock.
async fn a_holder_cut_off_is_lost_before_the_next_begins(ground: Ground) -> Result<()> {
    for layout in LAYOUTS {
        let (holder, proxy) = ground.proxied(SHORT_SESSION).await?;
        let other = ground.client().await?;
        let held = semaphore(&ground, &holder, layout, 1).acquire().await?;
        let _proved = holder.hold_lease();
        proxy.stall_up(true);
        let heir = soon("the heir", semaphore(&ground, &other, layout, 1).acquire()).await??;
        let granted = Instant::now();
        ensure!(holder.lease().until < granted, "the lease ended after the heir began");
        ensure!(held.check().is_err(), "the holder still believes when the heir begins");
        heir.release().await?;
        heal(&proxy);
        drop(held);
        soon("its return", semaphore(&ground, &holder, layout, 1).acquire()).await??.release().await?;
    }
    ground.nothing_left(&ground.client().await?).await
}

async fn try_looks_before_it_creates(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for layout in LAYOUTS {
        let pool = semaphore(&ground, &client, layout, 2);
        let one = pool.try_acquire().await?.context("a free permit")?;
        let directory = one.path().rsplit_once('/').context("it has a parent")?.0.to_owned();
        ensure!(pool.try_acquire_many(2).await?.is_none(), "three of two");
        eventually("nobody takes one", async || {
            Ok(pool.try_acquire().await?.is_some_and(|guard| guard.check().is_ok()))
        })
        .await?;
        eventually("only the first", async || Ok(pool.holders().await?.len() == 1)).await?;
        let other = soon("the second", pool.acquire()).await??;
        let before = client.exists(&directory).await?;
        ensure!(pool.try_acquire().await?.is_none());
        ensure!(before == client.exists(&directory).await?, "a busy semaphore was touched");
        drop((one, other));
        ground.nothing_left(&client).await?;
    }
    Ok(())
}

async fn strangers_are_passed_over(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for (layout, directory) in [(Layout::Curator, "Curator/leases"), (Layout::Kazoo, "Kazoo")] {
        let pool = semaphore(&ground, &client, layout, 1);
        pool.acquire().await?.release().await?;
        client.create(ground.path(&format!("{directory}/somebody's note")), "").await?;
        soon("beside a stranger", pool.acquire()).await??.release().await?;
        ensure!(pool.holders().await?.is_empty());
    }
    ground.nothing_left(&client).await
}

async fn permits_are_asked_for(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let pool = semaphore(&ground, &client, Layout::Curator, 2);
    let (one, two) = (pool.acquire().await?, pool.acquire().await?);
    client.set_data(two.path(), "__REVOKE__", Version::ANY).await?;
    soon("the request", two.asked_to_yield()).await?;
    ensure!(!one.fence().is_asked_to_yield());
    two.check()?;
    drop((one, two));
    ground.nothing_left(&client).await
}

/// Permits that are given back concern the first in line alone; who stands behind it sends nothing.
async fn only_the_first_in_line_is_woken(ground: Ground) -> Result<()> {
    const PERMITS: u32 = 12;
    /// What the second sends once it stands: it reads its own node and looks at the one before it.
    const SLACK: usize = 4;
    let (client, (behind, proxy)) = (ground.client().await?, ground.proxied(LONG_SESSION).await?);
    for layout in LAYOUTS {
        let pool = semaphore(&ground, &client, layout, PERMITS);
        let mut held = pool.acquire_many(PERMITS).await?.into_guards();
        let first = tokio::spawn({
            let pool = pool.clone();
            async move { pool.acquire_many(PERMITS).await }
        });
        eventually("its leases", async || Ok(pool.holders().await?.len() == 2 * PERMITS as usize)).await?;
        let locks = match layout {
            Layout::Curator => ground.path("Curator/locks"),
            _ => ground.path("Kazoo-__lock__"),
        };
        let second = tokio::spawn({
            let pool = semaphore(&ground, &behind, layout, PERMITS);
            async move { pool.acquire().await }
        });
        eventually("two in line", async || Ok(children(&client, &locks).await?.len() == 2)).await?;
        behind.sync("/").await?;
        let before = (Instant::now(), proxy.counts());
        for guard in held.drain(1..) {
            guard.release().await?;
        }
        ensure!(!first.is_finished() && !second.is_finished());
        let sent = requests_since(before, &proxy, 0)?;
        ensure!(sent <= SLACK, "{sent} requests by one who is not first");
        drop(held);
        soon("the first", first).await???.release().await?;
        soon("the second", second).await???.release().await?;
        ground.nothing_left(&client).await?;
    }
    Ok(())
}

/// Requests of a free permit, counted on the wire.
async fn few_requests_are_sent(ground: Ground) -> Result<()> {
    const ROUNDS: usize = 30;
    const SLACK: usize = ROUNDS / 4;
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let fixed = client.semaphore(ground.path("fixed")).permits(2);
    let shared = client.semaphore(ground.path("shared")).permits(2).shared_count(ground.path("size"));
    // For the place and for the permit create, list, watch the own node and delete; the proof of the lease. With a
    // shared count one read more.
    for (pool, most) in [(fixed, 9), (shared, 10)] {
        pool.acquire().await?.release().await?;
        let before = (Instant::now(), proxy.counts());
        for _ in 0..ROUNDS {
            pool.acquire().await?.release().await?;
        }
        let sent = requests_since(before, &proxy, ROUNDS)?;
        ensure!(sent <= most * ROUNDS + SLACK, "{sent} requests for {ROUNDS} free permits, {most} each");
    }
    ground.nothing_left(&client).await
}
