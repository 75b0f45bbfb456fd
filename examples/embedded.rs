//! A server inside your own program: for development, for tests, or as a part of an appliance.
//!
//! `cargo run -p docent-examples --example embedded`

use anyhow::{Result, ensure};
use docent::Client;
use docent_server::Server;
use docent_server::testing::TestServer;

#[tokio::main]
async fn main() -> Result<()> {
    run().await
}

/// Starts servers, and shows what lasts.
pub(crate) async fn run() -> Result<()> {
    a_server_that_keeps_its_data().await?;
    a_server_for_a_test().await
}

async fn a_server_that_keeps_its_data() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for start in 1..=2 {
        // A free port on loopback. `Server::new(config)` takes everything that `zoo.cfg` can say.
        let server = Server::dev(folder.path()).start().await?;
        println!("start {start}: clients in any language connect to {}", server.connect_string());
        let client = Client::connect(server.connect_string()).await?;
        if client.exists("/greeting").await?.is_none() {
            client.create("/greeting", "hello").await?;
        }
        let greeting = client.get_data("/greeting").await?;
        println!("start {start}: {:?} was written by transaction {}", greeting.bytes(), greeting.stat.czxid);
        client.close().await?;
        // What was acknowledged is on disk: the stop loses nothing, and neither would a `kill -9`.
        server.stop().await?;
    }
    Ok(())
}

async fn a_server_for_a_test() -> Result<()> {
    // Its data goes with it, and it can be told to do to your program what networks do.
    let server = TestServer::start().await?;
    let client = Client::connect(server.connect_string()).await?;
    client.create("/here", "").ephemeral().await?;
    let session = client.session()?.id();

    server.cut_connection(session).await;
    ensure!(client.exists("/here").await?.is_some(), "a cut connection ends no session");
    println!("the connection was cut: the same session goes on, and its ephemeral node is there");

    server.expire_session(session).await;
    ensure!(client.exists("/here").await?.is_none(), "an ephemeral node outlived its session");
    let renewed = client.session_ready().await?.id();
    ensure!(renewed != session, "a session went on after its end");
    println!("the session was ended: its node is gone, and the client has a new session");
    client.close().await?;
    Ok(())
}
