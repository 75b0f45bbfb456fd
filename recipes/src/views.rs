//! Views of a group: who is there, numbered.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use docent::{Client, ErrorCode, OneshotWatch, SessionId, SessionRef, StateWatch, Zxid, path};
use futures::Stream;
use futures::stream::{self, BoxStream, FuturesUnordered, StreamExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::backoff::Backoff;
use crate::codec::{Decode, Json};
use crate::error::Error;
use crate::following::Sessions;
use crate::guarded;
use crate::hold::{self, Fate, fate};

/// How many members are read at the same time.
const READS_AT_ONCE: usize = 64;

/// Whose layout a member's node follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum MemberLayout {
    /// The name is the id: Curator's `GroupMember`, and ours.
    Curator,
    /// `<hex32>__party__`, the data is the id: kazoo's `Party`.
    KazooParty,
    /// `<hex32>-<id>`: kazoo's `ShallowParty`.
    KazooShallowParty,
}

/// A member's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Payload<T> {
    /// A value of the type.
    Value(T),
    /// Bytes that are not.
    Invalid {
        /// The bytes.
        bytes: Bytes,
        /// Why.
        reason: Arc<str>,
    },
    /// The member left between the list and the read; the next view will say so.
    Gone,
    /// Only names were asked for.
    Unread,
}

impl<T> Payload<T> {
    /// The value, if it is one.
    #[must_use]
    pub fn value(&self) -> Option<&T> {
        match self {
            Payload::Value(value) => Some(value),
            _ => None,
        }
    }
}

/// One member, as a view shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMember<T> {
    /// Its id.
    pub id: String,
    /// Whose layout its node follows.
    pub layout: MemberLayout,
    /// Its payload.
    pub payload: Payload<T>,
    /// Its session; [`SessionId::NONE`] while it is not read.
    pub session: SessionId,
    /// The write that brought the payload; [`Zxid::ZERO`] while it is not read.
    pub mzxid: Zxid,
}

/// Who is there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct View<T> {
    /// The zxid of the last join or leave. Two processes with the same id have the same names. A changed payload
    /// keeps the id.
    pub id: Zxid,
    /// The members, by the name of their node.
    pub members: BTreeMap<String, GroupMember<T>>,
    /// Node names that the view before did not have.
    pub joined: Vec<String>,
    /// Node names that only the view before had.
    pub left: Vec<String>,
}

impl<T> View<T> {
    /// Whether a member with this id is there.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.members.values().any(|member| member.id == id)
    }
}

/// A node as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Read { bytes: Bytes, session: SessionId, mzxid: Zxid },
    Gone,
    Unread,
}

/// A view before its payloads are decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RawView {
    id: Zxid,
    entries: BTreeMap<String, Entry>,
}

/// The views of a group, as a latest-value stream: who is slow gets the newest and skips those between. It ends
/// when the client is closed. Dropping it takes the watches along.
pub struct Views<T> {
    items: BoxStream<'static, Arc<RawView>>,
    last: Option<Arc<RawView>>,
    error: watch::Receiver<Option<Error>>,
    _ends_driver: DropGuard,
    _type: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Views<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Views").field("last", &self.last).finish_non_exhaustive()
    }
}

impl<T> Views<T> {
    pub(crate) fn start(client: Client, group: String, payloads: bool) -> Views<T> {
        Views::bounded(client, group, payloads, usize::MAX)
    }

    /// As [`Views::start`], but it ends with an error when there are more members.
    pub(crate) fn bounded(client: Client, group: String, payloads: bool, members_max: usize) -> Views<T> {
        let (view, seen) = watch::channel(None);
        let (failed, error) = watch::channel(None);
        let stop = CancellationToken::new();
        let (entries, id) = (BTreeMap::new(), Zxid::ZERO);
        let driver = Driver { client, group, payloads, members_max, view, entries, id };
        tokio::spawn(driver.run(stop.clone(), failed));
        let items = stream::unfold(seen, |mut seen| async move {
            seen.changed().await.ok()?;
            let view = seen.borrow_and_update().clone()?;
            Some((view, seen))
        });
        Views { items: items.boxed(), last: None, error, _ends_driver: stop.drop_guard(), _type: PhantomData }
    }

