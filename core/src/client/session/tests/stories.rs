//! Connections, sessions, watches, identities, and the end.

use super::*;

#[test]
fn the_order_on_a_new_connection_is_identities_watches_requests() {
    let mut rig = Rig::new(Settings { auth: vec![("digest".into(), "a:b".into())], ..settings("a") });
    rig.submit_with(watch_data("/w"), None, Some((1, WatchKind::Data)));
    assert_eq!(rig.handshake().session, SessionId::NONE);
    rig.submit(get("/early"));
    assert_eq!(rig.sent(), [], "nothing is sent before the answer to the handshake");
    rig.answer_handshake(7, TIMEOUT);
    assert_eq!(rig.sent_ops(), [OpCode::Auth, OpCode::GetData, OpCode::GetData]);
    rig.reply(-4, 0, ErrorCode::OK);
    rig.reply(1, 50, ErrorCode::OK);
    rig.reply(2, 50, ErrorCode::OK);

    rig.pass(3000);
    rig.sent();
    rig.act(Event::Broken);
    rig.submit(set("/later"));
    let handshake = rig.handshake();
    assert_eq!((handshake.session, handshake.last_zxid_seen), (SessionId(7), Zxid(50)));
    assert_eq!(handshake.password, Some(PASSWORD.to_vec()));
    assert_eq!(handshake.timeout_ms, 12_000, "the configured timeout, whatever a server made of it");
    rig.answer_handshake(7, 6000);
    let sent = rig.sent();
    assert_eq!(
        sent.iter().map(|(_, request)| request.op()).collect::<Vec<_>>(),
        [OpCode::Auth, OpCode::SetWatches, OpCode::SetData]
    );
    let Request::SetWatches(watches) = &sent[1].1 else { panic!("{sent:?}") };
    assert_eq!((watches.relative_zxid, &watches.data), (Zxid(50), &vec!["/w".to_owned()]));
}

#[test]
fn reads_are_sent_again_and_writes_are_ambiguous() {
    let mut rig = Rig::connected(settings("a,b"));
    let (read, write, late) = (rig.submit(get("/r")), rig.submit(set("/w")), rig.submit(get("/s")));
    rig.sent();
    rig.act(Event::Broken);
    assert_eq!(rig.failure(write), Some(Failure::ConnectionLoss { may_have_applied: true }));
    let unsent = rig.submit(set("/x"));
    rig.handshake();
    rig.answer_handshake(7, TIMEOUT);
    let sent = rig.sent();
    assert_eq!(sent.iter().map(|(_, r)| r.clone()).collect::<Vec<_>>(), [get("/r"), get("/s"), set("/x")]);
    for (xid, _) in &sent {
        rig.reply(*xid, 9, ErrorCode::OK);
    }
    for ticket in [read, late, unsent] {
        assert!(rig.settled[&ticket].is_ok());
    }
    assert_eq!(
        rig.states,
        [
            Standing::Connecting,
            Standing::Connected(SessionId(7)),
            Standing::Suspended { session: SessionId(7), since: Moment::default() },
            Standing::Connected(SessionId(7)),
        ]
    );
}

#[test]
fn requests_give_up_when_their_budget_is_used_up() {
    let retry = Retry::default().budget(Duration::from_secs(5));
    let mut rig = Rig::connected(Settings { retry, ..settings("a") });
    let read = rig.submit(get("/r"));
    rig.act(Event::Broken);
    let write = rig.submit(set("/w"));
    rig.pass(4999);
    assert_eq!((rig.failure(read), rig.failure(write)), (None, None));
    rig.pass(1);
    let unapplied = Some(Failure::ConnectionLoss { may_have_applied: false });
    assert_eq!((rig.failure(read), rig.failure(write)), (unapplied, unapplied));
}

#[test]
fn without_a_budget_requests_fail_at_once() {
    let mut rig = Rig::connected(Settings { retry: Retry::none(), ..settings("a") });
    let read = rig.submit(get("/r"));
    rig.act(Event::Broken);
    let late = rig.submit(get("/r"));
    let unapplied = Some(Failure::ConnectionLoss { may_have_applied: false });
    assert_eq!((rig.failure(read), rig.failure(late)), (unapplied, unapplied));
}

