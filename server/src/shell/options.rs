//! From a configuration to what a start needs.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use super::ensemble::Membership;
use super::facts::Facts;
use super::start::{Listen, Options, StartError};
use crate::config::{Compression as Named, Config};
use crate::limits::Sizes;
use crate::net::PortLimits;
use crate::node::access::Schemes;
use crate::node::{Logins, NodeConfig, Rules, Serving};
use crate::storage::{Compression, LogOptions, RecoverOptions, WriterOptions};
use crate::zab::PeerId;

/// Connections that the kernel holds until we accept them, where the configuration does not say.
const DEFAULT_BACKLOG: u32 = 1_024;

impl Options {
    /// What this configuration asks for. `listen` is where clients connect, names looked up; `membership` is this
    /// server's place in its ensemble, if it has one; `logins` is what [`read_logins`] found.
    pub(crate) fn of(
        config: &Config,
        listen: Listen,
        membership: Option<Membership>,
        logins: Logins,
    ) -> Self {
        let storage = &config.storage;
        Options {
            data_dir: config.data_dir.clone(),
            data_log_dir: (config.data_log_dir != config.data_dir).then(|| config.data_log_dir.clone()),
            listen,
            backlog: config.client.listen_backlog.unwrap_or(DEFAULT_BACKLOG),
            port: PortLimits {
                per_address: config.client.per_address_max.unwrap_or(0) as usize,
                total: config.client.connections_max.unwrap_or(0) as usize,
                max_frame: config.limits.request_bytes_max as usize,
                keep_alive: config.client.tcp_keep_alive,
                in_work: in_work_max(config),
            },
            node: node_config(config, membership.as_ref(), logins),
            writer: WriterOptions {
                log: LogOptions {
                    prealloc_bytes: storage.pre_alloc_kib << 10,
                    size_limit_bytes: storage.log_size_limit_kib.map(|kib| kib << 10),
                    force_sync: storage.force_sync,
                    ..LogOptions::default()
                },
                compression: match storage.compression {
                    Named::None => Compression::None,
                    Named::Gzip => Compression::Gzip,
                    Named::Snappy => Compression::Snappy,
                },
                ..WriterOptions::default()
            },
            recover: RecoverOptions {
                trust_empty_snapshot: storage.trust_empty_snapshot,
                ..RecoverOptions::default()
            },
            purge: config.purge.interval.map(|every: Duration| (every, config.purge.retain as usize)),
            facts: Facts::of(config, membership.as_ref()),
            membership,
        }
    }
}

/// Who may log in: SASL's users out of their file, and the chance that challenges are made of. Blocks.
pub(crate) fn read_logins(config: &Config) -> Result<Logins, StartError> {
    let sasl_users = config.sasl_users()?;
    let mut nonce_key = [0; 32];
    if sasl_users.is_some() {
        File::open("/dev/urandom")?.read_exact(&mut nonce_key)?;
    }
    let security = &config.security;
    Ok(Logins {
        sasl_users,
        sasl_super_users: security.sasl_super_users.clone(),
        keep_refused: security.keep_refused,
        nonce_key,
        x509_super_user: security.x509_super_user.clone(),
    })
}

/// As Apache divides it: what a server's clients have in work, the leader has too.
fn in_work_max(config: &Config) -> usize {
    let voters = config.ensemble.voters();
    let share = if voters > 2 { voters - 1 } else { 1 };
    (config.limits.outstanding_max as usize / share).max(1)
}

fn node_config(config: &Config, membership: Option<&Membership>, logins: Logins) -> NodeConfig {
    NodeConfig {
        me: membership.map_or(PeerId(0), |membership| membership.roster.me),
        ensemble: membership.map(|membership| membership.node.clone()),
        tick_ms: config.timing.tick_ms.into(),
        min_session_timeout_ms: config.timing.min_session_ms,
        max_session_timeout_ms: config.timing.max_session_ms,
        rules: Rules {
            skip_acl: config.access.skip_acl,
            extended_types: config.nodes.extended_types,
            enforce_quota: config.nodes.enforce_quota,
            reconfig: config.ensemble.reconfig_enabled,
            schemes: Schemes { sasl: config.security.sasl, x509: config.security.x509 },
            recursive_delete_max: config.limits.delete_recursive_max as usize,
        },
        serving: Serving {
            reply_bytes_max: config.limits.reply_bytes_max.map_or(usize::MAX, |bytes| bytes as usize),
            local_sessions: config.sessions.local,
            local_upgrading: config.sessions.local_upgrading,
            throttle: config.limits.handshakes,
            digest_algorithm: config.access.digest_algorithm,
        },
        super_digest: config.access.super_digest.clone(),
        enforced_schemes: config.access.enforced_schemes.clone(),
        logins,
        digest: config.storage.digest,
        snap_count: config.storage.snap_count.into(),
        snap_bytes: config.storage.snap_size_limit_kib.map_or(u64::MAX / 2, |kib| kib << 10),
        sweep_interval_ms: config.nodes.sweep_interval_ms as i64,
        sweep_max: config.nodes.swept_per_minute_max as usize,
        seed: fastrand::u64(..),
        sizes: Sizes::default(),
    }
}
