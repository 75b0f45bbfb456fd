//! The cache: the server's tree at hand, through cuts, expiries and slow readers, with events that say the same.
//! The file is long because all scenarios of the recipe are here, and the reader that checks what events promise.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use docent::{Acl, Client, CreateMode, ErrorCode, ParentMode, Transaction, Version, WatcherKind, Zxid, path};
use docent_integration_tests::backend::Backend;
use docent_integration_tests::recipe_kit::{
    Ground, LONG_SESSION, Scenario, drop_connections, eventually, expire, expire_if_any, heal, play,
    play_bundled, polled, soon,
};
use docent_integration_tests::{on_every_server, scenarios};
use docent_recipes::{Cache, CacheBuilder, CacheEvent, CacheEvents, CachedNode, Depth, Error, Recipes};
use tokio::time::Instant;

const SCENARIOS: &[Scenario] = scenarios![
    the_view_is_the_tree_at_each_depth,
    changes_are_told_with_old_and_new,
    a_root_that_is_not_there_comes_and_goes,
    a_cut_connection_tells_the_differences_and_then_that_it_is_complete,
    a_node_made_anew_while_away_is_a_deletion_and_a_creation,
    an_expired_session_goes_on_in_the_next,
    a_random_tree_is_followed_through_cuts_and_expiries,
    a_random_tree_is_followed_with_oneshot_watches,
    a_slow_reader_is_told_and_starts_again,
    filters_and_caches_without_data_keep_what_they_say,
    what_is_too_large_ends_with_an_error,
    a_node_that_may_not_be_read_is_as_one_that_is_not_there,
    closing_and_dropping_leave_no_watch,
    two_caches_on_one_node_do_not_disturb_each_other,
    an_open_dropped_at_any_poll_leaves_nothing,
    a_watch_that_is_removed_is_set_again,
    a_closed_client_ends_the_events,
];

on_every_server!("cache", SCENARIOS);

