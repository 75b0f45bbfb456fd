//! Service discovery: a program says where it is, another picks one that serves.
//!
//! `cargo run -p docent-examples --example discovery [HOSTS]`

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::Client;
use docent_recipes::{Provider, Recipes, ServiceInstance, Strategy};
use serde::{Deserialize, Serialize};

/// What instances say of themselves beside their address.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct About {
    zone: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let server = docent_examples::endpoint().await?;
    run(server.hosts()).await
}

/// Registers two instances, and picks from those that are there.
pub(crate) async fn run(hosts: &str) -> Result<()> {
    let client = Client::connect(hosts).await?;
    let discovery = client.discovery::<About>("/examples/services");
    let instance = |port, zone: &str| {
        let about = About { zone: zone.to_owned() };
        ServiceInstance::new("search")
            .at("10.0.0.1", port)
            .payload(about)
            .uri_spec("{scheme}://{address}:{port}/find")
    };
    // Registered as long as this value lives, also over lost sessions.
    let mut north = discovery.register(instance(8001, "north")).await?;
    let south = discovery.register(instance(8002, "south")).await?;

    let mut provider = discovery.provider("search").strategy(Strategy::RoundRobin).await?;
    see(&mut provider, |all| all.len() == 2).await?;
    for _ in 0..3 {
        let picked = provider.pick().context("nobody serves")?;
        println!("asking {}", picked.uri().unwrap_or_default());
    }

    // One that could not be reached is passed over for a while, by this provider alone.
    let picked = provider.pick().context("nobody serves")?;
    provider.note_error(&picked);
    provider.note_error(&picked);
    let other = provider.pick().context("nobody serves")?;
    ensure!(other.id != picked.id, "one that is down was picked");

    // Others see a change without a leave and a join.
    north.update(|north| north.payload = Some(About { zone: "north-east".to_owned() })).await?;
    let moved = |all: &[&About]| all.iter().any(|about| about.zone == "north-east");
    see(&mut provider, moved).await?;
    south.unregister().await?;
    see(&mut provider, |all| all.len() == 1).await?;
    println!("left: {:?}", discovery.instances("search").await?.instances.values());
    north.unregister().await?;
    client.close().await?;
    Ok(())
}

/// Waits until what is picked from is so.
async fn see(provider: &mut Provider<About>, so: impl Fn(&[&About]) -> bool) -> Result<()> {
    let seen = async {
        let mut view = provider.view();
        while !so(&view.instances.values().filter_map(|one| one.payload.as_ref()).collect::<Vec<_>>()) {
            view = provider.changed().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), seen).await.context("not seen")
}
