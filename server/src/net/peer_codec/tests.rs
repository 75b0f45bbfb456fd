//! What Apache's servers said to each other, read and written again; then values and bytes of chance.
//!
//! The captures are of Apache ZooKeeper 3.8.0: elections, and quorum links with every way of synchronization, observers
//! and reconfigurations.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use docent::proto::OpCode;
use docent::{SessionId, Zxid};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::zab::{ForwardedRequest, Message, Notification, PeerId, Standing, Vote};

const CAPTURES: &str = include_str!("../../../tests/peers/captures-3.8.0.json");
const BUFFER_MAX: usize = 2_097_150;

fn bytes_of(hex: &str) -> BytesMut {
    let digit = |c: u8| char::from(c).to_digit(16).unwrap() as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Capture, kind of connection, whether the initiator speaks, name, bytes.
fn captured() -> Vec<(String, String, bool, String, BytesMut)> {
    let file: Value = serde_json::from_str(CAPTURES).unwrap();
    let mut all = Vec::new();
    for connection in file.as_array().unwrap() {
        let text = |key: &str| connection[key].as_str().unwrap().to_owned();
        for message in connection["messages"].as_array().unwrap() {
            let part = |at: usize| message[at].as_str().unwrap();
            let bytes = bytes_of(part(2));
            all.push((text("capture"), text("kind"), part(0) == "initiator", part(1).to_owned(), bytes));
        }
    }
    all
}

fn written(speaker: Speaker, message: &Message) -> BytesMut {
    let mut out = BytesMut::new();
    put_message(&mut out, speaker, message);
    out
}

#[test]
fn every_packet_of_apache_is_read_and_written_again_byte_for_byte() {
    let mut seen = std::collections::BTreeMap::new();
    for (capture, kind, from_initiator, name, bytes) in captured() {
        *seen.entry(format!("{kind} {name}")).or_insert(0) += 1;
        let speaker = if from_initiator { Speaker::Learner } else { Speaker::Leader };
        let again = match (kind.as_str(), name.as_str()) {
            ("election", "initial") => {
                let initial = InitialMessage::decode(&bytes).unwrap();
                let mut out = BytesMut::new();
                put_initial_message(&mut out, initial.peer, &initial.addresses[0]);
                out
            }
            ("election", _) => {
                let notification = read_notification(bytes.clone().freeze().slice(4..)).unwrap();
                let mut out = BytesMut::new();
                out.put_u32(bytes.len() as u32 - 4);
                put_notification(&mut out, &notification);
                out
            }
            (_, "<snapshot stream>") => {
                let signature = 4 + SNAPSHOT_SIGNATURE.len();
                let body = bytes.clone().freeze().slice(..bytes.len() - signature);
                let mut out = written(speaker, &Message::SnapPiece(body));
                out.extend_from_slice(&written(speaker, &Message::SnapEnd));
                out
            }
            _ => {
                let mut input = bytes.clone();
                let message = next_message(&mut input, speaker, BUFFER_MAX).unwrap().unwrap();
                assert!(input.is_empty(), "{capture} {name} leaves {} bytes", input.len());
                written(speaker, &message)
            }
        };
        assert_eq!(again, bytes, "{capture}: {name}");
    }
    let total: i32 = seen.values().sum();
    assert_eq!((seen.len(), total), (22, 502), "{seen:?}");
}

#[test]
fn a_link_is_read_the_same_however_its_bytes_are_cut() {
    let mut whole = BytesMut::new();
    let mut expected = Vec::new();
    for (capture, _, from_initiator, name, bytes) in captured() {
        if capture == "learner-diff-empty-then-broadcast" && from_initiator {
            let mut input = bytes.clone();
            expected.push(next_message(&mut input, Speaker::Learner, BUFFER_MAX).unwrap().expect(&name));
            whole.extend_from_slice(&bytes);
        }
    }
    for step in [1, 3, 7, 64] {
        let (mut input, mut messages) = (BytesMut::new(), Vec::new());
        for piece in whole.chunks(step) {
            input.extend_from_slice(piece);
            while let Some(message) = next_message(&mut input, Speaker::Learner, BUFFER_MAX).unwrap() {
                messages.push(message);
            }
        }
        assert_eq!(messages, expected, "{step} bytes at a time");
    }
}

#[test]
fn votes_are_what_was_written_next_to_their_bytes() {
    let bytes = bytes_of(
        "00000001 0000000000000003 0000000100000015 0000000000000001 0000000000000002 00000002 00000001 78"
            .replace(' ', "")
            .as_str(),
    );
    let notification = read_notification(bytes.freeze()).unwrap();
    let vote = Vote { epoch: 2, zxid: Zxid::new(1, 0x15), leader: PeerId(3) };
    let expected = Notification {
        standing: Standing::Following,
        vote: Some(vote),
        round: 1,
        format: 2,
        config: Bytes::from_static(b"x"),
        capability: None,
        under_way: Bytes::new(),
    };
    assert_eq!(notification, expected);
}

fn old_notification(len: usize) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i32(2);
    bytes.put_i64(3);
    bytes.put_i64(Zxid::new(7, 9).0);
    bytes.put_i64(4);
    bytes.put_i64(6);
    bytes.put_i32(1);
    bytes.put_i32(0);
    bytes.split_to(len).freeze()
}

