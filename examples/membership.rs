//! Membership: who is there, under `/GroupMembers`, in views that are numbered alike for everybody.
//!
//! `cargo run -p docent-examples --example membership [HOSTS]`

use std::time::Duration;

use anyhow::{Context, Result};
use docent::Client;
use docent_recipes::{Recipes, View, Views};
use serde::{Deserialize, Serialize};

const GROUP: &str = "/GroupMembers";

/// What each member tells about itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Service {
    port: u16,
}

#[tokio::main]
async fn main() -> Result<()> {
    let server = docent_examples::endpoint().await?;
    run(server.hosts()).await
}

/// Lets three services join and one leave, while somebody looks on.
pub(crate) async fn run(hosts: &str) -> Result<()> {
    let observer = Client::connect(hosts).await?;
    let mut views = observer.group(GROUP).views::<Service>();

    let mut members = Vec::new();
    for (name, port) in [("ash", 8001), ("birch", 8002), ("cedar", 8003)] {
        let client = Client::connect(hosts).await?;
        // One ephemeral node. After a lost session the member joins again by itself.
        let member = client.group(GROUP).join(name, &Service { port }).await?;
        members.push((client, member));
    }
    wait_for(&mut views, |view| ["ash", "birch", "cedar"].iter().all(|name| view.contains(name))).await?;

    let (client, member) = members.remove(1);
    member.leave().await?;
    client.close().await?;
    wait_for(&mut views, |view| !view.contains("birch")).await?;

    // A member that ends without a word goes with its session; an orderly end is seen at once.
    for (client, member) in members {
        member.leave().await?;
        client.close().await?;
    }
    observer.close().await?;
    Ok(())
}

/// Prints views until one is as it should be. Views are states: whoever is slow skips those between.
async fn wait_for(views: &mut Views<Service>, wanted: impl Fn(&View<Service>) -> bool) -> Result<()> {
    let until_wanted = async {
        loop {
            let view = views.next().await.context("the views have ended")?;
            let ports = view.members.values().map(|member| match member.payload.value() {
                Some(service) => format!("{} on port {}", member.id, service.port),
                None => member.id.clone(),
            });
            println!("view {}: {}", view.id, ports.collect::<Vec<_>>().join(", "));
            if wanted(&view) {
                return anyhow::Ok(());
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), until_wanted).await.context("the view does not come")?
}
