//! Numbers, dates and addresses as Java prints them.

use std::net::{IpAddr, SocketAddr};

/// `java.util.Date.toString` in UTC: `EEE MMM dd HH:mm:ss zzz yyyy`.
#[must_use]
pub fn date(wall_ms: i64) -> String {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let moment = Civil::from_ms(wall_ms);
    let (weekday, month) = (DAYS[moment.weekday], MONTHS[moment.month - 1]);
    let Civil { day, hour, minute, second, year, .. } = moment;
    format!("{weekday} {month} {day:02} {hour:02}:{minute:02}:{second:02} UTC {year:04}")
}

/// `yyyy-MM-dd HH:mm UTC`, the form of build dates.
#[must_use]
pub fn short_date(wall_ms: i64) -> String {
    let Civil { year, month, day, hour, minute, .. } = Civil::from_ms(wall_ms);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// `Double.toString`: at least one digit behind the point, an exponent outside of 0.001 to 10,000,000.
#[must_use]
pub fn double(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 || (1e-3..1e7).contains(&magnitude) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN".to_owned()
        } else {
            format!("{}Infinity", if value < 0.0 { "-" } else { "" })
        };
    }
    let scientific = format!("{value:E}");
    match scientific.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => scientific,
    }
}

/// An average as Apache's counters round it: to four places, and halves up.
#[must_use]
pub fn average(sum: u64, count: u64) -> f64 {
    if count == 0 {
        return 0.0;
    }
    let exact = sum as f64 / count as f64;
    // A double lies exactly between two numbers of four places only if it is an odd number of 32nds.
    let thirty_seconds = exact * 32.0;
    if thirty_seconds.fract() == 0.0 && thirty_seconds % 2.0 == 1.0 {
        return (exact * 10_000.0 + 0.5).floor() / 10_000.0;
    }
    format!("{exact:.4}").parse().unwrap_or(exact)
}

/// `InetSocketAddress.toString` of an address that was never a name.
#[must_use]
pub fn socket_address(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) => format!("/{ip}:{}", address.port()),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            // Java turns these into plain IPv4 as soon as it sees them.
            Some(ip) => format!("/{ip}:{}", address.port()),
            None => {
                let words: Vec<String> = ip.segments().iter().map(|word| format!("{word:x}")).collect();
                format!("/[{}]:{}", words.join(":"), address.port())
            }
        },
    }
}

/// A moment on the calendar, in UTC.
struct Civil {
    year: i64,
    month: usize,
    day: i64,
    weekday: usize,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Civil {
    /// Counts days in eras of 400 years that begin in March, so that the leap day is the last day of a year.
    fn from_ms(wall_ms: i64) -> Self {
        const DAYS_PER_ERA: i64 = 146_097;
        /// From 1 March of the year 0 to 1 January 1970.
        const DAYS_TO_EPOCH: i64 = 719_468;
        let seconds = wall_ms.div_euclid(1000);
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let shifted = days + DAYS_TO_EPOCH;
        let (era, day_of_era) = (shifted.div_euclid(DAYS_PER_ERA), shifted.rem_euclid(DAYS_PER_ERA));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Civil {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as usize,
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            weekday: (days + 4).rem_euclid(7) as usize,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_java() {
        for (ms, text) in [
            (0, "Thu Jan 01 00:00:00 UTC 1970"),
            (-1, "Wed Dec 31 23:59:59 UTC 1969"),
            (951_782_400_000, "Tue Feb 29 00:00:00 UTC 2000"),
            (1_795_166_974_999, "Fri Nov 20 09:29:34 UTC 2026"),
            (4_107_542_399_000, "Sun Feb 28 23:59:59 UTC 2100"),
            (4_107_542_400_000, "Mon Mar 01 00:00:00 UTC 2100"),
        ] {
            assert_eq!(date(ms), text);
        }
        assert_eq!(short_date(1_735_494_840_000), "2024-12-29 17:54 UTC");
    }

    #[test]
    fn doubles_are_those_of_java() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (7.0, "7.0"),
            (1.6258, "1.6258"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (9_999_999.5, "9999999.5"),
            (1e7, "1.0E7"),
            (12_345_678.9, "1.23456789E7"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(double(value), text);
        }
    }

    #[test]
    fn averages_have_four_places_and_halves_go_up() {
        for (sum, count, text) in [
            (0, 0, "0.0"),
            (7, 1, "7.0"),
            (2, 3, "0.6667"),
            (1, 32, "0.0313"),
            (3, 32, "0.0938"),
            (1, 100_000, "0.0"),
        ] {
            assert_eq!(double(average(sum, count)), text, "{sum}/{count}");
        }
    }

    #[test]
    fn addresses_are_those_of_java() {
        for (address, text) in [
            ("127.0.0.1:38750", "/127.0.0.1:38750"),
            ("[::1]:9", "/[0:0:0:0:0:0:0:1]:9"),
            ("[fe80::a:b]:9", "/[fe80:0:0:0:0:0:a:b]:9"),
            ("[::ffff:10.0.0.1]:9", "/10.0.0.1:9"),
        ] {
            assert_eq!(socket_address(address.parse().expect("an address")), text);
        }
    }
}
