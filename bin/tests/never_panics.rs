//! Whatever a start is given, it gets an answer.

use std::io;

use kontiki::config::{self, Host};
use kontiki::datadir::Identity;
use kontiki::duration::GoDuration;
use kontiki::flags::{SECTIONS, Start};
use kontiki::url::Url;
use proptest::prelude::*;

fn load(args: &[String], env: &[(String, String)], file: &[u8]) {
    let read_file = |_: &str| -> io::Result<Vec<u8>> { Ok(file.to_vec()) };
    let start = Start { program: "kontiki", args, env, read_file: &read_file };
    let _ = config::load(&start, &Host::default());
}

fn flag_name() -> impl Strategy<Value = &'static str> {
    let names: Vec<&str> =
        SECTIONS.iter().flat_map(|(_, flags)| flags.iter().map(|flag| flag.name)).collect();
    prop::sample::select(names)
}

/// Values near what flags take.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,20}",
        "-?[0-9]{1,25}",
        "[0-9]{1,5}(ns|us|ms|s|m|h)",
        "(http|https|unix)://[a-z0-9.:\\[\\]%@/]{0,12}(,http://127.0.0.1:[0-9]{1,5})?",
        "[a-z=,.:/]{0,20}",
        Just("true".to_owned()),
    ]
}

proptest! {
    #[test]
    fn durations(text in "[-+0-9.numshµ]{0,12}|.{0,12}") {
        if let Ok(span) = GoDuration::parse(&text) {
            prop_assert_eq!(GoDuration::parse(&span.to_string()), Ok(span));
        }
    }

    #[test]
    fn urls(text in "(http|unix)?:?/?/?[a-z0-9.:\\[\\]%@/?#é]{0,16}|.{0,20}") {
        if let Ok(url) = Url::parse(&text) {
            prop_assert_eq!(Url::parse(url.as_str()), Ok(url.clone()));
            let _ = (url.check_bind(), url.check_host(), url.address(), url.host(), url.port());
        }
    }

    #[test]
    fn command_lines(flags in prop::collection::vec((flag_name(), value()), 0..5), stray in ".{0,8}") {
        let mut args: Vec<String> = flags.iter().map(|(name, value)| format!("--{name}={value}")).collect();
        args.push(stray);
        load(&args, &[], b"");
        load(&args[..args.len() - 1], &[], b"");
    }

    #[test]
    fn variables(pairs in prop::collection::vec((flag_name(), value()), 0..5)) {
        let env: Vec<_> =
            pairs.into_iter().map(|(name, value)| (kontiki::flags::variable(name), value)).collect();
        load(&[], &env, b"name: a");
    }

    #[test]
    fn files(
        pairs in prop::collection::vec((flag_name(), value()), 0..5),
        noise in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let args = ["--config-file=c.yml".to_owned()];
        let yaml: String = pairs.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        load(&args, &[], yaml.as_bytes());
        load(&args, &[], &noise);
    }

    #[test]
    fn identities(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Identity::decode(&bytes);
    }
}
