//! How an upstream chooses, checks, protects and repeats: the parts of `[[upstreams]]` beyond its addresses.
//!
//! Types only; each is read beside the others of its kind (`read`), so that [`crate::upstream`] stays the
//! list of an upstream's fields.

use std::time::Duration;

use crate::vars::{Template, Var};

/// What the key of `chash` and `maglev` is taken from (`hash_on` with `key`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOn {
    /// `vars`: one variable, such as `remote_addr`, `uri`, `arg_x`.
    Var(Var),
    /// `header`: a request header's value.
    Header(String),
    /// `cookie`: a cookie's value.
    Cookie(String),
    /// `consumer`: who was authenticated.
    Consumer,
    /// `vars_combinations`: a template such as `$request_uri$remote_addr`.
    Combination(Template),
}

/// `checks`: who is well.
#[derive(Clone, Debug, PartialEq)]
pub struct Checks {
    /// Probes sent by control.
    pub active: Option<ActiveCheck>,
    /// What live traffic shows.
    pub passive: Option<PassiveCheck>,
}

/// `checks.active.type`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProbeKind {
    /// A GET over HTTP/1.1.
    #[default]
    Http,
    /// The same over TLS.
    Https,
    /// A connection that stands.
    Tcp,
    /// grpc.health.v1.Health/Check over HTTP/2 in the clear.
    Grpc,
}

/// `checks.active`
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveCheck {
    /// `type`
    pub kind: ProbeKind,
    /// How long one probe may take. Default 1 s.
    pub timeout: Duration,
    /// How many probes of this upstream run at once. Default 10.
    pub concurrency: usize,
    /// Path and query of the GET. Default `/`.
    pub http_path: String,
    /// Its Host (and SNI); the node's own where none is given.
    pub host: Option<String>,
    /// Another port than the node's.
    pub port: Option<u16>,
    /// Further fields, names and values.
    pub req_headers: Vec<(String, String)>,
    /// `https_verify_certificate`. Default true.
    pub verify: bool,
    /// The service that a gRPC probe asks for; empty is the whole server.
    pub grpc_service: String,
    /// `healthy.interval`: between probes of a healthy node; zero sends none. Default 1 s.
    pub healthy_interval: Duration,
    /// `unhealthy.interval`: between probes of an unhealthy one; zero sends none. Default 1 s.
    pub unhealthy_interval: Duration,
    /// `healthy.http_statuses`. Default 200, 302.
    pub healthy_statuses: Vec<u16>,
    /// `unhealthy.http_statuses`. Default 429, 404, 500 to 505.
    pub unhealthy_statuses: Vec<u16>,
    /// `healthy.successes`. Default 2.
    pub successes: u32,
    /// `unhealthy.http_failures`. Default 5; 0 never counts. Likewise the next two.
    pub http_failures: u32,
    /// `unhealthy.tcp_failures`. Default 2.
    pub tcp_failures: u32,
    /// `unhealthy.timeouts`. Default 3.
    pub timeouts: u32,
}

/// `checks.passive`
#[derive(Clone, Debug, PartialEq)]
pub struct PassiveCheck {
    /// `healthy.http_statuses`. Default 200 to 208, 226, 300 to 308.
    pub healthy_statuses: Vec<u16>,
    /// `unhealthy.http_statuses`. Default 429, 500, 503.
    pub unhealthy_statuses: Vec<u16>,
    /// `healthy.successes`. Default 5.
    pub successes: u32,
    /// `unhealthy.http_failures`. Default 5; 0 never counts. Likewise the next two.
    pub http_failures: u32,
    /// `unhealthy.tcp_failures`. Default 2.
    pub tcp_failures: u32,
    /// `unhealthy.timeouts`. Default 7.
    pub timeouts: u32,
}

