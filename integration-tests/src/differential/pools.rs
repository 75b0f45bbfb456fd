//! What requests are made of: paths, data, ACLs, versions. Few of each, so that requests meet.

use bytes::Bytes;
use docent::{Acl, Permissions, Version};
use docent_server::node::access::digest_id;

/// The keeper's credentials; the servers know their hash as that of the super user.
pub(super) const SUPER: &str = "super:admin";
/// People whom sessions may prove to be.
pub(super) const PEOPLE: [&str; 3] = ["bob:pw", "alice:secret", "carol"];

const NODES: [&str; 14] = [
    "/a",
    "/a/b",
    "/a/b/c",
    "/a/b/d",
    "/a/e",
    "/b",
    "/b/a",
    "/b/a/x",
    "/c",
    "/c/é",
    "/d",
    "/ sp",
    "/.a",
    "/日本/\u{d7ff}",
];
/// Nodes that every server has of its own, and names next to them.
const RESERVED: [&str; 6] =
    ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "/zookeeper/x", "/zookeeper/quota/x"];
/// Paths over which a quota may be set.
const WITH_QUOTA: [&str; 3] = ["/a", "/a/b", "/b"];
const PREFIXES: [&str; 7] = ["/a/s-", "/a/", "/s-", "/b/s", "/a/b/", "/nosuch/s-", "/b/\u{1}"];
const BAD: [&str; 28] = [
    "",
    "a",
    "a/b",
    "/a/",
    "/a/b/",
    "//",
    "///",
    "/a//b",
    "//a",
    "/.",
    "/..",
    "/a/.",
    "/a/..",
    "/a/./b",
    "/a/../b",
    "/a/...",
    "/\0",
    "/a/b\0",
    "/a\0/b",
    "/\u{1}",
    "/a/\u{1f}x",
    "/\u{7f}",
    "/a/\u{9f}",
    "/\u{e000}",
    "/a/\u{f8ff}b",
    "/😀",
    "/a/\u{fff0}",
    "/zookeeper/",
];
/// Data lengths around what a frame holds.
const FRAME: usize = docent::proto::frame::DEFAULT_MAX_FRAME;

/// Chance, and the paths of one program.
#[derive(Debug)]
pub(super) struct Pools {
    pub(super) chance: fastrand::Rng,
    nodes: Vec<String>,
    /// Of a hundred paths, how many are not those of nodes.
    odd: u32,
    quotas: bool,
}

impl Pools {
    pub(super) fn new(seed: u64) -> Pools {
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut nodes: Vec<String> = NODES.iter().map(|path| (*path).to_owned()).collect();
        // The first few are always there: a tree of one branch.
        let others = nodes.split_off(3);
        nodes.extend(others.into_iter().filter(|_| chance.u32(..3) == 0));
        let odd = chance.choice([0, 5, 15, 40]).unwrap_or(0);
        let quotas = chance.u32(..3) == 0;
        Pools { chance, nodes, odd, quotas }
    }

    /// Whether one of `of` chances comes true.
    pub(super) fn one_in(&mut self, of: u32) -> bool {
        self.chance.u32(..of) == 0
    }

