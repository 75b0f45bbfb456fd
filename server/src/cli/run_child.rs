//! A program that runs only as long as something is held.
//!
//! The child gets what it needs in its environment and the signals that we get. When the hold is lost it is asked to
//! end (TERM) and, after a grace time, ended (KILL): by then another holder may have begun, so it must not go on.
//!
//! Unless standard input is a terminal the child leads a process group of its own, and signals go to the group: a shell's
//! children end with it. With a terminal it stays in ours, because only the foreground group may read a terminal; there the
//! terminal itself sends Ctrl-C to both, so that is not passed on.
//!
//! Left out: a child survives when *we* are killed by KILL. Whoever must not be disturbed then has to compare fencing
//! tokens.

use std::io::IsTerminal as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use super::signals::Signals;

/// What runs, and how.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The program and its arguments; not empty.
    pub(crate) command: Vec<String>,
    /// What is added to the environment.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// What the program reads; without it, our own standard input.
    pub(crate) input: Option<Bytes>,
    /// How long it may take to end when it is asked to.
    pub(crate) grace: Duration,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended<L> {
    /// By itself or by a signal; with this exit code, as a shell tells it.
    Exited(u8),
    /// By us, because the hold was lost.
    Lost(L),
}

/// Exit codes of shells for programs that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// Runs a program to its end, or until `lost` resolves. In both cases it has ended when this returns.
///
/// # Errors
/// The program's end cannot be awaited. That it cannot be started is told on standard error and by its exit code.
///
/// # Cancel safety
/// Dropping the future kills the program, but not what it has started.
pub(crate) async fn run<L>(
    program: &Program,
    signals: &mut Signals,
    lost: impl Future<Output = L>,
) -> Result<Ended<L>> {
    let own_group = !std::io::stdin().is_terminal();
    let mut child = match start(program, own_group) {
        Ok(child) => child,
        Err(error) => {
            let name = program.command.first().map_or("", String::as_str);
            eprintln!("docent: cannot run {name}: {error}");
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            return Ok(Ended::Exited(if missing { NOT_FOUND } else { NOT_EXECUTABLE }));
        }
    };
    let target = Target::of(&child, own_group);
    let input = feed(&mut child, program.input.clone());
    let ended = guard(&mut child, target, program.grace, signals, lost).await;
    input.abort();
    ended
}

fn start(program: &Program, own_group: bool) -> std::io::Result<Child> {
    let (name, arguments) = program.command.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(name);
    command.args(arguments).envs(program.environment.iter().cloned()).kill_on_drop(true);
    if program.input.is_some() {
        command.stdin(Stdio::piped());
    }
    if own_group {
        command.process_group(0);
    }
    command.spawn()
}

/// Writes the program's input. A program that does not read it all is no error.
fn feed(child: &mut Child, input: Option<Bytes>) -> tokio::task::AbortHandle {
    let stdin = child.stdin.take();
    let task = tokio::spawn(async move {
        if let Some((mut stdin, input)) = stdin.zip(input) {
            let _unread = stdin.write_all(&input).await;
        }
    });
    task.abort_handle()
}

async fn guard<L>(
    child: &mut Child,
    target: Target,
    grace: Duration,
    signals: &mut Signals,
    lost: impl Future<Output = L>,
) -> Result<Ended<L>> {
    let mut lost = std::pin::pin!(lost);
    loop {
        tokio::select! {
            // A program that has ended by itself has done its work while the hold was good.
            biased;
            status = child.wait() => return Ok(Ended::Exited(exit_code(status.context("waiting for the program")?))),
            cause = &mut lost => {
                stop(child, target, grace).await?;
                return Ok(Ended::Lost(cause));
            }
            signal = signals.next() => target.pass_on(signal),
        }
    }
}

/// Asks a program to end, and ends it when it does not.
async fn stop(child: &mut Child, target: Target, grace: Duration) -> Result<()> {
    target.send(Signal::TERM);
    if tokio::time::timeout(grace, child.wait()).await.is_err() {
        target.send(Signal::KILL);
        child.wait().await.context("waiting for the program")?;
    }
    // What the program has started and left behind must not go on either.
    if target.group {
        target.send(Signal::KILL);
    }
    Ok(())
}

/// Who gets the signals.
#[derive(Clone, Copy)]
struct Target {
    pid: Option<Pid>,
    group: bool,
}

impl Target {
    fn of(child: &Child, group: bool) -> Target {
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Target { pid, group }
    }

    fn pass_on(self, signal: Signal) {
        if self.group || !matches!(signal, Signal::INT | Signal::QUIT) {
            self.send(signal);
        }
    }

    /// A program that has ended meanwhile is no error.
    fn send(self, signal: Signal) {
        let Some(pid) = self.pid else { return };
        let _ended = if self.group { kill_process_group(pid, signal) } else { kill_process(pid, signal) };
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, Some(signal)) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        (None, None) => u8::MAX,
    }
}

#[cfg(test)]
#[path = "run_child_tests.rs"]
mod tests;
