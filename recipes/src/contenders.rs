//! Who stands in a line: reading it without joining.

use bytes::Bytes;
use docent::{Client, ErrorCode, SessionId, Zxid, path};
use futures::stream::{self, StreamExt};

use crate::error::Error;
use crate::line::{Line, LineRules, Mode, Seat, System};

/// How many contenders are read at the same time.
const READS_AT_ONCE: usize = 64;

/// One who stands in line, or holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contender {
    /// The name of its node.
    pub name: String,
    /// Whether it lets others hold beside it.
    pub mode: Mode,
    /// Whose name pattern it follows.
    pub system: System,
    /// Its data: by convention who it is. Curator writes its address.
    pub data: Bytes,
    /// Its session.
    pub session: SessionId,
    /// The transaction that created the node: its token when it holds.
    pub czxid: Zxid,
}

/// The line under a path; empty when the path does not exist.
pub(crate) async fn read_line(client: &Client, path: &str, rules: &LineRules) -> Result<Line, Error> {
    match client.get_children(path).await {
        Ok(children) => Ok(Line::read(rules, children.names)),
        Err(error) if error.code() == Some(ErrorCode::NO_NODE) => Ok(Line::default()),
        Err(error) => Err(error.into()),
    }
}

/// Everybody in line, first one first. Who leaves while it is read is left out.
pub(crate) async fn contenders(
    client: &Client,
    path: &str,
    rules: &LineRules,
) -> Result<Vec<Contender>, Error> {
    seated(client, path, read_line(client, path, rules).await?.seats()).await
}

/// Those who have these seats. Who leaves while it is read is left out.
pub(crate) async fn seated(client: &Client, path: &str, seats: &[Seat]) -> Result<Vec<Contender>, Error> {
    let reads: Vec<_> = seats
        .iter()
        .map(|seat| {
            let (client, seat, path) = (client.clone(), seat.clone(), path::join(path, &seat.name));
            async move {
                match client.get_data(path).await {
                    Ok(node) => Ok(Some(Contender {
                        name: seat.name,
                        mode: seat.mode,
                        system: seat.system,
                        data: node.bytes(),
                        session: node.stat.ephemeral_owner,
                        czxid: node.stat.czxid,
                    })),
                    Err(error) if error.code() == Some(ErrorCode::NO_NODE) => Ok(None),
                    Err(error) => Err(Error::from(error)),
                }
            }
        })
        .collect();
    let answers: Vec<_> = stream::iter(reads).buffered(READS_AT_ONCE).collect().await;
    answers.into_iter().filter_map(Result::transpose).collect()
}
