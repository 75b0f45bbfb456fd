//! Whom to follow: the leader election of one server.
//!
//! A server without a leader begins a *round* and tells everybody its *vote*, at first itself. Who hears of a better vote
//! takes it over and says so; who hears of a worse one answers with its own. When a quorum of the same round votes for
//! the same server, that is the leader. A server that has a leader answers those who look with what it knows, and who
//! hears that a quorum has the same leader joins it.
//!
//! This is advice, not agreement: two servers may believe at the same time that they are elected. What makes one leader
//! of one epoch are discovery and synchronization. So what matters here is that servers that look find together, and
//! soon, under the following conditions.
//!
//! * Notifications may be lost with their channel, repeated, and as the first of a channel years old. Such a one is a
//!   vote of its round and nothing else. It counts, but not for deciding at once: who has a leader by now says so when
//!   it hears from us.
//! * Apache's servers decide after 200 ms without a notification, so what we say to them is an answer to something
//!   or rare.
//! * We decide at once when everybody who can be reached agrees, else after
//!   [`ELECTION_WINDOW_MS`](crate::limits::ELECTION_WINDOW_MS).
//!
//! Differences to Apache's election that others may notice, beyond the shorter wait:
//!
//! * a losing vote of the same round is answered, and so is the first vote of each peer in a round;
//! * votes are forgotten when the channel to their sender breaks; it says them again on the next;
//! * observers are told the result without asking again;
//! * votes for a leader count together with those whose epoch it has replaced;
//! * a server that looks does not take up the lead because others follow what it was before it restarted;
//! * while the members change, votes count for whom another member's log makes a voter: see [`Election::hear_of`].
//!
//! Left out: Apache's "oracle" of two servers, and formats without an epoch (before ZooKeeper 3.4).

#[cfg(test)]
mod captures;
mod count;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod rules;
mod say;
#[cfg(test)]
mod story;
#[cfg(test)]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use docent::Zxid;

use self::count::{Heard, better};
use self::say::Answer;
use super::{Members, Notification, PeerId, Standing, Vote};
use crate::limits::{ELECTION_RESEND_MS, ELECTION_WINDOW_MS};

/// A notification to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ballot {
    /// To whom. Of several to the same peer only the last matters.
    pub to: PeerId,
    /// What.
    pub notification: Notification,
}

/// The end of an election for this server: whom it follows, or that it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elected {
    /// The vote that won.
    pub vote: Vote,
    /// The round in which it won.
    pub round: i64,
}

/// A server's part in elections, as long as its process lives.
///
/// While it looks it has a search; what it keeps is bounded by the number of members.
#[derive(Clone, Debug)]
pub struct Election {
    me: PeerId,
    /// Servers that no configuration names are told what we know: they may be about to be asked in.
    open: bool,
    /// The round that we vote in, or voted in last. Who joins a leader takes over its round, be it earlier or later.
    round: i64,
    standing: Standing,
    /// What we vote for, or what we decided for last.
    vote: Option<Vote>,
    /// Present while we look, and only then.
    search: Option<Search>,
    /// Channels that stand, and whether anything has come on them.
    channels: BTreeMap<PeerId, bool>,
    /// Whom not to wait for.
    suspects: BTreeSet<PeerId>,
    /// Who may lead although the configurations that count here do not name them: see [`Election::hear_of`].
    strangers: BTreeSet<PeerId>,
    /// The last answer to each peer that was given one.
    answers: BTreeMap<PeerId, Answer>,
    chance: fastrand::Rng,
}

/// One search for a leader.
#[derive(Clone, Debug)]
struct Search {
    /// Our candidature; `None` if we have no vote.
    own: Option<Vote>,
    /// The end of our log, as a candidature, whether we have a vote or not.
    end: Option<Vote>,
    /// What voters said last. Not our own vote.
    votes: BTreeMap<PeerId, Heard>,
    /// When we decide for the vote that a quorum supports, if nothing better comes.
    decide_at_ms: Option<i64>,
    /// When we say our vote again.
    resend_at_ms: i64,
    resend_after_ms: i64,
}

impl Election {
    /// A server that has just started. It says nothing before [`Election::look`]. `seed` is the source of all chance;
    /// `open` says whether servers are answered that are no members.
    #[must_use]
    pub fn new(me: PeerId, seed: u64, open: bool) -> Election {
        Election {
            me,
            open,
            round: 0,
            standing: Standing::Looking,
            vote: None,
            search: None,
            channels: BTreeMap::new(),
            suspects: BTreeSet::new(),
            strangers: BTreeSet::new(),
            answers: BTreeMap::new(),
            chance: fastrand::Rng::with_seed(seed),
        }
    }

