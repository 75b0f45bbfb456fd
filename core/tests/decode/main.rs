//! Decoders meet any bytes: random ones, whole records cut short, with bits flipped, with lengths that claim too much.
//! None panics, none reserves memory by a length that is merely claimed, and what is encoded is decoded to the same.

mod records;

use bytes::{Bytes, BytesMut};
use docent::proto::frame::{next_frame, put_frame};
use docent::proto::jute::{Decode, DecodeError, Encode, Reader};
use docent::proto::{
    ConnectRequest, ConnectResponse, CreateFlags, CreateKind, CreateRequest, MultiOp, OpCode, ReplyHeader,
    Request, RequestHeader, Response, WatcherEvent,
};
use docent::{Acl, Stat};
use proptest::prelude::*;
use records::{
    OPS, connect_request, connect_response, event, exchange, reserved_by_request, reserved_by_response,
};

/// Memory that a decoded record may reserve for each byte of input. The most is taken by lists: an empty string is
/// four bytes on the wire and a `String` here; a check in a multi is a header of nine bytes and an enum here.
const RESERVED_PER_BYTE: usize = 32;

/// Decodes the bytes as everything that there is. The results only have to be sane.
fn decode_all(bytes: &Bytes) {
    let input = || Reader::new(bytes.clone());
    let most = RESERVED_PER_BYTE * (bytes.len() + 8);
    for op in OPS {
        if let Ok(Some(request)) = Request::decode(op, &mut input()) {
            let reserved = reserved_by_request(&request);
            assert!(reserved <= most, "{op:?} reserves {reserved} bytes for {}", bytes.len());
        }
        if let Ok(response) = Response::decode(op, &mut input()) {
            let reserved = reserved_by_response(&response);
            assert!(reserved <= most, "the answer to {op:?} reserves {reserved} bytes for {}", bytes.len());
        }
    }
    let _any = (
        ConnectRequest::decode(&mut input()).is_ok(),
        ConnectResponse::decode(&mut input()).is_ok(),
        WatcherEvent::decode(&mut input()).is_ok(),
        RequestHeader::decode(&mut input()).is_ok(),
        ReplyHeader::decode(&mut input()).is_ok(),
        Acl::decode(&mut input()).is_ok(),
        Stat::decode(&mut input()).is_ok(),
    );
}

/// Takes frames off the stream until it ends or is refused; the buffer never grows.
fn take_frames(bytes: &[u8], max: usize) -> usize {
    let mut stream = BytesMut::from(bytes);
    let mut frames = 0;
    while let Ok(Some(frame)) = next_frame(&mut stream, max) {
        assert!(frame.len() <= max);
        frames += 1;
    }
    assert!(stream.len() <= bytes.len());
    frames
}

fn whole<T>(decode: impl FnOnce(&mut Reader) -> Result<T, DecodeError>, bytes: Bytes) -> T {
    let mut input = Reader::new(bytes);
    let value = decode(&mut input).expect("what we have encoded can be decoded");
    assert_eq!(input.remaining(), 0, "the record ends where it was written to end");
    value
}

