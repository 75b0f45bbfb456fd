//! A cache: a part of the tree at hand, without asking, and every change of it with what was there before.
//!
//! `cargo run -p docent-examples --example cache [HOSTS]`

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use docent::{Client, ParentMode, Version};
use docent_recipes::{Cache, CacheEvent, CacheEvents, Depth, Recipes};

const ROOT: &str = "/examples/services";

#[tokio::main]
async fn main() -> Result<()> {
    let server = docent_examples::endpoint().await?;
    run(server.hosts()).await
}

/// Lets three services come, one move and all go, while somebody has them at hand.
pub(crate) async fn run(hosts: &str) -> Result<()> {
    let observer = Client::connect(hosts).await?;
    // `Depth::Node` is the node alone, `Depth::Children` it and its children. One watch is enough for each.
    let cache = observer.cache(ROOT).depth(Depth::Tree).open().await?;
    let mut events = cache.events();

    let services = Client::connect(hosts).await?;
    for (service, address) in
        [("mail/ash", "10.0.0.1"), ("search/birch", "10.0.0.2"), ("search/cedar", "10.0.0.3")]
    {
        let path = format!("{ROOT}/{service}");
        services.create_parents(&path, ParentMode::Persistent).await?;
        services.create(&path, address).ephemeral().await?;
    }
    wait_for(&mut events, || searching(&cache) == ["10.0.0.2", "10.0.0.3"]).await?;

    services.set_data(format!("{ROOT}/search/birch"), "10.0.0.9", Version::ANY).await?;
    wait_for(&mut events, || searching(&cache) == ["10.0.0.9", "10.0.0.3"]).await?;

    services.close().await?;
    wait_for(&mut events, || searching(&cache).is_empty()).await?;
    // Whoever was too slow for the events, and is told so, begins again with what is there.
    let now = events.restart();
    ensure!(now.get(&format!("{ROOT}/search")).is_some(), "the node above them stays");
    cache.close().await;
    observer.close().await?;
    Ok(())
}

/// Where to search, as it is known here. No server is asked.
fn searching(cache: &Cache) -> Vec<String> {
    let services = cache.children(&format!("{ROOT}/search"));
    services
        .iter()
        .filter_map(|node| Some(String::from_utf8_lossy(node.data.as_ref()?).into_owned()))
        .collect()
}

/// Prints events until the view is as it should be.
async fn wait_for(events: &mut CacheEvents, wanted: impl Fn() -> bool) -> Result<()> {
    let until_wanted = async {
        while !wanted() {
            match events.next().await.context("the events have ended")? {
                CacheEvent::Created(node) => println!("{} is there: {:?}", node.path, node.data),
                CacheEvent::Changed { old, new } => {
                    println!("{}: {:?} became {:?}", new.path, old.data, new.data)
                }
                CacheEvent::Deleted(node) => println!("{} is gone, it was {:?}", node.path, node.data),
                CacheEvent::Lagged(missed) => println!("{missed} events were missed"),
                other => println!("{other:?}"),
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(10), until_wanted).await.context("the view does not come")?
}
