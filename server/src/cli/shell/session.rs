//! The shell's own state: the connection, the history, and what a line does.

use std::sync::Arc;
use std::time::Duration;

use docent::{Client, CloseCause, ConnState, Retry};
use jiff::tz::TimeZone;
use tokio::task::AbortHandle;

use super::command::{Command, Parsed, Refusal};
use super::execute::{Context, execute};
use super::failure::Failure;
use super::history::History;
use super::output::Output;
use super::watches::Watches;
use super::{line, parse, text};

/// How the shell connects.
#[derive(Clone, Debug)]
pub(crate) struct Connecting {
    /// The connect string.
    pub(crate) hosts: String,
    /// The session timeout; also how long a first answer is waited for.
    pub(crate) timeout: Duration,
    /// Whether a read-only server will do.
    pub(crate) read_only: bool,
}

/// Whether the shell goes on after a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// It takes the next line.
    Continue,
    /// It ends.
    Quit,
}

struct Connection {
    client: Client,
    /// Prints what happens to the session.
    state_printer: AbortHandle,
}

/// A shell.
pub(crate) struct Shell {
    connecting: Connecting,
    connection: Option<Connection>,
    output: Arc<Output>,
    watches: Watches,
    history: History,
    zone: TimeZone,
    exit_code: u8,
}

impl Shell {
    /// A shell without a connection.
    pub(crate) fn new(connecting: Connecting, output: Arc<Output>) -> Shell {
        Shell {
            connecting,
            connection: None,
            watches: Watches::new(Arc::clone(&output)),
            output,
            history: History::default(),
            zone: TimeZone::system(),
            exit_code: 0,
        }
    }

    /// What the process shall exit with: the outcome of the last command.
    pub(crate) fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// The client, as long as it is connected or may be again.
    pub(crate) fn client(&self) -> Option<&Client> {
        let alive = |connection: &&Connection| !is_closed(&connection.client);
        self.connection.as_ref().filter(alive).map(|connection| &connection.client)
    }

    /// The prompt, as Apache's shell shows it.
    pub(crate) fn prompt(&self) -> String {
        let state = match self.client().map(|client| client.state().current()) {
            Some(ConnState::Connected { .. }) => "CONNECTED",
            Some(ConnState::ReadOnly { .. }) => "CONNECTEDREADONLY",
            Some(ConnState::Closed { .. }) | None => "CLOSED",
            Some(_) => "CONNECTING",
        };
        format!("[zk: {}({state}) {}] ", self.connecting.hosts, self.history.next_number())
    }

    /// Connects, after closing what is open.
    ///
    /// # Errors
    /// No server gives a session in time.
    pub(crate) async fn connect(&mut self) -> Result<(), Failure> {
        self.close().await;
        let timeout = self.connecting.timeout;
        let client = Client::builder(&*self.connecting.hosts)
            .session_timeout(timeout)
            .read_only(self.connecting.read_only)
            .retry(Retry::default().budget(timeout))
            .connect()
            .await?;
        let state = client.state().current();
        self.watches.print(state_name(&state).unwrap_or("SyncConnected"), "None", None);
        let state_printer =
            tokio::spawn(print_states(client.clone(), self.watches.clone(), state)).abort_handle();
        self.connection = Some(Connection { client, state_printer });
        Ok(())
    }

    /// Ends the session, if there is one.
    pub(crate) async fn close(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        connection.state_printer.abort();
        self.watches.forget();
        let was_open = !is_closed(&connection.client);
        if let Err(error) = connection.client.close().await {
            tracing::warn!(%error, "the session was not closed, it ends by its timeout");
        }
        if was_open {
            self.watches.print("Closed", "None", None);
        }
    }

    /// Ends the session at the end of input, without a word.
    pub(crate) async fn hang_up(mut self) {
        self.watches.set_printed(false);
        self.close().await;
    }

    /// Carries out a line that was typed or piped in. An empty one is nothing.
    pub(crate) async fn run_line(&mut self, line: &str) -> Flow {
        if line.is_empty() {
            return Flow::Continue;
        }
        self.history.begin(line);
        let mut words = line::split(line);
        if words.is_empty() {
            // Nothing but a quote that was never closed: as in Apache's shell, there is no command in it.
            words.push(String::new());
        }
        let flow = self.run_words(&words).await;
        self.history.end();
        flow
    }

