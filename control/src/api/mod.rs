//! The control API: APISIX's `/v1/...`, for whoever wants to see what the running gateway does.
//!
//! Read only, on loopback unless written otherwise, and without a key, as in APISIX. So it tells no secret:
//! resources are shown by the fields that cannot hold one, plugins by their names ([`shown`]).

mod shown;

use std::fmt::Write as _;
use std::sync::Arc;

use balancer::endpoint::Status;
use config::balance::ProbeKind;
use config::UpstreamRef;
use engine::plan::{Endpoint, Plan, UpstreamPlan};
use engine::upstream::Address;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::ACCEPT;
use hyper::{Request, Response, StatusCode};
use serde_json::{json, Value};
use tokio::net::TcpListener;

use crate::health;
use crate::http::{self, reply, JSON};
use crate::status::Shared;

/// An answer: its status and its document.
type Answer = (StatusCode, Value);

/// Serves for the process's life.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    http::serve(listener, move |request| answer(request, shared.clone())).await;
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Response<Full<Bytes>> {
    if let Some(refusal) = http::refuse_method(&request) {
        return refusal;
    }
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let html = accept.contains("text/html");
    let path = request.uri().path().to_owned();
    let Some(plan) = shared.plan() else {
        let body = "{\"error_msg\":\"starting: there is no plan yet\"}\n";
        return reply(StatusCode::SERVICE_UNAVAILABLE, JSON, body.to_owned());
    };
    // 40,000 routes are megabytes of text: not on control's loop.
    let rendered = tokio::task::spawn_blocking(move || render(&path, html, &plan)).await;
    rendered.unwrap_or_else(|_| {
        let body = "{\"error_msg\":\"this answer cannot be made\"}\n";
        reply(StatusCode::INTERNAL_SERVER_ERROR, JSON, body.to_owned())
    })
}

fn render(path: &str, html: bool, plan: &Plan) -> Response<Full<Bytes>> {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let Some((status, document)) = look_up(&segments, plan) else {
        return http::not_found();
    };
    if html && status == StatusCode::OK && segments.get(1) == Some(&"healthcheck") {
        return reply(status, "text/html; charset=utf-8", page(&document));
    }
    reply(status, JSON, format!("{document}\n"))
}

/// What stands at a path; `None` for one that there is not.
fn look_up(segments: &[&str], plan: &Plan) -> Option<Answer> {
    let document = plan.document();
    match segments {
        ["v1", "schema"] => Some((StatusCode::OK, config::schema())),
        ["v1", "healthcheck"] => Some((StatusCode::OK, all_health(plan))),
        ["v1", "healthcheck", kind] => {
            let what = format!("missing src id for src type {kind}");
            Some((StatusCode::NOT_FOUND, json!({ "error_msg": what })))
        }
        ["v1", "healthcheck", kind, id] => Some(one_health(kind, id, plan)),
        ["v1", "routes"] => Some(list(document.routes.iter().map(|route| shown::route(route)))),
        ["v1", "services"] => Some(list(document.services.iter().map(|service| shown::service(service)))),
        ["v1", "upstreams"] => {
            Some(list(document.upstreams.iter().map(|upstream| shown::upstream(upstream))))
        }
        ["v1", "route", id] => {
            let found = document.routes.iter().find(|route| route.id == *id);
            Some(one("route", id, found.map(|route| shown::route(route))))
        }
        ["v1", "service", id] => {
            Some(one("service", id, document.service(id).map(|service| shown::service(service))))
        }
        ["v1", "upstream", id] => {
            Some(one("upstream", id, document.upstream(id).map(|upstream| shown::upstream(upstream))))
        }
        _ => None,
    }
}

fn list(resources: impl Iterator<Item = Value>) -> Answer {
    (StatusCode::OK, Value::Array(resources.collect()))
}

fn one(kind: &str, id: &str, found: Option<Value>) -> Answer {
    match found {
        Some(value) => (StatusCode::OK, value),
        None => (StatusCode::NOT_FOUND, json!({ "error_msg": format!("{kind}[{id}] not found") })),
    }
}

/// All upstreams whose endpoints are judged, by name.
fn all_health(plan: &Plan) -> Value {
    let judged = plan.upstreams().filter(|upstream| health::is_judged(upstream));
    let mut named: Vec<(String, &Arc<UpstreamPlan>)> =
        judged.map(|upstream| (name_of(upstream, plan), upstream)).collect();
    named.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    named.into_iter().map(|(name, upstream)| health_of(&name, upstream)).collect()
}

