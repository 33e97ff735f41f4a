//! The resources as they are written: upstreams, services, routes and sets of plugins.
//!
//! Settings of the gateway, and the forms that both use, stand one file up.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::{
    BreakerForm, Checks, ConcurrencyLimitForm, DiscoveryArgs, DiscoveryType, Duration, ErrorResponse, HashOn,
    Hedge, Id, OutlierForm, Plugins, Queue, Ratio, Retry, ServerLine, StickyForm, Vars,
};

/// A group of endpoints.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Upstream {
    /// Its id; the name where none is given. Not in an upstream inside a route or service.
    pub id: Option<Id>,
    /// Its name for people.
    #[schemars(length(min = 1, max = 256))]
    pub name: Option<String>,
    /// What it is for.
    #[schemars(length(max = 256))]
    pub desc: Option<String>,
    /// The operator's own marks.
    pub labels: Option<BTreeMap<String, String>>,
    /// How an endpoint is chosen.
    #[schemars(extend("default" = "roundrobin"))]
    pub r#type: Option<BalanceType>,
    /// Endpoints: a list of tables, or a table of weights by "host:port".
    pub nodes: Option<Nodes>,
    /// Endpoints as lines.
    pub servers: Option<Vec<ServerLine>>,
    /// Tries after the first; one per further node by default.
    #[schemars(range(max = 1000))]
    pub retries: Option<u32>,
    /// No further try after so long; 0 is no bound.
    #[schemars(extend("default" = 0))]
    pub retry_timeout: Option<Duration>,
    /// Timeouts toward its endpoints.
    pub timeout: Option<Timeout>,
    /// What is spoken to its endpoints.
    #[schemars(extend("default" = "http"))]
    pub scheme: Option<UpstreamScheme>,
    /// How endpoints are verified under scheme = "https".
    pub tls: Option<UpstreamTls>,
    /// Which Host they see.
    #[schemars(extend("default" = "pass"))]
    pub pass_host: Option<PassHost>,
    /// The Host of pass_host = "rewrite".
    pub upstream_host: Option<String>,
    /// Connections kept open.
    pub keepalive_pool: Option<KeepalivePool>,
    /// What the key of chash and maglev is taken from.
    #[schemars(extend("default" = "vars"))]
    pub hash_on: Option<HashOn>,
    /// A variable, a header, a cookie, or a text with $variables, by hash_on.
    pub key: Option<String>,
    /// By what a node is known to be well.
    pub checks: Option<Checks>,
    /// With a smaller share of well nodes than this all are used.
    #[schemars(extend("default" = 0))]
    pub panic_threshold: Option<Ratio>,
    /// A cookie that brings a client back to its node.
    pub sticky: Option<StickyForm>,
    /// How long a node takes to its full share once it is back, unless it says so itself.
    #[schemars(extend("default" = 0))]
    pub slow_start: Option<Duration>,
    /// The most requests at once for each node that does not say so itself, over all cores; 0 is no bound.
    #[schemars(range(max = 1_000_000))]
    pub max_conns: Option<u32>,
    /// Where requests wait when all usable nodes are at max_conns.
    pub queue: Option<Queue>,
    /// When a request goes to another node.
    pub retry: Option<Retry>,
    /// A second try beside a slow first one.
    pub hedge: Option<Hedge>,
    /// Nodes whose error ratio stands out rest for a while.
    pub outlier: Option<OutlierForm>,
    /// A circuit per node.
    pub breaker: Option<BreakerForm>,
    /// How many requests it gets at once, found by its latency.
    pub concurrency_limit: Option<ConcurrencyLimitForm>,
    /// Who knows the nodes of service_name.
    pub discovery_type: Option<DiscoveryType>,
    /// The name whose records are the nodes: "app.local", "app.local:8080", "_http._tcp.app.local".
    pub service_name: Option<String>,
    /// How it is asked for.
    pub discovery_args: Option<DiscoveryArgs>,
}

/// How an endpoint is chosen.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum BalanceType {
    /// Weighted, smooth, in turn.
    #[schemars(rename = "roundrobin")]
    RoundRobin,
    /// By a key's place on a ketama ring.
    Chash,
    /// The fewest requests under way by weight.
    LeastConn,
    /// The lowest peak latency times requests under way, of two drawn.
    Ewma,
    /// The fewest requests under way by weight, of two drawn.
    P2c,
    /// By a key's place in a Maglev table.
    Maglev,
    /// Drawn by weight.
    Random,
    /// By the client's address.
    IpHash,
}

