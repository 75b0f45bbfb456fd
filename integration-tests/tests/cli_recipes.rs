//! The recipes of the binary `docent`, as a shell script would use them: several processes against one server of ours.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent_integration_tests::backend::{Backend, Running};
use docent_integration_tests::docent_bin;
use docent_integration_tests::peers::{Output, Playing, Program};

/// Each command takes a second at most; the bound is for a loaded machine.
const BOUND: Duration = Duration::from_secs(60);
/// Short, so that the loss of a session is soon over.
const SESSION: [&str; 2] = ["--session-timeout", "4s"];

/// A server and a folder where scripts leave marks.
struct Scene {
    server: Running,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Result<Scene> {
        Ok(Scene { server: Backend::DocentBinary.start(&[]).await?, folder: tempfile::tempdir()? })
    }

    fn docent(&self, arguments: &[&str]) -> Result<Program> {
        let program = Program::new(format!("docent {}", arguments.join(" ")), docent_bin::binary()?);
        Ok(program.args(arguments).env("DOCENT_SERVER", self.server.connect_string()))
    }

    /// Runs a command that ends by itself.
    async fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.docent(arguments)?.run(BOUND).await
    }

    fn mark(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a command whose script makes `mark`, and waits for that.
    async fn start(&self, arguments: &[&str], mark: &Path) -> Result<Playing> {
        let playing = self.docent(arguments)?.spawn()?;
        wait_for(mark).await?;
        Ok(playing)
    }
}

