//! cargo-fuzz over gRPC bodies and fields; what must hold stands in `proto::fuzz::grpc`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| proto::fuzz::grpc(data));
