//! The configuration: `zoo.cfg` as Apache reads it, as types.
//!
//! A file is read once, at the start, into a [`Config`]; nothing else in the server looks up keys or strings. Every
//! key that Apache knows is known here too (`table.rs`), and nothing is silently ignored: a key on which this server
//! does not act yet, or one that nobody knows, is a [`Warning`]; a value that makes no sense is a [`ConfigError`] that
//! names key, line and value.
//!
//! Left out: what the values do, resolving of host names, and creating directories.

mod dynamic;
mod error;
pub mod jaas;
mod keys;
mod members;
pub mod myid;
mod parse;
pub mod properties;
pub mod rewrite;
mod security;
mod table;
mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use dynamic::{Dynamic, DynamicError};
pub use error::{ConfigError, Reason, Warning};
pub use keys::{Key, Support, find, known_keys, nearest};
pub use members::{Ensemble, HostPort, Member, MemberError, PeerAddress, Role, ServerId};
pub use myid::MyIdError;
pub use security::{ClientAuth, Security, TlsOptions};

use crate::limits::{DELETE_RECURSIVE_MAX, LEADER_SILENCE_MS, REQUESTS_IN_WORK_MAX};
use crate::node::ThrottleOptions;
use crate::node::access::DigestAlgorithm;
use crate::node::four_letter::Whitelist;

/// Everything that an operator can set and that this server has a type for.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `dataDir`: `myid`, and snapshots in `version-2` below it.
    pub data_dir: PathBuf,
    /// `dataLogDir`: the transaction log, in `version-2` below it.
    pub data_log_dir: PathBuf,
    /// How clients connect.
    pub client: ClientPort,
    /// The clock of the server and of its sessions.
    pub timing: Timing,
    /// The log and the snapshots.
    pub storage: StorageOptions,
    /// When old files are deleted.
    pub purge: Purge,
    /// Bounds on requests.
    pub limits: RequestLimits,
    /// Who may do what.
    pub access: Access,
    /// How clients prove who they are.
    pub security: Security,
    /// Nodes that the server deletes by itself, and quotas.
    pub nodes: NodeOptions,
    /// Other kinds of sessions.
    pub sessions: SessionOptions,
    /// Who else belongs to the ensemble.
    pub ensemble: Ensemble,
}

/// How clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPort {
    /// `clientPortAddress`: a name or an address; every address of the machine if there is none.
    pub address: Option<String>,
    /// `clientPort`; 0 lets the system choose.
    pub port: Option<u16>,
    /// `secureClientPortAddress`, as `address`.
    pub secure_address: Option<String>,
    /// `secureClientPort`, for clients with TLS; none if there is none or it is 0.
    pub secure_port: Option<u16>,
    /// `clientPortListenBacklog`; the system's if there is none.
    pub listen_backlog: Option<u32>,
    /// `maxClientCnxns`: connections of one address; `None` is no bound.
    pub per_address_max: Option<u32>,
    /// `maxCnxns`: connections of all clients; `None` is no bound.
    pub connections_max: Option<u32>,
    /// `clientTcpKeepAlive`.
    pub tcp_keep_alive: bool,
}

/// The clock of the server and of its sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// `tickTime`, in milliseconds.
    pub tick_ms: i32,
    /// `minSessionTimeout`, in milliseconds.
    pub min_session_ms: i32,
    /// `maxSessionTimeout`, in milliseconds.
    pub max_session_ms: i32,
    /// `initLimit`, in ticks; set in every ensemble.
    pub init_limit: Option<u32>,
    /// `syncLimit`, in ticks; set in every ensemble.
    pub sync_limit: Option<u32>,
    /// `leaderSilenceMs`: milliseconds without a word after which a follower leaves a leader, where both are Docent's.
    pub leader_silence_ms: u32,
}

/// The log and the snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageOptions {
    /// `snapCount`: transactions between snapshots, at least 2.
    pub snap_count: u32,
    /// `snapSizeLimitInKb`: KiB of log between snapshots; `None` is no bound.
    pub snap_size_limit_kib: Option<u64>,
    /// `txnLogSizeLimitInKb`: KiB after which a log file ends; `None` is no bound.
    pub log_size_limit_kib: Option<u64>,
    /// `preAllocSize`: KiB by which a log file grows ahead; 0 is not at all.
    pub pre_alloc_kib: u64,
    /// `forceSync`: whether a write is durable before it is acknowledged.
    pub force_sync: bool,
    /// `flushDelay`: milliseconds that a group may wait for more writes.
    pub flush_delay_ms: u64,
    /// `maxBatchSize`: writes after which a group is synced at once.
    pub batch_max: u32,
    /// `fsync.warningthresholdms`: a sync that takes longer is worth a warning.
    pub fsync_warning_ms: u64,
    /// `snapshot.compression.method`.
    pub compression: Compression,
    /// `snapshot.trust.empty`: whether a log without any snapshot is accepted.
    pub trust_empty_snapshot: bool,
    /// `digest.enabled`: whether log and snapshots carry digests of the tree.
    pub digest: bool,
}

