//! Sessions that one server alone knows, on a server that is alone and in an ensemble.

use std::time::Duration;

use bytes::BytesMut;
use docent::proto::frame::{next_frame, put_frame};
use docent::proto::{ConnectRequest, ConnectResponse, Decode, Encode, Reader, session_password};
use docent::{Client, CreateMode, ErrorCode, SessionId, Transaction, Version, Zxid};
use docent_server::ServerHandle;
use docent_server::config::Config;
use docent_server::testing::TestEnsemble;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Served;

fn local(config: &mut Config) {
    config.sessions.local = true;
    config.timing.max_session_ms = 60_000;
}

fn upgrading(config: &mut Config) {
    local(config);
    config.sessions.local_upgrading = true;
}

/// How many sessions everybody knows, and how many this server alone.
async fn counts(server: &ServerHandle) -> (usize, usize) {
    server.look(|node| (node.sessions().len(), node.local_sessions().len())).await.expect("the server runs")
}

async fn client_of(server: &ServerHandle) -> Client {
    let hosts = server.connect_string();
    Client::builder(hosts).session_timeout(Duration::from_secs(30)).connect().await.expect("a session")
}

/// A connection that has said hello and says nothing more.
async fn hello(hosts: &str, session: SessionId, timeout_ms: i32) -> (TcpStream, ConnectResponse) {
    let mut stream = TcpStream::connect(hosts).await.expect("the server listens");
    let password = (session != SessionId::NONE).then(|| session_password(session).to_vec());
    let (last_zxid_seen, read_only) = (Zxid::ZERO, Some(false));
    let request =
        ConnectRequest { protocol_version: 0, last_zxid_seen, timeout_ms, session, password, read_only };
    let mut out = BytesMut::new();
    put_frame(&mut out, |out| request.encode(out));
    stream.write_all(&out).await.expect("the server reads");
    let mut input = BytesMut::new();
    loop {
        if let Some(frame) = next_frame(&mut input, 1_000).expect("a frame") {
            return (stream, ConnectResponse::decode(&mut Reader::new(frame)).expect("a response"));
        }
        assert!(stream.read_buf(&mut input).await.expect("an answer") > 0, "the server closed");
    }
}

#[tokio::test]
async fn a_local_session_costs_no_transaction_and_owns_nothing() {
    let served = Served::start(local).await;
    let before = served.server.look(|node| node.tree().last_zxid()).await;
    let client = served.client().await;
    assert_eq!(counts(&served.server).await, (0, 1));
    assert_eq!(served.server.look(|node| node.tree().last_zxid()).await, before);
    client.create("/plain", "").await.expect("a write like any other");
    let refused = Some(ErrorCode::EPHEMERAL_ON_LOCAL_SESSION);
    let create = client.create("/mine", "").ephemeral().await;
    assert_eq!(create.err().and_then(|error| error.code()), refused);
    let multi = Transaction::new().delete("/plain", Version::ANY).create("/mine", "", CreateMode::Ephemeral);
    assert_eq!(client.multi(multi).await.err().and_then(|error| error.code()), refused);
    assert!(client.exists("/plain").await.expect("an answer").is_some());
    // The end waits for the write before it.
    let last = client.create("/last", "").send();
    client.close().await.expect("a farewell");
    last.await.expect("a node");
    assert_eq!(counts(&served.server).await, (0, 0));
}

