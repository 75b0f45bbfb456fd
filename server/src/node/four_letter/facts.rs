//! What the answers are made of: plain values that others have counted and measured.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::PathBuf;

use docent::{SessionId, Zxid};

/// What a server is doing, as its clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Alone.
    Standalone,
    /// Ordering the writes of an ensemble.
    Leader,
    /// Voting on them.
    Follower,
    /// Learning them.
    Observer,
    /// Serving what it has, without a quorum.
    ReadOnly,
}

impl Mode {
    /// The word that `srvr` and `mntr` print, and that scripts look for.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::Standalone => "standalone",
            Mode::Leader => "leader",
            Mode::Follower => "follower",
            Mode::Observer => "observer",
            Mode::ReadOnly => "read-only",
        }
    }
}

/// How long requests took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    /// The shortest; 0 if there was none.
    pub min: u64,
    /// The mean, rounded to four places; see [`super::java_text::average`].
    pub avg: f64,
    /// The longest; 0 if there was none.
    pub max: u64,
}

/// Bytes of the proposals that a leader has sent. -1 before the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProposalSizes {
    /// The latest.
    pub last: i64,
    /// The smallest.
    pub min: i64,
    /// The largest.
    pub max: i64,
}

/// For `srvr` and `stat`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerFacts {
    /// See [`super::full_version`].
    pub version: String,
    /// What it is doing.
    pub mode: Mode,
    /// Of all requests since the start or `srst`.
    pub latency: Latency,
    /// Packets from clients since the start or `srst`.
    pub received: u64,
    /// Packets to clients since the start or `srst`.
    pub sent: u64,
    /// Open client connections, the asking one included.
    pub connections: u64,
    /// Requests that are not answered yet.
    pub outstanding: u64,
    /// The last transaction that is applied.
    pub zxid: Zxid,
    /// Nodes of the tree, as Apache counts them: the root twice.
    pub node_count: u64,
    /// Only a leader has them.
    pub proposal_sizes: Option<ProposalSizes>,
}

/// One connection, for `cons` and `stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionFacts {
    /// The client's side of it.
    pub address: SocketAddr,
    /// Whether the server reads from it (1) or waits to write (4): the bits of Java's selector.
    pub interest_ops: u32,
    /// Requests that are not answered yet.
    pub queued: u64,
    /// Packets since the connection began or `crst`.
    pub received: u64,
    /// Packets since the connection began or `crst`.
    pub sent: u64,
    /// `None` before the handshake and on connections that ask a four-letter word.
    pub session: Option<ConnectionSession>,
}

/// What a connection with a session shows beyond that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionSession {
    /// Whose connection it is.
    pub id: SessionId,
    /// The latest operation, in four or six capitals; `NA` if there was none.
    pub last_operation: &'static str,
    /// When the connection began, in milliseconds since 1970.
    pub established_ms: i64,
    /// The session's timeout in milliseconds.
    pub timeout_ms: i32,
    /// The client's number of the latest request; left out of the listing if there was none.
    pub last_cxid: Option<i64>,
    /// The transaction of the latest answer, -1 if there was none.
    pub last_zxid: Zxid,
    /// When the latest answer went out, in milliseconds on the clock that never goes back; 0 if none did.
    pub last_response_ms: i64,
    /// How long the latest request took, in milliseconds.
    pub last_latency: u64,
    /// The shortest.
    pub min_latency: u64,
    /// The mean, rounded down.
    pub avg_latency: u64,
    /// The longest.
    pub max_latency: u64,
}

/// For `wchs`. Only the table of data watches is counted, as in Apache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchFacts {
    /// Connections with at least one watch.
    pub connections: u64,
    /// Paths with at least one watch.
    pub paths: u64,
    /// Watches.
    pub watches: u64,
}

/// Things that end at the same moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiryBucket<T> {
    /// That moment, in milliseconds since 1970.
    pub expires_ms: i64,
    /// What ends then; may be empty.
    pub members: Vec<T>,
}

/// How this server follows sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tracker {
    /// It decides itself when they end: a leader or standalone server.
    Expiring(Vec<ExpiryBucket<SessionId>>),
    /// It passes on what it hears from them; with each one's timeout in milliseconds.
    Learning(Vec<(SessionId, i32)>),
}

/// For `dump`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFacts {
    /// The sessions.
    pub tracker: Tracker,
    /// Paths of ephemeral nodes by their session.
    pub ephemerals: Vec<(SessionId, Vec<String>)>,
    /// Connections by the moment at which they are closed if they stay silent.
    pub connections: Vec<ExpiryBucket<(SocketAddr, SessionId)>>,
}

/// For `envi`. The keys about Java are printed too, as not available: readers find the others by their place or name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentFacts {
    /// See [`super::full_version`].
    pub version: String,
    /// The machine's name.
    pub host_name: String,
    /// Where temporary files go.
    pub temp_dir: String,
    /// As Java names it: `Linux`.
    pub os_name: String,
    /// As Java names it: `amd64`, `aarch64`.
    pub os_arch: String,
    /// The kernel's version.
    pub os_version: String,
    /// Who runs the process.
    pub user_name: String,
    /// That user's home.
    pub user_home: String,
    /// Where the process was started.
    pub user_dir: String,
    /// Mebibytes.
    pub memory: MemoryFacts,
}

/// Memory in mebibytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryFacts {
    /// What the process could still have.
    pub free_mib: u64,
    /// What it may have at most.
    pub max_mib: u64,
    /// What it has.
    pub total_mib: u64,
}

/// How much the directories hold, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectoryFacts {
    /// Snapshots.
    pub data_bytes: u64,
    /// Logs, with what is allocated ahead.
    pub log_bytes: u64,
}

/// For `conf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfFacts {
    /// -1 if there is none.
    pub client_port: i32,
    /// -1 if there is none.
    pub secure_client_port: i32,
    /// With `version-2`.
    pub data_dir: PathBuf,
    /// With `version-2`.
    pub data_log_dir: PathBuf,
    /// How much they hold.
    pub sizes: DirectoryFacts,
    /// In milliseconds.
    pub tick_ms: i32,
    /// Connections of one address; 0 is no bound.
    pub max_client_cnxns: u32,
    /// In milliseconds.
    pub min_session_ms: i32,
    /// In milliseconds.
    pub max_session_ms: i32,
    /// -1 leaves it to the system.
    pub listen_backlog: i32,
    /// 0 for a standalone server.
    pub server_id: u64,
    /// Only members of an ensemble have these.
    pub ensemble: Option<EnsembleConf>,
}

/// What `conf` adds in an ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnsembleConf {
    /// In ticks.
    pub init_limit: u32,
    /// In ticks.
    pub sync_limit: u32,
    /// This server's.
    pub election_port: u16,
    /// This server's.
    pub quorum_port: u16,
    /// Whether it does not vote.
    pub observer: bool,
    /// The text of `/zookeeper/config`.
    pub membership: String,
}

/// One value of `mntr`.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Printed without a point.
    Count(i64),
    /// Printed with one.
    Mean(f64),
    /// Printed as it is; without tabs and line ends.
    Text(Cow<'static, str>),
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Value::Count(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

/// One line of `mntr`: the key without `zk_`.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Apache's name, if it has this value too.
    pub key: Cow<'static, str>,
    /// The value.
    pub value: Value,
}

impl Metric {
    /// A line.
    pub fn new(key: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Self {
        Metric { key: key.into(), value: value.into() }
    }
}
