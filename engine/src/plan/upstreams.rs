//! Upstreams of a plan: names become endpoints, and what is known of an endpoint
//! goes on from plan to plan by its address.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use balancer::endpoint::SharedEndpoint;
use balancer::retry::RetryPolicy;
use balancer::upstream::{NodeSpec, Rules};
use config::{Node, NodeAddress, UpstreamRef};

use super::compile::Compiler;
use super::{Chain, Endpoint, ServiceNode, Timeouts, UpstreamPlan};
use crate::upstream::Address;

/// APISIX's default for each phase.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

impl Compiler<'_> {
    pub(super) fn named_upstreams(&mut self) {
        for upstream in &self.doc.upstreams {
            self.upstream(upstream);
        }
    }

    /// The compiled form of an upstream, the old one where nothing changed.
    pub(super) fn upstream(&mut self, source: &Arc<config::Upstream>) -> Arc<UpstreamPlan> {
        let mut endpoints = self.endpoints(source);
        self.encrypt(source, &mut endpoints);
        let old = self.prev.and_then(|prev| prev.upstreams.get(&source.id));
        let same_key =
            source.sticky.is_none() || self.prev.is_some_and(|prev| prev.sticky_key == self.feeds.sticky_key);
        let plan = match old {
            Some(old) if same_key && *old.source == **source && old.endpoints == endpoints => old.clone(),
            _ => {
                carry(&mut endpoints, old.map(|old| &old.endpoints[..]).unwrap_or_default());
                let before = old.map(|old| &*old.rules);
                Arc::new(plan(source, endpoints, &self.feeds.sticky_key, before))
            }
        };
        self.upstreams.insert(source.id.clone(), plan.clone());
        plan
    }

    /// One that is written inside a plugin. Routes that share a service or a plugin config share it too: one
    /// balance and one health, as with a named one.
    fn inline(&mut self, source: &Arc<config::Upstream>) -> Arc<UpstreamPlan> {
        match self.upstreams.get(&source.id) {
            Some(known) if *known.source == **source => known.clone(),
            _ => self.upstream(source),
        }
    }

    /// The upstreams that a plugin may choose, compiled. `None` when it names one that is none.
    pub(super) fn plugin_upstreams(
        &mut self,
        plugin: &dyn plugins::Plugin,
        place: config::Place,
    ) -> Option<Vec<Arc<UpstreamPlan>>> {
        let mut list = Vec::new();
        for reference in plugin.upstreams() {
            match reference {
                UpstreamRef::Inline(source) => list.push(self.inline(source)),
                UpstreamRef::Id(id) => match self.upstreams.get(id) {
                    Some(known) => list.push(known.clone()),
                    None => {
                        let names = self.doc.upstreams.iter().map(|one| (one.id.as_str(), one.place));
                        let near = self.report.suggest(id, names);
                        let help = if near.is_empty() {
                            format!("add [[upstreams]] with name = \"{id}\"")
                        } else {
                            near
                        };
                        let what = format!("plugin `{}`: unknown upstream `{id}`", plugin.name());
                        self.report.error(place, what, help);
                        return None;
                    }
                },
            }
        }
        Some(list)
    }

    /// Whether the upstreams that a chain's plugins name are those that it was built with.
    pub(super) fn chain_stays(&mut self, chain: &Chain) -> bool {
        chain.links.iter().filter(|link| !link.upstreams.is_empty()).all(|link| {
            link.upstreams.iter().all(|upstream| {
                let named = self.doc.upstreams.iter().any(|named| named.id == upstream.id);
                if !named {
                    self.inline(&upstream.source);
                }
                self.upstreams.get(&upstream.id).is_some_and(|now| Arc::ptr_eq(now, upstream))
            })
        })
    }

    /// Under `https`, how each endpoint is spoken to. An upstream that did not change keeps what it has, sessions too.
    fn encrypt(&mut self, source: &config::Upstream, endpoints: &mut [Endpoint]) {
        if source.scheme != config::Scheme::Https {
            return;
        }
        let host = match source.pass_host {
            config::PassHost::Rewrite => source.upstream_host.as_deref(),
            _ => None,
        };
        // What is wrong is in the report now, and there will be no plan.
        let Some(tls) = crate::tls::connect::compile(&source.tls, host, self.report) else { return };
        for endpoint in endpoints.iter_mut() {
            endpoint.tls = tls.endpoint(&endpoint.host);
            // The port stands in `Host` only where it is not the scheme's.
            if let Some(host) = endpoint.host.strip_suffix(":443") {
                endpoint.host = host.to_owned();
            }
            if endpoint.tls.is_none() {
                let what = format!("no server name can be made of `{}`", endpoint.host);
                self.report.error(source.place, what, "write `server_name` under `tls`");
            }
        }
    }

    fn endpoints(&mut self, source: &config::Upstream) -> Vec<Endpoint> {
        let mut list = Vec::with_capacity(source.nodes.len());
        for node in &source.nodes {
            self.node(source, node, &mut list);
        }
        if let Some(discovery) = &source.discovery {
            let found = self.feeds.services.get(&discovery.service_name);
            match found.filter(|_| discovery.srv) {
                Some(found) => {
                    let nodes = found.iter().map(|found| self.service_node(source, found, discovery.port));
                    list.extend(nodes);
                }
                None => {
                    let (host, port) = (discovery.service_name.clone(), discovery.port);
                    self.node(source, &Node::at(NodeAddress::Name { host, port }), &mut list);
                }
            }
            if discovery.srv {
                self.services.insert(discovery.service_name.clone());
            }
        }
        list
    }

    fn node(&mut self, source: &config::Upstream, node: &Node, list: &mut Vec<Endpoint>) {
        let spec = spec(source, node);
        let workers = self.feeds.workers;
        match &node.address {
            NodeAddress::Ip(address) => {
                let host = node_host(&address.ip(), address.port());
                list.push(endpoint(Address::Tcp(*address), host, spec, workers));
            }
            NodeAddress::Unix(path) => {
                list.push(endpoint(Address::Unix(path.clone()), "localhost".to_owned(), spec, workers));
            }
            NodeAddress::Name { host, port } => {
                let resolved = self.feeds.addresses.get(host);
                for address in resolved.into_iter().flatten() {
                    let address = Address::Tcp(SocketAddr::new(*address, *port));
                    list.push(endpoint(address, node_host(host, *port), spec.clone(), workers));
                }
                self.names.insert(host.clone());
            }
        }
    }

    /// `port` is for a record that names none: APISIX takes that for the default, too.
    fn service_node(&self, source: &config::Upstream, found: &ServiceNode, port: u16) -> Endpoint {
        let mut address = found.address;
        if address.port() == 0 {
            address.set_port(port);
        }
        let spec = NodeSpec {
            weight: found.weight,
            // RFC 2782: the lowest goes first; ours: the highest.
            priority: -i32::from(found.priority),
            ..spec(source, &Node::at(NodeAddress::Ip(address)))
        };
        let host = node_host(&found.target, address.port());
        endpoint(Address::Tcp(address), host, spec, self.feeds.workers)
    }
}

