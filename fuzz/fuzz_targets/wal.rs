//! See `fuzz/targets/src/wal.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::wal::target(data));
