//! The client port with TLS: who is let in and as whom, on ours and with our client on Apache's, and what becomes of those
//! who are not what they should be.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use docent::{Acl, Client, Error, ErrorCode, Permissions, Retry, Tls};
use docent_integration_tests::availability::{Need, Suite, debian_jar};
use docent_integration_tests::backend::{Backend, Options, Running};
use docent_integration_tests::certificates::Authority;
use docent_integration_tests::peers::Program;
use docent_integration_tests::recipe_kit::{eventually, soon};
use docent_integration_tests::server_process::free_ports;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CLIENT: &str = "/O=Docent, Inc./CN=client #1";
/// As Java prints it.
const CLIENT_ID: &str = "CN=client \\#1,O=Docent\\, Inc.";
const JVM_BOUND: Duration = Duration::from_secs(60);

/// A server with a second port for TLS, and what its clients need.
struct Secured {
    server: Running,
    hosts: String,
    authority: Authority,
    client: PathBuf,
    folder: TempDir,
}

impl Secured {
    async fn start(backend: Backend, further: &[&str]) -> Result<Secured> {
        let folder = TempDir::new()?;
        let authority = Authority::new(folder.path(), "authority")?;
        let own = authority.vouch("server", "/CN=server")?;
        let client = authority.vouch("client", CLIENT)?;
        let port = free_ports(1)?;
        let lines = [
            format!("secureClientPort={port}"),
            format!("ssl.keyStore.location={}", own.display()),
            format!("ssl.trustStore.location={}", authority.certificate().display()),
            "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory".to_owned(),
        ];
        let config: Vec<&str> = lines.iter().map(String::as_str).chain(further.iter().copied()).collect();
        let server = backend.start_with(Options { config: &config, ..Options::default() }).await?;
        Ok(Secured { server, hosts: format!("127.0.0.1:{port}"), authority, client, folder })
    }

    fn trusted(&self) -> Result<Vec<u8>> {
        Ok(std::fs::read(self.authority.certificate())?)
    }

    /// What a client shows and whom it trusts.
    fn tls(&self, own: &Path) -> Result<Tls> {
        let own = std::fs::read(own)?;
        Ok(Tls::with_certificate(&self.trusted()?, &own, &own)?)
    }

    async fn connect(&self) -> Result<Client> {
        Ok(Client::builder(&self.hosts).tls(self.tls(&self.client)?).connect().await?)
    }

    fn address(&self) -> Result<SocketAddr> {
        Ok(self.hosts.parse()?)
    }
}

/// Ends with an error if somebody is let in.
async fn is_kept_out(hosts: &str, tls: Tls) -> Result<()> {
    let once = Retry::none();
    let client = soon("no session", Client::builder(hosts).tls(tls).retry(once).connect()).await?;
    ensure!(matches!(client, Err(Error::ConnectFailed { .. })), "let in, or {:?}", client.err());
    Ok(())
}

async fn certificates_prove_who_clients_are(backend: Backend) -> Result<()> {
    let secured = Secured::start(backend, &[]).await?;
    let known = secured.connect().await?;
    let own = vec![Acl::new(Permissions::ALL, "x509", CLIENT_ID)];
    known.create("/own", "mine").acl(own.clone()).send().await?;
    known.create("/auth", "").acl(vec![Acl::new(Permissions::ALL, "auth", "")]).send().await?;
    ensure!(known.get_acl("/auth").await?.0 == own, "auth stands for the certificate's subject");
    let large = vec![7_u8; 900_000];
    known.create("/large", large.clone()).send().await?;
    let reads = (0..20).map(|_| known.get_data("/large"));
    for read in futures::future::join_all(reads).await {
        ensure!(read?.data.as_deref() == Some(&large[..]), "many large answers on their way at once");
    }
    let plain = Client::connect(secured.server.connect_string()).await?;
    let denied = plain.get_data("/own").await.err().context("read by nobody")?;
    ensure!(denied.code() == Some(ErrorCode::NO_AUTH), "{denied:?}");

    is_kept_out(&secured.hosts, Tls::trusting(&secured.trusted()?)?).await?;
    let others = Authority::new(secured.folder.path(), "others")?;
    is_kept_out(&secured.hosts, secured.tls(&others.vouch("stranger", CLIENT)?)?).await?;
    let trusts_others = Tls::trusting(&std::fs::read(others.certificate())?)?;
    is_kept_out(&secured.hosts, trusts_others).await?;
    ensure!(known.get_data("/own").await?.data.as_deref() == Some(&b"mine"[..]));
    Ok(())
}

/// A certificate is for the hosts that it names, whoever vouches for it.
async fn servers_must_be_who_they_were_taken_for() -> Result<()> {
    let secured = Secured::start(Backend::DocentBinary, &["ssl.clientAuth=none"]).await?;
    let trusting = || anyhow::Ok(Tls::trusting(&secured.trusted()?)?);
    Client::builder(&secured.hosts).tls(trusting()?).connect().await?.close().await?;
    let by_name = secured.hosts.replace("127.0.0.1", "localhost");
    Client::builder(by_name).tls(trusting()?).connect().await?.close().await?;
    secured.authority.vouch_for("server", "/CN=127.0.0.1", "DNS:elsewhere.example")?;
    // The server takes the new files with the first handshake that finds them.
    eventually("the new certificate is shown and refused", async || {
        let client = Client::builder(&secured.hosts).tls(trusting()?).retry(Retry::none()).connect().await;
        Ok(matches!(client, Err(Error::ConnectFailed { .. })))
    })
    .await?;
    secured.authority.vouch("server", "/CN=again")?;
    eventually("a certificate for this host is shown", async || {
        Ok(Client::builder(&secured.hosts).tls(trusting()?).retry(Retry::none()).connect().await.is_ok())
    })
    .await
}

