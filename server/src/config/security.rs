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
        Ok(security)
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
}
