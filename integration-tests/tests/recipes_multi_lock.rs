//! The multi-lock: all or none, in one order whatever the caller's, cancelled anywhere, with locks lost on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::{Client, CreateMode, OpCode, Version};
use docent_integration_tests::recipe_kit::register::FencedRegister;
use docent_integration_tests::recipe_kit::{
    Ground, LONG_SESSION, SHORT_SESSION, Scenario, eventually, expire, heal, polled, soon,
};
use docent_integration_tests::{on_every_server, scenarios};
use docent_recipes::{Error, FencingToken, HoldError, LossCause, MultiLock, OnPlaceLost, Recipes, Released};
use tokio::task::JoinSet;

const SCENARIOS: &[Scenario] = scenarios![
    all_are_held_or_none,
    a_future_dropped_at_any_poll_leaves_nothing,
    a_waiter_dropped_at_any_poll_leaves_nothing,
    those_who_name_them_in_other_orders_do_not_wait_in_a_circle,
    one_limit_covers_all,
    try_takes_all_or_none,
    a_set_is_lost_with_one_of_its_locks,
    a_lock_that_is_lost_on_the_way_begins_the_set_again,
    a_session_that_ends_on_the_way_begins_the_set_again,
    a_holder_cut_off_is_lost_before_the_next_begins,
    lost_replies_are_survived,
    a_set_of_none_is_held,
];

on_every_server!("multi-lock", SCENARIOS);

const MOMENT: Duration = Duration::from_millis(150);

fn set(ground: &Ground, client: &Client, names: &[&str]) -> MultiLock {
    client.lock_all(names.iter().map(|name| ground.path(name)))
}

async fn all_are_held_or_none(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    let held = set(&ground, &client, &["c", "a", "b", "a"]).identifier("host-7").acquire().await?;
    ensure!(held.guards().len() == 3, "a path named twice is one lock");
    ensure!(held.guards().windows(2).all(|pair| pair[0].path() < pair[1].path()), "not sorted");
    held.check()?;
    ensure!(held.valid_for(Duration::from_secs(1)) && !held.valid_for(Duration::from_secs(60)));
    for (name, guard) in ["a", "b", "c"].into_iter().zip(held.guards()) {
        let node = client.get_data(guard.path()).await?;
        ensure!(held.token_of(&ground.path(name)) == Some(FencingToken::from(node.stat.czxid)));
        ensure!(node.bytes() == "host-7");
        ensure!(other.lock(ground.path(name)).try_acquire().await?.is_none(), "{name} is free");
    }
    ensure!(held.token_of(&ground.path("d")).is_none());
    let value = ground.path("value");
    let results = held.txn().create(&value, "1", CreateMode::Persistent).check(&value, 0).commit().await?;
    ensure!(results.len() == 2, "{results:?}");
    let refused = held.txn().check(&value, 0).delete(ground.path("none"), Version::ANY).commit().await;
    ensure!(matches!(refused, Err(Error::TxnFailed { index: 1, .. })), "{refused:?}");
    ensure!(held.release().await? == [Released::Deleted; 3]);

    let fences = set(&ground, &client, &["a", "b"]).acquire().await?;
    let ran = fences.run(|fences| async move { fences.check().is_ok() && fences.tokens_rise() }).await?;
    ensure!(ran);
    ground.nothing_left(&client).await
}

/// Taken one after another, so the later lock has the higher token.
trait TokensRise {
    fn tokens_rise(&self) -> bool;
}

impl TokensRise for docent_recipes::FenceSet {
    fn tokens_rise(&self) -> bool {
        self.fences().windows(2).all(|pair| pair[0].token() < pair[1].token())
    }
}

async fn a_future_dropped_at_any_poll_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let both = set(&ground, &client, &["a", "b", "c"]);
    for verb in ["acquire", "acquire_within", "try_acquire"] {
        let mut done = false;
        for polls in 0..1_000 {
            done = match verb {
                "acquire" => polled(polls, both.acquire()).await.transpose()?.is_some(),
                "acquire_within" => {
                    polled(polls, both.acquire_within(LONG_SESSION)).await.transpose()?.is_some()
                }
                _ => polled(polls, both.try_acquire()).await.transpose()?.flatten().is_some(),
            };
            ground.nothing_left(&client).await.with_context(|| format!("{verb} after {polls} polls"))?;
            if done {
                break;
            }
        }
        ensure!(done, "{verb} never completed");
    }
    Ok(())
}

async fn a_waiter_dropped_at_any_poll_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let both = set(&ground, &client, &["a", "b"]);
    for polls in 0..12 {
        let held = client.lock(ground.path("b")).acquire().await?;
        // Who waits is not always polled again, so the polls end with a moment.
        let waiting = tokio::time::timeout(MOMENT, polled(polls, both.acquire())).await;
        ensure!(matches!(waiting, Err(_) | Ok(None)), "all, though one is held");
        // What it had is free again while the other lock is still held.
        soon("the first lock", client.lock(ground.path("a")).acquire()).await??.release().await?;
        held.release().await?;
        ground.nothing_left(&client).await.with_context(|| format!("after {polls} polls"))?;
    }
    Ok(())
}

