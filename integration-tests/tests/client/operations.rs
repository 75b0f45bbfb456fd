//! What the verbs do.

use super::*;

pub(crate) async fn every_operation(stage: Stage) -> Result<()> {
    let client = stage.client().await?;
    let created = client.create("/a", "one").await?;
    let stat = created.stat.context("the server tells the Stat")?;
    ensure!((created.path.as_str(), created.zxid) == ("/a", stat.czxid), "{created:?}");
    let again = client.create("/a", "").await;
    ensure!(again.as_ref().is_err_and(|e| e.code() == Some(ErrorCode::NODE_EXISTS)), "{again:?}");

    let set = client.set_data("/a", "two", 0).await?;
    ensure!(set.version == 1 && client.last_zxid() >= set.mzxid, "{set:?}");
    let stale = client.set_data("/a", "three", Version(0)).await;
    ensure!(
        matches!(&stale, Err(Error::Server { code: ErrorCode::BAD_VERSION, path, .. }) if path == "/a"),
        "{stale:?}"
    );
    let read = client.get_data("/a").await?;
    ensure!((&read.bytes()[..], read.stat) == (b"two", set), "{read:?}");
    client.set_null_data("/a", Version::ANY).await?;
    let read = client.get_data("/a").await?;
    ensure!(read.bytes().is_empty() && read.stat.version == 2, "{read:?}");

    ensure!(client.exists("/b").await?.is_none());
    client.create("/a/y", "").await?;
    client.create("/a/x", "").null_data().await?;
    ensure!(client.get_data("/a/x").await?.data.is_none(), "null is not empty");
    ensure!(client.get_data("/a/y").await?.data.is_some(), "empty is not null");
    let children = client.get_children("/a").await?;
    ensure!(children.names == ["x", "y"] && children.stat.num_children == 2, "{children:?}");
    ensure!(client.get_all_children_number("/a").await? == 2);
    client.create("/a/e", "").ephemeral().await?;
    ensure!(client.get_ephemerals("/a").await? == ["/a/e"]);

    client.create("/acl", "").await?;
    let (acl, stat) = client.get_acl("/acl").await?;
    ensure!(acl == Acl::open() && stat.aversion == 0, "{acl:?}");
    let stat = client.set_acl("/acl", Acl::read_only(), 0).await?;
    ensure!(stat.aversion == 1);
    ensure!(client.set_data("/acl", "", -1).await.is_err_and(|e| e.code() == Some(ErrorCode::NO_AUTH)));

    ensure!(client.who_am_i().await?.iter().any(|info| info.scheme == "ip"));
    client.get_config().await?;
    client.sync("/a").await?;
    let refused = client.reconfig(ReconfigRequest { current_config: -1, ..Default::default() }).await;
    ensure!(refused.is_err(), "a standalone server cannot be reconfigured: {refused:?}");

    let stat = client.exists("/a/y").await?.context("/a/y exists")?;
    ensure!(client.delete("/a/y", stat.version + 1).await.is_err());
    client.delete("/a/y", stat.version).await?;
    for wrong in ["", "a", "/a/", "/a//b", "/a/."] {
        ensure!(matches!(client.get_data(wrong).await, Err(Error::InvalidPath(_))), "{wrong:?}");
    }
    transactions(&client).await?;
    Ok(client.close().await?)
}

