//! `enforce.auth.*`: who has not proved an identity of the wanted scheme is told so with its first request, and cut off.
//! The same on ours as on Apache's servers.

use anyhow::{Context as _, Result, ensure};
use bytes::BytesMut;
use docent::proto::frame::{next_frame, put_frame};
use docent::proto::jute::{Decode as _, Reader};
use docent::proto::{ConnectRequest, ConnectResponse, Encode as _, ReplyHeader, Request, RequestHeader};
use docent::{Client, ErrorCode, SessionId, Xid, Zxid};
use docent_integration_tests::availability::Suite;
use docent_integration_tests::backend::{Backend, Options};
use docent_integration_tests::recipe_kit::soon;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const FRAME_MAX: usize = 1 << 20;

/// Everything that a server says until it closes, to a client that opens a session and sends these requests at once.
async fn said(hosts: &str, requests: &[(i32, Request)]) -> Result<(ConnectResponse, Vec<ReplyHeader>)> {
    let mut stream = TcpStream::connect(hosts).await?;
    let hello = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: 10_000,
        session: SessionId::NONE,
        password: None,
        read_only: Some(false),
    };
    let mut out = BytesMut::new();
    put_frame(&mut out, |out| hello.encode(out));
    for (xid, request) in requests {
        put_frame(&mut out, |out| {
            RequestHeader { xid: Xid(*xid), op: request.op().code() }.encode(out);
            request.encode(out);
        });
    }
    stream.write_all(&out).await?;
    let mut input = BytesMut::new();
    // A server that closes while something is on its way resets the connection: what it said before counts.
    while soon("the end of the connection", stream.read_buf(&mut input)).await?.is_ok_and(|read| read > 0) {}
    let hello = next_frame(&mut input, FRAME_MAX)?.context("no answer to the handshake")?;
    let hello = ConnectResponse::decode(&mut Reader::new(hello))?;
    let mut replies = Vec::new();
    while let Some(frame) = next_frame(&mut input, FRAME_MAX)? {
        replies.push(ReplyHeader::decode(&mut Reader::new(frame))?);
    }
    Ok((hello, replies))
}

async fn only_the_known_are_served(backend: Backend) -> Result<()> {
    let config = ["enforce.auth.enabled=true", "enforce.auth.schemes=digest"];
    let server = backend.start_with(Options { config: &config, ..Options::default() }).await?;
    let hosts = server.connect_string();

    let exists = || Request::Exists { path: "/".to_owned(), watch: false };
    for first in [exists(), Request::Ping] {
        let (hello, replies) = said(&hosts, &[(7, first.clone()), (8, exists())]).await?;
        ensure!(
            hello.session != SessionId::NONE,
            "the handshake is answered before anybody is asked who they are"
        );
        let told: Vec<_> = replies.iter().map(|reply| (reply.xid, reply.zxid, reply.error)).collect();
        let refusal = (Xid(7), Zxid::ZERO, ErrorCode::SESSION_CLOSED_REQUIRE_SASL_AUTH);
        ensure!(told == [refusal], "{first:?}: {told:?}");
    }

    let known = Client::builder(&hosts).auth("digest", "a:b").connect().await?;
    known.create("/known", "").send().await?;
    ensure!(known.exists("/known").await?.is_some());
    known.close().await?;
    Ok(())
}

macro_rules! on {
    ($name:ident, $backend:expr) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            let name = concat!("enforced_auth::", stringify!($name));
            let Some(_suite) = Suite::begin(name, &$backend.needs()) else { return Ok(()) };
            only_the_known_are_served($backend).await
        }
    };
}

on!(docent, Backend::DocentBinary);
on!(apache_3_8, Backend::Apache38);
on!(apache_newer, Backend::ApacheNewer);
