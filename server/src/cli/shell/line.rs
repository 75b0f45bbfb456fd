//! PURE. A line cut into words, as Apache's shell cuts it: words are separated by white space, a word that begins with
//! a quote goes to the next such quote, and there is no escape character. A quote within a word is a plain character,
//! and one that is never closed is dropped.

/// The words of a line. A line of nothing but white space is one word, its last character, which is no command.
pub(crate) fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    if rest.is_empty() {
        return line.chars().next_back().map(String::from).into_iter().collect();
    }
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '"' | '\'' => match rest[1..].find(first) {
                Some(end) => (&rest[1..=end], &rest[end + 2..]),
                None => {
                    rest = &rest[1..];
                    continue;
                }
            },
            _ => rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_as_apache_cuts_them() {
        for (line, words) in [
            ("ls /", vec!["ls", "/"]),
            ("  ls   -s  / ", vec!["ls", "-s", "/"]),
            (r#"create "/a b" 'it is "x"'"#, vec!["create", "/a b", r#"it is "x""#]),
            (r#"set /a """#, vec!["set", "/a", ""]),
            (r#"set /a "b"c"#, vec!["set", "/a", "b", "c"]),
            (r#"create /j/"a b" foo"#, vec!["create", r#"/j/"a"#, r#"b""#, "foo"]),
            (r#"set /a "open end"#, vec!["set", "/a", "open", "end"]),
            (r"set /a b\ c", vec!["set", "/a", r"b\", "c"]),
            ("set /ä ö", vec!["set", "/ä", "ö"]),
            ("   ", vec![" "]),
            ("", vec![]),
            ("\"", vec![]),
        ] {
            assert_eq!(split(line), words, "{line:?}");
        }
    }
}
