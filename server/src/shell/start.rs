//! From folders and a configuration to a running server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use docent::Zxid;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clock::Clock;
use super::ensemble::Membership;
use super::facts::Facts;
use super::log_source::LogSource;
use super::peers::{Durable, Peers};
use super::perform::Outside;
use super::receive::Receiving;
use super::reload::Reload;
use super::run::{Control, Halt, Loop, Sources, Stopped};
use crate::config::{DynamicError, TlsOptions};
use crate::limits::{EVENT_QUEUE_MAX, PEER_INPUTS_MAX};
use crate::load::{LoadError, LoadOptions, load};
use crate::net::{
    ClientPort, Door, Elections, Keys, PeerInput, PeerLinks, PeerPort, PortLimits, QuorumOptions, QuorumPort,
};
use crate::node::{Boot, Node, NodeConfig};
use crate::storage::{DirLock, Dirs, Disk, LockError, RealDisk, RecoverOptions, Writer, WriterOptions};
use crate::tree::TreeOptions;
use crate::zab::QuorumError;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The folders are used by another server, or cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The folders do not hold what a server can start from.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The configuration contradicts itself or the folders.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// Neither `clientPort` nor the server's own line says where clients connect.
    #[error("clientPort is not set, so no client could connect: set it in zoo.cfg")]
    NoClientPort,
    /// The client address names a host that does not exist.
    #[error("clientPortAddress {0} is not an address of this machine")]
    NoSuchHost(String),
    /// A voter belongs to no group, or a group has a member that does not vote.
    #[error(
        "server {server} is a voter without a group, or in a group without being a voter: list every voter in one"
    )]
    NotGrouped {
        /// Which server.
        server: u64,
    },
    /// The groups and weights can decide nothing.
    #[error(transparent)]
    Quorum(#[from] QuorumError),
    /// The members make no ensemble.
    #[error(transparent)]
    Members(DynamicError),
    /// The server lines do not fit into what servers tell each other.
    #[error("the server lines have {bytes} bytes, more than servers can tell each other: use shorter names")]
    MembersTooLong {
        /// Their bytes.
        bytes: usize,
    },
    /// A port for other servers cannot be bound.
    #[error("cannot listen for other servers on {address}: {source}")]
    ListenForPeers {
        /// The address.
        address: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The keys of the port with TLS cannot be used.
    #[error("no TLS for clients: {0}")]
    Tls(String),
    /// The client port cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The reason.
        source: std::io::Error,
    },
    /// The folder of the data cannot be made, or a thread not started.
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
}

/// Where clients connect; at one address at least.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listen {
    pub(crate) plain: Option<SocketAddr>,
    pub(crate) secure: Option<SocketAddr>,
    /// The keys of the secure port, and of the plain one if that takes both.
    pub(crate) tls: Option<TlsOptions>,
    /// Whether the plain port takes clients with TLS, too.
    pub(crate) unified: bool,
}

/// Everything that a start needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) data_dir: PathBuf,
    pub(crate) data_log_dir: Option<PathBuf>,
    pub(crate) listen: Listen,
    pub(crate) backlog: u32,
    pub(crate) port: PortLimits,
    pub(crate) node: NodeConfig,
    pub(crate) writer: WriterOptions,
    pub(crate) recover: RecoverOptions,
    pub(crate) purge: Option<(Duration, usize)>,
    pub(crate) facts: Facts,
    /// `None` for a standalone server.
    pub(crate) membership: Option<Membership>,
}

impl Options {
    /// How the folders are read.
    pub(super) fn load(&self) -> LoadOptions {
        LoadOptions {
            tree: tree_options(self),
            recover: self.recover.clone(),
            compression: self.writer.compression,
            digest: self.node.digest,
            member: self.node.ensemble.is_some(),
        }
    }
}

fn tree_options(options: &Options) -> TreeOptions {
    TreeOptions { hash_seed: fastrand::u64(..), extended_types: options.node.rules.extended_types }
}

