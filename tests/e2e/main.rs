//! End-to-end tests over the real binary, one module per feature, cases as data where possible.
//!
//! One binary, since each test binary links for seconds and the harness would be compiled into each. The driver is
//! `RINGWAY_TEST_DRIVER` (`auto` or `epoll`); `RINGWAY_FULL=1` runs the long cases in full; `RINGWAY_KEEP=1` keeps the
//! temporary folders.
#![forbid(unsafe_code)]
mod aborts;
mod balancing;
mod bodies;
mod command;
mod connections;
mod control_api;
mod discovery;
mod drivers;
mod edges;
mod framing;
mod headers;
mod healing;
mod lifecycle;
mod limits;
mod manual;
mod mixture;
mod neighbours;
mod observing;
mod plugins;
mod reload;
mod retries;
mod routing;
mod scale;
mod targets;
mod timeouts;
mod tls;
mod tls_upstreams;
mod traffic;
mod upgrade;
mod upstreams;
