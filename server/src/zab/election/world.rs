//! A small model of everything around elections: channels that keep one unsent message and begin with the last one sent,
//! leaders that give up without a quorum and take in no follower that is ahead, followers that knock some times, and
//! trouble of all kinds.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Members, Notification, PeerId, Quorum, Vote};
use super::fixtures::{ensemble, weighted};
use super::{Ballot, Elected, Election};
use docent::Zxid;

/// A leader without a quorum of followers gives up.
const LEADER_PATIENCE_MS: i64 = 400;
/// A follower knocks this often before it looks again.
const KNOCKS: u32 = 5;
const KNOCK_EVERY_MS: i64 = 20;

pub(super) type Id = u64;

/// What a server does. A follower has a quorum link once it has joined; a leader knows who has joined by which.
#[derive(Clone, Debug)]
pub(super) enum Role {
    Down,
    Looking,
    Following { leader: Id, link: Option<u64> },
    Leading { joined: BTreeMap<Id, u64>, established: bool },
}

pub(super) struct Server {
    // What survives a crash.
    accepted: u32,
    epoch: u32,
    zxid: i64,
    // What does not.
    pub(super) election: Election,
    pub(super) role: Role,
    /// Rises with every change of role, so that what was meant for an earlier one is void.
    stint: u64,
}

/// What is under way from one server to another.
#[derive(Default)]
struct Pipe {
    unsent: Option<Notification>,
    last: Option<Notification>,
    busy_until_ms: i64,
}

/// The election channel of two servers. It has a new number whenever it stands anew; 0 is down.
#[derive(Default)]
struct Channel {
    number: u64,
    /// Nothing comes through, on this channel or between leader and follower.
    blocked: bool,
}

/// What is going to happen. `Miss`: one end of a quorum link notices that it is gone.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    Start(Id),
    Tick(Id),
    Connect(Id, Id),
    Linked { at: Id, peer: Id, number: u64, up: bool },
    Pump { from: Id, to: Id, number: u64 },
    Arrive { from: Id, to: Id, number: u64, notification: Notification },
    Knock { follower: Id, stint: u64, times: u32 },
    Level { at: Id, stint: u64, epoch: u32 },
    Patience { leader: Id, stint: u64 },
    Miss { at: Id, link: u64 },
    Trouble,
}

pub(super) struct World {
    pub(super) now_ms: i64,
    order: u64,
    queue: BTreeMap<(i64, u64), Happening>,
    pub(super) rng: fastrand::Rng,
    pub(super) members: Members,
    pub(super) servers: BTreeMap<Id, Server>,
    pipes: BTreeMap<(Id, Id), Pipe>,
    channels: BTreeMap<(Id, Id), Channel>,
    /// The longest time a message takes.
    pub(super) delay_ms: i64,
    pub(super) trouble_until_ms: i64,
    /// Numbers of channels and of quorum links.
    numbers: u64,
    epochs: BTreeSet<u32>,
    pub(super) ballots: BTreeMap<Id, usize>,
    /// How often a follower that may lead was ahead of its leader.
    pub(super) behind: usize,
}

fn pair(a: Id, b: Id) -> (Id, Id) {
    (a.min(b), a.max(b))
}

