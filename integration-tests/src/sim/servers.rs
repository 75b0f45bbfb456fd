//! The servers of a world: what the shell does around a node, in one thread and with accidents.
//!
//! Events wait in an inbox; a turn takes some of them, steps the node for each, then carries the effects out in order. A
//! process can die between any two effects, between any two operations of its disk, and at any other moment.
//!
//! The file is long because each effect of a node is carried out here as the shell does it, and each may be its last.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use docent::Zxid;
use docent_server::node::access::digest_id;
use docent_server::node::{
    Effect, Effects, EnsembleConfig, Event, Logins, Node, NodeConfig, Now, Rules, Serving,
};
use docent_server::storage::Epochs;
use docent_server::zab::{LinkId, Message, PeerId, Role};

use super::checks::{Stand, Violation};
use super::crash_points::{CrashPoint, Pending, Struck};
use super::disk::{Durable, Job, Received, Said, SimDisk, SnapJob};
use super::network::Life;
use super::operator::SUPER;
use super::plan::{Fault, Plan, chance};
use super::trace::short;
use super::world::{Done, Happening, Phase, Time, World};

/// Turns at one moment of simulated time after which a server counts as one that runs in circles.
const TURNS_AT_ONCE_MAX: u32 = 20_000;

/// The clocks of one server.
#[derive(Clone, Copy, Debug)]
pub(super) struct SimClock {
    /// When its process began, simulated time.
    pub(super) began: Time,
    /// How fast its monotonic clock runs, thousandths.
    pub(super) speed: i64,
    /// What its wall clock is ahead, milliseconds.
    pub(super) ahead_ms: i64,
}

impl SimClock {
    fn now(&self, now: Time) -> Now {
        const WALL_MS: i64 = 1_700_000_000_000;
        Now {
            mono_ms: (now - self.began) * self.speed / 1_000_000,
            wall_ms: WALL_MS + now / 1_000 + self.ahead_ms,
        }
    }

    /// How long until the monotonic clock shows this.
    fn until(&self, now: Time, mono_ms: i64) -> Time {
        let at = self.began + (mono_ms.saturating_mul(1_000_000) / self.speed);
        (at - now).max(0) + 1
    }
}

/// What waits for a server's loop.
#[derive(Debug)]
pub(super) enum Input {
    Event(Event),
    /// A leader's state, taken in.
    Snapshot {
        link: LinkId,
        zxid: Zxid,
        received: Received,
    },
}

/// One server, over all its lives.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) life: Life,
    pub(super) node: Option<Node>,
    pub(super) disk: SimDisk,
    pub(super) clock: SimClock,
    inbox: VecDeque<Input>,
    /// The quorum links that the shell knows.
    pub(super) links: BTreeSet<LinkId>,
    turning: bool,
    tick_at: i64,
    /// The state is being read anew; nothing else happens before it is here.
    reloading: bool,
    disk_busy: bool,
    snapshot_busy: bool,
    pub(super) frozen_until: Time,
    /// It dies behind so many more effects; with power loss or without.
    pub(super) effects_left: Option<(u32, bool)>,
    turns_now: (Time, u32),
    slowness: i64,
    /// It comes back with an empty disk, if that may be; so often it is looked whether it may.
    pub(super) wipe_tries: u32,
    /// What was on its disk when that was emptied.
    forgotten: Option<Durable>,
    /// Whom it calls, where the members may change.
    pub(super) roster: BTreeSet<PeerId>,
    /// It died at a point that says what it must find.
    struck: Option<Struck>,
}

impl Server {
    pub(super) fn new(peer: PeerId, plan: &Plan) -> Self {
        let mut skew = chance(plan.seed, &format!("skew {}", peer.0));
        let (mut speed, mut ahead_ms) = (1_000, 0);
        if plan.has(Fault::Skew) {
            speed = skew.i64(920..=1_080);
            ahead_ms = skew.i64(-3_600_000..=3_600_000);
        }
        let slowness = if plan.has(Fault::SlowDisk) { skew.i64(1..=60) } else { 1 };
        Server {
            life: Life { peer, number: 0 },
            node: None,
            disk: SimDisk::new(peer, plan),
            clock: SimClock { began: 0, speed, ahead_ms },
            inbox: VecDeque::new(),
            links: BTreeSet::new(),
            turning: false,
            tick_at: i64::MAX,
            reloading: false,
            disk_busy: false,
            snapshot_busy: false,
            frozen_until: 0,
            effects_left: None,
            turns_now: (0, 0),
            slowness,
            wipe_tries: 0,
            forgotten: None,
            roster: BTreeSet::new(),
            struck: None,
        }
    }

