//! What the server does to nodes on its own, and what it counts: containers, times to live, quotas. What clients ask of
//! such nodes, and what must hold for them.
//!
//! Quotas are counted here a second time, from the histories of paths. A request is judged by the quota's numbers in the
//! leader's tree, as Apache's is: some state between what was known when it was sent and what it comes behind.

use bytes::Bytes;
use docent::proto::{CreateFlags, CreateKind, CreateRequest, MultiOp, ReplyHeader, Request};
use docent::{AddWatchMode, ErrorCode, Version, Zxid};
use docent_server::node::txn::{LoggedTxn, NodeKind, Txn};
use docent_server::tree::Tree;
use docent_server::zab::PeerId;

use super::checks::{Checked, Checks, ensure};
use super::clients::{Asked, Client, create};
use super::model::Model;
use super::watching::FOLLOWED;

/// What has a quota, and where it stands.
const COUNTED: &str = "/q";
const QUOTA: &str = "/zookeeper/quota/q";
const LIMITS: &str = "/zookeeper/quota/q/zookeeper_limits";
const STATS: &str = "/zookeeper/quota/q/zookeeper_stats";

/// The quota's hard limits: nodes, and bytes of their data.
const NODES_MAX: i64 = 6;
const BYTES_MAX: i64 = 20;

/// The longest time to live of all that is asked for, milliseconds.
const TTL_MAX_MS: i64 = 2_000;

fn plain(path: String, data: Option<Bytes>) -> CreateRequest {
    create(path, data, CreateFlags::PERSISTENT)
}

fn delete(path: &str) -> MultiOp {
    MultiOp::Delete { path: path.to_owned(), version: Version::ANY }
}

impl Client {
    /// Now and then something about nodes that the server deletes or counts.
    pub(super) fn keep_house(&mut self) -> Option<Request> {
        let number = self.number;
        let chance = self.keeping.as_mut()?;
        if chance.u8(..5) > 0 {
            return None;
        }
        let (container, mortal) = (format!("/c{}", chance.u8(..2)), format!("/t{}", chance.u8(..3)));
        let (child, counted) =
            (format!("{container}/x{}", chance.u8(..2)), format!("/q/n{}", chance.u8(..8)));
        let data = Some(Bytes::from("abcdef".as_bytes()[..chance.usize(..6)].to_vec()));
        let (any, watch) = (Version::ANY, chance.bool());
        let ttl_ms = [50, 400, TTL_MAX_MS][chance.usize(..3)];
        Some(match chance.u8(..32) {
            0..3 => {
                let flags = CreateFlags::CONTAINER;
                let request = create(container, data, flags);
                Request::Create(CreateRequest { kind: CreateKind::Container, ..request })
            }
            3..6 => Request::Create(plain(child, data)),
            6 => Request::Create(create(child, data, CreateFlags::EPHEMERAL)),
            7..10 => Request::Delete { path: child, version: any },
            10 => Request::GetChildren { path: container, watch },
            11 => Request::Exists { path: container, watch },
            12..15 => {
                let request = create(mortal, data, CreateFlags::TTL);
                Request::Create(CreateRequest { kind: CreateKind::Ttl, ttl_ms, ..request })
            }
            15 | 16 => Request::SetData { path: mortal, data, version: any },
            // The same path as a node that stays.
            17 => Request::Multi(vec![delete(&mortal), MultiOp::Create(plain(mortal, data))]),
            18 => Request::Delete { path: mortal, version: any },
            19 => Request::Create(plain(format!("{mortal}/x"), data)),
            20 => Request::Delete { path: format!("{mortal}/x"), version: any },
            21 => Request::Exists { path: mortal, watch },
            22 => Request::Multi(vec![
                MultiOp::Create(plain(COUNTED.to_owned(), None)),
                MultiOp::Create(plain(QUOTA.to_owned(), None)),
            ]),
            23 => {
                let limits =
                    format!("count=-1,bytes=-1=;byteHardLimit={BYTES_MAX};countHardLimit={NODES_MAX}");
                Request::Multi(vec![
                    MultiOp::Create(plain(LIMITS.to_owned(), Some(limits.into()))),
                    MultiOp::Create(plain(STATS.to_owned(), None)),
                ])
            }
            24 if chance.u8(..4) == 0 => Request::Multi(vec![delete(LIMITS), delete(STATS)]),
            24 | 25 => Request::Create(plain(counted, data)),
            26 => Request::Create(create(format!("/q/e{number}"), data, CreateFlags::EPHEMERAL)),
            27 => Request::SetData { path: counted, data, version: any },
            28 => Request::Delete { path: counted, version: any },
            29 | 30 => {
                Request::AddWatch { path: FOLLOWED.to_owned(), mode: AddWatchMode::PersistentRecursive }
            }
            _ => Request::Create(plain(format!("{counted}/deep"), data)),
        })
    }
}

