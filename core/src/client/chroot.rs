//! Namespaces: a client that sees the tree below one path as if it were the whole.
//!
//! Paths are checked and prefixed on their way out, and stripped on their way back. Nothing below this module
//! knows that there is a namespace.

use std::borrow::Cow;
use std::sync::Arc;

use super::error::Error;
use crate::path::{self, PathError};

/// The prefix of all paths of one handle: empty for none, else a legal path other than the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Namespace(Arc<str>);

impl Namespace {
    pub(super) fn none() -> Self {
        Namespace("".into())
    }

    /// The namespace `inner` below this one.
    pub(super) fn below(&self, inner: &str) -> Result<Self, PathError> {
        path::validate(inner)?;
        Ok(match inner {
            "/" => self.clone(),
            inner => Namespace(format!("{}{inner}", self.0).into()),
        })
    }

    /// As people write it: `/` for none.
    pub(super) fn as_str(&self) -> &str {
        if self.0.is_empty() { "/" } else { &self.0 }
    }

    /// Checks a path and makes it absolute.
    pub(super) fn absolute<'a>(&self, path: &'a str) -> Result<Cow<'a, str>, Error> {
        path::validate(path)?;
        Ok(self.prefixed(path))
    }

    /// As [`Namespace::absolute`] for a path that the server completes with a number, so it may end with a slash.
    pub(super) fn absolute_sequential<'a>(&self, path: &'a str) -> Result<Cow<'a, str>, Error> {
        path::validate(&format!("{path}0"))?;
        Ok(if self.0.is_empty() { Cow::Borrowed(path) } else { Cow::Owned(format!("{}{path}", self.0)) })
    }

    /// Whether an absolute path lies within.
    pub(super) fn contains(&self, absolute: &str) -> bool {
        absolute.strip_prefix(&*self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn prefixed<'a>(&self, path: &'a str) -> Cow<'a, str> {
        match (&*self.0, path) {
            ("", path) => Cow::Borrowed(path),
            (prefix, "/") => Cow::Owned(prefix.to_owned()),
            (prefix, path) => Cow::Owned(format!("{prefix}{path}")),
        }
    }

    /// An absolute path as this handle sees it. A path outside of the namespace, which only a server's mistake
    /// could bring here, stays absolute.
    pub(super) fn strip(&self, absolute: String) -> String {
        match absolute.strip_prefix(&*self.0) {
            Some("") => "/".to_owned(),
            Some(rest) if rest.starts_with('/') && !self.0.is_empty() => rest.to_owned(),
            _ => absolute,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_out_prefixed_and_come_back_stripped() {
        let plain = Namespace::none();
        assert_eq!(plain.absolute("/a").unwrap(), "/a");
        assert_eq!(plain.strip("/a".into()), "/a");
        let inner = plain.below("/x").unwrap().below("/y").unwrap();
        assert_eq!(inner.as_str(), "/x/y");
        for (seen, absolute) in [("/", "/x/y"), ("/a", "/x/y/a"), ("/x/y", "/x/y/x/y")] {
            assert_eq!(inner.absolute(seen).unwrap(), absolute);
            assert_eq!(inner.strip(absolute.into()), seen);
        }
        assert_eq!(inner.strip("/x/yy".into()), "/x/yy");
        assert_eq!(inner.below("/").unwrap(), inner);
        assert!(inner.below("a").is_err());
    }

    #[test]
    fn sequential_paths_may_end_with_a_slash() {
        let inner = Namespace::none().below("/x").unwrap();
        assert_eq!(inner.absolute_sequential("/").unwrap(), "/x/");
        assert_eq!(inner.absolute_sequential("/a/").unwrap(), "/x/a/");
        assert!(inner.absolute("/a/").is_err());
        assert!(inner.absolute_sequential("/a//").is_err());
    }
}
