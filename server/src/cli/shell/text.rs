//! PURE. What the shell prints, in Apache's words.

use docent::proto::{ClientInfo, EventType};
use docent::{Acl, ErrorCode, Stat};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The commands and their arguments, as printed when a command is not known.
const USAGE: [(&str, &str); 28] = [
    (
        "addWatch",
        "[-m mode] path # optional mode is one of [PERSISTENT, PERSISTENT_RECURSIVE] - default is PERSISTENT_RECURSIVE",
    ),
    ("addauth", "scheme auth"),
    ("close", ""),
    ("config", "[-c] [-w] [-s]"),
    ("connect", "host:port"),
    ("create", "[-s] [-e] [-c] [-t ttl] path [data] [acl]"),
    ("delete", "[-v version] path"),
    ("deleteall", "path [-b batch size]"),
    ("delquota", "[-n|-b|-N|-B] path"),
    ("get", "[-s] [-w] path"),
    ("getAcl", "[-s] path"),
    ("getAllChildrenNumber", "path"),
    ("getEphemerals", "path"),
    ("history", ""),
    ("listquota", "path"),
    ("ls", "[-s] [-w] [-R] path"),
    ("printwatches", "on|off"),
    ("quit", ""),
    (
        "reconfig",
        "[-s] [-v version] [[-file path] | [-members serverID=host:port1:port2;port3[,...]*]] | [-add serverId=host:port1:port2;port3[,...]]* [-remove serverId[,...]*]",
    ),
    ("redo", "cmdno"),
    ("removewatches", "path [-c|-d|-a] [-l]"),
    ("set", "[-s] [-v version] path data"),
    ("setAcl", "[-s] [-v version] [-R] path acl"),
    ("setquota", "-n|-b|-N|-B val path"),
    ("stat", "[-w] path"),
    ("sync", "path"),
    ("version", ""),
    ("whoami", ""),
];

/// The names of all commands, sorted: what can be completed.
pub(crate) fn command_names() -> impl Iterator<Item = &'static str> {
    USAGE.iter().map(|(name, _)| *name)
}

/// All commands with their arguments.
pub(crate) fn usage() -> String {
    let mut text = "ZooKeeper -server host:port -client-configuration properties-file cmd args\n".to_owned();
    for (name, arguments) in USAGE {
        text.push_str(&format!("\t{name} {arguments}\n"));
    }
    text
}

/// One command with its arguments; empty for one that is not known.
pub(crate) fn usage_of(command: &str) -> String {
    let line = USAGE.iter().find(|(name, _)| *name == command);
    line.map_or_else(String::new, |(name, arguments)| format!("{name} {arguments}"))
}

/// A moment as Java prints it.
fn date(millis: i64, zone: &TimeZone) -> String {
    match Timestamp::from_millisecond(millis) {
        Ok(time) => time.to_zoned(zone.clone()).strftime("%a %b %d %H:%M:%S %Z %Y").to_string(),
        Err(_) => format!("{millis} ms"),
    }
}

/// The eleven lines of a Stat.
pub(crate) fn stat(stat: &Stat, zone: &TimeZone) -> String {
    format!(
        "cZxid = {}\nctime = {}\nmZxid = {}\nmtime = {}\npZxid = {}\ncversion = {}\ndataVersion = {}\n\
         aclVersion = {}\nephemeralOwner = {}\ndataLength = {}\nnumChildren = {}\n",
        stat.czxid,
        date(stat.ctime, zone),
        stat.mzxid,
        date(stat.mtime, zone),
        stat.pzxid,
        stat.cversion,
        stat.version,
        stat.aversion,
        stat.ephemeral_owner,
        stat.data_length,
        stat.num_children
    )
}

/// A list of names or paths on one line.
pub(crate) fn list(names: &[String]) -> String {
    format!("[{}]\n", names.join(", "))
}

/// The entries of an ACL.
pub(crate) fn acl(entries: &[Acl]) -> String {
    entries
        .iter()
        .map(|entry| format!("'{},'{}\n: {}\n", entry.scheme, entry.id, entry.permissions))
        .collect()
}

/// The identities of a connection.
pub(crate) fn identities(list: &[ClientInfo]) -> String {
    let lines = list.iter().map(|info| format!("{}: {}\n", info.scheme, info.user));
    std::iter::once("Auth scheme: User\n".to_owned()).chain(lines).collect()
}

/// How `get` shows data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DataFormat {
    /// As text.
    #[default]
    Plain,
    /// In base64.
    Base64,
    /// As rows of hexadecimal digits.
    Hex,
}

/// The data of a node and a line end.
pub(crate) fn data(data: Option<&[u8]>, format: DataFormat) -> String {
    let data = data.unwrap_or(b"null");
    let mut text = match format {
        DataFormat::Plain => String::from_utf8_lossy(data).into_owned(),
        DataFormat::Base64 => base64::Engine::encode(&base64::engine::general_purpose::STANDARD, data),
        DataFormat::Hex => hex_dump(data),
    };
    text.push('\n');
    text
}

