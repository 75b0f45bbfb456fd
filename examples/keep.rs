//! Persistent nodes: a worker is there until it says that it goes, whatever becomes of its node or its session.
//!
//! `cargo run -p docent-examples --example keep [HOSTS]`

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::{Client, Version, Zxid};
use docent_recipes::{KeptNode, KeptState, Recipes};

#[tokio::main]
async fn main() -> Result<()> {
    let server = docent_examples::endpoint().await?;
    run(server.hosts()).await
}

/// Keeps nodes of several kinds, and lets somebody delete one.
pub(crate) async fn run(hosts: &str) -> Result<()> {
    let client = Client::connect(hosts).await?;
    // Gone when this program is gone. The server gives it a number, and no other worker has its name.
    let worker = client.keep("/examples/workers/w-").sequential().data("idle").await?;
    println!("here is {}", worker.path());
    worker.set_data("busy").await?;

    // Somebody tidies up too much. A moment later the node is there again, with its name and its newest data.
    let before = born(&worker)?;
    client.delete(worker.path(), Version::ANY).await?;
    let mut state = worker.state();
    let again = |state: &KeptState| matches!(state, KeptState::Exists { czxid, .. } if *czxid > before);
    let back = tokio::time::timeout(Duration::from_secs(10), state.wait_for(again));
    drop(back.await.context("the node does not come back")??);
    let data = client.get_data(worker.path()).await?.bytes();
    println!("deleted by {before} and back by {}: {}", born(&worker)?, String::from_utf8_lossy(&data));
    ensure!(data == "busy", "not the newest data");

    // Outlives its session, and this program too if it dies: the next one that keeps it finds it.
    let shared = client.keep("/examples/warehouse").persistent().data("open").await?;
    println!("{} has no owner", shared.path());

    shared.close().await?;
    let gone = worker.path().to_owned();
    worker.close().await?;
    ensure!(client.exists(&gone).await?.is_none(), "closed, and still there");
    client.close().await?;
    Ok(())
}

/// Which life of its node this is.
fn born(node: &KeptNode) -> Result<Zxid> {
    match &*node.state().borrow() {
        KeptState::Exists { czxid, .. } => Ok(*czxid),
        state => anyhow::bail!("{} is not there: {state:?}", node.path()),
    }
}
