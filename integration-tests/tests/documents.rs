//! Documents that repeat what the code knows are compared with it. `BLESS=1` writes them anew.

use std::fmt::Write as _;
use std::path::Path;

use docent_server::config::{Support, known_keys};

const BEGIN: &str =
    "<!-- keys: written by `BLESS=1 cargo test -p docent-integration-tests --test documents` -->\n";
const END: &str = "<!-- end of keys -->\n";

#[test]
fn the_table_of_keys_is_that_of_the_parser() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let text = std::fs::read_to_string(&path).expect("docs/configuration.md is there");
    let (head, rest) = text.split_once(BEGIN).expect("the mark in front of the table is there");
    let (_, tail) = rest.split_once(END).expect("the mark behind the table is there");
    let expected = format!("{head}{BEGIN}{}{END}{tail}", table());
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, expected).expect("docs/configuration.md can be written");
        return;
    }
    assert!(
        text == expected,
        "docs/configuration.md does not list the keys as the parser knows them: run with BLESS=1"
    );
}

fn table() -> String {
    let mut table = "| key | default | meaning | honoured |\n|---|---|---|---|\n".to_owned();
    for key in known_keys() {
        let honoured = match key.support {
            Support::Honoured => "**yes**".to_owned(),
            Support::NotYet("") => "not yet".to_owned(),
            Support::NotYet(acts_as) => format!("not yet; acts as `{acts_as}`"),
            Support::Refused("") => "refused".to_owned(),
            Support::Refused(acts_as) => format!("refused unless `{acts_as}`"),
            Support::NoCounterpart(part) => format!("no counterpart: {part}"),
        };
        writeln!(table, "| `{}` | {} | {} | {honoured} |", key.name, key.default, key.meaning)
            .expect("writing to a string does not fail");
    }
    table
}
