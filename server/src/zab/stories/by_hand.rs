//! One learner, whose leader, links and disk are played by the test: for what a whole net would never say or do.

use std::collections::BTreeSet;

use bytes::Bytes;
use docent::Zxid;

use super::net::zxid;
use crate::limits::{LEADER_SILENCE_MS, Sizes};
use crate::zab::{
    Capability, Epochs, LinkId, LogShape, Members, Message, Notification, Output, PeerId, Quorum, Replica,
    ReplicaConfig, Standing, Vote,
};

/// Whom the learner follows.
const LEADER: PeerId = PeerId(3);

/// Server 1 of three.
pub(super) struct Learner {
    pub(super) replica: Replica,
    now_ms: i64,
    links: u64,
    round: i64,
    pub(super) link: LinkId,
    /// It has asked for the whole state when it introduced itself last.
    pub(super) wants_state: bool,
    /// Orders that were given to the disk and are not reported.
    pub(super) orders: Vec<u64>,
}

impl Learner {
    /// It has a log and epochs, and has introduced itself to server 3.
    pub(super) fn greeting(log: &[(u32, u32)], epochs: (u32, u32)) -> Learner {
        let mut shape = LogShape::new(Zxid::ZERO);
        log.iter().for_each(|(epoch, counter)| shape.push(zxid(*epoch, *counter)));
        let config = ReplicaConfig {
            me: PeerId(1),
            tick_ms: 2_000,
            init_limit_ms: 20_000,
            sync_limit_ms: 10_000,
            silence_ms: i64::from(LEADER_SILENCE_MS),
            seed: 1,
            sizes: Sizes::default(),
            reading: None,
        };
        let members = Members {
            quorum: Quorum::majority((1..=3).map(PeerId)),
            observers: BTreeSet::new(),
            text: Bytes::new(),
            version: 0,
        };
        let epochs = Epochs { accepted: epochs.0, current: epochs.1 };
        let mut learner = Learner {
            replica: Replica::new(config, members, None, epochs, shape),
            now_ms: 1_000,
            links: 0,
            round: 100,
            link: LinkId(0),
            wants_state: false,
            orders: Vec::new(),
        };
        learner.act(|replica, now, out| replica.on_tick(now, out));
        for peer in [2, 3] {
            learner.act(|replica, now, out| replica.on_election_link(now, PeerId(peer), true, out));
        }
        learner.greet();
        learner
    }

    /// Does something, and answers what it asks for.
    pub(super) fn act(&mut self, act: impl FnOnce(&mut Replica, i64, &mut Vec<Output>)) -> Vec<Output> {
        self.now_ms += 1;
        let mut out = Vec::new();
        act(&mut self.replica, self.now_ms, &mut out);
        for output in &out {
            if let Output::Append { order, .. }
            | Output::SaveEpochs { order, .. }
            | Output::Truncate { order, .. } = output
            {
                self.orders.push(*order);
            }
        }
        out
    }

    /// Finds the leader (again) and introduces itself.
    pub(super) fn greet(&mut self) {
        self.round += 1;
        let told = |standing| Notification {
            standing,
            vote: Some(Vote { epoch: 90, zxid: zxid(90, 1), leader: LEADER }),
            round: self.round,
            format: 2,
            config: Bytes::new(),
            capability: None,
            under_way: Bytes::new(),
        };
        let said = [(PeerId(2), told(Standing::Following)), (LEADER, told(Standing::Leading))];
        let mut dialed = false;
        // The first word on a channel is not decided upon at once.
        for _ in 0..3 {
            for (peer, notification) in &said {
                let out =
                    self.act(|replica, now, out| replica.on_notification(now, *peer, notification, out));
                dialed |= out.contains(&Output::Dial { peer: LEADER, hearsay: None });
            }
        }
        assert!(dialed, "it calls the leader");
        self.links += 1;
        self.link = LinkId(self.links);
        let link = self.link;
        let out = self.act(|replica, now, out| replica.on_dialed(now, LEADER, Some(link), out));
        let [Output::Send { message: Message::FollowerInfo { capability, .. }, .. }] = &out[..] else {
            panic!("{out:?}")
        };
        self.wants_state = capability.is_some_and(|capability| capability.whole);
    }

    /// The leader says something.
    pub(super) fn hear(&mut self, message: Message) -> Vec<Output> {
        let link = self.link;
        self.act(|replica, now, out| replica.on_message(now, link, message, out))
    }

    pub(super) fn propose(&mut self, epoch: u32, counter: u32) -> Vec<Output> {
        self.hear(Message::Proposal { zxid: zxid(epoch, counter), payload: Bytes::from_static(b"x") })
    }

    /// The leader names its epoch.
    pub(super) fn leader_info(&mut self, epoch: u32) -> Vec<Output> {
        self.hear(Message::LeaderInfo { epoch, capability: Some(Capability::OURS) })
    }

    /// The disk has done everything up to this order.
    pub(super) fn synced(&mut self, order: u64) -> Vec<Output> {
        self.orders.retain(|given| *given > order);
        self.act(|replica, now, out| replica.on_synced(now, order, out))
    }

    /// The disk has done everything.
    pub(super) fn all_synced(&mut self) -> Vec<Output> {
        match self.orders.last().copied() {
            Some(order) => self.synced(order),
            None => Vec::new(),
        }
    }

    /// The link breaks.
    pub(super) fn lose_link(&mut self) -> Vec<Output> {
        let link = self.link;
        self.act(|replica, now, out| replica.on_link_lost(now, link, out))
    }
}

/// What of it is said on quorum links.
pub(super) fn said(out: &[Output]) -> Vec<&Message> {
    out.iter()
        .filter_map(|output| match output {
            Output::Send { message, .. } => Some(message),
            _ => None,
        })
        .collect()
}

/// Whether the link is given up.
pub(super) fn hangs_up(out: &[Output]) -> bool {
    out.iter().any(|output| matches!(output, Output::Hangup(_)))
}