/// APISIX's three kinds: an upstream of its own, or one that is written inside a route or a service.
fn one_health(kind: &str, id: &str, plan: &Plan) -> Answer {
    let document = plan.document();
    let inside = |upstream: &Option<UpstreamRef>| match upstream {
        Some(UpstreamRef::Inline(source)) => Some(source.id.clone()),
        _ => None,
    };
    // `None`: there is no such resource; `Some(None)`: it has no upstream of its own.
    let upstream = match kind {
        "upstreams" => document.upstream(id).map(|upstream| Some(upstream.id.clone())),
        "services" => document.service(id).map(|service| inside(&service.upstream)),
        "routes" => document.routes.iter().find(|route| route.id == id).map(|route| inside(&route.upstream)),
        _ => {
            let what = format!("invalid src type {kind}");
            return (StatusCode::BAD_REQUEST, json!({ "error_msg": what }));
        }
    };
    let Some(upstream) = upstream else {
        return (StatusCode::NOT_FOUND, json!({ "error_msg": format!("{kind}[{id}] not found") }));
    };
    let judged = upstream.and_then(|upstream| plan.upstream(&upstream));
    match judged.filter(|upstream| health::is_judged(upstream)) {
        Some(upstream) => (StatusCode::OK, health_of(&format!("/apisix/{kind}/{id}"), upstream)),
        None => (StatusCode::NOT_FOUND, json!({ "error_msg": format!("no checker for {kind}[{id}]") })),
    }
}

/// `/apisix/upstreams/1`, or `routes`, `services` for one that is written inside.
fn name_of(upstream: &UpstreamPlan, plan: &Plan) -> String {
    let id = &upstream.id;
    if plan.document().upstream(id).is_none() {
        for (prefix, kind) in [("route:", "routes"), ("service:", "services")] {
            if let Some(owner) = id.strip_prefix(prefix) {
                return format!("/apisix/{kind}/{owner}");
            }
        }
    }
    format!("/apisix/upstreams/{id}")
}

fn health_of(name: &str, upstream: &UpstreamPlan) -> Value {
    let active = upstream.source.checks.as_ref().and_then(|checks| checks.active.as_ref());
    let kind = match active.map(|active| active.kind) {
        Some(ProbeKind::Https) => "https",
        Some(ProbeKind::Tcp) => "tcp",
        Some(ProbeKind::Grpc) => "grpc",
        Some(ProbeKind::Http) | None => "http",
    };
    let nodes = upstream.endpoints.iter().map(|endpoint| node(endpoint, &health::status(upstream, endpoint)));
    json!({ "name": name, "type": kind, "nodes": nodes.collect::<Vec<_>>() })
}

fn node(endpoint: &Endpoint, status: &Status) -> Value {
    let (ip, port) = match &endpoint.address {
        Address::Tcp(address) => (address.ip().to_string(), address.port()),
        Address::Unix(_) => (endpoint.text.clone(), 0),
    };
    let mut node = json!({
        "ip": ip,
        "port": port,
        "status": status.word.as_str(),
        "counter": {
            "success": status.success,
            "http_failure": status.http_failure,
            "tcp_failure": status.tcp_failure,
            "timeout_failure": status.timeout_failure,
        },
    });
    let (host, _) = config::names::split_port(&endpoint.host);
    let written_as_address = host.trim_start_matches('[').trim_end_matches(']') == ip;
    if !written_as_address && matches!(endpoint.address, Address::Tcp(_)) {
        node["hostname"] = host.into();
    }
    node
}

/// The same for people: a table, one row per node.
fn page(document: &Value) -> String {
    const HEADINGS: [&str; 9] = [
        "Index",
        "Upstream",
        "Check type",
        "Host",
        "Status",
        "Success counts",
        "TCP Failures",
        "HTTP Failures",
        "TIMEOUT Failures",
    ];
    let mut text = "<!DOCTYPE html>\n<html>\n<head><title>Upstream check status</title></head>\n<body>\n\
        <h1>Upstream check status</h1>\n<table border=\"1\" cellpadding=\"3\" cellspacing=\"0\">\n<tr>"
        .to_owned();
    for heading in HEADINGS {
        let _ = write!(text, "<th>{heading}</th>");
    }
    text.push_str("</tr>\n");
    let upstreams = document.as_array().map_or(std::slice::from_ref(document), Vec::as_slice);
    let rows = upstreams.iter().flat_map(|upstream| {
        upstream["nodes"].as_array().into_iter().flatten().map(move |node| (upstream, node))
    });
    for (index, (upstream, node)) in rows.enumerate() {
        let word = |value: &Value| value.as_str().map(escaped).unwrap_or_else(|| value.to_string());
        let colour = if node["status"] == "healthy" { "" } else { " bgcolor=\"#ffcccc\"" };
        let _ = write!(text, "<tr{colour}><td>{}</td>", index + 1);
        let host = format!("{}:{}", word(&node["ip"]), node["port"]);
        let counter = &node["counter"];
        let cells = [
            word(&upstream["name"]),
            word(&upstream["type"]),
            host,
            word(&node["status"]),
            word(&counter["success"]),
            word(&counter["tcp_failure"]),
            word(&counter["http_failure"]),
            word(&counter["timeout_failure"]),
        ];
        for cell in cells {
            let _ = write!(text, "<td>{cell}</td>");
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</table>\n</body>\n</html>\n");
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
pub(crate) mod tests;
