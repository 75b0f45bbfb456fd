//! Our service discovery beside Curator's, at one base path, on our server and on Apache's: each sees the others'
//! instances come, change and go, also when our session expires; see `peers/java/DiscoveryContender.java`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::{Client, ParentMode};
use docent_integration_tests::availability::Suite;
use docent_integration_tests::backend::Backend;
use docent_integration_tests::peers::java;
use docent_integration_tests::peers::java::JavaClient;
use docent_integration_tests::recipe_kit::{expire, soon};
use docent_integration_tests::suites::BOUND;
use docent_recipes::{KeptState, Recipes, ServiceInstance, ServiceView, ServiceViews, UriSpec};
use futures::future::join_all;

const BASE: &str = "/peer";
/// One of ours, and two of Curator's.
const CURATORS: usize = 2;

async fn make(client: &Client, node: &str) -> Result<()> {
    let path = format!("{BASE}/{node}");
    client.create_parents(&path, ParentMode::Persistent).await?;
    client.create(path, "").await?;
    Ok(())
}

/// Waits until so many have come to a place.
async fn meet(client: &Client, place: &str, wanted: usize) -> Result<()> {
    let path = format!("{BASE}/{place}");
    client.create_parents(format!("{path}/x"), ParentMode::Persistent).await?;
    while let (children, changed) = client.get_children_and_watch(&path).await?
        && children.names.len() < wanted
    {
        changed.await?;
    }
    Ok(())
}

/// The first view with everybody in it, of whom each has this payload.
async fn all_with(views: &mut ServiceViews<String>, end: &str) -> Result<ServiceView<String>> {
    loop {
        let view = views.next().await.with_context(|| format!("{:?}", views.error()))?;
        ensure!(view.invalid.is_empty(), "{view:?}");
        let so = |one: &ServiceInstance<String>| one.payload.as_ref().is_some_and(|text| text.ends_with(end));
        if view.instances.len() == CURATORS + 1 && view.instances.values().all(|one| so(one)) {
            return Ok(view);
        }
    }
}

async fn ours(connect: &str) -> Result<()> {
    let client = Client::connect(connect).await?;
    let watcher = Client::connect(connect).await?;
    let discovery = client.discovery::<String>(format!("{BASE}/services"));
    let one = ServiceInstance::new("search").id("r0").at("10.0.0.1", 80).payload("r0-1".to_owned());
    let mut mine = discovery.register(one.uri_spec("{scheme}://{address}:{port}/{id}")).await?;
    let mut views = watcher.discovery::<String>(format!("{BASE}/services")).watch("search")?;
    make(&watcher, "ready/r0").await?;
    let view = all_with(&mut views, "-1").await?;
    let spec = UriSpec::new("{scheme}://{address}:{port}/{id}");
    for (id, one) in view.instances.iter().filter(|(id, _)| *id != "r0") {
        ensure!(one.uri() == Some(format!("http://10.0.0.2:8080/{id}")), "{one:?}");
        ensure!(
            one.uri_spec.as_ref() == Some(&spec) && one.registration_time_utc == 1_700_000_000_000,
            "{one:?}"
        );
        ensure!(one.enabled && one.name == "search" && one.ssl_port.is_none(), "{one:?}");
    }
    meet(&watcher, "saw-1", CURATORS).await?;

    // Curator's see it leave and come back, with what is newest.
    let before = watcher.exists(mine.path()).await?.context("our instance")?.czxid;
    mine.update(|one| one.payload = Some("r0-2".to_owned())).await?;
    expire(connect, &client).await?;
    let mut state = mine.state();
    let back = |state: &KeptState| matches!(state, KeptState::Exists { czxid, .. } if *czxid > before);
    drop(soon("registered again", state.wait_for(back)).await??);
    make(&watcher, "updated").await?;
    all_with(&mut views, "-2").await?;
    meet(&watcher, "saw-2", CURATORS).await?;

    mine.unregister().await?;
    make(&watcher, "ended").await?;
    while let Some(view) = views.next().await
        && !view.instances.is_empty()
    {}
    ensure!(views.error().is_none(), "{:?}", views.error());
    Ok(())
}

async fn play(backend: Backend) -> Result<()> {
    let client = JavaClient::Debian;
    let mut needs = backend.needs();
    needs.extend(client.needs());
    let Some(_suite) = Suite::begin(&format!("discovery beside Curator's on {backend:?}"), &needs) else {
        return Ok(());
    };
    let server = backend.start(&[]).await?;
    let (connect, all) = (server.connect_string(), (CURATORS + 1).to_string());
    let playing = (0..CURATORS).map(|number| {
        let args = [&*connect, BASE, "1", &format!("c{number}"), &all];
        java::program(client, "DiscoveryContender", args)?.spawn()
    });
    let playing = playing.collect::<Result<Vec<_>>>()?;
    let ours = tokio::time::timeout(BOUND + Duration::from_secs(10), ours(&connect));
    let (ours, theirs) = tokio::join!(ours, join_all(playing.into_iter().map(|peer| peer.finish(BOUND))));
    for output in theirs {
        let output = output?.success()?;
        let line = "INSTANCE id=r0 payload=r0-2 uri=http://10.0.0.1:80/r0";
        ensure!(output.stdout.lines().any(|said| said == line), "{}", output.stdout);
    }
    ours.context("ours took too long")?
}

#[tokio::test(flavor = "multi_thread")]
async fn with_curator_on_our_server() -> Result<()> {
    play(Backend::DocentBinary).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_curator_on_apache() -> Result<()> {
    play(Backend::Apache38).await
}
