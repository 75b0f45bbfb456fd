//! Shared values and counters: contended, cut, with lost replies and requests, dropped anywhere.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::{Client, OpCode, Version};
use docent_integration_tests::recipe_kit::{
    Ground, LONG_SESSION, SETTLE_BOUND, SHORT_SESSION, Scenario, drop_connections, eventually, heal, polled,
    soon,
};
use docent_integration_tests::{on_every_server, scenarios};
use docent_recipes::{CounterLayout, Error, Outcome, Recipes};
use tokio::task::JoinSet;
use tokio::time::Instant;

const SCENARIOS: &[Scenario] = scenarios![
    numbers_lie_as_curator_and_kazoo_lay_them,
    a_missing_node_is_made_with_its_seed_or_told,
    bytes_that_are_no_value_are_told_and_kept,
    a_value_replaces_only_what_it_was_compared_with,
    an_update_is_made_on_what_others_wrote,
    all_that_is_added_is_in_the_sum,
    a_sum_out_of_range_is_not_written,
    a_lost_reply_is_ambiguous_and_adds_once,
    a_lost_request_is_ambiguous_and_adds_nothing,
    exactly_once_clears_up_lost_replies_and_requests,
    exactly_once_tells_when_its_session_took_the_answer,
    an_add_dropped_at_any_poll_adds_once_or_not_at_all,
    an_add_dropped_at_any_time_leaves_nothing,
    cuts_during_everything_count_right,
    a_closed_client_changes_nothing,
];

on_every_server!("value", SCENARIOS);

async fn bytes(client: &Client, path: &str) -> Result<Vec<u8>> {
    Ok(client.get_data(path).await?.bytes().to_vec())
}

async fn numbers_lie_as_curator_and_kazoo_lay_them(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let path = ground.path("n");
    for (layout, wanted) in [
        (CounterLayout::Long, &[0, 0, 0, 0, 0, 0, 1, 2][..]),
        (CounterLayout::Integer, &[0, 0, 1, 2]),
        (CounterLayout::Text, b"258"),
    ] {
        let counter = client.counter(&path).layout(layout).seed(200);
        ensure!(counter.add(58).await? == Outcome::Applied(258) && counter.get().await? == 258);
        ensure!(bytes(&client, &path).await? == wanted, "{layout:?}");
        // What others leave empty is 0.
        client.set_data(&path, "", Version::ANY).await?;
        ensure!(counter.get().await? == 0);
        client.delete(&path, Version::ANY).await?;
    }
    ensure!(client.shared_count(&path).seed(-1).get().await? == -1);
    ensure!(bytes(&client, &path).await? == [255; 4]);
    ground.nothing_left(&client).await
}

async fn a_missing_node_is_made_with_its_seed_or_told(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let unseeded = client.shared_value(ground.path("v")).text::<u32>();
    ensure!(matches!(unseeded.get().await, Err(Error::Missing { .. })));
    ensure!(matches!(unseeded.set(1).await, Err(Error::Missing { .. })));
    ensure!(matches!(unseeded.update(|_| 1).await, Err(Error::Missing { .. })));
    ensure!(client.exists(ground.path("v")).await?.is_none());
    let seeded = unseeded.clone().seed(7);
    ensure!(seeded.get().await?.value == 7 && bytes(&client, &ground.path("v")).await? == b"7");
    ensure!(unseeded.set(8).await? == Outcome::Applied(8));
    ensure!(seeded.get().await?.value == 8, "the seed took the place of a value");
    client.delete(ground.path("v"), Version::ANY).await?;
    ensure!(seeded.clone().exactly_once().set(9).await? == Outcome::Applied(9));
    ensure!(seeded.get().await?.value == 9);
    ground.nothing_left(&client).await
}

async fn bytes_that_are_no_value_are_told_and_kept(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let raw = client.shared_value(ground.path("v")).seed("no number".into());
    raw.get().await?;
    let number = client.shared_value(ground.path("v")).text::<u32>();
    ensure!(matches!(number.get().await, Err(Error::Invalid { .. })));
    ensure!(matches!(number.update(|old| old + 1).await, Err(Error::Invalid { .. })));
    ensure!(raw.get().await?.value == "no number");
    Ok(())
}

