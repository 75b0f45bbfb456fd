//! Other people's clients against our server: the programs that `apache_self` proves on Apache's own.

use anyhow::Result;
use docent_integration_tests::backend::Backend;
use docent_integration_tests::peers::java::JavaClient;
use docent_integration_tests::suites::{self, Contender};

const MIXED: [Contender; 3] = [
    Contender::CuratorMutex(JavaClient::Debian),
    Contender::KazooCuratorLock,
    Contender::CuratorMutex(JavaClient::Newer),
];
const LATCHES: [Contender; 2] =
    [Contender::CuratorLatch(JavaClient::Debian), Contender::CuratorLatch(JavaClient::Newer)];

/// One test for each suite.
macro_rules! on_ours {
    ($($name:ident: $run:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            $run.await
        }
    )*};
}

on_ours! {
    framework: suites::framework(Backend::DocentBinary, JavaClient::Debian);
    framework_of_the_newer_client: suites::framework(Backend::DocentBinary, JavaClient::Newer);
    curator_recipes: suites::curator_recipes(Backend::DocentBinary, JavaClient::Debian);
    curator_recipes_of_the_newer_client: suites::curator_recipes(Backend::DocentBinary, JavaClient::Newer);
    kazoo: suites::kazoo(Backend::DocentBinary);
    mixed_mutex: suites::contention(Backend::DocentBinary, &MIXED, 100);
    mixed_mutex_over_a_restart: suites::contention_over_restart(Backend::DocentBinary, &MIXED, 100);
    kazoo_lock: suites::contention(Backend::DocentBinary, &[Contender::KazooLock; 3], 50);
    latch: suites::contention(Backend::DocentBinary, &LATCHES, 50);
    zkcli: suites::zkcli(Backend::DocentBinary);
    c_client: suites::c_client(Backend::DocentBinary);
}
