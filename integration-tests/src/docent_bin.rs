//! Our own binary, as a user would have it: built once, started as a child process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::availability::workspace;
use crate::server_process::Launch;

/// What the static binary is built for. Named even where it is the host, so that build scripts are not linked statically.
pub const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";

/// The path of the binary `docent`: what `DOCENT_TEST_BIN` names, or else what `cargo build` makes, once per process, in
/// the profile that this test was built in.
///
/// # Errors
/// When the named file is not there, or the build fails; the message holds what cargo printed.
pub fn binary() -> Result<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| find().map_err(|error| format!("{error:#}")));
    found.as_deref().map_err(|error| anyhow!("the binary docent: {error}"))
}

fn find() -> Result<PathBuf> {
    match std::env::var_os("DOCENT_TEST_BIN") {
        Some(path) => {
            let path = PathBuf::from(path);
            let path = path.canonicalize().with_context(|| format!("DOCENT_TEST_BIN={}", path.display()))?;
            Ok(path)
        }
        None => build(),
    }
}

fn build() -> Result<PathBuf> {
    let mut command = cargo_build();
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    executable(command)
}

/// Builds the binary that needs no file of the system it runs on, as the `Dockerfile` says, in the quick profile
/// `container`. Cargo builds nothing when nothing has changed.
///
/// # Errors
/// When the build fails; the message holds what cargo printed.
pub fn static_binary() -> Result<PathBuf> {
    const STATIC: &str = "-C target-feature=+crt-static";
    let flags =
        std::env::var("RUSTFLAGS").map_or_else(|_| STATIC.to_owned(), |own| format!("{own} {STATIC}"));
    let mut command = cargo_build();
    command.args(["--profile", "container", "--target", STATIC_TARGET]);
    // The encoded form would win over ours.
    command.env("RUSTFLAGS", flags).env_remove("CARGO_ENCODED_RUSTFLAGS");
    executable(command)
}

fn cargo_build() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args([
        "build",
        "--package",
        "docent-server",
        "--bin",
        "docent",
        "--message-format=json-render-diagnostics",
    ]);
    command
}

fn executable(mut command: Command) -> Result<PathBuf> {
    let output =
        command.current_dir(workspace()).stdin(Stdio::null()).output().context("running cargo build")?;
    if !output.status.success() {
        bail!("cargo build: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    });
    executable.context("cargo build named no executable")
}

/// How to start our server on a configuration file.
///
/// # Errors
/// As [`binary`].
pub fn launch(config: &Path, address: SocketAddr) -> Result<Launch> {
    let command = vec![
        binary()?.display().to_string(),
        "serve".to_owned(),
        "--config".to_owned(),
        config.display().to_string(),
    ];
    Ok(Launch { name: format!("docent at {address}"), command, address })
}
