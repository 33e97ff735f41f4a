//! What the data plane tells about itself: counters that one core writes and
//! anyone may read (`stats`), and the access log (`log`, `line`).

pub mod line;
pub mod log;
pub mod stats;

pub use log::{AccessLog, AccessWriter};
pub use stats::{CoreStats, RouteStats};
