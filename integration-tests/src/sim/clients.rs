//! A client as a value: it wants things, remembers what it asked and what it was told, and goes to another server when
//! its connection is gone.
//!
//! It is simpler than the real client and less careful: it sends several requests at once, sets watches on most reads, and
//! falls silent now and then. What it is told goes to the checks.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use docent::proto::frame::{DEFAULT_MAX_FRAME, next_frame};
use docent::proto::{
    ConnectRequest, ConnectResponse, CreateFlags, CreateKind, CreateRequest, Decode, MultiOp, OpCode, Reader,
    ReplyHeader, Request, RequestHeader, Response, SetWatches, WatcherEvent,
};
use docent::{Acl, ErrorCode, Permissions, SessionId, Version, Xid, Zxid};
use docent_server::node::ConnId;

use super::checks::{Answer, Checks, Violation, ensure};
use super::linear::{Act, Operation, Seen};
use super::operator::{Next, Operator};
use super::plan::{Plan, chance};
use super::watching::{FOLLOWED, Following};

/// Registers whose histories are searched for an order.
pub(super) const REGISTERS: usize = 3;
/// Folders in which nodes with numbers are made.
const FOLDERS: usize = 2;
/// The node that not everybody may write all the time.
const GUARDED: &str = "/acl";
/// Nodes with numbers that a client remembers to delete.
const OWN_MAX: usize = 6;

/// What a client sends.
#[derive(Clone, Debug)]
pub(super) enum Up {
    Connect(ConnectRequest),
    Request(RequestHeader, Request),
}

/// A request that waits for its answer.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) xid: Xid,
    pub(super) request: Request,
    pub(super) sent_us: i64,
    /// The largest zxid that anybody had been answered when it was sent.
    pub(super) horizon: Zxid,
    /// For a read behind a `sync`: the horizon when the `sync` was sent, and when that was.
    pub(super) synced: Option<(Zxid, u64)>,
    /// The place in the register's history.
    register: Option<(usize, usize)>,
}

/// Which change a watch waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watching {
    Data,
    Absence,
    Children,
}

/// A watch that was set and has not fired.
#[derive(Clone, Debug)]
pub(super) struct Armed {
    pub(super) path: String,
    pub(super) what: Watching,
    /// It must fire for the first change behind this.
    pub(super) after: Zxid,
    /// It was told to a new connection, and that is not answered yet.
    pub(super) rearming: bool,
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) number: u32,
    chance: fastrand::Rng,
    /// For what it does about rights, if it does.
    rights: Option<fastrand::Rng>,
    /// For what it does about nodes that the server deletes or counts, if it does.
    pub(super) keeping: Option<fastrand::Rng>,
    pub(super) session: SessionId,
    password: Option<Vec<u8>>,
    asked_timeout_ms: i32,
    pub(super) timeout_ms: i32,
    pub(super) last_zxid: Zxid,
    /// The zxid of its last answered write.
    pub(super) last_write: Zxid,
    xid: i32,
    pub(super) conn: Option<ConnId>,
    pub(super) open: bool,
    pub(super) connected_us: i64,
    pub(super) last_heard_us: i64,
    pub(super) last_sent_us: i64,
    /// When the newest request was sent that was answered.
    pub(super) proved_us: i64,
    pub(super) asleep_until_us: i64,
    pub(super) pending: VecDeque<Asked>,
    pub(super) watches: Vec<Armed>,
    /// A watch on a whole folder that stays.
    pub(super) following: Option<Following>,
    pub(super) closing: bool,
    keeps_watches: bool,
    own: VecDeque<String>,
    versions: [i32; REGISTERS],
    input: BytesMut,
    value: u64,
    pipeline: usize,
    /// What it does instead of everything else, if it is the one who changes the members.
    pub(super) operator: Option<Operator>,
    /// Writes that were answered since the faults ended.
    pub(super) writes_since_heal: u64,
    pub(super) quiet: bool,
}

fn open_acl() -> Option<Vec<Acl>> {
    Some(vec![Acl::new(Permissions::ALL, "world", "anyone")])
}

