//! The nodes that stand for permits: laying them, and telling them from others.

use bytes::Bytes;
use docent::{CreateMode, ErrorCode, SessionRef, path};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::error::{Error, LossCause};
use crate::guarded::{self, OwnNode, Plan};
use crate::line::{Layout, LineRules, Mode, Seat, System, Tag};
use crate::permit_count::PermitCount;

/// Where leases lie, and what they look like.
#[derive(Clone, Debug)]
pub(crate) struct Leases {
    pub(crate) parent: String,
    pub(crate) layout: Layout,
    pub(crate) data: Bytes,
}

/// A lease of ours, and all leases as they were right after.
#[derive(Debug)]
pub(crate) struct Laid {
    pub(crate) own: OwnNode,
    pub(crate) all: Vec<Seat>,
}

impl Leases {
    /// The leases among the children of the directory. Others are passed over, though Curator and kazoo count them.
    pub(crate) fn among<S: AsRef<str>>(&self, children: impl IntoIterator<Item = S>) -> Vec<Seat> {
        let rules = LineRules::lease();
        let seat = |name: &str| match self.layout {
            Layout::Curator => rules.parse(name),
            Layout::Kazoo => is_hex32(name).then(|| Seat {
                name: name.to_owned(),
                number: 0,
                mode: Mode::Shared,
                system: System::Kazoo,
            }),
        };
        children.into_iter().filter_map(|name| seat(name.as_ref())).collect()
    }

    /// Lays one. `None` when `stop` came first. Without one, no node remains.
    pub(crate) async fn lay(
        &self,
        session: &SessionRef,
        count: &PermitCount,
        stop: &CancellationToken,
    ) -> Result<Option<Laid>, Error> {
        match self.layout {
            Layout::Curator => {
                let rules = LineRules::lease();
                let plan = Plan { parent: self.parent.clone(), rules, data: self.data.clone() };
                let placed = guarded::place(session, &plan, stop).await?;
                Ok(placed.map(|placed| Laid { own: placed.own, all: placed.line.seats().to_vec() }))
            }
            Layout::Kazoo => self.lay_named(session, count, stop).await,
        }
    }

    /// kazoo's leases have no number: the name is the tag.
    async fn lay_named(
        &self,
        session: &SessionRef,
        count: &PermitCount,
        stop: &CancellationToken,
    ) -> Result<Option<Laid>, Error> {
        let node = path::join(&self.parent, &Tag::new(Uuid::new_v4(), Layout::Kazoo).prefix());
        let mut backoff = Backoff::reconnecting();
        while !stop.is_cancelled() {
            let create = session.create(&node, self.data.clone()).mode(CreateMode::Ephemeral).send();
            let list = session.get_children(&self.parent);
            let error = match create.await {
                Ok(created) => {
                    let czxid = created.stat.map_or(created.zxid, |stat| stat.czxid);
                    let own = OwnNode { path: node, czxid, session: session.id() };
                    // Without a list nothing is certain, and the caller lists again.
                    let all = list.await.map_or(Vec::new(), |children| self.among(children.names));
                    return Ok(Some(Laid { own, all }));
                }
                Err(error) => error,
            };
            drop(list);
            // The name is ours alone: whoever made it, it was one of our own tries.
            if error.may_have_applied() || error.code() == Some(ErrorCode::NODE_EXISTS) {
                guarded::synced(session, &self.parent).await?;
                match guarded::stat_of(session, &node).await? {
                    Some(stat) if stat.ephemeral_owner == session.id() => {
                        let own = OwnNode { path: node, czxid: stat.czxid, session: session.id() };
                        return Ok(Some(Laid { own, all: Vec::new() }));
                    }
                    _ => {}
                }
            } else if error.code() == Some(ErrorCode::NO_NODE) {
                // The directory holds the number of permits, and is made with it.
                count.read(session).await?;
            } else if !guarded::may_try_again(&error) {
                return Err(error.into());
            }
            backoff.wait().await;
        }
        Ok(None)
    }

    /// All leases now, with a watch on their coming and going.
    pub(crate) async fn list_and_watch(
        &self,
        session: &SessionRef,
    ) -> Result<(Vec<Seat>, docent::OneshotWatch), Error> {
        let mut backoff = Backoff::reconnecting();
        loop {
            match session.get_children_and_watch(&self.parent).await {
                Ok((children, watch)) => return Ok((self.among(children.names), watch)),
                // Somebody deleted the whole directory with our leases in it.
                Err(error) if error.code() == Some(ErrorCode::NO_NODE) => {
                    return Err(Error::PlaceLost(LossCause::NodeDeleted));
                }
                Err(error) if guarded::may_try_again(&error) => backoff.wait().await,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn is_hex32(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_leases_are_counted() {
        let leases = |layout| Leases { parent: "/s".to_owned(), layout, data: Bytes::new() };
        let curator = "_c_2f1f9f6a-8b55-4f0e-9f43-0a4c2b6a9d10-lease-0000000003";
        let kazoo = "2f1f9f6a8b554f0e9f430a4c2b6a9d10";
        let children = [curator, kazoo, "note", "_c_x-lock-0000000003", "2F1F9F6A8B554F0E9F430A4C2B6A9D10"];
        let names =
            |layout| -> Vec<_> { leases(layout).among(children).into_iter().map(|seat| seat.name).collect() };
        assert_eq!(names(Layout::Curator), [curator]);
        assert_eq!(names(Layout::Kazoo), [kazoo]);
    }
}
