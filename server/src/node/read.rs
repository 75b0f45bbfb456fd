//! What is answered here, from the tree as this server has it.

use bytes::BytesMut;
use docent::proto::frame::DEFAULT_MAX_FRAME;
use docent::proto::jute::{put_buffer, put_count, put_string};
use docent::proto::ops::ReadOp;
use docent::proto::{
    AddWatchMode, ClientInfo, Encode, MultiResult, ReplyHeader, Request, Response, SetWatches, WatcherEvent,
};
use docent::{ErrorCode, Permissions, SessionId, Xid, Zxid};

use super::access::{allows, mask_acl};
use super::conn::Owed;
use super::write::send_event;
use super::{ConnId, Effects, Node};
use crate::limits::CHILDREN_PAGE_MAX;
use crate::tree::NodeView;
use crate::watch::{CatchUp, WatchKind, catch_up};

/// A request that needs no place in the order of writes.
#[derive(Clone, Debug)]
pub(super) enum Local {
    /// To be answered from the tree.
    Request { owed: Owed, request: Request },
    /// Answered once everything up to this transaction is applied; `None` until the leader has said which one.
    Sync { owed: Owed, path: String, after: Option<Zxid> },
    /// The end of a local session.
    End { owed: Owed, session: SessionId },
    /// To be refused.
    Refuse { owed: Owed, code: ErrorCode },
}

type Answer = Result<Response, ErrorCode>;

/// Whether a prefix of paths stands for all of them: nothing or the root, with white space and control characters around
/// it as Java trims them.
fn is_all(prefix: &str) -> bool {
    matches!(prefix.trim_matches(|c| c <= ' '), "" | "/")
}

/// What a read is about, for the log: a path, a prefix, or the first path of several.
fn subject_of(request: &Request) -> &str {
    match request {
        Request::GetAcl { path } => path,
        Request::GetEphemerals { prefix } => prefix,
        Request::MultiRead(ops) => match ops.first() {
            Some(
                ReadOp::GetData { path } | ReadOp::GetChildren { path } | ReadOp::ChildrenPage { path, .. },
            ) => path,
            _ => "",
        },
        _ => "",
    }
}

/// The first names behind `after` in the order of their bytes, as many as are wanted and fit into an answer, and whether
/// there are others. It looks at all children, but orders no more than it gives.
fn page_of<'a>(
    children: impl Iterator<Item = &'a str>,
    after: &str,
    wanted: u32,
    reply_bytes_max: usize,
) -> (Vec<String>, bool) {
    /// Headers, Stat and the ends of lists.
    const BESIDE_NAMES_BYTES: usize = 128;
    let mut names: Vec<&str> = children.filter(|name| *name > after).collect();
    let behind = names.len();
    let wanted = if wanted == 0 { CHILDREN_PAGE_MAX } else { CHILDREN_PAGE_MAX.min(wanted as usize) };
    if wanted < behind {
        names.select_nth_unstable(wanted);
        names.truncate(wanted);
    }
    names.sort_unstable();
    // Any client takes as much as that.
    let room = reply_bytes_max.min(DEFAULT_MAX_FRAME).saturating_sub(BESIDE_NAMES_BYTES);
    let mut bytes = 0;
    let fits = |name: &&&str| {
        bytes += name.len() + 4;
        bytes <= room
    };
    let fitting = names.iter().take_while(fits).count();
    names.truncate(fitting.max(1));
    let more = names.len() < behind;
    (names.into_iter().map(str::to_owned).collect(), more)
}

impl Node {
    /// Answers what is due on a connection, until a write or a commit has to come first.
    pub(super) fn drain_lane(&mut self, id: ConnId, fx: &mut Effects) {
        if self.is_serving_reads() {
            self.drain_lane_now(id, fx);
        }
    }

    /// As [`Node::drain_lane`], whether clients are served or not.
    pub(super) fn drain_lane_now(&mut self, id: ConnId, fx: &mut Effects) {
        while let Some(conn) = self.conns.get_mut(&id) {
            let Some(local) = conn.lane.next_local() else { return };
            match local {
                Local::Sync { owed, path, after } => {
                    if after.is_none_or(|after| self.tree.last_zxid() < after) {
                        conn.lane.unget_local(Local::Sync { owed, path, after });
                        if let Some(after) = after {
                            self.waiting.entry(after).or_default().push(id);
                        }
                        return;
                    }
                    self.answer(id, owed, Ok(Response::Path(path)), fx);
                }
                Local::Refuse { owed, code } => self.refuse(id, owed, code, fx),
                Local::End { owed, session } => self.close_local(id, owed, session, fx),
                Local::Request { owed, request } => self.answer_request(id, owed, request, fx),
            }
        }
    }