#[test]
fn notifications_of_old_servers_are_understood_as_apache_understands_them() {
    let epoch = |len| read_notification(old_notification(len)).map(|n| (n.vote.unwrap().epoch, n.format));
    assert_eq!(epoch(28), Ok((7, 0)), "the epoch is the zxid's");
    assert_eq!(epoch(40), Ok((6, 0)), "a format of 1 counts as none");
    assert_eq!(epoch(44), Ok((6, 1)));
    for len in [0, 27, 29, 36, 39] {
        assert!(epoch(len).is_err(), "{len} bytes");
    }
}

#[test]
fn who_has_no_vote_writes_the_smallest_number_for_it() {
    let notification = Notification {
        standing: Standing::Observing,
        vote: None,
        round: 1,
        format: 2,
        config: Bytes::new(),
        capability: Some(Capability::OURS),
        under_way: Bytes::new(),
    };
    let mut out = BytesMut::new();
    put_notification(&mut out, &notification);
    assert_eq!(out.len(), 44 + 5);
    assert_eq!([(&out[4..]).get_i64(), (&out[12..]).get_i64(), (&out[28..]).get_i64()], [i64::MIN; 3]);
    assert_eq!(read_notification(out.freeze()), Ok(notification));
}

#[test]
fn a_configuration_longer_than_its_message_is_refused() {
    for claimed in [-1, 1, i32::MAX] {
        let mut bytes = BytesMut::from(&old_notification(36)[..]);
        bytes.put_i32(2);
        bytes.put_i32(claimed);
        assert!(read_notification(bytes.freeze()).is_err(), "{claimed}");
    }
}

#[test]
fn initial_messages_of_all_versions_are_understood() {
    let mut v2 = BytesMut::new();
    v2.put_i64(-65_535);
    v2.put_i64(5);
    v2.put_i32(7);
    v2.put_slice(b"a:1|b:2");
    let expected = InitialMessage { peer: PeerId(5), addresses: vec!["a:1".into(), "b:2".into()] };
    assert_eq!(InitialMessage::decode(&v2), Ok(expected));
    assert_eq!(initial_message_len(&v2[..19]), Ok(20));
    assert_eq!(initial_message_len(&v2[..20]), Ok(27));
    let old = InitialMessage { peer: PeerId(5), addresses: Vec::new() };
    assert_eq!(InitialMessage::decode(&5_i64.to_be_bytes()), Ok(old));
    assert!(InitialMessage::decode(&(-1_i64).to_be_bytes()).is_err());
    for len in [-1, 0, 2_049, i32::MAX] {
        v2[16..20].copy_from_slice(&i32::to_be_bytes(len));
        assert!(initial_message_len(&v2).is_err(), "{len}");
    }
}

