//! Which sets of voters decide: simple majorities, majorities of groups whose members have weights, and, while one
//! configuration takes the place of another, what decides in both.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

/// A server's number in its ensemble (`myid`); 0 for a standalone server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// Who votes. Any two sets of voters that decide have a voter in common; of a [joint](Quorum::joint) quorum, also with
/// any set that decides in either of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    voters: BTreeSet<PeerId>,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    /// More than half of the voters.
    Majority,
    /// More than half of the weight in each of more than half of the groups.
    Hierarchical {
        /// Groups that have weight, each with the members that have some.
        groups: Vec<BTreeMap<PeerId, u64>>,
    },
    /// What decides in both.
    Joint(Box<(Quorum, Quorum)>),
}

/// Why groups and weights are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QuorumError {
    /// A server would count twice.
    #[error("server {} is in two groups: name it in one", .0.0)]
    TwoGroups(PeerId),
    /// No set of servers could ever decide.
    #[error("no group has a server with a weight above 0: give one a weight")]
    NoWeight,
}

impl Quorum {
    /// The simple majority of these voters.
    ///
    /// # Panics
    /// When there is no voter: no set of peers could ever decide.
    #[must_use]
    pub fn majority(voters: impl IntoIterator<Item = PeerId>) -> Self {
        let voters: BTreeSet<PeerId> = voters.into_iter().collect();
        assert!(!voters.is_empty(), "an ensemble needs a voter");
        Quorum { voters, rule: Rule::Majority }
    }

    /// Groups whose members have weights (`group.N` and `weight.N`): a set decides when in more than half of the groups
    /// that have weight it has more than half of the weight. A server without an entry in `weights` has weight 1. One
    /// with weight 0 is a voter that does not count and is never elected. The voters are the members of the groups.
    ///
    /// # Errors
    /// When a server is in two groups, or nobody has weight.
    pub fn hierarchical(
        groups: &BTreeMap<u64, BTreeSet<PeerId>>,
        weights: &BTreeMap<PeerId, u64>,
    ) -> Result<Self, QuorumError> {
        let mut voters = BTreeSet::new();
        if let Some(twice) = groups.values().flatten().find(|peer| !voters.insert(**peer)) {
            return Err(QuorumError::TwoGroups(*twice));
        }
        let weight = |peer: &PeerId| weights.get(peer).copied().unwrap_or(1);
        let groups: Vec<BTreeMap<PeerId, u64>> = groups
            .values()
            .map(|group| group.iter().map(|peer| (*peer, weight(peer))).filter(|(_, w)| *w > 0).collect())
            .filter(|group: &BTreeMap<PeerId, u64>| !group.is_empty())
            .collect();
        if groups.is_empty() {
            return Err(QuorumError::NoWeight);
        }
        Ok(Quorum { voters, rule: Rule::Hierarchical { groups } })
    }

    /// What decides in the old configuration and in the new one. Whoever votes in either is a voter.
    #[must_use]
    pub fn joint(old: Quorum, new: Quorum) -> Self {
        let voters = old.voters.union(&new.voters).copied().collect();
        Quorum { voters, rule: Rule::Joint(Box::new((old, new))) }
    }

    /// Who votes, in ascending order.
    pub fn voters(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.voters.iter().copied()
    }

    /// Whether this peer votes.
    #[must_use]
    pub fn is_voter(&self, peer: PeerId) -> bool {
        self.voters.contains(&peer)
    }

    /// Whether this peer's vote counts and it may be elected: it votes, and its weight is not 0.
    #[must_use]
    pub fn has_weight(&self, peer: PeerId) -> bool {
        match &self.rule {
            Rule::Majority => self.voters.contains(&peer),
            Rule::Hierarchical { groups } => groups.iter().any(|group| group.contains_key(&peer)),
            Rule::Joint(both) => both.0.has_weight(peer) || both.1.has_weight(peer),
        }
    }

    /// Whether this peer votes by a configuration that everybody knows: of a joint quorum, by the old one.
    #[must_use]
    pub fn is_settled_voter(&self, peer: PeerId) -> bool {
        match &self.rule {
            Rule::Joint(both) => both.0.is_settled_voter(peer),
            _ => self.is_voter(peer),
        }
    }

    /// Whether these peers are enough. Peers that do not vote do not count; nobody counts twice.
    #[must_use]
    pub fn is_quorum<'a>(&self, peers: impl IntoIterator<Item = &'a PeerId>) -> bool {
        self.decides(&peers.into_iter().copied().collect())
    }

    /// Whether these peers are enough in one of the configurations that count at least. That decides nothing; but who
    /// looks for a leader, and has in its log a configuration of which it does not know what became, may go by it to find
    /// the leader that knows.
    #[must_use]
    pub fn may_be_quorum<'a>(&self, peers: impl IntoIterator<Item = &'a PeerId>) -> bool {
        let peers = peers.into_iter().copied().collect();
        match &self.rule {
            Rule::Joint(both) => both.0.decides(&peers) || both.1.decides(&peers),
            _ => self.decides(&peers),
        }
    }

    fn decides(&self, peers: &BTreeSet<PeerId>) -> bool {
        match &self.rule {
            Rule::Majority => peers.intersection(&self.voters).count() * 2 > self.voters.len(),
            Rule::Hierarchical { groups } => {
                groups.iter().filter(|group| has_majority(group, peers)).count() * 2 > groups.len()
            }
            Rule::Joint(both) => both.0.decides(peers) && both.1.decides(peers),
        }
    }
}

