//! The quorum port: links between learners and their leader.
//!
//! It listens whatever its server is doing: a learner that calls before an election is decided here is parked until it
//! is. Each link has a task that reads messages in order and hands them on; when the node's loop is behind, the socket
//! waits, and nothing is dropped. The node hears of a link that somebody opened with the first message on it.
//!
//! A snapshot that comes on a link is not a message: it goes in pieces, a few at a time, to a blocking thread that knows
//! what to do with it. What that thread makes of it is handed on like a message, in its place.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use docent::Zxid;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::PeerInput;
use super::peer_codec::{SNAPSHOT_SIGNATURE, Speaker, next_message};
use super::peer_link::PeerLink;
use super::roster::{PeerPort, Roster, connect};
use crate::config::PeerAddress;
use crate::limits::{
    PEER_CONNECT_MS, PEER_FAREWELL_MS, PEER_LINKS_MAX, PEER_SILENT_LINKS_MAX, PEER_SNAPSHOT_CHUNKS_MAX,
    READ_CHUNK_BYTES,
};
use crate::node::{Event, State};
use crate::zab::{LinkId, Message, PeerId};

/// The longest buffer in the first message of a learner, bytes. It is read again as long as it is not whole.
const INTRODUCTION_BYTES_MAX: usize = 1 << 10;

/// Reads the body of a snapshot, exactly to its end, on a blocking thread.
pub(crate) type ReceiveFn = Arc<dyn Fn(Zxid, &mut dyn Read) -> Result<Received, String> + Send + Sync>;

/// A snapshot that is loaded, and written to the disk without a name.
pub(crate) struct Received {
    pub(crate) state: Box<State>,
    /// Gives the file its name, durably. Dropped instead, the file goes.
    pub(crate) keep: Box<dyn FnOnce() -> Result<(), String> + Send>,
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Received").field("state", &self.state).finish_non_exhaustive()
    }
}

/// What all links share.
struct Shared {
    roster: RwLock<Roster>,
    inputs: mpsc::Sender<PeerInput>,
    receive: ReceiveFn,
    /// The longest buffer in a message that is believed, bytes.
    buffer_max: usize,
    /// How long a link may take to say who it is, and to be opened.
    first_message: Duration,
    ids: AtomicU64,
    silent: Arc<Semaphore>,
    links: Arc<Semaphore>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What a quorum port has to know.
pub(crate) struct QuorumOptions {
    pub(crate) roster: Roster,
    pub(crate) inputs: mpsc::Sender<PeerInput>,
    pub(crate) receive: ReceiveFn,
    /// The longest buffer in a message that is believed, bytes.
    pub(crate) buffer_max: usize,
    /// `initLimit` in milliseconds.
    pub(crate) init_limit_ms: i64,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// The port, as the node's loop sees it.
#[derive(Clone)]
pub(crate) struct QuorumPort {
    shared: Arc<Shared>,
}

impl QuorumPort {
    /// Accepts links until told to stop.
    pub(crate) fn start(listeners: Vec<TcpListener>, options: QuorumOptions) -> Self {
        let QuorumOptions { roster, inputs, receive, buffer_max, init_limit_ms, stop, tasks } = options;
        let shared = Arc::new(Shared {
            roster: RwLock::new(roster),
            inputs,
            receive,
            buffer_max,
            first_message: Duration::from_millis(init_limit_ms.max(1) as u64),
            ids: AtomicU64::new(0),
            silent: Arc::new(Semaphore::new(PEER_SILENT_LINKS_MAX)),
            links: Arc::new(Semaphore::new(PEER_LINKS_MAX)),
            stop,
            tasks,
        });
        for listener in listeners {
            let port = QuorumPort { shared: Arc::clone(&shared) };
            shared.spawn(async move { port.accept(listener).await });
        }
        QuorumPort { shared }
    }

