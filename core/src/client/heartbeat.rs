//! PURE: what proves that the session lives, and until when.
//!
//! The lease ends `timeout` after the **sending** of the newest confirmed heartbeat, minus a margin. Which
//! heartbeats are confirmed? Two answers are kept side by side:
//!
//! - *heard*: any request that was answered. The server that we are connected to has noted it. It may be a
//!   follower that has lost its leader and does not know it yet, so this is the weaker answer.
//! - *proved*: a follower tells the leader about its clients with its answer to the leader's ping, every half
//!   tick, over the same ordered link that a later `sync` or write takes. So when a `sync` that was sent half a
//!   tick after heartbeat A was *answered* has itself been answered, the leader knows of A. The handshake of a
//!   session goes to the leader too and proves itself.
//!
//! While anybody holds the lease, `sync`s are sent every sixth of the timeout and only *proved* counts, from the
//! moment of the first proof on.

use std::collections::VecDeque;
use std::time::Duration;

use super::lease::Moment;

/// Answered heartbeats that wait to be proved. They are spaced by an eighth of a tick, so this covers two ticks
/// of round trip; when it is full, younger ones are not noted, which only makes the lease shorter.
const CANDIDATES_MAX: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Candidate {
    sent: Moment,
    answered: Moment,
}

/// See the module. Between sessions there is no lease.
#[derive(Debug)]
pub(super) struct Heartbeats {
    margin: Duration,
    tick: Duration,
    timeout: Duration,
    heard: Option<Moment>,
    proved: Option<Moment>,
    candidates: VecDeque<Candidate>,
    holds: usize,
    /// What was heard when the first holder came: it counts until there is a proof.
    heard_at_hold: Option<Moment>,
    /// When the next `sync` may go, while the lease is held.
    next_sync: Moment,
    sync_waits: bool,
}

impl Heartbeats {
    pub(super) fn new(margin: Duration, tick: Duration) -> Self {
        Heartbeats {
            margin,
            tick,
            timeout: Duration::ZERO,
            heard: None,
            proved: None,
            candidates: VecDeque::new(),
            holds: 0,
            heard_at_hold: None,
            next_sync: Moment::default(),
            sync_waits: false,
        }
    }

    /// A session was made or taken up by a handshake that was sent at `sent`.
    pub(super) fn session_confirmed(&mut self, sent: Moment, timeout: Duration) {
        self.timeout = timeout;
        self.heard = Some(sent);
        self.proved = Some(sent);
        self.heard_at_hold = None;
        self.connection_lost();
        self.next_sync = sent;
    }

    /// A server without quorum has answered: it cannot confirm anything.
    pub(super) fn read_only(&mut self) {
        self.connection_lost();
    }

    /// Requests in flight will not be answered. What was confirmed stays so.
    pub(super) fn connection_lost(&mut self) {
        self.candidates.clear();
        self.sync_waits = false;
    }

    /// There is no session any more.
    pub(super) fn session_ended(&mut self) {
        self.connection_lost();
        self.heard = None;
        self.proved = None;
        self.heard_at_hold = None;
    }

    /// A request sent at `sent` was answered. `by_leader`: its answer came from the leader.
    pub(super) fn answered(&mut self, sent: Moment, now: Moment, by_leader: bool) {
        self.heard = self.heard.max(Some(sent));
        if by_leader {
            self.prove(sent);
        }
        let spaced = self.candidates.back().is_none_or(|last| now.since(last.answered) >= self.tick / 8);
        if spaced && self.candidates.len() < CANDIDATES_MAX {
            self.candidates.push_back(Candidate { sent, answered: now });
        }
    }

    fn prove(&mut self, leader_asked: Moment) {
        let half = self.tick / 2;
        let known = |candidate: &Candidate| candidate.answered + half <= leader_asked;
        while let Some(first) = self.candidates.front().copied().filter(known) {
            self.proved = self.proved.max(Some(first.sent));
            self.candidates.pop_front();
        }
    }

    /// The lease has one more holder.
    pub(super) fn hold(&mut self, now: Moment) {
        if self.holds == 0 {
            self.heard_at_hold = self.heard;
            self.next_sync = now;
        }
        self.holds += 1;
    }

    /// The lease has one holder less.
    pub(super) fn release(&mut self) {
        self.holds = self.holds.saturating_sub(1);
        if self.holds == 0 {
            self.heard_at_hold = None;
        }
    }

    /// When the next `sync` is due on a connection; `None` when none is needed or one is under way.
    pub(super) fn sync_due(&self) -> Option<Moment> {
        (self.holds > 0 && !self.sync_waits).then_some(self.next_sync)
    }

    /// A `sync` was sent.
    pub(super) fn sync_sent(&mut self, now: Moment) {
        self.sync_waits = true;
        self.next_sync = now + self.timeout / 6;
    }

