//! Creating nodes: the modes, the builder, and missing ancestors.

use std::future::IntoFuture;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::error::Error;
use super::pending::Answer;
use super::reply::Call;
use super::{Client, Reply};
use crate::path;
use crate::proto::jute::{Decode, Reader};
use crate::proto::ops::MAX_TTL_MS;
use crate::proto::{CreateFlags, CreateKind, CreateRequest};
use crate::{Acl, ErrorCode, Stat, Zxid};

/// What kind of node a create makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CreateMode {
    /// Stays until it is deleted.
    #[default]
    Persistent,
    /// Stays; the server appends a number to the name.
    PersistentSequential,
    /// Ends with the session.
    Ephemeral,
    /// Ends with the session; the server appends a number to the name.
    EphemeralSequential,
    /// Goes some time after its last child has gone.
    Container,
    /// Goes when it has no children and was not set for so long. Servers must have extended types switched on.
    Ttl(Duration),
    /// As `Ttl`; the server appends a number to the name.
    TtlSequential(Duration),
}

impl CreateMode {
    /// The same kind of node with a number appended. Containers have no such form and stay as they are.
    #[must_use]
    pub const fn sequential(self) -> Self {
        match self {
            CreateMode::Persistent => CreateMode::PersistentSequential,
            CreateMode::Ephemeral => CreateMode::EphemeralSequential,
            CreateMode::Ttl(ttl) => CreateMode::TtlSequential(ttl),
            other => other,
        }
    }

    /// Whether the server appends a number to the name.
    #[must_use]
    pub const fn is_sequential(self) -> bool {
        self.flags().is_sequential()
    }

    /// Whether the node ends with the session.
    #[must_use]
    pub const fn is_ephemeral(self) -> bool {
        self.flags().is_ephemeral()
    }

    const fn flags(self) -> CreateFlags {
        match self {
            CreateMode::Persistent => CreateFlags::PERSISTENT,
            CreateMode::PersistentSequential => CreateFlags::PERSISTENT_SEQUENTIAL,
            CreateMode::Ephemeral => CreateFlags::EPHEMERAL,
            CreateMode::EphemeralSequential => CreateFlags::EPHEMERAL_SEQUENTIAL,
            CreateMode::Container => CreateFlags::CONTAINER,
            CreateMode::Ttl(_) => CreateFlags::TTL,
            CreateMode::TtlSequential(_) => CreateFlags::TTL_SEQUENTIAL,
        }
    }

    const fn kind(self) -> CreateKind {
        match self {
            CreateMode::Container => CreateKind::Container,
            CreateMode::Ttl(_) | CreateMode::TtlSequential(_) => CreateKind::Ttl,
            _ => CreateKind::Create2,
        }
    }

    fn ttl_ms(self) -> Result<i64, Error> {
        let (CreateMode::Ttl(ttl) | CreateMode::TtlSequential(ttl)) = self else { return Ok(0) };
        match i64::try_from(ttl.as_millis()) {
            Ok(ms @ 1..=MAX_TTL_MS) => Ok(ms),
            _ => Err(Error::InvalidArgument(format!(
                "a time to live must be from 1 ms to {MAX_TTL_MS} ms, not {ttl:?}"
            ))),
        }
    }

    /// The record of a create in this mode. `path` is absolute and checked.
    pub(super) fn request(
        self,
        path: impl Into<String>,
        data: Option<Bytes>,
        acl: Vec<Acl>,
    ) -> Result<CreateRequest, Error> {
        Ok(CreateRequest {
            kind: self.kind(),
            path: path.into(),
            data,
            acl: Some(acl),
            flags: self.flags(),
            ttl_ms: self.ttl_ms()?,
        })
    }
}

/// What a create made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Created {
    /// The final path, with the number of a sequential node.
    pub path: String,
    /// The new node; `None` from servers that answer only the path.
    pub stat: Option<Stat>,
    /// The transaction.
    pub zxid: Zxid,
}

/// How [`Client::create_parents`] makes missing ancestors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParentMode {
    /// As containers, which the server removes when they are empty again; as persistent nodes on servers
    /// without containers.
    #[default]
    Container,
    /// As persistent nodes.
    Persistent,
}

/// A create that is not sent yet: made by [`Client::create`], sent by [`CreateBuilder::send`] or `.await`.
#[must_use = "nothing is sent before send() or .await"]
#[derive(Clone, Debug)]
pub struct CreateBuilder {
    client: Client,
    path: String,
    data: Option<Bytes>,
    mode: CreateMode,
    acl: Option<Vec<Acl>>,
}

impl CreateBuilder {
    /// The kind of node; [`CreateMode::Persistent`] if not said.
    pub fn mode(mut self, mode: CreateMode) -> Self {
        self.mode = mode;
        self
    }

    /// The node ends with the session.
    pub fn ephemeral(mut self) -> Self {
        self.mode =
            if self.mode.is_sequential() { CreateMode::EphemeralSequential } else { CreateMode::Ephemeral };
        self
    }

