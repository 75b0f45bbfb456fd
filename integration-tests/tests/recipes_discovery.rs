//! Service discovery: who is registered is found, over cuts, expiries and updates, and what is not an instance is told.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::{Client, SessionId, Zxid};
use docent_integration_tests::recipe_kit::{
    Ground, LONG_SESSION, Scenario, children, drop_connections, eventually, expire, heal, polled, soon,
};
use docent_integration_tests::{on_every_server, scenarios};
use docent_recipes::{
    Conflict, Error, KeptState, Provider, Recipes, Registration, Released, ServiceDiscovery, ServiceInstance,
    ServiceType, ServiceView, ServiceViews, Strategy,
};

const SCENARIOS: &[Scenario] = scenarios![
    an_instance_of_each_type_is_registered_updated_and_unregistered,
    the_bytes_on_the_server_are_those_of_curator,
    an_expired_instance_comes_back_with_its_newest_data,
    a_cut_changes_nothing,
    what_is_permanent_outlives_its_program,
    views_are_numbered_and_tell_what_is_no_instance,
    a_provider_follows_the_list_and_keeps_the_last_good_one,
    a_taken_id_fails_waits_or_is_taken_over,
    more_instances_than_allowed_are_refused,
    an_instance_dropped_at_any_poll_is_gone,
    a_closed_client_ends_everything,
];

on_every_server!("discovery", SCENARIOS);

const TYPES: [ServiceType; 4] =
    [ServiceType::Dynamic, ServiceType::Static, ServiceType::Permanent, ServiceType::DynamicSequential];

fn discovery(client: &Client, ground: &Ground) -> ServiceDiscovery<String> {
    client.discovery(ground.path("services"))
}

fn instance(id: &str) -> ServiceInstance<String> {
    ServiceInstance::new("search").id(id).at("10.0.0.1", 80).payload("one".to_owned())
}

async fn register(
    discovery: &ServiceDiscovery<String>,
    instance: ServiceInstance<String>,
) -> Result<Registration<String>> {
    Ok(soon("registered", discovery.register(instance)).await??)
}

async fn next(views: &mut ServiceViews<String>) -> Result<ServiceView<String>> {
    soon("a view", views.next()).await?.with_context(|| format!("no more views: {:?}", views.error()))
}

/// The next view that is so.
async fn view_where(
    views: &mut ServiceViews<String>,
    holds: impl Fn(&ServiceView<String>) -> bool,
) -> Result<ServiceView<String>> {
    loop {
        let view = next(views).await?;
        if holds(&view) {
            return Ok(view);
        }
    }
}

fn payload(view: &ServiceView<String>, node: &str) -> Option<String> {
    view.instances.get(node)?.payload.clone()
}

async fn an_instance_of_each_type_is_registered_updated_and_unregistered(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let discovery = discovery(&client, &ground);
    ensure!(
        discovery.services().await?.is_empty() && discovery.instances("search").await?.instances.is_empty()
    );
    for service_type in TYPES {
        let mut one = register(&discovery, instance("one").service_type(service_type)).await?;
        let stat = client.exists(one.path()).await?.context("no node")?;
        let owner = if service_type.is_permanent() { SessionId::NONE } else { client.session()?.id() };
        ensure!(stat.ephemeral_owner == owner, "{service_type:?} {stat:?}");
        one.update(|one| {
            one.payload = Some("two".to_owned());
            one.id = "stays".to_owned();
        })
        .await?;
        let view = discovery.instances("search").await?;
        let [found] = view.instances.values().collect::<Vec<_>>()[..] else { anyhow::bail!("{view:?}") };
        ensure!(**found == *one.instance() && found.id == "one", "{found:?}");
        ensure!(found.payload.as_deref() == Some("two"));
        if service_type != ServiceType::DynamicSequential {
            ensure!(discovery.instance("search", "one").await?.as_ref() == Some(one.instance()));
        }
        ensure!(discovery.services().await? == ["search"]);
        ensure!(soon("unregistering", one.unregister()).await?? == Released::Deleted, "{service_type:?}");
        ensure!(discovery.instances("search").await?.instances.is_empty(), "{service_type:?}");
    }
    ensure!(discovery.instance("search", "one").await?.is_none());
    for bad in [instance("a/b"), instance(""), ServiceInstance::new("..").id("a")] {
        let refused = discovery.register(bad).await;
        ensure!(matches!(refused, Err(Error::BadName { .. })), "{refused:?}");
    }
    ground.nothing_left(&client).await
}

