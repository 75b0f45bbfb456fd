//! PURE. Options among the words of a command, by the rules of the parser that Apache's shell uses (Commons CLI): they
//! may stand anywhere, single letters may be joined, a value may be the next word or follow at once, and `--` ends
//! them. Complaints are worded as there, exception names included, because scripts match on them.

/// One option that a command knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opt {
    /// The name behind the dash.
    pub(crate) name: &'static str,
    /// Whether a value follows.
    pub(crate) takes_value: bool,
}

/// An option without a value.
pub(crate) const fn flag(name: &'static str) -> Opt {
    Opt { name, takes_value: false }
}

/// An option with a value.
pub(crate) const fn value(name: &'static str) -> Opt {
    Opt { name, takes_value: true }
}

/// The options of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// All of them.
    pub(crate) list: &'static [Opt],
    /// Whether only one of them may be given.
    pub(crate) exclusive: bool,
    /// If one of them must be given: how a complaint lists them.
    pub(crate) required: Option<&'static str>,
}

impl Options {
    /// Options that may be combined freely.
    pub(crate) const fn of(list: &'static [Opt]) -> Options {
        Options { list, exclusive: false, required: None }
    }

    fn find(&self, name: &str) -> Option<Opt> {
        self.list.iter().copied().find(|option| option.name == name)
    }

    /// Whether a word can be a value: it is no option of this command, or it is a negative number.
    fn is_value(&self, word: &str) -> bool {
        let Some(name) = word.strip_prefix('-').filter(|name| !name.is_empty()) else { return true };
        let name = name.split('=').next().unwrap_or_default();
        let first = name.chars().next().map(String::from).unwrap_or_default();
        let is_option = self.find(name).is_some() || self.find(&first).is_some();
        !is_option || word.parse::<f64>().is_ok()
    }
}

/// The words of a command, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    /// The command itself and everything that is no option.
    pub(crate) plain: Vec<String>,
    given: Vec<(&'static str, Option<String>)>,
}

impl Words {
    /// Whether an option was given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| *given == name)
    }

    /// The value of an option, the first if it was given more than once.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.given.iter().find(|(given, _)| *given == name).and_then(|(_, value)| value.as_deref())
    }
}

struct Parser<'a> {
    options: &'a Options,
    words: Words,
    /// The option whose value comes next.
    awaits: Option<&'static str>,
}

/// Takes the words of a command apart.
///
/// # Errors
/// The complaint, as Apache's shell prints it.
pub(crate) fn parse(options: &Options, words: &[String]) -> Result<Words, String> {
    let mut parser = Parser { options, words: Words::default(), awaits: None };
    let mut rest = words.iter();
    for word in rest.by_ref() {
        match parser.awaits {
            _ if word == "--" => break,
            Some(name) if options.is_value(word) => parser.give_value(name, unquoted(word)),
            _ => parser.word(word)?,
        }
    }
    parser.words.plain.extend(rest.cloned());
    parser.value_is_there()?;
    if let Some(list) = options.required.filter(|_| parser.words.given.is_empty()) {
        return Err(exception("MissingOption", &format!("Missing required option: {list}")));
    }
    Ok(parser.words)
}

