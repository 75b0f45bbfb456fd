//! A plain connection to one server, one request at a time or a few in a row: what prepares a measurement and clears
//! it away. It speaks the wire directly, so that the measured part of a run does not depend on the client library.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::{Bytes, BytesMut};
use docent::proto::frame::put_frame;
use docent::proto::{
    ConnectRequest, ConnectResponse, CreateFlags, CreateKind, CreateRequest, Decode as _, Encode as _,
    MultiOp, MultiResult, OpCode, PASSWORD_LENGTH, Reader, ReplyHeader, Request, RequestHeader, Response,
};
use docent::{Acl, ErrorCode, ReadOp, SessionId, Version, Xid, Zxid};

/// The session timeout that is asked for. Sessions of a run are never idle for long, except while others prepare.
const SESSION_TIMEOUT_MS: i32 = 30_000;
/// How long a connect or one reply may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest reply that is taken: the list of a million children is about 20 MB.
const REPLY_MAX: usize = 1 << 28;
/// Deletes in one transaction: small enough for every server's limits, large enough to be quick.
const DELETES_PER_MULTI: usize = 500;

/// The servers of a connect string and its chroot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    hosts: Vec<String>,
    chroot: String,
}

impl Target {
    /// Takes `host:port,host:port/chroot` apart; the port is 2181 where none is given.
    ///
    /// # Errors
    /// No host is named.
    pub(crate) fn parse(connect: &str) -> Result<Target> {
        let (hosts, chroot) = match connect.find('/') {
            Some(at) => connect.split_at(at),
            None => (connect, ""),
        };
        let hosts: Vec<String> =
            hosts.split(',').map(str::trim).filter(|host| !host.is_empty()).map(with_port).collect();
        if hosts.is_empty() {
            bail!("no host in the connect string {connect:?}; give host:port");
        }
        Ok(Target { hosts, chroot: chroot.trim_end_matches('/').to_owned() })
    }

    /// The server of the session number `index`: they are dealt out in turn.
    pub(crate) fn host(&self, index: usize) -> &str {
        &self.hosts[index % self.hosts.len()]
    }

    /// All servers, as `host:port`.
    pub(crate) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The path that our nodes lie under, empty for the root.
    pub(crate) fn chroot(&self) -> &str {
        &self.chroot
    }
}

fn with_port(host: &str) -> String {
    let has_port = match host.rfind(']') {
        Some(bracket) => host[bracket..].contains(':'),
        None => host.contains(':'),
    };
    if has_port { host.to_owned() } else { format!("{host}:2181") }
}

/// Opens a connection and makes a session on it.
///
/// # Errors
/// No address of the host answers, or it refuses a session.
pub(crate) fn open_session(host: &str) -> Result<TcpStream> {
    let mut stream = connect(host, PATIENCE)?;
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: SESSION_TIMEOUT_MS,
        session: SessionId::NONE,
        password: Some(vec![0; PASSWORD_LENGTH]),
        read_only: Some(false),
    };
    let mut out = BytesMut::new();
    put_frame(&mut out, |out| request.encode(out));
    stream.write_all(&out)?;
    let frame = read_frame(&mut stream).with_context(|| {
        format!("{host} closed the connection; does it limit connections (maxClientCnxns)?")
    })?;
    let response = ConnectResponse::decode(&mut Reader::new(frame))?;
    if response.session == SessionId::NONE {
        bail!("{host} did not give a session");
    }
    Ok(stream)
}

/// Connects to the first address of a host that answers.
///
/// # Errors
/// None does.
pub(crate) fn connect(host: &str, patience: Duration) -> Result<TcpStream> {
    let mut last = None;
    for address in host.to_socket_addrs().with_context(|| format!("resolving {host}"))? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    let error = last.map_or_else(|| anyhow!("the name has no address"), anyhow::Error::from);
    Err(error.context(format!("connecting to {host}")))
}

pub(crate) fn read_frame(stream: &mut TcpStream) -> Result<Bytes> {
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let length = i32::from_be_bytes(head);
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= REPLY_MAX)
        .ok_or_else(|| anyhow!("the server sent a frame of {length} bytes"))?;
    // Grown as bytes arrive, so that a claimed length alone reserves nothing.
    let mut frame = Vec::new();
    stream.take(length as u64).read_to_end(&mut frame)?;
    if frame.len() < length {
        bail!("the connection ended within a frame");
    }
    Ok(frame.into())
}

/// A session for preparing and clearing away.
pub(crate) struct Control {
    stream: TcpStream,
    xid: i32,
    /// Operation and xid of each request whose reply is not read yet.
    due: VecDeque<(OpCode, i32)>,
}

impl Control {
    /// A session at the first server that gives one.
    ///
    /// # Errors
    /// None does; the error is the last server's.
    pub(crate) fn open(target: &Target) -> Result<Control> {
        let mut last = None;
        for host in target.hosts() {
            match open_session(host) {
                Ok(stream) => return Ok(Control { stream, xid: 0, due: VecDeque::new() }),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow!("no host")))
    }

    /// Sends all requests, then reads all replies.
    ///
    /// # Errors
    /// The connection breaks. Refusals are part of the answer.
    pub(crate) fn call_all(&mut self, requests: &[Request]) -> Result<Vec<Result<Response, ErrorCode>>> {
        self.send(requests)?;
        self.receive()
    }

    /// Sends requests without waiting for their replies.
    ///
    /// # Errors
    /// The connection breaks.
    pub(crate) fn send(&mut self, requests: &[Request]) -> Result<()> {
        let mut out = BytesMut::new();
        for request in requests {
            self.xid += 1;
            self.due.push_back((request.op(), self.xid));
            put_frame(&mut out, |out| {
                RequestHeader { xid: Xid(self.xid), op: request.op().code() }.encode(out);
                request.encode(out);
            });
        }
        self.stream.write_all(&out).context("sending requests")
    }

