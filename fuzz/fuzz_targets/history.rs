//! See `fuzz/targets/src/history.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::history::target(data));
