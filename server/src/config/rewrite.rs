//! `zoo.cfg` rewritten when its members move into a dynamic file of their own. Everything else stays as it is written,
//! comments too.

use std::path::Path;

use super::properties::{MalformedEscape, Properties};

/// The file with `dynamicConfigFile` in place of the members. `client_moved` says that the members tell where this
/// server's clients connect; said twice, the two could come to differ.
///
/// # Errors
/// The file is none that can be read.
pub fn point_to(zoo_cfg: &[u8], dynamic: &Path, client_moved: bool) -> Result<Vec<u8>, MalformedEscape> {
    let mut out = Vec::with_capacity(zoo_cfg.len());
    for piece in pieces(zoo_cfg) {
        let moved = match Properties::parse(piece)?.entries() {
            [entry, ..] => moves(&entry.key, client_moved),
            [] => false,
        };
        if !moved {
            out.extend_from_slice(piece);
        }
    }
    if out.last().is_some_and(|last| *last != b'\n') {
        out.push(b'\n');
    }
    let mut pointer = Properties::default();
    pointer.push("dynamicConfigFile", dynamic.display());
    out.extend_from_slice(pointer.to_string().as_bytes());
    Ok(out)
}

fn moves(key: &str, client_moved: bool) -> bool {
    let membership = ["server.", "group.", "weight."].iter().any(|prefix| key.starts_with(prefix));
    let client = matches!(key, "clientPort" | "clientPortAddress") && client_moved;
    membership || client || matches!(key, "dynamicConfigFile" | "peerType")
}

/// Lines with those that a backslash joins to them.
fn pieces(text: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        at += line.len();
        let bare = line.trim_ascii_end();
        let comment = start + line.len() == at && matches!(line.trim_ascii_start(), [b'#' | b'!', ..]);
        let backslashes = bare.iter().rev().take_while(|byte| **byte == b'\\').count();
        if comment || backslashes % 2 == 0 {
            pieces.push(&text[start..at]);
            start = at;
        }
    }
    if start < text.len() {
        pieces.push(&text[start..]);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str, client_moved: bool) -> String {
        let dynamic = Path::new("/c/zoo.cfg.dynamic.100000000");
        String::from_utf8(point_to(text.as_bytes(), dynamic, client_moved).unwrap()).unwrap()
    }

    #[test]
    fn members_go_and_everything_else_stays() {
        let text = "# ours\ntickTime=200\nserver.1=h:1:2\nserver.2 = h: \\\n  3:4\nclientPort=5\npeerType=observer\n\
                    weight.1=1\ndataDir=/d";
        assert_eq!(
            rewritten(text, false),
            "# ours\ntickTime=200\nclientPort=5\ndataDir=/d\ndynamicConfigFile=/c/zoo.cfg.dynamic.100000000\n"
        );
        assert_eq!(
            rewritten("clientPort=5\nclientPortAddress=h\ntickTime=2\n", true),
            "tickTime=2\ndynamicConfigFile=/c/zoo.cfg.dynamic.100000000\n"
        );
    }

    #[test]
    fn the_old_pointer_goes_and_a_comment_joins_nothing() {
        let text = "dynamicConfigFile=/c/old.1\n# not \\\ntickTime=2\n";
        assert_eq!(
            rewritten(text, false),
            "# not \\\ntickTime=2\ndynamicConfigFile=/c/zoo.cfg.dynamic.100000000\n"
        );
    }
}
