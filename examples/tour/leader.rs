//! The second act: three candidates, one leader at a time, and an epoch for each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use docent_recipes::{FencingToken, Latch, Leadership, Recipes};

use super::stage::{Actor, Stage, until, within};

const PATH: &str = "/tour/leader";

/// Who led in which epoch, by what all participants have seen; and the first contradiction.
#[derive(Default)]
struct Chronicle {
    leaders: BTreeMap<FencingToken, String>,
    contradiction: Option<String>,
}

/// One candidate: its place, and the task that says what it sees.
struct Candidate {
    actor: Actor,
    latch: Latch,
    eyes: tokio::task::JoinHandle<()>,
}

pub(crate) async fn play(stage: &Stage) -> Result<()> {
    let actors = stage.cast("LEADER: one leads, the others know who; each leader has a higher epoch").await?;
    let chronicle = Arc::new(Mutex::new(Chronicle::default()));
    let mut candidates = Vec::new();
    for actor in actors {
        candidates.push(stand(actor, &chronicle).await?);
    }
    let first = all_follow(&candidates, "ash").await?;

    let everybody: Vec<&Actor> = candidates.iter().map(|candidate| &candidate.actor).collect();
    stage.cut(&everybody).await?;
    let still = all_follow(&candidates, "ash").await?;
    ensure!(still == first, "a short cut brought a new epoch");
    candidates[0].actor.say(format!("leads on in epoch {still}: nobody could have replaced it meanwhile"));

    stage.expire(&candidates[0].actor).await?;
    let second = all_follow(&candidates, "birch").await?;
    ensure!(!candidates[0].latch.is_leader(), "ash leads without a session");

    let birch = candidates.remove(1);
    birch.actor.say("steps down");
    leave(birch).await?;
    let third = all_follow(&candidates, "cedar").await?;
    ensure!(first < second && second < third, "epochs do not rise: {first}, {second}, {third}");
    for candidate in candidates {
        leave(candidate).await?;
    }
    let chronicle = chronicle.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(contradiction) = &chronicle.contradiction {
        bail!("{contradiction}");
    }
    Ok(())
}

async fn stand(actor: Actor, chronicle: &Arc<Mutex<Chronicle>>) -> Result<Candidate> {
    let latch = within("a place", actor.client.leader_latch(PATH).id(actor.name).join()).await??;
    actor.say("stands for leader");
    let eyes = tokio::spawn(look(actor.clone(), latch.leadership(), Arc::clone(chronicle)));
    Ok(Candidate { actor, latch, eyes })
}

async fn leave(candidate: Candidate) -> Result<()> {
    within("leaving", candidate.latch.leave()).await??;
    within("the end of the news", candidate.eyes).await?.context("the task that looks")?;
    candidate.actor.go().await
}

/// Waits until everybody names this leader, and it itself agrees; returns the epoch.
async fn all_follow(candidates: &[Candidate], name: &str) -> Result<FencingToken> {
    let sees = |candidate: &Candidate| match &*candidate.latch.leadership().borrow() {
        Leadership::Mine { epoch, .. } if candidate.actor.name == name => Some(*epoch),
        Leadership::Other { id, epoch } if id == name => Some(*epoch),
        _ => None,
    };
    let one_epoch = || {
        let epochs: Vec<_> = candidates.iter().map(sees).collect();
        epochs.iter().all(|epoch| epoch.is_some() && *epoch == epochs[0])
    };
    until("agreement on the leader", one_epoch).await?;
    let leading = candidates.iter().filter(|candidate| candidate.latch.is_leader()).count();
    ensure!(leading <= 1, "{leading} participants lead at the same time");
    candidates.first().and_then(sees).context("the leader went while it was looked at")
}

/// Says what one participant sees, until it has left.
async fn look(
    actor: Actor,
    mut leadership: tokio::sync::watch::Receiver<Leadership>,
    chronicle: Arc<Mutex<Chronicle>>,
) {
    let mut newest = FencingToken::new(0);
    loop {
        let now = leadership.borrow_and_update().clone();
        let seen = match now {
            Leadership::Mine { epoch, .. } => {
                actor.say(format!("LEADS, epoch {epoch}"));
                Some((epoch, actor.name.to_owned()))
            }
            Leadership::Other { id, epoch } => {
                actor.say(format!("follows {id}, epoch {epoch}"));
                Some((epoch, id))
            }
            Leadership::Left => return,
            _ => {
                actor.say("does not know who leads");
                None
            }
        };
        if let Some((epoch, id)) = seen {
            let mut chronicle = chronicle.lock().unwrap_or_else(PoisonError::into_inner);
            let leader = chronicle.leaders.entry(epoch).or_insert_with(|| id.clone()).clone();
            if leader != id {
                chronicle.contradiction = Some(format!("epoch {epoch} had two leaders, {leader} and {id}"));
            }
            if epoch < newest {
                chronicle.contradiction = Some(format!("{} went back to epoch {epoch}", actor.name));
            }
            newest = epoch;
        }
        if leadership.changed().await.is_err() {
            return;
        }
    }
}
