//! Faults that Apache's servers had between a request and the log, by their numbers.

use std::net::{IpAddr, Ipv4Addr};

use bytes::{Bytes, BytesMut};
use docent::proto::{ConnectRequest, Encode, OpCode, Request, RequestHeader};
use docent::{SessionId, Version, Xid, Zxid};

use super::txn::{LoggedTxn, Txn};
use super::{
    Body, Boot, ConnId, Effect, Effects, Event, Logins, Node, NodeConfig, Now, Rules, Serving, State,
};
use crate::limits::Sizes;
use crate::tree::Tree;
use crate::zab::{Epochs, ForwardedRequest, LogShape, PeerId};

const NOW: Now = Now { mono_ms: 1_000, wall_ms: 1_700_000_000_000 };
const CLIENT: ConnId = ConnId(1);

/// A server that is alone, with one client.
fn served() -> (Node, SessionId) {
    let config = NodeConfig {
        me: PeerId(0),
        ensemble: None,
        tick_ms: 2_000,
        min_session_timeout_ms: 4_000,
        max_session_timeout_ms: 40_000,
        rules: Rules { extended_types: true, ..Rules::default() },
        serving: Serving::default(),
        super_digest: None,
        enforced_schemes: None,
        logins: Logins::default(),
        digest: true,
        snap_count: 100_000,
        snap_bytes: u64::MAX / 2,
        sweep_interval_ms: 60_000,
        sweep_max: 100,
        seed: 1,
        sizes: Sizes::default(),
    };
    let state = State { tree: Tree::new(), sessions: Vec::new() };
    let boot = Boot { state, epochs: Epochs::default(), log: LogShape::new(Zxid::ZERO) };
    let mut node = Node::new(config, boot, NOW);
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: 10_000,
        session: SessionId::NONE,
        password: None,
        read_only: None,
    };
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut fx = Effects::default();
    node.step(NOW, Event::Connect { conn: CLIENT, address, port: 1, subject: None, request }, &mut fx);
    let begun = logged(&fx);
    node.step(NOW, Event::Synced { order: 1 }, &mut Effects::default());
    let [LoggedTxn { header, txn: Txn::CreateSession { .. }, .. }] = &begun[..] else { panic!("{begun:?}") };
    (node, header.session)
}

/// What is ordered for the log.
fn logged(fx: &Effects) -> Vec<LoggedTxn> {
    let payloads = fx.list.iter().filter_map(|effect| match effect {
        Effect::Append { payload, .. } => Some(payload.clone()),
        _ => None,
    });
    payloads.map(|payload| LoggedTxn::decode(payload).unwrap()).collect()
}

/// ZOOKEEPER-2623: `check` outside of a multi was proposed and logged, and no server could read its log any more. Here it is
/// refused where it comes in, and becomes an error transaction where another server lets it pass.
#[test]
fn a_check_by_itself_never_gets_into_the_log() {
    let (mut node, session) = served();
    let check = Request::Check { path: "/".to_owned(), version: Version::ANY };
    let mut body = BytesMut::new();
    check.encode(&mut body);
    let body = body.freeze();
    let header = RequestHeader { xid: Xid(1), op: OpCode::Check.code() };
    let mut fx = Effects::default();
    node.step(NOW, Event::Client { conn: CLIENT, header, body: Body::Request(check) }, &mut fx);
    assert_eq!(logged(&fx), []);
    assert!(fx.list.iter().any(|effect| matches!(effect, Effect::Reply { .. })), "it is answered: {fx:?}");

    let forwarded = |op, body: Bytes| ForwardedRequest { session, cxid: 2, op, body, identities: Vec::new() };
    for (op, body) in [(OpCode::Check, body), (OpCode::Error, Bytes::new()), (OpCode::GetData, Bytes::new())]
    {
        let mut fx = Effects::default();
        node.propose_forwarded(PeerId(2), forwarded(op, body), &mut fx);
        let logged = logged(&fx);
        let [LoggedTxn { txn: Txn::Error(_), .. }] = &logged[..] else { panic!("{op:?}: {logged:?}") };
    }
}
