//! `java.util.Properties` as a file: what `zoo.cfg` and the dynamic configuration are written in.
//!
//! The reader follows Java's rules to the character, because a file that both servers read must mean the same to
//! both: bytes are ISO-8859-1, `#` and `!` begin a comment, `=`, `:` or white space ends the key, a backslash at
//! the end of a line joins the next one, and `\uXXXX` is one UTF-16 unit. What Java hides is kept: the line where an
//! entry begins, and the entries that a later duplicate overrides. One oddity is not copied: a lone backslash at the
//! very end of a file gives Java an entry without key and value.
//!
//! The writer is byte-stable: the same entries in the same order always give the same bytes, and no date is added.

use std::fmt;

use thiserror::Error;

/// One `key=value` of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key, unescaped and without white space around it.
    pub key: String,
    /// The value, unescaped and without white space around it.
    pub value: String,
    /// The line on which it begins; the first line is 1. 0 if it was not read from a file.
    pub line: usize,
}

/// The entries of a file in the order in which they stand there, duplicates included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    entries: Vec<Entry>,
}

/// The one thing that Java's reader refuses.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "line {line}: malformed \\uxxxx escape: write four hexadecimal digits after \\u, or \\\\ for a backslash"
)]
pub struct MalformedEscape {
    /// The line on which the entry begins.
    pub line: usize,
}

impl Properties {
    /// Reads a whole file.
    ///
    /// # Errors
    /// A `\u` that is not followed by four hexadecimal digits.
    pub fn parse(bytes: &[u8]) -> Result<Self, MalformedEscape> {
        let mut entries = Vec::new();
        for logical in LogicalLines::new(bytes) {
            let (key, value) = split(&logical.text);
            let line = logical.line;
            let text = |raw| unescape(raw).ok_or(MalformedEscape { line });
            // Apache trims both after unescaping, which takes away control characters as well as spaces.
            entries.push(Entry { key: java_trim(&text(key)?), value: java_trim(&text(value)?), line });
        }
        Ok(Properties { entries })
    }

    /// Adds an entry behind all others.
    pub fn push(&mut self, key: impl Into<String>, value: impl fmt::Display) {
        self.entries.push(Entry { key: key.into(), value: value.to_string(), line: 0 });
    }

    /// Every entry in file order; of duplicates, the last one counts.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry that counts for this key.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.key == key)
    }
}

/// Writes the entries, one per line, in order. Everything outside printable ASCII is escaped, so the bytes are the
/// same in every encoding.
impl fmt::Display for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.entries {
            writeln!(f, "{}={}", escape(&entry.key, true), escape(&entry.value, false))?;
        }
        Ok(())
    }
}

/// What a reader sees as one line: continuation joined, comments and blank lines gone, escapes untouched.
struct LogicalLine {
    text: Vec<u8>,
    line: usize,
}

struct LogicalLines<'a> {
    rest: &'a [u8],
    line: usize,
}

impl<'a> LogicalLines<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        LogicalLines { rest: bytes, line: 0 }
    }

    /// The next line as it stands in the file, without its end.
    fn natural(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        self.line += 1;
        let end = self.rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        self.rest = match rest {
            [b'\r', b'\n', after @ ..] | [_, after @ ..] => after,
            [] => rest,
        };
        Some(text)
    }
}

impl Iterator for LogicalLines<'_> {
    type Item = LogicalLine;

    fn next(&mut self) -> Option<LogicalLine> {
        let mut text: Vec<u8> = Vec::new();
        let mut first = 0;
        let mut joined = false;
        while let Some(natural) = self.natural() {
            let stripped = natural.trim_start_with(is_blank);
            // As long as nothing has been collected, a comment is a comment, even behind a lone backslash.
            if text.is_empty() && (stripped.is_empty() && !joined || matches!(stripped, [b'#' | b'!', ..])) {
                joined = false;
                continue;
            }
            if text.is_empty() {
                first = self.line;
            }
            let backslashes = stripped.iter().rev().take_while(|byte| **byte == b'\\').count();
            joined = backslashes % 2 == 1;
            text.extend_from_slice(&stripped[..stripped.len() - usize::from(joined)]);
            if !joined && !text.is_empty() {
                break;
            }
        }
        (!text.is_empty()).then_some(LogicalLine { text, line: first })
    }
}

trait TrimStart {
    fn trim_start_with(&self, drop: fn(u8) -> bool) -> &[u8];
}

impl TrimStart for [u8] {
    fn trim_start_with(&self, drop: fn(u8) -> bool) -> &[u8] {
        let start = self.iter().position(|byte| !drop(*byte)).unwrap_or(self.len());
        &self[start..]
    }
}

/// Java's white space between the parts of a line.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0c)
}

/// Splits a logical line at the first `=`, `:` or white space that no backslash protects.
fn split(line: &[u8]) -> (&[u8], &[u8]) {
    let mut escaped = false;
    let mut end = line.len();
    for (at, byte) in line.iter().enumerate() {
        if !escaped && (matches!(byte, b'=' | b':') || is_blank(*byte)) {
            end = at;
            break;
        }
        escaped = *byte == b'\\' && !escaped;
    }
    let (key, rest) = line.split_at(end);
    let rest = rest.trim_start_with(is_blank);
    let value = match rest {
        [b'=' | b':', after @ ..] => after.trim_start_with(is_blank),
        _ => rest,
    };
    (key, value)
}

