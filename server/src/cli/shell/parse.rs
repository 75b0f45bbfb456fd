//! PURE. From words to a [`Command`], with the checks that Apache's shell makes before it asks the server, in the same
//! order and with the same complaints.

use bytes::Bytes;
use docent::proto::{AddWatchMode, ReconfigRequest, WatcherKind};
use docent::{Acl, Permissions, Version};

use super::command::{Command, NodeKind, Parsed, QuotaWish, Refusal};
use super::options::{Options, Words, flag, parse as parse_options, value};
use super::path_check::check;
use super::quota::Limit;
use super::text::{DataFormat, command_names, usage_of};

/// The longest time to live, milliseconds.
const TTL_MAX: i64 = docent::proto::ops::MAX_TTL_MS;
/// Deletes per transaction of `deleteall`.
const DELETE_BATCH: i32 = 1000;

const NONE: Options = Options::of(&[]);
const CREATE: Options = Options::of(&[flag("e"), flag("s"), flag("c"), value("t")]);
const LS: Options = Options::of(&[flag("?"), flag("s"), flag("w"), flag("R")]);
const GET: Options = Options::of(&[flag("s"), flag("w"), flag("b"), flag("x")]);
const SET: Options = Options::of(&[flag("s"), value("v"), flag("b")]);
const WATCH: Options = Options::of(&[flag("w")]);
const STAT: Options = Options::of(&[flag("s")]);
const VERSION: Options = Options::of(&[value("v")]);
const BATCH: Options = Options::of(&[value("b")]);
const SET_ACL: Options = Options::of(&[flag("s"), value("v"), flag("R")]);
const ADD_WATCH: Options = Options::of(&[value("m")]);
const REMOVE_WATCHES: Options =
    Options::of(&[flag("c"), flag("d"), flag("p"), flag("r"), flag("a"), flag("l")]);
const CONFIG: Options = Options::of(&[flag("s"), flag("w"), flag("c")]);
const RECONFIG: Options =
    Options::of(&[flag("s"), value("v"), value("file"), value("members"), value("add"), value("remove")]);
const SET_QUOTA: Options = Options {
    list: &[value("n"), value("b"), value("N"), value("B")],
    exclusive: true,
    required: Some("[-n num soft quota, -b bytes soft quota, -N num hard quota, -B bytes hard quota]"),
};
const DEL_QUOTA: Options =
    Options { list: &[flag("n"), flag("b"), flag("N"), flag("B")], exclusive: true, required: None };

/// The four limits by their options.
const LIMITS: [(&str, Limit); 4] =
    [("n", Limit::Count), ("b", Limit::Bytes), ("N", Limit::CountHard), ("B", Limit::BytesHard)];

/// Reads a file named in a command, for `reconfig -file`. The caller brings it, because this room reads no files.
pub(crate) type ReadFile<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// The words of one command while they are understood.
struct Line<'a> {
    words: &'a [String],
    notes: Vec<String>,
}

type Understood = Result<Command, String>;

/// Understands the words of a command; the first is its name.
///
/// # Errors
/// There is no such command, or its arguments are wrong.
pub(crate) fn parse(words: &[String], read_file: ReadFile<'_>) -> Result<Parsed, Refusal> {
    let name = words.first().map_or("", String::as_str);
    if !matches!(name, "help" | "exit" | "ls2" | "rmr") && !command_names().any(|known| known == name) {
        return Err(Refusal::NotFound(name.to_owned()));
    }
    let mut line = Line { words, notes: Vec::new() };
    match line.understand(name, read_file) {
        Ok(command) => Ok(Parsed { command, notes: line.notes }),
        Err(complaint) => Err(Refusal::Wrong { complaint, notes: line.notes }),
    }
}

