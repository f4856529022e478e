//! From a command line to raw values: flags, `ETCD_*` variables, the configuration file.
//!
//! The first of two steps, in the manner of ripgrep's low and high arguments: here every value is known to be of its
//! type, and nothing more. [`config`](crate::config) makes of it a configuration that is valid as a whole.
//!
//! Precedence is etcd's (`etcdmain/config.go`, `pkg/flags`). A configuration file, named by `--config-file` or
//! `ETCD_CONFIG_FILE`, replaces every other flag and variable. Otherwise a variable sets what no flag set, and a
//! variable for a flag that *is* set ends the start. Nothing here touches the process: arguments, variables and the
//! file reader are passed in, and what there is to say is returned.

mod args;
mod environment;
mod file;
mod gates;
mod help;
mod kind;
mod table;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

pub use gates::{GATES, Gate, Stage};
pub use kind::Kind;
pub use table::{Flag, SECTIONS, Support, variable};

use crate::duration::GoDuration;
use crate::logging::{Level, Logger, Value};
use crate::url::Url;

/// What the process was started with.
pub struct Start<'a> {
    /// The program's name as called, for the log.
    pub program: &'a str,
    /// Arguments after the program's name.
    pub args: &'a [String],
    /// Environment, as `(name, value)`.
    pub env: &'a [(String, String)],
    /// Reads a whole file; only the configuration file is ever asked for.
    pub read_file: &'a dyn Fn(&str) -> io::Result<Vec<u8>>,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Outcome {
    /// A server with these values.
    Serve(Given),
    /// Text and an end: help, version, a mistake in the syntax.
    Answer(Answer),
    /// An end with a log line.
    Failed(Failure),
}

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
    /// Prints both texts; what a closed pipe refuses is nobody's loss. The exit status is the caller's to return.
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

    /// The configuration is well formed and still cannot be served: etcd's `discovery failed`, whatever the reason.
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

/// Values as given: each of its flag's type, defaults for the rest.
#[derive(Clone, Debug, Default)]
pub struct Given {
    set: BTreeMap<&'static str, String>,
    /// Path of the configuration file, when one was read.
    pub config_file: Option<String>,
    /// What there is to log about how the values were found.
    pub notes: Vec<Note>,
}

/// Reads what `start` holds.
pub fn read(start: &Start<'_>) -> Outcome {
    let mut given = Given::default();
    match args::parse(start.args, &mut given) {
        Ok(args::Parsed::Flags) => {}
        Ok(args::Parsed::Help) => return Outcome::Answer(help::answer()),
        Ok(args::Parsed::Stray(arg)) => {
            return Outcome::Failed(Failure::verify(Vec::new(), format!("{arg:?} is not a valid flag")));
        }
        Err(complaint) => return Outcome::Answer(help::complaint(&complaint)),
    }
    if given.bool("version") {
        let stdout = crate::version::text();
        return Outcome::Answer(Answer { stdout, stderr: String::new(), code: 0 });
    }
    let path = match given.text("config-file") {
        "" => environment::value(start.env, &variable("config-file")).unwrap_or("").to_owned(),
        path => path.to_owned(),
    };
    let read = match path.as_str() {
        "" => environment::apply(start.env, &mut given).map(|()| given),
        _ => file::read(path, start.read_file),
    };
    match read {
        Ok(given) => Outcome::Serve(given),
        Err(failure) => Outcome::Failed(failure),
    }
}

impl Given {
    /// Sets `flag` after its type has agreed.
    fn put(&mut self, flag: &'static Flag, text: &str) -> Result<(), String> {
        flag.kind.check(text)?;
        let text = match (flag.kind, self.set.get(flag.name)) {
            // Go's feature gates add up when the flag is repeated.
            (Kind::Gates, Some(before)) => format!("{before},{text}"),
            _ => text.to_owned(),
        };
        self.set.insert(flag.name, text);
        Ok(())
    }

    /// Whether a flag, a variable or the file set `name`.
    pub fn is_set(&self, name: &str) -> bool {
        self.set.contains_key(name)
    }

    /// The value as text; the default when nothing set it.
    pub fn text(&self, name: &str) -> &str {
        match self.set.get(name) {
            Some(text) => text,
            None => table::find(name).unwrap_or_else(|| panic!("flag {name} has no row")).default,
        }
    }

    /// Whether the value differs from the default in meaning, not in spelling.
    pub fn is_changed(&self, flag: &Flag) -> bool {
        let Some(text) = self.set.get(flag.name) else { return false };
        match flag.kind {
            Kind::Bool => kind::parse_bool(text) != kind::parse_bool(flag.default),
            Kind::Int => kind::parse_int(text) != kind::parse_int(flag.default),
            Kind::Uint | Kind::Uint32 => {
                kind::parse_uint(text, u64::MAX) != kind::parse_uint(flag.default, u64::MAX)
            }
            Kind::Span => GoDuration::parse(text) != GoDuration::parse(flag.default),
            _ => text != flag.default,
        }
    }

    /// A boolean flag's value.
    pub fn bool(&self, name: &str) -> bool {
        kind::parse_bool(self.text(name)).expect("checked when set")
    }

    /// A signed flag's value.
    pub fn int(&self, name: &str) -> i64 {
        kind::parse_int(self.text(name)).expect("checked when set")
    }

    /// An unsigned flag's value.
    pub fn uint(&self, name: &str) -> u64 {
        kind::parse_uint(self.text(name), u64::MAX).expect("checked when set")
    }

    /// A duration flag's value.
    pub fn span(&self, name: &str) -> GoDuration {
        GoDuration::parse(self.text(name)).expect("checked when set")
    }