async fn transactions(client: &Client) -> Result<()> {
    let done = client
        .multi(
            Transaction::new()
                .create("/t", "0", CreateMode::Persistent)
                .create("/t/s-", "", CreateMode::EphemeralSequential)
                .set_data("/t", "1", 0)
                .check("/t", 1)
                .delete("/t/s-0000000000", Version::ANY),
        )
        .await?;
    ensure!(
        matches!(
            &done[..],
            [
                MultiResult::Create { path } | MultiResult::Create2 { path, .. },
                MultiResult::Create { path: numbered } | MultiResult::Create2 { path: numbered, .. },
                MultiResult::SetData { stat },
                MultiResult::Check,
                MultiResult::Delete,
            ] if path == "/t" && numbered == "/t/s-0000000000" && stat.version == 1
        ),
        "{done:?}"
    );
    let refused = client.multi(Transaction::new().delete("/t", -1).check("/none", -1).delete("/t", -1)).await;
    let Err(Error::Multi { index: 1, code: ErrorCode::NO_NODE, results }) = refused else {
        bail!("{refused:?}");
    };
    ensure!(results.len() == 3 && client.exists("/t").await?.is_some());
    ensure!(client.multi(Transaction::new()).await?.is_empty());

    let reads = ["/t", "/none"].map(|path| ReadOp::GetData { path: path.into() });
    let children = ReadOp::GetChildren { path: "/t".into() };
    let read = client.multi_read(reads.into_iter().chain([children]).collect()).await?;
    ensure!(
        matches!(
            &read[..],
            [
                MultiResult::GetData { data: Some(data), .. },
                MultiResult::Error(ErrorCode::NO_NODE),
                MultiResult::GetChildren { names },
            ] if &data[..] == b"1" && names.is_empty()
        ),
        "{read:?}"
    );
    Ok(())
}

pub(crate) async fn every_create_mode(stage: Stage) -> Result<()> {
    let client = stage.client().await?;
    let session = client.session()?.id();
    client.create("/m", "").await?;
    let ttl = Duration::from_secs(60);
    for (name, mode, numbered) in [
        ("p", CreateMode::Persistent, false),
        ("ps", CreateMode::PersistentSequential, true),
        ("e", CreateMode::Ephemeral, false),
        ("es", CreateMode::EphemeralSequential, true),
        ("c", CreateMode::Container, false),
        ("t", CreateMode::Ttl(ttl), false),
        ("ts", CreateMode::TtlSequential(ttl), true),
    ] {
        let created = client.create(format!("/m/{name}"), "x").mode(mode).await?;
        let stat = created.stat.with_context(|| format!("{mode:?} tells the Stat"))?;
        ensure!((created.path.len() > name.len() + 3) == numbered, "{created:?}");
        ensure!((stat.ephemeral_owner == session) == mode.is_ephemeral(), "{created:?}");
        ensure!(client.get_data(&created.path).await?.stat == stat, "{created:?}");
    }
    let too_long = client.create("/m/never", "").ttl(Duration::from_secs(1 << 40)).await;
    ensure!(matches!(too_long, Err(Error::InvalidArgument(_))), "{too_long:?}");
    let numbered = client.create("/m/", "").sequential().await?;
    ensure!(client.exists(&numbered.path).await?.is_some(), "{numbered:?}");

    client.create_parents("/deep/er/and/deeper", ParentMode::Container).await?;
    ensure!(
        client.exists("/deep/er/and").await?.is_some()
            && client.exists("/deep/er/and/deeper").await?.is_none()
    );
    client.create_parents("/deep/er/and/deeper", ParentMode::Persistent).await?;
    Ok(client.close().await?)
}

pub(crate) async fn calls_are_carried_out_in_their_order(stage: Stage) -> Result<()> {
    const CALLS: i32 = 2000;
    let client = stage.client().await?;
    let mut last = client.create("/n", "").await?.zxid;
    let mut replies = Vec::new();
    for version in 0..CALLS {
        replies.push((client.set_data("/n", version.to_string(), version), client.get_data("/n")));
    }
    for (version, (set, get)) in replies.into_iter().enumerate() {
        let stat = set.await.with_context(|| format!("set {version}"))?;
        let read = get.await?;
        ensure!(read.bytes() == version.to_string().as_bytes() && read.stat == stat, "{version}: {read:?}");
        ensure!(stat.mzxid > last);
        last = stat.mzxid;
    }
    Ok(client.close().await?)
}

