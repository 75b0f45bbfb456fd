//! Comparing votes and counting them.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Notification, PeerId, Quorum, Standing, Vote};

/// The latest that a voter has said while we look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// What it does.
    pub(super) standing: Standing,
    /// Its vote. A voter has one.
    pub(super) vote: Vote,
    /// The round of the vote.
    pub(super) round: i64,
    /// The format of the message.
    format: i32,
    /// It was the first message of a channel. Apache's servers begin each channel with the last message that they ever
    /// sent to that peer, so it may be years old.
    pub(super) maybe_old: bool,
}

impl Heard {
    /// What a voter said; `None` if it names nobody.
    pub(super) fn new(notification: &Notification, maybe_old: bool) -> Option<Heard> {
        let &Notification { standing, vote, round, format, .. } = notification;
        vote.map(|vote| Heard { standing, vote, round, format, maybe_old })
    }

    /// Whether its sender has a leader.
    pub(super) fn is_out(&self) -> bool {
        matches!(self.standing, Standing::Following | Standing::Leading)
    }
}

/// Whether `new` is the better vote: it names somebody who may lead, with the longer history. A server of weight 0
/// votes for itself until it hears of anybody else. Among equal histories, while a change of the members is under way, it
/// is one whom the old configuration names, too: whoever has slept through the change may have heard of no other. The
/// `strangers` may lead although the quorum does not know them.
pub(super) fn better(new: Vote, old: Vote, quorum: &Quorum, strangers: &BTreeSet<PeerId>) -> bool {
    let may_lead = |vote: Vote| quorum.has_weight(vote.leader) || strangers.contains(&vote.leader);
    let rank = |vote: Vote| (vote.epoch, vote.zxid, quorum.is_settled_voter(vote.leader), vote.leader);
    may_lead(new) && (!may_lead(old) || rank(new) > rank(old))
}

/// Who supports this vote in this round. Where both votes are cast in an election that still goes on, all of them must be
/// equal; who has decided for it may have replaced the epoch since.
pub(super) fn supporters(votes: &BTreeMap<PeerId, Heard>, vote: Vote, round: i64) -> BTreeSet<PeerId> {
    let supports = |heard: &Heard| heard.vote == vote || heard.is_out() && same_election(heard.vote, vote);
    let same = votes.iter().filter(|(_, heard)| heard.round == round && supports(heard));
    same.map(|(peer, _)| *peer).collect()
}

/// Who is for the leader that `told` says, in the round in which it was elected. Some servers have replaced the epoch in
/// their vote by now, others not yet, and some have not counted to the end. So of servers with a leader only the leader is
/// compared, and votes for it are compared without their epoch, unless they may be old: who is counted here is a leader
/// that says so itself.
pub(super) fn same_round(votes: &BTreeMap<PeerId, Heard>, told: Heard) -> BTreeSet<PeerId> {
    let supports = |heard: &Heard| match heard.is_out() {
        true => heard.vote.leader == told.vote.leader,
        false => heard.vote == told.vote || !heard.maybe_old && same_election(heard.vote, told.vote),
    };
    let same = votes.iter().filter(|(_, heard)| heard.round == told.round && supports(heard));
    same.map(|(peer, _)| *peer).collect()
}

/// Whether two votes of one round are the same but for an epoch that was replaced since.
pub(super) fn same_election(one: Vote, other: Vote) -> bool {
    (one.leader, one.zxid) == (other.leader, other.zxid)
}

/// Who has the same leader as `told` says, in whatever round each of them found it. Zxid and round are not compared: a
/// server that joined later copied what it saw. Nor is the epoch if one of the two formats does not have it.
pub(super) fn any_round(votes: &BTreeMap<PeerId, Heard>, told: Heard) -> BTreeSet<PeerId> {
    let same = |heard: &&Heard| {
        heard.is_out()
            && heard.vote.leader == told.vote.leader
            && (heard.vote.epoch == told.vote.epoch || (heard.format == 0) != (told.format == 0))
    };
    votes.iter().filter(|(_, heard)| same(heard)).map(|(peer, _)| *peer).collect()
}
