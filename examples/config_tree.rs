//! Configuration in many nodes, as one struct: what a deployment changes together is seen together.
//!
//! `cargo run -p docent-examples --example config_tree [HOSTS]`

use std::collections::BTreeMap;

use anyhow::Result;
use docent::{Client, CreateMode, ErrorCode, ParentMode, Transaction, Version};
use docent_recipes::Recipes;
use serde::Deserialize;

const PATH: &str = "/examples/shop";

/// `/examples/shop/database` and `/examples/shop/pool` are numbers and texts in JSON, `/examples/shop/flags` a folder.
#[derive(Debug, Deserialize)]
struct Shop {
    database: String,
    pool: u32,
    #[serde(default)]
    flags: BTreeMap<String, bool>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let server = docent_examples::endpoint().await?;
    run(server.hosts()).await
}

/// Moves a service from one database to another, whose pool has another size.
pub(crate) async fn run(hosts: &str) -> Result<()> {
    let (operator, service) = (Client::connect(hosts).await?, Client::connect(hosts).await?);
    for (name, json) in [("database", "\"db-1\""), ("pool", "10"), ("flags/search", "true")] {
        put(&operator, &format!("{PATH}/{name}"), json).await?;
    }

    let shop = service.config_tree::<Shop>(PATH).validate(|shop| shop.pool > 0).open().await?;
    println!("begins with {:?}", shop.get());

    let moving = Transaction::new().set_data(format!("{PATH}/database"), "\"db-2\"", Version::ANY).set_data(
        format!("{PATH}/pool"),
        "40",
        Version::ANY,
    );
    operator.multi(moving).await?;

    // No value ever shows the new database with the old pool.
    let mut values = shop.subscribe();
    let moved = values.wait_for(|shop| shop.database == "db-2").await?.clone();
    println!(
        "goes on with {} and a pool of {}, search is on: {}",
        moved.database, moved.pool, moved.flags["search"]
    );
    anyhow::ensure!(moved.pool == 40);
    for client in [operator, service] {
        client.close().await?;
    }
    Ok(())
}

/// Writes a leaf, which may be there from an earlier run.
async fn put(client: &Client, path: &str, json: &'static str) -> Result<()> {
    client.create_parents(path, ParentMode::Persistent).await?;
    match client.create(path, json).mode(CreateMode::Persistent).await {
        Err(error) if error.code() == Some(ErrorCode::NODE_EXISTS) => {
            client.set_data(path, json, Version::ANY).await?;
        }
        created => drop(created?),
    }
    Ok(())
}
