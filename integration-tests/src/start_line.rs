//! A start at which contenders stand in line before the first of them is let in.
//!
//! A gate that each passes by itself does not do: one that is slow behind it finds that the others have been there and
//! gone. Here we are the first in line, and go when all stand behind us. Everybody has a place by then, so whoever is slow
//! is waited for, where the line excludes; and where it does not, all are let in together.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use docent::{Client, CreateMode, ParentMode, Transaction, Version, path};
use docent_recipes::Layout;

use crate::recipe_kit::{LONG_SESSION, children, connect};

/// Contenders are to stand in line by then; JVMs start first.
const LINE_BOUND: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(10);

/// A line at which all exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    /// Places of locks and elections as Curator names them, below `BASE/lock`.
    Curator,
    /// Those as kazoo names them, in the same folder.
    Kazoo,
    /// Places of leader latches, below `BASE/latch`.
    Latch,
}

impl Line {
    /// The line of locks and elections in this layout.
    pub fn of_locks(layout: Layout) -> Line {
        match layout {
            Layout::Kazoo => Line::Kazoo,
            _ => Line::Curator,
        }
    }

    /// The folder of the line, and the name of a place in it, without its number.
    fn place(self) -> (&'static str, &'static str) {
        match self {
            Line::Curator => ("lock", "_c_first-lock-"),
            Line::Kazoo => ("lock", "first__lock__"),
            Line::Latch => ("latch", "_c_first-latch-"),
        }
    }
}

/// Our place in front of everybody, in each line that there is.
#[derive(Debug)]
pub struct StartLine {
    client: Client,
    /// Where contenders stand, whatever they call themselves.
    folders: BTreeSet<String>,
    places: Vec<String>,
    contenders: usize,
}

impl StartLine {
    /// Takes the first place of each line below `base`, before this many contenders are started.
    ///
    /// # Errors
    /// When the server does not do what it is asked.
    pub async fn stand(
        hosts: &str,
        base: &str,
        lines: impl IntoIterator<Item = Line>,
        contenders: usize,
    ) -> Result<StartLine> {
        let client = connect(hosts, LONG_SESSION).await?;
        let (mut folders, mut places) = (BTreeSet::new(), Vec::new());
        for (folder, name) in lines.into_iter().map(Line::place).collect::<BTreeSet<_>>() {
            let folder = path::join(base, folder);
            let first = path::join(&folder, name);
            client.create_parents(&first, ParentMode::Persistent).await?;
            places.push(client.create(&first, "").mode(CreateMode::EphemeralSequential).await?.path);
            folders.insert(folder);
        }
        Ok(StartLine { client, folders, places, contenders })
    }

    /// Waits until all stand in line, and lets them in.
    ///
    /// # Errors
    /// When they do not come in time: what they print tells why.
    pub async fn go(self) -> Result<()> {
        let deadline = Instant::now() + LINE_BOUND;
        let wanted = self.places.len() + self.contenders;
        loop {
            let mut there = 0;
            for folder in &self.folders {
                there += children(&self.client, folder).await?.len();
            }
            if there >= wanted {
                break;
            }
            ensure!(Instant::now() < deadline, "{there} places of {wanted} are taken after {LINE_BOUND:?}");
            // The pause of a bounded wait.
            tokio::time::sleep(POLL).await;
        }
        let gone =
            self.places.iter().fold(Transaction::new(), |gone, place| gone.delete(place, Version::ANY));
        self.client.multi(gone).await?;
        self.client.close().await?;
        Ok(())
    }
}
