//! Whatever happens, in any order.

use bytes::BufMut;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Read {
        pinned: bool,
    },
    Write {
        pinned: bool,
    },
    Watch,
    Unwatch,
    AddAuth,
    Hold,
    Release,
    Dialed,
    Broken,
    Handshake {
        session: u8,
    },
    /// Answers the oldest request on the wire.
    Answer {
        error: bool,
    },
    Pong,
    Garbage,
    Fire,
    Sleep(u16),
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => any::<bool>().prop_map(|pinned| Step::Read { pinned }),
        3 => any::<bool>().prop_map(|pinned| Step::Write { pinned }),
        2 => Just(Step::Watch),
        2 => Just(Step::Unwatch),
        1 => Just(Step::AddAuth),
        1 => Just(Step::Hold),
        1 => Just(Step::Release),
        6 => Just(Step::Dialed),
        2 => Just(Step::Broken),
        6 => (0..4_u8).prop_map(|session| Step::Handshake { session }),
        6 => any::<bool>().prop_map(|error| Step::Answer { error }),
        2 => Just(Step::Pong),
        1 => Just(Step::Garbage),
        2 => Just(Step::Fire),
        3 => (1..20_000_u16).prop_map(Step::Sleep),
        1 => prop_oneof![30 => Just(Step::Fire), 1 => Just(Step::Close)],
    ];
    prop::collection::vec(step, 1..120)
}

/// What a run of random steps must keep, beside what [`Rig`] checks at each step.
struct Run {
    rig: Rig,
    /// Requests on the wire of now, oldest first.
    unanswered: std::collections::VecDeque<(i32, OpCode)>,
    writes_seen: BTreeMap<String, usize>,
    watches: u64,
}

impl Run {
    fn look(&mut self) {
        if !matches!(self.rig.machine.phase, Phase::Live(_)) {
            self.unanswered.clear();
            return;
        }
        for (xid, request) in self.rig.sent() {
            if let Request::SetData { path, .. } = &request {
                *self.writes_seen.entry(path.clone()).or_default() += 1;
                // A bound write names its session in its path.
                if let Some((_, session)) = path.split_once("/bound-") {
                    let current = self.rig.machine.session.as_ref().map(|session| session.id.0.to_string());
                    assert_eq!(current.as_deref(), Some(session.split('-').next().unwrap()));
                }
            }
            self.unanswered.push_back((xid, request.op()));
        }
    }

    fn take(&mut self, wanted: impl Fn(i32) -> bool) -> Option<i32> {
        let at = self.unanswered.iter().position(|(xid, _)| wanted(*xid))?;
        self.unanswered.remove(at).map(|(xid, _)| xid)
    }

    fn step(&mut self, step: Step) {
        let rig = &mut self.rig;
        let pin = rig.machine.session.as_ref().map(|session| session.id.0);
        match step {
            Step::Read { pinned } => {
                rig.submit_with(get("/r"), pin.filter(|_| pinned), None);
            }
            Step::Write { pinned } => {
                let path = match pin.filter(|_| pinned) {
                    Some(pin) => format!("/bound-{pin}-{}", rig.tickets),
                    None => format!("/free-{}", rig.tickets),
                };
                rig.submit_with(set(&path), pin.filter(|_| pinned), None);
            }
            Step::Watch => {
                self.watches += 1;
                rig.submit_with(watch_data("/w"), None, Some((self.watches, WatchKind::Data)));
            }
            Step::Unwatch => rig.act(Event::Unwatch(WatchId(self.watches))),
            Step::AddAuth => {
                rig.tickets += 1;
                let (ticket, auth) = (Ticket(rig.tickets), rig.tickets.to_string().into());
                rig.act(Event::AddAuth { ticket, scheme: "digest".into(), auth });
            }
            Step::Hold => rig.act(Event::Hold),
            Step::Release => rig.act(Event::Release),
            Step::Dialed => {
                rig.act(Event::Dialed);
                if matches!(rig.machine.phase, Phase::Shaking { .. }) {
                    rig.wire.clear();
                }
            }
            Step::Broken => rig.act(Event::Broken),
            Step::Handshake { session } => {
                if matches!(rig.machine.phase, Phase::Shaking { .. }) {
                    let asked = pin.filter(|_| session < 3).unwrap_or(100 + i64::from(rig.tickets));
                    let (session, timeout) = if session == 0 { (0, 0) } else { (asked, TIMEOUT) };
                    rig.answer_handshake(session, timeout);
                }
            }
            Step::Answer { error } => {
                if let Some(xid) = self.take(|xid| xid > 0) {
                    let error = if error { ErrorCode::NO_NODE } else { ErrorCode::OK };
                    self.rig.reply(xid, 5, error);
                } else if self.take(|xid| xid == -4).is_some() {
                    self.rig.reply(-4, 0, ErrorCode::OK);
                }
            }
            Step::Pong => {
                if self.take(|xid| xid == -2).is_some() {
                    self.rig.reply(-2, 0, ErrorCode::OK);
                }
            }
            Step::Garbage => {
                let mut frame = BytesMut::new();
                frame.put_slice(&[1, 2, 3]);
                rig.act(Event::Frame(frame.freeze()));
            }
            Step::Fire => rig.event(EventType::NodeDataChanged, "/w"),
            Step::Sleep(ms) => rig.pass(u64::from(ms)),
            Step::Close => {
                rig.tickets += 1;
                let ticket = Some(Ticket(rig.tickets));
                rig.act(Event::Close { ticket });
            }
        }
        self.look();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// States follow each other legally, every ticket is settled exactly once, no write is sent twice, no bound
    /// write in another session, the lease is never longer than the timeout, and the machine never asks for a
    /// deadline that has passed.
    #[test]
    fn whatever_happens_the_promises_hold(steps in steps()) {
        let rig = Rig::new(settings("a,b"));
        let mut run = Run { rig, unanswered: Default::default(), writes_seen: BTreeMap::new(), watches: 0 };
        for step in steps {
            run.step(step);
            if let Some(end) = run.rig.machine.lease_end() {
                prop_assert!(end <= run.rig.moment() + Duration::from_millis(TIMEOUT));
            }
        }
        run.step(Step::Close);
        run.step(Step::Sleep(5000));
        prop_assert!(run.rig.machine.ended());
        prop_assert_eq!(run.rig.settled.len(), run.rig.tickets as usize, "every ticket is settled");
        prop_assert!(run.writes_seen.values().all(|count| *count == 1), "{:?}", run.writes_seen);
        prop_assert!(run.rig.machine.watches.is_empty());
        prop_assert_eq!(run.rig.machine.line.len(), 0);
    }

    /// Any bytes at any time: the machine goes on.
    #[test]
    fn any_frame_is_survived(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..20)) {
        let mut rig = Rig::new(settings("a"));
        for frame in frames {
            rig.act(Event::Dialed);
            rig.wire.clear();
            rig.submit(get("/r"));
            rig.wire.clear();
            rig.act(Event::Frame(frame.into()));
            rig.wire.clear();
            rig.pass(100);
        }
    }
}
