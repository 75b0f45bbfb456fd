//! The operations: their numbers, and one enum each for all requests and all successful replies.

use bytes::{Bytes, BytesMut};

use super::jute::{Decode, DecodeError, Encode, Reader, put_string};
use super::ops::*;
use crate::{Acl, Stat, Version};

macro_rules! op_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        /// The number of an operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        #[repr(i32)]
        pub enum OpCode { $($(#[$doc])* $name = $value,)* }

        impl OpCode {
            /// The operation with this number.
            #[must_use]
            pub const fn from_code(code: i32) -> Option<OpCode> {
                match code { $($value => Some(OpCode::$name),)* _ => None }
            }

            /// The number on the wire.
            #[must_use]
            pub const fn code(self) -> i32 {
                self as i32
            }
        }
    };
}

op_codes! {
    /// Creates a node, answers its path.
    Create = 1,
    /// Deletes a node.
    Delete = 2,
    /// Tells whether a node exists.
    Exists = 3,
    /// Reads data and Stat.
    GetData = 4,
    /// Sets data.
    SetData = 5,
    /// Reads an ACL.
    GetAcl = 6,
    /// Sets an ACL.
    SetAcl = 7,
    /// Lists children.
    GetChildren = 8,
    /// Makes the server catch up with the leader.
    Sync = 9,
    /// Keeps the session alive.
    Ping = 11,
    /// Lists children and reads Stat.
    GetChildren2 = 12,
    /// Checks a version; only within a multi.
    Check = 13,
    /// Several writes, all or none.
    Multi = 14,
    /// Creates a node, answers path and Stat.
    Create2 = 15,
    /// Changes the ensemble.
    Reconfig = 16,
    /// Asks whether a watch is set.
    CheckWatches = 17,
    /// Removes watches.
    RemoveWatches = 18,
    /// Creates a container node.
    CreateContainer = 19,
    /// Deletes a container: the server's own sweep, not for clients.
    DeleteContainer = 20,
    /// Creates a node with a time to live.
    CreateTtl = 21,
    /// Several reads.
    MultiRead = 22,
    /// Adds an identity to the connection.
    Auth = 100,
    /// Sets watches anew after a reconnect.
    SetWatches = 101,
    /// One step of a SASL exchange.
    Sasl = 102,
    /// Lists the session's own ephemeral nodes.
    GetEphemerals = 103,
    /// Counts all descendants.
    GetAllChildrenNumber = 104,
    /// As `SetWatches`, with persistent watches.
    SetWatches2 = 105,
    /// Adds a persistent watch.
    AddWatch = 106,
    /// Lists the connection's identities.
    WhoAmI = 107,
    /// Starts a session: between servers, not for clients.
    CreateSession = -10,
    /// Ends the session.
    CloseSession = -11,
    /// A failed transaction: in logs, not for clients.
    Error = -1,
    /// Lists some of a node's children. Docent's own, and only within a multi-read: a server that does not know it
    /// refuses the multi-read, and the connection stays.
    ChildrenPage = 0x444F_0001,
    /// Deletes a node and all below it. Docent's own, and only as all there is in a multi.
    DeleteRecursive = 0x444F_0002,
}

impl OpCode {
    /// Whether the operation changes the tree or the ensemble. It takes a place in the order of writes, and a client must
    /// not send it twice. Sessions begin and end by operations of their own.
    #[must_use]
    pub const fn is_write(self) -> bool {
        matches!(
            self,
            OpCode::Create
                | OpCode::Create2
                | OpCode::CreateContainer
                | OpCode::CreateTtl
                | OpCode::Delete
                | OpCode::SetData
                | OpCode::SetAcl
                | OpCode::Multi
                | OpCode::Reconfig
        )
    }
}

/// A request's record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant is the operation of the same name in OpCode")]
pub enum Request {
    Create(CreateRequest),
    Delete { path: String, version: Version },
    Exists { path: String, watch: bool },
    GetData { path: String, watch: bool },
    SetData { path: String, data: Option<Bytes>, version: Version },
    GetAcl { path: String },
    SetAcl { path: String, acl: Option<Vec<Acl>>, version: Version },
    GetChildren { path: String, watch: bool },
    GetChildren2 { path: String, watch: bool },
    Sync { path: String },
    Ping,
    Check { path: String, version: Version },
    Multi(Vec<MultiOp>),
    MultiRead(Vec<ReadOp>),
    Reconfig(ReconfigRequest),
    CheckWatches { path: String, kind: WatcherKind },
    RemoveWatches { path: String, kind: WatcherKind },
    Auth(AuthRequest),
    SetWatches(SetWatches),
    SetWatches2(SetWatches),
    Sasl { token: Option<Bytes> },
    GetEphemerals { prefix: String },
    GetAllChildrenNumber { path: String },
    AddWatch { path: String, mode: AddWatchMode },
    WhoAmI,
    CloseSession,
}

impl Request {
    /// The operation.
    #[must_use]
    pub fn op(&self) -> OpCode {
        match self {
            Request::Create(create) => create.kind.op(),
            Request::Delete { .. } => OpCode::Delete,
            Request::Exists { .. } => OpCode::Exists,
            Request::GetData { .. } => OpCode::GetData,
            Request::SetData { .. } => OpCode::SetData,
            Request::GetAcl { .. } => OpCode::GetAcl,
            Request::SetAcl { .. } => OpCode::SetAcl,
            Request::GetChildren { .. } => OpCode::GetChildren,
            Request::GetChildren2 { .. } => OpCode::GetChildren2,
            Request::Sync { .. } => OpCode::Sync,
            Request::Ping => OpCode::Ping,
            Request::Check { .. } => OpCode::Check,
            Request::Multi(_) => OpCode::Multi,
            Request::MultiRead(_) => OpCode::MultiRead,
            Request::Reconfig(_) => OpCode::Reconfig,
            Request::CheckWatches { .. } => OpCode::CheckWatches,
            Request::RemoveWatches { .. } => OpCode::RemoveWatches,
            Request::Auth(_) => OpCode::Auth,
            Request::SetWatches(_) => OpCode::SetWatches,
            Request::SetWatches2(_) => OpCode::SetWatches2,
            Request::Sasl { .. } => OpCode::Sasl,
            Request::GetEphemerals { .. } => OpCode::GetEphemerals,
            Request::GetAllChildrenNumber { .. } => OpCode::GetAllChildrenNumber,
            Request::AddWatch { .. } => OpCode::AddWatch,
            Request::WhoAmI => OpCode::WhoAmI,
            Request::CloseSession => OpCode::CloseSession,
        }
    }

    /// Reads the record of an operation; `None` for operations that clients may not ask for. Bytes after the
    /// record are ignored, as Apache does.
    ///
    /// # Errors
    /// The bytes are not the record of this operation.
    pub fn decode(op: OpCode, input: &mut Reader) -> Result<Option<Request>, DecodeError> {
        Ok(Some(match op {
            OpCode::Create => Request::Create(CreateRequest::decode(CreateKind::Create, input)?),
            OpCode::Create2 => Request::Create(CreateRequest::decode(CreateKind::Create2, input)?),
            OpCode::CreateContainer => Request::Create(CreateRequest::decode(CreateKind::Container, input)?),
            OpCode::CreateTtl => Request::Create(CreateRequest::decode(CreateKind::Ttl, input)?),
            OpCode::Delete => Request::Delete { path: input.string()?, version: Version(input.int()?) },
            OpCode::Exists => Request::Exists { path: input.string()?, watch: input.bool()? },
            OpCode::GetData => Request::GetData { path: input.string()?, watch: input.bool()? },
            // Where Apache judges the whole path before it looks for its parent, null is a path like any other bad one.
            OpCode::SetData => Request::SetData {
                path: input.string_or_empty()?,
                data: input.buffer()?,
                version: Version(input.int()?),
            },
            OpCode::GetAcl => Request::GetAcl { path: input.string()? },
            OpCode::SetAcl => Request::SetAcl {
                path: input.string_or_empty()?,
                acl: decode_acl_list(input)?,
                version: Version(input.int()?),
            },
            OpCode::GetChildren => Request::GetChildren { path: input.string()?, watch: input.bool()? },
            OpCode::GetChildren2 => Request::GetChildren2 { path: input.string()?, watch: input.bool()? },
            OpCode::Sync => Request::Sync { path: input.string()? },
            OpCode::Ping => Request::Ping,
            OpCode::Check => Request::Check { path: input.string()?, version: Version(input.int()?) },
            OpCode::Multi => Request::Multi(decode_multi(input)?),
            OpCode::MultiRead => Request::MultiRead(decode_multi_read(input)?),
            OpCode::Reconfig => Request::Reconfig(ReconfigRequest::decode(input)?),
            OpCode::CheckWatches => {
                Request::CheckWatches { path: input.string()?, kind: WatcherKind::decode(input)? }
            }
            OpCode::RemoveWatches => {
                Request::RemoveWatches { path: input.string()?, kind: WatcherKind::decode(input)? }
            }
            OpCode::Auth => Request::Auth(AuthRequest::decode(input)?),
            OpCode::SetWatches => Request::SetWatches(SetWatches::decode_old(input)?),
            OpCode::SetWatches2 => Request::SetWatches2(SetWatches::decode_new(input)?),
            OpCode::Sasl => Request::Sasl { token: input.buffer()? },
            OpCode::GetEphemerals => Request::GetEphemerals { prefix: input.string_or_empty()? },
            OpCode::GetAllChildrenNumber => Request::GetAllChildrenNumber { path: input.string()? },
            OpCode::AddWatch => {
                Request::AddWatch { path: input.string()?, mode: AddWatchMode::decode(input)? }
            }
            OpCode::WhoAmI => Request::WhoAmI,
            OpCode::CloseSession => Request::CloseSession,
            OpCode::DeleteContainer
            | OpCode::CreateSession
            | OpCode::Error
            | OpCode::ChildrenPage
            | OpCode::DeleteRecursive => return Ok(None),
        }))
    }
}

impl Encode for Request {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Request::Create(create) => create.encode(out),
            Request::Delete { path, version } | Request::Check { path, version } => {
                encode_path_version(path, *version, out);
            }
            Request::Exists { path, watch }
            | Request::GetData { path, watch }
            | Request::GetChildren { path, watch }
            | Request::GetChildren2 { path, watch } => encode_path_watch(path, *watch, out),
            Request::SetData { path, data, version } => {
                encode_set_data(path, data.as_deref(), *version, out);
            }
            Request::GetAcl { path }
            | Request::Sync { path }
            | Request::GetEphemerals { prefix: path }
            | Request::GetAllChildrenNumber { path } => put_string(out, path),
            Request::SetAcl { path, acl, version } => encode_set_acl(path, acl.as_deref(), *version, out),
            Request::Ping | Request::WhoAmI | Request::CloseSession => {}
            Request::Multi(ops) => encode_multi(ops, out),
            Request::MultiRead(ops) => encode_multi_read(ops, out),
            Request::Reconfig(reconfig) => reconfig.encode(out),
            Request::CheckWatches { path, kind } | Request::RemoveWatches { path, kind } => {
                put_string(out, path);
                kind.encode(out);
            }
            Request::Auth(auth) => auth.encode(out),
            Request::SetWatches(watches) => watches.encode_old(out),
            Request::SetWatches2(watches) => watches.encode_new(out),
            Request::Sasl { token } => super::jute::put_buffer(out, token.as_deref()),
            Request::AddWatch { path, mode } => {
                put_string(out, path);
                mode.encode(out);
            }
        }
    }
}

