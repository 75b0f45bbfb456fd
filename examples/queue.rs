//! Queues: what one puts another takes, once; and work that is done, at least once, though a worker goes away in the middle.
//!
//! `cargo run -p docent-examples --example queue [HOSTS]`

use std::time::Duration;

use anyhow::{Result, ensure};
use docent::Client;
use docent_recipes::{QueueOrder, Recipes};
use serde::{Deserialize, Serialize};

/// What is to be done.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    dish: String,
    plates: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let server = docent_examples::endpoint().await?;
    run(server.hosts()).await
}

/// Puts and takes, and does work that is given up once.
pub(crate) async fn run(hosts: &str) -> Result<()> {
    let client = Client::connect(hosts).await?;
    let limit = Duration::from_secs(10);

    // At most once: what is taken is gone from the servers.
    let notes = client.queue("/examples/notes").order(QueueOrder::Priority);
    notes.put("water the plants").priority(5).await?;
    notes.put("the kitchen burns").priority(-1).await?;
    for _ in 0..2 {
        let taken = notes.take_within(limit).await?;
        println!("{}: {}", taken.name(), String::from_utf8_lossy(&taken.values()[0]));
    }
    ensure!(notes.try_take().await?.is_none(), "taken, and still there");

    // At least once: what is claimed stays until its work is done.
    let orders = client.work_queue("/examples/orders");
    orders.put_json(&Order { dish: "soup".to_owned(), plates: 2 }).await?;
    let job = orders.claim_within(limit).await?;
    println!("{:?}, by the token {}", job.json::<Order>()?, job.token());
    ensure!(orders.try_claim().await?.is_none(), "claimed twice");

    // The first cook goes home. Another gets the order, with a higher token.
    let first = job.token();
    drop(job);
    let job = orders.claim_within(limit).await?;
    ensure!(job.token() > first, "the token is not higher");
    job.check()?;
    println!("cooking by the token {}", job.token());
    job.complete().await?;
    ensure!(orders.length().await? == 0, "done, and still there");
    client.close().await?;
    Ok(())
}
