//! Contenders in Rust, to the rules of [`crate::handovers`]: they stand in one line with those in Java and Python.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use docent::{Client, ErrorCode, ParentMode, Version};
use docent_recipes::{Fence, Layout, Leader, Recipes};

use crate::handovers::Round;
use crate::start_line::Line;

/// Everything that may be waited for is over in this time, or has failed.
const BOUND: Duration = Duration::from_secs(300);

/// Which recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The ordered lock, at `BASE/lock`.
    Lock,
    /// The leader latch, at `BASE/latch`.
    Latch,
    /// The election, at `BASE/lock`, with names of this layout.
    Election(Layout),
}

impl Kind {
    /// The line that it stands in.
    pub fn line(self) -> Line {
        match self {
            Kind::Lock => Line::of_locks(Layout::default()),
            Kind::Latch => Line::Latch,
            Kind::Election(layout) => Line::of_locks(layout),
        }
    }
}

/// One contender's whole run.
#[derive(Clone, Debug)]
pub struct Contender {
    /// Which recipe.
    pub kind: Kind,
    /// The servers.
    pub connect: String,
    /// Below which path everybody works.
    pub base: String,
    /// How often it holds.
    pub rounds: usize,
    /// Its name.
    pub id: String,
    /// How many contenders there are in all.
    pub contenders: usize,
}

impl Contender {
    /// Plays all rounds.
    ///
    /// # Errors
    /// The fence is broken, or a recipe fails.
    pub async fn play(self) -> Result<Vec<Round>> {
        let client = Client::connect(&*self.connect).await?;
        tokio::time::timeout(BOUND, self.meet(&client)).await.context("the others did not come")??;
        let mut rounds = Vec::with_capacity(self.rounds);
        for round in 0..self.rounds {
            let next = tokio::time::timeout(BOUND, self.round(&client)).await;
            rounds.push(next.with_context(|| format!("{} waited too long in round {round}", self.id))??);
        }
        client.close().await?;
        Ok(rounds)
    }

    /// Waits until everybody is there.
    async fn meet(&self, client: &Client) -> Result<()> {
        let ready = format!("{}/ready", self.base);
        let mine = format!("{ready}/{}", self.id);
        client.create_parents(&mine, ParentMode::Persistent).await?;
        client.create(&mine, "").await?;
        match client.create(format!("{}/register", self.base), "0:0").await {
            Err(error) if error.code() == Some(ErrorCode::NODE_EXISTS) => {}
            made => drop(made?),
        }
        loop {
            let (children, changed) = client.get_children_and_watch(&ready).await?;
            if children.names.len() >= self.contenders {
                return Ok(());
            }
            changed.await?;
        }
    }

    async fn round(&self, client: &Client) -> Result<Round> {
        match self.kind {
            Kind::Lock => {
                let guard = client.lock(format!("{}/lock", self.base)).acquire().await?;
                let (token, node) = (guard.token(), guard.path().to_owned());
                let count = self.write(client, i64::try_from(token.value())?).await?;
                guard.check()?;
                guard.release().await?;
                self.done(node, token.value(), count)
            }
            Kind::Latch => {
                let latch = client.leader_latch(format!("{}/latch", self.base)).id(&*self.id).join().await?;
                let fence: Fence = latch.wait_to_lead().await?;
                let (token, node) = (fence.token(), fence.path().to_owned());
                let count = self.write(client, i64::try_from(token.value())?).await?;
                latch.leave().await?;
                self.done(node, token.value(), count)
            }
            Kind::Election(layout) => {
                let election =
                    client.election(format!("{}/lock", self.base)).id(self.id.clone()).layout(layout);
                let lead = |leader: Leader| async move {
                    let token = leader.epoch().value();
                    let count = self.write(client, i64::try_from(token)?).await?;
                    leader.check()?;
                    self.done(leader.path().to_owned(), token, count)
                };
                election.run(lead).await?
            }
        }
    }

    fn done(&self, node: String, token: u64, count: u64) -> Result<Round> {
        Ok(Round { id: self.id.clone(), node, token: token.try_into()?, count })
    }

    /// The fenced write: no older token after a newer one, and nobody in between.
    async fn write(&self, client: &Client, token: i64) -> Result<u64> {
        let register = format!("{}/register", self.base);
        let node = client.get_data(&register).await?;
        let text = String::from_utf8(node.bytes().to_vec())?;
        let (before, count) = text.split_once(':').with_context(|| format!("register {text:?}"))?;
        let (before, count): (i64, u64) = (before.parse()?, count.parse()?);
        ensure!(before <= token, "VIOLATION {}: token {token} after {before}", self.id);
        let next = format!("{token}:{}", count + 1);
        match client.set_data(&register, next, Version(node.stat.version)).await {
            Ok(_) => Ok(count + 1),
            Err(error) => bail!("CONFLICT {}: {error}", self.id),
        }
    }
}
