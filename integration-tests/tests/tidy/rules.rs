//! Rules about lines, functions and files. Words that are forbidden are put together from halves here, so that this
//! file may stand in the house that it watches.

use super::Finding;
use super::source::Source;

/// Above this a file needs a reason.
const FILE_LINES_MAX: usize = 600;
/// Above this no reason is good enough.
const FILE_LINES_LIMIT: usize = 900;
/// Above this a function does more than one thing, unless it only lists cases.
const FUNCTION_LINES_MAX: usize = 70;

/// Checks one file of Rust.
pub(crate) fn check(source: &Source, findings: &mut Vec<Finding>) {
    file_length(source, findings);
    function_length(source, findings);
    unfinished(source, findings);
    sleeping_tests(source, findings);
}

fn file_length(source: &Source, findings: &mut Vec<Finding>) {
    let count = source.lines.len();
    let head: Vec<&str> = source
        .lines
        .iter()
        .take_while(|line| line.code.trim().is_empty())
        .map(|line| line.comment.trim())
        .collect();
    if count > FILE_LINES_LIMIT {
        let message = format!("{count} lines, and no file has more than {FILE_LINES_LIMIT}: divide it");
        findings.push(Finding::new(source, 0, message));
    } else if count > FILE_LINES_MAX && !head.join(" ").contains("long because") {
        let message = format!(
            "{count} lines, more than {FILE_LINES_MAX}: divide it, or say in its head that it is \"long because …\""
        );
        findings.push(Finding::new(source, 0, message));
    }
}

fn function_length(source: &Source, findings: &mut Vec<Finding>) {
    for function in source.functions() {
        let count = function.last - function.first + 1;
        if count <= FUNCTION_LINES_MAX {
            continue;
        }
        let above = source.lines[..function.first].iter().rev();
        let above = above.take_while(|line| line.code.trim().is_empty() || line.code.trim().starts_with('#'));
        let inside = &source.lines[function.first..=function.last];
        if above.chain(inside).any(|line| line.comment.contains("flat dispatch")) {
            continue;
        }
        let message = format!(
            "function `{}` has {count} lines, more than {FUNCTION_LINES_MAX}: divide it, or mark it as a \"flat dispatch\"",
            function.name
        );
        findings.push(Finding::new(source, function.first, message));
    }
}

/// Marks of work that was put off.
fn unfinished(source: &Source, findings: &mut Vec<Finding>) {
    const WORDS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    const MACROS: [&str; 2] = [concat!("to", "do!"), concat!("unimple", "mented!")];
    for (at, line) in source.lines.iter().enumerate() {
        let word = WORDS.iter().find(|word| has_word(&line.raw, word));
        if let Some(word) = word.or_else(|| MACROS.iter().find(|name| line.code.contains(**name))) {
            findings.push(Finding::new(
                source,
                at,
                format!("`{word}`: finish it, or leave it out and say so to people"),
            ));
        }
        let attribute = concat!("#[ig", "nore");
        if line.code.contains(attribute) {
            findings.push(Finding::new(
                source,
                at,
                format!("`{attribute}`: a test that does not run proves nothing"),
            ));
        }
    }
}

fn sleeping_tests(source: &Source, findings: &mut Vec<Finding>) {
    for (at, line) in source.code() {
        if line.test && calls(&line.code, "sleep") && !source.explained(at, "bounded wait") {
            let message =
                "a test sleeps: wait for a condition, and mark the pause of that loop as a \"bounded wait\"";
            findings.push(Finding::new(source, at, message.to_owned()));
        }
    }
}

/// Every `unwrap` and `expect` outside of tests that does not say why it cannot fail: in a comment, or in the message
/// of the `expect` itself.
pub(crate) fn unexplained_unwraps(source: &Source) -> Vec<usize> {
    let code = source.code().filter(|(_, line)| !line.test);
    let silent = code.filter(|(at, line)| {
        line.code.contains(".unwrap()") || line.code.contains(".expect(") && !message_explains(source, *at)
    });
    silent.filter(|(at, _)| !source.explained(*at, "")).map(|(at, _)| at).collect()
}

/// Whether an `expect` is told more than a name of the thing that it expects.
fn message_explains(source: &Source, at: usize) -> bool {
    const WORDS_MIN: usize = 4;
    let behind = source.lines[at].raw.split(".expect(").nth(1).unwrap_or_default();
    let next = source.lines.get(at + 1).map_or("", |line| line.raw.as_str());
    let text = if behind.is_empty() { next } else { behind };
    text.split('"').nth(1).is_some_and(|message| message.split_whitespace().count() >= WORDS_MIN)
}

/// Checks the text of any file: machine paths, and words about how the work was done instead of what it is.
pub(crate) fn check_text(path: &str, text: &str, findings: &mut Vec<Finding>) {
    const MACHINE_PATHS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];
    const ABOUT_WORK: [&str; 9] = [
        concat!("cla", "ude"),
        concat!("anth", "ropic"),
        concat!("chat", "gpt"),
        concat!("language ", "model"),
        concat!("ai assis", "tant"),
        concat!("sub", "agent"),
        concat!("coding ", "session"),
        concat!("work ", "session"),
        concat!("HELPERS", ".md"),
    ];
    for (at, raw) in text.lines().enumerate() {
        let mut report =
            |message: String| findings.push(Finding { path: path.to_owned(), line: at + 1, message });
        for machine in MACHINE_PATHS {
            let begins =
                |at: usize| raw[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_');
            if raw.match_indices(machine).any(|(at, _)| begins(at)) {
                report(format!("`{machine}`: a path of one machine"));
            }
        }
        let lower = raw.to_lowercase();
        for word in ABOUT_WORK.iter().filter(|word| lower.contains(&word.to_lowercase())) {
            report(format!("`{word}`: say what the code is, not who or what made it"));
        }
        if let Some(number) = issue_number(&lower) {
            report(format!("`{number}`: tell the reason itself, a number tells nobody"));
        }
    }
}

