//! PURE. Why a command failed, as the shell prints it, and the exit code that says so.

use docent::{Error, ErrorCode};

use super::text::{keeper_error, refusal};

/// A command that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What is printed on standard error.
    pub(crate) message: String,
    /// What the process exits with, if this was its last command.
    pub(crate) exit_code: u8,
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Failure { message, exit_code: 1 }
    }
}

/// What a request failed with, in Apache's words. The path is the one that the request named.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::from(describe(&error))
    }
}

fn named(path: &str) -> Option<&str> {
    Some(path).filter(|path| !path.is_empty())
}

fn describe(error: &Error) -> String {
    match error {
        Error::Server { path, code, .. } => refusal(*code, named(path)),
        Error::ConnectionLoss { path, .. } => keeper_error(ErrorCode::CONNECTION_LOSS, named(path)),
        Error::SessionEnded { .. } | Error::Closed => keeper_error(ErrorCode::SESSION_EXPIRED, None),
        Error::AuthFailed => keeper_error(ErrorCode::AUTH_FAILED, None),
        Error::InvalidPath(source) => source.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use docent::{OpCode, SessionId};

    #[test]
    fn failures_are_worded_as_apache_words_them() {
        let server = |op, path: &str, code| Error::Server { op, path: path.into(), code };
        for (error, message) in [
            (server(OpCode::GetData, "/nope", ErrorCode::NO_NODE), "Node does not exist: /nope"),
            (
                server(OpCode::Reconfig, "", ErrorCode::RECONFIG_DISABLED),
                "KeeperErrorCode = Reconfig is disabled",
            ),
            (
                Error::ConnectionLoss { op: OpCode::GetData, path: "/".into(), may_have_applied: false },
                "KeeperErrorCode = ConnectionLoss for /",
            ),
            (Error::SessionEnded { session: SessionId(1) }, "KeeperErrorCode = Session expired"),
        ] {
            let failure = Failure::from(error);
            assert_eq!((&*failure.message, failure.exit_code), (message, 1));
        }
    }
}
