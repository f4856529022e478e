//! `ETCD_*` variables: etcd's `pkg/flags/flag.go`, its order and its sentences.

use super::{Failure, Given, Note, table};
use crate::logging::Level;

const PREFIX: &str = "ETCD_";

/// Reserved for images and scripts; etcd warns of it and goes on without.
const VERSION: &str = "ETCD_VERSION";

/// The value of variable `name`; an empty one counts as absent.
pub(super) fn value<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
    env.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
}

/// Sets from `env` what no flag set. A variable for a flag that is set ends the start.
pub(super) fn apply(env: &[(String, String)], given: &mut Given) -> Result<(), Failure> {
    let mut notes = Vec::new();
    if let Some(value) = value(env, VERSION) {
        let note = Note::new(Level::Warn, "cannot set special environment variable");
        notes.push(note.with("key", VERSION).with("value", value));
    }
    // Go visits flags by name, and the last complaint is the one it returns.
    let mut rows: Vec<_> = table::rows().filter(|flag| flag.name != "version").collect();
    rows.sort_by_key(|flag| flag.name);
    let on_command_line: Vec<String> =
        rows.iter().filter(|flag| given.is_set(flag.name)).map(|flag| table::variable(flag.name)).collect();
    let mut used = Vec::new();
    let mut complaint = None;
    for flag in rows {
        let name = table::variable(flag.name);
        let Some(value) = value(env, &name).filter(|_| !on_command_line.contains(&name)) else { continue };
        match given.put(flag, value) {
            Ok(()) => {
                let note = Note::new(Level::Info, "recognized and used environment variable");
                notes.push(note.with("variable-name", name.as_str()).with("variable-value", value));
            }
            Err(why) => complaint = Some(format!("invalid value {value:?} for {name}: {why}")),
        }
        used.push(name);
    }
    for (name, value) in env.iter().filter(|(name, _)| name.starts_with(PREFIX) && name != VERSION) {
        if on_command_line.contains(name) {
            return Err(Failure { notes, last: shadowed(name) });
        }
        if !used.contains(name) {
            let note = Note::new(Level::Warn, "unrecognized environment variable");
            notes.push(note.with("environment-variable", format!("{name}={value}")));
        }
    }
    match complaint {
        Some(complaint) => Err(Failure::verify(notes, complaint)),
        None => {
            given.notes.append(&mut notes);
            Ok(())
        }
    }
}

/// The doubled parenthesis is etcd's.
fn shadowed(name: &str) -> Note {
    let msg = "conflicting environment variable is shadowed by corresponding command-line flag \
               (either unset environment variable or disable flag))";
    Note::new(Level::Fatal, msg).with("environment-variable", name)
}

#[cfg(test)]
mod tests {
    use super::super::tests::read_line;
    use super::super::{Field, Outcome};
    use super::*;

    fn failure(line: &str, env: &[(&str, &str)]) -> Failure {
        match read_line(line, env) {
            Outcome::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    fn messages(notes: &[Note]) -> Vec<(&str, &str)> {
        notes
            .iter()
            .map(|note| match &note.fields.last().unwrap().1 {
                Field::Text(text) => (note.msg.as_str(), text.as_str()),
                Field::List(_) => panic!("{note:?}"),
            })
            .collect()
    }

    #[test]
    fn variables_set_what_flags_do_not() {
        let env = [("ETCD_NAME", "a"), ("ETCD_HEARTBEAT_INTERVAL", "50"), ("PATH", "/bin")];
        match read_line("--election-timeout=600", &env) {
            Outcome::Serve(given) => {
                assert_eq!((given.text("name"), given.uint("heartbeat-interval")), ("a", 50));
                assert_eq!(
                    messages(&given.notes),
                    [
                        ("recognized and used environment variable", "50"),
                        ("recognized and used environment variable", "a"),
                    ]
                );
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_flag_and_its_variable_conflict() {
        for value in ["foo", ""] {
            let failure = failure("--name=bar", &[("ETCD_NAME", value)]);
            assert_eq!(
                failure.last.msg,
                "conflicting environment variable is shadowed by corresponding command-line flag (either unset \
                 environment variable or disable flag))"
            );
            assert_eq!(failure.last.level, Level::Fatal);
            assert_eq!(failure.last.fields, [("environment-variable", "ETCD_NAME".into())]);
        }
    }

    /// As etcd 3.6.16 answered, line by line.
    #[test]
    fn unknown_and_bad_variables() {
        let env =
            [("ETCD_HEARTBEAT_INTERVAL", "abc"), ("ETCD_ZZZ", "1"), ("ETCD_VERSION", "3"), ("ETCD_CORS", "")];
        let failure = failure("", &env);
        assert_eq!(
            messages(&failure.notes),
            [
                ("cannot set special environment variable", "3"),
                ("unrecognized environment variable", "ETCD_ZZZ=1"),
                ("unrecognized environment variable", "ETCD_CORS="),
            ]
        );
        assert_eq!(failure.error(), r#"invalid value "abc" for ETCD_HEARTBEAT_INTERVAL: parse error"#);
    }
}