async fn the_bytes_on_the_server_are_those_of_curator(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let mut wanted = instance("one");
    wanted.registration_time_utc = 1_700_000_000_000;
    let one = register(&discovery(&client, &ground), wanted).await?;
    let bytes = client.get_data(ground.path("services/search/one")).await?.bytes();
    let golden = r#"{"name":"search","id":"one","address":"10.0.0.1","port":80,"sslPort":null,"payload":"one","registrationTimeUTC":1700000000000,"serviceType":"DYNAMIC","uriSpec":null}"#;
    ensure!(bytes == golden, "{bytes:?}");
    drop(one);
    ground.nothing_left(&client).await
}

async fn an_expired_instance_comes_back_with_its_newest_data(ground: Ground) -> Result<()> {
    let (client, watcher) = (ground.client().await?, ground.client().await?);
    for service_type in [ServiceType::Dynamic, ServiceType::DynamicSequential] {
        let discovery = discovery(&client, &ground);
        let mut one = register(&discovery, instance("one").service_type(service_type)).await?;
        one.update(|one| one.payload = Some("two".to_owned())).await?;
        let node = one.path().rsplit_once('/').context("a name")?.1.to_owned();
        let mut views = watcher.discovery(ground.path("services")).watch("search")?;
        let before = next(&mut views).await?;
        ensure!(payload(&before, &node).as_deref() == Some("two"));
        let first = client.exists(one.path()).await?.context("no node")?.czxid;

        expire(&ground.connect, &client).await?;
        let mut state = one.state();
        let back = |state: &KeptState| matches!(state, KeptState::Exists { czxid, .. } if *czxid > first);
        drop(soon("registered again", state.wait_for(back)).await??);
        let after = view_where(&mut views, |view| {
            view.id > before.id && payload(view, &node).as_deref() == Some("two")
        })
        .await?;
        ensure!(after.instances.len() == 1, "{after:?}");
        // Expired in the middle of an update: the newest data comes, wherever it was.
        let (updated, expired) = tokio::join!(
            one.update(|one| one.payload = Some("three".to_owned())),
            expire(&ground.connect, &client)
        );
        updated?;
        expired?;
        eventually("the newest data", async || {
            Ok(payload(&discovery.instances("search").await?, &node).as_deref() == Some("three"))
        })
        .await?;
        soon("unregistering", one.unregister()).await??;
        drop(views);
        ground.nothing_left(&watcher).await?;
    }
    Ok(())
}

async fn a_cut_changes_nothing(ground: Ground) -> Result<()> {
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let watcher = ground.client().await?;
    let one = register(&discovery(&client, &ground), instance("one")).await?;
    let mut views = discovery(&client, &ground).watch("search")?;
    let before = next(&mut views).await?;
    let stat = watcher.exists(one.path()).await?;
    for _ in 0..5 {
        drop_connections(&proxy);
        heal(&proxy);
        soon("connected again", client.session_ready()).await??;
        ensure!(watcher.exists(one.path()).await? == stat, "touched for nothing");
    }
    // The first thing that is new to see is a second instance.
    let two = register(&discovery(&watcher, &ground), instance("two")).await?;
    let after = view_where(&mut views, |view| view.id > before.id).await?;
    ensure!(after.joined == ["two"] && after.left.is_empty(), "{after:?}");
    drop((one, two, views));
    ground.nothing_left(&watcher).await
}

