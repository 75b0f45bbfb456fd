//! Printing results. A reader that goes away is an error here and the quiet end of the command, not a panic.

use std::io::{ErrorKind, Write as _};

use anyhow::{Context as _, Result};

/// Prints bytes to standard output at once.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn print(bytes: impl AsRef<[u8]>) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes.as_ref()).and_then(|()| stdout.flush()).context("printing the result")
}

/// Whether a command failed because nobody reads its output any more.
pub(crate) fn reader_is_gone(error: &anyhow::Error) -> bool {
    let source = error.root_cause().downcast_ref::<std::io::Error>();
    source.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
        && error.to_string() == "printing the result"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_output_counts() {
        let broken = || std::io::Error::from(ErrorKind::BrokenPipe);
        let printing = Err::<(), _>(broken()).context("printing the result");
        assert!(reader_is_gone(&printing.unwrap_err()));
        let sending = Err::<(), _>(broken()).context("sending requests");
        assert!(!reader_is_gone(&sending.unwrap_err()));
        let full = Err::<(), _>(std::io::Error::from(ErrorKind::StorageFull)).context("printing the result");
        assert!(!reader_is_gone(&full.unwrap_err()));
    }
}
