//! The sending side of a quorum link, shared by the node's loop and the link's own task.
//!
//! As with clients, the loop writes straight to the socket, once for all messages of a turn; what the socket does not take
//! waits here for the task. What may wait is bounded: a learner that does not read is cut off and comes back later.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, BytesMut};
use hashbrown::HashMap;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::peer_codec::{Speaker, put_message};
use crate::limits::{PEER_QUEUE_BYTES_MAX, PEER_ROOM_BYTES};
use crate::zab::{LinkId, Message};

/// What waits for the socket.
#[derive(Debug, Default)]
struct Outbox {
    bytes: BytesMut,
    /// The task is writing; the loop only adds.
    task_writes: bool,
    /// The node wants to know when little waits.
    room_asked: bool,
}

/// A quorum link as the node's loop sees it.
#[derive(Debug)]
pub(crate) struct PeerLink {
    id: LinkId,
    /// What we are on it.
    speaker: Speaker,
    stream: TcpStream,
    outbox: Mutex<Outbox>,
    /// Close when everything is sent.
    closing: AtomicBool,
    /// Close now.
    broken: AtomicBool,
    /// Wakes the task.
    wake: Notify,
}

impl PeerLink {
    pub(super) fn new(id: LinkId, speaker: Speaker, stream: TcpStream) -> Self {
        PeerLink {
            id,
            speaker,
            stream,
            outbox: Mutex::default(),
            closing: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    pub(super) fn id(&self) -> LinkId {
        self.id
    }

    /// Who is at the other end.
    pub(super) fn other(&self) -> Speaker {
        match self.speaker {
            Speaker::Learner => Speaker::Leader,
            Speaker::Leader => Speaker::Learner,
        }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn outbox(&self) -> std::sync::MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message; [`PeerLink::flush`] sends it.
    fn add(&self, message: &Message) {
        let mut outbox = self.outbox();
        if self.is_broken() {
            return;
        }
        put_message(&mut outbox.bytes, self.speaker, message);
        let waiting = outbox.bytes.len();
        if waiting > PEER_QUEUE_BYTES_MAX {
            // What one turn brings may be more than the bound while the socket takes everything.
            if !outbox.task_writes {
                self.write(&mut outbox);
            }
            if outbox.bytes.len() > PEER_QUEUE_BYTES_MAX {
                tracing::warn!(link = self.id.0, waiting, "a peer does not read fast enough and is cut off");
                outbox.bytes = BytesMut::new();
                drop(outbox);
                self.cut();
            }
        }
    }

    /// Sends what waits, as far as the socket takes it. What is left goes out from the link's task.
    fn flush(&self) {
        let mut outbox = self.outbox();
        if outbox.task_writes {
            return;
        }
        self.write(&mut outbox);
        if outbox.task_writes || self.is_broken() {
            self.wake.notify_one();
        }
    }

    /// The task's part of sending. Answers whether everything is sent.
    pub(super) fn flush_from_task(&self) -> bool {
        let mut outbox = self.outbox();
        self.write(&mut outbox);
        !outbox.task_writes
    }

    fn write(&self, outbox: &mut Outbox) {
        while !outbox.bytes.is_empty() {
            match self.stream.try_write(&outbox.bytes) {
                Ok(0) => return self.broken.store(true, Ordering::Release),
                Ok(count) => outbox.bytes.advance(count),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    outbox.task_writes = true;
                    return;
                }
                Err(_) => return self.broken.store(true, Ordering::Release),
            }
        }
        outbox.task_writes = false;
        if outbox.bytes.capacity() > PEER_ROOM_BYTES {
            // A burst must not keep its memory.
            outbox.bytes = BytesMut::new();
        }
    }

    /// Whether the task has to write.
    pub(super) fn has_waiting_bytes(&self) -> bool {
        !self.outbox().bytes.is_empty()
    }

    fn ask_room(&self) {
        self.outbox().room_asked = true;
        self.wake.notify_one();
    }

    /// Whether somebody is to be told now that little waits. Answers yes once for each question.
    pub(super) fn take_room(&self) -> bool {
        let mut outbox = self.outbox();
        let room = outbox.room_asked && outbox.bytes.len() < PEER_ROOM_BYTES;
        outbox.room_asked &= !room;
        room
    }

    /// Closes once everything is sent.
    fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Closes now.
    pub(super) fn cut(&self) {
        self.broken.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }
}

/// All quorum links that the node knows, and those that have something to send after this turn.
#[derive(Debug, Default)]
pub(crate) struct PeerLinks {
    all: HashMap<LinkId, Arc<PeerLink>, foldhash::fast::FixedState>,
    dirty: Vec<Arc<PeerLink>>,
    last: Option<LinkId>,
}

impl PeerLinks {
    pub(crate) fn insert(&mut self, link: Arc<PeerLink>) {
        self.all.insert(link.id, link);
    }

    pub(crate) fn remove(&mut self, link: LinkId) {
        self.all.remove(&link);
    }

    /// Whether the link stands for the node: neither lost nor hung up.
    pub(crate) fn contains(&self, link: LinkId) -> bool {
        self.all.contains_key(&link)
    }

    /// Adds a message; it leaves with [`PeerLinks::flush`]. On a link that is gone it goes nowhere.
    pub(crate) fn send(&mut self, link: LinkId, message: &Message) {
        let Some(found) = self.all.get(&link) else { return };
        found.add(message);
        if self.last != Some(link) {
            self.last = Some(link);
            self.dirty.push(Arc::clone(found));
        }
    }

    pub(crate) fn ask_room(&self, link: LinkId) {
        if let Some(link) = self.all.get(&link) {
            link.ask_room();
        }
    }

    /// Sends what is queued, then closes.
    pub(crate) fn hang_up(&mut self, link: LinkId) {
        if let Some(link) = self.all.remove(&link) {
            link.flush();
            link.close();
        }
    }

    /// Sends to everybody who has something to get.
    pub(crate) fn flush(&mut self) {
        self.last = None;
        for link in self.dirty.drain(..) {
            link.flush();
        }
    }
}
