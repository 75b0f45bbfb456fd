//! PURE: the line of requests. First those that were sent and wait for their answers, then those that wait to be
//! sent.
//!
//! Invariants: answers come in the order of the requests, so the front of the line is the only request that may
//! be answered next; a write is sent at most once; within the line, requests of callers stand in the order of
//! their calls.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::lease::Moment;
use super::state::CloseCause;
use super::watches::WatchId;
use crate::proto::OpCode;
use crate::{ErrorCode, SessionId, Xid, Zxid};

/// The answer to a request, its record not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) zxid: Zxid,
    pub(super) error: ErrorCode,
    pub(super) body: Bytes,
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The connection broke, and the request may not or cannot be sent (again) in time.
    ConnectionLoss { may_have_applied: bool },
    /// The session that the request was bound to has ended.
    SessionEnded(SessionId),
    /// The client has ended.
    Ended(CloseCause),
    /// The client has as many identities as it can hold.
    TooManyIdentities,
}

/// What becomes of a request.
pub(super) type Outcome = Result<Answer, Failure>;

/// Where the outcome of a request goes; given out by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(pub(super) u32);

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A caller waits for it.
    Caller { ticket: Ticket, pin: Option<SessionId>, watch: Option<WatchId>, expires: Moment },
    /// Watches are set anew on this connection.
    SetWatches,
    /// A watch that nobody holds any more is removed from the server.
    Unwatch,
    /// The lease is proved.
    Heartbeat,
    /// The session is ended.
    Close,
}

/// One request: an operation and its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Queued {
    pub(super) op: OpCode,
    pub(super) body: Bytes,
    pub(super) purpose: Purpose,
}

/// A request that was handed to the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) request: Queued,
    pub(super) xid: Xid,
    pub(super) at: Moment,
}

/// What the line says of requests that leave it without an answer.
pub(super) type Dropped = Vec<(Purpose, Failure)>;

/// See the module.
#[derive(Debug)]
pub(super) struct Line {
    sent: VecDeque<Sent>,
    waiting: VecDeque<Queued>,
    next_xid: i32,
}

impl Line {
    pub(super) fn new() -> Self {
        Line { sent: VecDeque::new(), waiting: VecDeque::new(), next_xid: 1 }
    }

    /// Joins the end of the line.
    pub(super) fn push(&mut self, request: Queued) {
        self.waiting.push_back(request);
    }

    /// Joins the line before everything that waits: what belongs to the connection goes before what callers want.
    pub(super) fn send_now(&mut self, request: Queued, now: Moment, out: &mut BytesMut) {
        let xid = Xid(self.next_xid);
        self.next_xid = if self.next_xid == i32::MAX { 1 } else { self.next_xid + 1 };
        put_request(xid, request.op, &request.body, out);
        self.sent.push_back(Sent { request, xid, at: now });
    }

    /// Sends everything that waits. Returns whether there was anything.
    pub(super) fn send_waiting(&mut self, now: Moment, out: &mut BytesMut) -> bool {
        let any = !self.waiting.is_empty();
        while let Some(request) = self.waiting.pop_front() {
            self.send_now(request, now, out);
        }
        any
    }

    /// The request that this answer belongs to; `None` when it is not the one that must be answered next.
    pub(super) fn answered(&mut self, xid: Xid) -> Option<Sent> {
        if self.sent.front()?.xid == xid { self.sent.pop_front() } else { None }
    }

    /// When the oldest request without an answer was sent.
    pub(super) fn oldest_sent(&self) -> Option<Moment> {
        self.sent.front().map(|sent| sent.at)
    }

    /// When the first request that waits may no longer be sent. All have the same budget, so it is at the front.
    pub(super) fn next_expiry(&self) -> Option<Moment> {
        self.waiting.iter().find_map(|request| match request.purpose {
            Purpose::Caller { expires, .. } => Some(expires),
            _ => None,
        })
    }

    /// The connection is gone. Reads wait again, in their old order and before all that never was sent; writes
    /// fail, since they may have been applied; what belonged to the connection is forgotten.
    pub(super) fn connection_lost(&mut self, now: Moment) -> Dropped {
        let mut dropped = Dropped::new();
        while let Some(Sent { request, .. }) = self.sent.pop_back() {
            match request.purpose {
                Purpose::Caller { .. } if !request.op.is_write() => self.waiting.push_front(request),
                Purpose::Caller { .. } => {
                    dropped.push((request.purpose, Failure::ConnectionLoss { may_have_applied: true }));
                }
                Purpose::SetWatches | Purpose::Unwatch | Purpose::Heartbeat | Purpose::Close => {}
            }
        }
        self.waiting.retain(|request| matches!(request.purpose, Purpose::Caller { .. }));
        dropped.reverse();
        dropped.extend(self.expire(now));
        dropped
    }

    /// Gives up those that have waited for as long as they may.
    pub(super) fn expire(&mut self, now: Moment) -> Dropped {
        let mut dropped = Dropped::new();
        while let Some(Queued { purpose: purpose @ Purpose::Caller { expires, .. }, .. }) =
            self.waiting.front()
        {
            if *expires > now {
                break;
            }
            dropped.push((*purpose, Failure::ConnectionLoss { may_have_applied: false }));
            self.waiting.pop_front();
        }
        dropped
    }

