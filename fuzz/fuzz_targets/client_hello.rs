//! cargo-fuzz over ClientHello peeking; what must hold stands in `proto::fuzz::client_hello`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| proto::fuzz::client_hello(data));