    async fn accept(self, listener: TcpListener) {
        let shared = &self.shared;
        loop {
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely; trying at once again would only burn.
                    tracing::warn!(%error, "a quorum link could not be accepted");
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let silent = Arc::clone(&shared.silent).try_acquire_owned();
            let room = Arc::clone(&shared.links).try_acquire_owned();
            let (Ok(silent), Ok(room)) = (silent, room) else {
                tracing::warn!(%from, "too many quorum links; this one is closed");
                continue;
            };
            // It only costs speed when it fails.
            let _ = stream.set_nodelay(true);
            let task = shared.task(stream, Speaker::Leader);
            shared.spawn(async move {
                task.run(Some(silent)).await;
                drop(room);
            });
        }
    }

    /// From now on members are found here.
    pub(crate) fn reach(&self, roster: Roster) {
        *self.shared.roster.write().unwrap_or_else(PoisonError::into_inner) = roster;
    }

    /// Opens a link to a member, once, and says how it went. To a server that is no member yet it needs to be told where.
    pub(crate) fn dial(&self, peer: PeerId, named: Option<Vec<PeerAddress>>) {
        let shared = Arc::clone(&self.shared);
        self.shared.spawn(async move {
            let mut targets = shared.targets(peer);
            if targets.is_empty() {
                let named = named.into_iter().flatten();
                targets.extend(named.map(|address| (address.host, address.quorum_port)));
            }
            let limit = Duration::from_millis(PEER_CONNECT_MS as u64).min(shared.first_message);
            let Some(stream) = connect(&targets, limit).await else {
                // When the loop is gone nobody waits for the answer.
                let _ = shared.inputs.send(PeerInput::Event(Event::Dialed { peer, link: None })).await;
                return;
            };
            let task = shared.task(stream, Speaker::Learner);
            let dialed = Event::Dialed { peer, link: Some(task.link.id()) };
            if task.tell(PeerInput::Opened(Arc::clone(&task.link))).await.is_ok()
                && task.tell(PeerInput::Event(dialed)).await.is_ok()
            {
                task.run(None).await;
            }
        });
    }
}

impl Shared {
    fn targets(&self, peer: PeerId) -> Vec<(String, u16)> {
        self.roster.read().unwrap_or_else(PoisonError::into_inner).targets(peer, PeerPort::Quorum)
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move { stop.run_until_cancelled(work).await });
    }

    fn task(self: &Arc<Self>, stream: TcpStream, speaker: Speaker) -> LinkTask {
        let id = LinkId(self.ids.fetch_add(1, Ordering::Relaxed) + 1);
        LinkTask { link: Arc::new(PeerLink::new(id, speaker, stream)), shared: Arc::clone(self) }
    }
}

/// Why a link ends.
#[derive(Debug)]
enum End {
    /// The peer has closed it, or the network has.
    Peer,
    /// What came makes no sense.
    Garbage(String),
    /// The node wants it to end.
    Told,
    /// The node's loop is gone.
    Stopped,
}

/// A link's own task.
struct LinkTask {
    link: Arc<PeerLink>,
    shared: Arc<Shared>,
}

impl LinkTask {
    async fn tell(&self, input: PeerInput) -> Result<(), End> {
        self.shared.inputs.send(input).await.map_err(|_| End::Stopped)
    }

