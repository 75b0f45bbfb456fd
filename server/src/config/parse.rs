//! From the entries of a file to a [`Config`]: one function per group of fields.
//!
//! Every value is taken through [`Reader`], which knows the line it came from. The order of the checks is the order of
//! the fields, so of several mistakes always the same one is reported.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::{self, Support};
use super::members::{self, Ensemble, Member, MemberError, ServerId};
use super::properties::{Entry, Properties};
use super::{
    Access, ClientPort, Compression, Config, ConfigError, NodeOptions, Purge, Reason, RequestLimits,
    Security, SessionOptions, StorageOptions, Timing, Warning,
};
use crate::limits::QUICK_PING_MS;
use crate::node::ThrottleOptions;
use crate::node::access::DigestAlgorithm;
use crate::node::four_letter::{FourLetterWord, Whitelist};

/// Positive Java integers.
const POSITIVE: RangeInclusive<i64> = 1..=i32::MAX as i64;
/// A follower must miss more than one ping before it may leave.
const SILENCE: RangeInclusive<i64> = 2 * QUICK_PING_MS..=i32::MAX as i64;
/// Java integers for which -1 stands for "none".
const FROM_MINUS_ONE: RangeInclusive<i64> = -1..=i32::MAX as i64;
/// Java integers that may be zero.
const FROM_ZERO: RangeInclusive<i64> = 0..=i32::MAX as i64;
/// Twenty ticks, the default of the longest session timeout, must fit into the protocol's 32 bits.
const TICK: RangeInclusive<i64> = 1..=(i32::MAX / 20) as i64;
/// Sizes in KiB: their bytes must fit into 63 bits.
const KIB: RangeInclusive<i64> = i64::MIN..=i64::MAX >> 10;
/// Session ids have one byte for the number, and 255 marks nodes with a time to live.
const SERVER_ID_MAX: u64 = 254;

impl Config {
    /// Reads the content of a `zoo.cfg`. Where it names a dynamic file, that one is added with
    /// [`Config::add_dynamic`].
    ///
    /// # Errors
    /// Something in it is refused.
    pub fn parse(bytes: &[u8]) -> Result<(Self, Vec<Warning>), ConfigError> {
        let properties = Properties::parse(bytes)?;
        let mut reader = Reader::new(&properties);
        reader.judge_keys()?;
        let data_dir = reader
            .path("dataDir")?
            .ok_or(ConfigError::Missing { key: "dataDir", why: "it is where snapshots are kept" })?;
        let defaults = Config::with_defaults(data_dir);
        let security = reader.security()?;
        let config = Config {
            data_log_dir: reader.path("dataLogDir")?.unwrap_or_else(|| defaults.data_dir.clone()),
            client: reader.client(defaults.client)?,
            timing: reader.timing(defaults.timing)?,
            storage: reader.storage(defaults.storage)?,
            purge: reader.purge(defaults.purge)?,
            limits: reader.limits(defaults.limits)?,
            sessions: reader.sessions()?,
            access: reader.access(&security)?,
            security,
            nodes: reader.nodes(defaults.nodes)?,
            ensemble: reader.ensemble()?,
            data_dir: defaults.data_dir,
        };
        let mut warnings = reader.warnings;
        if config.ensemble.dynamic_config_file.is_none() {
            config.check_members(&mut warnings)?;
        }
        Ok((config, warnings))
    }

    /// Adds the members that a dynamic file names.
    ///
    /// # Errors
    /// The file holds other keys, a member that is none, or an ensemble that cannot work.
    pub fn add_dynamic(&mut self, bytes: &[u8]) -> Result<Vec<Warning>, ConfigError> {
        let properties = Properties::parse(bytes)?;
        let mut reader = Reader::new(&properties);
        for entry in reader.entries.values() {
            if !is_membership(&entry.key) {
                return Err(ConfigError::NotDynamic { key: entry.key.clone(), line: entry.line });
            }
        }
        reader.members(&mut self.ensemble)?;
        let mut warnings = reader.warnings;
        self.check_members(&mut warnings)?;
        Ok(warnings)
    }

