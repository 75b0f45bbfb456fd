//! The verbs of the protocol.
//!
//! A request is encoded and queued within the call, so calls made one after the other are sent in that order,
//! whether or not their replies are awaited.

use bytes::{Bytes, BytesMut};

use super::Client;
use super::error::Error;
use super::handle::NewWatch;
use super::pending::Answer;
use super::reply::{Call, Finish, Reply};
use super::watcher::{OneshotWatch, Watcher};
use super::watches::WatchKind;
use crate::proto::jute::{Decode, DecodeError, Encode, put_string};
use crate::proto::ops::{
    decode_acl_list, decode_names, encode_path_version, encode_path_watch, encode_set_acl, encode_set_data,
};
use crate::proto::{AddWatchMode, ClientInfo, OpCode, ReconfigRequest, Request, WatcherKind};
use crate::{Acl, ErrorCode, Stat, Version};

/// The node that holds the ensemble's configuration.
const CONFIG_NODE: &str = "/zookeeper/config";

/// Data up to this size is copied out of the frame it came in, bytes. A larger value keeps its network buffer
/// alive instead, which then is mostly the value itself.
const COPY_MAX: usize = 8 << 10;

/// Data and Stat of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeData {
    /// The data, or null, which is not the same as empty.
    pub data: Option<Bytes>,
    /// The node.
    pub stat: Stat,
}

impl NodeData {
    /// The data; null as empty.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.data.clone().unwrap_or_default()
    }
}

/// The children of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Children {
    /// Their names, sorted.
    pub names: Vec<String>,
    /// The parent.
    pub stat: Stat,
}

fn nothing(call: Call, answer: Answer) -> Result<(), Error> {
    call.read(answer, |_, _| Ok(()))
}

fn stat(call: Call, answer: Answer) -> Result<Stat, Error> {
    call.read(answer, |_, input| Stat::decode(input))
}

fn node_data(call: &Call, answer: Answer) -> Result<NodeData, Error> {
    call.read(answer, |_, input| {
        let data = input
            .buffer()?
            .map(|data| if data.len() <= COPY_MAX { Bytes::copy_from_slice(&data) } else { data });
        Ok(NodeData { data, stat: Stat::decode(input)? })
    })
}

fn maybe_stat(call: &Call, answer: Answer) -> Result<Option<Stat>, Error> {
    if answer.error == ErrorCode::NO_NODE {
        return Ok(None);
    }
    call.read(answer, |_, input| Stat::decode(input).map(Some))
}

fn children(call: &Call, answer: Answer) -> Result<Children, Error> {
    call.read(answer, |_, input| {
        let mut names = decode_names(input)?;
        names.sort_unstable();
        Ok(Children { names, stat: Stat::decode(input)? })
    })
}

impl Client {
    /// Queues a request whose record `encode` writes, about `size` bytes.
    pub(super) fn submit<T>(
        &self,
        op: OpCode,
        size: usize,
        encode: impl FnOnce(&mut BytesMut),
        decode: Finish<T>,
    ) -> Reply<T> {
        let mut body = BytesMut::with_capacity(size);
        encode(&mut body);
        let call = Call::new(op, body.freeze(), self.namespace().clone());
        self.queue(call, None, decode)
    }

    fn queue<T>(&self, call: Call, watch: Option<NewWatch>, decode: Finish<T>) -> Reply<T> {
        match self.handle().submit(call.op, call.body.clone(), self.pin(), watch) {
            Ok(receiver) => Reply::waiting(receiver, call, decode),
            Err(error) => Reply::failed(error),
        }
    }

    /// Queues a request whose record begins with a path.
    fn submit_path<T>(
        &self,
        op: OpCode,
        path: &str,
        more: usize,
        encode: impl FnOnce(&str, &mut BytesMut),
        decode: Finish<T>,
    ) -> Reply<T> {
        match self.namespace().absolute(path) {
            Ok(path) => self.submit(op, path.len() + 4 + more, |out| encode(&path, out), decode),
            Err(error) => Reply::failed(error),
        }
    }

    fn read_path<T>(&self, op: OpCode, path: &str, decode: Finish<T>) -> Reply<T> {
        self.submit_path(op, path, 1, |path, out| encode_path_watch(path, false, out), decode)
    }

