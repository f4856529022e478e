//! One log line: its level, its fields, its two forms.
//!
//! Keys, their order, the time stamp and the short caller are those of etcd's zap configuration
//! (`logutil/zap.go`). Rendering never fails and never grows without bound: a text field is cut at
//! [`TEXT_BYTES_MAX`].

use std::fmt::{self, Write as _};
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::duration::GoDuration;
use crate::url::Url;

/// Bytes of one text within a line; longer ones are cut with an ellipsis.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// How urgent a line is, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For developers.
    Debug,
    /// Normal work.
    Info,
    /// Odd, and handled.
    Warn,
    /// A person must look.
    Error,
    /// Our own mistake, survived. Only as a filter here.
    Dpanic,
    /// Our own mistake. Only as a filter here.
    Panic,
    /// The last line of a process.
    Fatal,
}

impl Level {
    /// Reads a level as zap does: any case, and nothing means info.
    pub fn parse(text: &str) -> Option<Level> {
        Some(match text.to_ascii_lowercase().as_str() {
            "debug" => Level::Debug,
            "info" | "" => Level::Info,
            "warn" => Level::Warn,
            "error" => Level::Error,
            "dpanic" => Level::Dpanic,
            "panic" => Level::Panic,
            "fatal" => Level::Fatal,
            _ => return None,
        })
    }

    /// Lower-case name, as in the `level` key.
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Dpanic => "dpanic",
            Level::Panic => "panic",
            Level::Fatal => "fatal",
        }
    }
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Tabs between the parts, fields as JSON at the end.
    Console,
}

/// A line before it is bytes.
pub struct Event<'a> {
    /// Level.
    pub level: Level,
    /// Name of the logger, if it has one.
    pub logger: Option<&'static str>,
    /// Where in the source it was logged.
    pub caller: &'static Location<'static>,
    /// Message.
    pub msg: &'a str,
    /// Fields, in order.
    pub fields: &'a [(&'a str, &'a dyn Value)],
}

impl Event<'_> {
    /// The line, newline included.
    pub fn render(&self, format: Format, now: &jiff::Zoned) -> Vec<u8> {
        let mut out = String::with_capacity(256);
        match format {
            Format::Json => self.render_json(&mut out, now),
            Format::Console => self.render_console(&mut out, now),
        }
        out.push('\n');
        out.into_bytes()
    }

    fn render_json(&self, out: &mut String, now: &jiff::Zoned) {
        out.push_str("{\"level\":\"");
        out.push_str(self.level.name());
        out.push_str("\",\"ts\":\"");
        push_time(out, now);
        out.push('"');
        if let Some(logger) = self.logger {
            out.push_str(",\"logger\":");
            logger.write_json(out);
        }
        out.push_str(",\"caller\":\"");
        push_caller(out, self.caller);
        out.push_str("\",\"msg\":");
        self.msg.write_json(out);
        for (key, value) in self.fields {
            out.push(',');
            key.write_json(out);
            out.push(':');
            value.write_json(out);
        }
        out.push('}');
    }

    fn render_console(&self, out: &mut String, now: &jiff::Zoned) {
        push_time(out, now);
        out.push('\t');
        out.push_str(self.level.name());
        out.push('\t');
        if let Some(logger) = self.logger {
            out.push_str(logger);
            out.push('\t');
        }
        push_caller(out, self.caller);
        out.push('\t');
        // A newline in a message must not look like a line of its own.
        out.push_str(&cut(self.msg).replace('\n', "\\n"));
        if self.fields.is_empty() {
            return;
        }
        out.push('\t');
        for (at, (key, value)) in self.fields.iter().enumerate() {
            out.push_str(if at == 0 { "{" } else { ", " });
            key.write_json(out);
            out.push_str(": ");
            value.write_json(out);
        }
        out.push('}');
    }
}

/// `2026-01-02T03:04:05.000006Z`, or `+hhmm` in place of the Z.
fn push_time(out: &mut String, now: &jiff::Zoned) {
    let _ = write!(out, "{}", now.strftime("%Y-%m-%dT%H:%M:%S%.6f"));
    match now.offset().seconds() {
        0 => out.push('Z'),
        _ => drop(write!(out, "{}", now.strftime("%z"))),
    }
}

/// `bin/node.rs:12`: the crate and the file, as zap writes package and file.
fn push_caller(out: &mut String, caller: &Location<'_>) {
    let mut parts = caller.file().rsplit('/').filter(|part| *part != "src");
    let file = parts.next().unwrap_or("");
    let folder = parts.next();
    let _ = match folder {
        Some(folder) => write!(out, "{folder}/{file}:{}", caller.line()),
        None => write!(out, "{file}:{}", caller.line()),
    };
}

fn cut(text: &str) -> std::borrow::Cow<'_, str> {
    if text.len() <= TEXT_BYTES_MAX {
        return text.into();
    }
    format!("{}...", &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]).into()
}

/// What a field may hold.
pub trait Value {
    /// Appends the value as JSON.
    fn write_json(&self, out: &mut String);
}

