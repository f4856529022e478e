//! See `fuzz/targets/src/pb.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::pb::target(data));
