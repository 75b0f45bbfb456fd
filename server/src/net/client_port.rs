//! The port that clients connect to.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::Connection;
use super::link::InWork;
use super::tls::Keys;
use super::wire::Wire;
use super::{Input, Link};
use crate::limits::HANDSHAKE_MS;
use crate::node::four_letter::FourLetterWord;
use crate::node::{ConnId, Event};
use crate::shell::Facts;

/// Bounds of the port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortLimits {
    /// Connections of one address; 0 for no bound (`maxClientCnxns`).
    pub(crate) per_address: usize,
    /// Connections in all; 0 for no bound (`maxCnxns`).
    pub(crate) total: usize,
    /// The largest frame, bytes (`jute.maxbuffer`).
    pub(crate) max_frame: usize,
    /// Whether the kernel probes silent connections (`clientTcpKeepAlive`).
    pub(crate) keep_alive: bool,
    /// Requests of all connections in work, beyond which those that have some are not read (`globalOutstandingLimit`).
    pub(crate) in_work: usize,
}

/// What all connections of the port share.
#[derive(Debug)]
pub(crate) struct Shared {
    limits: PortLimits,
    facts: Facts,
    addresses: Mutex<BTreeMap<IpAddr, usize>>,
    garbage: AtomicU64,
    refused: AtomicU64,
}

impl Shared {
    pub(super) fn max_frame(&self) -> usize {
        self.limits.max_frame
    }

    pub(super) fn count_garbage(&self) {
        self.garbage.fetch_add(1, Ordering::Relaxed);
    }

    /// The event for a four-letter word, or the text that answers it at once.
    pub(super) async fn admin(
        &self,
        conn: ConnId,
        peer: SocketAddr,
        word: FourLetterWord,
        rest: &[u8],
    ) -> Result<Event, String> {
        let refused = (self.garbage.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed));
        self.facts.admin(conn, peer, word, rest, refused).await
    }

    fn addresses(&self) -> std::sync::MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection in, if there is room for it.
    fn admit(&self, address: IpAddr) -> bool {
        let mut addresses = self.addresses();
        let total: usize = if self.limits.total == 0 { 0 } else { addresses.values().sum() };
        let count = addresses.entry(address).or_default();
        let full = (self.limits.per_address != 0 && *count >= self.limits.per_address)
            || (self.limits.total != 0 && total >= self.limits.total);
        if full {
            self.refused.fetch_add(1, Ordering::Relaxed);
            if *count == 0 {
                addresses.remove(&address);
            }
            return false;
        }
        *count += 1;
        true
    }

    pub(super) fn closed(&self, address: IpAddr) {
        let mut addresses = self.addresses();
        if let Some(count) = addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&address);
            }
        }
    }
}

/// Where clients come in.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    /// For TLS; without them, everything is plain.
    pub(crate) keys: Option<Arc<Keys>>,
    /// Whether clients without TLS may come, too, where there are keys.
    pub(crate) plain_too: bool,
}

impl Door {
    /// Whether nobody comes in without TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.keys.is_some() && !self.plain_too
    }
}

/// The listening ports: one as a rule, and one more for TLS. What is bounded is bounded for both together.
pub(crate) struct ClientPort {
    doors: Vec<Door>,
    shared: Arc<Shared>,
    inputs: mpsc::Sender<Input>,
    ids: Arc<AtomicU64>,
    in_work: Arc<InWork>,
}

impl ClientPort {
    pub(crate) fn new(
        doors: Vec<Door>,
        limits: PortLimits,
        facts: Facts,
        inputs: mpsc::Sender<Input>,
    ) -> Self {
        let shared = Shared {
            limits,
            facts,
            addresses: Mutex::default(),
            garbage: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        };
        let in_work = Arc::new(InWork::new(limits.in_work));
        ClientPort { doors, shared: Arc::new(shared), inputs, ids: Arc::default(), in_work }
    }

    /// Accepts until told to stop.
    pub(crate) async fn run(self, stop: CancellationToken, tasks: TaskTracker) {
        futures::future::join_all(self.doors.iter().map(|door| self.accept(door, &stop, &tasks))).await;
    }

    async fn accept(&self, door: &Door, stop: &CancellationToken, tasks: &TaskTracker) {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = door.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.open(door, stream, peer, stop, tasks),
                Err(error) => {
                    // Out of file descriptors, most likely. Others go on; trying at once again would only burn.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn open(
        &self,
        door: &Door,
        stream: TcpStream,
        peer: SocketAddr,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) {
        if !self.shared.admit(peer.ip()) {
            tracing::warn!(%peer, "too many connections; this one is closed");
            return;
        }
        // Both only cost speed or a late notice when they fail.
        let _ = stream.set_nodelay(true);
        if self.shared.limits.keep_alive {
            let _ = socket2::SockRef::from(&stream).set_keepalive(true);
        }
        let id = ConnId(self.ids.fetch_add(1, Ordering::Relaxed) + 1);
        let (inputs, shared, in_work) =
            (self.inputs.clone(), Arc::clone(&self.shared), Arc::clone(&self.in_work));
        let (keys, plain_too) = (door.keys.clone(), door.plain_too);
        let stop = stop.clone();
        tasks.spawn(async move {
            let counted = Arc::clone(&shared);
            let serve = async {
                let opened =
                    timeout(within_handshake(), Wire::open(stream, keys.as_deref(), plain_too)).await;
                match opened.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
                    Ok((wire, subject)) => {
                        let link = Arc::new(Link::new(wire, in_work));
                        Connection { id, peer, link, subject, inputs, shared }.run().await;
                    }
                    Err(error) => {
                        tracing::info!(%peer, %error, "no agreement on TLS");
                        shared.count_garbage();
                        shared.closed(peer.ip());
                    }
                }
            };
            if stop.run_until_cancelled(serve).await.is_none() {
                counted.closed(peer.ip());
            }
        });
    }
}

/// How long a connection may take until it says something.
fn within_handshake() -> Duration {
    Duration::from_millis(HANDSHAKE_MS as u64)
}
