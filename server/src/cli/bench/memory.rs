//! How much memory the server needs per node: creates many, and compares its resident memory before and after.

use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;

use super::control::{Control, Target, create};
use super::frames::{COUNTER, Template};
use super::load::{Plan, Session, Step, Until, drive};
use super::usage::Process;

/// Sessions that create, and requests each keeps in flight.
const SESSIONS: u64 = 10;
const IN_FLIGHT: usize = 64;

/// What was found.
pub(crate) struct MemoryUse {
    /// Nodes created.
    pub(crate) nodes: u64,
    /// Resident memory of the server before, bytes.
    pub(crate) before: u64,
    /// Resident memory of the server with all nodes, bytes.
    pub(crate) after: u64,
}

impl MemoryUse {
    /// Bytes of resident memory per node.
    pub(crate) fn per_node(&self) -> f64 {
        (self.after as f64 - self.before as f64) / self.nodes as f64
    }
}

/// Creates `nodes` nodes of `size` bytes in ten folders, reads the server's memory, and clears them away.
///
/// # Errors
/// A connection breaks, a create is refused, the process cannot be read, or the run is stopped.
pub(crate) fn measure(
    target: &Target,
    base: &str,
    nodes: u64,
    size: usize,
    server: Process,
    stop: &AtomicBool,
) -> Result<MemoryUse> {
    let mut control = Control::open(target)?;
    let folders = (0..SESSIONS).map(|index| format!("{base}/m{index}"));
    let paths: Vec<String> = std::iter::once(base.to_owned()).chain(folders).collect();
    control.create_all(&paths, &Bytes::new())?;
    let outcome = fill(target, &paths[1..], nodes, size, server, stop);
    let cleared = Control::open(target).and_then(|mut control| {
        control.delete_all(base)?;
        control.close()
    });
    let outcome = outcome?;
    cleared.with_context(|| format!("clearing {base} away"))?;
    Ok(outcome)
}

fn fill(
    target: &Target,
    folders: &[String],
    nodes: u64,
    size: usize,
    server: Process,
    stop: &AtomicBool,
) -> Result<MemoryUse> {
    let data = Bytes::from(vec![b'x'; size]);
    let mut sessions = Vec::new();
    for (index, folder) in folders.iter().enumerate() {
        let request = create(&format!("{folder}/n{COUNTER}"), data.clone());
        let step = Step { template: Template::new(&request), data_length: None };
        sessions.push(Session::open(target.host(index), vec![step])?);
    }
    let before = server.resident()?;
    let each = nodes.div_ceil(SESSIONS);
    let count_from = std::time::Instant::now();
    let plan = Plan { in_flight: IN_FLIGHT, count_from, until: Until::Count(each), requests_max: each };
    drive(&mut sessions, &plan, stop)?;
    let made: u64 = sessions.iter().map(Session::made).sum();
    if made < each * SESSIONS {
        bail!("stopped after {made} nodes");
    }
    Ok(MemoryUse { nodes: made, before, after: server.resident()? })
}
