//! Which member has which partitions; computes only, and the same for everybody who sees the same members.

use std::collections::{BTreeMap, BTreeSet};

/// How partitions are divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Assignment {
    /// As evenly as can be, and when members come or go most partitions stay where they are. kazoo does not know it.
    #[default]
    Sticky,
    /// As kazoo's `SetPartitioner` does: each takes every n-th. Nearly all move when a member comes or goes.
    Striped,
}

impl Assignment {
    /// The partitions of one among the members, none if it is not among them. Nobody has more than his share, rounded up.
    pub(crate) fn of(
        self,
        me: &str,
        members: &BTreeSet<String>,
        partitions: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        let Some(at) = members.iter().position(|member| member == me) else { return BTreeSet::new() };
        match self {
            Assignment::Striped => partitions.iter().skip(at).step_by(members.len()).cloned().collect(),
            Assignment::Sticky => {
                let all = sticky(members, partitions).into_iter();
                all.filter(|(_, member)| *member == me).map(|(partition, _)| partition.to_owned()).collect()
            }
        }
    }
}

/// Each partition goes to the member that ranks it highest and has room. A rank depends on the two names alone, so that a
/// member that goes leaves the ranks of all others as they are.
fn sticky<'a>(members: &'a BTreeSet<String>, partitions: &'a BTreeSet<String>) -> BTreeMap<&'a str, &'a str> {
    let share = partitions.len().div_ceil(members.len().max(1));
    let mut has: BTreeMap<&str, usize> = BTreeMap::new();
    let mut all = BTreeMap::new();
    for partition in partitions {
        let mut ranked: Vec<_> = members.iter().map(|member| (rank(member, partition), member)).collect();
        ranked.sort_unstable();
        let room =
            ranked.iter().rev().find(|(_, member)| has.get(member.as_str()).copied().unwrap_or(0) < share);
        if let Some((_, member)) = room {
            *has.entry(member.as_str()).or_default() += 1;
            all.insert(partition.as_str(), member.as_str());
        }
    }
    all
}

/// FNV-1a of both names with a byte between that no name has, and its bits mixed. Programs of all versions must agree.
fn rank(member: &str, partition: &str) -> u64 {
    let bytes = member.bytes().chain([0xff]).chain(partition.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(prefix: &str, count: usize) -> BTreeSet<String> {
        (0..count).map(|number| format!("{prefix}{number:03}")).collect()
    }

    #[test]
    fn striped_is_as_kazoo_divides() {
        let (members, partitions) = (names("m", 2), names("p", 5));
        let of = |me: &str| Assignment::Striped.of(me, &members, &partitions).into_iter().collect::<Vec<_>>();
        assert_eq!(of("m000"), ["p000", "p002", "p004"]);
        assert_eq!(of("m001"), ["p001", "p003"]);
        assert!(of("other").is_empty());
    }

    #[test]
    fn ranks_never_change() {
        assert_eq!(rank("m000", "p000"), rank("m000", "p000"));
        assert_ne!(rank("a", "bc"), rank("ab", "c"));
        assert_eq!(rank("", ""), 0xaf9b_af0b_40b2_142d, "programs of another version would divide otherwise");
    }

    #[test]
    fn most_stay_where_they_are() {
        let (four, partitions) = (names("m", 4), names("p", 100));
        let five = names("m", 5);
        let (before, after) = (sticky(&four, &partitions), sticky(&five, &partitions));
        let moved = before.iter().filter(|(partition, member)| after[*partition] != **member).count();
        assert!(moved <= 45, "{moved} of 100 moved for one of five, of which 20 must");
    }

    proptest! {
        #[test]
        fn each_partition_has_one_member_and_none_too_many(members in 1_usize..9, partitions in 0_usize..40) {
            let (members, partitions) = (names("m", members), names("p", partitions));
            for assignment in [Assignment::Sticky, Assignment::Striped] {
                let shares: Vec<_> = members.iter().map(|me| assignment.of(me, &members, &partitions)).collect();
                prop_assert!(shares.iter().all(|share| share.len() <= partitions.len().div_ceil(members.len())));
                let all: Vec<_> = shares.into_iter().flatten().collect();
                prop_assert_eq!(all.len(), partitions.len());
                prop_assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), partitions.clone());
            }
        }
    }
}
