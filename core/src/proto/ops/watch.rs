//! Watches: setting them anew after a reconnect, adding persistent ones, checking and removing.

use bytes::{BufMut, BytesMut};

use super::data::encode_names;
use crate::Zxid;
use crate::proto::jute::{DecodeError, Reader};

/// How a persistent watch looks at the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddWatchMode {
    /// This very node: created, deleted, data set, children changed.
    Persistent,
    /// This node and everything below: created, deleted, data set.
    PersistentRecursive,
}

impl AddWatchMode {
    pub(crate) fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match input.int()? {
            0 => Ok(AddWatchMode::Persistent),
            1 => Ok(AddWatchMode::PersistentRecursive),
            mode => Err(DecodeError::BadValue { what: "watch mode", value: mode.into() }),
        }
    }

    pub(crate) fn encode(self, out: &mut BytesMut) {
        out.put_i32(match self {
            AddWatchMode::Persistent => 0,
            AddWatchMode::PersistentRecursive => 1,
        });
    }
}

/// Which watches on a path are meant when watches are checked or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WatcherKind {
    /// Those on the children.
    Children,
    /// Those on the data or existence.
    Data,
    /// All.
    Any,
    /// Persistent ones; servers from 3.9 on.
    Persistent,
    /// Persistent recursive ones; servers from 3.9 on.
    PersistentRecursive,
}

impl WatcherKind {
    pub(crate) fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match input.int()? {
            1 => Ok(WatcherKind::Children),
            2 => Ok(WatcherKind::Data),
            3 => Ok(WatcherKind::Any),
            4 => Ok(WatcherKind::Persistent),
            5 => Ok(WatcherKind::PersistentRecursive),
            kind => Err(DecodeError::BadValue { what: "watcher type", value: kind.into() }),
        }
    }

    pub(crate) fn encode(self, out: &mut BytesMut) {
        out.put_i32(match self {
            WatcherKind::Children => 1,
            WatcherKind::Data => 2,
            WatcherKind::Any => 3,
            WatcherKind::Persistent => 4,
            WatcherKind::PersistentRecursive => 5,
        });
    }
}

/// The watches of a client, by how they were set. The server fires at once those that missed something since
/// `relative_zxid`; persistent ones are only registered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetWatches {
    /// The last zxid that the client had seen when it reconnected.
    pub relative_zxid: Zxid,
    /// Data watches on nodes that existed.
    pub data: Vec<String>,
    /// Watches on nodes that did not exist.
    pub exist: Vec<String>,
    /// Child watches.
    pub child: Vec<String>,
    /// Persistent watches; not in the old record.
    pub persistent: Vec<String>,
    /// Persistent recursive watches; not in the old record.
    pub persistent_recursive: Vec<String>,
}

impl SetWatches {
    fn decode_three(input: &mut Reader) -> Result<Self, DecodeError> {
        let list = |input: &mut Reader| input.vec(4, Reader::string_or_empty);
        Ok(SetWatches {
            relative_zxid: Zxid(input.long()?),
            data: list(input)?,
            exist: list(input)?,
            child: list(input)?,
            ..SetWatches::default()
        })
    }

    pub(crate) fn decode_old(input: &mut Reader) -> Result<Self, DecodeError> {
        Self::decode_three(input)
    }

    pub(crate) fn decode_new(input: &mut Reader) -> Result<Self, DecodeError> {
        let mut watches = Self::decode_three(input)?;
        watches.persistent = input.vec(4, Reader::string_or_empty)?;
        watches.persistent_recursive = input.vec(4, Reader::string_or_empty)?;
        Ok(watches)
    }

    pub(crate) fn encode_old(&self, out: &mut BytesMut) {
        out.put_i64(self.relative_zxid.0);
        encode_names(&self.data, out);
        encode_names(&self.exist, out);
        encode_names(&self.child, out);
    }

    pub(crate) fn encode_new(&self, out: &mut BytesMut) {
        self.encode_old(out);
        encode_names(&self.persistent, out);
        encode_names(&self.persistent_recursive, out);
    }
}
