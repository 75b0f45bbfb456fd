//! PURE: SASL's mechanism DIGEST-MD5 (RFC 2831), as far as ZooKeeper uses it.
//!
//! The server names a nonce; the client answers with a hash over it and its password; the server, which knows the
//! password too, answers with another hash. So each side has proved the password to the other, and it has not crossed
//! the wire. What the hash protects is weak by today's measure: whoever listens can try passwords at leisure, so the
//! exchange belongs on a connection with TLS.
//!
//! Left out: integrity and confidentiality of what follows (`auth-int`, `auth-conf`), which ZooKeeper never asks for, and
//! taking an exchange up again.

use md5::{Digest, Md5};

/// The realm that ZooKeeper's servers name.
pub const REALM: &str = "zk-sasl-md5";

/// What the password is for: protocol and server, as ZooKeeper's clients name them.
const DIGEST_URI: &str = "zookeeper/zk-sasl-md5";

/// Bytes of the largest token that is read.
pub const TOKEN_BYTES_MAX: usize = 4_096;

/// Directives of one token; the standard knows about a dozen.
const DIRECTIVES_MAX: usize = 32;

/// The token proves nothing. It does not say what is wrong with it: the difference between a wrong name and a wrong
/// password is nothing that a stranger should learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the credentials are refused")]
pub struct Refused;

/// A client that has proved its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// Who it is.
    pub user: String,
    /// What the server answers: its own proof.
    pub token: Vec<u8>,
}

/// A client's answer to a challenge.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// What is sent to the server.
    pub token: Vec<u8>,
    /// What a server that knows the password answers.
    expected: Vec<u8>,
}

/// Without what others could compare with.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

impl Answer {
    /// Whether the server's last token proves that it knows the password.
    ///
    /// # Errors
    /// It does not.
    pub fn confirm(&self, token: &[u8]) -> Result<(), Refused> {
        if equal(&self.expected, token) { Ok(()) } else { Err(Refused) }
    }
}

/// The server's first token. A nonce is used once, and nobody can guess it; it has no quotes and no backslashes.
#[must_use]
pub fn challenge(nonce: &str) -> Vec<u8> {
    format!("realm=\"{REALM}\",nonce=\"{nonce}\",charset=utf-8,algorithm=md5-sess").into_bytes()
}

/// The server's judgement of a client's answer to the challenge with this nonce.
///
/// # Errors
/// The user is unknown, the password is another, or the token is no answer to this challenge.
pub fn verify<'a>(
    nonce: &str,
    token: &[u8],
    password_of: impl FnOnce(&str) -> Option<&'a str>,
) -> Result<Proved, Refused> {
    let fields = Fields::parse(token)?;
    let utf8 = fields.is_utf8()?;
    let user = text(fields.get("username").ok_or(Refused)?, utf8)?;
    let authzid = fields.get("authzid").filter(|id| !id.is_empty()).map(|id| text(id, true)).transpose()?;
    let right = fields.get("nonce") == Some(nonce.as_bytes())
        && fields.get("realm") == Some(REALM.as_bytes())
        && fields.get("digest-uri").is_some_and(|uri| uri.eq_ignore_ascii_case(DIGEST_URI.as_bytes()))
        && fields.get("qop").is_none_or(|qop| qop == b"auth")
        // Nobody acts for another.
        && authzid.as_ref().is_none_or(|authzid| *authzid == user);
    let password = password_of(&user).filter(|_| right).ok_or(Refused)?;
    let terms = Terms {
        user: &user,
        realm: REALM,
        password,
        nonce: nonce.as_bytes(),
        cnonce: fields.get("cnonce").ok_or(Refused)?,
        count: fields.get("nc").ok_or(Refused)?,
        uri: fields.get("digest-uri").ok_or(Refused)?,
        authzid: authzid.as_deref(),
    };
    if !equal(terms.hash("AUTHENTICATE").as_bytes(), fields.get("response").ok_or(Refused)?) {
        return Err(Refused);
    }
    Ok(Proved { token: format!("rspauth={}", terms.hash("")).into_bytes(), user })
}

