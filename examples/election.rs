//! An election: three candidates do the leader's work one after another, and one who only looks sees each of them.
//!
//! `cargo run -p docent-examples --example election [HOSTS]`

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::Client;
use docent_recipes::{FencingToken, Leader, Recipes};

const PATH: &str = "/examples/election";

#[tokio::main]
async fn main() -> Result<()> {
    let server = docent_examples::endpoint().await?;
    run(server.hosts()).await
}

/// Lets each candidate do the work once.
pub(crate) async fn run(hosts: &str) -> Result<()> {
    let client = Client::connect(hosts).await?;
    // Makes no node and keeps one watch, whatever happens at the path.
    let mut leaders = client.observe_leader(PATH);
    ensure!(leaders.next().await.context("a first look")??.is_none(), "somebody leads already");

    let candidates = ["ash", "birch", "cedar"].map(|name| work_once(hosts, name));
    let working = futures::future::try_join_all(candidates);
    let looking = async {
        while let Some(seen) = leaders.next().await {
            match seen? {
                Some(leader) => println!("seen: {} leads in epoch {}", leader.id(), leader.epoch),
                None => println!("seen: nobody leads"),
            }
        }
        anyhow::Ok(())
    };
    let mut epochs = tokio::select! {
        epochs = working => epochs?,
        end = looking => return end.context("the stream has ended"),
    };
    epochs.sort();
    ensure!(epochs.windows(2).all(|pair| pair[0] < pair[1]), "two leaders had one epoch: {epochs:?}");
    client.close().await?;
    Ok(())
}

async fn work_once(hosts: &str, name: &'static str) -> Result<FencingToken> {
    let client = Client::connect(hosts).await?;
    // Curator's `LeaderSelector` on the same path takes part. When the leadership is lost the work is told, has two
    // seconds to put things down, is dropped, and begins again with the next leadership.
    let election = client.election(PATH).id(name).grace(Duration::from_secs(2));
    let epoch = election.run(|leader: Leader| lead(name, leader)).await??;
    client.close().await?;
    Ok(epoch)
}

async fn lead(name: &str, leader: Leader) -> Result<FencingToken> {
    leader.publish(format!("{name}:2181")).await?;
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(50)) => println!("{name} has done the work"),
        cause = leader.lost() => println!("{name} puts its things down: {cause}"),
    }
    // Whatever it changes gets the epoch, which stops those who are late.
    Ok(leader.epoch())
}
