//! Writes that a lost reply does not stop: members that come and go cut connections, and a write that was under way is not
//! known to have happened then. It is made again until it is known.
//!
//! For nodes that nobody else writes.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use docent::{Client, Error, ErrorCode, Version};

use super::SETTLE_BOUND;

/// Whether a write must be made again because its connection was lost.
fn is_lost(error: &Error) -> bool {
    error.may_have_applied() || error.is_retryable()
}

/// Makes a node.
///
/// # Errors
/// When the node was there before, the write is refused, or it is not answered in time.
pub async fn create(client: &Client, path: &str, data: &str) -> Result<()> {
    let deadline = Instant::now() + SETTLE_BOUND;
    let mut may_be_there = false;
    loop {
        match client.create(path, data.to_owned()).await {
            Ok(_) => return Ok(()),
            Err(error) if may_be_there && error.code() == Some(ErrorCode::NODE_EXISTS) => return Ok(()),
            Err(error) if is_lost(&error) => may_be_there |= error.may_have_applied(),
            Err(error) => return Err(error).with_context(|| format!("making {path}")),
        }
        ensure!(Instant::now() < deadline, "not within {SETTLE_BOUND:?}: {path} is made");
    }
}

/// Sets a node's data.
///
/// # Errors
/// When the write is refused or not answered in time.
pub async fn set(client: &Client, path: &str, data: &str) -> Result<()> {
    let deadline = Instant::now() + SETTLE_BOUND;
    loop {
        match client.set_data(path, data.to_owned(), Version::ANY).await {
            Ok(_) => return Ok(()),
            Err(error) if is_lost(&error) => {}
            Err(error) => return Err(error).with_context(|| format!("setting {path}")),
        }
        ensure!(Instant::now() < deadline, "not within {SETTLE_BOUND:?}: {path} is set");
    }
}

/// Deletes a node.
///
/// # Errors
/// When the node was not there, the write is refused, or it is not answered in time.
pub async fn delete(client: &Client, path: &str) -> Result<()> {
    let deadline = Instant::now() + SETTLE_BOUND;
    let mut may_be_gone = false;
    loop {
        match client.delete(path, Version::ANY).await {
            Ok(()) => return Ok(()),
            Err(error) if may_be_gone && error.code() == Some(ErrorCode::NO_NODE) => return Ok(()),
            Err(error) if is_lost(&error) => may_be_gone |= error.may_have_applied(),
            Err(error) => return Err(error).with_context(|| format!("deleting {path}")),
        }
        ensure!(Instant::now() < deadline, "not within {SETTLE_BOUND:?}: {path} is deleted");
    }
}
