//! The first act: one lock, three contenders, and a register that takes no token lower than one it has seen.

use anyhow::{Result, ensure};
use docent::CreateMode;
use docent_recipes::{Error, FenceGate, FencingToken, Lock, LossCause, PlaceState, Recipes};

use super::stage::{Actor, Stage, within};

const PATH: &str = "/tour/lock";
const ROUNDS: usize = 4;

pub(crate) async fn play(stage: &Stage) -> Result<()> {
    let [ash, birch, cedar] =
        stage.cast("LOCK: one at a time, in order of arrival; each holder has a higher token").await?;
    let register = FenceGate::new();
    handed_on(stage, [&ash, &birch, &cedar], &register).await?;
    crowd([&ash, &birch, &cedar], &register).await?;
    for actor in [ash, birch, cedar] {
        actor.go().await?;
    }
    Ok(())
}

fn lock(actor: &Actor) -> Lock {
    actor.client.lock(PATH).identifier(actor.name)
}

/// One holder is cut off, the next loses its session, the third comes in order.
async fn handed_on(stage: &Stage, [ash, birch, cedar]: [&Actor; 3], register: &FenceGate) -> Result<()> {
    let first = within("the lock", lock(ash).acquire()).await??;
    ash.say(format!("holds with token {}", first.token()));
    let second = within("a place", lock(birch).enqueue()).await??;
    birch.say(format!("stands in line, {} ahead", second.position().unwrap_or_default()));
    let third = within("a place", lock(cedar).enqueue()).await??;
    cedar.say(format!("stands in line, {} ahead", third.position().unwrap_or_default()));
    ensure!((second.position(), third.position()) == (Some(1), Some(2)), "the line is not in order");

    stage.cut(&[ash]).await?;
    first.check()?;
    ensure!(matches!(second.state(), PlaceState::InLine { .. }), "birch was let in while ash holds");
    ash.say(format!("still holds with token {}: the lease was longer than the gap", first.token()));
    register.admit(first.token())?;
    ash.say("writes to the register and releases");
    let first_token = first.token();
    within("the release", first.release()).await??;

    let second = within("birch's turn", second).await??;
    birch.say(format!("holds with token {}", second.token()));
    register.admit(second.token())?;
    let lost = second.lost();
    stage.expire(birch).await?;
    let cause = within("the loss", lost).await?;
    birch.say(format!("LOST the lock: {cause}"));
    // The server deletes the nodes of a session that ends: either news may come first.
    ensure!(matches!(cause, LossCause::SessionEnded | LossCause::NodeDeleted), "lost for another reason");

    let third = within("cedar's turn", third).await??;
    cedar.say(format!("holds with token {}, and writes to the register", third.token()));
    ensure!(first_token < second.token() && second.token() < third.token(), "tokens do not rise");
    register.admit(third.token())?;

    let Err(stale) = register.admit(second.token()) else { anyhow::bail!("a late write was taken") };
    birch.say(format!("is late with a write, and refused: {stale}"));
    let late = second.txn().create("/tour/late", "", CreateMode::Persistent).commit().await;
    ensure!(matches!(late, Err(Error::Lost(_))), "a late write inside ZooKeeper was taken: {late:?}");
    birch.say("is refused inside ZooKeeper too: the write was tied to the lock's node");
    within("the release", third.release()).await??;
    Ok(())
}

/// All at once, several times: nobody overlaps.
async fn crowd(actors: [&Actor; 3], register: &FenceGate) -> Result<()> {
    let before = register.highest();
    let turns = futures::future::try_join_all(actors.map(|actor| take_turns(actor, register)));
    let mut tokens: Vec<FencingToken> = turns.await?.concat();
    let in_order = tokens.iter().map(ToString::to_string).collect::<Vec<_>>();
    actors[0].say(format!("and the others took {ROUNDS} turns each, tokens {}", in_order.join(" ")));
    tokens.sort();
    tokens.dedup();
    ensure!(tokens.len() == actors.len() * ROUNDS, "two holders had one token");
    ensure!(tokens.first() > Some(&before), "a token is not higher than an earlier holder's");
    Ok(())
}

async fn take_turns(actor: &Actor, register: &FenceGate) -> Result<Vec<FencingToken>> {
    let mut tokens = Vec::new();
    for _ in 0..ROUNDS {
        let guard = within("a turn", lock(actor).acquire()).await??;
        // Were another let in beside us, one of the two would find a higher token here.
        register.admit(guard.token())?;
        tokio::task::yield_now().await;
        guard.check()?;
        register.admit(guard.token())?;
        tokens.push(guard.token());
        within("the release", guard.release()).await??;
    }
    Ok(tokens)
}
