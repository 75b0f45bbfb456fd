//! Replicas joined by a network and disks that do at once what they are asked, unless they are held.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use docent::Zxid;

use crate::limits::{LEADER_SILENCE_MS, Sizes};
use crate::zab::{
    Epochs, FromLeader, LinkId, LogShape, Members, Message, Notification, Output, PeerId, Quorum, Reading,
    Replica, ReplicaConfig, Role, Turn,
};

/// An order to a disk.
#[derive(Clone, Debug)]
enum Order {
    Append(Zxid, Bytes),
    Epochs(Epochs),
    Truncate(Zxid),
}

/// One server with its disk.
pub(super) struct Server {
    pub(super) replica: Replica,
    /// Durable.
    pub(super) log: Vec<(Zxid, Bytes)>,
    pub(super) epochs: Epochs,
    /// The zxid of the snapshot that the log stands on.
    pub(super) floor: Zxid,
    orders: VecDeque<(u64, Order)>,
    pub(super) disk_held: bool,
    pub(super) up: bool,
    pub(super) committed: Zxid,
    pub(super) turn: Turn,
    /// The configurations on its disk: the committed one, and the one under way.
    pub(super) saved: (Members, Option<Members>),
    /// A snapshot that is being received.
    receiving: Option<(LinkId, Zxid)>,
}

/// What is on its way.
enum Flying {
    Ballot(PeerId, PeerId, Notification),
    Quorum(LinkId, PeerId, Message),
    Lost(LinkId, PeerId),
    Dialed(PeerId, PeerId, Option<LinkId>),
}

/// The world of a story.
pub(super) struct Net {
    pub(super) now_ms: i64,
    pub(super) servers: BTreeMap<PeerId, Server>,
    flying: VecDeque<Flying>,
    links: BTreeMap<LinkId, (PeerId, PeerId)>,
    cut: BTreeSet<(PeerId, PeerId)>,
    next_link: u64,
    /// Servers whose word on what they can do is lost on the way, as if they were Apache's.
    pub(super) apache: BTreeSet<PeerId>,
    /// How configurations are found; without it there is one for ever.
    reading: Option<Reading>,
    /// Everything that was sent on quorum links: from, to, what.
    pub(super) sent: Vec<(u64, u64, Message)>,
    /// What servers that are started decide by how others are brought level.
    pub(super) sizes: Sizes,
    /// Links are full: whoever asks for room waits until [`Net::make_room`].
    pub(super) full: bool,
    waiting: Vec<(PeerId, LinkId)>,
}

/// What a disk holds: the log, the epochs, the zxid of the snapshot that the log stands on.
type Held<'a> = (&'a [(Zxid, Bytes)], Epochs, Zxid);

fn forget_capability(message: &mut Message) {
    if let Message::FollowerInfo { capability, .. } | Message::LeaderInfo { capability, .. } = message {
        *capability = None;
    }
}

pub(super) fn zxid(epoch: u32, counter: u32) -> Zxid {
    Zxid::new(epoch, counter)
}

/// A configuration, in the words of these stories.
pub(super) fn members(voters: &[u64], observers: &[u64], version: i64) -> Members {
    let list = |ids: &[u64]| ids.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    Members {
        quorum: Quorum::majority(voters.iter().copied().map(PeerId)),
        observers: observers.iter().copied().map(PeerId).collect(),
        text: format!("{}\n{}\nversion={version:x}", list(voters), list(observers)).into(),
        version,
    }
}

fn members_of_text(text: &Bytes) -> Option<Members> {
    let text = std::str::from_utf8(text).ok()?;
    let mut lines = text.lines();
    let mut ids =
        || -> Option<Vec<u64>> { Some(lines.next()?.split(',').filter_map(|id| id.parse().ok()).collect()) };
    let (voters, observers) = (ids()?, ids()?);
    let version = i64::from_str_radix(lines.next()?.strip_prefix("version=")?, 16).ok()?;
    (!voters.is_empty()).then(|| members(&voters, &observers, version))
}

fn members_of_record(payload: &Bytes) -> Option<Members> {
    payload.strip_prefix(b"members ").and_then(|text| members_of_text(&Bytes::copy_from_slice(text)))
}

const READING: Reading = Reading { of_record: members_of_record, of_text: members_of_text };

