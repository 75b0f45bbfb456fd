//! Asking to yield: a long job holds a lock, and lets go between two steps when an urgent one asks for it.
//!
//! `cargo run -p docent-examples --example yielding [HOSTS]`

use std::time::Duration;

use anyhow::{Context, Result};
use docent::Client;
use docent_recipes::{LockGuard, Recipes};

#[tokio::main]
async fn main() -> Result<()> {
    let server = docent_examples::endpoint().await?;
    run(server.hosts()).await
}

/// Lets the urgent job come in the middle of the long one.
pub(crate) async fn run(hosts: &str) -> Result<()> {
    let client = Client::connect(hosts).await?;
    let lock = client.lock("/examples/yielding").identifier("long job");
    let guard = lock.acquire_within(Duration::from_secs(10)).await?;
    tokio::try_join!(long_job(guard), urgent_job(hosts))?;
    client.close().await?;
    Ok(())
}

async fn long_job(guard: LockGuard) -> Result<()> {
    let asked = guard.asked_to_yield();
    tokio::pin!(asked);
    for step in 1.. {
        guard.check()?;
        println!("long job: step {step}");
        tokio::select! {
            // It is a request: the holder chooses when, here between two steps.
            () = &mut asked => break,
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
    println!("long job: asked to yield, letting go");
    guard.release().await?;
    Ok(())
}

async fn urgent_job(hosts: &str) -> Result<()> {
    let client = Client::connect(hosts).await?;
    let lock = client.lock("/examples/yielding").identifier("urgent job");
    // The place first, so that nobody comes in between.
    let place = lock.enqueue().await?;
    println!("urgent job: {:?} before us", place.position());
    // A revocable `InterProcessMutex` of Curator's hears it too.
    let holder = lock.contenders().await?.into_iter().next().context("somebody is in line")?;
    lock.ask_to_yield(&holder).await?;
    let guard = tokio::time::timeout(Duration::from_secs(10), async { place.await }).await??;
    println!("urgent job: holding");
    guard.release().await?;
    client.close().await?;
    Ok(())
}
