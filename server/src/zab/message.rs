//! What servers say to each other, as values. Which bytes that is: `net/peer_codec`.
//!
//! Two channels lead from server to server. On the *election* channel goes one kind of message, the
//! [`Notification`], from everybody to everybody; it may be lost, repeated, or years old. On a *quorum link*, which
//! a learner opens to its leader, goes a conversation in order without gaps; it ends as a whole when anything is
//! wrong with it, and what is still under way in it counts no more.
//!
//! ```text
//! learner                         leader
//! FollowerInfo ─────────────────►           discovery: which epochs are promised
//!              ◄───────────────── LeaderInfo
//! AckEpoch ─────────────────────►
//!              ◄───────────────── Diff | Trunc | Snap, then Proposal + Commit …    synchronization
//!              ◄───────────────── NewLeader
//! Ack(epoch) ───────────────────►
//!              ◄───────────────── UpToDate
//! Request ──────────────────────►           broadcast
//!              ◄───────────────── Proposal, Commit (to an observer: Inform)
//! Ack ──────────────────────────►
//! ```

use bytes::Bytes;
use docent::proto::OpCode;
use docent::{SessionId, Zxid};

use super::PeerId;

/// One quorum link, numbered by the shell. Numbers are never used twice, so what comes late from a link that is gone
/// is known for what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// What a server is doing, as it tells others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It has no leader and votes for one.
    Looking,
    /// It follows.
    Following,
    /// It leads.
    Leading,
    /// It follows without a vote.
    Observing,
}

/// Whom a server wants to lead, and why: the history that the candidate has.
///
/// Votes are ordered as elections order them: the epoch that the candidate has followed, then the end of its log, then
/// its number. All are compared with their signs, as Apache's servers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vote {
    /// The candidate's `currentEpoch` (`peerEpoch` on the wire).
    pub epoch: i64,
    /// The end of the candidate's log.
    pub zxid: Zxid,
    /// The candidate.
    pub leader: PeerId,
}

/// The message of the election channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// What the sender is doing.
    pub standing: Standing,
    /// Its vote; `None` from servers that have none (observers).
    pub vote: Option<Vote>,
    /// The round of elections that the vote belongs to (`electionEpoch`).
    pub round: i64,
    /// The format of the message: 2 since ZooKeeper 3.5; 0 from servers that say none.
    pub format: i32,
    /// The sender's committed configuration as text; empty before format 2.
    pub config: Bytes,
    /// What the sender can do beyond Apache's protocol.
    pub capability: Option<Capability>,
    /// The text of the configuration that the sender has in its log and does not know to be committed; empty if there is
    /// none. It is said where Apache's servers do not read, and only beside a capability.
    pub under_way: Bytes,
}

/// What a server can do beyond Apache's protocol. It is said in bytes that Apache's servers do not read, and used only
/// between two servers that both said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// The version of what follows from it; now 1. From 1 on: a leader pings every
    /// [`QUICK_PING_MS`](crate::limits::QUICK_PING_MS), a learner leaves a leader that is silent for
    /// [`LEADER_SILENCE_MS`](crate::limits::LEADER_SILENCE_MS), and one `Ack` stands for all before it.
    pub version: u8,
    /// A learner needs the whole state, whatever its log says: it cannot go back to where a leader wants its log cut.
    pub whole: bool,
}

impl Capability {
    /// Ours.
    pub const OURS: Capability = Capability { version: 1, whole: false };
}

/// A write, a `sync` or the beginning of a session that a learner's client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedRequest {
    /// The client's session.
    pub session: SessionId,
    /// The client's xid; 0 for what a server does by itself. Session and xid tell the learner which commit is the
    /// answer.
    pub cxid: i32,
    /// What is asked.
    pub op: OpCode,
    /// The record as the client sent it; for [`OpCode::CreateSession`] four bytes, the timeout in milliseconds.
    pub body: Bytes,
    /// What the client has proved to be: scheme and id.
    pub identities: Vec<(String, String)>,
}

/// A message of a quorum link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Learner: here I am. On the wire `FOLLOWERINFO` or `OBSERVERINFO`.
    FollowerInfo {
        /// Who.
        peer: PeerId,
        /// The largest epoch that it has promised to take part in.
        accepted_epoch: u32,
        /// It has no vote.
        observer: bool,
        /// The version of the configuration that it knows.
        config_version: i64,
        /// What it can do beyond Apache's protocol.
        capability: Option<Capability>,
    },
    /// Leader: this will be my epoch.
    LeaderInfo {
        /// Higher than any that a quorum had promised.
        epoch: u32,
        /// What it can do beyond Apache's protocol.
        capability: Option<Capability>,
    },
    /// Learner: promised, and this is my history.
    AckEpoch {
        /// The end of its log.
        last: Zxid,
        /// The epoch that it has followed; `None` if this epoch had been promised before, which is no second promise.
        current: Option<u32>,
    },
    /// Leader: your history is a beginning of mine; the rest follows.
    Diff(Zxid),
    /// Leader: forget everything after this; the rest follows.
    Trunc(Zxid),
    /// Leader: forget everything; the state right after this transaction follows in [`Message::SnapPiece`]s.
    Snap(Zxid),
    /// Leader: a piece of a snapshot's body. A receiver gets the whole as [`Event::PeerSnapshot`](crate::node::Event).
    SnapPiece(Bytes),
    /// Leader: the snapshot is complete.
    SnapEnd,
    /// Leader: with what I sent you have my whole history. On the wire its zxid is the epoch with counter 0.
    NewLeader {
        /// The leader's epoch.
        epoch: u32,
        /// Its last-seen configuration as text.
        config: Bytes,
    },
    /// Leader: a quorum has my history; serve.
    UpToDate,
    /// Leader: write this down and tell me.
    Proposal {
        /// Its place.
        zxid: Zxid,
        /// The transaction as the log holds it.
        payload: Bytes,
    },
    /// Follower: everything up to here is on my disk. With counter 0: the leader's whole history is.
    Ack(Zxid),
    /// Leader: a quorum has it.
    Commit(Zxid),
    /// Leader, to an observer: a quorum has this.
    Inform {
        /// Its place.
        zxid: Zxid,
        /// The transaction as the log holds it.
        payload: Bytes,
    },
    /// Leader: as [`Message::Commit`], of a new configuration, with the leader that it designates.
    CommitAndActivate {
        /// The configuration's transaction.
        zxid: Zxid,
        /// Who leads from now on.
        leader: PeerId,
    },
    /// Leader, to an observer: as [`Message::Inform`], of a new configuration.
    InformAndActivate {
        /// The configuration's transaction.
        zxid: Zxid,
        /// Who leads from now on.
        leader: PeerId,
        /// The transaction as the log holds it.
        payload: Bytes,
    },
    /// Leader: are you there? Learner: yes, and these sessions were heard.
    Ping {
        /// The leader's last proposal; a learner sends it back.
        last: Zxid,
        /// Sessions that were heard since the last ping, with their timeouts in milliseconds. From a leader none.
        touched: Vec<(SessionId, i32)>,
    },
    /// Learner: a client wants to take up this session here.
    Revalidate {
        /// The session.
        session: SessionId,
        /// Its timeout in milliseconds.
        timeout_ms: i32,
    },
    /// Leader: whether it may.
    Revalidated {
        /// The session.
        session: SessionId,
        /// Whether it is alive.
        valid: bool,
    },
    /// Learner: a request of one of its clients.
    Request(ForwardedRequest),
    /// Leader: the oldest `sync` that is not answered is through. Everything committed before was said before.
    SyncDone,
}
