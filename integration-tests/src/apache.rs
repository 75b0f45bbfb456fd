//! Apache's own server, standalone, as a child process.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use crate::availability::{Need, debian_jar, newer_home};
use crate::server_process::{Home, Launch};

/// Which of Apache's releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApacheVersion {
    /// 3.8.0 with Debian's patches.
    Debian38,
    /// The 3.9 release that `.ci/install-peers` takes out of pyspark.
    Newer,
}

impl ApacheVersion {
    /// What must be installed to start it.
    pub fn needs(self) -> [Need; 2] {
        match self {
            ApacheVersion::Debian38 => [Need::Jdk, Need::Apache38],
            ApacheVersion::Newer => [Need::Jdk, Need::ApacheNewer],
        }
    }

    fn class_path(self) -> String {
        match self {
            // The jar names its libraries itself, except for one that prints the log and those for TLS.
            ApacheVersion::Debian38 => {
                let jars = ["zookeeper", "slf4j-simple", "netty-handler", "netty-codec"];
                jars.map(|jar| debian_jar(jar).display().to_string()).join(":")
            }
            ApacheVersion::Newer => format!("{}/*", newer_home().display()),
        }
    }
}

/// Bounds the memory of each JVM, and keeps the log to what matters when a test fails.
const JVM: [&str; 3] = ["-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dlog4j2.level=WARN"];

/// How to start Apache's server on a configuration file, with further flags for its JVM.
///
/// # Errors
/// None today; the signature leaves room for a look at the installation.
pub fn launch(version: ApacheVersion, config: &Path, address: SocketAddr, jvm: &[&str]) -> Result<Launch> {
    let mut command = vec!["java".to_owned()];
    command.extend(JVM.iter().chain(jvm).map(|flag| (*flag).to_owned()));
    command.extend(["-cp".to_owned(), version.class_path()]);
    command.push("org.apache.zookeeper.server.quorum.QuorumPeerMain".to_owned());
    command.push(config.display().to_string());
    Ok(Launch { name: format!("Apache {version:?} at {address}"), command, address })
}

/// The data folder of a home, filled with a copy of another: to open files that someone else has written.
///
/// # Errors
/// When `from` cannot be read or the copy cannot be written.
pub fn copy_data(home: &Home, from: &Path) -> Result<()> {
    copy_folder(from, &home.data())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