/// The super user, and a port that takes both kinds.
async fn further_keys_are_honoured() -> Result<()> {
    let above_all = format!("X509AuthenticationProvider.superUser={}", CLIENT_ID.replace('\\', "\\\\"));
    let further = [above_all.as_str(), "client.portUnification=true", "ssl.clientAuth=want"];
    let secured = Secured::start(Backend::DocentBinary, &further).await?;
    let nobody = Client::connect(secured.server.connect_string()).await?;
    let closed = vec![Acl::new(Permissions::ALL, "x509", "CN=nobody")];
    nobody.create("/closed", "").acl(closed).send().await?;
    ensure!(nobody.get_data("/closed").await.is_err());
    secured.connect().await?.get_data("/closed").await?;
    let on_plain = Client::builder(secured.server.connect_string()).tls(secured.tls(&secured.client)?);
    on_plain.connect().await?.get_data("/closed").await?;
    let without = Client::builder(&secured.hosts).tls(Tls::trusting(&secured.trusted()?)?).connect().await?;
    ensure!(without.get_data("/closed").await.is_err());
    Ok(())
}

/// What is no TLS, or not all of it, is cut off in bounded time, and nobody else waits for it.
async fn bad_handshakes_hold_nobody_up() -> Result<()> {
    let secured = Secured::start(Backend::DocentBinary, &[]).await?;
    let mut slow = Vec::new();
    for begin in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01"] {
        for _ in 0..10 {
            let mut stream = TcpStream::connect(secured.address()?).await?;
            stream.write_all(begin).await?;
            slow.push(stream);
        }
    }
    let known = secured.connect().await?;
    for plain in [&b"ruok"[..], b"\0\0\0\x2d\0\0\0\0\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(secured.address()?).await?;
        stream.write_all(plain).await?;
        let mut said = Vec::new();
        let _reset_counts_too = soon("the end of a plain connection", stream.read_to_end(&mut said)).await?;
        ensure!(said.is_empty() || said[0] == 0x15, "only an alert: {said:?}");
    }
    let mut cut = TcpStream::connect(secured.address()?).await?;
    cut.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01").await?;
    drop(cut);
    for mut stream in slow {
        let mut said = Vec::new();
        let _reset_counts_too = soon("the end of a slow handshake", stream.read_to_end(&mut said)).await?;
    }
    known.exists("/").await?;
    secured.connect().await?.exists("/").await?;
    Ok(())
}

/// Java's shell, with stores in PEM.
async fn java_speaks_tls() -> Result<()> {
    let secured = Secured::start(Backend::DocentBinary, &[]).await?;
    let jars = ["zookeeper", "slf4j-simple", "netty-handler", "netty-codec", "netty-resolver"];
    let path = jars.map(|jar| debian_jar(jar).display().to_string()).join(":");
    let output = Program::new("Java's shell", "java")
        .args(["-cp", path.as_str(), "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"])
        .args(["-Dzookeeper.client.secure=true"])
        .args(["-Dzookeeper.clientCnxnSocket=org.apache.zookeeper.ClientCnxnSocketNetty"])
        .args([format!("-Dzookeeper.ssl.keyStore.location={}", secured.client.display())])
        .args([format!("-Dzookeeper.ssl.trustStore.location={}", secured.authority.certificate().display())])
        .args(["org.apache.zookeeper.ZooKeeperMain", "-server", &secured.hosts])
        .input("create /javas x\nget /javas\nwhoami\nquit\n")
        .run(JVM_BOUND)
        .await?;
    let said = |line: &str| output.stdout.lines().any(|said| said == line);
    let id = format!("x509: {CLIENT_ID}");
    ensure!(said("x") && said(&id), "{}\n{}", output.stdout, output.stderr);
    Ok(())
}

macro_rules! on {
    ($name:ident, $needs:expr, $run:expr) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            let needs: Vec<Need> = $needs.iter().copied().chain([Need::OpenSsl]).collect();
            let Some(_suite) = Suite::begin(concat!("tls::", stringify!($name)), &needs) else {
                return Ok(());
            };
            $run.await
        }
    };
}

on!(
    certificates_on_docent,
    Backend::DocentBinary.needs(),
    certificates_prove_who_clients_are(Backend::DocentBinary)
);
on!(
    certificates_on_apache_3_8,
    Backend::Apache38.needs(),
    certificates_prove_who_clients_are(Backend::Apache38)
);
on!(names, Backend::DocentBinary.needs(), servers_must_be_who_they_were_taken_for());
on!(super_user_and_one_port_for_both, Backend::DocentBinary.needs(), further_keys_are_honoured());
on!(bad_handshakes, Backend::DocentBinary.needs(), bad_handshakes_hold_nobody_up());
on!(java, Backend::Apache38.needs(), java_speaks_tls());
