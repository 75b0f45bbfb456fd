//! A multi-lock: money moves between accounts, each move under the locks of both, fenced inside the ensemble.
//!
//! `cargo run -p docent-examples --example multi_lock [HOSTS]`

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use docent::{Client, ParentMode, Version};
use docent_recipes::Recipes;

const ACCOUNTS: [&str; 3] = ["/examples/accounts/a", "/examples/accounts/b", "/examples/accounts/c"];

#[tokio::main]
async fn main() -> Result<()> {
    let server = docent_examples::endpoint().await?;
    run(server.hosts()).await
}

/// Moves money in a circle, all moves at the same time.
pub(crate) async fn run(hosts: &str) -> Result<()> {
    let client = Client::connect(hosts).await?;
    for account in ACCOUNTS {
        client.create_parents(account, ParentMode::Persistent).await?;
        if client.exists(account).await?.is_none() {
            client.create(account, "100").await?;
        }
    }
    let before = total(&client).await?;
    let [a, b, c] = ACCOUNTS;
    // Everybody names the locks in another order; they are always taken in the order of their paths.
    let moves = [(a, b), (b, c), (c, a), (b, a)].map(|(from, to)| transfer(&client, from, to, 10));
    futures::future::try_join_all(moves).await?;
    let after = total(&client).await?;
    println!("{before} before, {after} after");
    ensure!(before == after, "money was made or lost");
    client.close().await?;
    Ok(())
}

async fn transfer(client: &Client, from: &str, to: &str, amount: i64) -> Result<()> {
    let locks = [from, to].map(|account| account.replace("accounts", "locks"));
    let both = client.lock_all(locks).acquire_within(Duration::from_secs(10)).await?;
    let (giver, taker) = (balance(client, from).await? - amount, balance(client, to).await? + amount);
    // Applied only if both locks are still ours when the server gets to it.
    let change = both.txn().set_data(from, giver.to_string(), Version::ANY);
    change.set_data(to, taker.to_string(), Version::ANY).commit().await?;
    println!("{amount} from {from} to {to}");
    both.release().await?;
    Ok(())
}

async fn balance(client: &Client, account: &str) -> Result<i64> {
    let node = client.get_data(account).await?;
    std::str::from_utf8(&node.bytes())?.parse().with_context(|| format!("the balance of {account}"))
}

async fn total(client: &Client) -> Result<i64> {
    let mut total = 0;
    for account in ACCOUNTS {
        total += balance(client, account).await?;
    }
    Ok(total)
}
