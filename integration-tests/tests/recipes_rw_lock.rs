//! The read/write lock: who holds beside whom, downgrade with a writer waiting, cancelled anywhere, contended by both
//! kinds with a register that tells writers from readers.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent_integration_tests::recipe_kit::register::FencedRegister;
use docent_integration_tests::recipe_kit::{
    Ground, Scenario, children, drop_connections, eventually, expire, heal, polled, soon,
};
use docent_integration_tests::{on_every_server, scenarios};
use docent_recipes::{Error, Layout, LossCause, Mode, Recipes, Released};
use tokio::task::JoinSet;

const SCENARIOS: &[Scenario] = scenarios![
    readers_hold_together_and_writers_alone,
    a_reader_behind_a_waiting_writer_waits,
    names_are_golden_in_both_layouts,
    a_downgrade_lets_no_writer_in,
    a_downgrade_dropped_at_any_poll_leaves_nothing,
    a_downgrade_survives_lost_replies,
    a_lost_writer_cannot_go_on_as_a_reader,
    a_future_dropped_at_any_poll_leaves_nothing,
    a_mixed_crowd_never_overlaps,
    try_looks_before_it_creates,
];

on_every_server!("rw-lock", SCENARIOS);

const MOMENT: Duration = Duration::from_millis(150);

async fn readers_hold_together_and_writers_alone(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.rw_lock(ground.path("table"));
    let (one, two) = (lock.read().await?, lock.read().await?);
    one.check()?;
    two.check()?;
    let writer = lock.writers().enqueue().await?;
    ensure!(writer.position() == Some(2), "{:?}", writer.state());
    let modes: Vec<_> = lock.contenders().await?.into_iter().map(|contender| contender.mode).collect();
    ensure!(modes == [Mode::Shared, Mode::Shared, Mode::Exclusive], "{modes:?}");
    drop(one);
    ensure!(matches!(lock.write_within(MOMENT).await, Err(Error::Timeout(_))), "a writer beside a reader");
    ensure!(two.into_guard().release().await? == Released::Deleted);
    let writing = soon("the writer", async { writer.await }).await??;
    ensure!(matches!(lock.read_within(MOMENT).await, Err(Error::Timeout(_))), "a reader beside a writer");
    writing.release().await?;
    soon("a reader", lock.read()).await??.into_guard().release().await?;
    ground.nothing_left(&client).await
}

async fn a_reader_behind_a_waiting_writer_waits(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.rw_lock(ground.path("table"));
    let first = lock.read().await?;
    let writer = lock.writers().enqueue().await?;
    let late = lock.readers().enqueue().await?;
    // It waits for the writer only, whoever else is before it.
    ensure!(late.position() == Some(1), "{:?}", late.state());
    drop(first);
    let writing = soon("the writer", async { writer.await }).await??;
    ensure!(late.position() == Some(1), "a reader came in before the writer: {:?}", late.state());
    writing.release().await?;
    let reading = soon("the late reader", async { late.await }).await??;
    ensure!(reading.wakes() <= 1, "woken {} times", reading.wakes());
    reading.release().await?;
    ground.nothing_left(&client).await
}

