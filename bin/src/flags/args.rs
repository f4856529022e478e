//! The syntax of a command line, which is that of Go's `flag` package.
//!
//! `-x v`, `-x=v`, `--x v` and `--x=v` mean the same; a boolean takes a value only after `=`. The first
//! argument that does not begin with a dash ends the flags, as does `--`. A flag given twice counts as given
//! last.

use super::kind::Kind;
use super::{Given, table};

/// A command line whose flags are all good.
pub(super) enum Parsed {
    /// Nothing but flags.
    Flags,
    /// `-h` or `--help` came first.
    Help,
    /// This argument follows the flags.
    Stray(String),
}

/// Puts what `args` sets into `given`; a complaint is what Go prints before the usage.
pub(super) fn parse(args: &[String], given: &mut Given) -> Result<Parsed, String> {
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let Some(name) = arg.strip_prefix('-').filter(|name| !name.is_empty()) else {
            return Ok(Parsed::Stray(arg.clone()));
        };
        let name = match name.strip_prefix('-') {
            Some("") => return Ok(rest.next().cloned().map_or(Parsed::Flags, Parsed::Stray)),
            Some(name) => name,
            None => name,
        };
        if name.starts_with(['-', '=']) {
            return Err(format!("bad flag syntax: {arg}"));
        }
        let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
        let Some(flag) = table::find(name) else {
            if name == "help" || name == "h" {
                return Ok(Parsed::Help);
            }
            return Err(format!("flag provided but not defined: -{name}"));
        };
        let value = match value {
            Some(value) => value,
            None if flag.kind.is_bool() => "true",
            None => rest.next().ok_or_else(|| format!("flag needs an argument: -{name}"))?,
        };
        given.put(flag, value).map_err(|why| match flag.kind {
            Kind::Bool => format!("invalid boolean value {value:?} for -{name}: {why}"),
            _ => format!("invalid value {value:?} for flag -{name}: {why}"),
        })?;
    }
    Ok(Parsed::Flags)
}

#[cfg(test)]
mod tests {
    use super::super::tests::read_line;
    use super::super::{Outcome, help};
    use super::*;

    #[test]
    fn all_spellings_of_a_flag_are_equal() {
        for line in ["--name a", "--name=a", "-name a", "-name=a", "--name b --name a"] {
            let mut given = Given::default();
            let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert!(matches!(parse(&args, &mut given), Ok(Parsed::Flags)));
            assert_eq!(given.text("name"), "a", "{line}");
        }
    }

    #[test]
    fn booleans() {
        for (line, value) in [("--auto-tls", true), ("--auto-tls=false", false), ("-auto-tls=1", true)] {
            let mut given = Given::default();
            assert!(parse(&[line.to_owned()], &mut given).is_ok());
            assert_eq!(given.bool("auto-tls"), value, "{line}");
        }
    }

    #[test]
    fn historic_flags_are_taken() {
        let args = ["--vv=3", "--snapshot", "--test.coverprofile=x"].map(str::to_owned);
        assert!(matches!(parse(&args, &mut Given::default()), Ok(Parsed::Flags)));
    }

    /// The texts of etcd 3.6.16, seen.
    #[test]
    fn complaints_are_those_of_etcd() {
        for (line, complaint) in [
            ("--heartbeat-interval=abc", r#"invalid value "abc" for flag -heartbeat-interval: parse error"#),
            ("--heartbeat-interval -5", r#"invalid value "-5" for flag -heartbeat-interval: parse error"#),
            ("--pre-vote=maybe", r#"invalid boolean value "maybe" for -pre-vote: parse error"#),
            (
                "--max-concurrent-streams=abc",
                concat!(
                    r#"invalid value "abc" for flag -max-concurrent-streams: "#,
                    r#"strconv.ParseUint: parsing "abc": invalid syntax"#
                ),
            ),
            (
                "--grpc-keepalive-min-time=5",
                r#"invalid value "5" for flag -grpc-keepalive-min-time: parse error"#,
            ),
            ("--name", "flag needs an argument: -name"),
            ("--=x", "bad flag syntax: --=x"),
            ("---x", "bad flag syntax: ---x"),
            ("--enable-v2", "flag provided but not defined: -enable-v2"),
            ("--proxy on", "flag provided but not defined: -proxy"),
            (
                "--listen-client-urls=foo",
                concat!(
                    r#"invalid value "foo" for flag -listen-client-urls: "#,
                    "URL scheme must be http, https, unix, or unixs: foo"
                ),
            ),
            (
                "--initial-cluster-state=foo",
                r#"invalid value "foo" for flag -initial-cluster-state: invalid value"#,
            ),
            (
                "--feature-gates=Foo=true",
                r#"invalid value "Foo=true" for flag -feature-gates: unrecognized feature gate: Foo"#,
            ),
            (
                "--v2-deprecation=not-yet",
                r#"invalid value "not-yet" for flag -v2-deprecation: invalid value "not-yet""#,
            ),
        ] {
            match read_line(line, &[]) {
                Outcome::Answer(answer) => assert_eq!(answer, help::complaint(complaint), "{line}"),
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn help_is_noticed_in_order() {
        assert!(matches!(read_line("--name a -h --nope", &[]), Outcome::Answer(answer) if answer.code == 0));
        assert!(matches!(read_line("--nope --help", &[]), Outcome::Answer(answer) if answer.code == 2));
    }
}
