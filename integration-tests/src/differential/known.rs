//! Differences that are meant: what Apache's server does and ours does not, with the reason in `docs/compatibility.md`.
//!
//! Each is told by the answers themselves, so that nothing else hides behind it, and is shown by a program of its own in
//! `examples`. One that leaves the two servers in different states ends the program.

use std::collections::BTreeSet;

use bytes::Bytes;
use docent::proto::{CreateKind, MultiOp, MultiResult, OpCode, Request, Response};
use docent::{ErrorCode, Zxid};

use super::Peer;
use super::heard::{Body, Heard};
use super::program::{Ask, What};

/// A difference that is meant.
#[derive(Debug)]
pub struct Known {
    /// The first cell of its row in `docs/compatibility.md`.
    pub name: &'static str,
    /// Which of Apache's releases show it.
    pub peers: &'static [Peer],
    /// Whether the servers are in different states afterwards.
    pub(super) parts: bool,
    /// Whether these answers, which are not the same, differ by this and nothing else.
    applies: fn(&Case<'_>) -> bool,
}

/// Two answers that are not the same.
pub(super) struct Case<'a> {
    pub(super) peer: Peer,
    /// What was asked; nothing where events came.
    pub(super) ask: Option<&'a Ask>,
    /// The paths that other sessions may watch.
    pub(super) watched: &'a BTreeSet<String>,
    pub(super) theirs: &'a Heard,
    pub(super) ours: &'a Heard,
}

/// The difference that these two answers show, if it is a known one.
pub(super) fn find(case: &Case<'_>) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.peers.contains(&case.peer) && (known.applies)(case))
}

const OLD: &[Peer] = &[Peer::V38];
const NEW: &[Peer] = &[Peer::V39];
const BOTH: &[Peer] = &Peer::ALL;

const fn known(
    name: &'static str,
    peers: &'static [Peer],
    parts: bool,
    applies: fn(&Case<'_>) -> bool,
) -> Known {
    Known { name, peers, parts, applies }
}

/// All of them.
pub const KNOWN: &[Known] = &[
    known("the zxid in the header of a watch event", OLD, false, event_without_zxid),
    known("`exists` without READ permission", OLD, true, exists_unseen),
    known("`create2` within a multi", OLD, false, create2_in_multi),
    known("a create within a multi whose mode nobody knows", OLD, false, mode_in_multi),
    known("a write whose record cannot be decoded", OLD, true, unread_write),
    known("`checkWatches`", OLD, false, watched_by_others),
    known(
        "a connection that is over: its session was taken over or has ended, or its credentials were refused",
        OLD,
        false,
        left_open,
    ),
    known("null for the path of `addWatch` or `removeWatches`", BOTH, false, null_watch),
    known("null for the path of `checkWatches`", NEW, false, null_check),
    known("null for the path of `sync`", BOTH, false, null_sync),
    known("null for the ACL of a create within a multi", NEW, true, null_acl_in_multi),
    known("an ACL entry `world`, `digest` or `ip` without an id", BOTH, false, null_acl_id),
    known("what follows the header of a refused `multiRead`", BOTH, false, rest_of_multi_read),
    known("a multi in which a path is null", OLD, true, null_path_in_multi),
    known("`getAllChildrenNumber` of an empty path", BOTH, false, empty_path_counts),
    known("characters above U+FFFF in a path that is sent back", BOTH, false, surrogates),
    known("sequence numbers after 2147483647 within one multi", BOTH, true, sequence_wraps),
    known("a version number that would become -1 after 2³² changes", BOTH, true, version_skips),
];

const UNREADABLE: ErrorCode = ErrorCode::MARSHALLING_ERROR;
const NULL: [u8; 4] = [255; 4];
/// The header behind the last operation of a multi.
pub(super) const END_OF_MULTI: [u8; 9] = [255, 255, 255, 255, 1, 255, 255, 255, 255];

fn request<'a>(case: &Case<'a>) -> Option<&'a Request> {
    match &case.ask?.what {
        What::Request(request) => Some(request),
        _ => None,
    }
}

fn raw<'a>(case: &Case<'a>) -> Option<(OpCode, &'a [u8])> {
    match &case.ask?.what {
        What::Raw { op, body } => Some((OpCode::from_code(*op)?, body)),
        _ => None,
    }
}

fn is_nothing(body: &Body) -> bool {
    matches!(body, Body::Bytes(bytes) if bytes.is_empty())
}

/// The errors of two replies whose headers are otherwise the same, and that say nothing more where they refuse.
fn errors(case: &Case<'_>) -> Option<(ErrorCode, ErrorCode)> {
    let (
        Heard::Reply { xid, zxid, error, body },
        Heard::Reply { xid: our_xid, zxid: our_zxid, error: our_error, body: our_body },
    ) = (case.theirs, case.ours)
    else {
        return None;
    };
    let silent = |error: &ErrorCode, body: &Body| *error == ErrorCode::OK || is_nothing(body);
    let alike = (xid, zxid) == (our_xid, our_zxid) && silent(error, body) && silent(our_error, our_body);
    alike.then_some((*error, *our_error))
}

