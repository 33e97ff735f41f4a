//! From a document to a plan, in work proportional to what changed since the
//! plan before: an unchanged route is one comparison and one `Arc`.
//!
//! This is the last pass of checking as well: what a plugin finds wrong goes
//! into the document's report with its place, and then there is no plan.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use balancer::route::{place, Predicate, RouteKey, Table};
use config::{Document, Report, UpstreamRef};
use proto::head::HeadLimits;

use super::{Chain, Feeds, Plan, RoutePlan, Settings, Slots, UpstreamPlan};
use crate::upstream::PoolKey;

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
    let tls = crate::tls::certs::compile(doc, &feeds.tickets, prev.map(|prev| &prev.tls), report);
    let mut compiler = Compiler {
        doc,
        feeds,
        prev,
        report,
        upstreams: HashMap::new(),
        names: BTreeSet::new(),
        services: BTreeSet::new(),
    };
    compiler.named_upstreams();
    let globals = compiler.globals();
    let Routes { table, by_id: routes, places, slots } = compiler.routes();
    let Compiler { upstreams, names, services, .. } = compiler;
    let failed =
        report.problems()[before..].iter().any(|problem| problem.severity == config::Severity::Error);
    let (globals, tls) = (globals.filter(|_| !failed)?, tls?);
    Some(Arc::new(Plan {
        generation,
        document: doc.clone(),
        settings: Arc::new(settings(doc)),
        table,
        routes,
        places,
        pools: pools(&upstreams),
        upstreams,
        globals,
        slots,
        names: names.into_iter().collect(),
        services: services.into_iter().collect(),
        sticky_key: feeds.sticky_key,
        tls,
    }))
}

/// Checks the settings of every plugin that is not switched off, for a document that cannot be compiled.
///
/// What [`compile`] would say of plugins then stands beside what keeps it from being called. Nothing
/// built here is kept.
pub fn check_plugins(doc: &Document, report: &mut Report) {
    plugins::check_document(doc, report);
    let shared = plugins::SharedState::new();
    let routes = doc.routes.iter().filter(|route| route.status != 0);
    let routes = routes.map(|it| ("route", &it.id, &it.plugins));
    let services = doc.services.iter().map(|it| ("service", &it.id, &it.plugins));
    let configs = doc.plugin_configs.iter().map(|it| ("plugin_config", &it.id, &it.plugins));
    let rules = doc.global_rules.iter().map(|it| ("global_rule", &it.id, &it.plugins));
    for (kind, id, entries) in routes.chain(services).chain(configs).chain(rules) {
        for entry in entries.iter().filter(|entry| !entry.meta.disable && !has_hole(&entry.value)) {
            plugins::build(entry, &format!("{kind}:{id}"), &shared, report);
        }
    }
}

/// Whether a part of it could not be read or resolved, which was said: TOML has no null.
fn has_hole(value: &config::Value) -> bool {
    match &value.kind {
        config::Kind::Null => true,
        config::Kind::Array(items) => items.iter().any(has_hole),
        config::Kind::Table(entries) => entries.iter().any(|(_, value)| has_hole(value)),
        _ => false,
    }
}

fn pools(upstreams: &HashMap<String, Arc<UpstreamPlan>>) -> HashSet<PoolKey> {
    let endpoints = upstreams.values().flat_map(|upstream| &upstream.endpoints);
    endpoints.map(super::Endpoint::pool_key).collect()
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

/// The routing part of a plan.
struct Routes {
    table: Table<RoutePlan>,
    by_id: HashMap<String, Arc<RoutePlan>>,
    places: HashMap<String, u64>,
    slots: Slots,
}

impl Routes {
    fn empty(mode: config::RouterMode) -> Self {
        Self {
            table: Table::new(mode),
            by_id: HashMap::new(),
            places: HashMap::new(),
            slots: Slots::default(),
        }
    }
}

/// What a route takes from other resources.
struct Parts {
    service: Option<Arc<config::Service>>,
    plugin_config: Option<Arc<config::PluginConfig>>,
    upstream: Option<Arc<UpstreamPlan>>,
}

pub(super) struct Compiler<'a> {
    pub(super) doc: &'a Document,
    pub(super) feeds: &'a Feeds,
    pub(super) prev: Option<&'a Arc<Plan>>,
    pub(super) report: &'a mut Report,
    pub(super) upstreams: HashMap<String, Arc<UpstreamPlan>>,
    pub(super) names: BTreeSet<String>,
    pub(super) services: BTreeSet<String>,
}

