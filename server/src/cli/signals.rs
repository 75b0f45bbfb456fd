//! The signals that end a command or are passed on to its child.

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

/// Signals that are listened to. Those of the first four end us while we have no child.
const SIGNALS: [Signal; 6] =
    [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

/// Signals sent to this process, from the moment that this value is made.
pub(crate) struct Signals {
    listeners: Vec<(Signal, Listener)>,
}

impl Signals {
    /// Listens from now on; none of the signals ends the process by itself any more.
    ///
    /// # Errors
    /// The runtime cannot listen.
    pub(crate) fn listen() -> Result<Signals> {
        let listen = |one: Signal| {
            let listener = signal(SignalKind::from_raw(one.as_raw()));
            listener.map(|listener| (one, listener)).with_context(|| format!("listening to {one:?}"))
        };
        Ok(Signals { listeners: SIGNALS.into_iter().map(listen).collect::<Result<_>>()? })
    }

    /// The next signal.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Signal {
        std::future::poll_fn(|cx| {
            for (signal, listener) in &mut self.listeners {
                if listener.poll_recv(cx).is_ready() {
                    return std::task::Poll::Ready(*signal);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// The next signal that ends a command without a child.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(crate) async fn end(&mut self) -> Signal {
        loop {
            let signal = self.next().await;
            if !matches!(signal, Signal::USR1 | Signal::USR2) {
                return signal;
            }
        }
    }
}

/// What a process exits with that was ended by a signal, as shells tell it.
pub(crate) fn exit_code_of(signal: Signal) -> u8 {
    u8::try_from(128 + signal.as_raw()).unwrap_or(u8::MAX)
}
