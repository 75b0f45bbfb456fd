//! The members as a text that servers tell each other, keep in `/zookeeper/config` and in the dynamic file: who they are,
//! and the version, the zxid that made them.
//!
//! The text comes from clients and from other servers, so it is read with suspicion and written anew from what was
//! understood: nothing that somebody wrote into a host name can become a line of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use docent::Zxid;
use docent::proto::ReconfigRequest;
use thiserror::Error;

use super::members::{self, Ensemble, HostPort, Member, MemberError, PeerAddress, Role, ServerId};
use super::properties::{MalformedEscape, Properties};
use crate::limits::{NOTIFICATION_BYTES_MAX, NOTIFICATION_HEAD_BYTES};
use crate::zab::{Members, PeerId, Quorum, QuorumError};

/// Client addresses that stand for every address of a machine: several servers may have them.
const WILDCARDS: [&str; 2] = ["0.0.0.0", "::"];

/// The members of an ensemble, of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dynamic {
    /// Every member by its number.
    pub members: BTreeMap<ServerId, Member>,
    /// The groups of a hierarchical quorum; empty where a simple majority decides.
    pub groups: BTreeMap<u64, BTreeSet<ServerId>>,
    /// The votes of a member within its group; 1 for members that are not listed.
    pub weights: BTreeMap<ServerId, u64>,
    /// The zxid that made them; 0 for a list from a file.
    pub version: i64,
}

/// Why members are refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DynamicError {
    /// The text is no list of properties.
    #[error(transparent)]
    Escape(#[from] MalformedEscape),
    /// A line that does not belong there.
    #[error("{0}: only server.N, group.N, weight.N and version belong there")]
    Key(String),
    /// The version is no hexadecimal number.
    #[error("version {0:?} is not a hexadecimal number")]
    Version(String),
    /// A line of a member, group or weight.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// A host with characters that no name and no address has.
    #[error("{0:?} is not the name or address of a host")]
    Host(String),
    /// A joining server without the address of its clients.
    #[error("server {} must say where its clients connect", .0.0)]
    NoClientAddress(ServerId),
    /// A line of a joining server that does not have the form `server.N=…`.
    #[error("{0:?} does not have the form server.N=…")]
    Joiner(String),
    /// Two servers want the same address.
    #[error("server {} and server {} have the same address {address}", one.0, other.0)]
    SameAddress {
        /// The one that joins.
        one: ServerId,
        /// The one that has it.
        other: ServerId,
        /// What they share.
        address: String,
    },
    /// Members were to join or leave one by one where groups decide.
    #[error("with groups, the whole new list of members must be given")]
    Grouped,
    /// Too few voters are left.
    #[error("{voters} voters are less than {min}")]
    Voters {
        /// How many there would be.
        voters: usize,
        /// How many there must be.
        min: usize,
    },
    /// A voter belongs to no group, or a group has a member that does not vote.
    #[error(
        "server {} is a voter without a group, or in a group without being a voter: list every voter in one", .0.0
    )]
    NotGrouped(ServerId),
    /// The groups and weights can decide nothing.
    #[error(transparent)]
    Quorum(#[from] QuorumError),
    /// The text does not fit into what servers tell each other.
    #[error("the server lines have {bytes} bytes, more than servers can tell each other: use shorter names")]
    TooLong {
        /// Its bytes.
        bytes: usize,
    },
}

impl Dynamic {
    /// What a configuration file says.
    #[must_use]
    pub fn of(ensemble: &Ensemble) -> Self {
        Dynamic {
            members: ensemble.members.clone(),
            groups: ensemble.groups.clone(),
            weights: ensemble.weights.clone(),
            version: ensemble.version,
        }
    }

    /// Reads a text.
    ///
    /// # Errors
    /// See [`DynamicError`].
    pub fn parse(text: &[u8]) -> Result<Self, DynamicError> {
        let mut dynamic = Dynamic::default();
        for entry in Properties::parse(text)?.entries() {
            let (key, value) = (entry.key.as_str(), entry.value.as_str());
            if let Some(id) = key.strip_prefix("server.") {
                dynamic.members.insert(ServerId(members::number(id)?), member(value)?);
            } else if let Some(id) = key.strip_prefix("group.") {
                dynamic.groups.insert(members::number(id)?, members::group(value)?);
            } else if let Some(id) = key.strip_prefix("weight.") {
                dynamic.weights.insert(ServerId(members::number(id)?), members::number(value)?);
            } else if key == "version" {
                let wrong = |_| DynamicError::Version(value.to_owned());
                dynamic.version = u64::from_str_radix(value, 16).map_err(wrong)?.cast_signed();
            } else {
                return Err(DynamicError::Key(key.to_owned()));
            }
        }
        Ok(dynamic)
    }

    /// What a client's request makes of these members, checked in Apache's order.
    ///
    /// # Errors
    /// See [`DynamicError`].
    pub fn change(
        &self,
        change: &ReconfigRequest,
        zxid: Zxid,
        voters_min: usize,
    ) -> Result<Self, DynamicError> {
        let mut new = match &change.new_members {
            // Lines, with commas or ends of lines between.
            Some(whole) => Dynamic::parse(whole.replace(',', "\n").as_bytes())?,
            None => self.step(change)?,
        };
        new.version = zxid.0;
        let voters = new.voters().count();
        if voters < voters_min {
            return Err(DynamicError::Voters { voters, min: voters_min });
        }
        let bytes = new.to_string().len();
        if bytes + NOTIFICATION_HEAD_BYTES > NOTIFICATION_BYTES_MAX {
            return Err(DynamicError::TooLong { bytes });
        }
        Ok(new)
    }

