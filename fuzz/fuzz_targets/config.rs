//! cargo-fuzz over the operator's document; what must hold stands in `config::fuzz::document`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| config::fuzz::document(data));
