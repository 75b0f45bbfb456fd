//! Sequential nodes that stand in no line: made once, though the answer is lost.
//!
//! The name that the server is asked for carries a tag that nobody else has, in Curator's form of a protected node:
//! `_c_<uuid>-<base><number>`. After a lost reply the node is looked for by it, as [`crate::guarded`] says. A node that
//! outlives its session is looked for in the next one too, so a [`Tagged`] remembers that it is in doubt.

use bytes::Bytes;
use docent::{CreateMode, ErrorCode, ParentMode, SessionId, SessionRef, path};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::error::Error;
use crate::guarded::{self, OwnNode, PARENT_ROUNDS_MAX};
use crate::line::number_of;

/// One node to be made.
#[derive(Clone, Debug)]
pub(crate) struct Tagged {
    parent: String,
    /// All of the name but the number.
    stem: String,
    mode: CreateMode,
    parents: ParentMode,
    /// A reply was lost: the node may be there.
    doubt: bool,
}

impl Tagged {
    /// A node called `path`, with a tag before the name and a number behind it.
    pub(crate) fn new(path: &str, mode: CreateMode, parents: ParentMode) -> Tagged {
        let stem = format!("_c_{}-{}", Uuid::new_v4().hyphenated(), path::name(path));
        let parent = path::parent(path).unwrap_or("/").to_owned();
        Tagged { parent, stem, mode, parents, doubt: false }
    }

    /// Whether a node may be there that nobody knows of.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.doubt
    }

    /// The number of a node of ours.
    pub(crate) fn number(&self, own: &OwnNode) -> Option<i32> {
        number_of(own.name().strip_prefix(&self.stem)?)
    }

    /// Makes the node, or finds it if it was made. `None` when `stop` came first; then there is none. After an error in a
    /// session that has ended, a node that outlives its session may be there: try again in the next one, or
    /// [`Tagged::find`] it.
    pub(crate) async fn make(
        &mut self,
        session: &SessionRef,
        data: &Bytes,
        stop: &CancellationToken,
    ) -> Result<Option<OwnNode>, Error> {
        let wanted = path::join(&self.parent, &self.stem);
        let (mut backoff, mut parent_rounds) = (Backoff::reconnecting(), 0);
        loop {
            if let Some(own) = self.find(session).await? {
                return Ok(Some(own));
            }
            if stop.is_cancelled() {
                return Ok(None);
            }
            let error = match session.create(&wanted, data.clone()).mode(self.mode).await {
                Ok(created) => {
                    let czxid = created.stat.map_or(created.zxid, |stat| stat.czxid);
                    return Ok(Some(OwnNode { path: created.path, czxid, session: self.owner(session) }));
                }
                Err(error) => error,
            };
            if error.code() == Some(ErrorCode::NO_NODE) && parent_rounds < PARENT_ROUNDS_MAX {
                parent_rounds += 1;
                guarded::make_parents_as(session, &wanted, self.parents).await?;
            } else if error.may_have_applied() {
                self.doubt = true;
            } else if guarded::may_try_again(&error) {
                backoff.wait().await;
            } else {
                return Err(error.into());
            }
        }
    }

    /// After a lost reply, the node that was made, if it was. Without one nothing is asked. `sync` comes first: the server
    /// that we are at now may not have heard of it yet.
    pub(crate) async fn find(&mut self, session: &SessionRef) -> Result<Option<OwnNode>, Error> {
        if !self.doubt {
            return Ok(None);
        }
        guarded::synced(session, &self.parent).await?;
        let names = self.children(session).await?;
        let copies = copies(&self.stem, &names).into_iter();
        let paths = copies.map(|name| path::join(&self.parent, name)).collect();
        let own = guarded::keep_first(session, paths, self.owner(session)).await?;
        self.doubt = false;
        Ok(own)
    }

    async fn children(&self, session: &SessionRef) -> Result<Vec<String>, Error> {
        let mut backoff = Backoff::reconnecting();
        loop {
            match session.get_children(&self.parent).await {
                Ok(children) => return Ok(children.names),
                Err(error) if error.code() == Some(ErrorCode::NO_NODE) => return Ok(Vec::new()),
                Err(error) if guarded::may_try_again(&error) => backoff.wait().await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn owner(&self, session: &SessionRef) -> SessionId {
        if self.mode.is_ephemeral() { session.id() } else { SessionId::NONE }
    }
}

/// The names that are a stem and a number, lowest number first.
fn copies<'a>(stem: &str, names: &'a [String]) -> Vec<&'a str> {
    let number = |name: &str| number_of(name.strip_prefix(stem)?);
    let mut copies: Vec<_> = names.iter().filter_map(|name| Some((number(name)?, name.as_str()))).collect();
    copies.sort_unstable();
    copies.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_a_protected_node_of_curator() {
        let tagged = Tagged::new("/svc/worker-", CreateMode::EphemeralSequential, ParentMode::Container);
        assert_eq!(tagged.parent, "/svc");
        let uuid = tagged.stem.strip_prefix("_c_").and_then(|rest| rest.strip_suffix("-worker-"));
        let uuid = uuid.expect("the prefix of Curator, a tag and the name");
        assert_eq!(uuid.len(), 36);
        assert!(Uuid::try_parse(uuid).is_ok(), "{uuid}");
    }

    #[test]
    fn only_a_stem_and_a_number_is_a_copy() {
        let names: Vec<_> =
            ["x-0000000002", "x-0000000001", "x-1", "x-0000000003y", "y-0000000000", "x-x-0000000000"]
                .map(str::to_owned)
                .into();
        assert_eq!(copies("x-", &names), ["x-0000000001", "x-0000000002"]);
        let own = |name: &str| {
            let path = path::join("/svc", name);
            OwnNode { path, czxid: docent::Zxid::ZERO, session: SessionId::NONE }
        };
        let mut tagged = Tagged::new("/svc/x-", CreateMode::PersistentSequential, ParentMode::Persistent);
        tagged.stem = "x-".into();
        assert_eq!(tagged.number(&own("x-0000000012")), Some(12));
        assert_eq!(tagged.number(&own("x--2147483648")), Some(i32::MIN));
        assert_eq!(tagged.number(&own("y-0000000012")), None);
    }
}
