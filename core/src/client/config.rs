//! How a client is configured.

use std::time::Duration;

use bytes::Bytes;

use super::Client;
use super::chroot::Namespace;
use super::driver::{self, Limits};
use super::error::Error;
use super::handle::{Budget, Shared};
use super::hosts::HostList;
use super::retry::Retry;
use super::session::{Login, Settings};
use super::stream::Dialer;
use crate::proto::PASSWORD_LENGTH;
use crate::{Acl, SessionId};

/// The largest frame that a client takes by default, bytes. Apache's servers do not limit their replies (the
/// children of one node can be many MiB), so the bound is far above the server's own of 1 MiB; it exists so
/// that a peer that is no ZooKeeper cannot make the client reserve memory.
pub const DEFAULT_MAX_FRAME: usize = 64 << 20;

/// Requests that may wait for their answers by default. More than any server works on at a time, and small
/// enough that a loop that never awaits is told so.
pub const DEFAULT_MAX_REQUESTS: usize = 100_000;

/// Bytes of requests that may wait for their answers by default: memory is bounded even if every request is large.
pub const DEFAULT_MAX_REQUEST_BYTES: usize = 256 << 20;

/// Items that may wait in a [`Watcher`](super::Watcher) by default.
pub const DEFAULT_WATCH_QUEUE: usize = 1024;

/// Settings of a client that is not connected yet; [`Client::builder`] makes one.
#[must_use = "nothing happens before connect()"]
#[derive(Clone)]
pub struct ClientBuilder {
    hosts: String,
    namespace: Option<String>,
    acl: Vec<Acl>,
    session_timeout: Duration,
    connect_timeout: Option<Duration>,
    lease_margin: Option<Duration>,
    tick: Duration,
    retry: Retry,
    auth: Vec<(String, Bytes)>,
    login: Option<Login>,
    dialer: Dialer,
    read_only: bool,
    renew: bool,
    resume: Option<(SessionId, [u8; PASSWORD_LENGTH])>,
    max_frame: usize,
    max_requests: usize,
    max_request_bytes: usize,
    watch_queue: usize,
}

impl ClientBuilder {
    pub(super) fn new(hosts: String) -> Self {
        ClientBuilder {
            hosts,
            namespace: None,
            acl: Acl::open(),
            session_timeout: Duration::from_secs(15),
            connect_timeout: None,
            lease_margin: None,
            tick: Duration::from_secs(2),
            retry: Retry::default(),
            auth: Vec::new(),
            login: None,
            dialer: Dialer::default(),
            read_only: false,
            renew: true,
            resume: None,
            max_frame: DEFAULT_MAX_FRAME,
            max_requests: DEFAULT_MAX_REQUESTS,
            max_request_bytes: DEFAULT_MAX_REQUEST_BYTES,
            watch_queue: DEFAULT_WATCH_QUEUE,
        }
    }

