//! Other people's clients as child processes, with a bound on their time and everything they print.
//!
//! A [`Program`] is described, then [`run`](Program::run), or [`spawn`](Program::spawn)ed where several play at once. Each
//! runs in a process group of its own, since `zkCli.sh` is a shell script around a JVM: what is cut short goes as a whole.

pub mod c_shell;
pub mod java;
pub mod python;
pub mod zkcli;

use std::ffi::OsStr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// No peer of ours prints more; one that does is reading its own output.
const OUTPUT_MAX: u64 = 16 << 20;

/// A peer about to be run.
#[derive(Debug)]
pub struct Program {
    name: String,
    command: Command,
    input: Vec<u8>,
}

impl Program {
    /// A peer by its program; `name` is what messages call it.
    pub fn new(name: impl Into<String>, program: impl AsRef<OsStr>) -> Program {
        let mut command = Command::new(program);
        // Times are printed in the zone of the machine otherwise.
        command.env("TZ", "UTC").env("LC_ALL", "C.UTF-8");
        Program { name: name.into(), command, input: Vec::new() }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Program {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Program {
        self.command.env(key, value);
        self
    }

    /// Gives it this text on its standard input, and then the end of it.
    #[must_use]
    pub fn input(mut self, text: impl Into<Vec<u8>>) -> Program {
        self.input = text.into();
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn spawn(mut self) -> Result<Playing> {
        let mut child = self
            .command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("running {}", self.name))?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let input = self.input;
        tokio::spawn(async move {
            if let Some(mut stdin) = stdin {
                // A peer that ends without reading everything tells by its output why.
                let _ = stdin.write_all(&input).await;
            }
        });
        Ok(Playing {
            group: Group::of(&child),
            name: self.name,
            child,
            stdout: tokio::spawn(read_all(stdout)),
            stderr: tokio::spawn(read_all(stderr)),
        })
    }

    /// Starts it and waits for its end.
    ///
    /// # Errors
    /// When it cannot be run, or has not ended within `bound`; it is killed then.
    pub async fn run(self, bound: Duration) -> Result<Output> {
        self.spawn()?.finish(bound).await
    }
}

async fn read_all(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What came before a broken pipe is all there is to know.
        let _ = pipe.take(OUTPUT_MAX).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The process group of a running peer; killed when this goes away.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Group {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Group(id.and_then(Pid::from_raw))
    }

    fn kill(&self) {
        if let Some(pid) = self.0 {
            // The group has gone if all of it has ended.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A peer that runs; killed when this value goes away.
#[derive(Debug)]
pub struct Playing {
    // Declared first: the group must be killed while its number is still taken by the child.
    group: Group,
    name: String,
    child: Child,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
}

impl Playing {
    /// Waits for its end.
    ///
    /// # Errors
    /// When it has not ended within `bound`: it is killed then, and the message holds what it has printed so far.
    pub async fn finish(mut self, bound: Duration) -> Result<Output> {
        let ended = tokio::time::timeout(bound, self.child.wait()).await;
        if ended.is_err() {
            self.group.kill();
        }
        let stdout = self.stdout.await.context("reading standard output")?;
        let stderr = self.stderr.await.context("reading standard error")?;
        let Ok(status) = ended else {
            bail!("{} has not ended within {bound:?}\n{stdout}\n{stderr}", self.name);
        };
        // From here on the number of the group may be someone else's.
        self.group.0 = None;
        let status = status.with_context(|| format!("waiting for {}", self.name))?;
        Ok(Output { name: self.name, status, stdout, stderr })
    }
}

/// What a peer has said.
#[derive(Debug)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// The peer must have ended with 0.
    ///
    /// # Errors
    /// With all its output, if it has not.
    pub fn success(self) -> Result<Output> {
        ensure!(self.status.success(), "{}: {}\n{}\n{}", self.name, self.status, self.stdout, self.stderr);
        Ok(self)
    }

    /// A smoke program: it must have ended with 0, printed no `FAIL`, and passed at least `least` checks, so that a
    /// program that checks nothing does not pass.
    ///
    /// # Errors
    /// With all its output, if that does not hold.
    pub fn all_passed(self, least: usize) -> Result<Output> {
        let output = self.success()?;
        let count = |word: &str| output.stdout.lines().filter(|line| line.starts_with(word)).count();
        let (passed, failed) = (count("PASS "), count("FAIL "));
        ensure!(
            failed == 0 && passed >= least,
            "{}: {passed} passed (at least {least} wanted), {failed} failed\n{}",
            output.name,
            output.stdout
        );
        Ok(output)
    }
}