    fn read_and_watch<T>(&self, op: OpCode, path: &str, kind: WatchKind, decode: Finish<T>) -> Reply<T> {
        let path = match self.namespace().absolute(path) {
            Ok(path) => path,
            Err(error) => return Reply::failed(error),
        };
        let mut body = BytesMut::with_capacity(path.len() + 5);
        encode_path_watch(&path, true, &mut body);
        let (watch, oneshot) = NewWatch::oneshot(self.handle(), self.namespace(), kind);
        let call = Call { oneshot: Some(oneshot), ..Call::new(op, body.freeze(), self.namespace().clone()) };
        self.queue(call, Some(watch), decode)
    }

    /// Deletes a node, if it has no children and, unless `version` is [`Version::ANY`], this version.
    ///
    /// # Errors
    /// Of the reply: `NO_NODE`, `BAD_VERSION`, `NOT_EMPTY`, `NO_AUTH`; else as [`Client::create`].
    pub fn delete(&self, path: impl AsRef<str>, version: impl Into<Version>) -> Reply<()> {
        let version = version.into();
        self.submit_path(
            OpCode::Delete,
            path.as_ref(),
            4,
            |path, out| encode_path_version(path, version, out),
            nothing,
        )
    }

    /// Sets a node's data, if it has this version, and returns its new Stat.
    ///
    /// # Errors
    /// Of the reply: `NO_NODE`, `BAD_VERSION`, `NO_AUTH`; else as [`Client::create`].
    pub fn set_data(
        &self,
        path: impl AsRef<str>,
        data: impl Into<Bytes>,
        version: impl Into<Version>,
    ) -> Reply<Stat> {
        self.set(path.as_ref(), Some(data.into()), version.into())
    }

    /// As [`Client::set_data`]; the data becomes null, which is not the same as empty.
    ///
    /// # Errors
    /// As [`Client::set_data`].
    pub fn set_null_data(&self, path: impl AsRef<str>, version: impl Into<Version>) -> Reply<Stat> {
        self.set(path.as_ref(), None, version.into())
    }

    fn set(&self, path: &str, data: Option<Bytes>, version: Version) -> Reply<Stat> {
        let more = data.as_ref().map_or(0, Bytes::len) + 8;
        self.submit_path(
            OpCode::SetData,
            path,
            more,
            |path, out| encode_set_data(path, data.as_deref(), version, out),
            stat,
        )
    }

    /// Sets a node's ACL, if its ACL has this version, and returns its new Stat.
    ///
    /// # Errors
    /// Of the reply: `NO_NODE`, `BAD_VERSION`, `NO_AUTH`, `INVALID_ACL`; else as [`Client::create`].
    pub fn set_acl(&self, path: impl AsRef<str>, acl: Vec<Acl>, aversion: impl Into<Version>) -> Reply<Stat> {
        let version = aversion.into();
        self.submit_path(
            OpCode::SetAcl,
            path.as_ref(),
            64,
            |path, out| encode_set_acl(path, Some(&acl), version, out),
            stat,
        )
    }

    /// Changes the ensemble and returns its new configuration.
    ///
    /// # Errors
    /// Of the reply: `RECONFIG_DISABLED`, `NO_AUTH`, `BAD_VERSION`, `BAD_ARGUMENTS`, `NEW_CONFIG_NO_QUORUM`,
    /// `RECONFIG_IN_PROGRESS`, `UNIMPLEMENTED` on a standalone server; else as [`Client::create`].
    pub fn reconfig(&self, change: ReconfigRequest) -> Reply<NodeData> {
        self.submit(
            OpCode::Reconfig,
            256,
            |out| Request::Reconfig(change).encode(out),
            |call, answer| node_data(&call, answer),
        )
    }

    /// The node's Stat, or `None` when it does not exist.
    ///
    /// # Errors
    /// Of the reply: `NO_AUTH` on some servers; else as [`Client::get_data`].
    pub fn exists(&self, path: impl AsRef<str>) -> Reply<Option<Stat>> {
        self.read_path(OpCode::Exists, path.as_ref(), |call, answer| maybe_stat(&call, answer))
    }