/// What is spoken to endpoints.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum UpstreamScheme {
    /// HTTP/1.1 in the clear.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
}

/// How endpoints are verified, and as whom the gateway comes.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct UpstreamTls {
    /// Whether certificates are checked.
    #[schemars(extend("default" = true))]
    pub verify: Option<bool>,
    /// Authorities that are believed, as PEM; the system's by default.
    pub ca: Option<String>,
    /// The gateway's own certificate, as PEM.
    pub client_cert: Option<String>,
    /// Its key, as PEM.
    pub client_key: Option<String>,
    /// The name asked for and checked; the node's by default, or upstream_host.
    pub server_name: Option<String>,
}

/// Which Host endpoints see.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum PassHost {
    /// The client's.
    Pass,
    /// The node's own.
    Node,
    /// What `upstream_host` says.
    Rewrite,
}

/// Endpoints: a list of tables, or a table of weights by "host:port".
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum Nodes {
    /// APISIX's array form.
    List(Vec<NodeForm>),
    /// APISIX's map form.
    Weights(BTreeMap<String, u32>),
}

/// A node as a table or as a line.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum NodeForm {
    /// A table.
    Table(Node),
    /// A line.
    Line(ServerLine),
}

/// One endpoint.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Node {
    /// A host name, an IP address, or "unix:/path".
    pub host: String,
    /// Its port; 80 by default.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<u16>,
    /// Its share; 0 gets nothing unless all that are usable have 0.
    #[schemars(range(max = 1_000_000), extend("default" = 1))]
    pub weight: Option<u32>,
    /// Its tier: a lower one is used only when all above have failed or are down.
    #[schemars(extend("default" = 0))]
    pub priority: Option<i32>,
    /// One tier below all that are no backup.
    #[schemars(extend("default" = false))]
    pub backup: Option<bool>,
    /// Gets nothing.
    #[schemars(extend("default" = false))]
    pub down: Option<bool>,
    /// Failures in a row after which it rests.
    pub max_fails: Option<u32>,
    /// How long it rests.
    pub fail_timeout: Option<Duration>,
    /// Gets no new sessions; sticky ones stay.
    #[schemars(extend("default" = false))]
    pub drain: Option<bool>,
    /// The most requests at once, over all cores; 0 is no bound. The upstream's by default.
    #[schemars(range(max = 1_000_000))]
    pub max_conns: Option<u32>,
    /// How long it takes to its full share once it is back. The upstream's by default.
    pub slow_start: Option<Duration>,
    /// The operator's own marks.
    pub metadata: Option<serde_json::Value>,
}

/// Connections kept open toward endpoints, per core.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct KeepalivePool {
    /// How many idle ones are kept.
    #[schemars(range(max = 1_000_000), extend("default" = 320))]
    pub size: Option<u32>,
    /// How long an idle one is kept.
    #[schemars(extend("default" = "60s"))]
    pub idle_timeout: Option<Duration>,
    /// Requests on one connection; 0 is unlimited.
    #[schemars(extend("default" = 1000))]
    pub requests: Option<u64>,
}

/// Timeouts toward an endpoint, each longer than zero.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Timeout {
    /// To connect.
    #[schemars(extend("default" = "60s"))]
    pub connect: Option<Duration>,
    /// Between two writes.
    #[schemars(extend("default" = "60s"))]
    pub send: Option<Duration>,
    /// Between two reads.
    #[schemars(extend("default" = "60s"))]
    pub read: Option<Duration>,
}

/// An upstream, its name, an address, or a list of addresses.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(clippy::large_enum_variant, reason = "no value of it is ever made")]
pub enum UpstreamForm {
    /// Written here.
    Table(Upstream),
    /// A name or an address.
    Name(String),
    /// Addresses.
    Lines(Vec<ServerLine>),
}

