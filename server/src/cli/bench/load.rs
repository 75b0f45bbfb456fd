//! The load itself: sessions that each keep a number of requests in flight, driven by one thread (or a few) over
//! epoll.
//!
//! It shares the machine with the server it measures, so the aim is the least CPU per operation: requests are copied
//! from templates, everything that one read brought is answered by one write, and the clock is read once per read and
//! once per write. Every reply is checked: it must carry the next xid of its session and no error, and for reads the
//! length of the data.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use docent::{ErrorCode, Xid};
use rustix::event::epoll;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::control::open_session;
use super::frames::{RawReply, Template, next_reply};
use super::histogram::Histogram;
use super::pace::Pace;

/// What one read takes at most; a burst of small replies fits.
const READ_BYTES: usize = 64 * 1024;
/// The longest reply that is waited for before the connection counts as broken.
const REPLY_MAX: usize = 16 << 20;
/// How long all sessions of a thread may stay silent before the run is given up.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How often an idle thread looks whether it shall stop.
const LOOK_UP: Duration = Duration::from_millis(50);
/// Events taken per wait.
const EVENTS: usize = 256;
/// What epoll calls the [`Alarm`]; sessions are called by their index.
const ALARM: u64 = u64::MAX;

/// One kind of request and what its reply must look like.
#[derive(Clone)]
pub(crate) struct Step {
    /// The request.
    pub(crate) template: Template,
    /// For reads: the length that the data must have.
    pub(crate) data_length: Option<usize>,
}

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// At this time.
    Time(Instant),
    /// When each session has made so many requests.
    Count(u64),
}

/// The timing of a run, the same for all threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Requests that each session keeps in flight.
    pub(crate) in_flight: usize,
    /// Replies before this time are not counted: buffers and JIT compilers warm up.
    pub(crate) count_from: Instant,
    /// When no more requests are made.
    pub(crate) until: Until,
    /// The most requests that one session makes, whatever the time.
    pub(crate) requests_max: u64,
}

/// What was counted.
#[derive(Default)]
pub(crate) struct Tally {
    /// From sending to receiving, of each reply within the counted time; under an offered load, from when it was due.
    pub(crate) latency: Histogram,
    /// When the last counted reply came.
    pub(crate) last_reply: Option<Instant>,
}

impl Tally {
    /// Adds what another thread has counted.
    pub(crate) fn merge(&mut self, other: &Tally) {
        self.latency.merge(&other.latency);
        self.last_reply = self.last_reply.max(other.last_reply);
    }
}

/// One session and its requests in flight.
pub(crate) struct Session {
    stream: TcpStream,
    /// The requests, made one after the other, again and again.
    cycle: Vec<Step>,
    /// Requests made, over all runs.
    made: u64,
    /// Replies taken, over all runs: the next reply answers request number `answered`.
    answered: u64,
    /// When each request in flight was sent, or was due to be sent, nanoseconds after the start of the run.
    sent_at: VecDeque<u64>,
    output: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    filled: usize,
    awaits_room: bool,
    /// When requests are due. `None`: whenever fewer than the allowed number are in flight.
    pace: Option<Pace>,
}

impl Session {
    /// Opens a session on a server.
    ///
    /// # Errors
    /// The server cannot be reached or gives no session.
    pub(crate) fn open(host: &str, cycle: Vec<Step>) -> Result<Session> {
        let stream = open_session(host)?;
        stream.set_nonblocking(true)?;
        Ok(Session {
            stream,
            cycle,
            made: 0,
            answered: 0,
            sent_at: VecDeque::new(),
            output: Vec::with_capacity(READ_BYTES),
            written: 0,
            input: vec![0; READ_BYTES],
            filled: 0,
            awaits_room: false,
            pace: None,
        })
    }

    /// The same session with an offered load in place of as much as it can take.
    pub(crate) fn paced(self, pace: Option<Pace>) -> Session {
        Session { pace, ..self }
    }

    /// The request with this number: its xid (from 1, wrapped to stay positive) and kind.
    fn step(&self, number: u64) -> (i32, &Step) {
        let xid = (number % (i32::MAX as u64)) as i32 + 1;
        (xid, &self.cycle[(number % self.cycle.len() as u64) as usize])
    }

    /// Makes requests until `in_flight` are, or no more are due, at most up to request number `last`.
    fn make(&mut self, in_flight: usize, last: u64, now: u64) {
        while self.sent_at.len() < in_flight && self.made < last {
            let due = match &mut self.pace {
                Some(pace) => pace.take(now),
                None => Some(now),
            };
            let Some(due) = due else { break };
            let (xid, _) = self.step(self.made);
            let step = &self.cycle[(self.made % self.cycle.len() as u64) as usize];
            step.template.put(&mut self.output, xid, self.made);
            self.sent_at.push_back(due);
            self.made += 1;
        }
    }