fn event_without_zxid(case: &Case<'_>) -> bool {
    let mut ours = case.ours.clone();
    if let Heard::Event { zxid, .. } = &mut ours {
        *zxid = Zxid(-1);
    }
    case.theirs.is_event() && ours == *case.theirs
}

fn exists_unseen(case: &Case<'_>) -> bool {
    case.ask.and_then(Ask::op) == Some(OpCode::Exists.code())
        && errors(case) == Some((ErrorCode::OK, ErrorCode::NO_AUTH))
}

fn create2_in_multi(case: &Case<'_>) -> bool {
    let (mut ours, theirs) = (case.ours.clone(), case.theirs.response());
    let Heard::Reply { body: Body::Record { response: Response::Multi(results), .. }, .. } = &mut ours else {
        return false;
    };
    let Some(Response::Multi(downgraded)) = theirs else { return false };
    // Containers and nodes with a time to live are not downgraded, but only a request that was made by hand hides them.
    let may_be = |at: usize| match request(case) {
        Some(Request::Multi(ops)) => {
            matches!(ops.get(at), Some(MultiOp::Create(create)) if create.kind == CreateKind::Create2)
        }
        _ => raw(case).is_some_and(|(op, _)| op == OpCode::Multi),
    };
    for (at, (result, their)) in results.iter_mut().zip(downgraded).enumerate() {
        if let (MultiResult::Create2 { path, .. }, MultiResult::Create { .. }) = (&*result, their)
            && may_be(at)
        {
            *result = MultiResult::Create { path: path.clone() };
        }
    }
    ours == *case.theirs
}

fn mode_in_multi(case: &Case<'_>) -> bool {
    let Some(Request::Multi(ops)) = request(case) else { return false };
    let unknown = |op: &MultiOp| matches!(op, MultiOp::Create(create) if !create.flags.is_known());
    ops.iter().any(unknown) && errors(case) == Some((ErrorCode::OK, UNREADABLE))
}

fn unread_write(case: &Case<'_>) -> bool {
    let (Heard::Reply { xid, zxid, .. }, Heard::Reply { xid: our_xid, zxid: our_zxid, .. }) =
        (case.theirs, case.ours)
    else {
        return false;
    };
    let unread = |one: &Heard| matches!(one, Heard::Reply { error: ErrorCode::MARSHALLING_ERROR, body, .. } if is_nothing(body));
    raw(case).is_some_and(|(op, _)| op.is_write())
        && unread(case.theirs)
        && unread(case.ours)
        && (xid, zxid.0) == (our_xid, our_zxid.0 + 1)
}

/// It also looks at the nodes above, up to one that a path without a slash at its beginning never comes to.
fn watched_by_others(case: &Case<'_>) -> bool {
    let Some(Request::CheckWatches { path, .. }) = request(case) else { return false };
    match errors(case) {
        Some((ErrorCode::OK, ErrorCode::NO_WATCHER)) => case.watched.contains(path),
        Some((ErrorCode::MARSHALLING_ERROR, ErrorCode::NO_WATCHER)) => !path.starts_with('/'),
        _ => false,
    }
}

/// Its last words are said, but neither more bytes nor the end come.
fn left_open(case: &Case<'_>) -> bool {
    (case.theirs, case.ours) == (&Heard::LeftOpen, &Heard::Closed)
}

fn null_watch(case: &Case<'_>) -> bool {
    let wanted = |(op, body): (OpCode, &[u8])| {
        matches!(op, OpCode::AddWatch | OpCode::RemoveWatches) && body.starts_with(&NULL)
    };
    raw(case).is_some_and(wanted)
        && matches!(errors(case), Some((ErrorCode::OK | ErrorCode::NO_WATCHER, UNREADABLE)))
}

fn null_check(case: &Case<'_>) -> bool {
    raw(case).is_some_and(|(op, body)| op == OpCode::CheckWatches && body.starts_with(&NULL))
        && matches!(errors(case), Some((ErrorCode::OK | ErrorCode::NO_WATCHER, UNREADABLE)))
}

fn null_sync(case: &Case<'_>) -> bool {
    raw(case).is_some_and(|(op, body)| op == OpCode::Sync && body.starts_with(&NULL))
        && errors(case) == Some((ErrorCode::OK, UNREADABLE))
}

