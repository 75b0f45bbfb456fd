//! A tour in one terminal: lock, leader, configuration and membership on an ensemble of three servers, with several
//! contenders each, while connections are cut, sessions ended and the leading server killed under them. It checks what it
//! shows, and ends with an error if something does not hold.
//!
//! `cargo run -p docent-examples --example tour`

mod config;
mod leader;
mod lock;
mod membership;
mod outage;
mod stage;

use anyhow::Result;
use stage::Stage;

#[tokio::main]
async fn main() -> Result<()> {
    run().await
}

/// Plays the five acts against an ensemble inside this process.
pub(crate) async fn run() -> Result<()> {
    let mut stage = Stage::open().await?;
    lock::play(&stage).await?;
    leader::play(&stage).await?;
    config::play(&stage).await?;
    membership::play(&stage).await?;
    outage::play(&mut stage).await?;
    stage.close().await
}
