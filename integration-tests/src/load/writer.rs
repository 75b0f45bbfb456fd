//! One client that writes and reads, and checks what it is told as it goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, bail, ensure};
use docent::{Client, CreateMode, Error, ErrorCode, SessionRef, Transaction, Version, Zxid};
use fastrand::Rng;

use super::ledger::{Fate, Ledger, number};
use super::{CELLS, ROOT, Shared, client, ensure_node};
use crate::ensemble::sure;

/// Sets that are in flight together.
const BURST: usize = 6;
/// Nodes made once that one writer keeps; beyond that it deletes.
const NODES_MAX: usize = 400;

struct Writer {
    shared: Arc<Shared>,
    client: Client,
    session: SessionRef,
    ledger: Ledger,
    random: Rng,
    /// The highest number read in each cell of others.
    seen: BTreeMap<String, u64>,
    made: u64,
}

/// Writes until it is told to stop; gives what it was promised.
pub(super) async fn write(shared: Arc<Shared>, writer: usize) -> Result<Ledger> {
    let working = Arc::clone(&shared);
    let worked = work(shared, writer).await;
    working.working.send_modify(|working| *working -= 1);
    let (mut writer, alive) = worked.with_context(|| format!("writer {writer}"))?;
    // The sender lives as long as this.
    let _ = working.leave.subscribe().wait_for(|leave| *leave).await;
    writer.finish(alive).await.with_context(|| format!("writer {}", writer.ledger.writer))?;
    Ok(writer.ledger)
}

async fn work(shared: Arc<Shared>, writer: usize) -> Result<(Writer, Zxid)> {
    let client = client(&shared.connect).await?;
    let session = client.session_ready().await?;
    let ledger = Ledger::new(writer);
    let mut writer = Writer {
        shared,
        client,
        session,
        ledger,
        random: Rng::new(),
        seen: BTreeMap::new(),
        made: fastrand::u64(..1 << 40),
    };
    // The high byte names the member that made the session.
    let alive = writer.run().await.with_context(|| format!("session {:?}", writer.session.id()))?;
    Ok((writer, alive))
}

impl Writer {
    /// Works until told to stop; gives the zxid of the node that lives as long as the session.
    async fn run(&mut self) -> Result<Zxid> {
        let alive = self.begin().await?;
        while !self.shared.stopped() {
            match self.random.u8(0..100) {
                0..50 => self.burst().await?,
                50..60 => self.make_node().await?,
                60..65 => self.delete_node().await?,
                65..70 => self.make_sequential().await?,
                70..75 => self.make_ephemeral().await?,
                75..80 => self.set_pair().await?,
                80..88 => self.read_own().await?,
                88..95 => self.read_others().await?,
                _ => self.read_synced().await?,
            }
        }
        Ok(alive)
    }

    /// Looks at the node that lives as long as the session, and ends the session.
    async fn finish(&mut self, alive: Zxid) -> Result<()> {
        let path = format!("{ROOT}/alive/w{}", self.ledger.writer);
        let stat =
            self.client.exists(&path).await?.context("the ephemeral node of a living session is gone")?;
        ensure!(stat.ephemeral_owner == self.session.id(), "{path} belongs to {:?}", stat.ephemeral_owner);
        ensure!(stat.czxid == alive, "{path} was made anew: {:?} instead of {alive:?}", stat.czxid);
        self.client.close().await?;
        Ok(())
    }

    /// Makes what must be there; gives the zxid of the node that lives as long as the session.
    async fn begin(&mut self) -> Result<Zxid> {
        let writer = self.ledger.writer;
        ensure_node(&self.client, &format!("{ROOT}/w{writer}")).await?;
        let cells = (0..CELLS).map(|cell| Ledger::cell_path(writer, cell));
        for path in cells.chain(Ledger::pair_paths(writer)) {
            ensure_node(&self.client, &path).await?;
            // A number from the start, so that every read finds one.
            sure::set(&self.client, &path, "0").await?;
        }
        let path = format!("{ROOT}/alive/w{writer}");
        loop {
            let outcome = self.client.create(&path, "").ephemeral().await;
            if let Some(created) = self.judge(outcome, "creating the node that tells of the session")? {
                return Ok(created.zxid);
            }
            // Nobody else makes it.
            if let Some(stat) = self.client.exists(&path).await? {
                return Ok(stat.czxid);
            }
        }
    }

    /// Several sets, sent before the first is answered; they take effect in this order.
    async fn burst(&mut self) -> Result<()> {
        let writer = self.ledger.writer;
        let mut replies = Vec::new();
        for _ in 0..self.random.usize(1..=BURST) {
            let cell = self.random.usize(0..CELLS);
            self.ledger.cells[cell].sent += 1;
            let value = self.ledger.cells[cell].sent;
            let path = Ledger::cell_path(writer, cell);
            replies.push((cell, value, self.client.set_data(path, value.to_string(), Version::ANY)));
        }
        for (cell, value, reply) in replies {
            let outcome = reply.await;
            if let Some(stat) = self.judge(outcome, "setting a cell")? {
                self.acknowledge(Some(stat.mzxid))?;
                self.ledger.cells[cell].acknowledged = value;
                self.shared.board(writer, cell).store(value, Ordering::SeqCst);
            }
        }
        Ok(())
    }

    async fn make_node(&mut self) -> Result<()> {
        if self.ledger.nodes.len() >= NODES_MAX {
            return self.delete_node().await;
        }
        self.made += 1;
        let path = format!("{ROOT}/w{}/node-{}", self.ledger.writer, self.made);
        let outcome = self.client.create(&path, "once").await;
        match self.judge(outcome, "creating")? {
            Some(created) => {
                self.acknowledge(Some(created.zxid))?;
                self.ledger.nodes.insert(path, Fate::There);
            }
            None => drop(self.ledger.nodes.insert(path, Fate::Unknown)),
        }
        Ok(())
    }