    /// A URL flag's value; an empty text is no URLs.
    pub fn urls(&self, name: &str) -> Vec<Url> {
        match self.text(name) {
            "" => Vec::new(),
            text => Url::parse_list(text).expect("checked when set"),
        }
    }

    /// A list flag's values, in order; an empty text is none.
    pub fn list(&self, name: &str) -> Vec<String> {
        match self.text(name) {
            "" => Vec::new(),
            text => text.split(',').map(str::to_owned).collect(),
        }
    }

    /// A list flag's values, sorted, each once.
    pub fn names(&self, name: &str) -> Vec<String> {
        let mut names = self.list(name);
        names.sort();
        names.dedup();
        names
    }

    /// The feature gates that `--feature-gates` names.
    pub fn gates(&self) -> BTreeMap<&'static str, bool> {
        gates::parse(self.text("feature-gates")).expect("checked when set")
    }
}

/// Whether gate `name` is on after `set`.
pub fn gate_enabled(set: &BTreeMap<&'static str, bool>, name: &str) -> bool {
    gates::enabled(set, name)
}

/// The system's sentence as Go writes it: lower case, without the error's number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn read_line(line: &str, env: &[(&str, &str)]) -> Outcome {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let env: Vec<(String, String)> = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let read_file = |path: &str| match path {
            "c.yml" => Ok(b"name: from-file\n".to_vec()),
            _ => Err(io::Error::from_raw_os_error(2)),
        };
        read(&Start { program: "kontiki", args: &args, env: &env, read_file: &read_file })
    }

    fn served(line: &str, env: &[(&str, &str)]) -> Given {
        match read_line(line, env) {
            Outcome::Serve(given) => given,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn every_row_is_sound() {
        let mut names = std::collections::BTreeSet::new();
        for flag in table::rows() {
            assert!(names.insert(flag.name), "two rows for {}", flag.name);
            if flag.kind != Kind::AnyOf(&[]) && !flag.default.is_empty() {
                assert_eq!(flag.kind.check(flag.default), Ok(()), "default of {}", flag.name);
            }
            assert!(flag.help.is_empty() == (flag.support == Support::Historic), "help of {}", flag.name);
            match flag.support {
                Support::SpelledNow(now) => {
                    let now = table::find(now).unwrap_or_else(|| panic!("{} points nowhere", flag.name));
                    assert_eq!(now.kind, flag.kind, "{}", flag.name);
                }
                Support::GateNow(gate) => assert!(GATES.iter().any(|known| known.name == gate), "{gate}"),
                _ => {}
            }
        }
    }

    #[test]
    fn the_names_and_defaults_are_those_of_etcd() {
        // From `etcd --help` of 3.6 and its sources: (flag, default). Lists what clients and manifests rely on.
        for (name, default) in [
            ("name", "default"),
            ("data-dir", ""),
            ("snapshot-count", "10000"),
            ("heartbeat-interval", "100"),
            ("election-timeout", "1000"),
            ("listen-peer-urls", "http://localhost:2380"),
            ("listen-client-urls", "http://localhost:2379"),
            ("max-txn-ops", "128"),
            ("max-request-bytes", "1572864"),
            ("max-concurrent-streams", "4294967295"),
            ("grpc-keepalive-min-time", "5s"),
            ("initial-cluster", "default=http://localhost:2380"),
            ("initial-cluster-state", "new"),
            ("initial-cluster-token", "etcd-cluster"),
            ("auto-compaction-mode", "periodic"),
            ("bcrypt-cost", "10"),
            ("auth-token-ttl", "300"),
            ("tls-min-version", "TLS1.2"),
            ("max-learners", "1"),
            ("snapshot-catchup-entries", "5000"),
        ] {
            assert_eq!(Given::default().text(name), default, "{name}");
        }
    }

    #[test]
    fn variables_follow_from_names() {
        assert_eq!(variable("listen-client-urls"), "ETCD_LISTEN_CLIENT_URLS");
        assert_eq!(variable("test.outputdir"), "ETCD_TEST.OUTPUTDIR");
    }

    #[test]
    fn a_config_file_replaces_flags_and_variables() {
        let given = served("--name=flag --config-file=c.yml", &[("ETCD_HEARTBEAT_INTERVAL", "7")]);
        assert_eq!((given.text("name"), given.uint("heartbeat-interval")), ("from-file", 100));
        assert_eq!(served("", &[("ETCD_CONFIG_FILE", "c.yml")]).text("name"), "from-file");
    }

    #[test]
    fn a_missing_config_file_is_etcds_error() {
        match read_line("--config-file=/nonexistent", &[]) {
            Outcome::Failed(failure) => {
                assert_eq!(failure.error(), "open /nonexistent: no such file or directory");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_stray_argument_ends_the_start() {
        for (line, arg) in
            [("foo", "foo"), ("--pre-vote false", "false"), ("-- --name", "--name"), ("-", "-")]
        {
            match read_line(line, &[]) {
                Outcome::Failed(failure) => {
                    assert_eq!(failure.error(), format!("{arg:?} is not a valid flag"))
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn version_wins_over_variables() {
        match read_line("--version", &[("ETCD_HEARTBEAT_INTERVAL", "abc")]) {
            Outcome::Answer(answer) => {
                assert!(answer.stdout.starts_with("etcd Version: 3.6.16\n"));
                assert_eq!((answer.stdout.lines().count(), answer.code), (4, 0));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn changed_is_about_meaning() {
        let given = served("--pre-vote=T --election-timeout=0x3e8 --corrupt-check-time=0m --auto-tls", &[]);
        for (name, changed) in [
            ("pre-vote", false),
            ("election-timeout", false),
            ("corrupt-check-time", false),
            ("auto-tls", true),
            ("cert-file", false),
        ] {
            assert_eq!(given.is_changed(table::find(name).unwrap()), changed, "{name}");
        }
    }
}