    /// Reads the replies to everything that was sent.
    ///
    /// # Errors
    /// The connection breaks.
    pub(crate) fn receive(&mut self) -> Result<Vec<Result<Response, ErrorCode>>> {
        let mut replies = Vec::with_capacity(self.due.len());
        while let Some((op, xid)) = self.due.pop_front() {
            replies.push(self.reply(op, xid)?);
        }
        Ok(replies)
    }

    fn reply(&mut self, op: OpCode, xid: i32) -> Result<Result<Response, ErrorCode>> {
        loop {
            let mut reader = Reader::new(read_frame(&mut self.stream)?);
            let header = ReplyHeader::decode(&mut reader)?;
            if header.xid == Xid::EVENT {
                continue;
            }
            if header.xid != Xid(xid) {
                bail!("reply to xid {} where {xid} is due", header.xid.0);
            }
            if header.error != ErrorCode::OK {
                return Ok(Err(header.error));
            }
            return Ok(Ok(Response::decode(op, &mut reader)?));
        }
    }

    /// One request.
    ///
    /// # Errors
    /// The connection breaks.
    pub(crate) fn call(&mut self, request: Request) -> Result<Result<Response, ErrorCode>> {
        let mut replies = self.call_all(&[request])?;
        replies.pop().ok_or_else(|| anyhow!("no reply"))
    }

    /// Creates nodes, one after the other; those that exist are left as they are.
    ///
    /// # Errors
    /// A create is refused for another reason, or the connection breaks.
    pub(crate) fn create_all(&mut self, paths: &[String], data: &Bytes) -> Result<()> {
        let requests: Vec<Request> = paths.iter().map(|path| create(path, data.clone())).collect();
        for (reply, path) in self.call_all(&requests)?.into_iter().zip(paths) {
            match reply {
                Ok(_) | Err(ErrorCode::NODE_EXISTS) => {}
                Err(code) => bail!("creating {path}: {code}"),
            }
        }
        Ok(())
    }

    /// Deletes a node and everything below it. A node that is not there is as good as deleted.
    ///
    /// # Errors
    /// A delete is refused, or the connection breaks.
    pub(crate) fn delete_all(&mut self, path: &str) -> Result<()> {
        let names = match self.call(Request::GetChildren { path: path.to_owned(), watch: false })? {
            Ok(Response::Names(names)) => names,
            Ok(other) => bail!("listing {path}: unexpected answer {other:?}"),
            Err(ErrorCode::NO_NODE) => return Ok(()),
            // A server of ours gives no list that is larger than clients take.
            Err(ErrorCode::MARSHALLING_ERROR) => self.names_in_pages(path)?,
            Err(code) => bail!("listing {path}: {code}"),
        };
        for chunk in names.chunks(DELETES_PER_MULTI) {
            let children = chunk.iter().map(|name| format!("{path}/{name}"));
            let deletes =
                children.clone().map(|path| MultiOp::Delete { path, version: Version::ANY }).collect();
            if self.call(Request::Multi(deletes))?.is_ok_and(|response| all_done(&response)) {
                continue;
            }
            // Some child has children of its own, or went meanwhile.
            for child in children {
                self.delete_all(&child)?;
            }
        }
        match self.call(Request::Delete { path: path.to_owned(), version: Version::ANY })? {
            Ok(_) | Err(ErrorCode::NO_NODE) => Ok(()),
            Err(code) => bail!("deleting {path}: {code}"),
        }
    }

    fn names_in_pages(&mut self, path: &str) -> Result<Vec<String>> {
        let mut all: Vec<String> = Vec::new();
        loop {
            let after = all.last().cloned().unwrap_or_default();
            let page = ReadOp::ChildrenPage { path: path.to_owned(), after, max: 0 };
            let results = match self.call(Request::MultiRead(vec![page]))? {
                Ok(Response::Multi(results)) => results,
                other => bail!("listing {path} in pages: {other:?}"),
            };
            match results.into_iter().next() {
                Some(MultiResult::ChildrenPage { names, more, .. }) => {
                    all.extend(names);
                    if !more {
                        return Ok(all);
                    }
                }
                other => bail!("listing {path} in pages: {other:?}"),
            }
        }
    }

    /// Ends the session.
    ///
    /// # Errors
    /// The connection breaks first; then the session ends by its timeout.
    pub(crate) fn close(mut self) -> Result<()> {
        self.call(Request::CloseSession)?.map_err(|code| anyhow!("closing the session: {code}"))?;
        Ok(())
    }
}

fn all_done(response: &Response) -> bool {
    use docent::proto::MultiResult;
    matches!(response, Response::Multi(results)
        if !results.iter().any(|result| matches!(result, MultiResult::Error(_))))
}

/// A create of a persistent node that everybody may use.
pub(crate) fn create(path: &str, data: Bytes) -> Request {
    Request::Create(CreateRequest {
        kind: CreateKind::Create,
        path: path.to_owned(),
        data: Some(data),
        acl: Some(Acl::open()),
        flags: CreateFlags::PERSISTENT,
        ttl_ms: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_strings_come_apart() {
        let target = Target::parse("a, b:7,[::1],[::1]:9/root/").unwrap();
        assert_eq!(target.hosts(), ["a:2181", "b:7", "[::1]:2181", "[::1]:9"]);
        assert_eq!((target.chroot(), target.host(5)), ("/root", "b:7"));
        assert!(Target::parse("/x").is_err());
    }
}
