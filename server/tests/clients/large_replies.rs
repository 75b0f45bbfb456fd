//! An answer that is larger than a client takes is refused, and everything else goes on.

use docent::proto::ops::ReadOp;
use docent::{Acl, Client, Error, ErrorCode, Permissions, Version};

use super::Served;

const LIMIT: u32 = 2_000;

/// A server that takes larger requests than it gives answers, so that a test need not write much.
async fn served() -> Served {
    Served::start(|config| config.limits.reply_bytes_max = Some(LIMIT)).await
}

fn is_refused<T>(answer: Result<T, Error>) -> bool {
    matches!(answer, Err(Error::Server { code: ErrorCode::MARSHALLING_ERROR, .. }))
}

async fn fill(client: &Client) {
    client.create("/wide", vec![b'x'; LIMIT as usize]).await.expect("data may be larger than an answer");
    let made: Vec<_> = (0..40).map(|n| client.create(format!("/wide/{n:0>60}"), "").send()).collect();
    for create in made {
        create.await.expect("a child");
    }
}

#[tokio::test]
async fn a_read_that_answers_too_much_is_refused_and_the_connection_stays() {
    let served = served().await;
    let client = served.client().await;
    let session = client.session().expect("a session").id();
    let connection = served.connection_of(session).await;
    assert!(connection.is_some());
    fill(&client).await;
    assert!(is_refused(client.get_data("/wide").await));
    assert!(is_refused(client.get_data_and_watch("/wide").await));
    assert!(is_refused(client.get_children("/wide").await));
    assert!(is_refused(client.get_children_and_watch("/wide").await));
    let reads = |count| vec![ReadOp::GetData { path: "/wide".into() }; count];
    assert!(is_refused(client.multi_read(reads(1)).await));
    assert!(is_refused(client.multi_read(reads(20)).await), "more is not even collected");
    let lists = vec![ReadOp::GetChildren { path: "/wide".into() }];
    assert!(is_refused(client.multi_read(lists).await));

    let many = |n: usize| Acl::new(Permissions::READ, "digest", format!("somebody-with-a-name-{n}:x"));
    let mut acl: Vec<Acl> = (0..60).map(many).collect();
    acl.extend(Acl::open());
    client.set_acl("/wide", acl, Version::ANY).await.expect("an ACL");
    assert!(is_refused(client.get_acl("/wide").await));

    for n in 0..40 {
        client.create(format!("/{n:0>60}"), "").ephemeral().await.expect("an ephemeral node");
    }
    assert!(is_refused(client.get_ephemerals("/").await));

    assert!(client.exists("/wide").await.expect("a small answer").is_some());
    let watches = served.server.look(|node| node.watches().count()).await.expect("the server runs");
    assert_eq!(watches, 0, "who is refused has no watch");
    assert_eq!(served.connection_of(session).await, connection, "the connection is the same");
}

#[tokio::test]
async fn an_answer_of_just_the_limit_is_given() {
    let served = served().await;
    let client = served.client().await;
    // Header, length, data, Stat.
    let fits = LIMIT as usize - 16 - 4 - 68;
    client.create("/fits", vec![b'x'; fits]).await.expect("a node");
    client.create("/over", vec![b'x'; fits + 1]).await.expect("a node");
    assert_eq!(client.get_data("/fits").await.expect("it fits").bytes().len(), fits);
    assert!(is_refused(client.get_data("/over").await));
}

#[tokio::test]
async fn without_a_bound_everything_is_answered() {
    let served = Served::start(|config| config.limits.reply_bytes_max = None).await;
    let client = served.client().await;
    client.create("/large", vec![b'x'; 900_000]).await.expect("a node");
    let reads = vec![ReadOp::GetData { path: "/large".into() }; 3];
    assert_eq!(client.multi_read(reads).await.expect("three times 900 kB").len(), 3);
}
