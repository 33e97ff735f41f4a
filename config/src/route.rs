//! `[[routes]]`: which requests, and what is done with them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::expr::{self, Expr};
use crate::identity::{self, Identity, Ids};
use crate::names;
use crate::node;
use crate::place::Place;
use crate::plugin::{self, Plugins};
use crate::reader::{wrong_type, Reader};
use crate::report::{Problem, Report};
use crate::server::RouterMode;
use crate::upstream::{self, Upstream};
use crate::value::{Kind, Value};

/// Paths, hosts and so on of one route at most.
pub const PATTERNS_MAX: usize = 1000;

/// Which requests, and what is done with them.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its id: `id`, else `name`, else made from what it matches (see [`names::generated_id`]).
    pub id: String,
    /// Its name for people; empty where none is given.
    pub name: String,
    /// Paths: exact, or a prefix with `*` at the end; never empty.
    pub uris: Vec<String>,
    /// Hosts, lower case: exact or `*.x`, each with or without `:port`; empty is any (or the service's).
    pub hosts: Vec<String>,
    /// Methods, upper case; empty is any.
    pub methods: Vec<String>,
    /// Client networks; empty is any.
    pub remote_addrs: Vec<IpNet>,
    /// Further conditions.
    pub vars: Option<Expr>,
    /// Among routes of one path, the higher comes first.
    pub priority: i64,
    /// 1 in use, 0 taken out.
    pub status: u8,
    /// The service whose fields fill what is lacking; it exists.
    pub service_id: Option<String>,
    /// Where requests go.
    pub upstream: Option<UpstreamRef>,
    /// Plugins that fill what the route lacks; it exists.
    pub plugin_config_id: Option<String>,
    /// What is done on the way.
    pub plugins: Plugins,
    /// Timeouts toward the endpoint; these win over the upstream's.
    pub timeout: Timeouts,
    /// Whether an Upgrade passes.
    pub enable_websocket: Option<bool>,
    /// The operator's own marks.
    pub labels: BTreeMap<String, String>,
    /// Where it stands.
    pub place: Place,
}

/// Which upstream.
#[derive(Clone, Debug, PartialEq)]
pub enum UpstreamRef {
    /// Written here.
    Inline(Arc<Upstream>),
    /// The id of one of [`crate::Document::upstreams`]; it exists.
    Id(String),
}

/// Timeouts toward an endpoint; `None` is not said here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect.
    pub connect: Option<Duration>,
    /// Between two writes.
    pub send: Option<Duration>,
    /// Between two reads.
    pub read: Option<Duration>,
}

/// What routes and services may refer to.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub upstreams: Ids,
    pub services: Ids,
    pub plugin_configs: Ids,
    pub router: RouterMode,
}

impl Timeouts {
    /// Reads `timeout = { connect, send, read }`.
    pub(crate) fn read(reader: &mut Reader<'_, '_>) -> Timeouts {
        let Some(value) = reader.opt_value("timeout") else { return Timeouts::default() };
        let mut inner = Reader::of("Timeout", value, reader.report());
        let timeouts = Timeouts {
            connect: inner.opt_timeout("connect"),
            send: inner.opt_timeout("send"),
            read: inner.opt_timeout("read"),
        };
        inner.finish();
        timeouts
    }
}

/// Reads the table of a route.
pub(crate) fn read(value: &Value, known: &Known, report: &mut Report) -> Option<(Route, Identity)> {
    let mut reader = Reader::of("Route", value, report);
    let identity = identity::read(&mut reader);
    let id = identity.id.clone().unwrap_or_else(|| names::route_id(value));
    let upstream = read_upstream(&mut reader, &format!("route:{id}"), known);
    let service_id = identity::reference(&mut reader, "service_id", "service", &known.services);
    let config = identity::reference(&mut reader, "plugin_config_id", "plugin config", &known.plugin_configs);
    let route = Route {
        name: identity.name.clone(),
        uris: read_uris(&mut reader, known.router),
        hosts: read_hosts(&mut reader),
        methods: read_methods(&mut reader),
        remote_addrs: read_networks(&mut reader),
        vars: read_vars(&mut reader),
        priority: reader.opt_i64("priority").unwrap_or(0),
        status: reader.range("status", 0..=1).unwrap_or(1) as u8,
        service_id,
        upstream,
        plugin_config_id: config,
        plugins: plugin::read(&mut reader),
        timeout: Timeouts::read(&mut reader),
        enable_websocket: reader.opt_bool("enable_websocket"),
        labels: identity.labels.clone(),
        place: value.place,
        id,
    };
    refuse_lua(&mut reader);
    let leads = ["upstream", "upstream_id", "proxy_pass", "service_id", "plugin_config_id", "plugins"];
    if value.as_table().is_some() && !reader.has_unknown() && !leads.iter().any(|field| reader.has(field)) {
        let what = "the route leads nowhere";
        let label = "no upstream, no service, no plugins";
        let help = "write upstream = \"127.0.0.1:8080\"";
        reader.report().push(Problem::error(value, what).label(label).help(help));
    }
    reader.finish().then_some((route, identity))
}

