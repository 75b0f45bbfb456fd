//! Answers to those four-letter words that need the node.

use std::collections::VecDeque;
use std::net::SocketAddr;

use docent::proto::OpCode;
use docent::{SessionId, Zxid};

use super::conn::{Conn, Phase};
use super::event::ShellFacts;
use super::four_letter::facts::{
    ConnectionFacts, ConnectionSession, ExpiryBucket, Metric, Mode, ServerFacts, SessionFacts, Tracker,
    Value, WatchFacts,
};
use super::four_letter::{self as words, FourLetterWord, full_version};
use super::service::Service;
use super::{ConnId, Effect, Effects, Node};
use crate::zab::Role;

/// What the tree's digests are held against, and those that `hash` lists: one each so many transactions, the newest ones.
#[derive(Debug, Default)]
pub(super) struct Digests {
    noted: VecDeque<(Zxid, u64)>,
    /// Whether the tree may hold more than the transactions that were applied to it. A leader of Apache's goes on writing
    /// while it sends its state; what it wrote meanwhile is in there, and comes once more behind it, before its
    /// NEWLEADER. Until all that is applied no digest says anything.
    ahead: bool,
}

impl Digests {
    const INTERVAL: i64 = 128;
    const KEPT: usize = 1_024;

    /// The tree is now one that a leader sent.
    pub(super) fn received(&mut self) {
        self.ahead = true;
    }

    /// All is applied that a leader sent before it let this server serve, or this server leads.
    pub(super) fn level(&mut self) {
        self.ahead = false;
    }

    /// Takes the digest after a transaction into account. Gives the one that was foreseen if it is another.
    pub(super) fn compare(&mut self, zxid: Zxid, found: u64, foreseen: Option<u64>) -> Option<u64> {
        if self.ahead {
            return None;
        }
        self.note(zxid, found);
        foreseen.filter(|foreseen| *foreseen != found)
    }

    fn note(&mut self, zxid: Zxid, digest: u64) {
        if zxid.0 % Self::INTERVAL != 0 {
            return;
        }
        if self.noted.len() == Self::KEPT {
            self.noted.pop_front();
        }
        self.noted.push_back((zxid, digest));
    }
}

impl Node {
    pub(super) fn on_admin(
        &mut self,
        conn: ConnId,
        word: FourLetterWord,
        shell: &ShellFacts,
        fx: &mut Effects,
    ) {
        let text = match word {
            FourLetterWord::Isro if !self.is_serving_reads() => words::ISRO_NOT_SERVING.to_owned(),
            word if word.needs_serving() && !self.is_serving_reads() => words::NOT_SERVING.to_owned(),
            word => self.admin_text(word, shell),
        };
        fx.push(Effect::AdminReply { conn, text });
    }

    /// One arm per word.
    fn admin_text(&mut self, word: FourLetterWord, shell: &ShellFacts) -> String {
        match word {
            FourLetterWord::Srvr => words::srvr(&self.server_facts()),
            FourLetterWord::Stat => words::stat(&self.server_facts(), &self.connection_facts(shell.peer)),
            FourLetterWord::Mntr => words::mntr(&full_version(), self.mode(), &self.metric_lines(shell)),
            FourLetterWord::Cons => words::cons(&self.connection_facts(shell.peer)),
            FourLetterWord::Dump => words::dump(&self.session_facts()),
            FourLetterWord::Isro if self.is_serving() => "rw".to_owned(),
            FourLetterWord::Isro => "ro".to_owned(),
            FourLetterWord::Crst => {
                self.conns.values_mut().for_each(|conn| conn.stats.reset());
                words::CRST.to_owned()
            }
            FourLetterWord::Srst => {
                self.metrics.reset();
                words::SRST.to_owned()
            }
            FourLetterWord::Wchs => {
                let summary = self.watches.summary();
                words::wchs(&WatchFacts {
                    connections: summary.connections as u64,
                    paths: summary.paths as u64,
                    watches: summary.watches as u64,
                })
            }
            FourLetterWord::Wchc => {
                let by_session = self.watches.by_conn().map(|(conn, paths)| {
                    (self.session_of(conn), paths.into_iter().map(str::to_owned).collect())
                });
                words::wchc(&by_session.collect::<Vec<_>>())
            }
            FourLetterWord::Wchp => {
                let by_path = self.watches.by_path().map(|(path, conns)| {
                    (path.to_owned(), conns.into_iter().map(|conn| self.session_of(conn)).collect())
                });
                words::wchp(&by_path.collect::<Vec<_>>())
            }
            FourLetterWord::Hash => words::hash(&self.digests.noted.iter().copied().collect::<Vec<_>>()),
            // The shell answers these by itself.
            FourLetterWord::Ruok
            | FourLetterWord::Conf
            | FourLetterWord::Dirs
            | FourLetterWord::Envi
            | FourLetterWord::Gtmk
            | FourLetterWord::Stmk
            | FourLetterWord::TelnetClose => String::new(),
        }
    }

