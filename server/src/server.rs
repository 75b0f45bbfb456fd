//! Starting and holding a server.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use docent::SessionId;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::config::{Config, HostPort, ServerId};
use crate::node::Node;
use crate::shell::{
    Control, Halt, Listen, LookFn, Membership, Options, Running, StartError, Stopped, read_logins, start,
};

/// A server that is to be started.
#[derive(Clone, Debug)]
pub struct Server {
    config: Config,
}

impl Server {
    /// A server with this configuration.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Server { config }
    }

    /// A standalone server for development: a free port on loopback, its data in `data_dir`, every four-letter word
    /// and every kind of node allowed.
    #[must_use]
    pub fn dev(data_dir: impl AsRef<Path>) -> Self {
        let mut config = Config::dev(data_dir.as_ref());
        config.client.port = Some(0);
        Server { config }
    }

    /// The members of an ensemble for development: as [`Server::dev`], with their data in `data_dir/1`, `data_dir/2` and so
    /// on. Start them all; one alone waits for the others.
    ///
    /// # Errors
    /// The folders cannot be made, or there are no free ports.
    pub fn dev_ensemble(data_dir: impl AsRef<Path>, size: u64) -> std::io::Result<Vec<Self>> {
        let mut ports = free_ports(2 * size)?.into_iter();
        let configs =
            Config::dev_ensemble(data_dir.as_ref(), size, || ports.next().expect("two for each member"));
        for (config, id) in configs.iter().zip(1..) {
            crate::config::myid::write(&config.data_dir, ServerId(id))?;
        }
        let with_client_port = |mut config: Config| {
            config.client.port = Some(0);
            Server { config }
        };
        Ok(configs.into_iter().map(with_client_port).collect())
    }

    /// The configuration, to be changed before the start.
    pub fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Recovers the database, binds the port and serves, on the runtime that this is called from.
    ///
    /// # Errors
    /// The folders are in use or damaged, or the port is taken. Nothing was changed that a later start would miss.
    ///
    /// # Cancel safety
    /// Not cancel-safe: a dropped start may leave its folders locked until the blocking part has ended.
    pub async fn start(self) -> Result<ServerHandle, StartError> {
        let id = if self.config.ensemble.members.is_empty() { None } else { self.config.my_id()? };
        let membership = Membership::of(&self.config, id)?;
        let listen = listen_addresses(&self.config, id).await?;
        let config = self.config.clone();
        let logins = tokio::task::spawn_blocking(move || read_logins(&config))
            .await
            .map_err(std::io::Error::other)??;
        let options = Options::of(&self.config, listen, membership, logins);
        let Running { address, secure_address, controls, stop, ended } = start(options).await?;
        Ok(ServerHandle { address, secure_address, controls, stop: Some(stop), ended })
    }
}

/// Ports of loopback that nobody listens on. They are below the range out of which the system gives ports to connections
/// that are made, so that they stay free while their server is down.
fn free_ports(count: u64) -> std::io::Result<BTreeSet<u16>> {
    const RANGE: std::ops::Range<u16> = 10_000..32_000;
    const ATTEMPTS_MAX: usize = 10_000;
    let mut ports = BTreeSet::new();
    for _ in 0..ATTEMPTS_MAX {
        if ports.len() as u64 == count {
            return Ok(ports);
        }
        let port = fastrand::u16(RANGE);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.insert(port);
        }
    }
    Err(std::io::Error::new(std::io::ErrorKind::AddrInUse, "there are no free ports"))
}

/// Where this configuration has clients connect, names looked up now.
async fn listen_addresses(config: &Config, id: Option<ServerId>) -> Result<Listen, StartError> {
    let (plain, secure) = (config.client_address(id)?, config.secure_client_address());
    if plain.is_none() && secure.is_none() {
        return Err(StartError::NoClientPort);
    }
    let security = &config.security;
    Ok(Listen {
        plain: look_up(plain).await?,
        secure: look_up(secure).await?,
        tls: security.tls.clone(),
        unified: security.port_unification,
    })
}

async fn look_up(place: Option<HostPort>) -> Result<Option<SocketAddr>, StartError> {
    let Some(HostPort { host, port }) = place else { return Ok(None) };
    let found = tokio::net::lookup_host((host.as_str(), port)).await?.next();
    found.map(Some).ok_or(StartError::NoSuchHost(host))
}

/// A running server. Dropped, it stops in the background.
#[derive(Debug)]
pub struct ServerHandle {
    address: SocketAddr,
    secure_address: Option<SocketAddr>,
    controls: tokio::sync::mpsc::Sender<Control>,
    stop: Option<oneshot::Sender<Halt>>,
    ended: JoinHandle<Stopped>,
}

impl ServerHandle {
    /// The address of the client port; of the one with TLS if there is no other.
    #[must_use]
    pub fn client_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address of the client port with TLS, if there is one.
    #[must_use]
    pub fn secure_client_addr(&self) -> Option<SocketAddr> {
        self.secure_address
    }

    /// What clients are given: an address that reaches this server from the same machine.
    #[must_use]
    pub fn connect_string(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        address.to_string()
    }

    /// Ends a session now, as if its time had run out. Returns before it is done.
    pub async fn expire_session(&self, session: SessionId) {
        self.control(Control::Expire(session)).await;
    }

    /// Cuts the connection of one session, or of all; sessions stay.
    pub async fn cut_connection(&self, session: Option<SessionId>) {
        self.control(Control::Cut(session)).await;
    }

    async fn control(&self, control: Control) {
        // A server that has ended has no sessions and no connections.
        let _ = self.controls.send(control).await;
    }

    /// Looks at the node between two steps; `None` when the server has ended.
    pub async fn look<T: Send + 'static>(&self, look: impl FnOnce(&Node) -> T + Send + 'static) -> Option<T> {
        let (send, receive) = oneshot::channel();
        let look = LookFn(Box::new(move |node| {
            // Who asked may have gone away.
            let _ = send.send(look(node));
        }));
        self.control(Control::Look(look)).await;
        receive.await.ok()
    }

    /// Stops in order: no new connections, the connections, the disk. Everything acknowledged is on disk anyway.
    ///
    /// # Errors
    /// The server had ended before, by itself.
    pub async fn stop(mut self) -> Result<(), Stopped> {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(Halt::InOrder);
        }
        match self.wait().await {
            Stopped::Told => Ok(()),
            other => Err(other),
        }
    }

    /// Drops everything at once, as a crash of the process would: nothing that waits is sent or answered, and nobody is
    /// told. Returns when the folders and ports are free.
    pub async fn kill(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(Halt::AtOnce);
        }
        self.wait().await;
    }

    /// Waits until the server ends.
    pub async fn wait(&mut self) -> Stopped {
        match (&mut self.ended).await {
            Ok(stopped) => stopped,
            Err(error) => Stopped::Failed(error.to_string()),
        }
    }
}

/// How long [`crate::testing`] waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
