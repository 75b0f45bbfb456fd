//! Our queues beside Curator's and kazoo's, of the same items, on our server and on Apache's, while sessions of ours expire:
//! nothing is taken twice, nothing is lost but what an expiry left in doubt, and work is done at least once. See
//! `peers/java/QueueContender.java`.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::{Client, ErrorCode, ParentMode, Version, path};
use docent_integration_tests::availability::{Need, Suite};
use docent_integration_tests::backend::Backend;
use docent_integration_tests::peers::java::JavaClient;
use docent_integration_tests::peers::{java, python};
use docent_integration_tests::recipe_kit::{children, expire_if_any, soon};
use docent_integration_tests::suites::BOUND;
use docent_recipes::{Error, Put, Queue, QueueLayout, QueueOrder, Recipes, WorkQueue};
use futures::future::{join_all, try_join_all};
use tokio::sync::watch;

const BASE: &str = "/peer";
const ITEMS: usize = 30;
/// How often a session of ours expires.
const EXPIRIES: usize = 3;

/// Whose queues they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    Curator(JavaClient),
    Kazoo,
}

impl Others {
    fn layout(self) -> QueueLayout {
        if self == Others::Kazoo { QueueLayout::Kazoo } else { QueueLayout::Curator }
    }

    /// The queues of which each item is taken once.
    fn once(self, client: &Client) -> Vec<(&'static str, Queue)> {
        let queue = |name: &str| client.queue(format!("{BASE}/{name}")).layout(self.layout());
        match self {
            Others::Kazoo => vec![("fifo", queue("fifo"))],
            Others::Curator(_) => vec![
                ("fifo", queue("fifo")),
                ("priority", queue("priority").order(QueueOrder::Priority)),
                ("delay", queue("delay").order(QueueOrder::Delay)),
                ("simple", queue("simple").layout(QueueLayout::CuratorSimple)),
            ],
        }
    }

    fn work(self, client: &Client) -> WorkQueue {
        client.work_queue(format!("{BASE}/work")).layout(self.layout())
    }
}

async fn make(client: &Client, node: &str) -> Result<()> {
    let path = format!("{BASE}/{node}");
    client.create_parents(&path, ParentMode::Persistent).await?;
    client.create(path, "").await?;
    Ok(())
}

/// What ours have done so far.
#[derive(Debug, Default)]
struct Told {
    /// The items that are put for sure.
    put: BTreeSet<String>,
    /// How many of ours have put everything.
    ready: usize,
    /// Puts and takes that nobody knows the outcome of.
    doubts: usize,
}

/// One of ours, at one queue.
struct Ours<'a> {
    name: &'static str,
    watcher: &'a Client,
    told: &'a Mutex<Told>,
    enough: watch::Receiver<bool>,
}

