//! The configuration file: YAML or JSON with flag names as keys, after etcd's `embed/config.go`.
//!
//! Every value becomes the text its flag would take and goes through the flag's own check. Four sections
//! nest; unknown keys are ignored, as in etcd. Durations are numbers of nanoseconds, because Go reads them
//! so.

use std::io;

use serde_norway::{Mapping, Value};

use super::kind::Kind;
use super::table::{self, Flag, Support};
use super::{Failure, Given, Note, reason};
use crate::logging::Level;

/// Keys within sections, by path, and their flags.
#[rustfmt::skip]
const NESTED: &[(&str, &str)] = &[
    ("client-transport-security.cert-file", "cert-file"),
    ("client-transport-security.key-file", "key-file"),
    ("client-transport-security.client-cert-file", "client-cert-file"),
    ("client-transport-security.client-key-file", "client-key-file"),
    ("client-transport-security.client-cert-auth", "client-cert-auth"),
    ("client-transport-security.trusted-ca-file", "trusted-ca-file"),
    ("client-transport-security.auto-tls", "auto-tls"),
    ("client-transport-security.allowed-hostname", "client-cert-allowed-hostname"),
    ("peer-transport-security.cert-file", "peer-cert-file"),
    ("peer-transport-security.key-file", "peer-key-file"),
    ("peer-transport-security.client-cert-file", "peer-client-cert-file"),
    ("peer-transport-security.client-key-file", "peer-client-key-file"),
    ("peer-transport-security.client-cert-auth", "peer-client-cert-auth"),
    ("peer-transport-security.trusted-ca-file", "peer-trusted-ca-file"),
    ("peer-transport-security.auto-tls", "peer-auto-tls"),
    ("peer-transport-security.allowed-cn", "peer-cert-allowed-cn"),
    ("peer-transport-security.allowed-hostname", "peer-cert-allowed-hostname"),
    ("peer-transport-security.skip-client-san-verification", "peer-skip-client-san-verification"),
    ("socket-options.reuse-port", "socket-reuse-port"),
    ("socket-options.reuse-address", "socket-reuse-address"),
    ("discovery-config.token", "discovery-token"),
    ("discovery-config.client.endpoints", "discovery-endpoints"),
    ("discovery-config.client.request-timeout", "discovery-request-timeout"),
    ("discovery-config.client.dial-timeout", "discovery-dial-timeout"),
    ("discovery-config.client.keepalive-time", "discovery-keepalive-time"),
    ("discovery-config.client.keepalive-timeout", "discovery-keepalive-timeout"),
    ("discovery-config.client.secure.cert", "discovery-cert"),
    ("discovery-config.client.secure.key", "discovery-key"),
    ("discovery-config.client.secure.cacert", "discovery-cacert"),
    ("discovery-config.client.secure.insecure-transport", "discovery-insecure-transport"),
    ("discovery-config.client.secure.insecure-skip-tls-verify", "discovery-insecure-skip-tls-verify"),
    ("discovery-config.client.auth.username", "discovery-user"),
    ("discovery-config.client.auth.password", "discovery-password"),
];

/// No flag says this, and leaving it out would let anyone in.
const CLIENT_ALLOWED_CN: &str = "client-transport-security.allowed-cn";

/// Flags that have no key in etcd's files: they are silently ignored there, and here.
const NOT_IN_FILES: &[&str] = &[
    "config-file",
    "version",
    "raft-read-timeout",
    "raft-write-timeout",
    "client-crl-file",
    "peer-crl-file",
    "discovery-fallback",
];

/// Reads the file at `path`.
pub(super) fn read(path: String, read_file: &dyn Fn(&str) -> io::Result<Vec<u8>>) -> Result<Given, Failure> {
    let fail = |error: String| Failure::verify(Vec::new(), error);
    let bytes = read_file(&path).map_err(|error| {
        let verb = if error.kind() == io::ErrorKind::IsADirectory { "read" } else { "open" };
        fail(format!("{verb} {path}: {}", reason(&error)))
    })?;
    let yaml: Value = serde_norway::from_slice(&bytes)
        .map_err(|error| fail(format!("error converting YAML to JSON: yaml: {error}")))?;
    let mut given = Given::default();
    match yaml {
        Value::Null => {}
        Value::Mapping(top) => apply(&top, &mut given).map_err(fail)?,
        _ => return Err(fail("error unmarshaling JSON: the file is not a mapping".to_owned())),
    }
    let msg = "loaded server configuration, other configuration command line flags and environment variables will \
               be ignored if provided";
    given.notes.push(Note::new(Level::Info, msg).with("path", path.as_str()));
    given.config_file = Some(path);
    Ok(given)
}

