//! Clients that stand in line for one lock, and what is checked about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use docent_recipes::{FencingToken, Recipes};

use super::{ROOT, Shared, client};
use crate::recipe_kit::register::FencedRegister;

/// What the lock guards.
#[derive(Debug, Default)]
pub struct LockLedger {
    inside: AtomicUsize,
    register: FencedRegister,
}

impl LockLedger {
    /// Somebody holds the lock and enters what it guards.
    ///
    /// # Errors
    /// When somebody else is in there, or had a newer token before.
    pub fn enter(&self, token: FencingToken, name: &str) -> Result<()> {
        let others = self.inside.fetch_add(1, Ordering::SeqCst);
        ensure!(others == 0, "{name} holds the lock with {token} while {others} others do");
        self.register.write(token, name).with_context(|| format!("{name} holds the lock"))
    }

    /// It leaves, before it lets go of the lock.
    pub fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether anybody was inside.
    pub(super) fn was_entered(&self) -> bool {
        !self.register.writes().is_empty()
    }

    /// Checks the order of all that were inside.
    ///
    /// # Errors
    /// When tokens do not rise.
    pub fn check(&self) -> Result<()> {
        self.register.check()
    }
}

/// Takes the lock again and again; gives how often.
pub(super) async fn contend(shared: Arc<Shared>, number: usize) -> Result<u64> {
    let client = client(&shared.connect).await?;
    let session = client.session_ready().await?;
    let name = format!("locker {number}");
    let lock = client.lock(format!("{ROOT}/lock"));
    let mut holds = 0;
    while !shared.stopped() {
        let guard = match lock.acquire().await {
            Ok(guard) => guard,
            Err(error) => {
                let lives = session.is_current();
                ensure!(lives, "{name} lost its session while it waited for the lock: {error}");
                continue;
            }
        };
        shared.locks.enter(guard.token(), &name)?;
        tokio::task::yield_now().await;
        shared.locks.leave();
        holds += 1;
        if let Err(pending) = guard.release().await {
            ensure!(session.is_current(), "{name} lost its session while it let the lock go: {pending}");
        }
    }
    ensure!(session.is_current(), "{name} lost its session");
    client.close().await?;
    Ok(holds)
}
