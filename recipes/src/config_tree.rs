//! Many nodes as one value: each node with children is an object, each leaf a field, and all of them are read as they are at
//! one moment.
//!
//! | node | in the value |
//! |---|---|
//! | with children | an object, with their names; its own data does not count |
//! | without children | what its data says in JSON |
//! | without children and data | left out: an `Option` is `None`, a field with `#[serde(default)]` its default |
//!
//! What a transaction changes together is seen together. One persistent recursive watch tells that something has changed; then
//! everything is read anew with one request, which a server answers from one state of its tree. The list of nodes is in that answer
//! too: when it is not the list that was asked for, the request is made again.
//!
//! The place of a value in the order of writes is the latest change of any of its nodes: their `mzxid`s and `pzxid`s.
//!
//! Servers before 3.6 know neither the watch nor the request.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use docent::{
    AddWatchMode, ErrorCode, MultiResult, OpCode, ReadOp, SessionRef, Stat, StateWatch, Watcher, Zxid, path,
};
use futures::FutureExt as _;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::backoff::Backoff;
use crate::codec::{BoxError, Decode};
use crate::config_state::{Offered, Shared};
use crate::error::Error;
use crate::following;
use crate::guarded;
use crate::hold::{self, Fate, fate};

/// Nodes that a tree may have; with more it is no value. All that they hold must fit into one reply of the server, which is
/// 1 MiB where `jute.maxbuffer` is not set.
pub const CONFIG_TREE_NODES_MAX: usize = 1_000;

/// How often the list is followed while nodes come and go, before others are let in.
const LISTS_MAX: u32 = 16;

/// The nodes of a tree as one value: the codec of [`Recipes::config_tree`](crate::Recipes::config_tree).
///
/// A node with children is an object with their names, and its own data does not count; a leaf is what its data says in JSON;
/// a leaf without data is left out. What a transaction changes together is seen together.
///
/// **Connected, suspended, lost:** as [`Watched`](crate::Watched) says of one node; values never go back, and their place in the
/// order of writes is the latest change of any of the nodes. **Token:** that zxid, in [`ConfigInfo`](crate::ConfigInfo).
/// **Dropped:** the watch goes; nothing else is on the server. **Layout:** plain nodes, as any client writes them; Curator and kazoo
/// have nothing like it. **Cost:** one persistent recursive watch; for each change one request that reads all nodes, and one more
/// where nodes have come or gone. Servers from 3.6 on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JsonTree;

impl<T: DeserializeOwned> Decode<T> for JsonTree {
    fn decode(&self, bytes: &[u8]) -> Result<T, BoxError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// One node as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Leaf {
    data: Bytes,
    stat: Stat,
    children: Vec<String>,
}

/// A tree as it was at one moment, by absolute path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cut {
    nodes: BTreeMap<String, Leaf>,
}

/// What is wrong with a tree.
struct Unfit {
    reason: String,
    bytes: Bytes,
}

impl Cut {
    /// PURE. Reads the answers to a data and a list request for each path. `None` when the root is not there.
    fn read(paths: &[String], results: Vec<MultiResult>) -> Option<Cut> {
        let mut nodes = BTreeMap::new();
        let mut results = results.into_iter();
        for path in paths {
            let (node, list) = (results.next(), results.next());
            if let (Some(MultiResult::GetData { data, stat }), Some(MultiResult::GetChildren { names })) =
                (node, list)
            {
                nodes.insert(path.clone(), Leaf { data: data.unwrap_or_default(), stat, children: names });
            }
        }
        nodes.contains_key(paths.first()?).then_some(Cut { nodes })
    }

    /// PURE. All paths that the lists name, the root first.
    fn paths(&self, root: &str) -> Vec<String> {
        let mut paths = vec![root.to_owned()];
        let mut at = 0;
        while let Some(path) = paths.get(at) {
            let children = self.nodes.get(path).map(|leaf| &leaf.children[..]).unwrap_or_default();
            let children: Vec<String> = children.iter().map(|name| path::join(path, name)).collect();
            paths.extend(children);
            at += 1;
        }
        paths
    }

    /// PURE. Whether every node that is named was read.
    fn is_whole(&self, paths: &[String]) -> bool {
        paths.len() == self.nodes.len() && paths.iter().all(|path| self.nodes.contains_key(path))
    }

    /// PURE. The latest change of any of the nodes.
    fn changed(&self) -> Zxid {
        let changes = self.nodes.values().map(|leaf| leaf.stat.mzxid.max(leaf.stat.pzxid));
        changes.max().unwrap_or(Zxid::ZERO)
    }

    /// PURE. The value of a node; `None` when it has none.
    fn value(&self, path: &str) -> Result<Option<Value>, Unfit> {
        let Some(leaf) = self.nodes.get(path) else { return Ok(None) };
        if leaf.children.is_empty() {
            return match leaf.data.is_empty() {
                true => Ok(None),
                false => serde_json::from_slice(&leaf.data)
                    .map(Some)
                    .map_err(|error| Unfit { reason: format!("{path}: {error}"), bytes: leaf.data.clone() }),
            };
        }
        let mut fields = Map::new();
        for name in &leaf.children {
            if let Some(value) = self.value(&path::join(path, name))? {
                fields.insert(name.clone(), value);
            }
        }
        Ok(Some(Value::Object(fields)))
    }
}

