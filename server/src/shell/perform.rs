//! Carrying effects out: one arm each.

use std::collections::VecDeque;

use docent::Zxid;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::peers::Peers;
use crate::net::Links;
use crate::node::{Effect, Effects};
use crate::storage::{Order, Record, SnapshotDigest};

/// The disk does not take orders any more: the server must stop.
#[derive(Debug)]
pub(super) struct DiskGone;

/// Where effects go.
pub(super) struct Outside {
    pub(super) links: Links,
    orders: mpsc::Sender<Order>,
    /// Orders that the writer's queue had no room for.
    backlog: VecDeque<Order>,
    snapshot: Zxid,
    purge_retain: Option<usize>,
    /// The other servers; `None` for a server that is alone.
    pub(super) peers: Option<Peers>,
    /// The cut whose report is still to come; until then the disk's words on a snapshot count nothing.
    cut: Option<u64>,
}

impl Outside {
    pub(super) fn new(
        orders: mpsc::Sender<Order>,
        purge_retain: Option<usize>,
        peers: Option<Peers>,
    ) -> Self {
        Outside {
            peers,
            cut: None,
            links: Links::default(),
            orders,
            backlog: VecDeque::new(),
            snapshot: Zxid::ZERO,
            purge_retain,
        }
    }

    /// The order to cut the log that the disk has not reported yet.
    pub(super) fn cut(&self) -> Option<u64> {
        self.cut
    }

    /// The disk has carried out all orders up to this one.
    pub(super) fn synced(&mut self, order: u64) {
        if self.cut.is_some_and(|cut| cut <= order) {
            self.cut = None;
        }
        if let Some(peers) = &mut self.peers {
            peers.durable.synced(order);
        }
    }

    /// Orders that wait for room.
    pub(super) fn backlog(&self) -> usize {
        self.backlog.len()
    }

    fn order(&mut self, order: Order) -> Result<(), DiskGone> {
        if self.backlog.is_empty() {
            match self.orders.try_send(order) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(order)) => self.backlog.push_back(order),
                Err(TrySendError::Closed(_)) => return Err(DiskGone),
            }
        } else {
            self.backlog.push_back(order);
        }
        Ok(())
    }

    /// Waits until the writer takes the oldest waiting order. Cancel-safe: an order is taken out when it is sent.
    pub(super) async fn drain_one(&mut self) -> Result<(), DiskGone> {
        let permit = self.orders.reserve().await.map_err(|_| DiskGone)?;
        if let Some(order) = self.backlog.pop_front() {
            permit.send(order);
        }
        Ok(())
    }

    /// The server's folders lose what is older than the snapshots to keep.
    pub(super) fn purge(&mut self) -> Result<(), DiskGone> {
        match self.purge_retain {
            Some(retain) => self.order(Order::Purge { retain }),
            None => Ok(()),
        }
    }

    /// Tells the writer to end.
    pub(super) fn stop(&mut self) -> Result<(), DiskGone> {
        self.order(Order::Stop)
    }

    fn append(&mut self, order: u64, record: Record) -> Result<(), DiskGone> {
        if let Some(peers) = &mut self.peers {
            peers.durable.append(order, record.zxid);
        }
        self.order(Order::Append { order, record })
    }

    fn truncate(&mut self, order: u64, after: Zxid) -> Result<(), DiskGone> {
        if let Some(peers) = &mut self.peers {
            peers.durable.truncate(order, after);
        }
        self.cut = Some(order);
        self.order(Order::Truncate { order, after })
    }

    /// Carries out what concerns other servers. A server that is alone never asks for it.
    fn perform_for_peers(&mut self, effect: Effect) {
        let Some(peers) = &mut self.peers else { return };
        match effect {
            Effect::Notify { to, notification } => peers.elections.notify(to, &notification),
            Effect::Dial { peer, hearsay } => peers.dial(peer, hearsay.as_ref()),
            Effect::Send { link, message } => peers.links.send(link, &message),
            Effect::AskRoom(link) => peers.links.ask_room(link),
            Effect::Hangup(link) => peers.links.hang_up(link),
            Effect::ReadLog { link, after, max_bytes } => peers.read_log(link, after, max_bytes),
            other => unreachable!("{other:?} does not concern other servers"),
        }
    }

    /// Carries out all effects in order, then sends everything that was written to connections.
    pub(super) fn perform(&mut self, fx: &mut Effects) -> Result<(), DiskGone> {
        let bytes = std::mem::take(&mut fx.bytes);
        for effect in fx.list.drain(..) {
            match effect {
                Effect::Append { order, zxid, payload } => self.append(order, Record { zxid, payload })?,
                Effect::SaveEpochs { order, accepted, current } => {
                    self.order(Order::SaveEpochs { order, accepted, current })?;
                }
                // Whether the state is read anew behind it is the loop's affair.
                Effect::Truncate { order, after, reload: _ } => self.truncate(order, after)?,
                effect @ (Effect::ReadLog { .. }
                | Effect::Notify { .. }
                | Effect::Dial { .. }
                | Effect::Send { .. }
                | Effect::AskRoom(_)
                | Effect::Hangup(_)) => self.perform_for_peers(effect),
                Effect::Members { committed, under_way } => {
                    let peers = self.peers.as_mut();
                    if let Some(errand) = peers.and_then(|peers| peers.reach(&committed, under_way.as_ref()))
                    {
                        self.order(Order::Errand(errand))?;
                    }
                }
                Effect::RollLog => self.order(Order::Roll)?,
                Effect::SnapshotBegin(zxid) => {
                    self.snapshot = zxid;
                    self.order(Order::SnapshotBegin { zxid })?;
                }
                Effect::SnapshotPiece(piece) => self.order(Order::SnapshotPiece(piece))?,
                Effect::SnapshotEnd { digest } => {
                    let digest = digest.map(|digest| SnapshotDigest::new(self.snapshot, digest));
                    self.order(Order::SnapshotEnd { digest, last_processed: None })?;
                }
                Effect::Reply { conn, range, answers } => self.links.add(conn, &bytes[range], answers),
                Effect::Accept { conn, .. } => {
                    if let Some(link) = self.links.get(conn) {
                        link.accept();
                    }
                }
                Effect::Close(conn) => {
                    if let Some(link) = self.links.remove(conn) {
                        link.flush();
                        link.close();
                    }
                }
                Effect::AdminReply { conn, text } => {
                    if let Some(link) = self.links.remove(conn) {
                        link.add(text.as_bytes(), 0);
                        link.flush();
                        link.close();
                    }
                }
            }
        }
        self.links.flush();
        if let Some(peers) = &mut self.peers {
            peers.links.flush();
        }
        fx.bytes = bytes;
        fx.clear();
        Ok(())
    }
}
