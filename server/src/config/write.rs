//! A [`Config`] as a `zoo.cfg` that means the same, to Apache's server too where both know the key.

use std::fmt;

use super::properties::Properties;
use super::{Access, ClientPort, Compression, Config, Ensemble, NodeOptions, StorageOptions};
use crate::node::ThrottleOptions;

/// Every value is written, defaults too, so that the text says what the server does. The bytes depend on nothing but
/// the values.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Properties::default();
        out.push("dataDir", self.data_dir.display());
        out.push("dataLogDir", self.data_log_dir.display());
        client(&mut out, &self.client);
        out.push("tickTime", self.timing.tick_ms);
        out.push("minSessionTimeout", self.timing.min_session_ms);
        out.push("maxSessionTimeout", self.timing.max_session_ms);
        optional(&mut out, "initLimit", self.timing.init_limit);
        optional(&mut out, "syncLimit", self.timing.sync_limit);
        out.push("leaderSilenceMs", self.timing.leader_silence_ms);
        storage(&mut out, &self.storage);
        out.push("autopurge.snapRetainCount", self.purge.retain);
        match self.purge.interval {
            None => out.push("autopurge.purgeInterval", 0),
            Some(interval) if interval.as_millis() % 3_600_000 == 0 => {
                out.push("autopurge.purgeInterval", interval.as_millis() / 3_600_000);
            }
            Some(interval) => out.push("autopurge.purgeInterval", format_args!("{}ms", interval.as_millis())),
        }
        out.push("globalOutstandingLimit", self.limits.outstanding_max);
        handshakes(&mut out, &self.limits.handshakes);
        out.push("jute.maxbuffer", self.limits.request_bytes_max);
        out.push("replyBytesMax", self.limits.reply_bytes_max.unwrap_or(0));
        out.push("deleteRecursiveMax", self.limits.delete_recursive_max);
        access(&mut out, &self.access);
        super::security::write(&mut out, &self.security);
        nodes(&mut out, &self.nodes);
        out.push("localSessionsEnabled", self.sessions.local);
        out.push("localSessionsUpgradingEnabled", self.sessions.local_upgrading);
        out.push("readonlymode.enabled", self.sessions.read_only_mode);
        ensemble(&mut out, &self.ensemble);
        out.fmt(f)
    }
}

fn optional(out: &mut Properties, key: &str, value: Option<impl fmt::Display>) {
    if let Some(value) = value {
        out.push(key, value);
    }
}

fn client(out: &mut Properties, client: &ClientPort) {
    optional(out, "clientPort", client.port);
    optional(out, "clientPortAddress", client.address.as_ref());
    optional(out, "secureClientPort", client.secure_port);
    optional(out, "secureClientPortAddress", client.secure_address.as_ref());
    optional(out, "clientPortListenBacklog", client.listen_backlog);
    out.push("maxClientCnxns", client.per_address_max.unwrap_or(0));
    out.push("maxCnxns", client.connections_max.unwrap_or(0));
    out.push("clientTcpKeepAlive", client.tcp_keep_alive);
}

fn handshakes(out: &mut Properties, handshakes: &ThrottleOptions) {
    out.push("connection_throttle_tokens", handshakes.tokens);
    out.push("connection_throttle_fill_time", handshakes.fill_ms);
    out.push("connection_throttle_fill_count", handshakes.fill_count);
    out.push("connection_throttle_freeze_time", handshakes.freeze_ms.map_or(-1, i64::from));
    out.push("connection_throttle_drop_increase", handshakes.drop_increase);
    out.push("connection_throttle_drop_decrease", handshakes.drop_decrease);
    out.push("connection_throttle_decrease_ratio", handshakes.decrease_ratio);
    out.push("connection_throttle_weight_enabled", handshakes.weighted);
}

fn storage(out: &mut Properties, storage: &StorageOptions) {
    out.push("snapCount", storage.snap_count);
    out.push("snapSizeLimitInKb", storage.snap_size_limit_kib.unwrap_or(0));
    out.push("txnLogSizeLimitInKb", storage.log_size_limit_kib.map_or(-1, u64::cast_signed));
    out.push("preAllocSize", storage.pre_alloc_kib);
    out.push("forceSync", yes_no(storage.force_sync));
    out.push("flushDelay", storage.flush_delay_ms);
    out.push("maxBatchSize", storage.batch_max);
    out.push("fsync.warningthresholdms", storage.fsync_warning_ms);
    match storage.compression {
        Compression::None => {}
        Compression::Gzip => out.push("snapshot.compression.method", "gz"),
        Compression::Snappy => out.push("snapshot.compression.method", "snappy"),
    }
    out.push("snapshot.trust.empty", storage.trust_empty_snapshot);
    out.push("digest.enabled", storage.digest);
}

fn access(out: &mut Properties, access: &Access) {
    out.push("4lw.commands.whitelist", &access.four_letter_words);
    out.push("skipACL", yes_no(access.skip_acl));
    optional(out, "DigestAuthenticationProvider.superDigest", access.super_digest.as_ref());
    out.push("DigestAuthenticationProvider.digestAlg", access.digest_algorithm.name());
    out.push("enforce.auth.enabled", access.enforced_schemes.is_some());
    optional(out, "enforce.auth.schemes", access.enforced_schemes.as_ref().map(|schemes| schemes.join(",")));
}

fn nodes(out: &mut Properties, nodes: &NodeOptions) {
    out.push("extendedTypesEnabled", nodes.extended_types);
    out.push("enforceQuota", nodes.enforce_quota);
    out.push("znode.container.checkIntervalMs", nodes.sweep_interval_ms);
    out.push("znode.container.maxPerMinute", nodes.swept_per_minute_max);
    out.push("znode.container.maxNeverUsedIntervalMs", nodes.never_used_max_ms.unwrap_or(0));
}

fn ensemble(out: &mut Properties, ensemble: &Ensemble) {
    out.push("electionAlg", 3);
    out.push("peerType", ensemble.peer_type);
    out.push("standaloneEnabled", ensemble.standalone_enabled);
    out.push("quorumListenOnAllIPs", ensemble.listen_on_all);
    out.push("electionPortBindRetry", ensemble.bind_attempts);
    out.push("leaderServes", yes_no(ensemble.leader_serves));
    out.push("reconfigEnabled", ensemble.reconfig_enabled);
    if let Some(file) = &ensemble.dynamic_config_file {
        // The members are in that file, and Apache refuses to find them in both.
        out.push("dynamicConfigFile", file.display());
        return;
    }
    for (id, member) in &ensemble.members {
        out.push(format!("server.{id}"), member);
    }
    for (id, members) in &ensemble.groups {
        let members: Vec<String> = members.iter().map(ToString::to_string).collect();
        out.push(format!("group.{id}"), members.join(":"));
    }
    for (id, weight) in &ensemble.weights {
        out.push(format!("weight.{id}"), weight);
    }
}

fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}
