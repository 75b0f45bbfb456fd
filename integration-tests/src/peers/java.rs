//! Our small Java programs around Curator and Apache's Java client: compiled once, run as often as wanted.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, bail};

use super::Program;
use crate::availability::{Need, debian_jar, newer_home, programs};

/// Which Java client and which Curator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JavaClient {
    /// ZooKeeper 3.8 and Curator 5.4, from Debian.
    Debian,
    /// ZooKeeper 3.9 and Curator 5.9, from `.ci/install-peers`; without its service discovery.
    Newer,
}

/// Curator's jars name no libraries of their own, so all are listed.
const DEBIAN_LIBRARIES: [&str; 10] = [
    "curator-recipes",
    "curator-x-discovery",
    "curator-framework",
    "curator-client",
    "zookeeper",
    "guava",
    "slf4j-simple",
    "jackson-databind",
    "jackson-core",
    "jackson-annotations",
];

impl JavaClient {
    /// What must be installed. The programs are compiled against Debian's jars in either case.
    pub fn needs(self) -> Vec<Need> {
        match self {
            JavaClient::Debian => vec![Need::Jdk, Need::Apache38, Need::Curator],
            JavaClient::Newer => vec![Need::Jdk, Need::Apache38, Need::Curator, Need::ApacheNewer],
        }
    }

    fn class_path(self, classes: &Path) -> String {
        match self {
            JavaClient::Debian => format!("{}:{}", classes.display(), debian_class_path()),
            JavaClient::Newer => format!("{}:{}/*", classes.display(), newer_home().display()),
        }
    }
}

fn debian_class_path() -> String {
    DEBIAN_LIBRARIES.map(|name| debian_jar(name).display().to_string()).join(":")
}

/// A Java program of ours by the name of its main class: `MutexContender`, `LatchContender`, `Framework`, `Recipes`.
///
/// # Errors
/// When the programs do not compile; the message holds what `javac` said.
pub fn program<S: AsRef<str>>(
    client: JavaClient,
    main: &str,
    args: impl IntoIterator<Item = S>,
) -> Result<Program> {
    static CLASSES: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let classes = CLASSES.get_or_init(|| compile().map_err(|error| format!("{error:#}")));
    let classes = classes.as_ref().map_err(|error| anyhow!("compiling the Java peers: {error}"))?;
    let args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
    Ok(Program::new(format!("java {main} {}", args.join(" ")), "java")
        .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"])
        .args(["-Dlog4j2.level=ERROR", "-cp", &client.class_path(classes), main])
        .args(args))
}

/// Compiles into a folder beside the test binaries that is named by the hash of the sources, so that several test
/// processes share it and none sees the classes of older sources.
fn compile() -> Result<PathBuf> {
    let mut sources: Vec<PathBuf> = std::fs::read_dir(programs().join("java"))
        .context("listing the Java sources")?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "java"));
    sources.sort();
    let mut hasher = DefaultHasher::new();
    for source in &sources {
        std::fs::read(source).with_context(|| source.display().to_string())?.hash(&mut hasher);
    }
    let target = build_folder()?;
    let classes = target.join(format!("peers-java-{:016x}", hasher.finish()));
    if classes.is_dir() {
        return Ok(classes);
    }
    let fresh = tempfile::tempdir_in(&target).context("making a folder for classes")?;
    let output = Command::new("javac")
        .args(["-nowarn", "-d"])
        .arg(fresh.path())
        .args(["-cp", &debian_class_path()])
        .args(&sources)
        .stdin(Stdio::null())
        .output()
        .context("running javac")?;
    if !output.status.success() {
        bail!("javac: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    // Another process may have been faster; its classes are the same.
    match std::fs::rename(fresh.keep(), &classes) {
        Err(error) if !classes.is_dir() => Err(error).context("putting the classes in place"),
        _ => Ok(classes),
    }
}

/// `target/debug` or its like: two levels above a test's own binary in `target/debug/deps`.
fn build_folder() -> Result<PathBuf> {
    let binary = std::env::current_exe().context("asking for the test's own path")?;
    let folder = binary.ancestors().nth(2).context("the test's binary lies at the root")?;
    Ok(folder.to_owned())
}
