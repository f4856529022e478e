//! See `fuzz/targets/src/index.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::index::target(data));