    fn session_of(&self, conn: ConnId) -> SessionId {
        self.conns.get(&conn).and_then(Conn::session).unwrap_or_default()
    }

    /// What this server is, as its clients see it.
    fn mode(&self) -> Mode {
        match (&self.config.ensemble, self.replica.role()) {
            (None, _) => Mode::Standalone,
            _ if self.service == Service::ReadOnly => Mode::ReadOnly,
            (Some(_), Role::Leading(_)) => Mode::Leader,
            (Some(_), _) if self.replica.members().observers.contains(&self.config.me) => Mode::Observer,
            (Some(_), _) => Mode::Follower,
        }
    }

    /// What `mntr` shows of a member of an ensemble.
    fn ensemble_lines(&self, lines: &mut Vec<Metric>) {
        if self.config.ensemble.is_none() {
            return;
        }
        let doing = match self.mode() {
            Mode::Leader => "leading - broadcast",
            Mode::Observer => "observing - broadcast",
            _ => "following - broadcast",
        };
        lines.push(Metric::new("peer_state", Value::Text(doing.into())));
        lines.push(Metric::new("quorum_size", self.replica.members().quorum.voters().count() as u64));
        let Role::Leading(leading) = self.replica.role() else { return };
        let (observers, followers): (Vec<_>, Vec<_>) =
            leading.followers().partition(|(_, observer, _)| *observer);
        let sizes = self.metrics.proposal_sizes();
        lines.extend([
            Metric::new("learners", (followers.len() + observers.len()) as u64),
            Metric::new("synced_followers", followers.len() as u64),
            Metric::new("synced_observers", observers.len() as u64),
            Metric::new(
                "pending_syncs",
                (self.peers.leader_syncs.len() + self.peers.apache_syncs.len()) as u64,
            ),
            Metric::new("last_proposal_size", Value::Count(sizes.last)),
            Metric::new("min_proposal_size", Value::Count(sizes.min)),
            Metric::new("max_proposal_size", Value::Count(sizes.max)),
        ]);
    }

    fn outstanding_requests(&self) -> u64 {
        self.in_flight.len() as u64
    }

    fn server_facts(&self) -> ServerFacts {
        ServerFacts {
            version: full_version(),
            mode: self.mode(),
            latency: self.metrics.latency(),
            received: self.metrics.packets_received,
            sent: self.metrics.packets_sent,
            connections: self.conns.len() as u64 + 1,
            outstanding: self.outstanding_requests(),
            zxid: self.tree.last_zxid(),
            node_count: self.tree.node_count() as u64,
            proposal_sizes: (self.mode() == Mode::Leader).then(|| self.metrics.proposal_sizes()),
        }
    }

    /// In the order of their arrival; last the one that asks, which has no session.
    fn connection_facts(&self, asking: SocketAddr) -> Vec<ConnectionFacts> {
        let mut conns: Vec<(&ConnId, &Conn)> = self.conns.iter().collect();
        conns.sort_unstable_by_key(|(id, _)| **id);
        let mut facts: Vec<ConnectionFacts> =
            conns.into_iter().map(|(_, conn)| self.facts_of(conn)).collect();
        facts.push(ConnectionFacts {
            address: asking,
            interest_ops: 0,
            queued: 0,
            received: 1,
            sent: 0,
            session: None,
        });
        facts
    }

    fn timeout_of(&self, session: SessionId) -> i32 {
        let local = || self.locals.get(session).map(|local| local.timeout_ms);
        self.sessions.get(session).map(|known| known.timeout_ms).or_else(local).unwrap_or_default()
    }

