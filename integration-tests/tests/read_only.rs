//! Reads without a quorum: what is left of an ensemble shows what it has to clients that said they can live with it,
//! refuses everything else, and sends them on when there is a quorum again. On our servers, and on Apache's of both
//! makes, whose rules these are.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::BytesMut;
use docent::proto::{ConnectRequest, Encode as _, frame::put_frame, session_password};
use docent::{Client, ConnState, CreateMode, Error, ErrorCode, SessionId, Version, Zxid};
use docent_integration_tests::availability::Suite;
use docent_integration_tests::backend::Backend;
use docent_integration_tests::ensemble::{Ensemble, SETTLE_BOUND, Seat, needs};
use docent_integration_tests::recipe_kit::{connect, eventually, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A session is local on Apache's servers: 3.8 serves no other without a quorum.
const LINES: [&str; 3] =
    ["readonlymode.enabled=true", "localSessionsEnabled=true", "localSessionsUpgradingEnabled=true"];
const JVM: [&str; 3] = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dreadonlymode.enabled=true"];

/// No session ends here, whatever the servers go through.
const SESSION: Duration = Duration::from_secs(30);
/// Four JVMs start in the course of it, the last one alone.
const BOUND: Duration = Duration::from_secs(300);

/// What a server answers to a handshake: the whole frame, or nothing if it closes.
async fn handshake(
    servers: &Ensemble,
    id: u64,
    session: SessionId,
    read_only: Option<bool>,
) -> Result<Vec<u8>> {
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: 10_000,
        session,
        password: Some(session_password(session).to_vec()),
        read_only,
    };
    let mut out = BytesMut::new();
    put_frame(&mut out, |out| request.encode(out));
    let mut stream = TcpStream::connect(servers.address(id)?).await?;
    stream.write_all(&out).await?;
    let mut answer = vec![0; 4096];
    // A server that closes while we write resets the connection: that is no answer, too.
    let read = soon("an answer to a handshake", stream.read(&mut answer)).await?.unwrap_or(0);
    answer.truncate(read);
    Ok(answer)
}

fn is_refused<T: std::fmt::Debug>(what: &str, result: Result<T, Error>) -> Result<()> {
    let code = result.as_ref().err().and_then(Error::code);
    ensure!(code == Some(ErrorCode::NOT_READ_ONLY), "{what}: {result:?}");
    Ok(())
}

/// Waits until the first member says that it serves reads only, or writes as well.
async fn until_isro(servers: &Ensemble, wanted: &str) -> Result<()> {
    let serves = async || {
        // Who ceases to serve in the one way or the other closes all connections, that of a question among them.
        Ok(servers.ask(1, "isro").await.is_ok_and(|answer| answer == wanted))
    };
    servers.until(&format!("isro is {wanted}"), serves).await
}

/// Writes until it is known to have been carried out: an election may cut off a reply.
async fn written<T>(what: &str, mut write: impl AsyncFnMut() -> Result<T, Error>) -> Result<()> {
    eventually(what, async || match write().await {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(ErrorCode::NODE_EXISTS) => Ok(true),
        Err(error) if error.code() == Some(ErrorCode::NOT_READ_ONLY) || error.is_retryable() => Ok(false),
        Err(error) => Err(error.into()),
    })
    .await
}

async fn reads_go_on_without_a_quorum(kind: Backend) -> Result<()> {
    let mut servers = Ensemble::prepare_with(&[Seat::voter(kind); 3], &LINES, &JVM)?;
    servers.start_all().await.with_context(|| servers.logs())?;
    let writer = connect(&servers.address(1)?.to_string(), SESSION).await?;
    for (path, data, mode) in
        [("/shown", "before", CreateMode::Persistent), ("/mine", "", CreateMode::Ephemeral)]
    {
        written(path, async || writer.create(path, data).mode(mode).await).await?;
    }
    let session = writer.session()?.id();
    servers.caught_up().await?;
    until_isro(&servers, "rw").await?;

    servers.kill(2)?;
    servers.kill(3)?;
    until_isro(&servers, "ro").await?;
    let srvr = servers.ask(1, "srvr").await?;
    ensure!(srvr.contains("\nMode: read-only\n"), "{srvr}");
    ensure!(srvr.contains("READ-ONLY mode; serving only read-only clients\n"), "{srvr}");

    // Who has not said that it can live with it, and who has a session of the ensemble's, finds a closed door.
    for (old, read_only) in [(SessionId::NONE, None), (SessionId::NONE, Some(false)), (session, Some(true))] {
        let answer = handshake(&servers, 1, old, read_only).await?;
        ensure!(answer.is_empty(), "session {old}, {read_only:?}: {answer:?}");
    }
    let answer = handshake(&servers, 1, SessionId::NONE, Some(true)).await?;
    ensure!(answer.last() == Some(&1), "the answer does not say that reads only are served: {answer:?}");

    let guest =
        Client::builder(servers.connect_string()).session_timeout(SESSION).read_only(true).connect().await?;
    let mut state = guest.state();
    ensure!(matches!(state.current(), ConnState::ReadOnly { .. }), "{:?}", state.current());
    ensure!(guest.get_data("/shown").await?.data.as_deref() == Some(&b"before"[..]));
    ensure!(guest.exists("/mine").await?.is_some_and(|stat| stat.ephemeral_owner == session));
    ensure!(guest.get_children("/").await?.names.contains(&"shown".to_owned()));
    ensure!(guest.exists("/not").await?.is_none());
    is_refused("create", guest.create("/new", "").send().await)?;
    is_refused("delete", guest.delete("/shown", Version::ANY).await)?;
    is_refused("set", guest.set_data("/shown", "after", Version::ANY).await)?;
    is_refused("sync", guest.sync("/shown").await)?;

    // With a second member there is a quorum, and a session that can write.
    servers.spawn_member(2)?;
    let connected = state.wait_for(|state| matches!(state, ConnState::Connected { .. }));
    let connected = tokio::time::timeout(SETTLE_BOUND, connected).await;
    let connected =
        connected.context("the guest finds no server that writes").with_context(|| servers.logs())?;
    ensure!(connected.is_some());
    written("the guest's write", async || guest.set_data("/shown", "after", Version::ANY).await)
        .await
        .with_context(|| servers.logs())?;
    // The guest may have written at the other member, and a member shows what it has heard of.
    eventually("the write at the first member", async || {
        Ok(writer.get_data("/shown").await?.data.as_deref() == Some(&b"after"[..]))
    })
    .await?;
    ensure!(writer.exists("/mine").await?.is_some(), "the writer's session ended meanwhile");
    guest.close().await?;
    writer.close().await?;
    Ok(())
}

macro_rules! on {
    ($name:ident, $backend:expr) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            let name = concat!("read_only::", stringify!($name));
            let Some(_suite) = Suite::begin(name, &needs(&[$backend])) else { return Ok(()) };
            tokio::time::timeout(BOUND, reads_go_on_without_a_quorum($backend))
                .await
                .context("not within five minutes")?
        }
    };
}

on!(docent, Backend::DocentBinary);
on!(apache_3_8, Backend::Apache38);
on!(apache_newer, Backend::ApacheNewer);
