//! What the committed transactions amount to, told a second time and by simpler means: for every path its whole history.
//!
//! It knows how transactions change the tree, not how requests become transactions; for the latter stands the check of
//! every answer against the state at its zxid. From the history follow the answers that reads must give, the events
//! that watches must bring, and when ephemeral nodes come and go.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use docent::{Acl, Permissions, SessionId, Zxid};
use docent_server::node::txn::{CreateTxn, LoggedTxn, NodeKind, Txn, TxnHeader};

/// A node as far as it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) data: Option<Bytes>,
    pub(super) version: i32,
    pub(super) czxid: Zxid,
    pub(super) mzxid: Zxid,
    pub(super) mtime_ms: i64,
    pub(super) kind: NodeKind,
    pub(super) owner: SessionId,
    /// Whether everybody may set its data; the only right that is ever taken away.
    pub(super) writable: bool,
}

fn writable(acl: &[Acl]) -> bool {
    acl.iter().any(|acl| acl.permissions.intersects(Permissions::WRITE))
}

/// What watchers can hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happened {
    Created,
    Deleted,
    Changed,
}

/// The history of one path.
#[derive(Debug, Default)]
struct History {
    states: Vec<(Zxid, Option<Known>)>,
    events: Vec<(Zxid, Happened)>,
    /// Creations and deletions of direct children.
    children: Vec<Zxid>,
}

/// All that was committed.
#[derive(Debug, Default)]
pub(super) struct Model {
    paths: BTreeMap<String, History>,
    /// Everything that watchers can hear, in order.
    heard: Vec<(Zxid, String, Happened)>,
    /// Sessions that are open, with the paths of their ephemeral nodes.
    pub(super) sessions: BTreeMap<SessionId, BTreeSet<String>>,
    /// When each session ended.
    pub(super) closed: BTreeMap<SessionId, Zxid>,
}

fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}

