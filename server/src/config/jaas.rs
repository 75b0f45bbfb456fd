//! JAAS login configurations: the files in which Java keeps who may log in. Of them the server needs the users and
//! passwords of one section:
//!
//! ```text
//! Server {
//!     org.apache.zookeeper.server.auth.DigestLoginModule required
//!     user_alice="secret";
//! };
//! ```
//!
//! Sections are read as Java reads them: comments as in Java, options separated by white space, a semicolon behind each
//! module and each section. Left out: `${property}` in values, and what login modules other than the one for digests mean.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

use thiserror::Error;

/// Users and their passwords.
pub type Users = BTreeMap<String, String>;

/// The login module that keeps users and passwords, without its package.
const DIGEST_MODULE: &str = "DigestLoginModule";

/// Why a login configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JaasError {
    /// It is not written as JAAS wants it.
    #[error("line {line}: {expected} is missing")]
    Syntax {
        /// Where.
        line: usize,
        /// What should stand there.
        expected: &'static str,
    },
    /// The section needs a way to log in that this server does not have.
    #[error("section {section} asks for {module}, which is not built: only DigestLoginModule is")]
    Module {
        /// Which section.
        section: String,
        /// The module.
        module: String,
    },
    /// The section names nobody.
    #[error("section {section} has no user: add user_NAME=\"PASSWORD\"")]
    NoUser {
        /// Which section.
        section: String,
    },
}

/// The users of a section; `None` if there is no such section.
///
/// # Errors
/// The text is no login configuration, or the section holds other things than users.
pub fn users(text: &str, section: &str) -> Result<Option<Users>, JaasError> {
    let mut tokens = Tokens { chars: text.chars().peekable(), line: 1 };
    let mut found = None;
    while let Some(token) = tokens.next()? {
        let Token::Word(name) = token else { return Err(tokens.expected("the name of a section")) };
        tokens.expect('{', "{ behind the name of a section")?;
        let entries = entries(&mut tokens)?;
        tokens.expect(';', "; behind a section")?;
        if name == section && found.is_none() {
            found = Some(entries);
        }
    }
    found.map(|entries| users_of(entries, section)).transpose()
}

fn users_of(entries: Vec<Entry>, section: &str) -> Result<Users, JaasError> {
    let mut users = Users::new();
    for Entry { module, options } in entries {
        if module.rsplit('.').next() != Some(DIGEST_MODULE) {
            return Err(JaasError::Module { section: section.to_owned(), module });
        }
        let named = options.into_iter().filter_map(|(key, value)| {
            let user = key.strip_prefix("user_").filter(|user| !user.is_empty())?;
            Some((user.to_owned(), value))
        });
        users.extend(named);
    }
    if users.is_empty() {
        return Err(JaasError::NoUser { section: section.to_owned() });
    }
    Ok(users)
}

/// One login module of a section.
struct Entry {
    module: String,
    options: Vec<(String, String)>,
}

/// Everything up to the closing brace.
fn entries(tokens: &mut Tokens<'_>) -> Result<Vec<Entry>, JaasError> {
    let mut entries = Vec::new();
    loop {
        let module = match tokens.next()? {
            Some(Token::Mark('}')) => return Ok(entries),
            Some(Token::Word(module)) => module,
            _ => return Err(tokens.expected("a login module or }")),
        };
        let Some(Token::Word(_flag)) = tokens.next()? else {
            return Err(tokens.expected("required, requisite, sufficient or optional"));
        };
        let mut options = Vec::new();
        loop {
            let key = match tokens.next()? {
                Some(Token::Mark(';')) => break,
                Some(Token::Word(key)) => key,
                _ => return Err(tokens.expected("an option, or ; behind a login module")),
            };
            tokens.expect('=', "= behind the name of an option")?;
            let Some(Token::Word(value)) = tokens.next()? else {
                return Err(tokens.expected("the value of an option"));
            };
            options.push((key, value));
        }
        entries.push(Entry { module, options });
    }
}

enum Token {
    /// A word, or a text in quotes.
    Word(String),
    Mark(char),
}

struct Tokens<'a> {
    chars: Peekable<Chars<'a>>,
    line: usize,
}

