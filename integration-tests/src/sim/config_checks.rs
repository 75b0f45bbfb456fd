//! The checks of changing members: which configuration counts is decided as everything else is, once and for ever, and every
//! server and client is told the same.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use docent::proto::{ReplyHeader, Response};
use docent::{ErrorCode, Stat, Zxid};
use docent_server::node::Node;
use docent_server::node::txn::{LoggedTxn, Txn};
use docent_server::zab::{Members, PeerId};

use super::checks::{Checked, Checks, Violation, ensure};
use super::members::{Roll, Wish};

/// The node that shows the configuration.
pub(super) const CONFIG: &str = "/zookeeper/config";

/// The text of the configuration that a transaction makes, if it makes one.
pub(super) fn made_by(logged: &LoggedTxn) -> Option<&Bytes> {
    match &logged.txn {
        Txn::SetData { reconfig: true, data, .. } => data.as_ref(),
        _ => None,
    }
}

impl Checks {
    /// **A change is committed by the majority of the old members and of the new ones.** The old one was asked already.
    pub(super) fn members_change(&mut self, zxid: Zxid, text: &Bytes, holders: &BTreeSet<PeerId>) -> Checked {
        let roll = Roll::parse(text).filter(|roll| roll.version == zxid.0);
        let roll = roll.ok_or_else(|| {
            Violation::new("a configuration has its record's version", format!("{text:?} stands at {zxid}"))
        })?;
        ensure(roll.is_majority(holders), "a change has a majority of the new members", || {
            format!("{zxid} makes {:?} and is durable on {holders:?}", roll.members)
        })?;
        self.rolls.commit(roll);
        Ok(())
    }

    /// **A server that starts knows every configuration in its log**, committed or not.
    pub(super) fn begins_with(&self, peer: PeerId, records: &BTreeMap<Zxid, Bytes>, node: &Node) -> Checked {
        let replica = node.replica();
        let known = replica.members_under_way().unwrap_or(replica.members()).version;
        let logged = records.iter().rev().find(|(_, payload)| {
            LoggedTxn::decode(Bytes::clone(payload)).is_ok_and(|logged| made_by(&logged).is_some())
        });
        let last = logged.map_or(0, |(zxid, _)| zxid.0);
        ensure(known >= last, "a server that starts knows every configuration in its log", || {
            let shown = node.tree().node(CONFIG).and_then(|node| node.data()).map(Bytes::copy_from_slice);
            format!(
                "server {} knows {} and has logged {}; it shows {shown:?}",
                peer.0,
                Zxid(known),
                Zxid(last)
            )
        })
    }

    /// **Only what is committed counts, and its version only rises.**
    pub(super) fn members_count(
        &mut self,
        peer: PeerId,
        committed: &Members,
        under_way: Option<&Members>,
    ) -> Checked {
        let before = self.counting.insert(peer, committed.version).unwrap_or(0);
        ensure(before <= committed.version, "the version of what counts only rises", || {
            format!("server {} went from {} to {}", peer.0, Zxid(before), committed.zxid())
        })?;
        ensure(
            under_way.is_none_or(|next| next.version > committed.version),
            "what is under way is later than what counts",
            || format!("server {}: {under_way:?} under way after {}", peer.0, committed.zxid()),
        )?;
        self.is_committed(peer, committed)
    }

    /// A server has begun: what it counts by may be older than what it counted by before, if its files are.
    pub(super) fn counts_anew(&mut self, peer: PeerId, committed: &Members) -> Checked {
        self.counting.insert(peer, committed.version);
        self.is_committed(peer, committed)
    }

    fn is_committed(&mut self, peer: PeerId, committed: &Members) -> Checked {
        if committed.version == 0 {
            // The list that somebody wrote for it.
            return Ok(());
        }
        let roll = Roll::parse(&committed.text);
        let known = match (&roll, self.rolls.of_version(committed.version)) {
            (Some(roll), Some(known)) => known == roll,
            (Some(roll), None) => self.rolls.establish(roll),
            (None, _) => false,
        };
        ensure(known, "only a configuration that is committed counts", || {
            format!("server {} goes by {:?}, the last is {:?}", peer.0, committed.text, self.rolls.last())
        })
    }

    /// **Servers at the same transaction have the same members**, and show them.
    pub(super) fn members_agree(&mut self, peer: PeerId, node: &Node) -> Checked {
        let (members, zxid) = (node.replica().members(), node.tree().last_zxid());
        if self.rolls.of_version(members.version).is_none() {
            self.is_committed(peer, members)?;
        }
        let shown = node.tree().node(CONFIG).and_then(|node| node.data().map(Bytes::copy_from_slice));
        ensure(self.counts_at(members.version, zxid), "equal zxid, equal members", || {
            let expected = Zxid(self.rolls.at(zxid).version);
            format!("server {} has {} at {zxid} instead of {expected}", peer.0, members.zxid())
        })?;
        ensure(shown.as_ref() == Some(&members.text), "the members that count are shown", || {
            format!("server {} shows {shown:?} and goes by {:?}", peer.0, members.text)
        })
    }

    /// Whether this version counts right after a transaction. The version of an epoch has no transaction: it may be there
    /// before the first one of its epoch.
    fn counts_at(&self, version: i64, zxid: Zxid) -> bool {
        match self.rolls.at(zxid).version {
            0 => version == 0 || Zxid(version).counter() == 0 && self.rolls.of_version(version).is_some(),
            counts if Zxid(counts).counter() == 0 => {
                Zxid(version).counter() == 0
                    && self.rolls.of_version(version).is_some_and(|roll| roll.version != 0)
            }
            counts => version == counts,
        }
    }

    /// **Who reads the configuration reads the one that counts.**
    pub(super) fn config_read(&self, header: ReplyHeader, data: Option<&Bytes>, stat: &Stat) -> bool {
        let Some(roll) = data.and_then(Roll::parse) else { return false };
        let known = self.rolls.of_version(roll.version).is_some_and(|known| *known == roll);
        self.counts_at(roll.version, header.zxid)
            && (roll.version == 0 || known && stat.mzxid.0 == roll.version)
    }

    /// **A change that is acknowledged is the one that was asked for; one that must be refused is refused**, for a reason
    /// that holds.
    pub(super) fn wish_answered(
        &self,
        wish: &Wish,
        header: ReplyHeader,
        response: Option<&Response>,
    ) -> Checked {
        let before = self.rolls.before(header.zxid);
        let current = wish.from == -1 || wish.from == before.version;
        let made = wish.change(before, self.rolls.voters_min);
        let holds = match header.error {
            ErrorCode::OK => {
                let roll = self.rolls.of_version(header.zxid.0);
                let shown = match response {
                    Some(Response::Data { data, .. }) => data.as_ref(),
                    _ => None,
                };
                current
                    && roll
                        .is_some_and(|roll| Some(&roll.members) == made.as_ref() && Some(&roll.text) == shown)
            }
            ErrorCode::BAD_VERSION => !current,
            ErrorCode::BAD_ARGUMENTS => current && made.is_none(),
            ErrorCode::NEW_CONFIG_NO_QUORUM => current && made.is_some(),
            ErrorCode::RECONFIG_IN_PROGRESS | ErrorCode::SESSION_EXPIRED | ErrorCode::SESSION_MOVED => true,
            _ => false,
        };
        ensure(holds, "a change is made as it was asked for, or refused for a reason", || {
            format!("{wish:?} was answered {header:?} {response:?} after {before:?}")
        })
    }
}
