//! `[[upstreams]]`: groups of endpoints, and how one of them is chosen and spoken to.

use std::time::Duration;

use crate::balance::{
    self, Breaker, Checks, ConcurrencyLimit, Discovery, HashOn, Hedge, Outlier, Queue, Retry, Sticky,
};
use crate::client_tls::{self, ClientTls};
use crate::identity::{self, Identity};
use crate::names;
use crate::node::{self, Node, NodeAddress};
use crate::place::Place;
use crate::reader::Reader;
use crate::report::{Problem, Report};
use crate::route::Timeouts;
use crate::value::Value;

/// The most further tries.
pub const RETRIES_MAX: i64 = 1000;

/// A group of endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Its id; `route:<id>` or `service:<id>` where it is written inside one.
    pub id: String,
    /// Its name for people; empty where none is given.
    pub name: String,
    /// `type`: how an endpoint is chosen.
    pub kind: Kind,
    /// Its endpoints as written; empty only with `discovery`.
    pub nodes: Vec<Node>,
    /// Tries after the first; `None` is one per further node.
    pub retries: Option<u32>,
    /// No further try after so long; zero is no bound.
    pub retry_timeout: Duration,
    /// Timeouts toward its endpoints (a route's win).
    pub timeout: Timeouts,
    /// What is spoken to its endpoints.
    pub scheme: Scheme,
    /// `tls`: how endpoints are verified under [`Scheme::Https`].
    pub tls: ClientTls,
    /// Which `Host` they see.
    pub pass_host: PassHost,
    /// The `Host` of [`PassHost::Rewrite`].
    pub upstream_host: Option<String>,
    /// `keepalive_pool`: connections kept open toward its endpoints.
    pub keepalive: Keepalive,
    /// `hash_on` and `key`, the client's address for `ip_hash`; `None` for a type that needs none.
    pub hash_on: Option<HashOn>,
    /// `checks`
    pub checks: Option<Checks>,
    /// `panic_threshold`: with a smaller share of well nodes than this (0 to 1) all are used. Default 0: only when none is well.
    pub panic_threshold: f64,
    /// `sticky`
    pub sticky: Option<Sticky>,
    /// `slow_start` of nodes that have none of their own; zero is none.
    pub slow_start: Duration,
    /// `max_conns` of nodes that have none of their own.
    pub max_conns: Option<u32>,
    /// `queue`
    pub queue: Option<Queue>,
    /// `retry`
    pub retry: Retry,
    /// `hedge`
    pub hedge: Option<Hedge>,
    /// `outlier`
    pub outlier: Option<Outlier>,
    /// `breaker`
    pub breaker: Option<Breaker>,
    /// `concurrency_limit`
    pub concurrency_limit: Option<ConcurrencyLimit>,
    /// `service_name` and `discovery_type`; its nodes are then found, not written.
    pub discovery: Option<Discovery>,
    /// Where it stands.
    pub place: Place,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Weighted, smooth, in turn.
    #[default]
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
    /// By the client's address: `chash` on `remote_addr`.
    IpHash,
}

/// What is spoken to endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP/1.1 in the clear.
    #[default]
    Http,
    /// HTTP/1.1 over TLS.
    Https,
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

impl Upstream {
    /// An upstream of these nodes with every default: what the short forms make.
    pub fn of(id: String, nodes: Vec<Node>, place: Place) -> Upstream {
        let mut upstream = Upstream {
            id,
            name: String::new(),
            kind: Kind::RoundRobin,
            nodes,
            retries: None,
            retry_timeout: Duration::ZERO,
            timeout: Timeouts::default(),
            scheme: Scheme::Http,
            tls: ClientTls::default(),
            pass_host: PassHost::Pass,
            upstream_host: None,
            keepalive: Keepalive::default(),
            hash_on: None,
            checks: None,
            panic_threshold: 0.0,
            sticky: None,
            slow_start: Duration::ZERO,
            max_conns: None,
            queue: None,
            retry: Retry::default(),
            hedge: None,
            outlier: None,
            breaker: None,
            concurrency_limit: None,
            discovery: None,
            place,
        };
        upstream.bound_nodes(None);
        upstream
    }