pub(crate) async fn watches_are_removed_when_dropped(stage: Stage) -> Result<()> {
    let client = stage.client().await?;
    client.create("/w", "").await?;
    let gone = |path: &'static str, kind| {
        let client = client.clone();
        async move {
            let checked = client.check_watches(path, kind).await;
            ensure!(
                checked.as_ref().is_err_and(|error| error.code() == Some(ErrorCode::NO_WATCHER)),
                "{checked:?}"
            );
            Ok(())
        }
    };
    let (_, first) = client.get_data_and_watch("/w").await?;
    let (_, second) = client.get_data_and_watch("/w").await?;
    drop(first);
    client.check_watches("/w", WatcherKind::Data).await.context("the second still needs it")?;
    drop(second);
    gone("/w", WatcherKind::Any).await?;

    let (_, child) = client.get_children_and_watch("/w").await?;
    drop(child);
    gone("/w", WatcherKind::Children).await?;

    // The answer is never looked at, so the watch is nobody's.
    drop(client.get_data_and_watch("/w"));
    client.sync("/").await?;
    gone("/w", WatcherKind::Any).await?;

    let watcher = client.watch("/w", AddWatchMode::PersistentRecursive).await?;
    client.check_watches("/w", WatcherKind::Any).await?;
    drop(watcher);
    gone("/w", WatcherKind::Any).await?;

    let (_, removed) = client.get_data_and_watch("/w").await?;
    client.remove_watches("/w", WatcherKind::Data).await?;
    let end = within("the end of the watch", removed).await?;
    ensure!(matches!(&end, Err(Error::WatchRemoved { path }) if path == "/w"), "{end:?}");
    Ok(client.close().await?)
}

pub(crate) async fn identities_are_taken_along(stage: Stage) -> Result<()> {
    let client = stage.builder().auth("digest", "first:secret").connect().await?;
    client.create("/mine", "x").acl(Acl::creator_all()).await?;
    client.add_auth("digest", "second:secret").await?;
    let (other, mut state) = (stage.bystander().await?, client.state());
    ensure!(other.get_data("/mine").await.is_err_and(|error| error.code() == Some(ErrorCode::NO_AUTH)));
    // Nobody sees a suspension that is over at once.
    stage.proxy.refuse(true);
    stage.proxy.cut();
    within("suspension", state.wait_for(|state| !state.is_connected())).await?;
    stage.proxy.refuse(false);
    within("reconnect", state.wait_for(ConnState::is_connected)).await?;
    client.get_data("/mine").await?;
    let who = client.who_am_i().await?;
    let digests = who.iter().filter(|info| info.scheme == "digest").count();
    ensure!(digests == 2, "{who:?}");
    let (acl, _) = client.get_acl("/mine").await?;
    ensure!(acl.len() == 1 && acl[0].scheme == "digest" && acl[0].permissions == Permissions::ALL, "{acl:?}");

    let refused = within("the refusal", client.add_auth("nosuch", "x")).await?;
    ensure!(refused == Err(Error::AuthFailed), "{refused:?}");
    ensure!(client.get_data("/mine").await == Err(Error::AuthFailed));
    let refused = within("the refusal", stage.builder().auth("nosuch", "x").connect()).await?;
    ensure!(refused.is_err(), "{refused:?}");
    Ok(())
}