fn replica(
    me: PeerId,
    reading: Option<Reading>,
    saved: &(Members, Option<Members>),
    sizes: Sizes,
    (log, epochs, floor): Held<'_>,
) -> Replica {
    let mut shape = LogShape::new(floor);
    log.iter().for_each(|(zxid, _)| shape.push(*zxid));
    let config = ReplicaConfig {
        me,
        tick_ms: 2_000,
        init_limit_ms: 20_000,
        sync_limit_ms: 10_000,
        silence_ms: i64::from(LEADER_SILENCE_MS),
        seed: me.0,
        reading,
        sizes,
    };
    let (committed, under_way) = saved.clone();
    Replica::new(config, committed, under_way, epochs, shape)
}

impl Net {
    /// Servers 1 to `count` that hold nothing and are down.
    pub(super) fn new(count: u64) -> Net {
        let all: Vec<u64> = (1..=count).collect();
        Net::of(count, &members(&all, &[], 0), None)
    }

    /// As [`Net::new`], with the first of them as an ensemble that can be changed; the others know its members and may be
    /// asked in.
    pub(super) fn changeable(count: u64, voters: &[u64], observers: &[u64]) -> Net {
        Net::of(count, &members(voters, observers, 0), Some(READING))
    }

    fn of(count: u64, members: &Members, reading: Option<Reading>) -> Net {
        let saved = (members.clone(), None);
        let server = |me| Server {
            replica: replica(me, reading, &saved, Sizes::default(), (&[], Epochs::default(), Zxid::ZERO)),
            saved: saved.clone(),
            log: Vec::new(),
            epochs: Epochs::default(),
            floor: Zxid::ZERO,
            orders: VecDeque::new(),
            disk_held: false,
            up: false,
            committed: Zxid::ZERO,
            turn: Turn::Looking,
            receiving: None,
        };
        Net {
            now_ms: 1_000,
            servers: (1..=count).map(PeerId).map(|me| (me, server(me))).collect(),
            flying: VecDeque::new(),
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
            next_link: 0,
            reading,
            apache: BTreeSet::new(),
            sent: Vec::new(),
            sizes: Sizes::default(),
            full: false,
            waiting: Vec::new(),
        }
    }

    /// Gives a server that is down a log and epochs.
    pub(super) fn give(&mut self, me: u64, log: &[(u32, u32)], accepted: u32, current: u32) {
        let server = self.servers.get_mut(&PeerId(me)).unwrap();
        let last = |(epoch, counter): &(u32, u32)| (Zxid::new(*epoch, *counter), Bytes::from_static(b"old"));
        server.log = log.iter().map(last).collect();
        server.epochs = Epochs { accepted, current };
    }

    /// Starts servers with what is on their disks, and lets everything happen that happens.
    pub(super) fn start(&mut self, who: &[u64]) {
        let reading = self.reading;
        for me in who.iter().copied().map(PeerId) {
            let server = self.servers.get_mut(&me).unwrap();
            let held = (&server.log[..], server.epochs, server.floor);
            server.replica = replica(me, reading, &server.saved, self.sizes, held);
            server.orders.clear();
            server.up = true;
            server.turn = Turn::Looking;
            let mut out = Vec::new();
            server.replica.on_tick(self.now_ms, &mut out);
            self.take(me, out);
        }
        self.tell_links(who, true);
        self.run();
    }

    /// Kills a server: what its disk has not done is lost, its links break.
    pub(super) fn kill(&mut self, me: u64) {
        let server = self.servers.get_mut(&PeerId(me)).unwrap();
        server.up = false;
        server.orders.clear();
        self.break_links(|a, b| a == PeerId(me) || b == PeerId(me));
        self.tell_links(&[me], false);
        self.run();
    }

    /// Nothing passes between the two any more, and both notice.
    pub(super) fn cut(&mut self, a: u64, b: u64) {
        let (a, b) = (PeerId(a), PeerId(b));
        self.cut.extend([(a, b), (b, a)]);
        self.break_links(|x, y| (x, y) == (a, b) || (y, x) == (a, b));
        for (me, peer) in [(a, b), (b, a)] {
            self.act(me, |replica, now, out| replica.on_election_link(now, peer, false, out));
        }
        self.run();
    }

    /// What passes between the two passes again, once one of them starts anew.
    pub(super) fn join(&mut self, a: u64, b: u64) {
        let (a, b) = (PeerId(a), PeerId(b));
        self.cut.retain(|cut| ![(a, b), (b, a)].contains(cut));
    }

    fn break_links(&mut self, which: impl Fn(PeerId, PeerId) -> bool) {
        let broken: Vec<LinkId> =
            self.links.iter().filter(|(_, (a, b))| which(*a, *b)).map(|(link, _)| *link).collect();
        for link in broken {
            self.hang_up(link);
        }
    }

