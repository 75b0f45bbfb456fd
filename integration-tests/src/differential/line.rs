//! One connection to one server: frames out, frames in, within a bound.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::{Bytes, BytesMut};
use docent::proto::frame::{next_frame, put_frame};

/// A server that is silent for so long does not answer.
const SILENCE: Duration = Duration::from_secs(15);
/// Answers may be longer than requests.
const FRAME_MAX: usize = 1 << 26;
const CHUNK: usize = 64 << 10;

/// What came next.
#[derive(Debug)]
pub(super) enum Came {
    Frame(Bytes),
    /// The server has closed.
    End,
    /// Nothing within the bound.
    Silence,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Line {
    stream: TcpStream,
    input: BytesMut,
}

impl Line {
    pub(super) fn open(address: SocketAddr) -> Result<Line> {
        let stream = TcpStream::connect_timeout(&address, SILENCE)
            .with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        Ok(Line { stream, input: BytesMut::new() })
    }

    /// Sends what is framed already. A server that has closed is found out by the next read.
    pub(super) fn send(&mut self, frames: &[u8]) {
        let _ = self.stream.write_all(frames);
    }

    /// Sends one frame.
    pub(super) fn send_frame(&mut self, body: impl FnOnce(&mut BytesMut)) {
        let mut out = BytesMut::new();
        put_frame(&mut out, body);
        self.send(&out);
    }

    /// From now on the server is silent after this time.
    pub(super) fn be_impatient(&mut self, silence: Duration) -> Result<()> {
        Ok(self.stream.set_read_timeout(Some(silence))?)
    }

    pub(super) fn next(&mut self) -> Result<Came> {
        loop {
            if let Some(frame) = next_frame(&mut self.input, FRAME_MAX)? {
                return Ok(Came::Frame(frame));
            }
            let mut chunk = [0; CHUNK];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(Came::End),
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Ok(Came::Silence),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
                        return Ok(Came::End);
                    }
                    ErrorKind::Interrupted => {}
                    _ => return Err(error).context("reading an answer"),
                },
            }
        }
    }
}