impl Value for str {
    fn write_json(&self, out: &mut String) {
        out.push('"');
        for c in cut(self).chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if c < ' ' => drop(write!(out, "\\u{:04x}", c as u32)),
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

impl Value for bool {
    fn write_json(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
}

impl Value for f64 {
    /// JSON knows no infinities: they are written as text, as zap does.
    fn write_json(&self, out: &mut String) {
        let _ = if self.is_finite() { write!(out, "{self}") } else { write!(out, "\"{self}\"") };
    }
}

macro_rules! plain_number {
    ($($number:ty)*) => {$(
        impl Value for $number {
            fn write_json(&self, out: &mut String) {
                let _ = write!(out, "{self}");
            }
        }
    )*};
}
plain_number!(i32 i64 isize u8 u16 u32 u64 usize);

macro_rules! as_text {
    ($($kind:ty: $text:expr;)*) => {$(
        impl Value for $kind {
            fn write_json(&self, out: &mut String) {
                let text: fn(&$kind) -> String = $text;
                text(self).as_str().write_json(out);
            }
        }
    )*};
}
as_text! {
    Path: |path| path.display().to_string();
    PathBuf: |path| path.display().to_string();
    Duration: |span| GoDuration::from(*span).to_string();
    GoDuration: GoDuration::to_string;
    Url: Url::to_string;
    std::io::Error: std::io::Error::to_string;
    fmt::Arguments<'_>: |text| text.to_string();
}

impl Value for String {
    fn write_json(&self, out: &mut String) {
        self.as_str().write_json(out);
    }
}

impl<V: Value + ?Sized> Value for &V {
    fn write_json(&self, out: &mut String) {
        (**self).write_json(out);
    }
}

impl<V: Value> Value for [V] {
    fn write_json(&self, out: &mut String) {
        for (at, value) in self.iter().enumerate() {
            out.push(if at == 0 { '[' } else { ',' });
            value.write_json(out);
        }
        out.push_str(if self.is_empty() { "[]" } else { "]" });
    }
}

impl<V: Value> Value for Vec<V> {
    fn write_json(&self, out: &mut String) {
        self.as_slice().write_json(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(format: Format, zone: &str, msg: &str, fields: &[(&str, &dyn Value)]) -> String {
        let now: jiff::Zoned = format!("2026-11-24T22:07:58.019050{zone}").parse().unwrap();
        let event = Event { level: Level::Warn, logger: None, caller: Location::caller(), msg, fields };
        let line = String::from_utf8(event.render(format, &now)).unwrap();
        // The line number moves with every edit of this file.
        let colon = line.find("event.rs:").unwrap() + "event.rs:".len();
        let digits = line[colon..].find(|c: char| !c.is_ascii_digit()).unwrap();
        format!("{}N{}", &line[..colon], &line[colon + digits..])
    }

    #[test]
    fn json_lines() {
        let head =
            r#"{"level":"warn","ts":"2026-11-24T22:07:58.019050Z","caller":"logging/event.rs:N","msg":"#;
        let check = |msg: &str, fields: &[(&str, &dyn Value)], rest: &str| {
            assert_eq!(render(Format::Json, "Z[UTC]", msg, fields), format!("{head}{rest}\n"));
        };
        check("hello", &[], r#""hello"}"#);
        check("a\"b\\c\n\u{1}", &[], r#""a\"b\\c\n\u0001"}"#);
        check(
            "m",
            &[("list", &vec!["a".to_owned()]), ("none", &Vec::<String>::new())],
            r#""m","list":["a"],"none":[]}"#,
        );
        check("m", &[("took", &Duration::from_millis(1500)), ("n", &-3i64)], r#""m","took":"1.5s","n":-3}"#);
        check(
            "m",
            &[("path", &Path::new("/x")), ("f", &0.5f64), ("i", &f64::INFINITY)],
            r#""m","path":"/x","f":0.5,"i":"inf"}"#,
        );
        check("m", &[("error", &format_args!("no {}", 1))], r#""m","error":"no 1"}"#);
    }

    #[test]
    fn the_zone_is_an_offset_without_a_colon() {
        let line = render(Format::Json, "+02:00[Europe/Helsinki]", "m", &[]);
        assert!(line.contains("22:07:58.019050+0200\""), "{line}");
    }

    #[test]
    fn console_lines() {
        assert_eq!(
            render(Format::Console, "Z[UTC]", "hello\nworld", &[("a", &"b"), ("n", &1u64)]),
            "2026-11-24T22:07:58.019050Z\twarn\tlogging/event.rs:N\thello\\nworld\t{\"a\": \"b\", \"n\": 1}\n"
        );
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "\u{e9}".repeat(TEXT_BYTES_MAX);
        let line = render(Format::Json, "Z[UTC]", &text, &[]);
        assert!(line.len() < TEXT_BYTES_MAX + 200, "{}", line.len());
        assert!(line.ends_with("...\"}\n"));
    }

    #[test]
    fn levels_read_as_zap_reads_them() {
        for (text, level) in [
            ("debug", Some(Level::Debug)),
            ("INFO", Some(Level::Info)),
            ("", Some(Level::Info)),
            ("Warn", Some(Level::Warn)),
            ("dpanic", Some(Level::Dpanic)),
            ("warning", None),
            ("nope", None),
        ] {
            assert_eq!(Level::parse(text), level);
        }
    }
}
