//! What the shell does around a node when the members change: the files that tell them after a restart, and whom a server
//! calls.
//!
//! A server calls whoever its configurations name, and is called by whoever has it in theirs. One that is started anew and
//! is not named by its own files does not start in life either, before somebody has written a list for it; here that is
//! done at once, with those who count and the server itself.

use std::collections::BTreeSet;

use docent_server::node::EnsembleConfig;
use docent_server::zab::{Members, PeerId, Quorum};

use super::checks::Violation;
use super::disk::Job;
use super::members::{Roll, line};
use super::network::Life;
use super::plan::{Fault, Plan};
use super::world::{Done, Happening, World};

/// Everybody but `me` whom these name.
fn named(me: PeerId, committed: &Members, under_way: Option<&Members>) -> BTreeSet<PeerId> {
    std::iter::once(committed).chain(under_way).flat_map(|members| members.others(me)).collect()
}

/// The `zoo.cfg` of a server that has never heard of the ensemble: these members, and itself.
pub(super) fn zoo_cfg(me: PeerId, roll: &Roll) -> String {
    let mut members = roll.members.clone();
    members.entry(me).or_insert(true);
    let lines: Vec<String> = members.iter().map(|(peer, votes)| line(*peer, *votes)).collect();
    let head = "dataDir=/data\ntickTime=100\ninitLimit=10\nsyncLimit=5\nstandaloneEnabled=false\nreconfigEnabled=true\n";
    format!("{head}{}\n", lines.join("\n"))
}

impl Plan {
    /// Who belongs to the ensemble at first, and whether each of them votes.
    pub(super) fn first_members(&self) -> Roll {
        let number = if self.servers == 1 { 0..1 } else { 1..self.servers + self.observers + 1 };
        Roll::first(number.map(|n| (PeerId(n), n <= self.servers)).collect())
    }

    /// What a server knows that takes part in agreement.
    fn ensemble(&self, members: Members, under_way: Option<Members>) -> EnsembleConfig {
        EnsembleConfig {
            members,
            under_way,
            voters_min: self.voters_min,
            init_limit_ms: self.init_limit_ms,
            sync_limit_ms: self.sync_limit_ms,
            silence_ms: self.silence_ms,
            leader_serves: true,
            leaderless_grace_ms: self.tick_ms,
            read_only_after_ms: None,
        }
    }
}

impl World {
    /// Whether the members may change in this run.
    pub(super) fn changes(&self) -> bool {
        self.plan.has(Fault::Reconfig)
    }

    /// What a server that starts knows of the ensemble.
    pub(super) fn membership(&mut self, peer: PeerId) -> Result<Option<EnsembleConfig>, Violation> {
        if self.plan.servers == 1 {
            return Ok(None);
        }
        if !self.changes() {
            let first = self.plan.first_members();
            let members = Members {
                quorum: Quorum::majority(first.voters()),
                observers: first.members.keys().copied().filter(|peer| !first.votes(*peer)).collect(),
                text: bytes::Bytes::new(),
                version: 0,
            };
            return Ok(Some(self.plan.ensemble(members, None)));
        }
        let plan = self.plan.clone();
        let last = self.checks.rolls.last().clone();
        let Some(server) = self.servers.get_mut(&peer) else { return Ok(None) };
        let unreadable =
            |text| Violation::new("the members' files can be read", format!("server {}: {text}", peer.0));
        let mut found = server.disk.members(peer).map_err(unreadable)?;
        if !found.as_ref().is_some_and(|(members, _)| members.contains(peer)) {
            server.disk.put_zoo_cfg(&zoo_cfg(peer, &last));
            found = server.disk.members(peer).map_err(unreadable)?;
        }
        let (members, under_way) = found.ok_or_else(|| unreadable("there is no zoo.cfg".to_owned()))?;
        server.roster = named(peer, &members, under_way.as_ref());
        Ok(Some(plan.ensemble(members, under_way)))
    }

    /// Another configuration counts for a server, or is under way.
    pub(super) fn on_members(
        &mut self,
        life: Life,
        committed: &Members,
        under_way: Option<&Members>,
    ) -> Done {
        if !self.changes() {
            return Ok(());
        }
        self.checks.members_count(life.peer, committed, under_way)?;
        let Some(server) = self.living(life) else { return Ok(()) };
        let before = std::mem::replace(&mut server.roster, named(life.peer, committed, under_way));
        let now = server.roster.clone();
        let errand = server.disk.write_members(committed, under_way);
        if let Some(errand) = errand {
            self.order(life, Job::Errand(errand));
        }
        for gone in before.difference(&now) {
            self.net.channels.remove(&(life.peer, *gone));
            self.part(life.peer, *gone);
        }
        for new in now.difference(&before) {
            let delay = self.pace.i64(100..5_000);
            self.at(delay, Happening::Meet(life.peer, *new));
        }
        Ok(())
    }

    /// Whether one of the two calls the other.
    pub(super) fn calls(&self, from: PeerId, to: PeerId) -> bool {
        !self.changes() || self.servers.get(&from).is_some_and(|server| server.roster.contains(&to))
    }

    /// Who votes in each configuration that somebody goes by, or will when it starts.
    pub(super) fn voters_of_anybody(&mut self) -> Vec<BTreeSet<PeerId>> {
        let mut voters = vec![self.checks.rolls.last().voters().collect()];
        if !self.changes() {
            return voters;
        }
        for (peer, server) in &mut self.servers {
            let known = match &server.node {
                Some(node) => {
                    Some((node.replica().members().clone(), node.replica().members_under_way().cloned()))
                }
                // Files that cannot be read are found when it starts.
                None => server.disk.members(*peer).ok().flatten(),
            };
            let (members, under_way) = known.unzip();
            let both = members.into_iter().chain(under_way.flatten());
            voters.extend(both.map(|members| members.quorum.voters().collect()));
        }
        voters
    }
}
