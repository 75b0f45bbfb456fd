//! The shell of Apache's C client, played by a script of commands and expected lines.
//!
//! The shell answers asynchronously and a `quit` cuts off what is on its way, so a script cannot simply be piped in. In
//! `integration-tests/peers/c/NAME.txt`, `> COMMAND` sends a line, `< TEXT` waits until a line that contains TEXT has been
//! printed since the line matched before, `= TEXT` waits for a line that is TEXT, `? TEXT` waits until a line that contains
//! TEXT has been printed at all, which is for the other one of the two streams, and `#` begins a comment.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::timeout;

use crate::availability::{C_SHELL, programs};

/// Bound for one expected line; the slowest is a session that is being made.
const LINE_BOUND: Duration = Duration::from_secs(20);
/// Lines in flight between the pipes and the script; the pipe itself holds back what is beyond.
const LINES_MAX: usize = 64;

struct Session {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    transcript: String,
}

/// Plays a script against a server; gives the transcript.
///
/// # Errors
/// When an expected line does not come, or the shell does not end with 0; the message holds the transcript.
pub async fn play(connect: &str, script: &str) -> Result<String> {
    let path = programs().join("c").join(format!("{script}.txt"));
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut session = Session::open(connect)?;
    for (number, line) in text.lines().enumerate() {
        session.step(line).await.with_context(|| format!("{}:{}: {line}", path.display(), number + 1))?;
    }
    session.close().await
}

impl Session {
    fn open(connect: &str) -> Result<Session> {
        let mut child = Command::new(C_SHELL)
            .args(["-h", connect])
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("running {C_SHELL}"))?;
        let (sender, lines) = mpsc::channel(LINES_MAX);
        let input = child.stdin.take().context("no standard input")?;
        // The shell prints some answers on one and some on the other.
        forward(child.stdout.take().context("no standard output")?, sender.clone());
        forward(child.stderr.take().context("no standard error")?, sender);
        Ok(Session { child, input, lines, transcript: String::new() })
    }

    async fn step(&mut self, line: &str) -> Result<()> {
        if let Some(command) = line.strip_prefix("> ") {
            self.transcript.push_str(&format!("> {command}\n"));
            self.input.write_all(format!("{command}\n").as_bytes()).await.context("the shell has ended")
        } else if let Some(text) = line.strip_prefix("< ") {
            self.expect(|seen| seen.contains(text)).await
        } else if let Some(text) = line.strip_prefix("= ") {
            self.expect(|seen| seen.trim() == text).await
        } else if let Some(text) = line.strip_prefix("? ") {
            let printed = self.transcript.lines().any(|seen| !seen.starts_with("> ") && seen.contains(text));
            if printed { Ok(()) } else { self.expect(|seen| seen.contains(text)).await }
        } else if line.is_empty() || line.starts_with('#') {
            Ok(())
        } else {
            bail!("neither a command nor an expectation")
        }
    }

    async fn expect(&mut self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        loop {
            let Ok(line) = timeout(LINE_BOUND, self.lines.recv()).await else {
                bail!("no such line within {LINE_BOUND:?}:\n{}", self.transcript);
            };
            let Some(line) = line else { bail!("the shell ended without it:\n{}", self.transcript) };
            self.transcript.push_str(&format!("{line}\n"));
            if wanted(&line) {
                return Ok(());
            }
        }
    }

    async fn close(mut self) -> Result<String> {
        drop(self.input);
        while let Ok(Some(line)) = timeout(LINE_BOUND, self.lines.recv()).await {
            self.transcript.push_str(&format!("{line}\n"));
        }
        let Ok(status) = timeout(LINE_BOUND, self.child.wait()).await else {
            bail!("the shell does not end:\n{}", self.transcript);
        };
        let status = status.context("waiting for the shell")?;
        if !status.success() {
            bail!("the shell ended with {status}:\n{}", self.transcript);
        }
        Ok(self.transcript)
    }
}

fn forward(pipe: impl AsyncRead + Unpin + Send + 'static, lines: Sender<String>) {
    tokio::spawn(async move {
        let mut reader = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = reader.next_line().await {
            if lines.send(line).await.is_err() {
                return;
            }
        }
    });
}
