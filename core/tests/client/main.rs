//! The client's task against a server that does what a test wants: bounds, nonsense, and handles that outlive the
//! runtime.

mod fake;

use std::time::{Duration, Instant};

use docent::proto::OpCode;
use docent::{AddWatchMode, Client, ClientBuilder, ConnState, Error, EventType, Retry, Zxid};
use fake::{Answer, Fake};
use futures::StreamExt;

const BOUND: Duration = Duration::from_secs(20);

fn builder(fake: &Fake) -> ClientBuilder {
    Client::builder(fake.address.to_string()).session_timeout(Duration::from_secs(30))
}

/// Waits until something holds that the server or the client brings about by itself.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < BOUND, "{what} did not happen");
        // The pause of a bounded wait.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn calls_reach_the_wire_in_their_order() {
    let fake = Fake::start(|_, _| Answer::Well).await;
    let client = builder(&fake).connect().await.unwrap();
    let replies: Vec<_> = (0..500).map(|n| client.get_data(format!("/{n}"))).collect();
    for reply in replies.into_iter().rev() {
        assert_eq!(reply.await.unwrap().bytes(), "data");
    }
    let seen = fake.seen.lock().unwrap().clone();
    let expected: Vec<_> = (0..500).map(|n| Some((OpCode::GetData, format!("/{n}")))).collect();
    assert_eq!((&seen[0], &seen[1..]), (&None, &expected[..]));
}

#[tokio::test]
async fn too_many_requests_are_refused_at_the_call() {
    let fake = Fake::start(|_, op| if op == OpCode::GetData { Answer::Silence } else { Answer::Well }).await;
    let client = builder(&fake).max_requests(3, 1 << 20).connect().await.unwrap();
    let waiting: Vec<_> = (0..3).map(|_| client.get_data("/a")).collect();
    let refused = client.get_data("/a").await.unwrap_err();
    assert!(matches!(refused, Error::TooManyRequests { requests: 3, .. }), "{refused:?}");
    assert!(refused.is_retryable() && !refused.may_have_applied());
    drop(waiting);
    assert!(client.get_data("/a").await.is_err(), "dropping a reply does not undo the request");

    let client = builder(&fake).max_requests(100, 1000).connect().await.unwrap();
    client.set_data("/a", vec![0; 5000], -1).await.expect("a single request of any size fits");
    let _waits = client.get_data("/a");
    let refused = client.set_data("/a", vec![0; 5000], -1).await.unwrap_err();
    assert!(matches!(refused, Error::TooManyRequests { requests: 1, .. }), "{refused:?}");
}

