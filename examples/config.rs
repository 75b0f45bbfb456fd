//! Configuration: a typed value that everybody has at hand, and that arrives when it changes.
//!
//! `cargo run -p docent-examples --example config [HOSTS]`

use std::time::Duration;

use anyhow::{Context, Result};
use docent::Client;
use docent_recipes::{Recipes, Watched};
use serde::{Deserialize, Serialize};

const PATH: &str = "/examples/limits";

/// Stored as JSON. Other formats are a trait of two lines away, see `docent_recipes::Decode`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Limits {
    requests_per_second: u32,
    burst: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let server = docent_examples::endpoint().await?;
    run(server.hosts()).await
}

/// Lets a publisher raise the limits, and two services follow.
pub(crate) async fn run(hosts: &str) -> Result<()> {
    let publisher = Client::connect(hosts).await?;
    let limits = open(&publisher).await?;
    // A second run against the same server begins anew.
    limits.update(|_| Limits { requests_per_second: 100, burst: 10 }).await?;

    let services = ["ash", "birch"].map(|name| follow(hosts, name, 400));
    let publishing = async {
        for _ in 0..3 {
            // Conditional on the version: when another writer is faster, the closure is called on what it wrote.
            let now =
                limits.update(|old| Limits { requests_per_second: old.requests_per_second + 100, ..*old });
            println!("published {:?}", now.await?);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(publishing, futures::future::try_join_all(services))?;
    println!("both have the newest value");
    publisher.close().await?;
    Ok(())
}

async fn open(client: &Client) -> Result<Watched<Limits>> {
    let limits = client
        .watch_config(PATH)
        .json::<Limits>()
        .default_if_missing(Limits { requests_per_second: 100, burst: 10 })
        // Whatever does not pass is reported and never replaces the last good value.
        .validate(|limits| limits.burst <= limits.requests_per_second);
    Ok(limits.open().await?)
}

async fn follow(hosts: &str, name: &str, last: u32) -> Result<()> {
    let client = Client::connect(hosts).await?;
    let limits = open(&client).await?;
    // `limits.get()` is the value at any time, without waiting. This waits for changes.
    let mut values = limits.subscribe();
    while values.borrow_and_update().requests_per_second < last {
        values.changed().await.context("the watcher has ended")?;
        println!("{name} goes by {:?} now", limits.get());
    }
    client.close().await?;
    Ok(())
}
