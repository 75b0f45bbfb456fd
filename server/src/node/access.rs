//! Who a connection is, and what an ACL lets it do.
//!
//! Identities belong to the connection: a client proves them again after each reconnect. Every connection has its
//! address; `auth` adds others. An ACL is not inherited, and the order of its entries does not matter.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use docent::{Acl, ErrorCode, Permissions};
use sha1::{Digest, Sha1};
use sha2::{Sha256, Sha384, Sha512};

/// The schemes that ACLs may name beside those that are always there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schemes {
    /// `sasl`.
    pub sasl: bool,
    /// `x509`.
    pub x509: bool,
}

/// One proved identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The scheme that proved it.
    pub scheme: String,
    /// The identity within the scheme.
    pub id: String,
}

impl Identity {
    /// The identity that every connection has.
    #[must_use]
    pub fn of_address(address: IpAddr) -> Self {
        Identity { scheme: "ip".into(), id: address.to_canonical().to_string() }
    }

    /// The name without what must not be shown: the part of a digest before the colon.
    #[must_use]
    pub fn user(&self) -> &str {
        match &*self.scheme {
            "digest" => self.id.split(':').next().unwrap_or(&self.id),
            _ => &self.id,
        }
    }
}

/// What the digest scheme makes hashes with (`DigestAuthenticationProvider.digestAlg`). All servers of an ensemble, and all
/// ACLs that were made with it, need the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// The default.
    #[default]
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl DigestAlgorithm {
    /// The algorithm that Java knows by this name, if it is one of these.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "SHA1" | "SHA-1" | "SHA" => DigestAlgorithm::Sha1,
            "SHA-256" => DigestAlgorithm::Sha256,
            "SHA-384" => DigestAlgorithm::Sha384,
            "SHA-512" => DigestAlgorithm::Sha512,
            _ => return None,
        })
    }

    /// The name in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DigestAlgorithm::Sha1 => "SHA1",
            DigestAlgorithm::Sha256 => "SHA-256",
            DigestAlgorithm::Sha384 => "SHA-384",
            DigestAlgorithm::Sha512 => "SHA-512",
        }
    }

    /// The id that the credentials `user:password` have in ACLs: `user:` and the hash of the whole string.
    #[must_use]
    pub fn id_of(self, credentials: &[u8]) -> String {
        let user = credentials.split(|byte| *byte == b':').next().unwrap_or(credentials);
        let hash = match self {
            DigestAlgorithm::Sha1 => BASE64.encode(Sha1::digest(credentials)),
            DigestAlgorithm::Sha256 => BASE64.encode(Sha256::digest(credentials)),
            DigestAlgorithm::Sha384 => BASE64.encode(Sha384::digest(credentials)),
            DigestAlgorithm::Sha512 => BASE64.encode(Sha512::digest(credentials)),
        };
        format!("{}:{hash}", String::from_utf8_lossy(user))
    }
}

/// As [`DigestAlgorithm::id_of`], with the default algorithm.
#[must_use]
pub fn digest_id(credentials: &[u8]) -> String {
    DigestAlgorithm::default().id_of(credentials)
}

/// The identities that `auth` with these credentials adds; `None` when they are refused.
#[must_use]
pub fn authenticate(
    scheme: &str,
    credentials: Option<&[u8]>,
    address: IpAddr,
    super_digest: Option<&str>,
    algorithm: DigestAlgorithm,
) -> Option<Vec<Identity>> {
    match scheme {
        "digest" => {
            let id = algorithm.id_of(credentials?);
            let mut identities = Vec::new();
            if super_digest == Some(&*id) {
                identities.push(Identity { scheme: "super".into(), id: String::new() });
            }
            identities.push(Identity { scheme: "digest".into(), id });
            Some(identities)
        }
        "ip" => Some(vec![Identity::of_address(address)]),
        _ => None,
    }
}

