//! The faults that happen at moments: each strikes somebody, and the next one of its kind is put on the calendar.

use std::collections::BTreeSet;

use docent_server::zab::PeerId;

use super::crash_points::CrashPoint;
use super::operator::draw;
use super::plan::Fault;
use super::world::{Happening, Phase, Time, World};

/// How often it is looked whether a server's folder may be lost, before it comes back with it.
const WIPE_TRIES: u32 = 100;

/// Whether a disk's failure was our doing.
pub(super) fn is_injected(error: &str) -> bool {
    ["the machine has stopped", "sync failed", "no storage space"].iter().any(|text| error.contains(text))
}

impl World {
    fn draw(&mut self, fault: Fault, range: std::ops::Range<i64>) -> i64 {
        self.luck.get_mut(&fault).map_or(range.start, |luck| luck.i64(range))
    }

    fn pick(&mut self, fault: Fault) -> PeerId {
        let peers: Vec<PeerId> = self.servers.keys().copied().collect();
        peers[self.draw(fault, 0..peers.len() as i64) as usize]
    }

    fn pick_client(&mut self, fault: Fault) -> u32 {
        self.draw(fault, 1..i64::from(self.plan.clients) + 1) as u32
    }

    /// Puts the next one of a kind on the calendar.
    pub(super) fn next_incident(&mut self, fault: Fault) {
        let Some(mean_ms) = self.plan.faults.get(&fault).copied() else { return };
        let delay = self.draw(fault, mean_ms * 200..mean_ms * 1_800);
        self.at(delay, Happening::Incident(fault));
    }

    /// A fault happens.
    pub(super) fn incident(&mut self, fault: Fault) {
        if self.phase != Phase::Chaos {
            return;
        }
        self.next_incident(fault);
        *self.stats.faults.entry(fault).or_default() += 1;
        self.trace.line(self.now, || format!("---- {fault} ----"));
        match fault {
            Fault::Loss | Fault::Delay | Fault::SlowDisk | Fault::Skew => {}
            Fault::Cut => self.cut_links(),
            Fault::OneWay => self.one_way(),
            Fault::Partition => self.partition(),
            Fault::Isolate => self.isolate_leader(),
            Fault::Mute => self.mute_leader(),
            Fault::Kill | Fault::Power => self.strike_down(fault),
            Fault::DiskStop => self.stop_disk(),
            Fault::SyncError => {
                let (peer, syncs) = (self.pick(fault), self.draw(fault, 0..4));
                if let Some(server) = self.servers.get_mut(&peer) {
                    server.disk.fail_sync_after(syncs as u64);
                }
            }
            Fault::WallJump => {
                let (peer, jump) = (self.pick(fault), self.draw(fault, -100_000_000..100_000_000));
                if let Some(server) = self.servers.get_mut(&peer) {
                    server.clock.ahead_ms += jump;
                }
            }
            Fault::Pause => {
                let (peer, length) = (self.pick(fault), self.draw(fault, 10_000..2_500_000));
                let now = self.now;
                if let Some(server) = self.servers.get_mut(&peer) {
                    server.frozen_until = now + length;
                }
            }
            Fault::QuorumLoss => self.lose_quorum(),
            Fault::Rolling => self.restart_all(),
            Fault::ClientCut => {
                let client = self.pick_client(fault);
                self.cut_client(client);
            }
            Fault::ClientNap => {
                let (client, length) = (self.pick_client(fault), self.draw(fault, 100_000..9_000_000));
                self.nap(client, length);
            }
            Fault::Wipe => {
                let peer = self.pick(fault);
                if let Some(server) = self.servers.get_mut(&peer) {
                    server.wipe_tries = WIPE_TRIES;
                }
                self.crash(peer, false);
            }
            Fault::DiskFull => {
                let (peer, room) = (self.pick(fault), self.draw(fault, 0..6_000));
                if let Some(server) = self.servers.get_mut(&peer) {
                    server.disk.leave_room(room as usize);
                }
            }
            Fault::Reconfig => self.wish_for_change(),
            Fault::Point => {
                let any = self.draw(fault, 0..CrashPoint::ALL.len() as i64) as usize;
                self.armed = Some(self.plan.point.unwrap_or(CrashPoint::ALL[any]));
            }
        }
    }

    /// Somebody wants other members, and now and then two at once do.
    fn wish_for_change(&mut self) {
        let leader = self.checks.leaders.last_key_value().map(|(_, leader)| *leader);
        let servers: Vec<PeerId> = self.servers.keys().copied().collect();
        let Some(luck) = self.luck.get_mut(&Fault::Reconfig) else { return };
        let count = if luck.u8(..3) == 0 { 2 } else { 1 };
        for _ in 0..count {
            let wish = draw(luck, &self.checks.rolls, &servers, leader);
            self.trace.line(self.now, || format!("{wish:?}"));
            if let Some(operator) = self.clients.values_mut().find_map(|client| client.operator.as_mut()) {
                operator.wish(wish);
            }
        }
    }

