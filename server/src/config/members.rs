//! Who belongs to the ensemble: `server.N`, `group.N` and `weight.N`, as they stand in `zoo.cfg`, in the dynamic
//! file and in `/zookeeper/config`.
//!
//! A member is read from both forms, the old `host:quorumPort:electionPort` and the new one with a role and client
//! addresses behind `;`. It is written in one form only, Apache's canonical one, because that text is compared and
//! stored. Names are kept as they are written; nothing is resolved here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// A server's number in its ensemble: the content of its `myid` file and the `N` of `server.N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u64);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a member does in its ensemble.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It votes.
    #[default]
    Participant,
    /// It learns what the others decide.
    Observer,
}

impl FromStr for Role {
    type Err = MemberError;

    fn from_str(text: &str) -> Result<Self, MemberError> {
        match text.to_ascii_lowercase().as_str() {
            "participant" => Ok(Role::Participant),
            "observer" => Ok(Role::Observer),
            _ => Err(MemberError::Role(text.to_owned())),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Participant => "participant",
            Role::Observer => "observer",
        })
    }
}

/// A name or address with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A host name, or an IP address; IPv6 without its brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Bracketed(&self.host), self.port)
    }
}

/// Where the other members reach one: the two ports always share a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// A host name, or an IP address; IPv6 without its brackets.
    pub host: String,
    /// The port on which a leader listens for its followers.
    pub quorum_port: u16,
    /// The port on which votes are exchanged.
    pub election_port: u16,
}

/// One member of the ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// At least one; several if the member has several networks.
    pub addresses: Vec<PeerAddress>,
    /// Whether it votes.
    pub role: Role,
    /// Where its clients connect, if the line says so.
    pub client: Option<HostPort>,
    /// Where its clients connect with TLS, if the line says so.
    pub secure_client: Option<HostPort>,
}

/// The static side of an ensemble. Empty for a standalone server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ensemble {
    /// Every member by its number.
    pub members: BTreeMap<ServerId, Member>,
    /// The groups of a hierarchical quorum; empty where a simple majority decides.
    pub groups: BTreeMap<u64, BTreeSet<ServerId>>,
    /// The votes of a member within its group; 1 for members that are not listed.
    pub weights: BTreeMap<ServerId, u64>,
    /// The role of this server where no `server.N` line tells it.
    pub peer_type: Role,
    /// Whether a single voter runs without an ensemble's ports and elections.
    pub standalone_enabled: bool,
    /// The file that holds the members instead of `zoo.cfg`.
    pub dynamic_config_file: Option<PathBuf>,
    /// `quorumListenOnAllIPs`: whether the ports for other servers listen on every address of the machine instead of the
    /// one that this server's line names.
    pub listen_on_all: bool,
    /// `electionPortBindRetry`: attempts to bind the ports for other servers, a second apart; 0 is without end.
    pub bind_attempts: u32,
    /// `leaderServes`: whether a leader takes clients.
    pub leader_serves: bool,
    /// `reconfigEnabled`: whether clients may change the members.
    pub reconfig_enabled: bool,
    /// The `zoo.cfg` that this was read from: changes of the members are written down beside it.
    pub zoo_cfg: Option<PathBuf>,
    /// The version of the members, which stands behind the last dot of the dynamic file's name; 0 for members of
    /// `zoo.cfg`, and for a file without one.
    pub version: i64,
}

impl Default for Ensemble {
    fn default() -> Self {
        Ensemble {
            members: BTreeMap::new(),
            groups: BTreeMap::new(),
            weights: BTreeMap::new(),
            peer_type: Role::Participant,
            standalone_enabled: true,
            dynamic_config_file: None,
            listen_on_all: false,
            bind_attempts: 3,
            leader_serves: true,
            reconfig_enabled: false,
            zoo_cfg: None,
            version: 0,
        }
    }
}

impl Ensemble {
    /// How many members vote.
    #[must_use]
    pub fn voters(&self) -> usize {
        self.members.values().filter(|member| member.role == Role::Participant).count()
    }