/// Whether an ACL lets these identities do it. An empty ACL lets everybody.
#[must_use]
pub fn allows(acl: &[Acl], wanted: Permissions, identities: &[Identity]) -> bool {
    if acl.is_empty() || identities.iter().any(|identity| identity.scheme == "super") {
        return true;
    }
    acl.iter().filter(|entry| entry.permissions.intersects(wanted)).any(|entry| {
        (entry.scheme == "world" && entry.id == "anyone")
            || identities.iter().any(|identity| {
                identity.scheme == entry.scheme && matches_id(&entry.scheme, &identity.id, &entry.id)
            })
    })
}

fn matches_id(scheme: &str, have: &str, wanted: &str) -> bool {
    match scheme {
        "ip" => AddressRange::parse(wanted).is_some_and(|range| range.contains(have)),
        // As Apache's: this user is every user.
        "sasl" => have == wanted || have == "super",
        _ => have == wanted,
    }
}

/// `address` or `address/bits`.
struct AddressRange {
    network: IpAddr,
    bits: u32,
}

impl AddressRange {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let network: IpAddr = address.parse().ok()?;
        let width = if network.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= width)?,
            None => width,
        };
        Some(AddressRange { network, bits })
    }

    fn contains(&self, address: &str) -> bool {
        fn prefix(value: u128, width: u32, bits: u32) -> u128 {
            if bits == 0 { 0 } else { value >> (width - bits) }
        }
        match (address.parse(), self.network) {
            (Ok(IpAddr::V4(have)), IpAddr::V4(network)) => {
                prefix(have.to_bits().into(), 32, self.bits)
                    == prefix(network.to_bits().into(), 32, self.bits)
            }
            (Ok(IpAddr::V6(have)), IpAddr::V6(network)) => {
                prefix(have.to_bits(), 128, self.bits) == prefix(network.to_bits(), 128, self.bits)
            }
            _ => false,
        }
    }
}

/// The ACL that is stored for the one that was asked for: duplicates are dropped, and `auth` becomes one entry for
/// each identity of the connection that names a person.
///
/// # Errors
/// [`ErrorCode::INVALID_ACL`] for a missing or empty list, an unknown scheme, an id that the scheme does not have,
/// and `auth` from a connection that has proved nothing.
pub fn fix_up_acl(
    acl: Option<Vec<Acl>>,
    identities: &[Identity],
    schemes: Schemes,
) -> Result<Vec<Acl>, ErrorCode> {
    let mut fixed: Vec<Acl> = Vec::new();
    let mut add = |entry: Acl| {
        if !fixed.contains(&entry) {
            fixed.push(entry);
        }
    };
    for entry in acl.unwrap_or_default() {
        match &*entry.scheme {
            "auth" => {
                let persons = || {
                    identities
                        .iter()
                        .filter(|identity| matches!(&*identity.scheme, "digest" | "sasl" | "x509"))
                };
                if persons().next().is_none() {
                    return Err(ErrorCode::INVALID_ACL);
                }
                persons().for_each(|person| {
                    add(Acl::new(entry.permissions, person.scheme.clone(), person.id.clone()));
                });
            }
            scheme if is_valid_id(scheme, &entry.id, schemes) => add(entry),
            _ => return Err(ErrorCode::INVALID_ACL),
        }
    }
    if fixed.is_empty() { Err(ErrorCode::INVALID_ACL) } else { Ok(fixed) }
}

fn is_valid_id(scheme: &str, id: &str, schemes: Schemes) -> bool {
    match scheme {
        "world" => id == "anyone",
        // As Java splits: trailing empty parts do not count.
        "digest" => id.trim_end_matches(':').split(':').count() == 2,
        "ip" => AddressRange::parse(id).is_some(),
        "sasl" => schemes.sasl && is_principal(id),
        "x509" => schemes.x509 && is_subject(id),
        _ => false,
    }
}

