//! What the tab key offers: commands, and paths of nodes by asking the server.

use std::time::Duration;

use docent::Client;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::text::command_names;

/// How long a key press may wait for the server.
const PATIENCE: Duration = Duration::from_millis(300);
/// Offers that are shown at most.
const OFFERS_MAX: usize = 1000;

/// What is to be completed in a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted<'a> {
    /// The name of a command that begins so.
    Command(&'a str),
    /// A child of `parent` whose name begins so.
    Child {
        /// The parent's path.
        parent: &'a str,
        /// The begin of the name.
        name: &'a str,
    },
}

/// PURE. What the word before the cursor may become, and where that word begins.
pub(crate) fn wanted(before_cursor: &str) -> (usize, Wanted<'_>) {
    let begin = before_cursor
        .rfind(char::is_whitespace)
        .map_or(0, |at| at + before_cursor[at..].chars().next().map_or(1, char::len_utf8));
    let word = &before_cursor[begin..];
    match word.rfind('/') {
        Some(slash) if word.starts_with('/') => {
            let parent = if slash == 0 { "/" } else { &word[..slash] };
            (begin, Wanted::Child { parent, name: &word[slash + 1..] })
        }
        _ => (begin, Wanted::Command(word)),
    }
}

/// Completes for the line editor, on the editor's own thread.
pub(crate) struct Completer {
    runtime: Handle,
    client: watch::Receiver<Option<Client>>,
}

impl Completer {
    /// Asks through the newest client in `client`.
    pub(crate) fn new(runtime: Handle, client: watch::Receiver<Option<Client>>) -> Completer {
        Completer { runtime, client }
    }

    /// The offers for a line, and where the word begins that they replace. None when the server does not answer at
    /// once.
    pub(crate) fn offers(&self, before_cursor: &str) -> (usize, Vec<String>) {
        let (begin, wanted) = wanted(before_cursor);
        let offers = match wanted {
            Wanted::Command(start) => {
                command_names().filter(|name| name.starts_with(start)).map(str::to_owned).collect()
            }
            Wanted::Child { parent, name } => self.children(parent, name),
        };
        (begin, offers)
    }

    fn children(&self, parent: &str, start: &str) -> Vec<String> {
        let Some(client) = self.client.borrow().clone() else { return Vec::new() };
        let answer = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, client.get_children(parent)).await });
        let Ok(Ok(children)) = answer else { return Vec::new() };
        let names = children.names.iter().filter(|name| name.starts_with(start));
        names.take(OFFERS_MAX).map(|name| docent::path::join(parent, name)).collect()
    }
}

impl rustyline::completion::Completer for Completer {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.offers(&line[..position]))
    }
}

impl rustyline::hint::Hinter for Completer {
    type Hint = String;
}

impl rustyline::highlight::Highlighter for Completer {}
impl rustyline::validate::Validator for Completer {}
impl rustyline::Helper for Completer {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_completed() {
        let child = |parent, name| Wanted::Child { parent, name };
        for (line, expected) in [
            ("", (0, Wanted::Command(""))),
            ("l", (0, Wanted::Command("l"))),
            ("ls /", (3, child("/", ""))),
            ("ls -s /zoo", (6, child("/", "zoo"))),
            ("ls /a/b/c", (3, child("/a/b", "c"))),
            ("ls /a/", (3, child("/a", ""))),
            ("set /a x/y", (7, Wanted::Command("x/y"))),
            ("ls ", (3, Wanted::Command(""))),
        ] {
            assert_eq!(wanted(line), expected, "{line:?}");
        }
    }

    #[test]
    fn commands_are_offered_without_a_server() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (_sender, receiver) = watch::channel(None);
        let completer = Completer::new(runtime.handle().clone(), receiver);
        assert_eq!(
            completer.offers("getA"),
            (0, vec!["getAcl".to_owned(), "getAllChildrenNumber".to_owned()])
        );
        assert_eq!(completer.offers("ls /z"), (3, vec![]));
    }
}
