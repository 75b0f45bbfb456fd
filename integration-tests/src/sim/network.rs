//! What lies between the servers: election channels and quorum links, and what happens to them.
//!
//! An *election channel* keeps only the newest notification for each direction; what is on its way may get lost, and
//! after every reconnection the last one is sent again. A *quorum link* keeps everything in order, or breaks as a whole:
//! what was under way in either direction is then gone, and the two ends hear of it each in its own time. A blocked
//! direction holds things up; it does not lose them, since below is a protocol that repeats.
//!
//! This file only keeps books. When things move is decided by the world, which owns time and chance.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use docent::Zxid;
use docent_server::zab::{LinkId, Message, Notification, PeerId};

/// One life of one server: what was meant for an earlier one reaches nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Life {
    pub(super) peer: PeerId,
    pub(super) number: u32,
}

/// One end of a quorum link.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) life: Life,
    pub(super) link: LinkId,
    /// Whether the node has heard of the link.
    pub(super) known: bool,
    /// Whether it asked to close it.
    pub(super) hung_up: bool,
    /// Whether it waits to hear that there is room.
    pub(super) wants_room: bool,
}

/// One direction of a quorum link.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) queue: VecDeque<Message>,
    pub(super) moving: bool,
    /// The pieces of a snapshot that is being received.
    pub(super) pieces: Option<(Zxid, Vec<Bytes>)>,
}

/// A quorum link: `ends[0]` called, `lanes[side]` is what `ends[side]` sends.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) ends: [End; 2],
    pub(super) lanes: [Lane; 2],
    pub(super) alive: bool,
}

/// One direction of an election channel.
#[derive(Debug, Default)]
pub(super) struct Channel {
    pub(super) waiting: Option<Notification>,
    pub(super) last: Option<Notification>,
    pub(super) moving: bool,
}

/// All that lies between the servers.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) wires: BTreeMap<u64, Wire>,
    by_link: BTreeMap<LinkId, (u64, usize)>,
    pub(super) channels: BTreeMap<(PeerId, PeerId), Channel>,
    /// Election connections that stand, by the smaller and the larger number.
    pub(super) standing: BTreeSet<(PeerId, PeerId)>,
    /// Directions in which nothing moves.
    pub(super) blocked: BTreeSet<(PeerId, PeerId)>,
    next_link: u64,
    next_wire: u64,
}

/// The name of an election connection.
pub(super) fn pair(a: PeerId, b: PeerId) -> (PeerId, PeerId) {
    (a.min(b), a.max(b))
}

impl Network {
    pub(super) fn is_blocked(&self, from: PeerId, to: PeerId) -> bool {
        self.blocked.contains(&(from, to))
    }

    /// Neither direction is blocked.
    pub(super) fn is_open(&self, a: PeerId, b: PeerId) -> bool {
        !self.is_blocked(a, b) && !self.is_blocked(b, a)
    }

    /// A new link between two lives.
    pub(super) fn open(&mut self, caller: Life, called: Life) -> (u64, LinkId) {
        let mut end = |life, known| {
            self.next_link += 1;
            End { life, link: LinkId(self.next_link), known, hung_up: false, wants_room: false }
        };
        let ends = [end(caller, true), end(called, false)];
        self.next_wire += 1;
        let number = self.next_wire;
        for (side, end) in ends.iter().enumerate() {
            self.by_link.insert(end.link, (number, side));
        }
        let link = ends[0].link;
        let lanes = [Lane::default(), Lane::default()];
        self.wires.insert(number, Wire { ends, lanes, alive: true });
        (number, link)
    }

    /// The wire and the side of a link, while it is alive.
    pub(super) fn find(&self, link: LinkId) -> Option<(u64, usize)> {
        let (number, side) = *self.by_link.get(&link)?;
        self.wires.get(&number).filter(|wire| wire.alive).map(|_| (number, side))
    }

    /// The wires that end at one of these servers.
    pub(super) fn wires_at(&self, peers: &BTreeSet<PeerId>) -> Vec<u64> {
        let at = |wire: &Wire| wire.ends.iter().any(|end| peers.contains(&end.life.peer));
        self.wires.iter().filter(|(_, wire)| wire.alive && at(wire)).map(|(number, _)| *number).collect()
    }

    /// Breaks a link: everything under way is gone. Answers the ends that have to hear of it.
    pub(super) fn cut(&mut self, number: u64) -> Vec<(Life, LinkId)> {
        let Some(wire) = self.wires.get_mut(&number).filter(|wire| wire.alive) else { return Vec::new() };
        wire.alive = false;
        let ends = wire.ends.clone();
        self.wires.remove(&number);
        for end in &ends {
            self.by_link.remove(&end.link);
        }
        ends.into_iter().filter(|end| end.known).map(|end| (end.life, end.link)).collect()
    }

    /// Forgets what a process had in memory for its channels.
    pub(super) fn forget_channels(&mut self, peer: PeerId) {
        for ((from, to), channel) in &mut self.channels {
            if *from == peer {
                *channel = Channel { moving: channel.moving, ..Channel::default() };
            } else if *to == peer {
                channel.waiting = None;
            }
        }
    }
}
