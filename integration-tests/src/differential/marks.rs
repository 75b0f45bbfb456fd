//! What one server chose for itself, replaced by what it stands for.
//!
//! - a zxid by its distance from the program's beginning, since both servers must count alike; what is older is "old";
//! - a session id by the slot and how many sessions that slot had before;
//! - a time by whether it is the time of its transaction: one transaction, one time;
//! - the order of names, of identities and of ACL entries that `auth` made: they come out of hash tables.
//!
//! Everything else stays as it is.

use std::collections::BTreeMap;

use bytes::Bytes;
use docent::proto::{
    ConnectResponse, Decode, Encode, MultiResult, OpCode, Reader, ReplyHeader, Response, WatcherEvent,
    session_password,
};
use docent::{Acl, ErrorCode, SessionId, Stat, Xid, Zxid};

use super::heard::{Body, Heard};

/// A zxid from before the program.
const OLD: i64 = -1_000;
/// A session that is not the program's.
const STRANGER: i64 = -2_000;
/// A time that is not that of its transaction.
const OTHER_TIME: i64 = -3_000;
/// A time that is that of its transaction, whenever that was.
const ITS_TIME: i64 = 1;

/// The names of one server's own choices in one program.
#[derive(Debug, Default)]
pub(super) struct Marks {
    base: i64,
    sessions: BTreeMap<i64, i64>,
    times: BTreeMap<i64, i64>,
}

impl Marks {
    /// A program begins behind this zxid.
    pub(super) fn beginning_at(base: Zxid) -> Marks {
        Marks { base: base.0, ..Marks::default() }
    }

    /// A session has begun.
    pub(super) fn learn_session(&mut self, session: SessionId, slot: usize) {
        let label = self.sessions.len() as i64 * 100 + slot as i64 + 1;
        self.sessions.entry(session.0).or_insert(label);
    }

    /// What a frame says; `op` is the operation that a reply answers.
    pub(super) fn hear(&mut self, frame: Bytes, op: Option<i32>) -> Heard {
        let mut input = Reader::new(frame.clone());
        let Ok(header) = ReplyHeader::decode(&mut input) else { return Heard::Nonsense(frame) };
        let zxid = self.zxid(header.zxid);
        if header.xid == Xid::EVENT {
            let Ok(WatcherEvent { kind, state, path }) = WatcherEvent::decode(&mut input) else {
                return Heard::Nonsense(frame);
            };
            return Heard::Event { zxid, error: header.error, kind, state: state.0, path };
        }
        let body = self.body(header.error, op.and_then(OpCode::from_code), input);
        Heard::Reply { xid: header.xid, zxid, error: header.error, body }
    }

    fn body(&mut self, error: ErrorCode, op: Option<OpCode>, input: Reader) -> Body {
        let rest = input.clone().into_rest();
        let (ErrorCode::OK, Some(op)) = (error, op) else { return Body::Bytes(rest) };
        let mut input = input;
        let Ok(mut response) = Response::decode(op, &mut input) else { return Body::Bytes(rest) };
        // Decoding is lenient, so what it forgives is noted: null for empty, a wrong number in a header.
        let exact = input.remaining() == 0 && response.to_bytes() == rest;
        self.replace(&mut response);
        Body::Record { response, exact }
    }

    /// What a handshake was answered.
    pub(super) fn hear_hello(&mut self, frame: Bytes, slot: usize) -> (Heard, Option<SessionId>) {
        let mut input = Reader::new(frame.clone());
        let Ok(response) = ConnectResponse::decode(&mut input) else { return (Heard::Nonsense(frame), None) };
        let valid = response.session != SessionId::NONE;
        if valid {
            self.learn_session(response.session, slot);
        }
        let password = if valid { session_password(response.session) } else { [0; 16] };
        let heard = Heard::Hello {
            version: response.protocol_version,
            timeout_ms: response.timeout_ms,
            session: self.session(response.session),
            password_is_right: response.password == password,
            read_only: response.read_only,
            length: frame.len(),
        };
        (heard, valid.then_some(response.session))
    }

    fn zxid(&self, zxid: Zxid) -> Zxid {
        match zxid.0 {
            -1 | 0 => zxid,
            old if old <= self.base => Zxid(OLD),
            new => Zxid(new - self.base),
        }
    }

