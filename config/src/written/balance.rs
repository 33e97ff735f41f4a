//! The parts of an upstream as they are written that say how it chooses, checks, protects and repeats.

use schemars::JsonSchema;

use super::{Duration, Ratio, RetryOn, Statuses};

/// What the key of chash and maglev is taken from.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum HashOn {
    /// One variable: remote_addr, uri, arg_x.
    Vars,
    /// A request header.
    Header,
    /// A cookie.
    Cookie,
    /// Who was authenticated.
    Consumer,
    /// A text such as $request_uri$remote_addr.
    VarsCombinations,
}

/// By what a node is known to be well; either or both.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Checks {
    /// Probes.
    pub active: Option<ActiveCheck>,
    /// What live traffic shows.
    pub passive: Option<PassiveCheck>,
}

/// What a probe is.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum ProbeType {
    /// A GET over HTTP/1.1.
    Http,
    /// The same over TLS.
    Https,
    /// A connection that stands.
    Tcp,
    /// grpc.health.v1.Health/Check over HTTP/2 in the clear.
    Grpc,
}

/// Probes.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ActiveCheck {
    /// What a probe is.
    #[schemars(extend("default" = "http"))]
    pub r#type: Option<ProbeType>,
    /// How long one may take.
    #[schemars(extend("default" = 1))]
    pub timeout: Option<Duration>,
    /// How many run at once for this upstream.
    #[schemars(range(min = 1, max = 1000), extend("default" = 10))]
    pub concurrency: Option<u32>,
    /// Path and query of the GET.
    #[schemars(extend("default" = "/"))]
    pub http_path: Option<String>,
    /// Its Host; the node's own by default.
    pub host: Option<String>,
    /// Another port than the node's.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<u16>,
    /// Further fields: "Name: value".
    #[schemars(length(max = 50))]
    pub req_headers: Option<Vec<String>>,
    /// Whether the certificate of an https node must be valid.
    #[schemars(extend("default" = true))]
    pub https_verify_certificate: Option<bool>,
    /// The service that a gRPC probe asks for; the whole server by default.
    pub grpc_service: Option<String>,
    /// Of a node that is well.
    pub healthy: Option<ActiveHealthy>,
    /// Of a node that is not.
    pub unhealthy: Option<ActiveUnhealthy>,
}

/// When a probed node is well.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ActiveHealthy {
    /// Between probes of a healthy node, at least 10ms; 0 sends none.
    #[schemars(extend("default" = 1))]
    pub interval: Option<Duration>,
    /// Statuses that say well.
    #[schemars(extend("default" = [200, 302]))]
    pub http_statuses: Option<Statuses>,
    /// So many in a row.
    #[schemars(range(min = 1, max = 254), extend("default" = 2))]
    pub successes: Option<u32>,
}

/// When a probed node is not well; a count of 0 never is.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ActiveUnhealthy {
    /// Between probes of an unhealthy node, at least 10ms; 0 sends none.
    #[schemars(extend("default" = 1))]
    pub interval: Option<Duration>,
    /// Statuses that say unwell.
    #[schemars(extend("default" = [429, 404, 500, 501, 502, 503, 504, 505]))]
    pub http_statuses: Option<Statuses>,
    /// So many in a row.
    #[schemars(range(max = 254), extend("default" = 5))]
    pub http_failures: Option<u32>,
    /// So many failed connections in a row.
    #[schemars(range(max = 254), extend("default" = 2))]
    pub tcp_failures: Option<u32>,
    /// So many timeouts in a row.
    #[schemars(range(max = 254), extend("default" = 3))]
    pub timeouts: Option<u32>,
}

/// What live traffic shows.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PassiveCheck {
    /// APISIX's; without effect.
    pub r#type: Option<ProbeType>,
    /// When a node is well again.
    pub healthy: Option<PassiveHealthy>,
    /// When it is not.
    pub unhealthy: Option<PassiveUnhealthy>,
}

/// When live traffic shows that a node is well.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PassiveHealthy {
    /// Statuses that say well; 200 to 208, 226 and 300 to 308 by default.
    pub http_statuses: Option<Statuses>,
    /// So many in a row.
    #[schemars(range(max = 254), extend("default" = 5))]
    pub successes: Option<u32>,
}

/// When live traffic shows that a node is not well; a count of 0 never is.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PassiveUnhealthy {
    /// Statuses that say unwell.
    #[schemars(extend("default" = [429, 500, 503]))]
    pub http_statuses: Option<Statuses>,
    /// So many in a row.
    #[schemars(range(max = 254), extend("default" = 5))]
    pub http_failures: Option<u32>,
    /// So many failed connections in a row.
    #[schemars(range(max = 254), extend("default" = 2))]
    pub tcp_failures: Option<u32>,
    /// So many timeouts in a row.
    #[schemars(range(max = 254), extend("default" = 7))]
    pub timeouts: Option<u32>,
}

/// A table, or true for its defaults.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(clippy::large_enum_variant, reason = "no value of it is ever made")]
pub enum StickyForm {
    /// Written out.
    Table(Sticky),
    /// All defaults, or none.
    Switch(bool),
}

