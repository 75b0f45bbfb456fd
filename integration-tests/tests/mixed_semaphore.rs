//! Our semaphore beside Curator's and kazoo's, on one path, on our server and on Apache's. Everybody makes a node below
//! `BASE/inside` while it holds a permit, and counts; see `peers/java/SemaphoreContender.java`.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use docent::{Client, ParentMode, Version};
use docent_integration_tests::availability::{Need, Suite};
use docent_integration_tests::backend::Backend;
use docent_integration_tests::peers::java::JavaClient;
use docent_integration_tests::peers::{Program, java, python};
use docent_integration_tests::suites::BOUND;
use docent_recipes::{Layout, Recipes};
use futures::future::{join_all, try_join_all};

const BASE: &str = "/peer";
/// What the programs in the other languages say too.
const PERMITS: usize = 2;
/// As many as there are permits, so that ours alone can use all of them.
const OURS: usize = PERMITS;

/// Somebody else's contender.
#[derive(Clone, Copy, Debug)]
enum Other {
    Curator(JavaClient),
    Kazoo,
}

impl Other {
    fn needs(self) -> Vec<Need> {
        match self {
            Other::Curator(client) => client.needs(),
            Other::Kazoo => vec![Need::Kazoo],
        }
    }

    fn program(self, args: [&str; 5]) -> Result<Program> {
        match self {
            Other::Curator(client) => java::program(client, "SemaphoreContender", args),
            Other::Kazoo => Ok(python::program("semaphore_contender.py", args)),
        }
    }
}

/// One of ours.
struct Ours {
    connect: String,
    layout: Layout,
    id: String,
    rounds: usize,
    contenders: usize,
}

impl Ours {
    /// Plays all rounds; the count of each.
    async fn play(self) -> Result<Vec<usize>> {
        let client = Client::connect(&*self.connect).await?;
        self.meet(&client, "ready", self.contenders).await?;
        let permits = u32::try_from(PERMITS)?;
        let semaphore = client.semaphore(format!("{BASE}/semaphore")).layout(self.layout).permits(permits);
        let mut counts = Vec::new();
        for round in 0..self.rounds {
            // Every third time all permits at once: then nobody else may be inside.
            let wanted = if round % 3 == 2 { permits } else { 1 };
            let set = semaphore.acquire_many_within(wanted, BOUND).await?;
            let inside = self.enter(&client, round).await?;
            set.check()?;
            ensure!(wanted == 1 || inside == 1, "{inside} inside, and {} has all permits", self.id);
            counts.push(inside);
            set.release().await?;
        }
        client.close().await?;
        Ok(counts)
    }

    /// Is inside; how many are seen there. In the first round ours stay until all of them have come: the last one sees
    /// the others then, whoever is quick and whoever is slow, and all permits are seen in use. To look until somebody is
    /// there would not do: others come and go between two looks, and whoever wants all permits would wait for us.
    async fn enter(&self, client: &Client, round: usize) -> Result<usize> {
        let mine = format!("{BASE}/inside/{}-{round}", self.id);
        client.create_parents(&mine, ParentMode::Persistent).await?;
        client.create(&mine, "").await?;
        let inside = client.get_children(format!("{BASE}/inside")).await?.names.len();
        if round == 0 {
            tokio::time::timeout(BOUND, self.meet(client, "met", OURS)).await.context("ours never met")??;
        }
        client.delete(&mine, Version::ANY).await?;
        Ok(inside)
    }

    /// Says that we have come, and waits until so many have.
    async fn meet(&self, client: &Client, place: &str, wanted: usize) -> Result<()> {
        let place = format!("{BASE}/{place}");
        let mine = format!("{place}/{}", self.id);
        client.create_parents(&mine, ParentMode::Persistent).await?;
        client.create(&mine, "").await?;
        while let (children, changed) = client.get_children_and_watch(&place).await?
            && children.names.len() < wanted
        {
            changed.await?;
        }
        Ok(())
    }
}