fn members(rng: &mut fastrand::Rng) -> Members {
    match rng.u8(0..6) {
        0 => ensemble(Quorum::majority([PeerId(1)]), &[2]),
        1 => ensemble(Quorum::majority((1..=3).map(PeerId)), &[]),
        2 => ensemble(Quorum::majority((2..=4).map(PeerId)), &[1, 5]),
        3 => ensemble(Quorum::majority((1..=5).map(PeerId)), &[6]),
        4 => ensemble(Quorum::majority((1..=7).map(PeerId)), &[]),
        _ => weighted(),
    }
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let members = members(&mut rng);
        let slow = rng.u8(0..8) == 0;
        let mut world = World {
            now_ms: 0,
            order: 0,
            queue: BTreeMap::new(),
            delay_ms: if slow { 40 } else { 3 },
            rng,
            members,
            servers: BTreeMap::new(),
            pipes: BTreeMap::new(),
            channels: BTreeMap::new(),
            trouble_until_ms: 0,
            numbers: 0,
            epochs: BTreeSet::new(),
            ballots: BTreeMap::new(),
            behind: 0,
        };
        let ids: Vec<Id> = world.members.others(PeerId(0)).map(|peer| peer.0).collect();
        for id in &ids {
            let epoch = world.rng.u32(0..3);
            let zxid = world.rng.i64(0..4);
            let server = Server {
                accepted: 3,
                epoch,
                zxid,
                election: Election::new(PeerId(*id), 0, false),
                role: Role::Down,
                stint: 0,
            };
            world.servers.insert(*id, server);
            for peer in ids.iter().filter(|peer| *peer != id) {
                world.pipes.insert((*id, *peer), Pipe::default());
                world.channels.entry(pair(*id, *peer)).or_default();
            }
        }
        world
    }

    pub(super) fn ids(&self) -> Vec<Id> {
        self.servers.keys().copied().collect()
    }

    pub(super) fn is_voter(&self, id: Id) -> bool {
        self.members.quorum.is_voter(PeerId(id))
    }

    pub(super) fn is_quorum<'a>(&self, ids: impl IntoIterator<Item = &'a Id>) -> bool {
        self.members.quorum.is_quorum(&ids.into_iter().copied().map(PeerId).collect::<Vec<_>>())
    }

    pub(super) fn later(&mut self, after_ms: i64, what: Happening) {
        self.order += 1;
        self.queue.insert((self.now_ms + after_ms, self.order), what);
    }

    /// Some time from 0 to `max_ms`.
    pub(super) fn some(&mut self, max_ms: i64) -> i64 {
        self.rng.i64(0..=max_ms)
    }

    fn is_up(&self, id: Id) -> bool {
        !matches!(self.servers[&id].role, Role::Down)
    }

    pub(super) fn run_until(&mut self, end_ms: i64, done: impl Fn(&World) -> bool) -> bool {
        while !done(self) {
            let Some(next) = self.queue.first_entry().filter(|next| next.key().0 <= end_ms) else {
                self.now_ms = end_ms;
                return false;
            };
            self.now_ms = next.key().0;
            let what = next.remove();
            self.step(what);
        }
        true
    }

    fn step(&mut self, what: Happening) {
        match what {
            Happening::Start(id) => self.start(id),
            Happening::Tick(id) => {
                self.elect(id, |election, now_ms, members, out| election.on_tick(now_ms, members, out))
            }
            Happening::Connect(a, b) => self.connect(a, b),
            Happening::Linked { at, peer, number, up } => {
                let current = self.channels[&pair(at, peer)].number == number;
                if self.is_up(at) && current {
                    self.elect(at, |election, now_ms, members, out| {
                        election.on_link(now_ms, PeerId(peer), up, members, out)
                    });
                }
            }
            Happening::Pump { from, to, number } => self.pump(from, to, number),
            Happening::Arrive { from, to, number, notification } => {
                if self.channels[&pair(from, to)].number == number && !self.channels[&pair(from, to)].blocked
                {
                    self.elect(to, |election, now_ms, members, out| {
                        election.on_notification(now_ms, PeerId(from), &notification, members, out)
                    });
                }
            }
            Happening::Knock { follower, stint, times } if self.servers[&follower].stint == stint => {
                self.knock(follower, times);
            }
            Happening::Level { at, stint, epoch } if self.servers[&at].stint == stint => {
                self.server(at).election.established(epoch);
            }
            Happening::Patience { leader, stint } if self.servers[&leader].stint == stint => {
                if matches!(self.servers[&leader].role, Role::Leading { established: false, .. }) {
                    self.look(leader);
                }
            }
            Happening::Miss { at, link } => self.miss(at, link),
            Happening::Knock { .. } | Happening::Level { .. } | Happening::Patience { .. } => {}
            Happening::Trouble => self.trouble(),
        }
    }

    fn server(&mut self, id: Id) -> &mut Server {
        self.servers.get_mut(&id).expect("ids are those of the members")
    }

    /// Lets an election do something, and carries out what it asks.
    fn elect(
        &mut self,
        id: Id,
        act: impl FnOnce(&mut Election, i64, &Members, &mut Vec<Ballot>) -> Option<Elected>,
    ) {
        if !self.is_up(id) {
            return;
        }
        let (now_ms, mut out) = (self.now_ms, Vec::new());
        let server = self.servers.get_mut(&id).expect("ids are those of the members");
        let elected = act(&mut server.election, now_ms, &self.members, &mut out);
        let deadline = server.election.next_deadline();
        *self.ballots.entry(id).or_default() += out.len();
        for Ballot { to, notification } in out {
            self.pipes.get_mut(&(id, to.0)).expect("ballots go to other members").unsent = Some(notification);
            let number = self.channels[&pair(id, to.0)].number;
            self.later(0, Happening::Pump { from: id, to: to.0, number });
        }
        if let Some(at_ms) = deadline {
            self.later((at_ms - now_ms).max(0), Happening::Tick(id));
        }
        if let Some(elected) = elected {
            self.take_role(id, elected.vote.leader.0);
        }
    }

    fn take_role(&mut self, id: Id, leader: Id) {
        let server = self.server(id);
        server.stint += 1;
        let stint = server.stint;
        if leader == id {
            server.role = Role::Leading { joined: BTreeMap::from([(id, 0)]), established: false };
            self.later(LEADER_PATIENCE_MS, Happening::Patience { leader: id, stint });
            self.maybe_establish(id);
        } else {
            server.role = Role::Following { leader, link: None };
            let after_ms = 1 + self.some(2);
            self.later(after_ms, Happening::Knock { follower: id, stint, times: 1 });
        }
    }

    pub(super) fn candidature(&self, id: Id) -> Option<Vote> {
        let server = &self.servers[&id];
        let vote = Vote { epoch: server.epoch.into(), zxid: Zxid(server.zxid), leader: PeerId(id) };
        self.is_voter(id).then_some(vote)
    }

    fn look(&mut self, id: Id) {
        let own = self.candidature(id);
        self.leave(id, 3);
        let server = self.server(id);
        server.stint += 1;
        server.role = Role::Looking;
        self.elect(id, |election, now_ms, members, out| election.look(now_ms, own, members, out));
    }

    fn start(&mut self, id: Id) {
        if self.is_up(id) {
            return;
        }
        let seed = self.rng.u64(..);
        let server = self.server(id);
        server.election = Election::new(PeerId(id), seed, false);
        server.role = Role::Looking;
        for peer in self.ids().into_iter().filter(|peer| *peer != id) {
            *self.pipes.get_mut(&(id, peer)).expect("there is a pipe to every other member") =
                Pipe::default();
            let after_ms = self.some(10);
            self.later(after_ms, Happening::Connect(id, peer));
        }
        self.look(id);
    }

    pub(super) fn crash(&mut self, id: Id) {
        self.leave(id, 10);
        let server = self.server(id);
        server.role = Role::Down;
        server.stint += 1;
        for peer in self.ids().into_iter().filter(|peer| *peer != id) {
            self.cut(id, peer);
        }
    }

    /// This end closes its quorum links; the others notice.
    fn leave(&mut self, id: Id, within_ms: i64) {
        for peer in self.ids().into_iter().filter(|peer| *peer != id) {
            self.part(id, peer, within_ms);
        }
    }

    /// The quorum link between these two breaks, if there is one: both ends notice, each in its time.
    fn part(&mut self, a: Id, b: Id, within_ms: i64) {
        for (follower, other) in [(a, b), (b, a)] {
            if let Role::Following { leader, link: Some(link) } = self.servers[&follower].role
                && leader == other
            {
                for at in [a, b] {
                    let after_ms = self.some(within_ms);
                    self.later(after_ms, Happening::Miss { at, link });
                }
            }
        }
    }

    fn miss(&mut self, at: Id, gone: u64) {
        match &mut self.server(at).role {
            Role::Following { leader, link: Some(link) } if *link == gone => {
                let leader = *leader;
                self.server(at).election.suspect(PeerId(leader));
                self.look(at);
            }
            Role::Leading { joined, established } => {
                joined.retain(|_, link| *link != gone);
                let (joined, established) = (joined.clone(), *established);
                if established && !self.is_quorum(joined.keys()) {
                    self.look(at);
                }
            }
            Role::Following { .. } | Role::Looking | Role::Down => {}
        }
    }

    /// Breaks an election channel. What is under way is lost; both ends notice, each in its time, and connect anew.
    fn cut(&mut self, a: Id, b: Id) {
        let channel = self.channels.get_mut(&pair(a, b)).expect("there is a channel between any two");
        if channel.number == 0 {
            return;
        }
        channel.number = 0;
        for (at, peer) in [(a, b), (b, a)] {
            let after_ms = self.some(5);
            self.later(after_ms, Happening::Linked { at, peer, number: 0, up: false });
        }
        let after_ms = 6 + self.some(40);
        self.later(after_ms, Happening::Connect(a, b));
    }

    fn connect(&mut self, a: Id, b: Id) {
        let up = self.is_up(a) && self.is_up(b);
        let channel = self.channels.get_mut(&pair(a, b)).expect("there is a channel between any two");
        if !up || channel.number != 0 {
            return;
        }
        if channel.blocked {
            self.later(50, Happening::Connect(a, b));
            return;
        }
        self.numbers += 1;
        let number = self.numbers;
        channel.number = number;
        for (at, peer) in [(a, b), (b, a)] {
            let pipe = self.pipes.get_mut(&(at, peer)).expect("there is a pipe to every other member");
            pipe.busy_until_ms = 0;
            pipe.unsent = pipe.unsent.take().or_else(|| pipe.last.clone());
            let after_ms = self.some(3);
            self.later(after_ms, Happening::Linked { at, peer, number, up: true });
            let after_ms = self.some(3);
            self.later(after_ms, Happening::Pump { from: at, to: peer, number });
        }
    }

    /// Sends what waits. Messages of one channel arrive in order; while one is under way, only the newest waits.
    fn pump(&mut self, from: Id, to: Id, number: u64) {
        if number == 0 || self.channels[&pair(from, to)].number != number {
            return;
        }
        let delay_ms = self.some(self.delay_ms);
        let now_ms = self.now_ms;
        let pipe = self.pipes.get_mut(&(from, to)).expect("there is a pipe to every other member");
        if pipe.busy_until_ms > now_ms {
            let after_ms = pipe.busy_until_ms - now_ms;
            self.later(after_ms, Happening::Pump { from, to, number });
        } else if let Some(notification) = pipe.unsent.take() {
            pipe.last = Some(notification.clone());
            pipe.busy_until_ms = now_ms + delay_ms;
            self.later(delay_ms, Happening::Arrive { from, to, number, notification });
        }
    }

    fn knock(&mut self, follower: Id, times: u32) {
        let Role::Following { leader, link: None } = self.servers[&follower].role else { return };
        let blocked = self.channels[&pair(follower, leader)].blocked;
        if !blocked && matches!(self.servers[&leader].role, Role::Leading { .. }) {
            self.join(follower, leader, times);
        } else {
            self.knock_again(follower, leader, times);
        }
    }

    fn knock_again(&mut self, follower: Id, leader: Id, times: u32) {
        if times < KNOCKS {
            let stint = self.servers[&follower].stint;
            self.later(KNOCK_EVERY_MS, Happening::Knock { follower, stint, times: times + 1 });
        } else {
            self.server(follower).election.suspect(PeerId(leader));
            self.look(follower);
        }
    }

    fn join(&mut self, follower: Id, leader: Id, times: u32) {
        let history = |server: &Server| (server.epoch, server.zxid);
        let ahead = history(&self.servers[&follower]) > history(&self.servers[&leader]);
        let is_voter = self.is_voter(follower);
        self.numbers += 1;
        let link = self.numbers;
        let Role::Leading { joined, established } = &mut self.server(leader).role else { return };
        if !*established && is_voter && ahead {
            self.behind += usize::from(self.members.quorum.has_weight(PeerId(follower)));
            self.knock_again(follower, leader, times);
            return;
        }
        joined.insert(follower, link);
        let established = *established;
        self.server(follower).role = Role::Following { leader, link: Some(link) };
        if established {
            self.level(follower, leader);
        } else {
            self.maybe_establish(leader);
        }
    }

    fn maybe_establish(&mut self, leader: Id) {
        let Role::Leading { joined, established: false } = self.servers[&leader].role.clone() else { return };
        if !self.is_quorum(joined.keys()) {
            return;
        }
        assert!(self.members.quorum.has_weight(PeerId(leader)), "weight 0 never leads");
        let epoch = 1 + joined.keys().map(|id| self.servers[id].accepted).max().unwrap_or(0);
        assert!(self.epochs.insert(epoch), "two leaders of epoch {epoch}");
        let server = self.server(leader);
        server.role = Role::Leading { joined: joined.clone(), established: true };
        server.epoch = epoch;
        for id in joined.into_keys() {
            self.level(id, leader);
        }
    }

    /// Brings a server to its leader's history.
    fn level(&mut self, id: Id, leader: Id) {
        let (epoch, zxid) = (self.servers[&leader].epoch, self.servers[&leader].zxid);
        let after_ms = self.some(5);
        let server = self.server(id);
        (server.accepted, server.epoch, server.zxid) = (epoch, epoch, zxid);
        let stint = server.stint;
        self.later(after_ms, Happening::Level { at: id, stint, epoch });
    }

    /// A leader writes; some of its followers have it at once, as many as a quorum needs or fewer.
    pub(super) fn write(&mut self, leader: Id) {
        let Role::Leading { joined, established: true } = self.servers[&leader].role.clone() else { return };
        let server = self.server(leader);
        server.zxid = (server.zxid + 1).max(i64::from(server.epoch) << 32);
        let zxid = server.zxid;
        for id in joined.into_keys() {
            if self.rng.bool() {
                self.server(id).zxid = zxid;
            }
        }
    }

    fn trouble(&mut self) {
        if self.now_ms >= self.trouble_until_ms {
            return;
        }
        let ids = self.ids();
        let (one, other) = (ids[self.rng.usize(0..ids.len())], ids[self.rng.usize(0..ids.len())]);
        match self.rng.u8(0..10) {
            0..=2 => {
                self.crash(one);
                let after_ms = self.some(400);
                self.later(after_ms, Happening::Start(one));
            }
            3 => {
                // Its disk was wiped, except for what it promised.
                self.crash(one);
                let server = self.server(one);
                (server.epoch, server.zxid) = (0, 0);
                self.later(100, Happening::Start(one));
            }
            4 | 5 if one != other => {
                self.channels
                    .get_mut(&pair(one, other))
                    .expect("there is a channel between any two")
                    .blocked = true;
                self.part(one, other, 250);
                if self.rng.bool() {
                    self.cut(one, other);
                }
            }
            6 if one != other => {
                self.channels
                    .get_mut(&pair(one, other))
                    .expect("there is a channel between any two")
                    .blocked = false;
                self.cut(one, other);
            }
            7 if one != other => self.cut(one, other),
            8 if one != other => self.part(one, other, 10),
            _ => ids.into_iter().for_each(|id| self.write(id)),
        }
        let after_ms = 1 + self.some(100);
        self.later(after_ms, Happening::Trouble);
    }

    /// Ends all trouble. Some stay down, as long as the others are a quorum.
    pub(super) fn heal(&mut self) {
        self.trouble_until_ms = 0;
        let ids = self.ids();
        let down = ids[self.rng.usize(0..ids.len())];
        let rest: BTreeSet<Id> = ids.iter().copied().filter(|id| *id != down).collect();
        let leave_down = self.rng.bool() && self.is_quorum(&rest);
        if leave_down {
            self.crash(down);
            self.queue.retain(|_, what| !matches!(what, Happening::Start(id) if *id == down));
        }
        for (a, b) in self.channels.keys().copied().collect::<Vec<_>>() {
            let channel = self.channels.get_mut(&(a, b)).expect("a key of the map");
            if std::mem::take(&mut channel.blocked) {
                self.cut(a, b);
            }
        }
        for id in ids.into_iter().filter(|id| !leave_down || *id != down) {
            let after_ms = self.some(20);
            self.later(after_ms, Happening::Start(id));
        }
        self.ballots.clear();
    }

    /// Whether everybody who is up follows one leader, or is it, and no quorum link is gone without being missed.
    pub(super) fn is_settled(&self) -> bool {
        let up = || self.servers.iter().filter(|(_, server)| !matches!(server.role, Role::Down));
        let mut leaders = BTreeSet::new();
        up().all(|(id, server)| match &server.role {
            Role::Leading { established, .. } => leaders.insert(*id) && *established,
            Role::Following { leader, link } => match &self.servers[leader].role {
                Role::Leading { joined, .. } => link.is_some() && joined.get(id) == link.as_ref(),
                Role::Following { .. } | Role::Looking | Role::Down => false,
            },
            Role::Looking | Role::Down => false,
        }) && leaders.len() == 1
            && !self.queue.values().any(|what| matches!(what, Happening::Miss { .. }))
    }

    pub(super) fn leader(&self) -> Option<Id> {
        let leads = |server: &Server| matches!(server.role, Role::Leading { established: true, .. });
        self.servers.iter().find(|(_, server)| leads(server)).map(|(id, _)| *id)
    }
}