    /// Some leave, then some join or get another role or address.
    fn step(&self, change: &ReconfigRequest) -> Result<Self, DynamicError> {
        if !self.groups.is_empty() {
            return Err(DynamicError::Grouped);
        }
        let mut new = self.clone();
        for id in listed(change.leaving.as_deref()) {
            new.members.remove(&ServerId(members::number(id)?));
        }
        for line in listed(change.joining.as_deref()) {
            let wrong = || DynamicError::Joiner(line.to_owned());
            let (name, value) = line.split_once('=').ok_or_else(wrong)?;
            let id = ServerId(members::number(name.rsplit('.').next().unwrap_or_default())?);
            let joiner = member(value.trim())?;
            if joiner.client.is_none() && joiner.secure_client.is_none() {
                return Err(DynamicError::NoClientAddress(id));
            }
            new.members.remove(&id);
            for (other, member) in &new.members {
                let taken = places(member);
                if let Some(address) = places(&joiner).into_iter().find(|place| taken.contains(place)) {
                    return Err(DynamicError::SameAddress { one: id, other: *other, address });
                }
            }
            new.members.insert(id, joiner);
        }
        Ok(new)
    }

    fn voters(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.of_role(Role::Participant)
    }

    fn of_role(&self, role: Role) -> impl Iterator<Item = PeerId> + '_ {
        self.members.iter().filter(move |(_, member)| member.role == role).map(|(id, _)| PeerId(id.0))
    }

    /// Where every member is reached by the others.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<PeerId, Vec<PeerAddress>> {
        self.members.iter().map(|(id, member)| (PeerId(id.0), member.addresses.clone())).collect()
    }

    /// What agreement has to know.
    ///
    /// # Errors
    /// Nobody votes, the groups do not hold every voter once, or the text is too long to be told.
    pub fn to_members(&self) -> Result<Members, DynamicError> {
        let voters: BTreeSet<PeerId> = self.voters().collect();
        if voters.is_empty() {
            return Err(DynamicError::Voters { voters: 0, min: 1 });
        }
        let text = self.to_string();
        if text.len() + NOTIFICATION_HEAD_BYTES > NOTIFICATION_BYTES_MAX {
            return Err(DynamicError::TooLong { bytes: text.len() });
        }
        Ok(Members {
            quorum: self.quorum(voters)?,
            observers: self.of_role(Role::Observer).collect(),
            text: text.into(),
            version: self.version,
        })
    }

    fn quorum(&self, voters: BTreeSet<PeerId>) -> Result<Quorum, DynamicError> {
        if self.groups.is_empty() {
            return Ok(Quorum::majority(voters));
        }
        let peers = |ids: &BTreeSet<ServerId>| ids.iter().map(|id| PeerId(id.0)).collect::<BTreeSet<_>>();
        let groups: BTreeMap<u64, BTreeSet<PeerId>> =
            self.groups.iter().map(|(group, ids)| (*group, peers(ids))).collect();
        let weights = self.weights.iter().map(|(id, weight)| (PeerId(id.0), *weight)).collect();
        let grouped: BTreeSet<PeerId> = groups.values().flatten().copied().collect();
        if grouped != voters {
            let odd = grouped.symmetric_difference(&voters).next().copied().unwrap_or_default();
            return Err(DynamicError::NotGrouped(ServerId(odd.0)));
        }
        Ok(Quorum::hierarchical(&groups, &weights)?)
    }

    /// The lines without the version, as the dynamic file holds them: in the order of their letters.
    #[must_use]
    pub fn file_text(&self) -> String {
        let mut lines = self.lines();
        lines.sort_unstable();
        lines.join("\n")
    }

    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.members.iter().map(|(id, member)| format!("server.{id}={member}")).collect();
        for (group, ids) in &self.groups {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            lines.push(format!("group.{group}={}", ids.join(":")));
        }
        lines.extend(self.weights.iter().map(|(id, weight)| format!("weight.{id}={weight}")));
        lines
    }
}

/// The text as servers tell it each other, without an end behind its last line.
impl fmt::Display for Dynamic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.lines() {
            writeln!(f, "{line}")?;
        }
        write!(f, "version={:x}", self.version)
    }
}

/// What stands between commas.
fn listed(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn member(value: &str) -> Result<Member, DynamicError> {
    let member: Member = value.parse()?;
    let clients = member.client.iter().chain(&member.secure_client).map(|client| &client.host);
    for host in member.addresses.iter().map(|address| &address.host).chain(clients) {
        let is_fine = |c: char| c.is_ascii_alphanumeric() || ".:_-%".contains(c);
        if host.is_empty() || !host.chars().all(is_fine) {
            return Err(DynamicError::Host(host.clone()));
        }
    }
    Ok(member)
}

/// Everything that a member listens on, except what stands for every address of a machine.
fn places(member: &Member) -> BTreeSet<String> {
    let peers = member.addresses.iter().flat_map(|PeerAddress { host, quorum_port, election_port }| {
        [*quorum_port, *election_port].map(|port| HostPort { host: host.clone(), port })
    });
    let clients = member.client.iter().chain(&member.secure_client).cloned();
    let named = peers.chain(clients).filter(|place| !WILDCARDS.contains(&place.host.as_str()));
    named.map(|place| place.to_string()).collect()
}

#[cfg(test)]
#[path = "dynamic_tests.rs"]
mod tests;
