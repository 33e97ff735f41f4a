//! cargo-fuzz over PROXY headers; what must hold stands in `proto::fuzz::proxy_protocol`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| proto::fuzz::proxy_protocol(data));
