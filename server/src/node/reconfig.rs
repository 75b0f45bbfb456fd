//! Changing the ensemble: the leader's judgement of a request, and what a configuration that counts means for this server.
//!
//! A new configuration is the data of a transaction on `/zookeeper/config`; agreement reads it there with
//! [`reading`]. What every server shows in that node without a transaction – the list of its files, or what it took over
//! from others – it writes there itself, outside of the log.

use bytes::Bytes;
use docent::ErrorCode;
use docent::proto::ReconfigRequest;

use super::prep::Prep;
use super::service::Service;
use super::txn::{LoggedTxn, Txn};
use super::{ConnId, Effect, Effects, Node};
use crate::config::Dynamic;
use crate::tree::Tree;
use crate::zab::{Members, PeerId, Reading, Replica};

/// The node that shows the configuration.
pub(super) const CONFIG_NODE: &str = "/zookeeper/config";

/// Where the type of a transaction stands in its record: behind session, cxid, zxid and time.
const TYPE_AT: std::ops::Range<usize> = 28..32;

/// The type of a transaction that changes the ensemble.
const RECONFIG: [u8; 4] = 16_i32.to_be_bytes();

/// How agreement finds configurations in what it orders.
pub(super) fn reading() -> Reading {
    Reading { of_record: members_of_record, of_text: members_of_text }
}

fn members_of_record(payload: &Bytes) -> Option<Members> {
    if payload.get(TYPE_AT) != Some(&RECONFIG) {
        return None;
    }
    match LoggedTxn::decode(payload.clone()).ok()?.txn {
        Txn::SetData { data: Some(text), reconfig: true, .. } => members_of_text(&text),
        _ => None,
    }
}

/// What may be under way when a server starts: what its files say, or what its state shows, if that is later. The log is
/// durable and the files may not be: they may lie on a disk that is full, or somebody has written them anew.
pub(super) fn latest(from_files: Option<Members>, tree: &Tree) -> Option<Members> {
    let shown = tree.node(CONFIG_NODE).and_then(|node| node.data()).map(Bytes::copy_from_slice);
    let shown = shown.filter(|text| !text.is_empty()).as_ref().and_then(members_of_text);
    // What the files had of a record that never became durable hides nothing.
    let logged = from_files.filter(|members| members.zxid() <= tree.last_zxid());
    logged.into_iter().chain(shown).max_by_key(|members| members.version)
}

fn members_of_text(text: &Bytes) -> Option<Members> {
    let read = Dynamic::parse(text).and_then(|dynamic| dynamic.to_members());
    read.inspect_err(|error| tracing::warn!(%error, "a configuration makes no sense and is ignored")).ok()
}

/// What a leader knows of its ensemble when it judges.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    current: Bytes,
    version: i64,
    under_way: bool,
    voters_min: usize,
    /// Who is level with this leader.
    level: Vec<PeerId>,
}

/// Why no request to change the ensemble is judged here; or what it is judged with.
pub(super) type Changeable = Result<Facts, ErrorCode>;

impl Facts {
    fn of(replica: &Replica, voters_min: usize, now_ms: i64) -> Self {
        let members = replica.members();
        Facts {
            current: members.text.clone(),
            version: members.version,
            under_way: replica.members_under_way().is_some(),
            voters_min,
            level: replica.level(now_ms),
        }
    }
}

impl Prep<'_> {
    /// `reconfig`, checked in Apache's order.
    pub(super) fn reconfig(&mut self, request: &ReconfigRequest, facts: Facts) -> Result<Txn, ErrorCode> {
        if facts.under_way {
            return Err(ErrorCode::RECONFIG_IN_PROGRESS);
        }
        if request.current_config != -1 && request.current_config != facts.version {
            return Err(ErrorCode::BAD_VERSION);
        }
        let current = Dynamic::parse(&facts.current).map_err(|_| ErrorCode::SYSTEM_ERROR)?;
        let changed = current.change(request, self.zxid, facts.voters_min);
        let (new, members) =
            changed.and_then(|new| new.to_members().map(|members| (new, members))).map_err(|error| {
                tracing::info!(%error, "a change of the ensemble is refused");
                ErrorCode::BAD_ARGUMENTS
            })?;
        if !members.quorum.is_quorum(&facts.level) {
            return Err(ErrorCode::NEW_CONFIG_NO_QUORUM);
        }
        self.set_config(CONFIG_NODE.to_owned(), new.to_string().into())
    }
}

impl Node {
    /// Whether the ensemble may be changed here, and what a leader knows of it.
    pub(super) fn changeable(&self) -> Changeable {
        match &self.config.ensemble {
            _ if !self.config.rules.reconfig => Err(ErrorCode::RECONFIG_DISABLED),
            None => Err(ErrorCode::UNIMPLEMENTED),
            Some(ensemble) => Ok(Facts::of(&self.replica, ensemble.voters_min, self.now.mono_ms)),
        }
    }

    /// Another configuration counts, or is under way: it is written down, whom it names is reached, and what this server is
    /// to clients may change.
    pub(super) fn on_members(&mut self, fx: &mut Effects) {
        fx.push(Effect::Members {
            committed: self.replica.members().clone(),
            under_way: self.replica.members_under_way().cloned(),
        });
        self.show_members();
        self.mind_clients(fx);
    }

    /// Puts the configuration where clients find it, if no transaction has.
    pub(super) fn show_members(&mut self) {
        if self.config.ensemble.is_none() {
            return;
        }
        let members = self.replica.members();
        let shown = self.tree.node(CONFIG_NODE).and_then(|node| node.data());
        let same = shown == Some(&members.text);
        // What the log made is shown to nobody before it counts, and must not get lost with the next snapshot.
        let later = || latest(None, &self.tree).is_some_and(|shown| shown.version > members.version);
        if !(same || self.config.rules.reconfig && later()) {
            let (text, zxid) = (members.text.clone(), members.zxid());
            self.tree.set_config(&text, zxid, -1, self.now.wall_ms);
        }
    }

