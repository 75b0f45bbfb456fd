//! The harness itself: what the other suites take for granted about servers that are killed, frozen and started again.

use std::time::Duration;

use anyhow::{Result, ensure};
use docent_integration_tests::availability::{Need, Suite};
use docent_integration_tests::backend::{Backend, Options};
use docent_integration_tests::four_letter;
use docent_integration_tests::peers::zkcli;

const NEEDS: [Need; 3] = [Need::Jdk, Need::Apache38, Need::ZkCli];

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_comes_back_with_its_data_on_its_port() -> Result<()> {
    let Some(_suite) = Suite::begin("harness: kill and restart", &NEEDS) else { return Ok(()) };
    let mut server = Backend::Apache38.start(&[]).await?;
    let connect = server.connect_string();
    zkcli::one_shot(&connect, "create /kept data").await?.success()?;
    server.kill()?;
    ensure!(server.ask("ruok").await.is_err(), "a killed server answers");
    server.restart().await?;
    ensure!(server.connect_string() == connect);
    let output = zkcli::one_shot(&connect, "get /kept").await?.success()?;
    ensure!(output.stdout.lines().any(|line| line == "data"), "{}", output.stdout);

    // A second server opens a copy of what the first has written.
    server.process().stop().await?;
    let options = Options { data: Some(&server.data()), ..Options::default() };
    let heir = Backend::Apache38.start_with(options).await?;
    zkcli::one_shot(&heir.connect_string(), "get /kept").await?.success()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_silent_and_goes_on_when_thawed() -> Result<()> {
    let Some(_suite) = Suite::begin("harness: freeze and thaw", &NEEDS[..2]) else { return Ok(()) };
    let mut server = Backend::Apache38.start(&[]).await?;
    for _ in 0..5 {
        server.process().freeze().await?;
        let silent = four_letter::ask(server.address(), "ruok", Duration::from_millis(200)).await;
        ensure!(silent.is_err(), "a frozen server answers: {silent:?}");
        server.process().thaw()?;
        ensure!(server.ask("ruok").await? == "imok");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_line_replaces_the_usual_one() -> Result<()> {
    let Some(_suite) = Suite::begin("harness: configuration", &NEEDS[..2]) else { return Ok(()) };
    let server = Backend::Apache38.start(&["tickTime=300", "minSessionTimeout=900"]).await?;
    let answer = server.ask("conf").await?;
    for line in ["tickTime=300", "minSessionTimeout=900", "maxClientCnxns=0"] {
        ensure!(answer.lines().any(|seen| seen == line), "no {line} in {answer}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_start_says_why() -> Result<()> {
    let Some(_suite) = Suite::begin("harness: refusal", &NEEDS[..2]) else { return Ok(()) };
    let Err(error) = Backend::Apache38.start(&["tickTime=nonsense"]).await else {
        anyhow::bail!("it started");
    };
    let text = format!("{error:#}");
    ensure!(text.contains("ended by itself") && text.contains("nonsense"), "{text}");
    Ok(())
}
