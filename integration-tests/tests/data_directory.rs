//! Data folders go both ways: what Apache's server wrote opens here, and what ours wrote opens there, all equal.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use docent::{Acl, Client, CreateMode, NodeData, Permissions, Stat, Version};
use docent_integration_tests::availability::{Suite, workspace};
use docent_integration_tests::backend::{Backend, Options};

/// One node as a client sees it, without what belongs to the server that is asked.
#[derive(Debug, PartialEq)]
struct Seen {
    path: String,
    data: Option<bytes::Bytes>,
    stat: Stat,
    acl: Vec<Acl>,
}

/// Every node but those that each server keeps for itself.
async fn tree(client: &Client) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    let mut next = vec!["/".to_owned()];
    while let Some(path) = next.pop() {
        let children = client.get_children(&path).await?;
        next.extend(children.names.iter().map(|name| docent::path::join(&path, name)));
        let NodeData { data, stat, .. } = client.get_data(&path).await?;
        let (acl, _) = client.get_acl(&path).await?;
        if !path.starts_with("/zookeeper/config") && !path.ends_with("/zookeeper_stats") {
            seen.push(Seen { path, data, stat, acl });
        }
    }
    seen.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(seen)
}

async fn super_client(connect: &str) -> Result<Client> {
    Ok(Client::builder(connect).auth("digest", "super:admin").connect().await?)
}

/// `super:admin`, for nodes that only their owners may read.
const SUPER: &str = "DigestAuthenticationProvider.superDigest=super:xQJmxLMiHGwaqBvst5y6rkB6HQs=";

fn golden() -> PathBuf {
    workspace().join("server/tests/golden/standalone")
}

/// What a folder shows when a server runs on it.
async fn opened(backend: Backend, data: PathBuf) -> Result<Vec<Seen>> {
    let options = Options {
        config: &[SUPER, "extendedTypesEnabled=true", "maxSessionTimeout=600000"],
        data: Some(&data),
        ..Options::default()
    };
    let server =
        backend.start_with(options).await.with_context(|| format!("{backend:?} on {}", data.display()))?;
    let client = super_client(&server.connect_string()).await?;
    let seen = tree(&client).await?;
    client.close().await?;
    Ok(seen)
}

fn compare(theirs: Vec<Seen>, ours: Vec<Seen>) -> Result<()> {
    ensure!(theirs.len() > 5, "only {} nodes", theirs.len());
    for (theirs, ours) in theirs.iter().zip(&ours) {
        ensure!(theirs == ours, "Apache shows {theirs:?}, we show {ours:?}");
    }
    ensure!(theirs.len() == ours.len(), "Apache shows {} nodes, we show {}", theirs.len(), ours.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_apache_opens_here() -> Result<()> {
    let Some(_suite) = Suite::begin("Apache's folder", &Backend::Apache38.needs()) else { return Ok(()) };
    compare(opened(Backend::Apache38, golden()).await?, opened(Backend::DocentBinary, golden()).await?)
}

/// Writes something of every kind.
async fn fill(client: &Client) -> Result<()> {
    for number in 0..300 {
        client.create(format!("/n{number}"), format!("value {number}")).await?;
    }
    client.create("/null", "").null_data().await?;
    client.create("/empty", "").await?;
    client.create("/ünï/".trim_end_matches('/'), "utf-8").await?;
    client.create("/seq", "").await?;
    for _ in 0..5 {
        client.create("/seq/s-", "").mode(CreateMode::PersistentSequential).await?;
    }
    client.create("/container", "").mode(CreateMode::Container).await?;
    client.create("/container/child", "").await?;
    client.create("/ttl", "t").mode(CreateMode::Ttl(std::time::Duration::from_secs(3_600))).await?;
    client
        .create("/closed", "secret")
        .acl(vec![Acl::new(Permissions::ALL, "digest", "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=")])
        .await?;
    for number in 0..100 {
        client.set_data(format!("/n{number}"), format!("again {number}"), Version::ANY).await?;
    }
    for number in 200..300 {
        client.delete(format!("/n{number}"), Version::ANY).await?;
    }
    client.set_acl("/n1", Acl::read_only(), Version::ANY).await?;
    let refused = client.create("/n2", "").await;
    ensure!(refused.is_err(), "a node was created twice");
    let multi = docent::Transaction::new()
        .create("/m", "1", CreateMode::Persistent)
        .set_data("/m", "2", Version(0))
        .delete("/n3", Version::ANY);
    client.multi(multi).await?;
    client
        .multi(
            docent::Transaction::new().create("/m2", "1", CreateMode::Persistent).delete("/m", Version(77)),
        )
        .await
        .err()
        .context("a multi")?;
    Ok(())
}

async fn our_folder_opens(backend: Backend, config: &[&str]) -> Result<()> {
    let Some(_suite) = Suite::begin(&format!("our folder on {backend:?}"), &backend.needs()) else {
        return Ok(());
    };
    let lines: Vec<&str> =
        [SUPER, "extendedTypesEnabled=true"].into_iter().chain(config.iter().copied()).collect();
    let mut server = Backend::DocentBinary.start(&lines).await?;
    let client = super_client(&server.connect_string()).await?;
    fill(&client).await?;
    let ours = tree(&client).await?;
    client.close().await?;
    server.kill()?;
    let theirs = opened(backend, server.data()).await?;
    compare(theirs, ours)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_ours_opens_on_apache() -> Result<()> {
    our_folder_opens(Backend::Apache38, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_ours_opens_on_the_newer_apache() -> Result<()> {
    our_folder_opens(Backend::ApacheNewer, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_ours_with_compressed_snapshots_opens_on_apache() -> Result<()> {
    our_folder_opens(Backend::Apache38, &["snapshot.compression.method=gz", "snapCount=100"]).await
}
