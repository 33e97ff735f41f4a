//! The plan: the compiled, immutable configuration that all workers share.
//!
//! `compile` makes one from a document and its predecessor, in work that is
//! proportional to the change: what stayed is shared by `Arc`, and the routing
//! table copies only the paths that it changes. `chains` builds plugins, `carry`
//! is one worker's hold on a plan and what it carries over from plan to plan.

mod carry;
mod chains;
mod compile;
mod upstreams;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use balancer::route::{Predicate, RouteKey, Table};
use config::{Document, Limits, Listener, PassHost, PluginConfig, Service};
use ipnet::IpNet;

pub use crate::upstream::CoreUpstream;
pub use carry::{CoreChain, CorePlan, CoreRoute, SharedSettings};
pub use chains::{Chain, Link};
pub use compile::{check_plugins, compile};
pub use plugins::SharedState;

use crate::upstream::{Address, PoolKey};

/// What changes often and is no configuration; control refreshes it.
#[derive(Clone, Default)]
pub struct Feeds {
    /// Addresses of the host names that upstream nodes use, each set sorted.
    pub addresses: BTreeMap<String, Vec<IpAddr>>,
    /// What `service_name`s with SRV records were found to be, sorted; without any, the name's plain
    /// addresses count.
    pub services: BTreeMap<String, Vec<ServiceNode>>,
    /// How many cores there are.
    pub workers: usize,
    /// What sticky cookies are authenticated with.
    pub sticky_key: [u8; 32],
    /// What session tickets are made with.
    pub tickets: crate::tls::Tickets,
    /// Plugin state that is exact over all cores and outlives plans.
    pub shared: plugins::SharedState,
}

/// A node found by an SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceNode {
    /// One address of the record's target.
    pub address: std::net::SocketAddr,
    /// The record's target, lower case, without the last dot: the `Host` under `pass_host = "node"`.
    pub target: String,
    /// Its share; RFC 2782's 0 is 1 here, as APISIX has it.
    pub weight: u32,
    /// RFC 2782's: lower goes first.
    pub priority: u16,
}

/// Switches and limits that every exchange needs.
pub struct Settings {
    /// `[server.limits]`.
    pub limits: Limits,
    /// Whose forwarding fields are believed.
    pub trusted: Vec<IpNet>,
    /// APISIX's header names.
    pub apisix_headers: bool,
    /// `Server` on answers of our own.
    pub server_header: Option<String>,
    /// Whether `Via` is added.
    pub via: bool,
    /// How access log lines look.
    pub log_format: crate::observe::line::LineFormat,
    /// No longest head is larger: limits for the codec, requests.
    pub request_head: proto::head::HeadLimits,
    /// And responses.
    pub response_head: proto::head::HeadLimits,
}

/// A compiled configuration.
pub struct Plan {
    generation: u64,
    document: Arc<Document>,
    settings: Arc<Settings>,
    table: Table<RoutePlan>,
    routes: HashMap<String, Arc<RoutePlan>>,
    upstreams: HashMap<String, Arc<UpstreamPlan>>,
    globals: Arc<Chain>,
    /// Each route's place among its equals: the document's order.
    places: HashMap<String, u64>,
    slots: Slots,
    names: Vec<String>,
    services: Vec<String>,
    pools: HashSet<PoolKey>,
    sticky_key: [u8; 32],
    tls: Arc<crate::tls::TlsPlan>,
}

/// Numbers for routes, so that workers can keep what is theirs in an array.
#[derive(Clone, Default)]
struct Slots {
    next: usize,
    free: Vec<usize>,
}

impl Slots {
    fn take(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }
}

impl Plan {
    /// The plan's number; each is one more than its predecessor's.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What it was compiled from.
    pub fn document(&self) -> &Arc<Document> {
        &self.document
    }

    /// Host names of upstream nodes that control has to resolve, sorted.
    pub fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    /// `service_name`s whose SRV records control has to ask for, sorted.
    pub fn services(&self) -> Vec<String> {
        self.services.clone()
    }

    /// The compiled upstreams, in no order: those of their own, and those written inside routes, services and
    /// plugins.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<UpstreamPlan>> {
        self.upstreams.values()
    }

    /// The compiled upstream of this id.
    pub fn upstream(&self, id: &str) -> Option<&Arc<UpstreamPlan>> {
        self.upstreams.get(id)
    }

    /// The listeners.
    pub fn listeners(&self) -> &[Arc<Listener>] {
        &self.document.listeners
    }

    /// How many routes it has.
    pub fn route_count(&self) -> usize {
        self.routes.len()
    }

    /// Limits and switches.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The routing table.
    pub fn table(&self) -> &Table<RoutePlan> {
        &self.table
    }

    /// The certificates.
    pub fn tls(&self) -> &Arc<crate::tls::TlsPlan> {
        &self.tls
    }

    /// Whether any endpoint of this plan has these connections.
    pub fn uses(&self, key: &PoolKey) -> bool {
        self.pools.contains(key)
    }
}

