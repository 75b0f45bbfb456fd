//! What each room must not know: the one rule that keeps the house's plan true.

use super::Finding;
use super::source::Source;

/// A word in code that betrays knowledge.
#[derive(Clone, Copy, Debug)]
enum Taboo {
    /// A path, and everything below it.
    Path(&'static str),
    /// A name, wherever it stands in a path.
    Name(&'static str),
}

/// Some rooms and what they must not know.
struct Rule {
    /// Folders or files, from the root of the repository.
    rooms: &'static [&'static str],
    taboos: &'static [Taboo],
    /// Completes the sentence "this room …".
    why: &'static str,
    /// Whether the tests of the room are free of it.
    tests_may: bool,
}

use Taboo::{Name, Path};

const PURE: &[&str] = &[
    "server/src/zab/",
    "server/src/tree/",
    "server/src/session/",
    "server/src/watch/",
    "server/src/node/",
    "core/src/proto/",
    "core/src/client/session.rs",
    "core/src/client/session/",
    "core/src/client/pending.rs",
    "core/src/client/watches.rs",
    "recipes/src/cache_reads.rs",
    "recipes/src/cache_view.rs",
    "recipes/src/line.rs",
];

const RULES: &[Rule] = &[
    Rule {
        rooms: PURE,
        taboos: &[
            Path("tokio"),
            Path("tokio_util"),
            Path("socket2"),
            Path("std::fs"),
            Path("std::thread"),
            Path("std::process"),
            Path("std::net::TcpStream"),
            Path("std::net::TcpListener"),
            Path("std::net::UdpSocket"),
            Path("std::net::ToSocketAddrs"),
            Name("async"),
            Name("await"),
        ],
        why: "only computes: sockets, files and tasks are the shell's",
        tests_may: true,
    },
    Rule {
        rooms: PURE,
        taboos: &[
            Path("std::time::Instant"),
            Path("std::time::SystemTime"),
            Path("std::collections::HashMap"),
            Path("std::collections::HashSet"),
            Path("std::hash::RandomState"),
            Path("foldhash::fast::RandomState"),
            Path("foldhash::quality::RandomState"),
            Path("fastrand::u64"),
            Path("fastrand::u32"),
            Path("fastrand::usize"),
            Path("fastrand::shuffle"),
        ],
        why: "gives the same answers to the same questions: no clock, no hash order, no global randomness",
        tests_may: true,
    },
    Rule {
        rooms: &["server/src/zab/", "server/src/tree/", "server/src/session/", "server/src/watch/"],
        taboos: &[Path("std::net"), Path("crate::net"), Path("crate::shell"), Path("crate::storage")],
        why: "does not know where its events come from and where its effects go",
        tests_may: false,
    },
    Rule {
        rooms: &["server/src/tree/", "server/src/session/", "server/src/watch/"],
        taboos: &[Path("crate::zab")],
        why: "does not know peers",
        tests_may: false,
    },
    Rule {
        rooms: &["server/src/zab/"],
        taboos: &[Path("crate::tree"), Path("crate::session"), Path("crate::watch"), Name("ZnodePath")],
        why: "agrees on records without knowing what is in them",
        tests_may: false,
    },
    Rule {
        rooms: &["server/src/storage/"],
        taboos: &[
            Name("Txn"),
            Name("LoggedTxn"),
            Path("crate::node"),
            Path("crate::tree"),
            Path("crate::session"),
            Path("crate::watch"),
            Path("crate::net"),
        ],
        why: "stores bytes and does not know what a record means",
        tests_may: true,
    },
    Rule {
        rooms: &["server/src/net/"],
        taboos: &[Path("crate::tree"), Path("crate::session"), Path("crate::watch"), Path("crate::storage")],
        why: "moves frames and does not know what they lead to",
        tests_may: false,
    },
    Rule {
        rooms: &["server/src/shell/"],
        taboos: &[Path("crate::watch"), Name("ErrorCode")],
        why: "carries out what the node asks and does not know any rule",
        tests_may: true,
    },
    Rule {
        rooms: &["core/src/", "recipes/src/"],
        taboos: &[Path("docent_server")],
        why: "works with any server, so it does not know ours",
        tests_may: true,
    },
    Rule {
        rooms: &["core/src/"],
        taboos: &[Path("docent_recipes")],
        why: "is what recipes are built on",
        tests_may: false,
    },
    Rule {
        rooms: &["recipes/src/"],
        taboos: &[Path("docent::proto")],
        why: "uses the public client and does not know the wire",
        tests_may: false,
    },
];

/// Every place where a room shows that it knows too much.
pub(crate) fn check(source: &Source, findings: &mut Vec<Finding>) {
    let rules: Vec<&Rule> =
        RULES.iter().filter(|rule| rule.rooms.iter().any(|room| source.path.starts_with(room))).collect();
    if rules.is_empty() {
        return;
    }
    for (at, path) in paths(source) {
        // What a room hands on under its own name, it does not use.
        let handed_on = source.lines[at].code.trim_start().starts_with("pub use ");
        for rule in &rules {
            if handed_on || rule.tests_may && source.lines[at].test {
                continue;
            }
            if let Some(taboo) = rule.taboos.iter().find(|taboo| taboo.matches(&path)) {
                findings.push(Finding::new(
                    source,
                    at,
                    format!("`{}`: this room {}", taboo.text(), rule.why),
                ));
            }
        }
    }
}

impl Taboo {
    fn text(&self) -> &'static str {
        match self {
            Path(text) | Name(text) => text,
        }
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Path(taboo) => {
                path.strip_prefix(taboo).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            }
            Name(taboo) => path.split("::").any(|name| name == *taboo),
        }
    }
}

