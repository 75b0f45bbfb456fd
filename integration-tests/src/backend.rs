//! One way to start any server, so that one suite runs against all of them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::apache::{self, ApacheVersion};
use crate::availability::Need;
use crate::server_process::{Home, Launch, ServerProcess, free_address, write_config};
use crate::{docent_bin, four_letter};

/// Two tests may be handed the same free port at once; the loser starts again with another.
const START_TRIES: usize = 3;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Apache 3.8.0 from Debian.
    Apache38,
    /// Apache 3.9.
    ApacheNewer,
    /// Our binary.
    DocentBinary,
}

/// What a test may want different from the usual.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Lines for `zoo.cfg`; a line replaces the usual one with the same key.
    pub config: &'a [&'a str],
    /// Flags for the JVM, ignored by servers that have none.
    pub jvm: &'a [&'a str],
    /// A data folder to begin with; it is copied.
    pub data: Option<&'a Path>,
}

impl Backend {
    /// What must be installed to start it.
    pub fn needs(self) -> Vec<Need> {
        match self {
            Backend::Apache38 => ApacheVersion::Debian38.needs().to_vec(),
            Backend::ApacheNewer => ApacheVersion::Newer.needs().to_vec(),
            Backend::DocentBinary => Vec::new(),
        }
    }

    /// Starts a standalone server on an ephemeral port of the loopback address, with a data folder of its own; waits
    /// until it answers. `config` holds further lines of `zoo.cfg`.
    ///
    /// # Errors
    /// When it cannot be started or does not answer; the message holds the end of its log.
    pub async fn start(self, config: &[&str]) -> Result<Running> {
        self.start_with(Options { config, ..Options::default() }).await
    }

    /// Starts a server as [`start`](Self::start) does, with all that can be chosen.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(self, options: Options<'_>) -> Result<Running> {
        let mut last = None;
        for _ in 0..START_TRIES {
            match self.try_start(&options).await {
                Ok(server) => return Ok(Running { backend: self, server }),
                Err(error) if format!("{error:#}").contains("in use") => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        match last {
            Some(error) => Err(error.context("three ports in a row were taken")),
            None => bail!("no try was made to start {self:?}"),
        }
    }

    async fn try_start(self, options: &Options<'_>) -> Result<ServerProcess> {
        let home = Home::new()?;
        let address = free_address()?;
        let config = write_config(&home, address, options.config)?;
        if let Some(from) = options.data {
            apache::copy_data(&home, from)?;
        }
        ServerProcess::start(self.launch(&config, address, options.jvm)?, home).await
    }

    /// How to start it on a configuration file; `jvm` holds flags for servers that have one.
    ///
    /// # Errors
    /// When our binary cannot be built.
    pub fn launch(self, config: &Path, address: SocketAddr, jvm: &[&str]) -> Result<Launch> {
        match self {
            Backend::Apache38 => apache::launch(ApacheVersion::Debian38, config, address, jvm),
            Backend::ApacheNewer => apache::launch(ApacheVersion::Newer, config, address, jvm),
            Backend::DocentBinary => docent_bin::launch(config, address),
        }
    }
}

/// A server that runs until this value goes away.
#[derive(Debug)]
pub struct Running {
    backend: Backend,
    server: ServerProcess,
}

impl Running {
    /// `host:port`, for every client there is.
    pub fn connect_string(&self) -> String {
        self.address().to_string()
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Which server it is.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.server.kill()
    }

    /// `kill -9` if it still runs, then a new process on the same port and data; waits until it answers.
    ///
    /// # Errors
    /// As [`Backend::start`].
    pub async fn restart(&mut self) -> Result<()> {
        self.server.kill()?;
        self.server.start_again().await
    }

    /// Asks one four-letter word.
    ///
    /// # Errors
    /// When no answer comes within 10 s.
    pub async fn ask(&self, word: &str) -> Result<String> {
        four_letter::ask(self.address(), word, Duration::from_secs(10)).await
    }

    /// The process, for what is rarer: `stop`, `freeze`, `thaw`, `pid`, its folder and its log.
    pub fn process(&mut self) -> &mut ServerProcess {
        &mut self.server
    }

    /// The `dataDir`.
    pub fn data(&self) -> std::path::PathBuf {
        self.server.home().data()
    }
}
