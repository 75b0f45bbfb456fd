//! What the loop holds of the ensemble: the two ports, the links, and the log for those who are behind.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use docent::Zxid;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::ensemble::reach;
use super::facts::Facts;
use super::log_source::LogSource;
use super::members_file::MembersFile;
use crate::config::Dynamic;
use crate::net::{Elections, PeerInput, PeerLinks, QuorumPort, Roster};
use crate::node::Event;
use crate::storage::Errand;
use crate::zab::{LinkId, Members, PeerId};

/// The other servers, as the loop sees them.
pub(super) struct Peers {
    pub(super) elections: Elections,
    pub(super) port: QuorumPort,
    pub(super) roster: Roster,
    /// Where changes of the members are written down.
    pub(super) file: Option<MembersFile>,
    pub(super) facts: Facts,
    pub(super) links: PeerLinks,
    pub(super) durable: Durable,
    pub(super) log: Arc<LogSource>,
    pub(super) inputs: mpsc::Sender<PeerInput>,
    pub(super) tasks: TaskTracker,
}

impl Peers {
    /// Reads the log on a thread that may block, and hands the answer in.
    pub(super) fn read_log(&self, link: LinkId, after: Zxid, max_bytes: usize) {
        let (log, inputs, until) = (Arc::clone(&self.log), self.inputs.clone(), self.durable.zxid);
        self.tasks.spawn_blocking(move || {
            let records = log.read(link, after, until, max_bytes);
            // When the loop is gone nobody waits for the answer.
            let _ = inputs.blocking_send(PeerInput::Event(Event::LogRead { link, after, records }));
        });
    }

    /// Opens a quorum link to a member, or to whom this text of a configuration names.
    pub(super) fn dial(&self, peer: PeerId, hearsay: Option<&Bytes>) {
        // What cannot be read names nobody, and then nobody is reached.
        let named =
            hearsay.and_then(|text| Dynamic::parse(text).unwrap_or_default().addresses().remove(&peer));
        self.port.dial(peer, named);
    }

    /// Reaches everybody whom the two configurations name. Answers what is to be done on the disk.
    pub(super) fn reach(&mut self, committed: &Members, under_way: Option<&Members>) -> Option<Errand> {
        reach(&mut self.roster, committed, under_way);
        self.elections.reach(&self.roster);
        self.port.reach(self.roster.clone());
        self.facts.set_members(&committed.text);
        self.file.as_mut().map(|file| file.write(committed, under_way))
    }

    /// A link is gone.
    pub(super) fn lost(&mut self, link: LinkId) {
        self.links.remove(link);
        self.log.forget(link);
    }
}

/// Up to where the log is durable, and may be read while it is written.
#[derive(Debug)]
pub(super) struct Durable {
    zxid: Zxid,
    /// Orders that are not reported yet, each with the end of the log behind it.
    ends: VecDeque<(u64, Zxid)>,
    last: Zxid,
}

impl Durable {
    pub(super) fn new(last: Zxid) -> Self {
        Durable { zxid: last, ends: VecDeque::new(), last }
    }

    /// A record was ordered.
    pub(super) fn append(&mut self, order: u64, zxid: Zxid) {
        self.last = zxid;
        self.ends.push_back((order, zxid));
    }

    /// A cut was ordered.
    pub(super) fn truncate(&mut self, order: u64, after: Zxid) {
        self.last = self.last.min(after);
        // What is cut away must not be read from now on, reported or not.
        self.zxid = self.zxid.min(after);
        for (_, end) in &mut self.ends {
            *end = (*end).min(after);
        }
        self.ends.push_back((order, self.last));
    }

    /// The log goes on behind a state that was received.
    pub(super) fn jump(&mut self, zxid: Zxid) {
        self.last = self.last.max(zxid);
        self.zxid = self.zxid.max(zxid);
    }

    /// Everything up to this order is durable.
    pub(super) fn synced(&mut self, order: u64) {
        while let Some((_, end)) = self.ends.pop_front_if(|(pending, _)| *pending <= order) {
            self.zxid = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_reported_is_read_and_never_what_is_cut_away() {
        let mut durable = Durable::new(Zxid(5));
        durable.append(1, Zxid(6));
        durable.append(2, Zxid(7));
        assert_eq!(durable.zxid, Zxid(5));
        durable.synced(1);
        assert_eq!(durable.zxid, Zxid(6));
        durable.truncate(3, Zxid(5));
        assert_eq!(durable.zxid, Zxid(5));
        durable.synced(2);
        assert_eq!(durable.zxid, Zxid(5));
        durable.append(4, Zxid(8));
        durable.synced(4);
        assert_eq!(durable.zxid, Zxid(8));
        durable.jump(Zxid(20));
        assert_eq!((durable.zxid, durable.last), (Zxid(20), Zxid(20)));
    }
}