async fn names_are_golden_in_both_layouts(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let names = async |layout: Layout, path: String| -> Result<Vec<String>> {
        let lock = client.rw_lock(&path).layout(layout).identifier("host-7");
        let reading = lock.read().await?;
        let waiting = lock.writers().enqueue().await?;
        let mut names = children(&client, &path).await?;
        names.sort_by_key(|name| name[name.len() - 10..].to_owned());
        drop((reading, waiting));
        Ok(names)
    };
    let curator = names(Layout::Curator, ground.path("curator")).await?;
    let shape = |name: &str, kind: &str, number: &str| {
        let uuid = name.strip_prefix("_c_").and_then(|rest| rest.strip_suffix(&format!("-{kind}{number}")));
        uuid.and_then(|uuid| uuid::Uuid::try_parse(uuid).ok())
            .is_some_and(|uuid| name == format!("_c_{}-{kind}{number}", uuid.hyphenated()))
    };
    ensure!(shape(&curator[0], "__READ__", "0000000000"), "{curator:?}");
    ensure!(shape(&curator[1], "__WRIT__", "0000000001"), "{curator:?}");
    let kazoo = names(Layout::Kazoo, ground.path("kazoo")).await?;
    ensure!(kazoo[0].len() == 32 + 19 && kazoo[0].ends_with("__rlock__0000000000"), "{kazoo:?}");
    ensure!(kazoo[1].len() == 32 + 18 && kazoo[1].ends_with("__lock__0000000001"), "{kazoo:?}");
    ground.nothing_left(&client).await
}

async fn a_downgrade_lets_no_writer_in(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for layout in [Layout::Curator, Layout::Kazoo] {
        let lock = client.rw_lock(ground.path(&format!("{layout:?}"))).layout(layout);
        let writing = lock.write().await?;
        let token = writing.token();
        let writer = lock.writers().enqueue().await?;
        let reader = lock.readers().enqueue().await?;
        let reading = soon("the downgrade", writing.downgrade()).await??;
        reading.check()?;
        ensure!(reading.token() == token, "the token stays");
        let names = children(&client, &ground.path(&format!("{layout:?}"))).await?;
        ensure!(names.iter().filter(|name| name.ends_with("0000000000")).count() == 1, "{names:?}");
        // The writer has seen its predecessor go, and must have found the reader in its place.
        eventually("the writer behind the reader", async || Ok(writer.position() == Some(1))).await?;
        tokio::select! {
            // A span in which nothing may happen, not a wait for something: a bounded wait.
            () = tokio::time::sleep(MOMENT) => {}
            writing = async { writer.await } => {
                drop(writing?);
                anyhow::bail!("a writer came in beside the reader");
            }
        }
        drop(reading);
        // The writer that waited was dropped above; the reader behind it goes on.
        soon("the reader behind", async { reader.await }).await??.release().await?;
    }
    ground.nothing_left(&client).await
}

async fn a_downgrade_dropped_at_any_poll_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.rw_lock(ground.path("table"));
    let mut done = false;
    for polls in 0..1_000 {
        let writing = lock.write().await?;
        done = polled(polls, writing.downgrade()).await.transpose()?.is_some();
        ground.nothing_left(&client).await.with_context(|| format!("after {polls} polls"))?;
        if done {
            break;
        }
    }
    ensure!(done, "never completed");
    Ok(())
}

async fn a_downgrade_survives_lost_replies(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(Duration::from_secs(15)).await?;
    let other = ground.client().await?;
    let lock = client.rw_lock(ground.path("table"));
    for _ in 0..3 {
        let writing = lock.write().await?;
        let waiting = other.rw_lock(ground.path("table")).writers().enqueue().await?;
        let (reading, ()) = tokio::join!(soon("the downgrade", writing.downgrade()), async {
            drop_connections(&proxy);
            tokio::task::yield_now().await;
            heal(&proxy);
        });
        let reading = reading??;
        reading.check()?;
        eventually("the writer waits for the reader", async || Ok(waiting.position() == Some(1))).await?;
        let readers: Vec<_> =
            lock.contenders().await?.into_iter().filter(|c| c.mode == Mode::Shared).collect();
        ensure!(readers.len() == 1, "one reader's node: {readers:?}");
        drop(reading);
        soon("the writer", async { waiting.await }).await??.release().await?;
        ground.nothing_left(&other).await?;
    }
    Ok(())
}