/// A server that runs.
pub(crate) struct Running {
    /// Of the plain port, or of the secure one if that is the only one.
    pub(crate) address: SocketAddr,
    pub(crate) secure_address: Option<SocketAddr>,
    pub(crate) controls: mpsc::Sender<Control>,
    pub(crate) stop: oneshot::Sender<Halt>,
    pub(crate) ended: JoinHandle<Stopped>,
}

/// What runs beside the loop.
#[derive(Clone, Default)]
struct Background {
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Recovers, binds, and runs until stopped.
pub(crate) async fn start(options: Options) -> Result<Running, StartError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let dirs = Dirs::new(&options.data_dir, options.data_log_dir.as_deref());
    let (boot, lock) = {
        let (disk, dirs, options) = (Arc::clone(&disk), dirs.clone(), options.clone());
        tokio::task::spawn_blocking(move || open(&disk, &dirs, &options))
            .await
            .map_err(std::io::Error::other)??
    };
    let doors = doors(&options).await?;
    let bound = doors.iter().map(|door| Ok((door.listener.local_addr()?, door.is_secure())));
    let bound: Vec<(SocketAddr, bool)> = bound.collect::<std::io::Result<_>>()?;
    let Some(&(address, _)) = bound.first() else { return Err(StartError::NoClientPort) };
    let secure_address = bound.iter().find(|(_, secure)| *secure).map(|(address, _)| *address);
    let last = boot.state.tree.last_zxid();
    if let Some(file) = options.membership.as_ref().and_then(|membership| membership.file.as_ref()) {
        file.forget_cut(last);
    }
    let background = Background::default();
    let (peers, peer_inputs) = match &options.membership {
        Some(membership) => {
            let (peers, inputs) = join(membership, &options, &disk, &dirs, last, &background).await?;
            (Some(peers), Some(inputs))
        }
        None => (None, None),
    };
    let clock = Clock::new();
    let (reports_in, reports) = mpsc::unbounded_channel();
    let (known, reload) = (boot.epochs, Reload::new(&disk, &dirs, &options));
    let known = options.membership.is_some().then_some(known);
    let writer = Writer::start(disk, dirs, options.writer.clone(), last, known, move |report| {
        // When the loop is gone nobody waits for the disk any more.
        let _ = reports_in.send(report);
    })?;
    let node = Node::new(options.node.clone(), boot, clock.now());
    let (inputs_in, inputs) = mpsc::channel(EVENT_QUEUE_MAX);
    let (controls_in, controls) = mpsc::channel(16);
    let (stop_in, stop) = oneshot::channel();
    let plain_address = Some(address).filter(|address| Some(*address) != secure_address);
    let facts = options.facts.with_addresses(plain_address, secure_address);
    let port = ClientPort::new(doors, options.port, facts, inputs_in);
    let retain = options.purge.map(|(_, retain)| retain);
    let outside = Outside::new(writer.orders().clone(), retain, peers);
    let purge_every = options.purge.map(|(every, _)| every);
    let sources = Sources { inputs, peers: peer_inputs, reports, controls, stop, purge_every };
    let server = Loop::new(node, clock, outside, reload);
    let ended = tokio::spawn(supervise(server, sources, port, writer, lock, background));
    Ok(Running { address, secure_address, controls: controls_in, stop: stop_in, ended })
}

/// Binds the ports for clients.
async fn doors(options: &Options) -> Result<Vec<Door>, StartError> {
    let Listen { plain, secure, tls, unified } = options.listen.clone();
    let keys = match tls {
        None => None,
        Some(tls) => {
            let loaded =
                tokio::task::spawn_blocking(|| Keys::load(tls)).await.map_err(std::io::Error::other)?;
            Some(Arc::new(loaded.map_err(StartError::Tls)?))
        }
    };
    let bind =
        |address| listen(address, options.backlog).map_err(|source| StartError::Listen { address, source });
    let mut doors = Vec::new();
    if let Some(address) = plain {
        let keys = keys.clone().filter(|_| unified);
        doors.push(Door { listener: bind(address)?, keys, plain_too: true });
    }
    if let Some(address) = secure {
        doors.push(Door { listener: bind(address)?, keys, plain_too: false });
    }
    Ok(doors)
}

