//! Rust contenders in one line with those of other clients, on our server and on Apache's. All of them wait at first.

use anyhow::{Result, ensure};
use docent_integration_tests::availability::Suite;
use docent_integration_tests::backend::Backend;
use docent_integration_tests::handovers::Handovers;
use docent_integration_tests::peers::java::JavaClient;
use docent_integration_tests::rust_contenders::{self, Kind};
use docent_integration_tests::start_line::StartLine;
use docent_integration_tests::suites::{self, Contender};
use docent_recipes::Layout;

/// Plays `rust` contenders of ours and those others in one line, `rounds` each.
async fn play(backend: Backend, kind: Kind, rust: usize, others: &[Contender], rounds: usize) -> Result<()> {
    let needs = suites::needs(backend, others);
    let Some(_suite) = Suite::begin(&format!("{kind:?} of Rust beside {others:?} on {backend:?}"), &needs)
    else {
        return Ok(());
    };
    let server = backend.start(&[]).await?;
    let contenders = rust + others.len();
    ensure!(others.iter().all(|other| other.line() == kind.line()), "{others:?} stand in another line");
    let line = StartLine::stand(&server.connect_string(), "/peer", [kind.line()], contenders).await?;
    let ours = (0..rust).map(|number| {
        tokio::spawn(
            rust_contenders::Contender {
                kind,
                connect: server.connect_string(),
                base: "/peer".to_owned(),
                rounds,
                id: format!("r{number}"),
                contenders,
            }
            .play(),
        )
    });
    let ours: Vec<_> = ours.collect();
    let playing = suites::spawn_contenders_among(&server, others, rounds, contenders)?;
    let (handovers, gone) = tokio::join!(suites::finish_contenders(playing), line.go());
    let mut handovers: Handovers = handovers?;
    gone?;
    for contender in ours {
        for round in contender.await?? {
            handovers.add(round);
        }
    }
    handovers.verify(contenders * rounds)?;
    ensure!(handovers.changes() >= contenders, "nobody waited for anybody: {} changes", handovers.changes());
    Ok(())
}

const MUTEX: Contender = Contender::CuratorMutex(JavaClient::Debian);
const NEWER_MUTEX: Contender = Contender::CuratorMutex(JavaClient::Newer);
const LATCH: Contender = Contender::CuratorLatch(JavaClient::Debian);
const SELECTOR: Contender = Contender::CuratorSelector(JavaClient::Debian);
const NEWER_SELECTOR: Contender = Contender::CuratorSelector(JavaClient::Newer);
const ELECTION: Kind = Kind::Election(Layout::Curator);
const KAZOO_ELECTION: Kind = Kind::Election(Layout::Kazoo);

#[tokio::test(flavor = "multi_thread")]
async fn locks_with_curator_on_our_server() -> Result<()> {
    play(Backend::DocentBinary, Kind::Lock, 2, &[MUTEX, MUTEX], 250).await
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_with_curator_on_apache() -> Result<()> {
    play(Backend::Apache38, Kind::Lock, 2, &[MUTEX, MUTEX], 250).await
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_with_curator_on_the_newer_apache() -> Result<()> {
    play(Backend::ApacheNewer, Kind::Lock, 2, &[NEWER_MUTEX], 100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_of_three_languages() -> Result<()> {
    play(Backend::DocentBinary, Kind::Lock, 1, &[MUTEX, Contender::KazooCuratorLock], 100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn latches_with_curator_on_our_server() -> Result<()> {
    play(Backend::DocentBinary, Kind::Latch, 2, &[LATCH, LATCH], 250).await
}

#[tokio::test(flavor = "multi_thread")]
async fn latches_with_curator_on_apache() -> Result<()> {
    play(Backend::Apache38, Kind::Latch, 2, &[LATCH, LATCH], 250).await
}

#[tokio::test(flavor = "multi_thread")]
async fn elections_with_curator_on_our_server() -> Result<()> {
    play(Backend::DocentBinary, ELECTION, 2, &[SELECTOR, MUTEX], 100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn elections_with_curator_on_apache() -> Result<()> {
    play(Backend::Apache38, ELECTION, 2, &[SELECTOR, SELECTOR], 100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn elections_with_curator_on_the_newer_apache() -> Result<()> {
    play(Backend::ApacheNewer, ELECTION, 2, &[NEWER_SELECTOR], 100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn elections_with_kazoo_on_our_server() -> Result<()> {
    let others = [Contender::KazooElection, Contender::KazooElection];
    play(Backend::DocentBinary, KAZOO_ELECTION, 2, &others, 50).await
}

#[tokio::test(flavor = "multi_thread")]
async fn elections_with_kazoo_on_apache() -> Result<()> {
    play(Backend::Apache38, KAZOO_ELECTION, 1, &[Contender::KazooElection], 50).await
}
