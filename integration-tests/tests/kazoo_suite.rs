//! kazoo's own test suite against our servers: a plugin for pytest starts ours where kazoo would start Apache's
//! (`peers/python/docent_kazoo.py`). What passes there passes here. The certificates that kazoo makes for TLS go from Java's
//! stores into PEM on the way.
//!
//! Its tests wait more than they work, so a few run side by side, each group of modules with servers of its own. Some of
//! them count on a machine that is quick enough for their own bounds: one that fails is given one more try, alone, and
//! that is said.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent_integration_tests::availability::{Need, Suite, kazoo_suite_home, note, programs};
use docent_integration_tests::docent_bin;
use docent_integration_tests::peers::Program;
use docent_integration_tests::server_process::free_ports;
use tempfile::TempDir;
use tokio::task::JoinSet;

/// Groups that take about equally long. Modules that need no server are with the last.
const GROUPS: [&[&str]; 4] = [
    &["client"],
    &["connection", "partitioner", "barrier", "counter", "election", "queue"],
    &["lock", "lease", "party", "cache"],
    &[
        "watchers",
        "build",
        "sasl",
        "interrupt",
        "eventlet_handler",
        "exceptions",
        "gevent_handler",
        "hosts",
        "paths",
        "retry",
        "security",
        "selectors_select",
        "threading_handler",
        "utils",
    ],
];

/// On Apache's servers (3.8.0, three of them, kazoo 2.11.0) 316 pass, and 177 are skipped for want of gevent and the like.
const PASS_AT_LEAST: usize = 316;

/// Where it matters whether a server has peers: requests, sessions, watches, logins.
const ALONE: [&[&str]; 2] = [&["client"], &["connection", "sasl", "watchers"]];

/// These need peers: they fail on a server of Apache's that is alone, too.
const FAIL_ALONE: [&str; 5] = [
    "test_client::TestClient::test_update_host_list",
    "test_client::TestReconfig::test_add_remove_observer",
    "test_client::TestReconfig::test_bad_input",
    "test_client::TestReconfig::test_no_super_auth",
    "test_connection::TestReadOnlyMode::test_read_only",
];

/// As many as on a server of Apache's (3.8.0) that is alone.
const PASS_ALONE_AT_LEAST: usize = 143;

/// The whole suite with a JVM each took ten minutes on a busy machine.
const GROUP_BOUND: Duration = Duration::from_secs(900);
const TEST_BOUND_S: &str = "120";

/// kazoo gives each server ten ports, from the one that it is told on.
const PORTS_EACH: u16 = 10;

/// Runs modules, or of them some tests only, on an ensemble of its own. How each test ended, by its name.
async fn run(
    folder: &Path,
    servers: u16,
    modules: Vec<String>,
    only: &str,
) -> Result<BTreeMap<String, String>> {
    let report = folder.join("report");
    let path = std::env::join_paths([kazoo_suite_home(), programs().join("python")])?;
    let program = Program::new(format!("kazoo's suite: {}", modules.join(" ")), "python3")
        .args(["-B", "-m", "pytest", "-p", "no:cacheprovider", "-p", "docent_kazoo", "-q"])
        .args(["--timeout", TEST_BOUND_S, "--rootdir", "/", "-c", "/dev/null", "--pyargs"])
        .args(modules.iter().map(|module| format!("kazoo.tests.test_{module}")))
        .env("PYTHONPATH", path)
        .env("TMPDIR", folder)
        .env("DOCENT_BIN", docent_bin::binary()?)
        .env("DOCENT_LOGS", folder)
        .env("DOCENT_REPORT", &report)
        .env("DOCENT_ONLY", only)
        .env("ZOOKEEPER_VERSION", "3.9.0")
        .env("CI", "true")
        .env("ZOOKEEPER_CLASSPATH", "-")
        .env("ZOOKEEPER_CLUSTER_SIZE", servers.to_string())
        .env("ZOOKEEPER_PORT_OFFSET", free_ports(servers * PORTS_EACH)?.to_string());
    let output = program.run(GROUP_BOUND).await?;
    let lines = std::fs::read_to_string(&report)
        .with_context(|| format!("no test was run\n{}\n{}", output.stdout, output.stderr))?;
    let mut ended = BTreeMap::new();
    for (outcome, name) in lines.lines().filter_map(|line| line.split_once(' ')) {
        // What failed in its body and again in its end stays failed.
        let worst = ended.entry(name.to_owned()).or_insert_with(|| outcome.to_owned());
        if outcome == "failed" {
            *worst = outcome.to_owned();
        }
    }
    if ended.values().any(|outcome| outcome == "failed") {
        note(&format!("{}\n{}", output.name, tail(&output.stdout)));
    }
    Ok(ended)
}

/// The end of what pytest prints: what failed, and why.
fn tail(text: &str) -> &str {
    const BYTES: usize = 20_000;
    let mut from = text.len().saturating_sub(BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// Runs groups of modules side by side. What fails and may not is given its one more try; how many passed.
async fn passed(
    servers: u16,
    groups: &'static [&'static [&'static str]],
    may_fail: &[&str],
) -> Result<usize> {
    let mut running = JoinSet::new();
    for group in groups {
        running.spawn(async move {
            let folder = TempDir::new()?;
            run(folder.path(), servers, group.iter().map(|module| (*module).to_owned()).collect(), "").await
        });
    }
    let mut ended = BTreeMap::new();
    while let Some(group) = running.join_next().await {
        ended.extend(group??);
    }
    let failed =
        ended.iter().filter(|(name, outcome)| *outcome == "failed" && !may_fail.contains(&name.as_str()));
    let failed: Vec<String> = failed.map(|(name, _)| name.clone()).collect();
    ensure!(failed.len() < 10, "{} tests failed: {failed:?}", failed.len());
    for name in &failed {
        let module = name.split("::").next().and_then(|module| module.strip_prefix("test_"));
        let module = module.with_context(|| format!("{name} is in no module"))?;
        let folder = TempDir::new()?;
        let again = run(folder.path(), servers, vec![module.to_owned()], name).await?;
        ensure!(again.get(name).is_some_and(|outcome| outcome == "passed"), "{name} failed twice");
        note(&format!("kazoo_suite: {name} passed with its second try only"));
        ended.insert(name.clone(), "passed".to_owned());
    }
    let count = |wanted: &str| ended.values().filter(|outcome| *outcome == wanted).count();
    let (passed, skipped) = (count("passed"), count("skipped"));
    note(&format!("kazoo_suite on {servers}: {passed} passed, {skipped} skipped by kazoo"));
    Ok(passed)
}

#[tokio::test(flavor = "multi_thread")]
async fn kazoos_own_suite_passes_on_three_servers() -> Result<()> {
    let Some(_suite) = Suite::begin("kazoo_suite", &[Need::KazooSuite]) else { return Ok(()) };
    let passed = passed(3, &GROUPS, &[]).await?;
    ensure!(passed >= PASS_AT_LEAST, "only {passed} passed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kazoos_own_suite_passes_on_a_server_that_is_alone() -> Result<()> {
    let Some(_suite) = Suite::begin("kazoo_suite::alone", &[Need::KazooSuite]) else { return Ok(()) };
    let passed = passed(1, &ALONE, &FAIL_ALONE).await?;
    ensure!(passed >= PASS_ALONE_AT_LEAST, "only {passed} passed");
    Ok(())
}
