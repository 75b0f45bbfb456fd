//! Changing the members of an ensemble, and seeing that it is done.

use anyhow::{Context as _, Result, ensure};
use docent::ReconfigRequest;

use super::{Ensemble, Seat, leave};
use crate::recipe_kit::{LONG_SESSION, connect, soon};

impl Ensemble {
    /// Starts a server that waits to be asked in, and waits until it is level with the leader.
    ///
    /// # Errors
    /// When it does not get there in time.
    pub async fn level_joiner(&mut self, seat: Seat) -> Result<u64> {
        let joiner = self.prepare_joiner(seat)?;
        self.spawn_member(joiner)?;
        self.until("a joiner that is level", async || Ok(self.srvr(joiner).await.is_ok())).await?;
        Ok(joiner)
    }

    /// The configuration as one member shows it.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn shown(&self, id: u64) -> Result<String> {
        let client = connect(&self.address(id)?.to_string(), LONG_SESSION).await?;
        let node = client.get_data("/zookeeper/config").await?;
        leave(client).await;
        Ok(String::from_utf8_lossy(&node.data.unwrap_or_default()).into_owned())
    }

    /// Asks for a change until it is made, by whichever member takes the client.
    ///
    /// # Errors
    /// As [`change_at`](Self::change_at).
    pub async fn change(&self, joining: &str, leaving: &str) -> Result<String> {
        self.change_at(&self.connect_string(), joining, leaving).await
    }

    /// Asks these members for a change until it is made; gives the new configuration. An answer can be lost with the
    /// member that was to give it, and then the change is asked for again.
    ///
    /// # Errors
    /// When it is not made in time; the message holds every refusal.
    pub async fn change_at(&self, hosts: &str, joining: &str, leaving: &str) -> Result<String> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let change = ReconfigRequest {
            joining: given(joining),
            leaving: given(leaving),
            new_members: None,
            current_config: -1,
        };
        let client = connect(hosts, LONG_SESSION).await?;
        let mut refusals = Vec::new();
        let mut config = None;
        let what = format!("joining {joining:?}, leaving {leaving:?}");
        let asked = self.until(&what, async || {
            match soon("an answer", client.reconfig(change.clone())).await? {
                Ok(node) => config = node.data,
                Err(error) => refusals.push(error.to_string()),
            }
            Ok(config.is_some())
        });
        asked.await.with_context(|| format!("{refusals:?}"))?;
        leave(client).await;
        Ok(String::from_utf8_lossy(&config.unwrap_or_default()).into_owned())
    }

    /// Waits until a member's disk names this configuration for its next start.
    ///
    /// # Errors
    /// When it does not in time, or its file holds something else.
    pub async fn written(&self, id: u64, config: &str) -> Result<()> {
        let version = config.rsplit_once("version=").context("a version")?.1;
        let zoo_cfg = self.config(id)?;
        let dynamic = format!("{}.dynamic.{version}", zoo_cfg.display());
        self.until(&format!("version {version} in the files of member {id}"), async || {
            Ok(std::fs::read_to_string(zoo_cfg)?.contains(&dynamic))
        })
        .await?;
        let members: Vec<&str> = config.lines().filter(|line| line.starts_with("server.")).collect();
        ensure!(std::fs::read_to_string(&dynamic)? == members.join("\n"), "the file of member {id}");
        Ok(())
    }
}
