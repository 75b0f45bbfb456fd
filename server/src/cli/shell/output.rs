//! Where the shell prints: results on standard output, everything else on standard error, and events, which come at
//! any time, above the prompt when there is one.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use rustyline::ExternalPrinter;

/// Prints above the line that is being edited.
type AbovePrompt = Box<dyn ExternalPrinter + Send>;

/// The places that the shell prints to. Shared by the command that runs and the watches that fire.
pub(crate) struct Output {
    above_prompt: Option<Mutex<AbovePrompt>>,
}

impl Output {
    /// Events go to standard output.
    pub(crate) fn plain() -> Output {
        Output { above_prompt: None }
    }

    /// Events go above the prompt.
    pub(crate) fn above(printer: AbovePrompt) -> Output {
        Output { above_prompt: Some(Mutex::new(printer)) }
    }

    /// Prints a result; line ends are part of the text. A reader that has gone away is no error of ours.
    pub(crate) fn result(&self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        let _gone = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }

    /// Prints a line about what was done or went wrong.
    pub(crate) fn note(&self, line: &str) {
        let _gone = writeln!(std::io::stderr().lock(), "{line}");
    }

    /// Prints an event; line ends are part of the text.
    pub(crate) fn event(&self, text: &str) {
        match &self.above_prompt {
            Some(printer) => {
                let mut printer = printer.lock().unwrap_or_else(PoisonError::into_inner);
                if printer.print(text.to_owned()).is_err() {
                    self.result(text);
                }
            }
            None => self.result(text),
        }
    }
}
