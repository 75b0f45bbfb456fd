//! Logging in with SASL, step by step.

use super::*;
use crate::digest_md5;
use crate::proto::jute::put_buffer;

fn logging_in() -> Settings {
    let login = Login { user: "bob".into(), password: "pw".into() };
    Settings { login: Some(login), auth: vec![("digest".into(), "a:b".into())], ..settings("a:1,b:2") }
}

impl Rig {
    /// The token of the one request that was sent.
    fn sent_token(&mut self) -> Bytes {
        let sent = self.sent();
        let [(_, Request::Sasl { token: Some(token) })] = &sent[..] else { panic!("{sent:?}") };
        token.clone()
    }

    fn give_token(&mut self, error: ErrorCode, token: Option<&[u8]>) {
        let mut frame = BytesMut::new();
        ReplyHeader { xid: Xid(1), zxid: Zxid::ZERO, error }.encode(&mut frame);
        put_buffer(&mut frame, token);
        self.act(Event::Frame(frame.freeze()));
    }

    fn is_refused(&self) -> bool {
        self.states.last() == Some(&Standing::Closed(CloseCause::AuthFailed))
    }
}

#[test]
fn nothing_else_is_sent_before_both_have_proved_the_password() {
    let mut rig = Rig::new(logging_in());
    rig.handshake();
    rig.answer_handshake(7, TIMEOUT);
    assert_eq!(rig.sent_token(), "");
    let challenge = digest_md5::challenge("N");
    rig.give_token(ErrorCode::OK, Some(&challenge));
    let proved = digest_md5::verify("N", &rig.sent_token(), |_| Some("pw")).unwrap();
    assert_eq!(rig.states, [Standing::Connecting]);
    rig.give_token(ErrorCode::OK, Some(&proved.token));
    assert_eq!(rig.states.last(), Some(&Standing::Connected(SessionId(7))));
    assert_eq!(rig.sent_ops(), [OpCode::Auth]);
}

#[test]
fn a_login_that_fails_ends_the_client() {
    // The password is refused, there is no login at the server, or it does not know the password.
    for (error, token) in [
        (ErrorCode::AUTH_FAILED, None),
        (ErrorCode::SESSION_CLOSED_REQUIRE_SASL_AUTH, None),
        (ErrorCode::OK, None),
        (ErrorCode::OK, Some(&b"rspauth=00000000000000000000000000000000"[..])),
    ] {
        let mut rig = Rig::new(logging_in());
        rig.handshake();
        rig.answer_handshake(7, TIMEOUT);
        rig.give_token(ErrorCode::OK, Some(&digest_md5::challenge("N")));
        rig.give_token(error, token);
        assert!(rig.is_refused(), "{error:?} {token:?}: {:?}", rig.states);
    }
    let mut rig = Rig::new(logging_in());
    rig.handshake();
    rig.answer_handshake(7, TIMEOUT);
    rig.give_token(ErrorCode::OK, None);
    assert!(rig.is_refused(), "a server without logins");
}

#[test]
fn a_connection_that_is_cut_or_silent_in_the_middle_is_tried_again() {
    for cut in [true, false] {
        let mut rig = Rig::new(logging_in());
        rig.handshake();
        rig.answer_handshake(7, TIMEOUT);
        rig.give_token(ErrorCode::OK, Some(&digest_md5::challenge("N")));
        match cut {
            true => rig.act(Event::Broken),
            false => rig.pass(5_000),
        }
        rig.handshake();
        assert!(rig.dials >= 2 && rig.states == [Standing::Connecting]);
    }
}

#[test]
fn a_client_that_is_closed_in_the_middle_ends_its_session() {
    let mut rig = Rig::new(Settings { auth: Vec::new(), ..logging_in() });
    rig.handshake();
    rig.answer_handshake(7, TIMEOUT);
    rig.sent_token();
    rig.act(Event::Close { ticket: None });
    rig.give_token(ErrorCode::OK, Some(&digest_md5::challenge("N")));
    let proved = digest_md5::verify("N", &rig.sent_token(), |_| Some("pw")).unwrap();
    rig.give_token(ErrorCode::OK, Some(&proved.token));
    assert_eq!(rig.sent_ops(), [OpCode::CloseSession]);
}