    /// Sets `max_conns` for nodes that have none. As in nginx, 0 is no bound.
    pub(crate) fn bound_nodes(&mut self, max_conns: Option<u32>) {
        self.max_conns = max_conns.filter(|most| *most > 0);
        // Beside an upstream's bound, a node without one has to say so.
        let unbounded = self.max_conns.map(|_| u32::MAX);
        for node in self.nodes.iter_mut().filter(|node| node.max_conns == Some(0)) {
            node.max_conns = unbounded;
        }
    }
}

/// `type`, with APISIX's names first.
const KINDS: &[(&str, Kind)] = &[
    ("roundrobin", Kind::RoundRobin),
    ("chash", Kind::Chash),
    ("least_conn", Kind::LeastConn),
    ("ewma", Kind::Ewma),
    ("p2c", Kind::P2c),
    ("maglev", Kind::Maglev),
    ("random", Kind::Random),
    ("ip_hash", Kind::IpHash),
];

/// Reads an upstream that stands inside something else, such as a plugin's settings: `owner` is its id.
pub fn inline(value: &Value, owner: &str, report: &mut Report) -> Option<Upstream> {
    if let Some(id) = value.get("id") {
        let what = "an upstream that is written here has no id";
        report.error(id, what, "write it under [[upstreams]] to refer to it from elsewhere");
    }
    let (mut upstream, _) = read(value, report)?;
    upstream.id = owner.to_owned();
    Some(upstream)
}

/// Reads the table of an upstream. Its id is empty where none is given.
pub(crate) fn read(value: &Value, report: &mut Report) -> Option<(Upstream, Identity)> {
    let mut reader = Reader::of("Upstream", value, report);
    let identity = identity::read(&mut reader);
    let errors = reader.report().error_count();
    let nodes = node::read(&mut reader);
    if reader.has("nodes") || reader.has("servers") {
        let place = reader.value_place(if reader.has("servers") { "servers" } else { "nodes" });
        check_shares(&nodes, errors, place, reader.report());
    }
    let discovery = balance::read_discovery(&mut reader);
    if !reader.has("service_name") && !reader.has("discovery_type") {
        check_empty(value, &mut reader);
    }
    warn_of_twins(&nodes, &mut reader);
    let mut upstream = Upstream::of(identity.id.clone().unwrap_or_default(), Vec::new(), value.place);
    upstream.nodes = nodes;
    upstream.name = identity.name.clone();
    upstream.discovery = discovery;
    let kind = reader.one_of("type", KINDS);
    upstream.kind = kind.unwrap_or_default();
    let kind = kind.or_else(|| (!reader.has("type")).then(Kind::default));
    let planned = ["h2c", "grpc", "grpcs", "tcp", "tls", "udp"];
    let built = [("http", Scheme::Http), ("https", Scheme::Https)];
    upstream.scheme = reader.one_built("scheme", &built, &planned).unwrap_or_default();
    read_tls(&mut upstream, &mut reader);
    upstream.retries = reader.range("retries", 0..=RETRIES_MAX).map(|retries| retries as u32);
    upstream.retry_timeout = reader.opt_duration("retry_timeout").unwrap_or_default();
    upstream.timeout = Timeouts::read(&mut reader);
    read_host(&mut upstream, &mut reader);
    if let Some(pool) = reader.opt_value("keepalive_pool") {
        upstream.keepalive = keepalive(pool, reader.report());
    }
    balance::read(&mut upstream, kind, &mut reader);
    reader.not_built(&["http2"]);
    reader.finish().then_some((upstream, identity))
}

/// Nodes among which nothing can be shared out: all of weight 0, or all of them `down`.
///
/// `errors` were counted before the nodes were read: those that are wrong are not among them.
pub(crate) fn check_shares(nodes: &[Node], errors: usize, place: Place, report: &mut Report) {
    if nodes.is_empty() || report.error_count() != errors {
        return;
    }
    if nodes.iter().all(|node| node.weight == 0) {
        let problem =
            Problem::error(place, "the total weight is 0").label("no node has a share of the requests");
        report.push(problem.help("give one of them a weight; to take a node out, write `down`"));
    } else if nodes.iter().all(|node| node.down) {
        let problem = Problem::warning(place, "every node is `down`");
        report.push(problem.label("every request is answered 503"));
    }
}

