//! cargo-fuzz over message heads; what must hold stands in `proto::fuzz::head`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| proto::fuzz::head(data));
