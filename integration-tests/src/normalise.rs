//! What differs from run to run in the output of Apache's shell, replaced by names.
//!
//! - a zxid by its rank among all zxids of the text, since sessions take zxids too; 0 stays 0;
//! - a time by `<time>`, except the epoch, which the nodes of the server's own have;
//! - a session id by its order of appearance;
//! - the connect string by `<server>`;
//! - watch events go to the end, since another thread prints them, and those about the connection go away;
//! - complaints about a missing logging library go away.
//!
//! Everything else stays as it is, white space included.

use std::collections::{BTreeMap, BTreeSet};

const ZXIDS: [&str; 3] = ["cZxid", "mZxid", "pZxid"];
const TIMES: [&str; 2] = ["ctime", "mtime"];
const EPOCH: &str = "Thu Jan 01 00:00:00 UTC 1970";

/// Replaces; one for each text.
#[derive(Debug)]
pub struct Normaliser {
    connect: String,
    sessions: BTreeMap<String, usize>,
}

impl Normaliser {
    /// For the output of shells that were given this connect string.
    pub fn new(connect: &str) -> Normaliser {
        Normaliser { connect: connect.to_owned(), sessions: BTreeMap::new() }
    }

    /// The text with everything replaced.
    pub fn normalise(&mut self, text: &str) -> String {
        let ranks = ranks(text);
        let (lines, events) = separate_events(text);
        let mut normal = String::new();
        for line in lines {
            normal.push_str(&self.line(line, &ranks).replace(&self.connect, "<server>"));
            normal.push('\n');
        }
        for event in events {
            normal.push_str(&format!("EVENT {event}\n"));
        }
        normal
    }

    fn line(&mut self, line: &str, ranks: &BTreeMap<u64, usize>) -> String {
        let Some((name, value)) = line.split_once(" = ") else { return line.to_owned() };
        if ZXIDS.contains(&name) {
            let rank = hexadecimal(value).and_then(|zxid| ranks.get(&zxid));
            rank.map_or_else(|| line.to_owned(), |rank| format!("{name} = <zxid {rank}>"))
        } else if TIMES.contains(&name) && value != EPOCH {
            format!("{name} = <time>")
        } else if name == "ephemeralOwner" && value != "0x0" {
            let next = self.sessions.len() + 1;
            let session = *self.sessions.entry(value.to_owned()).or_insert(next);
            format!("{name} = <session {session}>")
        } else {
            line.to_owned()
        }
    }
}

/// The rank of every zxid but 0, from 1.
fn ranks(text: &str) -> BTreeMap<u64, usize> {
    let zxids: BTreeSet<u64> = text
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .filter(|(name, _)| ZXIDS.contains(name))
        .filter_map(|(_, value)| hexadecimal(value))
        .filter(|zxid| *zxid != 0)
        .collect();
    zxids.into_iter().zip(1..).collect()
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// The shell prints an empty line before each of the two lines of an event.
fn separate_events(text: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut lines, mut events) = (Vec::new(), Vec::new());
    for line in text.lines() {
        if line.starts_with("SLF4J:") {
            continue;
        }
        let event = line.starts_with("WatchedEvent ");
        if !event && line != "WATCHER::" {
            lines.push(line);
            continue;
        }
        if lines.last() == Some(&"") {
            lines.pop();
        }
        if event && !line.contains(" type:None ") {
            events.push(line);
        }
    }
    (lines, events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_replaced() {
        let text = "Connecting to 127.0.0.1:2181\n\nWATCHER::\n\nWatchedEvent state:SyncConnected type:None path:null\n\
                    SLF4J: no logger\n[a]\ncZxid = 0xa93\nmZxid = 0x12\npZxid = 0x0\nctime = Sat Nov 21 05:55:51 UTC 2026\n\
                    mtime = Thu Jan 01 00:00:00 UTC 1970\nephemeralOwner = 0x1000016a8a30011\n\nWATCHER::\n\n\
                    WatchedEvent state:SyncConnected type:NodeDeleted path:/a\nephemeralOwner = 0x0\n\nend\n";
        let wanted = "Connecting to <server>\n[a]\ncZxid = <zxid 2>\nmZxid = <zxid 1>\npZxid = 0x0\nctime = <time>\n\
                      mtime = Thu Jan 01 00:00:00 UTC 1970\nephemeralOwner = <session 1>\nephemeralOwner = 0x0\n\nend\n\
                      EVENT WatchedEvent state:SyncConnected type:NodeDeleted path:/a\n";
        assert_eq!(Normaliser::new("127.0.0.1:2181").normalise(text), wanted);
    }
}
