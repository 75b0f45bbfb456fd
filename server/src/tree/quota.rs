//! Quotas: how much lies below a path, and how much may.
//!
//! The quota of `/a` is two nodes: `/zookeeper/quota/a/zookeeper_limits` arms it, and the server keeps
//! `/zookeeper/quota/a/zookeeper_stats` up to date: its data alone, without version, time or event, and outside
//! of the digest. The deepest armed path over a node is the one that counts; the root has none.
//!
//! Counting starts when the stats node is created and goes on from the number that stands in it, so a client that
//! writes a number there is believed until the next start, when everything is counted anew. All as in Apache.
//!
//! Left out: refusing what goes beyond a limit, which is decided before a transaction is made.

use std::collections::BTreeSet;

use super::Tree;
use super::node::NodeId;

const QUOTA_ROOT: &str = "/zookeeper/quota";
const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";

/// What a quota allows; `None` is without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaLimits {
    /// Nodes, beyond which it is logged.
    pub count: Option<i64>,
    /// Bytes of data, beyond which it is logged.
    pub bytes: Option<i64>,
    /// Nodes, beyond which a write is refused where quotas are enforced.
    pub count_hard: Option<i64>,
    /// Bytes of data, beyond which a write is refused where quotas are enforced.
    pub bytes_hard: Option<i64>,
}

/// A quota and what is used of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaView {
    /// The path that it is for.
    pub path: String,
    /// What it allows.
    pub limits: QuotaLimits,
    /// Nodes: the path's own and all below.
    pub count: i64,
    /// Bytes of their data.
    pub bytes: i64,
}

/// The armed paths.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    armed: BTreeSet<String>,
}

impl Quotas {
    /// The deepest armed path that is `path` or above it.
    fn deepest(&self, path: &str) -> Option<&str> {
        if self.armed.is_empty() {
            return None;
        }
        let mut at = path;
        while !at.is_empty() {
            if let Some(armed) = self.armed.get(at) {
                return Some(armed);
            }
            at = at.rsplit_once('/')?.0;
        }
        None
    }
}

/// The numbers of a limits or stats node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbers {
    count: i64,
    bytes: i64,
    count_hard: Option<i64>,
    bytes_hard: Option<i64>,
}

impl Numbers {
    /// Reads `count=1,bytes=2=;byteHardLimit=3;countHardLimit=4` or a part of it. Anything else counts as −1, and hard
    /// limits need not be there.
    fn parse(text: &[u8]) -> Numbers {
        let mut numbers = Numbers { count: -1, bytes: -1, count_hard: None, bytes_hard: None };
        for pair in String::from_utf8_lossy(text).split([',', ';']) {
            let mut parts = pair.split('=');
            let (key, value) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
            let value = value.parse().unwrap_or(-1);
            match key {
                "count" => numbers.count = value,
                "bytes" => numbers.bytes = value,
                "countHardLimit" => numbers.count_hard = Some(value),
                "byteHardLimit" => numbers.bytes_hard = Some(value),
                _ => {}
            }
        }
        numbers
    }

    /// As Apache writes them: hard limits only where they were, behind a mark that readers before 3.7 stumble over.
    fn print(&self) -> String {
        let mut text = format!("count={},bytes={}", self.count, self.bytes);
        let hard = [("byteHardLimit", self.bytes_hard), ("countHardLimit", self.count_hard)];
        let mut mark = "=;";
        for (name, limit) in hard {
            if let Some(limit) = limit {
                text.push_str(&format!("{mark}{name}={limit}"));
                mark = ";";
            }
        }
        text
    }
}

/// The path whose quota a node belongs to, and whether it is the one that arms it.
fn quota_node(path: &str) -> Option<(&str, bool)> {
    let (target, name) = path.strip_prefix(QUOTA_ROOT)?.rsplit_once('/')?;
    if !target.starts_with('/') {
        return None;
    }
    match name {
        LIMITS => Some((target, true)),
        STATS => Some((target, false)),
        _ => None,
    }
}

fn stats_path(target: &str) -> String {
    format!("{QUOTA_ROOT}{target}/{STATS}")
}

impl Tree {
    /// The deepest quota over a path; `None` without one, or when its stats node is missing.
    #[must_use]
    pub fn quota(&self, path: &str) -> Option<QuotaView> {
        let target = self.quotas.deepest(path)?;
        let limits = self.node(&format!("{QUOTA_ROOT}{target}/{LIMITS}"))?;
        let stats = self.node(&stats_path(target))?;
        let limits = Numbers::parse(limits.data().unwrap_or_default());
        let used = Numbers::parse(stats.data().unwrap_or_default());
        let limit = |number: i64| (number >= 0).then_some(number);
        let limits = QuotaLimits {
            count: limit(limits.count),
            bytes: limit(limits.bytes),
            count_hard: limits.count_hard.and_then(limit),
            bytes_hard: limits.bytes_hard.and_then(limit),
        };
        Some(QuotaView { path: target.to_owned(), limits, count: used.count, bytes: used.bytes })
    }

