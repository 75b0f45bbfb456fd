//! Barriers: three programs wait for the start, work through two rounds together, and tell when all is done.
//!
//! `cargo run -p docent-examples --example barrier [HOSTS]`

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use docent::Client;
use docent_recipes::Recipes;

const PROGRAMS: usize = 3;
const BOUND: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<()> {
    let server = docent_examples::endpoint().await?;
    run(server.hosts()).await
}

/// Starts all, and waits for all.
pub(crate) async fn run(hosts: &str) -> Result<()> {
    let client = Client::connect(hosts).await?;
    // Curator's `DistributedBarrier` and kazoo's `Barrier` on the same path wait too.
    let start = client.barrier("/examples/start");
    start.set().await?;
    // A number that is used once: whoever starts the next run takes another path.
    let done = format!("/examples/done-{}", client.session()?.id());
    let steps = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let programs = ["ash", "birch", "cedar"].map(|name| work(hosts, name, &done, &steps));
    let directing = async {
        println!("the start is open: {}", start.lift().await?);
        client.countdown(&done, u32::try_from(PROGRAMS)?).wait_within(BOUND).await?;
        println!("all have told that they are done");
        anyhow::Ok(())
    };
    tokio::try_join!(futures::future::try_join_all(programs), directing)?;
    client.close().await?;
    Ok(())
}

async fn work(hosts: &str, name: &str, done: &str, steps: &[AtomicUsize; 2]) -> Result<()> {
    let client = Client::connect(hosts).await?;
    client.barrier("/examples/start").wait_within(BOUND).await?;
    for (round, step) in (0..).zip(steps) {
        // Curator's `DistributedDoubleBarrier`, with a path of its own for each round.
        let meeting = client.double_barrier("/examples/rounds", PROGRAMS).round(round);
        let inside = meeting.enter_within(BOUND).await?;
        println!("{name} works in round {round}");
        step.fetch_add(1, Ordering::SeqCst);
        // Nobody begins the next round before all have ended this one.
        inside.leave_within(BOUND).await?;
        ensure!(step.load(Ordering::SeqCst) == PROGRAMS, "{name} went on before all had worked");
    }
    // Counted once, also when a reply is lost.
    let left = client.countdown(done, u32::try_from(PROGRAMS)?).count_down().await?;
    println!("{name} is done: {left:?} to come");
    client.close().await?;
    Ok(())
}