async fn what_is_permanent_outlives_its_program(ground: Ground) -> Result<()> {
    let watcher = ground.client().await?;
    let here = discovery(&watcher, &ground);
    for service_type in [ServiceType::Static, ServiceType::Permanent] {
        let client = ground.client().await?;
        let mut one =
            register(&discovery(&client, &ground), instance("one").service_type(service_type)).await?;
        one.update(|one| one.payload = Some("two".to_owned())).await?;
        drop(one);
        let another =
            register(&discovery(&client, &ground), instance("other").service_type(service_type)).await?;
        client.close().await?;
        drop(another);
        let found = here.instances("search").await?;
        ensure!(found.instances.len() == 2 && payload(&found, "one").as_deref() == Some("two"), "{found:?}");
        // Whoever registers it again takes it over, and may take it away.
        for id in ["one", "other"] {
            let mine =
                register(&here, instance(id).payload("mine".to_owned()).service_type(service_type)).await?;
            eventually("overwritten", async || {
                Ok(payload(&here.instances("search").await?, id).as_deref() == Some("mine"))
            })
            .await?;
            ensure!(soon("unregistering", mine.unregister()).await?? == Released::Deleted);
        }
        ensure!(here.instances("search").await?.instances.is_empty());
    }
    ground.nothing_left(&watcher).await
}

async fn views_are_numbered_and_tell_what_is_no_instance(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let discovery = discovery(&client, &ground);
    let mut views = discovery.watch("search")?;
    let none = next(&mut views).await?;
    ensure!(none.id == Zxid::ZERO && none.instances.is_empty(), "{none:?}");
    let mut one = register(&discovery, instance("one")).await?;
    let with_one = view_where(&mut views, |view| !view.instances.is_empty()).await?;
    let parent = ground.path("services/search");
    ensure!(client.exists(&*parent).await?.context("no service")?.pzxid == with_one.id);

    one.update(|one| one.payload = Some("two".to_owned())).await?;
    let updated = view_where(&mut views, |view| payload(view, "one").as_deref() == Some("two")).await?;
    ensure!(updated.id == with_one.id && updated.joined.is_empty(), "{updated:?}");

    client.create(format!("{parent}/bad"), "{").await?;
    let with_bad = view_where(&mut views, |view| !view.invalid.is_empty()).await?;
    ensure!(with_bad.id > with_one.id && with_bad.instances.len() == 1, "{with_bad:?}");
    let read = discovery.instances("search").await?;
    ensure!(read.id == with_bad.id && read.invalid == with_bad.invalid, "{read:?}");
    ensure!(matches!(discovery.instance("search", "bad").await, Err(Error::Invalid { .. })));
    drop((one, views));
    ground.nothing_left(&client).await
}

async fn a_provider_follows_the_list_and_keeps_the_last_good_one(ground: Ground) -> Result<()> {
    let (client, watcher) = (ground.client().await?, ground.client().await?);
    let here = discovery(&client, &ground);
    let open = async |strategy, least| -> Result<Provider<String>> {
        let provider = discovery(&watcher, &ground).provider("search").strategy(strategy).at_least(least);
        Ok(soon("a provider", provider.into_future()).await??)
    };
    let (mut all, mut careful) = (open(Strategy::RoundRobin, 0).await?, open(Strategy::Sticky, 2).await?);
    ensure!(all.pick().is_none() && careful.pick().is_none());
    let one = register(&here, instance("one")).await?;
    let two = register(&here, instance("two")).await?;
    for provider in [&mut all, &mut careful] {
        while provider.view().instances.len() < 2 {
            soon("two instances", provider.changed()).await?;
        }
    }
    let picks: Vec<_> = (0..4).filter_map(|_| Some(all.pick()?.id.clone())).collect();
    ensure!(picks[0] != picks[1] && picks[..2] == picks[2..], "{picks:?}");
    let kept = careful.pick().context("nobody")?;
    ensure!((0..10).all(|_| careful.pick().is_some_and(|picked| picked.id == kept.id)));
    careful.note_error(&kept);
    careful.note_error(&kept);
    ensure!(careful.pick().is_some_and(|picked| picked.id != kept.id), "one that is down is picked");

    soon("unregistering", one.unregister()).await??;
    while all.view().instances.len() > 1 {
        soon("one is gone", all.changed()).await?;
    }
    ensure!(all.pick().is_some_and(|picked| picked.id == "two"));
    ensure!(careful.view().instances.len() == 2, "a list that is too short was taken");
    drop((all, careful, two));
    ground.nothing_left(&client).await
}

