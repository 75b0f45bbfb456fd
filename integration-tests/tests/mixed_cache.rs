//! Our cache beside Curator's four, of one tree that all of them write to, on our server and on Apache's: in the end all
//! hold what the server has.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::{Client, CreateMode, ErrorCode, ParentMode, Version, path};
use docent_integration_tests::availability::Suite;
use docent_integration_tests::backend::Backend;
use docent_integration_tests::peers::java::{self, JavaClient};
use docent_integration_tests::recipe_kit::eventually;
use docent_integration_tests::suites::BOUND;
use docent_recipes::{Cache, Depth, Recipes};
use futures::future::try_join_all;

const BASE: &str = "/peer";
const TREE: &str = "/peer/tree";
/// As many as Curator's contender writes to.
const NODES: usize = 7;

type Mzxids = BTreeMap<String, i64>;

fn seen(cache: &Cache) -> Mzxids {
    cache.snapshot().iter().map(|node| (node.path.to_string(), node.stat.mzxid.0)).collect()
}

/// The children that each contender makes when it has written everything.
async fn ends(client: &Client) -> Result<usize> {
    let names = client.get_children(TREE).await?.names;
    Ok(names.iter().filter(|name| name.starts_with("end-")).count())
}

async fn tree(client: &Client) -> Result<Mzxids> {
    let (mut found, mut open) = (Mzxids::new(), vec![TREE.to_owned()]);
    while let Some(path) = open.pop() {
        found.insert(path.clone(), client.get_data(&path).await?.stat.mzxid.0);
        open.extend(client.get_children(&path).await?.names.iter().map(|name| path::join(&path, name)));
    }
    Ok(found)
}

async fn write(client: &Client, rounds: usize) -> Result<()> {
    for round in 0..rounds {
        let (data, path) = (format!("ours-{round}"), format!("{TREE}/ours/{}", round % NODES));
        if round % 3 == 2 && client.exists(&path).await?.is_some() {
            client.delete(&path, Version::ANY).await?;
        } else {
            client.create_parents(&path, ParentMode::Persistent).await?;
            match client.create(&path, data.clone()).mode(CreateMode::Persistent).await {
                Err(error) if error.code() == Some(ErrorCode::NODE_EXISTS) => {
                    client.set_data(&path, data.clone(), Version::ANY).await?;
                }
                created => drop(created?),
            }
        }
        if round % NODES == 0 {
            client.set_data(TREE, data, Version::ANY).await?;
        }
    }
    client.create(format!("{TREE}/end-ours"), "").mode(CreateMode::Persistent).await?;
    Ok(())
}

/// What our caches hold when everybody has written.
async fn ours(connect: &str, rounds: usize, contenders: usize) -> Result<Mzxids> {
    let client = &Client::connect(connect).await?;
    let ready = format!("{BASE}/ready");
    // Apache's server 3.8 keeps only one kind of watch for each client and path.
    let others = try_join_all((0..3).map(|_| Client::connect(connect))).await?;
    let all = client.cache(TREE).open().await?;
    let older = others[0].cache(TREE).oneshot_watches().open().await?;
    let children = others[1].cache(TREE).depth(Depth::Children).open().await?;
    let node = others[2].cache(TREE).depth(Depth::Node).open().await?;
    client.create_parents(format!("{ready}/r"), ParentMode::Persistent).await?;
    client.create(format!("{ready}/r"), "").await?;
    while let (children, changed) = client.get_children_and_watch(&ready).await?
        && children.names.len() < contenders
    {
        changed.await?;
    }
    write(client, rounds).await?;
    eventually("everybody has written", async || Ok(ends(client).await? == contenders)).await?;
    let wanted = tree(client).await?;
    // By the number of slashes: the tree's root has two.
    let at = |slashes: usize| -> Mzxids {
        let within = |(path, _): &(&String, &i64)| path.matches('/').count() <= slashes;
        wanted.iter().filter(within).map(|(path, mzxid)| (path.clone(), *mzxid)).collect()
    };
    for (cache, wanted) in [(all, at(usize::MAX)), (older, at(usize::MAX)), (children, at(3)), (node, at(2))]
    {
        eventually(&format!("{cache:?} holds {wanted:?}"), async || Ok(seen(&cache) == wanted)).await?;
        cache.close().await;
    }
    Ok(wanted)
}

async fn play(backend: Backend, curator: JavaClient, rounds: usize) -> Result<()> {
    let mut needs = backend.needs();
    needs.extend(curator.needs());
    let Some(_suite) = Suite::begin(&format!("caches beside {curator:?} on {backend:?}"), &needs) else {
        return Ok(());
    };
    let server = backend.start(&[]).await?;
    let connect = server.connect_string();
    let client = Client::connect(&*connect).await?;
    client.create_parents(format!("{TREE}/x"), ParentMode::Persistent).await?;
    let args = [&connect, BASE, &rounds.to_string(), "theirs", "2"];
    let playing = java::program(curator, "CacheContender", args)?.spawn()?;
    let ours = tokio::time::timeout(BOUND + Duration::from_secs(10), ours(&connect, rounds, 2));
    let (ours, theirs) = tokio::join!(ours, playing.finish(BOUND));
    let theirs = theirs?.success()?;
    let ours = ours.context("ours took too long")??;
    let told = theirs.stdout.lines().filter_map(|line| {
        let (path, mzxid) = line.strip_prefix("NODE path=")?.split_once(" mzxid=")?;
        Some((path.to_owned(), mzxid.parse().ok()?))
    });
    let theirs: Mzxids = told.collect();
    ensure!(ours == theirs && ours.len() > NODES, "ours {ours:?}, theirs {theirs:?}");
    client.close().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_curator_on_our_server() -> Result<()> {
    play(Backend::DocentBinary, JavaClient::Debian, 60).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_newer_curator_on_our_server() -> Result<()> {
    play(Backend::DocentBinary, JavaClient::Newer, 60).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_curator_on_apache() -> Result<()> {
    play(Backend::Apache38, JavaClient::Debian, 60).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_newer_curator_on_the_newer_apache() -> Result<()> {
    play(Backend::ApacheNewer, JavaClient::Newer, 60).await
}
