//! Queues: each item is taken by one, in order, and work is done at least once, whatever is cut, lost, expired or dropped.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use docent::{Client, ErrorCode, OpCode};
use docent_integration_tests::proxy::Proxy;
use docent_integration_tests::recipe_kit::{
    Ground, LONG_SESSION, Scenario, children, connect, drop_connections, eventually, expire, expire_if_any,
    heal, polled, soon,
};
use docent_integration_tests::{on_every_server, scenarios};
use docent_recipes::{Error, HoldError, Job, Queue, QueueLayout, QueueOrder, Recipes, Released, WorkQueue};
use futures::future::try_join_all;

const SCENARIOS: &[Scenario] = scenarios![
    items_come_in_their_order,
    the_nodes_are_those_of_curator_and_kazoo,
    what_is_no_item_is_passed_over,
    a_lost_reply_neither_loses_nor_doubles,
    takers_under_cuts_take_each_item_once,
    a_taker_waits_over_cuts_and_expiries,
    a_delayed_item_is_not_taken_early,
    a_take_dropped_at_any_poll_takes_nothing,
    a_put_dropped_at_any_poll_is_put_once_or_not,
    a_claim_is_ours_alone_until_it_is_done_or_given_back,
    a_lost_claim_goes_to_another,
    a_lost_reply_to_a_claim_or_its_end_is_found_out,
    the_next_claim_of_an_item_is_left_alone,
    a_claim_dropped_at_any_poll_is_given_back,
    work_under_expiries_is_done_at_least_once,
    what_cannot_be_is_refused,
    a_closed_client_ends_everything,
];

on_every_server!("queue", SCENARIOS);

const LAYOUTS: [QueueLayout; 3] = [QueueLayout::Curator, QueueLayout::CuratorSimple, QueueLayout::Kazoo];

fn queue(client: &Client, ground: &Ground, layout: QueueLayout) -> Queue {
    client.queue(ground.path(&format!("{layout:?}"))).layout(layout)
}

fn work(client: &Client, ground: &Ground, layout: QueueLayout) -> WorkQueue {
    client.work_queue(ground.path(&format!("work-{layout:?}"))).layout(layout)
}

async fn take(queue: &Queue) -> Result<String> {
    let taken = soon("an item", queue.take()).await??;
    let values: Vec<_> =
        taken.values().iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
    Ok(values.join("+"))
}

fn text(job: &Job) -> Result<String> {
    let [value] = job.values() else { bail!("{job:?}") };
    Ok(String::from_utf8(value.to_vec())?)
}

async fn claim(queue: &WorkQueue) -> Result<Job> {
    Ok(soon("a claim", queue.claim()).await??)
}

/// No item, no claim, no marker and no watch is left.
async fn nothing_left(client: &Client, ground: &Ground) -> Result<()> {
    for name in children(client, &ground.root).await? {
        let path = ground.path(&name);
        if name.ends_with("-ops") || name.ends_with("-locks") {
            eventually("no markers", async || Ok(children(client, &path).await?.is_empty())).await?;
        }
    }
    ground.nothing_left(client).await
}

async fn items_come_in_their_order(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for layout in LAYOUTS {
        let queue = queue(&client, &ground, layout);
        ensure!(queue.try_take().await?.is_none() && queue.length().await? == 0);
        for value in ["a", "b", "c"] {
            queue.put(value).await?;
        }
        ensure!(queue.length().await? == 3);
        for value in ["a", "b", "c"] {
            ensure!(take(&queue).await? == value, "{layout:?}");
        }
        ensure!(queue.try_take().await?.is_none());
        queue.put_json(&[1, 2]).await?;
        ensure!(queue.take().await?.json::<Vec<u8>>()? == [[1, 2]]);
    }
    for layout in [QueueLayout::Curator, QueueLayout::Kazoo] {
        let queue =
            client.queue(ground.path(&format!("by-{layout:?}"))).layout(layout).order(QueueOrder::Priority);
        for (priority, value) in [(7, "c"), (3, "a"), (7, "d"), (5, "b")] {
            queue.put(value).priority(priority).await?;
        }
        for value in ["a", "b", "c", "d"] {
            ensure!(take(&queue).await? == value, "{layout:?}");
        }
    }
    let queue = queue(&client, &ground, QueueLayout::Curator);
    queue.put_all(["a", "b"]).await?;
    ensure!(take(&queue).await? == "a+b");
    nothing_left(&client, &ground).await
}

