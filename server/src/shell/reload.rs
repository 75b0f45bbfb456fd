//! Reading the state anew when the log behind it was cut away.

use std::sync::Arc;

use super::run::Stopped;
use super::start::Options;
use crate::load::load;
use crate::node::State;
use crate::storage::{Dirs, Disk};

/// What is needed to read the state from the disk while the server runs.
#[derive(Clone, Debug)]
pub(super) struct Reload {
    disk: Arc<dyn Disk>,
    dirs: Dirs,
    options: Arc<Options>,
}

impl Reload {
    pub(super) fn new(disk: &Arc<dyn Disk>, dirs: &Dirs, options: &Options) -> Self {
        Reload { disk: Arc::clone(disk), dirs: dirs.clone(), options: Arc::new(options.clone()) }
    }

    /// Reads what the disk holds. Nobody may order anything of the disk meanwhile.
    pub(super) async fn read(&self) -> Result<State, Stopped> {
        let Reload { disk, dirs, options } = self.clone();
        let failed = |error: &dyn std::fmt::Display| {
            Stopped::Failed(format!("the state cannot be read again after the log was cut: {error}"))
        };
        let read = tokio::task::spawn_blocking(move || load(&disk, &dirs, &options.load())).await;
        match read {
            // A cut leaves a snapshot to start from, or is refused.
            Ok(Ok(boot)) => Ok(boot.state),
            Ok(Err(error)) => Err(failed(&error)),
            Err(error) => Err(failed(&error)),
        }
    }
}
