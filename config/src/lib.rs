//! What the operator writes: text in, a checked [`Document`] or every problem of it out.
//!
//! The way of a document: `load` turns files into one tree of [`Value`]s with
//! places (TOML, includes, `${...}`); one file per resource reads its part of the
//! tree through a [`Reader`]; `check` looks at the whole. Each pushes what it finds
//! into one [`Report`] and goes on, so that one run shows every mistake.
//!
//! No sockets, no clocks, and no files but through [`Env`]. Compiling to what runs
//! is the engine's; the settings of plugins are the `plugins` crate's.
#![forbid(unsafe_code)]

pub mod cores;
pub mod document;
pub mod listener;
pub mod log;
pub mod names;
pub mod node;
pub mod place;
pub mod plugin;
pub mod reader;
pub mod report;
pub mod route;
pub mod server;
pub mod service;
pub mod units;
pub mod upstream;
pub mod value;
pub mod vars;
pub mod expr;

pub use document::*;
pub use place::{Place, Source};
pub use reader::{Reader, TimeUnit};
pub use report::{Problem, Report, Severity};
pub use value::{Key, Kind, Value};