/// An upstream without any node that was written; those that are wrong were reported.
fn check_empty(upstream: &Value, reader: &mut Reader<'_, '_>) {
    let written = [upstream.get("nodes"), upstream.get("servers")];
    let Some(entries) = upstream.as_table() else { return };
    let is_empty = |value: &Value| {
        value.as_array().is_some_and(<[_]>::is_empty) || value.as_table().is_some_and(<[_]>::is_empty)
    };
    let mut written = written.into_iter().flatten().peekable();
    let (place, label) = match written.peek() {
        None if entries.is_empty() => (upstream.place, "the table is empty"),
        None => (upstream.place, "neither `servers` nor `nodes`"),
        Some(first) => (first.place, "no node in it"),
    };
    if written.all(is_empty) {
        let help = "write servers = [\"127.0.0.1:8080\"]";
        reader.report().push(Problem::error(place, "the upstream has no nodes").label(label).help(help));
    }
}

/// Two nodes of one address: their weights add up, which `weight` says more plainly.
fn warn_of_twins(nodes: &[Node], reader: &mut Reader<'_, '_>) {
    let mut addresses: Vec<_> = nodes.iter().map(|node| &node.address).collect();
    addresses.sort_unstable();
    if let Some(twin) = addresses.windows(2).find(|pair| pair[0] == pair[1]) {
        let place = reader.value_place(if reader.has("servers") { "servers" } else { "nodes" });
        let what = format!("the node {} is written twice", twin[0]);
        reader.report().warning(place, what, "to give it a larger share, write `weight`");
    }
}

/// `tls`, and what does not go together with `scheme`.
fn read_tls(upstream: &mut Upstream, reader: &mut Reader<'_, '_>) {
    upstream.tls.place = reader.value_place("scheme");
    if let Some(value) = reader.opt_value("tls") {
        upstream.tls = client_tls::read(value, reader.report());
        if upstream.scheme == Scheme::Http && !reader.has("scheme") {
            reader.report().warning(value, "`tls` has no effect", "write scheme = \"https\" as well");
        }
    }
    let port = |node: &Node| match &node.address {
        NodeAddress::Ip(address) => Some(address.port()),
        NodeAddress::Name { port, .. } => Some(*port),
        NodeAddress::Unix(_) => None,
    };
    if upstream.scheme == Scheme::Https && upstream.nodes.iter().any(|node| port(node) == Some(80)) {
        let place = reader.value_place(if reader.has("servers") { "servers" } else { "nodes" });
        let what = "an https node on port 80";
        reader.report().warning(place, what, "write the port, such as :443; without one it is 80");
    }
}

/// `pass_host` and `upstream_host`.
fn read_host(upstream: &mut Upstream, reader: &mut Reader<'_, '_>) {
    let words = [("pass", PassHost::Pass), ("node", PassHost::Node), ("rewrite", PassHost::Rewrite)];
    upstream.pass_host = reader.one_of("pass_host", &words).unwrap_or_default();
    let host = reader.opt_str("upstream_host");
    let place = reader.value_place("upstream_host");
    if let Some((host, fault)) = host.and_then(|host| Some((host, names::host_and_port_fault(host)?))) {
        reader.report().push(
            Problem::error(place, format!("invalid host `{host}`"))
                .label(fault)
                .help("write upstream_host = \"app.example.com\""),
        );
    }
    upstream.upstream_host = host.map(str::to_owned);
    match (upstream.pass_host, host) {
        (PassHost::Rewrite, None) if !reader.has("upstream_host") => {
            let place = reader.value_place("pass_host");
            let what = "`pass_host = \"rewrite\"` needs `upstream_host`";
            reader.report().error(place, what, "write upstream_host = \"the.name\"");
        }
        (PassHost::Pass | PassHost::Node, Some(_)) => {
            let what = "`upstream_host` has no effect";
            reader.report().warning(place, what, "write pass_host = \"rewrite\" as well");
        }
        _ => {}
    }
}

fn keepalive(value: &Value, report: &mut Report) -> Keepalive {
    let mut reader = Reader::of("KeepalivePool", value, report);
    let default = Keepalive::default();
    let keepalive = Keepalive {
        size: reader.range("size", 0..=1_000_000).map_or(default.size, |size| size as usize),
        idle_timeout: reader.opt_duration("idle_timeout").unwrap_or(default.idle_timeout),
        requests: reader.opt_u64("requests").unwrap_or(default.requests),
    };
    reader.finish();
    keepalive
}
