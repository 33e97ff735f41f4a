//! cargo-fuzz over how connections begin; what must hold stands in `proto::fuzz::detect`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| proto::fuzz::detect(data));
