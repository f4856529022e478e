//! See `fuzz/targets/src/meta.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::meta::target(data));