    pub(super) fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.chance.usize(..list.len())].clone()
    }

    pub(super) fn has_quotas(&self) -> bool {
        self.quotas
    }

    /// The path of a node that a program may make.
    pub(super) fn node(&mut self) -> String {
        let at = self.chance.usize(..self.nodes.len());
        self.nodes[at].clone()
    }

    /// Any path.
    pub(super) fn path(&mut self) -> String {
        if self.chance.u32(..100) >= self.odd {
            return self.node();
        }
        match self.chance.u32(..10) {
            0..=2 => self.sequenced(),
            3..=4 => self.pick(&RESERVED).to_owned(),
            5 => self.quota_node(),
            6 => "x".repeat(self.chance.usize(1..3_000)),
            7 => format!("/a/{}", "y".repeat(self.chance.usize(1..3_000))),
            _ => self.pick(&BAD).to_owned(),
        }
    }

    /// A path that a write may name: not that of a quota's numbers, which are written with care.
    pub(super) fn target(&mut self) -> String {
        let path = self.path();
        if is_quota(&path) { self.node() } else { path }
    }

    /// The name of a node that a sequential create may have made.
    fn sequenced(&mut self) -> String {
        let prefix = self.prefix();
        format!("{prefix}{:010}", self.chance.u32(..6))
    }

    /// The beginning of a sequential node's path.
    pub(super) fn prefix(&mut self) -> String {
        if self.one_in(20) {
            self.target()
        } else {
            self.pick(&PREFIXES[..4 + self.odd.min(3) as usize]).to_owned()
        }
    }

    /// The nodes that make a quota, from the top.
    pub(super) fn quota_parents(&mut self) -> Vec<String> {
        let target = self.pick(&WITH_QUOTA);
        let ends: Vec<usize> =
            target.match_indices('/').map(|(at, _)| at).skip(1).chain([target.len()]).collect();
        ends.into_iter().map(|end| format!("/zookeeper/quota{}", &target[..end])).collect()
    }

    fn quota_node(&mut self) -> String {
        let parent = self.quota_parents().pop().unwrap_or_default();
        let name = self.pick(&["zookeeper_limits", "zookeeper_stats"]);
        format!("{parent}/{name}")
    }

    /// The numbers of a quota.
    pub(super) fn numbers(&mut self) -> Bytes {
        let mut number = || self.chance.choice([-1, -1, 0, 1, 2, 3, 8, 40]).unwrap_or(-1);
        let (count, bytes, hard_count, hard_bytes) = (number(), number(), number(), number());
        let soft = format!("count={count},bytes={bytes}");
        if self.one_in(2) {
            return soft.into();
        }
        format!("{soft}=;byteHardLimit={hard_bytes};countHardLimit={hard_count}").into()
    }

    pub(super) fn data(&mut self) -> Option<Bytes> {
        match self.chance.u32(..20) {
            0..=2 => None,
            3..=4 => Some(Bytes::new()),
            5..=17 => Some(self.bytes(10)),
            18 => Some(self.bytes(300)),
            _ => Some(self.bytes(5_000)),
        }
    }

    fn bytes(&mut self, below: usize) -> Bytes {
        let length = self.chance.usize(..below);
        let byte = self.chance.u8(b'a'..=b'z');
        Bytes::from(vec![byte; length])
    }

    /// Data with which a request of this many other bytes fills a frame, or is one or two bytes too long or too short.
    pub(super) fn data_to_fill(&mut self, others: usize) -> Bytes {
        let length = FRAME - others + 2 - self.chance.usize(..5);
        Bytes::from(vec![b'z'; length])
    }

    pub(super) fn version(&mut self) -> Version {
        match self.chance.u32(..16) {
            0..=6 => Version::ANY,
            7..=9 => Version(0),
            10..=11 => Version(1),
            12..=13 => Version(self.chance.i32(2..6)),
            14 => Version(-2),
            _ => Version(self.pick(&[i32::MIN, i32::MAX, 99])),
        }
    }

    /// Credentials of somebody.
    pub(super) fn credentials(&mut self) -> &'static str {
        let person = self.chance.usize(..PEOPLE.len() + 1);
        PEOPLE.get(person).copied().unwrap_or(SUPER)
    }

    /// An ACL, mostly one that lets everybody in.
    pub(super) fn acl(&mut self) -> Option<Vec<Acl>> {
        match self.chance.u32(..30) {
            0..=17 => Some(Acl::open()),
            18 => None,
            19 => Some(Vec::new()),
            20 => Some(Acl::read_only()),
            _ => {
                let count = self.chance.usize(1..4);
                Some((0..count).map(|_| self.entry()).collect())
            }
        }
    }

    fn permissions(&mut self) -> Permissions {
        match self.chance.u32(..6) {
            0..=2 => Permissions::ALL,
            3..=4 => Permissions(self.chance.i32(..32)),
            _ => Permissions(self.pick(&[0, -1, 255, 32, i32::MIN])),
        }
    }

    fn entry(&mut self) -> Acl {
        let permissions = self.permissions();
        let (scheme, id) = match self.chance.u32(..16) {
            0..=4 => ("world", "anyone".to_owned()),
            5..=6 => ("auth", self.pick(&["", "x", "bob:pw"]).to_owned()),
            7..=9 => ("digest", digest_id(self.pick(&PEOPLE).as_bytes())),
            10..=12 => ("ip", self.pick(&["127.0.0.1", "127.0.0.0/8", "10.0.0.0/8", "0.0.0.0/0"]).to_owned()),
            _ => {
                return self.bad_entry(permissions);
            }
        };
        Acl::new(permissions, scheme, id)
    }

    fn bad_entry(&mut self, permissions: Permissions) -> Acl {
        let (scheme, id) = self.pick(&[
            ("world", "everybody"),
            ("world", ""),
            ("", ""),
            ("nosuch", "x"),
            ("digest", "nohash"),
            ("digest", "a:b:c"),
            ("digest", "a:"),
            ("digest", ":"),
            ("digest", ""),
            ("digest", ":b"),
            ("digest", "a:b:"),
            ("ip", ""),
            ("ip", "127.0.0.1/33"),
            ("ip", "127.0.0.1/-1"),
            ("ip", "127.0.0"),
            ("ip", "127.0.0.1/"),
            ("ip", "127.0.0.256"),
            ("ip", "127.0.0.1/8/8"),
            ("ip", "localhost"),
            ("super", ""),
            ("x509", "CN=x"),
            ("sasl", "bob"),
            ("WORLD", "anyone"),
        ]);
        Acl::new(permissions, scheme, id)
    }
}

/// Whether a path is that of a quota's numbers, or may become one.
pub(super) fn is_quota(path: &str) -> bool {
    path.starts_with("/zookeeper/quota/")
}
