//! Partitions: all are held, each by one, over members that come, go, expire and do not listen; only what must moves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::Client;
use docent_integration_tests::recipe_kit::{Ground, Scenario, children, eventually, expire, polled, soon};
use docent_integration_tests::{on_every_server, scenarios};
use docent_recipes::{Assignment, Error, Fence, FencingToken, Partition, Partitioner, Recipes};
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::task::JoinHandle;

const SCENARIOS: &[Scenario] = scenarios![
    members_come_and_go_and_each_partition_has_one,
    only_what_moves_is_asked_back,
    an_expired_member_gets_its_share_again,
    who_does_not_listen_loses_it_after_the_grace,
    a_released_partition_comes_again,
    what_is_dropped_at_any_poll_is_gone,
    a_closed_client_ends_everything,
];

on_every_server!("partitioner", SCENARIOS);

const PARTITIONS: usize = 8;

fn partitioner(client: &Client, ground: &Ground, id: &str) -> Partitioner {
    let names = (0..PARTITIONS).map(|number| format!("p{number}"));
    client.partitioner(ground.path("work"), names).id(id)
}

/// Who has what, as the workers say.
#[derive(Debug, Default)]
struct Board {
    held: BTreeMap<String, (String, Fence)>,
    tokens: BTreeMap<String, FencingToken>,
    taken: usize,
    wrong: Vec<String>,
}

type Shared = Arc<Mutex<Board>>;

fn board<T>(board: &Shared, look: impl FnOnce(&mut Board) -> T) -> T {
    look(&mut board.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Board {
    fn begin(&mut self, id: &str, one: &Partition) {
        self.taken += 1;
        if let Some((other, fence)) = self.held.get(one.name())
            && fence.check().is_ok()
        {
            self.wrong.push(format!("{} is {other}'s and {id}'s", one.name()));
        }
        let before = self.tokens.insert(one.name().to_owned(), one.token());
        if before >= Some(one.token()) {
            self.wrong.push(format!("{} has {} after {before:?}", one.name(), one.token()));
        }
        self.held.insert(one.name().to_owned(), (id.to_owned(), one.fence()));
    }

    fn end(&mut self, id: &str, name: &str) {
        if self.held.get(name).is_some_and(|(holder, _)| holder == id) {
            self.held.remove(name);
        }
    }

    fn share(&self, id: &str) -> usize {
        self.held.values().filter(|(holder, fence)| holder == id && fence.check().is_ok()).count()
    }
}

/// Works on whatever it gets, until it is asked back. Aborted, it leaves.
fn work(partitioner: Partitioner, id: &'static str, shared: &Shared) -> JoinHandle<Result<()>> {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let mut ours = partitioner.await?;
        let mut asked = FuturesUnordered::new();
        loop {
            tokio::select! {
                next = ours.next() => {
                    let one = next.context("no more")??;
                    board(&shared, |board| board.begin(id, &one));
                    asked.push(async move {
                        one.asked_back().await;
                        one
                    });
                }
                Some(one) = asked.next() => board(&shared, |board| {
                    board.end(id, one.name());
                    drop(one);
                }),
            }
        }
    })
}

/// Waits until everything is held, and each has a fair share.
async fn settled(shared: &Shared, members: &[&str]) -> Result<()> {
    let share = PARTITIONS.div_ceil(members.len());
    let settled = eventually("all are held", async || {
        let shares: Vec<_> = board(shared, |board| members.iter().map(|id| board.share(id)).collect());
        Ok(shares.iter().sum::<usize>() == PARTITIONS && shares.iter().all(|had| *had <= share))
    });
    settled.await.with_context(|| format!("{:?}", board(shared, |board| board.held.clone())))?;
    let wrong = board(shared, |board| board.wrong.clone());
    ensure!(wrong.is_empty(), "{wrong:?}");
    Ok(())
}

async fn members_come_and_go_and_each_partition_has_one(ground: Ground) -> Result<()> {
    for assignment in [Assignment::Sticky, Assignment::Striped] {
        let shared = Shared::default();
        let (client, other) = (ground.client().await?, ground.client().await?);
        let by = |client: &Client, id| partitioner(client, &ground, id).assignment(assignment);
        let one = work(by(&client, "one"), "one", &shared);
        settled(&shared, &["one"]).await?;
        let two = work(by(&other, "two"), "two", &shared);
        let three = work(by(&other, "three"), "three", &shared);
        settled(&shared, &["one", "two", "three"]).await?;
        two.abort();
        settled(&shared, &["one", "three"]).await?;
        expire(&ground.connect, &other).await?;
        settled(&shared, &["one", "three"]).await?;
        one.abort();
        settled(&shared, &["three"]).await?;
        three.abort();
        ground.nothing_left(&client).await?;
    }
    Ok(())
}