impl Tokens<'_> {
    fn expected(&self, expected: &'static str) -> JaasError {
        JaasError::Syntax { line: self.line, expected }
    }

    fn expect(&mut self, mark: char, expected: &'static str) -> Result<(), JaasError> {
        match self.next()? {
            Some(Token::Mark(found)) if found == mark => Ok(()),
            _ => Err(self.expected(expected)),
        }
    }

    fn char(&mut self) -> Option<char> {
        let char = self.chars.next();
        self.line += usize::from(char == Some('\n'));
        char
    }

    fn next(&mut self) -> Result<Option<Token>, JaasError> {
        loop {
            let Some(char) = self.char() else { return Ok(None) };
            return Ok(Some(match char {
                char if char.is_whitespace() => continue,
                '/' => {
                    self.comment()?;
                    continue;
                }
                '"' | '\'' => Token::Word(self.quoted(char)?),
                '{' | '}' | ';' | '=' => Token::Mark(char),
                first => {
                    let mut word = String::from(first);
                    while let Some(next) = self.chars.next_if(|char| !ends_word(*char)) {
                        word.push(next);
                    }
                    Token::Word(word)
                }
            }));
        }
    }

    /// Behind the first stroke.
    fn comment(&mut self) -> Result<(), JaasError> {
        let long = self.chars.next_if_eq(&'*').is_some();
        if !long && self.chars.next_if_eq(&'/').is_none() {
            return Err(self.expected("the rest of a comment"));
        }
        let mut before = ' ';
        loop {
            match (self.char(), long) {
                (None, true) => return Err(self.expected("the end of a comment")),
                (None | Some('\n'), false) => return Ok(()),
                (Some('/'), true) if before == '*' => return Ok(()),
                (Some(char), _) => before = char,
            }
        }
    }

    /// Behind the opening quote.
    fn quoted(&mut self, quote: char) -> Result<String, JaasError> {
        let mut text = String::new();
        loop {
            match self.char() {
                None | Some('\n') => return Err(self.expected("the closing quote")),
                Some('\\') => match self.char() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some(char) => text.push(char),
                    None => return Err(self.expected("the closing quote")),
                },
                Some(char) if char == quote => return Ok(text),
                Some(char) => text.push(char),
            }
        }
    }
}

fn ends_word(char: char) -> bool {
    char.is_whitespace() || matches!(char, '{' | '}' | ';' | '=' | '"' | '\'' | '/')
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        /* Who may log in. */
        Client { com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true; };
        Server {  // of clients
            org.apache.zookeeper.server.auth.DigestLoginModule required
            user_super="super_secret"
            user_jaas.user-1='a "quoted" one' debug=true user_x="a\"b\\c";
        };
    "#;

    #[test]
    fn the_users_of_a_section_are_found() {
        let users = users(FILE, "Server").unwrap().unwrap();
        let found: Vec<_> = users.iter().map(|(user, password)| (user.as_str(), password.as_str())).collect();
        assert_eq!(found, [("jaas.user-1", "a \"quoted\" one"), ("super", "super_secret"), ("x", "a\"b\\c")]);
        assert_eq!(super::users(FILE, "Other"), Ok(None));
        assert_eq!(super::users("", "Server"), Ok(None));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        let kerberos = "com.sun.security.auth.module.Krb5LoginModule".to_owned();
        let refused = JaasError::Module { section: "Client".to_owned(), module: kerberos };
        assert_eq!(users(FILE, "Client"), Err(refused));
        let nobody = JaasError::NoUser { section: "S".to_owned() };
        assert_eq!(users("S { a.DigestLoginModule required; };", "S"), Err(nobody));
        for (text, line, expected) in [
            ("S", 1, "{ behind the name of a section"),
            ("S {\n x required\n a };", 3, "= behind the name of an option"),
            ("S { x required a=b; }", 1, "; behind a section"),
            ("S { x required a=\"b\n; };", 2, "the closing quote"),
            ("/* S", 1, "the end of a comment"),
            ("/ S", 1, "the rest of a comment"),
            ("{", 1, "the name of a section"),
            ("S { ;", 1, "a login module or }"),
            ("S { x ;", 1, "required, requisite, sufficient or optional"),
            ("S { x required a=;", 1, "the value of an option"),
            ("S { x required a=b };", 1, "an option, or ; behind a login module"),
        ] {
            assert_eq!(users(text, "S"), Err(JaasError::Syntax { line, expected }), "{text:?}");
        }
    }
}
