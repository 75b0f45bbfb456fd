//! Who belongs to the ensemble: one configuration, and the two that count while one takes the place of another.
//!
//! A new configuration is a record of the log like any other. From the moment at which a server has it in its log, every
//! decision that the server takes part in needs a quorum of both, the old one and the new one; when the record is
//! committed, the new one alone counts. So a record that is committed has a quorum of every configuration that counts
//! where it stands, and no two leaders of one epoch can each find what they need, in whichever of the configurations
//! each of them believes.
//!
//! At most one configuration is under way. A leader proposes the next one only when the one before is committed, so a
//! log that holds two of them proves that the first is.

use std::collections::BTreeSet;

use bytes::Bytes;
use docent::Zxid;

use super::{LogShape, PeerId, Quorum};

/// The members as one configuration names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// Who votes, and which sets of voters decide.
    pub quorum: Quorum,
    /// Who learns without a vote.
    pub observers: BTreeSet<PeerId>,
    /// The configuration as text, as notifications and `NEWLEADER` carry it.
    pub text: Bytes,
    /// Its version: the zxid that made it, 0 for one that came from a file.
    pub version: i64,
}

impl Members {
    /// The ensemble of a server that is alone.
    #[must_use]
    pub fn alone(me: PeerId) -> Self {
        Members { quorum: Quorum::majority([me]), observers: BTreeSet::new(), text: Bytes::new(), version: 0 }
    }

    /// Everybody but `me`, voters and observers.
    pub fn others(&self, me: PeerId) -> impl Iterator<Item = PeerId> + '_ {
        self.quorum.voters().chain(self.observers.iter().copied()).filter(move |peer| *peer != me)
    }

    /// Whether it names this server, as a voter or an observer.
    #[must_use]
    pub fn contains(&self, peer: PeerId) -> bool {
        self.quorum.is_voter(peer) || self.observers.contains(&peer)
    }

    /// The zxid that made it.
    #[must_use]
    pub fn zxid(&self) -> Zxid {
        Zxid(self.version)
    }

    /// The same members under another version. In the text the version stands last.
    fn at_version(&self, version: i64) -> Self {
        const KEY: &[u8] = b"version=";
        let end = self.text.windows(KEY.len()).rposition(|window| window == KEY).unwrap_or(self.text.len());
        let text = [&self.text[..end], KEY, format!("{version:x}").as_bytes()].concat();
        Members { text: text.into(), version, ..self.clone() }
    }
}

/// How configurations are found in what servers say and log: agreement itself does not know what is in a record.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The configuration that this record makes, if it is one that does.
    pub of_record: fn(&Bytes) -> Option<Members>,
    /// The configuration that stands in this text, if one does.
    pub of_text: fn(&Bytes) -> Option<Members>,
}

/// The configurations that count for a server.
#[derive(Clone, Debug)]
pub(super) struct Configs {
    /// Known to be committed.
    committed: Members,
    /// Logged, or said by a leader with its history, and not known to be committed. Their versions rise. A leader makes one
    /// at a time; who follows the next one may have heard of some that never became anything.
    seen: Vec<Members>,
    /// What decides now: all of them together. Text and version are those of the first.
    joint: Members,
    /// One that is under way in the log of another member, and not in ours. It decides nothing here; but whom it names may
    /// come to lead.
    heard: Option<Members>,
}

impl Configs {
    pub(super) fn new(committed: Members, seen: Option<Members>) -> Self {
        let seen = seen.into_iter().filter(|seen| seen.version > committed.version).collect();
        let mut configs = Configs { joint: committed.clone(), committed, seen, heard: None };
        configs.join();
        configs
    }

    /// What decides now.
    pub(super) fn joint(&self) -> &Members {
        &self.joint
    }

    /// The one that is known to be committed.
    pub(super) fn committed(&self) -> &Members {
        &self.committed
    }

    /// The latest one that is under way.
    pub(super) fn seen(&self) -> Option<&Members> {
        self.seen.last()
    }

    /// Another member has this one in its log. Answers whether it is news.
    pub(super) fn hear(&mut self, members: Members) -> bool {
        let known = self.heard.as_ref().unwrap_or(self.latest()).version.max(self.latest().version);
        let is_new = members.version > known;
        if is_new {
            self.heard = Some(members);
        }
        is_new
    }

    /// What others had under way when we looked the last time may be nothing by now.
    pub(super) fn forget_heard(&mut self) {
        self.heard = None;
    }

    /// The text of a configuration that names this server, where those that count do not.
    pub(super) fn hearsay_of(&self, peer: PeerId) -> Option<Bytes> {
        let heard = self.heard.as_ref().filter(|_| !self.joint.contains(peer))?;
        heard.contains(peer).then(|| heard.text.clone())
    }

