//! Answers that list things: connections, sessions and watches.

use std::fmt::{Arguments, Write};

use docent::SessionId;

use super::facts::{ConnectionFacts, SessionFacts, Tracker, WatchFacts};
use super::java_text;

/// Appends formatted text; a `String` takes everything.
pub(super) fn put(out: &mut String, text: Arguments<'_>) {
    // Writing to a `String` has no way to fail, the result is only there for the trait.
    let _ = out.write_fmt(text);
}

/// `cons`: one line per connection and an empty one.
#[must_use]
pub fn cons(connections: &[ConnectionFacts]) -> String {
    let mut out = String::new();
    for facts in connections {
        connection(&mut out, facts, true);
    }
    out.push('\n');
    out
}

/// One line of `cons`, or of `stat` if it is not in full.
pub(super) fn connection(out: &mut String, facts: &ConnectionFacts, in_full: bool) {
    let address = java_text::socket_address(facts.address);
    let ConnectionFacts { interest_ops, queued, received, sent, session, .. } = facts;
    put(out, format_args!(" {address}[{interest_ops:x}](queued={queued},recved={received},sent={sent}"));
    if let Some(session) = session.as_ref().filter(|_| in_full) {
        put(out, format_args!(",sid={},lop={}", session.id, session.last_operation));
        put(out, format_args!(",est={},to={}", session.established_ms, session.timeout_ms));
        if let Some(cxid) = session.last_cxid {
            put(out, format_args!(",lcxid=0x{cxid:x}"));
        }
        put(out, format_args!(",lzxid={},lresp={}", session.last_zxid, session.last_response_ms));
        put(out, format_args!(",llat={},minlat={}", session.last_latency, session.min_latency));
        put(out, format_args!(",avglat={},maxlat={}", session.avg_latency, session.max_latency));
    }
    out.push_str(")\n");
}

/// `dump`: sessions, ephemeral nodes and connections.
#[must_use]
pub fn dump(facts: &SessionFacts) -> String {
    let mut out = String::from("SessionTracker dump:\n");
    match &facts.tracker {
        Tracker::Expiring(buckets) => {
            let sessions: usize = buckets.iter().map(|bucket| bucket.members.len()).sum();
            put(&mut out, format_args!("Session Sets ({})/({sessions}):\n", buckets.len()));
            for bucket in buckets {
                expiry(&mut out, bucket.members.len(), bucket.expires_ms);
                for session in &bucket.members {
                    put(&mut out, format_args!("\t{session}\n"));
                }
            }
        }
        Tracker::Learning(sessions) => {
            put(&mut out, format_args!("Global Sessions({}):\n", sessions.len()));
            for (session, timeout_ms) in sessions {
                put(&mut out, format_args!("{session}\t{timeout_ms}ms\n"));
            }
        }
    }
    out.push_str("ephemeral nodes dump:\n");
    put(&mut out, format_args!("Sessions with Ephemerals ({}):\n", facts.ephemerals.len()));
    for (session, paths) in &facts.ephemerals {
        put(&mut out, format_args!("{session}:\n"));
        indented(&mut out, paths);
    }
    out.push_str("Connections dump:\n");
    let connections: usize = facts.connections.iter().map(|bucket| bucket.members.len()).sum();
    put(&mut out, format_args!("Connections Sets ({})/({connections}):\n", facts.connections.len()));
    for bucket in &facts.connections {
        expiry(&mut out, bucket.members.len(), bucket.expires_ms);
        for (address, session) in &bucket.members {
            let address = java_text::socket_address(*address);
            put(&mut out, format_args!("\tip: {address} sessionId: {session}\n"));
        }
    }
    out
}

fn expiry(out: &mut String, count: usize, expires_ms: i64) {
    put(out, format_args!("{count} expire at {}:\n", java_text::date(expires_ms)));
}

fn indented(out: &mut String, lines: &[String]) {
    for line in lines {
        put(out, format_args!("\t{line}\n"));
    }
}

/// `wchs`: how many watches there are.
#[must_use]
pub fn wchs(facts: &WatchFacts) -> String {
    let WatchFacts { connections, paths, watches } = facts;
    format!("{connections} connections watching {paths} paths\nTotal watches:{watches}\n")
}

/// `wchc`: the watched paths of each session.
#[must_use]
pub fn wchc(watches: &[(SessionId, Vec<String>)]) -> String {
    let mut out = String::new();
    for (session, paths) in watches {
        put(&mut out, format_args!("{session}\n"));
        indented(&mut out, paths);
    }
    out.push('\n');
    out
}

