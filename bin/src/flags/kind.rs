//! What a flag's value may be, in Go's notation and with Go's complaints.
//!
//! etcd's flags are read by Go's `flag` and `strconv` packages; scripts rely on what those take (`0x10`,
//! `1_000`, `T`) and operators search for what they say. A value is checked where it is set and kept as text,
//! so that a command line, an environment variable and a configuration file go the same way;
//! [`Given`](super::Given) reads it back typed.

use super::gates;
use crate::duration::GoDuration;
use crate::url::Url;

/// The type of a flag's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false` in any of Go's spellings; alone on a command line it means `true`.
    Bool,
    /// Any text.
    Text,
    /// A signed 64-bit number.
    Int,
    /// An unsigned 64-bit number.
    Uint,
    /// An unsigned 32-bit number. Its complaints differ: etcd wrote this type itself.
    Uint32,
    /// A Go duration.
    Span,
    /// Comma-separated URLs, each once.
    Urls,
    /// Comma-separated URLs, or `*`.
    Origins,
    /// Comma-separated texts, each once.
    Names,
    /// Comma-separated texts.
    List,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Comma-separated words out of these.
    AnyOf(&'static [&'static str]),
    /// `Gate=true,Other=false`.
    Gates,
    /// Taken and forgotten, with or without a value.
    Ignored,
}

impl Kind {
    /// Whether the flag may stand on a command line without a value.
    pub fn is_bool(self) -> bool {
        matches!(self, Kind::Bool | Kind::Ignored)
    }

    /// Complains about `text` as Go would.
    pub fn check(self, text: &str) -> Result<(), String> {
        match self {
            Kind::Text | Kind::Names | Kind::List | Kind::Ignored => Ok(()),
            Kind::Bool => parse_bool(text).map(drop).ok_or_else(|| "parse error".to_owned()),
            Kind::Int => parse_int(text).map(drop).map_err(|e| e.flag_text().to_owned()),
            Kind::Uint => parse_uint(text, u64::MAX).map(drop).map_err(|e| e.flag_text().to_owned()),
            Kind::Uint32 => parse_uint(text, u32::MAX.into())
                .map(drop)
                .map_err(|e| format!("strconv.ParseUint: parsing {text:?}: {}", e.strconv_text())),
            Kind::Span => GoDuration::parse(text).map(drop).map_err(|_| "parse error".to_owned()),
            Kind::Urls if text.is_empty() => Ok(()),
            Kind::Origins if text == "*" => Ok(()),
            Kind::Urls | Kind::Origins => Url::parse_list(text).map(drop),
            Kind::OneOf(words) if words.contains(&text) => Ok(()),
            Kind::OneOf(_) => Err("invalid value".to_owned()),
            Kind::AnyOf(words) => match text.split(',').find(|word| !words.contains(word)) {
                Some(word) => Err(format!("invalid value {word:?}")),
                None => Ok(()),
            },
            Kind::Gates => gates::parse(text).map(drop),
        }
    }
}

/// Why a number was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberError {
    /// Not a number.
    Syntax,
    /// A number that does not fit.
    Range,
}

impl NumberError {
    fn flag_text(self) -> &'static str {
        match self {
            NumberError::Syntax => "parse error",
            NumberError::Range => "value out of range",
        }
    }

    fn strconv_text(self) -> &'static str {
        match self {
            NumberError::Syntax => "invalid syntax",
            NumberError::Range => "value out of range",
        }
    }
}

/// Go's `strconv.ParseBool`.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Go's `strconv.ParseUint` with base 0, up to `max`.
pub fn parse_uint(text: &str, max: u64) -> Result<u64, NumberError> {
    let (radix, digits) = split_radix(text);
    let digits = without_underscores(digits, radix != 10).ok_or(NumberError::Syntax)?;
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(NumberError::Syntax);
    }
    u64::from_str_radix(&digits, radix).ok().filter(|value| *value <= max).ok_or(NumberError::Range)
}