#[test]
fn a_session_that_expired_is_replaced() {
    let mut rig = Rig::connected(settings("a"));
    rig.submit_with(watch_data("/w"), Some(7), Some((1, WatchKind::Data)));
    let mode = crate::proto::AddWatchMode::Persistent;
    let add = |path: &str| Request::AddWatch { path: path.into(), mode };
    rig.submit_with(add("/p"), None, Some((2, WatchKind::Persistent)));
    rig.submit_with(add("/q"), Some(7), Some((3, WatchKind::Persistent)));
    for (xid, _) in rig.sent() {
        rig.reply(xid, 40, ErrorCode::OK);
    }
    rig.act(Event::Broken);
    let bound = rig.submit_with(get("/bound"), Some(7), None);
    let free = rig.submit(get("/free"));
    rig.handshake();
    rig.answer_handshake(0, 0);
    let ended = Standing::Lost { session: SessionId(7), cause: LossCause::Expired };
    assert_eq!(rig.standing(), ended);
    assert_eq!(rig.failure(bound), Some(Failure::SessionEnded(SessionId(7))));
    let end = WatchEnd::SessionEnded(SessionId(7));
    assert_eq!(rig.ended, [(1, end.clone()), (3, end)]);
    assert_eq!(rig.machine.lease_end(), None);

    let handshake = rig.handshake();
    assert_eq!((handshake.session, handshake.last_zxid_seen), (SessionId::NONE, Zxid(40)), "never back");
    rig.answer_handshake(8, TIMEOUT);
    assert_eq!(rig.standing(), Standing::Connected(SessionId(8)));
    assert_eq!(rig.told, [(2, WatchItem::NewSession)]);
    let sent = rig.sent();
    assert!(
        matches!(&sent[0].1, Request::SetWatches2(w) if w.persistent == ["/p"] && w.data.is_empty()),
        "{sent:?}"
    );
    assert_eq!(sent[1].1, get("/free"));
    rig.reply(sent[0].0, 41, ErrorCode::OK);
    rig.reply(sent[1].0, 41, ErrorCode::OK);
    assert!(rig.settled[&free].is_ok());
    let stale = rig.submit_with(get("/bound"), Some(7), None);
    assert_eq!(rig.failure(stale), Some(Failure::SessionEnded(SessionId(7))));
}

/// Apache answers requests with −112 while it works off the end of a session, before it closes the connection.
#[test]
fn a_refusal_for_the_end_of_the_session_is_an_end() {
    let mut rig = Rig::connected(settings("a"));
    let refused = rig.submit_with(set("/bound"), Some(7), None);
    let unanswered = rig.submit_with(set("/bound"), Some(7), None);
    let sent = rig.sent();
    rig.reply(sent[0].0, 40, ErrorCode::SESSION_EXPIRED);
    assert_eq!(rig.failure(refused), Some(Failure::SessionEnded(SessionId(7))));
    assert_eq!(rig.failure(unanswered), Some(Failure::ConnectionLoss { may_have_applied: true }));
    assert_eq!(rig.handshake().session, SessionId(7), "the server's word on the session is asked for");
    rig.answer_handshake(0, 0);
    assert_eq!(rig.standing(), Standing::Lost { session: SessionId(7), cause: LossCause::Expired });
}

#[test]
fn another_session_than_the_one_asked_for_is_an_end() {
    let mut rig = Rig::connected(settings("a"));
    rig.act(Event::Broken);
    let bound = rig.submit_with(set("/bound"), Some(7), None);
    assert_eq!(rig.handshake().session, SessionId(7));
    rig.answer_handshake(8, TIMEOUT);
    assert_eq!(rig.failure(bound), Some(Failure::SessionEnded(SessionId(7))));
    let lost = Standing::Lost { session: SessionId(7), cause: LossCause::DifferentSession };
    assert_eq!(rig.states[rig.states.len() - 2..], [lost, Standing::Connected(SessionId(8))]);
    assert_eq!(rig.sent(), []);
}

