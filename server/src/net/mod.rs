//! Frames and queues: sockets on one side, the node's inbox on the other. What a frame means is said elsewhere.

mod client_port;
mod connection;
mod decode;
mod election_port;
mod link;
mod peer_codec;
mod peer_link;
#[cfg(test)]
mod peer_tests;
mod quorum_port;
mod roster;
#[cfg(feature = "tls")]
mod subject;
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
mod tls;
mod wire;

pub(crate) use client_port::{ClientPort, Door, PortLimits};
pub(crate) use election_port::Elections;
pub(crate) use link::{Link, Links};
pub(crate) use peer_link::{PeerLink, PeerLinks};
pub(crate) use quorum_port::{QuorumOptions, QuorumPort, ReceiveFn, Received};
pub(crate) use roster::{PeerPort, Roster};
pub(crate) use tls::Keys;

use std::sync::Arc;

use docent::Zxid;
use docent::proto::RequestHeader;

use crate::node::{Body, ConnId, Event};
use crate::zab::{LinkId, Message};

/// What connections tell the node's loop.
#[derive(Debug)]
pub(crate) enum Input {
    /// A connection is there; its link is where answers go.
    Opened(ConnId, Arc<Link>),
    /// Requests of one connection, in order, read at once.
    Requests(ConnId, Vec<(RequestHeader, Body)>),
    /// Anything else.
    Event(Event),
}

/// What the ports for other servers tell the node's loop.
#[derive(Debug)]
pub(crate) enum PeerInput {
    /// A quorum link is there; this is where messages go. Its messages follow.
    Opened(Arc<PeerLink>),
    /// Messages of one quorum link, in order, read at once.
    Messages(LinkId, Vec<Message>),
    /// The snapshot that was announced on a link is loaded, and on the disk but for its name.
    Snapshot {
        /// The link.
        link: LinkId,
        /// The transaction that it was announced with.
        zxid: Zxid,
        /// What was made of it.
        received: Received,
    },
    /// A quorum link is gone. Nothing of it follows.
    Lost(LinkId),
    /// Anything else.
    Event(Event),
}
