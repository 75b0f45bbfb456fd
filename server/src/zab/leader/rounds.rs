//! Proof that we still lead.
//!
//! A leader that was replaced may not know it yet. So what must be current waits for a *round*: every learner is pinged, and
//! when a quorum has answered, nobody else can have led before the pings went out – a voter that has left for another
//! leader answers no more. One round is under way at a time; who comes meanwhile waits for the next one.

use super::Leading;
use crate::zab::context::Context;
use crate::zab::{Message, Output};

/// The numbers of rounds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rounds {
    asked: u64,
    pub(super) under_way: Option<u64>,
    through: u64,
}

impl Leading {
    /// Asks for proof that we still lead: what was asked for up to this number is proved when [`Leading::proved`] has
    /// reached it.
    pub(in crate::zab) fn prove(&mut self, cx: &mut Context<'_>) -> u64 {
        self.rounds.asked += 1;
        self.maybe_begin_round(cx);
        self.rounds.asked
    }

    /// Up to which number it is proved that we led when it was asked for.
    pub(in crate::zab) fn proved(&self) -> u64 {
        self.rounds.through
    }

    fn maybe_begin_round(&mut self, cx: &mut Context<'_>) {
        if self.rounds.under_way.is_some() || self.rounds.through == self.rounds.asked {
            return;
        }
        self.rounds.under_way = Some(self.rounds.asked);
        let last = self.last_proposed;
        for (link, learner) in self.learners.iter_mut().filter(|(_, learner)| learner.is_live()) {
            cx.send(*link, Message::Ping { last, touched: Vec::new() });
            learner.pinged(true);
            learner.round = Some(learner.pings);
        }
        self.maybe_end_round(cx);
    }

    pub(super) fn maybe_end_round(&mut self, cx: &mut Context<'_>) {
        let Some(round) = self.rounds.under_way else { return };
        let there = self.those_who(|learner| {
            learner.has_acked() && learner.round.is_some_and(|wanted| learner.pongs >= wanted)
        });
        if !cx.members().quorum.is_quorum(&there) {
            return;
        }
        self.rounds.under_way = None;
        self.rounds.through = round;
        self.learners.values_mut().for_each(|learner| learner.round = None);
        cx.out.push(Output::Proved);
        self.maybe_begin_round(cx);
    }
}