/// What a look at the tree brought.
enum Looked {
    Whole(Cut),
    Missing,
    TooLarge(usize),
}

/// Follows the tree until the session ends.
pub(crate) async fn in_session<T, C>(shared: &Shared<T, C>, session: &SessionRef) -> Result<(), Error>
where
    T: Send + Sync + 'static,
    C: Decode<T>,
{
    let (mut state, _) = hold::states(session);
    let mut backoff = Backoff::reconnecting();
    let mut watcher = loop {
        let watch = session.watch(&*shared.path, AddWatchMode::PersistentRecursive);
        match following::meanwhile(watch, session, &mut state, |since| shared.stale(since)).await {
            Ok(watcher) => break watcher,
            Err(error) if guarded::may_try_again(&error) => backoff.wait().await,
            Err(error) => return Err(error.into()),
        }
    };
    loop {
        match look(shared, session, &mut state).await {
            Ok(None) => {
                backoff.wait().await;
                continue;
            }
            Ok(Some(looked)) => {
                backoff = Backoff::reconnecting();
                if offer(shared, looked) == Offered::Behind {
                    guarded::synced(session, &shared.path).await?;
                    continue;
                }
                shared.synced();
            }
            Err(error) if guarded::may_try_again(&error) => {
                backoff.wait().await;
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        if wait(shared, session, &mut state, &mut watcher).await {
            return Ok(());
        }
    }
}

/// Reads the whole tree with one request, again until the request names all that its answer lists. `None` when nodes come and go
/// faster than that.
async fn look<T, C>(
    shared: &Shared<T, C>,
    session: &SessionRef,
    state: &mut StateWatch,
) -> Result<Option<Looked>, docent::Error>
where
    T: Send + Sync + 'static,
    C: Decode<T>,
{
    let root = &*shared.path;
    let mut paths = vec![root.to_owned()];
    for _ in 0..LISTS_MAX {
        let both = |path: &String| {
            [ReadOp::GetData { path: path.clone() }, ReadOp::GetChildren { path: path.clone() }]
        };
        let reads = session.multi_read(paths.iter().flat_map(both).collect());
        let results = following::meanwhile(reads, session, state, |since| shared.stale(since)).await?;
        if let Some(MultiResult::Error(code)) = results.first()
            && *code != ErrorCode::NO_NODE
        {
            return Err(docent::Error::Server { op: OpCode::MultiRead, path: root.to_owned(), code: *code });
        }
        let Some(cut) = Cut::read(&paths, results) else { return Ok(Some(Looked::Missing)) };
        let named = cut.paths(root);
        if cut.is_whole(&named) {
            return Ok(Some(Looked::Whole(cut)));
        }
        if named.len() > CONFIG_TREE_NODES_MAX {
            return Ok(Some(Looked::TooLarge(named.len())));
        }
        paths = named;
    }
    Ok(None)
}

fn offer<T, C>(shared: &Shared<T, C>, looked: Looked) -> Offered
where
    T: Send + Sync + 'static,
    C: Decode<T>,
{
    let cut = match looked {
        Looked::Whole(cut) => cut,
        Looked::Missing => {
            shared.missing();
            return Offered::Current;
        }
        Looked::TooLarge(count) => {
            shared.unusable(format!("{count} nodes are more than {CONFIG_TREE_NODES_MAX}").into());
            return Offered::Current;
        }
    };
    let root = cut.nodes.get(&*shared.path).map(|leaf| leaf.stat).unwrap_or_default();
    let stat = Stat { mzxid: cut.changed(), ..root };
    match cut.value(&shared.path) {
        Ok(value) => {
            let bytes = Bytes::from(value.unwrap_or(Value::Object(Map::new())).to_string());
            shared.offer(&bytes, &stat)
        }
        Err(Unfit { reason, bytes }) => shared.take(Err(Arc::from(reason)), &bytes, &stat),
    }
}

/// Waits until the tree has to be read again; true when the session is over.
async fn wait<T, C>(
    shared: &Shared<T, C>,
    session: &SessionRef,
    state: &mut StateWatch,
    watcher: &mut Watcher,
) -> bool
where
    T: Send + Sync + 'static,
    C: Decode<T>,
{
    let mut told = true;
    loop {
        tokio::select! {
            biased;
            now = state.changed() => match fate(&now, session.id()) {
                // A persistent watch tells nothing of what happened meanwhile.
                Fate::Connected => return false,
                Fate::Suspended { since } => shared.stale(since),
                Fate::Ended(_) => return true,
            },
            item = watcher.next(), if told => match item {
                Some(_) => {
                    // What is here already is seen by the same read.
                    while let Some(Some(_)) = watcher.next().now_or_never() {}
                    return false;
                }
                // Its end is that of the session, or of the client, which the state tells.
                None => told = false,
            },
        }
    }
}
