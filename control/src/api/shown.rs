//! Resources as the control API shows them: APISIX's form, and no field that could hold a secret.
//!
//! Left out are plugin settings (keys and passwords stand there), conditions (`vars` may compare with a token),
//! and what probes send. Whoever may see those reads the configuration itself.

use std::time::Duration;

use config::{
    Node, NodeAddress, PassHost, PluginEntry, Route, Service, Timeouts, Upstream, UpstreamKind, UpstreamRef,
};
use serde_json::{json, Map, Value};

/// A route.
pub(super) fn route(route: &Route) -> Value {
    let mut value = Map::new();
    value.insert("id".to_owned(), route.id.as_str().into());
    put_text(&mut value, "name", &route.name);
    value.insert("uris".to_owned(), json!(route.uris));
    put_list(&mut value, "hosts", &route.hosts);
    put_list(&mut value, "methods", &route.methods);
    let networks: Vec<String> = route.remote_addrs.iter().map(ToString::to_string).collect();
    put_list(&mut value, "remote_addrs", &networks);
    value.insert("priority".to_owned(), route.priority.into());
    value.insert("status".to_owned(), route.status.into());
    put_text(&mut value, "service_id", route.service_id.as_deref().unwrap_or_default());
    put_text(&mut value, "plugin_config_id", route.plugin_config_id.as_deref().unwrap_or_default());
    put_upstream(&mut value, route.upstream.as_ref());
    put_plugins(&mut value, &route.plugins);
    put_timeouts(&mut value, &route.timeout);
    if let Some(flag) = route.enable_websocket {
        value.insert("enable_websocket".to_owned(), flag.into());
    }
    if !route.labels.is_empty() {
        value.insert("labels".to_owned(), json!(route.labels));
    }
    keyed("routes", &route.id, value)
}

/// A service.
pub(super) fn service(service: &Service) -> Value {
    let mut value = Map::new();
    value.insert("id".to_owned(), service.id.as_str().into());
    put_text(&mut value, "name", &service.name);
    put_list(&mut value, "hosts", &service.hosts);
    put_upstream(&mut value, service.upstream.as_ref());
    put_plugins(&mut value, &service.plugins);
    if let Some(flag) = service.enable_websocket {
        value.insert("enable_websocket".to_owned(), flag.into());
    }
    keyed("services", &service.id, value)
}

/// An upstream.
pub(super) fn upstream(upstream: &Upstream) -> Value {
    let mut value = Map::new();
    value.insert("id".to_owned(), upstream.id.as_str().into());
    put_text(&mut value, "name", &upstream.name);
    value.extend(upstream_fields(upstream));
    keyed("upstreams", &upstream.id, value)
}

fn keyed(kind: &str, id: &str, value: Map<String, Value>) -> Value {
    json!({ "key": format!("/apisix/{kind}/{id}"), "value": value })
}

fn upstream_fields(upstream: &Upstream) -> Map<String, Value> {
    let mut value = Map::new();
    value.insert("type".to_owned(), kind_word(upstream.kind).into());
    match &upstream.discovery {
        Some(discovery) => {
            value.insert("discovery_type".to_owned(), "dns".into());
            value.insert("service_name".to_owned(), discovery.service_name.as_str().into());
        }
        None => {
            value.insert("nodes".to_owned(), upstream.nodes.iter().map(node).collect());
        }
    }
    value.insert("scheme".to_owned(), "http".into());
    let pass_host = match upstream.pass_host {
        PassHost::Pass => "pass",
        PassHost::Node => "node",
        PassHost::Rewrite => "rewrite",
    };
    value.insert("pass_host".to_owned(), pass_host.into());
    put_text(&mut value, "upstream_host", upstream.upstream_host.as_deref().unwrap_or_default());
    if let Some(retries) = upstream.retries {
        value.insert("retries".to_owned(), retries.into());
    }
    if !upstream.retry_timeout.is_zero() {
        value.insert("retry_timeout".to_owned(), seconds(upstream.retry_timeout));
    }
    put_timeouts(&mut value, &upstream.timeout);
    let pool = &upstream.keepalive;
    let pool = json!({
        "size": pool.size, "idle_timeout": seconds(pool.idle_timeout), "requests": pool.requests,
    });
    value.insert("keepalive_pool".to_owned(), pool);
    value
}

fn node(node: &Node) -> Value {
    let (host, port) = match &node.address {
        NodeAddress::Ip(address) => (address.ip().to_string(), address.port()),
        NodeAddress::Name { host, port } => (host.clone(), *port),
        NodeAddress::Unix(path) => (format!("unix:{}", path.display()), 0),
    };
    let mut value = json!({ "host": host, "port": port, "weight": node.weight, "priority": node.priority });
    for (name, flag) in [("backup", node.backup), ("down", node.down), ("drain", node.drain)] {
        if flag {
            value[name] = true.into();
        }
    }
    value
}

fn kind_word(kind: UpstreamKind) -> &'static str {
    match kind {
        UpstreamKind::RoundRobin => "roundrobin",
        UpstreamKind::Chash => "chash",
        UpstreamKind::LeastConn => "least_conn",
        UpstreamKind::Ewma => "ewma",
        UpstreamKind::P2c => "p2c",
        UpstreamKind::Maglev => "maglev",
        UpstreamKind::Random => "random",
        UpstreamKind::IpHash => "ip_hash",
    }
}

fn put_text(value: &mut Map<String, Value>, name: &str, text: &str) {
    if !text.is_empty() {
        value.insert(name.to_owned(), text.into());
    }
}

fn put_list(value: &mut Map<String, Value>, name: &str, list: &[String]) {
    if !list.is_empty() {
        value.insert(name.to_owned(), json!(list));
    }
}

fn put_upstream(value: &mut Map<String, Value>, upstream: Option<&UpstreamRef>) {
    match upstream {
        None => {}
        Some(UpstreamRef::Id(id)) => drop(value.insert("upstream_id".to_owned(), id.as_str().into())),
        Some(UpstreamRef::Inline(source)) => {
            value.insert("upstream".to_owned(), Value::Object(upstream_fields(source)));
        }
    }
}

/// The names alone: settings may hold secrets.
fn put_plugins(value: &mut Map<String, Value>, plugins: &[PluginEntry]) {
    if !plugins.is_empty() {
        let names = plugins.iter().map(|plugin| (plugin.name.clone(), json!({})));
        value.insert("plugins".to_owned(), Value::Object(names.collect()));
    }
}

fn put_timeouts(value: &mut Map<String, Value>, timeouts: &Timeouts) {
    let written = [("connect", timeouts.connect), ("send", timeouts.send), ("read", timeouts.read)];
    let written = written.into_iter().filter_map(|(name, time)| Some((name.to_owned(), seconds(time?))));
    let written: Map<String, Value> = written.collect();
    if !written.is_empty() {
        value.insert("timeout".to_owned(), Value::Object(written));
    }
}

/// APISIX's unit: a whole number where it is one.
fn seconds(time: Duration) -> Value {
    match time.subsec_nanos() {
        0 => time.as_secs().into(),
        _ => time.as_secs_f64().into(),
    }
}
