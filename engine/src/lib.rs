//! The data plane: one reactor per pinned core, and the life of a request.
//!
//! In reading order: `reactor` (a core's thread and ring), `worker` (what a
//! core owns), `channel` (control's commands), `listen` (sockets, accepting),
//! `http1` (a connection), `proxy` (an exchange, step by step), `upstream`
//! (pools and connects), `tls` and `transport` (what bytes travel over), `plan` (the compiled configuration), `observe`
//! (counters and the access log); below them `buffer`, `deadline`, `clock`,
//! `sys`. Nothing here knows tokio; nothing here decides what balancer, proto
//! or plugins decide.

pub mod buffer;
pub mod channel;
pub mod clock;
pub mod cores;
pub mod deadline;
pub mod http1;
pub mod listen;
pub mod observe;
pub mod plan;
pub mod proxy;
pub mod reactor;
mod start;
pub mod sys;
pub mod tls;
pub mod transport;
pub mod upstream;
pub mod worker;

pub use channel::{Command, Report};
pub use start::{Engine, Settings, StartError};