impl Compiler<'_> {
    fn globals(&mut self) -> Option<Arc<Chain>> {
        let old = self.prev.filter(|prev| prev.document.global_rules == self.doc.global_rules);
        if let Some(prev) = old.filter(|prev| self.chain_stays(&prev.globals)) {
            return Some(prev.globals.clone());
        }
        let doc = self.doc;
        let rules = &doc.global_rules;
        let entries = rules.iter().flat_map(|rule| {
            rule.plugins.iter().map(move |entry| (entry, format!("global_rule:{}", rule.id)))
        });
        Chain::build(entries, self)
    }

    fn routes(&mut self) -> Routes {
        let mode = self.doc.server.router;
        let prev = self.prev.filter(|prev| prev.document.server.router == mode);
        let mut next = match prev {
            Some(prev) => Routes {
                table: prev.table.clone(),
                slots: prev.slots.clone(),
                by_id: HashMap::with_capacity(self.doc.routes.len()),
                places: HashMap::with_capacity(self.doc.routes.len()),
            },
            None => Routes::empty(mode),
        };
        // `status = 0` takes a route out.
        let sources: Vec<&Arc<config::Route>> =
            self.doc.routes.iter().filter(|route| route.status != 0).collect();
        // Routes of equal rank are tried in the document's order, after a reload too.
        let before: Vec<Option<u64>> =
            sources.iter().map(|source| prev.and_then(|prev| prev.places.get(&source.id).copied())).collect();
        let places = place::assign(&before);
        let mut fresh = Vec::new();
        let mut moved = Vec::new();
        for ((source, parts), (place, before)) in
            sources.iter().zip(self.parts(&sources)).zip(places.iter().zip(&before))
        {
            let old = prev.and_then(|prev| prev.routes.get(&source.id));
            next.places.insert(source.id.clone(), *place);
            match old {
                Some(old) if old.same(source, &parts) && self.chain_stays(&old.chain) => {
                    next.by_id.insert(source.id.clone(), old.clone());
                    if *before != Some(*place) {
                        moved.push((old.clone(), *place));
                    }
                }
                _ => fresh.push((*source, parts, *place)),
            }
        }
        // Out first, so that a changed route never meets its own former self.
        for old in prev.iter().flat_map(|prev| prev.routes.values()) {
            if !next.by_id.get(old.id()).is_some_and(|kept| Arc::ptr_eq(kept, old)) {
                next.table.remove(&old.key, old);
                next.slots.free.push(old.slot);
            }
        }
        for (route, place) in moved {
            next.table.remove(&route.key, &route);
            self.insert(&mut next, route, place);
        }
        for (source, parts, place) in fresh {
            let slot = next.slots.take();
            if let Some(route) = self.route(source, parts, slot) {
                self.insert(&mut next, Arc::new(route), place);
            }
        }
        next
    }

    /// What each route takes from other resources, in the same order.
    fn parts(&mut self, sources: &[&Arc<config::Route>]) -> Vec<Parts> {
        let services: HashMap<&str, &Arc<config::Service>> =
            self.doc.services.iter().map(|service| (service.id.as_str(), service)).collect();
        let configs: HashMap<&str, &Arc<config::PluginConfig>> =
            self.doc.plugin_configs.iter().map(|config| (config.id.as_str(), config)).collect();
        let parts = sources.iter().map(|source| {
            let service = source.service_id.as_deref().and_then(|id| services.get(id).copied().cloned());
            let config = source.plugin_config_id.as_deref().and_then(|id| configs.get(id).copied().cloned());
            let upstream = self.route_upstream(source, service.as_deref());
            Parts { service, plugin_config: config, upstream }
        });
        parts.collect()
    }

    fn insert(&mut self, next: &mut Routes, route: Arc<RoutePlan>, place: u64) {
        let source = &route.source;
        match next.table.insert_at(&route.key, place, route.clone()) {
            Ok(()) => drop(next.by_id.insert(source.id.clone(), route)),
            Err(error) => {
                let what = format!("route `{}`: {error}", source.id);
                self.report.error(source.place, what, "write another pattern");
            }
        }
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

    fn route(&mut self, source: &Arc<config::Route>, parts: Parts, slot: usize) -> Option<RoutePlan> {
        let Parts { service, plugin_config, upstream } = parts;
        let own = source.plugins.iter().map(|entry| (entry, format!("route:{}", source.id)));
        let configured = plugin_config.iter().flat_map(|config| {
            config.plugins.iter().map(|entry| (entry, format!("plugin_config:{}", config.id)))
        });
        let served = service.iter().flat_map(|service| {
            service.plugins.iter().map(|entry| (entry, format!("service:{}", service.id)))
        });
        let chain = Chain::build(own.chain(configured).chain(served), self)?;
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
            websocket,
        })
    }
}

