//! One client connection: bytes in, requests out, in the order in which they came.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use docent::proto::frame::next_frame;
use docent::proto::{ConnectRequest, Decode, Reader};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::client_port::Shared;
use super::decode::decode_request;
use super::{Input, Link};
use crate::limits::{HANDSHAKE_MS, READ_CHUNK_BYTES};
use crate::node::four_letter::FourLetterWord;
use crate::node::{ConnId, Event};

thread_local! {
    /// Where sockets are read to. What was read is copied to a buffer of its own size, so that a connection that
    /// is silent holds no buffer at all.
    static CHUNK: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_CHUNK_BYTES]);
}

/// Why a connection ends; only for the log.
#[derive(Debug)]
enum End {
    Peer,
    Garbage,
    Told,
    Stopped,
}

/// A connection's own task.
pub(super) struct Connection {
    pub(super) id: ConnId,
    pub(super) peer: SocketAddr,
    pub(super) link: Arc<Link>,
    /// The subject of its certificate, where it has proved one.
    pub(super) subject: Option<String>,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) shared: Arc<Shared>,
}

impl Connection {
    /// Serves the connection until it ends, then tells the node.
    pub(super) async fn run(self) {
        let mut known = false;
        let end = self.serve(&mut known).await;
        if matches!(end, End::Garbage) {
            self.shared.count_garbage();
        }
        self.link.wire().farewell();
        tracing::debug!(peer = %self.peer, ?end, "connection closed");
        if known {
            // When the node's loop is gone there is nobody to tell.
            let _ = self.inputs.send(Input::Event(Event::ClientLost(self.id))).await;
        }
        self.shared.closed(self.peer.ip());
    }

    async fn serve(&self, known: &mut bool) -> End {
        let deadline = Instant::now() + Duration::from_millis(HANDSHAKE_MS as u64);
        let mut pending = BytesMut::new();
        let first = match timeout_at(deadline, self.first_frame(&mut pending)).await {
            Ok(Ok(first)) => first,
            Ok(Err(end)) => return end,
            Err(_) => return End::Peer,
        };
        *known = true;
        if self.inputs.send(Input::Opened(self.id, Arc::clone(&self.link))).await.is_err() {
            return End::Stopped;
        }
        let event = match first {
            First::Word(word) => match self.shared.admin(self.id, self.peer, word, &pending[4..]).await {
                Ok(event) => event,
                Err(text) => {
                    self.link.add(text.as_bytes(), 0);
                    self.link.close();
                    return self.finish().await;
                }
            },
            First::Frame(frame) => match ConnectRequest::decode(&mut Reader::new(frame)) {
                Ok(request) => {
                    let (address, port) = (self.peer.ip(), self.peer.port());
                    Event::Connect { conn: self.id, address, port, subject: self.subject.clone(), request }
                }
                Err(_) => return End::Garbage,
            },
        };
        if self.inputs.send(Input::Event(event)).await.is_err() {
            return End::Stopped;
        }
        self.exchange(pending).await
    }

    /// The first four bytes are a word or the length of a frame.
    async fn first_frame(&self, pending: &mut BytesMut) -> Result<First, End> {
        // With TLS, something may have come together with the end of the handshake.
        if !self.read(pending)? {
            return Err(End::Peer);
        }
        loop {
            if let Some(word) = pending.first_chunk::<4>().and_then(FourLetterWord::parse) {
                return Ok(First::Word(word));
            }
            match next_frame(pending, self.shared.max_frame()) {
                Ok(Some(frame)) => return Ok(First::Frame(frame)),
                Ok(None) => {}
                Err(_) => return Err(End::Garbage),
            }
            if self.link.wire().readable().await.is_err() || !self.read(pending)? {
                return Err(End::Peer);
            }
        }
    }

    /// Reads once. `false` when the peer has closed.
    fn read(&self, pending: &mut BytesMut) -> Result<bool, End> {
        CHUNK.with_borrow_mut(|chunk| self.link.wire().read(chunk, pending)).map_err(|_| End::Peer)
    }

    /// Requests in, what the socket did not take out.
    async fn exchange(&self, mut pending: BytesMut) -> End {
        loop {
            if self.link.is_broken() {
                return End::Told;
            }
            if self.link.is_closing() {
                return self.finish().await;
            }
            let may_read = self.link.is_accepted() && self.link.may_read();
            if may_read {
                match self.forward(&mut pending).await {
                    Ok(()) => {}
                    Err(end) => return end,
                }
            }
            let must_write = self.link.has_waiting_bytes();
            tokio::select! {
                () = self.link.woken() => {}
                writable = self.link.wire().writable(), if must_write => {
                    if writable.is_err() {
                        return End::Peer;
                    }
                    self.link.flush_from_task();
                }
                // Before the handshake is done it only tells us that the peer has gone.
                readable = self.link.wire().readable(), if may_read => {
                    match readable.map_err(|_| End::Peer).and_then(|()| self.read(&mut pending)) {
                        Ok(true) => {}
                        Ok(false) => return End::Peer,
                        Err(end) => return end,
                    }
                }
            }
        }
    }

    /// Hands on every whole frame.
    async fn forward(&self, pending: &mut BytesMut) -> Result<(), End> {
        let mut requests = Vec::new();
        let mut garbage = false;
        loop {
            match next_frame(pending, self.shared.max_frame()) {
                Ok(Some(frame)) => match decode_request(frame) {
                    Some(request) => requests.push(request),
                    None => {
                        garbage = true;
                        break;
                    }
                },
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(peer = %self.peer, %error, "a frame is refused and its connection closed");
                    garbage = true;
                    break;
                }
            }
        }
        if pending.is_empty() {
            *pending = BytesMut::new();
        }
        if !requests.is_empty() {
            self.link.count_requests(requests.len());
            if self.inputs.send(Input::Requests(self.id, requests)).await.is_err() {
                return Err(End::Stopped);
            }
        }
        if garbage { Err(End::Garbage) } else { Ok(()) }
    }

    /// Sends what is queued, within a bound, then ends.
    async fn finish(&self) -> End {
        let deadline = Instant::now() + Duration::from_millis(HANDSHAKE_MS as u64);
        while !self.link.flush_from_task() {
            match timeout_at(deadline, self.link.wire().writable()).await {
                Ok(Ok(())) => {}
                _ => break,
            }
        }
        End::Told
    }
}

/// What a connection begins with.
enum First {
    Word(FourLetterWord),
    Frame(Bytes),
}
