//! PURE. The text in quota nodes, and where they lie.

use std::collections::BTreeMap;

/// What all quota nodes lie under.
pub(crate) const ROOT: &str = "/zookeeper/quota";
/// The name of the node that holds the limits.
pub(crate) const LIMITS: &str = "zookeeper_limits";

/// The folder of a path's quota.
pub(crate) fn folder(path: &str) -> String {
    format!("{ROOT}{path}")
}

/// The node with a path's limits.
pub(crate) fn limits(path: &str) -> String {
    format!("{ROOT}{path}/{LIMITS}")
}

/// The node with a path's use.
pub(crate) fn usage(path: &str) -> String {
    format!("{ROOT}{path}/zookeeper_stats")
}

/// One of the four limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Nodes, with a warning in the log.
    Count,
    /// Bytes, with a warning in the log.
    Bytes,
    /// Nodes, enforced.
    CountHard,
    /// Bytes, enforced.
    BytesHard,
}

impl Limit {
    fn key(self) -> &'static str {
        match self {
            Limit::Count => "count",
            Limit::Bytes => "bytes",
            Limit::CountHard => "countHardLimit",
            Limit::BytesHard => "byteHardLimit",
        }
    }
}

/// Numbers by name, as limits and use are written down. Numbers that are not there are −1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct QuotaText(BTreeMap<String, i64>);

impl QuotaText {
    /// Four limits, none of them set: as `setquota` writes them.
    pub(crate) fn unlimited() -> QuotaText {
        let mut text = QuotaText::default();
        for limit in [Limit::Count, Limit::Bytes, Limit::CountHard, Limit::BytesHard] {
            text.set(limit, -1);
        }
        text
    }

    /// The use of an empty subtree: what `setquota` writes for the server to fill in.
    pub(crate) fn unused() -> QuotaText {
        QuotaText(BTreeMap::from([("count".to_owned(), 0), ("bytes".to_owned(), 0)]))
    }

    /// Reads the data of a quota node. Pairs that are no number are left out.
    pub(crate) fn parse(data: &[u8]) -> QuotaText {
        let text = String::from_utf8_lossy(data);
        let pairs = text.split([',', ';']).filter_map(|pair| {
            let mut parts = pair.split('=');
            Some((parts.next()?.to_owned(), parts.next()?.parse().ok()?))
        });
        QuotaText(pairs.collect())
    }

    /// A limit or, for the first two, the use.
    pub(crate) fn number(&self, limit: Limit) -> i64 {
        self.0.get(limit.key()).copied().unwrap_or(-1)
    }

    /// Sets a number.
    pub(crate) fn set(&mut self, limit: Limit, number: i64) {
        self.0.insert(limit.key().to_owned(), number);
    }

    /// The warnings of `setquota` when `used` is above these limits already.
    pub(crate) fn warnings(&self, used: &QuotaText) -> Vec<String> {
        let below = |limit: Limit, used: i64| self.number(limit) > -1 && self.number(limit) < used;
        let (count, bytes) = (used.number(Limit::Count), used.number(Limit::Bytes));
        let mut warnings = Vec::new();
        if below(Limit::Count, count) || below(Limit::CountHard, count) {
            warnings.push(format!(
                "[Warning]: the count quota you create is less than the existing count:{count}"
            ));
        }
        if below(Limit::Bytes, bytes) || below(Limit::BytesHard, bytes) {
            warnings.push(format!(
                "[Warning]: the bytes quota you create is less than the existing bytes:{bytes}"
            ));
        }
        warnings
    }
}

/// `count` and `bytes` come first, and an extra `=` keeps old readers from looking at the others.
impl std::fmt::Display for QuotaText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "count={},bytes={}", self.number(Limit::Count), self.number(Limit::Bytes))?;
        let others: Vec<_> = self.0.iter().filter(|(key, _)| *key != "count" && *key != "bytes").collect();
        if !others.is_empty() {
            f.write_str("=")?;
        }
        for (key, number) in others {
            write!(f, ";{key}={number}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_apaches() {
        let mut text = QuotaText::unlimited();
        text.set(Limit::Count, 2);
        assert_eq!(text.to_string(), "count=2,bytes=-1=;byteHardLimit=-1;countHardLimit=-1");
        assert_eq!(QuotaText::parse(text.to_string().as_bytes()), text);
        assert_eq!(QuotaText::parse(b"count=6,bytes=6").to_string(), "count=6,bytes=6");
        assert_eq!(QuotaText::unused().to_string(), "count=0,bytes=0");
        assert_eq!(QuotaText::parse(b"junk").to_string(), "count=-1,bytes=-1");
    }

    #[test]
    fn limits_below_the_use_are_told() {
        let used = QuotaText::parse(b"count=6,bytes=12");
        let mut limits = QuotaText::unlimited();
        assert!(limits.warnings(&used).is_empty());
        limits.set(Limit::CountHard, 5);
        limits.set(Limit::Bytes, 12);
        assert_eq!(
            limits.warnings(&used),
            ["[Warning]: the count quota you create is less than the existing count:6"]
        );
        limits.set(Limit::Bytes, 11);
        assert_eq!(limits.warnings(&used).len(), 2);
    }
}