/// A reference such as the word for a reported problem with a number behind it.
fn issue_number(lower: &str) -> Option<&str> {
    let word = concat!("iss", "ue");
    lower.match_indices(word).find_map(|(at, _)| {
        let begins = lower[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '/');
        let digits = lower[at + word.len()..].strip_prefix(' ')?;
        let digits = digits.strip_prefix('#').unwrap_or(digits);
        let count = digits.chars().take_while(char::is_ascii_digit).count();
        (begins && count > 0).then_some(&lower[at..])
    })
}

fn has_word(text: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(is_word);
        let behind = text[at + word.len()..].chars().next().is_some_and(is_word);
        !before && !behind
    })
}

fn calls(code: &str, function: &str) -> bool {
    code.contains(&format!("{function}(")) && has_word(code, function)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> String {
        let mut findings = Vec::new();
        check(&Source::new(path, text), &mut findings);
        findings.iter().map(|finding| format!("{}: {}\n", finding.line, finding.message)).collect()
    }

    fn text_messages(text: &str) -> String {
        let mut findings = Vec::new();
        check_text("README.md", text, &mut findings);
        findings.iter().map(|finding| format!("{}: {}\n", finding.line, finding.message)).collect()
    }

    #[test]
    fn long_files_need_a_reason_and_very_long_ones_have_none() {
        let body = "const A: u8 = 1;\n".repeat(600);
        assert!(messages("a.rs", &format!("//! Head.\n{body}")).contains("601 lines, more than 600"));
        assert_eq!(messages("a.rs", &format!("//! Head, long because it is one table.\n{body}")), "");
        assert!(
            messages("a.rs", &format!("{body}// long because it is not in the head\n")).contains("601 lines")
        );
        let body = "const A: u8 = 1;\n".repeat(900);
        assert!(
            messages("a.rs", &format!("//! long because …\n{body}")).contains("no file has more than 900")
        );
    }

    #[test]
    fn long_functions_are_reported() {
        let body = "    a();\n".repeat(69);
        assert_eq!(messages("a.rs", &format!("fn f() {{\n{}}}\n", &body[9..])), "");
        assert!(
            messages("a.rs", &format!("x;\nfn f() {{\n{body}}}\n"))
                .starts_with("2: function `f` has 71 lines")
        );
        assert_eq!(messages("a.rs", &format!("/// A flat dispatch.\n#[inline]\nfn f() {{\n{body}}}\n")), "");
        assert_eq!(messages("a.rs", &format!("fn f() {{\n    // A flat dispatch.\n{body}}}\n")), "");
    }

    #[test]
    fn unfinished_work_is_reported() {
        for bad in [
            concat!("// TO", "DO: later"),
            concat!("// FIX", "ME"),
            concat!("let a = 1; // XX", "X"),
            concat!("to", "do!()"),
            concat!("unimple", "mented!(\"x\")"),
            concat!("#[ig", "nore = \"slow\"]"),
        ] {
            assert!(messages("a.rs", bad).starts_with("1: `"), "{bad}");
        }
        assert_eq!(messages("a.rs", "let xxx = MAXXXL; // ignore this, there is much to do"), "");
    }

    #[test]
    fn sleeping_tests_are_reported() {
        let bad = "std::thread::sleep(Duration::from_secs(1));";
        assert!(messages("core/tests/a.rs", bad).contains("a test sleeps"));
        assert!(
            messages("core/src/a.rs", &format!("#[cfg(test)]\nmod tests {{\n{bad}\n}}"))
                .starts_with("3: a test")
        );
        assert_eq!(messages("core/src/a.rs", bad), "");
        assert_eq!(messages("core/tests/a.rs", &format!("// The pause of a bounded wait.\n{bad}")), "");
        assert_eq!(messages("core/tests/a.rs", "fn no_sleeper() { asleep(); }"), "");
    }

    #[test]
    fn unwraps_need_a_reason() {
        let unwraps = |text: &str| unexplained_unwraps(&Source::new("core/src/a.rs", text));
        assert_eq!(
            unwraps("a.unwrap();\n// The parser has checked it.\nb.unwrap();\nc.expect(\"x\");"),
            [0, 3]
        );
        assert_eq!(
            unwraps(
                "a.expect(\"a parsed line has a key\");\nb.expect(\n    \"a parsed line has a key\",\n);"
            ),
            [0; 0]
        );
        assert_eq!(unwraps("a.unwrap(); // It was checked.\nb.unwrap_or(1);\nself.expect_err();"), [0; 0]);
        assert_eq!(
            unwraps(
                "/// let a = b.unwrap();\nlet s = \".unwrap()\";\n#[cfg(test)]\nmod t {\n    a.unwrap();\n}"
            ),
            [0; 0]
        );
    }

    #[test]
    fn machines_and_the_making_of_are_not_mentioned() {
        for bad in [
            concat!("see /wo", "rk/notes"),
            concat!("\"/ro", "ot/.cargo\""),
            concat!("made by Cla", "ude"),
            concat!("as iss", "ue 12 says"),
            concat!("Iss", "ue #3"),
            concat!("in a coding ", "session"),
        ] {
            assert!(text_messages(bad).starts_with("1: `"), "{bad}");
        }
        let good =
            "the session's homework/answers; apache/zookeeper/issues/12; an issue with 2 clients; tissue 5";
        assert_eq!(text_messages(good), "");
    }
}
