//! One of the two servers, as all sessions of a program see it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::{Bytes, BytesMut};
use docent::proto::frame::put_frame;
use docent::proto::{
    ConnectRequest, Decode as _, Encode as _, Reader, ReplyHeader, Request, session_password,
};
use docent::{ErrorCode, SessionId, Xid, Zxid};

use super::heard::Heard;
use super::line::{Came, Line};
use super::marks::Marks;
use super::program::{Ask, Claim, Hello, Password, SLOTS, Step, What};

/// The slot of the session that looks after the tree.
pub(super) const KEEPER: usize = SLOTS;

/// A session and its connection.
#[derive(Debug, Default)]
struct Slot {
    line: Option<Line>,
    /// A connection that another one has taken the session from.
    robbed: Option<Line>,
    session: Option<SessionId>,
    /// The session is known to have ended.
    ended: bool,
    /// The last zxid of an answer.
    last: Zxid,
}

/// A server and the sessions that a program has there.
#[derive(Debug)]
pub(super) struct Side {
    address: SocketAddr,
    /// How long to wait for the end of a connection that is over, if less than usual: from a server that forgets some.
    end_bound: Option<Duration>,
    marks: Marks,
    slots: Vec<Slot>,
}

impl Side {
    pub(super) fn new(address: SocketAddr, end_bound: Option<Duration>) -> Side {
        let slots = (0..=SLOTS).map(|_| Slot::default()).collect();
        Side { address, end_bound, marks: Marks::default(), slots }
    }

    /// A program begins: its sessions are fresh and zxids count from here. The keeper must have asked something before.
    pub(super) fn begin(&mut self) {
        self.marks = Marks::beginning_at(self.slots[KEEPER].last);
        for slot in &mut self.slots[..SLOTS] {
            *slot = Slot::default();
        }
    }

    pub(super) fn is_connected(&self, slot: usize) -> bool {
        self.slots[slot].line.is_some()
    }

    /// Whether the slot has a session that has not ended.
    pub(super) fn is_alive(&self, slot: usize) -> bool {
        self.slots[slot].session.is_some() && !self.slots[slot].ended
    }

