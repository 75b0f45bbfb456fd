//! `docent members GROUP [--watch]`: who is in a group.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use docent_recipes::{Recipes as _, View};

use super::connect::{SessionArgs, close, connect};
use super::exit;
use super::print::print;
use super::signals::{Signals, exit_code_of};

/// Arguments of `docent members`.
#[derive(Debug, clap::Args)]
pub(crate) struct MembersArgs {
    /// The group's node
    group: String,
    /// Go on, and print who joins (+) and who leaves (-)
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    session: SessionArgs,
}

/// Prints the members.
///
/// # Errors
/// The server cannot be reached or refuses.
pub(crate) async fn run(args: &MembersArgs, hosts: &str) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let client = connect(hosts, &args.session).await?;
    let code = follow(args, &client, &mut signals).await;
    close(&client).await;
    Ok(exit::with(code?))
}

async fn follow(args: &MembersArgs, client: &docent::Client, signals: &mut Signals) -> Result<u8> {
    let mut views = client.group(&args.group).names();
    loop {
        let view = tokio::select! {
            view = views.next() => view,
            signal = signals.end() => return Ok(exit_code_of(signal)),
        };
        let Some(view) = view else {
            let why =
                views.error().map_or_else(|| "the client is closed".to_owned(), |error| error.to_string());
            return Err(anyhow!("following {} has ended: {why}", args.group));
        };
        if !args.watch {
            print(names(&view))?;
            return Ok(0);
        }
        print(changes(&view))?;
    }
}

/// PURE. The members, one per line.
fn names(view: &View<()>) -> String {
    view.members.values().map(|member| format!("{}\n", member.id)).collect()
}

/// PURE. Who came and who went since the view before, one per line.
fn changes(view: &View<()>) -> String {
    let mut lines = String::new();
    for name in &view.left {
        let _infallible = writeln!(lines, "- {name}");
    }
    for name in &view.joined {
        let id = view.members.get(name).map_or(name, |member| &member.id);
        let _infallible = writeln!(lines, "+ {id}");
    }
    lines
}
