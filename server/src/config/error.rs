//! What can be wrong with a configuration, and what is only odd about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::jaas::JaasError;
use super::members::MemberError;
use super::myid::MyIdError;
use super::properties::MalformedEscape;

/// Why a configuration is refused. The server does not start with it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is larger than any configuration.
    #[error("{} is larger than {max} bytes: it is not a configuration", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The largest file that is read.
        max: u64,
    },
    /// The file is not a Java properties file.
    #[error(transparent)]
    Escape(#[from] MalformedEscape),
    /// A value is not one that its key can have.
    #[error("line {line}: {key}={value}: {reason}")]
    Value {
        /// Which key.
        key: String,
        /// Where it stands.
        line: usize,
        /// What stands there.
        value: String,
        /// What is wrong with it.
        reason: Reason,
    },
    /// A key must be there and is not.
    #[error("{key} is not set: {why}")]
    Missing {
        /// Which key.
        key: &'static str,
        /// Why it is needed.
        why: &'static str,
    },
    /// The login configuration is refused.
    #[error("{}: {source}", path.display())]
    LoginConfig {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: JaasError,
    },
    /// The login configuration does not hold the section that is to count.
    #[error("{} has no section {section}", path.display())]
    NoLoginSection {
        /// Which file.
        path: PathBuf,
        /// The section that `sasl.serverconfig` names.
        section: String,
    },
    /// Two settings exclude each other.
    #[error("{0}")]
    Conflict(&'static str),
    /// The shortest session timeout is longer than the longest.
    #[error("minSessionTimeout {min_ms} must not be larger than maxSessionTimeout {max_ms}")]
    TimeoutsCrossed {
        /// In milliseconds.
        min_ms: i32,
        /// In milliseconds.
        max_ms: i32,
    },
    /// The `myid` file does not fit the configuration.
    #[error(transparent)]
    MyId(#[from] MyIdError),
    /// The members are in a file of their own, and a line of `zoo.cfg` names one too.
    #[error(
        "line {line}: {key} must be in the separate dynamic config file, because dynamicConfigFile is set"
    )]
    InDynamicFile {
        /// Which key.
        key: String,
        /// Where it stands.
        line: usize,
    },
    /// A key in the dynamic file that does not belong there.
    #[error(
        "line {line} of the dynamic config file: unrecognised parameter {key}: only server.N, group.N and weight.N belong there"
    )]
    NotDynamic {
        /// Which key.
        key: String,
        /// Where it stands.
        line: usize,
    },
    /// The client address of this server's own line differs from that of `zoo.cfg`.
    #[error(
        "clientPortAddress and clientPort say {fixed}, but the line server.{id} says {own}: make them equal"
    )]
    ClientAddressDiffers {
        /// This server's number.
        id: u64,
        /// From `zoo.cfg`.
        fixed: String,
        /// From its `server.N` line.
        own: String,
    },
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Reason {
    /// Not a boolean.
    #[error("choose true or false")]
    TrueOrFalse,
    /// Not a switch of the older kind.
    #[error("choose yes or no")]
    YesOrNo,
    /// Not a whole number.
    #[error("it is not a whole number")]
    NotANumber,
    /// A number that makes no sense here.
    #[error("it must be from {min} to {max}")]
    OutOfRange {
        /// The smallest that does.
        min: i64,
        /// The largest that does.
        max: i64,
    },
    /// Not a length of time.
    #[error("it is not an interval: write a number of hours, or a number with ms, s, m, h or d behind it")]
    NotAnInterval,
    /// Not one of the words that the key takes.
    #[error("choose {0}")]
    Choose(&'static str),
    /// Nothing stands behind the key.
    #[error("it is empty")]
    Empty,
    /// Not a member, a group or a weight.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// It needs a part of the server that does not exist yet, and ignoring it would not be safe.
    #[error("{0} is not built yet: remove the line, or keep a server that has it")]
    NotBuilt(&'static str),
}

/// Something odd that does not keep the server from starting. Every one deserves a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A key stands there twice; the last one counts.
    Duplicate {
        /// Which key.
        key: String,
        /// The line that counts.
        line: usize,
        /// The line that does not.
        overridden: usize,
    },
    /// Nobody knows this key.
    Unknown {
        /// Which key.
        key: String,
        /// Where it stands.
        line: usize,
        /// The known key that is spelled most like it.
        nearest: Option<&'static str>,
    },
    /// A key with the prefix that Apache adds by itself.
    Prefixed {
        /// The key without the prefix.
        key: String,
        /// Where it stands.
        line: usize,
    },
    /// A key that is known, but on which nothing acts yet.
    NotYet {
        /// Which key.
        key: String,
        /// Where it stands.
        line: usize,
        /// The value as which the server acts; empty if the key has no effect at all.
        acts_as: &'static str,
    },
    /// A key for a part of Apache's server that does not exist here.
    NoCounterpart {
        /// Which key.
        key: String,
        /// Where it stands.
        line: usize,
        /// The part.
        part: &'static str,
    },
    /// A number below the smallest that is safe; the smallest is used, as in Apache.
    Raised {
        /// Which key.
        key: &'static str,
        /// What stands there.
        given: i64,
        /// What is used.
        used: i64,
    },
    /// A path that depends on where the server was started.
    RelativePath {
        /// Which key.
        key: &'static str,
        /// The path.
        path: String,
    },
    /// A word in `4lw.commands.whitelist` that is no command.
    UnknownWord(String),
    /// The only member is this server, which runs standalone then.
    SingleMember,
    /// With so few voters no failure is survived.
    NoFailureTolerated,
    /// An even number of voters survives no more failures than one voter less.
    EvenVoters(usize),
    /// A number that does not fit the one byte that session ids have for it.
    LargeServerId(u64),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Duplicate { key, line, overridden } => {
                write!(f, "line {line}: {key} is set again, line {overridden} no longer counts")
            }
            Warning::Unknown { key, line, nearest: Some(nearest) } => {
                write!(f, "line {line}: unknown key {key} has no effect; did you mean {nearest}?")
            }
            Warning::Unknown { key, line, nearest: None } => {
                write!(f, "line {line}: unknown key {key} has no effect")
            }
            Warning::Prefixed { key, line } => write!(
                f,
                "line {line}: zookeeper.{key} has no effect, because a configuration file leaves the prefix away; \
                 write {key}"
            ),
            Warning::NotYet { key, line, acts_as: "" } => {
                write!(f, "line {line}: {key} is known but not built yet, it has no effect")
            }
            Warning::NotYet { key, line, acts_as } => {
                write!(
                    f,
                    "line {line}: {key} is known but not built yet, the server acts as with {key}={acts_as}"
                )
            }
            Warning::NoCounterpart { key, line, part } => {
                write!(f, "line {line}: {key} has no effect, this server does not have {part}")
            }
            Warning::Raised { key, given, used } => write!(f, "{key}={given} is too small, {used} is used"),
            Warning::RelativePath { key, path } => {
                write!(f, "{key}={path} is relative to where the server is started; begin it with / or ./")
            }
            Warning::UnknownWord(word) => {
                write!(f, "4lw.commands.whitelist: {word} is not a four-letter word of this server")
            }
            Warning::SingleMember => {
                f.write_str("only one voter is configured, the server runs standalone and ignores server.N")
            }
            Warning::NoFailureTolerated => {
                f.write_str("no server failure will be tolerated, you need at least 3 voters")
            }
            Warning::EvenVoters(voters) => write!(
                f,
                "{voters} voters survive no more failures than {}, consider an odd number",
                voters.saturating_sub(1)
            ),
            Warning::LargeServerId(id) => {
                write!(f, "server.{id}: session ids have one byte for this number, use 1 to 254")
            }
        }
    }
}
