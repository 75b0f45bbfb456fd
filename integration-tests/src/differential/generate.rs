//! From a seed to a program.
//!
//! Each program has its own taste: some operations come often in it and others never, so that over many programs all
//! mixtures occur, also those in which one thing happens many times in a row.

use bytes::{Bytes, BytesMut};
use docent::Zxid;
use docent::proto::ops::{AuthRequest, ReadOp};
use docent::proto::{
    AddWatchMode, CreateFlags, CreateKind, CreateRequest, Encode as _, MultiOp, Request, SetWatches,
    WatcherKind,
};

use super::Peer;
use super::pools::Pools;
use super::program::{Ask, Claim, Hello, Password, Program, SLOTS, Step, What, World};
use super::wild::wild;

/// Requests of one step, at most.
const BATCH_MAX: usize = 10;
/// How many programs there are for one that begins with counters near their ends.
const WORN_ONE_IN: u32 = 40;
/// Numbers of requests that are none of the ordinary ones.
const ODD_XIDS: [i32; 6] = [0, -8, -5, i32::MAX, i32::MIN, -3];

/// What a request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Create,
    Delete,
    SetData,
    SetAcl,
    Exists,
    GetData,
    GetChildren,
    GetAcl,
    Multi,
    MultiRead,
    AddWatch,
    Unwatch,
    Rewatch,
    Small,
    Auth,
    Quota,
    Large,
    Wild,
}

/// Each with how often it comes in a program that likes it.
const KINDS: [(Kind, u32); 18] = [
    (Kind::Create, 30),
    (Kind::Delete, 12),
    (Kind::SetData, 12),
    (Kind::SetAcl, 5),
    (Kind::Exists, 10),
    (Kind::GetData, 10),
    (Kind::GetChildren, 10),
    (Kind::GetAcl, 4),
    (Kind::Multi, 10),
    (Kind::MultiRead, 3),
    (Kind::AddWatch, 4),
    (Kind::Unwatch, 4),
    (Kind::Rewatch, 3),
    (Kind::Small, 5),
    (Kind::Auth, 2),
    (Kind::Quota, 6),
    (Kind::Large, 1),
    (Kind::Wild, 3),
];

/// Which watches a session uses. In 3.8 the kinds on one path replace each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watches {
    All,
    Once,
    Persistent,
    Recursive,
}

/// Makes programs for one peer.
struct Maker {
    peer: Peer,
    pools: Pools,
    world: World,
    weights: Vec<(Kind, u32)>,
    watches: [Watches; SLOTS],
    xid: i32,
}

/// The program of a seed, with about so many steps.
pub fn generate(peer: Peer, seed: u64, length: usize) -> Program {
    let mut maker = Maker::new(peer, seed);
    let mut steps: Vec<Step> = (0..SLOTS).map(|slot| Step::Open { slot, hello: Hello::plain() }).collect();
    while steps.len() < length + SLOTS {
        let slot = maker.pools.chance.usize(..SLOTS);
        maker.step(slot, &mut steps);
    }
    Program { seed, world: maker.world, steps }
}

impl Maker {
    fn new(peer: Peer, seed: u64) -> Maker {
        let mut pools = Pools::new(seed);
        let mut weights = Vec::new();
        for (kind, weight) in KINDS {
            let taste = pools.pick(&[0, 1, 1, 1, 3]);
            weights.push((kind, weight * if kind == Kind::Create { taste.max(1) } else { taste }));
        }
        if !pools.has_quotas() {
            weights.retain(|(kind, _)| *kind != Kind::Quota);
        }
        let watches = std::array::from_fn(|_| match peer {
            Peer::V38 => pools.pick(&[Watches::Once, Watches::Once, Watches::Persistent, Watches::Recursive]),
            Peer::V39 => Watches::All,
        });
        // Servers must be started for it, which takes longer than a program.
        let world = if pools.one_in(WORN_ONE_IN) { World::Worn } else { World::Fresh };
        Maker { peer, pools, world, weights, watches, xid: 0 }
    }

