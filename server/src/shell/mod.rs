//! The thin shell: wait for one thing, read the clock once, step, carry the effects out in order. It decides nothing.

mod clock;
mod ensemble;
mod facts;
mod log_source;
mod members_file;
mod options;
mod peers;
mod perform;
mod receive;
#[cfg(test)]
mod receive_tests;
mod reload;
mod run;
mod start;

pub(crate) use ensemble::Membership;
pub(crate) use facts::Facts;
pub use log_source::LogSource;
pub use members_file::MembersFile;
pub(crate) use options::read_logins;
pub(crate) use run::LookFn;
pub use run::Stopped;
pub(crate) use run::{Control, Halt};
pub(crate) use start::Options;
pub use start::StartError;
pub(crate) use start::{Listen, Running, start};
