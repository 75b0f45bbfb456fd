//! Who leads, for those who do not take part: reads and one watch, no node.

use std::borrow::Cow;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use docent::{Client, ErrorCode, OneshotWatch, path};
use futures::Stream;
use futures::stream::{BoxStream, StreamExt as _};

use crate::error::Error;
use crate::following::{Look, changes};
use crate::line::{Line, LineRules};
use crate::token::FencingToken;

/// A leader, as it shows itself to others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaderInfo {
    /// The data of its node: its id, or what it has published.
    pub data: Bytes,
    /// Its epoch: higher than every earlier leader's.
    pub epoch: FencingToken,
}

impl LeaderInfo {
    /// The data as text.
    #[must_use]
    pub fn id(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.data)
    }
}

/// Who leads at a path, as a stream: who it is now, and then after each change; `None` when nobody stands in line. Changes
/// that come faster than they are taken are told as one.
///
/// **Connected**, the first in line is told, and the next when that one goes. **Suspended**, nothing is told, and what was
/// told last may be over. **Lost**, it goes on in the next session by itself; what it tells never goes back. **Token:** each
/// leader's epoch. **Layout:** Curator's `LeaderLatch` and `LeaderSelector`, kazoo's `Election`. **Cost:** a list and a read
/// per leader, one watch, no node.
///
/// The stream ends after an error, which is [`Error::Closed`] or what the server refuses. Dropping it removes the watch.
#[must_use = "a stream does nothing before it is polled"]
pub struct ObservedLeader {
    items: BoxStream<'static, Result<Option<LeaderInfo>, Error>>,
}

impl ObservedLeader {
    pub(crate) fn new(client: Client, path: String) -> ObservedLeader {
        ObservedLeader { items: changes(Observer { client, path, rules: LineRules::leaders() }) }
    }

    /// The next leader, or that there is none; `None` after an error.
    ///
    /// # Errors
    /// [`Error::Closed`] and what the server refuses.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Option<LeaderInfo>, Error>> {
        self.items.next().await
    }
}

impl Stream for ObservedLeader {
    type Item = Result<Option<LeaderInfo>, Error>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.items.poll_next_unpin(cx)
    }
}

impl std::fmt::Debug for ObservedLeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObservedLeader").finish_non_exhaustive()
    }
}

struct Observer {
    client: Client,
    path: String,
    rules: LineRules,
}

impl Look for Observer {
    type Seen = Option<LeaderInfo>;

    /// Reads the first in line and arms a watch on it: nobody comes in before it. In an empty line the watch is on the
    /// line. `None` when it must be looked at again.
    async fn look(&mut self) -> Result<Option<(Option<LeaderInfo>, OneshotWatch)>, Error> {
        let line = match self.client.get_children(&self.path).await {
            Ok(children) => Line::read(&self.rules, children.names),
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => Line::default(),
            Err(error) => return Err(error.into()),
        };
        let Some(first) = line.first() else { return self.look_at_empty_line().await };
        match self.client.get_data_and_watch(path::join(&self.path, &first.name)).await {
            Ok((node, watch)) => {
                let leader = LeaderInfo { data: node.bytes(), epoch: node.stat.czxid.into() };
                Ok(Some((Some(leader), watch)))
            }
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Observer {
    async fn look_at_empty_line(&self) -> Result<Option<(Option<LeaderInfo>, OneshotWatch)>, Error> {
        match self.client.get_children_and_watch(&self.path).await {
            Ok((children, watch)) if Line::read(&self.rules, &children.names).first().is_none() => {
                return Ok(Some((None, watch)));
            }
            Ok(_) => return Ok(None),
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => {}
            Err(error) => return Err(error.into()),
        }
        let (stat, watch) = self.client.exists_and_watch(&self.path).await?;
        if stat.is_some() {
            return Ok(None);
        }
        Ok(Some((None, watch)))
    }
}
