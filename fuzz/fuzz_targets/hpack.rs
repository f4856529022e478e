//! See `fuzz/targets/src/hpack.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::hpack::target(data));
