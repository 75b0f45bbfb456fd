//! The election port: one connection to each other member, over which the latest vote goes.
//!
//! Of two servers the one with the larger number opens the connection that is kept. The other one may knock: it connects,
//! says who it is, and is called back. We call a member back only where the configuration says that it is, whatever address
//! the knock carries. Where the ensemble can be changed, a server that is no member may call, too: a *guest*, of which there
//! are only a few at a time; it is called back where it says, and forgotten when it does not call again.
//!
//! ```text
//! node ─► notify ─► mailbox of one ─► line (a task for each member) ══ socket ══ peer
//! node ◄──────── inputs ◄────────────┘        ▲
//!                              acceptor ──────┘ a kept connection, or a knock
//! ```
//!
//! A mailbox holds one notification: a newer one takes the place of one that was not sent, and what was sent last is sent
//! again on a fresh connection. So a peer may hear old votes and hears the latest one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::PeerInput;
use super::peer_codec::{
    InitialMessage, initial_message_len, put_initial_message, put_notification, read_notification,
};
use super::roster::{PeerPort, Roster, connect};
use crate::limits::{
    ELECTION_CONNECT_MS, ELECTION_DIAL_BACK_MS, ELECTION_GUEST_IDLE_MS, ELECTION_GUESTS_MAX,
    ELECTION_HANDSHAKES_MAX, ELECTION_RETRY_MAX_MS, ELECTION_RETRY_MIN_MS, NOTIFICATION_BYTES_MAX,
};
use crate::node::Event;
use crate::zab::{Notification, PeerId};

/// Connections that one member may have made to us and that its line has not looked at. More than one are stale.
const ARRIVALS_MAX: usize = 4;

/// Bytes that are read at once. Notifications are short and rare.
const ELECTION_READ_BYTES: usize = 4 << 10;

/// The sending side, as the node's loop sees it.
#[derive(Debug)]
pub(crate) struct Elections {
    lines: Arc<Lines>,
}

/// The lines to all other servers, and what a new one needs.
#[derive(Debug)]
struct Lines {
    me: PeerId,
    own_address: String,
    open: bool,
    inputs: mpsc::Sender<PeerInput>,
    stop: CancellationToken,
    tasks: TaskTracker,
    all: Mutex<BTreeMap<PeerId, Handle>>,
}

/// What is left of a line in other hands.
#[derive(Debug)]
struct Handle {
    mailbox: watch::Sender<Bytes>,
    arrivals: mpsc::Sender<Arrival>,
    targets: Vec<(String, u16)>,
    guest: bool,
    stop: CancellationToken,
}

impl Elections {
    /// Starts a line to each other member, and accepts connections until told to stop.
    pub(crate) fn start(
        listeners: Vec<TcpListener>,
        roster: &Roster,
        inputs: &mpsc::Sender<PeerInput>,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Self {
        let own = roster.targets(roster.me, PeerPort::Election);
        let lines = Arc::new(Lines {
            me: roster.me,
            own_address: own.first().map_or_else(String::new, |(host, port)| initial_address(host, *port)),
            open: roster.open,
            inputs: inputs.clone(),
            stop: stop.clone(),
            tasks: tasks.clone(),
            all: Mutex::default(),
        });
        let elections = Elections { lines: Arc::clone(&lines) };
        elections.reach(roster);
        let acceptor = Arc::new(Acceptor { lines, room: Semaphore::new(ELECTION_HANDSHAKES_MAX) });
        for listener in listeners {
            let acceptor = Arc::clone(&acceptor);
            let (stop, own_tasks) = (stop.clone(), tasks.clone());
            tasks.spawn(async move {
                let accepting = acceptor.run(listener, &stop, &own_tasks);
                stop.run_until_cancelled(accepting).await
            });
        }
        elections
    }

    /// From now on there is a line to each of these members, and to no other but guests.
    pub(crate) fn reach(&self, roster: &Roster) {
        let mut all = self.lines.all();
        all.retain(|peer, line| {
            let stays = line.guest || roster.members.contains_key(peer);
            if !stays {
                line.stop.cancel();
            }
            stays
        });
        for peer in roster.others() {
            let targets = roster.targets(peer, PeerPort::Election);
            let stands = all.get(&peer).is_some_and(|line| !line.guest && line.targets == targets);
            if !stands && let Some(old) = all.insert(peer, self.lines.begin(peer, targets, false)) {
                old.stop.cancel();
            }
        }
    }

    /// Puts a notification into a server's mailbox. To ourselves, or to one that there is no line to, nothing is sent.
    pub(crate) fn notify(&self, to: PeerId, notification: &Notification) {
        let all = self.lines.all();
        let Some(line) = all.get(&to) else { return };
        let mut frame = BytesMut::from(&[0; 4][..]);
        put_notification(&mut frame, notification);
        let len = frame.len() - 4;
        assert!(len <= NOTIFICATION_BYTES_MAX, "a notification of {len} > {NOTIFICATION_BYTES_MAX} bytes");
        frame[..4].copy_from_slice(&(len as u32).to_be_bytes());
        line.mailbox.send_replace(frame.freeze());
    }
}

impl Lines {
    fn all(&self) -> MutexGuard<'_, BTreeMap<PeerId, Handle>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a line.
    fn begin(self: &Arc<Self>, peer: PeerId, targets: Vec<(String, u16)>, guest: bool) -> Handle {
        let (mailbox, outbox) = watch::channel(Bytes::new());
        let (arrivals, arriving) = mpsc::channel(ARRIVALS_MAX);
        let stop = self.stop.child_token();
        let line = Line {
            me: self.me,
            peer,
            targets: targets.clone(),
            own_address: self.own_address.clone(),
            outbox,
            arriving,
            inputs: self.inputs.clone(),
        };
        let (lines, stopped) = (Arc::clone(self), stop.clone());
        self.tasks.spawn(async move {
            if guest {
                stopped.run_until_cancelled(line.run_for_guest()).await;
                // Unless a member's line has taken its place.
                lines.all().extract_if(.., |at, line| *at == peer && line.guest).for_each(drop);
            } else {
                stopped.run_until_cancelled(line.run()).await;
            }
        });
        Handle { mailbox, arrivals, targets, guest, stop }
    }