async fn a_value_replaces_only_what_it_was_compared_with(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for exactly_once in [false, true] {
        let value = client.shared_value(ground.path("v")).json::<Vec<u32>>().seed(vec![]);
        let value = if exactly_once { value.exactly_once() } else { value };
        let before = value.get().await?;
        ensure!(value.compare_and_set(&before, vec![1]).await? == Outcome::Applied(vec![1]));
        let late = value.compare_and_set(&before, vec![2]).await;
        ensure!(matches!(late, Err(Error::Contended { attempts: 1, .. })), "{late:?}");
        let after = value.get().await?;
        ensure!(after.value == [1] && after.version == before.version + 1 && after.mzxid > before.mzxid);
        client.delete(ground.path("v"), Version::ANY).await?;
    }
    ground.nothing_left(&client).await
}

async fn an_update_is_made_on_what_others_wrote(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let mut writers = JoinSet::new();
    for number in 0..6_u32 {
        let client = ground.client().await?;
        let names = client.shared_value(ground.path("v")).json::<Vec<u32>>().seed(vec![]);
        writers.spawn(async move {
            for round in 0..8 {
                let name = number * 100 + round;
                let add = |names: &Vec<u32>| names.iter().copied().chain([name]).collect();
                soon("the update", names.update(add)).await??.applied().context("no connection broke")?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    let mut names = client.shared_value(ground.path("v")).json::<Vec<u32>>().get().await?.value;
    names.sort_unstable();
    names.dedup();
    ensure!(names.len() == 48, "{} of 48 updates are there", names.len());
    Ok(())
}

/// P15: the value is the sum of what was applied.
async fn all_that_is_added_is_in_the_sum(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let mut adders = JoinSet::new();
    for number in 0..6_i64 {
        let client = ground.client().await?;
        let counter = client.counter(ground.path("n"));
        let counter = if number % 2 == 0 { counter.exactly_once() } else { counter };
        adders.spawn(async move {
            for _ in 0..20 {
                let sum = soon("the sum", counter.add(number)).await??;
                ensure!(sum.applied().is_some_and(|sum| sum >= number));
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(adder) = adders.join_next().await {
        adder??;
    }
    ensure!(client.counter(ground.path("n")).get().await? == 20 * (1 + 2 + 3 + 4 + 5));
    ground.nothing_left(&client).await
}

async fn a_sum_out_of_range_is_not_written(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let count = client.shared_count(ground.path("n")).seed(i64::from(i32::MAX));
    ensure!(matches!(count.add(1).await, Err(Error::Encode(_))));
    ensure!(matches!(count.exactly_once().add(i64::MAX).await, Err(Error::Encode(_))));
    ensure!(bytes(&client, &ground.path("n")).await? == i32::MAX.to_be_bytes());
    ground.nothing_left(&client).await
}

async fn a_lost_reply_is_ambiguous_and_adds_once(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let counter = client.counter(ground.path("n"));
    counter.get().await?;
    proxy.drop_reply_of(OpCode::SetData, 1);
    ensure!(soon("the outcome", counter.add(1)).await?? == Outcome::Ambiguous);
    ensure!(proxy.counts().swallowed == 1 && counter.get().await? == 1);
    Ok(())
}

async fn a_lost_request_is_ambiguous_and_adds_nothing(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let counter = client.counter(ground.path("n"));
    counter.get().await?;
    proxy.drop_request_of(OpCode::SetData, 1);
    ensure!(soon("the outcome", counter.add(1)).await?? == Outcome::Ambiguous);
    ensure!(proxy.counts().swallowed == 1 && counter.get().await? == 0);
    Ok(())
}

async fn exactly_once_clears_up_lost_replies_and_requests(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let counter = client.counter(ground.path("n")).exactly_once();
    for round in 0..6 {
        if round % 2 == 0 {
            proxy.drop_reply_of(OpCode::Multi, 1);
        } else {
            proxy.drop_request_of(OpCode::Multi, 1);
        }
        let sum = soon("the sum", counter.add(1)).await??;
        ensure!(sum == Outcome::Applied(round + 1), "{sum:?}");
        ensure!(i64::try_from(proxy.counts().swallowed)? == round + 1, "nothing was lost");
        ensure!(counter.get().await? == round + 1);
    }
    ground.nothing_left(&client).await
}

async fn exactly_once_tells_when_its_session_took_the_answer(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(SHORT_SESSION).await?;
    let other = ground.client().await?;
    let counter = client.counter(ground.path("n")).exactly_once();
    ensure!(counter.add(1).await? == Outcome::Applied(1));
    let seen = other.counter(ground.path("n"));
    proxy.drop_reply_of(OpCode::Multi, 1);
    let adding = tokio::spawn({
        let counter = counter.clone();
        async move { counter.add(1).await }
    });
    let deadline = Instant::now() + SETTLE_BOUND;
    while seen.get().await? != 2 {
        ensure!(Instant::now() < deadline, "never added");
        // The pause of a bounded wait.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop_connections(&proxy);
    // The session ends on the server while nobody can ask: the marker is gone when it can be looked for.
    eventually("the session's end", async || Ok(ground.ephemerals(&other).await?.is_empty())).await?;
    heal(&proxy);
    let outcome = soon("the outcome", adding).await???;
    // It may have been cleared up before the connections went.
    ensure!(matches!(outcome, Outcome::Ambiguous | Outcome::Applied(2)), "{outcome:?}");
    ensure!(seen.get().await? == 2, "added twice");
    ground.nothing_left(&other).await
}

async fn an_add_dropped_at_any_poll_adds_once_or_not_at_all(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for exactly_once in [false, true] {
        let counter = client.counter(ground.path("n"));
        let counter = if exactly_once { counter.exactly_once() } else { counter };
        let mut done = false;
        for polls in 0..1_000 {
            let before = counter.get().await?;
            done = polled(polls, counter.add(1)).await.transpose()?.is_some();
            ground.nothing_left(&client).await.with_context(|| format!("after {polls} polls"))?;
            client.sync(ground.path("n")).await?;
            let added = counter.get().await? - before;
            ensure!(added == 0 || added == 1, "{added} added after {polls} polls");
            if done {
                ensure!(added == 1);
                break;
            }
        }
        ensure!(done, "add never completed");
    }
    ground.nothing_left(&client).await
}

async fn an_add_dropped_at_any_time_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let counter = client.counter(ground.path("n")).exactly_once();
    let mut applied = 0;
    for _ in 0..150 {
        let limit = Duration::from_micros(fastrand::u64(0..4_000));
        if let Ok(sum) = tokio::time::timeout(limit, counter.add(1)).await {
            sum?.applied().context("no connection broke")?;
            applied += 1;
        }
    }
    ground.nothing_left(&client).await?;
    let sum = counter.get().await?;
    ensure!((applied..=150).contains(&sum), "{sum} after {applied} applied");
    Ok(())
}

async fn cuts_during_everything_count_right(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
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
    let (plain, once) =
        (client.counter(ground.path("plain")), client.counter(ground.path("once")).exactly_once());
    let (mut applied, mut ambiguous, mut all) = (0, 0, 0);
    while !cutting.is_finished() {
        match soon("an outcome", plain.add(1)).await?? {
            Outcome::Applied(_) => applied += 1,
            Outcome::Ambiguous => ambiguous += 1,
        }
        soon("an outcome", once.add(1)).await??.applied().context("the session lives")?;
        all += 1;
    }
    let _proxy = cutting.await?;
    let sum = plain.get().await?;
    ensure!((applied..=applied + ambiguous).contains(&sum), "{sum}: {applied} and {ambiguous}");
    ensure!(once.get().await? == all, "{} instead of {all}", once.get().await?);
    ground.nothing_left(&client).await
}

async fn a_closed_client_changes_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let counter = client.counter(ground.path("n"));
    ensure!(counter.add(1).await? == Outcome::Applied(1));
    client.close().await?;
    ensure!(matches!(counter.add(1).await, Err(Error::Closed)));
    ensure!(matches!(counter.exactly_once().set(5).await, Err(Error::Closed)));
    ensure!(ground.client().await?.counter(ground.path("n")).get().await? == 1);
    Ok(())
}