/// How snapshots are written. Reading goes by a file's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// `gz`.
    Gzip,
    /// `snappy`.
    Snappy,
}

/// When old files are deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// `autopurge.snapRetainCount`: at least 3.
    pub retain: u32,
    /// `autopurge.purgeInterval`: time between purges; `None` is never.
    pub interval: Option<Duration>,
}

/// Bounds on requests.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestLimits {
    /// `globalOutstandingLimit`: requests in work before connections that have some are no longer read.
    pub outstanding_max: u32,
    /// `connection_throttle_*`: how fast handshakes are taken.
    pub handshakes: ThrottleOptions,
    /// `jute.maxbuffer`: bytes of the largest request.
    pub request_bytes_max: u32,
    /// `replyBytesMax`: bytes of the largest answer to a read; `None` is no bound.
    pub reply_bytes_max: Option<u32>,
    /// `deleteRecursiveMax`: nodes that one request may delete; 0 if none may delete more than its own.
    pub delete_recursive_max: u32,
}

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// `skipACL`: no permission is checked at all.
    pub skip_acl: bool,
    /// `DigestAuthenticationProvider.superDigest`: `user:hash` of the user whom no ACL stops.
    pub super_digest: Option<String>,
    /// `DigestAuthenticationProvider.digestAlg`.
    pub digest_algorithm: DigestAlgorithm,
    /// `enforce.auth.schemes`, if `enforce.auth.enabled`, and `sasl` if `sessionRequireClientSASLAuth`: a connection needs
    /// one of them. Never an empty list.
    pub enforced_schemes: Option<Vec<String>>,
    /// `4lw.commands.whitelist`.
    pub four_letter_words: Whitelist,
}

/// Nodes that the server deletes by itself, and quotas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeOptions {
    /// `extendedTypesEnabled`: whether nodes may have a time to live.
    pub extended_types: bool,
    /// `enforceQuota`: whether hard quotas refuse writes.
    pub enforce_quota: bool,
    /// `znode.container.checkIntervalMs`: milliseconds between sweeps.
    pub sweep_interval_ms: u64,
    /// `znode.container.maxPerMinute`: nodes that are deleted per minute.
    pub swept_per_minute_max: u32,
    /// `znode.container.maxNeverUsedIntervalMs`: age at which a container that never had a child goes; `None` is never.
    pub never_used_max_ms: Option<u64>,
}

/// Other kinds of sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionOptions {
    /// `localSessionsEnabled`.
    pub local: bool,
    /// `localSessionsUpgradingEnabled`.
    pub local_upgrading: bool,
    /// `readonlymode.enabled`.
    pub read_only_mode: bool,
}

/// Every address of the machine.
const ANY: &str = "0.0.0.0";

/// The largest configuration file that is read. Real ones have a few kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

impl Config {
    /// The configuration of an empty file with only `dataDir` in it: Apache's defaults and no client port.
    #[must_use]
    pub fn with_defaults(data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        Config {
            data_log_dir: data_dir.clone(),
            data_dir,
            client: ClientPort {
                address: None,
                port: None,
                secure_address: None,
                secure_port: None,
                listen_backlog: None,
                per_address_max: Some(60),
                connections_max: None,
                tcp_keep_alive: false,
            },
            timing: Timing {
                tick_ms: 3000,
                min_session_ms: 2 * 3000,
                max_session_ms: 20 * 3000,
                init_limit: None,
                sync_limit: None,
                leader_silence_ms: LEADER_SILENCE_MS,
            },
            storage: StorageOptions {
                snap_count: 100_000,
                snap_size_limit_kib: Some(4 << 20),
                log_size_limit_kib: None,
                pre_alloc_kib: 64 << 10,
                force_sync: true,
                flush_delay_ms: 0,
                batch_max: 1000,
                fsync_warning_ms: 1000,
                compression: Compression::None,
                trust_empty_snapshot: false,
                digest: true,
            },
            // Apache never purges unless it is told to, and its disks fill up.
            purge: Purge { retain: 3, interval: Some(Duration::from_secs(3600)) },
            limits: RequestLimits {
                outstanding_max: REQUESTS_IN_WORK_MAX,
                handshakes: ThrottleOptions::default(),
                request_bytes_max: 0xf_ffff,
                reply_bytes_max: None,
                delete_recursive_max: DELETE_RECURSIVE_MAX,
            },
            access: Access {
                skip_acl: false,
                super_digest: None,
                digest_algorithm: DigestAlgorithm::default(),
                enforced_schemes: None,
                four_letter_words: Whitelist::default(),
            },
            security: Security::default(),
            nodes: NodeOptions {
                extended_types: false,
                enforce_quota: false,
                sweep_interval_ms: 60_000,
                swept_per_minute_max: 10_000,
                never_used_max_ms: None,
            },
            sessions: SessionOptions::default(),
            ensemble: Ensemble::default(),
        }
    }

