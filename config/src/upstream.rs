//! `[[upstreams]]`: groups of endpoints, and how one of them is chosen and spoken to.

use std::time::Duration;

use crate::node::Node;
use crate::place::Place;
use crate::route::Timeouts;

/// A group of endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Its id; `route:<id>` or `service:<id>` where it is written inside one.
    pub id: String,
    /// Its name for people; empty where none is given.
    pub name: String,
    /// `type`: how an endpoint is chosen.
    pub kind: Kind,
    /// Its endpoints; never empty.
    pub nodes: Vec<Node>,
    /// Tries after the first; `None` is one per further node.
    pub retries: Option<u32>,
    /// No further try after so long; zero is no bound.
    pub retry_timeout: Duration,
    /// Timeouts toward its endpoints (a route's win).
    pub timeout: Timeouts,
    /// What is spoken to its endpoints.
    pub scheme: Scheme,
    /// Which `Host` they see.
    pub pass_host: PassHost,
    /// The `Host` of [`PassHost::Rewrite`].
    pub upstream_host: Option<String>,
    /// `keepalive_pool`: connections kept open toward its endpoints.
    pub keepalive: Keepalive,
    /// Where it stands.
    pub place: Place,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Weighted, smooth, in turn.
    #[default]
    RoundRobin,
}

/// What is spoken to endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP/1.1 in the clear.
    #[default]
    Http,
}

/// Which `Host` endpoints see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PassHost {
    /// The client's.
    #[default]
    Pass,
    /// The node's own.
    Node,
    /// What `upstream_host` says.
    Rewrite,
}

/// `keepalive_pool`: connections kept open toward endpoints, per core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// How many idle ones are kept.
    pub size: usize,
    /// How long an idle one is kept.
    pub idle_timeout: Duration,
    /// Requests on one connection; 0 is unlimited.
    pub requests: u64,
}

impl Default for Keepalive {
    fn default() -> Keepalive {
        Keepalive { size: 320, idle_timeout: Duration::from_secs(60), requests: 1000 }
    }
}