    /// We have no leader: begins a new round, whatever was before. `own` is our candidature: ourselves, with the end of
    /// our log and our `currentEpoch`; it counts for nothing if we are no voter. A log end of -1 is one that must not be
    /// trusted: such a server joins a leader and elects none.
    ///
    /// Answers the result at once where our own vote is a quorum.
    pub fn look(
        &mut self,
        now_ms: i64,
        own: Option<Vote>,
        members: &Members,
        out: &mut Vec<Ballot>,
    ) -> Option<Elected> {
        let lost_leader = self.round > 0;
        let end = own;
        let own = own.filter(|_| members.quorum.is_voter(self.me));
        self.channels.retain(|peer, _| members.contains(*peer));
        self.suspects.retain(|peer| members.contains(*peer));
        self.answers.clear();
        self.strangers.clear();
        self.round = self.round.saturating_add(1);
        self.standing = Standing::Looking;
        self.vote = own;
        self.search = Some(Search {
            own,
            end,
            votes: BTreeMap::new(),
            decide_at_ms: None,
            resend_at_ms: now_ms,
            resend_after_ms: ELECTION_RESEND_MS,
        });
        if own.is_none() && lost_leader {
            self.rest(now_ms);
        } else {
            self.broadcast(now_ms, members, out);
        }
        self.maybe_decide(now_ms, members, out)
    }

    /// A notification has come. Those of strangers are ignored, or, where the election is open, answered.
    pub fn on_notification(
        &mut self,
        now_ms: i64,
        from: PeerId,
        notification: &Notification,
        members: &Members,
        out: &mut Vec<Ballot>,
    ) -> Option<Elected> {
        if from == self.me || !self.open && !members.contains(from) {
            return None;
        }
        // What comes from a peer proves that its channel stands, even where nobody has said so yet.
        let maybe_old = self.channels.insert(from, true) != Some(true);
        self.maybe_second(now_ms, from, notification, members, out);
        if !self.is_candidate(from, members) {
            // Between servers without a vote answers would have no end, and tell nothing.
            if members.quorum.is_voter(self.me) {
                self.answer(now_ms, from, notification, members, out);
            }
            return None;
        }
        let heard =
            Heard::new(notification, maybe_old).filter(|heard| self.is_candidate(heard.vote.leader, members));
        match (self.search.is_some(), notification.standing, heard) {
            (true, Standing::Looking, _) if notification.round < self.round => {
                self.on_late_vote(now_ms, from, notification, members, out)
            }
            (true, Standing::Looking, Some(heard)) => {
                self.on_vote(now_ms, from, heard, notification, members, out)
            }
            (true, Standing::Following | Standing::Leading, Some(heard)) => {
                self.on_outcome(now_ms, from, heard, members, out)
            }
            (false, Standing::Looking, _) => {
                self.answer(now_ms, from, notification, members, out);
                None
            }
            (true, _, _) | (false, _, _) => None,
        }
    }

    /// The channel to a peer stands, or is gone. A channel that stands in place of another is new as well.
    pub fn on_link(
        &mut self,
        now_ms: i64,
        peer: PeerId,
        up: bool,
        members: &Members,
        out: &mut Vec<Ballot>,
    ) -> Option<Elected> {
        if peer == self.me || !members.contains(peer) {
            self.channels.remove(&peer);
            return None;
        }
        if up {
            self.channels.insert(peer, false);
            // It may have started just now, and what we said before may be lost with the channel.
            if self.search.is_some() && members.quorum.is_voter(peer) {
                out.push(self.ballot(peer, members));
            }
        } else {
            self.channels.remove(&peer);
            // It may be dead, and its vote with it. If not, it says it again on the next channel.
            if let Some(search) = &mut self.search {
                search.votes.remove(&peer);
            }
        }
        self.maybe_decide(now_ms, members, out)
    }

    /// The caller presumes that this peer is dead or leads no more (their quorum link broke): the coming election does
    /// not wait for it. Its votes count as everybody's. Forgotten at the end of that election.
    pub fn suspect(&mut self, peer: PeerId) {
        if peer != self.me {
            self.suspects.insert(peer);
        }
    }

