//! What every peer asks of a server, written once for all servers.
//!
//! Each suite starts a server of its own, so that they run side by side and in any order. A test is one line:
//! `suites::kazoo(Backend::Apache38).await`.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::availability::{Need, Suite, note};
use crate::backend::{Backend, Running};
use crate::handovers::Handovers;
use crate::peers::java::JavaClient;
use crate::peers::{Playing, Program, c_shell, java, python, zkcli};
use crate::start_line::{Line, StartLine};

/// The longest of these runs takes 10 s on a machine of two cores that does nothing else.
pub const BOUND: Duration = Duration::from_secs(180);

/// The session timeout that contenders ask for. A server of theirs that is a JVM may take a third of it to start again.
const SESSION: Duration = Duration::from_secs(30);

/// Who stands in line. All variants of one recipe exclude each other on one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// Curator's `InterProcessMutex`.
    CuratorMutex(JavaClient),
    /// kazoo's `Lock`, naming its nodes as Curator does.
    KazooCuratorLock,
    /// kazoo's `Lock` as it ships; it excludes only its own kind.
    KazooLock,
    /// Curator's `LeaderLatch`.
    CuratorLatch(JavaClient),
    /// Curator's `LeaderSelector`, in the line of its mutexes.
    CuratorSelector(JavaClient),
    /// kazoo's `Election` as it ships, in the line of its locks.
    KazooElection,
}

impl Contender {
    /// What must be installed.
    pub fn needs(self) -> Vec<Need> {
        match self {
            Contender::CuratorMutex(client)
            | Contender::CuratorLatch(client)
            | Contender::CuratorSelector(client) => client.needs(),
            Contender::KazooCuratorLock | Contender::KazooLock | Contender::KazooElection => {
                vec![Need::Kazoo]
            }
        }
    }

    fn is_java(self) -> bool {
        !matches!(self, Contender::KazooCuratorLock | Contender::KazooLock | Contender::KazooElection)
    }

    /// The line that it stands in.
    pub fn line(self) -> Line {
        match self {
            Contender::CuratorMutex(_) | Contender::CuratorSelector(_) | Contender::KazooCuratorLock => {
                Line::Curator
            }
            Contender::KazooLock | Contender::KazooElection => Line::Kazoo,
            Contender::CuratorLatch(_) => Line::Latch,
        }
    }

    /// The program that contends `rounds` times as `id` below `base`, once `contenders` have come; see
    /// [`crate::handovers`] for what it does and prints. A mutex, a latch and kazoo's lock that are given no round go on
    /// until `BASE/enough` is there.
    ///
    /// # Errors
    /// When the Java programs do not compile.
    pub fn program(
        self,
        connect: &str,
        base: &str,
        rounds: usize,
        id: &str,
        contenders: usize,
    ) -> Result<Program> {
        let (rounds, contenders) = (rounds.to_string(), contenders.to_string());
        let (millis, seconds) = (SESSION.as_millis().to_string(), SESSION.as_secs().to_string());
        let mut args = vec![connect, base, &rounds, id, &contenders];
        args.push(if self.is_java() { &millis } else { &seconds });
        match self {
            Contender::CuratorMutex(client) => java::program(client, "MutexContender", args),
            Contender::CuratorLatch(client) => java::program(client, "LatchContender", args),
            Contender::CuratorSelector(client) => java::program(client, "SelectorContender", args),
            Contender::KazooElection => Ok(python::program("election_contender.py", args)),
            Contender::KazooCuratorLock => Ok(python::program("lock_contender.py", args)),
            Contender::KazooLock => {
                args.push("kazoo");
                Ok(python::program("lock_contender.py", args))
            }
        }
    }
}

/// What must be installed for these contenders on this server.
pub fn needs(backend: Backend, contenders: &[Contender]) -> Vec<Need> {
    let mut needs = backend.needs();
    needs.extend(contenders.iter().flat_map(|contender| contender.needs()));
    needs
}

/// Begins a suite, named after the server too.
fn begin(name: &str, backend: Backend, needs: &[Need]) -> Option<Suite> {
    let mut all = backend.needs();
    all.extend(needs);
    Suite::begin(&format!("{name} on {backend:?}"), &all)
}

/// What Apache's Java client and Curator's framework ask.
///
/// # Errors
/// When the server does not start or a check fails.
pub async fn framework(backend: Backend, client: JavaClient) -> Result<()> {
    let Some(_suite) = begin(&format!("Java framework ({client:?})"), backend, &client.needs()) else {
        return Ok(());
    };
    let server = backend.start(&[]).await?;
    let args = [server.connect_string(), "/peer".to_owned()];
    java::program(client, "Framework", args)?.run(BOUND).await?.all_passed(28)?;
    Ok(())
}

/// Curator's recipes.
///
/// # Errors
/// As [`framework`].
pub async fn curator_recipes(backend: Backend, client: JavaClient) -> Result<()> {
    let Some(_suite) = begin(&format!("Curator recipes ({client:?})"), backend, &client.needs()) else {
        return Ok(());
    };
    let server = backend.start(&[]).await?;
    let args = [server.connect_string(), "/peer".to_owned()];
    java::program(client, "Recipes", args)?.run(BOUND).await?.all_passed(10)?;
    Ok(())
}