/// `wchp`: the sessions that watch each path.
#[must_use]
pub fn wchp(watches: &[(String, Vec<SessionId>)]) -> String {
    let mut out = String::new();
    for (path, sessions) in watches {
        put(&mut out, format_args!("{path}\n"));
        for session in sessions {
            put(&mut out, format_args!("\t{session}\n"));
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use docent::Zxid;

    use super::super::facts::{ConnectionSession, ExpiryBucket};
    use super::*;

    const SID: SessionId = SessionId(0x0100_000f_acdb_000a);

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn asking(port: u16) -> ConnectionFacts {
        ConnectionFacts {
            address: address(port),
            interest_ops: 0,
            queued: 0,
            received: 1,
            sent: 0,
            session: None,
        }
    }

    fn with_session() -> ConnectionFacts {
        let session = ConnectionSession {
            id: SID,
            last_operation: "GETC",
            established_ms: 1_795_166_942_610,
            timeout_ms: 30_000,
            last_cxid: Some(5),
            last_zxid: Zxid(0x50),
            last_response_ms: 1_280_171,
            last_latency: 1,
            min_latency: 0,
            avg_latency: 0,
            max_latency: 2,
        };
        ConnectionFacts { interest_ops: 1, received: 6, sent: 6, session: Some(session), ..asking(38750) }
    }

    // The samples of this file are answers of Apache's server 3.8.0.

    #[test]
    fn cons_is_apaches() {
        let expected = " /127.0.0.1:38750[1](queued=0,recved=6,sent=6,sid=0x100000facdb000a,lop=GETC,\
                        est=1795166942610,to=30000,lcxid=0x5,lzxid=0x50,lresp=1280171,llat=1,minlat=0,avglat=0,maxlat=2)\n \
                        /127.0.0.1:38784[0](queued=0,recved=1,sent=0)\n\n";
        assert_eq!(cons(&[with_session(), asking(38784)]), expected);
        assert_eq!(cons(&[]), "\n");
    }

    #[test]
    fn a_connection_whose_numbers_were_reset_shows_none() {
        let mut facts = with_session();
        facts.address.set_port(34390);
        (facts.received, facts.sent) = (0, 0);
        facts.session = facts.session.map(|session| ConnectionSession {
            id: SessionId(0x0100_0022_c6e8_0000),
            last_operation: "NA",
            established_ms: 1_795_240_818_630,
            last_cxid: None,
            last_zxid: Zxid(-1),
            last_response_ms: 0,
            last_latency: 0,
            max_latency: 0,
            ..session
        });
        let expected = " /127.0.0.1:34390[1](queued=0,recved=0,sent=0,sid=0x1000022c6e80000,lop=NA,est=1795240818630,\
                        to=30000,lzxid=0xffffffffffffffff,lresp=0,llat=0,minlat=0,avglat=0,maxlat=0)\n\n";
        assert_eq!(cons(&[facts]), expected);
    }

    #[test]
    fn dump_is_apaches() {
        let session = SessionId(0x0100_0022_c6e8_0000);
        let facts = SessionFacts {
            tracker: Tracker::Expiring(vec![
                ExpiryBucket { expires_ms: 1_795_240_849_000, members: vec![] },
                ExpiryBucket { expires_ms: 1_795_240_851_000, members: vec![session] },
            ]),
            ephemerals: vec![(session, vec!["/eph1".into()])],
            connections: vec![
                ExpiryBucket { expires_ms: 1_795_240_833_000, members: vec![] },
                ExpiryBucket { expires_ms: 1_795_240_843_000, members: vec![(address(34426), SessionId(0))] },
                ExpiryBucket { expires_ms: 1_795_240_853_000, members: vec![(address(34390), session)] },
            ],
        };
        let expected = "\
SessionTracker dump:
Session Sets (2)/(1):
0 expire at Sat Nov 21 06:00:49 UTC 2026:
1 expire at Sat Nov 21 06:00:51 UTC 2026:
\t0x1000022c6e80000
ephemeral nodes dump:
Sessions with Ephemerals (1):
0x1000022c6e80000:
\t/eph1
Connections dump:
Connections Sets (3)/(2):
0 expire at Sat Nov 21 06:00:33 UTC 2026:
1 expire at Sat Nov 21 06:00:43 UTC 2026:
\tip: /127.0.0.1:34426 sessionId: 0x0
1 expire at Sat Nov 21 06:00:53 UTC 2026:
\tip: /127.0.0.1:34390 sessionId: 0x1000022c6e80000
";
        assert_eq!(dump(&facts), expected);
    }

    #[test]
    fn a_follower_lists_sessions_with_their_timeouts() {
        let learned =
            vec![(SessionId(0x0100_0011_b47e_0000), 5000), (SessionId(0x0200_0011_b47e_0000), 30_000)];
        let facts =
            SessionFacts { tracker: Tracker::Learning(learned), ephemerals: vec![], connections: vec![] };
        let expected = "\
SessionTracker dump:
Global Sessions(2):
0x1000011b47e0000\t5000ms
0x2000011b47e0000\t30000ms
ephemeral nodes dump:
Sessions with Ephemerals (0):
Connections dump:
Connections Sets (0)/(0):
";
        assert_eq!(dump(&facts), expected);
    }

    #[test]
    fn watches_are_listed_as_apache_lists_them() {
        let session = SessionId(0x0100_0022_c6e8_0000);
        let facts = WatchFacts { connections: 1, paths: 2, watches: 2 };
        assert_eq!(wchs(&facts), "1 connections watching 2 paths\nTotal watches:2\n");
        let paths = vec!["/zookeeper/quota".to_owned(), "/eph1".to_owned()];
        assert_eq!(wchc(&[(session, paths.clone())]), "0x1000022c6e80000\n\t/zookeeper/quota\n\t/eph1\n\n");
        let by_path: Vec<_> = paths.into_iter().map(|path| (path, vec![session])).collect();
        assert_eq!(wchp(&by_path), "/zookeeper/quota\n\t0x1000022c6e80000\n/eph1\n\t0x1000022c6e80000\n\n");
        assert_eq!((wchc(&[]).as_str(), wchp(&[]).as_str()), ("\n", "\n"));
    }
}