    fn step(&mut self, slot: usize, steps: &mut Vec<Step>) {
        match self.pools.chance.u32(..60) {
            0 => {
                steps.push(Step::Ask { slot, asks: vec![self.number(What::Request(Request::CloseSession))] });
                if self.pools.one_in(3) {
                    steps.push(self.come_back(slot));
                }
                steps.push(Step::Open { slot, hello: self.hello(false) });
            }
            1 => {
                if self.pools.one_in(3) {
                    steps.push(Step::Drop { slot });
                    // What happens meanwhile is missed, but for what is told when the watches are set again.
                    for _ in 0..self.pools.chance.usize(..4) {
                        let other = (slot + self.pools.chance.usize(1..SLOTS)) % SLOTS;
                        self.batch(other, steps);
                    }
                }
                let back = self.come_back(slot);
                let valid = matches!(back, Step::Return { password: Password::Right, .. });
                steps.push(back);
                if !valid || self.pools.one_in(4) {
                    steps.push(Step::Return { slot, hello: Hello::plain(), password: Password::Right });
                }
                let what = self.rewatch(slot);
                steps.push(Step::Ask { slot, asks: vec![self.number(what)] });
            }
            _ => self.batch(slot, steps),
        }
    }

    fn batch(&mut self, slot: usize, steps: &mut Vec<Step>) {
        let mut asks = Vec::new();
        // Apache judges by what a quota's numbers are at that moment, whatever is under way. And a counter that has come to
        // its end goes on in what is under way.
        let alone = self.pools.has_quotas() || self.world == World::Worn;
        let most = if alone { 1 } else { BATCH_MAX };
        for _ in 0..self.pools.chance.usize(1..=most) {
            let what = self.what(slot);
            let ask = self.number(what);
            if ask.stands_alone() {
                steps.push(Step::Ask { slot, asks: vec![ask] });
                // It may have cost the connection.
                steps.push(Step::Return { slot, hello: Hello::plain(), password: Password::Right });
            } else {
                let last = ask.must_be_last();
                asks.push(ask);
                if last {
                    break;
                }
            }
        }
        if !asks.is_empty() {
            steps.push(Step::Ask { slot, asks });
        }
    }

    fn number(&mut self, what: What) -> Ask {
        self.xid += 1;
        let xid = if self.pools.one_in(50) { self.pools.pick(&ODD_XIDS) } else { self.xid };
        Ask { xid, what }
    }

    fn hello(&mut self, again: bool) -> Hello {
        let timeout_ms = self.pools.pick(&[100_000, 100_000, 60_000, 1, 0, -5, i32::MAX, i32::MIN]);
        let read_only = self.pools.pick(&[Some(false), Some(false), Some(true), None]);
        let seen = match self.pools.chance.u32(..8) {
            0 => Claim::Future,
            1..=3 if again => Claim::Last,
            _ => Claim::Nothing,
        };
        let version = self.pools.pick(&[0, 0, 0, 1, -1, i32::MAX]);
        Hello { version, timeout_ms, read_only, seen }
    }

    fn come_back(&mut self, slot: usize) -> Step {
        use Password::{Null, Right, Short, Wrong};
        let password = self.pools.pick(&[Right, Right, Right, Wrong, Short, Null]);
        Step::Return { slot, hello: self.hello(true), password }
    }

    fn what(&mut self, slot: usize) -> What {
        let total: u32 = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut at = self.pools.chance.u32(..total);
        let kind = self.weights.iter().find_map(|(kind, weight)| {
            if at < *weight {
                return Some(*kind);
            }
            at -= weight;
            None
        });
        let pools = &mut self.pools;
        let once = matches!(self.watches[slot], Watches::All | Watches::Once);
        let watch = once && pools.one_in(3);
        What::Request(match kind.unwrap_or(Kind::Create) {
            Kind::Create => self.create(),
            Kind::Delete => Request::Delete { path: pools.path(), version: pools.version() },
            Kind::SetData => {
                Request::SetData { path: pools.target(), data: pools.data(), version: pools.version() }
            }
            Kind::SetAcl => {
                Request::SetAcl { path: pools.path(), acl: pools.acl(), version: pools.version() }
            }
            Kind::Exists => Request::Exists { path: pools.path(), watch },
            Kind::GetData => Request::GetData { path: pools.path(), watch },
            Kind::GetChildren if pools.one_in(2) => Request::GetChildren { path: pools.path(), watch },
            Kind::GetChildren => Request::GetChildren2 { path: pools.path(), watch },
            Kind::GetAcl => Request::GetAcl { path: pools.path() },
            Kind::Multi => self.multi(),
            Kind::MultiRead => self.multi_read(),
            Kind::AddWatch => self.add_watch(slot),
            Kind::Unwatch => self.unwatch(slot),
            Kind::Rewatch => return self.rewatch(slot),
            Kind::Small => self.small(),
            Kind::Auth => self.auth(),
            Kind::Quota => self.quota(),
            Kind::Large => self.large(),
            Kind::Wild => return wild(self.peer, &mut self.pools),
        })
    }

