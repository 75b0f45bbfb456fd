//! Stories of the session machine: what happens on the left, what it does on the right, no clock and no socket. The file is
//! long because all stories are told with one rig.

use std::collections::BTreeMap;

use super::*;
use crate::proto::frame::next_frame;
use crate::proto::jute::DecodeError;
use crate::proto::{EventType, KeeperState, RequestHeader};

mod alive;
mod outages;
mod proof;
mod random;
mod stories;

const TIMEOUT: u64 = 12_000;
const PASSWORD: [u8; PASSWORD_LENGTH] = [9; PASSWORD_LENGTH];

fn settings(hosts: &str) -> Settings {
    Settings {
        hosts: HostList::parse(hosts).unwrap().0,
        session_timeout: Duration::from_millis(TIMEOUT),
        connect_timeout: Duration::from_millis(4000),
        retry: Retry::default(),
        auth: Vec::new(),
        login: None,
        read_only: false,
        renew: true,
        lease_margin: Duration::from_millis(500),
        tick: Duration::from_millis(2000),
        resume: None,
        seed: 1,
    }
}

/// A machine, the time, and everything that it has asked for.
struct Rig {
    machine: Machine,
    fx: Effects,
    now: u64,
    states: Vec<Standing>,
    settled: BTreeMap<u32, Outcome>,
    told: Vec<(u64, WatchItem)>,
    ended: Vec<(u64, WatchEnd)>,
    dials: usize,
    /// Servers that were asked whether they have a quorum.
    asked: Vec<usize>,
    /// Frames sent on the connection of now, not yet looked at.
    wire: Vec<Bytes>,
    tickets: u32,
}

impl Rig {
    fn new(settings: Settings) -> Self {
        let mut fx = Effects::default();
        let machine = Machine::start(settings, Moment::default(), &mut fx);
        let mut rig = Rig {
            machine,
            fx,
            now: 0,
            states: Vec::new(),
            settled: BTreeMap::new(),
            told: Vec::new(),
            ended: Vec::new(),
            dials: 0,
            asked: Vec::new(),
            wire: Vec::new(),
            tickets: 0,
        };
        rig.collect();
        rig
    }

    fn moment(&self) -> Moment {
        Moment::from_millis(self.now)
    }

    fn act(&mut self, event: Event) {
        self.machine.handle(self.moment(), event, &mut self.fx);
        self.collect();
        if let Some(deadline) = self.machine.deadline() {
            assert!(deadline > self.moment(), "due at {deadline:?} and not done at {} ms", self.now);
        }
    }

    fn collect(&mut self) {
        for effect in self.fx.list.drain(..) {
            match effect {
                Effect::Dial(_) => self.dials += 1,
                Effect::Hangup => self.wire.clear(),
                Effect::Ask { server, .. } => self.asked.push(server),
                Effect::Settle { ticket, outcome } => {
                    let before = self.settled.insert(ticket.0, outcome);
                    assert_eq!(before, None, "{ticket:?} is settled twice");
                }
                Effect::Tell { watch, item } => self.told.push((watch.0, item)),
                Effect::EndWatch { watch, end } => self.ended.push((watch.0, end)),
                Effect::State(standing) => {
                    if let Some(last) = self.states.last() {
                        assert!(legal(*last, standing), "{last:?} is followed by {standing:?}");
                    }
                    self.states.push(standing);
                }
            }
        }
        while let Some(frame) = next_frame(&mut self.fx.out, 1 << 20).unwrap() {
            self.wire.push(frame);
        }
    }