    /// A server to try things with: the usual port on the loopback address only, ticks of two seconds, every
    /// four-letter word and every kind of node allowed.
    #[must_use]
    pub fn dev(data_dir: impl Into<PathBuf>) -> Self {
        let mut config = Config::with_defaults(data_dir);
        config.client.address = Some("127.0.0.1".to_owned());
        config.client.port = Some(2181);
        config.timing.tick_ms = 2000;
        config.timing.min_session_ms = 4000;
        config.timing.max_session_ms = 40_000;
        config.access.four_letter_words = Whitelist::all();
        config.nodes.extended_types = true;
        config
    }

    /// The members of an ensemble to try things with, on the loopback address, each as [`Config::dev`] with its data in
    /// `data_dir/1`, `data_dir/2` and so on. `port` gives a port that nobody else uses, each time another one.
    #[must_use]
    pub fn dev_ensemble(data_dir: &Path, size: u64, mut port: impl FnMut() -> u16) -> Vec<Self> {
        let mut member = || Member {
            addresses: vec![PeerAddress {
                host: "127.0.0.1".to_owned(),
                quorum_port: port(),
                election_port: port(),
            }],
            role: Role::Participant,
            client: None,
            secure_client: None,
        };
        let members: BTreeMap<ServerId, Member> = (1..=size).map(|id| (ServerId(id), member())).collect();
        (1..=size)
            .map(|id| {
                let mut config = Config::dev(data_dir.join(id.to_string()));
                config.ensemble.members = members.clone();
                // One that is alone needs neither ports nor elections.
                (config.timing.init_limit, config.timing.sync_limit) = (Some(10), Some(5));
                config
            })
            .collect()
    }

    /// Reads `zoo.cfg`, and the dynamic file if it names one.
    ///
    /// # Errors
    /// A file cannot be read, or something in it is refused.
    pub fn from_path(path: impl AsRef<Path>) -> Result<(Self, Vec<Warning>), ConfigError> {
        let (mut config, mut warnings) = Config::parse(&read_file(path.as_ref())?)?;
        config.ensemble.zoo_cfg = Some(path.as_ref().to_owned());
        if let Some(dynamic) = config.ensemble.dynamic_config_file.clone() {
            warnings.extend(config.add_dynamic(&read_file(&dynamic)?)?);
        }
        Ok((config, warnings))
    }

    /// This server's number from its `myid` file, checked against the members.
    ///
    /// # Errors
    /// The file cannot be read or holds something else, or an ensemble needs it and does not find it.
    pub fn my_id(&self) -> Result<Option<ServerId>, ConfigError> {
        Ok(myid::check(myid::read(&self.data_dir)?, &self.ensemble)?)
    }

    /// Where this server listens for clients with TLS; `None` if it does not.
    #[must_use]
    pub fn secure_client_address(&self) -> Option<HostPort> {
        let host = self.client.secure_address.clone().unwrap_or_else(|| ANY.to_owned());
        self.client.secure_port.map(|port| HostPort { host, port })
    }

    /// Where this server listens for clients: what its own `server.N` line says, or else `clientPort`.
    ///
    /// # Errors
    /// Both are given and differ.
    pub fn client_address(&self, id: Option<ServerId>) -> Result<Option<HostPort>, ConfigError> {
        let address = self.client.address.clone().unwrap_or_else(|| ANY.to_owned());
        let fixed = self.client.port.map(|port| HostPort { host: address, port });
        let own = id.and_then(|id| Some((id, self.ensemble.members.get(&id)?.client.clone()?)));
        match (fixed, own) {
            (fixed, None) => Ok(fixed),
            (None, Some((_, own))) => Ok(Some(own)),
            (Some(fixed), Some((_, own))) if fixed == own || fixed.host == ANY && fixed.port == own.port => {
                Ok(Some(own))
            }
            (Some(fixed), Some((id, own))) => Err(ConfigError::ClientAddressDiffers {
                id: id.0,
                fixed: fixed.to_string(),
                own: own.to_string(),
            }),
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    if read.map_err(failed)? as u64 > FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned(), max: FILE_BYTES_MAX });
    }
    Ok(bytes)
}