impl RoutePlan {
    fn same(&self, source: &config::Route, parts: &Parts) -> bool {
        let same_upstream = match (&self.upstream, &parts.upstream) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        same_upstream
            && *self.source == *source
            && self.service == parts.service
            && self.plugin_config == parts.plugin_config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(routes: &str, prev: Option<&Arc<Plan>>) -> Arc<Plan> {
        let mut text = "[server]\nlisten = \"127.0.0.1:0\"\n".to_owned();
        for route in routes.split_whitespace() {
            // `name=method` on one uri: equals, told apart by a condition alone.
            let (name, method) = route.split_once('=').expect("name=method");
            text += &format!(
                "[[routes]]\nname = \"{name}\"\nuri = \"/a\"\nmethods = [\"{method}\"]\nupstream = \"127.0.0.1:1\"\n"
            );
        }
        let (document, mut report) = config::parse_str("t.toml", &text, &config::MapEnv::default());
        let document = Arc::new(document.unwrap_or_else(|| panic!("{}", report.render(false))));
        let feeds = Feeds { workers: 1, ..Feeds::default() };
        let generation = prev.map_or(1, |prev| prev.generation() + 1);
        compile(&document, &feeds, prev, generation, &mut report).expect("a good document")
    }

    /// The candidates of `/a` in the order in which they are asked.
    fn order(plan: &Plan) -> String {
        let mut names = Vec::new();
        let mut params = balancer::route::Params::default();
        plan.table().find(b"h", 80, b"/a", &mut params, &mut |route, _| {
            names.push(route.id().to_owned());
            false
        });
        names.join(" ")
    }

    fn check(documents: &[&str], expected: &str) {
        let mut last: Option<Arc<Plan>> = None;
        for document in documents {
            last = Some(plan(document, last.as_ref()));
        }
        let last = last.expect("a document");
        assert_eq!(order(&last), expected, "{documents:?}");
        assert_eq!(last.route_count(), expected.split_whitespace().count());
    }

    #[test]
    fn a_reload_gives_what_a_restart_would() {
        check(&["a=GET b=GET c=GET"], "a b c");
        check(&["a=GET b=GET", "a=PUT b=GET"], "a b"); // changed, not moved behind
        check(&["b=GET", "a=GET b=GET c=GET"], "a b c");
        check(&["a=GET b=GET c=GET", "c=GET a=GET"], "c a"); // moved and gone
        check(&["a=GET b=GET", "b=GET", "c=GET b=GET a=GET"], "c b a");
    }

    #[test]
    fn what_stays_is_shared() {
        let first = plan("a=GET b=GET", None);
        let second = plan("a=PUT b=GET", Some(&first));
        assert!(Arc::ptr_eq(&first.routes["b"], &second.routes["b"]));
        assert!(!Arc::ptr_eq(&first.routes["a"], &second.routes["a"]));
        assert!(!Arc::ptr_eq(&first.upstreams["route:a"], &second.upstreams["route:b"]));
    }
}
