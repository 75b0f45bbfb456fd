//! Our client against real servers: every operation, and what it promises when the network fails.

mod faults;
mod operations;

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use docent::proto::OpCode;
use docent::{
    Acl, AddWatchMode, Client, ClientBuilder, ConnState, CreateMode, Error, ErrorCode, EventType, LossCause,
    MultiResult, ParentMode, Permissions, ReadOp, ReconfigRequest, Retry, Transaction, Version, WatchItem,
    WatcherKind,
};
use docent_integration_tests::availability::Suite;
use docent_integration_tests::backend::{Backend, Running};
use docent_integration_tests::proxy::Proxy;

/// Everything that is waited for comes within this time, or not at all.
const BOUND: Duration = Duration::from_secs(30);

/// Short ticks, so that the end of a session is soon noticed, and long sessions all the same; TTLs and reconfiguration
/// allowed.
const CONFIG: [&str; 4] =
    ["tickTime=500", "maxSessionTimeout=60000", "extendedTypesEnabled=true", "reconfigEnabled=true"];

/// The same as flags, for what Apache 3.8 reads only from there.
const JVM: [&str; 1] = ["-Dzookeeper.extendedTypesEnabled=true"];

const TICK: Duration = Duration::from_millis(500);

/// The session timeout where no session is to end: a server or this process may stand still for seconds.
const LONG_SESSION: Duration = Duration::from_secs(30);
/// The session timeout of those whose end is waited for. Until then they must live, too.
const SHORT_SESSION: Duration = Duration::from_secs(8);

/// One server, and a proxy before it that a test may do things with.
struct Stage {
    server: Running,
    proxy: Proxy,
}

impl Stage {
    async fn set(backend: Backend) -> Result<Stage> {
        let options = docent_integration_tests::backend::Options { config: &CONFIG, jvm: &JVM, data: None };
        let server = backend.start_with(options).await?;
        let proxy = Proxy::start(server.address()).await?;
        Ok(Stage { server, proxy })
    }

    /// A client through the proxy.
    fn builder(&self) -> ClientBuilder {
        Client::builder(self.proxy.connect_string()).session_timeout(LONG_SESSION).server_tick(TICK)
    }

    async fn client(&self) -> Result<Client> {
        Ok(self.builder().connect().await?)
    }

    /// A client whose session ends soon when the server does not hear of it.
    async fn short_client(&self) -> Result<Client> {
        Ok(self.builder().session_timeout(SHORT_SESSION).connect().await?)
    }

    /// A client that nothing happens to.
    async fn bystander(&self) -> Result<Client> {
        Ok(Client::connect(self.server.connect_string()).await?)
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(BOUND, future).await.with_context(|| format!("{what} did not happen in time"))
}

/// Runs a suite against a server, if what it needs is there.
async fn play<F: Future<Output = Result<()>>>(
    name: &str,
    backend: Backend,
    suite: impl FnOnce(Stage) -> F,
) -> Result<()> {
    let Some(_suite) = Suite::begin(&format!("client, {name}, {backend:?}"), &backend.needs()) else {
        return Ok(());
    };
    suite(Stage::set(backend).await?).await
}

macro_rules! on_every_server {
    ($($room:ident::$name:ident)*) => {$(
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn apache_38() -> Result<()> {
                play(stringify!($name), Backend::Apache38, crate::$room::$name).await
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn apache_newer() -> Result<()> {
                play(stringify!($name), Backend::ApacheNewer, crate::$room::$name).await
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn docent() -> Result<()> {
                play(stringify!($name), Backend::DocentBinary, crate::$room::$name).await
            }
        }
    )*};
}

on_every_server! {
    operations::every_operation
    operations::every_create_mode
    operations::calls_are_carried_out_in_their_order
    operations::watches_are_removed_when_dropped
    operations::identities_are_taken_along
    operations::a_namespace_is_not_left
    operations::large_requests_do_no_harm
    operations::a_subtree_is_deleted_on_every_server
    faults::watches_survive_a_reconnect
    faults::an_expired_session_is_renewed
    faults::a_lost_answer_leaves_a_write_ambiguous
    faults::closing_ends_the_session
    faults::a_session_is_resumed
    faults::the_lease_ends_before_the_session
    faults::an_outage_costs_little
}
