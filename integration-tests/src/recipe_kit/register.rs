//! A register that looks at fencing tokens, standing for the resource behind a lock.

use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::{Result, ensure};
use docent_recipes::{FenceGate, FencingToken};

/// A resource that is written under a lock. It refuses tokens older than the newest seen, and keeps who wrote.
#[derive(Debug, Default)]
pub struct FencedRegister {
    gate: FenceGate,
    writes: Mutex<Vec<(FencingToken, String)>>,
}

impl FencedRegister {
    /// Writes, if the token is not older than any seen.
    ///
    /// # Errors
    /// When it is.
    pub fn write(&self, token: FencingToken, writer: &str) -> Result<()> {
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        self.gate.admit(token)?;
        writes.push((token, writer.to_owned()));
        Ok(())
    }

    /// Everything written, in order.
    pub fn writes(&self) -> Vec<(FencingToken, String)> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks that no write has an older token than one before it, and that one token means one writer.
    ///
    /// # Errors
    /// When it is not so.
    pub fn check(&self) -> Result<()> {
        for pair in self.writes().windows(2) {
            let [(before, one), (after, other)] = pair else { continue };
            ensure!(before <= after, "{other} wrote with {after} after {one} with {before}");
            ensure!(before != after || one == other, "{one} and {other} both wrote with {before}");
        }
        Ok(())
    }
}