/// `filter_func` and `script` hold Lua, which nothing here runs.
pub(crate) fn refuse_lua(reader: &mut Reader<'_, '_>) {
    for field in ["filter_func", "script", "script_id"] {
        if let Some((key, _)) = reader.has(field).then(|| reader.entry(field)).flatten() {
            reader.report().push(
                Problem::error(key, format!("`{field}` is Lua, which Ringway does not run"))
                    .label("refused")
                    .help("say it with `vars` or with a plugin"),
            );
        }
    }
}

/// Reads `upstream`, `upstream_id` or `proxy_pass`. `owner` is the id of an upstream written here.
pub(crate) fn read_upstream(reader: &mut Reader<'_, '_>, owner: &str, known: &Known) -> Option<UpstreamRef> {
    reader.only_one(&["upstream", "upstream_id", "proxy_pass"]);
    let by_id = identity::reference(reader, "upstream_id", "upstream", &known.upstreams);
    let passed =
        reader.opt_value("proxy_pass").and_then(|value| proxy_pass(value, owner, known, reader.report()));
    let Some(value) = reader.opt_value("upstream") else {
        return by_id.map(UpstreamRef::Id).or(passed);
    };
    let report = reader.report();
    let errors = report.error_count();
    let nodes = match &value.kind {
        Kind::Table(_) => {
            let upstream = upstream::inline(value, owner, report)?;
            return Some(UpstreamRef::Inline(Arc::new(upstream)));
        }
        Kind::String(text) => return named(text, value, owner, known, report),
        Kind::Array(items) => items.iter().filter_map(|item| node::line(item, report)).collect::<Vec<_>>(),
        _ => {
            let help = "the name of an upstream, an address, a list of addresses, or a table";
            wrong_type(report, value, "an upstream", help);
            return None;
        }
    };
    if value.as_array().is_some_and(<[_]>::is_empty) {
        let help = "write upstream = [\"127.0.0.1:8080\"]";
        report.push(Problem::error(value, "the upstream is empty").label("no address in it").help(help));
    }
    upstream::check_shares(&nodes, errors, value.place, report);
    Some(UpstreamRef::Inline(Arc::new(Upstream::of(owner.to_owned(), nodes, value.place))))
}

/// A text: the name of an upstream, else a server line, else an unknown name.
fn named(text: &str, value: &Value, owner: &str, known: &Known, report: &mut Report) -> Option<UpstreamRef> {
    if let Some(id) = known.upstreams.resolve(text) {
        return Some(UpstreamRef::Id(id.to_owned()));
    }
    if !looks_like_address(text) {
        known.upstreams.unknown("upstream", text, value.place, report);
        return None;
    }
    let nodes = vec![node::line(value, report)?];
    upstream::check_shares(&nodes, report.error_count(), value.place, report);
    Some(UpstreamRef::Inline(Arc::new(Upstream::of(owner.to_owned(), nodes, value.place))))
}

/// A name has no colon, bracket or space, and no dot that could make it a host.
fn looks_like_address(text: &str) -> bool {
    text.contains([':', '[', ' ', '/']) || (text.contains('.') && names::host_fault(text).is_none())
}

/// `proxy_pass = "http://backend"`
fn proxy_pass(value: &Value, owner: &str, known: &Known, report: &mut Report) -> Option<UpstreamRef> {
    let Some(text) = value.as_str() else {
        wrong_type(report, value, "a string", "proxy_pass = \"http://backend\"");
        return None;
    };
    let fault = |label: &str, help: &str, report: &mut Report| {
        let what = format!("invalid proxy_pass `{text}`");
        report.push(Problem::error(value, what).label(label).help(help));
        None
    };
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    match scheme {
        "http" => {}
        "https" | "grpc" | "grpcs" | "h2c" => {
            crate::reader::not_built(report, value.place, &format!("proxy_pass with {scheme}"));
            return None;
        }
        _ => return fault("the scheme is http", "proxy_pass = \"http://backend\"", report),
    }
    let rest = match rest.strip_prefix("unix:") {
        Some(_) => rest,
        None => match rest.split_once('/') {
            Some((host, "")) => host,
            Some(_) => {
                let help = "the plugin proxy-rewrite changes the path that the upstream gets";
                return fault("no path stands here", help, report);
            }
            None => rest,
        },
    };
    if let Some(id) = known.upstreams.resolve(rest) {
        return Some(UpstreamRef::Id(id.to_owned()));
    }
    if !looks_like_address(rest) {
        known.upstreams.unknown("upstream", rest, value.place, report);
        return None;
    }
    let address = node::address(rest, value.place, report)?;
    let nodes = vec![node::Node::at(address)];
    Some(UpstreamRef::Inline(Arc::new(Upstream::of(owner.to_owned(), nodes, value.place))))
}