/// Everything kazoo asks.
///
/// # Errors
/// As [`framework`].
pub async fn kazoo(backend: Backend) -> Result<()> {
    let Some(_suite) = begin("kazoo", backend, &[Need::Kazoo]) else { return Ok(()) };
    let server = backend.start(&[]).await?;
    python::program("smoke.py", [server.connect_string().as_str(), "/peer"])
        .run(BOUND)
        .await?
        .all_passed(31)?;
    Ok(())
}

/// Several contenders stand in one line, each for `rounds` rounds, and no handover breaks the fence. All have a place
/// before the first is let in.
///
/// # Errors
/// As [`framework`]; also when the handovers are not what [`Handovers::verify`] demands.
pub async fn contention(backend: Backend, contenders: &[Contender], rounds: usize) -> Result<()> {
    let needs = needs(backend, contenders);
    let Some(_suite) = begin(&format!("contention {contenders:?}"), backend, &needs) else { return Ok(()) };
    let server = backend.start(&[]).await?;
    let lines = contenders.iter().map(|contender| contender.line());
    let line = StartLine::stand(&server.connect_string(), "/peer", lines, contenders.len()).await?;
    let playing = spawn_contenders(&server, contenders, rounds)?;
    let (handovers, gone) = tokio::join!(finish_contenders(playing), line.go());
    // What contenders print says more than that they did not come.
    let handovers = handovers?;
    gone?;
    handovers.verify(contenders.len() * rounds)?;
    ensure!(
        handovers.changes() >= contenders.len(),
        "nobody waited for anybody: {} changes",
        handovers.changes()
    );
    Ok(())
}

/// As [`contention`], and in the middle the server is killed and started again: sessions, and with them the holder and
/// the line, outlive it.
///
/// # Errors
/// As [`contention`].
pub async fn contention_over_restart(
    backend: Backend,
    contenders: &[Contender],
    rounds: usize,
) -> Result<()> {
    let needs = needs(backend, contenders);
    let Some(_suite) = begin(&format!("restart under {contenders:?}"), backend, &needs) else {
        return Ok(());
    };
    let mut server = backend.start(&["maxSessionTimeout=60000"]).await?;
    let before = writes(&server).await?;
    let playing = spawn_contenders(&server, contenders, rounds)?;
    // A round takes three transactions; half of the rounds are over then.
    let half = before + u64::try_from(contenders.len() * rounds * 3 / 2)?;
    tokio::time::timeout(BOUND, async {
        while writes(&server).await? < half {
            // The pause of a bounded wait.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok::<_, anyhow::Error>(())
    })
    .await??;
    server.restart().await?;
    let handovers = finish_contenders(playing).await?;
    note(&format!("PEERS: restart: {} writes applied whose reply was lost", handovers.repeated()));
    handovers.verify(contenders.len() * rounds)
}

/// The transactions of the current epoch.
async fn writes(server: &Running) -> Result<u64> {
    let srvr = server.ask("srvr").await?;
    let zxid = crate::four_letter::field(&srvr, "Zxid").and_then(|zxid| zxid.strip_prefix("0x"));
    let Some(zxid) = zxid else { anyhow::bail!("no zxid in {srvr}") };
    Ok(u64::from_str_radix(zxid, 16)? & 0xffff_ffff)
}

/// Starts contenders `c0`, `c1` … below `/peer`, without waiting for them.
///
/// # Errors
/// When a program cannot be run.
pub fn spawn_contenders(server: &Running, contenders: &[Contender], rounds: usize) -> Result<Vec<Playing>> {
    spawn_contenders_among(server, contenders, rounds, contenders.len())
}

/// As [`spawn_contenders`], where there are `all` contenders with those that somebody else starts.
///
/// # Errors
/// When a program cannot be run.
pub fn spawn_contenders_among(
    server: &Running,
    contenders: &[Contender],
    rounds: usize,
    all: usize,
) -> Result<Vec<Playing>> {
    let connect = server.connect_string();
    let spawn = |(number, contender): (usize, &Contender)| {
        contender.program(&connect, "/peer", rounds, &format!("c{number}"), all)?.spawn()
    };
    contenders.iter().enumerate().map(spawn).collect()
}

/// Waits for contenders and collects what they have done.
///
/// # Errors
/// When one fails or reports a broken fence.
pub async fn finish_contenders(playing: Vec<Playing>) -> Result<Handovers> {
    let outputs = futures::future::join_all(playing.into_iter().map(|peer| peer.finish(BOUND))).await;
    let mut handovers = Handovers::default();
    for output in outputs {
        handovers.add_output(&output?.success()?.stdout)?;
    }
    Ok(handovers)
}

/// The recorded scripts of `zkCli.sh`, see [`mod@zkcli`].
///
/// # Errors
/// When a shell prints something else than recorded.
pub async fn zkcli(backend: Backend) -> Result<()> {
    let Some(_suite) = begin("zkCli.sh", backend, &[Need::Jdk, Need::ZkCli]) else { return Ok(()) };
    for script in ["session-nodes", "session-access", "one-shot"] {
        let server = backend.start(&[zkcli::LONG_SESSIONS]).await?;
        zkcli::compare(&server, script).await?;
    }
    Ok(())
}

/// The scripts of the C client's shell, see [`c_shell`].
///
/// # Errors
/// When an expected line does not come.
pub async fn c_client(backend: Backend) -> Result<()> {
    let Some(_suite) = begin("C client", backend, &[Need::CShell]) else { return Ok(()) };
    let server = backend.start(&[]).await?;
    c_shell::play(&server.connect_string(), "session").await?;
    Ok(())
}
