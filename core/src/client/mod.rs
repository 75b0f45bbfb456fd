//! The async client: a handle that people hold, a session machine that only computes, and a task between the
//! machine and the socket.
//!
//! ```no_run
//! # async fn example() -> Result<(), docent::Error> {
//! use docent::{Client, Version};
//!
//! let client = Client::connect("localhost:2181").await?;
//! client.create("/greeting", "hello").ephemeral().await?;
//! let node = client.get_data("/greeting").await?;
//! client.set_data("/greeting", "bye", Version(node.stat.version)).await?;
//! client.close().await?;
//! # Ok(()) }
//! ```
//!
//! # What you may rely on
//! - **Order.** Requests are sent in the order of the calls of one task, whether or not their replies are awaited,
//!   and their answers come in that order. A watch's event comes before any answer that shows its cause.
//! - **Reconnects.** When the connection breaks, the client goes to the next server with the same session, gives
//!   it its identities and watches again, and then sends what waits. Reads are sent again by themselves. A write
//!   that was sent and not answered fails with [`Error::ConnectionLoss`], since only the caller can tell
//!   whether sending it again is harmless.
//! - **Sessions.** When a session ends, the client makes a new one. One-shot watches end with the session,
//!   [`Watcher`]s are set again and say so. What must not go over from one session to the next is
//!   done through a [`SessionRef`].
//! - **Never back.** The last transaction that was seen is carried to every server and into every session: a
//!   server that is behind is not accepted.
//!
//! # Rooms
//! `ops`, `create`, `multi` are the verbs, `reply` and `watcher` what they return; `handle` queues what they ask;
//! `session`, `pending`, `watches`, `heartbeat`, `hosts` compute (no clock, socket or task; the time is an argument);
//! `driver` carries bytes and decides nothing; `stream` is what it carries them over, with TLS or without.

mod chroot;
mod config;
mod create;
mod driver;
mod error;
mod handle;
mod heartbeat;
mod hosts;
mod lease;
mod multi;
mod ops;
mod pending;
mod reply;
mod retry;
mod session;
mod state;
mod stream;
mod subtree;
#[cfg(feature = "tls")]
mod tls;
mod watcher;
mod watches;

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

pub use config::{
    ClientBuilder, DEFAULT_MAX_FRAME, DEFAULT_MAX_REQUEST_BYTES, DEFAULT_MAX_REQUESTS, DEFAULT_WATCH_QUEUE,
};
pub use create::{CreateBuilder, CreateMode, Created, ParentMode};
pub use error::Error;
pub use lease::{Lease, LeaseHold};
pub use multi::Transaction;
pub use ops::{Children, NodeData};
pub use reply::Reply;
pub use retry::Retry;
pub use state::{CloseCause, ConnState, LossCause, StateWatch};
pub use subtree::{ChildrenPages, DeletedTree};
#[cfg(feature = "tls")]
pub use tls::Tls;
pub use watcher::{OneshotWatch, WatchItem, WatchedEvent, Watcher};

use crate::proto::PASSWORD_LENGTH;
use crate::{Acl, SessionId, Zxid};
use chroot::Namespace;
use handle::Handle;

/// A connection to an ensemble, with a session that is kept alive and renewed. Cheap to clone; all clones are one
/// client. When the last one is dropped, the session is closed in the background.
#[derive(Clone)]
pub struct Client {
    core: Arc<Core>,
    namespace: Namespace,
    acl: Arc<[Acl]>,
    pin: Option<SessionId>,
}

/// What all handles share. Its end is the end of the client.
struct Core {
    handle: Arc<Handle>,
}

impl Drop for Core {
    fn drop(&mut self) {
        self.handle.close_in_background();
    }
}

impl Client {
    /// Starts to configure a client of these servers: `host:port` separated by commas (port 2181 if not said,
    /// IPv6 addresses in brackets), and a path at the end if the client shall see only what is below it.
    pub fn builder(hosts: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(hosts.into())
    }

    /// A client with all settings at their defaults.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    ///
    /// # Cancel safety
    /// As [`ClientBuilder::connect`].
    pub async fn connect(hosts: impl Into<String>) -> Result<Client, Error> {
        Client::builder(hosts).connect().await
    }

    fn new(handle: Arc<Handle>, namespace: Namespace, acl: Vec<Acl>) -> Self {
        Client { core: Arc::new(Core { handle }), namespace, acl: acl.into(), pin: None }
    }

    /// Waits for the first session, and for the server's word about the first identities.
    async fn first_session(&self, proves_identity: bool) -> Result<(), Error> {
        self.core
            .handle
            .first(async {
                self.core.handle.first_session().await?;
                if proves_identity {
                    // A refused identity ends the client before any request behind it is answered. Whatever else
                    // this read meets is for later calls to meet.
                    match self.exists("/").await {
                        Err(error) if error.is_session_lost() => return Err(error),
                        _ => {}
                    }
                }
                Ok(())
            })
            .await
    }

    fn handle(&self) -> &Arc<Handle> {
        &self.core.handle
    }

    fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    fn default_acl(&self) -> Vec<Acl> {
        self.acl.to_vec()
    }

