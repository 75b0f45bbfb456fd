//! Ensembles in one process, over real sockets and on real disks: what clients may rely on when servers go and come back.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use docent::{Client, ErrorCode, Zxid};
use docent_server::config::{Role, ServerId};
use docent_server::storage::{Dirs, Disk, Group, Log, LogOptions, LogReader, RealDisk, Record};
use docent_server::testing::TestEnsemble;

/// How long something may take that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

async fn client_of(ensemble: &TestEnsemble, index: usize) -> Client {
    Client::connect(ensemble.servers()[index].connect_string()).await.expect("the server serves")
}

/// Makes a node while servers come and go. A write whose connection is lost is not known to have happened: it is made
/// again, and finds the node then if it has.
async fn create(client: &Client, path: &str, data: &[u8]) {
    let began = Instant::now();
    let mut may_be_there = false;
    loop {
        match client.create(path, data.to_vec()).await {
            Ok(_) => return,
            Err(error) if may_be_there && error.code() == Some(ErrorCode::NODE_EXISTS) => return,
            Err(error) => {
                assert!(error.is_retryable() && began.elapsed() < PATIENCE, "{path}: {error}");
                may_be_there |= error.may_have_applied();
            }
        }
    }
}

/// Waits until all servers that run hold the same tree.
async fn wait_until_level(ensemble: &TestEnsemble) {
    let began = Instant::now();
    loop {
        let mut states = Vec::new();
        for server in ensemble.servers() {
            if let Some(handle) = server.handle() {
                states.push(handle.look(|node| (node.tree().last_zxid(), node.tree().digest())).await);
            }
        }
        if states.windows(2).all(|pair| pair[0] == pair[1]) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "the servers do not come level: {states:?}");
        // A bounded wait for servers that run in other tasks.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_serves_and_all_hold_the_same() {
    let ensemble = TestEnsemble::start(3).await.unwrap();
    for index in 0..3 {
        let client = client_of(&ensemble, index).await;
        client.create(format!("/of-{index}"), "x").await.unwrap();
        for other in 0..=index {
            client.sync("/").await.unwrap();
            let node = client.get_data(format!("/of-{other}")).await.unwrap();
            assert_eq!(node.bytes(), "x", "server {index} sees what server {other} was told");
        }
        client.close().await.unwrap();
    }
    wait_until_level(&ensemble).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_the_leader_and_sessions_do_too() {
    let mut ensemble = TestEnsemble::start(3).await.unwrap();
    let client = Client::connect(ensemble.connect_string()).await.unwrap();
    client.create("/before", "1").await.unwrap();
    let session = client.session().unwrap().id();
    for round in 0..3 {
        let leader = ensemble.wait_for_leader().await.unwrap();
        ensemble.kill(leader).await;
        let began = Instant::now();
        let next = ensemble.wait_for_leader().await.unwrap();
        println!("round {round}: server {} leads after {:?}", next + 1, began.elapsed());
        assert_ne!(next, leader);
        create(&client, &format!("/after-{round}"), b"2").await;
        println!("round {round}: written after {:?}", began.elapsed());
        ensemble.restart(leader).await.unwrap();
        assert!(ensemble.wait_until_serving().await, "the old leader comes back");
        wait_until_level(&ensemble).await;
    }
    assert_eq!(client.session().unwrap().id(), session);
    let mut paths = ensemble.servers()[0].paths().await;
    paths.sort();
    assert_eq!(paths, ["/", "/after-0", "/after-1", "/after-2", "/before"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_does_not_write_and_goes_on_when_a_quorum_is_back() {
    let mut ensemble = TestEnsemble::start(3).await.unwrap();
    let client = Client::connect(ensemble.connect_string()).await.unwrap();
    client.create("/a", "1").await.unwrap();
    for index in [0, 1] {
        ensemble.stop(index).await;
    }
    let write = tokio::time::timeout(Duration::from_millis(700), client.set_data("/a", "2", -1));
    // No answer, or none that may be trusted: its connection may have been to a server that stopped.
    assert!(!matches!(write.await, Ok(Ok(_))), "one of three is no quorum");
    let began = Instant::now();
    while ensemble.leader().await.is_some() {
        assert!(began.elapsed() < PATIENCE, "it leads without a quorum");
        // A bounded wait for a server that runs in other tasks.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    ensemble.restart(0).await.unwrap();
    ensemble.wait_for_leader().await.unwrap();
    assert!(ensemble.wait_until_serving().await);
    wait_until_level(&ensemble).await;
}

/// Puts a record behind the end of a stopped server's log that no other server has: what a leader logs that dies before
/// anybody hears of it.
fn log_what_nobody_else_has(data_dir: &Path) {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let dirs = Dirs::new(data_dir, None);
    let options = LogOptions::default();
    let mut reader =
        LogReader::after(disk.clone(), &dirs.logs, Zxid::ZERO, None, options.payload_max).unwrap();
    let mut last = None;
    while let Some(record) = reader.next_record().unwrap() {
        last = Some(record);
    }
    let Record { zxid, payload } = last.expect("the log has records");
    let next = zxid.next().expect("the epoch goes on");
    // Behind session and cxid stands the transaction's own number.
    let mut payload = payload.to_vec();
    payload[12..20].copy_from_slice(&next.0.to_be_bytes());
    let mut group = Group::new(zxid, options.payload_max);
    group.push(&Record::new(payload.into()).unwrap()).unwrap();
    let mut log = Log::new(disk, dirs, options, zxid);
    log.append(&group).unwrap();
    log.sync().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_dead_leader_logged_is_forgotten_when_it_comes_back() {
    let mut ensemble = TestEnsemble::start(3).await.unwrap();
    let client = Client::connect(ensemble.connect_string()).await.unwrap();
    client.create("/a", "old").await.unwrap();
    client.set_data("/a", "last", -1).await.unwrap();
    wait_until_level(&ensemble).await;
    let leader = ensemble.wait_for_leader().await.unwrap();
    ensemble.stop(leader).await;
    log_what_nobody_else_has(ensemble.servers()[leader].data_dir());
    ensemble.wait_for_leader().await.unwrap();
    create(&client, "/b", b"").await;
    ensemble.restart(leader).await.unwrap();
    assert!(ensemble.wait_until_serving().await);
    wait_until_level(&ensemble).await;
    let version = client_of(&ensemble, leader).await.exists("/a").await.unwrap().unwrap().version;
    assert_eq!(version, 1, "the write that nobody else had would have made it 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_far_behind_is_brought_level_from_the_log() {
    let mut ensemble = TestEnsemble::start(3).await.unwrap();
    let client = Client::connect(ensemble.connect_string()).await.unwrap();
    client.create("/first", "").await.unwrap();
    wait_until_level(&ensemble).await;
    ensemble.stop(0).await;
    // Three parts of the log, as they are read for a learner.
    for n in 0..300 {
        create(&client, &format!("/n{n}"), &[n as u8; 10_000]).await;
    }
    // Started again, the others have in memory nothing of what they wrote.
    for index in [1, 2] {
        ensemble.stop(index).await;
    }
    for index in [1, 2] {
        ensemble.restart(index).await.unwrap();
    }
    assert!(ensemble.wait_until_serving().await);
    ensemble.restart(0).await.unwrap();
    assert!(ensemble.wait_until_serving().await);
    wait_until_level(&ensemble).await;
    let folder = ensemble.servers()[0].data_dir().join("version-2");
    let snapshots = std::fs::read_dir(folder).unwrap();
    let snapshots = snapshots
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("snapshot."));
    assert_eq!(snapshots.count(), 1, "it was not sent the whole state");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_its_disk_is_sent_the_whole_state() {
    let few = |config: &mut docent_server::config::Config| config.storage.snap_count = 50;
    let mut ensemble = TestEnsemble::start_with(3, few).await.unwrap();
    let client = Client::connect(ensemble.connect_string()).await.unwrap();
    for n in 0..300 {
        client.create(format!("/n{n}"), vec![n as u8; 1_000]).await.unwrap();
    }
    wait_until_level(&ensemble).await;
    for index in 0..3 {
        ensemble.kill(index).await;
    }
    let folder = ensemble.servers()[0].data_dir().join("version-2");
    std::fs::remove_dir_all(&folder).unwrap();
    // Started again, the others know of no record before their snapshots.
    for index in [1, 2] {
        ensemble.restart(index).await.unwrap();
    }
    assert!(ensemble.wait_until_serving().await);
    create(&client, "/while-it-was-away", b"").await;
    ensemble.restart(0).await.unwrap();
    assert!(ensemble.wait_until_serving().await);
    wait_until_level(&ensemble).await;
    let first_log = folder.join("log.100000001");
    assert!(!first_log.exists(), "it was sent the whole state, not the log");
    // And it finds that again on its own disk.
    create(&client, "/behind-the-state", b"").await;
    ensemble.kill(0).await;
    ensemble.restart(0).await.unwrap();
    assert!(ensemble.wait_until_serving().await);
    wait_until_level(&ensemble).await;
    assert_eq!(ensemble.servers()[0].paths().await.len(), 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_serves_and_its_absence_or_presence_decides_nothing() {
    let with_observer = |config: &mut docent_server::config::Config| {
        let member = config.ensemble.members.get_mut(&ServerId(4)).unwrap();
        member.role = Role::Observer;
    };
    let mut ensemble = TestEnsemble::start_with(4, with_observer).await.unwrap();
    let client = client_of(&ensemble, 3).await;
    client.create("/by-the-observer", "x").await.unwrap();
    assert_eq!(client.get_data("/by-the-observer").await.unwrap().bytes(), "x");
    wait_until_level(&ensemble).await;
    for index in [0, 1] {
        ensemble.stop(index).await;
    }
    let write = tokio::time::timeout(Duration::from_millis(700), client.create("/c", ""));
    assert!(
        !matches!(write.await, Ok(Ok(_))),
        "two of the four are no quorum, because only one of them votes"
    );
    ensemble.restart(0).await.unwrap();
    assert!(ensemble.wait_until_serving().await);
    wait_until_level(&ensemble).await;
}