async fn the_nodes_are_those_of_curator_and_kazoo(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(0x017F);
    let make = |order| client.queue(ground.path(&format!("{order:?}"))).order(order);
    make(QueueOrder::Fifo).put("a").await?;
    make(QueueOrder::Priority).put("a").priority(-1).await?;
    make(QueueOrder::Delay).put("a").due(now).await?;
    queue(&client, &ground, QueueLayout::CuratorSimple).put("a").await?;
    queue(&client, &ground, QueueLayout::Kazoo).put("a").await?;
    work(&client, &ground, QueueLayout::Kazoo).put("a").await?;
    let job = claim(&work(&client, &ground, QueueLayout::Kazoo)).await?;
    work(&client, &ground, QueueLayout::Curator).put("a").await?;
    let other = claim(&work(&client, &ground, QueueLayout::Curator)).await?;
    for (path, name) in [
        ("Fifo", "queue-0000000000"),
        ("Priority", "queue-0FFFFFFFF0000000000"),
        ("Delay", "queue-|17F|0000000000"),
        ("CuratorSimple", "qn-0000000000"),
        ("Kazoo", "entry-100-0000000000"),
        ("work-Kazoo/entries", "entry-100-0000000000"),
        ("work-Kazoo/taken", "entry-100-0000000000"),
        ("work-Curator", "queue-0000000000"),
        ("work-Curator-locks", "queue-0000000000"),
    ] {
        ensure!(children(&client, &ground.path(path)).await? == [name], "{path}");
    }
    let framed = client.get_data(ground.path("Fifo/queue-0000000000")).await?.bytes();
    ensure!(framed == b"\x00\x01\x00\x01\x01\x00\x00\x00\x01a\x02"[..], "{framed:?}");
    let raw = client.get_data(ground.path("Kazoo/entry-100-0000000000")).await?.bytes();
    ensure!(raw == "a", "{raw:?}");
    drop((job, other));
    nothing_left(&client, &ground).await
}

async fn what_is_no_item_is_passed_over(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let queue = queue(&client, &ground, QueueLayout::Curator);
    queue.put("a").await?;
    client.create(ground.path("Curator/a-note"), "").await?;
    client.create(ground.path("Curator/queue-0"), "").await?;
    ensure!(take(&queue).await? == "a" && queue.try_take().await?.is_none());
    // Bytes that nobody framed are delivered as they are.
    client.create(ground.path("Curator/queue-"), "plain").sequential().await?;
    ensure!(take(&queue).await? == "plain");
    ensure!(children(&client, &ground.path("Curator")).await?.len() == 2, "a note was taken");
    nothing_left(&client, &ground).await
}

async fn a_lost_reply_neither_loses_nor_doubles(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let watcher = ground.client().await?;
    let (ours, seen) =
        (queue(&client, &ground, QueueLayout::Curator), queue(&watcher, &ground, QueueLayout::Curator));
    ours.put("warm").await?;
    ensure!(take(&ours).await? == "warm");
    for reply in [true, false] {
        let lose = |proxy: &Proxy| {
            if reply {
                proxy.drop_reply_of(OpCode::Multi, 1)
            } else {
                proxy.drop_request_of(OpCode::Multi, 1)
            }
        };
        lose(&proxy);
        soon("put", ours.put("a").into_future()).await??;
        ensure!(seen.length().await? == 1, "put {} times", seen.length().await?);
        lose(&proxy);
        ensure!(take(&ours).await? == "a");
        ensure!(seen.length().await? == 0);
    }
    nothing_left(&watcher, &ground).await
}

