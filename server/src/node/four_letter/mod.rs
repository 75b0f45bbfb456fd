//! The four-letter words: what an operator asks with four bytes and gets as text.
//!
//! This room knows the words, who may ask them, and the exact text of every answer. The text is Apache's to the byte,
//! because monitoring agents, `zkServer.sh` and clients take it apart with patterns. What the answers are made of comes
//! in as plain facts ([`facts`]); where a fact is a moment, it is a number in milliseconds that somebody else read
//! from a clock.
//!
//! A word is the first four bytes of a connection. `stmk` is followed by eight more, behind every other word nothing
//! is read. Four bytes that are no word are the length of a frame, so unknown words have no answer at all.

pub mod facts;
pub mod java_text;
mod listings;
mod status;
mod version;

use std::collections::BTreeSet;
use std::fmt;

pub use listings::{cons, dump, wchc, wchp, wchs};
pub use status::{conf, dirs, envi, hash, mntr, srvr, stat};
pub use version::{PROTOCOL_VERSION, full_version};

/// What a server that is looking for a leader or catching up answers to most words.
pub const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";
/// The answer to `ruok`, as long as the process answers at all.
pub const RUOK: &str = "imok";
/// The answer to `crst`.
pub const CRST: &str = "Connection stats reset.\n";
/// The answer to `srst`.
pub const SRST: &str = "Server stats reset.\n";
/// The answer to `isro` of a server that is not serving.
pub const ISRO_NOT_SERVING: &str = "null";
/// The trace mask of a server that was never told another. Nothing is traced by it here.
pub const TRACE_MASK_DEFAULT: i64 = 306;

/// One of the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FourLetterWord {
    /// The configuration.
    Conf,
    /// The connections in full.
    Cons,
    /// Forget the connections' numbers.
    Crst,
    /// How large the data directories are.
    Dirs,
    /// Sessions and ephemeral nodes.
    Dump,
    /// The process and its machine.
    Envi,
    /// The trace mask.
    Gtmk,
    /// Recent digests of the tree.
    Hash,
    /// Whether the server takes writes.
    Isro,
    /// Every metric.
    Mntr,
    /// Whether the process is alive.
    Ruok,
    /// Forget the server's numbers.
    Srst,
    /// The server in short.
    Srvr,
    /// The server and its connections in short.
    Stat,
    /// Set the trace mask.
    Stmk,
    /// Watched paths by session.
    Wchc,
    /// Sessions by watched path.
    Wchp,
    /// How many watches there are.
    Wchs,
    /// What a telnet program sends when it closes: no word, but no frame either.
    TelnetClose,
}

impl FourLetterWord {
    /// Every word that can be asked, in alphabetical order.
    pub const ALL: [FourLetterWord; 18] = [
        FourLetterWord::Conf,
        FourLetterWord::Cons,
        FourLetterWord::Crst,
        FourLetterWord::Dirs,
        FourLetterWord::Dump,
        FourLetterWord::Envi,
        FourLetterWord::Gtmk,
        FourLetterWord::Hash,
        FourLetterWord::Isro,
        FourLetterWord::Mntr,
        FourLetterWord::Ruok,
        FourLetterWord::Srst,
        FourLetterWord::Srvr,
        FourLetterWord::Stat,
        FourLetterWord::Stmk,
        FourLetterWord::Wchc,
        FourLetterWord::Wchp,
        FourLetterWord::Wchs,
    ];

    /// The word in the first four bytes of a connection, if they are one.
    #[must_use]
    pub fn parse(bytes: &[u8; 4]) -> Option<Self> {
        const TELNET_CLOSE: [u8; 4] = [0xff, 0xf4, 0xff, 0xfd];
        if *bytes == TELNET_CLOSE {
            return Some(FourLetterWord::TelnetClose);
        }
        Self::ALL.into_iter().find(|word| word.as_str().as_bytes() == bytes)
    }

    /// The word as it is sent.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            FourLetterWord::Conf => "conf",
            FourLetterWord::Cons => "cons",
            FourLetterWord::Crst => "crst",
            FourLetterWord::Dirs => "dirs",
            FourLetterWord::Dump => "dump",
            FourLetterWord::Envi => "envi",
            FourLetterWord::Gtmk => "gtmk",
            FourLetterWord::Hash => "hash",
            FourLetterWord::Isro => "isro",
            FourLetterWord::Mntr => "mntr",
            FourLetterWord::Ruok => "ruok",
            FourLetterWord::Srst => "srst",
            FourLetterWord::Srvr => "srvr",
            FourLetterWord::Stat => "stat",
            FourLetterWord::Stmk => "stmk",
            FourLetterWord::Wchc => "wchc",
            FourLetterWord::Wchp => "wchp",
            FourLetterWord::Wchs => "wchs",
            FourLetterWord::TelnetClose => "telnet close",
        }
    }

    /// Whether a server that is not serving answers [`NOT_SERVING`] instead of an answer.
    #[must_use]
    pub const fn needs_serving(self) -> bool {
        !matches!(
            self,
            FourLetterWord::Ruok
                | FourLetterWord::Envi
                | FourLetterWord::Gtmk
                | FourLetterWord::Stmk
                | FourLetterWord::Isro
                | FourLetterWord::TelnetClose
        )
    }
}

