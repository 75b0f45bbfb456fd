//! PURE: the server as a value. It is told what happened and answers what should be done.
//!
//! [`Node::step`] is the only door. Behind it four rooms meet: agreement ([`crate::zab`]) orders the writes, the tree
//! ([`crate::tree`]) holds the state, sessions and watches belong to clients. A write goes through in one direction:
//! judged ([`prep`](self)), numbered, ordered from the disk, durable, committed, applied, told to watchers, answered.
//! A read is answered from the tree once the writes before it on the same connection are.
//!
//! Invariants: the tree holds exactly the committed writes; nothing is answered before it is durable; a client hears
//! of a change before it gets an answer that shows it.

pub mod access;
mod admin;
mod conn;
mod effect;
mod event;
pub mod four_letter;
mod handshake;
#[cfg(test)]
mod lessons;
mod local;
mod login;
mod outstanding;
mod peers;
mod prep;
mod read;
mod read_only;
mod reconfig;
mod service;
mod throttle;
pub mod txn;
mod txn_codec;
mod upkeep;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use docent::proto::{OpCode, Request, RequestHeader};
use docent::{ErrorCode, SessionId, Xid, Zxid};

use self::access::DigestAlgorithm;
use self::admin::Digests;
use self::conn::{Conn, Origin, Owed, Phase};
pub use self::effect::{Effect, Effects};
pub use self::event::{Body, ConnId, Event, Now, ShellFacts, State};
pub use self::login::Logins;
use self::outstanding::Outstanding;
use self::peers::Peers;
pub use self::prep::Rules;
use self::read::Local;
use self::service::Service;
use self::throttle::Throttle;
pub use self::throttle::ThrottleOptions;
use self::upkeep::Upkeep;
use self::write::Line;
use crate::limits::{PAYLOADS_CHUNK_BYTES, Sizes};
use crate::metrics::Metrics;
use crate::session::{LocalSessions, SessionTable, first_session_id};
use crate::tree::{Change, Tree};
use crate::watch::{Fired, WatchTable};
use crate::zab::{Epochs, LogShape, Members, Output, PeerId, Replica, ReplicaConfig};

/// What a member of an ensemble has to know.
#[derive(Clone, Debug)]
pub struct EnsembleConfig {
    /// Who belongs to it, by the last configuration that is known to be committed.
    pub members: Members,
    /// The configuration that was under way when this server ended, if one was.
    pub under_way: Option<Members>,
    /// Voters that a client must leave, at least.
    pub voters_min: usize,
    /// `initLimit` in milliseconds: how long finding an epoch and being brought level may take each.
    pub init_limit_ms: i64,
    /// `syncLimit` in milliseconds: how long a peer may be silent.
    pub sync_limit_ms: i64,
    /// `leaderSilenceMs`: how long a leader may be silent where it and its learner are both of this make.
    pub silence_ms: i64,
    /// Whether the leader serves clients (`leaderServes`).
    pub leader_serves: bool,
    /// Milliseconds without a leader after which clients are sent away to find another server.
    pub leaderless_grace_ms: i64,
    /// Milliseconds of looking for a leader after which reads are served without one (`readonlymode.enabled`); `None`
    /// if they never are.
    pub read_only_after_ms: Option<i64>,
}

/// What a node finds on its disk.
#[derive(Debug)]
pub struct Boot {
    /// The state after the last record of the log.
    pub state: State,
    /// The two epochs; zero for a standalone server.
    pub epochs: Epochs,
    /// What is known of the log's records without reading them again.
    pub log: LogShape,
}

/// What a node has to know before it begins.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its number; 0 for a standalone server.
    pub me: PeerId,
    /// The ensemble that it belongs to; `None` for a standalone server.
    pub ensemble: Option<EnsembleConfig>,
    /// What sessions' deadlines are rounded up to, milliseconds.
    pub tick_ms: i64,
    /// The shortest session timeout that is granted, milliseconds.
    pub min_session_timeout_ms: i32,
    /// The longest session timeout that is granted, milliseconds.
    pub max_session_timeout_ms: i32,
    /// What is checked of a write.
    pub rules: Rules,
    /// How clients are served.
    pub serving: Serving,
    /// The digest id of the super user.
    pub super_digest: Option<String>,
    /// Authentication schemes of which every connection needs one (`enforce.auth.schemes`); `None` if it needs none.
    pub enforced_schemes: Option<Vec<String>>,
    /// Who may log in with SASL or a certificate, and as what.
    pub logins: Logins,
    /// Whether transactions carry the tree's digest.
    pub digest: bool,
    /// Transactions between snapshots, at most.
    pub snap_count: u64,
    /// Log bytes between snapshots, at most.
    pub snap_bytes: u64,
    /// Milliseconds between sweeps for empty containers and nodes whose time is over.
    pub sweep_interval_ms: i64,
    /// Nodes that one sweep deletes, at most.
    pub sweep_max: usize,
    /// What chance is made of.
    pub seed: u64,
    /// What decides how learners are brought level and when snapshots are taken.
    pub sizes: Sizes,
}

