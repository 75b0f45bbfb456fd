//! What files mean, mistakes and odd ones included.

use proptest::prelude::*;

use super::*;
use crate::config::{HostPort, MyIdError, Role};

/// The sample that Apache ships, as Debian's package has it.
const APACHE_SAMPLE: &str = include_str!("../../tests/config/zoo_sample.cfg");

fn read(text: &str) -> (Config, Vec<Warning>) {
    match Config::parse(text.as_bytes()) {
        Ok(read) => read,
        Err(error) => panic!("{text:?} is refused: {error}"),
    }
}

/// What is wrong with the smallest file that works, when these lines are added.
fn refused(lines: &str) -> String {
    match Config::parse(format!("dataDir=/d\nclientPort=2181\n{lines}").as_bytes()) {
        Ok(_) => panic!("{lines:?} is accepted"),
        Err(error) => error.to_string(),
    }
}

fn with(lines: &str) -> Config {
    read(&format!("dataDir=/d\nclientPort=2181\n{lines}")).0
}

fn warned(lines: &str) -> Vec<String> {
    let warnings = read(&format!("dataDir=/d\nclientPort=2181\n{lines}")).1;
    warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn apaches_sample_is_read_without_a_warning() {
    let (config, warnings) = read(APACHE_SAMPLE);
    assert_eq!(warnings, []);
    let mut expected = Config::with_defaults("/tmp/zookeeper");
    expected.client.port = Some(2181);
    expected.timing.tick_ms = 2000;
    (expected.timing.min_session_ms, expected.timing.max_session_ms) = (4000, 40_000);
    (expected.timing.init_limit, expected.timing.sync_limit) = (Some(10), Some(5));
    assert_eq!(config, expected);
}

#[test]
fn an_empty_file_lacks_the_data_directory() {
    assert_eq!(
        Config::parse(b"").map_err(|error| error.to_string()).err().as_deref(),
        Some("dataDir is not set: it is where snapshots are kept")
    );
    assert_eq!(
        Config::parse(b"dataDir=/d").map_err(|error| error.to_string()).err().as_deref(),
        Some("clientPort is not set: no client could connect")
    );
}

#[test]
fn every_honoured_key_arrives_in_its_field() {
    let config = with(
        "dataLogDir=/l\nclientPort=0\nclientPortAddress=localhost\nclientPortListenBacklog=7\nmaxClientCnxns=0\n\
         maxCnxns=8\nclientTcpKeepAlive=TRUE\ntickTime=100\nminSessionTimeout=11\nmaxSessionTimeout=-1\ninitLimit=3\n\
         syncLimit=4\nleaderSilenceMs=900\nsnapCount=9\nsnapSizeLimitInKb=-1\ntxnLogSizeLimitInKb=12\npreAllocSize=64\nforceSync=no\n\
         flushDelay=2\nmaxBatchSize=13\nfsync.warningthresholdms=20\nsnapshot.compression.method=gz\n\
         snapshot.trust.empty=true\ndigest.enabled=false\nautopurge.snapRetainCount=5\nautopurge.purgeInterval=90m\n\
         globalOutstandingLimit=14\njute.maxbuffer=0x400000\nskipACL=yes\n\
         DigestAuthenticationProvider.superDigest=super:abc=\n4lw.commands.whitelist=ruok,mntr\nextendedTypesEnabled=true\n\
         enforceQuota=true\nznode.container.checkIntervalMs=15\nznode.container.maxPerMinute=16\n\
         znode.container.maxNeverUsedIntervalMs=17\n",
    );
    let client = &config.client;
    assert_eq!(
        (client.port, client.address.as_deref(), client.listen_backlog),
        (Some(0), Some("localhost"), Some(7))
    );
    assert_eq!(
        (client.per_address_max, client.connections_max, client.tcp_keep_alive),
        (None, Some(8), true)
    );
    let timing = Timing {
        tick_ms: 100,
        min_session_ms: 11,
        max_session_ms: 2000,
        init_limit: Some(3),
        sync_limit: Some(4),
        leader_silence_ms: 900,
    };
    assert_eq!((config.timing, config.data_log_dir), (timing, PathBuf::from("/l")));
    let storage = StorageOptions {
        snap_count: 9,
        snap_size_limit_kib: None,
        log_size_limit_kib: Some(12),
        pre_alloc_kib: 64,
        force_sync: false,
        flush_delay_ms: 2,
        batch_max: 13,
        fsync_warning_ms: 20,
        compression: Compression::Gzip,
        trust_empty_snapshot: true,
        digest: false,
    };
    assert_eq!(config.storage, storage);
    assert_eq!(config.purge, Purge { retain: 5, interval: Some(Duration::from_secs(5400)) });
    assert_eq!((config.limits.outstanding_max, config.limits.request_bytes_max), (14, 0x40_0000));
    let access = Access {
        skip_acl: true,
        super_digest: Some("super:abc=".into()),
        digest_algorithm: DigestAlgorithm::Sha1,
        enforced_schemes: None,
        four_letter_words: Whitelist::parse("ruok,mntr,srvr").0,
    };
    assert_eq!(config.access, access);
    let nodes = NodeOptions {
        extended_types: true,
        enforce_quota: true,
        sweep_interval_ms: 15,
        swept_per_minute_max: 16,
        never_used_max_ms: Some(17),
    };
    assert_eq!(config.nodes, nodes);
}

#[test]
fn the_bounds_of_clients_arrive_in_their_fields() {
    let limits = with(
        "jute.maxbuffer=2048\ndeleteRecursiveMax=5\nconnection_throttle_tokens=1\nconnection_throttle_fill_time=2\n\
         connection_throttle_fill_count=3\nconnection_throttle_freeze_time=4\nconnection_throttle_drop_increase=0.5\n\
         connection_throttle_drop_decrease=0.25\nconnection_throttle_decrease_ratio=1\n\
         connection_throttle_weight_enabled=true",
    )
    .limits;
    let handshakes = ThrottleOptions {
        tokens: 1,
        fill_ms: 2,
        fill_count: 3,
        freeze_ms: Some(4),
        drop_increase: 0.5,
        drop_decrease: 0.25,
        decrease_ratio: 1.0,
        weighted: true,
    };
    assert_eq!((limits.handshakes, limits.delete_recursive_max), (handshakes, 5));
    assert_eq!(limits.reply_bytes_max, None, "clients differ in what they take");
    assert_eq!(with("replyBytesMax=0").limits.reply_bytes_max, None);
    assert_eq!(with("replyBytesMax=1048575").limits.reply_bytes_max, Some(0xf_ffff));
    assert_eq!(with("connection_throttle_freeze_time=-1").limits.handshakes.freeze_ms, None);
    assert!(refused("replyBytesMax=5").contains("it must be from 1024"));
    assert!(refused("connection_throttle_drop_increase=2").contains("choose a number from 0 to 1"));
    let algorithm =
        |name| with(&format!("DigestAuthenticationProvider.digestAlg={name}")).access.digest_algorithm;
    assert_eq!((algorithm("sha-1"), algorithm("SHA-512")), (DigestAlgorithm::Sha1, DigestAlgorithm::Sha512));
    assert!(refused("DigestAuthenticationProvider.digestAlg=MD5").contains("choose SHA1, SHA-256"));
    let sessions = with("localSessionsEnabled=true\nlocalSessionsUpgradingEnabled=true").sessions;
    assert!(sessions.local && sessions.local_upgrading);
}

#[test]
fn booleans_are_true_or_false_in_any_case() {
    assert!(with("extendedTypesEnabled=True").nodes.extended_types);
    assert!(!with("extendedTypesEnabled=FALSE").nodes.extended_types);
    for wrong in ["yes", "1", ""] {
        let expected = format!("line 3: extendedTypesEnabled={wrong}: choose true or false");
        assert_eq!(refused(&format!("extendedTypesEnabled={wrong}")), expected);
    }
    assert_eq!(refused("forceSync=NO"), "line 3: forceSync=NO: choose yes or no");
    assert_eq!(refused("skipACL=true"), "line 3: skipACL=true: choose yes or no");
}

#[test]
fn numbers_are_checked() {
    for (lines, message) in [
        ("tickTime=x", "line 3: tickTime=x: it is not a whole number"),
        ("tickTime=", "line 3: tickTime=: it is not a whole number"),
        ("tickTime=0", "line 3: tickTime=0: it must be from 1 to 107374182"),
        ("tickTime=-2000", "line 3: tickTime=-2000: it must be from 1 to 107374182"),
        ("clientPort=65536", "line 3: clientPort=65536: it must be from 0 to 65535"),
        ("minSessionTimeout=0", "line 3: minSessionTimeout=0: it must be from 1 to 2147483647"),
        ("maxSessionTimeout=-2", "line 3: maxSessionTimeout=-2: it must be from -1 to 2147483647"),
        ("initLimit=0", "line 3: initLimit=0: it must be from 1 to 2147483647"),
        (
            "maxClientCnxns=99999999999",
            "line 3: maxClientCnxns=99999999999: it must be from -1 to 2147483647",
        ),
        ("snapCount=1e5", "line 3: snapCount=1e5: it is not a whole number"),
        ("jute.maxbuffer=0x", "line 3: jute.maxbuffer=0x: it is not a whole number"),
        ("jute.maxbuffer=1000", "line 3: jute.maxbuffer=1000: it must be from 1024 to 2147483647"),
        ("flushDelay=-1", "line 3: flushDelay=-1: it must be from 0 to 2147483647"),
        (
            "minSessionTimeout=5\nmaxSessionTimeout=4",
            "minSessionTimeout 5 must not be larger than maxSessionTimeout 4",
        ),
        ("electionAlg=2", "line 3: electionAlg=2: choose 3, the only one that is supported"),
        (
            "peerType=observr",
            "line 3: peerType=observr: \"observr\" is not a role: write participant or observer",
        ),
        ("dataLogDir=", "line 3: dataLogDir=: it is empty"),
        (
            "snapshot.compression.method=zip",
            "line 3: snapshot.compression.method=zip: choose gz, snappy, or nothing for plain snapshots",
        ),
    ] {
        assert_eq!(refused(lines), message, "{lines}");
    }
}

#[test]
fn purge_intervals_are_hours_or_have_a_unit() {
    let interval = |text: &str| with(&format!("autopurge.purgeInterval={text}")).purge.interval;
    for (text, seconds) in
        [("1", 3600), ("24", 86_400), ("2h", 7200), ("3 d", 259_200), ("5m", 300), ("7s", 7)]
    {
        assert_eq!(interval(text), Some(Duration::from_secs(seconds)), "{text}");
    }
    assert_eq!(interval("1500ms"), Some(Duration::from_millis(1500)));
    assert_eq!((interval("0"), interval("-1"), interval("0m")), (None, None, None));
    for wrong in ["h", "1w", "1.5", "1hh", "99999999999d"] {
        assert!(refused(&format!("autopurge.purgeInterval={wrong}")).contains("not an interval"), "{wrong}");
    }
    assert_eq!(with("").purge, Purge { retain: 3, interval: Some(Duration::from_secs(3600)) });
}

#[test]
fn small_counts_are_raised_as_in_apache() {
    assert_eq!(
        warned("autopurge.snapRetainCount=1"),
        ["autopurge.snapRetainCount=1 is too small, 3 is used"]
    );
    assert_eq!(with("autopurge.snapRetainCount=1").purge.retain, 3);
    assert_eq!(warned("snapCount=-4"), ["snapCount=-4 is too small, 2 is used"]);
    assert_eq!(with("snapCount=-4").storage.snap_count, 2);
}

#[test]
fn nothing_is_silently_ignored() {
    assert_eq!(
        warned(
            "tickTim=1\nfavouriteColour=blue\nzookeeper.snapCount=5\ncommitLogCount=9\njvm.pause.monitor=true\nnio.numWorkerThreads=3\naudit.enable=true"
        ),
        [
            "line 3: unknown key tickTim has no effect; did you mean tickTime?",
            "line 4: unknown key favouriteColour has no effect",
            "line 5: zookeeper.snapCount has no effect, because a configuration file leaves the prefix away; write snapCount",
            "line 6: commitLogCount is known but not built yet, it has no effect",
            "line 7: jvm.pause.monitor has no effect, this server does not have a JVM",
            "line 8: nio.numWorkerThreads has no effect, this server does not have the NIO layer",
            "line 9: audit.enable is known but not built yet, the server acts as with audit.enable=false",
        ]
    );
}

#[test]
fn a_key_that_asks_for_what_happens_anyway_is_no_warning() {
    assert_eq!(
        warned("admin.enableServer=false\naudit.enable=FALSE\nreconfigEnabled=false\nsslQuorum=false"),
        [""; 0]
    );
}

#[test]
fn what_would_protect_less_than_told_ends_the_start() {
    for line in ["sslQuorum=true", "quorum.auth.enableSasl=true"] {
        let message = refused(line);
        assert!(
            message.starts_with(&format!("line 3: {line}: ")) && message.contains("is not built yet"),
            "{message}"
        );
    }
    assert_eq!(
        refused("sslQuorum=true"),
        "line 3: sslQuorum=true: whether servers talk TLS to each other is not built yet: remove the line, or keep a server that has it"
    );
    assert_eq!(warned("secureClientPort=0"), [""; 0]);
}

#[test]
fn authentication_is_enforced_by_schemes_that_there_are() {
    let enforced = |schemes: &str| format!("enforce.auth.enabled=true\nenforce.auth.schemes={schemes}");
    let schemes = with(&enforced("digest, ip")).access.enforced_schemes;
    assert_eq!(schemes, Some(vec!["digest".to_owned(), "ip".to_owned()]));
    assert_eq!(with("enforce.auth.schemes=sasl").access.enforced_schemes, None);
    assert!(refused(&enforced(",")).starts_with("enforce.auth.schemes is not set: "));
    assert_eq!(
        refused(&enforced("digest,sasl")),
        "line 4: enforce.auth.schemes=digest,sasl: choose digest, ip, and sasl or x509 where an authProvider.* line names \
         their provider"
    );
    let provided = "authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider\n";
    let schemes = |lines: &str| with(&format!("{provided}{lines}")).access.enforced_schemes;
    assert_eq!(schemes(&enforced("sasl")), Some(vec!["sasl".to_owned()]));
    assert_eq!(schemes("sessionRequireClientSASLAuth=true"), Some(vec!["sasl".to_owned()]));
    assert_eq!(schemes(""), None);
    assert!(
        refused("sessionRequireClientSASLAuth=true")
            .starts_with("line 3: sessionRequireClientSASLAuth=true: choose")
    );
}

#[test]
fn what_clients_can_prove_is_read() {
    let security = with(
        "authProvider.sasl=org.apache.zookeeper.server.auth.SASLAuthenticationProvider\nauthProvider.2=a.X509AuthenticationProvider\n\
         authProvider.3=a.DigestAuthenticationProvider\nsuperUser=root\nsuperUser.1=admin\n\
         java.security.auth.login.config=/etc/jaas.conf\nsasl.serverconfig=Clients\nallowSaslFailedClients=true\n\
         X509AuthenticationProvider.superUser=CN=root",
    )
    .security;
    let expected = Security {
        login_config: Some("/etc/jaas.conf".into()),
        login_section: Some("Clients".to_owned()),
        sasl: true,
        x509: true,
        sasl_super_users: ["admin", "root"].map(str::to_owned).into(),
        x509_super_user: Some("CN=root".to_owned()),
        keep_refused: true,
        ..Security::default()
    };
    assert_eq!(security, expected);
    assert!(
        refused("authProvider.mine=org.example.Mine")
            .starts_with("line 3: authProvider.mine=org.example.Mine: choose")
    );
}

#[test]
fn the_users_of_sasl_are_read_from_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jaas.conf");
    std::fs::write(&file, "Server { a.DigestLoginModule required user_bob=\"pw\"; };").unwrap();
    let users = |lines: &str| {
        with(&format!("java.security.auth.login.config={}\n{lines}", file.display())).sasl_users()
    };
    assert_eq!(users("").unwrap(), Some([("bob".to_owned(), "pw".to_owned())].into()));
    assert!(matches!(users("sasl.serverconfig=Other"), Err(ConfigError::NoLoginSection { .. })));
    std::fs::write(&file, "").unwrap();
    assert_eq!(users("").unwrap(), None, "as for Apache's server, which then has no SASL login");
    std::fs::write(&file, "Server {").unwrap();
    assert!(matches!(users(""), Err(ConfigError::LoginConfig { .. })));
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(users(""), Err(ConfigError::Read { .. })));
}

