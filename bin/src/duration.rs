//! Durations as Go writes them: `300ms`, `1h30m`, `-1.5s`.
//!
//! etcd's flags, its environment and its log fields use Go's `time.Duration` notation, so a server that takes
//! etcd's flags has to read and print the same one. This file is that notation and nothing else; what a
//! duration is for is decided in `config`.
//!
//! The rules are those of Go's `time.ParseDuration` and `Duration.String`: an optional sign, then one or more
//! decimal numbers each with a unit, or a lone `0`. The value is a signed count of nanoseconds.

use std::fmt;
use std::time::Duration;

/// A signed span in nanoseconds, as Go's `time.Duration`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(i64);

/// Units, longest first where one begins with another; nanoseconds each.
const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3_600 * SECOND),
];

const SECOND: u64 = 1_000_000_000;

impl GoDuration {
    /// A span of `count` nanoseconds; negative spans are legal, as in Go.
    pub const fn from_nanos(count: i64) -> GoDuration {
        GoDuration(count)
    }

    /// A span of `count` milliseconds. Saturates.
    pub const fn from_millis(count: i64) -> GoDuration {
        GoDuration(count.saturating_mul(1_000_000))
    }

    /// Nanoseconds, signed.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// The span for timers: negative ones count as zero, which is how Go's timers treat them.
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }

    /// Reads Go's notation. The error is the sentence of `time.ParseDuration`; values out of range are
    /// invalid.
    pub fn parse(text: &str) -> Result<GoDuration, String> {
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(GoDuration(0));
        }
        let invalid = || format!("time: invalid duration {text:?}");
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let (part, after) = leading_part(rest).map_err(|refusal| match refusal {
                Refusal::Number => invalid(),
                Refusal::NoUnit => format!("time: missing unit in duration {text:?}"),
                Refusal::Unit(unit) => format!("time: unknown unit {unit:?} in duration {text:?}"),
            })?;
            total = total.checked_add(part).filter(|sum| *sum <= 1 << 63).ok_or_else(invalid)?;
            rest = after;
        }
        match (negative, total) {
            // The one value whose magnitude only the negative side can hold.
            (true, total) if total == 1 << 63 => Ok(GoDuration(i64::MIN)),
            (true, total) => Ok(GoDuration(-(total as i64))),
            (false, total) => i64::try_from(total).map(GoDuration).map_err(|_| invalid()),
        }
    }
}

/// Why a part of a duration cannot be read.
enum Refusal<'a> {
    Number,
    NoUnit,
    Unit(&'a str),
}

/// One number with its unit, in nanoseconds, and what follows it.
fn leading_part(text: &str) -> Result<(u64, &str), Refusal<'_>> {
    let (whole, after) = split_digits(text);
    let (fraction, after) = match after.strip_prefix('.') {
        Some(after) => split_digits(after),
        None => ("", after),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(Refusal::Number);
    }
    let unit_len = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
    let (unit, after) = after.split_at(unit_len);
    if unit.is_empty() {
        return Err(Refusal::NoUnit);
    }
    let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(Refusal::Unit(unit))?;
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| Refusal::Number)? };
    let sum = whole.checked_mul(*nanos).and_then(|sum| sum.checked_add(fraction_of(fraction, *nanos)));
    Ok((sum.ok_or(Refusal::Number)?, after))
}

