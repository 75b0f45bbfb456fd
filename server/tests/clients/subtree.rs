//! Pages of children, and a subtree that goes at once.

use docent::proto::ops::ReadOp;
use docent::{
    Acl, AddWatchMode, Client, CreateMode, Error, ErrorCode, EventType, MultiResult, Permissions,
    Transaction, Version, WatchItem,
};

use super::Served;

fn code<T>(answer: Result<T, Error>) -> Option<ErrorCode> {
    answer.err().and_then(|error| error.code())
}

async fn make(client: &Client, paths: &[&str]) {
    for path in paths {
        client.create(path, "x").await.expect("a node");
    }
}

#[tokio::test]
async fn pages_list_every_child_once_in_order() {
    let served = Served::start(|config| config.limits.reply_bytes_max = Some(2_000)).await;
    let client = served.client().await;
    client.create("/wide", "").await.expect("a node");
    let mut names: Vec<String> = (0..100_u32).map(|n| format!("{:0>40}", n * 7919 % 100)).collect();
    for name in &names {
        client.create(format!("/wide/{name}"), "").await.expect("a child");
    }
    names.sort_unstable();
    for page_max in [0, 1, 7, 99, 100, 1_000] {
        let mut pages = client.children_pages("/wide", page_max);
        let mut listed = Vec::new();
        while let Some(page) = pages.next().await.expect("a page") {
            assert!(!page.is_empty() && (page_max == 0 || page.len() <= page_max as usize));
            listed.extend(page);
        }
        assert_eq!(listed, names, "{page_max}");
        assert_eq!(pages.next().await.expect("the end stays the end"), None);
    }
    assert_eq!(code(client.get_children("/wide").await), Some(ErrorCode::MARSHALLING_ERROR));
    assert_eq!(code(client.children_pages("/none", 0).next().await), Some(ErrorCode::NO_NODE));
    let empty = client.children_pages(format!("/wide/{}", names[0]), 0).next().await;
    assert_eq!(empty.expect("an answer"), None);
}

#[tokio::test]
async fn a_page_stands_among_other_reads_and_says_whether_there_is_more() {
    let served = Served::start(|_| {}).await;
    let client = served.client().await;
    make(&client, &["/a", "/a/2", "/a/1", "/a/3"]).await;
    let page = |after: &str, max| ReadOp::ChildrenPage { path: "/a".into(), after: after.into(), max };
    let reads = vec![page("", 2), ReadOp::GetData { path: "/none".into() }, page("1", 2), page("3", 2)];
    let results = client.multi_read(reads).await.expect("four results");
    let stat = client.exists("/a").await.expect("an answer").expect("it exists");
    let of = |names: &[&str], more| {
        let names = names.iter().map(ToString::to_string).collect();
        MultiResult::ChildrenPage { names, more, stat }
    };
    let expected = [
        of(&["1", "2"], true),
        MultiResult::Error(ErrorCode::NO_NODE),
        of(&["2", "3"], false),
        of(&[], false),
    ];
    assert_eq!(results, expected);
}

#[tokio::test]
async fn a_subtree_goes_in_one_transaction_and_watches_fire_from_the_leaves_up() {
    let served = Served::start(|_| {}).await;
    let client = served.client().await;
    make(&client, &["/t", "/t/a", "/t/a/x", "/t/b", "/tt"]).await;
    client.create("/t/b/e", "").ephemeral().await.expect("an ephemeral node");
    let mut watch = client.watch("/t", AddWatchMode::PersistentRecursive).await.expect("a watch");
    let before = client.last_zxid();
    // What is in flight counts: the create is not awaited.
    let create = client.create("/t/a/y", "").send();
    let delete = client.delete_at_once("/t");
    create.await.expect("a node");
    assert_eq!(delete.await.expect("a deleted subtree"), 6);
    assert_eq!(client.last_zxid().0, before.0 + 2, "one transaction for the create and one for all deletes");
    let mut gone = Vec::new();
    while gone.last().is_none_or(|path| path != "/t") {
        if let Some(WatchItem::Event(event)) = watch.next().await
            && event.kind == EventType::NodeDeleted
        {
            gone.push(event.path);
        }
    }
    assert_eq!(gone, ["/t/b/e", "/t/b", "/t/a/y", "/t/a/x", "/t/a", "/t"]);
    assert!(client.exists("/tt").await.expect("an answer").is_some(), "only what is below goes");
    assert_eq!(code(client.delete_at_once("/t").await), Some(ErrorCode::NO_NODE));
}

