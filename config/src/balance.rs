//! How an upstream chooses, checks, protects and repeats: the parts of `[[upstreams]]` beyond its addresses.
//!
//! A file for each of them, with its type, its defaults and its reading, so that
//! [`crate::upstream`] stays the list of an upstream's fields. Nothing here decides
//! anything about a request: that is the balancer's.

mod checks;
mod discovery;
mod forms;
mod hash;
mod protection;
mod retry;
mod sticky;

pub use checks::{ActiveCheck, Checks, PassiveCheck, ProbeKind};
pub use discovery::Discovery;
pub use hash::HashOn;
pub use protection::{Breaker, ConcurrencyLimit, Outlier, Queue};
pub use retry::{Backoff, Hedge, Retry};
pub use sticky::{SameSite, Sticky};

pub(crate) use discovery::read as read_discovery;

use crate::node::CONNS_MAX;
use crate::reader::Reader;
use crate::upstream::{Kind, Upstream};

/// Reads these parts into an upstream. `kind` is its type, `None` where that is wrong.
pub(crate) fn read(upstream: &mut Upstream, kind: Option<Kind>, reader: &mut Reader<'_, '_>) {
    upstream.hash_on = hash::read(kind, reader);
    upstream.checks = reader.opt_value("checks").map(|value| Checks::read(value, reader.report()));
    upstream.panic_threshold = forms::ratio(reader, "panic_threshold").unwrap_or(0.0);
    upstream.sticky = forms::switched(reader, "sticky", Sticky::read);
    upstream.slow_start = reader.opt_duration("slow_start").unwrap_or_default();
    let max_conns = reader.range("max_conns", 0..=CONNS_MAX).map(|most| most as u32);
    upstream.bound_nodes(max_conns);
    upstream.queue = reader.opt_value("queue").map(|value| Queue::read(value, reader.report()));
    if let Some(value) = reader.opt_value("retry") {
        upstream.retry = Retry::read(value, reader.report());
    }
    upstream.hedge = reader.opt_value("hedge").and_then(|value| Hedge::read(value, reader.report()));
    upstream.outlier = forms::switched(reader, "outlier", Outlier::read);
    upstream.breaker = forms::switched(reader, "breaker", Breaker::read);
    upstream.concurrency_limit = forms::switched(reader, "concurrency_limit", ConcurrencyLimit::read);
    let bounded = upstream.max_conns.is_some() || upstream.nodes.iter().any(|node| node.max_conns.is_some());
    // Nodes that are wrong were dropped, and the bound may have stood in one of them.
    if upstream.queue.is_some() && !bounded && !reader.has_errors() {
        let place = reader.value_place("queue");
        let help = "write max_conns = 100, or max_conns=100 in a server line";
        reader.report().warning(place, "`queue` has no effect without `max_conns`", help);
    }
}
