use super::*;
use crate::cli::shell::line::split;

fn no_file(_: &str) -> Result<String, String> {
    Err(" (No such file or directory)".to_owned())
}

fn parsed(line: &str) -> Result<Parsed, Refusal> {
    parse(&split(line), &no_file)
}

fn command(line: &str) -> Command {
    let parsed = parsed(line).unwrap_or_else(|refusal| panic!("{line}: {refusal:?}"));
    assert_eq!(parsed.notes, [""; 0], "{line}");
    parsed.command
}

fn complaint(line: &str) -> String {
    match parsed(line) {
        Err(Refusal::Wrong { complaint, .. }) => complaint,
        other => panic!("{line}: {other:?}"),
    }
}

fn path(path: &str) -> String {
    path.to_owned()
}

#[test]
fn reads_are_understood() {
    let plain = DataFormat::Plain;
    for (line, expected) in [
        ("ls /", Command::Ls { path: path("/"), stat: false, watch: false, recursive: false }),
        ("ls -s -w -R /a", Command::Ls { path: path("/a"), stat: true, watch: true, recursive: true }),
        ("ls /a -sR", Command::Ls { path: path("/a"), stat: true, watch: false, recursive: true }),
        ("get /a", Command::Get { path: path("/a"), stat: false, watch: false, format: plain }),
        ("get -s -w /a", Command::Get { path: path("/a"), stat: true, watch: true, format: plain }),
        ("get -x /a", Command::Get { path: path("/a"), stat: false, watch: false, format: DataFormat::Hex }),
        (
            "get -b /a",
            Command::Get { path: path("/a"), stat: false, watch: false, format: DataFormat::Base64 },
        ),
        ("stat -w /a", Command::Stat { path: path("/a"), watch: true }),
        ("getAcl -s /a", Command::GetAcl { path: path("/a"), stat: true }),
        ("sync /a", Command::Sync { path: path("/a") }),
        ("whoami", Command::WhoAmI),
        ("getEphemerals", Command::GetEphemerals { prefix: None }),
        ("getEphemerals /a", Command::GetEphemerals { prefix: Some(path("/a")) }),
        ("getAllChildrenNumber /a", Command::GetAllChildrenNumber { path: path("/a") }),
        ("listquota /a", Command::ListQuota { path: path("/a") }),
        ("config -c -w -s", Command::Config { stat: true, watch: true, client_string: true }),
        ("version", Command::Version),
    ] {
        assert_eq!(command(line), expected, "{line}");
    }
}

#[test]
fn writes_are_understood() {
    let created = |kind, sequential, data: Option<&'static str>, acl| Command::Create {
        path: path("/a"),
        data: data.map(Bytes::from),
        acl,
        kind,
        sequential,
    };
    let set = |version, stat| Command::Set { path: path("/a"), data: "x".into(), version, stat };
    let digest = vec![Acl::new(Permissions(3), "digest", "u:h="), Acl::new(Permissions(28), "ip", "::1")];
    for (line, expected) in [
        ("create /a", created(NodeKind::Persistent, false, None, Acl::open())),
        ("create -s -e /a x", created(NodeKind::Ephemeral, true, Some("x"), Acl::open())),
        ("create /a -c x", created(NodeKind::Container, false, Some("x"), Acl::open())),
        ("create -t 10 -s /a \"\"", created(NodeKind::Ttl(10), true, Some(""), Acl::open())),
        (
            "create /a x digest:u:h=:rw,ip:::1:cda",
            created(NodeKind::Persistent, false, Some("x"), digest.clone()),
        ),
        ("set /a x", set(Version::ANY, false)),
        ("set -v 3 -s /a x", set(Version(3), true)),
        ("set -b /a eA==", set(Version::ANY, false)),
        ("delete -v 5 /a", Command::Delete { path: path("/a"), version: Version(5) }),
        ("deleteall /a", Command::DeleteAll { path: path("/a"), batch: 1000 }),
        ("deleteall /a -b 7", Command::DeleteAll { path: path("/a"), batch: 7 }),
        (
            "setAcl -s -v 2 -R /a digest:u:h=:rw,ip:::1:cda",
            Command::SetAcl {
                path: path("/a"),
                acl: digest,
                version: Version(2),
                recursive: true,
                stat: true,
            },
        ),
        ("setquota -n 5 /a", Command::SetQuota { path: path("/a"), wish: QuotaWish::Set(Limit::Count, 5) }),
        (
            "setquota -B 0 /a",
            Command::SetQuota { path: path("/a"), wish: QuotaWish::Set(Limit::BytesHard, 0) },
        ),
        ("delquota /a", Command::DelQuota { path: path("/a"), limit: None }),
        ("delquota -N /a", Command::DelQuota { path: path("/a"), limit: Some(Limit::CountHard) }),
    ] {
        assert_eq!(command(line), expected, "{line}");
    }
}

