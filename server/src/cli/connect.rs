//! How the recipe commands connect, and how they end.

use std::time::Duration;

use anyhow::{Context as _, Result};
use docent::Client;

/// Arguments about the session, the same for all recipe commands.
#[derive(Debug, clap::Args)]
pub(crate) struct SessionArgs {
    /// Session timeout, like 15s: how long after a crash or cut others have to wait
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_time)]
    session_timeout: Duration,
    /// Identity to take on, as SCHEME:AUTH, like digest:user:password
    #[arg(long, value_name = "SCHEME:AUTH", value_parser = parse_auth)]
    auth: Vec<(String, String)>,
}

/// Connects.
///
/// # Errors
/// No server gives a session, or an identity is refused.
pub(crate) async fn connect(hosts: &str, args: &SessionArgs) -> Result<Client> {
    let mut builder = Client::builder(hosts).session_timeout(args.session_timeout);
    for (scheme, auth) in &args.auth {
        builder = builder.auth(scheme, auth.clone().into_bytes());
    }
    builder.connect().await.with_context(|| format!("connecting to {hosts}"))
}

/// Ends the session. If that is not confirmed, it ends by its timeout, which is no reason to fail.
pub(crate) async fn close(client: &Client) {
    if let Err(error) = client.close().await {
        tracing::warn!(%error, "the session is not closed, it ends by its timeout");
    }
}

/// Who we are, for people who look at the nodes: host and process.
pub(crate) fn own_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}:{}", std::process::id())
}

/// A time like `500ms`, `5s`, `2m` or `1h`; a number alone is seconds.
///
/// # Errors
/// It is no such time.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds_per_unit = match unit.trim() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{unit:?} is no unit of time; take ms, s, m or h")),
    };
    let number: f64 = number.parse().map_err(|_| "give a time like 500ms, 5s or 2m".to_owned())?;
    Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|error| error.to_string())
}

fn parse_auth(text: &str) -> Result<(String, String), String> {
    let (scheme, auth) = text.split_once(':').ok_or("give SCHEME:AUTH, like digest:user:password")?;
    Ok((scheme.to_owned(), auth.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, millis) in
            [("5", 5000), ("5s", 5000), ("500ms", 500), ("2m", 120_000), ("1h", 3_600_000), ("0.5s", 500)]
        {
            assert_eq!(parse_time(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "5d", "-5s", "1e400", "five"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn identities_are_cut_at_the_first_colon() {
        assert_eq!(parse_auth("digest:u:p"), Ok(("digest".to_owned(), "u:p".to_owned())));
        assert!(parse_auth("digest").is_err());
    }
}
