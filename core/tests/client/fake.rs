//! A server that answers as a test wants it to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use docent::proto::frame::{next_frame, put_frame};
use docent::proto::jute::{Decode, Encode, Reader};
use docent::proto::{
    ConnectResponse, OpCode, PASSWORD_LENGTH, ReplyHeader, Request, RequestHeader, Response,
};
use docent::{ErrorCode, SessionId, Stat, Xid, Zxid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does about a request.
pub(crate) enum Answer {
    /// As if all were well.
    Well,
    /// Nothing.
    Silence,
    /// These bytes, whatever they are.
    Raw(Vec<u8>),
    /// It hangs up.
    HangUp,
}

/// What the server has seen: operations and their paths, handshakes as `None`.
pub(crate) type Seen = Arc<Mutex<Vec<Option<(OpCode, String)>>>>;

/// A server on a port of its own, for as long as the runtime lives.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Seen,
}

impl Fake {
    /// Starts a server; `answer` is asked about each request: the number of its connection, and the operation.
    pub(crate) async fn start(answer: impl Fn(usize, OpCode) -> Answer + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen::default();
        let (answer, log) = (Arc::new(answer), Arc::clone(&seen));
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(serve(stream, connection, Arc::clone(&answer), Arc::clone(&log)));
            }
        });
        Fake { address, seen }
    }

    pub(crate) fn count(&self, op: OpCode) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter().flatten().filter(|(seen, _)| *seen == op).count()
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    answer: Arc<impl Fn(usize, OpCode) -> Answer>,
    seen: Seen,
) -> Option<()> {
    let mut inbound = BytesMut::new();
    let mut outbound = BytesMut::new();
    frame(&mut stream, &mut inbound).await?;
    seen.lock().unwrap().push(None);
    let response = ConnectResponse {
        protocol_version: 0,
        timeout_ms: 30_000,
        session: SessionId(7),
        password: [1; PASSWORD_LENGTH],
        read_only: Some(false),
    };
    put_frame(&mut outbound, |out| response.encode(out));
    loop {
        stream.write_all_buf(&mut outbound).await.ok()?;
        let frame = frame(&mut stream, &mut inbound).await?;
        let mut input = Reader::new(frame);
        let header = RequestHeader::decode(&mut input).unwrap();
        let op = OpCode::from_code(header.op).unwrap();
        let path = Reader::new(input.clone().into_rest()).string().unwrap_or_default();
        seen.lock().unwrap().push(Some((op, path)));
        match answer(connection, op) {
            Answer::Well => put_frame(&mut outbound, |out| {
                ReplyHeader { xid: header.xid, zxid: Zxid(1), error: ErrorCode::OK }.encode(out);
                response_to(op, input).encode(out);
            }),
            Answer::Silence => {}
            Answer::Raw(bytes) => outbound.extend_from_slice(&bytes),
            Answer::HangUp => return None,
        }
        if op == OpCode::CloseSession {
            stream.write_all_buf(&mut outbound).await.ok()?;
            return None;
        }
    }
}

fn response_to(op: OpCode, mut input: Reader) -> Response {
    let stat = Stat::default();
    let path = match Request::decode(op, &mut input) {
        Ok(Some(Request::Create(create))) => create.path,
        _ => String::new(),
    };
    match op {
        OpCode::Create2 => Response::Created { path, stat },
        OpCode::GetData => Response::Data { data: Some(Bytes::from_static(b"data")), stat },
        OpCode::Exists | OpCode::SetData => Response::Stat(stat),
        OpCode::AddWatch => Response::Number(0),
        OpCode::Sync => Response::Path("/".into()),
        _ => Response::Empty,
    }
}

async fn frame(stream: &mut TcpStream, inbound: &mut BytesMut) -> Option<Bytes> {
    loop {
        if let Some(frame) = next_frame(inbound, 1 << 20).ok()? {
            return Some(frame);
        }
        if stream.read_buf(inbound).await.ok()? == 0 {
            return None;
        }
    }
}

/// The event that a node was deleted, as a frame.
pub(crate) fn deleted(path: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    put_frame(&mut out, |out| {
        ReplyHeader { xid: Xid::EVENT, zxid: Zxid(9), error: ErrorCode::OK }.encode(out);
        docent::proto::WatcherEvent::new(docent::EventType::NodeDeleted, path).encode(out);
    });
    out.to_vec()
}
