//! While a server answers: its frames, and keeping the session alive.

use super::*;

impl Machine {
    /// A frame has come.
    pub(super) fn on_frame(&mut self, now: Moment, frame: Bytes, fx: &mut Effects) {
        match &mut self.phase {
            Phase::Shaking { probe: true, .. } => self.on_probed(now, frame, fx),
            Phase::Shaking { sent, asked, .. } => {
                let (sent, asked) = (*sent, *asked);
                self.on_handshake(now, frame, sent, asked, fx);
            }
            Phase::Parting { .. } => self.connection_lost(now, fx),
            Phase::Proving(_) => self.on_proving(now, frame, fx),
            Phase::Live(live) => {
                live.last_heard = now;
                self.on_reply(now, frame, fx);
            }
            _ => {}
        }
    }

    fn on_reply(&mut self, now: Moment, frame: Bytes, fx: &mut Effects) {
        let mut input = Reader::new(frame);
        let Ok(header) = ReplyHeader::decode(&mut input) else {
            self.connection_lost(now, fx);
            return;
        };
        if let (Phase::Live(live), true) = (&mut self.phase, header.xid != Xid::EVENT) {
            live.last_answered = now;
        }
        let understood = match header.xid {
            Xid::EVENT => self.on_event(header.zxid, &mut input, fx),
            Xid::PING => {
                self.on_pong(now);
                true
            }
            Xid::AUTH => self.on_identity(header.error, fx),
            _ => self.on_answer(now, header, input.into_rest(), fx),
        };
        if !understood {
            self.connection_lost(now, fx);
        }
    }

    fn on_event(&mut self, zxid: Zxid, input: &mut Reader, fx: &mut Effects) -> bool {
        let Ok(event) = WatcherEvent::decode(input) else { return false };
        // Kinds that a later protocol may add mean nothing to us.
        let Some(kind) = event.event() else { return true };
        let event = WatchedEvent { kind, path: event.path, zxid: (zxid.0 > 0).then_some(zxid) };
        for watch in self.watches.fire(&event) {
            fx.push(Effect::Tell { watch, item: WatchItem::Event(event.clone()) });
        }
        true
    }

    fn on_pong(&mut self, now: Moment) {
        let Phase::Live(live) = &mut self.phase else { return };
        if let Some(sent) = live.ping_sent.take()
            && !live.is_read_only()
        {
            self.heartbeats.answered(sent, now, false);
        }
    }

    fn on_identity(&mut self, error: ErrorCode, fx: &mut Effects) -> bool {
        let Phase::Live(live) = &mut self.phase else { return false };
        let Some(index) = live.identities_sent.pop_front() else { return false };
        if error != ErrorCode::OK {
            self.end(CloseCause::AuthFailed, false, fx);
            return true;
        }
        for (ticket, _) in self.identities[index].waiting.drain(..) {
            fx.push(closed(ticket));
        }
        true
    }

    /// The answer to a request of the line. Returns false when it cannot be one, or when it says that this
    /// connection does not speak for the session any more: the next handshake tells what became of it.
    fn on_answer(&mut self, now: Moment, header: ReplyHeader, body: Bytes, fx: &mut Effects) -> bool {
        let Some(Sent { request, at, .. }) = self.line.answered(header.xid) else { return false };
        if header.zxid > self.last_zxid {
            self.last_zxid = header.zxid;
        }
        self.confirm(now, at, &request, header.error);
        match request.purpose {
            Purpose::Caller { ticket, watch, .. } => {
                if let Some(watch) = watch {
                    let removal = self.watches.answered(watch, header.error);
                    self.send_removal(now, removal, fx);
                }
                if request.op == OpCode::RemoveWatches && header.error == ErrorCode::OK {
                    self.on_removed(request.body, fx);
                }
                let outcome = match &self.session {
                    // The server knows of the end before its handshake tells us. Nothing was done.
                    Some(session) if header.error == ErrorCode::SESSION_EXPIRED => {
                        Err(Failure::SessionEnded(session.id))
                    }
                    _ => Ok(Answer { zxid: header.zxid, error: header.error, body }),
                };
                fx.push(Effect::Settle { ticket, outcome });
                !matches!(header.error, ErrorCode::SESSION_EXPIRED | ErrorCode::SESSION_MOVED)
            }
            // Without its watches the client would wait for events that never come.
            Purpose::SetWatches => header.error == ErrorCode::OK,
            Purpose::Unwatch | Purpose::Heartbeat => true,
            Purpose::Close => {
                self.end(CloseCause::Closed, true, fx);
                true
            }
        }
    }

    /// An answered request is a heartbeat.
    fn confirm(&mut self, now: Moment, sent: Moment, request: &Queued, error: ErrorCode) {
        let denied = matches!(error, ErrorCode::SESSION_EXPIRED | ErrorCode::SESSION_MOVED);
        let read_only = matches!(&self.phase, Phase::Live(live) if live.is_read_only());
        if request.purpose == Purpose::Heartbeat {
            self.heartbeats.sync_answered(sent, now, error == ErrorCode::OK);
        } else if !denied && !read_only {
            let by_leader = error == ErrorCode::OK && (request.op == OpCode::Sync || request.op.is_write());
            self.heartbeats.answered(sent, now, by_leader);
        }
    }