    /// A change of the members is under way that another member has in its log and we have not. Whom it makes voters may
    /// have the longest log, and nobody else is elected then; so their votes, and votes for them, are listened to. They
    /// are not counted: that needs the change itself. Forgotten when the next election begins.
    pub fn hear_of(&mut self, strangers: impl IntoIterator<Item = PeerId>) {
        self.strangers = strangers.into_iter().filter(|peer| *peer != self.me).collect();
    }

    /// Time has passed.
    pub fn on_tick(&mut self, now_ms: i64, members: &Members, out: &mut Vec<Ballot>) -> Option<Elected> {
        let search = self.search.as_ref()?;
        if search.resend_at_ms <= now_ms {
            self.broadcast(now_ms, members, out);
        }
        self.maybe_decide(now_ms, members, out)
    }

    /// When [`Election::on_tick`] must be called, in the clock of `now_ms`; `None` unless looking.
    #[must_use]
    pub fn next_deadline(&self) -> Option<i64> {
        let search = self.search.as_ref()?;
        Some(search.decide_at_ms.map_or(search.resend_at_ms, |at| at.min(search.resend_at_ms)))
    }

    /// The role has changed. After an [`Elected`] this is known already and changes nothing. With
    /// [`Standing::Looking`] the server has left its leader, does not look yet and says nothing: what it decided for is
    /// no vote of an election that goes on.
    pub fn settle(&mut self, standing: Standing) {
        self.standing = standing;
        self.search = None;
        if standing == Standing::Looking {
            self.vote = None;
        }
    }

    /// A new configuration designates a leader, in place of an election.
    pub fn appoint(&mut self, vote: Vote) {
        self.vote = Some(vote);
        self.search = None;
    }

    /// We are level with the leader, or have a quorum of learners that are: from now on our vote names the new epoch.
    /// Without this a server that restarts may not find a quorum of equal votes (ZOOKEEPER-1732, ZOOKEEPER-1805).
    pub fn established(&mut self, epoch: u32) {
        if let (None, Some(vote)) = (&self.search, &mut self.vote) {
            vote.epoch = i64::from(epoch);
        }
    }

    /// What this server does, as it tells others.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// The round that it votes in, or voted in last; 0 before the first.
    #[must_use]
    pub fn round(&self) -> i64 {
        self.round
    }

    /// What it votes for, or decided for last; `None` before that, and while an observer looks.
    #[must_use]
    pub fn vote(&self) -> Option<Vote> {
        self.vote
    }

    /// Somebody votes in a round that is over. It may have left a leader since it last told us of one.
    fn on_late_vote(
        &mut self,
        now_ms: i64,
        from: PeerId,
        notification: &Notification,
        members: &Members,
        out: &mut Vec<Ballot>,
    ) -> Option<Elected> {
        self.forget_outcome(from);
        // Without a vote there is nothing to tell; a voter would answer us, and we it, without end.
        if self.vote.is_some() {
            self.answer(now_ms, from, notification, members, out);
        }
        None
    }

    /// Somebody votes in our round or a later one.
    fn on_vote(
        &mut self,
        now_ms: i64,
        from: PeerId,
        heard: Heard,
        notification: &Notification,
        members: &Members,
        out: &mut Vec<Ballot>,
    ) -> Option<Elected> {
        self.forget_outcome(from);
        let (Some(vote), Some(own)) = (self.vote, self.search.as_ref().and_then(|search| search.own)) else {
            return None;
        };
        if own.zxid == Zxid::NONE || heard.vote.zxid == Zxid::NONE {
            return None;
        }
        let quorum = &members.quorum;
        let later = heard.round > self.round;
        self.round = heard.round;
        // In a new round the candidates are ours and this one; what we took over in the old round is not known to stand.
        let mine = if later { own } else { vote };
        let best = if better(heard.vote, mine, quorum, &self.strangers) { heard.vote } else { mine };
        let before = self.search.as_mut().and_then(|search| search.votes.insert(from, heard));
        // What we said before may have come while it still had a leader, and then it did not count.
        let is_first = before.is_none_or(|before| before.round != heard.round);
        if later || best != vote {
            self.propose(now_ms, best, members, out);
        } else if is_first || better(vote, heard.vote, quorum, &self.strangers) {
            // Apache leaves it to its timer to tell the peer, which can take 200 ms.
            self.answer(now_ms, from, notification, members, out);
        }
        self.maybe_decide(now_ms, members, out)
    }

