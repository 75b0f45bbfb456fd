//! Answers about the server itself.

use docent::Zxid;

use super::facts::{
    ConfFacts, ConnectionFacts, DirectoryFacts, EnvironmentFacts, Metric, Mode, ProposalSizes, ServerFacts,
    Value,
};
use super::java_text;
use super::listings::{connection, put};

/// What Java prints for a property that it does not have.
const NOT_AVAILABLE: &str = "<NA>";

/// `srvr`: the server in short.
#[must_use]
pub fn srvr(facts: &ServerFacts) -> String {
    let mut out = head(facts);
    numbers(&mut out, facts);
    out
}

/// `stat`: `srvr` with the connections.
#[must_use]
pub fn stat(facts: &ServerFacts, connections: &[ConnectionFacts]) -> String {
    let mut out = head(facts);
    out.push_str("Clients:\n");
    for facts in connections {
        connection(&mut out, facts, false);
    }
    out.push('\n');
    numbers(&mut out, facts);
    out
}

fn head(facts: &ServerFacts) -> String {
    let mut out = format!("Zookeeper version: {}\n", facts.version);
    if facts.mode == Mode::ReadOnly {
        out.push_str("READ-ONLY mode; serving only read-only clients\n");
    }
    out
}

fn numbers(out: &mut String, facts: &ServerFacts) {
    let (latency, avg) = (facts.latency, java_text::double(facts.latency.avg));
    put(out, format_args!("Latency min/avg/max: {}/{avg}/{}\n", latency.min, latency.max));
    put(out, format_args!("Received: {}\nSent: {}\n", facts.received, facts.sent));
    put(out, format_args!("Connections: {}\nOutstanding: {}\n", facts.connections, facts.outstanding));
    put(out, format_args!("Zxid: {}\nMode: {}\n", facts.zxid, facts.mode.as_str()));
    put(out, format_args!("Node count: {}\n", facts.node_count));
    if let Some(ProposalSizes { last, min, max }) = facts.proposal_sizes {
        put(out, format_args!("Proposal sizes last/min/max: {last}/{min}/{max}\n"));
    }
}

/// `conf`: the configuration as it is in force.
#[must_use]
pub fn conf(facts: &ConfFacts) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: &dyn std::fmt::Display| put(&mut out, format_args!("{key}={value}\n"));
    line("clientPort", &facts.client_port);
    line("secureClientPort", &facts.secure_client_port);
    line("dataDir", &facts.data_dir.display());
    line("dataDirSize", &facts.sizes.data_bytes);
    line("dataLogDir", &facts.data_log_dir.display());
    line("dataLogSize", &facts.sizes.log_bytes);
    line("tickTime", &facts.tick_ms);
    line("maxClientCnxns", &facts.max_client_cnxns);
    line("minSessionTimeout", &facts.min_session_ms);
    line("maxSessionTimeout", &facts.max_session_ms);
    line("clientPortListenBacklog", &facts.listen_backlog);
    line("serverId", &facts.server_id);
    let Some(ensemble) = &facts.ensemble else { return out };
    line("initLimit", &ensemble.init_limit);
    line("syncLimit", &ensemble.sync_limit);
    line("electionAlg", &3);
    line("electionPort", &ensemble.election_port);
    line("quorumPort", &ensemble.quorum_port);
    line("peerType", &u8::from(ensemble.observer));
    // A space behind the colon, and no end of the last line: so it is in Apache's answer.
    put(&mut out, format_args!("membership: \n{}", ensemble.membership));
    out
}

/// `dirs`: how much the directories hold.
#[must_use]
pub fn dirs(facts: &DirectoryFacts) -> String {
    format!("datadir_size: {}\nlogdir_size: {}\n", facts.data_bytes, facts.log_bytes)
}

/// `envi`: the process and its machine.
#[must_use]
pub fn envi(facts: &EnvironmentFacts) -> String {
    let mut out = String::from("Environment:\n");
    let mut line = |key: &str, value: &str| put(&mut out, format_args!("{key}={value}\n"));
    line("zookeeper.version", &facts.version);
    line("host.name", &facts.host_name);
    line("java.version", NOT_AVAILABLE);
    line("java.vendor", NOT_AVAILABLE);
    line("java.home", NOT_AVAILABLE);
    line("java.class.path", NOT_AVAILABLE);
    line("java.library.path", NOT_AVAILABLE);
    line("java.io.tmpdir", &facts.temp_dir);
    line("java.compiler", NOT_AVAILABLE);
    line("os.name", &facts.os_name);
    line("os.arch", &facts.os_arch);
    line("os.version", &facts.os_version);
    line("user.name", &facts.user_name);
    line("user.home", &facts.user_home);
    line("user.dir", &facts.user_dir);
    line("os.memory.free", &format!("{}MB", facts.memory.free_mib));
    line("os.memory.max", &format!("{}MB", facts.memory.max_mib));
    line("os.memory.total", &format!("{}MB", facts.memory.total_mib));
    out
}