async fn only_what_moves_is_asked_back(ground: Ground) -> Result<()> {
    let (client, shared) = (ground.client().await?, Shared::default());
    let one = work(partitioner(&client, &ground, "one"), "one", &shared);
    settled(&shared, &["one"]).await?;
    let before = board(&shared, |board| board.held.clone());
    let two = work(partitioner(&client, &ground, "two"), "two", &shared);
    settled(&shared, &["one", "two"]).await?;
    let after = board(&shared, |board| (board.held.clone(), board.taken));
    ensure!(after.1 == PARTITIONS + PARTITIONS / 2, "{} were taken anew", after.1 - PARTITIONS);
    for (name, (_, fence)) in after.0.iter().filter(|(_, (holder, _))| holder == "one") {
        ensure!(before[name].1.token() == fence.token(), "{name} was given back for nothing");
    }
    one.abort();
    two.abort();
    ground.nothing_left(&client).await
}

async fn an_expired_member_gets_its_share_again(ground: Ground) -> Result<()> {
    let (client, shared) = (ground.client().await?, Shared::default());
    let watcher = ground.client().await?;
    let one = work(partitioner(&client, &ground, "one"), "one", &shared);
    settled(&shared, &["one"]).await?;
    let before = board(&shared, |board| board.held.clone());
    expire(&ground.connect, &client).await?;
    for (_, fence) in before.values() {
        soon("lost", fence.lost()).await?;
    }
    settled(&shared, &["one"]).await?;
    let after = board(&shared, |board| board.held.clone());
    ensure!(after.iter().all(|(name, (_, fence))| fence.token() > before[name].1.token()));
    one.abort();
    ground.nothing_left(&watcher).await
}

async fn who_does_not_listen_loses_it_after_the_grace(ground: Ground) -> Result<()> {
    let (client, shared) = (ground.client().await?, Shared::default());
    let deaf = partitioner(&client, &ground, "deaf").grace(Duration::from_millis(50));
    let mut deaf = soon("a member", deaf.into_future()).await??;
    let mut kept = Vec::new();
    while kept.len() < PARTITIONS {
        kept.push(soon("a partition", deaf.next()).await?.context("no more")??);
    }
    let two = work(partitioner(&client, &ground, "two"), "two", &shared);
    eventually("half is the other's", async || {
        Ok(board(&shared, |board| board.share("two")) == PARTITIONS / 2)
    })
    .await?;
    let valid = kept.iter().filter(|one| one.check().is_ok()).count();
    ensure!(valid == PARTITIONS / 2, "{valid} are still valid");
    drop(kept);
    drop(deaf);
    settled(&shared, &["two"]).await?;
    two.abort();
    ground.nothing_left(&client).await
}

async fn a_released_partition_comes_again(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let mut ours = client.partitioner(ground.path("work"), ["only"]).await?;
    let mut before = None;
    for _ in 0..3 {
        let one = soon("a partition", ours.next()).await?.context("no more")??;
        ensure!(one.name() == "only" && Some(one.token()) > before, "{one:?}");
        before = Some(one.token());
        one.check()?;
    }
    for bad in ["", "a/b"] {
        let refused = client.partitioner(ground.path("work"), [bad]).await;
        ensure!(matches!(refused, Err(Error::BadName { .. })), "{refused:?}");
    }
    drop(ours);
    ground.nothing_left(&client).await
}

async fn what_is_dropped_at_any_poll_is_gone(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for polls in 0.. {
        let opened = polled(polls, partitioner(&client, &ground, "one").into_future()).await.transpose()?;
        let is_done = opened.is_some();
        if let Some(mut ours) = opened {
            drop(soon("a partition", ours.next()).await?);
        }
        ground.nothing_left(&client).await?;
        if is_done {
            break;
        }
    }
    ensure!(children(&client, &ground.path("work/party")).await?.is_empty());
    Ok(())
}

async fn a_closed_client_ends_everything(ground: Ground) -> Result<()> {
    let (client, watcher) = (ground.client().await?, ground.client().await?);
    let mut ours = partitioner(&client, &ground, "one").await?;
    let one = soon("a partition", ours.next()).await?.context("no more")??;
    client.close().await?;
    soon("asked back", one.asked_back()).await?;
    ensure!(one.check().is_err());
    drop(one);
    let mut closed = false;
    while let Some(next) = soon("the end", ours.next()).await? {
        closed |= matches!(next, Err(Error::Closed));
    }
    ensure!(closed, "nobody told why");
    ground.nothing_left(&watcher).await
}