/// The counts that a program printed.
fn counts(output: &str) -> Result<Vec<usize>> {
    let mut counts = Vec::new();
    for line in output.lines() {
        match line.split(' ').next() {
            Some("INSIDE") => {
                let count = line.rsplit_once("inside=").with_context(|| line.to_owned())?.1;
                counts.push(count.parse().with_context(|| line.to_owned())?);
            }
            Some("VIOLATION") => bail!("a contender reports: {line}"),
            _ => {}
        }
    }
    Ok(counts)
}

/// All rounds were played, never more inside than permits, and sometimes as many.
fn verify(counts: &[usize], rounds: usize) -> Result<()> {
    ensure!(counts.len() == rounds, "{} rounds instead of {rounds}", counts.len());
    let most = counts.iter().max().copied();
    ensure!(most == Some(PERMITS), "{most:?} inside with {PERMITS} permits");
    Ok(())
}

async fn play(backend: Backend, layout: Layout, others: &[Other], rounds: usize) -> Result<()> {
    let mut needs = backend.needs();
    needs.extend(others.iter().flat_map(|other| other.needs()));
    let Some(_suite) = Suite::begin(&format!("semaphore beside {others:?} on {backend:?}"), &needs) else {
        return Ok(());
    };
    let server = backend.start(&[]).await?;
    let (connect, contenders) = (server.connect_string(), OURS + others.len());
    let (times, all) = (rounds.to_string(), contenders.to_string());
    let playing = others
        .iter()
        .enumerate()
        .map(|(number, other)| other.program([&connect, BASE, &times, &format!("c{number}"), &all])?.spawn());
    let playing = playing.collect::<Result<Vec<_>>>()?;
    let ours = (0..OURS).map(|number| {
        let id = format!("r{number}");
        Ours { connect: connect.clone(), layout, id, rounds, contenders }.play()
    });
    let ours = tokio::time::timeout(BOUND + Duration::from_secs(10), try_join_all(ours));
    let (ours, theirs) = tokio::join!(ours, join_all(playing.into_iter().map(|peer| peer.finish(BOUND))));
    let mut all: Vec<usize> = ours.context("ours took too long")??.concat();
    for output in theirs {
        all.extend(counts(&output?.success()?.stdout)?);
    }
    verify(&all, contenders * rounds)
}

const DEBIAN: Other = Other::Curator(JavaClient::Debian);
const NEWER: Other = Other::Curator(JavaClient::Newer);

#[tokio::test(flavor = "multi_thread")]
async fn with_curator_on_our_server() -> Result<()> {
    play(Backend::DocentBinary, Layout::Curator, &[DEBIAN, NEWER], 50).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_curator_on_apache() -> Result<()> {
    play(Backend::Apache38, Layout::Curator, &[DEBIAN, DEBIAN], 50).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_curator_on_the_newer_apache() -> Result<()> {
    play(Backend::ApacheNewer, Layout::Curator, &[NEWER], 50).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_kazoo_on_our_server() -> Result<()> {
    play(Backend::DocentBinary, Layout::Kazoo, &[Other::Kazoo, Other::Kazoo], 40).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_kazoo_on_apache() -> Result<()> {
    play(Backend::Apache38, Layout::Kazoo, &[Other::Kazoo, Other::Kazoo], 40).await
}

#[test]
fn every_broken_rule_is_seen() -> Result<()> {
    verify(&[1, 2, 1], 3)?;
    assert!(verify(&[1, 3, 2], 3).is_err(), "three inside");
    assert!(verify(&[1, 1], 2).is_err(), "nobody beside another");
    assert!(verify(&[1, 2], 3).is_err(), "a round too few");
    assert_eq!(counts("INSIDE id=a n=1 inside=2\nDONE id=a")?, [2]);
    assert!(counts("VIOLATION id=a n=1 inside=3").is_err());
    assert!(counts("INSIDE id=a").is_err());
    Ok(())
}
