//! Ensembles of our own processes under load: killed, frozen, restarted, wiped, and with a full disk. What was
//! acknowledged stays, no session ends, and all members hold the same afterwards.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::{Client, Retry, Version};
use docent_integration_tests::availability::note;
use docent_integration_tests::backend::Backend::DocentBinary;
use docent_integration_tests::ensemble::{Ensemble, Role, Seat, sure};
use docent_integration_tests::load::{Crew, Load};
use docent_integration_tests::recipe_kit::{LONG_SESSION, connect, eventually, soon};
use docent_server::testing::TestServer;

/// Kills of one test: many in continuous integration, some in everyday runs. `DOCENT_KILLS` says another number.
fn kills() -> u64 {
    let usual = if std::env::var_os("CI").is_some() { 12 } else { 4 };
    std::env::var("DOCENT_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(usual)
}

/// Many small snapshots and short logs, so that members are brought level in every way.
const SMALL: [&str; 2] = ["snapCount=300", "preAllocSize=64"];

async fn ours(size: usize) -> Result<Ensemble> {
    Ensemble::start_with(&vec![Seat::voter(DocentBinary); size], &SMALL).await
}

/// Stops the load, and checks it and the trees.
async fn verdict(name: &str, servers: &mut Ensemble, load: Load) -> Result<()> {
    let verdict = load.stop().await.with_context(|| servers.logs())?;
    let compared = servers.same_everywhere().await?;
    note(&format!("cluster: {name}: {verdict:?}, {compared} digests compared"));
    ensure!(verdict.checked > 0 && verdict.holds > 0, "nothing was checked: {verdict:?}");
    Ok(())
}

/// Waits for so many writes, or says what the servers print.
async fn advance(servers: &Ensemble, load: &mut Load, by: u64) -> Result<()> {
    load.advance(by).await.with_context(|| servers.logs())
}

#[tokio::test(flavor = "multi_thread")]
async fn three_are_killed_one_by_one() -> Result<()> {
    let mut servers = ours(3).await?;
    let mut load = Load::start(&servers.connect_string(), Crew::default()).await?;
    for kill in 0..kills() {
        let victim = if kill % 2 == 0 { servers.leader().await? } else { servers.follower().await? };
        servers.kill(victim)?;
        advance(&servers, &mut load, fastrand::u64(1..200)).await?;
        servers.start_member(victim).await.with_context(|| servers.logs())?;
        advance(&servers, &mut load, fastrand::u64(1..200)).await?;
    }
    load.everyone_writes().await?;
    verdict("kill -9 of one in three", &mut servers, load).await
}

/// Five bear the loss of two at once, the leader among them.
#[tokio::test(flavor = "multi_thread")]
async fn five_are_killed_two_by_two() -> Result<()> {
    let mut servers = ours(5).await?;
    let mut load = Load::start(&servers.connect_string(), Crew::default()).await?;
    for _ in 0..kills().div_ceil(2) {
        let victims = [servers.leader().await?, servers.follower().await?];
        for victim in victims {
            servers.kill(victim)?;
        }
        advance(&servers, &mut load, fastrand::u64(1..200)).await?;
        for victim in victims {
            servers.spawn_member(victim)?;
        }
        servers.all_serve().await?;
        advance(&servers, &mut load, fastrand::u64(1..200)).await?;
    }
    verdict("kill -9 of two in five", &mut servers, load).await
}

/// A leader that stands still is left; when it goes on it follows, and what it answers meanwhile breaks no promise.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_leader_is_left_and_comes_back() -> Result<()> {
    let impatient = [SMALL[0], SMALL[1], "leaderSilenceMs=2000"];
    let mut servers = Ensemble::start_with(&[Seat::voter(DocentBinary); 3], &impatient).await?;
    let mut load = Load::start(&servers.connect_string(), Crew::default()).await?;
    for _ in 0..kills().div_ceil(2) {
        let old = servers.leader().await?;
        let epoch = servers.srvr_soon(old).await?.epoch();
        servers.freeze(old).await?;
        let others: Vec<u64> = servers.ids().into_iter().filter(|id| *id != old).collect();
        servers.serving(&others).await?;
        advance(&servers, &mut load, 100).await?;
        servers.thaw(old)?;
        servers.all_serve().await?;
        let now = servers.srvr_soon(old).await?;
        // On a slow machine there may have been another election since, which it may have won.
        let left = now.role == Role::Follower || now.epoch() > epoch + 1;
        ensure!(left, "member {old} leads again: {now:?}, after epoch {epoch}");
        load.everyone_writes().await.with_context(|| servers.logs())?;
    }
    verdict("SIGSTOP of the leader", &mut servers, load).await
}