    /// Serves the link until it ends, then tells the node. A link that somebody opened comes with its place among those
    /// that have said nothing.
    async fn run(self, silent: Option<OwnedSemaphorePermit>) {
        let mut pending = BytesMut::new();
        if silent.is_some() {
            let opened = timeout(self.shared.first_message, self.first_message(&mut pending)).await;
            let reason = match opened {
                Ok(Ok(())) => None,
                Ok(Err(end)) => Some(end),
                Err(_) => Some(End::Garbage("it does not say who it is".into())),
            };
            if let Some(end) = reason {
                tracing::debug!(?end, "a quorum link that nobody knows is closed");
                return;
            }
        }
        drop(silent);
        let end = tokio::select! {
            end = self.write() => end,
            end = self.read(pending) => end,
        };
        tracing::debug!(link = self.link.id().0, ?end, "quorum link closed");
        if let End::Garbage(reason) = &end {
            tracing::warn!(link = self.link.id().0, reason, "a quorum link is closed");
        }
        self.link.cut();
        let told = self.tell(PeerInput::Lost(self.link.id())).await;
        if matches!(end, End::Told) && told.is_ok() {
            self.say_goodbye().await;
        }
        // The loop may hold the link for a while yet; the peer is to know at once.
        let _ = socket2::SockRef::from(self.link.stream()).shutdown(std::net::Shutdown::Both);
    }

    /// Reads until the first message is there, which must be a learner's introduction, and opens the link for the node.
    async fn first_message(&self, pending: &mut BytesMut) -> Result<(), End> {
        loop {
            // What follows the first message stays where it is, so that there is one place that hands messages on.
            let mut copy = pending.clone();
            match next_message(&mut copy, self.link.other(), INTRODUCTION_BYTES_MAX) {
                Ok(Some(Message::FollowerInfo { .. })) => break,
                Ok(None) => self.fill(pending).await?,
                Ok(Some(_)) => return Err(End::Garbage("it does not say who it is".into())),
                Err(error) => return Err(End::Garbage(error.to_string())),
            }
        }
        self.tell(PeerInput::Opened(Arc::clone(&self.link))).await
    }

    fn next(&self, pending: &mut BytesMut) -> Result<Option<Message>, End> {
        let message = next_message(pending, self.link.other(), self.shared.buffer_max);
        message.map_err(|error| End::Garbage(error.to_string()))
    }

    /// Reads once.
    async fn fill(&self, pending: &mut BytesMut) -> Result<(), End> {
        loop {
            self.link.stream().readable().await.map_err(|_| End::Peer)?;
            if pending.capacity() - pending.len() < READ_CHUNK_BYTES / 4 {
                pending.reserve(READ_CHUNK_BYTES);
            }
            match self.link.stream().try_read_buf(pending) {
                Ok(0) => return Err(End::Peer),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(End::Peer),
            }
        }
    }

    /// Hands on every message until the link ends.
    async fn read(&self, mut pending: BytesMut) -> End {
        loop {
            if let Err(end) = self.hand_on(&mut pending).await {
                return end;
            }
            if let Err(end) = self.fill(&mut pending).await {
                return end;
            }
        }
    }

    /// Hands on every whole message, together, and a snapshot if one follows.
    async fn hand_on(&self, pending: &mut BytesMut) -> Result<(), End> {
        loop {
            let mut messages = Vec::new();
            let mut snapshot = None;
            let mut failed = None;
            while snapshot.is_none() {
                match self.next(pending) {
                    Ok(Some(message)) => {
                        if let Message::Snap(zxid) = message {
                            snapshot = Some(zxid);
                        }
                        messages.push(message);
                    }
                    Ok(None) => break,
                    Err(end) => {
                        failed = Some(end);
                        break;
                    }
                }
            }
            if !messages.is_empty() {
                self.tell(PeerInput::Messages(self.link.id(), messages)).await?;
            }
            match (snapshot, failed) {
                (Some(zxid), _) => *pending = self.receive(zxid, std::mem::take(pending)).await?,
                (None, Some(end)) => return Err(end),
                (None, None) => return Ok(()),
            }
        }
    }