impl fmt::Display for FourLetterWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which words are answered: the key `4lw.commands.whitelist`. `srvr` is always among them, because `zkServer.sh`
/// needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whitelist {
    words: BTreeSet<FourLetterWord>,
}

impl Default for Whitelist {
    /// Only `srvr`.
    fn default() -> Self {
        Whitelist { words: [FourLetterWord::Srvr].into() }
    }
}

impl Whitelist {
    /// Every word, what `*` stands for.
    #[must_use]
    pub fn all() -> Self {
        Whitelist { words: FourLetterWord::ALL.into() }
    }

    /// Reads a list with commas between. The second value holds what is no word.
    #[must_use]
    pub fn parse(text: &str) -> (Self, Vec<String>) {
        let mut list = Whitelist::default();
        let mut unknown = Vec::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if name == "*" {
                // Apache stops here too: what follows the star can add nothing.
                return (Whitelist::all(), unknown);
            }
            match FourLetterWord::ALL.into_iter().find(|word| word.as_str() == name) {
                Some(word) => list.allow(word),
                None => unknown.push(name.to_owned()),
            }
        }
        (list, unknown)
    }

    /// Adds a word.
    pub fn allow(&mut self, word: FourLetterWord) {
        self.words.insert(word);
    }

    /// Whether the word is answered. Closing a telnet session needs no permission.
    #[must_use]
    pub fn allows(&self, word: FourLetterWord) -> bool {
        word == FourLetterWord::TelnetClose || self.words.contains(&word)
    }

    /// The answer to a word that is not allowed; `None` for one that is.
    #[must_use]
    pub fn refusal(&self, word: FourLetterWord) -> Option<String> {
        (!self.allows(word)).then(|| format!("{word} is not executed because it is not in the whitelist.\n"))
    }
}

/// The list as the key takes it.
impl fmt::Display for Whitelist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.words.len() == FourLetterWord::ALL.len() {
            return f.write_str("*");
        }
        let names: Vec<&str> = self.words.iter().map(|word| word.as_str()).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_by_its_bytes() {
        for word in FourLetterWord::ALL {
            let bytes: [u8; 4] = word.as_str().as_bytes().try_into().expect("a word has four letters");
            assert_eq!(FourLetterWord::parse(&bytes), Some(word));
        }
        assert_eq!(FourLetterWord::parse(&[0xff, 0xf4, 0xff, 0xfd]), Some(FourLetterWord::TelnetClose));
        for unknown in [*b"RUOK", *b"ruo\n", [0, 0, 0, 45], *b"icfg"] {
            assert_eq!(FourLetterWord::parse(&unknown), None);
        }
    }

    #[test]
    fn the_words_are_listed_in_order() {
        assert!(
            FourLetterWord::ALL
                .windows(2)
                .all(|pair| pair[0] < pair[1] && pair[0].as_str() < pair[1].as_str())
        );
    }

    #[test]
    fn srvr_can_never_be_removed() {
        for text in ["", "ruok", " , ,", "stat, mntr"] {
            assert!(Whitelist::parse(text).0.allows(FourLetterWord::Srvr), "{text:?}");
        }
        let (list, unknown) = Whitelist::parse(" ruok , xyzw,stat,");
        assert_eq!((list.to_string().as_str(), unknown), ("ruok,srvr,stat", vec!["xyzw".to_owned()]));
        assert!(!list.allows(FourLetterWord::Mntr));
        assert_eq!(Whitelist::parse("ruok,*,nonsense"), (Whitelist::all(), vec![]));
        assert_eq!(Whitelist::parse(&Whitelist::all().to_string()).0, Whitelist::all());
    }

    #[test]
    fn a_refusal_names_the_word() {
        let list = Whitelist::default();
        assert_eq!(
            list.refusal(FourLetterWord::Mntr).as_deref(),
            Some("mntr is not executed because it is not in the whitelist.\n")
        );
        assert_eq!(list.refusal(FourLetterWord::Srvr), None);
        assert_eq!(list.refusal(FourLetterWord::TelnetClose), None);
    }

    #[test]
    fn a_server_that_is_not_serving_still_answers_six_words() {
        let answered: Vec<&str> = FourLetterWord::ALL
            .into_iter()
            .filter(|word| !word.needs_serving())
            .map(FourLetterWord::as_str)
            .collect();
        assert_eq!(answered, ["envi", "gtmk", "isro", "ruok", "stmk"]);
        assert!(!FourLetterWord::TelnetClose.needs_serving());
    }
}
