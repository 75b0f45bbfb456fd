//! Quorum links: packets one behind the other, without a length in front.
//!
//! ```text
//! packet = int32 type | int64 zxid | buffer data | vector of identities (string scheme, string id)
//! ```
//!
//! Behind a `SNAP` packet comes the body of a snapshot as it is, then the string [`SNAPSHOT_SIGNATURE`]. Some types mean
//! different things from each side, so a reader has to know who speaks. Types that nobody knows, or that the speaker has
//! no business to send, are passed over, as Apache's servers do.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use docent::proto::OpCode;
use docent::proto::jute::{Reader, put_buffer, put_count, put_string};
use docent::{SessionId, Zxid};

use super::{CodecError, capability, put_capability};
use crate::limits::PEER_IDENTITIES_MAX;
use crate::zab::{ForwardedRequest, Message, PeerId};

/// The string behind a snapshot's body.
pub(crate) const SNAPSHOT_SIGNATURE: &str = "BenWasHere";

/// The version that learners and leaders say they speak.
const PROTOCOL: i32 = 0x1_0000;
/// Type, zxid and the length of the data.
const HEAD_BYTES: usize = 4 + 8 + 4;
/// Session and timeout in the answer to a ping.
const TOUCH_BYTES: usize = 8 + 4;

const REQUEST: i32 = 1;
const PROPOSAL: i32 = 2;
const ACK: i32 = 3;
const COMMIT: i32 = 4;
const PING: i32 = 5;
const REVALIDATE: i32 = 6;
const SYNC: i32 = 7;
const INFORM: i32 = 8;
const COMMIT_AND_ACTIVATE: i32 = 9;
const NEW_LEADER: i32 = 10;
const FOLLOWER_INFO: i32 = 11;
const UP_TO_DATE: i32 = 12;
const DIFF: i32 = 13;
const TRUNC: i32 = 14;
const SNAP: i32 = 15;
const OBSERVER_INFO: i32 = 16;
const LEADER_INFO: i32 = 17;
const ACK_EPOCH: i32 = 18;
const INFORM_AND_ACTIVATE: i32 = 19;

/// The two ends of a quorum link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    /// Who opened the link.
    Learner,
    /// Who listens.
    Leader,
}

/// Appends a message that `speaker` says.
pub(crate) fn put_message(out: &mut BytesMut, speaker: Speaker, message: &Message) {
    let none = Zxid::NONE;
    match message {
        Message::FollowerInfo { peer, accepted_epoch, observer, config_version, capability } => {
            let kind = if *observer { OBSERVER_INFO } else { FOLLOWER_INFO };
            put_packet(out, kind, Zxid::new(*accepted_epoch, 0), |data| {
                data.put_i64(peer.0 as i64);
                data.put_i32(PROTOCOL);
                data.put_i64(*config_version);
                put_capability(data, *capability);
            });
        }
        Message::LeaderInfo { epoch, capability } => {
            put_packet(out, LEADER_INFO, Zxid::new(*epoch, 0), |data| {
                data.put_i32(PROTOCOL);
                put_capability(data, *capability);
            });
        }
        Message::AckEpoch { last, current } => {
            let current = current.map_or(-1, |epoch| epoch as i32);
            put_packet(out, ACK_EPOCH, *last, |data| data.put_i32(current));
        }
        Message::Diff(zxid) => put_bare(out, DIFF, *zxid),
        Message::Trunc(zxid) => put_bare(out, TRUNC, *zxid),
        Message::Snap(zxid) => put_bare(out, SNAP, *zxid),
        Message::SnapPiece(piece) => out.put_slice(piece),
        Message::SnapEnd => put_string(out, SNAPSHOT_SIGNATURE),
        Message::NewLeader { epoch, config } => {
            put_packet(out, NEW_LEADER, Zxid::new(*epoch, 0), |data| data.put_slice(config));
        }
        Message::UpToDate => put_bare(out, UP_TO_DATE, none),
        Message::Proposal { zxid, payload } => {
            put_packet(out, PROPOSAL, *zxid, |data| data.put_slice(payload))
        }
        Message::Ack(zxid) => put_bare(out, ACK, *zxid),
        Message::Commit(zxid) => put_bare(out, COMMIT, *zxid),
        Message::Inform { zxid, payload } => put_packet(out, INFORM, *zxid, |data| data.put_slice(payload)),
        Message::CommitAndActivate { zxid, leader } => {
            put_packet(out, COMMIT_AND_ACTIVATE, *zxid, |data| data.put_i64(leader.0 as i64));
        }
        Message::InformAndActivate { zxid, leader, payload } => {
            put_packet(out, INFORM_AND_ACTIVATE, *zxid, |data| {
                data.put_i64(leader.0 as i64);
                data.put_slice(payload);
            });
        }
        // Apache's leader fails on an answer whose data is null, and sends null itself.
        Message::Ping { last, .. } if speaker == Speaker::Leader => put_bare(out, PING, *last),
        Message::Ping { last, touched } => put_packet(out, PING, *last, |data| {
            for (session, timeout_ms) in touched {
                data.put_i64(session.0);
                data.put_i32(*timeout_ms);
            }
        }),
        Message::Revalidate { session, timeout_ms } => put_packet(out, REVALIDATE, none, |data| {
            data.put_i64(session.0);
            data.put_i32(*timeout_ms);
        }),
        Message::Revalidated { session, valid } => put_packet(out, REVALIDATE, none, |data| {
            data.put_i64(session.0);
            data.put_u8(u8::from(*valid));
        }),
        Message::Request(request) => put_request(out, request),
        Message::SyncDone => put_bare(out, SYNC, Zxid::ZERO),
    }
}

