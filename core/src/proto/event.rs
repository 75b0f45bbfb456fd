//! Watch events.

use bytes::{BufMut, BytesMut};

use super::jute::{Decode, DecodeError, Encode, Reader, put_string};

/// What happened to a znode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum EventType {
    /// The node was created.
    NodeCreated,
    /// The node was deleted.
    NodeDeleted,
    /// The node's data was set.
    NodeDataChanged,
    /// A direct child was created or deleted.
    NodeChildrenChanged,
}

impl EventType {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            EventType::NodeCreated => 1,
            EventType::NodeDeleted => 2,
            EventType::NodeDataChanged => 3,
            EventType::NodeChildrenChanged => 4,
        }
    }

    /// The event with this number.
    #[must_use]
    pub const fn from_code(code: i32) -> Option<Self> {
        match code {
            1 => Some(EventType::NodeCreated),
            2 => Some(EventType::NodeDeleted),
            3 => Some(EventType::NodeDataChanged),
            4 => Some(EventType::NodeChildrenChanged),
            _ => None,
        }
    }
}

/// The state that an event names. Servers always send [`KeeperState::SYNC_CONNECTED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeeperState(pub i32);

impl KeeperState {
    /// Connected to a server that reads and writes.
    pub const SYNC_CONNECTED: KeeperState = KeeperState(3);
}

/// The record behind a reply header with the xid −1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatcherEvent {
    /// The event's number; numbers above 4 are legal on the wire and have no meaning here.
    pub kind: i32,
    /// The state.
    pub state: KeeperState,
    /// The node that it happened to.
    pub path: String,
}

impl WatcherEvent {
    /// An event as servers send it.
    pub fn new(event: EventType, path: impl Into<String>) -> Self {
        WatcherEvent { kind: event.code(), state: KeeperState::SYNC_CONNECTED, path: path.into() }
    }

    /// What happened, when the number is known.
    #[must_use]
    pub fn event(&self) -> Option<EventType> {
        EventType::from_code(self.kind)
    }
}

impl Encode for WatcherEvent {
    fn encode(&self, out: &mut BytesMut) {
        out.put_i32(self.kind);
        out.put_i32(self.state.0);
        put_string(out, &self.path);
    }
}

impl Decode for WatcherEvent {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(WatcherEvent {
            kind: input.int()?,
            state: KeeperState(input.int()?),
            path: input.string_or_empty()?,
        })
    }
}
