//! What one seed stands for: how large the ensemble is, how it is configured, and which faults happen how often.
//!
//! Each seed draws its own set of faults ("swarm"): a run with everything on at once rarely gets anywhere, and a run with
//! two kinds meets them in combinations that the whole zoo hides. Each kind of chance is a stream of its own, so that a
//! plan with one kind of fault taken out is still the same run otherwise, as far as that can be.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use docent_server::limits::Sizes;

use super::crash_points::CrashPoint;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Notifications of the election channel get lost.
    Loss,
    /// Messages take long, each link by its own measure.
    Delay,
    /// A connection between two servers breaks.
    Cut,
    /// One direction between two servers stands still.
    OneWay,
    /// The servers fall into two groups.
    Partition,
    /// The leader sees nobody.
    Isolate,
    /// A process is killed, between any two effects, and started again.
    Kill,
    /// A machine loses its power: what was not synced is lost, the last write is torn.
    Power,
    /// As `Power`, in the middle of an operation of the disk.
    DiskStop,
    /// A sync fails.
    SyncError,
    /// Disks are slow, now and then very.
    SlowDisk,
    /// Clocks show different times and run at different speeds.
    Skew,
    /// The wall clock of a server jumps.
    WallJump,
    /// A process stands still for a while.
    Pause,
    /// So many servers are killed that no quorum is left.
    QuorumLoss,
    /// All servers are restarted, one after the other.
    Rolling,
    /// A client's connection breaks.
    ClientCut,
    /// A client falls silent for longer than its session may last.
    ClientNap,
    /// A server comes back with an empty disk, when everybody else knows what it knew.
    Wipe,
    /// A disk is full; the server comes back when there is room again.
    DiskFull,
    /// A server dies at one of the named points between a decision, its disk and its word.
    Point,
    /// What the leader says arrives nowhere, while it goes on writing what others will have to cut away.
    Mute,
    /// The members are changed, or a change is asked for that must be refused.
    Reconfig,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 23] = [
        Fault::Loss,
        Fault::Delay,
        Fault::Cut,
        Fault::OneWay,
        Fault::Partition,
        Fault::Isolate,
        Fault::Kill,
        Fault::Power,
        Fault::DiskStop,
        Fault::SyncError,
        Fault::SlowDisk,
        Fault::Skew,
        Fault::WallJump,
        Fault::Pause,
        Fault::QuorumLoss,
        Fault::Rolling,
        Fault::ClientCut,
        Fault::ClientNap,
        Fault::Wipe,
        Fault::DiskFull,
        Fault::Point,
        Fault::Mute,
        Fault::Reconfig,
    ];

    /// Those that came later. They are drawn apart, so that the seeds of before stay what they were without them.
    pub const LATER: [Fault; 5] = [Fault::Wipe, Fault::DiskFull, Fault::Point, Fault::Mute, Fault::Reconfig];

    /// Whether it happens at moments; the others are conditions that hold all the time.
    #[must_use]
    pub fn is_incident(self) -> bool {
        !matches!(self, Fault::Loss | Fault::Delay | Fault::SlowDisk | Fault::Skew)
    }

    /// Whether it needs several servers.
    #[must_use]
    pub fn needs_peers(self) -> bool {
        use Fault::{
            Cut, Delay, Isolate, Loss, Mute, OneWay, Partition, Point, QuorumLoss, Reconfig, Rolling, Wipe,
        };
        matches!(
            self,
            Loss | Delay
                | Cut
                | OneWay
                | Partition
                | Isolate
                | QuorumLoss
                | Rolling
                | Wipe
                | Point
                | Mute
                | Reconfig
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", format!("{self:?}").to_lowercase())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Fault::ALL.into_iter().find(|fault| fault.to_string() == text);
        found.ok_or_else(|| format!("there is no fault {text:?}"))
    }
}

