//! What a start says before it serves, or instead: text for the terminal, lines for a log that is not open
//! yet.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::logging::{Level, Logger, Value};

/// Text to print before the process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// For standard output.
    pub stdout: String,
    /// For standard error.
    pub stderr: String,
    /// Exit status.
    pub code: u8,
}

impl Answer {
    /// Prints both texts; what a closed pipe refuses is nobody's loss. The exit status is the caller's to
    /// return.
    pub fn print(&self) -> ExitCode {
        let _ = io::stdout().write_all(self.stdout.as_bytes());
        let _ = io::stderr().write_all(self.stderr.as_bytes());
        ExitCode::from(self.code)
    }
}

/// One line for the log, noted before there is a logger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Level.
    pub level: Level,
    /// Message.
    pub msg: String,
    /// Fields.
    pub fields: Vec<(&'static str, Field)>,
}

/// A field of a [`Note`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// One text.
    Text(String),
    /// Several.
    List(Vec<String>),
}

impl From<&str> for Field {
    fn from(text: &str) -> Field {
        Field::Text(text.to_owned())
    }
}

impl From<String> for Field {
    fn from(text: String) -> Field {
        Field::Text(text)
    }
}

impl From<Vec<String>> for Field {
    fn from(texts: Vec<String>) -> Field {
        Field::List(texts)
    }
}

impl Value for Field {
    fn write_json(&self, out: &mut String) {
        match self {
            Field::Text(text) => text.write_json(out),
            Field::List(texts) => texts.write_json(out),
        }
    }
}

impl Note {
    /// A line without fields.
    pub fn new(level: Level, msg: impl Into<String>) -> Note {
        Note { level, msg: msg.into(), fields: Vec::new() }
    }

    /// The same with one more field.
    pub fn with(mut self, key: &'static str, value: impl Into<Field>) -> Note {
        self.fields.push((key, value.into()));
        self
    }

    /// Logs the line.
    #[track_caller]
    pub fn log(&self, log: &Logger) {
        let fields: Vec<(&str, &dyn Value)> =
            self.fields.iter().map(|(k, v)| (*k, v as &dyn Value)).collect();
        log.log(self.level, &self.msg, &fields);
    }
}

/// A start that ends. The process logs `notes`, then `last`, and exits with status 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was noted on the way.
    pub notes: Vec<Note>,
    /// The line that says why.
    pub last: Note,
}

impl Failure {
    /// A value or a combination of values is wrong: etcd's `failed to verify flags`.
    pub fn verify(notes: Vec<Note>, error: impl Into<Field>) -> Failure {
        Failure { notes, last: Note::new(Level::Warn, "failed to verify flags").with("error", error) }
    }

    /// The configuration is well formed and still cannot be served: etcd's `discovery failed`, whatever the
    /// reason.
    pub fn start(notes: Vec<Note>, error: impl Into<Field>) -> Failure {
        Failure { notes, last: Note::new(Level::Fatal, "discovery failed").with("error", error) }
    }

    /// The reason alone.
    pub fn error(&self) -> &str {
        match self.last.fields.iter().find(|(key, _)| *key == "error") {
            Some((_, Field::Text(text))) => text.as_str(),
            _ => "",
        }
    }

    /// Logs all lines. The caller flushes the log and exits with status 1.
    pub fn log(&self, log: &Logger) {
        self.notes.iter().chain([&self.last]).for_each(|note| note.log(log));
    }
}

/// The system's sentence as Go writes it: lower case, without the error's number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}
