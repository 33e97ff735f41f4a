//! What the RFCs say about HTTP messages, as plain code without sockets, files or clocks.
//!
//! Everything here is a function of the bytes it is given. The rules are stricter than the RFCs
//! where two parties could read the same bytes differently: what a lenient neighbour accepts and
//! we do not can only cost one refused request; the other way round it smuggles one.
//!
//! In reading order: [`head`] (the offset table and its parser), [`framing`] (how long is this
//! body), [`chunked`], [`target`], [`hop`] (what a gateway takes off and puts on), then the small
//! ones. How a connection begins, before there is HTTP: [`detect`], [`proxy_protocol`],
//! [`client_hello`]. On top of HTTP: [`grpc`]. [`fuzz`] holds the invariants of all of them as
//! plain functions.
//!
//! `httparse` is no part of the parser: it tolerates bare LF, a NUL-free but otherwise wide set of
//! value bytes and wants its header array initialised per call. It serves as the oracle in
//! [`fuzz`]: whatever we accept, it must accept and read the same.

#![forbid(unsafe_code)]

pub mod chunked;
pub mod client_hello;
pub mod cookie;
mod crc32c;
pub mod date;
pub mod detect;
pub mod framing;
pub mod fuzz;
pub mod grpc;
pub mod head;
pub mod hop;
pub mod proxy_protocol;
#[cfg(test)]
mod seeded;
mod syntax;
pub mod target;
pub mod websocket;