/// What several routes have in common; a route's own fields win.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Service {
    /// Its id; the name where none is given.
    pub id: Option<Id>,
    /// Its name for people.
    #[schemars(length(min = 1, max = 256))]
    pub name: Option<String>,
    /// What it is for.
    #[schemars(length(max = 256))]
    pub desc: Option<String>,
    /// The operator's own marks.
    pub labels: Option<BTreeMap<String, String>>,
    /// The host of routes that have none.
    pub host: Option<String>,
    /// The hosts of routes that have none.
    pub hosts: Option<Vec<String>>,
    /// Where requests go.
    pub upstream: Option<UpstreamForm>,
    /// The id of the upstream.
    pub upstream_id: Option<Id>,
    /// "http://" and the name of an upstream or an address.
    pub proxy_pass: Option<String>,
    /// Plugins that the route does not have itself.
    pub plugins: Option<Plugins>,
    /// Whether an Upgrade passes.
    pub enable_websocket: Option<bool>,
}

/// Which requests, and what is done with them.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Route {
    /// Its id; the name where none is given, else made from what it matches.
    pub id: Option<Id>,
    /// Its name for people.
    #[schemars(length(min = 1, max = 256))]
    pub name: Option<String>,
    /// What it is for.
    #[schemars(length(max = 256))]
    pub desc: Option<String>,
    /// The operator's own marks.
    pub labels: Option<BTreeMap<String, String>>,
    /// A path, exact or a prefix with `*` at its end.
    #[schemars(extend("default" = "/*"))]
    pub uri: Option<String>,
    /// Several paths.
    pub uris: Option<Vec<String>>,
    /// A host: example.com, *.example.com (also .example.com), each with or without :port.
    pub host: Option<String>,
    /// Several hosts.
    pub hosts: Option<Vec<String>>,
    /// A client's address or network.
    pub remote_addr: Option<String>,
    /// Several of them.
    pub remote_addrs: Option<Vec<String>>,
    /// Methods; any by default.
    pub methods: Option<Vec<String>>,
    /// Further conditions.
    pub vars: Option<Vars>,
    /// Among routes of one path, the higher comes first.
    #[schemars(extend("default" = 0))]
    pub priority: Option<i64>,
    /// 0 takes it out.
    #[schemars(range(max = 1), extend("default" = 1))]
    pub status: Option<u8>,
    /// Where requests go.
    pub upstream: Option<UpstreamForm>,
    /// The id of the upstream.
    pub upstream_id: Option<Id>,
    /// "http://" and the name of an upstream or an address.
    pub proxy_pass: Option<String>,
    /// The service whose fields fill what is lacking.
    pub service_id: Option<Id>,
    /// Plugins that fill what is lacking.
    pub plugin_config_id: Option<Id>,
    /// What is done on the way.
    pub plugins: Option<Plugins>,
    /// Timeouts toward the endpoint; these win over the upstream's.
    pub timeout: Option<Timeout>,
    /// Whether an Upgrade passes.
    pub enable_websocket: Option<bool>,
}

/// Plugins that several routes share.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PluginConfig {
    /// Its id; the name where none is given.
    pub id: Option<Id>,
    /// Its name for people.
    #[schemars(length(min = 1, max = 256))]
    pub name: Option<String>,
    /// What it is for.
    #[schemars(length(max = 256))]
    pub desc: Option<String>,
    /// The operator's own marks.
    pub labels: Option<BTreeMap<String, String>>,
    /// The plugins.
    pub plugins: Plugins,
}

/// Plugins for every request, also those without a route; a plugin stands in one rule only.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct GlobalRule {
    /// Its id; the name where none is given, else made from its plugins' names.
    pub id: Option<Id>,
    /// Its name for people.
    #[schemars(length(min = 1, max = 256))]
    pub name: Option<String>,
    /// What it is for.
    #[schemars(length(max = 256))]
    pub desc: Option<String>,
    /// The operator's own marks.
    pub labels: Option<BTreeMap<String, String>>,
    /// The plugins.
    pub plugins: Plugins,
}

/// `_meta`: what holds for any plugin.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PluginMeta {
    /// Not run.
    #[schemars(extend("default" = false))]
    pub disable: Option<bool>,
    /// Its place in the order, instead of the plugin's own.
    pub priority: Option<i32>,
    /// Only for requests for which this holds.
    pub filter: Option<Vars>,
    /// The body of its refusals.
    pub error_response: Option<ErrorResponse>,
}