    /// Lets those go on that waited for this transaction.
    pub(super) fn serve_waiting(&mut self, applied: Zxid, fx: &mut Effects) {
        while let Some(first) = self.waiting.first_entry() {
            if *first.key() > applied {
                return;
            }
            for id in first.remove() {
                self.drain_lane(id, fx);
            }
        }
    }

    /// An operation that nobody knows ends the connection; a record that cannot be decoded does not.
    fn refuse(&mut self, id: ConnId, owed: Owed, code: ErrorCode, fx: &mut Effects) {
        if code == ErrorCode::UNIMPLEMENTED {
            self.metrics.unknown_requests += 1;
            fx.frame(id, 1, |out| {
                ReplyHeader { xid: owed.xid, zxid: Zxid::NONE, error: code }.encode(out);
            });
            self.close(id, fx);
        } else {
            self.metrics.malformed_requests += u64::from(code == ErrorCode::MARSHALLING_ERROR);
            self.answer(id, owed, Err(code), fx);
        }
    }

    /// Answers a request that does not stand in line.
    pub(super) fn answer_out_of_line(
        &mut self,
        id: ConnId,
        xid: Xid,
        error: ErrorCode,
        fx: &mut Effects,
        body: impl FnOnce(&mut BytesMut),
    ) {
        let bytes = fx.frame(id, 1, |out| {
            ReplyHeader { xid, zxid: Zxid::ZERO, error }.encode(out);
            body(out);
        });
        self.metrics.sent(bytes);
    }

    pub(super) fn answer(&mut self, id: ConnId, owed: Owed, answer: Answer, fx: &mut Effects) {
        self.answer_with(id, owed, answer.as_ref().err().copied(), fx, |out| {
            if let Ok(response) = &answer {
                response.encode(out);
            }
        });
    }

    fn answer_with(
        &mut self,
        id: ConnId,
        owed: Owed,
        error: Option<ErrorCode>,
        fx: &mut Effects,
        body: impl FnOnce(&mut BytesMut),
    ) {
        let zxid = self.tree.last_zxid();
        let bytes = fx.frame(id, 1, |out| {
            ReplyHeader { xid: owed.xid, zxid, error: error.unwrap_or(ErrorCode::OK) }.encode(out);
            body(out);
        });
        self.metrics.sent(bytes);
        if let Some(conn) = self.conns.get_mut(&id) {
            let latency = conn.stats.answered(owed, zxid, self.now.mono_ms, self.now.wall_ms);
            self.metrics.read_latency.record(latency);
        }
    }

    fn answer_request(&mut self, id: ConnId, owed: Owed, request: Request, fx: &mut Effects) {
        match request {
            Request::Ping => {
                let owed = Owed { xid: Xid::PING, ..owed };
                self.answer(id, owed, Ok(Response::Empty), fx);
            }
            Request::GetData { path, watch } => self.answer_data(id, owed, &path, watch, fx),
            Request::GetChildren { path, watch } => self.answer_children(id, owed, &path, watch, false, fx),
            Request::GetChildren2 { path, watch } => self.answer_children(id, owed, &path, watch, true, fx),
            Request::SetWatches(watches) | Request::SetWatches2(watches) => {
                self.set_watches(id, watches, fx);
                self.answer(id, owed, Ok(Response::Empty), fx);
            }
            Request::Check { .. } => self.refuse(id, owed, ErrorCode::UNIMPLEMENTED, fx),
            other => match self.read(id, &other) {
                Ok(response) => {
                    let zxid = self.tree.last_zxid();
                    let sent = fx.frame_within(id, 1, self.config.serving.reply_bytes_max, |out| {
                        ReplyHeader { xid: owed.xid, zxid, error: ErrorCode::OK }.encode(out);
                        response.encode(out);
                    });
                    match sent {
                        Ok(bytes) => self.count_read(id, owed, zxid, bytes),
                        Err(size) => self.refuse_large(id, owed, subject_of(&other), size, fx),
                    }
                }
                Err(code) => self.answer(id, owed, Err(code), fx),
            },
        }
    }

