//! Group membership: members that come back by themselves, conflicts, numbered views.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::{Client, CreateMode, OpCode, ParentMode, Version, WatcherKind, Zxid};
use docent_integration_tests::recipe_kit::{
    Ground, LONG_SESSION, Scenario, eventually, expire, polled, soon,
};
use docent_integration_tests::{on_every_server, scenarios};
use docent_recipes::{
    Conflict, Error, Member, MemberLayout, MemberState, Payload, Recipes, Released, View, Views,
};
use serde::{Deserialize, Serialize};

const SCENARIOS: &[Scenario] = scenarios![
    a_member_is_one_node_with_its_payload,
    views_are_numbered_and_tell_who_came_and_went,
    views_of_two_processes_agree,
    payloads_of_others_are_kept_or_restored,
    an_expired_member_joins_again,
    a_deleted_member_joins_again,
    a_taken_name_fails_waits_or_is_taken_over,
    a_join_dropped_at_any_poll_leaves_nothing,
    a_join_dropped_at_any_time_leaves_nothing,
    dropped_views_leave_no_watch,
    lost_replies_are_found_out,
    views_come_through_cuts_and_expiries,
    members_of_kazoo_are_read,
    a_group_that_vanishes_is_empty,
    a_closed_client_ends_everything,
];

on_every_server!("group", SCENARIOS);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Info {
    port: u16,
}

const INFO: Info = Info { port: 80 };

async fn join(client: &Client, ground: &Ground, id: &str) -> Result<Member> {
    Ok(soon("joining", client.group(ground.path("g")).join(id, &INFO).into_future()).await??)
}

/// The first view that satisfies a condition.
async fn view<T: serde::de::DeserializeOwned>(
    views: &mut Views<T>,
    what: &str,
    wanted: impl Fn(&View<T>) -> bool,
) -> Result<View<T>> {
    soon(what, async {
        loop {
            let view = views.next().await.context("the views ended")?;
            if wanted(&view) {
                return Ok(view);
            }
        }
    })
    .await?
}

fn names<T>(view: &View<T>) -> Vec<&str> {
    view.members.keys().map(String::as_str).collect()
}