/// What can happen to bytes on their way.
#[derive(Clone, Debug)]
enum Damage {
    Cut(prop::sample::Index),
    Flip(prop::sample::Index, u8),
    /// Four bytes become a number: most of those are lengths.
    Claim(prop::sample::Index, i32),
    Insert(prop::sample::Index, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let claims =
        prop_oneof![Just(i32::MAX), Just(i32::MIN), Just(-1), Just(-2), 0..100_000_i32, any::<i32>()];
    prop_oneof![
        any::<prop::sample::Index>().prop_map(Damage::Cut),
        (any::<prop::sample::Index>(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, 1 << bit)),
        (any::<prop::sample::Index>(), claims).prop_map(|(at, claim)| Damage::Claim(at, claim)),
        (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
    ]
}

fn damaged(bytes: &[u8], damages: &[Damage]) -> Bytes {
    let mut bytes = bytes.to_vec();
    for damage in damages {
        if bytes.is_empty() {
            break;
        }
        match damage {
            Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Damage::Flip(at, bit) => {
                let at = at.index(bytes.len());
                bytes[at] ^= bit;
            }
            Damage::Claim(at, claim) => {
                let at = at.index(bytes.len());
                let end = bytes.len().min(at + 4);
                bytes[at..end].copy_from_slice(&claim.to_be_bytes()[..end - at]);
            }
            Damage::Insert(at, more) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
        }
    }
    bytes.into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        take_frames(&bytes, 200);
        decode_all(&bytes.into());
    }

    /// Mostly zeros and ones, so that lengths and counts are small and decoding gets far.
    #[test]
    fn bytes_that_look_like_lengths(bytes in prop::collection::vec(prop_oneof![5 => Just(0_u8), 2 => 0..5_u8, 1 => any::<u8>()], 0..300)) {
        take_frames(&bytes, 200);
        decode_all(&bytes.into());
    }

    #[test]
    fn damaged_requests_and_answers((request, response) in exchange(), damages in prop::collection::vec(damage(), 1..4)) {
        decode_all(&damaged(&request.to_bytes(), &damages));
        decode_all(&damaged(&response.to_bytes(), &damages));
    }

    #[test]
    fn damaged_handshakes(request in connect_request(), response in connect_response(), damages in prop::collection::vec(damage(), 1..4)) {
        decode_all(&damaged(&request.to_bytes(), &damages));
        decode_all(&damaged(&response.to_bytes(), &damages));
    }

    #[test]
    fn damaged_frames(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..5), damages in prop::collection::vec(damage(), 0..3)) {
        let mut stream = BytesMut::new();
        for body in &bodies {
            put_frame(&mut stream, |out| out.extend_from_slice(body));
        }
        if damages.is_empty() {
            prop_assert_eq!(take_frames(&stream, 50), bodies.len());
        }
        take_frames(&damaged(&stream, &damages), 50);
    }

    #[test]
    fn requests_and_answers_come_back((request, response) in exchange()) {
        let op = request.op();
        let read = whole(|input| Request::decode(op, input), request.to_bytes());
        prop_assert_eq!(read, Some(request));
        let read = whole(|input| Response::decode(op, input), response.to_bytes());
        prop_assert_eq!(read, response);
    }

    #[test]
    fn handshakes_come_back(request in connect_request(), response in connect_response()) {
        prop_assert_eq!(whole(ConnectRequest::decode, request.to_bytes()), request);
        prop_assert_eq!(whole(ConnectResponse::decode, response.to_bytes()), response);
    }

    #[test]
    fn events_and_headers_come_back(event in event(), xid in any::<i32>(), zxid in any::<i64>(), code in any::<i32>()) {
        prop_assert_eq!(whole(WatcherEvent::decode, event.to_bytes()), event);
        let header = RequestHeader { xid: docent::Xid(xid), op: code };
        prop_assert_eq!(whole(RequestHeader::decode, header.to_bytes()), header);
        let header = ReplyHeader { xid: docent::Xid(xid), zxid: docent::Zxid(zxid), error: docent::ErrorCode(code) };
        prop_assert_eq!(whole(ReplyHeader::decode, header.to_bytes()), header);
    }
}

/// The longest list that a kilobyte can claim, and one more.
#[test]
fn a_claimed_count_reserves_nothing() {
    for claim in [i32::MAX, 1 << 20, 300] {
        let mut bytes = BytesMut::new();
        bytes.extend_from_slice(&claim.to_be_bytes());
        bytes.resize(1024, 0);
        let refused = Response::decode(OpCode::GetChildren, &mut Reader::new(bytes.freeze()));
        assert!(matches!(refused, Err(DecodeError::Truncated { .. })), "{refused:?}");
    }
}

/// A lone create is decoded whatever its mode, so that the server can answer for it; within a multi the record ends there.
#[test]
fn a_mode_that_nobody_knows_is_refused_within_a_multi() {
    for (mode, known) in [(-1, false), (0, true), (6, true), (7, false), (i32::MAX, false)] {
        let create = CreateRequest {
            kind: CreateKind::Create,
            path: "/a".into(),
            data: None,
            acl: None,
            flags: CreateFlags(mode),
            ttl_ms: 0,
        };
        let alone = Request::Create(create.clone());
        assert_eq!(whole(|input| Request::decode(OpCode::Create, input), alone.to_bytes()), Some(alone));
        let multi = Request::Multi(vec![MultiOp::Create(create)]);
        let read = Request::decode(OpCode::Multi, &mut Reader::new(multi.to_bytes()));
        if known {
            assert_eq!(read, Ok(Some(multi)));
        } else {
            assert_eq!(read, Err(DecodeError::BadValue { what: "create mode", value: mode.into() }));
        }
    }
}
