//! Being asked to yield, holding once more by another guard, and seeing a line change.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use docent::{CreateMode, Version};
use docent_integration_tests::recipe_kit::{
    Ground, LONG_SESSION, Scenario, drop_connections, eventually, expire, heal, polled, soon,
};
use docent_integration_tests::{on_every_server, scenarios};
use docent_recipes::{Error, HoldError, Layout, LossCause, Mode, Recipes, Released};

const SCENARIOS: &[Scenario] = scenarios![
    a_holder_is_asked_and_yields,
    a_waiter_that_was_asked_knows_it_when_it_holds,
    being_asked_ends_with_the_hold,
    a_request_while_disconnected_is_heard_after,
    every_kind_of_hold_can_be_asked,
    a_hold_lives_until_its_last_guard,
    the_guards_of_one_hold_are_released_at_once_and_anywhere,
    a_lost_hold_cannot_be_entered_again,
    work_runs_within_work,
    a_line_is_told_after_each_change,
    a_line_is_told_over_sessions_and_cuts,
    a_stream_dropped_at_any_poll_leaves_nothing,
];

on_every_server!("yield", SCENARIOS);

async fn a_holder_is_asked_and_yields(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    for layout in [Layout::Curator, Layout::Kazoo] {
        let path = ground.path(&format!("{layout:?}"));
        let held = client.lock(&path).layout(layout).identifier("host-7").acquire().await?;
        let lock = other.lock(&path).layout(layout);
        let place = lock.enqueue().await?;
        ensure!(!held.fence().is_asked_to_yield());
        let holder = lock.contenders().await?.swap_remove(0);
        ensure!(lock.ask_to_yield(&holder).await?, "it is there");
        soon("the request", held.asked_to_yield()).await?;
        ensure!(held.fence().is_asked_to_yield());
        // It is a request: until it is followed, nothing changes.
        held.check()?;
        ensure!(client.get_data(held.path()).await?.bytes() == "__REVOKE__", "Curator's word");
        ensure!(place.position() == Some(1));
        soon("asked before", held.asked_to_yield()).await?;
        held.release().await?;
        let guard = soon("the asker's turn", async { place.await }).await??;
        ensure!(!guard.fence().is_asked_to_yield(), "the next one is not asked");
        ensure!(!lock.ask_to_yield(&holder).await?, "it is gone");
        guard.release().await?;
        ground.nothing_left(&client).await?;
    }
    Ok(())
}

async fn a_waiter_that_was_asked_knows_it_when_it_holds(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.lock(ground.path("line"));
    let held = lock.acquire().await?;
    let place = lock.enqueue().await?;
    let waiter = lock.contenders().await?.pop().context("it is in line")?;
    ensure!(lock.ask_to_yield(&waiter).await?);
    // Its own event is on the way; also the read before its turn must see the words.
    held.release().await?;
    let guard = soon("its turn", async { place.await }).await??;
    soon("the request", guard.asked_to_yield()).await?;
    ensure!(guard.fence().is_asked_to_yield());
    guard.release().await?;
    // Other data is no request.
    let guard = lock.acquire().await?;
    client.set_data(guard.path(), "__REVOKE__ please", Version::ANY).await?;
    client.set_data(guard.path(), "", Version::ANY).await?;
    let watched = guard.fence();
    client.set_data(guard.path(), "__REVOKE__", Version::ANY).await?;
    soon("the request", guard.asked_to_yield()).await?;
    ensure!(
        watched.is_asked_to_yield() && client.exists(guard.path()).await?.is_some_and(|s| s.version == 3)
    );
    guard.release().await?;
    ground.nothing_left(&client).await
}

async fn being_asked_ends_with_the_hold(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.lock(ground.path("line"));
    let held = lock.acquire().await?;
    let (asked, fence) = (held.asked_to_yield(), held.fence());
    held.release().await?;
    soon("the end of waiting", asked).await?;
    ensure!(!fence.is_asked_to_yield());
    let held = lock.acquire().await?;
    let asked = held.asked_to_yield();
    expire(&ground.connect, &client).await?;
    soon("the end of waiting", asked).await?;
    ensure!(!held.fence().is_asked_to_yield() && held.check().is_err());
    drop(held);
    ground.nothing_left(&ground.client().await?).await
}

