//! The fourth act: who is there, in views with numbers that mean the same to everybody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail};
use docent::{SessionId, Zxid};
use docent_recipes::{Payload, Recipes, View, Views};
use serde::{Deserialize, Serialize};

use super::stage::{Actor, Stage, until, within};

const GROUP: &str = "/GroupMembers";

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Service {
    port: u16,
}

/// Who is there by the newest view, with session and port.
type Present = BTreeMap<String, (SessionId, u16)>;

/// What the observers have seen: names by number, and what each sees now.
#[derive(Default)]
struct Seen {
    names: BTreeMap<Zxid, Vec<String>>,
    now: BTreeMap<&'static str, Present>,
    contradiction: Option<String>,
}

pub(crate) async fn play(stage: &Stage) -> Result<()> {
    let actors = stage.cast("MEMBERSHIP: who is in /GroupMembers, the same to everybody who looks").await?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let observers = [stage.actor("observer1").await?, stage.actor("observer2").await?];
    for observer in &observers {
        let views = observer.client.group(GROUP).views();
        tokio::spawn(look(observer.clone(), views, Arc::clone(&seen)));
    }
    let mut members = Vec::new();
    for (actor, port) in actors.iter().zip(8001..) {
        let joining = actor.client.group(GROUP).join(actor.name, &Service { port });
        members.push(within("the join", joining).await??);
        actor.say(format!("is a member, with port {port}"));
    }
    let ports = |want: &[(&str, u16)]| {
        let want: BTreeMap<&str, u16> = want.iter().copied().collect();
        all_see(&seen, |present| present.iter().map(|(name, (_, port))| (&**name, *port)).eq(want.clone()))
    };
    until("three members", || ports(&[("ash", 8001), ("birch", 8002), ("cedar", 8003)])).await?;

    let before = actors[1].session()?;
    stage.expire(&actors[1]).await?;
    let returned = |present: &Present| present.get("birch").is_some_and(|(session, _)| *session != before);
    until("birch's return", || all_see(&seen, returned)).await?;
    actors[1].say("has joined again by itself, in a new session");

    within("the new payload", members[0].set(&Service { port: 9001 })).await??;
    actors[0].say("has moved to port 9001");
    within("cedar's leave", members.remove(2).leave()).await??;
    actors[2].say("has left");
    until("two members", || ports(&[("ash", 9001), ("birch", 8002)])).await?;

    for member in members {
        within("the leave", member.leave()).await??;
    }
    until("an empty group", || ports(&[])).await?;
    for actor in actors.into_iter().chain(observers) {
        actor.go().await?;
    }
    match &seen.lock().unwrap_or_else(PoisonError::into_inner).contradiction {
        Some(contradiction) => bail!("{contradiction}"),
        None => Ok(()),
    }
}

/// Whether what each observer sees now is so.
fn all_see(seen: &Mutex<Seen>, so: impl Fn(&Present) -> bool) -> bool {
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.now.len() == 2 && seen.now.values().all(so)
}

/// Says what one observer sees, until its client is closed.
async fn look(observer: Actor, mut views: Views<Service>, seen: Arc<Mutex<Seen>>) {
    let mut newest = Zxid::ZERO;
    while let Some(view) = views.next().await {
        let names: Vec<String> = view.members.keys().cloned().collect();
        let mut changes: Vec<String> = view.joined.iter().map(|name| format!("+{name}")).collect();
        changes.extend(view.left.iter().map(|name| format!("-{name}")));
        observer.say(format!("view {}: [{}] {}", view.id, names.join(" "), changes.join(" ")));

        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.names.entry(view.id).or_insert_with(|| names.clone()).clone();
        if known != names {
            seen.contradiction = Some(format!("view {} has two lists: {known:?}, {names:?}", view.id));
        }
        if view.id < newest {
            seen.contradiction = Some(format!("{} went back to view {}", observer.name, view.id));
        }
        newest = view.id;
        seen.now.insert(observer.name, present(&view));
    }
}

fn present(view: &View<Service>) -> Present {
    let entries = view.members.iter().filter_map(|(name, member)| match &member.payload {
        Payload::Value(service) => Some((name.clone(), (member.session, service.port))),
        _ => None,
    });
    entries.collect()
}
