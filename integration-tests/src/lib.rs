//! Simulation, real processes, containers and real peers.
//!
//! This package holds what the tests under `tests/` share. The part about **real peers** starts servers as child
//! processes ([`backend`]) and plays other people's clients against them ([`peers`]): Apache's Java and C clients, Curator
//! and kazoo, by small programs of our own that live in `integration-tests/peers/`. What needs to be installed is
//! installed by `.ci/install-peers`; a suite whose parts are missing says so and passes ([`availability`]), except in
//! continuous integration.
//!
//! An [`ensemble`] is several such servers of whatever makes together; under [`load`] it is known what its clients were
//! promised, and a history that breaks a promise is told.
//!
//! Between a client and any server stands, when a test wants it, the [`proxy`] that loses what networks lose.
//!
//! The programs are proved first: [`suites`] run against Apache's own servers, so that a failure against ours is ours.

pub mod apache;
pub mod availability;
pub mod backend;
pub mod certificates;
#[cfg(feature = "containers")]
pub mod containers;
pub mod differential;
pub mod docent_bin;
pub mod ensemble;
pub mod four_letter;
pub mod handovers;
pub mod load;
pub mod normalise;
pub mod peers;
pub mod proxy;
pub mod recipe_kit;
pub mod rust_contenders;
pub mod server_process;
pub mod sim;
pub mod start_line;
pub mod suites;