fn plan(
    source: &Arc<config::Upstream>,
    endpoints: Vec<Endpoint>,
    sticky_key: &[u8; 32],
    before: Option<&Rules>,
) -> UpstreamPlan {
    let specs = endpoints.iter().map(|endpoint| endpoint.spec.clone()).collect();
    UpstreamPlan {
        id: source.id.clone(),
        source: source.clone(),
        timeouts: Timeouts {
            connect: source.timeout.connect.unwrap_or(TIMEOUT_DEFAULT),
            send: source.timeout.send.unwrap_or(TIMEOUT_DEFAULT),
            read: source.timeout.read.unwrap_or(TIMEOUT_DEFAULT),
            head: source.retry.per_try_timeout.unwrap_or(Duration::MAX),
            head_until: u64::MAX,
        },
        retry: RetryPolicy::of(source, endpoints.len()),
        counts_requests: source.retry.budget.is_some() || source.concurrency_limit.is_some(),
        rules: Arc::new(Rules::new(source, specs, sticky_key).following(before)),
        endpoints,
    }
}

/// What was known of an address is known of it still. One that is written twice, or is that of two names, is one
/// endpoint, in the first plan as in those after it.
fn carry(endpoints: &mut [Endpoint], before: &[Endpoint]) {
    let known = before.iter().map(|endpoint| (endpoint.address.clone(), endpoint.shared.clone()));
    let mut known: HashMap<Address, Arc<SharedEndpoint>> = known.collect();
    for endpoint in endpoints {
        let shared = known.entry(endpoint.address.clone()).or_insert_with(|| endpoint.shared.clone());
        endpoint.shared = Arc::clone(shared);
    }
}

