//! Counters: four programs count together, a reply more or less makes no difference, and a value is changed by all.
//!
//! `cargo run -p docent-examples --example counter [HOSTS]`

use anyhow::{Context as _, Result, ensure};
use docent::Client;
use docent_recipes::{Outcome, Recipes};

#[tokio::main]
async fn main() -> Result<()> {
    let server = docent_examples::endpoint().await?;
    run(server.hosts()).await
}

/// Lets all count.
pub(crate) async fn run(hosts: &str) -> Result<()> {
    let client = Client::connect(hosts).await?;
    // Curator's `DistributedAtomicLong` on the same path counts with us.
    let visits = client.counter("/examples/visits").exactly_once();
    let before = visits.get().await?;
    let programs = ["ash", "birch", "cedar", "fir"].map(|name| count(hosts, name));
    let counted: i64 = futures::future::try_join_all(programs).await?.iter().sum();
    let after = visits.get().await?;
    println!("{counted} visits were counted, from {before} to {after}");
    ensure!(after - before == counted, "not every visit was counted once");

    let names = client.shared_value("/examples/visitors").json::<Vec<String>>();
    let names = names.get().await?;
    println!("version {} of the list names {}", names.version, names.value.join(", "));
    client.close().await?;
    Ok(())
}

async fn count(hosts: &str, name: &str) -> Result<i64> {
    let client = Client::connect(hosts).await?;
    let visits = client.counter("/examples/visits").exactly_once();
    let mut counted = 0;
    for _ in 0..5 {
        match visits.add(1).await? {
            Outcome::Applied(sum) => println!("{name} counts the visit {sum}"),
            // Only when the session ended with the reply. Nothing was sent again, so nothing was counted twice.
            Outcome::Ambiguous => anyhow::bail!("{name} cannot know whether its visit was counted"),
        }
        counted += 1;
    }
    // Read, change, write, and again if somebody was faster.
    let visitors = client.shared_value("/examples/visitors").json::<Vec<String>>().seed(Vec::new());
    let enter = |old: &Vec<String>| {
        let mut names = old.clone();
        names.retain(|known| known != name);
        names.push(name.to_owned());
        names
    };
    let names = visitors.update(enter).await?.applied().context("the reply was lost")?;
    println!("{name} has signed, beside {} others", names.len() - 1);
    client.close().await?;
    Ok(counted)
}