#[tokio::test]
async fn permissions_and_bounds_hold_for_each_node_or_nothing_is_deleted() {
    let served = Served::start(|config| config.limits.delete_recursive_max = 4).await;
    let client = served.client().await;
    make(&client, &["/t", "/t/a", "/t/a/x"]).await;
    let no_delete =
        vec![Acl::new(Permissions::READ | Permissions::CREATE | Permissions::ADMIN, "world", "anyone")];
    client.set_acl("/t/a", no_delete, Version::ANY).await.expect("an ACL");
    assert_eq!(code(client.delete_at_once("/t").await), Some(ErrorCode::NO_AUTH));
    assert_eq!(code(client.delete_recursive("/t").await), Some(ErrorCode::NO_AUTH));
    client.set_acl("/t/a", Acl::open(), Version::ANY).await.expect("an ACL");
    make(&client, &["/t/b", "/t/c"]).await;
    assert_eq!(code(client.delete_at_once("/t").await), Some(ErrorCode::NOT_EMPTY));
    assert_eq!(client.get_all_children_number("/t").await.expect("a number"), 4, "nothing is deleted");
    for fixed in ["/", "/zookeeper", "/zookeeper/quota"] {
        assert_eq!(code(client.delete_at_once(fixed).await), Some(ErrorCode::BAD_ARGUMENTS), "{fixed}");
    }
    let deleted = client.delete_recursive("/t").await.expect("in several steps");
    assert_eq!((deleted.nodes, deleted.at_once), (5, false));
    make(&client, &["/t", "/t/a"]).await;
    let deleted = client.delete_recursive("/t").await.expect("at once");
    assert_eq!((deleted.nodes, deleted.at_once), (2, true));
    // The tree is what its digest says: the next write would end the server otherwise.
    client.create("/t", "").await.expect("a node");
}

#[tokio::test]
async fn a_server_that_does_not_allow_it_is_asked_for_what_every_server_does() {
    let served = Served::start(|config| config.limits.delete_recursive_max = 0).await;
    let client = served.client().await.namespaced("/in").expect("a path");
    client.create("/", "").await.expect("the namespace");
    make(&client, &["/t", "/t/a", "/t/b"]).await;
    assert!(
        matches!(client.delete_at_once("/t").await, Err(Error::Server { code: ErrorCode::UNIMPLEMENTED, path, .. }) if path == "/t")
    );
    let deleted = client.delete_recursive("/t").await.expect("a deleted subtree");
    assert_eq!((deleted.nodes, deleted.at_once), (3, false));
    assert_eq!(code(client.delete_recursive("/t").await), Some(ErrorCode::NO_NODE));
}

#[tokio::test]
async fn what_a_multi_created_before_it_was_refused_is_not_met() {
    let served = Served::start(|_| {}).await;
    let client = served.client().await;
    make(&client, &["/t", "/t/a"]).await;
    let refused =
        Transaction::new().create("/t/ghost", "", CreateMode::Persistent).delete("/none", Version::ANY);
    let multi = client.multi(refused);
    let delete = client.delete_at_once("/t");
    assert_eq!(code(multi.await), Some(ErrorCode::NO_NODE));
    assert_eq!(delete.await.expect("a deleted subtree"), 2);
}
