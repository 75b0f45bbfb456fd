//! The two ports between servers on real sockets: port against port, and port against bytes by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use docent::Zxid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::peer_codec::{InitialMessage, put_initial_message, put_notification};
use super::*;
use crate::config::PeerAddress;
use crate::limits::{
    PEER_INPUTS_MAX, PEER_QUEUE_BYTES_MAX, PEER_ROOM_BYTES, PEER_SILENT_LINKS_MAX, READ_CHUNK_BYTES,
};
use crate::zab::{Capability, Notification, PeerId, Standing, Vote};

/// How long something may take that must happen.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOPBACK: &str = "127.0.0.1";

async fn bounded<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

/// Members with ports that are bound here, election and quorum.
struct Town {
    members: BTreeMap<PeerId, Vec<PeerAddress>>,
    listeners: BTreeMap<PeerId, (TcpListener, TcpListener)>,
}

impl Town {
    async fn of(peers: &[u64]) -> Town {
        let mut town = Town { members: BTreeMap::new(), listeners: BTreeMap::new() };
        for peer in peers {
            let election = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
            let quorum = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
            let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
            let (election_port, quorum_port) = (port(&election), port(&quorum));
            let address = PeerAddress { host: LOOPBACK.into(), quorum_port, election_port };
            town.members.insert(PeerId(*peer), vec![address]);
            town.listeners.insert(PeerId(*peer), (election, quorum));
        }
        town
    }

    fn election_port(&self, peer: u64) -> u16 {
        self.members[&PeerId(peer)][0].election_port
    }

    fn quorum_port(&self, peer: u64) -> u16 {
        self.members[&PeerId(peer)][0].quorum_port
    }

    /// The listeners of a member that is played by hand.
    fn by_hand(&mut self, peer: u64) -> (TcpListener, TcpListener) {
        self.listeners.remove(&PeerId(peer)).unwrap()
    }

    /// Starts both ports of a member.
    fn start(&mut self, me: u64) -> Fake {
        let (election, quorum) = self.by_hand(me);
        let roster =
            Roster { me: PeerId(me), members: self.members.clone(), listen_on_all: false, open: false };
        let (inputs_in, inputs) = mpsc::channel(PEER_INPUTS_MAX);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let elections = Elections::start(vec![election], &roster, &inputs_in, &stop, &tasks);
        let options = QuorumOptions {
            roster,
            inputs: inputs_in,
            receive: Arc::new(|_, _| Err("no snapshot is expected".into())),
            buffer_max: 1 << 20,
            init_limit_ms: 10_000,
            stop: stop.clone(),
            tasks,
        };
        let port = QuorumPort::start(vec![quorum], options);
        Fake { elections, port, inputs, links: PeerLinks::default(), stop, waiting: Vec::new().into() }
    }
}