/// Go's `strconv.ParseInt` with base 0 and 64 bits.
pub fn parse_int(text: &str) -> Result<i64, NumberError> {
    match text.strip_prefix('-') {
        Some(digits) => {
            parse_uint(digits, i64::MIN.unsigned_abs()).map(|magnitude| (magnitude as i64).wrapping_neg())
        }
        None => {
            let digits = text.strip_prefix('+').unwrap_or(text);
            parse_uint(digits, i64::MAX as u64).map(|magnitude| magnitude as i64)
        }
    }
}

/// The radix a literal announces, and its digits.
fn split_radix(text: &str) -> (u32, &str) {
    for (prefix, radix) in [("0x", 16), ("0X", 16), ("0b", 2), ("0B", 2), ("0o", 8), ("0O", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            return (radix, digits);
        }
    }
    match text.strip_prefix('0') {
        Some(digits) if !digits.is_empty() => (8, digits),
        _ => (10, text),
    }
}

/// Underscores may stand between digits, and after a radix prefix.
fn without_underscores(digits: &str, has_prefix: bool) -> Option<String> {
    let starts_well = has_prefix || !digits.starts_with('_');
    (starts_well && !digits.ends_with('_') && !digits.contains("__")).then(|| digits.replace('_', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_those_of_go() {
        for (kind, text, complaint) in [
            (Kind::Bool, "T", None),
            (Kind::Bool, "yes", Some("parse error")),
            (Kind::Int, "-12", None),
            (Kind::Int, "abc", Some("parse error")),
            (Kind::Uint, "0x10", None),
            (Kind::Uint, "-5", Some("parse error")),
            (Kind::Uint, "99999999999999999999999", Some("value out of range")),
            (Kind::Uint32, "4294967295", None),
            (Kind::Uint32, "abc", Some("strconv.ParseUint: parsing \"abc\": invalid syntax")),
            (
                Kind::Uint32,
                "4294967296",
                Some("strconv.ParseUint: parsing \"4294967296\": value out of range"),
            ),
            (Kind::Span, "1m30s", None),
            (Kind::Span, "5", Some("parse error")),
            (Kind::Urls, "", None),
            (Kind::Urls, "http://a:1,foo", Some("URL scheme must be http, https, unix, or unixs: foo")),
            (Kind::Origins, "*", None),
            (Kind::Origins, "", Some("URL scheme must be http, https, unix, or unixs: ")),
            (Kind::Origins, "foo", Some("URL scheme must be http, https, unix, or unixs: foo")),
            (Kind::OneOf(&["new", "existing"]), "new", None),
            (Kind::OneOf(&["new", "existing"]), "foo", Some("invalid value")),
            (Kind::AnyOf(&["gone"]), "gone,not-yet", Some("invalid value \"not-yet\"")),
            (Kind::Gates, "Foo=true", Some("unrecognized feature gate: Foo")),
            (Kind::Ignored, "anything", None),
        ] {
            assert_eq!(kind.check(text).err().as_deref(), complaint, "{kind:?} {text:?}");
        }
    }

    #[test]
    fn numbers_are_go_literals() {
        use NumberError::*;
        for (text, value) in [
            ("0", Ok(0)),
            ("010", Ok(8)),
            ("0x1F", Ok(31)),
            ("0b101", Ok(5)),
            ("0o17", Ok(15)),
            ("1_000", Ok(1000)),
            ("0x_f", Ok(15)),
            ("-0x10", Ok(-16)),
            ("+7", Ok(7)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775808", Err(Range)),
            ("", Err(Syntax)),
            ("-", Err(Syntax)),
            ("08", Err(Syntax)),
            ("_1", Err(Syntax)),
            ("1__0", Err(Syntax)),
            ("1_", Err(Syntax)),
            ("0x", Err(Syntax)),
            ("--1", Err(Syntax)),
        ] {
            assert_eq!(parse_int(text), value, "{text:?}");
        }
    }
}
