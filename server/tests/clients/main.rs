//! What clients meet at a server's bounds, and what it offers beyond Apache's operations: a server in this process, and
//! the client that everybody uses.

mod large_replies;
mod local_sessions;
mod subtree;
mod throttling;

use std::time::Duration;

use docent::{Client, SessionId};
use docent_server::config::Config;
use docent_server::node::ConnId;
use docent_server::{Server, ServerHandle};
use tempfile::TempDir;

/// A server with a folder of its own.
struct Served {
    server: ServerHandle,
    _folder: TempDir,
}

impl Served {
    async fn start(change: impl FnOnce(&mut Config)) -> Served {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let server = Server::builder(folder.path())
            .tick_time(Duration::from_secs(15))
            .configure(change)
            .start()
            .await
            .expect("the server starts");
        Served { server, _folder: folder }
    }

    /// The connection that speaks for a session.
    async fn connection_of(&self, session: SessionId) -> Option<ConnId> {
        let found =
            self.server.look(move |node| node.sessions().get(session).and_then(|session| session.conn));
        found.await.expect("the server runs")
    }

    async fn client(&self) -> Client {
        let hosts = self.server.connect_string();
        Client::builder(hosts).session_timeout(Duration::from_secs(30)).connect().await.expect("a session")
    }
}