fn put_head(out: &mut BytesMut, kind: i32, zxid: Zxid) {
    out.put_i32(kind);
    out.put_i64(zxid.0);
}

/// A packet without data and without identities.
fn put_bare(out: &mut BytesMut, kind: i32, zxid: Zxid) {
    put_head(out, kind, zxid);
    put_buffer(out, None);
    out.put_i32(-1);
}

/// A packet whose data `body` writes.
fn put_packet(out: &mut BytesMut, kind: i32, zxid: Zxid, body: impl FnOnce(&mut BytesMut)) {
    put_head(out, kind, zxid);
    put_data(out, body);
    out.put_i32(-1);
}

fn put_data(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_i32(0);
    body(out);
    let len = out.len() - at - 4;
    // Everything that goes into a packet was bounded far below 2 GiB when it came in.
    out[at..at + 4].copy_from_slice(&i32::try_from(len).unwrap_or(i32::MAX).to_be_bytes());
}

fn put_request(out: &mut BytesMut, request: &ForwardedRequest) {
    put_head(out, REQUEST, Zxid::NONE);
    put_data(out, |data| {
        data.put_i64(request.session.0);
        data.put_i32(request.cxid);
        data.put_i32(request.op.code());
        data.put_slice(&request.body);
    });
    if request.identities.is_empty() {
        // What a server asks by itself has null here.
        out.put_i32(-1);
        return;
    }
    put_count(out, request.identities.len());
    for (scheme, id) in &request.identities {
        put_string(out, scheme);
        put_string(out, id);
    }
}

/// One packet as it stands on the wire.
struct Packet {
    kind: i32,
    zxid: Zxid,
    data: Option<Bytes>,
    identities: Bytes,
}

/// Takes the next message that `speaker` says out of `input`; `None` when it is not all there yet. No buffer or string in
/// it may be longer than `buffer_max`.
///
/// Behind [`Message::Snap`], what is left in `input` is the beginning of a snapshot's body.
///
/// # Errors
/// The bytes are no packet; the link must end.
pub(crate) fn next_message(
    input: &mut BytesMut,
    speaker: Speaker,
    buffer_max: usize,
) -> Result<Option<Message>, CodecError> {
    loop {
        let Some(packet) = next_packet(input, buffer_max)? else { return Ok(None) };
        let message = match speaker {
            Speaker::Learner => from_learner(packet)?,
            Speaker::Leader => from_leader(packet)?,
        };
        if message.is_some() {
            return Ok(message);
        }
    }
}