impl Parser<'_> {
    fn word(&mut self, word: &str) -> Result<(), String> {
        let Some(name) = word.strip_prefix('-').filter(|name| !name.is_empty()) else {
            self.words.plain.push(word.to_owned());
            return Ok(());
        };
        if word.starts_with("--") {
            return Err(unknown(word));
        }
        if let Some(option) = self.options.find(name) {
            return self.give(option);
        }
        if let Some((name, value)) = name.split_once('=') {
            let option = self.options.find(name).filter(|option| name.len() == 1 && option.takes_value);
            let option = option.ok_or_else(|| unknown(word))?;
            self.give(option)?;
            self.give_value(option.name, value);
            return Ok(());
        }
        self.joined(word, name)
    }

    /// Single letters in one word; behind one that takes a value, the value.
    fn joined(&mut self, word: &str, letters: &str) -> Result<(), String> {
        for (at, letter) in letters.char_indices() {
            let after = &letters[at + letter.len_utf8()..];
            let option =
                self.options.find(&letters[at..at + letter.len_utf8()]).ok_or_else(|| unknown(word))?;
            self.give(option)?;
            if option.takes_value && !after.is_empty() {
                self.give_value(option.name, after);
                break;
            }
        }
        Ok(())
    }

    fn give(&mut self, option: Opt) -> Result<(), String> {
        self.value_is_there()?;
        let other = self.words.given.first().map(|(name, _)| *name).filter(|name| *name != option.name);
        if let Some(other) = other.filter(|_| self.options.exclusive) {
            let text = format!(
                "The option '{}' was specified but an option from this group has already been selected: '{other}'",
                option.name
            );
            return Err(exception("AlreadySelected", &text));
        }
        self.words.given.push((option.name, None));
        self.awaits = option.takes_value.then_some(option.name);
        Ok(())
    }

    fn give_value(&mut self, name: &'static str, value: &str) {
        if let Some((_, place)) = self.words.given.iter_mut().rev().find(|(given, _)| *given == name) {
            *place = Some(value.to_owned());
        }
        self.awaits = None;
    }

    fn value_is_there(&self) -> Result<(), String> {
        match self.awaits {
            Some(name) => Err(exception("MissingArgument", &format!("Missing argument for option: {name}"))),
            None => Ok(()),
        }
    }
}

/// A value loses the double quotes around it, which can only be there when the words came from the command line.
fn unquoted(word: &str) -> &str {
    let inner = word.strip_prefix('"').and_then(|word| word.strip_suffix('"'));
    inner.filter(|inner| !inner.contains('"')).unwrap_or(word)
}

fn unknown(word: &str) -> String {
    exception("UnrecognizedOption", &format!("Unrecognized option: {word}"))
}

fn exception(name: &str, text: &str) -> String {
    format!("org.apache.commons.cli.{name}Exception: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Options = Options::of(&[flag("s"), flag("w"), value("v"), value("add")]);
    const ONE: Options =
        Options { list: &[value("n"), value("b")], exclusive: true, required: Some("[-n num, -b bytes]") };

    fn words(options: &Options, line: &str) -> Result<Words, String> {
        parse(options, &super::super::line::split(line))
    }

    #[test]
    fn options_stand_anywhere() {
        for line in ["x -s -v 7 /a b", "x /a -sv7 b", "x /a b -v=7 -s", "x -s -v7 -- /a b", "x -sv 7 /a b"] {
            let words = words(&FREE, line).unwrap();
            assert_eq!(words.plain, ["x", "/a", "b"], "{line}");
            assert!(words.has("s") && !words.has("w"), "{line}");
            assert_eq!(words.value("v"), Some("7"), "{line}");
        }
        let words = words(&FREE, "x -v -1 -add a=b -- -s").unwrap();
        assert_eq!((words.value("v"), words.value("add"), words.has("s")), (Some("-1"), Some("a=b"), false));
        assert_eq!(words.plain, ["x", "-s"]);
    }

    #[test]
    fn a_lone_dash_is_a_word() {
        assert_eq!(words(&FREE, "x - -s").unwrap().plain, ["x", "-"]);
    }

    #[test]
    fn complaints_are_those_of_commons_cli() {
        for (options, line, complaint) in [
            (&FREE, "x -z", "UnrecognizedOptionException: Unrecognized option: -z"),
            (&FREE, "x /a -1", "UnrecognizedOptionException: Unrecognized option: -1"),
            (&FREE, "x -sz", "UnrecognizedOptionException: Unrecognized option: -sz"),
            (&FREE, "x --stat", "UnrecognizedOptionException: Unrecognized option: --stat"),
            (&FREE, "x -s=1", "UnrecognizedOptionException: Unrecognized option: -s=1"),
            (&FREE, "x -v", "MissingArgumentException: Missing argument for option: v"),
            (&FREE, "x -v -s", "MissingArgumentException: Missing argument for option: v"),
            (&ONE, "x /a", "MissingOptionException: Missing required option: [-n num, -b bytes]"),
            (
                &ONE,
                "x -n 1 -b 2 /a",
                "AlreadySelectedException: The option 'b' was specified but an option from this group has already been selected: 'n'",
            ),
        ] {
            let expected = format!("org.apache.commons.cli.{complaint}");
            assert_eq!(words(options, line), Err(expected), "{line}");
        }
    }
}
