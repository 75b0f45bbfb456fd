//! Somebody who stands first in a line until all the others stand in it.
//!
//! Contenders begin at about the same time, and still one process may stand still for longer than another one needs for
//! all its rounds. Then nobody ever waits for anybody, and nothing is proved. So the test itself holds first: it lets go
//! when everybody waits.

use std::time::Duration;

use anyhow::{Context as _, Result};
use docent::{Client, ParentMode};
use docent_recipes::{Latch, Layout, LockGuard, Recipes as _};

use crate::recipe_kit::{LONG_SESSION, connect};

/// A contender comes when its JVM has started and all others have come to the gate, for which they wait a minute.
const BOUND: Duration = Duration::from_secs(120);

/// A line at which all exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Nodes of locks and elections with names of this layout, below `BASE/lock`.
    Lock(Layout),
    /// Nodes of leader latches, below `BASE/latch`.
    Latch,
}

/// The one at the head of the line.
#[derive(Debug)]
pub struct Head {
    client: Client,
    path: String,
    holds: Holds,
}

#[derive(Debug)]
enum Holds {
    Lock(LockGuard),
    Latch(Latch),
}

impl Head {
    /// Takes the first place in the line below `base`, where nobody stands as yet.
    ///
    /// # Errors
    /// When the server does not let it.
    pub async fn of(line: Line, hosts: &str, base: &str) -> Result<Head> {
        let client = connect(hosts, LONG_SESSION).await?;
        let path = match line {
            Line::Lock(_) => format!("{base}/lock"),
            Line::Latch => format!("{base}/latch"),
        };
        // A container could go between two who come, and kazoo makes its parents only once.
        client.create_parents(format!("{path}/x"), ParentMode::Persistent).await?;
        let holds = match line {
            Line::Lock(layout) => Holds::Lock(client.lock(&path).layout(layout).acquire().await?),
            Line::Latch => {
                let latch = client.leader_latch(&path).id("head").join().await?;
                latch.wait_to_lead().await?;
                Holds::Latch(latch)
            }
        };
        Ok(Head { client, path, holds })
    }

    /// Waits until so many stand behind, and lets the first of them go on.
    ///
    /// # Errors
    /// When they do not come in two minutes, or the place cannot be left.
    pub async fn let_go(self, behind: usize) -> Result<()> {
        let all = async {
            while let (children, changed) = self.client.get_children_and_watch(&self.path).await?
                && children.names.len() <= behind
            {
                changed.await?;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(BOUND, all).await.with_context(|| format!("fewer than {behind} wait"))??;
        match self.holds {
            Holds::Lock(guard) => drop(guard.release().await?),
            Holds::Latch(latch) => drop(latch.leave().await?),
        }
        self.client.close().await?;
        Ok(())
    }
}