    /// An answer that the client would not take: Apache's clients give up a connection on which more than
    /// `jute.maxbuffer` arrives at once, come back, and ask again. The code is one that each of them knows and none
    /// tries again for.
    fn refuse_large(&mut self, id: ConnId, owed: Owed, path: &str, size: usize, fx: &mut Effects) {
        self.metrics.large_replies_refused += 1;
        let session = self.conns.get(&id).and_then(|conn| conn.session()).unwrap_or_default();
        let limit = self.config.serving.reply_bytes_max;
        tracing::warn!(op = ?owed.op, path, size, limit, %session, "an answer is too large for a client and is refused");
        self.answer(id, owed, Err(ErrorCode::MARSHALLING_ERROR), fx);
    }

    /// The reads whose answers are small.
    fn read(&mut self, id: ConnId, request: &Request) -> Answer {
        match request {
            Request::Exists { path, watch } => self.exists(id, path, *watch),
            Request::GetAcl { path } => {
                let identities = self.conns.get(&id).map_or(&[][..], |conn| &conn.identities);
                let node = self.readable(id, path, Permissions::READ | Permissions::ADMIN)?;
                let acl = if self.config.rules.skip_acl {
                    node.acl().to_vec()
                } else {
                    mask_acl(node.acl(), identities)
                };
                Ok(Response::Acl { acl, stat: node.stat() })
            }
            Request::GetEphemerals { prefix } => {
                let session = self.conns.get(&id).and_then(|conn| conn.session()).unwrap_or_default();
                let mut paths = self.tree.ephemerals(session);
                let all = is_all(prefix);
                paths.retain(|path| all || path.starts_with(prefix));
                Ok(Response::Names(paths))
            }
            Request::GetAllChildrenNumber { path } => {
                self.readable(id, path, Permissions::READ)?;
                let count = self.tree.descendants(path).ok_or(ErrorCode::NO_NODE)?;
                Ok(Response::Number(i32::try_from(count).unwrap_or(i32::MAX)))
            }
            Request::AddWatch { path, mode } => {
                let kind = match mode {
                    AddWatchMode::Persistent => WatchKind::Persistent,
                    AddWatchMode::PersistentRecursive => WatchKind::Recursive,
                };
                self.watches.add(id, path, kind);
                Ok(Response::Number(0))
            }
            Request::CheckWatches { path, kind } => {
                if self.watches.has(id, path, *kind) {
                    Ok(Response::Empty)
                } else {
                    Err(ErrorCode::NO_WATCHER)
                }
            }
            Request::RemoveWatches { path, kind } => {
                if self.watches.remove(id, path, *kind) {
                    Ok(Response::Empty)
                } else {
                    Err(ErrorCode::NO_WATCHER)
                }
            }
            Request::WhoAmI => Ok(Response::Identities(self.who_am_i(id))),
            Request::MultiRead(ops) => Ok(Response::Multi(self.multi_read(id, ops))),
            _ => Err(ErrorCode::UNIMPLEMENTED),
        }
    }

    /// Newest first, as people look for what they just proved.
    fn who_am_i(&self, id: ConnId) -> Vec<ClientInfo> {
        let identities = self.conns.get(&id).map_or(&[][..], |conn| &conn.identities);
        identities
            .iter()
            .rev()
            .map(|identity| ClientInfo { scheme: identity.scheme.clone(), user: identity.user().to_owned() })
            .collect()
    }