impl Line<'_> {
    fn understand(&mut self, name: &str, read_file: ReadFile<'_>) -> Understood {
        match name {
            "addauth" => self.add_auth(),
            "addWatch" => self.add_watch(),
            "close" => Ok(Command::Close),
            "config" => self.config(),
            "connect" => Ok(Command::Connect { hosts: self.words.get(1).cloned() }),
            "create" => self.create(),
            "delete" => self.delete(),
            "deleteall" | "rmr" => self.delete_all(name),
            "delquota" => self.del_quota(),
            "get" => self.get(),
            "getAcl" => self.get_acl(),
            "getAllChildrenNumber" => {
                let words = self.options(&NONE)?;
                Ok(Command::GetAllChildrenNumber { path: self.path(&words)? })
            }
            "getEphemerals" => self.get_ephemerals(),
            "help" => Ok(Command::Help),
            "history" => Ok(Command::History),
            "listquota" => {
                let words = self.options(&NONE)?;
                Ok(Command::ListQuota { path: self.argument(&words, 1)? })
            }
            "ls" => self.ls(),
            "ls2" => self.ls2(),
            "printwatches" => Ok(Command::PrintWatches { on: self.words.get(1).map(|word| word == "on") }),
            "quit" | "exit" => Ok(Command::Quit),
            "reconfig" => self.reconfig(read_file),
            "redo" => self.redo(),
            "removewatches" => self.remove_watches(),
            "set" => self.set(),
            "setAcl" => self.set_acl(),
            "setquota" => self.set_quota(),
            "stat" => self.stat(),
            "sync" => {
                let words = self.options(&NONE)?;
                Ok(Command::Sync { path: self.path(&words)? })
            }
            "version" => self.version_command(),
            "whoami" => Ok(Command::WhoAmI),
            _ => Err(String::new()),
        }
    }

    fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    fn options(&self, options: &Options) -> Result<Words, String> {
        parse_options(options, self.words)
    }

    /// The options of a command that takes the old form `name path [watch]`, too.
    fn options_or_watch(&mut self, options: &Options, advice: &str) -> Result<Words, String> {
        let words = self.options(options)?;
        if words.plain.len() <= 2 {
            return Ok(words);
        }
        self.notes.push(format!(
            "'{} path [watch]' has been deprecated. Please use '{advice}' instead.",
            self.name()
        ));
        let mut rewritten = self.words.to_vec();
        rewritten[2] = "-w".to_owned();
        parse_options(options, &rewritten)
    }

    /// A word that is no option; without it the usage is the complaint.
    fn argument(&self, words: &Words, at: usize) -> Result<String, String> {
        words.plain.get(at).cloned().ok_or_else(|| usage_of(self.name()))
    }

    /// The first argument, as the path of a node.
    fn path(&self, words: &Words) -> Result<String, String> {
        let path = self.argument(words, 1)?;
        check(&path, false)?;
        Ok(path)
    }

    fn add_auth(&mut self) -> Understood {
        let words = self.options(&NONE)?;
        let scheme = self.argument(&words, 1)?;
        Ok(Command::AddAuth { scheme, auth: words.plain.get(2).map(|auth| bytes_of(auth)) })
    }

    fn add_watch(&mut self) -> Understood {
        let usage = || usage_of("addWatch");
        let words = self.options(&ADD_WATCH)?;
        if words.plain.len() != 2 {
            return Err(usage());
        }
        let mode = match words.value("m").map(str::to_uppercase).as_deref() {
            None | Some("PERSISTENT_RECURSIVE") => AddWatchMode::PersistentRecursive,
            Some("PERSISTENT") => AddWatchMode::Persistent,
            Some(_) => return Err(usage()),
        };
        Ok(Command::AddWatch { path: self.path(&words)?, mode })
    }

    fn config(&mut self) -> Understood {
        let words = self.options(&CONFIG)?;
        Ok(Command::Config { stat: words.has("s"), watch: words.has("w"), client_string: words.has("c") })
    }

    fn create(&mut self) -> Understood {
        let words = self.options(&CREATE)?;
        let path = self.argument(&words, 1)?;
        let sequential = words.has("s");
        let kind = node_kind(&words)?;
        let data = words.plain.get(2).map(|data| bytes_of(data));
        let acl = match words.plain.get(3) {
            Some(text) => self.acl(text),
            None => Acl::open(),
        };
        check(&path, sequential)?;
        Ok(Command::Create { path, data, acl, kind, sequential })
    }

    fn delete(&mut self) -> Understood {
        let words = self.options(&VERSION)?;
        self.argument(&words, 1)?;
        if words.plain.len() > 2 {
            let advice = "Please use 'delete [-v version] path' instead.";
            self.notes.push(format!("'delete path [version]' has been deprecated. {advice}"));
        }
        let version = version(&words)?;
        Ok(Command::Delete { path: self.path(&words)?, version })
    }

    fn delete_all(&mut self, name: &str) -> Understood {
        if name == "rmr" {
            self.notes
                .push("The command 'rmr' has been deprecated. Please use 'deleteall' instead.".to_owned());
        }
        let words = self.options(&BATCH)?;
        if words.plain.len() < 2 {
            return Err(usage_of("deleteall").replacen("deleteall", name, 1));
        }
        let batch = match words.value("b") {
            Some(text) => text.parse().map_err(|_| "-b argument must be an int value".to_owned())?,
            None => DELETE_BATCH,
        };
        Ok(Command::DeleteAll { path: self.path(&words)?, batch })
    }

    fn del_quota(&mut self) -> Understood {
        let words = self.options(&DEL_QUOTA)?;
        let limit = LIMITS.into_iter().find(|(name, _)| words.has(name)).map(|(_, limit)| limit);
        Ok(Command::DelQuota { path: self.argument(&words, 1)?, limit })
    }

    fn get(&mut self) -> Understood {
        let words = self.options(&GET)?;
        self.argument(&words, 1)?;
        let words = self.options_or_watch(&GET, "get [-s] [-w] path")?;
        let format = match () {
            () if words.has("x") => DataFormat::Hex,
            () if words.has("b") => DataFormat::Base64,
            () => DataFormat::Plain,
        };
        Ok(Command::Get { path: self.path(&words)?, stat: words.has("s"), watch: words.has("w"), format })
    }

    fn get_acl(&mut self) -> Understood {
        let words = self.options(&STAT)?;
        Ok(Command::GetAcl { path: self.path(&words)?, stat: words.has("s") })
    }

    fn get_ephemerals(&mut self) -> Understood {
        let words = self.options(&NONE)?;
        let prefix = words.plain.get(1).cloned();
        prefix.as_deref().map_or(Ok(()), |prefix| check(prefix, false))?;
        Ok(Command::GetEphemerals { prefix })
    }

    fn ls(&mut self) -> Understood {
        let words = self.options_or_watch(&LS, "ls [-w] path")?;
        let path = self.path(&words)?;
        Ok(Command::Ls { path, stat: words.has("s"), watch: words.has("w"), recursive: words.has("R") })
    }

    fn ls2(&mut self) -> Understood {
        let words = self.options(&NONE)?;
        let path = words.plain.get(1).cloned().ok_or_else(|| "ls2 path [watch]".to_owned())?;
        self.notes.push("'ls2' has been deprecated. Please use 'ls [-s] path' instead.".to_owned());
        check(&path, false)?;
        Ok(Command::Ls { path, stat: true, watch: words.plain.len() > 2, recursive: false })
    }

    fn reconfig(&mut self, read_file: ReadFile<'_>) -> Understood {
        let words = self.options(&RECONFIG)?;
        let whole = words.has("file") || words.has("members");
        let partly = words.has("add") || words.has("remove");
        if !whole && !partly {
            return Err(usage_of("reconfig"));
        }
        let current_config = match words.value("v") {
            Some(text) => i64::from_str_radix(text, 16)
                .map_err(|_| "-v must be followed by a long (configuration version)".to_owned())?,
            None => -1,
        };
        if whole && partly {
            return Err("Can't use -file or -members together with -add or -remove (mixing incremental and \
                        non-incremental modes is not allowed)"
                .to_owned());
        }
        if words.has("file") && words.has("members") {
            return Err(
                "Can't use -file and -members together (conflicting non-incremental modes)".to_owned()
            );
        }
        let lower = |name: &str| words.value(name).map(str::to_lowercase);
        let new_members = match words.value("file") {
            Some(file) => {
                let text = read_file(file).map_err(|error| format!("Error processing {file}{error}"))?;
                Some(member_lines(&text))
            }
            None => lower("members"),
        };
        let change =
            ReconfigRequest { joining: lower("add"), leaving: lower("remove"), new_members, current_config };
        Ok(Command::Reconfig { change, stat: words.has("s") })
    }

    fn redo(&mut self) -> Understood {
        let Some(word) = self.words.get(1) else { return Ok(Command::Redo { number: None }) };
        let number = word.parse().map_err(|_| format!("For input string: \"{word}\""))?;
        Ok(Command::Redo { number: Some(number) })
    }

    fn remove_watches(&mut self) -> Understood {
        let words = self.options(&REMOVE_WATCHES)?;
        let kinds = [
            ("c", WatcherKind::Children),
            ("d", WatcherKind::Data),
            ("p", WatcherKind::Persistent),
            ("r", WatcherKind::PersistentRecursive),
        ];
        let kind =
            kinds.into_iter().find(|(name, _)| words.has(name)).map_or(WatcherKind::Any, |(_, kind)| kind);
        Ok(Command::RemoveWatches { path: self.path(&words)?, kind })
    }

    fn set(&mut self) -> Understood {
        let words = self.options(&SET)?;
        let text = self.argument(&words, 2)?;
        let data = if words.has("b") {
            let engine = &base64::engine::general_purpose::STANDARD;
            base64::Engine::decode(engine, &text)
                .map_err(|error| format!("data is not base64: {error}"))?
                .into()
        } else {
            bytes_of(&text)
        };
        let version = version(&words)?;
        Ok(Command::Set { path: self.path(&words)?, data, version, stat: words.has("s") })
    }

    fn set_acl(&mut self) -> Understood {
        let words = self.options(&SET_ACL)?;
        let acl = self.argument(&words, 2)?;
        let acl = self.acl(&acl);
        let version = version(&words)?;
        let path = self.path(&words)?;
        Ok(Command::SetAcl { path, acl, version, recursive: words.has("R"), stat: words.has("s") })
    }

    fn set_quota(&mut self) -> Understood {
        let words = self.options(&SET_QUOTA)?;
        let path = self.argument(&words, 1)?;
        let given = LIMITS.into_iter().find_map(|(name, limit)| Some((limit, words.value(name)?)));
        let Some((limit, text)) = given else { return Err(usage_of("setquota")) };
        Ok(Command::SetQuota { path, wish: quota_wish(limit, text) })
    }

    fn stat(&mut self) -> Understood {
        let words = self.options(&WATCH)?;
        self.argument(&words, 1)?;
        let words = self.options_or_watch(&WATCH, "stat [-w] path")?;
        Ok(Command::Stat { path: self.path(&words)?, watch: words.has("w") })
    }

    fn version_command(&mut self) -> Understood {
        let words = self.options(&NONE)?;
        if words.plain.len() > 1 { Err(usage_of("version")) } else { Ok(Command::Version) }
    }

    /// Entries `scheme:id:perms` with commas between. An id may hold colons. What is no entry is left out, with a note.
    fn acl(&mut self, text: &str) -> Vec<Acl> {
        let mut entries = Vec::new();
        // Java drops empty parts at the end.
        for part in text.trim_end_matches(',').split(',') {
            let cut = part.split_once(':').and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once(':')?)));
            match cut {
                Some((scheme, (id, letters))) => {
                    entries.push(Acl::new(self.permissions(letters), scheme, id));
                }
                None => self.notes.push(format!("{part} does not have the form scheme:id:perm")),
            }
        }
        entries
    }

    fn permissions(&mut self, letters: &str) -> Permissions {
        let mut permissions = Permissions::default();
        for letter in letters.chars() {
            permissions = permissions
                | match letter {
                    'r' => Permissions::READ,
                    'w' => Permissions::WRITE,
                    'c' => Permissions::CREATE,
                    'd' => Permissions::DELETE,
                    'a' => Permissions::ADMIN,
                    other => {
                        self.notes.push(format!("Unknown perm type: {other}"));
                        Permissions::default()
                    }
                };
        }
        permissions
    }
}

