//! The wire in prose: which bytes, which file.
//!
//! Both directions carry *frames* ([`frame`]): a length and that many bytes. The first frame of a connection is a
//! [`connect::ConnectRequest`], answered by a [`connect::ConnectResponse`]; neither has a header. After that a
//! client sends a [`header::RequestHeader`] and the record of one operation ([`ops`], listed in [`op`]), and the
//! server answers with a [`header::ReplyHeader`] and a record, in the order of the requests. A reply header with
//! the xid −1 announces a [`event::WatcherEvent`]. Values inside a record are encoded as [`jute`] says.
//!
//! Everything here only computes: there is no socket. Decoding takes any bytes and answers with an error, not a
//! panic. What the records mean is said by the client and the server.

pub mod connect;
pub mod event;
pub mod frame;
pub mod header;
pub mod jute;
pub mod op;
pub mod ops;
mod shared;

pub use connect::{ConnectRequest, ConnectResponse, PASSWORD_LENGTH, session_password};
pub use event::{EventType, KeeperState, WatcherEvent};
pub use header::{ReplyHeader, RequestHeader};
pub use jute::{Decode, DecodeError, Encode, Reader};
pub use op::{OpCode, Request, Response};
pub use ops::{
    AddWatchMode, ClientInfo, CreateFlags, CreateKind, CreateRequest, MultiOp, MultiResult, ReconfigRequest,
    SetWatches, WatcherKind,
};
