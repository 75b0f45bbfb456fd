//! Which ZooKeeper this server says it is.
//!
//! Clients and scripts take the version apart: kazoo wants digits with points at the start, others compare it to know
//! which requests they may send. So it begins with the protocol that this server implements, which is that of 3.9: every
//! operation up to `whoAmI`, and permissions as 3.9.2 checks them. Behind the dash, where Apache has the hash of its
//! commit, stands who it really is.
//!
//! The build date is no clock's: a build of the same source gives the same bytes. It is `SOURCE_DATE_EPOCH` where the
//! build sets it, and otherwise the date of the release.

use super::java_text;

/// The Apache release whose protocol this server speaks.
pub const PROTOCOL_VERSION: &str = "3.9.0";

/// When this version was made ready, for builds that set nothing: 21 November 2026.
const RELEASE_DATE_SECONDS: i64 = 1_795_219_200;

/// The version as `srvr`, `envi` and `mntr` print it: `3.9.0-docent-0.1.0, built on 2026-11-21 00:00 UTC`.
#[must_use]
pub fn full_version() -> String {
    let epoch = option_env!("SOURCE_DATE_EPOCH").and_then(|text| text.trim().parse::<i64>().ok());
    full_version_at(epoch.unwrap_or(RELEASE_DATE_SECONDS))
}

fn full_version_at(build_seconds: i64) -> String {
    let date = java_text::short_date(build_seconds.saturating_mul(1000));
    format!("{PROTOCOL_VERSION}-docent-{}, built on {date}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_begins_with_digits_and_ends_with_a_date() {
        let own = env!("CARGO_PKG_VERSION");
        let expected = format!("3.9.0-docent-{own}, built on 2026-11-21 00:00 UTC");
        assert_eq!(full_version_at(RELEASE_DATE_SECONDS), expected);
        assert!(full_version().starts_with("3.9.0-docent-"));
        // The pattern of Apache's own tools and of most scripts.
        let digits = full_version().split('-').next().unwrap_or_default().split('.').count();
        assert_eq!(digits, 3);
    }
}
