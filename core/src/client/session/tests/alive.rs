//! What keeps the session and the lease alive, and what ends them.

use super::*;

#[test]
fn an_idle_client_pings_and_a_silent_server_is_left() {
    let mut rig = Rig::connected(settings("a"));
    rig.pass(3999);
    assert_eq!(rig.sent(), []);
    rig.pass(1);
    assert_eq!(rig.sent(), [(-2, Request::Ping)]);
    rig.reply(-2, 0, ErrorCode::OK);
    rig.pass(4000);
    assert_eq!(rig.sent(), [(-2, Request::Ping)]);
    rig.pass(3999);
    assert_eq!(rig.standing(), Standing::Connected(SessionId(7)));
    rig.pass(1);
    assert_eq!(
        rig.standing(),
        Standing::Suspended { session: SessionId(7), since: Moment::from_millis(4000 + 8000) },
        "two thirds of the timeout after the last frame"
    );
}

/// Our bytes vanish, the server's events still come: "heard lately" must not count.
#[test]
fn one_way_loss_ends_the_lease_and_the_connection() {
    let mut rig = Rig::connected(settings("a"));
    let lease = Some(Moment::from_millis(TIMEOUT - 500));
    for _ in 0..12 {
        rig.pass(999);
        rig.event(EventType::NodeCreated, "/x");
        assert_eq!(rig.machine.lease_end(), lease);
    }
    // The ping of 4 s was not answered: the connection is dropped two thirds of the timeout later.
    rig.pass(12);
    let since = Moment::from_millis(12_000);
    assert_eq!(rig.standing(), Standing::Suspended { session: SessionId(7), since });
}

/// Many requests are called at once and the server takes longer for all than a connection may be silent.
#[test]
fn a_long_line_that_makes_progress_is_not_silence() {
    let mut rig = Rig::connected(settings("a"));
    let tickets: Vec<u32> = (0..40).map(|_| rig.submit(get("/r"))).collect();
    for (xid, _) in rig.sent() {
        rig.pass(1000);
        rig.reply(xid, 1, ErrorCode::OK);
    }
    assert!(tickets.iter().all(|ticket| rig.settled.contains_key(ticket)));
    assert_eq!(rig.standing(), Standing::Connected(SessionId(7)));
}

#[test]
fn a_held_lease_is_proved_by_syncs_every_sixth_of_the_timeout() {
    let mut rig = Rig::connected(settings("a"));
    rig.act(Event::Hold);
    let mut syncs = Vec::new();
    for _ in 0..100 {
        for (xid, request) in rig.sent() {
            assert_eq!(request, Request::Sync { path: "/".into() });
            syncs.push(rig.now);
            rig.now += 5;
            rig.reply(xid, 1, ErrorCode::OK);
            rig.now -= 5;
        }
        rig.pass(100);
    }
    assert_eq!(syncs, [0, 2000, 4000, 6000, 8000]);
    assert_eq!(rig.machine.lease_end(), Some(Moment::from_millis(6000 + TIMEOUT - 500)));
    rig.act(Event::Release);
    rig.sent();
    rig.pass(3500);
    assert_eq!(rig.sent_ops(), []);
}
