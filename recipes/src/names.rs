//! Unique names: each is given out once, with a number that the server counts.

use std::fmt;

use bytes::Bytes;
use docent::{Client, CreateMode, ParentMode, Zxid, path};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::error::Error;
use crate::following::goes_on;
use crate::guard::{Granter, Ticket};
use crate::guarded::{self, Gone, OwnNode};
use crate::line::number_of;
use crate::tagged::Tagged;

/// How long the tag of a name is, with the dash behind it.
const TAG_LEN: usize = "_c_00000000-0000-0000-0000-000000000000-".len();

/// How long the number of a name is.
const NUMBER_LEN: usize = 10;

/// A giver of names. Cheap to clone; nothing is sent before one of its verbs.
///
/// Each name is a persistent node under the path, and its number the one that the server counts there: one name is given to one
/// taker, in the order of the numbers, among all programs and for all prefixes. A taker whose answer is lost finds its node
/// again by a tag that only it has, so that it takes one name and not two.
///
/// **Connected**, a name is one write. **Suspended**, taking waits. **Lost**, it goes on in the next session, and looks there
/// for what the last one may have made. A name that is taken depends on no session: it stays taken when its program has died.
///
/// **Token:** the number, or the node's czxid: of two names the later has the higher.
///
/// **Dropped:** a future that is dropped gives its node back in the background; its number is skipped. A dropped [`UniqueName`]
/// stays taken; [`UniqueName::reclaim`] deletes the node.
///
/// **Layout:** Curator's create with protection, of a persistent sequential node: `_c_<uuid>-<prefix><number>`. kazoo has none.
/// The path must not be deleted while names matter, since the server counts from the beginning then; it is made as a
/// persistent node for that, and not as a container, which the server would remove.
///
/// **Numbers** end with 2147483646: the server does not count beyond, and whoever comes then gets [`Error::NumbersUsedUp`].
///
/// **Cost:** one round trip for a name, no watch. One more, which nobody waits for, when nodes are not kept.
///
/// ```no_run
/// # use docent_recipes::Recipes;
/// # async fn example(zk: docent::Client) -> Result<(), docent_recipes::Error> {
/// let name = zk.unique_names("/orders").prefix("order-").take().await?;
/// println!("{name} is ours alone");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "no name is taken before take()"]
pub struct UniqueNames {
    client: Client,
    path: String,
    prefix: String,
    data: Bytes,
    forget: bool,
}

impl UniqueNames {
    pub(crate) fn new(client: Client, path: String) -> UniqueNames {
        UniqueNames { client, path, prefix: "name-".into(), data: Bytes::new(), forget: false }
    }

