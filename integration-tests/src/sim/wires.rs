//! How things move between the servers of a world: when, in what order, and what gets lost.

use std::collections::BTreeSet;

use bytes::Bytes;
use docent::Zxid;
use docent_server::limits::PEER_QUEUE_BYTES_MAX;
use docent_server::node::Event;
use docent_server::zab::{LinkId, Message, Notification, PeerId};

use super::checks::Violation;
use super::incidents::is_injected;
use super::members::Roll;
use super::network::{Life, pair};
use super::plan::Fault;
use super::servers::Input;
use super::world::{Done, Happening, Phase, Time, World};

/// Messages that may wait on a link before it counts as full: small, so that the rule about room is met.
const ROOM_MESSAGES: usize = 4;

/// How often a blocked direction is tried again.
const RETRY_US: Time = 15_000;

impl World {
    pub(super) fn in_chaos(&self, fault: Fault) -> bool {
        self.phase == Phase::Chaos && self.plan.has(fault)
    }

    /// Whether a condition strikes now, with a chance of one in so many.
    fn strikes(&mut self, fault: Fault, one_in: u32) -> bool {
        if !self.in_chaos(fault) {
            return false;
        }
        let struck = self.luck.get_mut(&fault).is_some_and(|luck| luck.u32(..one_in) == 0);
        if struck {
            *self.stats.faults.entry(fault).or_default() += 1;
        }
        struck
    }

    /// How long something is under way between two servers.
    fn distance(&mut self, from: PeerId, to: PeerId) -> Time {
        let quick = self.pace.i64(30..400);
        if !self.in_chaos(Fault::Delay) {
            return quick;
        }
        // Each direction has its own length, and now and then something takes ten times as long.
        let length = 1 + ((from.0 * 7 + to.0 * 13 + self.plan.seed) % 40) as i64;
        let slow = if self.strikes(Fault::Delay, 30) { 10 } else { 1 };
        quick * length * slow
    }

    // ---- election channels ----

    /// A notification leaves: it takes the place of one that still waits.
    pub(super) fn notify(&mut self, life: Life, to: PeerId, notification: Notification) {
        let from = life.peer;
        let channel = self.net.channels.entry((from, to)).or_default();
        channel.last = Some(notification.clone());
        channel.waiting = Some(notification);
        self.move_notice(from, to);
    }

    fn move_notice(&mut self, from: PeerId, to: PeerId) {
        if !self.net.standing.contains(&pair(from, to)) {
            return;
        }
        let distance = self.distance(from, to);
        let channel = self.net.channels.entry((from, to)).or_default();
        if channel.moving || channel.waiting.is_none() {
            return;
        }
        channel.moving = true;
        self.at(distance, Happening::Notice { from, to });
    }

    /// A notification arrives, or does not.
    pub(super) fn notice(&mut self, from: PeerId, to: PeerId) {
        if self.net.is_blocked(from, to) {
            self.at(RETRY_US, Happening::Notice { from, to });
            return;
        }
        let lost = self.strikes(Fault::Loss, 4);
        let stands = self.net.standing.contains(&pair(from, to));
        let channel = self.net.channels.entry((from, to)).or_default();
        channel.moving = false;
        if !stands {
            return;
        }
        let notification = channel.waiting.take();
        if let (Some(notification), Some(life), false) = (notification, self.alive(to), lost) {
            self.give(life, Event::Notified { from, notification });
        }
        self.move_notice(from, to);
    }

    /// Two servers try to have an election connection.
    pub(super) fn meet(&mut self, a: PeerId, b: PeerId) {
        let name = pair(a, b);
        if self.net.standing.contains(&name) {
            return;
        }
        let (Some(first), Some(second)) = (self.alive(a), self.alive(b)) else { return };
        if !self.calls(a, b) && !self.calls(b, a) {
            return;
        }
        if !self.net.is_open(a, b) {
            let delay = self.pace.i64(20_000..200_000);
            self.at(delay, Happening::Meet(a, b));
            return;
        }
        self.net.standing.insert(name);
        for (life, peer) in [(first, b), (second, a)] {
            self.give(life, Event::ElectionLink { peer, up: true });
        }
        // What was said last is said again.
        for (from, to) in [(a, b), (b, a)] {
            let channel = self.net.channels.entry((from, to)).or_default();
            if channel.waiting.is_none() {
                channel.waiting = channel.last.clone();
            }
            self.move_notice(from, to);
        }
    }