/// Cuts connections until it is dropped.
async fn keep_cutting(proxies: &[&Proxy]) -> Result<()> {
    loop {
        for proxy in proxies {
            drop_connections(proxy);
            heal(proxy);
            let moved = proxy.counts().replies + 15;
            // The pause of a bounded wait.
            while proxy.counts().replies < moved {
                // The pause of a bounded wait: whoever drops this ends it.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

const ITEMS: usize = 60;

async fn put_numbers(queue: Queue, from: usize) -> Result<()> {
    for number in from..from + ITEMS {
        queue.put(number.to_string()).await?;
    }
    Ok(())
}

async fn takers_under_cuts_take_each_item_once(ground: Ground) -> Result<()> {
    let (one, first) = ground.proxied(LONG_SESSION).await?;
    let (two, second) = ground.proxied(LONG_SESSION).await?;
    let by = |client: &Client| queue(client, &ground, QueueLayout::Curator);
    let putting = try_join_all([put_numbers(by(&one), 0), put_numbers(by(&two), ITEMS)]);
    let taking = try_join_all([&one, &one, &two, &two].map(|client| {
        let queue = by(client);
        async move {
            let mut taken = Vec::new();
            for _ in 0..ITEMS / 2 {
                taken.push(take(&queue).await?.parse::<usize>()?);
            }
            anyhow::Ok(taken)
        }
    }));
    let playing = async { tokio::try_join!(putting, taking) };
    let proxies = [&first, &second];
    let (_, taken) = tokio::select! {
        played = playing => played?,
        cut = keep_cutting(&proxies) => bail!("{cut:?}"),
    };
    let all: Vec<_> = taken.concat();
    let each: BTreeSet<_> = all.iter().copied().collect();
    ensure!(all.len() == 2 * ITEMS && each.len() == all.len(), "{} of {} taken once", each.len(), all.len());
    let watcher = ground.client().await?;
    ensure!(by(&watcher).length().await? == 0);
    nothing_left(&watcher, &ground).await
}

async fn a_taker_waits_over_cuts_and_expiries(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let watcher = ground.client().await?;
    let queue_of = |client: &Client| queue(client, &ground, QueueLayout::Kazoo);
    let waiting = async { take(&queue_of(&client)).await };
    let disturbing = async {
        eventually("it waits", async || Ok(!ground.watches().await?.is_empty())).await?;
        drop_connections(&proxy);
        heal(&proxy);
        soon("connected again", client.session_ready()).await??;
        expire(&ground.connect, &client).await?;
        queue_of(&watcher).put("a").await?;
        anyhow::Ok(())
    };
    let (taken, disturbed) = tokio::join!(waiting, disturbing);
    disturbed?;
    ensure!(taken? == "a");
    let limit = Duration::from_millis(50);
    ensure!(matches!(queue_of(&client).take_within(limit).await, Err(Error::Timeout(_))));
    nothing_left(&watcher, &ground).await
}

async fn a_delayed_item_is_not_taken_early(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let queue = client.queue(ground.path("later")).order(QueueOrder::Delay);
    let due = SystemTime::now() + Duration::from_millis(700);
    queue.put("far").after(Duration::from_secs(3600)).await?;
    queue.put("soon").due(due).await?;
    if SystemTime::now() < due {
        let early = queue.try_take().await?;
        ensure!(early.is_none() || SystemTime::now() >= due, "{early:?}");
        if early.is_some() {
            return Ok(());
        }
    }
    ensure!(take(&queue).await? == "soon" && SystemTime::now() >= due);
    queue.put("now").await?;
    ensure!(take(&queue).await? == "now", "what is due comes before what is not");
    ensure!(queue.try_take().await?.is_none() && queue.length().await? == 1);
    nothing_left(&client, &ground).await
}

async fn a_take_dropped_at_any_poll_takes_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for layout in LAYOUTS {
        let queue = queue(&client, &ground, layout);
        for value in ["a", "b", "c"] {
            queue.put(value).await?;
        }
        let path = ground.path(&format!("{layout:?}"));
        let before = children(&client, &path).await?;
        for polls in 0.. {
            let done = polled(polls, queue.take()).await;
            if let Some(taken) = done {
                ensure!(taken?.values() == ["a"], "not the first");
                break;
            }
            // Also when it was on its way, in the place where it was; the driver has ended when its marker is gone.
            eventually("all are there", async || Ok(children(&client, &path).await? == before)).await?;
            eventually("no marker", async || Ok(children(&client, &format!("{path}-ops")).await?.is_empty()))
                .await?;
            ensure!(children(&client, &path).await? == before);
        }
        ensure!(take(&queue).await? == "b" && take(&queue).await? == "c");
    }
    nothing_left(&client, &ground).await
}

async fn a_put_dropped_at_any_poll_is_put_once_or_not(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let queue = queue(&client, &ground, QueueLayout::Curator);
    queue.put("warm").await?;
    take(&queue).await?;
    for polls in 0.. {
        let done = polled(polls, queue.put("a").into_future()).await.transpose()?;
        // What is under way is over when a later one has come.
        queue.put("end").await?;
        let first = take(&queue).await?;
        ensure!(done.is_none() || first == "a", "put, and not there");
        if first == "a" {
            ensure!(take(&queue).await? == "end", "put twice");
        }
        eventually("all are over", async || {
            while let Some(late) = queue.try_take().await? {
                ensure!(late.values() == ["a"] && first == "end", "put twice: {late:?}");
            }
            Ok(children(&client, &ground.path("Curator-ops")).await?.is_empty())
        })
        .await?;
        if done.is_some() {
            break;
        }
    }
    while queue.try_take().await?.is_some() {}
    nothing_left(&client, &ground).await
}

async fn a_claim_is_ours_alone_until_it_is_done_or_given_back(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    for layout in LAYOUTS {
        let (ours, theirs) = (work(&client, &ground, layout), work(&other, &ground, layout));
        ensure!(ours.try_claim().await?.is_none());
        ours.put("a").await?;
        let job = claim(&ours).await?;
        job.check()?;
        ensure!(text(&job)? == "a" && ours.length().await? == 1);
        ensure!(ours.try_claim().await?.is_none() && theirs.try_claim().await?.is_none(), "claimed twice");
        let first = job.token();
        // Who waits is woken by what is given back.
        let (again, back) = tokio::join!(claim(&theirs), job.give_back());
        ensure!(back? == Released::Deleted);
        let again = again?;
        ensure!(again.token() > first && text(&again)? == "a");
        let fence = again.fence();
        let written =
            fence.txn().create(ground.path(&format!("by-{layout:?}")), "", docent::CreateMode::Persistent);
        written.commit().await?;
        again.complete().await?;
        ensure!(matches!(fence.check(), Err(HoldError::Lost(_))));
        ensure!(ours.length().await? == 0 && ours.try_claim().await?.is_none());
        ours.put("b").await?;
        drop(claim(&ours).await?);
        claim(&theirs).await?.complete().await?;
    }
    nothing_left(&client, &ground).await
}

async fn a_lost_claim_goes_to_another(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    for layout in [QueueLayout::Curator, QueueLayout::Kazoo] {
        let (ours, theirs) = (work(&client, &ground, layout), work(&other, &ground, layout));
        ours.put("a").await?;
        let job = claim(&ours).await?;
        let first = job.token();
        let (again, expired) = tokio::join!(claim(&theirs), expire(&ground.connect, &client));
        expired?;
        let again = again?;
        ensure!(again.token() > first);
        soon("lost", job.lost()).await?;
        let late = job.complete().await;
        ensure!(matches!(late, Err(Error::Lost(_))), "{late:?}");
        again.check()?;
        again.complete().await?;
        // Somebody takes the claim away.
        ours.put("b").await?;
        let job = claim(&ours).await?;
        client.delete(job.fence().path(), docent::Version::ANY).await?;
        soon("lost", job.lost()).await?;
        ensure!(matches!(job.complete().await, Err(Error::Lost(_))));
        claim(&theirs).await?.complete().await?;
    }
    nothing_left(&other, &ground).await
}

async fn a_lost_reply_to_a_claim_or_its_end_is_found_out(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let watcher = ground.client().await?;
    let (ours, seen) =
        (work(&client, &ground, QueueLayout::Kazoo), work(&watcher, &ground, QueueLayout::Kazoo));
    seen.put("warm").await?;
    claim(&ours).await?.complete().await?;
    for reply in [true, false] {
        let lose = |proxy: &Proxy| {
            if reply {
                proxy.drop_reply_of(OpCode::Multi, 1)
            } else {
                proxy.drop_request_of(OpCode::Multi, 1)
            }
        };
        seen.put("a").await?;
        lose(&proxy);
        let job = claim(&ours).await?;
        ensure!(seen.try_claim().await?.is_none());
        job.check()?;
        lose(&proxy);
        soon("completed", job.complete()).await??;
        ensure!(seen.length().await? == 0 && seen.try_claim().await?.is_none());
    }
    nothing_left(&watcher, &ground).await
}

/// kazoo claims an item that it has listed before, also when it is done by then. The end of a job once deleted such a claim
/// of another, whose name is the same.
async fn the_next_claim_of_an_item_is_left_alone(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let watcher = ground.client().await?;
    let (ours, seen) =
        (work(&client, &ground, QueueLayout::Kazoo), work(&watcher, &ground, QueueLayout::Kazoo));
    seen.put("a").await?;
    let job = claim(&ours).await?;
    let path = job.fence().path().to_owned();
    proxy.hold_requests_of(Some(OpCode::Delete));
    job.complete().await?;
    watcher.create(&path, "theirs").ephemeral().await?;
    // What comes behind whatever was held: it is answered in the order in which it was asked.
    let behind = client.delete(ground.path("none"), docent::Version::ANY);
    proxy.hold_requests_of(None);
    ensure!(soon("an answer", behind).await?.is_err());
    client.sync(&path).await?;
    let theirs = client.get_data(&path).await.context("deleted by one who was done")?;
    ensure!(theirs.bytes() == "theirs");
    watcher.delete(&path, docent::Version::ANY).await?;
    nothing_left(&watcher, &ground).await
}

async fn a_claim_dropped_at_any_poll_is_given_back(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    let (ours, theirs) =
        (work(&client, &ground, QueueLayout::Curator), work(&other, &ground, QueueLayout::Curator));
    ours.put("a").await?;
    for polls in 0.. {
        let done = polled(polls, ours.claim()).await;
        let is_done = done.is_some();
        drop(done);
        // Whoever comes next gets it.
        drop(claim(&theirs).await?);
        eventually("no claims", async || {
            Ok(children(&client, &ground.path("work-Curator-locks")).await?.is_empty())
        })
        .await?;
        if is_done {
            break;
        }
    }
    claim(&ours).await?.complete().await?;
    nothing_left(&client, &ground).await
}

async fn work_under_expiries_is_done_at_least_once(ground: Ground) -> Result<()> {
    let layout = QueueLayout::Curator;
    let (client, other) = (ground.client().await?, connect(&ground.connect, LONG_SESSION).await?);
    let queue = work(&other, &ground, layout);
    for number in 0..ITEMS {
        queue.put(number.to_string()).await?;
    }
    let done = std::sync::Mutex::new(Vec::new());
    let worker = async |queue: WorkQueue| -> Result<()> {
        while queue.length().await? > 0 {
            let Some(job) = soon("a claim or none", queue.try_claim()).await?? else {
                tokio::task::yield_now().await;
                continue;
            };
            let number: usize = text(&job)?.parse()?;
            done.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.push(number);
            match job.complete().await {
                Ok(()) | Err(Error::Lost(_) | Error::Ambiguous { .. } | Error::SessionEnded(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    };
    let worker = async |queue: WorkQueue| loop {
        match worker(queue.clone()).await {
            // The session went under a read.
            Err(error) if error.downcast_ref::<Error>().is_some_and(gone) => {}
            outcome => return outcome,
        }
    };
    let expiring = async {
        for _ in 0..3 {
            expire_if_any(&ground.connect, &client).await?;
            soon("another session", client.session_ready()).await??;
        }
        anyhow::Ok(())
    };
    let (one, two, expired) = soon("all work", async {
        tokio::join!(worker(work(&client, &ground, layout)), worker(work(&other, &ground, layout)), expiring)
    })
    .await?;
    one?;
    two?;
    expired?;
    let each: BTreeSet<_> = done.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.iter().copied().collect();
    ensure!(each.len() == ITEMS, "{} of {ITEMS} done", each.len());
    nothing_left(&other, &ground).await
}

fn gone(error: &Error) -> bool {
    matches!(error, Error::SessionEnded(_) | Error::Client(_))
        || error.code() == Some(ErrorCode::SESSION_EXPIRED)
}

async fn what_cannot_be_is_refused(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let full = queue(&client, &ground, QueueLayout::Curator).length_max(2);
    full.put("a").await?;
    full.put("b").await?;
    ensure!(matches!(full.put("c").await, Err(Error::TooMany { max: 2, .. })));
    ensure!(full.length().await? == 2);
    let kazoo = queue(&client, &ground, QueueLayout::Kazoo);
    ensure!(matches!(kazoo.put_all(["a", "b"]).await, Err(Error::NotInLayout { .. })));
    ensure!(matches!(kazoo.put("a").priority(1).await, Err(Error::NotInLayout { .. })));
    ensure!(matches!(full.put("a").after(Duration::ZERO).await, Err(Error::NotInLayout { .. })));
    full.take().await.context("the first")?;
    full.take().await.context("the second")?;
    nothing_left(&client, &ground).await
}

async fn a_closed_client_ends_everything(ground: Ground) -> Result<()> {
    let (client, watcher) = (ground.client().await?, ground.client().await?);
    let (simple, ours) =
        (queue(&client, &ground, QueueLayout::Curator), work(&client, &ground, QueueLayout::Curator));
    ours.put("a").await?;
    let job = claim(&ours).await?;
    let taking = soon("told", simple.take());
    let claiming = soon("told", ours.claim());
    let (taken, claimed, closed) = tokio::join!(taking, claiming, async {
        // The watches that a claim waits with are on children, and servers do not tell of those.
        eventually("a taker waits", async || Ok(ground.watches().await?.len() >= 2)).await?;
        Ok::<_, anyhow::Error>(client.close().await?)
    });
    closed?;
    let (taken, claimed) = (taken?, claimed?);
    ensure!(matches!(taken, Err(Error::Closed)), "{taken:?}");
    ensure!(matches!(claimed, Err(Error::Closed)), "{claimed:?}");
    soon("lost", job.lost()).await?;
    ensure!(job.complete().await.is_err());
    ensure!(matches!(simple.put("a").await, Err(Error::Closed)));
    claim(&work(&watcher, &ground, QueueLayout::Curator)).await?.complete().await?;
    nothing_left(&watcher, &ground).await
}