/// How clients are served, beside what is checked of their writes.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Bytes of the largest answer to a read; larger ones are refused.
    pub reply_bytes_max: usize,
    /// `localSessionsEnabled`: new sessions are known to this server alone.
    pub local_sessions: bool,
    /// `localSessionsUpgradingEnabled`: those that create an ephemeral node become global.
    pub local_upgrading: bool,
    /// How fast handshakes are taken.
    pub throttle: ThrottleOptions,
    /// `DigestAuthenticationProvider.digestAlg`.
    pub digest_algorithm: DigestAlgorithm,
}

impl Default for Serving {
    /// As a configuration that says nothing.
    fn default() -> Self {
        Serving {
            reply_bytes_max: usize::MAX,
            local_sessions: false,
            local_upgrading: false,
            throttle: ThrottleOptions::default(),
            digest_algorithm: DigestAlgorithm::default(),
        }
    }
}

impl NodeConfig {
    /// What of it concerns agreement.
    fn replica(&self) -> ReplicaConfig {
        let ensemble = self.ensemble.as_ref();
        ReplicaConfig {
            me: self.me,
            tick_ms: self.tick_ms,
            init_limit_ms: ensemble.map_or(0, |ensemble| ensemble.init_limit_ms),
            sync_limit_ms: ensemble.map_or(0, |ensemble| ensemble.sync_limit_ms),
            silence_ms: ensemble.map_or(0, |ensemble| ensemble.silence_ms),
            seed: self.seed,
            reading: self.rules.reconfig.then(reconfig::reading),
            sizes: self.sizes,
        }
    }
}

/// A server.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    replica: Replica,
    tree: Tree,
    outstanding: Outstanding,
    in_flight: Line,
    /// Where payloads are encoded. Those that follow each other share one allocation, which the disk's thread frees.
    payloads: BytesMut,
    sessions: SessionTable,
    locals: LocalSessions,
    /// Sessions whose creation this leader has proposed and that are not in the table yet.
    proposed_sessions: BTreeSet<SessionId>,
    throttle: Throttle,
    watches: WatchTable,
    conns: hashbrown::HashMap<ConnId, Conn, foldhash::fast::FixedState>,
    /// Connections whose next request waits for a commit of others, by that commit.
    waiting: BTreeMap<Zxid, Vec<ConnId>>,
    upkeep: Upkeep,
    metrics: Metrics,
    digests: Digests,
    service: Service,
    /// Since when it has looked for a leader, where that matters.
    looking_since_ms: Option<i64>,
    peers: Peers,
    /// What agreement asked for and is not carried out yet.
    outputs: Vec<Output>,
    changes: Vec<Change>,
    fired: Vec<Fired>,
    now: Now,
}