    fn pin(&self) -> Option<SessionId> {
        self.pin
    }

    fn absolute_for<'a>(&self, path: &'a str, mode: CreateMode) -> Result<Cow<'a, str>, Error> {
        if mode.is_sequential() {
            self.namespace.absolute_sequential(path)
        } else {
            self.namespace.absolute(path)
        }
    }

    /// A receiver of the latest connection state.
    #[must_use]
    pub fn state(&self) -> StateWatch {
        self.core.handle.state()
    }

    /// The session of now. Operations through it never go over into another session: they fail with
    /// [`Error::SessionEnded`] instead.
    ///
    /// # Errors
    /// [`Error::SessionEnded`] between two sessions, and on a [`SessionRef`] whose session has ended;
    /// [`Error::Closed`] (or why the client ended).
    pub fn session(&self) -> Result<SessionRef, Error> {
        let session = self.core.handle.session()?;
        match self.pin {
            Some(pin) if pin != session => Err(Error::SessionEnded { session: pin }),
            _ => Ok(SessionRef { client: Client { pin: Some(session), ..self.clone() }, session }),
        }
    }

    /// Waits until a server with a quorum answers, and returns the session.
    ///
    /// # Errors
    /// As [`Client::session`], but it waits between two sessions.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn session_ready(&self) -> Result<SessionRef, Error> {
        let mut state = self.state();
        loop {
            let ended = |state: &ConnState| match (self.pin, state) {
                (_, ConnState::Closed { .. }) => true,
                (Some(pin), state) => state.session() != Some(pin),
                (None, _) => false,
            };
            let reached = state.wait_for(|state| state.is_connected() || ended(state)).await;
            match reached {
                Some(reached) if reached.is_connected() => match self.session() {
                    // The session may have ended since; a pinned handle cannot get another.
                    Err(Error::SessionEnded { .. }) if self.pin.is_none() => {}
                    settled => return settled,
                },
                _ => {
                    return match self.pin {
                        Some(session) if self.core.handle.closed().is_none() => {
                            Err(Error::SessionEnded { session })
                        }
                        _ => Err(self.core.handle.end_error()),
                    };
                }
            }
        }
    }

    /// Makes the client prove its lease to the leader as long as the returned value or a clone of it is alive.
    /// Until the first proof, about half a server tick after the call, the lease is what the server that the
    /// client is connected to had confirmed before the call.
    pub fn hold_lease(&self) -> LeaseHold {
        LeaseHold::new(Arc::clone(&self.core.handle))
    }

    /// The lease of now. Without a [`LeaseHold`], any answer of the server that the client is connected to counts
    /// as a confirmation, although a follower that lost its leader goes on answering for a while. With one, only
    /// what the leader is known to know counts.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.core.handle.lease()
    }

    /// The same client, seeing only what is below `path`.
    ///
    /// # Errors
    /// [`Error::InvalidPath`].
    pub fn namespaced(&self, path: impl AsRef<str>) -> Result<Client, Error> {
        Ok(Client { namespace: self.namespace.below(path.as_ref())?, ..self.clone() })
    }

    /// The path that this handle sees as the root; `/` if it sees the whole tree.
    #[must_use]
    pub fn chroot(&self) -> &str {
        self.namespace.as_str()
    }

    /// Id and password of the session of now, for [`ClientBuilder::resume`]; `None` between two sessions.
    #[must_use]
    pub fn credentials(&self) -> Option<(SessionId, [u8; PASSWORD_LENGTH])> {
        self.core.handle.credentials()
    }

    /// The newest transaction that the client has seen.
    #[must_use]
    pub fn last_zxid(&self) -> Zxid {
        self.core.handle.last_zxid()
    }

    /// Ends the session on the server, after the requests that were called before, and then the client with all
    /// its handles. Later calls fail with [`Error::Closed`]. It takes at most a third of the session timeout.
    /// Closing twice is harmless.
    ///
    /// # Errors
    /// [`Error::Timeout`] when no server acknowledged in time. The client is closed all the same, and the session
    /// ends on the server after its timeout.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the closing.
    pub async fn close(&self) -> Result<(), Error> {
        self.core.handle.close().await
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("state", &self.state().current())
            .field("chroot", &self.chroot())
            .field("pin", &self.pin)
            .finish_non_exhaustive()
    }
}

/// A [`Client`] that is bound to one session. Requests that have not been answered when the session ends, and all
/// later ones, fail; none is ever sent in another session.
#[derive(Clone, Debug)]
pub struct SessionRef {
    client: Client,
    session: SessionId,
}

impl SessionRef {
    /// The session.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.session
    }

    /// Whether this is still the client's session, as far as the client knows.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.client.session().is_ok()
    }
}

impl Deref for SessionRef {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Every handle can be sent to and shared between threads.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    const fn sent<T: Send + Unpin>() {}
    shared::<Client>();
    shared::<SessionRef>();
    shared::<StateWatch>();
    shared::<LeaseHold>();
    sent::<Reply<NodeData>>();
    sent::<OneshotWatch>();
    sent::<Watcher>();
};
