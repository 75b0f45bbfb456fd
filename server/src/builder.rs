//! A server put together in code.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Config, ConfigError, Warning};
use crate::{Server, ServerHandle, StartError};

/// Builds a [`Server`] whose settings are Apache's defaults where nothing else is said.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use docent_server::Server;
///
/// let server = Server::builder("/var/lib/docent")
///     .client_address("127.0.0.1:2181".parse()?)
///     .tick_time(Duration::from_secs(2))
///     .start()
///     .await?;
/// # server.stop().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before it is started"]
pub struct ServerBuilder {
    config: Config,
}

impl Server {
    /// A server whose data lies in `data_dir`, to be set up further. Without a [`ServerBuilder::client_address`] it
    /// listens on a free port of loopback.
    pub fn builder(data_dir: impl Into<PathBuf>) -> ServerBuilder {
        let mut config = Config::with_defaults(data_dir);
        config.client.address = Some("127.0.0.1".to_owned());
        config.client.port = Some(0);
        ServerBuilder { config }
    }

    /// A server as a `zoo.cfg` describes it, and what in the file is worth a warning.
    ///
    /// # Errors
    /// The file cannot be read, or something in it is refused.
    pub fn from_zoo_cfg(path: impl AsRef<Path>) -> Result<(Server, Vec<Warning>), ConfigError> {
        let (config, warnings) = Config::from_path(path)?;
        Ok((Server::new(config), warnings))
    }
}

impl ServerBuilder {
    /// Where clients connect (`clientPortAddress`, `clientPort`); port 0 takes a free one.
    pub fn client_address(mut self, address: SocketAddr) -> Self {
        self.config.client.address = Some(address.ip().to_string());
        self.config.client.port = Some(address.port());
        self
    }

    /// `tickTime`, in whole milliseconds. The bounds of session timeouts follow as 2 and 20 ticks.
    pub fn tick_time(mut self, tick: Duration) -> Self {
        let tick_ms = i32::try_from(tick.as_millis()).unwrap_or(i32::MAX / 20).clamp(1, i32::MAX / 20);
        let timing = &mut self.config.timing;
        (timing.tick_ms, timing.min_session_ms, timing.max_session_ms) = (tick_ms, 2 * tick_ms, 20 * tick_ms);
        self
    }

    /// A folder of its own for the transaction log (`dataLogDir`).
    pub fn log_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.config.data_log_dir = dir.into();
        self
    }

    /// Everything else that a `zoo.cfg` can say.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// The server, not started.
    #[must_use]
    pub fn build(self) -> Server {
        Server::new(self.config)
    }

    /// Recovers the database, binds the port and serves, on the runtime that this is called from.
    ///
    /// # Errors
    /// As [`Server::start`].
    ///
    /// # Cancel safety
    /// As [`Server::start`].
    pub async fn start(self) -> Result<ServerHandle, StartError> {
        self.build().start().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_built_server_serves_as_it_was_told() {
        let folder = tempfile::tempdir().unwrap();
        let logs = tempfile::tempdir().unwrap();
        let server = Server::builder(folder.path())
            .tick_time(Duration::from_secs(20))
            .log_dir(logs.path())
            .configure(|config| config.nodes.extended_types = true)
            .start()
            .await
            .unwrap();
        let client = docent::Client::builder(server.connect_string())
            .session_timeout(Duration::from_secs(30))
            .connect()
            .await
            .unwrap();
        let granted =
            server.look(|node| node.sessions().iter().map(|(_, session)| session.timeout_ms).collect());
        let granted: Vec<i32> = granted.await.unwrap();
        assert_eq!(granted, [40_000], "two ticks at least");
        client.create("/built", "yes").await.unwrap();
        client.close().await.unwrap();
        server.stop().await.unwrap();
        assert!(logs.path().join("version-2").read_dir().unwrap().next().is_some());
    }
}
