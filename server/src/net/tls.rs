//! TLS on the client port: keys out of their files, handshakes, and a session between a socket and its plain bytes.
//!
//! A session does no waiting of its own. It is read and written as the socket is, by whoever may: what it has to say and
//! the socket does not take waits within it, and is the connection's task to send.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Buf, BytesMut};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, ServerConnection, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, RootCertStore, SupportedProtocolVersion, version};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::subject;
use crate::config::{ClientAuth, TlsOptions};
use crate::limits::{TLS_FILE_BYTES_MAX, TLS_HANDSHAKE_MS, TLS_HANDSHAKES_MAX, TLS_LOOK_AGAIN_MS};

/// The keys of a port, as their files hold them now.
pub(crate) struct Keys {
    options: TlsOptions,
    current: Mutex<Current>,
    handshakes: Semaphore,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("options", &self.options).finish_non_exhaustive()
    }
}

struct Current {
    config: Arc<ServerConfig>,
    stamps: Vec<Stamp>,
    looked: Instant,
}

/// What shows that a file is another one: its time and size.
type Stamp = Option<(SystemTime, u64)>;

impl Keys {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// A file cannot be read, or does not hold what it should; the text says which, and why.
    pub(crate) fn load(options: TlsOptions) -> Result<Self, String> {
        let stamps = stamps(&options);
        let current = Current { config: build(&options)?, stamps, looked: Instant::now() };
        let handshakes = Semaphore::new(TLS_HANDSHAKES_MAX);
        Ok(Keys { options, current: Mutex::new(current), handshakes })
    }

    /// The keys for a handshake that begins now. Files that have changed are read again; as long as they make no sense,
    /// perhaps because they are just being written, the keys before go on.
    fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let due = current.looked.elapsed() >= Duration::from_millis(TLS_LOOK_AGAIN_MS);
        if self.options.reload && due {
            current.looked = Instant::now();
            let stamps = stamps(&self.options);
            if stamps != current.stamps {
                match build(&self.options) {
                    Ok(config) => {
                        tracing::info!("the certificates have changed and are read again");
                        (current.config, current.stamps) = (config, stamps);
                    }
                    Err(error) => tracing::warn!(error, "the certificates have changed and cannot be used"),
                }
            }
        }
        Arc::clone(&current.config)
    }

    /// Shakes hands with a client, within the bounds on time and number. Gives the session, and the subject of the
    /// client's certificate if it has proved one.
    ///
    /// # Errors
    /// The client is gone, too slow, one too many, or not to be trusted.
    ///
    /// # Cancel safety
    /// Dropped, it leaves a connection that is good for nothing.
    pub(super) async fn shake(&self, stream: &TcpStream) -> io::Result<(TlsSession, Option<String>)> {
        let _permit = self.handshakes.try_acquire().map_err(|_| io::Error::other("too many handshakes"))?;
        let within = Duration::from_millis(TLS_HANDSHAKE_MS);
        let mut tls = ServerConnection::new(self.config()).map_err(io::Error::other)?;
        timeout(within, shake_hands(&mut tls, stream)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let subject = match tls.peer_certificates().and_then(<[_]>::first) {
            None => None,
            Some(certificate) => {
                let subject = subject::of_certificate(certificate);
                Some(subject.ok_or_else(|| io::Error::other("the certificate's subject cannot be read"))?)
            }
        };
        Ok((TlsSession(Mutex::new(tls)), subject))
    }
}

async fn shake_hands(tls: &mut ServerConnection, stream: &TcpStream) -> io::Result<()> {
    loop {
        if tls.wants_write() {
            stream.writable().await?;
            done(tls.write_tls(&mut Socket(stream)))?;
        } else if tls.is_handshaking() {
            stream.readable().await?;
            if done(tls.read_tls(&mut Socket(stream)))? == Some(0) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Err(error) = tls.process_new_packets() {
                // The client is told why, if it still listens.
                let _ = tls.write_tls(&mut Socket(stream));
                return Err(io::Error::other(error));
            }
        } else {
            return Ok(());
        }
    }
}