#[test]
fn the_last_duplicate_counts_and_is_reported() {
    assert_eq!(
        warned("tickTime=10\ntickTime=20"),
        ["line 4: tickTime is set again, line 3 no longer counts"]
    );
    assert_eq!(with("tickTime=10\ntickTime=20").timing.tick_ms, 20);
}

#[test]
fn relative_paths_and_odd_words_are_reported() {
    let (_, warnings) = read("dataDir=data\nclientPort=1\n4lw.commands.whitelist=ruok,mntrr\n");
    let relative = Warning::RelativePath { key: "dataDir", path: "data".into() };
    assert_eq!(warnings, [relative, Warning::UnknownWord("mntrr".into())]);
    assert_eq!(read("dataDir=./data\nclientPort=1\n").1, []);
}

#[test]
fn read_only_mode_allows_isro() {
    assert!(!with("").access.four_letter_words.allows(FourLetterWord::Isro));
    assert!(with("readonlymode.enabled=true").access.four_letter_words.allows(FourLetterWord::Isro));
}

#[test]
fn an_address_without_a_port_is_refused() {
    let error = Config::parse(b"dataDir=/d\nclientPortAddress=::1").map_err(|error| error.to_string());
    assert_eq!(error.err().as_deref(), Some("clientPortAddress is set but clientPort is not set"));
}