    /// Carries out one command.
    pub(crate) async fn run_words(&mut self, words: &[String]) -> Flow {
        let outcome = self.dispatch(words).await;
        // What the command has caused is told before the next prompt.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        match outcome {
            Ok(Flow::Quit) => Flow::Quit,
            Ok(Flow::Continue) => {
                self.exit_code = 0;
                Flow::Continue
            }
            Err(failure) => {
                self.output.note(&failure.message);
                self.exit_code = failure.exit_code;
                Flow::Continue
            }
        }
    }

    async fn dispatch(&mut self, words: &[String]) -> Result<Flow, Failure> {
        let parsed =
            match parse::parse(words, &|file| std::fs::read_to_string(file).map_err(|e| format!(" ({e})"))) {
                Ok(parsed) => parsed,
                Err(Refusal::NotFound(name)) => {
                    self.output.note(text::usage().trim_end_matches('\n'));
                    let message = format!("Command not found: Command not found {name}");
                    return Err(Failure { message, exit_code: 127 });
                }
                Err(Refusal::Wrong { complaint, notes }) => {
                    if self.client().is_none() {
                        return Ok(self.not_connected());
                    }
                    notes.iter().for_each(|note| self.output.note(note));
                    return Err(complaint.into());
                }
            };
        let Parsed { command, notes } = parsed;
        if command == Command::Quit {
            self.close().await;
            return Ok(Flow::Quit);
        }
        self.run_own(&command).await?;
        let Some(client) = self.client().cloned() else { return Ok(self.not_connected()) };
        notes.iter().for_each(|note| self.output.note(note));
        if command == Command::Close {
            self.close().await;
            return Ok(Flow::Continue);
        }
        let context = Context {
            client,
            output: Arc::clone(&self.output),
            watches: self.watches.clone(),
            zone: self.zone.clone(),
        };
        execute(&context, command).await?;
        Ok(Flow::Continue)
    }

    fn not_connected(&self) -> Flow {
        self.output.result("Not connected\n");
        Flow::Continue
    }

    /// Commands that work without a connection.
    async fn run_own(&mut self, command: &Command) -> Result<(), Failure> {
        match command {
            Command::Connect { hosts } => {
                if let Some(hosts) = hosts {
                    self.connecting.hosts.clone_from(hosts);
                }
                self.connect().await?;
            }
            Command::Help => self.output.note(text::usage().trim_end_matches('\n')),
            Command::History => self.output.result(&self.history.last_lines()),
            Command::PrintWatches { on: Some(on) } => self.watches.set_printed(*on),
            Command::PrintWatches { on: None } => {
                let word = if self.watches.are_printed() { "on" } else { "off" };
                self.output.result(&format!("printwatches is {word}\n"));
            }
            Command::Redo { number: Some(number) } => {
                let line = self.history.redo(*number)?;
                // Boxed because a line may contain any command; it is no redo, so this goes one level deep.
                Box::pin(self.run_words(&line::split(&line))).await;
            }
            _ => {}
        }
        Ok(())
    }
}

fn is_closed(client: &Client) -> bool {
    matches!(client.state().current(), ConnState::Closed { .. })
}

/// Java's name of a state; `None` for those that have none.
fn state_name(state: &ConnState) -> Option<&'static str> {
    Some(match state {
        ConnState::Connected { .. } => "SyncConnected",
        ConnState::ReadOnly { .. } => "ConnectedReadOnly",
        ConnState::Suspended { .. } => "Disconnected",
        ConnState::Lost { .. } => "Expired",
        ConnState::Closed { cause: CloseCause::AuthFailed } => "AuthFailed",
        ConnState::Closed { .. } => "Closed",
        _ => return None,
    })
}

/// Prints each change of the session's state.
async fn print_states(client: Client, watches: Watches, first: ConnState) {
    let mut states = client.state();
    drop(client);
    let mut last = state_name(&first);
    loop {
        let state = states.changed().await;
        let name = state_name(&state);
        if let Some(name) = name.filter(|_| name != last) {
            watches.print(name, "None", None);
        }
        last = name;
        if matches!(state, ConnState::Closed { .. }) {
            return;
        }
    }
}
