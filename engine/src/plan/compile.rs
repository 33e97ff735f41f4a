//! From a document to a plan, in work proportional to what changed since the
//! plan before: an unchanged route is one comparison and one `Arc`.
//!
//! This is the last pass of checking as well: what a plugin finds wrong goes
//! into the document's report with its place, and then there is no plan.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use balancer::retry::RetryPolicy;
use balancer::route::{Predicate, RouteKey, Table};
use balancer::upstream::NodeSpec;
use config::{Document, NodeAddress, Report, UpstreamRef};
use proto::head::HeadLimits;

use super::{Chain, Endpoint, Feeds, Plan, RoutePlan, Settings, Slots, Timeouts, UpstreamPlan};
use crate::upstream::Address;

/// APISIX's default for each phase.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// Compiles `doc`, sharing with `prev` what did not change.
///
/// `None` when something is wrong; `report` holds every problem then.
pub fn compile(
    doc: &Arc<Document>,
    feeds: &Feeds,
    prev: Option<&Arc<Plan>>,
    generation: u64,
    report: &mut Report,
) -> Option<Arc<Plan>> {
    let before = report.problems().len();
    plugins::check_document(doc, report);
    let mut compiler =
        Compiler { doc, feeds, prev, report, upstreams: HashMap::new(), names: BTreeSet::new() };
    compiler.named_upstreams();
    let globals = compiler.globals();
    let (table, routes, slots) = compiler.routes();
    let Compiler { upstreams, names, .. } = compiler;
    let failed =
        report.problems()[before..].iter().any(|problem| problem.severity == config::Severity::Error);
    let globals = globals.filter(|_| !failed)?;
    Some(Arc::new(Plan {
        generation,
        document: doc.clone(),
        settings: Arc::new(settings(doc)),
        table,
        routes,
        addresses: addresses(&upstreams),
        upstreams,
        globals,
        slots,
        names: names.into_iter().collect(),
    }))
}

fn addresses(upstreams: &HashMap<String, Arc<UpstreamPlan>>) -> HashSet<Address> {
    let endpoints = upstreams.values().flat_map(|upstream| &upstream.endpoints);
    endpoints.map(|endpoint| endpoint.address.clone()).collect()
}

fn settings(doc: &Document) -> Settings {
    let limits = doc.server.limits.clone();
    let request_head = HeadLimits {
        bytes_max: limits.request_head,
        target_bytes_max: limits.request_target,
        fields_max: limits.request_fields,
    };
    let response_head = HeadLimits {
        bytes_max: limits.response_head,
        target_bytes_max: limits.response_head,
        fields_max: 128,
    };
    Settings {
        trusted: doc.server.trusted_addresses.clone(),
        apisix_headers: doc.server.apisix_headers,
        via: doc.server.via,
        log_format: crate::observe::line::LineFormat::new(&doc.log.format),
        server_header: doc.server.server_header.clone(),
        request_head,
        response_head,
        limits,
    }
}

struct Compiler<'a> {
    doc: &'a Document,
    feeds: &'a Feeds,
    prev: Option<&'a Arc<Plan>>,
    report: &'a mut Report,
    upstreams: HashMap<String, Arc<UpstreamPlan>>,
    names: BTreeSet<String>,
}