fn next_packet(input: &mut BytesMut, buffer_max: usize) -> Result<Option<Packet>, CodecError> {
    let Some(data_len) = int_at(input, HEAD_BYTES - 4) else { return Ok(None) };
    let data_len = buffer_len(data_len, buffer_max)?;
    let identities_at = HEAD_BYTES + data_len.unwrap_or(0);
    let Some(end) = identities_end(input, identities_at, buffer_max)? else { return Ok(None) };
    let mut packet = input.split_to(end).freeze();
    let (kind, zxid) = (packet.get_i32(), Zxid(packet.get_i64()));
    packet.advance(4);
    let data = data_len.map(|len| packet.split_to(len));
    Ok(Some(Packet { kind, zxid, data, identities: packet }))
}

fn int_at(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..)?.first_chunk().map(|number| i32::from_be_bytes(*number))
}

/// A length that may be believed; `None` for null.
fn buffer_len(len: i32, max: usize) -> Result<Option<usize>, CodecError> {
    match usize::try_from(len) {
        Ok(len) if len > max => Err(CodecError::TooLong { len, max }),
        Ok(len) => Ok(Some(len)),
        Err(_) if len == -1 => Ok(None),
        Err(_) => Err(CodecError::Unknown { what: "length", value: len.into() }),
    }
}

/// Where the list of identities that begins at `at` ends; `None` when it is not all there.
fn identities_end(bytes: &[u8], mut at: usize, max: usize) -> Result<Option<usize>, CodecError> {
    let Some(count) = int_at(bytes, at) else { return Ok(None) };
    let count = buffer_len(count, PEER_IDENTITIES_MAX)?.unwrap_or(0);
    let begin = at;
    at += 4;
    for _ in 0..2 * count {
        let Some(len) = int_at(bytes, at) else { return Ok(None) };
        at += 4 + buffer_len(len, max)?.unwrap_or(0);
        if at - begin > max.saturating_add(4) {
            return Err(CodecError::TooLong { len: at - begin, max });
        }
    }
    Ok((at <= bytes.len()).then_some(at))
}

fn from_learner(packet: Packet) -> Result<Option<Message>, CodecError> {
    let (kind, zxid) = (packet.kind, packet.zxid);
    Ok(Some(match kind {
        FOLLOWER_INFO | OBSERVER_INFO => read_follower_info(kind, zxid, packet.data.unwrap_or_default())?,
        ACK_EPOCH => {
            let value = fixed::<4>("ACKEPOCH", &packet.data)?;
            let current = match i32::from_be_bytes(value) {
                -1 => None,
                epoch => Some(epoch as u32),
            };
            Message::AckEpoch { last: zxid, current }
        }
        ACK => Message::Ack(zxid),
        REQUEST => Message::Request(read_request(packet)?),
        PING => {
            let data = packet.data.unwrap_or_default();
            if !data.len().is_multiple_of(TOUCH_BYTES) {
                return Err(CodecError::Short { what: "a list of touched sessions", len: data.len() });
            }
            let touch = |mut entry: &[u8]| (SessionId(entry.get_i64()), entry.get_i32());
            Message::Ping { last: zxid, touched: data.chunks_exact(TOUCH_BYTES).map(touch).collect() }
        }
        REVALIDATE => {
            let mut data = &fixed::<TOUCH_BYTES>("REVALIDATE", &packet.data)?[..];
            Message::Revalidate { session: SessionId(data.get_i64()), timeout_ms: data.get_i32() }
        }
        other => return Ok(unknown(other)),
    }))
}