    /// The server appends a number to the name.
    pub fn sequential(mut self) -> Self {
        self.mode = self.mode.sequential();
        self
    }

    /// The node goes some time after its last child has gone.
    pub fn container(self) -> Self {
        self.mode(CreateMode::Container)
    }

    /// The node goes when it has no children and was not set for so long.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.mode =
            if self.mode.is_sequential() { CreateMode::TtlSequential(ttl) } else { CreateMode::Ttl(ttl) };
        self
    }

    /// The access control list; the client's default if not said.
    pub fn acl(mut self, acl: Vec<Acl>) -> Self {
        self.acl = Some(acl);
        self
    }

    /// The node's data is null, which is not the same as empty.
    pub fn null_data(mut self) -> Self {
        self.data = None;
        self
    }

    /// Queues the request now; the reply only waits.
    ///
    /// # Errors
    /// The reply fails as [`Client::create`] says.
    pub fn send(self) -> Reply<Created> {
        let CreateBuilder { client, path, data, mode, acl } = self;
        let request = client
            .absolute_for(&path, mode)
            .and_then(|path| mode.request(path, data, acl.unwrap_or_else(|| client.default_acl())));
        match request {
            Ok(request) => client.submit(
                request.kind.op(),
                request.path.len() + request.data.as_ref().map_or(0, Bytes::len) + 64,
                |out: &mut BytesMut| request.encode(out),
                created,
            ),
            Err(error) => Reply::failed(error),
        }
    }
}

impl IntoFuture for CreateBuilder {
    type Output = Result<Created, Error>;
    type IntoFuture = Reply<Created>;

    fn into_future(self) -> Reply<Created> {
        self.send()
    }
}

fn created(call: Call, answer: Answer) -> Result<Created, Error> {
    let zxid = answer.zxid;
    call.read(answer, |call, input: &mut Reader| {
        let path = call.namespace().strip(input.string()?);
        let stat = if input.remaining() > 0 { Some(Stat::decode(input)?) } else { None };
        Ok(Created { path, stat, zxid })
    })
}

impl Client {
    /// Starts a create. Nothing is sent before [`CreateBuilder::send`] or `.await`; without further words the
    /// node is persistent and has the client's default ACL.
    ///
    /// # Errors
    /// Of the reply: the server's refusal (`NO_NODE` without parent, `NODE_EXISTS`, `NO_AUTH`, …),
    /// [`Error::ConnectionLoss`], [`Error::SessionEnded`] for pinned handles, [`Error::InvalidPath`],
    /// [`Error::InvalidArgument`], [`Error::TooManyRequests`], [`Error::Closed`].
    pub fn create(&self, path: impl AsRef<str>, data: impl Into<Bytes>) -> CreateBuilder {
        CreateBuilder {
            client: self.clone(),
            path: path.as_ref().to_owned(),
            data: Some(data.into()),
            mode: CreateMode::Persistent,
            acl: None,
        }
    }

    /// Makes every ancestor of `path` that is missing, but not `path` itself. Ancestors get empty data and the
    /// client's default ACL. An ancestor that vanishes meanwhile (an empty container may) is made again.
    ///
    /// # Errors
    /// As [`Client::create`]; [`Error::Timeout`] when ancestors keep vanishing.
    ///
    /// # Cancel safety
    /// Ancestors that were made stay.
    pub async fn create_parents(&self, path: impl AsRef<str> + Send, mode: ParentMode) -> Result<(), Error> {
        /// Creates that one call may send beyond one for each ancestor; more means that somebody keeps deleting.
        const EXTRA_CREATES_MAX: usize = 64;
        let path = path.as_ref().to_owned();
        path::validate(&path)?;
        let mut mode = match mode {
            ParentMode::Container => CreateMode::Container,
            ParentMode::Persistent => CreateMode::Persistent,
        };
        let Some(parent) = path::parent(&path) else { return Ok(()) };
        let mut missing = vec![parent];
        let mut left = EXTRA_CREATES_MAX + path.matches('/').count();
        while let Some(ancestor) = missing.last().copied() {
            if ancestor == "/" && self.chroot() == "/" {
                missing.pop();
                continue;
            }
            if left == 0 {
                return Err(Error::Timeout { what: "creating ancestors that somebody keeps deleting" });
            }
            left -= 1;
            match self.create(ancestor, Bytes::new()).mode(mode).await {
                Ok(_) => {
                    missing.pop();
                }
                Err(error) => match (error.code(), path::parent(ancestor)) {
                    (Some(ErrorCode::NODE_EXISTS), _) => {
                        missing.pop();
                    }
                    (Some(ErrorCode::NO_NODE), Some(above)) => missing.push(above),
                    (Some(ErrorCode::UNIMPLEMENTED), _) if mode == CreateMode::Container => {
                        mode = CreateMode::Persistent;
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }
}
