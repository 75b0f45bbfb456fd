//! The sending side of a connection, shared by the node's loop and the connection's own task.
//!
//! The loop writes straight to the socket; only what the socket does not take waits here for the task. So a usual
//! answer costs one system call and wakes nobody. What may wait is bounded: a client that does not read is cut off.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use hashbrown::HashMap;
use tokio::sync::Notify;

use super::wire::Wire;
use crate::limits::{OUTBOX_BYTES_MAX, REQUESTS_PER_CONNECTION_MAX};
use crate::node::ConnId;

/// What waits for the socket.
#[derive(Debug, Default)]
struct Outbox {
    bytes: BytesMut,
    /// The task is writing; the loop only adds.
    task_writes: bool,
}

/// A connection as the node's loop sees it.
#[derive(Debug)]
pub(crate) struct Link {
    wire: Wire,
    outbox: Mutex<Outbox>,
    unanswered: AtomicUsize,
    in_work: Arc<InWork>,
    /// The task does not read because of others' requests; the next answer wakes it.
    held: AtomicBool,
    /// The handshake is done: requests may be read.
    accepted: AtomicBool,
    /// Close when everything is sent.
    closing: AtomicBool,
    /// Close now.
    broken: AtomicBool,
    /// Wakes the task.
    wake: Notify,
}

/// The requests of all connections that are in work.
#[derive(Debug)]
pub(crate) struct InWork {
    count: AtomicUsize,
    max: usize,
}

impl InWork {
    pub(crate) fn new(max: usize) -> Self {
        InWork { count: AtomicUsize::new(0), max }
    }
}

/// How a write went.
enum Wrote {
    All,
    Some,
    Broken,
}