    /// Where the connections of this server go; `None` for a stranger that may not call.
    fn arrivals(self: &Arc<Self>, peer: PeerId, addresses: &[String]) -> Option<mpsc::Sender<Arrival>> {
        let mut all = self.all();
        if let Some(line) = all.get(&peer) {
            return Some(line.arrivals.clone());
        }
        let guests = all.values().filter(|line| line.guest).count();
        if !self.open || peer == self.me || guests >= ELECTION_GUESTS_MAX {
            return None;
        }
        tracing::info!(peer = peer.0, "a server that is no member calls");
        let targets = addresses.iter().filter_map(|address| target_of(address)).collect();
        let line = self.begin(peer, targets, true);
        let arrivals = line.arrivals.clone();
        all.insert(peer, line);
        Some(arrivals)
    }
}

/// The name and port that an initial message names.
fn target_of(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host.to_owned(), port.parse().ok()?))
}

/// An address as an initial message names it.
fn initial_address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A connection that a member has made to us.
#[derive(Debug)]
enum Arrival {
    /// It is the one to keep.
    Kept(TcpStream),
    /// It was a knock: we are to call.
    Knock,
}

/// Hands what arrives to the line that it belongs to.
struct Acceptor {
    lines: Arc<Lines>,
    room: Semaphore,
}