    /// Somebody has a leader.
    fn on_outcome(
        &mut self,
        now_ms: i64,
        from: PeerId,
        told: Heard,
        members: &Members,
        out: &mut Vec<Ballot>,
    ) -> Option<Elected> {
        let search = self.search.as_mut()?;
        search.votes.insert(from, told);
        if self.may_follow(told, members) {
            self.round = told.round;
            return Some(self.end(told.vote, members, out));
        }
        self.maybe_decide(now_ms, members, out)
    }

    /// Whether enough voters have this leader, and it is one.
    fn may_follow(&self, told: Heard, members: &Members) -> bool {
        let Some(search) = &self.search else { return false };
        let is_quorum = |mut peers: BTreeSet<PeerId>, with_me: bool| {
            if with_me {
                peers.insert(self.me);
            }
            members.quorum.may_be_quorum(&peers)
        };
        if told.vote.leader == self.me {
            // They have decided for us before us. What they followed before we restarted looks almost the same, but
            // is not what we stand for now.
            let ours = told.round == self.round && search.own == Some(told.vote);
            return ours && is_quorum(count::supporters(&search.votes, told.vote, told.round), self.counts());
        }
        let leads =
            search.votes.get(&told.vote.leader).is_some_and(|heard| heard.standing == Standing::Leading);
        let mine = self.counts() && self.vote.is_some_and(|vote| count::same_election(vote, told.vote));
        leads
            && (told.round == self.round && is_quorum(count::same_round(&search.votes, told), mine)
                || is_quorum(count::any_round(&search.votes, told), false))
    }

    /// Decides if a quorum supports our vote: at once when everybody does who can, else when the window has passed.
    fn maybe_decide(&mut self, now_ms: i64, members: &Members, out: &mut Vec<Ballot>) -> Option<Elected> {
        let (vote, round, counts) = (self.vote, self.round, self.counts());
        let search = self.search.as_mut()?;
        let vote = vote.filter(|_| counts)?;
        let may_lead = members.quorum.has_weight(vote.leader) || self.strangers.contains(&vote.leader);
        let mut agreeing = count::supporters(&search.votes, vote, round);
        agreeing.insert(self.me);
        if !members.quorum.is_quorum(&agreeing) || !may_lead {
            search.decide_at_ms = None;
            return None;
        }
        let is_sure = |peer: PeerId| {
            let agrees =
                || agreeing.contains(&peer) && search.votes.get(&peer).is_some_and(|heard| !heard.maybe_old);
            peer == self.me || agrees()
        };
        let waited_for = |peer: &PeerId| {
            agreeing.contains(peer) || self.channels.contains_key(peer) && !self.suspects.contains(peer)
        };
        let all = members.quorum.voters().filter(|peer| members.quorum.has_weight(*peer));
        let unanimous = all.filter(waited_for).all(is_sure);
        let decide_at_ms = *search.decide_at_ms.get_or_insert(now_ms.saturating_add(ELECTION_WINDOW_MS));
        (unanimous || decide_at_ms <= now_ms).then(|| self.end(vote, members, out))
    }

    /// The search is over. Observers that have asked meanwhile learn it from here: their own timer is slow.
    fn end(&mut self, vote: Vote, members: &Members, out: &mut Vec<Ballot>) -> Elected {
        self.search = None;
        self.suspects.clear();
        self.vote = Some(vote);
        let votes = members.quorum.is_voter(self.me);
        self.standing = match vote.leader == self.me {
            true => Standing::Leading,
            false if votes => Standing::Following,
            false => Standing::Observing,
        };
        let asked = std::mem::take(&mut self.answers).into_keys();
        out.extend(
            asked.filter(|peer| !members.quorum.is_voter(*peer)).map(|peer| self.ballot(peer, members)),
        );
        Elected { vote, round: self.round }
    }

    /// Whether this server may be voted for.
    fn is_candidate(&self, peer: PeerId, members: &Members) -> bool {
        members.quorum.is_voter(peer) || self.strangers.contains(&peer)
    }

    /// Whether our own vote counts.
    fn counts(&self) -> bool {
        let own = self.search.as_ref().and_then(|search| search.own);
        own.is_some_and(|own| own.zxid != Zxid::NONE)
    }

    /// Who votes again has left the leader that it told us of.
    fn forget_outcome(&mut self, peer: PeerId) {
        if let Some(search) = &mut self.search
            && search.votes.get(&peer).is_some_and(Heard::is_out)
        {
            search.votes.remove(&peer);
        }
    }
}