    /// What only the whole list of members shows.
    fn check_members(&self, warnings: &mut Vec<Warning>) -> Result<(), ConfigError> {
        let ensemble = &self.ensemble;
        let (voters, observers) = (ensemble.voters(), ensemble.members.len() - ensemble.voters());
        if voters == 0 && !ensemble.standalone_enabled {
            return Err(ConfigError::Conflict(
                "standaloneEnabled=false needs at least one voter: add a server.N line",
            ));
        }
        if observers > 0 && !ensemble.is_distributed() {
            return Err(ConfigError::Conflict("observers need an ensemble: add at least two voters"));
        }
        match voters {
            1 if ensemble.standalone_enabled => warnings.push(Warning::SingleMember),
            1 | 2 => warnings.push(Warning::NoFailureTolerated),
            even if even > 0 && even % 2 == 0 => warnings.push(Warning::EvenVoters(even)),
            _ => {}
        }
        let large = ensemble.members.keys().filter(|id| id.0 > SERVER_ID_MAX);
        warnings.extend(large.map(|id| Warning::LargeServerId(id.0)));
        if ensemble.is_distributed() {
            let why = "an ensemble needs it";
            self.timing.init_limit.ok_or(ConfigError::Missing { key: "initLimit", why })?;
            self.timing.sync_limit.ok_or(ConfigError::Missing { key: "syncLimit", why })?;
        }
        if self.client.port.is_none()
            && self.client.secure_port.is_none()
            && ensemble.members.values().all(|member| member.client.is_none())
        {
            return Err(ConfigError::Missing { key: "clientPort", why: "no client could connect" });
        }
        Ok(())
    }
}

/// The version that a dynamic file has by its name, as `zoo.cfg.dynamic.100000003`.
fn version_of(file: &Path) -> i64 {
    let name = file.to_str().unwrap_or_default();
    let version = name.rsplit_once('.').and_then(|(_, version)| i64::from_str_radix(version, 16).ok());
    version.unwrap_or(0)
}

fn is_membership(key: &str) -> bool {
    ["server.", "group.", "weight."].iter().any(|prefix| key.starts_with(prefix))
}

/// The entries that count, each by its key.
pub(super) struct Reader<'a> {
    entries: BTreeMap<&'a str, &'a Entry>,
    warnings: Vec<Warning>,
}

impl<'a> Reader<'a> {
    fn new(properties: &'a Properties) -> Self {
        let mut entries: BTreeMap<&str, &Entry> = BTreeMap::new();
        let mut warnings = Vec::new();
        for entry in properties.entries() {
            if let Some(before) = entries.insert(&entry.key, entry) {
                let (line, overridden) = (entry.line, before.line);
                warnings.push(Warning::Duplicate { key: entry.key.clone(), line, overridden });
            }
        }
        Reader { entries, warnings }
    }

