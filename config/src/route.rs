//! `[[routes]]`: which requests, and what is done with them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::expr::Expr;
use crate::place::Place;
use crate::plugin::Plugins;
use crate::upstream::Upstream;

/// Which requests, and what is done with them.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its id: `id`, else `name`, else made from what it matches (see [`generated_id`](crate::names)).
    pub id: String,
    /// Its name for people; empty where none is given.
    pub name: String,
    /// Paths: exact, or a prefix with `*` at the end; never empty.
    pub uris: Vec<String>,
    /// Hosts, lower case: exact, `*.x`, `.x`, each with or without `:port`; empty is any (or the service's).
    pub hosts: Vec<String>,
    /// Methods, upper case; empty is any.
    pub methods: Vec<String>,
    /// Client networks; empty is any.
    pub remote_addrs: Vec<IpNet>,
    /// Further conditions.
    pub vars: Option<Expr>,
    /// Among routes of one path, the higher comes first.
    pub priority: i64,
    /// 1 in use, 0 taken out.
    pub status: u8,
    /// The service whose fields fill what is lacking; it exists.
    pub service_id: Option<String>,
    /// Where requests go.
    pub upstream: Option<UpstreamRef>,
    /// Plugins that fill what the route lacks; it exists.
    pub plugin_config_id: Option<String>,
    /// What is done on the way.
    pub plugins: Plugins,
    /// Timeouts toward the endpoint; these win over the upstream's.
    pub timeout: Timeouts,
    /// Whether an Upgrade passes.
    pub enable_websocket: Option<bool>,
    /// The operator's own marks.
    pub labels: BTreeMap<String, String>,
    /// Where it stands.
    pub place: Place,
}

/// Which upstream.
#[derive(Clone, Debug, PartialEq)]
pub enum UpstreamRef {
    /// Written here.
    Inline(Arc<Upstream>),
    /// The id of one of [`crate::Document::upstreams`]; it exists.
    Id(String),
}

/// Timeouts toward an endpoint; `None` is not said here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect.
    pub connect: Option<Duration>,
    /// Between two writes.
    pub send: Option<Duration>,
    /// Between two reads.
    pub read: Option<Duration>,
}