#[tokio::test]
async fn the_first_node_that_needs_an_owner_makes_its_session_global() {
    let served = Served::start(upgrading).await;
    let client = served.client().await;
    let session = client.session().expect("a session").id();
    let connection =
        served.server.look(move |node| node.local_sessions().get(session).and_then(|s| s.conn)).await;
    // Nothing is awaited in between: what follows finds a session that is about to be known.
    let first = client.create("/mine", "").ephemeral().send();
    let second = client.multi(Transaction::new().create("/too", "", CreateMode::EphemeralSequential));
    let plain = client.create("/plain", "").send();
    first.await.expect("an ephemeral node");
    second.await.expect("another one");
    plain.await.expect("a node");
    assert_eq!(counts(&served.server).await, (1, 0));
    assert_eq!(client.session().expect("a session").id(), session, "it is the same session");
    assert_eq!(Some(served.connection_of(session).await), connection);
    let stat = client.exists("/mine").await.expect("an answer").expect("it is there");
    assert_eq!(stat.ephemeral_owner, session);
    client.close().await.expect("a farewell");
    assert_eq!(served.server.look(|node| node.tree().ephemerals_count()).await, Some(0));
    assert_eq!(counts(&served.server).await, (0, 0));
}

#[tokio::test]
async fn a_silent_local_session_ends_and_a_lost_connection_is_made_again() {
    let served = Served::start(|config| {
        local(config);
        (config.timing.tick_ms, config.timing.min_session_ms) = (100, 100);
    })
    .await;
    let hosts = served.server.connect_string();
    let (stream, response) = hello(&hosts, SessionId::NONE, 3_000).await;
    drop(stream);
    let (mut again, same) = hello(&hosts, response.session, 100).await;
    assert_eq!((same.session, same.timeout_ms), (response.session, 100));
    // It says nothing, and is cut off when its time is over.
    assert_eq!(again.read(&mut [0; 8]).await.expect("an end"), 0);
    assert_eq!(counts(&served.server).await, (0, 0));
    let (_, gone) = hello(&hosts, response.session, 100).await;
    assert_eq!((gone.session, gone.timeout_ms), (SessionId::NONE, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_ensemble_others_take_its_writes_and_know_nothing_of_it() {
    let ensemble = TestEnsemble::start_with(3, upgrading).await.expect("an ensemble");
    let leader = ensemble.wait_for_leader().await.expect("a leader");
    for index in 0..3 {
        let server = ensemble.servers()[index].handle().expect("it runs");
        let client = client_of(server).await;
        let session = client.session().expect("a session").id();
        client.create(format!("/plain-{index}"), "").await.expect("a node");
        assert_eq!(counts(server).await, (0, 1), "server {index}, the leader is {leader}");
        let other = ensemble.servers()[(index + 1) % 3].handle().expect("it runs");
        let (_, refused) = hello(&other.connect_string(), session, 30_000).await;
        assert_eq!(refused.session, SessionId::NONE, "a local session cannot move");

        let first = client.create(format!("/mine-{index}"), "").ephemeral().send();
        let plain = client.create(format!("/behind-{index}"), "").send();
        first.await.expect("an ephemeral node");
        plain.await.expect("a node");
        assert_eq!(counts(server).await, (1, 0), "server {index}, the leader is {leader}");
        let moving = client_of(other).await;
        moving.sync("/").await.expect("level");
        let known = other.look(move |node| node.sessions().get(session).is_some()).await;
        assert_eq!(known, Some(true), "everybody knows it now");
        moving.close().await.expect("a farewell");
        client.close().await.expect("a farewell");
        assert_eq!(counts(server).await, (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_session_outlives_its_leader_and_becomes_global_under_the_next() {
    let mut ensemble = TestEnsemble::start_with(3, upgrading).await.expect("an ensemble");
    let leader = ensemble.wait_for_leader().await.expect("a leader");
    let index = (leader + 1) % 3;
    let client = client_of(ensemble.servers()[index].handle().expect("it runs")).await;
    let session = client.session().expect("a session").id();
    ensemble.kill(leader).await;
    // The server keeps it, and asks the next leader for what the last one has not heard.
    while let Err(error) = client.create("/mine", "").ephemeral().await {
        if error.code() == Some(ErrorCode::NODE_EXISTS) {
            break;
        }
        assert!(error.is_retryable(), "{error}");
    }
    assert_eq!(client.session().expect("a session").id(), session);
    let server = ensemble.servers()[index].handle().expect("it runs");
    assert_eq!(counts(server).await, (1, 0));
    client.close().await.expect("a farewell");
}
