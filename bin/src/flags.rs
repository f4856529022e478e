//! From a command line to raw values: flags, `ETCD_*` variables, the configuration file.
//!
//! The first of two steps, in the manner of ripgrep's low and high arguments: here every value is known to be
//! of its type, and nothing more. [`config`](crate::config) makes of it a configuration that is valid as a
//! whole.
//!
//! Precedence is etcd's (`etcdmain/config.go`, `pkg/flags`). A configuration file, named by `--config-file`
//! or `ETCD_CONFIG_FILE`, replaces every other flag and variable. Otherwise a variable sets what no flag set,
//! and a variable for a flag that *is* set ends the start. Nothing here touches the process: arguments,
//! variables and the file reader are passed in, and what there is to say is returned.

// Every flag, a row each, and what the values of a row may be.
mod gates;
mod kind;
mod table;

// Where values come from, and where they are kept.
mod args;
mod environment;
mod file;
mod given;

// What there is to say.
mod answer;
mod help;

use std::io;

pub(crate) use answer::reason;
pub use answer::{Answer, Failure, Field, Note};
pub use gates::{GATES, Gate, Stage, enabled as gate_enabled};
pub use given::Given;
pub use kind::Kind;
pub use table::{Flag, SECTIONS, Support, variable};

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
            if !flag.default.is_empty() {
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

    /// The list was printed by etcd 3.6.16's own flag set: a name and its default a line.
    #[test]
    fn the_names_and_defaults_are_those_of_etcd() {
        let etcd: Vec<(&str, &str)> = include_str!("flags/etcd_3_6_16.tsv")
            .lines()
            .map(|line| line.split_once('\t').expect("a name and a default"))
            .collect();
        let mut ours: Vec<(&str, &str)> = table::rows()
            .filter(|flag| !flag.name.starts_with("kontiki-"))
            .map(|flag| (flag.name, flag.default))
            .collect();
        ours.sort_unstable();
        assert_eq!(ours.len(), etcd.len());
        // Empty in etcd's flag set; these are in force, and what its help says.
        let in_force = [("backend-bbolt-freelist-type", "map"), ("warning-unary-request-duration", "300ms")];
        for (ours, etcd) in ours.into_iter().zip(etcd) {
            assert!(
                ours == etcd || (ours.0 == etcd.0 && in_force.contains(&ours)),
                "{ours:?} is {etcd:?} in etcd"
            );
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