async fn a_taken_id_fails_waits_or_is_taken_over(ground: Ground) -> Result<()> {
    let (client, other) = (ground.client().await?, ground.client().await?);
    let (ours, theirs) = (discovery(&client, &ground), discovery(&other, &ground));
    let first = register(&theirs, instance("one")).await?;
    let taken = ours.register(instance("one")).await;
    ensure!(
        matches!(&taken, Err(Error::Conflict { owner, .. }) if *owner == other.session()?.id()),
        "{taken:?}"
    );
    let waiting = ours.clone().on_conflict(Conflict::Wait);
    let (second, gone) = soon("after the other", async {
        tokio::join!(waiting.register(instance("one")), first.unregister())
    })
    .await?;
    gone?;
    let second = second?;
    let third = register(&theirs.on_conflict(Conflict::TakeOver), instance("one")).await?;
    let owner = client.exists(third.path()).await?.context("no node")?.ephemeral_owner;
    ensure!(owner == other.session()?.id());
    drop((second, third));
    ground.nothing_left(&client).await
}

async fn more_instances_than_allowed_are_refused(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let here = discovery(&client, &ground).instances_max(2);
    let mut kept = Vec::new();
    let mut views = here.watch("search")?;
    for id in ["one", "two", "three"] {
        ensure!(here.instances("search").await?.instances.len() == kept.len());
        kept.push(register(&here, instance(id)).await?);
    }
    ensure!(matches!(here.instances("search").await, Err(Error::TooMany { max: 2, .. })));
    while soon("the end", views.next()).await?.is_some() {}
    ensure!(matches!(views.error(), Some(Error::TooMany { max: 2, .. })), "{:?}", views.error());
    drop((kept, views));
    ground.nothing_left(&client).await
}

async fn an_instance_dropped_at_any_poll_is_gone(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let here = discovery(&client, &ground);
    for service_type in TYPES {
        for polls in 0.. {
            let done = polled(polls, here.register(instance("one").service_type(service_type))).await;
            let is_done = done.is_some();
            if let Some(one) = done {
                soon("unregistering", one?.unregister()).await??;
            }
            eventually("gone", async || {
                Ok(children(&client, &ground.path("services/search")).await?.is_empty())
            })
            .await?;
            if is_done {
                break;
            }
        }
    }
    ground.nothing_left(&client).await
}

async fn a_closed_client_ends_everything(ground: Ground) -> Result<()> {
    let (client, watcher) = (ground.client().await?, ground.client().await?);
    let here = discovery(&client, &ground);
    let mut one = register(&here, instance("one")).await?;
    let (mut views, provider) = (here.watch("search")?, here.provider("search").await?);
    client.close().await?;
    ensure!(matches!(one.update(|_| ()).await, Err(Error::Closed)));
    ensure!(matches!(here.register(instance("two")).await, Err(Error::Closed)));
    while soon("the end", views.next()).await?.is_some() {}
    ensure!(matches!(views.error(), Some(Error::Closed)), "{:?}", views.error());
    eventually("told", async || Ok(provider.error().is_some())).await?;
    ensure!(provider.pick().is_some(), "the last list stays at hand");
    soon("gone", tokio::time::timeout(Duration::from_secs(20), ground.nothing_left(&watcher))).await??
}