    /// How long a server keeps the session without hearing from the client; 15 seconds by default. The server
    /// may shorten or lengthen it, usually to between 2 and 20 of its ticks.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout;
        self
    }

    /// How long one attempt may take from dialling to the server's answer; a third of the session timeout by
    /// default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// How long requests are tried and how connection attempts are spaced. The budget also bounds `connect`.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// An identity that every connection of the client takes on; may be given several times.
    pub fn auth(mut self, scheme: impl Into<String>, auth: impl Into<Bytes>) -> Self {
        self.auth.push((scheme.into(), auth.into()));
        self
    }

    /// Logs in to every server with SASL, by its mechanism DIGEST-MD5, before anything else is sent. The client and the
    /// server prove the password to each other without sending it; who listens can still try passwords on what was
    /// said, so use it with TLS where others can listen. A login that fails ends the client.
    pub fn sasl(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.login = Some(Login { user: user.into(), password: password.into() });
        self
    }

    /// Speaks TLS with every server, from the first byte on: for a server's `secureClientPort`.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: impl Into<super::tls::Tls>) -> Self {
        self.dialer.tls = Some(tls.into());
        self
    }

    /// All paths of the client are below this one, in addition to a path at the end of the hosts. It is not
    /// created by the client.
    pub fn namespace(mut self, path: impl Into<String>) -> Self {
        self.namespace = Some(path.into());
        self
    }

    /// Whether a server without quorum will do, for reads, as long as no other can be reached.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// The access control list of nodes that are created without one; everybody may do everything by default.
    pub fn acl(mut self, acl: Vec<Acl>) -> Self {
        self.acl = acl;
        self
    }

    /// Whether the client makes a new session when one ends (the default), or ends with it.
    pub fn renew_session(mut self, renew: bool) -> Self {
        self.renew = renew;
        self
    }

    /// What is taken off every lease for clocks that do not run alike and for pauses of this process; by default
    /// a twentieth of the session timeout.
    pub fn lease_margin(mut self, margin: Duration) -> Self {
        self.lease_margin = Some(margin);
        self
    }

    /// The servers' `tickTime`, 2 seconds by default. Followers tell the leader about their clients every half
    /// tick, so a proof of the lease waits for so long.
    pub fn server_tick(mut self, tick: Duration) -> Self {
        self.tick = tick;
        self
    }

    /// Takes up a session that another client (or an earlier process) had; see [`Client::credentials`]. If it
    /// has ended, the client starts as after any loss.
    pub fn resume(mut self, session: SessionId, password: [u8; PASSWORD_LENGTH]) -> Self {
        self.resume = Some((session, password));
        self
    }

    /// The largest frame that the client takes, bytes; [`DEFAULT_MAX_FRAME`] by default. A larger one ends the
    /// connection.
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes;
        self
    }

    /// How many requests, of how many bytes together, may wait for answers; a further one fails at once with
    /// [`Error::TooManyRequests`]. A request is refused rather than held back because requests are sent in the
    /// order of the calls, and a call does not wait.
    pub fn max_requests(mut self, requests: usize, bytes: usize) -> Self {
        self.max_requests = requests;
        self.max_request_bytes = bytes;
        self
    }

    /// How many items may wait in one [`Watcher`](super::Watcher); [`DEFAULT_WATCH_QUEUE`] by default.
    pub fn watch_queue(mut self, items: usize) -> Self {
        self.watch_queue = items;
        self
    }

    /// Starts the client's task and waits for a session. Must be called within a tokio runtime, where the task
    /// lives on until the client is closed or its last handle is dropped.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for hosts or times that make no sense, [`Error::InvalidPath`] for the
    /// namespace, [`Error::ConnectFailed`] when no server gave a session within the retry budget (or one second,
    /// if that is longer), [`Error::AuthFailed`] when the credentials were refused.
    ///
    /// # Cancel safety
    /// Dropping the future ends the client; a session that was made already is closed in the background.
    pub async fn connect(self) -> Result<Client, Error> {
        let (hosts, chroot) = HostList::parse(&self.hosts)?;
        let mut namespace = Namespace::none().below(&chroot)?;
        if let Some(inner) = &self.namespace {
            namespace = namespace.below(inner)?;
        }
        let connect_timeout = self.connect_timeout.unwrap_or(self.session_timeout / 3);
        if self.session_timeout.is_zero() || connect_timeout.is_zero() {
            return Err(Error::InvalidArgument("timeouts must be longer than zero".into()));
        }
        if i32::try_from(self.session_timeout.as_millis()).is_err() {
            return Err(Error::InvalidArgument("session timeout must be below 24 days".into()));
        }
        // Connecting itself has a second at least, even for a client that tries nothing twice.
        let proves_identity = !self.auth.is_empty();
        let connect_within = self.retry.budget.max(Duration::from_secs(1));
        let budget = Budget::new(self.max_requests, self.max_request_bytes);
        let shared = Shared::new(budget, self.watch_queue, hosts.to_string(), connect_within);
        let settings = Settings {
            hosts,
            session_timeout: self.session_timeout,
            connect_timeout,
            retry: self.retry,
            auth: self.auth,
            login: self.login,
            read_only: self.read_only,
            renew: self.renew,
            lease_margin: self.lease_margin.unwrap_or(self.session_timeout / 20),
            tick: self.tick,
            resume: self.resume,
            seed: fastrand::u64(..),
        };
        let handle = driver::start(settings, self.dialer, Limits { max_frame: self.max_frame }, shared)?;
        let client = Client::new(handle, namespace, self.acl);
        client.first_session(proves_identity).await?;
        Ok(client)
    }
}

/// Without credentials.
impl std::fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("hosts", &self.hosts)
            .field("namespace", &self.namespace)
            .field("session_timeout", &self.session_timeout)
            .finish_non_exhaustive()
    }
}
