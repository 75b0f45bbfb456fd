//! A semaphore: five workers, two at a time, and a pool that grows while they work.
//!
//! `cargo run -p docent-examples --example semaphore [HOSTS]`

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use docent::Client;
use docent_recipes::{Recipes, Semaphore};

#[tokio::main]
async fn main() -> Result<()> {
    let server = docent_examples::endpoint().await?;
    run(server.hosts()).await
}

/// Lets the workers share the pool.
pub(crate) async fn run(hosts: &str) -> Result<()> {
    let client = Client::connect(hosts).await?;
    // Curator's `InterProcessSemaphoreV2` shares the permits, its `SharedCount` the number of them.
    let pool = client.semaphore("/examples/pool").permits(2).shared_count("/examples/pool-size");
    pool.resize(2).await?;

    let (busy, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let workers = (0..5).map(|worker| work(&pool, worker, &busy, &most));
    futures::future::try_join_all(workers).await?;
    let most = most.into_inner();
    println!("at most {most} worked at once");
    ensure!(most <= 2, "more at once than permits");

    // Several permits are taken together or not at all, so two who want many never wait for each other in a circle.
    ensure!(pool.try_acquire_many(3).await?.is_none(), "three of two permits");
    pool.resize(3).await?;
    let three = pool.acquire_many_within(3, Duration::from_secs(10)).await?;
    three.check()?;
    println!("the pool has grown to {}, and all are taken together", pool.permits_now().await?);
    three.release().await?;
    client.close().await?;
    Ok(())
}

async fn work(pool: &Semaphore, worker: usize, busy: &AtomicUsize, most: &AtomicUsize) -> Result<()> {
    let permit = pool.acquire().await?;
    most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    println!("worker {worker} has a permit");
    // Before each side effect: is it still ours? It costs no round trip.
    permit.check()?;
    tokio::time::sleep(Duration::from_millis(20)).await;
    busy.fetch_sub(1, Ordering::SeqCst);
    permit.release().await?;
    Ok(())
}
