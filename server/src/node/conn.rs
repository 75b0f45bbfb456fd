//! What a node knows of one connection.

use std::net::IpAddr;

use bytes::Bytes;
use docent::proto::OpCode;
use docent::{SessionId, Xid, Zxid};

use super::access::Identity;
use super::login::SaslPhase;
use super::read::Local;
use crate::session::Lane;

/// The answer that a proposed write owes its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owed {
    pub(super) xid: Xid,
    pub(super) op: OpCode,
    pub(super) since_ms: i64,
}

/// A write that is under way.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) owed: Owed,
    /// Its record, where it may have to be sent again: on a server that does not lead.
    pub(super) body: Option<Bytes>,
}

/// Where a connection comes from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// The subject of its certificate, where it has proved one.
    pub(super) subject: Option<String>,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its session is being created, or asked about at the leader; the answer may carry the read-only byte or not.
    Opening { read_only: Option<bool> },
    /// It speaks for this session.
    Open(SessionId),
    /// Its session's end is proposed by itself: what it still sends is dropped.
    Closing(SessionId),
}

/// Numbers that the listings show.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnStats {
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) established_ms: i64,
    pub(super) last_op: Option<OpCode>,
    pub(super) last_cxid: Option<i32>,
    pub(super) last_zxid: Option<Zxid>,
    pub(super) last_response_ms: i64,
    pub(super) last_latency_ms: i64,
    pub(super) min_latency_ms: i64,
    pub(super) max_latency_ms: i64,
    pub(super) total_latency_ms: i64,
    pub(super) answers: u64,
}

impl ConnStats {
    pub(super) fn answered(&mut self, owed: Owed, zxid: Zxid, now_ms: i64, wall_ms: i64) -> i64 {
        let latency = (now_ms - owed.since_ms).max(0);
        self.sent += 1;
        self.last_op = Some(owed.op);
        self.last_cxid = Some(owed.xid.0);
        self.last_zxid = Some(zxid);
        self.last_response_ms = wall_ms;
        self.last_latency_ms = latency;
        self.min_latency_ms = if self.answers == 0 { latency } else { self.min_latency_ms.min(latency) };
        self.max_latency_ms = self.max_latency_ms.max(latency);
        self.total_latency_ms += latency;
        self.answers += 1;
        latency
    }

    /// As `crst` does.
    pub(super) fn reset(&mut self) {
        *self = ConnStats { established_ms: self.established_ms, ..ConnStats::default() };
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) phase: Phase,
    pub(super) identities: Vec<Identity>,
    pub(super) sasl: SaslPhase,
    pub(super) lane: Lane<Sent, Local>,
    pub(super) stats: ConnStats,
}

impl Conn {
    /// The session that it speaks for.
    pub(super) fn session(&self) -> Option<SessionId> {
        match self.phase {
            Phase::Open(session) | Phase::Closing(session) => Some(session),
            Phase::Opening { .. } => None,
        }
    }
}