/// One run, before it begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What all chance is made of.
    pub seed: u64,
    /// Voters.
    pub servers: u64,
    /// Servers without a vote.
    pub observers: u64,
    /// Servers that no configuration names at first, in a run whose members change.
    pub spares: u64,
    /// Voters that a change must leave.
    pub voters_min: usize,
    /// Clients.
    pub clients: u32,
    /// How long there are faults, milliseconds of simulated time.
    pub chaos_ms: i64,
    /// The faults that are on; for incidents the mean milliseconds between two.
    pub faults: BTreeMap<Fault, i64>,
    /// `tickTime`, milliseconds.
    pub tick_ms: i64,
    /// `initLimit`, milliseconds.
    pub init_limit_ms: i64,
    /// `syncLimit`, milliseconds.
    pub sync_limit_ms: i64,
    /// `leaderSilenceMs`.
    pub silence_ms: i64,
    /// What clients ask for as session timeout, milliseconds.
    pub session_ms: i32,
    /// Transactions between snapshots.
    pub snap_count: u64,
    /// Bytes after which a log segment ends.
    pub segment_bytes: u64,
    /// Bytes that a log segment grows by.
    pub prealloc_bytes: u64,
    /// Whether old snapshots and logs are removed.
    pub purge: bool,
    /// Milliseconds between two requests of a client, on average.
    pub think_ms: i64,
    /// Requests that a client has in flight at most.
    pub pipeline: usize,
    /// What decides how learners are brought level: small, so that all ways are gone with little data.
    pub sizes: Sizes,
    /// Whether clients also change who may write a node.
    pub acls: bool,
    /// Whether clients also make containers, nodes with a time to live, and a quota.
    pub keeps: bool,
    /// Milliseconds between sweeps for what is due.
    pub sweep_ms: i64,
    /// The only point at which servers die of [`Fault::Point`]; `None` for any.
    pub point: Option<CrashPoint>,
}

impl Plan {
    /// The plan of a seed. With `servers` the size is fixed instead of drawn.
    #[must_use]
    pub fn of(seed: u64, servers: Option<u64>) -> Self {
        let mut chance = chance(seed, "plan");
        let drawn = [3, 3, 3, 5, 1][chance.usize(..5)];
        let servers = servers.unwrap_or(drawn);
        let observers = if servers > 1 && chance.u8(..4) == 0 { 1 } else { 0 };
        let tick_ms = [20, 50, 100, 200][chance.usize(..4)];
        let mut faults = BTreeMap::new();
        // How many kinds: sometimes none, mostly a few.
        let share = [0.0, 0.15, 0.3, 0.5][chance.usize(..4)];
        let mut draw = |fault: Fault, share: f64, chance: &mut fastrand::Rng| {
            let mean_ms = [400, 1_500, 5_000][chance.usize(..3)];
            let on = chance.f64() < share;
            if on && (servers + observers > 1 || !fault.needs_peers()) {
                faults.insert(fault, mean_ms);
            }
        };
        let earlier = Fault::ALL.into_iter().filter(|fault| !Fault::LATER.contains(fault));
        earlier.for_each(|fault| draw(fault, share, &mut chance));
        let mut later = self::chance(seed, "later");
        let share = if share > 0.0 { [0.3, 0.6][later.usize(..2)] } else { 0.0 };
        let (reconfig, early) = (Fault::Reconfig, Fault::LATER.into_iter());
        early.filter(|fault| *fault != reconfig).for_each(|fault| draw(fault, share, &mut later));
        let mut members = self::chance(seed, "members");
        draw(reconfig, 0.35, &mut members);
        let mut keeping = self::chance(seed, "keeping");
        Plan {
            seed,
            servers,
            observers,
            clients: chance.u32(1..=5),
            chaos_ms: [4_000, 10_000, 25_000][chance.usize(..3)],
            faults,
            tick_ms,
            init_limit_ms: tick_ms * chance.i64(5..=10),
            sync_limit_ms: tick_ms * chance.i64(3..=5),
            silence_ms: [250, 250, 250, 1_000][self::chance(seed, "silence").usize(..4)],
            session_ms: chance.i32(1_000..=4_000),
            snap_count: [6, 20, 60, 100_000][chance.usize(..4)],
            segment_bytes: [400, 4_000, 1_000_000][chance.usize(..3)],
            prealloc_bytes: [0, 4_096][chance.usize(..2)],
            purge: chance.bool(),
            think_ms: [3, 20, 100][chance.usize(..3)],
            pipeline: [1, 3, 8][chance.usize(..3)],
            sizes: sizes(&mut later),
            acls: later.bool(),
            keeps: keeping.bool(),
            sweep_ms: [100, 500, 2_000][keeping.usize(..3)],
            point: None,
            spares: members.u64(..=2),
            voters_min: members.usize(1..=2),
        }
    }

