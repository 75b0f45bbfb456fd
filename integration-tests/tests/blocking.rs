//! The client and the recipes in a program without a runtime: threads that wait, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::blocking::{Wait as _, iter, work};
use docent::{AddWatchMode, Client, Version, WatchItem};
use docent_recipes::{Recipes as _, Update, Watched};
use docent_server::testing::TestServer;

/// Everything here takes under a second; the bound is for a loaded machine.
const BOUND: Duration = Duration::from_secs(60);

#[test]
fn nodes_and_watches_without_a_runtime() -> Result<()> {
    let server = TestServer::start().wait()?;
    let client = Client::connect(server.connect_string()).wait()?;
    client.create("/a", "one").wait()?;
    let mut events = iter(client.watch("/a", AddWatchMode::Persistent).wait()?);
    let stat = client.set_data("/a", "two", Version::ANY).wait()?;
    let event = events.next_at_most(BOUND).context("no event")?;
    ensure!(matches!(&event, Some(WatchItem::Event(event)) if event.path == "/a"), "{event:?}");
    let node = client.get_data("/a").wait()?;
    ensure!(node.stat.mzxid == stat.mzxid && node.bytes() == "two");
    client.close().wait()?;
    Ok(())
}

#[test]
fn threads_exclude_each_other_by_a_lock() -> Result<()> {
    const ROUNDS: u32 = 20;
    let server = TestServer::start().wait()?;
    let hosts = server.connect_string();
    let inside = Arc::new(AtomicU32::new(0));
    let total = Arc::new(AtomicU32::new(0));
    let contender = |hosts: String, inside: Arc<AtomicU32>, total: Arc<AtomicU32>| {
        move || -> Result<()> {
            let client = Client::connect(hosts).wait()?;
            for round in 0..ROUNDS {
                let guard = client.lock("/locks/one").acquire().wait_at_most(BOUND).context("no lock")??;
                ensure!(inside.fetch_add(1, Ordering::SeqCst) == 0, "two are inside");
                guard.check()?;
                total.fetch_add(1, Ordering::SeqCst);
                inside.fetch_sub(1, Ordering::SeqCst);
                if round % 2 == 0 {
                    guard.release().wait()?;
                } else {
                    // Dropped in a thread without a runtime: the node goes all the same.
                    drop(guard);
                }
            }
            Ok(client.close().wait()?)
        }
    };
    let threads: Vec<_> = (0..4)
        .map(|_| std::thread::spawn(contender(hosts.clone(), Arc::clone(&inside), Arc::clone(&total))))
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a contender panicked"))??;
    }
    ensure!(total.load(Ordering::SeqCst) == 4 * ROUNDS);
    Ok(())
}

#[test]
fn a_value_is_followed_and_blocking_work_is_led() -> Result<()> {
    let server = TestServer::start().wait()?;
    let client = Client::connect(server.connect_string()).wait()?;
    client.create("/limit", "1").wait()?;
    let limit: Watched<u32> = client.watch_config("/limit").json().open().wait()?;
    let mut updates = iter(limit.updates());
    client.set_data("/limit", "2", Version::ANY).wait()?;
    match updates.next_at_most(BOUND).context("no update")? {
        Some(Update::Value { value, .. }) => ensure!(*value == 2),
        other => anyhow::bail!("{other:?}"),
    }
    let guard = client.lock("/work").acquire().wait()?;
    let done = guard.run(|_| work(|| std::thread::current().id())).wait()?;
    ensure!(done != std::thread::current().id(), "it has a thread of its own");
    Ok(())
}
