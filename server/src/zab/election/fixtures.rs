//! Short ways to say what tests say often.

use std::collections::BTreeMap;

use bytes::Bytes;
use docent::Zxid;

use super::super::{Capability, Members, Notification, PeerId, Quorum, Standing, Vote};
use super::{Ballot, Elected, Election};

/// An ensemble with this quorum and these observers.
pub(super) fn ensemble(quorum: Quorum, observers: &[u64]) -> Members {
    let observers = observers.iter().copied().map(PeerId).collect();
    Members { quorum, observers, text: Bytes::from_static(b"version=0"), version: 0 }
}

/// Voters 1 to `voters`, and one observer with the next number.
pub(super) fn majority(voters: u64) -> Members {
    ensemble(Quorum::majority((1..=voters).map(PeerId)), &[voters + 1])
}

/// Two groups of three, 1 to 3 and 4 to 6, and a voter 7 of weight 0 beside the first.
pub(super) fn weighted() -> Members {
    let groups = BTreeMap::from([(1, [1, 2, 3, 7].map(PeerId).into()), (2, [4, 5, 6].map(PeerId).into())]);
    let quorum = Quorum::hierarchical(&groups, &BTreeMap::from([(PeerId(7), 0)])).unwrap();
    ensemble(quorum, &[])
}

pub(super) fn vote(epoch: i64, zxid: i64, leader: u64) -> Vote {
    Vote { epoch, zxid: Zxid(zxid), leader: PeerId(leader) }
}

/// A notification as Apache's servers send it.
pub(super) fn says(standing: Standing, vote: impl Into<Option<Vote>>, round: i64) -> Notification {
    Notification {
        standing,
        vote: vote.into(),
        round,
        format: 2,
        config: Bytes::new(),
        capability: None,
        under_way: Bytes::new(),
    }
}

/// One server under test, in the middle of its ensemble. All channels stand and have been used, unless a test says
/// otherwise.
pub(super) struct Table {
    pub(super) election: Election,
    pub(super) members: Members,
    pub(super) now_ms: i64,
}

impl Table {
    pub(super) fn new(me: u64, members: Members) -> Table {
        let mut table = Table { election: Election::new(PeerId(me), 1, false), members, now_ms: 1_000 };
        for peer in table.members.others(PeerId(me)).collect::<Vec<_>>() {
            table.link(peer.0, true);
            table.hear(peer.0, &says(Standing::Observing, None, 0));
        }
        table
    }

    pub(super) fn look(&mut self, own: impl Into<Option<Vote>>) -> (Option<Elected>, Vec<Ballot>) {
        let mut out = Vec::new();
        (self.election.look(self.now_ms, own.into(), &self.members, &mut out), out)
    }

    pub(super) fn hear(&mut self, from: u64, notification: &Notification) -> (Option<Elected>, Vec<Ballot>) {
        let mut out = Vec::new();
        let elected =
            self.election.on_notification(self.now_ms, PeerId(from), notification, &self.members, &mut out);
        (elected, out)
    }

    pub(super) fn link(&mut self, peer: u64, up: bool) -> (Option<Elected>, Vec<Ballot>) {
        let mut out = Vec::new();
        (self.election.on_link(self.now_ms, PeerId(peer), up, &self.members, &mut out), out)
    }

    pub(super) fn after(&mut self, ms: i64) -> (Option<Elected>, Vec<Ballot>) {
        self.now_ms += ms;
        let mut out = Vec::new();
        (self.election.on_tick(self.now_ms, &self.members, &mut out), out)
    }
}

/// Whom the answer elects.
pub(super) fn leader(elected: Option<Elected>) -> Option<u64> {
    elected.map(|elected| elected.vote.leader.0)
}

/// To whom what is said: receiver, candidate, round.
pub(super) fn told(out: &[Ballot]) -> Vec<(u64, Option<u64>, i64)> {
    let short = |ballot: &Ballot| {
        assert_eq!(ballot.notification.capability, Some(Capability::OURS));
        (ballot.to.0, ballot.notification.vote.map(|vote| vote.leader.0), ballot.notification.round)
    };
    out.iter().map(short).collect()
}