impl Compiler<'_> {
    fn named_upstreams(&mut self) {
        for upstream in &self.doc.upstreams {
            self.upstream(upstream);
        }
    }

    /// The compiled form of an upstream, the old one where nothing changed.
    fn upstream(&mut self, source: &Arc<config::Upstream>) -> Arc<UpstreamPlan> {
        let endpoints = self.endpoints(source);
        let old = self.prev.and_then(|prev| prev.upstreams.get(&source.id));
        let plan = match old {
            Some(old) if *old.source == **source && old.endpoints == endpoints => old.clone(),
            _ => Arc::new(UpstreamPlan {
                id: source.id.clone(),
                source: source.clone(),
                timeouts: Timeouts {
                    connect: source.timeout.connect.unwrap_or(TIMEOUT_DEFAULT),
                    send: source.timeout.send.unwrap_or(TIMEOUT_DEFAULT),
                    read: source.timeout.read.unwrap_or(TIMEOUT_DEFAULT),
                },
                retry: RetryPolicy {
                    retries: source.retries.unwrap_or_else(|| {
                        u32::try_from(endpoints.len().saturating_sub(1)).unwrap_or(u32::MAX)
                    }),
                    retry_timeout: source.retry_timeout,
                },
                endpoints,
            }),
        };
        self.upstreams.insert(source.id.clone(), plan.clone());
        plan
    }

    fn endpoints(&mut self, source: &config::Upstream) -> Vec<Endpoint> {
        let mut list = Vec::with_capacity(source.nodes.len());
        for node in &source.nodes {
            let spec = NodeSpec {
                weight: node.weight,
                priority: node.priority,
                backup: node.backup,
                down: node.down,
            };
            match &node.address {
                NodeAddress::Ip(address) => {
                    list.push(endpoint(*address, node_host(&address.ip(), address.port()), spec))
                }
                NodeAddress::Unix(path) => list.push(Endpoint {
                    text: format!("unix:{}", path.display()),
                    address: Address::Unix(path.clone()),
                    host: "localhost".to_owned(),
                    spec,
                }),
                NodeAddress::Name { host, port } => {
                    let resolved = self.feeds.addresses.get(host);
                    for address in resolved.into_iter().flatten() {
                        list.push(endpoint(
                            SocketAddr::new(*address, *port),
                            node_host(host, *port),
                            spec,
                        ));
                    }
                    self.names.insert(host.clone());
                }
            }
        }
        list
    }

    fn globals(&mut self) -> Option<Arc<Chain>> {
        let old = self.prev.filter(|prev| prev.document.global_rules == self.doc.global_rules);
        if let Some(prev) = old {
            return Some(prev.globals.clone());
        }
        let rules = &self.doc.global_rules;
        let entries = rules.iter().flat_map(|rule| {
            rule.plugins.iter().map(move |entry| (entry, format!("global_rule:{}", rule.id)))
        });
        Chain::build(entries, self.feeds, self.report)
    }

    fn routes(&mut self) -> (Table<RoutePlan>, HashMap<String, Arc<RoutePlan>>, Slots) {
        let mode = self.doc.server.router;
        let prev = self.prev.filter(|prev| prev.document.server.router == mode);
        let (mut table, mut slots) = match prev {
            Some(prev) => (prev.table.clone(), prev.slots.clone()),
            None => (Table::new(mode), Slots::default()),
        };
        let services: HashMap<&str, &Arc<config::Service>> =
            self.doc.services.iter().map(|service| (service.id.as_str(), service)).collect();
        let configs: HashMap<&str, &Arc<config::PluginConfig>> =
            self.doc.plugin_configs.iter().map(|config| (config.id.as_str(), config)).collect();
        let mut routes = HashMap::with_capacity(self.doc.routes.len());
        let mut fresh = Vec::new();
        // `status = 0` takes a route out.
        for source in self.doc.routes.iter().filter(|route| route.status != 0) {
            let service = source.service_id.as_deref().and_then(|id| services.get(id).copied().cloned());
            let config = source.plugin_config_id.as_deref().and_then(|id| configs.get(id).copied().cloned());
            let upstream = self.route_upstream(source, service.as_deref());
            let old = prev.and_then(|prev| prev.routes.get(&source.id));
            match old {
                Some(old) if old.same(source, service.as_ref(), config.as_ref(), upstream.as_ref()) => {
                    routes.insert(source.id.clone(), old.clone());
                }
                _ => fresh.push((source, service, config, upstream)),
            }
        }
        // Out first, so that a changed route never meets its own former self.
        for old in prev.iter().flat_map(|prev| prev.routes.values()) {
            if !routes.get(old.id()).is_some_and(|kept| Arc::ptr_eq(kept, old)) {
                table.remove(&old.key, old);
                slots.free.push(old.slot);
            }
        }
        for (source, service, config, upstream) in fresh {
            let Some(route) = self.route(source, service, config, upstream, slots.take()) else { continue };
            let route = Arc::new(route);
            if let Err(error) = table.insert(&route.key, route.clone()) {
                self.report.error(
                    source.place,
                    format!("route `{}`: {error}", source.id),
                    "write another pattern",
                );
                continue;
            }
            routes.insert(source.id.clone(), route);
        }
        (table, routes, slots)
    }

    fn route_upstream(
        &mut self,
        route: &config::Route,
        service: Option<&config::Service>,
    ) -> Option<Arc<UpstreamPlan>> {
        let reference =
            route.upstream.as_ref().or_else(|| service.and_then(|service| service.upstream.as_ref()))?;
        match reference {
            UpstreamRef::Inline(source) => match self.upstreams.get(&source.id) {
                Some(known) => Some(known.clone()),
                None => Some(self.upstream(source)),
            },
            UpstreamRef::Id(id) => self.upstreams.get(id).cloned(),
        }
    }

    fn route(
        &mut self,
        source: &Arc<config::Route>,
        service: Option<Arc<config::Service>>,
        plugin_config: Option<Arc<config::PluginConfig>>,
        upstream: Option<Arc<UpstreamPlan>>,
        slot: usize,
    ) -> Option<RoutePlan> {
        let own = source.plugins.iter().map(|entry| (entry, format!("route:{}", source.id)));
        let configured = plugin_config.iter().flat_map(|config| {
            config.plugins.iter().map(|entry| (entry, format!("plugin_config:{}", config.id)))
        });
        let served = service.iter().flat_map(|service| {
            service.plugins.iter().map(|entry| (entry, format!("service:{}", service.id)))
        });
        let chain = Chain::build(own.chain(configured).chain(served), self.feeds, self.report)?;
        let of_upstream = upstream.as_ref().map_or(
            Timeouts { connect: TIMEOUT_DEFAULT, send: TIMEOUT_DEFAULT, read: TIMEOUT_DEFAULT },
            |upstream| upstream.timeouts,
        );
        let timeouts = Timeouts {
            connect: source.timeout.connect.unwrap_or(of_upstream.connect),
            send: source.timeout.send.unwrap_or(of_upstream.send),
            read: source.timeout.read.unwrap_or(of_upstream.read),
        };
        let hosts = match &service {
            Some(service) if source.hosts.is_empty() => service.hosts.clone(),
            _ => source.hosts.clone(),
        };
        let websocket = source
            .enable_websocket
            .or_else(|| service.as_ref().and_then(|service| service.enable_websocket))
            .unwrap_or(false);
        Some(RoutePlan {
            slot,
            key: RouteKey { hosts, uris: source.uris.clone(), priority: source.priority },
            predicate: Predicate::from(&**source),
            source: source.clone(),
            service,
            plugin_config,
            upstream,
            chain,
            timeouts,
            websocket,
        })
    }
}

impl RoutePlan {
    fn same(
        &self,
        source: &config::Route,
        service: Option<&Arc<config::Service>>,
        plugin_config: Option<&Arc<config::PluginConfig>>,
        upstream: Option<&Arc<UpstreamPlan>>,
    ) -> bool {
        let same_upstream = match (&self.upstream, upstream) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        same_upstream
            && *self.source == *source
            && self.service.as_ref() == service
            && self.plugin_config.as_ref() == plugin_config
    }
}

fn endpoint(address: SocketAddr, host: String, spec: NodeSpec) -> Endpoint {
    Endpoint { address: Address::Tcp(address), text: address.to_string(), host, spec }
}

/// What `pass_host = "node"` sends: the port stands only where it is not http's.
fn node_host(host: &impl ToString, port: u16) -> String {
    let mut host = host.to_string();
    if host.contains(':') {
        host = format!("[{host}]");
    }
    if port == 80 {
        host
    } else {
        format!("{host}:{port}")
    }
}
