//! Everything that can happen to a server.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use docent::proto::{ConnectRequest, Request, RequestHeader};
use docent::{SessionId, Zxid};

use super::four_letter::FourLetterWord;
use crate::tree::Tree;
use crate::zab::{LinkId, Message, Notification, PeerId};

/// One client connection, numbered by the shell. Numbers are never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// The two clocks, read once per step by the shell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that never goes back. Deadlines are counted on it.
    pub mono_ms: i64,
    /// Milliseconds since 1970. Only written down, never counted on.
    pub wall_ms: i64,
}

/// What became of a request's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A request that a client may make.
    Request(Request),
    /// An operation that is known but whose record is not valid.
    Malformed {
        /// Whether the operation takes a place in the order of writes even when it fails.
        write: bool,
    },
    /// An operation that no client may ask for, or that nobody knows.
    Unknown,
}

/// What only the shell knows and an administrator's answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShellFacts {
    /// Who asks.
    pub peer: SocketAddr,
    /// File descriptors that the process has open, and may have; 0 where the system does not tell.
    pub file_descriptors: (u64, u64),
    /// Connections that were closed for bytes that are no frame or no request.
    pub garbage_connections: u64,
    /// Connections that were closed because there were too many.
    pub refused_connections: u64,
}

/// A whole state: what a snapshot and the log behind it hold.
#[derive(Debug)]
pub struct State {
    /// The tree, told up to its last zxid.
    pub tree: Tree,
    /// The sessions with their timeouts in milliseconds.
    pub sessions: Vec<(SessionId, i32)>,
}

/// Everything that can happen to a server.
#[derive(Debug)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// A connection has sent its first frame.
    Connect {
        /// The connection.
        conn: ConnId,
        /// Where it comes from.
        address: IpAddr,
        /// Its port there, for the listings.
        port: u16,
        /// The subject of its certificate, where it has proved one.
        subject: Option<String>,
        /// What it asks for.
        request: ConnectRequest,
    },
    /// A connection has sent a request.
    Client {
        /// The connection.
        conn: ConnId,
        /// The request's header.
        header: RequestHeader,
        /// Its record.
        body: Body,
    },
    /// A connection is gone.
    ClientLost(ConnId),
    /// The disk has carried out all orders up to this one.
    Synced {
        /// The last order that is carried out.
        order: u64,
    },
    /// A notification has come on the election channel.
    Notified {
        /// From whom.
        from: PeerId,
        /// What it says.
        notification: Notification,
    },
    /// The election channel to a peer stands, or is gone.
    ElectionLink {
        /// The peer.
        peer: PeerId,
        /// Whether it stands.
        up: bool,
    },
    /// The answer to [`Effect::Dial`](super::Effect::Dial): the quorum link, or `None` when the peer cannot be reached.
    Dialed {
        /// Whom we called.
        peer: PeerId,
        /// The link.
        link: Option<LinkId>,
    },
    /// A message on a quorum link. The first one on a link that a peer has opened is a
    /// [`Message::FollowerInfo`]; before it the link does not exist for the node.
    Peer {
        /// The link.
        link: LinkId,
        /// The message. Never [`Message::SnapPiece`] or [`Message::SnapEnd`].
        message: Message,
    },
    /// The snapshot that a leader announced with [`Message::Snap`] is here: it is on our disk under its name, durable,
    /// and loaded.
    PeerSnapshot {
        /// The link that it came on.
        link: LinkId,
        /// The transaction that it was announced with.
        zxid: Zxid,
        /// What it holds.
        state: Box<State>,
    },
    /// A quorum link is gone. Said once for each link, also after [`Effect::Hangup`](super::Effect::Hangup).
    PeerLost(LinkId),
    /// What waited to be sent on a quorum link has become little: more may follow. Said at most once for each
    /// [`Effect::AskRoom`](super::Effect::AskRoom).
    PeerHasRoom(LinkId),
    /// The answer to [`Effect::ReadLog`](super::Effect::ReadLog): the records right behind `after`, in order and without
    /// gaps; `None` when the log does not reach back so far.
    LogRead {
        /// For whom.
        link: LinkId,
        /// Where the records begin.
        after: Zxid,
        /// Zxid and payload of each; empty when there are none behind `after`.
        records: Option<Vec<(Zxid, Bytes)>>,
    },
    /// The answer to [`Effect::Truncate`](super::Effect::Truncate) with `reload`: what the disk holds now.
    Reloaded {
        /// The order to truncate.
        order: u64,
        /// What it holds.
        state: Box<State>,
    },
    /// So many pieces of the running snapshot are on their way to the disk.
    SnapshotProgress {
        /// Pieces written since the snapshot began.
        pieces: u64,
    },
    /// The running snapshot is complete on disk, or has failed.
    SnapshotEnded {
        /// Whether it is complete.
        complete: bool,
    },
    /// Somebody asks for one of the four-letter words that need the node.
    Admin {
        /// Where the answer goes.
        conn: ConnId,
        /// The word.
        word: FourLetterWord,
        /// What only the shell knows.
        shell: ShellFacts,
    },
    /// End this session as if its time had run out: for operators and tests.
    ExpireSession(SessionId),
}
