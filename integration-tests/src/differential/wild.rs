//! Requests that no client of good manners sends: unknown operations, records that are cut or too long, null where a value
//! is needed, numbers out of range.
//!
//! Left out, because they end Apache's server or keep it from starting again: creates whose operation, mode and time to
//! live contradict each other, and the server's own operations.

use bytes::{BufMut as _, Bytes, BytesMut};
use docent::proto::jute::{put_bool, put_string};
use docent::proto::{CreateFlags, CreateKind, CreateRequest, MultiOp, OpCode, Request};
use docent::{Acl, Version};

use super::Peer;
use super::generate::record;
use super::known::END_OF_MULTI;
use super::pools::Pools;
use super::program::What;

const UNKNOWN: [i32; 8] = [0, 10, 23, 99, 108, 999, -2, i32::MAX];

/// A request of bad manners.
pub(super) fn wild(peer: Peer, pools: &mut Pools) -> What {
    match pools.chance.u32(..24) {
        0 => What::Raw { op: pools.pick(&UNKNOWN), body: Bytes::new() },
        1 if peer == Peer::V39 => {
            What::Request(Request::Check { path: pools.path(), version: pools.version() })
        }
        2 => What::Stub(Bytes::from_static(&[0, 0, 0, 1, 0, 0])),
        3 => What::Request(Request::Sasl { token: Some(Bytes::new()) }),
        4 => What::Request(reconfig(pools)),
        5..=8 => cut(peer, pools),
        9..=10 => longer(pools),
        11..=14 => null_path(pools),
        15..=16 => odd_watch(pools),
        17 => odd_multi(pools),
        18 => null_in_multi(pools),
        19 => odd_text(pools),
        20 => null_lists(pools),
        21 => odd_length(peer, pools),
        22 => null_acl_id(pools),
        _ => What::Request(Request::GetData { path: pools.path(), watch: peer == Peer::V39 }),
    }
}

fn reconfig(pools: &mut Pools) -> Request {
    let mut text = |texts: &[&str]| {
        let text = pools.pick(texts);
        pools.one_in(2).then(|| text.to_owned())
    };
    Request::Reconfig(docent::ReconfigRequest {
        joining: text(&["server.9=127.0.0.1:1:2;3", "nonsense"]),
        leaving: text(&["1", "x"]),
        new_members: text(&["server.9=127.0.0.1:1:2;3"]),
        current_config: -1,
    })
}

/// A sound request.
fn sound(pools: &mut Pools) -> Request {
    let path = pools.node();
    match pools.chance.u32(..12) {
        0 => Request::Create(create(path)),
        1 => Request::Delete { path, version: Version::ANY },
        2 => Request::SetData { path, data: pools.data(), version: Version::ANY },
        3 => Request::SetAcl { path, acl: Some(Acl::open()), version: Version::ANY },
        4 => Request::Exists { path, watch: false },
        5 => Request::GetData { path, watch: false },
        6 => Request::GetAcl { path },
        7 => Request::GetChildren2 { path, watch: false },
        8 => Request::Multi(vec![
            MultiOp::Check { path: path.clone(), version: Version::ANY },
            MultiOp::Create(create(path)),
        ]),
        9 => Request::GetAllChildrenNumber { path },
        10 => Request::Sync { path },
        _ => Request::GetEphemerals { prefix: path },
    }
}

fn create(path: String) -> CreateRequest {
    let (kind, flags) = (CreateKind::Create2, CreateFlags::PERSISTENT);
    CreateRequest { kind, path, data: None, acl: Some(Acl::open()), flags, ttl_ms: 0 }
}

/// Whether this time a write that cannot be read is wanted. It parts 3.8 from ours, and what comes behind is not seen.
fn may_write(peer: Peer, pools: &mut Pools) -> bool {
    peer == Peer::V39 || pools.one_in(20)
}

fn cut(peer: Peer, pools: &mut Pools) -> What {
    let mut request = sound(pools);
    if request.op().is_write() && !may_write(peer, pools) {
        request = Request::Exists { path: pools.node(), watch: false };
    }
    let body = record(&request);
    let body = body.slice(..pools.chance.usize(..body.len()));
    What::Raw { op: request.op().code(), body }
}

fn longer(pools: &mut Pools) -> What {
    let request = sound(pools);
    let mut body = BytesMut::from(&record(&request)[..]);
    body.put_bytes(pools.chance.u8(..), pools.chance.usize(1..20));
    What::Raw { op: request.op().code(), body: body.freeze() }
}

