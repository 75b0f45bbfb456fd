//! The command line of `docent`: one binary for the server, the shell, and the recipes for programs in any language.
//!
//! Each command is a module with its arguments and a `run`. What all share: `-s HOSTS`, logging to standard error
//! (`DOCENT_LOG`, like `info` or `docent=debug`), and exit codes ([`exit`]).

mod bench;
mod connect;
mod doctor;
mod elect;
mod exit;
mod join;
mod lock;
mod members;
mod print;
mod run_child;
mod serve;
mod shell;
mod signals;
mod status;
mod watch;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser};

/// ZooKeeper-compatible coordination: server, shell, locks and elections for any program
#[derive(Debug, clap::Parser)]
#[command(name = "docent", version, about, propagate_version = true)]
struct Cli {
    /// The servers: host:port with commas between, and a path at the end to stay below it
    #[arg(
        short,
        long,
        env = "DOCENT_SERVER",
        default_value = "127.0.0.1:2181",
        global = true,
        value_name = "HOSTS"
    )]
    server: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run a server
    Serve(serve::ServeArgs),
    /// Look and change by hand or script: the commands of Apache's zkCli.sh
    Shell(shell::ShellArgs),
    /// Ask each server how it is
    Status,
    /// Run a program while holding a lock
    Lock(lock::LockArgs),
    /// Run a program while leading
    Elect(elect::ElectArgs),
    /// Print a node's data at each change, or run a program with it
    Watch(watch::WatchArgs),
    /// Be a member of a group, while a program runs or until a signal
    Join(join::JoinArgs),
    /// List the members of a group
    Members(members::MembersArgs),
    /// Say who stands at a lock's, an election's or a group's path, and what is wrong there
    Doctor(doctor::DoctorArgs),
    /// Measure a server, or compare two
    Bench(bench::BenchArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs the command that the arguments name.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse_from(shell::respell(std::env::args().collect()));
    start_log(&cli.command);
    match run(&cli) {
        Ok(code) => code,
        Err(error) if print::reader_is_gone(&error) => exit::with(exit::NO_READER),
        Err(error) => {
            eprintln!("docent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Logs to standard error: a server what it does, anything else from warnings on, if the environment does not say
/// otherwise.
fn start_log(command: &Command) {
    let usual = match command {
        Command::Serve(_) => tracing::level_filters::LevelFilter::INFO,
        _ => tracing::level_filters::LevelFilter::WARN,
    };
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_env_var("DOCENT_LOG")
        .with_default_directive(usual.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

fn run(cli: &Cli) -> Result<ExitCode> {
    let hosts = &*cli.server;
    match &cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Shell(args) => wait_for(shell::run(args, hosts)),
        Command::Status => status::run(hosts),
        Command::Lock(args) => wait_for(lock::run(args, hosts)),
        Command::Elect(args) => wait_for(elect::run(args, hosts)),
        Command::Watch(args) => wait_for(watch::run(args, hosts)),
        Command::Join(args) => wait_for(join::run(args, hosts)),
        Command::Members(args) => wait_for(members::run(args, hosts)),
        Command::Doctor(args) => wait_for(doctor::run(args, hosts)),
        Command::Bench(args) => bench::run(args, hosts),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "docent", &mut script);
            print::print(script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs a command that talks through a client. One thread is enough: it waits most of the time.
fn wait_for(command: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let code = runtime.block_on(command);
    // A thread that reads standard input may be blocked for good.
    runtime.shutdown_background();
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(shell::respell(line.split(' ').map(str::to_owned).collect()))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documented_lines_are_understood() {
        for line in [
            "docent serve --config zoo.cfg",
            "docent serve --dev --data dir",
            "docent shell -s h:1,i:2/root ls -s /",
            "docent shell -server h:1 get -s -w /a",
            "docent -s h:1 status",
            "docent status -s h:1",
            "docent lock /a --exclusive --try -- sh -c true",
            "docent lock /a --timeout 5s -- true",
            "docent elect /a -- true",
            "docent watch /a",
            "docent watch /a -- cat -n",
            "docent join /g me --data x -- sleep 1",
            "docent join /g me",
            "docent members /g --watch",
            "docent doctor /locks/billing -s h:1",
            "docent bench create set --sessions 5 --in-flight 3 --size 10 --seconds 1 --json",
            "docent bench --memory-nodes 100 --pid 1",
            "docent completions bash",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for line in [
            "docent",
            "docent lock /a",
            "docent doctor",
            "docent lock /a --try --timeout 5s -- x",
            "docent serve",
            "docent serve --dev --config x",
            "docent serve --config x --data y",
            "docent bench --memory-nodes 5",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn words_of_a_shell_command_are_left_alone() {
        let cli = parse("docent shell -s h:1 ls -s -R /").unwrap();
        assert_eq!(cli.server, "h:1");
        let Command::Shell(args) = cli.command else { panic!("not the shell") };
        assert!(format!("{args:?}").contains(r#"["ls", "-s", "-R", "/"]"#), "{args:?}");
    }
}
