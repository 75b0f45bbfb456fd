//! The world of one run: time, chance, the servers, what lies between them, their clients, and who checks them.
//!
//! One queue holds everything that will happen, by the moment and then by the order in which it was put there. A run has
//! three phases: *chaos*, with faults; *healing*, in which nothing goes wrong any more and everybody must make progress
//! within a bound; *quiet*, in which clients only keep their sessions and all servers must come to the same state.

use std::collections::{BTreeMap, BTreeSet};

use docent::SessionId;
use docent_server::node::ConnId;
use docent_server::zab::{LinkId, PeerId};

use super::checks::{Checks, Violation};
use super::clients::Client;
use super::crash_points::CrashPoint;
use super::network::{Life, Network};
use super::people::Pipe;
use super::plan::{Fault, Plan, chance};
use super::servers::Server;
use super::trace::Trace;

/// Microseconds of simulated time.
pub(super) type Time = i64;

/// Steps after which a run is given up as one that does not end.
const STEPS_MAX: u64 = 5_000_000;

/// Everything that can happen next.
#[derive(Debug)]
pub(super) enum Happening {
    /// A server looks into its inbox.
    Turn(Life),
    /// A server's deadline has come, counted on its own clock.
    Tick(Life, i64),
    /// A server's log does its next step.
    Disk(Life),
    /// A server's snapshots do their next step.
    SnapshotDisk(Life),
    /// A server starts.
    Boot(PeerId),
    /// A server is killed, or its machine loses power.
    Crash { life: Life, power: bool },
    /// A quorum link delivers.
    Wire { wire: u64, side: usize },
    /// An end of a link hears that it is gone.
    WireLost { life: Life, link: LinkId },
    /// A call is answered. The caller may know the peer from hearsay alone.
    Called { caller: Life, peer: PeerId, named: bool },
    /// An election channel delivers.
    Notice { from: PeerId, to: PeerId },
    /// An election connection is tried.
    Meet(PeerId, PeerId),
    /// A client looks around.
    Client(u32),
    /// A client's connection delivers to its server.
    Upward(ConnId),
    /// A client's connection delivers to its client.
    Downward(ConnId),
    /// A client hears that its connection is gone.
    ClientLost { client: u32, conn: ConnId },
    /// A server hears that a connection is gone.
    ConnLost { life: Life, conn: ConnId },
    /// A fault happens.
    Incident(Fault),
    /// A blocked direction moves again.
    Unblock(PeerId, PeerId),
}

/// Numbers about one run.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Steps of all nodes.
    pub steps: u64,
    /// Simulated milliseconds.
    pub ms: i64,
    /// Faults by kind; conditions count once for each thing that they touched.
    pub faults: BTreeMap<Fault, u64>,
    /// Leaders that were established.
    pub leaders: u64,
    /// Learners that were brought level by a diff, a cut and a snapshot.
    pub syncs: [u64; 3],
    /// Reads of the log for learners: those that found what is behind them, and those that did not reach back.
    pub log_reads: [u64; 2],
    /// States that came in more than one piece.
    pub in_pieces: u64,
    /// Servers that came back with an empty disk.
    pub wiped: u64,
    /// Servers that died at each point.
    pub points: BTreeMap<CrashPoint, u64>,
    /// Starts of servers.
    pub boots: u64,
    /// Changes of the members.
    pub changes: u64,
    /// Transactions that were committed.
    pub committed: u64,
    /// Answers that clients got.
    pub answers: u64,
    /// Watch events that clients got.
    pub events: u64,
    /// Sessions that ended.
    pub sessions_ended: u64,
    /// Registers for which the search for an order gave up.
    pub undecided: u64,
}

impl Stats {
    /// Adds another run's numbers.
    pub fn add(&mut self, other: &Stats) {
        self.steps += other.steps;
        self.ms += other.ms;
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        self.leaders += other.leaders;
        for (mine, theirs) in self.syncs.iter_mut().zip(other.syncs) {
            *mine += theirs;
        }
        for (mine, theirs) in self.log_reads.iter_mut().zip(other.log_reads) {
            *mine += theirs;
        }
        self.in_pieces += other.in_pieces;
        self.wiped += other.wiped;
        for (point, count) in &other.points {
            *self.points.entry(*point).or_default() += count;
        }
        self.boots += other.boots;
        self.changes += other.changes;
        self.committed += other.committed;
        self.answers += other.answers;
        self.events += other.events;
        self.sessions_ended += other.sessions_ended;
        self.undecided += other.undecided;
    }
}

/// The phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Chaos,
    Healing,
    Quiet,
}