async fn a_lost_writer_cannot_go_on_as_a_reader(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.rw_lock(ground.path("table"));
    let writing = lock.write().await?;
    expire(&ground.connect, &client).await?;
    soon("the loss", writing.lost()).await?;
    ensure!(matches!(writing.downgrade().await, Err(Error::Lost(_))), "a lost lock was downgraded");

    // Deleted by hand: the server refuses, whether or not the holder has heard of it.
    let writing = lock.write().await?;
    let other = ground.client().await?;
    other.delete(writing.path(), docent::Version::ANY).await?;
    let refused = soon("the downgrade", writing.downgrade()).await?;
    ensure!(matches!(refused, Err(Error::Lost(LossCause::NodeDeleted))), "{refused:?}");
    ground.nothing_left(&other).await
}

async fn a_future_dropped_at_any_poll_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.rw_lock(ground.path("table"));
    for shared in [true, false] {
        let mut done = false;
        for polls in 0..1_000 {
            done = if shared {
                polled(polls, lock.read()).await.transpose()?.is_some()
            } else {
                polled(polls, lock.write()).await.transpose()?.is_some()
            };
            ground.nothing_left(&client).await.with_context(|| format!("shared {shared}, {polls} polls"))?;
            if done {
                break;
            }
        }
        ensure!(done, "never completed");
    }
    Ok(())
}

/// Readers count up while they hold, a writer makes it hugely negative: whoever sees the other's mark overlaps.
struct Table {
    marks: AtomicI64,
    register: FencedRegister,
}

const WRITER: i64 = -1_000_000;

async fn a_mixed_crowd_never_overlaps(ground: Ground) -> Result<()> {
    let table = Arc::new(Table { marks: AtomicI64::new(0), register: FencedRegister::default() });
    let mut crowd = JoinSet::new();
    for member in 0..6 {
        let client = ground.client().await?;
        let lock = client.rw_lock(ground.path("table"));
        let table = Arc::clone(&table);
        crowd.spawn(async move {
            for round in 0..8 {
                if (member + round) % 3 == 0 {
                    let writing = lock.write().await?;
                    let before = table.marks.fetch_add(WRITER, Ordering::SeqCst);
                    ensure!(before == 0, "a writer beside {before}");
                    table.register.write(writing.token(), &format!("{member}-{round}"))?;
                    tokio::task::yield_now().await;
                    table.marks.fetch_sub(WRITER, Ordering::SeqCst);
                    if round % 2 == 0 {
                        // The mark of a reader is set while nobody else can be there.
                        table.marks.fetch_add(1, Ordering::SeqCst);
                        let reading = writing.downgrade().await?;
                        let before = table.marks.fetch_sub(1, Ordering::SeqCst);
                        ensure!(before > 0, "a writer beside a reader that was a writer: {before}");
                        reading.into_guard().release().await?;
                    } else {
                        writing.into_guard().release().await?;
                    }
                } else {
                    let reading = lock.read().await?;
                    let before = table.marks.fetch_add(1, Ordering::SeqCst);
                    ensure!(before >= 0, "a reader beside a writer");
                    tokio::task::yield_now().await;
                    table.marks.fetch_sub(1, Ordering::SeqCst);
                    reading.into_guard().release().await?;
                }
            }
            client.close().await?;
            Ok(())
        });
    }
    while let Some(member) = crowd.join_next().await {
        member??;
    }
    table.register.check()?;
    let client = ground.client().await?;
    ground.nothing_left(&client).await
}

async fn try_looks_before_it_creates(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let lock = client.rw_lock(ground.path("table"));
    let reading = lock.try_read().await?.context("a free lock")?;
    let again = lock.try_read().await?.context("beside a reader")?;
    ensure!(lock.try_write().await?.is_none(), "a writer beside readers");
    drop((reading, again));
    eventually("free again", async || Ok(lock.contenders().await?.is_empty())).await?;
    let writing = lock.try_write().await?.context("a free lock")?;
    ensure!(lock.try_read().await?.is_none() && lock.try_write().await?.is_none(), "beside a writer");
    drop(writing);
    ground.nothing_left(&client).await
}
