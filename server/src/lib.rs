//! A ZooKeeper-compatible coordination server: as a library, inside other people's tests, and as the binary `docent`.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use docent_server::Server;
//!
//! let server = Server::dev("/tmp/docent").start().await?;
//! println!("clients connect to {}", server.connect_string());
//! server.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Inside, the server is a value, [`node::Node`]: it is told what happened and answers what should be done. Around it a
//! thin shell of sockets, clocks and files. `ARCHITECTURE.md` in the repository is the map.

mod builder;
pub mod config;
mod index;
pub mod limits;
pub mod load;
pub mod metrics;
mod net;
pub mod node;
mod server;
pub mod session;
mod shell;
pub mod storage;
pub mod testing;
pub mod tree;
pub mod watch;
pub mod zab;

pub use builder::ServerBuilder;
pub use server::{Server, ServerHandle};
pub use shell::{LogSource, MembersFile, StartError, Stopped};