fn from_leader(packet: Packet) -> Result<Option<Message>, CodecError> {
    let (kind, zxid) = (packet.kind, packet.zxid);
    Ok(Some(match kind {
        PROPOSAL => Message::Proposal { zxid, payload: packet.data.unwrap_or_default() },
        COMMIT => Message::Commit(zxid),
        PING => Message::Ping { last: zxid, touched: Vec::new() },
        INFORM => Message::Inform { zxid, payload: packet.data.unwrap_or_default() },
        SYNC => Message::SyncDone,
        REVALIDATE => {
            let mut data = &fixed::<9>("REVALIDATE", &packet.data)?[..];
            Message::Revalidated { session: SessionId(data.get_i64()), valid: data.get_u8() != 0 }
        }
        LEADER_INFO => {
            let data = packet.data.unwrap_or_default();
            Message::LeaderInfo { epoch: zxid.epoch(), capability: data.get(4..).and_then(capability) }
        }
        DIFF => Message::Diff(zxid),
        TRUNC => Message::Trunc(zxid),
        SNAP => Message::Snap(zxid),
        NEW_LEADER => Message::NewLeader { epoch: zxid.epoch(), config: packet.data.unwrap_or_default() },
        UP_TO_DATE => Message::UpToDate,
        COMMIT_AND_ACTIVATE => {
            let leader = fixed::<8>("COMMITANDACTIVATE", &packet.data)?;
            Message::CommitAndActivate { zxid, leader: PeerId(u64::from_be_bytes(leader)) }
        }
        INFORM_AND_ACTIVATE => {
            let leader = fixed::<8>("INFORMANDACTIVATE", &packet.data)?;
            let payload = packet.data.map(|data| data.slice(8..)).unwrap_or_default();
            Message::InformAndActivate { zxid, leader: PeerId(u64::from_be_bytes(leader)), payload }
        }
        other => return Ok(unknown(other)),
    }))
}

fn unknown(kind: i32) -> Option<Message> {
    tracing::debug!(kind, "a packet that means nothing here is passed over");
    None
}

/// The first bytes of a packet's data; what follows them is none of ours.
fn fixed<const N: usize>(what: &'static str, data: &Option<Bytes>) -> Result<[u8; N], CodecError> {
    let data = data.as_deref().unwrap_or_default();
    data.first_chunk().copied().ok_or(CodecError::Short { what, len: data.len() })
}

fn read_follower_info(kind: i32, zxid: Zxid, data: Bytes) -> Result<Message, CodecError> {
    let short = CodecError::Short { what: "a learner's first packet", len: data.len() };
    // Before 3.5 it ends behind the version of the protocol: no configuration had a version.
    let (Some(peer), Some(_)) = (data.first_chunk(), data.get(8..12)) else { return Err(short) };
    let config_version = data.get(12..).and_then(<[u8]>::first_chunk).copied().map_or(0, i64::from_be_bytes);
    Ok(Message::FollowerInfo {
        peer: PeerId(u64::from_be_bytes(*peer)),
        accepted_epoch: zxid.epoch(),
        observer: kind == OBSERVER_INFO,
        config_version,
        capability: data.get(20..).and_then(capability),
    })
}

fn read_request(packet: Packet) -> Result<ForwardedRequest, CodecError> {
    const WHAT: &str = "REQUEST";
    let failed = CodecError::value(WHAT);
    let mut data = Reader::new(packet.data.unwrap_or_default());
    let (session, cxid) = (SessionId(data.long().map_err(&failed)?), data.int().map_err(&failed)?);
    let code = data.int().map_err(&failed)?;
    // Passed over, it would leave its client without an answer for ever: nothing tells the learner that it is refused.
    let op = OpCode::from_code(code)
        .ok_or(CodecError::Unknown { what: "operation that may be forwarded", value: code.into() })?;
    let identity = |input: &mut Reader| Ok((input.string_or_empty()?, input.string_or_empty()?));
    let identities = Reader::new(packet.identities).nullable_vec(8, identity).map_err(&failed)?;
    Ok(ForwardedRequest {
        session,
        cxid,
        op,
        body: data.into_rest(),
        identities: identities.unwrap_or_default(),
    })
}