    /// The plan as it was drawn before there were later faults and sizes: for seeds that found something then.
    #[must_use]
    pub fn as_before(mut self) -> Self {
        self.faults.retain(|fault, _| !Fault::LATER.contains(fault));
        Plan { sizes: Sizes::default(), acls: false, keeps: false, ..self }
    }

    /// Whether a learner that is far behind holds so little that it applies what comes before it is level.
    #[must_use]
    pub(super) fn holds_little(&self) -> bool {
        self.sizes.held_bytes_max < Sizes::default().held_bytes_max
    }

    /// All servers: voters, observers, and those that may be asked in.
    #[must_use]
    pub fn all_servers(&self) -> u64 {
        self.servers + self.observers + if self.has(Fault::Reconfig) { self.spares } else { 0 }
    }

    /// Whether a fault is on.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains_key(&fault)
    }

    /// The command that makes the same run.
    #[must_use]
    pub fn command(&self) -> String {
        let drawn = Plan::of(self.seed, None);
        let mut command = format!("cargo sim {}", self.seed);
        let drawn = if drawn.servers == self.servers {
            drawn
        } else {
            command += &format!(" --servers {}", self.servers);
            Plan::of(self.seed, Some(self.servers))
        };
        if drawn.observers != self.observers {
            command += &format!(" --observers {}", self.observers);
        }
        if drawn.clients != self.clients {
            command += &format!(" --clients {}", self.clients);
        }
        if drawn.chaos_ms != self.chaos_ms {
            command += &format!(" --for {}", self.chaos_ms);
        }
        let gone = drawn.faults.keys().filter(|fault| !self.has(**fault));
        let gone: Vec<String> = gone.map(ToString::to_string).collect();
        if !gone.is_empty() {
            command += &format!(" --without {}", gone.join(","));
        }
        command
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.faults.keys().map(ToString::to_string).collect();
        write!(
            f,
            "seed {}: {} servers, {} observers, {} clients, {} ms, faults: {}",
            self.seed,
            self.servers,
            self.observers,
            self.clients,
            self.chaos_ms,
            if faults.is_empty() { "none".to_owned() } else { faults.join(",") }
        )
    }
}

/// Sizes with which a few transactions are as much as millions are with those of a server; and now and then the latter.
fn sizes(chance: &mut fastrand::Rng) -> Sizes {
    let server = Sizes::default();
    Sizes {
        history_bytes_max: [0, 400, 4_000, server.history_bytes_max][chance.usize(..4)],
        log_read_bytes: [1, 300, 3_000, server.log_read_bytes][chance.usize(..4)],
        snapshot_piece_bytes: [1, 40, 200, 2_000][chance.usize(..4)],
        snapshot_wait_log_bytes_max: [0, 2_000, server.snapshot_wait_log_bytes_max][chance.usize(..3)],
        held_bytes_max: [0, 1_000, server.held_bytes_max, server.held_bytes_max][chance.usize(..4)],
    }
}

/// The stream of chance for one purpose of one seed.
#[must_use]
pub(super) fn chance(seed: u64, purpose: &str) -> fastrand::Rng {
    let mut mixed = seed ^ 0xcbf2_9ce4_8422_2325;
    for byte in purpose.bytes() {
        mixed = (mixed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    fastrand::Rng::with_seed(mixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_how_to_make_it_again() {
        let mut plan = Plan::of(7, None);
        assert_eq!(plan.command(), "cargo sim 7");
        plan.faults = Fault::ALL.into_iter().map(|fault| (fault, 400)).collect();
        plan.clients = 99;
        assert_eq!(plan.command(), "cargo sim 7 --clients 99");
        assert!(Fault::ALL.into_iter().all(|fault| fault.to_string().parse() == Ok(fault)));
    }
}