async fn those_who_name_them_in_other_orders_do_not_wait_in_a_circle(ground: Ground) -> Result<()> {
    const ORDERS: [&[&str]; 4] = [&["a", "b", "c"], &["c", "b", "a"], &["b", "c"], &["c", "a"]];
    let registers: Arc<[FencedRegister; 3]> = Arc::default();
    let inside: Arc<[AtomicBool; 3]> = Arc::default();
    let mut crowd = JoinSet::new();
    for (member, names) in ORDERS.into_iter().enumerate() {
        let (ground, registers, inside) = (ground.clone(), Arc::clone(&registers), Arc::clone(&inside));
        crowd.spawn(async move {
            let client = ground.client().await?;
            let locks = set(&ground, &client, names);
            for round in 0..15 {
                let held = soon("a turn", locks.acquire()).await??;
                for name in names {
                    let index = usize::from(name.as_bytes()[0] - b'a');
                    ensure!(!inside[index].swap(true, Ordering::SeqCst), "two hold {name}");
                    let token = held.token_of(&ground.path(name)).context("it is in the set")?;
                    registers[index].write(token, &format!("{member}/{round}"))?;
                }
                held.check()?;
                tokio::task::yield_now().await;
                for name in names {
                    inside[usize::from(name.as_bytes()[0] - b'a')].store(false, Ordering::SeqCst);
                }
                held.release().await?;
            }
            client.close().await?;
            Ok(())
        });
    }
    while let Some(member) = crowd.join_next().await {
        member??;
    }
    for register in registers.iter() {
        register.check()?;
        ensure!(register.writes().len() >= 30);
    }
    ground.nothing_left(&ground.client().await?).await
}

async fn one_limit_covers_all(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let held =
        [client.lock(ground.path("a")).acquire().await?, client.lock(ground.path("b")).acquire().await?];
    let limit = Duration::from_secs(2);
    let begun = tokio::time::Instant::now();
    let [first, second] = held;
    let late = async {
        // The first lock comes late, a bounded wait within the limit; the second does not come at all.
        tokio::time::sleep(limit * 3 / 4).await;
        first.release().await
    };
    let both = set(&ground, &client, &["a", "b"]);
    // Both timers run in one task and the limit is looked at first, so that a machine that stands still changes nothing.
    let within = tokio::time::timeout(limit * 3 / 2, both.acquire_within(limit));
    let (outcome, released) = tokio::join!(within, late);
    let outcome = outcome.with_context(|| format!("the limit of {limit:?} was counted for each lock"))?;
    released?;
    ensure!(matches!(outcome, Err(Error::Timeout(waited)) if waited == limit), "{outcome:?}");
    ensure!(begun.elapsed() >= limit, "given up too soon");
    second.release().await?;
    ground.nothing_left(&client).await
}

async fn try_takes_all_or_none(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    let both = set(&ground, &client, &["a", "b"]);
    let held = other.lock(ground.path("b")).acquire().await?;
    ensure!(both.try_acquire().await?.is_none());
    eventually("the first is free", async || {
        Ok(client.lock(ground.path("a")).contenders().await?.is_empty())
    })
    .await?;
    held.release().await?;
    both.try_acquire().await?.context("both are free")?.release().await?;
    ground.nothing_left(&client).await
}

async fn a_set_is_lost_with_one_of_its_locks(ground: Ground) -> Result<()> {
    let (client, admin) = (ground.client().await?, ground.client().await?);
    let both = set(&ground, &client, &["a", "b"]);
    for lost in 0..2 {
        let held = both.acquire().await?;
        let (fences, stopped, late) = (held.fences(), held.fences().cancelled(), held.txn());
        admin.delete(held.guards()[lost].path(), Version::ANY).await?;
        // The guard is not told yet, maybe, when the write gets to the server.
        let refused = late.create(ground.path("late"), "", CreateMode::Persistent).commit().await;
        ensure!(matches!(refused, Err(Error::Lost(LossCause::NodeDeleted))), "{refused:?}");
        ensure!(soon("the loss", held.lost()).await? == LossCause::NodeDeleted);
        soon("the stop", stopped).await?;
        ensure!(held.check() == Err(HoldError::Lost(LossCause::NodeDeleted)));
        ensure!(fences.check().is_err() && !fences.valid_for(Duration::ZERO));
        held.guards()[1 - lost].check()?;
        drop(held);
        ground.nothing_left(&client).await?;
    }
    let held = both.acquire().await?;
    let path = held.guards()[1].path().to_owned();
    let work = held.run(|_| async move {
        admin.delete(&path, Version::ANY).await?;
        std::future::pending::<Result<()>>().await
    });
    let outcome = soon("the stop of the work", work).await?;
    ensure!(matches!(outcome, Err(Error::Lost(LossCause::NodeDeleted))), "{outcome:?}");
    ground.nothing_left(&client).await
}