/// A name as Kerberos has it, or any text without its mark: `user`, `user@REALM`, `user/host@REALM`.
fn is_principal(id: &str) -> bool {
    match id.split_once('@') {
        None => true,
        Some((name, realm)) => name.matches('/').count() <= 1 && !realm.contains(['@', '/']),
    }
}

/// The subject of a certificate as text, in the forms that Java reads. Some odd ones that it reads are refused.
fn is_subject(id: &str) -> bool {
    const KEYWORDS: [&str; 19] = [
        "CN",
        "C",
        "L",
        "S",
        "ST",
        "O",
        "OU",
        "T",
        "IP",
        "STREET",
        "DC",
        "DNQUALIFIER",
        "DNQ",
        "SURNAME",
        "GIVENNAME",
        "INITIALS",
        "GENERATION",
        "EMAILADDRESS",
        "UID",
    ];
    let is_number = |text: &str| {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        text.contains('.') && text.split('.').all(digits)
    };
    let is_keyword = |text: &str| {
        let text = text.trim().to_ascii_uppercase();
        KEYWORDS.contains(&text.as_str())
            || text == "SERIALNUMBER"
            || is_number(text.strip_prefix("OID.").unwrap_or(&text))
    };
    let (mut quoted, mut escaped) = (false, false);
    let split = id.split(|char| {
        let ends = matches!(char, ',' | ';' | '+') && !quoted && !escaped;
        quoted ^= char == '"' && !escaped;
        escaped = char == '\\' && !escaped;
        ends
    });
    let parts: Vec<&str> = split.collect();
    let whole = parts.iter().all(|part| part.split_once('=').is_some_and(|(keyword, _)| is_keyword(keyword)));
    (whole && !quoted && !escaped) || id.trim().is_empty()
}