    fn create(&mut self) -> Request {
        Request::Create(self.create_record())
    }

    fn create_record(&mut self) -> CreateRequest {
        let pools = &mut self.pools;
        let (kind, flags) = match pools.chance.u32(..40) {
            0..=3 => (CreateKind::Container, CreateFlags::CONTAINER),
            4..=5 => (CreateKind::Ttl, CreateFlags::TTL),
            6..=7 => (CreateKind::Ttl, CreateFlags::TTL_SEQUENTIAL),
            8 => (CreateKind::Create, CreateFlags(pools.pick(&[7, -1, i32::MAX]))),
            choice => {
                let flags = pools.pick(&[
                    CreateFlags::PERSISTENT,
                    CreateFlags::PERSISTENT,
                    CreateFlags::EPHEMERAL,
                    CreateFlags::PERSISTENT_SEQUENTIAL,
                    CreateFlags::EPHEMERAL_SEQUENTIAL,
                ]);
                (if choice % 2 == 0 { CreateKind::Create } else { CreateKind::Create2 }, flags)
            }
        };
        let path = if flags.is_sequential() { pools.prefix() } else { pools.target() };
        let ttl_ms = match kind {
            CreateKind::Ttl if pools.one_in(4) => pools.pick(&[0, -1, 1 << 40, i64::MAX, (1 << 40) - 1]),
            CreateKind::Ttl => 100_000_000,
            _ => 0,
        };
        CreateRequest { kind, path, data: pools.data(), acl: pools.acl(), flags, ttl_ms }
    }

    fn multi(&mut self) -> Request {
        let count = self.pools.chance.usize(..6);
        let ops = (0..count).map(|at| {
            let pools = &mut self.pools;
            match pools.chance.u32(..8) {
                0..=2 => {
                    let mut create = self.create_record();
                    // A counter that comes to its end within a multi is a known difference.
                    if self.world == World::Worn && at > 0 && create.flags.is_sequential() {
                        create = plain(self.pools.target(), None);
                    }
                    // Null takes no number there, which parts the servers.
                    let acl = create.acl.or_else(|| (!self.pools.one_in(40)).then(Vec::new));
                    MultiOp::Create(CreateRequest { acl, ..create })
                }
                3..=4 => MultiOp::Delete { path: pools.path(), version: pools.version() },
                5..=6 => {
                    MultiOp::SetData { path: pools.target(), data: pools.data(), version: pools.version() }
                }
                _ => MultiOp::Check { path: pools.path(), version: pools.version() },
            }
        });
        Request::Multi(ops.collect())
    }

    fn multi_read(&mut self) -> Request {
        let pools = &mut self.pools;
        let count = pools.chance.usize(..5);
        let ops = (0..count).map(|_| {
            let path = pools.path();
            if pools.one_in(2) { ReadOp::GetData { path } } else { ReadOp::GetChildren { path } }
        });
        Request::MultiRead(ops.collect())
    }

    fn add_watch(&mut self, slot: usize) -> Request {
        use AddWatchMode::{Persistent, PersistentRecursive};
        let path = self.pools.path();
        match self.watches[slot] {
            Watches::All => {
                Request::AddWatch { path, mode: self.pools.pick(&[Persistent, PersistentRecursive]) }
            }
            Watches::Persistent => Request::AddWatch { path, mode: Persistent },
            Watches::Recursive => Request::AddWatch { path, mode: PersistentRecursive },
            Watches::Once => Request::Exists { path, watch: true },
        }
    }

    fn unwatch(&mut self, slot: usize) -> Request {
        use WatcherKind::{Any, Children, Data, Persistent, PersistentRecursive};
        let path = self.pools.path();
        let kind = match self.watches[slot] {
            Watches::All => self.pools.pick(&[Children, Data, Any, Persistent, PersistentRecursive]),
            Watches::Once => self.pools.pick(&[Children, Data, Any]),
            Watches::Persistent | Watches::Recursive => Any,
        };
        if self.pools.one_in(2) {
            Request::CheckWatches { path, kind }
        } else {
            Request::RemoveWatches { path, kind }
        }
    }