    /// A session has ended: what was bound to it must not be sent in another.
    pub(super) fn session_ended(&mut self, session: SessionId) -> Dropped {
        let mut dropped = Dropped::new();
        self.waiting.retain(|request| {
            let bound = matches!(request.purpose, Purpose::Caller { pin: Some(pin), .. } if pin == session);
            if bound {
                dropped.push((request.purpose, Failure::SessionEnded(session)));
            }
            !bound
        });
        dropped
    }

    /// The client ends: nobody is answered any more.
    pub(super) fn end(&mut self, cause: CloseCause) -> Dropped {
        let sent = self.sent.drain(..).map(|sent| {
            let failure = if sent.request.op.is_write() {
                Failure::ConnectionLoss { may_have_applied: true }
            } else {
                Failure::Ended(cause)
            };
            (sent.request.purpose, failure)
        });
        let mut dropped: Dropped = sent.collect();
        dropped.extend(self.waiting.drain(..).map(|request| (request.purpose, Failure::Ended(cause))));
        dropped
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.sent.len() + self.waiting.len()
    }
}

/// Appends a request's frame.
pub(super) fn put_request(xid: Xid, op: OpCode, body: &[u8], out: &mut BytesMut) {
    out.reserve(12 + body.len());
    // Bodies are bounded far below 2 GiB by the bound on bytes that wait.
    out.put_i32(i32::try_from(8 + body.len()).unwrap_or(i32::MAX));
    out.put_i32(xid.0);
    out.put_i32(op.code());
    out.put_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId(7);

    fn request(op: OpCode, ticket: u32, pinned: bool) -> Queued {
        let purpose = Purpose::Caller {
            ticket: Ticket(ticket),
            pin: pinned.then_some(SESSION),
            watch: None,
            expires: Moment::from_millis(100 + u64::from(ticket)),
        };
        Queued { op, body: Bytes::from_static(b"abc"), purpose }
    }

    fn tickets(dropped: &Dropped) -> Vec<u32> {
        let ticket = |(purpose, _): &(Purpose, Failure)| match purpose {
            Purpose::Caller { ticket, .. } => ticket.0,
            other => panic!("{other:?} is not a caller's"),
        };
        dropped.iter().map(ticket).collect()
    }

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    #[test]
    fn reads_return_to_their_place_and_writes_fail() {
        let mut line = Line::new();
        let mut out = BytesMut::new();
        for (ticket, op) in [OpCode::GetData, OpCode::SetData, OpCode::Exists].into_iter().enumerate() {
            line.push(request(op, ticket as u32, false));
        }
        assert!(line.send_waiting(at(1), &mut out));
        assert_eq!(&out[..], b"\0\0\0\x0b\0\0\0\x01\0\0\0\x04abc\0\0\0\x0b\0\0\0\x02\0\0\0\x05abc\0\0\0\x0b\0\0\0\x03\0\0\0\x03abc");
        line.push(request(OpCode::Create2, 3, false));
        let dropped = line.connection_lost(at(2));
        assert_eq!(tickets(&dropped), [1]);
        assert_eq!(dropped[0].1, Failure::ConnectionLoss { may_have_applied: true });
        out.clear();
        line.send_waiting(at(3), &mut out);
        for (xid, op) in [(4, OpCode::GetData), (5, OpCode::Exists), (6, OpCode::Create2)] {
            assert_eq!(line.answered(Xid(xid)).map(|sent| sent.request.op), Some(op));
        }
        assert_eq!(line.len(), 0);
    }

    #[test]
    fn waiting_requests_expire_in_order() {
        let mut line = Line::new();
        for ticket in 0..4 {
            line.push(request(OpCode::Create2, ticket, false));
        }
        assert_eq!(line.next_expiry(), Some(at(100)));
        assert_eq!(tickets(&line.expire(at(99))), []);
        let dropped = line.expire(at(102));
        assert_eq!(tickets(&dropped), [0, 1, 2]);
        assert_eq!(dropped[0].1, Failure::ConnectionLoss { may_have_applied: false });
        assert_eq!(line.next_expiry(), Some(at(103)));
    }

    #[test]
    fn bound_requests_end_with_their_session() {
        let mut line = Line::new();
        for ticket in 0..4 {
            line.push(request(OpCode::GetData, ticket, ticket % 2 == 0));
        }
        assert_eq!(tickets(&line.session_ended(SESSION)), [0, 2]);
        assert_eq!(tickets(&line.end(CloseCause::Closed)), [1, 3]);
    }

    #[test]
    fn an_answer_out_of_order_has_no_request() {
        let mut line = Line::new();
        let mut out = BytesMut::new();
        line.push(request(OpCode::GetData, 0, false));
        line.push(request(OpCode::GetData, 1, false));
        line.send_waiting(at(1), &mut out);
        assert_eq!(line.answered(Xid(2)), None);
        assert!(line.answered(Xid(1)).is_some());
    }

    #[test]
    fn xids_wrap_to_one() {
        let mut line = Line::new();
        line.next_xid = i32::MAX;
        let mut out = BytesMut::new();
        line.push(request(OpCode::GetData, 0, false));
        line.push(request(OpCode::GetData, 1, false));
        line.send_waiting(at(1), &mut out);
        assert!(line.answered(Xid(i32::MAX)).is_some());
        assert!(line.answered(Xid(1)).is_some());
    }
}
