//! PURE. The commands of the shell as values.

use bytes::Bytes;
use docent::proto::{AddWatchMode, ReconfigRequest, WatcherKind};
use docent::{Acl, Version};

use super::quota::Limit;
use super::text::DataFormat;

/// Which kind of node `create` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    /// Stays until deleted.
    Persistent,
    /// Ends with the session.
    Ephemeral,
    /// Goes with its last child.
    Container,
    /// Goes when it was not set for so many milliseconds.
    Ttl(u64),
}

/// A limit as `setquota` is asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuotaWish {
    /// A limit and its number.
    Set(Limit, i64),
    /// Something that is no limit, and what is to be said about it.
    Refused(&'static str),
}

/// One command. The fields are its arguments, named as in its usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    AddAuth {
        scheme: String,
        auth: Option<Bytes>,
    },
    AddWatch {
        path: String,
        mode: AddWatchMode,
    },
    Close,
    Config {
        stat: bool,
        watch: bool,
        client_string: bool,
    },
    Connect {
        hosts: Option<String>,
    },
    Create {
        path: String,
        data: Option<Bytes>,
        acl: Vec<Acl>,
        kind: NodeKind,
        sequential: bool,
    },
    Delete {
        path: String,
        version: Version,
    },
    DeleteAll {
        path: String,
        batch: i32,
    },
    DelQuota {
        path: String,
        limit: Option<Limit>,
    },
    Get {
        path: String,
        stat: bool,
        watch: bool,
        format: DataFormat,
    },
    GetAcl {
        path: String,
        stat: bool,
    },
    GetAllChildrenNumber {
        path: String,
    },
    GetEphemerals {
        prefix: Option<String>,
    },
    Help,
    History,
    ListQuota {
        path: String,
    },
    Ls {
        path: String,
        stat: bool,
        watch: bool,
        recursive: bool,
    },
    /// `None` asks whether watch events are printed.
    PrintWatches {
        on: Option<bool>,
    },
    Quit,
    Reconfig {
        change: ReconfigRequest,
        stat: bool,
    },
    /// Without a number nothing is done again, and nothing is said.
    Redo {
        number: Option<i64>,
    },
    RemoveWatches {
        path: String,
        kind: WatcherKind,
    },
    Set {
        path: String,
        data: Bytes,
        version: Version,
        stat: bool,
    },
    SetAcl {
        path: String,
        acl: Vec<Acl>,
        version: Version,
        recursive: bool,
        stat: bool,
    },
    SetQuota {
        path: String,
        wish: QuotaWish,
    },
    Stat {
        path: String,
        watch: bool,
    },
    Sync {
        path: String,
    },
    Version,
    WhoAmI,
}

/// A command that was understood, and what must be said about it on standard error before it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// The command.
    pub(crate) command: Command,
    /// Lines about deprecated forms and about parts that are left out.
    pub(crate) notes: Vec<String>,
}

/// Why words are no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no command of this name.
    NotFound(String),
    /// The command is known, its arguments are wrong. `notes` were to be said before that was seen.
    Wrong {
        /// What is wrong.
        complaint: String,
        /// As in [`Parsed`].
        notes: Vec<String>,
    },
}