    /// Sends what a step sends.
    pub(super) fn send(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Open { slot, hello } if !self.is_alive(*slot) => {
                self.slots[*slot] = Slot::default();
                self.greet(*slot, hello, None)?;
            }
            Step::Open { .. } => {}
            Step::Ask { slot, asks } => self.send_asks(*slot, asks),
            Step::Drop { slot } => self.slots[*slot].line = None,
            Step::Return { slot, hello, password } => {
                if let Some(session) = self.slots[*slot].session {
                    let old = self.slots[*slot].line.take();
                    self.slots[*slot].robbed = old.filter(|_| *password == Password::Right);
                    self.greet(*slot, hello, Some((session, *password)))?;
                }
            }
        }
        Ok(())
    }

    fn send_asks(&mut self, slot: usize, asks: &[Ask]) {
        let Slot { line: Some(line), last, .. } = &mut self.slots[slot] else { return };
        let mut out = BytesMut::new();
        for ask in asks {
            put_frame(&mut out, |out| ask.encode(*last, out));
        }
        line.send(&out);
    }

    fn greet(&mut self, slot: usize, hello: &Hello, old: Option<(SessionId, Password)>) -> Result<()> {
        let mut line = Line::open(self.address)?;
        let seen = match hello.seen {
            Claim::Nothing => Zxid::ZERO,
            Claim::Last => self.slots[slot].last,
            Claim::Future => Zxid(i64::MAX),
        };
        let password = match old {
            None => Some(vec![0; 16]),
            Some((session, Password::Right)) => Some(session_password(session).to_vec()),
            Some((_, Password::Wrong)) => Some(vec![7; 16]),
            Some((_, Password::Short)) => Some(vec![0; 4]),
            Some((_, Password::Null)) => None,
        };
        let request = ConnectRequest {
            protocol_version: hello.version,
            last_zxid_seen: seen,
            timeout_ms: hello.timeout_ms,
            session: old.map_or(SessionId::NONE, |(session, _)| session),
            password,
            read_only: hello.read_only,
        };
        line.send_frame(|out| request.encode(out));
        self.slots[slot].line = Some(line);
        Ok(())
    }

    /// Reads all that a step brings to its own session. Must follow [`send`](Self::send) of the same step.
    pub(super) fn hear(&mut self, step: &Step) -> Result<Vec<Heard>> {
        let mut heard = Vec::new();
        match step {
            Step::Open { slot, .. } if self.slots[*slot].session.is_none() => {
                self.hear_hello(*slot, &mut heard)?;
            }
            Step::Return { slot, hello, password } if self.slots[*slot].session.is_some() => {
                let valid = self.hear_hello(*slot, &mut heard)?;
                if valid {
                    self.hear_robbed(*slot, &mut heard)?;
                } else {
                    // Who was refused has robbed nobody, unless there is nothing left to rob.
                    self.slots[*slot].line = self.slots[*slot].robbed.take();
                    self.slots[*slot].ended |= *password == Password::Right && hello.seen != Claim::Future;
                }
            }
            Step::Ask { slot, asks } => self.hear_answers(*slot, asks, &mut heard)?,
            _ => {}
        }
        Ok(heard)
    }

    fn hear_hello(&mut self, slot: usize, heard: &mut Vec<Heard>) -> Result<bool> {
        let Some(frame) = self.next(slot, heard)? else { return Ok(false) };
        let (hello, session) = self.marks.hear_hello(frame, slot);
        let valid = session.is_some();
        heard.push(hello);
        if valid {
            self.slots[slot].session = session;
        } else {
            self.hear_end(slot, heard)?;
        }
        Ok(valid)
    }

    fn hear_robbed(&mut self, slot: usize, heard: &mut Vec<Heard>) -> Result<()> {
        let Some(robbed) = self.slots[slot].robbed.take() else { return Ok(()) };
        let line = self.slots[slot].line.replace(robbed);
        self.hear_end(slot, heard)?;
        self.slots[slot].line = line;
        Ok(())
    }

    fn hear_answers(&mut self, slot: usize, asks: &[Ask], heard: &mut Vec<Heard>) -> Result<()> {
        for ask in asks {
            if matches!(ask.what, What::Stub(_)) {
                return self.hear_end(slot, heard);
            }
            if !self.hear_answer(slot, ask.op(), heard)? {
                if ask.may_be_too_long() {
                    name_left_open(heard);
                }
                return Ok(());
            }
        }
        if asks.iter().any(Ask::closes) {
            self.slots[slot].ended = true;
            self.hear_end(slot, heard)
        } else if heard.last().and_then(Heard::error).is_some_and(is_farewell) {
            self.hear_end(slot, heard)
        } else if asks.iter().any(Ask::stands_alone) {
            // It may have ended the connection.
            heard.extend(self.fence(slot)?);
            Ok(())
        } else {
            Ok(())
        }
    }

    /// Forgets the connection, with whatever is on its way over it.
    pub(super) fn hang_up(&mut self, slot: usize) {
        self.slots[slot].line = None;
    }

    /// Reads up to one answer; `false` when the connection ended instead.
    fn hear_answer(&mut self, slot: usize, op: Option<i32>, heard: &mut Vec<Heard>) -> Result<bool> {
        while let Some(frame) = self.next(slot, heard)? {
            self.note_zxid(slot, &frame);
            let one = self.marks.hear(frame, op);
            let event = one.is_event();
            heard.push(one);
            if !event {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn note_zxid(&mut self, slot: usize, frame: &Bytes) {
        if let Ok(header) = ReplyHeader::decode(&mut Reader::new(frame.clone()))
            && header.xid != Xid::EVENT
            && header.zxid > Zxid::ZERO
        {
            self.slots[slot].last = header.zxid;
        }
    }

    /// Reads all that comes until the server closes.
    fn hear_end(&mut self, slot: usize, heard: &mut Vec<Heard>) -> Result<()> {
        if let (Some(line), Some(bound)) = (&mut self.slots[slot].line, self.end_bound) {
            line.be_impatient(bound)?;
        }
        while let Some(frame) = self.next(slot, heard)? {
            heard.push(self.marks.hear(frame, None));
        }
        name_left_open(heard);
        Ok(())
    }

    /// The next frame; without one the connection is over, and that is heard, too.
    fn next(&mut self, slot: usize, heard: &mut Vec<Heard>) -> Result<Option<Bytes>> {
        let Some(line) = &mut self.slots[slot].line else { return Ok(None) };
        let over = match line.next()? {
            Came::Frame(frame) => return Ok(Some(frame)),
            Came::End => Heard::Closed,
            Came::Silence => Heard::Silent,
        };
        heard.push(over);
        self.slots[slot].line = None;
        Ok(None)
    }

    /// Everything that is on its way to a session now: a ping comes back behind it.
    pub(super) fn fence(&mut self, slot: usize) -> Result<Vec<Heard>> {
        let ping = Ask { xid: Xid::PING.0, what: What::Request(Request::Ping) };
        let mut heard = Vec::new();
        self.send_asks(slot, std::slice::from_ref(&ping));
        self.hear_answer(slot, ping.op(), &mut heard)?;
        Ok(heard)
    }

    /// One step by itself, for the keeper.
    pub(super) fn take(&mut self, step: &Step) -> Result<Vec<Heard>> {
        self.send(step)?;
        self.hear(step)
    }

    /// The keeper asks; it gets as many answers, or this is an error.
    pub(super) fn keep(&mut self, requests: Vec<Request>) -> Result<Vec<Heard>> {
        let count = requests.len();
        let asks =
            requests.into_iter().zip(1..).map(|(request, xid)| Ask { xid, what: What::Request(request) });
        let heard = self.take(&Step::Ask { slot: KEEPER, asks: asks.collect() })?;
        let answered = heard.iter().filter(|one| one.error().is_some()).count();
        if answered < count {
            bail!("{}: {answered} answers to {count} requests of the keeper", self.address);
        }
        Ok(heard)
    }

    /// The keeper opens its session with these credentials.
    pub(super) fn open_keeper(&mut self, auth: Request) -> Result<()> {
        self.take(&Step::Open { slot: KEEPER, hello: Hello::plain() })?;
        let heard = self.keep(vec![auth])?;
        if heard.first().and_then(Heard::error) != Some(ErrorCode::OK) {
            bail!("{}: the keeper is not let in: {heard:?}", self.address);
        }
        Ok(())
    }
}

/// Silence where the end was to come.
fn name_left_open(heard: &mut [Heard]) {
    if let Some(last @ Heard::Silent) = heard.last_mut() {
        *last = Heard::LeftOpen;
    }
}

/// Errors behind which a server closes the connection, in its own time.
fn is_farewell(error: ErrorCode) -> bool {
    matches!(error, ErrorCode::UNIMPLEMENTED | ErrorCode::AUTH_FAILED)
}
