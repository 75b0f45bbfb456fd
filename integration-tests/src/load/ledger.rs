//! What one writer was promised, and how it compares with what the servers hold.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use docent::{Client, ErrorCode, Zxid};

use super::{CELLS, ROOT};

/// A node that counts up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cell {
    /// The last acknowledged number; 0 for none.
    pub(super) acknowledged: u64,
    /// The highest number ever sent.
    pub(super) sent: u64,
}

/// What is known about a node that is made once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its creation was acknowledged.
    There,
    /// Its deletion was acknowledged.
    Gone,
    /// A reply was lost.
    Unknown,
}

/// One writer's memory.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) writer: usize,
    pub(super) cells: [Cell; CELLS],
    /// The pair that is always set together.
    pub(super) pair: Cell,
    /// Nodes made once, by path.
    pub(super) nodes: BTreeMap<String, Fate>,
    /// Names that the server gave to sequential nodes, with what was written.
    pub(super) sequential: BTreeMap<String, String>,
    /// The zxid of the last acknowledged write.
    pub(super) zxid: Zxid,
    pub(super) unknown: u64,
    pub(super) longest_gap: Duration,
    last: Instant,
}

impl Ledger {
    pub(super) fn new(writer: usize) -> Ledger {
        Ledger {
            writer,
            cells: [Cell::default(); CELLS],
            pair: Cell::default(),
            nodes: BTreeMap::new(),
            sequential: BTreeMap::new(),
            zxid: Zxid::default(),
            unknown: 0,
            longest_gap: Duration::ZERO,
            last: Instant::now(),
        }
    }

    /// A write was acknowledged; `zxid` is its transaction, where the answer tells.
    ///
    /// # Errors
    /// When it is older than the one before: the client's order was not kept.
    pub(super) fn acknowledge(&mut self, zxid: Option<Zxid>) -> Result<()> {
        self.longest_gap = self.longest_gap.max(self.last.elapsed());
        self.last = Instant::now();
        if let Some(zxid) = zxid {
            let (writer, before) = (self.writer, self.zxid);
            ensure!(
                zxid > before,
                "writer {writer}: a write got zxid {zxid:?} after one that got {before:?}"
            );
            self.zxid = zxid;
        }
        Ok(())
    }

    /// The path of a cell.
    pub(super) fn cell_path(writer: usize, cell: usize) -> String {
        format!("{ROOT}/w{writer}/cell-{cell}")
    }

    /// The paths of the pair.
    pub(super) fn pair_paths(writer: usize) -> [String; 2] {
        [format!("{ROOT}/w{writer}/left"), format!("{ROOT}/w{writer}/right")]
    }

    /// Compares everything with what a client sees; gives how many nodes it has looked at.
    ///
    /// # Errors
    /// With the first difference.
    pub(super) async fn check(&self, client: &Client) -> Result<u64> {
        for (number, cell) in self.cells.iter().enumerate() {
            between(client, &Ledger::cell_path(self.writer, number), *cell).await?;
        }
        let paths = Ledger::pair_paths(self.writer);
        let left = between(client, &paths[0], self.pair).await?;
        let right = between(client, &paths[1], self.pair).await?;
        ensure!(left == right, "one transaction set {paths:?}, they hold {left} and {right}");
        for (path, fate) in &self.nodes {
            let there = client.exists(path).await?.is_some();
            match fate {
                Fate::There => ensure!(there, "{path} was acknowledged and is not there"),
                Fate::Gone => ensure!(!there, "{path} was acknowledged as deleted and is there"),
                Fate::Unknown => {}
            }
        }
        for (path, text) in &self.sequential {
            let found = client.get_data(path).await;
            let found = found.with_context(|| format!("{path} was acknowledged"))?.bytes();
            ensure!(found == text.as_bytes(), "{path} holds {found:?} instead of {text}");
        }
        Ok(u64::try_from(CELLS + 2 + self.nodes.len() + self.sequential.len())?)
    }
}

/// Reads the number of a cell; `None` for one that does not exist.
pub(super) async fn number(client: &Client, path: &str) -> Result<Option<u64>> {
    match client.get_data(path).await {
        Ok(node) => {
            let text = String::from_utf8(node.bytes().to_vec()).context("a cell holds a number")?;
            Ok(Some(text.parse().with_context(|| format!("{path} holds {text:?}"))?))
        }
        Err(error) if error.code() == Some(ErrorCode::NO_NODE) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {path}")),
    }
}

/// The number of a cell, which is none that was never sent, and none older than what was acknowledged.
async fn between(client: &Client, path: &str, cell: Cell) -> Result<u64> {
    let found = number(client, path).await?.unwrap_or(0);
    let Cell { acknowledged, sent } = cell;
    ensure!(
        (acknowledged..=sent).contains(&found),
        "{path} holds {found}; acknowledged was {acknowledged}, sent {sent}"
    );
    Ok(found)
}
