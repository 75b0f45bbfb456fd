//! `docent join GROUP NAME [-- CMD…]`: is a member of a group, as long as a program runs or until a signal.

use std::future::pending;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use docent_recipes::{Conflict, Member, MemberState, Recipes as _};

use super::connect::{SessionArgs, close, connect, parse_time};
use super::exit;
use super::run_child::{Ended, Program, run as run_program};
use super::signals::{Signals, exit_code_of};

/// Arguments of `docent join`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "After a lost session the member joins again by itself, and the program goes on. Exit codes: the \
program's own (128+N when signal N ended it); 75 when the name is taken; 74 when the membership cannot be kept, and the \
program was stopped."
)]
pub(crate) struct JoinArgs {
    /// The group's node; Curator's usual one is /GroupMembers
    group: String,
    /// The member's name
    name: String,
    /// The member's data
    #[arg(long, value_name = "TEXT", default_value = "")]
    data: String,
    /// When the name is taken, wait until it is free
    #[arg(long)]
    wait: bool,
    /// How long the program may take to end
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_time)]
    grace: Duration,
    #[command(flatten)]
    session: SessionArgs,
    /// A program and its arguments; without it the membership lasts until a signal
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Joins, runs the program, leaves.
///
/// # Errors
/// The server cannot be reached or refuses.
pub(crate) async fn run(args: &JoinArgs, hosts: &str) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let client = connect(hosts, &args.session).await?;
    let conflict = if args.wait { Conflict::Wait } else { Conflict::Fail };
    let join =
        client.group(&args.group).join_raw(&args.name, args.data.clone().into_bytes()).on_conflict(conflict);
    let code = tokio::select! {
        member = join.into_future() => match member {
            Ok(member) => stay(args, member, &mut signals).await?,
            Err(error @ docent_recipes::Error::Conflict { .. }) => {
                eprintln!("docent: {error}");
                exit::NOT_ACQUIRED
            }
            Err(error) => return Err(error).with_context(|| format!("joining {}", args.group)),
        },
        signal = signals.end() => exit_code_of(signal),
    };
    close(&client).await;
    Ok(exit::with(code))
}

async fn stay(args: &JoinArgs, member: Member, signals: &mut Signals) -> Result<u8> {
    let lost = failure(&member);
    let ended = if args.command.is_empty() {
        tokio::select! {
            cause = lost => Ended::Lost(cause),
            signal = signals.end() => Ended::Exited(exit_code_of(signal)),
        }
    } else {
        let environment = vec![("DOCENT_MEMBER", member.path().to_owned())];
        let program = Program { command: args.command.clone(), environment, input: None, grace: args.grace };
        run_program(&program, signals, lost).await?
    };
    let code = match ended {
        Ended::Exited(code) => code,
        Ended::Lost(cause) => {
            eprintln!("docent: the membership in {} has ended: {cause}", args.group);
            exit::LOST
        }
    };
    if let Err(pending) = member.leave().await {
        tracing::warn!("{pending}");
    }
    Ok(code)
}

/// Resolves when the member cannot go on.
fn failure(member: &Member) -> impl Future<Output = String> + use<> {
    let mut states = member.state();
    async move {
        loop {
            if let MemberState::Failed(error) = &*states.borrow_and_update() {
                return error.to_string();
            }
            if states.changed().await.is_err() {
                // It has left, which only we ask for.
                pending::<()>().await;
            }
        }
    }
}