/// `.digits` of a unit, truncated to nanoseconds.
fn fraction_of(digits: &str, unit_nanos: u64) -> u64 {
    // Eighteen digits are beyond a nanosecond of an hour and fit 128 bits with room.
    let digits = &digits[..digits.len().min(18)];
    let value: u128 = digits.parse().unwrap_or(0);
    (value * u128::from(unit_nanos) / 10u128.pow(digits.len() as u32)) as u64
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

impl From<Duration> for GoDuration {
    /// Saturates at Go's greatest duration, about 292 years.
    fn from(span: Duration) -> GoDuration {
        GoDuration(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for GoDuration {
    /// Go's `Duration.String`: the largest unit that needs no leading zero below a second, `1h2m3.5s` above.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => write!(f, "{}\u{b5}s", Decimal(nanos, 1_000)),
            1_000_000..SECOND => write!(f, "{}ms", Decimal(nanos, 1_000_000)),
            _ => {
                let (minutes, rest) = (nanos / (60 * SECOND), nanos % (60 * SECOND));
                match (minutes / 60, minutes % 60) {
                    (0, 0) => {}
                    (0, minutes) => write!(f, "{minutes}m")?,
                    (hours, minutes) => write!(f, "{hours}h{minutes}m")?,
                }
                write!(f, "{}s", Decimal(rest, SECOND))
            }
        }
    }
}

/// `.0 / .1` with as many decimals as it needs; `.1` is a power of ten.
struct Decimal(u64, u64);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / self.1, self.0 % self.1);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let width = self.1.ilog10() as usize;
        write!(f, "{whole}.{}", format!("{rest:0width$}").trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, nanos: Option<i64>) {
        assert_eq!(GoDuration::parse(text).ok().map(GoDuration::nanos), nanos, "{text:?}");
    }

    #[test]
    fn parses_what_go_parses() {
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("-5s", -5_000_000_000),
            ("5.0s", 5_000_000_000),
            ("5.6s", 5_600_000_000),
            ("5.s", 5_000_000_000),
            (".5s", 500_000_000),
            ("1h30m", 5_400_000_000_000),
            ("10.5s4m", 250_500_000_000),
            ("-2m3.4s", -123_400_000_000),
            ("100ms", 100_000_000),
            ("12\u{b5}s", 12_000),
            ("12\u{3bc}s", 12_000),
            ("3us4ns", 3_004),
            ("0.100000000000000000000h", 360_000_000_000),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("0.3333333333333333333h", 1_200_000_000_000 - 1),
        ] {
            check(text, Some(nanos));
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in [
            "",
            "3",
            "-",
            "s",
            ".",
            "-.",
            ".s",
            "+.s",
            "1d",
            "5 s",
            "1h30",
            "abc",
            "1e3s",
            "--5s",
            "\u{b5}s",
            "9223372036854775808ns",
            "9223372036854775.808us",
            "9223372036854ms775us808ns",
            "3000000h",
            "99999999999999999999s",
        ] {
            check(text, None);
        }
    }

    /// Printed by Go.
    #[test]
    fn complains_as_go_complains() {
        for (text, complaint) in [
            ("", "time: invalid duration \"\""),
            ("abc", "time: invalid duration \"abc\""),
            ("-5", "time: missing unit in duration \"-5\""),
            ("1.5", "time: missing unit in duration \"1.5\""),
            ("0x10", "time: unknown unit \"x\" in duration \"0x10\""),
            ("1h2d", "time: unknown unit \"d\" in duration \"1h2d\""),
            ("99999999999999999999s", "time: invalid duration \"99999999999999999999s\""),
        ] {
            assert_eq!(GoDuration::parse(text), Err(complaint.to_owned()));
        }
    }

    #[test]
    fn prints_as_go_prints() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (480_000_000_001, "8m0.000000001s"),
            (7_200_000_000_000, "2h0m0s"),
            (-300_000_000, "-300ms"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(GoDuration::from_nanos(nanos).to_string(), text);
        }
    }

    #[test]
    fn every_printed_duration_reads_back() {
        for shift in 0..63 {
            for nanos in [(1i64 << shift) - 1, 1 << shift, -(1 << shift), 3 * (1 << (shift / 2))] {
                let span = GoDuration::from_nanos(nanos);
                assert_eq!(GoDuration::parse(&span.to_string()), Ok(span));
            }
        }
    }

    #[test]
    fn timers_see_negative_spans_as_zero() {
        assert_eq!(GoDuration::from_millis(-5).to_std(), Duration::ZERO);
        assert_eq!(GoDuration::from_millis(5).to_std(), Duration::from_millis(5));
    }
}
