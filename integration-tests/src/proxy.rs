//! A TCP proxy that does to connections what networks do: cut them, refuse them, and stop one direction without
//! closing anything. It knows the frames of the client protocol, so it can also lose one particular reply.
//!
//! A stalled direction holds the bytes back and delivers them when it is let go, as TCP does after a partition. What is
//! sent after a cut is delivered to nobody, although the cut itself takes a moment.
//! Everything that a test sets holds for connections of now and for later ones.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use docent::OpCode;
use docent::proto::frame::{next_frame, put_frame};
use docent::proto::jute::Decode;
use docent::proto::{Reader, ReplyHeader, RequestHeader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// The largest frame that is taken apart, bytes. A larger claim is no frame (a four-letter word, say), and then the
/// bytes of that connection go through unread.
const MAX_FRAME: usize = 64 << 20;

/// A listener on the loopback address that forwards to one server. Dropping it closes its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

/// What has gone through a [`Proxy`] so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that were forwarded.
    pub accepted: usize,
    /// Connections that were reset at once, because the proxy refused or the server could not be reached.
    pub refused: usize,
    /// Connections that are open.
    pub open: usize,
    /// Frames from clients, handshakes included.
    pub requests: usize,
    /// Of these, what clients send by the clock: pings, and the syncs that prove a lease.
    pub heartbeats: usize,
    /// Frames to clients, handshakes and events included.
    pub replies: usize,
    /// Replies and requests that were swallowed.
    pub swallowed: usize,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicUsize,
    refused: AtomicUsize,
    open: AtomicUsize,
    requests: AtomicUsize,
    heartbeats: AtomicUsize,
    replies: AtomicUsize,
    swallowed: AtomicUsize,
}

/// What a test has asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    refuse: bool,
    stall_up: bool,
    stall_down: bool,
    /// Requests of this operation, and what is behind them, go no further.
    hold: Option<OpCode>,
    /// How often the connections have been cut.
    cuts: usize,
}

/// The request or the reply that is to be lost.
#[derive(Clone, Copy, Debug)]
struct ToLose {
    op: OpCode,
    what: Loses,
    /// How many such requests go by before.
    before: usize,
}

#[derive(Clone, Copy, Debug)]
enum Loses {
    /// The server never sees the request.
    Request,
    /// The server has carried the request out.
    Reply,
}

#[derive(Debug)]
struct Shared {
    upstream: Mutex<SocketAddr>,
    faults: watch::Sender<Faults>,
    swallow: Mutex<Option<ToLose>>,
    counters: Counters,
}