/// Binds the ports for other servers and begins to talk.
async fn join(
    membership: &Membership,
    options: &Options,
    disk: &Arc<dyn Disk>,
    dirs: &Dirs,
    last: Zxid,
    background: &Background,
) -> Result<(Peers, mpsc::Receiver<PeerInput>), StartError> {
    let election = listen_for_peers(membership, PeerPort::Election).await?;
    let quorum = listen_for_peers(membership, PeerPort::Quorum).await?;
    let (inputs_in, inputs) = mpsc::channel(PEER_INPUTS_MAX);
    let Background { stop, tasks } = background;
    let receiving = Receiving {
        disk: Arc::clone(disk),
        dir: dirs.snapshots.clone(),
        compression: options.writer.compression,
        digest: options.node.digest,
        extended_types: options.node.rules.extended_types,
    };
    let elections = Elections::start(election, &membership.roster, &inputs_in, stop, tasks);
    let quorum_options = QuorumOptions {
        roster: membership.roster.clone(),
        inputs: inputs_in.clone(),
        receive: receiving.into_fn(),
        // Apache allows what servers add to a request as much room again (`jute.maxbuffer.extrasize`).
        buffer_max: options.port.max_frame.saturating_mul(2),
        init_limit_ms: membership.node.init_limit_ms,
        stop: stop.clone(),
        tasks: tasks.clone(),
    };
    let peers = Peers {
        elections,
        port: QuorumPort::start(quorum, quorum_options),
        roster: membership.roster.clone(),
        file: membership.file.clone(),
        facts: options.facts.clone(),
        links: PeerLinks::default(),
        durable: Durable::new(last),
        log: Arc::new(LogSource::new(Arc::clone(disk), dirs.clone(), options.writer.log.payload_max)),
        inputs: inputs_in,
        tasks: tasks.clone(),
    };
    Ok((peers, inputs))
}

/// A port may still be held by the server that ran here before: it is tried again, a second apart, as in Apache.
async fn listen_for_peers(membership: &Membership, port: PeerPort) -> Result<Vec<TcpListener>, StartError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match membership.roster.listen(port).await {
            Ok(listeners) => return Ok(listeners),
            Err((address, source)) if attempts == membership.bind_attempts => {
                return Err(StartError::ListenForPeers { address, source });
            }
            Err((address, error)) => tracing::warn!(address, %error, "cannot listen for other servers yet"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Runs everything, and takes it down in order: no new connections, the loop, the connections, the disk, the lock.
async fn supervise(
    server: Loop,
    sources: Sources,
    port: ClientPort,
    writer: Writer,
    lock: DirLock,
    background: Background,
) -> Stopped {
    let Background { stop, tasks } = background;
    let accepting = tokio::spawn(port.run(stop.clone(), tasks.clone()));
    let ended = server.run(sources).await;
    stop.cancel();
    // The tasks end by themselves once the token is cancelled; an error is a panic of theirs, already printed.
    let _ = accepting.await;
    tasks.close();
    tasks.wait().await;
    let _ = tokio::task::spawn_blocking(move || {
        writer.join();
        drop(lock);
    })
    .await;
    ended
}

fn listen(address: SocketAddr, backlog: u32) -> std::io::Result<TcpListener> {
    let socket =
        if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

/// The folders, locked, and what they hold. Blocks.
fn open(disk: &Arc<dyn Disk>, dirs: &Dirs, options: &Options) -> Result<(Boot, DirLock), StartError> {
    std::fs::create_dir_all(&dirs.snapshots)?;
    std::fs::create_dir_all(&dirs.logs)?;
    let lock = DirLock::acquire(&**disk, dirs)?;
    Ok((load(disk, dirs, &options.load())?, lock))
}