    /// As [`Client::exists`], and a watch for the node's creation, deletion or next change of data.
    ///
    /// # Errors
    /// As [`Client::exists`]; then there is no watch.
    pub fn exists_and_watch(&self, path: impl AsRef<str>) -> Reply<(Option<Stat>, OneshotWatch)> {
        self.read_and_watch(OpCode::Exists, path.as_ref(), WatchKind::Exists, |mut call, answer| {
            let stat = maybe_stat(&call, answer)?;
            Ok((stat, call.take_oneshot()?))
        })
    }

    /// Data and Stat of a node.
    ///
    /// # Errors
    /// Of the reply: `NO_NODE`, `NO_AUTH`; [`Error::ConnectionLoss`] when the connection broke and the retry
    /// budget is used up, [`Error::SessionEnded`] for pinned handles, [`Error::InvalidPath`],
    /// [`Error::TooManyRequests`], [`Error::Closed`].
    pub fn get_data(&self, path: impl AsRef<str>) -> Reply<NodeData> {
        self.read_path(OpCode::GetData, path.as_ref(), |call, answer| node_data(&call, answer))
    }

    /// As [`Client::get_data`], and a watch for the node's deletion or next change of data.
    ///
    /// # Errors
    /// As [`Client::get_data`]; then there is no watch.
    pub fn get_data_and_watch(&self, path: impl AsRef<str>) -> Reply<(NodeData, OneshotWatch)> {
        self.read_and_watch(OpCode::GetData, path.as_ref(), WatchKind::Data, |mut call, answer| {
            let data = node_data(&call, answer)?;
            Ok((data, call.take_oneshot()?))
        })
    }

    /// The names of a node's children, sorted, and the node's Stat.
    ///
    /// # Errors
    /// As [`Client::get_data`].
    pub fn get_children(&self, path: impl AsRef<str>) -> Reply<Children> {
        self.read_path(OpCode::GetChildren2, path.as_ref(), |call, answer| children(&call, answer))
    }

    /// As [`Client::get_children`], and a watch for the node's deletion or the next child that comes or goes.
    ///
    /// # Errors
    /// As [`Client::get_data`]; then there is no watch.
    pub fn get_children_and_watch(&self, path: impl AsRef<str>) -> Reply<(Children, OneshotWatch)> {
        self.read_and_watch(OpCode::GetChildren2, path.as_ref(), WatchKind::Child, |mut call, answer| {
            let children = children(&call, answer)?;
            Ok((children, call.take_oneshot()?))
        })
    }

    /// ACL and Stat of a node.
    ///
    /// # Errors
    /// As [`Client::get_data`].
    pub fn get_acl(&self, path: impl AsRef<str>) -> Reply<(Vec<Acl>, Stat)> {
        self.submit_path(
            OpCode::GetAcl,
            path.as_ref(),
            0,
            |path, out| put_string(out, path),
            |call, answer| {
                call.read(answer, |_, input| {
                    Ok((decode_acl_list(input)?.unwrap_or_default(), Stat::decode(input)?))
                })
            },
        )
    }

    /// The paths of this session's ephemeral nodes that begin with `prefix`, sorted.
    ///
    /// # Errors
    /// As [`Client::get_data`], but a prefix need not exist.
    pub fn get_ephemerals(&self, prefix: impl AsRef<str>) -> Reply<Vec<String>> {
        self.submit_path(
            OpCode::GetEphemerals,
            prefix.as_ref(),
            0,
            |path, out| put_string(out, path),
            |call, answer| {
                call.read(answer, |call, input| {
                    let mut paths = decode_names(input)?;
                    // The server compares text, so a namespace matches longer names beside it too.
                    paths.retain(|path| call.namespace().contains(path));
                    let mut paths: Vec<String> =
                        paths.into_iter().map(|path| call.namespace().strip(path)).collect();
                    paths.sort_unstable();
                    Ok(paths)
                })
            },
        )
    }

    /// How many nodes there are below a node, at all depths.
    ///
    /// # Errors
    /// As [`Client::get_data`].
    pub fn get_all_children_number(&self, path: impl AsRef<str>) -> Reply<u32> {
        self.submit_path(
            OpCode::GetAllChildrenNumber,
            path.as_ref(),
            0,
            |path, out| put_string(out, path),
            |call, answer| {
                call.read(answer, |_, input| {
                    let number = input.int()?;
                    u32::try_from(number)
                        .map_err(|_| DecodeError::BadValue { what: "number of nodes", value: number.into() })
                })
            },
        )
    }