impl Proxy {
    /// Listens on a free port and forwards to `upstream`, which need not run yet.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(upstream: SocketAddr) -> Result<Proxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no port for the proxy")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            faults: watch::Sender::new(Faults::default()),
            swallow: Mutex::new(None),
            counters: Counters::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Proxy { address, shared, accepting })
    }

    /// Where clients find it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `host:port`, for every client there is.
    #[must_use]
    pub fn connect_string(&self) -> String {
        self.address.to_string()
    }

    /// Later connections go to another server.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().unwrap_or_else(PoisonError::into_inner) = upstream;
    }

    /// Resets all connections, on both sides.
    pub fn cut(&self) {
        self.shared.faults.send_modify(|faults| faults.cuts += 1);
    }

    /// While `true`, new connections are reset at once. Open ones stay; see [`Proxy::cut`].
    pub fn refuse(&self, refuse: bool) {
        self.shared.faults.send_modify(|faults| faults.refuse = refuse);
    }

    /// While `true`, nothing goes from clients to the server.
    pub fn stall_up(&self, stall: bool) {
        self.shared.faults.send_modify(|faults| faults.stall_up = stall);
    }

    /// While `true`, nothing goes from the server to clients.
    pub fn stall_down(&self, stall: bool) {
        self.shared.faults.send_modify(|faults| faults.stall_down = stall);
    }

    /// Holds back requests of an operation, and all that is sent behind them on the same connection; `None` lets them go.
    pub fn hold_requests_of(&self, op: Option<OpCode>) {
        self.shared.faults.send_modify(|faults| faults.hold = op);
    }

    /// Swallows the reply to the `nth` request of an operation from now on (1 is the next one), and then resets the
    /// connection that it belongs to. The server has carried the request out by then. A new call replaces one that
    /// is still waiting.
    pub fn drop_reply_of(&self, op: OpCode, nth: usize) {
        self.lose(ToLose { op, what: Loses::Reply, before: nth.saturating_sub(1) });
    }

    /// Swallows the `nth` request of an operation from now on, and then resets its connection. The server does not see
    /// the request. A new call, of this or of [`Proxy::drop_reply_of`], replaces one that is still waiting.
    pub fn drop_request_of(&self, op: OpCode, nth: usize) {
        self.lose(ToLose { op, what: Loses::Request, before: nth.saturating_sub(1) });
    }

    fn lose(&self, what: ToLose) {
        *self.shared.swallow.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }

    /// What has gone through so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let Counters { accepted, refused, open, requests, heartbeats, replies, swallowed } =
            &self.shared.counters;
        let read = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        Counts {
            accepted: read(accepted),
            refused: read(refused),
            open: read(open),
            requests: read(requests),
            heartbeats: read(heartbeats),
            replies: read(replies),
            swallowed: read(swallowed),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    /// Whether this request or its reply is to be lost.
    fn swallows(&self, op: i32) -> Option<Loses> {
        let mut swallow = self.swallow.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = swallow.as_mut().filter(|wanted| wanted.op.code() == op)?;
        if wanted.before > 0 {
            wanted.before -= 1;
            return None;
        }
        swallow.take().map(|wanted| wanted.what)
    }

    fn swallowed(&self) -> Swallowed {
        self.counters.swallowed.fetch_add(1, Ordering::Relaxed);
        Swallowed
    }
}

/// Takes connections. Its end, which is that of the [`Proxy`], is theirs too: they are in its set.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let Faults { refuse, cuts, .. } = *shared.faults.borrow();
        if refuse {
            shared.counters.refused.fetch_add(1, Ordering::Relaxed);
            let _reset_when_dropped = client.set_zero_linger();
            continue;
        }
        connections.spawn(forward(client, Arc::clone(&shared), cuts));
    }
}

/// Counts one open connection, however it ends.
struct Open<'a>(&'a AtomicUsize);

