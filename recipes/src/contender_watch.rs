//! Who stands in a line, told again whenever somebody comes or goes.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use docent::{Client, ErrorCode, OneshotWatch, path};
use futures::Stream;
use futures::stream::{BoxStream, StreamExt as _};

use crate::backoff::Backoff;
use crate::contenders::{Contender, seated};
use crate::error::Error;
use crate::following::{Look, changes};
use crate::guarded;
use crate::line::{Line, LineRules};

/// The contenders of a line, first one first, as a stream: what it is now, and then what it is after each change. Changes
/// that come faster than they are taken are told as one. It makes no node, keeps one watch, and goes on in the next
/// session. Each change costs one list, and one read for each newcomer.
///
/// The stream ends after an error, which is [`Error::Closed`] or what the server refuses. Dropping it removes the watch.
#[must_use = "a stream does nothing before it is polled"]
pub struct Contenders {
    items: BoxStream<'static, Result<Vec<Contender>, Error>>,
}

impl Contenders {
    pub(crate) fn new(client: Client, path: String, rules: LineRules) -> Contenders {
        let items = changes(Following { client, path, rules, known: BTreeMap::new() });
        Contenders { items }
    }

    /// The next line; `None` after an error.
    ///
    /// # Errors
    /// [`Error::Closed`] and what the server refuses.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Vec<Contender>, Error>> {
        self.items.next().await
    }
}

impl Stream for Contenders {
    type Item = Result<Vec<Contender>, Error>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.items.poll_next_unpin(cx)
    }
}

impl std::fmt::Debug for Contenders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contenders").finish_non_exhaustive()
    }
}

struct Following {
    client: Client,
    path: String,
    rules: LineRules,
    /// Names are never used again, so what was read of one stays true.
    known: BTreeMap<String, Contender>,
}

impl Look for Following {
    type Seen = Vec<Contender>;

    /// Reads the line and arms a watch on it, or on its coming into being.
    async fn look(&mut self) -> Result<Option<(Vec<Contender>, OneshotWatch)>, Error> {
        match self.client.get_children_and_watch(&self.path).await {
            Ok((children, watch)) => {
                let line = Line::read(&self.rules, children.names);
                return Ok(Some((self.read(&line).await?, watch)));
            }
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => {}
            Err(error) => return Err(error.into()),
        }
        match self.client.exists_and_watch(&self.path).await? {
            (None, watch) => Ok(Some((Vec::new(), watch))),
            (Some(_), _) => Ok(None),
        }
    }
}

impl Following {
    async fn read(&mut self, line: &Line) -> Result<Vec<Contender>, Error> {
        let (known, seats) = (&self.known, line.seats());
        let new: Vec<_> = seats.iter().filter(|seat| !known.contains_key(&seat.name)).cloned().collect();
        let read = seated(&self.client, &self.path, &new).await?;
        self.known.extend(read.into_iter().map(|contender| (contender.name.clone(), contender)));
        self.known.retain(|name, _| seats.iter().any(|seat| seat.name == *name));
        // Who left while it was read is not known, and gone.
        Ok(seats.iter().filter_map(|seat| self.known.get(&seat.name).cloned()).collect())
    }
}

/// Asks one who stands in line to yield, as Curator's `Revoker` does. Whether it was still there.
pub(crate) async fn ask_to_yield(client: &Client, parent: &str, who: &Contender) -> Result<bool, Error> {
    let node = path::join(parent, &who.name);
    let mut backoff = Backoff::reconnecting();
    loop {
        match client.set_data(&node, crate::keeper::REVOKE_MESSAGE, docent::Version::ANY).await {
            Ok(_) => return Ok(true),
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => return Ok(false),
            // The name is never used again and the words are always the same: asking twice is asking once.
            Err(error) if guarded::may_try_again(&error) => backoff.wait().await,
            Err(error) => return Err(error.into()),
        }
    }
}
