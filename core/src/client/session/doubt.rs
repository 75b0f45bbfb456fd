//! Whether the ensemble has gone back in time.
//!
//! A server that is behind what the client has seen hangs up without a word, which is also what a server without
//! quorum does. So a server that has hung up several times is asked for a new session by a client that has seen
//! nothing. If it gives one, and hangs up on the next handshake that names the last zxid, it serves and is behind.
//! One such pair may be a server that was just coming or going. When every server of the list has shown several, for
//! as long as a session lasts, waiting does not help: the ensemble lost data, or was restored from an older state.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::lease::Moment;

/// How often a server hangs up before it is probed: a restart is over by then.
const SILENT_MAX: u32 = 3;

/// How often a server takes a probe and then hangs up on the client before that is held against it.
const PAIRS_MAX: u32 = 3;

#[derive(Debug, Default, PartialEq, Eq)]
enum LastHandshake {
    #[default]
    Named,
    Probe {
        answered: bool,
    },
}

#[derive(Debug, Default)]
struct Doubt {
    silent: u32,
    last: LastHandshake,
    pairs: u32,
}

/// What is held against the servers, by their place in the list.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// When the first pair was seen.
    since: Option<Moment>,
    servers: BTreeMap<usize, Doubt>,
}

impl Doubts {
    /// A server has taken the session, or has said that it ended: all is well.
    pub(super) fn clear(&mut self) {
        *self = Doubts::default();
    }

    /// A server has hung up instead of answering a handshake that named the last zxid.
    pub(super) fn hung_up(&mut self, server: usize, now: Moment) {
        let doubt = self.servers.entry(server).or_default();
        doubt.silent = doubt.silent.saturating_add(1);
        if doubt.last == (LastHandshake::Probe { answered: true }) {
            doubt.pairs = doubt.pairs.saturating_add(1);
            self.since.get_or_insert(now);
        }
        doubt.last = LastHandshake::Named;
    }

    /// Whether the next handshake with a server should be a probe. Every other one is not: it may be well again.
    pub(super) fn wants_probe(&mut self, server: usize) -> bool {
        let Some(doubt) = self.servers.get_mut(&server) else { return false };
        let probe = doubt.silent >= SILENT_MAX && doubt.last == LastHandshake::Named;
        doubt.last = match (probe, &doubt.last) {
            (true, _) => LastHandshake::Probe { answered: false },
            (false, LastHandshake::Probe { answered: false }) => LastHandshake::Named,
            // It stays until the outcome of the handshake that names the zxid is known.
            (false, LastHandshake::Probe { answered: true }) => LastHandshake::Probe { answered: true },
            (false, LastHandshake::Named) => LastHandshake::Named,
        };
        probe
    }

    /// A server has given a session to a client that has seen nothing.
    pub(super) fn took_probe(&mut self, server: usize) {
        self.servers.entry(server).or_default().last = LastHandshake::Probe { answered: true };
    }

    /// Whether all servers are behind, and have been for so long.
    pub(super) fn proved(&self, servers: usize, now: Moment, patience: Duration) -> bool {
        let behind = self.servers.values().filter(|doubt| doubt.pairs >= PAIRS_MAX).count();
        behind == servers && self.since.is_some_and(|since| now.since(since) >= patience)
    }
}