    fn hang_up(&mut self, link: LinkId) {
        if let Some((a, b)) = self.links.remove(&link) {
            self.flying.push_back(Flying::Lost(link, a));
            self.flying.push_back(Flying::Lost(link, b));
        }
    }

    fn tell_links(&mut self, who: &[u64], up: bool) {
        let all: Vec<PeerId> = self.servers.keys().copied().collect();
        for peer in who.iter().copied().map(PeerId) {
            for other in &all {
                let joined = !self.cut.contains(&(peer, *other)) && self.servers[other].up;
                if *other == peer || !joined {
                    continue;
                }
                self.act(*other, |replica, now, out| replica.on_election_link(now, peer, up, out));
                if up {
                    self.act(peer, |replica, now, out| replica.on_election_link(now, *other, up, out));
                }
            }
        }
    }

    /// Lets one server do something.
    pub(super) fn act(&mut self, me: PeerId, act: impl FnOnce(&mut Replica, i64, &mut Vec<Output>)) {
        let server = self.servers.get_mut(&me).unwrap();
        if server.up {
            let mut out = Vec::new();
            act(&mut server.replica, self.now_ms, &mut out);
            self.take(me, out);
        }
    }

    /// Who acknowledges its leader's history has written down the configuration that it was told, or does so in this step.
    fn has_written_members(&self, me: PeerId, out: &[Output]) {
        let acks = out.iter().any(
            |output| matches!(output, Output::Send { message: Message::Ack(zxid), .. } if zxid.counter() == 0),
        );
        if acks && !out.iter().any(|output| matches!(output, Output::Members)) {
            let (saved, replica) = (&self.servers[&me].saved, &self.servers[&me].replica);
            let under_way = replica.members_under_way();
            assert_eq!(&saved.0, replica.members(), "{me:?}");
            // A file may hold more: what was cut out of the log before it was durable.
            assert!(
                under_way.is_none() || under_way == saved.1.as_ref(),
                "{me:?}: {under_way:?}, {:?}",
                saved.1
            );
        }
    }

    fn take(&mut self, me: PeerId, out: Vec<Output>) {
        self.has_written_members(me, &out);
        for output in out {
            let server = self.servers.get_mut(&me).unwrap();
            match output {
                Output::Notify(ballot) => {
                    self.flying.push_back(Flying::Ballot(me, ballot.to, ballot.notification));
                }
                Output::Dial { peer, hearsay } => self.dial(me, peer, hearsay.as_ref()),
                Output::Send { link, message } => self.send(me, link, message),
                Output::AskRoom(link) if self.full => self.waiting.push((me, link)),
                Output::AskRoom(link) => self.act(me, |replica, now, out| replica.on_room(now, link, out)),
                Output::Hangup(link) => self.hang_up(link),
                Output::ReadLog { link, after } => {
                    let reaches = after >= server.floor;
                    let behind =
                        server.log.iter().filter(|(zxid, _)| *zxid > after).take(2).cloned().collect();
                    let records = reaches.then_some(behind);
                    self.act(me, |replica, now, out| replica.on_log_read(now, link, after, records, out));
                }
                Output::Append { order, zxid, payload } => {
                    server.orders.push_back((order, Order::Append(zxid, payload)));
                }
                Output::SaveEpochs { order, epochs } => {
                    server.orders.push_back((order, Order::Epochs(epochs)))
                }
                Output::Truncate { order, after } => server.orders.push_back((order, Order::Truncate(after))),
                Output::Commit(upto) => {
                    assert!(upto >= server.committed, "{me:?} goes back from {} to {upto}", server.committed);
                    server.committed = upto;
                }
                Output::SendSnapshot(link) => {
                    let last = server.committed.max(server.floor);
                    self.act(me, |replica, now, out| {
                        if replica.snapshot_begins(now, link, last, out) {
                            replica.snapshot_sent(now, link, last, out);
                        }
                    });
                }
                Output::ApplyAll => server.committed = server.replica.last_logged(),
                Output::Turn(turn) => server.turn = turn,
                Output::Members => {
                    let replica = &server.replica;
                    server.saved = (replica.members().clone(), replica.members_under_way().cloned());
                }
                Output::FromLeader(FromLeader::Ping(last)) => {
                    if let Turn::Learning { link, .. } = server.turn {
                        self.send(me, link, Message::Ping { last, touched: Vec::new() });
                    }
                }
                Output::Logged { .. }
                | Output::Proved
                | Output::Foreseen(_)
                | Output::FromLearner { .. }
                | Output::FromLeader(_) => {}
            }
        }
    }

