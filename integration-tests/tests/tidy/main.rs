//! The house rules, as a test: what each room may know, how long things may be, and what is never left behind.
//!
//! It reads the repository's text and nothing else, so it works on whatever is there. Each rule has a reason, which its
//! finding tells, and a test that shows it a bad sample.

mod rooms;
mod rules;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use source::Source;

/// Files whose `unwrap` and `expect` are not explained yet, and how many there are. A number may only fall.
const UNEXPLAINED_UNWRAPS: &[(&str, usize)] = &[];

/// One place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// From the root of the repository.
    path: String,
    /// From 1.
    line: usize,
    /// Which rule, and what to do.
    message: String,
}

impl Finding {
    fn new(source: &Source, at: usize, message: String) -> Self {
        Finding { path: source.path.clone(), line: at + 1, message }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

#[test]
fn the_house_is_tidy() {
    let files = repository();
    assert!(files.len() > 10, "the repository is not where it is looked for");
    let findings = check(&files, UNEXPLAINED_UNWRAPS);
    let list: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{} findings:\n{}", list.len(), list.join("\n"));
}

/// Checks files given as path and text.
fn check(files: &BTreeMap<String, String>, allowed: &[(&str, usize)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let rust = files.iter().filter(|(path, _)| path.ends_with(".rs"));
    let sources: BTreeMap<&String, Source> =
        rust.map(|(path, text)| (path, Source::new(path, text))).collect();
    let mut tests: BTreeSet<String> = sources.values().flat_map(|source| source.test_files(false)).collect();
    let mut newest: Vec<String> = tests.iter().cloned().collect();
    while let Some(path) = newest.pop() {
        let below = sources.get(&path).map_or_else(Vec::new, |source| source.test_files(true));
        newest.extend(below.into_iter().filter(|path| tests.insert(path.clone())));
    }
    for (path, text) in files {
        rules::check_text(path, text, &mut findings);
        if !path.ends_with(".rs") {
            continue;
        }
        let mut source = Source::new(path, text);
        if tests.contains(path) {
            source.mark_as_test();
        }
        rooms::check(&source, &mut findings);
        rules::check(&source, &mut findings);
        let unwraps = rules::unexplained_unwraps(&source);
        let allowance = allowed.iter().find(|(file, _)| file == path).map_or(0, |(_, count)| *count);
        if unwraps.len() > allowance {
            let message = "`unwrap` or `expect` without a comment that says why it cannot fail".to_owned();
            findings.extend(unwraps.iter().map(|at| Finding::new(&source, *at, message.clone())));
        } else if unwraps.len() < allowance {
            let message =
                format!("only {} unexplained unwraps are left: lower its number in tidy", unwraps.len());
            findings.push(Finding::new(&source, 0, message));
        }
    }
    for (path, _) in allowed.iter().filter(|(path, _)| !files.contains_key(*path)) {
        let message = "the file is gone: take it off the list in tidy".to_owned();
        findings.push(Finding { path: (*path).to_owned(), line: 1, message });
    }
    findings.sort();
    findings
}

/// Every text file that belongs to the repository, by its path from the root.
fn repository() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(root.join(&folder)).expect("the repository can be listed");
        for entry in entries {
            let entry = entry.expect("the repository can be listed");
            let path = folder.join(entry.file_name());
            let kind = entry.file_type().expect("the kind of a file is known");
            if kind.is_dir() && is_ours(&path) {
                folders.push(path);
            } else if kind.is_file() && is_ours(&path) && is_text(&path) {
                // Files that are not UTF-8 are data.
                if let Ok(text) = fs::read_to_string(root.join(&path)) {
                    files.insert(path.to_string_lossy().replace('\\', "/"), text);
                }
            }
        }
    }
    files
}

/// Leaves out what a build makes and what git keeps for itself.
fn is_ours(path: &Path) -> bool {
    let left_out = ["target", ".git", ".ci/cache"];
    !left_out.iter().any(|name| path == Path::new(name))
}

/// By the ending of its name; a file without one is text. Captured data is not ours to word.
fn is_text(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().into_owned());
    let captured = path.components().any(|part| part.as_os_str() == "golden" || part.as_os_str() == "wire");
    let texts = ["rs", "md", "toml", "txt", "cfg", "sh", "py", "java", "yml", "yaml", "c"];
    !captured && ending.is_none_or(|ending| texts.contains(&ending.as_str()))
}

fn files<const N: usize>(files: [(&str, &str); N]) -> BTreeMap<String, String> {
    files.map(|(path, text)| (path.to_owned(), text.to_owned())).into()
}

#[test]
fn findings_tell_place_and_reason() {
    let bad = files([("core/src/a.rs", "//! Head.\n\nfn f() { g().unwrap(); }\n")]);
    let lines: Vec<String> = check(&bad, &[]).iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        ["core/src/a.rs:3: `unwrap` or `expect` without a comment that says why it cannot fail"]
    );
}

#[test]
fn modules_that_only_tests_have_are_tests() {
    let house = files([
        (
            "core/src/room/mod.rs",
            "#[cfg(test)]\nmod story;\n#[cfg(test)]\n#[path = \"odd_name.rs\"]\nmod other;\n",
        ),
        ("core/src/room/story.rs", "mod below;\na.unwrap();\n"),
        ("core/src/room/story/below.rs", "a.unwrap();\n"),
        ("core/src/room/odd_name.rs", "a.unwrap();\n"),
        ("core/src/hall.rs", "#[cfg(test)]\nmod door;\n"),
        ("core/src/hall/door.rs", "a.unwrap();\n"),
        ("core/src/door.rs", "a.unwrap();\n"),
    ]);
    let found: Vec<String> = check(&house, &[]).into_iter().map(|finding| finding.path).collect();
    assert_eq!(found, ["core/src/door.rs"]);
}

#[test]
fn an_allowance_can_only_go_down() {
    let one = files([("core/src/a.rs", "a.unwrap();\n")]);
    assert_eq!(check(&one, &[("core/src/a.rs", 1)]), []);
    assert!(check(&one, &[("core/src/a.rs", 2)])[0].message.contains("lower its number"));
    let gone = check(&one, &[("core/src/a.rs", 1), ("core/src/b.rs", 1)]);
    assert!(gone[0].message.contains("the file is gone"));
    assert_eq!(
        check(&files([("core/src/a.rs", "a.unwrap();\nb.unwrap();\n")]), &[("core/src/a.rs", 1)]).len(),
        2
    );
}

#[test]
fn builds_and_captured_data_are_left_out() {
    assert!(!is_ours(Path::new("target")) && !is_ours(Path::new(".git")) && is_ours(Path::new("core")));
    assert!(is_text(Path::new("Dockerfile")) && is_text(Path::new("core/src/lib.rs")));
    assert!(!is_text(Path::new("server/tests/golden/README.md")) && !is_text(Path::new("a/snapshot.0")));
}