#[test]
fn the_first_packet_of_a_learner_of_3_4_has_no_configuration() {
    let mut bytes = bytes_of("0000000b00000007000000000000000c000000000000000300010000ffffffff");
    let info = next_message(&mut bytes, Speaker::Learner, BUFFER_MAX).unwrap();
    let expected = Message::FollowerInfo {
        peer: PeerId(3),
        accepted_epoch: 7,
        observer: false,
        config_version: 0,
        capability: None,
    };
    assert_eq!(info, Some(expected));
}

#[test]
fn the_answer_to_a_ping_is_never_null_and_a_leaders_ping_always_is() {
    let ping = Message::Ping { last: Zxid(9), touched: Vec::new() };
    assert_eq!(written(Speaker::Learner, &ping)[12..], bytes_of("00000000ffffffff"));
    assert_eq!(written(Speaker::Leader, &ping)[12..], bytes_of("ffffffffffffffff"));
}

#[test]
fn unknown_packets_are_passed_over_and_what_the_other_side_says_is_not_taken_from_this_one() {
    let mut input = bytes_of("000000630000000000000000ffffffffffffffff");
    input.extend_from_slice(&written(Speaker::Leader, &Message::Commit(Zxid(1))));
    input.extend_from_slice(&written(Speaker::Learner, &Message::Ack(Zxid(2))));
    let message = next_message(&mut input, Speaker::Learner, BUFFER_MAX);
    assert_eq!(message, Ok(Some(Message::Ack(Zxid(2)))));
    assert!(input.is_empty());
}

#[test]
fn a_claimed_length_beyond_the_bound_ends_the_link_before_its_bytes_come() {
    for tail in ["7fffffff", "00200000", "fffffffe", "ffffffff00000401", "ffffffff0000000100200000"] {
        let mut input = bytes_of(&format!("000000030000000000000000{tail}"));
        assert!(next_message(&mut input, Speaker::Learner, BUFFER_MAX).is_err(), "{tail}");
    }
    let mut input = bytes_of("000000030000000000000000001ffffe");
    assert_eq!(next_message(&mut input, Speaker::Learner, BUFFER_MAX), Ok(None));
}

fn zxid() -> impl Strategy<Value = Zxid> {
    any::<i64>().prop_map(Zxid)
}

fn payload() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..80).prop_map(Bytes::from)
}

fn capable() -> impl Strategy<Value = Option<Capability>> {
    proptest::option::of(any::<(u8, bool)>().prop_map(|(version, whole)| Capability { version, whole }))
}

fn request() -> impl Strategy<Value = ForwardedRequest> {
    let ops = [OpCode::Create, OpCode::SetData, OpCode::Multi, OpCode::Sync, OpCode::CreateSession];
    let identities = proptest::collection::vec(("\\PC{0,9}", "\\PC{0,9}"), 0..4);
    (any::<i64>(), any::<i32>(), proptest::sample::select(ops.to_vec()), payload(), identities).prop_map(
        |(session, cxid, op, body, identities)| ForwardedRequest {
            session: SessionId(session),
            cxid,
            op,
            body,
            identities,
        },
    )
}

fn of_learner() -> impl Strategy<Value = Message> {
    let touched = proptest::collection::vec((any::<i64>().prop_map(SessionId), any::<i32>()), 0..5);
    prop_oneof![
        (any::<u64>(), any::<u32>(), any::<bool>(), any::<i64>(), capable()).prop_map(
            |(peer, accepted_epoch, observer, config_version, capability)| Message::FollowerInfo {
                peer: PeerId(peer),
                accepted_epoch,
                observer,
                config_version,
                capability
            }
        ),
        (zxid(), proptest::option::of(0..u32::MAX))
            .prop_map(|(last, current)| Message::AckEpoch { last, current }),
        zxid().prop_map(Message::Ack),
        request().prop_map(Message::Request),
        (zxid(), touched).prop_map(|(last, touched)| Message::Ping { last, touched }),
        (any::<i64>(), any::<i32>()).prop_map(|(session, timeout_ms)| Message::Revalidate {
            session: SessionId(session),
            timeout_ms
        }),
    ]
}

