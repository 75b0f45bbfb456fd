//! What only the shell knows and a four-letter word shows: the process, the disk, the configuration.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::ensemble::Membership;
use crate::config::Config;
use crate::node::four_letter::facts::{ConfFacts, DirectoryFacts, EnvironmentFacts, MemoryFacts};
use crate::node::four_letter::{self as words, FourLetterWord, TRACE_MASK_DEFAULT, Whitelist, full_version};
use crate::node::{ConnId, Event, ShellFacts};

/// Facts that do not change while the server runs, and where the others are found.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    inner: Arc<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    whitelist: Whitelist,
    conf: ConfFacts,
    /// The members, once they have changed.
    members: Arc<Mutex<Option<String>>>,
}

impl Facts {
    pub(crate) fn of(config: &Config, membership: Option<&Membership>) -> Self {
        let conf = ConfFacts {
            client_port: config.client.port.map_or(-1, i32::from),
            secure_client_port: -1,
            data_dir: config.data_dir.join("version-2"),
            data_log_dir: config.data_log_dir.join("version-2"),
            sizes: DirectoryFacts { data_bytes: 0, log_bytes: 0 },
            tick_ms: config.timing.tick_ms,
            max_client_cnxns: config.client.per_address_max.unwrap_or(0),
            min_session_ms: config.timing.min_session_ms,
            max_session_ms: config.timing.max_session_ms,
            listen_backlog: config
                .client
                .listen_backlog
                .and_then(|backlog| i32::try_from(backlog).ok())
                .unwrap_or(-1),
            server_id: membership.map_or(0, |membership| membership.roster.me.0),
            ensemble: membership.map(|membership| membership.conf.clone()),
        };
        let whitelist = config.access.four_letter_words.clone();
        Facts { inner: Arc::new(Inner { whitelist, conf, members: Arc::default() }) }
    }

    /// The members have changed.
    pub(super) fn set_members(&self, text: &[u8]) {
        let text = String::from_utf8_lossy(text).into_owned();
        *self.inner.members.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    fn conf(&self) -> ConfFacts {
        let mut conf = self.inner.conf.clone();
        let members = self.inner.members.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let (Some(ensemble), Some(members)) = (&mut conf.ensemble, members) {
            ensemble.membership = members;
        }
        conf
    }

    /// The same, of a server that listens here.
    pub(crate) fn with_addresses(self, plain: Option<SocketAddr>, secure: Option<SocketAddr>) -> Self {
        let mut inner = (*self.inner).clone();
        let port = |address: Option<SocketAddr>| address.map_or(-1, |address| i32::from(address.port()));
        (inner.conf.client_port, inner.conf.secure_client_port) = (port(plain), port(secure));
        Facts { inner: Arc::new(inner) }
    }

    /// The event for a word that needs the node, or the text that answers it at once. `rest` is what came behind it.
    pub(crate) async fn admin(
        &self,
        conn: ConnId,
        peer: SocketAddr,
        word: FourLetterWord,
        rest: &[u8],
        (garbage_connections, refused_connections): (u64, u64),
    ) -> Result<Event, String> {
        if let Some(refusal) = self.inner.whitelist.refusal(word) {
            return Err(refusal);
        }
        match word {
            FourLetterWord::Ruok => Err(words::RUOK.to_owned()),
            FourLetterWord::Gtmk => Err(TRACE_MASK_DEFAULT.to_string()),
            FourLetterWord::Stmk => Err(rest
                .first_chunk::<8>()
                .map_or(TRACE_MASK_DEFAULT, |mask| i64::from_be_bytes(*mask))
                .to_string()),
            FourLetterWord::TelnetClose => Err(String::new()),
            FourLetterWord::Conf | FourLetterWord::Dirs | FourLetterWord::Envi => {
                let facts = self.clone();
                // Reading folders may block; an error is a panic, and then there is no answer to give.
                let text = tokio::task::spawn_blocking(move || facts.read_from_disk(word)).await;
                Err(text.unwrap_or_default())
            }
            _ => {
                let file_descriptors = (open_files(), max_files());
                let shell = ShellFacts { peer, file_descriptors, garbage_connections, refused_connections };
                Ok(Event::Admin { conn, word, shell })
            }
        }
    }

    /// Blocks.
    fn read_from_disk(&self, word: FourLetterWord) -> String {
        let sizes = || DirectoryFacts {
            data_bytes: folder_bytes(&self.inner.conf.data_dir),
            log_bytes: folder_bytes(&self.inner.conf.data_log_dir),
        };
        match word {
            FourLetterWord::Conf => words::conf(&ConfFacts { sizes: sizes(), ..self.conf() }),
            FourLetterWord::Dirs => words::dirs(&sizes()),
            _ => words::envi(&environment()),
        }
    }
}

/// Bytes of the files in a folder; what cannot be read counts nothing.
fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

fn open_files() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

fn max_files() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    line.and_then(|line| line.split_whitespace().nth(3)).and_then(|soft| soft.parse().ok()).unwrap_or(0)
}

fn environment() -> EnvironmentFacts {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let kernel = |file: &str| {
        std::fs::read_to_string(Path::new("/proc/sys/kernel").join(file))
            .map_or_else(|_| String::new(), |text| text.trim().to_owned())
    };
    EnvironmentFacts {
        version: full_version(),
        host_name: kernel("hostname"),
        temp_dir: std::env::temp_dir().display().to_string(),
        os_name: kernel("ostype"),
        os_arch: java_arch().to_owned(),
        os_version: kernel("osrelease"),
        user_name: variable("USER"),
        user_home: variable("HOME"),
        user_dir: std::env::current_dir().map_or_else(|_| String::new(), |path| path.display().to_string()),
        memory: memory(),
    }
}

/// The machine as Java names it, for those who compare.
fn java_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        other => other,
    }
}

fn memory() -> MemoryFacts {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let mib = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        let kib =
            line.and_then(|line| line.split_whitespace().nth(1)).and_then(|kib| kib.parse::<u64>().ok());
        kib.unwrap_or(0) >> 10
    };
    MemoryFacts { free_mib: mib("MemAvailable:"), max_mib: mib("MemTotal:"), total_mib: mib("MemTotal:") }
}
