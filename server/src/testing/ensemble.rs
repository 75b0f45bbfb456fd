//! Several servers that a client can be given together.

use std::io;
use std::sync::Arc;

use docent::SessionId;
use tokio::time::{Duration, timeout};

use super::TestServer;
use super::single::quick_ticks;
use crate::config::Config;
use crate::server::PATIENCE;
use crate::zab::Role;
use crate::{Server, StartError};

/// How often a start is tried with other ports, when somebody else has taken one in the same moment.
const STARTS_MAX: usize = 5;

/// An ensemble inside a test: its servers share the process and talk over sockets of loopback. Dropped, they stop and
/// their data is removed.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use docent_server::testing::TestEnsemble;
///
/// let mut ensemble = TestEnsemble::start(3).await?;
/// let client = docent::Client::connect(ensemble.connect_string()).await?;
/// let leader = ensemble.wait_for_leader().await.ok_or("nobody leads")?;
/// ensemble.kill(leader).await;
/// client.create("/written", "without the old leader").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TestEnsemble {
    servers: Vec<TestServer>,
}

impl TestEnsemble {
    /// Starts an ensemble of `size` voters with ticks of 200 ms, and waits until all of them serve.
    ///
    /// # Errors
    /// As [`TestServer::start`], and when they do not find together in half a minute.
    pub async fn start(size: usize) -> Result<Self, StartError> {
        Self::start_with(size, |_| {}).await
    }

    /// Starts an ensemble whose members' configurations `change` has changed, one after the other.
    ///
    /// # Errors
    /// As [`TestEnsemble::start`], and what the changes bring about.
    pub async fn start_with(size: usize, mut change: impl FnMut(&mut Config)) -> Result<Self, StartError> {
        let mut attempt = 1;
        loop {
            match Self::try_start(size, &mut change).await {
                Err(StartError::ListenForPeers { source, .. })
                    if source.kind() == io::ErrorKind::AddrInUse && attempt < STARTS_MAX =>
                {
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    async fn try_start(size: usize, change: &mut impl FnMut(&mut Config)) -> Result<Self, StartError> {
        let folder = Arc::new(tempfile::Builder::new().prefix("docent-test-").tempdir()?);
        let mut servers = Vec::new();
        for mut blueprint in Server::dev_ensemble(folder.path(), size as u64)? {
            let config = blueprint.config_mut();
            quick_ticks(config);
            // Ten seconds each: machines that run many tests at once stand still at times. A server that is killed is
            // noticed by its connections.
            (config.timing.init_limit, config.timing.sync_limit) = (Some(50), Some(50));
            config.timing.leader_silence_ms = 10_000;
            change(config);
            servers.push(TestServer::start_from(blueprint, Arc::clone(&folder)).await?);
        }
        let ensemble = TestEnsemble { servers };
        if !ensemble.wait_until_serving().await {
            let reason = "the servers do not find together";
            return Err(StartError::Io(io::Error::new(io::ErrorKind::TimedOut, reason)));
        }
        Ok(ensemble)
    }

    /// What clients are given: every server, running or not.
    #[must_use]
    pub fn connect_string(&self) -> String {
        self.servers.iter().map(TestServer::connect_string).collect::<Vec<_>>().join(",")
    }

    /// The servers. The first one is the ensemble's server 1.
    pub fn servers_mut(&mut self) -> &mut [TestServer] {
        &mut self.servers
    }

    /// The servers. The first one is the ensemble's server 1.
    #[must_use]
    pub fn servers(&self) -> &[TestServer] {
        &self.servers
    }

    /// Stops a server in order; see [`TestServer::stop`].
    ///
    /// # Panics
    /// When there is no such server.
    pub async fn stop(&mut self, index: usize) {
        self.servers[index].stop().await;
    }

    /// Ends a server as a crash would; see [`TestServer::kill`].
    ///
    /// # Panics
    /// When there is no such server.
    pub async fn kill(&mut self, index: usize) {
        self.servers[index].kill().await;
    }

    /// Starts a server again on its data; see [`TestServer::restart`]. Returns before it has found the others.
    ///
    /// # Errors
    /// As [`TestServer::restart`].
    ///
    /// # Panics
    /// When there is no such server.
    pub async fn restart(&mut self, index: usize) -> Result<(), StartError> {
        self.servers[index].restart().await
    }

    /// The server that leads and serves now, if one does.
    pub async fn leader(&self) -> Option<usize> {
        for (index, server) in self.servers.iter().enumerate() {
            if server
                .look(|node| node.is_serving() && matches!(node.replica().role(), Role::Leading(_)))
                .await
            {
                return Some(index);
            }
        }
        None
    }

    /// Waits until a server leads and serves; `None` when none does in half a minute.
    pub async fn wait_for_leader(&self) -> Option<usize> {
        let found = async {
            loop {
                if let Some(leader) = self.leader().await {
                    return leader;
                }
                pause().await;
            }
        };
        timeout(PATIENCE, found).await.ok()
    }

    /// Waits until every server that runs serves; `false` when they do not in half a minute.
    pub async fn wait_until_serving(&self) -> bool {
        let serving = async {
            for server in self.servers.iter().filter(|server| server.handle().is_some()) {
                while !server.look(crate::node::Node::is_serving).await {
                    pause().await;
                }
            }
        };
        timeout(PATIENCE, serving).await.is_ok()
    }

    /// Ends a session as if its time had run out. Returns when it has ended where it is kept.
    pub async fn expire_session(&self, session: SessionId) {
        if let Some(leader) = self.wait_for_leader().await {
            self.servers[leader].expire_session(session).await;
        }
    }
}

/// Between two looks: a bounded wait for something that other tasks do.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}
