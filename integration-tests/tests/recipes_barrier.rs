//! Barriers, double barriers and countdown latches: cut, expired, deleted, dropped anywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::{Client, OpCode, Version, path};
use docent_integration_tests::recipe_kit::{
    Ground, LONG_SESSION, SHORT_SESSION, Scenario, children, drop_connections, eventually, expire, heal,
    polled, soon,
};
use docent_integration_tests::{on_every_server, scenarios};
use docent_recipes::{DoubleBarrier, Error, LossCause, Outcome, Recipes};
use tokio::task::JoinSet;
use tokio::time::Instant;

const SCENARIOS: &[Scenario] = scenarios![
    a_barrier_holds_until_it_is_lifted,
    a_barrier_lifted_during_a_blip_is_seen,
    a_barrier_lifted_between_two_sessions_is_seen,
    a_wait_dropped_at_any_poll_leaves_nothing,
    lost_replies_neither_close_nor_open_twice,
    nobody_is_inside_before_all_have_come,
    a_round_follows_another_on_one_path,
    rounds_have_paths_of_their_own,
    ready_stands_while_somebody_is_inside,
    nobody_has_left_before_all_leave,
    the_lowest_name_goes_last,
    one_too_many_gets_in_and_bounds_are_kept,
    an_enter_dropped_at_any_poll_leaves_nothing,
    an_enter_dropped_at_any_time_leaves_nothing,
    an_expired_waiter_comes_again,
    a_deleted_waiter_comes_again,
    a_dead_member_holds_nobody_up,
    one_inside_is_told_of_its_loss,
    lost_replies_make_no_second_member,
    cuts_during_rounds_lose_nobody,
    a_closed_client_ends_the_waits,
    a_latch_opens_at_the_last_count,
    counts_with_lost_replies_count_once,
    a_latch_waits_through_cuts_and_sessions,
];

on_every_server!("barrier", SCENARIOS);

/// Not done yet, although everything it may wait for has been told to the server, and it had the time of many round trips to
/// hear of it.
async fn still_waits<T>(client: &Client, waiting: &tokio::task::JoinHandle<T>) -> Result<()> {
    for _ in 0..30 {
        client.sync("/").await?;
        ensure!(!waiting.is_finished(), "did not wait");
    }
    Ok(())
}

async fn a_barrier_holds_until_it_is_lifted(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    let barrier = client.barrier(ground.path("gate"));
    soon("an open barrier", barrier.wait()).await??;
    ensure!(!barrier.is_set().await? && !barrier.lift().await?);
    ensure!(barrier.set().await? && !barrier.set().await? && barrier.is_set().await?);
    let node = client.get_data(ground.path("gate")).await?;
    ensure!(node.stat.ephemeral_owner == docent::SessionId::NONE && node.bytes().is_empty());
    let short = barrier.wait_within(Duration::from_millis(50)).await;
    ensure!(matches!(short, Err(Error::Timeout(_))), "{short:?}");
    let waits: Vec<_> = (0..3)
        .map(|_| {
            let gate = other.barrier(ground.path("gate"));
            tokio::spawn(async move { gate.wait().await })
        })
        .collect();
    // Another's data is no reason to go on.
    eventually("the watch", async || Ok(!ground.watches().await?.is_empty())).await?;
    client.set_data(ground.path("gate"), "note", Version::ANY).await?;
    for wait in &waits {
        still_waits(&other, wait).await?;
    }
    ensure!(barrier.lift().await?);
    for wait in waits {
        soon("the lifted barrier", wait).await???;
    }
    ground.nothing_left(&client).await
}

async fn a_barrier_lifted_during_a_blip_is_seen(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let other = ground.client().await?;
    other.barrier(ground.path("gate")).set().await?;
    let gate = client.barrier(ground.path("gate"));
    let wait = tokio::spawn(async move { gate.wait().await });
    eventually("the watch", async || Ok(!ground.watches().await?.is_empty())).await?;
    drop_connections(&proxy);
    ensure!(other.barrier(ground.path("gate")).lift().await?);
    heal(&proxy);
    soon("the lifted barrier", wait).await???;
    ground.nothing_left(&other).await
}

async fn a_barrier_lifted_between_two_sessions_is_seen(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let other = ground.client().await?;
    other.barrier(ground.path("gate")).set().await?;
    let gate = client.barrier(ground.path("gate"));
    let wait = tokio::spawn(async move { gate.wait().await });
    eventually("the watch", async || Ok(!ground.watches().await?.is_empty())).await?;
    drop_connections(&proxy);
    expire(&ground.connect, &client).await?;
    ensure!(other.barrier(ground.path("gate")).lift().await?);
    heal(&proxy);
    soon("the lifted barrier", wait).await???;
    ground.nothing_left(&other).await
}