    /// What names begin with. Default: `name-`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> UniqueNames {
        self.prefix = prefix.into();
        self
    }

    /// What the node of a name holds. Default: nothing.
    pub fn data(mut self, data: impl Into<Bytes>) -> UniqueNames {
        self.data = data.into();
        self
    }

    /// Deletes each node as soon as its name is known: names are as unique, and nothing piles up on the server, but nobody
    /// can look up which names there are.
    pub fn keep_no_nodes(mut self) -> UniqueNames {
        self.forget = true;
        self
    }

    /// Takes the next name.
    ///
    /// # Errors
    /// [`Error::NumbersUsedUp`] when the server has counted to its end. [`Error::Ambiguous`] when the client was closed, or the
    /// server refused to tell, while the outcome was open: a node may remain that nobody has the name of. Else
    /// [`Error::Closed`] and what the server refuses; no node remains then.
    ///
    /// # Cancel safety
    /// Dropping the future gives the name back in the background; it is given to nobody else.
    ///
    /// # Panics
    /// When polled outside a tokio runtime.
    pub async fn take(&self) -> Result<UniqueName, Error> {
        let (ticket, stop, granter) = Ticket::new();
        let wanted = path::join(&self.path, &self.prefix);
        let tagged = Tagged::new(&wanted, CreateMode::PersistentSequential, ParentMode::Persistent);
        tokio::spawn(Driver { names: self.clone(), tagged, stop }.run(granter));
        // The driver answers `None` only to one who has gone.
        let Offer { name, taken } = ticket.await?.ok_or(Error::RuntimeStopped)?;
        // A driver that is gone with its runtime cannot give the node back, so it stays ours.
        let _ = taken.send(());
        Ok(name)
    }

    /// The names that are taken now, of all prefixes, by their numbers.
    ///
    /// # Errors
    /// [`Error::Closed`] and what the server refuses.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn taken(&self) -> Result<Vec<String>, Error> {
        let mut backoff = Backoff::reconnecting();
        loop {
            match self.client.get_children(&self.path).await {
                Ok(children) => return Ok(names_in(&children.names)),
                Err(error) if error.code() == Some(docent::ErrorCode::NO_NODE) => return Ok(Vec::new()),
                Err(error) if goes_on(&error) => backoff.wait().await,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A name that nobody else has, and nobody else will get.
#[derive(Clone, Debug)]
pub struct UniqueName {
    client: Client,
    text: String,
    number: u32,
    own: OwnNode,
}

impl UniqueName {
    /// The name: the prefix, and the number in ten digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The node that stands for the name.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.own.path
    }

    /// The write that made the node. Of two names of one path the later has the higher, also when the numbers began anew.
    #[must_use]
    pub fn czxid(&self) -> Zxid {
        self.own.czxid
    }

    /// Deletes the node, when the name is not needed any more. The name is given to nobody else all the same. It is no error
    /// when the node is gone already.
    ///
    /// # Errors
    /// [`Error::Closed`] and what the server refuses. The node remains.
    ///
    /// # Cancel safety
    /// The node may be deleted when the future is dropped.
    pub async fn reclaim(self) -> Result<(), Error> {
        match guarded::remove_later(&self.client, &self.own).await {
            Gone::Refused(error) => Err(error),
            Gone::Deleted | Gone::Before | Gone::SessionEnded => Ok(()),
        }
    }
}

impl fmt::Display for UniqueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl AsRef<str> for UniqueName {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// A name on its way to the one who wants it. Where it gets lost on that way, the driver hears of it.
struct Offer {
    name: UniqueName,
    taken: oneshot::Sender<()>,
}

/// The task that takes one name.
struct Driver {
    names: UniqueNames,
    tagged: Tagged,
    stop: CancellationToken,
}

impl Driver {
    async fn run(mut self, granter: Granter<Offer>) {
        let own = match self.make().await {
            Ok(Some(own)) => own,
            Ok(None) => return,
            Err(error) => {
                let in_doubt = self.tagged.is_in_doubt();
                let path = path::join(&self.names.path, &self.names.prefix);
                let error = if in_doubt { Error::Ambiguous { op: "create", path } } else { error };
                return drop(granter.send(Err(error)));
            }
        };
        let client = self.names.client.clone();
        let Some(number) = usable(self.tagged.number(&own)) else {
            guarded::remove_later(&client, &own).await;
            return drop(granter.send(Err(Error::NumbersUsedUp { path: self.names.path })));
        };
        let text = name_of(&self.names.prefix, number);
        let name = UniqueName { client: client.clone(), text, number, own: own.clone() };
        let (taken, seen) = oneshot::channel();
        drop(granter.send(Ok(Some(Offer { name, taken }))));
        if self.names.forget || seen.await.is_err() {
            guarded::remove_later(&client, &own).await;
        }
    }

    /// Makes the node, in one session after another. `None` when nobody wants it and there is none.
    async fn make(&mut self) -> Result<Option<OwnNode>, Error> {
        loop {
            let in_doubt = self.tagged.is_in_doubt();
            let session = tokio::select! {
                biased;
                () = self.stop.cancelled(), if !in_doubt => return Ok(None),
                session = self.names.client.session_ready() => session?,
            };
            match self.tagged.make(&session, &self.names.data, &self.stop).await {
                Err(Error::SessionEnded(_)) => {}
                outcome => return outcome,
            }
        }
    }
}

/// The number of a name that can be given out. At its end the server's counter stands still, and gives the same number again;
/// beyond it some servers count from the other side.
fn usable(number: Option<i32>) -> Option<u32> {
    number.filter(|number| *number < i32::MAX).and_then(|number| u32::try_from(number).ok())
}

fn name_of(prefix: &str, number: u32) -> String {
    format!("{prefix}{number:0NUMBER_LEN$}")
}

/// The names among the children of a path, by their numbers. Others are passed over.
fn names_in(children: &[String]) -> Vec<String> {
    let name = |child: &String| {
        let name = child.strip_prefix("_c_").and(child.get(TAG_LEN..))?;
        let at = name.len().checked_sub(NUMBER_LEN)?;
        let number = usable(number_of(name.get(at..)?))?;
        Some((number, name.to_owned()))
    };
    let mut names: Vec<_> = children.iter().filter_map(name).collect();
    names.sort_unstable();
    names.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_number_and_what_is_beyond_are_not_given_out() {
        assert_eq!(usable(Some(0)), Some(0));
        assert_eq!(usable(Some(i32::MAX - 1)), Some(2_147_483_646));
        for number in [Some(i32::MAX), Some(i32::MIN), Some(-1), None] {
            assert_eq!(usable(number), None, "{number:?}");
        }
    }

    #[test]
    fn only_names_are_listed_and_by_their_numbers() {
        let tag = "_c_2f1f9f6a-8b55-4f0e-9f43-0a4c2b6a9d10-";
        assert_eq!(tag.len(), TAG_LEN);
        let children = [
            format!("{tag}b-0000000001"),
            format!("{tag}a-0000000003"),
            format!("{tag}0000000002"),
            format!("{tag}a-2147483647"),
            format!("{tag}a-3"),
            "a-0000000004".to_owned(),
            "_c_short".to_owned(),
            String::new(),
        ];
        assert_eq!(names_in(&children), ["b-0000000001", "0000000002", "a-0000000003"]);
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_was_written(prefix in "[a-zä-]{0,8}", number in 0_u32..2_147_483_647) {
            let name = name_of(&prefix, number);
            let child = format!("_c_{}-{name}", uuid::Uuid::new_v4().hyphenated());
            prop_assert_eq!(names_in(&[child]), [name]);
        }

        #[test]
        fn any_child_is_read_without_panic(child in ".{0,60}") {
            names_in(&[child.clone(), format!("_c_{child}")]);
        }
    }
}
