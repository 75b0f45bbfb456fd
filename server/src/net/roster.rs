//! Where the members of the ensemble are found, and how a connection to one is made.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

use crate::config::PeerAddress;
use crate::zab::PeerId;

/// Pending connections that the kernel holds for a port that only members connect to.
const BACKLOG: u32 = 128;

/// One of the two ports that servers connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerPort {
    /// Where votes are exchanged.
    Election,
    /// Where learners find their leader.
    Quorum,
}

/// Who belongs to the ensemble, by address.
#[derive(Clone, Debug)]
pub(crate) struct Roster {
    /// This server.
    pub(crate) me: PeerId,
    /// Every member, this server included.
    pub(crate) members: BTreeMap<PeerId, Vec<PeerAddress>>,
    /// Whether our ports listen on every address of the machine instead of our own (`quorumListenOnAllIPs`).
    pub(crate) listen_on_all: bool,
    /// Whether servers that are no members may call: they may be about to be asked in.
    pub(crate) open: bool,
}

impl Roster {
    /// Names and port numbers of a member's port; none for a stranger.
    pub(crate) fn targets(&self, peer: PeerId, port: PeerPort) -> Vec<(String, u16)> {
        let addresses = self.members.get(&peer).map(Vec::as_slice).unwrap_or_default();
        let number = |address: &PeerAddress| match port {
            PeerPort::Election => address.election_port,
            PeerPort::Quorum => address.quorum_port,
        };
        addresses.iter().map(|address| (address.host.clone(), number(address))).collect()
    }

    /// Everybody but this server.
    pub(crate) fn others(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.members.keys().copied().filter(move |peer| *peer != self.me)
    }

    /// Binds our port on each of our addresses.
    ///
    /// # Errors
    /// The address, and why it cannot be bound.
    pub(crate) async fn listen(&self, port: PeerPort) -> Result<Vec<TcpListener>, (String, io::Error)> {
        let mut listeners = Vec::new();
        let mut numbers = BTreeSet::new();
        for (host, number) in self.targets(self.me, port) {
            if !numbers.insert(number) && self.listen_on_all {
                continue;
            }
            let text = format!("{host}:{number}");
            let address = if self.listen_on_all {
                Ok(SocketAddr::from(([0, 0, 0, 0], number)))
            } else {
                first_address(&host, number).await
            };
            listeners.push(address.and_then(bind).map_err(|error| (text, error))?);
        }
        Ok(listeners)
    }
}

async fn first_address(host: &str, port: u16) -> io::Result<SocketAddr> {
    let unknown = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    lookup_host((host, port)).await?.next().ok_or_else(unknown)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Connects to the first of these that answers within `limit`, all together. Names are looked up now: a member may have
/// come back under another address.
pub(crate) async fn connect(targets: &[(String, u16)], limit: Duration) -> Option<TcpStream> {
    let attempt = async {
        for (host, port) in targets {
            let Ok(addresses) = lookup_host((host.as_str(), *port)).await else { continue };
            for address in addresses {
                if let Ok(stream) = TcpStream::connect(address).await
                    && !is_ourselves(&stream)
                {
                    // It only costs speed when it fails.
                    let _ = stream.set_nodelay(true);
                    return Some(stream);
                }
            }
        }
        None
    };
    tokio::time::timeout(limit, attempt).await.ok().flatten()
}

/// A port of the kernel's own range that nobody listens on may be chosen as the near end of the very connection to it,
/// which then is connected to itself.
fn is_ourselves(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(near), Ok(far)) if near == far)
}
