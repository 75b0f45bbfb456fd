//! The digest by which servers notice that their trees differ: equal to Apache's, bit for bit.
//!
//! It is the sum of the CRC-32 of all nodes, so it is kept by taking off a node's old share and adding the new
//! one. Nodes below `/zookeeper` do not count, as servers keep those for themselves; `/zookeeper` itself does.
//! Paths are taken as UTF-8. (A Java server that runs in another character set disagrees, on paths that are not
//! ASCII, with everybody else.)
//!
//! Path and data come first under the CRC, and change rarely; a node keeps the CRC up to there. So creating a
//! child of a node with much data does not read that data again.

use bytes::BufMut;
use crc32fast::Hasher;

use super::node::StoredStat;

/// A node's share of the tree's digest; 0 for paths below `/zookeeper`.
#[must_use]
pub fn node_digest(path: &str, data: Option<&[u8]>, stat: &StoredStat) -> u64 {
    if is_covered(path) { finish(content_crc(path, data), stat) } else { 0 }
}

/// Whether nodes of this path count.
pub(crate) fn is_covered(path: &str) -> bool {
    !path.starts_with("/zookeeper/")
}

/// The CRC over path and data. The root's path is "" here.
pub(crate) fn content_crc(path: &str, data: Option<&[u8]>) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(if path == "/" { b"" } else { path.as_bytes() });
    hasher.update(data.unwrap_or_default());
    hasher.finalize()
}

/// The share of a node with this CRC over path and data.
pub(crate) fn finish(content_crc: u32, stat: &StoredStat) -> u64 {
    let mut bytes = [0_u8; 60];
    let mut rest = &mut bytes[..];
    rest.put_i64(stat.czxid.0);
    rest.put_i64(stat.mzxid.0);
    rest.put_i64(stat.pzxid.0);
    rest.put_i64(stat.ctime);
    rest.put_i64(stat.mtime);
    rest.put_i32(stat.version);
    rest.put_i32(stat.cversion);
    rest.put_i32(stat.aversion);
    rest.put_i64(stat.owner);
    let mut hasher = Hasher::new_with_initial(content_crc);
    hasher.update(&bytes);
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_tree_has_the_digest_that_apache_has() {
        let stat = StoredStat::default();
        let sum = node_digest("/", Some(b""), &stat) + node_digest("/zookeeper", Some(b""), &stat);
        assert_eq!(sum, 0x51c6_d660);
        assert_eq!(node_digest("/zookeeper/config", Some(b"x"), &stat), 0);
        assert_ne!(node_digest("/zookeeper2", Some(b"x"), &stat), 0);
    }
}
