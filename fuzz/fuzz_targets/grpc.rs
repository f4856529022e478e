//! See `fuzz/targets/src/grpc.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::grpc::target(data));
