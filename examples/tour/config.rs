//! The third act: one publisher, three readers, a value that is never old for long and never goes back.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use docent::{Version, Zxid};
use docent_recipes::{Recipes, Update, Updates, Watched};
use serde::{Deserialize, Serialize};

use super::stage::{Actor, Stage, until, within};

const PATH: &str = "/tour/limits";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Limits {
    revision: u32,
    requests_per_second: u32,
}

impl Limits {
    fn next(&self) -> Limits {
        Limits { revision: self.revision + 1, requests_per_second: self.requests_per_second + 50 }
    }
}

/// One reader: its value, and what it was told in order.
struct Reader {
    actor: Actor,
    limits: Watched<Limits>,
    told: Arc<Mutex<Vec<(Zxid, u32)>>>,
}

pub(crate) async fn play(stage: &Stage) -> Result<()> {
    let actors = stage.cast("CONFIG: a typed value, at hand everywhere, never going back").await?;
    let publisher = stage.actor("publisher").await?;
    let limits = open(&publisher).await?;
    let mut readers = Vec::new();
    for actor in actors {
        readers.push(read(actor).await?);
    }
    publish(&publisher, &limits).await?;
    all_have(&readers, 1).await?;

    let birch = [&readers[1].actor];
    let (cut, published) = tokio::join!(stage.cut(&birch), async {
        publish(&publisher, &limits).await?;
        publish(&publisher, &limits).await
    });
    cut.and(published)?;
    all_have(&readers, 3).await?;

    publisher.say("writes {broken by mistake");
    publisher.client.set_data(PATH, "{broken", Version::ANY).await?;
    let reported = || readers.iter().all(|reader| reader.limits.info().problem.is_some());
    until("the report of the mistake", reported).await?;
    all_have(&readers, 3).await?;
    let good = limits.get().next();
    publisher.say(format!("publishes {good:?}"));
    // What is there is no value, so there is nothing to change: it is replaced as a whole.
    publisher.client.set_data(PATH, json(&good), Version::ANY).await?;
    all_have(&readers, 4).await?;

    stage.expire(&readers[2].actor).await?;
    publish(&publisher, &limits).await?;
    all_have(&readers, 5).await?;
    for reader in readers {
        check(&reader)?;
        drop(reader.limits);
        reader.actor.go().await?;
    }
    drop(limits);
    publisher.go().await
}

fn json(limits: &Limits) -> String {
    let Limits { revision, requests_per_second } = limits;
    format!(r#"{{"revision":{revision},"requests_per_second":{requests_per_second}}}"#)
}

async fn open(actor: &Actor) -> Result<Watched<Limits>> {
    let builder = actor.client.watch_config(PATH).json::<Limits>();
    let builder = builder.default_if_missing(Limits { revision: 0, requests_per_second: 100 });
    Ok(within("the first value", builder.open()).await??)
}

async fn read(actor: Actor) -> Result<Reader> {
    let limits = open(&actor).await?;
    actor.say(format!("begins with the default, {:?}", limits.get()));
    let told = Arc::default();
    tokio::spawn(listen(actor.clone(), limits.updates(), Arc::clone(&told)));
    Ok(Reader { actor, limits, told })
}

async fn publish(publisher: &Actor, limits: &Watched<Limits>) -> Result<()> {
    let published = within("the write", limits.update(Limits::next)).await??;
    publisher.say(format!("publishes {published:?}"));
    Ok(())
}

async fn all_have(readers: &[Reader], revision: u32) -> Result<()> {
    let have = |reader: &Reader| reader.limits.get().revision == revision;
    until(&format!("revision {revision}"), || readers.iter().all(have)).await
}

/// Says what one reader is told, until its value is given up.
async fn listen(actor: Actor, mut updates: Updates<Limits>, told: Arc<Mutex<Vec<(Zxid, u32)>>>) {
    while let Some(update) = updates.next().await {
        match update {
            Update::Value { value, mzxid } => {
                actor.say(format!("has {value:?}, written by {mzxid}"));
                told.lock().unwrap_or_else(PoisonError::into_inner).push((mzxid, value.revision));
            }
            Update::Invalid { keeping: Some(keeping), .. } => {
                actor.say(format!("was sent nonsense, and stays with {keeping:?}"));
            }
            Update::Stale { .. } => actor.say("is cut off: its value may be old"),
            Update::Synced => actor.say("is back: its value is the current one"),
            other => actor.say(format!("is told {other:?}")),
        }
    }
}

/// Values may be skipped, but each is newer than the one before.
fn check(reader: &Reader) -> Result<()> {
    let told = reader.told.lock().unwrap_or_else(PoisonError::into_inner);
    let rises = told.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
    ensure!(rises, "{} saw a value go back: {told:?}", reader.actor.name);
    Ok(())
}