async fn wait_for(mark: &Path) -> Result<()> {
    let there = async {
        while !mark.exists() {
            // The pause of a bounded wait.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(BOUND, there).await.with_context(|| format!("{} does not come", mark.display()))
}

/// A script that makes a mark and ends with code 0 when it is asked to.
fn until_asked(mark: &Path) -> String {
    format!("trap 'echo asked; exit 0' TERM; touch {}; while :; do sleep 0.02; done", mark.display())
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_excludes_and_its_exit_codes_tell() -> Result<()> {
    let scene = Scene::new().await?;
    for kind in [&["lock", "/lock"][..], &["lock", "/one-node", "--exclusive"]] {
        let lock = |more: &[&'static str]| [kind, more].concat();
        let (held, free) =
            (scene.mark(&format!("held{}", kind.len())), scene.mark(&format!("free{}", kind.len())));
        let script = format!(
            "touch {}; while [ ! -e {} ]; do sleep 0.02; done; exit 9",
            held.display(),
            free.display()
        );
        let holder = scene.start(&[&lock(&["--", "sh", "-c"])[..], &[&script]].concat(), &held).await?;
        let tried = scene.run(&lock(&["--try", "--", "echo", "in"])).await?;
        ensure!((code(&tried), &*tried.stdout) == (Some(75), ""), "{tried:?}");
        let waited = scene.run(&lock(&["--timeout", "300ms", "--", "echo", "in"])).await?;
        ensure!((code(&waited), &*waited.stdout) == (Some(75), ""), "{waited:?}");
        std::fs::write(&free, "")?;
        let ended = holder.finish(BOUND).await?;
        ensure!(code(&ended) == Some(9), "{ended:?}");
        let tokens = [
            scene.run(&lock(&["--", "sh", "-c", "echo $DOCENT_FENCING_TOKEN"])).await?.success()?,
            scene.run(&lock(&["--try", "--", "sh", "-c", "echo $DOCENT_FENCING_TOKEN"])).await?.success()?,
        ];
        let [first, second] = tokens.map(|output| output.stdout.trim().parse::<u64>());
        ensure!(first.clone()? < second.clone()?, "{kind:?}: {first:?} then {second:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lock_stops_its_program() -> Result<()> {
    let scene = Scene::new().await?;
    // By the word of the server: somebody deletes the node.
    let held = scene.mark("deleted");
    let holder = scene.start(&["lock", "/lock", "--", "sh", "-c", &until_asked(&held)], &held).await?;
    scene.run(&["shell", "deleteall", "/lock"]).await?.success()?;
    let ended = holder.finish(BOUND).await?;
    ensure!((code(&ended), &*ended.stdout) == (Some(74), "asked\n"), "{ended:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_lost_when_the_server_is_silent() -> Result<()> {
    let mut scene = Scene::new().await?;
    let held = scene.mark("silent");
    let script = until_asked(&held);
    let arguments = [&["lock", "/lock"], &SESSION[..], &["--", "sh", "-c", &script]].concat();
    let holder = scene.start(&arguments, &held).await?;
    scene.server.process().freeze().await?;
    let ended = holder.finish(BOUND).await;
    scene.server.process().thaw()?;
    let ended = ended?;
    ensure!((code(&ended), &*ended.stdout) == (Some(74), "asked\n"), "{ended:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_and_the_next_one_follows() -> Result<()> {
    let scene = Scene::new().await?;
    let leads = scene.mark("leads");
    let first = scene.start(&["elect", "/leader", "--", "sh", "-c", &until_asked(&leads)], &leads).await?;
    let second =
        scene.docent(&["elect", "/leader", "--", "sh", "-c", "echo $DOCENT_EPOCH; exit 3"])?.spawn()?;
    let both = async {
        while !scene.run(&["shell", "getAllChildrenNumber", "/leader"]).await?.stdout.ends_with("\n2\n") {}
        anyhow::Ok(())
    };
    tokio::time::timeout(BOUND, both).await.context("the second does not stand in line")??;
    scene.run(&["shell", "deleteall", "/leader"]).await?.success()?;
    let first = first.finish(BOUND).await?;
    ensure!((code(&first), &*first.stdout) == (Some(74), "asked\n"), "{first:?}");
    let second = second.finish(BOUND).await?;
    ensure!(code(&second) == Some(3) && second.stdout.trim().parse::<u64>().is_ok(), "{second:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_listed_while_they_are_there() -> Result<()> {
    let scene = Scene::new().await?;
    let binary = docent_bin::binary()?.display();
    let inner = format!(
        "{binary} members /group; {binary} shell get /group/one | tail -n 1; {binary} join /group one -- echo twice"
    );
    let seen = scene.run(&["join", "/group", "one", "--data", "hello", "--", "sh", "-c", &inner]).await?;
    ensure!((code(&seen), &*seen.stdout) == (Some(75), "one\nhello\n"), "{seen:?}");
    let empty = scene.run(&["members", "/group"]).await?.success()?;
    ensure!(empty.stdout.is_empty(), "{empty:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_value_reaches_the_program() -> Result<()> {
    let scene = Scene::new().await?;
    scene.run(&["shell", "create", "/value", "first"]).await?.success()?;
    let printed = scene.run(&["watch", "/value", "--once"]).await?.success()?;
    ensure!(printed.stdout == "first\n", "{printed:?}");
    let got = scene.mark("got");
    let script = format!("cat >> {0}; echo >> {0}; touch {0}.seen", got.display());
    let watcher = scene.docent(&["watch", "/value", "--", "sh", "-c", &script])?.spawn()?;
    wait_for(&scene.mark("got.seen")).await?;
    std::fs::remove_file(scene.mark("got.seen"))?;
    scene.run(&["shell", "set", "/value", "second"]).await?.success()?;
    wait_for(&scene.mark("got.seen")).await?;
    drop(watcher);
    ensure!(std::fs::read_to_string(&got)? == "first\nsecond\n");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_tells_who_stands_in_line_and_what_is_wrong() -> Result<()> {
    let scene = Scene::new().await?;
    let doctor = async |path: &str| -> Result<(Option<i32>, String)> {
        let seen = scene.run(&["doctor", path]).await?;
        Ok((code(&seen), seen.stdout))
    };
    let (exit, nobody) = doctor("/lock").await?;
    ensure!(exit == Some(0) && nobody.contains("note: there is no such node"), "{exit:?} {nobody}");
    let (held, done) = (scene.mark("held"), scene.mark("done"));
    let script = format!("touch {}; while [ ! -e {} ]; do sleep 0.02; done", held.display(), done.display());
    let holder = scene.start(&["lock", "/lock", "--", "sh", "-c", &script], &held).await?;
    let (exit, sound) = doctor("/lock").await?;
    let row = sound.lines().find(|line| line.contains("-lock-")).unwrap_or_default();
    ensure!(exit == Some(0) && sound.contains("lock or election: 1") && !sound.contains("error"), "{sound}");
    ensure!(row.trim_start().starts_with("holds") && row.contains("Curator"), "{sound}");
    // What a stock kazoo program would make, left behind by nobody.
    let stray = "/lock/2f1f9f6a8b554f0e9f430a4c2b6a9d10__lock__0000000001";
    scene.run(&["shell", "create", stray, "stray"]).await?.success()?;
    let (exit, wrong) = doctor("/lock").await?;
    ensure!(exit == Some(4), "{exit:?} {wrong}");
    for told in ["no session", "1 node in line without a session", "extra_lock_patterns", "stray"] {
        ensure!(wrong.contains(told), "nothing of {told}: {wrong}");
    }
    std::fs::write(&done, "")?;
    holder.finish(BOUND).await?.success()?;
    let member = ["join", "/group", "one", "--data", "hello", "--", "sh", "-c"];
    let script = format!("{} doctor /group", docent_bin::binary()?.display());
    let seen = scene.run(&[&member[..], &[&script]].concat()).await?.success()?;
    ensure!(seen.stdout.contains("members of a group: 1") && seen.stdout.contains("hello"), "{seen:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_who_serves() -> Result<()> {
    let scene = Scene::new().await?;
    let up = scene.run(&["status"]).await?.success()?;
    let row = up.stdout.lines().nth(1).unwrap_or_default();
    ensure!(row.starts_with(&scene.server.connect_string()) && row.contains("standalone"), "{up:?}");
    let down = scene.run(&["status", "-s", "127.0.0.1:1"]).await?;
    ensure!(code(&down) == Some(1) && down.stdout.contains("error: "), "{down:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_benchmark_measures_and_leaves_nothing_behind() -> Result<()> {
    let scene = Scene::new().await?;
    let workloads = ["create", "set", "get", "mixed", "watch-fanout", "lock-handover"];
    let arguments =
        [&["bench"], &workloads[..], &["--count", "50", "--sessions", "3", "--in-flight", "4", "--json"]];
    let output = scene.run(&arguments.concat()).await?.success()?;
    let document: serde_json::Value = serde_json::from_str(&output.stdout)?;
    for (result, workload) in document["results"].as_array().context("no results")?.iter().zip(workloads) {
        ensure!(result["workload"] == workload, "{result}");
        ensure!(result["operations"].as_u64().is_some_and(|operations| operations >= 49), "{result}");
    }
    let left = scene.run(&["shell", "ls", "/"]).await?.success()?;
    ensure!(left.stdout.ends_with("\n[zookeeper]\n"), "{left:?}");
    Ok(())
}
