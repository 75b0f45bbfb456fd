//! `docent shell`: Apache's `zkCli.sh` without a JVM. Same commands, same options, same output on the same streams,
//! same exit codes, so that scripts can change over.
//!
//! Lines become words ([`mod@line`]), words a command ([`parse`], PURE), and a command requests ([`execute`]); what is printed
//! is made in [`text`] (PURE). There are three ways in: a command on the command line, lines from a pipe, or a terminal
//! with history, completion, and events shown above the prompt.
//!
//! Not here: TLS settings, and Apache's file of client properties.

mod command;
mod completion;
mod editor;
mod execute;
mod failure;
mod history;
mod line;
mod options;
mod output;
mod parse;
mod path_check;
mod quota;
mod quota_commands;
mod session;
mod text;
mod tree;
mod watches;

use std::io::BufRead as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::mpsc;

use editor::LineEditor;
use output::Output;
use session::{Connecting, Flow, Shell};

/// Lines that wait between the reader of a pipe and the shell.
const LINES_WAITING: usize = 64;

/// Arguments of `docent shell`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShellArgs {
    /// Session timeout in milliseconds; also how long to wait for a server
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    timeout: u64,
    /// Be content with a server that has no quorum, for reads
    #[arg(short = 'r', long)]
    read_only: bool,
    /// Accepted for zkCli's sake: the shell always waits for a connection
    #[arg(long, hide = true)]
    waitforconnection: bool,
    /// A command and its arguments; without it lines are read from standard input
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// PURE. Spells the options of `zkCli.sh`, which have one dash, the way of this command line. Words of the shell's own
/// command, which begin with the first word without a dash, stay as they are.
pub(crate) fn respell(arguments: Vec<String>) -> Vec<String> {
    let Some(shell) = arguments.iter().position(|word| word == "shell") else { return arguments };
    let mut takes_value = false;
    let mut in_command = false;
    let respelled = arguments.into_iter().enumerate().map(|(at, word)| {
        if at <= shell || in_command {
            return word;
        }
        if takes_value {
            takes_value = false;
            return word;
        }
        let name = word.trim_start_matches('-');
        takes_value = matches!(name, "s" | "server" | "timeout");
        in_command = !word.starts_with('-');
        match &*word {
            "-server" | "-timeout" | "-waitforconnection" => format!("-{word}"),
            _ => word,
        }
    });
    respelled.collect()
}

/// Runs the shell to its end.
///
/// # Errors
/// The terminal cannot be used.
pub(crate) async fn run(args: &ShellArgs, hosts: &str) -> Result<ExitCode> {
    let timeout = Duration::from_millis(args.timeout);
    let connecting = Connecting { hosts: hosts.to_owned(), timeout, read_only: args.read_only };
    let (mut source, output) = match () {
        () if !args.command.is_empty() => (Source::Command(Some(args.command.clone())), Output::plain()),
        () if editor::is_interactive() => {
            let (editor, printer) = LineEditor::start(tokio::runtime::Handle::current())?;
            (Source::Terminal(editor), Output::above(printer))
        }
        () => (Source::Pipe(read_pipe()), Output::plain()),
    };
    let output = Arc::new(output);
    output.result(&format!("Connecting to {hosts}\n"));
    match source {
        Source::Command(_) => {}
        Source::Terminal(_) => output.result("Welcome to ZooKeeper!\n"),
        // Word for word what the other shell prints when lines come from a pipe, for scripts that skip it.
        Source::Pipe(_) => output.result("Welcome to ZooKeeper!\nJLine support is disabled\n"),
    }
    let mut shell = Shell::new(connecting, Arc::clone(&output));
    if let Err(failure) = shell.connect().await {
        output.note(&failure.message);
        if !matches!(source, Source::Terminal(_)) {
            return Ok(ExitCode::from(failure.exit_code));
        }
    }
    while source.step(&mut shell).await == Flow::Continue {}
    let exit_code = shell.exit_code();
    shell.hang_up().await;
    Ok(ExitCode::from(exit_code))
}

/// Where commands come from.
enum Source {
    Command(Option<Vec<String>>),
    Pipe(mpsc::Receiver<String>),
    Terminal(LineEditor),
}

impl Source {
    /// Carries out the next command.
    async fn step(&mut self, shell: &mut Shell) -> Flow {
        let line = match self {
            Source::Command(words) => {
                if let Some(words) = words.take() {
                    shell.run_words(&words).await;
                }
                return Flow::Quit;
            }
            Source::Pipe(lines) => lines.recv().await,
            Source::Terminal(editor) => {
                editor.set_client(shell.client().cloned());
                editor.read(shell.prompt()).await
            }
        };
        match line {
            Some(line) => shell.run_line(&line).await,
            None => Flow::Quit,
        }
    }
}

/// Lines of standard input, read on a thread of its own because that blocks.
fn read_pipe() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(LINES_WAITING);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut bytes = Vec::new();
        while input.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
            bytes.clear();
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_zkcli_are_respelled() {
        let respelled = |line: &str| respell(line.split(' ').map(str::to_owned).collect()).join(" ");
        for (given, expected) in [
            ("docent shell -server h:1 ls /", "docent shell --server h:1 ls /"),
            ("docent shell -timeout 5 -r -server h:1", "docent shell --timeout 5 -r --server h:1"),
            ("docent shell -s h:1 ls -server", "docent shell -s h:1 ls -server"),
            ("docent shell -waitforconnection get -s /", "docent shell --waitforconnection get -s /"),
            ("docent -s h:1 shell ls /", "docent -s h:1 shell ls /"),
            ("docent bench -server", "docent bench -server"),
        ] {
            assert_eq!(respelled(given), expected);
        }
    }
}
