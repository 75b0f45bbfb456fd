//! What agreement asks of the server around it.

use bytes::Bytes;
use docent::{SessionId, Zxid};

use super::{Ballot, Epochs, ForwardedRequest, LinkId, Message, PeerId};

/// One thing to do. They are carried out in order: what is sent behind an order to the disk is *not* meant to wait for it,
/// what has to wait is said when the disk has reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a notification on the election channel.
    Notify(Ballot),
    /// Open a quorum link to this peer.
    Dial {
        /// Whom.
        peer: PeerId,
        /// The text of a configuration that says where it is, if no configuration that counts here names it.
        hearsay: Option<Bytes>,
    },
    /// Send a message on a quorum link.
    Send {
        /// The link.
        link: LinkId,
        /// The message.
        message: Message,
    },
    /// Say when little waits to be sent on this link.
    AskRoom(LinkId),
    /// Close a quorum link.
    Hangup(LinkId),
    /// Read the log behind this record.
    ReadLog {
        /// For whom.
        link: LinkId,
        /// Where to begin.
        after: Zxid,
    },
    /// Append to the log.
    Append {
        /// The order's number.
        order: u64,
        /// The place.
        zxid: Zxid,
        /// The transaction.
        payload: Bytes,
    },
    /// Replace the epochs.
    SaveEpochs {
        /// The order's number.
        order: u64,
        /// The new ones.
        epochs: Epochs,
    },
    /// Cut the log behind this record, and forget what of it is not applied.
    Truncate {
        /// The order's number.
        order: u64,
        /// The last record that stays.
        after: Zxid,
    },
    /// The log has grown by a transaction of the leader's. It is not committed yet.
    Logged {
        /// Its place.
        zxid: Zxid,
        /// The transaction.
        payload: Bytes,
    },
    /// The leader says that these are committed, while it brings us level. They need not be applied before
    /// [`Output::Commit`] says so, and must not be seen by clients before.
    Foreseen(Zxid),
    /// Everything up to here is committed.
    Commit(Zxid),
    /// Everything in the log is to be applied although nobody knows yet that it is committed: a peer needs the whole
    /// state, and a state that lacks the end of the log would take from that peer what it has. No client may see it.
    ApplyAll,
    /// [`Replica::proved`](super::Replica::proved) has risen.
    Proved,
    /// Another configuration is committed, or under way, or not under way any more: see
    /// [`Replica::members`](super::Replica::members). It is to be written down before what is ordered behind this.
    Members,
    /// A learner needs the whole state: begin with it as soon as possible, see
    /// [`Replica::snapshot_begins`](super::Replica::snapshot_begins).
    SendSnapshot(LinkId),
    /// What this server is has changed.
    Turn(Turn),
    /// We lead, and a learner says something that concerns sessions and requests.
    FromLearner {
        /// Its link.
        link: LinkId,
        /// Who.
        peer: PeerId,
        /// What.
        said: FromLearner,
    },
    /// We follow, and the leader says something that concerns sessions and requests.
    FromLeader(FromLeader),
}

/// What a server has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It has no leader: nothing may be answered that must be current.
    Looking,
    /// It leads, a quorum has its history, and all of that is committed.
    Leading {
        /// Its epoch.
        epoch: u32,
    },
    /// It follows or observes, and has what the leader had committed.
    Learning {
        /// The leader's link.
        link: LinkId,
        /// Whom.
        leader: PeerId,
    },
}

/// What a learner says beyond the protocol's own affairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromLearner {
    /// One of its clients asks for something.
    Request(ForwardedRequest),
    /// One of its clients wants to take up this session.
    Revalidate(SessionId, i32),
    /// Its clients' sessions were heard.
    Touched(Vec<(SessionId, i32)>),
    /// It is gone.
    Gone,
}

/// What a leader says beyond the protocol's own affairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromLeader {
    /// It wants to know which sessions were heard; answer with [`Message::Ping`] and this zxid.
    Ping(Zxid),
    /// Whether a session may be taken up here.
    Revalidated(SessionId, bool),
    /// The oldest `sync` that waits is through.
    SyncDone,
}
