//! What members tell about themselves: role, epoch, zxid, counters, and the digests of their trees.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use docent::Zxid;

use super::Ensemble;
use crate::four_letter;

/// A member that does not answer within this time is asked again by whoever waits for it.
const ANSWER_BOUND: Duration = Duration::from_secs(2);

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It leads.
    Leader,
    /// It follows with a vote.
    Follower,
    /// It follows without one.
    Observer,
    /// It is alone.
    Standalone,
}

/// The answer to `srvr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Srvr {
    /// What it does.
    pub role: Role,
    /// The last transaction that its tree holds.
    pub zxid: Zxid,
    /// How many nodes its tree has.
    pub nodes: u64,
}

impl Srvr {
    /// Reads the answer to `srvr`.
    ///
    /// # Errors
    /// When it is not one, as from a server that does not serve.
    pub fn parse(answer: &str) -> Result<Srvr> {
        let field =
            |name: &str| four_letter::field(answer, name).with_context(|| format!("no {name} in {answer}"));
        let role = match field("Mode")? {
            "leader" => Role::Leader,
            "follower" => Role::Follower,
            "observer" => Role::Observer,
            "standalone" => Role::Standalone,
            other => bail!("it says Mode: {other}"),
        };
        let zxid = field("Zxid")?.strip_prefix("0x").context("a zxid begins with 0x")?;
        let zxid = Zxid(i64::from_str_radix(zxid, 16).context("a zxid is a number")?);
        Ok(Srvr { role, zxid, nodes: field("Node count")?.parse().context("the count of nodes")? })
    }

    /// The epoch of its last transaction.
    pub fn epoch(&self) -> u64 {
        u64::from_ne_bytes(self.zxid.0.to_ne_bytes()) >> 32
    }
}

impl Ensemble {
    /// Asks one four-letter word.
    ///
    /// # Errors
    /// When no answer comes within 2 s.
    pub async fn ask(&self, id: u64, word: &str) -> Result<String> {
        four_letter::ask(self.address(id)?, word, ANSWER_BOUND).await
    }

    /// The member's own account.
    ///
    /// # Errors
    /// When it does not answer or does not serve.
    pub async fn srvr(&self, id: u64) -> Result<Srvr> {
        let answer = self.ask(id, "srvr").await?;
        Srvr::parse(&answer).with_context(|| format!("member {id}"))
    }

    /// As [`srvr`](Self::srvr), of a member that may not serve just now, because there is an election: it is asked again.
    ///
    /// # Errors
    /// When it does not serve in time.
    pub async fn srvr_soon(&self, id: u64) -> Result<Srvr> {
        let mut found = None;
        self.until(&format!("member {id} serves"), async || {
            found = self.srvr(id).await.ok();
            Ok(found.is_some())
        })
        .await?;
        found.context("it was found")
    }

    /// The member's numbers, without `zk_`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn mntr(&self, id: u64) -> Result<BTreeMap<String, String>> {
        let answer = self.ask(id, "mntr").await?;
        let pair = |line: &str| {
            let (key, value) = line.strip_prefix("zk_")?.split_once('\t')?;
            Some((key.to_owned(), value.to_owned()))
        };
        Ok(answer.lines().filter_map(pair).collect())
    }

    /// One of the member's counters. A member that does not serve just now has none: it is asked again.
    ///
    /// # Errors
    /// When it tells no such counter in time.
    pub async fn counter(&self, id: u64, key: &str) -> Result<u64> {
        let mut told = None;
        self.until(&format!("member {id} tells zk_{key}"), async || {
            told = self.mntr(id).await.ok().and_then(|mut mntr| mntr.remove(key));
            Ok(told.is_some())
        })
        .await?;
        let text = told.context("it was told")?;
        text.parse().with_context(|| format!("zk_{key} is {text:?}"))
    }

    /// The digests of the member's tree, each at a transaction whose number is a multiple of 128. A member that does not
    /// serve just now is asked again.
    ///
    /// # Errors
    /// When it does not tell them in time.
    pub async fn digests(&self, id: u64) -> Result<BTreeMap<u64, String>> {
        let mut told = None;
        self.until(&format!("member {id} tells its digests"), async || {
            told = self.ask(id, "hash").await.ok().and_then(|hash| hash.lines().map(parse_digest).collect());
            Ok(told.is_some())
        })
        .await?;
        told.context("they were told")
    }
}

/// One line of `hash`: the zxid in hexadecimal, a colon, and the digest.
fn parse_digest(line: &str) -> Option<(u64, String)> {
    let (zxid, digest) = line.split_once(": ")?;
    Some((u64::from_str_radix(zxid, 16).ok()?, digest.trim().to_owned()))
}