impl<'a> Open<'a> {
    fn new(open: &'a AtomicUsize) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Open(open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `cuts`: how many there had been when the connection was accepted. A later one is for this connection too.
async fn forward(mut client: TcpStream, shared: Arc<Shared>, cuts: usize) {
    let mut faults = shared.faults.subscribe();
    let upstream = *shared.upstream.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        shared.counters.refused.fetch_add(1, Ordering::Relaxed);
        let _reset_when_dropped = client.set_zero_linger();
        return;
    };
    let _latency_only = (server.set_nodelay(true), client.set_nodelay(true));
    shared.counters.accepted.fetch_add(1, Ordering::Relaxed);
    let _open = Open::new(&shared.counters.open);
    let reset = {
        let (client_in, client_out) = client.split();
        let (server_in, server_out) = server.split();
        let lost = Mutex::new(None);
        let up = Pump { shared: &shared, lost: &lost, faults: shared.faults.subscribe(), cuts };
        let down = Pump { shared: &shared, lost: &lost, faults: shared.faults.subscribe(), cuts };
        tokio::select! {
            ended = up.run_up(client_in, server_out) => matches!(ended, Ok(Swallowed)),
            ended = down.run_down(server_in, client_out) => matches!(ended, Ok(Swallowed)),
            _ = faults.wait_for(|faults| faults.cuts != cuts) => true,
        }
    };
    if reset {
        let _reset_when_dropped = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// Something was swallowed, or came after a cut, so the connection is to be reset.
struct Swallowed;

/// One direction of one connection.
struct Pump<'a> {
    shared: &'a Shared,
    /// The xid of the request whose reply is to be lost.
    lost: &'a Mutex<Option<i32>>,
    faults: watch::Receiver<Faults>,
    /// How many cuts there had been when the connection was accepted.
    cuts: usize,
}

impl Pump<'_> {
    /// Waits until what was read may go on: not before `free`. `false` when the connection was cut since: who has cut it and
    /// then sends something, or lets somebody send, relies on it that nothing of that arrives.
    async fn may_pass(&mut self, free: impl Fn(&Faults) -> bool) -> Result<bool> {
        let cuts = self.cuts;
        let faults = self.faults.wait_for(|faults| faults.cuts != cuts || free(faults)).await?;
        Ok(faults.cuts == cuts)
    }

    async fn run_up(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> Result<Swallowed> {
        let mut frames = Frames::default();
        let mut handshake = true;
        loop {
            let piece = frames.next(&mut from).await?;
            let mut op = None;
            if let Piece::Frame(frame) = &piece {
                self.shared.counters.requests.fetch_add(1, Ordering::Relaxed);
                let header = RequestHeader::decode(&mut Reader::new(frame.clone()));
                if let (false, Ok(header)) = (handshake, header) {
                    op = Some(header.op);
                    if [OpCode::Ping, OpCode::Sync].map(OpCode::code).contains(&header.op) {
                        self.shared.counters.heartbeats.fetch_add(1, Ordering::Relaxed);
                    }
                    match self.shared.swallows(header.op) {
                        Some(Loses::Request) => return Ok(self.shared.swallowed()),
                        Some(Loses::Reply) => {
                            *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(header.xid.0);
                        }
                        None => {}
                    }
                }
                handshake = false;
            }
            let held = |faults: &Faults| faults.hold.is_some_and(|held| op == Some(held.code()));
            if !self.may_pass(|faults| !faults.stall_up && !held(faults)).await? {
                return Ok(Swallowed);
            }
            piece.write(&mut to).await?;
        }
    }

    async fn run_down(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> Result<Swallowed> {
        let mut frames = Frames::default();
        let mut handshake = true;
        loop {
            let piece = frames.next(&mut from).await?;
            if let Piece::Frame(frame) = &piece {
                self.shared.counters.replies.fetch_add(1, Ordering::Relaxed);
                let header = ReplyHeader::decode(&mut Reader::new(frame.clone()));
                let lost = *self.lost.lock().unwrap_or_else(PoisonError::into_inner);
                if !handshake && lost.is_some() && header.is_ok_and(|header| Some(header.xid.0) == lost) {
                    return Ok(self.shared.swallowed());
                }
                handshake = false;
            }
            if !self.may_pass(|faults| !faults.stall_down).await? {
                return Ok(Swallowed);
            }
            piece.write(&mut to).await?;
        }
    }
}

/// A stream taken apart, as long as it is made of frames.
#[derive(Default)]
struct Frames {
    buffer: BytesMut,
    no_frames: bool,
}

enum Piece {
    Frame(Bytes),
    Raw(BytesMut),
}

impl Frames {
    async fn next(&mut self, from: &mut ReadHalf<'_>) -> Result<Piece> {
        loop {
            if !self.no_frames {
                match next_frame(&mut self.buffer, MAX_FRAME) {
                    Ok(Some(frame)) => return Ok(Piece::Frame(frame)),
                    Ok(None) => {}
                    Err(_) => self.no_frames = true,
                }
            }
            if self.no_frames && self.buffer.has_remaining() {
                return Ok(Piece::Raw(self.buffer.split()));
            }
            anyhow::ensure!(from.read_buf(&mut self.buffer).await? > 0, "the stream has ended");
        }
    }
}

impl Piece {
    async fn write(self, to: &mut WriteHalf<'_>) -> Result<()> {
        let mut bytes = match self {
            Piece::Frame(frame) => {
                // Head and body in one buffer, so that they leave in one packet.
                let mut bytes = BytesMut::with_capacity(4 + frame.len());
                put_frame(&mut bytes, |out| out.put_slice(&frame));
                bytes
            }
            Piece::Raw(bytes) => bytes,
        };
        to.write_all_buf(&mut bytes).await?;
        Ok(())
    }
}