/// Sixteen bytes per row, as numbers and as text. Empty for no data.
fn hex_dump(data: &[u8]) -> String {
    const LINE: &str = "+--------+-------------------------------------------------+----------------+";
    if data.is_empty() {
        return String::new();
    }
    let mut rows = vec![
        "         +-------------------------------------------------+".to_owned(),
        "         |  0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f |".to_owned(),
        LINE.to_owned(),
    ];
    for (row, bytes) in data.chunks(16).enumerate() {
        let digits: String = bytes.iter().map(|byte| format!(" {byte:02x}")).collect();
        let text: String = bytes
            .iter()
            .map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' })
            .collect();
        rows.push(format!("|{:08x}|{digits:<48} |{text:<16}|", row * 16));
    }
    rows.push(LINE.to_owned());
    rows.join("\n")
}

/// A session or watch event as the shell shows it, line ends included.
pub(crate) fn watched_event(state: &str, kind: &str, path: Option<&str>) -> String {
    let path = path.unwrap_or("null");
    format!("\nWATCHER::\n\nWatchedEvent state:{state} type:{kind} path:{path}\n")
}

/// Java's name of an event.
pub(crate) fn event_name(kind: EventType) -> &'static str {
    match kind {
        EventType::NodeCreated => "NodeCreated",
        EventType::NodeDeleted => "NodeDeleted",
        EventType::NodeDataChanged => "NodeDataChanged",
        EventType::NodeChildrenChanged => "NodeChildrenChanged",
        _ => "None",
    }
}

/// Why an operation was refused. `path` is the path that the operation named, if it named one.
pub(crate) fn refusal(code: ErrorCode, path: Option<&str>) -> String {
    let named = |text: &str| format!("{text}{}", path.unwrap_or("null"));
    match code {
        ErrorCode::NO_NODE => named("Node does not exist: "),
        ErrorCode::NO_CHILDREN_FOR_EPHEMERALS => named("Ephemerals cannot have children: "),
        ErrorCode::NODE_EXISTS => named("Node already exists: "),
        ErrorCode::NOT_EMPTY => named("Node not empty: "),
        ErrorCode::NOT_READ_ONLY => named("Not a read-only call: "),
        ErrorCode::INVALID_ACL => named("Acl is not valid : "),
        ErrorCode::NO_AUTH => named("Insufficient permission : "),
        ErrorCode::BAD_ARGUMENTS => named("Arguments are not valid : "),
        ErrorCode::BAD_VERSION => named("version No is not valid : "),
        ErrorCode::QUOTA_EXCEEDED => named("Quota has exceeded : "),
        ErrorCode::RECONFIG_IN_PROGRESS => {
            "Another reconfiguration is in progress -- concurrent reconfigs not supported (yet)".to_owned()
        }
        ErrorCode::NEW_CONFIG_NO_QUORUM => {
            "No quorum of new config is connected and up-to-date with the leader of last committed config - try \
             invoking reconfiguration after new servers are connected and synced"
                .to_owned()
        }
        other => keeper_error(other, path),
    }
}

/// The general form of a refusal.
pub(crate) fn keeper_error(code: ErrorCode, path: Option<&str>) -> String {
    let text = code.text().map_or_else(|| format!("Unknown error {}", code.0), str::to_owned);
    match path {
        Some(path) => format!("KeeperErrorCode = {text} for {path}"),
        None => format!("KeeperErrorCode = {text}"),
    }
}

/// The version and the client addresses of an ensemble's configuration, as a connect string.
pub(crate) fn client_config(config: &str) -> String {
    let pairs = || config.lines().filter_map(|line| line.split_once('='));
    let version = pairs().find(|(key, _)| key.trim() == "version").map_or("", |(_, value)| value.trim());
    let addresses: Vec<String> = pairs()
        .filter(|(key, _)| key.trim().starts_with("server."))
        .filter_map(|(_, value)| client_address(value.trim()))
        .collect();
    format!("{version} {}", addresses.join(","))
}

