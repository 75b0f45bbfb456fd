//! Exit codes that mean something of their own. Of the commands that run a program, the exit code is the program's, unless
//! one of the first two happened.

use std::process::ExitCode;

/// The hold was lost, and the program was stopped because of that (`EX_IOERR` of sysexits).
pub(crate) const LOST: u8 = 74;
/// It was not acquired: somebody else holds it, or the time was over (`EX_TEMPFAIL`: try again).
pub(crate) const NOT_ACQUIRED: u8 = 75;

/// `docent doctor` found something that may stop to work.
pub(crate) const WARNED: u8 = 3;
/// `docent doctor` found that two may hold at once, or that nobody ever will.
pub(crate) const WRONG: u8 = 4;

/// Makes an exit code.
pub(crate) fn with(code: u8) -> ExitCode {
    ExitCode::from(code)
}

/// Nobody reads what we print any more, as after `| head`: what a process exits with that is ended by `PIPE`.
pub(crate) const NO_READER: u8 = 141;
