//! A lock that is entered again: code that takes the lock calls code that takes it too.
//!
//! `cargo run -p docent-examples --example reentrant [HOSTS]`

use std::time::Duration;

use anyhow::{Result, ensure};
use docent::Client;
use docent_recipes::{Lock, LockGuard, Recipes, Released};

#[tokio::main]
async fn main() -> Result<()> {
    let server = docent_examples::endpoint().await?;
    run(server.hosts()).await
}

/// Calls the inner function with and without the lock, and looks at the line.
pub(crate) async fn run(hosts: &str) -> Result<()> {
    let client = Client::connect(hosts).await?;
    let lock = client.lock("/examples/reentrant").identifier("this program");
    store(&lock, None).await?;

    let outer = lock.acquire_within(Duration::from_secs(10)).await?;
    // Tasks move between threads, so a lock is not entered again by the thread but by the guard. Without it, this
    // would stand in line behind itself.
    store(&lock, Some(&outer)).await?;
    outer.check()?;

    // Everybody in line, now and after each change; nothing is acquired for it.
    let mut line = lock.watch_contenders();
    if let Some(now) = line.next().await.transpose()? {
        println!("in line: {}", now.len());
        ensure!(now.len() == 1, "entering again has taken a place of its own");
    }
    ensure!(outer.release().await? == Released::Deleted, "the last guard has not released the lock");
    client.close().await?;
    Ok(())
}

async fn store(lock: &Lock, held: Option<&LockGuard>) -> Result<()> {
    let guard = match held {
        Some(guard) => guard.reenter()?,
        None => lock.acquire_within(Duration::from_secs(10)).await?,
    };
    println!("storing under token {}", guard.token());
    // The lock is free when the last guard of the hold has gone, whichever that is.
    let released = guard.release().await?;
    println!("inner release: {released:?}");
    Ok(())
}
