//! The peers' programs against Apache's own servers: this proves the programs, so that what fails elsewhere is the server.

use anyhow::{Result, ensure};
use docent_integration_tests::availability::Suite;
use docent_integration_tests::backend::Backend;
use docent_integration_tests::peers::java::JavaClient;
use docent_integration_tests::suites::{self, Contender};

const MIXED: [Contender; 3] = [
    Contender::CuratorMutex(JavaClient::Debian),
    Contender::KazooCuratorLock,
    Contender::CuratorMutex(JavaClient::Debian),
];
const LATCHES: [Contender; 2] =
    [Contender::CuratorLatch(JavaClient::Debian), Contender::CuratorLatch(JavaClient::Debian)];

/// One test per server for each suite.
macro_rules! on_apache {
    ($($name:ident: |$backend:ident| $run:expr;)*) => {$(
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn apache_38() -> Result<()> {
                let $backend = Backend::Apache38;
                $run.await
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn apache_newer() -> Result<()> {
                let $backend = Backend::ApacheNewer;
                $run.await
            }
        }
    )*};
}

on_apache! {
    framework: |backend| suites::framework(backend, JavaClient::Debian);
    framework_of_the_newer_client: |backend| suites::framework(backend, JavaClient::Newer);
    curator_recipes: |backend| suites::curator_recipes(backend, JavaClient::Debian);
    curator_recipes_of_the_newer_client: |backend| suites::curator_recipes(backend, JavaClient::Newer);
    kazoo: |backend| suites::kazoo(backend);
    mixed_mutex: |backend| suites::contention(backend, &MIXED, 100);
    mixed_mutex_over_a_restart: |backend| suites::contention_over_restart(backend, &MIXED, 100);
    kazoo_lock: |backend| suites::contention(backend, &[Contender::KazooLock; 3], 50);
    latch: |backend| suites::contention(backend, &LATCHES, 50);
    zkcli: |backend| suites::zkcli(backend);
    c_client: |backend| suites::c_client(backend);
}

/// kazoo's lock as it ships does not see Curator's nodes, so both hold at once: the verdict must tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_does_not_exclude_is_found_out() -> Result<()> {
    let unmixable = [Contender::CuratorMutex(JavaClient::Debian), Contender::KazooLock];
    let Some(_suite) = Suite::begin("broken line", &suites::needs(Backend::Apache38, &unmixable)) else {
        return Ok(());
    };
    let verdict = suites::contention(Backend::Apache38, &unmixable, 200).await;
    let error = verdict.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(error.contains("VIOLATION") || error.contains("CONFLICT"), "not found out: {error:?}");
    Ok(())
}