/// What stands where a node stands.
struct Fake {
    elections: Elections,
    port: QuorumPort,
    inputs: mpsc::Receiver<PeerInput>,
    links: PeerLinks,
    stop: CancellationToken,
    waiting: std::collections::VecDeque<String>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Fake {
    /// What happens next, in words.
    async fn next(&mut self) -> String {
        loop {
            if let Some(happened) = self.waiting.pop_front() {
                return happened;
            }
            match bounded("the next event", self.inputs.recv()).await.expect("the port lives") {
                PeerInput::Opened(link) => self.links.insert(link),
                PeerInput::Messages(link, messages) => {
                    self.waiting.extend(messages.iter().map(|message| format!("{}: {message:?}", link.0)));
                }
                PeerInput::Snapshot { link, .. } => return format!("{}: snapshot", link.0),
                PeerInput::Lost(link) => {
                    self.links.remove(link);
                    return format!("{}: lost", link.0);
                }
                PeerInput::Event(Event::ElectionLink { peer, up }) => {
                    return format!("{} is {}", peer.0, if up { "up" } else { "down" });
                }
                PeerInput::Event(Event::Notified { from, notification }) => {
                    return format!("{} says {}", from.0, notification.round);
                }
                PeerInput::Event(other) => return format!("{other:?}"),
            }
        }
    }

    /// Passes over what happens until this does.
    async fn until(&mut self, what: &str) {
        while self.next().await != what {}
    }

    fn send(&mut self, link: u64, message: Message) {
        self.links.send(LinkId(link), &message);
        self.links.flush();
    }
}

fn notification(round: i64) -> Notification {
    let vote = Some(Vote { epoch: 1, zxid: Zxid(5), leader: PeerId(1) });
    let config = Bytes::from_static(b"version=0");
    let capability = Some(Capability::OURS);
    let under_way = Bytes::new();
    Notification { standing: Standing::Looking, vote, round, format: 2, config, capability, under_way }
}

fn frame(round: i64) -> BytesMut {
    let mut body = BytesMut::new();
    put_notification(&mut body, &notification(round));
    let mut frame = BytesMut::from(&(body.len() as u32).to_be_bytes()[..]);
    frame.extend_from_slice(&body);
    frame
}

fn greeting(peer: u64, address: &str) -> BytesMut {
    let mut bytes = BytesMut::new();
    put_initial_message(&mut bytes, PeerId(peer), address);
    bytes
}

async fn dial(port: u16, first: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect((LOOPBACK, port)).await.unwrap();
    stream.write_all(first).await.unwrap();
    stream
}

async fn accept(listener: &TcpListener) -> TcpStream {
    bounded("a call", listener.accept()).await.unwrap().0
}

/// Reads an initial message of V1 and what is behind it up to `more` bytes.
async fn read_greeting(stream: &mut TcpStream) -> InitialMessage {
    let mut bytes = vec![0; 20];
    bounded("a greeting", stream.read_exact(&mut bytes)).await.unwrap();
    let len = u32::from_be_bytes(*bytes.last_chunk().unwrap()) as usize;
    bytes.resize(20 + len, 0);
    bounded("its address", stream.read_exact(&mut bytes[20..])).await.unwrap();
    InitialMessage::decode(&bytes).unwrap()
}

async fn assert_closed(stream: &mut TcpStream) {
    let mut byte = [0];
    // Closed with or without a reset: both say that the other end is gone.
    let read = bounded("the close", stream.read(&mut byte)).await.unwrap_or(0);
    assert_eq!(read, 0, "the other end must close, not speak");
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_go_both_ways_whoever_starts_first() {
    for order in [[1, 2], [2, 1]] {
        let mut town = Town::of(&[1, 2]).await;
        let mut servers: BTreeMap<u64, Fake> = BTreeMap::new();
        for me in order {
            let fake = town.start(me);
            fake.elections.notify(PeerId(3 - me), &notification(me as i64));
            servers.insert(me, fake);
        }
        for (me, fake) in &mut servers {
            let (me, other) = (*me, 3 - *me);
            fake.until(&format!("{other} says {other}")).await;
            fake.elections.notify(PeerId(me), &notification(99));
            fake.elections.notify(PeerId(7), &notification(99));
        }
        servers[&1].elections.notify(PeerId(2), &notification(41));
        servers.get_mut(&2).unwrap().until("1 says 41").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_larger_number_is_knocked_at_and_calls_back_where_the_configuration_says() {
    let mut town = Town::of(&[1, 2]).await;
    let (election, _) = town.by_hand(1);
    let mut larger = town.start(2);
    let mut kept = accept(&election).await;
    assert_eq!(read_greeting(&mut kept).await.peer, PeerId(2));
    larger.until("1 is up").await;
    // Somebody says in our name that we are elsewhere; the call must come here.
    let mut knock = dial(town.election_port(2), &greeting(1, "127.0.0.1:1")).await;
    assert_closed(&mut knock).await;
    assert_eq!(larger.next().await, "1 is down");
    assert_closed(&mut kept).await;
    let mut kept = accept(&election).await;
    let expected =
        InitialMessage { peer: PeerId(2), addresses: vec![format!("{LOOPBACK}:{}", town.election_port(2))] };
    assert_eq!(read_greeting(&mut kept).await, expected);
    assert_eq!(larger.next().await, "1 is up");
    kept.write_all(&frame(8)).await.unwrap();
    assert_eq!(larger.next().await, "1 says 8");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_smaller_number_knocks_and_keeps_the_call_that_comes_last() {
    let mut town = Town::of(&[1, 2]).await;
    let (election, _) = town.by_hand(2);
    let mut smaller = town.start(1);
    let mut knock = accept(&election).await;
    assert_eq!(read_greeting(&mut knock).await.peer, PeerId(1));
    assert_closed(&mut knock).await;
    let mut v2 = greeting(2, "a:1|b:2");
    v2[..8].copy_from_slice(&(-65_535_i64).to_be_bytes());
    let mut first = dial(town.election_port(1), &v2).await;
    assert_eq!(smaller.next().await, "2 is up");
    let old_format = 2_i64.to_be_bytes();
    let mut second = dial(town.election_port(1), &old_format).await;
    assert_closed(&mut first).await;
    assert_eq!([smaller.next().await, smaller.next().await], ["2 is down", "2 is up"]);
    second.write_all(&frame(5)).await.unwrap();
    assert_eq!(smaller.next().await, "2 says 5");
    drop(second);
    assert_eq!(smaller.next().await, "2 is down");
    let mut knock = accept(&election).await;
    assert_eq!(read_greeting(&mut knock).await.peer, PeerId(1), "it asks to be called again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_vote_replaces_one_that_waits_and_is_said_again_on_a_fresh_connection() {
    let mut town = Town::of(&[1, 2]).await;
    let smaller = town.start(1);
    for round in 1..=3 {
        smaller.elections.notify(PeerId(2), &notification(round));
    }
    for _ in 0..2 {
        let mut stream = dial(town.election_port(1), &greeting(2, "x:1")).await;
        let mut bytes = vec![0; frame(3).len()];
        bounded("the vote", stream.read_exact(&mut bytes)).await.unwrap();
        assert_eq!(bytes, frame(3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_ourselves_and_nonsense_are_closed_and_nobody_hears_of_them() {
    let mut town = Town::of(&[1, 2]).await;
    let mut server = town.start(1);
    let port = town.election_port(1);
    let firsts: [&[u8]; 6] = [
        &greeting(3, "x:1"),
        &greeting(1, "x:1"),
        &greeting(i64::MAX as u64, "x:1"),
        &[0xff; 8],
        b"GET / HTTP/1.1\r\n\r\n",
        &[greeting(2, "x:1")[..16].to_vec(), i32::MAX.to_be_bytes().to_vec()].concat(),
    ];
    for first in firsts {
        assert_closed(&mut dial(port, first).await).await;
    }
    let mut good = dial(port, &greeting(2, "x:1")).await;
    assert_eq!(server.next().await, "2 is up", "nothing was heard before");
    for nonsense in [&[0_u8, 0, 0, 3, 1, 2, 3][..], &frame(6)] {
        good.write_all(nonsense).await.unwrap();
    }
    assert_eq!(server.next().await, "2 says 6", "a notification without sense is passed over");
    for len in [0_u32, 524_289, u32::MAX] {
        good.write_all(&len.to_be_bytes()).await.unwrap();
        assert_closed(&mut good).await;
        assert_eq!(server.next().await, "2 is down");
        good = dial(port, &greeting(2, "x:1")).await;
        assert_eq!(server.next().await, "2 is up");
    }
}

fn info(peer: u64) -> Message {
    Message::FollowerInfo {
        peer: PeerId(peer),
        accepted_epoch: 0,
        observer: false,
        config_version: 0,
        capability: Some(Capability::OURS),
    }
}

/// A learner 1 and a leader 2 with a link between them, number 1 at both ends, after the first message.
async fn linked(town: &mut Town) -> (Fake, Fake) {
    let (mut learner, mut leader) = (town.start(1), town.start(2));
    learner.port.dial(PeerId(2), None);
    learner.until("Dialed { peer: PeerId(2), link: Some(LinkId(1)) }").await;
    learner.send(1, info(1));
    leader.until(&format!("1: {:?}", info(1))).await;
    (learner, leader)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_arrive_in_order_and_a_link_that_is_hung_up_says_its_last_words() {
    let mut town = Town::of(&[1, 2]).await;
    let (mut learner, mut leader) = linked(&mut town).await;
    let payload = Bytes::from(vec![7; 1_000]);
    let proposal = |n| Message::Proposal { zxid: Zxid(n), payload: payload.clone() };
    for n in 0..5_000 {
        leader.links.send(LinkId(1), &proposal(n));
    }
    leader.links.flush();
    leader.links.hang_up(LinkId(1));
    leader.send(1, Message::UpToDate);
    for n in 0..5_000 {
        learner.until(&format!("1: {:?}", proposal(n))).await;
    }
    assert_eq!(learner.next().await, "1: lost");
    leader.until("1: lost").await;
    assert!(learner.inputs.try_recv().is_err() && !leader.links.contains(LinkId(1)), "it is said once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_cannot_be_reached_and_one_that_nobody_knows_are_answered_alike() {
    let mut town = Town::of(&[1, 2]).await;
    drop(town.by_hand(2));
    let mut learner = town.start(1);
    for peer in [2, 9] {
        learner.port.dial(PeerId(peer), None);
        learner.until(&format!("Dialed {{ peer: PeerId({peer}), link: None }}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_that_does_not_read_is_cut_off_at_the_bound() {
    let mut town = Town::of(&[2]).await;
    let mut leader = town.start(2);
    let mut hello = BytesMut::new();
    peer_codec::put_message(&mut hello, peer_codec::Speaker::Learner, &info(1));
    let mut deaf = dial(town.quorum_port(2), &hello).await;
    leader.until(&format!("1: {:?}", info(1))).await;
    let payload = Bytes::from(vec![7; 1 << 20]);
    let mut sent = 0;
    while sent <= 2 * PEER_QUEUE_BYTES_MAX {
        leader.send(1, Message::Proposal { zxid: Zxid(1), payload: payload.clone() });
        sent += payload.len();
    }
    assert_eq!(leader.next().await, "1: lost");
    let mut got = 0;
    let mut chunk = vec![0; READ_CHUNK_BYTES];
    while let Ok(count @ 1..) = bounded("the rest", deaf.read(&mut chunk)).await {
        got += count;
    }
    assert!(got < PEER_QUEUE_BYTES_MAX, "{got} bytes were in the kernel alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn room_is_told_when_little_waits_and_not_before() {
    let mut town = Town::of(&[2]).await;
    let mut leader = town.start(2);
    let mut hello = BytesMut::new();
    peer_codec::put_message(&mut hello, peer_codec::Speaker::Learner, &info(1));
    let mut slow = dial(town.quorum_port(2), &hello).await;
    leader.until(&format!("1: {:?}", info(1))).await;
    leader.links.ask_room(LinkId(1));
    assert_eq!(leader.next().await, "PeerHasRoom(LinkId(1))");
    // More than the kernel takes, so that some of it waits here.
    let piece = Bytes::from(vec![1; 48 << 20]);
    leader.send(1, Message::SnapPiece(piece.clone()));
    leader.links.ask_room(LinkId(1));
    let mut early = false;
    let mut got = 0;
    let mut chunk = vec![0; READ_CHUNK_BYTES];
    while got < piece.len() {
        if got < (4 << 20) {
            early |= leader.inputs.try_recv().is_ok();
        }
        got += bounded("the piece", slow.read(&mut chunk)).await.unwrap();
    }
    assert!(!early, "told while far more than {PEER_ROOM_BYTES} bytes waited");
    assert_eq!(leader.next().await, "PeerHasRoom(LinkId(1))");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_link_begins_with_an_introduction_or_is_closed_unheard() {
    let mut town = Town::of(&[2]).await;
    let mut leader = town.start(2);
    let port = town.quorum_port(2);
    let mut ack = BytesMut::new();
    peer_codec::put_message(&mut ack, peer_codec::Speaker::Learner, &Message::Ack(Zxid(1)));
    let long = [&[0, 0, 0, 11][..], &[0; 8], &(1_u32 << 19).to_be_bytes()].concat();
    for first in [&ack[..], b"GET / HTTP/1.1\r\n\r\n", &[0xfe; 40], &long] {
        assert_closed(&mut dial(port, first).await).await;
    }
    let mut hello = BytesMut::new();
    peer_codec::put_message(&mut hello, peer_codec::Speaker::Learner, &info(1));
    let mut link = dial(port, &hello).await;
    let heard = leader.next().await;
    assert!(heard.ends_with(&format!("{:?}", info(1))), "nothing was heard before, but {heard}");
    link.write_all(&[0xfe; 40]).await.unwrap();
    assert_closed(&mut link).await;
    assert!(leader.next().await.ends_with("lost"));
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_say_nothing_are_bounded_and_do_not_keep_a_learner_out_for_ever() {
    let mut town = Town::of(&[1, 2]).await;
    let mut leader = town.start(2);
    let port = town.quorum_port(2);
    let mut silent = Vec::new();
    for _ in 0..PEER_SILENT_LINKS_MAX {
        silent.push(dial(port, &[]).await);
    }
    assert_closed(&mut dial(port, &[]).await).await;
    drop(silent);
    let mut learner = town.start(1);
    let mut link = 0;
    loop {
        // The places of those that have gone come free one after the other: a bounded wait for the first of them.
        learner.port.dial(PeerId(2), None);
        link += 1;
        learner.until(&format!("Dialed {{ peer: PeerId(2), link: Some(LinkId({link})) }}")).await;
        learner.send(link, info(1));
        let heard = tokio::select! {
            heard = leader.next() => heard,
            lost = learner.next() => lost,
        };
        if heard.ends_with(&format!("{:?}", info(1))) {
            return;
        }
        assert!(link < 1_000, "a learner must get in, but {heard}");
    }
}