fn of_leader() -> impl Strategy<Value = Message> {
    let designated = || (zxid(), any::<u64>().prop_map(PeerId));
    prop_oneof![
        (any::<u32>(), capable()).prop_map(|(epoch, capability)| Message::LeaderInfo { epoch, capability }),
        zxid().prop_map(Message::Diff),
        zxid().prop_map(Message::Trunc),
        zxid().prop_map(Message::Snap),
        (any::<u32>(), payload()).prop_map(|(epoch, config)| Message::NewLeader { epoch, config }),
        Just(Message::UpToDate),
        (zxid(), payload()).prop_map(|(zxid, payload)| Message::Proposal { zxid, payload }),
        (zxid(), payload()).prop_map(|(zxid, payload)| Message::Inform { zxid, payload }),
        zxid().prop_map(Message::Commit),
        designated().prop_map(|(zxid, leader)| Message::CommitAndActivate { zxid, leader }),
        (designated(), payload()).prop_map(|((zxid, leader), payload)| Message::InformAndActivate {
            zxid,
            leader,
            payload
        }),
        zxid().prop_map(|last| Message::Ping { last, touched: Vec::new() }),
        (any::<i64>(), any::<bool>())
            .prop_map(|(session, valid)| Message::Revalidated { session: SessionId(session), valid }),
        Just(Message::SyncDone),
    ]
}

fn reads_back(speaker: Speaker, message: &Message) -> Result<(), TestCaseError> {
    let mut bytes = written(speaker, message);
    for cut in 0..bytes.len() {
        let mut part = BytesMut::from(&bytes[..cut]);
        prop_assert_eq!(next_message(&mut part, speaker, BUFFER_MAX), Ok(None), "cut at {}", cut);
    }
    prop_assert_eq!(next_message(&mut bytes, speaker, BUFFER_MAX), Ok(Some(message.clone())));
    prop_assert!(bytes.is_empty());
    Ok(())
}

proptest! {
    #[test]
    fn what_a_learner_says_is_read_back(message in of_learner()) {
        reads_back(Speaker::Learner, &message)?;
    }

    #[test]
    fn what_a_leader_says_is_read_back(message in of_leader()) {
        reads_back(Speaker::Leader, &message)?;
    }

    #[test]
    fn a_notification_is_read_back(
        standing in 0..4_usize,
        vote in proptest::option::of((any::<i64>(), zxid(), 0..u64::MAX >> 1)),
        round in any::<i64>(),
        config in payload(),
        capability in capable(),
        under_way in payload(),
    ) {
        let under_way = if capability.is_some() { under_way } else { Bytes::new() };
        let standing =
            [Standing::Looking, Standing::Following, Standing::Leading, Standing::Observing][standing];
        let vote = vote.map(|(epoch, zxid, leader)| Vote { epoch, zxid, leader: PeerId(leader) });
        let notification = Notification { standing, vote, round, format: 2, config, capability, under_way };
        let mut out = BytesMut::new();
        put_notification(&mut out, &notification);
        prop_assert_eq!(read_notification(out.freeze()), Ok(notification));
    }

    #[test]
    fn bytes_of_chance_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let _ = read_notification(Bytes::from(bytes.clone()));
        let _ = InitialMessage::decode(&bytes);
        for speaker in [Speaker::Learner, Speaker::Leader] {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = next_message(&mut input, speaker, 64) {}
        }
    }

    #[test]
    fn bytes_of_chance_behind_a_known_head_are_read_or_refused(
        kind in 0..20_u8,
        len in 0..40_u8,
        bytes in proptest::collection::vec(prop_oneof![Just(0_u8), Just(0xff), any::<u8>()], 0..60),
    ) {
        let mut head = vec![0, 0, 0, kind, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, len];
        head.extend_from_slice(&bytes);
        for speaker in [Speaker::Learner, Speaker::Leader] {
            let mut input = BytesMut::from(&head[..]);
            while let Ok(Some(_)) = next_message(&mut input, speaker, 64) {}
        }
    }
}
