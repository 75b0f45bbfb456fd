//! One server with a folder of its own, which is removed with it.

use std::net::SocketAddr;
use std::sync::Arc;

use docent::SessionId;
use tempfile::TempDir;

use crate::config::Config;
use crate::{Server, ServerHandle, StartError};

/// A server on a free port of loopback that a test can hurt. Dropped, it stops and its data is removed.
#[derive(Debug)]
pub struct TestServer {
    server: Option<ServerHandle>,
    address: SocketAddr,
    blueprint: Server,
    /// Goes with the last server that has its data there.
    _folder: Arc<TempDir>,
}

/// Ticks of 200 ms, so that tests need not wait for seconds.
pub(super) fn quick_ticks(config: &mut Config) {
    let timing = &mut config.timing;
    (timing.tick_ms, timing.min_session_ms, timing.max_session_ms) = (200, 400, 40_000);
}

impl TestServer {
    /// Starts a server with ticks of 200 ms, so that session timeouts from 400 ms up are granted.
    ///
    /// # Errors
    /// There is no room for a folder or a port.
    pub async fn start() -> Result<Self, StartError> {
        Self::start_with(|_| {}).await
    }

    /// Starts a server whose configuration `change` has changed.
    ///
    /// # Errors
    /// As [`TestServer::start`], and what the changes bring about.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Result<Self, StartError> {
        let folder = tempfile::Builder::new().prefix("docent-test-").tempdir()?;
        let mut blueprint = Server::dev(folder.path());
        quick_ticks(blueprint.config_mut());
        change(blueprint.config_mut());
        Self::start_from(blueprint, Arc::new(folder)).await
    }

    /// Starts a server whose data is in a folder that it may share with others.
    pub(super) async fn start_from(blueprint: Server, folder: Arc<TempDir>) -> Result<Self, StartError> {
        let server = blueprint.clone().start().await?;
        let address = server.client_addr();
        Ok(TestServer { server: Some(server), address, blueprint, _folder: folder })
    }

    /// What clients are given. It stays the same over [`TestServer::restart`].
    #[must_use]
    pub fn connect_string(&self) -> String {
        self.address.to_string()
    }

    /// The folder with the data.
    #[must_use]
    pub fn data_dir(&self) -> &std::path::Path {
        &self.blueprint.config().data_dir
    }

    /// The running server; `None` between [`TestServer::stop`] and [`TestServer::restart`].
    #[must_use]
    pub fn handle(&self) -> Option<&ServerHandle> {
        self.server.as_ref()
    }

    /// Ends a session as if its time had run out. Returns when it has ended.
    pub async fn expire_session(&self, session: SessionId) {
        let Some(server) = &self.server else { return };
        server.expire_session(session).await;
        let gone = async {
            while server.look(move |node| node.sessions().get(session).is_some()).await == Some(true) {
                tokio::task::yield_now().await;
            }
        };
        // A server that cannot end a session in that time has failed, which the test will see by itself.
        let _ = tokio::time::timeout(crate::server::PATIENCE, gone).await;
    }

    /// Cuts the connection of one session; the session stays.
    pub async fn cut_connection(&self, session: SessionId) {
        if let Some(server) = &self.server {
            server.cut_connection(Some(session)).await;
        }
    }

    /// Cuts all connections; the sessions stay.
    pub async fn cut_connections(&self) {
        if let Some(server) = &self.server {
            server.cut_connection(None).await;
        }
    }

    /// Stops the server; its data and its port number are kept for [`TestServer::restart`].
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            // It may have ended by itself, which is what was asked for.
            let _ = server.stop().await;
        }
    }

    /// Ends the server as a crash would: nothing that waits is sent or answered. Its data and its port number are kept for
    /// [`TestServer::restart`].
    pub async fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill().await;
        }
    }

    /// Stops the server if it runs, and starts it again on the same data and the same port.
    ///
    /// # Errors
    /// As [`TestServer::start`]; the port may have been taken by somebody else meanwhile.
    pub async fn restart(&mut self) -> Result<(), StartError> {
        self.stop().await;
        let mut blueprint = self.blueprint.clone();
        blueprint.config_mut().client.port = Some(self.address.port());
        self.server = Some(blueprint.start().await?);
        Ok(())
    }

    /// How many watches the server holds.
    pub async fn watch_count(&self) -> usize {
        self.look(|node| node.watches().count()).await
    }

    /// Every path of the tree but those under `/zookeeper`, in order.
    pub async fn paths(&self) -> Vec<String> {
        self.look(|node| node.tree().paths().filter(|path| !path.starts_with("/zookeeper")).collect()).await
    }

    /// The sessions that are alive.
    pub async fn sessions(&self) -> Vec<SessionId> {
        self.look(|node| node.sessions().iter().map(|(session, _)| session).collect()).await
    }

    pub(super) async fn look<T: Default + Send + 'static>(
        &self,
        look: impl FnOnce(&crate::node::Node) -> T + Send + 'static,
    ) -> T {
        match &self.server {
            Some(server) => server.look(look).await.unwrap_or_default(),
            None => T::default(),
        }
    }
}
