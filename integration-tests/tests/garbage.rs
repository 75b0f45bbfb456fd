//! Bytes that are no protocol: truncated, oversized and random frames end their own connection, are counted, and hurt
//! nobody else.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use docent::proto::{ConnectRequest, Encode, MultiOp, Request, RequestHeader, frame};
use docent::{Client, SessionId, Version, Xid, Zxid};
use docent_server::testing::TestServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Everything that must happen happens in this time.
const BOUND: Duration = Duration::from_secs(20);

async fn metric(server: &TestServer, key: &str) -> Result<u64> {
    let mut stream = TcpStream::connect(server.connect_string()).await?;
    stream.write_all(b"mntr").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .with_context(|| format!("no {key} in {text}"))?;
    Ok(value.trim().parse()?)
}

/// A connection that has a session.
async fn greeted(server: &TestServer) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(server.connect_string()).await?;
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: 10_000,
        session: SessionId::NONE,
        password: None,
        read_only: Some(false),
    };
    let mut out = BytesMut::new();
    frame::put_frame(&mut out, |out| request.encode(out));
    stream.write_all(&out).await?;
    let length = stream.read_u32().await?;
    stream.read_exact(&mut vec![0; length as usize]).await?;
    Ok(stream)
}

/// Waits until the server closes; answers what it sent before.
async fn until_closed(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut rest = Vec::new();
    match tokio::time::timeout(BOUND, stream.read_to_end(&mut rest))
        .await
        .context("the connection stays open")?
    {
        // A reset is a close, too: the server did not read all of the garbage.
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => return Err(error.into()),
    }
    Ok(rest)
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_its_own_connection_only() -> Result<()> {
    let server = TestServer::start().await?;
    let witness = Client::connect(server.connect_string()).await?;
    witness.create("/witness", "0").await?;
    let session = witness.session_ready().await?.id();
    let mut random = fastrand::Rng::with_seed(7);
    let oversized = [0x7f_u8, 0xff, 0xff, 0xff, 1, 2, 3];
    let negative = [0xff_u8, 0xff, 0xff, 0xf0];
    let empty = [0_u8; 4];
    let short = [0_u8, 0, 0, 4, 0, 0, 0, 1];
    for (name, bytes) in
        [("oversized", &oversized[..]), ("negative", &negative), ("empty", &empty), ("short", &short)]
    {
        let before = metric(&server, "zk_garbage_connection_count").await?;
        let mut fresh = TcpStream::connect(server.connect_string()).await?;
        send(&mut fresh, bytes).await;
        until_closed(&mut fresh).await.with_context(|| format!("{name} before the handshake"))?;
        let mut stream = greeted(&server).await?;
        send(&mut stream, bytes).await;
        until_closed(&mut stream).await.with_context(|| format!("{name} after the handshake"))?;
        let counted = metric(&server, "zk_garbage_connection_count").await? - before;
        ensure!(counted >= 1, "{name} was not counted");
    }
    for round in 0..300 {
        let mut stream = if random.bool() {
            greeted(&server).await?
        } else {
            TcpStream::connect(server.connect_string()).await?
        };
        let mut bytes: Vec<u8> = (0..random.usize(1..400)).map(|_| random.u8(..)).collect();
        if random.bool() && bytes.len() > 12 {
            // A sound length, and a sound operation now and then, so that the records behind them are reached.
            let length = (bytes.len() - 4) as u32;
            bytes[..4].copy_from_slice(&length.to_be_bytes());
            bytes[8..12].copy_from_slice(&random.i32(-12..110).to_be_bytes());
        }
        send(&mut stream, &bytes).await;
        until_closed(&mut stream).await.with_context(|| format!("round {round}: {bytes:?}"))?;
        if round % 50 == 0 {
            witness.set_data("/witness", round.to_string(), Version::ANY).await?;
        }
    }
    witness.set_data("/witness", "last", Version::ANY).await?;
    ensure!(witness.session_ready().await?.id() == session, "the witness lost its session");
    witness.close().await?;
    Ok(())
}

/// A record that cannot be decoded is answered by an error, and the connection goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_record_is_answered() -> Result<()> {
    let server = TestServer::start().await?;
    let mut stream = greeted(&server).await?;
    let whole = Request::Multi(vec![MultiOp::Delete { path: "/a".into(), version: Version::ANY }]);
    let mut record = BytesMut::new();
    whole.encode(&mut record);
    let record: Bytes = record.freeze();
    for cut in 0..record.len() {
        let mut out = BytesMut::new();
        frame::put_frame(&mut out, |out| {
            RequestHeader { xid: Xid(cut as i32), op: whole.op().code() }.encode(out);
            out.put_slice(&record[..cut]);
        });
        stream.write_all(&out).await?;
        let length = stream.read_u32().await?;
        let mut reply = vec![0; length as usize];
        stream.read_exact(&mut reply).await?;
        ensure!(reply[..4] == (cut as i32).to_be_bytes(), "an answer to another request: {reply:?}");
        ensure!(reply[12..16] == (-5_i32).to_be_bytes(), "cut at {cut}: {reply:?}");
    }
    Ok(())
}