fn spec(source: &config::Upstream, node: &Node) -> NodeSpec {
    NodeSpec {
        name: String::new(),
        weight: node.weight,
        priority: node.priority,
        backup: node.backup,
        down: node.down,
        drain: node.drain,
        max_fails: node.max_fails,
        fail_timeout: node.fail_timeout,
        max_conns: node.max_conns.or(source.max_conns),
        slow_start: node.slow_start.unwrap_or(source.slow_start),
    }
}

fn endpoint(address: Address, host: String, spec: NodeSpec, workers: usize) -> Endpoint {
    let text = match &address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(path) => format!("unix:{}", path.display()),
    };
    let spec = NodeSpec { name: text.clone(), ..spec };
    Endpoint { address, text, host, spec, tls: None, shared: Arc::new(SharedEndpoint::new(workers)) }
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

#[cfg(test)]
mod tests {
    use super::super::{Feeds, Plan};
    use super::*;

    fn plan(key: u8, prev: Option<&Arc<Plan>>) -> Arc<Plan> {
        let text = "[server]\nlisten = \"127.0.0.1:0\"\n\
            [[upstreams]]\nname = \"sticky\"\nservers = [\"127.0.0.1:1\"]\nsticky = true\n\
            [[upstreams]]\nname = \"plain\"\nservers = [\"127.0.0.1:1\"]\n\
            [[routes]]\nupstream = \"sticky\"\n";
        let (document, mut report) = config::parse_str("t.toml", text, &config::MapEnv::default());
        let document = Arc::new(document.unwrap_or_else(|| panic!("{}", report.render(false))));
        let feeds = Feeds { workers: 1, sticky_key: [key; 32], ..Feeds::default() };
        let generation = prev.map_or(1, |prev| prev.generation() + 1);
        super::super::compile(&document, &feeds, prev, generation, &mut report).expect("a good document")
    }

    /// Whether the two upstreams stay what they were when the key goes from 1 to `key`.
    fn check(key: u8, sticky: bool, plain: bool) {
        let first = plan(1, None);
        let second = plan(key, Some(&first));
        let stays = |id: &str| match (first.upstream(id), second.upstream(id)) {
            (Some(before), Some(after)) => Arc::ptr_eq(before, after),
            _ => panic!("no {id}"),
        };
        assert_eq!((stays("sticky"), stays("plain")), (sticky, plain));
        let shared = |plan: &Plan| plan.upstream("sticky").map(|it| it.endpoints[0].shared.clone());
        let (before, after) = (shared(&first).expect("compiled"), shared(&second).expect("compiled"));
        assert!(Arc::ptr_eq(&before, &after), "what is known of an endpoint stays");
    }

