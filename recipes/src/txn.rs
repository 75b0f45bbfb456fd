//! Writes that are applied only while the hold is ours: fencing inside ZooKeeper.

use bytes::Bytes;
use docent::{CreateMode, ErrorCode, MultiResult, Transaction, Version};

use crate::error::{Error, LossCause};
use crate::hold::{Fence, FenceCheck};

/// Writes that are applied all or none, and only if the hold is still ours when the server gets to them.
///
/// In front of them goes a check, for several holds one each, that fails once the hold is over: that the lock's node, whose name is never
/// used again, still exists, or that the epoch node still has our version. It is sent in the hold's session and
/// never again in another.
#[must_use = "nothing is sent before commit"]
#[derive(Debug)]
pub struct GuardedTxn {
    /// One check for each stands in front of the operations.
    fences: Vec<Fence>,
    ops: Transaction,
}

impl GuardedTxn {
    pub(crate) fn new(fences: Vec<Fence>) -> GuardedTxn {
        let ops = fences.iter().fold(Transaction::new(), |ops, fence| match fence.fence_check() {
            FenceCheck::Exists(path) => ops.check(path, Version::ANY),
            FenceCheck::Version(path, version) => ops.check(path, Version(*version)),
            FenceCheck::Unfenced => ops,
        });
        GuardedTxn { fences, ops }
    }

    /// Creates a node.
    pub fn create(mut self, path: impl Into<String>, data: impl Into<Bytes>, mode: CreateMode) -> GuardedTxn {
        self.ops = self.ops.create(path, data, mode);
        self
    }

    /// Deletes a node.
    pub fn delete(mut self, path: impl Into<String>, version: impl Into<Version>) -> GuardedTxn {
        self.ops = self.ops.delete(path, version);
        self
    }

    /// Sets a node's data.
    pub fn set_data(
        mut self,
        path: impl Into<String>,
        data: impl Into<Bytes>,
        version: impl Into<Version>,
    ) -> GuardedTxn {
        self.ops = self.ops.set_data(path, data, version);
        self
    }

    /// Requires that a node exists, and has a version.
    pub fn check(mut self, path: impl Into<String>, version: impl Into<Version>) -> GuardedTxn {
        self.ops = self.ops.check(path, version);
        self
    }

    /// Sends the writes. The results are those of the operations that were added, in order.
    ///
    /// # Errors
    /// [`Error::Lost`] when the hold is over: nothing was applied. [`Error::NotFenced`] when this kind of lock has
    /// nothing to check. [`Error::Ambiguous`] when the reply was lost. [`Error::TxnFailed`] when another
    /// operation failed: nothing was applied.
    ///
    /// # Cancel safety
    /// The writes may be applied when the future is dropped.
    pub async fn commit(self) -> Result<Vec<MultiResult>, Error> {
        let checks = self.fences.len();
        let unfenced = self.fences.iter().any(|fence| *fence.fence_check() == FenceCheck::Unfenced);
        let Some(first) = self.fences.first().filter(|_| !unfenced) else { return Err(Error::NotFenced) };
        for fence in &self.fences {
            fence.check()?;
        }
        match first.session_ref().multi(self.ops).await {
            Ok(mut results) => Ok(results.split_off(checks.min(results.len()))),
            Err(docent::Error::Multi {
                index, code: ErrorCode::NO_NODE | ErrorCode::BAD_VERSION, ..
            }) if index < checks => {
                self.fences[index].lose(LossCause::NodeDeleted);
                Err(Error::Lost(LossCause::NodeDeleted))
            }
            Err(docent::Error::Multi { index, code, .. }) if index >= checks => {
                Err(Error::TxnFailed { index: index - checks, code })
            }
            Err(error) if error.may_have_applied() => {
                Err(Error::Ambiguous { op: "txn", path: first.path().to_owned() })
            }
            Err(error) => Err(error.into()),
        }
    }
}