/// A follower that stands still stops nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_follower_stops_nobody() -> Result<()> {
    let mut servers = ours(3).await?;
    let mut load = Load::start(&servers.connect_string(), Crew::default()).await?;
    // Both by one look: the leader may be another one at the next.
    let leader = servers.leader().await?;
    let frozen = servers.ids().into_iter().find(|id| *id != leader).context("three have a follower")?;
    servers.freeze(frozen).await?;
    advance(&servers, &mut load, 1_000).await?;
    ensure!(servers.srvr_soon(leader).await?.role == Role::Leader, "member {leader} does not lead any more");
    servers.thaw(frozen)?;
    servers.all_serve().await?;
    load.everyone_writes().await.with_context(|| servers.logs())?;
    verdict("SIGSTOP of a follower", &mut servers, load).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_loses_nothing() -> Result<()> {
    let mut servers = ours(3).await?;
    let mut load = Load::start(&servers.connect_string(), Crew::default()).await?;
    for id in servers.ids() {
        servers.stop(id).await?;
        advance(&servers, &mut load, 50).await?;
        servers.start_member(id).await.with_context(|| servers.logs())?;
        advance(&servers, &mut load, 50).await?;
    }
    load.everyone_writes().await?;
    verdict("rolling restart", &mut servers, load).await
}

/// A member whose disk was lost gets everything from the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_member_is_filled_again() -> Result<()> {
    let mut servers = ours(3).await?;
    let mut load = Load::start(&servers.connect_string(), Crew::default()).await?;
    advance(&servers, &mut load, 1_000).await?;
    let wiped = servers.follower().await?;
    servers.kill(wiped)?;
    servers.wipe(wiped)?;
    advance(&servers, &mut load, 100).await?;
    servers.start_member(wiped).await.with_context(|| servers.logs())?;
    advance(&servers, &mut load, 100).await?;
    verdict("a wiped member", &mut servers, load).await
}

/// One of three is no quorum: nothing is acknowledged, and everything goes on when another comes back.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_without_a_quorum() -> Result<()> {
    let mut servers = ours(3).await?;
    let leader = servers.leader().await?;
    let client = connect(&servers.address(leader)?.to_string(), LONG_SESSION).await?;
    sure::create(&client, "/before", "").await?;
    for id in servers.ids() {
        if id != leader {
            servers.kill(id)?;
        }
    }
    let builder = Client::builder(servers.address(leader)?.to_string());
    let impatient = Retry::none().budget(Duration::from_millis(1_500));
    let refused = builder.retry(impatient).session_timeout(LONG_SESSION).connect().await;
    ensure!(refused.is_err(), "a session came about without a quorum");
    servers
        .until("a leader without a quorum says that it serves nobody", async || {
            Ok(servers.srvr(leader).await.is_err())
        })
        .await?;
    let held = client.create("/held", "").send();
    for id in servers.ids() {
        if id != leader {
            servers.spawn_member(id)?;
        }
    }
    servers.all_serve().await?;
    // What was asked in between is carried out or not, and the session lives.
    let outcome = soon("the answer to a write without a quorum", held).await?;
    client.sync("/").await?;
    let there = client.exists("/held").await?.is_some();
    match outcome {
        Ok(_) => ensure!(there, "an acknowledged write is lost"),
        Err(error) => ensure!(error.may_have_applied() || !there, "{error}, and it is there"),
    }
    sure::create(&client, "/after", "").await?;
    client.close().await?;
    servers.same_everywhere().await?;
    Ok(())
}