/// A compiled route.
pub struct RoutePlan {
    slot: usize,
    source: Arc<config::Route>,
    service: Option<Arc<Service>>,
    plugin_config: Option<Arc<PluginConfig>>,
    key: RouteKey,
    predicate: Predicate,
    upstream: Option<Arc<UpstreamPlan>>,
    chain: Arc<Chain>,
    websocket: bool,
}

impl RoutePlan {
    /// The route's id.
    pub fn id(&self) -> &str {
        &self.source.id
    }

    /// The route's name; its id where it has none.
    pub fn name(&self) -> &str {
        if self.source.name.is_empty() {
            &self.source.id
        } else {
            &self.source.name
        }
    }

    /// Its service's id.
    pub fn service_id(&self) -> Option<&str> {
        self.service.as_ref().map(|service| service.id.as_str())
    }

    /// As written.
    pub fn source(&self) -> &config::Route {
        &self.source
    }

    /// Whether an `Upgrade` is let through.
    pub fn websocket(&self) -> bool {
        self.websocket
    }
}

/// The times of an attempt's phases, all resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// Until the connection stands.
    pub connect: Duration,
    /// Between two writes to the upstream.
    pub send: Duration,
    /// Between two reads from it.
    pub read: Duration,
    /// From the beginning of a try, or the end of its upload, to the response's head:
    /// `retry.per_try_timeout`. `Duration::MAX` without one.
    pub head: Duration,
    /// Until when the head has to be there hence, in microseconds since the process began; `u64::MAX` without
    /// an end.
    pub head_until: u64,
}

impl Timeouts {
    /// With the time for the response's head beginning `now`.
    pub fn head_from(self, now: u64) -> Timeouts {
        let micros = u64::try_from(self.head.as_micros()).unwrap_or(u64::MAX);
        Timeouts { head_until: now.saturating_add(micros), ..self }
    }

    /// How long the next bytes of a response's head are waited for.
    pub fn head_patience(&self) -> Duration {
        if self.head_until == u64::MAX {
            return self.read;
        }
        self.read.min(Duration::from_micros(self.head_until.saturating_sub(crate::clock::micros())))
    }
}

/// A compiled upstream: its names resolved to endpoints.
pub struct UpstreamPlan {
    /// Its id.
    pub id: String,
    /// As written.
    pub source: Arc<config::Upstream>,
    /// One per address.
    pub endpoints: Vec<Endpoint>,
    /// What it says of times; a route's own win.
    pub timeouts: Timeouts,
    /// How often and how long.
    pub retry: balancer::retry::RetryPolicy,
    /// Whether requests are counted: for a retry budget or a concurrency limit.
    pub counts_requests: bool,
    /// How endpoints are chosen.
    pub rules: Arc<balancer::upstream::Rules>,
}

/// One address of an upstream.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where to connect.
    pub address: Address,
    /// Its text in logs.
    pub text: String,
    /// The `Host` value under `pass_host = "node"`.
    pub host: String,
    /// Its weight, priority and roles.
    pub spec: balancer::upstream::NodeSpec,
    /// How it is spoken to under `https`.
    pub tls: Option<crate::tls::EndpointTls>,
    /// What the whole process knows of it.
    pub shared: Arc<balancer::endpoint::SharedEndpoint>,
}

impl PartialEq for Endpoint {
    /// By what was written and resolved, not by what is known of it.
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address && self.host == other.host && self.spec == other.spec
    }
}

impl Endpoint {
    /// Which kept connections are its.
    pub fn pool_key(&self) -> PoolKey {
        (self.address.clone(), self.tls.as_ref().map(|tls| tls.identity))
    }
}

impl UpstreamPlan {
    /// The Host that replaces the client's, if any, for this endpoint.
    pub fn host_for<'a>(&'a self, endpoint: &'a Endpoint) -> Option<&'a str> {
        match self.source.pass_host {
            PassHost::Pass => None,
            PassHost::Node => Some(&endpoint.host),
            PassHost::Rewrite => self.source.upstream_host.as_deref(),
        }
    }
}
