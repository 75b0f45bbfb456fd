//! Paths of znodes: the rules a path must keep before a write may use it, and how paths are taken apart.
//!
//! The rules are those of Apache's `PathUtils`; what is legal there is legal here, so data can move both ways.
//! A server looks reads up without validating, so the checks are functions and [`ZnodePath`] is for clients,
//! which validate before they send.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Why a string is not a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The string is empty.
    #[error("path is empty")]
    Empty,
    /// The first character is not a slash.
    #[error("path must start with / character: {0:?}")]
    Relative(String),
    /// The last character is a slash and the path is not the root.
    #[error("path must not end with / character: {0:?}")]
    TrailingSlash(String),
    /// Two slashes follow each other.
    #[error("path has an empty element: {0:?}")]
    EmptyElement(String),
    /// An element is `.` or `..`.
    #[error("path has a relative element: {0:?}")]
    RelativeElement(String),
    /// A character that paths may not hold.
    #[error("path has the invalid character {character:?}: {path:?}")]
    InvalidCharacter {
        /// The whole path.
        path: String,
        /// The first character that is refused.
        character: char,
    },
}

/// Whether a character may not stand in a path: controls, surrogates and private use (so nothing above
/// U+FFFF), and the specials at the end of the basic plane.
fn is_invalid(character: char) -> bool {
    matches!(character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}')
        || character > '\u{ffff}'
}

/// Checks the path of a write.
///
/// # Errors
/// The first rule that the path breaks.
pub fn validate(path: &str) -> Result<(), PathError> {
    if is_plainly_valid(path) { Ok(()) } else { validate_in_full(path) }
}

/// Passes most valid paths in one look at each byte: printable ASCII, no element that begins with a dot.
fn is_plainly_valid(path: &str) -> bool {
    let mut before = 0;
    let plain = path.bytes().all(|byte| {
        let fits = (b' '..=b'~').contains(&byte) && (before != b'/' || (byte != b'/' && byte != b'.'));
        before = byte;
        fits
    });
    plain && path.starts_with('/') && before != b'/'
}

fn validate_in_full(path: &str) -> Result<(), PathError> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(if path.is_empty() { PathError::Empty } else { PathError::Relative(path.into()) });
    };
    if rest.is_empty() {
        return Ok(());
    }
    if rest.ends_with('/') {
        return Err(PathError::TrailingSlash(path.into()));
    }
    for element in rest.split('/') {
        match element {
            "" => return Err(PathError::EmptyElement(path.into())),
            "." | ".." => return Err(PathError::RelativeElement(path.into())),
            _ => {}
        }
    }
    match path.chars().find(|character| is_invalid(*character)) {
        Some(character) => Err(PathError::InvalidCharacter { path: path.into(), character }),
        None => Ok(()),
    }
}

/// The path of the parent: `/` for children of the root, `None` for the root and for what has no slash.
#[must_use]
pub fn parent(path: &str) -> Option<&str> {
    match path.rfind('/') {
        Some(0) if path.len() > 1 => Some("/"),
        Some(0) | None => None,
        Some(at) => Some(&path[..at]),
    }
}

/// The last element; empty for the root.
#[must_use]
pub fn name(path: &str) -> &str {
    path.rfind('/').map_or(path, |at| &path[at + 1..])
}

/// `parent` and `name` as one path.
#[must_use]
pub fn join(parent: &str, name: &str) -> String {
    if parent == "/" { format!("/{name}") } else { format!("{parent}/{name}") }
}

/// A path that keeps the rules of [`validate`], checked once. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZnodePath(Arc<str>);

impl ZnodePath {
    /// The root, `/`.
    #[must_use]
    pub fn root() -> Self {
        ZnodePath("/".into())
    }

    /// Checks and keeps a path.
    ///
    /// # Errors
    /// The rule that the path breaks.
    pub fn new(path: impl AsRef<str>) -> Result<Self, PathError> {
        validate(path.as_ref())?;
        Ok(ZnodePath(path.as_ref().into()))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parent; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<ZnodePath> {
        parent(&self.0).map(|path| ZnodePath(path.into()))
    }

    /// The last element; empty for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        name(&self.0)
    }

    /// The path of a child.
    ///
    /// # Errors
    /// The rule that the child's path would break.
    pub fn child(&self, name: &str) -> Result<ZnodePath, PathError> {
        ZnodePath::new(join(&self.0, name))
    }
}

impl fmt::Debug for ZnodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for ZnodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ZnodePath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ZnodePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for ZnodePath {
    type Error = PathError;
    fn try_from(path: &str) -> Result<Self, PathError> {
        ZnodePath::new(path)
    }
}

impl std::str::FromStr for ZnodePath {
    type Err = PathError;
    fn from_str(path: &str) -> Result<Self, PathError> {
        ZnodePath::new(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_look_passes_nothing_that_the_full_check_refuses() {
        let alphabet = ['/', '.', 'a', '~', ' ', '\0', '\u{1f}', '\u{7f}', 'é'];
        let mut paths = vec![String::new()];
        for _ in 0..5 {
            let longer: Vec<String> = paths
                .iter()
                .flat_map(|path| alphabet.iter().map(move |last| format!("{path}{last}")))
                .collect();
            for path in &longer {
                assert!(!is_plainly_valid(path) || validate_in_full(path).is_ok(), "{path:?}");
            }
            paths = longer;
        }
        assert!(is_plainly_valid("/a/b.c/~ d"));
    }

    #[test]
    fn legal_paths_are_those_apache_takes() {
        for path in
            ["/", "/a", "/a/b", "/.a", "/a/...", "/..a", "/ sp ace", "/\u{a0}", "/\u{d7ff}", "/\u{ffef}"]
        {
            assert_eq!(validate(path), Ok(()), "{path:?}");
        }
        for path in [
            "", "foo", "/a/", "//", "/a//b", "/a/.", "/a/..", "/a/./b", "/\0", "/\u{1}", "/\u{7f}", "/\u{9f}",
        ] {
            assert!(validate(path).is_err(), "{path:?}");
        }
        for path in ["/\u{e000}", "/\u{f8ff}", "/\u{fff0}", "/\u{ffff}", "/\u{1f600}"] {
            assert!(matches!(validate(path), Err(PathError::InvalidCharacter { .. })), "{path:?}");
        }
    }

    #[test]
    fn paths_come_apart_at_the_last_slash() {
        assert_eq!((parent("/a/b"), name("/a/b")), (Some("/a"), "b"));
        assert_eq!((parent("/a"), name("/a")), (Some("/"), "a"));
        assert_eq!((parent("/"), name("/")), (None, ""));
        assert_eq!((join("/", "a"), join("/a", "b")), ("/a".to_owned(), "/a/b".to_owned()));
    }
}
