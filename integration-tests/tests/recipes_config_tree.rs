//! A struct of many nodes: one value, read as it is at one moment, through cuts and expiries.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use docent::{Client, CreateMode, ParentMode, Transaction, Version, Zxid};
use docent_integration_tests::recipe_kit::{Ground, LONG_SESSION, Scenario, expire_if_any, polled, soon};
use docent_integration_tests::{on_every_server, scenarios};
use docent_recipes::{CONFIG_TREE_NODES_MAX, Error, JsonTree, Recipes, Update, Watched};
use serde::Deserialize;

const SCENARIOS: &[Scenario] = scenarios![
    a_tree_is_one_value_and_follows_its_nodes,
    a_leaf_that_is_none_keeps_the_last_good_value,
    a_missing_tree_is_an_error_a_default_or_waited_for,
    what_changes_together_is_seen_together_through_cuts_and_expiries,
    too_many_nodes_are_no_value,
    an_open_dropped_at_any_poll_leaves_nothing,
];

on_every_server!("config tree", SCENARIOS);

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct App {
    left: u32,
    right: u32,
    note: Option<String>,
    #[serde(default)]
    flags: BTreeMap<String, bool>,
}

fn number(number: u32) -> Bytes {
    number.to_string().into()
}

/// The two numbers, and the parents.
async fn begin(client: &Client, path: &str) -> Result<()> {
    client.create_parents(&format!("{path}/left"), ParentMode::Persistent).await?;
    let both = Transaction::new().create(format!("{path}/left"), number(0), CreateMode::Persistent).create(
        format!("{path}/right"),
        number(0),
        CreateMode::Persistent,
    );
    client.multi(both).await?;
    Ok(())
}

fn set_both(path: &str, value: u32) -> Transaction {
    Transaction::new().set_data(format!("{path}/left"), number(value), Version::ANY).set_data(
        format!("{path}/right"),
        number(value),
        Version::ANY,
    )
}

async fn shows(watched: &Watched<App, JsonTree>, what: &str, is: impl Fn(&App) -> bool) -> Result<()> {
    let mut values = watched.subscribe();
    soon(what, values.wait_for(|value| is(value))).await??;
    Ok(())
}

async fn a_tree_is_one_value_and_follows_its_nodes(ground: Ground) -> Result<()> {
    let (client, admin) = (ground.client().await?, ground.client().await?);
    let path = ground.path("app");
    begin(&admin, &path).await?;
    let app: Watched<App, JsonTree> = client.config_tree(&path).open().await?;
    ensure!(*app.get() == App::default(), "{:?}", app.get());
    admin.multi(set_both(&path, 3)).await?;
    shows(&app, "both numbers", |app| (app.left, app.right) == (3, 3)).await?;
    // A folder without children is left out, as an empty leaf is.
    admin.create(format!("{path}/flags"), Bytes::new()).mode(CreateMode::Persistent).await?;
    admin.create(format!("{path}/note"), "\"hello\"").mode(CreateMode::Persistent).await?;
    shows(&app, "a new leaf", |app| app.note.as_deref() == Some("hello")).await?;
    ensure!(app.get().flags.is_empty() && app.info().problem.is_none(), "{:?}", app.info());
    let made = admin.create(format!("{path}/flags/fast"), "true").mode(CreateMode::Persistent).await?;
    shows(&app, "a leaf of a leaf", |app| app.flags.get("fast") == Some(&true)).await?;
    ensure!(app.info().mzxid == Some(made.zxid), "{:?} is not {made:?}", app.info());
    admin.delete(format!("{path}/flags/fast"), Version::ANY).await?;
    shows(&app, "a leaf that is gone", |app| app.flags.is_empty()).await?;
    drop(app);
    ground.nothing_left(&client).await
}

async fn a_leaf_that_is_none_keeps_the_last_good_value(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let path = ground.path("app");
    begin(&client, &path).await?;
    let app: Watched<App, JsonTree> =
        client.config_tree(&path).validate(|app: &App| app.left < 100).open().await?;
    let mut updates = app.updates();
    client.set_data(format!("{path}/left"), "not json", Version::ANY).await?;
    match soon("the report", updates.next()).await? {
        Some(Update::Invalid { bytes, reason, keeping: Some(_) }) => {
            ensure!(bytes == "not json" && reason.contains(&format!("{path}/left")), "{reason}");
        }
        other => anyhow::bail!("{other:?}"),
    }
    client.set_data(format!("{path}/left"), number(100), Version::ANY).await?;
    ensure!(matches!(soon("the report", updates.next()).await?, Some(Update::Invalid { .. })));
    ensure!(app.get().left == 0 && app.info().problem.is_some());
    client.set_data(format!("{path}/left"), number(7), Version::ANY).await?;
    shows(&app, "a good leaf again", |app| app.left == 7).await?;
    ensure!(app.info().problem.is_none());
    Ok(())
}

