//! Who proves an identity otherwise than with `auth`: SASL's exchange of DIGEST-MD5, and the certificate of a connection.
//!
//! The exchange goes as with Apache's server. A first packet, whatever it holds, is answered with a challenge; a second one
//! that answers it adds the identity; anything else ends the connection with an error. One thing is stricter: a user who
//! is not in the login configuration is refused whatever the password.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use docent::proto::jute::put_buffer;
use docent::{ErrorCode, Xid, digest_md5};
use sha1::{Digest, Sha1};

use super::access::Identity;
use super::{ConnId, Effects, Node};
use crate::limits::IDENTITIES_PER_CONNECTION_MAX;

/// Who may log in, and as what.
#[derive(Clone, Default)]
pub struct Logins {
    /// SASL's users with their passwords; `None` where nobody can log in so.
    pub sasl_users: Option<BTreeMap<String, String>>,
    /// SASL's users whom no ACL stops (`superUser`).
    pub sasl_super_users: BTreeSet<String>,
    /// Whether a connection goes on, as nobody, when its proof by SASL is refused (`allowSaslFailedClients`).
    pub keep_refused: bool,
    /// What challenges are made of: chance that nobody else knows.
    pub nonce_key: [u8; 32],
    /// The subject of the certificate that no ACL stops (`X509AuthenticationProvider.superUser`).
    pub x509_super_user: Option<String>,
}

/// Without passwords and without what challenges are made of.
impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let users = self.sasl_users.as_ref().map(|users| users.keys().collect::<Vec<_>>());
        f.debug_struct("Logins")
            .field("sasl_users", &users)
            .field("sasl_super_users", &self.sasl_super_users)
            .field("x509_super_user", &self.x509_super_user)
            .finish_non_exhaustive()
    }
}

impl Logins {
    /// Never the same twice: connections are numbered, and each is challenged once.
    fn nonce(&self, conn: ConnId) -> String {
        let mut hash = Sha1::new();
        hash.update(self.nonce_key);
        hash.update(conn.0.to_be_bytes());
        BASE64.encode(hash.finalize())
    }

    /// What the subject of a verified certificate proves.
    pub(super) fn of_subject(&self, subject: String) -> Vec<Identity> {
        let is_super = self.x509_super_user.as_ref() == Some(&subject);
        let above_all = is_super.then(|| Identity { scheme: "super".into(), id: subject.clone() });
        let own = Identity { scheme: "x509".into(), id: subject };
        above_all.into_iter().chain([own]).collect()
    }

    fn of_user(&self, user: String) -> Vec<Identity> {
        let is_super = self.sasl_super_users.contains(&user);
        let above_all = is_super.then(|| Identity { scheme: "super".into(), id: String::new() });
        let own = Identity { scheme: "sasl".into(), id: user };
        above_all.into_iter().chain([own]).collect()
    }
}

/// How far a connection's exchange is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SaslPhase {
    /// It has not begun.
    #[default]
    Fresh,
    /// The challenge is sent.
    Challenged,
    /// It has ended, well or not. There is no other on this connection.
    Over,
}

impl Node {
    /// A packet of SASL's. It is answered straight away, ahead of requests that wait.
    pub(super) fn on_sasl(&mut self, id: ConnId, xid: Xid, token: Option<Bytes>, fx: &mut Effects) {
        let logins = &self.config.logins;
        let Some(users) = &logins.sasl_users else {
            // As a server without a SASL login: a null token.
            self.answer_out_of_line(id, xid, ErrorCode::OK, fx, |out| put_buffer(out, None));
            return;
        };
        let Some(token) = token else {
            // Apache's server fails over it, and closes without a word.
            self.close(id, fx);
            return;
        };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let nonce = logins.nonce(id);
        match std::mem::replace(&mut conn.sasl, SaslPhase::Over) {
            SaslPhase::Fresh => {
                conn.sasl = SaslPhase::Challenged;
                let challenge = digest_md5::challenge(&nonce);
                self.answer_out_of_line(id, xid, ErrorCode::OK, fx, |out| put_buffer(out, Some(&challenge)));
            }
            SaslPhase::Challenged => {
                let password_of = |user: &str| users.get(user).map(String::as_str);
                let proved = digest_md5::verify(&nonce, &token, password_of).ok();
                let room = conn.identities.len() + 2 <= IDENTITIES_PER_CONNECTION_MAX;
                let Some(proved) = proved.filter(|_| room) else {
                    self.refuse_sasl(id, xid, fx);
                    return;
                };
                tracing::info!(user = proved.user, address = %conn.address, "a client has logged in with SASL");
                conn.identities.extend(logins.of_user(proved.user));
                self.answer_out_of_line(id, xid, ErrorCode::OK, fx, |out| {
                    put_buffer(out, Some(&proved.token))
                });
            }
            SaslPhase::Over => self.refuse_sasl(id, xid, fx),
        }
    }

    fn refuse_sasl(&mut self, id: ConnId, xid: Xid, fx: &mut Effects) {
        self.metrics.auth_failed += 1;
        let schemes = self.config.enforced_schemes.as_ref();
        let required = schemes.is_some_and(|schemes| schemes.iter().any(|scheme| scheme == "sasl"));
        let error = match (required, self.config.logins.keep_refused) {
            (true, _) => ErrorCode::SESSION_CLOSED_REQUIRE_SASL_AUTH,
            (false, false) => ErrorCode::AUTH_FAILED,
            (false, true) => ErrorCode::OK,
        };
        tracing::warn!(kept = error == ErrorCode::OK, "a client's proof by SASL is refused");
        self.answer_out_of_line(id, xid, error, fx, |out| put_buffer(out, None));
        if error != ErrorCode::OK {
            self.close(id, fx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(scheme: &str, id: &str) -> Identity {
        Identity { scheme: scheme.into(), id: id.into() }
    }

    #[test]
    fn no_two_connections_and_no_two_servers_are_challenged_alike() {
        let one = Logins { nonce_key: [1; 32], ..Logins::default() };
        let other = Logins { nonce_key: [2; 32], ..Logins::default() };
        let nonces = [one.nonce(ConnId(1)), one.nonce(ConnId(2)), other.nonce(ConnId(1))];
        assert!(nonces[0] != nonces[1] && nonces[0] != nonces[2] && nonces[1] != nonces[2]);
    }

    #[test]
    fn only_super_users_are_above_all() {
        let logins = Logins {
            sasl_super_users: ["root".to_owned()].into(),
            x509_super_user: Some("CN=root".to_owned()),
            ..Logins::default()
        };
        assert_eq!(logins.of_user("bob".into()), [identity("sasl", "bob")]);
        assert_eq!(logins.of_user("root".into()), [identity("super", ""), identity("sasl", "root")]);
        assert_eq!(logins.of_subject("CN=bob".into()), [identity("x509", "CN=bob")]);
        assert_eq!(
            logins.of_subject("CN=root".into()),
            [identity("super", "CN=root"), identity("x509", "CN=root")]
        );
    }

    #[test]
    fn passwords_are_not_printed() {
        let users = BTreeMap::from([("bob".to_owned(), "secret".to_owned())]);
        let logins = Logins { sasl_users: Some(users), ..Logins::default() };
        let printed = format!("{logins:?}");
        assert!(printed.contains("bob") && !printed.contains("secret"), "{printed}");
    }
}
