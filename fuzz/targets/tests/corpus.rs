//! Every target over its corpus and over mutations of it: no panic, no input that takes long, no memory without a bound.
#![allow(clippy::disallowed_methods, reason = "the corpus is in files, and slowness is a finding")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use targets::mutate::{Random, mutate};
use targets::{TARGETS, Target, corpus};

/// No input may take longer, on a busy machine too.
const TIME_MAX: Duration = Duration::from_secs(3);

/// Address space of the process: a decoder that believes a length of gigabytes ends it.
const ADDRESS_SPACE_BYTES_MAX: u64 = 3 << 30;

fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target.name)
}

fn inputs(target: &Target) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Runs one input; a panic is told with the bytes that led to it.
fn run(target: &Target, input: &[u8], what: &str) {
    let start = Instant::now();
    let outcome = std::panic::catch_unwind(|| (target.run)(input));
    assert!(outcome.is_ok(), "{} panicked on {what}: b\"{}\"", target.name, input.escape_ascii());
    let time = start.elapsed();
    assert!(time < TIME_MAX, "{} took {time:?} for {what}: b\"{}\"", target.name, input.escape_ascii());
}

fn fuzz(name: &str) {
    let limit = Rlimit { current: Some(ADDRESS_SPACE_BYTES_MAX), ..getrlimit(Resource::As) };
    setrlimit(Resource::As, limit).unwrap();
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let inputs = inputs(target);
    for (n, input) in inputs.iter().enumerate() {
        run(target, input, &format!("file {n} of the corpus"));
    }
    let mut random = Random::new(1);
    for round in 0..target.rounds {
        let input = mutate(&inputs[random.below(inputs.len())], &inputs, &mut random);
        run(target, &input, &format!("mutation {round}"));
    }
}

macro_rules! fuzzed {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                fuzz(stringify!($name));
            }
        )*

        #[test]
        fn all_targets_are_fuzzed() {
            let names = TARGETS.map(|target| target.name);
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

fuzzed!(grpc hpack pb command wal index history meta);

#[test]
fn the_corpus_is_what_the_targets_say() {
    for target in &TARGETS {
        for (name, bytes) in corpus(target) {
            let found = std::fs::read(folder(target).join(&name)).unwrap_or_default();
            assert!(found == bytes, "{}/{name} is old: cargo run -p kontiki-fuzz-targets", target.name);
        }
    }
}
