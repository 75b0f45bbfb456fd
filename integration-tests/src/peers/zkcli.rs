//! `zkCli.sh`, Apache's shell, by recorded scripts.
//!
//! `integration-tests/peers/zkcli/NAME.txt` holds commands, `NAME.expected` what the 3.8 shell printed for them on an empty
//! 3.8 server, normalised. A script whose name begins with `session` is piped into one shell; of any other, each line is a
//! shell of its own, with the command as its arguments. `BLESS=1` records anew.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{Output, Program};
use crate::availability::{ZKCLI, note, programs};
use crate::backend::{Backend, Running};
use crate::normalise::Normaliser;

/// A shell starts in half a second; the bound is for a loaded machine.
const BOUND: Duration = Duration::from_secs(60);

/// What a server must allow so that the scripts see what a shell of one command has left behind: Apache's shell goes
/// without ending its session, its ephemeral node is there until that times out, and the shells after it are JVMs that
/// may take their time to start.
pub const LONG_SESSIONS: &str = "maxSessionTimeout=600000";
/// The session timeout that a shell asks for, milliseconds. Unless a server allows as much, it grants less.
const SESSION_MS: &str = "600000";

fn shell(connect: &str) -> Program {
    Program::new("zkCli.sh", ZKCLI)
        .args(["-server", connect, "-timeout", SESSION_MS])
        .env("CLIENT_JVMFLAGS", "-Xmx128m -XX:TieredStopAtLevel=1")
}

/// One command as the shell's arguments.
///
/// # Errors
/// When the shell cannot be run or does not end within a minute; not when the command fails.
pub async fn one_shot(connect: &str, command: &str) -> Result<Output> {
    shell(connect).args(command.split_whitespace()).run(BOUND).await
}

/// Commands piped into one shell, line by line.
///
/// # Errors
/// As [`one_shot`].
pub async fn session(connect: &str, commands: &str) -> Result<Output> {
    shell(connect).input(commands).run(BOUND).await
}

/// Plays a script on a server that nobody has written to, and gives what the shell printed, normalised.
///
/// # Errors
/// When the script cannot be read or a shell cannot be run.
pub async fn play(server: &Running, script: &str) -> Result<String> {
    let commands = read(&path(script, "txt"))?;
    let connect = server.connect_string();
    let mut normaliser = Normaliser::new(&connect);
    let mut text = String::new();
    if script.starts_with("session") {
        let output = session(&connect, &commands).await?;
        show(&mut text, &output);
    } else {
        for command in commands.lines() {
            let output = one_shot(&connect, command).await?;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "$ {command}");
            show(&mut text, &output);
        }
    }
    Ok(normaliser.normalise(&text))
}

fn show(text: &mut String, output: &Output) {
    let code = output.status.code().map_or_else(|| "none".to_owned(), |code| code.to_string());
    let _ = writeln!(text, "{}--- stderr\n{}--- exit {code}", output.stdout, output.stderr);
}

/// Plays a script and compares with what is recorded.
///
/// # Errors
/// With the first line that differs, and the whole text.
pub async fn compare(server: &Running, script: &str) -> Result<()> {
    let seen = play(server, script).await?;
    let file = path(script, "expected");
    if std::env::var_os("BLESS").is_some() && server.backend() == Backend::Apache38 {
        std::fs::write(&file, &seen).with_context(|| format!("writing {}", file.display()))?;
        note(&format!("BLESSED: {}", file.display()));
        return Ok(());
    }
    let wanted = read(&file)?;
    if seen == wanted {
        return Ok(());
    }
    let differs = wanted.lines().zip(seen.lines()).position(|(wanted, seen)| wanted != seen);
    let line = differs.unwrap_or_else(|| wanted.lines().count().min(seen.lines().count()));
    let at = |text: &str| text.lines().nth(line).unwrap_or("<end>").to_owned();
    bail!(
        "{script} on {:?} differs from the record at line {}:\n  wanted {:?}\n  seen   {:?}\nall of it:\n{seen}",
        server.backend(),
        line + 1,
        at(&wanted),
        at(&seen)
    )
}

fn path(script: &str, extension: &str) -> PathBuf {
    programs().join("zkcli").join(format!("{script}.{extension}"))
}

fn read(path: &PathBuf) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}
