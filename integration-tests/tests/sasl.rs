//! Logging in with SASL: our client, kazoo's rules and Java's shell, on ours as on Apache's servers.

use anyhow::{Context as _, Result, ensure};
use docent::{Acl, Client, Error, ErrorCode, Permissions};
use docent_integration_tests::availability::{Need, Suite, debian_jar};
use docent_integration_tests::backend::{Backend, Options, Running};
use docent_integration_tests::peers::Program;
use docent_integration_tests::recipe_kit::soon;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

const PROVIDER: &str = "authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider";
const JVM_BOUND: Duration = Duration::from_secs(60);

/// A server of this make with two users: both servers read the same file, each told so in its own way.
async fn server(backend: Backend, folder: &Path, further: &[&str]) -> Result<Running> {
    let file = folder.join("jaas.conf");
    let users =
        "user_super=\"super_secret\" user_alice=\"wonder\"land\" user_bob=\"pw\"".replace("r\"l", "r\\\"l");
    let module = "org.apache.zookeeper.server.auth.DigestLoginModule required";
    std::fs::write(&file, format!("Server {{ {module} {users}; }};\n"))?;
    let login = format!("java.security.auth.login.config={}", file.display());
    let flag = format!("-D{login}");
    let mut config = vec![PROVIDER, login.as_str()];
    config.extend(further);
    backend.start_with(Options { config: &config, jvm: &[&flag], ..Options::default() }).await
}

/// Ends with an error if it is not refused.
async fn is_refused(hosts: &str, user: &str, password: &str) -> Result<()> {
    let client = soon("a refusal", Client::builder(hosts).sasl(user, password).connect()).await?;
    ensure!(matches!(client, Err(Error::AuthFailed)), "{user} with {password}: {:?}", client.err());
    Ok(())
}

async fn users_log_in(backend: Backend) -> Result<()> {
    let folder = TempDir::new()?;
    let server = server(backend, folder.path(), &["superUser=super"]).await?;
    let hosts = server.connect_string();
    let alice = Client::builder(&hosts).sasl("alice", "wonder\"land").connect().await?;
    let own = Acl::new(Permissions::ALL, "sasl", "alice");
    alice.create("/alices", "hers").acl(vec![own.clone()]).send().await?;
    alice.create("/mine", "").acl(vec![Acl::new(Permissions::ALL, "auth", "")]).send().await?;
    ensure!(alice.get_acl("/mine").await?.0 == [own], "auth stands for the user");
    ensure!(alice.get_data("/alices").await?.data.as_deref() == Some(b"hers".as_slice()));
    let bob = Client::builder(&hosts).sasl("bob", "pw").connect().await?;
    let nobody = Client::connect(&hosts).await?;
    for other in [&bob, &nobody] {
        let denied = other.get_data("/alices").await;
        ensure!(denied.as_ref().is_err_and(|error| error.code() == Some(ErrorCode::NO_AUTH)), "{denied:?}");
    }
    let above_all = Client::builder(&hosts).sasl("super", "super_secret").connect().await?;
    above_all.get_data("/alices").await?;

    is_refused(&hosts, "bob", "wrong").await?;
    is_refused(&hosts, "bob", "").await?;
    ensure!(
        alice.get_data("/alices").await?.data.as_deref() == Some(b"hers".as_slice()),
        "others are not touched by a refusal"
    );
    for client in [alice, bob, nobody, above_all] {
        client.close().await?;
    }
    Ok(())
}

async fn only_users_are_served(backend: Backend) -> Result<()> {
    let folder = TempDir::new()?;
    let server = server(backend, folder.path(), &["sessionRequireClientSASLAuth=true"]).await?;
    let hosts = server.connect_string();
    is_refused(&hosts, "bob", "wrong").await?;
    let stranger = Client::connect(&hosts).await?;
    let denied = soon("an answer to a stranger", stranger.exists("/")).await?;
    let code = denied.as_ref().err().and_then(Error::code);
    ensure!(
        matches!(code, Some(ErrorCode::SESSION_CLOSED_REQUIRE_SASL_AUTH))
            || matches!(denied, Err(Error::ConnectionLoss { .. })),
        "{denied:?}"
    );
    let bob = Client::builder(&hosts).sasl("bob", "pw").connect().await?;
    bob.exists("/").await?;
    bob.close().await?;
    Ok(())
}

/// Apache's server takes the password of whoever came before for a name that it does not know, so this is not asked of it.
async fn strangers_are_refused() -> Result<()> {
    let folder = TempDir::new()?;
    let server = server(Backend::DocentBinary, folder.path(), &[]).await?;
    let hosts = server.connect_string();
    Client::builder(&hosts).sasl("bob", "pw").connect().await?.close().await?;
    is_refused(&hosts, "eve", "pw").await
}

/// Java's shell with a login configuration of its own.
async fn java_logs_in() -> Result<()> {
    let folder = TempDir::new()?;
    let server = server(Backend::DocentBinary, folder.path(), &[]).await?;
    for (password, works) in [("pw", true), ("wrong", false)] {
        let login = folder.path().join(format!("{password}.conf"));
        let module = "org.apache.zookeeper.server.auth.DigestLoginModule required";
        std::fs::write(
            &login,
            format!("Client {{ {module} username=\"bob\" password=\"{password}\"; }};\n"),
        )?;
        let path = format!("{}:{}", debian_jar("zookeeper").display(), debian_jar("slf4j-simple").display());
        let output = Program::new("Java's shell", "java")
            .args(["-cp", path.as_str(), "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"])
            .args([format!("-Djava.security.auth.login.config={}", login.display())])
            .args(["org.apache.zookeeper.ZooKeeperMain", "-server", &server.connect_string()])
            .input("create /javas x sasl:bob:cdrwa\nget /javas\nquit\n")
            .run(JVM_BOUND)
            .await?;
        let read = output.stdout.lines().any(|line| line == "x");
        ensure!(read == works, "{password}: {}\n{}", output.stdout, output.stderr);
    }
    let stranger = Client::connect(server.connect_string()).await?;
    let denied = stranger.get_data("/javas").await.err().context("bob's node is read by a stranger")?;
    ensure!(denied.code() == Some(ErrorCode::NO_AUTH), "{denied:?}");
    Ok(())
}

macro_rules! on {
    ($name:ident, $needs:expr, $run:expr) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            let Some(_suite) = Suite::begin(concat!("sasl::", stringify!($name)), $needs) else {
                return Ok(());
            };
            $run.await
        }
    };
}

on!(users_of_docent, &[], users_log_in(Backend::DocentBinary));
on!(users_of_apache_3_8, &Backend::Apache38.needs(), users_log_in(Backend::Apache38));
on!(users_of_apache_newer, &Backend::ApacheNewer.needs(), users_log_in(Backend::ApacheNewer));
on!(users_only_of_docent, &[], only_users_are_served(Backend::DocentBinary));
on!(users_only_of_apache_3_8, &Backend::Apache38.needs(), only_users_are_served(Backend::Apache38));
on!(strangers, &[], strangers_are_refused());
on!(java, &[Need::Jdk, Need::Apache38], java_logs_in());
