//! `docent doctor PATH`: who stands at a lock's, an election's or a group's path, and what is wrong there.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use docent_recipes::doctor::{Examination, Group, Severity, Standing, examine};

use super::connect::{SessionArgs, close, connect};
use super::exit;
use super::print::print;

/// Arguments of `docent doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// The path under which contenders, candidates or members stand
    path: String,
    #[command(flatten)]
    session: SessionArgs,
}

/// Prints what is found. The exit code tells the worst of it: [`exit::WARNED`], [`exit::WRONG`].
///
/// # Errors
/// The server cannot be reached or refuses.
pub(crate) async fn run(args: &DoctorArgs, hosts: &str) -> Result<ExitCode> {
    let client = connect(hosts, &args.session).await?;
    let found = examine(&client, &args.path).await;
    close(&client).await;
    let found = found?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    print(report(&found, now))?;
    Ok(exit::with(match found.severity() {
        Severity::Note => 0,
        Severity::Warning => exit::WARNED,
        Severity::Error => exit::WRONG,
    }))
}

/// PURE. What is told of a path; `now` since 1970, by this machine's clock.
fn report(found: &Examination, now: Duration) -> String {
    let mut text = format!("{}\n", found.path);
    for group in &found.groups {
        table(&mut text, group, now);
    }
    if found.groups.is_empty() && found.stat.is_some() {
        text.push_str("  nobody stands here\n");
    }
    for finding in &found.findings {
        let word = match finding.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let _ = writeln!(text, "  {word}: {}", finding.text);
    }
    for part in &found.parts {
        text.push_str(&report(part, now));
    }
    text
}

fn table(text: &mut String, group: &Group, now: Duration) {
    let count = group.standing.len() + group.more;
    let _ = writeln!(text, "  {}: {count}", group.purpose);
    let rows: Vec<[String; 6]> = group.standing.iter().map(|one| row(one, now)).collect();
    let widths: [usize; 6] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "    {}", cells.join("  ").trim_end());
    }
    if group.more > 0 {
        let _ = writeln!(text, "    and {} more", group.more);
    }
}

fn row(one: &Standing, now: Duration) -> [String; 6] {
    let created = Duration::from_millis(u64::try_from(one.created_ms).unwrap_or(0));
    let age = Duration::from_secs(now.saturating_sub(created).as_secs());
    let session = match one.session {
        docent::SessionId::NONE => "no session".to_owned(),
        session => session.to_string(),
    };
    // One line each, whatever somebody has written there.
    let who: String =
        String::from_utf8_lossy(&one.data).chars().filter(|c| !c.is_control()).take(40).collect();
    let who = if who.is_empty() { "-".to_owned() } else { who };
    let holds = if one.holds { "holds" } else { "" };
    [holds.to_owned(), who, session, age_of(age), format!("{:?}", one.system), one.name.clone()]
}

/// Like `3d4h`, `2h5m`, `7m10s` or `4s`.
fn age_of(age: Duration) -> String {
    let seconds = age.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, ..) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (430, "7m10s"), (7_500, "2h5m"), (273_600, "3d4h")] {
            assert_eq!(age_of(Duration::from_secs(seconds)), text);
        }
    }
}