/// A small file system of memory, unmounted when it goes away.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this process may not mount, with the reason.
    fn mount(at: PathBuf, kib: u64) -> Result<SmallDisk, String> {
        let size = format!("size={kib}k");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at).output();
        match output {
            Ok(output) if output.status.success() => Ok(SmallDisk(at)),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn resize(&self, kib: u64) -> Result<()> {
        let size = format!("remount,size={kib}k");
        let status = Command::new("mount").args(["-o", &size]).arg(&self.0).status()?;
        ensure!(status.success(), "a larger disk was refused");
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A mount that stays is seen by whoever removes the folder; nothing better can be done here.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A member whose disk is full stops rather than to promise what it cannot keep; the others go on, and with room on the
/// disk it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_one_member_only() -> Result<()> {
    let mut servers = Ensemble::prepare(&[Seat::voter(DocentBinary); 3], &SMALL)?;
    let small = match SmallDisk::mount(servers.data(1)?, 1_024) {
        Ok(small) => small,
        Err(reason) => {
            note(&format!("SKIPPED: a full disk: {reason}"));
            return Ok(());
        }
    };
    std::fs::write(servers.data(1)?.join("myid"), "1\n")?;
    for id in servers.ids() {
        servers.spawn_member(id)?;
    }
    servers.all_serve().await?;
    let client = connect(&servers.connect_string(), LONG_SESSION).await?;
    sure::create(&client, "/full", "").await?;
    let mut written = 0_u64;
    while !servers.has_ended(1)? {
        ensure!(written < 4_000, "member 1 runs on with a full disk\n{}", servers.logs());
        written += 1;
        let set = client.set_data("/full", vec![b'x'; 4_000], Version::ANY).await;
        ensure!(set.is_ok() || set.as_ref().is_err_and(|e| e.may_have_applied()), "{set:?}");
    }
    // The other two are a quorum. If it led, they elect first, and cut off whoever is connected to them.
    servers.kill(1)?;
    sure::set(&client, "/full", "two go on").await?;
    ensure!(written > 20, "only {written} writes fitted on the disk");
    small.resize(256 << 10)?;
    servers.start_member(1).await.with_context(|| servers.logs())?;
    sure::set(&client, "/full", "three again").await?;
    client.close().await?;
    servers.same_everywhere().await?;
    for id in servers.ids() {
        servers.stop(id).await?;
    }
    Ok(())
}

/// What is done behind the back of a running load.
#[derive(Clone, Copy, Debug)]
enum Crime {
    TakeBackAWrite,
    LoseSequentialNodes,
    ApplyHalfATransaction,
    DropAnEphemeralNode,
    EndASession,
}

impl Crime {
    /// Whether the writers have done already what this takes back: they choose at random what they do.
    async fn is_possible(self, client: &Client) -> Result<bool> {
        let goes_beyond = async |path: String, number: u64| -> Result<bool> {
            let text = String::from_utf8(client.get_data(path).await?.bytes().to_vec())?;
            Ok(text.parse::<u64>()? > number)
        };
        match self {
            Crime::TakeBackAWrite => {
                for cell in 0..8 {
                    if goes_beyond(format!("/load/w0/cell-{cell}"), 1).await? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Crime::LoseSequentialNodes => Ok(!client.get_children("/load/seq").await?.names.is_empty()),
            Crime::ApplyHalfATransaction => goes_beyond("/load/w0/left".to_owned(), 0).await,
            Crime::DropAnEphemeralNode | Crime::EndASession => Ok(true),
        }
    }

    async fn commit(self, server: &TestServer, client: &Client) -> Result<()> {
        match self {
            Crime::TakeBackAWrite => {
                for cell in 0..8 {
                    client.set_data(format!("/load/w0/cell-{cell}"), "1", Version::ANY).await?;
                }
            }
            Crime::LoseSequentialNodes => {
                for name in client.get_children("/load/seq").await?.names {
                    client.delete(format!("/load/seq/{name}"), Version::ANY).await?;
                }
            }
            Crime::ApplyHalfATransaction => {
                client.set_data("/load/w0/left", "0", Version::ANY).await?;
            }
            Crime::DropAnEphemeralNode => client.delete("/load/alive/w0", Version::ANY).await?,
            Crime::EndASession => {
                let owner = client.exists("/load/alive/w0").await?.context("w0 is alive")?.ephemeral_owner;
                server.expire_session(owner).await;
            }
        }
        Ok(())
    }
}

/// The load finds out what it is there to find out.
#[tokio::test(flavor = "multi_thread")]
async fn broken_promises_are_found_out() -> Result<()> {
    for (crime, word) in [
        (Crime::TakeBackAWrite, "acknowledged"),
        (Crime::LoseSequentialNodes, "was acknowledged"),
        (Crime::ApplyHalfATransaction, "left"),
        (Crime::DropAnEphemeralNode, "is gone"),
        (Crime::EndASession, "closed"),
    ] {
        let server = TestServer::start().await?;
        let crew = Crew { writers: 2, lockers: 0, synced_reads: true };
        let mut load = Load::start(&server.connect_string(), crew).await?;
        load.advance(300).await?;
        let client = connect(&server.connect_string(), LONG_SESSION).await?;
        eventually("something to take away", async || crime.is_possible(&client).await).await?;
        // At the end, so that no later write covers it up.
        let stopped = load.stop_after(async || crime.commit(&server, &client).await).await;
        let told = stopped.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(told.contains(word), "{crime:?} is not found out: {told:?}");
    }
    Ok(())
}