#[test]
fn without_renewal_the_client_ends_with_its_session() {
    let mut rig = Rig::connected(Settings { renew: false, ..settings("a") });
    rig.act(Event::Broken);
    let waiting = rig.submit(get("/r"));
    rig.handshake();
    rig.answer_handshake(0, 0);
    assert_eq!(rig.standing(), Standing::Closed(CloseCause::SessionEnded));
    assert_eq!(rig.failure(waiting), Some(Failure::Ended(CloseCause::SessionEnded)));
    assert_eq!(rig.machine.deadline(), None);
}

#[test]
fn a_resumed_session_is_asked_for_and_may_have_ended() {
    let resume = Some((SessionId(5), PASSWORD));
    let mut rig = Rig::new(Settings { resume, ..settings("a") });
    assert_eq!(rig.handshake().session, SessionId(5));
    rig.answer_handshake(5, TIMEOUT);
    assert_eq!(rig.standing(), Standing::Connected(SessionId(5)));

    let mut rig = Rig::new(Settings { resume, ..settings("a") });
    rig.handshake();
    rig.answer_handshake(0, 0);
    assert_eq!(rig.handshake().session, SessionId::NONE);
}

#[test]
fn refused_credentials_end_the_client() {
    let mut rig = Rig::connected(settings("a"));
    let write = rig.submit(set("/w"));
    rig.act(Event::AddAuth { ticket: Ticket(90), scheme: "x".into(), auth: Bytes::new() });
    rig.reply(-4, 0, ErrorCode::AUTH_FAILED);
    assert_eq!(rig.standing(), Standing::Closed(CloseCause::AuthFailed));
    assert_eq!(rig.failure(90), Some(Failure::Ended(CloseCause::AuthFailed)));
    assert_eq!(rig.failure(write), Some(Failure::ConnectionLoss { may_have_applied: true }));
    let late = rig.submit(get("/r"));
    assert_eq!(rig.failure(late), Some(Failure::Ended(CloseCause::AuthFailed)));
}

#[test]
fn identities_are_sent_again_and_acknowledged_once() {
    let mut rig = Rig::connected(settings("a"));
    rig.act(Event::AddAuth { ticket: Ticket(90), scheme: "x".into(), auth: "1".into() });
    rig.act(Event::Broken);
    rig.act(Event::AddAuth { ticket: Ticket(91), scheme: "x".into(), auth: "1".into() });
    rig.act(Event::AddAuth { ticket: Ticket(92), scheme: "x".into(), auth: "2".into() });
    rig.handshake();
    rig.answer_handshake(7, TIMEOUT);
    assert_eq!(rig.sent_ops(), [OpCode::Auth, OpCode::Auth]);
    rig.reply(-4, 0, ErrorCode::OK);
    assert!(rig.settled[&90].is_ok() && rig.settled[&91].is_ok() && !rig.settled.contains_key(&92));
    rig.reply(-4, 0, ErrorCode::OK);
    assert!(rig.settled[&92].is_ok());
}

#[test]
fn watches_fire_once_and_are_removed_when_dropped() {
    let mut rig = Rig::connected(settings("a"));
    rig.submit_with(watch_data("/w"), None, Some((1, WatchKind::Data)));
    rig.event(EventType::NodeDataChanged, "/w");
    assert_eq!(rig.told, [], "the watch is set by the answer, not by the request");
    let (xid, _) = rig.sent()[0];
    rig.reply(xid, 4, ErrorCode::OK);
    rig.event(EventType::NodeDataChanged, "/w");
    rig.event(EventType::NodeDataChanged, "/w");
    assert_eq!(rig.told.len(), 1);

    rig.submit_with(watch_data("/w"), None, Some((2, WatchKind::Data)));
    rig.act(Event::Unwatch(WatchId(2)));
    let (xid, _) = rig.sent()[0];
    rig.reply(xid, 4, ErrorCode::OK);
    let sent = rig.sent();
    assert!(matches!(&sent[..], [(_, Request::RemoveWatches { path, .. })] if path == "/w"), "{sent:?}");
    rig.reply(sent[0].0, 4, ErrorCode::NO_WATCHER);
    assert_eq!(rig.standing(), Standing::Connected(SessionId(7)));
}