    fn dial(&mut self, me: PeerId, peer: PeerId, hearsay: Option<&Bytes>) {
        let named = hearsay.and_then(members_of_text).is_some_and(|members| members.contains(peer));
        let known = self.servers[&me].replica.members_that_count().contains(peer);
        assert!(known || named, "{me:?} does not know where {peer:?} is");
        let reached = self.servers[&peer].up && !self.cut.contains(&(me, peer));
        let link = reached.then(|| {
            self.next_link += 1;
            self.links.insert(LinkId(self.next_link), (me, peer));
            LinkId(self.next_link)
        });
        self.flying.push_back(Flying::Dialed(me, peer, link));
    }

    fn send(&mut self, me: PeerId, link: LinkId, message: Message) {
        let Some((a, b)) = self.links.get(&link) else { return };
        let to = if *a == me { *b } else { *a };
        self.sent.push((me.0, to.0, message.clone()));
        self.flying.push_back(Flying::Quorum(link, to, message));
    }

    /// Carries out what the disks are asked and delivers what is on its way, until nothing is left.
    pub(super) fn run(&mut self) {
        for _ in 0..100_000 {
            if !self.disks() && !self.deliver() {
                return;
            }
        }
        panic!("there is no end of it");
    }

    fn disks(&mut self) -> bool {
        let ready = self
            .servers
            .iter()
            .find(|(_, server)| server.up && !server.disk_held && !server.orders.is_empty());
        let Some(me) = ready.map(|(me, _)| *me) else { return false };
        let server = self.servers.get_mut(&me).unwrap();
        let (order, what) = server.orders.pop_front().unwrap();
        match what {
            Order::Append(zxid, payload) => server.log.push((zxid, payload)),
            Order::Epochs(epochs) => {
                let last = server.log.last().map_or(server.floor, |(zxid, _)| *zxid);
                assert!(epochs.accepted >= epochs.current, "{me:?}: {epochs:?}");
                assert!(epochs.current >= last.epoch() || epochs.current == server.epochs.current, "{me:?}");
                server.epochs = epochs;
            }
            Order::Truncate(after) => {
                server.log.retain(|(zxid, _)| *zxid <= after);
                server.committed = server.committed.min(after);
            }
        }
        self.act(me, |replica, now, out| replica.on_synced(now, order, out));
        true
    }

    fn deliver(&mut self) -> bool {
        match self.flying.pop_front() {
            None => return false,
            Some(Flying::Ballot(from, to, notification)) => {
                if from != to && !self.cut.contains(&(from, to)) {
                    self.act(to, |replica, now, out| replica.on_notification(now, from, &notification, out));
                }
            }
            Some(Flying::Lost(link, to)) => {
                self.act(to, |replica, now, out| replica.on_link_lost(now, link, out));
            }
            Some(Flying::Dialed(me, peer, link)) => {
                self.act(me, |replica, now, out| replica.on_dialed(now, peer, link, out));
            }
            Some(Flying::Quorum(link, to, mut message)) => {
                let Some((one, other)) = self.links.get(&link) else { return true };
                if self.apache.contains(one) || self.apache.contains(other) {
                    forget_capability(&mut message);
                }
                let snapshot = match &message {
                    Message::Snap(zxid) => Some(*zxid),
                    _ => None,
                };
                self.act(to, |replica, now, out| replica.on_message(now, link, message, out));
                if let Some(zxid) = snapshot {
                    let server = self.servers.get_mut(&to).unwrap();
                    server.receiving = Some((link, zxid));
                    server.floor = zxid;
                    server.committed = zxid;
                    self.act(to, |replica, now, out| {
                        assert!(replica.on_snapshot(now, link, zxid, out), "the snapshot was wanted");
                    });
                    // The snapshot stands in place of the records that it holds.
                    self.servers.get_mut(&to).unwrap().log.retain(|(held, _)| *held > zxid);
                }
            }
        }
        true
    }

    /// Whoever waits for room has it, once.
    pub(super) fn make_room(&mut self) {
        for (me, link) in std::mem::take(&mut self.waiting) {
            self.act(me, |replica, now, out| replica.on_room(now, link, out));
        }
        self.run();
    }