    /// An election connection breaks; it is tried again.
    pub(super) fn part(&mut self, a: PeerId, b: PeerId) {
        if !self.net.standing.remove(&pair(a, b)) {
            return;
        }
        for (me, peer) in [(a, b), (b, a)] {
            if let Some(life) = self.alive(me) {
                self.give(life, Event::ElectionLink { peer, up: false });
            }
        }
        let delay = self.pace.i64(5_000..150_000);
        self.at(delay, Happening::Meet(a, b));
    }

    // ---- quorum links ----

    pub(super) fn dial(&mut self, life: Life, peer: PeerId, hearsay: Option<&Bytes>) {
        let named = hearsay.and_then(Roll::parse).is_some_and(|roll| roll.members.contains_key(&peer));
        let delay = self.distance(life.peer, peer) + self.distance(peer, life.peer);
        self.at(delay, Happening::Called { caller: life, peer, named });
    }

    /// The call is answered, if somebody is there.
    pub(super) fn called(&mut self, caller: Life, peer: PeerId, named: bool) {
        if self.living(caller).is_none() {
            return;
        }
        let open = self.net.is_open(caller.peer, peer) && (named || self.calls(caller.peer, peer));
        let answered = self.alive(peer).filter(|_| open);
        let link = answered.map(|called| self.net.open(caller, called).1);
        self.give(caller, Event::Dialed { peer, link });
    }

    /// A message is put into its lane.
    pub(super) fn put_on_wire(&mut self, life: Life, link: LinkId, message: Message) {
        let Some((number, side)) = self.net.find(link) else { return };
        let Some(wire) = self.net.wires.get_mut(&number) else { return };
        if wire.ends[side].life != life || wire.ends[side].hung_up {
            return;
        }
        wire.lanes[side].queue.push_back(message);
        let full = wire.lanes[side].queue.len() * 64 > PEER_QUEUE_BYTES_MAX;
        if full {
            self.break_wire(number);
            return;
        }
        self.move_wire(number, side);
    }

    fn move_wire(&mut self, number: u64, side: usize) {
        let Some(wire) = self.net.wires.get(&number) else { return };
        if wire.lanes[side].moving || wire.lanes[side].queue.is_empty() {
            return;
        }
        let (from, to) = (wire.ends[side].life.peer, wire.ends[1 - side].life.peer);
        let distance = self.distance(from, to);
        if let Some(wire) = self.net.wires.get_mut(&number) {
            wire.lanes[side].moving = true;
        }
        self.at(distance, Happening::Wire { wire: number, side });
    }

    /// A lane delivers some of what waits in it.
    pub(super) fn wire_step(&mut self, number: u64, side: usize) -> Done {
        let burst = self.pace.usize(1..=12);
        let Some(wire) = self.net.wires.get_mut(&number) else { return Ok(()) };
        let (from, to) = (wire.ends[side].life.peer, wire.ends[1 - side].life);
        if self.net.blocked.contains(&(from, to.peer)) {
            self.at(RETRY_US, Happening::Wire { wire: number, side });
            return Ok(());
        }
        wire.lanes[side].moving = false;
        let count = burst.min(wire.lanes[side].queue.len());
        let messages: Vec<Message> = wire.lanes[side].queue.drain(..count).collect();
        for message in messages {
            self.arrive(number, side, to, message)?;
        }
        self.move_wire(number, side);
        self.maybe_room(number, side);
        let drained = self
            .net
            .wires
            .get(&number)
            .is_some_and(|wire| wire.ends[side].hung_up && wire.lanes[side].queue.is_empty());
        if drained {
            self.break_wire(number);
        }
        Ok(())
    }

