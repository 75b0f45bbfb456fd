//! Connections over TLS.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::error::Error;

/// Whom a client trusts, and how it proves who it is itself. The certificate of a server must name the host that the
/// client was told to connect to: the name, or the address, of the connect string.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

/// Anything else that rustls can be told: other algorithms, other rules on whom to trust.
impl From<Arc<ClientConfig>> for Tls {
    fn from(config: Arc<ClientConfig>) -> Self {
        Tls { config }
    }
}

impl Tls {
    /// Trusts the servers for which one of these certificates vouches; PEM.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there is no certificate in it.
    pub fn trusting(authorities: &[u8]) -> Result<Tls, Error> {
        Self::new(authorities, None)
    }

    /// As [`Tls::trusting`], and shows servers that ask for it a certificate, with those that vouch for it behind it;
    /// PEM, with the private key, not encrypted, in the same text or in `key`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when a certificate or the key is missing or they do not belong together.
    pub fn with_certificate(authorities: &[u8], certificate: &[u8], key: &[u8]) -> Result<Tls, Error> {
        Self::new(authorities, Some((certificate, key)))
    }

    fn new(authorities: &[u8], own: Option<(&[u8], &[u8])>) -> Result<Tls, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(authorities)? {
            roots.add(certificate).map_err(wrong)?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(wrong)?
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key).map_err(wrong)?;
                builder.with_client_auth_cert(certificates(chain)?, key).map_err(wrong)?
            }
        };
        Ok(Tls { config: Arc::new(config) })
    }

    /// Shakes hands with a server that was reached under this name.
    ///
    /// # Cancel safety
    /// Dropped, the connection is closed.
    pub(super) async fn shake(&self, name: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await
    }
}

fn wrong(error: impl std::fmt::Display) -> Error {
    Error::InvalidArgument(format!("TLS: {error}"))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    if found.is_empty() { Err(wrong("there is no certificate in the text")) } else { Ok(found) }
}