    /// Why the stream has ended, if it has.
    #[must_use]
    pub fn error(&self) -> Option<Error> {
        self.error.borrow().clone()
    }
}

impl<T: DeserializeOwned> Views<T> {
    /// The next view; `None` after the end, see [`Views::error`].
    ///
    /// # Cancel safety
    /// Safe: the newest view is not lost.
    pub async fn next(&mut self) -> Option<View<T>> {
        let raw = self.items.next().await?;
        Some(self.decode(raw))
    }

    fn decode(&mut self, raw: Arc<RawView>) -> View<T> {
        let before = self.last.replace(Arc::clone(&raw));
        let none = BTreeMap::new();
        let old = before.as_ref().map_or(&none, |view| &view.entries);
        let only_in = |a: &BTreeMap<String, Entry>, b: &BTreeMap<String, Entry>| {
            a.keys().filter(|name| !b.contains_key(*name)).cloned().collect()
        };
        let (joined, left) = (only_in(&raw.entries, old), only_in(old, &raw.entries));
        let members = raw.entries.iter().map(|(name, entry)| (name.clone(), member(name, entry))).collect();
        View { id: raw.id, members, joined, left }
    }
}

impl<T: DeserializeOwned> Stream for Views<T> {
    type Item = View<T>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<View<T>>> {
        let this = &mut *self;
        this.items.as_mut().poll_next(cx).map(|raw| raw.map(|raw| this.decode(raw)))
    }
}

fn member<T: DeserializeOwned>(name: &str, entry: &Entry) -> GroupMember<T> {
    let (layout, in_name) = layout_of(name);
    let (payload, session, mzxid) = match entry {
        Entry::Gone => (Payload::Gone, SessionId::NONE, Zxid::ZERO),
        Entry::Unread => (Payload::Unread, SessionId::NONE, Zxid::ZERO),
        Entry::Read { bytes, session, mzxid } => {
            let payload = match Json.decode(bytes) {
                Ok(value) => Payload::Value(value),
                Err(error) => Payload::Invalid { bytes: bytes.clone(), reason: error.to_string().into() },
            };
            (payload, *session, *mzxid)
        }
    };
    let id = match (layout, entry) {
        (MemberLayout::KazooParty, Entry::Read { bytes, .. }) => String::from_utf8_lossy(bytes).into_owned(),
        _ => in_name.to_owned(),
    };
    GroupMember { id, layout, payload, session, mzxid }
}

/// The layout of a name, and the part of it that is the id.
fn layout_of(name: &str) -> (MemberLayout, &str) {
    let tagged = name.get(..32).is_some_and(|tag| tag.bytes().all(|byte| byte.is_ascii_hexdigit()));
    match name.get(32..) {
        Some("__party__") if tagged => (MemberLayout::KazooParty, name),
        Some(rest) if tagged && rest.len() > 1 && rest.starts_with('-') => {
            (MemberLayout::KazooShallowParty, &rest[1..])
        }
        _ => (MemberLayout::Curator, name),
    }
}

/// The task behind a stream of views.
struct Driver {
    client: Client,
    group: String,
    payloads: bool,
    members_max: usize,
    view: watch::Sender<Option<Arc<RawView>>>,
    entries: BTreeMap<String, Entry>,
    /// The highest parent pzxid that was shown: no older list counts any more.
    id: Zxid,
}

/// What to do after waiting.
enum Next {
    ListAgain,
    ReadAll,
    SessionEnded,
    Failed(Error),
}

/// The watches on members' data.
#[derive(Default)]
struct DataWatches {
    /// Each resolves to its member's name when the member has to be read again.
    waits: FuturesUnordered<Pin<Box<dyn Future<Output = String> + Send>>>,
    armed: BTreeSet<String>,
}

