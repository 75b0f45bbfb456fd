//! From one connection to the next: attempts, the handshake, and what is lost with a connection or a session.

use super::*;

impl Machine {
    /// Makes the next attempt.
    pub(super) fn dial(&mut self, now: Moment, fx: &mut Effects) {
        let host = self.hosts.advance();
        self.phase = Phase::Dialing { deadline: now + self.connect_timeout };
        fx.push(Effect::Dial(host));
    }

    /// Asks for the session of now, or for a new one.
    pub(super) fn on_dialed(&mut self, now: Moment, fx: &mut Effects) {
        let Phase::Dialing { deadline } = self.phase else { return };
        let probe = self.doubts.wants_probe(self.hosts.current());
        let session = self.session.as_ref().filter(|session| session.known_to_quorum && !probe);
        let asked = session.map_or(SessionId::NONE, |session| session.id);
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: if probe { Zxid::ZERO } else { self.last_zxid },
            // The configured timeout, not the one that some server made of it. Checked to fit by the builder.
            timeout_ms: i32::try_from(self.session_timeout.as_millis()).unwrap_or(i32::MAX),
            session: asked,
            password: Some(session.map_or([0; PASSWORD_LENGTH], |session| session.password).to_vec()),
            read_only: Some(self.read_only),
        };
        put_frame(&mut fx.out, |out| request.encode(out));
        self.phase = Phase::Shaking { deadline, sent: now, asked, probe };
    }

    /// The server's answer to the handshake.
    pub(super) fn on_handshake(
        &mut self,
        now: Moment,
        frame: Bytes,
        sent: Moment,
        asked: SessionId,
        fx: &mut Effects,
    ) {
        let Ok(response) = ConnectResponse::decode(&mut Reader::new(frame)) else {
            self.connection_lost(now, fx);
            return;
        };
        self.doubts.clear();
        if response.timeout_ms <= 0 || response.session == SessionId::NONE {
            if asked != SessionId::NONE {
                self.session_ended(LossCause::Expired, fx);
            }
            if !self.ended() {
                self.connection_lost(now, fx);
            }
            return;
        }
        if self.session.as_ref().is_some_and(|session| session.id != response.session) {
            self.session_ended(LossCause::DifferentSession, fx);
            if self.ended() {
                return;
            }
        }
        self.prove(now, response, sent, fx);
    }

    /// A server that hangs up on the client has answered one that has seen nothing. The session that it gave is ended
    /// again.
    pub(super) fn on_probed(&mut self, now: Moment, frame: Bytes, fx: &mut Effects) {
        let response = ConnectResponse::decode(&mut Reader::new(frame));
        if !response.is_ok_and(|response| response.timeout_ms > 0 && response.session != SessionId::NONE) {
            self.connection_lost(now, fx);
            return;
        }
        self.doubts.took_probe(self.hosts.current());
        put_request(Xid(1), OpCode::CloseSession, &[], &mut fx.out);
        self.phase = Phase::Parting { deadline: now + self.connect_timeout };
    }

    /// The connection carries the session from now on.
    pub(super) fn begin(&mut self, now: Moment, response: &ConnectResponse, sent: Moment, fx: &mut Effects) {
        let read_only = response.read_only == Some(true);
        let timeout = Duration::from_millis(u64::try_from(response.timeout_ms).unwrap_or(1).max(1));
        let same_session = self.session.is_some();
        let known_before = self.session.as_ref().is_some_and(|session| session.known_to_quorum);
        self.session = Some(Session {
            id: response.session,
            password: response.password,
            timeout,
            known_to_quorum: known_before || !read_only,
        });
        if read_only {
            self.heartbeats.read_only();
            self.set_standing(Standing::ReadOnly(response.session), fx);
        } else {
            self.heartbeats.session_confirmed(sent, timeout);
            self.set_standing(Standing::Connected(response.session), fx);
        }
        self.phase = Phase::Live(Live {
            since: now,
            last_heard: now,
            last_answered: now,
            last_sent: now,
            ping_sent: None,
            identities_sent: std::collections::VecDeque::new(),
            look_around: read_only.then(|| LookAround { due: Some(now + LOOK_FIRST), pause: LOOK_FIRST }),
        });
        for index in 0..self.identities.len() {
            self.send_identity(now, index, fx);
        }
        for (op, body) in self.watches.set_again(self.last_zxid) {
            let request = Queued { op, body, purpose: Purpose::SetWatches };
            self.line.send_now(request, now, &mut fx.out);
        }
        let item = if same_session { WatchItem::Reconnected } else { WatchItem::NewSession };
        for watch in self.watches.streams() {
            fx.push(Effect::Tell { watch, item: item.clone() });
        }
        self.expire(now, fx);
        self.line.send_waiting(now, &mut fx.out);
        if self.closing.is_some() {
            self.send_close(now, fx);
        }
    }

    /// The driver has lost the connection, or the attempt has failed.
    pub(super) fn on_broken(&mut self, now: Moment, fx: &mut Effects) {
        if !matches!(self.phase, Phase::Pausing { .. } | Phase::Ended) {
            self.connection_lost(now, fx);
        }
    }

    /// The connection is of no more use. The next attempt is made at once if this one had lasted, else after a
    /// pause.
    pub(super) fn connection_lost(&mut self, now: Moment, fx: &mut Effects) {
        fx.out.clear();
        fx.push(Effect::Hangup);
        let live = match &self.phase {
            Phase::Live(live) => Some(live.since),
            _ => None,
        };
        let lasted = live.is_some_and(|since| now.since(since) >= self.retry.cap);
        if matches!(self.phase, Phase::Shaking { probe: false, .. }) && self.last_zxid > Zxid::ZERO {
            self.doubts.hung_up(self.hosts.current(), now);
            if self.doubts.proved(self.hosts.len(), now, self.session_timeout) {
                self.went_back(fx);
                return;
            }
        }
        self.attempts = if lasted { 0 } else { self.attempts.saturating_add(1) };
        self.phase = Phase::Pausing { until: now + self.pause() };
        if live.is_some() {
            self.heartbeats.connection_lost();
            let dropped = self.line.connection_lost(now);
            self.settle_dropped(dropped, fx);
            if let Some(session) = &self.session {
                let session = session.id;
                self.set_standing(Standing::Suspended { session, since: now }, fx);
            }
        }
        if self.closing.is_some() && self.session.is_none() {
            self.end(CloseCause::Closed, true, fx);
        } else if lasted {
            self.dial(now, fx);
        }
    }

    /// Every server is behind what the client has seen. Only the application can judge what that means.
    fn went_back(&mut self, fx: &mut Effects) {
        if let Some(session) = &self.session {
            let lost = Standing::Lost { session: session.id, cause: LossCause::EnsembleWentBack };
            self.set_standing(lost, fx);
        }
        self.end(CloseCause::EnsembleWentBack, false, fx);
    }

    /// Drawn evenly below a ceiling that doubles with every round over all hosts.
    fn pause(&mut self) -> Duration {
        let hosts = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        let ceiling = self.retry.ceiling(self.attempts / hosts);
        ceiling.mul_f64(self.random.f64())
    }

    /// The session is gone, by a server's word.
    pub(super) fn session_ended(&mut self, cause: LossCause, fx: &mut Effects) {
        let Some(session) = self.session.take() else { return };
        self.heartbeats.session_ended();
        self.set_standing(Standing::Lost { session: session.id, cause }, fx);
        let dropped = self.line.session_ended(session.id);
        self.settle_dropped(dropped, fx);
        for watch in self.watches.session_ended() {
            fx.push(Effect::EndWatch { watch, end: WatchEnd::SessionEnded(session.id) });
        }
        if self.closing.is_some() {
            self.end(CloseCause::Closed, true, fx);
        } else if !self.renew {
            self.end(CloseCause::SessionEnded, false, fx);
        }
    }
}