/// The record behind a reply header whose error is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Response {
    /// Nothing: the header is all.
    Empty,
    /// A path: `create`, `sync`.
    Path(String),
    /// Path and Stat: `create2` and the other creates.
    Created {
        /// The final path.
        path: String,
        /// The new node.
        stat: Stat,
    },
    /// A Stat: `exists`, `setData`, `setACL`.
    Stat(Stat),
    /// Data and Stat: `getData`, `reconfig`.
    Data {
        /// The data, or null.
        data: Option<Bytes>,
        /// The node.
        stat: Stat,
    },
    /// ACL and Stat: `getACL`.
    Acl {
        /// The entries.
        acl: Vec<Acl>,
        /// The node.
        stat: Stat,
    },
    /// Names or paths: `getChildren`, `getEphemerals`.
    Names(Vec<String>),
    /// Children and Stat: `getChildren2`.
    Children {
        /// Names in no order that a client may rely on.
        names: Vec<String>,
        /// The parent.
        stat: Stat,
    },
    /// The results of a multi or multi-read.
    Multi(Vec<MultiResult>),
    /// A number: `getAllChildrenNumber`, and the zero of `addWatch`.
    Number(i32),
    /// Identities: `whoAmI`.
    Identities(Vec<ClientInfo>),
    /// A SASL token.
    Token(Option<Bytes>),
}

