//! A client's socket, with TLS in between or without: plain bytes in and out, as far as the socket is ready.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::net::TcpStream;

use super::tls::{Keys, TlsSession};

/// See the module.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    tls: Option<TlsSession>,
}

/// The first byte of whoever speaks TLS; no frame and no four-letter word begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

impl Wire {
    /// Makes a socket ready for plain bytes. With keys it shakes hands first; where plain clients may come, too, it waits
    /// for the first byte to see which it is. Gives the subject of the client's certificate, if it has proved one.
    ///
    /// # Errors
    /// The client is gone, or there is no agreement on TLS.
    ///
    /// # Cancel safety
    /// Dropped, the connection is closed.
    pub(super) async fn open(
        stream: TcpStream,
        keys: Option<&Keys>,
        plain_too: bool,
    ) -> io::Result<(Self, Option<String>)> {
        let Some(keys) = keys else { return Ok((Wire { stream, tls: None }, None)) };
        if plain_too {
            let mut first = [0];
            if stream.peek(&mut first).await? == 0 || first != [TLS_HANDSHAKE] {
                return Ok((Wire { stream, tls: None }, None));
            }
        }
        let (tls, subject) = keys.shake(&stream).await?;
        Ok((Wire { stream, tls: Some(tls) }, subject))
    }

    /// Waits until there may be something to read.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// Waits until there may be room to write.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// Adds what there is to read, through `chunk`. `false` when the peer has closed.
    pub(super) fn read(&self, chunk: &mut [u8], out: &mut BytesMut) -> io::Result<bool> {
        if let Some(tls) = &self.tls {
            return tls.read(&self.stream, chunk, out);
        }
        match self.stream.try_read(chunk) {
            Ok(0) => Ok(false),
            Ok(count) => {
                out.extend_from_slice(&chunk[..count]);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Sends as much of the bytes as the socket takes, and removes it from them. `false` when something is left.
    pub(super) fn write(&self, bytes: &mut BytesMut) -> io::Result<bool> {
        if let Some(tls) = &self.tls {
            return tls.write(&self.stream, bytes);
        }
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Whether something that was written waits for the socket.
    pub(super) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(TlsSession::wants_write)
    }

    /// Says that nothing more will come, where there is a way to say it.
    pub(super) fn farewell(&self) {
        if let Some(tls) = &self.tls {
            tls.farewell(&self.stream);
        }
    }
}
