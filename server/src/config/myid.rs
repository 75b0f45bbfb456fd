//! The `myid` file: one line in `dataDir` with this server's number.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::members::{Ensemble, ServerId};

/// Why this server does not know its place in the ensemble. The first three are worded as Apache words them, because
/// scripts and people look for them.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MyIdError {
    /// An ensemble needs the file.
    #[error("myid file is missing")]
    Missing,
    /// The first line is something else than a number.
    #[error("serverid {0} is not a number")]
    NotANumber(String),
    /// No `server.N` line has this number.
    #[error("My id {0} not in the peer list")]
    NotListed(ServerId),
    /// The number is outside of what session ids can carry.
    #[error("serverid {0} is negative: write a number from 1 to 254")]
    Negative(i64),
    /// The file is there and cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Reads `<data_dir>/myid`. `None` if there is no such file, which is right for a standalone server.
///
/// # Errors
/// The file cannot be read, or its first line is not a number.
pub fn read(data_dir: &Path) -> Result<Option<ServerId>, MyIdError> {
    let path = data_dir.join("myid");
    if !path.is_file() {
        return Ok(None);
    }
    match fs::read(&path) {
        Ok(bytes) => parse(&bytes).map(Some),
        Err(source) => Err(MyIdError::Read { path, source }),
    }
}

/// Writes `<data_dir>/myid`.
///
/// # Errors
/// The folder cannot be made, or the file not be written.
pub fn write(data_dir: &Path, id: ServerId) -> io::Result<()> {
    fs::create_dir_all(data_dir)?;
    fs::write(data_dir.join("myid"), format!("{}\n", id.0))
}

/// The number in the file's first line.
///
/// # Errors
/// The line is not a number. White space around it counts as part of it, as in Apache: a file that one server takes
/// must not stop the other.
pub fn parse(bytes: &[u8]) -> Result<ServerId, MyIdError> {
    if bytes.is_empty() {
        // Apache's reader gets no line at all and prints Java's word for that.
        return Err(MyIdError::NotANumber("null".to_owned()));
    }
    let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(bytes.len());
    let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
    match line.parse::<i64>() {
        Ok(id) => u64::try_from(id).map(ServerId).map_err(|_| MyIdError::Negative(id)),
        Err(_) => Err(MyIdError::NotANumber(line)),
    }
}

/// Checks a number against the ensemble: a member must have one, and it must be listed.
///
/// # Errors
/// The number is missing or not listed.
pub fn check(id: Option<ServerId>, ensemble: &Ensemble) -> Result<Option<ServerId>, MyIdError> {
    match id {
        _ if !ensemble.is_distributed() => Ok(id),
        None => Err(MyIdError::Missing),
        Some(id) if ensemble.members.contains_key(&id) => Ok(Some(id)),
        Some(id) => Err(MyIdError::NotListed(id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_number() {
        for text in ["3", "3\n", "3\r\n", "3\nanything", "+3\n", "003"] {
            assert_eq!(parse(text.as_bytes()).ok(), Some(ServerId(3)), "{text:?}");
        }
    }

    #[test]
    fn other_lines_are_refused_in_apaches_words() {
        for (text, message) in [
            ("", "serverid null is not a number"),
            ("\n3", "serverid  is not a number"),
            ("x\n", "serverid x is not a number"),
            ("3 \n", "serverid 3  is not a number"),
            ("-3", "serverid -3 is negative: write a number from 1 to 254"),
        ] {
            assert_eq!(
                parse(text.as_bytes()).map_err(|e| e.to_string()),
                Err(message.to_owned()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_missing_file_is_no_error_until_there_is_an_ensemble() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert!(read(dir.path()).expect("no file is fine").is_none());
        fs::write(dir.path().join("myid"), "7\n").expect("the file can be written");
        assert_eq!(read(dir.path()).expect("a number"), Some(ServerId(7)));

        let mut ensemble = Ensemble::default();
        assert!(check(None, &ensemble).is_ok());
        for id in 1..=3 {
            ensemble.members.insert(ServerId(id), "h:1:2".parse().expect("a member"));
        }
        let message = |id| check(id, &ensemble).map_err(|error| error.to_string());
        assert_eq!(message(None), Err("myid file is missing".to_owned()));
        assert_eq!(message(Some(ServerId(9))), Err("My id 9 not in the peer list".to_owned()));
        assert_eq!(message(Some(ServerId(2))), Ok(Some(ServerId(2))));
    }
}
