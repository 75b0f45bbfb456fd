//! Servers inside tests: no Docker, no JVM, one line.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use docent_server::testing::TestServer;
//!
//! let server = TestServer::start().await?;
//! let client = docent::Client::connect(server.connect_string()).await?;
//! client.create("/hello", "world").await?;
//! # Ok(())
//! # }
//! ```

mod ensemble;
mod single;

pub use ensemble::TestEnsemble;
pub use single::TestServer;