async fn a_request_while_disconnected_is_heard_after(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let other = ground.client().await?;
    let held = client.lock(ground.path("line")).acquire().await?;
    for round in 0..3 {
        drop_connections(&proxy);
        soon("the suspension", held.suspended()).await?;
        if round == 2 {
            let lock = other.lock(ground.path("line"));
            let holder = lock.contenders().await?.swap_remove(0);
            ensure!(lock.ask_to_yield(&holder).await?);
            ensure!(!held.fence().is_asked_to_yield(), "heard without a connection");
        }
        heal(&proxy);
        eventually("valid again", async || {
            Ok(matches!(held.state(), docent_recipes::HoldState::Valid { .. }))
        })
        .await?;
        ensure!(held.fence().is_asked_to_yield() == (round == 2), "round {round}");
    }
    held.check()?;
    held.release().await?;
    ground.nothing_left(&other).await
}

async fn every_kind_of_hold_can_be_asked(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    let table = other.rw_lock(ground.path("table"));
    let reading = client.rw_lock(ground.path("table")).read().await?;
    let holder = table.contenders().await?.swap_remove(0);
    ensure!(holder.mode == Mode::Shared && table.ask_to_yield(&holder).await?);
    soon("the reader", reading.asked_to_yield()).await?;
    drop(reading);

    let pool = client.semaphore(ground.path("pool")).permits(3);
    let (one, two) = (pool.acquire().await?, pool.acquire_many(2).await?);
    let asker = other.semaphore(ground.path("pool")).permits(3);
    let wanted = asker.holders().await?.into_iter().find(|who| two.guards()[1].path().ends_with(&who.name));
    ensure!(asker.ask_to_yield(&wanted.context("it has a permit")?).await?);
    soon("the set", two.asked_to_yield()).await?;
    ensure!(!one.fence().is_asked_to_yield() && !two.guards()[0].fence().is_asked_to_yield());
    drop((one, two));
    ground.nothing_left(&client).await
}

async fn a_hold_lives_until_its_last_guard(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.lock(ground.path("line"));
    let outer = lock.acquire().await?;
    let before = client.exists(ground.path("line")).await?;
    let inner = outer.reenter()?;
    let third = inner.reenter()?;
    ensure!(before == client.exists(ground.path("line")).await?, "entering again sent something");
    ensure!(inner.token() == outer.token() && inner.path() == outer.path());
    // The order does not matter: the first guard may go first.
    ensure!(outer.release().await? == Released::StillHeld);
    inner.check()?;
    drop(third);
    inner.check()?;
    ensure!(lock.try_acquire().await?.is_none(), "given away while a guard lives");
    let results = inner.txn().create(ground.path("value"), "1", CreateMode::Persistent).commit().await?;
    ensure!(results.len() == 1);
    ensure!(inner.release().await? == Released::Deleted);
    ensure!(lock.contenders().await?.is_empty());

    // A writer that goes on as a reader gives its place up when its other guards have gone.
    let table = client.rw_lock(ground.path("table"));
    let writing = table.write().await?;
    let again = writing.reenter()?;
    let reading = writing.downgrade().await?;
    again.check()?;
    reading.check()?;
    ensure!(table.try_read().await?.is_none(), "a reader beside a writer");
    ensure!(again.release().await? == Released::Deleted);
    table.try_read().await?.context("beside a reader")?.into_guard().release().await?;
    drop(reading);
    ground.nothing_left(&client).await
}

async fn the_guards_of_one_hold_are_released_at_once_and_anywhere(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.lock(ground.path("line"));
    for _ in 0..20 {
        let guard = lock.acquire().await?;
        let again = (0..7).map(|_| guard.reenter()).collect::<Result<Vec<_>, _>>()?;
        let tasks: Vec<_> =
            again.into_iter().chain([guard]).map(|guard| tokio::spawn(guard.release())).collect();
        let mut last = 0;
        for task in tasks {
            match soon("a release", task).await??? {
                Released::StillHeld => {}
                Released::Deleted => last += 1,
                other => bail!("{other:?}"),
            }
        }
        ensure!(last == 1, "{last} of eight were the last");
    }
    // In a thread without a runtime.
    let guard = lock.acquire().await?;
    let again = guard.reenter()?;
    std::thread::spawn(move || drop((guard, again)))
        .join()
        .map_err(|_| anyhow::anyhow!("a drop panicked"))?;
    ground.nothing_left(&client).await
}

