//! Whether all members hold the same: every node with everything a client can see of it, and the digests that the servers
//! count themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use anyhow::{Context as _, Result, bail, ensure};
use docent::{Acl, Client, NodeData, Stat};

use super::{Ensemble, POLL, Role, leave};
use crate::backend::Backend;
use crate::recipe_kit::{LONG_SESSION, connect};

/// How often the members are asked for one thing, when one of them may be a moment behind.
const LOOKS: usize = 50;

/// A message tells no more.
const DIFFERENCES_MAX: usize = 12;

/// How many transactions a leader of Apache's is thought to write while it sends a state.
const AHEAD_MAX: u64 = 256;

/// One node as a client sees it, without what belongs to the server that is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Its path.
    pub path: String,
    /// Its data.
    pub data: Option<bytes::Bytes>,
    /// Its stat.
    pub stat: Stat,
    /// Its access control list.
    pub acl: Vec<Acl>,
}

/// Every node but those that each server keeps for itself, by path.
///
/// # Errors
/// When the server cannot be asked.
pub async fn tree(client: &Client) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    let mut next = vec!["/".to_owned()];
    while let Some(path) = next.pop() {
        let (children, node, acl) =
            tokio::join!(client.get_children(&path), client.get_data(&path), client.get_acl(&path));
        next.extend(children?.names.iter().map(|name| docent::path::join(&path, name)));
        let NodeData { data, stat, .. } = node?;
        if !path.starts_with("/zookeeper/config") && !path.ends_with("/zookeeper_stats") {
            seen.push(Seen { path, data, stat, acl: acl?.0 });
        }
    }
    seen.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(seen)
}

/// What one member shows and the other does not.
fn differences(pair: &[(u64, Vec<Seen>)]) -> Vec<String> {
    let [(one, first), (other, second)] = pair else { return Vec::new() };
    let lacks = |id: &u64, nodes: &[Seen], seen: &Seen| {
        (!nodes.contains(seen)).then(|| format!("member {id} does not show {seen:?}"))
    };
    let mut found: Vec<String> = first.iter().filter_map(|seen| lacks(other, second, seen)).collect();
    found.extend(second.iter().filter_map(|seen| lacks(one, first, seen)));
    found.truncate(DIFFERENCES_MAX);
    found
}

/// The number that follows a text in a line.
fn number(line: &str, before: &str, radix: u32) -> Option<u64> {
    let digits = line.split_once(before)?.1;
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    u64::from_str_radix(&digits[..end], radix).ok()
}

impl Ensemble {
    /// Waits until all started members have the same last transaction. A member that does not serve just now, because
    /// there is an election, is asked again.
    ///
    /// # Errors
    /// When they do not in time.
    pub async fn settled(&mut self) -> Result<()> {
        self.all_serve().await?;
        let ids = self.started();
        self.until("one zxid at all members", async || {
            // The begin of an epoch counts for a leader and not for its followers: a session is a transaction for all.
            let Ok(client) = connect(&self.connect_string(), LONG_SESSION).await else { return Ok(false) };
            leave(client).await;
            for _ in 0..LOOKS {
                let mut zxids = Vec::new();
                for id in &ids {
                    zxids.push(self.srvr(*id).await.ok().map(|srvr| srvr.zxid));
                }
                if zxids.iter().all(|zxid| zxid.is_some() && *zxid == zxids[0]) {
                    return Ok(true);
                }
                // The pause of a bounded wait.
                tokio::time::sleep(POLL).await;
            }
            Ok(false)
        })
        .await
    }

    /// Waits until all started members have applied what the leader had when this was called.
    ///
    /// # Errors
    /// When one does not in time.
    pub async fn caught_up(&mut self) -> Result<()> {
        let mut wanted = None;
        for _ in 0..LOOKS {
            let leader = self.leader().await?;
            wanted = self.srvr(leader).await.ok().map(|srvr| srvr.zxid);
            if wanted.is_some() {
                break;
            }
            // It has ceased to lead since: there will be another.
        }
        let wanted = wanted.context("the leader's last transaction")?;
        for id in self.started() {
            self.until(&format!("{wanted:?} at member {id}"), async || {
                Ok(self.srvr(id).await.is_ok_and(|srvr| srvr.zxid >= wanted))
            })
            .await?;
        }
        Ok(())
    }