/// Whether these peers have more than half of a group's weight. Weights come from a file and may be as large as they
/// like, so the sums have room for all of them.
fn has_majority(group: &BTreeMap<PeerId, u64>, peers: &BTreeSet<PeerId>) -> bool {
    let all: u128 = group.values().map(|weight| u128::from(*weight)).sum();
    let theirs: u128 =
        group.iter().filter(|(peer, _)| peers.contains(peer)).map(|(_, weight)| u128::from(*weight)).sum();
    theirs * 2 > all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers<const N: usize>(ids: [u64; N]) -> [PeerId; N] {
        ids.map(PeerId)
    }

    fn groups(groups: &[&[u64]], weights: &[(u64, u64)]) -> Result<Quorum, QuorumError> {
        let groups: BTreeMap<u64, BTreeSet<PeerId>> =
            (1..).zip(groups.iter().map(|group| group.iter().copied().map(PeerId).collect())).collect();
        Quorum::hierarchical(
            &groups,
            &weights.iter().map(|(peer, weight)| (PeerId(*peer), *weight)).collect(),
        )
    }

    #[test]
    fn more_than_half_of_the_voters_decide() {
        let quorum = Quorum::majority((1..=4).map(PeerId));
        assert!(!quorum.is_quorum(&peers([1, 2])));
        assert!(!quorum.is_quorum(&peers([1, 2, 9])));
        assert!(!quorum.is_quorum(&peers([1, 2, 2])), "nobody counts twice");
        assert!(quorum.is_quorum(&peers([1, 2, 4])));
        assert!(quorum.has_weight(PeerId(4)) && !quorum.has_weight(PeerId(9)));
        assert!(Quorum::majority([PeerId(0)]).is_quorum(&[PeerId(0)]));
    }

    #[test]
    fn more_than_half_of_the_weight_in_more_than_half_of_the_groups_decides() {
        let quorum = groups(&[&[1, 2, 3], &[4, 5, 6], &[7, 8, 9]], &[]).unwrap();
        assert!(quorum.is_quorum(&peers([1, 2, 4, 5])));
        assert!(!quorum.is_quorum(&peers([1, 2, 3, 4, 7])), "five of nine, but one group");
        assert!(!quorum.is_quorum(&peers([1, 2, 3])));
        assert_eq!(quorum.voters().count(), 9);
    }

    #[test]
    fn half_of_the_weight_is_not_enough() {
        let even = groups(&[&[1, 2]], &[(1, 3), (2, 3)]).unwrap();
        assert!(!even.is_quorum(&peers([1])));
        let uneven = groups(&[&[1, 2, 3]], &[(1, 2)]).unwrap();
        assert!(!uneven.is_quorum(&peers([1])), "two of four");
        assert!(uneven.is_quorum(&peers([1, 3])));
        assert!(!uneven.is_quorum(&peers([2, 3])));
    }

    #[test]
    fn weight_0_votes_without_counting_and_a_group_of_it_is_no_group() {
        let quorum = groups(&[&[1, 2, 3], &[4, 5]], &[(4, 0), (5, 0), (3, 0)]).unwrap();
        assert!(quorum.is_voter(PeerId(4)) && !quorum.has_weight(PeerId(4)));
        assert!(quorum.is_quorum(&peers([1, 2])));
        assert!(!quorum.is_quorum(&peers([1, 3, 4, 5])));
    }

    #[test]
    fn two_groups_for_one_server_and_no_weight_at_all_are_refused() {
        assert_eq!(groups(&[&[1, 2], &[2, 3]], &[]), Err(QuorumError::TwoGroups(PeerId(2))));
        assert_eq!(groups(&[&[1]], &[(1, 0)]), Err(QuorumError::NoWeight));
        assert_eq!(groups(&[], &[]), Err(QuorumError::NoWeight));
    }

    #[test]
    fn between_two_configurations_both_must_decide() {
        let joint =
            Quorum::joint(Quorum::majority((1..=3).map(PeerId)), Quorum::majority((3..=5).map(PeerId)));
        assert_eq!(joint.voters().count(), 5);
        for (ids, decides) in [
            (&[1, 2, 3][..], false),
            (&[3, 4, 5], false),
            (&[1, 2, 4, 5], true),
            (&[2, 3, 4], true),
            (&[3], false),
        ] {
            let peers: Vec<PeerId> = ids.iter().copied().map(PeerId).collect();
            assert_eq!(joint.is_quorum(&peers), decides, "{ids:?}");
            assert_eq!(joint.may_be_quorum(&peers), ids.len() > 1, "{ids:?}");
        }
        assert!(joint.is_voter(PeerId(1)) && joint.has_weight(PeerId(5)) && !joint.has_weight(PeerId(6)));
        assert!(joint.is_settled_voter(PeerId(3)) && !joint.is_settled_voter(PeerId(4)));
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        let quorum = groups(&[&[1, 2, 3]], &[(1, u64::MAX), (2, u64::MAX), (3, u64::MAX)]).unwrap();
        assert!(!quorum.is_quorum(&peers([1])) && quorum.is_quorum(&peers([1, 2])));
    }
}
