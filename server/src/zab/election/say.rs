//! Telling others: everybody, or who has asked.

use bytes::Bytes;

use super::super::{Capability, Members, Notification, PeerId, Standing, Vote};
use super::{Ballot, Election};
use crate::limits::{
    ELECTION_ANSWER_MS, ELECTION_RESEND_MAX_MS, ELECTION_RESEND_MS, OBSERVER_ELECTION_DELAY_MS,
    OBSERVER_RESEND_MAX_MS,
};

/// What a notification says of its sender.
type Said = (Standing, Option<Vote>, i64);

#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    question: Said,
    answer: Said,
    at_ms: i64,
}

impl Election {
    /// Takes over a vote and tells everybody.
    pub(super) fn propose(&mut self, now_ms: i64, vote: Vote, members: &Members, out: &mut Vec<Ballot>) {
        self.vote = Some(vote);
        if let Some(search) = &mut self.search {
            search.decide_at_ms = None;
            search.resend_after_ms = ELECTION_RESEND_MS;
        }
        self.broadcast(now_ms, members, out);
    }

    /// Tells every other voter what we vote for, and who may lead without being one.
    pub(super) fn broadcast(&mut self, now_ms: i64, members: &Members, out: &mut Vec<Ballot>) {
        let strangers = self.strangers.iter().copied().filter(|peer| !members.quorum.is_voter(*peer));
        let others = members.quorum.voters().chain(strangers).filter(|peer| *peer != self.me);
        out.extend(others.map(|peer| self.ballot(peer, members)));
        if let Some(search) = &mut self.search {
            let max = if search.own.is_some() { ELECTION_RESEND_MAX_MS } else { OBSERVER_RESEND_MAX_MS };
            search.resend_at_ms = now_ms.saturating_add(search.resend_after_ms);
            search.resend_after_ms = (search.resend_after_ms * 2).min(max);
        }
    }

    /// Waits a while before the first question.
    pub(super) fn rest(&mut self, now_ms: i64) {
        let delay_ms = self.chance.i64(0..=OBSERVER_ELECTION_DELAY_MS);
        if let Some(search) = &mut self.search {
            search.resend_at_ms = now_ms.saturating_add(delay_ms);
        }
    }

    /// Tells one peer what we vote for, unless it has just asked the same and been answered.
    pub(super) fn answer(
        &mut self,
        now_ms: i64,
        to: PeerId,
        question: &Notification,
        members: &Members,
        out: &mut Vec<Ballot>,
    ) {
        if self.vote.is_none() {
            return;
        }
        let question = (question.standing, question.vote, question.round);
        let answer = (self.standing, self.vote, self.round);
        let before = self.answers.get(&to);
        let is_new = before.is_none_or(|before| {
            (before.question, before.answer) != (question, answer)
                || now_ms - before.at_ms >= ELECTION_ANSWER_MS
        });
        if is_new {
            self.answers.insert(to, Answer { question, answer, at_ms: now_ms });
            out.push(self.ballot(to, members));
        }
    }

    /// A server looks for a leader, and we do too and have no vote as far as we know. It may know more than we do: a
    /// configuration in its log gives us one, and without us nobody ever commits it. So we second its vote, unless our log
    /// goes on where its candidate's ends. Who counts decides whose votes count; and who is elected by mistake finds no
    /// quorum for its epoch. Apache's servers without a vote do the same.
    pub(super) fn maybe_second(
        &mut self,
        now_ms: i64,
        from: PeerId,
        asked: &Notification,
        members: &Members,
        out: &mut Vec<Ballot>,
    ) {
        let (true, Some(search), Some(vote)) = (self.open, &mut self.search, asked.vote) else { return };
        let shorter = |end: Vote| (end.epoch, end.zxid) <= (vote.epoch, vote.zxid);
        if asked.standing != Standing::Looking || search.own.is_some() || !search.end.is_some_and(shorter) {
            return;
        }
        let said = (asked.standing, asked.vote, asked.round);
        let is_new = self.answers.get(&from).is_none_or(|before| {
            (before.question, before.answer) != (said, said) || now_ms - before.at_ms >= ELECTION_ANSWER_MS
        });
        if is_new {
            // It may lead soon: we ask for that before our own slow timer does.
            search.resend_after_ms = ELECTION_RESEND_MS;
            search.resend_at_ms = search.resend_at_ms.min(now_ms.saturating_add(ELECTION_RESEND_MS));
            self.answers.insert(from, Answer { question: said, answer: said, at_ms: now_ms });
            let mut ballot = self.ballot(from, members);
            ballot.notification.vote = asked.vote;
            ballot.notification.round = asked.round;
            out.push(ballot);
        }
    }

    /// What is said to a peer now.
    pub(in crate::zab) fn ballot(&self, to: PeerId, members: &Members) -> Ballot {
        let notification = Notification {
            standing: self.standing,
            vote: self.vote,
            round: self.round,
            format: 2,
            config: members.text.clone(),
            capability: Some(Capability::OURS),
            under_way: Bytes::new(),
        };
        Ballot { to, notification }
    }
}
