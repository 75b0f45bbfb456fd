//! What the loop holds back, and which states it lets become ours.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::config::{Config, PeerAddress};
use crate::net::{Elections, PeerLinks, QuorumOptions, QuorumPort, Roster};
use crate::node::{Boot, State};
use crate::shell::log_source::LogSource;
use crate::shell::peers::{Durable, Peers};
use crate::shell::start::Options;
use crate::storage::{Dirs, Disk, Order, RealDisk};
use crate::tree::Tree;
use crate::zab::{Epochs, LogShape, PeerId};

const LINK: LinkId = LinkId(1);

/// A loop of a server that is alone, but has a link to another one.
struct Stage {
    looped: Loop,
    orders: mpsc::Receiver<Order>,
    stop: CancellationToken,
    _peer: TcpStream,
    _inputs: mpsc::Receiver<PeerInput>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn state() -> State {
    State { tree: Tree::new(), sessions: Vec::new() }
}

async fn stage(folder: &Path) -> Stage {
    let options =
        Options::of(&Config::dev(folder), crate::shell::Listen::default(), None, Default::default());
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let dirs = Dirs::new(folder, None);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let quorum_port = listener.local_addr().unwrap().port();
    let address = PeerAddress { host: "127.0.0.1".into(), quorum_port, election_port: 1 };
    let members = BTreeMap::from([(PeerId(1), vec![address])]);
    let roster = Roster { me: PeerId(1), members, listen_on_all: false, open: false };
    let roster_of_one = roster.clone();
    let (inputs_in, mut inputs) = mpsc::channel(PEER_INPUTS_MAX);
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let peers = Peers {
        elections: Elections::start(Vec::new(), &roster, &inputs_in, &stop, &tasks),
        port: QuorumPort::start(
            Vec::new(),
            QuorumOptions {
                roster,
                inputs: inputs_in.clone(),
                receive: Arc::new(|_, _| Err("none is expected".into())),
                buffer_max: 1_000,
                init_limit_ms: 60_000,
                stop: stop.clone(),
                tasks: tasks.clone(),
            },
        ),
        roster: roster_of_one,
        file: None,
        facts: options.facts.clone(),
        links: PeerLinks::default(),
        durable: Durable::new(Zxid::ZERO),
        log: Arc::new(LogSource::new(Arc::clone(&disk), dirs.clone(), 1_000)),
        inputs: inputs_in,
        tasks,
    };
    peers.port.dial(PeerId(1), None);
    let (peer, _) = listener.accept().await.unwrap();
    let Some(opened @ PeerInput::Opened(_)) = inputs.recv().await else { panic!("the link comes first") };
    let (orders_in, orders) = mpsc::channel(16);
    let clock = Clock::new();
    let boot = Boot { state: state(), epochs: Epochs::default(), log: LogShape::new(Zxid::ZERO) };
    let node = Node::new(options.node.clone(), boot, clock.now());
    let reload = Reload::new(&disk, &dirs, &options);
    let mut looped = Loop::new(node, clock, Outside::new(orders_in, None, Some(peers)), reload);
    looped.held.push_back(opened);
    looped.on_peers(&mut Effects::default()).await.unwrap();
    Stage { looped, orders, stop, _peer: peer, _inputs: inputs }
}

/// A state that has come, and whether it was given its name.
fn snapshot() -> (PeerInput, Arc<AtomicBool>) {
    let kept = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&kept);
    let keep = Box::new(move || {
        told.store(true, Ordering::SeqCst);
        Ok(())
    });
    let received = Received { state: Box::new(state()), keep };
    (PeerInput::Snapshot { link: LINK, zxid: Zxid(9), received }, kept)
}

#[tokio::test]
async fn a_state_gets_its_name_while_its_link_stands() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = stage(folder.path()).await;
    let (input, kept) = snapshot();
    stage.looped.held.push_back(input);
    stage.looped.on_peers(&mut Effects::default()).await.unwrap();
    assert!(kept.load(Ordering::SeqCst) && stage.looped.held.is_empty());
}

#[tokio::test]
async fn a_state_whose_link_the_node_has_just_hung_up_does_not_get_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = stage(folder.path()).await;
    let (input, kept) = snapshot();
    stage.looped.held.push_back(input);
    let mut fx = Effects::default();
    fx.push(Effect::Hangup(LINK));
    stage.looped.on_peers(&mut fx).await.unwrap();
    assert_eq!(stage.looped.held.len(), 1, "what the node asked for comes first");
    stage.looped.outside.perform(&mut fx).map_err(disk_gone).unwrap();
    stage.looped.on_peers(&mut fx).await.unwrap();
    assert!(!kept.load(Ordering::SeqCst) && stage.looped.held.is_empty());
}

#[tokio::test]
async fn nothing_is_heard_while_the_state_is_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = stage(folder.path()).await;
    let messages = vec![Message::UpToDate, Message::SyncDone];
    stage.looped.held.push_back(PeerInput::Messages(LINK, messages));
    stage.looped.waits_for_state = true;
    let mut fx = Effects::default();
    stage.looped.on_peers(&mut fx).await.unwrap();
    assert_eq!(stage.looped.held.len(), 1);
    stage.looped.mind_time(&mut fx);
    assert!(fx.list.is_empty(), "time stands still, too");
    fx.push(Effect::Truncate { order: 7, after: Zxid(3), reload: true });
    stage.looped.outside.perform(&mut fx).map_err(disk_gone).unwrap();
    assert!(matches!(stage.orders.recv().await, Some(Order::Truncate { order: 7, after: Zxid(3) })));
    let now = stage.looped.clock.now();
    assert_eq!(stage.looped.outside.cut(), Some(7));
    stage.looped.outside.synced(6);
    assert_eq!(stage.looped.outside.cut(), Some(7));
    stage.looped.outside.synced(7);
    assert_eq!(stage.looped.outside.cut(), None);
    let refused = Report::TruncateRefused { order: 8, after: Zxid(3) };
    let stopped = stage.looped.on_report(refused, now, &mut fx).unwrap_err();
    assert!(stopped.to_string().contains("0x3 forgotten"), "{stopped}");
}
