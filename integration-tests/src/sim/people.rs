//! How clients and their connections move in a world.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use bytes::{Buf, Bytes};
use docent::proto::frame::next_frame;
use docent::proto::{Decode, Reader, ReplyHeader};
use docent::{SessionId, Xid};
use docent_server::node::{Body, ConnId, Event};
use docent_server::zab::PeerId;

use super::checks::Violation;
use super::clients::Up;
use super::network::Life;
use super::trace::short;
use super::world::{Done, Happening, Phase, World};

/// One connection of a client.
#[derive(Debug)]
pub(super) struct Pipe {
    client: u32,
    life: Life,
    up: VecDeque<Up>,
    up_moving: bool,
    down: VecDeque<Bytes>,
    down_moving: bool,
    /// The server has answered the first frame.
    greeted: bool,
    /// The server closes it when everything is sent.
    closing: bool,
}

impl World {
    /// A client looks around: goes on, goes elsewhere, or sleeps.
    pub(super) fn client_step(&mut self, number: u32) -> Done {
        let now = self.now;
        let think = self.pace.i64(1..=2 * self.plan.think_ms) * 1_000;
        self.at(think, Happening::Client(number));
        let Some(client) = self.clients.get_mut(&number) else { return Ok(()) };
        if client.asleep_until_us > now {
            return Ok(());
        }
        if client.is_impatient(now) || client.closing && client.pending.is_empty() && client.open {
            if let Some(conn) = client.conn {
                self.leave(number, conn);
            }
            return Ok(());
        }
        match client.conn {
            None => self.call_server(number),
            Some(conn) => {
                let ups = client.want(now, &mut self.checks);
                self.say(number, conn, ups);
            }
        }
        Ok(())
    }

    fn call_server(&mut self, number: u32) {
        let peers: Vec<PeerId> = self.servers.keys().copied().collect();
        let peer = peers[self.pace.usize(..peers.len())];
        let Some(life) = self.alive(peer) else { return };
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        let pipe = Pipe {
            client: number,
            life,
            up: VecDeque::new(),
            up_moving: false,
            down: VecDeque::new(),
            down_moving: false,
            greeted: false,
            closing: false,
        };
        self.pipes.insert(conn, pipe);
        let now = self.now;
        let Some(client) = self.clients.get_mut(&number) else { return };
        let greeting = client.greet(conn, now);
        self.say(number, conn, vec![greeting]);
    }

    fn say(&mut self, number: u32, conn: ConnId, ups: Vec<Up>) {
        if ups.is_empty() {
            return;
        }
        let delay = self.pace.i64(20..600);
        for up in &ups {
            self.trace.line(self.now, || format!("c{number} → {}", short(up)));
        }
        let Some(pipe) = self.pipes.get_mut(&conn) else { return };
        pipe.up.extend(ups);
        if !pipe.up_moving {
            pipe.up_moving = true;
            self.at(delay, Happening::Upward(conn));
        }
    }

