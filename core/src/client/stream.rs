//! The bytes between client and server, with TLS in between where it is asked for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::hosts::Host;

/// How servers are reached: with TLS or without.
#[derive(Clone, Debug, Default)]
pub(super) struct Dialer {
    #[cfg(feature = "tls")]
    pub(super) tls: Option<super::tls::Tls>,
}

impl Dialer {
    /// Looks the host up and connects to the first of its addresses that answers; with TLS, shakes hands.
    ///
    /// # Cancel safety
    /// Dropped, the connection is closed.
    pub(super) async fn dial(self, host: Host) -> io::Result<Stream> {
        let failed = |error: io::Error| io::Error::new(error.kind(), format!("{host}: {error}"));
        let stream = TcpStream::connect((host.name.as_str(), host.port)).await.map_err(failed)?;
        stream.set_nodelay(true)?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let stream = tls.shake(&host.name, stream).await.map_err(failed)?;
            return Ok(Stream::Secure(Box::new(stream)));
        }
        Ok(Stream::Plain(stream))
    }
}

/// A connection with TLS or without.
pub(super) enum Stream {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Secure(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, out),
            #[cfg(feature = "tls")]
            Stream::Secure(stream) => Pin::new(stream).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(feature = "tls")]
            Stream::Secure(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(feature = "tls")]
            Stream::Secure(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(feature = "tls")]
            Stream::Secure(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
