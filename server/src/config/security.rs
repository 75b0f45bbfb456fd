//! Who clients are, and how they prove it: the keys of SASL and of certificates.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::error::{ConfigError, Reason};
use super::jaas::{self, Users};
use super::parse::Reader;
use super::properties::Properties;
use super::{Config, read_file};

/// The section of the login configuration that counts, where nothing else is said.
const SECTION: &str = "Server";

/// How clients prove who they are, beyond `auth`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// `java.security.auth.login.config`: the file with SASL's users.
    pub login_config: Option<PathBuf>,
    /// `sasl.serverconfig`: its section; `Server` where nothing is said.
    pub login_section: Option<String>,
    /// Whether an `authProvider.*` is Apache's for SASL: ACLs may name users.
    pub sasl: bool,
    /// Whether ACLs may name the subjects of certificates: an `authProvider.*` is Apache's for them, or there is a port
    /// with TLS.
    pub x509: bool,
    /// `superUser` and `superUser.*`: SASL's users whom no ACL stops.
    pub sasl_super_users: BTreeSet<String>,
    /// `X509AuthenticationProvider.superUser`: the subject whom no ACL stops.
    pub x509_super_user: Option<String>,
    /// `allowSaslFailedClients`: whether a connection goes on, as nobody, when its proof is refused.
    pub keep_refused: bool,
    /// The keys of TLS; there if a port asks for them.
    pub tls: Option<TlsOptions>,
    /// `client.portUnification`: whether the plain port takes clients with TLS, too.
    pub port_unification: bool,
}

/// The keys of TLS, and whom they trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// `ssl.keyStore.location`: a file in PEM with the private key and the chain of certificates.
    pub key_store: PathBuf,
    /// `ssl.trustStore.location`: a file in PEM with the certificates that vouch for clients.
    pub trust_store: Option<PathBuf>,
    /// `ssl.clientAuth`.
    pub client_auth: ClientAuth,
    /// Whether TLS 1.2 is spoken (`ssl.enabledProtocols`, `ssl.protocol`).
    pub tls12: bool,
    /// Whether TLS 1.3 is spoken.
    pub tls13: bool,
    /// `client.certReload`: whether changed files are read again.
    pub reload: bool,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nobody is asked.
    None,
    /// Everybody is asked, and who has none is served all the same.
    Want,
    /// Who has none is refused.
    Need,
}

impl Config {
    /// SASL's users, read from the login configuration; `None` where there is none, or where it has no section of that
    /// name and none was asked for.
    ///
    /// # Errors
    /// The file cannot be read or understood, or the section that was asked for is not there.
    pub fn sasl_users(&self) -> Result<Option<Users>, ConfigError> {
        let Some(path) = &self.security.login_config else { return Ok(None) };
        let asked = self.security.login_section.as_deref();
        let text = String::from_utf8_lossy(&read_file(path)?).into_owned();
        let refused = |source| ConfigError::LoginConfig { path: path.clone(), source };
        let users = jaas::users(&text, asked.unwrap_or(SECTION)).map_err(refused)?;
        if let (None, Some(section)) = (&users, asked) {
            return Err(ConfigError::NoLoginSection { path: path.clone(), section: section.to_owned() });
        }
        Ok(users)
    }
}