    /// What a client has sent reaches its server.
    pub(super) fn upward(&mut self, conn: ConnId) {
        let Some(pipe) = self.pipes.get_mut(&conn) else { return };
        pipe.up_moving = false;
        let (life, client) = (pipe.life, pipe.client);
        for up in std::mem::take(&mut pipe.up) {
            let event = match up {
                Up::Connect(request) => Event::Connect {
                    conn,
                    address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, client as u8)),
                    port: 4_000,
                    subject: None,
                    request,
                },
                Up::Request(header, request) => Event::Client { conn, header, body: Body::Request(request) },
            };
            self.give(life, event);
        }
    }

    /// A server answers: the bytes begin their way, and are looked at as they leave.
    pub(super) fn reply(&mut self, life: Life, conn: ConnId, bytes: Bytes) -> Done {
        let delay = self.pace.i64(20..600);
        let Some(pipe) = self.pipes.get_mut(&conn).filter(|pipe| pipe.life == life) else { return Ok(()) };
        let mut rest = bytes::BytesMut::from(&bytes[..]);
        while let Ok(Some(frame)) = next_frame(&mut rest, usize::MAX >> 1) {
            if !std::mem::replace(&mut pipe.greeted, true) {
                continue;
            }
            let header = ReplyHeader::decode(&mut Reader::new(frame))
                .map_err(|error| Violation::new("answers can be decoded", error.to_string()))?;
            if header.xid != Xid::EVENT {
                self.checks.shown(life.peer, header)?;
            }
        }
        if rest.has_remaining() {
            return Err(Violation::new("answers are whole frames", format!("{} bytes are left", rest.len())));
        }
        pipe.down.push_back(bytes);
        if !pipe.down_moving {
            pipe.down_moving = true;
            self.at(delay, Happening::Downward(conn));
        }
        Ok(())
    }

    /// What a server has sent reaches the client.
    pub(super) fn downward(&mut self, conn: ConnId) -> Done {
        let now = self.now;
        let Some(pipe) = self.pipes.get_mut(&conn) else { return Ok(()) };
        pipe.down_moving = false;
        let (number, closing) = (pipe.client, pipe.closing);
        let frames = std::mem::take(&mut pipe.down);
        let Some(client) = self.clients.get_mut(&number) else { return Ok(()) };
        if client.asleep_until_us > now {
            // It hears it when it wakes, if the connection is still there.
            let wait = client.asleep_until_us - now;
            if let Some(pipe) = self.pipes.get_mut(&conn) {
                pipe.down = frames;
                pipe.down_moving = true;
            }
            self.at(wait, Happening::Downward(conn));
            return Ok(());
        }
        for bytes in frames {
            let Some(client) = self.clients.get_mut(&number) else { break };
            if client.conn != Some(conn) {
                break;
            }
            self.stats.answers += 1;
            self.trace.mix(super::checks::hash(&bytes));
            let ups = client.hear(now, &bytes, &mut self.checks)?;
            self.say(number, conn, ups);
        }
        if closing {
            self.client_lost(number, conn);
        }
        Ok(())
    }

    /// The server closes a connection: what is queued still goes out.
    pub(super) fn close_conn(&mut self, conn: ConnId) {
        let delay = self.pace.i64(20..2_000);
        let Some(pipe) = self.pipes.get_mut(&conn) else { return };
        pipe.closing = true;
        let life = pipe.life;
        if !pipe.down_moving {
            pipe.down_moving = true;
            self.at(delay, Happening::Downward(conn));
        }
        self.at(delay, Happening::ConnLost { life, conn });
    }

    /// A client leaves its connection.
    pub(super) fn leave(&mut self, number: u32, conn: ConnId) {
        if let Some(pipe) = self.pipes.remove(&conn) {
            let late = self.phase == Phase::Chaos && self.pace.u8(..8) == 0;
            let delay = self.pace.i64(20..if late { 2_000_000 } else { 5_000 });
            self.at(delay, Happening::ConnLost { life: pipe.life, conn });
        }
        self.client_lost(number, conn);
    }

    pub(super) fn client_lost(&mut self, number: u32, conn: ConnId) {
        self.pipes.remove(&conn);
        if let Some(client) = self.clients.get_mut(&number).filter(|client| client.conn == Some(conn)) {
            self.trace.line(self.now, || format!("c{number} loses its connection"));
            client.lose(&mut self.checks);
        }
    }

    pub(super) fn conn_lost(&mut self, life: Life, conn: ConnId) {
        self.give(life, Event::ClientLost(conn));
    }

    /// A server's process has ended: its clients' connections break.
    pub(super) fn connections_are_gone(&mut self, peer: PeerId) {
        let gone: Vec<(ConnId, u32)> = self
            .pipes
            .iter()
            .filter(|(_, pipe)| pipe.life.peer == peer)
            .map(|(conn, pipe)| (*conn, pipe.client))
            .collect();
        for (conn, client) in gone {
            self.pipes.remove(&conn);
            let delay = self.pace.i64(20..5_000);
            self.at(delay, Happening::ClientLost { client, conn });
        }
    }

    /// A client's connection breaks; both sides hear of it in their own time.
    pub(super) fn cut_client(&mut self, number: u32) {
        let Some(conn) = self.clients.get(&number).and_then(|client| client.conn) else { return };
        if let Some(pipe) = self.pipes.remove(&conn) {
            let (here, there) = (self.pace.i64(20..50_000), self.pace.i64(20..500_000));
            self.at(here, Happening::ClientLost { client: number, conn });
            self.at(there, Happening::ConnLost { life: pipe.life, conn });
        }
    }

    /// A client falls silent. Its server closes the connection when its session's time is over.
    pub(super) fn nap(&mut self, number: u32, length_us: i64) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(&number) else { return };
        if client.session == SessionId::NONE {
            return;
        }
        client.asleep_until_us = now + length_us;
        let timeout_us = i64::from(client.timeout_ms) * 1_000;
        if let (Some(conn), true) = (client.conn, length_us > timeout_us)
            && let Some(pipe) = self.pipes.get(&conn)
        {
            let life = pipe.life;
            self.at(timeout_us, Happening::ConnLost { life, conn });
            self.at(length_us, Happening::ClientLost { client: number, conn });
        }
    }
}