    /// A caller has removed watches: the ones it removed end here too.
    fn on_removed(&mut self, body: Bytes, fx: &mut Effects) {
        let request = Request::decode(OpCode::RemoveWatches, &mut Reader::new(body));
        let Ok(Some(Request::RemoveWatches { path, kind })) = request else { return };
        for watch in self.watches.removed(&path, kind) {
            fx.push(Effect::EndWatch { watch, end: WatchEnd::Removed { path: path.clone() } });
        }
    }

    /// Removes a watch from the server. Without a connection there is nothing to remove: a server forgets the
    /// watches of a connection with it.
    pub(super) fn send_removal(&mut self, now: Moment, removal: Option<(OpCode, Bytes)>, fx: &mut Effects) {
        if let (Some((op, body)), Phase::Live(_)) = (removal, &self.phase) {
            self.send_or_wait(now, Queued { op, body, purpose: Purpose::Unwatch }, fx);
        }
    }

    /// Sends an identity, if there is a connection.
    pub(super) fn send_identity(&mut self, now: Moment, index: usize, fx: &mut Effects) {
        let Phase::Live(live) = &mut self.phase else { return };
        let identity = &self.identities[index];
        let request =
            AuthRequest { kind: 0, scheme: identity.scheme.clone(), auth: Some(identity.auth.clone()) };
        put_request(Xid::AUTH, OpCode::Auth, &Request::Auth(request).to_bytes(), &mut fx.out);
        live.identities_sent.push_back(index);
        live.last_sent = now;
    }

    /// Asks the server to end the session.
    pub(super) fn send_close(&mut self, now: Moment, fx: &mut Effects) {
        let request = Queued { op: OpCode::CloseSession, body: Bytes::new(), purpose: Purpose::Close };
        self.send_or_wait(now, request, fx);
    }

    fn timeout(&self) -> Duration {
        self.session.as_ref().map_or(self.session_timeout, |session| session.timeout)
    }

    /// When the connection counts as dead: two thirds of the timeout after the last frame, or after the last answer
    /// if one is due. The second matters when our bytes are lost and the server's events still come. A long line
    /// that the server works on is not dead: it is the line that must make progress, not each request.
    pub(super) fn silence_ends(&self, live: &Live) -> Moment {
        let oldest = [live.ping_sent, self.line.oldest_sent()].into_iter().flatten().min();
        let answer_due = oldest.map(|sent| sent.max(live.last_answered));
        answer_due.unwrap_or(live.last_heard).min(live.last_heard) + self.timeout() * 2 / 3
    }

    /// When a ping is due: a third of the timeout after the last request.
    pub(super) fn ping_due(&self, live: &Live) -> Option<Moment> {
        live.ping_sent.is_none().then(|| live.last_sent + self.timeout() / 3)
    }

    /// Sends what keeps the session and the lease alive.
    pub(super) fn keep_alive(&mut self, now: Moment, fx: &mut Effects) {
        self.look_around(now, fx);
        let Phase::Live(live) = &self.phase else { return };
        let sync = !live.is_read_only() && self.heartbeats.sync_due().is_some_and(|due| due <= now);
        let ping = self.ping_due(live).is_some_and(|due| due <= now);
        if sync {
            let mut body = BytesMut::new();
            put_string(&mut body, "/");
            let request = Queued { op: OpCode::Sync, body: body.freeze(), purpose: Purpose::Heartbeat };
            self.send_or_wait(now, request, fx);
            self.heartbeats.sync_sent(now);
        } else if ping {
            put_request(Xid::PING, OpCode::Ping, &[], &mut fx.out);
            if let Phase::Live(live) = &mut self.phase {
                live.ping_sent = Some(now);
                live.last_sent = now;
            }
        }
    }

    /// Asks the next server whether it has a quorum, if ours has none and it is time.
    fn look_around(&mut self, now: Moment, fx: &mut Effects) {
        let Phase::Live(Live { look_around: Some(look), .. }) = &mut self.phase else { return };
        if look.due.is_none_or(|due| due > now) {
            return;
        }
        look.due = None;
        // A server that gets its quorum back closes the connections of now, so a single one need not be asked.
        if let Some((server, host)) = self.hosts.other() {
            fx.push(Effect::Ask { server, host });
        }
    }

    /// Another server was asked. If it has a quorum, the client goes there.
    pub(super) fn on_asked(&mut self, now: Moment, server: usize, writable: bool, fx: &mut Effects) {
        let Phase::Live(Live { look_around: Some(look), .. }) = &mut self.phase else { return };
        if writable {
            self.hosts.prefer(server);
            self.connection_lost(now, fx);
        } else {
            look.pause = (look.pause * 2).min(LOOK_MAX);
            look.due = Some(now + look.pause);
        }
    }
}