const THREE: &str = "initLimit=10\nsyncLimit=5\nserver.1=a:2888:3888\nserver.2=b:2888:3888:participant;2181\n\
                     server.3=c:2888:3888;[::1]:2181\n";

#[test]
fn members_are_read_in_both_forms() {
    let ensemble = with(THREE).ensemble;
    let lines: Vec<String> =
        ensemble.members.iter().map(|(id, member)| format!("server.{id}={member}")).collect();
    assert_eq!(
        lines,
        [
            "server.1=a:2888:3888:participant",
            "server.2=b:2888:3888:participant;0.0.0.0:2181",
            "server.3=c:2888:3888:participant;[::1]:2181",
        ]
    );
    assert!(ensemble.is_distributed());
    assert_eq!(warned(THREE), [""; 0]);
}

#[test]
fn ensembles_that_cannot_work_are_refused() {
    for (lines, message) in [
        ("server.1=a:1:2\nserver.2=b:1:2", "initLimit is not set: an ensemble needs it"),
        ("server.1=a:1:2\nserver.2=b:1:2\ninitLimit=1", "syncLimit is not set: an ensemble needs it"),
        ("standaloneEnabled=false", "standaloneEnabled=false needs at least one voter: add a server.N line"),
        ("server.1=a:1:2:observer", "observers need an ensemble: add at least two voters"),
        ("server.1=a:1:2\nserver.2=b:1:2:observer", "observers need an ensemble: add at least two voters"),
        (
            "server.1=a:1:1",
            "line 3: server.1=a:1:1: quorum port and election port are both 1: give each its own",
        ),
        (
            "server.x=a:1:2",
            "line 3: server.x=a:1:2: \"x\" is not a number: write one from 0 to 9223372036854775807",
        ),
        (
            "dynamicConfigFile=/d/zoo.cfg.dynamic\nserver.1=a:1:2",
            "line 4: server.1 must be in the separate dynamic config file, because dynamicConfigFile is set",
        ),
    ] {
        assert_eq!(refused(lines), message, "{lines}");
    }
}

