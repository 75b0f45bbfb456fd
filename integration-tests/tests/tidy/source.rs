//! Just enough reading of Rust: which bytes of a line are code, which are comment, which are text, and which lines
//! belong to tests.

/// One line of a file, taken apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    /// As it stands in the file.
    pub(crate) raw: String,
    /// Only the code; what stands between quotes is gone, the quotes are not.
    pub(crate) code: String,
    /// Only the comments, without their marks.
    pub(crate) comment: String,
    /// Whether the line is part of a test.
    pub(crate) test: bool,
}

/// A file of Rust.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// From the root of the repository, with `/`.
    pub(crate) path: String,
    /// From the first line on.
    pub(crate) lines: Vec<Line>,
}

/// A function and where it stands; lines count from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// The line of its `fn`.
    pub(crate) first: usize,
    /// The line of its last brace.
    pub(crate) last: usize,
}

enum Mode {
    Code,
    Text,
    RawText { hashes: usize },
    Comment { depth: usize },
}

impl Source {
    /// Takes a file apart.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let mut mode = Mode::Code;
        let lines = text.lines().map(|raw| split_line(raw, &mut mode)).collect();
        let mut source = Source { path: path.to_owned(), lines };
        source.mark_tests();
        source
    }

    /// Lines of code with their numbers, from 0.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.lines.iter().enumerate().filter(|(_, line)| !line.code.trim().is_empty())
    }

    /// Whether the comment on a line, or the one right above it, holds this word; any comment for an empty word.
    pub(crate) fn explained(&self, at: usize, word: &str) -> bool {
        let above = at.checked_sub(1).and_then(|at| self.lines.get(at));
        let above = above.filter(|line| line.code.trim().is_empty());
        let mut comments =
            [Some(&self.lines[at]), above].into_iter().flatten().map(|line| line.comment.trim());
        comments.any(|comment| !comment.is_empty() && comment.contains(word))
    }

    /// Every function with a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let starts = self.code().filter_map(|(at, line)| Some((at, function_name(&line.code)?)));
        let with_end = |(first, name)| Some(Function { name, first, last: self.end_of_item(first)? });
        starts.filter_map(with_end).collect()
    }

    /// The line on which the braces close that open first at or behind this line; `None` if a `;` comes before.
    fn end_of_item(&self, first: usize) -> Option<usize> {
        let (mut depth, mut nested) = (0usize, 0usize);
        for (at, line) in self.lines.iter().enumerate().skip(first) {
            for c in line.code.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 1 => return Some(at),
                    '}' => depth = depth.saturating_sub(1),
                    '(' | '[' => nested += 1,
                    ')' | ']' => nested = nested.saturating_sub(1),
                    ';' if depth == 0 && nested == 0 => return None,
                    _ => {}
                }
            }
        }
        None
    }

    /// Declares the whole file a test.
    pub(crate) fn mark_as_test(&mut self) {
        self.lines.iter_mut().for_each(|line| line.test = true);
    }

    /// The files of modules that are declared here and that only tests have: all of them, if only tests have this one.
    pub(crate) fn test_files(&self, all: bool) -> Vec<String> {
        let (folder, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let owner = matches!(name, "mod.rs" | "lib.rs" | "main.rs");
        let below =
            if owner { folder.to_owned() } else { format!("{folder}/{}", name.trim_end_matches(".rs")) };
        let mut found = Vec::new();
        let (mut marked, mut named) = (false, None);
        for line in &self.lines {
            let code = line.code.trim();
            let declared =
                code.strip_suffix(';').and_then(|code| code.rsplit_once("mod ")).map(|(_, name)| name);
            if code.contains("#[cfg(test)]") {
                marked = true;
            } else if code.starts_with("#[path") {
                named = line.raw.split('"').nth(1);
            } else if let Some(module) = declared.filter(|_| marked || all) {
                match named.take() {
                    Some(file) => found.push(format!("{folder}/{file}")),
                    None => {
                        found.extend([format!("{below}/{module}.rs"), format!("{below}/{module}/mod.rs")])
                    }
                }
                marked = false;
            } else if !code.is_empty() && !code.starts_with('#') {
                (marked, named) = (false, None);
            }
        }
        found
    }

    fn mark_tests(&mut self) {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let folder = |name: &str| {
            self.path.starts_with(&format!("{name}/")) || self.path.contains(&format!("/{name}/"))
        };
        if folder("tests") || folder("benches") || folder("integration-tests") || name.ends_with("tests.rs") {
            self.mark_as_test();
            return;
        }
        let marks: Vec<usize> =
            self.code().filter(|(_, line)| line.code.contains("#[cfg(test)]")).map(|(at, _)| at).collect();
        for mark in marks {
            // A declaration that ends with `;` names a file, see `test_files`.
            if let Some(last) = self.end_of_item(mark) {
                self.lines[mark..=last].iter_mut().for_each(|line| line.test = true);
            }
        }
    }
}

