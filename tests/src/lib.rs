//! The harness of the end-to-end tests: a gateway to start, clients and origins that speak exact bytes.
//!
//! It has its own small HTTP/1 reader and writer: a test that read the gateway's answers with the gateway's own codec
//! would share its mistakes. Everything has a deadline, every port comes from `bind(0)`, nothing waits a fixed time.
//! The cases themselves stand in `e2e/`, as data where possible.
#![forbid(unsafe_code)]

pub mod client;
pub mod fleet;
pub mod gateway;
pub mod message;
pub mod names;
pub mod neighbour;
pub mod origin;
pub mod pattern;
pub mod process;
pub mod table;
pub mod tls;
pub mod wait;
pub mod websocket;
pub mod wire;

pub use client::{get, request, Client};
pub use gateway::Gateway;
pub use message::{Request, Response};
pub use origin::{ok, Origin};
pub use wait::wait_for;
