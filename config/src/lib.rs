//! What the operator writes: text in, a checked [`Document`] or every problem of it out.
//!
//! The way of a document: `load` turns files into one tree of [`Value`]s with
//! places (TOML, includes, `${...}`); one file per resource reads its part of the
//! tree through a [`Reader`]; `check` looks at the whole. Each pushes what it finds
//! into one [`Report`] and goes on, so that one run shows every mistake.
//!
//! ```
//! let text = r#"
//! [server]
//! listen = ":8080"
//!
//! [[routes]]
//! upstream = ["127.0.0.1:3000", "127.0.0.1:3001"]
//! "#;
//! let (document, report) = config::parse_str("ringway.toml", text, &config::MapEnv::default());
//! assert!(report.problems().is_empty());
//! assert_eq!(document.expect("a complete gateway").routes[0].uris, ["/*"]);
//! ```
//!
//! No sockets, no clocks, and no files but through [`Env`]. Compiling to what runs
//! is the engine's; the settings of plugins are the `plugins` crate's.
#![forbid(unsafe_code)]

pub mod balance;
mod check;
pub mod client_tls;
pub mod cores;
pub mod diff;
pub mod document;
pub mod env;
pub mod expr;
pub mod fuzz;
mod identity;
pub mod listener;
mod load;
pub mod log;
pub mod names;
pub mod node;
mod parse;
pub mod place;
pub mod plugin;
pub mod reader;
mod render;
pub mod report;
mod resolve;
pub mod route;
pub mod schema;
pub mod server;
pub mod service;
mod shadow;
pub mod ssl;
#[cfg(test)]
mod tests;
pub mod units;
pub mod upstream;
pub mod value;
pub mod vars;
mod wording;
pub mod written;

use std::path::Path;

pub use diff::Diff;
pub use document::*;
pub use env::{Env, MapEnv, ProcessEnv};
pub use place::{Place, Source};
pub use reader::{Reader, TimeUnit};
pub use report::{Problem, Report, Severity};
pub use schema::schema;
pub use upstream::Kind as UpstreamKind;
pub use value::{Key, Kind, Value};

/// A check of what could be read of a document with errors.
pub type Also<'a> = &'a dyn Fn(&Document, &mut Report);

/// Reads a file, and all that it includes, and checks it.
///
/// The document is `None` when any problem is an error; warnings stand in the
/// report either way.
pub fn parse_file(path: &Path, env: &dyn Env) -> (Option<Document>, Report) {
    parse_file_with(path, env, &|_, _| ())
}

/// [`parse_file`] for who can check more than this crate does.
///
/// Where the document has errors, `also` gets what could be read of it, so that its problems stand
/// in the same report; see [`parse_str_with`].
pub fn parse_file_with(path: &Path, env: &dyn Env, also: Also<'_>) -> (Option<Document>, Report) {
    let mut report = Report::new();
    let tree = load::file(path, env, &mut report);
    let document = tree.and_then(|tree| parse::document(&tree, env, also, &mut report));
    (document, report)
}

/// Checks a text as if it were a file of this name: what it includes is looked for beside that name.
pub fn parse_str(name: &str, text: &str, env: &dyn Env) -> (Option<Document>, Report) {
    parse_str_with(name, text, env, &|_, _| ())
}

/// [`parse_str`] for who can check more than this crate does.
///
/// Where the document has errors, `also` gets what could be read of it: the resources that are
/// sound, and the plugins of those that are not as plugin configs without an id. A document without
/// errors is returned, and `also` is not called: its caller checks the rest as it uses it.
pub fn parse_str_with(name: &str, text: &str, env: &dyn Env, also: Also<'_>) -> (Option<Document>, Report) {
    let mut report = Report::new();
    let tree = load::text_of(name, text.to_owned(), env, &mut report);
    let document = parse::document(&tree, env, also, &mut report);
    (document, report)
}
