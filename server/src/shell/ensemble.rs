//! From the configuration to what an ensemble's member has to know.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::members_file::MembersFile;
use super::start::StartError;
use crate::config::{Config, Dynamic, DynamicError, PeerAddress, ServerId};
use crate::net::Roster;
use crate::node::EnsembleConfig;
use crate::node::four_letter::facts::EnsembleConf;
use crate::storage::RealDisk;
use crate::zab::{Members, PeerId};

/// Milliseconds without a leader after which clients are sent away to find another server: far longer than an election,
/// far shorter than a session.
const LEADERLESS_GRACE_MS: i64 = 1_000;

/// A member looks for a leader for so long, and at least for a tick, before it serves reads without one: as Apache's.
const READ_ONLY_AFTER_MS: i64 = 2_000;

/// An ensemble's member as the shell sees it.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    pub(super) roster: Roster,
    pub(super) node: EnsembleConfig,
    /// Attempts to bind the ports for other servers; 0 is without end.
    pub(super) bind_attempts: u32,
    /// For the four-letter word `conf`.
    pub(super) conf: EnsembleConf,
    /// Where changes of the members are written down; `None` where they never change, and where there is no `zoo.cfg`.
    pub(super) file: Option<MembersFile>,
}

impl Membership {
    /// What the configuration says, for the member `me`; `None` for a standalone server.
    pub(crate) fn of(config: &Config, me: Option<ServerId>) -> Result<Option<Self>, StartError> {
        let ensemble = &config.ensemble;
        let Some(me) = me.filter(|_| ensemble.is_distributed()) else { return Ok(None) };
        let dynamic = Dynamic::of(ensemble);
        let members = dynamic.to_members().map_err(refused)?;
        let peer = PeerId(me.0);
        let zoo_cfg = ensemble.zoo_cfg.as_ref().filter(|_| ensemble.reconfig_enabled);
        let file =
            zoo_cfg.map(|zoo_cfg| MembersFile::new(Arc::new(RealDisk), zoo_cfg, peer, members.version));
        let under_way = file.as_ref().and_then(MembersFile::read_next);
        let mut roster = Roster {
            me: peer,
            members: dynamic.addresses(),
            listen_on_all: ensemble.listen_on_all,
            open: ensemble.reconfig_enabled,
        };
        let own = roster.members.get(&peer).and_then(|addresses| addresses.first());
        let (init_limit, sync_limit) =
            (config.timing.init_limit.unwrap_or(0), config.timing.sync_limit.unwrap_or(0));
        let conf = EnsembleConf {
            init_limit,
            sync_limit,
            election_port: own.map_or(0, |own| own.election_port),
            quorum_port: own.map_or(0, |own| own.quorum_port),
            observer: members.observers.contains(&peer),
            membership: String::from_utf8_lossy(&members.text).into_owned(),
        };
        let tick_ms = i64::from(config.timing.tick_ms);
        reach(&mut roster, &members, under_way.as_ref());
        Ok(Some(Membership {
            roster,
            file,
            node: EnsembleConfig {
                members,
                under_way,
                voters_min: if ensemble.standalone_enabled { 2 } else { 1 },
                init_limit_ms: i64::from(init_limit) * tick_ms,
                sync_limit_ms: i64::from(sync_limit) * tick_ms,
                silence_ms: i64::from(config.timing.leader_silence_ms),
                leader_serves: ensemble.leader_serves,
                leaderless_grace_ms: LEADERLESS_GRACE_MS,
                read_only_after_ms: config.sessions.read_only_mode.then(|| tick_ms.max(READ_ONLY_AFTER_MS)),
            },
            bind_attempts: ensemble.bind_attempts,
            conf,
        }))
    }
}

/// Puts everybody whom the two configurations name into the roster, each at all addresses that they give.
pub(super) fn reach(roster: &mut Roster, committed: &Members, under_way: Option<&Members>) {
    let mut reached: BTreeMap<PeerId, Vec<PeerAddress>> = BTreeMap::new();
    for members in std::iter::once(committed).chain(under_way) {
        // What cannot be read names nobody; who wrote it has read it.
        for (peer, addresses) in Dynamic::parse(&members.text).unwrap_or_default().addresses() {
            let known = reached.entry(peer).or_default();
            known
                .extend(addresses.into_iter().filter(|address| !known.contains(address)).collect::<Vec<_>>());
        }
    }
    if reached.is_empty() {
        return;
    }
    // Our own ports are bound where we began.
    let own = roster.members.remove(&roster.me);
    roster.members = reached;
    if let Some(own) = own {
        roster.members.insert(roster.me, own);
    }
}

/// Why the members of a configuration make no ensemble.
fn refused(error: DynamicError) -> StartError {
    match error {
        DynamicError::NotGrouped(server) => StartError::NotGrouped { server: server.0 },
        DynamicError::Quorum(error) => StartError::Quorum(error),
        DynamicError::TooLong { bytes } => StartError::MembersTooLong { bytes },
        other => StartError::Members(other),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn config(lines: &str) -> Config {
        let text = format!("dataDir=/d\nclientPort=1\ninitLimit=10\nsyncLimit=5\ntickTime=2000\n{lines}");
        Config::parse(text.as_bytes()).unwrap().0
    }

    #[test]
    fn the_text_is_the_one_that_apache_sends_for_this_file() {
        let lines = "server.1=127.0.0.1:28201:38201\nserver.2=127.0.0.1:28202:38202\n\
                     server.3=127.0.0.1:28203:38203:participant\nserver.4=127.0.0.1:28204:38204:observer\n";
        let membership = Membership::of(&config(lines), Some(ServerId(4))).unwrap().unwrap();
        let expected = "server.1=127.0.0.1:28201:38201:participant\nserver.2=127.0.0.1:28202:38202:participant\n\
                        server.3=127.0.0.1:28203:38203:participant\nserver.4=127.0.0.1:28204:38204:observer\n\
                        version=0";
        assert_eq!(membership.node.members.text, expected);
        assert_eq!(membership.node.members.observers, BTreeSet::from([PeerId(4)]));
        assert_eq!((membership.node.init_limit_ms, membership.node.sync_limit_ms), (20_000, 10_000));
        assert_eq!((membership.conf.observer, membership.conf.quorum_port), (true, 28_204));
    }

    #[test]
    fn groups_must_hold_every_voter_once() {
        let servers: String = (1..=4).map(|n| format!("server.{n}=h:{n}1:{n}2\n")).collect();
        let of = |groups: &str| Membership::of(&config(&format!("{servers}{groups}")), Some(ServerId(1)));
        let quorum = of("group.1=1:2\ngroup.2=3:4\nweight.4=0\n").unwrap().unwrap().node.members.quorum;
        assert!(quorum.is_quorum(&[1, 2, 3].map(PeerId)) && !quorum.is_quorum(&[1, 2, 4].map(PeerId)));
        assert!(matches!(of("group.1=1:2\ngroup.2=3\n"), Err(StartError::NotGrouped { server: 4 })));
        assert!(matches!(of("group.1=1:2:3\ngroup.2=3:4\n"), Err(StartError::Quorum(_))));
    }

    #[test]
    fn a_single_voter_stays_alone() {
        let config = config("server.1=h:1:2\n");
        assert!(Membership::of(&config, Some(ServerId(1))).unwrap().is_none());
    }
}