#[test]
fn watches_that_a_caller_removes_end() {
    let mut rig = Rig::connected(settings("a"));
    rig.submit_with(watch_data("/w"), None, Some((1, WatchKind::Data)));
    let kind = crate::proto::WatcherKind::Any;
    rig.submit(Request::RemoveWatches { path: "/w".into(), kind });
    for (xid, _) in rig.sent() {
        rig.reply(xid, 4, ErrorCode::OK);
    }
    assert_eq!(rig.ended, [(1, WatchEnd::Removed { path: "/w".into() })]);
}

#[test]
fn closing_waits_for_what_was_called_before() {
    let mut rig = Rig::connected(settings("a"));
    let write = rig.submit(set("/w"));
    rig.act(Event::Close { ticket: Some(Ticket(90)) });
    let late = rig.submit(get("/r"));
    assert_eq!(rig.failure(late), Some(Failure::Ended(CloseCause::Closed)));
    let sent = rig.sent();
    assert_eq!(sent.iter().map(|(_, r)| r.op()).collect::<Vec<_>>(), [OpCode::SetData, OpCode::CloseSession]);
    rig.reply(sent[0].0, 4, ErrorCode::OK);
    rig.reply(sent[1].0, 5, ErrorCode::OK);
    assert!(rig.settled[&write].is_ok() && rig.settled[&90].is_ok());
    assert_eq!(rig.standing(), Standing::Closed(CloseCause::Closed));
}

#[test]
fn a_lost_acknowledgement_of_the_end_is_looked_up() {
    let mut rig = Rig::connected(settings("a"));
    rig.act(Event::Close { ticket: Some(Ticket(90)) });
    rig.act(Event::Broken);
    assert_eq!(rig.handshake().session, SessionId(7));
    rig.answer_handshake(0, 0);
    assert!(rig.settled[&90].is_ok());
    assert_eq!(rig.standing(), Standing::Closed(CloseCause::Closed));
}

#[test]
fn closing_without_a_connection_takes_a_third_of_the_timeout() {
    let mut rig = Rig::connected(settings("a"));
    rig.act(Event::Broken);
    rig.act(Event::Close { ticket: Some(Ticket(90)) });
    rig.pass(3999);
    assert_eq!(rig.failure(90), None);
    rig.pass(1);
    assert_eq!(rig.failure(90), Some(Failure::Ended(CloseCause::Closed)));

    let mut rig = Rig::new(settings("a"));
    rig.act(Event::Close { ticket: Some(Ticket(90)) });
    assert!(rig.settled[&90].is_ok(), "there was no session to end");
    rig.act(Event::Close { ticket: Some(Ticket(91)) });
    assert!(rig.settled[&91].is_ok(), "twice is harmless");
}

#[test]
fn a_close_during_the_handshake_ends_the_session_that_it_makes() {
    let mut rig = Rig::new(settings("a"));
    rig.handshake();
    rig.act(Event::Close { ticket: Some(Ticket(90)) });
    rig.answer_handshake(7, TIMEOUT);
    assert_eq!(rig.sent_ops(), [OpCode::CloseSession]);
}

#[test]
fn nonsense_ends_the_connection_only() {
    for frame in
        [&b""[..], b"abc", &[0; 16], &[255; 16], &[255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
    {
        let mut rig = Rig::connected(settings("a"));
        let read = rig.submit(get("/r"));
        rig.act(Event::Frame(Bytes::copy_from_slice(frame)));
        assert!(matches!(rig.standing(), Standing::Suspended { .. }), "{frame:?}");
        assert_eq!(rig.failure(read), None);
    }
}