    /// Whether this is more than a standalone server, by Apache's rule.
    #[must_use]
    pub fn is_distributed(&self) -> bool {
        self.voters() > 1 || !self.standalone_enabled
    }
}

/// Why a `server.N`, `group.N` or `weight.N` line is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MemberError {
    /// The value has another shape.
    #[error(
        "it does not have the form host:quorumPort:electionPort[:participant|:observer][;[clientHost:]clientPort], \
         with several addresses joined by |"
    )]
    Shape,
    /// A port that is no port.
    #[error("{0:?} is not a port: write a number from 1 to 65535")]
    Port(String),
    /// The two ports of a member are the same.
    #[error("quorum port and election port are both {0}: give each its own")]
    SamePort(u16),
    /// A role that does not exist.
    #[error("{0:?} is not a role: write participant or observer")]
    Role(String),
    /// A number of a server or group that is no number.
    #[error("{0:?} is not a number: write one from 0 to 9223372036854775807")]
    Number(String),
}

/// A number as it stands behind `server.`, and in `group.N` values.
pub(super) fn number(text: &str) -> Result<u64, MemberError> {
    let value = text.trim().parse::<i64>().ok().and_then(|value| u64::try_from(value).ok());
    value.ok_or_else(|| MemberError::Number(text.to_owned()))
}

/// The members of a group: numbers between colons.
pub(super) fn group(text: &str) -> Result<BTreeSet<ServerId>, MemberError> {
    text.split(':').map(|id| number(id).map(ServerId)).collect()
}

impl FromStr for Member {
    type Err = MemberError;

    fn from_str(text: &str) -> Result<Self, MemberError> {
        let mut parts = text.split(';').map(str::trim);
        let peers = parts.next().unwrap_or_default();
        let client = parts.next().filter(|part| !part.is_empty()).map(client_address).transpose()?;
        let secure_client = parts.next().map(client_address).transpose()?;
        if parts.next().is_some() {
            return Err(MemberError::Shape);
        }
        let mut role = Role::Participant;
        let mut addresses = Vec::new();
        for peer in peers.split('|') {
            let (address, named) = peer_address(peer.trim())?;
            addresses.push(address);
            if let Some(named) = named {
                role = named;
            }
        }
        Ok(Member { addresses, role, client, secure_client })
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, address) in self.addresses.iter().enumerate() {
            let bar = if at == 0 { "" } else { "|" };
            let host = Bracketed(&address.host);
            write!(f, "{bar}{host}:{}:{}", address.quorum_port, address.election_port)?;
        }
        write!(f, ":{}", self.role)?;
        match (&self.client, &self.secure_client) {
            (None, None) => Ok(()),
            (Some(client), None) => write!(f, ";{client}"),
            (None, Some(secure)) => write!(f, ";;{secure}"),
            (Some(client), Some(secure)) => write!(f, ";{client};{secure}"),
        }
    }
}

/// An IPv6 address in brackets, everything else as it is.
struct Bracketed<'a>(&'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]", self.0) } else { f.write_str(self.0) }
    }
}

fn peer_address(text: &str) -> Result<(PeerAddress, Option<Role>), MemberError> {
    let (host, rest) = split_host(text)?;
    let mut parts = rest.split(':').map(str::trim);
    let (Some(quorum), Some(election)) = (parts.next(), parts.next()) else { return Err(MemberError::Shape) };
    let role = parts.next().map(str::parse).transpose()?;
    if parts.next().is_some() {
        return Err(MemberError::Shape);
    }
    let (quorum_port, election_port) = (port(quorum)?, port(election)?);
    if quorum_port == election_port {
        return Err(MemberError::SamePort(quorum_port));
    }
    Ok((PeerAddress { host: host.to_owned(), quorum_port, election_port }, role))
}

