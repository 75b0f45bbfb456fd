//! Apache's server and ours side by side: the same requests, and every answer the same.
//!
//! From a seed comes a program of requests by several sessions: sound ones and odd ones, alone and in multis, with
//! watches, identities, quotas and broken connections. Both servers run it, and everything that a client can see is
//! compared: every code, Stat, byte of data, list of children, ACL, watch event and its place between the answers, every
//! closed connection, and at the end the whole tree. Zxids must have the same distance from the program's beginning, so a
//! write that takes a number too many is seen as well.
//!
//! One session at a time acts, and all of its answers are awaited on both servers before the next one acts: then there is
//! one order, and what the servers do with it is no matter of chance.
//!
//! | file | what it is for |
//! |---|---|
//! | `program`, `generate`, `pools`, `wild` | what a seed stands for |
//! | `line`, `side`, `pair`, `tree` | one connection, one server, both servers, one server's whole tree |
//! | `worn` | a tree whose counters are near their ends |
//! | `heard`, `marks` | what came, with each server's own choices replaced by what they stand for |
//! | `compare`, `known` | the same or not, and the differences that are meant |
//! | `examples` | for each difference that is meant, a program that shows it |
//! | `run`, `shrink` | one program on both servers; a program that shows a difference made small |
//!
//! Left out: time (sessions that end by themselves, nodes that are swept), ensembles, and what several sessions do at once,
//! for which no answer is the only right one. The simulation looks after those.

mod compare;
mod examples;
mod generate;
mod heard;
mod known;
mod line;
mod marks;
mod pair;
mod pools;
mod program;
mod run;
mod shrink;
mod side;
mod tree;
mod wild;
pub mod worn;

pub use examples::{Example, examples};
pub use generate::generate;
pub use heard::{Body, Heard};
pub use known::{KNOWN, Known};
pub use pair::Pair;
pub use program::{Ask, Claim, Hello, Password, Program, Step, What, World};
pub use run::{Difference, Outcome};
pub use shrink::{Found, shrink};

use crate::availability::Need;
use crate::backend::Backend;

/// Which of Apache's servers stands beside ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// 3.8.0 from Debian.
    V38,
    /// 3.9.
    V39,
}

impl Peer {
    /// Both.
    pub const ALL: [Peer; 2] = [Peer::V38, Peer::V39];

    /// What must be installed to start it.
    pub fn needs(self) -> Vec<Need> {
        match self {
            Peer::V38 => Backend::Apache38.needs(),
            Peer::V39 => Backend::ApacheNewer.needs(),
        }
    }

    /// Its version, as the command line has it.
    pub fn version(self) -> &'static str {
        match self {
            Peer::V38 => "3.8",
            Peer::V39 => "3.9",
        }
    }
}

/// Steps of a program.
pub const STEPS: usize = 80;

/// The command that runs a seed again.
pub fn command(peer: Peer, seed: u64) -> String {
    format!("cargo differential {seed} --peer {}", peer.version())
}
