//! What is fuzzed: one function a decoder, which takes any bytes and must come back soon, without a panic and
//! without much memory.
//!
//! Nothing here needs cargo-fuzz: plain `cargo test` runs every target over its corpus and over a few thousand
//! mutations of it, the same ones each time. `fuzz/fuzz_targets` hands the same functions to libFuzzer.
//!
//! A checksum keeps a fuzzer out of everything behind it. Targets that read stored bytes therefore begin with a sound
//! file, change bytes of it as the input says ([`input`]), and make the checksums right again ([`stored`]).

// Numbers and edits out of the input.
pub mod input;

// Random changes of an input, for runs without libFuzzer.
pub mod mutate;

// A small data directory, and right checksums in wrong files.
pub mod stored;

// A connection: HTTP/2, HPACK and gRPC.
pub mod grpc;

// Header blocks.
pub mod hpack;

// Requests of the KV service.
pub mod pb;

// Log entries.
pub mod command;

// The log's files, recovered and opened.
pub mod wal;

// Pages of the index tree.
pub mod index;

// Records and chunks of the history.
pub mod history;

// Meta pages, and everything an open reads.
pub mod meta;

/// One function to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Of its corpus folder and of its program in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Takes any bytes. A panic is a finding.
    pub run: fn(&[u8]),
    /// Sound inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Mutations that a plain test tries; a second or so of them.
    pub rounds: u64,
}

/// All of them.
pub const TARGETS: [Target; 8] = [
    Target { name: "grpc", run: grpc::target, seeds: grpc::seeds, rounds: 100_000 },
    Target { name: "hpack", run: hpack::target, seeds: hpack::seeds, rounds: 100_000 },
    Target { name: "pb", run: pb::target, seeds: pb::seeds, rounds: 100_000 },
    Target { name: "command", run: command::target, seeds: command::seeds, rounds: 100_000 },
    Target { name: "wal", run: wal::target, seeds: wal::seeds, rounds: 2_000 },
    Target { name: "index", run: index::target, seeds: index::seeds, rounds: 1_000 },
    Target { name: "history", run: history::target, seeds: history::seeds, rounds: 100_000 },
    Target { name: "meta", run: meta::target, seeds: meta::seeds, rounds: 2_000 },
];

/// The files of a target's corpus: its seeds, and mutants that lead further from them.
pub fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let seeds = (target.seeds)();
    let mut random = mutate::Random::new(0x5eed);
    let mutants: Vec<_> = seeds.iter().map(|seed| mutate::mutate(seed, &seeds, &mut random)).collect();
    let named = |kind: &str, inputs: Vec<Vec<u8>>| -> Vec<(String, Vec<u8>)> {
        inputs.into_iter().enumerate().map(|(n, input)| (format!("{kind}-{n:02}"), input)).collect()
    };
    let mut files = named("seed", seeds);
    files.extend(named("mutant", mutants));
    files
}