async fn a_member_is_one_node_with_its_payload(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let member = join(&client, &ground, "host-7").await?;
    ensure!(member.path() == ground.path("g/host-7"));
    let node = client.get_data(member.path()).await?;
    ensure!(node.bytes() == r#"{"port":80}"#, "{:?}", node.bytes());
    let state = member.state().borrow().clone();
    ensure!(
        matches!(state, MemberState::Present { session, czxid }
            if session == node.stat.ephemeral_owner && czxid == node.stat.czxid),
        "{state:?}"
    );
    member.set(&Info { port: 81 }).await?;
    ensure!(client.get_data(member.path()).await?.bytes() == r#"{"port":81}"#);
    member.set_raw("10.0.0.1").await?;
    ensure!(client.get_data(member.path()).await?.bytes() == "10.0.0.1");
    let mut state = member.state();
    ensure!(soon("leaving", member.leave()).await?? == Released::Deleted);
    ensure!(matches!(*state.borrow_and_update(), MemberState::Left));
    ground.nothing_left(&client).await
}

async fn views_are_numbered_and_tell_who_came_and_went(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let mut views = client.group(ground.path("g")).views::<Info>();
    let empty = soon("the first view", views.next()).await?.context("a view")?;
    ensure!(empty.members.is_empty() && empty.id == Zxid::ZERO, "{empty:?}");

    let a = join(&client, &ground, "a").await?;
    let one = view(&mut views, "a", |view| view.contains("a")).await?;
    ensure!(one.joined == ["a"] && one.left.is_empty() && one.id > empty.id);
    ensure!(
        one.members["a"].payload == Payload::Value(INFO) && one.members["a"].layout == MemberLayout::Curator
    );
    let parent = client.exists(ground.path("g")).await?.context("the group")?;
    ensure!(one.id == parent.pzxid);

    let b = join(&client, &ground, "b").await?;
    let two = view(&mut views, "b", |view| view.contains("b")).await?;
    ensure!(names(&two) == ["a", "b"] && two.id > one.id && two.joined == ["b"]);
    a.set(&Info { port: 99 }).await?;
    let changed = view(&mut views, "the payload", |view| {
        view.members.get("a").and_then(|a| a.payload.value()) == Some(&Info { port: 99 })
    })
    .await?;
    ensure!(changed.id == two.id && changed.joined.is_empty(), "a payload changes no number");
    ensure!(changed.members["a"].mzxid > two.members["a"].mzxid);
    client.set_data(b.path(), "no json", Version::ANY).await?;
    let bad = view(&mut views, "bad bytes", |view| {
        matches!(view.members.get("b").map(|b| &b.payload), Some(Payload::Invalid { .. }))
    })
    .await?;
    ensure!(bad.members["a"].payload == Payload::Value(Info { port: 99 }));
    a.leave().await?;
    let three = view(&mut views, "a left", |view| !view.contains("a")).await?;
    ensure!(three.left == ["a"] && three.id > two.id);
    drop((b, views));
    ground.nothing_left(&client).await
}

/// P10: two processes with the same view id have the same names; ids rise.
async fn views_of_two_processes_agree(ground: Ground) -> Result<()> {
    let (one, two) = (ground.client().await?, ground.client().await?);
    let mut watching = Vec::new();
    for client in [&one, &two, &two] {
        let mut views = client.group(ground.path("g")).names();
        watching.push(tokio::spawn(async move {
            let mut seen: BTreeMap<Zxid, Vec<String>> = BTreeMap::new();
            let mut newest = Zxid::ZERO;
            loop {
                let view = views.next().await.context("the views ended")?;
                ensure!(view.id >= newest, "went back");
                newest = view.id;
                let names: Vec<_> = view.members.keys().cloned().collect();
                if names == ["last"] {
                    return Ok(seen);
                }
                let before = seen.insert(view.id, names.clone());
                ensure!(before.is_none_or(|before| before == names), "one id, two memberships");
            }
        }));
    }
    let mut members = Vec::new();
    let mut all: BTreeMap<Zxid, Vec<String>> = BTreeMap::new();
    let mut mine = two.group(ground.path("g")).names();
    for round in 0..60 {
        if fastrand::bool() || members.is_empty() {
            members
                .push(join(if fastrand::bool() { &one } else { &two }, &ground, &format!("m{round}")).await?);
        } else {
            members.swap_remove(fastrand::usize(..members.len())).leave().await?;
        }
        // Now and then a view is waited for, so that there are some to be compared, however slow the watchers are.
        if round % 4 == 0 {
            let id = one.exists(ground.path("g")).await?.context("the group")?.pzxid;
            let now = view(&mut mine, "the view of now", |view| view.id == id).await?;
            all.insert(now.id, now.members.into_keys().collect());
        }
    }
    for member in members {
        member.leave().await?;
    }
    let last = join(&one, &ground, "last").await?;
    for watcher in watching {
        for (id, names) in soon("the last view", watcher).await??? {
            let other = all.insert(id, names.clone());
            ensure!(other.as_ref().is_none_or(|other| *other == names), "{id}: {other:?} and {names:?}");
        }
    }
    ensure!(all.len() > 10, "only {} views", all.len());
    drop((last, mine));
    ground.nothing_left(&one).await
}

async fn payloads_of_others_are_kept_or_restored(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let group = client.group(ground.path("g"));
    let keeps = group.join("keeps", &INFO).await?;
    let restores = group.join("restores", &INFO).restore_payload(true).await?;
    client.set_data(keeps.path(), "other", Version::ANY).await?;
    client.set_data(restores.path(), "other", Version::ANY).await?;
    eventually("restored", async || Ok(client.get_data(restores.path()).await?.bytes() == r#"{"port":80}"#))
        .await?;
    ensure!(client.get_data(keeps.path()).await?.bytes() == "other");
    // Our own next payload counts again.
    keeps.set(&Info { port: 1 }).await?;
    ensure!(client.get_data(keeps.path()).await?.bytes() == r#"{"port":1}"#);
    drop((keeps, restores));
    ground.nothing_left(&client).await
}

async fn an_expired_member_joins_again(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    let mut views = other.group(ground.path("g")).views::<Info>();
    let member = join(&client, &ground, "host-7").await?;
    let first = view(&mut views, "the member", |view| view.contains("host-7")).await?;
    member.set(&Info { port: 81 }).await?;
    let session = expire(&ground.connect, &client).await?;
    let again = view(&mut views, "the member again", |view| {
        view.members.get("host-7").is_some_and(|member| {
            member.session != session && member.payload == Payload::Value(Info { port: 81 })
        })
    })
    .await?;
    ensure!(again.id > first.id);
    let mut state = member.state();
    soon("present", state.wait_for(MemberState::is_present)).await??;
    member.leave().await?;
    drop(views);
    ground.nothing_left(&other).await
}

async fn a_deleted_member_joins_again(ground: Ground) -> Result<()> {
    let (client, admin) = (ground.client().await?, ground.client().await?);
    let member = join(&client, &ground, "host-7").await?;
    for _ in 0..3 {
        let before = admin.exists(member.path()).await?.context("the member")?;
        admin.delete(member.path(), Version::ANY).await?;
        eventually("back", async || {
            Ok(admin.exists(member.path()).await?.is_some_and(|stat| stat.czxid > before.czxid))
        })
        .await?;
    }
    // With the whole group.
    admin.delete(member.path(), Version::ANY).await?;
    let _gone_or_back_already = admin.delete(ground.path("g"), Version::ANY).await;
    eventually("back", async || Ok(admin.exists(member.path()).await?.is_some())).await?;
    member.leave().await?;
    ground.nothing_left(&admin).await
}

async fn a_taken_name_fails_waits_or_is_taken_over(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    let theirs = join(&other, &ground, "host-7").await?;
    let group = client.group(ground.path("g"));
    let failed = group.join("host-7", &INFO).await;
    let owner = other.session()?.id();
    ensure!(matches!(&failed, Err(Error::Conflict { owner: told, .. }) if *told == owner), "{failed:?}");
    ensure!(other.get_data(theirs.path()).await?.stat.version == 0, "the other's node was touched");

    let waiting = tokio::spawn(group.join("host-7", &INFO).on_conflict(Conflict::Wait).into_future());
    eventually("waiting", async || Ok(ground.watches().await?.len() == 1)).await?;
    ensure!(!waiting.is_finished());
    theirs.leave().await?;
    let mine = soon("the name", waiting).await???;
    ensure!(other.exists(mine.path()).await?.context("the node")?.ephemeral_owner == client.session()?.id());

    let taken = soon(
        "taking over",
        other.group(ground.path("g")).join("host-7", &INFO).on_conflict(Conflict::TakeOver).into_future(),
    )
    .await??;
    ensure!(client.exists(mine.path()).await?.context("the node")?.ephemeral_owner == owner);
    // The one that was replaced may not fight back under its policy, which was to wait.
    let mut state = mine.state();
    soon("waiting again", state.wait_for(|state| matches!(state, MemberState::Waiting { .. }))).await??;
    taken.leave().await?;
    soon("present again", state.wait_for(MemberState::is_present)).await??;
    mine.leave().await?;

    // A second one of the same client is a conflict too, and a node that is not ephemeral.
    let first = group.join("same", &INFO).await?;
    ensure!(matches!(group.join("same", &INFO).await, Err(Error::Conflict { .. })));
    first.leave().await?;
    client.create(ground.path("g/fixed"), "").mode(CreateMode::Persistent).await?;
    ensure!(matches!(group.join("fixed", &INFO).await, Err(Error::Conflict { .. })));
    ground.nothing_left(&client).await
}

async fn a_join_dropped_at_any_poll_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let other = ground.client().await?;
    let group = client.group(ground.path("g"));
    let mut done = false;
    for polls in 0..1_000 {
        done = polled(polls, group.join("host-7", &INFO).into_future()).await.transpose()?.is_some();
        ground.nothing_left(&client).await.with_context(|| format!("after {polls} polls"))?;
        if done {
            break;
        }
    }
    ensure!(done, "join never completed");
    // While it waits for the name, and while it takes it over.
    for policy in [Conflict::Wait, Conflict::TakeOver] {
        for polls in 0..5 {
            let theirs =
                other.group(ground.path("g")).join("host-7", &INFO).on_conflict(Conflict::Wait).await?;
            drop(
                polled(polls, group.join("host-7", &INFO).on_conflict(policy).into_future())
                    .await
                    .transpose()?,
            );
            drop(theirs);
            ground.nothing_left(&client).await.with_context(|| format!("{policy:?} after {polls} polls"))?;
        }
    }
    joins_at_last(&client, &ground, "host-7").await?;
    ground.nothing_left(&client).await
}

/// The name is free, at the latest when the last join that was dropped has ended in the background.
async fn joins_at_last(client: &Client, ground: &Ground, id: &str) -> Result<()> {
    let joining = client.group(ground.path("g")).join(id, &INFO).on_conflict(Conflict::Wait).into_future();
    soon("joining", joining).await??.leave().await?;
    Ok(())
}

async fn a_join_dropped_at_any_time_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let group = client.group(ground.path("g"));
    for round in 0..150 {
        let limit = Duration::from_micros(fastrand::u64(0..4_000));
        let joining = group.join(format!("m{}", round % 3), &INFO).on_conflict(Conflict::Wait).into_future();
        if let Ok(joined) = tokio::time::timeout(limit, joining).await {
            drop(joined?);
        }
    }
    ground.nothing_left(&client).await?;
    joins_at_last(&client, &ground, "m0").await?;
    ground.nothing_left(&client).await
}

async fn dropped_views_leave_no_watch(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    let members = [join(&other, &ground, "a").await?, join(&other, &ground, "b").await?];
    eventually("the members' own watches", async || Ok(ground.watches().await?.len() == 2)).await?;
    let quiet = ground.watches().await?;
    for views in 0..5 {
        for polls in 0..3 {
            let mut stream = client.group(ground.path("g")).views::<Info>();
            for _ in 0..views.min(1) {
                drop(polled(polls, stream.next()).await);
            }
            drop(stream);
        }
    }
    let mut full = client.group(ground.path("g")).views::<Info>();
    view(&mut full, "both", |view| view.members.len() == 2).await?;
    // Servers list data watches alone; what else this session has, it can ask.
    client.check_watches(ground.path("g"), WatcherKind::Children).await?;
    drop(full);
    eventually("no child watch", async || {
        Ok(client.check_watches(ground.path("g"), WatcherKind::Children).await.is_err())
    })
    .await?;
    eventually("only the members' own watches", async || Ok(ground.watches().await? == quiet)).await?;
    drop(members);
    ground.nothing_left(&client).await
}

async fn lost_replies_are_found_out(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    for round in 0..4 {
        proxy.drop_reply_of(OpCode::Create2, 1);
        let member = join(&client, &ground, "host-7").await?;
        let stat = client.exists(member.path()).await?.context("the member")?;
        let state = member.state().borrow().clone();
        ensure!(
            matches!(state, MemberState::Present { czxid, .. } if czxid == stat.czxid),
            "{state:?} {stat:?}"
        );
        proxy.drop_reply_of(OpCode::SetData, 1);
        soon("the payload", member.set(&Info { port: 81 })).await??;
        ensure!(client.get_data(member.path()).await?.bytes() == r#"{"port":81}"#);
        proxy.drop_reply_of(OpCode::Delete, 1);
        ensure!(soon("leaving", member.leave()).await?? == Released::AlreadyGone);
        ensure!(proxy.counts().swallowed == 3 * (round + 1), "nothing was lost");
    }
    ground.nothing_left(&client).await
}

async fn views_come_through_cuts_and_expiries(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let other = ground.client().await?;
    let mut views = client.group(ground.path("g")).views::<Info>();
    let mut newest = Zxid::ZERO;
    for round in 0..20 {
        match round % 5 {
            1 | 3 => proxy.cut(),
            2 => {
                soon("a session", client.session_ready()).await??;
                expire(&ground.connect, &client).await?;
            }
            _ => {}
        }
        let name = format!("m{round}");
        let member = join(&other, &ground, &name).await?;
        let with = view(&mut views, &name, |view| view.contains(&name)).await?;
        ensure!(with.id > newest, "went back");
        newest = with.id;
        member.leave().await?;
    }
    view(&mut views, "nobody", |view| view.members.is_empty()).await?;
    drop(views);
    ground.nothing_left(&other).await
}

async fn members_of_kazoo_are_read(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let tag = "2f1f9f6a8b554f0e9f430a4c2b6a9d10";
    let party = format!("{}/{tag}__party__", ground.path("g"));
    client.create_parents(&party, ParentMode::Container).await?;
    client.create(&party, "py-1").ephemeral().await?;
    client.create(format!("{}/{tag}-py-2", ground.path("g")), "").ephemeral().await?;
    let curator = client.group(ground.path("g")).join_raw("java-1", "10.0.0.1").await?;
    let mut views = client.group(ground.path("g")).views::<Info>();
    let all = view(&mut views, "all three", |view| view.members.len() == 3).await?;
    let mut ids: Vec<_> = all.members.values().map(|member| (member.id.as_str(), member.layout)).collect();
    ids.sort();
    ensure!(
        ids == [
            ("java-1", MemberLayout::Curator),
            ("py-1", MemberLayout::KazooParty),
            ("py-2", MemberLayout::KazooShallowParty)
        ],
        "{ids:?}"
    );
    client.close().await?;
    drop(curator);
    ground.nothing_left(&ground.client().await?).await
}

async fn a_group_that_vanishes_is_empty(ground: Ground) -> Result<()> {
    let (client, admin) = (ground.client().await?, ground.client().await?);
    let path = ground.path("g");
    client.create_parents(ground.path("g/x"), ParentMode::Persistent).await?;
    admin.create(ground.path("g/x"), r#"{"port":1}"#).ephemeral().await?;
    let mut views = client.group(&path).views::<Info>();
    let before = view(&mut views, "x", |view| view.contains("x")).await?;
    let ops = docent::Transaction::new().delete(ground.path("g/x"), Version::ANY).delete(&path, Version::ANY);
    admin.multi(ops).await?;
    let gone = view(&mut views, "nobody", |view| view.members.is_empty()).await?;
    ensure!(gone.id > before.id && gone.left == ["x"]);
    let member = join(&admin, &ground, "y").await?;
    let back = view(&mut views, "y", |view| view.contains("y")).await?;
    ensure!(back.id > gone.id, "{:?} after {:?}", back.id, gone.id);
    drop((member, views));
    ground.nothing_left(&client).await
}

async fn a_closed_client_ends_everything(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let member = join(&client, &ground, "host-7").await?;
    let mut views = client.group(ground.path("g")).views::<Info>();
    view(&mut views, "the member", |view| view.contains("host-7")).await?;
    client.close().await?;
    soon("the end of the views", async { while views.next().await.is_some() {} }).await?;
    ensure!(matches!(views.error(), Some(Error::Closed)), "{:?}", views.error());
    let mut state = member.state();
    soon("the end", state.wait_for(|state| matches!(state, MemberState::Failed(Error::Closed)))).await??;
    ensure!(matches!(member.set(&INFO).await, Err(Error::Closed)));
    drop(member);
    ground.nothing_left(&ground.client().await?).await
}