    /// Whether this server takes clients: it is a member, and no leader that leaves clients to the others.
    pub(super) fn takes_clients(&self) -> bool {
        let Some(ensemble) = &self.config.ensemble else { return true };
        let is_member = !self.config.rules.reconfig || self.replica.members().contains(self.config.me);
        is_member && (ensemble.leader_serves || self.service != Service::Leading)
    }

    /// Sends everybody away if this server takes no clients.
    pub(super) fn mind_clients(&mut self, fx: &mut Effects) {
        if !self.is_serving() || self.takes_clients() {
            return;
        }
        if !self.replica.members().contains(self.config.me) {
            tracing::warn!(
                me = self.config.me.0,
                version = %self.replica.members().zxid(),
                "the configuration does not name this server: it follows without a vote and serves nobody"
            );
        }
        self.close_all(fx);
    }

    /// A handshake on a server that takes no clients.
    pub(super) fn turn_away(&mut self, id: ConnId, fx: &mut Effects) {
        self.metrics.connections_rejected += 1;
        fx.push(Effect::Close(id));
    }
}

#[cfg(test)]
mod tests {
    use docent::Zxid;
    use docent::proto::Request;
    use docent::proto::jute::Reader;
    use serde_json::Value;

    use super::*;

    const CAPTURES: &str = include_str!("../../tests/peers/captures-3.8.0.json");
    const REQUEST: i32 = 1;
    const PROPOSAL: i32 = 2;
    const NEW_LEADER: i32 = 10;
    const INFORM_AND_ACTIVATE: i32 = 19;
    /// The operation `reconfig`, as a forwarded request names it behind session and cxid.
    const OPERATION: &[u8] = &RECONFIG;

    /// Type and data of every packet of the captured reconfigurations, from and to server 1, in order; the observer's are
    /// left for themselves.
    fn packets(initiator: u64) -> Vec<(i32, Bytes)> {
        let file: Value = serde_json::from_str(CAPTURES).unwrap();
        let connections = file.as_array().unwrap().iter().filter(|connection| {
            connection["capture"] == "reconfig"
                && connection["kind"] == "quorum"
                && connection["initiator"] == initiator
        });
        let messages = connections.flat_map(|connection| connection["messages"].as_array().unwrap());
        messages.filter_map(|message| packet(&hex_of(message)?)).collect()
    }

    fn hex_of(message: &Value) -> Option<Vec<u8>> {
        let hex = message.as_array()?.last()?.as_str()?;
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
    }

    fn packet(bytes: &[u8]) -> Option<(i32, Bytes)> {
        let kind = i32::from_be_bytes(*bytes.first_chunk()?);
        let len = usize::try_from(i32::from_be_bytes(*bytes.get(12..)?.first_chunk()?)).ok()?;
        Some((kind, Bytes::copy_from_slice(bytes.get(16..16 + len)?)))
    }

    /// What Apache's leader made of each request, this one makes of it, to the byte.
    #[test]
    fn each_captured_request_makes_the_captured_configuration() {
        let mut current: Option<Dynamic> = None;
        let mut asked = None;
        let mut made = 0;
        for (kind, data) in packets(1) {
            match kind {
                NEW_LEADER => {
                    let read = Dynamic::parse(&data).unwrap();
                    assert_eq!(read.to_string().as_bytes(), data);
                    assert_eq!(members_of_text(&data).unwrap().zxid(), Zxid::new(1, 0));
                    current = Some(read);
                }
                REQUEST if data.get(12..16) == Some(OPERATION) => {
                    let mut body = Reader::new(data.slice(16..));
                    let request = Request::decode(docent::proto::OpCode::Reconfig, &mut body).unwrap();
                    let Some(Request::Reconfig(request)) = request else { panic!("{request:?}") };
                    asked = Some(request);
                }
                PROPOSAL => {
                    let Some(members) = members_of_record(&data) else { continue };
                    let request = asked.take().expect("somebody has asked");
                    let new = current.unwrap().change(&request, members.zxid(), 2).unwrap();
                    assert_eq!(new.to_string().as_bytes(), members.text);
                    current = Some(new);
                    made += 1;
                }
                _ => {}
            }
        }
        assert_eq!(made, 3, "follower 2 leaves and comes back, leader 3 leaves");
    }

    /// The files had a later change that never became durable, or nothing at all: what the log made is known all the same.
    #[test]
    fn what_the_log_made_is_known_whatever_the_files_say() {
        let text = |version: u32| format!("server.1=h:1:2:participant;3\nversion={version:x}");
        let from_file = |version| members_of_text(&text(version).into());
        let mut tree = Tree::new();
        tree.set_config(text(7).as_bytes(), Zxid(7), -1, 0);
        tree.finish_load(Zxid(8));
        for (file, known) in [(None, 7), (Some(9), 7), (Some(8), 8), (Some(6), 7)] {
            let found = latest(file.and_then(from_file), &tree).map(|members| members.version);
            assert_eq!(found, Some(known), "{file:?}");
        }
    }

    #[test]
    fn an_observer_is_told_the_same() {
        let informed = packets(4).into_iter().filter(|(kind, _)| *kind == INFORM_AND_ACTIVATE);
        let versions: Vec<Zxid> =
            informed.map(|(_, data)| members_of_record(&data.slice(8..)).unwrap().zxid()).collect();
        assert_eq!(versions, [3, 4, 8].map(|counter| Zxid::new(1, counter)));
    }
}