pub(super) fn create(path: String, data: Option<Bytes>, flags: CreateFlags) -> CreateRequest {
    CreateRequest { kind: CreateKind::Create, path, data, acl: open_acl(), flags, ttl_ms: 0 }
}

fn number(data: Option<&Bytes>) -> u64 {
    data.and_then(|data| std::str::from_utf8(data).ok()).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn register_of(path: &str) -> Option<usize> {
    path.strip_prefix("/r")?.parse().ok()
}

impl Client {
    pub(super) fn new(number: u32, plan: &Plan) -> Self {
        let mut chance = self::chance(plan.seed, &format!("client {number}"));
        let keeps_watches = chance.bool();
        Client {
            number,
            chance,
            rights: plan.acls.then(|| self::chance(plan.seed, &format!("rights {number}"))),
            keeping: plan.keeps.then(|| self::chance(plan.seed, &format!("keeping {number}"))),
            session: SessionId::NONE,
            password: None,
            asked_timeout_ms: plan.session_ms,
            timeout_ms: plan.session_ms,
            last_zxid: Zxid::ZERO,
            last_write: Zxid::ZERO,
            xid: 0,
            conn: None,
            open: false,
            connected_us: 0,
            last_heard_us: 0,
            last_sent_us: 0,
            proved_us: 0,
            asleep_until_us: 0,
            pending: VecDeque::new(),
            watches: Vec::new(),
            following: None,
            closing: false,
            keeps_watches,
            own: VecDeque::new(),
            versions: [0; REGISTERS],
            input: BytesMut::new(),
            value: u64::from(number) << 32,
            pipeline: plan.pipeline,
            operator: (number > plan.clients).then(Operator::default),
            writes_since_heal: 0,
            quiet: false,
        }
    }

    /// The first frame on a new connection.
    pub(super) fn greet(&mut self, conn: ConnId, now_us: i64) -> Up {
        self.conn = Some(conn);
        self.open = false;
        self.connected_us = now_us;
        self.last_heard_us = now_us;
        self.last_sent_us = now_us;
        self.input.clear();
        Up::Connect(ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: self.last_zxid,
            timeout_ms: self.asked_timeout_ms,
            session: self.session,
            password: self.password.clone(),
            read_only: Some(false),
        })
    }

    /// The connection is gone: what was asked may have happened or not.
    pub(super) fn lose(&mut self, checks: &mut Checks) {
        self.conn = None;
        self.open = false;
        if let Some(operator) = &mut self.operator {
            operator.asked.clear();
        }
        for asked in std::mem::take(&mut self.pending) {
            if let Some((register, at)) = asked.register
                && matches!(asked.request, Request::GetData { .. })
            {
                checks.forget_read(register, at);
            }
        }
        if self.closing {
            self.begin_anew();
        }
        if !self.keeps_watches {
            self.watches.clear();
            self.following = None;
        }
        if let Some(following) = &mut self.following {
            following.lose();
        }
    }

    fn begin_anew(&mut self) {
        self.session = SessionId::NONE;
        self.password = None;
        self.closing = false;
        self.watches.clear();
        self.following = None;
        self.own.clear();
        self.last_write = Zxid::ZERO;
    }

    /// Whether it has waited too long for an answer and should go elsewhere.
    pub(super) fn is_impatient(&self, now_us: i64) -> bool {
        let patience_us = i64::from(self.timeout_ms) * 1_000 * 2 / 3;
        self.conn.is_some() && now_us - self.last_heard_us > patience_us
    }

    /// What it wants to ask now.
    pub(super) fn want(&mut self, now_us: i64, checks: &mut Checks) -> Vec<Up> {
        let mut ups = Vec::new();
        if !self.open || self.closing {
            return ups;
        }
        let ping_us = i64::from(self.timeout_ms) * 1_000 / 3;
        if now_us - self.last_sent_us >= ping_us {
            ups.push(self.ask(now_us, checks, Request::Ping, None));
        }
        let room = if self.operator.is_some() { 1 } else { self.pipeline };
        if !self.quiet && self.pending.len() < room {
            self.choose(now_us, checks, &mut ups);
        }
        ups
    }

    fn choose(&mut self, now_us: i64, checks: &mut Checks, ups: &mut Vec<Up>) {
        if let Some(operator) = &mut self.operator {
            match operator.next(&checks.rolls) {
                Next::Change(wishes) => {
                    for wish in wishes {
                        ups.push(self.ask(now_us, checks, Request::Reconfig(wish.request()), None));
                    }
                }
                Next::Look { synced } => self.look(now_us, checks, Operator::path(), synced, ups),
            }
            return;
        }
        if let Some(request) = self.guard().or_else(|| self.keep_house()) {
            ups.push(self.ask(now_us, checks, request, None));
            return;
        }
        let register = self.chance.usize(..REGISTERS);
        let path = format!("/r{register}");
        let folder = format!("/d{}", self.chance.usize(..FOLDERS));
        let watch = self.chance.u8(..3) == 0;
        self.value += 1;
        let data = Some(Bytes::from(self.value.to_string()));
        let request = match self.chance.u8(..100) {
            0..8 => Request::Create(create(path, data, CreateFlags::PERSISTENT)),
            8..30 => Request::SetData { path, data, version: Version::ANY },
            30..42 => Request::SetData { path, data, version: Version(self.versions[register]) },
            42..44 => Request::Delete { path, version: Version::ANY },
            44..58 => return self.look(now_us, checks, path, true, ups),
            58..66 => Request::GetData { path, watch },
            66..70 => Request::Exists { path, watch },
            70..73 => Request::Create(create(folder, None, CreateFlags::PERSISTENT)),
            73..79 => Request::Create(create(
                format!("{folder}/n"),
                data,
                if self.chance.bool() {
                    CreateFlags::EPHEMERAL_SEQUENTIAL
                } else {
                    CreateFlags::PERSISTENT_SEQUENTIAL
                },
            )),
            79..82 => Request::Create(create(format!("/e{}", self.number), data, CreateFlags::EPHEMERAL)),
            82..87 => Request::GetChildren { path: folder, watch },
            87..91 => match self.own.pop_front() {
                Some(path) => Request::Delete { path, version: Version::ANY },
                None => Request::Exists { path: format!("/e{}", self.number), watch },
            },
            91..99 => self.multi(&folder),
            _ => {
                self.closing = true;
                Request::CloseSession
            }
        };
        ups.push(self.ask(now_us, checks, request, None));
    }

    /// Reads a node, behind a `sync` or as it is.
    fn look(&mut self, now_us: i64, checks: &mut Checks, path: String, synced: bool, ups: &mut Vec<Up>) {
        let mut behind = None;
        if synced {
            behind = Some((checks.horizon(), checks.moment()));
            ups.push(self.ask(now_us, checks, Request::Sync { path: path.clone() }, None));
        }
        ups.push(self.ask(now_us, checks, Request::GetData { path, watch: false }, behind));
    }

    /// Now and then something about the node whose rights change.
    fn guard(&mut self) -> Option<Request> {
        let rights = self.rights.as_mut()?;
        if rights.u8(..10) > 0 {
            return None;
        }
        let path = GUARDED.to_owned();
        let read_only = Some(vec![Acl::new(Permissions::READ | Permissions::ADMIN, "world", "anyone")]);
        Some(match rights.u8(..8) {
            0 => Request::Create(create(path, None, CreateFlags::PERSISTENT)),
            1 | 2 => Request::SetAcl { path, acl: open_acl(), version: Version::ANY },
            3 => Request::SetAcl { path, acl: read_only, version: Version::ANY },
            _ => Request::SetData { path, data: None, version: Version::ANY },
        })
    }

    /// Two sets that must be seen together, sometimes with something that makes it fail.
    fn multi(&mut self, folder: &str) -> Request {
        let data = Some(Bytes::from(self.value.to_string()));
        let set = |path: &str| MultiOp::SetData {
            path: path.to_owned(),
            data: data.clone(),
            version: Version::ANY,
        };
        let twin = create(format!("{folder}/t"), data.clone(), CreateFlags::PERSISTENT_SEQUENTIAL);
        let mut ops = vec![set("/m0"), MultiOp::Create(twin), set("/m1")];
        match self.chance.u8(..6) {
            0 => ops.push(MultiOp::Check { path: "/nowhere".to_owned(), version: Version::ANY }),
            1 | 2 => {
                let make = |path: &str| create(path.to_owned(), data.clone(), CreateFlags::PERSISTENT);
                ops = vec![MultiOp::Create(make("/m0")), MultiOp::Create(make("/m1"))];
            }
            _ => {}
        }
        Request::Multi(ops)
    }

    fn ask(&mut self, now_us: i64, checks: &mut Checks, request: Request, synced: Option<(Zxid, u64)>) -> Up {
        let op = request.op();
        let xid = match op {
            OpCode::Ping => Xid::PING,
            OpCode::SetWatches | OpCode::SetWatches2 => Xid::SET_WATCHES,
            OpCode::Auth => Xid::AUTH,
            _ => {
                self.xid += 1;
                Xid(self.xid)
            }
        };
        self.last_sent_us = now_us;
        let register = self.act(&request, synced).map(|(register, act)| {
            let call = synced.map_or_else(|| checks.moment(), |(_, moment)| moment);
            let operation = Operation { call, ret: u64::MAX, act, seen: Seen::Unknown };
            (register, checks.record(register, operation))
        });
        let horizon = checks.horizon();
        self.pending.push_back(Asked {
            xid,
            request: request.clone(),
            sent_us: now_us,
            horizon,
            synced,
            register,
        });
        Up::Request(RequestHeader { xid, op: op.code() }, request)
    }

    /// The request as an operation on a register; a read only behind a `sync`.
    fn act(&self, request: &Request, synced: Option<(Zxid, u64)>) -> Option<(usize, Act)> {
        let (path, act) = match request {
            Request::Create(create) => (&create.path, Act::Create(number(create.data.as_ref()))),
            Request::SetData { path, data, version } => {
                (path, Act::Set { value: number(data.as_ref()), version: version.0 })
            }
            Request::Delete { path, version } => (path, Act::Delete { version: version.0 }),
            Request::GetData { path, .. } if synced.is_some() => (path, Act::Read),
            _ => return None,
        };
        Some((register_of(path)?, act))
    }

    /// Bytes came. What it wants to say at once is answered.
    pub(super) fn hear(
        &mut self,
        now_us: i64,
        bytes: &[u8],
        checks: &mut Checks,
    ) -> Result<Vec<Up>, Violation> {
        self.last_heard_us = now_us;
        self.input.extend_from_slice(bytes);
        let mut ups = Vec::new();
        while let Some(frame) = next_frame(&mut self.input, DEFAULT_MAX_FRAME)
            .map_err(|error| Violation::new("frames are whole", error.to_string()))?
        {
            let mut input = Reader::new(frame);
            if self.open {
                self.on_frame(&mut input, checks)?;
            } else if let Some(up) = self.on_greeting(now_us, &mut input, checks)? {
                ups.push(up);
            }
        }
        Ok(ups)
    }

    fn on_greeting(
        &mut self,
        now_us: i64,
        input: &mut Reader,
        checks: &mut Checks,
    ) -> Result<Option<Up>, Violation> {
        let response = ConnectResponse::decode(input).map_err(undecodable)?;
        if response.timeout_ms == 0 || response.session == SessionId::NONE {
            checks.session_refused(self.session, self.number)?;
            self.begin_anew();
            self.conn = None;
            return Ok(None);
        }
        checks.session_granted(self, response.session)?;
        self.open = true;
        self.session = response.session;
        self.password = Some(response.password.to_vec());
        self.timeout_ms = response.timeout_ms;
        self.proved_us = self.connected_us;
        checks.owners.insert(self.session, (self.timeout_ms, self.proved_us));
        if self.operator.is_some() {
            return Ok(Some(self.ask(now_us, checks, Operator::auth(), None)));
        }
        if self.watches.is_empty() && self.following.is_none() {
            return Ok(None);
        }
        let of = |what: Watching| -> Vec<String> {
            let these = self.watches.iter().filter(|armed| armed.what == what);
            these.map(|armed| armed.path.clone()).collect()
        };
        let again = SetWatches {
            relative_zxid: self.last_zxid,
            data: of(Watching::Data),
            exist: of(Watching::Absence),
            child: of(Watching::Children),
            persistent_recursive: self.following.iter().map(|_| FOLLOWED.to_owned()).collect(),
            ..SetWatches::default()
        };
        for armed in &mut self.watches {
            armed.rearming = true;
            armed.after = self.last_zxid;
        }
        let request = match self.following {
            Some(_) => Request::SetWatches2(again),
            None => Request::SetWatches(again),
        };
        Ok(Some(self.ask(now_us, checks, request, None)))
    }

    fn on_frame(&mut self, input: &mut Reader, checks: &mut Checks) -> Result<(), Violation> {
        let header = ReplyHeader::decode(input).map_err(undecodable)?;
        if header.xid == Xid::EVENT {
            let event = WatcherEvent::decode(input).map_err(undecodable)?;
            return checks.watch_event(self, header.zxid, &event);
        }
        let asked = self.pending.pop_front().ok_or_else(|| {
            Violation::new("answers come in the order of requests", format!("nobody asked for {header:?}"))
        })?;
        if asked.xid != header.xid {
            return Err(Violation::new(
                "answers come in the order of requests",
                format!("client {} waits for {:?} and gets {header:?}", self.number, asked.xid),
            ));
        }
        if asked.xid == Xid::AUTH {
            return ensure(header.error == ErrorCode::OK, "the super user is known", || {
                format!("{header:?}")
            });
        }
        let response = match header.error {
            ErrorCode::OK => Some(Response::decode(asked.request.op(), input).map_err(undecodable)?),
            _ => None,
        };
        self.proved_us = self.proved_us.max(asked.sent_us);
        checks.owners.insert(self.session, (self.timeout_ms, self.proved_us));
        checks.answer(self, &Answer { asked: &asked, header, response: response.as_ref() })?;
        if let (Request::Reconfig(_), Some(wish)) =
            (&asked.request, self.operator.as_mut().and_then(|operator| operator.asked.pop_front()))
        {
            checks.wish_answered(&wish, header, response.as_ref())?;
        }
        self.learn(&asked, header, response.as_ref(), checks);
        Ok(())
    }

    fn learn(
        &mut self,
        asked: &Asked,
        header: ReplyHeader,
        response: Option<&Response>,
        checks: &mut Checks,
    ) {
        self.last_zxid = self.last_zxid.max(header.zxid);
        if asked.request.op().is_write() && header.error == ErrorCode::OK {
            self.writes_since_heal += 1;
        }
        if let Some((register, at)) = asked.register {
            let seen = seen(header.error, response);
            match (seen, &asked.request) {
                (Some(seen), _) => checks.settle(register, at, seen),
                (None, Request::GetData { .. }) => checks.forget_read(register, at),
                (None, _) => checks.forget_write(register, at),
            }
            if let (Some(Seen::Set(version) | Seen::Value(_, version)), true) = (seen, register < REGISTERS) {
                self.versions[register] = version;
            }
        }
        if let (Request::Create(create), Some(Response::Path(path))) = (&asked.request, response)
            && create.flags.is_sequential()
        {
            self.own.push_back(path.clone());
            if self.own.len() > OWN_MAX {
                self.own.pop_front();
            }
        }
        if header.error == ErrorCode::SESSION_EXPIRED {
            self.closing = true;
        }
    }
}

/// The answer as a register's; `None` when it says that the operation did not happen and nothing else.
fn seen(error: ErrorCode, response: Option<&Response>) -> Option<Seen> {
    Some(match (error, response) {
        (ErrorCode::OK, Some(Response::Stat(stat))) => Seen::Set(stat.version),
        (ErrorCode::OK, Some(Response::Data { data, stat })) => {
            Seen::Value(number(data.as_ref()), stat.version)
        }
        (ErrorCode::OK, _) => Seen::Done,
        (ErrorCode::NO_NODE, _) => Seen::NoNode,
        (ErrorCode::NODE_EXISTS, _) => Seen::Exists,
        (ErrorCode::BAD_VERSION, _) => Seen::BadVersion,
        _ => return None,
    })
}

fn undecodable(error: docent::proto::DecodeError) -> Violation {
    Violation::new("answers can be decoded", error.to_string())
}