fn apply(top: &Mapping, given: &mut Given) -> Result<(), String> {
    for flag in table::rows().filter(|flag| is_top_level(flag)) {
        if let Some(value) = key_of(top, flag.name) {
            set(given, flag, flag.name, value)?;
        }
    }
    // A historic misspelling that etcd keeps reading.
    if let Some(value) = key_of(top, "experimental-snapshot-catch-up-entries") {
        let flag = table::find("experimental-snapshot-catchup-entries").expect("it has a row");
        set(given, flag, "experimental-snapshot-catch-up-entries", value)?;
    }
    for (path, name) in NESTED {
        if let Some(value) = nested(top, path)? {
            set(given, table::find(name).expect("nested keys name rows"), path, value)?;
        }
    }
    match nested(top, CLIENT_ALLOWED_CN)? {
        None | Some(Value::Null) => Ok(()),
        Some(_) => Err(format!(
            "{CLIENT_ALLOWED_CN} is not supported: TLS is not built yet, and the port would be open in plain text"
        )),
    }
}

/// Keys of flags that nest or that files do not know are ignored like any unknown key.
fn is_top_level(flag: &Flag) -> bool {
    let nests = NESTED.iter().any(|(_, name)| *name == flag.name);
    !nests && !NOT_IN_FILES.contains(&flag.name) && flag.support != Support::Historic
}

/// The value of `name`, in any case, as Go's JSON finds it.
fn key_of<'a>(mapping: &'a Mapping, name: &str) -> Option<&'a Value> {
    let same = |key: &Value| key.as_str().is_some_and(|key| key.eq_ignore_ascii_case(name));
    mapping.iter().find(|(key, _)| same(key)).map(|(_, value)| value)
}

/// The value at `path`; a section that is no mapping is an error.
fn nested<'a>(top: &'a Mapping, path: &str) -> Result<Option<&'a Value>, String> {
    let (sections, name) = path.rsplit_once('.').expect("nested keys have a section");
    let mut mapping = top;
    for section in sections.split('.') {
        mapping = match key_of(mapping, section) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Mapping(mapping)) => mapping,
            Some(_) => return Err(format!("error unmarshaling JSON: {section} is not a mapping")),
        };
    }
    Ok(key_of(mapping, name))
}

fn set(given: &mut Given, flag: &'static Flag, key: &str, value: &Value) -> Result<(), String> {
    let Some(text) = as_text(flag.kind, value).map_err(|wrong| wrong.sentence(key, flag.kind))? else {
        return Ok(());
    };
    if text.is_empty() && matches!(flag.kind, Kind::Origins | Kind::OneOf(_)) {
        return Ok(());
    }
    given.put(flag, &text).map_err(|why| match flag.kind {
        Kind::Urls => format!("unexpected error setting up {key}: {why}"),
        // The state is no closed set in a file: etcd checks it later.
        Kind::OneOf(_) if flag.name == "initial-cluster-state" => format!("unexpected clusterState {text:?}"),
        _ => why,
    })
}

/// A value of the wrong type, as Go names types of JSON.
struct WrongType(String);

impl WrongType {
    fn sentence(&self, key: &str, kind: Kind) -> String {
        let field = match kind {
            _ if key.contains("-transport-security.") => "securityConfig.configJSON",
            Kind::Urls | Kind::Origins | Kind::Names => "configYAML.configJSON",
            _ => "configYAML.Config",
        };
        let go_type = match kind {
            Kind::Bool => "bool",
            Kind::Int => "int64",
            Kind::Uint => "uint",
            Kind::Uint32 => "uint32",
            Kind::Span => "time.Duration",
            Kind::List => "[]string",
            _ => "string",
        };
        format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go struct field \
             {field}.{key} of type {go_type}",
            self.0
        )
    }
}

/// The text a flag of `kind` would be given; `None` for null.
fn as_text(kind: Kind, value: &Value) -> Result<Option<String>, WrongType> {
    let wrong = || {
        WrongType(match value {
            Value::Bool(_) => "bool".to_owned(),
            // Go leaves the value out where the type alone is wrong.
            Value::Number(_) if kind == Kind::Bool => "number".to_owned(),
            Value::Number(number) => format!("number {number}"),
            Value::String(_) => "string".to_owned(),
            Value::Sequence(_) => "array".to_owned(),
            _ => "object".to_owned(),
        })
    };
    Ok(Some(match (kind, value) {
        (_, Value::Null) => return Ok(None),
        (Kind::Bool, Value::Bool(on)) => on.to_string(),
        (Kind::Int, Value::Number(number)) if number.is_i64() => number.to_string(),
        (Kind::Uint, Value::Number(number)) if number.is_u64() => number.to_string(),
        (Kind::Uint32, Value::Number(number)) if number.as_u64().is_some_and(fits_u32) => number.to_string(),
        (Kind::Span, Value::Number(number)) if number.is_i64() => format!("{number}ns"),
        (Kind::Bool | Kind::Int | Kind::Uint | Kind::Uint32 | Kind::Span, _) => return Err(wrong()),
        (_, Value::Sequence(items)) if matches!(kind, Kind::List | Kind::Names) => {
            items.iter().map(scalar).collect::<Option<Vec<_>>>().ok_or_else(wrong)?.join(",")
        }
        (Kind::List, _) => return Err(wrong()),
        (_, value) => scalar(value).ok_or_else(wrong)?,
    }))
}

