//! `docent shell` beside `zkCli.sh`: the same lines must print the same, on the same streams, with the same exit code.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent_integration_tests::availability::{Need, Suite, programs};
use docent_integration_tests::backend::Backend;
use docent_integration_tests::docent_bin;
use docent_integration_tests::normalise::Normaliser;
use docent_integration_tests::peers::{Output, Program, zkcli};

/// Lines about everything that both shells can do. `printwatches` stands where no event is under way: Apache's shell tells
/// events from a thread of its own, and one that is late is not printed after `printwatches off`.
const SCRIPT: &str = include_str!("shell_vs_zkcli.txt");
/// A shell answers at once; the bound is for a loaded machine.
const BOUND: Duration = Duration::from_secs(60);
/// Sequence numbers, times to live and what the script says about them need this.
const CONFIG: [&str; 1] = ["extendedTypesEnabled=true"];

fn shell(connect: &str) -> Result<Program> {
    Ok(Program::new("docent shell", docent_bin::binary()?)
        .args(["shell", "-server", connect])
        .env("TZ", "UTC"))
}

/// What a shell printed, stream by stream, without what differs from run to run.
fn normal(connect: &str, output: &Output) -> [String; 3] {
    let stream = |text: &str| Normaliser::new(connect).normalise(text);
    let code = output.status.code().map_or_else(|| "none".to_owned(), |code| code.to_string());
    [stream(&output.stdout), stream(&output.stderr), code]
}

fn same(what: &str, ours: &str, apaches: &str) -> Result<()> {
    let (mut our_lines, mut their_lines) = (ours.lines(), apaches.lines());
    for number in 1.. {
        let (our, their) = (our_lines.next(), their_lines.next());
        ensure!(
            our == their,
            "{what}, line {number}: docent {our:?}, zkCli {their:?}\nall of docent's:\n{ours}"
        );
        if our.is_none() {
            break;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piped_session_prints_what_apaches_shell_prints() -> Result<()> {
    let mut needs = Backend::Apache38.needs();
    needs.push(Need::ZkCli);
    let Some(_suite) = Suite::begin("docent shell beside zkCli.sh", &needs) else { return Ok(()) };
    let theirs = {
        let server = Backend::Apache38.start(&CONFIG).await?;
        let connect = server.connect_string();
        normal(&connect, &zkcli::session(&connect, SCRIPT).await?)
    };
    let server = Backend::Apache38.start(&CONFIG).await?;
    let connect = server.connect_string();
    let ours = normal(&connect, &shell(&connect)?.input(SCRIPT).run(BOUND).await?);
    ensure!(theirs[0].lines().count() > 150, "the script proves too little:\n{}", theirs[0]);
    for (what, (ours, theirs)) in ["stdout", "stderr", "exit code"].iter().zip(ours.iter().zip(&theirs)) {
        same(what, ours, theirs)?;
    }
    Ok(())
}

/// One shell per line, against our own server, beside what was recorded of Apache's shell on Apache's server. Needs nothing
/// that is not ours.
#[tokio::test(flavor = "multi_thread")]
async fn single_commands_print_what_was_recorded_of_apaches() -> Result<()> {
    let Some(_suite) = Suite::begin("docent shell beside the record", &[]) else { return Ok(()) };
    let read = |name: &str| {
        let path = programs().join("zkcli").join(name);
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let server = Backend::DocentBinary.start(&[]).await?;
    let connect = server.connect_string();
    let mut seen = String::new();
    for command in read("one-shot.txt")?.lines().filter(|command| !command.contains(LEFT_BEHIND)) {
        let output = shell(&connect)?.args(command.split_whitespace()).run(BOUND).await?;
        let code = output.status.code().map_or_else(|| "none".to_owned(), |code| code.to_string());
        seen.push_str(&format!(
            "$ {command}\n{}--- stderr\n{}--- exit {code}\n",
            output.stdout, output.stderr
        ));
    }
    same(
        "one-shot",
        &Normaliser::new(&connect).normalise(&seen),
        &without_left_behind(&read("one-shot.expected")?),
    )
}

/// An ephemeral node that a shell of one command makes. Apache's shell goes without ending its session, so the node stays
/// until that times out; ours ends it. This part of the record is left out.
const LEFT_BEHIND: &str = "/gone";

fn without_left_behind(record: &str) -> String {
    let blocks = record.split_inclusive('\n').fold(Vec::<String>::new(), |mut blocks, line| {
        match blocks.last_mut() {
            Some(block) if !line.starts_with("$ ") => block.push_str(line),
            _ => blocks.push(line.to_owned()),
        }
        blocks
    });
    let kept =
        blocks.iter().filter(|block| !block.lines().next().is_some_and(|line| line.contains(LEFT_BEHIND)));
    kept.map(|block| block.replace(&format!("{LEFT_BEHIND}\n"), "")).collect()
}
