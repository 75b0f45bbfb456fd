//! The line editor, on a thread of its own because it blocks. It is asked for one line at a time, so that the prompt
//! can tell the state of the session.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use docent::Client;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor, ExternalPrinter};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::completion::Completer;

/// Lines kept in the history file.
const HISTORY_MAX: usize = 10_000;
/// The name of the history file in the home folder.
const HISTORY_FILE: &str = ".docent_history";

/// Whether there is somebody to edit lines.
pub(crate) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// The editor's other end.
pub(crate) struct LineEditor {
    prompts: std::sync::mpsc::Sender<String>,
    lines: mpsc::UnboundedReceiver<Option<String>>,
    client: watch::Sender<Option<Client>>,
}

impl LineEditor {
    /// Starts the editor, and gives what prints above its prompt.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub(crate) fn start(runtime: Handle) -> Result<(LineEditor, Box<dyn ExternalPrinter + Send>)> {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .max_history_size(HISTORY_MAX)
            .context("setting the size of the history")?
            .auto_add_history(true)
            .build();
        let mut editor: Editor<Completer, FileHistory> =
            Editor::with_config(config).context("opening the terminal")?;
        let printer = editor.create_external_printer().context("opening the terminal")?;
        let (client, clients) = watch::channel(None);
        editor.set_helper(Some(Completer::new(runtime, clients)));
        let history = history_file();
        if let Some(file) = history.as_ref().filter(|file| file.exists()) {
            editor.load_history(file).with_context(|| format!("reading {}", file.display()))?;
        }
        let (prompts, wanted) = std::sync::mpsc::channel::<String>();
        // At most one line waits: one is read per prompt.
        let (taken, lines) = mpsc::unbounded_channel();
        std::thread::Builder::new()
            .name("line-editor".to_owned())
            .spawn(move || {
                while let Ok(prompt) = wanted.recv() {
                    let line = read_line(&mut editor, &prompt);
                    let ended = line.is_none();
                    if taken.send(line).is_err() || ended {
                        break;
                    }
                    if let Some(file) = &history {
                        // A home folder that cannot be written is no reason to stop.
                        let _unsaved = editor.append_history(file);
                    }
                }
            })
            .context("starting the line editor")?;
        Ok((LineEditor { prompts, lines, client }, Box::new(printer)))
    }

    /// Reads a line; `None` at the end of input.
    pub(crate) async fn read(&mut self, prompt: String) -> Option<String> {
        self.prompts.send(prompt).ok()?;
        self.lines.recv().await.flatten()
    }

    /// Paths are completed through this client from now on.
    pub(crate) fn set_client(&self, client: Option<Client>) {
        self.client.send_replace(client);
    }
}

fn read_line(editor: &mut Editor<Completer, FileHistory>, prompt: &str) -> Option<String> {
    match editor.readline(prompt) {
        Ok(line) => Some(line),
        // Ctrl-C gives up the line, not the shell.
        Err(ReadlineError::Interrupted) => Some(String::new()),
        Err(ReadlineError::Eof) => None,
        Err(error) => {
            tracing::warn!(%error, "the terminal cannot be read");
            None
        }
    }
}

fn history_file() -> Option<PathBuf> {
    std::env::home_dir().map(|home| home.join(HISTORY_FILE))
}