fn null_acl_in_multi(case: &Case<'_>) -> bool {
    let Some(Request::Multi(ops)) = request(case) else { return false };
    let null = |op: &MultiOp| matches!(op, MultiOp::Create(create) if create.acl.is_none());
    let (Heard::Reply { xid, .. }, Heard::Reply { xid: our_xid, .. }) = (case.theirs, case.ours) else {
        return false;
    };
    let judged = matches!(case.ours.response(), Some(Response::Multi(_)));
    let errors = (case.theirs.error(), case.ours.error());
    ops.iter().any(null) && xid == our_xid && judged && errors == (Some(UNREADABLE), Some(ErrorCode::OK))
}

fn null_acl_id(case: &Case<'_>) -> bool {
    // At the end of the record stand the scheme of an entry, a null id, and the version that is expected.
    let without = |(op, body): (OpCode, &[u8])| {
        let entry = body.strip_suffix(&[255; 8]);
        op == OpCode::SetAcl
            && entry.is_some_and(|entry| ["world", "digest", "ip"].iter().any(|one| ends_with(entry, one)))
    };
    raw(case).is_some_and(without) && errors(case) == Some((UNREADABLE, ErrorCode::INVALID_ACL))
}

/// Whether a text is the last thing in a record.
fn ends_with(record: &[u8], text: &str) -> bool {
    let head = record.strip_suffix(text.as_bytes());
    head.is_some_and(|head| head.ends_with(&(text.len() as u32).to_be_bytes()))
}

/// Reads and writes cannot be mixed, so there are no results in front of the first write.
fn rest_of_multi_read(case: &Case<'_>) -> bool {
    raw(case).is_some_and(|(op, _)| op == OpCode::MultiRead) && only_the_end_follows(case, 0)
}

/// It takes a zxid, which only the next write shows.
fn null_path_in_multi(case: &Case<'_>) -> bool {
    raw(case).is_some_and(|(op, _)| op == OpCode::Multi) && only_the_end_follows(case, 1)
}

/// Whether their header is so far behind ours, and an empty list of results follows it where we say nothing.
fn only_the_end_follows(case: &Case<'_>, behind: i64) -> bool {
    let mut ours = case.ours.clone();
    match &mut ours {
        Heard::Reply { zxid, error: UNREADABLE, body, .. } if is_nothing(body) => {
            *body = Body::Bytes(Bytes::from_static(&END_OF_MULTI));
            zxid.0 -= behind;
        }
        _ => return false,
    }
    ours == *case.theirs
}

fn empty_path_counts(case: &Case<'_>) -> bool {
    let Some(Request::GetAllChildrenNumber { path }) = request(case) else { return false };
    let mut ours = case.ours.clone();
    if let Heard::Reply { body: Body::Record { response: Response::Number(number), .. }, .. } = &mut ours {
        *number += 1;
    }
    path.is_empty() && ours == *case.theirs
}

/// Java writes each half of such a character by itself, in three bytes that are not UTF-8.
fn surrogates(case: &Case<'_>) -> bool {
    let halved = |text: &str| {
        text.chars()
            .map(|c| if c > '\u{ffff}' { "\u{fffd}".repeat(2) } else { c.to_string() })
            .collect::<String>()
    };
    let mut ours = case.ours.clone();
    match &mut ours {
        Heard::Event { path, .. } => *path = halved(path),
        Heard::Reply { body: Body::Record { response: Response::Path(path), exact }, .. } => {
            *path = halved(path);
            *exact = false;
        }
        _ => return false,
    }
    ours == *case.theirs
}

/// A create that takes a number below zero, where we say that the counter has come to its end.
fn sequence_wraps(case: &Case<'_>) -> bool {
    let Some(Request::Multi(ops)) = request(case) else { return false };
    let (Some(Response::Multi(theirs)), Some(Response::Multi(ours))) =
        (case.theirs.response(), case.ours.response())
    else {
        return false;
    };
    let refused = MultiResult::Error(ErrorCode::NODE_EXISTS);
    let Some(at) = ours.iter().position(|result| *result == refused) else { return false };
    let (Some(MultiOp::Create(create)), Some(MultiResult::Create { path })) = (ops.get(at), theirs.get(at))
    else {
        return false;
    };
    let number = path.strip_prefix(create.path.as_str()).and_then(|number| number.parse::<i32>().ok());
    create.flags.is_sequential()
        && number.is_some_and(|number| number < 0)
        && errors(case) == Some((ErrorCode::OK, ErrorCode::OK))
}

/// The change behind −2.
fn version_skips(case: &Case<'_>) -> bool {
    let op = case.ask.and_then(Ask::op).and_then(OpCode::from_code);
    let mut ours = case.ours.clone();
    let Heard::Reply { body: Body::Record { response: Response::Stat(stat), .. }, .. } = &mut ours else {
        return false;
    };
    let version = match op {
        Some(OpCode::SetData) => &mut stat.version,
        Some(OpCode::SetAcl) => &mut stat.aversion,
        _ => return false,
    };
    if *version != 0 {
        return false;
    }
    *version = -1;
    ours == *case.theirs
}
