//! The checks of what clients are told: only what is committed, never older than before, and exactly what the committed
//! transactions amount to.

use std::collections::BTreeSet;

use docent::proto::{OpCode, ReplyHeader, Request, Response};
use docent::{ErrorCode, SessionId, Zxid};
use docent_server::zab::PeerId;

use super::checks::{Answer, Checked, Checks, ensure};
use super::clients::{Asked, Client};
use super::config_checks::CONFIG;

impl Checks {
    /// **Only what is committed is shown**: the zxid of an answer is that of a committed transaction.
    pub(super) fn shown(&self, peer: PeerId, header: ReplyHeader) -> Checked {
        let zxid = header.zxid;
        let known = zxid.0 <= 0 || zxid.counter() == 0 || self.committed.contains_key(&zxid);
        ensure(known, "only what is committed is shown", || {
            format!("server {} answers {header:?}, and {} is committed", peer.0, self.last())
        })
    }

    /// A session is taken up or begun.
    pub(super) fn session_granted(&mut self, client: &Client, session: SessionId) -> Checked {
        ensure(
            client.session == SessionId::NONE || client.session == session,
            "a session stays itself",
            || format!("client {} asked for {} and got {session}", client.number, client.session),
        )?;
        let known = self.model.sessions.contains_key(&session) || self.model.closed.contains_key(&session);
        ensure(known, "a session is committed before it is granted", || {
            format!("session {session} of client {}", client.number)
        })
    }

    /// **Only sessions that end are refused.** The end may be under way; it is looked for when the run is over.
    pub(super) fn session_refused(&mut self, session: SessionId, client: u32) -> Checked {
        ensure(session != SessionId::NONE, "only sessions that end are refused", || {
            format!("client {client} asked for a new session and was refused")
        })?;
        self.refused.insert(session);
        Ok(())
    }

    /// An answer has reached its client.
    pub(super) fn answer(&mut self, client: &mut Client, answer: &Answer<'_>) -> Checked {
        let Answer { asked, header, response, .. } = *answer;
        self.never_older(client, header)?;
        if asked.request.op().is_write() || asked.request.op() == OpCode::CloseSession {
            self.write_stands(client, asked, header)?;
            self.write_answer(asked, header, response)?;
            self.within_quota(asked, header)?;
            client.last_write = header.zxid;
        } else {
            self.read_is_fresh(client, asked, header)?;
            self.read_answer(client, asked, header, response)?;
        }
        self.watches_come_first(client, header)?;
        self.followed(client, header)?;
        self.rearmed(client, asked, header)?;
        self.arm(client, asked, header);
        self.horizon = self.horizon.max(header.zxid);
        Ok(())
    }

    /// **A client never sees an older state** than it has seen, whichever server it asks.
    fn never_older(&self, client: &Client, header: ReplyHeader) -> Checked {
        ensure(header.zxid >= client.last_zxid, "a client never sees an older state", || {
            format!("client {} has seen {} and gets {header:?}", client.number, client.last_zxid)
        })
    }

    /// **An acknowledged write is committed** as this client's request, behind its earlier ones, and behind everything
    /// that anybody was told before it was sent.
    fn write_stands(&self, client: &Client, asked: &Asked, header: ReplyHeader) -> Checked {
        let owner = self.committed.get(&header.zxid).map(|entry| (entry.session, entry.cxid));
        ensure(owner == Some((client.session, asked.xid.0)), "an acknowledged write is committed", || {
            format!(
                "client {} is told {header:?} for {:?}, committed is {owner:?}",
                client.number, asked.request
            )
        })?;
        ensure(header.zxid > client.last_write, "a client's writes keep their order", || {
            format!("client {}: {header:?} after {}", client.number, client.last_write)
        })?;
        ensure(header.zxid > asked.horizon, "a write comes behind what was known before it", || {
            format!("client {} knew of {} and got {header:?}", client.number, asked.horizon)
        })
    }