impl DataWatches {
    fn arm(&mut self, name: String, watch: OneshotWatch) {
        self.armed.insert(name.clone());
        self.waits.push(Box::pin(async move {
            // Whatever it was, and an end of the watch too: the next read tells.
            let _ = watch.await;
            name
        }));
    }

    /// A member that has to be read again; waits for ever while there is none.
    async fn fired(&mut self) -> String {
        match self.waits.next().await {
            Some(name) => {
                self.armed.remove(&name);
                name
            }
            None => std::future::pending().await,
        }
    }
}

impl Driver {
    async fn run(mut self, stop: CancellationToken, failed: watch::Sender<Option<Error>>) {
        let error = tokio::select! {
            () = stop.cancelled() => return,
            error = self.through_sessions() => error,
        };
        tracing::debug!(path = %self.group, %error, "group is not followed any more");
        failed.send_replace(Some(error));
    }

    async fn through_sessions(&mut self) -> Error {
        let (client, group) = (self.client.clone(), self.group.clone());
        let mut sessions = Sessions::new(&client, &group);
        loop {
            let session = match sessions.next().await {
                Ok(session) => session,
                Err(error) => return error,
            };
            match self.in_session(&session).await {
                Ok(()) | Err(Error::SessionEnded(_)) => {}
                Err(error) => return error,
            }
        }
    }