impl Link {
    pub(crate) fn new(wire: Wire, in_work: Arc<InWork>) -> Self {
        Link {
            wire,
            outbox: Mutex::default(),
            unanswered: AtomicUsize::new(0),
            in_work,
            held: AtomicBool::new(false),
            accepted: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    fn outbox(&self) -> std::sync::MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds bytes; [`Link::flush`] sends them.
    pub(crate) fn add(&self, bytes: &[u8], answers: u32) {
        // Who is cut off gets nothing more, however much is still asked for in its name.
        if !self.is_broken() {
            self.outbox().bytes.extend_from_slice(bytes);
        }
        if answers > 0 {
            let before = self.unanswered.fetch_sub(answers as usize, Ordering::Relaxed);
            self.in_work.count.fetch_sub(answers as usize, Ordering::Relaxed);
            if before >= REQUESTS_PER_CONNECTION_MAX || self.held.swap(false, Ordering::AcqRel) {
                self.wake.notify_one();
            }
        }
    }

    /// Sends what waits, as far as the socket takes it. What is left goes out from the connection's task.
    pub(crate) fn flush(&self) {
        let mut outbox = self.outbox();
        if outbox.task_writes {
            if outbox.bytes.len() > OUTBOX_BYTES_MAX {
                tracing::warn!(
                    bytes = outbox.bytes.len(),
                    "a client does not read its answers and is cut off"
                );
                drop(outbox);
                self.cut();
            }
            return;
        }
        match write(&self.wire, &mut outbox.bytes) {
            Wrote::All if self.closing.load(Ordering::Acquire) => self.wake.notify_one(),
            Wrote::All => {}
            Wrote::Some => {
                outbox.task_writes = true;
                self.wake.notify_one();
            }
            Wrote::Broken => {
                drop(outbox);
                self.cut();
            }
        }
    }

    /// The task's part of sending. Answers whether everything is sent.
    pub(super) fn flush_from_task(&self) -> bool {
        let mut outbox = self.outbox();
        match write(&self.wire, &mut outbox.bytes) {
            Wrote::All => {
                outbox.task_writes = false;
                true
            }
            Wrote::Some => {
                outbox.task_writes = true;
                false
            }
            Wrote::Broken => {
                self.broken.store(true, Ordering::Release);
                true
            }
        }
    }

    /// Whether the task has to write.
    pub(super) fn has_waiting_bytes(&self) -> bool {
        !self.outbox().bytes.is_empty() || self.wire.wants_write()
    }

    /// The handshake is done.
    pub(crate) fn accept(&self) {
        self.accepted.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn is_accepted(&self) -> bool {
        self.accepted.load(Ordering::Acquire)
    }

    /// Closes once everything is sent.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Closes now.
    pub(crate) fn cut(&self) {
        self.broken.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Counts requests that were read.
    pub(super) fn count_requests(&self, count: usize) {
        self.unanswered.fetch_add(count, Ordering::Relaxed);
        self.in_work.count.fetch_add(count, Ordering::Relaxed);
    }

    /// Whether more may be read. A connection that has nothing in work always may, so that everybody goes on.
    pub(super) fn may_read(&self) -> bool {
        let full = || self.in_work.count.load(Ordering::Relaxed) >= self.in_work.max;
        let unanswered = self.unanswered.load(Ordering::Relaxed);
        if unanswered == 0 || (unanswered < REQUESTS_PER_CONNECTION_MAX && !full()) {
            return true;
        }
        self.held.store(true, Ordering::Release);
        // The last answer may have come in between, and then nothing wakes the task.
        self.unanswered.load(Ordering::Acquire) == 0
    }

    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }
}

/// What nobody waits for any more is not in work.
impl Drop for Link {
    fn drop(&mut self) {
        self.in_work.count.fetch_sub(*self.unanswered.get_mut(), Ordering::Relaxed);
    }
}

fn write(wire: &Wire, bytes: &mut BytesMut) -> Wrote {
    match wire.write(bytes) {
        Ok(true) => {
            // An idle connection keeps no buffer.
            *bytes = BytesMut::new();
            Wrote::All
        }
        Ok(false) => Wrote::Some,
        Err(_) => Wrote::Broken,
    }
}

/// All links, and those that have something to send after this turn.
#[derive(Debug, Default)]
pub(crate) struct Links {
    all: HashMap<ConnId, Arc<Link>, foldhash::fast::FixedState>,
    dirty: Vec<Arc<Link>>,
    last: Option<(ConnId, Arc<Link>)>,
}

impl Links {
    pub(crate) fn insert(&mut self, conn: ConnId, link: Arc<Link>) {
        self.all.insert(conn, link);
    }

    pub(crate) fn remove(&mut self, conn: ConnId) -> Option<Arc<Link>> {
        self.last = None;
        self.all.remove(&conn)
    }

    pub(crate) fn get(&self, conn: ConnId) -> Option<&Arc<Link>> {
        self.all.get(&conn)
    }

    /// Adds bytes for a connection; they leave with [`Links::flush`].
    pub(crate) fn add(&mut self, conn: ConnId, bytes: &[u8], answers: u32) {
        let Some(link) = self.all.get(&conn) else { return };
        link.add(bytes, answers);
        if self.last.as_ref().is_none_or(|(last, _)| *last != conn) {
            self.last = Some((conn, Arc::clone(link)));
            self.dirty.push(Arc::clone(link));
        }
    }

    /// Sends to everybody who has something to get.
    pub(crate) fn flush(&mut self) {
        self.last = None;
        for link in self.dirty.drain(..) {
            link.flush();
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.all.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn link(in_work: &Arc<InWork>) -> Link {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (wire, _) = Wire::open(stream, None, true).await.unwrap();
        Link::new(wire, Arc::clone(in_work))
    }

    #[tokio::test]
    async fn who_has_something_in_work_is_not_read_while_others_have_too_much() {
        let in_work = Arc::new(InWork::new(2));
        let (busy, other) = (link(&in_work).await, link(&in_work).await);
        busy.count_requests(1);
        assert!(busy.may_read() && other.may_read());
        other.count_requests(1);
        assert!(!busy.may_read() && !other.may_read());
        busy.add(&[], 1);
        assert!(busy.may_read(), "nothing of it is in work");
        assert!(other.may_read(), "there is room again");
        drop(other);
        assert_eq!(in_work.count.load(Ordering::Relaxed), 0, "what nobody waits for is not in work");
    }
}