/// Whether a path is this one or below it.
pub(super) fn is_below(root: &str, path: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Model {
    /// Applies the next committed transaction.
    ///
    /// # Errors
    /// The transaction breaks a rule of sessions and ephemeral nodes.
    pub(super) fn apply(&mut self, logged: &LoggedTxn) -> Result<(), String> {
        let header = &logged.header;
        if header.session != SessionId::NONE && self.closed.contains_key(&header.session) {
            let ended = self.closed[&header.session];
            if !matches!(logged.txn, Txn::Error(_) | Txn::CloseSession { .. }) {
                return Err(format!(
                    "transaction {} is of session {}, which ended at {ended}",
                    header.zxid, header.session
                ));
            }
        }
        match &logged.txn {
            Txn::CreateSession { .. } => {
                self.sessions.entry(header.session).or_default();
                Ok(())
            }
            Txn::CloseSession { paths } => self.close(header, paths.as_deref().unwrap_or_default()),
            txn => self.change(header, txn),
        }
    }

    fn close(&mut self, header: &TxnHeader, paths: &[String]) -> Result<(), String> {
        let Some(owned) = self.sessions.remove(&header.session) else {
            if paths.is_empty() {
                return Ok(());
            }
            return Err(format!("the unknown session {} ends with {paths:?}", header.session));
        };
        let named: BTreeSet<String> = paths.iter().cloned().collect();
        if owned != named {
            return Err(format!(
                "session {} ends at {} and takes {named:?} with it, but it owns {owned:?}",
                header.session, header.zxid
            ));
        }
        for path in paths {
            self.remove(header.zxid, path);
        }
        self.closed.insert(header.session, header.zxid);
        Ok(())
    }

    fn change(&mut self, header: &TxnHeader, txn: &Txn) -> Result<(), String> {
        match txn {
            Txn::Create(create) => self.create(header, create),
            Txn::Delete { path, .. } => {
                let owner = self.now(path).map(|known| known.owner);
                if let Some(owned) = owner.and_then(|owner| self.sessions.get_mut(&owner)) {
                    owned.remove(path);
                }
                self.remove(header.zxid, path);
                Ok(())
            }
            // Members have books of their own.
            Txn::SetData { reconfig: true, .. } => Ok(()),
            Txn::SetData { path, data, version, .. } => {
                let Some(known) = self.now(path) else {
                    return Err(format!("transaction {} sets {path}, which is not there", header.zxid));
                };
                if *version != known.version + 1 {
                    return Err(format!(
                        "transaction {} gives {path} the version {version} after {}",
                        header.zxid, known.version
                    ));
                }
                let known = Known {
                    data: data.clone(),
                    version: *version,
                    mzxid: header.zxid,
                    mtime_ms: header.time_ms,
                    ..known.clone()
                };
                let history = self.paths.entry(path.clone()).or_default();
                history.states.push((header.zxid, Some(known)));
                history.events.push((header.zxid, Happened::Changed));
                self.heard.push((header.zxid, path.clone(), Happened::Changed));
                Ok(())
            }
            Txn::SetAcl { path, acl, .. } => {
                let Some(known) = self.now(path).cloned() else {
                    return Err(format!(
                        "transaction {} gives rights to {path}, which is not there",
                        header.zxid
                    ));
                };
                let known = Known { writable: writable(acl), ..known };
                self.paths.entry(path.clone()).or_default().states.push((header.zxid, Some(known)));
                Ok(())
            }
            Txn::Multi(txns) if txns.iter().any(|txn| matches!(txn, Txn::Error(_))) => Ok(()),
            Txn::Multi(txns) => txns.iter().try_for_each(|txn| self.change(header, txn)),
            _ => Ok(()),
        }
    }

    fn create(&mut self, header: &TxnHeader, create: &CreateTxn) -> Result<(), String> {
        if self.now(&create.path).is_some() {
            return Err(format!("transaction {} creates {}, which is there", header.zxid, create.path));
        }
        let mut owner = SessionId::NONE;
        if create.kind == NodeKind::Ephemeral {
            owner = header.session;
            let Some(owned) = self.sessions.get_mut(&owner) else {
                return Err(format!(
                    "transaction {} makes the ephemeral node {} for session {owner}, which is not open",
                    header.zxid, create.path
                ));
            };
            owned.insert(create.path.clone());
        }
        let known = Known {
            data: create.data.clone(),
            version: 0,
            czxid: header.zxid,
            mzxid: header.zxid,
            mtime_ms: header.time_ms,
            kind: create.kind,
            owner,
            writable: writable(&create.acl),
        };
        let history = self.paths.entry(create.path.clone()).or_default();
        history.states.push((header.zxid, Some(known)));
        history.events.push((header.zxid, Happened::Created));
        self.heard.push((header.zxid, create.path.clone(), Happened::Created));
        self.paths.entry(parent(&create.path).to_owned()).or_default().children.push(header.zxid);
        Ok(())
    }

    fn remove(&mut self, zxid: Zxid, path: &str) {
        let history = self.paths.entry(path.to_owned()).or_default();
        history.states.push((zxid, None));
        history.events.push((zxid, Happened::Deleted));
        self.heard.push((zxid, path.to_owned(), Happened::Deleted));
        self.paths.entry(parent(path).to_owned()).or_default().children.push(zxid);
    }

    fn now(&self, path: &str) -> Option<&Known> {
        self.paths.get(path)?.states.last()?.1.as_ref()
    }

    /// The node right after this transaction.
    pub(super) fn at(&self, path: &str, zxid: Zxid) -> Option<&Known> {
        let states = &self.paths.get(path)?.states;
        let count = states.partition_point(|(at, _)| *at <= zxid);
        states[..count].last()?.1.as_ref()
    }

    /// The names of the node's children right after this transaction.
    pub(super) fn children_at(&self, path: &str, zxid: Zxid) -> BTreeSet<String> {
        let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        let below = self.paths.range(prefix.clone()..);
        below
            .take_while(|(child, _)| child.starts_with(&prefix))
            .filter(|(child, _)| !child[prefix.len()..].is_empty() && !child[prefix.len()..].contains('/'))
            .filter(|(child, _)| self.at(child, zxid).is_some())
            .map(|(child, _)| child[prefix.len()..].to_owned())
            .collect()
    }

    /// How much a path and all below it hold right after this transaction: nodes, and bytes of their data.
    pub(super) fn usage_at(&self, path: &str, zxid: Zxid) -> (i64, i64) {
        let below = format!("{path}/");
        let nodes = self.paths.range(path.to_owned()..).take_while(|(at, _)| at.starts_with(path));
        let nodes = nodes.filter(|(at, _)| *at == path || at.starts_with(&below));
        nodes.filter_map(|(at, _)| self.at(at, zxid)).fold((0, 0), |(count, bytes), known| {
            (count + 1, bytes + known.data.as_ref().map_or(0, |data| data.len() as i64))
        })
    }

    /// All nodes right after this transaction.
    pub(super) fn nodes_at(&self, zxid: Zxid) -> impl Iterator<Item = (&str, &Known)> {
        self.paths.keys().filter_map(move |path| Some((path.as_str(), self.at(path, zxid)?)))
    }

    /// The first event on the node itself behind `after`, up to `upto`.
    pub(super) fn event_between(&self, path: &str, after: Zxid, upto: Zxid) -> Option<(Zxid, Happened)> {
        let events = &self.paths.get(path)?.events;
        let first = events.partition_point(|(at, _)| *at <= after);
        events.get(first).copied().filter(|(at, _)| *at <= upto)
    }

    /// All events on the node itself behind `after`, up to `upto`.
    pub(super) fn events_between(&self, path: &str, after: Zxid, upto: Zxid) -> &[(Zxid, Happened)] {
        let Some(history) = self.paths.get(path) else { return &[] };
        let first = history.events.partition_point(|(at, _)| *at <= after);
        let end = history.events.partition_point(|(at, _)| *at <= upto);
        &history.events[first..end.max(first)]
    }

    /// What can be heard of a node and all below it behind `after`, up to `upto`.
    pub(super) fn heard_below(&self, root: &str, after: Zxid, upto: Zxid) -> Vec<(Zxid, String, Happened)> {
        let first = self.heard.partition_point(|(at, ..)| *at <= after);
        let end = self.heard.partition_point(|(at, ..)| *at <= upto);
        let all = self.heard[first..end.max(first)].iter();
        all.filter(|(_, path, _)| is_below(root, path)).cloned().collect()
    }

    /// The first change of the node's children behind `after`, up to `upto`.
    pub(super) fn children_changed(&self, path: &str, after: Zxid, upto: Zxid) -> Option<Zxid> {
        let children = &self.paths.get(path)?.children;
        let first = children.partition_point(|at| *at <= after);
        children.get(first).copied().filter(|at| *at <= upto)
    }
}
