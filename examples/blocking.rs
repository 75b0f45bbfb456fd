//! A program without a runtime: the same verbs, waited for.
//!
//! `cargo run -p docent-examples --example blocking [HOSTS]`

use std::thread;

use anyhow::{Context as _, Result};
use docent::Client;
use docent::blocking::{Wait as _, work};
use docent_recipes::Recipes;

fn main() -> Result<()> {
    let server = docent_examples::endpoint().wait()?;
    run(server.hosts())
}

/// Three threads write a report, one after the other.
pub(crate) fn run(hosts: &str) -> Result<()> {
    let threads: Vec<_> = ["ash", "birch", "cedar"]
        .into_iter()
        .map(|name| {
            let hosts = hosts.to_owned();
            thread::spawn(move || report(&hosts, name))
        })
        .collect();
    for thread in threads {
        thread.join().ok().context("a thread panicked")??;
    }
    Ok(())
}

fn report(hosts: &str, name: &'static str) -> Result<()> {
    let client = Client::connect(hosts).wait()?;
    let guard = client.lock("/examples/report").acquire().wait()?;
    println!("{name} writes the report with token {}", guard.token());
    // Work that blocks, stopped from counting when the lock is lost meanwhile.
    let pages = guard.run(|fence| work(move || if fence.check().is_ok() { 3 } else { 0 })).wait()?;
    println!("{name} wrote {pages} pages");
    client.close().wait()?;
    Ok(())
}