    /// Lets the time go by, deadline by deadline.
    fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(deadline) = self.machine.deadline() {
            let due = deadline.since(Moment::default()).as_micros().div_ceil(1000) as u64;
            if due > end {
                break;
            }
            self.now = due;
            self.act(Event::Tick);
        }
        self.now = end;
    }

    /// The frames sent since the last look, as operations with their xids.
    fn sent(&mut self) -> Vec<(i32, Request)> {
        self.wire.drain(..).map(|frame| request(frame).unwrap()).collect()
    }

    fn sent_ops(&mut self) -> Vec<OpCode> {
        self.sent().iter().map(|(_, request)| request.op()).collect()
    }

    /// Goes on until the handshake is sent, and returns it.
    fn handshake(&mut self) -> ConnectRequest {
        while matches!(self.machine.phase, Phase::Pausing { .. }) {
            self.pass(1);
        }
        self.act(Event::Dialed);
        assert_eq!(self.wire.len(), 1, "nothing but the handshake is sent before its answer");
        ConnectRequest::decode(&mut Reader::new(self.wire.remove(0))).unwrap()
    }

    fn answer_handshake(&mut self, session: i64, timeout: u64) {
        self.answer_handshake_as(session, timeout, false);
    }

    fn answer_handshake_as(&mut self, session: i64, timeout: u64, read_only: bool) {
        let response = ConnectResponse {
            protocol_version: 0,
            timeout_ms: i32::try_from(timeout).unwrap(),
            session: SessionId(session),
            password: PASSWORD,
            read_only: Some(read_only),
        };
        self.act(Event::Frame(response.to_bytes()));
    }

    fn connected(settings: Settings) -> Self {
        let mut rig = Rig::new(settings);
        rig.handshake();
        rig.answer_handshake(7, TIMEOUT);
        rig
    }

    fn submit_with(&mut self, request: Request, pin: Option<i64>, watch: Option<(u64, WatchKind)>) -> u32 {
        self.tickets += 1;
        self.act(Event::Submit(Submission {
            ticket: Ticket(self.tickets),
            op: request.op(),
            body: request.to_bytes(),
            pin: pin.map(SessionId),
            watch: watch.map(|(id, kind)| (WatchId(id), kind)),
        }));
        self.tickets
    }

    fn submit(&mut self, request: Request) -> u32 {
        self.submit_with(request, None, None)
    }

    fn reply(&mut self, xid: i32, zxid: i64, error: ErrorCode) {
        let header = ReplyHeader { xid: Xid(xid), zxid: Zxid(zxid), error };
        self.act(Event::Frame(header.to_bytes()));
    }

    fn event(&mut self, kind: EventType, path: &str) {
        let mut frame = BytesMut::new();
        ReplyHeader { xid: Xid::EVENT, zxid: Zxid::NONE, error: ErrorCode::OK }.encode(&mut frame);
        WatcherEvent { kind: kind.code(), state: KeeperState::SYNC_CONNECTED, path: path.into() }
            .encode(&mut frame);
        self.act(Event::Frame(frame.freeze()));
    }

    fn failure(&self, ticket: u32) -> Option<Failure> {
        self.settled.get(&ticket)?.clone().err()
    }

    fn standing(&self) -> Standing {
        self.machine.standing
    }
}

fn request(frame: Bytes) -> Result<(i32, Request), DecodeError> {
    let mut input = Reader::new(frame);
    let header = RequestHeader::decode(&mut input)?;
    let op = OpCode::from_code(header.op).expect("the machine sends operations that exist");
    Ok((header.xid.0, Request::decode(op, &mut input)?.expect("and that clients may send")))
}

/// The steps that [`ConnState`](crate::ConnState) allows.
fn legal(from: Standing, to: Standing) -> bool {
    use Standing::{Closed, Connected, Connecting, Lost, ReadOnly, Suspended};
    match (from, to) {
        (Closed(_), _) => false,
        (_, Closed(_)) => true,
        (Connecting | Lost { .. }, Connected(_) | ReadOnly(_)) => true,
        (Connected(old) | ReadOnly(old), Suspended { session, .. }) => session == old,
        (Suspended { session, .. }, Connected(new) | ReadOnly(new) | Lost { session: new, .. }) => {
            session == new
        }
        _ => false,
    }
}

fn get(path: &str) -> Request {
    Request::GetData { path: path.into(), watch: false }
}

fn set(path: &str) -> Request {
    Request::SetData { path: path.into(), data: None, version: crate::Version::ANY }
}

fn watch_data(path: &str) -> Request {
    Request::GetData { path: path.into(), watch: true }
}
