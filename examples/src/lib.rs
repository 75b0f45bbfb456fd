//! What the examples share: a server to talk to. The programs themselves lie beside this crate's `Cargo.toml`, one file
//! per use; each runs with `cargo run -p docent-examples --example NAME [HOSTS]`.

use anyhow::{Context, Result};
use docent_server::testing::TestServer;

/// The server that an example talks to: one of its own, which ends with this value, or the one that was named.
#[derive(Debug)]
pub struct Endpoint {
    hosts: String,
    _own: Option<TestServer>,
}

impl Endpoint {
    /// What clients are given.
    #[must_use]
    pub fn hosts(&self) -> &str {
        &self.hosts
    }
}

/// The servers named by the program's first argument, as `host:port,host:port/path`; without one, a server inside
/// this process, on a free port and with a temporary folder.
///
/// # Errors
/// The server inside this process cannot be started.
///
/// # Cancel safety
/// Not cancel-safe: a dropped start may leave its temporary folder behind.
pub async fn endpoint() -> Result<Endpoint> {
    if let Some(hosts) = std::env::args().nth(1) {
        return Ok(Endpoint { hosts, _own: None });
    }
    let server = TestServer::start().await.context("starting a server inside this process")?;
    Ok(Endpoint { hosts: server.connect_string(), _own: Some(server) })
}

/// The programs in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

/// So do those that stand beside Curator's.
#[cfg(doctest)]
#[doc = include_str!("../../docs/from-curator.md")]
pub struct FromCurator;
