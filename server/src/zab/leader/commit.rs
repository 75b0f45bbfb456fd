//! Committing: which quorums a proposal needs, how far they have it, and what follows when a configuration is committed.
//!
//! A proposal needs the quorum of the configuration before it, and a new configuration and what is proposed behind it
//! need its own quorum as well, until it is committed. From then on its own is enough for all that is behind it, also for
//! what was proposed before: whoever leads next has the configuration in its log, since a quorum of the old one has. (In
//! Apache's servers such proposals go on needing both, and wait for ever if those whom the configuration has dismissed
//! are gone.) So a leader has up to three *eras* under way at a time, each beginning with a proposal: before the
//! configuration, with both, with the new one alone.

use std::collections::VecDeque;

use bytes::Bytes;
use docent::Zxid;

use super::{Leading, Learner};
use crate::zab::context::{Context, Flow};
use crate::zab::{Message, PeerId, Quorum};

/// A stretch of proposals that need the same quorum.
#[derive(Clone, Debug)]
struct Era {
    /// The last of them; `None` while it goes on.
    last: Option<Zxid>,
    quorum: Quorum,
}

/// The stretches that are not committed to their end, in order. Empty before a leader is established.
#[derive(Clone, Debug, Default)]
pub(super) struct Eras(VecDeque<Era>);

impl Eras {
    /// From here on everything needs this quorum; nothing is under way.
    pub(super) fn begin(&mut self, quorum: &Quorum) {
        self.0 = VecDeque::from([Era { last: None, quorum: quorum.clone() }]);
    }

    /// From this proposal on everything needs this quorum.
    pub(super) fn change(&mut self, from: Zxid, quorum: &Quorum) {
        if from.counter() == 1 {
            // Nothing of this epoch is before it.
            self.0.clear();
        }
        if let Some(era) = self.0.back_mut() {
            era.last = Some(Zxid(from.0 - 1));
        }
        self.0.push_back(Era { last: None, quorum: quorum.clone() });
    }

    /// Everything up to here is committed.
    fn pass(&mut self, committed: Zxid) {
        while self.0.pop_front_if(|era| era.last.is_some_and(|last| last <= committed)).is_some() {}
    }

    /// The last proposal that the oldest of them reaches to, and its quorum.
    fn first(&self) -> Option<(Option<Zxid>, &Quorum)> {
        self.0.front().map(|era| (era.last, &era.quorum))
    }

    /// Whether these peers can commit all that is under way.
    pub(super) fn are_alive(&self, peers: &[PeerId]) -> bool {
        self.0.iter().all(|era| era.quorum.is_quorum(peers))
    }
}