#[test]
fn session_and_shell_commands_are_understood() {
    let watch = |mode| Command::AddWatch { path: path("/a"), mode };
    let remove = |kind| Command::RemoveWatches { path: path("/a"), kind };
    for (line, expected) in [
        ("addauth digest u:p", Command::AddAuth { scheme: path("digest"), auth: Some("u:p".into()) }),
        ("addauth ip", Command::AddAuth { scheme: path("ip"), auth: None }),
        ("addWatch /a", watch(AddWatchMode::PersistentRecursive)),
        ("addWatch -m persistent /a", watch(AddWatchMode::Persistent)),
        ("removewatches /a", remove(WatcherKind::Any)),
        ("removewatches /a -c -l", remove(WatcherKind::Children)),
        ("removewatches /a -d", remove(WatcherKind::Data)),
        ("printwatches", Command::PrintWatches { on: None }),
        ("printwatches off", Command::PrintWatches { on: Some(false) }),
        ("history", Command::History),
        ("redo 7", Command::Redo { number: Some(7) }),
        ("connect", Command::Connect { hosts: None }),
        ("connect h:1", Command::Connect { hosts: Some(path("h:1")) }),
        ("close", Command::Close),
        ("quit", Command::Quit),
        ("exit", Command::Quit),
        ("help", Command::Help),
    ] {
        assert_eq!(command(line), expected, "{line}");
    }
}

#[test]
fn reconfig_is_understood() {
    let change = ReconfigRequest {
        joining: Some("server.5=h:1:2;3".into()),
        leaving: Some("4".into()),
        new_members: None,
        current_config: 0x1f,
    };
    assert_eq!(
        command("reconfig -s -v 1f -add server.5=H:1:2;3 -remove 4"),
        Command::Reconfig { change, stat: true }
    );
    let file = |name: &str| {
        assert_eq!(name, "members");
        Ok("# the members\nserver.1=a:1:2;3\n version=7\nserver.2=b:1:2;3\n".to_owned())
    };
    let Ok(Parsed { command: Command::Reconfig { change, .. }, .. }) =
        parse(&split("reconfig -file members"), &file)
    else {
        panic!("not understood")
    };
    assert_eq!(change.new_members.as_deref(), Some("server.1=a:1:2;3\nserver.2=b:1:2;3"));
    assert_eq!(complaint("reconfig -file members"), "Error processing members (No such file or directory)");
    assert!(complaint("reconfig -members x -add y").starts_with("Can't use -file or -members together with"));
    assert!(complaint("reconfig -members x -file y").starts_with("Can't use -file and -members together"));
    assert_eq!(complaint("reconfig -v zz -add x"), "-v must be followed by a long (configuration version)");
}

#[test]
fn missing_arguments_are_answered_by_the_usage() {
    for (line, usage) in [
        ("get", "get [-s] [-w] path"),
        ("ls", "ls [-s] [-w] [-R] path"),
        ("stat", "stat [-w] path"),
        ("set /j", "set [-s] [-v version] path data"),
        ("create", "create [-s] [-e] [-c] [-t ttl] path [data] [acl]"),
        ("delete", "delete [-v version] path"),
        ("deleteall", "deleteall path [-b batch size]"),
        ("rmr", "rmr path [-b batch size]"),
        ("ls2", "ls2 path [watch]"),
        ("getAcl", "getAcl [-s] path"),
        ("setAcl /a", "setAcl [-s] [-v version] [-R] path acl"),
        ("sync", "sync path"),
        ("addauth", "addauth scheme auth"),
        ("listquota", "listquota path"),
        ("delquota", "delquota [-n|-b|-N|-B] path"),
        ("setquota -n 1", "setquota -n|-b|-N|-B val path"),
        ("removewatches", "removewatches path [-c|-d|-a] [-l]"),
        ("getAllChildrenNumber", "getAllChildrenNumber path"),
        ("version 1", "version "),
        (
            "addWatch -m FOO /j",
            "addWatch [-m mode] path # optional mode is one of [PERSISTENT, PERSISTENT_RECURSIVE] - default is PERSISTENT_RECURSIVE",
        ),
    ] {
        assert_eq!(complaint(line), usage, "{line}");
    }
    assert!(complaint("reconfig").starts_with("reconfig [-s] [-v version] [[-file path]"));
}