/// One run.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) now: Time,
    pub(super) phase: Phase,
    queue: BTreeMap<(Time, u64), Happening>,
    next: u64,
    pub(super) servers: BTreeMap<PeerId, Server>,
    pub(super) net: Network,
    pub(super) clients: BTreeMap<u32, Client>,
    pub(super) pipes: BTreeMap<ConnId, Pipe>,
    pub(super) next_conn: u64,
    pub(super) checks: Checks,
    pub(super) trace: Trace,
    pub(super) stats: Stats,
    /// What things take: one stream for all that always happens.
    pub(super) pace: fastrand::Rng,
    /// What goes wrong: a stream for each kind.
    pub(super) luck: BTreeMap<Fault, fastrand::Rng>,
    /// The next server at this point dies.
    pub(super) armed: Option<CrashPoint>,
}

pub(super) type Done = Result<(), Violation>;

impl World {
    pub(super) fn new(plan: &Plan, trace: Trace) -> Self {
        let peers: BTreeSet<PeerId> = match plan.servers {
            1 => [PeerId(0)].into(),
            _ => (1..=plan.all_servers()).map(PeerId).collect(),
        };
        let operators = u32::from(plan.has(Fault::Reconfig));
        let luck: BTreeMap<Fault, fastrand::Rng> =
            Fault::ALL.into_iter().map(|fault| (fault, chance(plan.seed, &fault.to_string()))).collect();
        let mut world = World {
            now: 0,
            phase: Phase::Chaos,
            queue: BTreeMap::new(),
            next: 0,
            servers: BTreeMap::new(),
            net: Network::default(),
            clients: (1..=plan.clients + operators)
                .map(|number| (number, Client::new(number, plan)))
                .collect(),
            pipes: BTreeMap::new(),
            next_conn: 0,
            checks: Checks::new(plan),
            trace,
            stats: Stats::default(),
            pace: chance(plan.seed, "pace"),
            luck,
            armed: None,
            plan: plan.clone(),
        };
        for peer in &peers {
            world.servers.insert(*peer, Server::new(*peer, plan));
            let delay = world.pace.i64(0..20_000);
            world.at(delay, Happening::Boot(*peer));
        }
        for client in 1..=plan.clients + operators {
            let delay = world.pace.i64(0..200_000);
            world.at(delay, Happening::Client(client));
        }
        for fault in plan.faults.keys().copied().filter(|fault| fault.is_incident()).collect::<Vec<_>>() {
            world.next_incident(fault);
        }
        world
    }

    /// Something will happen in so many microseconds.
    pub(super) fn at(&mut self, delay_us: Time, happening: Happening) {
        self.next += 1;
        self.queue.insert((self.now + delay_us.max(0), self.next), happening);
    }

    /// Runs all phases.
    pub(super) fn run(&mut self) -> Done {
        self.run_until(self.plan.chaos_ms * 1_000, |_| false)?;
        self.heal();
        let bound_us = self.healing_bound_us();
        self.run_until(self.now + bound_us, World::all_make_progress)?;
        if !self.all_make_progress() {
            return Err(Violation::new("after healing everybody makes progress", self.standing()));
        }
        self.phase = Phase::Quiet;
        for client in self.clients.values_mut() {
            client.quiet = true;
        }
        let open: BTreeSet<SessionId> = self.checks.model.sessions.keys().copied().collect();
        let quiet_us = i64::from(self.longest_session_ms()) * 3_000 + bound_us / 4;
        self.run_until(self.now + quiet_us, |_| false)?;
        self.run_until(self.now + bound_us, World::all_agree)?;
        self.finish(&open)
    }