    /// The latest one, committed or not.
    pub(super) fn latest(&self) -> &Members {
        self.seen.last().unwrap_or(&self.committed)
    }

    /// Whether this server learns without a vote. One that no configuration names follows without being counted, so
    /// that it is level when it is asked in.
    pub(super) fn observes(&self, me: PeerId) -> bool {
        !self.joint.quorum.is_voter(me) && self.joint.observers.contains(&me)
    }

    /// A record of the log makes this one. Answers whether anything is new.
    pub(super) fn log(&mut self, members: Members) -> bool {
        if members.version <= self.latest().version {
            return false;
        }
        self.seen.push(members);
        self.join();
        true
    }

    /// The latest that somebody counts by whose history ends here.
    pub(super) fn up_to(&self, last: Zxid) -> &Members {
        let counts = |seen: &&Members| seen.zxid() <= last || seen.zxid().counter() == 0;
        self.seen.iter().rev().find(counts).unwrap_or(&self.committed)
    }

    /// A leader whose history we have says that this one counts. What is not in our log now is not in the history, and
    /// was never anything. Answers whether anything is new.
    pub(super) fn told(&mut self, members: Members, log: &LogShape) -> bool {
        let before = self.seen.clone();
        self.seen.retain(|seen| {
            log.holds(seen.zxid()) || seen.zxid().counter() == 0 && seen.version <= members.version
        });
        if members.version > self.latest().version {
            self.seen.push(members);
        }
        self.changed(&before)
    }

    /// We are about to be established as a leader: what we only heard of is not in the history, and is nothing. Answers
    /// whether there was such a one.
    pub(super) fn prove(&mut self, log: &LogShape) -> bool {
        let before = self.seen.clone();
        self.seen.retain(|seen| seen.zxid() <= log.floor() || is_made_by(seen, log));
        self.changed(&before)
    }

    /// A leader's first act where nobody has given the members a version yet: they get the one of its epoch, so that they
    /// count more than the list in the file of a server that has never belonged to the ensemble (ZOOKEEPER-1783). Answers
    /// whether it was needed.
    pub(super) fn establish(&mut self, epoch: u32) -> bool {
        if self.latest().version != 0 {
            return false;
        }
        self.seen = vec![self.committed.at_version(Zxid::new(epoch, 0).0)];
        self.join();
        true
    }

    /// What is behind this record was cut out of the log. Answers whether one that was under way went with it.
    pub(super) fn cut(&mut self, after: Zxid) -> bool {
        let before = self.seen.clone();
        self.seen.retain(|seen| seen.zxid() <= after);
        self.changed(&before)
    }

    /// What is under way is committed if its record is. Answers whether any was.
    pub(super) fn commit(&mut self, upto: Zxid) -> bool {
        let before = self.seen.len();
        while let Some(seen) = self.seen.first()
            && seen.zxid() <= upto
        {
            self.committed = self.seen.remove(0);
        }
        let is_new = self.seen.len() < before;
        if is_new {
            self.join();
        }
        is_new
    }

    /// Another server knows that this one is committed. Answers whether we did not.
    pub(super) fn adopt(&mut self, members: Members) -> bool {
        if members.version <= self.committed.version {
            return false;
        }
        self.seen.retain(|seen| seen.version > members.version);
        self.committed = members;
        self.join();
        true
    }

    fn changed(&mut self, before: &[Members]) -> bool {
        let versions = |seen: &[Members]| seen.iter().map(|seen| seen.version).collect::<Vec<_>>();
        let is_new = versions(before) != versions(&self.seen);
        if is_new {
            self.join();
        }
        is_new
    }

    fn join(&mut self) {
        self.joint = self.committed.clone();
        for seen in &self.seen {
            self.joint.quorum = Quorum::joint(self.joint.quorum.clone(), seen.quorum.clone());
            self.joint.observers.extend(&seen.observers);
        }
        let Members { quorum, observers, .. } = &mut self.joint;
        observers.retain(|peer| !quorum.is_voter(*peer));
    }
}

