//! Whether two servers said the same, but for what is known.

use std::collections::BTreeSet;

use super::Peer;
use super::heard::Heard;
use super::known::{Case, find};
use super::program::Ask;

/// What Apache's server drops now and then, as its threads have it: no program shows it for certain.
const CUT_OFF: &str = "events that a connection had still to be told when it was closed";

/// What a comparison comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The same, or different in these known ways.
    Same(Vec<&'static str>),
    /// Different in a known way that leaves the servers in different states.
    Parted(&'static str),
    /// Different from this place on.
    Different(usize),
}

/// Compares what one step brought to one session; the answers belong to the asks in order. `watched` are the paths that
/// other sessions may watch.
pub(super) fn compare(
    peer: Peer,
    asks: &[Ask],
    watched: &BTreeSet<String>,
    (theirs, ours): (&[Heard], &[Heard]),
) -> Verdict {
    let mut known = Vec::new();
    let mut asks = asks.iter();
    for at in 0..theirs.len().max(ours.len()) {
        let (Some(their), Some(our)) = (theirs.get(at), ours.get(at)) else { return Verdict::Different(at) };
        if cut_off(&theirs[at..], &ours[at..]) {
            known.push(CUT_OFF);
            break;
        }
        let ask = if their.is_event() { None } else { asks.next() };
        // Nobody may be silent, and be it both.
        if their == our && !matches!(their, Heard::Silent | Heard::LeftOpen) {
            continue;
        }
        match find(&Case { peer, ask, watched, theirs: their, ours: our }) {
            None => return Verdict::Different(at),
            Some(found) if found.parts => return Verdict::Parted(found.name),
            Some(found) => known.push(found.name),
        }
    }
    Verdict::Same(known)
}

/// Whether theirs tells fewer events than ours before it is closed. Events alone: an answer is owed.
fn cut_off(theirs: &[Heard], ours: &[Heard]) -> bool {
    let ([told @ .., Heard::Closed], [due @ .., Heard::Closed]) = (theirs, ours) else { return false };
    let mut due_next = due.iter();
    told.len() < due.len()
        && due.iter().all(Heard::is_event)
        && told.iter().all(|event| due_next.any(|due| due == event))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::heard::Body;
    use crate::differential::program::What;
    use bytes::Bytes;
    use docent::proto::Request;
    use docent::{ErrorCode, Xid, Zxid};

    fn reply(error: ErrorCode) -> Heard {
        Heard::Reply { xid: Xid(1), zxid: Zxid(4), error, body: Body::Bytes(Bytes::new()) }
    }

    fn hold(peer: Peer, asks: &[Ask], theirs: &[Heard], ours: &[Heard]) -> Verdict {
        compare(peer, asks, &BTreeSet::new(), (theirs, ours))
    }

    #[test]
    fn a_known_difference_is_one_for_its_peer_and_request_only() {
        let exists = |path: &str| Ask {
            xid: 1,
            what: What::Request(Request::Exists { path: path.into(), watch: false }),
        };
        let data = Ask { xid: 1, what: What::Request(Request::GetData { path: "/a".into(), watch: false }) };
        let (theirs, ours) = ([reply(ErrorCode::OK)], [reply(ErrorCode::NO_AUTH)]);
        let parted = |verdict| matches!(verdict, Verdict::Parted(_));
        assert!(parted(hold(Peer::V38, &[exists("/a")], &theirs, &ours)));
        assert_eq!(hold(Peer::V39, &[exists("/a")], &theirs, &ours), Verdict::Different(0));
        assert_eq!(hold(Peer::V38, &[data], &theirs, &ours), Verdict::Different(0));
        assert_eq!(hold(Peer::V38, &[exists("/a")], &ours, &theirs), Verdict::Different(0));
    }

    #[test]
    fn a_watch_that_only_apache_finds_must_be_somebody_elses() {
        let what = Request::CheckWatches { path: "/a".into(), kind: docent::proto::WatcherKind::Any };
        let asks = [Ask { xid: 1, what: What::Request(what) }];
        let (theirs, ours) = ([reply(ErrorCode::OK)], [reply(ErrorCode::NO_WATCHER)]);
        assert_eq!(hold(Peer::V38, &asks, &theirs, &ours), Verdict::Different(0));
        let watched = BTreeSet::from(["/a".to_owned()]);
        let verdict = compare(Peer::V38, &asks, &watched, (&theirs, &ours));
        assert!(matches!(verdict, Verdict::Same(known) if known.len() == 1));
    }

    #[test]
    fn silence_is_never_the_same() {
        assert_eq!(hold(Peer::V38, &[], &[Heard::Silent], &[Heard::Silent]), Verdict::Different(0));
        assert_eq!(hold(Peer::V38, &[], &[Heard::Silent], &[Heard::Closed]), Verdict::Different(0));
        assert_eq!(hold(Peer::V39, &[], &[Heard::LeftOpen], &[Heard::Closed]), Verdict::Different(0));
        let left_open = hold(Peer::V38, &[], &[Heard::LeftOpen], &[Heard::Closed]);
        assert!(matches!(left_open, Verdict::Same(known) if known.len() == 1));
    }

    #[test]
    fn events_before_a_close_may_be_dropped_and_answers_may_not() {
        let event = |zxid: i64| Heard::Event {
            zxid: Zxid(zxid),
            error: ErrorCode::OK,
            kind: 1,
            state: 3,
            path: "/a".into(),
        };
        let told = [event(4), event(5), event(6), Heard::Closed];
        for missing in 0..3 {
            let mut heard = told.to_vec();
            heard.remove(missing);
            let cut = hold(Peer::V39, &[], &heard, &told);
            assert_eq!(cut, Verdict::Same(vec![CUT_OFF]), "{missing}");
            assert_eq!(hold(Peer::V39, &[], &told, &heard), Verdict::Different(missing));
        }
        assert_eq!(hold(Peer::V39, &[], &[Heard::Closed], &[event(4)]), Verdict::Different(0));
        let others = [event(7), Heard::Closed];
        assert_eq!(hold(Peer::V39, &[], &others, &told), Verdict::Different(0));
        let answered = [reply(ErrorCode::OK), Heard::Closed];
        assert_eq!(hold(Peer::V39, &[], &[Heard::Closed], &answered), Verdict::Different(0));
    }

    #[test]
    fn more_of_one_than_of_the_other_is_a_difference() {
        let one = [reply(ErrorCode::OK)];
        assert_eq!(hold(Peer::V39, &[], &one, &[]), Verdict::Different(0));
        assert_eq!(hold(Peer::V39, &[], &one, &one), Verdict::Same(vec![]));
    }
}