impl Node {
    /// A node that goes on from what its disk holds.
    #[must_use]
    pub fn new(config: NodeConfig, boot: Boot, now: Now) -> Self {
        let Boot { state: State { tree, sessions }, epochs, log } = boot;
        // Apache's standalone server, too, numbers its sessions as server 1.
        let server = if config.me.0 == 0 { 1 } else { config.me.0 as u8 };
        let mut table = SessionTable::new(first_session_id(server, now.wall_ms), config.tick_ms);
        for (session, timeout_ms) in &sessions {
            table.open(*session, *timeout_ms, now.mono_ms);
        }
        let (replica, service) = match &config.ensemble {
            None => (Replica::alone(config.replica(), tree.last_zxid()), Service::Alone),
            Some(ensemble) => {
                let members = ensemble.members.clone();
                let under_way = reconfig::latest(ensemble.under_way.clone(), &tree);
                let service = Service::Down { since_ms: now.mono_ms, sent_away: false };
                (Replica::new(config.replica(), members, under_way, epochs, log), service)
            }
        };
        let mut node = Node {
            outstanding: Outstanding::new(tree.digest()),
            in_flight: Line::default(),
            payloads: BytesMut::with_capacity(PAYLOADS_CHUNK_BYTES),
            watches: WatchTable::new(config.seed),
            conns: hashbrown::HashMap::default(),
            waiting: BTreeMap::new(),
            upkeep: Upkeep::new(&config, now),
            metrics: Metrics::new(now.mono_ms),
            digests: Digests::default(),
            service,
            looking_since_ms: None,
            peers: Peers::default(),
            outputs: Vec::new(),
            changes: Vec::new(),
            fired: Vec::new(),
            sessions: table,
            locals: LocalSessions::new(config.tick_ms),
            proposed_sessions: BTreeSet::new(),
            throttle: Throttle::new(config.serving.throttle, config.seed, now.mono_ms),
            now,
            replica,
            tree,
            config,
        };
        node.show_members();
        node
    }

    /// Something happened. What should be done is appended to `fx`.
    pub fn step(&mut self, now: Now, event: Event, fx: &mut Effects) {
        self.now = now;
        match event {
            Event::Client { conn, header, body } => self.on_request(conn, header, body, fx),
            Event::Synced { order } => {
                self.replica.on_synced(now.mono_ms, order, &mut self.outputs);
                self.carry_out(fx);
            }
            Event::Connect { conn, address, port, subject, request } => {
                self.on_connect(conn, Origin { address, port, subject }, &request, fx)
            }
            Event::ClientLost(conn) => self.forget(conn),
            Event::Tick => self.on_tick(fx),
            Event::SnapshotProgress { pieces } => self.on_snapshot_progress(pieces, fx),
            Event::SnapshotEnded { complete } => self.on_snapshot_ended(complete, fx),
            Event::Admin { conn, word, shell } => self.on_admin(conn, word, &shell, fx),
            Event::ExpireSession(session) => self.expire(session, fx),
            other => self.on_peers(other, fx),
        }
        self.mind_looking(fx);
    }

    /// When [`Event::Tick`] is needed next, on the clock of [`Now::mono_ms`].
    #[must_use]
    pub fn next_deadline(&self) -> i64 {
        let sessions = self.sessions.next_deadline().filter(|_| self.service.leads());
        let (service, read_only) = (self.service_deadline(), self.read_only_deadline());
        let locals = self.locals.next_deadline();
        let due = [sessions, locals, service, read_only, self.replica.next_deadline()].into_iter().flatten();
        due.fold(self.upkeep.next_deadline(), i64::min)
    }