    /// The entries that count.
    pub(super) fn entries(&self) -> impl Iterator<Item = &'a Entry> {
        self.entries.values().copied()
    }

    /// Says of every key on which nothing will act that this is so, in the order of the file.
    fn judge_keys(&mut self) -> Result<(), ConfigError> {
        let mut entries: Vec<&Entry> = self.entries.values().copied().collect();
        entries.sort_by_key(|entry| entry.line);
        let dynamic = self.entries.contains_key("dynamicConfigFile");
        for entry in entries {
            let (key, line) = (entry.key.clone(), entry.line);
            if dynamic && is_membership(&key) {
                return Err(ConfigError::InDynamicFile { key, line });
            }
            let Some(known) = keys::find(&key) else {
                self.warnings.push(unknown(key, line));
                continue;
            };
            match known.support {
                Support::Honoured => {}
                Support::NotYet(acts_as) if same_value(&entry.value, acts_as) => {}
                Support::NotYet(acts_as) => self.warnings.push(Warning::NotYet { key, line, acts_as }),
                Support::Refused(acts_as) if same_value(&entry.value, acts_as) => {}
                Support::Refused(_) => return Err(invalid(entry, Reason::NotBuilt(known.meaning))),
                Support::NoCounterpart(part) => {
                    self.warnings.push(Warning::NoCounterpart { key, line, part })
                }
            }
        }
        Ok(())
    }

    fn client(&mut self, defaults: ClientPort) -> Result<ClientPort, ConfigError> {
        let port = self.number("clientPort", 0..=i64::from(u16::MAX))?;
        let address = self.text("clientPortAddress")?.map(str::to_owned);
        if address.is_some() && port.is_none() {
            return Err(ConfigError::Conflict("clientPortAddress is set but clientPort is not set"));
        }
        let secure = self.number("secureClientPort", 0..=i64::from(u16::MAX))?.filter(|port| *port > 0);
        let secure_address = self.text("secureClientPortAddress")?.map(str::to_owned);
        if secure_address.is_some() && secure.is_none() {
            return Err(ConfigError::Conflict(
                "secureClientPortAddress is set but secureClientPort is not set",
            ));
        }
        let at_least_one = |value: i64| u32::try_from(value).ok().filter(|value| *value > 0);
        Ok(ClientPort {
            address,
            port: port.and_then(|port| u16::try_from(port).ok()),
            secure_address,
            secure_port: secure.and_then(|port| u16::try_from(port).ok()),
            listen_backlog: self.number("clientPortListenBacklog", FROM_MINUS_ONE)?.and_then(at_least_one),
            per_address_max: match self.number("maxClientCnxns", FROM_MINUS_ONE)? {
                Some(value) => at_least_one(value),
                None => defaults.per_address_max,
            },
            connections_max: self.number("maxCnxns", FROM_MINUS_ONE)?.and_then(at_least_one),
            tcp_keep_alive: self.flag("clientTcpKeepAlive", defaults.tcp_keep_alive)?,
        })
    }

    fn timing(&mut self, defaults: Timing) -> Result<Timing, ConfigError> {
        let tick_ms = self.number_or("tickTime", TICK, defaults.tick_ms)?;
        // -1 is how Apache itself writes "not set" for these two.
        let min = self.timeout("minSessionTimeout")?.unwrap_or(tick_ms * 2);
        let max = self.timeout("maxSessionTimeout")?.unwrap_or(tick_ms * 20);
        if min > max {
            return Err(ConfigError::TimeoutsCrossed { min_ms: min, max_ms: max });
        }
        let ticks = |value: i64| u32::try_from(value).ok();
        Ok(Timing {
            tick_ms,
            min_session_ms: min,
            max_session_ms: max,
            init_limit: self.number("initLimit", POSITIVE)?.and_then(ticks),
            sync_limit: self.number("syncLimit", POSITIVE)?.and_then(ticks),
            leader_silence_ms: self.number_or("leaderSilenceMs", SILENCE, defaults.leader_silence_ms)?,
        })
    }

    fn timeout(&mut self, key: &'static str) -> Result<Option<i32>, ConfigError> {
        match self.number(key, FROM_MINUS_ONE)? {
            Some(0) => Err(self.invalid(key, Reason::OutOfRange { min: 1, max: *POSITIVE.end() })),
            value => Ok(value.and_then(|value| i32::try_from(value).ok()).filter(|value| *value > 0)),
        }
    }

    fn storage(&mut self, defaults: StorageOptions) -> Result<StorageOptions, ConfigError> {
        let bound = |value: Option<i64>, default: Option<u64>| match value {
            Some(value) => u64::try_from(value).ok().filter(|value| *value > 0),
            None => default,
        };
        Ok(StorageOptions {
            snap_count: self.at_least("snapCount", 2, defaults.snap_count)?,
            snap_size_limit_kib: bound(self.number("snapSizeLimitInKb", KIB)?, defaults.snap_size_limit_kib),
            log_size_limit_kib: bound(self.number("txnLogSizeLimitInKb", KIB)?, defaults.log_size_limit_kib),
            pre_alloc_kib: self.number_or("preAllocSize", FROM_ZERO, defaults.pre_alloc_kib)?,
            force_sync: self.yes_no("forceSync", defaults.force_sync)?,
            flush_delay_ms: self.number_or("flushDelay", FROM_ZERO, defaults.flush_delay_ms)?,
            batch_max: self.number_or("maxBatchSize", POSITIVE, defaults.batch_max)?,
            fsync_warning_ms: self.number_or(
                "fsync.warningthresholdms",
                FROM_ZERO,
                defaults.fsync_warning_ms,
            )?,
            compression: match self.raw("snapshot.compression.method") {
                None | Some("") => Compression::None,
                Some("gz") => Compression::Gzip,
                Some("snappy") => Compression::Snappy,
                Some(_) => {
                    let choose = Reason::Choose("gz, snappy, or nothing for plain snapshots");
                    return Err(self.invalid("snapshot.compression.method", choose));
                }
            },
            trust_empty_snapshot: self.flag("snapshot.trust.empty", defaults.trust_empty_snapshot)?,
            digest: self.flag("digest.enabled", defaults.digest)?,
        })
    }

    fn purge(&mut self, defaults: Purge) -> Result<Purge, ConfigError> {
        const KEY: &str = "autopurge.purgeInterval";
        let interval = match self.text(KEY)? {
            None => defaults.interval,
            Some(text) => interval(text).ok_or_else(|| self.invalid(KEY, Reason::NotAnInterval))?,
        };
        Ok(Purge { retain: self.at_least("autopurge.snapRetainCount", 3, defaults.retain)?, interval })
    }

    fn limits(&mut self, defaults: RequestLimits) -> Result<RequestLimits, ConfigError> {
        /// Less than this does not hold the largest records of the protocol itself.
        const REQUEST_BYTES_MIN: i64 = 1024;
        let bytes = REQUEST_BYTES_MIN..=i64::from(i32::MAX);
        let request_bytes_max = self.number_or("jute.maxbuffer", bytes, defaults.request_bytes_max)?;
        let reply_bytes_max: u32 = self.number_or("replyBytesMax", FROM_ZERO, 0)?;
        if (1..REQUEST_BYTES_MIN).contains(&reply_bytes_max.into()) {
            let least = Reason::OutOfRange { min: REQUEST_BYTES_MIN, max: i32::MAX.into() };
            return Err(self.invalid("replyBytesMax", least));
        }
        Ok(RequestLimits {
            outstanding_max: self.number_or("globalOutstandingLimit", POSITIVE, defaults.outstanding_max)?,
            handshakes: self.handshakes(defaults.handshakes)?,
            request_bytes_max,
            reply_bytes_max: (reply_bytes_max > 0).then_some(reply_bytes_max),
            delete_recursive_max: self.number_or(
                "deleteRecursiveMax",
                FROM_ZERO,
                defaults.delete_recursive_max,
            )?,
        })
    }

    fn handshakes(&self, defaults: ThrottleOptions) -> Result<ThrottleOptions, ConfigError> {
        let freeze_ms = self.number("connection_throttle_freeze_time", FROM_MINUS_ONE)?;
        Ok(ThrottleOptions {
            tokens: self.number_or("connection_throttle_tokens", FROM_ZERO, defaults.tokens)?,
            fill_ms: self.number_or("connection_throttle_fill_time", POSITIVE, defaults.fill_ms)?,
            fill_count: self.number_or("connection_throttle_fill_count", POSITIVE, defaults.fill_count)?,
            freeze_ms: freeze_ms.and_then(|ms| u32::try_from(ms).ok()),
            drop_increase: self.share("connection_throttle_drop_increase", defaults.drop_increase)?,
            drop_decrease: self.share("connection_throttle_drop_decrease", defaults.drop_decrease)?,
            decrease_ratio: self.share("connection_throttle_decrease_ratio", defaults.decrease_ratio)?,
            weighted: self.flag("connection_throttle_weight_enabled", defaults.weighted)?,
        })
    }

    /// A share from 0 to 1.
    fn share(&self, key: &'static str, default: f64) -> Result<f64, ConfigError> {
        match self.raw(key) {
            None => Ok(default),
            Some(text) => match text.parse::<f64>() {
                Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
                _ => Err(self.invalid(key, Reason::Choose("a number from 0 to 1"))),
            },
        }
    }

    fn sessions(&mut self) -> Result<SessionOptions, ConfigError> {
        Ok(SessionOptions {
            local: self.flag("localSessionsEnabled", false)?,
            local_upgrading: self.flag("localSessionsUpgradingEnabled", false)?,
            read_only_mode: self.flag("readonlymode.enabled", false)?,
        })
    }

    fn access(&mut self, security: &Security) -> Result<Access, ConfigError> {
        let mut words = Whitelist::default();
        if let Some(text) = self.raw("4lw.commands.whitelist") {
            let unknown;
            (words, unknown) = Whitelist::parse(text);
            self.warnings.extend(unknown.into_iter().map(Warning::UnknownWord));
        }
        if self.flag("readonlymode.enabled", false)? {
            // Clients that look for a writable server ask with this word.
            words.allow(FourLetterWord::Isro);
        }
        const ALGORITHM: &str = "DigestAuthenticationProvider.digestAlg";
        let digest_algorithm = match self.raw(ALGORITHM) {
            None => DigestAlgorithm::default(),
            Some(name) => DigestAlgorithm::from_name(name).ok_or_else(|| {
                self.invalid(ALGORITHM, Reason::Choose("SHA1, SHA-256, SHA-384 or SHA-512"))
            })?,
        };
        Ok(Access {
            digest_algorithm,
            skip_acl: self.yes_no("skipACL", false)?,
            super_digest: self.text("DigestAuthenticationProvider.superDigest")?.map(str::to_owned),
            enforced_schemes: self.enforced_schemes(security)?,
            four_letter_words: words,
        })
    }

    fn nodes(&mut self, defaults: NodeOptions) -> Result<NodeOptions, ConfigError> {
        let never_used = self.number("znode.container.maxNeverUsedIntervalMs", FROM_ZERO)?;
        Ok(NodeOptions {
            extended_types: self.flag("extendedTypesEnabled", defaults.extended_types)?,
            enforce_quota: self.flag("enforceQuota", defaults.enforce_quota)?,
            sweep_interval_ms: self.number_or(
                "znode.container.checkIntervalMs",
                POSITIVE,
                defaults.sweep_interval_ms,
            )?,
            swept_per_minute_max: self.number_or(
                "znode.container.maxPerMinute",
                POSITIVE,
                defaults.swept_per_minute_max,
            )?,
            never_used_max_ms: never_used.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0),
        })
    }

    fn ensemble(&mut self) -> Result<Ensemble, ConfigError> {
        let mut ensemble = Ensemble::default();
        if self.number("electionAlg", i64::MIN..=i64::MAX)?.is_some_and(|algorithm| algorithm != 3) {
            return Err(self.invalid("electionAlg", Reason::Choose("3, the only one that is supported")));
        }
        if let Some(text) = self.raw("peerType") {
            ensemble.peer_type =
                text.parse().map_err(|error: MemberError| self.invalid("peerType", error.into()))?;
        }
        ensemble.standalone_enabled = self.flag("standaloneEnabled", true)?;
        ensemble.dynamic_config_file = self.path("dynamicConfigFile")?;
        ensemble.listen_on_all = self.flag("quorumListenOnAllIPs", false)?;
        ensemble.bind_attempts =
            self.number_or("electionPortBindRetry", FROM_ZERO, ensemble.bind_attempts)?;
        ensemble.leader_serves = self.yes_no("leaderServes", true)?;
        ensemble.reconfig_enabled = self.flag("reconfigEnabled", false)?;
        ensemble.version = ensemble.dynamic_config_file.as_deref().map_or(0, version_of);
        self.members(&mut ensemble)?;
        Ok(ensemble)
    }

    fn members(&mut self, ensemble: &mut Ensemble) -> Result<(), ConfigError> {
        for entry in self.entries.values() {
            let wrong = |error: MemberError| invalid(entry, error.into());
            if let Some(id) = entry.key.strip_prefix("server.") {
                let id = ServerId(members::number(id).map_err(wrong)?);
                ensemble.members.insert(id, entry.value.parse::<Member>().map_err(wrong)?);
            } else if let Some(id) = entry.key.strip_prefix("group.") {
                let id = members::number(id).map_err(wrong)?;
                ensemble.groups.insert(id, members::group(&entry.value).map_err(wrong)?);
            } else if let Some(id) = entry.key.strip_prefix("weight.") {
                let id = ServerId(members::number(id).map_err(wrong)?);
                ensemble.weights.insert(id, members::number(&entry.value).map_err(wrong)?);
            }
        }
        Ok(())
    }

    pub(super) fn raw(&self, key: &str) -> Option<&'a str> {
        self.entries.get(key).map(|entry| entry.value.as_str())
    }

    pub(super) fn invalid(&self, key: &'static str, reason: Reason) -> ConfigError {
        match self.entries.get(key) {
            Some(entry) => invalid(entry, reason),
            None => ConfigError::Missing { key, why: "it has no usable default" },
        }
    }

    /// A value that must not be empty if it is there.
    pub(super) fn text(&self, key: &'static str) -> Result<Option<&'a str>, ConfigError> {
        match self.raw(key) {
            Some("") => Err(self.invalid(key, Reason::Empty)),
            other => Ok(other),
        }
    }

    pub(super) fn path(&mut self, key: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        if !text.starts_with('/') && !text.starts_with("./") {
            self.warnings.push(Warning::RelativePath { key, path: text.to_owned() });
        }
        Ok(Some(PathBuf::from(text)))
    }

    fn number(&self, key: &'static str, range: RangeInclusive<i64>) -> Result<Option<i64>, ConfigError> {
        let Some(text) = self.raw(key) else { return Ok(None) };
        let value = integer(text).ok_or_else(|| self.invalid(key, Reason::NotANumber))?;
        if !range.contains(&value) {
            let reason = Reason::OutOfRange { min: *range.start(), max: *range.end() };
            return Err(self.invalid(key, reason));
        }
        Ok(Some(value))
    }

    fn number_or<T: TryFrom<i64>>(
        &self,
        key: &'static str,
        range: RangeInclusive<i64>,
        default: T,
    ) -> Result<T, ConfigError> {
        let reason = Reason::OutOfRange { min: *range.start(), max: *range.end() };
        match self.number(key, range)? {
            None => Ok(default),
            Some(value) => T::try_from(value).map_err(|_| self.invalid(key, reason)),
        }
    }

    /// A number that is raised to the smallest that works, with a warning, as Apache does.
    fn at_least(&mut self, key: &'static str, least: u32, default: u32) -> Result<u32, ConfigError> {
        let given = self.number(key, i64::from(i32::MIN)..=i64::from(i32::MAX))?;
        let Some(given) = given else { return Ok(default) };
        if given < i64::from(least) {
            self.warnings.push(Warning::Raised { key, given, used: i64::from(least) });
        }
        Ok(u32::try_from(given).unwrap_or(least).max(least))
    }

    pub(super) fn flag(&self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        match self.raw(key) {
            None => Ok(default),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(self.invalid(key, Reason::TrueOrFalse)),
        }
    }

    /// The older switches. Apache compares them with capitals, so another spelling would mean something else to it.
    fn yes_no(&self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        match self.raw(key) {
            None => Ok(default),
            Some("yes") => Ok(true),
            Some("no") => Ok(false),
            Some(_) => Err(self.invalid(key, Reason::YesOrNo)),
        }
    }
}

