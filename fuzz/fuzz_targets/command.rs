//! See `fuzz/targets/src/command.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::command::target(data));