async fn a_missing_tree_is_an_error_a_default_or_waited_for(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let path = ground.path("app");
    let missing = client.config_tree::<App>(&path).open().await;
    ensure!(matches!(missing, Err(Error::Missing { .. })), "{missing:?}");
    let default = App { left: 9, ..App::default() };
    let app = client.config_tree::<App>(&path).default_if_missing(default).open().await?;
    ensure!(app.get().left == 9);
    let waiting = client.config_tree::<App>(&path).required(LONG_SESSION);
    let (waited, began) = tokio::join!(waiting.open(), begin(&client, &path));
    began?;
    ensure!(waited?.get().left == 0);
    shows(&app, "what has come", |app| app.left == 0).await?;
    let mut updates = app.updates();
    client
        .multi(Transaction::new().delete(format!("{path}/left"), 0).delete(format!("{path}/right"), 0))
        .await?;
    ensure!(
        matches!(soon("the report", updates.next()).await?, Some(Update::Invalid { .. })),
        "fields are missing"
    );
    client.delete(&path, Version::ANY).await?;
    ensure!(matches!(soon("the report", updates.next()).await?, Some(Update::Missing { keeping: Some(_) })));
    begin(&client, &path).await?;
    // The parent comes before its leaves, and a tree without them is no value.
    let good = async {
        while let Some(update) = updates.next().await {
            if matches!(update, Update::Value { .. }) {
                break;
            }
        }
    };
    soon("what is there again", good).await?;
    ensure!(app.get().left == 0 && app.info().problem.is_none());
    Ok(())
}

/// Two leaves are always written in one transaction: no value shows one without the other, none is older than the one before,
/// and the last one comes.
async fn what_changes_together_is_seen_together_through_cuts_and_expiries(ground: Ground) -> Result<()> {
    const LAST: u32 = 200;
    let writer = ground.client().await?;
    let path = ground.path("app");
    begin(&writer, &path).await?;
    let (client, proxy) = ground.proxied(LONG_SESSION).await?;
    let app: Watched<App, JsonTree> = client.config_tree(&path).open().await?;
    let mut updates = app.updates();
    let watching = tokio::spawn(async move {
        let (mut newest, mut seen, mut count) = (Zxid::ZERO, 0, 0);
        while let Some(update) = updates.next().await {
            let Update::Value { value, mzxid } = update else { continue };
            ensure!(value.left == value.right, "seen apart: {value:?}");
            ensure!(value.flags.len() as u32 == value.left % 3, "seen apart: {value:?}");
            ensure!(mzxid > newest && value.left >= seen, "went back from {seen} to {}", value.left);
            (newest, seen, count) = (mzxid, value.left, count + 1);
            if seen == LAST {
                return Ok(count);
            }
        }
        anyhow::bail!("the updates ended at {seen}")
    });
    writer.create(format!("{path}/flags"), Bytes::new()).mode(CreateMode::Persistent).await?;
    let flag = |number: u32| format!("{path}/flags/f{number}");
    for value in 1..=LAST {
        // Nodes come and go in the same transaction.
        let both = set_both(&path, value);
        let all = match value % 3 {
            0 => both.delete(flag(1), Version::ANY).delete(flag(2), Version::ANY),
            number => both.create(flag(number), "true", CreateMode::Persistent),
        };
        writer.multi(all).await?;
        if value % 50 == 0 {
            proxy.cut();
        }
        if value % 70 == 0 {
            expire_if_any(&ground.connect, &client).await?;
        }
        if value % 10 == 0 {
            // A random pause between two writes, in the bounded wait for all of them.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..20))).await;
        }
    }
    let count = soon("the last value", watching).await???;
    ensure!(app.get().left == LAST && count > 3, "{count} values seen");
    drop(app);
    ground.nothing_left(&writer).await
}

async fn too_many_nodes_are_no_value(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let path = ground.path("app");
    begin(&client, &path).await?;
    let app: Watched<App, JsonTree> = client.config_tree(&path).open().await?;
    let mut updates = app.updates();
    let folder = format!("{path}/flags");
    let mut many = Transaction::new().create(&folder, Bytes::new(), CreateMode::Persistent);
    for number in 0..CONFIG_TREE_NODES_MAX {
        many = many.create(format!("{folder}/f{number}"), "true", CreateMode::Persistent);
    }
    client.multi(many).await?;
    match soon("the report", updates.next()).await? {
        Some(Update::Invalid { reason, .. }) => ensure!(reason.contains("more than"), "{reason}"),
        other => anyhow::bail!("{other:?}"),
    }
    ensure!(app.get().flags.is_empty());
    let gone = (0..CONFIG_TREE_NODES_MAX / 2).map(|number| format!("{folder}/f{number}"));
    client.multi(gone.fold(Transaction::new(), |all, path| all.delete(path, Version::ANY))).await?;
    shows(&app, "half of them", |app| app.flags.len() == CONFIG_TREE_NODES_MAX / 2).await?;
    Ok(())
}

async fn an_open_dropped_at_any_poll_leaves_nothing(ground: Ground) -> Result<()> {
    let client = ground.client().await?;
    let path = ground.path("app");
    begin(&client, &path).await?;
    for times in 0.. {
        let opened = polled(times, client.config_tree::<App>(&path).open()).await;
        if opened.transpose()?.is_some() {
            break;
        }
    }
    ground.nothing_left(&client).await
}