    fn rewatch(&mut self, slot: usize) -> What {
        let pools = &mut self.pools;
        let mut list = |wanted: bool| {
            let count = if wanted { pools.chance.usize(..4) } else { 0 };
            (0..count).map(|_| pools.path()).collect::<Vec<_>>()
        };
        let style = self.watches[slot];
        let once = matches!(style, Watches::All | Watches::Once);
        let watches = SetWatches {
            relative_zxid: Zxid::ZERO,
            data: list(once),
            exist: list(once),
            child: list(once),
            persistent: list(matches!(style, Watches::All | Watches::Persistent)),
            persistent_recursive: list(matches!(style, Watches::All | Watches::Recursive)),
        };
        let new = !once || pools.one_in(2);
        let back = pools.pick(&[0, 1, 2, 5, 20, 1_000_000_000]);
        What::Rewatch { new, back, watches }
    }

    fn small(&mut self) -> Request {
        let pools = &mut self.pools;
        match pools.chance.u32(..7) {
            0 => Request::Ping,
            1 => Request::Sync { path: pools.path() },
            2 => Request::WhoAmI,
            3..=4 => {
                let prefix = if pools.one_in(2) {
                    pools.pick(&["", "/", "/a", "/a/"]).to_owned()
                } else {
                    pools.path()
                };
                Request::GetEphemerals { prefix }
            }
            _ => Request::GetAllChildrenNumber { path: pools.path() },
        }
    }

    fn auth(&mut self) -> Request {
        let pools = &mut self.pools;
        let credentials = Some(Bytes::from_static(pools.credentials().as_bytes()));
        let kind = pools.pick(&[0, 0, 0, 100, -1]);
        let (scheme, auth) = match pools.chance.u32(..20) {
            0 => (pools.pick(&["nosuch", "", "auth", "super", "DIGEST"]), credentials),
            1 => ("digest", None),
            2 => ("ip", credentials),
            3 => ("world", credentials),
            4 => ("digest", Some(Bytes::new())),
            _ => ("digest", credentials),
        };
        Request::Auth(AuthRequest { kind, scheme: scheme.to_owned(), auth })
    }

    /// Quotas come and go piece by piece, or whole.
    fn quota(&mut self) -> Request {
        let pools = &mut self.pools;
        let parents = pools.quota_parents();
        let top = parents.last().cloned().unwrap_or_default();
        let numbers = Some(pools.numbers());
        let (limits, stats) = (format!("{top}/zookeeper_limits"), format!("{top}/zookeeper_stats"));
        match pools.chance.u32(..8) {
            0..=3 => Request::Multi(vec![
                MultiOp::Create(plain(limits, numbers)),
                MultiOp::Create(plain(stats, Some(pools.numbers()))),
            ]),
            4 => Request::SetData { path: limits, data: numbers, version: pools.version() },
            5 if pools.one_in(3) => Request::SetData { path: stats, data: numbers, version: pools.version() },
            5 => Request::GetData { path: stats, watch: false },
            6 => {
                let path = pools.pick(&[limits, stats]);
                Request::Delete { path, version: pools.version() }
            }
            _ => Request::Create(plain(pools.pick(&parents), None)),
        }
    }

    /// A request that just fills a frame, or just does not.
    fn large(&mut self) -> Request {
        let pools = &mut self.pools;
        let (path, version) = (pools.node(), pools.version());
        let shape = pools.chance.u32(..12);
        let with = |data: Bytes| {
            let (path, data) = (path.clone(), Some(data));
            match shape {
                0 => Request::SetData { path, data, version },
                1 => Request::Create(plain(path, data)),
                2 => Request::Multi(vec![MultiOp::SetData { path, data, version }]),
                _ => Request::GetData { path, watch: false },
            }
        };
        let header = 8;
        let others = header + record(&with(Bytes::new())).len();
        with(pools.data_to_fill(others))
    }
}

/// A persistent node that is open to everybody.
fn plain(path: String, data: Option<Bytes>) -> CreateRequest {
    CreateRequest {
        kind: CreateKind::Create,
        path,
        data,
        acl: Some(docent::Acl::open()),
        flags: CreateFlags::PERSISTENT,
        ttl_ms: 0,
    }
}

/// The record of a request, as bytes to be damaged.
pub(super) fn record(request: &Request) -> Bytes {
    let mut out = BytesMut::new();
    request.encode(&mut out);
    out.freeze()
}