    /// Follows the group until the session ends.
    async fn in_session(&mut self, session: &SessionRef) -> Result<(), Error> {
        let (mut state, _) = hold::states(session);
        let mut backoff = Backoff::reconnecting();
        let mut data = DataWatches::default();
        let mut read_all = true;
        loop {
            let mut list = match self.list(session, &mut data, read_all).await {
                Ok(Some(watch)) => watch,
                Ok(None) => {
                    guarded::synced(session, &self.group).await?;
                    continue;
                }
                Err(Error::Client(error)) if guarded::may_try_again(&error) => {
                    backoff.wait().await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            backoff = Backoff::reconnecting();
            read_all = match self.wait(session, &mut list, &mut data, &mut state).await {
                Next::ListAgain => false,
                Next::ReadAll => true,
                Next::SessionEnded => return Ok(()),
                Next::Failed(error) => return Err(error),
            };
        }
    }

    /// Waits until the list has to be read again, and meanwhile reads members whose data changes.
    async fn wait(
        &mut self,
        session: &SessionRef,
        list: &mut OneshotWatch,
        data: &mut DataWatches,
        state: &mut StateWatch,
    ) -> Next {
        loop {
            let name = tokio::select! {
                biased;
                now = state.changed() => match fate(&now, session.id()) {
                    Fate::Connected => return Next::ReadAll,
                    Fate::Suspended { .. } => continue,
                    Fate::Ended(_) => return Next::SessionEnded,
                },
                _ = &mut *list => return Next::ListAgain,
                name = data.fired() => name,
            };
            match self.read(session, vec![name], data).await {
                Ok(()) => self.publish(),
                // The list that follows reads every member that has no watch.
                Err(error) if guarded::may_try_again(&error) => return Next::ListAgain,
                Err(error) => return Next::Failed(error.into()),
            }
        }
    }

    /// Lists the group, reads its members and shows the view. `None` when the server is behind what was shown,
    /// or the group has just come.
    async fn list(
        &mut self,
        session: &SessionRef,
        data: &mut DataWatches,
        read_all: bool,
    ) -> Result<Option<OneshotWatch>, Error> {
        let (children, watch) = match session.get_children_and_watch(&self.group).await {
            Ok(answer) => answer,
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => {
                return Ok(self.absent(session, data).await?);
            }
            Err(error) => return Err(error.into()),
        };
        if children.stat.pzxid < self.id {
            return Ok(None);
        }
        if children.names.len() > self.members_max {
            return Err(Error::TooMany { path: self.group.clone(), max: self.members_max });
        }
        self.id = children.stat.pzxid;
        self.entries.retain(|name, _| children.names.binary_search(name).is_ok());
        for name in &children.names {
            self.entries.entry(name.clone()).or_insert(Entry::Unread);
        }
        if self.payloads && read_all {
            // The watches before these live until these are set, so the server keeps them.
            let mut fresh = DataWatches::default();
            self.read(session, children.names, &mut fresh).await?;
            *data = fresh;
        } else if self.payloads {
            // One that came back may have been read, and have a watch, before the list showed it.
            let known = |name: &String| matches!(self.entries.get(name), Some(Entry::Read { .. }));
            let to_read = |name: &String| !(data.armed.contains(name) && known(name));
            let names = children.names.into_iter().filter(to_read).collect();
            self.read(session, names, data).await?;
        }
        self.publish();
        Ok(Some(watch))
    }

    /// The group's node does not exist: nobody is there.
    async fn absent(
        &mut self,
        session: &SessionRef,
        data: &mut DataWatches,
    ) -> Result<Option<OneshotWatch>, docent::Error> {
        let (stat, watch) = session.exists_and_watch(&self.group).await?;
        if stat.is_some() {
            return Ok(None);
        }
        if !self.entries.is_empty() {
            // The group was deleted with its members in it. Nothing says when; it was not after this answer.
            self.id = self.id.max(session.last_zxid());
            self.entries.clear();
        }
        *data = DataWatches::default();
        self.publish();
        Ok(Some(watch))
    }

    /// Reads these members and arms a watch on each.
    async fn read(
        &mut self,
        session: &SessionRef,
        names: Vec<String>,
        data: &mut DataWatches,
    ) -> Result<(), docent::Error> {
        let reads = names.into_iter().map(|name| {
            let read = session.get_data_and_watch(path::join(&self.group, &name));
            async move { (name, read.await) }
        });
        let answers: Vec<_> = stream::iter(reads).buffered(READS_AT_ONCE).collect().await;
        for (name, answer) in answers {
            let entry = match answer {
                Ok((node, watch)) => {
                    data.arm(name.clone(), watch);
                    let (session, mzxid) = (node.stat.ephemeral_owner, node.stat.mzxid);
                    Entry::Read { bytes: node.bytes(), session, mzxid }
                }
                Err(error) if error.code() == Some(ErrorCode::NO_NODE) => Entry::Gone,
                Err(error) if error.code() == Some(ErrorCode::NO_AUTH) => Entry::Unread,
                Err(error) => return Err(error),
            };
            // Names are what the list says. One that is read as gone keeps what was known until the list says so.
            match self.entries.get_mut(&name) {
                Some(known) if entry != Entry::Gone || *known == Entry::Unread => *known = entry,
                _ => {}
            }
        }
        Ok(())
    }

    /// Shows the view, if it is another one.
    fn publish(&self) {
        let view = RawView { id: self.id, entries: self.entries.clone() };
        self.view.send_if_modified(|shown| {
            let other = shown.as_deref() != Some(&view);
            if other {
                *shown = Some(Arc::new(view));
            }
            other
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_layouts_are_told_apart() {
        let tag = "2f1f9f6a8b554f0e9f430a4c2b6a9d10";
        assert_eq!(layout_of("host-7"), (MemberLayout::Curator, "host-7"));
        assert_eq!(layout_of(tag), (MemberLayout::Curator, tag));
        let party = format!("{tag}__party__");
        assert_eq!(layout_of(&party), (MemberLayout::KazooParty, &*party));
        assert_eq!(layout_of(&format!("{tag}-host-7")), (MemberLayout::KazooShallowParty, "host-7"));
        assert_eq!(layout_of("ä").0, MemberLayout::Curator);
    }

    #[test]
    fn a_party_member_is_known_by_its_data() {
        let entry = Entry::Read { bytes: "host-7".into(), session: SessionId(3), mzxid: Zxid(4) };
        let read: GroupMember<String> = member("2f1f9f6a8b554f0e9f430a4c2b6a9d10__party__", &entry);
        assert_eq!((read.id.as_str(), read.session, read.mzxid), ("host-7", SessionId(3), Zxid(4)));
        assert!(matches!(read.payload, Payload::Invalid { .. }), "kazoo does not write JSON");
    }
}
