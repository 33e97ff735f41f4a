//! cargo-fuzz over request targets and paths; what must hold stands in `proto::fuzz::target`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| proto::fuzz::target(data));