    /// Where its tree stands.
    pub(super) fn zxid(&self) -> Option<Zxid> {
        self.node.as_ref().map(|node| node.tree().last_zxid())
    }
}

fn config(peer: PeerId, life: u32, plan: &Plan, ensemble: Option<EnsembleConfig>) -> NodeConfig {
    let reconfig = plan.has(Fault::Reconfig);
    NodeConfig {
        me: peer,
        ensemble,
        tick_ms: plan.tick_ms,
        min_session_timeout_ms: 200,
        max_session_timeout_ms: 60_000,
        rules: Rules { extended_types: true, enforce_quota: plan.keeps, reconfig, ..Rules::default() },
        serving: Serving::default(),
        super_digest: reconfig.then(|| digest_id(SUPER.as_bytes())),
        enforced_schemes: None,
        logins: Logins::default(),
        digest: true,
        snap_count: plan.snap_count,
        snap_bytes: u64::MAX / 2,
        sweep_interval_ms: plan.sweep_ms,
        sweep_max: 100,
        seed: plan.seed ^ (peer.0 << 32) ^ u64::from(life),
        sizes: plan.sizes,
    }
}

/// Whether its tree may hold what is not committed, and is shown to nobody.
fn is_early(node: &Node, holds_little: bool) -> bool {
    match node.replica().role() {
        Role::Leading(leading) => !leading.is_established(),
        // One that is far behind applies what it is brought level with as it comes.
        Role::Learning(learning) => holds_little && !learning.is_active(),
        Role::Looking => false,
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}

impl World {
    /// The server, if it is still in this life.
    pub(super) fn living(&mut self, life: Life) -> Option<&mut Server> {
        self.servers.get_mut(&life.peer).filter(|server| server.life == life && server.node.is_some())
    }

    pub(super) fn alive(&self, peer: PeerId) -> Option<Life> {
        let server = self.servers.get(&peer)?;
        server.node.as_ref().map(|_| server.life)
    }

    /// Starts a server from its disk.
    pub(super) fn boot(&mut self, peer: PeerId) -> Done {
        if self.waits_to_be_wiped(peer) {
            return Ok(());
        }
        if self.servers.get(&peer).is_none_or(|server| server.node.is_some()) {
            return Ok(());
        }
        let ensemble = self.membership(peer)?;
        let Some(server) = self.servers.get_mut(&peer) else { return Ok(()) };
        server.life.number += 1;
        server.clock.began = self.now;
        let (boot, floor, records) = match server.disk.boot() {
            Ok(found) => found,
            Err(text) if super::incidents::is_injected(&text) => {
                let Some(luck) = self.luck.get_mut(&Fault::DiskStop) else { return Ok(()) };
                let power = luck.bool();
                server.disk.crash(power, luck);
                self.at(50_000, Happening::Boot(peer));
                return Ok(());
            }
            Err(text) => {
                let text = format!("server {}: {text}", peer.0);
                return Err(Violation::new("what is durable is found again", text));
            }
        };
        let (last, epochs) = (boot.state.tree.last_zxid(), boot.epochs);
        let digest = boot.state.tree.digest();
        if let Some(struck) = server.struck.take()
            && !struck.is_explained(epochs, last)
        {
            let text = format!("server {} starts at {last} with {epochs:?} after {struck:?}", peer.0);
            return Err(Violation::new("a crash leaves what its moment says", text));
        }
        self.stats.boots += 1;
        self.trace.line(self.now, || format!("s{} starts at {last} with {epochs:?}", peer.0));
        let config = config(peer, server.life.number, &self.plan, ensemble);
        let now = server.clock.now(self.now);
        let node = catch_unwind(AssertUnwindSafe(|| Node::new(config, boot, now)))
            .map_err(|panic| Violation::new("servers do not panic", panic_text(&*panic)))?;
        if self.plan.has(Fault::Reconfig) {
            self.checks.counts_anew(peer, node.replica().members())?;
            self.checks.begins_with(peer, &records, &node)?;
        }
        self.checks.loaded(peer, floor, records, last);
        self.checks.digest(peer, last, digest)?;
        server.node = Some(node);
        server.tick_at = i64::MAX;
        if self.plan.servers == 1 {
            self.checks.commit(peer, self.now, last, &disks_of(&self.servers))?;
        }
        let life = self.servers[&peer].life;
        self.set_tick(life);
        let others: Vec<PeerId> = self.servers.keys().copied().filter(|other| *other != peer).collect();
        for other in others {
            let delay = self.pace.i64(100..5_000);
            self.at(delay, Happening::Meet(peer, other));
        }
        Ok(())
    }

    pub(super) fn crash_life(&mut self, life: Life, power: bool) {
        if self.living(life).is_some() {
            self.crash(life.peer, power);
        }
    }

    /// The process ends without a word.
    pub(super) fn crash(&mut self, peer: PeerId, power: bool) {
        let fault = if power { Fault::Power } else { Fault::Kill };
        let Some(luck) = self.luck.get_mut(&fault) else { return };
        let Some(server) = self.servers.get_mut(&peer).filter(|server| server.node.is_some()) else { return };
        server.node = None;
        // The file of a state that waits here stays: on a machine that has stopped nobody removes it.
        server.disk.stop_after(0);
        server.inbox.clear();
        server.links.clear();
        server.turning = false;
        server.reloading = false;
        server.disk_busy = false;
        server.snapshot_busy = false;
        server.frozen_until = 0;
        server.effects_left = None;
        server.disk.crash(power, luck);
        self.trace.line(self.now, || {
            format!("s{} {}", peer.0, if power { "loses its power" } else { "is killed" })
        });
        self.server_is_gone(peer);
        self.connections_are_gone(peer);
        let down_us = match self.phase {
            Phase::Chaos => {
                let longest = [20_000, 300_000, 3_000_000][self.pace.usize(..3)];
                self.pace.i64(1_000..longest)
            }
            _ => 1_000,
        };
        self.at(down_us, Happening::Boot(peer));
    }

    /// Puts an event into a server's inbox.
    pub(super) fn give(&mut self, life: Life, event: Event) {
        self.give_input(life, Input::Event(event));
    }

    pub(super) fn give_input(&mut self, life: Life, input: Input) {
        let Some(server) = self.living(life) else { return };
        server.inbox.push_back(input);
        if !server.turning && !server.reloading {
            server.turning = true;
            let delay = self.pace.i64(5..120);
            self.at(delay, Happening::Turn(life));
        }
    }

    fn set_tick(&mut self, life: Life) {
        let now = self.now;
        let Some(server) = self.living(life) else { return };
        let Some(node) = &server.node else { return };
        let deadline = node.next_deadline();
        if deadline == server.tick_at {
            return;
        }
        server.tick_at = deadline;
        let wait = server.clock.until(now, deadline);
        self.at(wait, Happening::Tick(life, deadline));
    }

    pub(super) fn tick(&mut self, life: Life, deadline: i64) -> Done {
        let Some(server) = self.living(life).filter(|server| server.tick_at == deadline) else {
            return Ok(());
        };
        server.tick_at = i64::MAX;
        self.give(life, Event::Tick);
        Ok(())
    }

    /// Takes some events from the inbox, steps, and carries out what follows.
    pub(super) fn turn(&mut self, life: Life) -> Done {
        let now = self.now;
        let batch = if self.pace.u8(..4) == 0 { 64 } else { 1 };
        let Some(server) = self.living(life) else { return Ok(()) };
        server.turning = false;
        if server.reloading {
            return Ok(());
        }
        if server.frozen_until > now {
            server.turning = true;
            let wait = server.frozen_until - now;
            self.at(wait, Happening::Turn(life));
            return Ok(());
        }
        server.turns_now = if server.turns_now.0 == now { (now, server.turns_now.1 + 1) } else { (now, 1) };
        if server.turns_now.1 > TURNS_AT_ONCE_MAX {
            return Err(Violation::new(
                "a server does not run in circles",
                format!("server {}", life.peer.0),
            ));
        }
        let mut fx = Effects::default();
        for _ in 0..batch {
            let Some(input) = self.living(life).and_then(|server| server.inbox.pop_front()) else { break };
            match input {
                Input::Event(event) => self.step(life, event, &mut fx)?,
                snapshot if !fx.list.is_empty() => {
                    // What was asked for before is carried out first: it may be that the link is given up.
                    self.put_back(life, snapshot);
                    break;
                }
                Input::Snapshot { link, zxid, received } => {
                    self.adopt(life, link, zxid, received, &mut fx)?;
                }
            }
            if fx.list.iter().any(|effect| matches!(effect, Effect::Truncate { reload: true, .. })) {
                break;
            }
        }
        self.perform(life, fx)?;
        self.set_tick(life);
        let more = self.living(life).is_some_and(|server| !server.inbox.is_empty() && !server.reloading);
        if more && let Some(server) = self.living(life) {
            server.turning = true;
            let delay = self.pace.i64(1..30);
            self.at(delay, Happening::Turn(life));
        }
        Ok(())
    }

    fn put_back(&mut self, life: Life, input: Input) {
        if let Some(server) = self.living(life) {
            server.inbox.push_front(input);
        }
    }

    /// A leader's state gets its name if the node has not turned away from that leader, and is the node's at once.
    fn adopt(&mut self, life: Life, link: LinkId, zxid: Zxid, received: Received, fx: &mut Effects) -> Done {
        let Some(server) = self.living(life) else { return Ok(()) };
        if !server.links.contains(&link) {
            return Ok(());
        }
        let Received { writer, state } = received;
        if self.dies_at(life, CrashPoint::StateReceived, None) {
            return Ok(());
        }
        let Some(server) = self.living(life) else { return Ok(()) };
        if let Err(error) = server.disk.publish(zxid, writer) {
            return self.hear_disk(life, vec![Said::Broken(error)]);
        }
        if self.dies_at(life, CrashPoint::StateNamed, Some(Pending::Cut(zxid))) {
            return Ok(());
        }
        self.step(life, Event::PeerSnapshot { link, zxid, state }, fx)
    }

    /// Whether this is the moment at which somebody was to die. Right behind a word it lives until that has arrived.
    fn dies_at(&mut self, life: Life, point: CrashPoint, doing: Option<Pending>) -> bool {
        if self.armed != Some(point) || self.phase != Phase::Chaos {
            return false;
        }
        self.armed = None;
        *self.stats.points.entry(point).or_default() += 1;
        let power = self.luck.get_mut(&Fault::Point).is_some_and(|luck| luck.bool());
        self.trace.line(self.now, || format!("---- {point} of s{} ----", life.peer.0));
        let Some(server) = self.living(life) else { return false };
        let (epochs, last) = (server.disk.durable.epochs, server.disk.durable.last());
        if point.is_behind_a_word() {
            self.at(700, Happening::Crash { life, power });
            return false;
        }
        server.struck = Some(Struck { point, epochs, last, doing });
        self.crash(life.peer, power);
        true
    }

    /// Whether a server that is to lose its folder has to stay down until that may be; if it may be, the folder is gone.
    fn waits_to_be_wiped(&mut self, peer: PeerId) -> bool {
        let chaos = self.phase == Phase::Chaos;
        let may = self.may_be_wiped(peer);
        let Some(server) = self.servers.get_mut(&peer).filter(|server| server.node.is_none()) else {
            return false;
        };
        if server.wipe_tries == 0 || !chaos {
            server.wipe_tries = 0;
            return false;
        }
        server.wipe_tries -= 1;
        if !may {
            self.at(10_000, Happening::Boot(peer));
            return true;
        }
        server.wipe_tries = 0;
        server.struck = None;
        server.forgotten = Some(server.disk.durable.clone());
        server.disk.wipe();
        self.stats.wiped += 1;
        self.trace.line(self.now, || format!("---- the folder of s{} is gone ----", peer.0));
        false
    }

    /// **Only what everybody else knows may be forgotten.** A server that comes back empty has forgotten what it
    /// acknowledged and what it promised, and votes all the same. That is harmless as long as every other voter has on its
    /// disk all that it had: its records, so that no quorum is without them, and its epochs, so that no quorum follows a
    /// leader that it would have refused. So the next one is not wiped before the last one is level again. A server
    /// without a vote was never counted.
    pub(super) fn may_be_wiped(&mut self, peer: PeerId) -> bool {
        let counted: Vec<BTreeSet<PeerId>> =
            self.voters_of_anybody().into_iter().filter(|voters| voters.contains(&peer)).collect();
        let Some(server) = self.servers.get(&peer) else { return false };
        let knows = |other: &PeerId| {
            let disk = self.servers.get(other).map(|other| &other.disk.durable);
            *other == peer || disk.is_some_and(|disk| disk.covers(&server.disk.durable))
        };
        self.plan.servers > 1 && counted.iter().all(|voters| voters.len() > 1 && voters.iter().all(knows))
    }

    /// One step of a node, and the checks behind it.
    fn step(&mut self, life: Life, event: Event, fx: &mut Effects) -> Done {
        let now = self.now;
        self.trace.line(now, || format!("s{} ← {}", life.peer.0, short(&event)));
        let replaced = match &event {
            Event::Reloaded { state, .. } => Some((state.tree.last_zxid(), false)),
            Event::PeerSnapshot { state, .. } => Some((state.tree.last_zxid(), true)),
            _ => None,
        };
        let holds_little = self.plan.holds_little();
        let Some(server) = self.servers.get_mut(&life.peer) else { return Ok(()) };
        match &event {
            Event::Dialed { link: Some(link), .. } => {
                server.links.insert(*link);
            }
            Event::Peer { link, message: Message::FollowerInfo { .. } } => {
                server.links.insert(*link);
            }
            Event::PeerLost(link) => {
                server.links.remove(link);
            }
            _ => {}
        }
        let clock = server.clock.now(now);
        let Some(node) = &mut server.node else { return Ok(()) };
        let before = fx.list.len();
        let was_early = is_early(node, holds_little);
        catch_unwind(AssertUnwindSafe(|| node.step(clock, event, fx))).map_err(|panic| {
            let text = format!("server {}: {}", life.peer.0, panic_text(&*panic));
            Violation::new("servers do not panic", text)
        })?;
        // Who led or followed before this step has applied what was committed, whatever it is now.
        let early = was_early && is_early(node, holds_little);
        let stand = Stand { zxid: node.tree().last_zxid(), digest: node.tree().digest(), early };
        self.stats.steps += 1;
        self.trace.mix(now as u64 ^ (life.peer.0 << 56));
        self.trace.mix(stand.zxid.0 as u64 ^ stand.digest);
        self.trace.mix((fx.list.len() - before) as u64 ^ ((fx.bytes.len() as u64) << 20));
        match replaced {
            Some((zxid, true)) => self.checks.installed(life.peer, zxid),
            Some((zxid, false)) => self.checks.reloaded(life.peer, zxid),
            None => {}
        }
        // What a step orders from the log counts as written down before what it applies.
        for effect in &fx.list[before..] {
            match effect {
                Effect::Append { zxid, payload, .. } => {
                    self.checks.appended(life.peer, *zxid, payload.clone())?;
                }
                Effect::Truncate { after, .. } => self.checks.truncated(life.peer, *after)?,
                _ => {}
            }
        }
        let disks = disks_of(&self.servers);
        let Some(node) = &self.servers[&life.peer].node else { return Ok(()) };
        if let Role::Leading(leading) = node.replica().role()
            && leading.is_established()
            && self.plan.servers > 1
        {
            self.checks.established(life.peer, leading.epoch(), now, &disks)?;
        }
        self.checks.stepped(life.peer, now, stand, &disks)?;
        if self.plan.has(Fault::Reconfig) && node.is_serving() && !early {
            self.checks.members_agree(life.peer, node)?;
        }
        Ok(())
    }

    /// Carries effects out in order; the process may die between any two.
    fn perform(&mut self, life: Life, fx: Effects) -> Done {
        let Effects { list, bytes } = fx;
        let bytes = bytes.freeze();
        for effect in list {
            if let Some(server) = self.living(life)
                && let Some((left, power)) = &mut server.effects_left
            {
                if *left == 0 {
                    let power = *power;
                    self.crash(life.peer, power);
                    return Ok(());
                }
                *left -= 1;
            }
            if self.living(life).is_none() {
                return Ok(());
            }
            self.trace.line(self.now, || format!("s{} → {}", life.peer.0, short(&effect)));
            self.carry_out(life, effect, &bytes)?;
        }
        Ok(())
    }

    /// A flat dispatch.
    fn carry_out(&mut self, life: Life, effect: Effect, bytes: &Bytes) -> Done {
        match effect {
            Effect::Append { order, zxid, payload } => self.order(life, Job::Append { order, zxid, payload }),
            Effect::SaveEpochs { order, accepted, current } => {
                self.order(life, Job::SaveEpochs { order, epochs: Epochs { accepted, current } });
            }
            Effect::Truncate { order, after, reload } => {
                if let Some(server) = self.living(life) {
                    server.reloading = reload;
                }
                self.order(life, Job::Truncate { order, after, reload });
            }
            Effect::ReadLog { link, after, max_bytes } => {
                let records = self.living(life).and_then(|server| server.disk.read(link, after, max_bytes));
                let found = records.as_ref().is_some_and(|records| !records.is_empty());
                self.stats.log_reads[usize::from(!found)] += 1;
                self.give(life, Event::LogRead { link, after, records });
            }
            Effect::Members { committed, under_way } => {
                return self.on_members(life, &committed, under_way.as_ref());
            }
            Effect::RollLog => self.order(life, Job::Roll),
            Effect::SnapshotBegin(zxid) => self.order_snapshot(life, SnapJob::Begin(zxid)),
            Effect::SnapshotPiece(piece) => self.order_snapshot(life, SnapJob::Piece(piece)),
            Effect::SnapshotEnd { digest } => self.order_snapshot(life, SnapJob::End(digest)),
            Effect::Notify { to, notification } => self.notify(life, to, notification),
            Effect::Dial { peer, hearsay } => self.dial(life, peer, hearsay.as_ref()),
            Effect::Send { link, message } => return self.send(life, link, message),
            Effect::AskRoom(link) => self.ask_room(life, link),
            Effect::Hangup(link) => {
                if let Some(server) = self.living(life) {
                    server.links.remove(&link);
                }
                self.hang_up(life, link);
            }
            Effect::Reply { conn, range, .. } => return self.reply(life, conn, bytes.slice(range)),
            Effect::Accept { .. } => {}
            Effect::Close(conn) => self.close_conn(conn),
            Effect::AdminReply { conn, .. } => self.close_conn(conn),
        }
        Ok(())
    }

    /// A message on a quorum link leaves its sender.
    fn send(&mut self, life: Life, link: LinkId, message: Message) -> Done {
        match &message {
            Message::Diff(_) => self.stats.syncs[0] += 1,
            Message::Trunc(_) => self.stats.syncs[1] += 1,
            Message::Snap(_) => self.stats.syncs[2] += 1,
            _ => {}
        }
        let own = &self.servers[&life.peer].disk.durable;
        self.checks.sent(life.peer, link, self.now, &message, &disks_of(&self.servers), own)?;
        let point = CrashPoint::behind(&message);
        self.put_on_wire(life, link, message);
        if let Some(point) = point {
            self.dies_at(life, point, None);
        }
        Ok(())
    }

    pub(super) fn order(&mut self, life: Life, job: Job) {
        if let Some(server) = self.living(life) {
            server.disk.push(job);
        }
        self.start_disk(life);
    }

    fn start_disk(&mut self, life: Life) {
        let (quick, slow) = (self.pace.i64(10..200), self.pace.u32(..50));
        let chaos = self.phase == Phase::Chaos;
        let Some(server) = self.living(life).filter(|server| !server.disk_busy) else { return };
        if !server.disk.has_work() {
            return;
        }
        server.disk_busy = true;
        let slowness = if chaos { server.slowness } else { 1 };
        // A slow disk is sometimes very slow.
        let stall = if slowness > 1 && slow == 0 { 40 } else { 1 };
        self.at(quick * slowness * stall, Happening::Disk(life));
    }

    pub(super) fn disk_step(&mut self, life: Life) -> Done {
        let Some(server) = self.living(life) else { return Ok(()) };
        server.disk_busy = false;
        let pending = server.disk.pending();
        let (before, behind) = match (&server.node, pending) {
            (Some(node), Some(pending)) => pending.points(node.replica().role(), server.disk.durable.epochs),
            _ => (None, None),
        };
        if before.is_some_and(|point| self.dies_at(life, point, pending)) {
            return Ok(());
        }
        let Some(server) = self.living(life) else { return Ok(()) };
        let said = server.disk.step();
        let broken = matches!(said[..], [Said::Broken(_)]);
        if !broken && behind.is_some_and(|point| self.dies_at(life, point, pending)) {
            return Ok(());
        }
        self.hear_disk(life, said)?;
        self.start_disk(life);
        self.start_snapshot(life);
        Ok(())
    }

    fn order_snapshot(&mut self, life: Life, job: SnapJob) {
        if let Some(server) = self.living(life) {
            server.disk.push_snapshot(job);
        }
        self.start_disk(life);
    }

    fn start_snapshot(&mut self, life: Life) {
        let delay = self.pace.i64(50..20_000);
        let Some(server) = self.living(life).filter(|server| !server.snapshot_busy) else { return };
        if server.disk.has_snapshot_work() {
            server.snapshot_busy = true;
            self.at(delay, Happening::SnapshotDisk(life));
        }
    }

    pub(super) fn snapshot_step(&mut self, life: Life) -> Done {
        let Some(server) = self.living(life) else { return Ok(()) };
        server.snapshot_busy = false;
        let said = server.disk.step_snapshot();
        self.hear_disk(life, said)?;
        self.start_snapshot(life);
        Ok(())
    }

    pub(super) fn hear_disk(&mut self, life: Life, said: Vec<Said>) -> Done {
        for said in said {
            let event = match said {
                Said::Synced(order) => Event::Synced { order },
                Said::Reloaded { order, state } => {
                    if let Some(server) = self.living(life) {
                        server.reloading = false;
                        // No other event comes before it.
                        server.inbox.push_front(Input::Event(Event::Reloaded { order, state }));
                        server.turning = true;
                        self.at(10, Happening::Turn(life));
                    }
                    continue;
                }
                Said::Progress(pieces) => Event::SnapshotProgress { pieces },
                Said::SnapshotEnded(complete) => Event::SnapshotEnded { complete },
                Said::Broken(error) => {
                    self.trace.line(self.now, || format!("s{} stops: {error}", life.peer.0));
                    if !super::incidents::is_injected(&error) {
                        let text = format!("server {}: {error}", life.peer.0);
                        return Err(Violation::new("the disk does what it is asked", text));
                    }
                    let power = self.luck.get_mut(&Fault::DiskStop).is_some_and(|luck| luck.bool());
                    self.crash(life.peer, power);
                    return Ok(());
                }
            };
            self.give(life, event);
        }
        Ok(())
    }
}

/// All disks, of servers that are down, too. A server whose disk was emptied counts for what was on it: its word for that
/// may still be under way, and every other voter had all of it on its disk, or the folder would be there.
pub(super) fn disks_of(servers: &BTreeMap<PeerId, Server>) -> Vec<(PeerId, &Durable)> {
    let now = servers.iter().map(|(peer, server)| (*peer, &server.disk.durable));
    let once = servers.iter().filter_map(|(peer, server)| Some((*peer, server.forgotten.as_ref()?)));
    now.chain(once).collect()
}