impl Leading {
    /// Commits what the quorums have. A new configuration is committed by itself, because it changes what counts; the era
    /// before it ends right before it.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>) -> Flow {
        let durable = cx.ledger.durable();
        if self.alone {
            if durable > self.committed {
                self.committed = durable;
                cx.commit(durable);
            }
            return Flow::Stay;
        }
        loop {
            self.eras.pass(self.committed);
            let new = cx.configs.seen().map(|seen| seen.zxid()).filter(|new| *new > self.committed);
            let reached = self.reached(durable);
            let reached = new.map_or(reached, |new| reached.min(new));
            if reached <= self.committed {
                return Flow::Stay;
            }
            let before = std::mem::replace(&mut self.committed, reached);
            if new != Some(reached) {
                self.tell_commit(cx, before, reached);
                cx.commit(reached);
            } else if let Some(leader) = self.activate(cx, reached) {
                return Flow::HandOver(leader);
            }
            for (link, learner) in &self.learners {
                let waited = before < learner.up_to_date_behind && learner.up_to_date_behind <= reached;
                if waited && learner.has_acked() {
                    cx.send(*link, Message::UpToDate);
                }
            }
        }
    }

    /// A new configuration is committed. Answers who leads from now on, if it is somebody else.
    fn activate(&mut self, cx: &mut Context<'_>, new: Zxid) -> Option<PeerId> {
        let leader = self.designate(cx);
        let payload = cx.ledger.behind(Zxid(new.0 - 1)).and_then(|mut behind| behind.next().cloned());
        let Some((_, payload)) = payload else { unreachable!("what is not committed is in memory: {new}") };
        for (link, learner) in self.learners.iter_mut().filter(|(_, learner)| learner.is_live()) {
            let payload = payload.clone();
            match learner.observer {
                true => cx.send(*link, Message::InformAndActivate { zxid: new, leader, payload }),
                false => learner.tell_commit(cx, *link, Message::CommitAndActivate { zxid: new, leader }),
            }
        }
        cx.commit(new);
        cx.activate(new);
        self.eras.change(Zxid(new.0 + 1), &cx.members().quorum);
        (leader != self.me).then_some(leader)
    }

    /// Who leads with the configuration that is about to count: this server, if it has a vote there, or else the voter of
    /// it that has most of our log. A quorum of them has the configuration itself.
    fn designate(&self, cx: &Context<'_>) -> PeerId {
        let quorum = &cx.configs.latest().quorum;
        if quorum.has_weight(self.me) {
            return self.me;
        }
        let voters = self
            .learners
            .values()
            .filter(|learner| learner.has_acked() && !learner.observer && quorum.has_weight(learner.peer));
        voters.max_by_key(|learner| (learner.durable, learner.peer)).map_or(self.me, |learner| learner.peer)
    }

    /// Tells learners that this much more is committed. Observers get the transactions themselves, Apache's followers one
    /// word for each.
    fn tell_commit(&mut self, cx: &mut Context<'_>, before: Zxid, reached: Zxid) {
        let each: Vec<(Zxid, Bytes)> = if self.learners.values().any(|l| l.observer || l.capability.is_none())
        {
            let behind = cx.ledger.behind(before);
            assert!(behind.is_some(), "what is not committed is in memory");
            behind.into_iter().flatten().take_while(|(zxid, _)| *zxid <= reached).cloned().collect()
        } else {
            Vec::new()
        };
        for (link, learner) in self.learners.iter_mut().filter(|(_, learner)| learner.is_live()) {
            if learner.observer {
                for (zxid, payload) in &each {
                    cx.send(*link, Message::Inform { zxid: *zxid, payload: payload.clone() });
                }
            } else if learner.capability.is_some() {
                learner.tell_commit(cx, *link, Message::Commit(reached));
            } else {
                each.iter().for_each(|(zxid, _)| learner.tell_commit(cx, *link, Message::Commit(*zxid)));
            }
        }
    }

    /// Up to where the quorums that it needs have our log on disk.
    fn reached(&self, ours: Zxid) -> Zxid {
        let Some((last, quorum)) = self.eras.first() else { return self.committed };
        let reached = self.quorum_has(quorum, ours);
        last.map_or(reached, |last| reached.min(last))
    }

    /// Up to where a quorum has our log on disk. Only what we proposed ourselves is counted.
    fn quorum_has(&self, quorum: &Quorum, ours: Zxid) -> Zxid {
        let mut acks: Vec<(PeerId, Zxid)> = Vec::with_capacity(self.learners.len() + 1);
        acks.push((self.me, ours));
        let learners = self.learners.values().filter(|learner| learner.has_acked());
        acks.extend(learners.map(|learner: &Learner| (learner.peer, learner.durable)));
        acks.sort_unstable_by_key(|(_, zxid)| std::cmp::Reverse(*zxid));
        for (_, zxid) in &acks {
            let have = acks.iter().filter(|(_, has)| has >= zxid).map(|(peer, _)| peer);
            if quorum.is_quorum(have) {
                return if zxid.epoch() == self.last_proposed.epoch() { *zxid } else { self.committed };
            }
        }
        self.committed
    }
}