    /// Dies behind so many effects from now on, which is at any moment of a step.
    fn strike_down(&mut self, fault: Fault) {
        let leader = self.checks.leaders.last_key_value().map(|(_, leader)| *leader);
        let peer = match leader {
            // Leaders have more to lose.
            Some(leader) if self.draw(fault, 0..2) == 0 => leader,
            _ => self.pick(fault),
        };
        let effects = self.draw(fault, 0..40) as u32;
        let power = fault == Fault::Power;
        let Some(life) = self.alive(peer) else { return };
        if effects == 0 {
            self.crash(peer, power);
            return;
        }
        if let Some(server) = self.servers.get_mut(&peer) {
            server.effects_left = Some((effects, power));
        }
        self.at(1_000_000, Happening::Crash { life, power });
    }

    fn stop_disk(&mut self) {
        let fault = Fault::DiskStop;
        let (peer, operations) = (self.pick(fault), self.draw(fault, 0..30));
        let Some(life) = self.alive(peer) else { return };
        if let Some(server) = self.servers.get_mut(&peer) {
            server.disk.stop_after(operations as u64);
        }
        self.at(1_500_000, Happening::Crash { life, power: true });
    }

    fn two(&mut self, fault: Fault) -> Option<(PeerId, PeerId)> {
        let peers: Vec<PeerId> = self.servers.keys().copied().collect();
        if peers.len() < 2 {
            return None;
        }
        let first = self.draw(fault, 0..peers.len() as i64) as usize;
        let step = self.draw(fault, 1..peers.len() as i64) as usize;
        Some((peers[first], peers[(first + step) % peers.len()]))
    }

    /// One connection breaks, or all of one server's.
    fn cut_links(&mut self) {
        let Some((a, b)) = self.two(Fault::Cut) else { return };
        let all = self.draw(Fault::Cut, 0..3) == 0;
        let at_a = self.net.wires_at(&BTreeSet::from([a]));
        let at_b = self.net.wires_at(&BTreeSet::from([b]));
        for number in at_a {
            if all || at_b.contains(&number) {
                self.break_wire(number);
            }
        }
        self.part(a, b);
    }

    fn block(&mut self, from: PeerId, to: PeerId, length: Time) {
        self.net.blocked.insert((from, to));
        self.at(length, Happening::Unblock(from, to));
    }

    fn one_way(&mut self) {
        let length = self.draw(Fault::OneWay, 10_000..3_000_000);
        if let Some((from, to)) = self.two(Fault::OneWay) {
            self.block(from, to, length);
        }
    }

    fn partition(&mut self) {
        let fault = Fault::Partition;
        let length = self.draw(fault, 50_000..4_000_000);
        let hard = self.draw(fault, 0..2) == 0;
        let peers: Vec<PeerId> = self.servers.keys().copied().collect();
        let near: BTreeSet<PeerId> = peers.iter().copied().filter(|_| self.draw(fault, 0..2) == 0).collect();
        self.separate(&near, length, hard);
    }

    fn isolate_leader(&mut self) {
        let length = self.draw(Fault::Isolate, 50_000..4_000_000);
        let hard = self.draw(Fault::Isolate, 0..2) == 0;
        if let Some((_, leader)) = self.checks.leaders.last_key_value() {
            let near = BTreeSet::from([*leader]);
            self.separate(&near, length, hard);
        }
    }

    fn mute_leader(&mut self) {
        let length = self.draw(Fault::Mute, 200_000..1_500_000);
        let Some((_, leader)) = self.checks.leaders.last_key_value() else { return };
        let leader = *leader;
        let others: Vec<PeerId> = self.servers.keys().copied().filter(|peer| *peer != leader).collect();
        others.into_iter().for_each(|other| self.block(leader, other, length));
    }

    /// Between these and the others nothing moves; with `hard` the connections break, too.
    fn separate(&mut self, near: &BTreeSet<PeerId>, length: Time, hard: bool) {
        let far: Vec<PeerId> = self.servers.keys().copied().filter(|peer| !near.contains(peer)).collect();
        for a in near {
            for b in &far {
                self.block(*a, *b, length);
                self.block(*b, *a, length);
                if hard {
                    self.part(*a, *b);
                }
            }
        }
        if !hard {
            return;
        }
        let crossing: Vec<u64> = self
            .net
            .wires
            .iter()
            .filter(|(_, wire)| {
                near.contains(&wire.ends[0].life.peer) != near.contains(&wire.ends[1].life.peer)
            })
            .map(|(number, _)| *number)
            .collect();
        for number in crossing {
            self.break_wire(number);
        }
    }

    fn lose_quorum(&mut self) {
        let voters: Vec<PeerId> = self.checks.rolls.last().voters().collect();
        let gone = voters.len() / 2 + 1;
        let from = self.draw(Fault::QuorumLoss, 0..voters.len() as i64) as usize;
        let power = self.draw(Fault::QuorumLoss, 0..2) == 0;
        for step in 0..gone {
            self.crash(voters[(from + step) % voters.len()], power);
        }
    }

    fn restart_all(&mut self) {
        let gap = self.draw(Fault::Rolling, 50_000..1_500_000);
        let peers: Vec<PeerId> = self.servers.keys().copied().collect();
        for (at, peer) in peers.into_iter().enumerate() {
            if let Some(life) = self.alive(peer) {
                self.at(gap * at as i64, Happening::Crash { life, power: false });
            }
        }
    }
}