#[test]
fn ensembles_that_are_no_good_idea_are_reported() {
    let two = "initLimit=1\nsyncLimit=1\nserver.1=a:1:2\nserver.300=b:1:2\n";
    assert_eq!(
        warned(two),
        [
            "no server failure will be tolerated, you need at least 3 voters",
            "server.300: session ids have one byte for this number, use 1 to 254",
        ]
    );
    assert_eq!(
        warned(&format!("{THREE}server.4=d:1:2")),
        ["4 voters survive no more failures than 3, consider an odd number"]
    );
    assert_eq!(
        warned("server.1=a:1:2"),
        ["only one voter is configured, the server runs standalone and ignores server.N"]
    );
}

#[test]
fn hierarchical_quorums_are_read() {
    let ensemble = with(&format!("{THREE}group.1=1:2\ngroup.2=3\nweight.3=0\n")).ensemble;
    assert_eq!(ensemble.groups, [(1, [ServerId(1), ServerId(2)].into()), (2, [ServerId(3)].into())].into());
    assert_eq!(ensemble.weights, [(ServerId(3), 0)].into());
}

#[test]
fn members_may_stand_in_a_file_of_their_own() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dynamic = dir.path().join("zoo.cfg.dynamic.100000003");
    let cfg = dir.path().join("zoo.cfg");
    let data = dir.path().display();
    let head = format!("dataDir={data}\ninitLimit=1\nsyncLimit=1\n");
    std::fs::write(&cfg, format!("{head}dynamicConfigFile={}\n", dynamic.display()))
        .expect("zoo.cfg is written");

    let missing = Config::from_path(&cfg).map_err(|error| error.to_string());
    assert_eq!(missing.err(), Some(format!("cannot read {}", dynamic.display())));

    std::fs::write(&dynamic, "server.1=a:1:2:participant;2181\nserver.2=b:1:2;2182\nserver.3=c:1:2;2183\n")
        .expect("the dynamic file is written");
    let (config, warnings) = Config::from_path(&cfg).expect("both files are fine");
    assert_eq!((config.ensemble.members.len(), warnings), (3, vec![]));
    assert!(matches!(config.my_id(), Err(ConfigError::MyId(MyIdError::Missing))));
    std::fs::write(dir.path().join("myid"), "2").expect("myid is written");
    let id = config.my_id().expect("server.2 is listed");
    let address = config.client_address(id).expect("one address only");
    assert_eq!(address, Some(HostPort { host: "0.0.0.0".into(), port: 2182 }));

    std::fs::write(&dynamic, "server.1=a:1:2\ntickTime=5\n").expect("the dynamic file is written");
    let error = Config::from_path(&cfg).map_err(|error| error.to_string()).err();
    assert!(error.is_some_and(|text| {
        text.contains("line 2 of the dynamic config file: unrecognised parameter tickTime")
    }));
}

