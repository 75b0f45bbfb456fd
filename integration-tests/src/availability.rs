//! What is installed on this machine, and what happens when it is not.
//!
//! `cargo test` must pass on a machine that has nothing but a Rust toolchain, and must not pass by silence where the peers
//! are promised to be there. So a suite begins with [`Suite::begin`]: if a part is missing it prints `SKIPPED` and the
//! test returns, except where both `CI=true` and `DOCENT_PEERS=1` are set (as `.ci/run` does), where it panics.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Where Debian puts Java libraries.
pub const DEBIAN_JARS: &str = "/usr/share/java";
/// Apache's own shell for its Java client, as Debian installs it.
pub const ZKCLI: &str = "/usr/share/zookeeper/bin/zkCli.sh";
/// The shell of Apache's C client, as Debian installs it.
pub const C_SHELL: &str = "/usr/lib/zookeeper/bin/cli_mt";

/// A part of the outside world that a suite cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// `java` and `javac`.
    Jdk,
    /// Apache ZooKeeper 3.8, server and Java client, from Debian.
    Apache38,
    /// The newer Apache ZooKeeper out of the cache that `.ci/install-peers` fills.
    ApacheNewer,
    /// Curator 5.4 from Debian, with its service discovery.
    Curator,
    /// `python3`, and kazoo in the cache.
    Kazoo,
    /// kazoo's own test suite with what it needs, in the cache.
    KazooSuite,
    /// `zkCli.sh`.
    ZkCli,
    /// `cli_mt`, the shell of the C client.
    CShell,
    /// `openssl`, which makes certificates.
    OpenSsl,
}

impl Need {
    fn missing(self) -> Option<String> {
        match self {
            Need::Jdk => command("java").or_else(|| command("javac")),
            Need::Apache38 => file(&debian_jar("zookeeper")),
            Need::ApacheNewer => file(&newer_home().join("VERSION")),
            Need::Curator => {
                file(&debian_jar("curator-recipes")).or_else(|| file(&debian_jar("curator-x-discovery")))
            }
            Need::KazooSuite => command("python3").or_else(|| file(&kazoo_suite_home().join("VERSION"))),
            Need::Kazoo => command("python3").or_else(|| file(&kazoo_home().join("VERSION"))),
            Need::ZkCli => file(Path::new(ZKCLI)),
            Need::CShell => file(Path::new(C_SHELL)),
            Need::OpenSsl => command("openssl"),
        }
    }
}

/// The path of a Debian Java library.
pub fn debian_jar(name: &str) -> PathBuf {
    Path::new(DEBIAN_JARS).join(format!("{name}.jar"))
}

/// The root of the workspace this package was built from.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The programs of ours that peers run: `integration-tests/peers`.
pub fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// Where `.ci/install-peers` puts what is no Debian package; `DOCENT_PEERS_CACHE` moves it.
fn cache() -> PathBuf {
    std::env::var_os("DOCENT_PEERS_CACHE").map_or_else(|| workspace().join(".ci/cache"), PathBuf::from)
}

/// The folder with the jars of the newer Apache ZooKeeper and of the newer Curator.
pub fn newer_home() -> PathBuf {
    cache().join("zookeeper-newer")
}

/// The folder to be put on `PYTHONPATH` to run kazoo's own test suite.
pub fn kazoo_suite_home() -> PathBuf {
    cache().join("kazoo-suite")
}

/// The folder to be put on `PYTHONPATH` to have kazoo.
pub fn kazoo_home() -> PathBuf {
    cache().join("kazoo")
}

fn command(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    (!found).then(|| format!("the command {program}"))
}

fn file(path: &Path) -> Option<String> {
    (!path.exists()).then(|| path.display().to_string())
}

/// Prints a line past the test runner's capture, which would swallow it for every test that passes.
pub fn note(line: &str) {
    // One write, so that lines of tests side by side stay whole. A closed standard error is no reason to fail a test.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// A running suite; tells at its end how long it took.
#[derive(Debug)]
pub struct Suite {
    name: String,
    begun: Instant,
}

impl Suite {
    /// Begins a suite, or says `SKIPPED: <suite>: <what is missing>` and gives `None`. `DOCENT_PEERS=0` leaves out every
    /// suite that needs something.
    ///
    /// # Panics
    /// When something is missing though `CI=true` and `DOCENT_PEERS=1` promise that everything is there.
    pub fn begin(name: &str, needs: &[Need]) -> Option<Suite> {
        if !needs.is_empty() && refused(name) {
            return None;
        }
        // Several contenders may need the same.
        let missing: BTreeSet<String> = needs.iter().filter_map(|need| need.missing()).collect();
        Suite::begin_without(name, &missing)
    }

    /// As [`begin`](Self::begin), for a suite that has found out by itself what is missing. `DOCENT_PEERS=0` is its own
    /// affair, too ([`refused`]).
    ///
    /// # Panics
    /// As [`begin`](Self::begin).
    pub fn begin_without(name: &str, missing: &BTreeSet<String>) -> Option<Suite> {
        if missing.is_empty() {
            return Some(Suite { name: name.to_owned(), begun: Instant::now() });
        }
        let missing = missing.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        assert!(!promised(), "{name}: missing {missing}; run .ci/install-peers");
        note(&format!("SKIPPED: {name}: {missing}"));
        None
    }
}

/// Whether `DOCENT_PEERS=0` leaves out every suite that needs something; then it says so for this one.
pub fn refused(name: &str) -> bool {
    let refused = is_set("DOCENT_PEERS", "0");
    if refused {
        note(&format!("SKIPPED: {name}: DOCENT_PEERS=0"));
    }
    refused
}

fn is_set(key: &str, value: &str) -> bool {
    std::env::var(key).is_ok_and(|set| set == value)
}

fn promised() -> bool {
    is_set("CI", "true") && is_set("DOCENT_PEERS", "1")
}

impl Drop for Suite {
    fn drop(&mut self) {
        note(&format!("PEERS: {} took {:.1} s", self.name, self.begun.elapsed().as_secs_f64()));
    }
}