impl Reader<'_> {
    pub(super) fn security(&mut self) -> Result<Security, ConfigError> {
        let mut security = Security {
            login_config: self.path("java.security.auth.login.config")?,
            login_section: self.text("sasl.serverconfig")?.map(str::to_owned),
            x509_super_user: self.text("X509AuthenticationProvider.superUser")?.map(str::to_owned),
            keep_refused: self.flag("allowSaslFailedClients", false)?,
            ..Security::default()
        };
        for entry in self.entries() {
            let of = |family: &str| entry.key.strip_prefix(family).is_some_and(|rest| rest.starts_with('.'));
            if of("authProvider") {
                match entry.value.rsplit('.').next() {
                    Some("SASLAuthenticationProvider") => security.sasl = true,
                    Some("X509AuthenticationProvider") => security.x509 = true,
                    // These two are there anyway.
                    Some("DigestAuthenticationProvider" | "IPAuthenticationProvider") => {}
                    _ => {
                        let choose =
                            "Apache's providers for SASL, X509, Digest or IP: others are classes of Java's";
                        return Err(super::parse::invalid(entry, Reason::Choose(choose)));
                    }
                }
            } else if entry.key == "superUser" || of("superUser") {
                security.sasl_super_users.insert(entry.value.clone());
            }
        }
        let secure = self.raw("secureClientPort").is_some_and(|port| port != "0");
        security.port_unification = self.flag("client.portUnification", false)?;
        if secure || security.port_unification {
            security.tls = Some(self.tls()?);
            security.x509 = true;
        }
        Ok(security)
    }

    fn tls(&mut self) -> Result<TlsOptions, ConfigError> {
        let key_store = self.store("ssl.keyStore.location", "ssl.keyStore.type")?;
        let trust_store = self.store("ssl.trustStore.location", "ssl.trustStore.type")?;
        let client_auth = match self.raw("ssl.clientAuth").map(str::to_ascii_lowercase).as_deref() {
            None | Some("need") => ClientAuth::Need,
            Some("want") => ClientAuth::Want,
            Some("none") => ClientAuth::None,
            Some(_) => return Err(self.invalid("ssl.clientAuth", Reason::Choose("need, want or none"))),
        };
        if client_auth != ClientAuth::None && trust_store.is_none() {
            let why = "it says whose certificates are taken; ssl.clientAuth=none asks for none";
            return Err(ConfigError::Missing { key: "ssl.trustStore.location", why });
        }
        let key = ["ssl.enabledProtocols", "ssl.protocol"].into_iter().find(|key| self.raw(key).is_some());
        let (mut tls12, mut tls13) = (key.is_none(), key.is_none());
        if let Some(key) = key {
            for version in self.raw(key).unwrap_or_default().split(',').map(str::trim) {
                match version {
                    "TLSv1.2" => tls12 = true,
                    "TLSv1.3" => tls13 = true,
                    _ => return Err(self.invalid(key, Reason::Choose("TLSv1.2, TLSv1.3, or both"))),
                }
            }
        }
        let why = "TLS needs a private key and its certificates";
        let key_store = key_store.ok_or(ConfigError::Missing { key: "ssl.keyStore.location", why })?;
        let reload = self.flag("client.certReload", true)?;
        Ok(TlsOptions { key_store, trust_store, client_auth, tls12, tls13, reload })
    }

    /// A file with keys or certificates, which must be one that is read here.
    fn store(&mut self, key: &'static str, kind: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        let Some(path) = self.path(key)? else { return Ok(None) };
        let is_pem = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("pem"));
        let choose = Reason::Choose("PEM, with the file converted to it: Java's own stores are not read");
        match self.raw(kind) {
            Some(kind) if kind.eq_ignore_ascii_case("pem") => Ok(Some(path)),
            None if is_pem => Ok(Some(path)),
            Some(_) => Err(self.invalid(kind, choose)),
            None => Err(self.invalid(key, choose)),
        }
    }

    /// The schemes of which every connection needs one.
    pub(super) fn enforced_schemes(&self, security: &Security) -> Result<Option<Vec<String>>, ConfigError> {
        let list = self.raw("enforce.auth.schemes").unwrap_or_default().split(',').map(str::trim);
        let listed: Vec<String> = list.filter(|scheme| !scheme.is_empty()).map(str::to_owned).collect();
        let enforced = self.flag("enforce.auth.enabled", false)?;
        if enforced && listed.is_empty() {
            return Err(ConfigError::Missing {
                key: "enforce.auth.schemes",
                why: "enforce.auth.enabled=true needs at least one scheme",
            });
        }
        let mut schemes = if enforced { listed } else { Vec::new() };
        let sasl_only = self.flag("sessionRequireClientSASLAuth", false)?;
        if sasl_only && !schemes.iter().any(|scheme| scheme == "sasl") {
            schemes.push("sasl".to_owned());
        }
        let provided = |scheme: &str| match scheme {
            "digest" | "ip" => true,
            "sasl" => security.sasl,
            "x509" => security.x509,
            _ => false,
        };
        if !schemes.iter().all(|scheme| provided(scheme)) {
            // As Apache's server does for a scheme without a provider: nobody could ever be served.
            let key = if sasl_only && !security.sasl {
                "sessionRequireClientSASLAuth"
            } else {
                "enforce.auth.schemes"
            };
            let choose = "digest, ip, and sasl or x509 where an authProvider.* line names their provider";
            return Err(self.invalid(key, Reason::Choose(choose)));
        }
        Ok((!schemes.is_empty()).then_some(schemes))
    }
}

/// Writes the keys that say it.
pub(super) fn write(out: &mut Properties, security: &Security) {
    let providers = [
        (security.sasl, "sasl", "SASLAuthenticationProvider"),
        (security.x509, "x509", "X509AuthenticationProvider"),
    ];
    for (_, name, class) in providers.into_iter().filter(|(given, ..)| *given) {
        out.push(format!("authProvider.{name}"), format_args!("org.apache.zookeeper.server.auth.{class}"));
    }
    if let Some(file) = &security.login_config {
        out.push("java.security.auth.login.config", file.display());
    }
    if let Some(section) = &security.login_section {
        out.push("sasl.serverconfig", section);
    }
    for (number, user) in (1..).zip(&security.sasl_super_users) {
        out.push(format!("superUser.{number}"), user);
    }
    if let Some(subject) = &security.x509_super_user {
        out.push("X509AuthenticationProvider.superUser", subject);
    }
    out.push("allowSaslFailedClients", security.keep_refused);
    out.push("client.portUnification", security.port_unification);
    let Some(tls) = &security.tls else { return };
    out.push("ssl.keyStore.location", tls.key_store.display());
    out.push("ssl.keyStore.type", "PEM");
    if let Some(file) = &tls.trust_store {
        out.push("ssl.trustStore.location", file.display());
        out.push("ssl.trustStore.type", "PEM");
    }
    let client_auth = match tls.client_auth {
        ClientAuth::None => "none",
        ClientAuth::Want => "want",
        ClientAuth::Need => "need",
    };
    out.push("ssl.clientAuth", client_auth);
    let spoken = [(tls.tls12, "TLSv1.2"), (tls.tls13, "TLSv1.3")];
    let spoken: Vec<&str> = spoken.iter().filter(|(spoken, _)| *spoken).map(|(_, name)| *name).collect();
    out.push("ssl.enabledProtocols", spoken.join(","));
    out.push("client.certReload", tls.reload);
}