fn bytes_of(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn version(words: &Words) -> Result<Version, String> {
    match words.value("v") {
        Some(text) => text.parse().map(Version).map_err(|_| format!("For input string: \"{text}\"")),
        None => Ok(Version::ANY),
    }
}

fn node_kind(words: &Words) -> Result<NodeKind, String> {
    let refused = |complaint: &str| Err(complaint.to_owned());
    let (ephemeral, container) = (words.has("e"), words.has("c"));
    if container && (ephemeral || words.has("s")) {
        return refused("-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential.");
    }
    let Some(text) = words.value("t") else {
        return Ok(match (ephemeral, container) {
            (true, _) => NodeKind::Ephemeral,
            (_, true) => NodeKind::Container,
            _ => NodeKind::Persistent,
        });
    };
    let Ok(ttl) = text.parse::<i64>() else { return refused("-t argument must be a long value") };
    if ephemeral {
        return refused("TTLs cannot be used with Ephemeral znodes");
    }
    if container {
        return refused("TTLs cannot be used with Container znodes");
    }
    match u64::try_from(ttl) {
        Ok(ttl @ 1..) if ttl <= TTL_MAX as u64 => Ok(NodeKind::Ttl(ttl)),
        _ => Err(format!("ttl must be positive and cannot be larger than: {TTL_MAX}")),
    }
}

fn quota_wish(limit: Limit, text: &str) -> QuotaWish {
    let number = match limit {
        Limit::Count | Limit::CountHard => text.parse::<i32>().map(i64::from),
        Limit::Bytes | Limit::BytesHard => text.parse::<i64>(),
    };
    match (limit, number) {
        (_, Err(_)) => QuotaWish::Refused("NumberFormatException happens when parsing the option value"),
        (Limit::Count | Limit::CountHard, Ok(..=0)) => {
            QuotaWish::Refused("the num quota must be greater than zero")
        }
        (Limit::Bytes | Limit::BytesHard, Ok(..0)) => {
            QuotaWish::Refused("the bytes quota must be greater than or equal to zero")
        }
        (_, Ok(number)) => QuotaWish::Set(limit, number),
    }
}

/// The lines of a dynamic configuration file that are sent: those with members, groups and weights.
fn member_lines(text: &str) -> String {
    let is_member = |line: &&str| ["server.", "group.", "weight."].iter().any(|key| line.starts_with(key));
    text.lines().map(str::trim).filter(is_member).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
