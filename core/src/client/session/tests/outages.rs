//! Long times without a server, and servers that are not what they should be.

use super::*;

/// An outage of a minute with three hosts that refuse at once.
#[test]
fn attempts_are_paced() {
    let mut rig = Rig::connected(settings("a,b,c"));
    rig.pass(3000);
    rig.act(Event::Broken);
    let before = rig.dials;
    while rig.now < 63_000 {
        if matches!(rig.machine.phase, Phase::Dialing { .. }) {
            rig.act(Event::Broken);
        }
        rig.pass(1);
    }
    let attempts = rig.dials - before;
    assert!((20..=100).contains(&attempts), "{attempts} attempts in a minute");
}

/// A server that takes the session and hangs up at once must not be dialled in a tight loop.
#[test]
fn a_flapping_server_is_paced_too() {
    let mut rig = Rig::connected(settings("a"));
    while rig.now < 60_000 {
        match rig.machine.phase {
            Phase::Dialing { .. } => {
                rig.handshake();
                rig.answer_handshake(7, TIMEOUT);
                rig.act(Event::Broken);
            }
            Phase::Live(_) => rig.act(Event::Broken),
            _ => {}
        }
        rig.pass(1);
    }
    assert!(rig.dials < 120, "{} attempts in a minute", rig.dials);
}

/// Lets the servers hang up on every handshake that names a zxid, and answers those that do not.
fn went_back(rig: &mut Rig, answers: impl Fn(usize, u64) -> bool) -> usize {
    let mut probes = 0;
    while !rig.machine.ended() && rig.now < 120_000 {
        if matches!(rig.machine.phase, Phase::Dialing { .. }) {
            let handshake = rig.handshake();
            if handshake.last_zxid_seen == Zxid::ZERO && answers(rig.machine.hosts.current(), rig.now) {
                probes += 1;
                assert_eq!(handshake.session, SessionId::NONE);
                rig.answer_handshake(99, TIMEOUT);
                if !rig.machine.ended() {
                    assert_eq!(rig.sent_ops(), [OpCode::CloseSession], "nothing but the end of that session");
                }
            }
            rig.act(Event::Broken);
        }
        rig.pass(1);
    }
    probes
}

#[test]
fn an_ensemble_that_went_back_is_found_out() {
    let mut rig = Rig::connected(settings("a,b"));
    let read = rig.submit(get("/r"));
    let (xid, _) = rig.sent()[0];
    rig.reply(xid, 1000, ErrorCode::OK);
    assert!(rig.settled[&read].is_ok());
    let waiting = rig.submit_with(get("/r"), Some(7), None);
    rig.act(Event::Broken);
    assert!(went_back(&mut rig, |_, _| true) >= 6);
    let lost = Standing::Lost { session: SessionId(7), cause: LossCause::EnsembleWentBack };
    let closed = Standing::Closed(CloseCause::EnsembleWentBack);
    assert_eq!(rig.states[rig.states.len() - 2..], [lost, closed]);
    assert_eq!(rig.failure(waiting), Some(Failure::Ended(CloseCause::EnsembleWentBack)));
    assert!(rig.now >= TIMEOUT, "not before a session's time has gone by");
}

#[test]
fn one_server_that_is_behind_proves_nothing() {
    let mut rig = Rig::connected(settings("a,b"));
    rig.submit(get("/r"));
    let (xid, _) = rig.sent()[0];
    rig.reply(xid, 1000, ErrorCode::OK);
    rig.act(Event::Broken);
    assert!(went_back(&mut rig, |server, _| server == 0) > 2);
    while !matches!(rig.machine.phase, Phase::Dialing { .. }) {
        rig.pass(1);
    }
    let mut handshake = rig.handshake();
    while handshake.last_zxid_seen == Zxid::ZERO {
        rig.act(Event::Broken);
        handshake = rig.handshake();
    }
    rig.answer_handshake(7, TIMEOUT);
    assert_eq!(rig.standing(), Standing::Connected(SessionId(7)));
}

/// No server serves for longer than a session lasts; then one does, and the first that it is asked is a probe.
#[test]
fn an_outage_is_not_taken_for_lost_data() {
    for outage in (20_000..24_000).step_by(100) {
        let mut rig = Rig::connected(settings("a"));
        rig.submit(get("/r"));
        let (xid, _) = rig.sent()[0];
        rig.reply(xid, 1000, ErrorCode::OK);
        rig.act(Event::Broken);
        while rig.now < 60_000 && !matches!(rig.standing(), Standing::Connected(_)) {
            if matches!(rig.machine.phase, Phase::Dialing { .. }) {
                let handshake = rig.handshake();
                let probe = handshake.last_zxid_seen == Zxid::ZERO;
                match (rig.now > outage, probe) {
                    (false, _) => rig.act(Event::Broken),
                    (true, true) => rig.answer_handshake(99, TIMEOUT),
                    (true, false) => rig.answer_handshake(7, TIMEOUT),
                }
                if matches!(rig.machine.phase, Phase::Parting { .. }) {
                    rig.act(Event::Broken);
                }
            }
            rig.pass(1);
        }
        assert_eq!(rig.standing(), Standing::Connected(SessionId(7)), "after an outage of {outage} ms");
    }
}

#[test]
fn without_quorum_the_client_looks_around_and_proves_nothing() {
    let mut rig = Rig::new(Settings { read_only: true, ..settings("a,b") });
    assert_eq!(rig.handshake().read_only, Some(true));
    rig.answer_handshake_as(7, TIMEOUT, true);
    assert_eq!(rig.standing(), Standing::ReadOnly(SessionId(7)));
    rig.act(Event::Hold);
    rig.submit(get("/r"));
    let (xid, _) = rig.sent()[0];
    rig.reply(xid, 3, ErrorCode::OK);
    assert_eq!(rig.machine.lease_end(), None);
    rig.pass(100);
    let other = 1 - rig.machine.hosts.current();
    assert_eq!(rig.asked, [other]);
    rig.act(Event::Asked { server: other, writable: false });
    rig.pass(199);
    assert_eq!(rig.asked.len(), 1);
    rig.pass(1);
    assert_eq!(rig.asked.len(), 2);
    rig.act(Event::Asked { server: other, writable: true });
    assert_eq!(rig.handshake().session, SessionId::NONE, "that session exists on the first server only");
    assert_eq!(rig.machine.hosts.current(), other);
    rig.answer_handshake(8, TIMEOUT);
    assert_eq!(rig.standing(), Standing::Connected(SessionId(8)));
}