/// `mntr`: every value that the server really has, in the order given.
#[must_use]
pub fn mntr(version: &str, mode: Mode, metrics: &[Metric]) -> String {
    let mut out = format!("zk_version\t{version}\nzk_server_state\t{}\n", mode.as_str());
    for Metric { key, value } in metrics {
        match value {
            Value::Count(count) => put(&mut out, format_args!("zk_{key}\t{count}\n")),
            Value::Mean(mean) => put(&mut out, format_args!("zk_{key}\t{}\n", java_text::double(*mean))),
            Value::Text(text) => put(&mut out, format_args!("zk_{key}\t{text}\n")),
        }
    }
    out
}

/// `hash`: recent digests of the tree, oldest first. Digests are printed as Java's signed numbers.
#[must_use]
pub fn hash(digests: &[(Zxid, u64)]) -> String {
    let mut out = String::new();
    for (zxid, digest) in digests {
        put(&mut out, format_args!("{zxid:x}: {}\n", digest.cast_signed()));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::facts::{EnsembleConf, Latency, MemoryFacts};
    use super::*;

    fn standalone() -> ServerFacts {
        ServerFacts {
            version: "3.8.0-5a02a05eddb59aee6ac762f7ea82e92a68eb9c0f, built on 2022-02-25 08:49 UTC".into(),
            mode: Mode::Standalone,
            latency: Latency { min: 0, avg: 1.6258, max: 36 },
            received: 185,
            sent: 201,
            connections: 3,
            outstanding: 0,
            zxid: Zxid(0x51),
            node_count: 18,
            proposal_sizes: None,
        }
    }

    // The samples of this file are answers of Apache's server 3.8.0.

    #[test]
    fn srvr_is_apaches() {
        let expected = "\
Zookeeper version: 3.8.0-5a02a05eddb59aee6ac762f7ea82e92a68eb9c0f, built on 2022-02-25 08:49 UTC
Latency min/avg/max: 0/1.6258/36
Received: 185
Sent: 201
Connections: 3
Outstanding: 0
Zxid: 0x51
Mode: standalone
Node count: 18
";
        assert_eq!(srvr(&standalone()), expected);
    }

    #[test]
    fn a_leader_adds_proposals_and_a_read_only_server_a_line() {
        let sizes = Some(ProposalSizes { last: 86, min: 48, max: 86 });
        let leader = srvr(&ServerFacts { mode: Mode::Leader, proposal_sizes: sizes, ..standalone() });
        assert!(leader.ends_with("Mode: leader\nNode count: 18\nProposal sizes last/min/max: 86/48/86\n"));
        let read_only = srvr(&ServerFacts { mode: Mode::ReadOnly, ..standalone() });
        assert!(read_only.contains("UTC\nREAD-ONLY mode; serving only read-only clients\nLatency"));
        assert!(read_only.contains("\nMode: read-only\n"));
    }

    #[test]
    fn stat_is_apaches() {
        let connection = |port, interest_ops, received, sent| ConnectionFacts {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            interest_ops,
            queued: 0,
            received,
            sent,
            session: None,
        };
        let facts = ServerFacts {
            version: "3.8.0-${mvngit.commit.id}, built on 2024-12-29 17:54 UTC".into(),
            latency: Latency { min: 1, avg: 7.0, max: 21 },
            received: 14,
            sent: 13,
            connections: 2,
            zxid: Zxid(2),
            node_count: 6,
            ..standalone()
        };
        let expected = "\
Zookeeper version: 3.8.0-${mvngit.commit.id}, built on 2024-12-29 17:54 UTC
Clients:
 /127.0.0.1:34476[0](queued=0,recved=1,sent=0)
 /127.0.0.1:34390[1](queued=0,recved=5,sent=5)

Latency min/avg/max: 1/7.0/21
Received: 14
Sent: 13
Connections: 2
Outstanding: 0
Zxid: 0x2
Mode: standalone
Node count: 6
";
        assert_eq!(stat(&facts, &[connection(34476, 0, 1, 0), connection(34390, 1, 5, 5)]), expected);
    }

    fn conf_facts() -> ConfFacts {
        ConfFacts {
            client_port: 21811,
            secure_client_port: -1,
            data_dir: "/data/version-2".into(),
            data_log_dir: "/data/version-2".into(),
            sizes: DirectoryFacts { data_bytes: 67_109_337, log_bytes: 67_109_337 },
            tick_ms: 2000,
            max_client_cnxns: 60,
            min_session_ms: 4000,
            max_session_ms: 40_000,
            listen_backlog: -1,
            server_id: 0,
            ensemble: None,
        }
    }

    const CONF_STANDALONE: &str = "\
clientPort=21811
secureClientPort=-1
dataDir=/data/version-2
dataDirSize=67109337
dataLogDir=/data/version-2
dataLogSize=67109337
tickTime=2000
maxClientCnxns=60
minSessionTimeout=4000
maxSessionTimeout=40000
clientPortListenBacklog=-1
serverId=0
";

    #[test]
    fn conf_is_apaches() {
        assert_eq!(conf(&conf_facts()), CONF_STANDALONE);
        let membership = "server.1=127.0.0.1:38711:38721:participant;127.0.0.1:21815\nversion=100000009";
        let ensemble = Some(EnsembleConf {
            init_limit: 10,
            sync_limit: 5,
            election_port: 38723,
            quorum_port: 38713,
            observer: false,
            membership: membership.into(),
        });
        let expected = format!(
            "{CONF_STANDALONE}initLimit=10\nsyncLimit=5\nelectionAlg=3\nelectionPort=38723\nquorumPort=38713\n\
             peerType=0\nmembership: \n{membership}"
        );
        assert_eq!(conf(&ConfFacts { ensemble, ..conf_facts() }), expected);
    }

    #[test]
    fn dirs_and_hash_are_apaches() {
        let facts = DirectoryFacts { data_bytes: 67_109_337, log_bytes: 5 };
        assert_eq!(dirs(&facts), "datadir_size: 67109337\nlogdir_size: 5\n");
        assert_eq!(hash(&[]), "");
        assert_eq!(
            hash(&[(Zxid(0x80), 1371985504), (Zxid(0x1_0000_0000), u64::MAX)]),
            "80: 1371985504\n100000000: -1\n"
        );
    }

    #[test]
    fn envi_has_apaches_keys_in_their_order() {
        let facts = EnvironmentFacts {
            version: super::super::full_version(),
            host_name: "localhost".into(),
            temp_dir: "/tmp".into(),
            os_name: "Linux".into(),
            os_arch: "amd64".into(),
            os_version: "6.1".into(),
            user_name: "zk".into(),
            user_home: "/home/zk".into(),
            user_dir: "/".into(),
            memory: MemoryFacts { free_mib: 378, max_mib: 6028, total_mib: 388 },
        };
        let text = envi(&facts);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("Environment:"));
        let keys: Vec<&str> = lines.filter_map(|line| line.split_once('=')).map(|(key, _)| key).collect();
        let expected = [
            "zookeeper.version",
            "host.name",
            "java.version",
            "java.vendor",
            "java.home",
            "java.class.path",
            "java.library.path",
            "java.io.tmpdir",
            "java.compiler",
            "os.name",
            "os.arch",
            "os.version",
            "user.name",
            "user.home",
            "user.dir",
            "os.memory.free",
            "os.memory.max",
            "os.memory.total",
        ];
        assert_eq!(keys, expected);
        assert!(text.ends_with("os.memory.free=378MB\nos.memory.max=6028MB\nos.memory.total=388MB\n"));
    }

    #[test]
    fn mntr_separates_with_tabs() {
        let metrics = [
            Metric::new("avg_latency", Value::Mean(0.0)),
            Metric::new("last_client_response_size", Value::Count(-1)),
            Metric::new("peer_state", Value::Text("leading - broadcast".into())),
            Metric::new("znode_count", 6),
        ];
        let expected = "zk_version\tV\nzk_server_state\tstandalone\nzk_avg_latency\t0.0\n\
                        zk_last_client_response_size\t-1\nzk_peer_state\tleading - broadcast\nzk_znode_count\t6\n";
        assert_eq!(mntr("V", Mode::Standalone, &metrics), expected);
    }
}
