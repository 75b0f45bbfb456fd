//! The election channel: what an initiator says first, and notifications.
//!
//! ```text
//! initial message   int64 -65536 (V1), or -65535 (V2), or, before 3.5, the sid and nothing more
//!                   int64 sid | int32 n | n bytes: host:port, in V2 several with | between
//! notification      int32 standing | int64 leader | int64 zxid | int64 round | int64 epoch of the leader
//!                   int32 format | int32 n | n bytes of configuration | anything
//! ```
//!
//! A notification ends behind the round before 3.4, and behind the epoch or a format of 1 before 3.5. Servers without a
//! vote write the smallest number where the leader, its zxid and its epoch stand.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use docent::Zxid;
use docent::proto::jute::put_buffer;

use super::{CodecError, capability, put_capability_and, under_way};
use crate::limits::ELECTION_ADDRESS_BYTES_MAX;
use crate::zab::{Notification, PeerId, Standing, Vote};

/// The first number of an initial message with one address. Every server since 3.5 understands it.
const PROTOCOL_V1: i64 = -65_536;
/// The first number of an initial message with several addresses, since 3.6.
const PROTOCOL_V2: i64 = -65_535;
/// The format that we write: with a configuration.
const FORMAT: i32 = 2;
/// Bytes up to and including the round.
const WITHOUT_EPOCH: usize = 28;
/// Bytes up to and including the format.
const WITH_FORMAT: usize = 40;

/// What the initiator of an election connection says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InitialMessage {
    /// Who it is.
    pub(crate) peer: PeerId,
    /// Where it says it listens. We go by the configuration instead: a stranger must not choose whom we call.
    pub(crate) addresses: Vec<String>,
}

/// Appends an initial message with one address.
pub(crate) fn put_initial_message(out: &mut BytesMut, peer: PeerId, address: &str) {
    out.put_i64(PROTOCOL_V1);
    out.put_i64(peer.0 as i64);
    put_buffer(out, Some(address.as_bytes()));
}

/// How many bytes an initial message has that begins like this: at least as many as are known to be needed, never more
/// than it has.
pub(crate) fn initial_message_len(bytes: &[u8]) -> Result<usize, CodecError> {
    let mut input = bytes;
    let Ok(first) = input.try_get_i64() else { return Ok(8) };
    match first {
        0.. => return Ok(8),
        PROTOCOL_V1 | PROTOCOL_V2 => {}
        other => return Err(CodecError::Unknown { what: "version of the election protocol", value: other }),
    }
    let (Ok(_), Ok(len)) = (input.try_get_i64(), input.try_get_i32()) else { return Ok(20) };
    match usize::try_from(len) {
        Ok(len @ 1..=ELECTION_ADDRESS_BYTES_MAX) => Ok(20 + len),
        _ => Err(CodecError::Unknown { what: "length of an address", value: len.into() }),
    }
}

impl InitialMessage {
    /// Reads a whole one.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let needed = initial_message_len(bytes)?;
        if bytes.len() < needed {
            return Err(CodecError::Short { what: "an initial message", len: bytes.len() });
        }
        let mut input = &bytes[..needed];
        let first = input.get_i64();
        if first >= 0 {
            return Ok(InitialMessage { peer: PeerId(first as u64), addresses: Vec::new() });
        }
        let peer = PeerId(input.get_i64() as u64);
        let text = String::from_utf8_lossy(&input[4..]).into_owned();
        let addresses = match first {
            PROTOCOL_V2 => text.split('|').map(str::to_owned).collect(),
            _ => vec![text],
        };
        Ok(InitialMessage { peer, addresses })
    }
}

/// Appends a notification, without the length that stands in front of it on a connection.
pub(crate) fn put_notification(out: &mut BytesMut, notification: &Notification) {
    let Notification { standing, vote, round, config, capability, under_way, format: _ } = notification;
    out.put_i32(match standing {
        Standing::Looking => 0,
        Standing::Following => 1,
        Standing::Leading => 2,
        Standing::Observing => 3,
    });
    let (leader, zxid, epoch) = match vote {
        Some(vote) => (vote.leader.0 as i64, vote.zxid.0, vote.epoch),
        None => (i64::MIN, i64::MIN, i64::MIN),
    };
    out.put_i64(leader);
    out.put_i64(zxid);
    out.put_i64(*round);
    out.put_i64(epoch);
    out.put_i32(FORMAT);
    put_buffer(out, Some(config));
    put_capability_and(out, *capability, under_way);
}

/// Reads a notification.
pub(crate) fn read_notification(mut bytes: Bytes) -> Result<Notification, CodecError> {
    let len = bytes.len();
    let short = |_| CodecError::Short { what: "a notification", len };
    if len < WITHOUT_EPOCH {
        return Err(CodecError::Short { what: "a notification", len });
    }
    let standing = match bytes.get_i32() {
        0 => Standing::Looking,
        1 => Standing::Following,
        2 => Standing::Leading,
        3 => Standing::Observing,
        other => return Err(CodecError::Unknown { what: "state of a server", value: other.into() }),
    };
    let (leader, zxid, round) = (bytes.get_i64(), Zxid(bytes.get_i64()), bytes.get_i64());
    let epoch = match len {
        WITHOUT_EPOCH => zxid.0 >> 32,
        _ => bytes.try_get_i64().map_err(short)?,
    };
    // Servers of 3.4 write 40 bytes, and the servers that came after them take that for format 0.
    let format = match len {
        WITHOUT_EPOCH | WITH_FORMAT => 0,
        _ => bytes.try_get_i32().map_err(short)?,
    };
    let (config, capability, under_way) = match format {
        2.. => {
            let claimed = bytes.try_get_i32().map_err(short)?;
            let claimed = usize::try_from(claimed).map_err(|_| CodecError::Unknown {
                what: "length of a configuration",
                value: claimed.into(),
            })?;
            if claimed > bytes.len() {
                return Err(CodecError::Short { what: "a notification", len });
            }
            (bytes.split_to(claimed), capability(&bytes), under_way(bytes))
        }
        _ => (Bytes::new(), None, Bytes::new()),
    };
    let vote = (leader != i64::MIN).then_some(Vote { epoch, zxid, leader: PeerId(leader as u64) });
    Ok(Notification { standing, vote, round, format, config, capability, under_way })
}
