//! `docent elect PATH -- CMD…`: runs a program while this process leads.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use docent_recipes::{Fence, Latch, Recipes as _};

use super::connect::{SessionArgs, close, connect, own_name, parse_time};
use super::exit;
use super::run_child::{Ended, Program, run as run_program};
use super::signals::{Signals, exit_code_of};

/// Arguments of `docent elect`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: the program's own (128+N when signal N ended it); 74 when the leadership was lost \
and the program was stopped. The program finds the epoch of its leadership in DOCENT_EPOCH, and the same number in \
DOCENT_FENCING_TOKEN."
)]
pub(crate) struct ElectArgs {
    /// The node that candidates stand in line below
    path: String,
    /// Our id, for people and for those who watch who leads; host and process id without it
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// After a loss, stand again instead of ending
    #[arg(long)]
    again: bool,
    /// How long the program may take to end after the leadership was lost
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_time)]
    grace: Duration,
    #[command(flatten)]
    session: SessionArgs,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Stands for election, runs the program while leading, steps down.
///
/// # Errors
/// The server cannot be reached or refuses.
pub(crate) async fn run(args: &ElectArgs, hosts: &str) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let client = connect(hosts, &args.session).await?;
    let id = args.id.clone().unwrap_or_else(own_name);
    let candidate = client.leader_latch(&args.path).id(id);
    let latch = tokio::select! {
        latch = candidate.join() => {
            latch.with_context(|| format!("standing for election at {}", args.path))?
        }
        signal = signals.end() => {
            close(&client).await;
            return Ok(exit::with(exit_code_of(signal)));
        }
    };
    let code = serve(args, &latch, &mut signals).await?;
    // After a loss there may be no server to confirm that we have left; then it is left to the end of the session.
    if code != exit::LOST
        && let Err(pending) = latch.leave().await
    {
        tracing::warn!("{pending}");
    }
    close(&client).await;
    Ok(exit::with(code))
}

async fn serve(args: &ElectArgs, latch: &Latch, signals: &mut Signals) -> Result<u8> {
    loop {
        let fence = tokio::select! {
            fence = latch.wait_to_lead() => fence.with_context(|| format!("waiting to lead at {}", args.path))?,
            signal = signals.end() => return Ok(exit_code_of(signal)),
        };
        match run_program(&program(args, &fence), signals, fence.lost()).await? {
            Ended::Exited(code) => return Ok(code),
            Ended::Lost(cause) => {
                eprintln!(
                    "docent: the leadership of {} was lost, the program was stopped: {cause}",
                    args.path
                );
                if !args.again {
                    return Ok(exit::LOST);
                }
            }
        }
    }
}

fn program(args: &ElectArgs, fence: &Fence) -> Program {
    let epoch = fence.token().to_string();
    Program {
        command: args.command.clone(),
        environment: vec![("DOCENT_FENCING_TOKEN", epoch.clone()), ("DOCENT_EPOCH", epoch)],
        input: None,
        grace: args.grace,
    }
}