/// A null path, with everything behind it sound.
fn null_path(pools: &mut Pools) -> What {
    let op = pools.pick(&[
        OpCode::Create2,
        OpCode::Delete,
        OpCode::Exists,
        OpCode::GetData,
        OpCode::SetData,
        OpCode::GetAcl,
        OpCode::SetAcl,
        OpCode::GetChildren,
        OpCode::GetChildren2,
        OpCode::Sync,
        OpCode::GetAllChildrenNumber,
        OpCode::GetEphemerals,
        OpCode::AddWatch,
        OpCode::CheckWatches,
        OpCode::RemoveWatches,
    ]);
    let mut body = BytesMut::new();
    body.put_i32(-1);
    match op {
        OpCode::Create2 => {
            body.put_i32(-1);
            body.put_i32(0);
            body.put_i32(0);
        }
        OpCode::Delete => body.put_i32(-1),
        OpCode::SetData | OpCode::SetAcl => body.put_slice(&[0, 0, 0, 0, 255, 255, 255, 255]),
        OpCode::AddWatch | OpCode::CheckWatches | OpCode::RemoveWatches => body.put_i32(1),
        _ => put_bool(&mut body, false),
    }
    What::Raw { op: op.code(), body: body.freeze() }
}

fn odd_watch(pools: &mut Pools) -> What {
    let op = pools.pick(&[OpCode::AddWatch, OpCode::CheckWatches, OpCode::RemoveWatches]);
    let mut body = BytesMut::new();
    put_string(&mut body, &pools.node());
    body.put_i32(pools.pick(&[-1, 6, 7, i32::MAX]));
    What::Raw { op: op.code(), body: body.freeze() }
}

/// A multi or multi-read with an operation that has no place there.
fn odd_multi(pools: &mut Pools) -> What {
    let op = pools.pick(&[OpCode::Multi, OpCode::MultiRead]);
    let mut body = BytesMut::new();
    let inner = sound(pools);
    if pools.one_in(2) {
        put_part(&mut body, &Request::Check { path: pools.node(), version: Version::ANY });
    }
    put_part(&mut body, &inner);
    if !pools.one_in(4) {
        body.put_slice(&END_OF_MULTI);
    }
    What::Raw { op: op.code(), body: body.freeze() }
}

/// A multi one of whose operations has a null path.
fn null_in_multi(pools: &mut Pools) -> What {
    let mut body = BytesMut::new();
    put_part(&mut body, &Request::Create(create(pools.node())));
    let op = pools.pick(&[OpCode::SetData, OpCode::Check, OpCode::Delete]);
    put_header(&mut body, op);
    body.put_i32(-1);
    if op == OpCode::SetData {
        body.put_i32(-1);
    }
    body.put_i32(-1);
    body.put_slice(&END_OF_MULTI);
    What::Raw { op: OpCode::Multi.code(), body: body.freeze() }
}

fn put_header(out: &mut BytesMut, op: OpCode) {
    out.put_i32(op.code());
    out.put_slice(&[0, 255, 255, 255, 255]);
}

fn put_part(out: &mut BytesMut, request: &Request) {
    put_header(out, request.op());
    out.put_slice(&record(request));
}

/// Bytes that are not UTF-8 where a text is.
fn odd_text(pools: &mut Pools) -> What {
    let bytes: &[u8] = pools.pick(&[
        &b"/a\xff"[..],
        b"/\xed\xa0\xbd\xed\xb8\x80",
        b"/\xc0\x80",
        b"/\xf0\x9f",
        b"/\xf0\x9f\x98\x80",
        b"/\xe0\x80\x80b",
    ]);
    let op = pools.pick(&[OpCode::Sync, OpCode::Exists, OpCode::GetData, OpCode::Create2]);
    let mut body = BytesMut::new();
    body.put_i32(bytes.len() as i32);
    body.put_slice(bytes);
    match op {
        OpCode::Create2 => {
            body.put_i32(-1);
            docent::proto::ops::encode_acl_list(Some(&Acl::open()), &mut body);
            body.put_i32(0);
        }
        _ => put_bool(&mut body, false),
    }
    What::Raw { op: op.code(), body: body.freeze() }
}

/// Null lists in `setWatches`.
fn null_lists(pools: &mut Pools) -> What {
    let mut body = BytesMut::new();
    body.put_i64(0);
    for _ in 0..3 {
        body.put_i32(pools.pick(&[-1, 0]));
    }
    What::Raw { op: OpCode::SetWatches.code(), body: body.freeze() }
}

/// Lengths that are negative or longer than the request.
fn odd_length(peer: Peer, pools: &mut Pools) -> What {
    let mut op = pools.pick(&[OpCode::Exists, OpCode::Delete, OpCode::Create, OpCode::Sync, OpCode::SetData]);
    if op.is_write() && !may_write(peer, pools) {
        op = OpCode::GetData;
    }
    let mut body = BytesMut::new();
    body.put_i32(pools.pick(&[-7, i32::MIN, i32::MAX, 50, 2_000_000]));
    body.put_slice(b"/a and more");
    What::Raw { op: op.code(), body: body.freeze() }
}

/// An ACL entry whose scheme or id is null.
fn null_acl_id(pools: &mut Pools) -> What {
    let scheme = pools.pick(&[None, Some("world"), Some("auth"), Some("digest"), Some("ip"), Some("nosuch")]);
    let mut body = BytesMut::new();
    put_string(&mut body, &pools.node());
    body.put_i32(1);
    body.put_i32(31);
    docent::proto::jute::put_buffer(&mut body, scheme.map(str::as_bytes));
    body.put_i32(-1);
    body.put_i32(-1);
    What::Raw { op: OpCode::SetAcl.code(), body: body.freeze() }
}