    async fn delete_node(&mut self) -> Result<()> {
        let there: Vec<&String> = self
            .ledger
            .nodes
            .iter()
            .filter(|(_, fate)| **fate == Fate::There)
            .map(|(path, _)| path)
            .collect();
        let Some(path) = self.random.choice(there).cloned() else { return Ok(()) };
        let outcome = self.client.delete(&path, Version::ANY).await;
        let fate = match self.judge(outcome, "deleting")? {
            Some(()) => {
                self.acknowledge(None)?;
                Fate::Gone
            }
            None => Fate::Unknown,
        };
        self.ledger.nodes.insert(path, fate);
        Ok(())
    }

    async fn make_sequential(&mut self) -> Result<()> {
        self.made += 1;
        let text = format!("{}:{}", self.ledger.writer, self.made);
        let prefix = format!("{ROOT}/seq/s-");
        let outcome = self.client.create(prefix, text.clone()).mode(CreateMode::PersistentSequential).await;
        if let Some(created) = self.judge(outcome, "creating a sequential node")? {
            self.acknowledge(Some(created.zxid))?;
            let twice = self.ledger.sequential.insert(created.path.clone(), text);
            ensure!(twice.is_none(), "the name {} was given twice", created.path);
        }
        Ok(())
    }

    async fn make_ephemeral(&mut self) -> Result<()> {
        self.made += 1;
        let path = format!("{ROOT}/eph/w{}-{}", self.ledger.writer, self.made);
        let outcome = self.client.create(&path, "").ephemeral().await;
        if let Some(created) = self.judge(outcome, "creating an ephemeral node")? {
            self.acknowledge(Some(created.zxid))?;
            let stat = self.client.exists(&path).await?.context("a session does not see its own node")?;
            ensure!(
                stat.ephemeral_owner == self.session.id(),
                "{path} belongs to {:?}",
                stat.ephemeral_owner
            );
            if self.random.bool() {
                let outcome = self.client.delete(&path, Version::ANY).await;
                if self.judge(outcome, "deleting an ephemeral node")?.is_some() {
                    self.acknowledge(None)?;
                }
            }
        }
        Ok(())
    }

    async fn set_pair(&mut self) -> Result<()> {
        self.ledger.pair.sent += 1;
        let value = self.ledger.pair.sent;
        let [left, right] = Ledger::pair_paths(self.ledger.writer);
        let both = Transaction::new().set_data(left, value.to_string(), Version::ANY).set_data(
            right,
            value.to_string(),
            Version::ANY,
        );
        let outcome = self.client.multi(both).await;
        if self.judge(outcome, "setting the pair")?.is_some() {
            self.acknowledge(None)?;
            self.ledger.pair.acknowledged = value;
        }
        Ok(())
    }

    async fn read_own(&mut self) -> Result<()> {
        let cell = self.random.usize(0..CELLS);
        let path = Ledger::cell_path(self.ledger.writer, cell);
        let found = number(&self.client, &path).await?.with_context(|| format!("{path} is gone"))?;
        let known = self.ledger.cells[cell];
        ensure!(
            (known.acknowledged..=known.sent).contains(&found),
            "a session reads {found} in its own {path}: {known:?}"
        );
        self.never_back(path, found)
    }

    async fn read_others(&mut self) -> Result<()> {
        let other = self.random.usize(0..self.shared.crew.writers);
        let path = Ledger::cell_path(other, self.random.usize(0..CELLS));
        // A cell that another writer has not made yet counts for nothing.
        match self.client.get_data(&path).await {
            Ok(node) if node.bytes().is_empty() => Ok(()),
            Ok(_) => {
                let found = number(&self.client, &path).await?.with_context(|| format!("{path} is gone"))?;
                self.never_back(path, found)
            }
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("reading {path}")),
        }
    }

    async fn read_synced(&mut self) -> Result<()> {
        if !self.shared.crew.synced_reads {
            return self.read_others().await;
        }
        let (other, cell) = (self.random.usize(0..self.shared.crew.writers), self.random.usize(0..CELLS));
        let path = Ledger::cell_path(other, cell);
        let promised = self.shared.board(other, cell).load(Ordering::SeqCst);
        if promised == 0 {
            return Ok(());
        }
        let synced = self.client.sync(&path);
        let outcome = synced.await;
        if self.judge(outcome, "sync")?.is_none() {
            return Ok(());
        }
        let found = number(&self.client, &path).await?.with_context(|| format!("{path} is gone"))?;
        ensure!(found >= promised, "behind a sync {path} is {found}, and {promised} was acknowledged before");
        self.never_back(path, found)
    }

    fn never_back(&mut self, path: String, found: u64) -> Result<()> {
        let before = self.seen.entry(path.clone()).or_default();
        ensure!(found >= *before, "{path} is {found} after this session has read {before}");
        *before = found;
        Ok(())
    }

    fn acknowledge(&mut self, zxid: Option<Zxid>) -> Result<()> {
        self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.ledger.acknowledge(zxid)
    }

    /// The outcome of a write: `None` when its reply was lost. Everything else that is not a success is a fault, since
    /// nobody but this writer touches its nodes.
    fn judge<T>(&mut self, outcome: Result<T, Error>, what: &str) -> Result<Option<T>> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_session_lost() => bail!("{what}: the session ended: {error}"),
            Err(error) if error.may_have_applied() || error.is_retryable() => {
                self.ledger.unknown += 1;
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| what.to_owned()),
        }
    }
}