    /// Writes what the socket takes. True when something is left.
    fn flush(&mut self) -> Result<bool> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("sending requests"),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(false)
    }

    /// Reads once and hands each reply's latency to `count`.
    fn receive(&mut self, start: Instant, mut count: impl FnMut(u64, u64)) -> Result<()> {
        match self.stream.read(&mut self.input[self.filled..]) {
            Ok(0) => bail!("the server closed the connection with {} requests in flight", self.sent_at.len()),
            Ok(bytes) => self.filled += bytes,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(error).context("receiving replies"),
        }
        let now = nanos_since(start);
        let input = std::mem::take(&mut self.input);
        let mut taken = 0;
        while let Some((reply, bytes)) = next_reply(&input[taken..self.filled])? {
            taken += bytes;
            if reply.xid != Xid::EVENT {
                let sent = self.settle(reply)?;
                count(now, now.saturating_sub(sent));
            }
        }
        self.input = input;
        self.input.copy_within(taken..self.filled, 0);
        self.filled -= taken;
        if self.filled == self.input.len() {
            if self.filled >= REPLY_MAX {
                bail!("a reply is longer than {REPLY_MAX} bytes");
            }
            self.input.resize(self.filled * 2, 0);
        }
        Ok(())
    }

    /// Checks a reply against the request it must answer, and gives the time that one was sent.
    fn settle(&mut self, reply: RawReply<'_>) -> Result<u64> {
        let Some(sent) = self.sent_at.pop_front() else {
            bail!("a reply to xid {} came with no request in flight", reply.xid.0)
        };
        let (xid, step) = self.step(self.answered);
        if reply.xid != Xid(xid) {
            bail!("a reply to xid {} came where {xid} is due", reply.xid.0);
        }
        if reply.error != ErrorCode::OK {
            bail!("request {xid} was refused: {}", reply.error);
        }
        if step.data_length.is_some() && step.data_length != reply.data_length() {
            bail!("request {xid} read {:?} bytes where {:?} are due", reply.data_length(), step.data_length);
        }
        self.answered += 1;
        Ok(sent)
    }

    /// How many requests were made over all runs.
    pub(crate) fn made(&self) -> u64 {
        self.made
    }
}

fn nanos_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Runs the sessions of one thread to the end of the plan, or until `stop` is set; then takes the replies that are
/// still due.
///
/// # Errors
/// A connection breaks, a reply is wrong, or nothing comes for [`SILENCE_MAX`].
pub(crate) fn drive(sessions: &mut [Session], plan: &Plan, stop: &AtomicBool) -> Result<Tally> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).context("creating an epoll")?;
    for (index, session) in sessions.iter().enumerate() {
        epoll::add(&poll, &session.stream, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
    }
    let mut thread = Thread { plan: *plan, start: Instant::now(), tally: Tally::default(), stop };
    for (index, session) in sessions.iter_mut().enumerate() {
        thread.send(session, &poll, index)?;
    }
    let alarm = Alarm::new(&poll)?;
    let mut events = Vec::with_capacity(EVENTS);
    let mut last_event = Instant::now();
    loop {
        let in_flight = sessions.iter().any(|session| !session.sent_at.is_empty());
        if !in_flight && !sessions.iter().any(|session| thread.will_make_more(session)) {
            break;
        }
        events.clear();
        if let Some(wait) = thread.patience(sessions) {
            alarm.set(wait)?;
        }
        let timeout = rustix::event::Timespec::try_from(LOOK_UP).ok();
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
            Ok(0) if in_flight && last_event.elapsed() > SILENCE_MAX => bail!("no reply for {SILENCE_MAX:?}"),
            Ok(0) => {}
            Ok(_) => last_event = Instant::now(),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error).context("waiting for replies"),
        }
        for event in events.iter().filter(|event| event.data.u64() != ALARM) {
            let index = event.data.u64() as usize;
            thread.take(&mut sessions[index])?;
            thread.send(&mut sessions[index], &poll, index)?;
        }
        for (index, session) in sessions.iter_mut().enumerate() {
            if thread.is_due(session) {
                thread.send(session, &poll, index)?;
            }
        }
    }
    Ok(thread.tally)
}

/// Ends a wait at a time that is finer than the milliseconds that epoll counts in.
struct Alarm(OwnedFd);

impl Alarm {
    fn new(poll: &impl AsFd) -> Result<Alarm> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)
            .context("creating a timer")?;
        // A timer that is set anew is silent again, so nobody needs to read it.
        epoll::add(poll, &timer, epoll::EventData::new_u64(ALARM), epoll::EventFlags::IN)?;
        Ok(Alarm(timer))
    }

    fn set(&self, wait: Duration) -> Result<()> {
        // Zero would switch it off.
        let at = rustix::event::Timespec::try_from(wait.max(Duration::from_nanos(1)))?;
        let once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = Itimerspec { it_interval: once, it_value: at };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &setting).context("setting a timer")?;
        Ok(())
    }
}

struct Thread<'a> {
    plan: Plan,
    start: Instant,
    tally: Tally,
    stop: &'a AtomicBool,
}

