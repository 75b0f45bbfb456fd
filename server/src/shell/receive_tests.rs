//! A whole state goes from port to port: cut into pieces on one side, loaded and on the disk on the other.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use docent::{Acl, SessionId, Zxid};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::receive::Receiving;
use crate::config::PeerAddress;
use crate::limits::PEER_INPUTS_MAX;
use crate::net::{PeerInput, PeerLinks, QuorumOptions, QuorumPort, Received, Roster};
use crate::node::Event;
use crate::node::txn::{CreateTxn, NodeKind, Txn, TxnHeader};
use crate::storage::{Compression, RealDisk, RecoverOptions, Recovered, recover};
use crate::tree::{Tree, TreeOptions};
use crate::zab::{LinkId, Message, PeerId};

const PATIENCE: Duration = Duration::from_secs(20);
const LINK: LinkId = LinkId(1);

/// One end of a link.
struct End {
    port: QuorumPort,
    inputs: mpsc::Receiver<PeerInput>,
    links: PeerLinks,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl End {
    async fn next(&mut self) -> PeerInput {
        timeout(PATIENCE, self.inputs.recv()).await.expect("something happens").expect("the port lives")
    }

    /// Passes over everything until the link is there.
    async fn link(&mut self) {
        loop {
            if let PeerInput::Opened(link) = self.next().await {
                return self.links.insert(link);
            }
        }
    }

    fn send(&mut self, message: &Message) {
        self.links.send(LINK, message);
        self.links.flush();
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        timeout(PATIENCE, self.tasks.wait()).await.expect("its tasks end");
    }
}

fn receiving(folder: &TempDir) -> Receiving {
    Receiving {
        disk: Arc::new(RealDisk),
        dir: folder.path().join("version-2"),
        compression: Compression::None,
        digest: true,
        extended_types: true,
    }
}

/// A learner 1 that keeps what it is sent in `folder`, and a leader 2, with a link between them.
async fn linked(folder: &TempDir) -> (End, End) {
    std::fs::create_dir_all(folder.path().join("version-2")).unwrap();
    let mut listeners = Vec::new();
    let mut members = BTreeMap::new();
    for peer in [1, 2] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let quorum_port = listener.local_addr().unwrap().port();
        let address = PeerAddress { host: "127.0.0.1".into(), quorum_port, election_port: 1 };
        members.insert(PeerId(peer), vec![address]);
        listeners.push((PeerId(peer), listener));
    }
    let mut ends = listeners.into_iter().map(|(me, listener)| {
        let (inputs_in, inputs) = mpsc::channel(PEER_INPUTS_MAX);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let options = QuorumOptions {
            roster: Roster { me, members: members.clone(), listen_on_all: false, open: false },
            inputs: inputs_in,
            receive: receiving(folder).into_fn(),
            buffer_max: 1 << 20,
            init_limit_ms: 10_000,
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        End {
            port: QuorumPort::start(vec![listener], options),
            inputs,
            links: PeerLinks::default(),
            stop,
            tasks,
        }
    });
    let (mut learner, mut leader) = (ends.next().unwrap(), ends.next().unwrap());
    learner.port.dial(PeerId(2), None);
    learner.link().await;
    let info = Message::FollowerInfo {
        peer: PeerId(1),
        accepted_epoch: 0,
        observer: false,
        config_version: 0,
        capability: None,
    };
    learner.send(&info);
    leader.link().await;
    (learner, leader)
}

/// A tree of about ten megabytes.
fn tree() -> Tree {
    let mut tree = Tree::with_options(TreeOptions { hash_seed: 7, extended_types: true });
    for n in 1..=2_000 {
        let header = TxnHeader { session: SessionId(1), cxid: 0, zxid: Zxid(n), time_ms: 5 };
        let create = CreateTxn {
            create2: false,
            path: format!("/node-{n}"),
            data: Some(Bytes::from(vec![n as u8; 5_000])),
            acl: Acl::open(),
            kind: if n % 100 == 0 { NodeKind::Ephemeral } else { NodeKind::Persistent },
            parent_cversion: n as i32,
        };
        tree.apply(&header, &Txn::Create(create), &mut Vec::new());
    }
    tree
}

/// What a leader says to bring a learner to this state, and one word behind it.
fn announce(tree: &mut Tree, zxid: Zxid) -> Vec<Message> {
    tree.begin_snapshot(&[(SessionId(9), 4_000)]).unwrap();
    let mut messages = vec![Message::Snap(zxid)];
    while let Some(piece) = tree.next_piece(100_000) {
        messages.push(Message::SnapPiece(piece));
    }
    messages.extend([Message::SnapEnd, Message::NewLeader { epoch: 3, config: Bytes::new() }]);
    messages
}

/// Passes over everything until the state is there.
async fn received(learner: &mut End) -> (Zxid, Received) {
    loop {
        match learner.next().await {
            PeerInput::Snapshot { link: LINK, zxid, received } => return (zxid, received),
            PeerInput::Messages(_, messages) => assert!(
                messages.iter().all(|message| matches!(message, Message::Snap(_))),
                "{messages:?} comes before the state"
            ),
            PeerInput::Lost(_) => panic!("the link is lost before the state is there"),
            _ => {}
        }
    }
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path().join("version-2")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_arrives_whole_and_a_start_finds_it_once_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (mut learner, mut leader) = linked(&folder).await;
    let mut tree = tree();
    let zxid = Zxid::new(2, 30);
    for message in announce(&mut tree, zxid) {
        leader.send(&message);
    }
    let (told, Received { state, keep }) = received(&mut learner).await;
    assert_eq!((told, state.tree.last_zxid(), state.tree.digest()), (zxid, zxid, tree.digest()));
    assert_eq!(state.sessions, [(SessionId(1), 0), (SessionId(9), 4_000)], "owners have sessions");
    let PeerInput::Messages(LINK, behind) = learner.next().await else { panic!("a word follows the state") };
    assert_eq!(behind, [Message::NewLeader { epoch: 3, config: Bytes::new() }]);
    assert_eq!(names(&folder), ["new-snapshot.received.20000001e"], "a start would not look at it");
    keep().unwrap();
    assert_eq!(names(&folder), ["snapshot.20000001e"]);
    let disk: Arc<dyn crate::storage::Disk> = Arc::new(RealDisk);
    let dirs = crate::storage::Dirs::new(folder.path(), None);
    let load = |mut input: &mut dyn Read, _| Tree::load(&mut input, true);
    let Recovered::Loaded(loaded) = recover(&disk, &dirs, &RecoverOptions::default(), load).unwrap() else {
        panic!("a start finds the state")
    };
    assert_eq!(loaded.trailer.digest.map(|digest| (digest.zxid, digest.digest)), Some((zxid, tree.digest())));
    assert_eq!(loaded.state.map(|(found, _)| found.digest()), Some(tree.digest()));
    learner.end().await;
    leader.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_not_wanted_any_more_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut learner, mut leader) = linked(&folder).await;
    for message in announce(&mut tree(), Zxid(2_000)) {
        leader.send(&message);
    }
    let (_, late) = received(&mut learner).await;
    drop(late);
    assert_eq!(names(&folder), [""; 0]);
    learner.end().await;
    leader.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_cut_or_ends_wrongly_ends_the_link_and_leaves_nothing() {
    for spoil in ["cut", "signature", "body"] {
        let folder = tempfile::tempdir().unwrap();
        let (mut learner, mut leader) = linked(&folder).await;
        let mut messages = announce(&mut tree(), Zxid(2_000));
        match spoil {
            "cut" => messages.truncate(messages.len() / 2),
            "signature" => {
                let end = messages.len() - 2;
                messages[end] = Message::SnapPiece(Bytes::from_static(b"\0\0\0\x0aBenWasThere"));
            }
            _ => messages[2] = Message::SnapPiece(Bytes::from(vec![0xff; 1_000])),
        }
        for message in messages {
            leader.send(&message);
        }
        leader.links.hang_up(LINK);
        loop {
            match learner.next().await {
                PeerInput::Lost(LINK) => break,
                PeerInput::Messages(..) | PeerInput::Event(Event::Dialed { .. }) => {}
                other => panic!("{spoil}: {other:?} must not be told"),
            }
        }
        learner.end().await;
        leader.end().await;
        assert_eq!(names(&folder), [""; 0], "{spoil}");
    }
}