/// `port` or `host:port`; without a host every address of the machine is meant.
fn client_address(text: &str) -> Result<HostPort, MemberError> {
    if !text.contains(':') {
        return Ok(HostPort { host: "0.0.0.0".to_owned(), port: port(text)? });
    }
    let (host, rest) = split_host(text)?;
    Ok(HostPort { host: host.to_owned(), port: port(rest)? })
}

/// Splits `host:rest` and `[v6]:rest`.
fn split_host(text: &str) -> Result<(&str, &str), MemberError> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once("]:").ok_or(MemberError::Shape)?,
        None => text.split_once(':').ok_or(MemberError::Shape)?,
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || matches!(c, '[' | ']')) {
        return Err(MemberError::Shape);
    }
    Ok((host, rest))
}

fn port(text: &str) -> Result<u16, MemberError> {
    text.trim().parse().ok().filter(|port| *port != 0).ok_or_else(|| MemberError::Port(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> String {
        text.parse::<Member>().expect("the sample is a member").to_string()
    }

    #[test]
    fn both_forms_give_the_canonical_one() {
        for (given, expected) in [
            ("h:2888:3888", "h:2888:3888:participant"),
            ("127.0.0.1:38711:38721;21815", "127.0.0.1:38711:38721:participant;0.0.0.0:21815"),
            ("h:1:2:Observer;c:3", "h:1:2:observer;c:3"),
            ("h:1:2:participant;3;4", "h:1:2:participant;0.0.0.0:3;0.0.0.0:4"),
            ("h:1:2;;4", "h:1:2:participant;;0.0.0.0:4"),
            ("[::1]:1:2;[fe80::1]:3", "[::1]:1:2:participant;[fe80::1]:3"),
            ("a:1:2|b:3:4;5", "a:1:2|b:3:4:participant;0.0.0.0:5"),
            (" h:1:2 ; 3 ", "h:1:2:participant;0.0.0.0:3"),
            // A lone `;` names no client port, as if it were not there.
            ("h:1:2;", "h:1:2:participant"),
        ] {
            assert_eq!(canonical(given), expected, "{given}");
            assert_eq!(canonical(expected), expected);
        }
    }

    #[test]
    fn other_shapes_are_refused_with_the_reason() {
        for (given, error) in [
            ("", MemberError::Shape),
            ("h", MemberError::Shape),
            ("h:1", MemberError::Shape),
            ("h:1:2:observer:x", MemberError::Shape),
            ("h:1:2;3;4;5", MemberError::Shape),
            (":1:2", MemberError::Shape),
            ("h:1:1", MemberError::SamePort(1)),
            ("h:0:1", MemberError::Port("0".into())),
            ("h:1:65536", MemberError::Port("65536".into())),
            ("h:1:2:leader", MemberError::Role("leader".into())),
        ] {
            assert_eq!(given.parse::<Member>(), Err(error), "{given}");
        }
    }

    #[test]
    fn groups_are_numbers_between_colons() {
        assert_eq!(group("1:2:3"), Ok([1, 2, 3].map(ServerId).into()));
        assert_eq!(group("1::2"), Err(MemberError::Number(String::new())));
        assert_eq!(number("-1"), Err(MemberError::Number("-1".into())));
    }

    #[test]
    fn one_voter_is_standalone_unless_that_is_switched_off() {
        let mut ensemble = Ensemble::default();
        assert!(!ensemble.is_distributed());
        ensemble.members.insert(ServerId(1), "h:1:2".parse().expect("a member"));
        assert!(!ensemble.is_distributed());
        ensemble.standalone_enabled = false;
        assert!(ensemble.is_distributed());
        ensemble.standalone_enabled = true;
        ensemble.members.insert(ServerId(2), "i:1:2".parse().expect("a member"));
        assert!(ensemble.is_distributed());
    }

    proptest! {
        #[test]
        fn a_member_is_read_back_or_refused(text in "[a-z0-9:;|\\[\\] .]{0,40}|\\PC{0,30}") {
            if let Ok(member) = text.parse::<Member>() {
                prop_assert_eq!(member.to_string().parse::<Member>(), Ok(member));
            }
        }
    }
}
