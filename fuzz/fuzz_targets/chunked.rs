//! cargo-fuzz over chunked bodies; what must hold stands in `proto::fuzz::chunked`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| proto::fuzz::chunked(data));