impl Acceptor {
    async fn run(self: Arc<Self>, listener: TcpListener, stop: &CancellationToken, tasks: &TaskTracker) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    let (acceptor, stop) = (Arc::clone(&self), stop.clone());
                    tasks.spawn(async move {
                        let Ok(_room) = acceptor.room.try_acquire() else {
                            tracing::warn!(%from, "too many election connections do not say who they are; closed");
                            return;
                        };
                        let limit = Duration::from_millis(ELECTION_CONNECT_MS);
                        let greeted = timeout(limit, acceptor.greet(stream));
                        match stop.run_until_cancelled(greeted).await {
                            Some(Ok(Err(reason))) => tracing::warn!(%from, reason, "election connection closed"),
                            Some(Err(_)) => {
                                tracing::warn!(%from, "an election connection did not say who it is; closed")
                            }
                            _ => {}
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely; trying at once again would only burn.
                    tracing::warn!(%error, "an election connection could not be accepted");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn greet(&self, mut stream: TcpStream) -> Result<(), String> {
        let mut bytes = Vec::new();
        // Each turn knows more of the length; there are at most three.
        loop {
            let have = bytes.len();
            let needed = initial_message_len(&bytes).map_err(|error| error.to_string())?;
            if needed <= have {
                break;
            }
            bytes.resize(needed, 0);
            match stream.read_exact(&mut bytes[have..]).await {
                Ok(_) => {}
                // Who has just been called by us leaves like that, and who only looks whether somebody listens.
                Err(_) if have == 0 => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
        let InitialMessage { peer, addresses } =
            InitialMessage::decode(&bytes).map_err(|error| error.to_string())?;
        let Some(line) = self.lines.arrivals(peer, &addresses) else {
            return Err(format!("server {} is no other member of the ensemble", peer.0));
        };
        // It only costs speed when it fails.
        let _ = stream.set_nodelay(true);
        let arrival = if peer > self.lines.me { Arrival::Kept(stream) } else { Arrival::Knock };
        // When its line is that far behind, the peer will try again.
        let _ = line.try_send(arrival);
        Ok(())
    }
}

/// The connection to one member, made anew whenever it is lost.
struct Line {
    me: PeerId,
    peer: PeerId,
    targets: Vec<(String, u16)>,
    own_address: String,
    outbox: watch::Receiver<Bytes>,
    arriving: mpsc::Receiver<Arrival>,
    inputs: mpsc::Sender<PeerInput>,
}

/// How a connection, or an attempt at one, ended.
enum Ended {
    /// There is a new one.
    Replaced(TcpStream),
    /// There is none.
    Lost,
    /// Nobody needs one any more.
    Stopped,
}

impl Line {
    async fn run(mut self) {
        let mut fresh = true;
        loop {
            let Some(mut stream) = self.connect(fresh).await else { return };
            fresh = false;
            loop {
                if !self.tell(true).await {
                    return;
                }
                let ended = self.serve(stream).await;
                if !self.tell(false).await {
                    return;
                }
                match ended {
                    Ended::Replaced(new) => stream = new,
                    Ended::Lost => break,
                    Ended::Stopped => return,
                }
            }
        }
    }

    /// Serves a server that is no member, as long as it calls.
    async fn run_for_guest(mut self) {
        let patience = Duration::from_millis(ELECTION_GUEST_IDLE_MS);
        let mut next = None;
        loop {
            let arrival = match next.take() {
                Some(stream) => Some(Arrival::Kept(stream)),
                None => timeout(patience, self.arriving.recv()).await.ok().flatten(),
            };
            let stream = match arrival {
                Some(Arrival::Kept(stream)) => stream,
                Some(Arrival::Knock) => {
                    match dial(self.me, self.peer, &self.targets, &self.own_address).await {
                        Dialed::Kept(stream) => stream,
                        Dialed::Knocked | Dialed::Failed => continue,
                    }
                }
                None => return,
            };
            if !self.tell(true).await {
                return;
            }
            let ended = self.serve(stream).await;
            if !self.tell(false).await {
                return;
            }
            match ended {
                Ended::Replaced(stream) => next = Some(stream),
                Ended::Lost => {}
                Ended::Stopped => return,
            }
        }
    }

    async fn tell(&self, up: bool) -> bool {
        tracing::debug!(peer = self.peer.0, up, "election link");
        let event = Event::ElectionLink { peer: self.peer, up };
        self.inputs.send(PeerInput::Event(event)).await.is_ok()
    }

    /// Tries until there is a connection. `None` when nobody needs one any more.
    ///
    /// Unless `fresh`, there was one before. Then a peer with a larger number has noticed its end, too, and is calling: a
    /// knock that came right behind its call would make it drop the new connection, and so for ever.
    async fn connect(&mut self, fresh: bool) -> Option<TcpStream> {
        let mut pause = ELECTION_RETRY_MIN_MS;
        if !fresh && self.me < self.peer {
            let limit = Duration::from_millis(ELECTION_DIAL_BACK_MS);
            if let Ok(arrival) = timeout(limit, self.arriving.recv()).await
                && let Arrival::Kept(stream) = arrival?
            {
                return Some(stream);
            }
        }
        loop {
            let dialing = dial(self.me, self.peer, &self.targets, &self.own_address);
            let wait = tokio::select! {
                biased;
                arrival = self.arriving.recv() => match arrival? {
                    Arrival::Kept(stream) => return Some(stream),
                    Arrival::Knock => {
                        pause = ELECTION_RETRY_MIN_MS;
                        continue;
                    }
                },
                dialed = dialing => match dialed {
                    Dialed::Kept(stream) => return Some(stream),
                    Dialed::Knocked => pause.max(ELECTION_DIAL_BACK_MS),
                    Dialed::Failed => pause,
                },
            };
            tokio::select! {
                arrival = self.arriving.recv() => match arrival? {
                    Arrival::Kept(stream) => return Some(stream),
                    Arrival::Knock => pause = ELECTION_RETRY_MIN_MS,
                },
                () = sleep(Duration::from_millis(wait)) => pause = (pause * 2).min(ELECTION_RETRY_MAX_MS),
            }
        }
    }

    /// Moves notifications both ways until the connection ends or another takes its place.
    async fn serve(&mut self, mut stream: TcpStream) -> Ended {
        expect_to_be_heard(&stream);
        let (read, write) = stream.split();
        let reading = receive(read, self.peer, &self.inputs);
        let writing = send(write, &mut self.outbox);
        tokio::select! {
            () = reading => Ended::Lost,
            () = writing => Ended::Lost,
            arrival = self.arriving.recv() => match arrival {
                Some(Arrival::Kept(stream)) => Ended::Replaced(stream),
                // It would not knock if it thought that this connection stood.
                Some(Arrival::Knock) => Ended::Lost,
                None => Ended::Stopped,
            },
        }
    }
}

/// Makes a connection end when what is sent is not taken. One that outlives a broken network repeats what was lost ever
/// more seldom, up to minutes after the network is whole again; made anew, it says the latest at once. Quorum links do not
/// need it, because there both ends watch for silence, and a learner may be busy with its disk.
fn expect_to_be_heard(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    {
        let limit = Duration::from_millis(crate::limits::ELECTION_UNTAKEN_MS);
        // It only costs time after a broken network when it fails.
        let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(limit));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = stream;
}

/// What became of a call.
enum Dialed {
    /// The connection to keep.
    Kept(TcpStream),
    /// The peer knows that it is to call us.
    Knocked,
    /// The peer cannot be reached.
    Failed,
}

async fn dial(me: PeerId, peer: PeerId, targets: &[(String, u16)], own_address: &str) -> Dialed {
    let limit = Duration::from_millis(ELECTION_CONNECT_MS);
    let Some(mut stream) = connect(targets, limit).await else { return Dialed::Failed };
    let mut first = BytesMut::new();
    put_initial_message(&mut first, me, own_address);
    // One write: Apache reads the address at once and takes a part of it for a broken one.
    match timeout(limit, stream.write_all(&first)).await {
        Ok(Ok(())) if me > peer => Dialed::Kept(stream),
        Ok(Ok(())) => Dialed::Knocked,
        _ => Dialed::Failed,
    }
}

/// Hands every notification on. Ends with the connection.
async fn receive(mut read: ReadHalf<'_>, peer: PeerId, inputs: &mpsc::Sender<PeerInput>) {
    let mut pending = BytesMut::new();
    loop {
        while let Some(len) = pending.first_chunk().map(|len| u32::from_be_bytes(*len) as usize) {
            if !(1..=NOTIFICATION_BYTES_MAX).contains(&len) {
                tracing::warn!(peer = peer.0, len, "impossible length on the election channel; closed");
                return;
            }
            if pending.len() < 4 + len {
                break;
            }
            pending.advance(4);
            let event = match read_notification(pending.split_to(len).freeze()) {
                Ok(notification) => Event::Notified { from: peer, notification },
                Err(error) => {
                    // As in Apache: the next one may make sense.
                    tracing::debug!(peer = peer.0, %error, "a notification is ignored");
                    continue;
                }
            };
            if inputs.send(PeerInput::Event(event)).await.is_err() {
                return;
            }
        }
        if pending.is_empty() {
            pending = BytesMut::new();
        }
        pending.reserve(ELECTION_READ_BYTES);
        match read.read_buf(&mut pending).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// Sends the last notification there was, then each new one. Ends with the connection.
async fn send(mut write: WriteHalf<'_>, outbox: &mut watch::Receiver<Bytes>) {
    loop {
        let frame = outbox.borrow_and_update().clone();
        if write.write_all(&frame).await.is_err() || outbox.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_connection_that_is_not_heard_does_not_last() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        expect_to_be_heard(&stream);
        let limit = socket2::SockRef::from(&stream).tcp_user_timeout().unwrap();
        assert_eq!(limit, Some(Duration::from_millis(crate::limits::ELECTION_UNTAKEN_MS)));
    }

    #[test]
    fn an_address_is_written_as_it_is_read() {
        assert_eq!(initial_address("::1", 5), "[::1]:5");
        assert_eq!(initial_address("host", 5), "host:5");
    }
}