async fn a_lost_hold_cannot_be_entered_again(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.lock(ground.path("line"));
    let outer = lock.acquire().await?;
    let inner = outer.reenter()?;
    client.delete(outer.path(), Version::ANY).await?;
    ensure!(soon("the loss", inner.lost()).await? == LossCause::NodeDeleted);
    let lost = Err(HoldError::Lost(LossCause::NodeDeleted));
    ensure!(outer.check() == lost && inner.check() == lost, "one guard still believes");
    ensure!(outer.reenter().is_err() && inner.reenter().is_err());
    ensure!(inner.release().await? == Released::StillHeld);
    ensure!(outer.release().await? == Released::AlreadyGone);
    ground.nothing_left(&client).await
}

async fn work_runs_within_work(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.lock(ground.path("line"));
    let outer = lock.acquire().await?;
    let inner = outer.reenter()?;
    let token = outer
        .run(|fence| async move {
            let token = inner.run(|fence| async move { fence.token() }).await?;
            fence.check()?;
            Ok::<_, Error>(token)
        })
        .await??;
    ensure!(token.value() > 0 && lock.contenders().await?.is_empty());
    ground.nothing_left(&client).await
}

async fn a_line_is_told_after_each_change(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    let lock = client.lock(ground.path("line")).identifier("host-7");
    // Before the path exists.
    let mut line = other.lock(ground.path("line")).watch_contenders();
    let next = async |line: &mut docent_recipes::Contenders, wanted: usize| -> Result<_> {
        loop {
            let now = soon("a change", line.next()).await?.context("the stream ended")??;
            if now.len() == wanted {
                return Ok(now);
            }
        }
    };
    ensure!(next(&mut line, 0).await?.is_empty());
    let guard = lock.acquire().await?;
    let told = next(&mut line, 1).await?;
    ensure!(told == lock.contenders().await? && told[0].data == "host-7", "{told:?}");
    let place = lock.enqueue().await?;
    let told = next(&mut line, 2).await?;
    ensure!(guard.path().ends_with(&told[0].name), "the holder is first: {told:?}");
    guard.release().await?;
    let told = next(&mut line, 1).await?;
    drop(place);
    next(&mut line, 0).await?;
    ensure!(told.len() == 1);
    // What is no contender is no change.
    client.create(ground.path("line/note"), "").await?;
    lock.acquire().await?.release().await?;
    ensure!(polled(3, line.next()).await.is_none_or(|told| told.is_some()));
    drop(line);
    ground.nothing_left(&client).await
}

async fn a_line_is_told_over_sessions_and_cuts(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let other = ground.client().await?;
    let lock = other.lock(ground.path("line"));
    let mut line = client.lock(ground.path("line")).watch_contenders();
    let mut held = Vec::new();
    for round in 0..4 {
        match round {
            1 => drop_connections(&proxy),
            2 => drop(expire(&ground.connect, &client).await?),
            _ => {}
        }
        held.push(lock.enqueue().await?);
        heal(&proxy);
        loop {
            let now = soon("a change", line.next()).await?.context("the stream ended")??;
            if now.len() == held.len() {
                break;
            }
        }
    }
    client.close().await?;
    let end = soon("the end", line.next()).await?;
    ensure!(matches!(end, Some(Err(Error::Closed))), "{end:?}");
    ensure!(soon("nothing more", line.next()).await?.is_none());
    drop((held, line));
    ground.nothing_left(&other).await
}

async fn a_stream_dropped_at_any_poll_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.lock(ground.path("line"));
    for exists in [false, true] {
        let mut told = false;
        for polls in 0..1_000 {
            let mut line = lock.watch_contenders();
            told = polled(polls, line.next()).await.is_some();
            drop(line);
            ground.nothing_left(&client).await.with_context(|| format!("{exists}, {polls} polls"))?;
            if told {
                break;
            }
        }
        ensure!(told, "never told");
        lock.acquire_within(Duration::from_secs(20)).await?.release().await?;
    }
    Ok(())
}
