//! `docent status`: asks each server of the connect string how it is, by four-letter words.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::bench::{Target, connect};
use super::print::print;

/// How long one server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read. Apache's `mntr` is below 64 KiB.
const ANSWER_MAX: u64 = 1 << 20;
/// What a server answers to a word that its whitelist does not have.
const NOT_ALLOWED: &str = "is not executed because it is not in the whitelist";

/// Asks all servers and prints a table. Exit code 1 when none of them serves.
///
/// # Errors
/// The connect string names no server, or standard output cannot be written.
pub(crate) fn run(hosts: &str) -> Result<ExitCode> {
    let target = Target::parse(hosts)?;
    // Side by side, so that a dead server delays nobody else's answer.
    let rows: Vec<Row> = std::thread::scope(|scope| {
        let asked: Vec<_> =
            target.hosts().iter().map(|host| (host, scope.spawn(move || ask(host)))).collect();
        let row = |(host, thread): (&String, std::thread::ScopedJoinHandle<'_, Result<Status>>)| Row {
            host: host.clone(),
            status: match thread.join() {
                Ok(status) => status.map_err(|error| format!("{error:#}")),
                Err(_) => Err("asking it failed".to_owned()),
            },
        };
        asked.into_iter().map(row).collect()
    });
    print(table(&rows))?;
    let serves = rows.iter().any(|row| row.status.is_ok());
    Ok(if serves { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Row {
    host: String,
    status: Result<Status, String>,
}

impl Row {
    /// The epoch of the server's last transaction, and how many it is behind the newest of all; "-" where that cannot be
    /// counted, because the newest is of another epoch.
    fn epoch_and_lag(&self, newest: Option<(u64, u64)>) -> (String, String) {
        let Some((epoch, counter)) = self.status.as_ref().ok().and_then(Status::place) else {
            return ("-".to_owned(), "-".to_owned());
        };
        let lag = match newest {
            Some((of, last)) if of == epoch => (last - counter).to_string(),
            _ => "-".to_owned(),
        };
        (epoch.to_string(), lag)
    }
}

impl Status {
    /// Epoch and counter of the last transaction.
    fn place(&self) -> Option<(u64, u64)> {
        let zxid = u64::from_str_radix(self.zxid.strip_prefix("0x")?, 16).ok()?;
        Some((zxid >> 32, zxid & 0xffff_ffff))
    }
}

/// What a server said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Status {
    mode: String,
    version: String,
    zxid: String,
    clients: String,
    latency: String,
    nodes: String,
    /// From `mntr`, which servers answer only if their whitelist has it.
    watches: Option<String>,
}

fn ask(host: &str) -> Result<Status> {
    let mut status = parse_srvr(&four_letter_word(host, "srvr")?)?;
    // Many servers do not allow this one; then the column stays empty.
    if let Ok(answer) = four_letter_word(host, "mntr") {
        status.watches = parse_mntr(&answer, "zk_watch_count");
    }
    Ok(status)
}

fn four_letter_word(host: &str, word: &str) -> Result<String> {
    let mut stream = connect(host, PATIENCE)?;
    stream.write_all(word.as_bytes()).with_context(|| format!("asking {host}"))?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).with_context(|| format!("waiting for {host}"))?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// PURE. The lines of `srvr`.
fn parse_srvr(answer: &str) -> Result<Status> {
    let value = |key: &str| {
        let line = answer.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        line.map(|value| value.trim().to_owned())
    };
    let Some(mode) = value("Mode") else {
        let first = answer.lines().next().unwrap_or_default();
        if first.contains(NOT_ALLOWED) {
            bail!("it does not allow srvr");
        }
        bail!("{}", if first.is_empty() { "it closed the connection without an answer" } else { first });
    };
    let version = value("Zookeeper version").unwrap_or_default();
    let version = version.split([',', '-']).next().unwrap_or_default().to_owned();
    Ok(Status {
        mode,
        version,
        zxid: value("Zxid").unwrap_or_default(),
        clients: value("Connections").unwrap_or_default(),
        latency: value("Latency min/avg/max").unwrap_or_default(),
        nodes: value("Node count").unwrap_or_default(),
        watches: None,
    })
}

/// PURE. One number of `mntr`.
fn parse_mntr(answer: &str, key: &str) -> Option<String> {
    answer
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('\t'))
        .map(|value| value.trim().to_owned())
}

/// PURE. The rows in columns as wide as they need to be.
fn table(rows: &[Row]) -> String {
    const HEADINGS: [&str; 10] =
        ["HOST", "MODE", "VERSION", "EPOCH", "ZXID", "LAG", "CLIENTS", "LATENCY MS", "NODES", "WATCHES"];
    let newest = rows.iter().filter_map(|row| row.status.as_ref().ok()?.place()).max();
    let places: Vec<(String, String)> = rows.iter().map(|row| row.epoch_and_lag(newest)).collect();
    let mut cells: Vec<Vec<&str>> = vec![HEADINGS.to_vec()];
    for (row, (epoch, lag)) in rows.iter().zip(&places) {
        cells.push(match &row.status {
            Ok(status) => vec![
                &row.host,
                &status.mode,
                &status.version,
                epoch,
                &status.zxid,
                lag,
                &status.clients,
                &status.latency,
                &status.nodes,
                status.watches.as_deref().unwrap_or("-"),
            ],
            Err(_) => vec![&row.host],
        });
    }
    let width = |column: usize| {
        cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.len()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    let mut text = String::new();
    let errors = std::iter::once(None).chain(rows.iter().map(|row| row.status.as_ref().err()));
    for (row, error) in cells.iter().zip(errors) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _infallible = write!(line, "{cell:<width$}  ");
        }
        if let Some(error) = error {
            let _infallible = write!(line, "error: {error}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRVR: &str = "Zookeeper version: 3.8.0-5a02a05, built on 2024-12-29 17:54 UTC\nLatency min/avg/max: 0/1.6258/36\n\
                        Received: 185\nSent: 201\nConnections: 3\nOutstanding: 0\nZxid: 0x51\nMode: standalone\n\
                        Node count: 18\n";

    #[test]
    fn srvr_and_mntr_are_read() {
        let status = parse_srvr(SRVR).unwrap();
        assert_eq!((&*status.mode, &*status.version, &*status.zxid), ("standalone", "3.8.0", "0x51"));
        assert_eq!((&*status.clients, &*status.latency, &*status.nodes), ("3", "0/1.6258/36", "18"));
        let mntr = "zk_version\t3.8.0\nzk_watch_count\t7\n";
        assert_eq!(parse_mntr(mntr, "zk_watch_count").as_deref(), Some("7"));
        assert_eq!(
            parse_mntr("mntr is not executed because it is not in the whitelist.\n", "zk_watch_count"),
            None
        );
    }

    #[test]
    fn a_server_that_does_not_serve_says_why() {
        for (answer, why) in [
            (
                "This ZooKeeper instance is not currently serving requests\n",
                "This ZooKeeper instance is not currently serving requests",
            ),
            ("srvr is not executed because it is not in the whitelist.\n", "it does not allow srvr"),
            ("", "it closed the connection without an answer"),
        ] {
            assert_eq!(parse_srvr(answer).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn the_table_has_columns_and_errors() {
        let rows = [
            Row { host: "zk1:2181".into(), status: Ok(parse_srvr(SRVR).unwrap()) },
            Row { host: "zk22:2181".into(), status: Err("connecting to zk22:2181: refused".into()) },
        ];
        let expected = "HOST       MODE        VERSION  EPOCH  ZXID  LAG  CLIENTS  LATENCY MS   NODES  WATCHES\n\
                        zk1:2181   standalone  3.8.0    0      0x51  0    3        0/1.6258/36  18     -\n\
                        zk22:2181  error: connecting to zk22:2181: refused\n";
        assert_eq!(table(&rows), expected);
    }

    #[test]
    fn the_lag_is_counted_within_an_epoch() {
        let row = |zxid: &str| Row {
            host: String::new(),
            status: Ok(Status { zxid: zxid.into(), ..Status::default() }),
        };
        let newest = row("0x200000009").status.unwrap().place();
        let told = |zxid: &str| row(zxid).epoch_and_lag(newest);
        assert_eq!(told("0x200000004"), ("2".to_owned(), "5".to_owned()));
        assert_eq!(told("0x100000004"), ("1".to_owned(), "-".to_owned()));
        assert_eq!(told("?"), ("-".to_owned(), "-".to_owned()));
    }
}