#[test]
fn impossible_arguments_are_refused_in_apaches_words() {
    for (line, words) in [
        (
            "create -c -e /x",
            "-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential.",
        ),
        (
            "create -c -s /x",
            "-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential.",
        ),
        ("create -t 10 -e /x", "TTLs cannot be used with Ephemeral znodes"),
        ("create -t 10 -c /x", "TTLs cannot be used with Container znodes"),
        ("create -t abc /x", "-t argument must be a long value"),
        ("create -t 0 /x", "ttl must be positive and cannot be larger than: 1099511627775"),
        ("create -t 1099511627776 /x", "ttl must be positive and cannot be larger than: 1099511627775"),
        ("deleteall -b abc /j", "-b argument must be an int value"),
        ("get nope", "Path must start with / character"),
        ("ls /j/", "Path must not end with / character"),
        ("create x", "Path must start with / character"),
        ("sync nope", "Path must start with / character"),
        ("getEphemerals nope", "Path must start with / character"),
        ("set -v x /a b", "For input string: \"x\""),
        ("redo x", "For input string: \"x\""),
        ("create -z /foo", "org.apache.commons.cli.UnrecognizedOptionException: Unrecognized option: -z"),
        ("set /cont -1", "org.apache.commons.cli.UnrecognizedOptionException: Unrecognized option: -1"),
        (
            "setquota /j",
            "org.apache.commons.cli.MissingOptionException: Missing required option: [-n num soft quota, -b bytes soft quota, -N num hard quota, -B bytes hard quota]",
        ),
    ] {
        assert_eq!(complaint(line), words, "{line}");
    }
    for (line, words) in [
        ("setquota -n 0 /j", "the num quota must be greater than zero"),
        ("setquota -b -1 /j", "the bytes quota must be greater than or equal to zero"),
        ("setquota -N x /j", "NumberFormatException happens when parsing the option value"),
    ] {
        assert_eq!(command(line), Command::SetQuota { path: path("/j"), wish: QuotaWish::Refused(words) });
    }
    for line in ["foo bar", "   ", "LS /", "bench"] {
        let Err(Refusal::NotFound(name)) = parsed(line) else { panic!("{line}") };
        assert!(line.starts_with(&name) || name == " ", "{line}");
    }
}

#[test]
fn old_forms_work_and_are_noted() {
    for (line, note) in [
        ("get /j true", "'get path [watch]' has been deprecated. Please use 'get [-s] [-w] path' instead."),
        ("ls /j true", "'ls path [watch]' has been deprecated. Please use 'ls [-w] path' instead."),
        ("stat /j true", "'stat path [watch]' has been deprecated. Please use 'stat [-w] path' instead."),
        (
            "delete /j 3",
            "'delete path [version]' has been deprecated. Please use 'delete [-v version] path' instead.",
        ),
        ("ls2 /j", "'ls2' has been deprecated. Please use 'ls [-s] path' instead."),
        ("rmr /j", "The command 'rmr' has been deprecated. Please use 'deleteall' instead."),
        ("setAcl /j foo", "foo does not have the form scheme:id:perm"),
        ("create /j x world:anyone:z", "Unknown perm type: z"),
    ] {
        assert_eq!(parsed(line).unwrap().notes, [note], "{line}");
    }
    let watched = Command::Stat { path: path("/j"), watch: true };
    assert_eq!(parsed("stat /j true").unwrap().command, watched);
    let Command::SetAcl { acl, .. } = parsed("setAcl /j foo,").unwrap().command else { panic!() };
    assert_eq!(acl, []);
}