/// The client's answer to a challenge. Like the nonce, `cnonce` is used once, and has no quotes and no backslashes.
///
/// # Errors
/// The challenge is none, or asks for what this client cannot do.
pub fn answer(challenge: &[u8], user: &str, password: &str, cnonce: &str) -> Result<Answer, Refused> {
    const COUNT: &str = "00000001";
    let fields = Fields::parse(challenge)?;
    let nonce = fields.get("nonce").ok_or(Refused)?;
    let offers = |qop: &[u8]| qop.split(|byte| *byte == b',').any(|one| one.trim_ascii() == b"auth");
    if fields.get("algorithm") != Some(b"md5-sess") || !fields.get("qop").is_none_or(offers) {
        return Err(Refused);
    }
    let utf8 = fields.is_utf8()?;
    let realm = text(fields.get("realm").unwrap_or_default(), utf8)?;
    let terms = Terms {
        user,
        realm: &realm,
        password,
        nonce,
        cnonce: cnonce.as_bytes(),
        count: COUNT.as_bytes(),
        uri: DIGEST_URI.as_bytes(),
        authzid: None,
    };
    let mut token = Vec::new();
    if utf8 {
        token.extend_from_slice(b"charset=utf-8,");
    }
    let encoded = |text: &str| match (utf8, latin_1(text)) {
        (true, _) => Ok(text.as_bytes().to_vec()),
        (false, Some(bytes)) => Ok(bytes),
        (false, None) => Err(Refused),
    };
    put(&mut token, "username", &encoded(user)?);
    put(&mut token, "realm", &encoded(&realm)?);
    put(&mut token, "nonce", nonce);
    put(&mut token, "cnonce", cnonce.as_bytes());
    put(&mut token, "digest-uri", DIGEST_URI.as_bytes());
    token
        .extend_from_slice(format!("nc={COUNT},qop=auth,response={}", terms.hash("AUTHENTICATE")).as_bytes());
    Ok(Answer { token, expected: format!("rspauth={}", terms.hash("")).into_bytes() })
}

/// A directive with a quoted value, and the comma behind it.
fn put(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.extend_from_slice(b"\",");
}

/// What both sides hash.
struct Terms<'a> {
    user: &'a str,
    realm: &'a str,
    password: &'a str,
    nonce: &'a [u8],
    cnonce: &'a [u8],
    count: &'a [u8],
    uri: &'a [u8],
    authzid: Option<&'a str>,
}

impl Terms<'_> {
    /// The client's hash with `AUTHENTICATE`, the server's with nothing.
    fn hash(&self, method: &str) -> String {
        // What fits into Latin-1 is hashed so, whatever it was sent as.
        let hashed = |text: &str| latin_1(text).unwrap_or_else(|| text.as_bytes().to_vec());
        let secret = digest(&[&hashed(self.user), &hashed(self.realm), &hashed(self.password)]);
        let session = match self.authzid {
            None => digest(&[&secret, self.nonce, self.cnonce]),
            Some(authzid) => digest(&[&secret, self.nonce, self.cnonce, authzid.as_bytes()]),
        };
        let purpose = digest(&[method.as_bytes(), self.uri]);
        let (session, purpose) = (hex(&session), hex(&purpose));
        let parts = [session.as_bytes(), self.nonce, self.count, self.cnonce, b"auth", purpose.as_bytes()];
        hex(&digest(&parts))
    }
}

/// The hash of the parts with colons between.
fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Md5::new();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            hash.update(b":");
        }
        hash.update(part);
    }
    hash.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn latin_1(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|char| u8::try_from(u32::from(char)).ok()).collect()
}

fn text(bytes: &[u8], utf8: bool) -> Result<String, Refused> {
    if utf8 {
        return String::from_utf8(bytes.to_vec()).map_err(|_| Refused);
    }
    Ok(bytes.iter().map(|byte| char::from(*byte)).collect())
}

/// Compares in a time that tells nothing of where the two differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// The directives of a token.
struct Fields(Vec<(Vec<u8>, Vec<u8>)>);

impl Fields {
    /// Takes `name=value,name="value"` apart. Each name stands there once.
    fn parse(token: &[u8]) -> Result<Self, Refused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refused);
        }
        let mut fields = Fields(Vec::new());
        let mut rest = token;
        while !rest.trim_ascii_start().is_empty() {
            let end = rest.iter().position(|byte| *byte == b'=').ok_or(Refused)?;
            let name = rest[..end].trim_ascii().to_ascii_lowercase();
            let (value, after) = value(rest[end + 1..].trim_ascii_start())?;
            if name.is_empty()
                || fields.0.len() == DIRECTIVES_MAX
                || fields.0.iter().any(|(had, _)| *had == name)
            {
                return Err(Refused);
            }
            fields.0.push((name, value));
            rest = match after.trim_ascii_start() {
                [b',', next @ ..] => next,
                [] => &[],
                _ => return Err(Refused),
            };
        }
        Ok(fields)
    }

    fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(had, _)| had == name.as_bytes()).map(|(_, value)| value.as_slice())
    }

    fn is_utf8(&self) -> Result<bool, Refused> {
        match self.get("charset") {
            None => Ok(false),
            Some(charset) if charset.eq_ignore_ascii_case(b"utf-8") => Ok(true),
            Some(_) => Err(Refused),
        }
    }
}

