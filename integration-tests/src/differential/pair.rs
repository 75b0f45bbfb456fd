//! Apache's server and ours side by side, each new and empty.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use docent::proto::Request;
use docent::proto::ops::AuthRequest;
use docent_server::node::access::digest_id;
use docent_server::{Server, ServerHandle};
use tokio::runtime::Runtime;

use super::Peer;
use super::pools::SUPER;
use super::program::World;
use super::side::Side;
use super::worn;
use crate::apache::copy_data;
use crate::backend::{Backend, Options, Running};
use crate::server_process::{Home, free_address, write_config};

/// Apache reads it as a property of the JVM only. Nothing is swept while a program runs.
const NO_SWEEP: &str = "-Dznode.container.checkIntervalMs=1000000000";

/// 3.8 sometimes leaves a connection open that is over; that much later it is known.
const FORGETFUL: Duration = Duration::from_secs(2);

/// Both servers. They end with this value.
pub struct Pair {
    pub(super) peer: Peer,
    pub(super) theirs: Side,
    pub(super) ours: Side,
    pub(super) world: World,
    apache: Running,
    _docent: ServerHandle,
    _home: Home,
    // Declared last: the server lives in it.
    runtime: Runtime,
}

fn config() -> Vec<String> {
    let mut lines: Vec<String> = [
        // No session ends by itself.
        "minSessionTimeout=60000",
        "maxSessionTimeout=600000",
        "extendedTypesEnabled=true",
        "enforceQuota=true",
        "forceSync=no",
        "preAllocSize=1024",
    ]
    .map(str::to_owned)
    .to_vec();
    lines.push(format!("DigestAuthenticationProvider.superDigest={}", digest_id(SUPER.as_bytes())));
    lines
}

impl Pair {
    /// Starts both. Ours runs in this process, on the configuration file that Apache's is given, too.
    ///
    /// # Errors
    /// When one of them does not start, or does not let the keeper in.
    pub fn start(peer: Peer) -> Result<Pair> {
        Pair::start_in(peer, World::Fresh)
    }

    pub(super) fn start_in(peer: Peer, world: World) -> Result<Pair> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let lines = config();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let backend = match peer {
            Peer::V38 => Backend::Apache38,
            Peer::V39 => Backend::ApacheNewer,
        };
        let worn = match world {
            World::Fresh => None,
            World::Worn => Some(worn::folder()?),
        };
        let data = worn.as_ref().map(tempfile::TempDir::path);
        let options = Options { config: &lines, jvm: &[NO_SWEEP], data };
        let apache = runtime.block_on(backend.start_with(options))?;
        let home = Home::new()?;
        let address = free_address()?;
        let file = write_config(
            &home,
            address,
            &[&lines[..], &["znode.container.checkIntervalMs=1000000000"]].concat(),
        )?;
        if let Some(data) = data {
            copy_data(&home, data)?;
        }
        let (server, _warnings) = Server::from_zoo_cfg(file).context("reading our configuration")?;
        let docent = runtime.block_on(server.start()).context("starting our server")?;
        let mut pair = Pair {
            peer,
            theirs: Side::new(apache.address(), (peer == Peer::V38).then_some(FORGETFUL)),
            ours: Side::new(docent.client_addr(), None),
            world,
            apache,
            _docent: docent,
            _home: home,
            runtime,
        };
        for side in [&mut pair.theirs, &mut pair.ours] {
            let auth = Some(Bytes::from_static(SUPER.as_bytes()));
            side.open_keeper(Request::Auth(AuthRequest { kind: 0, scheme: "digest".into(), auth }))?;
        }
        Ok(pair)
    }

    /// Which of Apache's servers it is.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The end of what Apache's server has printed.
    pub fn apache_log(&mut self) -> String {
        self.apache.process().log_tail()
    }

    /// The paths on which Apache's server holds watches now: 3.8 keeps those of connections that it failed to close.
    pub(super) fn ghosts(&self) -> Result<BTreeSet<String>> {
        if self.peer != Peer::V38 {
            return Ok(BTreeSet::new());
        }
        let text = self.runtime.block_on(self.apache.ask("wchp"))?;
        // Below each path stand the sessions, behind a tab.
        Ok(text.lines().filter(|line| !line.starts_with('\t')).map(str::to_owned).collect())
    }

    /// Stops both and starts new ones.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn renew(self) -> Result<Pair> {
        let peer = self.peer;
        drop(self);
        Pair::start(peer)
    }
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair")
            .field("peer", &self.peer)
            .field("runtime", &self.runtime)
            .finish_non_exhaustive()
    }
}
