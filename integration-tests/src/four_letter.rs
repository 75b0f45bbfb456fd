//! Four-letter words, asked from outside: one connection, four bytes, everything until the end.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No answer is longer than this; `dump` and `wchp` of a test's server are far below.
const ANSWER_MAX: u64 = 1 << 20;

/// Asks one word and reads the answer to its end.
///
/// # Errors
/// When the server cannot be reached, breaks the connection, or does not answer within `bound`.
pub async fn ask(address: SocketAddr, word: &str, bound: Duration) -> Result<String> {
    let talk = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(word.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    match timeout(bound, talk).await {
        Ok(answer) => answer.with_context(|| format!("{word} at {address}")),
        Err(_) => bail!("{word} at {address}: no answer within {bound:?}"),
    }
}

/// The value of one line of `srvr`, such as `Mode` or `Zxid`.
pub fn field<'a>(srvr: &'a str, name: &str) -> Option<&'a str> {
    srvr.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}