/// A connection's TLS after the handshake.
pub(super) struct TlsSession(Mutex<ServerConnection>);

impl std::fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsSession")
    }
}

impl TlsSession {
    fn lock(&self) -> MutexGuard<'_, ServerConnection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads from the socket once, and adds all plain bytes that there are. `false` when the peer has closed.
    pub(super) fn read(&self, stream: &TcpStream, chunk: &mut [u8], out: &mut BytesMut) -> io::Result<bool> {
        let mut tls = self.lock();
        let mut open = true;
        match done(tls.read_tls(&mut Socket(stream)))? {
            Some(0) => open = false,
            Some(_) => {
                tls.process_new_packets().map_err(io::Error::other)?;
            }
            None => {}
        }
        loop {
            match tls.reader().read(chunk) {
                Ok(0) => return Ok(false),
                Ok(count) => out.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(open),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends the bytes, as far as the socket takes them, and removes what is no longer the caller's to send. `false`
    /// when something is left, here or there.
    pub(super) fn write(&self, stream: &TcpStream, bytes: &mut BytesMut) -> io::Result<bool> {
        let mut tls = self.lock();
        loop {
            while tls.wants_write() {
                match done(tls.write_tls(&mut Socket(stream)))? {
                    Some(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Some(_) => {}
                    None => return Ok(false),
                }
            }
            if bytes.is_empty() {
                return Ok(true);
            }
            let count = tls.writer().write(bytes)?;
            bytes.advance(count);
        }
    }

    /// Whether something waits here for the socket.
    pub(super) fn wants_write(&self) -> bool {
        self.lock().wants_write()
    }

    /// Says that nothing more will come, if the socket takes it.
    pub(super) fn farewell(&self, stream: &TcpStream) {
        let mut tls = self.lock();
        tls.send_close_notify();
        // A client that is gone need not be told.
        let _ = tls.write_tls(&mut Socket(stream));
    }
}

/// What there is to be done now: `None` if the socket is not ready.
fn done(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// A socket as the blocking world sees it; it never blocks.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(out)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn files(options: &TlsOptions) -> impl Iterator<Item = &PathBuf> {
    [&options.key_store].into_iter().chain(&options.trust_store)
}

fn stamps(options: &TlsOptions) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files(options).map(stamp).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    file.take(TLS_FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    match bytes.len() as u64 > TLS_FILE_BYTES_MAX {
        true => Err(format!("{} is larger than {TLS_FILE_BYTES_MAX} bytes", path.display())),
        false => Ok(bytes),
    }
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{} holds no certificate in PEM", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn build(options: &TlsOptions) -> Result<Arc<ServerConfig>, String> {
    let path = &options.key_store;
    let wrong = |error: rustls::Error| format!("{}: {error}", path.display());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let bytes = read(path)?;
    let chain = certificates(path, &bytes)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        format!("{} holds no private key in PEM that is not encrypted: {error}", path.display())
    })?;
    let key = provider.key_provider.load_private_key(key).map_err(wrong)?;
    let own = CertifiedKey::new(chain, key);
    // A certificate of version 1 is not looked into; it is the clients' to judge.
    if let Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) = own.keys_match() {
        return Err(format!("{}: the private key does not belong to the first certificate", path.display()));
    }
    let versions: Vec<&'static SupportedProtocolVersion> = match (options.tls12, options.tls13) {
        (true, true) => vec![&version::TLS13, &version::TLS12],
        (true, false) => vec![&version::TLS12],
        _ => vec![&version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(wrong)?;
    let builder = match (options.client_auth, &options.trust_store) {
        (ClientAuth::None, _) | (_, None) => builder.with_no_client_auth(),
        (asked, Some(path)) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path, &read(path)?)? {
                roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match asked {
                ClientAuth::Want => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            let verifier = verifier.build().map_err(|error| format!("{}: {error}", path.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    Ok(Arc::new(builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own)))))
}
