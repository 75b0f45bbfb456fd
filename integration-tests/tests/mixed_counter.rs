//! Our counters beside Curator's and kazoo's, on one path each, on our server and on Apache's: every one that was added by
//! anybody is in the sum.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::{Client, ParentMode};
use docent_integration_tests::availability::{Need, Suite};
use docent_integration_tests::backend::Backend;
use docent_integration_tests::peers::java::JavaClient;
use docent_integration_tests::peers::{Program, java, python};
use docent_integration_tests::suites::BOUND;
use docent_recipes::{Counter, CounterLayout, Recipes};
use futures::future::join_all;

const BASE: &str = "/peer";

/// Somebody else, who adds.
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
            Other::Curator(client) => java::program(client, "CounterContender", args),
            Other::Kazoo => Ok(python::program("counter_contender.py", args)),
        }
    }

    /// Whether it adds to this counter.
    fn adds_to(self, name: &str) -> bool {
        match self {
            Other::Curator(_) => name != "text",
            Other::Kazoo => name == "text" || name == "integer",
        }
    }
}

/// The counters, by the last part of their paths.
fn counters(client: &Client) -> Vec<(&'static str, Counter)> {
    vec![
        ("long", client.counter(format!("{BASE}/long"))),
        ("integer", client.counter(format!("{BASE}/integer")).layout(CounterLayout::Integer).exactly_once()),
        ("count", client.shared_count(format!("{BASE}/count"))),
        ("text", client.counter(format!("{BASE}/text")).layout(CounterLayout::Text)),
    ]
}

async fn ours(connect: String, rounds: usize, contenders: usize) -> Result<()> {
    let client = Client::connect(&*connect).await?;
    let ready = format!("{BASE}/ready");
    client.create_parents(format!("{ready}/r"), ParentMode::Persistent).await?;
    client.create(format!("{ready}/r"), "").await?;
    while let (children, changed) = client.get_children_and_watch(&ready).await?
        && children.names.len() < contenders
    {
        changed.await?;
    }
    let counters = counters(&client);
    for _ in 0..rounds {
        for (name, counter) in &counters {
            counter.add(1).await?.applied().with_context(|| format!("a reply of {name} was lost"))?;
        }
    }
    client.close().await?;
    Ok(())
}

async fn play(backend: Backend, others: &[Other], rounds: usize) -> Result<()> {
    let mut needs = backend.needs();
    needs.extend(others.iter().flat_map(|other| other.needs()));
    let Some(_suite) = Suite::begin(&format!("counters beside {others:?} on {backend:?}"), &needs) else {
        return Ok(());
    };
    let server = backend.start(&[]).await?;
    let (connect, contenders) = (server.connect_string(), 1 + others.len());
    let (times, all) = (rounds.to_string(), contenders.to_string());
    let playing = others
        .iter()
        .enumerate()
        .map(|(number, other)| other.program([&connect, BASE, &times, &format!("c{number}"), &all])?.spawn());
    let playing = playing.collect::<Result<Vec<_>>>()?;
    let ours =
        tokio::time::timeout(BOUND + Duration::from_secs(10), ours(connect.clone(), rounds, contenders));
    let (ours, theirs) = tokio::join!(ours, join_all(playing.into_iter().map(|peer| peer.finish(BOUND))));
    for output in theirs {
        output?.success()?;
    }
    ours.context("ours took too long")??;
    let client = Client::connect(&*connect).await?;
    for (name, counter) in counters(&client) {
        let added = 1 + others.iter().filter(|other| other.adds_to(name)).count();
        let (sum, wanted) = (counter.get().await?, i64::try_from(added * rounds)?);
        ensure!(sum == wanted, "{name} is {sum} instead of {wanted}");
    }
    Ok(())
}

const DEBIAN: Other = Other::Curator(JavaClient::Debian);

#[tokio::test(flavor = "multi_thread")]
async fn with_curator_and_kazoo_on_our_server() -> Result<()> {
    play(Backend::DocentBinary, &[DEBIAN, Other::Kazoo], 100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_curator_and_kazoo_on_apache() -> Result<()> {
    play(Backend::Apache38, &[DEBIAN, Other::Kazoo], 100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_newer_curator_on_the_newer_apache() -> Result<()> {
    play(Backend::ApacheNewer, &[Other::Curator(JavaClient::Newer)], 100).await
}