async fn a_wait_dropped_at_any_poll_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let (gate, latch) = (client.barrier(ground.path("gate")), client.countdown(ground.path("latch"), 1));
    gate.set().await?;
    for polls in 0..8 {
        ensure!(polled(polls, gate.wait()).await.is_none());
        ensure!(polled(polls, latch.wait()).await.is_none());
        ground.nothing_left(&client).await.with_context(|| format!("after {polls} polls"))?;
    }
    let mut done = false;
    for polls in 0..1_000 {
        let before = latch.remaining().await?;
        done = polled(polls, latch.count_down()).await.transpose()?.is_some();
        ground.nothing_left(&client).await.with_context(|| format!("after {polls} polls"))?;
        client.sync("/").await?;
        ensure!(before - latch.remaining().await? <= 1);
        if done {
            break;
        }
    }
    ensure!(done && latch.remaining().await? == 0);
    Ok(())
}

async fn lost_replies_neither_close_nor_open_twice(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let gate = client.barrier(ground.path("gate"));
    client.create_parents(ground.path("gate"), docent::ParentMode::Persistent).await?;
    for _ in 0..3 {
        proxy.drop_reply_of(OpCode::Create2, 1);
        ensure!(soon("setting", gate.set()).await??);
        ensure!(gate.is_set().await?);
        proxy.drop_reply_of(OpCode::Delete, 1);
        // Whose delete it was is not known any more.
        ensure!(!soon("lifting", gate.lift()).await??);
        ensure!(!gate.is_set().await?);
        proxy.drop_request_of(OpCode::Create2, 1);
        let lost = soon("setting", gate.set()).await?;
        ensure!(matches!(lost, Err(Error::Ambiguous { .. })), "{lost:?}");
        gate.set().await?;
        proxy.drop_request_of(OpCode::Delete, 1);
        ensure!(soon("lifting", gate.lift()).await??);
    }
    ensure!(proxy.counts().swallowed == 12, "nothing was lost");
    Ok(())
}

fn double(client: &Client, ground: &Ground, members: usize) -> DoubleBarrier {
    client.double_barrier(ground.path("double"), members)
}

/// P14: nobody passes before the count was reached; all pass after.
async fn nobody_is_inside_before_all_have_come(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let barrier = double(&client, &ground, 3).id("host");
    let first: Vec<_> = (0..2)
        .map(|_| {
            let barrier = barrier.clone();
            tokio::spawn(async move { barrier.enter().await })
        })
        .collect();
    eventually("two nodes", async || Ok(children(&client, &ground.path("double")).await?.len() == 2)).await?;
    for name in children(&client, &ground.path("double")).await? {
        ensure!(name.len() == 36 && uuid::Uuid::try_parse(&name).is_ok(), "{name} is not Curator's");
        let node = client.get_data(path::join(&ground.path("double"), &name)).await?;
        ensure!(node.bytes() == "host");
    }
    // What is no member counts for nobody.
    client.create(path::join(&ground.path("double"), "note"), "").await?;
    for enter in &first {
        still_waits(&client, enter).await?;
    }
    let third = soon("all to come", barrier.enter()).await??;
    third.fence().check()?;
    let mut inside = vec![third];
    for enter in first {
        inside.push(soon("all to come", enter).await???);
    }
    ensure!(client.exists(ground.path("double/ready")).await?.is_some());
    let leaves = inside.into_iter().map(docent_recipes::Inside::leave);
    soon("all to leave", futures::future::try_join_all(leaves)).await??;
    ensure!(children(&client, &ground.path("double")).await? == ["note"]);
    ground.nothing_left(&client).await
}