/// The ACL as a client may see it: without ADMIN the hashes of digest entries are hidden.
#[must_use]
pub fn mask_acl(acl: &[Acl], identities: &[Identity]) -> Vec<Acl> {
    if allows(acl, Permissions::ADMIN, identities) {
        return acl.to_vec();
    }
    acl.iter()
        .map(|entry| match (&*entry.scheme, entry.id.split_once(':')) {
            ("digest", Some((user, _))) => Acl::new(entry.permissions, "digest", format!("{user}:x")),
            _ => entry.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Schemes = Schemes { sasl: false, x509: false };

    fn ip(text: &str) -> Identity {
        Identity { scheme: "ip".into(), id: text.into() }
    }

    #[test]
    fn the_digest_is_that_of_apache() {
        assert_eq!(digest_id(b"bob:pw"), "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=");
        let named = |name| DigestAlgorithm::from_name(name).map(|algorithm| algorithm.id_of(b"bob:pw"));
        assert_eq!(named("sha1").as_deref(), Some("bob:ikIaKsbtGweaHnb/jKn7OHqbunM="));
        assert_eq!(named("SHA-256").as_deref(), Some("bob:lXdkgIa9O1CDDWAryQ0pe9wUYi2LkG6M7Uocn/Vyn2g="));
        assert_eq!(named("SHA-512").map(|id| id.len()), Some(4 + 88));
        assert_eq!(named("MD5"), None);
    }

    #[test]
    fn address_ranges_match_their_addresses() {
        for (range, address, matches) in [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("fe80::/10", "fe80::1", true),
            ("fe80::/10", "10.1.2.3", false),
            ("2001:db8::/32", "2001:db8:0:1::7", true),
            ("2001:db8::/32", "2001:db9::7", false),
            ("2001:db8::7", "2001:0db8:0:0:0:0:0:7", true),
            ("::/0", "fe80::1", true),
            ("::1", "127.0.0.1", false),
        ] {
            let acl = [Acl::new(Permissions::READ, "ip", range)];
            assert_eq!(allows(&acl, Permissions::READ, &[ip(address)]), matches, "{range} {address}");
            assert!(!allows(&acl, Permissions::WRITE, &[ip(address)]), "{range} {address}");
        }
    }

    #[test]
    fn acls_are_fixed_up_as_apache_does() {
        let bob = Identity { scheme: "digest".into(), id: digest_id(b"bob:pw") };
        let all = |scheme: &str, id: &str| Acl::new(Permissions::ALL, scheme, id);
        let persons = [ip("127.0.0.1"), bob.clone()];
        assert_eq!(
            fix_up_acl(Some(vec![all("auth", "x")]), &persons, NONE),
            Ok(vec![all("digest", &bob.id)])
        );
        assert_eq!(
            fix_up_acl(Some(vec![all("world", "anyone"), all("world", "anyone")]), &[], NONE),
            Ok(vec![all("world", "anyone")])
        );
        for bad in [
            None,
            Some(vec![]),
            Some(vec![all("auth", "")]),
            Some(vec![all("world", "everybody")]),
            Some(vec![all("nosuch", "x")]),
            Some(vec![all("digest", "nohash")]),
            Some(vec![all("digest", "a:b:c")]),
            Some(vec![all("ip", "1.2.3.4/33")]),
            Some(vec![all("sasl", "bob")]),
            Some(vec![all("x509", "CN=bob")]),
        ] {
            assert_eq!(
                fix_up_acl(bad.clone(), &[ip("1.2.3.4")], NONE),
                Err(ErrorCode::INVALID_ACL),
                "{bad:?}"
            );
        }
    }

    /// As Apache 3.8.0 judges them.
    #[test]
    fn users_and_subjects_are_valid_where_their_schemes_are() {
        let both = Schemes { sasl: true, x509: true };
        for good in ["bob", "a/b", "a@b", "a/b@c", "", "@", "a b"] {
            assert!(is_valid_id("sasl", good, both), "{good}");
        }
        for bad in ["a/b/c@d", "a@b@c"] {
            assert!(!is_valid_id("sasl", bad, both), "{bad}");
        }
        for good in [
            "CN=a",
            "CN=a,O=b",
            "cn=a, o=b",
            "",
            "CN=",
            "CN=a+O=b",
            "OID.1.2=x",
            "EMAILADDRESS=a",
            "CN=a;O=b",
            "CN=\"a,b\"",
            "CN=a\\,b",
        ] {
            assert!(is_valid_id("x509", good, both), "{good}");
        }
        for bad in ["garbage", "XX=1", "CN=a,,O=b", "CN=a,b", "CN=\"a", "1=x"] {
            assert!(!is_valid_id("x509", bad, both), "{bad}");
        }
    }

    #[test]
    fn the_user_super_is_every_user_of_sasl() {
        let acl = [Acl::new(Permissions::READ, "sasl", "bob")];
        let user = |id: &str| [Identity { scheme: "sasl".into(), id: id.into() }];
        assert!(
            allows(&acl, Permissions::READ, &user("bob")) && allows(&acl, Permissions::READ, &user("super"))
        );
        assert!(!allows(&acl, Permissions::READ, &user("eve")));
        assert!(!allows(&acl, Permissions::WRITE, &user("super")));
    }

    #[test]
    fn the_super_user_may_do_everything() {
        let credentials = Some(&b"super:admin"[..]);
        let digest = digest_id(b"super:admin");
        let identities =
            authenticate("digest", credentials, [127, 0, 0, 1].into(), Some(&digest), DigestAlgorithm::Sha1)
                .expect("credentials");
        assert!(allows(&[Acl::new(Permissions::READ, "digest", "a:b")], Permissions::ADMIN, &identities));
        let other = authenticate("digest", credentials, [127, 0, 0, 1].into(), None, DigestAlgorithm::Sha1)
            .expect("credentials");
        assert!(!allows(&[Acl::new(Permissions::READ, "digest", "a:b")], Permissions::READ, &other));
    }
}