    /// Its part in the agreement, for those who check or show it.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Whether all requests are answered: it leads with a quorum, or is level with a leader, or is alone.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        !matches!(self.service, Service::Down { .. } | Service::ReadOnly)
    }

    /// Whether reads are answered, at least.
    #[must_use]
    pub fn is_serving_reads(&self) -> bool {
        !matches!(self.service, Service::Down { .. })
    }

    /// The tree, for those who check or show it.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The sessions, for those who check or show them.
    #[must_use]
    pub fn sessions(&self) -> &SessionTable {
        &self.sessions
    }

    /// The sessions that this server alone knows, for those who check or show them.
    #[must_use]
    pub fn local_sessions(&self) -> &LocalSessions {
        &self.locals
    }

    /// The watches, for those who check or show them.
    #[must_use]
    pub fn watches(&self) -> &WatchTable {
        &self.watches
    }

    /// The disk took so long for one sync, milliseconds.
    pub(crate) fn count_sync(&mut self, took_ms: i64) {
        self.metrics.fsync_time.record(took_ms);
    }

    fn on_request(&mut self, id: ConnId, header: RequestHeader, body: Body, fx: &mut Effects) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Phase::Open(session) = conn.phase else { return };
        conn.stats.received += 1;
        self.metrics.packets_received += 1;
        self.heard(session);
        if !self.is_known_well_enough(id, &body) {
            self.answer_out_of_line(id, header.xid, ErrorCode::SESSION_CLOSED_REQUIRE_SASL_AUTH, fx, |_| {});
            self.close(id, fx);
            return;
        }
        let since_ms = self.now.mono_ms;
        let owed = |op| Owed { xid: header.xid, op, since_ms };
        let body = if self.service == Service::ReadOnly {
            let op = OpCode::from_code(header.op).unwrap_or(OpCode::Error);
            let Some(body) = self.on_guest(id, owed(op), body, fx) else { return };
            body
        } else {
            body
        };
        let op = OpCode::from_code(header.op).unwrap_or(OpCode::Error);
        let Some(body) = self.on_local_session(id, session, owed(op), body, fx) else { return };
        match body {
            Body::Request(Request::Auth(auth)) => self.on_auth(id, header.xid, &auth, fx),
            Body::Request(Request::Sasl { token }) => self.on_sasl(id, header.xid, token, fx),
            Body::Request(request) if request.op().is_write() || request.op() == OpCode::CloseSession => {
                let op = request.op();
                self.on_write(id, session, owed(op), request, fx);
            }
            Body::Malformed { write: true } if self.service.leads() => {
                let op = OpCode::from_code(header.op).unwrap_or(OpCode::Error);
                self.propose_malformed(id, session, owed(op), fx);
            }
            Body::Request(Request::Sync { path }) => self.on_sync(id, session, owed(OpCode::Sync), path, fx),
            Body::Request(request) => {
                let owed = owed(request.op());
                self.on_local(id, Local::Request { owed, request }, fx);
            }
            Body::Malformed { .. } => {
                let owed = owed(OpCode::from_code(header.op).unwrap_or(OpCode::Error));
                self.on_local(id, Local::Refuse { owed, code: ErrorCode::MARSHALLING_ERROR }, fx);
            }
            Body::Unknown => {
                let owed = owed(OpCode::Error);
                self.on_local(id, Local::Refuse { owed, code: ErrorCode::UNIMPLEMENTED }, fx);
            }
        }
    }

    /// A request that is answered here: now, or when the writes before it are applied.
    fn on_local(&mut self, id: ConnId, local: Local, fx: &mut Effects) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let idle = conn.lane.is_empty();
        conn.lane.push_local(local);
        if idle {
            self.drain_lane(id, fx);
        }
    }

    /// A connection is gone: its watches go with it, its session stays.
    fn forget(&mut self, id: ConnId) {
        let conn = self.conns.remove(&id);
        self.forget_waiting(id, conn.as_ref().map(|conn| conn.phase));
        let Some(conn) = conn else { return };
        self.watches.drop_conn(id);
        let Some(session) = conn.session() else { return };
        let speaks = match self.sessions.get_mut(session) {
            Some(session) => &mut session.conn,
            None => match self.locals.get_mut(session) {
                Some(session) => &mut session.conn,
                None => return,
            },
        };
        if *speaks == Some(id) {
            *speaks = None;
        }
    }

    fn close(&mut self, id: ConnId, fx: &mut Effects) {
        self.forget(id);
        fx.push(Effect::Close(id));
    }

    /// Whether the connection has proved an identity of a scheme that is asked for, or is about to.
    fn is_known_well_enough(&self, id: ConnId, body: &Body) -> bool {
        let Some(schemes) = &self.config.enforced_schemes else { return true };
        let proves = matches!(body, Body::Request(Request::Auth(_) | Request::Sasl { .. }));
        let identities = self.conns.get(&id).map_or(&[][..], |conn| &conn.identities);
        proves || identities.iter().any(|identity| schemes.contains(&identity.scheme))
    }

    /// `auth` is answered straight away, ahead of requests that wait.
    fn on_auth(&mut self, id: ConnId, xid: Xid, auth: &docent::proto::ops::AuthRequest, fx: &mut Effects) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let proved = access::authenticate(
            &auth.scheme,
            auth.auth.as_deref(),
            conn.address,
            self.config.super_digest.as_deref(),
            self.config.serving.digest_algorithm,
        );
        let room = crate::limits::IDENTITIES_PER_CONNECTION_MAX;
        match proved {
            Some(identities) if conn.identities.len() + identities.len() <= room => {
                for identity in identities {
                    if !conn.identities.contains(&identity) {
                        conn.identities.push(identity);
                    }
                }
                self.answer_out_of_line(id, xid, ErrorCode::OK, fx, |_| {});
            }
            _ => {
                self.metrics.auth_failed += 1;
                self.answer_out_of_line(id, xid, ErrorCode::AUTH_FAILED, fx, |_| {});
                self.close(id, fx);
            }
        }
    }
}
