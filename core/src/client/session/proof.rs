//! Logging in with SASL: behind the handshake, before everything else.
//!
//! Identities, watches and what callers wait for are sent only when both sides have proved the password. A server that
//! refuses it, that has no logins, or that does not know the password itself ends the client: it is another server than
//! the one that was meant, or the credentials are wrong, and trying again would change neither.

use super::*;
use crate::digest_md5::{self, Answer as Proof, Refused};

/// A user and a password.
#[derive(Clone)]
pub(in super::super) struct Login {
    pub(in super::super) user: String,
    pub(in super::super) password: String,
}

/// Without the password.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The exchange under way.
#[derive(Debug)]
pub(super) struct Proving {
    pub(super) deadline: Moment,
    /// When the handshake was sent, and what came back.
    sent: Moment,
    response: ConnectResponse,
    /// What the client has answered; `None` until it is challenged.
    proof: Option<Proof>,
}

impl Machine {
    /// The handshake has given a session: log in, if there is somebody to log in as.
    pub(super) fn prove(&mut self, now: Moment, response: ConnectResponse, sent: Moment, fx: &mut Effects) {
        if self.login.is_none() {
            self.begin(now, &response, sent, fx);
            return;
        }
        put_token(b"", fx);
        let deadline = now + self.connect_timeout;
        self.phase = Phase::Proving(Proving { deadline, sent, response, proof: None });
    }

    /// A frame has come while the exchange is under way.
    pub(super) fn on_proving(&mut self, now: Moment, frame: Bytes, fx: &mut Effects) {
        let mut input = Reader::new(frame);
        let Ok(header) = ReplyHeader::decode(&mut input) else {
            self.connection_lost(now, fx);
            return;
        };
        let token = match header.error {
            ErrorCode::OK => input.buffer().ok().flatten(),
            _ => None,
        };
        match token.ok_or(Refused).and_then(|token| self.next_token(&token)) {
            Ok(Some(answer)) => put_token(&answer, fx),
            Ok(None) => {
                let Phase::Proving(proving) = &self.phase else { return };
                let (response, sent) = (proving.response.clone(), proving.sent);
                self.begin(now, &response, sent, fx);
            }
            Err(Refused) => {
                tracing::warn!(error = %header.error, "the login with SASL has failed");
                self.end(CloseCause::AuthFailed, false, fx);
            }
        }
    }

    /// What a token of the server's is answered with; `None` when nothing is left to prove.
    fn next_token(&mut self, token: &[u8]) -> Result<Option<Vec<u8>>, Refused> {
        let (Phase::Proving(proving), Some(login)) = (&mut self.phase, &self.login) else {
            return Err(Refused);
        };
        if let Some(proof) = &proving.proof {
            proof.confirm(token)?;
            return Ok(None);
        }
        let cnonce = format!("{:016x}{:016x}", self.random.u64(..), self.random.u64(..));
        let proof = digest_md5::answer(token, &login.user, &login.password, &cnonce)?;
        let answer = proof.token.clone();
        proving.proof = Some(proof);
        Ok(Some(answer))
    }
}

/// Nothing else is under way, so any number will do for the request.
fn put_token(token: &[u8], fx: &mut Effects) {
    let request = Request::Sasl { token: Some(Bytes::copy_from_slice(token)) };
    put_request(Xid(1), OpCode::Sasl, &request.to_bytes(), &mut fx.out);
}