impl Response {
    /// Reads the record that answers an operation.
    ///
    /// # Errors
    /// The bytes are not such a record.
    pub fn decode(op: OpCode, input: &mut Reader) -> Result<Response, DecodeError> {
        Ok(match op {
            OpCode::Create | OpCode::Sync => Response::Path(input.string_or_empty()?),
            OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
                Response::Created { path: input.string()?, stat: Stat::decode(input)? }
            }
            OpCode::Exists | OpCode::SetData | OpCode::SetAcl => Response::Stat(Stat::decode(input)?),
            OpCode::GetData | OpCode::Reconfig => {
                Response::Data { data: input.buffer()?, stat: Stat::decode(input)? }
            }
            OpCode::GetAcl => {
                Response::Acl { acl: decode_acl_list(input)?.unwrap_or_default(), stat: Stat::decode(input)? }
            }
            OpCode::GetChildren | OpCode::GetEphemerals => Response::Names(decode_names(input)?),
            OpCode::GetChildren2 => {
                Response::Children { names: decode_names(input)?, stat: Stat::decode(input)? }
            }
            OpCode::Multi | OpCode::MultiRead => Response::Multi(decode_multi_results(input)?),
            OpCode::GetAllChildrenNumber => Response::Number(input.int()?),
            // Servers before 3.6 answer without the number.
            OpCode::AddWatch => Response::Number(if input.remaining() > 0 { input.int()? } else { 0 }),
            OpCode::WhoAmI => Response::Identities(ClientInfo::decode_list(input)?),
            OpCode::Sasl => Response::Token(input.buffer()?),
            _ => Response::Empty,
        })
    }
}

impl Encode for Response {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Response::Empty => {}
            Response::Path(path) => put_string(out, path),
            Response::Created { path, stat } => {
                put_string(out, path);
                stat.encode(out);
            }
            Response::Stat(stat) => stat.encode(out),
            Response::Data { data, stat } => {
                super::jute::put_buffer(out, data.as_deref());
                stat.encode(out);
            }
            Response::Acl { acl, stat } => {
                encode_acl_list(Some(acl), out);
                stat.encode(out);
            }
            Response::Names(names) => encode_names(names, out),
            Response::Children { names, stat } => {
                encode_names(names, out);
                stat.encode(out);
            }
            Response::Multi(results) => encode_multi_results(results, out),
            Response::Number(number) => bytes::BufMut::put_i32(out, *number),
            Response::Identities(list) => ClientInfo::encode_list(list, out),
            Response::Token(token) => super::jute::put_buffer(out, token.as_deref()),
        }
    }
}