    /// One message arrives. The pieces of a snapshot are gathered below the node.
    fn arrive(&mut self, number: u64, side: usize, to: Life, message: Message) -> Done {
        let Some(wire) = self.net.wires.get_mut(&number) else { return Ok(()) };
        let link = wire.ends[1 - side].link;
        wire.ends[1 - side].known = true;
        let lane = &mut wire.lanes[side];
        match message {
            Message::SnapPiece(piece) => {
                if let Some((_, pieces)) = &mut lane.pieces {
                    pieces.push(piece);
                }
            }
            Message::SnapEnd => {
                if let Some((zxid, pieces)) = lane.pieces.take() {
                    self.stats.in_pieces += u64::from(pieces.len() > 1);
                    self.trace.line(self.now, || {
                        format!("s{} has the snapshot {zxid} in {} pieces", to.peer.0, pieces.len())
                    });
                    self.receive(to, link, zxid, &pieces)?;
                }
            }
            message => {
                if let Message::Snap(zxid) = &message {
                    lane.pieces = Some((*zxid, Vec::new()));
                }
                self.checks.delivered(to.peer, link, &message);
                self.give(to, Event::Peer { link, message });
            }
        }
        Ok(())
    }

    /// A snapshot is here as a whole. It is taken in before anything behind it in its lane is heard.
    fn receive(&mut self, to: Life, link: LinkId, zxid: Zxid, pieces: &[Bytes]) -> Done {
        let Some(server) = self.living(to) else { return Ok(()) };
        match server.disk.receive(zxid, pieces) {
            Ok(received) => self.give_input(to, Input::Snapshot { link, zxid, received }),
            Err(error) if !is_injected(&error) => {
                let text = format!("server {}, snapshot {zxid}: {error}", to.peer.0);
                return Err(Violation::new("a state that is sent can be read", text));
            }
            Err(error) => {
                self.trace.line(self.now, || format!("s{} cannot take the snapshot: {error}", to.peer.0));
                if let Some((number, _)) = self.net.find(link) {
                    self.break_wire(number);
                }
            }
        }
        Ok(())
    }

    pub(super) fn ask_room(&mut self, life: Life, link: LinkId) {
        let Some((number, side)) = self.net.find(link) else { return };
        if let Some(wire) = self.net.wires.get_mut(&number)
            && wire.ends[side].life == life
        {
            wire.ends[side].wants_room = true;
            self.maybe_room(number, side);
        }
    }

    fn maybe_room(&mut self, number: u64, side: usize) {
        let Some(wire) = self.net.wires.get_mut(&number) else { return };
        if wire.ends[side].wants_room && wire.lanes[side].queue.len() < ROOM_MESSAGES {
            wire.ends[side].wants_room = false;
            let (life, link) = (wire.ends[side].life, wire.ends[side].link);
            self.give(life, Event::PeerHasRoom(link));
        }
    }

    /// What is queued is still sent, then the link ends.
    pub(super) fn hang_up(&mut self, life: Life, link: LinkId) {
        let Some((number, side)) = self.net.find(link) else { return };
        let Some(wire) = self.net.wires.get_mut(&number).filter(|wire| wire.ends[side].life == life) else {
            return;
        };
        wire.ends[side].hung_up = true;
        if wire.lanes[side].queue.is_empty() {
            self.break_wire(number);
        }
    }

    /// A link breaks. Its ends hear of it in their own time, now and then late.
    pub(super) fn break_wire(&mut self, number: u64) {
        let ends = self.net.cut(number);
        for (life, link) in ends {
            let late = self.phase == Phase::Chaos && self.pace.u8(..12) == 0;
            let delay = self.pace.i64(10..if late { 3_000_000 } else { 20_000 });
            self.trace.line(self.now, || format!("link {} of s{} breaks", link.0, life.peer.0));
            self.at(delay, Happening::WireLost { life, link });
        }
    }

    pub(super) fn wire_lost(&mut self, life: Life, link: LinkId) {
        self.give(life, Event::PeerLost(link));
    }

    /// A process has ended: the others hear of it.
    pub(super) fn server_is_gone(&mut self, peer: PeerId) {
        for number in self.net.wires_at(&BTreeSet::from([peer])) {
            self.break_wire(number);
        }
        let others: Vec<PeerId> = self.servers.keys().copied().filter(|other| *other != peer).collect();
        for other in others {
            self.part(peer, other);
        }
        self.net.forget_channels(peer);
    }
}