/// A value, and what is behind it.
fn value(text: &[u8]) -> Result<(Vec<u8>, &[u8]), Refused> {
    let Some(mut rest) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|byte| *byte == b',').unwrap_or(text.len());
        return Ok((text[..end].trim_ascii_end().to_vec(), &text[end..]));
    };
    let mut value = Vec::new();
    loop {
        (value, rest) = match rest {
            [b'"', after @ ..] => return Ok((value, after)),
            [b'\\', byte, after @ ..] | [byte, after @ ..] => {
                value.push(*byte);
                (value, after)
            }
            [] => return Err(Refused),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 2831, section 4.
    #[test]
    fn the_hashes_are_those_of_the_standard() {
        let terms = Terms {
            user: "chris",
            realm: "elwood.innosoft.com",
            password: "secret",
            nonce: b"OA6MG9tEQGm2hh",
            cnonce: b"OA6MHXh6VqTrRk",
            count: b"00000001",
            uri: b"imap/elwood.innosoft.com",
            authzid: None,
        };
        assert_eq!(terms.hash("AUTHENTICATE"), "d388dad90d4bbd760a152321f2143af7");
        assert_eq!(terms.hash(""), "ea40f60335c427b5527b84dbabcdfffd");
    }

    /// What kazoo and Apache's server (3.8.0) said to each other.
    #[test]
    fn a_captured_exchange_is_understood() {
        let nonce = "5FC8T4qW5EHnYtJa5i6CtkL12KIITsEoLTOR/Wbm";
        let said = "qop=auth,realm=\"zk-sasl-md5\",username=\"jaasuser\",nonce=\"zGfqFctVG+B3pr7KZ+ctQZ3LiLIHiw8q5CsVdABJ\",\
                    cnonce=\"5255145277772816\",nc=00000001,digest-uri=\"zookeeper/zk-sasl-md5\",\
                    response=d72a3076d2dbb9eb16b259ed71146089";
        let own = "zGfqFctVG+B3pr7KZ+ctQZ3LiLIHiw8q5CsVdABJ";
        let proved = verify(own, said.as_bytes(), |_| Some("jaas_password")).unwrap();
        assert_eq!(proved.user, "jaasuser");
        assert_eq!(proved.token, b"rspauth=869e4650236d5c6cf2502fdb2a1ca2f3");
        assert_eq!(verify(nonce, said.as_bytes(), |_| Some("jaas_password")), Err(Refused), "another nonce");
        assert_eq!(
            challenge(nonce),
            b"realm=\"zk-sasl-md5\",nonce=\"5FC8T4qW5EHnYtJa5i6CtkL12KIITsEoLTOR/Wbm\",charset=utf-8,algorithm=md5-sess"
        );
    }

    fn exchange(user: &str, password: &str, known: &str) -> Result<Proved, Refused> {
        let answer = answer(&challenge("N"), user, password, "C").unwrap();
        let proved = verify("N", &answer.token, |asked| (asked == user).then_some(known))?;
        assert_eq!(answer.confirm(&proved.token), Ok(()));
        assert_eq!(answer.confirm(b"rspauth=00"), Err(Refused));
        Ok(proved)
    }

    #[test]
    fn both_sides_agree_on_any_name_and_password() {
        for user in ["bob", "b\"o\\b", "bøb", "боб", "a,b=c"] {
            assert_eq!(exchange(user, "pä\"ss", "pä\"ss").unwrap().user, user);
            assert_eq!(exchange(user, "pass", "other"), Err(Refused));
        }
    }

    #[test]
    fn what_is_no_answer_to_the_challenge_is_refused() {
        let answer = answer(&challenge("N"), "bob", "pw", "C").unwrap();
        let said = String::from_utf8(answer.token).unwrap();
        let judge = |said: &str| verify("N", said.as_bytes(), |user| (user == "bob").then_some("pw"));
        assert!(judge(&said).is_ok());
        for (from, to) in [
            ("bob", "eve"),
            ("\"N\"", "\"M\""),
            ("realm=\"zk-", "realm=\"xx-"),
            ("digest-uri=\"zoo", "digest-uri=\"too"),
            ("qop=auth", "qop=auth-int"),
            ("nc=", "nc=\"1\",nc="),
            ("charset=utf-8", "charset=utf-7"),
            ("response=", "authzid=\"eve\",response="),
            ("cnonce=\"C\"", "cnonce=\"C"),
            ("cnonce", "xnonce"),
            (",", " "),
        ] {
            assert_ne!(said, said.replace(from, to));
            assert_eq!(judge(&said.replace(from, to)), Err(Refused), "{from} is {to}");
        }
        assert_eq!(judge(&format!("{said},x=\"{}\"", "y".repeat(TOKEN_BYTES_MAX))), Err(Refused));
        for garbage in ["", "garbage", "=", "a=\"", "a=\"\\", "a=b,,c=d", ",", "username=\"bob\""] {
            assert_eq!(judge(garbage), Err(Refused), "{garbage:?}");
        }
    }

    #[test]
    fn a_client_may_name_itself_as_the_one_it_acts_for() {
        let terms = Terms {
            user: "bob",
            realm: REALM,
            password: "pw",
            nonce: b"N",
            cnonce: b"C",
            count: b"00000001",
            uri: DIGEST_URI.as_bytes(),
            authzid: Some("bob"),
        };
        let said = format!(
            "username=\"bob\",realm=\"{REALM}\",nonce=\"N\",cnonce=\"C\",nc=00000001,digest-uri=\"{DIGEST_URI}\",\
             authzid=\"bob\",maxbuf=65536,response={}",
            terms.hash("AUTHENTICATE")
        );
        assert!(verify("N", said.as_bytes(), |_| Some("pw")).is_ok());
    }
}
