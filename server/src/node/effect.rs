//! Everything a server asks of the world, carried out in this order.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use docent::Zxid;
use docent::proto::frame::put_frame;

use super::event::ConnId;
use crate::zab::{LinkId, Members, Message, Notification, PeerId};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write this to the log and report the order when it is durable.
    Append {
        /// Orders rise by one.
        order: u64,
        /// The transaction's place.
        zxid: Zxid,
        /// The record's payload.
        payload: Bytes,
    },
    /// Replace the two epochs and report the order when both are durable. Orders to append that were given before are
    /// durable then, too.
    SaveEpochs {
        /// Orders rise by one.
        order: u64,
        /// `acceptedEpoch`.
        accepted: u32,
        /// `currentEpoch`.
        current: u32,
    },
    /// Remove every record after this one from the log, and every snapshot that contains such records, and report the
    /// order when that is durable. A snapshot that is being written is given up; no report of it follows.
    Truncate {
        /// Orders rise by one.
        order: u64,
        /// The last record that may stay.
        after: Zxid,
        /// Whether the state in memory holds what is cut away. Then it is read anew from the disk, and the report is
        /// [`Event::Reloaded`](super::Event::Reloaded); no other event comes before it.
        reload: bool,
    },
    /// Read the log behind `after`, about `max_bytes` of payload at once, for [`Event::LogRead`](super::Event::LogRead).
    ReadLog {
        /// For whom.
        link: LinkId,
        /// Where to begin.
        after: Zxid,
        /// Bytes of payload after which to stop; at least one record is read.
        max_bytes: usize,
    },
    /// Send a notification on the election channel. Only the latest to each peer matters.
    Notify {
        /// To whom.
        to: PeerId,
        /// What to say.
        notification: Notification,
    },
    /// Open a quorum link to this peer, once, and say how it went with [`Event::Dialed`](super::Event::Dialed).
    Dial {
        /// Whom.
        peer: PeerId,
        /// The text of a configuration that says where it is, if none that counts here names it.
        hearsay: Option<Bytes>,
    },
    /// Send a message on a quorum link. On a link that is gone it goes nowhere.
    Send {
        /// The link.
        link: LinkId,
        /// The message.
        message: Message,
    },
    /// Say [`Event::PeerHasRoom`](super::Event::PeerHasRoom) as soon as little waits to be sent on this link, which may
    /// be at once.
    AskRoom(LinkId),
    /// Send what is queued on a quorum link, then close it.
    Hangup(LinkId),
    /// Another configuration is committed, or under way. Reach whom the two name, and write both down where the next start
    /// finds them, before what is ordered from the disk behind this.
    Members {
        /// The last one that is known to be committed.
        committed: Members,
        /// The one that is under way, if one is.
        under_way: Option<Members>,
    },
    /// Begin a new log file with the next record.
    RollLog,
    /// A snapshot of the state right after this transaction begins.
    SnapshotBegin(Zxid),
    /// The next piece of the running snapshot.
    SnapshotPiece(Bytes),
    /// The running snapshot has all its pieces.
    SnapshotEnd {
        /// The digest of the state, where digests are kept.
        digest: Option<u64>,
    },
    /// Send bytes of [`Effects::bytes`] to a connection: whole frames.
    Reply {
        /// The connection.
        conn: ConnId,
        /// Which bytes.
        range: Range<usize>,
        /// How many of its requests they answer.
        answers: u32,
    },
    /// A handshake succeeded: from now on the connection may send requests.
    Accept {
        /// The connection.
        conn: ConnId,
        /// How long it may be silent.
        timeout_ms: i32,
    },
    /// Send what is queued, then close.
    Close(ConnId),
    /// Answer an administrator's question with text, then close.
    AdminReply {
        /// The connection.
        conn: ConnId,
        /// The answer.
        text: String,
    },
}

/// The effects of one or several steps. The bytes of all replies lie in one buffer, so that a reply costs no
/// allocation.
#[derive(Debug, Default)]
pub struct Effects {
    /// What to do, in order.
    pub list: Vec<Effect>,
    /// What replies refer to.
    pub bytes: BytesMut,
}

impl Effects {
    /// Adds an effect.
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// Sends one frame that `body` writes. Frames that follow each other to one connection become one effect.
    pub fn frame(&mut self, conn: ConnId, answers: u32, body: impl FnOnce(&mut BytesMut)) -> usize {
        let start = self.bytes.len();
        put_frame(&mut self.bytes, body);
        self.reply(conn, answers, start)
    }

    /// As [`Effects::frame`], unless what `body` writes has more bytes than `max`. Then nothing is sent, and its size is
    /// the error.
    ///
    /// # Errors
    /// The frame's payload has so many bytes.
    pub fn frame_within(
        &mut self,
        conn: ConnId,
        answers: u32,
        max: usize,
        body: impl FnOnce(&mut BytesMut),
    ) -> Result<usize, usize> {
        let start = self.bytes.len();
        let mut payload = 0;
        put_frame(&mut self.bytes, |out| {
            let before = out.len();
            body(out);
            payload = out.len() - before;
        });
        if payload > max {
            self.bytes.truncate(start);
            return Err(payload);
        }
        Ok(self.reply(conn, answers, start))
    }

    /// What was written from `start` on goes to this connection.
    fn reply(&mut self, conn: ConnId, answers: u32, start: usize) -> usize {
        let end = self.bytes.len();
        match self.list.last_mut() {
            Some(Effect::Reply { conn: last, range, answers: count }) if *last == conn => {
                range.end = end;
                *count += answers;
            }
            _ => self.list.push(Effect::Reply { conn, range: start..end, answers }),
        }
        end - start
    }

    /// Forgets everything; the memory is kept, within a bound.
    pub fn clear(&mut self) {
        const KEPT_BYTES: usize = 4 << 20;
        self.list.clear();
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = BytesMut::new();
        } else {
            self.bytes.clear();
        }
    }
}
