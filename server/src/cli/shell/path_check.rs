//! PURE. The checks that Apache's client makes before it sends a path, in Apache's words. The rules are those of
//! [`docent::path`]; only the complaints are more exact here.

/// Checks a path. `sequential` is for creates that let the server append a number.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(path: &str, sequential: bool) -> Result<(), String> {
    let numbered = format!("{path}1");
    let checked = if sequential { &numbered } else { path };
    let Some(rest) = checked.strip_prefix('/') else {
        return Err(if checked.is_empty() {
            "Path length must be > 0".to_owned()
        } else {
            "Path must start with / character".to_owned()
        });
    };
    if rest.is_empty() {
        return Ok(());
    }
    if rest.ends_with('/') {
        return Err("Path must not end with / character".to_owned());
    }
    match first_fault(checked) {
        Some((at, reason)) => Err(format!("Invalid path string \"{checked}\" caused by {reason} @{at}")),
        None => Ok(()),
    }
}

/// The first character that a path may not have at its place, and why. Places count UTF-16 units, as in Java.
fn first_fault(path: &str) -> Option<(usize, &'static str)> {
    let units: Vec<u16> = path.encode_utf16().collect();
    let (slash, dot) = (u16::from(b'/'), u16::from(b'.'));
    let ends_at = |at: usize| units.get(at + 1).is_none_or(|next| *next == slash);
    for at in 1..units.len() {
        let (before, unit) = (units[at - 1], units[at]);
        let reason = match unit {
            0 => "null character not allowed",
            _ if unit == slash && before == slash => "empty node name specified",
            _ if unit == dot && before == dot && at >= 2 && units[at - 2] == slash && ends_at(at) => {
                "relative paths not allowed"
            }
            _ if unit == dot && before == slash && ends_at(at) => "relative paths not allowed",
            1..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=0xffff => "invalid character",
            _ => continue,
        };
        return Some((at, reason));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_apaches() {
        for (path, complaint) in [
            ("", "Path length must be > 0"),
            ("nope", "Path must start with / character"),
            ("/j/", "Path must not end with / character"),
            ("//", "Path must not end with / character"),
            ("/a//b", "Invalid path string \"/a//b\" caused by empty node name specified @3"),
            ("/a/../b", "Invalid path string \"/a/../b\" caused by relative paths not allowed @4"),
            ("/a/./b", "Invalid path string \"/a/./b\" caused by relative paths not allowed @3"),
            ("/a/.", "Invalid path string \"/a/.\" caused by relative paths not allowed @3"),
            ("/a\u{1}", "Invalid path string \"/a\u{1}\" caused by invalid character @2"),
        ] {
            assert_eq!(check(path, false), Err(complaint.to_owned()), "{path:?}");
        }
    }

    #[test]
    fn what_the_client_takes_is_taken_here() {
        for path in ["/", "/a", "/a/...", "/.a", "/..a", "/a..", "/a b", "/ä"] {
            assert_eq!(check(path, false), Ok(()), "{path:?}");
            assert!(docent::path::validate(path).is_ok(), "{path:?}");
        }
        assert_eq!(check("/a/", true), Ok(()));
        assert!(check("/a/", false).is_err());
    }
}