    /// Two routes of one service, whose plugin names an upstream in place.
    #[test]
    fn one_upstream_for_all_routes_of_a_service() {
        let text = |port: u16| {
            format!(
                "[server]\nlisten = \"127.0.0.1:0\"\n[[services]]\nname = \"s\"\nupstream = \"127.0.0.1:1\"\n\
                 [services.plugins.traffic-split]\nrules = [{{ weighted_upstreams = [{{ upstream = {{ nodes = \
                 {{ \"127.0.0.1:{port}\" = 1 }} }} }}] }}]\n\
                 [[routes]]\nname = \"a\"\nuri = \"/a\"\nservice_id = \"s\"\n\
                 [[routes]]\nname = \"b\"\nuri = \"/b\"\nservice_id = \"s\"\n"
            )
        };
        let mut prev: Option<Arc<Plan>> = None;
        for port in [2, 2, 3] {
            let (document, mut report) = config::parse_str("t.toml", &text(port), &config::MapEnv::default());
            let document = Arc::new(document.unwrap_or_else(|| panic!("{}", report.render(false))));
            let feeds = Feeds { workers: 1, ..Feeds::default() };
            let plan = super::super::compile(&document, &feeds, prev.as_ref(), 1, &mut report);
            let plan = plan.unwrap_or_else(|| panic!("{}", report.render(false)));
            let of = |route: &str| &plan.routes[route].chain.links[0].upstreams[0];
            let (a, b) = (of("a"), of("b"));
            assert!(Arc::ptr_eq(a, b) && plan.upstream(&a.id).is_some_and(|known| Arc::ptr_eq(known, a)));
            prev = Some(plan);
        }
    }

    /// Whether two nodes of one address are one endpoint from the first plan on.
    #[test]
    fn twins_are_one() {
        let first = document("servers = [\"127.0.0.1:1\", \"127.0.0.1:2\", \"127.0.0.1:1 weight=2\"]");
        let mut prev: Option<Arc<Plan>> = None;
        for generation in 1..=2 {
            let feeds = Feeds { workers: 1, ..Feeds::default() };
            let mut report = config::Report::new();
            let plan = super::super::compile(&first, &feeds, prev.as_ref(), generation, &mut report);
            let plan = plan.expect("compiles");
            let endpoints = &plan.upstream("u").expect("compiled").endpoints;
            assert!(Arc::ptr_eq(&endpoints[0].shared, &endpoints[2].shared), "plan {generation}");
            assert!(!Arc::ptr_eq(&endpoints[0].shared, &endpoints[1].shared), "plan {generation}");
            prev = Some(plan);
        }
    }

    /// A document of one upstream of these fields.
    fn document(fields: &str) -> Arc<config::Document> {
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[[upstreams]]\nname = \"u\"\n{fields}\n\
             [[routes]]\nupstream = \"u\"\n"
        );
        let (document, report) = config::parse_str("t.toml", &text, &config::MapEnv::default());
        Arc::new(document.unwrap_or_else(|| panic!("{}", report.render(false))))
    }

    /// An SRV record without a port leaves it to the upstream.
    #[test]
    fn the_port_of_a_service() {
        let check = |service: &str, port: u16, expected: &str| {
            let fields = format!(
                "discovery_type = \"dns\"\nservice_name = \"{service}\"\ndiscovery_args.record = \"srv\""
            );
            let (document, mut report) = (document(&fields), config::Report::new());
            let address = SocketAddr::new([10, 0, 0, 1].into(), port);
            let node = ServiceNode { address, target: "a.test".to_owned(), weight: 3, priority: 10 };
            let services = [("app.test".to_owned(), vec![node])].into();
            let feeds = Feeds { workers: 1, services, ..Feeds::default() };
            let plan = super::super::compile(&document, &feeds, None, 1, &mut report).expect("compiles");
            let endpoint = &plan.upstream("u").expect("compiled").endpoints[0];
            let spec = &endpoint.spec;
            let got = format!("{} {} {} {}", endpoint.text, endpoint.host, spec.weight, spec.priority);
            assert_eq!(got, expected, "{service}");
        };
        check("app.test", 8001, "10.0.0.1:8001 a.test:8001 3 -10");
        check("app.test", 0, "10.0.0.1:80 a.test 3 -10");
        check("app.test:9000", 0, "10.0.0.1:9000 a.test:9000 3 -10");
    }

    #[test]
    fn another_sticky_key() {
        check(1, true, true);
        check(2, false, true);
    }
}
