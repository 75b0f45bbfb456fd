//! `docent watch PATH [-- CMD…]`: the data of a node, now and after each change.

use std::future::pending;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use docent_recipes::{Raw, Recipes as _, Update, Watched};

use super::connect::{SessionArgs, close, connect, parse_time};
use super::exit;
use super::print::print;
use super::run_child::{Ended, Program, run as run_program};
use super::signals::{Signals, exit_code_of};

/// Arguments of `docent watch`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Values that follow each other faster than they are taken are skipped; the newest is never missed. \
The program finds the transaction that wrote the value in DOCENT_ZXID. It runs until it ends, then comes the next value; \
the command itself runs until a signal ends it (128+N)."
)]
pub(crate) struct WatchArgs {
    /// The node
    path: String,
    /// End after the first value, with the program's exit code
    #[arg(long)]
    once: bool,
    /// How long the program may take to end when we are ended
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_time)]
    grace: Duration,
    #[command(flatten)]
    session: SessionArgs,
    /// A program that gets each value on its standard input; without it values are printed
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Follows the node until a signal.
///
/// # Errors
/// The server cannot be reached or refuses.
pub(crate) async fn run(args: &WatchArgs, hosts: &str) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let client = connect(hosts, &args.session).await?;
    let code = follow(args, &client, &mut signals).await;
    close(&client).await;
    Ok(exit::with(code?))
}

async fn follow(args: &WatchArgs, client: &docent::Client, signals: &mut Signals) -> Result<u8> {
    let watched = tokio::select! {
        watched = client.watch_config(&args.path).bytes().default_if_missing(Bytes::new()).open() => {
            watched.with_context(|| format!("watching {}", args.path))?
        }
        signal = signals.end() => return Ok(exit_code_of(signal)),
    };
    let mut updates = watched.updates();
    let mut shown = None;
    if watched.info().mzxid.is_none() {
        eprintln!("docent: {} does not exist yet", args.path);
    }
    loop {
        let newest = watched.info().mzxid;
        if newest.is_some() && newest != shown {
            shown = newest;
            let code = show(args, &watched, signals).await?;
            if args.once {
                return Ok(code);
            }
            continue;
        }
        tokio::select! {
            update = updates.next() => match update {
                Some(Update::Missing { .. }) => eprintln!("docent: {} does not exist any more", args.path),
                Some(Update::Stale { .. }) => eprintln!("docent: not connected, {} may have changed", args.path),
                Some(_) => {}
                None => anyhow::bail!("watching {} has ended: the client is closed", args.path),
            },
            signal = signals.end() => return Ok(exit_code_of(signal)),
        }
    }
}

/// Prints the newest value, or runs the program with it.
async fn show(args: &WatchArgs, watched: &Watched<Bytes, Raw>, signals: &mut Signals) -> Result<u8> {
    let (value, info) = (watched.get(), watched.info());
    if args.command.is_empty() {
        print([&**value, b"\n"].concat())?;
        return Ok(0);
    }
    let zxid = info.mzxid.map_or_else(String::new, |zxid| format!("{:#x}", zxid.0));
    let program = Program {
        command: args.command.clone(),
        environment: vec![("DOCENT_ZXID", zxid)],
        input: Some((*value).clone()),
        grace: args.grace,
    };
    match run_program(&program, signals, pending::<()>()).await? {
        Ended::Exited(0) | Ended::Lost(()) => Ok(0),
        Ended::Exited(code) => {
            eprintln!("docent: the program failed with exit code {code}");
            Ok(code)
        }
    }
}