pub(super) fn invalid(entry: &Entry, reason: Reason) -> ConfigError {
    ConfigError::Value { key: entry.key.clone(), line: entry.line, value: entry.value.clone(), reason }
}

fn unknown(key: String, line: usize) -> Warning {
    if let Some(bare) = key.strip_prefix("zookeeper.").filter(|bare| keys::find(bare).is_some()) {
        return Warning::Prefixed { key: bare.to_owned(), line };
    }
    let nearest = keys::nearest(&key);
    Warning::Unknown { key, line, nearest }
}

/// Whether a key that is not acted on asks for what happens anyway.
fn same_value(given: &str, acts_as: &str) -> bool {
    !acts_as.is_empty() && given.eq_ignore_ascii_case(acts_as)
}

/// A decimal number, or one with `0x` in front, which Apache reads in its properties.
fn integer(text: &str) -> Option<i64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if !hex.starts_with(['+', '-']) => i64::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None => text.parse().ok(),
    }
}

/// A number of hours, or a number with its unit. The outer `None` is a mistake, the inner one stands for "never".
fn interval(text: &str) -> Option<Option<Duration>> {
    /// Longer than any server runs; it keeps the arithmetic away from its end.
    const MILLIS_MAX: i64 = 1000 * 86_400_000;
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "" | "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let millis =
        number.trim().parse::<i64>().ok()?.checked_mul(unit_ms).filter(|millis| *millis <= MILLIS_MAX)?;
    Some(u64::try_from(millis).ok().filter(|millis| *millis > 0).map(Duration::from_millis))
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