    fn run_until(&mut self, end: Time, enough: impl Fn(&World) -> bool) -> Done {
        let mut looked = self.now;
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            // Looking costs; every twenty milliseconds is often enough.
            if entry.key().0 >= looked + 20_000 {
                looked = entry.key().0;
                if enough(self) {
                    return Ok(());
                }
                continue;
            }
            let ((now, _), happening) = entry.remove_entry();
            self.now = now;
            self.happen(happening)?;
            if self.stats.steps > STEPS_MAX {
                return Err(Violation::new("a run ends", format!("{STEPS_MAX} steps were not enough")));
            }
        }
        self.now = end;
        Ok(())
    }

    /// A flat dispatch.
    fn happen(&mut self, happening: Happening) -> Done {
        match happening {
            Happening::Turn(life) => self.turn(life),
            Happening::Tick(life, mono_ms) => self.tick(life, mono_ms),
            Happening::Disk(life) => self.disk_step(life),
            Happening::SnapshotDisk(life) => self.snapshot_step(life),
            Happening::Boot(peer) => self.boot(peer),
            Happening::Crash { life, power } => {
                self.crash_life(life, power);
                Ok(())
            }
            Happening::Wire { wire, side } => self.wire_step(wire, side),
            Happening::WireLost { life, link } => {
                self.wire_lost(life, link);
                Ok(())
            }
            Happening::Called { caller, peer, named } => {
                self.called(caller, peer, named);
                Ok(())
            }
            Happening::Notice { from, to } => {
                self.notice(from, to);
                Ok(())
            }
            Happening::Meet(a, b) => {
                self.meet(a, b);
                Ok(())
            }
            Happening::Client(number) => self.client_step(number),
            Happening::Upward(conn) => {
                self.upward(conn);
                Ok(())
            }
            Happening::Downward(conn) => self.downward(conn),
            Happening::ClientLost { client, conn } => {
                self.client_lost(client, conn);
                Ok(())
            }
            Happening::ConnLost { life, conn } => {
                self.conn_lost(life, conn);
                Ok(())
            }
            Happening::Incident(fault) => {
                self.incident(fault);
                Ok(())
            }
            Happening::Unblock(from, to) => {
                self.net.blocked.remove(&(from, to));
                Ok(())
            }
        }
    }

    fn longest_session_ms(&self) -> i32 {
        self.clients.values().map(|client| client.timeout_ms).max().unwrap_or(0).max(self.plan.session_ms)
    }

    /// How long healing may take. Two elections that fail at their limits, the time until everybody has noticed that its
    /// connection is of no use, and some.
    fn healing_bound_us(&self) -> Time {
        let ms = 10_000
            + 4 * (self.plan.init_limit_ms + self.plan.sync_limit_ms + self.plan.silence_ms)
            + 2 * i64::from(self.longest_session_ms());
        ms * 1_000
    }

    fn all_make_progress(&self) -> bool {
        self.clients.values().all(|client| client.writes_since_heal > 0)
            && self.servers.values().all(|server| server.node.is_some())
    }

    fn all_agree(&self) -> bool {
        let last = self.checks.last();
        let version = self.checks.rolls.last().version;
        let agrees = |server: &Server| {
            let members = server.node.as_ref().map(|node| node.replica().members().version);
            server.zxid() == Some(last) && (!self.changes() || members == Some(version))
        };
        self.servers.values().all(agrees)
    }

    /// Where everybody is, for the story of a run that does not move.
    pub(super) fn standing(&self) -> String {
        let servers = self.servers.values().map(|server| {
            format!("server {} at {:?}", server.life.peer.0, server.zxid().map(|zxid| zxid.to_string()))
        });
        let clients = self.clients.values().map(|client| {
            let state = if client.open { "connected" } else { "not connected" };
            format!("client {} {state} with {} writes", client.number, client.writes_since_heal)
        });
        let committed = format!("committed {}", self.checks.last());
        std::iter::once(committed).chain(servers).chain(clients).collect::<Vec<_>>().join("; ")
    }

    /// The end of all faults: everything is whole again, and who is down is started.
    fn heal(&mut self) {
        self.phase = Phase::Healing;
        self.trace.line(self.now, || "---- all faults end ----".to_owned());
        self.net.blocked.clear();
        for client in self.clients.values_mut() {
            client.writes_since_heal = 0;
            client.asleep_until_us = 0;
            if let Some(operator) = &mut client.operator {
                operator.healing = true;
            }
        }
        let peers: Vec<PeerId> = self.servers.keys().copied().collect();
        for peer in peers {
            if let Some(server) = self.servers.get_mut(&peer) {
                server.frozen_until = 0;
                server.effects_left = None;
                server.disk.calm();
            }
            if self.servers.get(&peer).is_some_and(|server| server.node.is_none()) {
                self.at(0, Happening::Boot(peer));
            }
        }
    }

    /// **All servers come to the same state**, and what only shows at the end.
    fn finish(&mut self, open: &BTreeSet<SessionId>) -> Done {
        if !self.all_agree() {
            return Err(Violation::new("all servers come to the same state", self.standing()));
        }
        for server in self.servers.values() {
            if let Some(node) = &server.node {
                self.checks.digest(server.life.peer, node.tree().last_zxid(), node.tree().digest())?;
                self.checks.quota_counts(Some(server.life.peer), node.tree())?;
            }
        }
        let owned: BTreeSet<SessionId> = self.clients.values().map(|client| client.session).collect();
        self.checks.sessions_have_ended(open, &owned)?;
        self.checks.nothing_is_overdue(!self.plan.has(Fault::Skew) && !self.plan.has(Fault::WallJump))?;
        self.checks.registers_are_linearizable()?;
        self.stats.undecided = self.checks.undecided;
        self.stats.ms = self.now / 1_000;
        self.stats.leaders = self.checks.leaders.len() as u64;
        self.stats.committed = self.checks.committed_count();
        self.stats.changes = self.checks.rolls.changes();
        self.stats.sessions_ended = self.checks.model.closed.len() as u64;
        Ok(())
    }
}