/// What is used of the quota right after a transaction: nodes, and bytes. `None` while nobody counts.
fn used(model: &Model, zxid: Zxid) -> Option<(i64, i64)> {
    let counts = model.at(LIMITS, zxid).is_some() && model.at(STATS, zxid).is_some();
    counts.then(|| model.usage_at(COUNTED, zxid))
}

impl Checks {
    /// **The server only deletes what is due**: a container that has lost its last child, and a node without children whose
    /// time to live has passed since it was last set, by the clocks of those who led.
    pub(super) fn swept_when_due(&self, logged: &LoggedTxn) -> Checked {
        let Txn::Delete { path, swept: true } = &logged.txn else { return Ok(()) };
        let (zxid, model) = (logged.header.zxid, &self.model);
        let known = model.at(path, zxid);
        let alone = model.children_at(path, zxid).is_empty();
        let due = known.is_some_and(|known| match known.kind {
            NodeKind::Container => model.children_changed(path, known.czxid, zxid).is_some(),
            NodeKind::Ttl(ttl_ms) => logged.header.time_ms - known.mtime_ms > ttl_ms,
            NodeKind::Persistent | NodeKind::Ephemeral => false,
        });
        ensure(alone && due, "the server only deletes what is due", || {
            format!("{zxid} deletes {path} at {}, which is {known:?}", logged.header.time_ms)
        })
    }

    /// **A quota counts what is there**: the nodes of its path and below, and their bytes.
    pub(super) fn quota_counts(&self, whose: Option<PeerId>, tree: &Tree) -> Checked {
        let zxid = tree.last_zxid();
        let counted = tree.quota(COUNTED).map(|quota| (quota.count, quota.bytes));
        let expected = used(&self.model, zxid);
        ensure(counted == expected, "a quota counts what is there", || {
            let whose = whose.map_or("the reference".to_owned(), |peer| format!("server {}", peer.0));
            format!("{whose} counts {counted:?} at {zxid} instead of {expected:?}")
        })
    }

    /// **A hard limit refuses what goes beyond it, and nothing else.**
    pub(super) fn within_quota(&self, asked: &Asked, header: ReplyHeader) -> Checked {
        let (path, created, data) = match &asked.request {
            Request::Create(create) => (&create.path, 1, &create.data),
            Request::SetData { path, data, .. } => (path, 0, data),
            _ => return Ok(()),
        };
        let refused = match header.error {
            ErrorCode::QUOTA_EXCEEDED => true,
            ErrorCode::OK => false,
            _ => return Ok(()),
        };
        if !path.starts_with("/q/") {
            return ensure(!refused, "a hard limit refuses what goes beyond it, and nothing else", || {
                format!("{:?} was refused", asked.request)
            });
        }
        let length = |data: &Option<Bytes>| data.as_ref().map_or(0, |data| data.len() as i64);
        let before = self.model.at(path, Zxid(header.zxid.0 - 1)).map_or(0, |known| length(&known.data));
        let growth = length(data) - before;
        let refuses = |zxid: Zxid| {
            used(&self.model, zxid).is_some_and(|(count, bytes)| {
                created > 0 && count + created > NODES_MAX || growth != 0 && bytes + growth > BYTES_MAX
            })
        };
        let moments = self.committed.range(asked.horizon..header.zxid).map(|(zxid, _)| *zxid);
        let holds = moments.chain([asked.horizon]).any(|zxid| refuses(zxid) == refused);
        ensure(holds, "a hard limit refuses what goes beyond it, and nothing else", || {
            let last = used(&self.model, Zxid(header.zxid.0 - 1));
            format!("{:?} was answered {header:?} after {last:?} in use", asked.request)
        })
    }

    /// **What is due goes**: when nobody has written for long enough, containers that have lost their last child are gone,
    /// and so are nodes whose time is over, if clocks can be trusted.
    pub(super) fn nothing_is_overdue(&self, clocks_agree: bool) -> Checked {
        let last = self.last();
        let overdue = self.model.nodes_at(last).find(|(path, known)| {
            let alone = || self.model.children_at(path, last).is_empty();
            match known.kind {
                NodeKind::Container => {
                    alone() && self.model.children_changed(path, known.czxid, last).is_some()
                }
                NodeKind::Ttl(_) => clocks_agree && alone(),
                NodeKind::Persistent | NodeKind::Ephemeral => false,
            }
        });
        ensure(overdue.is_none(), "what is due goes", || format!("{overdue:?} is still there at {last}"))
    }
}