    fn session(&self, session: SessionId) -> SessionId {
        match session {
            SessionId::NONE => session,
            SessionId(id) => SessionId(self.sessions.get(&id).copied().unwrap_or(STRANGER)),
        }
    }

    fn time(&mut self, zxid: Zxid, time: i64) -> i64 {
        if time == 0 || zxid.0 <= self.base {
            return time.signum();
        }
        if *self.times.entry(zxid.0).or_insert(time) == time { ITS_TIME } else { OTHER_TIME }
    }

    fn stat(&mut self, stat: &mut Stat) {
        stat.ctime = self.time(stat.czxid, stat.ctime);
        stat.mtime = self.time(stat.mzxid, stat.mtime);
        stat.czxid = self.zxid(stat.czxid);
        stat.mzxid = self.zxid(stat.mzxid);
        stat.pzxid = self.zxid(stat.pzxid);
        stat.ephemeral_owner = self.session(stat.ephemeral_owner);
    }

    fn replace(&mut self, response: &mut Response) {
        match response {
            Response::Created { stat, .. } | Response::Stat(stat) | Response::Data { stat, .. } => {
                self.stat(stat);
            }
            Response::Acl { acl, stat } => {
                order_people(acl);
                self.stat(stat);
            }
            Response::Names(names) => names.sort(),
            Response::Children { names, stat } => {
                names.sort();
                self.stat(stat);
            }
            Response::Multi(results) => results.iter_mut().for_each(|result| match result {
                MultiResult::Create2 { stat, .. }
                | MultiResult::SetData { stat }
                | MultiResult::GetData { stat, .. } => self.stat(stat),
                MultiResult::GetChildren { names } => names.sort(),
                _ => {}
            }),
            Response::Identities(list) => {
                list.sort_by(|a, b| (&a.scheme, &a.user).cmp(&(&b.scheme, &b.user)));
            }
            _ => {}
        }
    }
}

/// `auth` becomes one entry for each of the connection's identities, in no order. One of them is in order.
fn order_people(acl: &mut [Acl]) {
    if acl.iter().filter(|entry| entry.scheme == "digest").count() > 1 {
        acl.sort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use docent::proto::Request;

    fn stat(base: i64, time: i64, owner: i64) -> Stat {
        let zxid = Zxid(base + 3);
        Stat {
            czxid: zxid,
            mzxid: zxid,
            pzxid: Zxid(base - 1),
            ctime: time,
            mtime: time,
            ephemeral_owner: SessionId(owner),
            ..Stat::default()
        }
    }

    fn exists(marks: &mut Marks, zxid: i64, stat: Stat) -> Heard {
        let mut out = BytesMut::new();
        ReplyHeader { xid: Xid(1), zxid: Zxid(zxid), error: ErrorCode::OK }.encode(&mut out);
        stat.encode(&mut out);
        let op = Request::Exists { path: String::new(), watch: false }.op();
        marks.hear(out.freeze(), Some(op.code()))
    }

    #[test]
    fn two_servers_that_count_alike_say_the_same() {
        let (mut one, mut two) = (Marks::beginning_at(Zxid(10)), Marks::beginning_at(Zxid(700)));
        one.learn_session(SessionId(77), 2);
        two.learn_session(SessionId(88), 2);
        let first = exists(&mut one, 14, stat(10, 5_000, 77));
        assert_eq!(first, exists(&mut two, 704, stat(700, 9_000, 88)));
        assert_ne!(first, exists(&mut two, 705, stat(700, 9_000, 88)), "another zxid");
        assert_ne!(first, exists(&mut two, 704, stat(700, 9_000, 89)), "another owner");
        assert_ne!(first, exists(&mut two, 704, stat(700, 9_001, 88)), "one transaction has one time");
    }

    #[test]
    fn what_decoding_forgives_is_noted() {
        let mut marks = Marks::beginning_at(Zxid(0));
        let mut reply = |body: &[u8]| {
            let mut out = BytesMut::new();
            ReplyHeader { xid: Xid(1), zxid: Zxid(1), error: ErrorCode::OK }.encode(&mut out);
            out.extend_from_slice(body);
            marks.hear(out.freeze(), Some(OpCode::GetChildren.code()))
        };
        assert_ne!(reply(&[0, 0, 0, 0]), reply(&[255, 255, 255, 255]));
        assert_ne!(reply(&[0, 0, 0, 0]), reply(&[0, 0, 0, 0, 0]));
    }
}
