//! `docent lock PATH -- CMD…`: runs a program while a lock is held.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use docent::Client;
use docent_recipes::{Error, LockGuard, Recipes as _};

use super::connect::{SessionArgs, close, connect, own_name, parse_time};
use super::exit;
use super::run_child::{Ended, Program, run as run_program};
use super::signals::{Signals, exit_code_of};

/// Arguments of `docent lock`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: the program's own (128+N when signal N ended it); 75 when the lock was not acquired; \
74 when it was lost and the program was stopped. The program finds its fencing token in DOCENT_FENCING_TOKEN."
)]
pub(crate) struct LockArgs {
    /// The node that the lock lives at
    path: String,
    /// Take one ephemeral node at PATH instead of standing in line below it
    #[arg(long)]
    exclusive: bool,
    /// Do not wait
    #[arg(long = "try", conflicts_with = "timeout")]
    try_once: bool,
    /// Wait at most so long, like 5s
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timeout: Option<Duration>,
    /// How long the program may take to end after the lock was lost
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_time)]
    grace: Duration,
    #[command(flatten)]
    session: SessionArgs,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Acquires, runs the program, releases.
///
/// # Errors
/// The server cannot be reached or refuses.
pub(crate) async fn run(args: &LockArgs, hosts: &str) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let client = connect(hosts, &args.session).await?;
    let code = tokio::select! {
        guard = acquire(args, &client) => match guard? {
            Some(guard) => hold(args, guard, &mut signals).await?,
            None => exit::NOT_ACQUIRED,
        },
        signal = signals.end() => exit_code_of(signal),
    };
    close(&client).await;
    Ok(exit::with(code))
}

/// The lock, or `None` when it is not to be had now.
async fn acquire(args: &LockArgs, client: &Client) -> Result<Option<LockGuard>> {
    let acquired = match (args.exclusive, args.try_once, args.timeout) {
        (true, true, _) => client.exclusive(&args.path).id(own_name()).try_acquire().await,
        (true, false, Some(limit)) => {
            client.exclusive(&args.path).id(own_name()).acquire_within(limit).await.map(Some)
        }
        (true, false, None) => client.exclusive(&args.path).id(own_name()).acquire().await.map(Some),
        (false, true, _) => client.lock(&args.path).identifier(own_name()).try_acquire().await,
        (false, false, Some(limit)) => {
            client.lock(&args.path).identifier(own_name()).acquire_within(limit).await.map(Some)
        }
        (false, false, None) => client.lock(&args.path).identifier(own_name()).acquire().await.map(Some),
    };
    match acquired {
        Ok(None) => {
            eprintln!("docent: {} is held by somebody else", args.path);
            Ok(None)
        }
        Err(error @ Error::Timeout(_)) => {
            eprintln!("docent: {}: {error}", args.path);
            Ok(None)
        }
        other => other.with_context(|| format!("locking {}", args.path)),
    }
}

async fn hold(args: &LockArgs, guard: LockGuard, signals: &mut Signals) -> Result<u8> {
    let program = Program {
        command: args.command.clone(),
        environment: vec![("DOCENT_FENCING_TOKEN", guard.token().to_string())],
        input: None,
        grace: args.grace,
    };
    match run_program(&program, signals, guard.lost()).await? {
        Ended::Exited(code) => {
            if let Err(pending) = guard.release().await {
                tracing::warn!("{pending}");
            }
            Ok(code)
        }
        Ended::Lost(cause) => {
            eprintln!("docent: {} was lost, the program was stopped: {cause}", args.path);
            Ok(exit::LOST)
        }
    }
}
