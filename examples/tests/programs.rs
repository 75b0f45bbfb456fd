//! Every example ends with success. They are taken in as modules, so that no second cargo has to run.

// Nobody calls their `main` here.
#![allow(dead_code)]

use anyhow::{Context, Result};
use docent_server::testing::TestServer;

#[path = "../barrier.rs"]
mod barrier;
#[path = "../cache.rs"]
mod cache;
#[path = "../config.rs"]
mod config;
#[path = "../counter.rs"]
mod counter;
#[path = "../discovery.rs"]
mod discovery;
#[path = "../election.rs"]
mod election;
#[path = "../embedded.rs"]
mod embedded;
#[path = "../ids.rs"]
mod ids;
#[path = "../keep.rs"]
mod keep;
#[path = "../leader.rs"]
mod leader;
#[path = "../lock.rs"]
mod lock;
#[path = "../membership.rs"]
mod membership;
#[path = "../multi_lock.rs"]
mod multi_lock;
#[path = "../partitions.rs"]
mod partitions;
#[path = "../queue.rs"]
mod queue;
#[path = "../reentrant.rs"]
mod reentrant;
#[path = "../semaphore.rs"]
mod semaphore;
#[path = "../tour/main.rs"]
mod tour;
#[path = "../yielding.rs"]
mod yielding;

/// One test for each program that can be given any server. It runs twice against one server, as it would against
/// one that stays: nothing of the first run may be in the way of the second.
macro_rules! ends_well {
    ($($name:ident),*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            let server = TestServer::start().await?;
            for run in 1..=2 {
                $name::run(&server.connect_string()).await.with_context(|| format!("run {run}"))?;
            }
            Ok(())
        }
    )*};
}

ends_well!(
    barrier, cache, config, counter, discovery, election, ids, keep, leader, lock, membership, multi_lock,
    partitions, queue, reentrant, semaphore, yielding
);

#[tokio::test(flavor = "multi_thread")]
async fn embedded() -> Result<()> {
    embedded::run().await
}

#[tokio::test(flavor = "multi_thread")]
async fn tour() -> Result<()> {
    tour::run().await
}