    fn readable(&self, id: ConnId, path: &str, wanted: Permissions) -> Result<NodeView<'_>, ErrorCode> {
        let node = self.tree.node(path).ok_or(ErrorCode::NO_NODE)?;
        let identities = self.conns.get(&id).map_or(&[][..], |conn| &conn.identities);
        if self.config.rules.skip_acl || allows(node.acl(), wanted, identities) {
            Ok(node)
        } else {
            Err(ErrorCode::NO_AUTH)
        }
    }

    fn exists(&mut self, id: ConnId, path: &str, watch: bool) -> Answer {
        if path.contains('\0') {
            return Err(ErrorCode::BAD_ARGUMENTS);
        }
        let found = self.readable(id, path, Permissions::READ).map(|node| node.stat());
        if watch && found != Err(ErrorCode::NO_AUTH) {
            self.watches.add(id, path, WatchKind::Data);
        }
        found.map(Response::Stat)
    }

    fn answer_data(&mut self, id: ConnId, owed: Owed, path: &str, watch: bool, fx: &mut Effects) {
        let zxid = self.tree.last_zxid();
        let node = match self.readable(id, path, Permissions::READ) {
            Ok(node) => node,
            Err(code) => return self.answer(id, owed, Err(code), fx),
        };
        let sent = fx.frame_within(id, 1, self.config.serving.reply_bytes_max, |out| {
            ReplyHeader { xid: owed.xid, zxid, error: ErrorCode::OK }.encode(out);
            put_buffer(out, node.data());
            node.stat().encode(out);
        });
        let bytes = match sent {
            Ok(bytes) => bytes,
            Err(size) => return self.refuse_large(id, owed, path, size, fx),
        };
        if watch {
            self.watches.add(id, path, WatchKind::Data);
        }
        self.count_read(id, owed, zxid, bytes);
    }

    fn answer_children(
        &mut self,
        id: ConnId,
        owed: Owed,
        path: &str,
        watch: bool,
        with_stat: bool,
        fx: &mut Effects,
    ) {
        let zxid = self.tree.last_zxid();
        let node = match self.readable(id, path, Permissions::READ) {
            Ok(node) => node,
            Err(code) => return self.answer(id, owed, Err(code), fx),
        };
        let sent = fx.frame_within(id, 1, self.config.serving.reply_bytes_max, |out| {
            ReplyHeader { xid: owed.xid, zxid, error: ErrorCode::OK }.encode(out);
            put_count(out, node.num_children());
            for name in node.children() {
                put_string(out, name);
            }
            if with_stat {
                node.stat().encode(out);
            }
        });
        let bytes = match sent {
            Ok(bytes) => bytes,
            Err(size) => return self.refuse_large(id, owed, path, size, fx),
        };
        if watch {
            self.watches.add(id, path, WatchKind::Child);
        }
        self.count_read(id, owed, zxid, bytes);
    }

    fn count_read(&mut self, id: ConnId, owed: Owed, zxid: Zxid, bytes: usize) {
        self.metrics.sent(bytes);
        if let Some(conn) = self.conns.get_mut(&id) {
            let latency = conn.stats.answered(owed, zxid, self.now.mono_ms, self.now.wall_ms);
            self.metrics.read_latency.record(latency);
        }
    }

    /// The results of a multi-read. Once they are more than a client takes no more are collected: a short request could
    /// ask for a large node again and again.
    fn multi_read(&self, id: ConnId, ops: &[ReadOp]) -> Vec<MultiResult> {
        let mut results = Vec::with_capacity(ops.len());
        let mut bytes = 0;
        for op in ops {
            if bytes > self.config.serving.reply_bytes_max {
                break;
            }
            let result = self.multi_read_one(id, op);
            bytes += match &result {
                MultiResult::GetData { data, .. } => data.as_ref().map_or(0, bytes::Bytes::len),
                MultiResult::GetChildren { names } => names.iter().map(|name| name.len() + 4).sum(),
                _ => 0,
            };
            results.push(result);
        }
        results
    }

    /// Each read of a multi-read stands alone.
    fn multi_read_one(&self, id: ConnId, op: &ReadOp) -> MultiResult {
        let (ReadOp::GetData { path } | ReadOp::GetChildren { path } | ReadOp::ChildrenPage { path, .. }) =
            op
        else {
            return MultiResult::Error(ErrorCode::MARSHALLING_ERROR);
        };
        match self.readable(id, path, Permissions::READ) {
            Err(code) => MultiResult::Error(code),
            Ok(node) => match op {
                ReadOp::GetChildren { .. } => {
                    MultiResult::GetChildren { names: node.children().map(str::to_owned).collect() }
                }
                ReadOp::ChildrenPage { after, max, .. } => {
                    let (names, more) =
                        page_of(node.children(), after, *max, self.config.serving.reply_bytes_max);
                    MultiResult::ChildrenPage { names, more, stat: node.stat() }
                }
                _ => MultiResult::GetData {
                    data: node.data().map(bytes::Bytes::copy_from_slice),
                    stat: node.stat(),
                },
            },
        }
    }

    /// Sets the watches of a client that has reconnected; what they missed is told before the answer.
    fn set_watches(&mut self, id: ConnId, watches: SetWatches, fx: &mut Effects) {
        let CatchUp { events, watches } = catch_up(&self.tree, watches);
        for (kind, path) in watches {
            self.watches.add(id, &path, kind);
        }
        for (event, path) in events {
            self.metrics.packets_sent += 1;
            // No one transaction can be named for what was missed.
            send_event(id, Zxid::NONE, &WatcherEvent::new(event, path), fx);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_prefix_of_nothing_stands_for_all() {
        for all in ["", "/", " ", "/\u{1}", "\n/ "] {
            assert!(super::is_all(all), "{all:?}");
        }
        assert!(!super::is_all("/a") && !super::is_all("/\u{a0}"));
    }
}
