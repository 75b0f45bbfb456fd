//! The example programs run unchanged against real servers: Apache's, and our binary.

// Nobody calls their `main` here.
#![allow(dead_code)]

use std::time::Duration;

use anyhow::{Context as _, Result};
use docent_integration_tests::availability::Suite;
use docent_integration_tests::backend::Backend;

#[path = "../../examples/barrier.rs"]
mod barrier;
#[path = "../../examples/blocking.rs"]
mod blocking;
#[path = "../../examples/cache.rs"]
mod cache;
#[path = "../../examples/config.rs"]
mod config;
#[path = "../../examples/config_tree.rs"]
mod config_tree;
#[path = "../../examples/counter.rs"]
mod counter;
#[path = "../../examples/discovery.rs"]
mod discovery;
#[path = "../../examples/election.rs"]
mod election;
#[path = "../../examples/ids.rs"]
mod ids;
#[path = "../../examples/keep.rs"]
mod keep;
#[path = "../../examples/leader.rs"]
mod leader;
#[path = "../../examples/lock.rs"]
mod lock;
#[path = "../../examples/membership.rs"]
mod membership;
#[path = "../../examples/multi_lock.rs"]
mod multi_lock;
#[path = "../../examples/partitions.rs"]
mod partitions;
#[path = "../../examples/queue.rs"]
mod queue;
#[path = "../../examples/reentrant.rs"]
mod reentrant;
#[path = "../../examples/semaphore.rs"]
mod semaphore;
#[path = "../../examples/yielding.rs"]
mod yielding;

/// Each takes under a second.
const BOUND: Duration = Duration::from_secs(120);

async fn all_run(backend: Backend) -> Result<()> {
    let Some(_suite) = Suite::begin(&format!("examples on {backend:?}"), &backend.needs()) else {
        return Ok(());
    };
    let server = backend.start(&[]).await?;
    let hosts = server.connect_string();
    let run = async {
        lock::run(&hosts).await.context("lock")?;
        leader::run(&hosts).await.context("leader")?;
        election::run(&hosts).await.context("election")?;
        counter::run(&hosts).await.context("counter")?;
        barrier::run(&hosts).await.context("barrier")?;
        let waits = hosts.clone();
        docent::blocking::work(move || blocking::run(&waits)).await.context("blocking")?;
        config::run(&hosts).await.context("config")?;
        config_tree::run(&hosts).await.context("config_tree")?;
        cache::run(&hosts).await.context("cache")?;
        ids::run(&hosts).await.context("ids")?;
        keep::run(&hosts).await.context("keep")?;
        membership::run(&hosts).await.context("membership")?;
        discovery::run(&hosts).await.context("discovery")?;
        queue::run(&hosts).await.context("queue")?;
        partitions::run(&hosts).await.context("partitions")?;
        semaphore::run(&hosts).await.context("semaphore")?;
        multi_lock::run(&hosts).await.context("multi_lock")?;
        yielding::run(&hosts).await.context("yielding")?;
        reentrant::run(&hosts).await.context("reentrant")
    };
    tokio::time::timeout(BOUND, run).await.context("the examples do not end")?
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_38() -> Result<()> {
    all_run(Backend::Apache38).await
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_newer() -> Result<()> {
    all_run(Backend::ApacheNewer).await
}

#[tokio::test(flavor = "multi_thread")]
async fn docent_binary() -> Result<()> {
    all_run(Backend::DocentBinary).await
}