/// `sticky`: a cookie that names the node.
#[derive(Clone, Debug, PartialEq)]
pub struct Sticky {
    /// Its name. Default `rw_s`.
    pub cookie: String,
    /// `Max-Age`; without one it ends with the client's session.
    pub ttl: Option<Duration>,
    /// `Path`. Default `/`.
    pub path: String,
    /// `Domain`
    pub domain: Option<String>,
    /// `HttpOnly`. Default true.
    pub http_only: bool,
    /// `Secure`. Default false: the listener may be in the clear.
    pub secure: bool,
    /// `SameSite`. Default `Lax`.
    pub same_site: SameSite,
}

/// The cookie attribute `SameSite`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    /// Sent with top-level navigation from elsewhere.
    #[default]
    Lax,
    /// Sent from the same site alone.
    Strict,
    /// Sent always; browsers want `Secure` with it.
    None,
}

/// `retry`: beyond APISIX's `retries` and `retry_timeout`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retry {
    /// `on`: statuses of an answer that count as a failure.
    pub on_statuses: Vec<u16>,
    /// `on` has `"reset"`: a connection that broke after the request was sent whole counts for every
    /// replayable method of `methods`. Connect errors and timeouts always count.
    pub on_reset: bool,
    /// `methods`: which may be repeated once bytes were sent, upper case; `None` is all but POST, LOCK, PATCH.
    pub methods: Option<Vec<String>>,
    /// `per_try_timeout`: from the beginning of a try to its response head.
    pub per_try_timeout: Option<Duration>,
    /// `budget`: further tries as a share of requests, 0 to 1; `None` is without bound.
    pub budget: Option<f64>,
    /// `backoff`: before a further try.
    pub backoff: Option<Backoff>,
}

/// `retry.backoff`: before try n+1 a random time up to `min(base * 2^(n-1), max)` (full jitter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Default 25 ms.
    pub base: Duration,
    /// Default 250 ms.
    pub max: Duration,
}

/// `hedge`: a second try beside a slow first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedge {
    /// After so long without an answer.
    pub after: Duration,
    /// Further tries beside the first. Default 1, at most 5.
    pub max: u32,
}

/// `queue`: where requests wait when all usable nodes are at `max_conns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// How many may wait, per core; 0 is none. Default 100.
    pub size: usize,
    /// How long one waits. Default 1 s.
    pub timeout: Duration,
}

/// `outlier`: nodes whose error ratio stands out rest for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlier {
    /// Errors (5xx and failed tries) by tries from which a node goes out, 0 to 1. Default 0.5.
    pub error_ratio: f64,
    /// Over how long they are counted. Default 10 s.
    pub interval: Duration,
    /// Fewer tries than this in an interval say nothing. Default 20.
    pub min_requests: u32,
    /// The largest share of nodes that may be out, 0 to 1; one may always be. Default 0.5.
    pub max_ejected: f64,
    /// How long a node rests, times the ejections in a row. Default 30 s.
    pub base_time: Duration,
    /// And at most. Default 300 s.
    pub max_time: Duration,
}

/// `breaker`: a circuit per node. Unlike an ejection it is never overruled: with all circuits open the answer is 503.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breaker {
    /// Errors by tries from which the circuit opens, 0 to 1. Default 0.5.
    pub error_ratio: f64,
    /// Over how long they are counted. Default 10 s.
    pub window: Duration,
    /// Fewer tries than this say nothing. Default 20.
    pub min_requests: u32,
    /// How long it stays open. Default 5 s.
    pub open: Duration,
    /// Then so many trial requests, all of which must succeed to close it. Default 3.
    pub trials: u32,
}

/// `concurrency_limit`: how many requests an upstream gets at once, found by its latency (gradient).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConcurrencyLimit {
    /// Where it begins. Default 20.
    pub initial: u32,
    /// Never below. Default 4.
    pub min: u32,
    /// Never above. Default 1000.
    pub max: u32,
    /// How much slower than at rest is still well, 1 to 10. Default 1.5.
    pub tolerance: f64,
}

/// `discovery_type = "dns"`: nodes from the records of `service_name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// The name, lower case.
    pub service_name: String,
    /// Asks for SRV records first (port, weight and priority come from them).
    pub srv: bool,
    /// The port of A and AAAA records: `service_name = "name:port"`. Default 80.
    pub port: u16,
}