impl Thread<'_> {
    fn take(&mut self, session: &mut Session) -> Result<()> {
        let nanos = |time: Instant| {
            u64::try_from(time.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
        };
        let from = nanos(self.plan.count_from);
        let until = match self.plan.until {
            Until::Time(time) => nanos(time),
            Until::Count(_) => u64::MAX,
        };
        let tally = &mut self.tally;
        let start = self.start;
        session.receive(start, |now, latency| {
            if now >= from && now < until {
                tally.latency.record(latency);
                tally.last_reply = Some(start + Duration::from_nanos(now));
            }
        })
    }

    /// The number of the last request that a session makes, as things stand.
    fn last(&self, session: &Session, now: u64) -> u64 {
        match self.plan.until {
            _ if self.stop.load(Ordering::Relaxed) => session.made,
            Until::Time(time) if self.start + Duration::from_nanos(now) >= time => session.made,
            Until::Time(_) => self.plan.requests_max,
            Until::Count(count) => count.min(self.plan.requests_max),
        }
    }

    /// Whether a session that has nothing in flight is only waiting for its next turn.
    fn will_make_more(&self, session: &Session) -> bool {
        session.pace.is_some() && session.made < self.last(session, nanos_since(self.start))
    }

    /// Whether it is a session's turn under an offered load.
    fn is_due(&self, session: &Session) -> bool {
        session.pace.is_some_and(|pace| pace.next() <= nanos_since(self.start))
            && session.sent_at.len() < self.plan.in_flight
    }

    /// Under an offered load: how long until the next request is due.
    fn patience(&self, sessions: &[Session]) -> Option<Duration> {
        let waiting = sessions.iter().filter(|session| session.sent_at.len() < self.plan.in_flight);
        let next = waiting.filter_map(|session| session.pace).map(|pace| pace.next()).min();
        next.map(|next| Duration::from_nanos(next.saturating_sub(nanos_since(self.start))))
    }

    fn send(&mut self, session: &mut Session, poll: &impl AsFd, index: usize) -> Result<()> {
        let now = nanos_since(self.start);
        let last = self.last(session, now);
        session.make(self.plan.in_flight, last, now);
        let awaits_room = session.flush()?;
        if awaits_room != session.awaits_room {
            session.awaits_room = awaits_room;
            let flags = if awaits_room {
                epoll::EventFlags::IN | epoll::EventFlags::OUT
            } else {
                epoll::EventFlags::IN
            };
            epoll::modify(poll, &session.stream, epoll::EventData::new_u64(index as u64), flags)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use docent::proto::frame::put_frame;
    use docent::proto::{ConnectResponse, Encode as _, ReplyHeader, Request};
    use docent::{SessionId, Zxid};
    use std::net::TcpListener;

    /// Answers a handshake and then every request, xid by xid; from request number `wrong_at` on with xids that are
    /// off by one.
    fn server(wrong_at: i32) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let frame = |stream: &mut TcpStream| {
                let mut head = [0; 4];
                stream.read_exact(&mut head).ok()?;
                let mut body = vec![0; i32::from_be_bytes(head) as usize];
                stream.read_exact(&mut body).ok()?;
                Some(body)
            };
            frame(&mut stream).unwrap();
            let mut out = BytesMut::new();
            let response = ConnectResponse {
                timeout_ms: 1000,
                session: SessionId(1),
                ..ConnectResponse::not_valid(None)
            };
            put_frame(&mut out, |out| response.encode(out));
            stream.write_all(&out).unwrap();
            while let Some(body) = frame(&mut stream) {
                let xid = i32::from_be_bytes(*body.first_chunk().unwrap());
                let xid = Xid(if xid >= wrong_at { xid + 1 } else { xid });
                out.clear();
                put_frame(&mut out, |out| {
                    ReplyHeader { xid, zxid: Zxid(9), error: ErrorCode::OK }.encode(out)
                });
                if stream.write_all(&out).is_err() {
                    return;
                }
            }
        });
        address
    }

    fn run(wrong_at: i32, pace: Option<Pace>) -> Result<(Tally, u64)> {
        let template = Template::new(&Request::Sync { path: "/".into() });
        let session =
            Session::open(&server(wrong_at), vec![Step { template, data_length: None }])?.paced(pace);
        let until = Until::Count(100);
        let plan = Plan { in_flight: 4, count_from: Instant::now(), until, requests_max: u64::MAX };
        let mut sessions = [session];
        let tally = drive(&mut sessions, &plan, &AtomicBool::new(false))?;
        Ok((tally, sessions[0].made()))
    }

    #[test]
    fn a_run_makes_exactly_its_count() {
        let (tally, made) = run(i32::MAX, None).unwrap();
        assert_eq!((tally.latency.total(), made), (100, 100));
        assert!(tally.last_reply.is_some());
    }

    #[test]
    fn an_offered_load_is_made_at_its_pace() {
        let begin = Instant::now();
        let (tally, made) = run(i32::MAX, Some(Pace::new(2000, 1, 0))).unwrap();
        assert_eq!((tally.latency.total(), made), (100, 100));
        // The hundredth is due 99 half milliseconds after the first.
        assert!(begin.elapsed() >= Duration::from_micros(99 * 500), "{:?}", begin.elapsed());
    }

    #[test]
    fn a_reply_out_of_order_ends_the_run() {
        let error = run(50, None).err().unwrap();
        assert_eq!(error.to_string(), "a reply to xid 51 came where 50 is due");
    }
}
