//! Unique names and numbers: every order gets a name of its own, and every line of it a number, from several programs at once.
//!
//! `cargo run -p docent-examples --example ids [HOSTS]`

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use docent::Client;
use docent_recipes::Recipes;

#[tokio::main]
async fn main() -> Result<()> {
    let server = docent_examples::endpoint().await?;
    run(server.hosts()).await
}

/// Lets three programs take names and numbers, and looks that none came twice.
pub(crate) async fn run(hosts: &str) -> Result<()> {
    let programs = ["ash", "birch", "cedar"].map(|program| take_orders(hosts, program));
    let taken = futures::future::try_join_all(programs).await?;
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (name, number) in taken.into_iter().flatten() {
        ensure!(names.insert(name) && numbers.insert(number), "given out twice");
    }
    println!("{} names and numbers, each for one order", names.len());
    Ok(())
}

async fn take_orders(hosts: &str, program: &str) -> Result<Vec<(String, i64)>> {
    let client = Client::connect(hosts).await?;
    // One write each. The server counts, and the node says that the name is taken, until it is reclaimed.
    let orders = client.unique_names("/examples/orders").prefix("order-").data(program.to_owned());
    // One write for every hundred: the others are at hand.
    let lines = client.counter("/examples/order-lines").in_blocks(100);
    let mut taken = Vec::new();
    for _ in 0..3 {
        let order = orders.take().await?;
        let line = lines.next().await?;
        println!("{program}: {order} begins with line {line}");
        taken.push((order.to_string(), line));
        // The order is done with. Its name will not come again.
        order.reclaim().await?;
    }
    client.close().await?;
    Ok(taken)
}
