//! Partitions: work that is divided among all who are there, each part done by one, and divided anew when one goes.
//!
//! `cargo run -p docent-examples --example partitions [HOSTS]`

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::Client;
use docent_recipes::{Partition, Partitions, Recipes};

const SHELVES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

#[tokio::main]
async fn main() -> Result<()> {
    let server = docent_examples::endpoint().await?;
    run(server.hosts()).await
}

/// One has all, gives half of it to another, and gets it back.
pub(crate) async fn run(hosts: &str) -> Result<()> {
    let client = Client::connect(hosts).await?;
    let mut ash = client.partitioner("/examples/shelves", SHELVES).id("ash").await?;
    let all = become_ours(&mut ash, SHELVES.len()).await?;
    println!("ash has {:?}", names(&all));

    // Another comes. What goes to it is asked back, and nothing else.
    let mut elm = client.partitioner("/examples/shelves", SHELVES).id("elm").await?;
    let half = SHELVES.len() / 2;
    let mut kept = all;
    while kept.len() > half {
        let asked: Vec<_> = kept.iter().map(|one| Box::pin(one.asked_back())).collect();
        let (_, at, _) = futures::future::select_all(asked).await;
        // What is being done comes to its end here. With the drop the shelf is the other's.
        drop(kept.swap_remove(at));
    }
    let others = become_ours(&mut elm, half).await?;
    println!("ash has {:?}, elm {:?}", names(&kept), names(&others));
    for one in kept.iter().chain(&others) {
        one.check()?;
    }

    // It goes again. Each shelf comes back with a higher token, which tells what is late.
    let late = others.iter().map(Partition::token).max();
    drop((others, elm));
    let back = become_ours(&mut ash, half).await?;
    ensure!(back.iter().map(Partition::token).max() > late, "the tokens are not higher");
    println!("ash has {:?} again", names(&back));
    drop((kept, back, ash));
    client.close().await?;
    Ok(())
}

async fn become_ours(partitions: &mut Partitions, wanted: usize) -> Result<Vec<Partition>> {
    let mut ours = Vec::new();
    while ours.len() < wanted {
        let next = tokio::time::timeout(Duration::from_secs(10), partitions.next()).await;
        ours.push(next.context("no partition comes")?.context("none will come")??);
    }
    Ok(ours)
}

fn names(partitions: &[Partition]) -> Vec<&str> {
    let mut names: Vec<_> = partitions.iter().map(Partition::name).collect();
    names.sort_unstable();
    names
}
