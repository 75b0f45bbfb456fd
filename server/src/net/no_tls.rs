//! TLS where it is not built in: keys cannot be loaded, so there are no sessions.

use std::convert::Infallible;
use std::io;

use bytes::BytesMut;
use tokio::net::TcpStream;

use crate::config::TlsOptions;

/// Keys that nobody has.
#[derive(Debug)]
pub(crate) struct Keys(Infallible);

impl Keys {
    /// Always refuses.
    pub(crate) fn load(_: TlsOptions) -> Result<Self, String> {
        Err("this server is built without TLS (feature `tls`)".to_owned())
    }

    pub(super) async fn shake(&self, _: &TcpStream) -> io::Result<(TlsSession, Option<String>)> {
        match self.0 {}
    }
}

/// A session that nobody has.
#[derive(Debug)]
pub(super) struct TlsSession(Infallible);

impl TlsSession {
    pub(super) fn read(&self, _: &TcpStream, _: &mut [u8], _: &mut BytesMut) -> io::Result<bool> {
        match self.0 {}
    }

    pub(super) fn write(&self, _: &TcpStream, _: &mut BytesMut) -> io::Result<bool> {
        match self.0 {}
    }

    pub(super) fn wants_write(&self) -> bool {
        match self.0 {}
    }

    pub(super) fn farewell(&self, _: &TcpStream) {
        match self.0 {}
    }
}
