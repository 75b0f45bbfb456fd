//! A lock: three workers, one at a time, and a resource that refuses whoever comes too late.
//!
//! `cargo run -p docent-examples --example lock [HOSTS]`

use std::time::Duration;

use anyhow::{Result, ensure};
use docent::Client;
use docent_recipes::{FenceGate, FencingToken, Recipes};

#[tokio::main]
async fn main() -> Result<()> {
    let server = docent_examples::endpoint().await?;
    run(server.hosts()).await
}

/// Lets the workers contend.
pub(crate) async fn run(hosts: &str) -> Result<()> {
    // This stands for the database, file or device that the lock protects. It keeps the highest token that it was
    // shown. Without it, a worker that slept through the end of its hold could still write.
    let resource = FenceGate::new();
    let workers = ["ash", "birch", "cedar"].map(|name| work(hosts, name, &resource));
    let tokens = futures::future::try_join_all(workers).await?;
    let newest = tokens.into_iter().max();
    ensure!(newest == Some(resource.highest()), "the resource has not seen the last holder's token");
    println!("each had its turn; the resource has seen tokens up to {}", resource.highest());
    Ok(())
}

async fn work(hosts: &str, name: &str, resource: &FenceGate) -> Result<FencingToken> {
    let client = Client::connect(hosts).await?;
    // Curator's `InterProcessMutex` on the same path stands in the same line. The identifier is for people.
    let lock = client.lock("/examples/lock").identifier(name.to_owned());
    let guard = lock.acquire_within(Duration::from_secs(10)).await?;
    let token = guard.token();
    println!("{name} holds, token {token}");

    // `run` drops the work when the lock is lost, and releases the lock when the work is done.
    let written = guard.run(|fence| async move {
        for _ in 0..3 {
            // Before each side effect: is it still ours? It costs no round trip.
            fence.check()?;
            resource.admit(fence.token())?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    });
    written.await??;
    println!("{name} has written three times and released");

    // Ends the session on the server at once. A client that is only dropped does the same in the background.
    client.close().await?;
    Ok(token)
}