/// The client address in a server's line; a port alone stands for all addresses.
fn client_address(server: &str) -> Option<String> {
    let address = server.split(';').nth(1)?.trim();
    match address {
        "" => None,
        port if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(format!("0.0.0.0:{port}")),
        address => Some(address.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use docent::{Permissions, SessionId, Zxid};

    const SAMPLE: Stat = Stat {
        czxid: Zxid(0x2c),
        mzxid: Zxid(0x33),
        ctime: 1_795_166_712_610,
        mtime: 1_795_166_722_010,
        version: 2,
        cversion: 5,
        aversion: 0,
        ephemeral_owner: SessionId(0),
        data_length: 8,
        num_children: 5,
        pzxid: Zxid(0x31),
    };

    #[test]
    fn a_stat_block_is_apaches() {
        assert_eq!(
            stat(&SAMPLE, &TimeZone::UTC),
            "cZxid = 0x2c\nctime = Fri Nov 20 09:25:12 UTC 2026\nmZxid = 0x33\n\
             mtime = Fri Nov 20 09:25:22 UTC 2026\npZxid = 0x31\ncversion = 5\ndataVersion = 2\naclVersion = 0\n\
             ephemeralOwner = 0x0\ndataLength = 8\nnumChildren = 5\n"
        );
        let eastern = TimeZone::fixed(jiff::tz::Offset::constant(2));
        assert!(
            stat(&SAMPLE, &eastern).contains("ctime = Fri Nov 20 11:25:12 "),
            "{}",
            stat(&SAMPLE, &eastern)
        );
        assert!(stat(&Stat::default(), &TimeZone::UTC).contains("ctime = Thu Jan 01 00:00:00 UTC 1970\n"));
        let owned = Stat { ephemeral_owner: SessionId(-2), czxid: Zxid(-1), ..SAMPLE };
        assert!(stat(&owned, &TimeZone::UTC).contains("ephemeralOwner = 0xfffffffffffffffe\n"));
        assert!(stat(&owned, &TimeZone::UTC).starts_with("cZxid = 0xffffffffffffffff\n"));
    }

    #[test]
    fn lists_acls_and_identities_are_apaches() {
        assert_eq!(list(&["c".into(), "e".into(), "es-0000000002".into()]), "[c, e, es-0000000002]\n");
        assert_eq!(list(&[]), "[]\n");
        let entries =
            [Acl::new(Permissions::ALL, "world", "anyone"), Acl::new(Permissions(9), "digest", "u:h=")];
        assert_eq!(acl(&entries), "'world,'anyone\n: cdrwa\n'digest,'u:h=\n: dr\n");
        let list = [("ip", "127.0.0.1"), ("digest", "u")]
            .map(|(scheme, user)| ClientInfo { scheme: scheme.into(), user: user.into() });
        assert_eq!(identities(&list), "Auth scheme: User\nip: 127.0.0.1\ndigest: u\n");
    }

    #[test]
    fn data_is_shown_in_three_ways() {
        assert_eq!(data(None, DataFormat::Plain), "null\n");
        assert_eq!(data(Some(b""), DataFormat::Plain), "\n");
        assert_eq!(data(Some("ä".as_bytes()), DataFormat::Plain), "ä\n");
        assert_eq!(data(Some(b"hello"), DataFormat::Base64), "aGVsbG8=\n");
        let dump = data(Some(b"hello, hex dump\x01!"), DataFormat::Hex);
        assert_eq!(
            dump.lines().nth(3),
            Some("|00000000| 68 65 6c 6c 6f 2c 20 68 65 78 20 64 75 6d 70 01 |hello, hex dump.|")
        );
        assert_eq!(
            dump.lines().nth(4),
            Some("|00000010| 21                                              |!               |")
        );
        assert_eq!(data(Some(b""), DataFormat::Hex), "\n");
    }

    #[test]
    fn events_and_refusals_are_apaches() {
        assert_eq!(
            watched_event("SyncConnected", "None", None),
            "\nWATCHER::\n\nWatchedEvent state:SyncConnected type:None path:null\n"
        );
        assert_eq!(refusal(ErrorCode::NO_NODE, Some("/nope")), "Node does not exist: /nope");
        assert_eq!(refusal(ErrorCode::BAD_VERSION, Some("/j")), "version No is not valid : /j");
        assert_eq!(refusal(ErrorCode::INVALID_ACL, None), "Acl is not valid : null");
        assert_eq!(
            refusal(ErrorCode::NO_WATCHER, Some("/none")),
            "KeeperErrorCode = No such watcher for /none"
        );
        assert_eq!(refusal(ErrorCode::RECONFIG_DISABLED, None), "KeeperErrorCode = Reconfig is disabled");
    }

    #[test]
    fn the_usage_names_every_command_once_and_in_order() {
        let names: Vec<&str> = command_names().collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        assert_eq!(names, sorted);
        assert!(usage().contains("\n\tls [-s] [-w] [-R] path\n"));
        assert!(usage().contains("\n\tclose \n"));
        assert_eq!(usage_of("get"), "get [-s] [-w] path");
    }

    #[test]
    fn a_connect_string_is_cut_out_of_the_configuration() {
        let config = "server.1=127.0.0.1:38711:38721:participant;127.0.0.1:21815\n\
                      server.2=h:1:2:observer;2182\nserver.3=h:1:2:participant\nversion=100000009";
        assert_eq!(client_config(config), "100000009 127.0.0.1:21815,0.0.0.0:2182");
        assert_eq!(client_config(""), " ");
    }
}