    /// Checks that all started members hold the same tree, that the digests they counted at the same transaction are the
    /// same, and that no server of Apache has counted a mismatch. Nobody else may write meanwhile.
    ///
    /// Gives the number of transactions at which digests of two members were compared.
    ///
    /// # Errors
    /// With the first difference.
    pub async fn same_everywhere(&mut self) -> Result<usize> {
        self.settled().await?;
        let ids = self.started();
        // Opened before any tree is read: a session is a transaction, and moves nothing in the tree.
        let mut trees = Vec::new();
        for id in &ids {
            let client = connect(&self.address(*id)?.to_string(), LONG_SESSION).await?;
            client.sync("/").await?;
            trees.push((*id, tree(&client).await.with_context(|| format!("the tree of member {id}"))?));
            leave(client).await;
        }
        let differences: Vec<String> = trees.windows(2).flat_map(differences).collect();
        ensure!(differences.is_empty(), "the trees differ:\n{}\n{}", differences.join("\n"), self.logs());
        self.no_mismatch().await?;
        self.same_digests().await
    }

    /// Checks that no server of Apache has counted a digest that was not its own, but for what means nothing and what its own
    /// log and its leader's tell: what a state held already when it came (3.9 counts those), and what the server had in
    /// its own log twice.
    ///
    /// # Errors
    /// When one has, or does not answer.
    pub async fn no_mismatch(&self) -> Result<()> {
        for id in self.started() {
            if self.kind(id)? != Backend::DocentBinary {
                let count = self.counter(id, "digest_mismatches_count").await?;
                let explained = if count == 0 { 0 } else { self.explained_mismatches(id)? };
                ensure!(
                    count <= explained,
                    "member {id} has counted {count} digest mismatches, {explained} of them explained\n{}",
                    self.logs()
                );
            }
        }
        Ok(())
    }

    /// Where the digests of a member say nothing: a leader of Apache's goes on writing while it sends its state. What it
    /// wrote meanwhile is in there, and comes once more behind it; until that has ended, the member's tree is ahead of the
    /// transaction that it applies. The leader's log tells where it began, none where it ended.
    fn sent_ahead(&self, member: u64) -> Result<Vec<RangeInclusive<u64>>> {
        let mut windows = Vec::new();
        for id in self.ids() {
            let (log, mut first) = (self.log_text(id)?, None);
            for line in log.lines() {
                // A learner's thread says from where on it forwards, and right after that what its snapshot holds.
                if line.contains(&format!("for peer sid: {member}")) {
                    first = number(line, "Start forwarding 0x", 16).or(first);
                } else if let Some(last) = number(line, "send zxid of db as 0x", 16) {
                    windows.extend(first.take().map(|first| first..=last + AHEAD_MAX));
                }
            }
        }
        Ok(windows)
    }

    /// How many of a member's mismatches are explained: none if it names one that is not, for it does not name all.
    fn explained_mismatches(&self, member: u64) -> Result<u64> {
        let ahead = self.sent_ahead(member)?;
        let log = self.log_text(member)?;
        // A server of Apache's that is shut down under load can forget transactions that its log holds, is sent them again,
        // and logs them again. It says so when it reads that log, for each that comes behind a later one.
        let twice: BTreeSet<u64> =
            log.lines().filter_map(|line| number(line, "(highestZxid) > ", 10)).collect();
        let values = ["Value is Zxid. Value:", "Value is Zxid. Last value:"];
        let mut named =
            log.lines().filter_map(|line| values.iter().find_map(|before| number(line, before, 10)));
        let explained =
            named.all(|zxid| twice.contains(&zxid) || ahead.iter().any(|window| window.contains(&zxid)));
        let in_windows: u64 = ahead.iter().map(|window| window.end() - window.start() + 1).sum();
        Ok(if explained { in_windows + twice.len() as u64 } else { 0 })
    }

    async fn same_digests(&self) -> Result<usize> {
        let mut known: BTreeMap<u64, (u64, String)> = BTreeMap::new();
        let mut compared = 0;
        for id in self.started() {
            // Ours says nothing where it has nothing to say.
            let ahead =
                if self.kind(id)? == Backend::DocentBinary { Vec::new() } else { self.sent_ahead(id)? };
            for (zxid, digest) in self.digests(id).await? {
                if ahead.iter().any(|window| window.contains(&zxid)) {
                    continue;
                }
                match known.get(&zxid) {
                    Some((other, theirs)) if *theirs != digest => {
                        bail!("at {zxid:#x} member {other} has digest {theirs}, member {id} {digest}");
                    }
                    Some(_) => compared += 1,
                    None => drop(known.insert(zxid, (id, digest))),
                }
            }
        }
        Ok(compared)
    }

    /// Every member and what it says it does.
    ///
    /// # Errors
    /// When a member does not answer.
    pub async fn roles(&self) -> Result<BTreeMap<u64, Role>> {
        let mut roles = BTreeMap::new();
        for id in self.started() {
            roles.insert(id, self.srvr(id).await?.role);
        }
        Ok(roles)
    }
}
