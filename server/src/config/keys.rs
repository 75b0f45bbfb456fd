//! Which keys `zoo.cfg` knows, and what becomes of each: the one list behind the parser's warnings and the table in
//! `docs/configuration.md`.

use super::table::KEYS;

/// What this server does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// The server acts on it.
    Honoured,
    /// It is read, and nothing acts on it yet. The server behaves as if this were the value; where that is `""`, the
    /// key has no effect.
    NotYet(&'static str),
    /// As [`Support::NotYet`], but a server that behaved so would protect less than it was told to, or not be found
    /// where it is looked for: any other value ends the start.
    Refused(&'static str),
    /// It steers a part of Apache's server that has no counterpart here; the text names the part.
    NoCounterpart(&'static str),
}

/// One key, or a family of keys.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The key as it is written. A trailing `*` stands for anything, a trailing `N` for a number.
    pub name: &'static str,
    /// The default here, and where it differs, Apache's.
    pub default: &'static str,
    /// What it means, with its unit.
    pub meaning: &'static str,
    /// What this server does with it.
    pub support: Support,
}

/// Every key, in the order in which it is documented.
#[must_use]
pub fn known_keys() -> &'static [Key] {
    KEYS
}

/// The entry for a key as it stands in a file.
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name).or_else(|| KEYS.iter().find(|key| key.covers(name)))
}

/// The known key that is spelled most like this one, if any is near enough to be what was meant.
#[must_use]
pub fn nearest(name: &str) -> Option<&'static str> {
    /// Longer names than any known one are not worth comparing.
    const COMPARED_CHARS_MAX: usize = 80;
    let wanted: Vec<char> = name.chars().map(|c| c.to_ascii_lowercase()).take(COMPARED_CHARS_MAX).collect();
    let allowed = (wanted.len() / 4).max(2);
    KEYS.iter()
        .filter(|key| !key.name.ends_with('*'))
        .map(|key| (distance(&wanted, key.name), key.name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

impl Key {
    fn covers(&self, name: &str) -> bool {
        if let Some(prefix) = self.name.strip_suffix('*') {
            return name.len() > prefix.len() && name.starts_with(prefix);
        }
        let Some(prefix) = self.name.strip_suffix(".N") else { return false };
        name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
    }
}

/// How many single changes lead from one spelling to the other, capitals not counted; two neighbours that changed
/// places are one change.
fn distance(from: &[char], to: &str) -> usize {
    let to: Vec<char> = to.chars().map(|c| c.to_ascii_lowercase()).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, a) in from.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, b) in to.iter().enumerate() {
            let mut best =
                (above[column] + usize::from(a != b)).min(above[column + 1] + 1).min(line[column] + 1);
            if row > 0 && column > 0 && *a == to[column - 1] && from[row - 1] == *b {
                best = best.min(before[column - 1] + 1);
            }
            line.push(best);
        }
        before = std::mem::replace(&mut above, line);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_spellings_find_their_key() {
        for (given, expected) in [
            ("tickTim", Some("tickTime")),
            ("ticktime", Some("tickTime")),
            ("dataLogdir", Some("dataLogDir")),
            ("maxClientConxns", Some("maxClientCnxns")),
            ("maxClientCnxn", Some("maxClientCnxns")),
            ("autopurge.purgeIntreval", Some("autopurge.purgeInterval")),
            ("snapCuont", Some("snapCount")),
            ("4lw.command.whitelist", Some("4lw.commands.whitelist")),
            ("favouriteColour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(given), expected, "{given}");
        }
    }

    #[test]
    fn families_cover_their_members() {
        assert_eq!(find("server.12").map(|key| key.name), Some("server.N"));
        assert_eq!(find("authProvider.sasl").map(|key| key.name), Some("authProvider.*"));
        assert_eq!(find("ssl.quorum.keyStore.location").map(|key| key.name), Some("ssl.*"));
        assert_eq!(find("metricsProvider.className").map(|key| key.name), Some("metricsProvider.className"));
        assert!(find("server").is_none());
        assert!(find("tickTimes").is_none());
    }

    #[test]
    fn the_table_names_each_key_once_and_explains_it() {
        for (at, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..at].iter().all(|other| other.name != key.name), "{} is listed twice", key.name);
            assert!(!key.meaning.is_empty(), "{} has no meaning", key.name);
        }
    }
}