async fn a_lock_that_is_lost_on_the_way_begins_the_set_again(ground: Ground) -> Result<()> {
    let (client, admin) = (ground.client().await?, ground.client().await?);
    for on_place_lost in [OnPlaceLost::StandAgain, OnPlaceLost::Fail] {
        let held = admin.lock(ground.path("b")).acquire().await?;
        let (first, second) = (admin.lock(ground.path("a")), admin.lock(ground.path("b")));
        let waiting = tokio::spawn({
            let both = set(&ground, &client, &["a", "b"]).on_place_lost(on_place_lost);
            async move { both.acquire().await }
        });
        eventually("the second line", async || Ok(second.contenders().await?.len() == 2)).await?;
        let before = first.contenders().await?.pop().context("it holds the first")?;
        admin.delete(format!("{}/{}", ground.path("a"), before.name), Version::ANY).await?;
        if on_place_lost == OnPlaceLost::Fail {
            let failed = soon("its end", waiting).await??;
            ensure!(matches!(failed, Err(Error::PlaceLost(LossCause::NodeDeleted))), "{failed:?}");
            held.release().await?;
        } else {
            eventually("the first again", async || {
                Ok(first.contenders().await?.first().is_some_and(|now| now.name != before.name))
            })
            .await?;
            held.release().await?;
            let both = soon("both", waiting).await???;
            both.check()?;
            both.release().await?;
        }
        ground.nothing_left(&admin).await?;
    }
    Ok(())
}

async fn a_session_that_ends_on_the_way_begins_the_set_again(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    let held = other.lock(ground.path("b")).acquire().await?;
    let waiting = tokio::spawn({
        let both = set(&ground, &client, &["a", "b"]);
        async move { both.acquire().await }
    });
    let second = other.lock(ground.path("b"));
    eventually("the second line", async || Ok(second.contenders().await?.len() == 2)).await?;
    let ended = expire(&ground.connect, &client).await?;
    held.release().await?;
    let both = soon("both", waiting).await???;
    both.check()?;
    ensure!(both.guards().iter().all(|guard| guard.fence().session() != ended));
    ensure!(both.guards()[0].fence().session() == both.guards()[1].fence().session());
    expire(&ground.connect, &client).await?;
    ensure!(soon("the loss", both.lost()).await? == LossCause::SessionEnded);
    ensure!(both.release().await? == [Released::SessionEnded; 2]);
    ground.nothing_left(&other).await
}

async fn a_holder_cut_off_is_lost_before_the_next_begins(ground: Ground) -> Result<()> {
    let (holder, proxy) = ground.proxied(SHORT_SESSION).await?;
    let other = ground.client().await?;
    let held = set(&ground, &holder, &["a", "b"]).acquire().await?;
    let _proved = holder.hold_lease();
    proxy.stall_up(true);
    let heir = soon("the heir", set(&ground, &other, &["b", "c"]).acquire()).await??;
    let granted = tokio::time::Instant::now();
    ensure!(holder.lease().until < granted, "the lease ended after the heir began");
    ensure!(held.check().is_err(), "the holder still believes when the heir begins");
    ensure!(heir.token_of(&ground.path("b")) > held.token_of(&ground.path("b")));
    heir.release().await?;
    heal(&proxy);
    drop(held);
    soon("its return", set(&ground, &holder, &["a", "b"]).acquire()).await??.release().await?;
    ground.nothing_left(&other).await
}

async fn lost_replies_are_survived(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let both = set(&ground, &client, &["a", "b"]);
    both.acquire().await?.release().await?;
    for op in [OpCode::Create2, OpCode::GetChildren2, OpCode::Delete] {
        for polls in [0, 2, 4, 8, 1000] {
            proxy.drop_reply_of(op, 1);
            drop(polled(polls, both.acquire()).await.transpose()?);
            soon("the set after a lost reply", both.acquire()).await??.release().await?;
            ground.nothing_left(&client).await.with_context(|| format!("{op:?} lost, {polls} polls"))?;
        }
    }
    ensure!(proxy.counts().swallowed > 0, "no reply was lost");
    Ok(())
}

async fn a_set_of_none_is_held(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let none = client.lock_all(Vec::<String>::new()).acquire().await?;
    none.check()?;
    let refused = none.txn().create(ground.path("x"), "", CreateMode::Persistent).commit().await;
    ensure!(matches!(refused, Err(Error::NotFenced)), "{refused:?}");
    ensure!(none.release().await?.is_empty());
    ground.nothing_left(&client).await
}
