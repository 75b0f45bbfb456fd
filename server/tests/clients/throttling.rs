//! Floods are held back, and nobody is forgotten over it.

use std::time::Duration;

use bytes::BytesMut;
use docent::proto::frame::{next_frame, put_frame};
use docent::proto::{ConnectRequest, Decode, Encode, Reader, ReplyHeader, Request, RequestHeader};
use docent::{Acl, Client, ErrorCode, SessionId, Version, Xid, Zxid};
use docent_server::node::access::DigestAlgorithm;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Served;

/// How long something may take that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

fn hello(out: &mut BytesMut) {
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: 30_000,
        session: SessionId::NONE,
        password: None,
        read_only: None,
    };
    put_frame(out, |out| request.encode(out));
}

/// Sends so many writes and reads at once, and counts the answers, which must come in order.
async fn flood(hosts: String, name: usize, requests: i32) -> i32 {
    let mut stream = TcpStream::connect(hosts).await.expect("the server listens");
    let mut out = BytesMut::new();
    hello(&mut out);
    for xid in 1..=requests {
        let path = format!("/flood-{name}");
        let request = match xid % 2 {
            0 => Request::SetData { path, data: None, version: Version::ANY },
            _ => Request::Exists { path, watch: false },
        };
        put_frame(&mut out, |out| {
            RequestHeader { xid: Xid(xid), op: request.op().code() }.encode(out);
            request.encode(out);
        });
    }
    let (mut reader, mut writer) = stream.split();
    let writing = async { writer.write_all(&out).await.expect("the server reads in the end") };
    let reading = async {
        let mut input = BytesMut::new();
        let mut answered = -1;
        while answered < requests {
            match next_frame(&mut input, 10_000).expect("a frame") {
                Some(_) if answered < 0 => answered = 0,
                Some(frame) => {
                    let header = ReplyHeader::decode(&mut Reader::new(frame)).expect("a header");
                    assert_eq!((header.xid.0, header.error), (answered + 1, ErrorCode::OK));
                    answered += 1;
                }
                None => assert!(reader.read_buf(&mut input).await.expect("an answer") > 0, "it closed"),
            }
        }
        answered
    };
    tokio::join!(writing, reading).1
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_served_however_little_may_be_in_work() {
    for outstanding_max in [1, 3] {
        let served = Served::start(|config| config.limits.outstanding_max = outstanding_max).await;
        let client = served.client().await;
        let mut floods = Vec::new();
        for name in 0..8 {
            client.create(format!("/flood-{name}"), "").await.expect("a node");
            floods.push(tokio::spawn(flood(served.server.connect_string(), name, 2_000)));
        }
        for flood in floods {
            let answered = tokio::time::timeout(PATIENCE, flood).await.expect("all is answered in time");
            assert_eq!(answered.expect("no panic"), 2_000);
        }
    }
}

/// Its answers are 300 MB; nothing near that may wait for it, and it must not be served in one go before everybody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_cut_off_and_others_do_not_notice() {
    const SIZE: usize = 1_000_000;
    let served = Served::start(|_| {}).await;
    let client = served.client().await;
    client.create("/large", vec![1; SIZE]).await.expect("a node");
    // Another one: what waits for the client that does not read must stay large.
    client.create("/written", "").await.expect("a node");
    let before = peak_memory();
    let mut stream = TcpStream::connect(served.server.connect_string()).await.expect("the server listens");
    let mut out = BytesMut::new();
    hello(&mut out);
    for xid in 1..=300 {
        put_frame(&mut out, |out| {
            let request = Request::GetData { path: "/large".into(), watch: false };
            RequestHeader { xid: Xid(xid), op: request.op().code() }.encode(out);
            request.encode(out);
        });
    }
    stream.write_all(&out).await.expect("requests are short");
    let mut slowest = Duration::ZERO;
    let cut_off = async {
        loop {
            let began = std::time::Instant::now();
            client.set_data("/written", "", Version::ANY).await.expect("a write");
            client.set_data("/written", vec![1; SIZE], Version::ANY).await.expect("a write");
            slowest = slowest.max(began.elapsed());
            let open =
                served.server.look(|node| node.sessions().iter().filter(|s| s.1.conn.is_some()).count());
            if open.await.expect("the server runs") == 1 {
                return;
            }
        }
    };
    // Until its handshake is through there is one connection, too.
    let mut first = [0; 4];
    stream.read_exact(&mut first).await.expect("the handshake is answered");
    tokio::time::timeout(PATIENCE, cut_off).await.expect("it is cut off");
    let most = peak_memory() - before;
    println!("at most {} MiB more, the slowest pair of writes took {slowest:?}", most >> 20);
    assert!(most < 200 << 20, "{} MiB", most >> 20);
    assert!(client.exists("/large").await.expect("an answer").is_some());
}

/// The most memory that this process has had, bytes; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}

#[tokio::test]
async fn handshakes_beyond_the_tokens_are_closed() {
    let served = Served::start(|config| {
        (config.limits.handshakes.tokens, config.limits.handshakes.fill_ms) = (2, i32::MAX as u32);
    })
    .await;
    let mut taken = 0;
    for _ in 0..5 {
        let mut stream = TcpStream::connect(served.server.connect_string()).await.expect("it is accepted");
        let mut out = BytesMut::new();
        hello(&mut out);
        stream.write_all(&out).await.expect("the server reads");
        taken += usize::from(stream.read(&mut [0; 8]).await.is_ok_and(|read| read > 0));
    }
    assert_eq!(taken, 2);
}

#[tokio::test]
async fn the_digest_scheme_hashes_as_it_is_told() {
    let algorithm = DigestAlgorithm::Sha256;
    let served = Served::start(|config| {
        config.access.digest_algorithm = algorithm;
        config.access.super_digest = Some(algorithm.id_of(b"super:admin"));
    })
    .await;
    let bob = Client::builder(served.server.connect_string()).auth("digest", "bob:pw").connect().await;
    let bob = bob.expect("a session");
    bob.create("/bobs", "").acl(Acl::creator_all()).await.expect("a node");
    let (acl, _) = bob.get_acl("/bobs").await.expect("an ACL");
    assert_eq!(acl[0].id, algorithm.id_of(b"bob:pw"));
    let client = served.client().await;
    let refused = client.get_data("/bobs").await.err().and_then(|error| error.code());
    assert_eq!(refused, Some(ErrorCode::NO_AUTH));
    client.add_auth("digest", "super:admin").await.expect("credentials");
    client.get_data("/bobs").await.expect("nothing stops the super user");
}