/// Resolves escapes; `None` for a malformed `\u`.
fn unescape(raw: &[u8]) -> Option<String> {
    let mut units: Vec<u16> = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'\\' {
            units.push(u16::from(*first));
            continue;
        }
        let [escaped, after @ ..] = rest else { break };
        rest = after;
        units.push(match escaped {
            b't' => u16::from(b'\t'),
            b'n' => u16::from(b'\n'),
            b'r' => u16::from(b'\r'),
            b'f' => 0x0c,
            b'u' => {
                let (digits, after) = rest.split_at_checked(4)?;
                rest = after;
                hex_unit(digits)?
            }
            other => u16::from(*other),
        });
    }
    Some(String::from_utf16_lossy(&units))
}

fn hex_unit(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0u16, |unit, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | value as u16)
    })
}

/// `String.trim`: everything up to and including the space is white.
fn java_trim(text: &str) -> String {
    text.trim_matches(|c| c <= ' ').to_owned()
}

fn escape(text: &str, key: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.chars().enumerate() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\u{0c}' => out.push_str("\\f"),
            ' ' if key || at == 0 => out.push_str("\\ "),
            '=' | ':' if key => out.extend(['\\', c]),
            '#' | '!' if key && at == 0 => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => {
                let mut units = [0u16; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04X}"));
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let properties = Properties::parse(text.as_bytes()).expect("the sample is well formed");
        properties.entries().iter().map(|e| (e.key.clone(), e.value.clone())).collect()
    }

    fn pair(text: &str) -> (String, String) {
        let all = pairs(text);
        assert_eq!(all.len(), 1, "{text:?} holds one entry");
        all[0].clone()
    }

    fn is(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn every_separator_ends_the_key() {
        for text in ["a=b", "a:b", "a b", "a\tb", "a = b", "  a \t:  b", "a=b  ", "\x0ca\x0c=\x0cb"] {
            assert_eq!(pair(text), is("a", "b"), "{text:?}");
        }
        assert_eq!(pair("a==b"), is("a", "=b"));
        assert_eq!(pair("a = : b"), is("a", ": b"));
        assert_eq!(pair("a"), is("a", ""));
        assert_eq!(pair("=b"), is("", "b"));
        assert_eq!(pair("server.1=h:1:2;3"), is("server.1", "h:1:2;3"));
    }

    #[test]
    fn comments_and_blank_lines_do_not_count() {
        assert_eq!(pairs("# x=1\n  ! y=2\n\n   \r\n\ra=1#no comment\n"), [is("a", "1#no comment")]);
        assert_eq!(pairs("# a comment is never continued \\\na=1"), [is("a", "1")]);
    }

    #[test]
    fn a_backslash_at_the_end_joins_lines() {
        assert_eq!(pair("a=1,\\\n   2,\\\r\n\t3"), is("a", "1,2,3"));
        assert_eq!(pair("a=1\\\n\nb=2".split("\nb").next().unwrap_or_default()), is("a", "1"));
        assert_eq!(pairs("a=1\\\n\nb=2"), [is("a", "1"), is("b", "2")]);
        assert_eq!(pairs("a=1\\\\\nb=2"), [is("a", "1\\"), is("b", "2")]);
        assert_eq!(pair("a=1\\\n# no comment here"), is("a", "1# no comment here"));
        assert_eq!(pairs("\\\n# a comment after a lone backslash\na=1"), [is("a", "1")]);
        assert_eq!(pair("a=1\\"), is("a", "1"));
    }

    #[test]
    fn escapes_are_resolved() {
        assert_eq!(pair(r"a\ b\=\:c=d"), is("a b=:c", "d"));
        assert_eq!(pair(r"a=\u00e9\uD83D\uDE00\z\t."), is("a", "é\u{1f600}z\t."));
        assert_eq!(Properties::parse(b"\n\na=\\u12"), Err(MalformedEscape { line: 3 }));
        assert_eq!(Properties::parse(b"a=\\u12xy"), Err(MalformedEscape { line: 1 }));
    }

    #[test]
    fn bytes_are_latin_1() {
        let properties = Properties::parse(b"a=\xe9\xff").expect("every byte is a character");
        assert_eq!(properties.entries()[0].value, "éÿ");
    }

    #[test]
    fn the_last_duplicate_counts_and_lines_are_known() {
        let properties = Properties::parse(b"# x\na=1\nb=\\\n2\na=3").expect("well formed");
        assert_eq!(properties.entry("a").map(|e| (e.value.as_str(), e.line)), Some(("3", 5)));
        assert_eq!(properties.entry("b").map(|e| e.line), Some(3));
        assert_eq!(properties.entries().len(), 3);
        assert_eq!(properties.entry("c"), None);
    }

    #[test]
    fn the_writer_escapes_what_the_reader_would_take_apart() {
        let mut properties = Properties::default();
        properties.push("a b=c", " x =:#é\\");
        properties.push("#d", 1);
        assert_eq!(properties.to_string(), "a\\ b\\=c=\\ x =:#\\u00E9\\\\\n\\#d=1\n");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Properties::parse(&bytes);
        }

        #[test]
        fn odd_files_never_panic(text in "[\\\\u0-9a-f#!=: \t\n\r]{0,60}") {
            let _ = Properties::parse(text.as_bytes());
        }

        #[test]
        fn what_is_written_is_read_back(pairs in proptest::collection::vec(("\\PC{1,12}", "\\PC{0,20}"), 0..8)) {
            let mut written = Properties::default();
            for (key, value) in &pairs {
                let (key, value) = (java_trim(key), java_trim(value));
                if !key.is_empty() {
                    written.push(key, value);
                }
            }
            let read = Properties::parse(written.to_string().as_bytes()).expect("our own file is well formed");
            let strip = |p: &Properties| p.entries().iter().map(|e| (e.key.clone(), e.value.clone())).collect::<Vec<_>>();
            prop_assert_eq!(strip(&read), strip(&written));
        }
    }
}