    /// Lets a blocking thread read the snapshot that begins with `pending`. Answers what came behind it.
    async fn receive(&self, zxid: Zxid, pending: BytesMut) -> Result<BytesMut, End> {
        let (chunks, rest) = mpsc::channel(PEER_SNAPSHOT_CHUNKS_MAX);
        let receive = Arc::clone(&self.shared.receive);
        let mut body = SnapshotBody { chunk: pending.freeze(), rest };
        let mut loading = self.shared.tasks.spawn_blocking(move || {
            let received = receive(zxid, &mut body)?;
            body.expect_signature()?;
            Ok::<_, String>((received, body))
        });
        let mut chunk = BytesMut::new();
        let loaded = loop {
            tokio::select! {
                biased;
                loaded = &mut loading => break loaded,
                filled = self.fill(&mut chunk) => if filled.is_err() {
                    // All that will ever come is in the channel. It may be enough.
                    drop(chunks);
                    break loading.await;
                }
            }
            tokio::select! {
                biased;
                loaded = &mut loading => break loaded,
                permit = chunks.reserve() => if let Ok(permit) = permit {
                    permit.send(chunk.split().freeze());
                }
            }
        };
        let loaded = loaded.map_err(|error| End::Garbage(error.to_string()))?;
        let (received, body) = loaded.map_err(End::Garbage)?;
        let mut rest = body.into_rest();
        rest.extend_from_slice(&chunk);
        self.tell(PeerInput::Snapshot { link: self.link.id(), zxid, received }).await?;
        Ok(rest)
    }

    /// Sends what waits, and says when there is room. Ends when the link is to end.
    async fn write(&self) -> End {
        let link = &self.link;
        loop {
            if link.is_broken() {
                return End::Peer;
            }
            if link.take_room() {
                let event = Event::PeerHasRoom(link.id());
                if let Err(end) = self.tell(PeerInput::Event(event)).await {
                    return end;
                }
            }
            let waiting = link.has_waiting_bytes();
            if link.is_closing() {
                let limit = Duration::from_millis(PEER_FAREWELL_MS as u64);
                // Whoever does not take the last words does without them.
                let _ = timeout(limit, self.flush()).await;
                return End::Told;
            }
            tokio::select! {
                () = link.woken() => {}
                writable = link.stream().writable(), if waiting => {
                    if writable.is_err() {
                        return End::Peer;
                    }
                    link.flush_from_task();
                }
            }
        }
    }

    async fn flush(&self) {
        while !self.link.is_broken() && !self.link.flush_from_task() {
            if self.link.stream().writable().await.is_err() {
                return;
            }
        }
    }

    /// Closes our direction and reads on until the peer closes its own: closed with unread bytes, the kernel would take
    /// back what it has not delivered.
    async fn say_goodbye(&self) {
        let _ = socket2::SockRef::from(self.link.stream()).shutdown(std::net::Shutdown::Write);
        let mut ignored = BytesMut::new();
        let limit = Duration::from_millis(PEER_FAREWELL_MS as u64);
        let _ = timeout(limit, async {
            while self.fill(&mut ignored).await.is_ok() {
                ignored.clear();
            }
        })
        .await;
    }
}

/// The body of a snapshot, as it comes from the link, for a blocking thread.
struct SnapshotBody {
    chunk: Bytes,
    rest: mpsc::Receiver<Bytes>,
}

impl Read for SnapshotBody {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.rest.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let count = out.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut out[..count]);
        Ok(count)
    }
}

impl SnapshotBody {
    fn expect_signature(&mut self) -> Result<(), String> {
        let mut bytes = [0; 4 + SNAPSHOT_SIGNATURE.len()];
        self.read_exact(&mut bytes).map_err(|error| format!("the end of a snapshot: {error}"))?;
        let (len, text) = bytes.split_at(4);
        if len == (SNAPSHOT_SIGNATURE.len() as u32).to_be_bytes() && text == SNAPSHOT_SIGNATURE.as_bytes() {
            return Ok(());
        }
        Err("a snapshot does not end as it must".into())
    }

    /// What came behind the snapshot.
    fn into_rest(mut self) -> BytesMut {
        let mut rest = BytesMut::from(self.chunk);
        while let Ok(chunk) = self.rest.try_recv() {
            rest.extend_from_slice(&chunk);
        }
        rest
    }
}
