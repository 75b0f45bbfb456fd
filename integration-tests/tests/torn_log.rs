//! The end of the log torn at every byte length: a server starts on it with every write but those that were torn.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use docent::{Client, SessionId, Version};
use docent_server::{Server, ServerHandle};

/// Writes before the last one.
const WRITES: u64 = 20;

async fn serve(folder: &Path) -> Result<ServerHandle> {
    let mut server = Server::dev(folder);
    server.config_mut().storage.pre_alloc_kib = 64;
    Ok(server.start().await?)
}

/// The newest log file below a data folder, and where its last byte that is not padding ends.
fn log_end(folder: &Path) -> Result<(PathBuf, usize)> {
    let mut logs: Vec<PathBuf> = fs::read_dir(folder.join("version-2"))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log.")))
        .collect();
    logs.sort();
    let log = logs.pop().context("no log")?;
    let bytes = fs::read(&log)?;
    let end = bytes.iter().rposition(|byte| *byte != 0).context("an empty log")? + 1;
    Ok((log, end))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.join("version-2"))?;
    for entry in fs::read_dir(from.join("version-2"))? {
        let entry = entry?;
        fs::copy(entry.path(), to.join("version-2").join(entry.file_name()))?;
    }
    Ok(())
}

/// The values of a folder that was written to: `/counter`, and the session whose ephemeral node is there.
async fn written(folder: &Path) -> Result<SessionId> {
    let server = serve(folder).await?;
    let client = Client::connect(server.connect_string()).await?;
    client.create("/counter", "0").await?;
    client.create("/mine", "").ephemeral().await?;
    for value in 1..=WRITES {
        client.set_data("/counter", value.to_string(), Version::ANY).await?;
    }
    let session = client.session_ready().await?.id();
    // The session is not closed: the folder is as a crash would leave it.
    server.stop().await?;
    // Nor may it be closed later. A client that is only dropped goes on looking for a server to close it at, for a while,
    // and one of those to come may be given the same port.
    let unanswered = client.close().await;
    ensure!(unanswered.is_err(), "closed by a server that had stopped: {unanswered:?}");
    Ok(session)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_on_every_torn_end() -> Result<()> {
    let home = tempfile::tempdir()?;
    let original = home.path().join("original");
    fs::create_dir_all(&original)?;
    let session = written(&original).await?;
    let (log, end) = log_end(&original)?;
    // The last record: header of 12 bytes, and what a set of a few bytes takes.
    let length = 12 + 32 + 4 + "/counter".len() + 4 + 2 + 4 + 12 + 1;
    for kept in (end - length)..=end {
        let torn = home.path().join(format!("torn-{kept}"));
        copy(&original, &torn)?;
        let copied = torn.join("version-2").join(log.file_name().context("a name")?);
        let bytes = fs::read(&copied)?;
        fs::write(&copied, &bytes[..kept])?;
        let server = serve(&torn).await.with_context(|| format!("{kept} of {end} bytes kept"))?;
        let (value, owner) = server
            .look(|node| {
                let counter = node.tree().node("/counter").and_then(|node| node.data().map(<[u8]>::to_vec));
                (counter, node.tree().node("/mine").map(|node| node.stat().ephemeral_owner))
            })
            .await
            .context("the server has ended")?;
        let expected = if kept == end { WRITES } else { WRITES - 1 };
        ensure!(value == Some(expected.to_string().into_bytes()), "{kept} of {end} bytes kept: {value:?}");
        ensure!(owner == Some(session), "the ephemeral node belongs to {owner:?}");
        server.stop().await?;
        fs::remove_dir_all(&torn)?;
    }
    Ok(())
}