    /// Lets time pass, with all ticks on the way.
    pub(super) fn wait(&mut self, ms: i64) {
        let end = self.now_ms + ms;
        loop {
            let up = self.servers.values().filter(|server| server.up);
            let next = up.filter_map(|server| server.replica.next_deadline()).min().unwrap_or(end);
            if next > end {
                break;
            }
            self.now_ms = self.now_ms.max(next);
            let all: Vec<PeerId> = self.servers.keys().copied().collect();
            for me in all {
                self.act(me, |replica, now, out| {
                    if replica.next_deadline().is_some_and(|due| due <= now) {
                        replica.on_tick(now, out);
                    }
                });
            }
            self.run();
            self.now_ms += 1;
        }
        self.now_ms = end;
    }

    pub(super) fn server(&mut self, me: u64) -> &mut Server {
        self.servers.get_mut(&PeerId(me)).unwrap()
    }

    /// Holds a disk, or lets it go on.
    pub(super) fn hold_disk(&mut self, me: u64, held: bool) {
        self.server(me).disk_held = held;
        if !held {
            self.run();
        }
    }

    /// Lets a disk that is held carry out one order.
    pub(super) fn one_order(&mut self, me: u64) {
        self.server(me).disk_held = false;
        assert!(self.disks(), "{me} has no orders");
        self.server(me).disk_held = true;
        self.run();
    }

    /// The established leader.
    pub(super) fn leader(&self) -> Option<u64> {
        let leads = |server: &&Server| server.up && matches!(server.turn, Turn::Leading { .. });
        let leaders: Vec<&Server> = self.servers.values().filter(leads).collect();
        assert!(leaders.len() <= 1, "two lead");
        let all = self.servers.iter();
        all.filter(|(_, server)| leads(server)).map(|(peer, _)| peer.0).next()
    }

    /// Waits for an established leader.
    pub(super) fn elect(&mut self) -> u64 {
        for _ in 0..100 {
            if let Some(leader) = self.leader() {
                return leader;
            }
            self.wait(100);
        }
        panic!("nobody leads");
    }

    /// Proposes a write at the leader, without letting anything happen.
    pub(super) fn propose(&mut self, leader: u64) -> Zxid {
        let zxid = self.server(leader).replica.next_zxid().expect("it leads");
        let payload = Bytes::from(format!("{zxid} by {leader}"));
        self.act(PeerId(leader), |replica, now, out| replica.propose(now, zxid, &payload, out));
        zxid
    }

    /// Proposes a write and lets everything happen.
    pub(super) fn write(&mut self, leader: u64) -> Zxid {
        let zxid = self.propose(leader);
        self.run();
        zxid
    }

    /// Proposes a configuration at the leader, without letting anything happen.
    pub(super) fn propose_members(&mut self, leader: u64, voters: &[u64], observers: &[u64]) -> Zxid {
        let zxid = self.server(leader).replica.next_zxid().expect("it leads");
        let text = members(voters, observers, zxid.0).text;
        let payload = Bytes::from([b"members ", &text[..]].concat());
        self.act(PeerId(leader), |replica, now, out| replica.propose(now, zxid, &payload, out));
        zxid
    }

    /// Changes the ensemble, and lets everything happen.
    pub(super) fn change(&mut self, leader: u64, voters: &[u64], observers: &[u64]) -> Zxid {
        let zxid = self.propose_members(leader, voters, observers);
        self.run();
        zxid
    }

    /// The version of the configuration that a server knows to be committed.
    pub(super) fn version(&self, me: u64) -> Zxid {
        self.servers[&PeerId(me)].replica.members().zxid()
    }

    pub(super) fn committed(&self, me: u64) -> Zxid {
        self.servers[&PeerId(me)].committed
    }

    pub(super) fn log(&self, me: u64) -> Vec<(u32, u32)> {
        let log = &self.servers[&PeerId(me)].log;
        log.iter().map(|(zxid, _)| (zxid.epoch(), zxid.counter())).collect()
    }

    pub(super) fn serves(&self, me: u64) -> bool {
        self.servers[&PeerId(me)].turn != Turn::Looking
    }

    /// What was sent from one to the other since the last call, without pings.
    pub(super) fn said(&mut self, from: u64, to: u64) -> Vec<Message> {
        let taken = std::mem::take(&mut self.sent);
        let between = taken.into_iter().filter(|(a, b, _)| (*a, *b) == (from, to));
        between
            .map(|(_, _, message)| message)
            .filter(|message| !matches!(message, Message::Ping { .. }))
            .collect()
    }

    pub(super) fn role(&self, me: u64) -> &Role {
        self.servers[&PeerId(me)].replica.role()
    }
}
