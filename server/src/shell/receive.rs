//! A leader's whole state: into memory and onto the disk at once, with bounded memory apart from the tree itself.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use docent::Zxid;

use crate::limits::READ_CHUNK_BYTES;
use crate::load::give_owners_sessions;
use crate::net::{ReceiveFn, Received};
use crate::node::State;
use crate::storage::{Compression, Disk, DiskError, SnapshotDigest, SnapshotWriter};
use crate::tree::{Tree, TreeOptions};

/// How received states are kept.
#[derive(Clone, Debug)]
pub(super) struct Receiving {
    pub(super) disk: Arc<dyn Disk>,
    /// Where snapshots lie.
    pub(super) dir: PathBuf,
    pub(super) compression: Compression,
    /// Whether the file is to carry the tree's digest.
    pub(super) digest: bool,
    pub(super) extended_types: bool,
}

impl Receiving {
    /// What the quorum port calls.
    pub(super) fn into_fn(self) -> ReceiveFn {
        Arc::new(move |zxid, body| self.receive(zxid, body))
    }

    /// Blocks. What it leaves on the disk has no name yet: until the node says that it takes this state for its own, a
    /// start must not find it, since the node may go on with another history.
    fn receive(&self, zxid: Zxid, body: &mut dyn Read) -> Result<Received, String> {
        let began = std::time::Instant::now();
        let mut writer =
            SnapshotWriter::create_received(Arc::clone(&self.disk), &self.dir, zxid, self.compression)
                .map_err(|error| error.to_string())?;
        let mut tee = Tee { body, writer: &mut writer, waiting: Vec::with_capacity(READ_CHUNK_BYTES) };
        let options = TreeOptions { hash_seed: fastrand::u64(..), extended_types: self.extended_types };
        let (mut tree, sessions) = Tree::load_with(&mut tee, options).map_err(|error| error.to_string())?;
        tee.write().map_err(|error| error.to_string())?;
        tree.finish_load(zxid);
        let digest = self.digest.then(|| SnapshotDigest::new(zxid, tree.digest()));
        writer.complete(digest, None).map_err(|error| error.to_string())?;
        let sessions = give_owners_sessions(&tree, sessions.into_iter().collect());
        tracing::info!(%zxid, nodes = tree.node_count(), took = ?began.elapsed(), "received a leader's state");
        let keep = move || writer.publish().map(drop).map_err(|error| error.to_string());
        Ok(Received { state: Box::new(State { tree, sessions }), keep: Box::new(keep) })
    }
}

/// What is read through it goes to the disk, too.
struct Tee<'a> {
    body: &'a mut dyn Read,
    writer: &'a mut SnapshotWriter,
    /// Read and not written: a reader takes a few bytes at a time.
    waiting: Vec<u8>,
}

impl Tee<'_> {
    fn write(&mut self) -> Result<(), DiskError> {
        self.writer.write(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }
}

impl Read for Tee<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(out)?;
        self.waiting.extend_from_slice(&out[..count]);
        if self.waiting.len() >= READ_CHUNK_BYTES {
            self.write().map_err(io::Error::other)?;
        }
        Ok(count)
    }
}