/// Every path that the code names, with the line where it begins. The trees of `use` are spread out.
fn paths(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut tree: Option<(usize, String)> = None;
    for (at, line) in source.code() {
        let code = line.code.trim();
        let begins = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "]
            .iter()
            .find_map(|u| code.strip_prefix(u));
        match (&mut tree, begins) {
            (Some((_, text)), _) => text.push_str(code),
            (None, Some(rest)) => tree = Some((at, rest.to_owned())),
            (None, None) => found.extend(plain_paths(code).map(|path| (at, path))),
        }
        if let Some((first, text)) = tree.take_if(|(_, text)| text.contains(';')) {
            let text = text.split(';').next().unwrap_or_default();
            spread("", text, &mut |path| found.push((first, path)));
        }
    }
    found
}

fn plain_paths(code: &str) -> impl Iterator<Item = String> + '_ {
    let words = code.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':')));
    words.map(|word| word.trim_matches(':').to_owned()).filter(|word| !word.is_empty())
}

/// `a::{b, c::d as e}` is `a::b` and `a::c::d`.
fn spread(prefix: &str, tree: &str, found: &mut dyn FnMut(String)) {
    let tree = tree.trim();
    let Some((head, inner)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or_default().trim();
        found(format!("{prefix}{name}"));
        return;
    };
    let prefix = format!("{prefix}{}", head.trim());
    let inner = inner.trim_end().strip_suffix('}').unwrap_or(inner);
    let (mut depth, mut start) = (0usize, 0usize);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                if !inner[start..at].trim().is_empty() {
                    spread(&prefix, &inner[start..at], found);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(&Source::new(path, text), &mut findings);
        findings
            .iter()
            .map(|finding| {
                finding.message.split(':').next().unwrap_or_default().to_owned()
                    + &format!("@{}", finding.line)
            })
            .collect()
    }

    fn found(path: &str, text: &str) -> bool {
        let mut findings = Vec::new();
        check(&Source::new(path, text), &mut findings);
        !findings.is_empty()
    }

    #[test]
    fn use_trees_are_spread_out() {
        let source =
            Source::new("a.rs", "use std::{\n    fs,\n    net::{self, IpAddr as Ip},\n};\nlet a = x::y(b);");
        let paths: Vec<String> = paths(&source).into_iter().map(|(_, path)| path).collect();
        assert_eq!(paths, ["std::fs", "std::net::self", "std::net::IpAddr", "let", "a", "x::y", "b"]);
    }

    #[test]
    fn each_room_is_kept_from_what_it_must_not_know() {
        for (path, bad) in [
            ("server/src/zab/a.rs", "use tokio::time::sleep;"),
            ("server/src/zab/a.rs", "use std::net::SocketAddr;"),
            ("server/src/zab/a.rs", "use crate::tree::Tree;"),
            ("server/src/tree/a.rs", "fn f() { std::fs::read(x); }"),
            ("server/src/tree/a.rs", "use std::collections::{BTreeMap, HashMap};"),
            ("server/src/tree/a.rs", "use crate::zab::PeerId;"),
            ("server/src/session/a.rs", "let now = std::time::Instant::now();"),
            ("server/src/session/a.rs", "use std::time::{Duration, SystemTime};"),
            ("server/src/watch/a.rs", "async fn f() {}"),
            ("server/src/node/a.rs", "let seed = fastrand::u64(..);"),
            ("server/src/node/a.rs", "use std::net::TcpStream;"),
            ("core/src/proto/a.rs", "x.await;"),
            ("server/src/storage/a.rs", "fn f(txn: &Txn) {}"),
            ("server/src/storage/a.rs", "use crate::node::txn;"),
            ("server/src/net/a.rs", "use crate::tree::Tree;"),
            ("server/src/shell/a.rs", "return ErrorCode::OK;"),
            ("recipes/src/a.rs", "use docent::proto::Request;"),
            ("recipes/src/a.rs", "use docent_server::Server;"),
            ("core/src/client/a.rs", "use docent_server::Server;"),
        ] {
            assert!(found(path, bad), "{path}: {bad}");
        }
    }

    #[test]
    fn what_a_room_may_know_is_left_alone() {
        for (path, good) in [
            ("server/src/zab/a.rs", "// tokio and std::fs are only named here\nlet a = \"tokio::spawn\";"),
            ("server/src/zab/a.rs", "#[cfg(test)]\nmod tests {\n    use std::collections::HashMap;\n}"),
            ("server/src/tree/a.rs", "use hashbrown::HashMap;\nuse foldhash::fast::FixedState;"),
            ("server/src/node/a.rs", "use std::net::IpAddr;\nlet rng = fastrand::Rng::with_seed(1);"),
            ("server/src/storage/a.rs", "use std::fs::File;"),
            ("server/src/shell/a.rs", "use tokio::net::TcpListener;"),
            ("recipes/src/lib.rs", "pub use docent::proto::Stat;"),
            ("recipes/src/a.rs", "#[cfg(test)]\nmod tests {\n    use docent_server::testing::TestServer;\n}"),
            ("server/src/treehouse.rs", "use std::fs;"),
        ] {
            assert_eq!(findings(path, good), [""; 0], "{path}");
        }
    }
}