#[test]
fn the_client_address_of_ones_own_line_must_agree() {
    let mut config = with("");
    let any = HostPort { host: "0.0.0.0".into(), port: 2181 };
    assert_eq!(config.client_address(None).expect("clientPort"), Some(any.clone()));
    config.ensemble.members.insert(ServerId(1), "a:1:2;a:2181".parse().expect("a member"));
    config.ensemble.members.insert(ServerId(2), "b:1:2:observer;b:2182".parse().expect("a member"));
    assert_eq!(config.ensemble.members[&ServerId(2)].role, Role::Observer);
    let own = config.client_address(Some(ServerId(1))).expect("the port is the same");
    assert_eq!(own, Some(HostPort { host: "a".into(), port: 2181 }));
    let error = config.client_address(Some(ServerId(2))).map_err(|error| error.to_string());
    let message = "clientPortAddress and clientPort say 0.0.0.0:2181, but the line server.2 says b:2182: make them equal";
    assert_eq!(error, Err(message.to_owned()));
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("zoo.cfg");
    std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).expect("the file is written");
    assert!(matches!(Config::from_path(&path), Err(ConfigError::TooLarge { .. })));
    assert!(matches!(Config::from_path(dir.path()), Err(ConfigError::Read { .. })));
    assert!(matches!(Config::parse(b"dataDir=\\u00"), Err(ConfigError::Escape(_))));
}