/// Whether this log holds the record that makes the configuration. The version of an epoch has none.
fn is_made_by(members: &Members, log: &LogShape) -> bool {
    members.zxid().counter() == 0 || log.holds(members.zxid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(version: i64, voters: &[u64], observers: &[u64]) -> Members {
        Members {
            quorum: Quorum::majority(voters.iter().copied().map(PeerId)),
            observers: observers.iter().copied().map(PeerId).collect(),
            text: format!("server.1=h:1:2:participant\nversion={version:x}").into(),
            version,
        }
    }

    #[test]
    fn what_is_logged_counts_together_with_what_is_committed_until_it_is_committed_itself() {
        let mut configs = Configs::new(members(1, &[1, 2, 3], &[4]), None);
        assert!(configs.log(members(5, &[1, 2, 4], &[3])));
        assert!(!configs.log(members(5, &[1, 2, 4], &[3])), "once");
        assert!(!configs.joint().quorum.is_quorum(&[1, 3].map(PeerId)));
        assert!(configs.joint().quorum.is_quorum(&[1, 2].map(PeerId)));
        assert!(!configs.observes(PeerId(3)) && !configs.observes(PeerId(4)), "both vote in one of the two");
        assert!(!configs.commit(Zxid(4)));
        assert!(configs.commit(Zxid(5)) && configs.seen().is_none());
        assert!(configs.observes(PeerId(3)) && !configs.joint().quorum.is_voter(PeerId(3)));
    }

    fn log(zxids: &[i64]) -> LogShape {
        let mut log = LogShape::new(Zxid::ZERO);
        zxids.iter().for_each(|zxid| log.push(Zxid(*zxid)));
        log
    }

    #[test]
    fn all_that_are_under_way_count_until_they_are_committed() {
        let mut configs = Configs::new(members(0, &[1], &[]), Some(members(3, &[2], &[])));
        assert!(configs.log(members(7, &[3], &[])));
        assert_eq!((configs.committed().version, configs.latest().version), (0, 7));
        assert_eq!(configs.joint().quorum.voters().count(), 3);
        assert!(configs.cut(Zxid(6)) && !configs.cut(Zxid(6)));
        assert_eq!((configs.committed().version, configs.latest().version), (0, 3));
        assert!(configs.log(members(8, &[3], &[])) && configs.commit(Zxid(7)));
        assert_eq!((configs.committed().version, configs.latest().version), (3, 8));
        assert!(configs.log(members(9, &[4], &[])) && configs.commit(Zxid(9)) && configs.seen().is_none());
        assert_eq!((configs.committed().version, configs.joint().quorum.voters().count()), (9, 1));
    }

    #[test]
    fn a_leader_decides_what_is_under_way() {
        let mut configs = Configs::new(members(2, &[1], &[]), Some(members(9, &[2], &[])));
        assert!(!configs.told(members(9, &[2], &[]), &log(&[])));
        assert!(configs.told(members(4, &[3], &[]), &log(&[])) && configs.latest().version == 4);
        assert!(configs.told(members(2, &[1], &[]), &log(&[])) && configs.seen().is_none());
        assert!(!configs.told(members(1, &[1], &[]), &log(&[])));
    }

    #[test]
    fn what_the_log_makes_counts_beside_what_a_leader_is_about_to_make() {
        let begun = Configs::new(members(2, &[1], &[]), Some(members(4, &[2], &[])));
        let mut configs = begun.clone();
        assert!(configs.told(members(6, &[3], &[]), &log(&[3, 4, 5])));
        assert!(configs.commit(Zxid(5)));
        assert_eq!((configs.committed().version, configs.latest().version), (4, 6));
        let mut configs = begun.clone();
        assert!(configs.told(members(6, &[3], &[]), &log(&[3])), "the first never became anything");
        assert!(!configs.commit(Zxid(5)));
        assert_eq!((configs.committed().version, configs.latest().version), (2, 6));
        let mut configs = begun.clone();
        assert!(!configs.told(members(3, &[5], &[]), &log(&[4])), "a later one is in the log");
        assert_eq!(configs.latest().version, 4);
        let mut configs = begun.clone();
        assert!(configs.prove(&log(&[3])) && configs.seen().is_none());
        let mut configs = begun;
        assert!(!configs.prove(&log(&[3, 4])) && configs.seen().is_some());
    }

    #[test]
    fn members_without_a_version_get_that_of_the_epoch() {
        let mut configs = Configs::new(members(0, &[1], &[]), None);
        assert!(configs.establish(1));
        assert_eq!(configs.latest().text, "server.1=h:1:2:participant\nversion=100000000");
        assert!(!configs.establish(2) && configs.commit(Zxid::new(1, 0)) && !configs.establish(2));
    }

    #[test]
    fn what_another_knows_to_be_committed_replaces_what_is_older() {
        let mut configs = Configs::new(members(2, &[1], &[]), Some(members(5, &[2], &[])));
        assert!(!configs.adopt(members(2, &[9], &[])));
        assert!(configs.adopt(members(4, &[3], &[])) && configs.latest().version == 5);
        assert!(configs.adopt(members(5, &[2], &[])) && configs.seen().is_none());
    }
}