    pub(super) fn quota_created(&mut self, path: &str, id: NodeId) {
        match quota_node(path) {
            Some((target, true)) => drop(self.quotas.armed.insert(target.to_owned())),
            Some((target, false)) => self.recount(target),
            None => {}
        }
        self.account(path, signed(self.store[id].data_length()), 1);
    }

    pub(super) fn quota_deleted(&mut self, path: &str, data_length: usize) {
        if let Some((target, true)) = quota_node(path) {
            self.quotas.armed.remove(target);
        }
        self.account(path, -signed(data_length), -1);
    }

    pub(super) fn quota_resized(&mut self, path: &str, old_length: usize, new_length: usize) {
        self.account(path, signed(new_length) - signed(old_length), 0);
    }

    /// Finds the armed paths and counts all of them.
    pub(super) fn recount_all(&mut self) {
        let Some(top) = self.store.find(QUOTA_ROOT) else { return };
        let limits = self.store.subtree(top).filter(|id| self.store[*id].name == LIMITS);
        let paths = limits.map(|id| self.store.path(id)).collect::<Vec<_>>();
        let targets = paths.iter().filter_map(|path| quota_node(path));
        self.quotas.armed = targets.map(|(target, _)| target.to_owned()).collect();
        for target in self.quotas.armed.clone() {
            self.recount(&target);
        }
    }

    /// Walks everything below a path and writes what it found into the stats node.
    fn recount(&mut self, target: &str) {
        let (mut count, mut bytes) = (0, 0);
        if let Some(top) = self.store.find(target) {
            for id in self.store.subtree(top) {
                count += 1;
                bytes += signed(self.store[id].data_length());
            }
        }
        self.write_stats(target, |_| Numbers { count, bytes, count_hard: None, bytes_hard: None });
    }

    /// Adds to the deepest quota over a path.
    fn account(&mut self, path: &str, bytes: i64, count: i64) {
        if let Some(target) = self.quotas.deepest(path).map(str::to_owned) {
            self.write_stats(&target, |old| Numbers {
                count: old.count.wrapping_add(count),
                bytes: old.bytes.wrapping_add(bytes),
                ..old
            });
        }
    }

    fn write_stats(&mut self, target: &str, numbers: impl FnOnce(Numbers) -> Numbers) {
        let path = stats_path(target);
        let Some(id) = self.store.find(&path) else { return };
        let text = numbers(Numbers::parse(self.store[id].data.as_deref().unwrap_or_default())).print();
        self.put_data(id, &path, Some(text.as_bytes()), |_| {});
    }
}

/// Data is far shorter than what does not fit.
fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_apache_writes_them() {
        let numbers = |text: &str| {
            let n = Numbers::parse(text.as_bytes());
            (n.count, n.bytes, n.count_hard, n.bytes_hard)
        };
        assert_eq!(numbers("count=100,bytes=10000"), (100, 10_000, None, None));
        assert_eq!(numbers("count=1,bytes=2=;byteHardLimit=3;countHardLimit=4"), (1, 2, Some(4), Some(3)));
        assert_eq!(numbers("count=,bytes=-1"), (-1, -1, None, None));
        assert_eq!(numbers("bytes=x;;=;countHardLimit"), (-1, -1, Some(-1), None));
        assert_eq!(numbers(""), (-1, -1, None, None));
    }

    #[test]
    fn numbers_are_written_as_they_are_read() {
        for text in [
            "count=1,bytes=2",
            "count=1,bytes=2=;countHardLimit=4",
            "count=1,bytes=2=;byteHardLimit=3;countHardLimit=4",
        ] {
            assert_eq!(Numbers::parse(text.as_bytes()).print(), text);
        }
    }

    #[test]
    fn only_limits_and_stats_below_a_path_are_a_quota() {
        assert_eq!(quota_node("/zookeeper/quota/a/b/zookeeper_limits"), Some(("/a/b", true)));
        assert_eq!(quota_node("/zookeeper/quota/a/zookeeper_stats"), Some(("/a", false)));
        for other in [
            "/zookeeper/quota/zookeeper_limits",
            "/zookeeper/quota/a",
            "/zookeeper/quotas/a/zookeeper_limits",
            "/a/zookeeper_limits",
        ] {
            assert_eq!(quota_node(other), None, "{other}");
        }
    }
}