impl Ours<'_> {
    fn tell(&self, what: impl FnOnce(&mut Told)) {
        what(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn put_all(&self, queue: impl Fn(String) -> Put) -> Result<()> {
        for number in 0..ITEMS {
            let item = format!("r0-{number}");
            match queue(item.clone()).await {
                Ok(()) => self.tell(|told| {
                    told.put.insert(format!("{}:{item}", self.name));
                }),
                Err(Error::Ambiguous { .. }) => self.tell(|told| told.doubts += 1),
                Err(error) => return Err(error.into()),
            }
        }
        self.tell(|told| told.ready += 1);
        Ok(())
    }

    /// Puts ours, and takes what comes.
    async fn play_once(mut self, queue: Queue) -> Result<()> {
        self.put_all(|item| queue.put(item)).await?;
        loop {
            let taken = tokio::select! {
                _ = self.enough.wait_for(|enough| *enough) => return Ok(()),
                taken = queue.take() => taken,
            };
            let taken = match taken {
                Ok(taken) => taken,
                Err(Error::Ambiguous { .. }) => {
                    self.tell(|told| told.doubts += 1);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for value in taken.values() {
                let item = format!("{}:{}", self.name, String::from_utf8(value.to_vec())?);
                make(self.watcher, &format!("taken/{item}"))
                    .await
                    .with_context(|| format!("{item} taken twice"))?;
            }
        }
    }

    /// Puts ours, and does the work that comes.
    async fn play_work(mut self, queue: WorkQueue) -> Result<()> {
        self.put_all(|item| queue.put(item)).await?;
        loop {
            let job = tokio::select! {
                _ = self.enough.wait_for(|enough| *enough) => return Ok(()),
                job = queue.claim() => job?,
            };
            let item = String::from_utf8(job.values().first().context("no value")?.to_vec())?;
            match make(self.watcher, &format!("taken/work:{item}")).await {
                Err(error) if error.downcast_ref().is_some_and(is_there) => {}
                outcome => outcome?,
            }
            match job.complete().await {
                // What was not completed comes again.
                Ok(()) | Err(Error::Lost(_) | Error::SessionEnded(_) | Error::Ambiguous { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn is_there(error: &docent::Error) -> bool {
    error.code() == Some(ErrorCode::NODE_EXISTS)
}

/// Everything that peers put: none of their sessions expires.
fn theirs(names: &[&str], peers: usize) -> BTreeSet<String> {
    let items = |name: &&str| {
        let of = |peer| {
            let name = (*name).to_owned();
            (0..ITEMS).map(move |number| format!("{name}:c{peer}-{number}"))
        };
        (0..peers).flat_map(of).collect::<Vec<_>>()
    };
    names.iter().flat_map(items).collect()
}

async fn ours(connect: &str, others: Others, peers: usize) -> Result<()> {
    let (client, watcher) = (Client::connect(connect).await?, Client::connect(connect).await?);
    let (stop, enough) = watch::channel(false);
    let told = Mutex::default();
    make(&watcher, "taken/none").await?;
    watcher.delete(format!("{BASE}/taken/none"), Version::ANY).await?;
    make(&watcher, "ready/r0").await?;
    let one = |name| Ours { name, watcher: &watcher, told: &told, enough: enough.clone() };
    let once = others.once(&client).into_iter().map(|(name, queue)| one(name).play_once(queue));
    let work = one("work").play_work(others.work(&client));
    let ended = async {
        for _ in 0..EXPIRIES {
            expire_if_any(connect, &client).await?;
            soon("another session", client.session_ready()).await??;
        }
        all_taken(&watcher, others, peers, &told).await?;
        stop.send_replace(true);
        make(&watcher, "enough").await
    };
    tokio::try_join!(try_join_all(once), work, ended)?;
    Ok(())
}

/// Waits until everything was put and taken, but for what is in doubt, and all work is done.
async fn all_taken(watcher: &Client, others: Others, peers: usize, told: &Mutex<Told>) -> Result<()> {
    let deadline = tokio::time::Instant::now() + BOUND;
    let queues = others.once(watcher);
    let names: Vec<_> = queues.iter().map(|(name, _)| *name).chain(["work"]).collect();
    loop {
        let taken: BTreeSet<_> = children(watcher, &format!("{BASE}/taken")).await?.into_iter().collect();
        let mut left = others.work(watcher).length().await?;
        for (_, queue) in &queues {
            left += queue.length().await?;
        }
        let mut wanted = theirs(&names, peers);
        let (ready, doubts) = {
            let told = told.lock().unwrap_or_else(PoisonError::into_inner);
            wanted.extend(told.put.iter().cloned());
            (told.ready == names.len(), told.doubts)
        };
        let (work, lost): (Vec<_>, Vec<_>) =
            wanted.difference(&taken).partition(|item| item.starts_with("work:"));
        if ready && left == 0 && work.is_empty() && lost.len() <= doubts {
            return Ok(());
        }
        let late = tokio::time::Instant::now() > deadline;
        ensure!(!late, "{left} left, {doubts} in doubt, not done: {work:?}, not taken: {lost:?}");
        // The pause of a bounded wait.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn play(backend: Backend, others: Others) -> Result<()> {
    let mut needs = backend.needs();
    needs.extend(match others {
        Others::Curator(client) => client.needs(),
        Others::Kazoo => vec![Need::Kazoo],
    });
    let Some(_suite) = Suite::begin(&format!("queues beside {others:?} on {backend:?}"), &needs) else {
        return Ok(());
    };
    let server = backend.start(&[]).await?;
    let (connect, rounds, peers) = (server.connect_string(), ITEMS.to_string(), 1);
    let all = (peers + 1).to_string();
    let playing = (0..peers).map(|number| {
        let args = [&*connect, BASE, &rounds, &format!("c{number}"), &all];
        match others {
            Others::Curator(client) => java::program(client, "QueueContender", args)?.spawn(),
            Others::Kazoo => python::program("queue_contender.py", args).spawn(),
        }
    });
    let playing = playing.collect::<Result<Vec<_>>>()?;
    let ours = tokio::time::timeout(BOUND + Duration::from_secs(10), ours(&connect, others, peers));
    let (ours, theirs) = tokio::join!(ours, join_all(playing.into_iter().map(|peer| peer.finish(BOUND))));
    let ours = ours.context("ours took too long")?;
    for output in theirs {
        output?.success()?;
    }
    ours?;
    let watcher = Client::connect(&*connect).await?;
    let left = children(&watcher, &path::join(BASE, "work-locks")).await?;
    ensure!(left.is_empty(), "claims are left: {left:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_curator_on_our_server() -> Result<()> {
    play(Backend::DocentBinary, Others::Curator(JavaClient::Debian)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_curator_on_apache() -> Result<()> {
    play(Backend::Apache38, Others::Curator(JavaClient::Debian)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_newer_curator_on_our_server() -> Result<()> {
    play(Backend::DocentBinary, Others::Curator(JavaClient::Newer)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_kazoo_on_our_server() -> Result<()> {
    play(Backend::DocentBinary, Others::Kazoo).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_kazoo_on_apache() -> Result<()> {
    play(Backend::Apache38, Others::Kazoo).await
}
