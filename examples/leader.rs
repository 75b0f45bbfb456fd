//! A leader: three candidates, one leads at a time, and each leader has a higher epoch than all before it.
//!
//! `cargo run -p docent-examples --example leader [HOSTS]`

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use docent::Client;
use docent_recipes::{FencingToken, Latch, Recipes};

#[tokio::main]
async fn main() -> Result<()> {
    let server = docent_examples::endpoint().await?;
    run(server.hosts()).await
}

/// Lets each candidate lead once.
pub(crate) async fn run(hosts: &str) -> Result<()> {
    let candidates = ["ash", "birch", "cedar"].map(|name| lead_once(hosts, name));
    let mut epochs = futures::future::try_join_all(candidates).await?;
    epochs.sort();
    ensure!(epochs.windows(2).all(|pair| pair[0] < pair[1]), "two leaders had one epoch: {epochs:?}");
    println!("each has led, in epochs of their own");
    Ok(())
}

async fn lead_once(hosts: &str, name: &str) -> Result<FencingToken> {
    let client = Client::connect(hosts).await?;
    // Curator's `LeaderLatch` on the same path takes part. Joining stands in line; after a lost session the latch
    // stands in line again by itself.
    let latch = client.leader_latch("/examples/leader").id(name).join().await?;

    let epoch = loop {
        // The fence is the leadership: who holds it, leads, until it is lost.
        let fence = latch.wait_to_lead().await?;
        println!("{name} leads, epoch {}", fence.token());
        tokio::select! {
            // The work is dropped when somebody else may lead. It shows its epoch to whatever it changes.
            done = rule(name, &latch) => break done?,
            cause = fence.lost() => println!("{name} does not lead any more: {cause}"),
        }
    };
    latch.leave().await?;
    client.close().await?;
    Ok(epoch)
}

async fn rule(name: &str, latch: &Latch) -> Result<FencingToken> {
    let line: Vec<String> = latch.participants().await?.into_iter().map(|one| one.id).collect();
    println!("{name} sees the line {}", line.join(", "));
    tokio::time::sleep(Duration::from_millis(50)).await;
    match latch.fence() {
        Some(fence) => Ok(fence.token()),
        None => bail!("{name} lost the leadership while it ruled"),
    }
}