/// The name behind `fn`, if the line declares a function.
fn function_name(code: &str) -> Option<String> {
    let mut before = code;
    loop {
        let at = before.find("fn ")?;
        let starts_word = before[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_');
        let rest = &before[at + 3..];
        let name: String =
            rest.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if starts_word && !name.is_empty() {
            return Some(name);
        }
        before = rest;
    }
}

fn split_line(raw: &str, mode: &mut Mode) -> Line {
    let chars: Vec<char> = raw.chars().collect();
    let mut line = Line { raw: raw.to_owned(), ..Line::default() };
    let mut at = 0;
    while at < chars.len() {
        at += match mode {
            Mode::Code => code_step(&chars, at, mode, &mut line),
            Mode::Text => text_step(&chars, at, mode, &mut line),
            Mode::RawText { hashes } => {
                let hashes = *hashes;
                let closes =
                    chars[at] == '"' && (1..=hashes).all(|ahead| chars.get(at + ahead) == Some(&'#'));
                if closes {
                    *mode = Mode::Code;
                    line.code.push('"');
                }
                if closes { 1 + hashes } else { 1 }
            }
            Mode::Comment { depth } => match (chars[at], chars.get(at + 1)) {
                ('*', Some('/')) => {
                    *depth -= 1;
                    if *depth == 0 {
                        *mode = Mode::Code;
                    }
                    2
                }
                ('/', Some('*')) => {
                    *depth += 1;
                    2
                }
                (c, _) => {
                    line.comment.push(c);
                    1
                }
            },
        };
    }
    line
}

/// Handles one thing outside of text and comments, and tells how many characters it took.
fn code_step(chars: &[char], at: usize, mode: &mut Mode, line: &mut Line) -> usize {
    let rest = &chars[at..];
    match rest {
        ['/', '/', comment @ ..] => {
            line.comment.extend(comment.iter().skip_while(|c| matches!(c, '/' | '!')));
            rest.len()
        }
        ['/', '*', ..] => {
            *mode = Mode::Comment { depth: 1 };
            2
        }
        ['r', '"' | '#', ..] if !word_before(chars, at) => raw_text(rest, mode, line),
        ['"', ..] => {
            *mode = Mode::Text;
            line.code.push('"');
            1
        }
        ['\'', '\\', ..] => {
            // An escaped character ends at the next quote behind what is escaped.
            let close = rest.iter().skip(3).position(|c| *c == '\'').map_or(rest.len(), |found| found + 4);
            line.code.push_str("''");
            close
        }
        ['\'', _, '\'', ..] => {
            line.code.push_str("''");
            3
        }
        [c, ..] => {
            line.code.push(*c);
            1
        }
        [] => 1,
    }
}

fn raw_text(rest: &[char], mode: &mut Mode, line: &mut Line) -> usize {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        // A raw identifier, such as `r#type`.
        line.code.push('r');
        return 1;
    }
    *mode = Mode::RawText { hashes };
    line.code.push('"');
    hashes + 2
}

fn text_step(chars: &[char], at: usize, mode: &mut Mode, line: &mut Line) -> usize {
    match chars[at] {
        '\\' => 2,
        '"' => {
            *mode = Mode::Code;
            line.code.push('"');
            1
        }
        _ => 1,
    }
}

/// Whether the character before belongs to the same word; `b` and `c` stand before raw text too.
fn word_before(chars: &[char], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map(|at| chars[at]);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    match before(1) {
        Some('b' | 'c') => before(2).is_some_and(is_word),
        Some(c) => is_word(c),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, String) {
        let source = Source::new("core/src/a.rs", text);
        let join =
            |part: fn(&Line) -> &String| source.lines.iter().map(part).cloned().collect::<Vec<_>>().join("|");
        (join(|line| &line.code), join(|line| &line.comment))
    }

    #[test]
    fn code_text_and_comments_are_told_apart() {
        for (text, code, comment) in [
            ("let a = 1; // why", "let a = 1; ", " why"),
            ("//! head", "", " head"),
            (r#"f("// no comment \" {")x"#, r#"f("")x"#, ""),
            ("r#\"} // \"#; r\"{\"; br#\"x\"#", "\"\"; \"\"; b\"\"", ""),
            ("'{' '\\'' '\\u{7b}' 'a b", "'' '' '' 'a b", ""),
            ("a /* b { /* c */ d */ e", "a  e", " b {  c  d "),
            ("\"one\ntwo // {\"three // end", "\"|\"three ", "| end"),
            ("r#type + for r in x", "r#type + for r in x", ""),
        ] {
            assert_eq!(parts(text), (code.to_owned(), comment.to_owned()), "{text}");
        }
    }

    #[test]
    fn tests_are_marked() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        let marks =
            |path: &str, text: &str| Source::new(path, text).lines.iter().map(|l| l.test).collect::<Vec<_>>();
        assert_eq!(marks("core/src/a.rs", text), [false, true, true, true, true, false]);
        assert_eq!(marks("core/src/a.rs", "#[cfg(test)]\nmod x_tests;\nfn f() {}"), [false; 3]);
        for path in
            ["core/tests/a.rs", "core/src/a_tests.rs", "core/src/a/tests.rs", "integration-tests/src/a.rs"]
        {
            assert_eq!(marks(path, "fn a() {}"), [true], "{path}");
        }
        assert_eq!(marks("server/src/testing/a.rs", "fn a() {}"), [false]);
    }

    #[test]
    fn functions_have_an_end() {
        let text = "trait T {\n    fn no_body(&self) -> [u8; 4];\n    fn short() {}\n}\npub async fn long(\n    a: u8,\n) {\n    if a {\n    }\n}\n// fn none() {}\n";
        let found: Vec<_> =
            Source::new("a.rs", text).functions().into_iter().map(|f| (f.name, f.first, f.last)).collect();
        assert_eq!(found, [("short".to_owned(), 2, 2), ("long".to_owned(), 4, 9)]);
    }

    #[test]
    fn an_explanation_stands_on_the_line_or_right_above() {
        let source = Source::new("a.rs", "// Why.\na();\nb();\nc(); // Because.\n");
        assert_eq!([1, 2, 3].map(|at| source.explained(at, "")), [true, false, true]);
        assert!(source.explained(3, "Because") && !source.explained(1, "Because"));
    }
}