    /// The identities that the connection has.
    ///
    /// # Errors
    /// Of the reply: `UNIMPLEMENTED` from servers before 3.7; else as [`Client::get_data`].
    pub fn who_am_i(&self) -> Reply<Vec<ClientInfo>> {
        self.submit(
            OpCode::WhoAmI,
            0,
            |_| {},
            |call, answer| call.read(answer, |_, input| ClientInfo::decode_list(input)),
        )
    }

    /// The ensemble's configuration, from outside of any namespace.
    ///
    /// # Errors
    /// As [`Client::get_data`].
    pub fn get_config(&self) -> Reply<NodeData> {
        self.submit(
            OpCode::GetData,
            CONFIG_NODE.len() + 5,
            |out| encode_path_watch(CONFIG_NODE, false, out),
            |call, answer| node_data(&call, answer),
        )
    }

    /// Makes the server catch up with the leader: a read queued after it sees every write that was acknowledged
    /// to anybody before this call. The path need not exist.
    ///
    /// # Errors
    /// As [`Client::get_data`].
    pub fn sync(&self, path: impl AsRef<str>) -> Reply<()> {
        self.submit_path(OpCode::Sync, path.as_ref(), 0, |path, out| put_string(out, path), nothing)
    }

    /// Sets a persistent watch. It stays until the [`Watcher`] is dropped, over reconnects and, unless this is a
    /// [`SessionRef`](super::SessionRef), over sessions.
    ///
    /// # Errors
    /// Of the reply: `UNIMPLEMENTED` from servers before 3.6; else as [`Client::get_data`]. The path need not
    /// exist.
    pub fn watch(&self, path: impl AsRef<str>, mode: AddWatchMode) -> Reply<Watcher> {
        let path = match self.namespace().absolute(path.as_ref()) {
            Ok(path) => path,
            Err(error) => return Reply::failed(error),
        };
        let mut body = BytesMut::with_capacity(path.len() + 8);
        Request::AddWatch { path: path.clone().into_owned(), mode }.encode(&mut body);
        let kind = match mode {
            AddWatchMode::Persistent => WatchKind::Persistent,
            AddWatchMode::PersistentRecursive => WatchKind::Recursive,
        };
        let (watch, watcher) = NewWatch::stream(self.handle(), self.namespace(), kind);
        let call = Call::new(OpCode::AddWatch, body.freeze(), self.namespace().clone());
        let call = Call { watcher: Some(watcher), ..call };
        self.queue(call, Some(watch), |mut call, answer| {
            call.read(answer, |_, _| Ok(()))?;
            call.watcher.take().ok_or(Error::Closed)
        })
    }

    /// Asks the server whether the session has such a watch.
    ///
    /// # Errors
    /// Of the reply: `NO_WATCHER` when it has none; else as [`Client::get_data`].
    pub fn check_watches(&self, path: impl AsRef<str>, kind: WatcherKind) -> Reply<()> {
        self.submit_path(
            OpCode::CheckWatches,
            path.as_ref(),
            4,
            |path, out| Request::CheckWatches { path: path.to_owned(), kind }.encode(out),
            nothing,
        )
    }

    /// Removes all watches of a kind that this client, with all its handles, has on a path. Their futures fail
    /// with [`Error::WatchRemoved`], their streams end.
    ///
    /// # Errors
    /// Of the reply: `NO_WATCHER` when there is none; else as [`Client::get_data`].
    pub fn remove_watches(&self, path: impl AsRef<str>, kind: WatcherKind) -> Reply<()> {
        self.submit_path(
            OpCode::RemoveWatches,
            path.as_ref(),
            4,
            |path, out| Request::RemoveWatches { path: path.to_owned(), kind }.encode(out),
            nothing,
        )
    }

    /// Gives the connection one more identity, now and after each reconnect.
    ///
    /// # Errors
    /// Of the reply: [`Error::AuthFailed`] when the server refuses, and then the client is closed; else as
    /// [`Client::get_data`].
    pub fn add_auth(&self, scheme: impl Into<String>, auth: impl Into<Bytes>) -> Reply<()> {
        let call = Call::new(OpCode::Auth, Bytes::new(), self.namespace().clone());
        match self.handle().add_auth(scheme.into(), auth.into()) {
            Ok(receiver) => Reply::waiting(receiver, call, nothing),
            Err(error) => Reply::failed(error),
        }
    }
}
