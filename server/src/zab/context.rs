//! The roles, what they work with, and what they answer: the log, the configurations, and the line of what agreement asks
//! for.

use bytes::Bytes;
use docent::Zxid;

use super::ledger::Ledger;
use super::members::Configs;
use super::{Leading, Learning, LinkId, Members, Message, Output, PeerId, Reading};
use crate::limits::Sizes;

/// What a server is to its ensemble.
#[derive(Clone, Debug)]
pub enum Role {
    /// Without a leader.
    Looking,
    /// The leader, or about to become it.
    Leading(Box<Leading>),
    /// A follower or observer, or about to become one.
    Learning(Box<Learning>),
}

/// What agreement has to know. Times are in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaConfig {
    /// This server.
    pub me: PeerId,
    /// `tickTime`.
    pub tick_ms: i64,
    /// How long finding an epoch, and being brought level, may take.
    pub init_limit_ms: i64,
    /// How long a peer may be silent.
    pub sync_limit_ms: i64,
    /// How long a leader of ours may be silent to a learner of ours.
    pub silence_ms: i64,
    /// What chance is made of.
    pub seed: u64,
    /// How new configurations are found; `None` where the ensemble cannot be changed while it runs.
    pub reading: Option<Reading>,
    /// What decides how a learner is brought level.
    pub sizes: Sizes,
}

/// Whether a role goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// It does.
    Stay,
    /// It ends, for this reason: a new election.
    Resign(&'static str),
    /// It ends with a configuration that gives this server another one: this one leads, without an election.
    HandOver(PeerId),
}

/// What a role works with.
pub(super) struct Context<'a> {
    pub(super) now_ms: i64,
    pub(super) config: &'a ReplicaConfig,
    pub(super) configs: &'a mut Configs,
    pub(super) ledger: &'a mut Ledger,
    /// The highest promise of anybody that we ever heard of.
    pub(super) seen_epoch: &'a mut u32,
    pub(super) out: &'a mut Vec<Output>,
}

impl Context<'_> {
    pub(super) fn send(&mut self, link: LinkId, message: Message) {
        self.out.push(Output::Send { link, message });
    }

    pub(super) fn dial(&mut self, peer: PeerId) {
        self.out.push(Output::Dial { peer, hearsay: self.configs.hearsay_of(peer) });
    }

    /// Everything up to here is committed.
    pub(super) fn commit(&mut self, upto: Zxid) {
        self.ledger.release(upto);
        self.out.push(Output::Commit(upto));
    }

    /// What decides now.
    pub(super) fn members(&self) -> &Members {
        self.configs.joint()
    }

    /// Puts a record at the end of the log. A configuration counts from here on, and is written down before the record
    /// is.
    pub(super) fn append(&mut self, zxid: Zxid, payload: Bytes) {
        let made = self.config.reading.and_then(|reading| (reading.of_record)(&payload));
        if let Some(members) = made
            && members.zxid() == zxid
            && self.configs.log(members)
        {
            tracing::info!(%zxid, "a new configuration is under way");
            self.out.push(Output::Members);
        }
        self.ledger.append(zxid, payload, self.out);
    }

    /// Cuts the log behind a record.
    pub(super) fn truncate(&mut self, after: Zxid) {
        self.ledger.truncate(after, self.out);
        if self.configs.cut(after) {
            self.out.push(Output::Members);
        }
    }

    /// Everything up to here is committed, and with it a configuration, if one is among it. Answers whether one was.
    pub(super) fn activate(&mut self, upto: Zxid) -> bool {
        let is_new = self.configs.commit(upto);
        if is_new {
            let members = self.configs.committed();
            tracing::info!(version = %members.zxid(), "a new configuration counts");
            self.out.push(Output::Members);
        }
        is_new
    }
}
