//! Which route takes a request.
//!
//! [`table`] holds the routes: `host` and `path` on persistent radix trees, in the order of the
//! router mode. What a tree cannot say (methods, addresses, variables) is a [`Predicate`] that the
//! caller asks per candidate. [`mod@explain`] tells a person why a request went where it went.

mod entry;
pub mod explain;
mod host;
pub mod params;
mod path;
mod pattern;
pub mod place;
pub mod predicate;
mod radix;
mod request;
mod shape;
pub mod table;
#[cfg(test)]
mod table_tests;

pub use explain::{explain, ExplainRequest, Explanation};
pub use params::Params;
pub use predicate::Predicate;
pub use table::{RouteError, RouteKey, Table};
