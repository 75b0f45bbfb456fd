//! The fifth act: the server that leads the ensemble is killed under everybody.

use anyhow::{Context, Result, ensure};
use docent::{SessionId, Version};
use docent_recipes::Recipes;
use tokio::time::Instant;

use super::stage::{Stage, within};

const LOCK: &str = "/tour/outage/lock";
const NODE: &str = "/tour/outage/node";

pub(crate) async fn play(stage: &mut Stage) -> Result<()> {
    let actors = stage
        .cast("OUTAGE: the leading server is killed; the others elect, and nobody loses anything")
        .await?;
    let [ash, birch, cedar] = &actors;
    let sessions: Vec<SessionId> = actors.iter().map(|actor| actor.session()).collect::<Result<_>>()?;
    let held = within("the lock", ash.client.lock(LOCK).identifier(ash.name).acquire()).await??;
    ash.say(format!("holds with token {}", held.token()));
    let waiting = within("a place", birch.client.lock(LOCK).identifier(birch.name).enqueue()).await??;
    birch.say("stands in line");
    within("a write", cedar.client.create(NODE, "before")).await??;

    let killed = stage.kill_leader().await?;
    let began = Instant::now();
    // A write that the dead leader may have taken is not sent twice; a read tells.
    loop {
        match within("a write", cedar.client.set_data(NODE, "after", Version::ANY)).await? {
            Ok(_) => break,
            Err(error) if error.is_retryable() || error.may_have_applied() => {}
            Err(error) => return Err(error.into()),
        }
    }
    cedar.say(format!("wrote again {} ms after the leader's death", began.elapsed().as_millis()));
    stage.name_leader().await?;

    held.check()?;
    ash.say(format!("still holds with token {}", held.token()));
    let token = held.token();
    within("the release", held.release()).await??;
    let next = within("birch's turn", waiting).await??;
    birch.say(format!("holds with token {}", next.token()));
    ensure!(token < next.token(), "tokens do not rise: {token}, {}", next.token());
    within("the release", next.release()).await??;
    for (actor, before) in actors.iter().zip(&sessions) {
        ensure!(actor.session()? == *before, "{} lost its session", actor.name);
    }
    let data = within("a read", cedar.client.get_data(NODE)).await??;
    ensure!(data.bytes() == "after", "the write is gone");

    stage.bring_back(killed).await.context("bringing the server back")?;
    for actor in actors {
        actor.go().await?;
    }
    Ok(())
}