    /// **A write's answer is what its transaction did.**
    fn write_answer(&self, asked: &Asked, header: ReplyHeader, response: Option<&Response>) -> Checked {
        let at = |path: &str| self.model.at(path, header.zxid);
        let holds = match (&asked.request, header.error, response) {
            (_, ErrorCode::OK, Some(Response::Path(path))) => {
                at(path).is_some_and(|known| known.czxid == header.zxid)
            }
            (Request::SetData { path, data, .. }, ErrorCode::OK, Some(Response::Stat(stat))) => at(path)
                .is_some_and(|known| {
                    (known.mzxid, known.version, &known.data) == (header.zxid, stat.version, data)
                        && known.writable
                }),
            (Request::SetData { path, .. }, ErrorCode::NO_AUTH, _) => {
                at(path).is_some_and(|known| !known.writable)
            }
            (_, ErrorCode::NO_AUTH, _) => false,
            (Request::SetAcl { path, .. }, ErrorCode::OK, _) => at(path).is_some(),
            (Request::SetAcl { path, .. }, ErrorCode::NO_NODE, _) => at(path).is_none(),
            (Request::Delete { path, .. }, ErrorCode::OK, _) => at(path).is_none(),
            (Request::SetData { path, .. } | Request::Delete { path, .. }, ErrorCode::NO_NODE, _) => {
                at(path).is_none()
            }
            (Request::Create(create), ErrorCode::NODE_EXISTS, _) => at(&create.path).is_some(),
            (Request::SetData { path, version, .. }, ErrorCode::BAD_VERSION, _) => {
                at(path).is_some_and(|known| known.version != version.0)
            }
            _ => true,
        };
        ensure(holds, "a write's answer is what its transaction did", || {
            format!("{:?} was answered {header:?} {response:?}", asked.request)
        })
    }

    /// **A read sees its client's writes, and behind a `sync` everybody's**: all that anybody was told before the `sync`
    /// was sent.
    fn read_is_fresh(&self, client: &Client, asked: &Asked, header: ReplyHeader) -> Checked {
        ensure(header.zxid >= client.last_write, "a read sees its client's writes", || {
            format!("client {} wrote {} and reads {header:?}", client.number, client.last_write)
        })?;
        let synced = match &asked.request {
            Request::Sync { .. } => asked.horizon,
            _ => asked.synced.map_or(Zxid::ZERO, |(horizon, _)| horizon),
        };
        ensure(
            header.zxid >= synced || header.error != ErrorCode::OK,
            "a sync shows what was known before it",
            || {
                format!(
                    "client {} knew of {synced} and gets {header:?} for {:?}",
                    client.number, asked.request
                )
            },
        )
    }

    /// **A read shows the state at its zxid**, as the committed transactions made it.
    fn read_answer(
        &self,
        client: &Client,
        asked: &Asked,
        header: ReplyHeader,
        response: Option<&Response>,
    ) -> Checked {
        let at = |path: &str| self.model.at(path, header.zxid);
        let holds = match (&asked.request, header.error, response) {
            (Request::GetData { path, .. }, ErrorCode::OK, Some(Response::Data { data, stat }))
                if path == CONFIG =>
            {
                self.config_read(header, data.as_ref(), stat)
            }
            (Request::GetData { path, .. }, ErrorCode::OK, Some(Response::Data { data, stat })) => at(path)
                .is_some_and(|known| {
                    (&known.data, known.version, known.mzxid, known.czxid)
                        == (data, stat.version, stat.mzxid, stat.czxid)
                }),
            (Request::Exists { path, .. }, ErrorCode::OK, Some(Response::Stat(stat))) => at(path)
                .is_some_and(|known| {
                    (known.version, known.mzxid, known.owner)
                        == (stat.version, stat.mzxid, stat.ephemeral_owner)
                }),
            (Request::GetChildren { path, .. }, ErrorCode::OK, Some(Response::Names(names))) => {
                let names: BTreeSet<String> = names.iter().cloned().collect();
                names == self.model.children_at(path, header.zxid)
            }
            (
                Request::GetData { path, .. }
                | Request::Exists { path, .. }
                | Request::GetChildren { path, .. },
                ErrorCode::NO_NODE,
                _,
            ) => at(path).is_none(),
            _ => true,
        };
        ensure(holds, "a read shows the state at its zxid", || {
            format!("client {}: {:?} was answered {header:?} {response:?}", client.number, asked.request)
        })
    }
}