    /// The `sync` sent at `sent` was answered; `succeeded`: not with an error.
    pub(super) fn sync_answered(&mut self, sent: Moment, now: Moment, succeeded: bool) {
        self.sync_waits = false;
        if !succeeded {
            return;
        }
        self.answered(sent, now, true);
        // As long as nothing is proved since the first holder came, the next one goes as soon as it can prove.
        if self.proved < self.heard_at_hold {
            self.next_sync = now + self.tick / 2 + self.tick / 16;
        }
    }

    /// Until when nobody else can have taken the session for dead; `None` without a session.
    pub(super) fn lease_end(&self) -> Option<Moment> {
        let newest = if self.holds > 0 { self.proved.max(self.heard_at_hold) } else { self.heard };
        newest.map(|sent| (sent + self.timeout).minus(self.margin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(2000);
    const TIMEOUT: Duration = Duration::from_millis(12_000);
    const MARGIN: Duration = Duration::from_millis(500);

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    fn connected(sent: u64) -> Heartbeats {
        let mut heartbeats = Heartbeats::new(MARGIN, TICK);
        heartbeats.session_confirmed(at(sent), TIMEOUT);
        heartbeats
    }

    #[test]
    fn the_lease_counts_from_the_sending() {
        let mut heartbeats = connected(100);
        assert_eq!(heartbeats.lease_end(), Some(at(100 + 12_000 - 500)));
        heartbeats.answered(at(1000), at(3000), false);
        assert_eq!(heartbeats.lease_end(), Some(at(1000 + 12_000 - 500)));
        // An older one that is answered later takes nothing back.
        heartbeats.answered(at(900), at(3100), false);
        assert_eq!(heartbeats.lease_end(), Some(at(1000 + 12_000 - 500)));
    }

    #[test]
    fn a_sync_proves_what_was_answered_half_a_tick_before_it() {
        let mut heartbeats = connected(0);
        heartbeats.hold(at(0));
        heartbeats.answered(at(1000), at(1100), false);
        heartbeats.answered(at(1900), at(2000), false);
        heartbeats.sync_sent(at(2200));
        heartbeats.sync_answered(at(2200), at(2300), true);
        assert_eq!(heartbeats.lease_end(), Some(at(1000 + 12_000 - 500)), "only the first is proved");
        heartbeats.sync_sent(at(3299));
        heartbeats.sync_answered(at(3299), at(3400), true);
        assert_eq!(heartbeats.lease_end(), Some(at(1900 + 12_000 - 500)), "2300 + 1000 is not yet reached");
        heartbeats.sync_sent(at(4400));
        heartbeats.sync_answered(at(4400), at(4500), true);
        assert_eq!(heartbeats.lease_end(), Some(at(3299 + 12_000 - 500)));
    }

    #[test]
    fn pings_alone_prove_nothing_while_the_lease_is_held() {
        let mut heartbeats = connected(0);
        for second in 1..9 {
            heartbeats.answered(at(second * 1000), at(second * 1000 + 10), false);
        }
        heartbeats.hold(at(9000));
        assert_eq!(heartbeats.lease_end(), Some(at(8000 + 12_000 - 500)), "heard before the hold");
        for second in 9..14 {
            heartbeats.answered(at(second * 1000), at(second * 1000 + 10), false);
        }
        assert_eq!(heartbeats.lease_end(), Some(at(8000 + 12_000 - 500)), "pings do not extend it");
        heartbeats.release();
        assert_eq!(heartbeats.lease_end(), Some(at(13_000 + 12_000 - 500)));
    }

    #[test]
    fn the_first_proof_comes_quickly_and_the_next_every_sixth() {
        let mut heartbeats = connected(0);
        heartbeats.answered(at(20_000), at(20_010), false);
        heartbeats.hold(at(23_000));
        assert_eq!(heartbeats.sync_due(), Some(at(23_000)));
        heartbeats.sync_sent(at(23_000));
        assert_eq!(heartbeats.sync_due(), None, "one at a time");
        heartbeats.sync_answered(at(23_000), at(23_020), true);
        assert_eq!(heartbeats.lease_end(), Some(at(20_000 + 12_000 - 500)), "the ping at 20 s is proved");
        assert_eq!(heartbeats.sync_due(), Some(at(25_000)));
        heartbeats.release();
        assert_eq!(heartbeats.sync_due(), None);
    }

    #[test]
    fn without_a_session_there_is_no_lease() {
        let mut heartbeats = connected(0);
        heartbeats.session_ended();
        assert_eq!(heartbeats.lease_end(), None);
        heartbeats.hold(at(5));
        assert_eq!(heartbeats.lease_end(), None);
    }
}