/// One key or its plural: `host` or `hosts`, each one text or a list.
fn patterns<'v>(reader: &mut Reader<'v, '_>, one: &'static str, many: &'static str) -> Vec<(&'v str, Place)> {
    reader.only_one(&[one, many]);
    let mut list =
        reader.opt_str(one).map(|text| (text, reader.value_place(one))).into_iter().collect::<Vec<_>>();
    list.extend(reader.list(many));
    let place = reader.value_place(many);
    if reader.has(many) && list.is_empty() {
        let problem = Problem::error(place, format!("`{many}` is empty")).label("would match nothing");
        reader.report().push(problem.help("leave it out to match any"));
    }
    if list.len() > PATTERNS_MAX {
        reader.report().error(
            place,
            format!("more than {PATTERNS_MAX} of `{many}`"),
            "split the route into several",
        );
    }
    list
}

fn read_uris(reader: &mut Reader<'_, '_>, mode: RouterMode) -> Vec<String> {
    let list = patterns(reader, "uri", "uris");
    let mut uris: Vec<String> = Vec::with_capacity(list.len().max(1));
    for (uri, place) in list {
        if let Some(fault) = names::uri_fault(uri, mode) {
            let help = match uri.strip_prefix('/') {
                None if uri != "*" && !uri.contains("://") => format!("write /{uri}"),
                _ => "write a path alone, such as /api/*".to_owned(),
            };
            let problem = Problem::error(place, format!("invalid uri `{uri}`")).label(fault).help(help);
            reader.report().push(problem);
        } else if names::uri_never_matches(uri) {
            let label = "paths are compared decoded, without `//`, `.` and `..`";
            let problem = Problem::warning(place, format!("no path can match `{uri}`")).label(label);
            reader.report().push(problem);
        }
        if uris.iter().any(|there| there == uri) {
            reader.report().warning(place, format!("the uri `{uri}` is written twice"), "");
        } else {
            uris.push(uri.to_owned());
        }
    }
    if !reader.has("uri") && !reader.has("uris") {
        uris.push("/*".to_owned());
    }
    uris
}

/// Reads `host` or `hosts`, lower case; `.x` is another spelling of `*.x`.
pub(crate) fn read_hosts(reader: &mut Reader<'_, '_>) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    for (host, place) in patterns(reader, "host", "hosts") {
        let mut lower = host.to_ascii_lowercase();
        if lower.starts_with('.') {
            lower.insert(0, '*');
        }
        if let Some(fault) = names::host_pattern_fault(host) {
            let help = "write example.com, *.example.com or example.com:8443";
            let problem = Problem::error(place, format!("invalid host `{host}`")).label(fault).help(help);
            reader.report().push(problem);
        } else if hosts.contains(&lower) {
            reader.report().warning(place, format!("the host `{host}` is written twice"), "");
        } else {
            hosts.push(lower);
        }
    }
    hosts
}

fn read_methods(reader: &mut Reader<'_, '_>) -> Vec<String> {
    let list = reader.list("methods");
    if list.is_empty() && reader.has("methods") {
        let place = reader.value_place("methods");
        reader.report().error(place, "`methods` is empty", "leave it out to match any");
    }
    methods_of(list, reader.report())
}

/// Methods of a list, none twice; one that is none of the usual is a warning.
pub(crate) fn methods_of(list: Vec<(&str, Place)>, report: &mut Report) -> Vec<String> {
    let mut methods: Vec<String> = Vec::with_capacity(list.len());
    for (method, place) in list {
        if names::METHODS.contains(&method) {
            if !methods.iter().any(|there| there == method) {
                methods.push(method.to_owned());
            }
            continue;
        }
        let mut near = report.suggest(method, names::METHODS.iter().map(|name| (*name, Place::NOWHERE)));
        let upper = method.to_ascii_uppercase();
        if near.is_empty() && names::is_token(method) && upper != method {
            near = format!("write {upper}");
        } else if near.is_empty() && !names::is_token(method) {
            near = "write a method such as GET".to_owned();
        }
        let problem = if !names::is_token(method) {
            Problem::error(place, format!("invalid method `{method}`"))
                .label("no token (RFC 9110 section 9.1)")
        } else if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
            Problem::error(place, format!("invalid method `{method}`"))
                .label("methods are compared with case")
        } else {
            methods.push(method.to_owned());
            Problem::warning(place, format!("unusual method `{method}`"))
        };
        report.push(problem.help(near));
    }
    methods
}

fn read_networks(reader: &mut Reader<'_, '_>) -> Vec<IpNet> {
    let list = patterns(reader, "remote_addr", "remote_addrs");
    list.into_iter().filter_map(|(text, place)| network(text, place, reader.report())).collect()
}

/// One network or address, or a problem.
pub(crate) fn network(text: &str, place: Place, report: &mut Report) -> Option<IpNet> {
    let network = expr::network(text);
    if network.is_none() {
        let what = format!("invalid network `{text}`");
        report.push(
            Problem::error(place, what)
                .label("must be an address or a network such as 10.0.0.0/8")
                .help("write 10.0.0.1, 10.0.0.0/8 or 2001:db8::/32"),
        );
    }
    network
}

fn read_vars(reader: &mut Reader<'_, '_>) -> Option<Expr> {
    let value = reader.opt_value("vars")?;
    if value.as_array().is_some_and(<[_]>::is_empty) {
        return None;
    }
    Expr::parse(value, reader.report())
}