/// They keep a server busy enough to slow down what is played beside them, so they have servers of their own.
const LARGE: &[Scenario] = scenarios![a_flood_of_changes_is_followed, ten_thousand_children_are_read];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn large_bundled() -> Result<()> {
    play_bundled("large-cache", LARGE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn large_apache_38() -> Result<()> {
    play("large-cache", Backend::Apache38, LARGE).await
}

/// Creates a node with its parents.
async fn put(client: &Client, path: &str, data: impl Into<Bytes>) -> Result<Zxid> {
    client.create_parents(path, ParentMode::Persistent).await?;
    Ok(client.create(path, data).mode(CreateMode::Persistent).await?.zxid)
}

/// Both kinds of watches.
fn both(client: &Client, path: &str) -> [CacheBuilder; 2] {
    [client.cache(path), client.cache(path).oneshot_watches()]
}

fn paths(cache: &Cache) -> Vec<String> {
    cache.snapshot().iter().map(|node| node.path.to_string()).collect()
}

async fn shows(cache: &Cache, wanted: &[String]) -> Result<()> {
    eventually(&format!("{wanted:?}"), async || Ok(paths(cache) == wanted)).await
}

async fn event(events: &mut CacheEvents) -> Result<CacheEvent> {
    soon("an event", events.next()).await?.context("the events ended")
}

/// Takes events up to the next [`CacheEvent::Synced`], and returns those that say more than of the connection.
async fn until_synced(events: &mut CacheEvents) -> Result<Vec<CacheEvent>> {
    let mut told = Vec::new();
    loop {
        match event(events).await? {
            CacheEvent::Synced { .. } => return Ok(told),
            CacheEvent::Suspended { .. } | CacheEvent::Lost => {}
            event => told.push(event),
        }
    }
}

/// What the server has below a path.
async fn tree(client: &Client, root: &str) -> Result<BTreeMap<String, (Zxid, Zxid, Bytes)>> {
    let (mut found, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(path) = open.pop() {
        match client.get_data(&path).await {
            Ok(node) => found.insert(path.clone(), (node.stat.czxid, node.stat.mzxid, node.bytes())),
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => continue,
            Err(error) => return Err(error.into()),
        };
        let names = client.get_children(&path).await?.names;
        open.extend(names.iter().map(|name| path::join(&path, name)));
    }
    Ok(found)
}

fn seen<'a>(nodes: impl Iterator<Item = &'a Arc<CachedNode>>) -> BTreeMap<String, (Zxid, Zxid, Bytes)> {
    nodes
        .map(|node| {
            let data = node.data.clone().unwrap_or_default();
            (node.path.to_string(), (node.stat.czxid, node.stat.mzxid, data))
        })
        .collect()
}

/// A reader that makes a view of its own from the events, and checks what they promise.
#[derive(Default)]
struct Mirror {
    nodes: BTreeMap<Arc<str>, Arc<CachedNode>>,
    newest: BTreeMap<Arc<str>, (Zxid, Zxid)>,
    synced: usize,
    changes: usize,
}

impl Mirror {
    fn begin(&mut self, events: &mut CacheEvents) {
        let snapshot = events.restart();
        self.nodes = snapshot.iter().map(|node| (Arc::clone(&node.path), Arc::clone(node))).collect();
    }

    fn rises(&mut self, node: &Arc<CachedNode>) -> Result<()> {
        let now = (node.stat.czxid, node.stat.mzxid);
        let before = self.newest.insert(Arc::clone(&node.path), now);
        ensure!(before.is_none_or(|before| before < now), "{} went from {before:?} to {now:?}", node.path);
        self.changes += 1;
        Ok(())
    }

    fn take(&mut self, root: &str, event: CacheEvent) -> Result<()> {
        match event {
            CacheEvent::Created(node) => {
                self.rises(&node)?;
                let parent = path::parent(&node.path).context("a parent")?;
                ensure!(&*node.path == root || self.nodes.contains_key(parent), "{} before it", node.path);
                let old = self.nodes.insert(Arc::clone(&node.path), node);
                ensure!(old.is_none(), "created twice: {old:?}");
            }
            CacheEvent::Changed { old, new } => {
                self.rises(&new)?;
                let known = self.nodes.insert(Arc::clone(&new.path), new);
                ensure!(
                    known.as_ref().is_some_and(|known| known.stat.mzxid == old.stat.mzxid),
                    "{known:?} {old:?}"
                );
            }
            CacheEvent::Deleted(node) => {
                let known = self.nodes.remove(&node.path);
                ensure!(known.is_some_and(|known| known.stat.mzxid == node.stat.mzxid), "{node:?}");
            }
            CacheEvent::Synced { .. } => self.synced += 1,
            _ => {}
        }
        Ok(())
    }
}

async fn the_view_is_the_tree_at_each_depth(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for below in ["a", "a/b/c", "a/b-", "d"] {
        put(&client, &ground.path(below), below.to_owned()).await?;
    }
    let at = |below: &[&str]| -> Vec<String> {
        std::iter::once(ground.root.clone()).chain(below.iter().map(|below| ground.path(below))).collect()
    };
    for builder in both(&client, &ground.root) {
        for (depth, wanted) in [
            (Depth::Node, at(&[])),
            (Depth::Children, at(&["a", "d"])),
            (Depth::Tree, at(&["a", "a/b", "a/b-", "a/b/c", "d"])),
        ] {
            let cache = builder.clone().depth(depth).open().await?;
            ensure!(paths(&cache) == wanted, "{depth:?}: {:?}", paths(&cache));
            ensure!(cache.len() == wanted.len() && cache.stale_since().is_none());
            // What comes later is seen at the same depth.
            put(&client, &ground.path("d/e"), "new").await?;
            client.set_data(&ground.root, format!("{depth:?}"), Version::ANY).await?;
            let deep = depth == Depth::Tree;
            eventually("the new data and node", async || {
                let root = cache.get(&ground.root).and_then(|node| node.data.clone());
                Ok(root == Some(format!("{depth:?}").into())
                    && cache.get(&ground.path("d/e")).is_some() == deep)
            })
            .await?;
            if deep {
                let names: Vec<_> =
                    cache.children(&ground.path("a")).iter().map(|node| node.path.to_string()).collect();
                ensure!(names == [ground.path("a/b"), ground.path("a/b-")], "{names:?}");
                ensure!(seen(cache.snapshot().iter()) == tree(&client, &ground.root).await?);
            }
            client.delete(ground.path("d/e"), Version::ANY).await?;
            shows(&cache, &wanted).await?;
            drop(cache);
            ground.nothing_left(&client).await?;
        }
    }
    Ok(())
}

async fn changes_are_told_with_old_and_new(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    put(&client, &ground.root, "root").await?;
    for (round, builder) in both(&client, &ground.root).into_iter().enumerate() {
        let cache = builder.open().await?;
        let mut events = cache.events();
        let node = ground.path(&format!("node-{round}"));
        let born = put(&client, &node, "one").await?;
        match event(&mut events).await? {
            CacheEvent::Created(new) => {
                ensure!(*new.path == *node && new.stat.czxid == born && new.data == Some("one".into()));
            }
            other => bail!("{other:?}"),
        }
        let stat = client.set_data(&node, "two", 0).await?;
        match event(&mut events).await? {
            CacheEvent::Changed { old, new } => {
                ensure!(old.data == Some("one".into()) && old.stat.version == 0, "{old:?}");
                ensure!(new.data == Some("two".into()) && new.stat == stat, "{new:?}");
            }
            other => bail!("{other:?}"),
        }
        // The same bytes are a newer write.
        client.set_data(&node, "two", 1).await?;
        ensure!(
            matches!(event(&mut events).await?, CacheEvent::Changed { new, .. } if new.stat.version == 2)
        );
        client.set_null_data(&node, 2).await?;
        ensure!(matches!(event(&mut events).await?, CacheEvent::Changed { new, .. } if new.data.is_none()));
        client.delete(&node, Version::ANY).await?;
        match event(&mut events).await? {
            CacheEvent::Deleted(old) => ensure!(*old.path == *node && old.stat.version == 3, "{old:?}"),
            other => bail!("{other:?}"),
        }
        drop((cache, events));
        ground.nothing_left(&client).await?;
    }
    Ok(())
}

async fn a_root_that_is_not_there_comes_and_goes(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for builder in both(&client, &ground.root) {
        for depth in [Depth::Node, Depth::Children, Depth::Tree] {
            let cache = builder.clone().depth(depth).open().await?;
            ensure!(cache.is_empty() && cache.stale_since().is_none());
            let mut wanted = vec![ground.root.clone()];
            if depth != Depth::Node {
                wanted.push(ground.path("a"));
            }
            for _ in 0..5 {
                put(&client, &ground.path("a"), "x").await?;
                shows(&cache, &wanted).await?;
                client.delete(ground.path("a"), Version::ANY).await?;
                client.delete(&ground.root, Version::ANY).await?;
                shows(&cache, &[]).await?;
            }
            drop(cache);
            ground.nothing_left(&client).await?;
        }
    }
    Ok(())
}

async fn a_cut_connection_tells_the_differences_and_then_that_it_is_complete(ground: Ground) -> Result<()> {
    let writer = ground.client().await?;
    for below in ["stays", "changes", "goes/deep"] {
        put(&writer, &ground.path(below), "1").await?;
    }
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    for (round, builder) in both(&client, &ground.root).into_iter().enumerate() {
        let cache = builder.open().await?;
        let mut events = cache.events();
        drop_connections(&proxy);
        ensure!(matches!(event(&mut events).await?, CacheEvent::Suspended { .. }));
        ensure!(cache.stale_since().is_some_and(|since| since <= Instant::now()));
        let before = cache.snapshot();
        writer.set_data(ground.path("changes"), "2", Version::ANY).await?;
        for below in ["goes/deep", "goes"] {
            writer.delete(ground.path(below), Version::ANY).await?;
        }
        let new = ground.path(&format!("comes-{round}"));
        let zxid = put(&writer, &new, "1").await?;
        ensure!(cache.snapshot() == before, "the view changed without a connection");
        heal(&proxy);
        let mut told: Vec<String> = until_synced(&mut events)
            .await?
            .iter()
            .map(|event| match event {
                CacheEvent::Created(node) => format!("+{}", node.path),
                CacheEvent::Changed { new, .. } => format!("={}", new.path),
                CacheEvent::Deleted(node) => format!("-{}", node.path),
                other => format!("{other:?}"),
            })
            .collect();
        let first_gone = told.iter().position(|told| told.starts_with('-')).context("nothing is gone")?;
        ensure!(told[first_gone] == format!("-{}", ground.path("goes/deep")), "{told:?}");
        told.sort();
        let wanted = [
            format!("+{new}"),
            format!("-{}", ground.path("goes")),
            format!("-{}", ground.path("goes/deep")),
            format!("={}", ground.path("changes")),
        ];
        ensure!(told == wanted, "{told:?}");
        ensure!(cache.stale_since().is_none() && cache.get(&new).is_some_and(|node| node.stat.czxid == zxid));
        // Nothing happens meanwhile: that it is complete has to be found out, too.
        drop_connections(&proxy);
        ensure!(matches!(event(&mut events).await?, CacheEvent::Suspended { .. }));
        heal(&proxy);
        let told = until_synced(&mut events).await?;
        ensure!(told.is_empty(), "{told:?}");
        put(&writer, &ground.path("goes/deep"), "1").await?;
        drop((cache, events));
        ground.nothing_left(&writer).await?;
    }
    Ok(())
}

/// The version is 0 before and after.
async fn a_node_made_anew_while_away_is_a_deletion_and_a_creation(ground: Ground) -> Result<()> {
    let writer = ground.client().await?;
    put(&writer, &ground.path("a/b"), "old").await?;
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    for builder in both(&client, &ground.root) {
        let cache = builder.open().await?;
        let mut events = cache.events();
        drop_connections(&proxy);
        ensure!(matches!(event(&mut events).await?, CacheEvent::Suspended { .. }));
        for below in ["a/b", "a"] {
            writer.delete(ground.path(below), Version::ANY).await?;
        }
        put(&writer, &ground.path("a/b"), "new").await?;
        heal(&proxy);
        let told = until_synced(&mut events).await?;
        let [
            CacheEvent::Deleted(gone_b),
            CacheEvent::Deleted(gone_a),
            CacheEvent::Created(new_a),
            CacheEvent::Created(new_b),
        ] = &told[..]
        else {
            bail!("{told:?}")
        };
        ensure!(gone_a.path == new_a.path && gone_b.path == new_b.path && gone_b.stat.version == 0);
        ensure!(new_b.stat.version == 0 && new_b.stat.czxid > gone_b.stat.czxid);
        drop((cache, events));
        ground.nothing_left(&writer).await?;
    }
    Ok(())
}

async fn an_expired_session_goes_on_in_the_next(ground: Ground) -> Result<()> {
    let (client, writer) = (ground.client().await?, ground.client().await?);
    put(&writer, &ground.path("a"), "1").await?;
    for (round, builder) in both(&client, &ground.root).into_iter().enumerate() {
        let cache = builder.open().await?;
        let mut events = cache.events();
        let before = expire(&ground.connect, &client).await?;
        soon("that the session is lost", async {
            loop {
                match event(&mut events).await? {
                    CacheEvent::Lost => return Ok(()),
                    // The session may be taken up once more before it ends.
                    CacheEvent::Suspended { .. } | CacheEvent::Synced { .. } => {}
                    other => bail!("{other:?}"),
                }
            }
        })
        .await??;
        let told = until_synced(&mut events).await?;
        ensure!(told.is_empty(), "{told:?}");
        ensure!(client.session()?.id() != before && cache.stale_since().is_none());
        let node = ground.path(&format!("new-{round}"));
        put(&writer, &node, "1").await?;
        ensure!(matches!(event(&mut events).await?, CacheEvent::Created(new) if *new.path == *node));
        drop((cache, events));
        ground.nothing_left(&writer).await?;
    }
    Ok(())
}

async fn a_random_tree_is_followed_through_cuts_and_expiries(ground: Ground) -> Result<()> {
    random_tree(ground, false).await
}

async fn a_random_tree_is_followed_with_oneshot_watches(ground: Ground) -> Result<()> {
    random_tree(ground, true).await
}

/// While a tree is written at random and the reader's connection is cut and its session expired: the view and what the
/// events make of it become the server's tree.
async fn random_tree(ground: Ground, oneshots: bool) -> Result<()> {
    const WRITES: usize = 600;
    let writer = ground.client().await?;
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let root = ground.path("tree");
    put(&writer, &root, "").await?;
    // More than all that happens here.
    let builder = client.cache(&root).events_max(10 * WRITES);
    let cache = if oneshots { builder.oneshot_watches() } else { builder }.open().await?;
    let (mut events, mut mirror) = (cache.events(), Mirror::default());
    mirror.begin(&mut events);
    let last = path::join(&root, "last");
    let reading = tokio::spawn({
        let (root, last) = (root.clone(), last.clone());
        async move {
            loop {
                let event = events.next().await.context("the events ended")?;
                ensure!(!matches!(event, CacheEvent::Lagged(_)), "fewer events were kept than happened");
                mirror.take(&root, event)?;
                if mirror.nodes.contains_key(&*last) && mirror.synced > 2 {
                    return Ok((mirror, events));
                }
            }
        }
    });
    for write in 1..=WRITES {
        let names: Vec<_> =
            (0..fastrand::usize(1..4)).map(|_| ["a", "b", "c"][fastrand::usize(0..3)]).collect();
        let node = format!("{root}/{}", names.join("/"));
        let written = match fastrand::u8(0..4) {
            0 | 1 => put(&writer, &node, write.to_string()).await.map(drop),
            2 => writer.set_data(&node, write.to_string(), Version::ANY).await.map(drop).map_err(Into::into),
            _ => writer.delete(&node, Version::ANY).await.map_err(Into::into),
        };
        if let Err(error) = written {
            let code = error.downcast_ref::<docent::Error>().and_then(docent::Error::code);
            let refused = [ErrorCode::NODE_EXISTS, ErrorCode::NO_NODE, ErrorCode::NOT_EMPTY];
            ensure!(code.is_some_and(|code| refused.contains(&code)), "{error:#}");
        }
        if write % 100 == 0 {
            proxy.cut();
        }
        if write % 250 == 0 {
            expire_if_any(&ground.connect, &client).await?;
        }
        // Between two faults the view becomes the tree, so that each fault is followed by a refill of its own, and there are
        // changes to be told before the next.
        if write % 100 == 50 {
            let wanted = tree(&writer, &root).await?;
            eventually("the tree so far", async || {
                Ok(cache.stale_since().is_none() && seen(cache.snapshot().iter()) == wanted)
            })
            .await?;
        }
    }
    put(&writer, &last, "").await?;
    eventually("the last node", async || Ok(cache.get(&last).is_some())).await?;
    drop_connections(&proxy);
    heal(&proxy);
    let (mut mirror, mut events) = soon("the last event", reading).await???;
    let wanted = tree(&writer, &root).await?;
    eventually("the same tree", async || Ok(seen(cache.snapshot().iter()) == wanted)).await?;
    while seen(mirror.nodes.values()) != wanted {
        mirror.take(&root, event(&mut events).await?)?;
    }
    ensure!(mirror.changes > 20, "{} changes seen", mirror.changes);
    cache.close().await;
    ground.nothing_left(&writer).await
}

async fn a_slow_reader_is_told_and_starts_again(ground: Ground) -> Result<()> {
    const WRITES: usize = 100;
    let client = ground.client().await?;
    put(&client, &ground.root, "").await?;
    let cache = client.cache(&ground.root).events_max(8).open().await?;
    let (mut slow, mut mirror) = (cache.events(), Mirror::default());
    mirror.begin(&mut slow);
    for write in 0..WRITES {
        put(&client, &ground.path(&format!("n{write:03}")), "x").await?;
    }
    eventually("all nodes", async || Ok(cache.len() == WRITES + 1)).await?;
    match event(&mut slow).await? {
        CacheEvent::Lagged(lost) => ensure!(lost == WRITES as u64 - 8, "{lost} lost"),
        other => bail!("{other:?}"),
    }
    // What is left is the newest. To start again leaves it out, and tells nothing twice.
    mirror.begin(&mut slow);
    ensure!(mirror.nodes.len() == WRITES + 1);
    let late = ground.path("late");
    put(&client, &late, "x").await?;
    mirror.take(&ground.root, event(&mut slow).await?)?;
    ensure!(
        mirror.nodes.contains_key(&*late) && seen(mirror.nodes.values()) == seen(cache.snapshot().iter())
    );
    drop((cache, slow));
    ground.nothing_left(&client).await
}

/// More happens at once than the client keeps for the cache.
async fn a_flood_of_changes_is_followed(ground: Ground) -> Result<()> {
    const NODES: usize = 500;
    let writer = ground.client().await?;
    put(&writer, &ground.root, "").await?;
    let builder = Client::builder(&*ground.connect).session_timeout(LONG_SESSION).watch_queue(2);
    let client = builder.connect().await?;
    let cache = client.cache(&ground.root).open().await?;
    for round in 0..3 {
        let node = |number: usize| ground.path(&format!("n{number:03}"));
        let mut made = Transaction::new();
        let mut gone = Transaction::new();
        for number in 0..NODES {
            made = made.create(node(number), round.to_string(), CreateMode::Persistent);
            gone = gone.delete(node(number), Version::ANY);
        }
        writer.multi(made).await?;
        eventually("all nodes", async || Ok(cache.len() == NODES + 1)).await?;
        writer.multi(gone).await?;
        eventually("no node", async || Ok(cache.len() == 1)).await?;
    }
    cache.close().await;
    ground.nothing_left(&writer).await
}

async fn ten_thousand_children_are_read(ground: Ground) -> Result<()> {
    const CHILDREN: usize = 10_000;
    let client = ground.client().await?;
    put(&client, &ground.root, "").await?;
    for from in (0..CHILDREN).step_by(100) {
        let mut batch = Transaction::new();
        for child in from..from + 100 {
            batch =
                batch.create(ground.path(&format!("c{child:05}")), child.to_string(), CreateMode::Persistent);
        }
        client.multi(batch).await?;
    }
    let [stream, oneshots] = both(&client, &ground.root);
    // The children have no children, so that one watch and no list is all they cost; or else a watch each.
    for (builder, watches) in
        [(stream.clone().depth(Depth::Children), 1), (stream, 1), (oneshots, CHILDREN + 1)]
    {
        let cache = soon("the fill", builder.open()).await??;
        ensure!(cache.len() == CHILDREN + 1, "{}", cache.len());
        let children = cache.children(&ground.root);
        ensure!(children.len() == CHILDREN && children[77].data == Some("77".into()), "{:?}", children[77]);
        ensure!(ground.watches().await?.len() == watches);
        let (mut events, gone) = (cache.events(), children.last().context("a child")?);
        client.delete(&*gone.path, Version::ANY).await?;
        ensure!(matches!(event(&mut events).await?, CacheEvent::Deleted(old) if old == *gone));
        ensure!(cache.len() == CHILDREN);
        client.create(&*gone.path, "again").mode(CreateMode::Persistent).await?;
        ensure!(matches!(event(&mut events).await?, CacheEvent::Created(new) if new.path == gone.path));
        soon("closing", cache.close()).await?;
        ensure!(ground.watches().await?.is_empty());
    }
    Ok(())
}

async fn filters_and_caches_without_data_keep_what_they_say(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for below in ["kept/a", "left/a/b"] {
        put(&client, &ground.path(below), "x").await?;
    }
    for builder in both(&client, &ground.root) {
        let cache = builder.filter(|path| path::name(path) != "left").without_data().open().await?;
        let mut events = cache.events();
        let wanted = [ground.root.clone(), ground.path("kept"), ground.path("kept/a")];
        ensure!(paths(&cache) == wanted, "{:?}", paths(&cache));
        ensure!(cache.snapshot().iter().all(|node| node.data.is_none()));
        client.set_data(ground.path("left/a"), "y", Version::ANY).await?;
        let stat = client.set_data(ground.path("kept/a"), "long", Version::ANY).await?;
        match event(&mut events).await? {
            CacheEvent::Changed { new, .. } => ensure!(new.stat == stat && new.data.is_none(), "{new:?}"),
            other => bail!("{other:?}"),
        }
        drop((cache, events));
        ground.nothing_left(&client).await?;
    }
    Ok(())
}

async fn what_is_too_large_ends_with_an_error(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for child in 0..10 {
        put(&client, &ground.path(&format!("c{child}")), vec![b'x'; 1000]).await?;
    }
    let refused = client.cache(&ground.root).nodes_max(10).open().await;
    ensure!(matches!(&refused, Err(Error::CacheTooLarge { nodes_max: 10, .. })), "{refused:?}");
    let refused = client.cache(&ground.root).bytes_max(10_000).open().await;
    ensure!(matches!(&refused, Err(Error::CacheTooLarge { bytes_max: 10_000, .. })), "{refused:?}");
    ground.nothing_left(&client).await?;

    let cache = client.cache(&ground.root).nodes_max(11).open().await?;
    let mut events = cache.events();
    put(&client, &ground.path("c10"), "one too many").await?;
    loop {
        match event(&mut events).await? {
            CacheEvent::Created(_) => {}
            CacheEvent::Ended(Error::CacheTooLarge { .. }) => break,
            other => bail!("{other:?}"),
        }
    }
    ensure!(soon("the end", events.next()).await?.is_none());
    ensure!(cache.stale_since().is_some() && matches!(cache.error(), Some(Error::CacheTooLarge { .. })));
    ensure!(cache.get(&ground.path("c9")).is_some(), "what was known is at hand");
    // The watch went with the end, not with the cache.
    ground.nothing_left(&client).await
}

async fn a_node_that_may_not_be_read_is_as_one_that_is_not_there(ground: Ground) -> Result<()> {
    let (client, owner) = (ground.client().await?, ground.client().await?);
    owner.add_auth("digest", "owner:secret").await?;
    let (open, closed) = (ground.path("open"), ground.path("closed"));
    put(&owner, &open, "seen").await?;
    owner.create(&closed, "unseen").mode(CreateMode::Persistent).acl(Acl::creator_all()).await?;
    for builder in both(&client, &ground.root) {
        let cache = builder.open().await?;
        ensure!(paths(&cache) == [ground.root.clone(), open.clone()], "{:?}", paths(&cache));
        let mut events = cache.events();
        // What happens to it says nothing either.
        owner.set_data(&closed, "unseen again", Version::ANY).await?;
        owner.set_data(&open, "seen again", Version::ANY).await?;
        ensure!(matches!(event(&mut events).await?, CacheEvent::Changed { new, .. } if *new.path == *open));
        drop((cache, events));
        ground.nothing_left(&owner).await?;
    }
    let refused = client.cache(&closed).open().await;
    ensure!(matches!(refused, Err(Error::NotAllowed(_))), "{refused:?}");
    ground.nothing_left(&owner).await
}

async fn closing_and_dropping_leave_no_watch(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    for below in ["a/b", "c"] {
        put(&client, &ground.path(below), "x").await?;
    }
    for builder in both(&client, &ground.root) {
        for depth in [Depth::Node, Depth::Children, Depth::Tree] {
            let cache = builder.clone().depth(depth).open().await?;
            ensure!(!ground.watches().await?.is_empty());
            let (clone, mut events) = (cache.clone(), cache.events());
            soon("closing", cache.close()).await?;
            // When it is closed they are gone, not some time later.
            ensure!(ground.watches().await?.is_empty(), "{:?}", ground.watches().await?);
            ensure!(soon("the end", events.next()).await?.is_none());
            soon("closing again", clone.close()).await?;
            ensure!(
                clone.get(&ground.root).is_some() && clone.stale_since().is_some() && clone.error().is_none()
            );

            let cache = builder.clone().depth(depth).open().await?;
            let (clone, mut events) = (cache.clone(), cache.events());
            drop(cache);
            ensure!(!ground.watches().await?.is_empty(), "a clone is left");
            drop(clone);
            ensure!(soon("the end", events.next()).await?.is_none());
            ground.nothing_left(&client).await?;
        }
    }
    Ok(())
}

async fn two_caches_on_one_node_do_not_disturb_each_other(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    put(&client, &ground.path("a"), "1").await?;
    let one = client.cache(&ground.root).open().await?;
    let two = client.cache(&ground.root).open().await?;
    ensure!(ground.watches().await?.len() == 1);
    one.close().await;
    let mut events = two.events();
    client.set_data(ground.path("a"), "2", Version::ANY).await?;
    ensure!(matches!(event(&mut events).await?, CacheEvent::Changed { .. }));
    two.close().await;
    ensure!(ground.watches().await?.is_empty());
    Ok(())
}

async fn an_open_dropped_at_any_poll_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    put(&client, &ground.path("a/b"), "x").await?;
    for builder in both(&client, &ground.root) {
        let mut done = false;
        for polls in 0..1_000 {
            done = polled(polls, builder.clone().open()).await.transpose()?.is_some();
            ground.nothing_left(&client).await.with_context(|| format!("after {polls} polls"))?;
            if done {
                break;
            }
        }
        ensure!(done, "open never completed");
        for _ in 0..100 {
            let limit = Duration::from_micros(fastrand::u64(0..3_000));
            drop(tokio::time::timeout(limit, builder.clone().open()).await);
        }
        ground.nothing_left(&client).await?;
    }
    Ok(())
}

async fn a_watch_that_is_removed_is_set_again(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    put(&client, &ground.path("a"), "1").await?;
    let cache = client.cache(&ground.root).open().await?;
    let mut events = cache.events();
    client.remove_watches(&ground.root, WatcherKind::Any).await?;
    ensure!(until_synced(&mut events).await?.is_empty());
    client.set_data(ground.path("a"), "2", Version::ANY).await?;
    ensure!(matches!(event(&mut events).await?, CacheEvent::Changed { .. }));
    drop((cache, events));
    ground.nothing_left(&client).await
}

async fn a_closed_client_ends_the_events(ground: Ground) -> Result<()> {
    let (client, admin) = (ground.client().await?, ground.client().await?);
    put(&client, &ground.root, "x").await?;
    let cache = client.cache(&ground.root).open().await?;
    let mut events = cache.events();
    client.close().await?;
    soon("the end", async { while events.next().await.is_some() {} }).await?;
    ensure!(matches!(cache.error(), Some(Error::Closed)) && cache.stale_since().is_some());
    ensure!(cache.get(&ground.root).is_some());
    soon("closing", cache.close()).await?;
    let refused = client.cache(&ground.root).open().await;
    ensure!(matches!(refused, Err(Error::Closed)), "{refused:?}");
    ground.nothing_left(&admin).await
}