#[tokio::test]
async fn nonsense_and_oversize_end_the_connection_only() {
    let oversize = i32::MAX.to_be_bytes().to_vec();
    let unasked = vec![0, 0, 0, 16, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    for nonsense in [oversize, vec![255; 64], vec![0; 64], unasked] {
        let fake = Fake::start(move |connection, op| match (connection, op) {
            (0, OpCode::GetData) => Answer::Raw(nonsense.clone()),
            _ => Answer::Well,
        })
        .await;
        let client = builder(&fake).connect().await.unwrap();
        assert_eq!(client.get_data("/a").await.unwrap().bytes(), "data", "the second connection answers");
        assert_eq!(fake.count(OpCode::GetData), 2);
    }
}

#[tokio::test]
async fn a_write_is_sent_once_and_a_read_again() {
    let fake = Fake::start(|connection, _| if connection == 0 { Answer::HangUp } else { Answer::Well }).await;
    let client = builder(&fake).connect().await.unwrap();
    let (write, read) = (client.set_data("/a", "x", -1), client.get_data("/a"));
    let lost = write.await.unwrap_err();
    assert!(lost.may_have_applied(), "{lost:?}");
    read.await.unwrap();
    client.close().await.unwrap();
    assert_eq!(fake.count(OpCode::CloseSession), 1);
}

#[tokio::test]
async fn an_unreachable_ensemble_is_named() {
    let begun = Instant::now();
    let retry = Retry::default().budget(Duration::from_secs(1));
    // Port 1 of the loopback address is nobody's.
    let failed = Client::builder("127.0.0.1:1").retry(retry).connect().await.unwrap_err();
    let text = failed.to_string();
    assert!(text.contains("127.0.0.1:1") && text.contains("refused"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    for wrong in ["", "a:b", "/only/path"] {
        let failed = Client::connect(wrong).await.unwrap_err();
        assert!(matches!(failed, Error::InvalidArgument(_)), "{failed:?}");
    }
    let failed = Client::connect("127.0.0.1:1/bad/").await.unwrap_err();
    assert!(matches!(failed, Error::InvalidPath(_)), "{failed:?}");
}

#[test]
fn connecting_without_a_runtime_is_an_error() {
    let failed = futures::executor::block_on(Client::connect("127.0.0.1:1")).unwrap_err();
    assert!(matches!(failed, Error::InvalidArgument(_)), "{failed:?}");
}

#[tokio::test]
async fn dropping_the_last_handle_closes_in_the_background() {
    let fake = Fake::start(|_, _| Answer::Well).await;
    let client = builder(&fake).connect().await.unwrap();
    let (clone, pinned) = (client.namespaced("/x").unwrap(), client.session().unwrap());
    let mut state = client.state();
    let watcher = client.watch("/w", AddWatchMode::Persistent).await.unwrap();
    drop(client);
    drop(clone);
    pinned.get_data("/a").await.expect("one handle is left");
    drop(pinned);
    eventually("the close", || fake.count(OpCode::CloseSession) == 1).await;
    assert!(state.wait_for(|state| matches!(state, ConnState::Closed { .. })).await.is_some());
    assert_eq!(watcher.collect::<Vec<_>>().await, [], "the watcher ends with the client");
    let states: Vec<ConnState> = state.collect().await;
    assert!(states.len() <= 1, "the stream of states ends: {states:?}");
}

#[tokio::test]
async fn dropping_connect_ends_what_it_began() {
    let answer = |_, op| if op == OpCode::Exists { Answer::Silence } else { Answer::Well };
    let fake = Fake::start(answer).await;
    // The identity is asked about before `connect` returns, and that answer never comes.
    let connecting = tokio::spawn(builder(&fake).auth("digest", "a:b").connect());
    eventually("the question", || fake.count(OpCode::Exists) == 1).await;
    connecting.abort();
    eventually("the close", || fake.count(OpCode::CloseSession) == 1).await;
    assert_eq!(fake.count(OpCode::Auth), 1);
}

#[tokio::test]
async fn events_carry_their_transaction_where_the_server_tells_it() {
    let fake = Fake::start(|_, op| match op {
        OpCode::Sync => Answer::Raw(fake::deleted("/w")),
        _ => Answer::Well,
    })
    .await;
    let client = builder(&fake).connect().await.unwrap();
    let (_, watch) = client.get_data_and_watch("/w").await.unwrap();
    let _unanswered = client.sync("/");
    let event = watch.await.unwrap();
    assert_eq!((event.kind, event.zxid), (EventType::NodeDeleted, Some(Zxid(9))));
}

/// Everything that a program may still hold when its runtime is gone is used and dropped without one.
#[test]
fn handles_outlive_the_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (client, held) = runtime.block_on(async {
        let fake =
            Fake::start(|_, op| if op == OpCode::SetData { Answer::Silence } else { Answer::Well }).await;
        let client = builder(&fake).connect().await.unwrap();
        let (_, watch) = client.get_data_and_watch("/w").await.unwrap();
        let watcher = client.watch("/w", AddWatchMode::Persistent).await.unwrap();
        let held =
            (client.set_data("/a", "", -1), watch, watcher, client.hold_lease(), client.session().unwrap());
        (client, held)
    });
    drop(runtime);
    let (write, watch, mut watcher, hold, pinned) = held;
    assert!(matches!(client.state().current(), ConnState::Closed { .. }));
    let lost = futures::executor::block_on(write).unwrap_err();
    assert!(lost.may_have_applied(), "{lost:?}");
    assert_eq!(futures::executor::block_on(watch), Err(Error::Closed));
    assert_eq!(futures::executor::block_on(watcher.next()), None);
    assert_eq!(futures::executor::block_on(client.get_data("/a")), Err(Error::Closed));
    assert_eq!(futures::executor::block_on(client.close()), Err(Error::Closed));
    drop((hold, pinned, watcher, client));
}