async fn rounds(ground: &Ground, rounds: u64, each: fn(&DoubleBarrier, u64) -> DoubleBarrier) -> Result<()> {
    let come = Arc::new((0..rounds).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>());
    let mut members = JoinSet::new();
    for _ in 0..4 {
        let (ground, come, client) = (ground.clone(), Arc::clone(&come), ground.client().await?);
        members.spawn(async move {
            let barrier = double(&client, &ground, 4);
            for round in 0..rounds {
                let here = &come[usize::try_from(round)?];
                here.fetch_add(1, Ordering::SeqCst);
                let inside = soon("all to come", each(&barrier, round).enter()).await??;
                let now = here.load(Ordering::SeqCst);
                ensure!(now == 4, "inside round {round} with {now} of 4");
                soon("all to leave", inside.leave()).await??;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(member) = members.join_next().await {
        member??;
    }
    ground.nothing_left(&ground.client().await?).await
}

async fn a_round_follows_another_on_one_path(ground: Ground) -> Result<()> {
    rounds(&ground, 15, |barrier, _| barrier.clone()).await?;
    let left = children(&ground.client().await?, &ground.path("double")).await?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

async fn rounds_have_paths_of_their_own(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    // What a member that died has left behind is of another round.
    let stale = double(&client, &ground, 4).round(99);
    client.create_parents(ground.path("double/r99/ready"), docent::ParentMode::Persistent).await?;
    client.create(ground.path("double/r99/ready"), "").await?;
    rounds(&ground, 10, |barrier, round| barrier.round(round)).await?;
    soon("an open round", stale.enter()).await??.leave().await?;
    ensure!(children(&client, &ground.path("double/r99")).await?.is_empty());
    Ok(())
}

/// Who had left could still be about to remove `ready` in the background when the next round had made it anew.
async fn ready_stands_while_somebody_is_inside(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let barrier = double(&client, &ground, 1);
    for round in 0..40 {
        let inside = soon("one", barrier.enter()).await??;
        // The look comes after whatever the round before has left to be sent.
        client.sync("/").await?;
        ensure!(client.exists(ground.path("double/ready")).await?.is_some(), "gone in round {round}");
        soon("leaving", inside.leave()).await??;
    }
    ground.nothing_left(&client).await
}

async fn nobody_has_left_before_all_leave(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let barrier = double(&client, &ground, 3);
    let enters = (0..3).map(|_| barrier.enter());
    let mut inside = soon("all to come", futures::future::try_join_all(enters)).await??;
    let (last, middle) = (inside.pop().context("three")?, inside.pop().context("three")?);
    let first = inside.pop().context("three")?;
    let first = tokio::spawn(first.leave());
    let late = middle.leave_within(Duration::from_millis(100)).await;
    ensure!(matches!(late, Err(Error::Timeout(_))), "{late:?}");
    still_waits(&client, &first).await?;
    // Dropped is left, too.
    drop(last);
    soon("all to leave", first).await???;
    eventually("nothing there", async || Ok(children(&client, &ground.path("double")).await?.is_empty()))
        .await?;
    ground.nothing_left(&client).await
}

/// Curator's members left too early when the lowest one, which was ours, went before others.
async fn the_lowest_name_goes_last(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let barrier = double(&client, &ground, 3);
    let enters = (0..3).map(|_| barrier.enter());
    let mut inside = soon("all to come", futures::future::try_join_all(enters)).await??;
    inside.sort_by_key(|one| one.fence().path().to_owned());
    let (last, middle) = (inside.pop().context("three")?, inside.pop().context("three")?);
    let lowest = inside.pop().context("three")?;
    let stay = [&lowest, &last].map(|one| path::name(one.fence().path()).to_owned());
    let left = [lowest, middle].map(|one| tokio::spawn(one.leave()));
    eventually("the middle one's end", async || {
        let now = children(&client, &ground.path("double")).await?;
        let members: Vec<String> = now.into_iter().filter(|name| name != "ready").collect();
        Ok(members.iter().eq(stay.iter()))
    })
    .await?;
    for leave in &left {
        still_waits(&client, leave).await?;
    }
    ensure!(children(&client, &ground.path("double")).await?.contains(&stay[0]), "the lowest has gone");
    soon("the last one", last.leave()).await??;
    for leave in left {
        soon("all to leave", leave).await???;
    }
    ground.nothing_left(&client).await
}

async fn one_too_many_gets_in_and_bounds_are_kept(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let barrier = double(&client, &ground, 2);
    let short = barrier.enter_within(Duration::from_millis(100)).await;
    ensure!(matches!(short, Err(Error::Timeout(_))), "{short:?}");
    ground.nothing_left(&client).await?;
    let (one, two) = soon("both", async { tokio::try_join!(barrier.enter(), barrier.enter()) }).await??;
    let three = soon("one too many", barrier.enter()).await??;
    drop((one, two, three));
    eventually("nothing there", async || Ok(children(&client, &ground.path("double")).await?.is_empty()))
        .await?;
    ground.nothing_left(&client).await
}

async fn an_enter_dropped_at_any_poll_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for (members, most) in [(1, 1_000), (2, 12)] {
        let barrier = double(&client, &ground, members);
        let mut done = false;
        for polls in 0..most {
            done = polled(polls, barrier.enter()).await.transpose()?.is_some();
            ground.nothing_left(&client).await.with_context(|| format!("after {polls} polls"))?;
            eventually("nothing there", async || {
                Ok(children(&client, &ground.path("double")).await?.is_empty())
            })
            .await?;
            if done {
                break;
            }
        }
        ensure!(done == (members == 1), "{members} members, and one: {done}");
    }
    Ok(())
}

async fn an_enter_dropped_at_any_time_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let barrier = double(&client, &ground, 1);
    for _ in 0..100 {
        let limit = Duration::from_micros(fastrand::u64(0..5_000));
        let meet = async { barrier.enter().await?.leave().await };
        if let Ok(met) = tokio::time::timeout(limit, meet).await {
            met?;
        }
    }
    ground.nothing_left(&client).await?;
    eventually("nothing there", async || Ok(children(&client, &ground.path("double")).await?.is_empty()))
        .await?;
    let two = double(&client, &ground, 2);
    let short = two.enter_within(Duration::from_millis(100)).await;
    ensure!(matches!(short, Err(Error::Timeout(_))), "open from the beginning: {short:?}");
    ground.nothing_left(&client).await
}

async fn an_expired_waiter_comes_again(ground: Ground) -> Result<()> {
    let (one, two) = (ground.client().await?, ground.client().await?);
    let waiting = double(&one, &ground, 2);
    let waiting = tokio::spawn(async move { waiting.enter().await });
    eventually("one there", async || Ok(ground.ephemerals(&two).await?.len() == 1)).await?;
    let before = ground.ephemerals(&two).await?;
    expire(&ground.connect, &one).await?;
    eventually("there again", async || {
        let now = ground.ephemerals(&two).await?;
        Ok(now.len() == 1 && now != before)
    })
    .await?;
    let other = soon("both", double(&two, &ground, 2).enter()).await??;
    let back = soon("both", waiting).await???;
    let leave = async { tokio::try_join!(other.leave(), back.leave()) };
    soon("leaving", leave).await??;
    ground.nothing_left(&two).await
}

async fn a_deleted_waiter_comes_again(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let waiting = double(&client, &ground, 2);
    let waiting = tokio::spawn(async move { waiting.enter().await });
    eventually("one watched", async || Ok(ground.watches().await?.len() == 2)).await?;
    let (before, _) = ground.ephemerals(&client).await?.pop().context("one there")?;
    client.delete(&before, Version::ANY).await?;
    eventually("there again", async || {
        Ok(ground.ephemerals(&client).await?.first().is_some_and(|(now, _)| *now != before))
    })
    .await?;
    let other = soon("both", double(&client, &ground, 2).enter()).await??;
    drop((other, soon("both", waiting).await???));
    ground.nothing_left(&client).await
}

async fn a_dead_member_holds_nobody_up(ground: Ground) -> Result<()> {
    let (one, two) = (ground.client().await?, ground.client().await?);
    let (a, b) = (double(&one, &ground, 2), double(&two, &ground, 2));
    let (dead, inside) = soon("both", async { tokio::try_join!(a.enter(), b.enter()) }).await??;
    // The lowest name goes last.
    let stay = if inside.fence().path() < dead.fence().path() { 2 } else { 1 };
    let leaving = tokio::spawn(inside.leave());
    eventually("who is to stay", async || Ok(ground.ephemerals(&two).await?.len() == stay)).await?;
    still_waits(&two, &leaving).await?;
    expire(&ground.connect, &one).await?;
    soon("leaving alone", leaving).await???;
    soon("the loss", dead.fence().lost()).await?;
    drop(dead);
    eventually("nothing there", async || Ok(children(&two, &ground.path("double")).await?.is_empty()))
        .await?;
    ground.nothing_left(&two).await
}

async fn one_inside_is_told_of_its_loss(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(SHORT_SESSION).await?;
    let inside = soon("one", double(&client, &ground, 1).enter()).await??;
    drop_connections(&proxy);
    ensure!(soon("the loss", inside.fence().lost()).await? == LossCause::LeaseEnded);
    heal(&proxy);
    soon("leaving", inside.leave()).await??;
    ground.nothing_left(&ground.client().await?).await
}

async fn lost_replies_make_no_second_member(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let other = ground.client().await?;
    client.create_parents(ground.path("double/x"), docent::ParentMode::Persistent).await?;
    for round in 0..4 {
        // The own node, and in the next round `ready`.
        proxy.drop_reply_of(OpCode::Create2, 1 + round % 2);
        let barrier = double(&client, &ground, 1);
        let inside = soon("one", barrier.enter()).await??;
        ensure!(ground.ephemerals(&other).await?.len() == 1);
        proxy.drop_reply_of(OpCode::Delete, 1);
        soon("leaving", inside.leave()).await??;
        eventually("nothing there", async || Ok(children(&other, &ground.path("double")).await?.is_empty()))
            .await?;
    }
    ensure!(proxy.counts().swallowed >= 7, "nothing was lost");
    ground.nothing_left(&other).await
}

async fn cuts_during_rounds_lose_nobody(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let other = ground.client().await?;
    let cutting = tokio::spawn({
        let until = Instant::now() + Duration::from_secs(6);
        async move {
            while Instant::now() < until {
                // A random moment for the next cut, in a bounded wait until the faults end.
                tokio::time::sleep(Duration::from_millis(fastrand::u64(1..100))).await;
                proxy.cut();
            }
            proxy
        }
    });
    let mut round = 0;
    while !cutting.is_finished() {
        let (a, b) = (double(&client, &ground, 2).round(round), double(&other, &ground, 2).round(round));
        let both = async { tokio::try_join!(a.enter(), b.enter()) };
        let (a, b) = soon("both to come", both).await??;
        soon("both to leave", async { tokio::try_join!(a.leave(), b.leave()) }).await??;
        round += 1;
    }
    let _proxy = cutting.await?;
    ground.nothing_left(&other).await
}

async fn a_closed_client_ends_the_waits(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    other.barrier(ground.path("gate")).set().await?;
    let (gate, latch) = (client.barrier(ground.path("gate")), client.countdown(ground.path("latch"), 1));
    let barrier = double(&client, &ground, 2);
    let waits = tokio::spawn(async move {
        let enter = async { barrier.enter().await.map(drop) };
        tokio::join!(gate.wait(), latch.wait(), enter)
    });
    eventually("all wait", async || Ok(ground.watches().await?.len() == 4)).await?;
    client.close().await?;
    let ends = soon("the end", waits).await??;
    ensure!(matches!(ends, (Err(Error::Closed), Err(Error::Closed), Err(Error::Closed))), "{ends:?}");
    ground.nothing_left(&other).await
}

async fn a_latch_opens_at_the_last_count(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let latch = client.countdown(ground.path("latch"), 3);
    let short = latch.wait_within(Duration::from_millis(50)).await;
    ensure!(matches!(short, Err(Error::Timeout(_))), "{short:?}");
    ensure!(latch.remaining().await? == 3);
    let waiting = client.countdown(ground.path("latch"), 3);
    let waiting = tokio::spawn(async move { waiting.wait().await });
    for left in [2, 1] {
        ensure!(latch.count_down().await? == Outcome::Applied(left));
        still_waits(&client, &waiting).await?;
    }
    ensure!(latch.count_down().await? == Outcome::Applied(0));
    soon("the open latch", waiting).await???;
    ensure!(latch.count_down().await? == Outcome::Applied(0), "below nothing");
    soon("the open latch", latch.wait()).await??;
    ensure!(client.get_data(ground.path("latch")).await?.bytes() == [0_u8; 4].as_slice());
    ground.nothing_left(&client).await
}

async fn counts_with_lost_replies_count_once(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let latch = client.countdown(ground.path("latch"), 6);
    for left in (0..6).rev() {
        proxy.drop_reply_of(OpCode::Multi, 1);
        ensure!(soon("a count", latch.count_down()).await?? == Outcome::Applied(left));
    }
    ensure!(proxy.counts().swallowed == 6, "nothing was lost");
    soon("the open latch", latch.wait()).await??;
    ground.nothing_left(&client).await
}

async fn a_latch_waits_through_cuts_and_sessions(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let other = ground.client().await?;
    let latch = other.countdown(ground.path("latch"), 2);
    latch.remaining().await?;
    let waiting = client.countdown(ground.path("latch"), 2);
    let waiting = tokio::spawn(async move { waiting.wait().await });
    eventually("the watch", async || Ok(!ground.watches().await?.is_empty())).await?;
    drop_connections(&proxy);
    ensure!(latch.count_down().await? == Outcome::Applied(1));
    heal(&proxy);
    expire(&ground.connect, &client).await?;
    eventually("the watch again", async || Ok(!ground.watches().await?.is_empty())).await?;
    still_waits(&other, &waiting).await?;
    ensure!(latch.count_down().await? == Outcome::Applied(0));
    soon("the open latch", waiting).await???;
    ground.nothing_left(&other).await
}