fn fits_u32(number: u64) -> bool {
    number <= u32::MAX.into()
}

/// Scalars are texts where a text is wanted.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(on) => Some(on.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(yaml: &str) -> Result<Given, String> {
        let bytes = yaml.as_bytes().to_vec();
        read("c.yml".to_owned(), &|_| Ok(bytes.clone())).map_err(|failure| failure.error().to_owned())
    }

    #[test]
    fn keys_are_flags() {
        let cases: &[(&str, &str, &str)] = &[
            ("name: a", "name", "a"),
            ("name: 1", "name", "1"),
            ("heartbeat-interval: 50", "heartbeat-interval", "50"),
            ("{\"heartbeat-interval\": 50}", "heartbeat-interval", "50"),
            ("grpc-keepalive-min-time: 5000000000", "grpc-keepalive-min-time", "5000000000ns"),
            ("pre-vote: false", "pre-vote", "false"),
            ("quota-backend-bytes: -1", "quota-backend-bytes", "-1"),
            ("log-outputs: [stderr, /tmp/x]", "log-outputs", "stderr,/tmp/x"),
            ("auto-compaction-retention: 1", "auto-compaction-retention", "1"),
            ("listen-client-urls: http://b:1,http://a:1", "listen-client-urls", "http://b:1,http://a:1"),
            ("client-transport-security: {cert-file: c, client-cert-auth: true}", "client-cert-auth", "true"),
            ("peer-transport-security: {cert-file: c}", "peer-cert-file", "c"),
            ("peer-transport-security: {allowed-cn: [a, b]}", "peer-cert-allowed-cn", "a,b"),
            ("discovery-config: {token: t}", "discovery-token", "t"),
            ("discovery-config: {client: {endpoints: [e]}}", "discovery-endpoints", "e"),
            ("discovery-config: {client: {secure: {cert: c}}}", "discovery-cert", "c"),
            ("Name: a", "name", "a"),
            ("socket-options: {reuse-port: true}", "socket-reuse-port", "true"),
            ("experimental-snapshot-catch-up-entries: 7", "experimental-snapshot-catchup-entries", "7"),
            // Null, unknown and misplaced keys are nothing.
            ("name:", "name", "default"),
            ("no-such-key: 3", "name", "default"),
            ("cert-file: c", "cert-file", ""),
            ("discovery-token: t", "discovery-token", ""),
            ("raft-read-timeout: 1", "raft-read-timeout", "5s"),
            ("", "name", "default"),
        ];
        for (yaml, name, value) in cases {
            assert_eq!(given(yaml).unwrap().text(name), *value, "{yaml}");
        }
    }

    /// The texts of etcd 3.6.16, seen.
    #[test]
    fn complaints_are_those_of_etcd() {
        const HEAD: &str = "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal ";
        const FIELD: &str = " into Go struct field configYAML.Config.";
        for (yaml, complaint) in [
            (
                "grpc-keepalive-min-time: 5s",
                format!("{HEAD}string{FIELD}grpc-keepalive-min-time of type time.Duration"),
            ),
            ("heartbeat-interval: abc", format!("{HEAD}string{FIELD}heartbeat-interval of type uint")),
            ("heartbeat-interval: -1", format!("{HEAD}number -1{FIELD}heartbeat-interval of type uint")),
            ("pre-vote: 3", format!("{HEAD}number{FIELD}pre-vote of type bool")),
            (
                "max-concurrent-streams: 99999999999",
                format!("{HEAD}number 99999999999{FIELD}max-concurrent-streams of type uint32"),
            ),
            (
                "peer-transport-security: {cert-file: [a]}",
                format!(
                    "{HEAD}array into Go struct field securityConfig.configJSON.peer-transport-security.cert-file of \
                     type string"
                ),
            ),
            (
                "listen-client-urls: foo",
                "unexpected error setting up listen-client-urls: URL scheme must be http, https, unix, or unixs: foo"
                    .to_owned(),
            ),
            ("feature-gates: Foo=true", "unrecognized feature gate: Foo".to_owned()),
            ("initial-cluster-state: foo", "unexpected clusterState \"foo\"".to_owned()),
        ] {
            assert_eq!(given(yaml).unwrap_err(), complaint, "{yaml}");
        }
    }

    #[test]
    fn a_file_that_is_no_yaml_is_refused() {
        assert!(given("name: [a").unwrap_err().starts_with("error converting YAML to JSON: yaml: "));
        for yaml in ["[1, 2]", "peer-transport-security: 3", "discovery-config: {client: []}"] {
            assert!(given(yaml).unwrap_err().ends_with(" is not a mapping"), "{yaml}");
        }
    }

    #[test]
    fn names_allowed_for_clients_are_never_dropped() {
        assert!(given("client-transport-security: {allowed-cn: [a]}").is_err());
    }
}
