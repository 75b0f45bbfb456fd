use super::*;
use std::future::pending;
use std::path::Path;
use std::time::Instant;

/// A signal goes to all listeners of a process, so the programs of these tests run one after the other.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn shell(script: &str) -> Program {
    Program {
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        environment: vec![("DOCENT_FENCING_TOKEN", "77".to_owned())],
        input: Some(Bytes::new()),
        grace: Duration::from_secs(60),
    }
}

async fn run_alone(program: &Program) -> Ended<()> {
    let mut signals = Signals::listen().unwrap();
    run(program, &mut signals, pending()).await.unwrap()
}

/// Waits for a file that a script makes, as long as a busy machine may take.
async fn wait_for(file: &Path) {
    let begin = Instant::now();
    while !file.exists() {
        assert!(begin.elapsed() < Duration::from_secs(30), "{} does not come", file.display());
        // The pause of a bounded wait.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_exit_code_is_the_programs() {
    let _alone = ALONE.lock().await;
    for (script, code) in [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$", 143)] {
        assert_eq!(run_alone(&shell(script)).await, Ended::Exited(code), "{script}");
    }
}

#[tokio::test]
async fn a_program_that_cannot_run_is_told_by_its_exit_code() {
    let _alone = ALONE.lock().await;
    let program = |name: &str| Program { command: vec![name.to_owned()], ..shell("") };
    assert_eq!(run_alone(&program("/nonexistent/program")).await, Ended::Exited(127));
    assert_eq!(run_alone(&program("/etc/hostname")).await, Ended::Exited(126));
}

#[tokio::test]
async fn environment_and_input_reach_the_program() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut program = shell(&format!("echo $DOCENT_FENCING_TOKEN > {0}; cat >> {0}", out.display()));
    program.input = Some(Bytes::from_static(b"the data"));
    assert_eq!(run_alone(&program).await, Ended::Exited(0));
    assert_eq!(std::fs::read_to_string(out).unwrap(), "77\nthe data");
}

#[tokio::test]
async fn a_program_need_not_read_its_input() {
    let _alone = ALONE.lock().await;
    let mut program = shell("exit 4");
    program.input = Some(Bytes::from(vec![0; 10 << 20]));
    assert_eq!(run_alone(&program).await, Ended::Exited(4));
}

#[tokio::test]
async fn a_lost_hold_asks_the_program_to_end() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let (ready, ended) = (folder.path().join("ready"), folder.path().join("ended"));
    let script = format!(
        "trap 'touch {}; exit 0' TERM; touch {}; while :; do sleep 0.01; done",
        ended.display(),
        ready.display()
    );
    let mut signals = Signals::listen().unwrap();
    let lost = async {
        wait_for(&ready).await;
        "gone"
    };
    assert_eq!(run(&shell(&script), &mut signals, lost).await.unwrap(), Ended::Lost("gone"));
    assert!(ended.exists(), "the program was not asked before it was killed");
}

#[tokio::test]
async fn a_program_that_does_not_end_is_killed_with_what_it_started() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let (ready, beat) = (folder.path().join("ready"), folder.path().join("beat"));
    // The inner shell ignores the request, too, and would go on writing.
    let script = format!(
        "trap '' TERM; (while :; do echo x >> {beat}; sleep 0.01; done) & echo $! > {ready}.new; mv {ready}.new {ready}; wait",
        beat = beat.display(),
        ready = ready.display()
    );
    let mut program = shell(&script);
    program.grace = Duration::from_millis(50);
    let mut signals = Signals::listen().unwrap();
    let lost = wait_for(&ready);
    assert_eq!(run(&program, &mut signals, lost).await.unwrap(), Ended::Lost(()));
    let inner: i32 = std::fs::read_to_string(&ready).unwrap().trim().parse().unwrap();
    let inner = Pid::from_raw(inner).unwrap();
    let begin = Instant::now();
    // It is gone, or nobody has taken note of its end yet: then its state is Z.
    while rustix::process::test_kill_process(inner).is_ok() {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", inner.as_raw_nonzero())).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "{stat}");
        // The pause of a bounded wait.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn signals_are_passed_on() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready");
    let script = format!("trap 'exit 9' USR1; touch {}; while :; do sleep 0.01; done", ready.display());
    let mut signals = Signals::listen().unwrap();
    let sender = async {
        wait_for(&ready).await;
        kill_process(rustix::process::getpid(), Signal::USR1).unwrap();
        pending::<()>().await
    };
    assert_eq!(run(&shell(&script), &mut signals, sender).await.unwrap(), Ended::Exited(9));
}
