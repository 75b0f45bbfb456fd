//! Who belongs to the ensemble, as everybody outside of the servers sees it: which configurations are committed, and what
//! a change that somebody asked for makes of one.
//!
//! Texts are read here a second time and by simpler means than the server's. A configuration is a version and who votes;
//! the version is the zxid of the record that made it, or that of the epoch whose leader was the first to give the
//! members one, or 0 for the list that servers begin with.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use docent::Zxid;
use docent::proto::ReconfigRequest;
use docent_server::zab::PeerId;

/// One configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Roll {
    pub(super) version: i64,
    /// The members, and whether each of them votes.
    pub(super) members: BTreeMap<PeerId, bool>,
    pub(super) text: Bytes,
}

/// The line of a member.
pub(super) fn line(peer: PeerId, votes: bool) -> String {
    let (n, role) = (peer.0, if votes { "participant" } else { "observer" });
    format!("server.{n}=s{n}:2888:3888:{role};s{n}:2181")
}

impl Roll {
    /// The members that servers begin with.
    pub(super) fn first(members: BTreeMap<PeerId, bool>) -> Self {
        Roll { version: 0, members, text: Bytes::new() }
    }

    /// Reads a text.
    pub(super) fn parse(text: &Bytes) -> Option<Self> {
        let (mut members, mut version) = (BTreeMap::new(), None);
        for line in std::str::from_utf8(text).ok()?.lines() {
            let (key, value) = line.split_once('=')?;
            match key.strip_prefix("server.") {
                Some(number) => {
                    members.insert(PeerId(number.parse().ok()?), value.contains(":participant"));
                }
                None if key == "version" => version = i64::from_str_radix(value, 16).ok(),
                None => return None,
            }
        }
        Some(Roll { version: version?, members, text: text.clone() })
    }

    pub(super) fn voters(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.members.iter().filter(|(_, votes)| **votes).map(|(peer, _)| *peer)
    }

    pub(super) fn votes(&self, peer: PeerId) -> bool {
        self.members.get(&peer) == Some(&true)
    }

    /// Whether these are more than half of those that vote.
    pub(super) fn is_majority(&self, peers: &BTreeSet<PeerId>) -> bool {
        self.voters().filter(|peer| peers.contains(peer)).count() * 2 > self.voters().count()
    }
}

/// A change that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) joining: BTreeMap<PeerId, bool>,
    pub(super) leaving: BTreeSet<PeerId>,
    /// The whole new list, in place of the two.
    pub(super) whole: Option<BTreeMap<PeerId, bool>>,
    /// The version that is meant to be changed, or -1.
    pub(super) from: i64,
    /// A line that is none stands among those that join.
    pub(super) nonsense: bool,
}

impl Wish {
    /// Whether this is what was asked.
    pub(super) fn request(&self) -> ReconfigRequest {
        let lines = |members: &BTreeMap<PeerId, bool>| {
            let mut lines: Vec<String> = members.iter().map(|(peer, votes)| line(*peer, *votes)).collect();
            if self.nonsense {
                lines.push("server.9=nowhere".to_owned());
            }
            Some(lines.join(",")).filter(|text| !text.is_empty())
        };
        let leaving: Vec<String> = self.leaving.iter().map(|peer| peer.0.to_string()).collect();
        ReconfigRequest {
            joining: if self.whole.is_none() { lines(&self.joining) } else { None },
            leaving: Some(leaving.join(",")).filter(|text| !text.is_empty() && self.whole.is_none()),
            new_members: self.whole.as_ref().and_then(lines),
            current_config: self.from,
        }
    }

    /// What it makes of these members; `None` if it makes no sense.
    pub(super) fn change(&self, before: &Roll, voters_min: usize) -> Option<BTreeMap<PeerId, bool>> {
        let members = match &self.whole {
            Some(whole) => whole.clone(),
            None => {
                let mut members = before.members.clone();
                members.retain(|peer, _| !self.leaving.contains(peer));
                members.extend(self.joining.iter().map(|(peer, votes)| (*peer, *votes)));
                members
            }
        };
        let voters = members.values().filter(|votes| **votes).count();
        (!self.nonsense && voters >= voters_min).then_some(members)
    }
}

/// The configurations that are committed.
#[derive(Clone, Debug)]
pub(super) struct Rolls {
    by_version: BTreeMap<i64, Roll>,
    /// Voters that a change must leave.
    pub(super) voters_min: usize,
}

impl Rolls {
    pub(super) fn new(first: Roll, voters_min: usize) -> Self {
        Rolls { by_version: [(0, first)].into(), voters_min }
    }

    /// The one that counts now.
    pub(super) fn last(&self) -> &Roll {
        self.at(Zxid(i64::MAX))
    }

    /// The one that counts right after this transaction.
    pub(super) fn at(&self, zxid: Zxid) -> &Roll {
        let found = self.by_version.range(..=zxid.0).next_back();
        // The first one is of version 0, and no zxid is less.
        found.expect("there is one from the beginning").1
    }

    /// The one that a transaction is judged by.
    pub(super) fn before(&self, zxid: Zxid) -> &Roll {
        self.at(Zxid(zxid.0 - 1))
    }

    pub(super) fn of_version(&self, version: i64) -> Option<&Roll> {
        self.by_version.get(&version)
    }

    /// All versions, in their order.
    pub(super) fn versions(&self) -> impl DoubleEndedIterator<Item = i64> + '_ {
        self.by_version.keys().copied()
    }

    /// The members got the version of an epoch, if they had none. No record makes it: a leader that dies before anybody
    /// has written it down leaves that to the next. Answers whether that may be.
    pub(super) fn establish(&mut self, roll: &Roll) -> bool {
        let unchanged = self.by_version.keys().all(|version| Zxid(*version).counter() == 0);
        let first = &self.by_version[&0];
        let may = unchanged && first.members == roll.members && Zxid(roll.version).counter() == 0;
        if may {
            self.by_version.insert(roll.version, roll.clone());
        }
        may
    }

    /// A record is committed that makes this one.
    pub(super) fn commit(&mut self, roll: Roll) {
        self.by_version.insert(roll.version, roll);
    }

    /// How many changes were made.
    pub(super) fn changes(&self) -> u64 {
        self.by_version.keys().filter(|version| Zxid(**version).counter() > 0).count() as u64
    }
}