pub(crate) async fn a_namespace_is_not_left(stage: Stage) -> Result<()> {
    let outer = stage.client().await?;
    outer.create_parents("/app/one/x", ParentMode::Persistent).await?;
    outer.create("/app/onetwo", "").ephemeral().await?;
    let hosts = format!("{}/app", stage.proxy.connect_string());
    let inner = Client::builder(hosts).connect().await?.namespaced("/one")?;
    ensure!(inner.chroot() == "/app/one");

    let mut watcher = inner.watch("/", AddWatchMode::PersistentRecursive).await?;
    let (_, watch) = inner.exists_and_watch("/n").await?;
    let created = inner.create("/n", "").ephemeral().await?;
    ensure!(created.path == "/n", "{created:?}");
    ensure!(within("the event", watch).await??.path == "/n");
    let item = within("the event", watcher.next()).await?;
    ensure!(matches!(&item, Some(WatchItem::Event(event)) if event.path == "/n"), "{item:?}");
    ensure!(outer.exists("/app/one/n").await?.is_some());
    ensure!(inner.get_ephemerals("/").await? == ["/n"], "not the longer name beside it");
    let numbered = inner.create("/", "").sequential().await?;
    ensure!(outer.exists(format!("/app/one{}", numbered.path)).await?.is_some(), "{numbered:?}");
    let done = inner.multi(Transaction::new().create("/m", "", CreateMode::Persistent)).await?;
    ensure!(
        matches!(&done[0], MultiResult::Create { path } | MultiResult::Create2 { path, .. } if path == "/m"),
        "{done:?}"
    );
    let missing = inner.get_data("/none").await;
    ensure!(matches!(&missing, Err(Error::Server { path, .. }) if path == "/none"), "{missing:?}");
    inner.get_config().await.context("the configuration lies outside")?;
    inner.create_parents("/p/q", ParentMode::Container).await?;
    ensure!(outer.exists("/app/one/p").await?.is_some());
    Ok(())
}

pub(crate) async fn large_requests_do_no_harm(stage: Stage) -> Result<()> {
    let client = stage.client().await?;
    let large = vec![7_u8; 1_000_000];
    client.create("/large", large.clone()).await?;
    ensure!(client.get_data("/large").await?.bytes() == large);
    // Beyond the server's limit: it hangs up, or answers with an error.
    let refused = within("the refusal", client.set_data("/large", vec![8_u8; 3_000_000], -1)).await?;
    ensure!(refused.is_err(), "{refused:?}");
    ensure!(within("the next request", client.get_data("/large")).await??.bytes() == large);

    // Many children make an answer larger than what servers take.
    let name = "n".repeat(200);
    let mut replies = Vec::new();
    client.create("/many", "").await?;
    for number in 0..6000 {
        replies.push(client.create(format!("/many/{name}{number:05}"), "").send());
    }
    for reply in replies {
        reply.await?;
    }
    let children = within("the list", client.get_children("/many")).await??;
    ensure!(children.names.len() == 6000 && children.names.is_sorted());
    let mut pages = client.children_pages("/many", 0);
    let mut names = Vec::new();
    while let Some(page) = within("a page", pages.next()).await?? {
        names.extend(page);
    }
    ensure!(names.len() == 6000 && names.is_sorted(), "{} names", names.len());
    Ok(client.close().await?)
}

/// What only our servers know costs no other server more than a refusal: the connection stays, and with it what is under
/// way on it.
pub(crate) async fn a_subtree_is_deleted_on_every_server(stage: Stage) -> Result<()> {
    let client = stage.client().await?;
    client.create("/t", "").await?;
    let mut made = Vec::new();
    for number in 0..1_200 {
        made.push(client.create(format!("/t/{number}"), "").send());
        made.push(client.create(format!("/t/{number}/leaf"), "").send());
    }
    for create in made {
        create.await?;
    }
    let at_once = client.delete_at_once("/t");
    let behind = client.create("/behind", "").send();
    let mut pages = client.children_pages("/t", 10);
    let page = pages.next();
    let (at_once, behind, page) =
        within("three answers", async { tokio::join!(at_once, behind, page) }).await?;
    behind.context("what was sent behind it is lost when the connection breaks")?;
    match at_once {
        Ok(nodes) => ensure!(nodes == 2_401, "{nodes}"),
        Err(error) => {
            ensure!(error.code() == Some(ErrorCode::UNIMPLEMENTED), "{error}");
            ensure!(page?.is_some_and(|names| names.len() == 1_200), "all children are one page");
            let deleted = within("the deletes", client.delete_recursive("/t")).await??;
            ensure!(deleted.nodes == 2_401 && !deleted.at_once, "{deleted:?}");
        }
    }
    ensure!(client.exists("/t").await?.is_none());
    let gone = client.delete_recursive("/t").await;
    ensure!(gone.is_err_and(|error| error.code() == Some(ErrorCode::NO_NODE)));
    Ok(client.close().await?)
}