/// A cookie that brings a client back to its node.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Sticky {
    /// Its name.
    #[schemars(length(min = 1, max = 64), extend("default" = "rw_s"))]
    pub cookie: Option<String>,
    /// Max-Age, at least 1s; without one it ends with the client's session.
    pub ttl: Option<Duration>,
    /// Path
    #[schemars(extend("default" = "/"))]
    pub path: Option<String>,
    /// Domain
    pub domain: Option<String>,
    /// HttpOnly
    #[schemars(extend("default" = true))]
    pub http_only: Option<bool>,
    /// Secure
    #[schemars(extend("default" = false))]
    pub secure: Option<bool>,
    /// SameSite; "none" needs secure.
    #[schemars(extend("default" = "lax"))]
    pub same_site: Option<SameSite>,
}

/// The cookie attribute SameSite.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum SameSite {
    /// Sent with top-level navigation from elsewhere.
    Lax,
    /// Sent from the same site alone.
    Strict,
    /// Sent always.
    None,
}

/// Where requests wait when all usable nodes are at max_conns.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Queue {
    /// How many may wait, per core; 0 is none.
    #[schemars(range(max = 100_000), extend("default" = 100))]
    pub size: Option<u32>,
    /// How long one waits.
    #[schemars(extend("default" = "1s"))]
    pub timeout: Option<Duration>,
}

/// When a request goes to another node. Connect errors and timeouts always count.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Retry {
    /// What counts as well: statuses of an answer, and "reset".
    pub on: Option<RetryOn>,
    /// Methods that may be repeated once bytes were sent; all but POST, LOCK, PATCH by default.
    pub methods: Option<Vec<String>>,
    /// From the beginning of a try to its response head.
    pub per_try_timeout: Option<Duration>,
    /// Further tries as a share of requests; without bound by default.
    pub budget: Option<Ratio>,
    /// A random time before a further try, up to its base, doubled with each.
    pub backoff: Option<BackoffForm>,
}

/// A table, or its base alone.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum BackoffForm {
    /// Written out.
    Table(Backoff),
    /// The base.
    Base(Duration),
}

/// A random time before a further try.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Backoff {
    /// The bound before the second try; it doubles with each.
    #[schemars(extend("default" = "25ms"))]
    pub base: Option<Duration>,
    /// The largest bound; at least base.
    #[schemars(extend("default" = "250ms"))]
    pub max: Option<Duration>,
}

/// A second try beside a slow first one.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Hedge {
    /// After so long without an answer.
    pub after: Duration,
    /// Further tries beside the first.
    #[schemars(range(min = 1, max = 5), extend("default" = 1))]
    pub max: Option<u32>,
}

/// A table, or true for its defaults.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum OutlierForm {
    /// Written out.
    Table(Outlier),
    /// All defaults, or none.
    Switch(bool),
}

/// Nodes whose error ratio stands out rest for a while.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Outlier {
    /// Errors by tries from which a node goes out; above 0.
    #[schemars(extend("default" = 0.5))]
    pub error_ratio: Option<Ratio>,
    /// Over how long they are counted.
    #[schemars(extend("default" = "10s"))]
    pub interval: Option<Duration>,
    /// Fewer tries than this say nothing.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 20))]
    pub min_requests: Option<u32>,
    /// The largest share of nodes that may be out; one may always be.
    #[schemars(extend("default" = 0.5))]
    pub max_ejected: Option<Ratio>,
    /// How long a node rests, times the ejections in a row.
    #[schemars(extend("default" = "30s"))]
    pub base_time: Option<Duration>,
    /// And at most; at least base_time.
    #[schemars(extend("default" = "300s"))]
    pub max_time: Option<Duration>,
}

/// A table, or true for its defaults.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum BreakerForm {
    /// Written out.
    Table(Breaker),
    /// All defaults, or none.
    Switch(bool),
}

/// A circuit per node; with all of them open the answer is 503.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Breaker {
    /// Errors by tries from which the circuit opens; above 0.
    #[schemars(extend("default" = 0.5))]
    pub error_ratio: Option<Ratio>,
    /// Over how long they are counted.
    #[schemars(extend("default" = "10s"))]
    pub window: Option<Duration>,
    /// Fewer tries than this say nothing.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 20))]
    pub min_requests: Option<u32>,
    /// How long it stays open.
    #[schemars(extend("default" = "5s"))]
    pub open: Option<Duration>,
    /// Then so many trial requests, all of which must succeed to close it.
    #[schemars(range(min = 1, max = 1000), extend("default" = 3))]
    pub trials: Option<u32>,
}

/// A table, or true for its defaults.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum ConcurrencyLimitForm {
    /// Written out.
    Table(ConcurrencyLimit),
    /// All defaults, or none.
    Switch(bool),
}

/// How many requests an upstream gets at once, found by its latency: min <= initial <= max.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ConcurrencyLimit {
    /// Where it begins.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 20))]
    pub initial: Option<u32>,
    /// Never below.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 4))]
    pub min: Option<u32>,
    /// Never above.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 1000))]
    pub max: Option<u32>,
    /// How much slower than at rest is still well.
    #[schemars(range(min = 1.0, max = 10.0), extend("default" = 1.5))]
    pub tolerance: Option<f64>,
}

/// Who knows the nodes of a service.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum DiscoveryType {
    /// DNS: SRV, A and AAAA records.
    Dns,
}

/// How a service is asked for.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct DiscoveryArgs {
    /// srv asks for SRV records first; by default where the name begins with an underscore.
    pub record: Option<Record>,
}

/// A kind of DNS record.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Record {
    /// SRV: port, weight and priority come from it.
    Srv,
    /// A and AAAA.
    A,
}