#[test]
fn a_configuration_is_read_back_from_its_text() {
    let ensemble =
        format!("{THREE}group.1=1:2\ngroup.2=3\nweight.3=2\nautopurge.purgeInterval=90s\nmaxClientCnxns=0\n");
    for config in [
        Config::dev("/tmp/a b"),
        with(""),
        read(APACHE_SAMPLE).0,
        with(&ensemble),
        with(
            "autopurge.purgeInterval=0\nsnapSizeLimitInKb=0\nforceSync=no\nsnapshot.compression.method=snappy\nreadonlymode.enabled=true",
        ),
        with(
            "DigestAuthenticationProvider.superDigest=s:\\u00e9=\nstandaloneEnabled=false\nserver.1=a:1:2\ninitLimit=1\nsyncLimit=2",
        ),
        with("dynamicConfigFile=/x/zoo.cfg.dynamic.1"),
    ] {
        let text = config.to_string();
        assert_eq!(read(&text).0, config, "{text}");
        assert_eq!(read(&text).0.to_string(), text);
    }
}

/// Lines near enough to real ones to get past the first checks.
fn line() -> impl Strategy<Value = String> {
    let key = proptest::sample::select(keys::known_keys()).prop_map(|key| key.name.replace(['N', '*'], "1"));
    let value = prop_oneof![
        "-?[0-9]{0,12}".boxed(),
        "true|false|yes|no|3|gz|snappy|\\*".boxed(),
        "[a-z]{1,3}:[0-9]{1,5}:[0-9]{1,5}(;[0-9]{1,5})?".boxed(),
        "/[a-z]{1,8}".boxed(),
        "\\PC{0,12}".boxed(),
    ];
    (key, value).prop_map(|(key, value)| format!("{key}={value}\n"))
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Config::parse(&bytes);
    }

    #[test]
    fn odd_files_are_read_back_or_refused(lines in proptest::collection::vec(line(), 0..6)) {
        let text = format!("dataDir=/d\nclientPort=1\n{}", lines.concat());
        if let Ok((config, warnings)) = Config::parse(text.as_bytes()) {
            let again = Config::parse(config.to_string().as_bytes()).map(|(config, _)| config);
            prop_assert_eq!(again.map_err(|error| error.to_string()), Ok(config));
            for warning in warnings {
                prop_assert!(!warning.to_string().is_empty());
            }
        }
    }
}