    fn facts_of(&self, conn: &Conn) -> ConnectionFacts {
        let stats = &conn.stats;
        let session = conn.session().map(|id| ConnectionSession {
            id,
            last_operation: stats.last_op.map_or("NA", short_name),
            established_ms: stats.established_ms,
            timeout_ms: self.timeout_of(id),
            last_cxid: stats.last_cxid.map(i64::from),
            last_zxid: stats.last_zxid.unwrap_or(Zxid::NONE),
            last_response_ms: stats.last_response_ms,
            last_latency: stats.last_latency_ms as u64,
            min_latency: stats.min_latency_ms as u64,
            avg_latency: (stats.total_latency_ms as u64).checked_div(stats.answers).unwrap_or(0),
            max_latency: stats.max_latency_ms as u64,
        });
        ConnectionFacts {
            address: SocketAddr::new(conn.address, conn.port),
            interest_ops: 1,
            queued: conn.lane.len() as u64,
            received: stats.received,
            sent: stats.sent,
            session: session.filter(|_| !matches!(conn.phase, Phase::Opening { .. })),
        }
    }

    fn session_facts(&self) -> SessionFacts {
        let wall = |mono_ms: i64| self.now.wall_ms + (mono_ms - self.now.mono_ms);
        let buckets = self.sessions.deadlines().map(|(due, sessions)| ExpiryBucket {
            expires_ms: wall(due),
            members: sessions.iter().copied().collect(),
        });
        let ephemerals = self.tree.sessions_with_ephemerals().into_iter();
        let tracker = if self.service.leads() {
            Tracker::Expiring(buckets.collect())
        } else {
            Tracker::Learning(self.sessions.iter().map(|(id, session)| (id, session.timeout_ms)).collect())
        };
        SessionFacts {
            tracker,
            ephemerals: ephemerals.map(|session| (session, self.tree.ephemerals(session))).collect(),
            connections: Vec::new(),
        }
    }

    fn metric_lines(&self, shell: &ShellFacts) -> Vec<Metric> {
        let mut lines = Vec::new();
        self.metrics.lines(self.now.mono_ms, &mut lines);
        self.ensemble_lines(&mut lines);
        let (open, max) = shell.file_descriptors;
        lines.extend([
            Metric::new("num_alive_connections", self.conns.len() as u64 + 1),
            Metric::new("outstanding_requests", self.outstanding_requests()),
            Metric::new("znode_count", self.tree.node_count() as u64),
            Metric::new("watch_count", self.watches.count() as u64),
            Metric::new("ephemerals_count", self.tree.ephemerals_count() as u64),
            Metric::new("approximate_data_size", self.tree.approximate_data_size()),
            Metric::new("global_sessions", self.sessions.len() as u64),
            Metric::new("local_sessions", self.locals.len() as u64),
            Metric::new("open_file_descriptor_count", open),
            Metric::new("max_file_descriptor_count", max),
            Metric::new("garbage_connection_count", shell.garbage_connections),
            Metric::new("refused_connection_count", shell.refused_connections),
        ]);
        lines
    }
}

/// How `cons` names an operation.
fn short_name(op: OpCode) -> &'static str {
    match op {
        OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => "CREA",
        OpCode::Delete | OpCode::DeleteContainer => "DELE",
        OpCode::Exists => "EXIS",
        OpCode::GetData => "GETD",
        OpCode::SetData => "SETD",
        OpCode::GetAcl => "GETA",
        OpCode::SetAcl => "SETA",
        OpCode::GetChildren | OpCode::GetChildren2 => "GETC",
        OpCode::Sync => "SYNC",
        OpCode::Ping => "PING",
        OpCode::Check => "CHEC",
        OpCode::Multi => "MULT",
        OpCode::MultiRead => "MLTR",
        OpCode::Reconfig => "RECO",
        OpCode::CheckWatches => "CHKW",
        OpCode::RemoveWatches => "REMW",
        OpCode::SetWatches => "SETW",
        OpCode::SetWatches2 => "STW2",
        OpCode::AddWatch => "ADDW",
        OpCode::GetEphemerals => "GETE",
        OpCode::GetAllChildrenNumber => "GETACN",
        OpCode::WhoAmI => "HOMI",
        OpCode::CreateSession => "SESS",
        OpCode::CloseSession => "CLOS",
        _ => "NA",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_was_sent_while_its_leader_wrote_is_compared_once_it_is_level() {
        let mut digests = Digests::default();
        assert_eq!(digests.compare(Zxid(128), 7, Some(7)), None);
        assert_eq!(digests.compare(Zxid(129), 8, Some(9)), Some(9));
        assert_eq!(digests.compare(Zxid(130), 8, None), None, "a transaction without a digest");
        digests.received();
        assert_eq!(digests.compare(Zxid(256), 20, Some(10)), None);
        digests.level();
        assert_eq!(digests.compare(Zxid(384), 21, Some(11)), Some(11));
        assert_eq!(digests.noted, [(Zxid(128), 7), (Zxid(384), 21)]);
    }
}
